r"""From the works, or the entropies, of one kind of run."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, ArrayLike, Float
from ._base import Estimate, clipped_root, gaussian_within, sample_moments, weigh, works


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
    return _jarzynski(*works("w", w, failed))


@jax.jit
def _jarzynski(w: Array, count: Array) -> Estimate:
    log_mean, ess, reliable = weigh(-w, count)
    return Estimate(-log_mean, _relative(ess, count), ess, reliable)


def _relative(ess: Array, count: Array) -> Array:
    """The relative standard error of an average of weights."""
    return clipped_root((count / ess - 1) / (count - 1))


def integral_fluctuation(r: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The average $\langle e^{-R} \rangle$, which is 1 for every log-ratio of a path and its reverse.

    `r` is the total entropy production, the dissipated work or any other R, in nats. `stderr` is that of the average.
    `reliable`, `ess` and `failed` are those of `jarzynski`: they tell of the paths drawn. Where reversed paths end in places
    from which no run starts, the average is less than 1 by the probability of those paths, and reliably so.

    Source: Seifert, PRL 95, 040602 (2005), eq. 15; Murashita, Funo & Ueda, PRE 90, 042110 (2014), for the last point.
    """
    r, count = works("r", r, failed)
    log_mean, ess, reliable = weigh(-r, count)
    value = jnp.exp(log_mean)
    return Estimate(value, value * _relative(ess, count), ess, reliable)


def second_cumulant(w: Float[Array, " paths"], *, failed: str = "raise") -> Estimate:
    r"""The free-energy difference to second order in the cumulants, $\bar w - s^2/2$, in nats.

    Exact for Gaussian work (slow driving, linear systems), where its error is far smaller than that of `jarzynski`;
    elsewhere it is biased, whatever the number of paths, by $\kappa_3/6 - \kappa_4/24 + \dots$ `stderr` is that of the
    sample itself, Gaussian or not. `reliable` is False where one of these two terms can be seen (four standard errors
    of a Gaussian sample) and exceeds the error bar, or with fewer than 100 paths. `ess` is the number of paths.

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 5; Hermans, J. Phys. Chem. 95, 9029 (1991).
    """
    return _second_cumulant(*works("w", w, failed))


@jax.jit
def _second_cumulant(w: Array, count: Array) -> Estimate:
    m = sample_moments(w, count)
    influence = m.deviations - 0.5 * (m.deviations**2 - jnp.where(jnp.isfinite(w), m.variance, 0))
    stderr = clipped_root(jnp.sum(influence**2)) / count
    reliable = gaussian_within(m, stderr) & jnp.isfinite(m.mean)
    return Estimate(m.mean - 0.5 * m.variance, stderr, count, reliable)


def second_law_excess(
    w: Float[Array, " paths"], delta: ArrayLike | None = None, *, failed: str = "raise"
) -> Estimate:
    r"""How far the mean lies above its bound: $\langle w \rangle - \Delta(\beta F) \ge 0$, in nats.

    `delta` is $\Delta(\beta F)$ where it is known: 0 for a total entropy production, a dissipated work or any other R.
    None: it is estimated by `jarzynski` from the same works, and `reliable` and `ess` are those of that estimate. A
    value below zero by more than its error says that the works are wrong, or their error bars.

    Source: Jarzynski, PRL 78, 2690 (1997), eq. 4; Crooks, PRE 60, 2721 (1999).
    """
    if delta is not None:
        plain = mean(w, failed=failed)
        return plain._replace(value=plain.value - _checks.floating("delta", delta))
    return _excess(*works("w", w, failed))


@jax.jit
def _excess(w: Array, count: Array) -> Estimate:
    m = sample_moments(w, count)
    log_mean, ess, reliable = weigh(-w, count)
    share = jnp.where(jnp.isfinite(w), jnp.exp(-jnp.where(jnp.isfinite(w), w, 0) - log_mean) - 1, 0)
    stderr = clipped_root(jnp.sum((m.deviations + share) ** 2)) / count
    return Estimate(m.mean + log_mean, stderr, ess, reliable)


def mean(x: Float[Array, " samples"], *, failed: str = "raise") -> Estimate:
    r"""The plain average with its standard error $s/\sqrt M$, `ess` = M; reliable from 10 samples on."""
    return _mean(*works("x", x, failed), failed)


@eqx.filter_jit
def _mean(x: Array, count: Array, failed: str) -> Estimate:
    m = sample_moments(x, count)
    value = jnp.where(count < 2, jnp.nan, m.mean)
    return Estimate(
        value, clipped_root(m.variance / count), count, (count >= 10) & jnp.isfinite(value)
    )
