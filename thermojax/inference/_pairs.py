"""Pairs of frames one lag apart: which are learnt from, and which are priced."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._jit import jit
from .._types import Array
from ._currents import Frame
from ._recordings import Recordings

BLOCKS = 20  # in each fold, for the standard error


class Pairs(NamedTuple):
    """The frames `(n, d)` before and after; the weight of each pair `(n,)`, one or zero; the block in time that it belongs
    to `(n,)`; and for each fold `(folds, n)` the weights of those that are held out, and of those that are learnt from.
    """

    x0: Array
    x1: Array
    there: Array
    block: Array
    held: Array
    learnt: Array


@jit
def pairs(given: Recordings, lag: Array, folds: int, frame: Frame) -> Pairs:
    """All pairs of frames, recording by recording in the order of time; those of weight zero have no second frame.

    Folds are stretches of that order, so that neighbours in time, which resemble each other, are rarely on two sides; and
    what has a frame in common with a pair held out is not learnt from. Angles go the short way round.
    """
    _, frames, d = given.xs.shape
    x0 = given.xs.reshape(-1, d)
    moved = jnp.roll(given.xs, -lag, 1).reshape(-1, d) - x0  # so that a new lag compiles nothing
    moved = jax.vmap(frame.short)(moved)
    there = (jnp.arange(frames)[None] + lag < given.lengths[:, None]).reshape(-1)
    moved = jnp.where(there[:, None], moved, 0)
    place, total = jnp.cumsum(there) - 1, jnp.sum(there)
    # of place * blocks / total no whole number of 32 bits is enough
    many = folds * BLOCKS
    long, rest = total // many, total % many
    edge = rest * (long + 1)
    late = rest + (place - edge) // jnp.maximum(long, 1)
    block = jnp.clip(jnp.where(place < edge, place // (long + 1), late), 0, many - 1)
    each = jnp.arange(folds)
    held = there[None] & ((block // BLOCKS)[None] == each[:, None])
    first = _start(each * BLOCKS, long, rest)[:, None]
    stop = _start((each + 1) * BLOCKS, long, rest)[:, None]
    near = (place[None] > first - 1 - lag) & (place[None] < stop + lag)
    learnt = there[None] & ~near
    weights = (v.astype(x0.dtype) for v in (held, learnt))
    return Pairs(x0, x0 + moved, there.astype(x0.dtype), block, *weights)


def _start(block: Array, long: Array, rest: Array) -> Array:
    """The first place of a block: the first `rest` of them have one pair more."""
    return block * long + jnp.minimum(block, rest)
