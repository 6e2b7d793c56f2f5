r"""The ledger: turn the knob at fixed x (work), let the bath act at fixed $\lambda$ (heat).

W is work done ON the system, Q is heat given TO the bath, $\Delta U = W - Q$, $k_B = 1$.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._guard import guarded
from ._process import Process, a_process, check_run, ends, span, within
from ._system import AbstractSystem
from ._types import Array, Bool, Control, Float, Scalar, State
from .protocols import AbstractProtocol

Rule = Literal["alternating", "kernel"]
Kernel = Callable[[Process, State, Scalar, Scalar], tuple[State, State]]


class Path(NamedTuple):
    """Times `(m,)` and states `(m, d)` of one realisation (or both with a leading batch axis); `ok` if it stayed finite.

    A realisation that did not is frozen at its last finite state, and its totals are NaN.
    """

    ts: Float[Array, "*batch times"]
    xs: Float[Array, "*batch times d"]
    ok: Bool[Array, "*batch"] | bool = True


class Entropy(NamedTuple):
    r"""Entropies in nats: `total` = `system` + `medium` is R of the process's own `final`; None where that is None."""

    total: Array | None
    medium: Array
    system: Array | None


class Trajectory(NamedTuple):
    """A path with its work (on the system), heat (to the bath; one per bath) and entropy, in energy and in nats."""

    path: Path
    work: Array
    heat: Array
    entropy: Entropy


class Exchange(NamedTuple):
    """What one step with the bath at fixed control exchanges: work of f, heat given to each bath, medium entropy."""

    work: Array
    heat: Array
    medium: Array


def exchange(
    system: AbstractSystem,
    x0: State,
    x1: State,
    u0: Scalar,
    u1: Scalar,
    lam: Control,
    dt: Scalar,
    rule: Rule,
) -> Exchange:
    r"""One step $x_0 \to x_1$ at fixed $\lambda$, with energies `u0`, `u1` at its ends.

    $$w = f \circ dx, \qquad Q = -[U(x_1) - U(x_0)] + f \circ dx, \qquad \Delta S_m = Q / T .$$

    With a bath per coordinate, $Q_i = F_i \circ dx_i$ with the discrete gradient of U (Gonzalez, J. Nonlinear Sci. 6,
    449 (1996)), so that the heats add up to the same Q exactly. `rule="kernel"` replaces $\Delta S_m$ by the log-ratio
    of the forward and the backward Euler–Maruyama kernel of the step.
    """
    temperature = system.temperature_at(lam)
    work = system.pushed(x0, x1, lam)
    heat = work - (u1 - u0)
    if temperature.ndim:
        heat = _per_bath(system, x0, x1, heat, lam)
    medium = jnp.sum(heat / temperature)
    if rule == "kernel":
        mean0, variance = euler_step(system, x0, lam, dt)
        mean1, _ = euler_step(system, x1, lam, dt)
        medium = jnp.sum(((x0 - mean1) ** 2 - (x1 - mean0) ** 2) / (2 * variance))
    return Exchange(work, heat, medium)


def _per_bath(system: AbstractSystem, x0: State, x1: State, heat: Scalar, lam: Control) -> State:
    dx = x1 - x0
    each = 0.5 * (system.total_force(x0, lam) + system.total_force(x1, lam)) * dx
    left = heat - jnp.sum(each)  # of third order in dx, zero for a quadratic potential
    square = jnp.sum(dx**2)
    moved = square > 0
    return each + left * jnp.where(moved, dx**2, 1) / jnp.where(moved, square, dx.size)


def euler_step(system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> tuple[State, State]:
    r"""Mean $x + \mu F dt$ and variance $2 \mu T dt$ of the Euler–Maruyama step, per coordinate."""
    mobility = system.mobility_at(lam)
    variance = jnp.broadcast_to(2 * mobility * system.temperature_at(lam) * dt, x.shape)
    return x + mobility * system.total_force(x, lam) * dt, variance


def euler(process: Process, x: State, t0: Scalar, t1: Scalar) -> tuple[State, State]:
    r"""The Euler–Maruyama kernel of one step, with the control of the middle of the step: `(mean, variance)`."""
    return euler_step(process.system, x, process.protocol(0.5 * (t0 + t1)), t1 - t0)


def entropy(process: Process, x0: State, x1: State, medium: Scalar) -> Entropy:
    r"""$R = \ln p_0(x_0)/q(x_\tau) + \Delta S_m$ for the process's own `final`."""
    if process.final is None:
        return Entropy(None, medium, None)
    system = process.initial.log_prob(x0) - process.final.log_prob(x1)
    return Entropy(system + medium, medium, system)


def per_path(fn: Callable[..., Any], path: Path, *rest: Any) -> Any:
    """Apply `fn(path, *rest)` to one realisation, or to each along a leading batch axis (times may be shared)."""
    rank = jnp.ndim(path.xs)
    if rank not in (2, 3):
        raise ValueError(
            f"path.xs must have shape (times, d), or (paths, times, d), also for d = 1; got {jnp.shape(path.xs)}. "
            "For one coordinate use xs[..., None]."
        )
    if jnp.shape(path.ts)[-1] != jnp.shape(path.xs)[-2]:
        raise ValueError(
            f"path.ts and path.xs disagree: {jnp.shape(path.ts)} times for states {jnp.shape(path.xs)}."
        )
    if rank == 2:
        return fn(path, *rest)
    axes = (0 if jnp.ndim(path.ts) == 2 else None, 0, 0 if jnp.ndim(path.ok) == 1 else None)
    one = jax.vmap(lambda parts, *rest: fn(Path(*parts), *rest), (axes, *(0 for _ in rest)))
    return one(tuple(path), *rest)


each_path = eqx.filter_jit(per_path)


def account(
    process: Process, path: Path, *, rule: Rule = "alternating", cumulative: bool = False
) -> Trajectory:
    r"""Work, heat and entropy of a stored or measured path, by the same ledger as `simulate`.

    With $\lambda_k$ the control at the middle of step k,

    $$W = \sum_k [U(x_k, \lambda_k) - U(x_k, \lambda_{k-1})] + f \circ dx, \qquad
      Q = \sum_k -[U(x_{k+1}, \lambda_k) - U(x_k, \lambda_k)] + f \circ dx,$$

    the turns from `before` to $\lambda_0$ and from $\lambda_{n-1}$ to `after` included, so $\Delta U = W - Q$ to rounding.
    The ledger of a thinned path is the thinned path's own. `path` is `Path(ts, xs)` with `xs` of shape `(m, d)`, or
    `(paths, m, d)`. With `cumulative=True` work, heat and medium are running totals of length m (the last with the
    end jump), and so are `entropy.total` and `.system`, which compare the start with the state so far.

    Raises `ValueError` for wrong shapes, a grid that does not rise or leaves the protocol's span, or an unknown rule. A
    path with a state or an energy that is not finite gets `ok=False` and NaN totals.
    """
    a_process("process", process)
    check_rule(rule)
    _check_path(process, path)
    return _account(process, Path(*map(jnp.asarray, path)), rule, cumulative)


@eqx.filter_jit
def _account(process: Process, path: Path, rule: Rule, cumulative: bool) -> Trajectory:
    return per_path(lambda p: _account_one(process, p, rule, cumulative), path)


def _account_one(process: Process, path: Path, rule: Rule, cumulative: bool) -> Trajectory:
    ok = path.ok & jnp.all(jnp.isfinite(path.xs))
    safe = path._replace(xs=jnp.where(jnp.isfinite(path.xs), path.xs, 0))

    def ledger() -> tuple[Array, Array, Entropy]:
        return _ledger(process, safe, rule, cumulative)

    work, heat, nats = jax.lax.stop_gradient(ledger())
    ok = ok & jnp.isfinite(jnp.sum(work) + jnp.sum(heat) + jnp.sum(nats.medium))
    work, heat, nats = jtu.tree_map(lambda v: jnp.where(ok, v, jnp.nan), guarded(ok, ledger))
    return Trajectory(Path(path.ts, path.xs, ok), work, heat, nats)


def _ledger(
    process: Process, path: Path, rule: Rule, cumulative: bool
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
    step = jax.vmap(lambda *a: exchange(system, *a, rule=rule))(x0, x1, u0, u1, lams, jnp.diff(ts))
    jump = system.energy(xs[-1], after) - u1[-1]
    if cumulative:
        work, heat, medium = (running(v) for v in (turn + step.work, step.heat, step.medium))
        nats = jax.vmap(lambda x, m: entropy(process, xs[0], x, m))(xs, medium)
        return work.at[-1].add(jump), heat, nats
    medium = jnp.sum(step.medium)
    nats = entropy(process, xs[0], xs[-1], medium)
    return jnp.sum(turn + step.work) + jump, jnp.sum(step.heat, 0), nats


def running(increments: Array) -> Array:
    """Running totals, from zero."""
    return jnp.concatenate([jnp.zeros_like(increments[:1]), jnp.cumsum(increments, axis=0)])


def reduced_work(process: Process, trajectory: Trajectory) -> Array:
    r"""$W_\mathrm{red} = \Delta\phi + \Delta S_m$ with the reduced potential $\phi = U/T$, in nats, per path.

    $\langle e^{-W_\mathrm{red}} \rangle = e^{-\Delta(\beta F)}$ from equilibrium; at constant T it is $W/T$. It does
    not exist with a bath per coordinate (`ValueError`), and a run of another process, a reversed one say, is refused where
    its values are known. Source: Jarzynski, PRE 56, 5018 (1997), generalised to T(t).
    """
    path = _total("reduced_work", process, trajectory)
    if jax.eval_shape(process.system.temperature_at, process.protocol(_first(path.ts))).shape:
        raise ValueError(
            "reduced_work needs one bath: with a temperature per coordinate U/T does not exist. "
            "Use entropy.total or dissipated_work, which do."
        )

    reduced, gap = each_path(
        eqx.Partial(_reduced, process),
        path,
        trajectory.work,
        trajectory.heat,
        trajectory.entropy.medium,
    )
    gap = _checks.known(gap)
    if gap is not None and np.mean(gap > 0.01) > 0.5:
        raise ValueError(
            "reduced_work needs the process that the trajectory is a run of: the energy at its ends does not change by "
            "its work minus its heat. The works of reversed runs are reduced_work(reverse(process), run)."
        )
    return reduced


def _reduced(
    process: Process, path: Path, work: Array, heat: Array, medium: Array
) -> tuple[Array, Array]:
    r"""The reduced work, and how far $\Delta U$ is from $W - Q$, relative to all four."""
    before, after = ends(process.protocol, path.ts)
    u0, u1 = process.system.energy(path.xs[0], before), process.system.energy(path.xs[-1], after)
    size = abs(u0) + abs(u1) + abs(work) + abs(heat)
    gap = abs(u1 - u0 - work + heat) / jnp.where(size > 0, size, 1)
    t0, t1 = (process.system.temperature_at(lam) for lam in (before, after))
    return u1 / t1 - u0 / t0 + medium, gap


def dissipated_work(process: Process, trajectory: Trajectory) -> Array:
    r"""R with $q$ = `process.final`: $\ln p_0(x_0)/q(x_\tau) + \Delta S_m$, from the path's ends, in nats, per path.

    With `final` = equilibrium at the last control value this is $W_\mathrm{red} - \Delta(\beta F)$. Swap `final` and price
    the same paths again. Raises `ValueError` if `final` is None.
    """
    path = _total("dissipated_work", process, trajectory)
    if process.final is None:
        raise ValueError(
            "dissipated_work needs process.final, and it is None: R compares the run with one that starts there. Give "
            "final=, e.g. thermojax.densities.Boltzmann(system, lam) at the last control value."
        )

    return each_path(eqx.Partial(_dissipated, process), path, trajectory.entropy.medium)


def _dissipated(process: Process, path: Path, medium: Array) -> Array:
    total = entropy(process, path.xs[0], path.xs[-1], medium).total
    assert total is not None
    return total


def _total(name: str, process: Process, trajectory: Trajectory) -> Path:
    """The path of a trajectory that has its totals."""
    a_process("process", process)
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"{name} takes a Trajectory, got {type(trajectory).__name__}. thermojax.account makes one of a path."
        )
    if jnp.ndim(trajectory.entropy.medium) != jnp.ndim(trajectory.path.xs) - 2:
        raise ValueError(
            f"{name} takes totals, got running totals. Use account(..., cumulative=False)."
        )
    return trajectory.path


def path_ratio(
    forward: Process,
    backward: Process,
    path: Path,
    *,
    kernels: Kernel | tuple[Kernel, Kernel] = euler,
) -> Array:
    r"""$\ln P_F[x] / P_B[x_R]$ over the two chains' Gaussian kernels, in nats, per path:

    $$\ln\frac{p_F(x_0)}{p_B(x_n)} + \sum_k \ln \frac{k_F(x_{k+1} | x_k)}{k_B(x_k | x_{k+1})} .$$

    The backward chain walks the mirrored grid. `kernels` maps `(process, x, t0, t1)` to `(mean, variance)`, one for both
    chains or a pair `(forward, backward)`; normalisers are kept, so variances may differ. With `backward =
    reverse(forward)` and Euler kernels this is R of `rule="kernel"`. $\langle e^{-R} \rangle = 1$ at every step size if
    the path was drawn from the forward chain. Source: Crooks, PRE 60, 2721 (1999), eq. 8; Sivak, Chodera & Crooks,
    PRX 3, 011007 (2013).
    """
    a_process("forward", forward)
    a_process("backward", backward)
    _check_path(forward, path)
    pair = kernels if isinstance(kernels, tuple) else (kernels, kernels)
    if len(pair) != 2 or not all(map(callable, pair)):
        raise TypeError(
            f"kernels must be a callable (process, x, t0, t1) -> (mean, variance), or a pair of them; got {kernels!r}."
        )
    ratio = eqx.Partial(_ratio, forward, backward, *pair, *_mirror(forward, backward))
    return each_path(ratio, Path(*map(jnp.asarray, path)))


def _ratio(
    forward: Process, backward: Process, k_f: Kernel, k_b: Kernel, t0: Array, t1: Array, path: Path
) -> Array:
    ts, xs = path.ts, path.xs

    def total() -> Scalar:
        there = jax.vmap(lambda x, a, b, y: log_gauss(y, *k_f(forward, x, a, b)))(
            xs[:-1], ts[:-1], ts[1:], xs[1:]
        )
        back = jax.vmap(lambda x, a, b, y: log_gauss(y, *k_b(backward, x, a, b)))(
            xs[1:], t0 + t1 - ts[1:], t0 + t1 - ts[:-1], xs[:-1]
        )
        start = forward.initial.log_prob(xs[0]) - backward.initial.log_prob(xs[-1])
        return start + jnp.sum(there - back)

    ok = path.ok & jnp.all(jnp.isfinite(xs))
    return jnp.where(ok, guarded(ok, total), jnp.nan)


def _mirror(forward: Process, backward: Process) -> tuple[Array, Array]:
    """The span about whose middle a path is mirrored: that of the backward protocol, and of the forward one if known."""
    t0, t1 = span(backward.protocol, "path_ratio")
    if isinstance(forward.protocol, AbstractProtocol):
        mine, other = (_checks.known((p.t0, p.t1)) for p in (forward.protocol, backward.protocol))
        if mine is not None and other is not None and not np.allclose(mine, other, rtol=1e-5):
            raise ValueError(
                f"path_ratio: forward and backward must share one span (t0, t1), got {mine} and {other}: the "
                "backward chain walks the mirrored grid. thermojax.reverse(process) has the right one."
            )
    return t0, t1


def log_gauss(x: State, mean: State, variance: Array) -> Scalar:
    """Of one point; the variance is that of each coordinate, or one for all."""
    return -0.5 * jnp.sum((x - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def _first(ts: Array) -> Array:
    return ts[0] if ts.ndim == 1 else ts[0, 0]


def check_rule(rule: str) -> None:
    if rule not in ("alternating", "kernel"):
        raise ValueError(f'rule must be "alternating" or "kernel", got {rule!r}.')


def _check_path(process: Process, path: Path) -> None:
    if not isinstance(path, Path):
        raise TypeError(
            f"path must be thermojax.Path(ts, xs), got {type(path).__name__}. A Trajectory has it as .path."
        )
    ts, xs = _checks.array("path.ts", path.ts), _checks.array("path.xs", path.xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"path.xs must be floating point, got {xs.dtype}. Use xs.astype(float).")
    per_path(lambda p: p.ts, Path(ts, xs, _checks.array("path.ok", path.ok)))
    grid = _checks.known(ts)
    rows = (
        [ts]
        if ts.ndim == 1
        else []
        if grid is None
        else ([ts[0]] if (grid == grid[:1]).all() else list(ts))
    )
    for row in rows:
        _checks.times("path.ts", row)
        within(process.protocol, row)
    _checks.one_float(**{"path.ts": ts, "path.xs": xs, "process": process})
    for row in rows[:1]:
        check_run(process, jax.ShapeDtypeStruct(xs.shape[-1:], xs.dtype), row.astype(xs.dtype))
