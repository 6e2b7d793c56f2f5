"""Holds a page to what it says its code prints: `print(work.mean())  # 9.2 within 0.1`.

The comment's numbers up to its first other word are what is printed, in that order: each to a unit of its last digit, or,
after `within`, to so much; an estimate to four of its standard errors, too. A whole number without a `within` is meant to
two per cent, 0 and `rounding` to 1e-4; what is said to be reliable, or not, has to be. What a loop prints one round after
the other stands with a `then` between.
"""

import inspect
import re

import numpy as np

NUMBER = re.compile(r"(?:(-?\d+)(\.\d+)?(?:/(\d+))?|True|False)(?=[\s,;:.=]|$)")
BETWEEN = re.compile(r",? (?:and )?")
WITHIN = re.compile(r"within (?:the error of )?(\d+(?:\.\d+)?)")
SAYS = re.compile(r"\s*print\(.*\)  # (.*)")


def claims(said: str) -> list[tuple[float, float]]:
    """What a comment says is printed, and how nearly."""
    found, at = [], 0
    while number := NUMBER.match(said, at):
        whole, digits, below = number.groups()
        if whole is None:
            found.append((float(number[0] == "True"), 0.0))
        else:
            value = float(whole + (digits or "")) / float(below or 1)
            near = 10.0 ** (1 - len(digits)) if digits else max(1e-4, 0.02 * abs(value))
            found.append((value, near))
        between = BETWEEN.match(said, number.end())
        at = between.end() if between else len(said)
    if not found and "rounding" in said:
        found = [(0.0, 1e-4)]
    wide = WITHIN.search(said)
    return [(value, max(near, float(wide[1]) if wide else 0.0)) for value, near in found]


def numbers(thing) -> list[tuple[float, float]]:
    """Those of what is printed, an estimate's with four of its standard errors."""
    if isinstance(thing, str):
        return []
    if hasattr(thing, "value") and hasattr(thing, "stderr"):
        return [(float(thing.value), 4 * float(thing.stderr))]
    if isinstance(thing, (tuple, list)):
        return [number for part in thing for number in numbers(part)]
    try:
        return [(float(number), 0.0) for number in np.ravel(thing)]
    except (TypeError, ValueError):
        return []


class Printed:
    """A `print` that compares what it is given with the comment at the end of the caller's line."""

    def __init__(self, page: str):
        self.lines, self.rounds = page.splitlines(), {}

    def __call__(self, *things, **named):
        print(*things, **named)
        at = inspect.currentframe().f_back.f_lineno
        says = SAYS.fullmatch(self.lines[at - 1])
        if says is None:
            return
        rounds = re.split(r"[,;]? then ", says[1])
        k = self.rounds[at] = self.rounds.get(at, -1) + 1
        said, printed = rounds[min(k, len(rounds) - 1)], numbers(things)
        claimed = claims(said)
        if len(claimed) > len(printed):
            raise AssertionError(f"Line {at} says {said!r}, but prints {things}.")
        for (value, near), (number, error) in zip(claimed, printed, strict=False):
            if not abs(number - value) <= max(near, error):
                raise AssertionError(
                    f"Line {at} says {said!r}, {value} within {max(near, error):.2g}, but prints {number}."
                )
        told = re.search(r"\b(not )?(?<!called )reliable\b", said)
        for thing in things if told else ():
            if bool(getattr(thing, "reliable", not told[1])) != (not told[1]):
                raise AssertionError(f"Line {at} says {said!r}, but prints {thing}.")
