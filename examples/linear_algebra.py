"""Linear algebra by a device in a heat bath: beads coupled by springs solve A x = b, invert A and weigh its determinant.

A bead array with the energy x'Ax/2 - b'x rests around A^-1 b with the covariance T A^-1, and the free energy that it takes
to stiffen the identity into A is ln det A / 2. First the three are read off simulated devices, at finite time, with errors
and with the heat that they cost. Then such a device takes the natural-gradient steps of a small network: A is its Fisher
matrix, b minus its gradient; read early it descends the plain gradient, read late the natural one. Writes
out/linear_algebra.json and .png.
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.flatten_util import ravel_pytree  # noqa: E402

jax.config.update("jax_enable_x64", True)  # for the exact numbers

import thermojax as tjx  # noqa: E402
from thermojax import estimators, evolve, protocols  # noqa: E402

A = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.5, 0.3], [0.0, 0.3, 1.0]])
B = jnp.array([1.0, -1.0, 0.5])
AIFER, TNGD = "Aifer et al., arXiv:2308.05660", "Donatella et al., arXiv:2405.13817"


def device(temperature=1.0):
    """dx = -(A x - b) dt + sqrt(2T) dW, A and b under control."""
    energy = lambda x, lam: 0.5 * jnp.sum(x * (lam["A"] @ x)) - jnp.sum(lam["b"] * x)
    return tjx.Overdamped(energy, temperature=temperature)


def driven(system, start, stop, tau, jump=False):
    """From equilibrium at `start` = (A, b) to `stop` in `tau`: evenly, or at once and then left alone."""
    line = lambda a, b: protocols.Piecewise(
        jnp.array([0.0, tau]), jnp.stack([b if jump else a, b]), a, b
    )
    lam = {
        name: line(*ends) for name, ends in zip("Ab", zip(start, stop, strict=True), strict=True)
    }
    rest = [
        tjx.densities.Boltzmann(system, dict(zip("Ab", at, strict=True)), dim=len(at[1]))
        for at in (start, stop)
    ]
    return tjx.Process(system, protocols.Joint(lam), *rest)


def spread(samples):
    """Mean over the devices, and its standard error."""
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))


# ---- three numbers of a matrix


def solve(paths, steps, seed=0, tau=2.0):
    """b is loaded at once on devices at rest; their mean and covariance are read at `tau`, and what it cost."""
    exact = jnp.linalg.solve(A, B)
    process = driven(device(), (A, 0 * B), (A, B), tau, jump=True)
    run = tjx.ensemble(process, jnp.linspace(0.0, tau, steps + 1), jax.random.key(seed), paths)
    mean, error = spread(np.asarray(run.path.xs[:, -1]))
    off = mean - exact
    inverse = np.cov(np.asarray(run.path.xs[:, -1]).T)
    diss, diss_error = spread(np.asarray(tjx.dissipated_work(process, run)))
    heat, heat_error = spread(np.asarray(run.heat))
    # |mean - exact|^2 is too large by the noise of the mean
    length = float(np.sqrt(np.sum(off**2) - np.sum(error**2)))
    return {
        "tau": tau,
        "mean": mean.tolist(),
        "off": length,
        "off_error": float(np.linalg.norm(off * error) / length),
        "inverse": inverse.tolist(),
        "trace_error": float(np.sqrt(2 * np.sum(np.linalg.inv(A) ** 2) / paths)),
        "dissipated": float(diss),
        "dissipated_error": float(diss_error),
        "heat": float(heat),
        "heat_error": float(heat_error),
    }


def relaxed(t):
    """What is exact at time t after b was loaded at once: |e^-At A^-1 b|, and the heat by then."""
    x = jnp.linalg.solve(A, B)
    rate, modes = jnp.linalg.eigh(A)
    left = modes @ (jnp.exp(-rate * t) * (modes.T @ x))
    return float(jnp.linalg.norm(left)), float(0.5 * (x @ A @ x - left @ A @ left))


def half_log_det(paths, steps, tau, seed=1):
    """ln det A / 2 as a free energy: the identity stiffened to A in `tau`, and softened back."""
    ways = [(jnp.eye(3), 0 * B), (A, 0 * B)]
    works = []
    for way, key in zip((ways, ways[::-1]), jax.random.split(jax.random.key(seed)), strict=True):
        process = driven(device(), *way, tau)
        run = tjx.ensemble(process, jnp.linspace(0.0, tau, steps + 1), key, paths)
        works.append(tjx.reduced_work(process, run))
    one, two = estimators.jarzynski(works[0]), estimators.bar(*works)
    mean, error = spread(np.asarray(works[0]))
    return {
        "tau": tau,
        "jarzynski": float(one.value),
        "jarzynski_error": float(one.stderr),
        "bar": float(two.value),
        "bar_error": float(two.stderr),
        "work": float(mean),
        "work_error": float(error),
    }


def loaded(taus, steps=32):
    """The trade: b loaded evenly in each tau and read at its end. Heat, and what is left of the error: exact, no noise."""
    rows = []
    for tau in taus:
        ts = jnp.linspace(0.0, tau, steps + 1)
        found = evolve.moments(driven(device(), (A, 0 * B), (A, B), tau), ts)
        gain = 0.5 * float(B @ jnp.linalg.solve(A, B))
        left = float(jnp.linalg.norm(found.mean[-1] - jnp.linalg.solve(A, B)))
        rows.append({"tau": tau, "off": left, "dissipated": float(found.work[-1]) + gain})
    return rows


# ---- the natural gradient of a network


def moons(n, seed=0):
    """Two half circles that interlock, and which of them a point is of."""
    rng = np.random.default_rng(seed)
    angle, which = np.pi * rng.random(n), np.arange(n) % 2
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(which, -1, 1)[:, None]
    x = x + np.where(which, 1, 0)[:, None] * np.array([1.0, 0.5]) + 0.15 * rng.normal(size=(n, 2))
    return jnp.asarray(x - x.mean(0)), jnp.asarray(which * 1.0)


def network(width, seed=0):
    """2 - width - 1 with tanh, as a function of one vector of weights, and the weights that it starts from."""
    keys = jax.random.split(jax.random.key(seed), 2)
    weights = {
        "in": jax.random.normal(keys[0], (width, 2)),
        "at": jnp.zeros(width),
        "out": jax.random.normal(keys[1], (width,)) / width**0.5,
        "bias": jnp.zeros(()),
    }
    flat, unravel = ravel_pytree(weights)

    def logit(theta, x):
        w = unravel(theta)
        return jnp.sum(w["out"] * jnp.tanh(w["in"] @ x + w["at"])) + w["bias"]

    return logit, flat


def train(how, updates, paths, t, width=4, rate=0.5, damping=0.05, temperature=1e-3, steps=512):
    """`updates` steps theta += rate * x, x from "device" (its mean at t), "exact" (A^-1 b) or "gradient" (b t).

    The losses, and for the device the heat of each step and its distance from the exact one.
    """
    (xs, ys), (logit, theta) = moons(200), network(width)
    system = device(temperature)

    def loss(theta):
        z = jax.vmap(lambda x: logit(theta, x))(xs)
        return jnp.mean(jnp.logaddexp(0.0, z) - ys * z)

    @jax.jit
    def problem(theta):
        """Fisher matrix of the Bernoulli outputs with damping, and minus the gradient."""
        z, rows = jax.vmap(lambda x: jax.value_and_grad(logit)(theta, x))(xs)
        chance = jax.nn.sigmoid(z)
        fisher = (rows.T * (chance * (1 - chance))) @ rows / len(xs)
        value, slope = jax.value_and_grad(loss)(theta)
        a = fisher + damping * jnp.eye(theta.size)
        return value, a, -slope, jnp.linalg.solve(a, -slope)

    log = {"loss": [], "heat": [], "heat_exact": [], "off": [], "off_exact": []}
    for key in jax.random.split(jax.random.key(7), updates):
        value, a, b, best = problem(theta)
        log["loss"].append(float(value))
        step = {"exact": best, "gradient": b * t, "device": None}[how]
        if how == "device":
            process = driven(system, (a, 0 * b), (a, b), t, jump=True)
            run = tjx.ensemble(process, jnp.linspace(0.0, t, steps + 1), key, paths)
            step = run.path.xs[:, -1].mean(0)
            rates, modes = np.linalg.eigh(a)
            left = modes @ (np.exp(-rates * t) * (modes.T @ best))
            noise = temperature * np.sum(1 / rates) / paths
            log["heat"].append(float(run.heat.mean()))
            log["heat_exact"].append(float(0.5 * (best @ a @ best - left @ a @ left)))
            log["off"].append(float(jnp.linalg.norm(step - best) / jnp.linalg.norm(best)))
            log["off_exact"].append(float(np.sqrt(np.sum(left**2) + noise) / np.linalg.norm(best)))
        theta = theta + rate * step
    log["loss"].append(float(loss(theta)))
    return log


def draw(report, file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.8, 3.4), layout="constrained")
    ts = np.linspace(0.0, 5.0, 101)
    exact = np.array([relaxed(t) for t in ts])
    left.semilogy(ts, exact[:, 0], "k--", lw=1.2, label=r"error $|e^{-At}A^{-1}b|$")
    left.semilogy(ts, exact[:, 1], "C3--", lw=1.2, label="heat, loaded at once")
    for row in report["solve"]:
        left.errorbar(row["tau"], row["off"], row["off_error"], fmt="o", color="k")
        left.errorbar(row["tau"], row["heat"], row["heat_error"], fmt="s", color="C3")
    taus = [row["tau"] for row in report["loaded"]]
    left.semilogy(
        taus, [r["off"] for r in report["loaded"]], "k:", lw=2, label="error, loaded evenly"
    )
    left.semilogy(
        taus, [r["dissipated"] for r in report["loaded"]], "C3:", lw=2, label="dissipated, evenly"
    )
    left.set(xlabel="time $t$", title="$A x = b$", ylim=(1e-2, 6), xlim=(0, 5.2))
    left.legend(fontsize=8)
    for k, (name, colour) in enumerate((("jarzynski", "C1"), ("bar", "C0"))):
        rows = report["half_log_det"]
        middle.errorbar(
            [r["tau"] * 1.04**k for r in rows],
            [r[name] for r in rows],
            [r[name + "_error"] for r in rows],
            fmt="o",
            color=colour,
            label={"jarzynski": "Jarzynski", "bar": "both directions"}[name],
        )
    middle.plot(
        [r["tau"] for r in rows], [r["work"] for r in rows], "s", color="0.4", label="mean work"
    )
    middle.axhline(report["half_log_det_exact"], color="k", ls="--", lw=1.2, label="exact")
    middle.set(xscale="log", xticks=[0.25, 1.0, 4.0], xticklabels=["0.25", "1", "4"])
    middle.minorticks_off()
    middle.set(xlabel=r"duration $\tau$", title=r"$\frac{1}{2} \ln\det A$")
    middle.legend(fontsize=8)
    for name, log in report["training"].items():
        style = {"exact": "k--", "gradient": "k:"}.get(name, "-")
        right.plot(log["loss"], style, lw=1.6, label=log["label"])
    right.set(xlabel="steps", ylabel="loss", title="a network's natural gradient", yscale="log")
    right.legend(fontsize=8)
    figure.savefig(file, dpi=100)


def main(paths=20_000, steps=100, taus=(1.0, 2.0, 4.0), durations=(0.25, 1.0, 4.0), updates=30):
    report = {"solve": [solve(paths, steps, i, tau) for i, tau in enumerate(taus)]}
    report["relaxed"] = [relaxed(tau) for tau in taus]
    report["half_log_det"] = [
        half_log_det(paths, steps, tau, 9 + i) for i, tau in enumerate(durations)
    ]
    report["half_log_det_exact"] = 0.5 * float(jnp.linalg.slogdet(A)[1])
    report["loaded"] = loaded((0.5, 1.0, 2.0, 3.0, 5.0))
    few = min(paths, 100)
    training = {"gradient": train("gradient", updates, few, 1.0)}
    training["gradient"]["label"] = "plain gradient"
    for t in (1.0, 10.0, 60.0):
        training[f"t = {t:g}"] = train("device", updates, few, t)
        training[f"t = {t:g}"]["label"] = f"device read at $t = {t:g}$"
    training["exact"] = train("exact", updates, few, 1.0)
    training["exact"]["label"] = "exact solve"
    report["training"] = training
    report["reproduced"] = reproduced(report)
    return report


def reproduced(report):
    """The rows ours / exact / error."""
    row = lambda what, source, exact, ours, error, theirs=None: {
        "what": what,
        "source": source,
        "exact": exact,
        "theirs": theirs,
        "ours": ours,
        "error": error,
        "within": 4 * error if error else 1e-6,
    }
    gain = 0.5 * float(B @ jnp.linalg.solve(A, B))
    rows = []
    for one, (off, heat) in zip(report["solve"], report["relaxed"], strict=True):
        t = f"t = {one['tau']:g}"
        rows.append(row(f"|mean - A^-1 b| at {t}", AIFER, off, one["off"], one["off_error"]))
        rows.append(row(f"heat by {t}, T", TNGD, heat, one["heat"], one["heat_error"]))
        trace, exact = np.trace(one["inverse"]), float(np.trace(np.linalg.inv(A)))
        rows.append(row(f"tr A^-1 = tr cov(x)/T at {t}", AIFER, exact, trace, one["trace_error"]))
        what = f"<W_diss> of loading b at once, {t}"
        rows.append(row(what, AIFER, gain, one["dissipated"], one["dissipated_error"]))
    for one in report["half_log_det"]:
        for name, how in (("jarzynski", "Jarzynski"), ("bar", "BAR")):
            what = f"ln det A / 2 by {how}, tau = {one['tau']:g}"
            exact = report["half_log_det_exact"]
            rows.append(row(what, AIFER, exact, one[name], one[name + "_error"]))
    return rows


if __name__ == "__main__":
    report = main()
    for one in report["reproduced"]:
        print(f"{one['what']}: {one['ours']:.5f} ± {one['error']:.5f} (exact {one['exact']:.6f})")
    for name, log in report["training"].items():
        heat = (
            f", heat {sum(log['heat']):.4f} (exact {sum(log['heat_exact']):.4f})"
            if log["heat"]
            else ""
        )
        off = f", first step off by {log['off'][0]:.3f} ({log['off_exact'][0]:.3f})" if heat else ""
        print(f"{name}: loss {log['loss'][-1]:.4f}{heat}{off}")
    for one in report["loaded"]:
        print(f"evenly in {one['tau']}: off {one['off']:.4f}, dissipated {one['dissipated']:.4f}")
    out = Path("out")
    out.mkdir(exist_ok=True)
    draw(report, out / "linear_algebra.png")
    report["seconds"] = time.perf_counter() - began
    (out / "linear_algebra.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s, compilation included")
