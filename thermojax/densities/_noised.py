r"""What a density becomes when it is shrunk and Gaussian noise is added: $x \to c x + \sqrt v\, \epsilon$."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, Key, Scalar, State
from ._base import AbstractDensity
from ._boltzmann import Boltzmann
from ._gaussian import Gaussian
from ._mixture import Mixture
from ._points import Empirical, Point


class Noised(AbstractDensity):
    r"""$c x + \sqrt v\,\epsilon$, x from a density for which the sum has no closed form: it can be sampled only."""

    density: Any
    scale: Scalar
    variance: Scalar

    def sample(self, key: Key) -> State:
        one, two = jax.random.split(key)
        x = self.density.sample(one)
        return self.scale * x + jnp.sqrt(self.variance) * jax.random.normal(two, x.shape, x.dtype)

    def log_prob(self, x: State) -> Scalar:
        raise ValueError(
            f"{type(self.density).__name__} with noise on top has no density in closed form here; Gaussian, Mixture (of "
            "Gaussians), Point and Empirical have. Fit one of them, or use final=None for what needs no density."
        )

    def gaussian(self) -> Gaussian:
        raise ValueError(
            f"{type(self.density).__name__} with noise on top is no Gaussian. Simulate."
        )


class Smoothed(AbstractDensity):
    r"""Points of equal weight with noise on top: $p(x) = \frac1n \sum_i N(x; x_i, v)$, `xs` `(n, d)`."""

    xs: Array
    variance: Scalar

    def sample(self, key: Key) -> State:
        row, shift = jax.random.split(key)
        x = self.xs[jax.random.randint(row, (), 0, self.xs.shape[0])]
        return x + jnp.sqrt(self.variance) * jax.random.normal(shift, x.shape, x.dtype)

    def log_prob(self, x: State) -> Scalar:
        n, d = self.xs.shape
        _checks.point("Smoothed.log_prob", x, d)
        heights = -jnp.sum((x[None] - self.xs) ** 2, 1) / (2 * self.variance)
        norm = jnp.log(2 * jnp.pi * self.variance)
        return jax.scipy.special.logsumexp(heights) - jnp.log(float(n)) - 0.5 * d * norm

    def gaussian(self) -> Gaussian:
        raise ValueError(
            "Points with noise on top (Smoothed) are no Gaussian. To use one with their moments: Gaussian(xs.mean(0), "
            "jnp.cov(xs.T)); or simulate."
        )


@ft.singledispatch
def noised(density: Any, scale: Any, variance: Any) -> Any:
    r"""The density of $c x + \sqrt v\,\epsilon$ for x from `density` and $\epsilon$ standard normal, c and v scalars."""
    return Noised(density, jnp.asarray(scale), jnp.asarray(variance))


@noised.register
def _(density: Gaussian, scale: Any, variance: Any) -> Gaussian:
    eye = jnp.eye(density.mean.size, dtype=density.cov.dtype)
    return _gaussian(scale * density.mean, scale**2 * density.cov + variance * eye)


@noised.register
def _(density: Mixture, scale: Any, variance: Any) -> Mixture:
    parts = [noised(component, scale, variance) for component in density.components]
    return Mixture(density.weights, parts)


@noised.register
def _(density: Point, scale: Any, variance: Any) -> Gaussian:
    eye = jnp.eye(density.x0.size, dtype=density.x0.dtype)
    return _gaussian(scale * density.x0, variance * eye)


@noised.register
def _(density: Empirical, scale: Any, variance: Any) -> Smoothed:
    return Smoothed(scale * density.xs, jnp.asarray(variance, density.xs.dtype))


@noised.register
def _(density: Smoothed, scale: Any, variance: Any) -> Smoothed:
    return Smoothed(scale * density.xs, scale**2 * density.variance + variance)


@noised.register
def _(density: Noised, scale: Any, variance: Any) -> Any:
    return noised(density.density, scale * density.scale, scale**2 * density.variance + variance)


@noised.register
def _(density: Boltzmann, scale: Any, variance: Any) -> Any:
    if density.quadratic:
        return noised(density.gaussian(), scale, variance)
    return Noised(density, jnp.asarray(scale), jnp.asarray(variance))


def _gaussian(mean: Array, cov: Array) -> Gaussian:
    """Without the checks of the front door: a covariance of covariances needs none, and they cost a synchronisation."""
    return eqx.tree_at(lambda g: (g.mean, g.cov), Gaussian(jnp.zeros(mean.size), 1.0), (mean, cov))
