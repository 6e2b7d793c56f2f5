r"""Systems that move by a drift and by noise."""

import abc
from typing import ClassVar

import jax.numpy as jnp

from .._types import Array, Control, State
from ._base import AbstractSystem


class AbstractDiffusion(AbstractSystem):
    r"""$dx = b(x, \lambda)\,dt + \sqrt{2D(\lambda)}\,dW$: what `evolve.moments`, `evolve.steady` and `rates` ask for.

    With noise on every coordinate it is also what the steps `Heun`, `Euler` and diffrax's solvers ask for; a `singular` one
    has coordinates without noise of their own, $D_i = 0$, as positions have that momenta move, and steps of its own.
    """

    singular: ClassVar[bool] = False

    @abc.abstractmethod
    def drift(self, x: State, lam: Control) -> State:
        r"""$b(x, \lambda)$, the Itô drift."""

    @abc.abstractmethod
    def diffusion(self, x: State, lam: Control) -> Array:
        r"""$D_i(\lambda)$, a scalar or like x, zero where there is no noise; it does not depend on x."""

    @abc.abstractmethod
    def irreversible(self, x: State, lam: Control) -> State:
        r"""The part of the drift that dissipates: all of it, overdamped; $(0, -\gamma v)$, underdamped."""

    @abc.abstractmethod
    def heating(self, x: State, lam: Control) -> Array:
        r"""The mean rate $\dot Q_i$ at which each bath is given heat in the state x, of the shape of `temperature(lam)`."""

    def spread(self, x: State, lam: Control) -> State:
        r"""$\sigma_i = \sqrt{2 D_i}$."""
        return jnp.broadcast_to(jnp.sqrt(2 * self.diffusion(x, lam)), x.shape)

    @staticmethod
    def needed_by(name: str, system: AbstractSystem) -> "AbstractDiffusion":
        """The system, if it is a diffusion; if not, a `TypeError` that says who needs one."""
        if not isinstance(system, AbstractDiffusion):
            raise TypeError(
                f"{name} steps a system with a drift and additive noise (AbstractDiffusion), and {type(system).__name__} "
                "is none. Use solver=None, the step of the system itself."
            )
        if system.singular:
            raise TypeError(
                f"{name} needs noise on every coordinate, and {type(system).__name__} has none on its positions. Use "
                "solver=None, a step of the system itself: thermojax.BAOAB() or ABOBA()."
            )
        return system
