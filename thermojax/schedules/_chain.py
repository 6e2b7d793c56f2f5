r"""The chain of a schedule: N noising kernels, the N kernels of generation, and the work of a path between them.

$x_0$ is data, $x_k = a_k x_0 + s_k \epsilon$; with $c_k = a_k/a_{k-1}$, $\beta_k = 1 - c_k^2$ and $u = e^\lambda$,

$$q(x_k | x_{k-1}) = N(c_k x_{k-1}, \beta_k), \qquad p(x_{k-1} | x_k) = N(A_k x_k + B_k \hat x_0(x_k), \tau_k),$$

$A_k = c_k s_{k-1}^2/s_k^2$, $B_k = a_{k-1} \beta_k/s_k^2$: the mean of DDPM, which is that of the exponential integrator.
A model in another scale, x = r(λ) times this one, has the same work: rescale what its denoiser is given.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._levels import Chain, Mean, between, falling, noise, plan, signal
from .._normal import Normal
from .._types import Array, Key, Scalar, State

Denoiser = Callable[[State, Scalar], State]  # (x, lam) -> the clean state


def chain(lam: Array, mean: Mean = "ddpm") -> Chain:
    r"""The kernels' coefficients, each `(N,)`; the first step starts from clean data, so its $\tilde\beta$ is 0.

    Levels that do not fall strictly raise `ValueError`; while tracing, where nothing can be raised, all are NaN.
    """
    lam = falling("lam", lam)
    clean = jnp.full_like(lam[:1], jnp.inf)
    return between(jnp.concatenate([clean, lam[:-1]]), lam, mean)


class PathWork(NamedTuple):
    r"""The work w of one path, in nats, and its parts, one per step, $\ln q(x_k|x_{k-1})/p(x_{k-1}|x_k)$."""

    w: Scalar
    steps: Array


def path_work(
    lam: Array,
    denoise: Denoiser,
    x0: State,
    key: Key,
    *,
    tau: Array,
    mean: Mean = "ddpm",
    log_p0: Callable[[State], Scalar] | None = None,
) -> PathWork:
    r"""The reduced dissipated work of one noising path of the N-step chain against its generation, in nats:

    $$w = \ln p_0(x_0) + \sum_k \ln \frac{q(x_k | x_{k-1})}{p(x_{k-1} | x_k)} - \ln N(x_N; 0, 1),$$

    the log-ratio of the two chains' probabilities, so $\langle e^{-w} \rangle = 1$ at any N, for any denoiser, and $\langle
    w \rangle = -\mathrm{ELBO} - S_0 \ge 0$. With `log_p0=None` the first term is left out: $\langle w \rangle = -$ELBO.

    `lam` `(N,)`, falling; `denoise(x, lam)` the clean state; `x0` one data point `(d,)`; `tau` `(N,)` the variances of the
    generation (`variances`), which must not be fitted to this very path; `mean="euler"` takes the Euler–Maruyama step of
    the reverse equation for its mean. Vmap it over data and keys. Levels that do not fall strictly raise `ValueError`; while
    tracing, the work is NaN.

    Source: Sohl-Dickstein et al., ICML 2015, sec. 2.4; Crooks, PRE 60, 2721 (1999).
    """
    lam, tau, x0, key = _given(lam, tau, "x0", x0, key, denoise)
    if log_p0 is not None:
        _checks.scalar("log_p0", log_p0, x0, cure="Pass the log_prob of a density.")
    kernels = chain(lam, mean)
    normals = jax.random.normal(key, (lam.shape[0], *x0.shape), x0.dtype)

    def step(x: State, k: Any) -> tuple[State, Scalar]:
        kernel, level, variance, z = k
        later = kernel.shrink * x + jnp.sqrt(kernel.noise) * z
        back = _back(kernel, denoise, later, level)
        ratio = Normal(kernel.shrink * x, kernel.noise).log_prob(later) - Normal(
            back, variance
        ).log_prob(x)
        return later, ratio

    end, steps = jax.lax.scan(step, x0, (kernels, lam, tau, normals))
    w = jnp.sum(steps) - Normal(jnp.zeros_like(end), jnp.ones_like(end)).log_prob(end)
    return PathWork(w if log_p0 is None else w + log_p0(x0), steps)


def sample(
    lam: Array, denoise: Denoiser, start: State, key: Key, *, tau: Array, mean: Mean = "ddpm"
) -> State:
    r"""Generate one state by the N kernels, from `start` `(d,)`, a draw of the noise $N(0, 1)$. Vmap it over both.

    The last kernel, the decoder, adds its variance $\tau_1$ like the others: the samples are those that `path_work` prices.
    Levels that do not fall strictly raise `ValueError`; while tracing, the state is NaN.
    """
    lam, tau, start, key = _given(lam, tau, "start", start, key, denoise)
    normals = jax.random.normal(key, (lam.shape[0], *start.shape), start.dtype)

    def step(x: State, k: Any) -> tuple[State, None]:
        kernel, level, variance, z = k
        return _back(kernel, denoise, x, level) + jnp.sqrt(variance) * z, None

    return jax.lax.scan(step, start, (chain(lam, mean), lam, tau, normals), reverse=True)[0]


def _given(
    lam: Any, tau: Any, name: str, x: Any, key: Any, denoise: Any
) -> tuple[Array, Array, State, Key]:
    lam, tau = plan(lam, tau)
    a_predictor("denoise", denoise)
    x = _checks.floating(name, x)
    _checks.rank(name, x, {1}, "(d,), one state; vmap over many")
    _checks.one_float(**{"lam": lam, "tau": tau, name: x})
    return lam, tau, x, _checks.key("key", key)


def _back(kernel: Chain, denoise: Denoiser, x: State, lam: Scalar) -> State:
    return kernel.keep * x + kernel.add * ask("denoise", denoise, x, lam)


def a_predictor(name: str, fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"{name} must be a callable (x, lam), got {type(fn).__name__}.")
    _checks.takes(name, fn, "x", "lam", cure="Wrap it: lambda x, lam: net(x).")


def ask(name: str, fn: Any, x: State, lam: Scalar) -> State:
    """`fn(x, lam)`, which has the shape and the precision of the state."""
    out = fn(x, lam)
    shape = getattr(out, "shape", type(out).__name__)
    if shape != x.shape:
        raise ValueError(f"{name}(x, lam) must return a state of shape {x.shape}, got {shape}.")
    _checks.one_float(**{"x": x, f"what {name}(x, lam) returns": out})
    return out


def from_score(score: Callable[[State, Scalar], State]) -> Denoiser:
    r"""The denoiser of a score: $\hat x_0 = (x + s^2 \nabla \ln p)/a$."""
    a_predictor("score", score)
    return eqx.Partial(_from_score, score)


def _from_score(score: Any, x: State, lam: Scalar) -> State:
    return (x + jax.nn.sigmoid(-lam) * ask("score", score, x, lam)) / signal(lam)


def from_noise(predict: Callable[[State, Scalar], State]) -> Denoiser:
    r"""The denoiser of a noise predictor: $\hat x_0 = (x - s\,\hat\epsilon)/a$."""
    a_predictor("predict", predict)
    return eqx.Partial(_from_noise, predict)


def _from_noise(predict: Any, x: State, lam: Scalar) -> State:
    return (x - noise(lam) * ask("predict", predict, x, lam)) / signal(lam)
