r"""What is seen in noisy states at one level, and the entropies that it makes per nat of $\lambda$.

With $D\,dt = \tfrac12 s^2 |d\lambda|$ every entropy of a noising is an integral over $\lambda$ in which no schedule is left,
and in units of the noise no scale either: $s\,s_\theta = -\hat\epsilon$.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._types import Array, Scalar
from ._draws import States
from ._predictor import Predictor


class Sight(NamedTuple):
    r"""The noise that a network sees in states `(n, d)`, $\hat\epsilon$; that which is there; and $s \kappa x$."""

    seen: Array
    exact: Array | None  # the mean noise of all data that lead to x, if the score is known
    there: Array  # the exact, or the noise that was drawn
    pull: Array


def look(net: Predictor, exact: Predictor | None, states: States, lam: Scalar) -> Sight:
    seen = jax.vmap(lambda x: net.noise(x, lam))(states.x)
    best = None if exact is None else jax.vmap(lambda x: exact.noise(x, lam))(states.x)
    there = states.noise if best is None else best
    assert there is not None, "points without a drawn noise come with an exact score"
    return Sight(seen, best, there, net.kind.noise(lam) * net.kind.stiffness(lam) * states.x)


def _score_error(sight: Sight) -> Array:
    r"""$\tfrac12 s^2 |s_\theta - s|^2$."""
    return 0.5 * _square(sight.seen - _known(sight))


def _noising(sight: Sight) -> Array:
    r"""$\tfrac12 s^2 |\kappa x + s|^2$: $|v|^2/D$ of the noising."""
    return 0.5 * _square(sight.pull - _known(sight))


def _generation(sight: Sight) -> Array:
    r"""$\tfrac12 s^2 |\kappa x + s_\theta|^2$: the same as the network sees it."""
    return 0.5 * _square(sight.pull - sight.seen)


def _exchange(sight: Sight) -> Array:
    r"""$-\tfrac12 s^2 (\kappa x + 2 s_\theta) \cdot (\kappa x + s_\theta)$."""
    return -0.5 * jnp.sum((sight.pull - 2 * sight.seen) * (sight.pull - sight.seen), 1)


def _norm(sight: Sight) -> Array:
    r"""$\tfrac12 s^2 |s_\theta|^2$."""
    return 0.5 * _square(sight.seen)


def _divergence(sight: Sight) -> Array:
    r"""$-\tfrac12 s^2 \nabla \cdot s_\theta$, by parts: $\tfrac12 \hat\epsilon \cdot \epsilon$."""
    return 0.5 * jnp.sum(sight.seen * sight.there, 1)


def _denoising(sight: Sight) -> Array:
    r"""$\tfrac12 (|\hat\epsilon - \epsilon|^2 - d)$, of mean zero without a network."""
    return _norm(sight) - 2 * _divergence(sight)


def _balance(sight: Sight) -> Array:
    r"""$s^2 s_\theta \cdot (s - s_\theta)$."""
    return 2 * (_divergence(sight) - _norm(sight))


RATES: dict[str, Callable[[Sight], Array]] = {
    "score_error": _score_error,
    "noising": _noising,
    "generation": _generation,
    "exchange": _exchange,
    "norm": _norm,
    "divergence": _divergence,
    "denoising": _denoising,
    "balance": _balance,
}
NEED_EXACT = ("score_error", "noising")


def controls(states: States, sight: Sight) -> list[Array]:
    r"""Numbers of mean zero that go along: $\tfrac12 (|\epsilon|^2 - d)$, $\epsilon^* \cdot (\epsilon - \epsilon^*)$."""
    if states.noise is None:
        return []
    d = states.noise.shape[1]
    found = [0.5 * (_square(states.noise) - d)]
    if sight.exact is not None:
        found.append(jnp.sum(sight.exact * (states.noise - sight.exact), 1))
    return found


def _known(sight: Sight) -> Array:
    assert sight.exact is not None, "asked for without an exact score"
    return sight.exact


def _square(x: Array) -> Array:
    return jnp.sum(x**2, 1)
