r"""Noise schedules: the log signal-to-noise ratios of a chain, decreasing by construction."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array

LOWEST, HIGHEST = -20.0, 20.0


class LogSNR(eqx.Module):
    r"""$\lambda_1 > \dots > \lambda_N$, all free between `low` and `high`; calling it gives the array `(N,)`.

    $x_k = a_k x_0 + s_k \epsilon$ with $a^2 = 1/(1 + e^{-\lambda})$, $s^2 = 1/(1 + e^{\lambda})$. The N + 1 gaps, the outer
    two included, are the softmax of `logits` times the span, so that a search moves freely and stays in order and in
    range. Keep the range to what the network was trained on: outside, its error is not known.
    """

    logits: Array
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self):
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"low must lie below high, both finite, got low={self.low} and high={self.high}. "
                "LogSNR(logits, low, high): low is the noisy end."
            )

    def __call__(self) -> Array:
        gaps = jax.nn.softmax(self.logits) * (self.high - self.low)
        return self.high - jnp.cumsum(gaps)[:-1]

    @classmethod
    def from_array(cls, lam: Any, *, low: float = LOWEST, high: float = HIGHEST) -> "LogSNR":
        """The schedule with these values, which must fall strictly and lie inside (`low`, `high`).

        While tracing, those that do not make it NaN.
        """
        lam = _checks.falling("lam", lam)
        value = _checks.known(lam)
        if value is not None:
            if not (value.max() < high and value.min() > low):
                raise ValueError(
                    f"lam must lie inside ({low}, {high}), got {value.min():.6g} to {value.max():.6g}. Give low= and high=."
                )
        gaps = -jnp.diff(
            jnp.concatenate([jnp.array([high], lam.dtype), lam, jnp.array([low], lam.dtype)])
        )
        return cls(jnp.log(gaps), float(low), float(high))

    def between(self, top: Any, bottom: Any) -> "LogSNR":
        r"""The same shape with other ends: $\lambda$ mapped linearly so that $\lambda_1$ = `top`, $\lambda_N$ = `bottom`."""
        lam = self()
        if lam.size < 2:
            raise ValueError(
                f"between moves two ends, and this schedule has {lam.size} level. LogSNR.from_array gives it a value."
            )
        share = (lam - lam[-1]) / (lam[0] - lam[-1])
        return self.from_array(bottom + (top - bottom) * share, low=self.low, high=self.high)

    @classmethod
    def uniform(
        cls,
        steps: int,
        top: float = 6.0,
        bottom: float = -3.0,
        *,
        low: float = LOWEST,
        high: float = HIGHEST,
    ) -> "LogSNR":
        r"""Even in $\lambda$ from `top` to `bottom`, for which there is no standard."""
        return cls.from_array(jnp.linspace(top, bottom, _steps(steps)), low=low, high=high)

    @classmethod
    def linear(cls, steps: int, *, low: float = LOWEST, high: float = HIGHEST) -> "LogSNR":
        r"""The linear schedule of DDPM, $\beta(t) = 0.1 + 19.9\,t$, at $t = k/N$. Ho, Jain & Abbeel, NeurIPS 2020."""
        t = np.arange(1, _steps(steps) + 1) / steps
        total = 0.1 * t + 9.95 * t**2
        return cls.from_array(-np.log(np.expm1(total)), low=low, high=high)

    @classmethod
    def cosine(cls, steps: int, *, low: float = LOWEST, high: float = HIGHEST) -> "LogSNR":
        r"""$a^2 \propto \cos^2\!\big(\tfrac{\pi}{2} \tfrac{t + 0.008}{1.008}\big)$ at $t = k/N$, $\beta_k \le 0.999$.

        Nichol & Dhariwal, ICML 2021, eq. 17.
        """
        f = np.cos(0.5 * np.pi * (np.arange(_steps(steps) + 1) / steps + 0.008) / 1.008) ** 2
        square = np.cumprod(np.maximum(f[1:] / f[:-1], 1e-3))
        return cls.from_array(np.log(square / (1 - square)), low=low, high=high)

    @classmethod
    def edm(
        cls,
        steps: int,
        *,
        rho: float = 7.0,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        low: float = LOWEST,
        high: float = HIGHEST,
    ) -> "LogSNR":
        r"""$\sigma = e^{-\lambda/2}$ even in $\sigma^{1/\rho}$. Karras, Aittala, Aila & Laine, NeurIPS 2022, eq. 5."""
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"edm needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}."
            )
        root = np.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), _steps(steps))
        return cls.from_array(-2 * rho * np.log(root), low=low, high=high)


def _steps(steps: Any) -> int:
    return _checks.whole("steps", steps, "a whole number of steps")
