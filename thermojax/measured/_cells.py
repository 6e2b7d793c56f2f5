"""Cells of text as numbers: points, commas, and which of the two is decimal; and what is a row of units."""

import re
from collections.abc import Sequence

import numpy as np

from ._table import MISSING

GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")  # 1,234 or 12,345,678: may be a whole number
THOUSANDS = {
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?([eE][+-]?\d+)?"),
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?([eE][+-]?\d+)?"),
}

# what may stand under a name: s, um, nanometre, kT/µm², (pN), [a.u.], 1/s
_UNIT = (
    r"(?:(?:[yzafpnuµμmcdkMGT]|da|nano|micro|milli|pico|femto|centi|kilo|mega|giga)?"
    r"(?:seconds?|secs?|s|min|minutes?|h|hours?|met(?:er|re)s?|m|microns?|angstr[oö]ms?|Å|A|newtons?|N|joules?|J|"
    r"volts?|V|kelvins?|K|pascals?|Pa|hertz|Hz|rad|radians?|eV|cal|mol|g|grams?|l|L|M|W|watts?|bar|T)"
    r"|°C|°|deg|degrees?|%|kT|kBT|k_BT|kB ?T|px|pixels?|frames?|samples?|turns?|rev|counts?|1)"
    r"(?:\^?[-+]?\d+|\*\*[-+]?\d+|[⁻⁺]?[¹²³⁴])?"
)
UNITS = re.compile(
    rf"[\[(<]?\s*(?:{_UNIT}(?:\s*(?:[/*·.]|per|\s)\s*{_UNIT})*|a\.?u\.?|arb\.?(?:itrary)?(?: ?u(?:\.|nits?))?"
    r"|dimensionless|unitless|none|-|)\s*[\])>]?"
)


def number(cell: str) -> bool:
    try:
        return "_" not in cell and bool(np.isfinite(float(cell.replace(",", "."))))
    except ValueError:
        return False


def units(cells: Sequence[str]) -> bool:
    """Units under the names, in one cell at least, and no other number than 1, nor another word, in any."""
    full = [cell for cell in map(str.strip, cells) if cell.lower() not in MISSING]
    words = [cell for cell in full if cell != "1"]
    return bool(words) and all(UNITS.fullmatch(cell) and not number(cell) for cell in words)


def numbers(
    source: str, columns: dict[str, Sequence[str]], lines: np.ndarray, decimal: str | None
) -> dict[str, np.ndarray]:
    """Every cell as a number."""
    mark = decimal or _decimal(source, columns)
    return {name: _column(source, name, column, lines, mark) for name, column in columns.items()}


def _decimal(source: str, columns: dict[str, Sequence[str]]) -> str:
    """Whether the point or the comma is decimal, where that is beyond doubt."""
    commas = [c.strip() for column in columns.values() for c in _with(",", column)]
    point = next((c for column in columns.values() for c in _with(".", column)), None)
    cure = 'Say which one is decimal: decimal="." or decimal=","; the other one is then a thousands separator.'
    if commas and point is not None:
        raise ValueError(
            f"{source} has numbers with a comma ({commas[0]!r}) and with a point ({point.strip()!r}). {cure}"
        )
    if commas and all(map(GROUPED.fullmatch, commas)):
        if any(c.count(",") > 1 for c in commas):
            return "."  # 1,234,567 has no decimal comma
        raise ValueError(
            f"{source} has numbers such as {commas[0]!r}, which may be {commas[0].replace(',', '')} or "
            f"{commas[0].replace(',', '.')}. {cure}"
        )
    return "," if commas else "."


def _with(mark: str, column: Sequence[str]) -> list[str]:
    """The cells that have the mark; quickly, if none has."""
    return [c for c in column if mark in c] if mark in "".join(column) else []


def _column(
    source: str, name: str, column: Sequence[str], lines: np.ndarray, decimal: str
) -> np.ndarray:
    other = "." if decimal == "," else ","
    cells = column
    if _with(other, column):
        groups = THOUSANDS[other]
        cells = [c.replace(other, "") if groups.fullmatch(c.strip()) else c for c in column]
    if decimal == ",":
        # what has a point still is no number
        cells = ["?" if "." in c else c.replace(",", ".") for c in cells]
    try:
        values = np.fromiter(map(float, cells), float, len(cells))
        bad = np.flatnonzero(~np.isfinite(values))
        if not len(bad) and _with("_", column):
            bad = [next(i for i, c in enumerate(column) if "_" in c)]  # Python's 1_000
    except ValueError:
        values, bad = np.empty(0), [next(i for i, c in enumerate(cells) if not _plain(c))]
    if not len(bad):
        return values
    i = int(bad[0])
    cell = column[i].strip()
    what = "the value is missing" if cell.lower() in MISSING else "not a finite number"
    raise ValueError(
        f"{source}, line {lines[i]}, column {name!r}: {what} ({cell!r}). Correct the cell, or delete the row: steps need "
        "not be even."
    )


def _plain(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
