r"""A number of an ensemble of driven paths as a loss: checked on a grid twice as fine, differentiable in two ways."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._diffrax import Solver, with_kernel
from .._grids import reverse_grid
from .._guard import untracked
from .._jit import jit
from .._ledger import account
from .._paths import Path, Trajectory
from .._process import Process, a_process, each_path, reverse
from .._ratio import kernel_of
from .._search import AbstractLoss
from .._simulate import Save, ensemble
from .._types import Array, Key, PyTree, Scalar, Times
from ..systems import AbstractKernelStep, Rule, Spins
from ._score import Features, advantage, seen, weighted, zero_with_slope

_START = (
    "Process.initial is being differentiated through the score-function gradient, which holds the start of the paths fixed: "
    "the gradient would silently lack its change. Hold it fixed (jax.lax.stop_gradient), or differentiate along the paths "
    "(the loss itself)."
)


def _grid(ts: Times) -> Array:
    return _checks.times("ts", ts)


def _paths(size: int) -> int:
    return _checks.whole("size", size, "a whole number of paths")


class Mean(eqx.Module):
    """The average over paths of `each(process, trajectory)`, one number per path: what has a score-function derivative.

    `running(process, trajectory)` is how much of it has been incurred at each time of a trajectory with running totals,
    `(paths, times)`, or any other number that the path up to that time tells: the rest is still to come. None: all is.
    """

    each: Callable[[Process, Trajectory], Array]
    running: Callable[[Process, Trajectory], Array] | None = None

    def __call__(self, process: Process, run: Trajectory, key: Key) -> Scalar:
        return jnp.mean(self.costs(process, run))

    def costs(self, process: Process, run: Trajectory) -> Array:
        costs, paths = self.each(process, run), jnp.shape(run.work)
        if jnp.shape(costs) != paths:
            raise ValueError(
                f"of(trajectory) must return one number per path, shape {paths}; got {jnp.shape(costs)}."
            )
        return jnp.where(run.path.ok, costs, jnp.nan)


class PathLoss(AbstractLoss):
    r"""The loss `of(process, run, key)`: a scalar of an ensemble of paths.

    `process` is the one given, with its protocol replaced by the one that is searched; `run` is its `Trajectory` of `size`
    paths on the grid `ts`; `key` is for random numbers of your own. `rule`, `solver` and `save` are those of
    `thermojax.ensemble`. The loss checks itself on a grid twice as fine, of which `of` sees the same times. See `average`
    for one number per path.

    `draws=False` says that `of` does without its key: all of it is then the run's. `reverse=True`: process and run are those
    of `thermojax.reverse`, on its grid; the process must have its `final`. `features` is for `gradient="score"`: a callable
    `(x, lam) -> (p,)` of what tells the cost still to come (see `likelihood_ratio`).
    """

    process: Process
    ts: Array = eqx.field(converter=_grid)
    size: int = eqx.field(static=True, converter=_paths)
    of: Callable[[Process, Trajectory, Key], Scalar]
    rule: Rule = eqx.field(static=True, default="alternating", kw_only=True)
    solver: Solver = eqx.field(default=None, kw_only=True)
    save: Save = eqx.field(static=True, default="ends", kw_only=True)
    draws: bool = eqx.field(static=True, default=True, kw_only=True)
    reverse: bool = eqx.field(static=True, default=False, kw_only=True)
    features: Features | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self) -> None:
        a_process("process", self.process)
        if not callable(self.of):
            raise TypeError(f"of must be a callable (process, run, key), got {self.of!r}.")
        _checks.takes("of", self.of, "process", "run", "key")
        if self.features is not None:
            _checks.takes("features", self.features, "x", "lam")
        if self.reverse:
            reverse(self.process)  # says what it lacks

    def __call__(self, protocol: PyTree, key: Key) -> Scalar:
        key_run, key_of = self._keys(key)
        process = self._driven(protocol)
        return _number(self.of, process, self._run(process, key_run, self.save), key_of)

    def check(self) -> "PathLoss | None":
        """The same on a grid twice as fine, the same times of which are saved: an index means what it meant. None for a
        system whose steps are its dynamics, sweeps of spins that have no rate."""
        system = self.process.system
        if isinstance(system, Spins) and system.rate is None:
            return None
        middles = 0.5 * (self.ts[1:] + self.ts[:-1])
        finer = jnp.sort(jnp.concatenate([self.ts, middles]))
        every = _every(self.save)
        return dataclasses.replace(self, ts=finer, save=2 * every if every else "ends")

    def failures(self, protocol: PyTree, key: Key) -> str:
        process = self._driven(protocol)
        path = self._run(process, self._keys(key)[0], "all").path
        failed = np.flatnonzero(~np.asarray(path.ok))
        if not len(failed):
            return "No path left the finite numbers: the protocol or its gradient did."
        moving = np.any(np.diff(np.asarray(path.xs)[failed], axis=1) != 0, axis=2)
        last = moving.shape[1] - np.argmax(moving[:, ::-1], axis=1)
        first = np.asarray(self._times(process))[np.min(np.where(moving.any(1), last, 0))]
        return f"{len(failed)} of {self.size} paths left the finite numbers, the first after t = {first:.4g}."

    def likelihood_ratio(self, protocol: PyTree, key: Key) -> Scalar:
        r"""The average, with the score-function (likelihood-ratio) estimate of its derivative,

        $$\partial \langle C \rangle = \Big\langle \partial C|_x + \sum_k (C - C_k - b_k)\, \partial \ln k(x_{k+1} | x_k)
          \Big\rangle,$$

        k the kernels of the steps, $C_k$ the cost incurred before step k where it is known (of work, reduced work and R),
        and $b_k$ the average of the rest over the other paths, or a least-squares fit to it by the `features` of $x_k$.
        Neither changes the mean.
        """
        if not isinstance(self.of, Mean):
            raise ValueError(
                'gradient="score" is for averages over paths, and this loss is none. Use optimal.average(of, ...).'
            )
        step = with_kernel(
            self.solver,
            self.process.system,
            self.rule,
            'gradient="score" needs the kernels of the steps, and those of our Heun are not Gaussian, nor has BAOAB any. '
            'Build the loss with rule="kernel" (or, overdamped, solver=diffrax.Euler()).',
        )
        if self.size < 2:
            raise ValueError(
                'gradient="score" compares paths with each other: take size of at least 2.'
            )
        # the paths are drawn as if nothing moved them; what moves is their probability
        frozen = jtu.tree_map(
            lambda v: jax.lax.stop_gradient(v) if eqx.is_array(v) else v, protocol
        )
        key_run, _ = self._keys(key)
        path = jax.lax.stop_gradient(self._run(self._driven(frozen), key_run, "all").path)
        process = self._driven(protocol)
        draw = eqx.filter_closure_convert(process.initial.sample, key)  # with what it closes over
        start = eqx.filter(draw, eqx.is_inexact_array)
        path = path._replace(xs=untracked(path.xs, start, message=_START))
        run = account(process, path, rule=self.rule, solver=step)
        spent = jnp.zeros_like(run.work)[:, None]
        if self.of.running is not None:
            along = account(process, path, rule=self.rule, solver=step, cumulative=True)
            spent = self.of.running(process, jax.lax.stop_gradient(along))[:, :-1]
        thin = _thinned(run, _every(self.save))
        return _reweighted(self.of, process, step, path, thin, spent, self.features)

    def _keys(self, key: Key) -> tuple[Key, Key]:
        """For the run and for `of`."""
        key_run, key_of = jax.random.split(key) if self.draws else (key, key)
        return key_run, key_of

    def _driven(self, protocol: PyTree) -> Process:
        process = self.process.replace(protocol=protocol)
        return reverse(process) if self.reverse else process

    def _times(self, process: Process) -> Times:
        return reverse_grid(process, self.ts) if self.reverse else self.ts

    def _run(self, process: Process, key: Key, save: Save) -> Trajectory:
        options = {"rule": self.rule, "solver": self.solver, "save": save}
        return ensemble(process, self._times(process), key, self.size, **options)


def _every(save: Save) -> int:
    """Every how many steps are saved; 0: the ends alone."""
    if isinstance(save, str) and save in ("ends", "all"):
        return {"ends": 0, "all": 1}[save]
    return _checks.whole("save", save, '"ends", "all", or a whole number k, for every k-th step')


def _thinned(run: Trajectory, every: int) -> Trajectory:
    """The run as `ensemble` saves it."""
    last = run.path.xs.shape[1] - 1
    kept = np.array([*range(0, last, every or last), last])
    path = run.path._replace(ts=run.path.ts[..., kept], xs=run.path.xs[:, kept])
    return run._replace(path=path)


@jit
def _number(
    of: Callable[[Process, Trajectory, Key], Scalar], process: Process, run: Trajectory, key: Key
) -> Scalar:
    value = of(process, run, key)
    if jnp.shape(value) != ():
        raise ValueError(
            f"of(process, run, key) must return one number, of shape (); got {jnp.shape(value)}. For one number per path "
            "use optimal.average(of, ...)."
        )
    return value


@jit
def _reweighted(
    of: Mean,
    process: Process,
    step: AbstractKernelStep,
    path: Path,
    run: Trajectory,
    spent: Array,
    features: Features | None,
) -> Scalar:
    costs = of.costs(process, run)
    to_come = jax.lax.stop_gradient(costs[:, None] - spent)
    to_come = jnp.broadcast_to(to_come, (len(costs), path.xs.shape[1] - 1))
    told = None
    if features is not None:
        told = each_path(lambda p, path: seen(p, path, features), (process,), path)
    weights = jax.lax.stop_gradient(advantage(to_come, told))
    log_p = weighted(process, kernel_of(step), path, weights)
    return jnp.mean(costs) + jnp.mean(zero_with_slope(log_p))
