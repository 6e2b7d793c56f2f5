"""What checks the annotations of the package while the tests run, and none in a user's session."""

from collections import Counter

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
OFTEN = 20
made: Counter = Counter()


def checked(fn):
    """A function in a function is made anew at each call of that one, with its checks: the first times are enough."""
    if "<locals>" in fn.__qualname__:
        made[fn.__module__, fn.__qualname__] += 1
        if made[fn.__module__, fn.__qualname__] > OFTEN:
            return fn
    return check(fn)
