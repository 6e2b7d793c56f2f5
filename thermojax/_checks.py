"""The front doors: bad input is refused here, once, before any loop starts.

Shapes and types are known while tracing and raise at once. Values are checked with numpy where they are concrete. A traced
value that is not allowed becomes NaN, which marks everything that is made of it (`ok=False`, estimators that stop): nothing
is called back to the host, so programs can be exported and cached. With THERMOJAX_CHECKS=raise in the environment it raises
when it arrives, by such a callback.
"""

import contextlib
import inspect
import operator
import os
from collections.abc import Iterator
from typing import Any

import chex
import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._arrays import array, brief, native
from ._indices import traced
from ._spread import spreads
from ._types import Array, Density, PyTree


def known(x: Any) -> np.ndarray | None:
    """The value of `x` as numpy, or None while it is being traced."""
    return None if tracing(x) else np.asarray(native(x))


def tracing(tree: PyTree) -> bool:
    """Whether a value in it is being traced."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jtu.tree_leaves(tree))


def floating(name: str, x: Any, *, positive: bool = False) -> Array:
    """`x` as a finite (and positive, if asked) floating array. Whole numbers become JAX's default float; weak types stay."""
    if type(x) is int:
        x = float(x)
    x, raw = array(name, x), known(x)
    if jnp.issubdtype(x.dtype, jnp.integer):
        x = x * 1.0 if x.weak_type else x.astype(float)  # a Python number stays weak
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be real, got dtype {x.dtype}. Pass floating-point numbers.")
    allowed = "finite and greater than zero" if positive else "finite"
    if x.size == 0:
        raise ValueError(f"{name} must hold at least one number, got shape {x.shape}.")
    if raw is None:
        return marked(x, jnp.isfinite(x) & (x > 0), f"{name} must be {allowed}.") if positive else x
    least = jnp.finfo(x.dtype).tiny  # below it programs calculate with zero
    bad = ~np.isfinite(raw) | (positive & (raw < least))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        at = f" at index {list(where)}" if where else ""
        zero = f": as good as zero in {x.dtype}" if 0 < raw[where] < least else ""
        raise ValueError(f"{name} must be {allowed}, got {raw[where]}{at}{zero}.")
    return x


FINEST = 32  # steps must be this many times the rounding of the numbers


def resolved(
    name: str,
    x: Any,
    step: float,
    cure: str = "",
    *,
    what: str = "steps",
    finest: float = FINEST,
    dtype: Any = None,
) -> None:
    """Refuse numbers, in the precision in which they were given, whose differences JAX's floats would swallow.

    `step` is the size of the differences that matter: the shortest step of a clock, the typical one of a position, the
    `what` of the message. It must be `finest` times the rounding of the largest number in `dtype`, JAX's default float.
    """
    dtype = jnp.asarray(0.0).dtype if dtype is None else dtype
    top = float(np.abs(np.asarray(x, float)).max(initial=0))
    if not np.isfinite(top):
        return
    with np.errstate(over="ignore", invalid="ignore"):
        rounding = float(np.spacing(np.asarray(top).astype(dtype)))
    if np.isfinite(rounding) and not 0 < step < finest * rounding:
        return
    wider = 'un jax.config.update("jax_enable_x64", True) before anything else.'
    raise ValueError(
        f"{name}: {what} of {step:.2g} in numbers up to {top:.6g} are lost in {dtype}, which rounds these to "
        f"{rounding:.1g}. {cure + ' Or r' if cure else 'R'}{wider}"
    )


def shortened(x: Any) -> bool:
    """Whether `x`, of numpy or Python, loses digits as a JAX array: float64 or whole numbers that become float32."""
    if isinstance(x, jax.Array):
        return False
    kind = np.asarray(x).dtype
    exact = kind.kind in "iu" and kind.itemsize > 2
    return (
        kind.kind in "iuf" and (exact or kind.itemsize > 4) and jnp.asarray(0.0).dtype.itemsize < 8
    )


def must(name: str, x: PyTree, good: Any, allowed: str, got: Any = None) -> PyTree:
    """`x` if `good` holds everywhere, else an error, or NaN where that is traced."""
    message = f"{name} must be {allowed}"
    value = known(good)
    if value is None:
        return jtu.tree_map(lambda v: marked(v, jnp.all(good), message + "."), x)
    if not value.all():
        got = None if got is None else known(got)
        first = "" if got is None else f", got {got[~value][0]}"
        raise ValueError(f"{message}{first}.")
    return x


def marked(x: Array, good: Array, message: str) -> Array:
    """`x`, NaN unless `good`: element by element, or as a whole."""
    if os.environ.get("THERMOJAX_CHECKS") == "raise":
        return eqx.error_if(x, jnp.logical_not(jnp.all(good)), message)
    return jnp.where(good, x, jnp.nan)


def whole(name: str, value: Any, what: str, least: int = 1) -> int:
    """A whole number, of Python or of an array library, of at least `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be {what}, at least {least}; got {brief(value)}.")
    return number


def takes(name: str, fn: Any, *args: str, cure: str = "") -> None:
    """`fn` can be called with these arguments (where its signature can be read)."""
    wanted = f"{name} must be a callable ({', '.join(args)})"
    if isinstance(fn, type):
        raise TypeError(f"{wanted}, got the class {fn.__name__}. Pass an instance.")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(
            f"{wanted}, got one with the signature {signature}. {cure}".rstrip()
        ) from error


def density(name: str, value: Any) -> None:
    verbs = (getattr(value, verb, None) for verb in ("sample", "log_prob"))
    if isinstance(value, type) or not all(map(callable, verbs)):
        raise TypeError(
            f"{name} must be a density with .sample(key) and .log_prob(x), got {brief(value)}. "
            "See thermojax.densities."
        )


def draw(name: str, value: Density) -> jax.ShapeDtypeStruct:
    """One state as the density draws it, by shape and dtype: `(d,)`, floating."""
    x = shapes(f"{name}.sample(key)", value.sample, jax.random.key(0))
    if not isinstance(x, jax.ShapeDtypeStruct) or len(x.shape) != 1 or not x.shape[0]:
        raise ValueError(
            f"{name}.sample(key) must return one state of shape (d,), also for d = 1; got {x}."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}.sample(key) must return floating-point numbers, got {x.dtype}. Use .astype(float)."
        )
    return x


def without_kernel(name: str) -> str:
    """What a step says that has no log-ratio."""
    return (
        f'rule="kernel" is the log-ratio of the kernels of a step, such as Euler–Maruyama\'s; got solver={name}, which has '
        "none in closed form. Use solver=None or diffrax.Euler() with it."
    )


def key(name: str, value: Any) -> Array:
    """One typed key of `jax.random.key`."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not typed:
        raise TypeError(
            f"{name} must be a typed random key, got {brief(value)}. Pass jax.random.key(0) "
            "(an old-style PRNGKey becomes one by jax.random.wrap_key_data)."
        )
    if value.ndim:
        raise ValueError(
            f"{name} must be one key, got an array of keys of shape {value.shape}. Use jax.vmap over keys."
        )
    return value


def times(name: str, ts: Any) -> Array:
    """A step grid: one-dimensional, at least two entries, finite, strictly increasing."""
    shape = array(name, ts).shape
    if len(shape) != 1 or shape[0] < 2:
        floating(name, ts)  # what is no number is said first
        raise ValueError(
            f"{name} must be a one-dimensional grid of at least two times, got shape {shape}. "
            f"Example: jnp.linspace(0.0, 1.0, 101) for 100 steps."
        )
    return grids(name, ts)


def grids(name: str, ts: Any) -> Array:
    """A step grid `(n,)`, or one for each path, `(paths, n)`."""
    given, ts = known(ts), floating(name, ts)
    value = known(ts)
    if ts.ndim not in (1, 2) or ts.shape[-1] < 2:
        raise ValueError(
            f"{name} must be a grid of at least two times, or one for each path, got shape {ts.shape}. "
            f"Example: jnp.linspace(0.0, 1.0, 101) for 100 steps."
        )
    if value is None:
        rising = jnp.isfinite(ts).all() & (jnp.diff(ts) > 0).all()
        return marked(ts, rising, f"{name} must be finite and strictly increasing.")
    assert given is not None
    if (np.diff(given) > 0).all():
        step = float(np.min(np.diff(given)))
        cure = "Start the clock at zero, that of the grid and that of the protocol."
        resolved(name, given, step, cure, finest=8, dtype=ts.dtype)
    late = np.argwhere(np.diff(value) <= 0)
    if len(late):
        *row, i = map(int, late[0])
        at, of = ", ".join(map(str, [*row, i + 1])), ", ".join(map(str, [*row, i]))
        raise ValueError(
            f"{name} must be strictly increasing, but {name}[{at}] = {value[(*row, i + 1)]} follows "
            f"{name}[{of}] = {value[(*row, i)]}."
        )
    return ts


def falling(name: str, x: Any) -> Array:
    """The levels of a noise schedule `(N,)`, which must fall strictly; those that do not become NaN while tracing."""
    if callable(x):
        raise TypeError(f"{name} must be the levels (N,), got {brief(x)}. Call it: schedule().")
    x = floating(name, x)
    rank(name, x, {1}, "(N,), one log signal-to-noise ratio per step")
    value = known(x)
    if value is None:
        # times one or NaN: so is the gradient
        return x * jnp.where((jnp.diff(x) < 0).all(), 1.0, jnp.nan)
    if not (np.diff(value) < 0).all():
        i = int(np.flatnonzero(~(np.diff(value) < 0))[0])
        raise ValueError(
            f"{name} must fall strictly, from data (high) to noise (low): it does not after index {i}, where "
            f"{value[i + 1]:.6g} follows {value[i]:.6g}. Sort it, without repetitions."
        )
    return x


def levels(name: str, x: Any) -> Array:
    """Levels of noise to be looked at one by one, `(n,)`, in any order."""
    if callable(x):
        raise TypeError(f"{name} must be levels (n,), got {type(x).__name__}. Call it: schedule().")
    x = floating(name, x)
    rank(name, x, {1}, "(n,), log signal-to-noise ratios (one: jnp.array([lam]))")
    return x


def plan(lam: Any, tau: Any) -> tuple[Array, Array]:
    """The levels of a chain and the variances of its generation, `(N,)` each. Values are checked where they are known, so
    that nothing is called back from a training loop."""
    lam = falling("lam", lam)
    if isinstance(tau, str):
        raise TypeError(
            f"tau must be the variances (N,), got {tau!r}: thermojax.schedules.variances(lam, curve, tau={tau!r})."
        )
    tau = floating("tau", tau, positive=known(tau) is not None)
    if tau.shape != lam.shape:
        raise ValueError(f"lam and tau must both have shape (N,), got {lam.shape} and {tau.shape}.")
    return lam, tau


def one_float(**named: Any) -> jnp.dtype:
    """The one strong floating dtype among the named trees; a mix of float32 and float64 is an error naming both.

    Leaves of half precision belong to networks that convert what they take and return; their results are checked.
    """
    seen: dict[Any, str] = {}
    for name, tree in named.items():
        for path, leaf in jtu.tree_leaves_with_path(tree):
            number = eqx.is_inexact_array(leaf) or _is_array(leaf)
            half = number and path and leaf.dtype.itemsize < 4
            if number and not half and not getattr(leaf, "weak_type", False):
                seen.setdefault(jnp.dtype(leaf.dtype), name + jtu.keystr(path))
    if len(seen) > 1:
        mix = " and ".join(f"{where} is {dtype}" for dtype, where in seen.items())
        raise TypeError(
            f"One floating-point precision per run: {mix}. Convert one of them with .astype(...)."
        )
    return next(iter(seen), jnp.dtype(jnp.asarray(0.0).dtype))


_SUM = "Sum over coordinates, e.g. 0.5 * jnp.sum((x - lam) ** 2): x has shape (d,), also for d = 1."


def scalar(name: str, fn: Any, *args: Any, cure: str = _SUM) -> None:
    """`fn(*args)` is one floating scalar (checked by shape only)."""
    out = shapes(name, fn, *args)
    if not (_is_array(out) and out.shape == () and jnp.issubdtype(out.dtype, jnp.floating)):
        raise ValueError(
            f"{name} must return one real scalar of shape (), got {_spell(out)}. {cure}"
        )


def like(name: str, x: Any, fn: Any, *args: Any) -> None:
    """`fn(*args)` has the shape of the state `x`."""
    out = shapes(name, fn, *args)
    if not _is_array(out) or out.shape != x.shape:
        raise ValueError(
            f"{name} must return an array of the shape of the state, {x.shape}; got {_spell(out)}."
        )


def not_spread(name: str, fn: Any, x: Any, lam: Any) -> None:
    """`fn(x, lam)` takes as many coordinates as there are, and as many controls."""
    if spreads(fn, x, lam):
        controls = _spell(jax.eval_shape(lambda a: a, lam))
        raise ValueError(
            f"{name} spreads one number over several: the state has shape {x.shape}, the control {controls}. Start from as "
            "many coordinates as there are controls (dim= of Boltzmann, a mean of a Gaussian); or, if each is meant to meet "
            "the one, write x[0], or lam[0], for it."
        )


def shapes(name: str, fn: Any, *args: Any) -> Any:
    """Shapes and dtypes of `fn(*args)`; an error on the way says what was being called.

    An index that is out of bounds is refused, which JAX would move to the nearest that is not.
    """
    try:
        out, outside = traced(fn, *args)
    except Exception as error:
        given = ", ".join(_spell(jax.eval_shape(lambda a: a, arg)) for arg in args)
        error.add_note(f"thermojax was tracing {name} with {given}.")
        raise
    if outside is not None:
        given = ", ".join(_spell(jax.eval_shape(lambda a: a, arg)) for arg in args)
        raise IndexError(
            f"{name} reads {outside}, and JAX would take the nearest entry instead. It was given {given}: states have the "
            "coordinates that the initial density draws (give it as many as the potential reads; Boltzmann(..., dim=)), "
            "controls the shape that the protocol returns."
        )
    return out


def rank(name: str, x: Array, allowed: set[int], wanted: str) -> None:
    try:
        chex.assert_rank(x, allowed)
    except AssertionError as error:
        raise ValueError(f"{name} must have shape {wanted}, got {x.shape}.") from error


def point(name: str, x: Array, dim: int) -> None:
    """`x` is one point of `dim` coordinates."""
    if jnp.shape(x) != (dim,):
        raise ValueError(
            f"{name} takes one point of shape ({dim},), got shape {jnp.shape(x)}. Use jax.vmap for many points."
        )


def _is_array(out: Any) -> bool:
    return isinstance(out, jax.ShapeDtypeStruct)


def _spell(out: Any) -> str:
    """Shapes and dtypes in a line."""
    return str(jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", out))


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Room for a library that mixes whole numbers and floats, or ranks, which a session with strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
