"""How much entropy a system produces, from its recordings alone: bounds by maximum entropy, the uncertainty relation, a
network and a score, beside the exact numbers.

Two linear systems, recorded exactly (no step of time): ten coupled coordinates, and two beads between baths of T = 10 and 1.
What is priced has not been learnt from, so equilibrium is not called driven; the error bars are counted out on two hundred
recordings. Writes out/inferred.json and .png; some 170 seconds of CPU, two parts at a time.

    python examples/inferred.py
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from scipy import linalg

import thermojax as tjx
from thermojax.inference import entropy_production

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

TEN = -np.eye(10) + 0.2 * np.random.default_rng(4222).standard_normal((10, 10)), np.eye(10)
BEADS = np.array([[-2.0, 1.0], [1.0, -2.0]]), np.diag([10.0, 1.0])
SAME = BEADS[0], np.eye(2)  # one temperature: equilibrium
PAPER = "Aguilera, Ito & Kolchinsky, arXiv:2505.10444"


def stationary(a, d):
    """Covariance of dx = A x dt + sqrt(2 D) dW."""
    return linalg.solve_continuous_lyapunov(a, -2 * d)


def rate(a, d):
    """Entropy production per time."""
    return np.trace(a.T @ np.linalg.inv(d) @ a @ stationary(a, d)) + np.trace(a)


def pair(a, d, lag):
    """Entropy production of two states one lag apart: of a Gaussian and its mirror image."""
    s = stationary(a, d)
    c = linalg.expm(a * lag) @ s
    there, back = np.block([[s, c.T], [c, s]]), np.block([[s, c], [c.T, s]])
    return 0.5 * (np.trace(np.linalg.solve(back, there)) - 2 * len(a))


def current(a, d, lag):
    """The most that the uncertainty relation can see of it: 2 <J>^2 / <J^2> of the best quadratic current."""
    s = stationary(a, d)
    c = linalg.expm(a * lag) @ s
    size = len(a)
    pairs = [(i, j) for i in range(size) for j in range(i)]
    x = np.block([[s, c.T], [c, s]])
    forms = []
    for i, j in pairs:  # x1_i x0_j - x1_j x0_i as a quadratic form
        form = np.zeros((2 * size, 2 * size))
        form[size + i, j], form[size + j, i] = 1, -1
        forms.append(0.5 * (form + form.T))
    for i in range(size):
        for j in range(i + 1):  # x1_i x1_j - x0_i x0_j
            form = np.zeros((2 * size, 2 * size))
            form[size + i, size + j], form[i, j] = 1, -1
            forms.append(0.5 * (form + form.T))
    means = np.array([np.trace(f @ x) for f in forms])
    squares = np.array([[2 * np.trace(f @ x @ g @ x) for g in forms] for f in forms])
    squares += means[:, None] * means[None]
    return 2 * means @ np.linalg.solve(squares, means)


@partial(jax.jit, static_argnames="frames")
def recorded(first, e, root, key, frames):
    z = jax.random.normal(key, (frames, len(e)))

    def step(x, z):
        x = e @ x + root @ z
        return x, x

    start = first @ z[0]
    return jnp.concatenate([start[None], jax.lax.scan(step, start, z[1:])[1]])


def recorder(a, d, dt, frames):
    """Recordings by the exact kernel, one for each key."""
    s, e = stationary(a, d), linalg.expm(a * dt)
    first, root = (jnp.asarray(np.linalg.cholesky(m)) for m in (s, s - e @ s @ e.T))
    return lambda key: recorded(first, jnp.asarray(e), root, key, frames)


def keys(count, seed):
    return jax.random.split(jax.random.key(seed), count)


def row(what, source, exact, ours, error, within):
    numbers = {"exact": exact, "theirs": None, "ours": ours, "error": error, "within": within}
    numbers = {name: None if v is None else float(v) for name, v in numbers.items()}
    said = " ".join(f"{name} {v:.6g}" for name, v in numbers.items() if v is not None)
    print(f"{what}: {said}", flush=True)
    return {"what": what, "source": source} | numbers


def mean_of(values):
    values = np.asarray(values, float)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def ten_coordinates(frames, repeats):
    """The pair entropy of ten coordinates, 100 features, from recordings of so many frames."""
    rows = [
        row(
            "ten coordinates: rate of entropy production",
            PAPER,
            2.001447732,
            rate(*TEN),
            None,
            1e-9,
        )
    ]
    for lag, count in ((0.01, 3), (0.1, repeats), (0.5, 3)):
        record = recorder(*TEN, lag, frames + 1)
        found = [entropy_production(record(key), lag) for key in keys(count, int(100 * lag))]
        ours = np.mean([float(f.corrected) * lag for f in found])
        error = np.mean([float(f.per_lag_stderr) for f in found]) / np.sqrt(count)
        exact = pair(*TEN, lag)
        what = f"ten coordinates: entropy of two frames {lag} apart, mean of {count} x {frames}"
        rows.append(row(what, PAPER, exact, ours, error, max(0.02 * exact, 3 * float(error))))
        if count == repeats:
            bound = mean_of([f.per_lag for f in found])
            below = exact - 2 * 100 * 1.25 / frames
            print(f"    the bound itself {bound[0]:.5f} ± {bound[1]:.5f}, at least {below:.5f}")
            one = np.std([float(f.corrected) * lag for f in found], ddof=1) / exact
            print(f"    one recording scatters by {100 * one:.2f} %, its error bar says ", end="")
            print(f"{100 * np.mean([float(f.per_lag_stderr) for f in found]) / exact:.2f} %")
    return rows


def by_frames(frames):
    """How the bound of ten coordinates, what was learnt by heart, and their mean depend on the number of frames."""
    record, lag = recorder(*TEN, 0.1, frames + 1), 0.1
    xs = record(jax.random.key(7))
    curves = []
    for count in np.geomspace(frames / 30, frames, 5).astype(int):
        # the rest of the frames is there, and does not count: so all are one compiled program
        path = tjx.Path(lag * jnp.arange(frames + 1.0), xs)
        data = tjx.measured.Measured(path._replace(xs=xs[None]), lengths=jnp.array([count + 1]))
        f = entropy_production(data)
        curves.append([count, f.per_lag, f.fitted, lag * f.corrected, f.per_lag_stderr])
    return np.array(curves, float)


def over_lags(method, lags, frames, **how):
    """Of two beads, the bound over the lag."""
    curve = []
    for lag in lags:
        xs = recorder(*BEADS, lag, frames + 1)(jax.random.key(11))
        f = entropy_production(xs, lag, method=method, **how)
        print(f"    {method}, lag {lag}: {f}", flush=True)
        curve.append([lag, f.rate, f.stderr])
    return np.array(curve, float)


def by_lags(frames, lags):
    return {method: over_lags(method, lags, frames) for method in ("max_entropy", "tur", "score")}


def by_network(lags, frames, steps):
    return {"neep": over_lags("neep", lags, frames, key=jax.random.key(0), steps=steps)}


def two_beads(frames, repeats):
    """The rate of two beads, from lags of 0.1, 0.2 and 0.3 to lag zero."""
    record = recorder(*BEADS, 0.1, frames + 1)
    found = [entropy_production(record(key), 0.1, extrapolate=2) for key in keys(repeats, 2)]
    ours, error = mean_of([f.corrected for f in found])
    what = f"two beads: rate, extrapolated to short lags, mean of {repeats} x {frames}"
    rows = [row(what, "model of Kim et al., arXiv:2003.04166", 2.025, ours, error, 0.03 * 2.025)]
    single = np.array([float(f.corrected) for f in found])
    spread, said = single.std(ddof=1), np.mean([float(f.stderr) for f in found])
    near = np.mean(np.abs(single / 2.025 - 1) < 0.03)
    print(
        f"    one recording scatters by {spread:.3f}, its error bar says {said:.3f}; {near:.2f} within 3 %"
    )
    bound, error = mean_of([f.per_lag for f in found])
    exact = pair(*BEADS, 0.1)
    what = "two beads: bound of two frames 0.1 apart, below by what learning costs"
    rows.append(row(what, PAPER, exact, bound, error, 3 * error + 2 * 4 * 1.25 / frames))
    return rows, (ours, spread), near


def calibrated(frames, repeats):
    """How often 1.96 standard errors cover the expected value of the bound; and how often equilibrium is called driven."""
    rows = []
    record = recorder(*BEADS, 0.1, frames + 1)
    found = [entropy_production(record(key), 0.1) for key in keys(repeats, 3)]
    rates, errors = (np.array([float(getattr(f, n)) for f in found]) for n in ("rate", "stderr"))
    inside = float(np.mean(np.abs(rates - rates.mean()) < 1.96 * errors))
    what = f"share of {repeats} recordings of two beads within 1.96 errors of the expected bound"
    rows.append(
        row(
            what,
            "the definition of an error bar",
            0.95,
            inside,
            np.sqrt(0.95 * 0.05 / repeats),
            0.02,
        )
    )
    print(f"    they scatter by {rates.std(ddof=1):.4f}, their error bars say {errors.mean():.4f}")
    record = recorder(*SAME, 0.1, frames // 4 + 1)
    for method in ("max_entropy", "tur"):
        found = [entropy_production(record(key), 0.1, method=method) for key in keys(repeats, 4)]
        called = np.mean([bool(f.significant) for f in found])
        heart = mean_of([f.fitted for f in found])
        what = (
            f"{method}: share of {repeats} recordings of equilibrium called driven (2.5 % declared)"
        )
        rows.append(row(what, "the definition of an error bar", 0.0, called, None, 0.025))
        print(
            f"    learnt by heart it would be {heart[0] / heart[1]:.0f} standard errors above zero"
        )
    return rows


def draw(lags, frames, beads, file):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    fine = np.geomspace(0.015, 0.7, 60)
    left.axhline(2.025, color="k", lw=1.5)
    left.text(0.7, 2.045, "exact rate", ha="right", va="bottom", fontsize=9)
    left.plot(fine, [pair(*BEADS, t) / t for t in fine], "C0", label="two frames, exact")
    left.plot(fine, [current(*BEADS, t) / t for t in fine], "C1--", label="best current, exact")
    marks = {"max_entropy": "C0o", "tur": "C1s", "score": "C2^", "neep": "C3D"}
    for method, mark in marks.items():
        t, value, error = lags[method].T
        left.errorbar(t, value, 1.96 * error, fmt=mark, ms=5, capsize=2, label=method)
    left.errorbar(0.011, beads[0], 1.96 * beads[1], fmt="k*", ms=9, capsize=2, label="extrapolated")
    left.set(xscale="log", xlabel="lag", ylabel="nats per time", title="two beads, T = 10 and 1")
    left.set(ylim=(0, 2.5))
    left.legend(fontsize=8, loc="lower left")
    n, held, fitted, middle, error = frames.T
    right.axhline(pair(*TEN, 0.1), color="k", lw=1.5, label="exact")
    right.plot(n, fitted, "C3v-", label="on what was learnt from")
    right.errorbar(n, middle, 1.96 * error, fmt="C2.-", capsize=2, label="corrected")
    right.errorbar(
        n, held, 1.96 * error, fmt="C0o-", capsize=2, label="on what was held out: the bound"
    )
    right.set(xscale="log", xlabel="frames", ylabel="nats of two frames", ylim=(0, 0.36))
    right.set_title("ten coordinates, 100 features, lag 0.1")
    right.legend(fontsize=8)
    figure.savefig(file, dpi=95)
    plt.close(figure)


def main(
    frames=100_000,
    repeats=6,
    bead_repeats=16,
    calibration=(20_000, 200),
    lags=(0.02, 0.05, 0.1, 0.2, 0.4),
    network=((0.1, 0.4), 20_000, 300),
):
    began = time.perf_counter()
    parts = (  # the long ones first; two at a time, since most of it is compilation, on one core each
        (calibrated, *calibration),
        (ten_coordinates, frames, repeats),
        (by_network, *network),
        (two_beads, frames, bead_repeats),
        (by_lags, frames, lags),
        (by_frames, frames),
    )
    with ThreadPoolExecutor(2) as pool:
        started = {part.__name__: pool.submit(part, *sizes) for part, *sizes in parts}
    found = {name: part.result() for name, part in started.items()}
    more, beads, near = found["two_beads"]
    rows = found["ten_coordinates"] + more + found["calibrated"]
    lag_curves, frame_curves = found["by_lags"] | found["by_network"], found["by_frames"]
    out = Path("out")
    out.mkdir(exist_ok=True)
    draw(lag_curves, frame_curves, beads, out / "inferred.png")
    report = {
        "reproduced": rows,
        "two_beads_within_3_percent": float(near),
        "by_lag": {name: curve.tolist() for name, curve in lag_curves.items()},
        "by_frames": frame_curves.tolist(),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time(),
    }
    (out / "inferred.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{report['seconds']:.0f} s, {report['cpu_seconds']:.0f} s of CPU, compilation included")
    return report


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
