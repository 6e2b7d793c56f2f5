r"""Systems whose states are points: a sum over states takes the place of an integral, a probability that of a density."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._closures import closed
from .._guard import untracked
from .._types import Array, Control, Given, Scalar, State
from ._base import AbstractSystem
from ._overdamped import Constant, Driven


class AbstractDiscrete(AbstractSystem):
    r"""A system that jumps between states, vectors of floats `(d,)` all the same: numbers of particles, places on a ring,
    spins as ±1. Densities on them are probabilities of states (`densities.States`).

    A path of jumps has no derivative: to differentiate through one raises `ValueError`, and a search takes the score
    function, `gradient="score"`.
    """

    @abc.abstractmethod
    def complaint(self, x: State, lam: Control) -> str:
        """What is wrong with the system in the state x at this control, in words; empty if nothing is. Of known values."""


def number_of(name: str, value: Given) -> Constant | Driven:
    """A temperature as a callable of the control: a number or one for each bath, or a callable of `lam`."""
    if isinstance(value, Constant | Driven):
        return value
    if callable(value):
        _checks.takes(name, value, "lam")
        return Driven(name, closed(value))
    value = _checks.floating(name, value, positive=True)
    _checks.rank(name, value, {0, 1}, "() or (baths,)")
    return Constant(value)


def callable_of(name: str, value: Given, *args: str) -> Callable:
    if not callable(value):
        raise TypeError(f"{name} must be a callable ({', '.join(args)}), got {value!r}.")
    _checks.takes(name, value, *args)
    return closed(value)


def same(x: Array, y: Array) -> Array:
    """Whether states, a list `(..., n, d)` and one that is looked up, or two `(d,)`, are one and the same.

    In whole numbers exactly; in others to their rounding, or, where that is not enough (what is left of 0.1 - 0.1), if no
    other state of the list is nearly as near. Units do not matter: distances are measured by the largest number of the
    list, coordinate by coordinate.
    """
    eps, far = float(jnp.finfo(x.dtype).eps), jnp.abs(x - y)
    size = jnp.maximum(jnp.abs(x), jnp.abs(y))
    whole = (x == jnp.round(x)) & (y == jnp.round(y))
    rounded = (far == 0) | (~whole & (far <= 4 * eps * size))
    if far.ndim == 1:
        return jnp.all(rounded)
    extent = jnp.max(jnp.where(jnp.isfinite(size), size, 0), axis=-2, keepdims=True)
    apart = jnp.where(~whole & jnp.isfinite(far), far / jnp.where(extent > 0, extent, 1), jnp.inf)
    apart = jnp.max(jnp.where(rounded, 0, apart), axis=-1)
    nearest = jnp.min(apart, axis=-1, keepdims=True)
    others = apart > nearest
    next_one = jnp.min(jnp.where(others, apart, jnp.inf), axis=-1, keepdims=True)
    near = jnp.where(
        jnp.any(others, axis=-1, keepdims=True), jnp.minimum(next_one / 100, 1e3 * eps), 0
    )
    return ~others & (nearest <= near)


def slack(dtype: np.dtype) -> float:
    """To how many nats local detailed balance must hold: 5e-7, in single precision 1e-2."""
    return 30 * float(jnp.finfo(dtype).eps) ** 0.5


def landed(x1: State, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> State:
    """Where a jump leads. It does not move with what it depends on: to differentiate it is refused."""
    moving = eqx.filter((system, x, lam, dt), eqx.is_inexact_array)
    return untracked(jax.lax.stop_gradient(x1), moving, message=_NO_DERIVATIVE)


_NO_DERIVATIVE = (
    "A path of jumps is being differentiated. It does not move with a parameter, its probability does: the derivative would "
    'silently be without that. Use optimal.search(..., gradient="score"), or hold the parameters fixed '
    "(jax.lax.stop_gradient)."
)


def temperature_fits(name: str, temperature: Given, lam: Control, ranks: tuple[int, ...]) -> None:
    if not callable(temperature):
        raise TypeError(f"{name} must be a callable of lam, got {temperature!r}.")
    shape = _checks.shapes(name, temperature, lam).shape
    if len(shape) not in ranks:
        wanted = " or ".join({0: "()", 1: "(baths,)"}[rank] for rank in ranks)
        raise ValueError(f"{name} must have shape {wanted}, got {shape}.")
