r"""A free-energy difference from measured runs in both directions."""

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._ledger import account, reduced_work
from .._paths import Path
from .._process import Process, each_path, ends, reverse
from .._types import Array, Drive
from ..densities import Gaussian
from ..estimators import Estimate, bar as bar_of_works
from ..systems import AbstractSystem, AbstractUnderdamped
from ._momenta import with_momenta
from ._paths import Measured


def bar(
    forward: Measured,
    reverse: Measured,
    system: AbstractSystem,
    *,
    protocol: Drive | None = None,
    failed: str = "raise",
) -> Estimate:
    r"""The free-energy difference $\Delta(\beta F)$ between end and start of the forward drive, by runs in both directions.

    `forward` and `reverse` are as `read_csv` gives them, each with the control recorded in its own runs; all start in
    equilibrium at their first control. Without controls `protocol` is the drive of the forward runs, and the reverse runs
    have it backwards. Of an `Underdamped` system they hold positions, then velocities: `with_momenta` is applied. The
    estimate is `thermojax.estimators.bar` of the two reduced works, in nats; `failed` is its own.

    Raises `ValueError` if the reverse runs do not start nearer to where the forward ones end than to where these start, and
    for velocities that are far from those of equilibrium where runs start.
    """
    for name, data in (("forward", forward), ("reverse", reverse)):
        if not isinstance(data, Measured):
            raise TypeError(
                f"{name} must be thermojax.measured.Measured, got {type(data).__name__}. read_csv makes one."
            )
    if protocol is None:
        _check_opposite(forward, reverse)
        there, back = (
            forward.process(system, _start(forward)),
            reverse.process(system.reversed(), _start(reverse)),
        )
    else:
        there = forward.process(system, _start(forward), protocol=protocol)
        back = _backwards(Process(system, protocol, _start(forward), _start(reverse)), reverse)
    works = (_works("forward", there, forward), _works("reverse", back, reverse))
    return bar_of_works(*works, failed=failed)


def _backwards(process: Process, data: Measured) -> Process:
    mirrored = reverse(process)
    return data.process(mirrored.system, mirrored.initial, protocol=mirrored.protocol)


def _works(name: str, process: Process, data: Measured) -> Array:
    path = data.path
    if isinstance(process.system, AbstractUnderdamped):
        path = with_momenta(process, path)
        _check_thermal(name, process, path)
    return reduced_work(process, account(process, path))


def _check_thermal(name: str, process: Process, path: Path) -> None:
    """Refuse velocities in another unit, and momenta: in equilibrium, where runs start, their energy is T/2 each."""

    def one(process: Process, path: Path) -> Array:
        system = AbstractUnderdamped.moved_by("bar", process.system)
        q, p = jnp.split(path.xs[0], 2)
        maxwell = system.thermal(q, ends(process.protocol, path.ts)[0])
        return (p - maxwell.mean) ** 2 / maxwell.variance

    value = _checks.known(each_path(one, (process,), path))
    if value is None:
        return
    warmth = np.nanmean(value)
    if abs(warmth - 1) > max(0.5, 6 * (2 / value.size) ** 0.5):
        raise ValueError(
            f"{name}: where its runs start, the kinetic energy of the recorded velocities is {warmth:.3g} times that of "
            "equilibrium. Give positions, then velocities (no momenta) in the units of the system's mass and temperature."
        )


def _start(data: Measured) -> Gaussian:
    """Any density: the reduced work does not depend on it."""
    xs = jnp.asarray(data.path.xs)
    return Gaussian(jnp.zeros(xs.shape[-1], xs.dtype), jnp.ones((), xs.dtype))


def _check_opposite(forward: Measured, reverse: Measured) -> None:
    """Refuse runs in the same direction, told by the mean controls at their ends."""
    ends = _control(forward, 0), _control(forward, -1), _control(reverse, 0)
    first, last, start = (jtu.tree_map(lambda v: v.mean(0), v) for v in ends)
    if jtu.tree_structure(first) != jtu.tree_structure(start):
        raise ValueError("forward and reverse must have the same controls, by name and number.")
    errors = (jtu.tree_map(lambda v: v.std(0) / np.sqrt(len(v)), v) for v in ends)
    scatter = jtu.tree_map(lambda *given: 4 * sum(given), *errors)
    given = (first, last, start, scatter)
    leaves = [list(map(_checks.known, jtu.tree_leaves(v))) for v in given]
    for a, b, r, noise in zip(*leaves, strict=True):
        if a is None or b is None or r is None or noise is None:
            continue
        # a control that does not move, but for what it is recorded with, has no direction
        wrong = (abs(r - a) < abs(r - b)) & (abs(b - a) > noise)
        if np.any(wrong):
            raise ValueError(
                f"The reverse runs start at a control of {r}, the forward ones go from {a} to {b}: reverse runs start where "
                "the forward ones end. Are they forward runs, or recorded backwards in time?"
            )


def _control(data: Measured, i: int) -> Array:
    return jtu.tree_map(lambda v: jnp.asarray(v)[:, i], data.controls)
