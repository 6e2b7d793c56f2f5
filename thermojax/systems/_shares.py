r"""What each of several baths is given in a step, when all of them together are known."""

import jax.numpy as jnp

from .._types import Scalar, State


def shares(force: State, dx: State, total: Scalar) -> State:
    r"""$F_i\,dx_i$ with the mean force of the two ends, made to add up to `total` by the discrete gradient of U.

    What is left is of third order in dx, and zero for a quadratic potential. Symmetric in the two ends.
    Source: Gonzalez, J. Nonlinear Sci. 6, 449 (1996).
    """
    each = force * dx
    left = total - jnp.sum(each)
    square = jnp.sum(dx**2)
    moved = square > 0
    return each + left * jnp.where(moved, dx**2, 1) / jnp.where(moved, square, dx.size)
