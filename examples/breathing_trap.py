"""Squeeze a trap from stiffness 1 to 4 with the least work, in unit time and five times as fast.

The search starts from the plain ramp and sees simulated paths only. What it finds is then priced exactly, by the
moments of the Gaussian cloud, and compared with the closed form. Writes out/breathing_trap.json and .png.
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402

import thermojax as tjx  # noqa: E402
from thermojax import plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

KNOTS, STEPS, PATHS, UPDATES = 9, 64, 4000, 200
SPANS = {1.0: "", 0.2: "fast"}

system = tjx.Overdamped(lambda x, k: 0.5 * k * jnp.sum(x**2))
initial = tjx.densities.Boltzmann(system, 1.0)


@jax.jit
def exact_work(protocol):
    ts = jnp.linspace(protocol.t0, protocol.t1, 33)
    return tjx.evolve.moments(tjx.Process(system, protocol, initial), ts).work[-1]


figure, rows = plt.subplots(2, 2, figsize=(9, 5.8), layout="constrained")
report = {}
for (left, right), (span, name) in zip(rows, SPANS.items(), strict=True):
    ramp = tjx.protocols.ramp(1.0, 4.0, span, knots=KNOTS)
    ts = jnp.linspace(0.0, span, STEPS + 1)
    loss = tjx.optimal.mean_work(tjx.Process(system, ramp, initial), ts, PATHS)
    found = tjx.optimal.search(loss, ramp, jax.random.key(0), steps=UPDATES)
    optimum = tjx.optimal.breathing_trap(1.0, 4.0, span)

    work_ramp, work_found = float(exact_work(ramp)), float(exact_work(found.protocol))
    work_optimal = float(optimum.work)
    k_start, k_end = (float(found.protocol(t)) for t in (0.0, span))
    price = plots.spell(found.price.value, found.price.stderr)
    print(f"1 -> 4 in tau = {span}")
    print(f"  ramp                 <W> = {work_ramp:.6f}")
    print(
        f"  found from paths     <W> = {work_found:.6f}  (its own paths: {price}, agrees: {found.agrees})"
    )
    print(
        f"  optimum, closed form <W> = {work_optimal:.6f}  (excess {work_found / work_optimal - 1:.1e})"
    )
    print(f"  k(0+), k(tau-)           = {k_start:.3f}, {k_end:.3f}")
    print(f"  of the optimum           = {optimum.protocol(0.0):.3f}, {optimum.protocol(span):.3f}")
    numbers = {
        "work_ramp": work_ramp,
        "work_found": float(found.price.value),
        "work_found_stderr": float(found.price.stderr),
        "work_found_exact": work_found,
        "work_optimal": work_optimal,
        "k_start": k_start,
        "k_end": k_end,
    }
    report |= {name: numbers} if name else numbers

    plots.protocol(left, ramp, color="0.6", label=f"ramp: {work_ramp:.4f}")
    plots.protocol(
        left, found.protocol, color="C0", lw=4, alpha=0.5, label=f"found: {work_found:.4f}"
    )
    plots.protocol(
        left, optimum.protocol, color="k", ls="--", lw=1, label=f"optimum: {work_optimal:.4f}"
    )
    left.set(ylabel=r"stiffness $k$", title=rf"$\tau = {span:g}$")
    left.legend(title=r"exact $\langle W \rangle / T$", loc="upper left")
    plots.history(right, found, color="C0")
    right.axhline(work_ramp, color="0.6")
    right.axhline(work_optimal, color="k", ls="--", lw=1)
    right.set(ylabel=rf"$\langle W \rangle / T$ over {PATHS} paths")

report["seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "breathing_trap.png", dpi=95)
(out / "breathing_trap.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, compilation included")
