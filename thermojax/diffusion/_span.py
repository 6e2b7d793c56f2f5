r"""Where a noising is looked at: nodes in the log signal-to-noise ratio, and a schedule's clock there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._nodes import nodes as legendre
from .._process import Process
from .._types import Array, ArrayLike, Density, Scalar
from ._kinds import AbstractNoising
from ._noising import ends, kind_of, prior_of
from ._schedules import AbstractSchedule

NODES, MORE, WIDE = 32, 48, 25.0  # more of them in a wide span
HALVINGS = 60


class Span(NamedTuple):
    r"""A noising between two finite levels, and the quadrature $\int d\lambda \approx \sum_i w_i$ between them.

    The nodes of Gauss and Legendre never touch the ends.
    """

    kind: AbstractNoising
    prior: Density
    top: Scalar
    bottom: Scalar
    lam: Array  # (nodes,), falling
    weight: Array  # (nodes,)

    @property
    def stretch(self) -> Scalar:
        r"""$\ln a_0/a_T$, by how much a length shrinks."""
        return jnp.log(self.kind.signal(self.top) / self.kind.signal(self.bottom))


def span(process: Process, top: ArrayLike | None, nodes: int | None) -> Span:
    """From the first finite level of a noising, or `top`, to its last."""
    kind = kind_of("noising", process)
    first, bottom = ends(process)
    if top is not None:
        first = _checks.floating("top", top).astype(bottom.dtype)
        _checks.rank("top", first, {0}, "(), one log signal-to-noise ratio")
    high, low = _checks.known(first), _checks.known(bottom)
    number = NODES
    if high is not None and low is not None:
        high, low = float(high), float(low)
        if not np.isfinite(high):
            raise ValueError(
                "The noising starts from clean data, lam = inf, where rates diverge or nothing is left to integrate. Say "
                "from which level on it is priced: top=12.0, say, or a schedule that starts later (Linear(t0=1e-3))."
            )
        if not (np.isfinite(low) and low < high):
            raise ValueError(
                f"top must lie above the last level of the schedule, {low:.6g}, got {high:.6g}."
            )
        number = MORE if high - low > WIDE else NODES
    number = number if nodes is None else _checks.whole("nodes", nodes, "a whole number of nodes")
    return Span(kind, prior_of(process), first, bottom, *quadrature(first, bottom, number))


@jit
def quadrature(top: Scalar, bottom: Scalar, number: int) -> tuple[Array, Array]:
    places, weights = (jnp.asarray(v, bottom.dtype) for v in legendre(number))
    # NaN marks what an error would say if it were known
    width = jnp.where(jnp.isfinite(top) & (top > bottom), top - bottom, jnp.nan)
    return top - width * places, width * weights


@jit
def clock(schedule: AbstractSchedule, lam: Array) -> Array:
    """The times at which a schedule is at the levels `lam` `(n,)`, by bisection: within its span, and without derivative."""

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        early, late = ends
        middle = 0.5 * (early + late)
        before = jax.vmap(schedule.log_snr)(middle) > lam
        return (jnp.where(before, middle, early), jnp.where(before, late, middle)), None

    first, last = (
        jnp.broadcast_to(t, lam.shape).astype(lam.dtype) for t in (schedule.t0, schedule.t1)
    )
    (early, late), _ = jax.lax.scan(halve, (first, last), None, length=HALVINGS)
    return jax.lax.stop_gradient(0.5 * (early + late))
