"""A large plain table read by pandas, where it is installed: the same cells as line by line, in a sixth of the time."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ._names import spaced

LARGE = 2**20  # characters from which pandas is worth its import
OTHER = '"#%\0\v\f\x1c\x1d\x1e\x1f'  # quotes, comments and rare white space are for the reader that goes line by line


def columns(
    file: Path, encoding: str, skip: int, delimiter: str, count: int, places: list[int]
) -> list[Sequence[str]] | None:
    """The cells at `places` of all lines below the first `skip`, as text, if each line is a plain row of `count` cells.

    `None` if not: a quotation mark, a comment, an empty line, a row of another length or with nothing in its last cell;
    also where the table is small, or pandas is not there.
    """
    if file.stat().st_size < LARGE:
        return None
    try:
        import pandas as pd
    except ImportError:
        return None
    with file.open(encoding=encoding, errors="replace", newline="") as stream:
        for _ in range(skip):
            stream.readline()
        text = stream.read()
    if any(mark in text for mark in OTHER) or text.count("\r") != text.count("\r\n"):
        return None
    if delimiter == " " and not text.isascii():
        return None
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=r"\s+" if delimiter == " " else delimiter,
            skipinitialspace=spaced(delimiter),
            header=None,
            index_col=False,
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
        )
    except ValueError:
        return None
    if frame.shape[1] != count or not all(map(str.strip, frame[count - 1])):
        return None
    return [frame[i].tolist() for i in places]
