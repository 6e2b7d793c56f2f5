r"""A search: descend a loss, then price what was found on fresh noise. It knows of no physics, only of a pytree."""

import functools as ft
import math
import os
import warnings
from collections.abc import Sequence
from time import monotonic
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
import tqdm

from . import _checks, _quasi_newton
from ._checkpoint import Checkpoint
from ._jit import jit
from ._loss import (
    AbstractExactLoss as AbstractExactLoss,
    AbstractLoss as AbstractLoss,
    Loss as Loss,
    Reweighted,
    as_loss,
    searching,
)
from ._start import numbers, strides, units
from ._types import Array, Key, PyTree, Scalar
from .estimators import Estimate, mean
from .protocols import trainable

SAVE_EVERY = 1.0  # seconds between two checkpoints
NOISE = 1e-6  # standard errors below this share of a price are rounding, not noise
ALIKE = 1e-2  # without noise, prices that differ by less agree,
NOTHING = 1e-4  # or by less than this share of what the start cost
STUCK = 1e-3  # of the loss, that should have been gained where nothing was: more is no rounding


class History(NamedTuple):
    """The loss and the norm of its gradient at each step of a descent, as they were estimated then: `(steps,)`."""

    loss: np.ndarray
    gradient_norm: np.ndarray


class Slope(NamedTuple):
    """The gradient at what was found: norm of the mean over fresh keys, and noise of the gradient of one key."""

    norm: float
    noise: float


class Search(NamedTuple):
    """What `search` found, and what it costs.

    `found` is what `search` was given, with its trainable leaves moved; `protocol` is another name for it. `price` is the
    loss on fresh noise and `check_price` that of the check, both averages over several keys; `agrees` is whether they do
    within their errors, None without a check. `gradient` says how far the descent could still see. `start_price` is the
    loss of the start, with the same noise as `price`.
    """

    found: PyTree
    history: History
    price: Estimate
    check_price: Estimate | None
    agrees: bool | None
    gradient: Slope
    start_price: Estimate

    @property
    def protocol(self) -> PyTree:
        return self.found


def search(
    loss: Loss,
    protocol: PyTree,
    key: Key | None = None,
    *,
    steps: int,
    optimizer: optax.GradientTransformation | None = None,
    noise: Literal["fresh", "common"] = "fresh",
    gradient: Literal["pathwise", "score"] = "pathwise",
    check: Loss | None = None,
    prices: int = 16,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Search:
    r"""Descend `loss(protocol, key)` over the trainable leaves of `protocol`, then price the result on fresh noise.

    The descent is an ordinary optax loop; this function adds the bookkeeping. A protocol is searched over
    `protocols.trainable(protocol)`; any other pytree over all its floating leaves, real Python numbers included (whole
    numbers count something, and stay).

    **Arguments:**

    - `loss`: `loss(protocol, key) -> scalar`, e.g. `mean_work(process, ts, size)`, or your own. One without noise, such as
      `exact_work(process, ts, grid)`, needs no key.
    - `protocol`: where to start.
    - `steps`: number of updates; L-BFGS stops where the loss falls no further.
    - `optimizer`: any optax transformation, in the units of what is searched; None is L-BFGS for a loss known to have no
      noise (`AbstractExactLoss`), and else Adam with its rate falling to 0 along a cosine, from a step that does not depend
      on the unit: 1/30 of what the drive spans (`before` and `after` included, each component for itself), 1/10 of a value
      that does not change, 1/10 of the largest number of any other leaf, 0.1 for what is all zero or the logits of a noise
      schedule. Line searches (`optax.lbfgs()`) need `noise="common"`.
    - `noise`: `"fresh"` keys at every step, or `"common"`: the same one throughout.
    - `gradient`: `"pathwise"` differentiates through the paths. `"score"` differentiates their probability instead (the
      likelihood ratio of the chain of steps, with the average over the other paths as baseline): for systems that jump,
      objectives with a step in them and forces that jump, where the pathwise derivative is zero or wrong. It is unbiased
      there too, but noisier, the more so the more steps; least so of `mean_work`, `mean_reduced_work` and
      `mean_dissipation`, whose cost still to come at each step is known, and with `features=` of the state that tell it.
      It needs one of these or `optimal.average(...)`, and steps with a kernel (Euler's). It sees the height of a force's
      jump, and not its place: where the protocol moves a kink of the potential, both derivatives lack what that does.
      Smooth the kink there, $|x - c| \to \sqrt{(x - c)^2 + \epsilon^2}$: then both are right.
    - `check`: `check(protocol, key) -> scalar`, the same quantity computed more finely. The ready-made losses bring one,
      on a grid twice as fine; a plain callable has none.
    - `prices`: how many fresh keys price the result.
    - `checkpoint`: the path of a file. The descent is saved there about every second, in one atomic move; the same call
      finds the file and goes on from it, to the same last bit as if it had not been interrupted. The file of another
      search (another loss or optimizer, told by their numbers and their code; another start, key, number of steps) is
      refused, a damaged one too, and of two processes on one file only the later goes on. It stays when the search ends.
    - `progress`: show a progress bar (on stderr).

    Warns, and returns `agrees=False`, if price and check differ by more than 4 standard errors (by more than 1 %, where
    neither has noise): an optimiser finds what a coarse grid gives away. Warns if the result is dearer than the start,
    whose price stands beside its own, and if a search without noise stops where its gradient says that the loss falls.
    Raises `RuntimeError` if the loss or its gradient stops being finite, saying at which step, how many paths failed and
    when; `ValueError` if the grid of a run inside does not reach the ends of its protocol.
    """
    exact = isinstance(loss, AbstractExactLoss)
    key = jax.random.key(0) if key is None and exact else _checks.key("key", key)
    steps = _checks.whole("steps", steps, "a whole number of updates")
    prices = _checks.whole("prices", prices, "a whole number of keys", 2)
    if noise not in ("fresh", "common"):
        raise ValueError(f'noise must be "fresh" or "common", got {noise!r}.')
    if gradient not in ("pathwise", "score"):
        raise ValueError(f'gradient must be "pathwise" or "score", got {gradient!r}.')
    start = numbers("protocol", protocol)
    of = as_loss(loss)
    check = of.check() if check is None else check
    of = of if gradient == "pathwise" else Reweighted(of)
    key_descent, *keys = jax.random.split(key, 3)
    options = {"steps": steps, "noise": noise, "gradient": gradient}
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, (start, key), loss=loss, optimizer=optimizer, **options)
    with searching():
        found, history = descend(
            of,
            start,
            key_descent,
            steps=steps,
            optimizer=optimizer,
            common=noise == "common",
            file=file,
            progress=progress,
        )
        count = 2 if exact else prices
        return Search(found, history, *priced(of, found, start, keys, check=check, count=count))


def descend(
    loss: Loss,
    start: PyTree,
    key: Key,
    *,
    steps: int,
    optimizer: optax.GradientTransformation | None,
    common: bool = False,
    file: Checkpoint | None = None,
    progress: bool = False,
) -> tuple[PyTree, History]:
    """Where `steps` updates lead from `start`, with the record of the way; from `file` on, if that holds a part of it."""
    loss, stride = as_loss(loss), None
    if optimizer is None:
        stride = strides(start)
    exact = optimizer is None and isinstance(loss, AbstractExactLoss)
    optimizer = _extended(_adam(steps) if optimizer is None else optimizer)
    free, given = eqx.partition(start, trainable(start))
    # weak types would retrace
    free = jtu.tree_map(lambda v: jax.lax.convert_element_type(v, v.dtype), free)
    if not jtu.tree_leaves(free):
        raise ValueError(
            "Nothing to search: the protocol has no trainable leaves. Use e.g. protocols.Piecewise; of any other pytree "
            "the floating-point leaves are searched (0.0, not 0)."
        )
    first, pace, unit, ahead, lost = free, None, 1.0, None, 0.0
    with _checks.lenient():
        state = _quasi_newton.begin(free) if exact else optimizer.init(free)
    record, begin, last = np.zeros((2, steps)), 0, monotonic()
    if file and (saved := file.load(lambda done: (free, state, np.zeros((2, done))))):
        (free, state, earlier), begin = saved
        record[:, :begin] = earlier
    with tqdm.tqdm(total=steps, initial=begin, disable=not progress, desc="search") as bar:
        for i in range(begin, steps):
            now = jax.random.fold_in(key, 0 if common else i)
            see = ft.partial(_slope, loss, given=given, key=now)
            seen = see(free) if ahead is None else ahead
            if stride is not None and pace is None:
                at_first = (first, given, jax.random.fold_in(key, 0))
                begun = _slope(loss, *at_first) if i else seen
                unit = _quasi_newton.unit(begun[1], stride) if exact else 1.0
                pace = units(begun[1], stride), stride
            if exact:
                new, ahead, state, lost = _quasi_newton.step(see, free, seen, state, stride, unit)
                norm = _norm(seen[1])
            else:
                new, state, norm = _update(loss, optimizer, state, free, given, now, seen, pace)
            record[:, i] = float(seen[0]), float(norm)
            if not np.isfinite(record[:, i]).all():
                loss(eqx.combine(free, given), now)  # what can be said by name is said here
                why = loss.failures(eqx.combine(free, given), now)
                raise RuntimeError(
                    f"The descent stopped at step {i} of {steps}: loss {record[0, i]:.6g}, gradient norm "
                    f"{record[1, i]:.6g}. {why} Take smaller time steps, a smaller learning rate, or bound what is searched "
                    "(a protocol by protocols.bounded, a noise schedule by LogSNR's low and high)."
                )
            if exact and ahead is seen:  # converged: the loss falls no further
                record[:, i:] = record[:, i : i + 1]
                if lost > STUCK * max(abs(record[0, 0]), abs(record[0, i])):
                    warnings.warn(
                        f"The search stopped after {i} of {steps} steps, where its gradient says that the loss, "
                        f"{record[0, i]:.6g}, falls by about {lost:.2g}, and it does not: it has a kink there, a gradient "
                        "that is not its own (stop_gradient, a rounded or tabulated number), or too few digits. What was "
                        "found need not be the least. Smooth the kink; search in float64; or give an optimizer=.",
                        stacklevel=3,
                    )
                break
            free = new
            if file and (i + 1 == steps or monotonic() - last > SAVE_EVERY):
                file.save((free, state, record[:, : i + 1]), i + 1)
                last = monotonic()
            bar.update()
            bar.set_postfix(loss=f"{record[0, i]:.5g}", refresh=False)
    return eqx.combine(free, given), History(*record)


def priced(
    loss: Loss,
    found: PyTree,
    start: PyTree,
    keys: Sequence[Key],
    *,
    check: Loss | None,
    count: int,
) -> tuple[Estimate, Estimate | None, bool | None, Slope, Estimate]:
    """`found` by the loss and by its check, each over `count` keys of its own; whether they agree; what slope is left; and
    the price of the start by the keys of the first."""
    free, given = eqx.partition(found, trainable(found))
    first, _ = eqx.partition(start, trainable(start))
    fresh = [[jax.random.fold_in(key, i) for i in range(count)] for key in keys]
    values, slopes = zip(*(_slope(loss, free, given, key) for key in fresh[0]), strict=True)
    price, slope = mean(jnp.stack(values)), _left(list(slopes))
    before = jnp.stack([_slope(loss, first, given, key)[0] for key in fresh[0]])
    start_price = _price_of_start(before)
    if check is None:
        checked, agrees, why = None, None, ""
    else:
        checked = mean(jnp.stack([_value(check, free, given, key) for key in fresh[1]]))
        agrees, why = _agree(price, checked, start_price)
    worse = jnp.stack(values) - before  # the same noise in both
    most = max(4 * float(jnp.std(worse)) / math.sqrt(count), ALIKE * abs(float(start_price.value)))
    if float(jnp.mean(worse)) > most:
        why = (
            f"The search made it worse: what it found costs {float(price.value):.6g} by the loss, and its start "
            f"{float(start_price.value):.6g}. Keep the start, and search with a smaller learning rate (optimizer=), more "
            f"paths or more updates.{why and ' '}{why}"
        )
    if why:
        warnings.warn(why, stacklevel=3)
    return price, checked, agrees, slope, start_price


def _price_of_start(values: Array) -> Estimate:
    """A start may be where the loss is not finite for some noise."""
    if bool(jnp.all(jnp.isfinite(values))):
        return mean(values)
    nan = jnp.full((), jnp.nan, values.dtype)
    return Estimate(nan, nan, jnp.zeros_like(nan), jnp.asarray(False))


def _agree(price: Estimate, check: Estimate, start: Estimate) -> tuple[bool, str]:
    """Whether price and check do within their errors, or, where these are rounding, within a share; and what to say."""
    loss, fine, begun = (float(one.value) for one in (price, check, start))
    apart, size = abs(loss - fine), max(abs(loss), abs(fine))
    error = math.hypot(float(price.stderr), float(check.stderr))
    nothing = NOTHING * abs(begun) if math.isfinite(begun) else 0.0
    if error > NOISE * size:
        agrees, how = (
            apart <= 4 * error,
            f"{apart / error:.1f} standard errors apart, 4 are allowed",
        )
    else:
        agrees = apart <= max(ALIKE * size, nothing)
        how = f"{apart / size if size else 0.0:.1%} apart, {ALIKE:.0%} is allowed where there is no noise"
    than = "cheaper" if fine < begun else "dearer"
    return agrees, "" if agrees else (
        f"The protocol found costs {loss:.6g} by the loss, but {fine:.6g} by its check ({how}): the time step is too coarse "
        f"for it. Search again on a finer grid. The start costs {begun:.6g} by the loss: by its check, what was found is "
        f"{than} than that."
    )


@ft.cache  # the same object for the same call: a second search does not compile again
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(0.1, steps))


@ft.cache
def _extended(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optimizer)


@jit
def _slope(loss: Loss, free: PyTree, given: PyTree, key: Key) -> tuple[Scalar, PyTree]:
    return jax.value_and_grad(lambda free: loss(eqx.combine(free, given), key))(free)


@jit
def _value(loss: Loss, free: PyTree, given: PyTree, key: Key) -> Scalar:
    return loss(eqx.combine(free, given), key)


@jit
def _update(
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    state: PyTree,
    free: PyTree,
    given: PyTree,
    key: Key,
    seen: tuple[Scalar, PyTree],
    pace: tuple[PyTree, PyTree] | None,
) -> tuple[PyTree, PyTree, Scalar]:
    """The next parameters, the next state of the optimizer, and the norm of the gradient.

    `pace` holds what the gradient and the step are multiplied by.
    """

    def again(free: PyTree) -> Scalar:  # for line searches; traced only by those
        return loss(eqx.combine(free, given), key)

    value, slope = seen
    norm = _norm(slope)
    with _checks.lenient():  # optax counts in whole numbers
        if pace is not None:
            slope = jtu.tree_map(jnp.multiply, slope, pace[0])
        step, state = optimizer.update(slope, state, free, value=value, grad=slope, value_fn=again)
        if pace is not None:
            step = jtu.tree_map(jnp.multiply, step, pace[1])
        return optax.apply_updates(free, step), state, norm


def _norm(slope: PyTree) -> Scalar:
    """The norm of a gradient, of any size."""
    leaves = jtu.tree_leaves(slope)
    top = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)).astype(leaves[0].dtype) for leaf in leaves]))
    top = jnp.where(top > 0, top, 1)
    return top * jnp.sqrt(sum(jnp.sum((leaf.astype(top.dtype) / top) ** 2) for leaf in leaves))


def _left(slopes: list[PyTree]) -> Slope:
    leaves = zip(*(jtu.tree_leaves(s) for s in slopes), strict=True)
    # in double precision: single may not hold the squares
    leaves = [np.stack(leaf).astype(float) for leaf in leaves]
    norm = math.sqrt(sum(float((leaf.mean(0) ** 2).sum()) for leaf in leaves))
    noise = math.sqrt(sum(float(leaf.var(0, ddof=1).sum()) for leaf in leaves))
    return Slope(norm, noise)
