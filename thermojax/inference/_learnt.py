"""What every method of learning gives: an observable of pairs, by what was held out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._jit import jit
from .._types import Array, Bool, Scalar
from ._functionals import Functional, influence
from ._pairs import BLOCKS, Pairs


class Learnt(NamedTuple):
    """The observables `(folds, n)`, each learnt without its fold; of how many numbers; whether the best was found."""

    h: Array
    size: int
    settled: Bool[Array, ""]


class Priced(NamedTuple):
    """Of one lag: the bound, what the same is on the pairs that were learnt from, and the folds, in nats; what each block
    moves the bound by; the observable of each pair, and what the pair moves the bound by, times the number of pairs."""

    value: Scalar
    fitted: Scalar
    folds: Array
    blocks: Array
    h: Array
    each: Array


@jit
def priced(functional: Functional, learnt: Learnt, given: Pairs) -> Priced:
    """Each observable on the pairs that it has not seen."""
    values = jax.vmap(functional)(learnt.h, given.held)
    fitted = jnp.mean(jax.vmap(functional)(learnt.h, given.learnt))
    moved = jax.vmap(lambda h, weights: influence(functional, h, weights))(learnt.h, given.held)
    counts, each = jnp.sum(given.held, 1), jnp.sum(moved, 0)
    n = jnp.sum(counts)
    blocks = jax.ops.segment_sum(each, given.block, len(counts) * BLOCKS) / n
    own = jnp.sum(jnp.where(given.held > 0, learnt.h, 0), 0)
    return Priced(jnp.sum(counts * values) / n, fitted, values, blocks, own, each)
