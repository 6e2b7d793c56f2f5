"""A density cell by cell: what the cells resolve is smooth, what they do not is held where it was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from thermojax.densities import Cells
from thermojax.systems import Grid

GRID = Grid(-3.0, 3.0, 60)
AT = np.asarray(GRID.axis(0))
RNG = np.random.default_rng(0)
HISTOGRAM = np.histogram(RNG.normal(0, 0.5, 1000), bins=60, range=(-3, 3), density=True)[0]
STEP = np.where(np.abs(AT) < 1, 0.5, 0.0)
STEEP = np.where(np.abs(AT) < 1, 0.5, 0.5 * np.exp(-300 * np.maximum(np.abs(AT) - 1, 0)))


def given(p, grid=GRID):
    return Cells(grid, p / (np.sum(p) * grid.volume))


@pytest.mark.parametrize("p", [HISTOGRAM, STEP, STEEP], ids=["histogram", "step", "steep"])
def test_what_the_cells_do_not_resolve(p):
    """Empty and steep neighbours: the heights of the full cells are those that were given, and the weight is one."""
    cells = given(p)
    look = jax.jit(jax.vmap(cells.log_prob))
    full = p > 0.2 * p.max()
    assert_allclose(np.exp(look(AT[:, None]))[full], np.asarray(cells.p)[full], rtol=0.05)
    fine = np.linspace(-3, 3, 60_001)[:, None][:-1] + 5e-5
    found = np.asarray(look(fine))
    assert_allclose(np.exp(found).mean() * 6, 1, rtol=1e-3)
    # where draws are even in a cell, the mean of -ln p is the entropy
    weight = np.repeat(np.asarray(cells.p), 1000) * GRID.volume / 1000
    assert_allclose(-np.sum(weight * found), cells.entropy(), atol=0.02)
    slope = jax.grad(lambda x: cells.log_prob(x[None]))(0.03)
    assert np.isfinite(slope)
    by_p = jax.grad(lambda p: Cells(GRID, p).log_prob(jnp.array([0.03])))(cells.p)
    assert np.isfinite(by_p).all()


def test_within_a_cell():
    """An exponential, of the smaller of the two slopes to its neighbours, that holds what was given."""
    cells = Cells(Grid(0.0, 2.5, 5), 2 * np.array([0.0, 0.1, 0.3, 0.6, 0.0]))
    slope = np.log(2) / 0.5  # less steep than ln 3 / 0.5 on the other side
    x = 1 + 0.5 * np.linspace(0.0005, 0.9995, 1000)
    found = jax.vmap(cells.log_prob)(x[:, None])
    assert_allclose(np.diff(found), slope * np.diff(x), rtol=2e-3)
    assert_allclose(np.exp(found).mean() * 0.5, 0.3, rtol=1e-5)
    assert_allclose(jax.grad(lambda x: cells.log_prob(x[None]))(1.1), slope, rtol=1e-5)


def test_in_two_dimensions():
    grid = Grid([-3.0, -3.0], [3.0, 3.0], 30)
    x, y = np.moveaxis(np.asarray(grid.centres()), -1, 0)
    box = given(np.where((np.abs(x) < 1) & (np.abs(y) < 2), 1.0, 0.0), grid)
    assert_allclose(
        box.log_prob(jnp.array([0.2, 0.3])), np.log(np.max(np.asarray(box.p))), rtol=1e-6
    )
    bell = given(np.exp(-(x**2 + y**2) / 2), grid)
    want = -0.065 - np.log(2 * np.pi * 0.9973**2)
    assert_allclose(bell.log_prob(jnp.array([0.2, 0.3])), want, atol=2e-3)


@pytest.mark.parametrize("width", [0.3, 1.0, 1.5])
def test_a_smooth_density_is_a_spline(width):
    """A Gaussian of a width of a cell still is one: ln p is a parabola, which a spline holds."""
    grid = Grid(-9.0, 9.0, round(18 / width))
    cells = given(np.exp(-(np.asarray(grid.axis(0)) ** 2) / 2), grid)
    height, slope, bend = (
        f(jnp.float64(0.3) if jax.config.jax_enable_x64 else jnp.float32(0.3))
        for f in _derivatives(lambda x: cells.log_prob(x[None]))
    )
    assert_allclose(height, -0.045 - 0.5 * np.log(2 * np.pi), atol=1e-3)
    assert_allclose([slope, bend], [-0.3, -1], atol=0.02)


def _derivatives(f):
    return f, jax.grad(f), jax.grad(jax.grad(f))


def test_at_a_wall():
    """At the wall itself the score is that of the inside."""
    grid = Grid(0.0, 4.0, 40, walls=True)
    cells = given(np.exp(-np.asarray(grid.axis(0))), grid)
    score = jax.grad(lambda x: cells.log_prob(x[None]))
    assert_allclose([score(x) for x in (0.0, 1e-3, 4.0)], -1, atol=1e-4)
    assert cells.log_prob(jnp.array([4.1])) == -jnp.inf


def test_negative_by_more_than_rounding():
    with pytest.raises(ValueError, match="Cells.p must be nowhere negative .* got -0.25"):
        Cells(Grid(0.0, 1.0, 4), [3.0, -1.0, 1.0, 1.0])
    nearly = np.array([2.0, 2.0001, 0.0, -0.0001])
    assert jnp.isfinite(Cells(Grid(0.0, 1.0, 4), nearly).log_prob(jnp.array([0.3])))
