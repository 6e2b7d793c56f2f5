r"""A catalogue of potentials $U(x, \lambda)$. Any callable `U(x, lam) -> scalar` works in their place.

`x` has shape `(d,)`, also for d = 1. Energies are in units of $k_B T$ at $T = 1$. Parameters are arrays, so that
`jax.grad` reaches them; what a `protocol` drives is the control `lam`, which each class names.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ._checks import floating
from ._types import Array, Control, Scalar, State


class AbstractPotential(eqx.Module):
    r"""A potential $U(x, \lambda)$. To write your own, subclass and give `__call__`, or pass a plain function.

    A class has parameters that `jax.grad` reaches:

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Morse(tjx.potentials.AbstractPotential):
        depth: jax.Array
        width: jax.Array

        def __call__(self, x, lam):
            return jnp.sum(self.depth * (1 - jnp.exp(-(x - lam) / self.width)) ** 2)


    bond = Morse(depth=jnp.asarray(5.0), width=jnp.asarray(0.5))
    print(bond(jnp.array([0.2]), 0.0), jax.grad(lambda b: b(jnp.array([0.2]), 0.0))(bond).depth)
    system = tjx.Overdamped(bond)
    ```
    """

    @abc.abstractmethod
    def __call__(self, x: State, lam: Control) -> Scalar:
        r"""The energy $U(x, \lambda)$ of one state `x` of shape `(d,)`."""


def _number(name: str) -> Any:
    return eqx.field(converter=lambda value: floating(name, value))


def _fits(x: State, name: str, **numbers: Control) -> None:
    """Refuse what is neither one number nor one per coordinate: it would spread, or x would."""
    for what, number in numbers.items():
        if jnp.shape(number) not in ((), jnp.shape(x)):
            raise ValueError(
                f"{name}: {what} must be a scalar or one number per coordinate, {jnp.shape(x)}; got shape "
                f"{jnp.shape(number)}. Start from as many coordinates (dim= of Boltzmann, a mean of a Gaussian)."
            )


class Harmonic(AbstractPotential):
    r"""$U = \tfrac12 \sum_i k_i (x_i - c_i)^2$, not driven: `lam` is ignored.

    `stiffness` and `center` are scalars or of shape `(d,)`.
    """

    stiffness: Array = _number("Harmonic.stiffness")
    center: Array = eqx.field(
        default=0.0, converter=lambda value: floating("Harmonic.center", value)
    )

    def __call__(self, x: State, lam: Control = None) -> Scalar:
        _fits(x, "Harmonic", stiffness=self.stiffness, center=self.center)
        return 0.5 * jnp.sum(self.stiffness * (x - self.center) ** 2)


class MovingTrap(AbstractPotential):
    r"""$U = \tfrac12 \sum_i k_i (x_i - \lambda_i)^2$: an optical tweezer whose position `lam` is driven.

    `stiffness` and `lam` are scalars or of shape `(d,)`. Schmiedl & Seifert, PRL 98, 108301 (2007), eq. 3.
    """

    stiffness: Array = _number("MovingTrap.stiffness")

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "MovingTrap", stiffness=self.stiffness, lam=lam)
        return 0.5 * jnp.sum(self.stiffness * (x - lam) ** 2)


class Breathing(AbstractPotential):
    r"""$U = \tfrac12 \sum_i \lambda_i (x_i - c_i)^2$: a trap whose stiffness `lam` is driven.

    Schmiedl & Seifert, PRL 98, 108301 (2007), eq. 10.
    """

    center: Array = eqx.field(
        default=0.0, converter=lambda value: floating("Breathing.center", value)
    )

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "Breathing", center=self.center, lam=lam)
        return 0.5 * jnp.sum(lam * (x - self.center) ** 2)


class DoubleWell(AbstractPotential):
    r"""$U = E \sum_i ((x_i/a)^2 - 1)^2 - \lambda \sum_i x_i$: wells at $\pm a$, a barrier $E$ between, tilted by `lam`."""

    barrier: Array = _number("DoubleWell.barrier")
    width: Array = eqx.field(
        default=1.0, converter=lambda value: floating("DoubleWell.width", value)
    )

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "DoubleWell", barrier=self.barrier, width=self.width, lam=lam)
        return jnp.sum(self.barrier * ((x / self.width) ** 2 - 1) ** 2 - lam * x)


class Quartic(AbstractPotential):
    r"""$U = \sum_i (\tfrac12 \lambda x_i^2 + \tfrac14 g x_i^4)$: stiffness `lam` driven, hardening `g` fixed."""

    hardening: Array = _number("Quartic.hardening")

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "Quartic", hardening=self.hardening, lam=lam)
        return jnp.sum(0.5 * lam * x**2 + 0.25 * self.hardening * x**4)


class Ring(AbstractPotential):
    r"""$U = V_0 \sum_i \cos(2\pi x_i / L)$ on a ring of circumference $L$, not driven. Tilt it by a constant `force`.

    Positions count the turns: the state is not wrapped, so that the work of the tilt is $f \Delta x$.
    """

    corrugation: Array = _number("Ring.corrugation")
    length: Array = eqx.field(
        default=2 * jnp.pi, converter=lambda value: floating("Ring.length", value)
    )

    def __call__(self, x: State, lam: Control = None) -> Scalar:
        _fits(x, "Ring", corrugation=self.corrugation, length=self.length)
        return self.corrugation * jnp.sum(jnp.cos(2 * jnp.pi * x / self.length))
