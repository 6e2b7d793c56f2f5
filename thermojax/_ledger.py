r"""The ledger: turn the knob at fixed x (work), let the bath act at fixed $\lambda$ (heat).

W is work done ON the system, Q is heat given TO the bath, $\Delta U = W - Q$, $k_B = 1$.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._diffrax import Solver, as_step
from ._grids import within
from ._guard import guarded
from ._jit import jit
from ._paths import (
    Entropy,
    Path,
    Trajectory,
    a_period,
    cut_at,
    digits_kept,
    other_turn,
    report_turns,
    running,
    shape_of,
    unwrapped,
)
from ._process import Process, a_process, baths, check_run, each_path, ends
from ._types import Array, ArrayLike, Control, Drive, InTime, PyTree, Scalar, State
from .protocols import Reversed, Stopped, moving
from .systems import AbstractOverdamped, AbstractStep, AbstractSystem, Exchange, Rule, led


def exchange(
    system: AbstractSystem,
    step: AbstractStep,
    ends: tuple[State, State],
    energies: tuple[Scalar, Scalar],
    lam: Control,
    dt: Scalar,
    rule: Rule,
) -> Exchange:
    r"""What one step between two states at fixed $\lambda$ exchanges.

    `rule="alternating"`: what the system says. `rule="kernel"` replaces its medium entropy by the log-ratio of the step's
    forward and backward kernels.
    """
    given = system.exchange(*ends, lam, energies[0] - energies[1])
    got, wanted = tuple(map(jnp.shape, given)), ((), jnp.shape(system.temperature(lam)), ())
    if got != wanted:
        raise ValueError(
            f"{type(system).__name__}.exchange must return Exchange(work, heat, medium) of shapes {wanted}, the heat's that "
            f"of temperature(lam); got {got}."
        )
    if isinstance(system, AbstractOverdamped):
        given = system.carried(given, *ends, lam, dt)
    if rule == "alternating":
        return given
    return given._replace(medium=step.log_ratio(system, *ends, lam, dt))


def entropies(process: Process, x0: State, x1: State, medium: Scalar) -> Entropy:
    r"""$R = \ln p_0(x_0)/q(x_\tau) + \Delta S_m$ for the process's own `final`."""
    if process.final is None:
        return Entropy(None, medium, None)
    system = process.initial.log_prob(x0) - process.final.log_prob(x1)
    return Entropy(system + medium, medium, system)


def account(
    process: Process,
    path: Path,
    *,
    rule: Rule = "alternating",
    cumulative: bool = False,
    solver: Solver = None,
    period: ArrayLike | None = None,
    density: InTime | None = None,
) -> Trajectory:
    r"""Work, heat and entropy of a stored or measured path, by the same ledger as `simulate`.

    With $\lambda_k$ the control at the middle of step k,

    $$W = \sum_k [U(x_k, \lambda_k) - U(x_k, \lambda_{k-1})] + f \circ dx, \qquad
      Q = \sum_k -[U(x_{k+1}, \lambda_k) - U(x_k, \lambda_k)] + f \circ dx,$$

    the turns from `before` to $\lambda_0$ and from $\lambda_{n-1}$ to `after` included, so $\Delta U = W - Q$ to rounding.
    The ledger of a thinned path is the thinned path's own. `path` is `Path(ts, xs)` with `xs` of shape `(m, d)`, or
    `(paths, m, d)`; a process with a protocol for each path prices each along its own. `solver` is the step whose kernels
    `rule="kernel"` compares, None the system's own. With `cumulative=True` work, heat and medium are running totals of
    length m (the last with the end jump), and so are `entropy.total` and `.system`, which compare the start with the state
    so far by the process's own `final`: before the end `entropy.total` is a log-ratio, and not the entropy produced so far,
    unless `final` is the density at that time. Of the running totals, `medium` alone is that of any time.

    `density` is the density in time, an `evolve` result or anything with `at(t)`. The running `entropy.system` is then
    $\ln p(x_0, t_0)/p(x_t, t)$, and `entropy.total` the entropy produced until t, whatever `final` is. All paths must share
    their times.

    `period` is where an angle is cut, $2\pi$ or 360 say, or one per coordinate, infinite where there is none: every step
    then goes the short way round, and `path.xs` of the result is continuous, on the turn of its first value. Where the
    potential has not that period and its energy at the first control is lower a turn off, or higher by less than the
    temperature, a `UserWarning` says that the path may be on the wrong one. Without `period` a path that looks cut is
    reported.

    Raises `ValueError` for wrong shapes, times or states in float64 whose steps are lost in float32, a grid that does not
    rise or leaves the protocol's span, or an unknown rule. A path with a state or an energy that is not finite gets
    `ok=False` and NaN totals.
    """
    a_process("process", process)
    check_rule(rule)
    if density is not None and not (cumulative and callable(getattr(density, "at", None))):
        raise ValueError(
            "density is a density in time, with .at(t) (a thermojax.evolve result), and goes with cumulative=True. At the "
            "end alone it is process.final: process.replace(final=evolution.final)."
        )
    step = as_step(solver, process.system, rule)
    path = check_path(process, path)
    if period is None:
        uncut(path, "Give period={:.6g}, or unwrap it", 2**22)
    else:
        period = a_period(period, path.xs.shape[-1])
        path = path._replace(xs=unwrapped(path.xs, period))
        check_turns("path", process, path, period)
    found = _account(process, path, step, rule, cumulative)
    if rule == "kernel":
        _of_these_steps(step, path, found)
    return found if density is None else _in_time(density, found)


def _of_these_steps(step: AbstractStep, path: Path, found: Trajectory) -> None:
    """Refuse a path that no step leads along, where that is known: the kernels of a mass lead to few of all states."""
    ok = _checks.known(found.path.ok)
    if (
        ok is not None
        and not ok.any()
        and np.isfinite(np.asarray(path.xs)).all()
        and np.all(path.ok)
    ):
        raise ValueError(
            f'rule="kernel" compares the kernels of {type(step).__name__}, which do not lead along any of these paths (or '
            "an energy on them is not finite): they were measured, thinned, or made by another step. Use "
            'rule="alternating".'
        )


@jit
def _in_time(density: InTime, found: Trajectory) -> Trajectory:
    """The running entropies by a density that is known at all times: each of them is asked for once, for all paths."""
    ts, xs, ok = found.path
    if jnp.ndim(ts) == 2:
        ok, ts = ok & jnp.all(ts == ts[:1]), ts[0]

    def at(given: tuple[Scalar, Array]) -> Array:
        t, xs = given
        height = density.at(t).log_prob
        return jax.vmap(height)(xs) if xs.ndim == 2 else height(xs)

    heights = jnp.moveaxis(jax.lax.map(at, (ts, jnp.moveaxis(xs, -2, 0))), 0, -1)
    gain = heights[..., :1] - heights
    gain = jnp.where(jnp.expand_dims(jnp.asarray(ok), -1), gain, jnp.nan)
    medium = found.entropy.medium
    return found._replace(entropy=Entropy(gain + medium, medium, gain))


@jit
def _account(
    process: Process, path: Path, step: AbstractStep, rule: Rule, cumulative: bool
) -> Trajectory:
    def one(process: Process, path: Path) -> Trajectory:
        return _account_one(process, path, step, rule, cumulative)

    return each_path(one, (process,), path)


def _account_one(
    process: Process, path: Path, step: AbstractStep, rule: Rule, cumulative: bool
) -> Trajectory:
    ok = path.ok & jnp.all(jnp.isfinite(path.xs)) & jnp.all(jnp.isfinite(path.ts))
    safe = path._replace(xs=jnp.where(jnp.isfinite(path.xs), path.xs, 0))

    def ledger() -> tuple[Array, Array, Entropy]:
        return _ledger(process, safe, step, rule, cumulative)

    work, heat, nats = jax.lax.stop_gradient(ledger())
    ok = ok & jnp.isfinite(jnp.sum(work) + jnp.sum(heat) + jnp.sum(nats.medium))
    work, heat, nats = jtu.tree_map(lambda v: jnp.where(ok, v, jnp.nan), guarded(ok, ledger))
    return Trajectory(Path(path.ts, path.xs, ok), work, heat, nats)


def _ledger(
    process: Process, path: Path, step: AbstractStep, rule: Rule, cumulative: bool
) -> tuple[Array, Array, Entropy]:
    system, ts, xs = process.system, path.ts, path.xs
    before, after = ends(process.protocol, ts)
    lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))
    lasts = jtu.tree_map(
        lambda b, v: jnp.concatenate([jnp.asarray(b, v.dtype)[None], v[:-1]]), before, lams
    )
    energy = jax.vmap(system.energy)
    x0, x1 = xs[:-1], xs[1:]
    u0, u1 = energy(x0, lams), energy(x1, lams)
    turn = u0 - energy(x0, lasts)

    of = jax.vmap(lambda *given: exchange(system, step, *given, rule=rule))(
        (x0, x1), (u0, u1), lams, jnp.diff(ts)
    )
    if rule == "kernel":
        known = jax.vmap(lambda *given: led(step, system, *given))(x0, x1, lams, jnp.diff(ts))
        of = of._replace(medium=jnp.where(known, of.medium, jnp.nan))
    if (there := made(process.protocol, path)) is not None:
        of = jtu.tree_map(lambda v: jnp.where(there[(...,) + (None,) * (v.ndim - 1)], v, 0), of)
    of = jax.lax.optimization_barrier(of)  # sums of sums are slower on CPU where they are made one
    jump = system.energy(xs[-1], after) - u1[-1]
    if cumulative:
        work, heat, medium = (running(v) for v in (turn + of.work, of.heat, of.medium))
        nats = jax.vmap(lambda x, m: entropies(process, xs[0], x, m))(xs, medium)
        return work.at[-1].add(jump), heat, nats
    medium = jnp.sum(of.medium)
    nats = entropies(process, xs[0], xs[-1], medium)
    return jnp.sum(turn + of.work) + jump, jnp.sum(of.heat, 0), nats


def made(protocol: Drive, path: Path) -> Array | None:
    """Which steps of a path are its own: not those that hold its last state, past which a medium would flow. None if all."""
    inner = protocol
    while isinstance(inner, Reversed):
        inner = inner.protocol
    if not isinstance(inner, Stopped):
        return None
    return moving(protocol, path.ts) | jnp.any(path.xs[1:] != path.xs[:-1], axis=-1)


def reduced_work(process: Process, trajectory: Trajectory) -> Array:
    r"""$W_\mathrm{red} = \Delta\phi + \Delta S_m$ with the reduced potential $\phi = U/T$, in nats, per path.

    $\langle e^{-W_\mathrm{red}} \rangle = e^{-\Delta(\beta F)}$ from equilibrium; at constant T it is $W/T$. It does
    not exist with a bath per coordinate (`ValueError`), and a run of another process, a reversed one say, is refused where
    its values are known. Source: Jarzynski, PRE 56, 5018 (1997), generalised to T(t).
    """
    _totals("reduced_work", process, trajectory)
    reduced, gap = _reduced(process, trajectory)
    other = _checks.known(gap)
    if other is None:
        return jnp.where(jnp.mean(gap > 0.01) > 0.5, jnp.nan, reduced)
    if np.mean(other > 0.01) > 0.5:
        raise ValueError(
            "reduced_work needs the process that the trajectory is a run of: the energy at its ends does not change by "
            "its work minus its heat. The works of reversed runs are reduced_work(reverse(process), run)."
        )
    return reduced


@jit
def _reduced(process: Process, trajectory: Trajectory) -> tuple[Array, Array]:
    r"""The reduced work, and how far $\Delta U$ is from $W - Q$, relative to all four."""
    path, work, heat, entropy = trajectory
    if baths(process, path.ts.reshape(-1)):
        raise ValueError(
            "reduced_work needs one bath: with a temperature per coordinate U/T does not exist. "
            "Use entropy.total or dissipated_work, which do."
        )

    def one(
        process: Process, path: Path, work: Array, heat: Array, medium: Array
    ) -> tuple[Array, Array]:
        system, (before, after) = process.system, ends(process.protocol, path.ts)

        def reduced() -> tuple[Array, Array]:
            u0, u1 = system.energy(path.xs[0], before), system.energy(path.xs[-1], after)
            gain = u1 / system.temperature(after) - u0 / system.temperature(before)
            size = abs(u0) + abs(u1) + abs(work) + abs(heat)
            gap = abs(u1 - u0 - work + heat) / jnp.where(size > 0, size, 1)
            return gain + medium, jax.lax.stop_gradient(gap)

        return _of_ok(path, reduced)

    return each_path(one, (process,), path, work, heat, entropy.medium)


def _of_ok(path: Path, fn: Callable[[], PyTree]) -> PyTree:
    """`fn()` of a path that is ok, with its derivative; NaN, and no derivative, of one that failed."""
    ok = jnp.asarray(path.ok)
    return jtu.tree_map(lambda v: jnp.where(ok, v, jnp.nan), guarded(ok, fn))


def dissipated_work(process: Process, trajectory: Trajectory) -> Array:
    r"""R with $q$ = `process.final`: $\ln p_0(x_0)/q(x_\tau) + \Delta S_m$, from the path's ends, in nats, per path.

    With `final` = equilibrium at the last control value this is $W_\mathrm{red} - \Delta(\beta F)$. Swap `final` and price
    the same paths again. Raises `ValueError` if `final` is None.
    """
    _totals("dissipated_work", process, trajectory)
    if process.final is None:
        raise ValueError(
            "dissipated_work needs process.final, and it is None: R compares the run with one that starts there. Give "
            "final=, e.g. thermojax.densities.Boltzmann(system, lam) at the last control value."
        )
    return _dissipated(process, trajectory.path, trajectory.entropy.medium)


@jit
def _dissipated(process: Process, path: Path, medium: Array) -> Array:
    def one(process: Process, path: Path, medium: Array) -> Array | None:
        return _of_ok(path, lambda: entropies(process, path.xs[0], path.xs[-1], medium).total)

    return each_path(one, (process,), path, medium)


def _totals(name: str, process: Process, trajectory: Trajectory) -> None:
    """Refuse what is no trajectory with its totals."""
    a_process("process", process)
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"{name} takes a Trajectory, got {type(trajectory).__name__}. thermojax.account makes one of a path."
        )
    if jnp.ndim(trajectory.entropy.medium) != jnp.ndim(trajectory.path.xs) - 2:
        raise ValueError(
            f"{name} takes totals, got running totals. Use account(..., cumulative=False)."
        )


def uncut(path: Path, cure: str = "Unwrap it", most: int = 2**16) -> None:
    """Report a coordinate that looks like an angle cut at a full turn, by the first paths, of so many numbers."""
    if _checks.known(path.xs) is None:
        return
    size = path.xs.shape[-2] * path.xs.shape[-1]
    some = path.xs[: max(1, most // size)] if path.xs.ndim == 3 else path.xs
    for i, x in enumerate(np.moveaxis(np.asarray(some), -1, 0)):
        period = cut_at(x)
        if period is not None:
            warnings.warn(
                f"Coordinate {i} of the path looks like an angle cut at {period:.6g}: it fills one turn and crosses it in "
                f"single steps, which count as moves the other way. {cure.format(period)} (numpy.unwrap).",
                stacklevel=3,
            )


def check_turns(name: str, process: Process, path: Path, period: Array) -> None:
    """Report paths that may start on another turn of an angle, by their energies at the first control."""
    start = Path(path.ts[..., :2], path.xs[..., :2, :], path.ok)
    periods = jnp.broadcast_to(period, start.xs[..., 0, :].shape)
    report_turns(name, _other_turns(process, start, periods), periods)


@jit
def _other_turns(process: Process, start: Path, period: Array) -> Array:
    """Of each path and angle, whether it may start on another turn; a path is known by its first two samples."""

    def one(process: Process, start: Path, period: Array) -> Array:
        system, (lam, _) = process.system, ends(process.protocol, start.ts)
        energy, temperature = lambda x: system.energy(x, lam), system.temperature(lam)
        return other_turn(energy, start.xs[0], period, temperature)

    return each_path(one, (process,), start, period)


def check_rule(rule: str) -> None:
    if rule not in ("alternating", "kernel"):
        raise ValueError(f'rule must be "alternating" or "kernel", got {rule!r}.')


def check_path(process: Process, path: Path) -> Path:
    """A path of arrays whose times rise within the protocol's span; the rest is a matter of shapes, see `check_fit`."""
    if not isinstance(path, Path):
        raise TypeError(
            f"path must be thermojax.Path(ts, xs), got {type(path).__name__}. A Trajectory has it as .path."
        )
    digits_kept("path", path)
    ts, xs, ok = (
        _checks.array(f"path.{name}", v) for name, v in zip(Path._fields, path, strict=True)
    )
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"path.xs must be floating point, got {xs.dtype}. Use xs.astype(float).")
    path = Path(ts, xs, ok)
    shape_of(path)
    x = jax.ShapeDtypeStruct(xs.shape[-1:], xs.dtype)
    ts = _checks.grids("path.ts", ts)
    within(process, ts)
    return path._replace(ts=check_run(process, ts, x))
