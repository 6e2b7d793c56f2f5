r"""Overdamped Langevin dynamics: potential, force, mobility and bath, all functions of the control."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, Control, Force, PerCoordinate, Potential, Scalar, State
from ._base import AbstractStep, Exchange, Rule
from ._diffusion import AbstractDiffusion
from ._steps import Euler, Heun


class AbstractOverdamped(AbstractDiffusion):
    r"""$dx = \mu F\,dt + \sqrt{2\mu T}\,dW$ with $F = -\nabla U + f$; states are even under time reversal.

    One of one's own gives energy, push, mobility, temperature and positive; the rest follows:

    ```python
    import jax.numpy as jnp
    import thermojax as tjx

    class Sheared(tjx.AbstractOverdamped):  # a bead in a trap, in a shear flow of rate lam
        stiffness: float

        def energy(self, x, lam):
            return 0.5 * self.stiffness * jnp.sum(x**2)

        def push(self, x, lam):
            return lam * jnp.stack([x[1], 0 * x[0]])

        def mobility(self, lam):
            return jnp.ones_like(lam)

        def temperature(self, lam):
            return jnp.ones_like(lam)

        def positive(self, lam):
            return {}
    ```
    """

    if TYPE_CHECKING:

        @abc.abstractmethod
        def mobility(self, lam: Control) -> Array:
            r"""$\mu(\lambda)$: a scalar or `(d,)`."""
    else:
        mobility: eqx.AbstractVar[Callable[[Control], Array]]  # a method, or a field that is called

    @abc.abstractmethod
    def push(self, x: State, lam: Control) -> State:
        r"""$f(x, \lambda)$, the force that does no potential work."""

    def total_force(self, x: State, lam: Control) -> State:
        r"""$F = -\nabla U + f$."""
        return self.push(x, lam) - jax.grad(self.energy)(x, lam)

    def drift(self, x: State, lam: Control) -> State:
        return self.mobility(lam) * self.total_force(x, lam)

    def diffusion(self, x: State, lam: Control) -> Array:
        return self.mobility(lam) * self.temperature(lam)

    def irreversible(self, x: State, lam: Control) -> State:
        return self.drift(x, lam)

    def heating(self, x: State, lam: Control) -> Array:
        r"""$\dot Q_i = \mu_i F_i^2 + D_i\, \partial_i F_i$. Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), eq. 25."""
        mobility, temperature = self.mobility(lam), self.temperature(lam)
        slopes = jnp.diagonal(jax.jacfwd(self.total_force)(x, lam))
        each = mobility * self.total_force(x, lam) ** 2 + mobility * temperature * slopes
        return each if jnp.ndim(temperature) else jnp.sum(each)

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""$w = f \circ dx, \qquad Q = -\Delta U + f \circ dx, \qquad \Delta S_m = \sum_i Q_i/T_i .$

        $f \circ dx$ is the Stratonovich product, symmetric over the step. With a bath per coordinate $Q_i = F_i \circ dx_i$
        with the discrete gradient of U, so that the heats add up to the same Q exactly.

        Source: Sekimoto, *Stochastic Energetics* (2010); Gonzalez, J. Nonlinear Sci. 6, 449 (1996).
        """
        temperature = self.temperature(lam)
        work = jnp.sum(0.5 * (self.push(x0, lam) + self.push(x1, lam)) * (x1 - x0))
        heat = lost + work
        if jnp.ndim(temperature):
            heat = self._per_bath(x0, x1, heat, lam)
        return Exchange(work, heat, jnp.sum(heat / temperature))

    def _per_bath(self, x0: State, x1: State, heat: Scalar, lam: Control) -> State:
        dx = x1 - x0
        each = 0.5 * (self.total_force(x0, lam) + self.total_force(x1, lam)) * dx
        left = heat - jnp.sum(each)  # of third order in dx, zero for a quadratic potential
        square = jnp.sum(dx**2)
        moved = square > 0
        return each + left * jnp.where(moved, dx**2, 1) / jnp.where(moved, square, dx.size)

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "AbstractOverdamped":
        return self

    def step(self, rule: Rule) -> AbstractStep:
        return Euler() if rule == "kernel" else Heun()

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        _checks.scalar("potential(x, lam)", self.energy, x, lam)
        _checks.like("force(x, lam)", x, self.push, x, lam)
        _checks.like("force(x, lam)", x, self.total_force, x, lam)
        for name, at in (("mobility", self.mobility), ("temperature", self.temperature)):
            if not callable(at):
                raise TypeError(
                    f"{name} of a system must be a callable of lam, got {at!r}. To change the number of one that is made: "
                    f"equinox.tree_at(lambda system: system.{name}.value, system, ...)."
                )
            shape = _checks.shapes(name, at, lam).shape
            if shape not in ((), x.shape):
                raise ValueError(
                    f"{name} must be a scalar or have the shape of the state, {x.shape}; got shape {shape}."
                )
        moved = _checks.shapes(
            "mobility * force",
            lambda x, lam: x + self.diffusion(x, lam) + self.drift(x, lam),
            x,
            lam,
        )
        energy = _checks.shapes("potential", lambda x, lam: self.energy(x, lam) + x[0], x, lam)
        for what, out in (("force or the noise", moved), ("potential", energy)):
            if out.dtype != x.dtype:
                raise TypeError(
                    f"The state is {x.dtype}, but the {what} makes it {out.dtype}: one floating-point precision per run. "
                    "Make the parameters, the protocol and the initial density the same dtype (or plain Python numbers)."
                )


class Overdamped(AbstractOverdamped):
    r"""Overdamped Langevin dynamics in d dimensions, $k_B = 1$:

    $$dx = \mu(\lambda)\, F(x, \lambda)\, dt + \sqrt{2 \mu(\lambda) T(\lambda)}\, dW, \qquad F = -\nabla U + f .$$

    **Arguments:**

    - `potential`: $U(x, \lambda)$, a callable `(x, lam) -> scalar`, or None.
    - `force`: $f(x, \lambda)$, a callable `(x, lam) -> like x` for what is no gradient (or is meant to be counted as
      work), or None.
    - `mobility`: $\mu > 0$ in length² / (energy · time): scalar, `(d,)`, or a callable of `lam` returning either.
    - `temperature`: $T > 0$ in energy: scalar (one bath), `(d,)` (a bath per coordinate), or a callable of `lam`.

    The fields `mobility` and `temperature` are callables of `lam`, whatever was given: a number is `Constant(value)`.
    The noise is additive (independent of x), so Itô and Stratonovich readings of the dynamics agree; heat and work are
    Stratonovich. Raises `ValueError` for a mobility or temperature that is not finite and positive.

    Source: Sekimoto, *Stochastic Energetics* (2010), eq. 1.2.3; Seifert, Rep. Prog. Phys. 75, 126001 (2012), eq. 1.
    """

    potential: Potential | None
    force: Force | None
    mobility: "Constant | Driven"  # pyright: ignore[reportIncompatibleMethodOverride]
    temperature: "Constant | Driven"  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(
        self,
        potential: Potential | None,
        force: Force | None = None,
        mobility: PerCoordinate = 1.0,
        temperature: PerCoordinate = 1.0,
    ):
        for name, value in (("potential", potential), ("force", force)):
            if value is not None and not callable(value):
                raise TypeError(
                    f"Overdamped.{name} must be a callable (x, lam), or None; got {value!r}."
                )
            if value is not None:
                _checks.takes(
                    f"Overdamped.{name}", value, "x", "lam", cure="Take lam, used or not."
                )
        if potential is None and force is None:
            raise ValueError(
                "Overdamped needs a potential, a force, or both. For free diffusion: lambda x, lam: 0 * x.sum()."
            )
        self.potential, self.force = potential, force
        self.mobility = _at_control("mobility", mobility)  # pyright: ignore[reportIncompatibleMethodOverride]
        self.temperature = _at_control("temperature", temperature)  # pyright: ignore[reportIncompatibleMethodOverride]

    def energy(self, x: State, lam: Control) -> Scalar:
        return jnp.zeros((), x.dtype) if self.potential is None else self.potential(x, lam)

    def push(self, x: State, lam: Control) -> State:
        if self.force is None:
            return jnp.zeros_like(x)
        push = self.force(x, lam)
        # a scalar would spread over x
        if push is None or jnp.shape(push) != x.shape:
            got = "None" if push is None else f"shape {jnp.shape(push)}"
            raise ValueError(
                f"force(x, lam) must return an array of the shape of the state, {x.shape}; got {got}."
            )
        return push

    def positive(self, lam: Control) -> dict[str, Array]:
        # constants were checked when the system was made
        driven = {"mobility": self.mobility, "temperature": self.temperature}
        return {name: at(lam) for name, at in driven.items() if isinstance(at, Driven)}


class Constant(eqx.Module):
    """A number, or one per coordinate, whatever the control."""

    value: Array

    def __call__(self, lam: Control) -> Array:
        return self.value


class Driven(eqx.Module):
    """A number, or one per coordinate, that the control drives."""

    name: str = eqx.field(static=True)
    fn: Callable[[Control], Array]

    def __call__(self, lam: Control) -> Array:
        return _checks.floating(f"{self.name}(lam)", self.fn(lam))


def _at_control(name: str, value: PerCoordinate) -> Constant | Driven:
    if isinstance(value, Constant | Driven):  # of another system
        return value
    if callable(value):
        _checks.takes(
            f"Overdamped.{name}",
            value,
            "lam",
            cure="Noise that depends on x is not supported: Itô and Stratonovich readings would differ.",
        )
        return Driven(name, value)
    value = _checks.floating(f"Overdamped.{name}", value, positive=True)
    _checks.rank(f"Overdamped.{name}", value, {0, 1}, "() or (d,)")
    return Constant(value)
