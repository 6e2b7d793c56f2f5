r"""How an observable h of pairs, odd under their exchange, is priced: two functionals, neither above the entropy
production $\Sigma$ of the pair, whatever h is.

$$\langle h \rangle - \ln \langle e^{-h} \rangle \le \Sigma, \qquad
  2 \langle h \rangle - \tfrac12 \langle h^2 \rangle \le \frac{2 \langle h \rangle^2}{\langle h^2 \rangle} \le \Sigma .$$

The first is Donsker's and Varadhan's, with equality for $h = \ln p(x_0, x_1)/p(x_1, x_0)$. The second, of all multiples of
h the best one, is the uncertainty relation, and the first to second order in h.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .._types import Array, Scalar

Functional: TypeAlias = Callable[[Array, Array], Scalar]  # of h (n,) and weights (n,)


def max_entropy(h: Array, weights: Array) -> Scalar:
    r"""$\langle h \rangle - \ln \langle e^{-h} \rangle$."""
    total = jnp.sum(weights)
    top = jax.lax.stop_gradient(jnp.max(jnp.where(weights > 0, -h, -jnp.inf)))
    back = jnp.sum(weights * jnp.exp(jnp.where(weights > 0, -h - top, 0)))
    return jnp.sum(weights * h) / total - jnp.log(back / total) - top


def tur(h: Array, weights: Array) -> Scalar:
    r"""$2 \langle h \rangle - \tfrac12 \langle h^2 \rangle$."""
    return jnp.sum(weights * (2 * h - 0.5 * h**2)) / jnp.sum(weights)


FUNCTIONALS: dict[str, Functional] = {"max_entropy": max_entropy, "tur": tur}


def influence(functional: Functional, h: Array, weights: Array) -> Array:
    """What each pair moves the value by, times their number: its mean over the pairs is zero."""
    moved = jnp.sum(weights) * jax.grad(functional, 1)(h, weights)
    return jnp.where(weights > 0, moved, 0)
