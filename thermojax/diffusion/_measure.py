r"""Averages over noisy states, level by level and integrated: one number per independent draw, with less noise in it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._guard import clipped_root
from .._types import Array, Key, Scalar
from ..estimators import Estimate, mean
from ._draws import AbstractSource, Cubature
from ._predictor import Predictor
from ._sight import RATES, controls, look
from ._span import Span

STEP = 0.1  # in lambda, for the slope of a rate at the first level


class Rate(NamedTuple):
    r"""A rate per nat of $\lambda$ at each level, `(nodes,)`, and its standard error."""

    value: Array
    stderr: Array


def quieter(source: AbstractSource, values: Array, known: Sequence[Array]) -> Array:
    """One number per independent draw, less what numbers of mean zero explain, by regression."""
    values = source.one_each(values)
    basis: list[Array] = []
    for one in (source.one_each(v) for v in known):
        for other in basis:
            one = one - _slope(one, other) * other
        basis.append(one)
        values = values - _slope(values, one) * one
    return values


def _slope(y: Array, x: Array) -> Scalar:
    away = x - jnp.mean(x)
    square = jnp.sum(away**2)
    return jnp.sum(away * y) / jnp.where(square > 0, square, 1)


def rates_at(
    source: AbstractSource,
    net: Predictor,
    exact: Predictor | None,
    lam: Scalar,
    key: Key,
    names: Sequence[str],
) -> dict[str, Array]:
    """The named rates at one level, one number per independent draw."""
    states = source.states(net.kind, lam, key)
    sight = look(net, exact, states, lam)
    known = controls(states, sight)
    return {name: quieter(source, RATES[name](sight), known) for name in names}


def integrate(
    source: AbstractSource,
    net: Predictor,
    exact: Predictor | None,
    span: Span,
    key: Key,
    names: Sequence[str],
) -> tuple[dict[str, Rate], dict[str, Array]]:
    """Of each name its rate over the levels, and its integral, one number per independent draw."""

    def level(given: tuple[Scalar, Key]) -> dict[str, Array]:
        return rates_at(source, net, exact, *given, names)

    def add(
        total: dict[str, Array], given: tuple[Scalar, Scalar, Key]
    ) -> tuple[dict[str, Array], dict[str, Rate]]:
        lam, weight, key = given
        found = level((lam, key))
        total = jtu.tree_map(lambda old, new: old + weight * new, total, found)
        return total, {name: Rate(jnp.mean(v), error(source, v)) for name, v in found.items()}

    keys = jax.random.split(key, span.lam.size)
    shapes = eqx.filter_eval_shape(level, (span.lam[0], keys[0]))
    start = jtu.tree_map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    total, curves = jax.lax.scan(add, start, (span.lam, span.weight, keys))
    return curves, total


def edge(
    source: AbstractSource,
    net: Predictor,
    exact: Predictor | None,
    span: Span,
    key: Key,
    names: Sequence[str],
) -> dict[str, tuple[Array, Array]]:
    r"""Of each name its rate f at the first level and $-df/d\lambda$ there, one number per independent draw.

    By a difference of second order between levels below, with the same noise at all three: a network is not asked above
    the first level, and need not have a derivative in it.
    """
    lam = span.top - STEP * jnp.arange(3, dtype=span.top.dtype)
    at = jax.lax.map(lambda one: rates_at(source, net, exact, one, key, names), lam)
    return {name: (v[0], (-3 * v[0] + 4 * v[1] - v[2]) / (2 * STEP)) for name, v in at.items()}


def error(source: AbstractSource, values: Array) -> Scalar:
    """The standard error of the mean of one number per independent draw; none without chance."""
    if not source.random:
        return jnp.zeros((), values.dtype)
    away = values - jnp.mean(values)
    square = jnp.sum(away**2) / max(values.size - 1, 1) / values.size
    return clipped_root(square)


def averaged(source: AbstractSource, values: Array) -> Estimate:
    """The mean of one number per independent draw."""
    return mean(values) if source.random else exactly(jnp.mean(values))


def all_averaged(source: AbstractSource, values: dict[str, Array]) -> dict[str, Estimate]:
    """The mean of each, as one program, which compiles as fast as that of one. A scalar is without error."""
    fixed = {name: exactly(v) for name, v in values.items() if v.ndim == 0}
    names = [name for name in values if name not in fixed]
    stack = jnp.stack([values[name] for name in names])
    found = jax.vmap(mean)(stack) if source.random else exactly(jnp.mean(stack, 1))
    each = [jtu.tree_map(lambda leaf, i=i: leaf[i], found) for i in range(len(names))]
    return fixed | dict(zip(names, each, strict=True))


def exactly(value: Array) -> Estimate:
    """A number without an error, which is NaN, and not reliable, if it is."""
    zero = jnp.zeros_like(value)
    error = jnp.where(jnp.isnan(value), jnp.nan, zero)
    doubts = jnp.zeros(value.shape, jnp.int32)
    return Estimate(value, error, zero + jnp.inf, ~jnp.isnan(value), doubts=doubts)


def together(*terms: tuple[float, Estimate]) -> Estimate:
    """A sum of independent estimates with coefficients."""
    value = sum((c * e.value for c, e in terms[1:]), terms[0][0] * terms[0][1].value)
    square = sum(
        ((c * e.stderr) ** 2 for c, e in terms[1:]), (terms[0][0] * terms[0][1].stderr) ** 2
    )
    ess, reliable, doubts = (terms[0][1].ess, terms[0][1].reliable, jnp.asarray(terms[0][1].doubts))
    for _, e in terms[1:]:
        ess, reliable, doubts = jnp.minimum(ess, e.ess), reliable & e.reliable, doubts | e.doubts
    return Estimate(value, clipped_root(square), ess, reliable, doubts=doubts)


def bent(source: AbstractSource, measure: Callable[[AbstractSource], dict[str, Array]]) -> Array:
    """Whether averages in closed form miss something, which is not quadratic: points further out give another one."""
    if not isinstance(source, Cubature):
        return jnp.asarray(False)
    here, there = measure(source), measure(Cubature(source.density, 0.5))
    off = [
        jnp.abs(jnp.mean(v) - jnp.mean(there[name]))
        > jnp.finfo(v.dtype).eps ** 0.5 * (1e-3 + jnp.mean(jnp.abs(v)))
        for name, v in here.items()
    ]
    return jnp.any(jnp.stack(off))
