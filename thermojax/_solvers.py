r"""One step of a driven process: turn the knob, then let the bath act at fixed control, with the ledger around it.

The solver below is a diffrax solver whose state is (x, ledger), so that memory does not grow with the number of steps
and every adjoint of diffrax works. Inside a step the control is frozen, so the step itself may be taken by any diffrax
solver for additive noise; the default is Heun's, unrolled.
"""

import functools as ft
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ._guard import masked_jvp
from ._ledger import Rule, exchange
from ._noise import Noise
from ._process import Process
from ._system import AbstractSystem
from ._types import Array, Control, Scalar, State


class Running(NamedTuple):
    """The state of a run: x, its energy at the control of the last step, and the ledger so far.

    A path that has left the finite numbers keeps its last x, and its energy is NaN: that marks it.
    """

    x: State
    energy: Scalar
    work: Scalar
    heat: Array
    medium: Scalar


class Drive(NamedTuple):
    """What does not change during a run."""

    process: Process
    noise: Noise


class Ledgered(dfx.AbstractSolver):
    """The ledger around a step of `solver` (None: our Heun, or Euler for the kernel rule). Its hidden state counts steps."""

    solver: dfx.AbstractSolver | None
    rule: Rule = eqx.field(static=True)

    term_structure: ClassVar[Any] = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = dfx.LocalLinearInterpolation

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Array:
        return jnp.zeros((), jnp.int32)

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Running,
        args: Drive,
        solver_state: Array,
        made_jump: Any,
    ) -> Any:
        process, noise = args
        lam = process.protocol(0.5 * (t0 + t1))
        normals = noise(solver_state, levels(self.solver))

        def one(state: Running, normals: tuple[Array, ...]) -> Running:
            return advance(state, normals, lam, t1 - t0, process.system, self.solver, self.rule)

        y1 = (one if noise.size is None else jax.vmap(one))(y0, normals)
        return y1, None, {"y0": y0, "y1": y1}, solver_state + 1, dfx.RESULTS.successful


def levels(solver: dfx.AbstractSolver | None) -> int:
    """How many normals per step and coordinate a solver asks for: the increment, then its Lévy areas."""
    if not isinstance(solver, dfx.AbstractSRK):
        return 1
    areas = (dfx.AbstractSpaceTimeLevyArea, dfx.AbstractSpaceTimeTimeLevyArea)
    return 1 + sum(issubclass(solver.minimal_levy_area, area) for area in areas)


def advance(
    state: Running,
    normals: tuple[Array, ...],
    lam: Control,
    dt: Scalar,
    system: AbstractSystem,
    solver: dfx.AbstractSolver | None,
    rule: Rule,
) -> Running:
    """One step of one path. A path that leaves the finite numbers is frozen where it was, and marked."""

    def step(state: Running) -> Running:
        return _step(state, normals, lam, dt, system, solver, rule)

    return _advance(eqx.filter_closure_convert(step, state), state)


@eqx.filter_custom_jvp
def _advance(step: Callable[[Running], Running], state: Running) -> Running:
    new = step(state)
    fine = jnp.isfinite(state.energy + new.energy + jnp.sum(new.x))
    return new._replace(
        x=jnp.where(fine, new.x, state.x), energy=jnp.where(fine, new.energy, jnp.nan)
    )


def alive(state: Running) -> Array:
    """Whether the path has stayed finite, ledger included."""
    return jnp.isfinite(state.energy + state.work + jnp.sum(state.heat) + state.medium)


@_advance.def_jvp
def _advance_jvp(primals: Any, tangents: Any) -> Any:
    """The derivative of a step: that of the identity for a path that has failed.

    What enters the step is masked as well as what leaves it. The derivatives in between may be NaN, and so is zero times
    them; the second mask keeps it from the gradient of all the other paths through the parameters they share.
    """
    state = primals[1]
    out = _advance(*primals)
    fine = alive(out)
    tangent = masked_jvp(lambda step, state: step(state), primals, tangents, fine)
    frozen = jtu.tree_map(lambda v, t: jnp.zeros_like(v) if t is None else t, state, tangents[1])
    return out, jtu.tree_map(lambda new, old: jnp.where(fine, new, old), tangent, frozen)


def _step(
    state: Running,
    normals: tuple[Array, ...],
    lam: Control,
    dt: Scalar,
    system: AbstractSystem,
    solver: dfx.AbstractSolver | None,
    rule: Rule,
) -> Running:
    x0 = state.x
    mobility = system.mobility_at(lam)
    sigma = jnp.broadcast_to(jnp.sqrt(2 * mobility * system.temperature_at(lam)), x0.shape)

    def drift(x: State) -> State:
        return mobility * system.total_force(x, lam)

    if solver is not None:
        x1 = _diffrax_step(solver, drift, sigma, x0, dt, normals)
    else:
        kick = sigma * (jnp.sqrt(dt) * normals[0])
        x1 = (euler if rule == "kernel" else heun)(drift, x0, dt, kick)
    u0, u1 = system.energy(x0, lam), system.energy(x1, lam)
    given = exchange(system, x0, x1, u0, u1, lam, dt, rule)
    turn = u0 - state.energy
    return Running(
        x1, u1, state.work + turn + given.work, state.heat + given.heat, state.medium + given.medium
    )


def heun(drift: Callable[[State], State], x: State, dt: Scalar, kick: State) -> State:
    r"""$x + \tfrac12 [b(x) + b(\tilde x)] dt + \sigma dW$ with $\tilde x = x + b(x) dt + \sigma dW$."""
    first = drift(x)
    return x + 0.5 * (first + drift(x + first * dt + kick)) * dt + kick


def euler(drift: Callable[[State], State], x: State, dt: Scalar, kick: State) -> State:
    r"""$x + b(x) dt + \sigma dW$."""
    return x + drift(x) * dt + kick


class _Kick(dfx.AbstractTerm):
    """The noise of one step as a diffrax term: `sigma` per coordinate times an increment that is already drawn."""

    sigma: State
    normals: tuple[Array, ...]

    def vf(self, t: Any, y: Any, args: Any) -> State:
        return self.sigma

    def contr(self, t0: Any, t1: Any, use_levy: bool = False, **kwargs: Any) -> Any:
        dt = t1 - t0
        parts = [jnp.sqrt(dt / c) * z for c, z in zip((1, 12, 720), self.normals, strict=False)]
        if not use_levy:
            return parts[0]
        kinds = (dfx.BrownianIncrement, dfx.SpaceTimeLevyArea, dfx.SpaceTimeTimeLevyArea)
        return kinds[len(parts) - 1](dt, *parts)

    def prod(self, vf: State, control: Any) -> State:
        return vf * control


def _diffrax_step(
    solver: dfx.AbstractSolver,
    drift: Callable[[State], State],
    sigma: State,
    x: State,
    dt: Scalar,
    normals: tuple[Array, ...],
) -> State:
    terms = dfx.MultiTerm(dfx.ODETerm(lambda t, y, args: drift(y)), _Kick(sigma, normals))
    start = jnp.zeros_like(dt)
    x1, _, _, _, _ = solver.step(
        terms, start, dt, x, None, solver.init(terms, start, dt, x, None), made_jump=False
    )
    return x1


class Chunks(dfx.AbstractAdjoint):
    r"""The default adjoint: $\sqrt n$ chunks of $\sqrt n$ steps, each chunk recomputed once on the way back.

    Both modes of differentiation work. On a fixed grid it draws the noise once less than `RecursiveCheckpointAdjoint`,
    at the same $O(\sqrt n)$ memory, and compiles faster.
    """

    def loop(
        self,
        *,
        saveat: Any,
        max_steps: int,
        throw: Any,
        passed_solver_state: Any,
        passed_controller_state: Any,
        **rest: Any,
    ) -> Any:
        path, _ = saveat.subs
        # a path that is saved on the way wants a loop that carries its buffer without copying it at every step back
        buffered = ft.partial(
            eqxi.while_loop, kind="bounded", base=max(2, math.isqrt(max_steps - 1) + 1)
        )
        loop = buffered if path.steps else _every_step
        return self._loop(
            **rest, saveat=saveat, max_steps=max_steps, inner_while_loop=loop, outer_while_loop=loop
        )


def _every_step(
    cond_fun: Any, body_fun: Any, init_val: Any, *, max_steps: int, buffers: Any
) -> Any:
    """All `max_steps` steps: no step is rejected and no run stops early, so the condition need not be asked."""

    def step(val: Any, _: None) -> Any:
        return _strong(body_fun(val)), None

    def chunk(val: Any, length: int) -> Any:
        return jax.lax.scan(step, val, None, length)[0]

    size, rest = _chunking(max_steps)
    val = _strong(init_val)
    kept = jax.checkpoint(ft.partial(chunk, length=size), prevent_cse=False)
    val, _ = jax.lax.scan(lambda v, _: (kept(v), None), val, None, max_steps // size)
    return chunk(val, rest) if rest else val


def _chunking(steps: int) -> tuple[int, int]:
    """Steps per chunk, near the root of their number, and the steps left over: none if a divisor is near enough."""
    root = math.isqrt(steps)
    divisors = [size for size in range(max(1, root // 2), 2 * root + 1) if steps % size == 0]
    size = min(divisors, key=lambda size: abs(size - root), default=max(1, root))
    return size, steps % size


def _strong(tree: Any) -> Any:
    return jtu.tree_map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree
    )


def euler_steps(solver: Any, rule: Rule) -> bool:
    """Whether a run with these options takes Euler–Maruyama steps, whose kernels are known."""
    return isinstance(solver, dfx.Euler) or (solver is None and rule == "kernel")


def usable(solver: Any, rule: Rule) -> dfx.AbstractSolver | None:
    """The solver as it can be run inside a step, or an error that says which one can."""
    if solver is None:
        return None
    works = "Use solver=None (our Heun), or diffrax.Euler(), Heun(), ShARK(), SRA1() and the like."
    if not isinstance(solver, dfx.AbstractSolver):
        raise TypeError(f"solver must be a diffrax solver, or None; got {solver!r}. {works}")
    if isinstance(solver, dfx.AbstractWrappedSolver | dfx.AbstractImplicitSolver):
        raise ValueError(
            f"{type(solver).__name__} is adaptive or implicit; the ledger's steps are explicit, and those of ts. {works}"
        )
    if isinstance(solver, dfx.AbstractFosterLangevinSRK):
        raise ValueError(
            f"{type(solver).__name__} is for underdamped dynamics, which are not supported yet. {works}"
        )
    if not isinstance(solver, dfx.AbstractItoSolver | dfx.AbstractStratonovichSolver):
        raise ValueError(
            f"{type(solver).__name__} is not marked by diffrax as a solver of SDEs. {works}"
        )
    if rule == "kernel" and not isinstance(solver, dfx.Euler):
        raise ValueError(
            f'rule="kernel" is the log-ratio of Euler–Maruyama kernels; got solver={type(solver).__name__}. '
            "Use solver=None or diffrax.Euler() with it."
        )
    if isinstance(solver, dfx.AbstractRungeKutta | dfx.AbstractSRK) and solver.scan_kind is None:
        # diffrax's own inner loop over stages has no forward mode; a handful of stages needs no checkpoints
        kind = "lax" if isinstance(solver, dfx.AbstractSRK) else "bounded"
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, kind, is_leaf=lambda n: n is None)
    return solver
