r"""diffrax's solvers as steps: the drift and the noise of a system, at fixed control, as diffrax's terms."""

from typing import TypeAlias

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _checks
from ._types import Array, Control, Key, PyTree, Scalar, State, Time
from .systems import (
    AbstractDiffusion,
    AbstractKernelStep,
    AbstractStep,
    AbstractSystem,
    Euler,
    Rule,
)

Solver: TypeAlias = dfx.AbstractSolver | AbstractStep | None

WORKS = "Use solver=None (our Heun), or diffrax.Euler(), Heun(), ShARK(), SRA1() and the like."


class Diffrax(AbstractStep):
    """The step of an explicit diffrax solver for additive noise, such as `diffrax.ShARK()`.

    Raises `ValueError` for a solver that is adaptive, implicit, for underdamped dynamics, or for ordinary differential
    equations only.
    """

    solver: dfx.AbstractSolver

    def __init__(self, solver: dfx.AbstractSolver):
        name = type(solver).__name__
        if not isinstance(solver, dfx.AbstractSolver):
            raise TypeError(f"Diffrax takes a diffrax solver, got {solver!r}. {WORKS}")
        if isinstance(solver, dfx.AbstractWrappedSolver | dfx.AbstractImplicitSolver):
            raise ValueError(
                f"{name} is adaptive or implicit; the ledger's steps are explicit, and those of ts. {WORKS}"
            )
        if isinstance(solver, dfx.AbstractFosterLangevinSRK):
            raise ValueError(
                f"{name} is a solver for underdamped dynamics without a log-ratio, so that its heat can't be told exactly. "
                "Use solver=None, thermojax.BAOAB() or thermojax.ABOBA() with an Underdamped system."
            )
        if not isinstance(solver, dfx.AbstractItoSolver | dfx.AbstractStratonovichSolver):
            raise ValueError(f"{name} is not marked by diffrax as a solver of SDEs. {WORKS}")
        if (
            isinstance(solver, dfx.AbstractRungeKutta | dfx.AbstractSRK)
            and solver.scan_kind is None
        ):
            # diffrax's own inner loop over stages has no forward mode; a handful of stages needs no checkpoints
            kind = "lax" if isinstance(solver, dfx.AbstractSRK) else "bounded"
            solver = eqx.tree_at(lambda s: s.scan_kind, solver, kind, is_leaf=lambda n: n is None)
        self.solver = solver

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        """The increment, the same for every solver, then the Lévy areas that this one asks for."""
        levels = 0
        if isinstance(self.solver, dfx.AbstractSRK):
            areas = (dfx.AbstractSpaceTimeLevyArea, dfx.AbstractSpaceTimeTimeLevyArea)
            levels = sum(issubclass(self.solver.minimal_levy_area, area) for area in areas)
        keys = (key, *(jax.random.fold_in(key, i + 1) for i in range(levels)))
        return tuple(jax.random.normal(k, shape, dtype) for k in keys)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = AbstractDiffusion.needed_by(f"diffrax.{type(self.solver).__name__}", system)
        drift = dfx.ODETerm(lambda t, y, args: system.drift(y, lam))
        terms = dfx.MultiTerm(drift, Kick(system.spread(x, lam), draw))
        start = jnp.zeros_like(dt)
        hidden = self.solver.init(terms, start, dt, x, None)
        return self.solver.step(terms, start, dt, x, None, hidden, made_jump=False)[0]

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        raise ValueError(_checks.without_kernel(type(self.solver).__name__))


class Kick(dfx.AbstractTerm):
    """The noise of one step as a diffrax term: `sigma` per coordinate times an increment that is already drawn."""

    sigma: State
    normals: tuple[Array, ...]

    def vf(self, t: Time, y: State, args: PyTree) -> State:
        return self.sigma

    def contr(self, t0: PyTree, t1: PyTree, use_levy: bool = False, **kwargs: PyTree) -> PyTree:
        dt = t1 - t0
        parts = [jnp.sqrt(dt / c) * z for c, z in zip((1, 12, 720), self.normals, strict=False)]
        if not use_levy:
            return parts[0]
        kinds = (dfx.BrownianIncrement, dfx.SpaceTimeLevyArea, dfx.SpaceTimeTimeLevyArea)
        return kinds[len(parts) - 1](dt, *parts)

    def prod(self, vf: State, control: State) -> State:
        return vf * control


def as_step(solver: Solver, system: AbstractSystem, rule: Rule) -> AbstractStep:
    """The step that a run takes: the system's own, the one given, or diffrax's, or an error that says which ones work."""
    if solver is None:
        return system.step(rule)
    if isinstance(solver, AbstractStep):
        return solver
    if isinstance(solver, dfx.Euler):
        return Euler()  # the same step, with its kernel
    if not isinstance(solver, dfx.AbstractSolver):
        raise TypeError(
            f"solver must be a step of thermojax, a diffrax solver, or None; got {solver!r}. {WORKS}"
        )
    return Diffrax(solver)


def with_kernel(solver: Solver, system: AbstractSystem, rule: Rule, why: str) -> AbstractKernelStep:
    """The same step, if its kernel is known."""
    step = as_step(solver, system, rule)
    if not isinstance(step, AbstractKernelStep):
        raise ValueError(why)
    return step
