r"""The Gaussian density."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._jit import jit
from .._types import Array, Float, Given, Key, Scalar, State
from .._widths import wide_enough
from ._base import AbstractKnownDensity, GaussianParts


class Gaussian(AbstractKnownDensity):
    r"""$N(m, \Sigma)$ on d coordinates.

    `mean` is a scalar or `(d,)`; `cov` is a scalar or `(d,)` (independent coordinates with these **variances**) or
    `(d, d)`. The covariance must be positive definite.

    What is kept is `mean` `(d,)` and a `root` L of the covariance, $\Sigma = L L^T$: the standard deviations `(d,)` if the
    coordinates are independent, and then everything costs O(d), else lower triangular `(d, d)`.
    """

    mean: State
    root: Float[Array, " d"] | Float[Array, "d d"]

    def __init__(self, mean: Given, cov: Given):
        given = _checks.known(cov)
        mean = _checks.floating("Gaussian.mean", mean)
        cov = _checks.floating("Gaussian.cov", cov, positive=jnp.ndim(cov) < 2)
        _checks.rank("Gaussian.mean", mean, {0, 1}, "() or (d,)")
        _checks.rank("Gaussian.cov", cov, {0, 1, 2}, "(), (d,) or (d, d)")
        _checks.one_float(**{"Gaussian.mean": mean, "Gaussian.cov": cov})
        dim = mean.shape[0] if mean.ndim else cov.shape[0] if cov.ndim else 1
        if cov.shape not in ((), (dim,), (dim, dim)):
            raise ValueError(
                f"Gaussian.cov must be (), ({dim},) or ({dim}, {dim}) for a mean of {dim}, got {cov.shape}."
            )
        if cov.ndim == 2:
            if given is None:
                cov = _checks.marked(cov, _even(cov), "Gaussian.cov must be symmetric.")
            elif not _positive(given, float(jnp.finfo(cov.dtype).eps)):
                raise ValueError(
                    f"Gaussian.cov must be symmetric and positive definite, in {cov.dtype}, got {given.tolist()}."
                )
        if given is not None:
            variance = np.diagonal(given) if given.ndim == 2 else given
            wide_enough("Gaussian.mean", mean, np.sqrt(np.asarray(variance, float)), mean.dtype, 4)
        self.mean = jnp.broadcast_to(mean, (dim,))
        independent = cov.ndim < 2
        self.root = jnp.broadcast_to(jnp.sqrt(cov), (dim,)) if independent else _factor.root(cov)

    @classmethod
    def from_root(cls, mean: State, root: Array) -> "Gaussian":
        """Of its mean `(d,)` and root, unchecked: for what is Gaussian by construction (also of no width, root = 0)."""
        made = object.__new__(
            cls
        )  # past the front door, which looks at values and would wait for them
        object.__setattr__(made, "mean", mean)
        object.__setattr__(made, "root", root)
        return made

    @property
    def cov(self) -> Float[Array, "d d"]:
        return _factor.square(self.root)

    @jit
    def sample(self, key: Key) -> State:
        dtype = jnp.result_type(self.mean, self.root)
        z = jax.random.normal(key, self.mean.shape, dtype)
        return self.mean + _factor.times(self.root, z)

    @jit
    def log_prob(self, x: State) -> Scalar:
        _checks.point("Gaussian.log_prob", x, self.mean.size)
        z = _factor.solve(self.root, x - self.mean)
        return -0.5 * (jnp.sum(z**2) + _factor.log_det(self.root) + x.size * jnp.log(2 * jnp.pi))

    @jit
    def entropy(self) -> Scalar:
        r"""$-\int p \ln p = \tfrac12 \ln\det(2\pi e\,\Sigma)$, in nats."""
        per_coordinate = 1 + jnp.log(2 * jnp.pi)
        return 0.5 * (_factor.log_det(self.root) + self.mean.size * per_coordinate)

    def normal(self) -> GaussianParts:
        return GaussianParts(self.mean, self.cov)

    def noised(self, scale: Scalar, variance: Scalar) -> "Gaussian":
        return Gaussian.from_root(scale * self.mean, _noised(self.root, scale, variance))


def _even(cov: Array) -> Array:
    """Whether it is symmetric, as exactly as where it is known."""
    scale = jnp.sqrt(jnp.abs(jnp.diag(cov)))
    apart = jnp.abs(cov - cov.T) / jnp.outer(scale, scale)
    return jnp.all(apart < 1e-5)


def _positive(cov: np.ndarray, least: float) -> bool:
    """Whether it is symmetric and positive definite, in whatever units the coordinates are."""
    cov = np.asarray(cov, float)
    scale = np.sqrt(np.abs(np.diag(cov)))
    if not (scale > 0).all():
        return False
    shape = cov / scale / scale[:, None]
    return bool(np.allclose(shape, shape.T) and np.linalg.eigvalsh(shape).min() > least)


@jax.jit
def _noised(root: Array, scale: Scalar, variance: Scalar) -> Array:
    """The root of $c^2 L L^T + v$."""
    if root.ndim == 1:
        return jnp.sqrt(scale**2 * root**2 + variance)
    noise = variance * jnp.eye(len(root), dtype=root.dtype)
    return _factor.root(scale**2 * _factor.square(root) + noise)
