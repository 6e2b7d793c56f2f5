r"""Averages at each level of noise, and summed over the levels, one number per independent draw."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._guard import clipped_root
from .._products import matmul
from .._types import Array, Key, PyTree, Scalar

STEP = (
    0.1  # in lambda, for the slope of a rate at the first level: the network is asked below it only
)


class Rate(NamedTuple):
    r"""A rate per nat of $\lambda$ at each level, `(nodes,)`, and its standard error."""

    value: Array
    stderr: Array


def quieter(values: Array, known: Sequence[Array]) -> Array:
    """One number per independent draw, less what numbers of mean zero explain, by regression."""
    basis: list[Array] = []
    for one in known:
        for other in basis:
            one = one - _slope(one, other) * other
        basis.append(one)
        values = values - _slope(values, one) * one
    return values


def _slope(y: Array, x: Array) -> Scalar:
    away = x - jnp.mean(x)
    square = jnp.sum(away**2)
    return jnp.sum(away * y) / jnp.where(square > 0, square, 1)


def error(values: Array) -> Scalar:
    """The standard error of the mean of one number per independent draw."""
    away = values - jnp.mean(values)
    return clipped_root(jnp.sum(away**2) / max(values.size - 1, 1) / values.size)


def summed(
    level: Callable[[Scalar, Key], PyTree],
    lam: Array,
    weight: Array,
    key: Key,
    spread: Callable[[Array], Scalar] = error,
) -> tuple[PyTree, PyTree]:
    """Of `level(lam, key)`, arrays of one number per draw: the `Rate` at each level, and the integral of each draw."""
    keys = jax.random.split(key, lam.size)
    shapes = eqx.filter_eval_shape(level, lam[0], keys[0])
    start = jtu.tree_map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    @eqx.filter_checkpoint
    def add(total: PyTree, lam: Scalar, weight: Scalar, key: Key) -> tuple[PyTree, PyTree]:
        found = level(lam, key)
        total = jtu.tree_map(lambda old, new: old + weight * new, total, found)
        return total, jtu.tree_map(lambda v: Rate(jnp.mean(v), spread(v)), found)

    total, rates = jax.lax.scan(lambda old, given: add(old, *given), start, (lam, weight, keys))
    return rates, total


def first_levels(top: Scalar) -> Array:
    """The first level and one and two `STEP`s below, `(3,)`, for `slope_and_tail`."""
    return top - STEP * jnp.arange(3, dtype=top.dtype)


LEAST = 0.25  # halfway from an edge to an atom


def slope_and_tail(f: Array, slope: Scalar | None = None) -> tuple[Array, Array]:
    r"""From a rate at the `first_levels`, `(n, 3)`: its slope $\alpha = -d\ln f/d\lambda$, and $f/\alpha$, the integral of
    what falls on as $e^{-\alpha\lambda}$ above the first level; each `(n,)`, means whose spread is that of the ratio.

    A slope that is known is taken as it is. $f/\alpha$ is zero if f is, and NaN if $\alpha < \frac14$ or f changes sign.
    """
    middle = jnp.mean(f, 0)

    def alpha(f: Array) -> Scalar:
        if slope is not None:
            return slope.astype(f.dtype)
        logs = jnp.log(jnp.where(f == 0, 1, jnp.abs(f)))
        return (-3 * logs[0] + 4 * logs[1] - logs[2]) / (2 * STEP)

    def tail(f: Array) -> Scalar:
        good = (alpha(f) >= LEAST) & jnp.all(f * f[:1] > 0)
        there = jnp.where(good, f[0] / jnp.where(good, alpha(f), 1), jnp.nan)
        return jnp.where(jnp.all(f == 0), 0, there)

    def rows(of: Callable[[Array], Scalar]) -> Array:
        # to first order in the deviations; the mean of the rows is then the value itself
        value, by = jax.value_and_grad(of)(middle)
        return value + matmul(f - middle[None], by)

    return rows(alpha), rows(tail)
