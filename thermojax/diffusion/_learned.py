r"""The levels of an N-step chain, given or learned, as a schedule in time."""

from collections.abc import Callable

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, PyTree, Scalar
from ._schedules import AbstractSchedule


class Levels(AbstractSchedule):
    r"""The levels of an N-step chain as a schedule: $\lambda(k) = \lambda_k$, k = 1 … N, a monotone cubic between them.

    `levels` is an array `(N,)` that falls strictly, or a callable without arguments that returns one, such as a
    `schedules.LogSNR`, whose parameters are then the schedule's. Between 0 and 1, for the first step,
    $\lambda = \lambda_1 - 2 \ln t$: at time 0 the data are clean. With `clean=False` the schedule starts at time 1,
    from the first level.
    """

    levels: Array | Callable[[], Array]
    clean: bool = eqx.field(static=True)

    def __init__(self, levels: Array | Callable[[], Array], *, clean: bool = True):
        self.levels = levels if callable(levels) else _checks.falling("levels", levels)
        lam = _checks.falling("levels", self.array())
        if lam.size < 2:
            raise ValueError(f"levels must hold at least two levels, got {lam.size}.")
        self.clean = bool(clean)

    def given(self) -> tuple[PyTree, ...]:
        return ()  # its times are steps, counted

    @property
    def t0(self) -> Array:
        return jnp.asarray(0.0 if self.clean else 1.0)

    @property
    def t1(self) -> Array:
        return jnp.asarray(float(jax.eval_shape(self.array).size))

    def array(self) -> Array:
        """The levels, `(N,)`."""
        return self.levels() if callable(self.levels) else self.levels

    def log_snr(self, t: Scalar) -> Scalar:
        lam = self.array()
        knots = jnp.arange(1.0, lam.size + 1, dtype=lam.dtype)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            inside = interpax.interp1d(jnp.where(t < 1, 1, t), knots, lam, method="monotonic")
        first = lam[0] - 2 * jnp.log(jnp.where(t < 1, t, 1.0))
        return jnp.where(t < 1, first, inside)
