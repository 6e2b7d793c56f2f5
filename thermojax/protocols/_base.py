r"""What a protocol is, and which of its leaves a search may change."""

import abc
import functools as ft
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._checks import floating, known, marked, rank, tracing
from .._types import Array, ArrayLike, Control, PyTree, Time

P = TypeVar("P")


class AbstractSearchable(eqx.Module):
    """What can be searched over, and says what of it is given: a protocol, or a noun with parameters of its own."""

    @abc.abstractmethod
    def given(self) -> PyTree:
        """The parts of it that a search must not change, as they stand in it: `return self.ts, self.before`.

        What it holds and what can be searched itself answers for itself. Nothing may be computed: not `self.ts[0]`.
        """


class AbstractProtocol(AbstractSearchable):
    r"""A drive $\lambda(t)$ on $[t_0, t_1]$ with the values `before` and `after` outside it.

    To write your own, give these four (fields, or properties), `__call__`, and `given`, whatever your times are called:

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Pulse(tjx.protocols.AbstractProtocol):
        height: jax.Array  # what a search may change
        t0: jax.Array
        t1: jax.Array
        before: jax.Array
        after: jax.Array

        def __call__(self, t):
            s = jnp.clip((t - self.t0) / (self.t1 - self.t0), 0.0, 1.0)
            return (1 - s) * self.before + s * self.after + self.height * jnp.sin(jnp.pi * s)

        def given(self):
            return self.t0, self.t1, self.before, self.after


    pulse = Pulse(*map(jnp.asarray, (0.5, 0.0, 2.0, 0.0, 1.0)))
    print(pulse(1.0))  # 1.0
    ```
    """

    t0: eqx.AbstractVar[Array]
    t1: eqx.AbstractVar[Array]
    before: eqx.AbstractVar[Control]
    after: eqx.AbstractVar[Control]

    @abc.abstractmethod
    def __call__(self, t: Time) -> Control:
        r"""$\lambda(t)$ inside the span, at one time. Outside it, the value of the nearer end is returned."""


class AbstractWrapper(AbstractProtocol):
    """Another protocol seen differently, over the same span."""

    protocol: eqx.AbstractVar[AbstractProtocol]

    @property
    def t0(self) -> Array:
        return self.protocol.t0

    @property
    def t1(self) -> Array:
        return self.protocol.t1


class AbstractMade(eqx.Module):
    """What knows whether its numbers were being traced when it was made: they may then be what is differentiated by."""

    followed: eqx.AbstractVar[bool]


def instant(t: ArrayLike) -> Array:
    """One time."""
    t = floating("t", t)
    if t.ndim:
        raise ValueError(
            f"A protocol is called with one time t, got shape {t.shape}. Use jax.vmap(protocol)(ts)."
        )
    return t


def a_protocol(name: str, value: object) -> AbstractProtocol:
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


def span(t0: ArrayLike, t1: ArrayLike) -> tuple[Array, Array]:
    t0, t1 = floating("t0", t0), floating("t1", t1)
    a, b = known(t0), known(t1)
    for name, t in (("t0", t0), ("t1", t1)):
        rank(name, t, {0}, "(), one time")
    if a is None or b is None:
        return t0, marked(t1, t0 < t1, "A protocol needs t0 < t1.")
    if not b > a:
        raise ValueError(f"A protocol needs t0 < t1, got t0 = {a} and t1 = {b}.")
    return t0, t1


def ends(kind: str, values: Control, before: Control, after: Control) -> tuple[Control, Control]:
    first, last = (jtu.tree_map(ft.partial(entry, i), values) for i in (0, -1))
    out = []
    for name, given, end in (("before", before, first), ("after", after, last)):
        if given is None:
            out.append(end)
        else:
            given = control(f"{kind}.{name}", given)
            same(f"{kind}.{name}", given, end)
            out.append(given)
    return out[0], out[1]


def entry(i: int, values: Array) -> Array:
    value = known(values)
    if value is None or values.weak_type:
        return values[i]
    return jnp.asarray(value[i])  # without a program that is compiled to get it


def held(protocol: P) -> P:
    """The same protocol; what is `given()` of it has no derivative where the whole of it is differentiated at once.

    Differentiated by all of its floating leaves, as by `equinox.filter_grad`, a protocol is being searched, and a search
    must not change the question. Differentiated by some of them (`equinox.tree_at`), or made of numbers that are
    differentiated by, it is being asked: then nothing is held.
    """
    if not tracing(protocol):
        return protocol
    made = [node for node in _nodes(protocol) if isinstance(node, AbstractMade)]
    if not isinstance(protocol, AbstractProtocol) or not made or any(n.followed for n in made):
        return protocol
    moving, rest = eqx.partition(protocol, eqx.is_inexact_array)
    free, given = eqx.partition(moving, trainable(protocol))
    return eqx.combine(*_held(free, given), rest)


@eqx.filter_custom_jvp
def _held(free: PyTree, given: PyTree) -> tuple[PyTree, PyTree]:
    return free, given


@_held.def_jvp
def _held_jvp(primals: tuple[PyTree, PyTree], tangents: tuple[PyTree, PyTree]) -> PyTree:
    free, given = tangents
    if together(primals, tangents):
        given = jtu.tree_map(lambda leaf: None, primals[1])
    return _held(*primals), (free, given)


def together(primals: PyTree, tangents: PyTree) -> bool:
    """Whether every floating leaf is being differentiated by. (The tangent of one that is not is None.)"""
    moving = jtu.tree_leaves(eqx.filter(primals, eqx.is_inexact_array))
    return len(jtu.tree_leaves(tangents)) == len(moving)


def _nodes(tree: PyTree) -> list[AbstractSearchable]:
    """All the searchable nouns in a pytree, those inside others too."""
    inner = lambda node: isinstance(node, AbstractSearchable) and node is not tree
    found = [n for n in jtu.tree_leaves(tree, is_leaf=inner) if isinstance(n, AbstractSearchable)]
    own = [tree] if isinstance(tree, AbstractSearchable) else []
    return own + [node for one in found for node in _nodes(one)]


class _Mark:
    """In the place of a leaf: two leaves may be one array, two marks are never one."""


def trainable(protocol: PyTree) -> PyTree:
    """The filter spec (a pytree of bools) of what a search may change, for `equinox.partition`.

    For a protocol: its own floating leaves, without what is `given()`: `before`, `after`, times and limits, and all of a
    `fixed` one. For any other pytree: all its floating arrays, but for what the searchable ones in it say is given.

    A loop over `equinox.is_inexact_array` is safe too, with the protocols of this library and an optimizer that leaves
    alone what has a gradient of zero (not one with weight decay): see `thermojax.protocols`.
    """

    def spec(node: PyTree) -> PyTree:
        if not isinstance(node, AbstractSearchable):
            return eqx.is_inexact_array(node)
        inside = jtu.tree_map(
            spec, node, is_leaf=lambda n: isinstance(n, AbstractSearchable) and n is not node
        )
        free, form = jtu.tree_flatten(inside)
        marks = [_Mark() for _ in free]
        given = _given(jtu.tree_unflatten(form, marks), {*marks})
        return jtu.tree_unflatten(
            form, [b and mark not in given for b, mark in zip(free, marks, strict=True)]
        )

    return jtu.tree_map(spec, protocol, is_leaf=lambda n: isinstance(n, AbstractSearchable))


def _given(node: AbstractSearchable, marks: set[_Mark]) -> set[_Mark]:
    """Those of its marks that are given."""
    whole = (
        f"{type(node).__name__}.given() must return parts of it as they stand (fields, or fields of these), nothing "
        "computed: a tuple such as self.ts, self.before."
    )
    try:
        given = set(jtu.tree_leaves(node.given()))
    except (TypeError, AttributeError) as error:  # a mark is no number
        raise TypeError(whole) from error
    if not given <= marks:
        raise TypeError(whole)
    return given
