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
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

from ._types import PyTree

MOST = 1000  # functions, lists and objects that are looked into
LARGEST = 100_000  # bytes of an array that are compared
INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
WRITERS = frozenset("add append appendleft extend insert pop setdefault update".split())
SILENT = ("CACHE", "RESUME", "NOP", "EXTENDED_ARG", "PRECALL")
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

    def __call__(self, *args: PyTree, **named: PyTree) -> PyTree:
        return self.__wrapped__(*args, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def tree_flatten(self) -> tuple[tuple[()], "Code"]:
        return (), Code(self.__wrapped__)

    @classmethod
    def tree_unflatten(cls, aux: "Code", leaves: tuple[()]) -> "Closure":
        del leaves
        return cls(aux.fn)


def closed(fn: Any) -> Any:
    """`fn` as a `Closure`, if it is a callable that JAX knows nothing of; all else as it is."""
    if isinstance(fn, type) or not callable(fn):
        return fn
    leaves = jtu.tree_leaves(fn)
    return Closure(fn) if len(leaves) == 1 and leaves[0] is fn else fn


class Code:
    """A function, or an object, equal to another that has the same code and reads the same values."""

    def __init__(self, fn: Any):
        self.fn, self.read = fn, _read(fn, {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and self.read == other.read

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
    if isinstance(value, array | bytearray):
        return type(value), bytes(value)
    fixed = isinstance(value, jax.Array | np.ndarray | types.ModuleType)
    if fixed or id(value) in seen or len(seen) > MOST:
        return _Same(value)
    seen[id(value)] = value
    if isinstance(value, list | tuple | deque):
        return type(value), *(_read(item, seen) for item in value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset(_read(item, seen) for item in value)
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
    wrapped = getattr(value, "__wrapped__", None) if foreign(type(value).__module__) else None
    return _Same(value), _read(_attributes(value) if wrapped is None else wrapped, seen)


def _read_function(fn: types.FunctionType, seen: dict[int, object]) -> Hashable:
    if foreign(fn.__module__):  # what it was made of may be a user's
        within = [_content(cell) for cell in fn.__closure__ or ()]
        made = [v for v in within if isinstance(v, types.FunctionType | functools.partial | tuple)]
        return _Same(fn), _read(made, seen)
    names, notes = _names(fn.__code__), _notes(fn.__code__)
    found = reached(names, fn.__globals__, foreign)
    found += zip(fn.__code__.co_freevars, map(_content, fn.__closure__ or ()), strict=True)
    read = [(n, _Same(v) if n in notes else _read(v, seen)) for n, v in found]
    own = {n: v for n, v in vars(fn).items() if n not in stored(fn.__code__)}
    return fn.__code__, tuple(read), _read((fn.__defaults__, fn.__kwdefaults__, own), seen)


def reached(
    names: Iterable[str], within: Mapping[str, object], known: Callable[[str], bool]
) -> list[tuple[str, object]]:
    """What a program with these names may read of its globals, and of the modules among them by their attributes: of those
    that are not `known` by their name."""
    found, at, looked = [], [("", within)], set()
    for prefix, of in at:
        for name in names:
            value = of.get(name)
            if (
                name not in of
                or (module := isinstance(value, types.ModuleType))
                and known(value.__name__)
            ):
                continue
            found.append((prefix + name, value))
            if module and value.__name__ not in looked:
                looked.add(value.__name__)
                at.append((f"{prefix}{name}.", vars(value)))
    return found


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
    if foreign(cls.__module__) or not (len(leaves) == 1 and leaves[0] is value):
        return {}
    slots = [n for c in cls.__mro__ for n, v in vars(c).items() if is_slot(v)]
    own = {n: getattr(value, n, None) for n in slots}
    return {"class": cls, **_unwritten(cls, {**own, **getattr(value, "__dict__", {})})}


def _parts(cls: type) -> dict[str, object]:
    """What a user's class and those that it comes from hold: functions, and numbers, without those that its call sets."""
    mine = [
        c for c in reversed(cls.__mro__) if not (foreign(c.__module__) or _installed(c.__module__))
    ]
    held = {n: _plain(v) for c in mine for n, v in vars(c).items() if not is_slot(v)}
    return _unwritten(
        cls, {n: v for n, v in held.items() if n == "__call__" or not n.startswith("__")}
    )


def _unwritten(cls: type, held: dict[str, object]) -> dict[str, object]:
    """Without the attributes that a call of an object sets: what it writes is not what it reads."""
    call = next((vars(c)["__call__"] for c in cls.__mro__ if "__call__" in vars(c)), None)
    written = stored(call.__code__) if isinstance(call, types.FunctionType) else frozenset()
    return {n: v for n, v in held.items() if n not in written}


def _plain(held: Any) -> Any:
    """The function of a method of any kind."""
    if isinstance(held, staticmethod | classmethod):
        return held.__func__
    return held.fget if isinstance(held, property) else held


def is_slot(held: object) -> bool:
    return isinstance(held, types.MemberDescriptorType)


@functools.lru_cache(maxsize=4096)
def _installed(module: str) -> bool:
    """Of the standard library, or of a package that was installed: large, and it holds no numbers of a user's."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module.partition(".")[0] in sys.stdlib_module_names or file.startswith(INSTALLED)


def foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in FOREIGN


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [const for const in code.co_consts if isinstance(const, types.CodeType)]


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names of outer things in a program and in the functions within it, without those that it sets."""
    names = dict.fromkeys([*code.co_names, *(n for c in _inner(code) for n in _names(c))])
    return tuple(n for n in names if n not in stored(code))


@functools.lru_cache(maxsize=4096)
def _notes(code: types.CodeType) -> frozenset[str]:
    """The outer things that a program writes into, a list of its calls say: what it writes is not what it reads."""
    steps = [s for s in dis.get_instructions(code) if s.opname not in SILENT]
    found = set()
    for i, step in enumerate(steps):
        if step.argval in WRITERS and step.opname in ("LOAD_METHOD", "LOAD_ATTR"):
            found.add(_root(steps, i, 1))
        elif step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            # with its index, and after `x[i] += 1` with the value, the last on the stack
            found.add(_root(steps, i, 3 if steps[i - 1].opname == "SWAP" else 2))
    outer = found & {*code.co_names, *code.co_freevars, *code.co_cellvars}
    return frozenset(outer).union(*map(_notes, _inner(code)))


def _root(steps: list[dis.Instruction], end: int, depth: int) -> str | None:
    """The name with which the expression begins that made the value so deep on the stack: `x` of `x.y[0]`."""
    held = 0
    for step in reversed(steps[:end]):
        held += dis.stack_effect(step.opcode, step.arg, jump=False)
        if held >= depth:
            return step.argval if isinstance(step.argval, str) else None
    return None


@functools.lru_cache(maxsize=4096)
def stored(code: types.CodeType) -> frozenset[str]:
    """The globals and attributes that a program sets."""
    steps = dis.get_instructions(code)
    return frozenset(s.argval for s in steps if s.opname in ("STORE_GLOBAL", "STORE_ATTR"))
