"""Gradients through a run: the same by every adjoint, and those of finite differences with the same key."""

import functools as ft
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import central, flat
from numpy.testing import assert_allclose
from systems import ADJOINTS, GRID, SOLVERS, THETA, well

import thermojax as tjx

KEY = jax.random.key(11)
WAYS = {
    "default reverse": ("default", jax.value_and_grad),
    "default forward": ("default", jax.jacfwd),
    "recursive reverse": ("recursive", jax.value_and_grad),
    "direct reverse": ("direct", jax.value_and_grad),
    "direct forward": ("direct", jax.jacfwd),
    "forward forward": ("forward", jax.jacfwd),
}


def loss(theta, *, solver="default", adjoint="default", save="ends"):
    """Mean work, heat and end point of a small ensemble."""
    got = tjx.ensemble(
        well(theta), GRID, KEY, 3, solver=SOLVERS[solver], adjoint=ADJOINTS[adjoint], save=save
    )
    return jnp.mean(got.work + 0.3 * got.heat + 0.1 * got.path.xs[:, -1, 0] ** 2)


@ft.cache
def derivative(solver, way, save):
    adjoint, mode = WAYS[way]
    return jax.jit(mode(ft.partial(loss, solver=solver, adjoint=adjoint, save=save)))


def slope(solver, way, save="ends"):
    out = derivative(solver, way, save)(THETA)
    return flat(out[1] if "reverse" in way else out)


@pytest.mark.parametrize("solver", SOLVERS)
def test_finite_differences(solver):
    value = lambda theta: derivative(solver, "default reverse", "ends")(theta)[0]
    differences = central(value, THETA)
    assert_allclose(slope(solver, "default reverse"), differences, rtol=1e-6, atol=1e-8)
    assert (np.abs(differences) > 1e-3).all()


# the adjoints see our step, one Runge–Kutta solver of diffrax's with its inner loop, and every solver by one of them
PAIRS = [
    *itertools.product(("default", "ShARK"), [way for way in WAYS if way != "default reverse"]),
    ("Euler", "direct forward"),
    ("Heun", "recursive reverse"),
    ("SRA1", "default forward"),
]


@pytest.mark.parametrize(("solver", "way"), PAIRS)
def test_the_adjoint_does_not_matter(solver, way):
    assert_allclose(slope(solver, way), slope(solver, "default reverse"), rtol=1e-9)


@pytest.mark.parametrize(
    ("way", "save"),
    [
        ("default reverse", "all"),
        ("default reverse", 4),
        ("default forward", 4),
        ("recursive reverse", 4),
        ("direct reverse", "all"),
    ],
)
def test_what_is_saved_does_not_matter(way, save):
    assert_allclose(slope("default", way, save), slope("default", "default reverse"), rtol=1e-9)


@pytest.mark.smoke
def test_the_recursive_adjoint_has_no_forward_mode():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.eval_shape(jax.jacfwd(ft.partial(loss, adjoint="recursive")), THETA)


@pytest.mark.parametrize("adjoint", ["default", "direct"])
def test_second_derivatives(adjoint):
    """By the temperature: reverse over reverse, against differences of the first derivative."""

    def at(T):
        return loss((THETA[0], T, THETA[2]), adjoint=adjoint)

    first = lambda T: derivative("default", "default reverse", "ends")((THETA[0], T, THETA[2]))[1][
        1
    ]
    second = jax.jit(jax.grad(jax.grad(at)))(THETA[1])
    assert_allclose(second, central(first, THETA[1])[0], rtol=1e-6)


def closing(k):
    """A dragged trap of which every part is a plain function that closes over one of the k: no leaf of the process."""
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * k[0] * jnp.sum((x - lam) ** 2),
        force=lambda x, lam: k[1] * jnp.sin(x),
        temperature=lambda lam: k[2] + 0.1 * lam**2,
        mobility=lambda lam: k[3] + 0.1 * lam**2,
    )
    return tjx.Process(system, lambda t: k[4] * t, tjx.densities.Gaussian(0.0, k[5]))


@pytest.mark.parametrize("adjoint", ["default", "recursive", "direct"])
def test_functions_that_close_over_a_parameter(adjoint):
    def loss(k):
        got = tjx.ensemble(closing(k), GRID, KEY, 3, adjoint=ADJOINTS[adjoint])
        return jnp.mean(got.work + 0.3 * got.heat + 0.1 * got.path.xs[:, -1, 0] ** 2)

    k = jnp.array([1.1, 0.8, 0.9, 0.7, 2.0, 0.6])
    both = jax.jit(jax.value_and_grad(loss))
    want = central(lambda k: both(k)[0], k)
    assert (np.abs(want) > 1e-3).all()
    assert_allclose(both(k)[1], want, rtol=1e-6)
    if adjoint != "recursive":
        assert_allclose(jax.jit(jax.jacfwd(loss))(k), want, rtol=1e-6)
    if adjoint == "default":
        assert_allclose(jax.value_and_grad(loss)(k)[1], want, rtol=1e-6)
