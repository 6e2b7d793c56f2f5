"""What was inferred: the bound, its error, and whether and why it is not to be trusted."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, Bool, Scalar

LEAST = 200  # independent pairs of frames

# What can be wrong, one bit each, and the cure.
FAILED, FEW, TAIL, DRIFTS, CORRELATED, UNSETTLED = (1 << i for i in range(6))
REASONS = {
    FAILED: "the bound is not finite: frames, features or a network gave numbers that are not",
    FEW: "too few independent frames for what is learnt from them: fewer than ten for each number, or than two hundred "
    "in all. Record for longer, or take fewer features",
    TAIL: "a few pairs of frames rule the average: the error bar is too small. Take a shorter lag, or "
    "method='tur', which has no exponential",
    DRIFTS: "the recordings are not in a steady state: their mean or spread changes with time, and relaxation looks "
    "irreversible. Cut off the beginning",
    CORRELATED: "the recording is not much longer than its memory: its blocks are not independent, and the error bar is too "
    "small. Record for longer",
    UNSETTLED: "the best observable was not found within the steps allowed: the bound holds, and a better one may exist. "
    "Take fewer features, or other units",
}


class Inferred(eqx.Module):
    r"""A bound on the entropy production, inferred from recordings.

    Of the rate, in nats per time: `rate`, with its standard error `stderr`; whether it is `significant`, above zero by
    1.96 standard errors; and `corrected`, an estimate without the cost of learning, but no bound: the mean of the price on
    what was held out, which is too low by this cost, and of that on what was learnt from, which is too high by it.

    Of two frames a time `lag` apart, in nats: `per_lag` with its `per_lag_stderr`; `fitted`, the same on what was learnt
    from; and `folds` `(folds,)`, on each part held out.

    `ess` is the number of independent pairs of frames that would give the same error, `reliable` whether that error can be
    trusted, and `why` says in words why not. `method` and `extrapolate` are those asked for: extrapolated, the rate is an
    estimate, and no bound.
    """

    rate: Scalar
    stderr: Scalar
    corrected: Scalar
    per_lag: Scalar
    per_lag_stderr: Scalar
    fitted: Scalar
    folds: Array
    lag: Scalar
    ess: Scalar
    significant: Bool[Array, ""]
    doubts: Array
    method: str = eqx.field(static=True)
    extrapolate: int = eqx.field(static=True)

    @property
    def reliable(self) -> Array:
        """Whether nothing speaks against the error bar."""
        return self.doubts == 0

    @property
    def why(self) -> str:
        """The reasons in words, or ''."""
        if _checks.known(self.doubts) is None:
            return "known when the compiled function has returned"
        bits = np.bitwise_or.reduce(np.ravel(np.asarray(self.doubts)))
        return "; ".join(text for bit, text in REASONS.items() if bits & bit)

    def __str__(self) -> str:
        if _checks.known(self.rate) is None or jnp.ndim(self.rate):
            return repr(self)
        what = "about" if self.extrapolate else "at least"
        seen = "significant" if self.significant else "not significant"
        why = f"; not reliable: {self.why}" if self.why else ""
        return (
            f"{what} {self.rate:.4g} ± {self.stderr:.2g} nats per time ({seen}; {self.method}, lag {self.lag:.4g}; "
            f"corrected {self.corrected:.4g}){why}"
        )
