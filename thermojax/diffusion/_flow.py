r"""The probability flow: generation as an ordinary differential equation, and the density that it gives."""

from collections.abc import Callable
from typing import Literal, TypeAlias, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, ArrayLike, Key, PyTree, Scalar, State
from ._kinds import AbstractNoising
from ._noising import ends, kind_of, prior_of
from ._predictor import Network, Predictor, Predicts, predictor

Towards = Literal["data", "noise"]
Flowing = tuple[State, Scalar | None]  # and the growth of its log-density, if it is asked for
Velocity = Callable[[Scalar, Flowing, PyTree], Flowing]
_Whole: TypeAlias = int | Array | np.ndarray  # diffrax's own types of its times
_Real: TypeAlias = float | _Whole


def flow(
    process: Process,
    predict: Network | Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    towards: Towards = "data",
    rtol: float = 1e-5,
    steps: int | None = None,
) -> State:
    r"""Carry one state along the probability flow of a noising, to the data or to the noise. Vmap it over states.

    $$\frac{dx}{d\lambda} = \tfrac12 s^2 \big[\kappa x + s_\theta(x, \lambda)\big]$$

    has the marginals of the noising if the score is exact. Time has dropped out: the end does not depend on the schedule,
    only on its first and last level, which must be finite. `predict`, `predicts`: as in `generate`.

    - `rtol`: solved by diffrax (`Tsit5`) to this tolerance, beside x or the noise s of the level, whichever is larger, by as
      many steps as that takes; NaN where it could not be done.
    - `steps`: or by as many steps of the classical Runge–Kutta method, even in $\lambda$, four calls of the network each.
      `rtol` is then not used, and the error is not watched: it falls as `steps`$^{-4}$, so compare with half of them. Their
      number is fixed, so there is no loop whose end must be waited for, and the gradient is that of the steps taken,
      exactly; it keeps one state per step.

    Source: Song et al., ICLR 2021, eq. 13.
    """
    if towards not in ("data", "noise"):
        raise ValueError(f'towards must be "data" or "noise", got {towards!r}.')
    net, x = _ready(process, predict, predicts, x)
    return _flow(process, net, x, towards, jnp.asarray(rtol), whole_steps(steps))


def flow_log_prob(
    process: Process,
    predict: Network | Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    rtol: float = 1e-5,
    steps: int | None = None,
    probes: int | None = None,
    key: Key | None = None,
) -> Scalar:
    r"""The log-density in nats that the probability flow, started from the prior, gives to one state at the first level:

    $$\ln p(x) = \ln \pi(x_T) + \int \nabla \cdot v\, dt,$$

    the integral from the first level to the last. Vmap it over states (and keys).

    - `rtol`, `steps`: as in `flow`. Measured on eight modes of width .1 on a circle of radius one, in the mean and at the
      worst of 300 points: rtol 1e-3 errs by .007 and .1, 1e-5 by 6e-6 and 3e-4; 48 steps by 2e-5 and 4e-4, 96 by 1e-6 and
      2e-5.
    - `probes`: None takes the trace of the Jacobian in full, by d products of it with a vector; a number estimates it by
      that many, $\nabla\cdot v \approx \langle z \cdot \partial_x v\, z \rangle_z$ with signs $z_i = \pm 1$ drawn by `key`
      and kept along the path. Without bias, whatever the number, and exact where the Jacobian is diagonal (so if d = 1).
      Its variance, $\frac12 \sum_{i \ne j} (J_{ij} + J_{ji})^2$ over `probes` with $J = \int \partial_x v\, dt$, is seen
      in the spread over `key`: of a mean over data with a key each, the standard error has it in already; of one point it is
      the spread of a few calls. On eight narrow modes one probe for each data point doubles the variance of a mean;
      that pays where d products cost more than twice the points, from d of about ten.

    Sources: Song et al., ICLR 2021, eq. 39; Hutchinson, Commun. Stat. Simul. Comput. 18, 1059 (1989); Grathwohl et al.,
    ICLR 2019 (the same signs along the path).
    """
    net, x = _ready(process, predict, predicts, x)
    prior_of(process)
    if (probes is None) != (key is None):
        given, missing = ("key", "probes") if probes is None else ("probes", "key")
        raise ValueError(
            f"flow_log_prob was given {given} and no {missing}. The divergence is estimated by a number of probes, drawn by "
            "a key, probes=1, key=jax.random.key(0); without both its trace is taken in full."
        )
    if probes is not None:
        probes = _checks.whole("probes", probes, "a whole number of probe vectors")
        key = _checks.key("key", key)
    return along_flow(process, net, x, jnp.asarray(rtol), whole_steps(steps), probes, key)


def whole_steps(steps: int | None) -> int | None:
    return None if steps is None else _checks.whole("steps", steps, "a whole number of steps")


def _ready(
    process: Process, predict: Network | Predictor, predicts: Predicts, x: State
) -> tuple[Predictor, State]:
    kind = kind_of("process", process)
    first = _checks.known(ends(process)[0])
    if first is not None and not np.isfinite(first):
        raise ValueError(
            "The probability flow needs a finite first level, and this schedule starts from clean data. Start later "
            "(Linear(t0=1e-3), Levels(lam, clean=False))."
        )
    return predictor(predict, predicts, kind=kind, name="predict"), _checks.floating("x", x)


def _levels(process: Process, x: State) -> tuple[Scalar, Scalar]:
    """The ends, for a state that fits the process."""
    _checks.point("flow", x, _checks.draw("initial", process.initial).shape[0])
    _checks.one_float(**{"x": x, "the process": process})
    first, last = ends(process)
    return first.astype(x.dtype), last.astype(x.dtype)


@jit
def _flow(
    process: Process, net: Predictor, x: State, towards: Towards, rtol: Scalar, steps: int | None
) -> State:
    first, last = _levels(process, x)
    way = (first, last) if towards == "noise" else (last, first)
    return _solved(_velocity, way, (x, None), net.kind, net, rtol, steps)[0]


@jit
def along_flow(
    process: Process,
    net: Predictor,
    x: State,
    rtol: Scalar,
    steps: int | None,
    probes: int | None,
    key: Key | None,
) -> Scalar:
    start = x, jnp.zeros((), x.dtype)
    way = _levels(process, x)
    if probes is None or key is None:
        end, grown = _solved(_velocity_and_divergence, way, start, net.kind, net, rtol, steps)
    else:
        signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        args = net, signs
        end, grown = _solved(_velocity_and_probed, way, start, net.kind, args, rtol, steps)
    return prior_of(process).log_prob(end) + grown


def _speed(lam: Scalar, x: State, net: Predictor) -> State:
    return 0.5 * net.kind.noise(lam) ** 2 * (net.kind.stiffness(lam) * x + net.score(x, lam))


def _velocity(lam: Scalar, y: Flowing, net: Predictor) -> Flowing:
    return _speed(lam, y[0], net), None


def _velocity_and_divergence(lam: Scalar, y: Flowing, net: Predictor) -> Flowing:
    jacobian = jax.jacfwd(lambda x: _speed(lam, x, net))(y[0])
    return _speed(lam, y[0], net), jnp.trace(jacobian)


def _velocity_and_probed(lam: Scalar, y: Flowing, args: tuple[Predictor, Array]) -> Flowing:
    net, signs = args
    velocity, push = jax.linearize(lambda x: _speed(lam, x, net), y[0])
    return velocity, jnp.mean(jnp.sum(signs * jax.vmap(push)(signs), axis=1))


def _solved(
    velocity: Velocity,
    way: tuple[Scalar, Scalar],
    y: Flowing,
    kind: AbstractNoising,
    args: PyTree,
    rtol: Scalar,
    steps: int | None,
) -> Flowing:
    if steps is not None:
        return _stepped(velocity, way, y, args, steps)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(_moving),
        dfx.Tsit5(),
        *way,
        (way[1] - way[0]) / 100,
        y,
        # not closed over: a closure is new to diffrax's own cache at every call
        args=(velocity, args),
        stepsize_controller=_Watch(dfx.PIDController(rtol=rtol, atol=rtol), kind),
        saveat=dfx.SaveAt(t1=True),
        throw=False,
    )
    # a span that is NaN or endless is none at all to a solver
    good = (solution.result == dfx.RESULTS.successful) & jnp.isfinite(way[1] - way[0])
    return jax.tree.map(lambda v: jnp.where(good, v[0], jnp.nan), solution.ys)


def _moving(lam: ArrayLike, y: Flowing, args: tuple[Velocity, PyTree]) -> Flowing:
    velocity, args = args
    return velocity(jnp.asarray(lam), y, args)


@final
class _Watch(dfx.AbstractStepSizeController):
    """The errors of x/s, which has no unit: a tolerance means the same in any, and at every level."""

    usual: dfx.AbstractStepSizeController
    kind: AbstractNoising
    direction: _Whole = 1

    def wrap(self, direction: _Whole) -> "_Watch":
        return _Watch(self.usual.wrap(direction), self.kind, direction)

    def init(self, *args: PyTree, **named: PyTree) -> PyTree:
        return self.usual.init(*args, **named)

    def adapt_step_size(
        self,
        t0: _Real,
        t1: _Real,
        y0: Flowing,
        y1_candidate: Flowing,
        args: PyTree,
        y_error: PyTree,
        error_order: _Real,
        controller_state: PyTree,
    ) -> PyTree:
        s = self.kind.noise(jnp.asarray(t1 * self.direction))  # diffrax's own time always rises
        y0, y1, error = ((y[0] / s, y[1]) for y in (y0, y1_candidate, y_error))
        return self.usual.adapt_step_size(
            t0, t1, y0, y1, args, error, error_order, controller_state
        )


def _stepped(
    velocity: Velocity, way: tuple[Scalar, Scalar], y: Flowing, args: PyTree, steps: int
) -> Flowing:
    """By the classical Runge–Kutta method, its four stages in one loop: one copy of the velocity to compile. What a step
    calculates is calculated again for its gradient, not kept."""
    first, h = way[0], (way[1] - way[0]) / steps
    reaches, weights = (jnp.asarray(v, first.dtype) for v in ((0, 0.5, 0.5, 1), (1, 2, 2, 1)))

    def moved(y: PyTree, by: Scalar, slope: PyTree) -> PyTree:
        return jax.tree.map(lambda v, k: v + by * k, y, slope)

    @eqx.filter_checkpoint
    def step(y: PyTree, k: Scalar, args: PyTree) -> PyTree:
        lam = first + k * h

        def stage(carry: PyTree, given: tuple[Scalar, Scalar]) -> tuple[PyTree, None]:
            slope, total = carry
            reach, weight = given
            slope = velocity(lam + reach * h, moved(y, reach * h, slope), args)
            return (slope, moved(total, weight, slope)), None

        still = jax.tree.map(jnp.zeros_like, y)
        (_, total), _ = jax.lax.scan(stage, (still, still), (reaches, weights))
        return moved(y, h / 6, total)

    counted = jnp.arange(steps, dtype=first.dtype)
    return jax.lax.scan(lambda y, k: (step(y, k, args), None), y, counted)[0]
