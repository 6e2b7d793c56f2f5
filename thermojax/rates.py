r"""Entropy production per time: currents, local velocities, and what keeps a system from rest.

$$\dot S_\mathrm{tot} = \Big\langle \sum_i \frac{v_i^2}{D_i} \Big\rangle = \dot S_m + \dot S, \qquad
  v = \mu F - D\, \nabla \ln p .$$
"""

import functools as ft
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from . import _checks
from ._closures import closed
from ._jit import jit
from ._paths import Path, shape_of
from ._process import Process, a_process
from ._products import matmul
from ._types import Array, Control, Density, Drive, Float, Given, Scalar, State, Time
from .estimators import Estimate, mean
from .evolve import CellEvolution, Evolution, GaussianEvolution, stationary, steady
from .systems import (
    AbstractDiffusion,
    AbstractOverdamped,
    AbstractSystem,
    AbstractUnderdamped,
    Edges,
    Lattice,
    current as _across,
    divergence,
)

Split = Literal["hatano-sasa", "maes-netocny"]
Score = Callable[[State], State]


class Rates(NamedTuple):
    r"""In nats per time: `total` = `medium` + `system`, and `total` = `housekeeping` + `excess`, both ≥ 0 (None: not asked).

    Numbers over the times of an evolution, or Estimates.
    """

    total: Array | Estimate
    medium: Array | Estimate
    system: Array | Estimate
    housekeeping: Array | Estimate | None = None
    excess: Array | Estimate | None = None


def velocity(system: AbstractSystem, lam: Control, score: Score) -> Callable[[State], State]:
    r"""The local mean velocity $v(x) = \mu F - D\,s(x)$ of what dissipates, $s = \nabla \ln p$ any score, a network's too.

    Of an `Underdamped` system it is $(0, -\gamma v - \gamma T\,\partial_p \ln p)$, in the state $(q, p)$: Hamilton's
    equations do not dissipate.

    Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), eq. 33.
    """
    diffusion = _diffusive("velocity", system)
    _checks.takes("score", score, "x")

    def at(x: State) -> State:
        return diffusion.irreversible(x, lam) - diffusion.diffusion(x, lam) * score(x)

    return at


def current(system: AbstractSystem, lam: Control, density: Density) -> Callable[[State], State]:
    r"""The probability current $j(x) = p\,(\mu F - D \nabla \ln p)$ of what dissipates, see `velocity`.

    $\partial_t p = -\nabla \cdot j$ where all of the drift does: overdamped, in a medium at rest.
    """
    _checks.density("density", density)
    v = velocity(system, lam, jax.grad(density.log_prob))
    return lambda x: jnp.exp(density.log_prob(x)) * v(x)


def along(process: Process, evolution: Evolution, *, split: Split | None = "hatano-sasa") -> Rates:
    r"""The rates at the times of an evolution, at the protocol's control there, as arrays over `evolution.ts`.

    Of the currents between the cells of a grid, with $J = w_+ p_i - w_- p_{i+1}$ across each edge,

    $$\dot S_\mathrm{tot} = \sum J \ln\frac{w_+ p_i}{w_- p_{i+1}}, \qquad \dot S_m = \sum J \ln \frac{w_+}{w_-},$$

    and of Gaussian moments in closed form. `split` parts the total into what it costs to keep the system from equilibrium
    and the excess, what it costs that it changes:

    - `"hatano-sasa"`: $v_\mathrm{hk}$ is the velocity in the stationary state $\pi$ of the control at that time;
      the excess is $\langle |D\nabla\ln(p/\pi)|^2/D \rangle$. Both are NaN where more than a millionth of what flows
      does so in cells of which $\pi$ is below the least number of the precision, 87 kT (float32) up.
    - `"maes-netocny"`: the excess is the least that moves p as it moves, by a gradient; the rest is housekeeping. It is
      never less than Hatano's and Sasa's excess.

    In two dimensions each time costs a stationary density (`evolve.steady`) or a solution of Poisson's equation.

    Source: Hatano & Sasa, PRL 86, 3463 (2001); Maes & Netočný, J. Stat. Phys. 154, 188 (2014); Dechant, Sasa & Ito,
    PRE 106, 024125 (2022).
    """
    a_process("process", process)
    if split not in (None, "hatano-sasa", "maes-netocny"):
        raise ValueError(f'split must be "hatano-sasa", "maes-netocny" or None, got {split!r}.')
    system = process.system
    if split and isinstance(system, AbstractUnderdamped):
        raise ValueError(
            "Of momenta, which are odd under time reversal, the two splits do not part the production. Ask for split=None."
        )
    if split and isinstance(system, AbstractOverdamped) and system.velocity is not None:
        raise ValueError(
            "In a medium that flows (velocity=) the two splits do not part the production: the flow is odd under time "
            "reversal. Ask for split=None."
        )
    if not isinstance(evolution, Evolution):
        raise TypeError(
            f"evolution must come from thermojax.evolve, got {type(evolution).__name__}. Of samples: rates.sampled."
        )
    evolution.alone("rates.along")
    if isinstance(evolution, CellEvolution):
        return _of_cells(process, evolution, split)
    return _of_moments(process, GaussianEvolution.needed(evolution), split)


def sampled(system: AbstractSystem, lam: Control, score: Score, xs: Given) -> Rates:
    r"""The rates from states `xs` `(n, d)` of one time, and any score of their density: Estimates.

    `total` is $\langle \sum_i v_i^2/D_i \rangle$ and `medium` the mean of its Itô form at the samples,
    $\sum_i \mu_i F_i^2/T_i + \mu_i \partial_i F_i$: no quotient of small differences. `system` is the difference, draw by
    draw. A score that is off by $\delta$ changes the total by $\langle D |\delta|^2 \rangle - 2 \langle v \cdot \delta
    \rangle$: that is no error bar's matter.

    Source: Seifert (2012), sec. 2.5; Boffi & Vanden-Eijnden, arXiv:2309.12991.
    """
    diffusion = _diffusive("sampled", system)
    xs = _checks.floating("xs", xs)
    _checks.rank("xs", xs, {2}, "(n, d)")
    _checks.takes("score", score, "x")
    lam = jtu.tree_map(lambda v: jnp.asarray(v, xs.dtype) if isinstance(v, int | float) else v, lam)
    total, medium = _sampled(diffusion, lam, closed(score), xs)
    return Rates(*(mean(rate) for rate in (total, medium, total - medium)))


def sampled_along(process: Process, path: Path, score: Callable[[State, Time], State]) -> Rates:
    r"""The rates at each time of many paths, `path.xs` `(paths, m, d)`, given a `score(x, t)`: Estimates over `(m,)`.

    `evolution.score` is one; see `sampled`, of which this is one for each time.
    """
    a_process("process", process)
    diffusion = _diffusive("sampled_along", process.system)
    shape_of(path)
    ts = path.ts
    if jnp.ndim(ts) == 2:
        value = _checks.known(ts)
        if value is not None and not (value == value[0]).all():
            raise ValueError(
                "path.ts must be one grid of times for all paths: rates are of a time."
            )
        ts = ts[0]
    if jnp.ndim(path.xs) != 3:
        raise ValueError(
            f"path.xs must have shape (paths, times, d), got {jnp.shape(path.xs)}. thermojax.ensemble makes such paths."
        )
    _checks.takes("score", score, "x", "t")
    ok = jnp.broadcast_to(path.ok, path.xs.shape[:1])
    lost = _checks.known(ok)
    if lost is not None and not lost.all():
        raise ValueError(
            f"{int((~lost).sum())} of {len(lost)} paths failed (path.ok): their states stand still. Rates of the others "
            "are of Path(ts, path.xs[path.ok]), if what made them fail does not depend on where they are."
        )
    xs = jnp.where(ok[:, None, None], path.xs, jnp.nan)
    total, medium = _sampled_along(diffusion, process.protocol, closed(score), ts, xs)
    return Rates(*(jax.vmap(mean)(rate) for rate in (total, medium, total - medium)))


@jit
def _sampled_along(
    system: AbstractDiffusion,
    protocol: Drive,
    score: Callable[[State, Time], State],
    ts: Array,
    xs: Array,
) -> tuple[Array, Array]:
    """Of each time and path."""
    at = lambda t, x: _each(system, protocol(t), lambda x: score(x, t), x)
    return jax.vmap(at, in_axes=(0, 1))(ts, xs)


@jit
def _sampled(
    system: AbstractDiffusion, lam: Control, score: Score, xs: Array
) -> tuple[Array, Array]:
    return _each(system, lam, score, xs)


def _each(system: AbstractDiffusion, lam: Control, score: Score, xs: Array) -> tuple[Array, Array]:
    v = velocity(system, lam, score)

    def one(x: State) -> tuple[Scalar, Scalar]:
        total = jnp.sum(_over(v(x) ** 2, system.diffusion(x, lam)))
        heat = jnp.sum(system.heating(x, lam) / system.temperature(lam))
        return total, heat - _swelling(system, x, lam)

    return jax.vmap(one)(xs)


def _over(square: State, diffusion: Array) -> State:
    """$v^2/D$ where there is noise: nothing dissipates where there is none."""
    noisy = diffusion > 0
    return jnp.where(noisy, square / jnp.where(noisy, diffusion, 1), 0)


def _swelling(system: AbstractDiffusion, x: State, lam: Control) -> Scalar:
    r"""$\nabla \cdot u$ of the part of the drift that does not dissipate: the volume that a flowing medium carries off."""
    carried = lambda x: system.drift(x, lam) - system.irreversible(x, lam)
    return jnp.trace(jax.jacfwd(carried)(x))


def _diffusive(name: str, system: AbstractSystem) -> AbstractDiffusion:
    if not isinstance(system, AbstractDiffusion):
        raise TypeError(
            f"rates.{name} is for diffusions (AbstractDiffusion), and {type(system).__name__} is none."
        )
    return system


@jit
def _of_cells(process: Process, evolution: CellEvolution, split: Split | None) -> Rates:
    grid, system = evolution.grid, process.system
    lattice = Lattice(system, grid)  # pyright: ignore[reportArgumentType]
    axes = range(grid.dim)

    def one(given: tuple[Time, Array]) -> Rates:
        t, p = given
        lam = process.protocol(t)
        # a scheme may leave it below zero by a little
        p = jnp.maximum(p * grid.volume, jnp.finfo(p.dtype).tiny)
        edges = lattice.edges(lam, p.dtype)
        flows = [_across(p, edges[i], i) for i in axes]
        pushes = [_affinity(p, edges[i], i) for i in axes]
        total = _sum(jnp.sum(j * f) for j, f in zip(flows, pushes, strict=True))
        medium = _sum(jnp.sum(j * e.affinity) for j, e in zip(flows, edges, strict=True))
        keeping = None
        if split == "hatano-sasa":
            pi = stationary(lattice, lam, p.dtype)
            keeping = _sum(jnp.sum(flows[i] * _affinity(pi, edges[i], i)) for i in axes)
            # where the steady density is below the least number, its logarithm is not known
            low = pi <= jnp.finfo(p.dtype).tiny
            unknown = _sum(
                jnp.sum(jnp.where(low | jnp.roll(low, -1, i), jnp.abs(flows[i]), 0)) for i in axes
            )
            known = unknown <= 1e-6 * _sum(jnp.sum(jnp.abs(flow)) for flow in flows)
            keeping = jnp.where(known, keeping, jnp.nan)
        elif split == "maes-netocny":
            leaves = _sum(divergence(flows[i], i) for i in axes)
            keeping = total - _least(p, edges, pushes, flows, leaves)
        excess = None if keeping is None else total - keeping
        return Rates(total, medium, total - medium, keeping, excess)

    return jax.lax.map(one, (evolution.ts, evolution.p))


def _sum(terms: Iterable[Array]) -> Array:
    return ft.reduce(jnp.add, terms)


def _affinity(p: Array, edges: Edges, axis: int) -> Array:
    r"""$\ln(w_+ p_i / w_- p_{i+1})$; zero where there is no edge."""
    height = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
    return jnp.where(edges.up > 0, edges.affinity + height - jnp.roll(height, -1, axis), 0)


def _least(
    p: Array, edges: tuple[Edges, ...], pushes: list[Array], flows: list[Array], leaves: Array
) -> Scalar:
    r"""The least production that moves p as it moves: $\sum m (\nabla\psi)^2$ with $\mathrm{div}(m \nabla\psi) =
    \mathrm{div}\,J$ and the weight $m = J/F$ of each edge, a logarithmic mean of what goes up and down."""
    weights = []
    for axis, (edge, push, flow) in enumerate(zip(edges, pushes, flows, strict=True)):
        even = jnp.abs(push) < 1e-4
        middle = 0.5 * (edge.up * p + edge.down * jnp.roll(p, -1, axis))
        weights.append(jnp.where(even, middle, flow / jnp.where(even, 1, push)))
    beside = _sum(weight + jnp.roll(weight, 1, axis) for axis, weight in enumerate(weights))
    scale = jnp.sqrt(jnp.maximum(beside, jnp.finfo(p.dtype).tiny))

    def matrix(y: Array) -> Array:
        psi = y / scale
        gone = (
            divergence(weight * (psi - jnp.roll(psi, -1, axis)), axis)
            for axis, weight in enumerate(weights)
        )
        return _sum(gone) / scale

    # of what comes and goes through a cell that much is rounding
    lost = 16 * jnp.finfo(p.dtype).eps * jax.lax.stop_gradient(_gross(p, edges))
    tol = 1e-10 if p.dtype == jnp.float64 else 1e-5
    b = jnp.where(jnp.all(jnp.abs(leaves) <= lost), 0, leaves) / scale
    y, _ = jax.scipy.sparse.linalg.cg(matrix, b, tol=tol, maxiter=20 * p.size)
    left = b - jax.lax.stop_gradient(matrix(y))
    solved = jnp.sum(left**2) <= jnp.sqrt(tol) * jnp.sum(b**2) + jnp.sum((lost / scale) ** 2)
    return jnp.where(solved, jnp.sum(y * b), jnp.nan)


def _gross(p: Array, edges: tuple[Edges, ...]) -> Array:
    """What comes and goes through each cell, without a sign."""
    both = [e.up * p + e.down * jnp.roll(p, -1, axis) for axis, e in enumerate(edges)]
    return _sum(b + jnp.roll(b, 1, axis) for axis, b in enumerate(both))


@jit
def _of_moments(process: Process, evolution: GaussianEvolution, split: Split | None) -> Rates:
    system = _diffusive("along", process.system)

    def one(given: tuple[Time, State, Float[Array, "d d"]]) -> Rates:
        t, m, cov = given
        lam = process.protocol(t)
        diffusion = jnp.broadcast_to(system.diffusion(m, lam), m.shape)
        slope = jax.jacfwd(lambda x: system.irreversible(x, lam))(m)
        drift = system.irreversible(m, lam)
        spread = slope + diffusion[:, None] * jnp.linalg.inv(cov)

        def square(v: State, matrix: Array) -> Scalar:
            r"""$\langle |v + M (x - m)|^2 / D \rangle$."""
            apart = jnp.diagonal(matmul(matmul(matrix, cov), matrix.T))
            return jnp.sum(_over(v**2 + apart, diffusion))

        total = square(drift, spread)
        keeping = None
        if split == "hatano-sasa":
            pi = steady(system, lam, dim=m.size)
            still = slope + diffusion[:, None] * jnp.linalg.inv(pi.cov)
            keeping = square(matmul(still, m - pi.mean), still)
        elif split == "maes-netocny":
            change = matmul(spread, cov) + matmul(cov, spread.T)
            d = jnp.diag(diffusion)
            psi = jnp.linalg.solve(jnp.kron(cov, d) + jnp.kron(d, cov), change.reshape(-1))
            keeping = total - square(drift, matmul(d, psi.reshape(cov.shape)))
        excess = None if keeping is None else total - keeping
        # <v.F/D> by parts: no difference from the total, which is without bound in a narrow density
        medium = square(drift, slope) + jnp.trace(slope) - _swelling(system, m, lam)
        return Rates(total, medium, total - medium, keeping, excess)

    return jax.lax.map(one, (evolution.ts, evolution.mean, evolution.cov))
