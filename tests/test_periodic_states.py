"""Periodic states in any unit of length and energy, and which drives close."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax import evolve
from thermojax.densities import Gaussian, Uniform
from thermojax.potentials import DoubleWell
from thermojax.protocols import Piecewise, ramp


def breathing(length, energy, period, start=1.0):
    """A trap of this width at this temperature that relaxes in unit time, three times as stiff in between."""
    stiffness = energy / length**2
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * stiffness * lam * jnp.sum(x**2),
        mobility=1 / stiffness,
        temperature=energy,
    )
    knots = period * jnp.linspace(0.0, 1.0, 5)
    drive = Piecewise(knots, jnp.array([1.0, 2.0, 3.0, 2.0, 1.0]))
    return tjx.Process(system, drive, Gaussian(0.0, start * length**2))


@pytest.mark.parametrize("length", [1.0, 1e-8, 1e8])
def test_a_periodic_state_does_not_depend_on_the_unit_of_length(length):
    """In SI the covariance was lost beside that of the unit vectors, 1 m²."""
    energy = 4.11e-21
    found = evolve.periodic(breathing(length, energy, 1.5), 1.5 * jnp.linspace(0.0, 1.0, 5))
    assert_allclose(found.work[-1] / energy, 0.138317490627643, rtol=1e-8)
    assert_allclose(found.heat[-1] / energy, 0.138317490627643, rtol=1e-8)
    assert_allclose(found.cov[0, 0, 0] / length**2, 0.616199296106106, rtol=1e-9)


def test_a_distant_start_finds_the_same_mean():
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    drive = Piecewise(jnp.linspace(0.0, 1.5, 5), jnp.array([0.0, 2.0, 3.0, 2.0, 0.0]))
    near, far = (
        evolve.periodic(tjx.Process(system, drive, Gaussian(at, 1.0)), drive.ts).mean[0]
        for at in (0.0, 1e6)
    )
    assert_allclose(far, near, rtol=1e-8)


def test_on_a_grid_the_search_may_start_anywhere():
    """Also where the grid does not hold the density, which is judged of what is found alone."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    drive = tjx.protocols.Function(lambda t: 0.8 * jnp.sin(2 * jnp.pi * t), 1.0)
    grid, ts = evolve.Grid(-6.0, 6.0, 60), jnp.linspace(0.0, 1.0, 21)
    near, *others = (
        evolve.periodic(tjx.Process(system, drive, start), ts, grid).work[-1]
        for start in (Gaussian(0.0, 1.0), Gaussian(3.0, 2.0), Uniform(50.0, 51.0))
    )
    assert_allclose(others, near, rtol=1e-10)
    with pytest.raises(ValueError, match="at an end of the grid"):
        evolve.periodic(
            tjx.Process(system, drive, Gaussian(0.0, 1.0)), ts, evolve.Grid(-1.0, 1.0, 60)
        )


def test_on_a_grid_the_units_do_not_matter_either():
    """When it stops was told from a density per length, when its gradient does from an energy."""

    def paid(length, energy):
        grid, ts = evolve.Grid(-7 * length, 7 * length, 50), jnp.linspace(0.0, 0.1, 5)

        def work(period):
            process = breathing(length, energy, period, start=3.0)
            return evolve.periodic(process, period / 0.1 * ts, grid).work[-1]

        found = jax.jit(jax.value_and_grad(work))(0.1)
        return jnp.stack(found) / energy

    plain = paid(1.0, 1.0)
    assert plain[0] > 0.01
    assert_allclose(paid(1e15, 4.11e-21), plain, rtol=1e-8)


@pytest.mark.parametrize("start", [Gaussian(-1.0, 0.01), Gaussian(1.0, 0.01), Uniform(-1.5, 1.5)])
def test_what_hardly_moves_in_one_period_is_not_periodic(start):
    """Over 40 kT nothing went from well to well, and each start was told to be what it comes to: mean -.995, +.995, 0."""
    grid, ts = evolve.Grid(-2.0, 2.0, 60), jnp.linspace(0.0, 1.0, 9)
    tilt = tjx.protocols.Function(lambda t: 0.3 * jnp.sin(2 * jnp.pi * t), 1.0)

    def over(barrier):
        system = tjx.Overdamped(DoubleWell(barrier))
        found = evolve.periodic(tjx.Process(system, tilt, start), ts, grid)
        return jnp.sum(found.p[0] * grid.volume * jnp.ravel(grid.centres()))

    assert_allclose(
        over(2.0), -0.02275018471248308, rtol=1e-8
    )  # of sixty periods one after the other
    with pytest.raises(RuntimeError, match="from any start"):
        over(40.0)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 5e-8), (1e5, 1e5 + 0.9)])
def test_what_does_not_close_on_its_own_scale_is_refused(start, stop):
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    process = tjx.Process(system, ramp(start, stop, 1.0), Gaussian(start, 1.0))
    with pytest.raises(ValueError, match="does not close"):
        evolve.periodic(process, jnp.linspace(0.0, 1.0, 3))
