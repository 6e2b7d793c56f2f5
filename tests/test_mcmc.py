"""Equilibria of nonlinear systems in several dimensions, by Markov chains."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from test_mixtures import WAYS

import thermojax as tjx
from thermojax.densities import Boltzmann, Point, mcmc
from thermojax.densities._mcmc import _starts, _unsampled
from thermojax.potentials import MovingTrap
from thermojax.protocols import ramp

pytest.importorskip("blackjax")

KEY = jax.random.key(8)
TEMPERATURE = 0.8


def banana(x, lam):
    """A valley along y = 1 + x²/2, tilted by lam."""
    return 0.25 * x[0] ** 4 + 0.5 * x[0] ** 2 + (x[1] - 1 - 0.5 * x[0] ** 2) ** 2 - lam * x[0]


def two_wells(x, lam):
    """A barrier of lam."""
    return lam * (x[0] ** 2 - 1) ** 2 + 0.5 * x[1] ** 2


SYSTEM = tjx.Overdamped(banana, temperature=TEMPERATURE)


def quadrature(lam):
    """Weights on a grid, and ln Z."""
    x, y = np.meshgrid(np.linspace(-5, 5, 801), np.linspace(-5, 15, 1501), indexing="ij")
    phi = np.asarray(banana((x, y), lam)) / TEMPERATURE
    weight = np.exp(-phi) * (10 / 800) * (20 / 1500)
    return x, y, weight / weight.sum(), np.log(weight.sum())


@pytest.fixture(scope="module")
def sampled():
    return mcmc(SYSTEM, 2.0, KEY, dim=2, size=400_000, chains=64)


MOMENTS = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "x²": lambda x, y: x**2,
    "y²": lambda x, y: y**2,
    "xy": lambda x, y: x * y,
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(sampled, name):
    """Against quadrature, by the standard error of the effective sample size; of a tilt less by 10 % they would differ."""
    moment, xs = MOMENTS[name], np.asarray(sampled.sampler.xs)
    assert xs.shape == (400_000, 2)
    values = moment(*xs.T)
    estimate = values.mean(), values.std() / np.sqrt(float(sampled.sampler.ess))
    x, y, p, _ = quadrature(2.0)
    sigmas.assert_within(estimate, (p * moment(x, y)).sum())
    x, y, p, _ = quadrature(1.8)
    sigmas.assert_biased(estimate, (p * moment(x, y)).sum())


def test_a_draw_is_a_row(sampled):
    """By key, under jit and vmap alike, and every row has its turn."""
    keys = jax.random.split(KEY, 1000)
    rows = np.asarray(eqx.filter_jit(jax.vmap(lambda k: sampled.sample(k)))(keys))
    pool = {tuple(row) for row in np.asarray(sampled.sampler.xs)}
    assert all(tuple(row) in pool for row in rows)
    assert len(np.unique(rows[:, 0])) > 900
    np.testing.assert_array_equal(sampled.sample(keys[3]), rows[3])


def test_it_is_a_pytree(sampled):
    leaves = jax.tree.leaves(eqx.filter(sampled, eqx.is_array))
    assert any(leaf is sampled.sampler.xs for leaf in leaves)


def test_without_log_z(sampled):
    """It starts a run; what needs ln Z says so."""
    drive = ramp(2.0, 1.0, 1.0)
    start = tjx.Process(SYSTEM, drive, sampled)
    done = tjx.ensemble(start, jnp.linspace(0.0, 1.0, 6), KEY, 20)
    assert np.isfinite(tjx.reduced_work(start, done)).all()
    for call in (
        lambda: sampled.log_prob(jnp.zeros(2)),
        sampled.log_partition,
        lambda: tjx.ensemble(
            tjx.Process(SYSTEM, drive, sampled, sampled), jnp.linspace(0.0, 1.0, 6), KEY, 20
        ),
    ):
        with pytest.raises(ValueError, match=r"log_z is missing.*Give log_z=, or final=None"):
            call()


def test_with_log_z():
    *_, log_z = quadrature(2.0)
    density = mcmc(SYSTEM, 2.0, KEY, dim=2, log_z=log_z, size=20_000)
    x = jnp.array([0.3, 0.1])
    assert float(density.log_prob(x)) == pytest.approx(
        -float(banana(x, 2.0)) / TEMPERATURE - log_z, rel=1e-12
    )


def test_jarzynski(sampled):
    r"""$\Delta(\beta F)$ of a tilt that is halved, from the chains' equilibrium; started at a point it is biased."""
    exact = quadrature(2.0)[3] - quadrature(1.0)[3]
    drive, ts = ramp(2.0, 1.0, 1.0), jnp.linspace(0.0, 1.0, 51)
    process = tjx.Process(SYSTEM, drive, sampled)
    look = eqx.filter_jit(lambda p: tjx.reduced_work(p, tjx.ensemble(p, ts, KEY, 120_000)))
    got = tjx.estimators.jarzynski(look(process))
    # the chains' own error: the spread of <exp(-w) | start> over the starts is below that of exp(-w)
    spread = float(jnp.std(jnp.exp(-look(process))))
    error = np.hypot(float(got.stderr), spread / np.sqrt(float(sampled.sampler.ess)))
    sigmas.assert_within((got.value, error), exact)
    still = tjx.estimators.jarzynski(look(tjx.Process(SYSTEM, drive, Point(jnp.zeros(2)))))
    sigmas.assert_biased((still.value, still.stderr), exact)


@pytest.mark.parametrize("way", ["grad", "jacfwd of jit"])
def test_the_draws_do_not_follow_the_system(sampled, way):
    def moved(v):
        system = tjx.Overdamped(lambda x, lam: v * banana(x, lam))
        return Boltzmann(system, 0.5, dim=2, sampler=sampled.sampler).sample(KEY).sum()

    with pytest.raises(ValueError, match=r"differentiated through Boltzmann\.sample"):
        WAYS[way](moved)(jnp.array(1.0))


def test_gradient_by_the_drive(sampled):
    """A loop over the drive from stored draws differentiates."""
    ts = jnp.linspace(0.0, 1.0, 6)
    work = jax.jit(
        lambda stop: tjx.ensemble(
            tjx.Process(SYSTEM, ramp(2.0, stop, 1.0), sampled), ts, KEY, 20
        ).work.mean()
    )
    slope = jax.grad(work)(0.2)
    assert float(slope) == pytest.approx(
        float(work(0.2 + 1e-5) - work(0.2 - 1e-5)) / 2e-5, rel=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_chains_that_disagree(seed):
    """A barrier of 20 kT, which no chain crosses; one of 1 kT is no obstacle."""
    with pytest.raises(
        RuntimeError, match=r"8 chains have not converged.*R-hat is .* for x\[0\].*tempering"
    ):
        mcmc(tjx.Overdamped(two_wells), 20.0, jax.random.key(seed), dim=2)
    low = mcmc(tjx.Overdamped(two_wells), 1.0, jax.random.key(seed), dim=2)
    assert low.sampler.r_hat < 1.01
    assert low.sampler.ess > 800


def test_too_few_draws():
    with pytest.raises(
        RuntimeError, match=r"effective sample size .* \(at least 800\).*larger size="
    ):
        mcmc(SYSTEM, 2.0, KEY, dim=2, size=400)


def test_starts():
    """Of the user's own; all in one of two wells, the chains agree and nothing can tell, as is said."""
    left = jnp.array([[-1.0, 0.0]]) + 0.1 * jax.random.normal(KEY, (8, 2))
    one_well = mcmc(tjx.Overdamped(two_wells), 20.0, KEY, dim=2, start=left)
    assert (one_well.sampler.xs[:, 0] < 0).all()


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-7, 1e-15])
def test_starts_in_any_unit(unit):
    """As spread in units of the wells as in the unit one, to where phi is 10 above its minimum."""
    system = tjx.Overdamped(lambda x, lam: two_wells(x / lam, 20.0))
    at = lambda lam: _starts(Boltzmann(system, lam, dim=2, sampler=_unsampled), KEY, 8)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        starts, same = at(unit) / unit, at(1.0)
    np.testing.assert_allclose(starts, same, rtol=0.02)
    assert np.ptp(starts, axis=0).min() > 0.5


def test_single_precision():
    f32 = lambda v: jnp.asarray(v, jnp.float32)
    system = tjx.Overdamped(banana, temperature=f32(TEMPERATURE))
    density = mcmc(system, f32(2.0), KEY, dim=2)
    assert density.sample(KEY).dtype == jnp.float32
    x, _, p, _ = quadrature(2.0)
    spread = float(density.sampler.xs[:, 0].std())
    estimate = density.sampler.xs[:, 0].mean(), spread / np.sqrt(float(density.sampler.ess))
    sigmas.assert_within(estimate, (p * x).sum(), absolute=0.15)


WALLED = tjx.Overdamped(lambda x, lam: jnp.sum(x**4 - jnp.log(x)))
BAD = {
    "one chain": ({"chains": 1}, ValueError, r"mcmc\.chains.*at least 2; got 1"),
    "few draws": ({"size": 8}, ValueError, r"mcmc\.size.*at least 32; got 8"),
    "no warmup": ({"warmup": 0}, ValueError, r"mcmc\.warmup.*at least 20; got 0"),
    "one start": ({"start": jnp.zeros(2)}, ValueError, r"mcmc\.start.*\(8, 2\); got \(2,\)"),
    "start nan": ({"start": np.full((8, 2), np.nan)}, ValueError, r"mcmc\.start must be finite"),
    "size of x": ({"dim": 0}, ValueError, r"Boltzmann\.dim.*at least 1"),
    "old key": ({"key": np.zeros(2, np.uint32)}, TypeError, "key"),
    "potential": ({"system": banana}, TypeError, "system"),
    "flat": (
        {"system": tjx.Overdamped(lambda x, lam: jnp.sum(jnp.cos(x)))},
        ValueError,
        r"potential must be confining.*give mcmc\(\.\.\., start=\)",
    ),
    "wall": (
        {"system": WALLED, "start": -np.ones((8, 2))},
        ValueError,
        r"mcmc\.start must be where the potential is finite",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    change, error, words = BAD[name]
    given = {"system": SYSTEM, "lam": 0.5, "key": KEY, "dim": 2} | change
    with pytest.raises(error, match=words):
        mcmc(given.pop("system"), given.pop("lam"), given.pop("key"), **given)


def test_tracing_is_refused():
    mean = lambda lam: mcmc(SYSTEM, lam, KEY, dim=2).sampler.xs.mean()
    for call in (jax.jit(mean), jax.grad(mean), lambda lam: jax.vmap(mean)(lam[None])):
        with pytest.raises(ValueError, match=r"cannot be traced.*call it outside"):
            call(jnp.array(0.5))
    with pytest.raises(ValueError, match="cannot be traced"):
        jax.grad(
            lambda v: mcmc(
                tjx.Overdamped(lambda x, lam: v * banana(x, lam)), 2.0, KEY, dim=2
            ).sampler.xs.mean()
        )(1.0)


def test_without_blackjax(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "blackjax"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs blackjax: pip install 'thermojax\[mcmc\]'"):
        mcmc(tjx.Overdamped(MovingTrap(1.0)), 0.0, KEY, dim=2)
