"""The grid of a run against the span of its protocol."""

import warnings

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._loss import in_search
from ._process import Process, a_process, each_protocol, gaps, span, spans
from ._types import Array, ArrayLike, Drive, Times
from .protocols import AbstractProtocol


def within(process: Process, ts: Array) -> None:
    """Refuse a grid, or one of a batch of grids, that leaves its protocol's span, where both are known.

    A grid that ends elsewhere, where the control is not `after` (or `before`), is warned of, and refused in a search: the
    jump that remains is not part of the run.
    """
    protocol = process.protocol
    if not isinstance(protocol, AbstractProtocol):
        return
    of = spans(process)
    if _checks.tracing((ts, of)):
        return
    early, late = gaps(ts, *of)
    grid, t0, t1 = map(np.asarray, (ts, *of))
    out = np.atleast_1d((early < 0) | (late < 0))
    starts, stops = grid[..., 0], grid[..., -1]
    if out.any():
        i = int(np.argmax(out))
        t0, t1, first, last = (v if np.ndim(v) == 0 else v[i] for v in (t0, t1, starts, stops))
        whose = f" (path {i})" if len(out) > 1 else ""
        raise ValueError(
            f"ts must lie within the protocol's span [{t0}, {t1}], got a grid from {first} to {last}{whose}. "
            "Extend the protocol, or shorten the grid."
        )
    for name, gap, t, end in (("before", early, starts, t0), ("after", late, stops, t1)):
        if np.any(gap > 0):
            i = int(np.nanargmax(gap))
            t, end = (v if np.ndim(v) == 0 else v[i] for v in (t, end))
            _unfinished(process, name, t, end, None if ts.ndim == 1 else i)


def _unfinished(
    process: Process, name: str, t: ArrayLike, end: ArrayLike, path: int | None
) -> None:
    """Say that a run, that of this path or of any, does not reach `before` or `after`, if that makes a difference."""

    def apart(protocol: Drive) -> Array:
        outside = getattr(protocol, name)
        pairs = zip(jtu.tree_leaves(protocol(t)), jtu.tree_leaves(outside), strict=True)
        return jnp.any(jnp.stack([_differ(a, b) for a, b in pairs]))

    with jax.ensure_compile_time_eval():
        differs = _checks.known(each_protocol(process, apart))
    if differs is None:
        return
    own = path is not None and differs.ndim > 0
    if not (np.any(differs[path] if own else differs) or in_search()):
        return
    whose = "" if path is None else f" of path {path}"
    where = "starts" if name == "before" else "ends"
    message = (
        f"the grid{whose} {where} at t = {t} and the protocol at {end}: the control there is not its `{name}`, and the turn "
        f"to it is no part of the run's work. Let ts {where[:-1]} at {end} (jnp.linspace(t0, t1, n + 1), not arange), or "
        "give the protocol of the part that is run."
    )
    if in_search():
        raise ValueError(f"In a search the grid must reach the ends of the protocol: {message}")
    warnings.warn(f"A part of the protocol is run: {message}", UserWarning, stacklevel=5)


def _differ(a: Array, b: Array) -> Array:
    """Whether two controls are not the same number."""
    eps = jnp.finfo(jnp.result_type(a, float)).eps
    size = jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b)))
    return jnp.any(jnp.abs(a - b) > 100 * eps * size)


def reverse_grid(process: Process, ts: Times) -> Times:
    r"""The mirrored step grid $t_0 + t_1 - t$, last first, `(steps + 1,)` as `ts`: Crooks at finite steps compares a path
    with one on it. Raises `ValueError` where the paths have spans of their own.
    """
    a_process("process", process)
    ts = _checks.times("ts", ts)
    within(process, ts)
    span(process.protocol, "reverse_grid")
    t0, t1 = spans(process)
    middle = t0 + t1
    if jnp.ndim(middle):
        alike = _checks.known(middle)
        if alike is None or not (alike == alike[0]).all():
            raise ValueError(
                "reverse_grid mirrors a grid about the middle of one span, and the protocols of these paths have spans of "
                "their own. Give each path its grid."
            )
        middle = middle[0]
    return (middle - ts)[::-1]
