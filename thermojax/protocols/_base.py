r"""What a protocol is, and which of its leaves a search may change."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._checks import floating, known, rank
from .._types import Array, Control, PyTree, Time


class AbstractProtocol(eqx.Module):
    r"""A drive $\lambda(t)$ on $[t_0, t_1]$ with the values `before` and `after` outside it."""

    searched: ClassVar[bool] = True  # whether a search may change its own leaves

    t0: eqx.AbstractVar[Array]
    t1: eqx.AbstractVar[Array]
    before: eqx.AbstractVar[Control]
    after: eqx.AbstractVar[Control]

    @abc.abstractmethod
    def __call__(self, t: Time) -> Control:
        r"""$\lambda(t)$ inside the span, at one time. Outside it, the value of the nearer end is returned."""


class AbstractWrapper(AbstractProtocol):
    """Another protocol seen differently, over the same span and with the same ends."""

    protocol: eqx.AbstractVar[AbstractProtocol]

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


def held(t: Array, low: Any, high: Any) -> Array:
    """`t`, held at the ends outside of [low, high]. At the ends it has the slope of the inside, which jnp.clip halves."""
    return jnp.where(t < low, low, jnp.where(t > high, high, t))


def instant(t: Any) -> Array:
    """One time."""
    t = floating("t", t)
    if t.ndim:
        raise ValueError(
            f"A protocol is called with one time t, got shape {t.shape}. Use jax.vmap(protocol)(ts)."
        )
    return t


def a_protocol(name: str, value: Any) -> Any:
    if not isinstance(value, AbstractProtocol):
        raise TypeError(
            f"{name} takes a protocol of thermojax.protocols, got {type(value).__name__}. "
            "Wrap a callable lam(t) as protocols.Function(fn, t1)."
        )
    return value


def control(name: str, value: Control) -> Control:
    if not jtu.tree_leaves(value):
        raise ValueError(f"{name} must hold at least one number, got {value!r}.")
    return jtu.tree_map_with_path(lambda path, leaf: floating(name + jtu.keystr(path), leaf), value)


def same(name: str, value: Control, like: Control) -> None:
    a, b = (jtu.tree_map(jnp.shape, v) for v in (value, like))
    if jtu.tree_structure(value) != jtu.tree_structure(like) or a != b:
        raise ValueError(f"{name} must have the structure and shapes of one control, {b}; got {a}.")


def span(t0: Any, t1: Any) -> tuple[Array, Array]:
    a, b = known(t0), known(t1)
    t0, t1 = floating("t0", t0), floating("t1", t1)
    for name, t in (("t0", t0), ("t1", t1)):
        rank(name, t, {0}, "(), one time")
    if a is not None and b is not None and not b > a:
        raise ValueError(f"A protocol needs t0 < t1, got t0 = {a} and t1 = {b}.")
    return t0, t1


def ends(kind: str, values: Control, before: Control, after: Control) -> tuple[Control, Control]:
    first, last = jtu.tree_map(lambda v: v[0], values), jtu.tree_map(lambda v: v[-1], values)
    out = []
    for name, given, end in (("before", before, first), ("after", after, last)):
        if given is None:
            out.append(end)
        else:
            given = control(f"{kind}.{name}", given)
            same(f"{kind}.{name}", given, end)
            out.append(given)
    return out[0], out[1]


_GIVEN = ("ts", "t0", "t1", "before", "after")


def trainable(protocol: PyTree) -> PyTree:
    """The filter spec (a pytree of bools) of what a search may change, for `equinox.partition`.

    For a protocol: its own floating leaves, without `before`, `after` and the times, and nothing of a `fixed` one.
    For any other pytree (a noise schedule, say): all its floating arrays.
    """

    def spec(node: Any) -> Any:
        if not isinstance(node, AbstractProtocol):
            return eqx.is_inexact_array(node)
        if not node.searched:
            return jtu.tree_map(lambda _: False, node)
        inside = jtu.tree_map(
            spec, node, is_leaf=lambda n: isinstance(n, AbstractProtocol) and n is not node
        )
        given = [name for name in _GIVEN if name in type(node).__dataclass_fields__]
        for name in given:
            nothing = jtu.tree_map(lambda _: False, getattr(node, name))
            inside = eqx.tree_at(
                lambda n, name=name: getattr(n, name), inside, nothing, is_leaf=lambda n: n is None
            )
        return inside

    return jtu.tree_map(spec, protocol, is_leaf=lambda n: isinstance(n, AbstractProtocol))
