r"""The Gaussian density."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._types import Array, Key, Scalar, State
from ._base import AbstractDensity


class Gaussian(AbstractDensity):
    r"""$N(m, \Sigma)$ on d coordinates.

    `mean` is a scalar or `(d,)`; `cov` is a scalar or `(d,)` (independent coordinates with these **variances**) or
    `(d, d)`. The covariance must be positive definite.
    """

    mean: Array
    cov: Array

    def __init__(self, mean: Any, cov: Any):
        given = _checks.known(cov)
        mean = _checks.floating("Gaussian.mean", mean)
        cov = _checks.floating("Gaussian.cov", cov, positive=jnp.ndim(cov) < 2)
        _checks.rank("Gaussian.mean", mean, {0, 1}, "() or (d,)")
        _checks.rank("Gaussian.cov", cov, {0, 1, 2}, "(), (d,) or (d, d)")
        _checks.one_float(**{"Gaussian.mean": mean, "Gaussian.cov": cov})
        dim = mean.shape[0] if mean.shape not in ((), (1,)) else cov.shape[0] if cov.ndim else 1
        if cov.shape not in ((), (1,), (dim,), (dim, dim)):
            raise ValueError(
                f"Gaussian.cov must be (), ({dim},) or ({dim}, {dim}) for a mean of {dim}, got {cov.shape}."
            )
        self.mean = jnp.broadcast_to(mean, (dim,))
        if cov.ndim < 2:
            cov = jnp.where(jnp.eye(dim, dtype=bool), jnp.broadcast_to(cov, (dim,))[:, None], 0)
        if given is not None and given.ndim == 2:
            if not np.allclose(given, given.T) or np.linalg.eigvalsh(given).min() <= 0:
                raise ValueError(
                    f"Gaussian.cov must be symmetric and positive definite, got {given}."
                )
        self.cov = cov

    def sample(self, key: Key) -> State:
        dtype = jnp.result_type(self.mean, self.cov)
        return self.mean + _factor.root(self.cov) @ jax.random.normal(key, self.mean.shape, dtype)

    def log_prob(self, x: State) -> Scalar:
        _checks.point("Gaussian.log_prob", x, self.mean.size)
        root = _factor.root(self.cov)
        z = jnp.matmul(_factor.inverse(root), x - self.mean, precision="highest")
        return -0.5 * (jnp.sum(z**2) + _factor.log_det(root) + x.size * jnp.log(2 * jnp.pi))

    def gaussian(self) -> "Gaussian":
        return self

    def entropy(self) -> Scalar:
        r"""$-\int p \ln p = \tfrac12 \ln\det(2\pi e\,\Sigma)$, in nats."""
        per_coordinate = 1 + jnp.log(2 * jnp.pi)
        return 0.5 * (_factor.log_det(_factor.root(self.cov)) + self.mean.size * per_coordinate)
