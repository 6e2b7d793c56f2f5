"""Whether neighbours in a sample correlate, and how many of them count for one."""

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array, Scalar

FALSE_ALARM = (
    5.2  # standard deviations: one independent sample in a million is taken for a correlated one
)
FEWEST = 24  # in fewer nothing can be seen at that rate
LOOK = 2**17  # of a longer sample so many are looked at
MARKS = 31  # members of the sample that each is compared with, in place of its rank
WINDOW = 2.5  # inefficiencies that the sum over lags extends over


def correlated(series: Array, influence: Array) -> tuple[Array, Scalar]:
    r"""Whether the order of `series` shows a positive correlation, and the statistical inefficiency of `influence`.

    The first: with the autocorrelation $\rho_k$ of the ranks, whatever the distribution, the variance of the mean of $b$
    neighbours is $\Lambda_b = 1 + 2\sum_{k<b}(1 - k/b)\rho_k$ times that of independent ones, for $b = 2, 4, 8, \dots n/16$.
    It is compared with the quantile of $\chi^2_\nu/\nu$, $2/\nu = \mathrm{Var}\,\Lambda_b$, after Wilson and Hilferty, at
    which $10^{-6}$ of independent samples are taken for correlated ones.

    The second: $g = 1 + 2\sum_{k \le K}\rho_k \ge 1$, with K the first lag of at least 2.5 g and the bias $(2K + 1)g/n$
    corrected: so many neighbours count for one. It is one, exactly, where no correlation is seen.

    Sources: Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989); Wolff, Comput. Phys. Commun. 156, 143 (2004).
    """
    n = min(series.shape[0], LOOK)
    if n < FEWEST:
        return jnp.zeros((), bool), jnp.ones((), influence.dtype)
    ranks, even = _ranks(jax.lax.stop_gradient(series[:n]))
    seen = even & _exceeds(_autocorrelation(ranks), n)

    def inefficiency(influence: Array) -> Scalar:
        return _inefficiency(_autocorrelation(influence), n)

    one = jnp.ones((), influence.dtype)
    return seen, jax.lax.cond(seen, inefficiency, lambda _: one, influence[:n])


def _ranks(x: Array) -> tuple[Array, Array]:
    """Rough ranks about zero, by comparison with members from all over; and whether they are more than a few outliers."""
    n = x.shape[0]
    x = jnp.where(jnp.isfinite(x), x, jnp.finfo(x.dtype).max)
    marks = x[np.linspace(0, n - 1, MARKS).astype(int)]
    ranks = jax.lax.optimization_barrier(sum(jnp.sign(x - mark) for mark in marks))  # once
    ranks = ranks - jnp.mean(ranks)
    even = jnp.sum(ranks**2) ** 2 > 0.25 * n * jnp.sum(ranks**4)
    return ranks, even


def _exceeds(rho: Array, n: int) -> Array:
    b = 2 ** np.arange(1, max(2, 1 + int(np.log2(n / 16))))
    lags = jnp.arange(1, b[-1], dtype=rho.dtype)[None]
    triangle = jnp.maximum(1 - lags / jnp.asarray(b[:, None], rho.dtype), 0)
    seen = 1 + 2 * jnp.sum(triangle * rho[None, 1 : b[-1]], 1)
    ninth = 4 / n * (b - 1) * (2 * b - 1) / (6 * b) / 9  # 2 / (9 nu)
    limit = (1 - ninth + FALSE_ALARM * np.sqrt(ninth)) ** 3 * (1 - (b - 1) / n)
    return jnp.any(seen > jnp.asarray(limit, rho.dtype))


def _inefficiency(rho: Array, n: int) -> Scalar:
    last = np.unique((2 ** np.arange(0, np.log2(n / 4), 0.5)).astype(int))
    lags = jnp.arange(1, last[-1] + 1)[None]
    sums = 1 + 2 * jnp.sum(jnp.where(lags <= last[:, None], rho[None, 1 : last[-1] + 1], 0), 1)
    sums = sums * jnp.asarray(1 + (2 * last + 1) / n, rho.dtype)
    enough = jnp.asarray(last, rho.dtype) >= WINDOW * jax.lax.stop_gradient(sums)
    return jnp.maximum(sums[jnp.argmax(enough.at[-1].set(True))], 1)


def _autocorrelation(x: Array) -> Array:
    """Of numbers with mean zero, at lags up to a quarter of their count: nothing here looks farther."""
    n = x.shape[0]
    far = n // 4
    padded = min(part * 2 ** int(np.ceil(np.log2((n + far) / part))) for part in (4, 5, 6))
    waves = jnp.fft.rfft(x, padded)
    power = waves.real**2 + waves.imag**2  # of abs there would be no derivative at zero
    by_lag = jnp.fft.irfft(power, padded)[: far + 1].astype(x.dtype)
    return by_lag / jnp.where(by_lag[0] > 0, by_lag[0], 1)
