r"""Averages over noisy states, level by level and integrated: one number per independent draw, with less noise in it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._guard import clipped_root
from .._types import Array, Key, Scalar
from ..estimators import Estimate, mean
from ._draws import AbstractSource, Cubature
from ._levelwise import Rate, error, first_levels, quieter, summed
from ._predictor import Predictor
from ._sight import RATES, controls, look
from ._span import Span


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
    return {name: quieted(source, RATES[name](sight), known) for name in names}


def quieted(source: AbstractSource, values: Array, known: Sequence[Array]) -> Array:
    """Of one number per state, one per independent draw, less what numbers of mean zero explain."""
    return quieter(source.one_each(values), [source.one_each(v) for v in known])


def integrate(
    source: AbstractSource,
    net: Predictor,
    exact: Predictor | None,
    span: Span,
    key: Key,
    names: Sequence[str],
) -> tuple[dict[str, Rate], dict[str, Array]]:
    """Of each name its rate over the levels, and its integral, one number per independent draw."""

    def level(lam: Scalar, key: Key) -> dict[str, Array]:
        return rates_at(source, net, exact, lam, key, names)

    spread = error if source.random else lambda v: jnp.zeros((), v.dtype)
    return summed(level, span.lam, span.weight, key, spread)


def edge(
    source: AbstractSource,
    net: Predictor,
    exact: Predictor | None,
    span: Span,
    key: Key,
    names: Sequence[str],
) -> dict[str, Array]:
    """Of each name its rate at the first levels, `(n, 3)`, one number per independent draw, with the same noise at all."""
    at = jax.lax.map(
        lambda lam: rates_at(source, net, exact, lam, key, names), first_levels(span.top)
    )
    return {name: v.T for name, v in at.items()}


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
