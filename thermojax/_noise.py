"""Brownian increments on a step grid, counter-based: nothing is stored, and any step can be drawn again.

Increment k of path i depends on the key, on the block of paths that i belongs to and on k, and on nothing else: not on
the size of the ensemble, its layout on devices, the solver, or what is saved.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._types import Array, Key

BLOCK = 500  # paths that share a key; drawing block by block costs 2 % over drawing all at once


class Noise(eqx.Module):
    """Standard normals for step k: `(d,)` for one realisation (`size` None), `(size, d)` for an ensemble."""

    data: Array  # key data: typed keys do not pass through every adjoint
    impl: str = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, key: Key, dim: int, size: int | None, dtype: np.dtype):
        self.dim, self.size, self.dtype = dim, size, np.dtype(dtype)
        self.impl = str(jax.random.key_impl(key))
        keys = key if size is None else fold(key, -(-size // BLOCK))
        self.data = jax.random.key_data(keys)

    def __call__(self, step: Array, levels: int) -> tuple[Array, ...]:
        """The first normals (increment, and with `levels` 2 or 3 those of the space-time Lévy areas) of step `step`."""
        keys = jax.random.wrap_key_data(self.data, impl=self.impl)

        def draw(key: Key, shape: tuple[int, ...]) -> tuple[Array, ...]:
            key = jax.random.fold_in(key, step)
            first = jax.random.normal(key, shape, self.dtype)
            more = (
                jax.random.normal(jax.random.fold_in(key, i), shape, self.dtype)
                for i in range(1, levels)
            )
            return (first, *more)

        if self.size is None:
            return draw(keys, (self.dim,))
        blocks = jax.vmap(lambda key: draw(key, (BLOCK, self.dim)))(keys)
        normals = tuple(z.reshape(-1, self.dim)[: self.size] for z in blocks)
        return jax.lax.platform_dependent(
            normals, cpu=lambda z: _once(z, step), default=lambda z: z
        )


def _once(z: tuple[Array, ...], step: Array) -> tuple[Array, ...]:
    """The same numbers, behind a branch that is always taken: XLA on CPU would else fuse the drawing of a number into
    every quantity that needs it, and draw it again for each (1.7 instead of 1.1 times the cost of the noise)."""
    return jax.lax.cond(
        step >= 0, lambda z: z, lambda z: jax.tree_util.tree_map(jnp.zeros_like, z), z
    )


def fold(key: Key, count: int) -> Array:
    """`count` keys, the i-th of which does not depend on `count`."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
