r"""Averages at each level of noise, and summed over the levels, one number per independent draw."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._guard import clipped_root
from .._nodes import nodes
from .._products import matmul
from .._types import Array, Key, PyTree, Scalar

STEP = (
    0.1  # in lambda, for the slope of a rate at the first level: the network is asked below it only
)
FEWEST = 10
ALONE = 1e-3  # of the weight of a draw that all but makes the slope: no less is left


class Rate(NamedTuple):
    r"""A rate per nat of $\lambda$ at each level, `(nodes,)`, and its standard error."""

    value: Array
    stderr: Array


def quieter(values: Array, known: Sequence[Array]) -> Array:
    r"""One number per independent draw, less what numbers b of mean zero explain, by regression.

    The slopes take what freedom there is from the residuals r, and err themselves, by more the fewer the draws. So the
    deviations are those of the mean when one draw is left out, with the leverage h,

    $$\frac{r_i}{1 - h_i} \Big( 1 - \frac{n\, \bar b\, (b_i - \bar b)}{S} \Big), \qquad
      h_i = \frac1n + \frac{(b_i - \bar b)^2}{S}, \qquad S = \sum_j (b_j - \bar b)^2 ,$$

    summed over several b. Of fewer than ten draws nothing is taken. Source: Efron & Tibshirani, *An Introduction to the
    Bootstrap* (1993), ch. 11, for the jackknife.
    """
    n = len(values)
    if n < FEWEST or not known:
        return values
    basis: list[Array] = []
    lever, reach = jnp.full_like(values, 1 / n), jnp.ones_like(values)
    for one in known:
        for other in basis:
            one = one - _slope(one, other) * other
        basis.append(one)
        values = values - _slope(values, one) * one
        away = one - jnp.mean(one)
        each = away / jnp.maximum(jnp.sum(away**2), jnp.finfo(away.dtype).tiny)
        lever, reach = lever + each * away, reach - n * jnp.mean(one) * each
    apart = reach * (values - jnp.mean(values)) / jnp.maximum(1 - lever, ALONE)
    return jnp.mean(values) + apart - jnp.mean(apart)


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
    """The first level and one and two `STEP`s below, `(3,)`, for `tail`."""
    return top - STEP * jnp.arange(3, dtype=top.dtype)


LEAST = 0.25  # halfway from an edge to an atom


class Tail(NamedTuple):
    r"""What lies above the first level of a rate: its slope there, its integral, `(n,)`, and how far that may be off."""

    slope: Array
    integral: Array
    off: Scalar


def tail(f: Array, slope: Scalar | None = None, *, bent: bool = True) -> Tail:
    r"""From a rate at the `first_levels`, `(n, 3)`: its slope $\alpha = -d\ln f/d\lambda$, and the integral of

    $$f \propto \frac{u^a}{(1 + \rho u)^a}, \qquad u = e^{-\lambda}, \qquad \alpha = \frac{a}{1 + \rho},
      \qquad \frac{d\alpha}{d\lambda} = \alpha \Big( 1 - \frac{\alpha}{a} \Big),$$

    with $\rho = s^2/v$ for a Gaussian of the variance v, a = 1: of $f/\alpha$ where the noise is fine. Means over the
    rows, whose spread is that of the function of the mean rates. `off` is how far $f/\alpha$ is from it.

    A slope that is known is taken as it is, $f/\alpha$, and `off` is half of what the slope there makes of it; `bent` False
    takes $f/\alpha$, too, of what is no entropy. The integral is zero if f is, and NaN if $\alpha < \frac14$ or f changes
    sign.
    """
    middle = jnp.mean(f, 0)
    places, weights = (jnp.asarray(v, f.dtype) for v in nodes(16))

    def logs(f: Array) -> Array:
        return jnp.log(jnp.where(f == 0, 1, jnp.abs(f)))

    def measured(f: Array) -> Scalar:
        top, one, two = logs(f)
        return (-3 * top + 4 * one - two) / (2 * STEP)

    def alpha(f: Array) -> Scalar:
        return measured(f) if slope is None else slope.astype(f.dtype)

    def bends(f: Array) -> tuple[Scalar, Scalar]:
        """a, and rho at the first level: from the slope and its change at the middle one of the three."""
        top, one, two = logs(f)
        here = jnp.maximum(0.5 * (two - top) / STEP, LEAST / 2)
        left = 1 + (top - 2 * one + two) / STEP**2 / here  # alpha / a
        a = jnp.maximum(here / jnp.maximum(left, LEAST * here), LEAST)
        return a, (a / here - 1) * float(np.exp(-STEP))

    def good(f: Array) -> Array:
        return (alpha(f) >= LEAST) & jnp.all(f * f[:1] > 0)

    def plain(f: Array) -> Scalar:
        return f[0] / jnp.where(good(f), alpha(f), 1)

    def integral(f: Array) -> Scalar:
        whole = plain(f)
        if slope is None and bent:
            a, rho = bends(f)
            whole = f[0] / a * jnp.sum(weights * ((1 + rho) / (1 + rho * places ** (1 / a))) ** a)
        return jnp.where(jnp.all(f == 0), 0, jnp.where(good(f), whole, jnp.nan))

    def rows(of: Callable[[Array], Scalar]) -> Array:
        # to first order in the deviations; the mean of the rows is then the value itself
        value, by = jax.value_and_grad(of)(middle)
        return value + matmul(f - middle[None], by)

    if slope is None:
        off = jnp.abs(integral(middle) - plain(middle))
    else:
        off = 0.5 * jnp.abs(plain(middle) * jnp.clip(1 - measured(middle) / alpha(middle), -1, 1))
    off = jnp.where(good(middle), jax.lax.stop_gradient(off), 0)
    return Tail(rows(alpha), rows(integral), off)
