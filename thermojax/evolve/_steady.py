r"""The stationary density at a fixed control."""

from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._affine import affine
from .._jit import jit
from .._products import einsum, matmul
from .._types import Array, Control, Given
from ..densities import Cells, Gaussian, States, listed
from ..systems import (
    TILTED,
    AbstractDiffusion,
    AbstractJumps,
    AbstractSystem,
    AbstractUnderdamped,
    Edges,
    Grid,
    Lattice,
)
from ._fokker_planck import REACH, extremes, overdamped
from ._master import generator
from ._moments import stirred


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
        _checks.must("steady: the potential", p, _closes(lattice, lam, dtype), TILTED)
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
def _closes(lattice: Lattice, lam: Control, dtype: np.dtype) -> Array:
    return lattice.closes(lam, dtype)


@jit
def stationary(lattice: Lattice, lam: Control, dtype: np.dtype) -> Array:
    r"""The probabilities of the cells at rest, $\sum_j w_{j \to i} p_j = p_i \sum_j w_{i \to j}$: `(*cells,)`, of sum 1.

    By elimination without differences, so that each has the digits of the rates. `steady` is this as a density, with its
    rates; it refuses cells that nothing links. Source: Grassmann, Taksar & Heyman, Operations Research 33, 1107 (1985).
    """
    edges = lattice.edges(lam, dtype)
    energies = lattice.energies(lam, dtype)
    if lattice.grid.dim == 1:  # rows of one cell
        line = Edges(*(v[:, None] for v in edges[0]))
        still = Edges(*map(jnp.zeros_like, line))
        return _by_rows((line, still), energies[:, None])[:, 0]
    return _by_rows(edges, energies)


class _Blocks(NamedTuple):
    r"""Rows of cells eliminated one after the other, all but the last: $x_i = R_i x_{i+1} + C_i x_\mathrm{last}$."""

    next: Array
    last: Array


def _by_rows(edges: tuple[Edges, ...], energies: Array) -> Array:
    """Row by row, the lowest cell last: no number outgrows its own, and all leads there."""
    place = jnp.stack(jnp.divmod(jnp.argmin(energies), energies.shape[1])) + 1
    fastest = jax.lax.stop_gradient(jnp.max(edges[0].up + edges[0].down))

    def turned(v: Array) -> Array:
        return jnp.roll(v, -place, (0, 1)) / fastest

    blocks, end = _eliminated(tuple(Edges(*map(turned, edge)) for edge in edges))
    last = _null(end)
    p = jnp.concatenate([_chain(blocks, last), last[None]])
    return jnp.roll(p / jnp.sum(p), place, (0, 1))


def _eliminated(edges: tuple[Edges, ...]) -> tuple[_Blocks, Array]:
    r"""The blocks, and the rates within the last row when the others are not looked at.

    With G the mean times that a walker who starts in row i spends there before it goes on, and $e_i$ its rates of leaving
    for the last row by way of those before it,

    $$R_i = G\, w_-, \qquad C_i = G\, w_+ C_{i-1}, \qquad e_{i+1} = e_i\, G\, w_- :$$

    sums of what is not negative, so that every cell keeps its digits, however high the barriers.
    """
    (up, down, _), (right, left, _) = edges
    rows, n = up.shape
    eye = jnp.eye(n, dtype=up.dtype)

    def within(i: Array) -> Array:
        onwards = jnp.roll(jnp.diag(right[i]), 1, 0)  # from j to j + 1
        back = jnp.roll(jnp.diag(left[i]), 1, 1)  # from j + 1 to j
        return onwards + back

    def row(
        before: tuple[Array, Array, Array], i: Array
    ) -> tuple[tuple[Array, Array, Array], _Blocks]:
        ratio, around, home = before
        inflow = up[i - 1][:, None]
        times = _of_a_row(within(i) + inflow * ratio, up[i] + home)
        ratio, around = times * down[i][None], matmul(times, inflow * around)
        return (ratio, around, matmul(home, ratio)), _Blocks(ratio, around)

    # before the first row stands the last one: periodic, or with rates of zero
    start = jnp.zeros_like(eye), eye, down[-1]
    _, blocks = jax.lax.scan(row, start, jnp.arange(rows - 1))
    reach = blocks.next[-1] + blocks.last[-1]
    end = within(jnp.asarray(rows - 1)) + up[-2][:, None] * reach
    return blocks, end + down[-1][:, None] * _chain(blocks, eye)[0]


@jax.custom_jvp
def _of_a_row(rates: Array, leaving: Array) -> Array:
    r"""`_times`, NaN where nothing leads away, with the derivative $-G\, d(G^{-1})\, G$."""
    times, stuck = _times(rates, leaving)
    return jnp.where(jnp.any(stuck > 0), jnp.nan, times)


@_of_a_row.defjvp
def _(given: tuple[Array, Array], turned: tuple[Array, Array]) -> tuple[Array, Array]:
    times, (rates, leaving) = _of_a_row(*given), turned
    rates = jnp.where(jnp.eye(len(leaving), dtype=bool), 0, rates)
    turn = rates - jnp.diag(jnp.sum(rates, 0) + leaving)
    return times, matmul(matmul(times, turn), times)


def _chain(blocks: _Blocks, last: Array) -> Array:
    """What each row is, given the last, without the last itself."""

    def row(after: Array, block: _Blocks) -> tuple[Array, Array]:
        here = matmul(block.next, after) + matmul(block.last, last)
        return here, here

    return jax.lax.scan(row, last, blocks, reverse=True)[1]


# ---- elimination without a difference


_LEAK = 1e-30  # of the fastest rate: the way back of states that nothing leads away from
_TOGETHER = 32  # states eliminated at once


def _null(rates: Array) -> Array:
    r"""The null vector of a generator, $p_i \ge 0$ of sum one, from the `rates` `(n, n)` from i to j at [j, i], $i \ne j$.
    The last state should be a likely one.

    State by state is left out, and what passed through it added to the rates of the others: with s the rate of leaving k,

    $$w_{ji} \to w_{ji} + \frac{w_{jk} w_{ki}}{s}, \qquad p_k = \frac1s \sum_i w_{ki}\, p_i .$$

    There are no differences, so that every p has its digits, however weakly its state is linked. NaN where there are
    several p.

    Source: Grassmann, Taksar & Heyman, Operations Research 33, 1107 (1985).
    """
    n = len(rates)
    size = min(_TOGETHER, max(n - 1, 1))
    count = -(-(n - 1) // size) or 1
    spare = count * size + 1 - n  # states that lead to the last one, and nothing to them
    fastest = jax.lax.stop_gradient(jnp.max(jnp.where(jnp.eye(n, dtype=bool), 0, rates)))
    rates = jnp.pad(rates / jnp.where(fastest == 0, 1, fastest), ((spare, 0), (spare, 0)))
    rates = rates.at[-1, :spare].set(1)
    places = jnp.arange(len(rates))

    def out(rates: Array, first: Array) -> tuple[Array, tuple[Array, Array]]:
        later = places >= first + size
        own = jax.lax.dynamic_slice_in_dim(rates, first, size, 1)
        leaves = jnp.where(later[:, None], own, 0)
        within = jax.lax.dynamic_slice_in_dim(own, first, size, 0)
        times, stuck = _times(within, jnp.sum(leaves, 0))
        enters = jnp.where(later, jax.lax.dynamic_slice_in_dim(rates, first, size, 0), 0)
        ratio = matmul(times, enters)
        return rates + matmul(leaves.at[-1].add(stuck), ratio), (ratio, stuck)

    def back(p: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        first, ratio = given
        p = jax.lax.dynamic_update_slice_in_dim(p, matmul(ratio, p), first, 0)
        return p / jax.lax.stop_gradient(jnp.max(p)), None

    firsts = size * jnp.arange(count)
    _, (ratios, stuck) = jax.lax.scan(out, rates, firsts)
    last = jnp.zeros_like(rates[0]).at[-1].set(1)
    p, _ = jax.lax.scan(back, last, (firsts, ratios), reverse=True)
    ends = stuck.reshape(-1) > 0  # one for each set of states that is not left
    one = (jnp.sum(ends) < 2) & ~jnp.any(ends & (p[:-1] == 0))
    p = p[spare:]
    return jnp.where(one, p / jnp.sum(p), jnp.nan)


def _times(rates: Array, leaving: Array) -> tuple[Array, Array]:
    r"""The mean time spent in j by a walker who starts in i, at [j, i], of `rates` `(n, n)` among the states, and `leaving`
    `(n,)` them: $(\mathrm{diag}(\textstyle\sum_j w_{ji} + e_i) - w)^{-1}$, $w_{ji}$ from i to j. And what was added to
    `leaving` where nothing leads away.

    Source: Alfa, Xue & Ye, Math. Comp. 71, 217 (2002).
    """
    n = len(leaving)
    to = jnp.arange(n + 1)

    def state(table: Array, k: Array) -> tuple[Array, Array]:
        enters, leaves = table[k], table[:, k]
        rate = jnp.sum(jnp.where(to > k, leaves, 0))
        leak = jnp.where(rate == 0, _LEAK, 0).astype(rate.dtype)
        enters, leaves = jnp.where(to[:-1] == k, 1, enters), jnp.where(to == k, 1, leaves)
        leaves = leaves.at[-1].add(leak)
        rest = jnp.where((to[:, None] == k) | (to[None, :-1] == k), 0, table)
        return rest + jnp.outer(leaves, enters / (rate + leak)), leak

    table, leaks = jax.lax.scan(state, jnp.concatenate([rates, leaving[None]]), jnp.arange(n))
    return table[:-1], leaks


def _of_jumps(system: AbstractJumps, lam: Control, states: Given) -> States:
    states = listed("states", states)
    p = _resting(system, lam, states)
    good = jnp.all(jnp.isfinite(p)) & jnp.all(p > -1e3 * jnp.finfo(p.dtype).eps)
    allowed = "of one steady state over the states: all must be in the list, and lead to each other"
    return States(states, jnp.maximum(_checks.must("system", p, good, allowed), 0))


@jit
def _resting(system: AbstractJumps, lam: Control, states: Array) -> Array:
    rates = generator(system, states, lam)[0]
    lasting = jnp.argmax(jnp.diagonal(rates))  # the state that is left most slowly is taken last
    p = _null(jnp.roll(jnp.roll(rates, -lasting - 1, 0), -lasting - 1, 1))
    return jnp.roll(p, lasting + 1)


def _linear(system: AbstractSystem, lam: Control, dim: int) -> Gaussian:
    if not isinstance(system, AbstractDiffusion):
        raise TypeError(
            f"steady is for diffusions (AbstractDiffusion), and {type(system).__name__} is none. Of jumps give states=, the "
            "list of all of them (n, d)."
        )
    size = 2 * dim if isinstance(system, AbstractUnderdamped) else dim
    x = jnp.zeros(size, _checks.one_float(system=(system, lam)))
    system.check(x, lam)
    if not affine(lambda y: system.drift(y, lam), x):
        raise ValueError(
            "steady without a grid is for linear systems, and this drift is not linear in x. Give grid=evolve.Grid(...)."
        )
    mean, root, stable = _lyapunov(system, lam, x)
    if not _checks.tracing((mean, root)) and not bool(stable):
        raise ValueError(
            "steady: the drift does not lead back in every direction, so that nothing is stationary. Confine the system, or "
            "evolve it."
        )
    return Gaussian.from_root(mean, jnp.where(stable, root, jnp.nan))


@jit
def _lyapunov(system: AbstractDiffusion, lam: Control, x: Array) -> tuple[Array, Array, Array]:
    width = stirred(system, x, lam, jnp.asarray(jnp.inf, x.dtype))  # whatever the unit of each
    width = jnp.where((width > 0) & jnp.isfinite(width), width, 1)
    matrix = jax.jacfwd(lambda y: system.drift(x + width * y, lam) / width)(jnp.zeros_like(x))
    noise = jnp.diag(jnp.broadcast_to(2 * system.diffusion(x, lam), x.shape) / width**2)
    eye = jnp.eye(x.size, dtype=x.dtype)
    both = -jnp.kron(eye, matrix) - jnp.kron(matrix, eye)
    cov = jnp.linalg.solve(both, noise.reshape(-1)).reshape(x.size, x.size)
    mean = jnp.linalg.solve(matrix, -system.drift(x, lam) / width)
    cov = 0.5 * (cov + cov.T)
    rounding = 8 * float(jnp.finfo(x.dtype).eps)
    stable = resolved(both, rounding * matrix, cov, cov)
    return width * mean, width[:, None] * _factor.root(cov), stable


_TRIALS = 4  # random errors that are looked at


def resolved(equation: Array, error: Array, product: Array, cov: Array) -> Array:
    r"""Whether a drift, or a period, leads back in all directions, by more than its error may make of one where it does not.

    If and only if it does, its Lyapunov equation has a positive solution `cov` `(d, d)`, $\Sigma$. In that the matrix stands
    in `product` with P; what it changes by if its entries are off by their `error`, up and down at random, solves the
    `equation` `(d d, d d)` for $\delta P + (\delta P)^T$, and has to be less than $\Sigma$, in units of the widths.
    """
    off = np.random.default_rng(0).normal(size=(_TRIALS, *error.shape))
    more = einsum("kij,jl->kil", error[None] * jnp.asarray(off, error.dtype), product)
    more = jnp.reshape(more + jnp.swapaxes(more, 1, 2), (_TRIALS, -1)).T
    changes = jnp.abs(jnp.linalg.solve(*jax.lax.stop_gradient((equation, more))))
    width = jnp.sqrt(jnp.diagonal(cov))
    positive = jnp.all(jnp.isfinite(_factor.root(cov)))
    return positive & jnp.all(changes < jnp.outer(width, width).reshape(-1, 1))
