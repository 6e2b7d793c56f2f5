r"""The engine: turn the knob, let the bath act at fixed control, keep the ledger; one step after the other.

The solver below is a diffrax solver whose state is (x, ledger), so that memory does not grow with the number of steps
and every adjoint of diffrax works. Inside a step the control is frozen; what the bath does then is the step's.
"""

import functools as ft
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ._guard import Mask, masked_jvp
from ._kept import kept_value
from ._ledger import exchange
from ._noise import Noise
from ._process import Process, each_protocol, paths
from ._types import Array, Control, PyTree, Scalar
from .systems import AbstractStep, AbstractSystem, Constant, Overdamped, Rule, Underdamped


class Place(NamedTuple):
    """Where a path is: x in the parts that its system has, and its energy at the control of the last step.

    A path that has left the finite numbers keeps its last x, and its energy is NaN: that marks it.
    """

    parts: tuple[Array, ...]
    energy: Scalar

    @property
    def x(self) -> Array:
        """Put together anew for each use: what reaches it on the way back then goes to the parts, not through a matrix."""
        return jnp.concatenate(self.parts, axis=-1)


class Ledger(NamedTuple):
    """What a step exchanges, or all steps so far. Heat and `medium` are None where the work of a run tells them (`told`)."""

    work: Scalar
    heat: Array | None
    medium: Scalar | None


def told(system: AbstractSystem, rule: Rule) -> bool:
    r"""Whether the work of a run tells the rest: $Q = W - \Delta U$ with one bath, $\Delta S_m = Q/T$ if T does not change.

    Each number that a run need not carry is a twentieth of its time, and the heat loses no digits on the way.
    """
    at_rest = isinstance(system, Underdamped) or (
        isinstance(system, Overdamped) and system.velocity is None
    )
    if rule == "kernel" or not at_rest or not isinstance(system.temperature, Constant):
        return False
    return jnp.ndim(system.temperature.value) == 0


class Running(NamedTuple):
    """The state of a run: where it is, and the ledger so far."""

    place: Place
    ledger: Ledger

    @property
    def x(self) -> Array:
        return self.place.x


class Driven(NamedTuple):
    """What does not change during a run."""

    process: Process
    noise: Noise
    ts: Array


class Ledgered(dfx.AbstractSolver):
    """The ledger around a step. Its hidden state counts the steps: the clock of the solver is not read."""

    inner: AbstractStep
    rule: Rule = eqx.field(static=True)

    term_structure: ClassVar[PyTree] = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., PyTree]] = dfx.LocalLinearInterpolation

    def init(
        self,
        terms: dfx.AbstractTerm,
        t0: PyTree,
        t1: PyTree,
        y0: Running,
        args: Driven,
    ) -> Array:
        return jnp.zeros((), jnp.int32)

    def func(self, terms: dfx.AbstractTerm, t0: PyTree, y0: Running, args: Driven) -> PyTree:
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: dfx.AbstractTerm,
        t0: PyTree,
        t1: PyTree,
        y0: Running,
        args: Driven,
        solver_state: Array,
        made_jump: PyTree,
    ) -> PyTree:
        process, noise, ts = args
        t0, t1 = ts[solver_state], ts[solver_state + 1]
        lam = each_protocol(process, lambda protocol: protocol(0.5 * (t0 + t1)))
        drawn = noise(solver_state, self.inner.draw)

        def one(state: Running, drawn: tuple[Array, ...], lam: Control) -> Running:
            return self.advance(process, state, drawn, lam, t1 - t0, solver_state)

        if noise.size is not None:
            one = jax.vmap(one, (0, 0, None if paths(process) is None else 0))
        y1 = one(y0, drawn, lam)
        return y1, None, {"y0": y0, "y1": y1}, solver_state + 1, dfx.RESULTS.successful

    def advance(
        self,
        process: Process,
        state: Running,
        drawn: tuple[Array, ...],
        lam: Control,
        dt: Scalar,
        count: Array,
    ) -> Running:
        """One step of one path. A path that leaves the finite numbers is frozen where it was, and marked."""
        system = process.system

        def step(place: Place) -> tuple[Place, Ledger]:
            x0 = place.x
            x1 = self.inner(system, x0, lam, dt, drawn)
            if jnp.shape(x1) != x0.shape or x1.dtype != x0.dtype:
                raise ValueError(
                    f"{type(self.inner).__name__} must return a state like the one it was given, {x0.dtype}{x0.shape}; got "
                    f"{x1.dtype}{jnp.shape(x1)}."
                )
            parts = tuple(jnp.split(x1, len(place.parts)))
            new = place._replace(parts=kept_value(count, parts))
            u0, u1 = system.energy(place.x, lam), system.energy(new.x, lam)
            of = exchange(system, self.inner, (place.x, new.x), (u0, u1), lam, dt, self.rule)
            turn = u0 - place.energy
            _, heat, medium = state.ledger
            return new._replace(energy=u1), Ledger(
                turn + of.work,
                None if heat is None else of.heat,
                None if medium is None else of.medium,
            )

        place, of = _advance(eqx.filter_closure_convert(step, state.place), state.place)
        return Running(place, jtu.tree_map(jnp.add, state.ledger, of))


Step = Callable[[Place], tuple[Place, Ledger]]


@eqx.filter_custom_jvp
def _advance(step: Step, old: Place) -> tuple[Place, Ledger]:
    new, of = step(old)
    fine = jnp.isfinite(old.energy + new.energy + jnp.sum(new.x))
    parts = jtu.tree_map(lambda new, old: jnp.where(fine, new, old), new.parts, old.parts)
    return Place(parts, jnp.where(fine, new.energy, jnp.nan)), of


def alive(place: Place, ledger: Ledger) -> Array:
    """Whether the path has stayed finite, ledger included."""
    return jnp.isfinite(sum(map(jnp.sum, jtu.tree_leaves(ledger)), place.energy))


@_advance.def_jvp
def _advance_jvp(primals: PyTree, tangents: PyTree) -> PyTree:
    """The derivative of a step: for a path that has failed, that of staying.

    What enters the step is masked as well as where it leads. The derivatives in between may be NaN, and so is zero times
    them; the first mask keeps it from the gradient of all the other paths through the parameters they share. What a failed
    path exchanges is NaN, and the end of the run masks it.
    """
    old, moved = primals[1], tangents[1]
    out = _advance(*primals)
    fine = Mask(alive(*out))
    place, of = masked_jvp(lambda step, place: step(place), primals, tangents, fine)
    stays = jtu.tree_map(lambda v, t: jnp.zeros_like(v) if t is None else t, old, moved)
    return out, (jtu.tree_map(fine, place, stays), of)


class Chunks(dfx.AbstractAdjoint):
    r"""The default adjoint: $\sqrt n$ chunks of $\sqrt n$ steps, each chunk recomputed once on the way back.

    Both modes of differentiation work. On a fixed grid it draws the noise once less than `RecursiveCheckpointAdjoint`,
    at the same $O(\sqrt n)$ memory, and compiles faster.
    """

    def loop(
        self,
        *,
        saveat: dfx.SaveAt,
        max_steps: int,
        throw: bool,
        passed_solver_state: PyTree,
        passed_controller_state: PyTree,
        **rest: PyTree,
    ) -> PyTree:
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
    cond_fun: PyTree, body_fun: PyTree, init_val: PyTree, *, max_steps: int, buffers: PyTree
) -> PyTree:
    """All `max_steps` steps: no step is rejected and no run stops early, so the condition need not be asked."""

    def step(val: PyTree, _: None) -> PyTree:
        return _strong(body_fun(val)), None

    def chunk(val: PyTree, length: int) -> PyTree:
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


def _strong(tree: PyTree) -> PyTree:
    return jtu.tree_map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree
    )
