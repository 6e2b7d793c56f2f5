"""Which line of a file names its columns, and how its lines are split."""

import csv
import difflib
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from ._cells import number
from ._table import MISSING

MARKS = "\t;,"
BRACKETED = re.compile(r'"[^"]*"|[^\s"]+(?:[ ]+[(\[<{][^)\]>}]*[)\]>}])?')  # x (um) is one name


class Comment(NamedTuple):
    """A comment line: what follows its # or %, and what that was."""

    text: str
    mark: str


class Names(NamedTuple):
    """The names of the columns, the delimiter of the rows, and whether they stood in a comment."""

    cells: list[str]
    delimiter: str
    commented: bool


def names_of(
    source: str,
    first: tuple[int, str],
    second: str | None,
    comments: list[Comment],
    wanted: list[str],
    delimiter: str | None,
) -> Names:
    """The line that has all the names that are wanted: the first that is no comment, or the last such comment above it."""
    candidates = [(False, first[1], list(_readings(first[1], delimiter)), second or "")]
    for comment in reversed(comments):
        candidates.append((True, comment.text, list(_commented(comment, delimiter)), first[1]))
    plain = list(map(_plain, wanted))
    for commented, _, readings, row in candidates:
        complete = [r for r in readings if {*plain} <= {*map(_plain, r[1])}]
        for mark, cells in complete:  # the one that fits the rows, if there is one
            for split in [delimiter] if delimiter else _unique(mark, *MARKS, " "):
                if _fits(rows_of(iter([row]), split), cells):
                    return Names(cells, split, commented)
        if complete:
            mark, cells = complete[0]
            split = delimiter or (marked(row) if commented else mark)
            return Names(cells, split, commented)
    raise _nameless(source, first, candidates, wanted, delimiter)


def _unique(*marks: str) -> list[str]:
    return list(dict.fromkeys(marks))


def _nameless(
    source: str,
    first: tuple[int, str],
    candidates: list[tuple[bool, str, list[tuple[str, list[str]]], str]],
    wanted: list[str],
    delimiter: str | None,
) -> ValueError:
    """What is wrong with the line that has the most of the names."""
    data = _numeric(first[1], delimiter)
    if data:
        candidates = candidates[1:]
    if not candidates:
        return ValueError(
            f"{source}, line {first[0]}: the columns have no names, {first[1].strip()[:60]!r} is a row of numbers. "
            'Put a line of names on top, such as "time,x,trap".'
        )

    def score(cells: list[str]) -> int:
        return len({*map(_plain, wanted)} & {*map(_plain, cells)})

    commented, _, readings, _ = max(candidates, key=lambda c: max(score(r[1]) for r in c[2]))
    _, header = max(readings, key=lambda r: score(r[1]))
    for name in wanted:
        if list(map(_plain, header)).count(_plain(name)) > 1:
            return _twice(source, header, name)
    missing = next(name for name in wanted if _plain(name) not in map(_plain, header))
    there = ", ".join(map(repr, header[:20])) + (", ..." if len(header) > 20 else "")
    where = "Its first line has"
    if commented:
        where = "If its columns have no names, put a line of them on top; the comment above the numbers has"
    return ValueError(
        f"{source} has no column {missing!r}.{similar(missing, header)} {where}: {there}. Lines before the names "
        "must start with #; another delimiter than the one found is given as delimiter=."
    )


def _numeric(line: str, delimiter: str | None) -> bool:
    """A row of numbers, of which some may be missing."""
    cells = next(rows_of(iter([line]), delimiter or marked(line)), [])
    full = [c for c in map(str.strip, cells) if c.lower() not in MISSING]
    return bool(full) and all(map(number, full))


def _commented(comment: Comment, delimiter: str | None) -> Iterator[tuple[str, list[str]]]:
    text = re.sub(r"^!?\s*FIELDS\s", "", comment.text.strip("\r\n"))  # as PLUMED has it
    yield from _readings(text.strip(), delimiter)
    for mark, cells in _readings(text.strip(), delimiter):
        yield mark, [comment.mark, *cells]  # the column of row numbers is called #


def _readings(line: str, delimiter: str | None) -> Iterator[tuple[str, list[str]]]:
    """The line in cells, by each delimiter that it may have."""
    for mark in [delimiter] if delimiter else [*(m for m in MARKS if m in line), " "]:
        if mark != " ":
            yield mark, _trimmed(next(rows_of(iter([line]), mark), []))
            continue
        yield mark, line.split()
        yield mark, [cell.strip('"') for cell in BRACKETED.findall(line)]
        yield mark, re.split(r"\s{2,}|\t", line.strip())


def _trimmed(cells: list[str]) -> list[str]:
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:  # a delimiter at the end of the line
        cells.pop()
    return cells


def _fits(rows: Iterator[list[str]], header: list[str]) -> bool:
    row = next(rows, [])
    return len(row) >= len(header) and not "".join(row[len(header) :]).strip()


def marked(line: str) -> str:
    """The delimiter that a line looks to have."""
    return next((mark for mark in MARKS if mark in line), " ")


def rows_of(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    if delimiter == " ":
        return (line.split() for line in lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced(delimiter))


def spaced(delimiter: str) -> bool:
    """Whether spaces behind it belong to it."""
    return delimiter != "\t"


def place(source: str, header: list[str], name: str) -> int:
    """Where the one column of that name is."""
    found = [i for i, cell in enumerate(header) if _plain(cell) == _plain(name)]
    if len(found) > 1:
        raise _twice(source, header, name)
    return found[0]


def _twice(source: str, header: list[str], name: str) -> ValueError:
    count = list(map(_plain, header)).count(_plain(name))
    return ValueError(f"{source} has {count} columns named {name!r}. Give each its own name.")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip())  # two characters look like µ


def similar(name: str, names: list[str]) -> str:
    lower = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.strip().casefold(), lower, 1, 0.5)
    return f" Did you mean {lower[near[0]]!r}?" if near else ""
