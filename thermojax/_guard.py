"""Derivatives of what may fail: zero, and not NaN, where it did; and of what is not followed: an error.

A number that is masked after it was computed still has the derivative of what was computed: zero times NaN. It would reach
every other path through the parameters that they share.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ._types import Array, ArrayLike, PyTree, Scalar


def guarded(fine: Array, fn: Callable[[], PyTree]) -> PyTree:
    """`fn()`, whose derivative, in whatever it closes over, is zero, and not NaN, unless `fine`."""
    return _guarded(eqx.filter_closure_convert(fn), fine)


@eqx.filter_custom_jvp
def _guarded(fn: Callable[[], PyTree], fine: Array) -> PyTree:
    # jax 0.10.2 wants value and derivative batched alike, also where the value is the same number for all paths
    return jtu.tree_map(lambda v: jnp.where(fine, v, v), fn())


@_guarded.def_jvp
def _guarded_jvp(primals: PyTree, tangents: PyTree) -> tuple[PyTree, PyTree]:
    fine = Mask(primals[1])
    tangent = masked_jvp(lambda fn: fn(), primals[:1], tangents[:1], fine)
    return _guarded(*primals), only(fine, tangent)


def masked_jvp(
    fn: Callable[..., PyTree], primals: PyTree, tangents: PyTree, fine: "Mask"
) -> PyTree:
    """The tangent of `fn`, of tangents that are zero unless `fine`; None is the tangent of what is held fixed."""
    masked = only(fine, tangents)
    moving = jtu.tree_map(lambda t: t is not None, masked, is_leaf=lambda t: t is None)
    inputs, rest = eqx.partition(primals, moving)
    return jax.jvp(lambda inputs: fn(*eqx.combine(inputs, rest)), (inputs,), (masked,))[1]


def only(fine: "Mask", tangents: PyTree) -> PyTree:
    """The tangents of a path that is fine, zeros for another."""
    return jtu.tree_map(lambda t: fine(t, jnp.zeros_like(t)), tangents)


class Mask:
    """Of a path that is fine one value, of another one the other. The mask of a shape is one array however often it is
    asked for: what a gradient keeps of every step."""

    def __init__(self, fine: Array):
        self.fine = fine
        self.of: dict[tuple[int, ...], Array] = {}

    def __call__(self, value: Array, otherwise: Array) -> Array:
        shape = jnp.shape(value)
        if shape not in self.of:
            self.of[shape] = jnp.broadcast_to(self.fine, shape)
        return jnp.where(self.of[shape], value, otherwise)


@eqx.filter_custom_jvp
def untracked(draw: Array, parameters: PyTree, *, message: str) -> Array:
    """`draw`, which depends on `parameters` without a derivative: a `ValueError` if these are being differentiated.

    It is raised while tracing, in forward and reverse mode alike; nothing is computed in a run.
    """
    del parameters, message
    return draw


@untracked.def_jvp
def _untracked_jvp(
    primals: tuple[Array, PyTree], tangents: tuple[PyTree, PyTree], *, message: str
) -> tuple[Array, PyTree]:
    # A tangent is None unless what is differentiated reaches the argument.
    if jtu.tree_leaves(tangents[1]):
        raise ValueError(message)
    return primals[0], tangents[0]


def held(t: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """`t`, held at the ends outside of [low, high]. At the ends it has the slope of the inside, which jnp.clip halves."""
    return jnp.where(t < low, low, jnp.where(t > high, high, t))


def clipped_root(square: Scalar) -> Scalar:
    """The root of what rounding may have left below zero, with derivative zero there."""
    positive = ~(square <= 0)  # NaN stays
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def size_of(v: Array) -> Scalar:
    """The largest of some numbers, by which they are divided before they are squared; one, if they are all zero."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(v)))
    return jnp.where((top > 0) & (top < jnp.inf), top, 1)
