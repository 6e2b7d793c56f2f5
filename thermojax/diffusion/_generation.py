r"""Generation as a `Process`: the noising's equation run backwards with a learned score, as SDE, as chain or as ODE."""

from collections.abc import Callable
from typing import Any, Literal

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _levels
from .._paths import Path
from .._process import Process, a_process, within
from .._ratio import Kernel
from .._types import Array, Control, Key, Scalar, State, Times
from ..protocols import Reversed
from ..systems import Overdamped
from ._kinds import AbstractNoising
from ._noising import kind_of

Predicts = Literal["score", "noise", "clean"]
Predictor = Callable[[Any, Any], Any]  # (x, lam) -> like x


class Score(eqx.Module):
    r"""The score of a predictor: itself, $-\hat\epsilon/s$ of the noise, or $(a \hat x_0 - x)/s^2$ of the clean state."""

    kind: AbstractNoising
    predict: Predictor
    predicts: Predicts = eqx.field(static=True)

    def predicted(self, x: State, lam: Scalar) -> State:
        """What the predictor says, of the shape of the state."""
        out = self.predict(x, lam)
        shape = getattr(out, "shape", type(out).__name__)
        if shape != x.shape:
            raise ValueError(
                f"The {self.predicts} predictor must return an array of the shape of the state, {x.shape}; got {shape}."
            )
        return out

    def __call__(self, x: State, lam: Scalar) -> State:
        out = self.predicted(x, lam)
        if self.predicts == "score":
            return out
        s = self.kind.noise(lam)
        if self.predicts == "noise":
            return -out / s
        return (self.kind.signal(lam) * out - x) / s**2

    def clean(self, x: State, lam: Scalar) -> State:
        r"""The clean state, $(x + s^2 \nabla\ln p)/a$."""
        if self.predicts == "clean":
            return self.predicted(x, lam)
        return (x + self.kind.noise(lam) ** 2 * self(x, lam)) / self.kind.signal(lam)


def _score(kind: AbstractNoising, predict: Any, predicts: Any) -> Score:
    if predicts not in ("score", "noise", "clean"):
        raise ValueError(f'predicts must be "score", "noise" or "clean", got {predicts!r}.')
    if not callable(predict):
        raise TypeError(f"predict must be a callable (x, lam), got {predict!r}.")
    _checks.takes("predict", predict, "x", "lam", cure="Wrap it: lambda x, lam: net(x).")
    return Score(kind, predict, predicts)


class Drift(eqx.Module):
    r"""The force of generation over its temperature that the potential leaves: $\kappa x + 2 \nabla\ln p + \nabla\phi$."""

    score: Score
    potential: Any

    def __call__(self, x: State, lam: Control) -> State:
        force = self.score.kind.stiffness(lam.lam) * x + 2 * self.score(x, lam.lam)
        return force if self.potential is None else force + jax.grad(self.potential)(x, lam)


def generate(
    process: Process, predict: Predictor, *, predicts: Predicts = "score", potential: Any = None
) -> Process:
    r"""The generation that belongs to a noising: a Process from its prior to its data,

    $$dy = \big[D \kappa\, y + 2D\, s_\theta(y, \lambda)\big]\, d\bar t + \sqrt{2D}\, dW, \qquad \lambda = \lambda(t_0 + t_1
      - \bar t).$$

    - `process`: the `noising`.
    - `predict`: the score, or a predictor of the noise or of the clean state, as `predicts` says: any callable `(x, lam)`
      of one state and the log signal-to-noise ratio, e.g. an `equinox.Module`. A network that takes a time:
      `lambda x, lam: net(x, schedule.time(lam))`.
    - `potential`: a reduced potential $\phi(x, \text{level})$ for the energy's part of the force; the rest,
      $F/T + \nabla\phi$, then counts as the force that does no potential work. None: all of it does.

    It is simulated like any Process. As the backward process of `path_ratio(process, generation, path)`, R is the
    irreversibility of the model, whose mean is the score error and the mismatch of the end,

    $$\langle R \rangle = \mathrm{KL}(p_T \| \pi) + \int D\, \langle |s_\theta - \nabla\ln p_t|^2 \rangle\, dt .$$

    Source: Anderson, Stoch. Proc. Appl. 12, 313 (1982); Song et al., ICLR 2021, eq. 6; Zhang, arXiv 2606.18290, eqs. 7.11,
    7.24.
    """
    kind = kind_of("process", process)
    assert process.final is not None
    drift = Drift(_score(kind, predict, predicts), potential)
    system = Overdamped(potential, force=drift, mobility=kind.mobility, temperature=1.0)
    return Process(system, Reversed(process.protocol), process.final, process.initial)


def reverse_kernel(
    process: Process,
    predict: Predictor,
    lam: Array,
    tau: Array,
    *,
    predicts: Predicts = "score",
    mean: _levels.Mean = "ddpm",
) -> Kernel:
    r"""The generating kernel of an N-step chain, for `path_ratio` and `walk` on the grid of `Levels(lam)`:

    $$p(x_{k-1} | x_k) = N\big(A_k x_k + B_k \hat x_0(x_k), \tau_k\big).$$

    - `lam`: the levels, `(N,)`, of the chain that `process` walks; `tau` `(N,)` its variances in the scale of VP
      (`schedules.variances`, `schedules.chain(lam).noise`, or learned ones). A step between other levels is NaN.
    - `predict`, `predicts`: as in `generate`.
    - `mean`: `"ddpm"`, which is the exponential integrator's, or `"euler"`, of VP's reverse equation.

    The kernel of a step in time, at the middle of the step, is `thermojax.euler` of the generation.
    """
    kind = kind_of("process", process)
    lam, tau = _levels.plan(lam, tau)
    _levels.between(lam[:1], lam[:1], mean)  # knows the mean
    return eqx.Partial(_reverse_kernel, _score(kind, predict, predicts), lam, tau, mean)


def _reverse_kernel(
    score: Score,
    lam: Array,
    tau: Array,
    mean: Any,
    process: Process,
    x: State,
    t0: Scalar,
    t1: Scalar,
) -> tuple[State, State]:
    after, before = process.protocol(t0).lam, process.protocol(t1).lam  # time runs backwards
    k = jnp.argmin(jnp.abs(lam - after))
    earlier = jnp.where(k > 0, lam[jnp.maximum(k - 1, 0)], jnp.inf)
    tau = jnp.where(_near(lam[k], after) & _near(earlier, before), tau, jnp.nan)
    step = _levels.between(before, after, mean)
    # VP's numbers, in the scale of the kind
    there, here = (score.kind.signal(l) / _levels.signal(l) for l in (before, after))
    back = step.keep * x / here + step.add * score.clean(x, after)
    return there * back, jnp.broadcast_to(there**2 * tau[k], x.shape)


def _near(a: Scalar, b: Scalar) -> Array:
    return (a == b) | (jnp.abs(a - b) < 1e-4 * (1 + jnp.abs(a)))


def walk(process: Process, ts: Times, key: Key, kernel: Kernel) -> Path:
    """One path of the chain of Gaussian kernels `(process, x, t0, t1) -> (mean, variance)`, from `process.initial`.

    With `jump` it is exact noising, with `reverse_kernel` the generation of an N-step chain, with `thermojax.euler` the
    Euler–Maruyama chain. Vmap it over keys. A path that stops being finite has `ok=False`.
    """
    a_process("process", process)
    ts, key = _checks.times("ts", ts), _checks.key("key", key)
    within(process, ts)
    if not callable(kernel):
        raise TypeError(f"kernel must be a callable (process, x, t0, t1), got {kernel!r}.")
    start, noise = jax.random.split(key)
    x0 = process.initial.sample(start)
    _checks.one_float(**{"the initial state": x0, "ts": ts, "process": process})
    normals = jax.random.normal(noise, (ts.shape[0] - 1, *x0.shape), x0.dtype)

    def step(x: State, k: Any) -> tuple[State, State]:
        t0, t1, z = k
        mean, variance = kernel(process, x, t0, t1)
        x = mean + jnp.sqrt(variance) * z
        return x, x

    _, xs = jax.lax.scan(step, x0, (ts[:-1], ts[1:], normals))
    xs = jnp.concatenate([x0[None], xs])
    return Path(ts, xs, jnp.all(jnp.isfinite(xs)))


def flow(
    process: Process,
    predict: Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    towards: Literal["data", "noise"] = "data",
    rtol: float = 1e-5,
) -> State:
    r"""Carry one state along the probability flow of a noising, to the data or to the noise. Vmap it over states.

    $$\frac{dx}{d\lambda} = \tfrac12 s^2 \big[\kappa x + s_\theta(x, \lambda)\big]$$

    has the marginals of the noising if the score is exact. Time has dropped out: the end does not depend on the schedule,
    only on its first and last level, which must be finite. NaN where the equation could not be solved. Solved by diffrax
    (`Tsit5`) to `rtol`. Source: Song et al., ICLR 2021, eq. 13.
    """
    if towards not in ("data", "noise"):
        raise ValueError(f'towards must be "data" or "noise", got {towards!r}.')
    score, ends = _flow(process, predict, predicts, x)
    return _solve(lambda lam, x, _: _velocity(score, x, lam), x, ends, towards, rtol)


def flow_log_prob(
    process: Process,
    predict: Predictor,
    x: State,
    *,
    predicts: Predicts = "score",
    rtol: float = 1e-5,
) -> Scalar:
    r"""The log-density in nats that the probability flow, started from the prior, gives to one state at the first level:

    $$\ln p(x) = \ln \pi(x_T) + \int \nabla \cdot v\, dt,$$

    with the trace of the Jacobian taken in full (d products). Vmap it over states. Source: Song et al., ICLR 2021, eq. 39.
    """
    score, ends = _flow(process, predict, predicts, x)
    assert process.final is not None

    def velocity(lam: Scalar, y: Any, _: Any) -> Any:
        jacobian = jax.jacfwd(lambda x: _velocity(score, x, lam))(y[0])
        return _velocity(score, y[0], lam), jnp.trace(jacobian)

    end, grown = _solve(velocity, (x, jnp.zeros((), x.dtype)), ends, "noise", rtol)
    return process.final.log_prob(end) + grown


def _flow(
    process: Process, predict: Any, predicts: Any, x: Any
) -> tuple[Score, tuple[Scalar, Scalar]]:
    kind = kind_of("process", process)
    start = _checks.shapes("initial.sample(key)", process.initial.sample, jax.random.key(0))
    _checks.point("flow", x, start.shape[0])
    schedule: Any = process.protocol
    first, last = schedule(schedule.t0).lam, schedule(schedule.t1).lam
    value = _checks.known(first)
    if value is not None and not np.isfinite(value):
        raise ValueError(
            "The probability flow needs a finite first level, and this schedule starts from clean data. Start later "
            "(Linear(t0=1e-3), Levels(lam, clean=False))."
        )
    _checks.one_float(**{"x": x, "the process": process})
    return _score(kind, predict, predicts), (first.astype(x.dtype), last.astype(x.dtype))


def _velocity(score: Score, x: State, lam: Scalar) -> State:
    return 0.5 * score.kind.noise(lam) ** 2 * (score.kind.stiffness(lam) * x + score(x, lam))


def _solve(velocity: Any, y: Any, ends: tuple[Scalar, Scalar], towards: str, rtol: float) -> Any:
    first, last = ends
    a, b = (first, last) if towards == "noise" else (last, first)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(velocity),
        dfx.Tsit5(),
        a,
        b,
        None,
        y,
        stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol),
        saveat=dfx.SaveAt(t1=True),
        throw=False,
    )
    good = solution.result == dfx.RESULTS.successful
    return jax.tree.map(lambda v: jnp.where(good, v[0], jnp.nan), solution.ys)
