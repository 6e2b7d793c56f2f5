"""Numbers that were wrong, without a word, where two features met; each with its right value."""

import datetime

import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate
from scipy.linalg import expm

import thermojax as tjx
from thermojax import diffusion, evolve, inference, measured, plots, schedules
from thermojax.densities import Boltzmann, Gaussian
from thermojax.estimators import bar, crooks, jarzynski
from thermojax.potentials import Harmonic
from thermojax.protocols import Function, Network, Steps, ramp
from thermojax.systems import Underdamped, ising

KEY = jax.random.key(0)
F4 = jnp.float32


# ---- evolution


@pytest.fixture(scope="module")
def wells():
    system = tjx.Overdamped(lambda x, lam: 10 * (x[0] ** 2 / 4 - 1) ** 2 - lam * x[0])
    return tjx.Process(system, ramp(0.0, 1.0, 1.0), Boltzmann(system, 0.0), Boltzmann(system, 1.0))


def test_an_equilibrium_that_reaches_beyond_its_grid(wells):
    """Half of it, in the other well, was left out: W = -1.98 for -.025."""
    ts, whole, half = (
        jnp.linspace(0.0, 1.0, 21),
        evolve.Grid(-4.0, 4.0, 100),
        evolve.Grid(0.2, 4.0, 50),
    )
    assert_allclose(evolve.fokker_planck(wells, ts, whole).work[-1], -0.0251, atol=5e-4)
    with pytest.raises(ValueError, match="puts 0.4999.* into the cells"):
        evolve.fokker_planck(wells, ts, half)
    with pytest.raises(ValueError, match="initial must be held by the cells.*got 0.499"):
        evolve.twin(wells, half)
    walled = evolve.Grid(0.0, 4.0, 50, walls=True)  # what the walls hold is all that there is
    assert bool(evolve.fokker_planck(wells, ts, walled).ok)


def test_the_twin_has_no_density_outside_its_grid():
    process = tjx.Process(tjx.Overdamped(Harmonic(1.0)), ramp(0.0, 0.0, 1.0), Gaussian(0.0, 1.0))
    start = evolve.twin(process, evolve.Grid(-6.0, 6.0, 120)).initial
    found = [float(start.log_prob(jnp.array([x]))) for x in (5.99, 6.5, -7.0, jnp.nan)]
    assert_allclose(found, [-18.62, -np.inf, -np.inf, np.nan], atol=0.01)
    ring = evolve.Grid(-6.0, 6.0, 120, periodic=True)
    start = evolve.twin(process, ring).initial
    here, around = (start.log_prob(jnp.array([x])) for x in (2.03, 14.03))
    assert_allclose(here, -0.5 * 2.05**2 - 0.5 * np.log(2 * np.pi), atol=1e-6)
    assert around == here


CHAIN = np.array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])


@pytest.mark.parametrize("stiffness", [0.15, 0.3, 1.0])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_chain_that_nothing_holds(stiffness, heavy):
    """Rounding decided whether its centre was confined: covariances of 1e16, entropy produced at rest, ln Z = 22.96."""
    drag = jnp.array([1.0, 0.7, 1.3])
    potential = lambda x, lam: 0.5 * stiffness * x @ jnp.asarray(CHAIN) @ x
    if heavy:
        system = Underdamped(potential, friction=drag)
    else:
        system = tjx.Overdamped(potential, mobility=drag)
    size = 6 if heavy else 3
    start = Gaussian(jnp.zeros(size), jnp.ones(size))
    process = tjx.Process(system, ramp(1.0, 1.0, 1.0), start)
    with pytest.raises(RuntimeError, match="nothing periodic"):
        evolve.periodic(process, jnp.linspace(0.0, 1.0, 3))
    with pytest.raises(ValueError, match="does not lead back in every direction"):
        evolve.steady(system, 0.0, dim=3)
    with pytest.raises(ValueError, match="does not confine"):
        Boltzmann(system, 0.0, dim=3)

    def traced(stiffness):
        free = eqx.tree_at(
            lambda s: s.potential, system, lambda x, lam: stiffness * potential(x, lam)
        )
        run = evolve.periodic(process.replace(system=free), jnp.linspace(0.0, 1.0, 3))
        still, held = evolve.steady(free, 0.0, dim=3), Boltzmann(free, 0.0, dim=3)
        return run.work, run.mean, still.cov, held.log_partition(), held.sample(KEY)[:3]

    for found in jax.jit(traced)(1.0):
        assert jnp.all(jnp.isnan(found))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("d", [3, 12])
def test_what_rounding_confines(d, double):
    """Free chains of uneven springs, whose last pivot is the rounding of the stiffest; in a trace and outside. And what is
    held by little."""
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else F4
        held = lambda k: Boltzmann(tjx.Overdamped(lambda x, lam: 0.5 * x @ k @ x), 0.0, dim=len(k))
        traced = jax.jit(lambda k: held(k).log_partition())
        for seed in (*range(20), 73):
            rng = np.random.default_rng(seed)
            springs = np.round(np.exp(2 * rng.normal(size=d - 1)), 2) + 0.01
            links = np.diff(np.eye(d), axis=0)
            chain = jnp.asarray(links.T @ np.diag(springs) @ links, dtype)
            with pytest.raises(ValueError, match="does not confine"):
                held(chain)
            assert jnp.isnan(traced(chain)), seed
        weakly = np.eye(100)
        weakly[:2, :2] = [[1, -1], [-1, 1 + (1e-10 if double else 1e-5)]]
        weakly = jnp.asarray(weakly, dtype)
        exact = 50 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(np.asarray(weakly, float))[1]
        assert_allclose(held(weakly).log_partition(), exact, rtol=1e-6)


@pytest.mark.parametrize("heavy", [False, True])
def test_coordinates_in_units_of_their_own(heavy):
    """Metres beside micrometres, in single precision: one to two digits of the covariance were lost."""
    with jax.enable_x64(False):
        unit = jnp.array([1.0, 1e-3, 1e-5])
        bend = jnp.array([[2.0, 1.0, 0.3], [1.0, 1.5, -0.5], [0.3, -0.5, 1.0]]) / jnp.outer(
            unit, unit
        )
        potential = lambda x, lam: 0.5 * x @ bend @ x
        drag = jnp.array([1.0, 0.7, 1.3]) / unit**2
        if heavy:
            system = Underdamped(potential, friction=drag, mass=1 / unit**2)
        else:
            system = tjx.Overdamped(potential, mobility=1 / drag)
        found = evolve.steady(system, 0.0, dim=3).cov[:3, :3] / jnp.outer(unit, unit)
        exact = np.linalg.inv(np.asarray(bend * jnp.outer(unit, unit), float))
    assert_allclose(found, exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("friction", [2.0, 1e-3, 1e3])
def test_what_is_held_is_found(friction):
    """Critical damping, where two modes are one, and modes that hardly decay."""
    system = Underdamped(lambda x, lam: 0.5 * jnp.sum(x**2), friction=friction)
    process = tjx.Process(system, ramp(1.0, 1.0, 0.1), Boltzmann(system, 0.0))
    assert_allclose(evolve.steady(system, 0.0).cov, np.eye(2), atol=1e-9)
    found = evolve.periodic(process, jnp.linspace(0.0, 0.1, 3))
    assert_allclose(found.cov[0], np.eye(2), atol=1e-7)
    far = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(jnp.array([1e-6, 1e6]) * x**2))
    assert_allclose(jnp.diagonal(evolve.steady(far, 0.0, dim=2).cov), [1e6, 1e-6])
    assert_allclose(Boltzmann(far, 0.0, dim=2).log_partition(), np.log(2 * np.pi))


def test_a_resonance_that_single_precision_does_not_resolve():
    """Where a period shortens by 3e-5 and leads a hundred thousand widths away: W = 311603 for 314159, Q = 317747."""

    def cycle(friction=1e-5):
        bead = Underdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2), friction=friction)
        drive = Function(jnp.sin, 2 * jnp.pi, before=0.0, after=0.0)
        process = tjx.Process(bead, drive, Gaussian(jnp.zeros(2), jnp.ones(2)))
        return evolve.periodic(process, jnp.linspace(0.0, 2 * jnp.pi, 17))

    assert_allclose(cycle().work[-1], np.pi / 1e-5, rtol=2e-6)
    for friction in (
        1e-5,
        3e-5,
        1e-4,
    ):  # of the last two only what differs from far and from near says it
        leisure, single = hurry.at_leisure(), jax.enable_x64(False)
        with leisure, single, pytest.raises(RuntimeError, match="or double precision"):
            cycle(friction)


@pytest.mark.parametrize("end", [10.0, 60.0])
def test_a_periodic_state_on_a_wide_grid(end):
    """The second start does not lie up on the slopes, where the scheme falls below zero."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    drive = Function(lambda t: jnp.sin(2 * jnp.pi * t), 1.0, before=0.0, after=0.0)
    process = tjx.Process(system, drive, Gaussian(0.0, 1.0))
    grid, ts = evolve.Grid(-end, end, int(10 * end)), jnp.linspace(0.0, 1.0, 17)
    exact = evolve.periodic(process, ts).work[-1]
    assert_allclose(evolve.periodic(process, ts, grid).work[-1], exact, rtol=6e-3)


def test_a_long_chain_in_single_precision():
    """Held at one end: its softest mode is far above rounding."""
    with jax.enable_x64(False):
        chain = tjx.Overdamped(
            lambda x, lam: 0.5 * jnp.sum(jnp.concatenate([x[:1], jnp.diff(x)]) ** 2)
        )
        found = Boltzmann(chain, 0.0, dim=128).log_prob(jnp.zeros(128))
    assert_allclose(found, -64 * np.log(2 * np.pi), rtol=1e-6)


def test_a_start_that_a_barrier_holds():
    """Beyond it the formula of the potential falls for ever, which is not looked at where the user draws."""
    system = tjx.Overdamped(lambda x, lam: 120 * (x[0] ** 2 / 2 - x[0] ** 3 / 3) + 10 * x[1] ** 2)
    draw = lambda key: jax.random.normal(key, (2,)) * jnp.array([120**-0.5, 20**-0.5])
    process = tjx.Process(system, ramp(0.0, 0.0, 0.01), Boltzmann(system, 0.0, dim=2, sampler=draw))
    grid = evolve.Grid((-0.6, -1.5), (0.98, 1.5), (40, 30))
    found = evolve.fokker_planck(process, jnp.linspace(0.0, 0.01, 3), grid)
    assert_allclose(found.work[-1], 0.0, atol=1e-8)


def test_a_network_that_comes_back_but_for_rounding():
    ts = jnp.linspace(0.0, 1.0, 5)
    closed, nearly = (jax.vmap(Network(0.3, stop, 1.0, key=KEY))(ts) for stop in (0.3, 0.1 + 0.2))
    assert_allclose(nearly, closed, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:moments. work, heat and entropy are small:RuntimeWarning")
@pytest.mark.parametrize("width", [1e3, 1e4])
@pytest.mark.parametrize("times", [2, 11])
def test_a_density_that_narrows(width, times):
    """Its covariance was known to 1e-10 of what it was at first: 1.6 for 1 in single precision, at most."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    process = tjx.Process(system, ramp(0.0, 5.0, 20.0), Gaussian(0.0, width**2))
    found = evolve.moments(process, jnp.linspace(0.0, 20.0, times))
    assert_allclose(found.cov[-1, 0, 0], 1 + width**2 * np.exp(-40), rtol=2e-9)
    assert_allclose(found.entropy.system[-1], -np.log(width), rtol=2e-9)
    assert_allclose(found.work[-1], 1.1875, atol=1e-6)


def test_a_density_that_is_let_go_and_then_gripped():
    """In one interval: what errors are relative to is the narrowest that either end of it makes. It was 1e-4 off."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))
    process = tjx.Process(system, ramp(1e-3, 20.0, 2.0), Gaussian(0.0, 1e8))
    turned = lambda t: (
        2 * (1e-3 * t + (20 - 1e-3) * t**2 / 4)
    )  # twice the integral of the stiffness
    noise = 2 * integrate.quad(lambda t: np.exp(turned(t) - turned(2.0)), 0.0, 2.0, epsabs=0)[0]
    exact = 1e8 * np.exp(-turned(2.0)) + noise
    assert_allclose(evolve.moments(process, jnp.array([0.0, 2.0])).cov[-1], exact, rtol=1e-9)


def test_a_bath_that_is_quenched():
    """By a million: what errors are relative to follows."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(x**2), temperature=lambda lam: lam)
    drive = Steps(jnp.array([0.0, 10.0, 30.0]), jnp.array([1e6, 1.0]))
    process = tjx.Process(system, drive, Gaussian(0.0, 1e6))
    found = evolve.moments(process, jnp.array([0.0, 10.0, 20.0, 30.0]), rtol=1e-6)
    after = 1 + 1e6 * np.exp(-20)
    assert_allclose(found.cov[2, 0, 0], after, rtol=1e-6)
    assert_allclose(found.cov[3, 0, 0], 1.0, rtol=1e-6)


def test_no_density_where_a_run_starts_at_a_point():
    system = tjx.Overdamped(Harmonic(1.0))
    process = tjx.Process(system, ramp(1.0, 1.0, 1.0), tjx.densities.Point(jnp.zeros(1)))
    found = evolve.moments(process, jnp.linspace(0.0, 1.0, 3))
    assert_allclose(found.at(0.5).cov[0, 0], found.cov[1, 0, 0])
    with pytest.raises(ValueError, match="a point at t = 0"):
        found.at(0.0)


# ---- recordings


@pytest.fixture(scope="module")
def turning():
    """A gyrator, exactly, every .02."""
    rng, drift, h = np.random.default_rng(1), np.array([[-1.0, 2.0], [-2.0, -1.0]]), 0.02
    step = expm(drift * h)
    root = np.linalg.cholesky(np.eye(2) - step @ step.T)
    x = np.zeros((8000, 2))
    z = rng.normal(size=x.shape)
    for i in range(len(x) - 1):
        x[i + 1] = step @ x[i] + root @ z[i]
    return x, h


@pytest.mark.parametrize("unit", [1e-6, 1e-40])
def test_features_in_metres(turning, unit):
    """Their squares were zero in single precision, and what is driven was at rest, reliably."""
    x, h = turning

    def features(a, b):
        across = (b - a)[0] * (a + b)[1]
        return jnp.stack([across, across * jnp.sum((a + b) ** 2)])

    plain, small = (
        inference.entropy_production(u * x, h, features=features, method="tur") for u in (1.0, unit)
    )
    assert plain.rate > 3
    assert_allclose(small.rate, plain.rate, rtol=1e-5)
    for length in (unit, 1e-170):
        assert_allclose(inference.entropy_production(length * x, h).rate, 8, atol=2)


def test_a_clock_beside_a_dt(turning):
    """The dt was taken, whatever the clock: 455 nats per time for 9.1."""
    x, h = turning
    path = tjx.Path(h * jnp.arange(float(len(x))), jnp.asarray(x), jnp.asarray(True))
    rate = inference.entropy_production(path, h).rate
    assert_allclose(rate, inference.entropy_production(path).rate, rtol=1e-6)
    for given in (path, [path, path]):
        with pytest.raises(ValueError, match=r"a clock of its own.*dt is 0.001. Leave dt out"):
            inference.entropy_production(given, 1e-3)


@pytest.fixture(scope="module")
def heavy():
    """Runs of a mass of four in a bath that warms, and cools again: states (q, p)."""
    system = Underdamped(
        lambda q, lam: 0.5 * jnp.sum(q**2), friction=1.0, mass=4.0, temperature=lambda lam: lam
    )
    ts = jnp.linspace(0.0, 2.0, 41)

    def runs(first, last, seed):
        process = tjx.Process(system, ramp(first, last, 2.0), Boltzmann(system, first))
        return tjx.ensemble(process, ts, jax.random.key(seed), 1000, save="all").path

    def read(path, first, last, unit):
        count = len(path.xs)
        times, controls = (
            jnp.broadcast_to(v, (count, ts.size)) for v in (ts, jnp.linspace(first, last, ts.size))
        )
        xs = path.xs * jnp.array([1.0, unit])[None, None]
        return measured.Measured(tjx.Path(times, xs, path.ok), controls)

    there, back = runs(1.0, 1.5, 0), runs(1.5, 1.0, 1)
    return system, lambda unit: (read(there, 1.0, 1.5, unit), read(back, 1.5, 1.0, unit))


def test_bar_of_velocities(heavy):
    """They were taken for momenta: -.22 reliably for -ln 1.5."""
    system, read = heavy
    found = measured.bar(*read(1 / 4), system)
    assert bool(found.reliable)
    assert abs(found.value + np.log(1.5)) < 5 * found.stderr
    assert found.stderr < 0.02
    with pytest.raises(ValueError, match=r"forward: .* is 1\d.* times that of equilibrium"):
        measured.bar(*read(1.0), system)


@pytest.mark.parametrize(
    ("decimal", "row"), [(",", "0.001;0.125"), (".", "0,001;0,125"), (",", "0.001;-0.125")]
)
def test_thousands_do_not_begin_with_a_zero(decimal, row, tmp_path):
    """A clock in milliseconds was a thousand times too long."""
    table = f"t;x\n{row.replace('001', '000')}\n{row}\n{row.replace('001', '002')}\n"
    file = tmp_path / "clock.csv"
    file.write_text(table)
    with pytest.raises(ValueError, match="not a finite number"):
        measured.read_csv(file, time="t", positions="x", decimal=decimal)


def test_dates_with_a_time_zone():
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    dates = [start + datetime.timedelta(milliseconds=20 * i) for i in range(4)]
    given = {"t": np.array(dates, object), "x": np.arange(4.0)}
    found = measured.from_columns(given, time="t", positions="x")
    assert_allclose(found.path.ts[0], [0.0, 0.02, 0.04, 0.06], atol=1e-12)


# ---- works


def test_works_that_never_meet():
    """By Crooks' theorem both directions have the same works; these were 75 of their widths apart, and reliable."""
    z = np.random.default_rng(0).normal(size=(2, 1000))
    works = jnp.asarray(10 + 0.1 * z[0]), jnp.asarray(-2.5 + 0.1 * z[1])
    for estimator in (bar, crooks):
        assert "too few works of one direction" in estimator(*works).why
        assert "too few works" in estimator(jnp.full(1000, 10.0), jnp.full(1000, -2.5)).why
        for spread in (1e-9, 1e-3, 1.0):
            half = spread**2 / 2
            lawful = 3 + half + spread * z[0], -3 + half + spread * z[1]
            assert bool(estimator(*map(jnp.asarray, lawful)).reliable), spread


@pytest.mark.parametrize("estimator", [bar, crooks])
def test_works_that_contradict_crooks(estimator):
    """Energies at T = 1/2 for works in kT; and of 400 lawful samples none. The score of the slope is 10 and 17 errors."""

    def drawn(key, unit, dissipation):
        z = jax.random.normal(key, (2, 600))
        works = unit * (dissipation + jnp.sqrt(2 * dissipation) * z)
        return estimator(5 + works[0], -5 + works[1])

    assert "not distributed as Crooks" in drawn(KEY, 0.5, 2.0).why
    assert "not distributed as Crooks" in drawn(KEY, 0.25, 1.0).why
    keys = jax.random.split(KEY, 400)
    for dissipation in (0.02, 1.0, 4.0):
        lawful = jax.lax.map(lambda key, d=dissipation: drawn(key, 1.0, d), keys)
        assert not any("not distributed" in why for why in lawful.why)
    few, many = (
        jax.random.normal(KEY, (n,)) for n in (200, 20_000)
    )  # an error of Delta is no slope
    uneven = estimator(0.65 * (4 + 8**0.5 * many), 0.65 * (4 + 8**0.5 * few))
    assert "not distributed" in uneven.why
    few, many = (jax.random.normal(KEY, (n,)) for n in (1000, 100_000))
    uneven = estimator(1.12 * (5 + 2 * many), 1.12 * (-1 + 2 * few))  # u has a mean of five
    assert "not distributed" in uneven.why
    z = jnp.repeat(jax.random.normal(KEY, (10, 2, 300)), 100, axis=-1)  # that know of each other
    again = jax.lax.map(lambda z: estimator(1 + 2**0.5 * z[0], 1 + 2**0.5 * z[1]), z)
    assert all("neighbours" in why for why in again.why)
    assert not any("not distributed" in why for why in again.why)


@pytest.mark.parametrize("grain", [0.0, 0.25])
def test_a_heavy_tail_of_rounded_works(grain):
    """Where a quarter of the largest weights are the same the tail was not a number, and so not heavy."""
    reliable = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        w = rng.normal(0.0, 0.3, 200_000)
        w = np.where(rng.uniform(size=w.size) < 0.05, -rng.exponential(1 / 1.7, w.size) - 0.5, w)
        w = grain * np.round(w / grain) if grain else w
        reliable.append(bool(jarzynski(jnp.asarray(w)).reliable))
    assert sum(reliable) <= 2  # its second moment is infinite; one of these is, all were
    fine = np.round(4 * np.random.default_rng(0).normal(0.5, 1.0, 100_000)) / 4
    assert bool(jarzynski(jnp.asarray(fine)).reliable)


# ---- noise


@pytest.mark.parametrize("size", [None, 500])
def test_even_levels_of_what_stands_still(size):
    """Normal data under a noise that keeps the variance: the levels were made of rounding, or NaN."""
    noising = diffusion.noising(Gaussian(jnp.zeros(2), 1.0), diffusion.Uniform(6.0, -6.0))
    found = diffusion.kinetic(noising, Gaussian(jnp.zeros(2), 1.0), KEY, size=size)
    assert_allclose(found.speed.value, 0, atol=0)
    assert_allclose(found.even(5), [6.0, 3.0, 0.0, -3.0, -6.0], atol=1e-9)


def test_times_outside_of_a_schedule():
    """They were extrapolated: levels of -40 and 10, and times below zero."""
    for times, schedule in (
        ([0.5, 2.0], diffusion.Linear()),
        ([-0.5, 0.5], diffusion.Uniform(5.0, -5.0)),
    ):
        with pytest.raises(ValueError, match="timesteps must be within those of the schedule"):
            schedules.from_timesteps(jnp.array(times), schedule)
    with pytest.raises(ValueError, match="lam: its times must be within"):
        schedules.to_timesteps(jnp.array([15.0, 0.0]), diffusion.EDM())
    both = diffusion.Cosine()
    ends = jnp.stack([both.t0, 0.5 * (both.t0 + both.t1), both.t1])
    lam = schedules.from_timesteps(ends[1:], both)
    assert_allclose(schedules.to_timesteps(lam, both), ends[1:], atol=1e-6)


# ---- doors


@pytest.mark.parametrize(
    "given",
    [
        lambda: Gaussian(jnp.ones(1), jnp.ones(3)),
        lambda: Gaussian(jnp.ones(1), jnp.eye(3)),
        lambda: Gaussian(jnp.ones(3), jnp.ones(1)),
    ],
)
def test_an_array_of_one_number_does_not_stand_for_more(given):
    with pytest.raises(ValueError, match=r"Gaussian.cov must be \(\)"):
        given()


@pytest.mark.parametrize("name", ["field", "coupling"])
@pytest.mark.parametrize("shape", [(4,), (5,), (2, 4)])
def test_one_field_for_all_spins(name, shape):
    with pytest.raises(ValueError, match=f"{name} must have shape.*one number"):
        ising(*shape, **{name: jnp.ones(shape[-1])})


def test_the_level_of_a_schedule_is_drawn_by_name():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    plots.protocol(figure.subplots(), diffusion.Linear(t0=1e-3), control="lam")


def test_networks_of_several_paths_are_stacked_by_equinox():
    import equinox as eqx

    many = eqx.filter_vmap(lambda v: Network(0.0, v, 1.0, key=KEY))(jnp.array([1.0, 2.0]))
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    process = tjx.Process(system, many, Gaussian(0.0, 1.0))
    run = tjx.ensemble(process, jnp.linspace(0.0, 1.0, 5), KEY, 2, save="all")
    one = tjx.Process(system, Network(0.0, 2.0, 1.0, key=KEY), Gaussian(0.0, 1.0))
    alone = tjx.account(one, jax.tree.map(lambda v: v[1], run.path))
    assert_allclose(run.work[1], alone.work, rtol=1e-12)
