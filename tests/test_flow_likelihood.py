"""What a diffusion model says of data, in nats: by its flow, as a bound, and point by point from its denoising errors."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from jax.scipy.special import ndtr

import thermojax as tjx
from thermojax import diffusion, schedules
from thermojax.densities import Gaussian, Mixture
from thermojax.diffusion import EDM, VE, VP, Linear, Uniform

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
    grown = np.linalg.eigh(COV)[1] @ np.diag(np.sqrt(np.linalg.eigvalsh(process.final.cov)))
    grown = grown / np.sqrt(np.linalg.eigvalsh(process.initial.cov)) @ np.linalg.eigh(COV)[1].T
    moved = process.final.mean + grown @ (x - process.initial.mean)
    np.testing.assert_allclose(there, moved, atol=1e-6)
    np.testing.assert_allclose(diffusion.flow(process, exact, there, steps=24), x, atol=1e-6)
    broken = lambda x, lam: x * jnp.nan
    assert jnp.isnan(diffusion.flow_log_prob(process, broken, x, steps=4))


def test_the_flow_in_any_unit():
    """A Gaussian keeps its place in it, and its density: to one tolerance in metres and in nanometres."""
    seen = []
    for unit in (1.0, 1e-7):
        data = Gaussian(0.3 * unit, (0.5 * unit) ** 2)
        process, exact = ready(data, EDM(0.02 * unit, 8 * unit), kind=VE())
        first, last = process.initial, process.final
        x = jnp.array([0.7 * unit])
        there = diffusion.flow(process, exact, x, towards="noise")
        back = diffusion.flow(process, exact, there)
        log_prob = diffusion.flow_log_prob(process, exact, x)
        moved = last.mean + (x - first.mean) * jnp.sqrt(last.cov / first.cov)[0]
        np.testing.assert_allclose(there, moved, rtol=1e-4)
        np.testing.assert_allclose(back, x, rtol=1e-4)
        np.testing.assert_allclose(log_prob, first.log_prob(x), atol=1e-4)
        seen.append(np.array([there[0] / unit, back[0] / unit, log_prob + np.log(unit)]))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-9)


def test_steps_that_end_a_rounding_above_the_first_level():
    """For some numbers of steps their last level is above it, where an exact score was NaN."""
    parts = [Gaussian(-1.0, 0.01), Gaussian(1.0, 0.01)]
    process, exact = ready(Mixture(jnp.ones(2), parts), Uniform(4.7, -7.1))
    top = float(process.protocol(0.0).lam)
    above = [n for n in range(10, 40) if top < -7.1 + (n - 1) * ((top + 7.1) / n) + (top + 7.1) / n]
    assert above
    ended = diffusion.flow(process, exact, jnp.array([0.4]), steps=above[0])
    assert jnp.isfinite(ended).all()
    x, lam = jnp.array([0.9]), jnp.asarray(top)
    above_it = exact(x, jnp.nextafter(lam, jnp.inf))
    np.testing.assert_array_equal(above_it, exact(x, lam))
    with pytest.raises(ValueError, match="lies above the first level"):
        exact(x, lam + 1e-3)


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


def pull(x, lam):
    """The score of what the tilted one is not far from."""
    return -x


class Net(eqx.Module):
    """A small network that adds to a score, smooth in all it takes."""

    score: Callable
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
    moving = eqx.tree_at(
        lambda n: n.score, eqx.filter(net, weights), None, is_leaf=lambda v: v is None
    )
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
    process, _, x = tilted
    net = Net(pull, jax.random.key(3))
    slope = by_differences(lambda n: diffusion.flow_log_prob(process, n, x, steps=8, **how), net)
    assert abs(slope) > 1e-3


# ---- the likelihood of data


def gauss_hermite(density, fn, nodes=5):
    """The mean of `fn(x)` over a Gaussian of one coordinate; of what is quadratic, exactly."""
    x, weight = np.polynomial.hermite_e.hermegauss(nodes)
    xs = density.mean[None] + jnp.sqrt(density.cov.reshape(())) * jnp.asarray(x)[:, None]
    return float(jnp.asarray(weight / weight.sum()) @ jax.vmap(fn)(xs))


S0 = 0.725791353
DATA = Gaussian(1.0, 0.25)
EARLY = Linear(t0=1e-6)


def scaled(exact, e, x, lam):
    return (1 + e) * exact(x, lam)


def wrong(e):
    """The score of N(1, 1/4) under VP, too large by a share of e."""
    exact = diffusion.score(diffusion.noising(DATA, Linear(t0=0.0)))
    return eqx.Partial(scaled, exact, jnp.asarray(e))


@pytest.mark.parametrize(
    ("e", "ode", "sde"), [(0.1, 1.223029, 0.734631), (-0.1, 0.956968, 0.737361)]
)
def test_the_likelihoods_of_a_wrong_score(e, ode, sde):
    """Of the flow and of the SDE: two models that one score makes, and neither bounds the other."""
    process = diffusion.noising(DATA, EARLY)
    by_flow = lambda x: -diffusion.flow_log_prob(process, wrong(e), x, steps=96)
    np.testing.assert_allclose(gauss_hermite(process.initial, by_flow), ode, atol=1.5e-6)
    generation = diffusion.generate(process, wrong(e))
    ts = EARLY.t1 + EARLY.t0 - EARLY.time(jnp.linspace(-10.0, 16.0, 400))
    ts = jnp.concatenate([EARLY.t0[None], ts[(ts > EARLY.t0) & (ts < EARLY.t1)], EARLY.t1[None]])
    end = tjx.evolve.moments(generation, ts, rtol=1e-9)
    made = Gaussian(end.mean[-1], end.cov[-1])
    by_sde = gauss_hermite(process.initial, lambda x: -made.log_prob(x))
    np.testing.assert_allclose(by_sde, sde, atol=1.5e-6)


@pytest.mark.parametrize(
    ("sigma", "ode", "sde"),
    [
        (10.0, 1.419463277, 1.418939512),
        (20.0, 1.418994347, 1.418938545),
        (25.0, 1.418964961, 1.418938536),
        (30.0, 1.418952775, 1.418938534),
    ],
)
def test_the_likelihoods_of_the_toy_of_ve(sigma, ode, sde):
    """dx = sigma^t dw of N(0, 1), the exact score, generation from N(0, s^2) though p_T is wider by 1."""
    top, bottom = 20.0, -np.log((sigma**2 - 1) / (2 * np.log(sigma)))
    process = diffusion.noising(Gaussian(0.0, 1.0), Uniform(top, bottom), kind=VE())
    exact = diffusion.score(process)
    by_flow = lambda x: -diffusion.flow_log_prob(process, exact, x, steps=240)
    np.testing.assert_allclose(gauss_hermite(process.initial, by_flow), ode, atol=1e-6)
    end = tjx.evolve.moments(
        diffusion.generate(process, exact), jnp.linspace(0.0, 1.0, 201), rtol=1e-9
    )
    made = Gaussian(end.mean[-1], end.cov[-1])
    by_sde = gauss_hermite(process.initial, lambda x: -made.log_prob(x))
    np.testing.assert_allclose(by_sde, sde, atol=1e-6)


LATE = Linear(t0=0.05)  # where the noise of the first level adds .03 nats


@pytest.fixture(scope="module")
def rows():
    return jax.vmap(DATA.sample)(jax.random.split(jax.random.key(10), 4000))


def test_three_likelihoods_of_data(rows):
    """At the first level, of clean data, and of a sampler that stops: each is what it says, for the exact score."""
    process, _ = ready(DATA, LATE)
    found = diffusion.nll(process, wrong(0.0), rows, jax.random.key(11), steps=12)
    lam = LATE(LATE.t0).lam
    a, s = process.system.signal(lam), process.system.noise(lam)
    v = a**2 * 0.25 + s**2
    entropy = 0.5 * jnp.log(2 * jnp.pi * jnp.e * v)
    sigmas.assert_within(found.first, entropy, absolute=0.15)
    sigmas.assert_within(found.clean, S0, absolute=0.15)
    stopped = 0.5 * jnp.log(2 * jnp.pi * v / a**2) + 0.5 * 0.25 * a**2 / v
    sigmas.assert_within(found.stopped, stopped, absolute=0.15)
    assert stopped > S0
    # of these very rows: what the scale a makes of it, 0.015, is twenty times what is allowed
    at = a * (rows[:, 0] - 1)
    alone = 0.5 * jnp.mean(at**2 / v + jnp.log(2 * jnp.pi * v)) - jnp.log(a)
    np.testing.assert_allclose(found.stopped.value, alone, atol=7e-4)
    # what differs between the levels is seen to its own, small error
    adds = entropy - jnp.log(a) - S0
    share = 0.25 * a**2 / v
    sigmas.assert_within(found.hidden.rate, 0.5 * (1 - share), bias=0.4)
    np.testing.assert_allclose(found.hidden.slope.value, share, atol=2e-3)  # rests on the step
    tail = 0.5 * (1 - share) / share  # f/alpha, of which more noise makes too much
    sigmas.assert_within(found.hidden.value, tail, bias=0.4)
    assert adds < tail < 1.06 * adds
    apart = found.first.value - jnp.log(a) - found.hidden.value.value
    np.testing.assert_allclose(found.clean.value, apart, rtol=1e-12)
    assert found.hidden.value.stderr < 0.2 * found.first.stderr
    given = diffusion.nll(
        process, wrong(0.0), rows, jax.random.key(11), steps=12, slope=share, probes=1
    )
    np.testing.assert_allclose(
        given.hidden.value.value, found.hidden.rate.value / share, rtol=1e-12
    )
    np.testing.assert_allclose(given.first.value, found.first.value, rtol=1e-10)


def box(x, lam):
    """The score of U(-1, 1) under VE."""
    sd = jnp.exp(-0.5 * lam)
    return jax.grad(lambda x: jnp.log(jnp.sum(ndtr((x + 1) / sd) - ndtr((x - 1) / sd))))(x)


def atoms(x, lam):
    """The clean state of two atoms at 1 and -1 under VE."""
    return jnp.tanh(x * jnp.exp(lam))


def test_edges_and_atoms():
    """The entropy falls with e^{-lam/2} at edges, and without end at atoms, which is said."""
    schedule = Uniform(5.0, -4.0)
    data = 2 * jax.random.uniform(jax.random.key(12), (4000, 1)) - 1
    process = diffusion.noising(Gaussian(0.0, 1.0), schedule, kind=VE())  # only its ends are used
    found = diffusion.nll(process, box, data, jax.random.key(13), steps=1)
    y = np.linspace(-1.5, 1.5, 30001)
    p = 0.5 * np.asarray(ndtr((y + 1) * np.exp(2.5)) - ndtr((y - 1) * np.exp(2.5)))
    adds = -np.sum(p * np.log(np.maximum(p, 1e-300))) * (y[1] - y[0]) - np.log(2)
    sigmas.assert_within(found.hidden.value, adds, bias=1.1)
    sigmas.assert_within(found.hidden.rate, 0.5 * adds, bias=0.7)
    np.testing.assert_allclose(found.hidden.slope.value, 0.5, atol=0.1)
    two = jnp.where(data > 0, 1.0, -1.0)
    known = diffusion.nll(process, atoms, two[:500], jax.random.key(13), predicts="clean", steps=1)
    assert jnp.isnan(known.clean.value)
    assert not known.clean.reliable
    np.testing.assert_allclose(known.hidden.slope.value, 0.0, atol=1e-6)
    np.testing.assert_allclose(known.hidden.rate.value, 0.5, atol=0.05)
    assert jnp.isfinite(known.stopped.value)


# ---- the bound


def test_the_bound_of_data(rows):
    """Its three parts: the entropy at the first level, the score error, the mismatch of the end."""
    schedule = Linear(t0=1e-3)
    process = diffusion.noising(DATA, schedule)
    ends = jnp.stack([schedule(schedule.t0).lam, schedule(schedule.t1).lam])
    a, s = process.system.signal(ends), process.system.noise(ends)
    v = 0.25 * a**2 + s**2
    # K = (e^2/2) int s^2/v dlam, and y = x/a has variance v/a^2
    k = 0.005 * jnp.log((v[1] / a[1] ** 2) / (v[0] / a[0] ** 2))
    end = 0.5 * (v[1] - 1 - jnp.log(v[1])) + 0.5 * a[1] ** 2
    entropy = 0.5 * jnp.log(2 * jnp.pi * jnp.e * v[0])
    np.testing.assert_allclose(S0 + k + end, 0.78299, atol=1e-5)
    found = diffusion.elbo(process, wrong(0.1), rows, jax.random.key(14))
    sigmas.assert_within(found.first, -(entropy + k + end), absolute=0.15)
    sigmas.assert_within(found.clean, -0.78299, absolute=0.15)
    best = diffusion.elbo(process, wrong(0.0), rows, jax.random.key(14))
    sigmas.assert_within(best.first, -(entropy + end), absolute=0.15)
    # with the same key, what the score error costs is seen to a fraction of either error
    sigmas.assert_within(best.draws - found.draws, k, absolute=0.04)
    sigmas.assert_biased(best.draws - found.draws, k + 0.04)
    np.testing.assert_allclose(found.first.value, jnp.mean(found.draws), rtol=1e-10)
    below = found.first.value < best.first.value
    assert below
    adds = entropy - jnp.log(a[0]) - S0
    np.testing.assert_allclose(best.clean.value - best.first.value, adds, rtol=0.3)


# ---- point by point


def smoothed(process, x):
    r"""$\langle \ln p(a x + s\epsilon) \rangle$ at the first level."""
    lam = process.protocol(process.protocol.t0).lam
    a, s = process.system.signal(lam), process.system.noise(lam)
    return gauss_hermite(Gaussian(a * x, s**2), process.initial.log_prob, 40)


@pytest.mark.parametrize("kind", [VP(), VE()], ids=["VP", "VE"])
def test_a_point_of_a_gaussian(kind):
    """To rounding, against the Gaussian itself; within error, against another one."""
    process, exact = ready(DATA, Uniform(7.0, -9.0), kind=kind)
    x = jnp.array([0.4])
    density = smoothed(process, x)
    found = diffusion.denoising_log_prob(process, exact, x, jax.random.key(15), reference=DATA)
    np.testing.assert_allclose(found.first.value, density, rtol=1e-11)
    # the noise cancels there, and the extrapolation is left
    np.testing.assert_allclose(found.clean.value, DATA.log_prob(x), atol=3e-6)
    other = Gaussian(1.0, 0.4)
    found = diffusion.denoising_log_prob(process, exact, x, jax.random.key(15), reference=other)
    sigmas.assert_within(found.first, density, absolute=0.02)
    sigmas.assert_biased((found.first.value + 0.02, found.first.stderr), density)
    if isinstance(kind, VE):
        return
    against_end = diffusion.elbo(process, exact, x, jax.random.key(16))
    sigmas.assert_within(against_end.first, density, absolute=0.1)
    assert against_end.first.stderr > 2 * found.first.stderr
    rates = found.rate - against_end.rate
    assert np.sum(np.abs(rates) > 4 * np.hypot(found.stderr, against_end.stderr)) < 2


def test_a_point_in_any_unit():
    """Without a reference, too: in VE, whose data may have any; and one in another unit is told."""
    seen = []
    for unit in (1.0, 1e-7):
        data = Gaussian(0.3 * unit, (0.5 * unit) ** 2)
        process = diffusion.noising(data, EDM(0.01 * unit, 50 * unit), kind=VE())
        exact, x = diffusion.score(process), jnp.array([0.7 * unit])
        found = diffusion.denoising_log_prob(process, exact, x, KEY, size=2000)
        sigmas.assert_within(found.clean, data.log_prob(x), absolute=0.1)
        seen.append(found.clean.value + np.log(unit))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-9)
    with pytest.warns(UserWarning, match="more or less than the prior does"):
        off = diffusion.denoising_log_prob(
            process, exact, x, KEY, size=100, reference=Gaussian(0.3, 0.25)
        )
    assert abs(off.clean.value - data.log_prob(x)) > 5


def test_points_of_a_mixture():
    """One probable, one between the modes; vmapped."""
    parts = [Gaussian(-1.0, 0.04), Gaussian(1.0, 0.09)]
    process, exact = ready(Mixture(jnp.array([0.3, 0.7]), parts), Uniform(8.0, -8.0))
    reference = Gaussian(0.4, 0.915)
    xs = jnp.array([[0.9], [-0.3]])
    found = jax.vmap(
        lambda x, key: diffusion.denoising_log_prob(
            process, exact, x, key, reference=reference, nodes=40, size=4000
        )
    )(xs, jax.random.split(jax.random.key(17), 2))
    for i in range(2):
        one = jax.tree.map(lambda v, i=i: v[i], found.first)
        sigmas.assert_within(one, smoothed(process, xs[i]), absolute=0.25)
    assert found.first.value[0] - found.first.value[1] > 3


# ---- bits


def test_bits_per_dimension():
    """Seven bits for 256 values in [-1, 1]; and the bound holds for rounded data."""
    found = diffusion.bits_per_dim(3.2, 4, width=2 / 256)
    np.testing.assert_allclose(found.offset, 7.0)
    np.testing.assert_allclose(found.density, 0.8 / np.log(2))
    np.testing.assert_allclose(found.value, found.density + 7)
    assert found.stderr == 0
    other = diffusion.bits_per_dim(3.2, 4, width=2 / 255)
    np.testing.assert_allclose(found.value - other.value, 0.0056467, atol=1e-6)
    estimate = tjx.estimators.mean(jnp.arange(20.0))
    found = diffusion.bits_per_dim(estimate, 2, width=1.0)
    np.testing.assert_allclose(found.value, 9.5 / np.log(4))
    np.testing.assert_allclose(found.stderr, estimate.stderr / np.log(4))
    # a Gaussian of a width of two bins, rounded and dequantised
    edges = np.arange(-20, 21) - 0.5
    mass = np.diff(np.asarray(ndtr(edges / 2)))
    fine = np.linspace(-0.5, 0.5, 201)
    nats = np.sum(mass[:, None] * (0.5 * ((edges[:-1, None] + 0.5 + fine[None]) / 2) ** 2)) / 201
    nats += np.log(2 * np.sqrt(2 * np.pi))
    code = -np.sum(mass * np.log2(np.maximum(mass, 1e-300)))
    got = diffusion.bits_per_dim(nats, 1, width=1.0).value
    assert code < got < code + 0.03


# ---- the entropy of a step


class Curve(schedules.AbstractCurve):
    """That of N(0, 1/4)."""

    second_moment = 0.25
    dim = 1

    def __call__(self, lam):
        return 0.25 / (1 + 0.25 * jnp.exp(lam))


@pytest.mark.parametrize(
    ("betas", "costs"),
    [
        ((10, 0.01, 0.7), (5.908e-6, 0.068343, 2.470462)),
        ((100, 1e-3, 0.2), (5.8e-11, 0.010961, 1.250134)),
        ((1000, 1e-4, 0.02), (0.0, 0.001092, 0.456348)),
    ],
    ids=["10", "100", "1000"],
)
def test_chains_of_linear_betas(betas, costs):
    """-ELBO - S_0 of the three variances in use; the posterior's is zero for the decoder, which gets the forward one."""
    number, first, last = betas
    log_a2 = jnp.cumsum(jnp.log1p(-jnp.linspace(first, last, number)))
    lam, curve = log_a2 - jnp.log(-jnp.expm1(log_a2)), Curve()
    kernels = diffusion.chain(lam)
    posterior = kernels.posterior.at[0].set(kernels.noise[0])
    entropy = 0.5 * np.log(0.5 * np.pi * np.e)
    for tau, cost in zip(("optimal", "forward", posterior), costs, strict=True):
        got = schedules.mean_work(lam, curve, tau=tau).total - entropy
        np.testing.assert_allclose(got, cost, atol=6e-7 if cost > 1e-4 else 1e-9)
    found = schedules.uncertainty(lam, 1, curve=curve)
    if number == 10:
        at_six = [found.lower[5], found.value[5], found.upper[5]]
        np.testing.assert_allclose(at_six, [0.839006, 0.876321, 0.952390], atol=6e-7)
    # the closed form, beta v_{k-1}/v_k
    v = 0.25 * jax.nn.sigmoid(lam) + jax.nn.sigmoid(-lam)
    exact = 0.5 * (1 + jnp.log(2 * jnp.pi * kernels.noise[1:] * v[:-1] / v[1:]))
    np.testing.assert_allclose(found.value[1:], exact, rtol=1e-9)
    assert (found.lower[1:] < exact).all()
    assert (exact < found.upper[1:]).all()
    assert jnp.isneginf(found.lower[0])
    assert jnp.isnan(found.value[0])
    assert schedules.uncertainty(lam, 1).value is None


# ---- gradients, programs, bad input

VERBS = {
    "nll": lambda p, n, k, **kw: diffusion.nll(p, n, TILTED, k, steps=4, **kw),
    "elbo": lambda p, n, k, **kw: diffusion.elbo(p, n, TILTED, k, size=12, nodes=6, **kw),
    "point": lambda p, n, k, **kw: diffusion.denoising_log_prob(
        p, n, TILTED[0], k, size=12, nodes=6, **kw
    ),
}
TILTED = jnp.array([[0.8, 0.1, 0.4], [-0.2, 0.5, 0.0], [0.3, -0.9, 1.0], [1.0, 0.2, -0.5]])


@pytest.mark.parametrize("verb", VERBS)
def test_gradients_of_likelihoods(tilted, verb):
    """By the weights of a network at a fixed key, of what is at the first level and of what is extrapolated."""
    process, _, _ = tilted
    net = Net(pull, jax.random.key(3))

    def both(net):
        found = VERBS[verb](process, net, jax.random.key(18), slope=1.0)
        return found.first.value + 0.3 * found.clean.value

    assert abs(by_differences(both, net)) > 1e-4


def test_a_second_likelihood_compiles_nothing(tilted):
    """Other weights, other data, another key."""
    process, _, _ = tilted
    calls = []

    def net(e, x, lam):
        calls.append(1)
        return (1 + e) * pull(x, lam)

    for verb in VERBS.values():
        for e in (0.0, 0.1):
            seen = len(calls)
            verb(process, eqx.Partial(net, jnp.asarray(e)), jax.random.key(int(10 * e)))
        # the flow's own check of shapes is the only call
        assert len(calls) - seen <= 1


BAD = {
    "steps": (
        lambda p, n: diffusion.flow_log_prob(p, n, TILTED[0], steps=0),
        ValueError,
        "steps must be",
    ),
    "flow steps": (
        lambda p, n: diffusion.flow(p, n, TILTED[0], steps=0),
        ValueError,
        "steps must be",
    ),
    "no key": (
        lambda p, n: diffusion.flow_log_prob(p, n, TILTED[0], probes=1),
        ValueError,
        "no key",
    ),
    "no probes": (
        lambda p, n: diffusion.flow_log_prob(p, n, TILTED[0], key=jax.random.key(0)),
        ValueError,
        "no probes",
    ),
    "probes": (
        lambda p, n: diffusion.flow_log_prob(p, n, TILTED[0], probes=0, key=jax.random.key(0)),
        ValueError,
        "probes must be",
    ),
    "one row": (lambda p, n: diffusion.nll(p, n, TILTED[:1], KEY), ValueError, "at least two rows"),
    "a point": (
        lambda p, n: diffusion.nll(p, n, TILTED[0], KEY),
        ValueError,
        "one row per data point",
    ),
    "coordinates": (
        lambda p, n: diffusion.nll(p, n, TILTED[:, :2], KEY),
        ValueError,
        "3 coordinates",
    ),
    "NaN": (
        lambda p, n: diffusion.nll(p, n, TILTED.at[1, 1].set(jnp.nan), KEY),
        ValueError,
        "data must be finite",
    ),
    "key": (lambda p, n: diffusion.nll(p, n, TILTED, 3), TypeError, ""),
    "slope": (
        lambda p, n: diffusion.nll(p, n, TILTED, KEY, slope=0.1),
        ValueError,
        "slope must be at least",
    ),
    "nll: NaN": (
        lambda p, n: diffusion.nll(p, nan_at, TILTED, KEY, steps=4),
        ValueError,
        "no finite likelihood",
    ),
    "nll: clean": (
        lambda p, n: diffusion.nll(CLEAN, n, TILTED, KEY),
        ValueError,
        "need finite levels",
    ),
    "elbo: NaN": (
        lambda p, n: diffusion.elbo(p, nan_at, TILTED, KEY, nodes=4),
        ValueError,
        "not finite somewhere",
    ),
    "elbo: clean": (
        lambda p, n: diffusion.elbo(CLEAN, n, TILTED, KEY),
        ValueError,
        "need finite levels",
    ),
    "elbo: size": (
        lambda p, n: diffusion.elbo(p, n, TILTED, KEY, size=0),
        ValueError,
        "size must be",
    ),
    "elbo: nodes": (
        lambda p, n: diffusion.elbo(p, n, TILTED, KEY, nodes=0),
        ValueError,
        "nodes must be",
    ),
    "elbo: ranks": (
        lambda p, n: diffusion.elbo(p, n, TILTED[None], KEY),
        ValueError,
        "one row per data point",
    ),
    "elbo: prior": (
        lambda p, n: diffusion.elbo(p.replace(final=None), n, TILTED, KEY),
        ValueError,
        "final=None",
    ),
    "many points": (
        lambda p, n: diffusion.denoising_log_prob(p, n, TILTED, KEY),
        ValueError,
        "jax.vmap",
    ),
    "reference": (
        lambda p, n: diffusion.denoising_log_prob(
            p,
            n,
            TILTED[0],
            KEY,
            reference=Mixture(jnp.ones(2), [Gaussian(jnp.zeros(3), v) for v in (1.0, 2.0)]),
        ),
        (TypeError, ValueError),
        "",
    ),
    "reference: shape": (
        lambda p, n: diffusion.denoising_log_prob(
            p, n, TILTED[0], KEY, reference=Gaussian(0.0, 1.0)
        ),
        ValueError,
        "reference must draw",
    ),
    "dim": (lambda p, n: diffusion.bits_per_dim(1.0, 0, width=1.0), ValueError, "dim must be"),
    "width": (lambda p, n: diffusion.bits_per_dim(1.0, 1, width=0.0), ValueError, "width must be"),
    "curve": (
        lambda p, n: schedules.uncertainty(jnp.array([2.0, 1.0]), 2, curve=Curve()),
        ValueError,
        "that of the curve",
    ),
    "levels": (
        lambda p, n: schedules.uncertainty(jnp.array([1.0, 2.0]), 1),
        ValueError,
        "fall strictly",
    ),
}
KEY = jax.random.key(20)
CLEAN = diffusion.noising(Gaussian(jnp.zeros(3), 1.0), Linear(t0=0.0))


def nan_at(x, lam):
    return jnp.where(lam > 0, jnp.nan, -x)


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tilted, case):
    run, error, words = BAD[case]
    with pytest.raises(error, match=words or None):
        run(tilted[0], tilted[1])


def test_bad_values_are_marked_while_tracing(tilted):
    process, _, x = tilted
    found = jax.jit(lambda rows: diffusion.elbo(process, nan_at, rows, KEY, nodes=4, size=8))(
        TILTED
    )
    assert jnp.isnan(found.first.value)
    assert not found.first.reliable
    found = jax.jit(lambda rows: diffusion.nll(process, nan_at, rows, KEY, steps=4))(TILTED)
    assert jnp.isnan(found.first.value)
    assert not found.first.reliable


def test_single_precision():
    f4 = jnp.float32
    process = diffusion.noising(
        Gaussian(jnp.zeros(3, f4), jnp.asarray(1.0, f4)), Uniform(5.0, -3.0)
    )
    exact, data = diffusion.score(process), TILTED.astype(f4)
    runs = {
        "nll": lambda x: diffusion.nll(process, exact, x, KEY, probes=1),
        "elbo": lambda x: diffusion.elbo(process, exact, x, KEY),
        "point": lambda x: diffusion.denoising_log_prob(process, exact, x[0], KEY),
    }
    for run in runs.values():
        found = jax.eval_shape(run, data)
        assert {found.first.value.dtype, found.clean.stderr.dtype} == {jnp.dtype(f4)}
    with pytest.raises(TypeError, match="One floating-point precision"):
        diffusion.nll(process, exact, data.astype(jnp.float64), KEY)
