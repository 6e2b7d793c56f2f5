r"""Measured paths, and the process that each belongs to by its recorded control or by a known drive."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._grids import within
from .._ledger import check_path, check_turns
from .._paths import Path, digits_kept
from .._process import Process
from .._types import Array, Control, Density, Drive
from ..protocols import Piecewise
from ..systems import AbstractSystem
from ._held import held

RANGE = 1e3  # a control's range must be this many times the rounding of its numbers


class Measured(NamedTuple):
    """Measured paths, and the controls recorded beside them.

    `path` holds `ts` `(paths, m)`, or `(m,)` for all, and `xs` `(paths, m, d)`; the leaves of `controls` are
    `(paths, m)`, or `(paths, m, k)` for a control of k numbers, and `controls` is None where none was recorded. `lengths`
    `(paths,)` says how many samples of each path were measured, if the rest only holds the last of them. `period`
    `(paths, d)` is that of the angles that were made continuous, infinite for other coordinates; None without any.
    `read_csv` and `from_columns` make one; so may you, of your own arrays.
    """

    path: Path
    controls: Control = None
    lengths: Array | None = None
    period: Array | None = None

    @property
    def protocols(self) -> Piecewise:
        """The protocol of each path, in straight lines from sample to sample: its leaves have the paths as leading axis."""
        if self.controls is None:
            raise ValueError(
                "These paths have no controls of their own. Give the drive: data.process(system, initial, "
                "protocol=thermojax.protocols.ramp(...)); without a drive, protocol=lambda t: 0.0 * t."
            )
        path, controls = _batch(self)[:2]
        return jax.vmap(Piecewise)(path.ts, controls)

    def process(
        self,
        system: AbstractSystem,
        initial: Density,
        final: Density | None = None,
        *,
        protocol: Drive | None = None,
    ) -> Process:
        """The Process of which these are the paths, each along its own control, or all along `protocol` if it is known.

        `thermojax.account(process, data.path)` prices them: work, heat and entropy in the units of the system's potential at
        the positions and controls as they stand in the file. `reduced_work`, `dissipated_work`, `path_ratio` and `reverse`
        take it too. `protocol` is any protocol or callable of time, in the place of recorded controls; its clock is that of
        `data.path.ts`, which starts at zero in what was read. Raises `ValueError` for arrays that do not fit together, times
        that do not rise, and float64 whose steps are lost in float32. An angle that was made continuous may be on another
        turn than its control: a `UserWarning`, where the potential can tell.
        """
        drive = self.protocols if protocol is None else protocol
        process = Process(system, drive, initial, final)
        if protocol is None and self.period is None and self.lengths is None:
            return process
        path, _, lengths, period = _batch(self)
        if period is not None:
            start = check_path(process, Path(path.ts[:, :2], path.xs[:, :2], path.ok))
            check_turns("data.path", process, start, period)
        if lengths is None:
            return process
        last_two = jnp.stack([lengths - 2, lengths - 1], axis=1)
        stops = jnp.take_along_axis(path.ts, last_two, axis=1)
        own = protocol is None
        if not own:
            within(process, jnp.concatenate([path.ts[:, :2], stops], axis=1))
        return process.replace(protocol=held(drive, path.ts, lengths, own=own))


def _batch(data: Measured) -> Measured:
    """The same paths with times and marks of their own, checked."""
    digits_kept("data.path", data.path, measured=True)
    ts, xs, ok = (
        _checks.array(f"data.path.{name}", v)
        for name, v in zip(Path._fields, data.path, strict=True)
    )
    _checks.rank("data.path.xs", xs, {3}, "(paths, times, d), also for one path and for d = 1")
    paths, m, _ = xs.shape
    if ts.shape not in ((m,), (paths, m)) or m < 2:
        raise ValueError(
            f"data.path.ts must have shape (times,) or (paths, times), at least two times; got "
            f"{ts.shape} for states {xs.shape}."
        )
    for where, leaf in jtu.tree_leaves_with_path(data.controls):
        name = f"data.controls{jtu.keystr(where)}"
        if _checks.array(name, leaf).shape[:2] != (paths, m):
            raise ValueError(
                f"{name} must have shape (paths, times) or (paths, times, k), "
                f"got {jnp.shape(leaf)} for states {xs.shape}."
            )
        if _checks.shortened(leaf):
            span, cure = (
                np.ptp(np.asarray(leaf, float)),
                "Measure from a nearer origin, positions too.",
            )
            _checks.resolved(name, leaf, span, cure, what="differences", finest=RANGE)
    controls = jtu.tree_map(lambda v: _checks.array("data.controls", v), data.controls)
    grid = _checks.known(ts)
    if grid is not None and not (np.diff(grid, axis=-1) > 0).all():
        where = tuple(int(i) for i in np.argwhere(~(np.diff(grid, axis=-1) > 0))[0])
        raise ValueError(
            f"data.path.ts must be strictly increasing, in {grid.dtype}: it is not after index {list(where)}."
        )
    return Measured(
        Path(jnp.broadcast_to(ts, (paths, m)), xs, jnp.broadcast_to(ok, (paths,))),
        controls,
        None if data.lengths is None else _lengths(data.lengths, paths, m),
        None if data.period is None else _period(data.period, xs.shape),
    )


def _period(period: Array, shape: tuple[int, ...]) -> Array:
    period, wanted = _checks.array("data.period", period), (shape[0], shape[2])
    value = _checks.known(period)
    if period.shape != wanted or (value is not None and not (value > 0).all()):
        raise ValueError(
            f"data.period must be numbers greater than zero, {wanted}, one for each path and coordinate, infinite where "
            f"there is none; got {value} of shape {period.shape}."
        )
    return period


def _lengths(lengths: Array, paths: int, m: int) -> Array:
    lengths = _checks.array("data.lengths", lengths)
    value = _checks.known(lengths)
    whole = lengths.shape == (paths,) and jnp.issubdtype(lengths.dtype, jnp.integer)
    if not whole or (value is not None and not ((value >= 2) & (value <= m)).all()):
        raise ValueError(
            f"data.lengths must be whole numbers ({paths},) from 2 to {m}, one for each path; got {value}."
        )
    return lengths
