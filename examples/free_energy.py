r"""A free energy from forward and reverse runs, at a fast protocol, a slow one, and the one optimised for the estimate.

A stiff trap pulls a particle from one well of a tilted double well to the other, U = (k/2)(x - lam)^2 + 4 (x^2 - 1)^2 - x
with lam from -1.5 to 1.5: a hairpin in an optical tweezer. k = 12, T = mu = 1. The exact free energy is by quadrature. The
search minimises the variance of e^-W, which is what a Jarzynski estimate pays.

Writes out/free_energy.json and out/free_energy.png.
"""

import json
import math
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import thermojax as tjx  # noqa: E402
from thermojax import plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

START, STOP, STIFFNESS = -1.5, 1.5, 12.0
FAST, MIDDLE, SLOW = 0.25, 4.0, 40.0  # durations
PATHS = 2000  # runs of each direction that an experiment affords
BATCHES, BATCH = 20, 50_000  # that judge the protocols themselves

system = tjx.Overdamped(
    lambda x, lam: jnp.sum(0.5 * STIFFNESS * (x - lam) ** 2 + 4 * (x**2 - 1) ** 2 - x)
)
first, last = (tjx.densities.Boltzmann(system, lam) for lam in (START, STOP))
exact = float(first.log_partition() - last.log_partition())


def driven(protocol):
    return tjx.Process(system, protocol, first, last)


def grid(duration):
    return jnp.linspace(0.0, duration, max(100, round(100 * duration)) + 1)


def ramp(duration):
    return tjx.protocols.ramp(START, STOP, duration, knots=9)


def measure(protocol, key):
    """The works of both directions, as an experiment would have them: W / T."""
    process, ts = driven(protocol), grid(float(protocol.t1))
    reverse = tjx.reverse(process)
    there, back = jax.random.split(key)
    forward_runs = tjx.ensemble(process, ts, there, PATHS)
    reverse_runs = tjx.ensemble(reverse, tjx.reverse_grid(process, ts), back, PATHS)
    return tjx.reduced_work(process, forward_runs), tjx.reduced_work(reverse, reverse_runs)


@jax.jit
def moments(protocol, key):
    """<e^-w> and <e^-2w> relative to the exact free energy, of a batch."""
    process = driven(protocol)
    r = tjx.reduced_work(process, tjx.ensemble(process, grid(MIDDLE), key, BATCH)) - exact
    return jnp.mean(jnp.exp(-r)), jnp.mean(jnp.exp(-2 * r))


def variance_of_one(protocol, key):
    """The relative variance of e^-w, times which 1/M is the squared error of M paths; with its own error."""
    each = np.array([moments(protocol, k) for k in jax.random.split(key, BATCHES)], float)
    values = each[:, 1] - 1  # <e^-w> is known to be e^-exact
    return values.mean(), values.std(ddof=1) / math.sqrt(BATCHES)


loss = tjx.optimal.estimator_variance(driven(ramp(MIDDLE)), grid(MIDDLE), 4000)
found = tjx.optimal.search(loss, ramp(MIDDLE), jax.random.key(0), steps=150)

rows = {
    f"ramp, fast, {FAST:g}": ramp(FAST),
    f"ramp, {MIDDLE:g}": ramp(MIDDLE),
    f"optimised, {MIDDLE:g}": found.protocol,
    f"ramp, slow, {SLOW:g}": ramp(SLOW),
}
works = {name: measure(p, jax.random.key(10 + i)) for i, (name, p) in enumerate(rows.items())}
jarzynski = {name: tjx.estimators.jarzynski(w) for name, (w, _) in works.items()}
bar = {name: tjx.estimators.bar(*both) for name, both in works.items()}
excess = {name: tjx.estimators.second_law_excess(w, exact) for name, (w, _) in works.items()}


def verdict(estimate):
    words = plots.spell(estimate.value, estimate.stderr)
    return f"{words}, {'reliable' if estimate.reliable else 'NOT reliable'}"


print(f"exact, by quadrature: {exact:.4f}; {PATHS} runs of each direction")
print(f"{'protocol, duration':20s} {'<W_diss>':>14s}   {'Jarzynski':32s} {'BAR':30s}")
for name in rows:
    print(
        f"{name:20s} {plots.spell(*excess[name][:2]):>14s}   {verdict(jarzynski[name]):32s} {verdict(bar[name]):30s}"
    )
by_ramp, ramp_error = variance_of_one(ramp(MIDDLE), jax.random.key(1))
by_found, found_error = variance_of_one(found.protocol, jax.random.key(2))
gain = by_ramp / by_found
gain_error = gain * math.hypot(ramp_error / by_ramp, found_error / by_found)
before, after = f"ramp, {MIDDLE:g}", f"optimised, {MIDDLE:g}"
bar_gain = float((bar[before].stderr / bar[after].stderr) ** 2)
print(
    f"for the same error of Jarzynski's estimate the ramp needs {plots.spell(gain, gain_error)} times as many paths as the\n"
    f"optimised protocol of the same duration; for the same error of BAR's, {bar_gain:.1f} times"
)
print(f"search agrees with the grid twice as fine: {found.agrees}")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
plots.protocol(left, ramp(MIDDLE), color="0.6", label="ramp")
plots.protocol(left, found.protocol, color="C0", lw=2, label="least variance of $e^{-W}$")
left.set(xlabel=r"time $t$", ylabel=r"position of the trap $\lambda$")
left.legend(fontsize=8)
plots.works(middle, *works[after], bar[after], bins=50)
middle.axvline(exact, color="k", ls="--", lw=1, label=f"exact {exact:.3f}")
middle.set(title=f"optimised, duration {MIDDLE:g}", xlabel="reduced work")
middle.legend(fontsize=8)
for name, color in ((before, "0.5"), (after, "C0")):
    plots.weights(right, works[name][0], color=color)
right.set(title="ramp grey, optimised blue")
right.legend(fontsize=8)

seconds = time.perf_counter() - began
report = {"exact": exact, "paths": PATHS, "seconds": seconds, "agrees": found.agrees}
report |= {"paths_saved": gain, "paths_saved_stderr": gain_error, "paths_saved_bar": bar_gain}
report["table"] = {
    name: {
        "dissipation": [float(v) for v in excess[name][:2]],
        "jarzynski": [float(v) for v in jarzynski[name][:2]],
        "jarzynski_reliable": bool(jarzynski[name].reliable),
        "bar": [float(v) for v in bar[name][:2]],
        "bar_reliable": bool(bar[name].reliable),
    }
    for name in rows
}
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "free_energy.png", dpi=120)
(out / "free_energy.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{seconds:.1f} s, compilation included")
