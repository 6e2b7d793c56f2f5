"""What a thing computes, as sixteen hexadecimal digits that are the same in every process: its numbers, its parts, its code.

Of one's own functions it is the code, with what they close over and the globals they read; of a library's, the name, and of
its objects what a copy would be made of. What cannot be looked into counts by its type alone.
"""

import copyreg
import dataclasses
import functools as ft
import hashlib
import sys
import types
from array import array
from collections.abc import Iterable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._closures import is_slot, reached, stored

# of these the name says it: their code may change with a version
OURS = "beartype blackjax diffrax equinox interpax jax jaxlib jaxtyping lineax numpy optax optimistix scipy thermojax"
NUMBERS = {"numpy", "scipy"}
STATELESS = {*OURS.split()} - NUMBERS | {
    *"_io asyncio contextvars io logging os random threading tqdm weakref".split()
}
LIBRARIES = (sys.stdlib_module_names | {*OURS.split()}) - {"__main__"}


def fingerprint(thing: object) -> str:
    """The fingerprint of any object: of a loss, an optimizer, a pytree."""
    return _digest(thing, {})[:16]


def is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _digest(thing: object, seen: dict[int, tuple[object, str]]) -> str:
    if id(thing) not in seen:
        seen[id(thing)] = (
            thing,
            "itself",
        )  # what holds itself ends here; kept, so that no other takes its id
        label, parts = _array(thing) if eqx.is_array_like(thing) else _parts(thing)
        mill = hashlib.sha256(f"{type(thing).__qualname__} ".encode() + label)
        for part in parts:
            mill.update(_digest(part, seen).encode())
        seen[id(thing)] = thing, mill.hexdigest()
    return seen[id(thing)][1]


def _array(thing: object) -> tuple[bytes, Iterable[object]]:
    value = np.asarray(jax.random.key_data(thing) if is_key(thing) else thing)  # pyright: ignore
    if value.dtype == object:
        return repr(thing).encode(), ()
    return f"{value.shape} {value.dtype} ".encode() + value.tobytes(), ()


@ft.singledispatch
def _parts(thing: object) -> tuple[bytes, Iterable[object]]:
    """What it is, in a word, and what it is made of."""
    if dataclasses.is_dataclass(thing):
        fields = [field.name for field in dataclasses.fields(thing)]
        inside = [getattr(thing, name, None) for name in fields]
        return " ".join(fields).encode(), (type(thing), *inside)
    wrapped = getattr(thing, "__wrapped__", None)  # of jax.jit and its like, and of methods
    if wrapped is not None:
        return b"", (wrapped,)
    name = getattr(thing, "__qualname__", None)
    if isinstance(name, str) and _known(thing):  # a function that Cython compiled
        return name.encode(), ()
    if _known(type(thing)):
        return b"", (None, *_state(thing))
    slots = [n for c in type(thing).__mro__ for n, v in sorted(vars(c).items()) if is_slot(v)]
    held = [(name, getattr(thing, name, None)) for name in slots]
    return b"", (type(thing), held, getattr(thing, "__dict__", None))


def _state(thing: object) -> tuple[object, ...]:
    """Of an object of a library's class (an `argparse.Namespace`, a spline of scipy's) what a copy of it would be made of.

    Nothing of what is JAX's, whose name says it, or where another process has another one.
    """
    module = type(thing).__module__
    if module.partition(".")[0] in STATELESS or module.startswith("numpy.random"):
        return ()
    reduce = copyreg.dispatch_table.get(type(thing))
    try:
        made = thing.__reduce_ex__(2) if reduce is None else reduce(thing)
    except Exception:  # of a lock, of an open file
        return ()
    if isinstance(made, str):
        return (made,)
    items: tuple = made[3:]  # by iterators
    return (*made[:3], *(list(v or ()) for v in items))


@_parts.register(str)
@_parts.register(bytes)
@_parts.register(type(None))
@_parts.register(type(...))
@_parts.register(np.dtype)
def _(thing: object) -> tuple[bytes, Iterable[object]]:
    return repr(thing).encode(), ()


@_parts.register(list)
@_parts.register(tuple)
def _(thing: Iterable[object]) -> tuple[bytes, Iterable[object]]:
    return b"", thing


@_parts.register(array)
@_parts.register(bytearray)
def _(thing: array) -> tuple[bytes, Iterable[object]]:
    return bytes(thing), ()


@_parts.register(set)
@_parts.register(frozenset)
def _(thing: Iterable[object]) -> tuple[bytes, Iterable[object]]:
    return b"", sorted(fingerprint(one) for one in thing)


@_parts.register(dict)
@_parts.register(types.MappingProxyType)
def _(thing: Mapping[object, object]) -> tuple[bytes, Iterable[object]]:
    return b"", (part for name in sorted(thing, key=str) for part in (name, thing[name]))


@_parts.register
def _(thing: ft.partial) -> tuple[bytes, Iterable[object]]:
    return b"", (thing.func, thing.args, thing.keywords)


@_parts.register
def _(thing: types.ModuleType) -> tuple[bytes, Iterable[object]]:
    return thing.__name__.encode(), ()


@_parts.register
def _(thing: types.BuiltinFunctionType) -> tuple[bytes, Iterable[object]]:
    return thing.__qualname__.encode(), ()


@_parts.register
def _(thing: types.MethodType) -> tuple[bytes, Iterable[object]]:
    return b"", (thing.__func__, thing.__self__)


@_parts.register
def _(thing: type) -> tuple[bytes, Iterable[object]]:
    if _known(thing):
        return thing.__qualname__.encode(), ()
    own = [(n, v) for n, v in sorted(vars(thing).items()) if _is_code(v) or _is_value(n, v)]
    return thing.__qualname__.encode(), (*thing.__bases__, own)


@_parts.register
def _(thing: property) -> tuple[bytes, Iterable[object]]:
    return b"", (thing.fget,)


@_parts.register
def _(thing: types.FunctionType) -> tuple[bytes, Iterable[object]]:
    cells = [_content(cell) for cell in thing.__closure__ or ()]
    own = {n: v for n, v in vars(thing).items() if n not in stored(thing.__code__)}
    bound = (thing.__defaults__, thing.__kwdefaults__, cells, *((own,) if own else ()))
    if _known(thing):
        return f"{thing.__module__}.{thing.__qualname__}".encode(), bound
    read = reached(sorted(_names(thing.__code__)), thing.__globals__, _library)
    return b"", (thing.__code__, *bound, read)


@_parts.register
def _(thing: types.CodeType) -> tuple[bytes, Iterable[object]]:
    return thing.co_code, (thing.co_names, thing.co_consts)


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function, or one inside it, may read."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is not filled yet
        return None


def _is_value(name: str, value: object) -> bool:
    """A number, or whatever else, that a class holds for all its objects."""
    return not (name.startswith(("__", "_abc_")) or is_slot(value))


def _is_code(value: object) -> bool:
    return isinstance(value, types.FunctionType | staticmethod | classmethod | property)


def _known(thing: object) -> bool:
    return _library(str(getattr(thing, "__module__", None)))


def _library(module: str) -> bool:
    root = module.partition(".")[0]
    installed = str(getattr(sys.modules.get(root), "__file__", ""))
    return root in LIBRARIES or "site-packages" in installed or "dist-packages" in installed
