"""What a run or a measurement gives: paths, and the work, heat and entropy of each."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from ._types import Array, Bool, Float, PyTree


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
