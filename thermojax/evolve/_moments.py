r"""Densities without sampling: the exact evolution of a driven linear system, with its mean work, heat and entropy."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks, _factor
from .._affine import affine
from .._grids import within
from .._jit import jit
from .._paths import Entropy
from .._process import Process, a_process, baths, check_run, ends, one_protocol
from .._products import einsum, matmul
from .._types import Array, Control, Density, Drive, PyTree, Scalar, State, Time, Times
from ..densities import GaussianParts, normal
from ..systems import AbstractDiffusion, AbstractOverdamped, AbstractSystem
from ._evolution import GaussianEvolution


class _Moments(NamedTuple):
    mean: Array  # from where it was at first
    cov: Array
    heat: Array
    medium: Array


def moments(
    process: Process,
    ts: Times,
    *,
    rtol: float | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
) -> GaussianEvolution:
    r"""Mean and covariance of a linear system in time, and the exact mean work, heat, reduced work and entropies.

    With the drift $b = B x + c$ and $D$ per coordinate,

    $$\dot m = B m + c, \qquad \dot\Sigma = B \Sigma + \Sigma B^T + 2 D, \qquad
      \dot Q = \langle \dot q(x) \rangle = \dot q(m) + \tfrac12 \mathrm{tr}\,\dot q''\,\Sigma,$$

    $\dot q(x)$ the mean rate at which a bath is heated in the state x (overdamped: $\mu_i F_i^2 + D_i\,\partial_i F_i$),
    quadratic in x. $\langle W \rangle = \Delta\langle U \rangle + \langle Q \rangle$ with the energies at the true
    controls, end jumps included, so that no $\dot\lambda$ is taken; $\dot S_m = \sum_i \dot Q_i / T_i$ (less $\nabla
    \cdot u$, in a medium that flows) and $\Delta S_\mathrm{sys} = \tfrac12 \ln\det\Sigma(t)/\Sigma(0)$. The ordinary
    differential equations are solved to a relative tolerance `rtol` (1e-10 in float64, 1e-6 in float32) between the times
    `ts`, which should hold the protocol's kinks and jumps.

    The initial density must be Gaussian (`Gaussian`, `Point`, `Boltzmann` of a quadratic potential); from a `Point` the
    entropies are infinite. Raises `ValueError` if the force or the flow is not linear in x.
    Differentiable in reverse mode by default; with `adjoint=diffrax.DirectAdjoint()` in forward mode, too, and twice
    (`jax.hessian`), the gradient being slower then. A warning tells where the precision can't resolve the heat: in float32
    that of a drive of a thousand relaxation times.

    Source: Risken, *The Fokker–Planck Equation* (1989), sec. 6.5; for the heat, Seifert (2012), eq. 25.
    """
    a_process("process", process)
    ts = _checks.times("ts", ts)
    one_protocol("moments", process)
    within(process, ts)
    if adjoint is None:
        adjoint = dfx.RecursiveCheckpointAdjoint(checkpoints=64)
    ts = check_run(process, ts)
    try:
        found, solved, unknown = _moments(process, ts, rtol, adjoint)
    except TypeError as error:
        if "forward-mode" in str(error):
            error.add_note(
                "moments: adjoint=diffrax.DirectAdjoint() has forward mode, and second derivatives."
            )
        raise
    if not _checks.tracing((found, solved, unknown)):
        _told(found, bool(solved), unknown, _gaussian(process.initial).mean, ts)
    return found


def _told(found: GaussianEvolution, solved: bool, unknown: Array, start: State, ts: Times) -> None:
    """Refuse what was not solved; say it if what the tolerance leaves open in the medium entropy matters."""
    if not solved:
        far = np.max(np.abs(start))
        coarse = (
            f" Positions near {far:.3g} are {np.spacing(far):.1g} apart in {start.dtype}: count them, and the controls, "
            "from near there, or use float64."
        )
        times = np.asarray(ts)
        step = np.spacing(np.abs(times).max())
        clock = (
            f" Times near {times[0]:.9g} are {step:.1g} apart in {times.dtype}, and the protocol is a staircase of that: "
            "count the time, and the protocol's, from near there."
        )
        raise RuntimeError(
            "moments: the solver of the moments' equations did not come through, in 4096 steps between two of the times. "
            "Give more times, a larger rtol=, or a system less stiff."
            + coarse * bool(np.spacing(far) > 1e-3)
            + clock * bool(step > 1e-9 * (times[-1] - times[0]))
        )
    medium = np.abs(np.asarray(found.entropy.medium[-1]))
    done = found.reduced_work
    work = np.inf if done is None else np.abs(np.asarray(done[-1]))
    if (unknown > 0.01 * medium and unknown > 1e-3) or (unknown > 0.01 * work and unknown > 0.1):
        warnings.warn(
            f"moments: work, heat and entropy are small differences of large terms here, known to about {unknown:.1g} nats "
            f"only (medium entropy {medium:.3g}): the drive is slow, or long, or the start far from where it comes to. Use "
            "float64, or a smaller rtol.",
            RuntimeWarning,
            stacklevel=3,
        )


@jit
def _moments(
    process: Process, ts: Array, rtol: float | None, adjoint: dfx.AbstractAdjoint
) -> tuple[GaussianEvolution, Array, Array]:
    protocol, start = process.protocol, _gaussian(process.initial)
    system = linear(process.system, start.mean, protocol, ts)
    dim, dtype = start.mean.shape[0], jnp.result_type(start.mean)
    ts = ts.astype(dtype)
    origin = start.mean  # what is expanded about it keeps its digits wherever it lies
    before, after = ends(protocol, ts)

    def averaged(fn: Callable[[State], Array], y: _Moments) -> Array:
        """The mean of a quadratic function, by its expansion about the origin."""
        slope, bend = jax.jacfwd(fn)(origin), jax.hessian(fn)(origin)
        second = y.cov + jnp.outer(y.mean, y.mean)
        return fn(origin) + matmul(slope, y.mean) + 0.5 * einsum("...ij,ij->...", bend, second)

    def flow(t: Time, y: _Moments) -> _Moments:
        lam = protocol(t)
        slope = jax.jacfwd(system.drift)(origin, lam)
        spread = matmul(slope, y.cov)
        noise = jnp.broadcast_to(2 * system.diffusion(origin, lam), (dim,))
        heat = averaged(lambda x: system.heating(x, lam), y)
        cov = spread + spread.T + jnp.where(jnp.eye(dim, dtype=bool), noise[:, None], 0)
        medium = jnp.sum(heat / system.temperature(lam))
        if isinstance(system, AbstractOverdamped) and system.velocity is not None:
            medium = medium - system.dilation(origin, lam)  # the same everywhere: it is linear
        return _Moments(system.drift(origin, lam) + matmul(slope, y.mean), cov, heat, medium)

    def gross(mean: Array, cov: Array, lam: Control) -> Scalar:
        """The rate of the medium entropy with all its terms positive: what an error of `rtol` is relative to."""
        bend = jax.hessian(system.heating)(origin, lam)
        spread = 0.5 * jnp.abs(einsum("...ij,ij->...", bend, cov))
        terms = jnp.abs(system.heating(origin + mean, lam)) + spread
        return jnp.sum(terms / system.temperature(lam))

    several = baths(process, ts)
    y0 = _Moments(
        jnp.zeros_like(origin), start.cov, jnp.zeros(several, dtype), jnp.zeros((), dtype)
    )
    rtol = tolerance(dtype) if rtol is None else rtol
    solver, controller = dfx.Dopri8(), _WholeFirst(dfx.PIDController(rtol=rtol, atol=rtol))
    warmth = jnp.broadcast_to(jax.lax.stop_gradient(system.temperature(before)), several)

    def ends_of(t: Array) -> tuple[Array, Array]:
        """The slope of the drift, and the width that noise makes, at both ends of an interval."""
        lams = jax.vmap(protocol)(jnp.stack(inner(t[0], t[1], ts)))

        def of(lam: Control) -> tuple[Array, Array]:
            noise = stirred(system, origin, lam, ts[-1] - ts[0])
            return jax.jacfwd(system.drift)(origin, lam), noise

        return jax.vmap(of, axis_size=2)(lams)

    def scaled(s: Time, y: _Moments, given: tuple[Array, _Moments]) -> _Moments:
        t, units = given
        rate = flow(
            jnp.clip(t[0] + s, *inner(t[0], t[1], ts)), jtu.tree_map(jnp.multiply, y, units)
        )
        return jtu.tree_map(jnp.divide, rate, units)

    def leg(
        y: _Moments, given: tuple[Array, Array, Array]
    ) -> tuple[_Moments, tuple[_Moments, Array]]:
        t, slopes, noises = given
        own = jnp.sqrt(jnp.maximum(jnp.diagonal(y.cov), 0))
        each = jax.vmap(lambda slope, noise: finest(own, noise, slope, t[1] - t[0]))
        width = jax.lax.stop_gradient(jnp.min(each(slopes, noises), 0))
        units = _Moments(width, jnp.outer(width, width), warmth, jnp.ones((), dtype))
        # each interval on its own: a kink or a jump of the protocol at one of `ts` is then never stepped over; its clock
        # starts at zero, so that the solver's steps keep their digits
        solution = dfx.diffeqsolve(
            dfx.ODETerm(scaled),
            solver,
            jnp.zeros_like(t[0]),
            t[1] - t[0],
            None,
            jtu.tree_map(jnp.divide, y, units),
            args=(t, units),
            stepsize_controller=controller,
            adjoint=adjoint,
            max_steps=4096,
            throw=False,
        )
        y = jtu.tree_map(lambda v, unit: v[0] * unit, solution.ys, units)
        return y, (y, solution.result == dfx.RESULTS.successful)

    spans = jnp.stack([ts[:-1], ts[1:]], axis=1)
    _, (later, solved) = jax.lax.scan(leg, y0, (spans, *jax.vmap(ends_of)(spans)))
    path = jtu.tree_map(lambda a, b: jnp.concatenate([a[None], b]), y0, later)

    def energy(y: _Moments, lam: Control) -> Scalar:
        return averaged(lambda x: system.energy(x, lam), y)

    lams = jax.vmap(protocol)(ts)
    lams = jtu.tree_map(lambda v, b, a: v.at[0].set(b).at[-1].set(a), lams, before, after)
    energies = jax.vmap(energy)(path, lams)
    heat = path.heat.sum(-1) if several else path.heat
    half_log_det = 0.5 * jax.vmap(_log_det)(path.cov)
    gain = (half_log_det - half_log_det[0]).at[0].set(0)
    reduced = None
    if not several:
        phi = energies / jax.vmap(system.temperature, axis_size=len(ts))(lams)
        reduced = phi - phi[0] + path.medium
    work = energies - energies[0] + heat
    fine = jnp.all(solved) & jnp.all(jnp.isfinite(ts))
    found = GaussianEvolution(
        ts,
        work,
        path.heat,
        reduced,
        Entropy(gain + path.medium, path.medium, gain),
        origin[None] + path.mean,
        path.cov,
    )
    rates = jax.vmap(gross)(path.mean, path.cov, lams)
    unknown = rtol * jnp.sum(0.5 * (rates[1:] + rates[:-1]) * jnp.diff(ts))
    found = jtu.tree_map(lambda v: jnp.where(fine, v, jnp.nan), found)
    return found, fine, jax.lax.stop_gradient(unknown)


def tolerance(dtype: np.dtype) -> float:
    return 1e-10 if dtype == np.float64 else 1e-6


class _WholeFirst(dfx.AbstractStepSizeController):
    """The first step tries the whole interval: as `dt0` of diffrax it would be checked by a callback."""

    then: dfx.PIDController

    def wrap(self, direction: PyTree) -> "_WholeFirst":
        return _WholeFirst(self.then.wrap(direction))

    def init(
        self,
        terms: PyTree,
        t0: PyTree,
        t1: PyTree,
        y0: PyTree,
        dt0: None,
        args: PyTree,
        func: PyTree,
        error_order: PyTree,
    ) -> tuple[PyTree, PyTree]:
        return self.then.init(terms, t0, t1, y0, t1 - t0, args, func, error_order)

    def adapt_step_size(
        self,
        t0: PyTree,
        t1: PyTree,
        y0: PyTree,
        y1_candidate: PyTree,
        args: PyTree,
        y_error: PyTree,
        error_order: PyTree,
        controller_state: PyTree,
    ) -> tuple[PyTree, ...]:
        return self.then.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
        )


def widths(system: AbstractDiffusion, start: GaussianParts, lam: Control, span: Scalar) -> Array:
    """The width of each coordinate: the start's or, where greater, what noise makes of it."""
    own = jnp.sqrt(jnp.diagonal(start.cov))
    return jax.lax.stop_gradient(jnp.maximum(own, stirred(system, start.mean, lam, span)))


def stirred(system: AbstractDiffusion, x: State, lam: Control, span: Scalar) -> Array:
    """The width that noise gives each coordinate in the relaxation time, or in the time `span` if that is shorter; of a
    coordinate without noise of its own, what it has of those with.
    """
    slope = jnp.abs(jax.jacfwd(system.drift)(x, lam))
    fastest = jnp.sqrt(jnp.max(jnp.diagonal(matmul(slope, slope))))
    time = 1 / (1 / span + 2 * fastest)
    noise = jnp.sqrt(2 * time * jnp.broadcast_to(system.diffusion(x, lam), x.shape))
    coupled = jnp.max(time * slope * noise[None, :], axis=1)
    return jax.lax.stop_gradient(jnp.maximum(noise, coupled))


def finest(own: Array, noise: Array, slope: Array, span: Scalar) -> Array:
    """What errors are relative to in the time `span`: as narrow as coordinates `own` wide may become."""
    wide = jnp.maximum(own, noise)
    wide = jnp.where(wide > 0, wide, 1)
    slope = slope * wide[None] / wide[:, None]
    rate = 0.5 * jnp.sqrt(jnp.sum((slope + slope.T) ** 2))  # at which they narrow, at most
    least = jnp.maximum(noise, jnp.minimum(own, 2 * noise))
    width = jnp.maximum(least, own * jnp.exp(-rate * span))
    return jnp.where(width > 0, width, 1)


def inner(t0: Array, t1: Array, ts: Array) -> tuple[Array, Array]:
    """The ends of a step, three roundings of the clock inside it: `Steps` takes what is two before an edge for the edge."""
    last = jnp.maximum(jnp.abs(ts[0]), jnp.abs(ts[-1]))
    inset = 3 * jnp.spacing(jax.lax.stop_gradient(last))
    return t0 + inset, t1 - inset


def _log_det(cov: Array) -> Scalar:
    """Minus infinity where there is no width in some direction, as of a point."""
    narrow = jnp.isnan(_factor.log_det(_factor.root(jax.lax.stop_gradient(cov))))
    narrow = narrow & jnp.all(jnp.isfinite(cov))
    wide = jnp.where(narrow, jnp.eye(len(cov), dtype=cov.dtype), cov)
    return jnp.where(narrow, -jnp.inf, _factor.log_det(_factor.root(wide)))


def _gaussian(density: Density) -> GaussianParts:
    start = normal(density)
    if start is None:
        raise ValueError(
            f"moments needs a Gaussian start, got {type(density).__name__}, which is no Gaussian (Boltzmann is one unless "
            "its potential is not quadratic in x). Use thermojax.densities.Gaussian (with the moments of points: "
            "Gaussian(xs.mean(0), jnp.cov(xs.T))), Point, or Boltzmann of a quadratic potential; or simulate. Of jumps "
            "and spins take evolve.master(process, ts, states)."
        )
    return start


def linear(system: AbstractSystem, x: State, protocol: Drive, ts: Times) -> AbstractDiffusion:
    """The system, if its drift is linear in x and its potential quadratic."""
    if not isinstance(system, AbstractDiffusion):
        raise TypeError(
            f"moments is for linear diffusions (AbstractDiffusion), and {type(system).__name__} is none. Simulate it "
            "with thermojax.ensemble; of jumps and spins take evolve.master(process, ts, states)."
        )
    lam = protocol(ts[0])
    if not affine(lambda y: system.drift(y, lam), x):
        raise ValueError(
            "moments is for linear systems, and this force or flow is not linear in x. Simulate it with thermojax.ensemble."
        )
    flows = isinstance(system, AbstractOverdamped) and system.velocity is not None
    if flows and not affine(lambda y: system.irreversible(y, lam), x):
        raise ValueError(
            "moments is for linear systems, and neither the force nor the flow of this one is linear in x. Simulate it with "
            "thermojax.ensemble."
        )
    if not affine(jax.grad(lambda y: system.energy(y, lam)), x):
        raise ValueError("moments needs a potential that is quadratic in x, and this one is not.")
    return system
