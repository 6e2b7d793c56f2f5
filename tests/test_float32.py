"""The identities in single precision: run with THERMOJAX_TEST_X64=0, since precision is set once for a session."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import CASES, GRID, THETA, WELL, well

import thermojax as tjx
from thermojax import diffusion, schedules
from thermojax.densities import Gaussian
from thermojax.protocols import Piecewise, ramp

KEY = jax.random.key(11)
NAMES = ["dragged", "quartic", "rotational", "temperature_jump", "two_baths", "several_controls"]


def single(tree):
    kinds = {leaf.dtype for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)}
    return kinds == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", NAMES)
def test_identities(name):
    """First law, time reversal and the kernel rule, to the rounding of a dozen steps."""
    process, ts = CASES[name]()
    back = tjx.reverse(process)

    @jax.jit
    def look(key):
        got = tjx.simulate(process, ts, key, rule="kernel")
        behind = tjx.Path(tjx.reverse_grid(process, ts), got.path.xs[::-1])
        stored, turned = (tjx.account(p, x) for p, x in ((process, got.path), (back, behind)))
        energy, drive = process.system.energy, process.protocol
        change = energy(got.path.xs[-1], drive.after) - energy(got.path.xs[0], drive.before)
        return got, stored, turned, change, tjx.path_ratio(process, back, got.path)

    got, stored, turned, change, ratio = out = look(KEY)
    assert single(out)
    scale = 1 + float(jnp.abs(got.work) + jnp.sum(jnp.abs(got.heat)) + jnp.abs(ratio))
    near = lambda a, b: assert_allclose(a, b, rtol=0, atol=2e-5 * scale)
    near(change, got.work - jnp.sum(got.heat))
    near(stored.work, got.work)
    near(stored.heat, got.heat)
    near(turned.work, -got.work)
    near(turned.heat, -got.heat)
    near(got.entropy.total, ratio)


def test_hand_drawn():
    """Every number is exact in binary: U = (x - lam)^2/2, lam_0 = 1/4, lam_1 = 3/4 (see test_ledger)."""
    force = lambda x, lam: lam * x
    system = tjx.Overdamped(tjx.potentials.MovingTrap(1.0), force, temperature=2.0)
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0))
    got = tjx.account(
        process, tjx.Path(jnp.array([0.0, 0.5, 1.0]), jnp.array([[0.0], [1.0], [2.0]]))
    )
    assert single(got)
    assert [float(v) for v in (got.work, got.heat, got.entropy.medium)] == [0.75, 0.25, 0.125]


def test_ensemble_and_its_gradient():
    """A rigid trap dragged by one knot: dW/dlam by hand from the saved path."""
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([0.5, 0.5]), 0.0, 2.0)
    process = tjx.Process(
        tjx.Overdamped(tjx.potentials.MovingTrap(3.0), mobility=0.5), drive, Gaussian(0.0, 0.2)
    )
    ts = jnp.linspace(0.0, 1.0, 9)

    @jax.jit
    def slope(shift):
        def loss(shift):
            p = eqx.tree_at(lambda p: p.protocol.values, process, drive.values + shift)
            got = tjx.ensemble(p, ts, KEY, 5)
            return jnp.mean(got.work), got

        return jax.value_and_grad(loss, has_aux=True)(shift)

    (work, got), gradient = slope(jnp.zeros(()))
    assert single((work, got.path[:2], got[1:], gradient))
    assert got.path.ok.all()
    # with lam held, W = U(x_0; l) - U(x_0; 0) + U(x_n; 2) - U(x_n; l), and Heun moves x_n by 1 - a^n per unit of l
    x0, x1 = np.asarray(got.path.xs, np.float64)[..., 0].T
    a = 1 - 1.5 / 8 + (1.5 / 8) ** 2 / 2
    by_hand = 3 * (0.5 - x0) - 3 * (0.5 - x1) + 3 * (0.5 - 2) * (1 - a**8)
    assert_allclose(gradient, by_hand.mean(), rtol=1e-4)


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_gradients_are_near_those_of_finite_differences(rule):
    """Wide differences: the loss is smooth, and float32 has seven digits."""

    @jax.jit
    def loss(theta):
        got = tjx.ensemble(well(theta), GRID, KEY, 3, rule=rule)
        return jnp.mean(got.work + got.entropy.total)

    gradient = jax.jit(jax.grad(loss))(THETA)
    assert single(gradient)
    for i in (1, 2):  # temperature, stiffness
        move = lambda h, i=i: loss(tuple(v + h if j == i else v for j, v in enumerate(THETA)))
        assert_allclose((move(0.03) - move(-0.03)) / 0.06, gradient[i], rtol=2e-2, atol=5e-3)


def test_a_diffusion_model():
    """A learned schedule, its chain and the continuous run: single precision throughout, and one identity of paths."""
    schedule = schedules.LogSNR.uniform(6, 5.0, -4.0)
    lam = schedule()
    noising = diffusion.noising(Gaussian(0.3, 0.25), diffusion.Levels(schedule))
    exact = diffusion.score(noising)
    generation = diffusion.generate(noising, exact)
    tau = schedules.chain(lam).noise
    kernel = diffusion.reverse_kernel(noising, exact, lam, tau)

    @jax.jit
    def both(key):
        x0 = noising.initial.sample(key)
        work = schedules.path_work(lam, exact, x0, key, tau=tau)
        chain, xs = schedules.chain(lam), [x0]
        normals = jax.random.normal(key, (6, 1))
        for k in range(6):
            xs.append(chain.shrink[k] * xs[-1] + jnp.sqrt(chain.noise[k]) * normals[k])
        path = tjx.Path(jnp.arange(7.0), jnp.stack(xs))
        ratio = tjx.path_ratio(noising, generation, path, kernels=(diffusion.transition, kernel))
        return work.w + noising.initial.log_prob(x0), ratio

    work, ratio = both(KEY)
    run = tjx.ensemble(generation, jnp.linspace(0.0, 5.0, 6), KEY, 3)
    assert single((work, ratio, run.path[:2], run[1:]))
    assert_allclose(work, ratio, rtol=1e-4, atol=1e-4)
    assert run.path.ok.all()


def test_a_mix_of_precisions_is_refused():
    with pytest.raises(TypeError, match="float16"):
        tjx.ensemble(WELL, GRID.astype(jnp.float16), KEY, 3)
