"""The quick half, diffusion models: exact numbers of Gaussian data; and what numbers say against statements in print."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from thermojax import densities, diffusion, evolve, schedules
from thermojax.densities import Gaussian

from .row import Row

KEY = jax.random.key(0)
NARROW, UNIT = Gaussian(1.0, 0.25), Gaussian(0.0, 1.0)
ZHANG = "Zhang, arXiv:2606.18290"
LIMITS = "Kodama & Hinczewski, arXiv:2510.06174"
CLOSED = "closed form of Gaussian data"


class Scaled(eqx.Module):
    """The exact score, times 1 + error."""

    score: diffusion.Predictor
    error: jax.Array

    def __call__(self, x, lam):
        return (1 + self.error) * self.score(x, lam)


def noisy(data, kind, t0=1e-5, **options):
    if kind == "VP":
        return diffusion.noising(data, diffusion.Linear(t0=t0), **options)
    return diffusion.noising(data, diffusion.SigmaT(25.0, t0=t0), kind=diffusion.VE(), **options)


def scaled(data, kind, error):
    return Scaled(diffusion.score(noisy(data, kind, 0.0)), jnp.asarray(error))


def scores() -> Iterator[Row]:
    """A score that is a tenth too large or too small, VP, data N(1, 1/4); the two samplers are two models."""
    fine = diffusion.price(
        noisy(NARROW, "VP", 1e-7), scaled(NARROW, "VP", 0.1), NARROW, KEY, size=None, nodes=48
    )
    yield Row(
        "VP, score + 10 %: score error",
        "Girsanov's theorem, " + CLOSED,
        0.057181310,
        float(fine.score_error.value),
        2e-8,
    )
    yield Row(
        "VP: KL of the last density and the prior",
        CLOSED,
        2.159314e-05,
        float(fine.endpoint.value),
        1e-10,
    )
    for error, sde, ode in ((0.1, 0.734631, 1.223029), (-0.1, 0.737361, 0.956968)):
        process, model = noisy(NARROW, "VP"), scaled(NARROW, "VP", error)
        found = diffusion.price(process, model, NARROW, KEY, size=None, flows=1)
        yield Row(
            f"VP, score {error:+.0%}: likelihood of the flow",
            CLOSED,
            ode,
            float(found.nll.value),
            5e-6,
        )
        end = evolve.moments(diffusion.generate(process, model), jnp.array([1e-5, 0.5, 1.0]))
        v, m = float(end.cov[-1, 0, 0]), float(end.mean[-1, 0])
        nll = 0.5 * (np.log(2 * np.pi * v) + (0.25 + (1 - m) ** 2) / v)
        what = f"VP, score {error:+.0%}"
        yield Row(f"{what}: likelihood of the SDE", CLOSED, sde, nll, 5e-6)
        want = 0.208333 if error > 0 else 0.312493
        yield Row(f"{what}: variance of the SDE's samples", CLOSED, want, v, 5e-6)
        for name, likelihood, want in (
            ("SDE", nll, 0.008839 if error > 0 else 0.011570),
            ("flow", float(found.nll.value), 0.497237 if error > 0 else 0.231176),
        ):
            off = likelihood - float(NARROW.entropy())
            yield Row(f"{what}: KL(data || {name})", CLOSED, want, off, 5e-6)


class Curve(schedules.AbstractCurve):
    """The denoising curve of N(0, variance)."""

    second_moment: float
    dim: int = eqx.field(static=True, default=1)

    def __call__(self, lam):
        return self.second_moment / (1 + jnp.exp(lam) * self.second_moment)


def entropy(variance):
    return 0.5 * np.log(2 * np.pi * np.e * variance)


def betas(number, first, last):
    """Levels of a chain whose variances rise linearly."""
    log_a2 = jnp.cumsum(jnp.log1p(-jnp.linspace(first, last, number)))
    return log_a2 - jnp.log(-jnp.expm1(log_a2))


def variances(lam, costs) -> Iterator[Row]:
    """Of the three variances in use; the posterior's is zero for the decoder, which gets the forward one."""
    kernels = diffusion.chain(lam)
    posterior = kernels.posterior.at[0].set(kernels.noise[0])
    source = "Ho et al., arXiv:2006.11239 (the chain); " + CLOSED
    taus = {"optimal": "optimal", "forward": "forward", "posterior": posterior}
    for (name, tau), cost in zip(taus.items(), costs, strict=True):
        found = float(schedules.mean_work(lam, Curve(0.25), tau=tau).total) - entropy(0.25)
        what = f"{len(lam)} steps, {name} variances, N(0, 1/4): -ELBO - S_0"
        within = 6e-7 if cost > 1e-4 else 0.01 * cost if cost else 1e-9
        yield Row(what, source, cost, found, within)


def chains() -> Iterator[Row]:
    """What N steps dissipate, and the schedule that dissipates least."""
    yield Row("N(0, 1/4): entropy S_0", CLOSED, 0.725791353, float(NARROW.entropy()), 6e-10)
    lam = betas(10, 0.01, 0.7)
    yield from variances(lam, (5.908e-6, 0.068343, 2.470462))
    bounds = schedules.uncertainty(lam, 1, curve=Curve(0.25))
    source = "Sohl-Dickstein et al., arXiv:1503.03585; " + CLOSED
    for name, words, want in (
        ("lower", ", lower bound", 0.839006),
        ("value", "", 0.876321),
        ("upper", ", upper bound", 0.952390),
    ):
        found = float(getattr(bounds, name)[5])
        yield Row(f"entropy of the 6th step{words}", source, want, found, 6e-7)
    for s, n in ((0.5, 10), (0.5, 25), (0.5, 100), (0.1, 50), (2.0, 20)):
        want = 0.5 * ((n + 1) * (s ** (2 / (n + 1)) - 1) - np.log(s**2))
        v = s ** (2 * (n + 1 - np.arange(1, n + 1)) / (n + 1))
        square = (v - 1) / (s**2 - 1)
        best = jnp.asarray(np.log(square / (1 - square)))
        found = float(schedules.mean_work(best, Curve(s**2), tau="forward").total) - entropy(s**2)
        yield Row(
            f"{n} steps, N(0, {s**2:g}): least mean work of any schedule",
            CLOSED,
            want,
            found,
            1e-10,
        )


def longer() -> Iterator[Row]:
    """The same for 100 and 1000 steps; and what small steps dissipate, by the metric."""
    yield from variances(betas(100, 1e-3, 0.2), (5.8e-11, 0.010961, 1.250134))
    yield from variances(betas(1000, 1e-4, 0.02), (0.0, 0.001092, 0.456348))
    lam, gap = jnp.linspace(-2.0, 3.0, 6), 0.02
    pairs = jnp.stack([lam + gap / 2, lam - gap / 2], 1)
    for tau in ("posterior", "forward"):
        metric = schedules.friction(lam, Curve(0.25), tau=tau)
        each = [float(schedules.dissipation(pair, Curve(0.25), tau=tau)[0]) for pair in pairs]
        ratio = np.array(each) / (0.5 * np.asarray(metric) * gap**2)
        far = float(ratio[np.argmax(np.abs(ratio - 1))])
        what = f"steps of {gap} with {tau} variances, N(0, 1/4): dissipated over the metric's"
        yield Row(what, CLOSED, 1.0, far, 0.01)


def limits() -> Iterator[Row]:
    """VE, N(0, 1), the exact score: the limit with the prior's entropy, and the two likelihoods, for four noises."""
    for sigma, by_prior, ode, sde in (
        (10.0, 1.407572, 1.419463277, 1.418939512),
        (20.0, 1.415212, 1.418994347, 1.418938545),
        (25.0, 1.416373, 1.418964961, 1.418938536),
        (30.0, 1.417054, 1.418952775, 1.418938534),
    ):
        schedule = lambda t0, sigma=sigma: diffusion.SigmaT(sigma, t0=t0)
        process = diffusion.noising(UNIT, schedule(1e-7), kind=diffusion.VE())
        exact = diffusion.score(diffusion.noising(UNIT, schedule(0.0), kind=diffusion.VE()))
        found = diffusion.price(process, exact, UNIT, KEY, size=None, flows=1)
        limit = found.limit.value
        other = limit + 0.5 * (process.final.entropy() - found.last_entropy.value)
        ts = jnp.array([1e-7, 0.5, 1.0])
        end = evolve.moments(diffusion.generate(process, exact), ts, rtol=1e-11)
        v = float(end.cov[-1, 0, 0])
        nll = 0.5 * (np.log(2 * np.pi * v) + 1 / v)
        for words, want, ours in (
            ("their limit is the entropy", 1.418938533, limit),
            ("their limit with the prior's entropy", by_prior, other),
            ("likelihood of the flow", ode, found.nll.value),
            ("likelihood of the SDE", sde, nll),
        ):
            what = f"exact score, VE {sigma:g}, from clean data: {words}"
            yield Row(what, LIMITS, want, float(ours), 1e-6)
        if sigma == 25.0:
            last = float(found.last_entropy.value)
            yield Row("the same: entropy of the last density", CLOSED, 3.711056, last, 1e-6)


def uniform() -> Iterator[Row]:
    """U(-1, 1) under VE: entropies of its densities, by quadrature; their change is the integral of the entropy rate."""
    x, step = jnp.linspace(-1.0, 1.0, 200_001), 1e-5
    logs = jax.jit(lambda density, x: jax.vmap(density.log_prob)(x[:, None]))

    def entropy_at(t, sigma):
        variance = (sigma ** (2 * t) - 1) / (2 * np.log(sigma))
        reach = 1 + 10 * variance**0.5
        log_p = logs(densities.noised(densities.Uniform(-1.0, 1.0), 1.0, variance), reach * x)
        return -float(jnp.sum(jnp.exp(log_p) * log_p)) * reach * step

    for sigma, last, change in ((10.0, 2.960602, 2.258423), (25.0, 3.707641, 3.005461)):
        what, end, start = (
            f"U(-1, 1), VE {sigma:g}",
            entropy_at(1.0, sigma),
            entropy_at(1e-4, sigma),
        )
        source = "quadrature; the setting of " + LIMITS
        yield Row(f"{what}: entropy of the last density", source, last, end, 1e-6)
        words = "integral of the exact score's entropy rate from t = 0.0001"
        yield Row(f"{what}: {words}", source, change, end - start, 1.5e-6)
        edges = ((sigma**2e-4 - 1) / (2 * np.log(sigma))) ** 0.5  # of that width, at both ends
        cut = np.log(2) + 0.9031972 * edges
        words = "entropy found, not corrected for the cut-off (ln 2 is exact)"
        yield Row(f"{what}: {words}", source, cut, start, 2e-9)


def corrections() -> Iterator[Row]:
    """What numbers say against a statement: `theirs` as it would be by the statement, `exact` as it is."""
    prior = diffusion.marginal(noisy(UNIT, "VE"), 1.0)
    process = noisy(UNIT, "VE", prior=prior)
    for e, words, ode, sde, square, divergence in (
        (-0.1, "10 % too small", 0.045352, 0.011065, 0.217751, 0.114606),
        (-0.01, "1 % too small", 0.000517, 0.000099, 0.022807, 0.011461),
        (0.1, "10 % too large", 0.061578, 0.008758, -0.240672, -0.114606),
    ):
        what, model = f"score {words}, VE, sigma = 25", scaled(UNIT, "VE", e)
        found = diffusion.price(process, model, UNIT, KEY, size=None, flows=1)
        start, nll = float(found.first_entropy.value), float(found.nll.value)
        yield Row(f"{what}: likelihood of the flow - S_0", CLOSED, ode, nll - start, 1e-5)
        end = evolve.moments(diffusion.generate(process, model), jnp.array([1e-5, 0.5, 1.0]))
        v = float(end.cov[-1, 0, 0])
        nll = 0.5 * (np.log(2 * np.pi * v) + 1 / v)
        off = nll - float(UNIT.entropy())
        yield Row(f"{what}: likelihood of the SDE - S_0", CLOSED, sde, off, 1e-5)
        side = "above" if e < 0 else "below"
        for rate, want, limit in (
            ("square", square, found.limit.value),
            ("divergence", divergence, found.limit_divergence.value),
        ):
            said = f"{what}: their limit - S_0, rate by the score's {rate}: {side} the likelihood"
            yield Row(said, LIMITS, want, float(limit) - start, 1e-5)
        if e == 0.1:
            want, error = 0.5 * e**2 * 4.584236, float(found.score_error.value)
            yield Row(f"{what}: score error, e^2/2 ln(v_1/v_0)", CLOSED, want, error, 2e-5)
    lam = jnp.stack([diffusion.Linear(t0=0.0)(t).lam for t in (0.1, 0.3, 0.6, 0.9)])
    exact = diffusion.score(noisy(NARROW, "VP", 0.0))
    rates = diffusion.entropy_rates(noisy(NARROW, "VP"), exact, NARROW, KEY, lam, size=None)
    ratios = rates.exchange.value / rates.intrinsic.value
    wanted = (-1.9015, -1.8102, -1.7537, -1.75)
    for t, want, ratio in zip((0.1, 0.3, 0.6, 0.9), wanted, ratios, strict=True):
        what = f"exchange over intrinsic entropy rate of generation, VP, N(1, 1/4), t = {t} (theirs: VE)"
        yield Row(what, LIMITS, want, float(ratio), 5e-5, theirs=-2.0)
    found = diffusion.price(
        noisy(NARROW, "VP"), scaled(NARROW, "VP", 0.1), NARROW, KEY, size=None, flows=1
    )
    divergence = float(found.nll.value - NARROW.entropy())
    what = (
        "score error .0572, VP: bounds the KL of the SDE's samples (.0088), not that of the flow's"
    )
    yield Row(what, ZHANG + ", Eq. (7.18)", 0.497237, divergence, 1e-5)
    perfect = diffusion.price(
        process, diffusion.score(noisy(UNIT, "VE", 0.0)), UNIT, KEY, size=None
    )
    what = "perfect score, finite time, VE: entropy production, zero only for slow noising"
    yield Row(
        what,
        ZHANG + ", Eqs. (7.29), (7.30)",
        2.292118,
        float(perfect.noising_entropy.value),
        2e-5,
    )
    printed = float(np.log(1.4996e-7) / np.log(1.8888e-2))
    ours = (100**2 / (100 * 1000 / 12)) / ((100 / 3) ** 2 / (100 * 1000 / 30))
    what = "bounds exp(-W^2/(2 s^2 V)) of triangle and ramp: the ratio of their logarithms, any s"
    yield Row(what, "Jha, arXiv:2512.03123, README of its code", 3.6, ours, 1e-12, theirs=printed)


SECTIONS = (scores, chains)
LONG = (longer, limits, uniform)
