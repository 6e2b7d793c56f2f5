"""Indices that lie outside of what they index, told from a program: JAX clamps them and says nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ._types import PyTree

# programs within a program, by the names that JAX has for them in its versions
INLINED = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat",
    "remat2",
    "checkpoint",
)
FOLDED = {  # how an index is made of the number that was written, and of an array of indices
    "lt": np.less,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "select_n": lambda which, *cases: np.choose(which.astype(int), cases),
    "convert_element_type": lambda v, *, new_dtype, **_: v.astype(new_dtype),
    "broadcast_in_dim": lambda v, *, shape, broadcast_dimensions, **_: np.broadcast_to(
        v.reshape(
            [
                v.shape[broadcast_dimensions.index(i)] if i in broadcast_dimensions else 1
                for i in range(len(shape))
            ]
        ),
        shape,
    ),
    "reshape": lambda v, *, new_sizes, **_: v.reshape(new_sizes),
    "squeeze": lambda v, *, dimensions, **_: v.squeeze(dimensions),
    "concatenate": lambda *v, dimension: np.concatenate(v, dimension),
}


def traced(fn: Callable[..., PyTree], *args: PyTree) -> tuple[PyTree, str | None]:
    """Shapes and dtypes of `fn(*args)`, as `jax.eval_shape` has them, and the first index that is out of bounds, in words.

    Only indices that are known while tracing are looked at; one that is read with a mode of its own,
    `.at[i].get(mode="clip")`, is taken at its word.
    """
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    known = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    return shapes, next(_beyond(program.jaxpr, known), None)


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


def _beyond(program: Jaxpr, known: dict[Any, Any]) -> Iterator[str]:
    """The indices of a jaxpr that are out of bounds, where the values of some of its variables are known."""

    def value(var: Any) -> np.ndarray | None:
        held = var.val if isinstance(var, Literal) else known.get(var)
        return None if held is None or isinstance(held, Tracer) else _numbers(held)

    for step in program.eqns:
        name, given = step.primitive.name, step.invars
        for inner in _programs(step.params.values()):
            inside = {}
            if name in INLINED and len(inner.invars) == len(given):
                inside = {v: value(of) for v, of in zip(inner.invars, given, strict=True)}
            yield from _beyond(inner, inside)
        if name == "dynamic_slice":
            size, starts = _shape(given[0]), [value(v) for v in given[1:]]
            room = [n - width for n, width in zip(size, step.params["slice_sizes"], strict=True)]
            yield from _outside(size, room, zip(range(len(size)), starts, strict=True))
        if name == "gather" and "PROMISE" in str(step.params["mode"]) or name.startswith("scatter"):
            size, numbers, at = (
                _shape(given[0]),
                step.params["dimension_numbers"],
                value(given[1]),
            )
            if at is not None:
                gathers = name == "gather"
                axes = numbers.start_index_map if gathers else numbers.scatter_dims_to_operand_dims
                widths = step.params["slice_sizes"] if gathers else [1] * len(size)
                room = [n - width for n, width in zip(size, widths, strict=True)]
                yield from _outside(size, room, ((axis, at[..., i]) for i, axis in enumerate(axes)))
        if name in FOLDED and all(value(v) is not None for v in given):
            known[step.outvars[0]] = FOLDED[name](*(value(v) for v in given), **_parameters(step))


def _programs(parameters: Iterable[Any]) -> Iterator[Jaxpr]:
    """The programs within a step: branches, bodies of loops, called functions."""
    for given in parameters:
        if isinstance(given, ClosedJaxpr):
            yield given.jaxpr
        elif isinstance(given, Jaxpr):
            yield given
        elif isinstance(given, list | tuple):
            yield from _programs(given)


def _outside(
    size: Sequence[int], room: Sequence[int], starts: Iterable[tuple[int, np.ndarray | None]]
) -> Iterator[str]:
    for axis, at in starts:
        if at is not None and at.size and not (0 <= at.min() and at.max() <= room[axis]):
            yield f"an index outside of an axis of length {size[axis]}"


def _numbers(held: Any) -> np.ndarray | None:
    array = np.asarray(held)
    return array if array.dtype.kind in "iub" and array.size <= 10_000 else None


def _parameters(step: Any) -> dict[str, Any]:
    return {} if isinstance(FOLDED[step.primitive.name], np.ufunc) else step.params
