"""Whether a function is affine, told from its program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ._indices import INLINED
from ._types import Array, State


def affine(fn: Callable[[State], Array], x: State) -> bool:
    """Whether `fn` is affine in x: told from its program, whatever the values, hence also while tracing.

    Its derivative along any direction must not use x, and there must be no kink or step on the way, which derivatives
    do not see. A program may hide that it is affine (a norm that is squared): then the answer is no, never a wrong yes.
    """
    slope = jax.make_jaxpr(lambda y, v: jax.jvp(fn, (y,), (v,))[1])(x, x)
    kinks: list[str] = []
    _uses(jax.make_jaxpr(fn)(x).jaxpr, [True], kinks)
    return not kinks and not any(_uses(slope.jaxpr, [True, False], []))


def _uses(program: Jaxpr, uses: list[bool], kinks: list[str]) -> list[bool]:
    """Which outputs of a jaxpr use the marked inputs; `kinks` collects the steps in which those are not smooth."""
    marked = {var for var, used in zip(program.invars, uses, strict=True) if used}
    for step in program.eqns:
        used = [not isinstance(v, Literal) and v in marked for v in step.invars]
        inner = step.params.get("jaxpr", step.params.get("call_jaxpr"))
        inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if step.primitive.name == "integer_pow" and step.params["y"] == 0:
            out = [False]  # x to the power of 0, left behind by the derivatives of x**2
        elif (
            inner is not None and len(inner.invars) == len(used) and step.primitive.name in INLINED
        ):
            out = _uses(inner, used, kinks)
        else:
            out = [any(used)] * len(step.outvars)
            smooth = all(
                isinstance(var.aval, ShapedArray) and jnp.issubdtype(var.aval.dtype, jnp.floating)
                for var in step.outvars
            )
            if any(used) and (step.primitive.name in _KINKED or not smooth):
                kinks.append(step.primitive.name)
        marked |= {var for var, o in zip(step.outvars, out, strict=True) if o}
    return [not isinstance(v, Literal) and v in marked for v in program.outvars]


_KINKED = (
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "max",
    "min",
    "clamp",
    "rem",
    "reduce_max",
    "reduce_min",
)
