r"""The Monte Carlo twin of an evolution on a grid: paths of jumps between its cells."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._chance import chance
from .._jit import jit
from .._process import Process, a_process
from .._types import Array, Control, Density, Float, Given, Key, Scalar, State
from ..densities import AbstractDensity
from ..systems import (
    AbstractKernelStep,
    AbstractSystem,
    Carried,
    Edges,
    Exchange,
    Grid,
    Lattice,
    Rule,
    absent,
    implicit,
)
from ._fokker_planck import masses, overdamped, sweeps


def twin(process: Process, grid: Grid) -> Process:
    r"""The process on the lattice of `fokker_planck(process, ts, grid, scheme="positive")`, to be simulated.

    Its states are the centres of the cells. One step draws the cell that a jump process which starts in $x_k$ has reached
    after an exponentially distributed time of mean dt, whose law is $(1 - dt\,A)^{-1}$: that of implicit Euler. So the
    means over its paths are those of the evolution at every step size, and its densities are on the cells. Simulate it by
    `ensemble`, with either rule.

    The work of a force f is told from the ends of a step on a line; on a ring and in two dimensions it is not, so that a
    force is refused there (`ValueError`).
    """
    a_process("process", process)
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.evolve.Grid(lower, upper, cells), got {grid!r}.")
    system = overdamped("twin", process.system)
    dtype = _checks.draw("initial", process.initial).dtype

    def on(name: str, density: Density) -> Centres:
        p, mass = masses(density, grid, dtype)
        held = "held by the cells, all of its mass 1 (by a finer grid, or a wider one)"
        return Centres(grid, _checks.must(name, p, abs(mass - 1) < 1e-3, held, got=mass))

    final = None if process.final is None else on("final", process.final)
    return Process(Jumping(system, grid), process.protocol, on("initial", process.initial), final)


class Centres(AbstractDensity):
    """Masses `p` at the centres of cells; `log_prob` is the density of the cell that x is in."""

    grid: Grid
    p: Float[Array, "..."]

    @jit
    def sample(self, key: Key) -> State:
        weights = jnp.log(jnp.maximum(self.p, 0).reshape(-1))
        i = jax.random.categorical(key, weights)
        return self.grid.centres(self.p.dtype).reshape(-1, self.grid.dim)[i]

    @jit
    def log_prob(self, x: State) -> Scalar:
        given: Given = zip(x, self.grid.lower, self.grid.upper, self.grid.periodic, strict=True)
        outside = [(v < a) | (v > b) for v, a, b, around in given if not around]
        inside = ~jnp.any(jnp.stack([*outside, jnp.zeros((), bool)]))
        value = jnp.log(jnp.where(inside, self.p[cell(self.grid, x)], 0) / self.grid.volume)
        return jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, value)


class Jumping(AbstractSystem):
    """An overdamped system whose states are the centres of cells."""

    system: Carried
    grid: Grid

    def energy(self, x: State, lam: Control) -> Scalar:
        return self.system.energy(x, lam)

    def temperature(self, lam: Control) -> Array:
        return self.system.temperature(lam)

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        temperature = self.system.temperature(lam)
        if jnp.ndim(temperature):
            raise ValueError(
                "The twin of an evolution has one bath: whose heat is whose is not told by a step's ends."
            )
        work = jnp.zeros_like(lost)
        if self._pushed(x0, lam):
            faces = self.grid.axis(0, x0.dtype)[:-1] + 0.5 * self.grid.widths[0]
            push = jax.vmap(lambda x: jnp.asarray(self.system.push(x[None], lam))[0])(faces)
            sums = jnp.concatenate([jnp.zeros_like(push[:1]), jnp.cumsum(push)])
            sums = sums * self.grid.widths[0]
            work = sums[cell(self.grid, x1)[0]] - sums[cell(self.grid, x0)[0]]
        heat = lost + work
        return Exchange(work, heat, heat / temperature)

    def _pushed(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> bool:
        """Whether there is a force, told while tracing."""
        found: list[bool] = []
        jax.eval_shape(lambda x: found.append(absent(self.system.push(x, lam))), x)
        return not found[0]

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "Jumping":
        return self

    def step(self, rule: Rule) -> AbstractKernelStep:
        return Settle()

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        self.system.check(x, lam)
        if self._pushed(x, lam) and (self.grid.dim > 1 or any(self.grid.periodic)):
            raise ValueError(
                "The twin of an evolution takes a force on a line only: on a ring and in two dimensions the work of a step "
                "is not told from its ends."
            )

    def positive(self, lam: Control) -> dict[str, Array]:
        return self.system.positive(lam)


class Settle(AbstractKernelStep):
    """Jumps for an exponentially distributed time of mean dt; in two dimensions axis after axis, as `fokker_planck` does."""

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (chance(key, (*shape[:-1], 2 * shape[-1] - 1), dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        grid, edges = _edges(system, x, lam)
        at = list(cell(grid, x))
        for u, (axis, share) in zip(draw[0], sweeps(grid), strict=True):
            line = tuple(slice(None) if i == axis else at[i] for i in range(grid.dim))
            start = jnp.zeros(grid.cells[axis], x.dtype).at[at[axis]].set(1)
            along = Edges(*(v[line] for v in edges[axis]))
            total = jnp.cumsum(implicit(along, 0, grid.periodic[axis], share * dt, start))
            reached = jnp.searchsorted(total, u * total[-1], side="right")
            at[axis] = jnp.clip(reached, 0, grid.cells[axis] - 1)
        return grid.centres(x.dtype)[tuple(at)]

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> Centres:
        grid, edges = _edges(system, x, lam)
        p = jnp.zeros(grid.cells, x.dtype).at[cell(grid, x)].set(1)
        for axis, share in sweeps(grid):
            p = implicit(edges[axis], axis, grid.periodic[axis], share * dt, p)
        return Centres(grid, p)


def _edges(system: AbstractSystem, x: State, lam: Control) -> tuple[Grid, tuple[Edges, ...]]:
    if not isinstance(system, Jumping):
        raise TypeError(
            f"Settle is the step of evolve.twin's systems, not of {type(system).__name__}."
        )
    return system.grid, Lattice(system.system, system.grid).edges(lam, x.dtype)


def cell(grid: Grid, x: State) -> tuple[Array, ...]:
    """The cell that a state is in."""
    given: Given = zip(x, grid.lower, grid.widths, grid.cells, grid.periodic, strict=True)
    found = []
    for v, a, h, n, around in given:
        at = jnp.floor((v - a) / h)
        found.append((at % n if around else jnp.clip(at, 0, n - 1)).astype(int))
    return tuple(found)
