"""Checks the annotations of the package while the tests run: in a user's session nothing does."""

from collections import Counter

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
OFTEN = 20  # jaxtyping asks twice for each function: for its arguments, and with what it returns
made: Counter = Counter()


def checked(fn):
    """A function in a function is made anew at each call of that one, with its checks: the first times are enough."""
    if "<locals>" in fn.__qualname__:
        made[fn.__module__, fn.__qualname__] += 1
        if made[fn.__module__, fn.__qualname__] > OFTEN:
            return fn
    return check(fn)
