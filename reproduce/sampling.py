"""The long half, samplers: what N steps generate, of Gaussian data in closed form and of eight modes by quadrature."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import thermojax as tjx
from thermojax import schedules
from thermojax.densities import Gaussian
from thermojax.schedules import LogSNR

from .eight_modes import MODES, STD, curve, denoise, log_p, plane
from .row import Row

SONG = "Song, Meng & Ermon, arXiv:2010.02502 (the sampler); closed form of Gaussian data"
AYS = "Sabour et al., arXiv:2404.14507"
JARZYNSKI = "Jarzynski, PRL 78, 2690 (1997)"
PROGRAM = "an independent program"
SPREAD, FIRST, LAST = 0.5, 0.002, 80.0


class Linear(eqx.Module):
    """The denoiser of N(0, spread^2)."""

    spread: jax.Array

    def __call__(self, x, lam):
        a2 = jax.nn.sigmoid(lam)
        wide = a2 * self.spread**2 + jax.nn.sigmoid(-lam)
        return jnp.sqrt(a2) * self.spread**2 / wide * x


def noises(kind, steps):
    share = jnp.linspace(0.0, 1.0, steps + 1)
    if kind == "arctan":
        low, high = jnp.arctan(FIRST / SPREAD), jnp.arctan(LAST / SPREAD)
        return SPREAD * jnp.tan(low + share * (high - low))
    if kind == "Karras":
        return (FIRST ** (1 / 7) + share * (LAST ** (1 / 7) - FIRST ** (1 / 7))) ** 7
    return FIRST * (LAST / FIRST) ** share


class Inner(tjx.optimal.AbstractExactLoss):
    """-ln p where it has its mean, of the levels between two ends."""

    first: jax.Array
    last: jax.Array

    def __call__(self, schedule, key=None):
        lam = jnp.concatenate([self.first, schedule(), self.last])
        x = jnp.array([((SPREAD**2 + FIRST**2) / (1 + FIRST**2)) ** 0.5])
        return -schedules.ode_log_prob(lam, Linear(jnp.asarray(SPREAD)), x).value

    def check(self):
        return None

    def failures(self, protocol, key):
        return ""

    def likelihood_ratio(self, protocol, key):
        raise ValueError("There are no paths.")


def deterministic() -> Iterator[Row]:
    """DDIM from noise 80 to 0.002 on N(0, 1/4), by inverting its steps: KL(generated || data at .002)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    net, marginal = Linear(jnp.asarray(SPREAD)), SPREAD**2 + LAST**2
    prior = Gaussian(0.0, marginal / (1 + LAST**2))
    clean = (SPREAD**2 + FIRST**2) / (1 + FIRST**2)

    @jax.jit
    def run(lam, x):
        return jax.vmap(lambda x: schedules.ode_log_prob(lam, net, x, prior=prior).value)(x)

    for steps, table in ((5, (0.052321, 0.251864, 0.222992)), (10, (0.013801, 0.067323, 0.059226))):
        for kind, want in zip(("arctan", "Karras", "log-uniform"), table, strict=True):
            lam = schedules.from_sigmas(noises(kind, steps))
            start = jnp.array([prior.cov[0, 0] ** 0.5])
            reached = float(schedules.ode_sample(lam, net, start)[0])  # linear: a width to a width
            x = reached * nodes
            exact = -0.5 * (x**2 / clean + np.log(2 * np.pi * clean))
            kl = weights @ (np.asarray(run(lam, jnp.asarray(x)[:, None])) - exact) / weights.sum()
            what = f"DDIM, {steps} steps, {kind}: KL of N(0, 1/4) per dimension"
            yield Row(what, SONG, want, float(kl), 1e-6)
            if kind == "arctan":
                turn = (np.arctan(LAST / SPREAD) - np.arctan(FIRST / SPREAD)) / steps
                ratio = reached / clean**0.5
                what = "the same: width reached over the width of the data"
                yield Row(what, SONG + ", cos(turn)^N", np.cos(turn) ** steps, ratio, 1e-9)
    lam = schedules.from_sigmas(noises("log-uniform", 5))
    start = LogSNR.from_array(lam[1:-1], low=lam[-1], high=lam[0])
    found = tjx.optimal.search(Inner(lam[:1], lam[-1:]), start, steps=80, progress=False).found()
    best = schedules.from_sigmas(noises("arctan", 5))[1:-1]
    off = float(jnp.max(jnp.abs(found - best)))
    what = "DDIM, 5 steps, levels searched from log-uniform: largest distance from the arctan law"
    yield Row(what, SONG, 0.0, off, 2e-3)


# of least work in ten steps, as examples/samplers.py finds them
LEAST = (4.3008605598, 3.6510908625, 3.2335604167, 2.8890951259, 2.5647471129)
LEAST += (2.2289956337, 1.8596449343, 1.4542253836, 1.0083811911, 0.4459430229)
LEVELS = jnp.linspace(-8.0, 10.0, 181)


def modes() -> Iterator[Row]:
    """Eight narrow modes on a circle, exact denoiser: the price of paths, and everybody's levels in its terms."""
    of = curve(LEVELS)
    z, weights = plane(40)
    entropy = -float(weights @ jax.vmap(log_p)(MODES[0][None] + STD * z))
    lam = jnp.array(LEAST)
    work = float(schedules.mean_work(lam, of).total) - entropy
    what = "eight modes, 10 steps: least mean work"
    yield Row(what, PROGRAM, None, work, 1e-3, theirs=0.255)
    top, bottom = 4.271, 0.421
    noise = jnp.exp(-0.5 * jnp.array([top, bottom]))
    for name, lam, want in (
        ("least of all, by Watson's program", schedules.dynamic(of, 10, top, bottom), 0.2100),
        ("equal length", schedules.equal_length(of, 10, top, bottom), 0.2167),
        ("AYS", schedules.align(of, 10, top, bottom), 0.2147),
        ("even in log-SNR", LogSNR.uniform(10, top, bottom)(), 0.2225),
        ("Karras", LogSNR.edm(10, sigma_min=noise[0], sigma_max=noise[1])(), 0.2234),
        ("entropic time", schedules.entropic(of, 10, top, bottom), 0.2382),
        ("arctan", schedules.arctan(10, top, bottom, scale=np.sqrt(1 + STD**2)), 0.2592),
    ):
        spent = float(jnp.sum(schedules.dissipation(lam, of)))
        what = f"eight modes, 10 levels, {name}: dissipated by the steps"
        yield Row(what, PROGRAM + ", 1 %", None, spent, 0.01 * want, theirs=want)
    lam = jnp.array([4.3, 3.2, 2.2, 1.2, 0.44])
    klub = float(jnp.sum(schedules.dissipation(lam, of, tau="posterior")))
    what = "eight modes, five levels: KLUB, from the curve"
    source = f"{AYS}; {PROGRAM}, by Monte Carlo, 1 %"
    yield Row(what, source, None, klub, 0.01 * 1.305, theirs=1.305)


def pointwise(points=4000, paths=256) -> Iterator[Row]:
    """Likelihood of ten steps by Jarzynski's equality, point by point: more paths from each point bound it better."""
    lam = jnp.array(LEAST)
    of = curve(LEVELS)
    tau = schedules.variances(lam, of)
    choose, spread, noise = jax.random.split(jax.random.key(0), 3)
    at = jnp.asarray(MODES)[jax.random.choice(choose, 8, (points,))]
    data = at + STD * jax.random.normal(spread, (points, 2))

    @jax.jit
    def works(data, keys):
        def of_point(given):
            x0, key = given
            one = lambda key: schedules.path_work(lam, denoise, x0, key, tau=tau, log_p0=log_p).w
            return jax.vmap(one)(jax.random.split(key, paths))

        return jax.lax.map(of_point, (data, keys))

    w = np.asarray(works(data, jax.random.split(noise, points)))
    for size, theirs in ((1, 0.248), (16, 0.034), (paths, 0.011)):
        groups = w.reshape(points, -1, size)
        kl = -np.log(np.mean(np.exp(-groups), axis=2)).mean(1)  # of each point, ln p / p_N
        if size == paths:  # the jackknife takes the first order of the bias off
            sums = np.exp(-w).sum(1, keepdims=True)
            less = -np.log((sums - np.exp(-w)) / (paths - 1)).mean(1)
            yield kl_row(f"{size} paths, bias taken off,", paths * kl - (paths - 1) * less, 0.0089)
        yield kl_row(f"{size} path{'s' * (size > 1)}", kl, theirs)


def kl_row(what, each, theirs) -> Row:
    value, error = each.mean(), each.std(ddof=1) / len(each) ** 0.5
    name = f"eight modes, 10 steps, least work: KL(data || generated), {what} from each point"
    within = 4 * (2 * error**2) ** 0.5  # theirs, of as many points, errs as much
    return Row(name, JARZYNSKI, None, float(value), float(within), float(error), theirs)


LONG = (deterministic, modes, pointwise)
