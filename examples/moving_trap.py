"""Drag a trap from 0 to 5 in unit time with the least work, and compare what is found with the closed form.

The search starts from the plain ramp, without end jumps, and sees simulated paths only. What it finds is then priced
exactly, by the moments of the Gaussian cloud. Writes out/moving_trap.json and out/moving_trap.png.
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

KNOTS, STEPS, PATHS, UPDATES, KEYS = 17, 32, 2000, 100, (0, 1, 2)

system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
initial = tjx.densities.Boltzmann(system, 0.0)
ramp = tjx.protocols.ramp(0.0, 5.0, 1.0, knots=KNOTS)
ts = jnp.linspace(0.0, 1.0, STEPS + 1)
optimum = tjx.optimal.moving_trap(0.0, 5.0, 1.0)


@jax.jit
def exact_work(protocol):
    return tjx.evolve.moments(tjx.Process(system, protocol, initial), ts[::2]).work[-1]


loss = tjx.optimal.mean_work(tjx.Process(system, ramp, initial), ts, PATHS)
found = [tjx.optimal.search(loss, ramp, jax.random.key(k), steps=UPDATES) for k in KEYS]
exact = [float(exact_work(f.protocol)) for f in found]
work_ramp = float(exact_work(ramp))
work_optimal = float(optimum.work)
out = Path("out")
out.mkdir(exist_ok=True)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
plots.protocol(left, ramp, color="0.6", label=f"ramp, where the search starts: {work_ramp:.4f}")
for i, f in enumerate(found):
    label = (
        f"found from paths, {len(KEYS)} keys: {min(exact):.4f} to {max(exact):.4f}"
        if not i
        else None
    )
    plots.protocol(left, f.protocol, color="C0", lw=3, alpha=0.5, label=label)
plots.protocol(
    left,
    optimum.protocol,
    color="k",
    ls="--",
    lw=1,
    label=f"optimum in closed form: {work_optimal:.4f}",
)
left.set(ylabel=r"position of the trap $\lambda$", ylim=(-0.3, 6.9))
left.legend(
    title=r"protocol, and its exact mean work $\langle W \rangle$",
    fontsize=8,
    title_fontsize=8,
    loc="upper left",
)
for f in found:
    plots.history(right, f, color="C0", alpha=0.7)
right.axhline(work_ramp, color="0.6")
right.axhline(work_optimal, color="k", ls="--", lw=1)
right.set(ylabel=rf"$\langle W \rangle$ over {PATHS} fresh paths")
figure.savefig(out / "moving_trap.png", dpi=150)

seconds = time.perf_counter() - began
worst = max(range(len(KEYS)), key=lambda i: exact[i])
report = {  # of the worst key; all of them are under "keys"
    "work_ramp": work_ramp,
    "work_found": float(found[worst].price.value),
    "work_found_stderr": float(found[worst].price.stderr),
    "work_found_exact": exact[worst],
    "work_optimal": work_optimal,
    "seconds": seconds,
    "keys": {str(key): e for key, e in zip(KEYS, exact, strict=True)},
}
(out / "moving_trap.json").write_text(json.dumps(report, indent=2) + "\n")

print(f"ramp                  <W> = {work_ramp:.4f}")
for key, f, e in zip(KEYS, found, exact, strict=True):
    value, error = float(f.price.value), float(f.price.stderr)
    print(
        f"found with key {key}      <W> = {e:.5f}  (its own paths: {value:.4f} ± {error:.4f}, agrees: {f.agrees})"
    )
print(
    f"optimum, closed form  <W> = {float(optimum.work):.5f}  (worst excess {exact[worst] / float(optimum.work) - 1:.1e})"
)
print(f"{seconds:.1f} s, compilation included")
