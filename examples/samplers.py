r"""What N steps generate, side by side: the stochastic and the deterministic sampler, by bound, likelihood and samples.

Eight narrow modes on a circle, whose denoiser is exact; two moons, with a small network trained here; and, when asked for,
scikit-learn's digits, with the networks of examples/digits.py (trained if they are not yet).

The mean work <w> is a price of paths. KL(data || generated) is what samples show: of the chain by Jarzynski's equality from
each data point, which needs no more than the network, and for the modes by their density, too; of the deterministic sampler
by inverting its steps. Between the two stands the gap, which no sample shows.

Writes out/samplers.json and out/samplers.png.

    python examples/samplers.py
    python examples/samplers.py digits   # adds the digits to out/samplers.json
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

began = time.perf_counter()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from scipy.optimize import minimize  # noqa: E402

jax.config.update("jax_enable_x64", True)

from thermojax import diffusion, estimators, optimal, plots, schedules  # noqa: E402
from thermojax.schedules import LogSNR, mean_work  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

OUT = Path("out")
STEPS, POINTS, PATHS = (6, 10, 25), 4000, 256
SAMPLES, PARTS = 10_000, 10  # and into how many they are divided for an error
CLEAN = -2 * np.log(0.002)  # where the deterministic samplers stop

# ---- eight modes

ANGLES, STD = jnp.arange(8.0) * jnp.pi / 4, 0.1
MODES = jnp.sqrt(2.0) * jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=1)


def components(x, lam):
    """Log densities of the components at the level lam, and the share of their variance that is noise."""
    a2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
    v = a2 * STD**2 + s2
    far = jnp.sum((x - jnp.sqrt(a2) * MODES) ** 2, axis=1)
    return -far / (2 * v) - jnp.log(2 * jnp.pi * v) - jnp.log(8.0), s2 / v


def log_p(x):
    return jax.nn.logsumexp(components(x, jnp.inf)[0])


def denoise(x, lam):
    logs, share = components(x, lam)
    return share * jax.nn.softmax(logs) @ MODES + (1 - share) * x / jnp.sqrt(jax.nn.sigmoid(lam))


@partial(jax.jit, static_argnums=1)
def modes(key, count):
    choose, spread = jax.random.split(key)
    chosen = jax.random.choice(choose, 8, (count,))
    return MODES[chosen] + STD * jax.random.normal(spread, (count, 2))


def quadrature(count):
    """Points and weights of one mode: all are alike."""
    z, w = np.polynomial.hermite_e.hermegauss(count)
    at, weights = np.stack(np.meshgrid(z, z), -1).reshape(-1, 2), np.outer(w, w).ravel()
    keep = weights > 1e-12 * weights.sum()
    return MODES[0] + STD * jnp.asarray(at[keep]), jnp.asarray(weights[keep] / weights.sum())


@jax.jit
def exact_curve(levels):
    z, weights = quadrature(48)
    z = (z - MODES[0]) / STD

    def mse(lam):
        a = jnp.sqrt(jax.nn.sigmoid(lam))
        v = jax.nn.sigmoid(lam) * STD**2 + jax.nn.sigmoid(-lam)

        def variance(z):
            logs, share = components(a * MODES[0] + jnp.sqrt(v) * z, lam)
            p = jax.nn.softmax(logs)
            return share * STD**2 + share**2 * jnp.sum(p[:, None] * (MODES - p @ MODES) ** 2) / 2

        return weights @ jax.vmap(variance)(z)

    return schedules.Curve(levels, jax.lax.map(mse, levels), 1 + STD**2, 2)


def optimum(curve, steps, low, high):
    """The levels of least mean work."""
    start = LogSNR.from_array(schedules.equal_length(curve, steps, 4.5, -1.0), low=low, high=high)
    cost = schedules.cost_of(curve)
    return optimal.search(
        cost, start, jax.random.key(0), steps=150, prices=2, progress=False
    ).found()


# ---- what samples show


@jax.jit
def sliced_w2(x, y):
    """The root of the squared Wasserstein distance of projections, averaged over 64 directions of the plane."""
    angles = jnp.pi * (jnp.arange(64.0) + 0.5) / 64
    ways = jnp.stack([jnp.cos(angles), jnp.sin(angles)])
    return jnp.sqrt(jnp.mean((jnp.sort(x @ ways, axis=0) - jnp.sort(y @ ways, axis=0)) ** 2))


def measured(x, data, off):
    """Metrics of generated against fresh data, with the scatter over parts as error."""
    near = lambda f: estimators.mean(
        jnp.stack(
            [f(*pair) for pair in zip(jnp.split(x, PARTS), jnp.split(data, PARTS), strict=True)]
        )
    )
    share = jnp.mean(off(x))
    row = {"off": float(share), "off_stderr": float(jnp.sqrt(share * (1 - share) / len(x)))}
    for name, f in (("energy", estimators.energy_distance), ("sliced_w2", sliced_w2)):
        found = near(f)
        row |= {name: float(found.value), f"{name}_stderr": float(found.stderr)}
    return row


# ---- the chain of the mixture


@partial(jax.jit, static_argnames=("draws", "batches"))
def generated(lam, tau, key, draws=20_000, batches=10):
    """Samples, and KL(data || generated): the last kernel averaged over states that the chain generates, by quadrature."""
    kernels, later = diffusion.chain(lam), jax.tree.map(lambda v: v[1:], diffusion.chain(lam))
    x, weights = quadrature(20)
    cos, sin = jnp.cos(ANGLES), jnp.sin(ANGLES)
    turns = jnp.stack([jnp.stack([cos, -sin], 1), jnp.stack([sin, cos], 1)], 1)
    points = jnp.einsum("tij,pj->pti", turns, x)  # the chain is as symmetric as the modes

    def back(x, step):
        kernel, level, variance, key = step
        mean = jax.vmap(kernel.generated)(x, jax.vmap(denoise, (0, None))(x, level))
        return mean + jnp.sqrt(variance) * jax.random.normal(key, x.shape), None

    def densities(key):
        one, two, three = jax.random.split(key, 3)
        start, keys = jax.random.normal(one, (draws, 2)), jax.random.split(two, len(lam) - 1)
        x1, _ = jax.lax.scan(back, start, (later, lam[1:], tau[1:], keys), reverse=True)
        last = jax.tree.map(lambda v: v[0], kernels)
        means = jax.vmap(last.generated)(x1, jax.vmap(denoise, (0, None))(x1, lam[0]))
        near = lambda x: jnp.mean(jnp.exp(-jnp.sum((x - means) ** 2, 1) / (2 * tau[0])))
        p = jax.lax.map(lambda p: jnp.mean(jax.vmap(near)(p)), points) / (2 * jnp.pi * tau[0])
        few = means[: SAMPLES // batches]
        return p, few + jnp.sqrt(tau[0]) * jax.random.normal(three, few.shape)

    p, samples = jax.lax.map(densities, jax.random.split(key, batches))
    kl = lambda p: weights @ (jax.vmap(log_p)(x) - jnp.log(p))
    less = jax.vmap(lambda one: kl((p.sum(0) - one) / (batches - 1)))(p)  # the jackknife
    error = jnp.sqrt((batches - 1) * jnp.mean((less - less.mean()) ** 2))
    return samples.reshape(-1, 2), batches * kl(p.mean(0)) - (batches - 1) * less.mean(), error


@jax.jit
def off_mode(x):
    return jnp.min(jnp.linalg.norm(x[:, None] - MODES, axis=2), axis=1) > 4 * STD


def chain(n, curve, data, fresh, keys):
    """Of n steps with the levels of least work: their price, what they generate, and what others dissipate."""
    entropy = -float(quadrature(48)[1] @ jax.vmap(log_p)(quadrature(48)[0]))
    best = optimum(curve, n, -7.0, 9.0)
    top, bottom = best[0], best[-1]
    noise = jnp.exp(-0.5 * jnp.array([top, bottom]))
    levels = {
        "least work": best,
        "equal length": schedules.equal_length(curve, n, top, bottom),
        "AYS": schedules.align(curve, n, top, bottom),
        "log-SNR": LogSNR.uniform(n, top, bottom)(),
        "Karras": LogSNR.edm(n, sigma_min=noise[0], sigma_max=noise[1])(),
        "entropic": schedules.entropic(curve, n, top, bottom),
        "arctan": schedules.arctan(n, top, bottom, scale=jnp.sqrt(curve.second_moment)),
        "dynamic": schedules.dynamic(curve, n, top, bottom),
    }
    spent = {
        name: float(jnp.sum(schedules.dissipation(lam, curve))) for name, lam in levels.items()
    }
    rows, samples = {}, {}
    for name in ("least work", "AYS") if n == 10 else ("least work",):
        lam = levels[name]
        tau = schedules.variances(lam, curve)
        run = schedules.likelihood(lam, denoise, data, keys[2], tau=tau, paths=PATHS, log_p0=log_p)
        samples[name], exact, error = generated(lam, tau, keys[6])
        rows[name] = {
            "w": float(mean_work(lam, curve).total - entropy),
            "w_paths": float(run.work.value),
            "kl": float(exact),
            "kl_stderr": float(error),
            "kl_jarzynski": float(run.kl.value - run.bias),
            "kl_jarzynski_stderr": float(run.kl.stderr),
            "kl_bound": float(run.kl.value),
            "gap": float(run.gap.value),
            "ess_fraction": float(run.ess),
            "marked": float(run.marked),
            "reliable": bool(run.reliable),
        } | measured(samples[name], fresh, off_mode)
    row = rows.pop("least work")
    row |= {"dissipation": spent, "others": rows, "levels": best.tolist()}
    return row, samples["least work"]


# ---- the deterministic sampler of the mixture


@jax.jit
def kl_ode(lam):
    """KL(data || generated), by quadrature: no noise."""
    x, weights = quadrature(20)
    one = lambda x: log_p(x) - schedules.ode_log_prob(lam, denoise, x).value
    return weights @ jax.vmap(one)(x)


@jax.jit
def drawn_ode(lam, key):
    one = lambda x: schedules.ode_sample(lam, denoise, x)
    return jax.vmap(one)(jax.random.normal(key, (SAMPLES, 2)))


class Divergence(optimal.AbstractExactLoss):
    """`kl_ode` of a schedule."""

    def __call__(self, schedule, key=None):
        return kl_ode(jnp.append(CLEAN, schedule()))

    def check(self):
        return None

    def failures(self, schedule, key):
        return "A step was not inverted."

    def likelihood_ratio(self, schedule, key):
        raise ValueError("There are no paths.")


def karras(ends, steps=5):
    low, high = jnp.exp(jnp.asarray(ends) / 7)
    return jnp.append(CLEAN, -14 * jnp.log(low + jnp.linspace(0, 1, steps) * (high - low)))


@partial(jax.jit, static_argnames=("nodes", "draws"))
def klub_by_definition(lam, key, nodes=8, draws=150_000):
    """Half the integral of E|D_u - D_k|^2 over u between the levels, by Gauss and Legendre, along noising paths."""
    at, weights = np.polynomial.legendre.leggauss(nodes)

    def between(key, high, low):
        first, second, third = jax.random.split(key, 3)
        x0 = modes(first, draws)
        u = jnp.exp(low)
        # y = u x0 + noise of variance u; from u to u' > u independent noise is added
        y = u * x0 + jnp.sqrt(u) * jax.random.normal(second, x0.shape)
        see = lambda y, lam: denoise(y * jnp.exp(-lam) * jnp.sqrt(jax.nn.sigmoid(lam)), lam)
        here = jax.vmap(see, (0, None))(y, low)

        def node(share, key):
            lam = low + 0.5 * (1 + share) * (high - low)
            more = jnp.exp(lam) - u
            later = y + more * x0 + jnp.sqrt(more) * jax.random.normal(key, x0.shape)
            apart = jnp.sum((jax.vmap(see, (0, None))(later, lam) - here) ** 2, axis=1)
            return jnp.exp(lam) * jnp.mean(apart)

        values = jax.lax.map(lambda a: node(*a), (jnp.asarray(at), jax.random.split(third, nodes)))
        return 0.25 * (high - low) * jnp.sum(jnp.asarray(weights) * values)

    keys = jax.random.split(key, len(lam) - 1)
    return jnp.sum(jax.lax.map(lambda a: between(*a), (keys, lam[:-1], lam[1:])))


def deterministic(curve, fresh, keys):
    """DDIM in five steps, and the KLUB by the curve and by its definition."""
    started = time.perf_counter()
    even = LogSNR.uniform(5, 4.8, 1.0, high=CLEAN)
    searched = optimal.search(Divergence(), even, steps=25, progress=False).found()
    ends = minimize(lambda e: float(kl_ode(karras(e))), np.log([0.1, 0.6]), method="Nelder-Mead").x
    lams = {"searched": jnp.append(CLEAN, searched), "karras": karras(ends)}
    ddim = {name: float(kl_ode(lam)) for name, lam in lams.items()}
    ddim["seconds"] = time.perf_counter() - started
    ddim["levels"] = lams["searched"].tolist()
    ddim["samples"] = {
        name: measured(drawn_ode(lam, keys[4]), fresh, off_mode) for name, lam in lams.items()
    }
    ddim["data"] = measured(modes(keys[5], SAMPLES), fresh, off_mode)
    lam = jnp.array([4.3, 3.2, 2.2, 1.2, 0.44])
    klub = lambda lam: float(jnp.sum(schedules.dissipation(lam, curve, tau="posterior")))
    schedules.align(curve, 10, 4.3, 0.44)  # compiles
    started = time.perf_counter()
    aligned = schedules.align(curve, 10, 4.3, 0.44)
    seconds = time.perf_counter() - started
    return ddim, {
        "klub_curve": klub(lam),
        "klub_mc": float(klub_by_definition(lam, keys[7])),
        "klub_aligned": klub(aligned),
        "seconds": seconds,
    }


# ---- two moons


@partial(jax.jit, static_argnums=1)
def moons(key, count):
    turn, noise, side = jax.random.split(key, 3)
    t, which = (
        jnp.pi * jax.random.uniform(turn, (count,)),
        jax.random.bernoulli(side, shape=(count,)),
    )
    sign = jnp.where(which, 1.0, -1.0)
    x = jnp.stack([jnp.cos(t) * sign - 0.5 * sign, jnp.sin(t) * sign - 0.25 * sign], axis=1)
    return x / 0.8 + 0.08 * jax.random.normal(noise, (count, 2))


class Small(eqx.Module):
    """The clean state: that of a Gaussian of variance 1, corrected by a network."""

    mlp: eqx.nn.MLP

    def __call__(self, x, lam):
        a, s = jnp.sqrt(jax.nn.sigmoid(lam)), jnp.sqrt(jax.nn.sigmoid(-lam))
        waves = [f(k * x) for k in (1.0, 2.0, 4.0) for f in (jnp.sin, jnp.cos)]
        level = jnp.array([lam / 4, a, s])
        return a * x + s * self.mlp(jnp.concatenate([x, *waves, level]))


def trained(key, updates=4000):
    first, key = jax.random.split(key)
    net = Small(eqx.nn.MLP(17, 2, 64, 2, jax.nn.silu, key=first))
    rule = optax.adam(optax.cosine_decay_schedule(3e-3, updates))

    def loss(net, key):
        one, two, three = jax.random.split(key, 3)
        x0, lam = moons(one, 512), 16 * jax.random.uniform(two, (512,)) - 6
        a, s = jnp.sqrt(jax.nn.sigmoid(lam)), jnp.sqrt(jax.nn.sigmoid(-lam))
        x = a[:, None] * x0 + s[:, None] * jax.random.normal(three, x0.shape)
        miss = jax.vmap(net)(x, lam) - x0
        return jnp.mean(jnp.sum(miss**2, axis=1) / s**2)

    free, given = eqx.partition(net, eqx.is_inexact_array)

    def update(carry, key):
        free, state = carry
        slope = jax.grad(lambda free: loss(eqx.combine(free, given), key))(free)
        move, state = rule.update(slope, state)
        return (optax.apply_updates(free, move), state), None

    run = jax.jit(
        lambda free: jax.lax.scan(update, (free, rule.init(free)), jax.random.split(key, updates))
    )
    return eqx.combine(run(free)[0][0], given)


def two_moons(key, steps=10):
    keys = jax.random.split(key, 8)
    started = time.perf_counter()
    net = trained(keys[0])
    jax.block_until_ready(eqx.filter(net, eqx.is_array))
    seconds = time.perf_counter() - started
    curve = schedules.denoising_curve(
        net, moons(keys[1], 4000), jnp.linspace(-6.0, 10.0, 65), keys[2], draws=2
    )
    best = optimum(curve, steps, -5.5, 9.5)
    held_out, fresh = moons(keys[3], 500), moons(keys[4], SAMPLES)
    tau = schedules.variances(best, curve)
    # a batch that divides the points: no second program for the rest
    run = schedules.likelihood(best, net, held_out, keys[5], tau=tau, paths=PATHS // 2, batch=25)
    known = fresh[:4000]
    off = jax.jit(jax.vmap(lambda x: jnp.min(jnp.sum((x - known) ** 2, axis=1)) > 0.15**2))
    chain = jax.jit(
        lambda key: jax.vmap(lambda x, k: schedules.sample(best, net, x, k, tau=tau))(
            jax.random.normal(key, (SAMPLES, 2)), jax.random.split(key, SAMPLES)
        )
    )(keys[6])
    report = {
        "chain": {
            "bound": float(run.work.value),
            "nll": float(run.nll.value),
            "nll_stderr": float(run.nll.stderr),
            "nll_bias": float(run.bias),
            "ess_fraction": float(run.ess),
        }
        | measured(chain, fresh, off)
    }
    pictures = {"chain": chain}
    first, even = 7.0, LogSNR.uniform(steps, 6.0, -3.0, low=-6.0, high=7.0)
    cost = schedules.ode_cost_of(net, moons(keys[7], 150), first)
    found = optimal.search(cost, even, steps=8, progress=False).found()
    rows = {
        "DDIM, log-SNR": (even(), 1),
        "DDIM, searched": (found, 1),
        "Heun, log-SNR": (even(), 2),
    }
    noise = jax.random.normal(keys[6], (SAMPLES, 2))

    @partial(jax.jit, static_argnums=1)
    def both(lam, order):
        price = lambda x: schedules.ode_log_prob(lam, net, x, order=order)
        go = lambda x: schedules.ode_sample(lam, net, x, order=order)
        return jax.vmap(price)(held_out), jax.vmap(go)(noise)

    for name, (lam, order) in rows.items():
        prices, x = both(jnp.append(first, lam), order)
        nll = estimators.mean(-prices.value[prices.ok])
        pictures[name] = x
        report[name] = {
            "nll": float(nll.value),
            "nll_stderr": float(nll.stderr),
            "inverted": float(jnp.mean(prices.ok)),
            "residual": float(jnp.max(prices.residual)),
        } | measured(x, fresh, off)
    report["data"] = measured(moons(keys[2], SAMPLES), fresh, off)
    return report | {"seconds_training": seconds}, pictures


# ---- digits


def digits(seeds=3, steps=25, paths=256, images=100):
    """Bound and likelihood of held-out images, in bits/dim, for the networks of examples/digits.py, seed by seed."""
    sys.path.insert(0, str(Path(__file__).parent))
    import digits as example

    rows = {}
    for seed in range(seeds):
        with jax.enable_x64(False):
            training, *keys = jax.random.split(jax.random.key(seed), 6)
            net, _ = example.trained(seed, training)
            copies = example.dequantised(example.validation, keys[0])
            grid = jnp.linspace(example.LOW, example.HIGH, example.LEVELS)
            curve = schedules.denoising_curve(net, copies, grid, keys[1])
            lam = example.candidates(curve, steps, keys[2])["optimised"]
            tau = schedules.variances(lam, curve)
            data = example.dequantised(example.test[:images], keys[3])
            run = schedules.likelihood(lam, net, data, keys[4], tau=tau, paths=paths, batch=20)
        bits = lambda nats: float(example.bits(float(nats)))
        per_bit = example.DIM * np.log(2)
        rows[str(seed)] = {
            "bound": bits(run.work.value),
            "nll": bits(run.nll.value),
            "nll_stderr": float(run.nll.stderr) / per_bit,
            "gap": float(run.gap.value) / per_bit,
            "gap_stderr": float(run.gap.stderr) / per_bit,
            "bias": float(run.bias) / per_bit,
            "ess_fraction": float(run.ess),
            "marked": float(run.marked),
            "reliable": bool(run.reliable),
        }
    return rows


def draw(report, pictures):
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    price, shapes, many = axes[0]
    rows = report["mixture"]
    price.semilogy(STEPS, [rows[str(n)]["w"] for n in STEPS], "o-", color="0.5")
    kl, error = ([rows[str(n)][name] for n in STEPS] for name in ("kl", "kl_stderr"))
    price.errorbar(STEPS, kl, error, fmt="o-", color="C0")
    price.text(15, 0.22, r"$\langle w\rangle$, of paths", color="0.5")
    price.text(12, 0.02, "KL, of samples", color="C0")
    price.set(
        title="eight modes, levels of least work", xlabel="steps $N$", ylabel="nats", ylim=(1e-3, 1)
    )
    spent = rows["10"]["dissipation"]
    names = sorted(spent, key=spent.get)
    shapes.barh(names, [spent[name] for name in names], color="0.75")
    shapes.set(title="dissipated by the steps, N = 10", xlabel="nats")
    for panel, name, x in (
        (many, "eight modes, chain, N = 10", pictures["mixture"]),
        (axes[1, 0], "two moons, chain, N = 10", pictures["moons"]["chain"]),
        (axes[1, 1], "two moons, DDIM searched, N = 10", pictures["moons"]["DDIM, searched"]),
        (axes[1, 2], "two moons, Heun, N = 10", pictures["moons"]["Heun, log-SNR"]),
    ):
        panel.scatter(*np.asarray(x[:4000]).T, s=1.5, color="0.4", lw=0)
        panel.set(
            title=name, aspect="equal", xticks=[], yticks=[], xlim=(-2.4, 2.4), ylim=(-2.4, 2.4)
        )
    figure.savefig(OUT / "samplers.png", dpi=130)


def main():
    OUT.mkdir(exist_ok=True)
    first, second = jax.random.split(jax.random.key(0))
    keys = jax.random.split(first, 8)
    curve = exact_curve(jnp.linspace(-8.0, 10.0, 361))
    data, fresh = modes(keys[0], POINTS), modes(keys[1], SAMPLES)
    with ThreadPoolExecutor(2) as pool:  # most of the time is compilation, on one core each
        moons_run = pool.submit(two_moons, second)
        chains = [pool.submit(chain, n, curve, data, fresh, keys) for n in STEPS]
        ddim, ays = pool.submit(deterministic, curve, fresh, keys).result()
    eight = {str(n): run.result()[0] for n, run in zip(STEPS, chains, strict=True)}
    modes_drawn = chains[STEPS.index(10)].result()[1]
    moons_report, moons_drawn = moons_run.result()
    report = {"mixture": eight, "ddim5": ddim, "ays": ays, "moons": moons_report}
    draw(report, {"mixture": modes_drawn, "moons": moons_drawn})
    report["seconds"] = time.perf_counter() - began
    (OUT / "samplers.json").write_text(json.dumps(report, indent=2) + "\n")
    print("eight modes, levels of least work, nats")
    for n, row in eight.items():
        kl = plots.spell(row["kl"], row["kl_stderr"])
        by_paths = plots.spell(row["kl_jarzynski"], row["kl_jarzynski_stderr"])
        print(
            f"N = {n:>2s}: <w> {row['w']:.4f}, KL {kl}, by Jarzynski {by_paths} (with its bias {row['kl_bound']:.4f}), "
            f"ESS {row['ess_fraction']:.2f}, energy distance {plots.spell(row['energy'], row['energy_stderr'])}, "
            f"off-mode {row['off']:.2%}"
        )
        print("   steps: " + ", ".join(f"{name} {d:.4f}" for name, d in row["dissipation"].items()))
        for name, other in row["others"].items():
            print(
                f"   {name}: <w> {other['w']:.4f}, KL {plots.spell(other['kl'], other['kl_stderr'])}"
            )
    print(
        f"DDIM, N = 5, KL: searched {ddim['searched']:.4f}, Karras {ddim['karras']:.4f}, {ddim['seconds']:.0f} s"
    )
    print(
        f"KLUB: curve {ays['klub_curve']:.4f}, definition {ays['klub_mc']:.4f}; aligned in {ays['seconds']:.2f} s"
    )
    for name, row in moons_report.items():
        if isinstance(row, dict) and "nll" in row:
            print(
                f"moons, {name}: NLL {plots.spell(row['nll'], row['nll_stderr'])}, energy {row['energy']:.4f}"
            )
    print(
        f"{report['seconds']:.0f} s, compilation and training of {moons_report['seconds_training']:.0f} s included"
    )


def add_digits():
    """The digits, beside what out/samplers.json holds."""
    OUT.mkdir(exist_ok=True)
    file = OUT / "samplers.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    report["digits"] = digits()
    file.write_text(json.dumps(report, indent=2) + "\n")
    for seed, row in report["digits"].items():
        print(
            f"digits, seed {seed}: bound {row['bound']:.3f}, likelihood {row['nll']:.3f} bits/dim"
        )


if __name__ == "__main__":
    add_digits() if "digits" in sys.argv else main()
