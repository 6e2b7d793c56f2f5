"""`equinox.filter_jit` for what users write: a program goes by what their functions and objects read, not by these alone.

To `filter_jit` a plain function among the arguments, or an object of a class that JAX knows nothing of, is a constant by its
identity: what was compiled keeps the numbers that it read then. Here it is one by its code and by these numbers.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np

from ._closures import Closure, Code, closed, foreign
from ._types import PyTree

P = ParamSpec("P")
T = TypeVar("T")

PLAIN = jax.Array, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type, Closure


@jtu.register_pytree_node_class
class Held:
    """A thing as a constant, by what it would compute; read once."""

    def __init__(self, code: Code):
        self.code = code

    def tree_flatten(self) -> tuple[tuple[()], Code]:
        return (), self.code

    @classmethod
    def tree_unflatten(cls, aux: Code, leaves: tuple[()]) -> "Held":
        del leaves
        return cls(aux)


def jit(fn: Callable[P, T]) -> Callable[P, T]:
    """`fn`, compiled anew for other shapes, and where a function or an object among its arguments reads other numbers."""

    def program(args: tuple[PyTree, ...], named: dict[str, PyTree]) -> T:
        args, named = jtu.tree_map(_given, (args, named), is_leaf=lambda v: isinstance(v, Held))
        return fn(*args, **named)

    program.__name__ = program.__qualname__ = fn.__name__  # in profiles
    signature = inspect.signature(fn)
    plain, holding = eqx.filter_jit(fn), eqx.filter_jit(program)

    @functools.wraps(fn)
    def call(*args: P.args, **named: P.kwargs) -> T:
        leaves = jtu.tree_leaves((args, named), is_leaf=lambda v: isinstance(v, Closure))
        if not any(map(_reads, leaves)):
            return plain(*args, **named)
        given = signature.bind(*args, **named)  # by place or by name, it is the same call
        return holding(*jtu.tree_map(_held, (given.args, given.kwargs)))

    return call


def _reads(thing: PyTree) -> bool:
    """Whether it may read numbers that its identity does not tell."""
    if isinstance(thing, PLAIN):
        return False
    if isinstance(thing, types.FunctionType):
        return bool(thing.__closure__) or not foreign(thing.__module__)
    if isinstance(thing, types.MethodType | functools.partial) or not foreign(
        type(thing).__module__
    ):
        return True
    wrapped = getattr(thing, "__wrapped__", None)  # of jax.custom_jvp and its like
    return wrapped is not None and _reads(wrapped)


def _held(thing: PyTree) -> PyTree:
    return Held(Code(thing)) if _reads(thing) else thing


def _given(thing: PyTree) -> PyTree:
    # closed, for the programs of other libraries within this one
    return closed(thing.code.fn) if isinstance(thing, Held) else thing
