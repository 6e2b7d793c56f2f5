r"""The evidence lower bound in continuous time: Jensen's inequality on Jarzynski's equality, of data or of one point."""

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, ArrayLike, Key, Scalar
from ..estimators import mean
from ._bound import Bound, seen
from ._cutoff import given_slope, hidden, rates
from ._given import on_rows
from ._levelwise import quieter, summed
from ._noising import ends, prior_of
from ._predictor import Network, Predictor, Predicts
from ._span import quadrature


def elbo(
    process: Process,
    predict: Network | Predictor,
    data: Array,
    key: Key,
    *,
    predicts: Predicts = "score",
    size: int = 10_000,
    nodes: int = 32,
    slope: ArrayLike | None = None,
) -> Bound:
    r"""The evidence lower bound of the generating SDE in continuous time, in nats, of clean data `(n, d)` or a point `(d,)`:

    $$\mathrm{ELBO} = \langle \ln \pi(x_T) \rangle - \tfrac12 \int_{\lambda_T}^{\lambda_0} \big( \langle |\hat\epsilon -
      \epsilon|^2 \rangle - d \big)\, d\lambda - d \ln \frac{a_0}{a_T} \le \langle \ln p_\theta(x_{\lambda_0}) \rangle .$$

    Read as thermodynamics, $\langle e^{-w} \rangle = 1$ for the log-ratio w of the noising's and the generation's path
    probabilities, so $\langle w \rangle \ge 0$, and over data

    $$-\mathrm{ELBO} = S(p_{\lambda_0}) + \mathrm{KL}(p_T \| \pi) + \int \tfrac12 s^2 \langle |s_\theta - \nabla\ln
      p_\lambda|^2 \rangle\, d\lambda :$$

    the entropy of the data, the mismatch of the end, and the score error, none of which has to be known. It bounds the
    likelihood of the SDE, not that of the probability flow (`nll`).

    - `data`: clean. The noise is that on clean data, at every level: as seen from data that have noise on them already, the
      error diverges at the first level, and a quadrature does not say so.
    - `size`: draws of noise at each level, fresh at each: shared out over the rows of data, at least one each, or all
      for one point. Minus what $|\epsilon|^2$ explains, by regression, which
      biases the mean by less than its error over the root of their number.
    - `nodes`: of Gauss and Legendre in $\lambda$, which never touch the ends. 32 err by 1e-7 for a span of 20; take 48
      beyond 25.
    - `slope`: as in `nll`. Of one point it is 1 if not given.

    Returns a `Bound`. Differentiable in the weights of the network at a fixed key. For chains of N steps:
    `schedules.mean_work`. Source: Kingma et al., NeurIPS 2021, eq. 12; Song et al., NeurIPS 2021 (arXiv 2101.09258);
    Huang et al., NeurIPS 2021 (arXiv 2106.02808); Sohl-Dickstein et al., ICML 2015, for the bound as Jarzynski's.
    """
    point = jnp.ndim(data) == 1
    rows, repeats = _shared(data, size)
    net, rows, key = on_rows(process, predict, predicts, rows, key)
    slope = 1.0 if slope is None and point else slope
    nodes = _checks.whole("nodes", nodes, "a whole number of nodes")
    found = _elbo(process, net, rows, key, repeats, nodes, given_slope(slope))
    return seen(found)


@jit
def _elbo(
    process: Process,
    net: Predictor,
    rows: Array,
    key: Key,
    repeats: int,
    nodes: int,
    slope: Array | None,
) -> Bound:
    one, two, three = jax.random.split(key, 3)
    n, d = rows.shape
    x0 = jnp.tile(rows, (repeats, 1))

    def each(values: Array) -> Array:
        return jnp.mean(values.reshape(repeats, n), 0)

    def less_noise(values: Array, noise: Array) -> Array:
        """One number per row, less what the length of the noise explains."""
        return quieter(each(values), [each(0.5 * (jnp.sum(noise**2, 1) - d))])

    def level(lam: Scalar, key: Key) -> Array:
        noise = jax.random.normal(key, x0.shape, x0.dtype)
        x = net.kind.signal(lam) * x0 + net.kind.noise(lam) * noise
        seen = jax.vmap(lambda x: net.noise(x, lam))(x)
        return less_noise(0.5 * (jnp.sum((seen - noise) ** 2, 1) - d), noise)

    first, last = (v.astype(x0.dtype) for v in ends(process))
    lam, weight = quadrature(first, last, nodes)
    (rate, stderr), area = summed(level, lam, weight, one)
    noise = jax.random.normal(two, x0.shape, x0.dtype)
    x = net.kind.signal(last) * x0 + net.kind.noise(last) * noise
    end = less_noise(jax.vmap(prior_of(process).log_prob)(x), noise)
    shrunk = d * jnp.log(net.kind.signal(first) / net.kind.signal(last))
    total = end - area - shrunk
    left, above = hidden(rates(net, rows, three, first), slope)
    clean = mean(total + d * jnp.log(net.kind.signal(first)) + above.integral)
    return Bound(
        mean(total), clean._extrapolated(above.off), left, lam, rate, stderr, mean(end), total
    )


def _shared(data: Array, size: int) -> tuple[Array, int]:
    """Rows, each of them independent, and how often each is repeated at a level."""
    size = _checks.whole("size", size, "a whole number of draws at each level", 4)
    x0 = _checks.floating("data", data)
    if x0.ndim == 1:
        return jnp.broadcast_to(x0, (size, *x0.shape)), 1
    _checks.rank("data", x0, {1, 2}, "(n, d), one row per data point, or (d,), one point")
    return x0, max(1, size // max(1, x0.shape[0]))
