"""The identities of the framework hold where they should, and are seen to fail where something is wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import HEAT, ROTATE, driven, floats, heated_row, whirling
from test_own import OWN, spins

import thermojax as tjx
from thermojax import estimators, identities
from thermojax.densities import Boltzmann, Gaussian, Point, Uniform
from thermojax.evolve import Grid, fokker_planck, moments
from thermojax.identities import DoesNotApply, Residual
from thermojax.potentials import Harmonic, MovingTrap
from thermojax.protocols import Piecewise, ramp

TS = jnp.linspace(0.0, 1.0, 41)
GRID = Grid(-5.0, 5.0, 160)
NAMES = {
    "first law",
    "medium entropy",
    "Ito form of the heat",
    "detailed balance",
    "path ratio",
    "integral fluctuation theorem",
    "total entropy production",
    "Jarzynski equality",
    "dissipated work of a path",
    "mean dissipated work",
    "mean dissipated work of paths",
    "entropy production rate",
}


def well(final_at=None):
    """Two wells, tilted and heated, in one dimension; f = 0."""
    system = tjx.Overdamped(_two, None, 0.8, _warmth)
    tilt = ramp(-0.4, 0.6, 1.0)
    stop = tilt.after if final_at is None else final_at
    ends = (Boltzmann(system, lam) for lam in (tilt.before, stop))
    return tjx.Process(system, tilt, *ends)


def _two(x, lam):
    return jnp.sum(0.25 * x**4 - 0.5 * x**2 - lam * x)


def _warmth(lam):
    return 1.0 + 0.3 * lam


class Made:
    """A process with paths priced by both rules, its density in time and its verdict."""

    def __init__(self, process, evolution, grid=None, size=4000):
        self.process, self.evolution = process, evolution
        self.kernel = tjx.ensemble(process, TS, jax.random.key(1), size, rule="kernel", save="all")
        self.plain = tjx.account(process, self.kernel.path)
        self.verdict = tjx.verify(process, TS, jax.random.key(1), size=size, grid=grid)

    def row(self, name):
        return next(row for key, _, row in self.verdict.rows if key == name)


@pytest.fixture(scope="module")
def wells():
    return Made(well(), fokker_planck(well(), TS, GRID), GRID)


@pytest.fixture(scope="module")
def whirl():
    process = whirling(floats(ROTATE))
    return Made(process, moments(process, TS))


@pytest.fixture(params=["wells", "whirl"])
def made(request):
    return request.getfixturevalue(request.param)


# ---------------------------------------------------------------------------- where all is right


def test_all_hold(made):
    found = {name for name, _, row in made.verdict.rows if isinstance(row, Residual)}
    assert found >= NAMES
    assert made.verdict.holds, str(made.verdict)
    assert not made.verdict.failed


def test_what_f_does_not_do(wells, whirl):
    assert wells.row("Ito form of the work of f") == "does not apply: the force f is zero"
    assert whirl.row("Ito form of the work of f").stderr > 0
    assert whirl.row("Jarzynski equality").equation == "(5.24)"


def test_exact_ones(made):
    """To the digits that each promises, and not merely to what is allowed."""
    for name, most in (
        ("first law", 1e-10),
        ("medium entropy", 1e-10),
        ("path ratio", 1e-10),
        ("dissipated work of a path", 1e-8),
        ("mean dissipated work", 1e-10),
    ):
        row = made.row(name)
        assert jnp.abs(row.value) <= most, name
        assert row.allowed <= most, name
        assert row.stderr == 0


def test_averages_are_sharp(made):
    """What is allowed is small beside what a mistake makes."""
    for name in ("integral fluctuation theorem", "total entropy production", "Jarzynski equality"):
        row = made.row(name)
        assert 0 < 4 * row.stderr <= row.allowed <= 0.2
    assert made.row("entropy production rate").allowed < 1e-2 * made.evolution.entropy.total[-1]


def test_mean_total_entropy_is_that_of_the_evolution(made):
    """The averages of (4.22) are not those of anything: <S_tot> of the paths is that of the density."""
    process = made.process.replace(final=made.evolution.final)
    found = estimators.mean(tjx.dissipated_work(process, made.kernel))
    bias = jnp.abs(jnp.mean(made.kernel.entropy.medium - made.plain.entropy.medium))
    assert jnp.abs(found.value - made.evolution.entropy.total[-1]) < 4 * found.stderr + 2 * bias


def test_a_temperature_that_rises_alone():
    """U fixed, f = 0: (5.37), and the closed form of the free energies, ln(T0/T1)/2."""
    process, ts = driven(heated_row(**HEAT)), TS[::4]
    run = tjx.ensemble(process, ts, jax.random.key(2), 4000, rule="kernel", save="all")
    row = identities.jarzynski(process, run)
    assert row.equation == "(5.37)"
    assert row.holds
    free = -jnp.log(jnp.mean(jnp.exp(-tjx.reduced_work(process, run))))
    assert jnp.abs(free - 0.5 * np.log(HEAT["T0"] / HEAT["T1"])) < 1.1 * row.allowed


def test_without_a_final():
    process = _trap().replace(final=None)
    verdict = tjx.verify(process, TS[::4], jax.random.key(3), size=1000)
    reasons = {name: row for name, _, row in verdict.rows if isinstance(row, str)}
    assert {name for name, row in reasons.items() if "final is None" in row} == {
        "path ratio",
        "integral fluctuation theorem",
        "Jarzynski equality",
        "dissipated work of a path",
        "mean dissipated work",
        "mean dissipated work of paths",
    }
    assert verdict.holds, str(verdict)
    text = str(verdict)
    assert "1000 paths of 10 steps" in text
    assert "does not apply: final is None" in text
    assert "total entropy production       (4.22)" in text


def test_a_system_of_ones_own():
    """Spins that jump: no drift, no force, no density in time."""
    fast, _ = spins()
    slow = Piecewise(jnp.array([0.0, 4.0]), jnp.array([-0.2, 0.8]), -0.5, 1.0)
    process = fast.replace(protocol=slow)
    verdict = tjx.verify(process, 4 * TS[::5], jax.random.key(5), size=20_000)
    assert verdict.holds, str(verdict)
    found = {name for name, _, row in verdict.rows if isinstance(row, Residual)}
    assert found == {
        "first law",
        "medium entropy",
        "detailed balance",
        "path ratio",
        "integral fluctuation theorem",
        "Jarzynski equality",
    }
    assert "no grid was given" in str(verdict)
    assert "(5.33)" in str(verdict)
    assert "does not apply: as (4.22)" in str(verdict)
    wide = tjx.verify(fast, TS[::5], jax.random.key(4), size=20_000)
    assert wide.holds
    assert "undecided: the average over these paths is not reliable" in str(wide)


# ---------------------------------------------------------------------------- where something is wrong


class Shifted(eqx.Module):
    """A density that is not normalised."""

    of: Gaussian
    by: float

    def sample(self, key):
        return self.of.sample(key)

    def log_prob(self, x):
        return self.of.log_prob(x) + self.by


def test_a_final_that_is_no_equilibrium_is_no_failure(wells):
    """Nor is that of another control than the last."""
    for final in (Gaussian(0.3, 1.0), well(jnp.zeros(())).final):
        process = wells.process.replace(final=final)
        for identity in (identities.jarzynski, identities.dissipation):
            with pytest.raises(DoesNotApply, match="final is not the equilibrium"):
                identity(
                    process,
                    wells.kernel,
                    *([wells.evolution] * (identity is identities.dissipation)),
                )
        with pytest.raises(DoesNotApply, match="final is not the equilibrium"):
            identities.mean_dissipation(process, wells.evolution)
        assert identities.fluctuation(process, wells.kernel).holds  # any q will do


def test_a_start_that_is_not_everywhere_is_no_failure():
    """Reversed runs that end where no run starts have no forward ones: <exp(-R)> is less than 1 by their share."""
    system = tjx.Overdamped(Harmonic(1.0))
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Uniform(-1.0, 1.0), Gaussian(0.0, 1.0))
    run = tjx.ensemble(process, TS, jax.random.key(0), 4000, rule="kernel", save="all")
    share = estimators.mean(jnp.exp(-tjx.dissipated_work(process, run)))
    assert share.value < 1 - 20 * share.stderr
    with pytest.raises(DoesNotApply, match="no density where .* of the paths end"):
        identities.fluctuation(process, run)


def test_a_quench_is_no_failure():
    """From the equilibrium of a hotter bath; the same start, written as a Gaussian, says the same."""
    cold, hot = (tjx.Overdamped(MovingTrap(1.0), temperature=T) for T in (1.0, 2.0))
    end, path = (
        Boltzmann(cold, 1.0, dim=1),
        tjx.Path(TS, jnp.sin(TS[None] + jnp.arange(2.0)[:, None])[..., None]),
    )
    for start in (Boltzmann(hot, 0.0, dim=1), Gaussian(0.0, 2.0), Boltzmann(cold, 0.3, dim=1)):
        process = tjx.Process(cold, ramp(0.0, 1.0, 1.0), start, end)
        found = moments(process, TS)
        with pytest.raises(DoesNotApply, match="initial is not the equilibrium"):
            identities.mean_dissipation(process, found)
        with pytest.raises(DoesNotApply, match="initial is not the equilibrium"):
            identities.jarzynski(process, tjx.account(process, path, rule="kernel"))


def test_a_mean_far_away_is_no_failure():
    """The digits that an offset of the energy takes, or a place far away, are allowed for; and no more than these."""
    for shift, place in ((0.0, 0.0), (1e5, 0.0), (0.0, 1e5)):
        system = tjx.Overdamped(lambda x, lam, shift=shift: 0.5 * jnp.sum((x - lam) ** 2) + shift)
        ends = (Boltzmann(system, lam) for lam in (place, place + 1.0))
        process = tjx.Process(system, ramp(place, place + 1.0, 1.0), *ends)
        found = moments(process, jnp.linspace(0.0, 1.0, 65))
        row = identities.mean_dissipation(process, found)
        assert row.holds, row
        assert row.allowed < 1e-6
        wrong = eqx.tree_at(lambda e: e.entropy.total, found, found.entropy.total + 1e-5)
        assert not identities.mean_dissipation(process, wrong).holds


def test_a_final_that_is_not_normalised_is_seen(wells):
    process = wells.process.replace(final=Shifted(Gaussian(0.3, 1.0), 0.3))
    assert not identities.fluctuation(process, wells.kernel).holds


def test_a_wrong_temperature_in_the_ledger_is_seen(made):
    system = made.process.system
    other = eqx.tree_at(
        lambda s: s.temperature.fn, system, lambda lam: 1.1 * system.temperature(lam)
    )
    wrong = tjx.account(made.process.replace(system=other), made.kernel.path)
    assert identities.first_law(made.process, wrong).holds  # energies do not know T
    assert not identities.medium_entropy(made.process, wrong).holds


class Noisy(tjx.AbstractOverdamped):
    """A quartic trap whose noise is `times` that of its temperature, for which no density in time is known."""

    times: float

    def energy(self, x, lam):
        return 0.25 * jnp.sum((x - lam) ** 4)

    def push(self, x, lam):
        return jnp.zeros_like(x)

    def mobility(self, lam):
        return jnp.ones(())

    def temperature(self, lam):
        return 2.0 * jnp.ones(())

    def positive(self, lam):
        return {}

    def diffusion(self, x, lam):
        return self.times * 2.0 * jnp.ones(())


def test_a_noise_of_another_temperature_is_seen():
    for times in (0.5, 1.0):
        system = Noisy(times)
        ends = (Boltzmann(system, lam, bounds=(-6.0, 6.0)) for lam in (0.0, 0.5))
        process = tjx.Process(system, ramp(0.0, 0.5, 1.0), *ends)
        verdict = tjx.verify(process, TS, jax.random.key(0), size=4000)
        assert verdict.failed == (() if times == 1 else ("detailed balance",)), str(verdict)


class Turned(OWN["Glauber"]):
    """Spins that gain `factor` times what the energy says by turning; 1 is forgetting that they turn by 2."""

    factor: float

    def kernel(self, system, x, lam, dt):
        gain = self.factor * lam * x / system.temperature(lam)
        return OWN["Flipping"](x, -jnp.expm1(-dt) * jax.nn.sigmoid(-gain))


class Spins(OWN["Spins"]):
    factor: float

    def step(self, rule):
        return Turned(self.factor)


@pytest.mark.parametrize("factor", [1.0, -2.0])
def test_rates_that_do_not_fit_the_energy_are_seen(factor):
    slow = Piecewise(jnp.array([0.0, 4.0]), jnp.array([-0.2, 0.8]), -0.5, 1.0)
    process = spins()[0].replace(protocol=slow, system=Spins(factor))
    verdict = tjx.verify(process, 4 * TS[::5], jax.random.key(5), size=4000)
    assert "detailed balance" in verdict.failed, str(verdict)


def test_an_ito_sum_for_the_heat_is_seen(made):
    """sum F(x_k) dx: short by the divergence, which no step makes small."""
    process, (ts, xs, _) = made.process, made.plain.path

    def one(xs, ts):
        lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))
        force = jax.vmap(process.system.total_force)(xs[:-1], lams)
        return jnp.sum(force * (xs[1:] - xs[:-1]))

    wrong = made.plain._replace(heat=jax.vmap(one)(xs, ts))
    assert not identities.first_law(process, wrong).holds
    row = identities.ito(process, wrong)
    assert not row.holds
    assert jnp.abs(row.value) > 10 * row.allowed


def test_the_other_rule_is_seen(made):
    """The medium of the alternating rule is not the log-ratio of the kernels, nor the other way round."""
    assert not identities.path_ratio(made.process, made.plain).holds
    assert not identities.medium_entropy(made.process, made.kernel).holds


def test_production_of_steps():
    """The control jumps at times of the grid: each side of a jump has its own rate."""
    system = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    drive = tjx.protocols.Steps(
        jnp.array([0.0, 0.3, 0.7, 1.0]), jnp.array([1.0, 2.0, 0.0]), 0.0, 3.0
    )
    process = tjx.Process(
        system, drive, *(tjx.densities.Boltzmann(system, at) for at in (0.0, 3.0))
    )
    for steps, within in ((10, 4e-3), (20, 2e-6)):
        evolution = tjx.evolve.moments(process, jnp.linspace(0.0, 1.0, steps + 1))
        row = identities.entropy_production_rate(process, evolution)
        assert row.holds
        assert abs(row.value) < within
    wrong = eqx.tree_at(lambda e: e.entropy.total, evolution, 1.05 * evolution.entropy.total)
    assert not identities.entropy_production_rate(process, wrong).holds


def test_a_wrong_evolution_is_seen(made):
    evolution = made.evolution
    wrong = eqx.tree_at(lambda e: e.entropy.total, evolution, 1.05 * evolution.entropy.total)
    assert not identities.entropy_production_rate(made.process, wrong).holds
    assert not identities.mean_dissipation(made.process, wrong).holds


def test_nan_does_not_hold():
    nan = jnp.asarray(jnp.nan)
    assert not Residual("", "", nan, nan, nan).holds


# ---------------------------------------------------------------------------- the Ito form of other steps


def test_ito_form_of_heun_steps(wells):
    """By one Richardson step; without it the mean is off by more than is allowed."""
    run = tjx.ensemble(wells.process, TS, jax.random.key(5), 4000, save="all")
    row = identities.ito(wells.process, run, rule="alternating")
    assert row.holds, row
    assert not identities.ito(wells.process, run).holds  # they are no steps of Euler's


# ---------------------------------------------------------------------------- words


def _trap():
    system, drive = tjx.Overdamped(MovingTrap(1.5)), ramp(0.0, 1.0, 1.0)
    return tjx.Process(
        system, drive, *(Boltzmann(system, lam, dim=1) for lam in (drive.before, drive.after))
    )


def test_what_does_not_apply():
    system = tjx.Overdamped(Harmonic(1.0), temperature=jnp.array([1.0, 2.0]))
    start = Gaussian(jnp.zeros(2), 1.0)
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), start, start)
    run = tjx.account(process, tjx.Path(TS[::10], jnp.sin(jnp.arange(10.0)).reshape(5, 2)))
    assert identities.first_law(process, run).holds  # of one path, and two baths
    for identity in (identities.medium_entropy, identities.jarzynski):
        with pytest.raises(DoesNotApply, match="bath per coordinate"):
            identity(process, run)
    point = process.replace(initial=Point(jnp.zeros(2)))
    with pytest.raises(DoesNotApply, match="Point"):
        identities.path_ratio(point, run)


def test_few_times_and_no_grid():
    """What there are too few times for, or no lattice, does not apply; the rest is in the table. A long step is said."""
    with pytest.warns(RuntimeWarning, match="The step is too long for what it follows: h = 1,"):
        verdict = tjx.verify(_trap(), TS[::40], jax.random.key(0), size=100)
    reasons = {name: row for name, _, row in verdict.rows if isinstance(row, str)}
    assert "three times or more, got 2" in reasons["entropy production rate"]
    verdict = tjx.verify(spins()[0], TS[::20], jax.random.key(0), size=100, grid=GRID)
    reasons = {name: row for name, _, row in verdict.rows if isinstance(row, str)}
    assert "evolve.fokker_planck" in reasons["total entropy production"]


def test_refusals():
    process = _trap()
    with pytest.raises(TypeError, match="trajectory"):
        identities.first_law(process, tjx.Path(TS, TS[:, None]))
    with pytest.raises(TypeError, match="grid"):
        tjx.verify(process, TS, jax.random.key(0), grid=3)
    with pytest.raises(ValueError, match="size must be"):
        tjx.verify(process, TS, jax.random.key(0), size=2)
    stiff = tjx.Overdamped(lambda x, lam: 50.0 * jnp.sum(x**4), None)
    unstable = tjx.Process(stiff, ramp(0.0, 1.0, 1.0), Gaussian(2.0, 1.0))
    with pytest.raises(ValueError, match="did not stay finite"):
        tjx.verify(unstable, TS[::4], jax.random.key(0), size=20)


# ---------------------------------------------------------------------------- the action of a path


def test_action_differs_from_its_reverse_by_the_stratonovich_heat(whirl):
    process, path = whirl.process, whirl.kernel.path
    mirrored = tjx.Path((1.0 - path.ts)[:, ::-1], path.xs[:, ::-1])
    there = tjx.onsager_machlup(process, path)
    back = tjx.onsager_machlup(tjx.reverse(process), mirrored)
    assert there.shape == (4000,)

    def one(xs):
        lams = jax.vmap(process.protocol)(0.5 * (TS[1:] + TS[:-1]))
        force = jax.vmap(process.system.total_force, (0, 0))
        mean = 0.5 * (force(xs[:-1], lams) + force(xs[1:], lams))
        return jnp.sum(jnp.sum(mean * jnp.diff(xs, axis=0), 1) / lams["T"])

    np.testing.assert_allclose(there - back, jax.vmap(one)(path.xs), atol=1e-10)
    np.testing.assert_allclose(
        tjx.onsager_machlup(process, tjx.Path(TS, path.xs[3])), there[3], atol=1e-11
    )


def test_action_is_a_density_relative_to_free_diffusion():
    """Girsanov's weights of paths of free diffusion average to one."""
    process = _trap()
    ts = jnp.linspace(0.0, 1.0, 81)
    noise = np.random.default_rng(0).normal(size=(4000, 80, 1)) * np.sqrt(2 / 80)
    xs = jnp.asarray(np.concatenate([np.zeros((4000, 1, 1)), noise.cumsum(1)], 1))
    weights = jnp.exp(
        tjx.onsager_machlup(process, tjx.Path(ts, xs)) + jnp.asarray(noise**2).sum((1, 2)) * 20
    )
    found = estimators.mean(weights)
    assert jnp.abs(found.value - 1) < 4 * found.stderr + 0.005
    assert found.stderr < 0.02


def test_action_and_the_chain_have_one_limit():
    """Less the normalisers and the start, `log_prob` differs by less the shorter the steps."""
    process, apart = _trap(), []
    for steps in (50, 200):
        ts = jnp.linspace(0.0, 1.0, steps + 1)
        noise = np.random.default_rng(1).normal(size=(500, steps, 1)) * np.sqrt(2 / steps)
        path = tjx.Path(
            ts, jnp.asarray(np.concatenate([np.zeros((500, 1, 1)), noise.cumsum(1)], 1))
        )
        start = jax.vmap(process.initial.log_prob)(path.xs[:, 0])
        chain = tjx.log_prob(process, path) - start + 0.5 * steps * np.log(4 * np.pi / steps)
        apart.append(float(jnp.std(chain - tjx.onsager_machlup(process, path))))
    assert apart[0] < 0.2
    np.testing.assert_allclose(apart[0] / apart[1], 2.0, rtol=0.15)  # the root of the step


def test_action_in_a_flow():
    """The stream is odd: forward and back differ by the heat against the medium, and by the volume that leaves."""
    system = tjx.Overdamped(
        lambda x, lam: jnp.sum(x**4 / 4 + lam * x), None, velocity=lambda x, lam: 0.5 * x
    )
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0), Gaussian(0.0, 1.0))
    xs = jnp.sin(jnp.arange(11.0))[:, None]
    path, dt = tjx.Path(TS[::4], xs), 0.1
    back = tjx.Path(path.ts, xs[::-1])
    lams = 0.05 + 0.1 * np.arange(10)
    x0, x1 = np.asarray(xs[:-1, 0]), np.asarray(xs[1:, 0])
    force = lambda x: -(x**3) - lams
    against = 0.5 * (force(x0) + force(x1)) * (x1 - x0 - 0.25 * (x0 + x1) * dt) - 0.5 * dt
    # the product of the means, where the ledger has the mean of the products
    got = tjx.onsager_machlup(process, path) - tjx.onsager_machlup(tjx.reverse(process), back)
    np.testing.assert_allclose(got, against.sum(), rtol=1e-12)


def test_action_refuses():
    process, _ = spins()
    with pytest.raises(TypeError, match="onsager_machlup is for overdamped"):
        tjx.onsager_machlup(process, tjx.Path(TS, jnp.ones((41, 3))))
    bad = tjx.onsager_machlup(_trap(), tjx.Path(TS, jnp.full((41, 1), jnp.nan)))
    assert jnp.isnan(bad)


# ---------------------------------------------------------------------------- the detailed fluctuation theorem


def gaussian_works(seed, mean, size, spread=1.0):
    draws = np.random.default_rng(seed).normal(size=size)
    return jnp.asarray(mean + spread * np.sqrt(2 * mean) * draws)


def test_detailed_fluctuation():
    forward, reverse = gaussian_works(0, 0.8, 3000), gaussian_works(1, 0.8, 5000)
    found = estimators.detailed_fluctuation(forward, reverse)
    assert found.at.shape == (8000,)
    assert bool(jnp.all(jnp.diff(found.at) >= 0))
    middle = (found.right > 0.02) & (found.right < 0.98)
    assert bool(jnp.all(jnp.abs(found.difference / found.stderr)[middle] < 4))
    np.testing.assert_allclose(found.left[-1], jnp.mean(jnp.exp(-forward)), rtol=1e-12)
    np.testing.assert_allclose(found.right[-1], 1.0)
    at = jnp.array([-0.5, 0.3])
    few = estimators.detailed_fluctuation(forward, reverse, points=at)
    for i, r in enumerate(np.asarray(at)):
        weight = np.where(forward <= r, np.exp(-np.asarray(forward)), 0)
        back = np.where(reverse >= -r, 1.0, 0.0)
        np.testing.assert_allclose(few.left[i], np.mean(weight))
        np.testing.assert_allclose(few.right[i], np.mean(back))
        error = np.hypot(np.std(weight) / np.sqrt(2999), np.std(back) / np.sqrt(4999))
        np.testing.assert_allclose(few.stderr[i], error, rtol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 1e-4, 1e-9])
@pytest.mark.parametrize("mean", [0.0, 50.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_detailed_fluctuation_of_works_that_hardly_differ(spread, mean, dtype):
    """Its error was the root of a difference: 0 below 1e-8 nats, 30 % off at 1e-4 in single precision."""
    draws = np.random.default_rng(3).normal(size=(2, 1000))
    forward, reverse = (np.array([[mean], [-mean]]) + spread * draws).astype(dtype)
    at = np.quantile(forward, [0.3, 0.9, 1.0])
    at = at.astype(dtype)
    found = estimators.detailed_fluctuation(*map(jnp.asarray, (forward, reverse)), points=at)
    weights = np.where(forward <= at[:, None], np.exp(-forward.astype(np.longdouble)), 0)
    right = np.mean(reverse >= -at[:, None], 1)
    error = np.sqrt(weights.var(1, ddof=1) / 1000 + right * (1 - right) / 999)
    least = float(np.finfo(dtype).tiny)
    np.testing.assert_allclose(found.stderr, error.astype(float), rtol=2e-5, atol=least)


def test_detailed_fluctuation_sees_what_is_wrong():
    """Works whose spread does not belong to their mean, and a sign."""
    forward = gaussian_works(0, 0.8, 3000)
    for reverse in (gaussian_works(1, 0.8, 3000, spread=2.0), -gaussian_works(1, 0.8, 3000)):
        found = estimators.detailed_fluctuation(forward, reverse)
        middle = (found.right > 0.02) & (found.right < 0.98)
        assert float(jnp.max(jnp.abs(found.difference / found.stderr)[middle])) > 6


def test_detailed_fluctuation_refuses():
    good = gaussian_works(0, 0.8, 10)
    for bad, words in (
        (good.at[2].set(jnp.nan), "not finite"),
        (good.at[2].set(jnp.inf), "infinite|not finite"),
        (good[:0], "at least two"),
    ):
        with pytest.raises(ValueError, match=words):
            estimators.detailed_fluctuation(good, bad)
        with pytest.raises(ValueError, match=words):
            estimators.detailed_fluctuation(bad, good)
    traced = jax.jit(estimators.detailed_fluctuation)(good.at[2].set(jnp.nan), good)
    assert bool(jnp.all(jnp.isnan(traced.left)))
