"""The verbs: one realisation, or many at once, of a driven process with its ledger."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._diffrax import Solver, as_step
from ._grids import within
from ._guard import guarded
from ._jit import jit
from ._ledger import check_rule, entropies
from ._noise import Noise, fold
from ._paths import Entropy, Path, Trajectory
from ._process import Process, a_process, baths, check_run, each_protocol, ends, paths
from ._solvers import Chunks, Driven, Ledger, Ledgered, Place, Running, alive, told
from ._stiff import watched
from ._types import (
    Array,
    Control,
    Key,
    PyTree,
    Scalar,
    State,
    Time,
    Times,
)
from .systems import AbstractStep, Rule

Save = Literal["ends", "all"] | int


class Solve(NamedTuple):
    """How a run is made: the words of `simulate` and `ensemble`."""

    solver: Solver
    rule: Rule
    save: Save
    adjoint: dfx.AbstractAdjoint | None
    sharding: jax.sharding.Sharding | None


def simulate(
    process: Process,
    ts: Times,
    key: Key,
    *,
    solver: Solver = None,
    rule: Rule = "alternating",
    save: Save = "all",
    adjoint: dfx.AbstractAdjoint | None = None,
) -> Trajectory:
    r"""One realisation of the process on the step grid `ts`, with its work, heat and entropy. `vmap` it over keys.

    $$dx = \mu F\, dt + \sqrt{2\mu T}\, dW, \qquad \Delta U = W - Q, \qquad
      R = \ln\frac{p_0(x_0)}{q(x_\tau)} + \Delta S_m .$$

    Each step turns the knob at fixed x (work), then lets the bath act at fixed $\lambda$, that of the middle of the step
    (heat); the end jumps of the protocol are turns like any other. The ledger runs inside the solve; what its work tells,
    the heat to a single bath and the entropy of one at constant T, is told from it at the end.

    **Arguments:**

    - `process`: system, protocol, initial and final density.
    - `ts`: the step grid `(n + 1,)`, increasing, within the protocol's span, of the precision of the state.
    - `key`: one `jax.random.key`. The same key gives the same path, whatever is saved and however it is differentiated.
    - `solver`: None (the system's own step: our Heun, or Euler for the kernel rule), any step of `thermojax.systems` or of
      your own, or a diffrax solver for additive noise.
    - `rule`: `"alternating"`, or `"kernel"`: the medium entropy is then the exact log-ratio of the step's forward and
      backward kernels, Euler–Maruyama's by default, so that $\langle e^{-R}\rangle = 1$ and $\langle R \rangle \ge 0$
      hold at every step size. Work and heat stay as they are.
    - `save`: `"all"`, `"ends"`, or k: every k-th state, and both ends always. The totals are those of every step.
    - `adjoint`: how to differentiate; None recomputes $\sqrt n$ chunks of $\sqrt n$ steps (reverse and forward mode), or
      a diffrax adjoint: `RecursiveCheckpointAdjoint()` (no forward mode), `DirectAdjoint()` (both), `ForwardMode()`
      (forward only; the least memory). The gradient does not depend on it.

    **Returns** `Trajectory(path, work, heat, entropy)`: `path.ts` `(m,)`, `path.xs` `(m, d)`, `path.ok`; `work` a scalar
    (energy, on the system), `heat` a scalar or `(d,)` (energy, to each bath), `entropy` in nats.

    Raises `ValueError` or `TypeError` for input that cannot be run. Source: Sekimoto (1998); Seifert (2012), sec. 2; the
    kernel rule after Sivak, Chodera & Crooks, PRX 3, 011007 (2013).
    """
    return _front(process, ts, key, None, Solve(solver, rule, save, adjoint, None))


def ensemble(
    process: Process,
    ts: Times,
    key: Key,
    size: int,
    *,
    solver: Solver = None,
    rule: Rule = "alternating",
    save: Save = "ends",
    adjoint: dfx.AbstractAdjoint | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Trajectory:
    """Many realisations at once, batched inside one solve: what `vmap(simulate)` returns, several times faster.

    `size` is the number of paths (if the process has a protocol for each path, their number); every array of the result has
    it as leading axis. Path i depends on the key and on i, not on `size` or on the layout. `sharding` (of the leading axis,
    e.g. `NamedSharding(mesh, P("paths"))`) spreads the paths over devices. The other arguments are those of `simulate`;
    `save` is `"ends"` by default.
    """
    size = _checks.whole("size", size, "a whole number of paths")
    return _front(process, ts, key, size, Solve(solver, rule, save, adjoint, sharding))


def _front(process: Process, ts: Times, key: Key, size: int | None, how: Solve) -> Trajectory:
    a_process("process", process)
    if isinstance(ts, dfx.AbstractStepSizeController):
        raise TypeError(
            f"ts must be a step grid, got {type(ts).__name__}: steps are not adapted, because the ledger's kernels, the "
            "exact fluctuation theorem and the keyed noise need steps that are known beforehand. Pass times."
        )
    ts = _checks.times("ts", ts)
    key = _checks.key("key", key)
    check_rule(how.rule)
    if (own := paths(process)) not in (None, size):
        raise ValueError(
            f"The process has a protocol for each of {own} paths: ensemble(process, ts, key, {own}) runs each once, and "
            f"simulate none; got size={size}."
        )
    within(process, ts)
    step, save = as_step(how.solver, process.system, how.rule), how.save
    if not (isinstance(save, str) and save in ("ends", "all")):
        save = _checks.whole(
            "save", save, '"ends", "all", or a whole number k, for every k-th step'
        )
    _check_adjoint(how.adjoint)
    how = how._replace(save=save, sharding=_spread(how.sharding, size))
    run = _run(process, check_run(process, ts), key, size, step, how)
    return watched(process, ts, run, step, how.rule)


def _spread(
    sharding: jax.sharding.Sharding | None, size: int | None
) -> jax.sharding.Sharding | None:
    """A sharding of the paths that is kept: of a mesh whose axes the compiler may use, over which they divide evenly."""
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return sharding
    if jax.sharding.AxisType.Explicit in sharding.mesh.axis_types:  # what jax.make_mesh makes
        devices = np.asarray(sharding.mesh.devices)
        mesh = jax.sharding.Mesh(devices, sharding.mesh.axis_names)
        sharding = jax.sharding.NamedSharding(mesh, sharding.spec)
    first = sharding.spec[0] if len(sharding.spec) else None
    names = () if first is None else (first,) if isinstance(first, str) else tuple(first)
    parts = math.prod(sharding.mesh.shape[name] for name in names)
    if size is not None and size % parts:
        raise ValueError(
            f"size={size} paths do not divide over the {parts} devices of sharding, and would not be spread at all. Take "
            f"{size - size % parts or parts} or {size + parts - size % parts}."
        )
    return sharding


def _check_adjoint(adjoint: dfx.AbstractAdjoint | None) -> None:
    if adjoint is not None and not isinstance(adjoint, dfx.AbstractAdjoint):
        raise TypeError(f"adjoint must be a diffrax adjoint, or None; got {adjoint!r}.")
    if isinstance(adjoint, dfx.BacksolveAdjoint | dfx.ImplicitAdjoint):
        raise ValueError(
            f"{type(adjoint).__name__} does not give the gradient of what is computed here. "
            "Use RecursiveCheckpointAdjoint(), DirectAdjoint() or ForwardMode()."
        )


@jit
def _run(
    process: Process, ts: Times, key: Key, size: int | None, step: AbstractStep, how: Solve
) -> Trajectory:
    system = process.system
    key_start, key_noise = jax.random.split(key)
    each = (lambda fn, *axes: fn) if size is None else (lambda fn, *axes: jax.vmap(fn, axes or 0))
    x0 = each(process.initial.sample)(key_start if size is None else fold(key_start, size))
    ts = ts.astype(x0.dtype)
    if how.sharding is not None:
        x0 = jax.lax.with_sharding_constraint(x0, how.sharding)
    before, after = each_protocol(process, lambda protocol: ends(protocol, ts))
    own = None if paths(process) is None else 0

    def first(x: State, before: Control, lam: Control) -> tuple[State, Scalar, Scalar]:
        """Where a run starts, its energy at the control of the first step, and the work of the turn to it."""

        def energies() -> tuple[Scalar, Scalar]:
            return system.energy(x, before), system.energy(x, lam)

        found = jax.lax.stop_gradient(energies())
        fine = jnp.all(jnp.isfinite(x)) & jnp.isfinite(found[0] + found[1])
        given, energy = guarded(fine, energies)
        at = jnp.where(jnp.isfinite(x), x, 0)
        return at, jnp.where(fine, energy, jnp.nan), jnp.where(fine, energy - given, jnp.nan)

    lam = each_protocol(process, lambda protocol: protocol(0.5 * (ts[0] + ts[1])))
    start, energy, turned = each(first, 0, own, own)(x0, before, lam)
    zero = jnp.zeros_like(start[..., 0])
    heat = jnp.zeros((*zero.shape, *baths(process, ts)), zero.dtype)
    parts = tuple(jnp.split(start, system.parts, axis=-1))
    ledger = Ledger(zero, None, None) if told(system, how.rule) else Ledger(zero, heat, zero)
    y0 = Running(Place(parts, energy), ledger)

    steps = ts.shape[0] - 1
    every = how.save if isinstance(how.save, int) else {"ends": 0, "all": 1}[how.save]
    path_at = dfx.SubSaveAt(t0=True, t1=True, steps=every, fn=_state)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(_still),
        Ledgered(step, how.rule),
        jnp.asarray(-steps, ts.dtype),
        jnp.zeros((), ts.dtype),
        None,
        y0,
        Driven(process, Noise(key_noise, start.shape[-1], size, start.dtype), ts),
        saveat=dfx.SaveAt(subs=(path_at, dfx.SubSaveAt(t1=True))),
        stepsize_controller=_Count(),
        adjoint=Chunks() if how.adjoint is None else how.adjoint,
        max_steps=steps,
        throw=False,
    )
    assert solution.ts is not None
    assert solution.ys is not None
    (count, _), (xs, end) = solution.ts, solution.ys
    saved = ts[jnp.round(count).astype(int) + steps]
    end = jtu.tree_map(lambda leaf: leaf[0], end)

    def close(
        x0: State, energy: Scalar, turned: Scalar, end: Running, after: Control
    ) -> tuple[PyTree, ...]:
        place, (work, heat, medium) = end

        def totals() -> tuple[Scalar, Array, Entropy]:
            lost = work - (place.energy - energy) if heat is None else heat
            gain = lost / system.temperature(after) if medium is None else medium
            turns = turned + (system.energy(end.x, after) - place.energy)
            return work + turns, lost, entropies(process, x0, end.x, gain)

        found = jax.lax.stop_gradient(totals())
        fine = alive(*end) & jnp.isfinite(found[0] + found[2].medium) & jnp.all(jnp.isfinite(ts))
        found = guarded(fine, totals)
        return fine, *jtu.tree_map(lambda v: jnp.where(fine, v, jnp.nan), found)

    ok, work, heat, nats = each(close, 0, 0, 0, 0, own)(start, energy, turned, end, after)
    if size is not None:
        saved, xs = jnp.broadcast_to(saved, (size, *saved.shape)), jnp.moveaxis(xs, 0, 1)
    return Trajectory(Path(saved, xs, ok), work, heat, nats)


class _Count(dfx.AbstractStepSizeController):
    """The solver's clock counts the steps: -n, ..., -1, 0. The times are the grid's, read where they are needed: diffrax
    rounds what ends within 100 ulps of the last time to it, which near zero no step does."""

    def wrap(self, direction: Time) -> "_Count":
        return self

    def init(
        self,
        terms: dfx.AbstractTerm,
        t0: Time,
        t1: Time,
        y0: Running,
        dt0: None,
        args: Driven,
        func: Callable[..., PyTree],
        error_order: PyTree,
    ) -> tuple[Array, None]:
        return jnp.asarray(t0) + 1, None

    def adapt_step_size(
        self,
        t0: Time,
        t1: Time,
        y0: Running,
        y1_candidate: Running,
        args: Driven,
        y_error: PyTree,
        error_order: PyTree,
        controller_state: None,
    ) -> tuple[PyTree, ...]:
        return True, t1, t1 + 1, False, None, dfx.RESULTS.successful


def _state(t: Time, y: Running, args: Driven) -> Array:
    return y.x


def _still(t: Time, y: Running, args: Driven) -> PyTree:
    return jtu.tree_map(jnp.zeros_like, y)
