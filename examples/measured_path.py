"""From a CSV file of measured trajectories to work, heat, entropy and free energy with their errors.

For want of a laboratory the script first writes a file like that of an optical tweezer: a bead of one micrometre in
water, dragged by a trap, some hundred times. It then reads the file back as anyone would, and compares with what is
exact. Lengths are in µm, times in s, energies in kT. At last it thins paths, to say what sampling rate the ledger takes.

    python examples/measured_path.py
    python examples/measured_path.py --file my.csv --stiffness 310 --position "x (µm)"

Writes out/measured_path.csv, out/measured_path.json and out/measured_path.png.
"""

import argparse
import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)  # a laboratory's numbers have more digits than float32

import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import thermojax as tjx  # noqa: E402
from thermojax import plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--file", help="your own; by default one is simulated")
parser.add_argument("--stiffness", type=float, default=250.0, help="of the trap, in kT/µm²")
parser.add_argument("--time", default="time (s)", help="name of the column")
parser.add_argument("--position", default="position (µm)", help="name of the column")
parser.add_argument("--trap", default="trap (µm)", help="name of the column")
parser.add_argument("--repetition", default="repetition", help='name of the column, or ""')
asked = parser.parse_args()

MOBILITY, DISTANCE, PATHS = 0.4, 0.15, 500  # µm²/(kT s), µm
RELAXATION = 1 / (MOBILITY * asked.stiffness)  # 10 ms
STEPS = 400  # of the simulations

system = tjx.Overdamped(tjx.potentials.MovingTrap(asked.stiffness), mobility=MOBILITY)
initial = tjx.densities.Boltzmann(system, 0.0)
out = Path("out")
out.mkdir(exist_ok=True)


def drag(duration, distance=DISTANCE):
    """A process and its steps: at constant speed, over the whole record of `duration` relaxation times."""
    end = duration * RELAXATION
    ramp = tjx.protocols.ramp(0.0, distance, end)
    return tjx.Process(system, ramp, initial), np.linspace(0.0, end, STEPS + 1)


def jump(duration, distance):
    """All at once, in the middle of the record."""
    end = duration * RELAXATION
    steps = tjx.protocols.Steps(jnp.array([0.0, end / 2, end]), jnp.array([0.0, distance]))
    return tjx.Process(system, steps, initial), np.linspace(0.0, end, STEPS + 1)


def write(file, process, ts, every):
    """The file of a tweezer that sees every so manieth step of a simulation."""
    run = tjx.ensemble(process, ts, jax.random.key(0), PATHS, save=every)
    xs, trap = np.asarray(run.path.xs[..., 0]), np.asarray(jax.vmap(process.protocol)(ts[::every]))
    with file.open("w", encoding="utf-8") as lines:
        lines.write("# simulated: a bead dragged by an optical trap\n")
        lines.write("repetition,time (s),position (µm),trap (µm)\n")
        for i, x in enumerate(xs):
            for row in zip(ts[::every], x, trap, strict=True):
                lines.write(f"{i}," + ",".join(f"{v:.6f}" for v in row) + "\n")


def mean(x):
    estimate = tjx.estimators.mean(x)
    return float(estimate.value), float(estimate.stderr)


# ---- a file, and what it says
slow, ts = drag(10)
file = Path(asked.file or out / "measured_path.csv")
if not asked.file:
    write(file, slow, ts, every=2)

data = tjx.measured.read_csv(
    file,
    time=asked.time,
    positions=asked.position,
    controls=asked.trap,
    path=asked.repetition or None,
)
ends = data.path.xs[:, -1]
start = tjx.densities.Boltzmann(system, data.controls[:, 0].mean())  # the run starts in equilibrium
end = tjx.densities.Gaussian(ends.mean(0), jnp.atleast_2d(jnp.cov(ends.T)))  # and ends, as measured
process = data.process(system, start, end)
run = tjx.account(process, data.path)
free = tjx.estimators.jarzynski(tjx.reduced_work(process, run))
answers = {
    "work W": mean(run.work),
    "heat Q": mean(run.heat),
    "entropy production": mean(run.entropy.total),
    "free energy, Jarzynski": (float(free.value), float(free.stderr)),
}
report = {"file": str(file), "paths": len(run.work), "reliable": bool(free.reliable)}
report |= {name: {"value": v, "stderr": e} for name, (v, e) in answers.items()}
if not asked.file:
    moments = tjx.evolve.moments(slow, ts[::20])
    of_means = [moments.work, moments.heat, moments.entropy.total]
    exact = [*(float(v[-1]) for v in of_means), 0.0]
    for name, value in zip(answers, exact, strict=True):
        report[name]["exact"] = value

print(f"{file}: {data.path.xs.shape[0]} paths of {data.path.xs.shape[1]} samples; in kT")
for name, (value, error) in answers.items():
    known = f"   exact {report[name]['exact']:7.4f}" if "exact" in report[name] else ""
    print(f"  {name:24s}{value:8.4f} ± {error:.4f}{known}")
print(f"  (the free energy is {'' if free.reliable else 'not '}reliable)")


# ---- thinned paths
def thin(ts, xs, trap, few):
    """The work along `few` samples of each path, as a file of them would give it."""
    trap = np.broadcast_to(trap[few], xs[:, few, 0].shape)
    less = tjx.measured.Measured(tjx.Path(ts[few], xs[:, few]), trap)
    return np.asarray(tjx.account(less.process(system, initial), less.path).work)


def study(name, process, ts, spacings, parts):
    """Bias of work and heat in percent, against the interval in relaxation times: measured in pairs, and exact."""
    full = tjx.ensemble(process, ts, jax.random.key(1), 4000, save="all")
    moments = tjx.evolve.moments(process, ts)
    means = {part: float(getattr(moments, part)[-1]) for part in parts}
    trap = np.asarray(jax.vmap(process.protocol)(ts))
    # the work is linear in x: its mean is the work of the mean path, here put before the others
    xs = np.concatenate([moments.mean[None], full.path.xs])
    centred = isinstance(process.protocol, tjx.protocols.Steps)
    rows = []
    for every in spacings:
        offset = (STEPS // 2 - every // 2) % every if centred else 0  # the jump between two samples
        exact, *work = thin(ts, xs, trap, slice(offset, None, every))
        less, exact = mean(np.array(work) - full.work), exact - means["work"]
        # the heat is off by as much: the change of energy depends on the ends alone
        rows.append(
            {"interval": float((ts[every] - ts[0]) / RELAXATION)}
            | {part: [100 * v / means[part] for v in (*less, float(exact))] for part in parts}
        )
    h = [row["interval"] for row in rows]
    rule = {
        f"{percent} % of the {part}": float(
            np.exp(np.interp(np.log(percent), np.log([-row[part][2] for row in rows]), np.log(h)))
        )
        for percent, part in ((1, "work"), (2, "heat"))
        if part in parts
    }
    return {"name": name, "means": means, "rows": rows, "rule": rule}


def show(result):
    print(f"\nthinned: {result['name']}; too low by, in %")
    print("  interval / relaxation   " + "".join(f"{part:26s}" for part in result["means"]))
    for row in result["rows"]:
        cells = [f"{-b:6.3f} ± {e:.3f} ({-x:6.3f})   " for b, e, x in list(row.values())[1:]]
        print(f"  {row['interval']:17.3f}      " + "".join(cells))
    rule = (f"{what} at {h:.3f}" for what, h in result["rule"].items())
    print("  " + ", ".join(rule) + " relaxation times a sample")


if not asked.file:
    both = ("work", "heat")
    far = 10 * DISTANCE  # the same in percent, and the noise is a tenth
    report["thinned"] = [
        study("drag in 10 relaxation times", *drag(10, far), (4, 8, 16, 20, 40, 80), both),
        study("drag in 1 relaxation time", *drag(1, far), (20, 40, 80, 100, 200, 400), both),
        study("jump between two samples", *jump(4, far), (2, 4, 10, 20, 50, 100), both[:1]),
    ]
    for result in report["thinned"]:
        show(result)

# ---- the figure
figure, axes = plt.subplots(
    1, 2 if asked.file else 3, figsize=(8.4 if asked.file else 12.6, 3.9), layout="constrained"
)
milli = 1e3 * np.asarray(data.path.ts)
for i in range(min(6, len(milli))):
    axes[0].plot(milli[i], data.path.xs[i, :, 0], lw=0.7, color="C0", alpha=0.45)
axes[0].plot([], [], color="C0", label="bead, six of the repetitions")
axes[0].plot(milli[0], data.controls[0], color="k", lw=2, label="trap")
axes[0].set(xlabel="time in ms", ylabel="position in µm", title="what the file holds")
low, high = axes[0].get_ylim()
axes[0].set_ylim(low, high + 0.2 * (high - low))
axes[0].legend(fontsize=8, loc="upper left")

plots.works(axes[1], run.work, estimate=free, bins=30)
value, error = answers["work W"]
axes[1].axvline(
    value, color="C0", ls=":", label=rf"$\langle W \rangle$ = {value:.2f} ± {error:.2f}"
)
if not asked.file:
    axes[1].axvline(exact[0], color="C0", ls="--", lw=1, label=f"exact: {exact[0]:.3f}")
axes[1].set(
    xlabel="work in kT", ylabel="density per kT", title=f"the work of {len(run.work)} paths"
)
axes[1].set_ylim(top=1.4 * axes[1].get_ylim()[1])
axes[1].legend(fontsize=8, loc="upper left")

for i, result in enumerate(report.get("thinned", [])):
    h = [row["interval"] for row in result["rows"]]
    for part in result["means"]:
        style, marker, fill = ("-", "o", None) if part == "work" else ("--", "s", "w")
        bias, error, true = -np.array([row[part] for row in result["rows"]]).T
        axes[2].plot(h, true, style, color=f"C{i}", lw=1)
        axes[2].errorbar(
            h, bias, abs(error), fmt=marker, color=f"C{i}", mfc=fill, ms=4.5, capsize=2
        )
    axes[2].plot([], [], "o", color=f"C{i}", label=result["name"])
if "thinned" in report:
    axes[2].plot([], [], "k-o", ms=4.5, lw=1, label="of the work")
    axes[2].plot([], [], "k--s", ms=4.5, lw=1, mfc="w", label="of the heat")
    axes[2].set(
        xscale="log",
        yscale="log",
        ylim=(1e-2, 2e3),
        xlabel=r"time between samples, in relaxation times $1/\mu k$",
        ylabel="work and heat too low by, in %",
        title="thinned: points measured, lines exact",
    )
    axes[2].legend(fontsize=8, loc="upper left", ncols=2)
figure.savefig(out / "measured_path.png", dpi=150)

report["seconds"] = time.perf_counter() - began
(out / "measured_path.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
print(f"\n{report['seconds']:.1f} s, compilation included")
