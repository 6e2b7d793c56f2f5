r"""Is the step short enough? An explicit step of length h follows a relaxation at the rate r only where $h r \ll 1$."""

import itertools
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _checks
from ._diffrax import Diffrax
from ._paths import Trajectory
from ._process import Process, paths
from ._types import Array, Control, Scalar, State, Times
from .systems import (
    ABOBA,
    BAOAB,
    AbstractDiffusion,
    AbstractDiscrete,
    AbstractStep,
    AbstractUnderdamped,
    Euler,
    Heun,
    Inhomogeneous,
    Rule,
    StratonovichHeun,
    rescaled,
)

COARSE = 0.5  # h r of Heun's step above which its stationary variance is off by 8 % or more
LOOKS = 4  # failed paths of jumps, and controls, that are looked at
UNSTABLE = 2.0  # and above which explicit steps run away


def rate(system: AbstractDiffusion | Inhomogeneous, x: State, lam: Control) -> Scalar:
    r"""The fastest rate of the drift at one state, $\|\partial b/\partial x\|$ (its largest singular value)."""
    return _norm(lambda x: system.drift(x, lam), x)


def pace(system: AbstractUnderdamped, x: State, lam: Control, h: Scalar) -> Scalar:
    r"""$b h \omega$ of the fastest oscillation at one state, $\omega^2 = \|\partial F/\partial q\|/m$: stable below 2."""
    q, _ = jnp.split(x, 2)
    square = _norm(lambda y: system.acceleration(y, lam), q * jnp.sqrt(system.mass))
    return jnp.max(rescaled(system, h)) * jnp.sqrt(square)


def _norm(field: Callable[[State], State], x: State) -> Scalar:
    """The largest singular value of its Jacobian."""
    _, pull = jax.vjp(field, x)

    def turn(v: State, _: None) -> tuple[State, Scalar]:
        (back,) = pull(jax.jvp(field, (x,), (v,))[1])
        size = jnp.linalg.norm(back)
        return jnp.where(size > 0, back / jnp.where(size > 0, size, 1), v), size

    start = jnp.cos(jnp.arange(x.size, dtype=x.dtype))  # no special direction of any matrix
    turns = 1 if x.size == 1 else 8
    _, squares = jax.lax.scan(turn, start / jnp.linalg.norm(start), None, turns)
    return jnp.sqrt(squares[-1])


@eqx.filter_jit
def _rates(process: Process, ts: Times, xs: Array) -> Array:
    """h r at the given states, at a few steps of the grid."""
    system = process.system
    assert isinstance(system, AbstractDiffusion | Inhomogeneous)
    steps = np.unique(np.linspace(0, ts.shape[0] - 2, 5).astype(int))
    lams = jax.vmap(process.protocol)(0.5 * (ts[steps] + ts[steps + 1]))

    def of_step(x: State, lam: Control, h: Scalar) -> Scalar:
        return (
            pace(system, x, lam, h)
            if isinstance(system, AbstractUnderdamped)
            else h * rate(system, x, lam)
        )

    each = jax.vmap(jax.vmap(of_step, (None, 0, 0)), (0, None, None))
    return each(xs, lams, ts[steps + 1] - ts[steps])


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
    # of a step of one's own nothing is known
    explicit = isinstance(step, Heun | StratonovichHeun | Euler | Diffrax | BAOAB | ABOBA)
    drifts = isinstance(process.system, AbstractDiffusion | Inhomogeneous)
    if not (explicit and drifts) or paths(process) is not None:
        return run
    if _checks.tracing((run, ts, process)):
        return run
    ends = run.path.xs.reshape(-1, *run.path.xs.shape[-2:])[:4, :: run.path.xs.shape[-2] - 1]
    of = np.asarray(_rates(process, ts, ends.reshape(-1, ends.shape[-1])))
    of = of[np.repeat(np.atleast_1d(run.path.ok)[:4], 2) & np.isfinite(of).all(axis=1)]
    if not len(of):  # all of them failed, and are marked
        return run
    unstable, most = np.median(np.min(of, axis=0)) > UNSTABLE, np.max(np.median(of, axis=0))
    if not (unstable or (rule == "alternating" and most > COARSE)):
        return run
    longest = np.max(np.diff(np.asarray(ts)))
    if unstable and rule == "alternating":
        run = run._replace(path=run.path._replace(ok=jnp.zeros_like(run.path.ok)))
    what = (
        "the step is unstable: paths grow without bound, and none of them is marked ok"
        if unstable and rule == "alternating"
        else "the step is unstable: work and heat are those of paths that run away"
        if unstable
        else "work and heat are off by several per cent or more"
    )
    follows = (
        "radians of the fastest oscillation (b h times the root of the largest |dF/dq|/m along the drive)"
        if isinstance(process.system, AbstractUnderdamped)
        else "relaxation times of the drift (the largest |db/dx| along the drive, times h)"
    )
    warnings.warn(
        f"The step is too long for what it follows: h = {longest:.3g} is {most:.2g} {follows}, and {what}. Take about "
        f"{most / 0.1:.0f} times as many steps.",
        RuntimeWarning,
        stacklevel=4,
    )
    return run


def _complain(system: AbstractDiscrete, process: Process, ts: Times, run: Trajectory) -> None:
    """Say what is wrong with a system of jumps whose path has failed, if it says so itself in the last state of the path."""
    if _checks.tracing((run, ts, process)) or paths(process) is not None:
        return
    failed = np.flatnonzero(~np.atleast_1d(run.path.ok))
    if not len(failed):
        return
    ends = run.path.xs.reshape(-1, *run.path.xs.shape[-2:])[failed[:LOOKS], -1]
    middles = 0.5 * (ts[1:] + ts[:-1]).astype(ends.dtype)
    steps = np.unique(np.linspace(0, ts.shape[0] - 2, LOOKS).astype(int))
    for x, k in itertools.product(ends, steps):
        if why := system.complaint(x, process.protocol(middles[k])):
            raise ValueError(f"{len(failed)} of {np.size(run.path.ok)} paths failed. {why}")
