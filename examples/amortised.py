"""One network for all durations: how to drag a trap in any time, learned once.

A bead in a unit trap is dragged by 1 in the time tau. The best protocol for each tau is known (a straight line between two
equal jumps, <W> = 1/(2 + tau)), and a search would find it, anew for every tau. Here a small network is given tau and the
share s of it that is over, and says where the trap is; it is trained on the exact mean work of random durations, and then
asked for some that it never met. Writes out/amortised.json and .png.
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

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHORT, LONG = 0.1, 20.0
system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
start = tjx.densities.Gaussian(0.0, 1.0)


class Driver(eqx.Module):
    """The control after the share s of the time tau. The jumps at the ends are its own to choose."""

    net: eqx.nn.MLP

    def __init__(self, key, width=16):
        self.net = eqx.nn.MLP(2, "scalar", width, 2, activation=jnp.tanh, key=key)

    def __call__(self, tau, s):
        when = 2 * jnp.log(tau / SHORT) / np.log(LONG / SHORT) - 1
        return s + self.net(jnp.stack([when, 2 * s - 1]))


def protocol(driver, tau, knots=5):
    """Straight lines through what the network says."""
    s = jnp.linspace(0.0, 1.0, knots, dtype=tau.dtype)
    return tjx.protocols.Piecewise(tau * s, jax.vmap(lambda s: driver(tau, s))(s), 0.0, 1.0)


def work(drive):
    """<W>, by the moments of the cloud: no noise, jumps included."""
    return tjx.evolve.moments(tjx.Process(system, drive, start), drive.ts).work[-1]


def straight(tau):
    """The work of a ramp, the unit of the loss: a long drag counts as much as a short one."""
    return (tau + jnp.expm1(-tau)) / tau**2


def trained(driver, updates, batch, key):
    """An ordinary optax loop over random durations."""
    adam = optax.adam(optax.cosine_decay_schedule(0.01, updates))
    free, rest = eqx.partition(driver, eqx.is_inexact_array)

    def loss(free, taus):
        driver = eqx.combine(free, rest)
        return jnp.mean(jax.vmap(lambda tau: work(protocol(driver, tau)) / straight(tau))(taus))

    @jax.jit
    def update(carry, key):
        free, state = carry
        share = jax.random.uniform(key, (batch,), minval=-0.02, maxval=1.02)
        value, slope = jax.value_and_grad(loss)(free, SHORT * (LONG / SHORT) ** share)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(free, change), state), value

    carry, history = (free, adam.init(free)), []
    for one in jax.random.split(key, updates):
        carry, value = update(carry, one)
        history.append(float(value))
    return eqx.combine(carry[0], rest), history


def main(updates=2000, batch=16, durations=(0.3, 1.5, 7.0)) -> dict[str, Any]:
    driver, history = trained(Driver(jax.random.key(0)), updates, batch, jax.random.key(1))
    rows: list[dict[str, Any]] = []
    taus = np.geomspace(SHORT, LONG, 41)
    works = [float(work(protocol(driver, jnp.asarray(tau)))) for tau in taus]
    excess = np.asarray(works) * (2 + taus) - 1
    for tau in durations:
        optimum = tjx.optimal.moving_trap(0.0, 1.0, tau)
        ours, exact = float(work(protocol(driver, jnp.asarray(tau)))), float(optimum.work)
        rows.append(
            {
                "what": f"one network, asked for a duration of {tau:g}: <W>",
                "source": "Schmiedl & Seifert, PRL 98, 108301 (2007), Eq. 9",
                "exact": exact,
                "theirs": None,
                "ours": ours,
                "error": None,
                "within": 2e-4 * exact,
            }
        )
        print(
            f"tau = {tau:g}: {ours:.7f} (exact {exact:.7f}), {1e6 * (ours / exact - 1):.1f} ppm more"
        )
    print(f"between {SHORT} and {LONG} at most {1e6 * excess.max():.1f} ppm more than the optimum")
    report: dict[str, Any] = {
        "reproduced": rows,
        "taus": taus.tolist(),
        "excess": excess.tolist(),
        "first_loss": history[0],
        "last_loss": history[-1],
        "parameters": sum(v.size for v in jax.tree.leaves(eqx.filter(driver, eqx.is_array))),
        "seconds": time.process_time(),
    }
    print(f"{report['seconds']:.1f} s of the processor, compilation included")
    return report | {"driver": driver}


def draw(report, durations=(0.3, 1.5, 7.0)):
    driver = report.pop("driver")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for i, tau in enumerate(durations):
        drive = protocol(driver, jnp.asarray(tau))
        s, lam = np.asarray(drive.ts) / tau, np.asarray(drive.values)
        with_jumps = np.r_[0.0, s, 1.0], np.r_[0.0, lam, 1.0]
        left.plot(*with_jumps, "o-", ms=4, color=f"C{i}", lw=2, label=rf"$\tau = {tau:g}$")
        left.plot(s, (1 + tau * s) / (2 + tau), "k--", lw=1)
    left.set(xlabel=r"share of the time, $s = t/\tau$", ylabel=r"centre of the trap, $\lambda$")
    left.legend(fontsize=8)
    right.loglog(report["taus"], 1e6 * np.asarray(report["excess"]), color="C0", lw=2)
    right.axhline(200, color="C3", ls="--", lw=1)
    right.text(1.4, 210, "0.02 %", color="C3", ha="center", va="bottom")
    right.set(xlabel=r"duration $\tau$", ylabel="work above the optimum, ppm", ylim=(1, 400))
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    report = main()
    figure = draw(report)
    out = Path("out")
    out.mkdir(exist_ok=True)
    figure.savefig(out / "amortised.png", dpi=95)
    (out / "amortised.json").write_text(json.dumps(report, indent=2) + "\n")
