"""Five problems of NESTbench25 (Whitelam, Casert, Engel & Tamblyn, arXiv:2506.15122), each from a plain start.

They ask for a protocol; the best ones that they publish were found by genetic algorithms, without a gradient. Here each is
found by one: of exact moments, pathwise, of a smoothed force, or by the score function. What is found is then put into their
own scheme, a table of 1000 controls and their step, and evaluated exactly, or by enough runs that the error tells it from
theirs. Writes out/nestbench.json and .png.
"""

import json
import time
from collections.abc import Callable
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
from thermojax.densities import Boltzmann, Gaussian, Uniform  # noqa: E402
from thermojax.optimal import search  # noqa: E402
from thermojax.protocols import Joint, Piecewise, bounded, ramp  # noqa: E402

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
    protocol: Any
    extra: dict[str, float]


def table(protocol, t1):
    """A protocol as their table: the control in the middle of each of its entries."""
    return jax.vmap(protocol)((jnp.arange(TABLE) + 0.5) * t1 / TABLE)


# ---- 1. a trap that is moved in a fluid


def trap():
    """U = (x - lam)^2/2 from 0 to 5 in a time of 1. The mean work is a function of moments: exact, and so is its gradient."""
    clock = time.perf_counter()
    system = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    start = ramp(0.0, 5.0, 1.0, knots=11)
    process = tjx.Process(system, start, Boltzmann(system, 0.0))
    loss = tjx.optimal.exact_work(process, jnp.linspace(0.0, 1.0, 11))
    found = search(loss, start, steps=60, progress=False)
    seconds = time.perf_counter() - clock

    def step(mean, now):
        before, lam = now
        return mean - 1e-3 * (mean - lam), 0.5 * ((mean - lam) ** 2 - (mean - before) ** 2)

    lams = table(found.found, 1.0)
    mean, turns = jax.lax.scan(step, jnp.zeros(()), (jnp.append(0.0, lams[:-1]), lams))
    last = 0.5 * ((mean - 5.0) ** 2 - (mean - lams[-1]) ** 2)
    return Result(
        float(jnp.sum(turns) + last), 0.0, 8.334037, seconds, "exact, of moments", found.found
    )


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
    clock = time.perf_counter()
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
    print(np.asarray(found.history.loss)[::200])
    seconds = time.perf_counter() - clock
    value, stderr, extra = scored(found.found, target)
    words = "pathwise, the noise of the place integrated"
    return Result(value, stderr, -0.0029507, seconds, words, found.found, extra)


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

    total = delta(counts.sum(0) / (size * blocks * width))
    spread = np.std([delta(c / (size * width)) for c in counts], ddof=1) / blocks**1.5
    exact = delta(np.mean(smooth, 0)) + 1e-3 * work
    return total + 1e-3 * work, spread, {"work": work, "delta": total, "exact": exact, "bins": int(matched.sum())}


if __name__ == "__main__":
    r = active()
    print(r[:5], r.extra)
    print({k: np.asarray(v.values).round(2) for k, v in r.protocol.protocols.items()})
