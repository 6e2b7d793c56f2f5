r"""Fluctuation theorems at every step size.

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
from chains import expand
from oracles import (
    EVERYTHING,
    GYRATOR,
    ROTATE,
    driven,
    everything_row,
    floats,
    grid,
    row,
    two_baths,
    whirling,
)

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian
from thermojax.potentials import DoubleWell
from thermojax.protocols import ramp

pytestmark = pytest.mark.usefixtures("optimised")


def coarse():
    """PHYSICS-style test case: drag, breathe and cool at once, in few and long steps (tau = 2)."""
    return driven(row((1.0, 0.5, 0.0), (0.0, 0.75, 0.0), (1.2, -0.2), t=2.0))


# ---------------------------------------------------------------------------- Gaussian path integrals


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


@eqx.filter_jit
def ratio(process, path):
    return tjx.path_ratio(process, tjx.reverse(process), path)


NAIVE = {2: 0.9000667939, 4: 0.9800125784, 8: 1.0057546383, 32: 1.0036405004}


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


@pytest.mark.parametrize(
    ("build", "n"),
    [
        pytest.param(lambda: whirling(ROTATE), 6, id="rotational"),
        pytest.param(lambda: misfit(gyrator()), 5, id="two baths, other final"),
        pytest.param(
            lambda: misfit(driven(everything_row(**EVERYTHING))), 3, id="everything, other final"
        ),
    ],
)
def test_kernel_rule_exactly(build, n):
    """A force that is no gradient, a bath per coordinate, any `final`, uneven steps: 1 to rounding, and <R> >= 0."""
    process = build()
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
        mobility, T = process.system.mobility(lam), process.system.temperature(lam)
        variance = jnp.broadcast_to(2 * mobility * T * (t1 - t0), x.shape)
        return x + mobility * process.system.total_force(x, lam) * (t1 - t0), 0.98 * variance

    @eqx.filter_jit
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


def quartic_well():
    """(x^2 - 1)^2 - a x, a from 0 to 1.5."""
    system = tjx.Overdamped(DoubleWell(1.0))
    ends = (Boltzmann(system, a) for a in (0.0, 1.5))
    return tjx.Process(system, ramp(0.0, 1.5, 1.0), *ends)


def test_kernel_rule_with_a_quartic_potential():
    """dt = 0.02, where the turns alone give 0.98704(60)."""
    process, ts = quartic_well(), grid(1.0, 50)
    trajectory = tjx.ensemble(process, ts, jax.random.key(33), 250_000, rule="kernel")
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


def test_reversal_of_a_stored_path():
    """R of the reversed path in the reversed process is -R, path by path."""
    process, ts = coarse(), grid(2.0, 4)
    path = tjx.ensemble(process, ts, jax.random.key(36), 100, save="all").path
    turned = tjx.Path(tjx.reverse_grid(process, ts), path.xs[:, ::-1], path.ok)
    for rule in ("alternating", "kernel"):
        there = tjx.account(process, path, rule=rule)
        back = tjx.account(tjx.reverse(process), turned, rule=rule)
        assert np.allclose(there.entropy.total, -back.entropy.total, atol=1e-11)
        assert np.allclose(there.work, -back.work, atol=1e-11)
