"""Entropy production of self-propelled particles from a learned score, and what the parity of their activity changes.

Particles x that swim along an activity g of their own, dx = (F + v0 g) dt + sqrt(2 ε) dW, dg = -γ g dt + sqrt(2 γ) dW. A
network learns the score ∇ ln ρ of the steady density from samples alone, by score matching; the local velocity and the
entropy production of each particle follow (Boffi & Vanden-Eijnden, arXiv:2309.12991). Three systems: one particle in a
trap, with a closed form; two on a ring, with a density on a grid; 64 in a trap, with the heat of simulated paths. All with
the activity even and odd under time reversal, which are two different numbers. Writes out/active_matter.json and .png.
"""

import json
import time
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import thermojax as tjx
from thermojax import evolve, protocols, rates

SOURCE = "Boffi & Vanden-Eijnden, arXiv:2309.12991"
SINGLE = jnp.float32  # of samples and networks


class Activity(NamedTuple):
    speed: float  # v0
    turning: float  # gamma
    noise: float  # epsilon


ALONE, PAIR, MANY = (Activity(1.5, 0.7, 0.2), Activity(0.25, 0.1, 0.1), Activity(0.2, 0.1, 0.1))
PUSH, SOFT, RADIUS, TRAP = 2.5, 0.2, 1.0, 0.05


def swimmers(potential, activity, n, odd=False, dtype=None):
    """The state is (x, g), n coordinates each. An even activity pushes, by a force; an odd one carries, like a flow."""
    v0, gamma, noise = activity

    def energy(z, lam):
        return potential(z[:n]) + 0.5 * jnp.sum(z[n:] ** 2)

    def swim(z, lam):
        return jnp.concatenate([v0 * z[n:], 0 * z[n:]])

    mobility, temperature = (
        jnp.repeat(jnp.asarray(pair, dtype), n) for pair in ((1.0, gamma), (noise, 1.0))
    )
    if odd:
        return tjx.Overdamped(energy, None, mobility, temperature, velocity=swim)
    return tjx.Overdamped(energy, swim, mobility, temperature)


def trap(x):
    return 0.5 * jnp.sum(x**2)


def repulsion(distance):
    """A soft disk: half a spring that is pressed where two overlap."""
    overlap = 2 * RADIUS - distance
    return 0.5 * PUSH * (0.5 * (overlap + jnp.sqrt(overlap**2 + SOFT**2))) ** 2


RING = 16.0  # around it; the coordinate of a pair is (x1 - x2)/sqrt 2


def on_ring(x):
    """Of two on a ring, in the normal coordinate of their distance."""
    angle = 2 * jnp.pi * x[0] * 2**0.5 / RING
    near = RING / jnp.pi * jnp.abs(jnp.sin(angle / 2))  # a chord: the distance, where they touch
    return repulsion(near)


def crowd(x):
    """Soft disks of the plane in a weak trap."""
    x = x.reshape(-1, 2)
    apart = x[:, None] - x[None]
    own = jnp.eye(len(x), dtype=x.dtype)
    distance = jnp.sqrt(jnp.sum(apart**2, -1) + 1e6 * own)
    return 0.5 * jnp.sum(repulsion(distance) * (1 - own)) + 0.5 * TRAP * jnp.sum(x**2)


# ---- learning a score


class Score(eqx.Module):
    """A score that is known in part: `rest` of equilibrium, and an `extra` that is learned, with its divergence."""

    def __call__(self, z):
        return self.rest(z) + self.extra(z)[0]

    def extra(self, z):
        slopes, u = jax.jacfwd(lambda z: (self.net_of(z),) * 2, has_aux=True)(z)
        return u, jnp.trace(slopes)


def surplus(score, z):
    """|s|^2/2 + div s, whose mean is least at the score of the samples (Hyvarinen), less what does not change."""
    u, divergence = score.extra(z)
    return 0.5 * jnp.sum(u**2) + jnp.sum(score.rest(z) * u) + divergence


def learned(score, samples, key, steps, batch, rate):
    """Adam on the implicit score matching of a set of samples."""
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))
    weights, rest = eqx.partition(score, eqx.is_inexact_array)

    def loss(weights, z):
        return jnp.mean(jax.vmap(lambda z: surplus(eqx.combine(weights, rest), z))(z))

    def update(carry, key):
        weights, state = carry
        z = samples[jax.random.randint(key, (batch,), 0, len(samples))]
        value, slope = jax.value_and_grad(loss)(weights, z)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(weights, change), state), value

    @jax.jit
    def run(weights, keys):
        return jax.lax.scan(update, (weights, adam.init(weights)), keys)

    (weights, _), values = run(weights, jax.random.split(key, steps))
    return eqx.combine(weights, rest), values


class Linear(Score):
    """A score of (x, g): a network and nothing else."""

    net: eqx.nn.MLP

    def __init__(self, key, width=32):
        self.net = eqx.nn.MLP(2, 2, width, 2, jax.nn.silu, key=key, dtype=SINGLE)

    def rest(self, z):
        return 0 * z

    def net_of(self, z):
        return self.net(z)


class OnRing(Score):
    """A score that is periodic in x and odd: the two particles may be exchanged. What is learned is added to equilibrium."""

    net: eqx.nn.MLP

    def __init__(self, key, width=48):
        self.net = eqx.nn.MLP(7, 2, width, 2, jax.nn.silu, key=key, dtype=SINGLE)

    def rest(self, z):
        return jnp.concatenate([-jax.grad(on_ring)(z[:1]) / PAIR.noise, -z[1:]])

    def net_of(self, z):
        force = -jax.grad(on_ring)(z[:1])
        half = lambda z, force: self.net(jnp.concatenate([force, z[1:], waves(z[0])]))
        scale = jnp.asarray([1 / PAIR.noise, 1.0], z.dtype)
        return scale * (half(z, force) - half(-z, -force))


def waves(x):
    angle = 2 * jnp.pi * x * 2**0.5 / RING
    return jnp.stack(
        [f(k * angle) for k in (1, 2) for f in (jnp.cos, jnp.sin)] + [jnp.cos(3 * angle)]
    )


class Crowd(Score):
    """The score of many disks: vectors times functions of what does not turn, so that it turns with the disks, mirrored
    or renamed. A disk sees its nearest ones, by messages that end smoothly at a distance of `reach`; so its own part of
    the divergence is one of four coordinates, and costs no probes."""

    pairs: eqx.nn.MLP
    disks: eqx.nn.MLP
    reach: float = eqx.field(static=True)
    near: int = eqx.field(static=True)

    def __init__(self, key, width=32, reach=2.9, near=8):
        first, second = jax.random.split(key)
        self.pairs = eqx.nn.MLP(6, 10, width, 2, jax.nn.silu, key=first, dtype=SINGLE)
        self.disks = eqx.nn.MLP(14, 6, width, 2, jax.nn.silu, key=second, dtype=SINGLE)
        self.reach, self.near = reach, near

    def rest(self, z):
        n = z.size // 2
        return jnp.concatenate([-jax.grad(crowd)(z[:n]) / MANY.noise, -z[n:]])

    def extra(self, z):
        own = jnp.concatenate([part.reshape(-1, 2) for part in jnp.split(z, 2)], 1)  # (n, 4)
        apart = own[:, None, :2] - own[None, :, :2]
        squares = jnp.sum(apart**2, -1) + 1e6 * jnp.eye(len(own), dtype=z.dtype)
        _, who = jax.lax.top_k(-jax.lax.stop_gradient(squares), min(self.near, len(own) - 1))

        def each(me, others):
            slopes, u = jax.jacfwd(lambda me: (self.one(me, others),) * 2, has_aux=True)(me)
            return u, jnp.trace(slopes)

        u, divergence = jax.vmap(each)(own, own[who])
        return jnp.concatenate([u[:, :2].reshape(-1), u[:, 2:].reshape(-1)]), jnp.sum(divergence)

    def one(self, me, others):
        """What is learned of one disk, (x, g) beside the (x, g) of its neighbours."""
        x, g, theirs = me[:2], me[2:], others[:, 2:]
        away = lambda x: jnp.sqrt(jnp.sum((x[None] - others[:, :2]) ** 2, -1))
        energy = lambda x: jnp.sum(repulsion(away(x))) + 0.5 * TRAP * jnp.sum(x**2)
        force, distance = -jax.grad(energy)(x), away(x)
        along = (x[None] - others[:, :2]) / distance[:, None]
        seen = [
            distance - 2 * RADIUS,
            jnp.sum(along * g[None], -1),
            jnp.sum(along * theirs, -1),
            jnp.sum(theirs * g[None], -1),
            jnp.sum(theirs**2, -1) - 2,
            jnp.broadcast_to(jnp.sum(g**2) - 2, distance.shape),
        ]
        weight = jnp.maximum(1 - (distance / self.reach) ** 2, 0) ** 2
        told = weight[:, None] * jax.vmap(self.pairs)(jnp.stack(seen, -1))
        sums = [jnp.sum(told[:, i : i + 1] * along, 0) for i in (0, 1)]
        sums += [jnp.sum(told[:, i : i + 1] * theirs, 0) for i in (2, 3)]
        v = [x / 4, g, 4 * force, *sums]
        pairs = ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 3), (1, 3))
        inner = jnp.stack([jnp.sum(v[i] * v[j]) for i, j in pairs])
        a = self.disks(jnp.concatenate([jnp.tanh(inner / 4), jnp.sum(told[:, 4:], 0)]))
        of = lambda a: a[0] * v[0] + a[1] * v[1] + a[2] * v[2]
        return jnp.concatenate([of(a[:3]) + v[3] + v[5], of(a[3:]) + v[4] + v[6]])


# ---- what is checked


def off_balance(system, score, z, key):
    """<(div v + v.s)^2>, zero of the true score, over <(v.s)^2>: of two probes, so that their noise drops out."""

    def one(z, probes):
        velocity = rates.velocity(system, 0.0, score)
        v = velocity(z)
        carried = jnp.sum(v * score(z))
        first, second = (jnp.sum(e * jax.jvp(velocity, (z,), (e,))[1]) for e in probes)
        return (first + carried) * (second + carried), carried**2

    probes = jax.random.rademacher(key, (len(z), 2, z.shape[1]), z.dtype)
    miss, whole = jax.jit(jax.vmap(one))(z, probes)
    return float(jnp.mean(miss) / jnp.mean(whole))


def swum(system, start, key, paths, span, dt, save="ends"):
    """Medium entropy per time of simulated paths, for which no score is asked; and the states that were saved."""
    still = protocols.ramp(*jnp.asarray([0.0, 0.0, span], SINGLE))
    process = tjx.Process(system, still, start)
    ts = jnp.linspace(0.0, span, round(span / dt) + 1, dtype=SINGLE)
    run = tjx.ensemble(process, ts, key, paths, save=save)
    return run.entropy.medium / span, run.path.xs


def closed_form(activity, stiffness=1.0):
    """Rates in a trap, for the even and the odd activity."""
    v0, gamma, noise = activity
    return {
        "even": v0**2 * gamma / (noise * (gamma + stiffness)),
        "odd": v0**2 * stiffness / (noise * (gamma + stiffness)),
    }


PARITIES = ("even", "odd")


def exact_alone(parity):
    """The rate of thermojax, from the moments of the steady state."""
    system = swimmers(trap, ALONE, 1, parity == "odd")
    pi = evolve.steady(system, 0.0, dim=2)
    process = tjx.Process(system, protocols.ramp(0.0, 0.0, 1.0), pi)
    still = evolve.moments(process, jnp.linspace(0.0, 1.0, 3))
    return float(rates.along(process, still, split=None).total[0])


def alone(key, samples=40_000, steps=1500, batch=512):
    """A network's score of one in a trap, and the rates from it."""
    draw, make, train, other = jax.random.split(key, 4)
    pi = evolve.steady(swimmers(trap, ALONE, 1), 0.0, dim=2)
    drawn = lambda key: jax.vmap(pi.sample)(jax.random.split(key, samples)).astype(SINGLE)
    score, _ = learned(Linear(make), drawn(draw), train, steps, batch, 5e-3)
    unseen = drawn(other)
    found = {}
    for parity in PARITIES:
        system = swimmers(trap, ALONE, 1, parity == "odd", SINGLE)
        found[parity] = jax.jit(lambda z, system=system: rates.sampled(system, 0.0, score, z))(
            unseen
        )
    return score, found


def ring_density(cells):
    """The steady density of a pair, on a grid of (x, g)."""
    half = RING / 2 / 2**0.5
    grid = evolve.Grid((-half, -5.5), (half, 5.5), cells, periodic=(True, False))
    return grid, evolve.steady(swimmers(on_ring, PAIR, 1), 0.0, grid)


def ring_rate(grid, pi):
    process = tjx.Process(swimmers(on_ring, PAIR, 1), protocols.ramp(0.0, 0.0, 1e-3), pi)
    still = evolve.fokker_planck(process, jnp.linspace(0.0, 1e-3, 3), grid)
    return float(rates.along(process, still, split=None).total[0])


def ring(key, paths=1024, span=40.0, steps=2000, batch=512):
    """Two on a ring: samples by simulation, a network's score, rates from it and from the heat."""
    draw, make, train, *runs = jax.random.split(key, 5)
    _, pi = ring_density((96, 32))  # a start that is near to the steady state
    start = tjx.densities.Empirical(
        jax.vmap(pi.sample)(jax.random.split(draw, 8 * paths)).astype(SINGLE)
    )
    systems = {p: swimmers(on_ring, PAIR, 1, p == "odd", SINGLE) for p in PARITIES}
    heat, states = {}, []
    for parity, run in zip(PARITIES, runs, strict=True):
        heat[parity], xs = swum(systems[parity], start, run, paths, span, 0.02, save=100)
        states.append(xs[:, 4:].reshape(-1, 2))  # the first 8 times to forget the start
    score, _ = learned(OnRing(make), states[0], train, steps, batch, 3e-3)
    unseen = states[1][:: max(1, len(states[1]) // 8000)]
    found = {
        p: jax.jit(lambda z, p=p: rates.sampled(systems[p], 0.0, score, z))(unseen)
        for p in PARITIES
    }
    return score, found, heat, unseen


def many(key, n=64, paths=24, span=60.0, dt=0.025, steps=2000, batch=8):
    """The same of n disks of the plane: samples, score, heat, and two sets of states, seen and unseen."""
    make, train, first, *runs = jax.random.split(key, 5)
    widths = jnp.repeat(jnp.asarray([0.5 * n, 1.0], SINGLE), 2 * n)
    systems = {p: swimmers(crowd, MANY, 2 * n, p == "odd", SINGLE) for p in PARITIES}
    wide = tjx.densities.Gaussian(jnp.zeros(4 * n, SINGLE), widths)
    _, xs = swum(systems["even"], wide, first, paths, span, dt)
    start = tjx.densities.Empirical(xs[:, -1])
    heat, states = {}, []
    for parity, run in zip(PARITIES, runs, strict=True):
        heat[parity], xs = swum(systems[parity], start, run, paths, span, dt, save=round(2 / dt))
        states.append(xs[:, 1:].reshape(-1, 4 * n))
    score, losses = learned(Crowd(make), states[0], train, steps, batch, 3e-3)
    return score, systems, heat, states[1], losses


def local(system, score, z, n):
    """v^2/D of each of the n particles, in each state."""
    v = rates.velocity(system, 0.0, score)
    spread = system.diffusion(z[0], 0.0)
    one = lambda z: jnp.sum((v(z) ** 2 / spread).reshape(2, n, -1), (0, 2))
    return jax.jit(lambda z: jax.lax.map(one, z))(z)


def drifting(system, score, z, functions):
    """<v . grad phi> for each function, which a steady density makes zero, over what v and grad phi could make of it."""
    velocity = rates.velocity(system, 0.0, score)

    def one(z):
        v, slopes = velocity(z), [jax.grad(phi)(z) for phi in functions]
        return jnp.stack([jnp.sum(v * slope) for slope in slopes]), jnp.stack(
            [jnp.sum(v**2) * jnp.sum(slope**2) for slope in slopes]
        )

    along, whole = jax.jit(lambda z: jax.lax.map(one, z))(z)
    return jnp.max(jnp.abs(jnp.mean(along, 0)) / jnp.sqrt(jnp.mean(whole, 0)))


# ---- the figure and the numbers


def row(what, exact, ours, error, within):
    """One line of what is reproduced."""
    return {
        "what": what,
        "source": SOURCE,
        "exact": float(exact),
        "theirs": None,
        "ours": float(ours),
        "error": None if error is None else float(error),
        "within": float(within),
    }


def mean(values, n=1):
    values = np.asarray(values, float) / n
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def main(n=64, sizes=None):
    began = time.process_time()  # of the processor: the wall depends on what else runs
    sizes = {"alone": {}, "ring": {}, "many": {}} if sizes is None else sizes
    keys = jax.random.split(jax.random.key(0), 5)
    rows, found = [], {"cpu": {}}

    def clock(name):
        found["cpu"][name] = time.process_time() - began - sum(found["cpu"].values())

    # one in a trap
    known = closed_form(ALONE)
    score, by_score = alone(keys[0], **sizes["alone"])
    for p in PARITIES:
        total = by_score[p].total
        what = f"one in a trap, {p} activity"
        rows.append(row(f"{what}, from the moments", known[p], exact_alone(p), None, 1e-8))
        rows.append(
            row(f"{what}, learned score", known[p], total.value, total.stderr, 0.02 * known[p])
        )
    found["alone"] = {p: (float(by_score[p].total.value), known[p]) for p in PARITIES}
    clock("alone")

    # two on a ring, in the coordinate of their distance; their centre is free, and adds v0^2/noise or nothing
    coarse, fine = (ring_rate(*ring_density(cells)) for cells in ((96, 32), (192, 64)))
    free = PAIR.speed**2 / PAIR.noise
    on_grid = {"even": fine + (fine - coarse) / 3}
    on_grid["odd"] = free - on_grid["even"]
    score, by_score, heat, states = ring(keys[1], **sizes["ring"])
    for p in PARITIES:
        what, total = f"two on a ring, {p} activity", by_score[p].total
        exact = on_grid[p] + (free if p == "even" else 0.0)
        centre = exact - on_grid[p]
        ours, error = mean(heat[p])
        rows += [
            row(f"{what}, heat of paths", exact, ours + centre, error, 4 * error),
            row(
                f"{what}, learned score",
                exact,
                total.value + centre,
                total.stderr,
                max(0.03 * exact, 3 * total.stderr),
            ),
        ]
    system = swimmers(on_ring, PAIR, 1, False, SINGLE)
    checks = [lambda z: on_ring(z[:1]), lambda z: z[1] * jnp.sin(2 * jnp.pi * z[0] * 2**0.5 / RING)]
    checks += [lambda z: z[1] * on_ring(z[:1]), lambda z: z[1] ** 2]
    equilibrium = lambda z: jnp.concatenate([-jax.grad(on_ring)(z[:1]) / PAIR.noise, -z[1:]])
    found["ring"] = {
        "grid": on_grid,
        "grid_error": abs(fine - coarse) / 3,
        "residual": off_balance(system, score, states[:4000], keys[2]),
        "residual_untrained": off_balance(system, equilibrium, states[:4000], keys[2]),
        "drift": float(drifting(system, score, states[:4000], checks)),
        "drift_untrained": float(drifting(system, equilibrium, states[:4000], checks)),
    }
    clock("ring")
    ring_score = score

    # many in a trap
    score, systems, heat, states, _ = many(keys[3], n, **sizes["many"])
    each = {p: local(systems[p], score, states, n) for p in PARITIES}
    both = 2 * MANY.speed**2 / MANY.noise
    # what a network misses is orthogonal to what it can say, so that both rates lack the same <D |ds|^2>
    by_score = {p: mean(each[p])[0] for p in PARITIES}
    lacks = 0.5 * (both - sum(by_score.values()))
    for p in PARITIES:
        exact, error = mean(heat[p], n)
        what = f"{n} in a trap, per particle, {p} activity, learned score and sum of both, against heat"
        rows.append(row(what, exact, by_score[p] + lacks, error, 4 * error))
    whole = sum(mean(heat[p], n)[0] for p in PARITIES)
    error = float(np.hypot(*(mean(heat[p], n)[1] for p in PARITIES)))
    rows.append(row(f"{n} in a trap, heat of both parities", both, whole, error, 4 * error))
    m = 2 * n
    checks = [lambda z: crowd(z[:m]), lambda z: jnp.sum(z[:m] ** 2), lambda z: jnp.sum(z[m:] ** 2)]
    checks += [lambda z: jnp.sum(z[:m] * z[m:]), lambda z: -z[m:] @ jax.grad(crowd)(z[:m])]
    equilibrium = lambda z: jnp.concatenate([-jax.grad(crowd)(z[:m]) / MANY.noise, -z[m:]])
    few = states[:: max(1, len(states) // 100)]
    found["many"] = {
        "by_score": {p: (by_score[p], mean(heat[p], n)[0]) for p in PARITIES},
        "residual": off_balance(systems["even"], score, few, keys[4]),
        "residual_untrained": off_balance(systems["even"], equilibrium, few, keys[4]),
        "drift": float(drifting(systems["even"], score, few, checks)),
        "drift_untrained": float(drifting(systems["even"], equilibrium, few, checks)),
        "untrained": {p: mean(local(systems[p], equilibrium, few, n))[0] for p in PARITIES},
    }
    clock("many")
    found |= {"reproduced": rows, "seconds": sum(found["cpu"].values())}
    found["cpu_seconds"] = found["seconds"]
    for r in rows:
        error = "" if r["error"] is None else f" +- {r['error']:.2g}"
        print(f"{r['what']}: {r['ours']:.6g}{error} ({r['exact']:.6g})")
    print({k: found[k] for k in ("ring", "many", "cpu")})
    Path("out/active_matter.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(found, ring_score, states, each, n)
    return found


def draw(found, ring_score, states, each, n):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    (one, two), (three, four) = axes

    # the current of the pair, by the learned score
    grid, pi = ring_density((96, 32))
    x, g = (np.asarray(grid.axis(i)) for i in (0, 1))
    levels = np.asarray(pi.p).T / float(pi.p.max())
    one.contourf(
        x * 2**0.5, g, levels, levels=[0.02, 0.1, 0.3, 0.6, 1.0], cmap="Blues", extend="max"
    )
    velocity = rates.velocity(swimmers(on_ring, PAIR, 1, False, SINGLE), 0.0, ring_score)
    some = np.meshgrid(x[::4], g[6:-6:2], indexing="ij")
    points = jnp.asarray(np.stack(some, -1).reshape(-1, 2), SINGLE)
    v = np.asarray(jax.jit(jax.vmap(velocity))(points))
    place = np.asarray(points).astype(float)
    here = np.asarray(jax.vmap(pi.log_prob)(jnp.asarray(place)))
    seen = here > here.max() - 4.5
    one.quiver(
        place[seen, 0] * 2**0.5, place[seen, 1], v[seen, 0] * 2**0.5, v[seen, 1], width=0.004
    )
    one.set(
        xlabel="distance $x_1 - x_2$",
        ylabel=r"$(g_1 - g_2)/\sqrt{2}$",
        ylim=(-3.2, 3.2),
        title="Two on a ring: density and velocity",
    )

    # the learned rates against what is known
    for p, colour, marker in (("even", "C0", "o"), ("odd", "C3", "s")):
        lines = [r for r in found["reproduced"] if f" {p} " in r["what"] and "learned" in r["what"]]
        pairs = [(r["ours"], r["exact"]) for r in lines if "sum" not in r["what"]]
        ours, exact = zip(*pairs, found["many"]["by_score"][p], strict=True)
        two.plot(exact, ours, colour, ls="", marker=marker, label=p)
    ends = np.array([0.1, 10])
    two.loglog(ends, ends, "k", lw=1, label="equal")
    two.set(
        xlabel="exact, on a grid, or by heat",
        ylabel="by the learned score",
        title="Entropy production, nats per time",
    )
    two.legend(title="activity", fontsize=8)

    # a map
    last = -1
    place = np.asarray(states[last][: 2 * n]).reshape(-1, 2)
    swims = np.asarray(states[last][2 * n :]).reshape(-1, 2)
    colours = np.asarray(each["even"][last])
    three.set_aspect("equal")
    circles = [plt.Circle(p, RADIUS * 0.95) for p in place]
    from matplotlib.collections import PatchCollection

    disks = PatchCollection(circles, cmap="viridis", edgecolor="0.3", lw=0.5)
    disks.set_array(colours)
    disks.set_clim(0, np.quantile(np.asarray(each["even"]), 0.95))
    three.add_collection(disks)
    three.quiver(*place.T, *swims.T, color="C1", width=0.006, scale=30)
    width = 1.1 * np.abs(place).max() + RADIUS
    three.set(xlim=(-width, width), ylim=(-width, width), title=f"{n} in a trap, even activity")
    figure.colorbar(disks, ax=three, label="nats per time, of each")

    # where it is produced
    radius = np.linalg.norm(np.asarray(states[:, : 2 * n]).reshape(len(states), n, 2), axis=-1)
    edges = np.quantile(radius, np.linspace(0, 1, 13))
    middle = 0.5 * (edges[1:] + edges[:-1])
    which = np.clip(np.digitize(radius, edges) - 1, 0, 11)
    for p, colour, marker in (("even", "C0", "o"), ("odd", "C3", "s")):
        values = np.asarray(each[p])
        profile = [values[which == i].mean() for i in range(12)]
        four.plot(middle, profile, colour, marker=marker, ms=4, label=p)
    four.axhline(2 * MANY.speed**2 / MANY.noise, color="k", lw=1, ls=":", label="free, even")
    four.set(xlabel="distance from the middle", ylabel="nats per time, of each", title="Where")
    four.set_ylim(bottom=0)
    four.legend(title="activity", fontsize=8)
    figure.savefig("out/active_matter.png", dpi=85)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    Path("out").mkdir(exist_ok=True)
    main()
