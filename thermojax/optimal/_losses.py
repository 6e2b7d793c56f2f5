r"""What a search may minimise. Each ready-made loss says when to use it, and checks itself on a grid twice as fine."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._diffrax import with_kernel
from .._guard import untracked
from .._ledger import account, reduced_work
from .._paths import Path, Trajectory
from .._process import Process
from .._simulate import ensemble
from .._types import Array, Key, Scalar, State, Times
from ..systems import AbstractKernelStep, Rule

Loss = Callable[[Any, Any], Any]  # loss(protocol, key) -> scalar

_START = (
    "Process.initial is being differentiated through the score-function gradient, which holds the start of the paths fixed: "
    "the gradient would silently lack its change. Hold it fixed (jax.lax.stop_gradient), or differentiate along the paths "
    "(the loss itself)."
)


class AbstractLoss(eqx.Module):
    """A loss that knows how to check itself. A plain callable `loss(protocol, key) -> scalar` is a loss, too."""

    @abc.abstractmethod
    def __call__(self, protocol: Any, key: Key) -> Scalar:
        """The loss of a protocol, estimated with the noise of one key."""

    @abc.abstractmethod
    def check(self) -> Loss:
        """The same quantity, computed more finely."""

    @abc.abstractmethod
    def failures(self, protocol: Any, key: Key) -> str:
        """Which realisations failed and when, in words, after a loss that is not finite."""

    @abc.abstractmethod
    def score(self, protocol: Any, key: Key) -> Scalar:
        """The same value, whose derivative is the score-function estimate; or an error that says why there is none."""


class AbstractPathLoss(AbstractLoss):
    """A quantity of an ensemble, with the process's protocol replaced by the one searched."""

    process: eqx.AbstractVar[Process]
    ts: eqx.AbstractVar[Array]
    size: eqx.AbstractVar[int]
    rule: eqx.AbstractVar[Rule]
    solver: eqx.AbstractVar[Any]

    def check(self) -> "AbstractPathLoss":
        """The same on a grid twice as fine."""
        middles = 0.5 * (self.ts[1:] + self.ts[:-1])
        return eqx.tree_at(lambda s: s.ts, self, jnp.sort(jnp.concatenate([self.ts, middles])))

    def failures(self, protocol: Any, key: Key) -> str:
        path = self.run(protocol, key, "all").path
        failed = np.flatnonzero(~np.asarray(path.ok))
        if not len(failed):
            return "No path left the finite numbers: the protocol or its gradient did."
        moving = np.any(np.diff(np.asarray(path.xs)[failed], axis=1) != 0, axis=2)
        last = moving.shape[1] - np.argmax(moving[:, ::-1], axis=1)
        first = np.asarray(self.ts)[np.min(np.where(moving.any(1), last, 0))]
        return f"{len(failed)} of {self.size} paths left the finite numbers, the first after t = {first:.4g}."

    def score(self, protocol: Any, key: Key) -> Scalar:
        raise ValueError(
            f'gradient="score" is for averages over paths, and {type(self).__name__} is none. Use optimal.average(of, ...).'
        )

    def driven(self, protocol: Any) -> Process:
        old = self.process
        return Process(old.system, protocol, old.initial, old.final)

    def run(self, protocol: Any, key: Key, save: Any) -> Trajectory:
        driven = self.driven(protocol)
        options = {"rule": self.rule, "solver": self.solver, "save": save}
        return ensemble(driven, self.ts, key, self.size, **options)


class Average(AbstractPathLoss):
    r"""The average of `of(trajectory)`, one number per path. See `average`, `mean_work` and `mean_dissipation`."""

    process: Process
    ts: Array
    size: int = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    solver: Any
    of: Callable[[Trajectory], Array]
    save: Any = eqx.field(static=True, default="ends")

    def __call__(self, protocol: Any, key: Key) -> Scalar:
        return jnp.mean(self._each(self.run(protocol, key, self.save)))

    def score(self, protocol: Any, key: Key) -> Scalar:
        r"""The average, with the score-function (likelihood-ratio) estimate of its derivative,

        $$\partial \langle C \rangle = \big\langle \partial C|_x + (C - b)\, \partial \ln P[x] \big\rangle,$$

        P the product of the Euler–Maruyama kernels and b the average over the other paths, which leaves the mean as it is.
        """
        step = with_kernel(
            self.solver,
            self.process.system,
            self.rule,
            'gradient="score" needs the kernels of the steps, and those of our Heun are not Gaussian. Build the loss '
            'with solver=diffrax.Euler() or rule="kernel".',
        )
        if self.size < 2:
            raise ValueError(
                'gradient="score" compares paths with each other: take size of at least 2.'
            )
        frozen = jtu.tree_map(
            lambda v: jax.lax.stop_gradient(v) if eqx.is_array(v) else v, protocol
        )
        path = jax.lax.stop_gradient(self.run(frozen, key, "all").path)
        process = self.driven(protocol)
        draw = eqx.filter_closure_convert(process.initial.sample, key)  # with what it closes over
        start = eqx.filter(draw, eqx.is_inexact_array)
        path = path._replace(xs=untracked(path.xs, start, message=_START))
        trajectory = account(process, Path(*path), rule=self.rule)
        costs = self._each(trajectory)
        others = (jnp.sum(costs) - costs) / (self.size - 1)
        log_p = jax.vmap(lambda xs: _log_chain(process, step, self.ts, xs))(path.xs)
        advantage = jax.lax.stop_gradient(costs - others)
        return jnp.mean(costs) + jnp.mean(advantage * (log_p - jax.lax.stop_gradient(log_p)))

    def _each(self, trajectory: Trajectory) -> Array:
        costs = self.of(trajectory)
        if jnp.shape(costs) != (self.size,):
            raise ValueError(
                f"of(trajectory) must return one number per path, shape ({self.size},); got {jnp.shape(costs)}."
            )
        return jnp.where(trajectory.path.ok, costs, jnp.nan)


def _log_chain(process: Process, taken: AbstractKernelStep, ts: Array, xs: Array) -> Scalar:
    """The logarithm of the chain's density of one path, given its start."""

    def step(x: State, t0: Scalar, t1: Scalar, y: State) -> Scalar:
        lam = process.protocol(0.5 * (t0 + t1))
        return taken.kernel(process.system, x, lam, t1 - t0).log_prob(y)

    return jnp.sum(jax.vmap(step)(xs[:-1], ts[:-1], ts[1:], xs[1:]))


def average(
    of: Callable[[Trajectory], Array],
    process: Process,
    ts: Times,
    size: int,
    *,
    rule: Rule = "alternating",
    solver: Any = None,
    save: Any = "ends",
) -> Average:
    r"""The loss $\langle C \rangle$ of any quantity `of(trajectory)`, one number per path: an array `(size,)`.

    Use it for what the others do not say: a success probability, heat into one bath, work plus a penalty. If C has a step
    in it (a path succeeds or does not) its pathwise derivative is zero: `search(..., gradient="score")` sees it, and
    needs `solver=diffrax.Euler()` or `rule="kernel"`. `save` is what `of` sees of the path (always all, with the score).
    """
    if not callable(of):
        raise TypeError(f"of must be a callable of a Trajectory, got {of!r}.")
    return Average(process, _checks.times("ts", ts), _paths(size), rule, solver, of, save)


def mean_work(
    process: Process, ts: Times, size: int, *, rule: Rule = "alternating", solver: Any = None
) -> Average:
    r"""The loss $\langle W \rangle$ over `size` paths on the grid `ts`, in energy.

    Use it at constant temperature, when work is what you pay. With fixed ends it differs from the dissipated work by
    $\Delta F$ only. It checks itself on a grid twice as fine.
    """
    return Average(process, _checks.times("ts", ts), _paths(size), rule, solver, _work)


def mean_dissipation(
    process: Process, ts: Times, size: int, *, rule: Rule = "alternating", solver: Any = None
) -> Average:
    r"""The loss $\langle R \rangle \ge 0$, in nats: the dissipated reduced work if `final` is equilibrium at the last
    control value. It is right where temperature is driven, too. With `rule="kernel"` it cannot be negative, at any step.

    Use it when irreversibility is what you pay, and always when the temperature changes: work is then the wrong price.
    """
    if process.final is None:
        raise ValueError(
            "mean_dissipation needs process.final: R compares the run with one that starts there."
        )
    return Average(process, _checks.times("ts", ts), _paths(size), rule, solver, _total)


def _work(trajectory: Trajectory) -> Array:
    return trajectory.work


def _total(trajectory: Trajectory) -> Array:
    total = trajectory.entropy.total
    assert total is not None
    return total


class EstimatorVariance(AbstractPathLoss):
    """See `estimator_variance`."""

    process: Process
    ts: Array
    size: int = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    solver: Any

    def __call__(self, protocol: Any, key: Key) -> Scalar:
        w = reduced_work(self.driven(protocol), self.run(protocol, key, "ends"))
        log_mean = jax.nn.logsumexp(-w) - jnp.log(self.size)
        return jax.nn.logsumexp(-2 * w) - jnp.log(self.size) - 2 * log_mean


def estimator_variance(
    process: Process, ts: Times, size: int, *, rule: Rule = "alternating", solver: Any = None
) -> EstimatorVariance:
    r"""The loss $\ln \langle e^{-2w} \rangle / \langle e^{-w} \rangle^2 \ge 0$ of the reduced work w, in nats.

    Use it when the runs are there to estimate a free energy by `estimators.jarzynski`: with loss L, M paths have the
    squared error $(e^L - 1)/M$, so this is the protocol that needs the fewest paths. It is not the one of least work:
    rare paths of low work count most. The process must start in equilibrium. The loss of `size` paths cannot exceed
    $\ln$ `size` and is biased low when it comes near: start where `jarzynski` is reliable.

    Source: Geiger & Dellago, Phys. Rev. E 81, 021127 (2010); Solon & Horowitz, PRL 120, 180605 (2018).
    """
    return EstimatorVariance(process, _checks.times("ts", ts), _paths(size), rule, solver)


class StateToState(AbstractPathLoss):
    """See `state_to_state`."""

    process: Process
    ts: Array
    size: int = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    solver: Any
    target: Any
    weight: Array

    def __call__(self, protocol: Any, key: Key) -> Scalar:
        key_run, key_target = jax.random.split(key)
        run = self.run(protocol, key_run, "ends")
        goal = jax.vmap(self.target.sample)(jax.random.split(key_target, self.size))
        arrived = jnp.where(jnp.asarray(run.path.ok)[:, None], run.path.xs[:, -1], jnp.nan)
        return jnp.mean(run.work) + self.weight * energy_distance(arrived, goal)


def state_to_state(
    process: Process,
    ts: Times,
    size: int,
    target: Any,
    weight: Any,
    *,
    rule: Rule = "alternating",
    solver: Any = None,
) -> StateToState:
    r"""End in a given density, at the least work: the loss

    $$\langle W \rangle + \text{weight} \cdot \mathcal{E}(p_\tau, \text{target}) .$$

    Use it when the system must arrive somewhere, not only the control: an erased bit, an engine's next stroke. $\mathcal{E}
    = 2\langle|X-Y|\rangle - \langle|X-X'|\rangle - \langle|Y-Y'|\rangle \ge 0$ is the energy distance between the states
    that arrive and draws of `target` (anything with `sample(key)`), zero only if the two are equal; `weight` is an energy
    per length. At a finite weight the two are traded against each other: raise it until the density is near enough. Once
    it is, the potential at the end changes the work by a constant only.

    Source: Aurell, Mejía-Monasterio & Muratore-Ginanneschi, PRL 106, 250601 (2011); Székely & Rizzo, J. Stat. Plan.
    Inference 143, 1249 (2013).
    """
    if not callable(getattr(target, "sample", None)):
        raise TypeError(f"target must be a density with .sample(key), got {target!r}.")
    weight = _checks.floating("weight", weight, positive=True)
    return StateToState(
        process, _checks.times("ts", ts), _paths(size), rule, solver, target, weight
    )


PAIRS = 32  # other draws that each draw is compared with


def energy_distance(x: Array, y: Array) -> Scalar:
    r"""$2\langle|X-Y|\rangle - \langle|X-X'|\rangle - \langle|Y-Y'|\rangle$ of two samples `(n, d)`, unbiased."""

    def apart(a: Array, b: Array) -> Scalar:
        shifts = jnp.arange(1, min(PAIRS, x.shape[0] - 1) + 1)
        squares = jax.vmap(lambda s: jnp.sum((a - jnp.roll(b, s, 0)) ** 2, 1))(shifts)
        met = squares == 0
        return jnp.mean(jnp.where(met, 0, jnp.sqrt(jnp.where(met, 1, squares))))

    return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def _paths(size: Any) -> int:
    return _checks.whole("size", size, "a whole number of paths")
