"""The price of a model: closed forms of Gaussians, the same by draws, what samples alone tell, and what is refused."""

from typing import Any

import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sigmas

import thermojax as tjx
from thermojax import bounds, diffusion, plots, schedules
from thermojax.densities import Empirical, Gaussian, Mixture, Uniform, noised
from thermojax.diffusion import VE, VP, Levels, Linear, SigmaT, SubVP

KEY = jax.random.key(0)
DATA = Gaussian(1.0, 0.25)
ERROR = 0.1
KINDS: dict[str, Any] = {
    "VP": (VP(), lambda t0: Linear(t0=t0)),
    "VE": (VE(), lambda t0: SigmaT(25.0, t0=t0)),
    "sub-VP": (SubVP(), lambda t0: Linear(t0=t0, sub=True)),
}


def noisy(data, kind="VP", t0=1e-5, **options):
    which, schedule = KINDS[kind]
    return diffusion.noising(data, schedule(t0), kind=which, **options)


class Wrong(eqx.Module):
    """The exact score of clean data, times 1 + error."""

    score: diffusion.Predictor
    error: jax.Array

    def __call__(self, x, lam):
        return (1 + self.error) * self.score(x, lam)


def wrong(data, kind="VP", error=ERROR):
    """Known at all levels: of the noising that starts clean."""
    return Wrong(diffusion.score(noisy(data, kind, 0.0)), jnp.asarray(error))


def variances(process):
    """At the first level and at the last, in the scale of the data."""
    ts = process.protocol.t0, process.protocol.t1
    found = (diffusion.marginal(process, t).cov[0, 0] for t in ts)
    signals = (process.system.signal(process.protocol(t).lam) for t in ts)
    return [float(v / a**2) for v, a in zip(found, signals, strict=True)]


# ---- closed forms


@pytest.mark.parametrize("kind", KINDS)
def test_gaussians_in_closed_form(kind):
    """K = e^2/2 ln(v_T/v_0) in the scale of the data, for every kind; the ends; the path KL; ELBO and the limit."""
    process = noisy(DATA, kind)
    found = diffusion.price(process, wrong(DATA, kind), DATA, KEY, size=None)
    v0, v1 = variances(process)
    growth = 0.5 * np.log(v1 / v0)
    np.testing.assert_allclose(found.score_error.value, ERROR**2 * growth, rtol=1e-6)
    last = diffusion.marginal(process, 1.0)
    v, m, prior = float(last.cov[0, 0]), float(last.mean[0]), float(process.final.cov[0, 0])
    end = 0.5 * (v / prior - 1 - np.log(v / prior) + m**2 / prior)
    np.testing.assert_allclose(found.endpoint.value, end, rtol=1e-9)
    np.testing.assert_allclose(found.total.value, ERROR**2 * growth + end, rtol=1e-6)
    first = diffusion.marginal(process, 1e-5)
    # -ELBO = S_0 + K + KL(p_T || prior); norm = (1 + e)^2 growth, by parts (1 + e)
    S0, S1 = float(first.entropy()), float(last.entropy())
    np.testing.assert_allclose(-found.elbo.value, S0 + found.total.value, atol=1e-6)
    norm = S0 - (2 * ERROR + ERROR**2) * growth / 2
    np.testing.assert_allclose(found.limit.value, norm, atol=1e-6)
    np.testing.assert_allclose(found.limit_divergence.value, S0 - ERROR * growth / 2, atol=1e-6)
    np.testing.assert_allclose(found.balance.value, -2 * ERROR * (1 + ERROR) * growth, rtol=1e-6)
    np.testing.assert_allclose(found.last_entropy.value, S1)
    assert found.score_error.stderr == 0
    # the entropy that the noising produces is that of the system and of the medium, at T = 1 the energy x^2/2 that VP loses
    if kind == "sub-VP":
        places, weights = np.polynomial.legendre.leggauss(200)
        half = 0.5 * (process.protocol(1e-5).lam - process.protocol(1.0).lam)
        lam = process.protocol(1.0).lam + half * (1 + places)
        a, s, kappa = (
            np.asarray(f(lam)) for f in (SubVP().signal, SubVP().noise, SubVP().stiffness)
        )
        var = 0.25 * a**2 + s**2
        rate = 0.5 * s**2 * (kappa**2 * (var + a**2) - 2 * kappa + 1 / var)
        np.testing.assert_allclose(found.noising_entropy.value, half * weights @ rate, rtol=1e-6)
    else:
        energies = [0.5 * (g.cov[0, 0] + g.mean[0] ** 2) for g in (first, last)]
        heat = energies[0] - energies[1] if kind == "VP" else 0.0
        np.testing.assert_allclose(found.noising_entropy.value, S1 - S0 + heat, atol=1e-6)


def test_known_numbers():
    """A score ten per cent too large, VP: the score error .057181310, the end 2.159314e-5; at t0 = 0, by what is missing."""
    found = diffusion.price(noisy(DATA, t0=1e-7), wrong(DATA), DATA, KEY, size=None, nodes=48)
    np.testing.assert_allclose(found.score_error.value, 0.057181310, rtol=2e-7)
    np.testing.assert_allclose(found.endpoint.value, 2.159314e-05, rtol=1e-6)
    coarse = diffusion.price(noisy(DATA, t0=1e-3), wrong(DATA), DATA, KEY, size=None)
    np.testing.assert_allclose(coarse.score_error.value, 0.057181310, rtol=1e-3)
    missing = 0.057181310 - float(coarse.score_error.value)
    np.testing.assert_allclose(coarse.missing.value, missing / 0.057181310, rtol=1e-2)


@pytest.mark.parametrize(
    ("error", "sde", "ode"), [(0.1, 0.734631, 1.223029), (-0.1, 0.737361, 0.956968)]
)
def test_likelihoods_of_a_wrong_score(error, sde, ode):
    """VP: the flow's and the stochastic sampler's, which the score error bounds and the flow's exceeds."""
    process, model = noisy(DATA), wrong(DATA, error=error)
    found = diffusion.price(process, model, DATA, KEY, size=None, flows=1)
    np.testing.assert_allclose(found.nll.value, ode, atol=5e-6)
    generation = diffusion.generate(process, model)
    end = tjx.evolve.moments(generation, jnp.array([1e-5, 0.5, 1.0]))
    v, m = float(end.cov[-1, 0, 0]), float(end.mean[-1, 0])
    nll = 0.5 * (np.log(2 * np.pi * v) + (0.25 + (1 - m) ** 2) / v)
    np.testing.assert_allclose(nll, sde, atol=5e-6)
    S0 = float(DATA.entropy())
    assert nll - S0 < float(found.total.value) < float(found.nll.value) - S0


@pytest.mark.parametrize(
    ("sigma", "by_prior", "ode", "sde"),
    [
        (10.0, 1.407572, 1.419463277, 1.418939512),
        (20.0, 1.415212, 1.418994347, 1.418938545),
        (25.0, 1.416373, 1.418964961, 1.418938536),
        (30.0, 1.417054, 1.418952775, 1.418938534),
    ],
)
def test_the_limit_of_an_exact_score(sigma, by_prior, ode, sde):
    """VE, N(0, 1): the limit is S_0 with the true last entropy; below it with the prior's; the likelihoods just above."""
    data = Gaussian(0.0, 1.0)
    process = diffusion.noising(data, SigmaT(sigma, t0=1e-7), kind=VE())
    exact = diffusion.score(diffusion.noising(data, SigmaT(sigma, t0=0.0), kind=VE()))
    found = diffusion.price(process, exact, data, KEY, size=None, flows=1)
    S0 = 1.418938533
    np.testing.assert_allclose(found.limit.value, S0, atol=1e-6)
    np.testing.assert_allclose(found.data_entropy.value, S0, atol=1e-6)
    other = found.limit.value + 0.5 * (process.final.entropy() - found.last_entropy.value)
    np.testing.assert_allclose(other, by_prior, atol=1e-6)
    np.testing.assert_allclose(found.nll.value, ode, atol=1e-6)
    np.testing.assert_allclose(found.gap.value, found.nll.value - found.limit.value, atol=1e-12)
    generation = diffusion.generate(process, exact)
    end = tjx.evolve.moments(generation, jnp.array([1e-7, 0.5, 1.0]), rtol=1e-11)
    v = float(end.cov[-1, 0, 0])
    np.testing.assert_allclose(0.5 * (np.log(2 * np.pi * v) + 1 / v), sde, atol=1e-6)


def test_the_limit_is_no_bound():
    """VE, sigma = 25, a score ten per cent too small: the flow's likelihood lies below what would be its limit."""
    data = Gaussian(0.0, 1.0)
    process = noisy(data, "VE")
    process = noisy(data, "VE", prior=diffusion.marginal(process, 1.0))
    found = diffusion.price(process, wrong(data, "VE", -0.1), data, KEY, size=None, flows=1)
    S0 = float(found.first_entropy.value)
    np.testing.assert_allclose(found.nll.value - S0, 0.045352, atol=1e-5)
    np.testing.assert_allclose(found.limit.value - S0, 0.217751, atol=1e-5)
    np.testing.assert_allclose(found.limit_divergence.value - S0, 0.114606, atol=1e-5)
    assert found.gap.value < 0
    assert found.gap_divergence.value < 0


def test_entropy_rates():
    """Exchange over intrinsic: -2 for VE, whatever the score; for VP not."""
    schedule = Linear(t0=0.0)
    lam = jnp.stack([schedule(t).lam for t in (0.1, 0.3, 0.6, 0.9)])
    exact = diffusion.score(noisy(DATA, t0=0.0))
    found = diffusion.entropy_rates(noisy(DATA), exact, DATA, KEY, lam, size=None)
    ratio = found.exchange.value / found.intrinsic.value
    np.testing.assert_allclose(ratio, [-1.9015, -1.8102, -1.7537, -1.7500], atol=5e-5)
    np.testing.assert_allclose(found.system.value, found.exchange.value + found.intrinsic.value)
    sampled = diffusion.entropy_rates(noisy(DATA), exact, DATA, KEY, lam, size=50_000)
    for i in range(2):  # of the sums, not of ratios of small numbers
        for name in ("intrinsic", "exchange"):
            one, closed = (getattr(rates, name) for rates in (sampled, found))
            sigmas.assert_within((one.value[i], one.stderr[i]), closed.value[i], bias=0.1)
    off = lambda x, lam: jnp.sin(x) - x
    ve = diffusion.entropy_rates(noisy(DATA, "VE"), off, DATA, KEY, jnp.asarray(0.5), size=100)
    np.testing.assert_allclose(ve.exchange.value, -2 * ve.intrinsic.value, rtol=1e-12)
    assert ve.system.value.shape == ()


def test_entropy_rates_of_levels_beyond_the_schedule():
    """Below its last level `top`, which nobody gave, was said to be wrong; above the first of data that do not start clean,
    where the score is not known, they were NaN."""
    lam, late = jnp.array([-12.0, 3.0]), noisy(DATA)
    a, s = jax.nn.sigmoid(lam) ** 0.5, jax.nn.sigmoid(-lam) ** 0.5
    v = 0.25 * a**2 + s**2
    found = diffusion.entropy_rates(late, diffusion.score(late), DATA, KEY, lam, size=None)
    # kappa x + the score is x (1 - 1/v) + a/v
    np.testing.assert_allclose(
        found.intrinsic.value, 0.5 * s**2 * ((1 - 1 / v) ** 2 * v + a**2), rtol=1e-10
    )
    with pytest.raises(ValueError, match="the entropy rate is nan at lam = 15"):
        diffusion.entropy_rates(late, diffusion.score(late), DATA, KEY, jnp.asarray(15.0))


# ---- by draws


@pytest.fixture(scope="module")
def drawn():
    """One price by draws, and the closed forms beside it."""
    process, model = noisy(DATA), wrong(DATA)
    found = diffusion.price(process, model, DATA, KEY)
    return found, diffusion.price(process, model, DATA, KEY, size=None, flows=1)


def test_draws_agree_with_closed_forms(drawn):
    """At 10^4 draws the score error has a standard error of 4e-5, less than 1.5e-4 in any case; controls see the factors."""
    found, closed = drawn
    assert found.score_error.stderr < 1.5e-4
    sigmas.assert_within(found.score_error, closed.score_error.value, bias=0.02)
    sigmas.assert_sees(found.score_error, closed.score_error.value, bias=0.02)
    sigmas.assert_within(found.total, closed.total.value, bias=0.02)
    sigmas.assert_within(found.noising_entropy, closed.noising_entropy.value, bias=0.08)
    sigmas.assert_within(found.generation_entropy, closed.generation_entropy.value, bias=0.08)
    sigmas.assert_within(found.elbo, closed.elbo.value, absolute=0.06)
    sigmas.assert_within(found.limit, closed.limit.value, absolute=0.04)
    sigmas.assert_within(found.balance, closed.balance.value, bias=0.02)


def test_rates_are_the_integrals(drawn):
    found, _ = drawn
    for name in ("score_error", "norm", "divergence", "generation", "denoising"):
        total = jnp.sum(found.weight * getattr(found.rates, name).value)
        np.testing.assert_allclose(total, jnp.mean(getattr(found.draws, name)), rtol=1e-9)


def test_the_table_and_the_figure(drawn):
    found, _ = drawn
    text = str(found)
    for words in (
        "score error, path-level (7.18)",
        "irreversibility of the model",
        "lam =",
        "in closed form",
    ):
        assert words in text
    assert "it needs a reduced potential" in text
    axes = plt.Figure().subplots()
    plots.pricing(axes, found, label="a tenth too large")
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(
        lines["a tenth too large, score error"], found.rates.score_error.value
    )
    assert axes.xaxis_inverted()
    assert len(lines) == 3
    with pytest.raises(TypeError, match="what thermojax.diffusion.price returns"):
        plots.pricing(axes, 3.0)


def test_a_pair_and_what_samples_tell():
    """From a sample the difference of two score errors is known, and neither of them; a density says the same."""
    process, models = noisy(DATA), (wrong(DATA), wrong(DATA, error=0.08))
    xs = jax.vmap(DATA.sample)(jax.random.split(jax.random.key(5), 5000))
    found = diffusion.compare(process, models, Empirical(xs), KEY)
    exact = (0.1**2 - 0.08**2) * 0.057181310 / 0.1**2
    sigmas.assert_within(found.score_error, exact, bias=0.3)
    np.testing.assert_allclose(found.elbo.value, -found.score_error.value)
    price = found.prices[0]
    assert price.score_error is price.total is price.noising_entropy is price.limit is None
    assert "compare" in price.reasons["score_error"]
    assert "an upper bound" in price.reasons["endpoint"]
    assert price.endpoint.value > 2.159314e-05
    assert "not known" in str(price)
    sigmas.assert_within(price.elbo, -0.782996, absolute=0.15)
    sigmas.assert_within(
        price.last_entropy, diffusion.marginal(process, 1.0).entropy(), absolute=1e-5
    )
    paired = diffusion.compare(process, models, DATA, KEY)
    sigmas.assert_within(paired.score_error, exact, bias=0.02)
    apart = np.hypot(*(p.score_error.stderr for p in paired.prices))
    assert paired.score_error.stderr < apart / 2.5


def test_an_end_by_draws():
    """Each draw is positive; the mean is that of a quadrature."""
    data = Mixture(jnp.array([1.0, 2.0]), [Gaussian(-1.0, 0.1), Gaussian(2.0, 0.2)])
    process = diffusion.noising(data, Linear(t1=0.6))
    x = jnp.linspace(-8.0, 8.0, 4001)[:, None]
    last = diffusion.marginal(process, 0.6)
    p, q = (jax.vmap(density.log_prob)(x) for density in (last, process.final))
    exact = float(jnp.sum(jnp.exp(p) * (p - q)) * 0.004)
    found = diffusion.endpoint(process, data, KEY, size=100_000)
    sigmas.assert_within(found, exact, bias=0.1)
    assert found.value > 0


def test_an_end_of_correlated_data():
    """Two Gaussians that share no axes."""
    cov, mean = np.array([[0.5, 0.3], [0.3, 0.9]]), np.array([1.0, -0.5])
    prior = Gaussian(jnp.array([0.1, 0.2]), jnp.array([[1.2, -0.4], [-0.4, 0.8]]))
    data = Gaussian(jnp.asarray(mean), jnp.asarray(cov))
    process = diffusion.noising(data, Linear(t1=0.3), prior=prior)
    last = diffusion.marginal(process, 0.3)
    inverse, apart = np.linalg.inv(np.asarray(prior.cov)), np.asarray(prior.mean - last.mean)
    ratio = inverse @ np.asarray(last.cov)
    exact = np.trace(ratio) - 2 - np.linalg.slogdet(ratio)[1] + apart @ inverse @ apart
    found = diffusion.endpoint(process, data, KEY)
    np.testing.assert_allclose(found.value, 0.5 * exact, rtol=1e-10)
    assert found.stderr == 0


# ---- uniform data


def test_uniform_with_noise():
    """Normalised, for a narrow and a wide box; the score is that of the definition; finite in the far tails."""
    box = Uniform(-1.0, 1.0)
    for scale, variance in ((1.0, 0.04), (0.02, 1.0), (1.0, 3.0)):
        density = noised(box, scale, variance)
        x = jnp.linspace(-14.0, 14.0, 28001)[:, None]
        p = jnp.exp(jax.vmap(density.log_prob)(x))
        np.testing.assert_allclose(jnp.sum(p) * 1e-3, 1.0, rtol=1e-9)
        at = jnp.array([0.7])
        clean = jnp.linspace(-1.0, 1.0, 20001)
        weight = jnp.exp(-0.5 * (at - scale * clean) ** 2 / variance)
        mean = jnp.trapezoid(weight * clean) / jnp.trapezoid(weight)
        score = jax.grad(density.log_prob)(at)
        np.testing.assert_allclose(score, (scale * mean - at) / variance, rtol=1e-6)
    narrow = noised(box, 1.0, 1e-6)
    for far in (1.5, 30.0, 1e4):
        np.testing.assert_allclose(
            jax.grad(narrow.log_prob)(jnp.array([far])), -(far - 1) * 1e6, rtol=1e-2
        )
    twice = noised(noised(box, 0.5, 0.1), 2.0, 0.3)
    np.testing.assert_allclose(twice.log_prob(at), noised(box, 1.0, 0.7).log_prob(at), rtol=1e-12)
    draws = jax.vmap(twice.sample)(jax.random.split(KEY, 50_000))[:, 0]
    sigmas.assert_within(draws**2, 1 / 3 + 0.7, bias=0.06)
    np.testing.assert_allclose(Uniform(jnp.array([0.0, -1.0]), 1.0).entropy(), np.log(2.0))
    assert box.log_prob(jnp.array([1.1])) == -jnp.inf
    quiet = noised(box, 2.0, 0.0)
    assert [float(quiet.log_prob(jnp.array([v]))) for v in (1.9, 2.1)] == [-np.log(4.0), -np.inf]


def test_the_entropy_of_uniform_data():
    """From the score alone, ln 2 after the correction for what lies above the first level, .009 without; and the limit."""
    data = Uniform(-1.0, 1.0)
    exact = diffusion.score(noisy(data, "VE", 0.0))
    found = diffusion.price(noisy(data, "VE", 1e-4), exact, data, KEY, size=20_000)
    print(found.data_entropy, found.cutoff)
    assert abs(found.data_entropy.value - np.log(2.0)) < 0.01
    sigmas.assert_within(found.data_entropy, np.log(2.0), absolute=0.04)
    np.testing.assert_allclose(found.cutoff.correction, 0.009, atol=0.004)
    np.testing.assert_allclose(found.cutoff.alpha.value, 0.5, atol=0.15)
    sigmas.assert_within(found.limit, found.first_entropy.value, absolute=0.02)


def test_points_have_no_entropy():
    """The rate does not die out: refused, in words, where a plausible number would come."""
    points = Empirical(jnp.array([[-1.0], [0.3], [1.2]]))
    process = diffusion.noising(points, Linear(t0=1e-5))
    found = diffusion.price(process, diffusion.score(process), points, KEY, size=1000)
    assert jnp.isnan(found.data_entropy.value)
    assert "does not fall at the first level" in str(found)
    assert not found.data_entropy.reliable
    assert "minus infinity" in found.reasons["data_entropy"]


# ---- as a loss


def test_paths_know_the_score_error():
    """The works of 200 steps by the wrong and by the exact score, on the same noising paths, differ by the score error: by
    .0600 where it is .0572, since 200 steps are not infinitely many. A fifth less or more would be seen, and is: that of
    a score eight per cent too large. Each work alone also has what the steps dissipate.
    """
    exact, lam = diffusion.score(noisy(DATA, t0=0.0)), jnp.linspace(8.5, -10.0, 200)
    tau = diffusion.chain(lam).noise

    @eqx.filter_jit
    def works(net):
        def work(x0, key):
            return schedules.path_work(lam, diffusion.predictor(net, "score"), x0, key, tau=tau).w

        points, paths = jax.random.split(jax.random.key(8))
        x0 = jax.vmap(DATA.sample)(jax.random.split(points, 50_000))
        return jax.vmap(work)(x0, jax.random.split(paths, 50_000))

    right = works(exact)
    with hurry.at_leisure():
        apart, less = (works(wrong(DATA, error=e)) - right for e in (ERROR, 0.8 * ERROR))
    sigmas.assert_within(apart, 0.057181, bias=0.25)
    sigmas.assert_biased(less, 0.057181)


def test_gradients():
    """Of the score error by the model and by the ends of the schedule, at a fixed key: as finite differences."""
    weights = jnp.array([0.3, -0.2])

    def loss(theta):
        net = lambda x, lam: -x / (1 + theta[0] ** 2) + theta[1] * jnp.tanh(x + 0.1 * lam)
        process = diffusion.noising(DATA, Linear(theta[2], theta[3], t0=1e-3))
        return diffusion.score_error(process, net, DATA, KEY, size=300, nodes=8).value

    theta = jnp.concatenate([weights, jnp.array([0.1, 15.0])])
    slope = jax.jit(jax.grad(loss))(theta)
    value = jax.jit(loss)
    for i, h in enumerate((1e-5, 1e-5, 1e-6, 1e-4)):
        step = h * jnp.eye(4)[i]
        np.testing.assert_allclose(
            slope[i], (value(theta + step) - value(theta - step)) / (2 * h), rtol=1e-6
        )


def test_single_precision():
    single = lambda v: jnp.asarray(v, jnp.float32)
    data = Gaussian(single(1.0), single(0.25))
    schedule = Linear(single(0.1), single(20.0), t0=single(1e-5), t1=single(1.0))
    process = diffusion.noising(data, schedule)
    net = lambda x, lam: (
        -1.1 * (x - jnp.sqrt(jax.nn.sigmoid(lam))) / (1 - 0.75 * jax.nn.sigmoid(lam))
    )
    found = diffusion.price(process, net, data, KEY, size=None)
    assert found.total.value.dtype == jnp.float32
    np.testing.assert_allclose(found.score_error.value, 0.05718131, rtol=1e-5)
    np.testing.assert_allclose(found.endpoint.value, 2.159314e-05, rtol=1e-3)


# ---- work, speed


def test_inefficiency():
    """With phi = -ln p the perfect score wastes what the noising produces, 2.292118: it runs in finite time."""
    data = Gaussian(0.0, 1.0)
    process = noisy(data, "VE")
    process = noisy(data, "VE", prior=diffusion.marginal(process, 1.0))

    def phi(x, level):
        v = 1 + jnp.exp(-level.lam)
        return 0.5 * jnp.sum(x**2 / v + jnp.log(2 * jnp.pi * v))

    exact = diffusion.score(noisy(data, "VE", 0.0))
    found = diffusion.inefficiency(process, exact, phi, KEY, size=5000, steps=200)
    sigmas.assert_within(found, 2.292113, bias=0.25)
    less = diffusion.inefficiency(process, exact, phi, KEY, size=5000, steps=200, delta=0.5)
    np.testing.assert_allclose(found.value - less.value, 0.5, rtol=1e-12)


def test_kinetic_cost():
    """VE, N(0, 1): the length is the change of the width, which even levels go evenly; no schedule beats its square."""
    data = Gaussian(0.0, 1.0)
    process = noisy(data, "VE")
    ends = [diffusion.marginal(process, t) for t in (1e-5, 1.0)]
    distance = float(bounds.wasserstein(*ends))
    found = diffusion.kinetic(process, data, KEY, size=None)
    np.testing.assert_allclose(found.length, distance, rtol=1e-8)
    np.testing.assert_allclose(found.entropy.value, 2.292113, atol=1e-6)
    assert found.cost.value > 1.5 * distance**2
    least = bounds.transport(distance, found.diffusion_time)
    assert found.entropy.value > least
    time = bounds.diffusion_time(process, jnp.linspace(1e-5, 1.0, 101))
    np.testing.assert_allclose(found.diffusion_time, time, rtol=1e-6)
    widths = np.sqrt(1 + np.exp(-np.asarray(found.even(201))))
    np.testing.assert_allclose(np.diff(widths), np.diff(widths).mean(), rtol=5e-3)
    # sd^2(t) in time: the cost of g = sigma^t is int (d sd/dt)^2 dt in closed form
    t = np.linspace(1e-5, 1.0, 200_001)
    sd = np.sqrt(1 + (25.0 ** (2 * t) - 1) / (2 * np.log(25.0)))
    cost = np.trapezoid(np.gradient(sd, t) ** 2, t) * (1 - 1e-5)
    np.testing.assert_allclose(found.cost.value, cost, rtol=1e-5)
    straight = diffusion.noising(data, Levels(found.even(201)[1:], clean=False), kind=VE())
    better = diffusion.kinetic(straight, data, KEY, size=None)
    assert found.length**2 * 0.9 < better.cost.value < 0.6 * found.cost.value


def test_kinetic_cost_of_levels():
    """Uneven levels, which no few nodes resolve: the cost as an integral over time, and its slope."""
    data = Gaussian(0.3, 0.25)
    levels = jnp.array([6.0, 3.0, 1.0, 0.7, 0.4, 0.1, -0.2, -3.0, -6.0])

    def cost(levels):
        process = diffusion.noising(data, Levels(levels, clean=False))
        return diffusion.kinetic(process, data, KEY, size=None).cost.value

    def in_time(levels):
        """The Gaussian moves by the change of its mean and of its width."""
        schedule = Levels(levels, clean=False)

        def place(t):
            lam = schedule.log_snr(t)
            a, s = diffusion.VP().signal(lam), diffusion.VP().noise(lam)
            return jnp.stack([0.3 * a, jnp.sqrt(0.25 * a**2 + s**2)])

        ts = jnp.linspace(schedule.t0, schedule.t1, 16_001)
        middle = 0.5 * (ts[1:] + ts[:-1])
        speed = jax.vmap(jax.jacfwd(place))(middle)
        return (schedule.t1 - schedule.t0) ** 2 * jnp.mean(jnp.sum(speed**2, axis=1))

    got, slope = jax.value_and_grad(cost)(levels)
    want, right = jax.value_and_grad(in_time)(levels)
    np.testing.assert_allclose(got, want, rtol=5e-4)
    np.testing.assert_allclose(slope, right, atol=1e-4 * jnp.max(jnp.abs(right)))


# ---- bad input


def test_bad_input():
    process, exact = noisy(DATA), wrong(DATA)
    price = lambda process=process, predict=exact, data=DATA, **options: diffusion.price(
        process, predict, data, KEY, **({"size": 200} | options)
    )
    with pytest.raises(ValueError, match="Say from which level on"):
        price(noisy(DATA, t0=0.0))
    one = lambda predict, data=DATA, size=20: diffusion.generation_entropy(
        process, predict, data, KEY, size=size, nodes=4
    )
    with pytest.raises(ValueError, match="not finite somewhere on the data"):
        one(lambda x, lam: jnp.log(x))
    narrow = noisy(DATA, prior=Uniform(-1.0, 1.0))
    with pytest.raises(ValueError, match="The prior does not cover"):
        diffusion.endpoint(narrow, DATA, KEY, size=200)
    with pytest.raises(ValueError, match="at least two rows"):
        price(data=jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="one row per data point"):
        price(data=jnp.ones(5))
    with pytest.raises(ValueError, match="as many coordinates as the noising, 1; got 2"):
        price(data=jnp.ones((5, 2)))
    with pytest.raises(ValueError, match="must return a state of shape"):
        price(predict=lambda x, lam: x[0])
    with pytest.raises(ValueError, match="linear in x"):
        one(lambda x, lam: -(x**3), size=None)
    with pytest.raises(ValueError, match="needs Gaussian data"):
        price(data=Uniform(-1.0, 1.0), size=None)
    with pytest.raises(ValueError, match="must lie above the last level"):
        price(top=-20.0)
    with pytest.raises(ValueError, match="needs the exact score"):
        diffusion.score_error(process, exact, jnp.ones((5, 1)), KEY)
    with pytest.raises(TypeError, match="must be a noising"):
        price(tjx.Process(tjx.Overdamped(lambda x, lam: 0.0), lambda t: t, DATA))
    with pytest.raises(TypeError, match="One floating-point precision"):
        price(data=jnp.ones((5, 1), jnp.float32))
    with pytest.raises(ValueError, match="above Uniform.lower"):
        Uniform(1.0, 1.0)
    with pytest.raises(ValueError, match="above 1"):
        SigmaT(0.5)
    few = one(lambda x, lam: -x, jnp.array([[0.1], [0.5], [0.7]]))
    assert "too few" in few.why
    traced = jax.jit(
        lambda top: diffusion.noising_entropy(process, DATA, KEY, size=50, nodes=4, top=top).value
    )
    assert jnp.isnan(traced(-20.0))
    assert jnp.isfinite(traced(5.0))
