"""What a density is, and what is known of it in closed form."""

import abc
from typing import NamedTuple

import equinox as eqx

from .._renamed import former
from .._types import Array, Density, Key, Scalar, State


class AbstractDensity(eqx.Module):
    r"""A probability density on d coordinates. To write your own, subclass and give two methods:

    ```python
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from thermojax.densities import AbstractDensity


    class Laplace(AbstractDensity):
        width: jax.Array

        def sample(self, key):
            return self.width * jax.random.laplace(key, (1,))

        def log_prob(self, x):
            return -jnp.sum(jnp.abs(x)) / self.width - jnp.log(2 * self.width)


    width = lambda w: Laplace(w).sample(jax.random.key(0))[0]  # a draw follows its parameters
    assert jnp.allclose(jax.grad(width)(2.0), width(2.0) / 2.0)
    ```

    Any object with these two methods is a density, too (a distribution of another library, say).
    """

    @abc.abstractmethod
    def sample(self, key: Key) -> State:
        """One draw, of shape `(d,)`."""

    @abc.abstractmethod
    def log_prob(self, x: State) -> Scalar:
        """The logarithm of the density at one point of shape `(d,)`, in nats."""


class GaussianParts(NamedTuple):
    """The mean `(d,)` and the covariance `(d, d)` of a density that is Gaussian."""

    mean: State
    cov: Array


class AbstractKnownDensity(AbstractDensity):
    """A density that can say whether it is Gaussian, and what noise makes of it. All of this library are."""

    @abc.abstractmethod
    def normal(self) -> GaussianParts | None:
        """Mean and covariance if the density is Gaussian, else None; told from its structure, not from values."""

    def gaussian(self) -> AbstractDensity:
        """Former name: see `normal`."""
        return former("thermojax.densities", "gaussian")(self)

    @abc.abstractmethod
    def noised(self, scale: Scalar, variance: Scalar) -> Density:
        r"""The density of $c x + \sqrt v\,\epsilon$, c = `scale`, v = `variance`: see `densities.noised`."""


def normal(density: Density) -> GaussianParts | None:
    """Mean and covariance of a density that is known to be Gaussian, else None."""
    return density.normal() if isinstance(density, AbstractKnownDensity) else None
