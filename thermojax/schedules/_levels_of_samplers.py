r"""Levels as the usual samplers have them: EDM's $\sigma = s/a$, and the whole timesteps of a table of DDPM."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, ArrayLike
from ..diffusion import AbstractSchedule

_ROUNDING = 1e-3  # of a schedule's span: so far outside the time of its first or last level may be


def to_sigmas(lam: Array) -> Array:
    r"""$\sigma_k = s_k/a_k = e^{-\lambda_k/2}$ of falling levels, `(N,)`, so rising: step k at index k − 1.

    EDM's samplers run down, and end at zero: `jnp.append(to_sigmas(lam)[::-1], 0.0)`.
    """
    return jnp.exp(-0.5 * _checks.falling("lam", lam))


def from_sigmas(sigmas: Array) -> Array:
    r"""The levels $\lambda = -2 \ln\sigma$, falling, of noises `(N,)` that rise or fall strictly.

    A zero at the end, clean data, is no level: leave it off.
    """
    sigmas = _checks.floating("sigmas", sigmas, positive=True)
    _checks.rank("sigmas", sigmas, {1}, "(N,), one noise per step")
    lam = jnp.where(sigmas[-1] < sigmas[0], sigmas[::-1], sigmas)
    return _checks.falling("lam = -2 ln(sigmas)", -2 * jnp.log(lam))


def to_timesteps(lam: ArrayLike, schedule: AbstractSchedule | ArrayLike) -> Array:
    r"""The times of falling levels, `(N,)`: rising.

    `schedule` is one of `thermojax.diffusion`, whose `time` is taken, or the table $\bar\alpha_t = a^2$ `(T,)` of DDPM
    (`alphas_cumprod`, t = 0 … T − 1), whose entries nearest in $\lambda$ are, as whole numbers. Two levels nearest to one
    entry, and levels beyond its first or last, are refused, where their values are known.
    """
    lam = _checks.falling("lam", lam)
    if isinstance(schedule, AbstractSchedule):
        time = getattr(schedule, "time", None)
        if not callable(time):
            raise TypeError(
                f"schedule must have the method time(lam), which {type(schedule).__name__} has not. Or pass a table."
            )
        return _within("lam: its times", jnp.asarray(time(lam)), schedule)
    table = _table(schedule).astype(lam.dtype)
    ts = jnp.argmin(jnp.abs(table[None] - lam[:, None]), axis=1)
    value, levels = _checks.known(ts), _checks.known(table)
    if value is not None and levels is not None:
        steps = np.abs(np.diff(levels, prepend=np.nan, append=np.nan))  # of one entry there is none
        at = np.asarray(lam)
        inside = ~((at > levels[0] + steps[1] / 2) | (at < levels[-1] - steps[-2] / 2))
        allowed = (
            f"within the levels of the table, {levels[-1]:.6g} to {levels[0]:.6g}, and half a step: keep them inside (low=, "
            "high= of a LogSNR)"
        )
        _checks.must("lam", lam, inside, allowed, lam)
    if value is not None and (np.diff(value) == 0).any():
        i = int(np.flatnonzero(np.diff(value) == 0)[0])
        raise ValueError(
            f"lam: the levels at index {i} and {i + 1} are both nearest to timestep {value[i]} of {table.shape[0]}. "
            "Take fewer steps, or keep the levels inside of the table's (low=, high= of a LogSNR)."
        )
    return ts


def from_timesteps(timesteps: ArrayLike, schedule: AbstractSchedule | ArrayLike) -> Array:
    r"""The levels `(N,)`, falling, at `timesteps` that rise or fall strictly: the inverse of `to_timesteps`."""
    ts = _checks.array("timesteps", timesteps)
    _checks.rank("timesteps", ts, {1}, "(N,), one time per step")
    ts = jnp.where(ts[-1] < ts[0], ts[::-1], ts)
    if isinstance(schedule, AbstractSchedule):
        ts = _within("timesteps", _checks.floating("timesteps", ts), schedule)
        return _checks.falling("lam", jax.vmap(schedule.log_snr)(ts))
    table = _table(schedule)
    if not jnp.issubdtype(ts.dtype, jnp.integer):
        raise TypeError(f"timesteps of a table must be whole numbers, got {ts.dtype}.")
    inside = (ts >= 0) & (ts < table.shape[0])
    lam = _checks.must("timesteps", table[ts], inside, f"0 to {table.shape[0] - 1}", ts)
    return _checks.falling("the levels of timesteps", lam)


def _within(name: str, ts: Array, schedule: AbstractSchedule) -> Array:
    """Times of the schedule, but for rounding."""
    t0, t1 = (jnp.asarray(t).astype(ts.dtype) for t in (schedule.t0, schedule.t1))
    far = _ROUNDING * (t1 - t0)
    inside = (ts >= t0 - far) & (ts <= t1 + far)
    ends = [_checks.known(t) for t in (t0, t1)]
    span = "" if None in ends else f", {ends[0]:.6g} to {ends[1]:.6g}"
    return _checks.must(name, ts, inside, f"within those of the schedule{span}", ts)


def _table(alphas_cumprod: ArrayLike) -> Array:
    r"""$\ln \bar\alpha/(1 - \bar\alpha)$; of numpy's doubles in double precision, as $1 - \bar\alpha$ needs it."""
    table = _checks.floating("schedule", alphas_cumprod, positive=True)
    _checks.rank("schedule", table, {1}, "(T,), the table of alphas_cumprod")
    fine = isinstance(alphas_cumprod, np.ndarray)
    lib, given = (np, np.asarray(alphas_cumprod)) if fine else (jnp, table)
    _checks.must("schedule (alphas_cumprod)", table, given < 1, "below one", given)
    levels = lib.log(given) - lib.log1p(-given)
    return _checks.falling(
        "the levels of schedule (alphas_cumprod)", jnp.asarray(levels).astype(table.dtype)
    )
