"""A large plain table read by pandas, where it is installed: the same cells as line by line, in a fraction of the time."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ._names import spaced

LARGE = 2**20  # bytes from which pandas is worth its import
ROWS = 2**16  # read at once: of a wide table only the columns asked for are kept
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
    found: list[list[str]] = [[] for _ in places]
    with file.open(encoding=encoding, errors="replace") as stream:
        for _ in range(skip):
            stream.readline()
        try:
            parts = pd.read_csv(
                _Plain(stream, delimiter == " "),
                sep=r"\s+" if delimiter == " " else delimiter,
                skipinitialspace=spaced(delimiter),
                header=None,
                index_col=False,
                dtype=object,
                na_filter=False,
                skip_blank_lines=False,
                quoting=csv.QUOTE_NONE,
                chunksize=ROWS,
            )
            for part in parts:
                if part.shape[1] != count or not all(map(str.strip, part[count - 1])):
                    return None
                for cells, place in zip(found, places, strict=True):
                    cells += part[place].tolist()
        except ValueError:
            return None
    return [*found]


class _Plain(io.TextIOBase):
    """A stream that stops at the first character of `OTHER`, or that is not ASCII."""

    def __init__(self, stream: TextIO, ascii_only: bool):
        self.stream, self.ascii_only = stream, ascii_only

    def read(self, size: int | None = -1) -> str:
        text = self.stream.read(-1 if size is None else size)
        if any(mark in text for mark in OTHER) or (self.ascii_only and not text.isascii()):
            raise ValueError("This table is to be read line by line.")
        return text
