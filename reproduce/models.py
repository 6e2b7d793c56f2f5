"""The quick half, diffusion models: exact numbers of Gaussian data; and what numbers say against statements in print."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from thermojax import diffusion, evolve, schedules
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
        yield Row(f"VP, score {error:+.0%}: likelihood of the SDE", CLOSED, sde, nll, 5e-6)


class Curve(schedules.AbstractCurve):
    """The denoising curve of N(0, variance)."""

    second_moment: float
    dim: int = eqx.field(static=True, default=1)

    def __call__(self, lam):
        return self.second_moment / (1 + jnp.exp(lam) * self.second_moment)


def chains() -> Iterator[Row]:
    """What N steps dissipate, and the schedule that dissipates least."""
    entropy = lambda variance: 0.5 * np.log(2 * np.pi * np.e * variance)
    source = "Ho et al., arXiv:2006.11239 (the chain); " + CLOSED
    log_a2 = jnp.cumsum(jnp.log1p(-jnp.linspace(0.01, 0.7, 10)))
    lam, curve = log_a2 - jnp.log(-jnp.expm1(log_a2)), Curve(0.25)
    for tau, cost, within in (("optimal", 5.908e-6, 1e-9), ("forward", 0.068343, 6e-7)):
        found = float(schedules.mean_work(lam, curve, tau=tau).total) - entropy(0.25)
        yield Row(f"10 steps, {tau} variances, N(0, 1/4): -ELBO - S_0", source, cost, found, within)
    bounds = schedules.uncertainty(lam, 1, curve=curve)
    source = "Sohl-Dickstein et al., arXiv:1503.03585; " + CLOSED
    for name, want in (("lower", 0.839006), ("upper", 0.952390)):
        yield Row(
            f"entropy of the 6th step, {name} bound",
            source,
            want,
            float(getattr(bounds, name)[5]),
            6e-7,
        )
    for s, n in ((0.5, 10), (0.5, 25), (2.0, 20)):
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


def corrections() -> Iterator[Row]:
    """What numbers say against a statement: `theirs` as it would be by the statement, `exact` as it is."""
    prior = diffusion.marginal(noisy(UNIT, "VE"), 1.0)
    process = noisy(UNIT, "VE", prior=prior)
    found = diffusion.price(process, scaled(UNIT, "VE", -0.1), UNIT, KEY, size=None, flows=1)
    start = float(found.first_entropy.value)
    what = "score 10 % too small, VE, sigma = 25"
    yield Row(
        f"{what}: likelihood of the flow - S_0",
        CLOSED,
        0.045352,
        float(found.nll.value) - start,
        1e-5,
    )
    for rate, want, limit in (
        ("square", 0.217751, found.limit.value),
        ("divergence", 0.114606, found.limit_divergence.value),
    ):
        words = f"{what}: their limit - S_0, rate by the score's {rate}: above the likelihood"
        yield Row(words, LIMITS, want, float(limit) - start, 1e-5)
    lam = jnp.stack([diffusion.Linear(t0=0.0)(t).lam for t in (0.1, 0.9)])
    exact = diffusion.score(noisy(NARROW, "VP", 0.0))
    rates = diffusion.entropy_rates(noisy(NARROW, "VP"), exact, NARROW, KEY, lam, size=None)
    for t, want, ratio in zip(
        (0.1, 0.9), (-1.9015, -1.75), rates.exchange.value / rates.intrinsic.value, strict=True
    ):
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
