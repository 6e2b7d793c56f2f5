r"""Plain functions as static parts of a pytree, told apart by what they would compute.

A function that a user writes, `lambda x, lam: k * jnp.sum((x - lam) ** 2)`, is no array, and `jax.jit` refuses it as a leaf.
It is no constant either: it reads `k`, which may be another number at the next call, and a compiled program that goes by the
function alone would keep the first. A `Closure` is a pytree without leaves whose structure is the function's code with the
numbers that it reads, looked up whenever it is flattened: what was compiled is used again if and only if these are the same.
"""

import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

from ._types import PyTree

MOST = 1000  # functions, lists and objects that are looked into
LARGEST = 100_000  # bytes of an array that are compared
INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
WRITERS = frozenset({"append", "extend", "insert", "pop", "setdefault", "update"})
# Whose functions read no numbers of a user's
FOREIGN = frozenset(
    "builtins chex diffrax equinox functools interpax itertools jax jaxlib jaxtyping math numpy operator optax "
    "optimistix scipy thermojax".split()
)


@jtu.register_pytree_node_class
class Closure:
    """A plain function, static under every transformation of JAX."""

    def __init__(self, fn: Callable[..., PyTree]):
        self.__wrapped__ = fn  # where `inspect.signature` looks

    def __call__(self, *args: PyTree) -> PyTree:
        return self.__wrapped__(*args)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def tree_flatten(self) -> tuple[tuple[()], "_Code"]:
        return (), _Code(self.__wrapped__)

    @classmethod
    def tree_unflatten(cls, aux: "_Code", leaves: tuple[()]) -> "Closure":
        del leaves
        return cls(aux.fn)


def closed(fn: Any) -> Any:
    """`fn` as a `Closure`, if it is a callable that JAX knows nothing of; all else as it is."""
    if isinstance(fn, type) or not callable(fn):
        return fn
    leaves = jtu.tree_leaves(fn)
    return Closure(fn) if len(leaves) == 1 and leaves[0] is fn else fn


class _Code:
    """A function, equal to another that has the same code and reads the same values."""

    def __init__(self, fn: Callable[..., PyTree]):
        self.fn, self.read = fn, _read(fn, {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and self.read == other.read

    def __hash__(self) -> int:
        return hash(self.read)

    def __repr__(self) -> str:
        return repr(self.fn)


class _Same:
    """A thing that is equal to itself alone."""

    def __init__(self, thing: object):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _read(value: Any, seen: dict[int, object]) -> Hashable:
    """What stands for a value: its digits, if it is a number or holds some, else its identity.

    `seen` holds what was read on the way, by its id and itself: of a thing that is gone another would get the id.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return type(value), repr(value)
    if isinstance(value, np.ndarray) and value.dtype != object and value.nbytes <= LARGEST:
        return value.shape, str(value.dtype), value.tobytes()
    fixed = isinstance(value, jax.Array | np.ndarray | types.ModuleType)
    if fixed or id(value) in seen or len(seen) > MOST:
        return _Same(value)
    seen[id(value)] = value
    if isinstance(value, list | tuple):
        return type(value), *(_read(item, seen) for item in value)
    if isinstance(value, dict):
        return dict, *((_read(k, seen), _read(v, seen)) for k, v in value.items())
    if isinstance(value, functools.partial):
        return functools.partial, *(
            _read(v, seen) for v in (value.func, value.args, value.keywords)
        )
    if isinstance(value, types.MethodType):
        return types.MethodType, _read(value.__func__, seen), _read(value.__self__, seen)
    if isinstance(value, types.FunctionType):
        return _read_function(value, seen)
    if isinstance(value, type):
        return _Same(value), _read(_parts(value), seen)
    return _Same(value), _read(_attributes(value), seen)


def _read_function(fn: types.FunctionType, seen: dict[int, object]) -> Hashable:
    if _foreign(fn.__module__):
        return _Same(fn)
    names, keeps_notes = _names(fn.__code__)
    outer = [(name, fn.__globals__[name]) for name in names if name in fn.__globals__]
    found = [(name, value) for name, value in outer if not _is_foreign(value)]
    for name, module in outer:  # numbers of a user's module, by its attributes
        if isinstance(module, types.ModuleType) and not _is_foreign(module):
            of = vars(module)
            found += [(f"{name}.{n}", of[n]) for n in names if n in of]
    found += zip(fn.__code__.co_freevars, map(_content, fn.__closure__ or ()), strict=True)
    read = [
        (n, _Same(v) if keeps_notes and isinstance(v, list | dict) else _read(v, seen))
        for n, v in found
    ]
    return fn.__code__, tuple(read), _read((fn.__defaults__, fn.__kwdefaults__), seen)


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _attributes(value: object) -> dict[str, object]:
    """The class and the attributes of an object of a user's own class, without those that its call sets itself."""
    cls = type(value)
    # A registered class (every Module) does not change once it is made
    leaves = jtu.tree_leaves(value)
    if _foreign(cls.__module__) or not (len(leaves) == 1 and leaves[0] is value):
        return {}
    slots = [n for c in cls.__mro__ for n, v in vars(c).items() if _is_slot(v)]
    own = {n: getattr(value, n, None) for n in slots}
    return {"class": cls, **_unwritten(cls, {**own, **getattr(value, "__dict__", {})})}


def _parts(cls: type) -> dict[str, object]:
    """What a user's class and those that it comes from hold: functions, and numbers, without those that its call sets."""
    mine = [
        c for c in reversed(cls.__mro__) if not (_foreign(c.__module__) or _installed(c.__module__))
    ]
    held = {n: _plain(v) for c in mine for n, v in vars(c).items() if not _is_slot(v)}
    return _unwritten(
        cls, {n: v for n, v in held.items() if n == "__call__" or not n.startswith("__")}
    )


def _unwritten(cls: type, held: dict[str, object]) -> dict[str, object]:
    """Without the attributes that a call of an object sets: what it writes is not what it reads."""
    call = next((vars(c)["__call__"] for c in cls.__mro__ if "__call__" in vars(c)), None)
    stored = _stored(call.__code__) if isinstance(call, types.FunctionType) else frozenset()
    return {n: v for n, v in held.items() if n not in stored}


def _plain(held: Any) -> Any:
    """The function of a method of any kind."""
    if isinstance(held, staticmethod | classmethod):
        return held.__func__
    return held.fget if isinstance(held, property) else held


def _is_slot(held: object) -> bool:
    return isinstance(held, types.MemberDescriptorType)


@functools.lru_cache(maxsize=4096)
def _installed(module: str) -> bool:
    """Of the standard library, or of a package that was installed: large, and it holds no numbers of a user's."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module.partition(".")[0] in sys.stdlib_module_names or file.startswith(INSTALLED)


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in FOREIGN


def _is_foreign(value: object) -> bool:
    return isinstance(value, types.ModuleType) and _foreign(value.__name__)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], bool]:
    """The names of outer things in a program and in the functions within it; whether it writes into lists (of its calls,
    say): what it writes is not what it reads."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    names = dict.fromkeys([*code.co_names, *(n for names, _ in inner for n in names)])
    writes = any(step.opname == "STORE_SUBSCR" for step in dis.get_instructions(code))
    notes = writes or not WRITERS.isdisjoint(names) or any(notes for _, notes in inner)
    return tuple(n for n in names if n not in _stored(code)), notes


@functools.lru_cache(maxsize=4096)
def _stored(code: types.CodeType) -> frozenset[str]:
    """The globals and attributes that a program sets."""
    steps = dis.get_instructions(code)
    return frozenset(s.argval for s in steps if s.opname in ("STORE_GLOBAL", "STORE_ATTR"))
