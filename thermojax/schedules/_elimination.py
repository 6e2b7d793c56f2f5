r"""Inverses of small matrices in elementary operations, so that many are taken under `vmap` without a batch of LAPACK's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._types import Array, Scalar


class Inverse(NamedTuple):
    r"""$M^{-1}$ `(d, d)`, $\ln|\det M|$ and the sign of the determinant."""

    matrix: Array
    log_det: Scalar
    sign: Scalar


def inverse(matrix: Array) -> Inverse:
    r"""Of M `(d, d)`, by Gauss's elimination with the largest pivot of each column.

    A singular matrix has a `log_det` of minus infinity, a sign of zero and no finite inverse.
    """
    size = len(matrix)
    rows = jnp.arange(size)
    table = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)

    def column(table: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        best = jnp.argmax(jnp.where(rows < k, -1, jnp.abs(table[:, k])))
        table = table[rows.at[k].set(best).at[best].set(k)]
        pivot = table[k, k]
        share = jnp.where(rows == k, 0, table[:, k] / pivot)
        return table - jnp.outer(share, table[k]), (pivot, best != k)

    table, (pivots, moved) = jax.lax.scan(column, table, rows)
    turned = jnp.where(jnp.sum(moved) % 2 == 1, -1, 1).astype(pivots.dtype)
    sign = turned * jnp.prod(jnp.sign(pivots))
    return Inverse(table[:, size:] / pivots[:, None], jnp.sum(jnp.log(jnp.abs(pivots))), sign)
