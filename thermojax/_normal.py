r"""The normal density of a step: independent coordinates, each with its mean and variance."""

import abc
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp

from ._types import Array, ArrayLike, Given, Key, Scalar, State


class AbstractTransition(eqx.Module):
    """The density of a step, which can be held against that of the reversed step without their normalisers."""

    @abc.abstractmethod
    def sample(self, key: Key) -> State:
        """One draw."""

    @abc.abstractmethod
    def log_prob(self, x: State) -> Scalar:
        """The logarithm of the density, in nats."""

    @abc.abstractmethod
    def log_ratio(self, x: State, back: Given, flipped: State) -> Scalar:
        r"""$\ln p(x)/p_\mathrm{back}(x_\mathrm{flipped})$, `back` the density of the step back, of the same kind."""


class Normal(AbstractTransition):
    r"""$N(m_i, v_i)$ per coordinate: what a kernel of a step is. It unpacks as `(mean, variance)`.

    `mean` is `(d,)`, `variance` that of each coordinate, `(d,)`, or one for all. A step that goes from x by a small `shift`
    says so, `Normal(x, variance, shift)` with the mean $x + $ `shift`: no digits are then lost far from the origin.
    """

    origin: State
    variance: ArrayLike
    shift: ArrayLike = 0.0

    @property
    def mean(self) -> State:
        return self.origin + self.shift

    def __iter__(self) -> Iterator[Array]:
        return iter((self.mean, jnp.asarray(self.variance)))

    def log_prob(self, x: State) -> Scalar:
        r"""$-\tfrac12 \sum_i (x_i - m_i)^2/v_i + \ln 2\pi v_i$, in nats."""
        square = (x - self.origin - self.shift) ** 2 / self.variance
        return -0.5 * jnp.sum(square + jnp.log(2 * jnp.pi * self.variance))

    def log_ratio(self, x: State, back: "Normal", flipped: State) -> Scalar:
        r"""$\ln N(x; m, v) / N(y; m', v')$, y = `flipped`, without the normalisers, which cancel where $v = v'$ and would
        cost digits.

        $a^2 - b^2$ is $(a + b)(a - b)$: of two steps there and back the sum of the moves is zero, exactly.
        """
        there, here = x - self.origin, flipped - back.origin
        shift, shift_back = jnp.asarray(self.shift), jnp.asarray(back.shift)
        plus = (here + there) - (shift_back + shift)
        minus = (here - there) - (shift_back - shift)
        apart = 1 / back.variance - 1 / self.variance  # zero, mostly
        square = plus * minus / self.variance + (here - shift_back) ** 2 * apart
        return 0.5 * jnp.sum(square + jnp.log(back.variance / self.variance))

    def at(self, z: State) -> State:
        r"""The point $m + \sqrt v\, z$ of a standard normal `z`."""
        return self.mean + jnp.sqrt(self.variance) * z

    def sample(self, key: Key) -> State:
        """One draw."""
        return self.at(jax.random.normal(key, self.mean.shape, self.mean.dtype))
