r"""The uniform density of a box, and the same with noise on top, both in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from .. import _checks
from .._jit import jit
from .._nodes import nodes
from .._types import Given, Key, Scalar, State
from .._widths import wide_enough
from ._base import AbstractKnownDensity

# A box narrower than this, in units of the noise, is integrated over by as many points; a difference would lose digits.
NARROW, POINTS, STEEP = 1.0, 16, 20.0


class Uniform(AbstractKnownDensity):
    r"""Constant in the box of all x with $l_i < x_i < u_i$, zero outside.

    `lower` l and `upper` u are scalars or `(d,)`. What noise makes of it is known in closed form (`noised`), so that data of
    this density have an exact score at each level of noise. Raises `ValueError` unless l < u.
    """

    lower: State
    upper: State

    def __init__(self, lower: Given, upper: Given):
        low, high = _checks.known(lower), _checks.known(upper)
        lower = _checks.floating("Uniform.lower", lower)
        upper = _checks.floating("Uniform.upper", upper)
        for name, side in (("Uniform.lower", lower), ("Uniform.upper", upper)):
            _checks.rank(name, side, {0, 1}, "() or (d,)")
        _checks.one_float(**{"Uniform.lower": lower, "Uniform.upper": upper})
        dim = max(lower.size, upper.size)
        if not {lower.size, upper.size} <= {1, dim}:
            raise ValueError(
                f"Uniform.lower and Uniform.upper must have as many coordinates, got {lower.shape} and {upper.shape}."
            )
        if low is not None and high is not None:
            low, high = np.asarray(low, float), np.asarray(high, float)
            farthest = np.maximum(np.abs(low), np.abs(high))
            wide_enough("Uniform.upper", farthest, high - low, upper.dtype)
        lower, upper = (jnp.broadcast_to(side, (dim,)) for side in (lower, upper))
        self.lower = lower
        self.upper = _checks.must(
            "Uniform.upper", upper, upper > lower, "above Uniform.lower", got=upper
        )

    @jit
    def sample(self, key: Key) -> State:
        dtype = jnp.result_type(self.lower, self.upper)
        share = jax.random.uniform(key, self.lower.shape, dtype)
        return self.lower + (self.upper - self.lower) * share

    @jit
    def log_prob(self, x: State) -> Scalar:
        _checks.point("Uniform.log_prob", x, self.lower.size)
        inside = jnp.all((x >= self.lower) & (x <= self.upper))
        return jnp.where(inside, -self.entropy(), -jnp.inf)

    @jit
    def entropy(self) -> Scalar:
        r"""$-\int p \ln p = \sum_i \ln(u_i - l_i)$, in nats."""
        return jnp.sum(jnp.log(self.upper - self.lower))

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "SmoothedUniform":
        return _smoothed(self.lower, self.upper, scale, jnp.asarray(variance))


class SmoothedUniform(AbstractKnownDensity):
    r"""A uniform density with noise on top, of `width` $w_i$ about `middle` $m_i$ and noise of `variance` v:

    $$p(x) = \prod_i \frac{1}{w_i} \Big[\Phi\Big(\frac{x_i - m_i + w_i/2}{\sqrt v}\Big)
      - \Phi\Big(\frac{x_i - m_i - w_i/2}{\sqrt v}\Big)\Big] .$$

    What `Uniform.noised` returns. Its logarithm and its score are finite everywhere, far in the tails too, and keep their
    digits for a box much narrower, or much wider, than the noise; y standard deviations of the noise outside of the box the
    score is right to some $y^2$ roundings.
    """

    middle: State
    width: State
    variance: Scalar

    @jit
    def sample(self, key: Key) -> State:
        one, two = jax.random.split(key)
        dtype = jnp.result_type(self.middle, self.width)
        share = jax.random.uniform(one, self.middle.shape, dtype, -0.5, 0.5)
        noise = jax.random.normal(two, self.middle.shape, dtype)
        return self.middle + self.width * share + jnp.sqrt(self.variance) * noise

    @jit
    def log_prob(self, x: State) -> Scalar:
        _checks.point("SmoothedUniform.log_prob", x, self.middle.size)
        noisy = ~(self.variance <= 0)
        sd = jnp.sqrt(jnp.where(noisy, self.variance, 1))
        away = (x - self.middle) / sd
        found = jnp.sum(jax.vmap(_log_mean_normal)(away, self.width / sd)) - x.size * jnp.log(sd)
        inside = jnp.all(jnp.abs(x - self.middle) <= 0.5 * self.width)
        clean = jnp.where(inside, -jnp.sum(jnp.log(self.width)), -jnp.inf)
        return jnp.where(noisy, found, clean)

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "SmoothedUniform":
        half = 0.5 * self.width
        v = scale**2 * self.variance + variance
        return _smoothed(self.middle - half, self.middle + half, scale, v)


@jax.jit
def _smoothed(lower: State, upper: State, scale: Scalar, variance: Scalar) -> SmoothedUniform:
    return SmoothedUniform(
        0.5 * scale * (lower + upper), jnp.abs(scale) * (upper - lower), variance
    )


def _log_mean_normal(y: Scalar, w: Scalar) -> Scalar:
    r"""$\ln \frac1w \int_{-w/2}^{w/2} \varphi(y + u)\, du$, $\varphi$ the standard normal density."""
    y = jnp.abs(y)  # even: all is done in the left tail, where ln Phi has its digits
    narrow = (w < NARROW) & (y * w < STEEP)
    # by quadrature, where the ends of the difference are nearly equal
    places, weights = (jnp.asarray(v, y.dtype) for v in nodes(POINTS))
    at = jnp.where(narrow, y, 0) + jnp.where(narrow, w, 0) * (places - 0.5)
    inside = jax.scipy.special.logsumexp(-0.5 * at**2, b=weights) - 0.5 * jnp.log(2 * jnp.pi)
    # by the difference, elsewhere
    y, w = jnp.where(narrow, 0, y), jnp.where(narrow, 1, w)
    high, low = log_ndtr(0.5 * w - y), log_ndtr(-0.5 * w - y)
    apart = high + jnp.log(-jnp.expm1(low - high)) - jnp.log(w)
    return jnp.where(narrow, inside, apart)
