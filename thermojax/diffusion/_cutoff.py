r"""What the noise of the first level hides: how far the entropy still falls down to clean data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, ArrayLike, Key, Scalar
from ..estimators import Estimate, mean
from ._levelwise import LEAST, Tail, first_levels, quieter, tail
from ._predictor import Predictor


class Hidden(NamedTuple):
    r"""What the noise at the first level adds to the entropy of clean data, extrapolated.

    In units of the clean data, $y = x/a = x_0 + \sigma\epsilon$, entropy rises by de Bruijn's identity as noise is added,

    $$S(y_{\lambda_0}) - S_0 = \int_{\lambda_0}^\infty f\, d\lambda, \qquad f = \tfrac12 \langle d - |\hat\epsilon -
      \epsilon|^2 \rangle = \tfrac12 s^2 \langle |\nabla\ln p_\lambda|^2 \rangle ,$$

    and for fine noise $f \propto e^{-\alpha\lambda}$: $\alpha = 1$ for smooth densities, $\frac12$ for those with edges, 0
    for atoms and for data on a manifold, whose $S_0 = -\infty$. Where the noise of the first level is as wide as the data,
    $\alpha$ still rises; $f \propto u^a/(1 + \rho u)^a$ in $u = e^{-\lambda}$, exact for a Gaussian, follows it.

    - `value`: the integral, $f/\alpha$ for fine noise and of a slope that was given, in nats; NaN, with the doubt that
      something failed, where $\alpha < \frac14$. Not reliable where the two differ by more than the error
      bar.
    - `rate`: f, per nat of $\lambda$, at the first level. By the denoising error, so that a wrong network sees too little
      of it, by half of the squared error of $\hat\epsilon$, and never too much.
    - `slope`: $\alpha$, measured over the last fifth of a nat, or as it was given.
    """

    value: Estimate
    rate: Estimate
    slope: Estimate


def rates(net: Predictor, x0: Array, key: Key, first: Scalar) -> Array:
    r"""f at the `first_levels`, `(n, 3)` for the rows of `x0` `(n, d)`: one noise and its mirror
    image for each row, the same at all three."""
    noise = jax.random.normal(key, x0.shape, x0.dtype)

    def at(lam: Scalar) -> Array:
        a, s = net.kind.signal(lam), net.kind.noise(lam)

        def one(x: Array, z: Array) -> Scalar:
            seen = net.noise(a * x + s * z, lam)
            return jnp.sum(z * seen) - 0.5 * jnp.sum(seen**2)

        pairs = 0.5 * (jax.vmap(one)(x0, noise) + jax.vmap(one)(x0, -noise))
        return quieter(pairs, [0.5 * (jnp.sum(noise**2, 1) - noise.shape[1])])

    return jax.lax.map(at, first_levels(first)).T


def hidden(f: Array, slope: Scalar | None) -> tuple[Hidden, Tail]:
    """From the rates `(n, 3)`."""
    found = tail(f, slope)
    value = mean(found.integral)._extrapolated(found.off)
    return Hidden(value, mean(f[:, 0]), mean(found.slope)), found


def given_slope(slope: ArrayLike | None) -> Array | None:
    if slope is None:
        return None
    alpha = _checks.floating("slope", slope)
    _checks.rank("slope", alpha, {0}, "(), one number, or be None")
    return _checks.must(
        "slope",
        alpha,
        alpha >= LEAST,
        f"at least {LEAST}: 1 for smooth densities, 0.5 for those with edges (where it is 0, for atoms or a manifold, the "
        "entropy of clean data is minus infinity)",
        alpha,
    )
