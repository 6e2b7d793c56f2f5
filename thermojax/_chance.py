r"""Uniform random numbers of which the smallest keep their digits: what is rare happens as often as it should.

Single precision has $2^{23}$ of them in `jax.random.uniform`, so that an event of probability $10^{-8}$ happens at
$10^{-7}$, or never. Of all 32 bits that are drawn, probabilities are multiples of $2^{-32}$.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ._types import Array, Key


def chance(key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Numbers u between 0 and 1, never 0."""
    if jnp.dtype(dtype) != jnp.float32:
        return jnp.maximum(jax.random.uniform(key, shape, dtype), jnp.finfo(dtype).tiny)
    bits = jax.random.bits(key, shape, jnp.uint32).astype(dtype)
    return jnp.minimum((bits + 0.5) * 2.0**-32, 1 - 2.0**-24)


def sided(key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Numbers between -1/2 and 1/2 that stand for u between 0 and 1: themselves, and below zero for 1 + u. Both ends are
    fine."""
    if jnp.dtype(dtype) != jnp.float32:
        u = chance(key, shape, dtype)
        return jnp.where(u < 0.5, u, u - 1)
    bits = jax.random.bits(key, shape, jnp.uint32).astype(jnp.int32)
    return (bits.astype(dtype) + 0.5) * 2.0**-32


def below(u: Array, p: Array, rest: Array) -> Array:
    """Whether a `sided` number lies below p, 1 - p the `rest`."""
    return jnp.where(u > 0, u < p, -u > rest)
