"""From recordings and a way of learning to the bound, its error and what speaks against it."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import estimators
from .._jit import jit
from .._types import Array, Bool, Key, Scalar, State
from ._currents import Frame
from ._functionals import FUNCTIONALS, max_entropy
from ._learnt import Learnt, Priced, priced
from ._network import Network, Training, small, trained
from ._pairs import Pairs, pairs
from ._recordings import Recordings
from ._result import (
    CORRELATED,
    DRIFTS,
    FAILED,
    FEW,
    LEAST,
    TAIL,
    UNSETTLED,
    Inferred,
)
from ._score import Field, of_score
from ._span import Features, best_in_span

Verb: TypeAlias = Callable[..., estimators.Estimate]

SIGNIFICANT = 1.96  # standard errors above zero
PER_NUMBER = 10  # independent pairs for each number that is learnt
SEEN = 5.0  # standard errors from which something is not by chance
# the rate in a short lag: a straight line, or a parabola, through those at 1, 2, 3 times the one asked for
WEIGHTS = ((1.0,), (2.0, -1.0), (3.0, -3.0, 1.0))


class How(eqx.Module):
    """How an observable is learnt, and what the user has given for it."""

    method: str = eqx.field(static=True)
    features: Features | None
    network: Network | None
    score: Field | None
    drift: Field | None
    training: Training | None


class Found(NamedTuple):
    """All of one lag."""

    time: Scalar
    of: Pairs
    learnt: Learnt
    priced: Priced


def inferred(
    given: Recordings,
    frame: Frame,
    how: How,
    key: Key | None,
    lag: int,
    folds: int,
    weights: tuple[float, ...],
) -> Inferred:
    """One program after the other, and not all in one: other features or methods compile only what is theirs."""
    functional = FUNCTIONALS.get(how.method, max_entropy)
    found = []
    for i in range(len(weights)):
        frames = jnp.asarray(lag * (i + 1))
        time = given.dt * frames.astype(given.dt.dtype)
        of = pairs(given, frames, folds, frame)
        learnt = _learn(how, frame, key, of, time)
        found.append(Found(time, of, learnt, priced(functional, learnt, of)))
    first, steady = found[0], []
    order = _shuffled(first.of.there)
    verbs = (estimators.mean,) if how.method == "tur" else (estimators.mean, estimators.jarzynski)
    for verb, values in zip(verbs, (first.priced.each, first.priced.h), strict=False):
        steady.append(_steady(verb, values, first.of.there, order))
    return _concluded(found, frame, how.method, folds, weights, jnp.stack(steady).all())


@jit
def _learn(how: How, frame: Frame, key: Key | None, of: Pairs, lag: Scalar) -> Learnt:
    if how.method == "score":
        return of_score(max_entropy, how.score, how.drift, lag, of)
    if how.method == "neep":
        assert key is not None
        assert how.training is not None
        key_net, key_train = jax.random.split(key)
        network = small(frame, of, key_net) if how.network is None else how.network
        return trained(max_entropy, network, of, key_train, how.training)
    features = frame.products if how.features is None else how.features
    return best_in_span(FUNCTIONALS[how.method], features, of)


@jit
def _shuffled(there: Array) -> Array:
    """An order without meaning, since neighbours in time do correlate."""
    return jax.random.permutation(jax.random.key(0), len(there))


@jit
def _steady(verb: Verb, values: Array, there: Array, order: Array) -> Bool[Array, ""]:
    """Whether few values rule an average; by itself, since all methods and lags share it."""
    gone = jnp.where(there > 0, 0, jnp.nan).astype(values.dtype)
    return verb((values + gone)[order], failed="drop").reliable


@jit
def _concluded(
    found: list[Found],
    frame: Frame,
    method: str,
    folds: int,
    weights: tuple[float, ...],
    steady: Bool[Array, ""],
) -> Inferred:
    first = found[0]
    shares = [w / f.time for w, f in zip(weights, found, strict=True)]
    each = [f.priced for f in found]
    rate = jnp.stack([s * f.value for s, f in zip(shares, each, strict=True)]).sum()
    high = jnp.stack([s * f.fitted for s, f in zip(shares, each, strict=True)]).sum()
    blocks = jnp.stack([s * f.blocks for s, f in zip(shares, each, strict=True)]).sum(0)
    stderr, own = _spread(blocks, folds), _spread(each[0].blocks, folds)
    n = jnp.sum(first.of.there)
    ess = jnp.sum(each[0].each ** 2) / (n * own**2)
    doubts = _doubts(first.of, frame, each[0], ess, first.learnt.size) | _bit(TAIL, ~steady)
    settled = jnp.all(jnp.stack([f.learnt.settled for f in found]))
    failed = ~(jnp.isfinite(rate) & (stderr > 0))
    doubts |= _bit(UNSETTLED, ~settled) | _bit(FAILED, failed)
    rate, stderr = (jnp.where(failed, jnp.nan, v) for v in (rate, stderr))
    return Inferred(
        rate=rate,
        stderr=stderr,
        corrected=0.5 * (rate + high),
        per_lag=each[0].value,
        per_lag_stderr=own,
        fitted=each[0].fitted,
        folds=each[0].folds,
        lag=first.time,
        ess=ess,
        significant=rate > SIGNIFICANT * stderr,
        doubts=doubts,
        method=method,
        extrapolate=len(weights) - 1,
    )


def _spread(blocks: Array, folds: int) -> Scalar:
    """The standard error of what the blocks add up to, about zero in each fold; larger by a percent, as Student's quantile
    is than that of a Gaussian, so that 1.96 of it cover as they should."""
    many = len(blocks)
    free = many - folds
    student = 1 + (SIGNIFICANT**2 + 1) / (4 * free)
    return student * jnp.sqrt(jnp.sum(blocks**2) * (many / free))


def _bit(bit: int, there: Array) -> Array:
    return jnp.where(there, bit, 0).astype(jnp.int32)


def _doubts(of: Pairs, frame: Frame, found: Priced, ess: Scalar, size: int) -> Array:
    few = (ess < LEAST) | (ess < PER_NUMBER * size)
    many = len(found.blocks)
    memory = jnp.sum(found.blocks[1:] * found.blocks[:-1]) / jnp.sum(found.blocks**2)
    doubts = _bit(FEW, few) | _bit(CORRELATED, memory > SEEN / many**0.5)
    return doubts | _bit(DRIFTS, _drifts(of, frame, many))


def _drifts(of: Pairs, frame: Frame, many: int) -> Array:
    """Whether places, or products of two, change in the mean: between halves of the recordings, or within pairs. All
    products, so that it is the same in any axes."""
    one, other = np.triu_indices(frame.size)

    def watched(x: State) -> Array:
        place = frame.place(x)
        return jnp.concatenate([place, place[one] * place[other]])

    before = jax.vmap(watched)(of.x0)
    change = jax.vmap(watched)(of.x1) - before
    counts = jax.ops.segment_sum(of.there, of.block, many)[:, None]
    means, changes = (
        jax.ops.segment_sum(v * of.there[:, None], of.block, many) / counts
        for v in (before, change)
    )
    halves = means[: many // 2], means[many // 2 :]
    apart = jnp.mean(halves[1], 0) - jnp.mean(halves[0], 0)
    spread = jnp.sqrt((jnp.var(halves[0], 0) + jnp.var(halves[1], 0)) / (many // 2))
    moved, scatter = jnp.mean(changes, 0), jnp.std(changes, 0) / many**0.5
    return jnp.any(jnp.abs(apart) > SEEN * spread) | jnp.any(jnp.abs(moved) > SEEN * scatter)
