"""What an estimator returns, what it takes, and the exponential average that all of them share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, Bool, Numbers, Scalar

ENOUGH = 100.0  # effective samples below which an exponential average is not to be trusted
LARGEST = 0.1  # share of the whole weight that one sample may carry
SIGHT = 4.0  # standard errors from which a deviation from a Gaussian counts as seen


class Estimate(NamedTuple):
    """A value, its standard error, the effective sample size behind it, and whether the error bar can be trusted."""

    value: Scalar
    stderr: Scalar
    ess: Scalar
    reliable: Bool[Array, ""]


class Weights(NamedTuple):
    """An average of weights $e^a$: logarithm of their mean, $(\\sum u)^2/\\sum u^2$, and whether it is ruled by a few."""

    log_mean: Scalar
    ess: Scalar
    reliable: Array


@jax.jit
def weigh(a: Array, count: Array) -> Weights:
    """The mean of $e^a$ over the first `count` entries that weigh at all (-inf weighs nothing)."""
    top = jax.lax.stop_gradient(jnp.max(jnp.where(a < jnp.inf, a, -jnp.inf)))
    weights = jnp.exp(a - top)
    total, square = jnp.sum(weights), jnp.sum(weights**2)
    ess = total**2 / square
    reliable = (ess >= ENOUGH) & (1 <= LARGEST * total)
    return Weights(jnp.log(total / count) + top, ess, reliable)


class Moments(NamedTuple):
    """Mean and variance of a sample, the deviations of its members (zero for dropped ones), and its size."""

    mean: Scalar
    variance: Scalar
    deviations: Array
    size: Array


def sample_moments(w: Array, count: Array) -> Moments:
    keep = jnp.isfinite(w)
    # one entry that is NaN in a sample that should have none makes everything NaN
    middle = jnp.sum(jnp.where(keep, w, 0)) / count + jnp.where(jnp.any(jnp.isnan(w)), jnp.nan, 0)
    deviations = jnp.where(keep, jnp.where(keep, w, middle) - middle, 0)
    variance = jnp.sum(deviations**2) / jnp.maximum(count - 1, 1)
    return Moments(middle, variance, deviations, count)


def gaussian_within(m: Moments, stderr: Scalar) -> Array:
    r"""Whether the third and fourth cumulants, as terms of $-\ln\langle e^{-w}\rangle$, are unseen or below the error.

    Their sampling errors are those of a Gaussian sample, $\sqrt{6/M}\,\sigma^3$ and $\sqrt{24/M}\,\sigma^4$.
    """
    third = jnp.sum(m.deviations**3) / m.size
    fourth = jnp.sum(m.deviations**4) / m.size - 3 * m.variance**2
    seen = (jnp.abs(third) > SIGHT * jnp.sqrt(6 / m.size) * m.variance**1.5) & (
        jnp.abs(third) / 6 > stderr
    )
    seen |= (jnp.abs(fourth) > SIGHT * jnp.sqrt(24 / m.size) * m.variance**2) & (
        jnp.abs(fourth) / 24 > stderr
    )
    return ~seen & (m.size >= ENOUGH)


def clipped_root(square: Scalar) -> Scalar:
    """The root of what rounding may have left below zero, with derivative zero there."""
    some = ~(square <= 0)  # NaN passes
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)


def works(name: str, w: Numbers, failed: str) -> tuple[Array, Array]:
    """One-dimensional, at least two, and finite, or the failed ones counted out: they are +inf then."""
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
