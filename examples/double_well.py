r"""Pull a particle through the barrier of a double well, and account for every nat: along paths, and in the density.

U = -ln[e^{-k (x + 1)^2 / 2} + e^{-k (x - 1)^2 / 2}] + k_s (x - lam)^2 / 2, the trap's centre lam from -1 to 1 in the time
0.44; T = mu = 1, energies in T, lengths in half the distance of the wells (Sivak & Crooks, PRE 94, 052106 (2016)). The
density is solved on a grid, so that the total entropy production of each path is known, and work without noise: what is
searched is the exact mean work. Writes out/double_well.json and out/double_well.png.
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_enable_x64", True)  # the grid's numbers have more digits than float32

import thermojax as tjx  # noqa: E402
from thermojax import plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

K, KS, TAU, KNOTS = 6.38629, 0.4 * 100 / 4.183, 0.44, 9
GRID, STEPS, FINE, PATHS = tjx.evolve.Grid(-3.0, 3.0, 200), 96, 192, 20_000
SHOWN = 5000  # paths whose states give the rates


def potential(x, lam):
    wells = -jnp.logaddexp(-0.5 * K * (x + 1) ** 2, -0.5 * K * (x - 1) ** 2)
    return jnp.sum(wells + 0.5 * KS * (x - lam) ** 2)


system = tjx.Overdamped(potential)
start, rest = (tjx.densities.Boltzmann(system, lam) for lam in (-1.0, 1.0))


def pulled(tau, steps):
    process = tjx.Process(system, tjx.protocols.ramp(-1.0, 1.0, tau, knots=KNOTS), start, rest)
    return process, jnp.linspace(0.0, tau, steps + 1)


process, ts = pulled(TAU, STEPS)

# The density in time, and the drive of least work.
found = tjx.optimal.search(
    tjx.optimal.exact_work(process, ts, GRID), process.protocol, steps=60, progress=False
)
drives = {"ramp": process, "least work": process.replace(protocol=found.protocol)}
report = {}
for name, drive in drives.items():
    exact = tjx.evolve.extrapolated(drive, ts, GRID)
    plain = tjx.evolve.fokker_planck(drive, ts, GRID)
    work, total = float(exact.work[-1]), float(exact.entropy.total[-1])
    balance = tjx.identities.mean_dissipation(drive, plain)
    print(
        f"{name:10s}  <W> = <W_diss> {work:.6f} = <S_tot> {total:.6f} + KL {work - total:.6f};  on one grid (6.26) "
        f"is off by {float(balance.value):.0e}"
    )
    report[name] = {"work": work, "total": total, "kl": work - total, "off": float(balance.value)}
report["agrees"] = found.agrees

# The total entropy production of each path, with the density where they end as `final`. Means by the alternating rule, of
# second order in the step; the average of e^-S by the kernel rule, exact at every step.
paths = {}
for tau in (TAU, 10 * TAU):
    slow, times = pulled(tau, FINE)
    density = tjx.evolve.fokker_planck(slow, times, GRID)
    real, keys = slow.replace(final=density.final), jax.random.split(jax.random.key(0))
    paths[tau] = tjx.ensemble(real, times, keys[0], PATHS).entropy.total
    exactly = tjx.ensemble(real, times, keys[1], PATHS, rule="kernel").entropy.total
    mean, average = tjx.estimators.mean(paths[tau]), tjx.estimators.integral_fluctuation(exactly)
    print(
        f"tau = {tau:4.2f}: <S_tot> {plots.spell(mean.value, mean.stderr)} along paths, "
        f"{float(density.entropy.total[-1]):.4f} of the density; <exp(-S_tot)> "
        f"{plots.spell(average.value, average.stderr)}, reliable: {bool(average.reliable)}"
    )
    report[f"tau {tau:g}"] = {
        "mean": float(mean.value),
        "mean_stderr": float(mean.stderr),
        "of_density": float(density.entropy.total[-1]),
        "average": float(average.value),
        "average_stderr": float(average.stderr),
        "reliable": bool(average.reliable),
    }

# The rate of entropy production: from the currents between the cells, and at the states of paths, by the grid's score.
density, best = (tjx.evolve.fokker_planck(drive, ts, GRID) for drive in drives.values())
rates, best_rates = (
    tjx.rates.along(drive, of, split=None).total
    for drive, of in zip(drives.values(), (density, best), strict=True)
)
run = tjx.ensemble(process, ts, jax.random.key(1), SHOWN, save=8)
sampled = tjx.rates.sampled_along(process, run.path, density.score).total
apart = jnp.abs(sampled.value / rates[::8] - 1)[1:]
print(f"the rates of {SHOWN} paths and of the grid differ by at most {float(apart.max()):.1%}")
report["rates_apart"] = float(apart.max())

figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
(upper, drive), (nats, rate) = axes
x = np.asarray(GRID.axis(0))
shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, 5))
for i, shade in zip(range(0, STEPS + 1, STEPS // 4), shades, strict=True):
    upper.plot(x, density.p[i], color=shade, label=f"t = {float(ts[i]):.2f}")
upper.plot(
    x, jnp.exp(jax.vmap(rest.log_prob)(GRID.centres())), "k:", label="equilibrium at the end"
)
upper.set(xlabel="position x", ylabel="density, ramp", xlim=(-2, 2.2), ylim=(0, 2.35))
upper.legend(fontsize=8, ncols=2, loc="upper center")

plots.protocol(drive, process.protocol, color="C0", label=f"ramp, {report['ramp']['work']:.4f}")
label = f"least work, {report['least work']['work']:.4f}"
plots.protocol(drive, found.protocol, color="C3", label=label)
drive.set(xlabel="time t", ylabel=r"centre of the trap $\lambda$")
drive.legend(fontsize=8, title=r"$\langle W\rangle$", loc="upper left")

for tau, color in ((TAU, "C0"), (10 * TAU, "C2")):
    nats.hist(
        np.asarray(paths[tau]), 100, range=(-8, 22), density=True, histtype="step", color=color
    )
    found_of = report[f"tau {tau:g}"]
    word = "reliable" if found_of["reliable"] else "not reliable"
    average = plots.spell(found_of["average"], found_of["average_stderr"])
    label = rf"$\tau$ = {tau:.2g}: $\langle e^{{-S}}\rangle$ = {average}, {word}"
    nats.plot([], [], color=color, label=label)
nats.set(
    xlabel=r"total entropy production of a path $S_\mathrm{tot}$ / nats",
    ylabel="probability density",
)
nats.set(ylim=(0, 0.36))
nats.legend(fontsize=8)

rate.plot(ts, rates, color="C0", label="ramp, from the grid")
at = np.asarray(ts[::8])
rate.errorbar(at, sampled.value, sampled.stderr, fmt="k.", capsize=2, label=f"ramp, {SHOWN} paths")
rate.plot(ts, best_rates, color="C3", label="least work, from the grid")
rate.set(xlabel="time t", ylabel="entropy production per time", ylim=(0, None))
rate.legend(fontsize=8)

out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "double_well.png", dpi=85)
report["seconds"] = time.perf_counter() - began
(out / "double_well.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, compilation included")
