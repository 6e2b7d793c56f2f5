r"""The observable that a score makes: what the local mean velocity would do as a force.

$$v = b - D \nabla \ln p, \qquad \Sigma = \tau \langle v \cdot D^{-1} v \rangle, \qquad
  h = D^{-1} v\big(\tfrac12(x_0 + x_1)\big) \cdot (x_1 - x_0)$$

for a short lag $\tau$, where h is the logarithm of the ratio itself. At longer ones a multiple of it does better.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .._factor import inverse, root
from .._products import matmul
from .._types import Array, Scalar, State
from ._currents import along
from ._functionals import Functional
from ._learnt import Learnt
from ._pairs import Pairs
from ._span import best

Field: TypeAlias = Callable[[State], Array]  # of a place, (d,)


def of_score(
    functional: Functional, score: Field | None, drift: Field | None, lag: Scalar, given: Pairs
) -> Learnt:
    """Drift and diffusion from the displacements that are learnt from, and the score from their places, unless given.

    The score that is made here is that of a Gaussian, the drift linear in the place.
    """
    n, d = given.x0.shape

    def one(weights: Array) -> tuple[Array, Array]:
        count = jnp.sum(weights)
        mean = matmul(weights, given.x0) / count
        apart = (given.x0 - mean[None]) * jnp.sqrt(weights)[:, None]
        moved = (given.x1 - given.x0) * jnp.sqrt(weights)[:, None]
        tight = _inverse(matmul(apart.T, apart) / count)
        slope = matmul(matmul(moved.T, apart) / count, tight)
        shift = jnp.sum(moved * jnp.sqrt(weights)[:, None], 0) / count
        pushed = matmul(apart, slope.T) + shift[None] * jnp.sqrt(weights)[:, None]
        if drift is not None:
            pushed = lag * jax.vmap(drift)(given.x0) * jnp.sqrt(weights)[:, None]
        rest = moved - pushed
        mobile = _inverse(matmul(rest.T, rest) / (2 * count))  # of D times the lag

        def force(x: Array) -> Array:
            linear = shift[None] + matmul(x - mean[None], slope.T)
            push = linear if drift is None else lag * jax.vmap(drift)(x)
            slopes = -matmul(x - mean[None], tight) if score is None else jax.vmap(score)(x)
            return matmul(push, mobile) - slopes

        h = along(force, given.x0, given.x1)
        size = jnp.sqrt(jnp.sum(weights * h**2) / count)
        theta, settled = best(functional, (h / size)[:, None], weights)
        return h * theta[0] / size, settled

    h, settled = jax.lax.map(one, given.learnt)
    size = d * d if score is None or drift is None else d
    return Learnt(h, size, jnp.all(settled))


def _inverse(cov: Array) -> Array:
    half = inverse(root(cov))
    return matmul(half.T, half)
