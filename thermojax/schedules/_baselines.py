r"""Other people's schedules in a line each, between the same two ends as ours: to compare with.

Karras's is `LogSNR.edm`, log-uniform in $\sigma$ is `LogSNR.uniform`; DDPM's and the cosine are `LogSNR.linear`, `.cosine`.
"""

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._types import Array, ArrayLike, Key, Scalar
from ..diffusion import VP, Network, Predictor
from ..optimal import AbstractExactLoss, search
from ._chain import denoiser
from ._cost import Tau, dissipation, mean_work
from ._curve import AbstractCurve
from ._logsnr import LogSNR
from ._metric import ends, even, lengths

LEVELS = "a whole number of levels"


def arctan(steps: int, top: ArrayLike, bottom: ArrayLike, *, scale: ArrayLike = 0.5) -> Array:
    r"""N levels `(N,)` with $\sigma = c \tan\theta$, $\theta$ even from `top` to `bottom`, c = `scale`.

    For data $N(0, c^2)$ these are DDIM's best: each step multiplies the standard deviation by $\cos\Delta$ of what it should
    be. Source: by induction; the same levels as Lu & Song, arXiv 2410.11081 (TrigFlow, even in their time).
    """
    steps = _checks.whole("steps", steps, LEVELS, 2)
    scale = _checks.floating("scale", scale, positive=True)
    both = _checks.falling("(top, bottom)", jnp.stack([jnp.asarray(top), jnp.asarray(bottom)]))
    first, last = jnp.arctan(jnp.exp(-0.5 * both) / scale)
    levels = -2 * jnp.log(scale * jnp.tan(jnp.linspace(first, last, steps)))
    return levels.at[0].set(both[0]).at[-1].set(both[1])  # of which the angle has not all digits


def entropic(curve: AbstractCurve, steps: int, top: ArrayLike, bottom: ArrayLike) -> Array:
    r"""N levels `(N,)` from `top` to `bottom` at equal steps of the entropy of the data given the noisy state, $dH =
    \tfrac d2\,\mathrm{mmse}\,du$.

    Source: Stancevic, Handke & Ambrogioni, arXiv 2504.13612 (entropic time).
    """
    steps = _checks.whole("steps", steps, LEVELS, 2)
    return even(steps, *lengths(curve, top, bottom, _entropy))


def _entropy(lam: Array, curve: AbstractCurve) -> Array:
    return jnp.exp(lam) * curve(lam)


class _Klub(AbstractExactLoss):
    """The bound of the path measures between two ends."""

    curve: AbstractCurve
    ends: Array

    def __call__(self, schedule: LogSNR, key: Key | None = None) -> Scalar:
        lam = jnp.concatenate([self.ends[:1], schedule(), self.ends[1:]])
        return jnp.sum(dissipation(lam, self.curve, tau="posterior"))

    def check(self) -> None:
        return None

    def failures(self, protocol: LogSNR, key: Key) -> str:
        return "The curve does not reach some level."

    def likelihood_ratio(self, protocol: LogSNR, key: Key) -> Scalar:
        raise ValueError("There are no paths.")


def align(curve: AbstractCurve, steps: int, top: ArrayLike, bottom: ArrayLike) -> Array:
    r"""N levels `(N,)` from `top` to `bottom` that minimise the KLUB of Align Your Steps, from the curve alone:

    $$\mathrm{KLUB} = \tfrac12 \sum_k \int_{u_k}^{u_{k-1}} \langle |D_u - D_{u_k}|^2 \rangle\, du = \tfrac d2 \sum_k
      \Big[(u_{k-1} - u_k)\,\mathrm{mmse}(u_k) - \int \mathrm{mmse}\,du\Big],$$

    the sum of `dissipation(lam, curve, tau="posterior")`, since the clean state seen is a martingale in u. They descend it
    through the network, by importance sampling. By L-BFGS from `equal_length`; not under `jit`.

    Source: Sabour, Fidler & Kreis, ICML 2024 (arXiv 2404.14507).
    """
    steps = _checks.whole("steps", steps, LEVELS, 2)
    both = ends(curve, top, bottom)
    if steps == 2:
        return both
    begin = even(steps, *lengths(curve, both[0], both[1], _spread))[1:-1]
    start = LogSNR.from_array(begin, low=both[1], high=both[0])
    found = search(_Klub(curve, both), start, steps=200, progress=False).found()
    return jnp.concatenate([both[:1], found, both[1:]])


def _spread(lam: Array, curve: AbstractCurve) -> Array:
    """The root of the metric of that sum; where noise makes it negative, next to nothing."""
    return jnp.sqrt(jnp.maximum(-jnp.exp(lam) * curve.slope(lam), 1e-12))


def dynamic(
    curve: AbstractCurve,
    steps: int,
    top: ArrayLike,
    bottom: ArrayLike,
    *,
    points: int = 256,
    tau: Tau = "optimal",
) -> Array:
    r"""N levels `(N,)` from `top` to `bottom` of the best −ELBO on a grid even in $\lambda$ of `points` levels, by dynamic
    programming: the optimum of `mean_work` between these ends, to the grid.

    Source: Watson, Ho, Norouzi & Chan, arXiv 2106.03802.
    """
    steps = _checks.whole("steps", steps, LEVELS, 2)
    points = _checks.whole("points", points, "a whole number of levels of the grid", steps)
    both = ends(curve, top, bottom)
    grid = jnp.linspace(both[0], both[1], points)
    return grid[_cheapest(_costs(grid, curve, tau), steps - 1)]


@jit
def _costs(grid: Array, curve: AbstractCurve, tau: Tau) -> Array:
    """Of a step between each two levels, from the row's, the cleaner, to the column's."""
    step = lambda a, b: mean_work(jnp.stack([a, b]), curve, tau=tau).steps[1]
    return jax.vmap(jax.vmap(step, (None, 0)), (0, None))(grid, grid)


def gits_like(denoise: Network | Predictor, start: Array, steps: int, lam: Array) -> Array:
    r"""N + 1 of the levels `lam` for N steps of DDIM, the first and the last included, by dynamic programming on how far a
    step leaves the trajectory: a re-implementation of the idea of GITS, not of its code.

    `lam` is a fine grid, falling; `start` `(n, d)` draws of the noise at its last level, in the scale of VP, which are
    carried along all of it for the reference. A step from one level to another costs the root mean square of its miss.

    Source: Chen, Zhou, Wang, Shen & Lyu, ICML 2024 (arXiv 2405.11326).
    """
    lam, start = _checks.falling("lam", lam), _checks.floating("start", start)
    _checks.rank("start", start, {2}, "(n, d), one row per draw")
    steps = _checks.whole("steps", steps, "a whole number of steps")
    if steps >= lam.shape[0]:
        raise ValueError(
            f"lam must be a grid of more than {steps} levels for {steps} steps, got {lam.shape[0]}."
        )
    return lam[_cheapest(_misses(denoiser(denoise), start, lam), steps)]


@jit
def _misses(net: Predictor, start: Array, lam: Array) -> Array:
    """Of a step between each two levels, from the column's, the noisier, to the row's."""
    sigma, a = jnp.exp(-0.5 * lam), VP().signal(lam)
    noise = jax.vmap(lambda y, k: (y - net.clean(a[k] * y, lam[k])) / sigma[k], (0, None))

    def down(y: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        slope = noise(y, k)
        return y + (sigma[k - 1] - sigma[k]) * slope, (y, slope)

    order = jnp.arange(len(lam))
    _, (ys, slopes) = jax.lax.scan(down, start / a[-1], order, reverse=True)

    def from_(k: Array) -> Array:
        reached = ys[k][None] + (sigma - sigma[k])[:, None, None] * slopes[k][None]
        return jnp.sqrt(jnp.mean((reached - ys) ** 2, axis=(1, 2)))

    return jax.vmap(from_, out_axes=1)(order)


@jit
def _cheapest(costs: Array, steps: int) -> Array:
    """The indices of the cheapest way in so many steps, each forward, from the first to the last."""
    size = len(costs)
    forward = jnp.arange(size)[:, None] < jnp.arange(size)[None]
    costs = jnp.where(forward, costs, jnp.inf)

    def step(best: Array, _: None) -> tuple[Array, Array]:
        ways = best[:, None] + costs
        return jnp.min(ways, axis=0), jnp.argmin(ways, axis=0)

    begin = jnp.where(jnp.arange(size) == 0, 0, jnp.inf).astype(costs.dtype)
    _, came = jax.lax.scan(step, begin, length=steps)

    def back(at: Array, came: Array) -> tuple[Array, Array]:
        return came[at], at

    first, rest = jax.lax.scan(back, jnp.asarray(size - 1), came, reverse=True)
    return jnp.append(first, rest)
