"""From one temperature to another: a ramp of the bath with weights, against a network that has the temperature built in.

A flow that maps N(0, T) by a map of constant Jacobian has densities p_T that are powers of each other, as Boltzmann's are:
trained at T = 1 it knows all temperatures. Or almost: such a map keeps volumes, so it has the heat capacity of springs,
whatever it is trained on. On a double well in two dimensions both are compared at T = 2 with quadrature. Writes
out/temperature_flow.json and .png.
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import thermojax as tjx  # noqa: E402

DIBAK = "Dibak et al., arXiv:2108.01590"
BARRIER, STIFF, BEND = 3.0, 4.0, 1.0


def energy(x, lam=None):
    """Two wells at x = -1 and 1, and a spring across the bent valley y = BEND x^2."""
    return BARRIER * (x[0] ** 2 - 1) ** 2 + 0.5 * STIFF * (x[1] - BEND * x[0] ** 2) ** 2


def table(temperature):
    """Along x, where y is integrated over exactly: places, probability up to each, ln Z, <U>, share near the barrier."""
    x = np.linspace(-3.0, 3.0, 6001)
    u = BARRIER * (x**2 - 1) ** 2
    p = np.exp(-u / temperature)
    z = p.sum() * (x[1] - x[0]) * np.sqrt(2 * np.pi * temperature / STIFF)
    p = p / p.sum()
    return x, np.cumsum(p), np.log(z), p @ u + temperature / 2, p[np.abs(x) < 0.5].sum()


class Equilibrium(eqx.Module):
    """Exact draws at a temperature: x from the table, y around the valley."""

    x: jax.Array
    below: jax.Array
    log_z: jax.Array
    temperature: float

    def sample(self, key):
        one, two = jax.random.split(key)
        x = jnp.interp(jax.random.uniform(one), self.below, self.x)
        y = BEND * x**2 + jnp.sqrt(self.temperature / STIFF) * jax.random.normal(two)
        return jnp.stack([x, y])

    def log_prob(self, x):
        return -energy(x) / self.temperature - self.log_z


def equilibrium(temperature):
    x, below, log_z, *_ = table(temperature)
    return Equilibrium(jnp.asarray(x), jnp.asarray(below), jnp.asarray(log_z), temperature)


class Flow(eqx.Module):
    """x of z by shears, each of one coordinate along a function of the other, and one stretch: det is a number."""

    nets: list[eqx.nn.MLP]
    stretch: jax.Array

    def __init__(self, layers, width, key):
        keys = jax.random.split(key, layers)
        self.nets = [eqx.nn.MLP(1, 1, width, 2, jnp.tanh, key=k) for k in keys]
        self.stretch = jnp.zeros(2)

    def __call__(self, z):
        x = z * jnp.exp(self.stretch)
        for i, net in enumerate(self.nets):
            x = x.at[i % 2].add(net(x[1 - i % 2 :][:1])[0])
        return x

    def inverse(self, x):
        for i, net in reversed(list(enumerate(self.nets))):
            x = x.at[i % 2].add(-net(x[1 - i % 2 :][:1])[0])
        return x * jnp.exp(-self.stretch)

    def log_prob(self, x, temperature):
        """ln p_T = -|z|^2 / 2T - ln(2 pi T) - ln det: a power of p_1 but for the normaliser."""
        square = jnp.sum(self.inverse(x) ** 2) / (2 * temperature)
        return -square - jnp.log(2 * jnp.pi * temperature) - jnp.sum(self.stretch)


def trained(start, steps, batch=512, layers=8, width=32, seed=0):
    """By maximum likelihood on exact draws at T = 1."""
    flow = Flow(layers, width, jax.random.key(seed))
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @eqx.filter_jit
    def train(flow):
        free, given = eqx.partition(flow, eqx.is_inexact_array)

        def step(carry, key):
            free, state = carry
            xs = jax.vmap(start.sample)(jax.random.split(key, batch))
            loss = lambda free: (
                -jnp.mean(jax.vmap(lambda x: eqx.combine(free, given).log_prob(x, 1.0))(xs))
            )
            value, slope = jax.value_and_grad(loss)(free)
            updates, state = optimiser.update(slope, state)
            return (optax.apply_updates(free, updates), state), value

        keys = jax.random.split(jax.random.key(seed + 1), steps)
        (free, _), losses = jax.lax.scan(step, (free, optimiser.init(free)), keys)
        return eqx.combine(free, given), losses

    flow, losses = train(flow)
    return flow, np.asarray(losses)


def weighed(log_w, values):
    """<value>, ln of the mean weight, both with errors, and the share of draws that count."""
    log_w, values = np.asarray(log_w, np.float64), np.asarray(values, np.float64)
    top = log_w.max()
    w = np.exp(log_w - top)
    mean = np.average(values, weights=w)
    n, even = len(w), w / w.mean()
    return {
        "mean": float(mean),
        "mean_error": float(np.std(even * (values - mean)) / n**0.5),
        "log_z": float(top + np.log(w.mean())),
        "log_z_error": float(np.std(even) / n**0.5),
        "ess": float(1 / np.mean(even**2)),
    }


def by_flow(flow, temperature, size, seed=2):
    z = jax.random.normal(jax.random.key(seed), (size, 2)) * temperature**0.5
    xs = jax.jit(jax.vmap(flow))(z)
    log_p = -jnp.sum(z**2, 1) / (2 * temperature) - jnp.log(2 * jnp.pi * temperature)
    u = jax.vmap(energy)(xs)
    return weighed(-u / temperature - (log_p - jnp.sum(flow.stretch)), u), np.asarray(xs)


def by_ramp(start, log_z, temperature, tau, size, seed=3):
    """The bath heated from 1 to T in tau; tau = 0 is the reweighting of draws at T = 1."""
    if tau == 0:
        xs = jax.vmap(start.sample)(jax.random.split(jax.random.key(seed), size))
        w = jax.vmap(energy)(xs) * (1 / temperature - 1)
        steps = 0
    else:
        system = tjx.Overdamped(energy, temperature=lambda lam: lam)
        process = tjx.Process(system, tjx.protocols.ramp(1.0, temperature, tau), start)
        steps = int(1000 * tau)
        ts = jnp.linspace(0.0, tau, steps + 1)
        run = tjx.ensemble(process, ts, jax.random.key(seed), size)
        xs, w = run.path.xs[:, -1], tjx.reduced_work(process, run)
    found = weighed(-w, jax.vmap(energy)(xs))
    return found | {"tau": tau, "log_z": float(found["log_z"] + log_z), "forces": 2 * steps}


def main(size=50_000, steps=1500, taus=(0.0, 0.25, 1.0), temperature=2.0):
    start = equilibrium(1.0)
    _, _, cold, _, rare = table(1.0)
    x, below, hot, mean, there = table(temperature)
    flow, losses = trained(start, steps)
    report = {
        "entropy": float(cold + table(1.0)[3]),  # of the data: the least that the loss can be
        "loss": float(losses[-200:].mean()),
        "exact": {"log_ratio": float(hot - cold), "energy": float(mean)},
        "flow_claims": float(np.log(temperature)),  # T^(d/2), whatever it learned
    }
    for name, t in (("flow_at_1", 1.0), ("flow", temperature)):
        report[name], xs = by_flow(flow, t, size)
        report[name]["on_the_barrier"] = float(np.mean(np.abs(xs[:, 0]) < 0.5))
        report[name]["on_the_barrier_exact"] = float(rare if t == 1.0 else there)
        report[name]["raw_energy"] = float(np.mean(np.asarray(jax.vmap(energy)(jnp.asarray(xs)))))
    report["ramp"] = [
        by_ramp(start, cold, temperature, tau, size, seed=3 + i) for i, tau in enumerate(taus)
    ]
    report["histogram"] = np.histogram(xs[:, 0], np.linspace(-2, 2, 81), density=True)[0].tolist()
    report["reproduced"] = reproduced(report, cold)
    return report


def reproduced(report, cold):
    rows = []
    hot, mean = report["exact"]["log_ratio"] + cold, report["exact"]["energy"]
    found = {"flow": report["flow"]} | {f"ramp in {r['tau']}": r for r in report["ramp"]}
    for name, r in found.items():
        for what, exact, ours, error in (
            ("ln Z at T = 2", hot, r["log_z"], r["log_z_error"]),
            ("<U> at T = 2", mean, r["mean"], r["mean_error"]),
        ):
            row = {
                "what": f"double well, {what} by {name}, weighted",
                "source": DIBAK,
                "exact": float(exact),
            }
            rows.append(row | {"theirs": None, "ours": ours, "error": error, "within": 4 * error})
    return rows


def draw(report, file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    x, below, *_ = table(2.0)
    left.plot(x, np.gradient(below, x), "k--", lw=1.2, label="exact at $T = 2$")
    edges = np.linspace(-2, 2, 81)
    left.stairs(report["histogram"], edges, color="C0", lw=1.8, label="flow, as it draws")
    left.set(xlabel="$x$", ylabel="density", xlim=(-2, 2))
    left.legend(loc="lower center")
    names = ["flow", *(f"ramp, {r['tau']:g}" for r in report["ramp"])]
    names[1] = "reweighted"
    shares = [report["flow"]["ess"], *(r["ess"] for r in report["ramp"])]
    right.bar(names, shares, color=["C0"] + ["C3"] * len(report["ramp"]), width=0.6)
    right.set(ylabel="share of the draws that count", title="to $T = 2$", ylim=(0, 1))
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    report = main()
    for one in report["reproduced"]:
        print(f"{one['what']}: {one['ours']:.5f} ± {one['error']:.5f} (exact {one['exact']:.6f})")
    print({k: v for k, v in report.items() if k not in ("histogram", "reproduced")})
    out = Path("out")
    out.mkdir(exist_ok=True)
    draw(report, out / "temperature_flow.png")
    report["seconds"] = time.perf_counter() - began
    (out / "temperature_flow.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s, compilation included")
