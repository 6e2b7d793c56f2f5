r"""Is the step short enough? An explicit step of length h follows a relaxation at the rate r only where $h r \ll 1$."""

import itertools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._diffrax import Diffrax
from ._jit import jit
from ._nodes import evenly
from ._paths import Trajectory
from ._process import Process, paths
from ._types import Array, Control, Drive, Scalar, State, Times
from .systems import (
    ABOBA,
    BAOAB,
    AbstractDiffusion,
    AbstractDiscrete,
    AbstractJumps,
    AbstractStep,
    AbstractSystem,
    AbstractUnderdamped,
    Euler,
    Heun,
    Inhomogeneous,
    Once,
    Rule,
    StratonovichHeun,
    rescaled,
)

COARSE = 0.5  # h r of Heun's step above which its stationary variance is off by 8 % or more
UNSTABLE = 2.0  # and above which explicit steps run away
LOOKS = 4  # paths, of jumps those that failed, and controls of these, that are looked at
PATHS = 64  # the same of paths with a drive of their own
EVEN, WORST = 5, 3  # steps that are looked at closely, along the grid and where it matters most
TURNS = 8  # of the power iteration, if close
MANY, BATCH = 300_000, 1024  # numbers that may be looked at roughly; steps of one batch


def rate(
    system: AbstractDiffusion | Inhomogeneous, x: State, lam: Control, turns: int = TURNS
) -> Scalar:
    r"""The fastest rate of the drift at one state, $\|\partial b/\partial x\|$ (its largest singular value)."""
    return _norm(lambda x: system.drift(x, lam), x, turns)


def pace(
    system: AbstractUnderdamped, x: State, lam: Control, h: Scalar, turns: int = TURNS
) -> Scalar:
    r"""$b h \omega$ of the fastest oscillation at one state, $\omega^2 = \|\partial F/\partial q\|/m$: stable below 2."""
    q, _ = jnp.split(x, 2)
    square = _norm(lambda y: system.acceleration(y, lam), q * jnp.sqrt(system.mass), turns)
    return jnp.max(rescaled(system, h)) * jnp.sqrt(square)


def _norm(field: Callable[[State], State], x: State, turns: int) -> Scalar:
    """The largest singular value of its Jacobian; without turns a number below it, at a fifth of the cost."""
    start = jnp.cos(jnp.arange(x.size, dtype=x.dtype))  # no special direction of any matrix
    start = start / jnp.linalg.norm(start)
    if not turns or x.size == 1:
        return jnp.linalg.norm(jax.jvp(field, (x,), (start,))[1])
    _, pull = jax.vjp(field, x)

    def turn(v: State, _: None) -> tuple[State, Scalar]:
        (back,) = pull(jax.jvp(field, (x,), (v,))[1])
        size = jnp.linalg.norm(back)
        return jnp.where(size > 0, back / jnp.where(size > 0, size, 1), v), size

    _, squares = jax.lax.scan(turn, start, None, turns)
    return jnp.sqrt(squares[-1])


class Followed(NamedTuple):
    """h r at the states `(..., states, steps)`: at EVEN steps along the grid, and at those where it is largest; which these
    steps are, `(..., steps)`."""

    of: Array
    steps: Array


@jit
def _followed(process: Process, ts: Times, xs: Array) -> Followed:
    """At states of all paths `(states, d)`, or `(paths, states, d)` of paths with a drive of their own."""
    if (own := paths(process)) is None:
        return _along(process.system, process.protocol, ts, xs, MANY)
    along = lambda protocol, xs: _along(process.system, protocol, ts, xs, MANY // own)
    return eqx.filter_vmap(along)(process.protocol, xs)


def _along(system: AbstractSystem, protocol: Drive, ts: Times, xs: Array, many: int) -> Followed:
    """All steps are looked at roughly, where the first path starts and ends; or as many as make `many` numbers, and the
    longest, and those of extreme controls."""
    assert isinstance(system, AbstractDiffusion | Inhomogeneous)
    h, middles = jnp.diff(ts), 0.5 * (ts[1:] + ts[:-1])
    leaves = jtu.tree_leaves(jax.eval_shape(protocol, ts[0]))
    n, size = len(h), xs[:2].size + sum(leaf.size for leaf in leaves)
    even = jnp.asarray(evenly(n, EVEN))
    at = jnp.asarray(evenly(n, max(many // size, EVEN)))
    if len(at) < n:
        extremes = jax.lax.map(lambda t: _extremes(protocol(t)), middles, batch_size=BATCH)
        more = (jax.lax.top_k(h, WORST)[1], jnp.argmax(extremes, 0))
        at = jnp.concatenate([at, *(v.astype(at.dtype) for v in more)])

    def looked(xs: Array, steps: Array, turns: int) -> Array:
        def of_step(x: State, lam: Control, h: Scalar) -> Scalar:
            return (
                pace(system, x, lam, h, turns)
                if isinstance(system, AbstractUnderdamped)
                else h * rate(system, x, lam, turns)
            )

        each = jax.vmap(jax.vmap(of_step, (None, 0, 0)), (0, None, None))
        return each(xs, jax.vmap(protocol)(middles[steps]), h[steps])

    rough = jnp.mean(jnp.log1p(looked(xs[:2], at, 0)), 0)
    rough = jax.lax.optimization_barrier(jnp.nan_to_num(rough))  # once
    worst = at[jax.lax.top_k(rough, min(WORST, len(at)))[1]]
    steps = jnp.concatenate([even, worst])
    return Followed(looked(xs, steps, TURNS), steps)


def _extremes(lam: Control) -> Array:
    """The largest number in each part of a control, and the smallest times -1."""
    leaves = jtu.tree_leaves(lam)
    return jnp.stack([f(v) for v in leaves for f in (jnp.max, lambda v: -jnp.min(v))])


@jit
def _extreme_paths(process: Process, ts: Times) -> Array:
    """Those of drives of their own that hold the extreme controls."""
    moving, fixed = eqx.partition(process.protocol, eqx.is_array)
    middles = 0.5 * (ts[1:] + ts[:-1])

    def one(moving: Drive) -> Array:
        protocol = eqx.combine(moving, fixed)
        return jnp.max(jax.vmap(lambda t: _extremes(protocol(t)))(middles), 0)

    return jnp.argmax(jax.lax.map(one, moving, batch_size=PATHS), 0)


@jit
def _ends(xs: Array, few: Array) -> Array:
    return xs[few][:, :: xs.shape[1] - 1]


def _some(process: Process, ts: Times, run: Trajectory) -> tuple[Process, Array, np.ndarray]:
    """The process, where a few of its paths start and end, as `_followed` takes them, and which of them stayed finite."""
    xs, ok = run.path.xs.reshape(-1, *run.path.xs.shape[-2:]), np.atleast_1d(run.path.ok)
    own = paths(process)
    few = np.arange(LOOKS) if own is None else evenly(own, PATHS)
    if own is not None and len(few) < own:
        few = np.concatenate([few, np.asarray(_extreme_paths(process, ts))])
    few = few[few < len(ok)]
    ends = _ends(xs, jnp.asarray(few))
    if own is None:
        return process, ends.reshape(-1, xs.shape[-1]), np.repeat(ok[few], 2)
    own = jtu.tree_map(lambda v: v[few] if eqx.is_array(v) else v, process.protocol)
    return process.replace(protocol=own), ends, np.repeat(ok[few], 2).reshape(-1, 2)


def watched(
    process: Process, ts: Times, run: Trajectory, step: AbstractStep, rule: Rule
) -> Trajectory:
    """The run; with a warning if its steps were too long for what they followed, where its values are known.

    If they were too long to be stable, in all states that were looked at and along half of the way or more, none of its
    paths is `ok`. (The log-ratio of the kernel rule is that of the steps taken, whatever their length: there, work and heat
    alone are not to be trusted.)
    """
    if isinstance(process.system, AbstractDiscrete):
        _complain(process.system, process, ts, run)
    if isinstance(step, Once) and rule == "alternating":
        _hasten(process, ts, run)
    # of a step of one's own nothing is known
    explicit = isinstance(step, Heun | StratonovichHeun | Euler | Diffrax | BAOAB | ABOBA)
    drifts = isinstance(process.system, AbstractDiffusion | Inhomogeneous)
    if not (explicit and drifts) or _checks.tracing((run, ts, process)):
        return run
    some, ends, ok = _some(process, ts, run)
    of, steps = map(np.asarray, _followed(some, ts, ends))
    kept = ok & np.isfinite(of).all(axis=-1)
    there = kept.any(axis=-1)
    if not there.any():  # all of them failed, and are marked
        return run
    of = np.where(kept[..., None], of, np.nan)[there]  # now `(1, states, steps)` of one drive, too
    of, steps = of.reshape(-1, *of.shape[-2:]), steps[there].reshape(-1, steps.shape[-1])
    even = len(evenly(len(ts) - 1, EVEN))
    unstable = (np.median(np.nanmin(of[..., :even], axis=1), axis=1) > UNSTABLE).all()
    middle = np.nanmedian(of, axis=1)
    most, k = np.max(middle), steps.flat[np.argmax(middle)]
    runs_away = most > UNSTABLE
    if not (unstable or runs_away or (rule == "alternating" and most > COARSE)):
        return run
    if unstable and rule == "alternating":
        run = run._replace(path=run.path._replace(ok=jnp.zeros_like(run.path.ok)))
    what = (
        "the step is unstable: paths grow without bound, and none of them is marked ok"
        if unstable and rule == "alternating"
        else "the step is unstable there: work and heat are those of paths that run away"
        if unstable or runs_away
        else "work and heat are off by several per cent or more"
    )
    follows = (
        "radians of the fastest oscillation (b h times the root of the largest |dF/dq|/m along the drive)"
        if isinstance(process.system, AbstractUnderdamped)
        else "relaxation times of the drift (the largest |db/dx| along the drive, times h)"
    )
    warnings.warn(
        f"The step is too long for what it follows: h = {ts[k + 1] - ts[k]:.3g}, at t = {ts[k]:.4g}, is {most:.2g} "
        f"{follows}, and {what}. Take about {most / 0.1:.0f} times as many steps, there at least.",
        RuntimeWarning,
        stacklevel=4,
    )
    return run


def _hasten(process: Process, ts: Times, run: Trajectory) -> None:
    """Warn of steps in which several jumps are due, by the states in which the paths start and end, or that they keep."""
    if _checks.tracing((run, ts, process)):
        return
    system, own, ok = process.system, paths(process), np.atleast_1d(run.path.ok)
    assert isinstance(system, AbstractJumps)
    xs = run.path.xs.reshape(-1, *run.path.xs.shape[-2:])[np.flatnonzero(ok)]
    each = [(process.protocol, xs.reshape(-1, xs.shape[-1]))]
    if own is not None:
        few = np.flatnonzero(ok)[:LOOKS]
        of = lambda i: jtu.tree_map(lambda v: v[i] if eqx.is_array(v) else v, process.protocol)
        each = [(of(i), x) for i, x in zip(few, xs, strict=False)]
    for protocol, x in each:
        if len(x) and (why := system.haste(protocol, ts, x)):
            return warnings.warn(why, RuntimeWarning, stacklevel=5)


def _complain(system: AbstractDiscrete, process: Process, ts: Times, run: Trajectory) -> None:
    """Say what is wrong with a system of jumps whose path has failed, if it says so itself in the last state of the path."""
    if _checks.tracing((run, ts, process)) or paths(process) is not None:
        return
    failed = np.flatnonzero(~np.atleast_1d(run.path.ok))
    if not len(failed):
        return
    ends = run.path.xs.reshape(-1, *run.path.xs.shape[-2:])[failed[:LOOKS], -1]
    middles = 0.5 * (ts[1:] + ts[:-1]).astype(ends.dtype)
    steps = evenly(ts.shape[0] - 1, LOOKS)
    for x, k in itertools.product(ends, steps):
        if why := system.complaint(x, process.protocol(middles[k])):
            raise ValueError(f"{len(failed)} of {np.size(run.path.ok)} paths failed. {why}")
