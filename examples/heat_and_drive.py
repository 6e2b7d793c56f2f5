"""Heat a trapped bead from T = 1 to 2 in unit time and drive the trap meanwhile, with the least dissipation.

The trap has the same stiffness before and after, k = 1; the temperature is given, k(t) in between is searched. With a
temperature that changes, what dissipates is the reduced work, not W/T: a search for the least <W> finds a heat engine
that dissipates more than doing nothing. Writes out/heat_and_drive.json and .png.
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

import thermojax as tjx  # noqa: E402
from thermojax import plots, protocols  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

KNOTS, STEPS, PATHS, UPDATES, MANY = 9, 64, 4000, 200, 200_000

system = tjx.Overdamped(
    lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), temperature=lambda lam: lam["T"]
)
cold = tjx.densities.Boltzmann(system, {"k": 1.0, "T": 1.0})
hot = tjx.densities.Boltzmann(system, {"k": 1.0, "T": 2.0})
free_energy = float(
    cold.log_partition() - hot.log_partition()
)  # of F/T, from cold to hot: -ln(2)/2
heater = protocols.fixed(protocols.ramp(1.0, 2.0, 1.0))
idle = protocols.Joint({"k": protocols.ramp(1.0, 1.0, 1.0, knots=KNOTS), "T": heater})
ts = jnp.linspace(0.0, 1.0, STEPS + 1)

# On the clock ds = T dt the bead sees the stiffness k/T, from 1 to 1/2 in s = 3/2, at T = 1: the optimum is known.
slow = tjx.optimal.breathing_trap(1.0, 0.5, 1.5)
least = float(slow.work) - free_energy
optimum = protocols.Function(lambda t: (1 + t) * slow.protocol(t + t**2 / 2), 1.0, 0.0, 1.0, 1.0)


def driven(protocol):
    return tjx.Process(system, protocol, cold, hot)


@jax.jit
def exact(protocol):
    """Mean work and mean dissipated reduced work."""
    moments = tjx.evolve.moments(driven(protocol), ts[::2])
    assert moments.reduced_work is not None
    return moments.work[-1], moments.reduced_work[-1] - free_energy


@jax.jit
def run(protocol, key):
    many = tjx.ensemble(driven(protocol), ts, key, MANY)
    return many.entropy.total, many.work


def exponential_work(protocol, turns=4000):
    """<exp(-W/T0)> without sampling: the Gaussian cloud weighted by exp(-W/T0) stays Gaussian, turn by turn."""
    middles = (jnp.arange(turns) + 0.5) / turns
    lams = jax.vmap(protocol)(middles)
    k, temperature = np.asarray(lams["k"], float), np.asarray(lams["T"], float)
    log_mass, variance = 0.0, 1.0
    for turn, now, bath in zip(
        np.diff(k, prepend=1.0, append=1.0), [*k, 1.0], [*temperature, 1.0], strict=True
    ):
        stretch = 1 + turn * variance  # turn the knob: a weight exp(-turn x^2 / 2)
        log_mass, variance = log_mass - 0.5 * np.log(stretch), variance / stretch
        decay = np.exp(-2 * now / turns)  # let the bath act
        variance = variance * decay + bath / now * (1 - decay)
    return float(np.exp(log_mass))


dissipation = tjx.optimal.mean_dissipation(driven(idle), ts, PATHS)
work = tjx.optimal.mean_work(driven(idle), ts, PATHS)
found = tjx.optimal.search(dissipation, idle, jax.random.key(0), steps=UPDATES)
engine = tjx.optimal.search(work, idle, jax.random.key(1), steps=UPDATES)
cases = {
    "nothing done": ("idle", "0.6", idle),
    r"least $\langle W_{\rm diss}\rangle$ found": ("found", "C0", found.protocol),
    r"least $\langle W\rangle$ found": ("least_work", "C1", engine.protocol),
}

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
report: dict[str, Any] = {"dissipation_optimal": least, "free_energy": free_energy}
for i, (label, (name, color, protocol)) in enumerate(cases.items()):
    mean_work, mean_dissipation = map(float, exact(protocol))
    total, done = run(protocol, jax.random.key(10 + i))
    integral = tjx.estimators.integral_fluctuation(total)
    ordinary = tjx.estimators.integral_fluctuation(done)  # <exp(-W/T0)>, as T0 = 1
    target = float(jnp.exp(-free_energy))
    error, true_ordinary = float(ordinary.stderr), exponential_work(protocol)
    off = target - float(ordinary.value)
    report[name] = {
        "work": mean_work,
        "dissipation": mean_dissipation,
        "integral_fluctuation": float(integral.value),
        "integral_fluctuation_stderr": float(integral.stderr),
        "ordinary": float(ordinary.value),
        "ordinary_stderr": error,
        "ordinary_exact": true_ordinary,
        "exp_minus_delta_beta_f": target,
    }
    print(
        f"{name:10s}  <W> = {mean_work:8.5f}   <W_diss> = {mean_dissipation:.5f}  (optimum {least:.5f})"
    )
    print(f"    <exp(-W_diss)> = {plots.spell(integral.value, integral.stderr)}  (1)")
    how = f"{off / error:.0f} standard errors below" if error else "as no run does work, not"
    print(
        f"    <exp(-W/T0)>   = {plots.spell(ordinary.value, error)}  ({true_ordinary:.4f}; {how} "
        f"exp(-Delta(F/T)) = {target:.4f})"
    )
    style = {
        "color": color,
        "lw": 4 if name == "found" else 2,
        "alpha": 0.6 if name == "found" else 1,
    }
    plots.protocol(left, protocol, control="k", label=f"{label}: {mean_dissipation:.4f}", **style)
    for estimate, true, marker in ((integral, 1, "o"), (ordinary, target, "s")):
        value, stderr = float(estimate.value) / true, float(estimate.stderr) / true
        right.errorbar(
            value,
            -i,
            xerr=stderr,
            fmt=marker,
            color=color,
            capsize=3,
            mfc="w" * (true != 1) or color,
        )

for name, search in (("found", found), ("least_work", engine)):
    price = plots.spell(search.price.value, search.price.stderr)
    print(f"{name:10s}  price on its own paths {price}, agrees: {search.agrees}")
    report[name] |= {
        "price": float(search.price.value),
        "price_stderr": float(search.price.stderr),
        "agrees": search.agrees,
    }

plots.protocol(left, optimum, color="k", ls="--", lw=1, label=f"optimum, closed form: {least:.4f}")
plots.protocol(left, heater, color="C3", ls=":", lw=1.5, label="temperature $T$, given")
left.set(ylabel="stiffness $k$, temperature $T$")
left.legend(title=r"exact $\langle W_{\rm diss}\rangle$", fontsize=8, title_fontsize=8)
right.axvline(1, color="k", lw=0.8)
right.errorbar([], [], xerr=[], fmt="o", color="k", label=r"$\langle e^{-W_{\rm diss}}\rangle$")
right.errorbar(
    [],
    [],
    xerr=[],
    fmt="s",
    color="k",
    mfc="w",
    label=r"$\langle e^{-W/T_0}\rangle\, e^{\Delta(\beta F)}$",
)
right.set(
    yticks=[0, -1, -2],
    yticklabels=list(cases),
    ylim=(-2.6, 0.6),
    xlabel="exponential average, over its value in theory",
)
right.legend(loc="lower left")

report["seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "heat_and_drive.png", dpi=130)
(out / "heat_and_drive.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, compilation included")
