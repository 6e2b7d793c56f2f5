r"""How fast a noising moves its density, what that costs, and the schedule that moves it evenly."""

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._process import Process
from .._products import matmul
from .._types import Array, ArrayLike, Given, Key, Scalar
from ..estimators import Estimate
from ._draws import AbstractSource, clean_score
from ._levelwise import Rate
from ._measure import all_averaged, bent, integrate
from ._noising import ends, kind_of, schedule_of, slack
from ._parts import NO_SCORE, Asked, asked, seen, straight
from ._predictor import Network, Predictor, Predicts
from ._schedules import AbstractSchedule
from ._span import Span, clock

NAMES = ("generation",)
ALONG = 9  # polynomials of a curve along a schedule's pace
FINE = 4001  # levels between which the speed is interpolated, and a schedule's pace is one


class Kinetic(eqx.Module):
    r"""What it costs to carry the density of the data to the noise, and back.

    - `speed` $\langle |dx/d\lambda|^2 \rangle$ at `levels`, of the probability flow: no schedule is in it.
    - `entropy` $= \int \langle |v|^2 \rangle / D\, dt \ge W_2^2 / \int D\, dt$, in nats, and `diffusion_time` $\int D\, dt$.
    - `cost` $= \tau \int \langle |v|^2 \rangle\, dt \ge$ `length`$^2 \ge W_2^2$, in units of $x^2$: the schedule's, for all
      durations $\tau$; with `top`, of the part from there on.
    - `length` $= \int \langle |v|^2 \rangle^{1/2} dt$: of the way that the density goes. `even` levels go it at one speed,
      and then the cost is `length`$^2$: no schedule of this kind between these levels has less.
    """

    levels: Array
    speed: Rate
    entropy: Estimate
    diffusion_time: Scalar
    cost: Estimate
    length: Scalar
    ends: tuple[Scalar, Scalar]

    def even(self, number: int) -> Array:
        """As many levels, from first to last, between which the density goes equally far: `Levels(lam, clean=False)`."""
        number = _checks.whole("number", number, "a whole number of levels", 2)
        return _even(self, number)


def kinetic(
    noising: Process,
    data: Given,
    key: Key,
    *,
    predict: Network | Predictor | None = None,
    predicts: Predicts = "score",
    size: int | None = 10_000,
    nodes: int | None = None,
    top: ArrayLike | None = None,
) -> Kinetic:
    r"""The kinetic cost of a noising with its schedule, and the least that any schedule of its kind can have.

    $$\frac{dx}{d\lambda} = \tfrac12 s^2 (\kappa x + \nabla\ln p_\lambda), \qquad
      \tau \int_0^\tau \langle |v|^2 \rangle\, dt
      = \tau \int \Big\langle \Big|\frac{dx}{d\lambda}\Big|^2 \Big\rangle |\dot\lambda|\, d\lambda$$

    - `predict`: whose score it is; None is the exact one of `data`. The other arguments as in `price`.

    The distance $W_2$ of the two ends, from which the bounds in `Kinetic` follow, is `bounds.wasserstein` of two
    `marginal`s; `bounds.transport(w2, diffusion_time)` is that of the entropy. In one dimension, of VE and Gaussian data,
    the density goes straight: the length is $W_2$, and `even` reaches the bound.
    Source: Benamou & Brenier, Numer. Math. 84, 375 (2000); Aurell et al., J. Stat. Phys. 147, 487 (2012); Ikeda et al., PRX
    15, 031031 (2025), for diffusion models.
    """
    net = clean_score(data, kind_of("noising", noising)) if predict is None else predict
    if net is None:
        raise ValueError(f"kinetic needs a score, predict=. {NO_SCORE}.")
    given = asked(noising, net, data, key, predicts, None, size, nodes, top)
    first = ends(noising)[0]
    value, high = _checks.known(first), _checks.known(given.span.top)
    if value is not None and high is not None and high > value + slack(value):
        raise ValueError(
            f"top = {high:.6g} lies above the first level of the schedule, {value:.6g}: the cost is a schedule's, and none "
            "goes there. Leave it out, or give a level of the schedule."
        )
    found, curve, off = _kinetic(given, schedule_of(noising), first)
    straight(off)
    seen("the kinetic cost", given.span.lam, curve.value)
    return found


@jit
def _kinetic(
    given: Asked, schedule: AbstractSchedule, first: Scalar
) -> tuple[Kinetic, Rate, Array]:
    over, source = given.span, given.source
    square = 0.5 * over.kind.noise(over.lam) ** 2  # D per nat
    # both are sums over the levels of one rate: |dx/dlam|^2 is s^2/2 times that of the entropy
    duration, paced = _paced(schedule, over)
    cost = duration * square * jnp.where(over.top > first + slack(first), jnp.nan, paced)

    def total(other: AbstractSource, weight: Array) -> tuple[Rate, Array]:
        weighted = over._replace(weight=weight)
        curves, draws = integrate(other, given.net, given.exact, weighted, given.key, NAMES)
        return curves["generation"], draws["generation"]

    curve, entropy = total(source, over.weight)
    draws = {"entropy": entropy, "cost": total(source, cost)[1]}
    off = bent(source, lambda other: {"entropy": total(other, over.weight)[1]})
    found = all_averaged(source, {n: jnp.where(off, jnp.nan, v) for n, v in draws.items()})
    eps = jnp.finfo(curve.value.dtype).eps
    # less is what rounding leaves of a density that stands still
    moves = curve.value > (1e3 * eps) ** 2
    speed = Rate(square * jnp.where(moves, curve.value, 0), square * curve.stderr)
    kinetic = Kinetic(
        over.lam,
        speed,
        found["entropy"],
        jnp.sum(over.weight * square),
        found["cost"],
        jnp.sum(over.weight * jnp.sqrt(speed.value)),
        (over.top, over.bottom),
    )
    return kinetic, curve, off


def _paced(schedule: AbstractSchedule, over: Span) -> tuple[Scalar, Array]:
    r"""The time that it takes, and weights of $\int f\, |\dot\lambda|\, d\lambda$ for an f that is known at the nodes: with
    the polynomial through f q, and q a smooth curve along the pace,

    $$\int P_n\, \frac{|\dot\lambda|}{q}\, d\lambda \approx \sum_j \frac{P_n}{q} \frac{(\Delta\lambda_j)^2}{\Delta t_j} .$$

    f q is smooth, and the schedule need not be: `Levels` changes its pace at each level, where its slope does not say so.
    Without q the error of f where it is large would count where the pace is, a million times as fast at an end.
    """
    fine = over.top + (over.bottom - over.top) * jnp.linspace(0.0, 1.0, FINE).astype(over.top.dtype)
    ts = _moving(schedule, clock(schedule, fine), fine)
    lam = jax.vmap(schedule.log_snr)(ts)
    took, middles = jnp.diff(ts), 0.5 * (lam[1:] + lam[:-1])
    paces = jnp.where(took > 0, jnp.diff(lam) ** 2 / jnp.where(took > 0, took, 1), 0)

    def polynomials(lam: Array, count: int) -> Array:
        return _legendre(1 - 2 * (over.top - lam) / (over.top - over.bottom), count)

    def norms(count: int) -> Array:
        return 2 * jnp.arange(count, dtype=lam.dtype) + 1

    # the first few of the logarithm, of steps of equal length
    resolved = jnp.maximum(took, jnp.finfo(ts.dtype).eps * jnp.max(jnp.abs(ts)))
    halfway = 0.5 * (fine[1:] + fine[:-1])
    along = matmul(polynomials(halfway, ALONG), -jnp.log(resolved)) * norms(ALONG) / (FINE - 1)
    along = jax.lax.stop_gradient(along)

    def q(lam: Array) -> Array:
        return jnp.exp(matmul(along, polynomials(lam, ALONG)))

    count = len(over.lam)
    moments = matmul(polynomials(middles, count), paces / q(middles))
    weights = matmul(norms(count) * moments, polynomials(over.lam, count))
    return ts[-1] - ts[0], over.weight * q(over.lam) * weights / (over.top - over.bottom)


def _moving(schedule: AbstractSchedule, ts: Array, fine: Array) -> Array:
    r"""Times that are at the levels `fine`, with their derivative, $dt = (d\lambda - \partial\lambda_t)/\dot\lambda$."""
    slopes = jax.vmap(jax.grad(schedule.log_snr))(ts)
    off = jax.vmap(schedule.log_snr)(ts) - fine
    off, slopes = off - jax.lax.stop_gradient(off), jax.lax.stop_gradient(slopes)
    return ts - jnp.where(slopes < 0, off / jnp.where(slopes < 0, slopes, 1), 0)


def _legendre(x: Array, count: int) -> Array:
    """The polynomials of Legendre up to a degree, `(count, n)`."""

    def up(pair: tuple[Array, Array], n: Array) -> tuple[tuple[Array, Array], Array]:
        before, here = pair
        return (here, ((2 * n + 1) * x * here - n * before) / (n + 1)), here

    start = jnp.zeros_like(x), jnp.ones_like(x)
    return jax.lax.scan(up, start, jnp.arange(count, dtype=x.dtype))[1]


@jit
def _even(found: Kinetic, number: int) -> Array:
    top, bottom = found.ends
    lam = top + (bottom - top) * jnp.linspace(0.0, 1.0, FINE).astype(top.dtype)
    speed = found.speed.value
    fastest = jnp.where(jnp.any(speed > 0), jnp.max(speed), 1)  # where all stands still, evenly
    log = jnp.log(jnp.maximum(speed, jnp.finfo(speed.dtype).eps ** 2 * fastest))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        fine = interpax.interp1d(lam[::-1], found.levels[::-1], log[::-1], "cubic2", extrap=True)
    way = jnp.exp(0.5 * fine[::-1])
    steps = 0.5 * (way[1:] + way[:-1])
    gone = jnp.concatenate([jnp.zeros(1, way.dtype), jnp.cumsum(steps)])
    share = jnp.linspace(0.0, 1.0, number).astype(way.dtype)
    inside = jnp.interp(share * gone[-1], gone, lam)
    return inside.at[0].set(top).at[-1].set(bottom)
