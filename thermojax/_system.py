r"""What obeys the Langevin equation: potential, force, mobility and bath, all functions of the control."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from . import _checks
from ._types import Array, Control, Force, PerCoordinate, Potential, Scalar, State


class AbstractSystem(eqx.Module):
    r"""A system in contact with a bath at fixed control: an energy, a force, a mobility and a temperature."""

    @abc.abstractmethod
    def energy(self, x: State, lam: Control) -> Scalar:
        r"""$U(x, \lambda)$."""

    @abc.abstractmethod
    def pushed(self, x0: State, x1: State, lam: Control) -> Scalar:
        r"""The work $f \circ dx$ of the force that does no potential work, over the step $x_0 \to x_1$."""

    @abc.abstractmethod
    def total_force(self, x: State, lam: Control) -> State:
        r"""$F = -\nabla U + f$."""

    @abc.abstractmethod
    def mobility_at(self, lam: Control) -> Array:
        r"""$\mu(\lambda)$, a scalar or `(d,)`."""

    @abc.abstractmethod
    def temperature_at(self, lam: Control) -> Array:
        r"""$T(\lambda)$, a scalar (one bath) or `(d,)` (a bath per coordinate)."""

    @abc.abstractmethod
    def driven(self) -> dict[str, Callable[[Control], Array]]:
        """Mobility and temperature, by name, where they depend on the control: a run checks them along its drive."""


def _per_coordinate(name: str, value: Any) -> Any:
    if callable(value):
        _checks.takes(
            f"Overdamped.{name}",
            value,
            "lam",
            cure="Noise that depends on x is not supported: Itô and Stratonovich readings would differ.",
        )
        return value
    value = _checks.floating(name, value, positive=True)
    _checks.rank(name, value, {0, 1}, "() or (d,)")
    return value


class Overdamped(AbstractSystem):
    r"""Overdamped Langevin dynamics in d dimensions, $k_B = 1$:

    $$dx = \mu(\lambda)\, F(x, \lambda)\, dt + \sqrt{2 \mu(\lambda) T(\lambda)}\, dW, \qquad F = -\nabla U + f .$$

    **Arguments:**

    - `potential`: $U(x, \lambda)$, a callable `(x, lam) -> scalar`, or None.
    - `force`: $f(x, \lambda)$, a callable `(x, lam) -> like x` for what is no gradient (or is meant to be counted as
      work), or None.
    - `mobility`: $\mu > 0$ in length² / (energy · time): scalar, `(d,)`, or a callable of `lam` returning either.
    - `temperature`: $T > 0$ in energy: scalar (one bath), `(d,)` (a bath per coordinate), or a callable of `lam`.

    The noise is additive (independent of x), so Itô and Stratonovich readings of the dynamics agree; heat and work are
    Stratonovich. Raises `ValueError` for a mobility or temperature that is not finite and positive.

    Source: Sekimoto, *Stochastic Energetics* (2010), eq. 1.2.3; Seifert, Rep. Prog. Phys. 75, 126001 (2012), eq. 1.
    """

    potential: Potential | None
    force: Force | None
    mobility: PerCoordinate
    temperature: PerCoordinate

    def __init__(
        self,
        potential: Potential | None,
        force: Force | None = None,
        mobility: Any = 1.0,
        temperature: Any = 1.0,
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
        self.mobility = _per_coordinate("mobility", mobility)
        self.temperature = _per_coordinate("temperature", temperature)

    def energy(self, x: State, lam: Control) -> Scalar:
        return jnp.zeros((), x.dtype) if self.potential is None else self.potential(x, lam)

    def pushed(self, x0: State, x1: State, lam: Control) -> Scalar:
        if self.force is None:
            return jnp.zeros((), x0.dtype)
        return jnp.sum(0.5 * (self._push(x0, lam) + self._push(x1, lam)) * (x1 - x0))

    def total_force(self, x: State, lam: Control) -> State:
        parts = []
        if self.potential is not None:
            parts.append(-jax.grad(self.potential)(x, lam))
        if self.force is not None:
            parts.append(self._push(x, lam))
        return sum(parts[1:], parts[0])

    def _push(self, x: State, lam: Control) -> State:
        assert self.force is not None
        push = self.force(x, lam)
        if (
            push is None or jnp.shape(push) != x.shape
        ):  # known while tracing: a scalar would spread over x
            got = "None" if push is None else f"shape {jnp.shape(push)}"
            raise ValueError(
                f"force(x, lam) must return an array of the shape of the state, {x.shape}; got {got}."
            )
        return push

    def mobility_at(self, lam: Control) -> Array:
        return _at("mobility(lam)", self.mobility, lam)

    def temperature_at(self, lam: Control) -> Array:
        return _at("temperature(lam)", self.temperature, lam)

    def driven(self) -> dict[str, Callable[[Control], Array]]:
        rates = {"mobility": self.mobility, "temperature": self.temperature}
        return {name: value for name, value in rates.items() if callable(value)}


def _at(name: str, value: Any, lam: Control) -> Array:
    return _checks.floating(name, value(lam)) if callable(value) else value


def check(system: AbstractSystem, x: Any, lam: Any) -> None:
    """Shapes and dtypes of everything the system computes at one state and one control, by tracing alone."""
    _checks.scalar("potential(x, lam)", system.energy, x, lam)
    _checks.like("force(x, lam)", x, system.total_force, x, lam)
    _checks.scalar("force(x, lam), times dx,", system.pushed, x, x, lam)
    for name, at in (("mobility", system.mobility_at), ("temperature", system.temperature_at)):
        shape = _checks.shapes(name, at, lam).shape
        if shape not in ((), x.shape):
            raise ValueError(
                f"{name} must be a scalar or have the shape of the state, {x.shape}; got shape {shape}."
            )
    moved = _checks.shapes(
        "mobility * force",
        lambda x, lam: (
            x + system.mobility_at(lam) * system.temperature_at(lam) * system.total_force(x, lam)
        ),
        x,
        lam,
    )
    energy = jax.eval_shape(lambda x, lam: system.energy(x, lam) + x[0], x, lam)
    for what, out in (("force or the noise", moved), ("potential", energy)):
        if out.dtype != x.dtype:
            raise TypeError(
                f"The state is {x.dtype}, but the {what} makes it {out.dtype}: one floating-point precision per run. "
                "Make the parameters, the protocol and the initial density the same dtype (or plain Python numbers)."
            )


def check_along(system: AbstractSystem, protocol: Any, ts: Array) -> Array:
    """The times `ts`, if mobility and temperature are finite and positive all along the drive."""
    for name, at in system.driven().items():
        values = eqx.filter_jit(_along)(at, protocol, ts)
        good = jnp.isfinite(values) & (values > 0)
        allowed = "finite and greater than zero at every step"
        ts = _checks.must(f"{name}(lam(t))", ts, good, allowed, got=values)
    return ts


def _along(at: Any, protocol: Any, ts: Array) -> Array:
    return jax.vmap(lambda t: at(protocol(t)))(0.5 * (ts[1:] + ts[:-1]))
