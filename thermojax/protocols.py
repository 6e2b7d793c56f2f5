r"""Protocols $\lambda(t)$: how the control is driven between `t0` and `t1`.

A protocol is a pytree: `before` and `after` are the control outside its span, so an end jump is the turn from `before`
to $\lambda(t_0^+)$ or from $\lambda(t_1^-)$ to `after`. The control is any pytree (a scalar, an array, a dict of both).
`trainable(protocol)` says which leaves belong to the shape of the drive: not the times, and not `before` and `after`,
which are the question one asks and whose training would make $\langle W \rangle$ unbounded below.

A plain callable `lam(t)` works as a protocol too; what needs its span asks to have it wrapped in `Function`.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ._checks import floating, key as check_key, known, times
from ._types import Array, Control, PyTree, Scalar


def _control(name: str, value: Control) -> Control:
    return jtu.tree_map_with_path(lambda path, leaf: floating(name + jtu.keystr(path), leaf), value)


def _same(name: str, value: Control, like: Control) -> None:
    a, b = (jtu.tree_map(jnp.shape, v) for v in (value, like))
    if jtu.tree_structure(value) != jtu.tree_structure(like) or a != b:
        raise ValueError(f"{name} must have the structure and shapes of one control, {b}; got {a}.")


class AbstractProtocol(eqx.Module):
    r"""A drive $\lambda(t)$ on $[t_0, t_1]$ with the values `before` and `after` outside it."""

    t0: eqx.AbstractVar[Array]
    t1: eqx.AbstractVar[Array]
    before: eqx.AbstractVar[Control]
    after: eqx.AbstractVar[Control]

    @abc.abstractmethod
    def __call__(self, t: Scalar) -> Control:
        r"""$\lambda(t)$ inside the span. Outside it, the value of the nearer end is returned."""


def _span(t0: Any, t1: Any) -> tuple[Array, Array]:
    a, b = known(t0), known(t1)
    if a is not None and b is not None and not b > a:
        raise ValueError(f"A protocol needs t0 < t1, got t0 = {a} and t1 = {b}.")
    return floating("t0", t0), floating("t1", t1)


def _knots(kind: str, ts: Any, values: Control, extra: int) -> tuple[Array, Control]:
    ts, values = times(f"{kind}.ts", ts), _control(f"{kind}.values", values)
    for path, leaf in jtu.tree_leaves_with_path(values):
        if leaf.ndim < 1 or leaf.shape[0] + extra != ts.shape[0]:
            need = "len(ts) - 1, one value between each pair of edges" if extra else "len(ts), one value per knot"
            raise ValueError(
                f"{kind}.values{jtu.keystr(path)} must have a leading axis of {need}: "
                f"got shape {leaf.shape} for {ts.shape[0]} times."
            )
    return ts, values


def _ends(kind: str, values: Control, before: Control, after: Control) -> tuple[Control, Control]:
    first, last = (jtu.tree_map(lambda v: v[i], values) for i in (0, -1))
    out = []
    for name, given, end in (("before", before, first), ("after", after, last)):
        if given is None:
            out.append(end)
        else:
            given = _control(f"{kind}.{name}", given)
            _same(f"{kind}.{name}", given, end)
            out.append(given)
    return out[0], out[1]


class Piecewise(AbstractProtocol):
    r"""Straight lines between knots: $\lambda(t_i) = $ `values[i]`.

    `ts` is `(m,)`; each leaf of `values` is `(m, ...)`. `before` and `after` default to the first and the last value
    (no end jumps); every value is free, the two at the ends too, so that a search finds its end jumps.
    """

    ts: Array
    values: Control
    before: Control
    after: Control

    def __init__(self, ts: Any, values: Control, before: Control = None, after: Control = None):
        self.ts, self.values = _knots("Piecewise", ts, values, 0)
        self.before, self.after = _ends("Piecewise", self.values, before, after)

    @property
    def t0(self) -> Array:
        return self.ts[0]

    @property
    def t1(self) -> Array:
        return self.ts[-1]

    def __call__(self, t: Scalar) -> Control:
        i = jnp.clip(jnp.sum(self.ts <= t) - 1, 0, self.ts.shape[0] - 2)
        s = jnp.clip((t - self.ts[i]) / (self.ts[i + 1] - self.ts[i]), 0, 1)
        return jtu.tree_map(lambda v: (1 - s) * v[i] + s * v[i + 1], self.values)


class Steps(AbstractProtocol):
    r"""Constant between edges: $\lambda = $ `values[i]` on $[t_i, t_{i+1})$. `len(ts) == len(values) + 1`.

    Put the edges on the step grid: a step that straddles an edge sees the value at its own middle.
    """

    ts: Array
    values: Control
    before: Control
    after: Control

    def __init__(self, ts: Any, values: Control, before: Control = None, after: Control = None):
        self.ts, self.values = _knots("Steps", ts, values, 1)
        self.before, self.after = _ends("Steps", self.values, before, after)

    @property
    def t0(self) -> Array:
        return self.ts[0]

    @property
    def t1(self) -> Array:
        return self.ts[-1]

    def __call__(self, t: Scalar) -> Control:
        i = jnp.clip(jnp.sum(self.ts <= t) - 1, 0, self.ts.shape[0] - 2)
        return jtu.tree_map(lambda v: v[i], self.values)


class Spline(AbstractProtocol):
    r"""A smooth curve through knots, by `interpax`.

    `method` is any of `interpax.interp1d`: `"cubic2"` (C², the default), `"cubic"`, `"akima"`, `"monotonic"`, …
    """

    ts: Array
    values: Control
    before: Control
    after: Control
    method: str = eqx.field(static=True)

    def __init__(self, ts: Any, values: Control, before: Control = None, after: Control = None, *, method: str = "cubic2"):
        self.ts, self.values = _knots("Spline", ts, values, 0)
        self.before, self.after = _ends("Spline", self.values, before, after)
        self.method = method

    @property
    def t0(self) -> Array:
        return self.ts[0]

    @property
    def t1(self) -> Array:
        return self.ts[-1]

    def __call__(self, t: Scalar) -> Control:
        t = jnp.clip(t, self.ts[0], self.ts[-1])
        return jtu.tree_map(lambda v: interpax.interp1d(t, self.ts, v, method=self.method), self.values)


class Network(AbstractProtocol):
    r"""A small neural network: $\lambda(t) = $ start $+ s\,($stop $-$ start$) + \mathrm{MLP}(s)$, $s \in [0, 1]$.

    `start` and `stop` are one control each (any pytree) and stand as `before` and `after`. With `lower` and `upper`
    (one of them or both; numbers) the curve is squeezed smoothly between them.
    """

    mlp: eqx.nn.MLP
    before: Control
    after: Control
    t0: Array
    t1: Array
    lower: float | None = eqx.field(static=True)
    upper: float | None = eqx.field(static=True)

    def __init__(
        self,
        start: Control,
        stop: Control,
        t1: Any,
        *,
        key: Any,
        t0: Any = 0.0,
        width: int = 16,
        depth: int = 2,
        lower: float | None = None,
        upper: float | None = None,
    ):
        self.before, self.after = _control("Network.start", start), _control("Network.stop", stop)
        _same("Network.stop", self.after, self.before)
        self.t0, self.t1 = _span(t0, t1)
        self.lower, self.upper = lower, upper
        flat, _ = jax.flatten_util.ravel_pytree(self.before)
        key = check_key("Network.key", key)
        self.mlp = eqx.nn.MLP(1, flat.size, width, depth, activation=jnp.tanh, dtype=flat.dtype, key=key)

    def __call__(self, t: Scalar) -> Control:
        s = jnp.clip((t - self.t0) / (self.t1 - self.t0), 0, 1)
        squeeze, stretch = _squeeze(self.lower, self.upper)
        start, unravel = jax.flatten_util.ravel_pytree(jtu.tree_map(stretch, self.before))
        stop, _ = jax.flatten_util.ravel_pytree(jtu.tree_map(stretch, self.after))
        return jtu.tree_map(squeeze, unravel(start + s * (stop - start) + self.mlp(s[None])))


class Function(AbstractProtocol):
    r"""A callable `fn(t)` with a span. `before` and `after` default to $\lambda(t_0)$ and $\lambda(t_1)$.

    `fn` may be an `equinox.Module`; its floating leaves are then the trainable parameters.
    """

    fn: Callable[[Scalar], Control]
    t0: Array
    t1: Array
    before: Control
    after: Control

    def __init__(self, fn: Callable[[Any], Control], t1: Any, t0: Any = 0.0, before: Control = None, after: Control = None):
        if not callable(fn):
            raise TypeError(f"Function.fn must be a callable lam(t), got {fn!r}.")
        self.fn = fn
        self.t0, self.t1 = _span(t0, t1)
        values = jtu.tree_map(lambda a, b: jnp.stack([a, b]), self(self.t0), self(self.t1))
        self.before, self.after = _ends("Function", values, before, after)

    def __call__(self, t: Scalar) -> Control:
        return jtu.tree_map(jnp.asarray, self.fn(jnp.clip(t, self.t0, self.t1)))


class Reversed(AbstractProtocol):
    r"""The same drive run backwards: $\lambda_R(t) = \lambda(t_0 + t_1 - t)$, `before` and `after` exchanged."""

    protocol: AbstractProtocol

    @property
    def t0(self) -> Array:
        return self.protocol.t0

    @property
    def t1(self) -> Array:
        return self.protocol.t1

    @property
    def before(self) -> Control:
        return self.protocol.after

    @property
    def after(self) -> Control:
        return self.protocol.before

    def __call__(self, t: Scalar) -> Control:
        return self.protocol(self.t0 + self.t1 - t)


class Joint(AbstractProtocol):
    """Several controls, each with its own protocol over one span: `lam` is the dict of their values."""

    protocols: dict[str, AbstractProtocol]

    def __init__(self, protocols: dict[str, AbstractProtocol]):
        spans = {name: (known(p.t0), known(p.t1)) for name, p in protocols.items()}
        if len(set(str(span) for span in spans.values() if None not in span)) > 1:
            raise ValueError(f"Joint protocols must share one span (t0, t1), got {spans}.")
        if not protocols:
            raise ValueError("Joint needs at least one protocol.")
        self.protocols = dict(protocols)

    @property
    def t0(self) -> Array:
        return next(iter(self.protocols.values())).t0

    @property
    def t1(self) -> Array:
        return next(iter(self.protocols.values())).t1

    @property
    def before(self) -> Control:
        return {name: p.before for name, p in self.protocols.items()}

    @property
    def after(self) -> Control:
        return {name: p.after for name, p in self.protocols.items()}

    def __call__(self, t: Scalar) -> Control:
        return {name: p(t) for name, p in self.protocols.items()}


class Fixed(AbstractProtocol):
    """A protocol that drives but is not for a search to change. See `fixed`."""

    protocol: AbstractProtocol

    @property
    def t0(self) -> Array:
        return self.protocol.t0

    @property
    def t1(self) -> Array:
        return self.protocol.t1

    @property
    def before(self) -> Control:
        return self.protocol.before

    @property
    def after(self) -> Control:
        return self.protocol.after

    def __call__(self, t: Scalar) -> Control:
        return self.protocol(t)


class Constrained(AbstractProtocol):
    """A protocol with knots whose free parameters are unconstrained. See `bounded`, `positive` and `monotone`."""

    protocol: Piecewise | Steps | Spline  # its `values` hold the raw parameters
    forward: Callable[[Array], Array]

    @property
    def physical(self) -> Piecewise | Steps | Spline:
        """The protocol with its values in physical units."""
        raw = self.protocol
        return eqx.tree_at(lambda p: p.values, raw, jtu.tree_map(self.forward, raw.values))

    @property
    def t0(self) -> Array:
        return self.protocol.t0

    @property
    def t1(self) -> Array:
        return self.protocol.t1

    @property
    def before(self) -> Control:
        return self.protocol.before

    @property
    def after(self) -> Control:
        return self.protocol.after

    def __call__(self, t: Scalar) -> Control:
        return self.physical(t)


def ramp(start: Control, stop: Control, t1: Any, *, t0: Any = 0.0, knots: int = 2) -> Piecewise:
    r"""$\lambda$ from `start` to `stop` at constant speed, without end jumps, as `Piecewise` with `knots` equal knots."""
    start, stop = _control("ramp.start", start), _control("ramp.stop", stop)
    _same("ramp.stop", stop, start)
    t0, t1 = _span(t0, t1)
    if knots < 2:
        raise ValueError(f"ramp.knots must be at least 2, got {knots}.")
    values = jtu.tree_map(lambda a, b: jnp.linspace(a, b, knots), start, stop)
    return Piecewise(jnp.linspace(t0, t1, knots), values)


def fixed(protocol: AbstractProtocol) -> Fixed:
    """The same drive, none of it trainable: a given temperature ramp beside a stiffness that is searched, say."""
    return Fixed(protocol)


def _squeeze(lower: float | None, upper: float | None) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The map from the line to (lower, upper), and its inverse."""
    if lower is None and upper is None:
        return (lambda raw: raw), (lambda value: value)
    if upper is None:
        return (lambda raw: lower + jax.nn.softplus(raw)), (lambda value: _softplus_inverse(value - lower))
    if lower is None:
        return (lambda raw: upper - jax.nn.softplus(-raw)), (lambda value: -_softplus_inverse(upper - value))
    width = upper - lower
    return (
        lambda raw: lower + width * jax.nn.sigmoid(raw),
        lambda value: jnp.log((value - lower) / (upper - value)),
    )


def _softplus_inverse(y: Array) -> Array:
    return y + jnp.log(-jnp.expm1(-y))


class _Squeeze(eqx.Module):
    lower: float | None = eqx.field(static=True)
    upper: float | None = eqx.field(static=True)

    def __call__(self, raw: Array) -> Array:
        return _squeeze(self.lower, self.upper)[0](raw)


class _Climb(eqx.Module):
    sign: int = eqx.field(static=True)

    def __call__(self, raw: Array) -> Array:
        return jnp.concatenate([raw[:1], raw[:1] + self.sign * jnp.cumsum(jax.nn.softplus(raw[1:]), axis=0)])


def bounded(protocol: Piecewise | Steps | Spline, lower: float | None = None, upper: float | None = None) -> Constrained:
    r"""Keep every knot between `lower` and `upper` by a smooth reparametrisation (sigmoid, or softplus with one bound).

    The drive starts as it is; its values must lie strictly inside. Between knots a `Spline` may overshoot unless its
    method is `"monotonic"`.
    """
    if lower is not None and upper is not None and not upper > lower:
        raise ValueError(f"bounded needs lower < upper, got {lower} and {upper}.")
    low, high = (-jnp.inf if lower is None else lower), (jnp.inf if upper is None else upper)
    for leaf in jtu.tree_leaves(_knotted("bounded", protocol).values):
        value = known(leaf)
        if value is not None and not ((value > low) & (value < high)).all():
            raise ValueError(f"bounded: values must lie strictly between {low} and {high}, got {value}.")
    raw = jtu.tree_map(_squeeze(lower, upper)[1], protocol.values)
    return Constrained(eqx.tree_at(lambda p: p.values, protocol, raw), _Squeeze(lower, upper))


def positive(protocol: Piecewise | Steps | Spline) -> Constrained:
    """Keep every knot above zero: `bounded(protocol, lower=0.0)`."""
    return bounded(protocol, lower=0.0)


def monotone(protocol: Piecewise | Steps | Spline) -> Constrained:
    """Keep the knots strictly rising (or strictly falling, if the given ones fall), leaf by leaf the same way."""
    leaves = [known(leaf) for leaf in jtu.tree_leaves(_knotted("monotone", protocol).values)]
    rising = all(leaf is None or bool((leaf[1:] > leaf[:-1]).all()) for leaf in leaves)
    falling = all(leaf is None or bool((leaf[1:] < leaf[:-1]).all()) for leaf in leaves)
    if not (rising or falling):
        raise ValueError("monotone: the given values must already rise, or fall, strictly from knot to knot.")
    sign = 1 if rising else -1

    def inverse(v: Array) -> Array:
        return jnp.concatenate([v[:1], _softplus_inverse(sign * jnp.diff(v, axis=0))])

    raw = jtu.tree_map(inverse, protocol.values)
    return Constrained(eqx.tree_at(lambda p: p.values, protocol, raw), _Climb(sign))


def _knotted(name: str, protocol: Any) -> Any:
    if not isinstance(protocol, Piecewise | Steps | Spline):
        raise TypeError(
            f"{name} acts on the knots of a Piecewise, Steps or Spline protocol, got {type(protocol).__name__}. "
            "Constrain the output of your own function inside it; Network takes lower= and upper=."
        )
    return protocol


_GIVEN = ("ts", "t0", "t1", "before", "after")


def trainable(protocol: PyTree) -> PyTree:
    """The filter spec (a pytree of bools) of what a search may change, for `equinox.partition`.

    For a protocol: its own floating leaves, without `before`, `after` and the times, and nothing of a `fixed` one.
    For any other pytree (a noise schedule, say): all its floating arrays.
    """

    def spec(node: Any) -> Any:
        if not isinstance(node, AbstractProtocol):
            return eqx.is_inexact_array(node)
        if isinstance(node, Fixed):
            return jtu.tree_map(lambda _: False, node)
        inside = jtu.tree_map(spec, node, is_leaf=lambda n: isinstance(n, AbstractProtocol) and n is not node)
        given = [name for name in _GIVEN if name in {f.name for f in type(node).__dataclass_fields__.values()}]
        for name in given:
            nothing = jtu.tree_map(lambda _: False, getattr(node, name))
            inside = eqx.tree_at(lambda n, name=name: getattr(n, name), inside, nothing, is_leaf=lambda n: n is None)
        return inside

    return jtu.tree_map(spec, protocol, is_leaf=lambda n: isinstance(n, AbstractProtocol))


__all__ = [
    "AbstractProtocol",
    "Constrained",
    "Fixed",
    "Function",
    "Joint",
    "Network",
    "Piecewise",
    "Reversed",
    "Spline",
    "Steps",
    "bounded",
    "fixed",
    "monotone",
    "positive",
    "ramp",
    "trainable",
]
