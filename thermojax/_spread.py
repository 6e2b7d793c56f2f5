"""Whether a function of state and control lets one number stand for several: told from its program."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.tree_util as jtu
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ._indices import INLINED
from ._types import Control, PyTree, State


def spreads(fn: Callable[..., PyTree], x: State | jax.ShapeDtypeStruct, lam: Control) -> bool:
    """Whether an array of length 1 that was made of the one meets, in `fn(x, lam)`, a longer one that was made of the other.

    `x - lam` of one coordinate and two controls is two distances, and nothing says that two were meant. A scalar, `x[0]`,
    may meet what it likes.
    """
    (d,), controls = (
        x.shape,
        {leaf.shape for leaf in jtu.tree_leaves(jax.eval_shape(lambda v: v, lam))},
    )
    may = any(shape and ((d == 1) != (shape[-1] == 1)) for shape in controls)
    if not may:
        return False
    program = jax.make_jaxpr(fn)(x, lam).jaxpr
    states, *others = program.invars
    return _meet(program, {states: {"x"}} | {var: {"lam"} for var in others})[0]


def _meet(program: Jaxpr, made_of: dict[Any, set[str]]) -> tuple[bool, list[set[str]]]:
    def source(var: Any) -> set[str]:
        return set() if isinstance(var, Literal) else made_of.get(var, set())

    for step in program.eqns:
        inner = step.params.get("jaxpr", step.params.get("call_jaxpr"))
        inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if step.primitive.name in INLINED and inner is not None:
            inside = dict(zip(inner.invars, map(source, step.invars), strict=True))
            found, out = _meet(inner, inside)
            if found:
                return True, []
        else:
            if _one_and_many(step.invars, source):
                return True, []
            out = [set().union(*map(source, step.invars))] * len(step.outvars)
        made_of |= dict(zip(step.outvars, out, strict=True))
    return False, [source(var) for var in program.outvars]


def _one_and_many(operands: Iterable[Any], source: Callable[[Any], set[str]]) -> bool:
    """Elementwise, an operand of length 1 and a longer one, of different sources."""
    vectors = [v for v in operands if len(getattr(v.aval, "shape", ())) == 1]
    ones = [source(v) for v in vectors if v.aval.shape == (1,)]
    many = [source(v) for v in vectors if v.aval.shape != (1,)]
    return any(
        {frozenset(a), frozenset(b)} == {frozenset({"x"}), frozenset({"lam"})}
        for a in ones
        for b in many
    )
