"""Names that were public once: each still works for one release, and says by a `DeprecationWarning` what it is called now.

`RENAMED` holds, by room, old name: (where the old one is kept, what to use now).
"""

import functools as ft
import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

RENAMED = {
    "thermojax.densities": {
        "affine": ("thermojax._affine.affine", "private"),
        "gaussian": (
            "thermojax.densities._old.gaussian",
            "density.normal(), which is None in the place of an error",
        ),
    },
    "thermojax.diffusion": {
        "Score": (
            "thermojax.diffusion._old.Score",
            "diffusion.predictor(net, predicts, kind=kind)",
        ),
        "jump": ("thermojax.diffusion.transition", "diffusion.transition"),
        "walk": (
            "thermojax.diffusion._old.walk",
            "thermojax.sample_path(process, kernel, ts, key)",
        ),
    },
    "thermojax.estimators": {
        "cumulant": ("thermojax.estimators.second_cumulant", "estimators.second_cumulant"),
    },
    "thermojax.measured": {
        "account": (
            "thermojax.measured._old.account",
            "thermojax.account(data.process(system, initial, final), data.path)",
        ),
    },
    "thermojax.optimal": {
        "Average": ("thermojax.optimal.PathLoss", "optimal.PathLoss, built by optimal.average"),
        "EstimatorVariance": (
            "thermojax.optimal.PathLoss",
            "optimal.PathLoss, built by optimal.estimator_variance",
        ),
        "StateToState": (
            "thermojax.optimal.PathLoss",
            "optimal.PathLoss, built by optimal.state_to_state",
        ),
        "stiffness": ("thermojax.optimal.breathing_trap", "optimal.breathing_trap"),
    },
    "thermojax.schedules": {
        "from_noise": ("thermojax.schedules._old.from_noise", 'diffusion.predictor(net, "noise")'),
        "from_score": ("thermojax.schedules._old.from_score", 'diffusion.predictor(net, "score")'),
        "length": ("thermojax.schedules.thermodynamic_length", "schedules.thermodynamic_length"),
    },
}


def renamed(room: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room."""

    def get(name: str) -> Any:
        if name not in RENAMED[room]:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return former(room, name)

    return get


def former(room: str, name: str) -> Any:
    """What a name stood for, with the warning."""
    kept, now = RENAMED[room][name]
    warnings.warn(
        f"{room}.{name} is now {now}; the old name goes with the next release.",
        DeprecationWarning,
        stacklevel=3,
    )
    module, _, attribute = kept.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def by_keyword(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function whose last arguments, `names`, could be given by position once."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(fn).parameters.values()
        count = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

        @ft.wraps(fn)
        def call(*args: Any, **rest: Any) -> Any:
            late = dict(zip(names, args[count:], strict=False))
            if late:
                warnings.warn(
                    f"{fn.__name__} takes {', '.join(late)} by keyword now; by position it goes with the next release.",
                    DeprecationWarning,
                    stacklevel=2,
                )
            return fn(*args[:count], *args[count + len(late) :], **late, **rest)

        return call

    return decorate
