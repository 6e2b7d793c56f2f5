"""The words of the field as types. Shapes: `d` coordinates, `n` steps."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Key as KeyArray, PyTree, Shaped

Key: TypeAlias = KeyArray[Array, ""]
Scalar: TypeAlias = Float[Array, ""]
State: TypeAlias = Float[Array, " d"]
Half: TypeAlias = Float[
    Array, " half"
]  # the positions of a state, or the momenta, where it has both
NoForce: TypeAlias = Float[np.ndarray, " d"]  # of a force that is zero everywhere: numpy's zeros
Control: TypeAlias = PyTree  # the value lambda of everything that is driven
Times: TypeAlias = Float[Array, " times"]
Time: TypeAlias = Shaped[ArrayLike, ""]
Numbers: TypeAlias = ArrayLike | Sequence[object]  # what becomes an array

Drive: TypeAlias = Callable[[Any], Control]  # lam(t): a protocol, or any callable of time
Given: TypeAlias = Any  # what a user gives, before a front door has looked at it
Draw: TypeAlias = Callable[[Key], State]  # one draw by a key
Reduced: TypeAlias = Callable[[State], Scalar]  # phi(x) = U(x) / T
Potential: TypeAlias = Callable[[Any, Any], Any]  # U(x, lam) -> scalar
Force: TypeAlias = Callable[[Any, Any], Any]  # f(x, lam) -> like x
PerCoordinate: TypeAlias = Shaped[ArrayLike, ""] | Shaped[Array, " d"] | Callable[[Any], Any]


@runtime_checkable
class Sampled(Protocol):
    """What is drawn from: duck-typed."""

    def sample(self, key: Any) -> Any:
        """One draw, of shape `(d,)`."""
        ...


@runtime_checkable
class Density(Protocol):
    """What a `Process` asks of its `initial` and `final`: duck-typed."""

    def sample(self, key: Any) -> Any:
        """One draw, of shape `(d,)`."""
        ...

    def log_prob(self, x: Any) -> Any:
        """Logarithm of the density at one point of shape `(d,)`, in nats."""
        ...


@runtime_checkable
class InTime(Protocol):
    """A density in time."""

    def at(self, t: Any) -> Any:
        """The density at time t."""
        ...


__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "Control",
    "Density",
    "Drive",
    "Draw",
    "Float",
    "Force",
    "Given",
    "Half",
    "InTime",
    "Key",
    "NoForce",
    "Numbers",
    "PerCoordinate",
    "Potential",
    "PyTree",
    "Reduced",
    "Sampled",
    "Scalar",
    "Shaped",
    "State",
    "Time",
    "Times",
]
