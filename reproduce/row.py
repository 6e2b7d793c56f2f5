"""One number: what it is, who has it, theirs, ours, and how far the two may be apart."""

import math
from typing import NamedTuple


class Row(NamedTuple):
    """`exact` by a formula or to all its digits, `theirs` as printed; `error` is one standard error of ours (None: without
    chance); `within` is the |ours - exact| that is allowed, of theirs where nothing is exact; at most `at_most`, if given.
    """

    what: str
    source: str
    exact: float | None
    ours: float
    within: float | None = None
    error: float | None = None
    theirs: float | None = None
    at_most: float | None = None

    @property
    def passes(self) -> bool:
        if self.at_most is not None:
            return self.ours <= self.at_most
        there = self.theirs if self.exact is None else self.exact
        within = self.within if self.within is not None else 4 * (self.error or 0.0)
        return there is not None and math.isfinite(self.ours) and abs(self.ours - there) <= within


def from_json(row: dict) -> Row:
    """The row of a list "reproduced" that an example has written."""
    known = {name: row[name] for name in Row._fields if name in row}
    known |= {"source": row.get("source") or "", "exact": row.get("exact")}
    return Row(**known)
