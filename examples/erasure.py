r"""Erase a bit in finite time with the least work: whichever well the particle was in, it shall end in the right one.

A particle in a double well, U = E(t) [(x/a)^2 - 1]^2 - h(t) x, starts in equilibrium in both wells. The barrier E and the
tilt h are driven, and at the end put back: the potential is restored, and no free energy gained. Units: a = mu = T = 1.
The search minimises <W> + C P(failure). Writes out/erasure.json and out/erasure.png.

The heat is compared with Landauer's T ln 2, and with the least heat of ANY potential that takes the same start density to
the same end density in the same time: Q >= T (S_start - S_end) + W2^2 / (mu tau), W2 the Wasserstein distance of the two
(Aurell, Mejia-Monasterio & Muratore-Ginanneschi, PRL 106, 250601 (2011); Aurell et al., J. Stat. Phys. 147, 487 (2012);
for a bit: Proesmans, Ehrich & Bechhoefer, PRL 125, 100602 (2020)).
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import thermojax as tjx  # noqa: E402
from thermojax import plots, protocols  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

TAU, BARRIER, KNOTS = 5.0, 6.0, 13
STEPS, PATHS, UPDATES = 640, 1000, 400
COST = 10.0  # of a failed bit, in T
BATCHES, BATCH = 10, 4000  # of the paths that price a protocol, on a grid twice as fine

system = tjx.Overdamped(lambda x, lam: jnp.sum(lam["E"] * (x**2 - 1) ** 2 - lam["h"] * x))
initial = tjx.densities.Boltzmann(system, {"E": BARRIER, "h": 0.0})


def lines(before, *values):
    """Straight lines through `values`, with knots in between for the search to move."""
    ts = jnp.linspace(0.0, TAU, KNOTS)
    coarse = jnp.linspace(0.0, TAU, len(values))
    return protocols.Piecewise(ts, jnp.interp(ts, coarse, jnp.asarray(values)), before, before)


# By hand: lower the barrier, tilt, raise the barrier, straighten. The barrier stays positive, so that U confines.
by_hand = protocols.Joint(
    {
        "E": protocols.positive(lines(BARRIER, BARRIER, 0.5, 0.5, BARRIER, BARRIER)),
        "h": lines(0.0, 0.0, 0.0, 4.0, 4.0, 0.0),
    }
)


def ensemble(protocol, key, steps, size, **options):
    ts = jnp.linspace(0.0, TAU, steps + 1)
    return tjx.ensemble(tjx.Process(system, protocol, initial), ts, key, size, **options)


def cost(run):
    """W + C if the bit fails, path by path."""
    return run.work + COST * (run.path.xs[:, -1, 0] < 0)


@jax.jit
def batch(protocol, key):
    run = ensemble(protocol, key, 2 * STEPS, BATCH)
    return run.work, run.heat, run.path.xs[:, -1, 0]


# The density of the start, by quadrature.
x = np.linspace(-2.5, 2.5, 20001)
p_start = np.exp(np.asarray(jax.vmap(initial.log_prob)(jnp.asarray(x)[:, None]), float))
cdf = np.cumsum(p_start) / np.sum(p_start)
entropy_start = -np.trapezoid(p_start * np.log(p_start + 1e-300), x)


def distance(quantiles):
    """W2^2 from the start to a density given by its quantiles: in one dimension quantile goes to quantile."""
    u = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
    return np.mean((quantiles - np.interp(u, cdf, x)) ** 2)


def entropy(sample, width=0.02):
    """From a histogram, with Miller and Madow's correction for the number of bins in use."""
    counts = np.unique(np.floor(sample / width), return_counts=True)[1]
    share = counts / len(sample)
    return -np.sum(share * np.log(share / width)) + (len(counts) - 1) / (2 * len(sample))


def price(protocol, key) -> tuple[dict[str, tuple[float, float]], np.ndarray]:
    """Means over all paths, with their standard errors from batches; the end points, too."""
    rows, ends = [], []
    for one in jax.random.split(key, BATCHES):
        work, heat, end = (np.asarray(part, float) for part in batch(protocol, one))
        bound = entropy_start - entropy(end) + distance(np.sort(end)) / TAU
        rows.append([work.mean(), heat.mean(), (work - heat).mean(), bound, (end > 0).mean()])
        ends.append(end)
    means, errors = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(BATCHES)
    names = ("work", "heat", "energy_gain", "bound", "success")
    pairs = zip(means.tolist(), errors.tolist(), strict=True)
    return dict(zip(names, pairs, strict=True)), np.concatenate(ends)


landauer = np.log(2)
upper_half = np.interp(0.5 + (np.arange(20000) + 0.5) / 40000, cdf, x)
perfect = landauer + distance(upper_half) / TAU  # from equilibrium to equilibrium in the right well

# Whether a bit fails is a step, and decided at the top of the barrier: the derivative along given noise does not see it,
# that of the probability of the paths does.
ts = jnp.linspace(0.0, TAU, STEPS + 1)
process = tjx.Process(system, by_hand, initial)
loss = tjx.optimal.average(cost, process, ts, PATHS, rule="kernel")
found = tjx.optimal.search(loss, by_hand, jax.random.key(0), steps=UPDATES, gradient="score")
before, _ = price(by_hand, jax.random.key(1))
after, ends = price(found.protocol, jax.random.key(2))

print(f"Landauer, T ln 2:                              {landauer:.4f}")
print(f"perfect erasure in tau = {TAU:g}, by any potential:  {perfect:.4f}")
print("                                         by hand           found")
for name, words in {
    "work": "work <W>",
    "energy_gain": "energy left behind <W> - <Q>",
    "heat": "heat <Q>",
    "bound": "  least for its own two densities",
    "success": "bits in the right well",
}.items():
    print(f"{words:36s} {plots.spell(*before[name]):>16} {plots.spell(*after[name]):>16}")
price_of, check_of = found.price, found.check_price
assert check_of is not None
print(
    f"<W> + {COST:g} P(failure): {plots.spell(price_of.value, price_of.stderr)}, on the finer grid "
    f"{plots.spell(check_of.value, check_of.stderr)}, agrees: {found.agrees}"
)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
for name, color, words in (("E", "C0", "barrier $E$"), ("h", "C1", "tilt $h$")):
    plots.protocol(
        left, by_hand, control=name, color=color, lw=1, ls=":", label=f"{words}, by hand"
    )
    plots.protocol(left, found.protocol, control=name, color=color, lw=2, label=f"{words}, found")
left.set(
    xlabel=r"time $t$ / $(a^2/\mu T)$", ylabel="barrier / $T$, tilt / $(T/a)$", ylim=(-0.6, 9.4)
)
left.legend(fontsize=8, ncols=2, loc="upper center")

middle.fill_between(x, p_start, color="0.8", label="start")
middle.hist(
    ends, 120, range=(-2, 2), density=True, histtype="step", color="C2", lw=1.5, label="end, found"
)
middle.set(xlabel="position $x/a$", ylabel="probability density", xlim=(-1.8, 1.8))
middle.legend(loc="upper left", fontsize=8)

for i, numbers in enumerate((before, after)):
    for name, marker, color, words in (
        ("work", "s", "k", r"work $\langle W\rangle$"),
        ("heat", "o", "C3", r"heat $\langle Q\rangle$"),
        ("bound", "_", "C3", "least heat of any potential,\nsame two densities, same time"),
    ):
        value, stderr = numbers[name]
        shift = {"work": -0.1, "heat": 0.1, "bound": 0.1}[name]
        style = {"ms": 18, "mew": 2, "elinewidth": 0} if name == "bound" else {"capsize": 3}
        label = None if i else words
        right.errorbar(i + shift, value, stderr, fmt=marker, color=color, label=label, **style)
    right.text(i, 3.35, f"success {numbers['success'][0]:.3f}", ha="center", fontsize=9)
right.axhline(landauer, color="0.5", ls="--", lw=1)
right.text(
    0.5, landauer - 0.05, r"Landauer, $T\ln 2$", color="0.4", ha="center", va="top", fontsize=8
)
right.set(xticks=[0, 1], xticklabels=["by hand", "found"], xlim=(-0.5, 1.5), ylim=(0, 3.6))
right.set(ylabel="energy / $T$")
right.legend(fontsize=8, loc="center", bbox_to_anchor=(0.68, 0.68))

seconds = time.perf_counter() - began
report = {"landauer": landauer, "perfect": perfect, "seconds": seconds}
for name, numbers in (("by_hand", before), ("found", after)):
    for key, (value, stderr) in numbers.items():
        report |= {f"{name}_{key}": value, f"{name}_{key}_stderr": stderr}
report |= {
    "price": float(price_of.value),
    "price_stderr": float(price_of.stderr),
    "check_price": float(check_of.value),
    "check_price_stderr": float(check_of.stderr),
    "agrees": found.agrees,
}
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "erasure.png", dpi=110)
(out / "erasure.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{seconds:.1f} s, compilation included")
