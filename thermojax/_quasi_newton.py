r"""Descent of a loss without noise: L-BFGS with a line search of Wolfe's conditions.

The line search runs on the host, so that value and gradient are compiled once, and the gradient of the point that it
accepts is the next one's: an evaluation costs one compiled call, and there are hardly more of them than steps.
"""

import functools as ft
import math
from collections.abc import Callable

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax

from . import _checks
from ._jit import jit
from ._types import PyTree, Scalar

_ENOUGH, _FLAT = 1e-4, 0.9  # of the slope: the least decrease, and what may be left of it
_FIRST = 0.1  # strides, of the first trial
_TRIALS = 25

Seen = tuple[Scalar, PyTree]  # value and gradient at a point


@ft.cache
def _scaled() -> optax.GradientTransformation:
    return optax.scale_by_lbfgs()


def begin(free: PyTree) -> PyTree:
    """The state of a descent that begins at `free`."""
    with _checks.lenient():
        return _scaled().init(free)


def unit(slope: PyTree, stride: PyTree) -> float:
    """In which the loss is counted: a power of two, 1 unless squares of the slope would leave single precision."""
    both = zip(jtu.tree_leaves(slope), jtu.tree_leaves(stride), strict=True)
    tops = [np.max(np.abs(np.asarray(a, float) * np.asarray(b, float)), initial=0) for a, b in both]
    top = float(max(tops))
    far = math.isfinite(top) and top > 0 and not 1e-6 <= top <= 1e6
    return 2.0 ** round(math.log2(top)) if far else 1.0


def step(
    see: Callable[[PyTree], Seen],
    free: PyTree,
    seen: Seen,
    state: PyTree,
    stride: PyTree,
    unit: float = 1.0,
) -> tuple[PyTree, Seen, PyTree, float]:
    """The next point and what is seen there, the same where the loss falls no further; the state; and by how much the loss
    should have fallen where none of the trials has found it to. Lengths are counted in strides, and slopes in `unit`s of the
    loss over strides.

    Source: Nocedal & Wright, *Numerical Optimization* (2006), sec. 7.2; Lewis & Overton, Math. Program. 141, 135 (2013).
    """
    pace = jtu.tree_map(lambda s: (np.asarray(s, float) / unit).astype(s.dtype), stride)
    way, state, steep, longest = _direction(seen[1], state, free, stride, pace)
    slope = unit * float(steep)
    rounding = float(jnp.finfo(seen[0].dtype).eps) * abs(float(seen[0]))
    if not slope < -rounding:  # what is left to gain can't be seen
        return free, seen, state, 0.0
    first = int(state.count) <= 1
    share = min(1.0, _FIRST / float(longest)) if first else 1.0
    low, high, best = 0.0, math.inf, (free, seen)
    for _ in range(_TRIALS):
        there = _go(free, way, stride, jnp.asarray(share))
        now = see(there)
        value = float(now[0])
        # a loss that is not finite lies beyond what may be tried
        if not value <= float(seen[0]) + _ENOUGH * share * slope:
            high = share
        else:
            best = there, now
            if unit * float(_along(now[1], way, pace)) >= _FLAT * slope:
                break
            low = share
        share = 0.5 * (low + high) if math.isfinite(high) else 2 * share
    return *best, state, -slope if best[0] is free else 0.0


@jit
def _direction(
    slope: PyTree, state: PyTree, free: PyTree, stride: PyTree, pace: PyTree
) -> tuple[PyTree, PyTree, Scalar, Scalar]:
    """The direction in strides, the state, how steep the loss is along it, and its longest component."""
    slope = jtu.tree_map(jnp.multiply, slope, pace)
    with _checks.lenient():
        way, state = _scaled().update(slope, state, jtu.tree_map(jnp.divide, free, stride))
    down = _product(way, slope) > 0
    way = jtu.tree_map(lambda w, s: -jnp.where(down, w, s), way, slope)
    longest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jtu.tree_leaves(way)]))
    return way, state, _product(way, slope), longest


@jit
def _along(slope: PyTree, way: PyTree, pace: PyTree) -> Scalar:
    return _product(jtu.tree_map(jnp.multiply, slope, pace), way)


def _product(a: PyTree, b: PyTree) -> Scalar:
    return jnp.asarray(optax.tree.vdot(a, b))


@jit
def _go(free: PyTree, way: PyTree, stride: PyTree, share: Scalar) -> PyTree:
    return jtu.tree_map(lambda v, w, s: v + (share * w * s).astype(v.dtype), free, way, stride)
