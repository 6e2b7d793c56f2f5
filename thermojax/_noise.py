"""Random numbers on a step grid, counter-based: nothing is stored, and any step can be drawn again.

What step k of path i draws depends on the key, on the block of paths that i belongs to and on k, and on nothing else: not on
the size of the ensemble, its layout on devices, or what is saved. Steps that draw normals share their increments.
"""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ._kept import kept
from ._types import Array, Key

Draw: TypeAlias = Callable[[Key, tuple[int, ...], np.dtype], tuple[Array, ...]]

BLOCK = 500  # paths that share a key; drawing block by block costs 2 % over drawing all at once


class Noise(eqx.Module):
    """The random numbers of step k: those of one realisation (`size` None), or of an ensemble, paths first.

    What they are, normals or others, is the step's: its `draw` is called with a key of the step and of the block.
    """

    data: Array  # key data: typed keys do not pass through every adjoint
    impl: str = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, key: Key, dim: int, size: int | None, dtype: DTypeLike):
        self.dim, self.size, self.dtype = dim, size, np.dtype(dtype)
        self.impl = str(jax.random.key_impl(key))
        keys = key if size is None else fold(key, -(-size // BLOCK))
        self.data = jax.random.key_data(keys)

    def __call__(self, step: Array, draw: Draw) -> tuple[Array, ...]:
        """What `draw(key, shape, dtype)` gives for step `step`."""

        def block(key: Key, step: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
            drawn = draw(jax.random.fold_in(key, step), shape, self.dtype)
            got = jax.tree_util.tree_map(jnp.shape, drawn)
            if not isinstance(drawn, tuple) or any(s[: len(shape) - 1] != shape[:-1] for s in got):
                raise ValueError(
                    f"A step's draw(key, shape, dtype) must return a tuple of arrays with the paths in front, as in shape = "
                    f"{shape}; got {got}."
                )
            return drawn

        if self.size is None:
            return block(jax.random.wrap_key_data(self.data, impl=self.impl), step, (self.dim,))
        rows = self.size if self.size < BLOCK and _by_index(self.impl) else BLOCK

        @jax.jit  # then it is traced once, for all that `kept` asks
        def every(data: Array, step: Array) -> tuple[Array, ...]:
            keys = jax.random.wrap_key_data(data, impl=self.impl)
            blocks = jax.vmap(lambda key: block(key, step, (rows, self.dim)))(keys)
            return tuple(z.reshape(-1, *z.shape[2:])[: self.size] for z in blocks)

        return kept(every, step, self.data, step)


def _by_index(impl: str) -> bool:
    """Whether an element of a draw depends on its place alone: fewer rows are then the first of more."""
    return impl == "threefry2x32" and bool(jax.config.jax_threefry_partitionable)  # pyright: ignore[reportAttributeAccessIssue]


def fold(key: Key, count: int) -> Array:
    """`count` keys, the i-th of which does not depend on `count`."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
