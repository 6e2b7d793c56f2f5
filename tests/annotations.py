"""Checks the annotations of the package while the tests run: in a user's session nothing does.

A function is checked the first times that a file of tests calls it: most calls of a file are alike, and the checks of all of
them took an eighth of the suite's time.
"""

import dataclasses
import functools
import inspect
from collections import Counter

import jaxtyping
from beartype import BeartypeConf, beartype

OFTEN = 20
calls: Counter = Counter()  # of each function, in this file of tests
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def sparing(jaxtyped):
    """`jaxtyping.jaxtyped`, of a function for its first calls only."""

    def decorator(*, typechecker):
        check = jaxtyped(typechecker=typechecker)

        def decorate(thing):
            if inspect.isclass(thing):
                init = thing.__init__
                if dataclasses.is_dataclass(thing) and not hasattr(init, "sparing"):
                    thing.__init__ = decorate(init)
                return thing
            name = thing.__module__, thing.__qualname__
            # one within a function is made anew at each call of that one
            if "<locals>" in thing.__qualname__ and calls[name] >= OFTEN:
                return thing
            full = check(thing)

            @functools.wraps(thing)
            def call(*args, **named):
                __tracebackhide__ = True
                if calls[name] >= OFTEN:
                    return thing(*args, **named)
                calls[name] += 1
                return full(*args, **named)

            call.sparing = True
            return call

        return decorate

    return decorator


jaxtyping.jaxtyped = sparing(jaxtyping.jaxtyped)
