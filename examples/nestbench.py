"""Five problems of NESTbench25 (Whitelam, Casert, Engel & Tamblyn, arXiv:2506.15122), each from a plain start.

They ask for a protocol; the best ones that they publish were found by genetic algorithms, without a gradient. Here each is
found by one: of exact moments, pathwise, of a smoothed force, or by the score function. What is found is then put into their
own scheme, a table of 1000 controls and their step, and evaluated exactly, or by enough runs that the error tells it from
theirs. Writes out/nestbench.json and .png.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

began = time.perf_counter()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

jax.config.update("jax_enable_x64", True)  # exact values are wanted to seven digits

import thermojax as tjx  # noqa: E402
from thermojax.densities import Boltzmann, Gaussian, Mixture  # noqa: E402
from thermojax.optimal import search  # noqa: E402
from thermojax.protocols import Joint, Piecewise, ramp  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

TABLE = 1000  # entries of their protocols


class Result(NamedTuple):
    """What was found: its value in their scheme, with the error of that, theirs, and how it was done."""

    value: float
    stderr: float
    theirs: float
    seconds: float
    gradient: str
    curves: dict[str, np.ndarray]  # the controls: before, inside, after
    extra: dict[str, float]


def table(protocol, t1):
    """A protocol as their table: the control in the middle of each of its entries."""
    return jax.vmap(protocol)((jnp.arange(TABLE) + 0.5) * t1 / TABLE)


def curves(protocol):
    """The controls of a protocol by name: before it, at 401 times, after it."""
    ts = jnp.linspace(protocol.t0, protocol.t1, 401)
    parts = protocol.before, jax.vmap(protocol)(ts), protocol.after
    names = parts[0] if isinstance(parts[0], dict) else {"lam": None}
    take = lambda part, name: part[name] if isinstance(part, dict) else part
    return {
        name: np.concatenate([np.atleast_1d(take(part, name)) for part in parts]) for name in names
    }


# ---- 1. a trap that is moved in a fluid


def trap():
    """U = (x - lam)^2/2 from 0 to 5 in a time of 1. The mean work is one of moments: exact, and so is its gradient."""
    clock = time.process_time()
    system = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    start = ramp(0.0, 5.0, 1.0, knots=11)
    process = tjx.Process(system, start, Boltzmann(system, 0.0))
    loss = tjx.optimal.exact_work(process, jnp.linspace(0.0, 1.0, 11))
    found = search(loss, start, steps=60, progress=False)
    seconds = time.process_time() - clock

    def step(mean, now):
        before, lam = now
        return mean - 1e-3 * (mean - lam), 0.5 * ((mean - lam) ** 2 - (mean - before) ** 2)

    lams = table(found.found, 1.0)
    mean, turns = jax.lax.scan(step, jnp.zeros(()), (jnp.append(0.0, lams[:-1]), lams))
    last = 0.5 * ((mean - 5.0) ** 2 - (mean - lams[-1]) ** 2)
    extra = {"in_their_scheme": float(jnp.sum(turns) + last)}
    return Result(
        float(found.price.value),
        0.0,
        8.334037,
        seconds,
        "exact, of moments",
        curves(found.found),
        extra,
    )


# ---- 2. the same trap, with inertia


Q, FAST = (
    7.0,
    2 * jnp.pi * 1090e-6,
)  # quality, and the frequency of the trap per microsecond: times are in units of 1 / FAST
QUICK = 0.3 * jnp.pi


def inertial(kicks):
    """x'' = -(x - lam) - x'/Q + noise, lam from 0 to 5 in .15 periods; with impulses at the ends, or without."""
    clock = time.process_time()
    drive = {"lam": ramp(0.0, 5.0, QUICK, knots=17)}
    if kicks:  # m v = p + J: a jump of J is a kick
        drive["J"] = Piecewise(jnp.array([0.0, QUICK]), jnp.zeros(2), 0.0, 0.0)
    system = tjx.systems.Underdamped(
        lambda x, lam: 0.5 * jnp.sum((x - lam["lam"]) ** 2),
        friction=1 / Q,
        impulse=(lambda lam: lam["J"]) if kicks else None,
    )
    rest = {name: jnp.zeros(()) for name in drive}
    process = tjx.Process(system, Joint(drive), Boltzmann(system, rest))
    loss = tjx.optimal.exact_work(process, jnp.linspace(0.0, QUICK, 33))
    found = search(loss, Joint(drive), steps=60, progress=False)
    seconds = time.process_time() - clock
    value = float(found.price.value)
    lam = found.found.protocols["lam"]
    extra = {"highest": float(lam.values.max())}
    if kicks:
        extra["kick"] = float(found.found.protocols["J"].values[0])
    else:
        extra["in_their_scheme"] = dragged(lam)
    theirs = 2.907875 if kicks else 3.137750
    return Result(value, 0.0, theirs, seconds, "exact, of moments", curves(found.found), extra)


def dragged(protocol):
    """<W> of their chain, of a table and no kicks: that of its mean."""
    steps = round(0.15 / 1090e-6 / 0.01)
    dt = 0.01 * FAST
    keep = jnp.exp(-dt / Q)
    lams = table(protocol, QUICK)[(jnp.arange(steps) * TABLE) // steps]

    def step(state, now):
        (x, v), (before, lam) = state, now
        work = 0.5 * ((x - lam) ** 2 - (x - before) ** 2)
        return (x + v * dt, keep * v - (1 - keep) * Q * (x - lam)), work

    (x, _), works = jax.lax.scan(step, (0.0, 0.0), (jnp.append(0.0, lams[:-1]), lams))
    return float(jnp.sum(works) + 0.5 * ((x - 5) ** 2 - (x - lams[-1]) ** 2))


# ---- 3. a bit that is erased


class Wells(eqx.Module):
    """Two parabolas that meet at c0, x^2/2 - c1 |x - c0|. There the force jumps, here over a width, so that the pathwise
    gradient sees where."""

    width: float

    def __call__(self, x, lam):
        away = jnp.sqrt((x - lam["c0"]) ** 2 + self.width**2)
        return jnp.sum(0.5 * x**2 - lam["c1"] * away)


class Astray(eqx.Module):
    """How far a run ends above the bottom of the well at -5: the energy, or a smooth failure."""

    plain: float
    barrier: float
    width: float

    def __call__(self, run):
        q, p = run.path.xs[:, -1, 0], run.path.xs[:, -1, 1]
        energy = 0.5 * (q + 5) ** 2 + 0.5 * p**2
        failure = jax.nn.sigmoid((energy - self.barrier) / self.width)
        return self.plain * energy + (1 - self.plain) * failure


def erasure():
    """Half a period to bring a particle that is in either well into the left one; a whole one at rest; who is right then?"""
    clock = time.process_time()
    half, knots = jnp.pi, 17
    here = {"c0": 0.0, "c1": 5.0}
    drive = Joint(
        {
            name: Piecewise(jnp.linspace(0.0, half, knots), jnp.full(knots, value), value, value)
            for name, value in here.items()
        }
    )
    ends = [Gaussian(jnp.array([side, 0.0]), jnp.ones(2)) for side in (-5.0, 5.0)]
    start = Mixture(jnp.array([0.5, 0.5]), ends)
    ts = jnp.linspace(0.0, half, 97)
    stages = (  # the width of the force's jump, of what, how fast
        (1.0, Astray(1.0, 10.0, 1.5), 0.3),
        (0.5, Astray(0.0, 10.0, 1.5), 0.1),
        (0.2, Astray(0.0, 11.5, 1.0), 0.05),
    )
    keys = jax.random.split(jax.random.key(3), len(stages))
    for key, (width, of, rate) in zip(keys, stages, strict=True):
        system = tjx.systems.Underdamped(Wells(width), friction=1 / Q)
        process = tjx.Process(system, drive, start)
        loss = tjx.optimal.average(of, process, ts, 3000, solver=tjx.systems.ABOBA())
        falling = optax.adam(optax.cosine_decay_schedule(rate, 200))
        how: Any = {"optimizer": falling, "progress": False, "prices": 2}
        drive = search(loss, drive, key, steps=200, **how).found
    seconds = time.process_time() - clock
    wrong = np.concatenate([failed(drive, key) for key in jax.random.split(jax.random.key(4), 20)])
    rate = float(wrong.mean())
    error = (rate * (1 - rate) / len(wrong)) ** 0.5
    words = "pathwise, of a smoothed force and a smoothed failure"
    return Result(rate, error, 0.0013, seconds, words, curves(drive), {"runs": float(len(wrong))})


@jax.jit
def failed(protocol, key, size=10_000):
    """Who is on the wrong side at the end, by their step and their table, the force sharp."""
    steps, dt = round(0.5 / 1090e-6 / 0.1), 0.1 * FAST
    keep = jnp.exp(-dt / Q)
    entries = table(protocol, jnp.pi)
    driven = {name: v[(jnp.arange(steps) * TABLE) // steps] for name, v in entries.items()}
    rest = {"c0": jnp.zeros(2 * steps), "c1": jnp.full(2 * steps, 5.0)}
    controls = {name: jnp.append(driven[name], rest[name]) for name in rest}
    keys = jax.random.split(key, 3)
    side = jnp.where(jax.random.bernoulli(keys[0], shape=(size,)), 5.0, -5.0)
    x, v = side + jax.random.normal(keys[1], (size,)), jax.random.normal(keys[2], (size,))

    def step(state, now):
        (x, v), (k, c0, c1) = state, now
        force = jnp.where(x > c0, c1, -c1) - x
        kick = jnp.sqrt(1 - keep**2) * jax.random.normal(jax.random.fold_in(key, k), (size,))
        return (x + v * dt, keep * v + (1 - keep) * Q * force + kick), None

    count = jnp.arange(3 * steps)
    (x, _), _ = jax.lax.scan(step, (x, v), (count, controls["c0"], controls["c1"]))
    return x >= 0


# ---- 4. an active particle


SPAN = 0.44
FIRST, LAST = {"kappa": 4.0, "lam": 0.0}, {"kappa": 4.0, "lam": 5.0}
BOUNDS = {"kappa": (1.0, 7.0), "lam": (0.0, 11.0)}
EDGES = np.linspace(0.001, 5.0, 101)
CENTRES = jnp.asarray(0.5 * (EDGES[1:] + EDGES[:-1]))
MATCHED = 73  # bins in which a million runs leave something


def swum(controls, normals, dt):
    """Where the particle is after the chain's steps, given how it turned: the mean place, as a complex number, and the
    variance of each coordinate. The noise of the place is Gaussian, and is not sampled."""

    def step(state, now):
        (angle, mean, variance), (kappa, lam, z) = state, now
        keep = 1 - kappa * dt
        mean = keep * mean + lam * dt * jnp.exp(1j * angle)
        return (angle + (2 * dt) ** 0.5 * z, mean, keep**2 * variance + 2 * dt), None

    mean = jnp.zeros(normals.shape[1], complex)  # by symmetry the first angle does not matter
    start = jnp.zeros(normals.shape[1]), mean, jnp.asarray(0.25)
    end, _ = jax.lax.scan(step, start, (controls["kappa"], controls["lam"], normals))
    return end[1:]


def radial(mean, variance):
    """The density of the distance, averaged over the turns: Rice's law around each mean place."""
    r, at = CENTRES[:, None], jnp.abs(mean)
    rice = r / variance * jnp.exp(-((r - at) ** 2) / (2 * variance))
    return jnp.mean(rice * jax.scipy.special.i0e(r * at / variance), axis=1)


def squeezed(controls, dt):
    """<W> of the chain, exactly: the work of turning kappa is of <r^2>, and <r^2> and <r . e> are closed."""

    def step(state, now):
        (square, along), (before, kappa, lam) = state, now
        keep, push = 1 - kappa * dt, lam * dt
        work = 0.5 * (kappa - before) * square
        square = keep**2 * square + 2 * keep * push * along + push**2 + 4 * dt
        return (square, jnp.exp(-dt) * (keep * along + push)), work

    kappa = controls["kappa"]
    befores = jnp.append(FIRST["kappa"], kappa[:-1])
    start = jnp.asarray(0.5), jnp.asarray(0.0)
    (square, _), works = jax.lax.scan(step, start, (befores, kappa, controls["lam"]))
    return jnp.sum(works) + 0.5 * (LAST["kappa"] - kappa[-1]) * square


@jax.jit
def steady():
    """The radial density at (4, 5) after a time of 4."""
    hold = {name: jnp.full(2000, value) for name, value in LAST.items()}
    return radial(*swum(hold, jax.random.normal(jax.random.key(0), (2000, 20_000)), 2e-3))


def within(bounds):
    """Each control held between its bounds: updates go no further."""

    def held(value, change, low, high):
        return jnp.clip(value + change, low, high) - value

    def update(updates, state, params=None):
        inner = updates.protocols
        for name, (low, high) in bounds.items():
            values = held(params.protocols[name].values, inner[name].values, low, high)
            inner = inner | {name: eqx.tree_at(lambda p: p.values, inner[name], values)}
        return eqx.tree_at(lambda p: p.protocols, updates, inner), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def active():
    """r' = lam e(theta) - kappa r + noise: to the steady density of (4, 5) in a time of .44, and work is gained."""
    clock = time.process_time()
    steps, size, knots, updates = 110, 1000, 45, 2000
    dt = SPAN / steps
    target = steady()

    def loss(protocol, key):
        controls = jax.vmap(protocol)((jnp.arange(steps) + 0.5) * dt)
        density = radial(*swum(controls, jax.random.normal(key, (steps, size)), dt))
        return 1e3 * jnp.sum((density - target) ** 2) / MATCHED + squeezed(controls, dt)

    times = jnp.linspace(0.0, SPAN, knots)
    plain = {
        name: Piecewise(times, jnp.full(knots, LAST[name]), FIRST[name], LAST[name])
        for name in BOUNDS
    }
    rate = optax.cosine_decay_schedule(0.3, updates)
    how: Any = {"optimizer": optax.chain(optax.adam(rate), within(BOUNDS)), "progress": False}
    found = search(loss, Joint(plain), jax.random.key(1), steps=updates, **how)
    seconds = time.process_time() - clock
    value, stderr, extra = scored(found.found, target)
    words = "pathwise, the noise of the place integrated"
    return Result(value, stderr, -0.0029507, seconds, words, curves(found.found), extra)


def scored(protocol, target, blocks=10, size=100_000):
    """The objective of a million runs by their step: the work exactly, the density by a histogram, and without one."""
    dt = 4e-4
    steps = round(SPAN / dt)
    entries = table(protocol, SPAN)
    controls = {name: v[(jnp.arange(steps) * TABLE) // steps] for name, v in entries.items()}

    @jax.jit
    def block(key):
        turns, places = jax.random.split(key)
        normals = jax.random.normal(turns, (steps, size), jnp.float32)
        mean, variance = swum(controls, normals, dt)
        z = jax.random.normal(places, (2, size))
        r = jnp.abs(mean + jnp.sqrt(variance) * (z[0] + 1j * z[1]))
        return jnp.histogram(r, jnp.asarray(EDGES))[0], radial(mean, variance)

    keys = jax.random.split(jax.random.key(2), blocks)
    counts, smooth = zip(*(block(key) for key in keys), strict=True)
    counts, width = np.stack(counts), EDGES[1] - EDGES[0]
    work = float(squeezed(controls, dt))
    matched = (counts.sum(0) > 0) & (np.asarray(target) * width * size * blocks > 1)

    def delta(density):
        return np.mean(((density - np.asarray(target)) ** 2)[matched])

    density = counts.sum(0) / (size * blocks * width)
    off, total = density - np.asarray(target), delta(density)
    noise = density / (size * blocks * width)  # the variance of each bin
    spread = np.sqrt(np.sum(((4 * off**2 + 2 * noise) * noise)[matched])) / matched.sum()
    exact = delta(np.mean(smooth, 0)) + 1e-3 * work
    return (
        total + 1e-3 * work,
        spread,
        {"work": work, "delta": total, "exact": exact, "bins": int(matched.sum())},
    )


# ---- all of them


def problems():
    """The problems by name: single precision where numbers are drawn, double where they are exact."""
    found = {"trap": trap(), "trap_underdamped": inertial(True)}
    found["trap_underdamped_no_kicks"] = inertial(False)
    with jax.enable_x64(False):
        found["erasure"] = erasure()
    found["active"] = active()
    try:
        from nestbench_ising import solve
    except ImportError:
        return found
    with jax.enable_x64(False):
        magnet = solve()
    words = "score, with the cost to come and a baseline"
    parts = [magnet[name] for name in ("value", "stderr", "theirs", "seconds")]
    return found | {"ising": Result(*parts, words, curves(magnet["protocol"]), {})}


TITLES = {
    "trap": "trap, overdamped",
    "trap_underdamped": "trap, underdamped",
    "trap_underdamped_no_kicks": "trap, underdamped, no kicks",
    "erasure": "erasure",
    "active": "active particle",
    "ising": "Ising model",
}


NAMES = {  # of the controls
    "trap": {"lam": "centre"},
    "trap_underdamped": {"lam": "centre", "J": "impulse"},
    "trap_underdamped_no_kicks": {"lam": "centre"},
    "erasure": {"c0": "where the wells meet", "c1": "where they lie"},
    "active": {"kappa": "stiffness", "lam": "speed"},
    "ising": {"h_T": "field / temperature", "ln_T": "ln temperature"},
}


def main(found):
    figure, panels = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
    print(f"{'':28s}{'ours':>16s}{'theirs':>12s}{'CPU s':>8s}  gradient")
    for panel, (name, result) in zip(panels.flat, found.items(), strict=False):
        value = f"{result.value:.6f}" + (f" ± {result.stderr:.6f}" if result.stderr else "")
        row = f"{TITLES[name]:28s}{value:>20s}{result.theirs:12.7g}{result.seconds:8.0f}"
        also = "; ".join(f"{key} {float(v):.6g}" for key, v in result.extra.items())
        print(f"{row}  {result.gradient}" + (f" ({also})" if also else ""))
        times = np.concatenate([[0.0], np.linspace(0.0, 1.0, 401), [1.0]])
        for (control, values), colour in zip(result.curves.items(), ("C0", "C3"), strict=False):
            panel.plot(times, values, color=colour, label=NAMES[name][control])
        panel.legend(fontsize=8)
        panel.set_title(f"{TITLES[name]}\n{value} (theirs {result.theirs:.6g})", fontsize=9)
        panel.set_xlabel("time / duration")
    for panel in panels.flat[len(found) :]:
        panel.set_axis_off()
    report = {
        name: {
            **{
                key: float(getattr(result, key)) for key in ("value", "stderr", "theirs", "seconds")
            },
            "gradient": result.gradient,
            **{key: float(value) for key, value in result.extra.items()},
        }
        for name, result in found.items()
    }
    out = Path("out")
    out.mkdir(exist_ok=True)
    figure.savefig(out / "nestbench.png", dpi=95)
    (out / "nestbench.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(problems())
