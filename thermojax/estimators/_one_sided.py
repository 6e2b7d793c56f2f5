r"""From the works, or the entropies, of one kind of run."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._guard import size_of
from .._types import Array, ArrayLike, Float, Scalar
from ._base import (
    ENOUGH,
    LOST,
    Moments,
    Weights,
    Works,
    coarse,
    doubts_of_weights,
    negligible,
    norm,
    sample_moments,
    weigh,
    works,
)
from ._correlation import correlated
from ._estimate import CORRELATED, DOMINATED, FEW, SHAPE, Estimate, doubt, estimate

LEAST = 10  # members of a plain average


def jarzynski(w: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The free-energy difference $\Delta(\beta F) = -\ln \langle e^{-w} \rangle$ from reduced work $w$, in nats.

    The runs must start in equilibrium and be independent of each other. `w` is dimensionless, as
    `thermojax.reduced_work(process, run)` gives it; `run.work` is an energy. The standard error is
    $\sqrt{(\overline{u^2}/\bar u^2 - 1)/(M-1)}$ with $u = e^{-w}$, M paths; the estimate is biased upwards by about half
    its square. `ess` $= (\sum u)^2 / \sum u^2$.

    `reliable` is False, and `why` says so, if `ess` is under 100; if one path carries more than a tenth of the weight; if
    the works spread so far that the effective sample size of the long run, extrapolated from the spread and the skewness
    of the works, is under 100, or if the largest weights fall off so slowly that their second moment may be infinite: the
    rare low works need not have been drawn then, the error bar is too small and `ess` too large; or if neighbours in the
    order given correlate visibly (a false alarm in a million). In this last case, and in no other, `stderr` is multiplied
    by the root of their statistical inefficiency g, and `ess` divided by g.

    A path that failed has `w` NaN. `failed="raise"` (default) stops and says how many did; `failed="drop"` goes on
    without them, which biases the average if failing depends on the work. +inf is a work like others, of weight zero. Under
    `jit` nothing can be raised: value and error are then NaN, and not reliable. A `Trajectory` is refused.

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 2; Zuckerman & Woolf, PRL 89, 180602 (2002); `docs/free_energies.md`.
    """
    return _jarzynski(works("w", w, failed, infinite=True))


@jax.jit
def _jarzynski(given: Works) -> Estimate:
    weights, stderr, ess, doubts = _exponential(given)
    value = given.shift - weights.log_mean
    stderr, rounded = coarse(value, stderr, stderr, given)
    return estimate(value, stderr, ess, doubts | rounded)


def _exponential(given: Works) -> tuple[Weights, Scalar, Scalar, Array]:
    """The average of weights, with its relative error, effective sample size and doubts."""
    w, count = given.w, given.left
    weights = weigh(-w, count)
    doubts = doubts_of_weights(weights, w, count)
    seen, g = correlated(w, _influence(w, count, weights))
    stderr = weights.spread * jnp.sqrt(g / (count - 1))
    return weights, stderr, weights.ess / g, doubts | doubt(CORRELATED, seen)


def _influence(w: Array, count: Array, weights: Weights) -> Array:
    """What each work adds to the relative deviation of the average; zero for those dropped."""
    share = jnp.expm1(-w - weights.log_mean)
    return jnp.where(jnp.isfinite(w) | (count == w.shape[0]), share, 0)


def integral_fluctuation(r: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The average $\langle e^{-R} \rangle$, which is 1 for every log-ratio of a path and its reverse.

    `r` is the total entropy production, the dissipated work or any other R, in nats, of independent runs. `stderr` is that
    of the average. `reliable`, `ess` and `failed` are those of `jarzynski`: they tell of the paths drawn. Where reversed
    paths end in places from which no run starts, the average is less than 1 by the probability of those paths, and reliably
    so. Where runs end in places from which no reversed run starts, R is +inf, and counts with weight zero.

    Source: Seifert, PRL 95, 040602 (2005), eq. 15; Murashita, Funo & Ueda, PRE 90, 042110 (2014), for the last points.
    """
    return _fluctuation(works("r", r, failed, infinite=True))


@jax.jit
def _fluctuation(given: Works) -> Estimate:
    weights, stderr, ess, doubts = _exponential(given)
    logarithm = weights.log_mean - given.shift
    stderr, rounded = coarse(logarithm, stderr, stderr, given, least=1)  # of a number near 1
    value = jnp.exp(logarithm)
    value = jnp.where(value > 0, value, jnp.nan)  # the weights are beyond the floating numbers
    return estimate(value, value * stderr, ess, doubts | rounded)


def second_cumulant(w: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The free-energy difference to second order in the cumulants, $\bar w - s^2/2$, in nats.

    `w` is the reduced work of independent runs, as in `jarzynski`. Exact for Gaussian work (slow driving, linear systems),
    where its error is far smaller than that of `jarzynski`; elsewhere it is biased, whatever the number of paths, by
    $\kappa_3/6 - \kappa_4/24 + \dots$ `stderr` is that of the sample itself, Gaussian or not. `ess` is the number of paths.

    `reliable` is False where one of these two terms exceeds half the error bar, or could exceed 0.6 of it without
    standing out from the scatter of a Gaussian sample: from a spread of the works of about 1.4 on no sample can show that
    its works are Gaussian enough, and that they are is then for you to know. It is also False with fewer than 100
    paths, and for correlated works (as in `jarzynski`).

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 5; Hermans, J. Phys. Chem. 95, 9029 (1991).
    """
    return _second_cumulant(works("w", w, failed))


@jax.jit
def _second_cumulant(given: Works) -> Estimate:
    w, count = given.w, given.left
    m = sample_moments(w, count)
    influence = m.deviations - 0.5 * (m.deviations**2 - jnp.where(jnp.isfinite(w), m.variance, 0))
    plain = norm(influence) / count
    doubts = doubt(FEW, ~(count >= ENOUGH)) | doubt(
        SHAPE, ~negligible(m, plain) & (count >= ENOUGH)
    )
    return _averaged(m.mean - 0.5 * m.variance, plain, influence, m, doubts, given)


def _averaged(
    value: Array,
    stderr: Array,
    influence: Array,
    m: Moments,
    doubts: Array,
    given: Works,
    alike: float = LOST,
) -> Estimate:
    """An estimate of which each member moves the value by its influence."""
    seen, g = correlated(given.w, influence / size_of(influence))
    value = value + given.shift
    stderr, rounded = coarse(value, stderr * jnp.sqrt(g), m.spread, given, alike=alike)
    return estimate(value, stderr, m.size / g, doubts | rounded | doubt(CORRELATED, seen))


def second_law_excess(
    w: Float[Array, " paths"], delta: ArrayLike | None = None, *, failed: str = "raise"
) -> Estimate:
    r"""How far the mean lies above its bound: $\langle w \rangle - \Delta(\beta F) \ge 0$, in nats.

    `w` is the reduced work of independent runs. `delta` is $\Delta(\beta F)$ where it is known: 0 for a total entropy
    production, a dissipated work or any other R. None: it is estimated by `jarzynski` from the same works, and `reliable`
    and `ess` are those of that estimate. A value below zero by more than its error says that the works are wrong, or their
    error bars.

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 4; Crooks, PRE 60, 2721 (1999).
    """
    given = works("w", w, failed)
    if delta is None:
        return _excess(given)
    known = _checks.floating("delta", delta)
    shift, less = _checks.known(given.shift), _checks.known(delta)
    if shift is None or less is None:
        return _mean(given._replace(shift=given.shift - known))
    apart = np.asarray(shift, np.float64) - np.asarray(less, np.float64)
    return _mean(given._replace(shift=jnp.asarray(apart, given.w.dtype)))


@jax.jit
def _excess(given: Works) -> Estimate:
    w, count = given.w, given.left
    m = sample_moments(w, count)
    weights = weigh(-w, count)
    influence = m.deviations + _influence(w, count, weights)
    stderr = norm(influence) / count
    seen, g = correlated(w, influence)
    doubts = doubts_of_weights(weights, w, count) | doubt(CORRELATED, seen)
    value, each = m.mean + weights.log_mean, jax.lax.stop_gradient(jnp.abs(m.mean))
    stderr, rounded = coarse(value, stderr * jnp.sqrt(g), m.spread, given, least=4 * each)
    return estimate(value, stderr, weights.ess / g, doubts | rounded)


def mean(x: Float[Array, " samples"], *, failed: str = "raise") -> Estimate:
    r"""The plain average of independent numbers, of any unit, with its standard error $s/\sqrt M$, `ess` = M.

    `reliable` is False with fewer than 10 of them; if one makes up more than $\tfrac12 + 3/M$ of the sum of squared
    deviations, as one does in a sample without a variance; or if neighbours correlate visibly (as in `jarzynski`).
    """
    return _mean(works("x", x, failed))


@jax.jit
def _mean(given: Works) -> Estimate:
    m = sample_moments(given.w, given.left)
    squares = (m.deviations / size_of(m.deviations)) ** 2
    alone = jnp.max(squares) > (0.5 + 3 / m.size) * jnp.sum(squares)
    doubts = doubt(FEW, ~(m.size >= LEAST)) | doubt(DOMINATED, alone & (m.size >= LEAST))
    error = m.spread / jnp.sqrt(m.size)
    return _averaged(m.mean, error, m.deviations, m, doubts, given, alike=float("inf"))
