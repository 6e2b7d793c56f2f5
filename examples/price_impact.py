"""Round trips in a market as driven processes: buying and selling back costs W, gains by chance, and obeys a fluctuation
theorem.

A trip holds q(t), with q = 0 before and after. It pays W = eta int v^2 dt for its speed v = dq/dt, and the price it holds
wanders: its profit is P = -W + sigma int q dB. On the same noise this is the profit of a trip without any impact in a price
that drifts against what is held, and there the price is a bead that a force proportional to -q pushes: P is the heat, with
its sign, R = -theta P the log-ratio of paths, <exp(theta P)> = 1 with theta = 2 W / (sigma^2 int q^2 dt), and <P> = -W <= 0.
The best trips are searched, and compared with closed forms. After A. K. Jha, arXiv:2512.03123. Writes
out/price_impact.json and .png.
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

import thermojax as tjx
from thermojax import protocols

matplotlib.use("Agg")
import matplotlib.pyplot as plt

JHA = "Jha, arXiv:2512.03123"


class Trip(protocols.AbstractProtocol):
    """What is held: straight lines from 0 through knots back to 0, at the middle `peak` if that is given."""

    inner: jax.Array
    t1: jax.Array
    peak: jax.Array | None = None
    t0: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)
    before: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)
    after: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)

    def knots(self):
        zero, q = jnp.zeros_like(self.inner[:1]), self.inner
        if self.peak is not None:
            half = q.shape[0] // 2
            q = jnp.concatenate([q[:half], self.peak[None], q[half:]])
        q = jnp.concatenate([zero, q, zero])
        return jnp.linspace(0.0, self.t1, q.shape[0], dtype=q.dtype), q

    def __call__(self, t):
        return jnp.interp(t, *self.knots())

    def given(self):
        return self.t1, self.peak, self.t0, self.before, self.after


def costs(trip, eta):
    """W, and V = int q^2 dt, of straight lines."""
    ts, q = trip.knots()
    dt = jnp.diff(ts)
    work = eta * jnp.sum(jnp.diff(q) ** 2 / dt)
    return work, jnp.sum(dt * (q[1:] ** 2 + q[1:] * q[:-1] + q[:-1] ** 2)) / 3


def triangle(v, t1, knots=3):
    """Bought and sold at one speed."""
    t = jnp.linspace(0.0, t1, knots)[1:-1]
    return Trip(v * jnp.minimum(t, t1 - t), jnp.asarray(t1))


def ramp(v, t1, knots=2001):
    """Its speed falls from v to -v in a straight line."""
    t = jnp.linspace(0.0, t1, knots)[1:-1]
    return Trip(v * t * (1 - t / t1), jnp.asarray(t1))


def affinity(trip, eta, sigma):
    """theta = 2 W / (sigma^2 V): the inverse temperature of this trip, and of this one only."""
    work, variance = costs(trip, eta)
    return 2 * work / (sigma**2 * variance)


def market(trip, eta, sigma):
    """The price in which the trip earns the same without impact: T = 1, D = sigma^2 / 2, pushed by -theta q(t)."""
    theta = affinity(trip, eta, sigma)
    price = tjx.Overdamped(
        None, force=lambda x, q: -theta * q + 0 * x, mobility=0.5 * sigma**2, temperature=1.0
    )
    return tjx.Process(price, trip, tjx.densities.Point(jnp.full(1, 100.0)))


def odds(work, variance, sigma):
    """The chance of a profit: exact, and the paper's bound exp(-W^2 / (2 sigma^2 V))."""
    z = work / (sigma * jnp.sqrt(variance))
    return jax.scipy.stats.norm.sf(z), jnp.exp(-0.5 * z**2)


class Price(tjx.optimal.AbstractExactLoss):
    """What a search descends: a number made of W and V."""

    eta: jax.Array
    risk: jax.Array | None = None

    def __call__(self, trip, key=None):
        work, variance = costs(trip, self.eta)
        return work / variance if self.risk is None else work + self.risk * variance

    def check(self):
        return None

    def failures(self, trip, key):
        return f"The trip holds {trip.inner}."

    def likelihood_ratio(self, trip, key):
        raise ValueError("There are no paths.")


def sampled(trip, eta, sigma, paths, steps=100):
    """Profits of the market with impact and of the one that drifts instead, on the same noise."""
    ts = jnp.linspace(0.0, trip.t1, steps + 1)
    process = market(trip, eta, sigma)
    drifting = tjx.ensemble(process, ts, jax.random.key(0), paths, rule="kernel")
    return -drifting.entropy.medium / affinity(trip, eta, sigma)


def recorded(trip, eta, sigma, steps=100):
    """One record of prices that do not drift: its profit, -W + sum q dx, and that of `account` with the drift added."""
    ts = jnp.linspace(0.0, trip.t1, steps + 1)
    process, theta = market(trip, eta, sigma), affinity(trip, eta, sigma)
    noise = jax.random.normal(jax.random.key(1), (steps,))
    dx = sigma * jnp.sqrt(jnp.diff(ts)) * noise
    middle = jax.vmap(trip)(0.5 * (ts[1:] + ts[:-1]))  # the control of a step
    work = 0.5 * theta * sigma**2 * jnp.sum(middle**2 * jnp.diff(ts))  # W, by the same sum
    drifted = dx - 0.5 * theta * sigma**2 * middle * jnp.diff(ts)
    xs = 100 + jnp.concatenate([jnp.zeros(1), jnp.cumsum(drifted)])
    run = tjx.account(process, tjx.Path(ts, xs[:, None]))
    return -work + jnp.sum(middle * dx), -run.entropy.medium / theta


def best_ratio(knots, eta, t1):
    """The least W / V of any round trip, by `search`: the hottest one."""
    how: Any = {"steps": 400, "progress": False}
    return tjx.optimal.search(Price(jnp.asarray(eta)), triangle(1.0, t1, knots), **how)


def best_ratio_knotted(knots, eta, t1):
    """The same in closed form, for straight lines: the least eigenvalue of finite elements."""
    h = t1 / (knots - 1)
    c = np.cos(np.pi * h / t1)
    return 6 * eta / h**2 * (1 - c) / (2 + c)


def best_execution(knots, eta, t1, risk, peak):
    """The least W + risk V of a trip that holds `peak` at its middle, by `search`."""
    start = triangle(2 * peak / t1, t1, knots)
    middle = start.inner.shape[0] // 2
    inner = jnp.delete(start.inner, middle, assume_unique_indices=True)
    start = Trip(inner, start.t1, jnp.asarray(peak))
    how: Any = {"steps": 400, "progress": False}
    return tjx.optimal.search(Price(jnp.asarray(eta), jnp.asarray(risk)), start, **how)


def best_execution_exact(eta, t1, risk, peak):
    """Almgren and Chriss: q = peak sinh(k t) / sinh(k t1 / 2) on both sides of the middle, k^2 = risk / eta."""
    k = np.sqrt(risk / eta)
    return 2 * peak**2 * np.sqrt(risk * eta) / np.tanh(k * t1 / 2)


def best_execution_knotted(knots, eta, t1, risk, peak):
    """The same for straight lines between knots."""
    h = t1 / (knots - 1)
    a, b = eta / h, risk * h / 6
    k = np.arccosh((2 * a + 4 * b) / (2 * a - 2 * b))  # per knot
    n = (knots - 1) // 2
    last = np.sinh(k * (n - 1)) / np.sinh(k * n)
    return 2 * peak**2 * (a + 2 * b - (a - b) * last)


def main(paths=400_000, knots=65) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []

    def row(what, exact, ours, error=None, within=1e-8, theirs=None, source=JHA):
        pick = lambda v: None if v is None else float(v)
        rows.append(
            {
                "what": what,
                "source": source,
                "exact": pick(exact),
                "theirs": pick(theirs),
                "ours": float(ours),
                "error": pick(error),
                "within": float(within),
            }
        )
        print(f"{what}: {float(ours):.8g}" + (f" (exact {exact:.8g})" if exact is not None else ""))

    report: dict[str, Any] = {}
    # ---- the paper's two trips, and its printed bounds
    implied = {}
    for name, trip, work, variance, printed in (
        ("triangle", triangle(10.0, 10.0), 100.0, 25000 / 3, 1.499622e-07),
        ("ramp", ramp(10.0, 10.0), 100 / 3, 10000 / 3, 1.888756e-02),
    ):
        got = costs(trip, 0.1)
        row(f"{name}: W", work, got[0], within=1e-6 * work, theirs=round(work, 4))
        row(f"{name}: V", variance, got[1], within=1e-6 * variance, theirs=round(variance, 4))
        exact, bound = odds(*got, 0.2)
        row(
            f"{name}: bound at sigma = 0.2",
            np.exp(-(work**2) / (0.08 * variance)),
            bound,
            None,
            1e-6 * float(bound),
            printed,
        )
        implied[name] = float(work**2 / (2 * variance * -np.log(printed)))
        report[f"{name}_odds"] = float(exact)
        print(
            f"  printed {printed:.6g} needs sigma^2 = {implied[name]:.5f}; at 0.2 exactly {exact:.6g}"
        )
    report["implied_sigma_squared"] = implied

    # ---- profits
    eta, sigma, t1 = 1 / 6, 0.5, 4.0
    trip = triangle(np.sqrt(1.5), t1)
    work, variance = costs(trip, eta)
    theta = affinity(trip, eta, sigma)
    profits = sampled(trip, eta, sigma, paths)
    exact, bound = odds(work, variance, sigma)
    mean, won = tjx.estimators.mean(profits), (profits >= 0).astype(profits.dtype)
    chance = tjx.estimators.mean(won)
    unity = tjx.estimators.integral_fluctuation(-theta * profits)
    row("W = 1, V = 8: <P> = -W", -work, mean.value, mean.stderr, 5 * mean.stderr)
    row("P(profit)", exact, chance.value, chance.stderr, 5 * chance.stderr)
    row("bound on it", np.exp(-0.25), bound, within=1e-6)
    row("<exp(theta P)>", 1.0, unity.value, unity.stderr, 5 * unity.stderr)
    once, twice = recorded(trip, eta, sigma)
    report["record"] = [float(once), float(twice)]
    print(f"one record: {once:.12f} by hand, {twice:.12f} by account; reliable: {unity.reliable}")

    # ---- the best trips
    found = best_ratio(knots, 0.1, 10.0)
    coarse = best_ratio((knots + 1) // 2, 0.1, 10.0)
    fine, rough = float(found.price.value), float(coarse.price.value)
    row(
        "least W/V, knotted",
        best_ratio_knotted(knots, 0.1, 10.0),
        fine,
        None,
        1e-10,
        source="derived",
    )
    row(
        "least W/V, extrapolated: eta pi^2/T^2",
        0.1 * np.pi**2 / 100,
        (4 * fine - rough) / 3,
        None,
        1e-8,
        source="derived",
    )
    risk, peak = 0.04, 10.0
    executed = best_execution(knots, 0.1, 10.0, risk, peak)
    least = float(executed.price.value)
    less = float(best_execution((knots + 1) // 2, 0.1, 10.0, risk, peak).price.value)
    chriss = "Almgren & Chriss, J. Risk 3, 5 (2000)"
    row(
        "least W + risk V, knotted",
        best_execution_knotted(knots, 0.1, 10.0, risk, peak),
        least,
        None,
        1e-8,
        source=chriss,
    )
    row(
        "the same, extrapolated",
        best_execution_exact(0.1, 10.0, risk, peak),
        (4 * least - less) / 3,
        None,
        1e-5,
        source=chriss,
    )
    report |= {"sine": found.found.knots()[1].tolist(), "seconds": time.process_time()}

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
    t = np.linspace(0, 10, 201)
    k = np.sqrt(risk / 0.1)
    closed = peak * np.sinh(k * np.minimum(t, 10 - t)) / np.sinh(5 * k)
    ts, q = executed.found.knots()
    left.plot(ts, q, "o", ms=4, color="C0", label="least $W + \\kappa V$, found")
    left.plot(t, closed, "k--", lw=1, label="Almgren and Chriss")
    ts, q = found.found.knots()
    left.plot(ts, 10 * q / q.max(), "s", ms=3, color="C3", label="least $W/V$, found")
    left.plot(t, 10 * np.sin(np.pi * t / 10), "k:", lw=1.5, label=r"$\sin(\pi t/T)$")
    left.set(xlabel="time $t$", ylabel="held, $q(t)$", ylim=(0, 15.5))
    left.legend(fontsize=8, loc="upper center", ncols=2)

    edges = np.linspace(-6, 6, 61)
    here = np.histogram(profits, edges, density=True)[0]
    middle.stairs(here, edges, color="C0", lw=1.5, label="this trip")
    middle.stairs(here[::-1], edges, color="C1", lw=1.5, label="reversed, $-P$")
    middle.fill_between(
        (edges[:-1] + edges[1:]) / 2,
        here,
        where=edges[:-1] >= 0,
        step="mid",
        color="C0",
        alpha=0.25,
    )
    middle.set(
        xlabel="profit $P$",
        ylabel="density",
        title=f"P(profit) = {float(chance.value):.4f}",
        ylim=(0, 0.36),
    )
    middle.legend(fontsize=8)
    centres = (edges[:-1] + edges[1:]) / 2
    counts = np.histogram(profits, edges)[0]
    seen = (counts > 20) & (counts[::-1] > 20)
    ratio = np.log(counts[seen] / counts[::-1][seen])
    spread = np.sqrt(1 / counts[seen] + 1 / counts[::-1][seen])
    right.errorbar(centres[seen], ratio, spread, fmt="o", ms=4, color="C0", label="sampled")
    right.plot(edges, -float(theta) * edges, "k--", lw=1, label=r"$-\theta P$")
    right.set(xlabel="profit $P$", ylabel="$\\ln\\, p(P)/p(-P)$", xlim=(-5, 5), ylim=(-5, 5))
    right.legend(fontsize=8)

    report["reproduced"] = rows
    out = Path("out")
    out.mkdir(exist_ok=True)
    figure.savefig(out / "price_impact.png", dpi=95)
    plt.close(figure)
    (out / "price_impact.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s of the processor, compilation included")
    return report


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
