r"""Levels of noise, $x_\lambda = a x_0 + s \epsilon$ with $\lambda = \ln a^2/s^2$, $a^2 + s^2 = 1$; steps between two.

With $c = a_k/a_{k-1}$, $\beta = 1 - c^2$ and the clean state $\hat x_0$ that a denoiser sees in $x_k$,

$$q(x_k | x_{k-1}) = N(c\, x_{k-1}, \beta), \qquad p(x_{k-1} | x_k) = N(A x_k + B \hat x_0(x_k), \tau).$$
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from . import _checks
from ._types import Array

Mean = Literal["ddpm", "euler"]


class Chain(NamedTuple):
    r"""The numbers of each step: $c$, $\beta$, $A$, $B$, and the posterior's $\tilde\beta = \beta s_{k-1}^2/s_k^2$."""

    shrink: Array
    noise: Array
    keep: Array
    add: Array
    posterior: Array


def falling(name: str, lam: Any) -> Array:
    """The levels of a chain. Those that do not fall strictly are refused; while tracing, they become NaN."""
    lam = _checks.falling(name, lam)
    if _checks.known(lam) is not None:
        return lam
    # times one or NaN: so is the gradient
    return lam * jnp.where((jnp.diff(lam) < 0).all(), 1.0, jnp.nan)


def several(name: str, lam: Any) -> Array:
    """Levels to be looked at one by one, in any order."""
    if callable(lam):
        raise TypeError(
            f"{name} must be levels (n,), got {type(lam).__name__}. Call it: schedule()."
        )
    lam = _checks.floating(name, lam)
    _checks.rank(name, lam, {1}, "(n,), log signal-to-noise ratios (one: jnp.array([lam]))")
    return lam


def plan(lam: Any, tau: Any) -> tuple[Array, Array]:
    """The levels of a chain and the variances of its generation, of one shape; their values are checked where known, so
    that nothing is called back from a training loop."""
    lam = falling("lam", lam)
    if isinstance(tau, str):
        raise TypeError(
            f"tau must be the variances (N,), got {tau!r}: thermojax.schedules.variances(lam, curve, {tau!r})."
        )
    tau = _checks.floating("tau", tau, positive=_checks.known(tau) is not None)
    if tau.shape != lam.shape:
        raise ValueError(f"lam and tau must both have shape (N,), got {lam.shape} and {tau.shape}.")
    return lam, tau


def signal(lam: Array) -> Array:
    r"""$a = (1 + e^{-\lambda})^{-1/2}$."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(lam))


def noise(lam: Array) -> Array:
    r"""$s = (1 + e^\lambda)^{-1/2}$."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-lam))


def between(before: Array, after: Array, mean: Mean = "ddpm") -> Chain:
    r"""From $\lambda_{k-1}$ (infinite for clean data) to $\lambda_k$, without cancellation: single precision is enough.

    `"ddpm"`: $A = c\, s_{k-1}^2/s_k^2$, $B = a_{k-1}\beta/s_k^2$, the mean of the posterior, and the exponential
    integrator's. `"euler"`: the Euler–Maruyama step of the reverse equation, $x + \tfrac b2 x + b\,\nabla\ln p$ with $b =
    \ln a_{k-1}^2/a_k^2$.
    """
    log_a2, log_s2 = jax.nn.log_sigmoid(after), jax.nn.log_sigmoid(-after)
    log_before = jax.nn.log_sigmoid(before)
    beta = -jax.nn.sigmoid(-after) * jnp.expm1(after - before)
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
