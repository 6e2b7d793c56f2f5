"""Names that were public once: each still works for one release, and says by a `DeprecationWarning` what it is called now.

`RENAMED` holds, by room, old name: (where the old one is kept, what to use now).
"""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

RENAMED = {
    "thermojax.measured": {
        "account": (
            "thermojax.measured._old.account",
            "thermojax.account(data.process(system, initial, final), data.path)",
        ),
    },
}


def renamed(room: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room."""

    def get(name: str) -> Any:
        if name not in RENAMED.get(room, {}):
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        old, now = RENAMED[room][name]
        warnings.warn(
            f"{room}.{name} is now {now}; the old name goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        module, _, attribute = old.rpartition(".")
        return getattr(importlib.import_module(module), attribute)

    return get
