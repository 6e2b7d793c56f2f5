"""Columns of numbers from a text file as a lab's instruments write it, and what is wrong with them by line and column."""

import codecs
import csv
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._cells import numbers, units
from ._names import Comment, names_of, place, rows_of, similar
from ._quick import columns
from ._table import MISSING, Table


def read(
    file: Path, names: list[str], path: str | None, delimiter: str | None, decimal: str | None
) -> Table:
    """The columns `names`, as numbers, and the column `path`, as text."""
    source, encoding = str(file), _encoding(file)
    wanted = names if path is None else [*names, path]
    with file.open(encoding=encoding, errors="replace", newline="") as stream:
        lines = _Lines(stream)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{file} holds no data: it is empty, or all comments.")
        number, comments = lines.number, lines.comments
        second = lines.peek()
        header = names_of(source, (number, first), second, comments, wanted, delimiter)
        if header.commented:
            lines.back(number, first)
            number -= 1
        places = [place(source, header.cells, name) for name in wanted]
        count = len(header.cells)
        cells = columns(file, encoding, number, header.delimiter, count, places)
        if cells is None:
            rows = _rows(source, lines, header.delimiter, count)
            cells, where = _taken(rows, places)
        else:
            where = number + 1 + np.arange(len(cells[0]))
    if len(where) and units([column[0] for column in cells[: len(names)]]):
        cells, where = [column[1:] for column in cells], where[1:]  # one row of units, and no other
    if not len(where):
        raise ValueError(f"{file} has names of columns, and no row of numbers under them.")
    ids = None if path is None else _ids(source, path, cells.pop(), where)
    named = dict(zip(names, cells, strict=True))
    return Table(source, numbers(source, named, where, decimal), ids, where)


def _rows(
    source: str, lines: "_Lines", delimiter: str, count: int
) -> Iterator[tuple[int, list[str]]]:
    """Each row of `count` cells, and the number of its line."""
    try:
        for row in rows_of(lines, delimiter):
            if not row[0] and not "".join(row).strip():
                continue
            if len(row) != count and (len(row) < count or "".join(row[count:]).strip()):
                raise ValueError(
                    f"{source}, line {lines.number}: {len(row)} cells under {count} names. A row cut off is to be "
                    "deleted; decimal commas need another delimiter than the comma, or quotes."
                )
            yield lines.number, row
    except csv.Error as error:
        raise ValueError(
            f"{source}, line {lines.number}: {error}. Is there a quotation mark without its partner?"
        ) from error


def _taken(
    rows: Iterator[tuple[int, list[str]]], places: list[int]
) -> tuple[list[Sequence[str]], np.ndarray]:
    """The cells at `places` by column, and the lines of the rows."""
    get = operator.itemgetter(*places, places[0])  # two at least: a tuple
    at, taken = [], []
    for number, row in rows:
        at.append(number)
        taken.append(get(row))
    cells: list[Sequence[str]] = [*zip(*taken, strict=True)] or [() for _ in places]
    return cells[: len(places)], np.array(at)


class _Lines:
    """The lines of a stream without comments and empty ones; `number` of the last, and the comments before the first."""

    def __init__(self, stream: Any):
        self.stream, self.number, self.comments = stream, 0, []
        self.began, self.waiting = False, []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.waiting:
            self.number, line = self.waiting.pop(0)
            return line
        for line in self.stream:
            self.number += 1
            if line.isspace():
                continue
            text = line.lstrip()
            if not text.startswith(("#", "%")):
                self.began = True
                return line
            if not self.began and text.strip("#% \t\r\n"):
                self.comments.append(Comment(text.lstrip("#%"), text[0]))
        raise StopIteration

    def peek(self) -> str | None:
        """The line that comes next, left in its place."""
        number = self.number
        line = next(self, None)
        if line is not None:
            self.back(self.number, line)
        self.number = number
        return line

    def back(self, number: int, line: str) -> None:
        """Put a line back."""
        self.waiting.insert(0, (number, line))


def _encoding(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            head = stream.read(65536)
    except FileNotFoundError:
        near = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise FileNotFoundError(
            f"There is no file {str(file)!r} (looked in {str(file.parent.absolute())!r})."
            f"{similar(file.name, near)}"
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


def _ids(source: str, path: str, column: Sequence[str], lines: np.ndarray) -> list[str]:
    ids = [cell.strip() for cell in column]
    for i, name in enumerate(ids):
        if name.lower() in MISSING:
            raise ValueError(
                f"{source}, line {lines[i]}, column {path!r}: the trajectory's name is missing ({name!r}). "
                "Fill it in, or delete the row."
            )
    return ids
