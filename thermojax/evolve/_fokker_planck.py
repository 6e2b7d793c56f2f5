r"""Any density of an overdamped system in time: the Fokker–Planck equation as the master equation of a lattice."""

import dataclasses
import functools as ft
import math
import warnings
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._grids import within
from .._jit import jit
from .._paths import Entropy, running
from .._process import Process, a_process, baths, check_run, ends, one_protocol
from .._types import Array, Control, Scalar, Times
from ..densities import Boltzmann, Cells, Point
from ..systems import (
    TILTED,
    AbstractOverdamped,
    AbstractSystem,
    Carried,
    Edges,
    Grid,
    Lattice,
    current,
    divergence,
    implicit,
)
from ._evolution import CellEvolution, Totals
from ._moments import inner

Scheme = Literal["second", "positive"]
_GAMMA = 1 - 0.5**0.5  # of the L-stable SDIRK2

# from where a number is marked, and from where it is none
_MUCH = 0.02  # of an equilibrium: what may lie next to the grid
REACH = 1e-2  # of its greatest value, to which a density may reach an end of the grid
_LIMITS = (0.05, 1.0), (1.0, 100.0), (1e-4, REACH), (1e-9, 1e-2)  # of slope, turn, edge, -least


class _Step(NamedTuple):
    p: Array
    heat: Array
    medium: Scalar
    slope: Scalar
    turn: Scalar


def fokker_planck(
    process: Process, ts: Times, grid: Grid, *, scheme: Scheme = "second"
) -> CellEvolution:
    r"""The density of a process on a grid in time, and its mean work, heat, reduced work and entropies.

    $$\partial_t p = -\nabla \cdot (\mu F p - D \nabla p)$$

    as jumps between the cells (`systems.Lattice`), with the alternating ledger of the library: over step k, at the control
    of its middle, the density relaxes implicitly, $p \to p'$, with $\hat J$ what has crossed each edge, and

    $$Q = \sum \hat J\,(f h - \Delta U), \qquad \Delta S_m = \sum \hat J\,(f h - \Delta U)/T, \qquad
      S = -\sum p \ln p\, h^d, \qquad W = \Delta\langle U \rangle + Q .$$

    Mass, first law, $\langle W_\mathrm{diss} \rangle = \langle \Delta S_\mathrm{tot} \rangle + KL(p_\tau \| p_\mathrm{eq})$
    with the discrete equilibria, and rest in equilibrium hold to rounding on any grid with any step. `ts` are the steps, as
    in `ensemble`; jumps and kinks of the protocol belong on them.

    - `scheme="second"`: an L-stable Runge–Kutta scheme of two stages; errors of second order in the steps and in the cells
      (`extrapolated` makes use of that). It may fall below zero by a little (`least`).
    - `scheme="positive"`: implicit Euler, of first order. The density stays positive, and no step of
      `entropy.total` is negative, whatever the step and the start.

    In two dimensions the axes take turns (x for half a step, y, x). T, $\mu$ and f may depend on the control in any way, and
    T may be one per axis; a medium that flows (`velocity`) is refused. The initial density is its `log_prob` at the centres,
    normalised there; from a `Point` the entropies of the system and in all are infinite, as they are in `moments`.
    Differentiable in reverse and forward mode with respect to every leaf, one density per step being kept.

    Raises `ValueError` for an initial density that does not fit the grid; for a density that reaches an end which is no wall
    (or periodic), cells too wide for the slope of the potential, steps in which the control moves too far: where that is
    gross; otherwise it warns and marks `ok`. While tracing, gross means NaN.

    Source: Scharfetter & Gummel (1969); Alexander, SIAM J. Numer. Anal. 14, 1006 (1977); Seifert (2012), sec. 6.
    """
    ts = _front(process, ts, grid, scheme)
    found, mass = _run(process, ts, grid, scheme)
    if not _checks.tracing((found, mass)):
        _told(process, found, float(mass))
    return found


def extrapolated(process: Process, ts: Times, grid: Grid) -> CellEvolution:
    r"""`fokker_planck` on the grid and on one with twice the cells and half the steps, extrapolated: $(4 v_2 - v_1)/3$.

    The errors of the second-order scheme fall by four, so that the totals gain two orders. `error` is how far the totals of
    the finer run are from them, per field: it bounds the error where the asymptotic regime is reached. The density is that
    of the finer run, at `ts`. The cost is five times that of the grid given.
    """
    ts = _front(process, ts, grid, "second")
    halved = jnp.concatenate([ts, 0.5 * (ts[1:] + ts[:-1])]).sort()
    coarse, mass = _run(process, ts, grid, "second")
    fine, _ = _run(process, halved, grid.finer(), "second")
    if not _checks.tracing((fine, mass)):
        _told(process, fine, float(mass))
    one, two = (Totals(e.work, e.heat, e.reduced_work, e.entropy) for e in (coarse, fine))
    two = jtu.tree_map(lambda v: v[::2], two)
    best = jtu.tree_map(lambda a, b: jnp.where(jnp.isinf(b), b, b + (b - a) / 3), one, two)
    error = jtu.tree_map(lambda a, b: jnp.where(jnp.isinf(b), b, jnp.abs(a - b)), best, two)
    return dataclasses.replace(fine, ts=ts, p=fine.p[::2], error=error, **best._asdict())


def _front(process: Process, ts: Times, grid: Grid, scheme: str) -> Times:
    a_process("process", process)
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.evolve.Grid(lower, upper, cells), got {grid!r}.")
    if scheme not in ("second", "positive"):
        raise ValueError(f'scheme must be "second" or "positive", got {scheme!r}.')
    ts = _checks.times("ts", ts)
    one_protocol("fokker_planck", process)
    overdamped("fokker_planck", process.system)
    x = _checks.draw("initial", process.initial)
    if x.shape != (grid.dim,):
        raise ValueError(
            f"The grid has {grid.dim} dimension(s) and the state has shape {x.shape}. Give one end and one number of cells "
            "for each coordinate; of more than two there is no grid: simulate."
        )
    within(process, ts)
    return check_run(process, ts)


def overdamped(name: str, system: AbstractSystem) -> Carried:
    """A system whose density a lattice can carry."""
    if not isinstance(system, Carried):
        raise TypeError(
            f"{name} is for overdamped systems (AbstractOverdamped), and {type(system).__name__} is none. Use "
            "evolve.moments, if all is linear, or thermojax.ensemble; of jumps and spins evolve.master, or steady(states=)."
        )
    if isinstance(system, AbstractOverdamped) and system.velocity is not None:
        raise ValueError(
            f"{name} is for a medium at rest, and this system has a velocity. Use evolve.moments if all is linear, or "
            "thermojax.ensemble."
        )
    return system


@jit
def _run(process: Process, ts: Array, grid: Grid, scheme: Scheme) -> tuple[CellEvolution, Scalar]:
    found, mass = unjudged(process, ts, grid, scheme)
    return _judged(found, mass), mass


def unjudged(
    process: Process, ts: Array, grid: Grid, scheme: Scheme
) -> tuple[CellEvolution, Scalar]:
    """The evolution, whatever it is, and what of the initial density the grid holds."""
    system, protocol = overdamped("fokker_planck", process.system), process.protocol
    lattice = Lattice(system, grid)
    dtype = _checks.draw("initial", process.initial).dtype
    ts = ts.astype(dtype)
    before, after = ends(protocol, ts)
    start, mass = masses(process.initial, grid, dtype)
    several = baths(process, ts)

    @jax.checkpoint
    def step(p: Array, t: tuple[Array, Array]) -> tuple[Array, _Step]:
        lam, dt = protocol(0.5 * (t[0] + t[1])), t[1] - t[0]
        edges = lattice.edges(lam, dtype)
        slope = jnp.sum(jnp.stack([jnp.sum(p * e.affinity**2) for e in edges])) / 12
        later, heats = p, [jnp.zeros((), dtype)] * grid.dim
        for axis, share in sweeps(grid):
            later, flow = relax(later, edges[axis], axis, grid.periodic[axis], share * dt, scheme)
            heats[axis] = heats[axis] + jnp.sum(flow * edges[axis].affinity)
        medium = jnp.stack(heats)
        heat = medium * system.temperature(lam)
        turn = _turned(lattice, protocol, inner(*t, ts), p)
        done = _Step(
            later,
            heat if several else jnp.sum(heat),
            jnp.sum(medium),
            *map(jax.lax.stop_gradient, (slope, turn)),
        )
        return later, done

    _, steps = jax.lax.scan(step, start, (ts[:-1], ts[1:]))
    p = jnp.concatenate([start[None], steps.p])
    heat, medium = (running(v) for v in (steps.heat, steps.medium))

    def mean_energy(p: Array, lam: Control) -> Scalar:
        return jnp.sum(p * lattice.energies(lam, dtype))

    lams = jax.vmap(protocol)(ts)
    lams = jtu.tree_map(lambda v, b, a: v.at[0].set(b).at[-1].set(a), lams, before, after)
    energies = jax.lax.map(lambda at: mean_energy(*at), (p, lams))
    reduced = None
    if not several:
        phi = energies / jax.vmap(system.temperature, axis_size=len(ts))(lams)
        reduced = phi - phi[0] + medium
    density = p / grid.volume
    entropy = jax.vmap(lambda p: Cells(grid, p).entropy())(density)
    gain = entropy - entropy[0]
    if isinstance(process.initial, Point):
        gain = gain.at[1:].set(jnp.inf)  # no cell is as narrow
    work = energies - energies[0] + (heat.sum(-1) if several else heat)
    least, edge = jax.lax.stop_gradient(extremes(grid, density))
    found = CellEvolution(
        ts,
        work,
        heat,
        reduced,
        Entropy(gain + medium, medium, gain),
        grid,
        density,
        ok=jnp.asarray(True),
        least=least,
        edge=edge,
        slope=steps.slope.max(),
        turn=steps.turn.max(),
    )
    return found, mass


def sweeps(grid: Grid) -> list[tuple[int, float]]:
    """The axes in their order, and each one's share of a step: symmetric, so that the second order is kept."""
    return [(0, 1.0)] if grid.dim == 1 else [(0, 0.5), (1, 1.0), (0, 0.5)]


def relax(
    p: Array, edges: Edges, axis: int, periodic: bool, dt: Scalar, scheme: Scheme
) -> tuple[Array, Array]:
    r"""The masses after a time dt of jumps along one axis, and what has crossed each edge: $p' - p = -\mathrm{div}\,\hat J$.

    Solved for the increments: mass and rest are then kept to rounding, also in float32.
    """

    def rate(p: Array) -> Array:
        return -divergence(current(p, edges, axis), axis)

    def solve(dt: Scalar, b: Array) -> Array:
        return implicit(edges, axis, periodic, dt, b)

    if scheme == "positive":
        later = p + solve(dt, dt * rate(p))
        return later, dt * current(later, edges, axis)
    a = _GAMMA * dt
    stage = p + solve(a, a * rate(p))
    later = stage + solve(a, (p - stage) + dt * rate(stage))
    flow = (1 - _GAMMA) * current(stage, edges, axis) + _GAMMA * current(later, edges, axis)
    return later, dt * flow


def masses(density: object, grid: Grid, dtype: np.dtype) -> tuple[Array, Scalar]:
    """What a density puts into each cell, normalised; and the sum before that, which should be 1."""
    if isinstance(density, Point):
        return _at_a_point(density.x0, grid, dtype)
    if isinstance(density, Cells) and density.grid == grid:
        p = density.p * grid.volume
        return p / jnp.sum(p), jnp.sum(p)
    if isinstance(density, Boltzmann) and density.bounds is None:
        p = _normalised(grid.each(lambda x: -density.reduced_energy(x), dtype))
        return p, 1 - _beyond(density, grid, dtype) * int(density.sampler is None)
    height = grid.each(density.log_prob, dtype) + math.log(grid.volume)  # pyright: ignore
    return _normalised(height), jnp.sum(jnp.exp(jax.lax.stop_gradient(height)))


def _beyond(density: Boltzmann, grid: Grid, dtype: np.dtype) -> Scalar:
    """What an equilibrium has next to a grid that ends at no walls, of the same length on either side, if it is much."""
    free = ~(np.array(grid.periodic) | np.array(grid.walls))
    side = free * np.subtract(grid.upper, grid.lower)
    lower, upper = np.subtract(grid.lower, side), np.add(grid.upper, side)
    wide = Grid(lower, upper, grid.cells, grid.periodic, grid.walls)
    height = wide.each(lambda x: -density.reduced_energy(x), dtype)
    height = jnp.where(jnp.isfinite(height), height, -jnp.inf)
    axes = zip(lower, upper, grid.cells, strict=True)
    middles = [np.linspace(a, b, 2 * n + 1)[1::2] for a, b, n in axes]
    ends = zip(middles, grid.lower, grid.upper, strict=True)
    within = ft.reduce(np.logical_and.outer, [(v >= a) & (v <= b) for v, a, b in ends])
    share = jnp.sum(jnp.where(within, 0, _normalised(height)))
    return jax.lax.stop_gradient(jnp.where(share > _MUCH, share, 0))


def _normalised(height: Array) -> Array:
    return jnp.exp(height - jax.scipy.special.logsumexp(height))


def _at_a_point(x0: Array, grid: Grid, dtype: np.dtype) -> tuple[Array, Scalar]:
    """Between the cells beside it, so that the mean is right."""
    p = jnp.ones((), dtype)
    inside = jnp.ones((), bool)
    for i in range(grid.dim):
        place = (x0[i] - grid.lower[i]) / grid.widths[i] - 0.5
        if grid.periodic[i]:
            place = place % grid.cells[i]
        else:
            inside = inside & (place >= -0.5) & (place <= grid.cells[i] - 0.5)
            place = jnp.clip(place, 0, grid.cells[i] - 1)
        away = jnp.abs(jnp.arange(grid.cells[i], dtype=dtype) - place)
        if grid.periodic[i]:
            away = jnp.minimum(away, grid.cells[i] - away)
        p = p[..., None] * jnp.maximum(1 - away, 0).astype(dtype)
    return p, inside.astype(dtype)


def _turned(lattice: Lattice, protocol: object, t: tuple[Array, Array], p: Array) -> Scalar:
    """The variance over the density of how far the reduced energy turns between two times."""
    lams = [jax.lax.stop_gradient(protocol(at)) for at in t]  # pyright: ignore
    one, two = (
        lattice.energies(lam, p.dtype) / jnp.min(lattice.system.temperature(lam)) for lam in lams
    )
    moved = two - one
    moved = moved - jnp.sum(p * moved)
    return jnp.sum(p * moved**2)


def extremes(grid: Grid, p: Array) -> tuple[Array, Array]:
    """The least p, and the greatest one at an end that is no wall, relative to the greatest of their time."""
    top = p.reshape(len(p), -1).max(1)
    relative = p / top.reshape([-1] + [1] * grid.dim)
    edge = jnp.zeros((), p.dtype)
    for axis in range(grid.dim):
        if not (grid.periodic[axis] or grid.walls[axis]):
            ends = jnp.take(relative, jnp.array([0, -1]), axis=axis + 1)
            edge = jnp.maximum(edge, ends.max())
    return relative.min(), edge


def _judged(found: CellEvolution, mass: Scalar) -> CellEvolution:
    """Marked where it is not to be trusted, NaN where it is grossly wrong."""
    pairs = list(zip(_weights(found), _LIMITS, strict=True))
    fine = jnp.all(jnp.stack([value <= limit[0] for value, limit in pairs]))
    gross = ~jnp.all(jnp.stack([value <= limit[1] for value, limit in pairs]))
    gross = gross | ~(jnp.abs(mass - 1) < 1e-3) | ~jnp.all(jnp.isfinite(found.ts))
    totals = Totals(found.work, found.heat, found.reduced_work, found.entropy)
    totals = jtu.tree_map(lambda v: jnp.where(gross, jnp.nan, v), totals)
    p = jnp.where(gross, jnp.nan, found.p)
    return dataclasses.replace(found, p=p, ok=fine & ~gross, **totals._asdict())


def _weights(found: CellEvolution) -> tuple[Array, ...]:
    """What is wrong if it is large."""
    return found.slope, found.turn, found.edge, -found.least


def _told(process: Process, found: CellEvolution, mass: float) -> None:
    """Refuse what is grossly wrong; say what is marked."""
    if not abs(mass - 1) < 1e-3:
        raise ValueError(
            f"The initial density puts {mass:.6g} into the cells and not 1: too narrow for the width {found.grid.widths}, "
            f"or reaching beyond [{found.grid.lower}, {found.grid.upper}]. Give a finer or a wider grid, or walls=True."
        )
    cures = (
        (
            "The cells are too wide for the slope of the potential: it changes by {root:.2g} kT from one to the next where "
            "the density is",
            "Give more cells.",
        ),
        (
            "The steps are too long for the control: within one of them the energies turn by {root:.2g} kT against each "
            "other",
            "Give more times; a jump belongs on one of them.",
        ),
        (
            "The density reaches {value:.2g} of its greatest value at an end of the grid",
            "Give a wider grid; or walls=True, if the ends are reflecting walls of the problem.",
        ),
        (
            "The density falls below zero, to {value:.2g} of its greatest value",
            'Use more steps, or scheme="positive".',
        ),
    )
    worst = zip(_weights(found), _LIMITS, cures, strict=True)
    for i, (value, limits, (what, cure)) in enumerate(worst):
        value = float(value)
        root = float(np.sqrt(max(value if i else 12 * value, 0)))
        shown = -value if i == 3 else value
        message = f"fokker_planck: {what.format(value=shown, root=root)}. {cure}"
        if not value <= limits[1]:
            if np.isnan(value):
                raise ValueError(_not_finite(process, found))
            raise ValueError(message)
        if value > limits[0]:
            warnings.warn(message, RuntimeWarning, stacklevel=3)


def _not_finite(process: Process, found: CellEvolution) -> str:
    with jax.ensure_compile_time_eval():
        lam = process.protocol(0.5 * (found.ts[0] + found.ts[1]))
        lattice = Lattice(overdamped("", process.system), found.grid)
        energies = lattice.energies(lam, found.p.dtype)
        closes = bool(lattice.closes(lam, found.p.dtype))
        bad = np.argwhere(~np.isfinite(np.asarray(energies)))
    if len(bad):
        at = np.asarray(found.grid.centres())[tuple(bad[0])]
        return (
            f"fokker_planck: the potential is not finite in {len(bad)} cells, the first at x = {at}. Put the wall at the "
            "grid's end, with walls=True."
        )
    if not closes:
        return f"fokker_planck: the potential must be {TILTED}."
    return "fokker_planck: the density is not finite. Look at force, mobility and temperature along the protocol."
