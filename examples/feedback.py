"""Feedback: what a measurement is worth, by the bead in a trap; and a demon that learns what to do with it.

A bead is in equilibrium in a unit trap at T = 1. Its place x is measured, y = x + s z, and the trap is then driven by a
protocol that depends on y. Seen from where the bead is believed to be, the posterior mean, that is a drive like others, one
for each path, and the start is the posterior, out of equilibrium. The log-ratio R of paths and their reverse is then W + I
path by path, with I = ln p(x|y)/p(x) the information of the measurement: <e^-(W+I)> = 1 and <W> >= -<I>, with nothing added.
First the trap jumps to the posterior mean, at once; then one that must come back, in a finite time, with its centre and its
stiffness in the hands of a small network that sees y: trained through noisy paths, priced exactly, and compared with the
closed form. Writes out/feedback.json and .png.
"""

import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.protocols import Piecewise

matplotlib.use("Agg")
import matplotlib.pyplot as plt

system = tjx.Overdamped(lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2))


def learned(y, noise):
    """The posterior of the place: its mean, its variance. `noise` is s^2, the variance of the measurement."""
    return y / (1 + noise), noise / (1 + noise)


def information(noise):
    """The mean information of the measurement, in nats."""
    return 0.5 * np.log1p(1 / noise)


# ---- the trap jumps to the posterior mean


def jumped(y, noise, t1=0.1):
    """A protocol for each y: the centre leaves 0, seen from the posterior mean, and stays at that."""
    mean, _ = learned(y, noise)
    ts, rest = jnp.array([0.0, t1], y.dtype), jnp.zeros(2, y.dtype)

    def one(mean):
        there = {"c": 0 * mean, "k": 1 + 0 * mean}
        return Piecewise(ts, {"c": rest, "k": 1 + rest}, there | {"c": -mean}, there)

    return jax.vmap(one)(mean)


def measured(noise, paths, key):
    """Works, informations and log-ratios of many measurements."""
    of_y, of_run = jax.random.split(key)
    y = jnp.sqrt(1 + noise) * jax.random.normal(of_y, (paths,))
    mean, variance = learned(y, noise)
    believed, before = Gaussian(0.0, variance), Gaussian(0.0, 1.0)
    process = tjx.Process(system, jumped(y, noise), believed, before)
    run = tjx.ensemble(process, jnp.array([0.0, 0.1]), of_run, paths)
    x0 = run.path.xs[:, 0]  # from the posterior mean
    log_ratio = lambda x, mean: believed.log_prob(x) - before.log_prob(x + mean)
    return run.work, jax.vmap(log_ratio)(x0, mean), run.entropy.total


def heaviest(noise):
    """Moments <e^(-p W)> of the jump exist below this p; at 1 there would be no <e^-W>, below 2 it has no variance."""
    g = (1 + noise) / noise
    return (-g + np.sqrt(g**2 + 4 * (1 + noise) * g)) / 2


# ---- a demon that has to bring the trap back, in the time t1


class Demon(eqx.Module):
    """The drive after a measurement y: the centre is y times one output of a network of the time, and ln k the other."""

    net: eqx.nn.MLP
    t1: float = eqx.field(static=True)
    knots: int = eqx.field(static=True)

    def __init__(self, t1, key, knots=17, width=16):
        self.net = eqx.nn.MLP(1, 2, width, 2, activation=jnp.tanh, key=key)
        self.t1, self.knots = t1, knots

    def __call__(self, y, frame):
        """As a protocol, with the centre seen from `frame`."""
        s = jnp.linspace(0.0, 1.0, self.knots, dtype=y.dtype)
        gain, log_k = jax.vmap(self.net)(2 * s[:, None] - 1).T
        driven = {"c": gain * y - frame, "k": jnp.exp(log_k)}
        home = {"c": -frame, "k": jnp.ones_like(y)}
        return Piecewise(self.t1 * s, driven, home, home)


def trained(demon, noise, updates, paths, steps, key):
    """Descends the mean work of simulated feedback, measurements and noise fresh at every step."""
    ts = jnp.linspace(0.0, demon.t1, steps + 1)
    believed = Gaussian(0.0, noise / (1 + noise))

    def work(demon, key):
        of_y, of_run = jax.random.split(key)
        y = jnp.sqrt(1 + noise) * jax.random.normal(of_y, (paths,))
        drive = jax.vmap(demon)(y, learned(y, noise)[0])
        return tjx.ensemble(tjx.Process(system, drive, believed), ts, of_run, paths).work.mean()

    adam = optax.adam(optax.cosine_decay_schedule(0.02, updates))
    free, rest = eqx.partition(demon, eqx.is_inexact_array)

    @jax.jit
    def update(carry, key):
        free, state = carry
        value, slope = jax.value_and_grad(lambda f: work(eqx.combine(f, rest), key))(free)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(free, change), state), value

    carry, history = (free, adam.init(free)), []
    for one in jax.random.split(key, updates):
        carry, value = update(carry, one)
        history.append(float(value))
    return eqx.combine(carry[0], rest), history


def priced(demon, noise, order=4):
    """<W> without sampling: the moments of the cloud given y, and Gauss-Hermite nodes over y (W is quadratic in y)."""
    z, weights = np.polynomial.hermite_e.hermegauss(order)
    ts = jnp.linspace(0.0, demon.t1, demon.knots)
    total = 0.0
    for y, weight in zip(np.sqrt(1 + noise) * z, weights / weights.sum(), strict=True):
        y = jnp.asarray(y)
        mean, variance = learned(y, noise)
        process = tjx.Process(system, demon(y, 0 * y), Gaussian(mean[None], variance))
        total += weight * float(tjx.evolve.moments(process, ts).work[-1])
    return total


def best(noise, t1):
    """The least <W> if the centre, and if also the stiffness, is driven, and both are back in the end."""
    variance = noise / (1 + noise)
    centre = -(1 - variance) * t1 / (2 * (2 + t1))
    first, pull = np.sqrt(variance), 2 / t1
    last = (first / t1 + np.sqrt((first / t1) ** 2 + 1 + pull)) / (1 + pull)
    width = 0.5 * (last**2 - first**2) - np.log(last / first) + (last - first) ** 2 / t1
    return centre, centre + width, (first, last)


def best_drive(s, noise, t1):
    """Gain and stiffness of that optimum at the share s of the time."""
    first, last = best(noise, t1)[2]
    spread, speed = first + (last - first) * s, (last - first) / t1
    stiffness = 1 / spread**2 - speed / spread
    gain = (2 + t1 * (1 - s) - 1 / stiffness) / (2 + t1) / (1 + noise)
    return gain, stiffness


def fluctuation(demon, noise, paths, steps, key):
    """W and I, path by path, of the demon."""
    of_y, of_run = jax.random.split(key)
    y = jnp.sqrt(1 + noise) * jax.random.normal(of_y, (paths,))
    mean, variance = learned(y, noise)
    believed = Gaussian(0.0, variance)
    process = tjx.Process(system, jax.vmap(demon)(y, mean), believed)
    run = tjx.ensemble(process, jnp.linspace(0.0, demon.t1, steps + 1), of_run, paths)
    x0 = run.path.xs[:, 0]
    known = jax.vmap(lambda x, m: believed.log_prob(x) - Gaussian(0.0, 1.0).log_prob(x + m))
    return run.work, known(x0, mean)


def main(paths=400_000, updates=400, batch=500, steps=40, t1=4.0) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {"jump": {}}

    def row(what, exact, ours, error=None, within=None, source="derived"):
        error = None if error is None else float(error)
        within = 5 * error if within is None else within
        parts = what, source, float(exact), None, float(ours), error, float(within)
        names = "what", "source", "exact", "theirs", "ours", "error", "within"
        rows.append(dict(zip(names, parts, strict=True)))
        print(f"{what}: {float(ours):.6f} (exact {float(exact):.6f})")

    sagawa = "Sagawa & Ueda, PRL 104, 090602 (2010)"
    for i, noise in enumerate((9.0, 1.0, 0.25)):
        w, info, r = measured(noise, paths, jax.random.key(i))
        name = f"s^2 = {noise:g}: "
        mean_w, mean_i = tjx.estimators.mean(w), tjx.estimators.mean(info)
        row(name + "<W>", -0.5 / (1 + noise), mean_w.value, mean_w.stderr)
        row(name + "<I>", information(noise), mean_i.value, mean_i.stderr)
        plain, both = tjx.estimators.integral_fluctuation(w), tjx.estimators.integral_fluctuation(r)
        for what, one, exact in (("<e^-W>", plain, 1 + 1 / noise), ("<e^-(W+I)>", both, 1.0)):
            if one.reliable:
                row(name + what, exact, one.value, one.stderr, source=sagawa)
            else:
                print(
                    f"{name}{what}: {one.value:.4f} +- {one.stderr:.4f} (exact {exact}): {one.why}"
                )
        report["jump"][str(noise)] = {
            "W": [float(v) for v in (-0.5 / (1 + noise), mean_w.value, mean_w.stderr)],
            "I": [float(v) for v in (information(noise), mean_i.value, mean_i.stderr)],
            "exp(-W)": [float(v) for v in (1 + 1 / noise, plain.value, plain.stderr, plain.ess)],
            "exp(-W) reliable": bool(plain.reliable),
            "exp(-W-I)": [float(v) for v in (1.0, both.value, both.stderr, both.ess)],
            "exp(-W-I) reliable": bool(both.reliable),
            "moments below": float(heaviest(noise)),
            "R - W - I": float(jnp.max(jnp.abs(r - w - info))),
        }
        print(
            f"  R - (W + I) <= {jnp.max(jnp.abs(r - w - info)):.1e}; moments exist below {heaviest(noise):.4f}"
        )

    noise = 0.25
    demon, history = trained(
        Demon(t1, jax.random.key(7)), noise, updates, batch, steps, jax.random.key(8)
    )
    centre, both, _ = best(noise, t1)
    price = priced(demon, noise)
    row(f"demon, back in {t1:g}, s^2 = {noise:g}: <W>", both, price, None, 2e-3)
    w, info = fluctuation(demon, noise, paths // 4, 2 * steps, jax.random.key(9))
    unity = tjx.estimators.integral_fluctuation(w + info)
    print(f"demon: <e^-(W+I)>: {unity}")
    report |= {
        "demon": price,
        "best": float(both),
        "best_centre_only": float(centre),
        "bound": -float(information(noise)),
        "demon_exp(-W-I)": [1.0, float(unity.value), float(unity.stderr), float(unity.ess)],
        "demon_reliable": bool(unity.reliable),
        "history": history,
    }
    print(f"best {both:.6f}, with the centre alone {centre:.6f}; -I = {-information(noise):.6f}")
    report["seconds"] = time.process_time()
    report["reproduced"] = rows
    return report | {"network": demon}


def draw(report, noise=0.25):
    demon = report.pop("network")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    s = np.linspace(0, 1, 101)
    gain, log_k = np.asarray(jax.vmap(demon.net)(2 * jnp.asarray(s)[:, None] - 1)).T
    exact = best_drive(s, noise, demon.t1)
    for values, closed, colour, name in (
        (gain, exact[0], "C0", "centre / y"),
        (np.exp(log_k), exact[1], "C3", "stiffness"),
    ):
        left.plot(demon.t1 * s, values, color=colour, lw=3, alpha=0.6, label=f"{name}, learned")
        left.plot(demon.t1 * s, closed, "k--", lw=1)
    left.set(xlabel="time after the measurement", title="what the demon does")
    left.legend(fontsize=8)
    middle.plot(report["history"], color="0.5", lw=0.7, label="training, noisy")
    middle.axhline(report["best_centre_only"], color="C0", ls=":", label="best, centre alone")
    middle.axhline(report["best"], color="k", ls="--", label="best, centre and stiffness")
    middle.axhline(report["bound"], color="C3", label=r"$-\langle I\rangle$")
    middle.set(xlabel="update", ylabel=r"$\langle W\rangle$", ylim=(report["bound"] - 0.1, 0.5))
    middle.legend(fontsize=8)
    t = np.geomspace(0.1, 100, 60)
    values = np.array([best(noise, one)[:2] for one in t])
    right.semilogx(t, values[:, 0], "C0:", label="centre alone")
    right.semilogx(t, values[:, 1], "k--", label="centre and stiffness")
    right.semilogx(demon.t1, report["demon"], "o", color="C2", label="learned")
    right.axhline(report["bound"], color="C3", label=r"$-\langle I\rangle$")
    right.set(xlabel="time to come back", ylabel=r"$\langle W\rangle$", title="what is gained")
    right.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    report = main()
    figure = draw(report)
    out = Path("out")
    out.mkdir(exist_ok=True)
    figure.savefig(out / "feedback.png", dpi=95)
    (out / "feedback.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s of the processor, compilation included")
