r"""Everything driven at once, in two dimensions: does every identity of stochastic thermodynamics hold?

A trap in the plane, U = k |x - c|^2 / 2, whose stiffness k, centre c and temperature T are driven, and on top a force that
has no potential, f = w (-(y - c_y), x - c_x), which stirs. Units: mu = 1, energies in the first T. `verify` prints the
table. Writes out/driven_2d.json and out/driven_2d.png.
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

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

STIR, TAU, STEPS, PATHS = 1.0, 1.0, 200, 10_000
FIRST = {"k": 1.0, "c": (0.0, 0.0), "T": 1.0}
LAST = {"k": 2.0, "c": (0.8, 0.4), "T": 1.4}


def stirring(x, lam):
    away = x - lam["c"]
    return STIR * jnp.stack([-away[1], away[0]])


system = tjx.Overdamped(
    lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2),
    stirring,
    temperature=lambda lam: lam["T"],
)
first, last = ({name: jnp.asarray(value) for name, value in ends.items()} for ends in (FIRST, LAST))
drive = tjx.protocols.ramp(first, last, TAU)
start, rest = (tjx.densities.Boltzmann(system, lam, dim=2) for lam in (first, last))
process = tjx.Process(system, drive, start, rest)
ts = jnp.linspace(0.0, TAU, STEPS + 1)

verdict = tjx.verify(process, ts, jax.random.key(0), size=PATHS)
print(verdict)
print("all that applies holds:", verdict.holds)

exact = tjx.evolve.moments(process, ts)
delta = (
    0.5 * 2 * np.log(LAST["k"] / FIRST["k"] * FIRST["T"] / LAST["T"])
)  # of beta F, in two dimensions
dissipated, total = float(exact.reduced_work[-1]) - delta, float(exact.entropy.total[-1])
print(f"W_diss {dissipated:.4f} = S_tot {total:.4f} + KL {dissipated - total:.4f}")

rates = tjx.rates.along(process, exact, split="maes-netocny")
figure, (plane, rate) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
run = tjx.ensemble(process, ts, jax.random.key(1), 400, save="all")
xs = np.asarray(run.path.xs)
for i, color in ((0, "C0"), (STEPS, "C3")):
    plane.plot(*xs[:, i].T, ".", color=color, ms=3, alpha=0.5, label=f"t = {float(ts[i]):g}")
plane.plot(*xs[0].T, color="0.4", lw=0.7, label="one path")
plane.plot(*np.stack([FIRST["c"], LAST["c"]], 1), "k-o", ms=4, label="centre of the trap")
plane.set(xlabel="x", ylabel="y", aspect="equal")
plane.legend(fontsize=8)
for name, color in (("total", "k"), ("housekeeping", "C1"), ("excess", "C2")):
    rate.plot(ts, getattr(rates, name), color=color, label=name)
rate.set(xlabel="time t", ylabel="entropy production per time", ylim=(0, None))
rate.legend(fontsize=8, title="Maes and Netočný")

seconds = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "driven_2d.png", dpi=90)
report = {
    "holds": verdict.holds,
    "rows": {
        name: row if isinstance(row, str) else [equation, float(row.value), float(row.allowed)]
        for name, equation, row in verdict.rows
    },
    "dissipated": dissipated,
    "total": total,
    "seconds": seconds,
}
(out / "driven_2d.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{seconds:.1f} s, compilation included")
