"""The front doors: bad input is refused here, once, before any loop starts.

Shapes and types are known while tracing and raise at once. Values are checked with numpy where they are concrete; a
traced value is checked when it arrives, by `equinox.error_if`, outside the loop.
"""

from typing import Any

import chex
import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._types import Array, PyTree


def known(x: Any) -> np.ndarray | None:
    """The value of `x` as numpy, or None while it is being traced."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def floating(name: str, x: Any, *, positive: bool = False) -> Array:
    """`x` as a finite (and positive, if asked) floating array. Whole numbers become JAX's default float; weak types stay."""
    raw = known(x)
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number or an array of numbers, got {_brief(x)}."
        ) from error
    if jnp.issubdtype(x.dtype, jnp.integer):
        x = x.astype(float)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be real, got dtype {x.dtype}. Pass floating-point numbers.")
    allowed = "finite and greater than zero" if positive else "finite"
    if raw is None:
        bad = ~(jnp.isfinite(x) & (x > 0))
        return eqx.error_if(x, bad, f"{name} must be {allowed}.") if positive else x
    bad = ~np.isfinite(raw) | (positive & (raw <= 0))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        at = f" at index {list(where)}" if where else ""
        raise ValueError(f"{name} must be {allowed}, got {raw[where]}{at}.")
    return x


def must(name: str, x: PyTree, good: Any, allowed: str) -> PyTree:
    """Return `x` if `good` holds everywhere, else raise (now if known, when the value arrives if traced)."""
    message = f"{name} must be {allowed}."
    value = known(good)
    if value is None:
        return eqx.error_if(x, jnp.logical_not(jnp.all(good)), message)
    if not value.all():
        raise ValueError(message)
    return x


def key(name: str, value: Any) -> Array:
    """One typed key of `jax.random.key`."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not typed:
        raise TypeError(
            f"{name} must be a typed random key, got {_brief(value)}. Pass jax.random.key(0) "
            "(an old-style PRNGKey becomes one by jax.random.wrap_key_data)."
        )
    if value.ndim:
        raise ValueError(
            f"{name} must be one key, got an array of keys of shape {value.shape}. Use jax.vmap over keys."
        )
    return value


def times(name: str, ts: Any) -> Array:
    """A step grid: one-dimensional, at least two entries, finite, strictly increasing."""
    value = known(ts)
    ts = floating(name, ts)
    if ts.ndim != 1 or ts.shape[0] < 2:
        raise ValueError(
            f"{name} must be a one-dimensional grid of at least two times, got shape {ts.shape}. "
            f"Example: jnp.linspace(0.0, 1.0, 101) for 100 steps."
        )
    if value is not None:
        late = np.flatnonzero(np.diff(value) <= 0)
        if len(late):
            i = int(late[0])
            raise ValueError(
                f"{name} must be strictly increasing, but {name}[{i + 1}] = {value[i + 1]} follows {name}[{i}] = {value[i]}."
            )
        return ts
    rising = jnp.isfinite(ts).all() & (jnp.diff(ts) > 0).all()
    return eqx.error_if(ts, ~rising, f"{name} must be finite and strictly increasing.")


def one_float(**named: Any) -> jnp.dtype:
    """The one strong floating dtype among the named trees; a mix of float32 and float64 is an error naming both."""
    seen: dict[Any, str] = {}
    for name, tree in named.items():
        for path, leaf in jtu.tree_leaves_with_path(tree):
            if eqx.is_inexact_array(leaf) and not getattr(leaf, "weak_type", False):
                seen.setdefault(jnp.dtype(leaf.dtype), name + jtu.keystr(path))
    if len(seen) > 1:
        mix = " and ".join(f"{where} is {dtype}" for dtype, where in seen.items())
        raise TypeError(
            f"One floating-point precision per run: {mix}. Convert one of them with .astype(...)."
        )
    return next(iter(seen), jnp.dtype(jnp.asarray(0.0).dtype))


def scalar(name: str, fn: Any, *args: Any) -> None:
    """`fn(*args)` is one floating scalar (checked by shape only)."""
    out = jax.eval_shape(fn, *args)
    if not (_is_array(out) and out.shape == () and jnp.issubdtype(out.dtype, jnp.floating)):
        raise ValueError(
            f"{name} must return one real scalar of shape (), got {out}. "
            "Sum over coordinates, e.g. 0.5 * jnp.sum((x - lam) ** 2): x has shape (d,), also for d = 1."
        )


def like(name: str, x: Any, fn: Any, *args: Any) -> None:
    """`fn(*args)` has the shape of the state `x`."""
    out = jax.eval_shape(fn, *args)
    if not _is_array(out) or out.shape != x.shape:
        raise ValueError(f"{name} must have the shape of the state, {x.shape}; got {out}.")


def rank(name: str, x: Array, allowed: set[int], shapes: str) -> None:
    try:
        chex.assert_rank(x, allowed)
    except AssertionError as error:
        raise ValueError(f"{name} must have shape {shapes}, got {x.shape}.") from error


def _is_array(out: Any) -> bool:
    return isinstance(out, jax.ShapeDtypeStruct)


def _brief(x: Any) -> str:
    text = repr(x) if not isinstance(x, jax.core.Tracer) else f"a traced value of shape {x.shape}"
    return text if len(text) <= 200 else text[:197] + "..."
