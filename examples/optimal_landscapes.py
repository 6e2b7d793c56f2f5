"""Least mean work in landscapes without a closed form: two double wells and a quartic trap, driven faster than they relax.

The search starts from the linear ramp and descends the work of the density on a grid, which has no noise, by L-BFGS.
What it finds is priced three times: by an extrapolated evolution, by simulated paths, and from below by the bound of
optimal transport for the density that it reaches. Writes out/optimal_landscapes.json and .png.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402

jax.config.update("jax_enable_x64", True)  # prices are wanted to five digits

import thermojax as tjx  # noqa: E402
from thermojax import evolve, plots  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

STEPS, UPDATES, PATHS = 128, 60, 100_000


class Case(NamedTuple):
    title: str
    system: tjx.Overdamped
    start: float
    stop: float
    span: float
    half: float  # width of the grid
    knots: tuple[int, ...]
    steps: int  # of the simulated paths


tilted = tjx.Overdamped(lambda x, lam: 16 * jnp.sum((x**2 - 1) ** 2 / 4 - lam * x))
quartic = tjx.Overdamped(lambda x, lam: 0.25 * lam * jnp.sum(x**4))
WELLS, TRAP = 6.38629, 0.4 * 100 / 4.183  # stiffnesses, in T over the squared unit of length
pulled = tjx.Overdamped(
    lambda x, lam: jnp.sum(
        0.5 * TRAP * (x - lam) ** 2
        - jnp.logaddexp(-0.5 * WELLS * (x + 1) ** 2, -0.5 * WELLS * (x - 1) ** 2)
    )
)
CASES = {
    ("zhong_deweese", "0.2"): Case("tilted double well", tilted, -1, 1, 0.2, 2.3, (33,), 512),
    ("zhong_deweese", "1"): Case("tilted double well", tilted, -1, 1, 1.0, 2.3, (33,), 2048),
    ("quartic", "0.1"): Case("quartic trap", quartic, 1, 5, 0.1, 3.6, (33,), 256),
    ("sivak_crooks", ""): Case("wells pulled by a trap", pulled, -1, 1, 0.44, 3.0, (9, 33), 256),
}


def searched(case, knots):
    """What the search finds, and the seconds of a second one, which does not compile."""
    ramp = tjx.protocols.ramp(float(case.start), float(case.stop), case.span, knots=knots)
    start = tjx.densities.Boltzmann(case.system, float(case.start))
    ts = jnp.linspace(0.0, case.span, STEPS + 1)
    grid = evolve.Grid(-case.half, case.half, 170)
    loss = tjx.optimal.exact_work(tjx.Process(case.system, ramp, start), ts, grid)
    for _ in range(2):
        clock = time.perf_counter()
        found = tjx.optimal.search(loss, ramp, steps=UPDATES, progress=False)
        seconds = time.perf_counter() - clock
    return found, loss.process, seconds


def priced(case, process):
    ts = jnp.linspace(0.0, case.span, 2 * STEPS + 1)
    return evolve.extrapolated(process, ts, evolve.Grid(-case.half, case.half, 340))


def bound(case, process, evolution):
    """The least work of any protocol, in any potential, that takes the first density to the last."""
    grid, first, last = evolution.grid, evolution.p[0], evolution.p[-1]
    rest = tjx.densities.Boltzmann(case.system, float(case.stop))
    log_rest = grid.each(rest.log_prob, last.dtype)
    there = last > 0
    log_ratio = jnp.where(there, jnp.log(jnp.where(there, last, 1)) - log_rest, 0)
    return tjx.bounds.least_work(
        process.initial.log_partition() - rest.log_partition(),
        tjx.bounds.wasserstein((grid, first), (grid, last)),
        tjx.bounds.diffusion_time(process, evolution.ts),
        divergence=jnp.sum(last * log_ratio) * grid.volume,
    )


figure, panels = plt.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
report: dict[str, Any] = {}
keys = jax.random.split(jax.random.key(0), len(CASES))
for panel, key, ((name, span), case) in zip(panels.flat, keys, CASES.items(), strict=True):
    numbers = {}
    for knots in case.knots:
        found, process, seconds = searched(case, knots)
        best = process.replace(protocol=found.protocol)
        evolution = priced(case, best)
        assert evolution.error is not None
        numbers[f"found_{knots}_knots"] = float(evolution.work[-1])
    ramp = process.protocol
    numbers["ramp"] = float(priced(case, process).work[-1])
    numbers["found"] = float(evolution.work[-1])
    numbers["found_error"] = float(evolution.error.work[-1])
    numbers["bound"] = float(bound(case, best, evolution))
    ts = jnp.linspace(0.0, case.span, case.steps + 1)
    run = tjx.ensemble(best, ts, key, PATHS)
    by_paths = tjx.estimators.mean(run.work)
    numbers["by_paths"], numbers["by_paths_stderr"] = map(float, by_paths[:2])
    numbers["seconds"] = seconds
    middle = float(found.protocol(0.5 * case.span))
    ends = float(found.protocol(0.0)), float(found.protocol(case.span))
    numbers |= {"jump_to": ends[0], "middle": middle, "jump_from": ends[1]}
    report |= {name: report.get(name, {}) | {span: numbers} if span else numbers}

    print(f"{name} {span}: {case.title}, t_f = {case.span:g}")
    print(f"  ramp          <W> = {numbers['ramp']:.5f}")
    for knots in case.knots:
        print(f"  {knots:2d} knots found <W> = {numbers[f'found_{knots}_knots']:.5f}")
    price = plots.spell(numbers["by_paths"], numbers["by_paths_stderr"])
    print(f"  by {PATHS} paths   = {price}")
    print(f"  bound             = {numbers['bound']:.5f}")
    print(f"  jumps to {ends[0]:.3f}, passes {middle:.3f} at mid-time, jumps from {ends[1]:.3f}")
    print(f"  {seconds:.2f} s for the search, {time.perf_counter() - began:.0f} s so far")

    plots.protocol(panel, ramp, color="0.6", label=f"ramp: {numbers['ramp']:.4g}")
    label = f"found: {numbers['found']:.4g}, by paths {price}"
    plots.protocol(panel, found.protocol, color="C0", lw=2.5, alpha=0.8, label=label)
    panel.plot([], [], " ", label=f"bound: {numbers['bound']:.4g}")
    panel.set(title=rf"{case.title}, $\tau = {case.span:g}$", ylabel=r"control $\lambda$")
    corner = "upper left" if name == "quartic" else "lower right"
    panel.legend(title=r"$\langle W \rangle / T$", fontsize=8, title_fontsize=8, loc=corner)

report["total_seconds"] = time.perf_counter() - began
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "optimal_landscapes.png", dpi=95)
(out / "optimal_landscapes.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['total_seconds']:.1f} s, compilation included")
