"""Linear systems of one line of cells: tridiagonal, with corners where the line closes on itself."""

import jax
import jax.numpy as jnp

from ._types import Array, Float

Line = Float[Array, "cells lines"]


def solve(lower: Line, diagonal: Line, upper: Line, b: Line, periodic: bool) -> Line:
    r"""x of $l_i x_{i-1} + d_i x_i + u_i x_{i+1} = b_i$ along the first axis, for all lines of the second at once.

    Indices are cyclic; without `periodic` the two entries that reach around, $l_0$ and $u_{n-1}$, must be zero. The matrix
    must need no pivoting: dominated by its diagonal, by rows or by columns. The derivative is one more solve, of the
    transposed system.

    Source: Press et al., *Numerical Recipes* (2007), secs. 2.4 and 2.7.2.
    """
    sweep = _cyclic if periodic else _thomas

    def matrix(x: Line) -> Line:
        return lower * jnp.roll(x, 1, 0) + diagonal * x + upper * jnp.roll(x, -1, 0)

    def forward(_: object, b: Line) -> Line:
        return sweep(lower, diagonal, upper, b)

    def transposed(_: object, b: Line) -> Line:
        return sweep(jnp.roll(upper, 1, 0), diagonal, jnp.roll(lower, -1, 0), b)

    return jax.lax.custom_linear_solve(matrix, b, forward, transposed)


def _thomas(lower: Line, diagonal: Line, upper: Line, b: Line) -> Line:
    def down(carry: tuple[Array, Array], row: tuple[Array, ...]) -> tuple[tuple, tuple]:
        ratio, x = carry
        lo, di, up, right = row
        pivot = 1 / (di - lo * ratio)
        carry = up * pivot, (right - lo * x) * pivot
        return carry, carry

    def back(after: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        ratio, x = row
        after = x - ratio * after
        return after, after

    none = jnp.zeros_like(b[0])
    _, rows = jax.lax.scan(down, (none, none), (lower, diagonal, upper, b))
    return jax.lax.scan(back, none, rows, reverse=True)[1]


def _cyclic(lower: Line, diagonal: Line, upper: Line, b: Line) -> Line:
    """By Sherman's and Morrison's formula: the corners are a matrix of rank one."""
    pivot = -diagonal[0]
    first, last = lower[0], upper[-1]
    inner = diagonal.at[0].add(-pivot).at[-1].add(-first * last / pivot)
    lower, upper = lower.at[0].set(0), upper.at[-1].set(0)
    column = jnp.zeros_like(b).at[0].set(pivot).at[-1].set(last)
    both = _thomas(
        jnp.concatenate([lower, lower], 1),
        jnp.concatenate([inner, inner], 1),
        jnp.concatenate([upper, upper], 1),
        jnp.concatenate([b, column], 1),
    )
    x, z = jnp.split(both, 2, axis=1)
    row = first / pivot
    factor = (x[0] + row * x[-1]) / (1 + z[0] + row * z[-1])
    return x - factor[None] * z
