r"""Noise schedules: the log signal-to-noise ratios of a chain, decreasing by construction."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._types import Array, ArrayLike, PyTree
from ..diffusion import EDM, AbstractSchedule, Cosine, Linear, Uniform
from ..protocols import AbstractSearchable

LOWEST, HIGHEST = -20.0, 20.0


class LogSNR(AbstractSearchable):
    r"""$\lambda_1 > \dots > \lambda_N$, all free between `low` and `high`; calling it gives the array `(N,)`.

    $x_k = a_k x_0 + s_k \epsilon$ with $a^2 = 1/(1 + e^{-\lambda})$, $s^2 = 1/(1 + e^{\lambda})$. The N + 1 gaps, the outer
    two included, are the softmax of `logits` times the span, so that a search moves freely and stays in order and in
    range. Keep the range to what the network was trained on: outside, its error is not known. `low` and `high` are limits,
    without a derivative.
    """

    logits: Array
    low: Array
    high: Array

    def __init__(self, logits: Array, low: ArrayLike, high: ArrayLike):
        least, most = _checks.known(low), _checks.known(high)
        if least is not None and most is not None and not -np.inf < least < most < np.inf:
            raise ValueError(
                f"low must lie below high, both finite, got low={least} and high={most}. "
                "LogSNR(logits, low, high): low is the noisy end."
            )
        self.logits = _checks.floating("logits", logits)
        _checks.rank(
            "logits",
            self.logits,
            {1},
            "(N + 1,), one more than levels; jax.vmap makes many schedules",
        )
        # of the precision of the logits from the start: a loop that moves them would make it so, and compile again
        self.low, self.high = (jnp.asarray(end, self.logits.dtype) for end in (low, high))
        if least is None or most is None:
            message = "LogSNR.low must lie below LogSNR.high."
            self.high = _checks.marked(self.high, self.low < self.high, message)

    @jit
    def __call__(self) -> Array:
        # Limits are leaves, so that new ones do not compile anew, and held, so that a descent over all leaves leaves them.
        low, high = (jax.lax.stop_gradient(end).astype(self.logits.dtype) for end in self.given())
        gaps = jax.nn.softmax(self.logits) * (high - low)
        return high - jnp.cumsum(gaps)[:-1]

    def given(self) -> tuple[PyTree, PyTree]:
        """What a search must not change: the limits."""
        return self.low, self.high

    @classmethod
    def from_array(
        cls,
        lam: Array,
        *,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        """The schedule with these values, which must fall strictly and lie inside (`low`, `high`).

        With `clip=True` those outside are brought inside, evenly between the nearest level that is and the limit, as a
        standard schedule has to be for a network that was trained on less. While tracing, values that do not fit make it
        NaN.
        """
        lam = _checks.falling("lam", lam)
        lam = lam.astype(jnp.float32) if lam.dtype.itemsize < 4 else lam  # the limits may be beyond
        if clip:
            lam = _clipped(lam, low, high)
        value, least, most = (_checks.known(v) for v in (lam, low, high))
        if value is not None and least is not None and most is not None:
            if not (value.max() < most and value.min() > least):
                raise ValueError(
                    f"lam must lie inside (low, high) = ({least}, {most}), got {value.min():.6g} to {value.max():.6g}. Give "
                    "a low= and a high= that hold it, or clip=True to bring inside what is not."
                )
        return cls(_gaps(lam, *(jnp.asarray(end, lam.dtype) for end in (low, high))), low, high)

    @classmethod
    def of(
        cls,
        schedule: AbstractSchedule,
        steps: int,
        *,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        r"""The levels of a schedule in time at N times of equal distance, e.g. `LogSNR.of(diffusion.Linear(), 25)`.

        One that starts from clean data has them after each of N equal steps, at $t = t_0 + (t_1 - t_0)\,k/N$: level 0 is
        the data. Any other has its own first level for its first, at $t = t_0 + (t_1 - t_0)\,(k - 1)/(N - 1)$.
        Levels outside of (`low`, `high`) are refused, or brought inside by `clip=True`: see `from_array`.
        """
        steps = _steps(steps)
        if not isinstance(schedule, AbstractSchedule):
            raise TypeError(
                f"schedule must be a schedule of thermojax.diffusion, such as Linear(), got {type(schedule).__name__}. "
                "An array of levels: LogSNR.from_array(lam)."
            )
        return cls.from_array(_levels(schedule, steps), low=low, high=high, clip=clip)

    def stretched(self, top: ArrayLike, bottom: ArrayLike) -> "LogSNR":
        r"""The same shape with other ends: $\lambda$ mapped linearly so that $\lambda_1$ = `top`, $\lambda_N$ = `bottom`."""
        lam = self()
        if lam.size < 2:
            raise ValueError(
                f"stretched moves two ends, and this schedule has {lam.size} level. LogSNR.from_array gives it a value."
            )
        top, bottom = jnp.asarray(top), jnp.asarray(bottom)
        share = (lam - lam[-1]) / (lam[0] - lam[-1])
        return self.from_array(bottom + (top - bottom) * share, low=self.low, high=self.high)

    def between(self, top: ArrayLike, bottom: ArrayLike) -> "LogSNR":
        """The former name of `stretched`."""
        warnings.warn(
            "LogSNR.between is now LogSNR.stretched; the old name goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.stretched(top, bottom)

    @classmethod
    def uniform(
        cls,
        steps: int,
        top: ArrayLike = 6.0,
        bottom: ArrayLike = -3.0,
        *,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        r"""`of` `diffusion.Uniform`: even in $\lambda$ from `top` to `bottom`, for which there is no standard."""
        return cls.of(Uniform(top, bottom), steps, low=low, high=high, clip=clip)

    @classmethod
    def linear(
        cls,
        steps: int,
        *,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        r"""`of` `diffusion.Linear`: DDPM's, $\beta(t) = 0.1 + 19.9\,t$, at $t = k/N$. Ho, Jain & Abbeel, NeurIPS 2020."""
        return cls.of(Linear(t0=0.0), steps, low=low, high=high, clip=clip)

    @classmethod
    def cosine(
        cls,
        steps: int,
        *,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        r"""`diffusion.Cosine` at $t = k/N$, with $\beta_k \le 0.999$, which places the last level, at t = 1.

        Nichol & Dhariwal, ICML 2021, eq. 17.
        """
        steps = _steps(steps)
        lam = jnp.full(1, jnp.inf)
        if steps > 1:
            whole = _levels(Cosine(t0=0.0, t1=1 - 1 / steps), steps - 1)
            lam = jnp.concatenate([lam, whole])
        square = 1e-3 * jax.nn.sigmoid(lam[-1:])
        last = jnp.log(square) - jnp.log1p(-square)
        return cls.from_array(jnp.concatenate([lam[1:], last]), low=low, high=high, clip=clip)

    @classmethod
    def edm(
        cls,
        steps: int,
        *,
        rho: ArrayLike = 7.0,
        sigma_min: ArrayLike = 0.002,
        sigma_max: ArrayLike = 80.0,
        low: ArrayLike = LOWEST,
        high: ArrayLike = HIGHEST,
        clip: bool = False,
    ) -> "LogSNR":
        r"""`of` `diffusion.EDM`: $\sigma = e^{-\lambda/2}$ even in $\sigma^{1/\rho}$.

        Karras, Aittala, Aila & Laine, NeurIPS 2022, eq. 5.
        """
        return cls.of(EDM(sigma_min, sigma_max, rho=rho), steps, low=low, high=high, clip=clip)


def _clipped(lam: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Falling levels with those outside of (low, high) spread evenly between the last one inside and the limit."""
    low, high = jnp.asarray(low, lam.dtype), jnp.asarray(high, lam.dtype)
    count, order = lam.shape[0], jnp.arange(lam.shape[0])
    above, below = jnp.sum(lam >= high), jnp.sum(lam <= low)
    inside = above + below < count
    first = jnp.where(inside, lam[jnp.minimum(above, count - 1)], low)
    last = jnp.where(inside, lam[jnp.maximum(count - 1 - below, 0)], high)
    # with none inside, all of them stand evenly between the limits
    rise = jnp.where(inside, above + 1, count + 1).astype(lam.dtype)
    fall = jnp.where(inside, below + 1, count + 1).astype(lam.dtype)
    step = (order + 1).astype(lam.dtype)
    back = (count - order).astype(lam.dtype)
    top = high + (first - high) * step / rise
    bottom = low + (last - low) * back / fall
    return jnp.where((order < above) | ~inside, top, jnp.where(order >= count - below, bottom, lam))


@jax.jit
def _gaps(lam: Array, low: Array, high: Array) -> Array:
    """Their logarithms, limits included."""
    return jnp.log(-jnp.diff(jnp.concatenate([high[None], lam, low[None]])))


def _levels(schedule: AbstractSchedule, steps: int) -> Array:
    dtype = _checks.one_float(schedule=schedule)
    if schedule.clean:
        share = jnp.arange(1, steps + 1).astype(dtype) / steps
    else:
        share = jnp.linspace(0, 1, steps, dtype=dtype)
    return _evaluated(schedule, share)


@jit
def _evaluated(schedule: AbstractSchedule, share: Array) -> Array:
    return jax.vmap(schedule.log_snr)(schedule.t0 + (schedule.t1 - schedule.t0) * share)


def _steps(steps: Any) -> int:
    return _checks.whole("steps", steps, "a whole number of steps")
