"""Noising and generation as Processes, against the closed forms of Gaussian data and the core's own machinery."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import run_readme
import sigmas

import thermojax as tjx
from thermojax import diffusion, schedules
from thermojax.densities import Empirical, Gaussian, Mixture, Point, noised
from thermojax.diffusion import EDM, VE, VP, Cosine, Levels, Linear, SubVP, Uniform, _old
from thermojax.schedules import LogSNR, _old as once

LAM = jnp.array([4.0, 1.5, 0.2, -1.0, -3.0])
DATA = Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.25, 0.5]))
CASES: dict[str, Any] = {
    "VP linear": (VP(), Linear()),
    "VP cosine": (VP(), Cosine()),
    "VP learned": (VP(), Levels(LAM, clean=False)),
    "VE EDM": (VE(), EDM(0.05, 5.0)),
    "VE uniform": (VE(), Uniform(6.0, -4.0)),
    "sub-VP linear": (SubVP(), Linear(t0=1e-2, sub=True)),
}
SOME = ["VP linear", "VP learned", "VE EDM", "sub-VP linear"]  # where a case costs a compilation
in_every_case = pytest.mark.parametrize("case", CASES)


def made(case, data=DATA, **options):
    kind, schedule = CASES[case]
    return diffusion.noising(data, schedule, kind=kind, **options)


def times(process, n):
    return jnp.linspace(process.protocol.t0, process.protocol.t1, n)


@pytest.mark.parametrize("case", SOME)
def test_the_equation_has_the_marginals(case):
    """The moments of the SDE, by the core's own equations, are those of a x_0 + s eps."""
    process = made(case)
    ts = times(process, 4)
    evolution = jax.jit(tjx.evolve.moments)(process, ts)
    for i, t in enumerate(ts):
        exact = diffusion.marginal(process, t)
        level = process.protocol(t).lam
        a, s = process.system.signal(level), process.system.noise(level)
        np.testing.assert_allclose(2 * jnp.log(a / s), level, atol=1e-10)
        np.testing.assert_allclose(exact.cov, a**2 * DATA.cov + s**2 * jnp.eye(2), atol=1e-12)
        np.testing.assert_allclose(evolution.mean[i], exact.mean, atol=1e-8)
        np.testing.assert_allclose(evolution.cov[i], exact.cov, rtol=1e-8, atol=1e-8)


@in_every_case
def test_schedules_fall(case):
    """In time, at the stated rate; `time` is the inverse."""
    schedule = CASES[case][1]
    ts = jnp.linspace(schedule.t0, schedule.t1, 41)[1:-1]
    lam, rate = jax.vmap(schedule)(ts)
    assert (jnp.diff(lam) < 0).all()
    h = 1e-6
    slope = jax.vmap(lambda t: schedule(t + h).lam - schedule(t - h).lam)(ts) / (2 * h)
    np.testing.assert_allclose(rate, -slope, rtol=1e-5)
    if not isinstance(schedule, Levels):
        np.testing.assert_allclose(schedule.time(lam), ts, atol=1e-12)


def test_known_schedules():
    """Song's sub-VP variance; the ends of EDM and of the cosine; learned levels are met, from clean data on."""
    total = 0.1 * 0.5 + 0.5 * 19.9 * 0.25
    np.testing.assert_allclose(SubVP().noise(Linear(sub=True)(0.5).lam), 1 - np.exp(-total))
    np.testing.assert_allclose(VP().signal(Linear()(0.5).lam) ** 2, np.exp(-total))
    np.testing.assert_allclose(VE().noise(EDM()(1.0).lam), 80.0)
    angle = lambda t: 0.5 * np.pi * (t + 0.008) / 1.008
    square = (np.cos(angle(0.3)) / np.cos(angle(0.0))) ** 2
    np.testing.assert_allclose(VP().signal(Cosine()(0.3).lam) ** 2, square, rtol=1e-12)
    levels = Levels(LAM)
    np.testing.assert_allclose([levels(float(k)).lam for k in range(1, 6)], LAM, rtol=1e-12)
    assert levels(0.0).lam == np.inf
    assert Linear(t0=0.0)(0.0).lam == np.inf


@in_every_case
def test_transitions_compose(case):
    """Two transitions are one; that from the start gives the marginal."""
    process = made(case)
    t0, t1, t2 = times(process, 3)
    x = jnp.array([0.7, -1.1])
    one, spread_one = diffusion.transition(process, x, t0, t1)
    two, spread_two = diffusion.transition(process, one, t1, t2)
    shrink = two / one
    direct, spread = diffusion.transition(process, x, t0, t2)
    np.testing.assert_allclose(two, direct, rtol=1e-10)
    np.testing.assert_allclose(spread_two + shrink**2 * spread_one, spread, rtol=1e-10)


def mixture():
    parts = [Gaussian(jnp.array([1.0, 0.0]), 0.04), Gaussian(jnp.array([-1.0, 0.5]), 0.09)]
    return Mixture(jnp.array([1.0, 3.0]), parts)


def test_scores():
    """Of a mixture, a point and a sample: the gradient of what the definition gives, at any level."""
    xs = jnp.array([[0.1, 0.2], [-0.5, 1.0], [0.9, -0.3]])
    x, lam = jnp.array([0.4, -0.1]), 0.7
    a, s2 = jax.nn.sigmoid(lam) ** 0.5, jax.nn.sigmoid(-lam)

    def log_sum(x, centres, variances, weights):
        squares = jnp.sum((x[None] - a * centres) ** 2, 1) / (2 * variances)
        return jnp.log(jnp.sum(weights * jnp.exp(-squares) / variances))

    expected = {
        "mixture": (
            mixture(),
            jnp.array([[1.0, 0.0], [-1.0, 0.5]]),
            a**2 * jnp.array([0.04, 0.09]) + s2,
            jnp.array([1.0, 3.0]),
        ),
        "sample": (Empirical(xs), xs, s2 * jnp.ones(3), jnp.ones(3)),
        "point": (Point(xs[0]), xs[:1], s2 * jnp.ones(1), jnp.ones(1)),
    }
    for data, *definition in expected.values():
        process = diffusion.noising(data, Linear())
        found = eqx.filter_jit(diffusion.score(process))(x, jnp.asarray(lam))
        exact = jax.jit(jax.grad(log_sum))(x, *definition)
        np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_noised_densities():
    """A sample with noise on top is normalised; noise twice is noise once; what has no closed form is drawn and says so."""
    xs = jnp.array([[0.5], [-1.0], [2.0]])
    cloud = noised(Empirical(xs), 0.8, 0.04)
    grid = jnp.linspace(-4.0, 4.0, 4001)[:, None]
    mass = jnp.sum(jnp.exp(jax.jit(jax.vmap(cloud.log_prob))(grid))) * 0.002
    np.testing.assert_allclose(mass, 1.0, rtol=1e-9)
    again, once = noised(cloud, 0.5, 0.1), noised(Empirical(xs), 0.4, 0.11)
    np.testing.assert_allclose(again.log_prob(xs[0]), once.log_prob(xs[0]), rtol=1e-12)

    well = tjx.densities.Boltzmann(tjx.Overdamped(lambda x, lam: jnp.sum(x**4)))
    other = noised(noised(well, 0.5, 0.05), 2.0, 0.1)  # x + N(0, 0.3)
    keys = jax.random.split(jax.random.key(10), 100_000)
    draw = lambda density: jax.jit(jax.vmap(density.sample))(keys)[:, 0]
    quartic = 0.337989120033  # <x^2> of exp(-x^4), Gamma(3/4)/Gamma(1/4)
    sigmas.assert_within(draw(other) ** 2, quartic + 0.3, bias=0.04)
    sigmas.assert_within(draw(cloud) ** 2, 0.04 + 0.64 * jnp.mean(xs**2), bias=0.04)
    with pytest.raises(ValueError, match="no density in closed form"):
        other.log_prob(xs[0])


def test_what_a_schedule_does_not_change():
    """The entropy production of a VP noising between two levels is the same for all schedules; its kinetic cost is not."""
    ends = {"top": 5.0, "bottom": -3.0}
    plain = Linear(t0=0.0)
    made = {
        "linear": Linear(t0=float(plain.time(ends["top"])), t1=float(plain.time(ends["bottom"]))),
        "uniform": Uniform(**ends),
        "learned": Levels(jnp.array([5.0, 3.0, 2.5, -1.0, -3.0]), clean=False),
    }
    produced, moved = [], []
    for schedule in made.values():
        process = diffusion.noising(DATA, schedule)
        ts = times(process, 201)
        evolution = jax.jit(tjx.evolve.moments)(process, ts)
        produced.append(evolution.entropy.total[-1])
        spread = jnp.sqrt(jnp.diagonal(evolution.cov, axis1=1, axis2=2))
        steps = jnp.sum(jnp.diff(spread, axis=0) ** 2 + jnp.diff(evolution.mean, axis=0) ** 2, 1)
        moved.append(jnp.sum(steps) / (ts[1] - ts[0]) * (ts[-1] - ts[0]))  # duration x action
    np.testing.assert_allclose(produced, produced[0], rtol=1e-8)
    assert max(moved) > 1.5 * min(moved)


def test_entropy_of_an_exploding_noising():
    """N(0, 1) to sigma = 25's level: 1/2 ln(v_1/v_0) = 2.292118. The generation exchanges twice that, and with phi = -ln p
    the perfect sampler has as much reduced work: it runs in finite time."""
    variance = (25.0**2 - 1) / (2 * np.log(25.0))
    schedule = Uniform(12.0, -np.log(variance))
    process = diffusion.noising(Gaussian(0.0, 1.0), schedule, kind=VE())
    evolution = tjx.evolve.moments(process, times(process, 3))
    produced = evolution.entropy.total[-1]
    np.testing.assert_allclose(produced, 2.292118, atol=1e-5)

    def phi(x, level):
        v = 1 + jnp.exp(-level.lam)
        return 0.5 * jnp.sum(x**2 / v + jnp.log(2 * jnp.pi * v))

    last = diffusion.marginal(process, schedule.t1)
    process = diffusion.noising(Gaussian(0.0, 1.0), schedule, kind=VE(), prior=last)
    generation = diffusion.generate(process, diffusion.score(process), potential=phi)
    back = eqx.filter_jit(tjx.evolve.moments)(generation, times(process, 3))
    np.testing.assert_allclose(back.entropy.medium[-1], 2 * produced, rtol=1e-6)
    np.testing.assert_allclose(back.entropy.total[-1], produced, rtol=1e-6)
    np.testing.assert_allclose(back.reduced_work[-1], produced, rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "predicts"),
    list(zip(SOME, ["score", "noise", "noise", "clean"], strict=True)),
)
def test_generation_ends_in_the_data(case, predicts):
    """Started from the true last marginal, with the exact score or the predictor equal to it: the exact moments."""
    kind, schedule = CASES[case]
    plain = made(case)
    process = made(case, prior=diffusion.marginal(plain, schedule.t1))
    exact = diffusion.score(process)

    def noise(x, lam):
        return -kind.noise(lam) * exact(x, lam)

    def clean(x, lam):
        return (x + kind.noise(lam) ** 2 * exact(x, lam)) / kind.signal(lam)

    predict = {"score": exact, "noise": noise, "clean": clean}[predicts]
    generation = diffusion.generate(process, predict, predicts=predicts)
    evolution = eqx.filter_jit(tjx.evolve.moments)(generation, times(process, 3))
    np.testing.assert_allclose(evolution.mean[-1], process.initial.mean, atol=1e-7)
    np.testing.assert_allclose(evolution.cov[-1], process.initial.cov, rtol=1e-6, atol=1e-8)


def test_generating_with_a_potential():
    """With phi = -ln p the rest of the force is another split of the same force."""
    process = made("VP linear")
    exact = diffusion.score(process)

    def phi(x, level):
        a2, s2 = jax.nn.sigmoid(level.lam), jax.nn.sigmoid(-level.lam)
        return -noised(DATA, jnp.sqrt(a2), s2).log_prob(x)

    plain = diffusion.generate(process, exact)
    split = diffusion.generate(process, exact, potential=phi)
    x, level = jnp.array([0.4, -0.7]), split.protocol(jnp.asarray(0.6))
    force = jax.jit(lambda x: split.system.total_force(x, level))(x)
    np.testing.assert_allclose(force, plain.system.total_force(x, level), rtol=1e-10)
    np.testing.assert_allclose(split.system.energy(x, level), phi(x, level))
    assert plain.system.energy(x, level) == 0


@pytest.mark.parametrize(
    ("kind", "mean"), [(VP(), "ddpm"), (VP(), "euler"), (VE(), "ddpm"), (SubVP(), "ddpm")]
)
def test_the_chain_through_the_core(kind, mean):
    """w by `path_ratio` with the chain's kernels is `path_work`, in every scale, for all three variances, to rounding."""
    data = mixture()
    process = diffusion.noising(data, Levels(LAM), kind=kind)
    score = diffusion.score(process)
    key = jax.random.key(2)
    x0 = jnp.array([0.9, 0.1])
    chain = schedules.chain(LAM)
    xs = [x0]
    for z, c, b in zip(jax.random.normal(key, (5, 2)), chain.shrink, chain.noise, strict=True):
        xs.append(c * xs[-1] + jnp.sqrt(b) * z)
    scale = jnp.concatenate([jnp.ones(1), kind.signal(LAM) / VP().signal(LAM)])
    path = tjx.Path(jnp.arange(6.0), scale[:, None] * jnp.stack(xs))
    generation = diffusion.generate(process, score)
    end = scale[-1] * xs[-1]
    prior = process.final.log_prob(end) + 2 * jnp.log(scale[-1])  # VE's is N(0, s^2), not N(0, 1)
    other = Gaussian(jnp.zeros(2), 1.0).log_prob(xs[-1]) - prior

    @jax.jit
    def both(tau):
        kernel = diffusion.reverse_kernel(process, score, LAM, tau, mean=mean)
        ratio = tjx.path_ratio(process, generation, path, kernels=(diffusion.transition, kernel))
        work = schedules.path_work(LAM, score, x0, key, tau=tau, mean=mean, log_p0=data.log_prob)
        return ratio, work.w + other

    for tau in (chain.noise, chain.posterior.at[0].set(0.02), 0.1 + 0.05 * jnp.arange(5.0)):
        np.testing.assert_allclose(*both(tau), rtol=1e-10)


def test_the_fluctuation_theorem_of_a_wrong_score():
    """At 5 steps, with a score off by a tenth: <e^-w> = 1 and <w> = the sum of the exact Gaussian integrals."""
    process = diffusion.noising(Gaussian(0.0, 0.25), Levels(LAM))
    exact = diffusion.score(process)
    wrong = lambda x, lam: 1.1 * exact(x, lam)
    tau = schedules.chain(LAM).noise
    kernel = diffusion.reverse_kernel(process, wrong, LAM, tau)
    generation = diffusion.generate(process, wrong)
    grid = jnp.arange(6.0)

    @jax.jit
    def works(keys):
        path = jax.vmap(
            lambda key: diffusion.sample_path(process, diffusion.transition, grid, key)
        )(keys)
        return tjx.path_ratio(process, generation, path, kernels=(diffusion.transition, kernel))

    assert "callback" not in str(jax.make_jaxpr(works)(jax.random.split(jax.random.key(3), 2)))
    w = works(jax.random.split(jax.random.key(3), 200_000))
    sigmas.assert_within(jnp.exp(-w), 1.0, bias=0.02)
    sigmas.assert_biased(jnp.exp(-(w + 0.02)), 1.0)
    # <w> = sum of KL(q(x_{k-1}|x_k) || p) + KL of the end, all Gaussian
    c = schedules.chain(LAM)
    square = jnp.concatenate([jnp.ones(1), jax.nn.sigmoid(LAM)])
    v = square * 0.25 + 1 - square
    gain = c.shrink * v[:-1] / v[1:]
    left = c.noise * v[:-1] / v[1:]
    clean = (1 - 1.1 * jax.nn.sigmoid(-LAM) / v[1:]) / jnp.sqrt(jax.nn.sigmoid(LAM))
    off = gain - (c.keep + c.add * clean)
    r = left / tau
    steps = 0.5 * (r - 1 - jnp.log(r) + off**2 * v[1:] / tau)
    total = jnp.sum(steps) + 0.5 * (v[-1] - 1 - jnp.log(v[-1]))
    sigmas.assert_within(w, total, absolute=0.01)
    sigmas.assert_biased(w + 0.01, total)


def test_irreversibility_of_a_model():
    """Score too large by 20 %: <R> is (1/2) e^2 ln(v_1/v_0) of score error, plus the mismatch of the end.

    R is quadratic in the path and the path is Gaussian, so its mean is exact at every number of steps; what is left of the
    step size is extrapolated away.
    """
    error, top, bottom = 0.2, 3.0, -3.0
    process = diffusion.noising(Gaussian(0.0, 1.0), Uniform(top, bottom), kind=VE())
    exact = diffusion.score(process)
    generation = diffusion.generate(process, lambda x, lam: (1 + error) * exact(x, lam))

    def mean(n):
        ts = jnp.linspace(0.0, 1.0, n + 1)

        def ratio(xs):
            kernels = (diffusion.transition, tjx.euler)
            return tjx.path_ratio(process, generation, tjx.Path(ts, xs[:, None]), kernels=kernels)

        v = 1 + jnp.exp(-jax.vmap(process.protocol.log_snr)(ts))
        cov = jnp.minimum(v[:, None], v[None])
        rest = jnp.zeros(n + 1)
        return jax.jit(lambda x: ratio(x) + 0.5 * jnp.sum(jax.hessian(ratio)(x) * cov))(rest)

    v0, v1 = 1 + np.exp(-top), 1 + np.exp(-bottom)
    prior = np.exp(-bottom)
    end = 0.5 * (v1 / prior - 1 - np.log(v1 / prior))
    coarse, fine = mean(100), mean(200)
    expected = 0.5 * error**2 * np.log(v1 / v0) + end
    np.testing.assert_allclose(2 * fine - coarse, expected, rtol=0.01)
    assert coarse > fine > expected  # a coarse chain is worse


def test_samples_of_the_chains():
    """Generated by `sample_path` and by `schedules.sample`: for Gaussian data and the optimal variance, exactly the data."""
    lam = LogSNR.uniform(8, 6.0, -6.0)()
    data = Gaussian(jnp.array([1.0]), 0.25)
    process = diffusion.noising(data, Levels(lam))
    exact = diffusion.score(process)
    kernels = schedules.chain(lam)
    tau = kernels.posterior + kernels.add**2 * 0.25 / (1 + jnp.exp(lam) * 0.25)
    kernel = diffusion.reverse_kernel(process, exact, lam, tau)
    generation = diffusion.generate(process, exact)
    grid = jnp.arange(9.0)

    @jax.jit
    def drawn(keys):
        walked = jax.vmap(lambda key: diffusion.sample_path(generation, kernel, grid, key))
        starts = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (1,)))(keys)
        sampled = jax.vmap(lambda x, key: schedules.sample(lam, exact, x, key, tau=tau))
        return walked(keys).xs[:, -1, 0], sampled(starts, keys)[:, 0]

    for x in drawn(jax.random.split(jax.random.key(5), 100_000)):
        sigmas.assert_within(x, 1.0)
        sigmas.assert_within((x - 1.0) ** 2, 0.25, bias=0.04)
        sigmas.assert_biased(1.04 * (x - 1.0) ** 2, 0.25)


def test_the_probability_flow():
    """Gaussian data: it stretches, x -> m_1 + sqrt(v_1/v_0) (x - m_0); the density is the data's; schedules don't count."""
    for kind, schedule in (
        (VP(), Levels(jnp.array([5.0, 4.0, -3.0]), clean=False)),
        (VE(), Uniform(5.0, -3.0)),
        (SubVP(), Uniform(5.0, -3.0)),
    ):
        data = Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.25, 0.5]))
        plain = diffusion.noising(data, schedule, kind=kind)
        last = diffusion.marginal(plain, schedule.t1)
        process = diffusion.noising(data, schedule, kind=kind, prior=last)
        exact = diffusion.score(process)
        x = jnp.array([0.8, 0.1])
        first = process.initial
        spread = jnp.sqrt(jnp.diagonal(last.cov) / jnp.diagonal(first.cov))
        there = last.mean + spread * (x - first.mean)
        carry = eqx.filter_jit(diffusion.flow)
        np.testing.assert_allclose(
            carry(process, exact, x, towards="noise", rtol=1e-8), there, rtol=1e-6
        )
        np.testing.assert_allclose(carry(process, exact, there, rtol=1e-8), x, rtol=1e-6)
    found = eqx.filter_jit(diffusion.flow_log_prob)(process, exact, x, rtol=1e-8)
    np.testing.assert_allclose(found, first.log_prob(x), rtol=1e-6)
    broken = lambda x, lam: x * jnp.nan
    assert jnp.isnan(diffusion.flow(process, broken, x)).all()


class Net(eqx.Module):
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(3, 2, 8, 1, activation=jnp.tanh, key=key)

    def __call__(self, x, lam):
        return self.mlp(jnp.concatenate([x, 0.1 * lam[None]]))


def works(model, keys):
    """The mean work of a chain of a network, its schedule and its variances."""
    net, schedule, log_tau = model

    def one(key):
        start, noise = jax.random.split(key)
        x0 = DATA.sample(start)
        return schedules.path_work(schedule(), net, x0, noise, tau=jnp.exp(log_tau)).w

    return jnp.mean(jax.vmap(one)(keys))


def generated(model, keys):
    """A mean over the states that the network generates, along a learned schedule."""
    net, schedule, _ = model
    process = diffusion.noising(DATA, Levels(schedule, clean=False))
    generation = diffusion.generate(process, net, predicts="noise")
    runs = tjx.ensemble(generation, jnp.linspace(1.0, 4.0, 5), keys[0], 4)
    return jnp.mean(runs.path.xs[:, -1] ** 2) + jnp.mean(runs.entropy.total)


@pytest.mark.parametrize("loss", [works, generated])
def test_gradients_through_schedule_and_network(loss):
    """In all parameters at once, the user's own module's too: against differences."""
    net = Net(jax.random.key(6))
    schedule = LogSNR.uniform(4, 3.0, -3.0, low=-6.0, high=6.0)
    keys = jax.random.split(jax.random.key(7), 16)
    model = (net, schedule, jnp.linspace(-2.0, -0.5, 4))
    moving, still = eqx.partition(model, eqx.is_inexact_array)
    way = jax.tree.map(lambda v: jnp.cos(jnp.arange(1.0 * v.size)).reshape(v.shape), moving)
    way = eqx.tree_at(lambda m: m[1].given(), way, (0.0, 0.0))  # limits have no derivative

    @jax.jit
    @jax.value_and_grad
    def along(h):
        moved = jax.tree.map(lambda v, w: v + h * w, moving, way)
        return loss(eqx.combine(moved, still), keys)

    h = 1e-5
    differences = (along(h)[0] - along(-h)[0]) / (2 * h)
    np.testing.assert_allclose(along(0.0)[1], differences, rtol=1e-6)


@pytest.mark.parametrize("kind", [VP(), VE(), SubVP()], ids=lambda k: type(k).__name__)
def test_gradients_from_clean_data(kind):
    """Of a transition and a marginal, by a level of the chain and a rate of `Linear`: no infinity of the start gets in."""
    x = jnp.array([0.6, -0.4])

    def by_level(h):
        process = diffusion.noising(DATA, Levels(LAM.at[0].add(h)), kind=kind)
        mean, variance = diffusion.transition(process, x, jnp.asarray(0.0), jnp.asarray(1.0))
        ahead = diffusion.marginal(process, 1.0).log_prob(x)
        return jnp.sum(mean) + jnp.sum(jnp.log(variance)) + ahead

    def by_rate(b):
        schedule = Linear(b, t0=0.0, sub=isinstance(kind, SubVP))
        process = diffusion.noising(DATA, schedule, kind=kind)
        return diffusion.marginal(process, 0.5).log_prob(x)

    for fn, at in ((by_level, 0.0), (by_rate, 0.3)):
        both = jax.jit(jax.value_and_grad(fn))
        differences = (both(at + 1e-5)[0] - both(at - 1e-5)[0]) / 2e-5
        np.testing.assert_allclose(both(at)[1], differences, rtol=1e-6)
        assert differences != 0


def test_what_is_marked():
    """A step between other levels than the chain's, and a score above what the process knows: NaN, not a wrong number."""
    process = diffusion.noising(DATA, Levels(LAM))
    exact, tau, x = diffusion.score(process), schedules.chain(LAM).noise, jnp.array([0.6, -0.4])
    generation = diffusion.generate(process, exact)
    for levels, t0, t1, fine in (
        (LAM, 0.0, 1.0, True),
        (LAM, 4.0, 5.0, True),
        (LAM - 0.5, 0.0, 1.0, False),  # other levels
        (LAM, 0.0, 2.0, False),  # two steps at once
        (LAM, 0.5, 1.0, False),  # half a step
    ):
        kernel = diffusion.reverse_kernel(process, exact, levels, tau)
        _, variance = kernel(generation, x, jnp.asarray(t0), jnp.asarray(t1))
        assert jnp.isfinite(variance).all() == fine
    late = diffusion.score(diffusion.noising(DATA, Uniform(3.0, -3.0)))
    assert jnp.isnan(eqx.filter_jit(late)(x, jnp.asarray(4.0))).all()
    assert jnp.isfinite(eqx.filter_jit(late)(x, jnp.asarray(3.0))).all()
    path = diffusion.sample_path(
        generation, lambda *_: (x * jnp.nan, x), jnp.arange(6.0), jax.random.key(0)
    )
    assert not path.ok


def test_single_precision_with_plain_numbers():
    """Data in float32 and a schedule of Python numbers stay float32, also where the default is float64."""
    data = Gaussian(jnp.zeros(2, jnp.float32), jnp.float32(0.25))
    for kind in (VP(), VE(), SubVP()):
        process = diffusion.noising(data, Uniform(3.0, -3.0), kind=kind)
        assert {leaf.dtype for leaf in jax.tree.leaves((process.initial, process.final))} == {
            jnp.dtype("float32")
        }


def test_single_precision():
    """Levels close together at both ends: no cancellation."""
    wide = jnp.array([14.0, 13.99, 5.0, 0.0, -9.0, -9.01])
    narrow = wide.astype(jnp.float32)
    for double, single in zip(schedules.chain(wide), schedules.chain(narrow), strict=True):
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, double, rtol=2e-3)  # of the levels' own rounding
    exact = schedules.chain(narrow.astype(jnp.float64))
    for single, double in zip(schedules.chain(narrow), exact, strict=True):
        np.testing.assert_allclose(single, double, rtol=5e-6)
    for kind in (VP(), VE(), SubVP()):
        for lam in narrow:
            level = lam.astype(jnp.float64)
            for fn in (kind.signal, kind.noise, kind.stiffness):
                np.testing.assert_allclose(fn(lam), fn(level), rtol=2e-6)


@pytest.mark.parametrize("schedule", [Linear(t0=0.0), Cosine(t0=0.0), Levels(LAM)])
def test_the_marginal_of_clean_data(schedule):
    process = diffusion.noising(DATA, schedule)
    clean = diffusion.marginal(process, 0.0)
    np.testing.assert_allclose(clean.mean, DATA.mean, rtol=1e-15)
    np.testing.assert_allclose(clean.cov, DATA.cov, rtol=1e-15)
    x = jnp.array([0.5, 0.1])
    at_infinity = diffusion.score(process)(x, jnp.asarray(jnp.inf))
    np.testing.assert_allclose(at_infinity, jax.grad(DATA.log_prob)(x), rtol=1e-12)


class Duck:
    """A density of the user's own: nothing but what a density must have."""

    def sample(self, key):
        return jax.random.normal(key, (2,))

    def log_prob(self, x):
        return -0.5 * jnp.sum(x**2) - jnp.log(2 * jnp.pi)


def test_a_clean_start_stays_known_while_tracing():
    def ratio(levels, data):
        process = diffusion.noising(data, Levels(levels))
        net = lambda x, lam: -x
        kernel = diffusion.reverse_kernel(process, net, levels, jnp.ones(5))
        path = diffusion.sample_path(
            process, diffusion.transition, jnp.arange(6.0), jax.random.key(0)
        )
        back = diffusion.generate(process, net)
        return tjx.path_ratio(process, back, path, kernels=(diffusion.transition, kernel))

    eager, slope = ratio(LAM, Duck()), jax.jit(lambda lam: jax.value_and_grad(ratio)(lam, Duck()))
    np.testing.assert_allclose(slope(LAM)[0], eager, rtol=1e-12)
    assert np.isfinite(slope(LAM)[1]).all()
    with pytest.raises(ValueError, match="noise floor"):
        jax.jit(lambda lam: ratio(lam, Point(jnp.zeros(2))))(LAM)


def test_gradients_at_the_ends_of_a_schedule():
    """Not halved there, as jnp.clip does, and the chain's times are no parameters."""
    uniform = Uniform(6.0, -4.0)
    for t in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(jax.grad(lambda t: uniform(t).lam)(t), -10.0)
    for schedule in (uniform, Levels(LAM, clean=False)):
        assert abs(schedule(schedule.t0).rate / schedule(schedule.t0 + 1e-6).rate - 1) < 1e-4
    process = diffusion.noising(DATA, Levels(LogSNR.uniform(4)))
    slopes = eqx.filter_grad(lambda p: diffusion.marginal(p, 1.5).log_prob(jnp.ones(2)))(process)
    assert {leaf.shape for leaf in jax.tree.leaves(slopes.protocol)} == {(5,), ()}
    assert all(leaf == 0 for leaf in slopes.protocol.levels.given())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))

    def later(t0):  # of Gaussian data, a later marginal does not know where the schedule began
        process = diffusion.noising(DATA, Linear(t0=t0))
        return diffusion.marginal(process, 0.5).log_prob(jnp.ones(2))

    assert abs(jax.grad(later)(1e-3)) < 1e-12


def test_an_optax_loop_over_every_leaf_of_a_schedule():
    """No filter but 'inexact arrays', as in the issue's headline: nothing is poisoned, and the price falls."""
    exact = diffusion.score(diffusion.noising(DATA, Linear(t0=0.0)))
    keys, grid = jax.random.split(jax.random.key(3), 400), jnp.arange(6.0)

    def price(parameters):
        process = diffusion.noising(DATA, Levels(eqx.combine(parameters, rest)))
        lam = process.protocol.array()
        tau = schedules.chain(lam).noise
        kernel = diffusion.reverse_kernel(process, exact, lam, tau)
        path = jax.vmap(
            lambda key: diffusion.sample_path(process, diffusion.transition, grid, key)
        )(keys)
        back = diffusion.generate(process, exact)
        return tjx.path_ratio(process, back, path, kernels=(diffusion.transition, kernel)).mean()

    parameters, rest = eqx.partition(LogSNR.uniform(5, 9.0, -1.0), eqx.is_inexact_array)
    adam = optax.adam(0.05)
    state, step = adam.init(parameters), jax.jit(jax.value_and_grad(price))
    first, _ = step(parameters)
    for _ in range(40):
        value, slope = step(parameters)
        with jax.numpy_dtype_promotion("standard"):  # optax is not strict
            updates, state = adam.update(slope, state)
        parameters = eqx.apply_updates(parameters, updates)
    assert value < 0.8 * first


def test_flows_keep_single_precision():
    """Also where the schedule is of plain numbers and JAX's default is double; a mixture was refused there."""
    f4 = jnp.float32
    parts = [Gaussian(jnp.full(2, i, f4), jnp.asarray(0.1, f4)) for i in (-1, 1)]
    mixture, x = Mixture(jnp.ones(2, f4), parts), jnp.full(2, 0.3, f4)
    for schedule in (Linear(), Cosine(), EDM(), Uniform()):
        process = diffusion.noising(mixture, schedule)
        exact = diffusion.score(process)
        for verb in (diffusion.flow, diffusion.flow_log_prob):
            assert jax.eval_shape(ft.partial(verb, process, exact), x).dtype == f4
    with pytest.raises(TypeError, match="One floating-point precision"):
        diffusion.flow(process, exact, x.astype(jnp.float64))


class Half(eqx.Module):
    """A network that computes in half precision and returns what it was given."""

    weight: jax.Array

    def __call__(self, x, lam):
        return (self.weight @ x.astype(self.weight.dtype)).astype(x.dtype)


@pytest.mark.filterwarnings("ignore:The step is too long")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_networks_of_half_precision(dtype):
    process = diffusion.noising(Gaussian(jnp.zeros(2), 1.0), Uniform(5.0, -4.0))
    run, exact = (
        tjx.simulate(diffusion.generate(process, net), times(process, 9), jax.random.key(0))
        for net in (Half(-jnp.eye(2, dtype=dtype)), lambda x, lam: -x)
    )
    assert run.path.xs.dtype == exact.path.xs.dtype
    np.testing.assert_allclose(run.path.xs, exact.path.xs, atol=0.05)


class Drawing:
    def __init__(self, draw):
        self.sample = draw

    def log_prob(self, x):
        return -jnp.sum(x**2)


REFUSED = {
    "whole numbers": (
        lambda: diffusion.noising(
            Drawing(lambda key: jax.random.randint(key, (2,), 0, 3)), Uniform()
        ),
        "floating-point numbers, got int",
    ),
    "no axis": (
        lambda: diffusion.noising(Drawing(lambda key: jax.random.normal(key, ())), Uniform()),
        r"data.sample\(key\) must return one state of shape \(d,\), also for d = 1",
    ),
    "after the end": (
        lambda: diffusion.transition(NOISING, jnp.zeros(2), *jnp.array([0.5, 1.7])),
        r"t1 must lie in",
    ),
    "backwards": (
        lambda: diffusion.transition(NOISING, jnp.zeros(2), *jnp.array([0.5, 0.2])),
        "to a later t1",
    ),
    "kernels swapped": (
        lambda: diffusion.transition(diffusion.generate(NOISING, lambda x, lam: -x), *JUMP),
        "the noising and its transition come first",
    ),
    "no level": (lambda: diffusion.generate(NOISING, lambda x: x), r"Wrap it: lambda x, lam: net"),
    "a tuple": (
        lambda: diffusion.flow(NOISING, lambda x, lam: (x, x), jnp.zeros(2)),
        r"predict\(x, lam\) must return a state of shape \(2,\), got tuple",
    ),
    "rising while differentiating": (
        lambda: jax.grad(lambda top: run_of(Uniform(top, -3.0)).path.xs.sum())(-5.0),
        r"mobility\(lam\(t\)\) must be finite and greater than zero",
    ),
}
NOISING = diffusion.noising(DATA, Uniform(6.0, -4.0))
JUMP = jnp.zeros(2), jnp.asarray(0.0), jnp.asarray(1.0)


def run_of(schedule):
    process = diffusion.noising(DATA, schedule)
    return tjx.simulate(process, jnp.linspace(0.0, 1.0, 3), jax.random.key(0))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_predictor_is_made_once():
    """From any of the three, all three; in another scale, what the formulas say; and every verb takes it."""
    x, lam = jnp.array([0.4, -0.7]), jnp.asarray(0.3)
    exact = diffusion.score(diffusion.noising(mixture(), Linear(t0=0.0)))
    three = {name: getattr(exact, name)(x, lam) for name in ("score", "noise", "clean")}
    np.testing.assert_allclose(exact(x, lam), three["score"])
    a, s = VP().signal(lam), VP().noise(lam)
    np.testing.assert_allclose(a * three["clean"] + s * three["noise"], x, rtol=1e-12)
    ve = VE()
    for predicts in three:
        same = diffusion.predictor(getattr(exact, predicts), predicts)
        # the same network, trained on states x / a
        wide = diffusion.predictor(
            lambda y, lam, p=predicts: (
                getattr(exact, p)(VP().signal(lam) * y, lam)
                * (VP().signal(lam) if p == "score" else 1)
            ),
            predicts,
            kind=ve,
        )
        for seen in (same, wide.rescaled(VP()), wide.rescaled(SubVP()).rescaled(VP())):
            for name, want in three.items():
                np.testing.assert_allclose(getattr(seen, name)(x, lam), want, rtol=1e-12)
        np.testing.assert_allclose(wide.clean(x / a, lam), three["clean"], rtol=1e-12)

    process = diffusion.noising(mixture(), Levels(LAM, clean=False))
    key, tau = jax.random.key(0), jnp.ones(5)
    model = diffusion.predictor(wide, "clean")
    plain, clean = (lambda x, lam: wide.rescaled(VP()).score(x, lam)), model.clean
    for run, other in (
        (lambda p: diffusion.flow(process, p, x), plain),
        (lambda p: diffusion.flow_log_prob(process, p, x), plain),
        (
            lambda p: diffusion.generate(process, p).system.total_force(x, process.protocol.after),
            plain,
        ),
        (
            lambda p: diffusion.reverse_kernel(process, p, LAM, tau)(
                diffusion.generate(process, p), x, jnp.asarray(2.0), jnp.asarray(3.0)
            ),
            plain,
        ),
        (lambda p: schedules.path_work(LAM, p, x, key, tau=tau).w, clean),
        (lambda p: schedules.sample(LAM, p, x, key, tau=tau), clean),
        (lambda p: schedules.denoising_curve(p, jnp.stack([x, -x]), LAM, key).mse, clean),
    ):
        for p in (wide, model):
            np.testing.assert_allclose(run(p), run(other), rtol=1e-10)


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: COMPILED.append(event) if "backend_compile" in event else None
)


class Counted:
    """A network of the user's own, which counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, lam):
        self.calls += 1
        return 0.4 * x


def again():
    """Verbs, each as a function of a network and of a number."""
    process = diffusion.noising(DATA, Levels(LAM, clean=False))
    chain = diffusion.noising(DATA, Levels(LAM))
    curve = schedules.Curve(
        jnp.linspace(-5.0, 6.0, 12), jnp.linspace(1.0, 0.1, 12), jnp.asarray(1.0), 2
    )
    key, tau, grid = jax.random.key(0), jnp.ones(5), jnp.arange(6.0)
    x = jnp.array([0.6, -0.4])
    exact = diffusion.score(process)
    return {
        "flow": lambda net, h: diffusion.flow(process, net, x + h),
        "flow_log_prob": lambda net, h: diffusion.flow_log_prob(process, net, x + h),
        "sample_path": lambda net, h: diffusion.sample_path(chain, diffusion.transition, grid, key),
        "generated": lambda net, h: diffusion.sample_path(
            diffusion.generate(chain, net),
            diffusion.reverse_kernel(chain, net, LAM, (1 + h) * tau),
            grid,
            key,
        ),
        "transition": lambda net, h: diffusion.transition(process, x + h, 1.5, 2.0),
        "marginal": lambda net, h: diffusion.marginal(process, 1.5 + h),
        "score": lambda net, h: exact(x + h, jnp.asarray(0.3 + h)),
        "chain": lambda net, h: diffusion.chain(LAM + h),
        "path_work": lambda net, h: schedules.path_work(LAM + h, net, x, key, tau=tau),
        "sample": lambda net, h: schedules.sample(LAM, net, x + h, key, tau=tau),
        "denoising_curve": lambda net, h: schedules.denoising_curve(
            net, jnp.stack([x, -x]) + h, LAM, key
        ),
        "mean_work": lambda net, h: schedules.mean_work(LAM + h, curve),
        "variances": lambda net, h: schedules.variances(LAM + h, curve, tau="posterior"),
        "friction": lambda net, h: schedules.friction(LAM + h, curve),
        "dissipation": lambda net, h: schedules.dissipation(LAM + h, curve),
        "length": lambda net, h: schedules.thermodynamic_length(curve, 4.0 + h, -3.0),
        "equal_length": lambda net, h: schedules.equal_length(curve, 5, 4.0 + h, -3.0),
        # a schedule with other numbers
        "cosine": lambda net, h: diffusion.transition(
            diffusion.noising(DATA, Cosine(offset=0.01 + h)), x, 0.3, 0.5
        ),
        "EDM": lambda net, h: diffusion.transition(
            diffusion.noising(DATA, EDM(rho=5.0 + h)), x, 0.3, 0.5
        ),
        "LogSNR.of": lambda net, h: LogSNR.of(Cosine(offset=0.01 + h), 6, low=-15.0 - h)(),
        "cost_of": lambda net, h: eqx.filter_jit(schedules.cost_of(curve))(
            LogSNR.uniform(5, 4.0 + h, -3.0 - h, low=-4.0 - h, high=5.0 + h)
        ),
    }


def test_a_second_call_compiles_nothing():
    """With the same shapes and other numbers: nothing is compiled, and the network is not called in Python."""
    found = {}
    for name, run in again().items():
        net = Counted()
        steady = eqx.Partial(net)
        run(steady, 0.0)
        run(steady, 1e-3)  # what differs only by being another number
        before = len(COMPILED), net.calls
        run(steady, 2e-3)
        found[name] = len(COMPILED) - before[0], net.calls - before[1]
    assert set(found.values()) == {(0, 0)}, found


def test_a_fresh_closure_is_seen_by_the_counter():
    """Negative control of the test above."""
    before = len(COMPILED)
    jax.jit(lambda x: 3 * x)(1.0)
    assert len(COMPILED) > before


@pytest.mark.parametrize("made", [lambda v: Cosine(offset=v), lambda v: EDM(rho=1000 * v)])
def test_gradients_by_the_shape_of_a_curve(made):
    """By offset and by rho, which are leaves: against differences."""
    level = jax.jit(jax.value_and_grad(lambda v: jnp.sin(made(v)(0.37).lam) + made(v)(0.5).rate))
    differences = (level(0.009 + 1e-6)[0] - level(0.009 - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(level(0.009)[1], differences, rtol=1e-6)


@pytest.mark.parametrize("kind", [diffusion.AbstractNoising, diffusion.AbstractSchedule])
def test_one_of_ones_own(kind):
    """The example of the docstring runs, and what it defines is what it says."""
    space = {}
    for _, source in run_readme.blocks(kind.__doc__):
        exec(source, space)
    own = next(v for v in space.values() if isinstance(v, type) and issubclass(v, kind))
    if kind is diffusion.AbstractNoising:
        lam = jnp.linspace(-4.0, 4.0, 9)
        np.testing.assert_allclose(2 * jnp.log(own().signal(lam) / own().noise(lam)), lam)
        process = space["process"]
    else:
        process = diffusion.noising(DATA, own(jnp.asarray(6.0), jnp.asarray(1.5)))
        assert jax.tree.leaves(tjx.protocols.trainable(process.protocol)) == [
            True,
            True,
            False,
            False,
        ]
    ts = times(process, 4)
    found = tjx.evolve.moments(process, ts).cov[-1]
    np.testing.assert_allclose(found, diffusion.marginal(process, ts[-1]).cov, rtol=1e-8)


def test_former_names():
    """Their signatures still work, behind the table of renamed names."""
    process = diffusion.noising(DATA, Levels(LAM))
    grid, key, x = jnp.arange(6.0), jax.random.key(0), jnp.array([0.6, -0.4])
    new = diffusion.sample_path(process, diffusion.transition, grid, key)
    np.testing.assert_array_equal(_old.walk(process, grid, key, diffusion.transition).xs, new.xs)
    net = lambda x, lam: 0.3 * x
    model = diffusion.predictor(net, "noise")
    lam = jnp.asarray(0.3)
    np.testing.assert_array_equal(_old.Score(VP(), net, "noise")(x, lam), model.score(x, lam))
    np.testing.assert_array_equal(once.from_noise(net)(x, lam), model.clean(x, lam))
    of_score = once.from_score(model.score)(x, lam)
    np.testing.assert_allclose(of_score, model.clean(x, lam), rtol=1e-12)
