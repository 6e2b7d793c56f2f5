"""Densities on a grid: identities of the scheme to rounding, closed forms, gradients, and what is refused."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import sigmas
from compare import central, flat
from exact import Exact
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax import _quasi_newton, evolve, optimal
from thermojax.densities import Boltzmann, Cells, Gaussian, Point
from thermojax.protocols import Piecewise, ramp

KAPPA, TRAP, TAU = 6.38629, 40 / 4.183, 0.44  # two wells, barrier 2.5 kT, and the trap that pulls


def wells(x, lam):
    left, right = (-0.5 * KAPPA * (x[0] + s) ** 2 for s in (1, -1))
    return -jnp.logaddexp(left, right) + 0.5 * TRAP * (x[0] - lam) ** 2


def pulled(protocol=None):
    system = tjx.Overdamped(wells)
    drive = ramp(-1.0, 1.0, TAU) if protocol is None else protocol
    return tjx.Process(system, drive, Boltzmann(system, -1.0), Boltzmann(system, 1.0))


def everything(x, lam):
    """Tilted wells in one dimension, whose shape and bath are driven; f does work, too."""
    return (x[0] ** 2 - 1) ** 2 - lam * x[0]


def warm(lam):
    return 1 + 0.2 * lam


def driven(force=True):
    push = (lambda x, lam: 0.7 * jnp.cos(x)) if force else None
    system = tjx.Overdamped(
        everything, push, mobility=lambda lam: 1.2 - 0.1 * lam, temperature=warm
    )
    return tjx.Process(system, ramp(-1.0, 1.0, 1.0), Boltzmann(system, -1.0))


COARSE = evolve.Grid(-2.8, 2.8, 60)
FEW = jnp.linspace(0.0, 1.0, 9)


# ------------------------------------------------------------------------------ identities of the scheme


@pytest.fixture(scope="module", params=["second", "positive"])
def coarse(request):
    return evolve.fokker_planck(driven(), FEW, COARSE, scheme=request.param)


def weights(process, grid, lam):
    r"""$\ln Z$ and the masses of the discrete Boltzmann density."""
    phi = grid.each(lambda x: process.system.energy(x, lam)) / process.system.temperature(lam)
    log_z = jax.scipy.special.logsumexp(-phi) + np.log(grid.volume)
    return log_z, jnp.exp(-phi - log_z) * grid.volume


def test_mass_and_the_parts_of_the_entropy(coarse):
    assert_allclose(coarse.p.sum(1) * COARSE.volume, 1, rtol=1e-14)
    total, medium, system = coarse.entropy
    assert_allclose(total, medium + system, atol=1e-14)
    assert_allclose(
        system, [coarse.at(t).entropy() - coarse.at(0.0).entropy() for t in FEW], atol=1e-13
    )
    assert bool(coarse.ok)


def test_the_first_law_by_turns(coarse):
    """The work is that of the turns at fixed density, and of f on what has crossed each edge."""
    process, lattice = driven(), tjx.systems.Lattice(driven().system, COARSE)
    middles = 0.5 * (FEW[1:] + FEW[:-1])
    lams = [-1.0, *process.protocol.before + 2 * middles, 1.0]
    p = coarse.p * COARSE.volume
    turns = sum(
        jnp.sum(p[k] * (lattice.energies(b, p.dtype) - lattice.energies(a, p.dtype)))
        for k, (a, b) in enumerate(zip(lams[:-1], lams[1:], strict=True))
    )
    faces = COARSE.axis(0) + 0.5 * COARSE.widths[0]
    crossed = -jnp.cumsum(jnp.diff(p, axis=0), axis=1)  # upwards, on a line
    pushed = np.sum(np.asarray(crossed[:, :-1]) * 0.7 * np.cos(faces[:-1])) * COARSE.widths[0]
    assert_allclose(coarse.work[-1], turns + pushed, rtol=1e-12)
    relaxed = sum(
        jnp.sum((p[k] - p[k + 1]) * lattice.energies(lam, p.dtype))
        for k, lam in enumerate(lams[1:-1])
    )
    assert_allclose(coarse.heat[-1], relaxed + pushed, rtol=1e-12)


@pytest.mark.parametrize("scheme", ["second", "positive"])
def test_dissipated_work_is_entropy_and_divergence(scheme):
    """(6.26), with the discrete equilibria: at any step and on any grid."""
    process = driven(force=False)
    found = evolve.fokker_planck(process, FEW, COARSE, scheme=scheme)
    (first, _), (last, rest) = (weights(process, COARSE, lam) for lam in (-1.0, 1.0))
    p = found.p[-1] * COARSE.volume
    divergence = jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1) / rest), 0))
    dissipated = found.reduced_work[-1] + last - first
    assert_allclose(dissipated, found.entropy.total[-1] + divergence, atol=1e-10)
    assert dissipated > 0.05


@pytest.mark.parametrize("scheme", ["second", "positive"])
@pytest.mark.parametrize("dim", [1, 2])
def test_equilibrium_rests(dim, scheme):
    potential = lambda x, lam: 0.5 * jnp.sum((x**2 - 1) ** 2) + 0.3 * jnp.prod(x) * lam
    system = tjx.Overdamped(potential)
    grid = evolve.Grid((-2.5,) * dim, (2.5,) * dim, 24)
    weight = jnp.exp(-grid.each(lambda x: potential(x, 1.0)))
    start = Cells(grid, weight / (weight.sum() * grid.volume))
    process = tjx.Process(system, ramp(1.0, 1.0, 3.0), start)
    found = evolve.fokker_planck(process, jnp.linspace(0.0, 3.0, 5), grid, scheme=scheme)
    assert_allclose(found.p[-1], start.p, atol=1e-14)
    for total in (found.work, found.heat, *found.entropy):
        assert_allclose(total, 0, atol=1e-14)


def test_the_positive_scheme_never_loses():
    """From a start narrower than a cell's neighbourhood, in steps far too long: p >= 0 and no step of S_tot below zero."""
    system = tjx.Overdamped(everything, lambda x, lam: 0.7 * jnp.cos(x), temperature=warm)
    start = Gaussian(jnp.array([-0.9]), 0.05**2)
    process = tjx.Process(system, ramp(-1.0, 1.0, 50.0), start)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # of steps that are too long, which is asked for
        long = evolve.fokker_planck(
            process, 50.0 * FEW, evolve.Grid(-2.8, 2.8, 120), scheme="positive"
        )
    assert float(long.least) >= 0
    assert np.diff(long.entropy.total).min() >= -1e-12


# ------------------------------------------------------------------------------------------- closed forms

ROWS = {  # of oracles.driven: parameters, and what scipy's moments say
    "stiffened": (
        oracles.stiffness_ramp_row(**oracles.STIFFEN),
        oracles.stiffening(**oracles.STIFFEN),
    ),
    "heated": (oracles.heated_row(**oracles.HEAT), oracles.heating(**oracles.HEAT)),
    "everything": (
        oracles.everything_row(**oracles.EVERYTHING),
        oracles.everything(**oracles.EVERYTHING),
    ),
}
FINE, WIDE = jnp.linspace(0.0, 1.0, 101), evolve.Grid(-9.0, 9.0, 400)


@pytest.mark.parametrize("name", ROWS)
def test_linear_systems(name):
    parameters, exact = ROWS[name]
    found = evolve.extrapolated(oracles.driven(parameters), FINE, WIDE)
    got = {
        "work": found.work,
        "heat": found.heat,
        "reduced": found.reduced_work,
        "total": found.entropy.total,
    }
    error = found.error._asdict() | {
        "reduced": found.error.reduced_work,
        "total": found.error.entropy.total,
    }
    for key, value in got.items():
        assert_allclose(value[-1], exact[key], atol=2e-6, err_msg=key)
        assert error[key][-1] < 6e-4  # the raw one, of the finer grid
        assert abs(value[-1] - exact[key]) < error[key][-1] + 1e-9


def test_two_dimensions():
    """Stiffness and temperature driven, and a force that turns."""
    process = oracles.whirling(oracles.floats(oracles.ROTATE))
    exact = evolve.moments(process, jnp.linspace(0.0, 1.0, 5))
    found = evolve.extrapolated(
        process, jnp.linspace(0.0, 1.0, 51), evolve.Grid((-7.0,) * 2, (7.0,) * 2, 64)
    )
    assert_allclose(found.reduced_work[-1], 3.354159527, atol=1e-4)
    assert_allclose(found.reduced_work[-1], exact.reduced_work[-1], atol=1e-4)
    assert_allclose(found.entropy.total[-1], exact.entropy.total[-1], atol=1e-4)
    assert_allclose(found.final.cov(), exact.cov[-1], atol=3e-3)
    assert found.p.shape == (51, 128, 128)


def test_two_baths_one_on_each_axis():
    process = oracles.two_baths(**oracles.GYRATOR)
    grid = evolve.Grid((-6.5,) * 2, (6.5,) * 2, 72)
    found = evolve.fokker_planck(process, jnp.linspace(0.0, 0.5, 26), grid)
    exact = evolve.moments(process, jnp.linspace(0.0, 0.5, 3))
    assert found.heat.shape == (26, 2)
    assert found.reduced_work is None
    assert_allclose(found.heat[-1], exact.heat[-1], atol=5e-3)
    assert_allclose(
        found.entropy.total[-1], 0.5 * oracles.gyrator_rate(**oracles.GYRATOR), atol=5e-3
    )


def test_a_ring():
    """(1, 1, .5): entropy production 1.253046375 in the steady state, and f v / T of the same lattice."""
    system = tjx.Overdamped(tjx.potentials.Ring(1.0), lambda x, lam: lam + 0 * x, temperature=0.5)
    grid = evolve.Grid(0.0, 2 * np.pi, 256, periodic=True)
    still = evolve.steady(system, 1.0, grid)
    process = tjx.Process(system, ramp(1.0, 1.0, 1.0), still)
    found = evolve.fokker_planck(process, jnp.linspace(0.0, 1.0, 6), grid)
    assert_allclose(found.p[-1], still.p, atol=1e-13)
    assert_allclose(found.entropy.total[-1], 1.253046375, atol=5e-5)
    edges = tjx.systems.Lattice(system, grid).edges(jnp.asarray(1.0), still.p.dtype)[0]
    flow = tjx.systems.current(still.p * grid.volume, edges, 0)
    assert_allclose(flow, flow[0], rtol=1e-11)
    assert_allclose(found.entropy.total[-1], flow[0] * 2 * np.pi / 0.5, rtol=1e-10)


@pytest.fixture(scope="module")
def orders():
    process = oracles.driven(ROWS["everything"][0])
    runs = [(50, 16), (100, 32), (200, 64)]
    return [
        evolve.fokker_planck(process, jnp.linspace(0.0, 1.0, m + 1), evolve.Grid(-8.0, 8.0, n))
        for n, m in runs
    ]


def test_second_order(orders):
    exact = ROWS["everything"][1]
    for key, of in (("reduced", "reduced_work"), ("heat", "heat")):
        errors = [abs(float(getattr(run, of)[-1]) - exact[key]) for run in orders]
        assert np.log2(errors[1] / errors[2]) > 1.7
    assert errors[2] > 1e-5  # there is something to see


def test_the_double_well():
    """Sivak's and Crooks's: digits of an independent program, extrapolated from 200 cells and 100 steps."""
    found = evolve.extrapolated(pulled(), jnp.linspace(0.0, TAU, 101), evolve.Grid(-3.0, 3.0, 200))
    want = {"work": 8.8028090, "heat": 6.4019839}
    for name, value in want.items():
        assert_allclose(getattr(found, name)[-1], value, atol=2e-5)
    assert_allclose(found.entropy.system[-1], 0.4547894, atol=2e-5)
    assert_allclose(found.entropy.total[-1], 6.8567733, atol=2e-5)


def test_running_totals_agree_with_moments():
    process = oracles.driven(ROWS["everything"][0])
    exact = evolve.moments(process, FINE[::20])
    found = evolve.extrapolated(process, FINE, WIDE)
    for got, want in (
        (found.work, exact.work),
        (found.heat, exact.heat),
        (found.reduced_work, exact.reduced_work),
        *zip(found.entropy, exact.entropy, strict=True),
    ):
        assert_allclose(got[::20], want, atol=1e-5)
    x, t = jnp.array([0.4]), 0.4
    assert_allclose(found.log_prob(x, t), exact.log_prob(x, t), atol=3e-4)
    assert_allclose(found.score(x, t), exact.score(x, t), atol=2e-3)


def test_its_twin():
    """Paths of jumps on the same cells, in the same steps: the scheme's own means, however coarse."""
    process = driven()
    exact = evolve.fokker_planck(process, FEW, COARSE, scheme="positive")
    run = tjx.ensemble(evolve.twin(process, COARSE), FEW, jax.random.key(0), 40_000)
    assert run.path.ok.all()
    for got, want in (
        (run.work, exact.work[-1]),
        (run.heat, exact.heat[-1]),
        (run.entropy.medium, exact.entropy.medium[-1]),
        (run.path.xs[:, -1, 0], exact.final.mean()[0]),
    ):
        sigmas.assert_within(got, want, absolute=0.06)


def test_its_twin_in_two_dimensions():
    system = tjx.Overdamped(lambda x, lam: jnp.sum(x**2) + lam * jnp.prod(x))
    grid = evolve.Grid((-2.5, -2.0), (2.5, 2.0), (14, 10), walls=True)
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Boltzmann(system, 0.0, dim=2))
    exact = evolve.fokker_planck(process, FEW[::2], grid, scheme="positive")
    run = tjx.ensemble(evolve.twin(process, grid), FEW[::2], jax.random.key(1), 20_000)
    sigmas.assert_within(run.work, exact.work[-1], absolute=0.04)
    sigmas.assert_within(
        jnp.prod(run.path.xs[:, -1], axis=-1), exact.final.cov()[0, 1], absolute=0.05
    )
    pushed = process.replace(
        system=tjx.Overdamped(process.system.potential, lambda x, lam: jnp.flip(x))
    )
    with pytest.raises(ValueError, match="on a line only"):
        tjx.ensemble(evolve.twin(pushed, grid), FEW, jax.random.key(1), 10)


# -------------------------------------------------------------------------------------------- derivatives


def every_leaf(theta):
    system = tjx.Overdamped(
        lambda x, lam: theta["well"] * (x[0] ** 2 - 1) ** 2 - lam * x[0],
        lambda x, lam: theta["force"] * jnp.cos(x),
        mobility=theta["mobility"],
        temperature=lambda lam: theta["bath"] + 0.2 * lam,
    )
    drive = Piecewise(jnp.linspace(0.0, 1.0, 4), theta["knots"], theta["before"], theta["after"])
    return tjx.Process(system, drive, Gaussian(theta["mean"], theta["cov"]))


THETA = {
    "well": jnp.asarray(1.0),
    "force": jnp.asarray(0.4),
    "mobility": jnp.asarray(1.1),
    "bath": jnp.asarray(1.2),
    "knots": jnp.array([-0.6, -0.1, 0.3, 0.5]),
    "before": jnp.asarray(-0.8),
    "after": jnp.asarray(0.9),
    "mean": jnp.array([-0.3]),
    "cov": jnp.asarray(0.3),
}


@pytest.mark.parametrize("scheme", ["second", "positive"])
def test_gradients(scheme):
    def value(theta):
        found = evolve.fokker_planck(
            every_leaf(theta), jnp.linspace(0.0, 1.0, 13), COARSE, scheme=scheme
        )
        return (
            found.work[-1]
            + 0.7 * found.entropy.total[-1]
            + 0.3 * found.reduced_work[7]
            + found.p[-1, 20]
        )

    both = jax.jit(jax.value_and_grad(value))
    _, slope = both(THETA)
    assert_allclose(flat(slope), central(lambda theta: both(theta)[0], THETA), rtol=1e-6, atol=1e-8)


def test_gradient_in_two_dimensions():
    grid, ts = evolve.Grid((-3.0, -3.0), (3.0, 3.0), (20, 16)), jnp.linspace(0.0, 0.5, 6)

    def value(theta):
        system = tjx.Overdamped(
            lambda x, lam: jnp.sum(x**2) + lam * jnp.prod(x),
            lambda x, lam: theta[0] * jnp.stack([-x[1], x[0]]),
        )
        start = Gaussian(jnp.zeros(2), 0.4)
        found = evolve.fokker_planck(tjx.Process(system, ramp(0.0, theta[1], 0.5), start), ts, grid)
        return found.work[-1] + found.entropy.total[-1]

    both = jax.jit(jax.value_and_grad(value))
    theta = jnp.array([0.8, 0.6])
    assert_allclose(both(theta)[1], central(lambda theta: both(theta)[0], theta), rtol=1e-6)


def test_memory_of_a_gradient_is_one_density_a_step():
    """The residuals of the reverse pass grow with the steps by the density, not by what a step computes."""

    def stored(steps):
        ts = jnp.linspace(0.0, TAU, steps + 1)
        value = lambda v: evolve.fokker_planck(
            pulled(ramp(-1.0, v, TAU)), ts, evolve.Grid(-3.0, 3.0, 100)
        ).work[-1]
        return jax.jit(jax.grad(value)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    per_step = (stored(200) - stored(100)) / 100
    assert per_step < 8 * 100 * 8  # a step's own numbers are some forty such arrays


# ------------------------------------------------------------------------------------------------- search


def test_search_without_noise():
    """From the ramp to the nine-knot optimum, 7.510755, by L-BFGS and without a key; the check agrees."""
    knots = jnp.linspace(0.0, TAU, 9)
    start = Piecewise(knots, jnp.linspace(-1.0, 1.0, 9), -1.0, 1.0)
    ts, grid = jnp.linspace(0.0, TAU, 65), evolve.Grid(-2.8, 2.8, 100)
    loss = optimal.exact_work(pulled(start), ts, grid)
    found = optimal.search(loss, start, steps=30, progress=False)
    assert found.agrees
    best = evolve.extrapolated(pulled(found.protocol), ts, grid)
    assert 7.5107 < best.work[-1] < 7.5111
    assert_allclose(found.protocol.values[4], 0.2678, atol=5e-3)
    assert found.history.gradient_norm[-1] < 1e-5
    assert found.start_price.value > 8.8


def test_a_line_search_goes_far_enough_and_not_too_far():
    """The first trial is a tenth of a stride: on it goes while the loss falls as steeply, back from what is no number."""
    for wall, most in ((jnp.inf, 101.0), (5.0, 5.0)):
        loss = lambda x, wall=wall: jnp.where(x[0] < wall, (x[0] - 100.0) ** 2, jnp.nan)
        see = jax.value_and_grad(loss)
        start = jnp.zeros(1)
        before = see(start)
        new, after, *_ = _quasi_newton.step(
            see, start, before, _quasi_newton.begin(start), jnp.ones(1)
        )
        assert 4 < new[0] < most
        assert after[0] < before[0]
        assert wall < 100 or abs(after[1][0]) < 0.9 * abs(before[1][0])


class Told(Exact):
    """1 + (x - 2)^2, with `slope` in the place of its own unless that is None."""

    slope: float | None

    def __call__(self, x, key=None):
        value = 1 + jnp.sum((x - 2) ** 2)
        if self.slope is None:
            return value
        return jax.lax.stop_gradient(value) + self.slope * jnp.sum(x - jax.lax.stop_gradient(x))


def test_a_search_that_its_gradient_leads_astray_says_so():
    """It stays where it is; one that ends at the least is silent, also where it starts there."""
    search = lambda of, start: optimal.search(of, start, steps=40, progress=False)
    with pytest.warns(UserWarning, match="stopped after 0 of 40 steps, where its gradient says"):
        found = search(Told(3.0), jnp.zeros(1))
    assert_allclose(found.found, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for begin in (0.0, 2.0):
            assert_allclose(search(Told(None), jnp.full(1, begin)).found, 2.0, atol=1e-7)


def test_the_check_shows_the_same_times():
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    drive = Piecewise(jnp.linspace(0.0, 1.0, 3), jnp.array([0.0, 1.5, 2.0]), 0.0, 2.0)
    process = tjx.Process(system, drive, Gaussian(jnp.zeros(1), 1.0))
    middle = lambda process, evolution: evolution.mean[1, 0] + evolution.work[1]
    loss = optimal.EvolutionLoss(process, jnp.linspace(0.0, 1.0, 3), middle)
    assert_allclose(loss.check()(drive), loss(drive), rtol=1e-8)
    assert_allclose(loss.check().check()(drive), loss(drive), rtol=1e-8)


def test_search_of_a_linear_system_without_a_grid(tmp_path):
    """The dragged trap's optimum by exact moments; killed and taken up again, to the same last bit."""
    start = Piecewise(jnp.linspace(0.0, 1.0, 6), jnp.linspace(0.0, 2.0, 6), 0.0, 2.0)
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    process = tjx.Process(system, start, Boltzmann(system, 0.0))
    loss = optimal.exact_work(process, jnp.linspace(0.0, 1.0, 6))
    found = optimal.search(loss, start, steps=20, progress=False)
    assert_allclose(found.price.value, 4 / 3, rtol=1e-9)
    assert_allclose(found.protocol.values, (1 + jnp.linspace(0.0, 1.0, 6)) * 2 / 3, atol=1e-4)


def test_an_exact_search_in_any_unit():
    """Energies of 1e-21 J: a slope squared is not an energy."""
    kT, k, mobility, tau = 4.114e-21, 1e-5, 1e8, 1e-3
    width = float(np.sqrt(kT / k))
    start = tjx.protocols.ramp(0.0, 2.0 * width, tau, knots=6)
    system = tjx.Overdamped(tjx.potentials.MovingTrap(k), mobility=mobility, temperature=kT)
    process = tjx.Process(system, start, Boltzmann(system, 0.0))
    loss = optimal.exact_work(process, tau * jnp.linspace(0.0, 1.0, 6))
    found = optimal.search(loss, start, steps=20, progress=False)
    assert_allclose(found.price.value / kT, 4 / 3, rtol=1e-9)
    rising = tjx.protocols.monotone(start)
    found = optimal.search(loss, rising, steps=40, progress=False)
    assert_allclose(found.price.value / kT, 4 / 3, rtol=1e-6)


# ------------------------------------------------------------------------------------- what is refused


def held(start, system=None, cells=COARSE, ts=FEW, **options):
    system = tjx.Overdamped(everything) if system is None else system
    return evolve.fokker_planck(
        tjx.Process(system, ramp(0.0, 0.5, 1.0), start), ts, cells, **options
    )


BAD = {
    "narrow": (lambda: held(Gaussian(jnp.zeros(1), 1e-4)), "narrow"),
    "outside": (lambda: held(Gaussian(jnp.array([2.7]), 0.1)), "wider grid"),
    "point outside": (lambda: held(Point(5.0)), "wider grid"),
    "leak": (
        lambda: held(Boltzmann(tjx.Overdamped(everything), 0.0), cells=evolve.Grid(-1.0, 1.0, 40)),
        "walls=True",
    ),
    "unbound": (
        lambda: held(Gaussian(jnp.zeros(1), 0.3), tjx.Overdamped(lambda x, lam: -jnp.sum(x**2))),
        "walls=True",
    ),
    "infinite": (
        lambda: held(
            Gaussian(jnp.zeros(1), 0.1),
            tjx.Overdamped(lambda x, lam: jnp.where(x[0] > 2, jnp.inf, x[0] ** 2)),
        ),
        "not finite in",
    ),
    "coarse": (
        lambda: held(Gaussian(jnp.zeros(1), 0.3), tjx.Overdamped(lambda x, lam: 300 * x[0] ** 2)),
        "more cells",
    ),
    "dimensions": (lambda: held(Gaussian(jnp.zeros(2), 0.3)), "1 dimension"),
    "flow": (
        lambda: held(
            Gaussian(jnp.zeros(1), 0.3), tjx.Overdamped(everything, velocity=lambda x, lam: 0 * x)
        ),
        "velocity",
    ),
    "steps": (
        lambda: evolve.fokker_planck(
            tjx.Process(
                tjx.Overdamped(lambda x, lam: 0.5 * (x[0] - lam) ** 2),
                ramp(0.0, 24.0, 1e-3),
                Gaussian(jnp.zeros(1), 1.0),
            ),
            jnp.linspace(0.0, 1e-3, 3),
            evolve.Grid(-10.0, 10.0, 1000),
        ),
        "more times",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        call()


def test_a_grid_is_refused():
    for arguments, words in (
        ((1.0, 1.0, 10), "below"),
        ((0.0, 1.0, 3), "at least 4"),
        ((0.0, 1.0, 4.5), "whole number"),
        ((0.0, (1.0, 2.0, 3.0), 10), "two"),
        ((0.0, jnp.inf, 10), "finite"),
        ((0.0, 1.0, 10, True, True), "exclude"),
    ):
        with pytest.raises(ValueError, match=words):
            evolve.Grid(*arguments)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda a: evolve.Grid(a, 1.0, 10).lower)(0.0)


def test_marked():
    """What is doubtful is warned of and marked, and what is gross is NaN where it can't be said."""
    well = Boltzmann(tjx.Overdamped(everything), 0.0)
    with pytest.warns(RuntimeWarning, match="at an end of the grid"):
        found = held(well, cells=evolve.Grid(-2.0, 2.0, 60))
    assert not bool(found.ok)
    assert np.isfinite(found.work).all()
    leak = jax.jit(lambda lam: held(well, cells=evolve.Grid(-1.0, 1.0, 40)).work[-1] + lam)
    assert np.isnan(leak(0.0))
    walls = held(well, cells=evolve.Grid(-1.0, 1.0, 40, walls=True))
    assert bool(walls.ok)


def test_from_a_point():
    """The entropies are infinite on any grid, as those of `moments`; work, heat and the medium's are not."""
    process = tjx.Process(
        tjx.Overdamped(tjx.potentials.MovingTrap(1.0)),
        tjx.protocols.ramp(0.0, 1.5, 1.0),
        Point(1.0),
    )
    exact = evolve.moments(process, FEW)
    found = evolve.fokker_planck(process, jnp.linspace(0.0, 1.0, 201), evolve.Grid(-6.0, 6.0, 100))
    for part in ("total", "system"):
        run = getattr(found.entropy, part)
        assert run[0] == 0
        assert np.isposinf(run[1:]).all()
        assert np.isposinf(getattr(exact.entropy, part)[-1])
    assert_allclose(found.entropy.medium[-1], exact.entropy.medium[-1], atol=5e-3)
    assert_allclose(found.work[-1], exact.work[-1], atol=5e-3)


# --------------------------------------------------------------------------- the steady state and cycles


def test_steady_states():
    """Two dimensions out of equilibrium: at rest, 2.25 nats a time within the grid's error, and a right derivative."""
    grid = evolve.Grid((-3.6, -3.6), (3.6, 3.6), (36, 32))
    system = tjx.Overdamped(lambda x, lam: x @ x, lambda x, lam: lam * jnp.stack([-x[1], x[0]]))

    def production(lam):
        p = evolve.steady(system, lam, grid).p * grid.volume
        edges = tjx.systems.Lattice(system, grid).edges(lam, p.dtype)
        flows = [tjx.systems.current(p, edge, axis) for axis, edge in enumerate(edges)]
        left = sum(tjx.systems.divergence(flow, axis) for axis, flow in enumerate(flows))
        made = sum(jnp.sum(flow * edge.affinity) for flow, edge in zip(flows, edges, strict=True))
        return made, jnp.abs(left).max()

    (made, left), slope = jax.value_and_grad(production, has_aux=True)(1.5)
    assert left < 1e-14
    assert_allclose(made, 2.25, atol=5e-2)
    steps = [production(1.5 + e)[0] for e in (1e-4, -1e-4)]
    assert_allclose(slope, (steps[0] - steps[1]) / 2e-4, rtol=1e-6)


def test_steady_states_behind_a_high_barrier():
    """The two wells of 30 kT share the weight by Boltzmann, and so does the derivative: on a line and on both axes."""
    grids = {
        0: evolve.Grid(-2.5, 2.5, 40),
        1: evolve.Grid((-2.5, -4.0), (2.5, 4.0), (40, 12)),
        2: evolve.Grid((-4.0, -2.5), (4.0, 2.5), (12, 40)),
    }

    def well(x, lam):
        return 30 * (x**2 - 1) ** 2 - lam * x

    def exact(lam):
        x = grids[0].axis(0)
        return jnp.sum(jax.nn.softmax(-well(x, lam)) * x)

    for kind, grid in grids.items():
        at = max(kind - 1, 0)
        system = tjx.Overdamped(
            lambda x, lam, at=at: well(x[at], lam) + 0.5 * (jnp.sum(x**2) - x[at] ** 2)
        )
        mean = lambda lam, system=system, grid=grid, at=at: evolve.steady(system, lam, grid).mean()[
            at
        ]
        found, wanted = (jax.value_and_grad(of)(0.5) for of in (mean, exact))
        assert_allclose(found, wanted, rtol=1e-10)


def test_a_steady_ring_with_high_barriers():
    """Two wells, 40 kT apart by either way round: their shares follow a tilt as their derivative says."""
    system = tjx.Overdamped(
        lambda x, lam: 20 * jnp.cos(2 * x[0]) - lam * jnp.cos(x[0]), lambda x, lam: 0.3 + 0 * x
    )
    grid = evolve.Grid(0.0, 2 * np.pi, 60, periodic=True)

    def of(lam):
        p = evolve.steady(system, lam, grid).p
        return jnp.sum(p * jnp.cos(grid.axis(0))) * grid.volume

    assert_allclose(jax.grad(of)(0.5), (of(0.5 + 1e-4) - of(0.5 - 1e-4)) / 2e-4, rtol=1e-6)


def test_a_tilt_in_the_potential_of_a_ring():
    """A potential that does not close on the ring is refused, NaN where it can't be said; a kink at the seam is fine."""
    grid = evolve.Grid(0.0, 2 * np.pi, 64, periodic=True)
    tilted = tjx.Overdamped(lambda x, lam: jnp.cos(x[0]) - lam * x[0])
    with pytest.raises(ValueError, match="force="):
        evolve.steady(tilted, 0.5, grid)
    assert np.isnan(jax.jit(lambda lam: evolve.steady(tilted, lam, grid).p)(0.5)).all()
    flat = Cells(grid, jnp.full(64, 1 / (2 * np.pi)))
    process = tjx.Process(tilted, tjx.protocols.ramp(0.5, 0.5, 1.0), flat)
    with pytest.raises(ValueError, match="force="):
        evolve.fokker_planck(process, FEW, grid)
    kinked = tjx.Overdamped(lambda x, lam: lam * jnp.abs(x[0] - np.pi))
    weights = jax.nn.softmax(-0.5 * jnp.abs(grid.axis(0) - np.pi))
    assert_allclose(evolve.steady(kinked, 0.5, grid).p * grid.volume, weights, rtol=1e-12)


def test_the_steady_ring_follows_its_tilt():
    system = tjx.Overdamped(tjx.potentials.Ring(1.0), lambda x, lam: lam + 0 * x, temperature=0.5)
    grid = evolve.Grid(0.0, 2 * np.pi, 64, periodic=True)
    of = lambda lam: (
        jnp.sum(evolve.steady(system, lam, grid).p * jnp.cos(grid.axis(0))) * grid.volume
    )
    assert_allclose(jax.grad(of)(1.0), (of(1.0 + 1e-5) - of(1.0 - 1e-5)) / 2e-5, rtol=1e-6)


def test_a_linear_steady_state():
    process = oracles.two_baths(**oracles.GYRATOR)
    found = evolve.steady(process.system, process.protocol.before, dim=2)
    assert_allclose(found.cov, [[0.6904762, -0.4761905], [-0.4761905, 1.6904762]], atol=1e-7)
    assert_allclose(found.mean, 0, atol=1e-14)
    moved = lambda k: evolve.steady(process.system, jnp.stack([k, 2.0, 0.8]), dim=2).cov[0, 1]
    assert_allclose(jax.grad(moved)(2.0), (moved(2.0 + 1e-5) - moved(2.0 - 1e-5)) / 2e-5, rtol=1e-7)
    with pytest.raises(ValueError, match="does not lead back"):
        evolve.steady(tjx.Overdamped(lambda x, lam: -(x @ x)), 0.0)
    with pytest.raises(ValueError, match="not linear"):
        evolve.steady(tjx.Overdamped(everything), 0.0)
    leaking = evolve.Grid(-1.0, 1.0, 20)
    with pytest.raises(ValueError, match="walls=True"):
        evolve.steady(tjx.Overdamped(everything), 0.0, leaking)
    assert np.isnan(
        jax.jit(lambda lam: evolve.steady(tjx.Overdamped(everything), lam, leaking).p)(0.0)
    ).all()
    walled = evolve.Grid(-1.0, 1.0, 20, walls=True)
    assert evolve.steady(tjx.Overdamped(everything), 0.0, walled).p.max() > 0


def cycling(amplitude):
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["k"]) ** 2),
        temperature=lambda lam: lam["T"],
    )
    shape = lambda t: {
        "k": 1.5 + amplitude * jnp.sin(2 * jnp.pi * t),
        "T": 1.0 + 0.4 * jnp.cos(2 * jnp.pi * t),
    }
    return tjx.Process(system, tjx.protocols.Function(shape, 1.0), Gaussian(jnp.zeros(1), 1.0))


def test_periodic_states():
    """A closed cycle: its state is the one that many periods come to, work is heat, and the grid says the same."""
    ts = jnp.linspace(0.0, 1.0, 9)
    exact = evolve.periodic(cycling(0.5), ts)
    assert_allclose(exact.cov[-1], exact.cov[0], rtol=1e-9)
    assert_allclose(exact.work[-1], exact.heat[-1], rtol=1e-8)
    again = cycling(0.5)
    for _ in range(15):
        later = evolve.moments(again, ts)
        again = again.replace(initial=later.final)
    assert_allclose(later.work[-1], exact.work[-1], rtol=1e-6)
    of = jax.jit(
        jax.value_and_grad(lambda amplitude: evolve.periodic(cycling(amplitude), ts).work[-1])
    )
    (low, _), (_, slope), (high, _) = map(of, (0.499, 0.5, 0.501))
    assert_allclose(slope, (high - low) / 2e-3, rtol=1e-5)
    grid = evolve.Grid(-4.0, 7.0, 110)
    found = evolve.periodic(cycling(0.5), jnp.linspace(0.0, 1.0, 41), grid)
    assert_allclose(found.p[-1], found.p[0], atol=1e-11)
    assert_allclose(found.work[-1], exact.work[-1], atol=5e-3)
    assert_allclose(found.work[-1], found.heat[-1], atol=1e-11)
    with pytest.raises(ValueError, match="does not close"):
        evolve.periodic(driven(), FEW, COARSE)


# ------------------------------------------------------------------------------------------------ its density


def test_cells():
    x = COARSE.axis(0)
    exact = Gaussian(jnp.array([0.2]), 0.25)
    p = jnp.exp(jax.vmap(exact.log_prob)(x[:, None]))
    density = Cells(COARSE, p)
    points = jnp.linspace(-1.4, 1.7, 37)[:, None]
    assert_allclose(jax.vmap(density.log_prob)(points), jax.vmap(exact.log_prob)(points), atol=2e-6)
    fine = jnp.linspace(-2.8, 2.8, 20_001)[:, None]
    assert_allclose(
        jnp.trapezoid(jnp.exp(jax.vmap(density.log_prob)(fine)), fine[:, 0]), 1, rtol=1e-8
    )
    assert density.log_prob(jnp.array([3.0])) == -jnp.inf
    draws = jax.vmap(density.sample)(jax.random.split(jax.random.key(0), 20_000))
    sigmas.assert_within(draws[:, 0], 0.2, absolute=0.03)
    assert_allclose(density.mean(), [0.2], atol=1e-6)
    assert_allclose(density.entropy(), exact.entropy(), atol=1e-5)
    moved = jax.grad(
        lambda s: Cells(COARSE, jnp.roll(p, 1) * s + p * (1 - s)).sample(jax.random.key(1))[0]
    )(0.0)
    assert_allclose(moved, COARSE.widths[0], rtol=0.2)  # all of it moves by a cell
    around = evolve.Grid(0.0, 1.0, 16, periodic=True)
    wave = Cells(around, 1 + 0.5 * jnp.cos(2 * jnp.pi * around.axis(0)))
    assert_allclose(wave.log_prob(jnp.array([0.0])), np.log(1.5), atol=1e-3)
    assert_allclose(wave.log_prob(jnp.array([1.3])), wave.log_prob(jnp.array([0.3])), rtol=1e-12)
    square = evolve.Grid((0.0, 0.0), (1.0, 1.0), 4)
    flat_one = Cells(square, jnp.ones((4, 4)))
    assert_allclose(flat_one.log_prob(jnp.array([0.1, 0.9])), 0, atol=1e-14)
    assert flat_one.sample(jax.random.key(0)).shape == (2,)
    with pytest.raises(ValueError, match="does not follow"):
        jax.grad(lambda s: Cells(square, s * jnp.ones((4, 4))).sample(jax.random.key(0))[0])(1.0)
    with pytest.raises(ValueError, match="shape of the cells"):
        Cells(square, jnp.ones(4))
    with pytest.raises(ValueError, match="is 1"):
        Cells(square, 2 * jnp.ones((4, 4)))


def test_single_precision():
    cast = lambda tree: jax.tree.map(lambda v: v.astype(jnp.float32), tree)
    p32, exact = cast(ROWS["heated"][0]), ROWS["heated"][1]
    process = oracles.driven(p32)
    process = process.replace(
        initial=Gaussian(jnp.zeros(1, jnp.float32), jnp.float32(1.0)), final=None
    )
    found = evolve.fokker_planck(process, FINE.astype(jnp.float32), evolve.Grid(-9.0, 9.0, 400))
    assert found.p.dtype == jnp.float32
    assert_allclose(found.p.sum(1) * WIDE.volume, 1, atol=1e-5)
    assert_allclose(found.reduced_work[-1], exact["reduced"], atol=1e-4)
    assert_allclose(found.entropy.total[-1], exact["total"], atol=3e-4)


def test_vmap():
    """A batch of drives in one program is what each is by itself."""

    def one(stop):
        process = driven(force=False)
        process = process.replace(protocol=ramp(-1.0, stop, 1.0))
        return evolve.fokker_planck(process, FEW, COARSE).work

    stops = jnp.array([0.2, 0.9])
    assert_allclose(jax.vmap(one)(stops), jnp.stack([one(stop) for stop in stops]), atol=1e-13)


def test_nothing_is_driven():
    """A protocol may say so by None: what is left is the heat of relaxing, of a Gaussian and of two levels."""
    ts, idle = jnp.linspace(0.0, 1.0, 33), lambda t: None
    trap = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(x**2))
    process = tjx.Process(trap, idle, Gaussian(0.0, 2.0), Gaussian(0.0, 1.0))
    want = 0.5 * (1 - np.exp(-2 * ts))
    found = evolve.moments(process, ts)
    assert_allclose(found.heat, want, atol=1e-8)
    assert_allclose(found.work, 0, atol=1e-8)
    cells = evolve.fokker_planck(process, ts, grid=evolve.Grid(-7.0, 7.0, 200))
    assert_allclose(cells.heat, want, atol=2e-3)
    table = tjx.verify(process, ts, jax.random.key(0), size=1000)
    assert table.holds
    two = jnp.array([[0.0], [1.0]])
    levels = tjx.Jumps(
        lambda x, lam: jax.nn.sigmoid(2 * x - 1), lambda x: (1 - x)[None], lambda x, lam: x[0]
    )
    start = tjx.densities.States(two, jnp.array([0.5, 0.5]))
    found = evolve.master(tjx.Process(levels, idle, start), ts, two)
    up = 1 / (1 + np.e)
    assert_allclose(found.heat, (0.5 - up) * (1 - np.exp(-ts)), rtol=1e-9)
