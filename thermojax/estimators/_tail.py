"""Whether the rare low works that rule an exponential average can have been drawn."""

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array, Scalar

TILT = 0.25  # where the cumulants are taken: between the works as drawn and those that rule
MARGIN = 1.2  # by which the loss that is extrapolated is enlarged
INDEX, SIGHT = 0.36, 2.0  # of a tail, and by how many standard errors a fit must exceed it
SHARE, ROOTS = (
    0.2,
    3.0,
)  # the largest weights that are fitted: a fifth, at most so many roots of all
FEWEST = 25  # of them, from which a tail can be told


def reach(w: Array, count: Array) -> Scalar:
    r"""The effective sample size that $\langle e^{-w}\rangle$ ought to have with so many works, drawn or not.

    That of the sample, $(\sum u)^2/\sum u^2$ with $u = e^{-w}$, is largest when the rare low works are missing. In the long
    run it is $n\,e^{2K(1) - K(2)}$ with $K(\alpha) = \ln\langle e^{-\alpha w}\rangle$. K is extrapolated from
    $\alpha = 1/4$, where all works weigh, as that of a shifted Gamma distribution of the same three derivatives there,

    $$K(\alpha) = K + K'\delta + K''\delta^2\,h(r\delta), \qquad \delta = \alpha - \tfrac14, \quad r = K'''/2K'', \quad
      h(y) = -\frac{\ln(1 - y) + y}{y^2},$$

    exact for Gaussian works ($r = 0$: $n\,e^{-\mathrm{Var}\,w}$) and Gamma works of either sign; zero where the second
    moment does not exist, $r\delta \ge 1$. The exponent is enlarged by a fifth.
    Works of +inf weigh nothing.
    """
    w = jax.lax.stop_gradient(w)
    low = jnp.min(jnp.where(jnp.isnan(w), jnp.inf, w))
    v = jnp.minimum(jnp.where(jnp.isfinite(w), w - low, jnp.inf), 300.0)
    t = jnp.where(jnp.isfinite(w), jnp.exp(-TILT * v), 0)
    total = jnp.sum(t)
    p = t / total
    first = jnp.sum(p * v)
    second = jnp.sum(p * (v - first) ** 2)
    third = -jnp.sum(p * (v - first) ** 3)
    r = third / (2 * jnp.where(second > 0, second, 1))
    one, two = 1 - TILT, 2 - TILT
    loss = jnp.log(total / count) - (2 * one - two) * first
    loss += second * (2 * one**2 * _gamma(one * r) - two**2 * _gamma(two * r))
    return jnp.where(two * r < 1, count * jnp.exp(MARGIN * jnp.minimum(loss, 0)), 0)


def _gamma(y: Array) -> Array:
    """h(y), by its series near zero."""
    small = jnp.abs(y) < 0.02
    far = jnp.where(small | (y >= 1), 0.5, y)
    return jnp.where(small, 0.5 + y / 3 + y**2 / 4 + y**3 / 5, -(jnp.log1p(-far) + far) / far**2)


def heavy(w: Array, ess: Array, extrapolated: Array) -> Array:
    r"""Whether the weights $u = e^{-w}$ fall off so slowly that $\langle u^2 \rangle$ may be infinite.

    The M largest are fitted by a generalised Pareto distribution, $P(u > c + x) \propto (1 + kx/b)^{-1/k}$, which has no
    third moment from $k = \frac13$ on and no second from $\frac12$. Too heavy is what exceeds 0.36 by two standard errors of
    the fit, $(1 + k)/\sqrt M$: from k = 0.45 on of 100 000 works. At any finite depth the weights of Gaussian works can look
    as heavy, and are not: so the sample must also show less effective size than was `extrapolated` from the bulk of the
    works (`reach`), which for Gaussian and Gamma works is the smaller of the two.
    Source: Zhang & Stephens, Technometrics 51, 316 (2009); Vehtari et al., JMLR 25, 72 (2024).
    """
    size = w.shape[0]
    m = int(min(SHARE * size, ROOTS * size**0.5))
    if m < FEWEST:
        return jnp.zeros((), bool)
    v = jax.lax.stop_gradient(jnp.where(jnp.isnan(w), jnp.inf, w))
    # without the barrier, and in double precision, XLA on CPU sorts all of them
    places = jax.lax.optimization_barrier(jax.lax.top_k(-v.astype(jnp.float32), m + 1)[1])
    largest = _spread(jnp.sort(-v[places]))
    excess = jnp.expm1(jnp.minimum(largest[1:] - largest[0], 80.0))
    k = _shape(excess)
    return (k - SIGHT * (1 + k) / m**0.5 > INDEX) & (ess < extrapolated)


def _spread(x: Array) -> Array:
    """Rising numbers, those that were rounded to the same between their neighbours: evenly, as they may have been."""
    i = jnp.arange(x.size, dtype=x.dtype)
    first, last = (jnp.searchsorted(x, x, side=side) for side in ("left", "right"))
    middles = 0.5 * (first + last - 1).astype(x.dtype)
    return jnp.interp(i, middles, x)


def _shape(x: Array) -> Scalar:
    """The shape k of the generalised Pareto distribution of rising excesses, as Zhang & Stephens estimate it."""
    m = x.shape[0]
    x = x / x[m // 4]
    count = 30 + int(m**0.5)
    spread = 1 - np.sqrt(count / (np.arange(count) + 0.5))
    theta = 1 / x[-1] + jnp.asarray(spread / 3, x.dtype)
    k = jnp.mean(jnp.log1p(-theta[:, None] * x[None]), axis=1)
    chance = jax.nn.softmax(m * (jnp.log(-theta / k) - k - 1))
    return jnp.mean(jnp.log1p(-jnp.sum(chance * theta) * x))
