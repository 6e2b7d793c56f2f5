r"""What a process comes to that is repeated for ever."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
import optimistix as optx

from .. import _checks, _factor
from .._process import Process, a_process, ends
from .._products import matmul
from .._types import Array, Times
from ..densities import Cells, Gaussian, normal
from ..systems import Grid
from ._evolution import Evolution
from ._fokker_planck import fokker_planck, masses
from ._moments import moments

_CYCLES = 4096


def periodic(process: Process, ts: Times, grid: Grid | None = None) -> Evolution:
    r"""One period of a driven cycle, from the density that it leads back to: $p(t_0 + \tau) = p(t_0)$.

    `ts` is one period, `process.initial` where to start the search for it. On a `grid` by `fokker_planck`, without one by
    `moments` (linear systems). In the periodic state $\Delta U = 0$ and $\Delta S_\mathrm{sys} = 0$: work is heat, and the
    entropy of the medium is that of all. The work and the heat of a stroke are differences of the running totals.

    On a grid the period is repeated until the density changes by no more than rounding, at most 4096 times. Differentiable
    by the implicit function theorem, in reverse mode, with respect to every leaf (the start has none).

    Raises `ValueError` for a protocol whose `before` and `after` differ: the period would not close; `RuntimeError` where
    nothing periodic is come to; NaN while tracing.

    Source: Brandner, Saito & Seifert, PRX 5, 031019 (2015), sec. II.
    """
    a_process("process", process)
    ts = _checks.times("ts", ts)
    _closes(process, ts)
    if grid is None:
        start, solved = _gaussian(process, ts)
    else:
        p, solved = _cells(process, ts, grid)
        start = Cells(grid, p)
    if not _checks.tracing(solved) and not bool(solved):
        raise RuntimeError(
            f"periodic: nothing periodic is come to (on a grid, within {_CYCLES} periods): nothing confines the system, or "
            "a period is far shorter than the slowest relaxation. Give a longer period, or a nearer start (initial=)."
        )
    start = jtu.tree_map(lambda v: jnp.where(solved, v, jnp.nan), start)
    return _run(process.replace(initial=start), ts, grid)


def _closes(process: Process, ts: Array) -> None:
    with jax.ensure_compile_time_eval():
        before, after = ends(process.protocol, ts)
    for one, two in zip(jtu.tree_leaves(before), jtu.tree_leaves(after), strict=True):
        a, b = _checks.known(one), _checks.known(two)
        if a is not None and b is not None and not np.allclose(a, b, rtol=1e-5, atol=1e-7):
            raise ValueError(
                f"periodic: the control is {a} before the period and {b} after it, so that the period does not close. Give "
                "the protocol the same before and after; a jump between two periods is charged at the start of the one."
            )


def _run(process: Process, ts: Array, grid: Grid | None) -> Evolution:
    return moments(process, ts) if grid is None else fokker_planck(process, ts, grid)


@eqx.filter_jit
def _gaussian(process: Process, ts: Array) -> tuple[Gaussian, Array]:
    r"""A period takes m to $\Phi m + c$ and $\Sigma$ to $\Phi \Sigma \Phi^T + N$, told from d + 1 starts."""
    given = normal(process.initial)
    if given is None:
        raise ValueError(
            "periodic without a grid is for linear systems with a Gaussian start. Give grid=evolve.Grid(...)."
        )
    d = given.mean.size
    eye = jnp.eye(d, dtype=given.mean.dtype)

    def later(mean: Array) -> tuple[Array, Array]:
        found = moments(process.replace(initial=Gaussian.from_root(mean, eye)), ts)
        return found.mean[-1], found.cov[-1]

    ends, covs = jax.vmap(later)(jnp.concatenate([jnp.zeros_like(eye[:1]), eye]))
    shift, turn = ends[0], (ends[1:] - ends[:1]).T
    noise = covs[0] - matmul(turn, turn.T)
    mean = jnp.linalg.solve(eye - turn, shift)
    both = jnp.eye(d * d, dtype=eye.dtype) - jnp.kron(turn, turn)
    cov = jnp.linalg.solve(both, noise.reshape(-1)).reshape(d, d)
    root = _factor.root(0.5 * (cov + cov.T))
    # a period is stable if and only if this has a positive solution
    return Gaussian.from_root(mean, root), jnp.all(jnp.isfinite(root)) & jnp.all(jnp.isfinite(mean))


def _later(p: Array, given: tuple[Process, Array, Grid]) -> Array:
    process, ts, grid = given
    return fokker_planck(process.replace(initial=Cells(grid, p)), ts, grid).p[-1]


@eqx.filter_jit
def _cells(process: Process, ts: Array, grid: Grid) -> tuple[Array, Array]:
    dtype = _checks.draw("initial", process.initial).dtype
    start = jax.lax.stop_gradient(masses(process.initial, grid, dtype)[0] / grid.volume)
    eps = float(jnp.finfo(dtype).eps)
    solution = optx.fixed_point(
        _later,
        optx.FixedPointIteration(rtol=100 * eps, atol=100 * eps),
        start,
        (process, ts, grid),
        max_steps=_CYCLES,
        adjoint=optx.ImplicitAdjoint(lx.GMRES(rtol=1e4 * eps, atol=1e4 * eps, restart=50)),
        throw=False,
    )
    return solution.value, solution.result == optx.RESULTS.successful
