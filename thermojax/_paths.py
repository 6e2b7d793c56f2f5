"""What a run or a measurement gives: paths, and the work, heat and entropy of each."""

import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _checks
from ._types import Array, ArrayLike, Bool, Float, Given, PyTree, Scalar, State


class Path(NamedTuple):
    """Times `(m,)` and states `(m, d)` of one realisation (or both with a leading batch axis); `ok` if it stayed finite.

    A realisation that did not is frozen at its last finite state, and its totals are NaN.
    """

    ts: Float[Array, "*batch times"]
    xs: Float[Array, "*batch times d"]
    ok: Bool[Array, "*batch"] | bool = True


class Entropy(NamedTuple):
    r"""Entropies in nats: `total` = `system` + `medium` is R of the process's own `final`; None where that is None."""

    total: Array | None
    medium: Array
    system: Array | None


class Trajectory(NamedTuple):
    """A path with its work (on the system), heat (to the bath; one per bath) and entropy, in energy and in nats."""

    path: Path
    work: Array
    heat: Array
    entropy: Entropy


def shape_of(path: Path) -> None:
    """Refuse a path whose parts do not fit together."""
    if jnp.ndim(path.xs) not in (2, 3):
        raise ValueError(
            f"path.xs must have shape (times, d), or (paths, times, d), also for d = 1; got {jnp.shape(path.xs)}. "
            "For one coordinate use xs[..., None]."
        )
    if jnp.shape(path.ts)[-1] != jnp.shape(path.xs)[-2]:
        raise ValueError(
            f"path.ts and path.xs disagree: {jnp.shape(path.ts)} times for states {jnp.shape(path.xs)}."
        )


def per_path(fn: Callable[..., PyTree], path: Path, *rest: PyTree) -> PyTree:
    """Apply `fn(path, *rest)` to one realisation, or to each along a leading axis of all (times and marks may be shared)."""
    shape_of(path)
    if jnp.ndim(path.xs) == 2:
        return fn(path, *rest)
    ts, ok = (0 if jnp.ndim(v) == full else None for v, full in ((path.ts, 2), (path.ok, 1)))
    axes = ((ts, 0, ok), *(eqx.if_array(0) for _ in rest))
    one = eqx.filter_vmap(lambda parts, *rest: fn(Path(*parts), *rest), in_axes=axes)
    return one(tuple(path), *rest)


STILL = 3  # steps
OF_THE_MEASURED = "take the process of the measured paths, data.process(system, initial, protocol=...): it knows their ends."


def moves_on(name: str, path: Path, cure: str) -> None:
    """Warn of a batch of paths of which some do not move at their end, as those do that were made equally long."""
    if np.ndim(path.xs) < 3 or np.shape(path.xs)[-2] <= STILL:
        return
    last = _checks.known(_checks.array(f"{name}.xs", path.xs)[:, -1 - STILL :])
    fine = _checks.known(path.ok)  # one that failed is frozen
    if last is None or fine is None:
        return
    still = (last == last[:, -1:]).all((-1, -2)) & fine
    if still.any() and not still.all():
        warnings.warn(
            f"{name}: {still.sum()} of {len(still)} paths do not move in their last {STILL} steps, and these are taken for "
            f"what they did. If they were made equally long by holding the last sample (pad=True): {cure}",
            UserWarning,
            stacklevel=4,
        )


FULL_TURNS = (2 * np.pi, 360.0)  # the periods that an angle may be cut at without a word


def digits_kept(name: str, path: Path, *, measured: bool = False) -> None:
    """Refuse times and states given in float64 whose steps are lost in the floats of this session.

    Of a `measured` path also states that came in single precision with steps that these can not have had.
    """
    if np.size(path.ts) > 1 and _checks.shortened(path.ts):
        ts = np.asarray(path.ts, float)
        cure = "Start the clock at zero, in float64: ts - ts[..., :1]."
        _checks.resolved(f"{name}.ts", ts, np.diff(ts, axis=-1).min(initial=np.inf), cure)
    rough = measured and _checks.known(path.xs) is not None
    many = np.ndim(path.xs) > 1 and np.size(path.xs) and np.shape(path.xs)[-2] > 1
    if many and (rough or _checks.shortened(path.xs)):
        xs = np.asarray(path.xs, float)
        given = _checks.array(f"{name}.xs", path.xs).dtype
        dtype = given if jnp.issubdtype(given, jnp.floating) else None
        steps = np.sqrt(np.mean(np.diff(xs, axis=-2) ** 2, axis=-2)).reshape(-1, xs.shape[-1])
        tops = np.abs(xs).max(-2, initial=0).reshape(-1, xs.shape[-1])
        cure = "Measure from a nearer origin, positions and controls alike."
        for i, (step, top) in enumerate(zip(steps.T, tops.T, strict=True)):
            counts = (step > 0) & np.isfinite(top)
            worst = np.argmin(np.where(counts, step / np.where(counts, top, 1), np.inf))
            _checks.resolved(f"{name}.xs[..., {i}]", top[worst], step[worst], cure, dtype=dtype)


def a_period(period: ArrayLike | None, d: int) -> Array:
    """Periods `(d,)`, or one for all; infinite for a coordinate that is no angle."""
    period = _checks.array("period", jnp.inf if period is None else period) * 1.0
    value = _checks.known(period)
    if period.shape not in ((), (d,)) or (value is not None and not (value > 0).all()):
        raise ValueError(
            f"period must be a number greater than zero, or one per coordinate, ({d},), infinite where there is none; "
            f"got {_checks.known(period)}."
        )
    return jnp.broadcast_to(period, (d,))


def unwrapped(xs: Array, period: Array) -> Array:
    """States `(..., times, d)` made continuous: every step goes the short way round."""
    period = period.astype(xs.dtype).reshape((1,) * (xs.ndim - 1) + (-1,))
    turns = jnp.cumsum(jnp.round(jnp.diff(xs, axis=-2) / period), axis=-2)
    turns = jnp.concatenate([jnp.zeros_like(turns[..., :1, :]), turns], axis=-2)
    return xs - jnp.where(jnp.isfinite(period), period, 0) * turns


def other_turn(
    energy: Callable[[State], Scalar], x: State, period: Array, temperature: Array
) -> Bool[Array, " d"]:
    """Whether a path that starts at `x` may as well start on another turn of each of its angles.

    A whole turn off, the energy is then lower, or higher by less than the temperature. Where it is the same, or falls by as
    much on one side as it rises on the other, as if tilted, nothing tells turns apart.
    """
    whole = jnp.diag(jnp.where(jnp.isfinite(period), period, 0).astype(x.dtype))
    here, up, down = energy(x), *(jax.vmap(energy)(x[None] + v) for v in (whole, -whole))
    told = abs(up + down - 2 * here) > 1e-3 * (abs(up) + abs(down) + abs(here))
    return told & (jnp.minimum(up, down) - here < jnp.max(temperature))


def report_turns(name: str, others: Array, period: Array) -> None:
    """Warn of paths that may start on another turn, `others` `(..., d)`, where that is known."""
    known = _checks.known(others)
    if known is None or not known.any():
        return
    i = int(np.argmax(known.reshape(-1, known.shape[-1]).any(0)))
    off = known[..., i]
    p = np.asarray(period, float).reshape(-1, known.shape[-1])[0, i]
    warnings.warn(
        f"{name}.xs[..., {i}] is an angle whose turn counts, as the potential does not have its period {p:.6g}, and "
        f"{off.sum()} of {off.size} paths may start on the wrong one: a turn off, the energy at the first control is lower, "
        "or higher by less than the temperature. What was cut is on the turn of its first value. If a recorded control is "
        "the same angle, name it in the period of read_csv or from_columns: it is moved to the coordinate. Otherwise make "
        "the paths continuous (numpy.unwrap), move each by whole turns to its control, and give no period.",
        stacklevel=4,
    )


def cut_at(x: Given, periods: Iterable[float] = FULL_TURNS, fills: float = 0.9) -> float | None:
    """The period at which a coordinate `(..., times)` looks cut: it fills just one, and its steps are short of half of it or
    cross most of it, with none between, as noise of that width would have."""
    x = np.asarray(x, float)
    if x.shape[-1] < 9 or not np.isfinite(x).all():
        return None
    width, steps = np.ptp(x), abs(np.diff(x, axis=-1))
    for period in periods:
        one = fills * period <= width <= (1 + 1e-6) * period
        between = (steps > 0.35 * period) & (steps < 0.65 * period)
        if one and not between.any() and 0 < np.mean(steps > 0.65 * period) < 0.4:
            return period
    return None


def running(increments: Array) -> Array:
    """Running totals, from zero."""
    return jnp.concatenate([jnp.zeros_like(increments[:1]), jnp.cumsum(increments, axis=0)])
