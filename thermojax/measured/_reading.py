r"""From named columns, of files or of arrays, to measured paths."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path as File
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._paths import Path, cut_at
from .._types import Control, Given
from ._csv import read
from ._paths import RANGE, Measured
from ._table import Table, from_mapping

Files: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]]
Columns: TypeAlias = str | Sequence[str] | Mapping[str, Any]
Periods: TypeAlias = float | Mapping[str, float]

GAP = 1.5  # a step of time this many times the usual one is reported
FAR = 10.0  # a step of position this many times the others
COARSE = 0.4  # of a period: a step from which it is unsure which way it went


def read_csv(
    file: Files,
    *,
    time: str | float,
    positions: str | Sequence[str],
    controls: Columns | None = None,
    path: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    period: Periods | None = None,
    pad: bool = False,
) -> Measured:
    r"""Trajectories from a CSV file, or from several.

    The first line names the columns, or a comment above the numbers does (also PLUMED's `#! FIELDS`). The arguments name
    those to read:

    - `time`; each trajectory's first time is subtracted, in float64, so that a clock's large numbers cost no digits. A
      number is the time between two samples, where no column tells it finely enough, as that of a clock of which float64
      rounds off more than a thousandth of a step, of which a warning tells.
    - `positions`: one name, or one per coordinate.
    - `controls`: one name, a sequence of names (a control of k numbers), or a dict from the names by which the potential
      knows them. `None`: the drive is not in the file; give it to `Measured.process(..., protocol=...)`.
    - `path`: the column that tells trajectories apart, in any order of rows. `None`: one trajectory per file. Trajectories
      come in the order of `file` and of their first rows.
    - `delimiter`: one character, `" "` for any white space; by default a tab, semicolon, comma or white space,
      whichever of them comes first in this list and makes the names.
    - `decimal`: `"."` or `","`; the other one then separates thousands. By default the comma is decimal in a file without a
      point; what may be read in two ways (`1,234`) is refused.
    - `period`: where angles are cut, $2\pi$ or 360 say: a number for all positions, or a dict by column, controls too. They
      are made continuous: every step goes the short way round, and so does that from a position's first value to the first
      one of a control with the same period, which is moved there by whole turns. With as many controls as positions, these
      belong together in their order; otherwise it must be the same for all positions of that period.
    - `pad`: trajectories of unequal length become one batch, compiled once: the shorter ones hold their last sample, which
      adds neither work nor heat nor entropy; `Measured.lengths` has the lengths.

    Taken as they come: comment lines (`#`, `%`), a row of units under the names, empty lines, byte-order marks, Windows
    line ends, UTF-8, UTF-16 and Latin-1, stray spaces around names, decimal commas (where no number has a decimal point).
    Reported by a warning: steps of time longer than 1.5 times the usual, steps of a position far outside the others, as of
    an angle that is cut, and a control that looks so cut; also a control that may belong to either of two angles. Nothing is
    calibrated, filled in or dropped.

    Raises `ValueError`, with file, line, column and cure, for a column that is not there, a cell that is missing or no
    number, a row of another length, times that do not rise, a single sample, and trajectories of unequal length unless
    `pad`; also if the numbers need more digits than JAX's default float32 has. Raises `FileNotFoundError`.
    """
    asked = _Asked(time, positions, controls, path, period)
    return _measured(asked, _runs(asked, _tables(file, asked, delimiter, decimal)), pad)


def read_each(
    file: Files,
    *,
    time: str | float,
    positions: str | Sequence[str],
    controls: Columns | None = None,
    path: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    period: Periods | None = None,
) -> list[Measured]:
    """As `read_csv`, for trajectories of any length: a list with one `Measured` (`paths` = 1) per trajectory.

    `account` compiles anew for each length; `read_csv(..., pad=True)` makes one batch of them, which compiles once.
    """
    asked = _Asked(time, positions, controls, path, period)
    return [
        _measured(asked, [run]) for run in _runs(asked, _tables(file, asked, delimiter, decimal))
    ]


def from_columns(
    columns: Given,
    *,
    time: str | float,
    positions: str | Sequence[str],
    controls: Columns | None = None,
    path: str | None = None,
    period: Periods | None = None,
    pad: bool = False,
) -> Measured:
    r"""Trajectories from a mapping of names to arrays: a dict, a pandas or polars DataFrame, an HDF5 group.

    Whatever reads the file, `from_columns(pandas.read_excel("drags.xlsx"), ...)`, the rest is as in `read_csv`: the same
    arguments and checks, by row in the place of line. Arrays are `(rows,)`, with the column `path` if they hold several
    trajectories; or `(paths, times)`, where `(times,)` is one for all. Dates become seconds.

    Raises `ValueError` as `read_csv` does, and `TypeError` for what is no column of real numbers.
    """
    asked = _Asked(time, positions, controls, path, period)
    return _measured(asked, _runs(asked, [from_mapping(columns, asked.columns(), path)]), pad)


class _Asked(NamedTuple):
    """What the columns are asked for."""

    time: str | float
    positions: str | Sequence[str]
    controls: Columns | None
    path: str | None
    period: Periods | None

    def coordinates(self) -> list[str]:
        return [self.positions] if isinstance(self.positions, str) else list(self.positions)

    def columns(self) -> list[str]:
        """The names of all columns of numbers, checked."""
        coordinates, driven = self.coordinates(), _names(self.controls)
        if not coordinates:
            raise ValueError("positions must name at least one column.")
        if self.controls is not None and not driven:
            raise ValueError(
                "controls must name at least one column, or be None where the file holds none."
            )
        clock = [self.time] if isinstance(self.time, str) else []
        for name in (*clock, *coordinates, *driven, *([] if self.path is None else [self.path])):
            if not isinstance(name, str):
                raise TypeError(
                    f"Columns are named by text, as in the file's first line; got {name!r}."
                )
        if not clock and not (np.isfinite(self.time) and self.time > 0):  # pyright: ignore
            raise ValueError(
                f"time must name a column, or be the time between two samples, greater than zero; got {self.time!r}."
            )
        unknown = {*self.periods()} - {*coordinates, *driven}
        if unknown:
            raise ValueError(
                f"period must name columns of positions or controls, got {sorted(unknown)}."
            )
        return list(dict.fromkeys([*clock, *coordinates, *driven]))

    def periods(self) -> dict[str, float]:
        """The period of each column that has one."""
        given = self.period
        if given is None:
            return {}
        given = given if isinstance(given, Mapping) else dict.fromkeys(self.coordinates(), given)
        by_column = {name: float(value) for name, value in given.items()}
        for name, value in by_column.items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(
                    f"period of {name!r} must be finite and greater than zero, got {value!r}."
                )
        return by_column

    def partners(self) -> dict[str, list[str]]:
        """The angles among the positions that each angle among the controls may be on the turn of."""
        coordinates, periods = self.coordinates(), self.periods()
        found = {}
        for control in _parts(self.controls):
            for i, c in enumerate(control):
                near = coordinates[i : i + 1] if len(control) == len(coordinates) else coordinates
                near = [x for x in near if periods.get(x) == periods.get(c)]
                if c in periods and c not in coordinates and near:
                    found[c] = near
        return found


class _Run(NamedTuple):
    """One trajectory, in float64; controls already in their structure."""

    name: str
    ts: np.ndarray
    xs: np.ndarray
    controls: Control


def _tables(file: Files, asked: _Asked, delimiter: str | None, decimal: str | None) -> list[Table]:
    names = asked.columns()
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(
            f'delimiter must be one character, such as ";" or "\\t"; got {delimiter!r}.'
        )
    if decimal not in (None, ".", ","):
        raise ValueError(f'decimal must be "." or ",", got {decimal!r}.')
    files = [file] if isinstance(file, (str, PathLike)) else list(file)
    if not files:
        raise ValueError("file must name at least one file, got an empty sequence.")
    return [read(File(each), names, asked.path, delimiter, decimal) for each in files]


def _measured(asked: _Asked, runs: list[_Run], pad: bool = False) -> Measured:
    """One batch; the shorter trajectories hold their last sample, if they may."""
    first, most = runs[0], max(len(run.ts) for run in runs)
    for run in runs:
        if len(run.ts) != len(first.ts) and not pad:
            raise ValueError(
                f"Trajectories differ in length: {first.name} has {len(first.ts)} samples, {run.name} has {len(run.ts)}. "
                "Give pad=True: the shorter ones then hold their last sample, which adds neither work nor heat. Or use "
                "thermojax.measured.read_each(...), which returns a list, and price them one by one."
            )
    lengths = np.array([len(run.ts) for run in runs])
    ts, xs, controls = (
        jtu.tree_map(lambda *leaves: jnp.asarray(np.stack(leaves)), *parts)
        for parts in zip(*(_longer(run, most)[1:] for run in runs), strict=True)
    )
    unequal = jnp.asarray(lengths) if lengths.min() < most else None
    periods = [asked.periods().get(c, np.inf) for c in asked.coordinates()]
    turns = jnp.asarray(np.tile(periods, (len(runs), 1))) if np.isfinite(periods).any() else None
    return Measured(Path(ts, xs, jnp.ones(len(runs), bool)), controls, unequal, turns)


def _longer(run: _Run, most: int) -> _Run:
    """The run with its last sample held until it has `most`, in steps of the usual length."""
    more = most - len(run.ts)
    if not more:
        return run
    last = lambda v: np.concatenate([v, np.repeat(v[-1:], more, axis=0)])
    late = run.ts[-1] + np.median(np.diff(run.ts)) * np.arange(1, more + 1)
    ts = np.concatenate([run.ts, late])
    _checks.resolved(f"times of {run.name}, made longer", ts, np.diff(ts).min())
    return _Run(run.name, ts, last(run.xs), jtu.tree_map(last, run.controls))


def _runs(asked: _Asked, tables: list[Table]) -> list[_Run]:
    coordinates, driven, periods = asked.coordinates(), _names(asked.controls), asked.periods()
    partners, angles = asked.partners(), [periods[c] for c in coordinates if c in periods]
    runs, gaps, far, cut, unsure, uneven = [], [], [], [], [], []
    for table in tables:
        for name, rows in table.trajectories():
            ts = table.rising(asked.time, rows)
            steps = np.diff(ts)
            long = np.flatnonzero(steps > GAP * np.median(steps))
            gaps += [(steps[i] / np.median(steps), table.at(rows[i + 1])) for i in long]
            columns = {c: table.column(c, rows) for c in (*coordinates, *driven)}
            for c, period in periods.items():
                columns[c] = _continuous(table, rows, c, columns[c], period)
            for c, near in partners.items():
                turns = {round((columns[x][0] - columns[c][0]) / periods[c]) for x in near}
                if len(turns) == 1:
                    columns[c] = columns[c] + turns.pop() * periods[c]
                else:
                    unsure.append((c, near, name))
            if isinstance(asked.time, str):
                uneven += table.uneven(asked.time, rows, ts)
                _resolved(table, asked.time, ts, steps.min())
            for c in coordinates:
                _resolved(table, c, columns[c], np.sqrt(np.mean(np.diff(columns[c]) ** 2)))
                if c not in periods:
                    far += _far(table, rows, c, columns[c])
            for c in dict.fromkeys(c for c in driven if c not in coordinates):
                if c not in periods:
                    cut += _cut(table, rows, c, columns[c], angles)
                kept = {"what": "differences", "finest": RANGE}
                _checks.resolved(
                    f"{table.source}, column {c!r}", columns[c], np.ptp(columns[c]), **kept
                )
            xs = np.stack([columns[c] for c in coordinates], -1)
            runs.append(_Run(name, ts, xs, _tree(asked.controls, columns)))
    if uneven:
        _warn(uneven[0], level=4)
    if far:
        more = f" ({len(far)} trajectories have such steps.)" if len(far) > 1 else ""
        _warn(far[0] + more, level=4)
    if cut:
        where, c, period = cut[0]
        whole = {**periods, c: period}
        _warn(
            f"{where}: a step of the control is about a whole turn of {period:.6g}, and no other comes near. If {c!r} is an "
            "angle that is cut, its period must be given by name, a number is for positions alone: period={"
            + ", ".join(f"{name!r}: {value:.6g}" for name, value in whole.items())
            + "}, with every position that is measured from the same mark, itself cut or not.",
            level=4,
        )
    if unsure:
        c, near, name = unsure[0]
        _warn(
            f"{name}, column {c!r}: the control is an angle of the same period as the positions {near}, which start on "
            f"different turns as it sees them: it is left on its own ({len(unsure)} such columns in all trajectories). "
            "Unless the potential has this period, give as many controls as positions, in their order, or make the columns "
            "continuous (numpy.unwrap), and leave them out of period.",
            level=4,
        )
    if gaps:
        most, where = max(gaps)
        _warn(
            f"{len(gaps)} steps of time are longer than {GAP} times the usual one, the longest {most:.3g} times, up to "
            f"{where}: lost frames? They are taken as they are.",
            level=4,
        )
    return runs


def _warn(message: str, level: int = 5) -> None:
    warnings.warn(message, stacklevel=level)


def _parts(controls: Any) -> list[list[str]]:
    """The names of each control."""
    if controls is None:
        return []
    if isinstance(controls, Mapping):
        return [names for part in controls.values() for names in _parts(part)]
    return [[controls] if isinstance(controls, str) else list(controls)]


def _names(controls: Any) -> list[str]:
    return [name for part in _parts(controls) for name in part]


def _tree(controls: Any, columns: dict[str, np.ndarray]) -> Control:
    if controls is None:
        return None
    if isinstance(controls, Mapping):
        return {key: _tree(part, columns) for key, part in controls.items()}
    if isinstance(controls, str):
        return columns[controls]
    return np.stack([columns[name] for name in controls], -1)


def _resolved(table: Table, column: str, x: np.ndarray, step: float) -> None:
    """Refuse numbers whose steps the precision of JAX's floats would swallow."""
    _checks.resolved(f"{table.source}, column {column!r}", x, step)


def _continuous(
    table: Table, rows: np.ndarray, column: str, x: np.ndarray, period: float
) -> np.ndarray:
    """An angle without its cuts."""
    out = np.unwrap(x, period=period)
    steps = abs(np.diff(out))
    i = int(np.argmax(steps))
    if steps[i] > COARSE * period:
        _warn(
            f"{table.at(rows[i + 1])}, column {column!r}: a step of {steps[i]:.4g} is near half of the period {period:.4g}: "
            "which way it went is not sure. Sample faster."
        )
    return out


def _cut(
    table: Table, rows: np.ndarray, column: str, x: np.ndarray, angles: list[float]
) -> list[tuple[str, str, float]]:
    """Where a control looks like an angle that is cut, by the periods of the positions or else by a full turn: as it goes
    on behind the cut as before, a jump by a whole turn is not longer or shorter than that by more than its usual steps."""
    period = cut_at(x, angles, 0.5) if angles else cut_at(x)
    if period is None:
        return []
    steps = abs(np.diff(x))
    jumps = steps > 0.5 * period
    if abs(steps[jumps] - period).max() > 2 * steps[~jumps].max():
        return []
    i = int(np.argmax(jumps))
    return [(f"{table.at(rows[i + 1])}, column {column!r}", column, period)]


def _far(table: Table, rows: np.ndarray, column: str, x: np.ndarray) -> list[str]:
    """What is to be said of steps far outside the others: an angle that is cut, a glitch."""
    steps = abs(np.diff(x))
    period = cut_at(x)
    usual = np.sqrt(np.mean(np.sort(steps)[: int(np.ceil(0.9 * len(steps)))] ** 2))
    i = int(np.argmax(steps))
    alone = len(steps) > 8 and usual > 0 and steps[i] > max(FAR * usual, 0.5 * np.ptp(x))
    if period is None and not alone:
        return []
    cure = "numpy.pi * 2 or 360, say" if period is None else f"{period:.6g}"
    return [
        f"{table.at(rows[i + 1])}, column {column!r}: a step of {steps[i]:.4g} is far outside the others, which are "
        f"{usual:.2g}. If the column is an angle that is cut at a full turn, give period={cure}; if it is a glitch, "
        "delete the row."
    ]
