"""The temperature as the control: a sampler steered from one temperature to another, and the bath that makes a free
energy cheapest.

First a bead in a trap is heated from T = 1 to 2 in unit time, too fast to follow: the weights exp(-W_red) repair its
average at the end. Then a trap is moved and stiffened, in a bath that may be hotter on the way: hotter makes the estimate
of the free energy cheaper, until its variance is infinite; how hot is found from paths of the reversed process, in which
those that count are not rare. All is compared with exact numbers, of a Gaussian cloud that is weighted on its way. Writes
out/temperature_steered.json and .png.
"""

import json
import time
from pathlib import Path
from typing import Any

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_enable_x64", True)  # for the exact numbers

import thermojax as tjx  # noqa: E402
from thermojax import plots, protocols  # noqa: E402
from thermojax.protocols import Piecewise  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

PATHS, SPAN, STEPS, UPDATES, MANY = 20_000, 10.0, 200, 60, 100_000

system = tjx.Overdamped(
    lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2),
    temperature=lambda lam: lam["T"],
)
start = tjx.densities.Boltzmann(system, {"k": 1.0, "c": 0.0, "T": 1.0})
END = {"k": 3.0, "c": 5.0, "T": 1.0}


def heated():
    """A trap at rest, its bath heated from 1 to 2."""
    still = {"k": protocols.ramp(1.0, 1.0, 1.0), "c": protocols.ramp(0.0, 0.0, 1.0)}
    return protocols.Joint(still | {"T": protocols.ramp(1.0, 2.0, 1.0)})


def moved(beta):
    """The trap stiffened from 1 to 3 and moved from 0 to 5, in a bath that has T = 1/beta on the way, 1 before and after."""
    ends = jnp.array([0.0, SPAN])
    given = {
        "k": protocols.ramp(1.0, 3.0, SPAN),
        "c": Piecewise(ends, jnp.array([5 / 12, 55 / 12]), 0.0, 5.0),
    }
    bath = protocols.Steps(ends, jnp.array([1 / beta]), 1.0, 1.0)
    return protocols.Joint({name: protocols.fixed(p) for name, p in given.items()} | {"T": bath})


def exponential(protocol, power, turns=2000):
    """ln <exp(-power W_red)> without sampling: a Gaussian cloud that is so weighted stays Gaussian, turn by turn."""
    step = (protocol.t1 - protocol.t0) / turns
    lams = jax.vmap(protocol)(protocol.t0 + step * (jnp.arange(turns) + 0.5))
    k, c, bath = (
        jnp.concatenate([protocol.before[n][None], lams[n], protocol.after[n][None]])
        for n in ("k", "c", "T")
    )
    # the reduced potential is a x^2 / 2 - b x + e
    turned = [power * jnp.diff(v) for v in (k / bath, k * c / bath, 0.5 * k * c**2 / bath)]

    def turn(cloud, given):
        total, mean, variance = cloud
        da, db, de, k, c, bath = given
        stretch = 1 + da * variance  # below zero: infinite
        tilted = (mean + variance * db) / stretch
        total += 0.5 * ((tilted**2 * stretch - mean**2) / variance - jnp.log(stretch)) - de
        decay = jnp.exp(-k * step)
        mean = c + (tilted - c) * decay
        variance = variance / stretch * decay**2 + bath / k * (1 - decay**2)
        return (total, mean, variance), None

    cloud = (jnp.zeros(()), jnp.zeros(()), jnp.ones(()))  # as it starts
    (total, _, _), _ = jax.lax.scan(turn, cloud, (*turned, k[1:], c[1:], bath[1:]))
    return jnp.where(jnp.isfinite(total), total, jnp.inf)


def exact_variance(protocol, key):
    """What `estimator_variance` estimates from paths; the key is not needed."""
    return exponential(protocol, 2) - 2 * exponential(protocol, 1)


@jax.jit
def cost(beta):
    """<e^-2w> / <e^-w>^2: how many paths it takes for one that counts."""
    return jnp.exp(exact_variance(moved(beta), None))


def finite(value):
    """A number, or None where it is infinite: JSON has no infinity."""
    return float(value) if np.isfinite(value) else None


# ---- the sampler
ts = jnp.linspace(0.0, 1.0, 201)
process = tjx.Process(system, heated(), start)
run = tjx.ensemble(process, ts, jax.random.key(0), 4 * MANY)
w, squares = tjx.reduced_work(process, run), run.path.xs[:, -1, 0] ** 2
weights = jnp.exp(-w) / jnp.mean(jnp.exp(-w))
plain, weighted = jnp.mean(squares), jnp.mean(weights * squares)
errors = [float(jnp.std(v) / jnp.sqrt(w.size)) for v in (squares, weights * (squares - weighted))]
share = float(1 / jnp.mean(weights**2))
moments = tjx.evolve.moments(process, ts[::20])
exact_share = float(np.exp(2 * exponential(heated(), 1) - exponential(heated(), 2)))
report: dict[str, Any] = {
    "unweighted": float(plain),
    "unweighted_stderr": errors[0],
    "unweighted_exact": float(moments.cov[-1, 0, 0]),
    "weighted": float(weighted),
    "weighted_stderr": errors[1],
    "weighted_exact": 2.0,
    "ess_share": share,
    "ess_share_exact": exact_share,
}
print(
    f"<x^2> at T = 2: {plots.spell(plain, errors[0])} (exact {report['unweighted_exact']:.6f}), weighted "
    f"{plots.spell(weighted, errors[1])} (2); of the paths count {share:.3f} (exact {exact_share:.4f})"
)

# ---- the bath that makes a free energy cheapest
ts = jnp.linspace(0.0, SPAN, STEPS + 1)
known = 0.5 * float(np.log(3.0))
best = tjx.optimal.search(
    exact_variance, moved(1.0), jax.random.key(0), steps=5 * UPDATES, progress=False
)
best_beta = 1 / float(best.protocol(1.0)["T"])
report |= {"best_beta": best_beta, "best_cost": float(cost(best_beta)), "baths": {}}
print(f"without noise the cheapest is beta' = {best_beta:.4f}, {cost(best_beta):.3f} paths for one")
process = tjx.Process(system, moved(1.0), start, tjx.densities.Boltzmann(system, END))
for runs in ("forward", "reversed"):
    loss = tjx.optimal.estimator_variance(process, ts, PATHS, reverse=runs == "reversed")
    found = tjx.optimal.search(loss, moved(1.0), jax.random.key(1), steps=UPDATES, progress=False)
    beta, price = 1 / float(found.protocol(1.0)["T"]), found.price
    by_paths = float(jnp.exp(price.value)), float(jnp.exp(price.value) * price.stderr)
    row = {"beta": beta, "cost": finite(cost(beta)), "by_paths": by_paths[0], "stderr": by_paths[1]}
    report[f"found_{runs}"] = row
    print(
        f"found from {runs} paths: beta' = {beta:.4f}, exactly {cost(beta):.3f}, by these paths {plots.spell(*by_paths)}"
    )

for i, b in enumerate((1.0, 0.7, 0.4, 0.1)):
    process = tjx.Process(system, moved(b), start)
    run = tjx.ensemble(process, ts, jax.random.key(10 + i), MANY)
    w = tjx.reduced_work(process, run)
    estimate = tjx.estimators.jarzynski(w)
    mean = tjx.evolve.moments(process, ts[::10]).reduced_work
    row = {
        "mean": float(jnp.mean(w)),
        "mean_exact": float(mean[-1]),
        "variance": float(jnp.var(w)),
        "cost": float(MANY / estimate.ess),
        "cost_exact": finite(cost(b)),
        "free_energy": float(estimate.value),
        "stderr": float(estimate.stderr),
        "reliable": bool(estimate.reliable),
    }
    report["baths"][str(b)] = row
    print(
        f"beta' = {b}: <w> = {row['mean']:.4f} ({row['mean_exact']:.6f}), variance {row['variance']:.3f}, paths for one "
        f"{row['cost']:.2f} ({cost(b):.5f}), free energy {plots.spell(row['free_energy'], row['stderr'])} "
        f"({known:.6f}), reliable: {row['reliable']}"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
edges = np.linspace(0, 5, 41)
style: dict[str, Any] = {"bins": edges, "density": True, "histtype": "step", "lw": 2}
left.hist(jnp.sqrt(squares), color="0.6", label="as they arrive", **style)
left.hist(
    jnp.sqrt(squares), weights=weights, color="C0", label=r"weighted by $e^{-W_{\rm red}}$", **style
)
left.plot(
    edges, np.exp(-(edges**2) / 4) / np.sqrt(np.pi), "k--", lw=1, label="equilibrium at $T = 2$"
)
left.set(xlabel="$|x|$ at the end", ylabel="density")
left.legend()
betas = np.linspace(0.51, 1.0, 40)
right.semilogy(betas, [cost(b) for b in betas], "k--", lw=1, label="exact")
right.axvspan(0.35, 0.5, color="0.9", lw=0)
right.text(0.425, 60, "infinite", ha="center")
right.plot(best_beta, cost(best_beta), "o", color="C0", label="found without noise")
for runs, colour, verdict in (("forward", "C1", ": wrong"), ("reversed", "C2", "")):
    place = report[f"found_{runs}"]["beta"]
    right.axvline(place, color=colour, label=f"found from {runs} paths{verdict}")
right.set(xlabel=r"inverse temperature on the way, $\beta'$", ylabel="paths for one that counts")
right.set(xlim=(0.35, 1), ylim=(20, 200))
right.legend()

report["seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "temperature_steered.png", dpi=95)
(out / "temperature_steered.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, compilation included")
