r"""Levels of noise, $x_\lambda = a x_0 + s \epsilon$ with $\lambda = \ln a^2/s^2$, $a^2 + s^2 = 1$; steps between two.

With $c = a_k/a_{k-1}$, $\beta = 1 - c^2$ and the clean state $\hat x_0$ that a denoiser sees in $x_k$,

$$q(x_k | x_{k-1}) = N(c\, x_{k-1}, \beta), \qquad p(x_{k-1} | x_k) = N(A x_k + B \hat x_0(x_k), \tau).$$
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._types import Array, State

Mean = Literal["ddpm", "euler"]
"""Where a step of generation leads: to the posterior's mean, or by Euler's step of the reverse equation; see `chain`."""


class Chain(NamedTuple):
    r"""The numbers of one step, or of each, `(N,)`, step k at index k − 1: $c$, $\beta$, $A$, $B$, and the posterior's
    $\tilde\beta = \beta s_{k-1}^2/s_k^2$.
    """

    shrink: Array
    noise: Array
    keep: Array
    add: Array
    posterior: Array

    def noised(self, x: State) -> State:
        r"""The mean of $q(x_k | x_{k-1})$, whose variance is `noise`."""
        return self.shrink * x

    def generated(self, x: State, clean: State) -> State:
        r"""The mean of $p(x_{k-1} | x_k)$, from $x_k$ and the clean state that is seen in it."""
        return self.keep * x + self.add * clean


def chain(lam: Array, mean: Mean = "ddpm") -> Chain:
    r"""The numbers of the N steps of a chain with the levels `lam` `(N,)`:

    $$q(x_k | x_{k-1}) = N(c_k x_{k-1}, \beta_k), \qquad p(x_{k-1} | x_k) = N(A_k x_k + B_k \hat x_0(x_k), \tau_k).$$

    The first step starts from clean data, so its $\tilde\beta$ is 0. `mean="ddpm"`: $A = c\, s_{k-1}^2/s_k^2$, $B =
    a_{k-1}\beta/s_k^2$, the mean of the posterior, and the exponential integrator's; `"euler"`: the Euler–Maruyama step of
    the reverse equation. Levels that do not fall strictly raise `ValueError`; while tracing, where nothing can be raised,
    all numbers are NaN.
    """
    return _chain(_checks.falling("lam", lam), mean)


@jit
def _chain(lam: Array, mean: Mean) -> Chain:
    clean = jnp.full_like(lam[:1], jnp.inf)
    return between(jnp.concatenate([clean, lam[:-1]]), lam, mean)


def signal(lam: Array) -> Array:
    r"""$a = (1 + e^{-\lambda})^{-1/2}$."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(lam))


def noise(lam: Array) -> Array:
    r"""$s = (1 + e^\lambda)^{-1/2}$."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-lam))


def grown(before: Array, after: Array) -> Array:
    r"""The variance that a step of noising adds, as a share of $s_k^2$: $1 - e^{\lambda_k - \lambda_{k-1}}$, at any scale.

    No difference of nearly equal variances: single precision is enough. Clean data, at infinity, that stay clean get none.
    """
    stays_clean = jnp.isinf(before) & jnp.isinf(after)
    return -jnp.expm1(jnp.where(stays_clean, 0, after - before))


def between(before: Array, after: Array, mean: Mean = "ddpm") -> Chain:
    r"""From $\lambda_{k-1}$ (infinite for clean data) to $\lambda_k$, without cancellation: single precision is enough.

    `"ddpm"`: $A = c\, s_{k-1}^2/s_k^2$, $B = a_{k-1}\beta/s_k^2$, the mean of the posterior, and the exponential
    integrator's. `"euler"`: the Euler–Maruyama step of the reverse equation, $x + \tfrac b2 x + b\,\nabla\ln p$ with $b =
    \ln a_{k-1}^2/a_k^2$.
    """
    log_a2, log_s2 = jax.nn.log_sigmoid(after), jax.nn.log_sigmoid(-after)
    log_before = jax.nn.log_sigmoid(before)
    beta = jax.nn.sigmoid(-after) * grown(before, after)
    cleaner = jnp.exp(jax.nn.log_sigmoid(-before) - log_s2)  # s_{k-1}^2 / s_k^2
    shrink = jnp.exp(0.5 * (log_a2 - log_before))
    if mean == "ddpm":
        keep, add = shrink * cleaner, jnp.exp(0.5 * log_before - log_s2) * beta
    elif mean == "euler":
        small = beta < 0.5
        decay = jnp.where(small, -jnp.log1p(-jnp.where(small, beta, 0)), log_before - log_a2)
        keep, add = 1 + decay * (0.5 - jnp.exp(-log_s2)), decay * jnp.exp(0.5 * log_a2 - log_s2)
    else:
        raise ValueError(f'mean must be "ddpm" or "euler", got {mean!r}.')
    return Chain(shrink, beta, keep, add, beta * cleaner)
