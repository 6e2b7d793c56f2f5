r"""The log-density of a point from the errors that a denoiser makes at it."""

import warnings

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, ArrayLike, Density, Key, Scalar, State
from ..densities import Gaussian, noised, normal
from ..estimators import mean
from ._bound import Bound, seen
from ._cutoff import given_slope, hidden, rates
from ._given import on_rows
from ._levelwise import summed
from ._noising import ends, kind_of, prior_of
from ._predictor import Network, Predictor, Predicts
from ._span import quadrature

APART = 0.1  # nats for each coordinate


def denoising_log_prob(
    process: Process,
    predict: Network | Predictor,
    x: Array,
    key: Key,
    *,
    predicts: Predicts = "score",
    size: int = 10_000,
    nodes: int = 32,
    slope: ArrayLike = 1.0,
    reference: Density | None = None,
) -> Bound:
    r"""The log-density of one clean point `(d,)` from the errors that a denoiser makes at it, in nats:

    $$\ln p(x) = \ln g(x) - \tfrac12 \int \big( \mathrm{mse}_x(u) - \mathrm{mse}^g_x(u) \big)\, du, \qquad
      \mathrm{mse}_x(u) = \langle |\hat x_0(x + \epsilon/\sqrt u) - x|^2 \rangle_\epsilon, \quad u = e^\lambda,$$

    g a Gaussian, whose own errors are known. It holds point by point for the exact denoiser: `first` is then
    $\langle \ln p_{\lambda_0}(a_0 x + s_0\epsilon) \rangle_\epsilon$, and `clean` is $\ln p(x)$, but for the tail above the
    first level, taken as $f/\alpha$ with $\alpha = 1$ (`slope`), and for what $p_T$ differs from $g_T$ at the last level.
    The curve `rate` says at which levels of noise a point is likely or not.

    For a learned denoiser it is too low by the excess of its error at this point, $\tfrac12 \int (\mathrm{mse}_x -
    \mathrm{mse}^*_x)\,du$, which may have either sign; in the mean over data it is the score error, so never too high. It is
    no normalised density, and neither that of the flow nor that of the SDE: it is the ELBO of the point (`elbo`), against
    another end and with less noise.

    - `reference`: g, a Gaussian of clean data; None is N(0, 1) for each coordinate, and for VE, whose data may have any
      unit, N(0, $s_0 s_T$) of the first level and the last. With the mean and covariance of the data noise is least, and the
      end error is of second order in the signal that is left there. Warns where $g_T$ is another density than the prior.
    - `size`: noises at each level, in pairs $\pm\epsilon$. The other arguments are those of `elbo`. Vmap it over points.

    Source: Kong, Brekelmans & Ver Steeg, ICLR 2023, eqs. 8, 9 (arXiv 2302.03792); Guo, Shamai & Verdú, IEEE Trans. Inf.
    Theory 51, 1261 (2005).
    """
    x = _checks.floating("x", x)
    _checks.point("denoising_log_prob", x, _checks.draw("the prior", prior_of(process)).shape[0])
    size = _checks.whole("size", size, "a whole number of noises at each level", 4)
    rows = jnp.broadcast_to(x, (size // 2, *x.shape))
    net, rows, key = on_rows(process, predict, predicts, rows, key)
    g = Gaussian(jnp.zeros_like(x), _usual(process, x)) if reference is None else reference
    _checks.density("reference", g)
    if normal(g) is None:
        raise TypeError(
            f"reference must be a Gaussian, whose errors are known, got {type(g).__name__}. Take one with the mean and the "
            "covariance of the data."
        )
    if _checks.draw("reference", g).shape != x.shape:
        raise ValueError(f"reference must draw states of the shape of x, {x.shape}.")
    _checks.one_float(**{"x": x, "reference": g})
    nodes = _checks.whole("nodes", nodes, "a whole number of nodes")
    found = _pointwise(process, net, g, rows, key, nodes, given_slope(slope))
    apart = None if normal(prior_of(process)) is None else _checks.known(_apart(process, g, x))
    if apart is not None and apart > APART * x.size:
        warnings.warn(
            f"denoising_log_prob: at the last level the reference gives the point {float(apart):.3g} nats more or less "
            "than the prior does, by which the log-density is off. Give reference= a Gaussian with the mean and the "
            "covariance of the data, in their unit, and a noising that ends where they are forgotten.",
            UserWarning,
            stacklevel=2,
        )
    return seen(found)


@jit
def _usual(process: Process, x: State) -> Array:
    """The variances of a reference."""
    kind = kind_of("process", process)
    first, last = (v.astype(x.dtype) for v in ends(process))
    remembers = kind.signal(last) > 0.5  # VE: what it starts from has no unit of its own
    return jnp.where(remembers, kind.noise(first) * kind.noise(last), jnp.ones_like(x))


@jit
def _apart(process: Process, g: Density, x: State) -> Scalar:
    last = ends(process)[1].astype(x.dtype)
    kind = kind_of("process", process)
    a, s = kind.signal(last), kind.noise(last)
    end = _averaged(noised(g, a, s**2), a * x, s)
    return jnp.abs(end - _averaged(prior_of(process), a * x, s))


def _averaged(density: Density, x: State, s: Scalar) -> Scalar:
    r"""$\langle \ln g(x + s\epsilon) \rangle$ of a Gaussian g, in closed form."""
    bend = jnp.trace(jax.jacfwd(jax.grad(density.log_prob))(x))
    return density.log_prob(x) + 0.5 * s**2 * bend


@jit
def _pointwise(
    process: Process,
    net: Predictor,
    g: Density,
    rows: Array,
    key: Key,
    nodes: int,
    slope: Array | None,
) -> Bound:
    one, two = jax.random.split(key)
    first, last = (v.astype(rows.dtype) for v in ends(process))
    x0, d, kind = rows[0], rows.shape[1], net.kind

    def level(lam: Scalar, key: Key) -> Array:
        a, s = kind.signal(lam), kind.noise(lam)
        known = noised(g, a, s**2)

        def excess(z: Array) -> Scalar:
            x = a * x0 + s * z
            seen, other = net.noise(x, lam), -s * jax.grad(known.log_prob)(x)
            return 0.5 * jnp.sum((seen - other) * (seen + other - 2 * z))

        z = jax.random.normal(key, rows.shape, rows.dtype)
        return 0.5 * (jax.vmap(excess)(z) + jax.vmap(excess)(-z))

    def averaged(lam: Scalar) -> Scalar:
        r"""$\langle \ln g_\lambda(a x + s\epsilon) \rangle$, in closed form."""
        a, s = kind.signal(lam), kind.noise(lam)
        return _averaged(noised(g, a, s**2), a * x0, s)

    def in_clean_units(lam: Scalar) -> Scalar:
        """What falls by the rate of g as the signal-to-noise ratio rises."""
        return averaged(lam) + d * jnp.log(kind.signal(lam))

    lam, weight = quadrature(first, last, nodes)
    (rate, stderr), area = summed(level, lam, weight, one)
    rate = rate - jax.lax.map(jax.grad(in_clean_units), lam)
    total = averaged(first) - area
    left, above = hidden(rates(net, rows, two, first), slope)
    clean = mean(total + d * jnp.log(kind.signal(first)) + above.integral)
    end = jnp.broadcast_to(averaged(last), total.shape)
    return Bound(
        mean(total), clean._extrapolated(above.off), left, lam, rate, stderr, mean(end), total
    )
