"""What an estimator takes, and the averages that all of them share."""

import functools as ft
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._guard import clipped_root, size_of
from .._types import Array, ArrayLike, Numbers, Scalar
from ._estimate import DOMINATED, FEW, ROUNDED, TAIL, doubt
from ._tail import heavy, reach

ENOUGH = 100.0  # effective samples below which an exponential average is not to be trusted
LARGEST = 0.1  # share of the whole weight that one sample may carry
LOST = 0.1  # nats that rounding may take from numbers that are all the same
SIGHT = 4.0  # standard errors from which a deviation from a Gaussian counts as seen
SMALL = 0.5  # standard errors that a term left out may amount to
FAR = 8.0  # ranges of the numbers from which their distance from zero is taken off
UNSEEN = 0.6  # standard errors that it could amount to unseen


class Works(NamedTuple):
    """Works less `shift`, those that were dropped +inf; how many are left; how coarsely they were given."""

    w: Array
    left: Array
    shift: Scalar
    grain: Scalar


class Weights(NamedTuple):
    """An average of weights $u = e^a$: logarithm of their mean, $\\sqrt{\\overline{u^2}/\\bar u^2 - 1}$,
    $(\\sum u)^2/\\sum u^2$, the largest share.
    """

    log_mean: Scalar
    spread: Scalar
    ess: Scalar
    largest: Scalar


def norm(v: Array) -> Scalar:
    """The root of the sum of squares, of numbers of any size."""
    scale = size_of(v)
    return scale * clipped_root(jnp.sum((v / scale) ** 2))


@jax.jit
def weigh(a: Array, count: Array) -> Weights:
    """The mean of $e^a$ over `count` entries, of which some (-inf) weigh nothing; to the digits of how far the a differ,
    however little.
    """
    top = jax.lax.stop_gradient(jnp.max(jnp.where(a < jnp.inf, a, -jnp.inf)))
    below = a - jnp.where(top > -jnp.inf, top, 0)
    weights = jnp.exp(below)
    total, square = jnp.sum(weights), jnp.sum(weights**2)
    ess = total**2 / jnp.where(square > 0, square, 1)
    largest = 1 / jnp.where(total > 0, total, jnp.inf)
    # where all weigh about the same: by what is missing of the largest, which those left out weigh, too
    there = below != -jnp.inf
    missing = jnp.where(there, jnp.expm1(jnp.where(there, below, 0)), 0)
    none = count - jnp.sum(there).astype(a.dtype)
    lack = (jnp.sum(missing) - none) / count
    close = lack > -0.5
    lack = jnp.where(close, lack, 0)
    log_mean = jnp.where(close, jnp.log1p(lack), jnp.log(jnp.where(close, 1, total / count)))
    apart = norm(jnp.where(there, missing - lack, 0)) / (1 + lack)
    spread = norm(jnp.stack([apart, clipped_root(none)])) / jnp.sqrt(count)
    spread = jnp.where(close, spread, clipped_root(jnp.where(close, 0, count / ess - 1)))
    return Weights(log_mean + top, spread, ess, largest)


def doubts_of_weights(weights: Weights, w: Array, count: Array) -> Array:
    """What speaks against the average of $e^{-w}$."""
    few = doubt(FEW, ~(weights.ess >= ENOUGH)) | doubt(DOMINATED, ~(weights.largest <= LARGEST))
    extrapolated = reach(w, count)
    return few | doubt(TAIL, ~(extrapolated >= ENOUGH) | heavy(w, weights.ess, extrapolated))


class Moments(NamedTuple):
    """Mean, spread and variance of a sample, the deviations of its members (zero for dropped ones), and its size."""

    mean: Scalar
    spread: Scalar
    variance: Scalar
    deviations: Array
    size: Array


def sample_moments(w: Array, count: Array) -> Moments:
    keep = jnp.isfinite(w)
    # one entry that is NaN, or infinite, in a sample that should have none makes everything NaN
    spoilt = jnp.sum(keep).astype(w.dtype) < count
    middle = jnp.sum(jnp.where(keep, w, 0)) / count + jnp.where(spoilt, jnp.nan, 0)
    deviations = jnp.where(keep, jnp.where(keep, w, middle) - middle, 0)
    free = jnp.maximum(count - 1, 1)
    variance = jnp.sum(deviations**2) / free
    return Moments(middle, norm(deviations) / jnp.sqrt(free), variance, deviations, count)


class Shape(NamedTuple):
    """The third and fourth cumulants as terms of $-\\ln\\langle e^{-w}\\rangle$, and their errors for a Gaussian sample."""

    terms: Array
    errors: Array


def shape(m: Moments) -> Shape:
    r"""$\kappa_3/6$ and $\kappa_4/24$; in a Gaussian sample $\kappa_3$ scatters by $\sqrt{6/M}\,\sigma^3$, $\kappa_4$ by
    $\sqrt{24/M}\,\sigma^4$.
    """
    third = jnp.sum(m.deviations**3) / m.size
    fourth = jnp.sum(m.deviations**4) / m.size - 3 * m.variance**2
    errors = (jnp.sqrt(6 / m.size) * m.spread**3 / 6, jnp.sqrt(24 / m.size) * m.spread**4 / 24)
    return Shape(jnp.abs(jnp.stack([third / 6, fourth / 24])), jnp.stack(errors))


def gaussian_within(m: Moments, stderr: Scalar) -> Array:
    """Whether both terms are unseen, or below the error."""
    terms, errors = shape(m)
    return ~jnp.any((terms > SIGHT * errors) & (terms > stderr)) & (m.size >= ENOUGH)


def negligible(m: Moments, stderr: Scalar) -> Array:
    """Whether both terms are small beside the error, and could not be large without being seen."""
    terms, errors = shape(m)
    return jnp.all((terms <= SMALL * stderr) & (errors <= UNSEEN * stderr)) & (m.size >= ENOUGH)


def coarse(
    value: Array,
    stderr: Array,
    spread: Array,
    given: Works,
    least: ArrayLike = 0,
    alike: float = LOST,
) -> tuple[Array, Array]:
    """The error with that of the rounding of the works and of the value, or of `least`, where this is the larger; and the
    doubt. Of works that are all the same, from where rounding takes as much as `alike`.
    """
    eps = jnp.finfo(given.w.dtype).eps
    lost = eps * jnp.maximum(jnp.abs(jax.lax.stop_gradient(value)), least)
    lost = jnp.maximum(lost, given.grain)
    there = (lost > stderr) & ((spread > 0) | (lost > alike))
    return jnp.where(there, jnp.hypot(jnp.where(there, stderr, 1), 0.5 * lost), stderr), doubt(
        ROUNDED, there
    )


class Given(NamedTuple):
    """Numbers as they were given, and the unit of rounding of their precision."""

    w: Array | np.ndarray
    eps: float


def checked(name: str, w: Numbers, failed: str, *, infinite: bool = False) -> Given:
    """One-dimensional, at least two, and finite (or +inf, where it weighs nothing), or NaN where those may be dropped.

    Numpy's double precision is kept where JAX has none, until what the numbers have in common has been taken off.
    """
    if failed not in ("raise", "drop"):
        raise ValueError(f'failed must be "raise" or "drop", got {failed!r}.')
    if isinstance(w, tuple) and type(w) is not tuple:
        raise TypeError(
            f"{name} must be an array (paths,) of dimensionless numbers, got a {type(w).__name__}. The work in a run is "
            "an energy: pass thermojax.reduced_work(process, run), or run.entropy.total for R."
        )
    array, value = _checks.array(name, w), _checks.known(w)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {array.dtype}. Use .astype(float).")
    _checks.rank(name, array, {1}, "(paths,), one number per realisation")
    if array.shape[0] < 2:
        raise ValueError(
            f"{name} must hold at least two realisations to have an error bar, got {array.shape[0]}."
        )
    if value is not None:
        _refuse(name, np.asarray(value, np.float64), failed, infinite)
    eps = float(jnp.finfo(array.dtype).eps)
    array = array.astype(jnp.float32) if array.dtype.itemsize < 4 else array
    wide = value is not None and value.dtype == np.float64 and array.dtype == jnp.float32
    return Given(value if wide and value is not None else array, eps)


def _refuse(name: str, value: np.ndarray, failed: str, infinite: bool) -> None:
    """Raise for entries that cannot be averaged."""
    lost = np.isnan(value)
    endless = np.isinf(value) & ~(infinite & (value > 0))
    bad = np.flatnonzero(lost | endless)
    if failed == "raise" and bad.size:
        raise ValueError(
            f"{len(bad)} of {len(value)} entries of {name} are not finite (the first at index {bad[0]}): these "
            "realisations failed, and an average without them would be biased. Take smaller steps, or pass "
            'failed="drop" to go on without them. trajectory.path.ok marks them.'
        )
    if (~lost).sum() < 2:
        raise ValueError(
            f"Fewer than two entries of {name} are finite: nothing is left to average."
        )
    if endless.any():
        first = np.flatnonzero(endless)[0]
        cure = (
            "No run that can start has one of -inf: look for a density that is zero where runs start."
            if infinite
            else "Their mean is infinite; jarzynski, integral_fluctuation and bar count +inf, with weight zero."
        )
        raise ValueError(
            f"{endless.sum()} of {len(value)} entries of {name} are infinite, {value[first]} at index {first}: "
            f'failed="drop" leaves out those that failed, which are NaN, and these did not. {cure}'
        )


def works(name: str, w: Numbers, failed: str, *, infinite: bool = False) -> Works:
    """What an estimator takes: checked, less their lowest, and without the failed ones."""
    given = checked(name, w, failed, infinite=infinite)
    return taken(given, base(given.w), failed, infinite=infinite)


def base(w: Array | np.ndarray) -> Array:
    """What the numbers have in common: their lowest, if it lies far from zero beside their range, or else nothing."""
    if not isinstance(w, np.ndarray):
        return _base(w)
    fine = w[np.isfinite(w)]
    far = fine.size > 0 and abs(fine.min()) > FAR * np.ptp(fine)
    return jnp.asarray(fine.min() if far else 0.0, jnp.float32)


@jax.jit
def _base(w: Array) -> Array:
    w = jax.lax.stop_gradient(w)
    low = jnp.min(jnp.where(jnp.isfinite(w), w, jnp.inf))
    high = jnp.max(jnp.where(jnp.isfinite(w), w, -jnp.inf))
    return jnp.where(jnp.isfinite(low) & (jnp.abs(low) > FAR * (high - low)), low, 0)


def taken(given: Given, shift: Array, failed: str, *, infinite: bool) -> Works:
    """The numbers less `shift`: in double precision, where they have it."""
    if isinstance(given.w, np.ndarray):
        inner = jnp.asarray(given.w - np.asarray(shift, np.float64), jnp.float32)
        none = jnp.float32(0)
        return _taken(inner, none, none, failed == "drop", infinite)._replace(shift=shift)
    return _taken(given.w, shift, given.eps, failed == "drop", infinite)


@ft.partial(jax.jit, static_argnums=(3, 4))
def _taken(w: Array, shift: Array, eps: Scalar, drop: bool, infinite: bool) -> Works:
    fixed = jax.lax.stop_gradient(w)
    least = jnp.min(jnp.where(jnp.isfinite(fixed), fixed, jnp.inf))
    grain = eps * jnp.where(jnp.isfinite(least), jnp.abs(least), 0)
    return Works(*_kept(w - shift, drop, infinite), shift, grain)


def _kept(w: Array, drop: bool, infinite: bool) -> tuple[Array, Array]:
    """The works with +inf for those dropped, or NaN throughout where they cannot be averaged; and how many are left."""
    lost = jnp.isnan(w)
    count = jnp.sum(~lost).astype(w.dtype)
    bad = jnp.any(w == -jnp.inf) | (count < 2)
    if not infinite:
        bad |= jnp.any(w == jnp.inf)
    if not drop:
        bad |= jnp.any(lost)
    return jnp.where(bad, jnp.nan, jnp.where(lost, jnp.inf, w)), count
