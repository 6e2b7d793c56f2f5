"""Whether the rare low works that rule an exponential average can have been drawn."""

import jax
import jax.numpy as jnp

from .._types import Array, Scalar

TILT = 0.25  # where the cumulants are taken: between the works as drawn and those that rule
MARGIN = 1.2  # by which the loss that is extrapolated is enlarged


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
