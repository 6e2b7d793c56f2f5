"""What a user has recorded, as one batch of frames: the front door of the room."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._paths import Path, moves_on
from .._types import Array, Given, Scalar
from ..measured import Measured

EVEN = 1e-3  # of a step: by so much the steps of a clock may differ


class Recordings(NamedTuple):
    """Frames `(recordings, frames, d)`, how many of each count `(recordings,)`, and the time between two of them."""

    xs: Array
    lengths: Array
    dt: Scalar


def recordings(xs: Given, dt: Given) -> Recordings:
    """From an array, a path, measured paths, or a list of these of any lengths."""
    several = isinstance(xs, Sequence) and not isinstance(xs, (Path, Measured, str))
    if not several:
        return _one("xs", xs, dt, alone=True)
    if not xs:
        raise ValueError("xs must hold at least one recording, got an empty list.")
    parts = [_one(f"xs[{i}]", x, dt) for i, x in enumerate(xs)]
    dims = sorted({part.xs.shape[-1] for part in parts})
    if len(dims) > 1:
        raise ValueError(f"All recordings must have the same coordinates, got {dims} of them.")
    steps = [float(part.dt) for part in parts if not _checks.tracing(part.dt)]
    if steps and max(steps) - min(steps) > EVEN * min(steps):
        raise ValueError(
            f"All recordings must have one time between frames, got {min(steps):.6g} to {max(steps):.6g}."
        )
    long = max(part.xs.shape[1] for part in parts)
    held = [
        jnp.pad(part.xs, ((0, 0), (0, long - part.xs.shape[1]), (0, 0)), mode="edge")
        for part in parts
    ]
    lengths = jnp.concatenate([part.lengths for part in parts])
    return Recordings(jnp.concatenate(held), lengths, parts[0].dt)


def _one(name: str, x: Given, dt: Given, *, alone: bool = False) -> Recordings:
    lengths = None
    if isinstance(x, Measured):
        x, lengths = x.path, x.lengths
    if isinstance(x, Path):
        ok = _checks.known(x.ok)
        if ok is not None and not ok.all():
            raise ValueError(
                f"{name} holds {int((~ok).sum())} paths that failed: leave them out, path.xs[path.ok]."
            )
        if lengths is None:
            moves_on(name, x, "give the measured paths themselves, data and not data.path.")
        if dt is None:
            dt = _step(f"{name}.ts", x.ts, lengths)
        else:
            _agree(name, x.ts, lengths, dt)
        x = x.xs
    if dt is None:
        raise TypeError(
            f"dt must be the time between two frames: {name} is an array and has no clock."
        )
    frames = _frames(name, x, alone)
    dt = _checks.floating("dt", dt, positive=True)
    _checks.rank("dt", dt, {0}, "(), the time between two frames")
    count, long, _ = frames.shape
    lengths = jnp.full((count,), long) if lengths is None else jnp.asarray(lengths).astype(int)
    return Recordings(frames, lengths, dt.astype(frames.dtype))


def _frames(name: str, x: Given, alone: bool) -> Array:
    """As `(recordings, frames, d)`, and where a frame was lost what to do about it."""
    value = None if _checks.tracing(x) else np.asarray(x)
    if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
        at = np.argwhere(~np.isfinite(value))[0]
        raise ValueError(
            f"{name} holds {int((~np.isfinite(value)).sum())} numbers that are not finite, the first in frame "
            f"{int(at[-2] if len(at) > 1 else at[0])}. Cut the recording there and pass the parts as a list: pairs are "
            "made within each."
        )
    if value is not None and _checks.shortened(x) and value.ndim > 1 and value.shape[-2] > 1:
        moves = np.std(np.diff(value.astype(float), axis=-2), axis=tuple(range(value.ndim - 1)))
        for i in np.flatnonzero(moves > 0):
            _checks.resolved(name, value[..., i], float(moves[i]), "Subtract the mean in float64.")
    x = _checks.floating(name, x)
    x = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    _checks.rank(
        name,
        x,
        {2, 3},
        "(frames, coordinates), or (recordings, frames, coordinates); one coordinate is x[..., None]",
    )
    x = x if x.ndim == 3 else x[None]
    if alone and x.shape[1] <= x.shape[2] and x.shape[0] == 1:  # a part of a list may be short
        raise ValueError(
            f"{name} has {x.shape[1]} frames of {x.shape[2]} coordinates: frames come first. Transpose it: x.T"
        )
    return x


def _agree(name: str, ts: Given, lengths: Array | None, dt: Given) -> None:
    """Refuse a dt that is not that of the clock beside it."""
    value, dt = _steps(ts, lengths), _checks.known(dt)
    if value is None or dt is None or np.ndim(dt):
        return
    rounding = 2 * float(np.spacing(np.abs(np.asarray(ts)).max()))
    if np.abs(value - float(dt)).max() > EVEN * abs(float(dt)) + rounding:
        raise ValueError(
            f"{name} has a clock of its own, with steps from {value.min():.6g} to {value.max():.6g}, and dt is "
            f"{float(dt):.6g}. Leave dt out, or give the frames without their clock: path.xs."
        )


def _steps(ts: Given, lengths: Array | None) -> np.ndarray | None:
    """Those between frames that count, if they are known."""
    value = _checks.known(jnp.diff(jnp.asarray(ts), axis=-1))
    if value is not None and lengths is not None and value.ndim == 2:
        value = value[np.arange(value.shape[1])[None] < np.asarray(lengths)[:, None] - 1]
    return value


def _step(name: str, ts: Given, lengths: Array | None) -> Scalar:
    """The step of a clock that has but one."""
    ts = _checks.grids(name, ts)
    value = _steps(ts, lengths)
    if value is None:
        return jnp.mean(jnp.diff(ts, axis=-1))
    middle = float(np.median(value))
    rounding = 2 * float(np.spacing(np.abs(np.asarray(ts)).max()))
    if np.abs(value - middle).max() > EVEN * middle + rounding:
        raise ValueError(
            f"{name} has steps from {value.min():.6g} to {value.max():.6g}: all pairs must lie one time apart. Cut the "
            "recordings at their gaps and pass the parts as a list, with dt=."
        )
    return jnp.asarray(np.mean(value), ts.dtype)
