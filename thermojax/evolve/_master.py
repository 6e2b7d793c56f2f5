r"""The master equation of a system with few states: probabilities and mean exchanges, without sampling."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._grids import within
from .._jit import jit
from .._paths import Entropy, running
from .._process import Process, a_process, baths, check_run, ends, one_protocol
from .._products import matmul
from .._types import Array, Control, Density, Float, Given, Scalar, Time, Times
from ..densities import Point, States, listed
from ..systems import (
    AbstractDiscrete,
    AbstractJumps,
    AbstractKernelStep,
    Spins,
    Sweep,
    same,
)
from ._evolution import Evolution
from ._exponential import propagator

Probabilities: TypeAlias = Float[Array, " n"]


class StatesEvolution(Evolution):
    """An evolution over a list of `states` `(n, d)`: their probabilities `p` `(m, n)` at `ts`. It has no score."""

    states: Float[Array, "n d"]
    p: Float[Array, "m n"]

    @property
    def final(self) -> States:
        self.alone("final")
        return States(self.states, self.p[-1])

    def at(self, t: Time) -> States:
        return States(self.states, *self._between(t, self.p))


class _Relaxed(NamedTuple):
    """After a step at fixed control: the probabilities, and the mean heat and entropy given to the medium."""

    p: Probabilities
    heat: Array
    medium: Scalar


def master(
    process: Process, ts: Times, states: Given, *, solver: AbstractKernelStep | None = None
) -> StatesEvolution:
    r"""The probabilities of all `states` `(n, d)` in time, and the mean work, heat, reduced work and entropies.

    $$\dot p = A(\lambda)\, p, \qquad \dot Q = \sum_{x,e} p_x k_e Q_e, \qquad \dot S_m = \sum_{x,e} p_x k_e Q_e/T, \qquad
      S = -\sum_x p_x \ln p_x$$

    with the control of the middle of each step: turn the knob at fixed p (work), relax at fixed $\lambda$ (heat).

    - Jumps relax by $e^{A\,dt}$, so that the steps matter for the control alone; with several baths each event's heat goes
      to its own.
    - `Spins` take their sweeps, site by site, if `states` is `systems.spin_states(d)`: 2^20 states are no burden.
    - `solver=` takes any step that has a kernel, `systems.Once()` say: the chain that `ensemble` samples, at the same steps.
      Otherwise n should be some hundreds.

    Differentiable in reverse and forward mode. Raises `ValueError` where a state leads out of the list, or a jump breaks
    local detailed balance (NaN while tracing). Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 6.
    """
    ts, states = _front("master", process, ts, states, solver)
    found = _run(process, ts, states, solver, _all_spins(states))
    if not _checks.tracing(found) and not np.isfinite(np.asarray(found.entropy.medium)).all():
        _told("master", process, ts, states)
    return found


def generating(
    process: Process,
    ts: Times,
    states: Given,
    s: Given = 1.0,
    *,
    solver: AbstractKernelStep | None = None,
) -> Scalar:
    r"""$\ln \langle e^{-s W_\mathrm{red}} \rangle$ of the reduced work, without sampling; see `master`.

    From equilibrium it is $-\Delta(\beta F)$ at s = 1. Its derivatives by s at 0 are the cumulants of $-W_\mathrm{red}$, and
    its value at 2 says how many paths an exponential average needs (`optimal.estimator_variance`). For systems whose heat is
    all potential energy: with work at fixed control, `ValueError`. Energies that turn by more than 80 kT want double
    precision: a state whose weight is below the least number does not come back.
    """
    ts, states = _front("generating", process, ts, states, solver)
    system, spins = process.system, _all_spins(states)
    if isinstance(system, AbstractJumps):
        if _works(system, states, eqx.filter_eval_shape(process.protocol, ts[0])):
            raise ValueError(
                "generating is for work by turns of the control alone, and the jumps of this system take work of their own."
            )
    s = _checks.floating("s", s).astype(states.dtype)
    _checks.rank("s", s, {0}, "(), one number (jax.vmap over several)")
    found = _generating(process, ts, states, s, solver, spins)
    if not _checks.tracing(found) and not bool(jnp.isfinite(found)):
        _told("generating", process, ts, states)
    return found


def _front(
    name: str, process: Process, ts: Times, states: Given, solver: Given
) -> tuple[Array, Array]:
    a_process("process", process)
    ts = _checks.times("ts", ts)
    one_protocol(name, process)
    if not isinstance(process.system, AbstractDiscrete):
        raise TypeError(
            f"evolve.{name} is for systems of few states (Jumps, Spins), and {type(process.system).__name__} is none. Use "
            "evolve.fokker_planck or evolve.moments."
        )
    if solver is not None and not isinstance(solver, AbstractKernelStep):
        raise TypeError(f"solver must be a step with a kernel, or None; got {solver!r}.")
    states = listed("states", states)
    x = _checks.draw("initial", process.initial)
    if states.shape[1:] != x.shape:
        raise ValueError(
            f"states must have shape (n, {x.shape[0]}), as many coordinates as the initial density draws; got "
            f"{states.shape}."
        )
    within(process, ts)
    return check_run(process, ts), states.astype(x.dtype)


def probabilities(density: Density, states: Array) -> Probabilities:
    """What a density says of each state."""
    if isinstance(density, Point):
        p = same(states, density.x0[None]).astype(states.dtype)
    else:
        p = jnp.exp(jax.vmap(density.log_prob)(states))
    allowed = "a distribution over the states: of these its probabilities must have the sum 1"
    return _checks.must("process.initial", p, jnp.abs(jnp.sum(p) - 1) < 1e-3, allowed, jnp.sum(p))


def _relaxation(
    system: AbstractDiscrete, states: Array, solver: AbstractKernelStep | None, spins: bool
) -> Callable[[Probabilities, Control, Scalar], _Relaxed]:
    """How probabilities relax at a fixed control for a time dt."""
    step = system.step("kernel") if solver is None else solver
    if isinstance(system, Spins) and isinstance(step, Sweep) and spins:
        return lambda p, lam, dt: _swept(system, states, p, lam, dt)
    if isinstance(system, AbstractJumps) and solver is None:
        return lambda p, lam, dt: _jumped(system, states, p, lam, dt)
    if not isinstance(step, AbstractKernelStep):
        raise TypeError(f"{type(step).__name__} has no kernel: give solver= a step that has one.")
    return lambda p, lam, dt: _stepped(system, step, states, p, lam, dt)


def _works(system: AbstractJumps, states: Array, lam: Control) -> bool:
    """Whether jumps take work of their own."""
    x = jax.ShapeDtypeStruct(states.shape[1:], states.dtype)
    return system.implied or eqx.filter_eval_shape(system.work, x, lam) is not None


def _all_spins(states: Array) -> bool:
    return States(states, jnp.full(len(states), 1 / len(states), states.dtype)).spins


def energies(system: AbstractDiscrete, states: Array, lam: Control) -> Array:
    return jax.vmap(lambda x: system.energy(x, lam))(states)


def _swept(system: Spins, states: Array, p: Array, lam: Control, dt: Scalar) -> _Relaxed:
    """Site by site: the two states that differ in its spin alone share their probability anew."""
    u, temperature, start, d = (
        energies(system, states, lam),
        system.temperature(lam),
        p,
        states.shape[1],
    )
    visited = 1.0 if system.rate is None else -jnp.expm1(-system.rate * dt)
    for i in system.sites(d):
        pair = (2**i, 2, 2 ** (d - 1 - int(i)))
        e, q = u.reshape(pair), p.reshape(pair)
        gain = (e[:, 1] - e[:, 0]) / temperature
        drawn = jnp.stack([jax.nn.sigmoid(gain), jax.nn.sigmoid(-gain)], 1)
        drawn = drawn * jnp.sum(q, axis=1, keepdims=True)
        p = (visited * drawn + (1 - visited) * q).reshape(-1)
    heat = jnp.sum((u - jnp.min(u)) * (start - p))
    return _Relaxed(p, heat, heat / temperature)


def generator(system: AbstractJumps, states: Array, lam: Control) -> tuple[Array, Array, Array]:
    """A `(n, n)`, whose columns sum to zero; and the rates at which each state gives heat and entropy to the medium."""

    def column(x: Array) -> tuple[Array, Array, Array]:
        rates = system.rates(x, lam)
        leads = same(states[None], system.after(x)[:, None])
        lost = jnp.any((rates > 0) & ~jnp.any(leads, axis=1))
        into = jnp.sum(jnp.where(leads, rates[:, None], 0), axis=0)
        into = jnp.where(same(states, x[None]), 0, into)
        of = system.events(x, lam)
        heat, medium = matmul(rates, of.heat), matmul(rates, of.medium)
        return jnp.where(lost, jnp.nan, into), heat, medium

    into, heat, medium = jax.vmap(column)(states)
    return into.T - jnp.diag(jnp.sum(into, axis=1)), heat, medium


def _jumped(system: AbstractJumps, states: Array, p: Array, lam: Control, dt: Scalar) -> _Relaxed:
    matrix, heat, medium = generator(system, states, lam)
    moved, time = propagator(matrix, dt)
    later, spent = matmul(moved, p), matmul(time, p)
    heat, medium = matmul(spent, heat), matmul(spent, medium)
    if system.bath is None and not _works(system, states, lam):
        # where many jumps go to and fro in a step, their heats cancel, and what is left is the energy that is lost
        u = energies(system, states, lam)
        lost = matmul(p - later, u - jnp.min(u))
        many = (jnp.max(-jnp.diagonal(matrix)) * dt > 1) & jnp.isfinite(medium)
        heat = jnp.where(many, lost, heat)
        medium = jnp.where(many, lost / system.temperature(lam), medium)
    return _Relaxed(later, heat, medium)


def _stepped(
    system: AbstractDiscrete,
    step: AbstractKernelStep,
    states: Array,
    p: Array,
    lam: Control,
    dt: Scalar,
) -> _Relaxed:
    def column(x: Array) -> tuple[Array, Array, Array]:
        kernel, start = step.kernel(system, x, lam, dt), system.energy(x, lam)

        def one(y: Array) -> tuple[Array, Array, Array]:
            chance = jnp.exp(kernel.log_prob(y))
            of = system.exchange(x, y, lam, start - system.energy(y, lam))
            there = chance > 0
            heat, medium = (jnp.where(there, v, jnp.zeros_like(v)) for v in of[1:])
            return chance, heat, medium

        chance, heat, medium = jax.vmap(one)(states)
        chance = jnp.where(jnp.abs(jnp.sum(chance) - 1) < 1e-3, chance, jnp.nan)
        return chance, matmul(chance, heat), matmul(chance, medium)

    chance, heat, medium = jax.vmap(column)(states)
    return _Relaxed(matmul(p, chance), matmul(p, heat), matmul(p, medium))


class _Along(NamedTuple):
    """A run's controls: of the steps, and at the times with the ends' own."""

    steps: Control
    times: Control


def _along(process: Process, ts: Array) -> _Along:
    before, after = ends(process.protocol, ts)
    lams = jax.vmap(process.protocol)(ts)
    lams = jtu.tree_map(lambda v, b, a: v.at[0].set(b).at[-1].set(a), lams, before, after)
    return _Along(jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1])), lams)


@jit
def _run(
    process: Process,
    ts: Array,
    states: Array,
    solver: AbstractKernelStep | None,
    spins: bool,
) -> StatesEvolution:
    system = process.system
    assert isinstance(system, AbstractDiscrete)
    ts = ts.astype(states.dtype)
    relax, along = _relaxation(system, states, solver, spins), _along(process, ts)
    start = probabilities(process.initial, states)

    @jax.checkpoint
    def step(p: Array, given: tuple[Control, Scalar]) -> tuple[Array, _Relaxed]:
        found = relax(p, *given)
        return found.p, found

    _, steps = jax.lax.scan(step, start, (along.steps, jnp.diff(ts)))
    p = jnp.concatenate([start[None], steps.p])
    heat, medium = running(steps.heat), running(steps.medium)
    u = jax.lax.map(lambda at: matmul(at[0], energies(system, states, at[1])), (p, along.times))
    several, reduced = bool(baths(process, ts)), None
    if not several:
        phi = u / jax.vmap(system.temperature, axis_size=len(ts))(along.times)
        reduced = phi - phi[0] + medium
    filled = p > 0
    entropy = -jnp.sum(jnp.where(filled, p * jnp.log(jnp.where(filled, p, 1)), 0), axis=1)
    gain = entropy - entropy[0]
    work = u - u[0] + (heat.sum(-1) if several else heat)
    nats = Entropy(gain + medium, medium, gain)
    return StatesEvolution(ts, work, heat, reduced, nats, states, p)


@jit
def _generating(
    process: Process,
    ts: Array,
    states: Array,
    s: Scalar,
    solver: AbstractKernelStep | None,
    spins: bool,
) -> Scalar:
    system = process.system
    assert isinstance(system, AbstractDiscrete)
    if baths(process, ts):
        raise ValueError(
            "generating needs one bath: with several U/T, of which its work is, does not exist. master gives their heats."
        )
    ts = ts.astype(states.dtype)
    relax = _relaxation(system, states, solver, spins)
    before, after = ends(process.protocol, ts)
    steps = _along(process, ts).steps

    def phi(lam: Control) -> Array:
        return energies(system, states, lam) / system.temperature(lam)

    def turned(p: Array, log: Scalar, turn: Array) -> tuple[Array, Scalar]:
        """Weighted with the work of a turn; the size is kept apart."""
        least = jnp.min(s * turn)
        p = p * jnp.exp(least - s * turn)
        size = jnp.sum(p)
        return p / size, log + jnp.log(size) - least

    @jax.checkpoint
    def step(
        now: tuple[Array, Scalar, Array], given: tuple[Control, Scalar]
    ) -> tuple[tuple[Array, Scalar, Array], None]:
        p, log, last = now
        here = phi(given[0])
        p, log = turned(p, log, here - last)
        later = relax(p, *given)
        # whose rates are those of the energies, in balance with the bath: elsewhere W is no work
        log = jnp.where(jnp.isfinite(later.medium), log, jnp.nan)
        return (later.p, log, here), None

    start = probabilities(process.initial, states), jnp.zeros((), states.dtype), phi(before)
    (p, log, last), _ = jax.lax.scan(step, start, (steps, jnp.diff(ts)))
    return turned(p, log, phi(after) - last)[1]


def _told(name: str, process: Process, ts: Array, states: Array) -> None:
    """Say which states do not fit together."""
    system = process.system
    assert isinstance(system, AbstractDiscrete)
    lam = process.protocol(0.5 * (ts[0] + ts[1]))
    for x in states[:1000]:
        if isinstance(system, AbstractJumps):
            rates, ys = np.asarray(system.rates(x, lam)), system.after(x)
            for y, rate in zip(ys, rates, strict=True):
                if rate > 0 and not bool(jnp.any(same(states, y[None]))):
                    raise ValueError(
                        f"states must hold all that can be reached: from x = {x} an event leads to {y}, which is not in the "
                        "list. Add it, or give that event no rate."
                    )
        if why := system.complaint(x, lam):
            raise ValueError(why)
    raise ValueError(
        f"{name}: the numbers are not finite. Look at the energies, rates and temperature along the protocol; states must "
        "hold all that can be reached."
    )
