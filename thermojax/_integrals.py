"""Integrals along stored paths, each from the states alone: what the ledger is held against."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._jit import jit
from ._ledger import exchange
from ._nodes import nodes
from ._paths import Path
from ._process import Process, each_path, ends
from ._products import matmul
from ._types import Array, Control, Density, Drive, Scalar, State, Times
from .densities import GaussianParts
from .protocols import AbstractProtocol
from .systems import AbstractOverdamped, Rule

_NODES = tuple(nodes(2)[0].tolist())  # exact for the energy differences of a quartic potential


class Parts(NamedTuple):
    r"""Of each path: the turns of $\phi$ and $\int \beta f \circ dx$ (less $\int \nabla\cdot u\,dt$); the sizes of the turns
    of U and of the works of f; how far T changes, relative to its greatest; the size of the terms."""

    turns: Array
    push: Array
    moved: Array
    pushed: Array
    warmed: Array
    size: Array


def rows(xs: Array) -> Array:
    """States `(paths, m, d)`, also of one path."""
    return xs if xs.ndim == 3 else xs[None]


def parts(process: Process, path: Path) -> Parts:
    """The parts of each path, `(paths,)`; one bath."""
    return jtu.tree_map(jnp.atleast_1d, _parts(process, path))


def _middles(process: Process, path: Path) -> tuple[Control, Control, Control]:
    """The controls of the steps, those before each, and that after the last."""
    before, after = ends(process.protocol, path.ts)
    lams = jax.vmap(process.protocol)(0.5 * (path.ts[1:] + path.ts[:-1]))
    lasts = jtu.tree_map(
        lambda b, v: jnp.concatenate([jnp.asarray(b, v.dtype)[None], v[:-1]]), before, lams
    )
    return lams, lasts, after


@jit
def _parts(process: Process, path: Path) -> Parts:
    system = process.system

    def one(process: Process, path: Path) -> Parts:
        lams, lasts, after = _middles(process, path)
        x0, x1 = path.xs[:-1], path.xs[1:]
        energy = jax.vmap(system.energy)
        temperature = jax.vmap(system.temperature, axis_size=len(x0))
        now, then, warmth = energy(x0, lams), energy(x0, lasts), temperature(lams)
        turns = now / warmth - then / temperature(lasts)
        last, end = energy(x1, lams)[-1], system.energy(x1[-1], after)
        jump = end / system.temperature(after) - last / warmth[-1]

        def pushed(x0: State, x1: State, lam: Control, dt: Scalar) -> tuple[Scalar, Scalar]:
            both = system.energy(x0, lam), system.energy(x1, lam)
            step = system.step("alternating")
            work = exchange(system, step, (x0, x1), both, lam, dt, "alternating").work
            nats = work / system.temperature(lam)
            if isinstance(system, AbstractOverdamped) and system.velocity is not None:
                nats = nats - 0.5 * (system.dilation(x0, lam) + system.dilation(x1, lam)) * dt
            return nats, jnp.abs(work)

        push, size = jax.vmap(pushed)(x0, x1, lams, jnp.diff(path.ts))
        warm = jnp.append(temperature(lasts), system.temperature(after))
        return Parts(
            jnp.sum(turns) + jump,
            jnp.sum(push),
            jnp.sum(jnp.abs(now - then)) + jnp.abs(end - last),
            jnp.sum(size),
            jnp.ptp(warm) / jnp.max(warm),
            jnp.max(jnp.abs(now) / warmth) + jnp.abs(jump) + jnp.max(size / warmth),
        )

    return each_path(one, (process,), path)


@jit
def energy_balance(process: Process, path: Path, work: Array, heat: Array) -> tuple[Array, Array]:
    r"""$\Delta U - (W - Q)$ of each path, and the size of the terms."""
    energy = process.system.energy

    def one(process: Process, path: Path, work: Array, heat: Array) -> tuple[Array, Array]:
        before, after = ends(process.protocol, path.ts)
        u0, u1 = energy(path.xs[0], before), energy(path.xs[-1], after)
        along = jax.vmap(energy)(path.xs, jax.vmap(process.protocol)(path.ts))
        size = jnp.max(jnp.abs(along)) + jnp.abs(u0) + jnp.abs(u1) + jnp.abs(work)
        heats = jnp.sum(heat)
        return u1 - u0 - work + heats, size + jnp.sum(jnp.abs(heat))

    return each_path(one, (process,), path, work, heat)


@jit
def levels(process: Process, density: Density, lam: Control, xs: Array) -> tuple[Array, Array]:
    r"""$\ln p + \phi$ at points `(n, d)`, and the size of the terms: $\beta F$ everywhere, if p is the equilibrium."""
    system = process.system

    def at(x: State) -> tuple[Scalar, Scalar]:
        phi, height = system.energy(x, lam) / system.temperature(lam), density.log_prob(x)
        return height + phi, jnp.abs(height) + jnp.abs(phi)

    return jax.vmap(at)(xs)


@jit
def ito_sum(process: Process, path: Path, force: bool, rule: Rule) -> Array:
    r"""$\int g \cdot dx + \int D\, \nabla\!\cdot\!g\, dt$ of each path, g = F, or f/T.

    `rule="kernel"`: the second term is that which, in the mean over Euler's steps, makes up the difference between the
    ledger's product and the first exactly: with $n = dx - b\,dt$,
    $\langle [g(x_s) - g(x_0)] \cdot dx \rangle = \langle [g(x_s) - g(x_0)] \cdot b \rangle dt + 2 D s\,dt\,
    \langle \nabla\!\cdot g(x_s) \rangle$, $x_s = x_0 + s\,dx$.
    """
    system = process.system
    assert isinstance(system, AbstractOverdamped)

    def one(process: Process, path: Path) -> Array:
        def step(x0: State, x1: State, lam: Control, dt: Scalar) -> Scalar:
            diffusion = jnp.broadcast_to(system.diffusion(x0, lam), x0.shape)
            drift, dx = system.drift(x0, lam), x1 - x0

            def slopes(fn: Callable[[State], State], x: State) -> Scalar:
                return jnp.sum(diffusion * jnp.diagonal(jax.jacfwd(fn)(x)))

            def missing(
                fn: Callable[[State], State], nodes: tuple[tuple[float, float], ...]
            ) -> Scalar:
                if rule == "alternating":
                    return slopes(fn, x0) * dt
                terms = (
                    w
                    * (
                        jnp.sum((fn(x0 + s * dx) - fn(x0)) * drift)
                        + 2 * s * slopes(fn, x0 + s * dx)
                    )
                    for s, w in nodes
                )
                return sum(terms, jnp.zeros((), x0.dtype)) * dt

            push = lambda x: jnp.asarray(system.push(x, lam))
            if force:
                g = push(x0)
                more = missing(push, ((1.0, 0.5),))
                return (jnp.sum(g * dx) + more) / system.temperature(lam)
            pull = lambda x: -jax.grad(system.energy)(x, lam)
            more = missing(push, ((1.0, 0.5),)) + missing(pull, tuple((s, 0.5) for s in _NODES))
            return jnp.sum((push(x0) + pull(x0)) * dx) + more

        lams = jax.vmap(process.protocol)(0.5 * (path.ts[1:] + path.ts[:-1]))
        return jnp.sum(jax.vmap(step)(path.xs[:-1], path.xs[1:], lams, jnp.diff(path.ts)))

    return each_path(one, (process,), path)


def relative_entropy(mean: Array, cov: Array, other: GaussianParts) -> tuple[Scalar, Scalar]:
    r"""$KL(N(m, \Sigma) \| q)$ of a Gaussian q, and the size of the terms."""
    ratio, away = jnp.linalg.solve(other.cov, cov), mean - other.mean
    square = matmul(away, jnp.linalg.solve(other.cov, away))
    kl = 0.5 * (jnp.trace(ratio) - mean.size + square - jnp.linalg.slogdet(ratio)[1])
    # how far away the places are that are taken off each other
    digits = jnp.sum(jnp.abs(mean) / jnp.sqrt(jnp.diagonal(other.cov)))
    return kl, mean.size + jnp.trace(ratio) + square + digits


def around(parts: GaussianParts) -> Array:
    """A few points of a Gaussian."""
    root = jnp.linalg.cholesky(parts.cov)
    offsets = jnp.concatenate([jnp.zeros_like(root[:1]), root.T, -2 * root.T])
    return parts.mean[None] + offsets


@jit
def potential(process: Process, lam: Control, points: Array) -> Array:
    r"""$\phi = U/T$ at points `(n, d)`."""
    system = process.system
    return jax.vmap(lambda x: system.energy(x, lam) / system.temperature(lam))(points)


def relative_mass(p: Array, height: Array) -> tuple[Scalar, Scalar]:
    r"""$\sum p \ln p/q$ of masses p and $\ln q$ = `height` less its normaliser, and the size of the terms.

    What a scheme leaves in cells a little below zero counts in their energies, and not in their entropy.
    """
    filled = p > 0
    own = jnp.log(jnp.where(filled, p, 1))
    terms = p * (jnp.where(filled, own, 0) - jax.nn.log_softmax(height))
    return jnp.sum(terms), 1 + jnp.sum(jnp.abs(terms)) + jnp.sum(jnp.abs(p * own))


def just_before(drive: Drive, ts: Times) -> Times:
    """The times, all but the first earlier by what the edges of `Steps` take for rounding."""
    span = (drive.t0, drive.t1) if isinstance(drive, AbstractProtocol) else ()
    size = jnp.max(jnp.abs(jnp.stack([*span, ts[0], ts[-1]]).astype(ts.dtype)))
    return (ts - 4 * jnp.spacing(size)).at[0].set(ts[0])


def refined(ts: Times, begins: Array, ends: Array) -> tuple[Scalar, Scalar]:
    r"""$\int r\, dt$ of a rate with the values `begins` after each time and `ends` before it, by Simpson's rule where they
    are the same in the middle of two steps; and by how much two steps of the trapezoidal rule differ from one, added up."""
    steps = 0.5 * jnp.diff(ts) * (begins[:-1] + ends[1:])
    pairs = 2 * (steps.shape[0] // 2)
    two = steps[:pairs:2] + steps[1:pairs:2]
    one = 0.5 * (ts[2::2] - ts[:-2:2]) * (begins[:-2:2] + ends[2::2])
    here, there = begins[1:pairs:2], ends[1:pairs:2]
    near = jnp.sqrt(jnp.finfo(ts.dtype).eps) * (jnp.abs(here) + jnp.abs(there))
    off = jnp.where(jnp.abs(here - there) <= near, (two - one) / 3, 0)
    return jnp.sum(steps) + jnp.sum(off), jnp.sum(jnp.abs(two - one))


def every_other(size: int) -> np.ndarray:
    """Every other index, and the last."""
    return np.unique(np.append(np.arange(0, size, 2), size - 1))


def thinned(path: Path) -> Path:
    """Without every other state; both ends stay."""
    kept = every_other(path.xs.shape[-2])
    return Path(path.ts[..., kept], path.xs[..., kept, :], path.ok)
