"""Densities that are points: one, or many of equal weight, and these with noise on top."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._types import Array, Float, Given, Key, Scalar, State
from .._widths import wide_enough
from ._base import AbstractKnownDensity, GaussianParts
from ._gaussian import Gaussian


class Point(AbstractKnownDensity):
    """Every run starts at `x0`, a scalar or `(d,)`. It has no density, so no entropy: leave `final=None` with it."""

    x0: State

    def __init__(self, x0: Given):
        x0 = _checks.floating("Point.x0", x0)
        _checks.rank("Point.x0", x0, {0, 1}, "() or (d,)")
        self.x0 = jnp.atleast_1d(x0)

    def sample(self, key: Key) -> State:
        del key
        return self.x0

    def log_prob(self, x: State) -> Scalar:
        raise ValueError(
            "Point has no density, so a path from there has none, and a run that starts (or whose reverse starts) there has "
            "no finite entropy production. Use a narrow Gaussian, or final=None for work, heat and the medium's entropy "
            "alone."
        )

    def normal(self) -> GaussianParts:
        dim = self.x0.size
        return GaussianParts(self.x0, jnp.zeros((dim, dim), self.x0.dtype))

    def noised(self, scale: Scalar, variance: Scalar) -> Gaussian:
        return Gaussian.from_root(scale * self.x0, jnp.sqrt(variance) * jnp.ones_like(self.x0))


class Empirical(AbstractKnownDensity):
    r"""Points of equal weight, $p(x) = \frac1n \sum_i \delta(x - x_i)$: every run starts at a row of `xs`, `(n, d)`.

    Measured or simulated states. A draw follows its row: $dx = dx_i$. Like `Point` it has no `log_prob`: leave
    `final=None` with it. The points stand for the density they come from with a standard error of
    $\sigma/\sqrt n$ in the mean, however many runs start from them.

    Raises `TypeError` for integers, and `ValueError` for another rank or a row that is not finite.
    """

    xs: Float[Array, "n d"]

    def __init__(self, xs: Given):
        given = np.asarray(xs, float) if _checks.shortened(xs) and np.ndim(xs) == 2 else None
        xs = _checks.array("Empirical.xs", xs)
        if jnp.issubdtype(xs.dtype, jnp.integer):
            raise TypeError(
                f"Empirical.xs must be floating point, got {xs.dtype}. Use xs.astype(float)."
            )
        if xs.ndim != 2:
            raise ValueError(
                f"Empirical.xs must have shape (n, d), one row per point, got {xs.shape}. "
                "For one coordinate use xs[:, None]."
            )
        value = _checks.known(xs)
        if value is not None and not np.isfinite(value).all():
            rows = np.flatnonzero(~np.isfinite(value).all(axis=1))
            raise ValueError(
                f"Empirical.xs must be finite: {len(rows)} of {len(value)} rows are not, the first is row {rows[0]}, "
                f"{value[rows[0]]}. Leave them out: xs[jnp.isfinite(xs).all(axis=1)]."
            )
        if given is not None:
            wide_enough("Empirical.xs", np.abs(given).max(0), given.std(0), xs.dtype)
        self.xs = _checks.floating("Empirical.xs", xs)

    @jit
    def sample(self, key: Key) -> State:
        return self.xs[jax.random.randint(key, (), 0, self.xs.shape[0])]

    def log_prob(self, x: State) -> Scalar:
        raise ValueError(
            "Empirical has no density, so a run that starts (or whose reverse starts) at its points has no finite entropy "
            "production. Use a density fitted to them, e.g. a Gaussian or a Mixture, or final=None for work, heat and the "
            "medium's entropy alone."
        )

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "Smoothed":
        return Smoothed(scale * self.xs, jnp.asarray(variance, self.xs.dtype))


class Smoothed(AbstractKnownDensity):
    r"""Points of equal weight with noise on top: $p(x) = \frac1n \sum_i N(x; x_i, v)$, `xs` `(n, d)`."""

    xs: Float[Array, "n d"]
    variance: Scalar

    @jit
    def sample(self, key: Key) -> State:
        row, shift = jax.random.split(key)
        x = self.xs[jax.random.randint(row, (), 0, self.xs.shape[0])]
        return x + jnp.sqrt(self.variance) * jax.random.normal(shift, x.shape, x.dtype)

    def log_prob(self, x: State) -> Scalar:
        if _checks.known(self.variance) == 0:
            raise ValueError(
                "Smoothed of variance zero is its points, and has no density. Give noise, noised(density, scale, variance) "
                "with a variance above zero: of a noising, a schedule that starts later (Linear(t0=1e-3))."
            )
        _checks.point("Smoothed.log_prob", x, self.xs.shape[1])
        return self._log_prob(x)

    @jit
    def _log_prob(self, x: State) -> Scalar:
        n, d = self.xs.shape
        heights = -jnp.sum((x[None] - self.xs) ** 2, 1) / (2 * self.variance)
        norm = jnp.log(2 * jnp.pi * self.variance)
        return jax.scipy.special.logsumexp(heights) - jnp.log(float(n)) - 0.5 * d * norm

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "Smoothed":
        return Smoothed(scale * self.xs, scale**2 * self.variance + variance)
