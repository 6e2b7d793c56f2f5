"""Columns of numbers, wherever they come from, and the trajectories that their rows make."""

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._types import Given

MISSING = {"", "-", "--", "na", "n/a", "nan", "none", "null", "nat", "<na>", "#n/a"}
GRAIN = 1e-3  # of a step: a rounding of the clock that is told
COARSE = 0.1  # share of repeated times from which the clock is at fault, and not a row


class Table(NamedTuple):
    """The columns asked for, with the trajectory's name and the number of each row at its source."""

    source: str
    numbers: dict[str, np.ndarray]
    ids: list[str] | None
    lines: np.ndarray
    row: str = "line"

    def at(self, row: Any) -> str:
        return f"{self.source}, {self.row} {self.lines[row]}"

    def trajectories(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and rows of each."""
        if self.ids is None:
            yield self.source, np.arange(len(self.lines))
            return
        seen: dict[str, int] = {}
        codes = np.array([seen.setdefault(name, len(seen)) for name in self.ids])
        order = np.argsort(codes, kind="stable")
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        for name, rows in zip(seen, np.split(order, cuts), strict=True):
            yield f"trajectory {name!r} of {self.source}", rows

    def column(self, name: str, rows: np.ndarray) -> np.ndarray:
        """In float64."""
        return _plain(self.numbers[name][rows])

    def rising(self, time: str | float, rows: np.ndarray) -> np.ndarray:
        """The times of a trajectory, from zero, in float64; whole numbers, dates and durations are subtracted as such."""
        if len(rows) < 2:
            raise ValueError(
                f"{self.at(rows[0])} is the only sample of its trajectory: a step takes two. "
                "Delete it, or check the column named by path=."
            )
        if not isinstance(time, str):
            return np.arange(len(rows)) * time
        given = self.numbers[time][rows]
        exact = (
            given
            if given.dtype.kind in "im"
            else given.astype(np.promote_types(given.dtype, float))
        )
        since = _plain(exact - exact[0])
        steps = np.diff(since)
        late = np.flatnonzero(steps <= 0)
        if not len(late):
            return since
        i, ts = late[0], _plain(given)
        here = (
            f"{self.at(rows[i + 1])}, column {time!r}: {ts[i + 1]!s} does not come after {ts[i]!s} of {self.row} "
            f"{self.lines[rows[i]]}. "
        )
        several = (
            "If the rows are those of several trajectories, name the column that tells them apart: "
            "path=..."
        )
        if (steps >= 0).all() and len(late) >= max(2, COARSE * len(steps)):
            mean = (ts[-1] - ts[0]) / (1 + np.flatnonzero(steps).max(initial=0))  # by whole ticks
            raise ValueError(
                f"{here}{len(late)} of {len(steps)} steps repeat a time: if the clock is coarser than the sampling, keep "
                f"all rows and give the interval between two of them in the place of the column, about time={mean:.4g}. "
                f"{several}"
            )
        raise ValueError(f"{here}Sort the rows and delete repeated ones. {several}")

    def uneven(self, time: str, rows: np.ndarray, since: np.ndarray) -> list[str]:
        """What is to be said of a clock whose own rounding makes its steps uneven."""
        ts = self.numbers[time][rows]
        if ts.dtype.kind != "f":
            return []
        top = np.abs(ts).max()
        rounding, step = float(np.spacing(top)), float(np.median(np.diff(since)))
        if rounding <= GRAIN * step or (rounding <= 1 and (ts == np.round(ts)).all()):
            return []
        whole = ", or one of whole numbers or dates" if self.row == "row" else ""
        return [
            f"{self.source}, column {time!r}: {ts.dtype} rounds times up to {top:.6g} to {rounding:.1g}, and the steps are "
            f"about {step:.2g}: they come out uneven. If they are even, give the interval in the place of the column, about "
            f"time={since[-1] / (len(since) - 1):.4g}; or a clock that starts near zero{whole}."
        ]


def from_mapping(
    columns: Given, names: list[str], path: str | None, source: str = "columns"
) -> Table:
    """The columns `names` of a mapping of arrays: one number per row, `(rows,)`, or `(paths, times)`."""
    wanted = names if path is None else [*names, path]
    given = {name: _filled(_column(columns, name)) for name in wanted}
    shapes = {name: column.shape for name, column in given.items()}
    full = max(shapes.values(), key=len, default=())
    if len(full) not in (1, 2) or (len(full) == 2 and path is not None):
        raise ValueError(
            f"columns must be arrays of shape (rows,), or without path= also (paths, times); got {shapes}."
        )
    for name, shape in shapes.items():
        if shape != full and shape != full[1:]:
            raise ValueError(
                f"columns must have one length, or one shape (paths, times); got {shapes}: column {name!r} does not fit."
            )
    if not np.prod(full):
        raise ValueError(f"columns hold no rows: got shapes {shapes}.")
    given = {name: np.broadcast_to(column, full).reshape(-1) for name, column in given.items()}
    lines = np.arange(int(np.prod(full)))
    ids = None
    if path is not None:
        ids = [str(v) for v in given.pop(path)]
        for i, name in enumerate(ids):
            if name.strip().lower() in MISSING:
                raise ValueError(
                    f"{source}, row {i}, column {path!r}: the trajectory's name is missing ({name!r})."
                )
    elif len(full) == 2:
        ids = [str(i) for i in np.repeat(np.arange(full[0]), full[1])]
    numbers = {name: _numbers(source, name, column) for name, column in given.items()}
    return Table(source, numbers, ids, lines, "row")


def _column(columns: Given, name: str) -> Any:
    try:
        return columns[name]
    except (KeyError, IndexError) as error:
        there = ", ".join(map(repr, list(columns)[:20]))
        raise ValueError(f"columns has no {name!r}. It has: {there}.") from error


def _filled(column: Any) -> np.ndarray:
    """As numpy; what a mask hides is missing."""
    if not np.ma.is_masked(column):
        return np.asarray(column)
    if column.dtype.kind in "mM":
        return column.filled(np.array("NaT", column.dtype))
    if column.dtype.kind in "iuf":
        return column.astype(float).filled(np.nan)
    return column.astype(object).filled("")


def _plain(numbers: np.ndarray) -> np.ndarray:
    """In float64, durations in seconds."""
    if numbers.dtype.kind == "m":
        return numbers / np.timedelta64(1, "s")
    return numbers.astype(float)


def _numbers(source: str, name: str, column: np.ndarray) -> np.ndarray:
    """Every entry as a finite number, dates as the time since the first; of whole numbers and durations every digit."""
    if column.dtype.kind in "mM":
        if np.isnat(column).any():
            i = int(np.argmax(np.isnat(column)))
            raise ValueError(f"{source}, row {i}, column {name!r}: the value is missing (NaT).")
        return column - column[0] if column.dtype.kind == "M" else column
    if column.dtype.kind == "O" and all(isinstance(v, datetime.datetime) for v in column):
        known = [v for v in column if v == v]  # dates with a time zone; pandas' NaT is no number
        since: list[Any] = [v - known[0] if v == v else np.timedelta64("NaT") for v in column]
        exact = [getattr(v, "to_timedelta64", lambda v=v: v)() for v in since]
        return _numbers(source, name, np.array(exact, "timedelta64[ns]"))
    if column.dtype.kind not in "iufO":
        raise TypeError(
            f"{source}, column {name!r} must be real numbers, got {column.dtype}: {column.reshape(-1)[0]!r}. "
            "Convert it, column.astype(float)."
        )
    try:
        values = column.astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{source}, column {name!r} must be real numbers: {error}. Convert it, column.astype(float)."
        ) from error
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        i = int(bad[0])
        what = "the value is missing" if np.isnan(values[i]) else "not a finite number"
        raise ValueError(
            f"{source}, row {i}, column {name!r}: {what} ({column[i]!s}). Correct it, or delete the row: steps need not "
            "be even."
        )
    if column.dtype.kind in "iu" and values.max() < 2**63:
        return column.astype(np.int64)
    return column if column.dtype.kind == "f" else values
