"""A medium that moves: the work of being dragged through it, against the same experiment in its own frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.potentials import Harmonic, MovingTrap
from thermojax.protocols import ramp

MU, K, U, T = 1.0, 2.0, 3.0, 4.0
TS = jnp.linspace(0.0, T, 41)


def uniform(x, lam):
    return jnp.full_like(x, U)


def shear(x, lam):
    return lam * jnp.stack([x[1], 0 * x[0]])


def swelling(x, lam):
    return 0.3 * x + lam


def steady(**parts):
    """A trap at rest in a fluid that streams: the bead hangs back by u / mu k."""
    system = tjx.Overdamped(Harmonic(K), mobility=MU, velocity=uniform, **parts)
    start = Gaussian(U / (MU * K), 1 / K)
    return tjx.Process(system, ramp(0.0, 0.0, T), start, start)


def general(velocity, dim=2, **parts):
    """Driven, with a force of its own, in a flow."""
    system = tjx.Overdamped(
        MovingTrap(1.5), lambda x, lam: 0.4 * jnp.roll(x, 1), velocity=velocity, **parts
    )
    start, stop = Gaussian(jnp.zeros(dim), 0.7), Gaussian(jnp.full(dim, 0.8), 0.9)
    return tjx.Process(system, ramp(0.2, 1.2, 1.0), start, stop)


FLOWS = {"uniform": lambda x, lam: jnp.full_like(x, 0.5), "shear": shear, "swelling": swelling}
COARSE = jnp.array([0.0, 0.2, 0.5, 0.7, 1.0])


def test_the_work_of_a_stream():
    """gamma u^2 T = 36: on the mean of every path, which starts and stays steady."""
    exact = U**2 / MU * T
    found = tjx.evolve.moments(steady(), TS)
    np.testing.assert_allclose(found.work[-1], exact, rtol=1e-7)
    np.testing.assert_allclose(found.heat[-1], exact, rtol=1e-7)
    np.testing.assert_allclose(found.entropy.total[-1], exact, rtol=1e-7)
    run = tjx.ensemble(steady(), TS, jax.random.key(0), 4000)
    sigmas.assert_within(np.asarray(run.work), exact, absolute=1.5)
    as_force = tjx.Overdamped(Harmonic(K), lambda x, lam: jnp.full_like(x, U / MU), mobility=MU)
    assert abs(tjx.evolve.moments(steady().replace(system=as_force), TS).work[-1]) < 1e-8


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_the_same_in_the_frame_of_the_fluid(rule):
    """A trap that moves with -u in a fluid at rest: the same work and heat on every path, to rounding; the same entropy too,
    by the kernels as the step goes to zero (they hold x at the start of the step, and the two frames disagree on that)."""
    fine = jnp.linspace(0.0, 1.0, 401)
    trap = tjx.Process(tjx.Overdamped(MovingTrap(K)), ramp(0.0, -U, 1.0), Gaussian(0.0, 1 / K))
    trap = trap.replace(final=Gaussian(-U + 0.5, 1 / K))
    bath = tjx.Process(
        tjx.Overdamped(MovingTrap(K), velocity=uniform),
        ramp(0.0, 0.0, 1.0),
        trap.initial,
        Gaussian(0.5, 1 / K),
    )
    moving = tjx.simulate(trap, fine, jax.random.key(1), rule=rule)
    xs = moving.path.xs + U * fine[:, None]
    streaming = tjx.account(bath, tjx.Path(fine, xs), rule=rule)
    np.testing.assert_allclose(streaming.work, moving.work, atol=1e-11)
    np.testing.assert_allclose(streaming.heat, moving.heat, atol=1e-11)
    atol = 1e-11 if rule == "alternating" else 0.04
    np.testing.assert_allclose(streaming.entropy.total, moving.entropy.total, atol=atol)


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("temperature", [1.3, jnp.array([0.8, 1.7])], ids=["one bath", "two"])
def test_identities_of_every_path(flow, rule, temperature):
    """The first law, and the change of sign of everything when the path is read backwards against the flow."""
    process = general(FLOWS[flow], temperature=temperature)
    run = tjx.simulate(process, COARSE, jax.random.key(2), rule=rule)
    energy = process.system.energy
    gained = energy(run.path.xs[-1], 1.2) - energy(run.path.xs[0], 0.2)
    np.testing.assert_allclose(run.work - jnp.sum(run.heat), gained, atol=1e-12)
    back = tjx.reverse(process)
    mirrored = tjx.Path(1.0 - run.path.ts[::-1], run.path.xs[::-1])
    again = tjx.account(back, mirrored, rule=rule)
    np.testing.assert_allclose(again.work, -run.work, atol=1e-12)
    np.testing.assert_allclose(again.heat, -run.heat, atol=1e-12)
    np.testing.assert_allclose(again.entropy.total, -run.entropy.total, atol=1e-12)
    twice = tjx.reverse(back)
    assert jax.tree.structure(twice) == jax.tree.structure(process)


@pytest.fixture(scope="module", params=FLOWS)
def coarse(request):
    process = general(FLOWS[request.param])
    return process, tjx.ensemble(
        process, COARSE, jax.random.key(3), 20_000, rule="kernel", save="all"
    )


def test_fluctuation_theorem_at_coarse_steps(coarse):
    """<exp(-R)> = 1 by the kernels; not so if the reversed run swam with the stream."""
    process, run = coarse
    r = np.asarray(run.entropy.total)
    sigmas.assert_within(np.exp(-r), 1.0, absolute=0.3)
    path = tjx.Path(*(v[:20] for v in run.path))
    ratio = tjx.path_ratio(process, tjx.reverse(process), path)
    np.testing.assert_allclose(ratio, r[:20], atol=1e-10)
    back = tjx.reverse(process)
    wrong = tjx.Process(process.system, back.protocol, back.initial, back.final)
    assert np.abs(tjx.path_ratio(process, wrong, path) - r[:20]).max() > 0.1


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_the_means_of_either_rule_are_those_of_moments(rule):
    """Where the flow swells: without its divergence, 0.6, the medium's entropy would be off by as much."""
    process = general(swelling)
    exact = tjx.evolve.moments(process, COARSE)
    fine = jnp.linspace(0.0, 1.0, 201)
    run = tjx.ensemble(process, fine, jax.random.key(4), 3000, rule=rule)
    sigmas.assert_within(np.asarray(run.work), float(exact.work[-1]), absolute=0.3)
    sigmas.assert_within(
        np.asarray(run.entropy.medium), float(exact.entropy.medium[-1]), absolute=0.3
    )


def test_the_work_of_a_compressible_flow_by_hand():
    """x0 -> x1 in dt: W = f o (dx - u dt) + u . grad U dt and the medium, by the trapezoid rule."""
    process = general(swelling)
    x0, x1, dt, lam = jnp.array([0.3, -0.2]), jnp.array([0.5, 0.4]), 0.5, 0.45
    ts = jnp.array([0.0, dt])
    found = tjx.account(process, tjx.Path(ts, jnp.stack([x0, x1])))
    u = lambda x: 0.3 * x + lam
    f = lambda x: 0.4 * jnp.roll(x, 1)
    slope = lambda x: 1.5 * (x - lam)
    dx = x1 - x0
    mid = lambda g: 0.5 * (g(x0) + g(x1))
    work = jnp.sum(mid(f) * dx) + dt * mid(lambda x: jnp.sum(u(x) * (slope(x) - f(x))))
    energy = lambda x, lam: 0.75 * jnp.sum((x - lam) ** 2)
    turn = energy(x0, lam) - energy(x0, 0.2) + energy(x1, 0.7) - energy(x1, lam)
    np.testing.assert_allclose(found.work, work + turn, rtol=1e-12)
    np.testing.assert_allclose(found.entropy.medium, found.heat - 2 * 0.3 * dt, rtol=1e-12)


def test_derivatives_and_refusals():
    """Through the flow by its parameter; and a flow of the wrong shape or kind is refused by name."""
    start = Gaussian(0.0, 0.5)

    def work(u):
        system = tjx.Overdamped(Harmonic(K), velocity=lambda x, lam: u * jnp.ones_like(x))
        process = tjx.Process(system, ramp(0.0, 0.0, 1.0), start)
        return tjx.simulate(process, COARSE, jax.random.key(5)).work

    step = 1e-5
    slope = (work(1.0 + step) - work(1.0 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(work)(1.0), slope, rtol=1e-6)
    with pytest.raises(TypeError, match="Overdamped.velocity must be a callable"):
        tjx.Overdamped(Harmonic(K), velocity=lambda x: x)
    spread = tjx.Overdamped(Harmonic(K), velocity=lambda x, lam: 3.0)
    with pytest.raises(ValueError, match=r"velocity\(x, lam\) must return an array of the shape"):
        tjx.simulate(tjx.Process(spread, ramp(0.0, 0.0, 1.0), start), COARSE, jax.random.key(5))
    bent = tjx.Overdamped(Harmonic(K), velocity=lambda x, lam: x**2)
    with pytest.raises(ValueError, match="force or flow is not linear"):
        tjx.evolve.moments(tjx.Process(bent, ramp(0.0, 0.0, 1.0), start), COARSE)
    hidden = tjx.Overdamped(Harmonic(K), lambda x, lam: -(x**3), velocity=lambda x, lam: x**3)
    with pytest.raises(ValueError, match="not linear"):
        tjx.evolve.moments(tjx.Process(hidden, ramp(0.0, 0.0, 1.0), start), COARSE)
