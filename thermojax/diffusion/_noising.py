r"""Noising as a `Process`: data on one side, the prior on the other, and everything between in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._process import Process, a_process
from .._types import Array, Density, Scalar, State, Time
from ..densities import Gaussian, noised
from ._kinds import VP, AbstractNoising
from ._levels import grown
from ._predictor import Predictor, predictor
from ._schedules import AbstractSchedule


def noising(
    data: Density,
    schedule: AbstractSchedule,
    *,
    kind: AbstractNoising = VP(),  # noqa: B008
    prior: Density | None = None,
) -> Process:
    r"""The noising of `data` as a Process, from $x = a x_0 + s \epsilon$ at `schedule.t0` to the prior at `schedule.t1`.

    - `data`: the density of clean data. For `Gaussian`, `Uniform`, a `Mixture` of these, `Point` and `Empirical` marginals
      and scores are known in closed form at every level; any other can be sampled only.
    - `schedule`: $\lambda(t)$, of `thermojax.diffusion`.
    - `kind`: `VP()`, `VE()` or `SubVP()`.
    - `prior`: where generation starts; None is N(0, 1), and N(0, $s^2$) at the last level for VE.

    `final` is the prior, so R is the log-ratio against the noising run backwards from there; with the true last marginal
    there, `prior=marginal(process, process.protocol.t1)`, it is the total entropy production of the noising. Raises
    `ValueError` for data without a density that start clean: their entropy is minus infinity.

    Source: Song et al., ICLR 2021; Zhang, arXiv 2606.18290, sec. 7.
    """
    _checks.density("data", data)
    if not isinstance(schedule, AbstractSchedule):
        raise TypeError(
            f"schedule must be a schedule of thermojax.diffusion, such as Linear(), got {type(schedule).__name__}. "
            "An array of levels: thermojax.diffusion.Levels(lam)."
        )
    if not isinstance(kind, AbstractNoising):
        raise TypeError(f"kind must be VP(), VE() or SubVP(), got {kind!r}.")
    x = _checks.draw("data", data)
    _checks.one_float(**{"the data": jnp.zeros((), x.dtype), "schedule": schedule})
    start = data
    if not schedule.clean:
        start = _start(data, kind, schedule)
    else:
        try:
            jax.eval_shape(data.log_prob, x)
        except ValueError as error:
            raise ValueError(
                f"data: {type(data).__name__} has no density and the schedule starts clean, so the entropy of the data is "
                "minus infinity and every log-ratio infinite. Give the data a noise floor: a schedule whose t0 lies above "
                "the time of clean data (Linear(t0=1e-3), Levels(lam, clean=False))."
            ) from error
    if prior is None:
        prior = Gaussian(jnp.zeros(x.shape, x.dtype), _spread(kind, schedule).astype(x.dtype))
    _checks.density("prior", prior)
    y = _checks.draw("prior", prior)
    if y.shape != x.shape:
        raise ValueError(f"prior must have the shape of the data, {x.shape}, got {y.shape}.")
    return Process(kind, schedule, start, prior)


@jit
def _start(data: Density, kind: AbstractNoising, schedule: AbstractSchedule) -> Density:
    first = schedule(schedule.t0).lam
    return noised(data, kind.signal(first), kind.noise(first) ** 2)


@jit
def _spread(kind: AbstractNoising, schedule: AbstractSchedule) -> Array:
    return kind.prior(schedule(schedule.t1).lam)


def kind_of(name: str, process: Process) -> AbstractNoising:
    a_process(name, process)
    if not isinstance(process.system, AbstractNoising):
        raise TypeError(
            f"{name} must be a noising, made by thermojax.diffusion.noising(...); got a process of "
            f"{type(process.system).__name__}. In path_ratio, too, the noising and its transition come first."
        )
    return process.system


def schedule_of(process: Process) -> AbstractSchedule:
    """The schedule of a noising."""
    if not isinstance(process.protocol, AbstractSchedule):
        raise TypeError(
            f"A noising is driven by a schedule of thermojax.diffusion, got {type(process.protocol).__name__}."
        )
    return process.protocol


def prior_of(process: Process) -> Density:
    """Where the generation of a noising starts."""
    if process.final is None:
        raise ValueError(
            "The generation of a noising starts from its prior, and this process has final=None. Make it by "
            "thermojax.diffusion.noising(data, schedule, prior=...)."
        )
    return process.final


def leap(kind: AbstractNoising, before: Scalar, after: Scalar) -> tuple[Scalar, Scalar]:
    """Shrinkage and variance of the noise between two levels, without cancellation."""
    return kind.signal(after) / kind.signal(before), kind.noise(after) ** 2 * grown(before, after)


def transition(process: Process, x: State, t0: Time, t1: Time) -> tuple[State, State]:
    r"""The exact kernel of a noising from any time to any later one, $q(x_{t_1} | x_{t_0})$: `(mean, variance)`,

    $$\frac{a_1}{a_0}\, x, \qquad s_1^2 - \frac{a_1^2}{a_0^2} s_0^2 = s_1^2\,(1 - e^{\lambda_1 - \lambda_0}),$$

    for `path_ratio(..., kernels=(transition, ...))` and `sample_path`.
    """
    kind_of("process", process)
    early, late = _checks.known(t0), _checks.known(t1)
    if early is not None and late is not None and not early <= late:
        raise ValueError(
            f"transition noises, from t0 to a later t1; got t0 = {early} and t1 = {late}."
        )
    t0, t1 = _inside(process, "t0", t0), _inside(process, "t1", t1)
    if early is None or late is None:
        t1 = _checks.marked(t1, t0 <= t1, "transition noises, from t0 to a later t1.")
    return _transition(process, x, t0, t1)


@jit
def _transition(process: Process, x: State, t0: Array, t1: Array) -> tuple[State, State]:
    lams = process.protocol(t0).lam, process.protocol(t1).lam
    shrink, variance = leap(kind_of("process", process), *lams)
    return shrink * x, jnp.broadcast_to(variance, x.shape)


def marginal(process: Process, t: Time) -> Density:
    """The density of a noising at time `t` of its span, exact where that of the data has a closed form (`noising`)."""
    kind_of("process", process)
    return _marginal(process, _inside(process, "t", t))


@jit
def _marginal(process: Process, t: Array) -> Density:
    return _at(process, process.protocol(t).lam)


def _inside(process: Process, name: str, t: Time) -> Array:
    """A time of the span of a noising."""
    t = jnp.asarray(t)
    schedule = schedule_of(process)
    value, t0, t1 = (_checks.known(v) for v in (t, schedule.t0, schedule.t1))
    if value is None or t0 is None or t1 is None:
        inside = (t >= schedule.t0) & (t <= schedule.t1)
        return _checks.marked(t, inside, f"{name} must lie in the span of the schedule.")
    if not t0 <= value <= t1:
        raise ValueError(f"{name} must lie in [{t0}, {t1}], the span of the schedule; got {value}.")
    return t


def score(process: Process) -> Predictor:
    r"""The exact score of a noising, $(x, \lambda) \mapsto \nabla \ln p_\lambda(x)$, as a `Predictor`.

    For data whose noised density has a closed form (`noising`); for `Empirical` data it is the score of the sample itself,
    which generates nothing but the sample. Known up to the first level of the schedule (all levels if it starts clean, e.g.
    `Linear(t0=0.0)`); `ValueError` above it, NaN while tracing.
    """
    kind = kind_of("process", process)
    return predictor(eqx.Partial(_exact, process), "score", kind=kind, name="score")


def _exact(process: Process, x: State, lam: Scalar) -> State:
    lam = jnp.asarray(lam)
    value = _checks.known(lam)
    if value is not None and (top := _checks.known(_top(process))) is not None:
        if (value > top + slack(top)).any():
            raise ValueError(
                f"lam = {value} lies above the first level of the schedule, {top}: the process knows its data as noised "
                "there. Start from clean data (Linear(t0=0.0)) or from a higher level."
            )
    return _gradient(process, x, lam)


@jit
def _gradient(process: Process, x: State, lam: Array) -> State:
    return jax.grad(_at(process, lam).log_prob)(x)


@jit
def _top(process: Process) -> Array:
    """The first level."""
    schedule = schedule_of(process)
    return schedule(schedule.t0).lam


def slack(first: Any) -> Any:
    """By which a level may lie above the first one, by rounding."""
    return 1e-5 * (1 + abs(first))


def _at(process: Process, lam: Array) -> Density:
    first = _top(process)
    lam = jnp.where(lam > first + slack(first), jnp.nan, jnp.where(lam > first, first, lam))
    return noised(process.initial, *leap(kind_of("process", process), first, lam))


@jit
def ends(process: Process) -> tuple[Scalar, Scalar]:
    """The first level of a noising and its last."""
    schedule = schedule_of(process)
    return schedule(schedule.t0).lam, schedule(schedule.t1).lam
