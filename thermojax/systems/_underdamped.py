r"""Underdamped Langevin dynamics: potential, force, friction, mass and bath, and impulses as functions of the control."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._closures import closed
from .._types import Array, Control, Force, Given, Half, NoForce, PerCoordinate, Potential, Scalar
from ._base import AbstractStep, Rule
from ._flow import field, no_force
from ._inertial import AbstractUnderdamped
from ._overdamped import Constant, Driven, Overdamped, at_control
from ._splittings import ABOBA, BAOAB

# Of what squares of momenta are about, that part is still a number
LEAST = 1e6
SQUARE = "mass * temperature, a momentum squared, in the digits of its dtype (which other units, or float64, have)"


class Underdamped(AbstractUnderdamped):
    r"""Underdamped Langevin dynamics in d dimensions, $k_B = 1$, in the state $x = (q, p)$, `(2d,)`:

    $$dq = v\,dt, \qquad dp = [F(q, \lambda) - \gamma v]\,dt + \sqrt{2\gamma T(\lambda)}\,dW, \qquad m v = p + J(\lambda),
      \qquad F = -\nabla U + f .$$

    The energy is $H = U + \tfrac12 m v^2$. p is the canonical momentum: a turn of the knob leaves it as it is, and so
    changes the velocity by $\Delta J/m$. An impulse (a kick, the delta function in the force that optimal protocols have) is
    a jump of J, and its work $\tfrac12 m (v'^2 - v^2)$ that of any turn. Without `impulse`, $p = m v$.

    **Arguments:**

    - `potential`: $U(q, \lambda)$, a callable `(q, lam) -> scalar` of the positions `(d,)`, or None.
    - `force`: $f(q, \lambda)$, a callable `(q, lam) -> like q` for what is no gradient, or None.
    - `friction`: $\gamma > 0$ in energy · time / length²: scalar or `(d,)`.
    - `mass`: $m > 0$ in energy · time² / length²: scalar or `(d,)`. Friction and mass are fixed.
    - `temperature`: $T > 0$ in energy: scalar (one bath), `(d,)` (a bath per coordinate), or a callable of `lam`.
    - `impulse`: $J(\lambda)$ in mass · length / time, a callable `(lam) -> ()` or `(d,)`; odd under time reversal.

    The steps are `BAOAB` for `rule="alternating"` and `ABOBA` for `rule="kernel"`; `state(q, v, lam)` and `motion(x, lam)`
    go from positions and velocities to states and back. Raises `ValueError` or `TypeError` for a mass, a friction or a
    temperature that is not finite and positive, and for a driven mass or friction.

    Source: Sekimoto, *Stochastic Energetics* (2010), eq. 1.2.1; the kicks: Gomez-Marin, Schmiedl & Seifert, J. Chem. Phys.
    129, 024114 (2008).
    """

    potential: Potential | None
    force: Force | None
    friction: Array
    mass: Array
    temperature: Constant | Driven  # pyright: ignore[reportIncompatibleMethodOverride]
    impulse: Callable[[Control], Array] | None

    def __init__(
        self,
        potential: Potential | None,
        force: Force | None = None,
        friction: Given = 1.0,
        mass: Given = 1.0,
        temperature: PerCoordinate = 1.0,
        impulse: Given = None,
    ):
        for name, value, *args in (
            ("potential", potential, "q", "lam"),
            ("force", force, "q", "lam"),
            ("impulse", impulse, "lam"),
        ):
            of = f"Underdamped.{name}"
            if value is not None and not callable(value):
                raise TypeError(
                    f"{of} must be a callable ({', '.join(args)}), or None; got {value!r}."
                )
            if value is not None:
                _checks.takes(of, value, *args, cure="Take lam, used or not.")
        if potential is None and force is None:
            raise ValueError(
                "Underdamped needs a potential, a force, or both. For free motion: lambda q, lam: 0 * q.sum()."
            )
        self.potential, self.force, self.impulse = map(closed, (potential, force, impulse))
        self.friction = _fixed("friction", friction)
        self.mass = _fixed("mass", mass)
        self.temperature = at_control("Underdamped.temperature", temperature)  # pyright: ignore[reportIncompatibleMethodOverride]

    def potential_energy(self, q: Half, lam: Control) -> Scalar:
        return jnp.zeros((), q.dtype) if self.potential is None else self.potential(q, lam)

    def push(self, q: Half, lam: Control) -> Half | NoForce:
        return no_force(q) if self.force is None else field("force", self.force, q, lam)

    def kick(self, q: Half, lam: Control) -> Half:
        if self.impulse is None:
            return jnp.zeros_like(q)
        kick = _checks.floating("impulse(lam)", self.impulse(lam))
        if kick.shape not in ((), q.shape):
            raise ValueError(f"impulse(lam) must have shape () or {q.shape}; got {kick.shape}.")
        return jnp.broadcast_to(kick, q.shape)

    def reversed(self) -> "Underdamped":
        if self.impulse is None:
            return self
        back = (
            self.impulse.impulse if isinstance(self.impulse, Opposite) else Opposite(self.impulse)
        )
        return eqx.tree_at(lambda system: system.impulse, self, back)

    def step(self, rule: Rule) -> AbstractStep:
        return ABOBA() if rule == "kernel" else BAOAB()

    def positive(self, lam: Control) -> dict[str, Array]:
        # constants were checked when the system was made, one by one
        bath = self.temperature
        least = LEAST * jnp.finfo(self.mass.dtype).tiny
        square = self.mass * bath(lam)
        own = {"temperature": bath(lam)} if isinstance(bath, Driven) else {}
        return {**own, SQUARE: jnp.where(square < least, 0, square)}

    def overdamped(self) -> Overdamped:
        r"""The `Overdamped` system of the positions, $\mu = 1/\gamma$: the limit $m \to 0$ without impulses.

        The works of turns, and the equilibria of the positions, are the same at any mass.
        """
        if self.impulse is not None:
            raise ValueError(
                "Underdamped.overdamped is of a system without impulse: an impulse works on velocities, and positions alone "
                "have none."
            )
        return Overdamped(self.potential, self.force, 1 / self.friction, self.temperature)


class Opposite(eqx.Module):
    """The impulse of the reversed run: velocities are odd under time reversal."""

    impulse: Callable[[Control], Array]

    def __call__(self, lam: Control) -> Array:
        return -jnp.asarray(self.impulse(lam))


def _fixed(name: str, value: Given) -> Array:
    of = f"Underdamped.{name}"
    if callable(value):
        why = (
            "a turn of the mass at fixed momentum is another work than at fixed velocity"
            if name == "mass"
            else "the steps hold it fixed"
        )
        raise TypeError(
            f"{of} must be a number, or one per coordinate, and can't be driven: {why}. Drive the potential, the force, the "
            "impulse or the temperature."
        )
    if np.ndim(value) == 2:
        raise ValueError(
            f"{of} must have shape () or (d,), got a matrix, {np.shape(value)}. Take coordinates in which mass and "
            "friction are both diagonal: with the eigenvectors of mass^(-1/2) friction mass^(-1/2)."
        )
    value = _checks.floating(of, value, positive=True)
    _checks.rank(of, value, {0, 1}, "() or (d,)")
    return value
