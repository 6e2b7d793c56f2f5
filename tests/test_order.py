"""The order of the alternating rule in the step size, measured; and that its limit is the right one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from chains import expand, means, order
from oracles import (
    DRAG,
    EVERYTHING,
    GYRATOR,
    HEAT,
    ROTATE,
    STIFFEN,
    drag_ramp_row,
    driven,
    everything_row,
    floats,
    grid,
    heated_row,
    stiffness_ramp_row,
    two_baths,
    whirling,
)

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian
from thermojax.potentials import Quartic
from thermojax.protocols import ramp

SIZE = 1_000_000


def work(process, path):
    return tjx.account(process, path).work


NS = (20, 40, 80, 160)
CASES = {  # conservative: exact means of work, heat and reduced work (None: by extrapolation)
    "breathing": (lambda: driven(stiffness_ramp_row(**STIFFEN)), {"work": 0.936041707262}),
    "drag": (lambda: driven(drag_ramp_row(**DRAG)), {"work": 4 * np.exp(-1)}),
    "heated": (lambda: driven(heated_row(**HEAT)), {"reduced": -0.287955295, "heat": -0.283833821}),
    "everything": (
        lambda: driven(everything_row(**EVERYTHING)),
        {"work": 1.722403576, "heat": 1.807246601, "reduced": 2.033417826},
    ),
}


@pytest.mark.smoke
def test_recursion_is_the_library():
    """The recursion of `chains` against the path integral with the library's own step and account, to rounding."""
    for build in (lambda: driven(everything_row(**EVERYTHING)), lambda: whirling(ROTATE)):
        for scheme in ("euler", "heun"):
            process, ts = build(), grid(1.0, 8)
            c, _, H = expand(process, ts, scheme, work)
            mean = c + 0.5 * np.trace(H)
            assert mean == pytest.approx(means(process, ts, scheme).work, abs=1e-11)


@pytest.mark.parametrize("case", CASES)
def test_heun_is_of_second_order(case):
    build, exact = CASES[case]
    process = build()
    runs = [means(process, grid(1.0, n), "heun") for n in NS]
    for part, value in exact.items():
        errors = np.array([np.sum(getattr(r, part)) for r in runs]) - value
        print(f"{case}, {part}: order {order(errors, NS):.3f}, errors {errors}")
        assert 1.85 < order(errors, NS) < 2.15
        assert abs(errors[-1]) < 1e-4 * max(1, abs(value))  # the limit is the right one
        fine, finer = errors[-2:]
        assert abs((4 * finer - fine) / 3) < 2e-7 * max(1, abs(value))


@pytest.mark.parametrize("case", ["breathing", "drag", "heated"])
def test_euler_is_of_first_order(case):
    """Control: the fit tells the orders apart, and the limit is the same."""
    build, exact = CASES[case]
    process = build()
    runs = [means(process, grid(1.0, n), "euler") for n in NS]
    for part, value in exact.items():
        errors = np.array([np.sum(getattr(r, part)) for r in runs]) - value
        print(f"{case}, {part}: order {order(errors, NS):.3f}")
        assert 0.9 < order(errors, NS) < 1.15
        assert abs(2 * errors[-1] - errors[-2]) < 1e-3


def test_breathing_at_ten_steps():
    """The errors that the table of a coarse grid is made of."""
    process = driven(stiffness_ramp_row(**STIFFEN))
    for scheme, error in (("euler", 0.0432), ("heun", -0.0032)):
        off = means(process, grid(1.0, 10), scheme).work - 0.936041707262
        assert off == pytest.approx(error, abs=1e-4)


@pytest.fixture(scope="module")
def hardening():
    """<W_n> - <W_2n> of a quartic trap that stiffens, over paths that share their noise: values per path."""
    system = tjx.Overdamped(Quartic(1.0))
    process = tjx.Process(system, ramp(0.5, 3.0, 1.0), Boltzmann(system, 0.5))
    finest, levels = 64, (16, 32, 64)

    def works(key):
        first, rest = jax.random.split(key)
        x0 = process.initial.sample(first)
        kicks = jax.random.normal(rest, (finest, 1)) / jnp.sqrt(finest)
        out = []
        for n in levels:
            ts = grid(1.0, n)
            lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))
            summed = kicks.reshape(n, finest // n, 1).sum(1)

            def step(x, now, n=n):
                lam, dw = now
                x = tjx.Heun()(system, x, lam, jnp.asarray(1 / n), (jnp.sqrt(float(n)) * dw,))
                return x, x

            _, xs = jax.lax.scan(step, x0, (lams, summed))
            out.append(tjx.account(process, tjx.Path(ts, jnp.concatenate([x0[None], xs]))).work)
        return jnp.stack(out)

    found = jax.jit(jax.vmap(works))(jax.random.split(jax.random.key(41), 150_000))
    return np.asarray(found), process


def test_heun_is_of_second_order_in_a_quartic_trap(hardening):
    """Differences of neighbouring grids shrink by four: 16 to 32, 32 to 64 steps, on the same noise."""
    found, _ = hardening
    steps = -np.diff(found, axis=1)
    for coarse, fine in zip(steps.T[:-1], steps.T[1:], strict=True):
        ratio = coarse.mean() / fine.mean()
        print(f"order {np.log2(ratio):.3f}")
        # the ratio is r if <coarse - r fine> = 0
        assert 1.6 < np.log2(ratio) < 2.4
        sigmas.assert_biased(coarse - 2 * fine, 0.0)  # first order is excluded
    assert abs(steps[:, -1].mean()) < 1e-3


# ---------------------------------------------------------------------------- the work of a force that is no gradient


def test_order_of_the_work_of_a_rotational_force():
    """The trapezoid of f o dx is of FIRST order: f turns with coordinates that have noise of their own."""
    process = whirling(ROTATE)
    values = np.array([means(process, grid(1.0, n)).reduced for n in NS])
    errors = values - 3.354159527
    print(f"rotational: order {order(errors, NS):.3f}, errors {errors}")
    assert 0.9 < order(errors, NS) < 1.15
    assert abs((8 * values[-1] - 6 * values[-2] + values[-3]) / 3 - 3.354159527) < 2e-4


def test_order_of_the_heat_of_two_baths():
    """So is the heat of each bath, with a bath per coordinate, though no force but a gradient acts."""
    process = two_baths(**floats(GYRATOR), t=1.0)
    runs = [means(process, grid(1.0, n)) for n in NS]
    hot_to_cold = 0.213333333 / (1 - 1 / 3)
    for part, exact in {"medium": 0.213333333, "cold": hot_to_cold, "hot": -hot_to_cold}.items():
        pick = {
            "medium": lambda r: r.medium,
            "cold": lambda r: r.heat[0],
            "hot": lambda r: r.heat[1],
        }
        errors = np.array([pick[part](r) for r in runs]) - exact
        print(f"two baths, {part}: order {order(errors, NS):.3f}, errors {errors}")
        assert 0.9 < order(errors, NS) < 1.15
    energy = np.array(
        [np.sum(r.heat) for r in runs]
    )  # what both receive: minus the change of energy
    print(f"two baths, sum of heats: order {order(energy, NS):.3f}, errors {energy}")
    assert 1.85 < order(energy, NS) < 2.15


SWIM, TURN = 1.7, 0.8  # force of the swimmer, rotational diffusion


def swimming(n):
    """A free active particle: x, y driven along (cos a, sin a), and the angle a diffuses. <W> = mu f^2 t."""
    push = lambda x, lam: SWIM * jnp.stack([jnp.cos(x[2]), jnp.sin(x[2]), 0 * x[2]])
    system = tjx.Overdamped(None, push, mobility=jnp.array([1.0, 1.0, TURN]))
    return tjx.Process(
        system, lambda t: t, Gaussian(jnp.zeros(3), jnp.array([1.0, 1.0, 4.0]))
    ), grid(1.0, n)


def test_work_of_an_active_particle():
    """Its mean over a step of Heun's scheme is mu f^2 dt (1 + e^{-D_r dt})/2: low by (D_r dt/2) of it, first order."""
    ns = np.array(NS)
    chain_work = SWIM**2 * (1 + np.exp(-TURN / ns)) / 2
    errors = chain_work - SWIM**2
    print(f"active particle: order {order(errors, ns):.3f}")
    assert 0.95 < order(errors, ns) < 1.05
    assert errors[-1] == pytest.approx(-0.5 * TURN / ns[-1] * SWIM**2, rel=0.01)
    process, ts = swimming(4)
    sample = tjx.ensemble(process, ts, jax.random.key(42), SIZE).work
    want = SWIM**2 * (1 + np.exp(-TURN / 4)) / 2
    sigmas.assert_within(sample, want)
    sigmas.assert_sees(sample, want)
    sigmas.assert_biased(sample, SWIM**2)


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_means_of_the_scheme_over_paths(rule):
    """The default Heun against its exact chain at ten steps: values that are off the continuum by up to a per cent."""
    process, ts = driven(stiffness_ramp_row(**STIFFEN)), grid(1.0, 10)
    trajectory = tjx.ensemble(process, ts, jax.random.key(32), SIZE, rule=rule)
    scheme = means(process, ts, "heun" if rule == "alternating" else "euler")
    sigmas.assert_within(trajectory.work, scheme.work)
    sigmas.assert_within(trajectory.heat, np.sum(scheme.heat), absolute=0.02)
    if rule == "kernel":
        sigmas.assert_biased(trajectory.work, 0.936041707262)
