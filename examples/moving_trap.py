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

import thermojax as tjx  # noqa: E402

KNOTS, STEPS, PATHS, UPDATES, KEYS = 17, 32, 2000, 200, (0, 1, 2)

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
worst = max(range(len(KEYS)), key=lambda i: exact[i])
seconds = time.perf_counter() - began

report = {
    "work_ramp": work_ramp,
    "work_found": [float(f.price.value) for f in found],
    "work_found_stderr": [float(f.price.stderr) for f in found],
    "work_found_exact": exact,
    "work_optimal": float(optimum.work),
    "seconds": seconds,
}
out = Path("out")
out.mkdir(exist_ok=True)
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
