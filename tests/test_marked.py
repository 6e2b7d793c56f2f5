"""What raises where its value is known is NaN where it is traced, and never another number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from thermojax import bounds, diffusion, protocols, schedules
from thermojax.densities import Empirical, Gaussian, Mixture, Point, Uniform, noised
from thermojax.potentials import Tabulated
from thermojax.systems import Grid

X = jnp.array([0.3])
KNOTS = jnp.linspace(-2.0, 2.0, 21)
RISING = jnp.arange(5.0)
NOISING = diffusion.noising(Gaussian(jnp.zeros(1), 0.5), diffusion.Linear())


def likelihood(schedule):
    noising = diffusion.noising(Gaussian(jnp.zeros(1), 0.5), schedule)
    return diffusion.flow_log_prob(noising, lambda x, lam: -x * jax.nn.sigmoid(-lam), X)


# what is computed of the numbers, then those that it refuses, and those that it takes
CASES = {
    "Uniform, rising": (lambda a, b: likelihood(diffusion.Uniform(a, b)), (-6.0, 6.0), (6.0, -6.0)),
    "EDM, falling": (lambda a, b: likelihood(diffusion.EDM(a, b)), (80.0, 0.1), (0.1, 80.0)),
    "a span": (lambda a, b: likelihood(diffusion.Linear(t0=a, t1=b)), (0.9, 0.1), (0.1, 0.9)),
    "a negative rate": (lambda b: likelihood(diffusion.Linear(b0=b)), (-0.5,), (0.1,)),
    "a rate that ends below zero": (
        lambda b: likelihood(diffusion.Linear(b0=5.0, b1=b, t1=1.5)),
        (1.0,),
        (4.0,),
    ),
    "SigmaT below one": (lambda s: likelihood(diffusion.SigmaT(s)), (0.5,), (25.0,)),
    "limits of levels": (
        lambda a, b: schedules.LogSNR(jnp.zeros(3), a, b)()[0],
        (5.0, -5.0),
        (-5.0, 5.0),
    ),
    "the end of a protocol": (
        lambda a, b: protocols.Function(lambda t: t, a, b).after,
        (0.0, 1.0),
        (1.0, 0.0),
    ),
    "an uneven covariance": (
        lambda c: Gaussian(
            jnp.zeros(2), jnp.array([[1.0, 0.5], [0.0, 1.0]]) + c * jnp.eye(2, k=-1)
        ).log_prob(jnp.ones(2)),
        (0.1,),
        (0.5,),
    ),
    "a table that falls back": (
        lambda v: Tabulated(RISING.at[1].set(v), RISING**2)(jnp.array([0.5])),
        (2.5,),
        (1.0,),
    ),
    "a table that does not confine": (
        lambda k: Tabulated(KNOTS, k * KNOTS**2, outside="linear")(jnp.array([3.0])),
        (-1.0,),
        (1.0,),
    ),
    "negative noise": (lambda v: noised(Gaussian(0.0, 1.0), 1.0, v).log_prob(X), (-0.5,), (0.5,)),
    "negative noise on a box": (
        lambda v: noised(Uniform(0.0, 1.0), 1.0, v).log_prob(X),
        (-0.5,),
        (0.5,),
    ),
    "a time after the noising": (
        lambda t: diffusion.marginal(NOISING, t).log_prob(X),
        (2.0,),
        (0.5,),
    ),
    "times of a transition": (
        lambda a, b: diffusion.transition(NOISING, X, a, b)[1][0],
        (0.7, 0.5),
        (0.5, 0.7),
    ),
    "a grid that does not hold it": (
        lambda m: bounds.wasserstein(
            Mixture(jnp.ones(2), [Gaussian(0.0, 1.0), Gaussian(m, 1.0)]),
            Gaussian(0.0, 1.0),
            grid=Grid(-5.0, 9.0, 200),
        ),
        (10.0,),
        (2.0,),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_marked(case):
    fn, bad, good = case
    with pytest.raises(ValueError):
        fn(*bad)
    compiled = jax.jit(fn)
    assert jnp.isnan(compiled(*bad))
    assert_allclose(compiled(*good), fn(*good), rtol=1e-5)


def test_points_without_noise_have_no_density():
    with pytest.raises(ValueError, match="Smoothed of variance zero is its points"):
        noised(Empirical(jnp.zeros((3, 1))), 0.5, 0.0).log_prob(X)


def test_the_slope_of_a_table_at_its_ends():
    """Straight on beyond the last knot, the force there is that of either side."""
    table = Tabulated(KNOTS, KNOTS**4, outside="linear")
    slope = jax.grad(lambda x: table(x[None]))
    for end in (-2.0, 2.0):
        near = [slope(end * (1 + shift)) for shift in (-1e-6, 0.0, 1e-6)]
        assert_allclose(near, near[0], rtol=1e-4)


def test_the_slope_of_a_distance_from_a_point():
    r"""$W^2 = |m - x|^2 + \mathrm{tr}\,\Sigma$."""
    for d in (1, 2):
        fn = lambda v, d=d: bounds.wasserstein(
            Point(jnp.ones(d)), Gaussian(jnp.zeros(d), v * jnp.ones(d))
        )
        assert_allclose(jax.grad(fn)(2.0), 0.5 * d / np.sqrt(3 * d), rtol=1e-6)
