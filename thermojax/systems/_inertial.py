r"""Masses in a bath: the physics at fixed control, in positions and canonical momenta."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._normal import Normal
from .._types import Array, Control, Half, NoForce, Scalar, State
from ._base import Exchange
from ._diffusion import AbstractDiffusion
from ._flow import with_pull, worked
from ._precision import one_precision
from ._shares import shares


class AbstractUnderdamped(AbstractDiffusion):
    r"""$dq = v\,dt,\ dp = (F - \gamma v)\,dt + \sqrt{2\gamma T}\,dW$ at fixed $\lambda$, with $m v = p + J(\lambda)$.

    The state is `(q, p)`, `(2d,)`: positions, then momenta, which are odd under time reversal, and so is the impulse J.
    Energies, forces and the impulse are given the positions alone, `(d,)`. One of one's own gives the six methods below,
    `mass`, `friction`, and a `step`.
    """

    singular: ClassVar[bool] = True
    parts: ClassVar[int] = 2

    friction: eqx.AbstractVar[Array]
    mass: eqx.AbstractVar[Array]

    if TYPE_CHECKING:

        @abc.abstractmethod
        def temperature(self, lam: Control) -> Array:
            r"""$T(\lambda)$: a scalar (one bath) or `(d,)`."""
    else:
        temperature: eqx.AbstractVar[Callable[[Control], Array]]

    @abc.abstractmethod
    def potential_energy(self, q: Half, lam: Control) -> Scalar:
        r"""$U(q, \lambda)$."""

    @abc.abstractmethod
    def push(self, q: Half, lam: Control) -> Half | NoForce:
        r"""$f(q, \lambda)$, the force that does no potential work; where there is none, best numpy's zeros: nothing is then
        computed with them."""

    @abc.abstractmethod
    def kick(self, q: Half, lam: Control) -> Half:
        r"""$J(\lambda)$, like q: what a turn of the knob adds to $m v$ at fixed state."""

    def motion(self, x: State, lam: Control) -> tuple[Half, Half]:
        r"""Positions and velocities, $v = (p + J(\lambda))/m$."""
        q, p = jnp.split(x, 2)
        return q, (p + self.kick(q, lam)) / self.mass

    def state(self, q: Half, v: Half, lam: Control) -> State:
        r"""The state of positions and velocities `(d,)`: $p = m v - J(\lambda)$."""
        return jnp.concatenate([q, self.mass * v - self.kick(q, lam)])

    def energy(self, x: State, lam: Control) -> Scalar:
        r"""$H = U(q, \lambda) + \tfrac12 \sum_i m_i v_i^2$."""
        q, v = self.motion(x, lam)
        return self.potential_energy(q, lam) + jnp.sum(self.kinetic(v))

    def kinetic(self, v: Half) -> Half:
        r"""$\tfrac12 m_i v_i^2$ of each coordinate."""
        return 0.5 * self.mass * v**2

    def total_force(self, q: Half, lam: Control) -> Half:
        r"""$F = -\nabla U + f$."""
        return with_pull(self.push(q, lam), jax.grad(self.potential_energy)(q, lam))

    def acceleration(self, y: State, lam: Control) -> State:
        r"""$F(q, \lambda)/\sqrt m$: that of the weighted positions $y = \sqrt m\, q$ `(d,)`, without friction."""
        root = jnp.sqrt(self.mass)
        return self.total_force(y / root, lam) / root

    def drift(self, x: State, lam: Control) -> State:
        q, v = self.motion(x, lam)
        return jnp.concatenate([v, self.total_force(q, lam) - self.friction * v])

    def diffusion(self, x: State, lam: Control) -> Array:
        r"""$D = (0, \gamma T)$, `(2d,)`: of the momenta, in momentum² / time."""
        q, _ = jnp.split(x, 2)
        of_momenta = jnp.broadcast_to(self.friction * self.temperature(lam), q.shape)
        return jnp.concatenate([jnp.zeros_like(of_momenta), of_momenta])

    def irreversible(self, x: State, lam: Control) -> State:
        r"""$(0, -\gamma v)$: what is left of the drift is that of a Hamiltonian system, and turns around with time."""
        q, v = self.motion(x, lam)
        return jnp.concatenate([jnp.zeros_like(q), -self.friction * v])

    def heating(self, x: State, lam: Control) -> Array:
        r"""$\dot Q_i = \gamma_i (v_i^2 - T_i/m_i)$. Source: Sekimoto, *Stochastic Energetics* (2010), sec. 4.1."""
        temperature = self.temperature(lam)
        _, v = self.motion(x, lam)
        each = self.friction * (v**2 - temperature / self.mass)
        return each if jnp.ndim(temperature) else jnp.sum(each)

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""$w = f \circ dq, \qquad Q = -\Delta H + f \circ dq, \qquad \Delta S_m = \sum_i Q_i/T_i .$

        With a bath per coordinate $Q_i = F_i \circ dq_i - \Delta(\tfrac12 m_i v_i^2)$ with the discrete gradient of U, so
        that the heats add up to the same Q exactly.
        """
        temperature = self.temperature(lam)
        (q0, v0), (q1, v1) = self.motion(x0, lam), self.motion(x1, lam)
        work = worked(lambda q: self.push(q, lam), q0, q1)
        heat = lost + work
        if jnp.ndim(temperature):
            gain = self.kinetic(v1) - self.kinetic(v0)
            force = 0.5 * (self.total_force(q0, lam) + self.total_force(q1, lam))
            heat = shares(force, q1 - q0, heat + jnp.sum(gain)) - gain
        return Exchange(work, heat, jnp.sum(heat / temperature))

    def flip(self, x: State) -> State:
        q, p = jnp.split(x, 2)
        return jnp.concatenate([q, -p])

    def thermal(self, q: Half, lam: Control) -> Normal:
        r"""Maxwell's density of the momenta `(d,)` in equilibrium, $N(-J(\lambda),\, m T)$."""
        variance = jnp.broadcast_to(self.mass * self.temperature(lam), q.shape)
        return Normal(-self.kick(q, lam), variance)

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        if x.shape[0] % 2:
            raise ValueError(ODD.format(name=type(self).__name__, size=x.shape[0]))
        q = jax.ShapeDtypeStruct((x.shape[0] // 2,), x.dtype)
        _checks.scalar("potential(q, lam)", self.potential_energy, q, lam)
        _checks.not_spread("potential(q, lam)", self.potential_energy, q, lam)
        for fn in (self.push, self.total_force):
            _checks.like("force(q, lam)", q, fn, q, lam)
        _checks.like("impulse(lam)", q, self.kick, q, lam)
        if not callable(self.temperature):
            raise TypeError(
                f"temperature of a system must be a callable of lam, got {self.temperature!r}. To change the number of one "
                "that is made: equinox.tree_at(lambda system: system.temperature.value, system, ...)."
            )
        bath = _checks.shapes("temperature", self.temperature, lam).shape
        given = {"temperature": bath, "friction": self.friction.shape, "mass": self.mass.shape}
        for name, shape in given.items():
            if shape not in ((), q.shape):
                raise ValueError(
                    f"{name} must be a scalar or one number for each of the {q.shape[0]} positions; got shape {shape}. (The "
                    f"state has {x.shape[0]} numbers: positions and momenta.)"
                )
        moved = _checks.shapes("force", lambda x, lam: x + self.drift(x, lam), x, lam)
        noisy = _checks.shapes("noise", lambda x, lam: x + self.diffusion(x, lam), x, lam)
        energy = _checks.shapes("potential", lambda x, lam: self.energy(x, lam) + x[0], x, lam)
        pushed = "force, the mass, the friction or the impulse"
        one_precision(x, {pushed: moved, "temperature": noisy, "potential": energy})

    @staticmethod
    def moved_by(name: str, system: object) -> "AbstractUnderdamped":
        """The system, if it has momenta; if not, a `TypeError` that says who needs them."""
        if not isinstance(system, AbstractUnderdamped):
            raise TypeError(
                f"{name} is for positions and momenta (Underdamped), and {type(system).__name__} has none. As a step, use "
                "solver=None, that of the system itself."
            )
        return system


ODD = (
    "The state of {name} is (q, p): positions, then as many momenta; got {size} number(s), which is odd. Densities must be "
    "of both, such as Boltzmann(system, lam), which has Maxwell's momenta. If these are positions alone: the work needs no "
    "more, thermojax.account of a process with system.overdamped() has it; heat and entropy need the velocities. Record "
    "them (thermojax.measured.with_momenta makes states of them): differences of positions over a time 2h lose about "
    "2 gamma h / 3 m of the kinetic energy."
)
