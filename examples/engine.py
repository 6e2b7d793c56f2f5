"""A Brownian heat engine: a bead in a trap whose stiffness is driven in a cycle between two baths, at greatest power.

Two isothermal strokes, between the widths of the cloud that are given, and two instantaneous switches of the bath. The
stiffness is searched by its knots, with the ends of the strokes held by multipliers, and the cycle found is then repeated
for ever (`evolve.periodic`). All of it by the moments of the cloud, without noise, and compared with the closed form of
Schmiedl and Seifert, EPL 81, 20003 (2008). Writes out/engine.json and .png.
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

jax.config.update("jax_enable_x64", True)

import thermojax as tjx  # noqa: E402
from thermojax import evolve, protocols  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NARROW, WIDE, HOT = (
    0.5,
    1.0,
    1.0,
)  # <x^2> at the ends of the strokes, and the temperature of the one
KNOTS, ROUNDS, UPDATES = 9, 3, 40
SWITCH = 1e-6  # of a stroke: how long the stiffness takes to jump between two strokes
STIFF = 50.0  # weight of the squared distance from the widths that are given

system = tjx.Overdamped(
    lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), temperature=lambda lam: lam["T"]
)
start = tjx.densities.Gaussian(jnp.zeros(1), NARROW)
gain = 0.5 * float(jnp.log(WIDE / NARROW))  # entropy of the cloud, in nats
action = float(jnp.sqrt(WIDE) - jnp.sqrt(NARROW)) ** 2  # times 1/t: work lost in a stroke at best


def plain(stroke, cold):
    """The cycle that the search starts from: two constant stiffnesses, and the bath."""
    half = jnp.linspace(0.0, stroke, KNOTS)
    ts = jnp.concatenate([half, stroke + half.at[0].set(SWITCH * stroke)])
    k = jnp.repeat(jnp.asarray([HOT / WIDE, cold / NARROW]), KNOTS)
    edges = jnp.asarray([0.0, stroke, 2 * stroke])
    bath = protocols.Steps(edges, jnp.asarray([HOT, cold]), cold, cold)
    between = cold / NARROW  # the stiffness before and after, which makes no difference to a cycle
    return protocols.Joint(
        {"k": protocols.Piecewise(ts, k, between, between), "T": protocols.fixed(bath)}
    )


class Lagrangian(eqx.Module):
    """The work of the cycle, and what holds the widths at the ends of the strokes."""

    multipliers: jax.Array

    def __call__(self, process, evolution):
        off = misses(process.protocol, evolution)
        return evolution.work[-1] + self.multipliers @ off + 0.5 * STIFF * off @ off


def misses(drive, evolution):
    middle = evolution.at(0.5 * drive.t1)
    return jnp.stack([middle.cov[0, 0] - WIDE, evolution.cov[-1, 0, 0] - NARROW])


def searched(stroke, cold):
    """The cycle of least work with strokes of this length, by the method of multipliers."""
    drive, multipliers = plain(stroke, cold), jnp.zeros(2)
    ts = drive.protocols["k"].ts
    process = tjx.Process(system, drive, start)
    for _ in range(ROUNDS):
        loss = tjx.optimal.EvolutionLoss(process, ts, Lagrangian(multipliers))
        drive = tjx.optimal.search(loss, drive, steps=UPDATES, progress=False).protocol
        evolution = evolve.moments(process.replace(protocol=drive), ts)
        multipliers = multipliers + STIFF * misses(drive, evolution)
    return drive


def measured(drive):
    """Power, efficiency, and the widths at the ends of the strokes, of the cycle repeated for ever."""
    ts = drive.protocols["k"].ts
    cycle = evolve.periodic(tjx.Process(system, drive, start), ts)
    taken = -cycle.heat[KNOTS - 1]  # from the hot bath
    widths = cycle.cov[jnp.array([0, KNOTS - 1]), 0, 0]
    return {
        "power": float(-cycle.work[-1] / ts[-1]),
        "efficiency": float(-cycle.work[-1] / taken),
        "widths": widths.tolist(),
    }


def exact(stroke, cold):
    out = (HOT - cold) * gain - 2 * action / stroke
    return {"power": out / (2 * stroke), "efficiency": out / (HOT * gain - action / stroke)}


def best_stroke(cold):
    return 4 * action / ((HOT - cold) * gain)


COLD = 0.5
best = best_stroke(COLD)
cycles = {share: searched(share * best, COLD) for share in (0.7, 1.0, 2.0, 4.0)}
report: dict[str, Any] = {"strokes": [], "maximum_power": []}
for share, drive in cycles.items():
    ours, theirs = measured(drive), exact(share * best, COLD)
    report["strokes"].append({"stroke": share * best, "ours": ours, "exact": theirs})
    print(
        f"stroke {share * best:.3f}: power {ours['power']:.6f} (exact {theirs['power']:.6f}), efficiency "
        f"{ours['efficiency']:.5f} ({theirs['efficiency']:.5f}), <x^2> {ours['widths'][0]:.6f} to "
        f"{ours['widths'][1]:.6f}"
    )
for cold in (0.2, COLD, 0.8):
    carnot = 1 - cold
    drive = cycles[1.0] if cold == COLD else searched(best_stroke(cold), cold)
    ours, law = measured(drive)["efficiency"], 2 * carnot / (4 - carnot)
    report["maximum_power"].append({"carnot": carnot, "ours": ours, "exact": law})
    print(f"eta_C = {carnot:.1f}: efficiency at maximum power {ours:.5f} (exact {law:.5f})")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
knotted = cycles[1.0].protocols["k"]
left.plot(knotted.ts, knotted.values, color="C0", lw=3, alpha=0.6, label="found")
share = jnp.linspace(0, 1, 50)
roots, speed = jnp.sqrt(NARROW) + jnp.sqrt(action) * share, jnp.sqrt(action) / best
closed = jnp.concatenate(
    [HOT / roots**2 - speed / roots, (COLD / roots**2 + speed / roots)[::-1]]
)  # the root of <x^2> goes at constant speed
times = jnp.concatenate([best * share, best * (1 + share)])
left.plot(times, closed, color="k", ls="--", lw=1, label="closed form")
left.axvspan(0, best, color="C3", alpha=0.1, lw=0)
left.axvspan(best, 2 * best, color="C0", alpha=0.1, lw=0)
left.set(xlabel="time $t$", ylabel="stiffness $k$", title="cycle of greatest power")
left.legend()
strokes = jnp.linspace(0.6 * best, 4.2 * best, 100)
middle.plot(2 * strokes, exact(strokes, COLD)["power"], color="k", ls="--", lw=1)
for row in report["strokes"]:
    middle.plot(2 * row["stroke"], row["ours"]["power"], "o", color="C0")
middle.set(xlabel="duration of the cycle", ylabel="power", title=r"$T_c/T_h = 1/2$", ylim=(0, None))
etas = jnp.linspace(0, 1, 50)
right.plot(etas, 2 * etas / (4 - etas), color="k", ls="--", lw=1, label=r"$2\eta_C/(4 - \eta_C)$")
right.plot(etas, etas, color="0.6", lw=1, label=r"$\eta_C$")
for row in report["maximum_power"]:
    right.plot(row["carnot"], row["ours"], "o", color="C0")
right.set(xlabel=r"$\eta_C = 1 - T_c/T_h$", ylabel=r"$\eta$", title="efficiency at greatest power")
right.legend()

report["seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "engine.png", dpi=95)
(out / "engine.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, compilation included")
