"""Two classics, exactly: what precision costs on a ring (Barato and Seifert), and what a bit costs to erase (Landauer).

A ring of n states is driven around by an affinity A. Whatever its energies and barriers, the steps it makes satisfy
2 D sigma / v^2 >= (A/n) coth(A/2n) >= 2, with v their rate, D their diffusion constant and sigma the entropy production, all
from the generator, and a search over all rings finds the uniform one. With many states the ring is a particle in a tilted
cosine. Then a double well is reset: the work falls to ln 2 like 1/time, for a protocol by hand and for one that is searched,
as for the best in any potential. Writes out/classics.json and .png.
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
from thermojax import bounds, evolve, protocols
from thermojax.densities import Boltzmann, Cells, Point

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BARATO = "Barato & Seifert, PRL 114, 158101 (2015)"
RING = 2 * np.pi


# ---- a ring of states


def around(n):
    """Energies and barriers (nats) and the affinity are the control; a state counts its turns, too."""

    def rates(x, lam):
        here = x[0].astype(int) % n
        up = 0.5 * lam["A"] / n + lam["e"][here] - lam["b"][here]
        down = -0.5 * lam["A"] / n + lam["e"][here] - lam["b"][here - 1]
        return jnp.exp(jnp.stack([up, down]))

    return rates


def ring(n, turns=False):
    """The n states in a circle, or unrolled."""
    after = lambda x: jnp.stack([x + 1, x - 1])
    closed = lambda x: after(x) % n
    return tjx.Jumps(around(n), after if turns else closed, work="rates")


@eqx.filter_jit
def steps(n, lam):
    """Rate v and diffusion constant D of the steps, and entropy production, from the generator tilted by exp(q steps)."""
    states = jnp.arange(n, dtype=lam["e"].dtype)[:, None]
    system = ring(n)
    p = evolve.steady(system, lam, states=states).p
    up, down = jax.vmap(lambda x: system.rates(x, lam))(states).T
    eye = jnp.eye(n, dtype=p.dtype)
    ahead, back = jnp.roll(eye * up[None], 1, 0), jnp.roll(eye * down[None], -1, 0)
    first = lambda x: jnp.sum((ahead - back) * x[None], axis=1)
    v = jnp.sum(first(p))
    # of second order in q: what the first order leaves, solved with the sum held at zero
    generator = ahead + back - eye * (up + down)[None]
    bent = jnp.linalg.solve(generator.at[-1].set(1), (v * p - first(p)).at[-1].set(0))
    spread = 0.5 * jnp.sum(p * (up + down)) + jnp.sum(first(bent))
    return v, spread, v * lam["A"] / n


def product(n, lam):
    v, spread, rate = steps(n, lam)
    return 2 * spread * rate / v**2


def least(n, affinity):
    """Barato's and Seifert's bound for n states and one cycle."""
    half = affinity / (2 * n)
    return 2 * half / np.tanh(half)


class Precision(tjx.optimal.AbstractExactLoss):
    """What a search over rings descends: the product, at a given affinity."""

    affinity: jax.Array

    def __call__(self, shape, key=None):
        return product(len(shape["e"]), shape | {"A": self.affinity})

    def check(self):
        return None

    def failures(self, shape, key):
        return f"The ring is {shape}."

    def likelihood_ratio(self, shape, key):
        raise ValueError("There are no paths.")


def many(n, count, key):
    """Rings at random: affinities, and products."""

    def one(key):
        of_e, of_b, of_a = jax.random.split(key, 3)
        shape = {"e": jax.random.normal(of_e, (n,)), "b": 2 * jax.random.normal(of_b, (n,))}
        affinity = jnp.exp(jax.random.uniform(of_a, (), minval=-0.7, maxval=4.1))
        return affinity, product(n, shape | {"A": affinity})

    return jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, count))


def walked(n, affinity, t1, dt, paths, key):
    """The product of a uniform ring as a sample of displacements shows it, with its error."""
    lam = {"e": jnp.zeros(n), "b": jnp.zeros(n), "A": jnp.asarray(affinity)}
    rest = protocols.Piecewise(jnp.array([0.0, t1]), jax.tree.map(lambda v: jnp.stack([v, v]), lam))
    process = tjx.Process(ring(n, turns=True), rest, Point(jnp.zeros(1)))
    ts = jnp.linspace(0.0, t1, round(t1 / dt) + 1)
    run = tjx.ensemble(process, ts, key, paths, rule="kernel")
    return bounds.tur_of(run.path.xs[:, -1, 0]), float(steps(n, lam)[2]) * t1


# ---- a particle in a tilted cosine: the ring with many states


def tilted(n, height, force, temperature):
    """The product of the particle on n cells; off by the square of their width."""
    x = RING * jnp.arange(float(n)) / n
    e = height * jnp.cos(x) / temperature
    barrier = 0.5 * (e + jnp.roll(e, -1))
    return product(n, {"e": e, "b": barrier, "A": jnp.asarray(force * RING / temperature)})


def tilted_exact(height, force, temperature):
    """Velocity and diffusion constant by quadrature: Reimann et al., PRL 87, 010602 (2001)."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    y, weights = RING * (1 + nodes) / 2, weights / 2
    energy = lambda x: (height * np.cos(x) - force * x) / temperature
    x = RING * np.arange(256)[:, None] / 256
    plus = np.exp(energy(x) - energy(x - y)) @ weights
    minus = np.exp(energy(x + y) - energy(x)) @ weights
    v = temperature * (1 - np.exp(-force * RING / temperature)) / (RING * np.mean(plus))
    return v, temperature * np.mean(plus**2 * minus) / np.mean(plus) ** 3


def pushed(height, force, temperature, t1, dt, paths, key):
    """The entropy production from the steady density, and displacements of simulated particles."""
    push = lambda x, lam: force + 0 * x
    system = tjx.Overdamped(tjx.potentials.Ring(height, RING), push, temperature=temperature)
    grid = evolve.Grid(0.0, RING, 128, periodic=True)
    steady = evolve.steady(system, 0.0, grid)
    process = tjx.Process(system, protocols.ramp(0.0, 0.0, t1), steady)
    at_rest = evolve.fokker_planck(process, jnp.linspace(0.0, t1, 3), grid)
    rate = tjx.rates.along(process, at_rest).total[0]
    run = tjx.ensemble(process, jnp.linspace(0.0, t1, round(t1 / dt) + 1), key, paths)
    return float(rate), bounds.tur_of(run.path.xs[:, -1, 0] - run.path.xs[:, 0, 0])


# ---- a bit

BARRIER = 14.0
CELLS = 250
wells = tjx.Overdamped(lambda x, lam: jnp.sum(lam["E"] * (x**2 - 1) ** 2 - lam["h"] * x))
bit = Boltzmann(wells, {"E": BARRIER, "h": 0.0})


def by_hand(span, knots=21):
    """Barrier down, tilt, barrier up, straighten."""
    ts = jnp.linspace(0.0, span, knots)
    through = lambda *v: jnp.interp(ts, jnp.linspace(0.0, span, len(v)), jnp.asarray(v))
    barrier = through(BARRIER, 1.0, 1.0, 1.0, BARRIER, BARRIER)
    tilt = through(0.0, 0.0, 2.5, 5.0, 5.0, 0.0)
    held = protocols.bounded(protocols.Piecewise(ts, barrier, BARRIER, BARRIER), 0.5, 40.0)
    return protocols.Joint({"E": held, "h": protocols.Piecewise(ts, tilt, 0.0, 0.0)})


def wrong(evolution):
    """The probability of the wrong well at the end."""
    grid = evolution.grid
    return jnp.sum(jnp.where(grid.axis(0) < 0, evolution.p[-1], 0)) * grid.volume


class Failing(eqx.Module):
    """The work, and a price for a bit in the wrong well."""

    cost: jax.Array

    def __call__(self, process, evolution):
        return evolution.work[-1] + self.cost * wrong(evolution)


def erased(drive, times=2000):
    """Work and failures of a protocol, extrapolated to no cells and no steps."""
    process = tjx.Process(wells, drive, bit)
    grid = evolve.Grid(-2.5, 2.5, CELLS)
    found = evolve.extrapolated(process, jnp.linspace(0.0, drive.t1, times + 1), grid)
    assert found.error is not None
    return float(found.work[-1]), float(found.error.work[-1]), float(wrong(found))


def searched(span, updates, times=400):
    """The protocol of least work and failures, by the density in time."""
    ts = jnp.linspace(0.0, span, times + 1)
    process, cost = tjx.Process(wells, by_hand(span), bit), jnp.asarray(20.0)
    loss = tjx.optimal.EvolutionLoss(process, ts, Failing(cost), evolve.Grid(-2.5, 2.5, CELLS))
    how: Any = {"steps": updates, "progress": False}
    return tjx.optimal.search(loss, process.protocol, **how).protocol


def way():
    """W2^2 from both wells to the right one."""
    grid = evolve.Grid(-2.5, 2.5, 2000)
    x = grid.axis(0)
    p = jnp.exp(jax.vmap(bit.log_prob)(x[:, None]))
    return float(bounds.wasserstein(Cells(grid, p), Cells(grid, jnp.where(x > 0, 2 * p, 0))) ** 2)


def main(
    count=400, paths=10_000, spans=(5.0, 10.0, 20.0), slow=(40.0, 80.0, 160.0), updates=60
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []

    def row(what, exact, ours, error=None, within=1e-8, source=BARATO):
        error = None if error is None else float(error)
        parts = what, source, float(exact), None, float(ours), error, float(within)
        names = "what", "source", "exact", "theirs", "ours", "error", "within"
        rows.append(dict(zip(names, parts, strict=True)))
        print(f"{what}: {float(ours):.8g} (exact {float(exact):.8g})")

    # ---- precision
    n, affinity = 5, 15.0
    uniform = {"e": jnp.zeros(n), "b": jnp.zeros(n), "A": jnp.asarray(affinity)}
    row(
        f"uniform ring, n = {n}, A = {affinity:g}: 2 D sigma/v^2",
        least(n, affinity),
        product(n, uniform),
    )
    of_e, of_b = jax.random.split(jax.random.key(3))
    shape = {"e": jax.random.normal(of_e, (n,)), "b": jax.random.normal(of_b, (n,))}
    how: Any = {"steps": 200, "progress": False}
    best = tjx.optimal.search(Precision(jnp.asarray(affinity)), shape, **how)
    row("least of all rings, by search", least(n, affinity), best.price.value)
    print(f"  from {float(best.start_price.value):.4f}")
    affinities, products = many(n, count, jax.random.key(4))
    margin = float(jnp.min(products / least(n, np.asarray(affinities))))
    print(f"  {count} rings at random: at least {margin:.6f} times the bound")
    seen, entropy = walked(n, affinity, 4.0, 0.002, paths, jax.random.key(5))
    walk = 2 * entropy / seen.value
    error = walk * seen.stderr / seen.value
    row("the same ring, simulated", least(n, affinity), walk, error, 5 * error)

    given = (1.0, 1.0, 0.5)
    v, spread = tilted_exact(*given)
    exact = 2 * spread * given[1] * v / given[2] / v**2
    coarse, fine = (float(tilted(cells, *given)) for cells in (64, 128))
    reimann = "Reimann et al., PRL 87, 010602 (2001)"
    row(
        "tilted cosine (1, 1, .5): 2 D sigma/v^2",
        exact,
        (4 * fine - coarse) / 3,
        None,
        1e-5,
        reimann,
    )
    rate, seen = pushed(*given, 100.0, 0.1, paths // 2, jax.random.key(6))
    row("its entropy production", given[1] * v / given[2], rate, None, 1e-3, reimann)
    betrayed = 2 * rate * 100 / seen.value
    error = betrayed * seen.stderr / seen.value
    row("simulated: 2 D sigma/v^2", exact, betrayed, error, 5 * error, reimann)

    # ---- a bit
    landauer, square = float(np.log(2)), way()
    erasures: dict[str, Any] = {}
    for span in (*spans, *slow):
        erasures[f"{span:g}"] = {
            "by_hand": erased(by_hand(span)),
            "least": landauer + square / span,
        }
    drives = {}
    for span in spans:
        drives[span] = searched(span, updates)
        erasures[f"{span:g}"]["found"] = erased(drives[span])
    for span, one in erasures.items():
        words = "  ".join(f"{name} {one[name]}" for name in ("by_hand", "found") if name in one)
        print(f"tau = {span}: {words}  any potential {one['least']:.5f}")
    if len(slow) == 3:  # each twice the one before: without the terms in 1/t and 1/t^2
        one, two, four = (erasures[f"{span:g}"]["by_hand"][0] for span in slow)
        limit = (8 * four - 6 * two + one) / 3
        source = "Landauer, IBM J. Res. Dev. 5, 183 (1961)"
        row("work of erasure, extrapolated to t = infinity", landauer, limit, None, 2e-3, source)
    report: dict[str, Any] = {
        "start_of_search": float(best.start_price.value),
        "margin": margin,
        "w2_squared": square,
        "erasures": erasures,
        "reproduced": rows,
        "seconds": time.process_time(),
    }
    print(f"{report['seconds']:.1f} s of the processor, compilation included")
    return report | {
        "rings": (affinities, products),
        "drives": drives,
        "tilted": (given[1] * RING / given[2], exact),
    }


def draw(report, n=5):
    affinities, products = report.pop("rings")
    drives, cosine = report.pop("drives"), report.pop("tilted")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
    a = np.geomspace(0.5, 60, 100)
    left.loglog(affinities, products, ".", ms=4, color="C0", label="rings of 5, at random")
    left.loglog(a, least(n, a), "k-", lw=1.5, label=r"$(A/n)\,\coth(A/2n)$")
    left.axhline(2, color="k", ls=":", lw=1.5, label="2")
    left.loglog(*cosine, "s", color="C3", label="tilted cosine")
    left.set(xlabel="affinity $A$", ylabel=r"$2D\sigma/v^2$", ylim=(1.5, 60))
    left.legend(fontsize=8, loc="upper left")
    erasures, landauer = report["erasures"], np.log(2)
    for name, mark, colour, words in (
        ("by_hand", "o", "C1", "by hand"),
        ("found", "s", "C0", "searched"),
    ):
        points = [(float(t), one[name][0] - landauer) for t, one in erasures.items() if name in one]
        middle.loglog(*zip(*points, strict=True), mark, ls="-", color=colour, label=words)
    t = np.array([float(t) for t in erasures])
    middle.loglog(t, report["w2_squared"] / t, "k--", label="any potential: $W_2^2/\\tau$")
    middle.set(xlabel=r"duration $\tau$", ylabel=r"$\langle W\rangle - \ln 2$")
    middle.legend(fontsize=8)
    span = max(drives)
    s = np.linspace(0, span, 400)
    drive = jax.vmap(drives[span])(jnp.asarray(s))
    hand = jax.vmap(by_hand(span))(jnp.asarray(s))
    for name, colour, words in (("E", "C0", "barrier"), ("h", "C3", "tilt")):
        right.plot(s, drive[name], color=colour, lw=2, label=f"{words}, searched")
        right.plot(s, hand[name], color=colour, lw=1.2, ls=":", label=f"{words}, by hand")
    right.set(xlabel="time", title=rf"$\tau = {span:g}$")
    right.legend(fontsize=8, loc="center", bbox_to_anchor=(0.42, 0.6))
    return figure


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    report = main()
    figure = draw(report)
    out = Path("out")
    out.mkdir(exist_ok=True)
    figure.savefig(out / "classics.png", dpi=95)
    (out / "classics.json").write_text(json.dumps(report, indent=2) + "\n")
