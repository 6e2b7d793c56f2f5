r"""Fluctuation theorems at every step size, the order of the alternating rule, and the noise under both.

Where the system is linear, R and W are quadratic in the normals that make the path, so their averages over all paths are
Gaussian integrals, done here by linear algebra: no sampling, no error bar.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import sigmas
from chains import means, order
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
    row,
    stiffness_ramp_row,
    two_baths,
    whirling,
)
from scipy import stats

import thermojax as tjx
from thermojax._noise import BLOCK, Noise
from thermojax._solvers import _Kick, euler, heun
from thermojax.densities import Boltzmann, Gaussian
from thermojax.potentials import DoubleWell, Quartic
from thermojax.protocols import ramp

STEPPERS = {"euler": euler, "heun": heun}


def coarse():
    """PHYSICS-style test case: drag, breathe and cool at once, in few and long steps (tau = 2)."""
    return driven(row((1.0, 0.5, 0.0), (0.0, 0.75, 0.0), (1.2, -0.2), t=2.0))


# ---------------------------------------------------------------------------- Gaussian path integrals


def chain(process, ts, stepper):
    """The path as a function of its normals, `(n + 1, d)`, by a step of the library."""
    system, start = process.system, process.initial.gaussian()
    lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))

    def path(normals):
        x0 = start.mean + jnp.linalg.cholesky(start.cov) @ normals[0]

        def step(x, now):
            lam, dt, z = now
            mobility = system.mobility_at(lam)
            kick = jnp.sqrt(2 * mobility * system.temperature_at(lam) * dt) * z
            x = stepper(lambda x: mobility * system.total_force(x, lam), x, dt, kick)
            return x, x

        _, xs = jax.lax.scan(step, x0, (lams, jnp.diff(ts), normals[1:]))
        return tjx.Path(ts, jnp.concatenate([x0[None], xs]))

    return path, start.mean.shape[0]


@eqx.filter_jit
def _paths(process, ts, scheme, normals):
    return jax.vmap(chain(process, ts, STEPPERS[scheme])[0])(normals).xs


def expand(process, ts, scheme, of):
    """Constant, gradient and Hessian of a quadratic functional of the path, in the normals: by polarisation."""
    d = len(process.initial.gaussian().mean)
    size = d * len(ts)
    eye = np.eye(size)
    i, j = np.triu_indices(size, 1)
    probe = np.random.default_rng(1).normal(size=(1, size))
    points = np.concatenate([np.zeros((1, size)), eye, -eye, eye[i] + eye[j], probe])
    xs = _paths(process, ts, scheme, jnp.asarray(points.reshape(len(points), -1, d)))
    values = np.asarray(of(process, tjx.Path(ts, xs)))
    c, plus, minus = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    b, H = 0.5 * (plus - minus), np.diag(plus + minus - 2 * c)
    H[i, j] = H[j, i] = values[2 * size + 1 : -1] - plus[i] - plus[j] + c
    there = c + b @ probe[0] + 0.5 * probe[0] @ H @ probe[0]
    assert np.isclose(there, values[-1], rtol=1e-10, atol=1e-10), "not quadratic"
    return c, b, H


def integrals(process, ts, scheme, of):
    """(<R>, <e^-R>) of a quadratic functional of the path, over all paths."""
    c, b, H = expand(process, ts, scheme, of)
    root = np.linalg.cholesky(
        np.eye(len(b)) + H
    )  # positive definite, or the average does not exist
    half = scipy.linalg.solve_triangular(root, b, lower=True)
    return c + 0.5 * np.trace(H), np.exp(0.5 * half @ half - c) / np.prod(np.diag(root))


def alternating(process, path):
    return tjx.account(process, path).entropy.total


def kernel(process, path):
    return tjx.account(process, path, rule="kernel").entropy.total


def ratio(process, path):
    return tjx.path_ratio(process, tjx.reverse(process), path)


def work(process, path):
    return tjx.account(process, path).work


NAIVE = {2: 0.9000667939, 4: 0.9800125784, 8: 1.0057546383, 16: 1.0059928001, 32: 1.0036405004}


@pytest.mark.smoke
@pytest.mark.parametrize("n", NAIVE)
def test_every_step_size_exactly(n):
    """Drag, breathe and cool: the turns alone (the alternating rule on Euler's path) miss <e^-R> = 1, the kernels do not."""
    process, ts = coarse(), grid(2.0, n)
    _, naive = integrals(process, ts, "euler", alternating)
    assert naive == pytest.approx(NAIVE[n], abs=6e-11)
    mean, exact = integrals(process, ts, "euler", kernel)
    assert exact == pytest.approx(1.0, abs=1e-12)
    assert mean > 0
    assert integrals(process, ts, "euler", ratio) == pytest.approx((mean, exact), abs=1e-12)


def gyrator():
    return two_baths(**floats(GYRATOR), t=1.0)


def misfit(process):
    """The same process with an arbitrary `final`: R is then no entropy, but still a log-ratio."""
    d = jax.eval_shape(process.initial.sample, jax.random.key(0)).shape[0]
    other = Gaussian(0.3 * jnp.ones(d), 0.35 * jnp.ones(d))
    return tjx.Process(process.system, process.protocol, process.initial, other)


@pytest.mark.parametrize("final", ["own", "other"])
@pytest.mark.parametrize(
    ("build", "n"),
    [
        (lambda: whirling(ROTATE), 6),
        (gyrator, 5),
        (lambda: driven(everything_row(**EVERYTHING)), 3),
    ],
    ids=["rotational", "two baths", "everything"],
)
def test_kernel_rule_exactly(build, n, final):
    """A force that is no gradient, a bath per coordinate, any `final`, uneven steps: 1 to rounding, and <R> >= 0."""
    process = build() if final == "own" else misfit(build())
    ts = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.linspace(0.5, 1.5, n))]) / n
    for of in (kernel, ratio):
        mean, exact = integrals(process, ts, "euler", of)
        assert exact == pytest.approx(1.0, abs=1e-11)
        assert mean > 0
    _, naive = integrals(process, ts, "euler", alternating)
    assert abs(naive - 1) > 1e-3
    _, wrong = integrals(process, ts, "heun", kernel)  # the kernels are those of Euler's step only
    assert abs(wrong - 1) > 1e-4


def test_integral_sees_a_wrong_kernel():
    """Control: the backward kernel at the control of the next step, instead of that of the same step."""

    def shifted(process, x, t0, t1):
        lam = process.protocol(t0)
        mobility, T = process.system.mobility_at(lam), process.system.temperature_at(lam)
        variance = jnp.broadcast_to(2 * mobility * T * (t1 - t0), x.shape)
        return x + mobility * process.system.total_force(x, lam) * (t1 - t0), 0.98 * variance

    def wrong(process, path):
        late = tjx.path_ratio(process, tjx.reverse(process), path, kernels=(tjx.euler, shifted))
        return late

    _, exact = integrals(coarse(), grid(2.0, 8), "euler", wrong)
    assert exact == pytest.approx(1.0, abs=1e-12)  # any normalised backward chain will do ...

    def unnormalised(process, path):
        return wrong(process, path) + 0.5 * 8 * jnp.log(0.98)

    _, wrong_too = integrals(coarse(), grid(2.0, 8), "euler", unnormalised)
    assert abs(wrong_too - 1) > 0.05  # ... as long as it is normalised


# ---------------------------------------------------------------------------- the same over sampled paths

SIZE = 1_000_000


@pytest.fixture(scope="module", params=[4, 8], ids=["dt=0.5", "dt=0.25"])
def sampled(request):
    n = request.param
    process, ts = coarse(), grid(2.0, n)
    return n, process, ts, tjx.ensemble(process, ts, jax.random.key(31), SIZE, rule="kernel")


def test_kernel_rule_over_paths(sampled):
    n, process, ts, trajectory = sampled
    total = trajectory.entropy.total
    sigmas.assert_within(tjx.estimators.integral_fluctuation(total), 1.0)
    sigmas.assert_sees(tjx.estimators.integral_fluctuation(total), 1.0)
    mean, _ = integrals(process, ts, "euler", kernel)
    sigmas.assert_within(total, mean)
    assert float(jnp.mean(total)) > 0


def test_naive_rule_over_paths(sampled):
    """Euler's path with the alternating rule is off by what the integral says; the same key gives the same path."""
    n, process, ts, trajectory = sampled
    plain = tjx.ensemble(process, ts, jax.random.key(31), SIZE, solver=dfx.Euler())
    assert np.allclose(plain.path.xs, trajectory.path.xs, atol=1e-12)
    assert np.allclose(plain.work, trajectory.work, atol=1e-12)
    estimate = tjx.estimators.integral_fluctuation(plain.entropy.total)
    sigmas.assert_within(estimate, NAIVE[n])
    if n == 4:
        sigmas.assert_biased(estimate, 1.0)


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


def quartic_well():
    """(x^2 - 1)^2 - a x, a from 0 to 1.5."""
    system = tjx.Overdamped(DoubleWell(1.0))
    ends = (Boltzmann(system, a) for a in (0.0, 1.5))
    return tjx.Process(system, ramp(0.0, 1.5, 1.0), *ends)


def test_kernel_rule_with_a_quartic_potential():
    """dt = 0.02, where the turns alone give 0.98704(60)."""
    process, ts = quartic_well(), grid(1.0, 50)
    trajectory = tjx.ensemble(process, ts, jax.random.key(33), 400_000, rule="kernel")
    assert np.asarray(trajectory.path.ok).all()
    total = trajectory.entropy.total
    sigmas.assert_within(tjx.estimators.integral_fluctuation(total), 1.0)
    reduced = tjx.reduced_work(process, trajectory)
    sigmas.assert_within(tjx.estimators.jarzynski(reduced), -0.785857, bias=0.03)
    assert float(jnp.mean(total)) > 0
    naive = tjx.estimators.integral_fluctuation(trajectory.work + 0.785857)
    sigmas.assert_within(sigmas.difference(naive, (0.98704, 0.0006)), 0.0, absolute=0.02)
    sigmas.assert_biased(naive, 1.0)


BOUNDED = {
    "sigmoid": lambda r: 1 / (1 + np.exp(-r)),
    "cos": np.cos,
    "below 1/2": lambda r: (r < 0.5).astype(float),
}


@pytest.fixture(scope="module")
def crooks():
    """R of forward paths, and of paths of the reversed process, in four steps; and of one that isn't reversed."""
    process, ts = misfit(coarse()), grid(2.0, 4) ** 1.2 / 2**0.2
    back = tjx.reverse(process)
    there = tjx.ensemble(process, ts, jax.random.key(34), 500_000, rule="kernel")
    mirrored = tjx.reverse_grid(process, ts)
    again = tjx.ensemble(back, mirrored, jax.random.key(35), 500_000, rule="kernel")
    wrong = tjx.ensemble(back, ts, jax.random.key(35), 500_000, rule="kernel")
    return tuple(np.asarray(t.entropy.total) for t in (there, again, wrong))


@pytest.mark.parametrize("name", BOUNDED)
def test_crooks(crooks, name):
    """<f(R) e^-R> forward = <f(-R)> backward, at any step, on the mirrored grid."""
    f = BOUNDED[name]
    there, back, wrong = crooks
    weighted = f(there) * np.exp(-there)
    sigmas.assert_within(sigmas.difference(weighted, f(-back)), 0.0, absolute=0.03)
    sigmas.assert_sees(sigmas.difference(weighted, f(-back)), 0.0, absolute=0.03)


def test_crooks_needs_the_mirrored_grid(crooks):
    there, _, wrong = crooks
    f = BOUNDED["below 1/2"]
    sigmas.assert_biased(sigmas.difference(f(there) * np.exp(-there), f(-wrong)), 0.0)


def test_reversal_of_a_stored_path(crooks):
    """R of the reversed path in the reversed process is -R, path by path."""
    process, ts = coarse(), grid(2.0, 4)
    path = tjx.ensemble(process, ts, jax.random.key(36), 100, save="all").path
    turned = tjx.Path(tjx.reverse_grid(process, ts), path.xs[:, ::-1], path.ok)
    for rule in ("alternating", "kernel"):
        there = tjx.account(process, path, rule=rule)
        back = tjx.account(tjx.reverse(process), turned, rule=rule)
        assert np.allclose(there.entropy.total, -back.entropy.total, atol=1e-11)
        assert np.allclose(there.work, -back.work, atol=1e-11)


# ---------------------------------------------------------------------------- order of the alternating rule

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
                x = heun(
                    lambda x: system.total_force(x, lam), x, jnp.asarray(1 / n), jnp.sqrt(2.0) * dw
                )
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


# ---------------------------------------------------------------------------- noise


def normals(dtype, paths=4 * BLOCK, steps=500, levels=1, dim=1, seed=51):
    noise = Noise(jax.random.key(seed), dim, paths, np.dtype(dtype))
    found = jax.jit(jax.vmap(lambda i: noise(i, levels)))(jnp.arange(steps))
    return [np.asarray(z, np.float64) for z in found]  # each (steps, paths, dim)


PRECISIONS = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_increments_are_normal(dtype):
    """Kolmogorov–Smirnov over a million of them; two per cent of the width would be seen, and so would a shift."""
    z = normals(dtype)[0].ravel()
    assert z.size == 1_000_000
    sigmas.assert_plausible(stats.kstest(z, "norm").pvalue)
    for wrong in (1.02 * z, 0.98 * z, z + 0.01):
        sigmas.assert_implausible(stats.kstest(wrong, "norm").pvalue)


def test_increments_of_a_run_are_normal():
    """Free diffusion, as a run saves it: x_{k+1} - x_k has variance 2 mu T dt, on an uneven grid."""
    system = tjx.Overdamped(lambda x, lam: 0 * jnp.sum(x), mobility=0.5, temperature=1.6)
    ts = jnp.array([0.0, 0.1, 0.15, 0.4, 1.0])
    process = tjx.Process(system, lambda t: t, Gaussian(0.0, 1.0))
    path = tjx.ensemble(process, ts, jax.random.key(52), 250_000, save="all").path
    z = np.diff(path.xs[..., 0], axis=1) / np.sqrt(2 * 0.5 * 1.6 * np.diff(ts))
    sigmas.assert_plausible(stats.kstest(z.ravel(), "norm").pvalue)
    sigmas.assert_implausible(stats.kstest(1.02 * z.ravel(), "norm").pvalue)
    sigmas.assert_within(z[:, 0] * z[:, 1], 0.0, absolute=0.02)
    sigmas.assert_within(
        z[:, 0] * np.asarray(path.xs)[:, 0, 0], 0.0, absolute=0.02
    )  # and of the start


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_increments_are_independent(dtype):
    """Between neighbouring steps, paths, blocks and coordinates: products and products of squares average as they should."""
    z = normals(dtype, dim=2, steps=250, seed=53)[0]
    blocks = z.reshape(250, 4, BLOCK, 2)
    pairs = {
        "steps": (z[:-1], z[1:]),
        "paths": (z[:, :-1], z[:, 1:]),
        "blocks": (blocks[:, :-1], blocks[:, 1:]),
        "coordinates": (z[..., 0], z[..., 1]),
    }
    for a, b in pairs.values():
        sigmas.assert_within((a * b).ravel(), 0.0, absolute=0.02)
        sigmas.assert_within(((a**2 - 1) * (b**2 - 1)).ravel(), 0.0, absolute=0.04)
    a, b = pairs["steps"]
    sigmas.assert_biased((a * (b + 0.02 * a)).ravel(), 0.0)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_no_increment_is_drawn_twice(dtype):
    """No four neighbouring paths share their increments with any others, in any block, at any step."""
    z = normals(dtype, steps=200, seed=54)[0].reshape(-1, 4)
    assert len(np.unique(z, axis=0)) == len(z)
    if dtype is np.float64:
        assert len(np.unique(z)) == z.size
    again = np.concatenate([z, z[17:18]])  # control
    assert len(np.unique(again, axis=0)) < len(again)


def test_keys_give_other_increments():
    a, b = (normals(np.float64, steps=250, seed=s)[0] for s in (55, 56))
    sigmas.assert_within((a * b).ravel(), 0.0, absolute=0.02)
    sigmas.assert_biased((a * (b + 0.02 * a)).ravel(), 0.0)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_levy_areas(dtype):
    """H and K are normal, independent of W and of each other, of variances dt/12 and dt/720; W is the same without."""
    drawn = normals(dtype, steps=250, levels=3, seed=57)
    assert np.array_equal(drawn[0], normals(dtype, steps=250, levels=1, seed=57)[0])
    dt = 0.3
    kick = _Kick(jnp.ones(()), tuple(map(jnp.asarray, drawn)))
    area = kick.contr(jnp.asarray(0.1), jnp.asarray(0.1 + dt), use_levy=True)
    parts = [np.asarray(v).ravel() for v in (area.W, area.H, area.K)]
    for part, c in zip(parts, (1, 12, 720), strict=True):
        sigmas.assert_within(part**2 * c / dt, 1.0)
        sigmas.assert_plausible(stats.kstest(part * np.sqrt(c / dt), "norm").pvalue)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        sigmas.assert_within(drawn[i].ravel() * drawn[j].ravel(), 0.0, absolute=0.02)
    sigmas.assert_sees(parts[1] ** 2 * 12 / dt, 1.0)
    assert np.array_equal(
        np.asarray(kick.contr(jnp.asarray(0.1), jnp.asarray(0.1 + dt))).ravel(), parts[0]
    )
