r"""The protocol that dissipates least: the descent in one call, ready-made losses, and the optima known in closed form."""

import abc
import contextlib
import functools as ft
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
import tqdm

from . import _checks
from ._ledger import Rule, Trajectory
from ._process import Process
from ._simulate import ensemble
from ._types import Array, Control, Key, PyTree, Scalar, Time, Times
from .estimators import Estimate, mean
from .protocols import AbstractProtocol, Function, Piecewise, trainable

Loss = Callable[[Any, Any], Any]  # loss(protocol, key) -> scalar


class History(NamedTuple):
    """The loss and the norm of its gradient at each step of a descent, as they were estimated then: `(steps,)`."""

    loss: np.ndarray
    gradient_norm: np.ndarray


class Slope(NamedTuple):
    """The gradient at the found protocol: norm of the mean over fresh keys, and noise of the gradient of one key."""

    norm: float
    noise: float


class Search(NamedTuple):
    """What `search` found, and what it costs.

    `price` is the loss on fresh noise and `check_price` that of the check, both averages over several keys; `agrees` is
    whether they do within their errors, None without a check. `gradient` says how far the descent could still see.
    """

    protocol: Any
    history: History
    price: Estimate
    check_price: Estimate | None
    agrees: bool | None
    gradient: Slope


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


class PathLoss(AbstractLoss):
    """The average of one quantity over an ensemble, with the process's protocol replaced by the one searched."""

    process: Process
    ts: Array
    size: int = eqx.field(static=True)
    of: Callable[[Trajectory], Array] = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    solver: Any

    def __call__(self, protocol: Any, key: Key) -> Scalar:
        return jnp.mean(self.of(self._run(protocol, key, "ends")))

    def check(self) -> "PathLoss":
        """The same on a grid twice as fine."""
        middles = 0.5 * (self.ts[1:] + self.ts[:-1])
        return eqx.tree_at(lambda s: s.ts, self, jnp.sort(jnp.concatenate([self.ts, middles])))

    def failures(self, protocol: Any, key: Key) -> str:
        path = self._run(protocol, key, "all").path
        failed = np.flatnonzero(~np.asarray(path.ok))
        if not len(failed):
            return "No path left the finite numbers: the protocol or its gradient did."
        moving = np.any(np.diff(np.asarray(path.xs)[failed], axis=1) != 0, axis=2)
        last = moving.shape[1] - np.argmax(moving[:, ::-1], axis=1)
        first = np.asarray(self.ts)[np.min(np.where(moving.any(1), last, 0))]
        return f"{len(failed)} of {self.size} paths left the finite numbers, the first after t = {first:.4g}."

    def _run(self, protocol: Any, key: Key, save: Any) -> Trajectory:
        old = self.process
        process = Process(old.system, protocol, old.initial, old.final)
        return ensemble(
            process, self.ts, key, self.size, rule=self.rule, solver=self.solver, save=save
        )


def mean_work(
    process: Process, ts: Times, size: int, *, rule: Rule = "alternating", solver: Any = None
) -> PathLoss:
    r"""The loss $\langle W \rangle$ over `size` paths on the grid `ts`, in energy.

    With fixed ends it differs from the dissipated work by $\Delta F$ only, at constant temperature. It checks itself on a
    grid twice as fine.
    """
    return PathLoss(process, _checks.times("ts", ts), size, _work, rule, solver)


def mean_dissipation(
    process: Process, ts: Times, size: int, *, rule: Rule = "alternating", solver: Any = None
) -> PathLoss:
    r"""The loss $\langle R \rangle \ge 0$, in nats: the dissipated reduced work if `final` is equilibrium at the last
    control value. It is right where temperature is driven, too. With `rule="kernel"` it cannot be negative, at any step.
    """
    if process.final is None:
        raise ValueError(
            "mean_dissipation needs process.final: R compares the run with one that starts there."
        )
    return PathLoss(process, _checks.times("ts", ts), size, _total, rule, solver)


def _work(trajectory: Trajectory) -> Array:
    return trajectory.work


def _total(trajectory: Trajectory) -> Array:
    total = trajectory.entropy.total
    assert total is not None
    return total


def search(
    loss: Loss,
    protocol: Any,
    key: Key,
    *,
    steps: int,
    optimizer: optax.GradientTransformation | None = None,
    noise: Literal["fresh", "common"] = "fresh",
    check: Loss | None = None,
    prices: int = 16,
    progress: bool = True,
) -> Search:
    r"""Descend `loss(protocol, key)` over the trainable leaves of `protocol`, then price the result on fresh noise.

    The descent is an ordinary optax loop; this function adds the bookkeeping. A protocol is searched over
    `protocols.trainable(protocol)`; any other pytree over all its floating leaves.

    **Arguments:**

    - `loss`: `loss(protocol, key) -> scalar`, e.g. `mean_work(process, ts, size)`, or your own.
    - `protocol`: where to start.
    - `steps`: number of updates.
    - `optimizer`: any optax transformation; None is Adam with its rate falling from 0.1 to 0 along a cosine (0.1 in the
      units of the control). Line searches (`optax.lbfgs()`) need `noise="common"`.
    - `noise`: `"fresh"` keys at every step, or `"common"`: the same one throughout.
    - `check`: `check(protocol, key) -> scalar`, the same quantity computed more finely. The ready-made losses bring one,
      on a grid twice as fine; a plain callable has none.
    - `prices`: how many fresh keys price the result.
    - `progress`: show a progress bar (on stderr).

    Warns, and returns `agrees=False`, if price and check differ by more than 4 standard errors: an optimiser finds what
    a coarse grid gives away. Raises `RuntimeError` if the loss or its gradient stops being finite, saying at which step,
    how many paths failed and when.
    """
    key = _checks.key("key", key)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number, at least 1; got {steps!r}.")
    if not isinstance(prices, int) or prices < 2:
        raise ValueError(f"prices must be a whole number of keys, at least 2; got {prices!r}.")
    if noise not in ("fresh", "common"):
        raise ValueError(f'noise must be "fresh" or "common", got {noise!r}.')
    if not callable(loss):
        raise TypeError(f"loss must be a callable loss(protocol, key), got {loss!r}.")
    optimizer = _extended(_adam(steps) if optimizer is None else optimizer)
    if check is None and isinstance(loss, AbstractLoss):
        check = loss.check()
    key_descent, key_price, key_check = jax.random.split(key, 3)

    free, given = eqx.partition(protocol, trainable(protocol))
    free = jtu.tree_map(
        lambda v: jax.lax.convert_element_type(v, v.dtype), free
    )  # weak types would retrace
    if not jtu.tree_leaves(free):
        raise ValueError(
            "Nothing to search: the protocol has no trainable leaves. Use e.g. protocols.Piecewise."
        )
    with _lenient():
        state = optimizer.init(free)
    losses, norms = [], []
    with tqdm.tqdm(total=steps, disable=not progress, desc="search") as bar:
        for i in range(steps):
            now = jax.random.fold_in(key_descent, i if noise == "fresh" else 0)
            value, slope = _slope(loss, free, given, now)
            new, state, norm = _update(loss, optimizer, free, given, state, now, value, slope)
            losses.append(float(value))
            norms.append(float(norm))
            if not (math.isfinite(losses[-1]) and math.isfinite(norms[-1])):
                why = (
                    loss.failures(eqx.combine(free, given), now)
                    if isinstance(loss, AbstractLoss)
                    else ""
                )
                raise RuntimeError(
                    f"The descent stopped at step {i} of {steps}: loss {losses[-1]:.6g}, gradient norm {norms[-1]:.6g}. "
                    f"{why} Take smaller time steps, a smaller learning rate, or bound the protocol (protocols.bounded)."
                )
            free = new
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.5g}", refresh=False)

    found = eqx.combine(free, given)
    fresh = [[jax.random.fold_in(k, i) for i in range(prices)] for k in (key_price, key_check)]
    values, slopes = zip(*(_slope(loss, free, given, k) for k in fresh[0]), strict=True)
    price, gradient = mean(jnp.stack(values)), _gradient(list(slopes))
    check_price = agrees = None
    if check is not None:
        check_price = mean(jnp.stack([_value(check, free, given, k) for k in fresh[1]]))
        apart = abs(float(price.value - check_price.value))
        error = math.hypot(float(price.stderr), float(check_price.stderr))
        agrees = apart <= 4 * error
        if not agrees:
            warnings.warn(
                f"The protocol found costs {float(price.value):.6g} by the loss, but {float(check_price.value):.6g} by its "
                f"check ({apart / error if error else math.inf:.1f} standard errors apart): the time step is too coarse "
                "for it. Search again on a finer grid.",
                stacklevel=2,
            )
    return Search(
        found, History(np.asarray(losses), np.asarray(norms)), price, check_price, agrees, gradient
    )


@ft.cache  # the same object for the same call: a second search does not compile again
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(0.1, steps))


@ft.cache
def _extended(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optimizer)


@eqx.filter_jit
def _slope(loss: Loss, free: PyTree, given: PyTree, key: Key) -> tuple[Scalar, PyTree]:
    return jax.value_and_grad(lambda free: loss(eqx.combine(free, given), key))(free)


@eqx.filter_jit
def _value(loss: Loss, free: PyTree, given: PyTree, key: Key) -> Scalar:
    return loss(eqx.combine(free, given), key)


@eqx.filter_jit
def _update(
    loss: Loss,
    optimizer: Any,
    free: PyTree,
    given: PyTree,
    state: Any,
    key: Key,
    value: Scalar,
    slope: PyTree,
) -> Any:
    def again(free: PyTree) -> Scalar:  # for line searches; traced only by those
        return loss(eqx.combine(free, given), key)

    with _lenient():
        step, state = optimizer.update(slope, state, free, value=value, grad=slope, value_fn=again)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jtu.tree_leaves(slope)))
        return optax.apply_updates(free, step), state, norm


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """Optax mixes whole numbers and floats, which a session with strict promotion would refuse."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _gradient(slopes: list[PyTree]) -> Slope:
    leaves = [np.stack(leaf) for leaf in zip(*(jtu.tree_leaves(s) for s in slopes), strict=True)]
    norm = math.sqrt(sum(float((leaf.mean(0) ** 2).sum()) for leaf in leaves))
    noise = math.sqrt(sum(float(leaf.var(0, ddof=1).sum()) for leaf in leaves))
    return Slope(norm, noise)


class Optimum(NamedTuple):
    """An optimal protocol, with its end jumps, and its mean work."""

    protocol: AbstractProtocol
    work: Scalar


def moving_trap(
    start: Control, stop: Control, t1: Any, *, stiffness: Any = 1.0, mobility: Any = 1.0
) -> Optimum:
    r"""The least mean work of dragging a harmonic trap from `start` to `stop` in the time `t1`, from equilibrium.

    With $\omega = \mu k$ and $l$ the distance,

    $$\lambda(t) = l\,\frac{1 + \omega t}{2 + \omega t_1}, \qquad \langle W \rangle = \frac{k\,l^2}{2 + \omega t_1},$$

    a straight line between two equal end jumps. `start`, `stop` are scalars or `(d,)`; any temperature.
    Source: Schmiedl & Seifert, PRL 98, 108301 (2007), eqs. 8 and 9.
    """
    start, stop = _checks.floating("start", start), _checks.floating("stop", stop)
    t1 = _checks.floating("t1", t1, positive=True)
    stiffness = _checks.floating("stiffness", stiffness, positive=True)
    rate = stiffness * _checks.floating("mobility", mobility, positive=True)
    way = stop - start
    jump = way / (2 + rate * t1)
    line = Piecewise(jnp.stack([0 * t1, t1]), jnp.stack([start + jump, stop - jump]), start, stop)
    return Optimum(line, stiffness * jnp.sum(way**2) / (2 + rate * t1))


class _Stiffness(eqx.Module):
    """$k(t) = [k_0 - c (1 + c t)/\\mu] / (1 + c t)^2$."""

    start: Array
    c: Array
    mobility: Array

    def __call__(self, t: Time) -> Scalar:
        grow = 1 + self.c * t
        return (self.start - self.c * grow / self.mobility) / grow**2


def stiffness(
    start: Any, stop: Any, t1: Any, *, mobility: Any = 1.0, temperature: Any = 1.0
) -> Optimum:
    r"""The least mean work of changing the stiffness of a harmonic trap from `start` to `stop` in the time `t1`.

    From equilibrium, with $a = \mu k_0 t_1$, $b = \mu k_1 t_1$ and $u = (1 + \sqrt{1 + 2a + ab})/(2 + b)$,

    $$\langle W \rangle = T \left[ \frac{(u-1)^2}{a} - \ln u + \frac12\left(\frac{k_1}{k_0} u^2 - 1\right) \right],
    \qquad k(t) = \frac{k_0 - c\,(1 + ct)/\mu}{(1 + ct)^2}, \quad c = \frac{u - 1}{t_1},$$

    with jumps at both ends; the width of the cloud grows linearly to $u$ times its first one.
    Source: Schmiedl & Seifert, PRL 98, 108301 (2007), eqs. 13 to 16.
    """
    start = _checks.floating("start", start, positive=True)
    stop = _checks.floating("stop", stop, positive=True)
    t1 = _checks.floating("t1", t1, positive=True)
    mobility = _checks.floating("mobility", mobility, positive=True)
    temperature = _checks.floating("temperature", temperature, positive=True)
    a, b = mobility * start * t1, mobility * stop * t1
    u = (1 + jnp.sqrt(1 + 2 * a + a * b)) / (2 + b)
    work = temperature * ((u - 1) ** 2 / a - jnp.log(u) + 0.5 * (stop * u**2 / start - 1))
    curve = _Stiffness(start, (u - 1) / t1, mobility)
    return Optimum(Function(curve, t1, before=start, after=stop), work)
