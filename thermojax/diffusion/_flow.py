r"""The probability flow: generation as an ordinary differential equation, and the density that it gives."""

from collections.abc import Callable
from typing import Literal

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._process import Process
from .._types import Array, PyTree, Scalar, State
from ._noising import kind_of, prior_of, schedule_of
from ._predictor import Network, Predictor, Predicts, predictor

Towards = Literal["data", "noise"]


def flow(
    process: Process,
    predict: Network | Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    towards: Towards = "data",
    rtol: float = 1e-5,
) -> State:
    r"""Carry one state along the probability flow of a noising, to the data or to the noise. Vmap it over states.

    $$\frac{dx}{d\lambda} = \tfrac12 s^2 \big[\kappa x + s_\theta(x, \lambda)\big]$$

    has the marginals of the noising if the score is exact. Time has dropped out: the end does not depend on the schedule,
    only on its first and last level, which must be finite. NaN where the equation could not be solved. Solved by diffrax
    (`Tsit5`) to `rtol`. `predict`, `predicts`: as in `generate`. Source: Song et al., ICLR 2021, eq. 13.
    """
    if towards not in ("data", "noise"):
        raise ValueError(f'towards must be "data" or "noise", got {towards!r}.')
    net, x = _ready(process, predict, predicts, x)
    return _flow(process, net, x, towards, jnp.asarray(rtol))


def flow_log_prob(
    process: Process,
    predict: Network | Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    rtol: float = 1e-5,
) -> Scalar:
    r"""The log-density in nats that the probability flow, started from the prior, gives to one state at the first level:

    $$\ln p(x) = \ln \pi(x_T) + \int \nabla \cdot v\, dt,$$

    with the trace of the Jacobian taken in full (d products). Vmap it over states. Source: Song et al., ICLR 2021, eq. 39.
    """
    net, x = _ready(process, predict, predicts, x)
    prior_of(process)
    return _flow_log_prob(process, net, x, jnp.asarray(rtol))


def _ready(
    process: Process, predict: Network | Predictor, predicts: Predicts, x: State
) -> tuple[Predictor, State]:
    kind = kind_of("process", process)
    first = _checks.known(_ends(process)[0])
    if first is not None and not np.isfinite(first):
        raise ValueError(
            "The probability flow needs a finite first level, and this schedule starts from clean data. Start later "
            "(Linear(t0=1e-3), Levels(lam, clean=False))."
        )
    return predictor(predict, predicts, kind=kind, name="predict"), _checks.floating("x", x)


@eqx.filter_jit
def _ends(process: Process) -> tuple[Array, Array]:
    """The first and the last level."""
    schedule = schedule_of(process)
    return schedule(schedule.t0).lam, schedule(schedule.t1).lam


def _levels(process: Process, x: State) -> tuple[Scalar, Scalar]:
    """The ends, for a state that fits the process."""
    _checks.point("flow", x, _checks.draw("initial", process.initial).shape[0])
    _checks.one_float(**{"x": x, "the process": process})
    first, last = _ends(process)
    return first.astype(x.dtype), last.astype(x.dtype)


@eqx.filter_jit
def _flow(process: Process, net: Predictor, x: State, towards: Towards, rtol: Scalar) -> State:
    first, last = _levels(process, x)
    ends = (first, last) if towards == "noise" else (last, first)
    return _solved(_velocity, ends, x, net, rtol)


@eqx.filter_jit
def _flow_log_prob(process: Process, net: Predictor, x: State, rtol: Scalar) -> Scalar:
    start = x, jnp.zeros((), x.dtype)
    ends = _levels(process, x)
    end, grown = _solved(_velocity_and_divergence, ends, start, net, rtol)
    return prior_of(process).log_prob(end) + grown


def _velocity(lam: Scalar, x: State, net: Predictor) -> State:
    return 0.5 * net.kind.noise(lam) ** 2 * (net.kind.stiffness(lam) * x + net.score(x, lam))


def _velocity_and_divergence(
    lam: Scalar, y: tuple[State, Scalar], net: Predictor
) -> tuple[State, Scalar]:
    jacobian = jax.jacfwd(lambda x: _velocity(lam, x, net))(y[0])
    return _velocity(lam, y[0], net), jnp.trace(jacobian)


def _solved(
    velocity: Callable[..., PyTree],
    ends: tuple[Scalar, Scalar],
    y: PyTree,
    net: Predictor,
    rtol: Scalar,
) -> PyTree:
    solution = dfx.diffeqsolve(
        dfx.ODETerm(velocity),
        dfx.Tsit5(),
        *ends,
        None,
        y,
        args=net,  # not closed over: a closure is new to diffrax's own cache at every call
        stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol),
        saveat=dfx.SaveAt(t1=True),
        throw=False,
    )
    good = solution.result == dfx.RESULTS.successful
    return jax.tree.map(lambda v: jnp.where(good, v[0], jnp.nan), solution.ys)
