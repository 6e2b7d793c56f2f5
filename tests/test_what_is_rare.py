"""Numbers that were wrong, without a word, where what counts is rare or small: each with its right value."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

import thermojax as tjx
from thermojax import bounds, diffusion, estimators, plots, schedules
from thermojax._chance import chance, sided
from thermojax.densities import Gaussian, States
from thermojax.diffusion._levelwise import error, first_levels, quieter, tail
from thermojax.protocols import ramp
from thermojax.systems import Grid

KEY = jax.random.key(0)
F4 = jnp.float32
SIGMAS = 5.25  # as allowed by chance elsewhere

# ---- barriers that a density has no number for


@pytest.mark.parametrize("height", [10.0, 50.0, 70.0])
def test_friction_over_a_barrier(height):
    r"""It was cut where p is below the root of the least number: 1.2e16 for 5.0e19 at 50 kT in single precision."""
    phi = lambda x: height * (x**2 - 1) ** 2 - 0.3 * x
    x = np.linspace(-2.0, 2.0, 200_001)
    p = np.exp(phi(0.95) - phi(x))
    p /= integrate.trapezoid(p, x)
    force = -x + integrate.trapezoid(x * p, x)
    c = integrate.cumulative_trapezoid(force * p, x, initial=0)
    c = np.where(x < 0, c, -integrate.cumulative_trapezoid((force * p)[::-1], x, initial=0)[::-1])
    exact = integrate.trapezoid(c**2 / np.maximum(p, 1e-300) * (p > 1e-290), x)

    def found():
        system = tjx.Overdamped(lambda x, lam: height * (x[0] ** 2 - 1) ** 2 - lam * x[0])
        return bounds.friction(system, 0.3, grid=Grid(-2.0, 2.0, 400))[0, 0]

    assert_allclose(found(), exact, rtol=2e-6)
    with jax.enable_x64(False):
        assert_allclose(found(), exact, rtol=1e-4)


def test_friction_that_has_no_number():
    """A barrier that is too high for its precision, and a wall between two halves."""
    with jax.enable_x64(False):
        wells = tjx.Overdamped(lambda x, lam: 100 * (x[0] ** 2 - 1) ** 2 - lam * x[0])
        with pytest.raises(ValueError, match="a number of float32: a barrier is too high"):
            bounds.friction(wells, 0.3, grid=Grid(-2.0, 2.0, 400))
    halves = tjx.Overdamped(
        lambda x, lam: jnp.where(jnp.abs(x[0]) > 0.1, lam * x[0] + 8 * x[0] ** 2, jnp.inf)
    )
    with pytest.raises(ValueError, match="or a wall"):
        bounds.friction(halves, 0.3, grid=Grid(-2.0, 2.0, 400))
    thin = tjx.Overdamped(
        lambda x, lam: jnp.where(
            jnp.abs(x[0] - 0.005) < 0.0051, jnp.inf, 8 * x[0] ** 2 - lam * x[0]
        )
    )
    with pytest.raises(ValueError, match="or a wall"):
        bounds.friction(thin, 0.3, grid=Grid(-2.0, 2.0, 400))
    box = tjx.Overdamped(lambda x, lam: jnp.where(jnp.abs(x[0]) < 1, lam * x[0], jnp.inf))
    walls = bounds.friction(box, 0.3, grid=Grid(-1.0, 1.0, 400, walls=True))
    assert_allclose(bounds.friction(box, 0.3, grid=Grid(-2.0, 2.0, 800)), walls, rtol=1e-4)


@pytest.mark.parametrize("lower", [-np.pi, 0.0, 1.0])
@pytest.mark.parametrize("height", [1.0, 20.0, 40.0])
def test_friction_of_one_well_on_a_ring(lower, height):
    r"""Turned by its control: $\zeta = \frac1D (1 - 1/I_0^2)$. Two large terms were left over: 5e17 for 1 at 40 kT."""
    system = tjx.Overdamped(lambda x, lam: -height * jnp.cos(x[0] - lam))
    ring = Grid(lower, lower + 2 * np.pi, 400, periodic=True)
    exact = 1 - 1 / float(np.i0(height)) ** 2
    found = lambda lam: bounds.friction(system, lam, grid=ring)[0, 0]
    assert_allclose(found(0.3), exact, rtol=2e-7)
    assert_allclose(jax.grad(found)(0.3), 0.0, atol=1e-5)


# ---- events of probabilities below 1e-7


def test_the_smallest_random_numbers():
    """Single precision has 2^23 of them by default: 0 came eight times as often as what is below 1.5e-8."""
    with jax.enable_x64(False):
        count, size, least = 10, 20_000_000, 1.5e-8

        @jax.jit
        def ends(key):
            one, two = jax.random.split(key)
            jump = tjx.systems.Once().draw(one, (size, 1), np.dtype(F4))[0]
            visit = tjx.systems.Sweep().draw(two, (size,), np.dtype(F4))[0]
            low, high = (visit > 0) & (visit < least), (visit < 0) & (visit > -least)
            return jnp.array([jnp.sum(jump < least), jnp.sum(low), jnp.sum(high)])

        seen = sum(np.asarray(ends(key)) for key in jax.random.split(KEY, count))
    due = count * size * least
    for number in seen:
        assert abs(number - due) < SIGMAS * due**0.5  # 21 more were there


def test_jumps_of_small_probability():
    with jax.enable_x64(False):
        system = tjx.Jumps(
            lambda x, lam: jnp.array([1.0, 4e-7], F4), lambda x: jnp.stack([x + 1, x - 1])
        )
        kernel = tjx.systems.Once().kernel(system, jnp.zeros(1), 0.0, jnp.asarray(0.05))
        edges = np.cumsum(np.exp(np.asarray(kernel.logs, float)))
        us = jnp.asarray([0.5 * edges[0], edges[0] + 1e-8, edges[1] + 1e-8], F4)
        assert_allclose(jax.vmap(kernel.at)(us)[:, 0], [1.0, -1.0, 0.0])


@pytest.mark.parametrize("rate", [None, 0.1])
def test_spins_that_hardly_turn(rate):
    """At h/T = 9: up and down alike, by numbers near either end."""
    with jax.enable_x64(False):
        for spin in (1.0, -1.0):
            energy = lambda x, lam, spin=spin: -4.5 * spin * x[0]
            system = tjx.systems.Spins(energy, temperature=0.5, rate=rate)
            start = jnp.full(1, spin, F4)
            kernel = tjx.systems.Sweep().kernel(system, start, 0.0, jnp.asarray(1.0))
            due = float(jnp.exp(kernel.log_prob(-start)))
            assert 1e-9 < due < 2e-8
            us = -spin * jnp.asarray([0.9 * due, 1.1 * due, 0.4, -0.4, -0.9 * due], F4)
            found = jax.vmap(lambda u, kernel=kernel: kernel.at(u[None]))(us)[:, 0]
            assert_allclose(found, spin * np.array([-1.0, 1.0, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize("level", [0.0, 40.0, -100.0])
def test_rates_against_energies_that_have_a_constant(level):
    """The constant was taken for rounding: 0.9 nat in every jump, <e^-R> = 1.167, reliable."""
    with jax.enable_x64(False):
        states = jnp.array([[0.0], [1.0]])

        def process(off, level=level):
            rates = lambda x, lam: jnp.stack(
                [jnp.exp(-0.5 * (lam + off)) * (1 - x[0]), jnp.exp(0.5 * (lam + off)) * x[0]]
            )
            energy = lambda x, lam: level + lam * x[0]
            system = tjx.Jumps(rates, lambda x: jnp.stack([1 - x, 1 - x]), energy=energy)
            start, stop = (States.boltzmann(system, lam, states) for lam in (0.0, 1.0))
            return tjx.Process(system, ramp(0.0, 1.0, 4.0), start, stop)

        ts = jnp.linspace(0.0, 4.0, 81)
        assert tjx.ensemble(process(0.0), ts, KEY, 100).path.ok.all()
        far = process(0.0, 1e4 * level)  # of which a jump keeps two digits
        assert tjx.ensemble(far, ts, KEY, 100).path.ok.all()
        with pytest.raises(ValueError, match="Local detailed balance is broken"):
            tjx.ensemble(process(0.3), ts, KEY, 100)


# ---- the ends of a noising


COSTS = {  # by Gauss and Legendre in pieces of t, of N(1/2, 1/4)
    "cosine": (diffusion.Cosine(t1=1 - 1e-6), diffusion.VP(), 0.6115279638842),
    "linear": (diffusion.Linear(t0=1e-7), diffusion.VP(), 0.8707252326295),
    "sigma": (diffusion.SigmaT(t0=1e-7), diffusion.VE(), 155.0914890921643),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_kinetic_cost_of_a_schedule_that_hurries_at_its_end(name):
    """A million times as fast there: cost -3.5 and -25.6 in single precision, 0.835 in double, all without an error."""
    schedule, kind, exact = COSTS[name]
    data = Gaussian(0.5, 0.25)

    def found():
        process = diffusion.noising(data, schedule, kind=kind)
        return diffusion.kinetic(process, data, KEY, size=None)

    assert_allclose(found().cost.value, exact, rtol=2e-6)
    assert found().cost.value > found().length ** 2
    with jax.enable_x64(False):
        schedule, data = (jax.tree.map(lambda v: v.astype(F4), of) for of in (schedule, data))
        assert_allclose(found().cost.value, exact, rtol=1e-3)


def test_the_kinetic_cost_of_a_part():
    """From `top` on: the integral was over the part, and the duration of the whole."""
    data = Gaussian(0.0, 1.0)
    whole, part = (
        diffusion.noising(data, diffusion.Uniform(first, -3.0), kind=diffusion.VE())
        for first in (6.0, 0.0)
    )
    exact = diffusion.kinetic(part, data, KEY, size=None).cost.value
    cost = lambda top: diffusion.kinetic(whole, data, KEY, size=None, top=top).cost.value
    assert_allclose(cost(0.0), exact, rtol=1e-9)
    assert_allclose(jax.jit(cost)(0.0), exact, rtol=1e-9)
    with pytest.raises(ValueError, match="above the first level of the schedule, 6"):
        cost(7.0)
    assert jnp.isnan(jax.jit(cost)(7.0))


SLOPES = {
    "uniform, t1": (lambda v: diffusion.Uniform(6.0, -5.0, t1=v), 0.7, None),
    "cosine, t1": (lambda v: diffusion.Cosine(t1=v), 0.9, None),
    "linear, t0": (lambda v: diffusion.Linear(t0=v), 0.1, None),
    "linear, b1": (lambda v: diffusion.Linear(0.1, v), 20.0, 2.0),
    "uniform, last": (lambda v: diffusion.Uniform(6.0, v), -5.0, 2.0),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_of_the_kinetic_cost_at_its_ends(name):
    """They took the times of the ends for fixed: 0.68 for 1.49."""
    schedule, at, top = SLOPES[name]
    data = Gaussian(0.5, 0.25)

    def cost(v):
        process = diffusion.noising(data, schedule(v))
        return diffusion.kinetic(process, data, KEY, size=None, top=top).cost.value

    step = 1e-5 * max(1, abs(at))
    slope = (cost(at + step) - cost(at - step)) / (2 * step)
    assert_allclose(jax.grad(cost)(at), slope, rtol=1e-6)


@pytest.mark.parametrize(("ratio", "fine"), [(0.02, True), (1.0, False), (2.9, False)])
def test_what_a_noise_as_wide_as_the_data_hides(ratio, fine):
    r"""$\frac d2 \ln(1 + \rho)$ for $\frac d2 \rho$: the entropy was off by -1.5 at $\rho = 1$, d = 10, and reliable."""
    d, variance = 10, 4e-6 / ratio
    data = Gaussian(jnp.zeros(d), variance)
    score = lambda x, lam: -x / (variance + jnp.exp(-lam))
    process = diffusion.noising(data, diffusion.EDM(), kind=diffusion.VE())
    exact = 0.5 * d * np.log(2 * np.pi * np.e * variance)
    found = diffusion.price(process, score, data, KEY, size=None).data_entropy
    assert_allclose(found.value, exact, atol=3e-3)
    drawn = diffusion.price(process, score, data, KEY).data_entropy
    assert bool(drawn.reliable) == fine
    assert ("higher level" in drawn.why) == (not fine)
    if ratio > 0.5:
        rows = jax.vmap(data.sample)(jax.random.split(KEY, 500))
        clean = diffusion.elbo(process, score, rows, KEY).clean
        assert abs(clean.value + exact) < SIGMAS * clean.stderr < 1.4


def test_errors_of_a_few_draws():
    """Regression took from ten numbers at every level what it fitted: errors were half of the scatter."""
    data = Gaussian(0.0, 1.0)
    process = diffusion.noising(data, diffusion.Uniform(6.0, -8.0))
    score = lambda x, lam: -0.7 * x

    def one(key):
        exact = lambda x, lam: -x
        return diffusion.score_error(process, score, data, key, exact=exact, size=10)

    found = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(KEY, 400))
    inside = jnp.abs(found.value - jnp.mean(found.value)) < 1.96 * found.stderr
    assert jnp.mean(inside) > 0.9  # it was 0.6


@pytest.mark.parametrize("skewed", [False, True])
def test_the_error_of_ten_numbers_of_which_others_explain_a_part(skewed):
    """A slope of ten numbers takes freedom, and errs: one of twenty lies outside, not twice as many."""

    def one(key):
        z, noise = jax.random.normal(key, (2, 10))
        known = 0.5 * (z**2 - 1) if skewed else z
        found = quieter(3 * known + noise, [known])
        return jnp.abs(jnp.mean(found)) < 1.96 * error(found)

    inside = jax.lax.map(one, jax.random.split(KEY, 20_000), batch_size=1000)
    assert 0.935 < jnp.mean(inside) < 0.955
    assert_allclose(quieter(jnp.arange(9.0), [jnp.arange(9.0)]), jnp.arange(9.0))


# ---- levels of samplers


def test_levels_beyond_a_table():
    table = jnp.cumprod(1 - jnp.linspace(1e-4, 0.02, 1000))
    for lam in (jnp.array([12.4, 3.5, -1.8]), jnp.array([5.0, -19.0])):
        with pytest.raises(ValueError, match=r"within the levels of the table, -10\.1177 to 9\.21"):
            schedules.to_timesteps(lam, table)
    assert_allclose(schedules.to_timesteps(jnp.array([9.3, -10.12]), table), [0, 999])
    assert schedules.to_timesteps(jnp.array([1.0]), jnp.array([0.7])) == 0


def test_a_table_of_doubles_in_single_precision():
    """Its levels are those of the table, not of the table in single precision: 13.802 for 13.816."""
    table = np.cumprod(1 - np.linspace(1e-8, 2e-2, 1000))
    exact = (np.log(table) - np.log1p(-table))[:3]
    with jax.enable_x64(False):
        found = schedules.from_timesteps(jnp.arange(3), table)
        assert found.dtype == F4
        assert_allclose(found, exact, rtol=1e-6)
        with pytest.raises(ValueError, match="below one"):
            schedules.from_timesteps(jnp.arange(3), jnp.asarray(table))


def test_a_draw_is_never_the_last_of_a_table():
    """u = 0 drew a state at the wall or 40 kT up: once in 1e7 draws, where e^-W may be anything."""
    for dtype in (F4, jnp.float64):
        u, w = (of(KEY, (100_000,), dtype) for of in (chance, sided))
        assert u.dtype == w.dtype == dtype
        assert_allclose(u, jnp.where(w > 0, w, 1 + w), atol=1e-7)  # the same numbers
        assert 0 < jnp.min(u) < jnp.max(u) < 1
        assert abs(np.mean(np.asarray(u, float)) - 0.5) < SIGMAS * (12 * len(u)) ** -0.5


# ---- jumps that are fast beside the step, and weights of their works

STATES = jnp.arange(3.0)[:, None]


def ladder(fast, off=0.0):
    rates = lambda x, lam: jnp.stack(
        [
            jnp.where(x[0] < 1, fast, jnp.where(x[0] < 2, 1.0, 0.0)),
            jnp.where(x[0] > 1, np.exp(0.5 + off), jnp.where(x[0] > 0, fast * np.exp(0.7), 0.0)),
        ]
    ).astype(x.dtype)
    after = lambda x: jnp.stack([jnp.minimum(x + 1, 2.0), jnp.maximum(x - 1, 0.0)])
    energy = lambda x, lam: jnp.where(x[0] < 0.5, 0.0, jnp.where(x[0] < 1.5, 0.7, 1.2)) + 0 * lam
    return tjx.Jumps(rates, after, energy=energy)


@pytest.mark.parametrize("fast", [1e2, 1e5, 1e9])
@pytest.mark.parametrize("steps", [1, 100])
def test_jumps_that_are_fast_beside_the_step(fast, steps):
    """At rest no work is done: single precision had W = -.031 at rates of 1e6, Q = -32.0 for -.334 at 1e9."""
    with jax.enable_x64(False):
        system, states = ladder(fast), STATES.astype(F4)
        start = States(states, jnp.array([1.0, 0.0, 0.0], F4))
        process = tjx.Process(system, ramp(0.0, 0.0, 0.5), start)
        found = tjx.evolve.master(process, jnp.linspace(0.0, 0.5, steps + 1), states)
    u = np.array([0.0, 0.7, 1.2])
    assert_allclose(found.work[-1], 0.0, atol=1e-6)
    assert_allclose(found.heat[-1], -np.asarray(found.p[-1]) @ u, atol=2e-6)
    if fast > 1e4:
        assert_allclose(found.heat[-1], -0.33417, atol=1e-5)
        assert_allclose(found.entropy.total[-1], 0.57095, atol=1e-5)


def test_generating_of_what_master_refuses():
    ts = jnp.linspace(0.0, 0.5, 5)

    def value(off, s=1.0):
        system = ladder(1.0, off)
        start = States.boltzmann(system, 0.0, STATES)
        return tjx.evolve.generating(tjx.Process(system, ramp(0.0, 0.0, 0.5), start), ts, STATES, s)

    assert_allclose(value(0.0), 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="Local detailed balance is broken"):
        value(0.3)
    assert jnp.isnan(jax.jit(lambda s: value(0.3, s))(1.0))
    with pytest.raises(ValueError, match=r"s must have shape \(\), one number"):
        value(0.0, jnp.ones(3))


# ---- units whose squares have no number, and digits that are not there


def test_squares_in_small_units():
    """Momenta and works in SI: distances, currents and costs came out zero."""
    x, y = (np.random.default_rng(i).normal(i, 1 + i, size=(200, 1)) for i in (0, 1))
    exact = np.sqrt(np.mean((np.sort(x, 0) - np.sort(y, 0)) ** 2))
    with jax.enable_x64(False):
        for unit in (1e-19, 1e-30, 1e18, 1.0):
            found = bounds.wasserstein(unit * x, unit * y)
            assert_allclose(found / unit, exact, rtol=1e-5)
        slope = jax.grad(lambda a: bounds.wasserstein(a * jnp.asarray(x), jnp.asarray(y)))(1.0)
        assert jnp.isfinite(slope)
        assert bounds.wasserstein(x, x) == 0
        assert_allclose(bounds.tur(1e-19, 2.25e-38), 2 / 2.25, rtol=1e-6)
        assert_allclose(bounds.tur(1e20, 1e38), 200.0, rtol=1e-6)
        assert_allclose(bounds.transport(1e-20, 1e-12) * 1e28, 1.0, rtol=1e-6)
        assert_allclose(bounds.slow(1e-20, 1e-12) * 1e28, 1.0, rtol=1e-6)


def test_works_of_which_single_precision_has_no_digit():
    works = np.random.default_rng(0).normal(0.5, 1.0, 2000) + 1e8
    with jax.enable_x64(False):
        single = jnp.asarray(works, F4)
        for found in (estimators.jarzynski(single), estimators.second_cumulant(single)):
            assert "too large for their precision" in found.why
            assert found.stderr > 1
        assert estimators.mean(jnp.full(100, 4.0)).reliable
        excess = lambda w: estimators.mean(jnp.asarray(w, F4))
        with pytest.raises(ValueError, match="digits of a sample end in float32"):
            estimators.bootstrap(excess, works, key=KEY)
        found = estimators.bootstrap(excess, works - 1e8, key=KEY)
        assert 0.02 < found.stderr < 0.05
        assert estimators.bootstrap(excess, np.arange(20), key=KEY).stderr > 1
        labels = []
        for offset in (0.0, 1e8):
            figure, axes = plt.subplots()
            plots.weights(axes, works - 1e8 + offset)
            labels.append(axes.get_legend_handles_labels()[1])
            plt.close(figure)
        assert "effective sample size" in labels[0][0]
        assert labels[0] == labels[1]


def test_how_far_an_extrapolation_may_be_off():
    """A uniform density from a fifth of its width on, and a slope that is taken for known."""
    x = np.linspace(-3.0, 4.0, 70_001)

    def entropies(lam):
        s = np.exp(-0.5 * lam)
        p = stats.norm.cdf(x / s) - stats.norm.cdf((x - 1) / s)
        slope = (stats.norm.pdf(x / s) - stats.norm.pdf((x - 1) / s)) / s
        there, p = p > 1e-12, np.maximum(p, 1e-12)
        falls = 0.5 * s**2 * integrate.trapezoid(there * slope**2 / p, x)
        return falls, -integrate.trapezoid(there * p * np.log(p), x)

    f = jnp.asarray([[entropies(lam)[0] for lam in first_levels(jnp.asarray(3.0))]])
    found, exact = tail(f), entropies(3.0)[1]
    assert_allclose(exact, 0.40299, atol=1e-5)
    assert 0.02 < abs(found.integral[0] - exact) < found.off
    ratio = jnp.exp(-first_levels(jnp.asarray(0.0)))  # a Gaussian, of noise as wide as the data
    known = tail((0.5 * ratio / (1 + ratio))[None], jnp.asarray(1.0))
    assert_allclose(known.integral, 0.25)
    assert 0.09 < abs(known.integral[0] - 0.5 * np.log(2)) < 2 * known.off


def test_heats_of_energies_that_are_large_or_have_no_number():
    with jax.enable_x64(False):
        states = jnp.array([[-1.0], [1.0]], F4)
        for level in (0.0, 2.0**14):
            spins = tjx.systems.Spins(lambda x, lam, level=level: level - x[0])
            process = tjx.Process(
                spins, ramp(0.0, 0.0, 1.0), States(states, jnp.array([0.5, 0.5], F4))
            )
            heats = tjx.evolve.master(process, jnp.linspace(0.0, 1.0, 2), states).heat
            assert_allclose(heats[-1], np.tanh(1.0), atol=1e-6)
        rates = lambda x, lam: jnp.ones(1, F4)
        energy = lambda x, lam: jnp.where(x[0] > 0, jnp.inf, 0.0)
        jumps = tjx.Jumps(rates, lambda x: -x[None], energy=energy)
        assert jnp.isnan(jumps.events(-jnp.ones(1, F4), 0.0).heat).all()
