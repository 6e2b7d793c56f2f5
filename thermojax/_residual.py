"""What an identity lacks, and what is allowed: the form that all answers of `thermojax.identities` have."""

from typing import NamedTuple

import jax.numpy as jnp

from ._paths import Trajectory
from ._types import Array
from .estimators import Estimate

_SURE = 4.0  # standard errors


class DoesNotApply(ValueError):
    """The identity makes no statement about what it was given; the message says why."""


class Undecided(DoesNotApply):
    """These paths are too few, or too far from each other, to say."""


class Residual(NamedTuple):
    """By how much an identity is missed (`value`), its standard error (0 of an exact one), and what is `allowed`: 4 of them,
    and what rounding, or a stated error of quadrature or steps, amounts to."""

    name: str
    equation: str
    value: Array
    stderr: Array
    allowed: Array

    @property
    def holds(self) -> bool:
        """Whether the value lies within what is allowed; never if it is NaN."""
        return bool(jnp.abs(self.value) <= self.allowed)


def rounding(run: Trajectory, size: Array) -> Array:
    """What sums over the steps of terms of this size may lose."""
    return 8 * jnp.finfo(size.dtype).eps * max(run.path.xs.shape[-2], 100) * jnp.max(size)


def largest(name: str, equation: str, gaps: Array, sizes: Array, run: Trajectory) -> Residual:
    value = jnp.max(jnp.abs(gaps))
    return Residual(name, equation, value, jnp.zeros_like(value), rounding(run, sizes))


def statistical(
    name: str,
    equation: str,
    value: Array,
    found: Estimate,
    run: Trajectory,
    size: Array,
    more: Array | float = 0.0,
) -> Residual:
    allowed = _SURE * found.stderr + rounding(run, size) + more
    return Residual(name, equation, value, found.stderr, allowed)


def exponential(name: str, equation: str, found: Estimate, run: Trajectory) -> Residual:
    if not bool(found.reliable):
        raise Undecided(f"the average over these paths is not reliable: {found.why}")
    return statistical(name, equation, found.value - 1, found, run, jnp.ones_like(found.value))
