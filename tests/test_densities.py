"""Densities: closed forms, quadrature against scipy, samplers against distribution functions, gradients of samples.

Each statistical assertion has a false-alarm rate of at most `RATE`, and its negative control fails at that rate.
"""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_readme
from jax.extend.core import Jaxpr
from scipy import integrate, stats

import thermojax as tjx
from thermojax import _factor
from thermojax.densities import AbstractDensity, Boltzmann, Gaussian, Mixture, Point, noised
from thermojax.potentials import Breathing, DoubleWell, Harmonic, MovingTrap, Quartic, Ring

RATE = 1e-6

MEAN = jnp.array([0.3, -1.0, 2.0])
COV = jnp.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 0.7]])
COVS = {"scalar": jnp.asarray(0.7), "diagonal": jnp.array([0.5, 2.0, 1.5]), "full": COV}


@eqx.filter_jit
def draw(density, size, seed=0):
    return jax.vmap(density.sample)(jax.random.split(jax.random.key(seed), size))


@eqx.filter_jit
def log_prob(density, xs):
    return jax.vmap(density.log_prob)(xs)


@eqx.filter_jit
def log_partition(density):
    return density.log_partition()


def full(cov):
    return np.asarray(cov) if cov.ndim == 2 else np.diag(np.broadcast_to(cov, 3))


# ---- Gaussian


@pytest.mark.smoke
@pytest.mark.parametrize("cov", COVS.values(), ids=COVS)
def test_gaussian_against_scipy(cov):
    """`(d,)` are variances, not standard deviations."""
    density = Gaussian(MEAN, cov)
    exact = stats.multivariate_normal(MEAN, full(cov))
    xs = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(log_prob(density, xs), exact.logpdf(xs), rtol=1e-12)
    np.testing.assert_allclose(density.entropy(), exact.entropy(), rtol=1e-12)
    np.testing.assert_allclose(density.cov, full(cov), rtol=1e-15)


def test_gaussian_shapes():
    assert Gaussian(0.0, 1.0).mean.shape == (1,)
    assert Gaussian(0.0, jnp.ones(3)).mean.shape == (3,)
    assert Gaussian(0.0, jnp.eye(2)).mean.shape == (2,)
    assert Gaussian(jnp.zeros(2), 2.0).cov.shape == (2, 2)
    np.testing.assert_allclose(
        Gaussian(1.0, 4.0).log_prob(jnp.array([2.0])), stats.norm(1, 2).logpdf(2), rtol=1e-14
    )


@pytest.mark.parametrize("cov", COVS.values(), ids=COVS)
def test_gaussian_samples(cov):
    """z² of the samples is chi-squared, and each coordinate normal."""
    xs = np.asarray(draw(Gaussian(MEAN, cov), 5000))
    z = np.linalg.solve(np.linalg.cholesky(full(cov)), (xs - np.asarray(MEAN)).T)
    assert stats.kstest((z**2).sum(0), stats.chi2(3).cdf).pvalue > RATE
    assert stats.kstest(xs[:, 1], stats.norm(-1, np.sqrt(full(cov)[1, 1])).cdf).pvalue > RATE
    assert stats.kstest((z**2).sum(0) * 1.25, stats.chi2(3).cdf).pvalue < RATE


def test_gaussian_samples_differentiate():
    """With the same key, dx/dm = 1 exactly, and d/dS agrees with differences."""
    second = jax.jit(lambda m, s: jnp.mean(draw(Gaussian(m, s), 50) ** 2, axis=0).sum())
    slope = jax.jit(jax.grad(second))(MEAN, COV)
    np.testing.assert_allclose(slope, 2 * draw(Gaussian(MEAN, COV), 50).mean(0), rtol=1e-12)
    way = jnp.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.5]])
    there = jax.jvp(lambda s: second(MEAN, s), (COV,), (way,))[1]
    h = 1e-5
    differences = (second(MEAN, COV + h * way) - second(MEAN, COV - h * way)) / (2 * h)
    np.testing.assert_allclose(there, differences, rtol=1e-8)


def test_gaussian_mean_gradient():
    """d<x²>/dv = 1 at any mean, estimated from the samples' own derivatives."""
    per_sample = jax.vmap(
        jax.grad(lambda v, k: Gaussian(0.4, v).sample(k)[0] ** 2), in_axes=(None, 0)
    )
    slopes = np.asarray(per_sample(1.7, jax.random.split(jax.random.key(1), 20000)))
    off = (slopes.mean() - 1) / (slopes.std() / np.sqrt(len(slopes)))
    assert abs(off) < stats.norm.isf(RATE / 2)
    biased = (slopes.mean() - 1.1) / (slopes.std() / np.sqrt(len(slopes)))
    assert abs(biased) > stats.norm.isf(RATE / 2)


def steps(fn, *args):
    """All steps of the program of fn, those of programs within it included."""

    def inside(program):
        for step in program.eqns:
            yield step
            for value in jax.tree.leaves(tuple(step.params.values())):
                inner = getattr(value, "jaxpr", value)  # closed or not
                if isinstance(inner, Jaxpr):
                    yield from inside(inner)

    return list(inside(jax.make_jaxpr(fn)(*args).jaxpr))


def largest(fn, *args):
    """The size of the largest array in the program of fn."""
    return max(var.aval.size for step in steps(fn, *args) for var in step.outvars)


@pytest.mark.smoke
def test_independent_coordinates_make_no_matrix():
    """Draws, densities and their gradients cost O(d), also with noise on top; a triangular root is seen as a matrix."""
    dim = 1000
    make = lambda v: noised(Gaussian(jnp.zeros(dim), v), jnp.asarray(0.5), jnp.asarray(0.1))

    def both(make, v):
        draw = lambda v: make(v).sample(jax.random.key(0))
        height = lambda v: make(v).log_prob(jnp.ones(dim)) + make(v).entropy()
        return jax.jvp(draw, (v,), (jnp.ones_like(v),)), jax.grad(height)(v)

    for v in (jnp.asarray(2.0), jnp.ones(dim)):
        assert largest(lambda v: both(make, v), v) <= 4 * dim
    dense = lambda v: Gaussian(jnp.zeros(dim), v * jnp.eye(dim))
    assert largest(lambda v: both(dense, v), jnp.asarray(2.0)) >= dim**2
    many = Gaussian(jnp.zeros(100_000), 4.0)
    assert float(many.sample(jax.random.key(1)).std()) == pytest.approx(2.0, rel=0.02)
    assert float(many.log_prob(many.mean)) == pytest.approx(-50_000 * np.log(8 * np.pi), rel=1e-6)


def test_both_kinds_of_roots_agree():
    """The same key gives the same draw and the same height, with noise on top, too."""
    v, key = jnp.array([0.5, 2.0, 1.5]), jax.random.key(0)
    narrow, wide = Gaussian(MEAN, v), Gaussian(MEAN, jnp.diag(v))
    assert (narrow.root.shape, wide.root.shape) == ((3,), (3, 3))
    for one, two in ((narrow, wide), [noised(g, 0.7, 0.2) for g in (narrow, wide)]):
        assert one.root.shape == (3,)
        np.testing.assert_allclose(one.sample(key), two.sample(key), rtol=1e-14)
        np.testing.assert_allclose(one.log_prob(MEAN + 1), two.log_prob(MEAN + 1), rtol=1e-14)
        np.testing.assert_allclose(one.cov, two.cov, rtol=1e-14)
        np.testing.assert_allclose(one.entropy(), two.entropy(), rtol=1e-14)


# ---- Boltzmann, closed form

K2 = jnp.array([[2.0, 0.5], [0.5, 1.0]])
QUADRATIC = {
    "harmonic": (tjx.Overdamped(Harmonic(2.0, 0.5), temperature=1.5), None, 1, 0.5, [[0.75]]),
    "trap": (tjx.Overdamped(MovingTrap(4.0)), 3.0, 1, 3.0, [[0.25]]),
    "breathing": (tjx.Overdamped(Breathing()), 4.0, 1, 0.0, [[0.25]]),
    "two traps": (
        tjx.Overdamped(MovingTrap(jnp.array([1.0, 4.0]))),
        jnp.array([1.0, 2.0]),
        2,
        [1.0, 2.0],
        np.diag([1.0, 0.25]),
    ),
    "lambda": (
        tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2) - x[0]),
        2.0,
        1,
        0.5,
        [[0.5]],
    ),
    "dot": (
        tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.dot(x, x)),
        2.0,
        3,
        np.zeros(3),
        np.eye(3) / 2,
    ),
    "matrix": (
        tjx.Overdamped(lambda x, lam: 0.5 * x @ (K2 @ x) - lam * x[1]),
        1.0,
        2,
        np.linalg.solve(K2, [0.0, 1.0]),
        np.linalg.inv(K2),
    ),
    "cold": (
        tjx.Overdamped(Harmonic(1.0), temperature=lambda lam: lam["T"]),
        {"T": 0.2},
        1,
        0.0,
        [[0.2]],
    ),
    "divided": (
        tjx.Overdamped(lambda x, lam: jnp.sum((x - 1) * (x - 1)) / 4),
        None,
        1,
        1.0,
        [[2.0]],
    ),
}


@pytest.mark.parametrize(("system", "lam", "dim", "mean", "cov"), QUADRATIC.values(), ids=QUADRATIC)
def test_quadratic_is_recognised(system, lam, dim, mean, cov):
    density = Boltzmann(system, lam, dim=dim)
    assert density.quadratic
    exact = stats.multivariate_normal(np.broadcast_to(mean, (dim,)), cov)
    xs = np.random.default_rng(1).normal(size=(10, dim))
    np.testing.assert_allclose(log_prob(density, xs), exact.logpdf(xs), rtol=1e-11)
    twin = Gaussian(*density.normal())
    np.testing.assert_allclose(twin.mean, exact.mean, atol=1e-14)
    np.testing.assert_allclose(twin.cov, cov, rtol=1e-13, atol=1e-14)
    key = jax.random.key(3)
    np.testing.assert_allclose(
        eqx.filter_jit(density.sample)(key), eqx.filter_jit(twin.sample)(key), rtol=1e-13
    )
    height = -density.reduced_energy(jnp.asarray(xs[0])) - exact.logpdf(xs[0])
    np.testing.assert_allclose(log_partition(density), height, rtol=1e-11)


def test_recognition_is_decided_while_tracing():
    """In a compiled function, and by structure: at lam = 0 a quartic is still a quartic."""
    soft = tjx.Overdamped(Breathing())
    free_energy = lambda k: -Boltzmann(soft, k).log_partition()
    value, slope = jax.jit(jax.value_and_grad(free_energy))(4.0)
    assert float(value) == pytest.approx(-0.5 * np.log(np.pi / 2), rel=1e-12)
    assert float(slope) == pytest.approx(1 / 8, rel=1e-12)
    assert not Boltzmann(tjx.Overdamped(Quartic(0.0)), 1.0).quadratic
    np.testing.assert_allclose(
        log_partition(Boltzmann(tjx.Overdamped(Quartic(0.0)), 4.0)), 0.5 * np.log(np.pi / 2)
    )


def stiff(k, lam):
    """A trap of stiffness k at lam, its parameters leaves."""
    return Boltzmann(tjx.Overdamped(MovingTrap(jnp.asarray(k))), jnp.asarray(lam))


@pytest.mark.parametrize("kind", ["closed form", "quadrature"])
def test_numbers_may_be_replaced_after_the_decision(kind):
    """A density made outside is differentiated, batched and refitted: no number in it goes stale, and it is decided once."""
    well = lambda k, lam: Boltzmann(tjx.Overdamped(DoubleWell(jnp.asarray(k))), jnp.asarray(lam))
    make = stiff if kind == "closed form" else well
    made, key, x = make(2.0, 0.3), jax.random.key(3), jnp.array([0.4])
    look = lambda d: jnp.stack([d.sample(key)[0], d.log_prob(x), d.log_partition()])
    parameters = lambda d: (jax.tree.leaves(d.system.potential)[0], d.lam)

    @jax.jit
    def replaced(k, lam):
        return look(eqx.tree_at(parameters, made, (k, lam)))

    fresh = jax.jit(lambda k, lam: look(make(k, lam)))
    new = jnp.asarray(1.5), jnp.asarray(-0.2)
    np.testing.assert_allclose(replaced(*new), fresh(*new), rtol=1e-12)
    slopes = jax.jacfwd(replaced, (0, 1))(*new), jax.jacfwd(fresh, (0, 1))(*new)
    np.testing.assert_allclose(*slopes, rtol=1e-10, atol=1e-12)
    whole = eqx.filter_jit(eqx.filter_grad(lambda d: look(d).sum()))(make(*new))
    np.testing.assert_allclose(parameters(whole), [g.sum() for g in slopes[1]], rtol=1e-10)
    ks, lams = jnp.array([1.5, 2.5]), jnp.array([-0.2, 0.1])
    batch = eqx.filter_vmap(make)(ks, lams)
    assert batch.quadratic == made.quadratic == (kind == "closed form")
    each = eqx.filter_jit(eqx.filter_vmap(look))(batch)
    np.testing.assert_allclose(each, [fresh(*at) for at in zip(ks, lams, strict=True)], rtol=1e-12)


CALLED = []


def counted(x, lam):
    CALLED.append(1)
    return jnp.sum(x**4) + lam * jnp.sum(x**2)


def counted_trap(x, lam):
    CALLED.append(1)
    return 0.5 * lam * jnp.sum(x**2)


def of(potential, **options):
    return lambda: Boltzmann(tjx.Overdamped(potential), jnp.asarray(1.0), **options)


COMPILED_ONCE = {
    "independent": lambda: Gaussian(jnp.zeros(3), 2.0),
    "triangular": lambda: Gaussian(MEAN, COV),
    "quadratic": of(counted_trap, dim=2),
    "quadrature": of(counted),
    "bounds": of(counted, bounds=(-3.0, 3.0)),
    "sampler": of(counted, dim=2, log_z=0.0, sampler=Gaussian(jnp.zeros(2), 1.0).sample),
    "mixture": lambda: Mixture([1.0, 2.0], [Gaussian(0.0, 1.0), Gaussian(1.0, 2.0)]),
    "mixture of kinds": lambda: Mixture([1.0, 2.0], [Gaussian(0.0, 1.0), of(counted)()]),
    "noised": lambda: noised(Gaussian(MEAN, COV), 0.5, 0.1),
}


@pytest.mark.parametrize("make", COMPILED_ONCE.values(), ids=COMPILED_ONCE)
def test_a_second_call_compiles_and_traces_nothing(make, caplog):
    """Nor does it call the user's potential; a draw of other numbers and a batch of draws are second calls, too."""
    keys = jax.random.split(jax.random.key(0), 3)

    def calls(density, key):
        x = density.sample(key)
        return x, density.log_prob(x), jax.vmap(density.sample)(keys)

    density = make()
    calls(density, keys[0])
    moved = jax.tree.map(lambda v: v * 1.125 if eqx.is_inexact_array(v) else v, density)
    CALLED.clear()
    with jax.log_compiles():
        calls(density, keys[1])
        calls(moved, keys[1])
        assert not [record.message for record in caplog.records if "ompil" in record.message]
        assert not CALLED
        jax.jit(lambda x: 2 * x)(1.0)
    assert [record.message for record in caplog.records if "ompil" in record.message]


# ---- Boltzmann, quadrature in one dimension

TABLES = {
    "quartic": (tjx.Overdamped(Quartic(0.5)), 1.0),
    "two wells": (tjx.Overdamped(DoubleWell(4.0)), 0.0),
    "tilted": (tjx.Overdamped(DoubleWell(3.0, 1.5), temperature=0.7), 1.2),
    "far and narrow": (tjx.Overdamped(lambda x, lam: jnp.sum(50 * (x - 30.0) ** 4)), 0.0),
    "steep wall": (tjx.Overdamped(lambda x, lam: jnp.sum(jnp.exp(x) - lam * x)), 2.0),
}


def reduced(density):
    return jax.jit(lambda x: density.reduced_energy(jnp.reshape(x, (1,))))


def by_scipy(density, weigh=lambda x: 1.0):
    """The integral of weigh e^-phi over the interval that matters."""
    phi = reduced(density)
    grid = np.linspace(-60, 60, 24001)
    inside = grid[np.asarray(jax.vmap(phi)(grid)) < 60]
    ends = inside[0] - 0.01, inside[-1] + 0.01
    edges = np.linspace(*ends, 9)
    parts = [
        integrate.quad(lambda x: weigh(x) * np.exp(-float(phi(x))), a, b, epsabs=0, epsrel=1e-12)[0]
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return sum(parts)


@pytest.mark.parametrize(("system", "lam"), TABLES.values(), ids=TABLES)
def test_quadrature_against_scipy(system, lam):
    density = Boltzmann(system, lam)
    assert not density.quadratic
    log_z = np.log(by_scipy(density))
    np.testing.assert_allclose(log_partition(density), log_z, rtol=1e-8, atol=1e-8)
    x = jnp.array([0.4])
    np.testing.assert_allclose(
        log_prob(density, x[None])[0], -density.reduced_energy(x) - log_z, rtol=1e-8, atol=1e-8
    )


def test_gradient_of_the_free_energy():
    r"""$\partial \ln Z / \partial g = -\langle x^4/4 \rangle$."""
    density = Boltzmann(tjx.Overdamped(Quartic(0.5)), 1.0)
    log_z = lambda g: Boltzmann(tjx.Overdamped(Quartic(g)), 1.0).log_partition()
    exact = -by_scipy(density, lambda x: x**4 / 4) / by_scipy(density)
    np.testing.assert_allclose(jax.jit(jax.grad(log_z))(0.5), exact, rtol=1e-8)


def test_bounds():
    """A ring has an equilibrium on one turn; a trap may be cut off."""
    turn = Boltzmann(tjx.Overdamped(Ring(0.8)), bounds=(0.0, 2 * np.pi))
    exact = np.log(2 * np.pi * np.i0(0.8))
    np.testing.assert_allclose(log_partition(turn), exact, rtol=1e-12)
    xs = np.asarray(draw(turn, 200))
    assert ((xs >= 0) & (xs <= 2 * np.pi)).all()
    cut = Boltzmann(tjx.Overdamped(Quartic(1.0)), 0.0, bounds=(0.0, 3.0), nodes=16001)
    half = log_partition(Boltzmann(tjx.Overdamped(Quartic(1.0)), 0.0)) - np.log(2)
    np.testing.assert_allclose(log_partition(cut), half, atol=1e-7)


def test_bounds_are_numbers():
    r"""They differentiate: $\partial_b \ln Z = p(b)$, and a draw moves as its share of the whole keeps."""
    upper, key = jnp.asarray(1.2), jax.random.key(4)
    made = lambda b: Boltzmann(tjx.Overdamped(Quartic(1.0)), 0.5, bounds=(-2.0, b))
    slope = jax.jit(jax.grad(lambda b: made(b).log_partition()))(upper)
    np.testing.assert_allclose(slope, jnp.exp(made(upper).log_prob(upper[None])), rtol=1e-5)
    draw = jax.jit(lambda b: made(b).sample(key)[0])
    differences = (draw(upper + 1e-5) - draw(upper - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(draw))(upper), differences, rtol=1e-4)
    assert differences > 1e-3


def cdf(density):
    """The distribution function by cumulative quadrature on a grid of its own."""
    grid = np.linspace(-6, 6, 40001)
    weight = np.exp(-np.asarray(jax.vmap(reduced(density))(grid)))
    total = integrate.cumulative_trapezoid(weight, grid, initial=0)
    return lambda x: np.interp(x, grid, total / total[-1])


@pytest.mark.parametrize("name", ["quartic", "two wells", "tilted"])
def test_sampler(name):
    density = Boltzmann(*TABLES[name])
    xs = np.asarray(draw(density, 5000))[:, 0]
    assert stats.kstest(xs, cdf(density)).pvalue > RATE


def test_a_biased_sampler_is_seen():
    """Negative control: wells lower by a third."""
    xs = np.asarray(draw(Boltzmann(tjx.Overdamped(DoubleWell(2.7)), 0.0), 5000))[:, 0]
    assert stats.kstest(xs, cdf(Boltzmann(*TABLES["two wells"]))).pvalue < RATE


def test_samples_of_a_table_differentiate():
    """With respect to barrier, tilt and temperature, with the same key: finite, and equal to differences."""

    @jax.jit
    def xs(theta):
        system = tjx.Overdamped(DoubleWell(theta[0]), temperature=theta[2])
        return draw(Boltzmann(system, theta[1], bounds=(-4.0, 4.0)), 20)[:, 0]

    theta, h = jnp.array([1.5, 0.3, 0.8]), 1e-6
    slopes = jax.jit(jax.jacfwd(xs))(theta)
    for way, slope in zip(jnp.eye(3), slopes.T, strict=True):
        assert np.isfinite(slope).all()
        assert (np.abs(slope) > 1e-6).any()
        differences = (xs(theta + h * way) - xs(theta - h * way)) / (2 * h)
        np.testing.assert_allclose(slope, differences, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "rms", "worst"), [("float64", 2e-6, 1e-4), ("float32", 5e-4, 0.1)]
)
def test_a_draw_of_a_table_follows_its_parameter(dtype, rms, worst):
    r"""$dx/dg = -\partial_g F(x) / p(x)$ at fixed F, with F and p by Simpson's rule on a finer grid.

    The straight pieces of the table alone would be off by 4e-4 (rms, double precision). Single precision holds few digits
    of F near 1: the worst of 20 000 draws is off by 4e-2, all others by less than 1e-4.
    """
    draw_at = lambda g, key: Boltzmann(tjx.Overdamped(Quartic(g)), g / g).sample(key)[0]
    keys = jax.random.split(jax.random.key(5), 20000)
    both = lambda g, key: jax.jvp(lambda g: draw_at(g, key), (g,), (jnp.ones_like(g),))
    xs, slopes = jax.jit(jax.vmap(both, (None, 0)))(jnp.asarray(0.5, dtype), keys)
    assert slopes.dtype == dtype
    grid = np.linspace(-6, 6, 40001)
    weight = np.exp(-0.5 * grid**2 - 0.125 * grid**4)
    p = weight / integrate.simpson(weight, x=grid)
    change = -0.25 * grid**4 * p  # p ∂ ln p / ∂g, up to normalisation
    change -= p * integrate.simpson(change, x=grid)
    exact = -np.interp(xs, grid, integrate.cumulative_simpson(change, x=grid, initial=0))
    exact /= np.interp(xs, grid, p)
    off = np.abs(np.asarray(slopes, float) - exact)
    assert np.abs(exact).max() > 0.5
    assert np.sqrt(np.mean(off**2)) < rms
    assert off.max() < worst


def test_mean_gradient_of_a_table():
    r"""$\partial\langle x\rangle/\partial\lambda = \mathrm{var}(x)/T$ for a tilt, from the samples' derivatives."""
    mean_x = lambda lam: jnp.mean(draw(Boltzmann(tjx.Overdamped(DoubleWell(1.0)), lam), 4000))
    density = Boltzmann(tjx.Overdamped(DoubleWell(1.0)), 0.0)
    variance = by_scipy(density, lambda x: x**2) / by_scipy(density)
    # the spread of the samples' own derivatives is below 2 (seen: 0.9), so the standard error is below 0.032
    assert abs(float(jax.jit(jax.grad(mean_x))(0.0)) - variance) < stats.norm.isf(
        RATE / 2
    ) * 2 / np.sqrt(4000)


def test_user_normalised():
    """Two dimensions, not quadratic: ln Z and a sampler are the user's."""
    one = Boltzmann(tjx.Overdamped(Quartic(1.0)), 1.0)
    both = Boltzmann(
        tjx.Overdamped(Quartic(1.0)),
        1.0,
        dim=2,
        log_z=2 * one.log_partition(),
        sampler=lambda key: jnp.concatenate([one.sample(k) for k in jax.random.split(key)]),
    )
    x = jnp.array([0.3, -1.0])
    np.testing.assert_allclose(
        both.log_prob(x), one.log_prob(x[:1]) + one.log_prob(x[1:]), rtol=1e-13
    )
    assert both.sample(jax.random.key(0)).shape == (2,)
    assert not both.quadratic


# ---- Point, and densities of other people


def test_point():
    at = Point(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(at.sample(jax.random.key(0)), [1.0, 2.0])
    np.testing.assert_array_equal(
        jax.jacobian(lambda x: Point(x).sample(jax.random.key(0)))(at.x0), np.eye(2)
    )
    assert not at.normal().cov.any()
    assert Point(3).x0.shape == (1,)
    assert jnp.issubdtype(Point(3).x0.dtype, jnp.floating)


def test_the_method_gaussian_that_was():
    from thermojax.densities import _old

    trap = Boltzmann(tjx.Overdamped(MovingTrap(4.0)), 3.0)
    np.testing.assert_allclose(
        _old.gaussian(trap).sample(jax.random.key(0)), trap.sample(jax.random.key(0))
    )
    assert _old.gaussian(Point(1.0)).sample(jax.random.key(0)) == 1.0
    with pytest.raises(ValueError, match="Boltzmann is no Gaussian.*not quadratic"):
        _old.gaussian(Boltzmann(*TABLES["quartic"]))


class Laplace:
    """A user's own, of nothing but two methods."""

    def sample(self, key):
        return jax.random.laplace(key, (1,))

    def log_prob(self, x):
        return -jnp.sum(jnp.abs(x)) - jnp.log(2.0)


class LikeNumpyro:
    """The signatures of a numpyro distribution with one event dimension."""

    batch_shape, event_shape = (), (1,)

    def __init__(self, scale):
        self.scale = scale

    def sample(self, key, sample_shape=()):
        return self.scale * jax.random.normal(key, sample_shape + self.event_shape)

    def log_prob(self, value, intermediates=None):
        return jnp.sum(jax.scipy.stats.norm.logpdf(value, 0.0, self.scale), axis=-1)


class OfEquinox(eqx.Module):
    scale: jax.Array

    def sample(self, key):
        return self.scale * jax.random.normal(key, (1,))

    def log_prob(self, x):
        return jnp.sum(jax.scipy.stats.norm.logpdf(x, 0.0, self.scale))


@pytest.mark.parametrize(
    "density", [Laplace(), LikeNumpyro(1.5), OfEquinox(jnp.asarray(1.5))], ids=lambda d: type(d).__name__
)  # fmt: skip
def test_duck_typed(density):
    """Anything with the two methods starts a process, and ends the reversed one."""
    drive = tjx.protocols.ramp(0.0, 1.0, 1.0)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), drive, density, Gaussian(1.0, 1.0))
    ts = jnp.linspace(0.0, 1.0, 6)
    there = tjx.simulate(process, ts, jax.random.key(0))
    start, stop = there.path.xs[0], there.path.xs[-1]
    system = density.log_prob(start) - process.final.log_prob(stop)
    np.testing.assert_allclose(there.entropy.system, system, rtol=1e-12)
    mirrored = tjx.Path(tjx.reverse_grid(process, ts), there.path.xs[::-1])
    back = tjx.account(tjx.reverse(process), mirrored)
    np.testing.assert_allclose(back.entropy.total, -there.entropy.total, rtol=1e-10, atol=1e-12)


def test_the_example_of_a_density_of_ones_own():
    """It runs, and starts a process."""
    (_, source), *others = run_readme.blocks(inspect.getdoc(AbstractDensity))
    assert not others
    own = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(source, own)
    laplace = own["Laplace"](jnp.asarray(2.0))
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), lambda t: t, laplace, laplace)
    assert np.isfinite(tjx.simulate(process, jnp.linspace(0.0, 1.0, 6), jax.random.key(0)).work)
    assert tjx.densities.normal(laplace) is None
    assert noised(laplace, 0.5, 0.1).sample(jax.random.key(0)).shape == (1,)


def test_gradient_reaches_a_users_parameter():
    ts = jnp.linspace(0.0, 1.0, 6)

    @jax.jit
    def work(scale):
        drive = tjx.protocols.ramp(0.0, 1.0, 1.0)
        process = tjx.Process(tjx.Overdamped(Quartic(0.2)), drive, OfEquinox(scale))
        return tjx.simulate(process, ts, jax.random.key(2)).work

    scale, h = jnp.asarray(1.5), 1e-5
    np.testing.assert_allclose(
        jax.grad(work)(scale), (work(scale + h) - work(scale - h)) / (2 * h), rtol=1e-7
    )


def test_single_precision():
    f32 = jnp.float32
    gauss = Gaussian(jnp.zeros(2, f32), jnp.eye(2, dtype=f32))
    well = Boltzmann(tjx.Overdamped(DoubleWell(jnp.asarray(2.0, f32))), jnp.asarray(0.1, f32))
    trap = Boltzmann(tjx.Overdamped(MovingTrap(jnp.asarray(2.0, f32))), jnp.asarray(0.1, f32))
    for density in (gauss, well, trap):
        x = draw(density, 2)
        assert x.dtype == f32
        assert log_prob(density, x).dtype == f32
    wide = Boltzmann(tjx.Overdamped(DoubleWell(2.0)), 0.1)
    np.testing.assert_allclose(log_partition(well), log_partition(wide), rtol=1e-5)


@pytest.mark.parametrize("dim", [1, 3, 4, 9])
def test_factor(dim):
    """L L^T = cov, L^-1 L = 1, ln det, and the gradient of each against numpy and LAPACK's; 4 is written out, 9 is not."""
    half = np.random.default_rng(dim).normal(size=(dim, dim))
    cov = jnp.asarray(half @ half.T + 0.1 * np.eye(dim))
    root = _factor.root(cov)
    np.testing.assert_allclose(root, np.linalg.cholesky(cov), rtol=1e-11, atol=1e-12)
    assert not np.triu(root, 1).any()
    np.testing.assert_allclose(_factor.inverse(root) @ root, np.eye(dim), atol=1e-11)
    np.testing.assert_allclose(_factor.log_det(root), np.linalg.slogdet(cov)[1], rtol=1e-11)
    weights = jnp.asarray(np.random.default_rng(dim + 1).normal(size=(dim, dim)))

    def gradient(factor):
        return jax.grad(lambda cov: jnp.sum(jnp.sin(weights * factor(cov))))(cov)

    ours, theirs = gradient(_factor.root), gradient(jnp.linalg.cholesky)
    np.testing.assert_allclose(ours, (theirs + theirs.T) / 2, rtol=1e-9, atol=1e-10)
    assert jnp.isnan(_factor.root(cov - 50 * jnp.eye(dim))).any()


def test_a_batch_of_gaussians_calls_no_lapack():
    """Batched calls of LAPACK wait for the threads they run on, and on two cores three of them hang."""
    parts = [Gaussian(jnp.full(2, i), jnp.eye(2) + 0.1 * i) for i in range(3)]
    data = Mixture(jnp.ones(3), parts)

    def score(x, v):
        return jax.grad(noised(data, jnp.sqrt(1 - v), v).log_prob)(x)

    def equilibrium(stiffness, key):
        system = tjx.Overdamped(Harmonic(stiffness))
        density = Gaussian(*Boltzmann(system, dim=2).normal())
        return density.sample(key), density.entropy()

    def compiled(fn, *args):
        return jax.jit(fn).lower(*args).compile().as_text()

    x, v = jnp.zeros((100, 2)), jnp.linspace(0.1, 0.9, 5)
    both = jax.vmap(jax.vmap(score, (0, None)), (None, 0))
    keys = jax.random.split(jax.random.key(0), 5)
    assert 'custom_call_target="lapack' not in compiled(both, x, v)
    assert 'custom_call_target="lapack' not in compiled(jax.vmap(equilibrium), v, keys)
    if jax.default_backend() == "cpu":
        assert 'custom_call_target="lapack' in compiled(
            jax.vmap(jnp.linalg.cholesky), jnp.ones((5, 2, 2))
        )


@pytest.mark.parametrize("power", [0, 2])
def test_gradients_next_to_a_wall(power):
    """The first node has infinite energy: no weight, and no derivative, which would be zero times infinity."""

    def made(k):
        wall = lambda x: k / x**2 if power else -k * jnp.log(x)
        system = tjx.Overdamped(lambda x, lam: jnp.sum(0.5 * x**2 + wall(x)))
        return Boltzmann(system, 1.0, bounds=(0.0, 10.0))

    for fn in (
        lambda k: made(k).log_prob(jnp.array([0.7])),
        draw := lambda k: made(k).sample(jax.random.key(5))[0],
    ):
        want = (fn(1.3 + 1e-5) - fn(1.3 - 1e-5)) / 2e-5
        np.testing.assert_allclose(
            jax.jit(jax.grad(fn))(1.3), want, rtol=1e-3 if fn is draw else 1e-7
        )


WALLED = {  # potential, walls, ln Z
    "half a trap": (lambda x, lam: 0.5 * jnp.sum(x**2), (0.0, 10.0), 0.5 * np.log(np.pi / 2)),
    "sedimentation": (lambda x, lam: 2 * x[0], (0.0, 3.0), np.log((1 - np.exp(-6.0)) / 2)),
    "a box": (lambda x, lam: 0 * jnp.sum(x), (-1.0, 4.0), np.log(5.0)),
    "an upturned trap": (lambda x, lam: -0.5 * jnp.sum(x**2), (-1.0, 1.0), np.log(2.389915)),
    "a logarithm": (lambda x, lam: -jnp.sum(jnp.log(x)), (0.0, 2.0), np.log(2.0)),
}


@pytest.mark.parametrize("name", WALLED)
def test_walls(name):
    """They hold for every potential: its normalisation, its draws, and nothing beyond them; also where U is not defined."""
    potential, (lower, upper), log_z = WALLED[name]
    density = Boltzmann(tjx.Overdamped(potential), bounds=(lower, upper))
    np.testing.assert_allclose(density.log_partition(), log_z, atol=3e-6)
    xs = draw(density, 500)
    assert (xs >= lower).all()
    assert (xs <= upper).all()
    inner = jnp.array([0.5 * (lower + upper) + 0.1])
    np.testing.assert_allclose(density.log_prob(inner), -potential(inner, None) - log_z, atol=3e-6)
    for x in (lower - 1e-6, upper + 1e-6, -100.0, 100.0):
        assert density.log_prob(jnp.array([x])) == -np.inf
        assert jax.grad(density.log_prob)(jnp.array([x])) == 0
    assert np.isnan(density.log_prob(jnp.array([np.nan])))
    assert density.normal() is None


def test_walls_are_of_one_coordinate():
    with pytest.raises(ValueError, match="walls of one coordinate, and dim=2"):
        Boltzmann(tjx.Overdamped(lambda x, lam: jnp.sum(x**2)), dim=2, bounds=(0.0, 1.0))


def test_a_table_of_energies():
    """Of a double well: energies and forces between the points, walls or the end of the world beyond; derivatives."""
    well, x = tjx.potentials.DoubleWell(5.0), np.linspace(-1.8, 1.8, 61)
    U = 5 * (x**2 - 1) ** 2
    at = jnp.array([0.37])
    for outside, beyond in (("infinite", np.inf), ("linear", 250.0)):
        table = tjx.potentials.Tabulated(x, U, outside)
        np.testing.assert_allclose(table(at), well(at, 0.0), atol=1e-4)
        np.testing.assert_allclose(jax.grad(table)(at), jax.grad(well)(at, 0.0), atol=5e-3)
        assert table(jnp.array([5.0])) >= beyond
        mine = Boltzmann(tjx.Overdamped(table), bounds=(-1.8, 1.8)).log_partition()
        exact = Boltzmann(tjx.Overdamped(well), 0.0, bounds=(-1.8, 1.8)).log_partition()
        np.testing.assert_allclose(mine, exact, atol=1e-4)
    higher = jax.jit(jax.grad(lambda u: tjx.potentials.Tabulated(x, u)(at)))(jnp.asarray(U))
    np.testing.assert_allclose(jnp.sum(higher), 1.0, rtol=1e-10)  # all energies by one
    lost = tjx.Process(
        tjx.Overdamped(tjx.potentials.Tabulated(x, U)), lambda t: 0 * t, Gaussian(1.7, 1e-4)
    )
    hot = lost.replace(system=tjx.Overdamped(tjx.potentials.Tabulated(x, U), temperature=50.0))
    assert not tjx.simulate(hot, jnp.linspace(0.0, 1.0, 21), jax.random.key(0)).path.ok
    for bad, words in (
        (lambda: tjx.potentials.Tabulated(x[::-1], U), "rise strictly"),
        (lambda: tjx.potentials.Tabulated(x, U[1:]), "one shape"),
        (
            lambda: tjx.potentials.Tabulated(x, np.where(x > 1, np.inf, U)),
            "Tabulated.U must be finite",
        ),
        (lambda: tjx.potentials.Tabulated(x, -U, "linear"), "does not confine"),
    ):
        with pytest.raises(ValueError, match=words):
            bad()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_covariance_in_any_units(scale):
    """What is symmetric and positive is told by its shape, also where the coordinates have unequal units."""
    cov = jnp.array([[1.0, 0.5], [0.5, 1.0]]) * jnp.outer(*[jnp.array([scale, 1.0])] * 2)
    assert jnp.isfinite(Gaussian(jnp.zeros(2), cov).root).all()
    for wrong in (cov.at[0, 1].multiply(-1), cov.at[0, 0].multiply(0.2)):
        with pytest.raises(ValueError, match="symmetric and positive definite"):
            Gaussian(jnp.zeros(2), wrong)


def test_a_quadratic_potential_stays_one_with_its_log_z():
    trap = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(x**2))
    for dim in (1, 2):
        found = Boltzmann(trap, 0.0, dim=dim, log_z=dim * 0.5 * float(np.log(2 * np.pi)))
        same = Boltzmann(trap, 0.0, dim=dim)
        x = jnp.full(dim, 0.3)
        np.testing.assert_allclose(found.log_prob(x), same.log_prob(x), rtol=1e-12)
        np.testing.assert_allclose(found.sample(jax.random.key(0)), same.sample(jax.random.key(0)))
        assert found.normal() is not None
