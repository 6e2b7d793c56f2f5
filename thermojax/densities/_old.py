"""Old signatures, for those who still call them."""

import jax.numpy as jnp

from .. import _factor
from .._types import Density
from ._base import normal
from ._gaussian import Gaussian


def gaussian(density: Density) -> Gaussian:
    """The method `gaussian()` that densities had: see `normal`, which is None in the place of an error."""
    parts = normal(density)
    if parts is None:
        raise ValueError(
            f"{type(density).__name__} is no Gaussian (Boltzmann is one unless its potential is not quadratic in x). "
            "Start from thermojax.densities.Gaussian (with the moments of points: Gaussian(xs.mean(0), jnp.cov(xs.T)))."
        )
    narrow = jnp.all(parts.cov == 0)  # a Point
    return Gaussian.from_root(parts.mean, jnp.where(narrow, 0, _factor.root(parts.cov)))
