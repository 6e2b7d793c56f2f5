"""Two pages of the gallery, small: self-propelled particles by a learned score, and rotors that pull each other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from numpy.testing import assert_allclose
from scripts import example

import thermojax as tjx

active, collective = example("active_matter"), example("collective")


# ---- rotors


@pytest.mark.parametrize(
    ("coupling", "known"), [(2.1, 0.303689344), (2.4, 0.544888987), (3.0, 0.724158718)]
)
def test_order_at_rest(coupling, known):
    """I1(KR/T)/I0(KR/T) = R, by a continued fraction."""
    assert_allclose(collective.stationary(coupling), known, atol=1e-9)
    assert collective.stationary(1.99) < 1e-8


def test_frequencies_of_their_own():
    """The transition at 2(T + width), and <omega^2>/T below it."""
    assert collective.stationary(2.99, 0.5) < 1e-8
    assert_allclose(collective.stationary(3.0003, 0.5), 0, atol=0.03)
    assert collective.stationary(3.03, 0.5) > 0.05
    own = collective.normal(40, 0.5)
    assert_allclose(collective.dissipated(0.5, own), (0, float(jnp.mean(own**2))), atol=1e-6)
    assert collective.dissipated(3.0, own)[1] < 0.5 * float(jnp.mean(own**2))


def test_the_step():
    """Euler's steps are biased in the first order, Heun's in the second, and both come to the exact order."""
    exact = collective.stationary(2.4)
    euler = [collective.chained(2.4, dt, "Euler") - exact for dt in (0.04, 0.02, 0.01)]
    heun = [collective.chained(2.4, dt, "Heun") - exact for dt in (0.04, 0.02)]
    assert_allclose(euler[0], -0.03076, atol=1e-4)
    assert_allclose(euler[0] / euler[1], 2, atol=0.1)
    assert_allclose(heun[0] / heun[1], 4, atol=0.2)
    assert_allclose((8 * euler[2] - 6 * euler[1] + euler[0]) / 3, 0, atol=2e-5)


def test_the_law_from_work():
    """zeta(0) = 1/2T^2 as irreversible work; a single ramp of that length is 6 % off."""
    zeta = collective.friction_at_rest()
    assert_allclose(zeta, 0.5, atol=1e-4)
    assert_allclose(collective.friction(0.0), 0.5, rtol=1e-6)
    once = collective.irreversible_work(-0.025, 0.025, 8.0, 160) * 8.0 / 0.05**2
    assert abs(once - 0.5) > 0.03
    near = [collective.law(k, zeta)(1e-4) / 1e-4 / (k / 2 - 1) for k in (2.02, 2.04)]
    assert_allclose(2 * near[0] - near[1], 1.0, atol=1e-3)


def test_a_transient():
    ts = jnp.linspace(0.0, 2.99, 300)
    modes = collective.transient(2.6, collective.boltzmann_modes(0.1), ts)
    start = float(modes[0])
    assert_allclose(start, 0.04994, atol=5e-6)
    assert_allclose(modes[-1], 0.120631, atol=1e-6)
    cubic = collective.followed(collective.amplitude(2.6), start, 2.99)
    assert_allclose(cubic, 0.120358, atol=1e-6)


def test_few_rotors():
    """<R^2> of ten rotors against its integral; with the order of infinitely many it would be another number."""
    squares, _ = collective.at_rest(
        collective.rotors(), 2.4, 1.3, 10, jax.random.key(3), 200, dt=0.05, span=20.0
    )
    exact = collective.finite_square(2.4, 10)
    assert_allclose(
        collective.finite_square(2.4, 10**5), collective.stationary(2.4) ** 2, atol=1e-4
    )
    sigmas.assert_within(np.asarray(squares), exact, absolute=0.06)
    sigmas.assert_biased(np.asarray(squares), collective.stationary(2.4) ** 2)


# ---- swimmers


def test_a_trap_in_closed_form():
    """4.632353 and 6.617647: the parity of the activity is a choice; both add up to v0^2/noise."""
    known = active.closed_form(active.ALONE)
    assert_allclose(known["even"], 4.632352941, atol=1e-9)
    for parity in active.PARITIES:
        assert_allclose(active.exact_alone(parity), known[parity], rtol=1e-12)
    v0, _, noise = active.ALONE
    assert_allclose(sum(known.values()), v0**2 / noise, rtol=1e-12)


@pytest.fixture(scope="module")
def alone():
    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps by whole numbers
        return active.alone(jax.random.key(1), samples=6000, steps=400, batch=256)


def test_a_learned_score(alone):
    """Within a few per cent after a short training; the score of rest, put in its place, is not."""
    score, found = alone
    known, (v0, gamma, noise) = active.closed_form(active.ALONE), active.ALONE
    for parity in active.PARITIES:
        assert_allclose(found[parity].total.value, known[parity], rtol=0.12)
    pi = tjx.evolve.steady(active.swimmers(active.trap, active.ALONE, 1), 0.0, dim=2)
    z = jax.vmap(pi.sample)(jax.random.split(jax.random.key(2), 2000)).astype(active.SINGLE)
    system = active.swimmers(active.trap, active.ALONE, 1, False, active.SINGLE)
    rest = lambda z: -z / jnp.asarray([active.ALONE.noise, 1.0], z.dtype)
    checks = [lambda z: z[0] ** 2, lambda z: z[0] * z[1], lambda z: z[1] ** 2]
    off, gross = (float(active.drifting(system, s, z, checks)) for s in (score, rest))
    assert off < 0.15
    covariance = v0 / (
        1 + gamma
    )  # of the state, with x^2 the worst of the three: of a Gaussian in closed form
    widths = noise + v0**2 / (1 + gamma), 1.0
    exact = 2 * v0 * covariance / (2 * v0 * np.sqrt(np.prod(widths) + 2 * covariance**2))
    assert_allclose(gross, exact, atol=0.05)


def test_the_heat_of_two_parities():
    """Of interacting particles, without a score: even and odd add up to v0^2/noise for each coordinate."""
    n = 2
    v0, _, noise = active.MANY
    start = tjx.densities.Gaussian(
        jnp.zeros(4 * n, active.SINGLE), jnp.repeat(jnp.asarray([4.0, 1.0], active.SINGLE), 2 * n)
    )
    total = []
    for parity, key in zip(active.PARITIES, jax.random.split(jax.random.key(5)), strict=True):
        system = active.swimmers(active.crowd, active.MANY, 2 * n, parity == "odd", active.SINGLE)
        heat, xs = active.swum(system, start, key, 400, 20.0, 0.05)
        stored = lambda z: active.crowd(z[: 2 * n]) / noise + 0.5 * jnp.sum(z[2 * n :] ** 2)
        change = jax.vmap(stored)(xs[:, -1]) - jax.vmap(stored)(xs[:, 0])  # not at rest yet
        total.append(np.asarray(heat + change / 20.0, float))
    sigmas.assert_within(total[0] + total[1], 2 * n * v0**2 / noise, bias=0.3)
    sigmas.assert_biased(total[0], 2 * n * v0**2 / noise)


def test_a_score_of_disks():
    """It turns with the disks and is renamed with them."""
    n = 4
    score = eqx.filter_jit(active.Crowd(jax.random.key(0), width=8))
    z = jax.random.normal(jax.random.key(1), (4 * n,), active.SINGLE)
    turn = jnp.asarray([[0.6, -0.8], [0.8, 0.6]], active.SINGLE)
    vectors = lambda z: z.reshape(2 * n, 2)
    turned = (vectors(z) @ turn.T).reshape(-1)
    assert_allclose(vectors(score(turned)), vectors(score(z)) @ turn.T, atol=2e-4)
    order = jnp.asarray([2, 0, 3, 1])
    renamed = lambda z: z.reshape(2, n, 2)[:, order].reshape(-1)
    assert_allclose(score(renamed(z)), renamed(score(z)), atol=2e-4)
