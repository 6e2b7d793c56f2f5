r"""Bounds and monotonicity by reparametrisation: the search moves freely, the protocol cannot leave."""

import math
from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._checks import known
from .._types import Array, Control, PyTree, Time
from ._base import AbstractWrapper, held
from ._knots import AbstractKnots

Bound: TypeAlias = Array | float | None
Forward: TypeAlias = Callable[[Array], Array]


class Constrained(AbstractWrapper):
    """A protocol with knots whose free parameters are unconstrained. See `bounded`, `positive` and `monotone`."""

    protocol: AbstractKnots  # its `values` hold the raw parameters
    forward: PyTree[Forward]  # one for all of the control's leaves, or one for each

    def __init__(self, protocol: AbstractKnots, forward: PyTree[Forward]):
        self.protocol, self.forward = protocol, forward

    @property
    def physical(self) -> AbstractKnots:
        """The protocol with its values in physical units."""
        raw = self.protocol
        values = jtu.tree_map(lambda v, forward: forward(v), raw.values, self.forwards)
        return eqx.tree_at(lambda p: p.values, raw, values)

    @property
    def forwards(self) -> PyTree[Forward]:
        """What makes each leaf of the control of its raw parameters, in the place of that leaf."""
        leaves, structure = jtu.tree_flatten(self.protocol.values)
        each = jtu.tree_leaves(self.forward, is_leaf=callable)
        return jtu.tree_unflatten(structure, each * len(leaves) if len(each) == 1 else each)

    @property
    def before(self) -> Control:
        return self.protocol.before

    @property
    def after(self) -> Control:
        return self.protocol.after

    def __call__(self, t: Time) -> Control:
        return held(self).physical(t)

    def given(self) -> PyTree:
        return self.forward


class _Squeeze(eqx.Module):
    lower: Array | None
    upper: Array | None

    def __call__(self, raw: Array) -> Array:
        return squeeze(self.lower, self.upper)[0](raw)


class _Climb(eqx.Module):
    unit: Array  # with an axis for the knots
    sign: int = eqx.field(static=True)

    def __call__(self, raw: Array) -> Array:
        climbed = raw[:1] + self.sign * jnp.cumsum(jax.nn.softplus(raw[1:]), axis=0)
        return jax.lax.stop_gradient(self.unit) * jnp.concatenate([raw[:1], climbed])


def _unit(values: Array) -> Array:
    """Of what spans very little or very much, a power of two near its span: a softplus is a curve only about one."""
    span = jnp.abs(jax.lax.stop_gradient(values[-1:] - values[:1]))
    far = (span > 0) & jnp.isfinite(span) & ((span < 1e-3) | (span > 1e3))
    power = jnp.round(jnp.log2(jnp.where(far, span, 1))).astype(int)
    return jnp.ldexp(jnp.ones_like(span), power)


def bounded(
    protocol: AbstractKnots, lower: float | None = None, upper: float | None = None
) -> Constrained:
    r"""Keep every knot between `lower` and `upper` by a smooth reparametrisation (sigmoid, or softplus with one bound).

    The drive starts as it is; raises `ValueError` for values that do not lie strictly inside. Between knots a `Spline` may
    overshoot unless its method is `"monotonic"`.
    """
    lower, upper = limits("bounded", lower, upper)
    if lower is None and upper is None:
        raise ValueError("bounded needs lower=, upper= or both, got none.")
    strictly("bounded: values", _knotted("bounded", protocol).values, lower, upper)
    raw = jtu.tree_map(squeeze(lower, upper)[1], protocol.values)
    return Constrained(
        eqx.tree_at(lambda p: p.values, protocol, raw), _Squeeze(*as_leaves(lower, upper))
    )


def positive(protocol: AbstractKnots) -> Constrained:
    """Keep every knot above zero: `bounded(protocol, lower=0.0)`."""
    return bounded(protocol, lower=0.0)


def monotone(protocol: AbstractKnots) -> Constrained:
    """Keep the knots strictly rising (or strictly falling, if the given ones fall), leaf by leaf the same way.

    Values that are being traced are taken to rise, and are NaN if they do not: constrain falling ones outside of the trace.
    Raises `ValueError` for knots that neither rise nor fall.
    """
    leaves = [known(leaf) for leaf in jtu.tree_leaves(_knotted("monotone", protocol).values)]
    rising = all(leaf is None or bool((leaf[1:] > leaf[:-1]).all()) for leaf in leaves)
    falling = all(leaf is None or bool((leaf[1:] < leaf[:-1]).all()) for leaf in leaves)
    if not (rising or falling):
        raise ValueError(
            "monotone: the given values must already rise, or fall, strictly from knot to knot; got "
            f"{leaves}."
        )
    sign = 1 if rising else -1

    def inverse(v: Array, unit: Array) -> Array:
        v = v / unit
        return jnp.concatenate([v[:1], softplus_inverse(sign * jnp.diff(v, axis=0))])

    units = jtu.tree_map(_unit, protocol.values)
    raw = jtu.tree_map(inverse, protocol.values, units)
    climbs = jtu.tree_map(lambda unit: _Climb(unit, sign), units)
    return Constrained(eqx.tree_at(lambda p: p.values, protocol, raw), climbs)


def limits(
    name: str, lower: float | None, upper: float | None
) -> tuple[float | None, float | None]:
    """Bounds as finite Python numbers, or None where there is none."""
    try:
        low, high = (None if bound is None else float(bound) for bound in (lower, upper))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: lower and upper must be numbers, or None; got {lower!r} and {upper!r}."
        ) from error
    known_ends = [bound for bound in (low, high) if bound is not None]
    if not all(map(math.isfinite, known_ends)) or sorted(set(known_ends)) != known_ends:
        raise ValueError(
            f"{name} needs finite lower < upper (None where there is no bound), got {low} and {high}."
        )
    return low, high


def as_leaves(*bounds: float | None) -> tuple[Array | None, ...]:
    """Bounds as a protocol holds them: as arrays, so that other numbers compile nothing anew."""
    return tuple(None if bound is None else jnp.asarray(bound) for bound in bounds)


def strictly(name: str, values: Control, lower: float | None, upper: float | None) -> None:
    """The known values lie inside the bounds, not on them."""
    low, high = (-math.inf if lower is None else lower), (math.inf if upper is None else upper)
    for leaf in jtu.tree_leaves(values):
        value = known(leaf)
        if value is not None and not ((value > low) & (value < high)).all():
            raise ValueError(
                f"{name} must lie strictly between {low} and {high}, got {value}. Move them inside, or widen the bounds."
            )


def _knotted(name: str, protocol: AbstractKnots) -> AbstractKnots:
    if not isinstance(protocol, AbstractKnots):
        raise TypeError(
            f"{name} acts on the knots of a Piecewise, Steps or Spline protocol, got {type(protocol).__name__}. "
            "Constrain the output of your own function inside it; Network takes lower= and upper=."
        )
    return protocol


def squeeze(
    lower: Bound, upper: Bound
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The map from the line to (lower, upper), and its inverse. Limits are no parameters: they have no derivative."""
    low, high = jax.lax.stop_gradient((lower, upper))
    if low is not None and high is not None:
        return (
            lambda raw: low + (high - low) * jax.nn.sigmoid(raw),
            lambda value: jnp.log((value - low) / (high - value)),
        )
    if low is not None:
        return (
            lambda raw: low + jax.nn.softplus(raw),
            lambda value: softplus_inverse(value - low),
        )
    if high is not None:
        return (
            lambda raw: high - jax.nn.softplus(-raw),
            lambda value: -softplus_inverse(high - value),
        )
    return (lambda raw: raw), (lambda value: value)


def softplus_inverse(y: Array) -> Array:
    return y + jnp.log(-jnp.expm1(-y))
