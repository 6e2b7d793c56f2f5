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

from . import _checks
from ._checkpoint import Checkpoint
from ._loss import AbstractLoss as AbstractLoss, Loss as Loss, Reweighted, as_loss
from ._types import Key, PyTree, Scalar
from .estimators import Estimate, mean
from .protocols import trainable

SAVE_EVERY = 1.0  # seconds between two checkpoints


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
    within their errors, None without a check. `gradient` says how far the descent could still see.
    """

    found: PyTree
    history: History
    price: Estimate
    check_price: Estimate | None
    agrees: bool | None
    gradient: Slope

    @property
    def protocol(self) -> PyTree:
        return self.found


def search(
    loss: Loss,
    protocol: PyTree,
    key: Key,
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
    `protocols.trainable(protocol)`; any other pytree over all its floating leaves.

    **Arguments:**

    - `loss`: `loss(protocol, key) -> scalar`, e.g. `mean_work(process, ts, size)`, or your own.
    - `protocol`: where to start.
    - `steps`: number of updates.
    - `optimizer`: any optax transformation; None is Adam with its rate falling from 0.1 to 0 along a cosine (0.1 in the
      units of the control). Line searches (`optax.lbfgs()`) need `noise="common"`.
    - `noise`: `"fresh"` keys at every step, or `"common"`: the same one throughout.
    - `gradient`: `"pathwise"` differentiates through the paths. `"score"` differentiates their probability instead (the
      likelihood ratio of the Euler–Maruyama chain, with the average over the other paths as baseline): for objectives
      with a step in them and forces that jump, where the pathwise derivative is zero or wrong. It is unbiased there too,
      but noisier, the more so the more steps. It needs `optimal.average(...)`, `mean_work` or `mean_dissipation`, with
      Euler steps.
    - `check`: `check(protocol, key) -> scalar`, the same quantity computed more finely. The ready-made losses bring one,
      on a grid twice as fine; a plain callable has none.
    - `prices`: how many fresh keys price the result.
    - `checkpoint`: the path of a file. The descent is saved there about every second, in one atomic move; the same call
      finds the file and goes on from it, to the same last bit as if it had not been interrupted. The file of another
      search (another start, key, number of steps) is refused. It stays when the search ends.
    - `progress`: show a progress bar (on stderr).

    Warns, and returns `agrees=False`, if price and check differ by more than 4 standard errors: an optimiser finds what
    a coarse grid gives away. Raises `RuntimeError` if the loss or its gradient stops being finite, saying at which step,
    how many paths failed and when.
    """
    key = _checks.key("key", key)
    steps = _checks.whole("steps", steps, "a whole number of updates")
    prices = _checks.whole("prices", prices, "a whole number of keys", 2)
    if noise not in ("fresh", "common"):
        raise ValueError(f'noise must be "fresh" or "common", got {noise!r}.')
    if gradient not in ("pathwise", "score"):
        raise ValueError(f'gradient must be "pathwise" or "score", got {gradient!r}.')
    of = as_loss(loss)
    check = of.check() if check is None else check
    of = of if gradient == "pathwise" else Reweighted(of)
    key_descent, *keys = jax.random.split(key, 3)
    options = {"steps": steps, "noise": noise, "gradient": gradient}
    file = None if checkpoint is None else Checkpoint(checkpoint, (protocol, key), **options)
    found, history = descend(
        of,
        protocol,
        key_descent,
        steps=steps,
        optimizer=_adam(steps) if optimizer is None else optimizer,
        common=noise == "common",
        file=file,
        progress=progress,
    )
    return Search(found, history, *priced(of, found, keys, check=check, count=prices))


def descend(
    loss: Loss,
    start: PyTree,
    key: Key,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    common: bool = False,
    file: Checkpoint | None = None,
    progress: bool = False,
) -> tuple[PyTree, History]:
    """Where `steps` updates lead from `start`, with the record of the way; from `file` on, if that holds a part of it."""
    loss, optimizer = as_loss(loss), _extended(optimizer)
    free, given = eqx.partition(start, trainable(start))
    # weak types would retrace
    free = jtu.tree_map(lambda v: jax.lax.convert_element_type(v, v.dtype), free)
    if not jtu.tree_leaves(free):
        raise ValueError(
            "Nothing to search: the protocol has no trainable leaves. Use e.g. protocols.Piecewise."
        )
    with _checks.lenient():
        state = optimizer.init(free)
    record, begin, last = np.zeros((2, steps)), 0, monotonic()
    if file and (saved := file.load(lambda done: (free, state, np.zeros((2, done))))):
        (free, state, earlier), begin = saved
        record[:, :begin] = earlier
    with tqdm.tqdm(total=steps, initial=begin, disable=not progress, desc="search") as bar:
        for i in range(begin, steps):
            now = jax.random.fold_in(key, 0 if common else i)
            seen = _slope(loss, free, given, now)
            new, state, norm = _update(loss, optimizer, state, free, given, now, seen)
            record[:, i] = float(seen[0]), float(norm)
            if not np.isfinite(record[:, i]).all():
                why = loss.failures(eqx.combine(free, given), now)
                raise RuntimeError(
                    f"The descent stopped at step {i} of {steps}: loss {record[0, i]:.6g}, gradient norm "
                    f"{record[1, i]:.6g}. {why} Take smaller time steps, a smaller learning rate, or bound what is searched "
                    "(a protocol by protocols.bounded, a noise schedule by LogSNR's low and high)."
                )
            free = new
            if file and (i + 1 == steps or monotonic() - last > SAVE_EVERY):
                file.save((free, state, record[:, : i + 1]), i + 1)
                last = monotonic()
            bar.update()
            bar.set_postfix(loss=f"{record[0, i]:.5g}", refresh=False)
    return eqx.combine(free, given), History(*record)


def priced(
    loss: Loss, found: PyTree, keys: Sequence[Key], *, check: Loss | None, count: int
) -> tuple[Estimate, Estimate | None, bool | None, Slope]:
    """`found` by the loss and by its check, each over `count` keys of its own; whether they agree; what slope is left."""
    free, given = eqx.partition(found, trainable(found))
    fresh = [[jax.random.fold_in(key, i) for i in range(count)] for key in keys]
    values, slopes = zip(*(_slope(loss, free, given, key) for key in fresh[0]), strict=True)
    price, slope = mean(jnp.stack(values)), _left(list(slopes))
    if check is None:
        return price, None, None, slope
    check_price = mean(jnp.stack([_value(check, free, given, key) for key in fresh[1]]))
    apart = abs(float(price.value - check_price.value))
    error = math.hypot(float(price.stderr), float(check_price.stderr))
    agrees = apart <= 4 * error
    if not agrees:
        warnings.warn(
            f"The protocol found costs {float(price.value):.6g} by the loss, but {float(check_price.value):.6g} by its "
            f"check ({apart / error if error else math.inf:.1f} standard errors apart): the time step is too coarse "
            "for it. Search again on a finer grid.",
            stacklevel=3,
        )
    return price, check_price, agrees, slope


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
    optimizer: optax.GradientTransformationExtraArgs,
    state: PyTree,
    free: PyTree,
    given: PyTree,
    key: Key,
    seen: tuple[Scalar, PyTree],
) -> tuple[PyTree, PyTree, Scalar]:
    def again(free: PyTree) -> Scalar:  # for line searches; traced only by those
        return loss(eqx.combine(free, given), key)

    value, slope = seen
    with _checks.lenient():  # optax counts in whole numbers
        step, state = optimizer.update(slope, state, free, value=value, grad=slope, value_fn=again)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jtu.tree_leaves(slope)))
        return optax.apply_updates(free, step), state, norm


def _left(slopes: list[PyTree]) -> Slope:
    leaves = [np.stack(leaf) for leaf in zip(*(jtu.tree_leaves(s) for s in slopes), strict=True)]
    norm = math.sqrt(sum(float((leaf.mean(0) ** 2).sum()) for leaf in leaves))
    noise = math.sqrt(sum(float(leaf.var(0, ddof=1).sum()) for leaf in leaves))
    return Slope(norm, noise)
