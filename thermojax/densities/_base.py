"""What a density is, and how a draw says which of its parameters it does not follow."""

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.tree_util as jtu

from .._types import Array, Key, PyTree, Scalar, State

if TYPE_CHECKING:
    from ._gaussian import Gaussian


class AbstractDensity(eqx.Module):
    """A probability density on d coordinates."""

    @abc.abstractmethod
    def sample(self, key: Key) -> State:
        """One draw, of shape `(d,)`."""

    @abc.abstractmethod
    def log_prob(self, x: State) -> Scalar:
        """The logarithm of the density at one point of shape `(d,)`, in nats."""

    @abc.abstractmethod
    def gaussian(self) -> "Gaussian":
        """The same density as a `Gaussian`, or a `ValueError` if it is none."""


@eqx.filter_custom_jvp
def untracked(draw: Array, parameters: PyTree, *, message: str) -> Array:
    """`draw`, which depends on `parameters` without a derivative: a `ValueError` if these are being differentiated.

    It is raised while tracing, in forward and reverse mode alike; nothing is computed in a run.
    """
    del parameters, message
    return draw


@untracked.def_jvp
def _untracked_jvp(primals: Any, tangents: Any, *, message: str) -> Any:
    # A tangent is None unless what is differentiated reaches the argument.
    if jtu.tree_leaves(tangents[1]):
        raise ValueError(message)
    return primals[0], tangents[0]
