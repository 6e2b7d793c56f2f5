r"""The best observable in the span of given ones, $h = \theta \cdot g$: a concave problem."""

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

from .. import _checks
from .._factor import inverse, root
from .._guard import size_of
from .._products import matmul
from .._types import Array
from ._currents import Features, odd
from ._functionals import Functional
from ._learnt import Learnt
from ._pairs import Pairs

RIDGE = 1.0  # pairs' worth of a penalty on theta, in units in which <g g> = 1: so that there is a best one
STEPS = 200


def best_in_span(functional: Functional, features: Features, given: Pairs) -> Learnt:
    """Of the odd parts of the features, in whitened ones: their second moments over all pairs are those of one unit each."""
    g = odd(features, given.x0, given.x1)
    g = _whitened(jnp.where(given.there[:, None] > 0, g, 0), jnp.sum(given.there))
    thetas, settled = jax.vmap(lambda weights: best(functional, g, weights))(given.learnt)
    return Learnt(matmul(thetas, g.T), g.shape[1], jnp.all(settled))


def best(functional: Functional, g: Array, weights: Array) -> tuple[Array, Array]:
    r"""$\arg\max_\theta [F(\theta \cdot g) - \theta^2/2n]$ over the n pairs that weigh, and whether it was found."""
    count = jnp.sum(weights)
    small = 1e-6 if g.dtype == jnp.float64 else 1e-3

    def lost(theta: Array, _: None) -> Array:
        return 0.5 * RIDGE * jnp.sum(theta**2) / count - functional(matmul(g, theta), weights)

    start = 2 * matmul(weights, g) / count  # the best one of the uncertainty relation, or nearly
    with _checks.lenient():
        found = optx.minimise(
            lost,
            optx.BFGS(rtol=small, atol=small),
            start,
            max_steps=STEPS,
            throw=False,
            adjoint=optx.ImplicitAdjoint(lx.CG(rtol=small, atol=small)),
            tags=frozenset({lx.positive_semidefinite_tag}),
        )
    return found.value, found.result == optx.RESULTS.successful


def _whitened(g: Array, n: Array) -> Array:
    """With second moments of one, but for what is zero throughout, or nearly the sum of others."""
    # squares of metres cubed are below the floating numbers
    g = g / jax.vmap(size_of, 1)(g)[None]
    moments = matmul(g.T, g) / n
    scale = jnp.sqrt(jnp.diagonal(moments))
    scale = jnp.where(scale > 0, scale, 1)
    eps = 1e-10 if g.dtype == jnp.float64 else 1e-5
    within = moments / (scale[:, None] * scale[None]) + eps * jnp.eye(len(scale), dtype=g.dtype)
    return matmul(g / scale[None], inverse(root(within)).T)
