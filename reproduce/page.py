"""The page: tables of rows, in words and in Markdown."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from .row import Row

HEAD = """# Reproduced

Every number of theory and literature that the library reproduces, written by

```sh
make reproduce          # all of it: runs the examples that have not been run
make reproduce QUICK=1  # the first half only, and writes no page
```

"Exact" is a closed form or a number known to the digits given, "theirs" what is printed in the source, ± one standard error
of ours where it has one. What is allowed follows from that error, from the digits that are known, or from what a search is
said to reach.

"""


class Table(NamedTuple):
    """Rows of one origin, the command that makes them, and the seconds it took, of which kind (None: not known)."""

    title: str
    text: str
    command: str
    rows: Sequence[Row]
    seconds: tuple[float, str] | None
    page: str | None = None


def number(value: float | None, error: float | None = None) -> str:
    """Enough digits to see the error, or ten."""
    if value is None:
        return ""
    if error:
        digits = max(0, min(9, 1 - int(f"{error:e}".split("e")[1])))
        return f"{value:.{digits}f} ± {error:.{digits}f}"
    return f"{value:.10g}"


def allowed(row: Row) -> str:
    if row.at_most is not None:
        return f"at most {number(row.at_most)}"
    return f"{row.within:.1g}" if row.within is not None else "4 s.e."


def markdown(table: Table, heading: bool = True) -> str:
    took, unit = table.seconds or (0.0, "")
    spent = f" {max(1, round(took))} {unit}." if table.seconds else ""
    link = f" [Page]({table.page})." if table.page else ""
    lines = [f"### {table.title}\n"] if heading else []
    lines += [f"{table.text}`{table.command}`.{spent}{link}\n"]
    theirs = any(row.theirs is not None for row in table.rows)
    names = ["what", "exact", *(["theirs"] if theirs else []), "ours", "may be off by", "verdict"]
    lines += ['<div class="dense" markdown>\n', cells(names), cells(["---"] * len(names))]
    for row in table.rows:
        said = [f"{plain(row.what)}<br><small>{plain(row.source)}</small>", number(row.exact)]
        said += [number(row.theirs)] if theirs else []
        said += [number(row.ours, row.error), allowed(row), "PASS" if row.passes else "**FAIL**"]
        lines.append(cells(said))
    return "\n".join([*lines, "\n</div>\n"])


def cells(said: Sequence[str]) -> str:
    return "| " + " | ".join(said) + " |"


def plain(words: str) -> str:
    """Words that stand in a cell as they are."""
    for mark, instead in (("<", "&lt;"), ("|", "&#124;"), ("*", "&#42;"), ("_", "&#95;")):
        words = words.replace(mark, instead)
    return words


def machine() -> str:
    packages = ("jax", "jaxlib", "equinox", "diffrax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    kind = f"{os.cpu_count()} CPU cores ({platform.machine()}, {platform.system()})"
    return f"{kind}, Python {platform.python_version()}, {versions}"


def page(parts: Sequence[tuple[str, str, Sequence[Table]]], missing: Sequence[str]) -> str:
    """The whole page: parts of a title, a text and tables, and the examples that were not run."""
    rows = [row for _, _, tables in parts for table in tables for row in table.rows]
    bad = sum(not row.passes for row in rows)
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    count = f"**{len(rows)} numbers, {bad or 'none'} off.** Made on {when}: {machine()}.\n"
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        count += f"\nNot run this time, and so not in the tables: {names}.\n"
    text = HEAD + count
    for title, words, tables in parts:
        text += f"\n## {title}\n\n{words}\n"
        text += "".join("\n" + markdown(table, table.title != title) for table in tables)
    return text
