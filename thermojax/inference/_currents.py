r"""Observables of two frames that change sign when the frames are exchanged: currents."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array, State

Features: TypeAlias = Callable[[State, State], Array]  # g(x0, x1), (m,)


class Frame(eqx.Module):
    """The units in which frames are seen: coordinates about their mean by their spread; of those that are `angles`, which a
    `span` is a full turn of, cosine and sine."""

    centre: Array
    scale: Array
    span: Array
    angles: tuple[bool, ...] = eqx.field(static=True)

    @property
    def size(self) -> int:
        """How many numbers say where a state is."""
        return len(self.angles) + sum(self.angles)

    def short(self, moved: Array) -> Array:
        """The displacement that goes the short way round."""
        turns = jnp.where(np.array(self.angles), jnp.round(moved / self.span), 0)
        return moved - turns * self.span

    def place(self, x: State) -> Array:
        """Where x is, `(size,)`, angles last."""
        angles = np.array(self.angles)
        straight, turned = np.flatnonzero(~angles), np.flatnonzero(angles)
        place = (x - self.centre) / self.scale
        turn = 2 * jnp.pi * x[turned] / self.span[turned]
        return jnp.concatenate([place[straight], jnp.cos(turn), jnp.sin(turn)])

    def products(self, x0: State, x1: State) -> Array:
        r"""$(x_1 - x_0)_i \, y_j$ with the midpoint $y = (x_0 + x_1)/2$, or $\cos y_j$ and $\sin y_j$ of angles, and
        $(x_1 - x_0)_i$ itself of these."""
        step = (x1 - x0) / self.scale
        place = self.place(0.5 * (x0 + x1))
        turned = np.flatnonzero(np.array(self.angles))
        return jnp.concatenate([(step[:, None] * place[None]).reshape(-1), step[turned]])


def odd(features: Features, x0: Array, x1: Array) -> Array:
    r"""$\tfrac12 [g(x_0, x_1) - g(x_1, x_0)]$ of all pairs, `(n, m)`."""

    def one(a: State, b: State) -> Array:
        there, back = (jnp.ravel(jnp.asarray(features(*pair))) for pair in ((a, b), (b, a)))
        return 0.5 * (there - back)

    return jax.vmap(one)(x0, x1)


def along(field: Callable[[Array], Array], x0: Array, x1: Array) -> Array:
    r"""$u\big(\tfrac12(x_0 + x_1)\big) \cdot (x_1 - x_0)$ of all pairs, `(n,)`: of Stratonovich's kind, and odd."""
    return jnp.sum(field(0.5 * (x0 + x1)) * (x1 - x0), -1)
