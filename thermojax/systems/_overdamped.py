r"""Overdamped Langevin dynamics: potential, force, mobility and bath, all functions of the control."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._closures import closed
from .._types import Array, Control, Force, NoForce, PerCoordinate, Potential, Scalar, State
from ._base import AbstractStep, Exchange, Rule
from ._diffusion import AbstractDiffusion
from ._flow import against, divergence, field, flow, in_flow, no_force, with_pull, worked
from ._precision import one_precision
from ._shares import shares
from ._steps import Euler, Heun


class AbstractOverdamped(AbstractDiffusion):
    r"""$dx = u\,dt + \mu F\,dt + \sqrt{2\mu T}\,dW$ with $F = -\nabla U + f$; states are even under time reversal.

    The flow $u(x, \lambda)$ of the medium is zero unless `velocity=` is given. One of one's own gives energy, push,
    mobility, temperature and positive; the rest follows, `velocity=` included:

    ```python
    import jax.numpy as jnp
    import thermojax as tjx

    class Sheared(tjx.AbstractOverdamped):  # a bead in a trap, under a shearing force of rate lam
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

    velocity: Force | None = eqx.field(default=None, kw_only=True)

    if TYPE_CHECKING:

        @abc.abstractmethod
        def mobility(self, lam: Control) -> Array:
            r"""$\mu(\lambda)$: a scalar or `(d,)`."""
    else:
        mobility: eqx.AbstractVar[Callable[[Control], Array]]  # a method, or a field that is called

    @abc.abstractmethod
    def push(self, x: State, lam: Control) -> State | NoForce:
        r"""$f(x, \lambda)$, the force that does no potential work; where there is none, best numpy's zeros: nothing is then
        computed with them."""

    def total_force(self, x: State, lam: Control) -> State:
        r"""$F = -\nabla U + f$."""
        return with_pull(self.push(x, lam), jax.grad(self.energy)(x, lam))

    def drift(self, x: State, lam: Control) -> State:
        return in_flow(self.velocity, self.irreversible(x, lam), x, lam)

    def diffusion(self, x: State, lam: Control) -> Array:
        return self.mobility(lam) * self.temperature(lam)

    def irreversible(self, x: State, lam: Control) -> State:
        r"""$\mu F$: the drift against the medium, which is the drift itself where that is at rest."""
        return self.mobility(lam) * self.total_force(x, lam)

    def dilation(self, x: State, lam: Control) -> Scalar:
        r"""$\nabla \cdot u$, the rate at which the flow of the medium swells a volume; zero without `velocity`."""
        return divergence(self.velocity, x, lam)

    def heating(self, x: State, lam: Control) -> Array:
        r"""$\dot Q_i = \mu_i F_i^2 + D_i\, \partial_i F_i$. Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), eq. 25."""
        mobility, temperature = self.mobility(lam), self.temperature(lam)
        slopes = jnp.diagonal(jax.jacfwd(self.total_force)(x, lam))
        force = self.total_force(x, lam)
        # in this order: the square of a force may be beyond single precision where the power is not
        each = (mobility * force) * force + mobility * temperature * slopes
        return each if jnp.ndim(temperature) else jnp.sum(each)

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""$w = f \circ dx, \qquad Q = -\Delta U + f \circ dx, \qquad \Delta S_m = \sum_i Q_i/T_i .$

        $f \circ dx$ is the Stratonovich product, symmetric over the step. With a bath per coordinate $Q_i = F_i \circ dx_i$
        with the discrete gradient of U, so that the heats add up to the same Q exactly.

        Source: Sekimoto, *Stochastic Energetics* (2010); Gonzalez, J. Nonlinear Sci. 6, 449 (1996).
        """
        temperature = self.temperature(lam)
        work = worked(lambda x: self.push(x, lam), x0, x1)
        heat = lost + work
        if jnp.ndim(temperature):
            force = 0.5 * (self.total_force(x0, lam) + self.total_force(x1, lam))
            heat = shares(force, x1 - x0, heat)
        return Exchange(work, heat, jnp.sum(heat / temperature))

    def carried(self, given: Exchange, x0: State, x1: State, lam: Control, dt: Scalar) -> Exchange:
        r"""What `exchange` gave, in a medium that moves: the displacement against it, $dx - u\,dt$, takes the place of $dx$,

        $$w = u \cdot \nabla U\,dt + f \circ (dx - u\,dt), \qquad Q_i = F_i \circ (dx_i - u_i\,dt), \qquad
          \Delta S_m = \sum_i Q_i/T_i - \nabla \cdot u\,dt .$$

        u is odd under time reversal. The last term, by which paths and reversed paths differ where the flow is no
        incompressible one, is the volume that leaves with it. `dt` is the step; without `velocity` nothing changes.

        Source: Speck, Mehl & Seifert, PRL 100, 178302 (2008), eqs. 5 and 6, there for $\nabla \cdot u = 0$.
        """
        velocity = self.velocity
        if velocity is None:
            return given
        power, swelling = (
            0.5 * (at(x0) + at(x1))
            for at in (
                lambda x: flow(velocity, x, lam) * self.total_force(x, lam),
                lambda x: self.dilation(x, lam),
            )
        )
        spent = power * dt
        heat = given.heat - (spent if jnp.ndim(given.heat) else jnp.sum(spent))
        medium = jnp.sum(heat / self.temperature(lam)) - swelling * dt
        return Exchange(given.work - jnp.sum(spent), heat, medium)

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "AbstractOverdamped":
        if self.velocity is None:
            return self
        return eqx.tree_at(lambda system: system.velocity, self, against(self.velocity))

    def step(self, rule: Rule) -> AbstractStep:
        return Euler() if rule == "kernel" else Heun()

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        _checks.scalar("potential(x, lam)", self.energy, x, lam)
        _checks.not_spread("potential(x, lam)", self.energy, x, lam)
        _checks.like("force(x, lam)", x, self.push, x, lam)
        _checks.like("force(x, lam)", x, self.total_force, x, lam)
        if self.velocity is not None:
            _checks.like("velocity(x, lam)", x, self.velocity, x, lam)
        for name, at in (("mobility", self.mobility), ("temperature", self.temperature)):
            if not callable(at):
                raise TypeError(
                    f"{name} of a system must be a callable of lam, got {at!r}. To change the number of one that is made: "
                    f"equinox.tree_at(lambda system: system.{name}.value, system, ...)."
                )
            shape = _checks.shapes(name, at, lam).shape
            if name == "mobility" and len(shape) == 2:
                raise ValueError(_MATRIX.format(shape=shape))
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
        one_precision(x, {"force, the noise or the velocity": moved, "potential": energy})


_MATRIX = (
    "Overdamped.mobility must have shape () or (d,), got a matrix, {shape}. Take coordinates y in which it is "
    "1: with M = L L^T (L = jnp.linalg.cholesky(M)) and x = L y, the potential is U(L y), the force L^T f(L y), a start y = "
    "L^-1 x; work, heat and entropies are the same numbers."
)


class Overdamped(AbstractOverdamped):
    r"""Overdamped Langevin dynamics in d dimensions, $k_B = 1$:

    $$dx = u(x, \lambda)\, dt + \mu(\lambda)\, F(x, \lambda)\, dt + \sqrt{2 \mu(\lambda) T(\lambda)}\, dW, \qquad
      F = -\nabla U + f .$$

    **Arguments:**

    - `potential`: $U(x, \lambda)$, a callable `(x, lam) -> scalar`, or None.
    - `force`: $f(x, \lambda)$, a callable `(x, lam) -> like x` for what is no gradient (or is meant to be counted as
      work), or None.
    - `mobility`: $\mu > 0$ in length² / (energy · time): scalar, `(d,)`, or a callable of `lam` returning either.
    - `temperature`: $T > 0$ in energy: scalar (one bath), `(d,)` (a bath per coordinate), or a callable of `lam`.
    - `velocity`: $u(x, \lambda)$, a callable `(x, lam) -> like x`, in length / time: how the fluid, or the stage, moves
      that the particle is in; None: it is at rest. It is odd under time reversal, and it does the work
      $u \cdot (\nabla U - f)$ per time (see `carried`), so it is another thing than a force $u/\mu$, which
      moves a particle alike.

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
        velocity: Force | None = None,
    ):
        for name, value in (("potential", potential), ("force", force), ("velocity", velocity)):
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
        self.potential, self.force, self.velocity = map(closed, (potential, force, velocity))
        self.mobility = at_control("Overdamped.mobility", mobility)  # pyright: ignore[reportIncompatibleMethodOverride]
        self.temperature = at_control("Overdamped.temperature", temperature)  # pyright: ignore[reportIncompatibleMethodOverride]

    def energy(self, x: State, lam: Control) -> Scalar:
        return jnp.zeros((), x.dtype) if self.potential is None else self.potential(x, lam)

    def push(self, x: State, lam: Control) -> State | NoForce:
        return no_force(x) if self.force is None else field("force", self.force, x, lam)

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


_PLACE = {
    "mobility": "For one that depends on x take thermojax.Inhomogeneous, which has the drift that goes with it.",
    "temperature": "One that depends on x is not supported: the noise alone does not tell the drift that goes with it, and "
    "a part of the entropy production would not be seen.",
}


def at_control(of: str, value: PerCoordinate) -> Constant | Driven:
    """A parameter of a system (`of` "Overdamped.mobility" say): a number, one per coordinate, or a function of lam."""
    name = of.split(".")[-1]
    if isinstance(value, Constant | Driven):  # of another system
        return value
    if callable(value):
        _checks.takes(
            of,
            value,
            "lam",
            cure=_PLACE[name],
        )
        return Driven(name, closed(value))
    if name == "mobility" and jnp.ndim(value) == 2:
        raise ValueError(_MATRIX.format(shape=jnp.shape(value)))
    value = _checks.floating(of, value, positive=True)
    _checks.rank(of, value, {0, 1}, "() or (d,)")
    return Constant(value)
