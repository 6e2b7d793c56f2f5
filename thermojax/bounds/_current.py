r"""What the fluctuations of a current say about the entropy produced."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, estimators
from .._guard import size_of
from .._types import Array, ArrayLike, Float, Scalar
from ..estimators import Estimate


def tur(mean: ArrayLike, variance: ArrayLike) -> Scalar:
    r"""The entropy that a steady current betrays, in nats: the thermodynamic uncertainty relation

    $$\Sigma \ge \frac{2 \langle J \rangle^2}{\mathrm{Var}\,J} .$$

    J is any current accumulated over a time in a steady state (a displacement, a work, a heat; odd under time reversal),
    `mean` and `variance` are its own over that time, of any unit, and $\Sigma$ is the total entropy production in the same
    time. For a displacement in the long run, $\Sigma/t \ge v^2/D_\text{eff}$. Overdamped dynamics with time-independent
    control; it fails for underdamped motion, magnetic fields and driving that is periodic. Raises `ValueError` for a
    variance that is not above zero.
    Source: Barato & Seifert, PRL 114, 158101 (2015); Pietzonka, Ritort & Seifert, PRE 96, 012101 (2017), for finite times.
    """
    mean, variance = (
        _checks.floating("mean", mean),
        _checks.floating("variance", variance, positive=True),
    )
    for name, value in (("mean", mean), ("variance", variance)):
        _checks.rank(name, value, {0}, "(), one number (tur_of takes a sample)")
    return 2 * (mean / jnp.sqrt(variance)) ** 2


def tur_of(
    current: Float[Array, " paths"] | Float[np.ndarray, " paths"], *, failed: str = "raise"
) -> Estimate:
    r"""`tur` from a sample of a current, `(paths,)`, one number for each of independent realisations: an `Estimate`, nats.

    With the sample's mean m, variance v and central moments $\mu_k$, the standard error is that of the delta method with
    the term that is left at m = 0,

    $$B = \frac{2 m^2}{v}, \qquad \sigma_B^2 = \frac1n \left[ \frac{16 m^2}{v} - \frac{16 m^3 \mu_3}{v^3}
      + \frac{4 m^4}{v^4} (\mu_4 - v^2) \right] + \frac{8}{n^2} .$$

    The bias is of the order of B/n + 2/n, upwards. B is no bound but the estimate of one: allow for its error. `reliable`,
    `why` and `failed` are those of `estimators.mean`, asked of what each realisation adds to B.
    Source: as `tur`.
    """
    common = 0.0
    if isinstance(current, np.ndarray) and current.dtype == np.float64 and current.ndim == 1:
        there = np.isfinite(current)  # the digits that float32 would lose
        common = float(current[there].mean()) if there.any() else 0.0
        current = current - common
    sample = _checks.array("current", current)
    if not jnp.issubdtype(sample.dtype, jnp.floating):
        raise TypeError(f"current must be floating point, got {sample.dtype}. Use .astype(float).")
    _checks.rank("current", sample, {1}, "(paths,), one number per realisation")
    plain = estimators.mean(sample, failed=failed)  # refuses what cannot be averaged
    each, variance = _influence(sample, plain.value, plain.value + common)
    each = _checks.must("current", each, variance > 0, "a sample whose members differ")
    found = estimators.mean(each, failed=failed)
    return found._replace(stderr=jnp.hypot(found.stderr, jnp.sqrt(8.0) / plain.ess))


@jax.jit
def _influence(x: Array, middle: Scalar, mean: Scalar) -> tuple[Array, Scalar]:
    """B of a current whose mean is `mean`, and `middle` that of x; and what each member moves it by, NaN where that failed;
    and the variance, of any unit."""
    there = jnp.isfinite(x)
    count = jnp.sum(there).astype(x.dtype)
    apart = jnp.where(there, x - middle, 0)
    scale = size_of(apart)  # of which B does not depend
    mean, apart = mean / scale, apart / scale
    variance = jnp.sum(apart**2) / (count - 1)
    ratio = mean / variance
    moved = 4 * ratio * apart - 2 * ratio**2 * (apart**2 - jnp.sum(apart**2) / count)
    return jnp.where(there, 2 * mean * ratio + moved, jnp.nan), variance
