"""The verbs: one realisation, or many at once, of a driven process with its ledger."""

from typing import Any, Literal, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from . import _checks
from ._guard import guarded
from ._ledger import Entropy, Path, Rule, Trajectory, check_rule, entropy
from ._noise import Noise, fold
from ._process import Process, a_process, check_run, ends, within
from ._solvers import Chunks, Drive, Ledgered, Running, alive, usable
from ._types import Array, Key, Scalar, State, Times

Save = Literal["ends", "all"] | int


def simulate(
    process: Process,
    ts: Times,
    key: Key,
    *,
    solver: dfx.AbstractSolver | None = None,
    rule: Rule = "alternating",
    save: Save = "all",
    adjoint: dfx.AbstractAdjoint | None = None,
) -> Trajectory:
    r"""One realisation of the process on the step grid `ts`, with its work, heat and entropy. `vmap` it over keys.

    $$dx = \mu F\, dt + \sqrt{2\mu T}\, dW, \qquad \Delta U = W - Q, \qquad
      R = \ln\frac{p_0(x_0)}{q(x_\tau)} + \Delta S_m .$$

    Each step turns the knob at fixed x (work), then lets the bath act at fixed $\lambda$, that of the middle of the step
    (heat); the end jumps of the protocol are turns like any other. The ledger runs inside the solve.

    **Arguments:**

    - `process`: system, protocol, initial and final density.
    - `ts`: the step grid `(n + 1,)`, increasing, within the protocol's span, of the precision of the state.
    - `key`: one `jax.random.key`. The same key gives the same path, whatever is saved and however it is differentiated.
    - `solver`: None (our Heun; Euler for the kernel rule) or a diffrax solver for additive noise.
    - `rule`: `"alternating"`, or `"kernel"`: the medium entropy is then the exact log-ratio of the step's forward and
      backward Euler–Maruyama kernels, so that $\langle e^{-R}\rangle = 1$ and $\langle R \rangle \ge 0$ hold at every
      step size. Work and heat stay as they are.
    - `save`: `"all"`, `"ends"`, or k: every k-th state, and both ends always. The totals are those of every step.
    - `adjoint`: how to differentiate; None recomputes $\sqrt n$ chunks of $\sqrt n$ steps (reverse and forward mode), or
      a diffrax adjoint: `RecursiveCheckpointAdjoint()` (no forward mode), `DirectAdjoint()` (both), `ForwardMode()`
      (forward only; the least memory). The gradient does not depend on it.

    **Returns** `Trajectory(path, work, heat, entropy)`: `path.ts` `(m,)`, `path.xs` `(m, d)`, `path.ok`; `work` a scalar
    (energy, on the system), `heat` a scalar or `(d,)` (energy, to each bath), `entropy` in nats.

    Raises `ValueError` or `TypeError` for input that cannot be run. Source: Sekimoto (1998); Seifert (2012), sec. 2; the
    kernel rule after Sivak, Chodera & Crooks, PRX 3, 011007 (2013).
    """
    return _front(process, ts, key, None, solver, rule, save, adjoint, None)


def ensemble(
    process: Process,
    ts: Times,
    key: Key,
    size: int,
    *,
    solver: dfx.AbstractSolver | None = None,
    rule: Rule = "alternating",
    save: Save = "ends",
    adjoint: dfx.AbstractAdjoint | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Trajectory:
    """Many realisations at once, batched inside one solve: what `vmap(simulate)` returns, several times faster.

    `size` is the number of paths; every array of the result has it as leading axis. Path i depends on the key and on i,
    not on `size` or on the layout. `sharding` (of the leading axis, e.g. `NamedSharding(mesh, P("paths"))`) spreads
    the paths over devices. The other arguments are those of `simulate`; `save` is `"ends"` by default.
    """
    size = _checks.whole("size", size, "a whole number of paths")
    return _front(process, ts, key, size, solver, rule, save, adjoint, sharding)


def _front(
    process: Process,
    ts: Any,
    key: Any,
    size: int | None,
    solver: Any,
    rule: Rule,
    save: Save,
    adjoint: Any,
    sharding: Any,
) -> Trajectory:
    a_process("process", process)
    if isinstance(ts, dfx.AbstractStepSizeController):
        raise TypeError(
            f"ts must be a step grid, got {type(ts).__name__}: steps are not adapted, because the ledger's kernels, the "
            "exact fluctuation theorem and the keyed noise need steps that are known beforehand. Pass times."
        )
    ts = _checks.times("ts", ts)
    key = _checks.key("key", key)
    check_rule(rule)
    within(process.protocol, ts)
    solver = usable(solver, rule)
    if not (isinstance(save, str) and save in ("ends", "all")):
        save = _checks.whole(
            "save", save, '"ends", "all", or a whole number k, for every k-th step'
        )
    if adjoint is not None and not isinstance(adjoint, dfx.AbstractAdjoint):
        raise TypeError(f"adjoint must be a diffrax adjoint, or None; got {adjoint!r}.")
    if isinstance(adjoint, dfx.BacksolveAdjoint | dfx.ImplicitAdjoint):
        raise ValueError(
            f"{type(adjoint).__name__} does not give the gradient of what is computed here. "
            "Use RecursiveCheckpointAdjoint(), DirectAdjoint() or ForwardMode()."
        )
    ts = _check_start(process, ts)
    return _run(process, ts, key, size, solver, rule, save, adjoint, sharding)


def _check_start(process: Process, ts: Array) -> Array:
    """The initial state as it will be sampled, and then everything that is evaluated at it."""
    x = _checks.shapes("initial.sample(key)", process.initial.sample, jax.random.key(0))
    if not isinstance(x, jax.ShapeDtypeStruct) or len(x.shape) != 1 or not x.shape[0]:
        raise ValueError(
            f"initial.sample(key) must return one state of shape (d,), also for d = 1; got {x}."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"initial.sample(key) must return floating-point numbers, got {x.dtype}. Use .astype(float)."
        )
    _checks.one_float(**{"the initial state": jnp.zeros((), x.dtype), "ts": ts, "process": process})
    return check_run(process, x, ts.astype(x.dtype))


@eqx.filter_jit
def _run(
    process: Process,
    ts: Times,
    key: Key,
    size: int | None,
    solver: Any,
    rule: Rule,
    save: Save,
    adjoint: Any,
    sharding: Any,
) -> Trajectory:
    system = process.system
    key_start, key_noise = jax.random.split(key)
    each = (lambda fn: fn) if size is None else jax.vmap
    x0 = each(process.initial.sample)(key_start if size is None else fold(key_start, size))
    if sharding is not None:
        x0 = jax.lax.with_sharding_constraint(x0, sharding)
    before, after = ends(process.protocol, ts)

    def first(x: State) -> tuple[State, Scalar]:
        energy = system.energy(x, before)
        fine = jnp.all(jnp.isfinite(x)) & jnp.isfinite(energy)
        energy = guarded(fine, lambda: system.energy(x, before))
        return jnp.where(jnp.isfinite(x), x, 0), jnp.where(fine, energy, jnp.nan)

    start, energy = each(first)(x0)
    zero = jnp.zeros_like(start[..., 0])
    heat = jnp.zeros_like(start) if _baths(process, ts) else zero
    y0 = Running(start, energy, zero, heat, zero)

    steps = ts.shape[0] - 1
    every = save if isinstance(save, int) else {"ends": 0, "all": 1}[save]
    path_at = dfx.SubSaveAt(t0=True, t1=True, steps=every, fn=_state)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(_still),
        Ledgered(solver, rule),
        ts[0],
        ts[-1],
        None,
        y0,
        Drive(process, Noise(key_noise, start.shape[-1], size, start.dtype)),
        saveat=dfx.SaveAt(subs=(path_at, dfx.SubSaveAt(t1=True))),
        stepsize_controller=_Grid(ts),
        adjoint=Chunks() if adjoint is None else adjoint,
        max_steps=steps,
        throw=False,
    )
    (saved, _), (xs, end) = cast(Any, solution.ts), cast(Any, solution.ys)
    end = jtu.tree_map(lambda leaf: leaf[0], end)

    def close(x0: State, end: Running) -> tuple[Any, ...]:
        fine = alive(end) & jnp.isfinite(system.energy(end.x, after))

        def totals() -> tuple[Scalar, Entropy]:
            work = end.work + system.energy(end.x, after) - end.energy
            return work, entropy(process, x0, end.x, end.medium)

        work, nats = guarded(fine, totals)
        return fine, *jtu.tree_map(lambda v: jnp.where(fine, v, jnp.nan), (work, end.heat, nats))

    ok, work, heat, nats = each(close)(start, end)
    if size is not None:
        saved, xs = jnp.broadcast_to(saved, (size, *saved.shape)), jnp.moveaxis(xs, 0, 1)
    return Trajectory(Path(saved, xs, ok), work, heat, nats)


def _baths(process: Process, ts: Times) -> bool:
    """Whether there is a bath per coordinate."""
    return (
        jax.eval_shape(lambda t: process.system.temperature_at(process.protocol(t)), ts[0]).ndim > 0
    )


class _Grid(dfx.StepTo):
    """Steps to the given times, which were checked at the front door: no check, hence no callback, in the compiled run."""

    def wrap(self, direction: Any) -> "_Grid":
        return self

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Any,
        error_order: Any,
    ) -> Any:
        return self.ts[1], 2


def _state(t: Any, y: Running, args: Any) -> Array:
    return y.x


def _still(t: Any, y: Any, args: Any) -> Any:
    return jtu.tree_map(jnp.zeros_like, y)
