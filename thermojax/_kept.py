"""Values that are computed once. XLA on CPU fuses what several results need into each of them, and computes it again for
each: the drawing of a number, or a whole step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ._types import Array, PyTree


def kept(fn: Callable[..., PyTree], count: Array, *args: PyTree) -> PyTree:
    """`fn(*args)`, on CPU behind a branch that is always taken, which no fusion crosses. `count` is a traced integer that is
    never negative, and not known to be so by the compiler; `fn` may be traced several times."""

    def branch(count: Array, *args: PyTree) -> PyTree:
        return jax.lax.cond(count >= 0, fn, nothing, *args)

    def nothing(*args: PyTree) -> PyTree:
        shapes = jax.eval_shape(fn, *args)
        return jax.tree_util.tree_map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)

    return jax.lax.platform_dependent(
        count, *args, cpu=branch, default=lambda count, *args: fn(*args)
    )


@jax.custom_jvp
def kept_value(count: Array, value: PyTree) -> PyTree:
    """`value`, which is then there once for all that follows. Its derivative goes past the branch."""
    return kept(lambda value: value, count, value)


@kept_value.defjvp
def _kept_value_jvp(primals: PyTree, tangents: PyTree) -> tuple[PyTree, PyTree]:
    return primals[1], tangents[1]
