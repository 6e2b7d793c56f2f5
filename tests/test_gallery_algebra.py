"""The examples of linear algebra by a device and of gradient descent as a driven system: small, against what is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from scripts import example


@pytest.fixture(scope="module", autouse=True)
def promoted():
    """Examples are written for users, whose promotion is JAX's own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def algebra():
    return example("linear_algebra")


@pytest.fixture(scope="module")
def sgd():
    return example("sgd")


@pytest.fixture(scope="module")
def flow():
    return example("temperature_flow")


def test_numbers_of_a_matrix(algebra):
    x = jnp.linalg.solve(algebra.A, algebra.B)
    np.testing.assert_allclose(x, [0.772374, -1.089494, 0.826848], atol=5e-7)
    np.testing.assert_allclose(0.5 * algebra.B @ x, 1.137646, atol=5e-7)
    np.testing.assert_allclose(0.5 * jnp.linalg.slogdet(algebra.A)[1], 0.471953, atol=5e-7)
    off, heat = algebra.relaxed(2.0)
    np.testing.assert_allclose(off, 0.282909, atol=5e-7)
    # what the relaxation gives off is the energy that it loses
    assert heat < 1.137646
    np.testing.assert_allclose(algebra.relaxed(40.0), [0, 1.137646], atol=5e-7)


def test_a_device_solves(algebra):
    """Standard errors 0.011 of the error's length, 0.017 of the dissipation, 0.024 of the trace; biases of 0.12, 0.18 and
    0.25 would be seen."""
    row = algebra.solve(8000, 50)
    sigmas.assert_within((row["off"], row["off_error"]), 0.282909, absolute=0.12)
    sigmas.assert_within((row["dissipated"], row["dissipated_error"]), 1.137646, absolute=0.18)
    trace = np.trace(row["inverse"]), row["trace_error"]
    sigmas.assert_within(trace, np.trace(np.linalg.inv(algebra.A)), absolute=0.25)
    # the control: half of it, as if b were loaded slowly
    sigmas.assert_biased((row["dissipated"], row["dissipated_error"]), 0.5 * 1.137646)


def test_a_determinant_is_a_free_energy(algebra):
    row = algebra.half_log_det(8000, 50, 2.0)
    for name in ("jarzynski", "bar"):
        got = row[name], row[name + "_error"]
        sigmas.assert_within(got, 0.471953, absolute=0.04)
    sigmas.assert_biased((row["work"], row["work_error"]), 0.471953)  # the mean work is above


def test_two_ways_to_step(algebra):
    """The exact step on the quadratic goes to its minimum; the loss of the network falls faster along it."""
    ways = [algebra.train(how, 5, 1, 1.0, width=2)["loss"] for how in ("gradient", "exact")]
    assert ways[0][0] == ways[1][0]
    assert ways[1][-1] < ways[0][-1] < ways[0][0]


def test_two_weights(sgd):
    """The formula rho^2 (a - b)^2 / (1 - rho^2)(a + b), at any rate, and the steps' own chain against both limits."""
    c = np.array([[1.0, 0.6], [0.6, 1.0]])
    for eta in (0.1, 1e-3):
        cov, after, per_step = sgd.chain(np.diag([1.0, 4.0]), c, eta)
        np.testing.assert_allclose(cov[0, 0], eta / (2 - eta), rtol=1e-12)  # 0.0526316 at 0.1
        assert per_step / eta == pytest.approx(1.0125, rel=1.2 * eta)
        assert sgd.seen(cov, after, eta)[1] == pytest.approx(1.0125, rel=4 * eta)
    # the control: noise that commutes with the Hessian drives nothing
    for noise in (np.eye(2), np.diag([1.0, 4.0])):
        cov, after, per_step = sgd.chain(np.diag([1.0, 4.0]), noise, 0.1)
        assert abs(per_step) < 1e-12
        np.testing.assert_allclose(sgd.seen(cov, after, 0.1)[0], 0, atol=1e-15)


def test_their_ledger(sgd):
    """Standard errors 0.013 of the steps' own production, 0.0011 of the variance, 0.017 of the fine ledger, whose step
    makes it low by some 0.03; biases of 0.3, 0.02 and 0.3 would be seen."""
    row = sgd.plane(4000, 40)
    assert row["residual"] < 1e-14
    assert row["exact"] == pytest.approx(1.0125, rel=1e-9)
    sigmas.assert_within((row["steps"], row["steps_error"]), row["steps_exact"], absolute=0.3)
    variance = row["variance"], row["variance_error"]
    sigmas.assert_within(variance, 0.0526316, absolute=0.02)
    sigmas.assert_within((row["ledger"], row["ledger_error"]), 1.0125, absolute=0.3)
    sigmas.assert_biased((row["ledger"], row["ledger_error"]), 2 * 1.0125)


def test_a_radius(sgd):
    """Standard error 0.0003, and d for d - 1 is 0.009."""
    row = sgd.radius(100, 1500)
    assert row["limit"] == pytest.approx(1.870829, abs=5e-7)
    sigmas.assert_within((row["ours"], row["error"]), row["finite"], absolute=0.01)
    sigmas.assert_biased(
        (row["ours"], row["error"]), row["limit"] * (50 / 49) ** 0.25
    )  # d for d - 1


def test_a_network_goes_in_circles(sgd):
    """At a minimum of a real network, H > 0; the currents of its training are those of the linear theory."""
    problem = sgd.network()
    each, (xs, ys), theta, h, c = problem
    assert np.linalg.eigvalsh(h).min() > 1e-3
    slope = jax.grad(lambda w: jnp.mean(jax.vmap(each, (None, 0, 0))(w, xs, ys)))(theta)
    assert jnp.abs(slope).max() < 1e-12
    found = sgd.currents(problem, 0.1, 10, 300, 30)
    row = found["rows"]["area 23"]
    sigmas.assert_within((row["measured"], row["error"]), row["predicted"], bias=1.0)
    sigmas.assert_biased((row["measured"], row["error"]), 0.0)  # it does go round


def test_a_flow_of_constant_volume(flow):
    """Its densities are normalised at every temperature, and powers of each other; ln Z of the well by reweighting."""
    net = flow.Flow(4, 8, jax.random.key(0))
    net = flow.eqx.tree_at(lambda f: f.stretch, net, jnp.array([0.3, -0.1]))
    z = jnp.array([0.4, -1.2])
    np.testing.assert_allclose(net.inverse(net(z)), z, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.slogdet(jax.jacfwd(net)(z))[1], 0.2, atol=1e-12)
    line = jnp.linspace(-12.0, 12.0, 241)
    places = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
    for temperature in (1.0, 2.0):
        log_p = jax.jit(jax.vmap(net.log_prob, (0, None)))(places, temperature)
        np.testing.assert_allclose(jnp.sum(jnp.exp(log_p)) * 0.01, 1, rtol=1e-6)
    u = jax.vmap(flow.energy)(places)
    for temperature in (1.0, 2.0):
        _, _, log_z, energy, _ = flow.table(temperature)
        p = jnp.exp(-u / temperature)
        np.testing.assert_allclose(jnp.log(jnp.sum(p) * 0.01), log_z, rtol=1e-6)
        np.testing.assert_allclose(jnp.sum(p * u) / jnp.sum(p), energy, rtol=1e-6)
    row = flow.by_ramp(flow.equilibrium(1.0), flow.table(1.0)[2], 2.0, 0.0, 20_000)
    got = row["log_z"], row["log_z_error"]
    sigmas.assert_within(got, flow.table(2.0)[2], absolute=0.1)
    sigmas.assert_biased(got, flow.table(1.0)[2] + np.log(4.0))  # as of four springs, not two
