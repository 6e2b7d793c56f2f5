"""What a diffusion model says of data, in nats: by its flow, as a bound, and point by point from its denoising errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas

from thermojax import diffusion
from thermojax.densities import Gaussian
from thermojax.diffusion import Uniform

pytestmark = pytest.mark.usefixtures("unoptimised")

COV = jnp.array([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])


def ready(data, schedule, **parts):
    """A noising whose prior is its own end, and its exact score."""
    process = diffusion.noising(data, schedule, **parts)
    end = diffusion.marginal(process, schedule.t1)
    process = diffusion.noising(data, schedule, prior=end, **parts)
    return process, diffusion.score(process)


@pytest.fixture(scope="module")
def tilted():
    """Three coordinates that correlate: the Jacobian of the flow is not diagonal."""
    return *ready(Gaussian(jnp.array([0.3, -0.2, 0.1]), COV), Uniform(5.0, -3.0)), jnp.array(
        [0.8, 0.1, 0.4]
    )


# ---- the flow in steps


def test_the_flow_in_steps(tilted):
    """Fourth order, in the density and in the state; there and back."""
    process, exact, x = tilted
    density = process.initial.log_prob(x)
    off = [diffusion.flow_log_prob(process, exact, x, steps=n) - density for n in (12, 24)]
    assert abs(off[1]) < 1e-6
    assert 12 < off[0] / off[1] < 20
    there = diffusion.flow(process, exact, x, towards="noise", steps=24)
    finely = diffusion.flow(process, exact, x, towards="noise", rtol=1e-9)
    np.testing.assert_allclose(there, finely, atol=1e-6)
    np.testing.assert_allclose(diffusion.flow(process, exact, there, steps=24), x, atol=1e-6)
    broken = lambda x, lam: x * jnp.nan
    assert jnp.isnan(diffusion.flow_log_prob(process, broken, x, steps=4))


def test_the_divergence_by_probes(tilted):
    """Unbiased, with the variance that is said: here all Jacobians commute, and J = (1/2) ln of the ratio of covariances."""
    process, exact, x = tilted
    prior, first = process.final.cov, process.initial.cov
    values, vectors = np.linalg.eigh(np.asarray(COV))
    a, s = (f(jnp.array([5.0, -3.0])) for f in (process.system.signal, process.system.noise))
    ratio = (a[1] ** 2 * values + s[1] ** 2) / (a[0] ** 2 * values + s[0] ** 2)
    j = vectors @ np.diag(0.5 * np.log(ratio)) @ vectors.T
    log_det = 0.5 * np.linalg.slogdet(np.asarray(prior))[1] - 0.5 * np.linalg.slogdet(first)[1]
    np.testing.assert_allclose(np.trace(j), log_det, rtol=1e-10)
    variance = 0.5 * np.sum((2 * (j - np.diag(np.diag(j)))) ** 2)
    keys = jax.random.split(jax.random.key(0), 4000)
    density = process.initial.log_prob(x)
    for probes in (1, 4):
        drawn = jax.vmap(
            lambda key, n=probes: diffusion.flow_log_prob(
                process, exact, x, steps=16, probes=n, key=key
            )
        )(keys)
        sigmas.assert_within(drawn - density, 0.0, absolute=0.2)
        sigmas.assert_within((drawn - density) ** 2, variance / probes, bias=0.4)


def test_one_probe_is_enough_in_one_dimension():
    process, exact = ready(Gaussian(0.3, 0.25), Uniform(5.0, -3.0))
    x = jnp.array([0.7])
    got = diffusion.flow_log_prob(process, exact, x, steps=16, probes=1, key=jax.random.key(1))
    np.testing.assert_allclose(got, diffusion.flow_log_prob(process, exact, x, steps=16))


class Net(eqx.Module):
    """A small network that adds to a score, smooth in all it takes."""

    score: eqx.Module
    mlp: eqx.nn.MLP

    def __init__(self, score, key):
        self.score = score
        mlp = eqx.nn.MLP(4, 3, 8, 1, activation=jnp.tanh, key=key)
        self.mlp = jax.tree.map(
            lambda v: v.astype(jnp.asarray(0.0).dtype) if eqx.is_inexact_array(v) else v, mlp
        )

    def __call__(self, x, lam):
        return self.score(x, lam) + self.mlp(jnp.concatenate([x, lam[None] / 8]))


def by_differences(fn, net, tolerance=1e-6):
    """The gradient of `fn(net)` by the weights, along one direction of all of them, against a central difference."""
    weights = eqx.is_inexact_array
    moving = eqx.tree_at(lambda n: n.score, eqx.filter(net, weights), None)
    leaves, shape = jax.tree.flatten(moving)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    way = [jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)]
    way = jax.tree.unflatten(shape, way)

    @eqx.filter_jit
    def along(h):
        return fn(
            eqx.tree_at(
                lambda n: n.mlp,
                net,
                eqx.apply_updates(net.mlp, jax.tree.map(lambda v: h * v, way.mlp)),
            )
        )

    slope = eqx.filter_grad(along)(jnp.asarray(0.0))
    difference = (along(jnp.asarray(1e-5)) - along(jnp.asarray(-1e-5))) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=tolerance)
    return slope


@pytest.mark.parametrize(
    "how", [{}, {"probes": 2, "key": jax.random.key(2)}], ids=["trace", "probes"]
)
def test_the_gradient_of_the_steps(tilted, how):
    process, exact, x = tilted
    net = Net(exact, jax.random.key(3))
    slope = by_differences(lambda n: diffusion.flow_log_prob(process, n, x, steps=8, **how), net)
    assert abs(slope) > 1e-3
