r"""The normal density of a step: independent coordinates, each with its mean and variance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._types import Array, Key, Scalar, State


class Normal(NamedTuple):
    r"""$N(m_i, v_i)$ per coordinate: what a kernel of a step is. It unpacks as `(mean, variance)`.

    `mean` is `(d,)`, `variance` that of each coordinate, `(d,)`, or one for all.
    """

    mean: State
    variance: Array

    def log_prob(self, x: State) -> Scalar:
        r"""$-\tfrac12 \sum_i (x_i - m_i)^2/v_i + \ln 2\pi v_i$, in nats."""
        square = (x - self.mean) ** 2 / self.variance
        return -0.5 * jnp.sum(square + jnp.log(2 * jnp.pi * self.variance))

    def log_ratio(self, y: State, back: "Normal", x: State) -> Scalar:
        r"""$\ln N(y; m, v) / N(x; m', v')$ without the normalisers, which cancel where $v = v'$ and would cost digits."""
        there, here = (y - self.mean) ** 2 / self.variance, (x - back.mean) ** 2 / back.variance
        return 0.5 * jnp.sum(here - there + jnp.log(back.variance / self.variance))

    def at(self, z: State) -> State:
        r"""The point $m + \sqrt v\, z$ of a standard normal `z`."""
        return self.mean + jnp.sqrt(self.variance) * z

    def sample(self, key: Key) -> State:
        """One draw."""
        return self.at(jax.random.normal(key, self.mean.shape, self.mean.dtype))
