r"""The stationary density at a fixed control."""

from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._affine import affine
from .._jit import jit
from .._products import matmul
from .._types import Array, Control, Given
from ..densities import Cells, Gaussian, States, listed
from ..systems import (
    AbstractDiffusion,
    AbstractJumps,
    AbstractSystem,
    AbstractUnderdamped,
    Edges,
    Grid,
    Lattice,
    current,
    divergence,
    implicit,
)
from ._fokker_planck import REACH, extremes, overdamped
from ._master import generator


@overload
def steady(system: AbstractSystem, lam: Control, grid: Grid) -> Cells: ...


@overload
def steady(
    system: AbstractSystem, lam: Control, grid: None = None, *, dim: int = 1
) -> Gaussian: ...


@overload
def steady(system: AbstractSystem, lam: Control, *, states: Given) -> States: ...


def steady(
    system: AbstractSystem,
    lam: Control = None,
    grid: Grid | None = None,
    *,
    dim: int = 1,
    states: Given = None,
) -> Cells | Gaussian | States:
    r"""The stationary density of a system at a fixed control, in equilibrium or not.

    On a grid it is the null vector of the master equation, $A \pi = 0$: the discrete Boltzmann density for one bath and no
    f, and what `fokker_planck` comes to in any case. Without a grid, for a linear drift $b = B x + c$ in `dim` dimensions
    (positions; an `Underdamped` system has as many momenta),

    $$B m + c = 0, \qquad B \Sigma + \Sigma B^T + 2 D = 0 .$$

    For a system of jumps, over a list of all its `states` `(n, d)`, the null vector of its generator, $A p = 0$.

    Differentiable with respect to the system and the control, once. In two dimensions it takes dense matrices as large as
    the second axis has cells; run several by `jax.lax.map`, not `vmap`.

    Raises `ValueError` where there is none: an unstable linear drift, or a density that reaches, by a hundredth of its
    greatest value, an end of the grid that is no wall; NaN while tracing.

    Source: Risken, *The Fokker–Planck Equation* (1989), secs. 5.2 and 6.5.
    """
    lam = jax.tree_util.tree_map(lambda v: _checks.floating("steady.lam", v), lam)
    if states is not None:
        return _of_jumps(AbstractJumps.needed_by("steady(states=)", system), lam, states)
    if grid is None:
        return _linear(system, lam, _checks.whole("dim", dim, "a whole number of coordinates"))
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.evolve.Grid(lower, upper, cells), got {grid!r}.")
    lattice = Lattice(overdamped("steady", system), grid)
    dtype = _checks.one_float(system=(system, lam))
    system.check(jax.ShapeDtypeStruct((grid.dim,), dtype), lam)
    p = stationary(lattice, lam, dtype)
    if not _checks.tracing(p) and not np.isfinite(np.asarray(p)).all():
        raise ValueError(
            "steady: the stationary density is not finite. Look at the potential: where it is infinite the grid has to end, "
            "with walls=True."
        )
    _, edge = extremes(grid, p[None])
    held = "confined: its density reaches an end of the grid. Give a wider grid, or walls=True where it ends at walls"
    p = _checks.must("The system", p, edge <= REACH, held)
    return Cells(grid, p / grid.volume)


@jit
def stationary(lattice: Lattice, lam: Control, dtype: np.dtype) -> Array:
    """The masses of the cells, `(*cells,)`."""
    edges = lattice.edges(lam, dtype)
    if lattice.grid.dim == 2:
        return _in_two(edges, lattice.grid)
    phi = lattice.energies(lam, dtype) / lattice.bath(0, lam)
    p = jax.nn.softmax(-phi)
    dt = jax.lax.stop_gradient(_LONG / jnp.max(edges[0].up + edges[0].down))
    for _ in range(3):  # inverse iteration: nothing but the null vector survives a time this long
        p = jax.lax.stop_gradient(p)
        leaves = divergence(current(p, edges[0], 0), 0)
        p = p - implicit(edges[0], 0, lattice.grid.periodic[0], dt, dt * leaves)
        p = p / jnp.sum(p)
    return p


_LONG = 1e12  # in units of the fastest jump


class _Blocks(NamedTuple):
    """Rows of cells eliminated one after the other, all but the last: $x_i = R_i x_{i+1} + C_i x_\\mathrm{last} + s_i$."""

    inverse: Array
    next: Array
    last: Array


def _in_two(edges: tuple[Edges, ...], grid: Grid) -> Array:
    held = jax.lax.stop_gradient(edges)
    blocks, end = _eliminated(held, grid)
    p = _back(blocks, _null(end))
    p = p / jnp.sum(p)
    # one step of Newton's, whose matrix is held: the value to rounding, and the derivative
    leaves = [divergence(current(p, edge, axis), axis) for axis, edge in enumerate(edges)]
    step = _solved(blocks, end, held, leaves[0] + leaves[1])
    return p + step - p * jnp.sum(step)


def _eliminated(edges: tuple[Edges, ...], grid: Grid) -> tuple[_Blocks, Array]:
    """The blocks, and the generator of the last row that is left."""
    (up, down, _), (right, left, _) = edges
    rows, n = grid.cells
    leaves = up + jnp.roll(down, 1, 0) + right + jnp.roll(left, 1, 1)
    eye = jnp.eye(n, dtype=up.dtype)

    def within(i: Array) -> Array:
        onwards = jnp.roll(jnp.diag(right[i]), 1, 0)  # from j to j + 1
        back = jnp.roll(jnp.diag(left[i]), 1, 1)  # from j + 1 to j
        return onwards + back - jnp.diag(leaves[i])

    def row(before: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], _Blocks]:
        ratio, around = before
        inflow = up[i - 1][:, None]
        inverse = jnp.linalg.inv(within(i) + inflow * ratio)
        ratio, around = -inverse * down[i][None], -matmul(inverse, inflow * around)
        return (ratio, around), _Blocks(inverse, ratio, around)

    # before the first row stands the last one: periodic, or with rates of zero
    (_, _), blocks = jax.lax.scan(row, (jnp.zeros_like(eye), eye), jnp.arange(rows - 1))
    chain = _chain(blocks, eye)
    reach = blocks.next[-1] + blocks.last[-1]
    end = within(jnp.asarray(rows - 1)) + up[-2][:, None] * reach + down[-1][:, None] * chain[0]
    return blocks, end


def _chain(blocks: _Blocks, last: Array) -> Array:
    """What each row is, given the last, without the last itself."""

    def row(after: Array, block: _Blocks) -> tuple[Array, Array]:
        here = matmul(block.next, after) + matmul(block.last, last)
        return here, here

    return jax.lax.scan(row, last, blocks, reverse=True)[1]


def _back(blocks: _Blocks, last: Array) -> Array:
    return jnp.concatenate([_chain(blocks, last), last[None]])


def _null(generator: Array) -> Array:
    """The null vector of a generator whose columns sum to zero."""
    return jnp.linalg.solve(generator.at[-1].set(1), jnp.zeros_like(generator[0]).at[-1].set(1))


def _solved(blocks: _Blocks, end: Array, edges: tuple[Edges, ...], b: Array) -> Array:
    """x of $A x = b$, up to a multiple of the null vector, for b of sum zero."""
    up, down = edges[0].up, edges[0].down

    def forward(before: Array, given: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        inverse, inflow, right = given
        here = matmul(inverse, right - inflow * before)
        return here, here

    inflows = jnp.roll(up, 1, 0)[:-1].at[0].set(0)  # the last row is not eliminated
    _, own = jax.lax.scan(forward, jnp.zeros_like(b[0]), (blocks.inverse, inflows, b[:-1]))

    def backward(after: Array, given: tuple[_Blocks, Array]) -> tuple[Array, Array]:
        block, here = given
        here = matmul(block.next, after) + here
        return here, here

    zero = jnp.zeros_like(b[0])
    _, without = jax.lax.scan(backward, zero, (blocks, own), reverse=True)
    right = b[-1] - up[-2] * without[-1] - down[-1] * without[0]
    last = jnp.linalg.solve(end.at[-1].set(1), right.at[-1].set(0))
    return _back(blocks, last) + jnp.concatenate([without, zero[None]])


def _of_jumps(system: AbstractJumps, lam: Control, states: Given) -> States:
    states = listed("states", states)
    p = _resting(system, lam, states)
    good = jnp.all(jnp.isfinite(p)) & jnp.all(p > -1e3 * jnp.finfo(p.dtype).eps)
    allowed = "of one steady state over the states: all must be in the list, and lead to each other"
    return States(states, jnp.maximum(_checks.must("system", p, good, allowed), 0))


@jit
def _resting(system: AbstractJumps, lam: Control, states: Array) -> Array:
    return _null(generator(system, states, lam)[0])


def _linear(system: AbstractSystem, lam: Control, dim: int) -> Gaussian:
    if not isinstance(system, AbstractDiffusion):
        raise TypeError(
            f"steady is for diffusions (AbstractDiffusion), and {type(system).__name__} is none."
        )
    size = 2 * dim if isinstance(system, AbstractUnderdamped) else dim
    x = jnp.zeros(size, _checks.one_float(system=(system, lam)))
    system.check(x, lam)
    if not affine(lambda y: system.drift(y, lam), x):
        raise ValueError(
            "steady without a grid is for linear systems, and this drift is not linear in x. Give grid=evolve.Grid(...)."
        )
    mean, cov, stable = _lyapunov(system, lam, x)
    if not _checks.tracing((mean, cov)) and not bool(stable):
        raise ValueError(
            "steady: the drift does not lead back in every direction, so that nothing is stationary. Confine the system, or "
            "evolve it."
        )
    root = _factor.root(cov)
    return Gaussian.from_root(mean, jnp.where(stable, root, jnp.nan))


@jit
def _lyapunov(system: AbstractDiffusion, lam: Control, x: Array) -> tuple[Array, Array, Array]:
    matrix = jax.jacfwd(lambda y: system.drift(y, lam))(x)
    noise = jnp.diag(jnp.broadcast_to(2 * system.diffusion(x, lam), x.shape))
    eye = jnp.eye(x.size, dtype=x.dtype)
    both = jnp.kron(eye, matrix) + jnp.kron(matrix, eye)
    cov = jnp.linalg.solve(both, -noise.reshape(-1)).reshape(x.size, x.size)
    mean = jnp.linalg.solve(matrix, -system.drift(x, lam))
    cov = 0.5 * (cov + cov.T)
    # a drift is stable if and only if its Lyapunov equation has a positive solution
    return mean, cov, jnp.all(jnp.isfinite(_factor.root(cov)))
