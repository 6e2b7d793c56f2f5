"""Rates of entropy production: closed forms on a grid, of Gaussian moments and of samples; entropies along paths."""

import dataclasses

import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import sigmas
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax import evolve, rates
from thermojax.densities import Boltzmann, Cells, Gaussian
from thermojax.protocols import ramp

RING = evolve.Grid(0.0, 2 * np.pi, 256, periodic=True)


def ring():
    """(1, 1, .5), out of its steady state."""
    system = tjx.Overdamped(tjx.potentials.Ring(1.0), lambda x, lam: lam + 0 * x, temperature=0.5)
    p = jnp.exp(0.8 * jnp.sin(RING.axis(0) - 0.4))
    start = Cells(RING, p / (p.sum() * RING.volume))
    process = tjx.Process(system, ramp(1.0, 1.0, 0.1), start)
    return process, evolve.fokker_planck(process, jnp.linspace(0.0, 0.1, 3), RING)


def trap(stiffness, mean, cov):
    """Two dimensions, and a force of 1.5 that turns."""
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * jnp.sum(stiffness * x**2),
        lambda x, lam: 1.5 * jnp.stack([-x[1], x[0]]),
    )
    return tjx.Process(system, ramp(0.0, 0.0, 0.1), Gaussian(jnp.asarray(mean), jnp.asarray(cov)))


SPLITS = ["hatano-sasa", "maes-netocny"]


@pytest.mark.parametrize(("split", "keeping"), list(zip(SPLITS, [3.598956, 1.469770], strict=True)))
def test_on_a_ring(split, keeping):
    found = rates.along(*ring(), split=split)
    assert_allclose(found.total[0], 4.276935, atol=1e-3)
    assert_allclose(found.housekeeping[0], keeping, atol=1e-3)
    assert_allclose(found.housekeeping + found.excess, found.total, rtol=1e-12)
    assert_allclose(found.medium + found.system, found.total, rtol=1e-12)


@pytest.mark.parametrize(("split", "keeping"), list(zip(SPLITS, [2.16, 1.35], strict=True)))
def test_in_a_trap(split, keeping):
    process = trap(2.0, (0.6, 0.0), 0.3)
    found = rates.along(process, evolve.moments(process, jnp.linspace(0.0, 0.1, 3)), split=split)
    assert_allclose(found.total[0], 14 / 3, rtol=1e-12)
    assert_allclose(found.medium[0], 2.0, rtol=1e-12)
    assert_allclose(found.housekeeping[0], keeping, rtol=1e-10)
    assert_allclose(found.excess[0], 14 / 3 - keeping, rtol=1e-10)
    grid = evolve.Grid((-3.6,) * 2, (3.6,) * 2, 40)
    rough = rates.along(
        process, evolve.fokker_planck(process, jnp.linspace(0.0, 0.1, 3), grid), split=split
    )
    for got, want in zip(rough[:1] + rough[3:], found[:1] + found[3:], strict=True):
        assert_allclose(got[0], want[0], atol=6e-2)
    assert_allclose(rough.housekeeping + rough.excess, rough.total, rtol=1e-10)


def pricing():
    process = trap(2.0, (0.6, 0.0), 0.3)
    grid = evolve.Grid((-3.6,) * 2, (3.6,) * 2, 40)
    return process, evolve.fokker_planck(process, jnp.linspace(0.0, 0.1, 3), grid)


def test_cells_below_zero_by_rounding():
    """A few empty cells, as a scheme leaves them, change no part of the production."""
    process, found = pricing()
    clean = rates.along(process, found, split="maes-netocny")
    for below in (-1e-22, -1e-10):
        spot = found.p.at[1:, 0, 0].set(below).at[2, -1, 1:3].set(below)
        spotted = dataclasses.replace(found, p=spot)
        rough = rates.along(process, spotted, split="maes-netocny")
        assert_allclose(rough.excess, clean.excess, rtol=1e-6)
        assert_allclose(rough.housekeeping, clean.housekeeping, rtol=1e-6)


def test_at_rest_nothing_is_in_excess():
    """A stationary state of a driven torus: all of its production keeps it as it is."""
    turn = 2 * np.pi
    energy = lambda x, lam: jnp.cos(x[0]) + 0.8 * jnp.cos(x[0] - x[1]) + 0.5 * jnp.sin(2 * x[1])
    push = lambda x, lam: jnp.stack([1.2 + 0.5 * jnp.sin(x[1]), -0.7 + 0.6 * jnp.cos(x[0])])
    system = tjx.Overdamped(energy, push)
    grid = evolve.Grid((0.0, 0.0), (turn, turn), (24, 28), periodic=True)
    with hurry.at_leisure():  # in a hurry there is no rounding in what should be zero
        rest = evolve.steady(system, None, grid)
        process = tjx.Process(system, tjx.protocols.ramp(0.0, 0.0, 0.1), rest)
        found = evolve.fokker_planck(process, jnp.linspace(0.0, 0.1, 3), grid)
        parts = rates.along(process, found, split="maes-netocny")
    assert (parts.total > 0.5).all()
    assert_allclose(parts.housekeeping, parts.total, rtol=1e-7)
    assert_allclose(parts.excess, 0, atol=1e-7)


def test_what_is_not_solved_is_not_told(monkeypatch):
    """Where Poisson's equation is left unsolved the parts are NaN, and not the whole production one of them."""
    stopped = lambda matrix, b, **options: (0 * b, None)
    monkeypatch.setattr(jax.scipy.sparse.linalg, "cg", stopped)
    process, found = pricing()
    one = dataclasses.replace(found, ts=found.ts[1:2], p=found.p[1:2])
    given = rates.along(process, one, split="maes-netocny")
    assert np.isnan(given.excess).all()
    assert np.isfinite(given.total).all()
    jax.clear_caches()


def test_in_a_trap_that_is_not_round():
    """Against both splits by scipy's Lyapunov solver: D = 1, so that the velocity of least production is symmetric."""
    stiffness, cov, mean = (
        np.array([1.5, 3.0]),
        np.array([[0.4, 0.1], [0.1, 0.5]]),
        np.array([0.3, -0.2]),
    )
    process = trap(jnp.asarray(stiffness), mean, cov)
    drift = np.array([[-1.5, -1.5], [1.5, -3.0]])
    square = lambda v, matrix: v @ v + np.trace(matrix @ cov @ matrix.T)
    spread = drift + np.linalg.inv(cov)
    total = square(drift @ mean, spread)
    still = drift + np.linalg.inv(scipy.linalg.solve_continuous_lyapunov(drift, -2 * np.eye(2)))
    least = scipy.linalg.solve_continuous_lyapunov(cov, spread @ cov + cov @ spread.T)
    want = {
        "hatano-sasa": square(still @ mean, still),
        "maes-netocny": total - square(drift @ mean, least),
    }
    evolution = evolve.moments(process, jnp.linspace(0.0, 0.1, 2))
    for split, keeping in want.items():
        found = rates.along(process, evolution, split=split)
        assert_allclose(found.total[0], total, rtol=1e-10)
        assert_allclose(found.medium[0], total - np.trace(spread), rtol=1e-10)
        assert_allclose(found.housekeeping[0], keeping, rtol=1e-10)
    assert want["maes-netocny"] < 0.9 * want["hatano-sasa"]


def test_in_a_medium_that_flows():
    """Its volume counts: rates are the slopes of the totals of `moments`, and those of samples."""
    flow = lambda x, lam: jnp.stack([0.3 * x[0] + x[1], -0.5 * x[0]])
    system = tjx.Overdamped(lambda x, lam: jnp.sum(x**2), velocity=flow)
    process = tjx.Process(system, ramp(0.0, 0.0, 1.0), Gaussian(jnp.array([0.4, 0.1]), 0.2))
    h = 1e-4
    evolution = evolve.moments(process, jnp.array([0.0, 0.5 - h, 0.5, 0.5 + h]))
    found = rates.along(process, evolution, split=None)
    for rate, total in zip(found[:3], evolution.entropy, strict=True):
        assert_allclose(rate[2], (total[3] - total[1]) / (2 * h), rtol=1e-5)
    p = evolution.at(0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    weight = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    xs = p.mean[None] + jnp.asarray(grid @ np.linalg.cholesky(p.cov).T)
    each = [rates.sampled(system, 0.0, jax.grad(p.log_prob), jnp.tile(x, (10, 1))) for x in xs]
    for k in range(3):
        assert_allclose(
            weight @ np.array([float(one[k].value) for one in each]), found[k][2], rtol=1e-9
        )
    with pytest.raises(ValueError, match="split=None"):
        rates.along(process, evolution)


def test_single_precision():
    cov = np.eye(2, dtype=np.float32)
    system = tjx.Overdamped(
        lambda x, lam: jnp.sum(x**2),
        lambda x, lam: jnp.float32(1.5) * jnp.stack([-x[1], x[0]]),
        temperature=jnp.float32(1),
    )
    drive = ramp(jnp.float32(0), jnp.float32(0), jnp.float32(0.1))
    process = tjx.Process(system, drive, Gaussian(jnp.array([0.6, 0.0], jnp.float32), 0.3 * cov))
    evolution = evolve.moments(process, jnp.linspace(0.0, 0.1, 3, dtype=jnp.float32))
    for split, keeping in (("hatano-sasa", 2.16), ("maes-netocny", 1.35)):
        found = rates.along(process, evolution, split=split)
        assert found.total.dtype == jnp.float32
        assert_allclose(found.housekeeping[0], keeping, rtol=1e-4)
    grid = evolve.Grid((-3.6,) * 2, (3.6,) * 2, 12)
    pi = evolve.steady(system, jnp.float32(0), grid)
    assert pi.p.dtype == jnp.float32
    assert_allclose(pi.p.sum() * grid.volume, 1, rtol=1e-5)


def test_totals_are_integrals_of_rates():
    """Over a drive, by Simpson's rule."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))
    process = tjx.Process(system, ramp(1.0, 4.0, 1.0), Boltzmann(system, 1.0))
    ts = jnp.linspace(0.0, 1.0, 41)
    found = evolve.moments(process, ts)
    of = rates.along(process, found, split=None)
    assert of.housekeeping is None
    weights = np.array([1.0] + [4.0, 2.0] * 19 + [4.0, 1.0]) / 120
    for rate, total in zip(of[:3], found.entropy, strict=True):
        assert_allclose(np.sum(weights * rate), total[-1], atol=1e-6)


@pytest.fixture(scope="module")
def dragged():
    """A double well, driven: its density in time, and paths."""
    potential = lambda x, lam: (x[0] ** 2 - 1) ** 2 - lam * x[0]
    system = tjx.Overdamped(potential)
    process = tjx.Process(system, ramp(-1.0, 1.0, 1.0), Boltzmann(system, -1.0))
    ts = jnp.linspace(0.0, 1.0, 101)
    evolution = evolve.fokker_planck(process, ts, evolve.Grid(-3.0, 3.0, 120))
    process = process.replace(final=evolution.final)
    return process, evolution, tjx.ensemble(process, ts, jax.random.key(3), 6000, save=1)


def test_from_paths(dragged):
    process, evolution, run = dragged
    exact = rates.along(process, evolution, split=None)
    kept = np.array([25, 50, 100])
    path = tjx.Path(run.path.ts[:, kept], run.path.xs[:, kept])
    found = rates.sampled_along(process, path, evolution.score)
    sigmas.assert_within(
        (found.total.value[1], found.total.stderr[1]), exact.total[50], absolute=0.12
    )
    assert_allclose(found.medium.value + found.system.value, found.total.value, rtol=1e-10)
    xs = run.path.xs[:, 50]
    lam = process.protocol(0.5)
    one = rates.sampled(process.system, lam, lambda x: evolution.score(x, 0.5), xs)
    assert_allclose(one.total.value, found.total.value[1], rtol=1e-10)
    v = rates.velocity(process.system, lam, lambda x: evolution.score(x, 0.5))(xs[0])
    j = rates.current(process.system, lam, evolution.at(0.5))(xs[0])
    assert_allclose(j, v * jnp.exp(evolution.log_prob(xs[0], 0.5)), rtol=1e-10)


@pytest.mark.parametrize("along", [False, True])
def test_a_score_that_reads_a_number_follows_it(along):
    """Eagerly, under jit and in its gradient, though the verb is compiled once: (1 - a)^2 <x^2> of the trap at rest."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(x**2) + 0 * lam)
    process = tjx.Process(system, lambda t: 0 * t, Gaussian(0.0, 1.0))
    path = tjx.Path(jnp.linspace(0.0, 1.0, 3), jax.random.normal(jax.random.key(0), (50, 3, 1)))
    square = jnp.mean(path.xs[:, 1] ** 2)

    def total(a):
        if along:
            return rates.sampled_along(process, path, lambda x, t: -a * x).total.value[1]
        return rates.sampled(system, 0.0, lambda x: -a * x, path.xs[:, 1]).total.value

    for fn in (total, jax.jit(total)):
        for a in (0.5, 3.0):
            assert_allclose(fn(a), (1 - a) ** 2 * square, rtol=1e-12)
    for fn in (jax.grad(total), jax.jacfwd(total), jax.jit(jax.grad(total))):
        assert_allclose(fn(0.5), -square, rtol=1e-12)


def test_entropy_along_paths(dragged):
    """S_tot of a path at any time, by the density in time: means of the density, <e^-S> = 1, the end that of `final`."""
    process, evolution, run = dragged
    path = run.path._replace(ok=jnp.ones(6000, bool))
    found = tjx.account(process, path, cumulative=True, density=evolution)
    total = found.entropy.total
    assert total.shape == (6000, 101)
    assert_allclose(total[:, 0], 0, atol=1e-12)
    assert_allclose(total[:, -1], run.entropy.total, atol=1e-5)
    for k in (40, 100):
        sigmas.assert_within(total[:, k], evolution.entropy.total[k], absolute=0.1)
        sigmas.assert_within(jnp.exp(-total[:, k]), 1.0, absolute=0.15)
    one = tjx.account(process, tjx.Path(path.ts[0], path.xs[0]), cumulative=True, density=evolution)
    assert_allclose(one.entropy.total, total[0], rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="cumulative=True"):
        tjx.account(process, path, density=evolution)


def test_refused(dragged):
    process, _, _ = dragged
    with pytest.raises(ValueError, match="xs"):
        rates.sampled(process.system, 0.0, lambda x: -x, jnp.zeros(3))


def test_failed_paths_are_no_samples():
    """1 % of them, that stand still far out, would bring 10 times the rate."""
    xs = np.random.default_rng(0).standard_normal((2000, 1, 1)) * np.ones((1, 3, 1))
    ok = np.arange(2000) >= 20
    xs[~ok] = 30.0
    ts = jnp.linspace(0.0, 1.0, 3)
    trap = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    process = tjx.Process(trap, ramp(0.0, 0.0, 1.0), Gaussian(0.0, 1.0))
    score = lambda x, t: -x / 2
    with pytest.raises(ValueError, match="20 of 2000 paths failed"):
        rates.sampled_along(process, tjx.Path(ts, jnp.asarray(xs), jnp.asarray(ok)), score)
    left = rates.sampled_along(process, tjx.Path(ts, jnp.asarray(xs[ok])), score).total
    assert abs(left.value[0] - 0.25) < 5 * left.stderr[0] < 0.1
    traced = jax.jit(lambda path: rates.sampled_along(process, path, score).total.value)
    assert np.isnan(traced(tjx.Path(ts, jnp.asarray(xs), jnp.asarray(ok)))).all()


@pytest.mark.parametrize("variance", [1e-8, 1e-20])
def test_the_medium_of_a_narrow_density(variance):
    r"""$\langle F^2 \rangle + \nabla \cdot F$ = .25 + s - 1, however large the total, 1/s and more, is."""
    trap = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    process = tjx.Process(trap, ramp(0.0, 0.0, 1.0), Gaussian(0.5, variance))
    found = rates.along(process, evolve.moments(process, jnp.linspace(0.0, 1.0, 3)), split=None)
    assert_allclose(found.medium[0], 0.25 + variance - 1, rtol=1e-12)
    assert found.total[0] > 0.9 / variance


@pytest.mark.parametrize(("far", "known"), [(5.0, True), (10.0, False)])
def test_housekeeping_where_the_steady_density_has_no_number(far, known):
    """A trap 10 away: ln p would be -90 and less where particles are, below single precision. Zero, or nothing."""
    with jax.enable_x64(False):
        trap = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
        process = tjx.Process(trap, ramp(far, far, 1.0), Gaussian(0.0, 1.0))
        grid = evolve.Grid(-6.0, far + 6.0, 800)
        evolution = evolve.fokker_planck(process, jnp.linspace(0.0, 0.05, 11), grid)
        found = rates.along(process, evolution)
    assert_allclose(found.total[0], far**2, rtol=1e-3)
    if known:
        assert abs(found.housekeeping[0]) < 1e-4 * found.total[0]
    else:
        assert np.isnan(found.housekeeping[0])
