r"""Recorded jumps: times and states, as a simulator of Gillespie's kind or a counting experiment gives them."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._paths import Path
from .._types import Given


def from_jumps(times: Given, states: Given, *, stop: Given = None) -> Path:
    r"""The path of a piecewise constant record, on a grid on which `account` prices it exactly, under any drive.

    `times` `(m,)` rise, `states` `(m, d)` hold from each on: the first is the start, a later one a jump (or none, if the
    state stays). `stop` is the end of the record; None: `times[-1]`, at which nothing may jump then. Lists of such arrays
    give many paths, `(paths, ...)`, one `stop` for all.

    The ledger of a jump takes the control at its time, and turns the control between jumps at fixed state,

    $$W = \int \partial_t U(x_t, \lambda_t)\,dt + \sum_j w_j, \qquad
      Q = \sum_j [U(x_{j-1}, \lambda_{t_j}) - U(x_j, \lambda_{t_j}) + w_j] .$$

    The grid has a step about each jump, whose middle is the jump's time; the sums telescope, so that nothing is integrated.
    Price it by the alternating rule: the kernels of steps this uneven mean nothing.

    Raises `ValueError` for shapes that do not fit, times that do not rise, and jumps too close for their precision.
    """
    if isinstance(times, list | tuple) and len(times) and np.ndim(times[0]) == 1:
        return _many(times, states, stop)
    grid, xs = _grid("times", times, states, stop)
    _checks.resolved("times", grid, float(np.diff(grid).min()), _CURE, what="jumps", finest=4)
    return Path(jnp.asarray(grid), jnp.asarray(xs))


_CURE = "Start the clock at zero."


def _many(times: Sequence[Given], states: Sequence[Given], stop: Given) -> Path:
    if len(times) != len(states):
        raise ValueError(
            f"times and states must be lists of one length, got {len(times)} and {len(states)}."
        )
    pairs = [
        _grid(f"times[{i}]", t, x, stop) for i, (t, x) in enumerate(zip(times, states, strict=True))
    ]
    longest = max(len(grid) for grid, _ in pairs)
    grids, paths = [], []
    for grid, xs in pairs:
        rest = np.linspace(grid[-2], grid[-1], longest - len(grid) + 2)[1:]
        _checks.resolved(
            "times",
            grid,
            float(min(np.diff(grid).min(), rest[0] - grid[-2])),
            _CURE,
            what="jumps",
            finest=4,
        )
        grids.append(np.concatenate([grid[:-1], rest]))
        paths.append(np.concatenate([xs, np.repeat(xs[-1:], longest - len(grid), axis=0)]))
    return Path(jnp.asarray(np.stack(grids)), jnp.asarray(np.stack(paths)))


def _grid(name: str, times: Given, states: Given, stop: Given) -> tuple[np.ndarray, np.ndarray]:
    """Edges of steps about the jumps, and the states there."""
    t = np.asarray(times, float)
    x = np.asarray(states)
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(float)
    if x.ndim == 1:
        x = x[:, None]
    if t.ndim != 1 or not len(t) or x.ndim != 2 or len(x) != len(t):
        raise ValueError(
            f"{name} must be (m,) and states (m, d), the state from each time on; got {t.shape} and {x.shape}."
        )
    if not (np.isfinite(t).all() and np.isfinite(x).all()):
        raise ValueError(
            f"{name} and states must be finite. Leave out the rest that fills an array."
        )
    if not (np.diff(t) > 0).all():
        i = int(np.argmin(np.diff(t) > 0))
        raise ValueError(f"{name} must rise strictly: {t[i + 1]} follows {t[i]} (index {i + 1}).")
    jumps = t[1:][(x[1:] != x[:-1]).any(1)]
    xs = x[np.append(True, (x[1:] != x[:-1]).any(1))]
    end = t[-1] if stop is None else float(stop)
    if not end > (jumps[-1] if len(jumps) else t[0]):
        raise ValueError(
            f"stop must be the end of the record, after its last jump at {jumps[-1] if len(jumps) else t[0]}; got {stop}."
        )
    gaps = np.diff(np.concatenate([t[:1], jumps, [end]]))
    half = 0.25 * np.minimum(gaps[:-1], gaps[1:])
    edges = np.stack([jumps - half, jumps + half], 1).reshape(-1)
    grid = np.concatenate([t[:1], edges, [end]])
    if not (np.diff(grid) > 0).all():
        raise ValueError(
            f"{name}: jumps so near to each other are lost in numbers up to {end}. {_CURE}"
        )
    return grid, np.repeat(xs, 2, axis=0)
