"""The ledger's identities, per path and to rounding: nothing here is a matter of statistics."""

import functools as ft
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose
from systems import ALL, CASES, ENDED, ONE_BATH, SOLVERS

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.potentials import Harmonic, MovingTrap
from thermojax.protocols import AbstractProtocol, Function, Joint, Piecewise, Steps, ramp

# the ledger sees no more of a solver than where it went: each on two of the cases that hold every feature between them,
# and each of those by two
HARD = ["quartic", "temperature_ramp", "two_baths", "several_controls"]
RUNS = [(name, "default", "alternating") for name in ALL]
WENT = {"Euler": (0, 2), "Heun": (1, 3), "ShARK": (2, 3), "SRA1": (0, 1)}
RUNS += [(HARD[i], solver, "alternating") for solver, pair in WENT.items() for i in pair]
RUNS += [(name, "default", "kernel") for name in HARD]

path_ratio = eqx.filter_jit(tjx.path_ratio)
reduced_work = eqx.filter_jit(tjx.reduced_work)
dissipated_work = eqx.filter_jit(tjx.dissipated_work)

every_case = pytest.mark.parametrize("name", ALL)
every_ended_case = pytest.mark.parametrize("name", ENDED)


class Audit(NamedTuple):
    """A path seen by everything that takes one, and by hand: compiled once for each case."""

    totals: tjx.Trajectory
    running: tjx.Trajectory
    kernel: tjx.Trajectory
    energies: Any  # at its ends
    reduced: Any = None
    turns: Any = None  # of the reduced potential, by hand
    behind: Any = None  # the totals of the same path, backwards under the reversed drive
    ratio: Any = None
    ratio_behind: Any = None


def run(name, solver="default", rule="alternating"):
    """One realisation, saved in full. Compiled in a hurry: the identities hold at every level of optimisation."""
    return _run(name, solver, rule)


@ft.cache
def _run(name, solver, rule):
    process, ts = CASES[name]()
    go = lambda key: tjx.simulate(process, ts, key, solver=SOLVERS[solver], rule=rule)
    return jax.jit(go)(jax.random.key(3))


@ft.cache
def auditor(name):
    process, ts = CASES[name]()

    def audit(xs):
        path = tjx.Path(ts, xs)
        totals = tjx.account(process, path)
        out = Audit(
            totals,
            tjx.account(process, path, cumulative=True),
            tjx.account(process, path, rule="kernel"),
            end_energies(process, path),
        )
        if name in ONE_BATH:
            turns = reduced_turns(process, path)
            out = out._replace(reduced=tjx.reduced_work(process, totals), turns=turns)
        if name in ENDED:
            back, behind = tjx.reverse(process), tjx.Path(tjx.reverse_grid(process, ts), xs[::-1])
            out = out._replace(
                behind=tjx.account(back, behind),
                ratio=tjx.path_ratio(process, back, path),
                ratio_behind=tjx.path_ratio(back, process, behind),
            )
        return out

    return jax.jit(audit)


def audit(name, solver="default", rule="alternating"):
    """What is to be seen on a path, and the scale against which its rounding is."""
    out = auditor(name)(run(name, solver, rule).path.xs)
    work, heat = np.asarray(out.running.work), np.asarray(out.running.heat)
    heat = heat.reshape(len(work), -1)
    energy = float(out.energies[0]) + work - heat.sum(1)
    scale = np.abs(np.diff(work)).sum() + np.abs(np.diff(heat, axis=0)).sum() + np.abs(energy).max()
    return out, scale


def end_controls(process, ts):
    """The controls outside a grid that spans the whole protocol."""
    protocol = process.protocol
    if isinstance(protocol, AbstractProtocol):
        return protocol.before, protocol.after
    return protocol(ts[0]), protocol(ts[-1])


def end_energies(process, path):
    before, after = end_controls(process, path.ts)
    return process.system.energy(path.xs[0], before), process.system.energy(path.xs[-1], after)


def controls(process, ts):
    """All the controls a path sees: outside, the middle of each step, outside."""
    before, after = end_controls(process, ts)
    return [
        before,
        *(process.protocol(0.5 * (a + b)) for a, b in zip(ts, ts[1:], strict=False)),
        after,
    ]


def reduced_turns(process, path):
    """Sum of phi(x_k, lam_k) - phi(x_k, lam_{k-1}), phi = U/T, and of f o dx / T: no work and no heat in it."""
    system, xs, lams = process.system, path.xs, controls(process, path.ts)
    phi = lambda x, lam: system.energy(x, lam) / system.temperature(lam)
    total = sum(phi(x, new) - phi(x, old) for x, old, new in zip(xs, lams, lams[1:], strict=False))
    if system.force is None:
        return total
    for x, y, lam in zip(xs, xs[1:], lams[1:], strict=False):
        push = 0.5 * (system.force(x, lam) + system.force(y, lam)) @ (y - x)
        total = total + push / system.temperature(lam)
    return total


def same(got, want, scale):
    """Equal to 1e-12 of `scale`, leaf by leaf."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-12 * scale)


# The first law


@pytest.mark.parametrize(("name", "solver", "rule"), RUNS)
def test_first_law(name, solver, rule):
    path, work, heat, entropy = run(name, solver, rule)
    seen, scale = audit(name, solver, rule)
    first, last = seen.energies
    assert path.ok
    assert scale > 0.1
    assert abs(last - first - (work - jnp.sum(heat))) <= 1e-12 * scale
    # the running totals of the saved path end where the ledger inside the solve does
    same((seen.running.work[-1], seen.running.heat[-1]), (work, heat), scale)
    if rule == "alternating":
        same(seen.running.entropy.medium[-1], entropy.medium, 10 * scale)


@pytest.mark.smoke
def test_first_law_of_the_catalogue_holds_from_state_to_state():
    """Between two saved states the running totals obey it too, at the control of the step just taken."""
    process, ts = CASES["quartic"]()
    path = run("quartic").path
    (_, running, *_), scale = audit("quartic")
    lams = controls(process, ts)
    energy = [float(process.system.energy(x, lam)) for x, lam in zip(path.xs, lams, strict=False)]
    energy[-1] = float(process.system.energy(path.xs[-1], lams[-1]))
    assert_allclose(running.work - running.heat, np.subtract(energy, energy[0]), atol=1e-12 * scale)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("grid", "start", "stop"),
    [
        ((0.0, 1.0), -1.0, 9.0),  # before, after
        ((0.0, 0.8), -1.0, 2.6),  # before, lam(0.8)
        ((0.2, 1.0), 1.4, 9.0),
        ((0.2, 0.8), 1.4, 2.6),
    ],
)
@pytest.mark.filterwarnings("ignore:A part of the protocol is run")
def test_the_ends_of_the_protocol_count_where_the_grid_reaches_them(grid, start, stop):
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0]), -1.0, 9.0)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), drive, Gaussian(0.0, 1.0))
    path, work, heat, _ = tjx.simulate(process, jnp.linspace(*grid, 6), jax.random.key(0))
    x0, x1 = path.xs[0, 0], path.xs[-1, 0]
    assert_allclose(work - heat, (x1 - stop) ** 2 / 2 - (x0 - start) ** 2 / 2, rtol=1e-12)
    same(tjx.account(process, path)[1:3], (work, heat), 10)


def test_a_far_turn_costs_the_heat_no_digits():
    """A trap that jumps in from afar does the work 5e7; the heat of the steps, of size one, knows nothing of it."""
    one, far = np.float32(1), np.float32(1e4)
    drive = Piecewise(jnp.array([0 * one, one]), jnp.array([0 * one, one]), far, one)
    process = tjx.Process(tjx.Overdamped(MovingTrap(one)), drive, Gaussian(0 * one, one))
    ts = jnp.linspace(0 * one, one, 21)
    run = tjx.ensemble(process, ts, jax.random.key(0), 8, save="all")
    assert run.heat.dtype == jnp.float32
    assert (abs(run.work) > 4e7).all()
    assert_allclose(run.heat, tjx.account(process, run.path).heat, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda fn: fn, lambda fn: Function(fn, 1.0)])
def test_a_callable_ends_at_its_own_values(wrap):
    process = tjx.Process(
        tjx.Overdamped(MovingTrap(1.0)), wrap(lambda t: 1.0 + t**2), Gaussian(0.0, 1.0)
    )
    path, work, heat, _ = tjx.simulate(process, jnp.linspace(0.0, 1.0, 6), jax.random.key(0))
    x0, x1 = path.xs[0, 0], path.xs[-1, 0]
    assert_allclose(work - heat, (x1 - 2) ** 2 / 2 - (x0 - 1) ** 2 / 2, rtol=1e-12)


# Paths drawn by hand: U = (x - lam)^2 / 2, lam from 0 to 1, ts = 0, 1/2, 1, so that lam_0 = 1/4, lam_1 = 3/4; x = 0, 1, 2

HAND = tjx.Path(jnp.array([0.0, 0.5, 1.0]), jnp.array([[0.0], [1.0], [2.0]]))


def by_hand(force=None, temperature=1.0, potential=None, protocol=None, d=1):
    system = tjx.Overdamped(potential or MovingTrap(1.0), force, temperature=temperature)
    return tjx.Process(system, protocol or ramp(0.0, 1.0, 1.0), Gaussian(jnp.zeros(d), 1.0))


@pytest.mark.smoke
def test_hand_drawn():
    # energies: U(0; 0) = 0, U(0; 1/4) = 1/32 | U(1; 1/4) = 9/32, U(1; 3/4) = 1/32 | U(2; 3/4) = 25/32, U(2; 1) = 1/2
    got = tjx.account(by_hand(temperature=0.5), HAND, cumulative=True)
    assert_allclose(got.work, [0, 1 / 32, 1 / 32 - 8 / 32 - 9 / 32], rtol=1e-15)
    assert_allclose(got.heat, [0, -8 / 32, -8 / 32 - 24 / 32], rtol=1e-15)
    assert_allclose(got.entropy.medium, [0, -0.5, -2], rtol=1e-15)
    assert got.entropy.total is None
    assert got.entropy.system is None


@pytest.mark.smoke
def test_hand_drawn_with_a_force():
    # f = lam x: f o dx = (1/4) (0 + 1)/2 = 1/8, then (3/4) (1 + 2)/2 = 9/8
    got = tjx.account(by_hand(lambda x, lam: lam * x, temperature=2.0), HAND)
    assert_allclose(got.work, -0.5 + 1.25, rtol=1e-15)
    assert_allclose(got.heat, -1.0 + 1.25, rtol=1e-15)
    assert_allclose(got.entropy.medium, 0.125, rtol=1e-15)


@pytest.mark.smoke
def test_hand_drawn_with_a_temperature_jump():
    drive = Joint({"at": ramp(0.0, 1.0, 1.0), "T": Steps(HAND.ts, jnp.array([1.0, 2.0]))})
    process = by_hand(
        None, lambda lam: lam["T"], lambda x, lam: 0.5 * jnp.sum((x - lam["at"]) ** 2), drive
    )
    got = tjx.account(process, HAND)
    assert_allclose([got.work, got.heat], [-0.5, -1.0], rtol=1e-15)
    assert_allclose(got.entropy.medium, -0.25 / 1 - 0.75 / 2, rtol=1e-15)
    # phi turns by 1/32, then (1/32)/2 - 9/32, then (1/2)/2 - (25/32)/2
    assert_allclose(reduced_work(process, got), 2 / 64 - 17 / 64 - 9 / 64, rtol=1e-15)


@pytest.mark.smoke
def test_hand_drawn_kernels():
    # T = mu = 1, dt = 1/2, so the variance is 1. Means: 0 -> 1/8, 1 -> 5/8 at lam_0; 1 -> 7/8, 2 -> 11/8 at lam_1
    got = tjx.account(by_hand(), HAND, rule="kernel")
    steps = [((5 / 8) ** 2 - (7 / 8) ** 2) / 2, ((3 / 8) ** 2 - (9 / 8) ** 2) / 2]
    assert_allclose(got.entropy.medium, sum(steps), rtol=1e-15)
    assert_allclose([got.work, got.heat], [-0.5, -1.0], rtol=1e-15)


@pytest.mark.smoke
def test_hand_drawn_with_two_baths():
    # U = x^2/2 + y^2 does not couple: each bath gets what its own coordinate loses
    energy = lambda x, lam: 0.5 * x[0] ** 2 + x[1] ** 2
    process = by_hand(temperature=jnp.array([1.0, 0.5]), potential=energy, d=2)
    path = tjx.Path(HAND.ts, jnp.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.5]]))
    got = tjx.account(process, path, cumulative=True)
    assert_allclose(got.heat, [[0, 0], [-0.5, 1], [-2, 0.75]], rtol=1e-15)
    assert_allclose(got.entropy.medium, [0, 1.5, -0.5], rtol=1e-15)
    assert_allclose(got.work, np.zeros(3), atol=1e-15)


def test_entropy_by_hand():
    """R compares the two ends: ln p0(0)/q(2) with p0 = N(0, 1), q = N(1, 4)."""
    process = eqx.tree_at(
        lambda p: p.final, by_hand(), Gaussian(1.0, 4.0), is_leaf=lambda n: n is None
    )
    got = tjx.account(process, HAND)
    system = np.log(2) + 1 / 8
    assert_allclose(got.entropy.system, system, rtol=1e-15)
    assert_allclose(got.entropy.total, system - 1.0, rtol=1e-15)
    assert_allclose(dissipated_work(process, got), system - 1.0, rtol=1e-15)
    # price the same path again with another final
    other = eqx.tree_at(lambda p: p.final, process, Gaussian(0.0, 1.0))
    assert_allclose(dissipated_work(other, got), 2.0 - 1.0, rtol=1e-15)


# A stored path


@every_case
def test_account_gives_what_the_solve_gave(name):
    inside, (seen, scale) = run(name), audit(name)
    same(seen.totals[1:], inside[1:], 10 * scale)
    assert jax.tree.structure(seen.totals) == jax.tree.structure(inside)


@every_ended_case
def test_time_reversal(name):
    """The path seen backwards, under the reversed drive: work, heat and entropies change sign."""
    process, ts = CASES[name]()
    seen, scale = audit(name)
    same(jax.tree.map(jnp.negative, seen.behind[1:]), seen.totals[1:], 10 * scale)
    twice = tjx.reverse(tjx.reverse(process))
    assert eqx.tree_equal(twice, process)
    assert_allclose(tjx.reverse_grid(process, tjx.reverse_grid(process, ts)), ts, atol=1e-15)


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_a_batch_of_paths_is_its_paths(rule):
    process, ts = CASES["rotational"]()
    process = eqx.tree_at(
        lambda p: (p.initial, p.final), process, (Gaussian(jnp.zeros(2), 0.6),) * 2
    )

    def price(path):
        got = tjx.account(process, path, rule=rule)
        return (
            got[1:],
            tjx.account(process, path, rule=rule, cumulative=True)[1:],
            tjx.reduced_work(process, got),
            tjx.dissipated_work(process, got),
            tjx.path_ratio(process, tjx.reverse(process), path),
        )

    xs = jax.random.normal(jax.random.key(1), (3, len(ts), 2))
    alone = jax.jit(lambda x: price(tjx.Path(ts, x)))
    want = jax.tree.map(lambda *v: jnp.stack(v), *map(alone, xs))
    same(jax.jit(lambda xs: price(tjx.Path(ts, xs)))(xs), want, 100)
    grids, ok = jnp.tile(ts, (3, 1)), jnp.ones(3, bool)
    same(jax.jit(lambda xs: price(tjx.Path(grids, xs, ok)))(xs), want, 100)


def test_paths_may_have_grids_of_their_own():
    process, ts = CASES["dragged"]()
    grids = jnp.stack([ts, ts**2])
    xs = jax.random.normal(jax.random.key(2), (2, len(ts), 1))
    both = tjx.account(process, tjx.Path(grids, xs))
    for i in range(2):
        same(both.work[i], tjx.account(process, tjx.Path(grids[i], xs[i])).work, 100)
    assert abs(both.work[1] - tjx.account(process, tjx.Path(ts, xs[1])).work) > 1e-3


def test_a_path_that_is_not_finite_is_marked():
    process, ts = CASES["dragged"]()
    xs = jnp.zeros((3, len(ts), 1)).at[1, 4].set(jnp.nan)
    got = tjx.account(process, tjx.Path(ts, xs, jnp.array([True, True, False])))
    assert got.path.ok.tolist() == [True, False, False]
    for leaf in jax.tree.leaves(got[1:]):
        assert jnp.isfinite(leaf).tolist() == [True, False, False]
    assert_allclose(got.work[0], tjx.account(process, tjx.Path(ts, xs[0])).work, rtol=1e-14)


# The kernel rule, and ratios of path probabilities


@every_ended_case
def test_the_kernel_rule_is_the_path_ratio(name):
    seen, scale = audit(name)
    same(seen.kernel.entropy.total, seen.ratio, 10 * scale)
    same(seen.ratio_behind, -seen.ratio, 10 * scale)
    # the rule changes the medium's entropy, and nothing else
    same(seen.kernel[:3], seen.totals[:3], scale)
    assert abs(seen.kernel.entropy.medium - seen.totals.entropy.medium) > 1e-6


@pytest.mark.parametrize("name", HARD)
def test_the_kernel_rule_inside_the_solve(name):
    inside, (seen, scale) = run(name, rule="kernel"), audit(name, rule="kernel")
    same(inside.entropy.total, seen.ratio, 10 * scale)
    same(inside[1:], seen.kernel[1:], 10 * scale)
    same(inside[:3], run(name, "Euler")[:3], scale)


def test_path_ratio_keeps_unequal_normalisers():
    """Two chains with kernels and variances of their own, against scipy."""
    forward = tjx.Process(
        tjx.Overdamped(MovingTrap(1.0)), Function(lambda t: 1 + t**2, 2.0), Gaussian(0.0, 1.0)
    )
    backward = tjx.Process(
        tjx.Overdamped(Harmonic(1.0)), Function(lambda t: 3 * t, 2.0), Gaussian(1.0, 3.0)
    )
    push = lambda p, x, t0, t1: (0.9 * x + p.protocol(t0), jnp.full_like(x, 2.0 * (t1 - t0)))
    pull = lambda p, x, t0, t1: (x - p.protocol(t1) * (t1 - t0), jnp.full_like(x, 0.3 + t0))
    ts, xs = np.array([0.0, 0.3, 0.5, 1.4, 2.0]), np.array([0.1, 0.8, -0.4, 0.5, 1.1])
    log = lambda x, mean, var: scipy.stats.norm.logpdf(x, mean, np.sqrt(var))
    want = log(xs[0], 0, 1) - log(xs[-1], 1, 3)
    for a, b, x, y in zip(ts, ts[1:], xs, xs[1:], strict=False):
        want += log(y, 0.9 * x + 1 + a**2, 2 * (b - a))
        t0, t1 = 2 - b, 2 - a  # the backward chain walks the mirrored grid
        want -= log(x, y - 3 * t1 * (t1 - t0), 0.3 + t0)
    path = tjx.Path(jnp.asarray(ts), jnp.asarray(xs)[:, None])
    got = path_ratio(forward, backward, path, kernels=(push, pull))
    assert_allclose(got, want, atol=1e-13)
    assert jnp.isnan(path_ratio(forward, backward, path._replace(ok=False)))


def test_path_ratio_names_any_backward_process():
    """Euler kernels of a colder, softer chain, against scipy."""
    forward, ts = CASES["dragged"]()
    system = tjx.Overdamped(MovingTrap(0.5), mobility=2.0, temperature=0.6)
    backward = tjx.Process(system, ramp(1.0, 0.0, 1.0), Gaussian(1.0, 1.0))
    path = run("dragged").path
    ts, xs = np.asarray(ts), np.asarray(path.xs[:, 0])
    log = lambda x, mean, var: scipy.stats.norm.logpdf(x, mean, np.sqrt(var))
    want = log(xs[0], 0, np.sqrt(1 / 1.5) ** 2) - log(xs[-1], 1, 1)
    for a, b, x, y in zip(ts, ts[1:], xs, xs[1:], strict=False):
        dt, mid = b - a, (a + b) / 2
        want += log(y, x - 1.5 * (x - 2 * mid) * dt, 2 * dt)
        want -= log(x, y - 2.0 * 0.5 * (y - mid) * dt, 2 * 2.0 * 0.6 * dt)  # 1 - (1 - mid)
    assert_allclose(path_ratio(forward, backward, path), want, rtol=1e-12)


# Reduced work


@pytest.mark.parametrize("name", ONE_BATH)
def test_reduced_work_is_the_turns_of_the_reduced_potential(name):
    process, (seen, scale) = CASES[name]().process, audit(name)
    system = process.system
    same(seen.reduced, seen.turns, 10 * scale)
    if not system.positive(process.protocol(0.0)):  # nothing is driven
        same(seen.reduced, seen.totals.work / system.temperature(None), 10 * scale)


@pytest.mark.smoke
@pytest.mark.parametrize("steps", [100, 20_000])
def test_reduced_work_of_a_reversed_run(steps):
    """It is refused where it is priced with the forward process; rounding, in single precision, is not."""
    trap = tjx.Overdamped(MovingTrap(np.float32(30.0)))
    ends = (tjx.densities.Boltzmann(trap, np.float32(lam)) for lam in (0.0, 1.0))
    forward = tjx.Process(trap, tjx.protocols.ramp(*np.float32([0.0, 1.0, 1.0])), *ends)
    back, ts = tjx.reverse(forward), jnp.linspace(0, 1, steps + 1, dtype=np.float32)
    ahead, astern = (tjx.ensemble(p, ts, jax.random.key(0), 50) for p in (forward, back))
    for process, run, other in ((forward, ahead, astern), (back, astern, ahead)):
        assert np.isfinite(tjx.reduced_work(process, run)).all()
        with pytest.raises(ValueError, match="needs the process that the trajectory is a run of"):
            tjx.reduced_work(process, other)
    if steps == 100:  # nothing can be raised then
        traced = eqx.filter_jit(tjx.reduced_work)
        assert np.isfinite(traced(forward, ahead)).all()
        assert np.isnan(traced(forward, astern)).all()


def test_reduced_work_needs_one_bath():
    process, ts = CASES["two_baths"]()
    got = tjx.account(process, tjx.Path(ts, jnp.ones((len(ts), 2)).at[3].set(0.0)))
    with pytest.raises(ValueError, match="one bath"):
        reduced_work(process, got)
    assert got.heat.shape == (2,)
    assert jnp.isfinite(got.entropy.total)
    assert_allclose(dissipated_work(process, got), got.entropy.total)


def test_reduced_and_dissipated_work_refuse_running_totals():
    process, _ = CASES["dragged"]()
    running = audit("dragged")[0].running
    for price in (reduced_work, dissipated_work):
        with pytest.raises(ValueError, match="running totals"):
            price(process, running)


@pytest.mark.parametrize("name", ["end_jumps", "temperature_ramp"])
def test_gauge(name):
    """U + c(lam) costs work c(after) - c(before), and moves nothing else."""
    process, ts = CASES[name]()
    plain = process.system.potential
    shift = lambda lam: 3.0 * lam**2 + 1.0
    shifted = eqx.tree_at(
        lambda p: p.system.potential, process, lambda x, lam: plain(x, lam) + shift(lam)
    )
    a, b = run(name), tjx.simulate(shifted, ts, jax.random.key(3))
    before, after = end_controls(process, ts)
    same(b.path, a.path, 10)
    same(b.work - a.work, shift(after) - shift(before), 100)
    same(b[2:], a[2:], 100)
    T = process.system.temperature
    change = reduced_work(shifted, b) - reduced_work(process, a)
    same(change, shift(after) / T(after) - shift(before) / T(before), 100)


def test_a_temperature_jump_on_a_path():
    """T 1 -> 2 at V = x^2/2: W_red = (1/2 - 1) x0^2/2 on each path, whose mean over N(0, 1) is -1/4; no work is done."""
    drive = Steps(jnp.array([0.0, 1.0]), jnp.array([2.0]), before=1.0)
    system = tjx.Overdamped(Harmonic(1.0), temperature=lambda T: T)
    equilibrium = lambda T: tjx.densities.Boltzmann(system, T)
    process = tjx.Process(system, drive, equilibrium(1.0), equilibrium(2.0))
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    rest = jax.random.normal(jax.random.key(0), (5, 3, 1))  # what follows does not matter
    xs = jnp.concatenate([jnp.asarray(nodes)[:, None, None], rest], axis=1)
    got = tjx.account(process, tjx.Path(jnp.linspace(0.0, 1.0, 4), xs))
    reduced, dissipated = reduced_work(process, got), dissipated_work(process, got)
    assert_allclose(reduced, -(nodes**2) / 4, atol=1e-14)
    assert_allclose(got.work, np.zeros(5), atol=1e-14)
    assert_allclose(weights @ np.asarray(reduced), -0.25, rtol=1e-13)
    assert_allclose(reduced - dissipated, np.full(5, -np.log(2) / 2), rtol=1e-13)
    assert_allclose(weights @ np.asarray(dissipated), 0.096574, atol=5e-7)


@pytest.mark.smoke
@pytest.mark.parametrize("inside", [[0.5], []])
def test_turns_alone_are_work_alone(inside):
    """x stays where it is while lam jumps, at the ends and between: W = Delta U, and no heat."""
    edges = jnp.array([0.0, *inside, 1.0])
    drive = Steps(edges, jnp.arange(1.0, len(edges)), before=-2.0, after=5.0)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), drive, Gaussian(0.0, 1.0))
    path = tjx.Path(jnp.linspace(0.0, 1.0, 5), jnp.full((5, 1), 0.7))
    got = tjx.account(process, path)
    assert_allclose(got.work, (0.7 - 5) ** 2 / 2 - (0.7 + 2) ** 2 / 2, rtol=1e-14)
    assert got.heat == 0
    assert got.entropy.medium == 0
