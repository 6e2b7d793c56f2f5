"""Far from the origin, numbers that depend on differences alone keep the digits that their precision leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax.densities import Empirical, Gaussian, Uniform
from thermojax.potentials import MovingTrap, Tabulated
from thermojax.protocols import ramp
from thermojax.systems import Grid

TRAP = tjx.Overdamped(MovingTrap(1.0))
TS = jnp.linspace(0.0, 1.0, 11)
FAR = 2.0**33 if jax.config.jax_enable_x64 else 2.0**16  # rounded to 2e-6, and to 8e-3


def dragged(c):
    return tjx.Process(TRAP, ramp(c, c + 1, 1.0), Gaussian(c, 1.0), Gaussian(c + 1, 1.0))


def test_moments():
    r"""A trap dragged from c to c + 1: $W = e^{-1}$, for any c, and so are all other totals."""
    near, far = (tjx.evolve.moments(dragged(c), TS) for c in (0.0, FAR))
    assert_allclose(far.work[-1], jnp.exp(-1.0), rtol=1e-2)
    for a, b in ((near.work, far.work), (near.heat, far.heat), (near.cov, far.cov)):
        assert_allclose(b, a, atol=4e-3)
    assert_allclose(far.entropy.total[-1], near.entropy.total[-1], atol=4e-3)
    assert_allclose(far.mean - FAR, near.mean, atol=2 * jnp.spacing(FAR))


@pytest.fixture
def single():
    with jax.enable_x64(False):
        yield


@pytest.mark.usefixtures("single")
def test_too_far():
    trap = tjx.Overdamped(MovingTrap(1.0))
    far = tjx.Process(trap, ramp(4e6, 4e6 + 1, 1.0), Gaussian(4e6, 4.0))
    with pytest.raises(RuntimeError, match="Positions near 4e[+]06 are 0.2 apart in float32"):
        tjx.evolve.moments(far, jnp.linspace(0.0, 1.0, 11))


NARROW = 1e6 + 0.01 * np.random.default_rng(0).normal(size=(100, 1))


@pytest.mark.usefixtures("single")
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Gaussian(1e8, 1.0), "Gaussian.mean"),
        (lambda: Gaussian(np.array([0.0, 1e8]), np.array([1e-9, 1.0])), "Gaussian.mean"),
        (lambda: Uniform(1e6, 1e6 + 0.1), "Uniform.upper"),
        (lambda: Empirical(NARROW), "Empirical.xs"),
        (lambda: tjx.bounds.wasserstein(NARROW, jnp.asarray(NARROW)), "p"),
        (lambda: Tabulated(1e4 + 1e-3 * np.arange(20), np.arange(20.0) ** 2), "Tabulated.x"),
        (lambda: Grid(1e6, 1e6 + 1, 100), "Grid"),
    ],
)
def test_widths_that_are_lost(make, name):
    """Given in double precision, and as good as nothing in single."""
    with pytest.raises(
        ValueError, match=f"{name}: widths of .* are lost in float32.*nearer origin"
    ):
        make()


@pytest.mark.usefixtures("single")
def test_a_table_of_energies_far_from_zero():
    """Near 1e5 the steps of .03 kT were cut to multiples of .008: a force of .987 for 1.03."""
    x = np.linspace(-2.0, 2.0, 81)
    U = 0.5 * x**2 + 0.1 * x
    with pytest.raises(
        ValueError, match="Tabulated.U: energies near 1e[+]05 lose.*in float32.*U.min"
    ):
        Tabulated(x, 1e5 + U)
    for shift in (0.0, 100.0):
        force = jax.grad(Tabulated(x, shift + U))(jnp.array([0.93]))
        np.testing.assert_allclose(force, 1.03, atol=1e-3)


def test_a_covariance_that_rounding_makes_singular():
    even, dtype = np.array([[1, 1 - 1e-9], [1 - 1e-9, 1]]), np.float32
    with pytest.raises(ValueError, match="positive definite, in float32"):
        Gaussian(jnp.zeros(2, dtype), jnp.asarray(even, dtype))


def test_near_enough():
    for density in (Gaussian(1e5, 1.0), Uniform(-1e5, 1e5), Empirical(np.zeros((5, 1)))):
        assert np.isfinite(density.sample(jax.random.key(0))).all()
