"""An observable from a network, made odd, and trained on its price: the neural estimator of entropy production."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optax

from .. import _checks
from .._types import Array, Key, PyTree, Scalar, State
from ._currents import Frame
from ._functionals import Functional
from ._learnt import Learnt
from ._pairs import Pairs

Network: TypeAlias = Callable[[State, State], Scalar]  # of two frames
WIDTH, DEPTH = 32, 2
ROUNDS = 20  # looks at what is held back from training


class MidAndStep(eqx.Module):
    """A small network of where a pair of frames is and how it moves, in the units of the recordings."""

    net: eqx.nn.MLP
    frame: Frame
    pace: Array  # the spread of the displacements

    def __call__(self, x0: State, x1: State) -> Scalar:
        frame, pace = jax.lax.stop_gradient((self.frame, self.pace))
        return self.net(jnp.concatenate([frame.place(0.5 * (x0 + x1)), (x1 - x0) / pace]))


def small(frame: Frame, given: Pairs, key: Key) -> MidAndStep:
    """The network for those who have none."""
    weights = given.there[:, None] / jnp.sum(given.there)
    pace = jnp.sqrt(jnp.sum(weights * (given.x1 - given.x0) ** 2, 0))
    net = eqx.nn.MLP(
        frame.size + len(frame.angles),
        "scalar",
        WIDTH,
        DEPTH,
        jax.nn.silu,
        dtype=pace.dtype,
        key=key,
    )
    return MidAndStep(net, frame, pace)


def odd_network(network: Network, x0: Array, x1: Array) -> Array:
    """$f(x_0, x_1) - f(x_1, x_0)$ of all pairs."""
    return jax.vmap(lambda a, b: jnp.reshape(network(a, b) - network(b, a), ()))(x0, x1)


class Training(eqx.Module):
    """How long, in what portions, and by which optimiser."""

    steps: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    optimizer: optax.GradientTransformation = eqx.field(static=True)


def trained(
    functional: Functional, network: Network, given: Pairs, key: Key, how: Training
) -> Learnt:
    """One network for each fold, trained on the others but the next: that one says when it was best."""
    free, fixed = eqx.partition(network, eqx.is_inexact_array)

    def observed(free: PyTree, x0: Array, x1: Array) -> Array:
        return odd_network(eqx.combine(free, fixed), x0, x1)

    def one(parts: tuple[Array, Array, Key]) -> Array:
        learnt, watched, key = parts
        ranks = jnp.cumsum(learnt * (1 - watched))

        def step(state: PyTree, key: Key) -> tuple[PyTree, None]:
            free, moments = state
            drawn = jax.random.uniform(key, (how.batch,), ranks.dtype) * ranks[-1]
            at = jnp.searchsorted(ranks, drawn, side="right")
            x0, x1, ones = given.x0[at], given.x1[at], jnp.ones(how.batch, ranks.dtype)
            slope = jax.grad(lambda free: -functional(observed(free, x0, x1), ones))(free)
            with _checks.lenient():
                update, moments = how.optimizer.update(slope, moments, free)
            return (optax.apply_updates(free, update), moments), None

        def look(carry: PyTree, key: Key) -> tuple[PyTree, None]:
            state, best, most = carry
            keys = jax.random.split(key, -(-how.steps // ROUNDS))
            state, _ = jax.lax.scan(step, state, keys)
            now = functional(observed(state[0], given.x0, given.x1), watched)
            better = now > most
            best = jtu.tree_map(lambda new, old: jnp.where(better, new, old), state[0], best)
            return (state, best, jnp.where(better, now, most)), None

        with _checks.lenient():
            start = (free, how.optimizer.init(free))
        first = functional(observed(free, given.x0, given.x1), watched)
        carry = (start, free, first)
        (_, best, _), _ = jax.lax.scan(look, carry, jax.random.split(key, ROUNDS))
        return observed(best, given.x0, given.x1)

    keys = jax.random.split(key, len(given.held))
    watched = jnp.roll(given.held, -1, 0)
    h = jax.lax.map(one, (given.learnt, watched, keys))
    return Learnt(h, 0, jnp.ones((), bool))
