r"""The thermodynamic metric of a schedule: what a small step dissipates, and steps of equal length."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._types import Array, ArrayLike, Scalar
from ._cost import Tau
from ._curve import AbstractCurve, precision

POINTS = 4001  # of the grid on which the length is summed


def friction(lam: Array, curve: AbstractCurve, *, tau: Tau = "optimal") -> Array:
    r"""The thermodynamic metric g at each of `lam`: a small step dissipates $\tfrac12 g\,\delta\lambda^2$, in nats.

    With $u = e^\lambda$ and $T = -d\,\mathrm{mse}/du$, the mean square posterior covariance, $g = \tfrac d2 u^2 (T -
    \mathrm{mse}^2)$ for the optimal variance, $\tfrac d2 u^2 T$ for the posterior one, and $\tfrac d2 [u^2 (T -
    \mathrm{mse}^2) + (a^2 - u\,\mathrm{mse})^2]$ for the forward one.

    Source: Salamon & Berry, PRL 51, 1127 (1983); Crooks, PRL 99, 100602 (2007); for each kernel by expansion of
    `mean_work`.
    """
    lam = _checks.levels("lam", lam)
    precision(curve, lam=lam)
    return _friction(lam, curve(lam), curve, tau)


@jit
def _friction(lam: Array, mse: Array, curve: AbstractCurve, tau: Tau) -> Array:
    u = jnp.exp(lam)
    spread = -u * curve.slope(lam)  # u^2 T
    excess = spread - (u * mse) ** 2
    if tau == "posterior":
        return 0.5 * curve.dim * spread
    if tau == "optimal":
        return 0.5 * curve.dim * excess
    if tau == "forward":
        return 0.5 * curve.dim * (excess + (jax.nn.sigmoid(lam) - u * mse) ** 2)
    raise ValueError(f'tau must be "optimal", "posterior" or "forward", got {tau!r}.')


def thermodynamic_length(
    curve: AbstractCurve, top: ArrayLike, bottom: ArrayLike, *, tau: Tau = "optimal"
) -> Scalar:
    r"""The thermodynamic length $L = \int \sqrt g\,d\lambda$ from `bottom` to `top`: N steps dissipate at least about
    $L^2/2N$. Source: Crooks, PRL 99, 100602 (2007).
    """
    return lengths(curve, top, bottom, _speed(tau))[1][-1]


def equal_length(
    curve: AbstractCurve,
    steps: int,
    top: ArrayLike,
    bottom: ArrayLike,
    *,
    tau: Tau = "optimal",
) -> Array:
    r"""N levels from `top` to `bottom` at equal thermodynamic length $\int \sqrt g\,d\lambda$, `(N,)`.

    The recipe without a search: near the optimum for many steps. Where noise in the curve makes g negative it counts as
    zero. Source: Salamon & Berry, PRL 51, 1127 (1983).
    """
    steps = _checks.whole("steps", steps, "a whole number of levels", 2)
    return even(steps, *lengths(curve, top, bottom, _speed(tau)))


def even(steps: int, lam: Array, lengths: Array) -> Array:
    """Levels that fall, at equal steps of length."""
    return jnp.interp(jnp.linspace(lengths[-1], 0, steps), lengths, lam)


Speed = Callable[[Array, AbstractCurve], Array]  # length per unit of lam


def _speed(tau: Tau) -> Speed:
    return eqx.Partial(
        _root_of_friction, tau=tau
    )  # the same for the same tau, so that nothing is compiled again


def _root_of_friction(lam: Array, curve: AbstractCurve, tau: Tau) -> Array:
    # A measured curve is noisy, and g is a difference: below zero it has no root, and at zero a root without a slope. The
    # least speed is far below any that counts, and keeps the lengths rising, which their inverse needs.
    return jnp.sqrt(jnp.maximum(friction(lam, curve, tau=tau), 1e-12))


def ends(curve: AbstractCurve, top: ArrayLike, bottom: ArrayLike) -> Array:
    """The two, of the precision of the curve, which reaches that far."""
    given = {"top": _checks.floating("top", top), "bottom": _checks.floating("bottom", bottom)}
    dtype = precision(curve, **given)
    for name, end in given.items():
        _checks.rank(name, end, {0}, "(), one level")
    both = _checks.falling(
        "(top, bottom)", jnp.stack([end.astype(dtype) for end in given.values()])
    )
    curve(both)  # says so here if it ends sooner
    return both


def lengths(
    curve: AbstractCurve, top: ArrayLike, bottom: ArrayLike, speed: Speed
) -> tuple[Array, Array]:
    """A fine grid of levels, rising, and the length up to each."""
    return _integrated(curve, ends(curve, top, bottom), speed)


@jit
def _integrated(curve: AbstractCurve, ends: Array, speed: Speed) -> tuple[Array, Array]:
    lam = jnp.linspace(ends[1], ends[0], POINTS)
    rate = speed(lam, curve)
    gaps = 0.5 * (rate[1:] + rate[:-1]) * (ends[0] - ends[1]) / (POINTS - 1)
    return lam, jnp.concatenate([jnp.zeros(1, gaps.dtype), jnp.cumsum(gaps)])
