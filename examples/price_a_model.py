"""What training and capacity buy, noise level by noise level: a network before, during and after training, and two others.

By default eight narrow modes on a circle, whose exact score stands beside the network's, so that the score error itself is
known. `--data moons` and `--data digits` (if scikit-learn is there) are samples only: of one network the score error is then
not known, but of two networks the difference is, from their denoising errors on the same data with the same noise. All
differences here are of such pairs; that of the exact score and a network is the score error.

Writes out/price_a_model.json and out/price_a_model.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from thermojax import densities, diffusion, estimators, plots

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

WIDTHS = {"narrow": 12, "middle": 48, "wide": 160}
SNAPSHOTS = (0, 100, 1000, 6000)  # updates
BATCH, RATE, DEPTH = 256, 3e-3, 3
SIZE, ROWS, NODES = 8_000, 400, 32
TOP, BOTTOM = 9.0, -8.0  # levels
KIND = diffusion.VP()
OUT = Path("out")


def mixture(key):
    angles = jnp.arange(8.0) * jnp.pi / 4
    at = [jnp.sqrt(2.0) * jnp.stack([jnp.cos(a), jnp.sin(a)]) for a in angles]
    data = densities.Mixture(jnp.ones(8), [densities.Gaussian(m, 0.01) for m in at])
    return jax.vmap(data.sample)(jax.random.split(key, 24_000)), data


def moons(key):
    one, two, three = jax.random.split(key, 3)
    angle, up = (
        jnp.pi * jax.random.uniform(one, (24_000,)),
        jax.random.bernoulli(two, 0.5, (24_000,)),
    )
    x = jnp.where(up, jnp.cos(angle), 1 - jnp.cos(angle)) - 0.5
    y = jnp.where(up, jnp.sin(angle), 0.5 - jnp.sin(angle)) - 0.25
    return jnp.stack([x, y], 1) + 0.1 * jax.random.normal(three, (24_000, 2)), None


def digits(key):
    from sklearn.datasets import load_digits

    one, two = jax.random.split(key)
    grey = jax.random.permutation(one, jnp.asarray(load_digits().data, jnp.float32))
    grey = jnp.tile(grey, (10, 1)) + jax.random.uniform(two, (17_970, 64))  # dequantised
    return (grey / 17 - 0.315) / 0.36, None


class Noise(eqx.Module):
    """The noise that is seen in a state, by a network that is shown the state at unit size."""

    mlp: eqx.nn.MLP
    variance: jax.Array

    def __init__(self, width, xs, key):
        d = xs.shape[1]
        self.mlp = eqx.nn.MLP(d + 6, d, width, DEPTH, jax.nn.silu, key=key)
        self.variance = jnp.var(xs)

    def __call__(self, x, lam):
        v = jax.lax.stop_gradient(self.variance)
        a2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
        size = jnp.sqrt(a2 * v + s2)
        phase = jnp.pi * jnp.arange(1.0, 4.0) * (lam - BOTTOM) / (TOP - BOTTOM)
        seen = self.mlp(jnp.concatenate([x / size, jnp.sin(phase), jnp.cos(phase)]))
        # what a Gaussian's would be, and a correction of the size of what is left
        return jnp.sqrt(s2) * x / size**2 + jnp.sqrt(a2 * v) / size * seen


def train(xs, width, key):
    """The network after each of `SNAPSHOTS` updates."""
    adam = optax.adam(optax.cosine_decay_schedule(RATE, SNAPSHOTS[-1]))
    weights, rest = eqx.partition(Noise(width, xs, key), eqx.is_inexact_array)

    def loss(weights, key):
        one, two, three = jax.random.split(key, 3)
        x0 = jax.random.choice(one, xs, (BATCH,))
        lam = jax.random.uniform(two, (BATCH,), minval=BOTTOM, maxval=TOP)
        z = jax.random.normal(three, x0.shape)
        x = KIND.signal(lam)[:, None] * x0 + KIND.noise(lam)[:, None] * z
        net = eqx.combine(weights, rest)
        return jnp.mean((jax.vmap(net)(x, lam) - z) ** 2)

    @jax.jit
    def run(carry, keys):
        def step(carry, key):
            weights, state = carry
            updates, state = adam.update(jax.grad(loss)(weights, key), state)
            return (optax.apply_updates(weights, updates), state), None

        return jax.lax.scan(step, carry, keys)[0]

    keys = jax.random.split(key, SNAPSHOTS[-1])
    carry, found = (weights, adam.init(weights)), {}
    for start, stop in zip((0, *SNAPSHOTS[:-1]), SNAPSHOTS, strict=True):
        if stop:
            carry = run(carry, keys[start:stop])
        found[stop] = eqx.combine(carry[0], rest)
    return found


@eqx.filter_jit
def paired(one, two, xs, lam, key):
    """By how much the first errs more than the second at each level, in nats per nat of lam, `(rows, levels)`."""

    def level(given):
        lam, key = given
        z = jax.random.normal(key, xs.shape)
        x = KIND.signal(lam) * xs + KIND.noise(lam) * z
        a, b = (jax.vmap(net.noise, (0, None))(x, lam) for net in (one, two))
        return 0.5 * jnp.sum((a - b) * (a + b - 2 * z), 1)

    return jax.lax.map(level, (lam, jax.random.split(key, lam.size))).T


def summed(rates, weight):
    """The integral over the levels of each row."""
    return estimators.mean(rates @ weight)


def name_of(pair, report):
    row = report["paired"][pair]
    return f"{pair}: {plots.spell(row['nats'], row['stderr'])}"


def main(name):
    began, key = time.perf_counter(), jax.random.key(0)
    xs, density = {"mixture": mixture, "moons": moons, "digits": digits}[name](key)
    learned, held_out = xs[: len(xs) // 6], xs[len(xs) // 6 :][:SIZE]
    noising = diffusion.noising(
        densities.Empirical(learned) if density is None else density,
        diffusion.Uniform(TOP, BOTTOM),
    )
    report: dict[str, Any] = {"data": name, "models": {}, "paired": {}}
    started, nets = time.perf_counter(), {}
    for label, width in WIDTHS.items():
        trained = train(learned, width, jax.random.fold_in(key, width))
        kept = SNAPSHOTS if label == "middle" else SNAPSHOTS[-1:]
        nets |= {f"{label} {n}": trained[n] for n in kept}
    jax.block_until_ready(eqx.filter(nets, eqx.is_array))
    report["seconds_training"] = time.perf_counter() - started

    models = {label: diffusion.predictor(net, "noise") for label, net in nets.items()}
    data = held_out if density is None else density
    prices = {
        label: diffusion.price(noising, model, data, key, size=len(held_out), nodes=NODES)
        for label, model in models.items()
    }
    fields = ("score_error", "endpoint", "elbo", "generation_entropy", "data_entropy")
    for label, price in prices.items():
        row = report["models"][label] = {}
        flow = diffusion.nll(noising, models[label], held_out[:ROWS], key, steps=48, slope=1.0)
        for field, found in [(f, getattr(price, f)) for f in fields] + [("nll", flow.first)]:
            if found is not None:
                row[field], row[f"{field}_stderr"] = map(float, found[:2])
        print(
            f"{label:12s} "
            + ", ".join(
                f"{f} {plots.spell(row[f], row[f'{f}_stderr'])}"
                for f in row
                if f + "_stderr" in row
            )
        )

    # ---- pairs: what was bought, and at which noise
    first = prices["middle 6000"]
    lam, weight = first.levels, first.weight
    end = f" {SNAPSHOTS[-1]}"
    pairs = {
        "100 -> 1000 updates": ("middle 100", "middle 1000"),
        "1000 -> 6000 updates": ("middle 1000", "middle 6000"),
        f"{WIDTHS['narrow']} -> {WIDTHS['middle']} wide": ("narrow" + end, "middle" + end),
        f"{WIDTHS['middle']} -> {WIDTHS['wide']} wide": ("middle" + end, "wide" + end),
    }
    curves = {}
    for label, (one, two) in pairs.items():
        rates = paired(models[one], models[two], held_out, lam, key)
        found, alone = summed(rates, weight), summed(rates * (lam > 4)[None], weight)
        curves[label] = np.asarray(rates.mean(0)), np.asarray(rates.std(0)) / len(rates) ** 0.5
        row = report["paired"][label] = {"nats": float(found.value), "stderr": float(found.stderr)}
        row["above_4"], row["above_4_stderr"] = float(alone.value), float(alone.stderr)
        prior = prices[one].score_error, prices[two].score_error
        if density is not None:
            row["by_score_error"] = float(prior[0].value - prior[1].value)
        print(
            f"{label}: {plots.spell(row['nats'], row['stderr'])} nats, of them above lam = 4 "
            f"{plots.spell(row['above_4'], row['above_4_stderr'])}"
        )

    # ---- the figure
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for label, price in prices.items():
        known = price.rates.score_error is not None
        rate = price.rates.score_error if known else price.rates.denoising
        (line,) = left.plot(lam, rate.value, "-" if "middle" in label else "--", label=label)
        band = rate.value - rate.stderr, rate.value + rate.stderr
        left.fill_between(lam, *band, alpha=0.3, color=line.get_color(), lw=0)
    if known:
        left.set_yscale("log")
        left.set_ylim(1e-4)
    left.set(
        ylabel="score error, nats per nat of $\\lambda$"
        if known
        else "denoising error, nats per nat of $\\lambda$"
    )
    left.legend(fontsize=7, title="network, updates", title_fontsize=7)
    for label, (value, error) in curves.items():
        axes = middle if "updates" in label else right
        (line,) = axes.plot(lam, value, label=name_of(label, report))
        axes.fill_between(
            lam, value - error, value + error, alpha=0.3, color=line.get_color(), lw=0
        )
    middle.set(ylabel="bought by training, nats per nat of $\\lambda$")
    right.set(ylabel="bought by capacity, nats per nat of $\\lambda$")
    for axes in (left, middle, right):
        axes.set(xlabel="log signal-to-noise ratio $\\lambda$")
        axes.invert_xaxis()
    for axes in (middle, right):
        axes.axhline(0, color="0.7", lw=0.8, zorder=0)
        axes.margins(y=0.2)  # room for the legend
        axes.legend(fontsize=7, loc="upper right")
    report["seconds"] = time.perf_counter() - began
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "price_a_model.png", dpi=95)
    (OUT / "price_a_model.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s, {report['seconds_training']:.1f} s of them training")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("mixture", "moons", "digits"), default="mixture")
    main(parser.parse_args().data)
