r"""Measured paths: trajectories read from CSV files, and the process that each belongs to by its recorded control."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path as File
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._paths import Path
from .._process import Process
from .._types import Control, Density
from ..protocols import Piecewise
from ..systems import AbstractSystem
from ._csv import Table, read

Files: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]]
Columns: TypeAlias = str | Sequence[str] | Mapping[str, Any]

FINEST = 32  # steps must be this many times the rounding of the numbers
GAP = 1.5  # a step this many times the usual one is reported


class Measured(NamedTuple):
    """Measured paths, and the controls recorded beside them.

    `path` holds `ts` `(paths, m)`, or `(m,)` for all, and `xs` `(paths, m, d)`; the leaves of `controls` are
    `(paths, m)`, or `(paths, m, k)` for a control of k numbers. `read_csv` makes one; so may you, of your own arrays.
    """

    path: Path
    controls: Control

    @property
    def protocols(self) -> Piecewise:
        """The protocol of each path, in straight lines from sample to sample: its leaves have the paths as leading axis."""
        path, controls = _batch(self)
        return jax.vmap(Piecewise)(path.ts, controls)

    def process(
        self, system: AbstractSystem, initial: Density, final: Density | None = None
    ) -> Process:
        """The Process of which these are the paths, each along its own control.

        `thermojax.account(process, data.path)` prices them: work, heat and entropy in the units of the system's potential at
        the positions and controls as they stand in the file. `reduced_work`, `dissipated_work`, `path_ratio` and `reverse`
        take it too. Raises `ValueError` for arrays that do not fit together, or times that do not rise.
        """
        return Process(system, self.protocols, initial, final)


def _batch(data: Measured) -> Measured:
    """The same paths with times and marks of their own, checked."""
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
    controls = jtu.tree_map(jnp.asarray, data.controls)
    for where, leaf in jtu.tree_leaves_with_path(controls):
        if leaf.shape[:2] != (paths, m):
            raise ValueError(
                f"data.controls{jtu.keystr(where)} must have shape (paths, times) or (paths, times, k), "
                f"got {leaf.shape} for states {xs.shape}."
            )
    grid = _checks.known(ts)
    if grid is not None and not (np.diff(grid, axis=-1) > 0).all():
        where = tuple(int(i) for i in np.argwhere(~(np.diff(grid, axis=-1) > 0))[0])
        raise ValueError(
            f"data.path.ts must be strictly increasing, in {grid.dtype}: it is not after index {list(where)}."
        )
    return Measured(
        Path(jnp.broadcast_to(ts, (paths, m)), xs, jnp.broadcast_to(ok, (paths,))), controls
    )


def read_csv(
    file: Files,
    *,
    time: str,
    positions: str | Sequence[str],
    controls: Columns,
    path: str | None = None,
    delimiter: str | None = None,
) -> Measured:
    r"""Trajectories of one length from a CSV file, or from several.

    The first line names the columns (or the last comment before the numbers does). The arguments name those to read:

    - `time`; each trajectory's first time is subtracted, in float64, so that a clock's large numbers cost no digits.
    - `positions`: one name, or one per coordinate.
    - `controls`: one name, a sequence of names (a control of k numbers), or a dict from the names by which the potential
      knows them. For a system that is not driven name any column.
    - `path`: the column that tells trajectories apart, in any order of rows. `None`: one trajectory per file. Trajectories
      come in the order of `file` and of their first rows.
    - `delimiter`: one character, `" "` for any white space; by default a tab, semicolon, comma or white space,
      whichever of them comes first in this list and stands in the line of names.

    Taken as they come: comment lines (`#`, `%`), a row of units under the names, empty lines, byte-order marks, Windows
    line ends, UTF-8, UTF-16 and Latin-1, stray spaces around names, decimal commas (where no number has a decimal point).
    Uneven steps are taken as they are; those longer than 1.5 times the usual are reported by a warning. Nothing is
    calibrated, filled in, dropped or padded.

    Raises `ValueError`, with file, line, column and cure, for a column that is not there, a cell that is missing or no
    number, a row of another length, times that do not rise, a single sample, and trajectories of unequal length (then
    use `read_each`); also if the numbers need more digits than JAX's default float32 has. Raises `FileNotFoundError`.
    """
    runs = _runs(file, time, positions, controls, path, delimiter)
    first = runs[0]
    for run in runs:
        if len(run.ts) != len(first.ts):
            raise ValueError(
                f"Trajectories differ in length: {first.name} has {len(first.ts)} samples, {run.name} has {len(run.ts)}. "
                "Cut them to one length in the file, or use thermojax.measured.read_each(...), which returns a list, "
                "and price them one by one."
            )
    return _measured(runs)


def read_each(
    file: Files,
    *,
    time: str,
    positions: str | Sequence[str],
    controls: Columns,
    path: str | None = None,
    delimiter: str | None = None,
) -> list[Measured]:
    """As `read_csv`, for trajectories of any length: a list with one `Measured` (`paths` = 1) per trajectory.

    `account` compiles anew for each length.
    """
    return [_measured([run]) for run in _runs(file, time, positions, controls, path, delimiter)]


class _Run(NamedTuple):
    """One trajectory, in float64; controls already in their structure."""

    name: str
    ts: np.ndarray
    xs: np.ndarray
    controls: Control


def _measured(runs: list[_Run]) -> Measured:
    ts, xs, controls = (
        jtu.tree_map(lambda *leaves: jnp.asarray(np.stack(leaves)), *parts)
        for parts in zip(*(run[1:] for run in runs), strict=True)
    )
    return Measured(Path(ts, xs, jnp.ones(len(runs), bool)), controls)


def _runs(
    file: Files,
    time: str,
    positions: str | Sequence[str],
    controls: Columns,
    path: str | None,
    delimiter: str | None,
) -> list[_Run]:
    coordinates = [positions] if isinstance(positions, str) else list(positions)
    driven = _names(controls)
    for name, given in (("positions", coordinates), ("controls", driven)):
        if not given:
            raise ValueError(f"{name} must name at least one column.")
    for name in (time, *coordinates, *driven, *([] if path is None else [path])):
        if not isinstance(name, str):
            raise TypeError(
                f"Columns are named by text, as in the file's first line; got {name!r}."
            )
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(
            f'delimiter must be one character, such as ";" or "\\t"; got {delimiter!r}.'
        )
    files = [file] if isinstance(file, (str, PathLike)) else list(file)
    if not files:
        raise ValueError("file must name at least one file, got an empty sequence.")
    runs, gaps = [], []
    for each in map(File, files):
        table = read(each, [time, *coordinates, *driven], path, delimiter)
        for name, rows in table.trajectories():
            ts = table.rising(time, rows)
            steps = np.diff(ts)
            long = np.flatnonzero(steps > GAP * np.median(steps))
            gaps += [(steps[i] / np.median(steps), table.at(rows[i + 1])) for i in long]
            columns = {c: table.numbers[c][rows] for c in (*coordinates, *driven)}
            _resolved(table, time, ts, steps.min())
            for c in coordinates:
                _resolved(table, c, columns[c], np.sqrt(np.mean(np.diff(columns[c]) ** 2)))
            xs = np.stack([columns[c] for c in coordinates], -1)
            runs.append(_Run(name, ts, xs, _tree(controls, columns)))
    if gaps:
        most, where = max(gaps)
        warnings.warn(
            f"{len(gaps)} steps of time are longer than {GAP} times the usual one, the longest {most:.3g} times, up to "
            f"{where}: lost frames? They are taken as they are.",
            stacklevel=3,
        )
    return runs


def _names(controls: Any) -> list[str]:
    if isinstance(controls, Mapping):
        return [name for part in controls.values() for name in _names(part)]
    return [controls] if isinstance(controls, str) else list(controls)


def _tree(controls: Any, columns: dict[str, np.ndarray]) -> Control:
    if isinstance(controls, Mapping):
        return {key: _tree(part, columns) for key, part in controls.items()}
    if isinstance(controls, str):
        return columns[controls]
    return np.stack([columns[name] for name in controls], -1)


def _resolved(table: Table, column: str, x: np.ndarray, step: float) -> None:
    """Refuse numbers whose steps the precision of JAX's floats would swallow."""
    dtype = jnp.asarray(0.0).dtype
    rounding = float(np.spacing(np.abs(x).max().astype(dtype)))
    if 0 < step < FINEST * rounding:
        raise ValueError(
            f"{table.file}, column {column!r}: steps of {step:.2g} in numbers up to {np.abs(x).max():.6g} are lost in "
            f'{dtype}, which rounds these to {rounding:.1g}. Run jax.config.update("jax_enable_x64", True) before '
            "anything else."
        )
