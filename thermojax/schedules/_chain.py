r"""The chain of a schedule: N noising kernels, the N kernels of generation, and the work of a path between them.

$x_0$ is data, $x_k = a_k x_0 + s_k \epsilon$; with $c_k = a_k/a_{k-1}$, $\beta_k = 1 - c_k^2$ and $u = e^\lambda$,

$$q(x_k | x_{k-1}) = N(c_k x_{k-1}, \beta_k), \qquad p(x_{k-1} | x_k) = N(A_k x_k + B_k \hat x_0(x_k), \tau_k),$$

$A_k = c_k s_{k-1}^2/s_k^2$, $B_k = a_{k-1} \beta_k/s_k^2$: the mean of DDPM, which is that of the exponential integrator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .._ledger import log_gauss
from .._types import Array, Key, Scalar, State

Denoiser = Callable[[State, Scalar], State]  # (x, lam) -> the clean state


class Chain(NamedTuple):
    r"""The numbers of a chain, each `(N,)`: $c$, $\beta$, $A$, $B$, and the posterior variance $\tilde\beta$ (first 0)."""

    shrink: Array
    noise: Array
    keep: Array
    add: Array
    posterior: Array


def chain(lam: Array) -> Chain:
    """The kernels' coefficients, without cancellation: single precision is enough."""
    log_a2, log_s2 = jax.nn.log_sigmoid(lam), jax.nn.log_sigmoid(-lam)
    before = jnp.concatenate([jnp.zeros_like(lam[:1]), log_a2[:-1]])
    decay = before - log_a2
    noise = -jnp.expm1(-decay)
    # s_{k-1}^2 / s_k^2, zero for the first step: it starts at clean data
    cleaner = jnp.concatenate([jnp.zeros_like(lam[:1]), jnp.exp(log_s2[:-1] - log_s2[1:])])
    shrink = jnp.exp(-0.5 * decay)
    return Chain(
        shrink, noise, shrink * cleaner, jnp.exp(0.5 * before - log_s2) * noise, noise * cleaner
    )


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
    log_p0: Callable[[State], Scalar] | None = None,
) -> PathWork:
    r"""The reduced dissipated work of one noising path of the N-step chain against its generation, in nats:

    $$w = \ln p_0(x_0) + \sum_k \ln \frac{q(x_k | x_{k-1})}{p(x_{k-1} | x_k)} - \ln N(x_N; 0, 1),$$

    the log-ratio of the two chains' probabilities, so $\langle e^{-w} \rangle = 1$ at any N, for any denoiser, and $\langle
    w \rangle = -\mathrm{ELBO} - S_0 \ge 0$. With `log_p0=None` the first term is left out: $\langle w \rangle = -$ELBO.

    `lam` `(N,)`, falling; `denoise(x, lam)` the clean state; `x0` one data point `(d,)`; `tau` `(N,)` the variances of the
    generation (`variances`), which must not be fitted to this very path. Vmap it over data and keys.

    Source: Sohl-Dickstein et al., ICML 2015, sec. 2.4; Crooks, PRE 60, 2721 (1999).
    """
    lam, tau = jnp.asarray(lam), jnp.asarray(tau)
    if lam.ndim != 1 or tau.shape != lam.shape:
        raise ValueError(f"lam and tau must both have shape (N,), got {lam.shape} and {tau.shape}.")
    kernels = chain(lam)
    normals = jax.random.normal(key, (lam.shape[0], *x0.shape), x0.dtype)

    def step(x: State, k: Any) -> tuple[State, Scalar]:
        kernel, level, variance, z = k
        later = kernel.shrink * x + jnp.sqrt(kernel.noise) * z
        clean = denoise(later, level)
        if jnp.shape(clean) != x0.shape:
            raise ValueError(
                f"denoise(x, lam) must return a state of shape {x0.shape}, got {jnp.shape(clean)}."
            )
        back = kernel.keep * later + kernel.add * clean
        ratio = log_gauss(later, kernel.shrink * x, kernel.noise) - log_gauss(x, back, variance)
        return later, ratio

    end, steps = jax.lax.scan(step, x0, (kernels, lam, tau, normals))
    w = jnp.sum(steps) - log_gauss(end, jnp.zeros_like(end), jnp.ones_like(end))
    return PathWork(w if log_p0 is None else w + log_p0(x0), steps)


def from_score(score: Callable[[State, Scalar], State]) -> Denoiser:
    r"""The denoiser of a score: $\hat x_0 = (x + s^2 \nabla \ln p)/a$."""
    return eqx.Partial(_from_score, score)


def _from_score(score: Any, x: State, lam: Scalar) -> State:
    return (x + jax.nn.sigmoid(-lam) * score(x, lam)) * jnp.exp(-0.5 * jax.nn.log_sigmoid(lam))


def from_noise(predict: Callable[[State, Scalar], State]) -> Denoiser:
    r"""The denoiser of a noise predictor: $\hat x_0 = (x - s\,\hat\epsilon)/a$."""
    return eqx.Partial(_from_noise, predict)


def _from_noise(predict: Any, x: State, lam: Scalar) -> State:
    s = jnp.exp(0.5 * jax.nn.log_sigmoid(-lam))
    return (x - s * predict(x, lam)) * jnp.exp(-0.5 * jax.nn.log_sigmoid(lam))
