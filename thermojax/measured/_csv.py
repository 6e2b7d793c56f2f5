"""Columns of numbers from a text file as a lab's instruments write it, and what is wrong with them by line and column."""

import codecs
import csv
import difflib
import operator
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MISSING = {"", "-", "--", "na", "n/a", "nan", "none", "null", "#n/a"}


class Table(NamedTuple):
    """The columns asked for, in float64, with the trajectory's name and the line number of each row."""

    file: Path
    numbers: dict[str, np.ndarray]
    ids: list[str] | None
    lines: np.ndarray

    def at(self, row: Any) -> str:
        return f"{self.file}, line {self.lines[row]}"

    def trajectories(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and rows of each."""
        if self.ids is None:
            yield str(self.file), np.arange(len(self.lines))
            return
        seen: dict[str, int] = {}
        codes = np.array([seen.setdefault(name, len(seen)) for name in self.ids])
        order = np.argsort(codes, kind="stable")
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        for name, rows in zip(seen, np.split(order, cuts), strict=True):
            yield f"trajectory {name!r} of {self.file}", rows

    def rising(self, time: str, rows: np.ndarray) -> np.ndarray:
        """The times of a trajectory, from zero, in float64."""
        ts = self.numbers[time][rows]
        if len(ts) < 2:
            raise ValueError(
                f"{self.at(rows[0])} is the only sample of its trajectory: a step takes two. "
                "Delete it, or check the column named by path=."
            )
        late = np.flatnonzero(np.diff(ts) <= 0)
        if len(late):
            i = late[0]
            raise ValueError(
                f"{self.at(rows[i + 1])}, column {time!r}: {ts[i + 1]!s} does not come after {ts[i]!s} of line "
                f"{self.lines[rows[i]]}. Sort the rows and delete repeated ones; if the file holds several trajectories, "
                "name the column that tells them apart: path=..."
            )
        return ts - ts[0]


def read(file: Path, names: list[str], path: str | None, delimiter: str | None) -> Table:
    """The columns `names`, as numbers, and the column `path`, as text."""
    with file.open(encoding=_encoding(file), errors="replace", newline="") as stream:
        lines = _Lines(stream)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{file} holds no data: it is empty, or all comments.")
        split = delimiter or _delimiter(first)
        header, units = _cells(first, split), True
        source: Iterator[str] = lines
        if all(map(_number, header)):  # numbers: the names stand in the comment above them
            if lines.comment is None:
                raise ValueError(
                    f"{file}, line {lines.number}: the columns have no names, {first.strip()[:60]!r} is a row of numbers. "
                    'Put a line of names on top, such as "time,x,trap".'
                )
            header = _cells(lines.comment, delimiter or _delimiter(lines.comment))
            source, units = _again(first, lines), False
        while header and not header[-1]:  # a delimiter at the end of the line
            header.pop()
        wanted = names if path is None else [*names, path]
        get = operator.itemgetter(*(_find(file, header, name) for name in wanted))
        taken, numbers = [], []
        for row in _parsed(file, lines, _rows(source, split)):
            if not row[0] and not "".join(row).strip():
                continue
            if len(row) != len(header) and (len(row) < len(header) or "".join(row[len(header) :])):
                raise ValueError(
                    f"{file}, line {lines.number}: {len(row)} cells under {len(header)} names. A row cut off is to be "
                    "deleted; decimal commas need another delimiter than the comma, or quotes."
                )
            cells = get(row)
            if units and _units(cells[: len(names)]):
                continue
            units = False
            taken.append(cells)
            numbers.append(lines.number)
    if not taken:
        raise ValueError(f"{file} has names of columns, and no row of numbers under them.")
    columns, where = list(zip(*taken, strict=True)), np.array(numbers)
    ids = None if path is None else _ids(file, path, columns.pop(), where)
    return Table(file, _decimals(file, dict(zip(names, columns, strict=True)), where), ids, where)


class _Lines:
    """The lines of a stream without comments and empty ones; `number` of the last, and the last comment with text."""

    def __init__(self, stream: Any):
        self.stream, self.number, self.comment = stream, 0, None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self.stream:
            self.number += 1
            if line.isspace():
                continue
            if not line.lstrip().startswith(("#", "%")):
                return line
            self.comment = line.strip().lstrip("#%").strip() or self.comment
        raise StopIteration


def _parsed(file: Path, lines: _Lines, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {lines.number}: {error}. Is there a quotation mark without its partner?"
        ) from error


def _again(first: str, lines: _Lines) -> Iterator[str]:
    yield first
    yield from lines


def _encoding(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            head = stream.read(65536)
    except FileNotFoundError:
        near = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise FileNotFoundError(
            f"There is no file {str(file)!r} (looked in {str(file.parent.absolute())!r})."
            f"{_similar(file.name, near)}"
        ) from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        raise ValueError(f"{file} is not a text file. Save the table as CSV.")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _delimiter(line: str) -> str:
    return next((mark for mark in "\t;," if mark in line), " ")


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(_rows(iter([line]), delimiter), [])]


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    if delimiter == " ":
        return (line.split() for line in lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t")


def _find(file: Path, header: list[str], name: str) -> int:
    plain = [unicodedata.normalize("NFKC", cell) for cell in header]  # two characters look like µ
    wanted = unicodedata.normalize("NFKC", name.strip())
    found = [i for i, cell in enumerate(plain) if cell == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{file} has {len(found)} columns named {name!r}. Give each its own name.")
    there = ", ".join(map(repr, header[:20])) + (", ..." if len(header) > 20 else "")
    raise ValueError(
        f"{file} has no column {name!r}.{_similar(name, header)} Its first line has: {there}. Lines before the names "
        "must start with #; another delimiter than the one found is given as delimiter=."
    )


def _similar(name: str, names: list[str]) -> str:
    lower = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.strip().casefold(), lower, 1, 0.5)
    return f" Did you mean {lower[near[0]]!r}?" if near else ""


def _ids(file: Path, path: str, column: tuple[str, ...], lines: np.ndarray) -> list[str]:
    ids = [cell.strip() for cell in column]
    for i, name in enumerate(ids):
        if name.lower() in MISSING:
            raise ValueError(
                f"{file}, line {lines[i]}, column {path!r}: the trajectory's name is missing ({name!r}). "
                "Fill it in, or delete the row."
            )
    return ids


def _decimals(
    file: Path, columns: dict[str, tuple[str, ...]], lines: np.ndarray
) -> dict[str, np.ndarray]:
    """Every cell as a number."""

    def first(mark: str) -> str | None:
        return next((c for column in columns.values() for c in column if mark in c), None)

    comma, point = first(","), first(".")
    if comma is not None and point is not None:
        raise ValueError(
            f"{file} has numbers with a comma ({comma.strip()!r}) and with a point ({point.strip()!r}): which one is "
            "decimal? Export it with one of them and without thousands separators."
        )
    out = {}
    for name, column in columns.items():
        cells = [c.replace(",", ".") for c in column] if comma else column
        try:
            values = np.fromiter(map(float, cells), float, len(cells))
            bad = np.flatnonzero(~np.isfinite(values))
        except ValueError:
            values, bad = np.empty(0), [next(i for i, c in enumerate(cells) if not _number(c))]
        if len(bad):
            i = int(bad[0])
            cell = column[i].strip()
            raise ValueError(
                f"{file}, line {lines[i]}, column {name!r}: "
                + ("the value is missing" if cell.lower() in MISSING else "not a finite number")
                + f" ({cell!r}). Correct the cell, or delete the row: steps need not be even."
            )
        out[name] = values
    return out


def _number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell.replace(",", "."))))
    except ValueError:
        return False


def _units(cells: tuple[str, ...]) -> bool:
    """Words under the names, none of them a number."""
    missing = [cell.strip().lower() in MISSING for cell in cells]
    return not any(map(_number, cells)) and not all(missing)
