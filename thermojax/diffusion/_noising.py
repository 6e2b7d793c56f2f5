r"""Noising as a `Process`: data on one side, the prior on the other, and everything between in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._process import Process, a_process
from .._types import Density, Scalar, State
from ..densities import Gaussian, noised
from ._kinds import VP, AbstractNoising
from ._schedules import AbstractSchedule


def noising(
    data: Density,
    schedule: AbstractSchedule,
    *,
    kind: AbstractNoising = VP(),  # noqa: B008
    prior: Density | None = None,
) -> Process:
    r"""The noising of `data` as a Process, from $x = a x_0 + s \epsilon$ at `schedule.t0` to the prior at `schedule.t1`.

    - `data`: the density of clean data. For `Gaussian`, `Mixture` of Gaussians, `Point` and `Empirical` the marginals and
      their scores are known in closed form at every level; any other can be sampled only.
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
    first, last = schedule(schedule.t0).lam, schedule(schedule.t1).lam
    x = _checks.shapes("data.sample(key)", data.sample, jax.random.key(0))
    if not isinstance(x, jax.ShapeDtypeStruct) or len(x.shape) != 1:
        raise ValueError(f"data.sample(key) must return one state (d,), also for d = 1; got {x}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"data.sample(key) must return floating-point numbers, got {x.dtype}. Use .astype(float)."
        )
    _checks.one_float(**{"the data": jnp.zeros((), x.dtype), "schedule": schedule})
    start = data
    if not schedule.clean:
        start = noised(data, kind.signal(first), kind.noise(first) ** 2)
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
        prior = Gaussian(jnp.zeros(x.shape, x.dtype), kind.prior(last).astype(x.dtype))
    _checks.density("prior", prior)
    y = _checks.shapes("prior.sample(key)", prior.sample, jax.random.key(0))
    if y.shape != x.shape:
        raise ValueError(f"prior must have the shape of the data, {x.shape}, got {y.shape}.")
    return Process(kind, schedule, start, prior)


def kind_of(name: str, process: Any) -> AbstractNoising:
    a_process(name, process)
    if not isinstance(process.system, AbstractNoising):
        raise TypeError(
            f"{name} must be a noising, made by thermojax.diffusion.noising(...); got a process of "
            f"{type(process.system).__name__}. In path_ratio, too, the noising and its jump come first."
        )
    return process.system


def leap(kind: AbstractNoising, before: Scalar, after: Scalar) -> tuple[Scalar, Scalar]:
    """Shrinkage and variance of the noise between two levels, without cancellation."""
    shrink = kind.signal(after) / kind.signal(before)
    stays_clean = jnp.isinf(before) & jnp.isinf(after)
    fall = jnp.where(stays_clean, 0, after - before)
    return shrink, -(kind.noise(after) ** 2) * jnp.expm1(fall)


def jump(process: Process, x: State, t0: Scalar, t1: Scalar) -> tuple[State, State]:
    r"""The exact kernel of a noising from any time to any later one, $q(x_{t_1} | x_{t_0})$: `(mean, variance)`,

    $$\frac{a_1}{a_0}\, x, \qquad s_1^2 - \frac{a_1^2}{a_0^2} s_0^2 = s_1^2\,(1 - e^{\lambda_1 - \lambda_0}),$$

    for `path_ratio(..., kernels=(jump, ...))` and `walk`.
    """
    kind = kind_of("process", process)
    early, late = _checks.known(t0), _checks.known(t1)
    if early is not None and late is not None and not early <= late:
        raise ValueError(f"jump noises, from t0 to a later t1; got t0 = {early} and t1 = {late}.")
    t0, t1 = _inside(process, "t0", t0), _inside(process, "t1", t1)
    shrink, variance = leap(kind, process.protocol(t0).lam, process.protocol(t1).lam)
    return shrink * x, jnp.broadcast_to(variance, x.shape)


def marginal(process: Process, t: Any) -> Any:
    """The density of a noising at time `t` of its span, exact where that of the data has a closed form (`noising`)."""
    kind_of("process", process)
    return _at(process, process.protocol(_inside(process, "t", t)).lam)


def _inside(process: Process, name: str, t: Any) -> Any:
    """A time of the span of a noising."""
    t = jnp.asarray(t)
    value, t0, t1 = (_checks.known(v) for v in (t, process.protocol.t0, process.protocol.t1))
    if value is not None and t0 is not None and t1 is not None and not t0 <= value <= t1:
        raise ValueError(f"{name} must lie in [{t0}, {t1}], the span of the schedule; got {value}.")
    return t


def score(process: Process) -> Any:
    r"""The exact score of a noising, the callable $(x, \lambda) \mapsto \nabla \ln p_\lambda(x)$.

    For data whose noised density has a closed form (`noising`); for `Empirical` data it is the score of the sample itself,
    which generates nothing but the sample. Known up to the first level of the schedule (all levels if it starts clean, e.g.
    `Linear(t0=0.0)`); `ValueError` above it, NaN while tracing. Compile it with `equinox.filter_jit`.
    """
    kind_of("process", process)
    return eqx.Partial(_score, process)


def _score(process: Process, x: State, lam: Scalar) -> State:
    return jax.grad(_at(process, lam).log_prob)(x)


def _at(process: Process, lam: Scalar) -> Any:
    first = process.protocol(process.protocol.t0).lam
    value, top = _checks.known(lam), _checks.known(first)
    slack = 1e-5 * (1 + abs(first))
    if value is not None and top is not None and (value > top + slack).any():
        raise ValueError(
            f"lam = {value} lies above the first level of the schedule, {top}: the process knows its data as noised there. "
            "Start from clean data (Linear(t0=0.0)) or from a higher level."
        )
    lam = jnp.where(lam > first + slack, jnp.nan, lam)
    return noised(process.initial, *leap(kind_of("process", process), first, lam))
