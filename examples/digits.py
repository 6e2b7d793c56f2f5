r"""Handwritten digits: a diffusion model trained here, its noise schedule optimised by the work that it costs.

Data: scikit-learn's load_digits, 1797 images of 64 pixels with grey levels x = 0 to 16, split once into training, validation
and test. The noise floor is uniform dequantisation, y = (x + u)/17 with u ~ U(0, 1); the network sees z = (y - shift)/scale.
Bits per dimension are those of the density of x + u, one grey level the unit: -log2(e) ELBO(z)/64 + log2(17 scale), an upper
bound on the bits per pixel of the whole numbers x.

Levels and variances of every schedule are fixed by the denoising curve of the validation images; the prices are means over
paths of the test images, with the same noise for all schedules, so that differences are paired. Cosine is the native
schedule; the fair rival is even in log signal-to-noise ratio with both ends tuned.

Training (about three minutes a seed on two cores) goes on where it was killed, and finished weights are used again.
`--seeds 3` repeats it all for three. Writes out/digits.json, out/digits.png and out/digits_<seed>.eqx, the weights.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from sklearn.datasets import load_digits
from tqdm import trange

from thermojax import estimators, schedules
from thermojax.optimal import search
from thermojax.schedules import LogSNR

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

STEPS = (25, 50, 100)
NAMES = ("cosine", "tuned_logsnr", "equal_length", "optimised")
LOW, HIGH = -16.0, 11.0  # log signal-to-noise ratios trained: the last of cosine(100) is -15.2
SHARES, AT = [0.0, 0.1, 0.9, 1.0], [LOW, -4.0, 9.0, HIGH]  # quantiles of the training levels
WIDTH, BLOCKS, DROP = 256, 3, 0.1  # of the network
PLAIN = -10.0  # no friction below
UPDATES, BATCH, RATE, MEMORY = 6000, 256, 1e-3, 0.998
SAVE_EVERY = 3.0  # seconds
COPIES, LEVELS, NOISES = 8, 141, 8  # dequantisations and levels of the curve; noises per test image
OUT = Path("out")

shuffled = np.random.default_rng(0).permutation(load_digits().data) / 17
train, validation, test = (jnp.asarray(v, jnp.float32) for v in np.split(shuffled, [1197, 1497]))
DIM = shuffled.shape[1]
SHIFT, SCALE = float(train.mean() + 0.5 / 17), float(np.sqrt(train.var() + 1 / 12 / 17**2))


def dequantised(x, key):
    return (x + jax.random.uniform(key, x.shape) / 17 - SHIFT) / SCALE


def bits(nats):
    return (nats / DIM + math.log(17 * SCALE)) / math.log(2)


class Denoiser(eqx.Module):
    """The clean image: that of the Gaussian with the mean and covariance of the training data, corrected by a network.

    Along each principal axis the network's input and its target have unit variance (EDM's preconditioning, axis by axis).
    It also sees which pixels are about as near to an end of the grey scale as the noise is large.
    """

    first: eqx.nn.Linear
    blocks: list[tuple[eqx.nn.Linear, eqx.nn.Linear]]
    levels: eqx.nn.MLP
    last: eqx.nn.Linear
    centre: np.ndarray
    axes: np.ndarray
    spread: np.ndarray

    def __init__(self, key):
        clean = (np.asarray(train, float) + 0.5 / 17 - SHIFT) / SCALE
        spread, axes = np.linalg.eigh(np.cov(clean.T))
        spread = spread.clip(0) + 1 / 12 / (17 * SCALE) ** 2
        self.centre, self.axes, self.spread = (np.float32(v) for v in (clean.mean(0), axes, spread))
        keys = iter(jax.random.split(key, 2 * BLOCKS + 3))
        self.first = eqx.nn.Linear(3 * DIM, WIDTH, key=next(keys))
        linear = lambda: eqx.nn.Linear(WIDTH, WIDTH, key=next(keys))
        self.blocks = [(linear(), linear()) for _ in range(BLOCKS)]
        self.levels = eqx.nn.MLP(16, 2 * BLOCKS * WIDTH, 128, 1, jax.nn.silu, key=next(keys))
        last = eqx.nn.Linear(WIDTH, DIM, key=next(keys))
        self.last = jax.tree.map(lambda v: 0.1 * v, last)

    def uncertainty(self, lam):
        """The Gaussian's posterior variance along each axis."""
        return self.spread / (1 + jnp.exp(lam) * self.spread)

    def __call__(self, x, lam, key=None):
        a, s2 = jnp.sqrt(jax.nn.sigmoid(lam)), jax.nn.sigmoid(-lam)
        variance = a**2 * self.spread + s2
        y = self.axes.T @ (x - a * self.centre)
        phase = jnp.pi * jnp.arange(1, 9) * (lam - LOW) / (HIGH - LOW)
        level = self.levels(jnp.concatenate([jnp.sin(phase), jnp.cos(phase)]))
        near = [jnp.exp(-((x - a * (end - SHIFT) / SCALE) ** 2) / (2 * s2)) for end in (0, 1)]
        h = self.first(jnp.concatenate([y / jnp.sqrt(variance), *near]))
        for i, (scale, shift) in enumerate(level.reshape(BLOCKS, 2, WIDTH)):
            one, two = self.blocks[i]
            g = jax.nn.silu(one(h) * (1 + scale) + shift)
            if key is not None:
                keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - DROP, g.shape)
                g = g * keep / (1 - DROP)
            h = h + two(g)
        correction = jnp.sqrt(self.uncertainty(lam)) * self.last(jax.nn.silu(h))
        return self.centre + self.axes @ (a * self.spread / variance * y + correction)


def loss(denoise, key):
    """The mean squared error, relative to the Gaussian's, over all levels alike."""
    keys = jax.random.split(key, 5)
    clean = dequantised(jax.random.choice(keys[0], train, (BATCH,)), keys[1])
    share = (jax.random.uniform(keys[2]) + jnp.arange(BATCH) / BATCH) % 1
    lam = jnp.interp(
        share, jnp.array(SHARES), jnp.array(AT)
    )  # most of them where there is something to learn
    a, s = jnp.sqrt(jax.nn.sigmoid(lam)), jnp.sqrt(jax.nn.sigmoid(-lam))
    noisy = a[:, None] * clean + s[:, None] * jax.random.normal(keys[3], clean.shape)
    out = jax.vmap(denoise)(noisy, lam, jax.random.split(keys[4], BATCH))
    scale = jnp.mean(jax.vmap(denoise.uncertainty)(lam), axis=1)
    return jnp.mean(jnp.mean((out - clean) ** 2, axis=1) / scale)


rate = optax.warmup_cosine_decay_schedule(0.0, RATE, UPDATES // 20, UPDATES)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-2))


@eqx.filter_jit
def update(free, average, state, given, key):
    slope = jax.grad(lambda free: loss(eqx.combine(free, given), key))(free)
    step, state = optimizer.update(slope, state, free)
    free = optax.apply_updates(free, step)
    return free, optax.incremental_update(free, average, 1 - MEMORY), state


def settings(seed):
    names = "LOW HIGH SHARES AT WIDTH BLOCKS DROP UPDATES BATCH RATE MEMORY".split()
    return {"seed": seed, "format": 2} | {name: globals()[name] for name in names}


def save(path, tree, header):
    """In one atomic move: whoever is killed here leaves the file before or the file after."""
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        eqx.tree_serialise_leaves(file, tree)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def trained(seed, key):
    """The network of this seed, from its file as far as that goes, and the seconds its training took in all."""
    path, (first, key) = OUT / f"digits_{seed}.eqx", jax.random.split(key)
    free, given = eqx.partition(Denoiser(first), eqx.is_inexact_array)
    tree, done, seconds = (free, free, optimizer.init(free)), 0, 0.0
    if path.exists():
        with open(path, "rb") as file:
            header = json.loads(file.readline())
            if header["settings"] != settings(seed):
                raise SystemExit(
                    f"{path} was trained with other settings. Remove it to train anew."
                )
            tree, done, seconds = (
                eqx.tree_deserialise_leaves(file, tree),
                header["done"],
                header["seconds"],
            )
    last, began = time.monotonic(), time.monotonic() - seconds
    for i in trange(done, UPDATES, initial=done, total=UPDATES, desc=f"training, seed {seed}"):
        tree = update(*tree, given, jax.random.fold_in(key, i))
        if i + 1 == UPDATES or time.monotonic() - last > SAVE_EVERY:
            jax.block_until_ready(tree)
            last = time.monotonic()
            seconds = last - began
            save(path, tree, {"settings": settings(seed), "done": i + 1, "seconds": seconds})
    return eqx.combine(tree[1], given), seconds


def candidates(curve, n, key):
    """The four schedules of n steps, by the curve. Equal length begins where the tuned one does and ends in plain noise."""
    cost = schedules.cost_of(curve)
    even, (first, second) = LogSNR.uniform(n, 7.0, -4.0, low=LOW, high=HIGH), jax.random.split(key)
    of_ends = lambda ends, key: cost(even.stretched(*ends), key)
    ends = search(of_ends, jnp.array([7.0, -4.0]), first, steps=150, progress=False).protocol
    lam = schedules.equal_length(curve, n, ends[0], PLAIN)
    equal = LogSNR.from_array(lam, low=LOW, high=HIGH)
    optimised = search(cost, equal, second, steps=500, progress=False).protocol
    four = LogSNR.cosine(n, low=LOW, high=HIGH), even.stretched(*ends), equal, optimised
    return {name: schedule() for name, schedule in zip(NAMES, four, strict=True)}


@eqx.filter_jit
def works(denoise, lam, tau, key):
    """Of each test image, the mean over noises, those of the floor included."""
    floor, key = jax.random.split(key)
    clean = dequantised(jnp.tile(test, (NOISES, 1)), floor)
    work = lambda x0, key: schedules.path_work(lam, denoise, x0, key, tau=tau).w
    return jax.vmap(work)(clean, jax.random.split(key, len(clean))).reshape(NOISES, -1).mean(0)


@eqx.filter_jit
def drawn(denoise, lam, tau, key):
    first, key = jax.random.split(key)
    one = lambda x, key: schedules.sample(lam, denoise, x, key, tau=tau)
    return jax.vmap(one)(jax.random.normal(first, (10, DIM)), jax.random.split(key, 10))


def measured(seed):
    """Everything about one seed: what the report says, and what the figure draws."""
    training, floor, noise, searches, pricing, drawing = jax.random.split(jax.random.key(seed), 6)
    denoise, seconds = trained(seed, training)
    began = time.monotonic()
    copies = dequantised(jnp.tile(validation, (COPIES, 1)), floor)
    grid = jnp.linspace(LOW, HIGH, LEVELS)
    curve = schedules.denoising_curve(denoise, copies, grid, noise, draws=1)
    report, kept = {}, {}
    for n in STEPS:
        lams = candidates(curve, n, jax.random.fold_in(searches, n))
        plans = {name: (lam, schedules.variances(lam, curve)) for name, lam in lams.items()}
        w = {
            name: np.asarray(works(denoise, *plan, jax.random.fold_in(pricing, n)), float)
            for name, plan in plans.items()
        }
        each = {name: np.asarray(schedules.dissipation(lam, curve)) for name, lam in lams.items()}
        row = {name: float(bits(w[name].mean())) for name in NAMES}
        for name in NAMES[:-1]:
            difference = estimators.mean((w[name] - w["optimised"]) / DIM / math.log(2))
            row[f"{name}_diff"] = float(difference.value)
            row[f"{name}_diff_stderr"] = float(difference.stderr)
        row["dissipation_cv"] = float(each["optimised"].std() / each["optimised"].mean())
        report[str(n)] = row
        kept[n] = plans, each
    plans, each = kept[STEPS[0]]
    images = {name: drawn(denoise, *plan, drawing) for name, plan in plans.items()}
    other = time.monotonic() - began
    return {"seconds_training": seconds, "seconds_other": other, "N": report}, images, each


def draw(report, images, each):
    figure = plt.figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    for axes, name in zip(left.subplots(len(NAMES), 1), NAMES, strict=True):
        grey = 17 * (np.asarray(images[name]) * SCALE + SHIFT)
        row = np.pad(grey.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1))).transpose(1, 0, 2)
        axes.imshow(row.reshape(10, -1), cmap="gray_r", vmin=0, vmax=17)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name.replace("_", "\n"), rotation=0, ha="right", va="center")
    left.suptitle(f"drawn in {STEPS[0]} steps, from the same noise", fontsize=10)
    top, bottom = right.subplots(2, 1)
    looks = ("0.6", "o-"), ("C1", "o-"), ("C0", "o-"), ("k", ".--")
    order = ("cosine", "tuned_logsnr", "optimised", "equal_length")
    for name, (color, line) in zip(order, looks, strict=True):
        style = {"color": color, "ms": 4, "lw": 1, "label": name.replace("_", " ")}
        top.plot(STEPS, [report["N"][str(n)][name] for n in STEPS], line, **style)
        bottom.semilogy(range(2, STEPS[0] + 1), each[name], line, **style)
    top.set(xlabel="steps $N$", ylabel="bits/dim, held out", xscale="log")
    top.set(xticks=STEPS, xticklabels=STEPS)
    top.minorticks_off()
    top.legend(fontsize=8)
    bottom.set(xlabel=f"step $k$ of {STEPS[0]}", ylabel="dissipation (nats)")
    figure.savefig(OUT / "digits.png", dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many networks to train")
    seeds = range(parser.parse_args().seeds)
    OUT.mkdir(exist_ok=True)
    results = [measured(seed) for seed in seeds]
    reports = [report for report, _, _ in results]
    mean = lambda n, name: float(np.mean([r["N"][n][name] for r in reports]))
    table = {n: {name: mean(n, name) for name in row} for n, row in reports[0]["N"].items()}
    report = {"seeds": list(seeds), "N": table}
    report["per_seed"] = {str(seed): r for seed, r in zip(seeds, reports, strict=True)}
    (OUT / "digits.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(report, *results[0][1:])
    print("bits/dim of held-out images, one grey level the unit; ± of paired differences")
    print(f"{'seed':>4s} {'N':>4s}" + "".join(f"{name:>14s}" for name in NAMES), end="")
    print("   optimised below cosine        tuned       equal length   cv of dissipation")
    for seed, r in report["per_seed"].items():
        for n, row in r["N"].items():
            print(f"{seed:>4s} {n:>4s}" + "".join(f"{row[name]:14.4f}" for name in NAMES), end="  ")
            for name in NAMES[:-1]:
                print(f"  {row[name + '_diff']:7.4f} ± {row[name + '_diff_stderr']:.4f}", end="")
            print(f"  {row['dissipation_cv']:8.3f}")
    for seed, r in report["per_seed"].items():
        mine, other = r["seconds_training"], r["seconds_other"]
        print(f"seed {seed}: {mine:.0f} s training, {other:.0f} s for the rest")


if __name__ == "__main__":
    main()
