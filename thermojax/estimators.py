r"""Estimators: arrays of dimensionless work or entropy in, a value with an honest error bar out.

Everything is done in the log domain. Each function takes a one-dimensional array, one number per realisation; `value`
and `stderr` are differentiable.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _checks
from ._types import Array, Bool, Float, Scalar

ENOUGH = 100.0  # effective samples below which an exponential average is not to be trusted
LARGEST = 0.1  # share of the whole weight that one sample may carry


class Estimate(NamedTuple):
    """A value, its standard error, the effective sample size behind it, and whether the error bar can be trusted."""

    value: Scalar
    stderr: Scalar
    ess: Scalar
    reliable: Bool[Array, ""]


def jarzynski(w: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The free-energy difference $\Delta(\beta F) = -\ln \langle e^{-w} \rangle$ from reduced work $w$, in nats.

    The runs must start in equilibrium. The standard error is $\sqrt{(\overline{u^2}/\bar u^2 - 1)/(M-1)}$ with
    $u = e^{-w}$, M paths; the estimate is biased upwards by about half its square. `ess` $= (\sum u)^2 / \sum u^2$.

    `reliable` is False if `ess` is under 100 or one path carries more than a tenth of the weight: the average is then
    ruled by paths that may not have been drawn yet, and the error bar is too small.

    A path that failed has `w` NaN. `failed="raise"` (default) stops and says how many did; `failed="drop"` goes on
    without them, which biases the average if failing depends on the work. Under `jit` nothing can be raised: the value is
    then NaN, and not reliable.

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 2; Zuckerman & Woolf, PRL 89, 180602 (2002).
    """
    w, count = _works("w", w, failed)
    log_mean, relative, ess, reliable = _log_mean_exp(-w, count)
    return Estimate(-log_mean, relative, ess, reliable)


def integral_fluctuation(r: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The average $\langle e^{-R} \rangle$, which is 1 for every log-ratio of a path and its reverse.

    `r` is the total entropy production, the dissipated work or any other R, in nats. `stderr` is that of the average.
    `reliable`, `ess` and `failed` are those of `jarzynski`.

    Source: Seifert, PRL 95, 040602 (2005), eq. 15.
    """
    r, count = _works("r", r, failed)
    log_mean, relative, ess, reliable = _log_mean_exp(-r, count)
    value = jnp.exp(log_mean)
    return Estimate(value, value * relative, ess, reliable)


def mean(x: Float[Array, " samples"], *, failed: str = "raise") -> Estimate:
    r"""The plain average with its standard error $s/\sqrt M$, `ess` = M; reliable from 10 samples on."""
    return _mean(*_works("x", x, failed), failed)


@eqx.filter_jit
def _mean(x: Array, count: Array, failed: str) -> Estimate:
    keep = jnp.isfinite(x)
    value = jnp.sum(jnp.where(keep, x, 0)) / count
    spread = jnp.sum(jnp.where(keep, x - value, 0) ** 2) / jnp.maximum(count - 1, 1)
    bad = count < 2 if failed == "drop" else ~jnp.all(keep)
    value = jnp.where(bad, jnp.nan, value)
    return Estimate(value, _root(spread / count), count, (count >= 10) & ~bad)


@jax.jit
def _log_mean_exp(a: Array, count: Array) -> tuple[Scalar, Scalar, Scalar, Array]:
    """ln of the mean of e^a over the finite entries (-inf weighs nothing), its relative error, ess, and reliability."""
    top = jax.lax.stop_gradient(jnp.max(jnp.where(a < jnp.inf, a, -jnp.inf)))
    weights = jnp.exp(a - top)
    total, square = jnp.sum(weights), jnp.sum(weights**2)
    ess = total**2 / square
    relative = _root((count / ess - 1) / (count - 1))
    reliable = (ess >= ENOUGH) & (1 <= LARGEST * total)
    return jnp.log(total / count) + top, relative, ess, reliable


def _root(square: Scalar) -> Scalar:
    """The root of what rounding may have left below zero, with derivative zero there."""
    some = ~(square <= 0)  # NaN passes
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)


def _works(name: str, w: Any, failed: str) -> tuple[Array, Array]:
    """One-dimensional, at least two, and finite, or the failed ones counted out."""
    if failed not in ("raise", "drop"):
        raise ValueError(f'failed must be "raise" or "drop", got {failed!r}.')
    w, value = _checks.array(name, w), _checks.known(w)
    if not jnp.issubdtype(w.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {w.dtype}. Use .astype(float).")
    _checks.rank(name, w, {1}, "(paths,), one number per realisation")
    if w.shape[0] < 2:
        raise ValueError(
            f"{name} must hold at least two realisations to have an error bar, got {w.shape[0]}."
        )
    if value is not None and failed == "raise" and not np.isfinite(value).all():
        bad = np.flatnonzero(~np.isfinite(value))
        raise ValueError(
            f"{len(bad)} of {len(value)} entries of {name} are not finite (the first at index {bad[0]}): these "
            "realisations failed, and an average without them would be biased. Take smaller steps, or pass "
            'failed="drop" to go on without them. trajectory.path.ok marks them.'
        )
    fine = jnp.isfinite(w)
    if failed == "raise":
        count = jnp.asarray(w.shape[0], w.dtype)
        return jnp.where(jnp.all(fine), w, jnp.nan), count
    if value is not None and np.isfinite(value).sum() < 2:
        raise ValueError(
            f"Fewer than two entries of {name} are finite: nothing is left to average."
        )
    return jnp.where(fine, w, jnp.inf), jnp.sum(fine).astype(w.dtype)
