r"""Roots of covariances, $\Sigma = L L^T$, in elementary operations.

A root is `(d,)`, the standard deviations of independent coordinates, or a lower triangular `(d, d)` (Cholesky's). The
functions take either, and of the first they make no matrix.

Not LAPACK's Cholesky, because of batches on a CPU: there `jax.vmap` makes one call of a batch of matrices, which waits for
threads of the pool it runs on. As many such calls at once as there are threads (two, on two cores) wait for ever: the score
of a mixture of three Gaussians at many noise levels is enough, on jaxlib 0.10.1. Up to some 16 coordinates this is also
faster.
"""

import jax
import jax.numpy as jnp

from ._products import matmul
from ._types import Array, Scalar

UNROLLED = 4  # up to this size a loop is written out


@jax.jit  # a scan over a fresh closure would be compiled anew at every call that is not itself within a jit
def root(cov: Array) -> Array:
    r"""L `(d, d)`, lower triangular, of the symmetric matrix `cov`; NaN where that is not positive definite."""
    rows = jnp.arange(len(cov))

    def column(rest: Array, k: Array) -> tuple[Array, Array]:
        below = jnp.where(rows < k, 0, rest[:, k]) / jnp.sqrt(rest[k, k])
        return rest - jnp.outer(below, below), below

    even = (cov + cov.T) / 2
    return jax.lax.scan(column, even, rows, unroll=len(cov) <= UNROLLED)[1].T


def times(root: Array, z: Array) -> Array:
    r"""$L z$."""
    return root * z if root.ndim == 1 else matmul(root, z)


def square(root: Array) -> Array:
    r"""$\Sigma = L L^T$ `(d, d)`."""
    if root.ndim == 1:
        return jnp.where(jnp.eye(len(root), dtype=bool), root[:, None] ** 2, 0)
    return matmul(root, root.T)


@jax.jit
def solve(root: Array, x: Array) -> Array:
    r"""$L^{-1} x$ of x `(d,)` or, of a triangular L, `(d, n)`: by forward substitution."""
    if root.ndim == 1:
        return x / root

    def row(rest: Array, k: Array) -> tuple[Array, Array]:
        solved = rest[k] / root[k, k]
        return rest - jnp.multiply.outer(root[:, k], solved), solved

    return jax.lax.scan(row, x, jnp.arange(len(root)), unroll=len(root) <= UNROLLED)[1]


def inverse(root: Array) -> Array:
    r"""$L^{-1}$ of a lower triangular L."""
    return solve(root, jnp.eye(len(root), dtype=root.dtype))


def log_det(root: Array) -> Scalar:
    r"""$\ln\det\Sigma = 2 \sum_i \ln L_{ii}$."""
    return 2 * jnp.sum(jnp.log(root if root.ndim == 1 else jnp.diagonal(root)))
