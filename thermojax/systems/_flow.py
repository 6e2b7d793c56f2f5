r"""Fields of vectors: forces, what they work, and a medium that moves, u(x, λ), with the reversed one, −u."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._types import Control, Force, NoForce, Scalar, State


class Against(eqx.Module):
    """The flow of the reversed run: velocities are odd under time reversal."""

    velocity: Force

    def __call__(self, x: State, lam: Control) -> State:
        return -flow(self.velocity, x, lam)


def against(velocity: Force) -> Force:
    """-u; of a flow that was reversed, the flow itself."""
    return velocity.velocity if isinstance(velocity, Against) else Against(velocity)


def field(name: str, fn: Force, x: State, lam: Control) -> State:
    """`fn(x, lam)`, which has the shape of x: a scalar would spread over it."""
    value: Any = fn(x, lam)
    if value is None or jnp.shape(value) != x.shape:
        got = "None" if value is None else f"shape {jnp.shape(value)}"
        raise ValueError(
            f"{name}(x, lam) must return an array of the shape of the state, {x.shape}; got {got}."
        )
    return value


def no_force(x: State) -> NoForce:
    """No force: zeros that are known while tracing, and nothing need be computed with them."""
    return np.zeros(x.shape, x.dtype)


def absent(force: State | NoForce) -> bool:
    """Whether a force is known to be zero: a number of numpy's, that no tracing has seen."""
    return isinstance(force, np.ndarray) and not force.any()


def with_pull(push: State | NoForce, slope: State) -> State:
    r"""$f - \nabla U$."""
    return -slope if absent(push) else jnp.asarray(push) - slope


def worked(push: Callable[[State], State | NoForce], x0: State, x1: State) -> Scalar:
    r"""$f \circ dx$, the Stratonovich product."""
    before, after = push(x0), push(x1)
    if absent(before) and absent(after):
        return jnp.zeros((), x0.dtype)
    return jnp.sum(0.5 * (before + after) * (x1 - x0))


def flow(velocity: Force, x: State, lam: Control) -> State:
    """u(x, λ), like x."""
    return field("velocity", velocity, x, lam)


def in_flow(velocity: Force | None, drift: State, x: State, lam: Control) -> State:
    """The drift with that of the medium, if it moves."""
    return drift if velocity is None else drift + flow(velocity, x, lam)


def divergence(velocity: Force | None, x: State, lam: Control) -> Scalar:
    r"""$\nabla \cdot u$."""
    if velocity is None:
        return jnp.zeros((), x.dtype)
    return jnp.trace(jax.jacfwd(lambda y: flow(velocity, y, lam))(x))
