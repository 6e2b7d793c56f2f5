"""The likelihood of a diffusion model against the limit that its entropy rates set, for exact scores and for a network.

Gaussian and uniform data in one dimension, noised by VE with g = sigma^t and by VP with b from 0.1 to sigma, sigma from 10
to 30. The negative log-likelihood of the probability flow is compared with half the entropies of the ends less half of what
the score says that the entropy grows by. With the exact score the two are equal, for all of them; a network is trained on
uniform data and priced on its way: what it errs by, noise level by noise level, and on which side of the "limit" it comes
out. Writes out/nll_limit.json and out/nll_limit.png.
"""

import json
import time
from pathlib import Path
from typing import Any

began = time.perf_counter()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

jax.config.update("jax_enable_x64", True)  # for the exact numbers

from thermojax import densities, diffusion, plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

SIGMAS = (10.0, 15.0, 20.0, 25.0, 30.0)
DRAWS, FLOWS = 30_000, 400
UPDATES, BATCH, PRICED = 4000, 512, (200, 1000, 4000)
key = jax.random.key(0)

DATA = {"gaussian": densities.Gaussian(0.0, 1.0), "uniform": densities.Uniform(-1.0, 1.0)}
FIRST = {"gaussian": 1e-7, "uniform": 1e-6}  # where noising starts: the digits of what is missing


def noising(data, kind, sigma, t0):
    if kind == "ve":
        return diffusion.noising(data, diffusion.SigmaT(sigma, t0=t0), kind=diffusion.VE())
    return diffusion.noising(data, diffusion.Linear(0.1, sigma, t0=t0))


def finite(value):
    """A number, or None: JSON has no NaN, which marks what was refused."""
    return float(value) if np.isfinite(value) else None


# ---- the exact score
report: dict[str, Any] = {}
for name, data in DATA.items():
    for kind in ("ve", "vp"):
        rows = report[f"{name}_{kind}"] = {}
        for sigma in SIGMAS:
            process = noising(data, kind, sigma, FIRST[name])
            exact = diffusion.score(noising(data, kind, sigma, 0.0))
            size = None if name == "gaussian" else DRAWS
            # as many nodes as the widest span asks for, so that one program prices all
            nodes = 48 if kind == "vp" else 32
            price = diffusion.price(process, exact, data, key, size=size, flows=FLOWS, nodes=nodes)
            # what the paper calls S1 may be the entropy of the prior, instead of that of the last density
            other = 0.5 * float(process.final.entropy() - price.last_entropy.value)
            rows[f"{sigma:g}"] = {
                "nll": float(price.nll.value),
                "limit": float(price.limit.value),
                "s0": float(data.entropy()),
                "gap": float(price.gap.value),
                "gap_stderr": float(price.gap.stderr),
                "limit_by_prior": float(price.limit.value) + other,
            }
        for sigma, row in rows.items():
            print(
                f"{name:8s} {kind} {sigma:>3s}: NLL {row['nll']:.6f}, limit {row['limit']:.6f}, less each other "
                f"{plots.spell(row['gap'], row['gap_stderr'])}, entropy {row['s0']:.6f}; with the prior's entropy "
                f"{row['limit_by_prior']:.6f}"
            )

# ---- the entropy of the data from the score alone, with what lies above the first level
uniform = DATA["uniform"]
exact = diffusion.score(noising(uniform, "ve", 25.0, 0.0))
found = diffusion.price(
    noising(uniform, "ve", 25.0, 1e-4), exact, uniform, key, size=DRAWS, flows=FLOWS
)
report["entropy_uniform"] = float(found.data_entropy.value)
report["entropy_uniform_stderr"] = float(found.data_entropy.stderr)
report["cutoff"] = float(found.cutoff.correction)
print(
    f"entropy of uniform data from its scores {plots.spell(*found.data_entropy[:2])} (ln 2 = {np.log(2):.6f}), of which "
    f"{report['cutoff']:.5f} were taken off for what lies above the first level"
)

# ---- a network, priced while it learns
process = noising(uniform, "ve", 25.0, 1e-4)
TOP, BOTTOM = (float(process.protocol(t).lam) for t in (1e-4, 1.0))


def noise(network, x, lam):
    """The noise that it sees, from a state of unit size."""
    size = jnp.sqrt(1 / 3 + jnp.exp(-lam))
    return network(jnp.append(x / size, 2 * (lam - BOTTOM) / (TOP - BOTTOM) - 1))


@eqx.filter_jit
def update(network, state, key):
    keys = jax.random.split(key, 3)
    lam = jax.random.uniform(keys[0], (BATCH,), minval=BOTTOM, maxval=TOP)
    z = jax.random.normal(keys[1], (BATCH, 1))
    clean = jax.vmap(uniform.sample)(jax.random.split(keys[2], BATCH))
    x = clean + jnp.exp(-0.5 * lam)[:, None] * z
    loss = lambda net: jnp.mean((jax.vmap(noise, (None, 0, 0))(net, x, lam) - z) ** 2)
    step, state = optimizer.update(eqx.filter_grad(loss)(network), state)
    return eqx.apply_updates(network, step), state


start = time.perf_counter()
network = eqx.nn.MLP(2, 1, width_size=64, depth=3, activation=jax.nn.silu, key=key)
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, UPDATES))
state = optimizer.init(eqx.filter(network, eqx.is_array))
snapshots = {}
for i in range(1, UPDATES + 1):
    network, state = update(network, state, jax.random.fold_in(key, i))
    if i in PRICED:
        snapshots[i] = network
report["seconds_training"] = time.perf_counter() - start

report["trained"], prices = {}, {}
for i, one in snapshots.items():
    model = diffusion.predictor(eqx.Partial(noise, one), "noise", kind=diffusion.VE())
    price = prices[i] = diffusion.price(process, model, uniform, key, size=DRAWS, flows=FLOWS)
    fields = ("score_error", "nll", "limit", "gap", "gap_divergence", "balance", "data_entropy")
    row = report["trained"][str(i)] = {}
    for field in fields:
        row[field], row[f"{field}_stderr"] = map(finite, getattr(price, field)[:2])
    print(
        f"after {i} updates: "
        + ", ".join(f"{f} {plots.spell(*getattr(price, f)[:2])}" for f in fields)
    )
print(prices[UPDATES])

# ---- entropy rates in time
ts = jnp.linspace(0.01, 1.0, 40)
rates = {}
for label, score, t0 in (("network", model, 1e-4), ("exact", exact, 1e-4)):
    levels = jax.vmap(noising(uniform, "ve", 25.0, t0).protocol)(ts)
    rates[label] = diffusion.entropy_rates(process, score, uniform, key, levels.lam, size=DRAWS)
report["ratio_ve"] = float(
    jnp.sum(rates["network"].exchange.value) / jnp.sum(rates["network"].intrinsic.value)
)
# of VP it is no such number, even in closed form: of N(1, 1/4) a tenth of the way
narrow = densities.Gaussian(1.0, 0.25)
vp = noising(narrow, "vp", 20.0, 1e-4)
of_vp = diffusion.entropy_rates(
    vp, diffusion.score(vp), narrow, key, vp.protocol(0.1).lam, size=None
)
report["ratio_vp"] = float(of_vp.exchange.value / of_vp.intrinsic.value)
print(f"exchange over intrinsic: {report['ratio_ve']:.6f} for VE, {report['ratio_vp']:.4f} for VP")

# ---- the figure
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
exact_rows = [
    row for name in DATA for kind in ("ve", "vp") for row in report[f"{name}_{kind}"].values()
]
rows = {"exact": exact_rows} | {i: [row] for i, row in report["trained"].items()}
for at, those in enumerate(rows.values()):
    for spread, row in zip(
        np.linspace(-0.25, 0.25, len(those)) if at == 0 else [0.0], those, strict=True
    ):
        left.errorbar(at + spread, row["gap"], 2 * row["gap_stderr"], fmt="k.", capsize=2, ms=4)
left.axhline(0, color="k", ls="--", lw=0.8)
left.set_xticks(range(len(rows)), rows)
left.set(
    xlabel="score: exact, or learned in so many updates",
    ylabel="negative log-likelihood less limit, nats",
)
time_rate = jax.vmap(process.protocol)(ts).rate
for name, style in (("exact", {"color": "0.6", "lw": 3}), ("network", {"lw": 1})):
    for part in ("intrinsic", "exchange", "system"):
        label = part if name == "network" else None
        middle.plot(ts, time_rate * getattr(rates[name], part).value, label=label, **style)
middle.set(xlabel="noising's time $t$", ylabel="entropy rate of generation, nats per time")
middle.legend(title="network; grey: exact", fontsize=8)
for i, price in prices.items():
    lam, rate = price.levels, price.rates.score_error
    (line,) = right.plot(lam, rate.value, label=f"{i}: {plots.spell(*price.score_error[:2])}")
    right.fill_between(
        lam, rate.value - rate.stderr, rate.value + rate.stderr, alpha=0.3, color=line.get_color()
    )
right.set(xlabel=r"$\lambda$", ylabel=r"score error per nat of $\lambda$")
right.invert_xaxis()
right.set_ylim(top=1.35 * right.get_ylim()[1])
right.legend(title="updates: score error, nats", fontsize=8)

report["seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "nll_limit.png", dpi=95)
(out / "nll_limit.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, {report['seconds_training']:.1f} s of them training")
