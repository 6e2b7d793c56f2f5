"""Far from the origin, numbers that depend on differences alone keep the digits that their precision leaves."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.potentials import MovingTrap
from thermojax.protocols import ramp

TS = jnp.linspace(0.0, 1.0, 11)
FAR = 2.0**33 if jax.config.jax_enable_x64 else 2.0**16  # rounded to 2e-6, and to 8e-3


def dragged(c):
    system = tjx.Overdamped(MovingTrap(1.0))
    return tjx.Process(system, ramp(c, c + 1, 1.0), Gaussian(c, 1.0), Gaussian(c + 1, 1.0))


def test_moments():
    r"""A trap dragged from c to c + 1: $W = e^{-1}$, for any c, and so are all other totals."""
    near, far = (tjx.evolve.moments(dragged(c), TS) for c in (0.0, FAR))
    assert_allclose(far.work[-1], jnp.exp(-1.0), rtol=1e-2)
    for a, b in ((near.work, far.work), (near.heat, far.heat), (near.cov, far.cov)):
        assert_allclose(b, a, atol=4e-3)
    assert_allclose(far.entropy.total[-1], near.entropy.total[-1], atol=4e-3)
    assert_allclose(far.mean - FAR, near.mean, atol=2 * jnp.spacing(FAR))


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="single precision is lost at 1e6")
def test_too_far():
    with pytest.raises(RuntimeError, match="Positions near 4.19e[+]06 are 0.5 apart in float32"):
        tjx.evolve.moments(dragged(2.0**22), TS)
