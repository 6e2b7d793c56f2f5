"""Holds a page to what it says its code prints: `print(work.mean())  # 9.2 within 0.1`.

The comment's numbers up to its first other word are what is printed, in that order: each to a unit of its last digit, or,
after `within`, to so much; an estimate to four of its standard errors, too. `0 to rounding` is less than 1e-4. What a loop
prints one round after the other stands with a `then` between.
"""

import inspect
import io
import re

import numpy as np

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?:/(\d+))?|True|False")
BETWEEN = re.compile(r"\s*(?:,|;|and)?\s*")
WITHIN = re.compile(r"within (?:\w+ )*?(\d[\d.e-]*)")
PRINT = re.compile(r"\s*print\(.*\)  # (.*)")


def claims(said: str) -> list[tuple[float | bool, float]]:
    """What a comment says is printed, and how nearly."""
    found, at = [], 0
    while number := NUMBER.match(said, at):
        if not re.match(r"[\s,;:.=()]|$", said[number.end() :]):
            break  # "2d", "64-mode"
        if number[1] is None:
            found.append((number[0] == "True", 0.0))
        else:
            digits, _, power = number[1].partition("e")
            after = len(digits.partition(".")[2])
            unit = 10.0 ** (float(power or 0) - after) if after else 0.02 * abs(float(number[1]))
            found.append((float(number[1]) / float(number[2] or 1), unit))
        at = BETWEEN.match(said, number.end()).end()
    if wide := WITHIN.search(said):
        found = [(value, max(unit, float(wide[1].rstrip(".")))) for value, unit in found]
    elif "rounding" in said:
        found = found or [(0.0, 0.0)]
        found = [(value, max(unit, 1e-4)) for value, unit in found]
    return found


def flat(thing) -> list[tuple[float | bool, float]]:
    """The numbers of what is printed, an estimate's with its error."""
    if isinstance(thing, str):
        return []
    if hasattr(thing, "stderr"):
        return [(float(thing.value), 4 * float(thing.stderr))]
    if isinstance(thing, (tuple, list)):
        return [number for part in thing for number in flat(part)]
    try:
        return [(number, 0.0) for number in np.asarray(thing).ravel().tolist()]
    except (TypeError, ValueError):
        return []


class Printed:
    """A `print` that compares what it is given with the comment at the end of the caller's line."""

    def __init__(self, text: str):
        self.lines, self.rounds, self.held = text.splitlines(), {}, 0

    def __call__(self, *things, **named):
        print(
            *things, **(named | {"file": io.StringIO()})
        )  # what it cannot print is an error here, too
        at = inspect.currentframe().f_back.f_lineno
        told = PRINT.fullmatch(self.lines[at - 1])
        if told is None:
            return
        rounds = re.split(r"[,;]? then ", told[1])
        said = claims(rounds[min(self.rounds.get(at, 0), len(rounds) - 1)])
        self.rounds[at] = self.rounds.get(at, 0) + 1
        printed = flat(things)
        if len(said) > len(printed) > 0 or (said and not printed):
            raise AssertionError(f"line {at} says {said}, but prints only {printed}")
        for (value, near), (number, error) in zip(said, printed, strict=False):
            if not abs(float(number) - float(value)) <= max(near, error):
                raise AssertionError(
                    f"line {at} says {value}, within {max(near, error):.2g}, but prints {number}"
                )
            self.held += 1
