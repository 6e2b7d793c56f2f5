r"""What N steps really generate: the likelihood of a point, by Jarzynski's equality over the noising paths that leave it.

With $w' = w - \ln p_0(x_0)$, the work of a path less its first term, the N-step chain gives a point the density

$$\ln p_N(x_0) = \ln \langle e^{-w'} \rangle_{\text{paths from } x_0}$$

exactly: for any network, at any N, for all kernels whose density is known. The mean work $\langle w \rangle$ is a price of
paths; it exceeds KL(data || generated) by what no sample shows, the divergence of the paths given their ends.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._guard import clipped_root
from .._jit import jit
from .._types import Array, Bool, Key, Scalar, State
from ..diffusion import Mean, Network, Predictor
from ..estimators import Estimate, mean as average
from ._chain import denoiser, given, work_of

ENOUGH = 0.1  # share of the paths that must count
LEAST = 10.0  # paths that must
FEW = 0.05  # share of the points that may be marked
AT_ONCE = 4096  # paths


class LogProb(NamedTuple):
    r"""The log-density that an N-step chain gives one point, from K paths; of many points, each field is an array.

    - `value`: $\ln \frac1K \sum e^{-w'}$, in nats. Its mean lies below $\ln p_N$, the less so the more paths (Jensen).
    - `stderr`: by the spread of the weights, too small by some tenths where `ess` is low; NaN of one path.
    - `ess`: the share of the paths that count, $(\sum u)^2 / K \sum u^2$ with $u = e^{-w'}$: 1/K to 1.
    - `bias`: of `value`, by the jackknife, below zero; `value - bias` is `corrected`. NaN of one path.
    - `reliable`: `ess` is at least 0.1, and ten paths count. Below, the paths that make the average need not have been
      drawn: value, error and bias are then all three too optimistic, and `why` says so.
    - `work`: the mean of $w'$, the point's part of −ELBO, which is never below $-\ln p_N$.
    """

    value: Scalar
    stderr: Scalar
    ess: Scalar
    bias: Scalar
    reliable: Bool[Array, ""]
    work: Scalar

    @property
    def corrected(self) -> Array:
        """`value` less its bias: closer, but no bound any more."""
        return self.value - self.bias

    @property
    def why(self) -> str:
        """What is wrong, in words, or ''."""
        fine = _checks.known(self.reliable)
        if fine is None:
            return "known when the compiled function has returned"
        if fine.all():
            return ""
        return (
            f"too few of the paths count for {int((~fine).sum())} of {fine.size} points (a share of {ENOUGH}, and "
            f"{LEAST:.0f} paths, are asked for), or the work is not finite. Take more paths, more steps or a better "
            "schedule: there is no other estimate of these densities"
        )


def log_prob(
    lam: Array,
    denoise: Network | Predictor,
    x0: State,
    key: Key,
    *,
    tau: Array,
    paths: int = 256,
    mean: Mean = "ddpm",
) -> LogProb:
    r"""The log-density in nats that the generation of N steps gives one data point, from `paths` noising paths:

    $$\ln p_N(x_0) = \ln \langle e^{-w'} \rangle, \qquad
      w' = \sum_k \ln \frac{q(x_k|x_{k-1})}{p(x_{k-1}|x_k)} - \ln N(x_N; 0, 1).$$

    The arguments are those of `path_work`, and `likelihood` is the mean over many points. Vmap it over points and keys. It
    costs N `paths` calls of the network. `value` is as the average gives it, not corrected for its bias: so it is a bound,
    $\langle$`value`$\rangle \le \ln p_N$, that rises with the number of paths; from −ELBO for one. Differentiable in the
    levels, the variances and the network: the derivative is that of the bound.

    Source: Jarzynski, PRL 78, 2690 (1997), one point at a time; Burda, Grosse & Salakhutdinov, ICLR 2016 (the bound);
    Efron, *The Jackknife* (1982).
    """
    net = denoiser(denoise)
    lam, tau, x0, key = given(lam, tau, "x0", x0, key)
    return _log_prob(lam, net, x0, key, tau, _checks.whole("paths", paths, PATHS), mean)


PATHS = "a whole number of noising paths"


@jit
def _log_prob(
    lam: Array, net: Predictor, x0: State, key: Key, tau: Array, paths: int, mean: Mean
) -> LogProb:
    one = lambda key: work_of(lam, net, x0, key, tau, mean, None).w
    return _jarzynski(jax.vmap(one)(jax.random.split(key, paths)))


def _jarzynski(w: Array) -> LogProb:
    """The log of the mean of $e^{-w}$, with all that is known of its error."""
    count = w.shape[0]
    value = jax.nn.logsumexp(-w) - jnp.log(jnp.asarray(count, w.dtype))
    shares = jax.lax.stop_gradient(jax.nn.softmax(-w))
    ess = 1 / (count * jnp.sum(shares**2))
    fine = (ess >= ENOUGH) & (ess * count >= LEAST) & jnp.isfinite(value)
    if count == 1:
        stderr = bias = jnp.full_like(value, jnp.nan)
    else:
        stderr = clipped_root((1 / ess - 1) / (count - 1))
        # the logarithm of the mean of all but one, less that of all, averaged over which one; without the
        # heaviest, whose share may be one to all digits, by the sum of the others
        top = jnp.arange(count) == jnp.argmax(shares)
        rest = jax.nn.logsumexp(-jnp.where(top, jnp.inf, w)) - jax.nn.logsumexp(-w)
        each = jnp.where(top, rest, jnp.log1p(-jnp.where(top, 0, shares)))
        left = jnp.mean(jax.lax.stop_gradient(each)) + jnp.log(
            jnp.asarray(count / (count - 1), w.dtype)
        )
        bias = (count - 1) * left
    return LogProb(value, stderr, ess, bias, fine, jnp.mean(w))


class Likelihood(NamedTuple):
    r"""What an N-step chain generates, by data: means over the points, in nats, with the errors of the points drawn.

    - `nll`: $-\langle \ln p_N \rangle$.
    - `kl`: $\langle \ln p_0 - \ln p_N \rangle$, KL(data || generated), paired point by point; None without `log_p0`.
    - `work`: the path-level price of the same points and paths: $\langle w \rangle$ with `log_p0`, else −ELBO.
    - `gap`: `work` − `kl` (or − `nll`), paired: the dissipation along the paths that no sample ever shows.
    - `bias`: of `nll`, `kl` and, with the other sign, `gap`, by the jackknife, above zero: what more paths would take off.
    - `ess`: the mean share of paths that count; `marked`: the share of points where too few do.
    - `reliable`: `ess` is at least 0.1, and at most one point in twenty is marked.
    - `points`: the `LogProb` of each point, to pair two schedules by.
    """

    nll: Estimate
    kl: Estimate | None
    work: Estimate
    gap: Estimate
    bias: Scalar
    ess: Scalar
    marked: Scalar
    reliable: Bool[Array, ""]
    points: LogProb


def likelihood(
    lam: Array,
    denoise: Network | Predictor,
    data: Array,
    key: Key,
    *,
    tau: Array,
    paths: int = 256,
    mean: Mean = "ddpm",
    log_p0: Callable[[State], Scalar] | None = None,
    batch: int | None = None,
) -> Likelihood:
    r"""What the generation of N steps gives to `data` `(n, d)`: $-\langle\ln p_N\rangle$ by `log_prob`, KL(data ||
    generated) where the density of the data is known, and beside them the mean work, which is their bound.

    Fit levels and variances on other data. The noise of every point is its own; the same `key` for another schedule pairs
    the two. `batch` points are taken at a time, some 4000 paths by default, so that the memory does not grow with the data;
    nor does it for a gradient, which runs each batch twice. The other arguments are those of `log_prob`.
    """
    net = denoiser(denoise)
    data = _checks.floating("data", data)
    _checks.rank("data", data, {2}, "(n, d), one row per data point")
    if len(data) < 2:
        raise ValueError(
            "data must hold two points or more to have an error bar, got 1: log_prob is of one point."
        )
    lam, tau, _, key = given(lam, tau, "data", data[0], key)
    paths = _checks.whole("paths", paths, PATHS)
    batch = AT_ONCE // paths if batch is None else _checks.whole("batch", batch, "a whole number")
    points = points_of(lam, net, data, key, tau, paths, mean, max(batch, 1))
    nll, work = -points.value, points.work
    if log_p0 is not None:
        _checks.scalar("log_p0", log_p0, data[0], cure="Pass the log_prob of a density.")
        known = jax.vmap(log_p0)(data)
        return _summary(points, average(nll), average(nll + known), average(work + known))
    return _summary(points, average(nll), None, average(work))


def _summary(points: LogProb, nll: Estimate, kl: Estimate | None, work: Estimate) -> Likelihood:
    ess, marked = jnp.mean(points.ess), jnp.mean(1 - points.reliable.astype(points.ess.dtype))
    fine = (ess >= ENOUGH) & (marked <= FEW)
    gap = average(points.work + points.value)
    return Likelihood(nll, kl, work, gap, -jnp.mean(points.bias), ess, marked, fine, points)


@jit
def points_of(
    lam: Array,
    net: Predictor,
    data: Array,
    key: Key,
    tau: Array,
    paths: int,
    mean: Mean,
    batch: int,
) -> LogProb:
    @jax.checkpoint
    def one(point: tuple[State, Key]) -> LogProb:
        return _log_prob(lam, net, *point, tau, paths, mean)

    return jax.lax.map(one, (data, jax.random.split(key, len(data))), batch_size=batch)
