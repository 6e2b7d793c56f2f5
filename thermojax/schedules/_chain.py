r"""The work of a path of the chain of a schedule, and samples of its generation: N kernels each way, in one scan.

$x_0$ is data, $x_k = a_k x_0 + s_k \epsilon$; the kernels are those of `diffusion.chain`,

$$q(x_k | x_{k-1}) = N(c_k x_{k-1}, \beta_k), \qquad p(x_{k-1} | x_k) = N(A_k x_k + B_k \hat x_0(x_k), \tau_k).$$

The same numbers as `sample_path` and `path_ratio` with `diffusion.transition` and `diffusion.reverse_kernel`, without
Processes around them: the fast path, for training loops. It walks in the scale of VP; the work is the same in any.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._normal import Normal
from .._types import Array, Key, Scalar, State
from ..diffusion import Chain, Mean, Network, Predictor, chain, predictor


class PathWork(NamedTuple):
    r"""The work w of one path, in nats, and $\ln q(x_k|x_{k-1})/p(x_{k-1}|x_k)$ of each step k, `(N,)`, at index k − 1."""

    w: Scalar
    steps: Array


def path_work(
    lam: Array,
    denoise: Network | Predictor,
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

    `lam` `(N,)`, falling; `denoise` a `diffusion.Predictor`, or the clean state as a plain callable `(x, lam)` in the scale
    of VP; `x0` one data point `(d,)`; `tau` `(N,)` the variances of the generation (`variances`), which must not be fitted
    to this very path; `mean="euler"` takes the Euler–Maruyama step of the reverse equation for its mean. Vmap it over data
    and keys. Levels that do not fall strictly raise `ValueError`; while tracing, the work is NaN.

    Source: Sohl-Dickstein et al., ICML 2015, sec. 2.4; Crooks, PRE 60, 2721 (1999).
    """
    net = denoiser(denoise)
    lam, tau, x0, key = given(lam, tau, "x0", x0, key)
    return work_of(lam, net, x0, key, tau, mean, log_p0)


@jit
def work_of(
    lam: Array,
    net: Predictor,
    x0: State,
    key: Key,
    tau: Array,
    mean: Mean,
    log_p0: Callable[[State], Scalar] | None,
) -> PathWork:
    normals = jax.random.normal(key, (lam.shape[0], *x0.shape), x0.dtype)

    def step(x: State, k: tuple[Chain, Scalar, Scalar, Array]) -> tuple[State, Scalar]:
        kernel, level, variance, z = k
        there = kernel.noised(x)
        later = there + jnp.sqrt(kernel.noise) * z
        back = kernel.generated(later, net.clean(later, level))
        forth = Normal(there, kernel.noise).log_prob(later)
        return later, forth - Normal(back, variance).log_prob(x)

    end, steps = jax.lax.scan(step, x0, (chain(lam, mean), lam, tau, normals))
    w = jnp.sum(steps) - Normal(jnp.zeros_like(end), jnp.ones_like(end)).log_prob(end)
    if log_p0 is None:
        return PathWork(w, steps)
    _checks.scalar("log_p0", log_p0, x0, cure="Pass the log_prob of a density.")
    return PathWork(w + log_p0(x0), steps)


def sample(
    lam: Array,
    denoise: Network | Predictor,
    start: State,
    key: Key,
    *,
    tau: Array,
    mean: Mean = "ddpm",
) -> State:
    r"""Generate one state by the N kernels, from `start` `(d,)`, a draw of the noise $N(0, 1)$. Vmap it over both.

    The last kernel, the decoder, adds its variance $\tau_1$ like the others: the samples are those that `path_work` prices.
    The other arguments are those of `path_work`. Levels that do not fall strictly raise `ValueError`; while tracing, the
    state is NaN.
    """
    net = denoiser(denoise)
    lam, tau, start, key = given(lam, tau, "start", start, key)
    return _sample(lam, net, start, key, tau, mean)


@jit
def _sample(lam: Array, net: Predictor, start: State, key: Key, tau: Array, mean: Mean) -> State:
    normals = jax.random.normal(key, (lam.shape[0], *start.shape), start.dtype)

    def step(x: State, k: tuple[Chain, Scalar, Scalar, Array]) -> tuple[State, None]:
        kernel, level, variance, z = k
        return kernel.generated(x, net.clean(x, level)) + jnp.sqrt(variance) * z, None

    kernels = chain(lam, mean), lam, tau, normals
    return jax.lax.scan(step, start, kernels, reverse=True)[0]


def denoiser(denoise: Network | Predictor) -> Predictor:
    """A plain callable is taken for the clean state."""
    return predictor(denoise, "clean", name="denoise")


def given(lam: Array, tau: Array, name: str, x: State, key: Key) -> tuple[Array, Array, State, Key]:
    lam, tau = _checks.plan(lam, tau)
    x = _checks.floating(name, x)
    _checks.rank(name, x, {1}, "(d,), one state; vmap over many")
    _checks.one_float(**{"lam": lam, "tau": tau, name: x})
    return lam, tau, x, _checks.key("key", key)
