r"""What a process comes to that is repeated for ever."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
import optimistix as optx

from .. import _checks, _factor
from .._jit import jit
from .._process import Process, a_process, check_run, ends, one_protocol
from .._products import matmul
from .._types import Array, PyTree, Scalar, Times
from ..densities import Cells, Gaussian, normal
from ..systems import AbstractDiscrete, Grid, Lattice
from ._evolution import Evolution
from ._fokker_planck import fokker_planck, masses, overdamped, unjudged
from ._moments import linear, moments, tolerance, widths
from ._steady import resolved

_CYCLES = 4096
_FAR = 50.0  # by how many errors a period must shorten what is not periodic
_NEAR = 1e-3  # of its greatest value: how far two starts may come to lie apart


def periodic(process: Process, ts: Times, grid: Grid | None = None) -> Evolution:
    r"""One period of a driven cycle, from the density that it leads back to: $p(t_0 + \tau) = p(t_0)$.

    `ts` is one period, `process.initial` where to start the search for it. On a `grid` by `fokker_planck`, without one by
    `moments` (linear systems). In the periodic state $\Delta U = 0$ and $\Delta S_\mathrm{sys} = 0$: work is heat, and the
    entropy of the medium is that of all. The work and the heat of a stroke are differences of the running totals.

    On a grid the period is repeated until the density changes by no more than rounding, at most 4096 times, and that from
    two starts, which have to come to the same: what hardly moves in one period is not yet periodic (DoubleWell(40)).
    Differentiable by the implicit function theorem, in reverse mode, with respect to every leaf (the start has none).

    Raises `ValueError` for a protocol whose `before` and `after` differ: the period would not close; `RuntimeError` where
    nothing periodic is come to; NaN while tracing.

    Source: Brandner, Saito & Seifert, PRX 5, 031019 (2015), sec. II.
    """
    a_process("process", process)
    ts = _checks.times("ts", ts)
    one_protocol("periodic", process)
    if isinstance(process.system, AbstractDiscrete):
        raise TypeError(
            f"periodic is for diffusions, and {type(process.system).__name__} is none. Repeat evolve.master(process, ts, "
            "states), each time from the final density of the last (initial=)."
        )
    _closes(process, check_run(process, ts))
    if grid is None:
        start, solved = _gaussian(process, ts)
    else:
        start, solved = _cells(process, ts, grid)
    if not _checks.tracing(solved) and not bool(solved):
        raise RuntimeError(
            f"periodic: nothing periodic is come to (on a grid, within {_CYCLES} periods and from any start): nothing "
            "confines the system, or a period is far shorter than the slowest relaxation. Give a longer period, a nearer "
            "start (initial=), or double precision."
        )
    start = jtu.tree_map(lambda v: jnp.where(solved, v, jnp.nan), start)
    return _run(process.replace(initial=start), ts, grid)


def _closes(process: Process, ts: Array) -> None:
    with jax.ensure_compile_time_eval():
        closed = ends(process.protocol, ts)
        along = jax.vmap(process.protocol)(ts)
    for *both, inside in zip(*map(jtu.tree_leaves, (*closed, along)), strict=True):
        a, b, inside = map(_checks.known, (*both, inside))
        if a is None or b is None or inside is None:
            continue
        all_of_it = np.concatenate([a[None], b[None], inside])
        rounding = 8 * np.spacing(np.abs(all_of_it).max(0))
        if np.any(np.abs(a - b) > 1e-5 * np.ptp(all_of_it, 0) + rounding):
            raise ValueError(
                f"periodic: the control is {a} before the period and {b} after it, so that the period does not close. Give "
                "the protocol the same before and after; a jump between two periods is charged at the start of the one."
            )


def _run(process: Process, ts: Array, grid: Grid | None) -> Evolution:
    return moments(process, ts) if grid is None else fokker_planck(process, ts, grid)


@jit
def _gaussian(process: Process, ts: Array) -> tuple[Gaussian, Array]:
    r"""A period takes m to $\Phi m + c$ and $\Sigma$ to $\Phi \Sigma \Phi^T + N$, told from d + 1 points, a width apart."""
    given = normal(process.initial)
    if given is None:
        raise ValueError(
            "periodic without a grid is for linear systems with a Gaussian start. Give grid=evolve.Grid(...)."
        )
    d, ts = given.mean.size, ts.astype(given.mean.dtype)
    system = linear(process.system, given.mean, process.protocol, ts)
    width = widths(system, given, process.protocol(ts[0]), ts[-1] - ts[0])
    eye = jnp.eye(d, dtype=given.mean.dtype)

    def nearer(mean: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        def later(z: Array) -> tuple[Array, Array]:
            point = Gaussian.from_root(mean + width * z, jnp.zeros_like(eye))
            found = moments(process.replace(initial=point), ts)
            return (found.mean[-1] - mean) / width, found.cov[-1] / jnp.outer(width, width)

        ends, covs = jax.vmap(later)(jnp.concatenate([jnp.zeros_like(eye[:1]), eye]))
        turn = (ends[1:] - ends[:1]).T
        return mean + width * jnp.linalg.solve(eye - turn, ends[0]), (turn, covs[0])

    # twice: from a start that is far away it comes near, and then there
    mean, found = jax.lax.scan(nearer, given.mean, length=2)
    turns, noise = found[0], found[1][-1]
    turn = turns[-1]
    both = jnp.eye(d * d, dtype=eye.dtype) - jnp.kron(turn, turn)
    cov = jnp.linalg.solve(both, noise.reshape(-1)).reshape(d, d)
    cov = 0.5 * (cov + cov.T)
    # the two, from far and from near, differ by what the first is off
    error = _FAR * tolerance(turn.dtype) * jnp.abs(turn) + jnp.abs(turns[1] - turns[0])
    stable = resolved(both, error, matmul(cov, turn.T), cov)
    start = Gaussian.from_root(mean, width[:, None] * _factor.root(cov))
    return start, stable & jnp.all(jnp.isfinite(mean))


def _density(shape: Array, grid: Grid) -> Array:
    return shape / (jnp.sum(shape) * grid.volume)


def _later(shape: Array, given: tuple[Process, Array, Grid]) -> Array:
    """The density a period later, as the one before in units of its greatest value: what rounding is relative to."""
    process, ts, grid = given
    start = Cells(grid, _density(shape, grid))
    found, _ = unjudged(process.replace(initial=start), ts, grid, "second")
    return found.p[-1] / jnp.max(found.p[-1])


class _Relative(lx.AbstractLinearSolver):
    """To a tolerance relative to the greatest entry of the vector: a gradient may have any unit."""

    solver: lx.GMRES

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> PyTree:
        return self.solver.init(operator, options)

    def compute(
        self, state: PyTree, vector: Array, options: dict[str, Any]
    ) -> tuple[Array, lx.RESULTS, dict[str, Any]]:
        size = jnp.max(jnp.abs(vector))
        size = jnp.where(size > 0, size, 1)
        found, result, stats = self.solver.compute(state, vector / size, options)
        return found * size, result, stats

    def transpose(self, state: PyTree, options: dict[str, Any]) -> tuple[PyTree, dict[str, Any]]:
        return self.solver.transpose(state, options)

    def conj(self, state: PyTree, options: dict[str, Any]) -> tuple[PyTree, dict[str, Any]]:
        return self.solver.conj(state, options)

    def assume_full_rank(self) -> bool:
        return self.solver.assume_full_rank()


@jit
def _cells(process: Process, ts: Array, grid: Grid) -> tuple[Cells, Array]:
    """Where the search starts does not matter, so that it need not fit the grid: what is come to is judged."""
    dtype = _checks.draw("initial", process.initial).dtype
    ts, even = ts.astype(dtype), jnp.ones(grid.cells, dtype)
    start = jax.lax.stop_gradient(masses(process.initial, grid, dtype)[0])
    start = jnp.where(jnp.all(jnp.isfinite(start)), start, even / even.size)
    eps = float(jnp.finfo(dtype).eps)
    rounding, rough = 100 * eps, max(100 * eps, 1e-6)

    def come_to(given: tuple[Array, Scalar]) -> tuple[Array, Array]:
        start, change = given
        solution = optx.fixed_point(
            _later,
            optx.FixedPointIteration(rtol=change, atol=change),  # pyright: ignore[reportArgumentType]
            start / jnp.max(start),
            (process, ts, grid),
            max_steps=_CYCLES,
            adjoint=optx.ImplicitAdjoint(
                _Relative(lx.GMRES(rtol=1e4 * eps, atol=1e4 * eps, restart=50))
            ),
            throw=False,
        )
        rests = solution.result == optx.RESULTS.successful
        return solution.value, rests & jnp.all(jnp.isfinite(solution.value))

    # what a period hardly changes is far from being periodic if the slowest relaxation takes many: so says another start,
    # which has to come near. As the first then is nearer by what it changed less, that does not take as many periods. It is
    # in all wells, in one of two more than in equilibrium, and not up on the slopes
    lam = process.protocol(ts[0])
    lattice = Lattice(overdamped("periodic", process.system), grid)
    height = -lattice.energies(lam, dtype) / jnp.max(lattice.system.temperature(lam))
    places: Any = jnp.indices(grid.cells, dtype)
    tilt = sum((place / n for place, n in zip(places, grid.cells, strict=True)), even)
    aside = jax.lax.stop_gradient(tilt * jnp.exp(height - jnp.max(height)))
    starts = jnp.stack([start, aside]), jnp.array([rounding, rough], dtype)
    (found, other), rest = jax.lax.map(come_to, starts)
    solved = jnp.all(rest) & (jnp.max(jnp.abs(found - other)) < _NEAR)
    return Cells(grid, _density(jnp.where(solved, found, even), grid)), solved
