r"""Ready-made losses. Each says when to use it, and checks itself on a grid twice as fine."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._closures import closed
from .._diffrax import Solver
from .._ledger import reduced_work
from .._paths import Path, Trajectory
from .._process import Process, baths, each_path
from .._simulate import Save
from .._types import Array, ArrayLike, Key, Sampled, Scalar, State, Times
from ..estimators import energy_distance
from ..systems import Rule
from ._path_loss import Mean, PathLoss
from ._score import Features

T = TypeVar("T")


def average(
    of: Callable[[Trajectory], Array],
    process: Process,
    ts: Times,
    size: int,
    *,
    rule: Rule = "alternating",
    solver: Solver = None,
    save: Save = "ends",
    features: Features | None = None,
) -> PathLoss:
    r"""The loss $\langle C \rangle$ of any quantity `of(trajectory)`, one number per path: an array `(size,)`.

    Use it for what the others do not say: a success probability, heat into one bath, work plus a penalty. If C has a step
    in it (a path succeeds or does not) its pathwise derivative is zero: `search(..., gradient="score")` sees it, and
    needs `solver=diffrax.Euler()` or `rule="kernel"`. `save` is what `of` sees of the path, on every grid and with either
    gradient: the check takes steps twice as fine, and shows the same times. An integral over the path that `of` takes from
    them is then as coarse as theirs.

    `features`, a callable `(x, lam) -> (p,)` of what tells the cost still to come (an energy, its square), makes the
    score-function derivative less noisy, and leaves its mean as it is: see `PathLoss.likelihood_ratio`.
    """
    if not callable(of):
        raise TypeError(f"of must be a callable of a Trajectory, got {of!r}.")
    mean = Mean(_OfRun(of))
    return PathLoss(
        process,
        ts,
        size,
        mean,
        rule=rule,
        solver=solver,
        save=save,
        draws=False,
        features=features,
    )


class _OfRun(eqx.Module):
    """A number of a trajectory alone."""

    of: Callable[[Trajectory], Array] = eqx.field(converter=closed)

    def __call__(self, process: Process, run: Trajectory) -> Array:
        return self.of(run)


def mean_work(
    process: Process,
    ts: Times,
    size: int,
    *,
    rule: Rule = "alternating",
    solver: Solver = None,
    features: Features | None = None,
) -> PathLoss:
    r"""The loss $\langle W \rangle$ over `size` paths on the grid `ts`, in energy.

    Use it at constant temperature, when work is what you pay. With fixed ends it differs from the dissipated work by
    $\Delta F$ only. It checks itself on a grid twice as fine.
    """
    return _summed(_work, _spent_work, process, ts, size, rule, solver, features)


def mean_reduced_work(
    process: Process,
    ts: Times,
    size: int,
    *,
    rule: Rule = "alternating",
    solver: Solver = None,
    features: Features | None = None,
) -> PathLoss:
    r"""The loss $\langle W_\mathrm{red} \rangle$, $W_\mathrm{red} = \Delta(U/T) + \Delta S_m$, in nats; one bath.

    Use it where temperature is driven and no `final` is at hand: from equilibrium, with given ends, it differs from the
    dissipation by $\Delta(\beta F)$ only; from any other start it is the entropy produced but for a term of the start's.
    """
    return _summed(reduced_work, _spent_reduced, process, ts, size, rule, solver, features)


def mean_dissipation(
    process: Process,
    ts: Times,
    size: int,
    *,
    rule: Rule = "alternating",
    solver: Solver = None,
    features: Features | None = None,
) -> PathLoss:
    r"""The loss $\langle R \rangle \ge 0$, in nats: the dissipated reduced work if `final` is equilibrium at the last
    control value. It is right where temperature is driven, too. With `rule="kernel"` it cannot be negative, at any step.

    Use it when irreversibility is what you pay, and always when the temperature changes: work is then the wrong price.
    """
    _ended(process.final)
    return _summed(_total, _spent_reduced, process, ts, size, rule, solver, features)


def estimator_variance(
    process: Process,
    ts: Times,
    size: int,
    *,
    reverse: bool = False,
    rule: Rule = "alternating",
    solver: Solver = None,
) -> PathLoss:
    r"""The loss $\ln \langle e^{-2w} \rangle / \langle e^{-w} \rangle^2 \ge 0$ of the reduced work w, in nats.

    Use it when the runs are there to estimate a free energy by `estimators.jarzynski`: with loss L, M paths have the
    squared error $(e^L - 1)/M$, so this is the protocol that needs the fewest paths. It is not the one of least work:
    rare paths of low work count most. The process must start in equilibrium. The loss of `size` paths cannot exceed
    $\ln$ `size` and is biased low when it comes near: start where `jarzynski` is reliable.

    `reverse=True` runs the reversed process, in which the paths that count are no rare ones, and prices the same forward
    runs by its reduced work v: $\ln \langle e^{v} \rangle_R + \ln \langle e^{-v} \rangle_R$. `process.final` must then be
    equilibrium at the last control value. Far less biased, and less scattered, where many paths are needed for one that
    counts: it wants the third moment of the weights where the other wants the fourth.

    Source: Geiger & Dellago, Phys. Rev. E 81, 021127 (2010); Solon & Horowitz, PRL 120, 180605 (2018).
    """
    of = _log_variance_reversed if reverse else _log_variance
    options = {"rule": rule, "solver": solver, "draws": False, "reverse": reverse}
    return PathLoss(process, ts, size, of, **options)


def state_to_state(
    process: Process,
    ts: Times,
    size: int,
    target: Sampled,
    weight: ArrayLike,
    *,
    rule: Rule = "alternating",
    solver: Solver = None,
) -> PathLoss:
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
    if not isinstance(target, Sampled):
        raise TypeError(f"target must be a density with .sample(key), got {target!r}.")
    weight = _checks.floating("weight", weight, positive=True)
    _checks.rank("weight", weight, {0}, "(), one number")
    arriving = _Arriving(target, weight)
    return PathLoss(process, ts, size, arriving, rule=rule, solver=solver)


# ---- what they are of: one object for all losses built alike, so that a second search does not compile again


def _summed(
    of: Callable[[Process, Trajectory], Array],
    running: Callable[[Process, Trajectory], Array],
    process: Process,
    ts: Times,
    size: int,
    rule: Rule,
    solver: Solver,
    features: Features | None,
) -> PathLoss:
    """The average of what adds up along a path."""
    mean = Mean(of, running)
    return PathLoss(
        process, ts, size, mean, rule=rule, solver=solver, draws=False, features=features
    )


def _work(process: Process, run: Trajectory) -> Array:
    return run.work


def _spent_work(process: Process, along: Trajectory) -> Array:
    return along.work


def _total(process: Process, run: Trajectory) -> Array:
    return _ended(run.entropy.total)


def _spent_reduced(process: Process, along: Trajectory) -> Array:
    r"""$\phi(x_k) - \phi(x_0) + \Delta S_m$: the turns of $\phi$ so far. With several baths the medium's entropy alone."""
    medium, system = along.entropy.medium, process.system

    def phi(process: Process, path: Path) -> Array:
        def one(t: Scalar, x: State) -> Scalar:
            lam = process.protocol(t)
            return system.energy(x, lam) / system.temperature(lam)

        return jax.vmap(one)(path.ts, path.xs)

    if baths(process, along.path.ts.reshape(-1)):
        return medium
    height = each_path(phi, (process,), along.path)
    return jax.lax.stop_gradient(height - height[:, :1] + medium)


def _log_variance(process: Process, run: Trajectory, key: Key) -> Scalar:
    w = reduced_work(process, run)
    log_mean = jax.nn.logsumexp(-w) - jnp.log(w.size)
    return jax.nn.logsumexp(-2 * w) - jnp.log(w.size) - 2 * log_mean


def _log_variance_reversed(process: Process, run: Trajectory, key: Key) -> Scalar:
    v = reduced_work(process, run)
    return jax.nn.logsumexp(v) + jax.nn.logsumexp(-v) - 2 * jnp.log(v.size)


class _Arriving(eqx.Module):
    target: Sampled
    weight: Array

    def __call__(self, process: Process, run: Trajectory, key: Key) -> Scalar:
        paths = run.work.size
        goal = jax.vmap(self.target.sample)(jax.random.split(key, paths))
        arrived = jnp.where(jnp.asarray(run.path.ok)[:, None], run.path.xs[:, -1], jnp.nan)
        return jnp.mean(run.work) + self.weight * energy_distance(arrived, goal)


def _ended(what: T | None) -> T:
    """What there is with a `final` only."""
    if what is None:
        raise ValueError(
            "mean_dissipation needs process.final: R compares the run with one that starts there."
        )
    return what
