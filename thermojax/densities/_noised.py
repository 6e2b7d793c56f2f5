r"""What a density becomes when it is shrunk and Gaussian noise is added: $x \to c x + \sqrt v\, \epsilon$."""

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._types import Array, Density, Given, Key, Scalar, State
from ._base import AbstractKnownDensity


class Noised(AbstractKnownDensity):
    r"""$c x + \sqrt v\,\epsilon$, x from a density for which the sum has no closed form: it can be sampled only."""

    density: Density
    scale: Scalar
    variance: Scalar

    @jit
    def sample(self, key: Key) -> State:
        one, two = jax.random.split(key)
        x = self.density.sample(one)
        return self.scale * x + jnp.sqrt(self.variance) * jax.random.normal(two, x.shape, x.dtype)

    def log_prob(self, x: State) -> Scalar:
        raise ValueError(
            f"{type(self.density).__name__} with noise on top has no density in closed form here; Gaussian, Uniform, "
            "Mixture (of these), Point and Empirical have. Fit one of them, or use final=None for what needs no density."
        )

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "Noised":
        return Noised(self.density, scale * self.scale, scale**2 * self.variance + variance)


def noised(density: Density, scale: Given, variance: Given) -> Density:
    r"""The density of $c x + \sqrt v\,\epsilon$ for x from `density` and $\epsilon$ standard normal.

    `scale` c and `variance` v ≥ 0 are numbers. The result is a `Gaussian`, a `Mixture`, a `Smoothed` or a `SmoothedUniform`
    where it has such a closed form, else a `Noised`, which can be sampled only. Raises `ValueError` or
    `TypeError` for something else.
    """
    _checks.density("noised.density", density)
    scale, variance = _number("noised.scale", scale), _number("noised.variance", variance)
    value = _checks.known(variance)
    if value is None:
        variance = _checks.marked(variance, variance >= 0, "noised.variance must not be negative.")
    elif not value >= 0:
        raise ValueError(f"noised.variance must not be negative, got {value}.")
    if isinstance(density, AbstractKnownDensity):
        return density.noised(scale, variance)
    return Noised(density, scale, variance)


def _number(name: str, x: Given) -> Array:
    x = _checks.floating(name, x)
    _checks.rank(name, x, {0}, "(), one number")
    return x
