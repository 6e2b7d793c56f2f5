r"""Cholesky's factorisation $\Sigma = L L^T$ in elementary operations.

Not LAPACK's, because of batches on a CPU: there `jax.vmap` makes one call of a batch of matrices, which waits for threads
of the pool it runs on. As many such calls at once as there are threads (two, on two cores) wait for ever: the score of a
mixture of three Gaussians at many noise levels is enough, on jaxlib 0.10.1. Up to some 16 coordinates this is also faster.
"""

import jax
import jax.numpy as jnp

from ._types import Array

UNROLLED = 4  # up to this size a loop is written out


def root(cov: Array) -> Array:
    r"""L `(d, d)`, lower triangular, of the symmetric matrix `cov`; NaN where that is not positive definite."""
    rows = jnp.arange(len(cov))

    def column(rest: Array, k: Array) -> tuple[Array, Array]:
        below = jnp.where(rows < k, 0, rest[:, k]) / jnp.sqrt(rest[k, k])
        return rest - jnp.outer(below, below), below

    even = (cov + cov.T) / 2
    return jax.lax.scan(column, even, rows, unroll=len(cov) <= UNROLLED)[1].T


def inverse(root: Array) -> Array:
    r"""$L^{-1}$ of a lower triangular L, by forward substitution."""
    eye = jnp.eye(len(root), dtype=root.dtype)

    def row(rest: Array, k: Array) -> tuple[Array, Array]:
        solved = rest[k] / root[k, k]
        return rest - jnp.outer(root[:, k], solved), solved

    return jax.lax.scan(row, eye, jnp.arange(len(root)), unroll=len(root) <= UNROLLED)[1]


def log_det(root: Array) -> Array:
    r"""$\ln\det\Sigma = 2 \sum_i \ln L_{ii}$."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(root)))
