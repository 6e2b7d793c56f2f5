r"""The friction tensor of a control: what slow driving dissipates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import _checks, _factor
from .._jit import jit
from .._products import matmul
from .._types import Array, Control, Float, Scalar, State
from ..densities import Boltzmann
from ..systems import TILTED, AbstractDiffusion, AbstractOverdamped, Grid, seamless

EDGE = 1e-6  # of its highest, to which a density must have fallen at an end of the grid that stands for infinity


def friction(
    system: AbstractDiffusion, lam: Control, *, grid: Grid | None = None, dim: int = 1
) -> Float[Array, "k k"]:
    r"""The friction tensor $\zeta$ of the control at `lam`, in nats · time / control².

    $$\zeta_{ij} = \int_0^\infty \langle \delta X_i(t)\, \delta X_j(0) \rangle\, dt, \qquad
      X_i = \frac{\partial \varphi(x, \lambda)}{\partial \lambda_i}, \qquad \varphi = U/T,$$

    with the equilibrium fluctuations at fixed `lam`. A slow drive dissipates $\int \dot\lambda^T \zeta\,
    \dot\lambda\, dt$ nats (`length`); T times that is energy, $\beta\int\langle\delta\partial_i U\,\delta\partial_j
    U\rangle\,dt = T \zeta$ where T is constant. A driven temperature is a control like others: then it is the reduced
    dissipated work. `lam` is one number or any pytree of k of them, and the tensor is in the order of
    `jax.flatten_util.ravel_pytree(lam)`.

    - Quadratic potentials, in `dim` coordinates: exactly, from the linear force and its Lyapunov equation.
    - Any other potential in one dimension, on the cells of `grid`: with $C_i(x) = \int_{-\infty}^x p\,\delta X_i$,
      $\zeta_{ij} = \frac1D \int \frac{C_i\, C_j}{p}\, dx$ less the product of the means of $C_i/p$ and $C_j/p$ on a
      ring. Errors are of the fourth order in the width of a cell. With `walls` the ends of the grid are the walls of the
      problem; else the density must have vanished there.

    Overdamped, one bath, at rest and in equilibrium. Raises `TypeError` for another system; `ValueError` for a force
    without potential or a flow (`friction` expands about an equilibrium), without an equilibrium, for a nonlinear system
    without a grid, a grid that does not hold the density, or a barrier over which the tensor has no number. What is not
    known while tracing becomes NaN.
    Source: Sivak & Crooks, PRL 108, 190602 (2012), eqs. 9 and 12; Zulkowski & DeWeese, PRE 92, 032117 (2015), for the
    closed form in one dimension.
    """
    if not isinstance(system, AbstractOverdamped):
        raise TypeError(
            f"friction is of an overdamped system (AbstractOverdamped), got {type(system).__name__}."
        )
    if system.velocity is not None:
        raise ValueError(
            "friction: in a medium that moves (velocity=) there is no equilibrium to expand about. Leave the flow out."
        )
    if grid is not None:
        return _on_grid(system, lam, grid)
    equilibrium = _equilibrium(system, lam, dim)
    parts = equilibrium.normal()
    if parts is None:
        raise ValueError(
            "friction: the potential is not quadratic in x. In one dimension give grid=thermojax.systems.Grid(lower, upper, "
            "cells); in more nothing is known in closed form."
        )
    mean, cov = parts
    points = mean[None] + jnp.concatenate([jnp.zeros((1, dim), cov.dtype), _factor.root(cov).T])
    return _conservative(system, equilibrium.lam, points, _quadratic(system, equilibrium.lam, mean))


def _equilibrium(system: AbstractOverdamped, lam: Control, dim: int) -> Boltzmann:
    try:
        return Boltzmann(system, lam, dim=dim)
    except ValueError as error:
        error.add_note(
            "friction looked for the equilibrium at lam; grid= takes any potential in one dimension."
        )
        raise


def _reduced(
    system: AbstractOverdamped, lam: Control
) -> tuple[Array, Callable[[State, Array], Scalar]]:
    """The controls as one vector, and phi(x, vector)."""
    vector, back = ravel_pytree(lam)
    return vector, lambda x, v: system.energy(x, back(v)) / system.temperature(back(v))


def _conservative(system: AbstractOverdamped, lam: Control, points: Array, zeta: Array) -> Array:
    """`zeta`, if the drift is that of the potential alone."""

    def push(x: State) -> tuple[State, State]:
        f = jnp.asarray(system.push(x, lam))
        return jnp.abs(f), jnp.abs(jax.grad(system.energy)(x, lam))

    forces, of_potential = jax.vmap(push)(points)
    rounding = 100 * jnp.finfo(forces.dtype).eps * jnp.max(of_potential)
    return _checks.must(
        "The force of the system",
        zeta,
        jnp.max(forces) <= rounding,
        "that of its potential alone: friction expands about an equilibrium, and a push f keeps the system out of it. Put "
        "it into the potential, if it has one",
    )


# ---- linear systems


@jit
def _quadratic(system: AbstractOverdamped, lam: Control, mean: State) -> Array:
    r"""With $x = m + D^{1/2} z$, $\dot z = -K z + \sqrt2\,\xi$ and $X_i = g_i \cdot z + \tfrac12 z^T H_i z$:

    $$\zeta_{ij} = g_i^T K^{-2} g_j + \tfrac12 \mathrm{tr}\, H_i S_j, \qquad K S + S K = K^{-1} H_j K^{-1} .$$

    The equation for S by the root of $K \otimes 1 + 1 \otimes K$, in elementary operations: see `_factor`.
    """
    vector, phi = _reduced(system, lam)
    spread = jnp.broadcast_to(jnp.sqrt(system.diffusion(mean, lam)), mean.shape)
    at = lambda z, v: phi(mean + spread * z, v)
    still, d = jnp.zeros_like(mean), mean.size
    slopes = jax.jacfwd(jax.grad(at, 1), 0)(still, vector)  # (k, d)
    bends = jax.jacfwd(jax.jacfwd(jax.grad(at, 1), 0), 0)(still, vector)  # (k, d, d)
    inverse = _factor.inverse(_factor.root(jax.hessian(at)(still, vector)))
    width = matmul(inverse.T, inverse)  # K^-1
    k, one = jax.hessian(at)(still, vector), jnp.eye(d, dtype=mean.dtype)
    sides = _factor.inverse(_factor.root(jnp.kron(k, one) + jnp.kron(one, k)))
    inner = matmul(matmul(width, bends), width).reshape(len(vector), d * d)
    moved = matmul(slopes, width)
    zeta = matmul(moved, moved.T) + 0.5 * matmul(
        matmul(bends.reshape(len(vector), d * d), sides.T), matmul(sides, inner.T)
    )
    return 0.5 * (zeta + zeta.T)


# ---- one dimension


def _on_grid(system: AbstractOverdamped, lam: Control, grid: Grid) -> Array:
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.systems.Grid, got {type(grid).__name__}.")
    if grid.dim != 1:
        raise ValueError(
            f"friction on cells is for one dimension, and the grid has {grid.dim}: in more no closed form is known."
        )
    lam = jax.tree.map(lambda v: _checks.floating("lam", v), lam)
    dtype = _checks.one_float(system=system, lam=lam)
    point = jnp.zeros(1, dtype)
    _checks.scalar("potential(x, lam)", system.energy, point, lam)
    if jax.eval_shape(system.temperature, lam).shape != ():
        raise ValueError(
            "friction needs one temperature: with a bath per coordinate there is no phi."
        )
    zeta, ends, closes = _cells(system, lam, grid, dtype)
    zeta = _checks.must(
        "friction: the potential, and its slope in each control,", zeta, closes, TILTED
    )
    zeta = _checks.must(
        "The friction",
        zeta,
        jnp.all(jnp.isfinite(zeta)),
        f"a number of {dtype}: a barrier is too high for it, or a wall or a NaN stands in the potential. Take the part on "
        "one side of it",
    )
    if not (grid.walls[0] or grid.periodic[0]):
        allowed = (
            f"wide enough: at an end the density is above {EDGE} of its highest. Widen it, or walls=True if it ends "
            "at walls"
        )
        zeta = _checks.must("The grid", zeta, ends <= EDGE, allowed)
    return _conservative(system, lam, grid.centres(dtype), zeta)


@jit
def _cells(
    system: AbstractOverdamped, lam: Control, grid: Grid, dtype: np.dtype
) -> tuple[Array, Scalar, Array]:
    """The tensor; the density at the ends as a share of its highest; whether the potential closes where it is a ring."""
    vector, phi = _reduced(system, lam)
    x = grid.centres(dtype)
    h = grid.widths[0]
    edges = jnp.asarray(grid.lower[0] + np.arange(grid.cells[0] + 1) * h, dtype)[:, None]
    heights, forces = jax.vmap(jax.value_and_grad(phi, 1), (0, None))(x, vector)
    passes = jax.vmap(phi, (0, None))(edges, vector)
    around = grid.periodic[0]
    if around:  # from the highest pass on, so that nothing large is left of what goes over it, there and back
        highest = -jnp.argmax(jax.lax.stop_gradient(passes[1:])) - 1
        heights, forces = jnp.roll(heights, highest), jnp.roll(forces, highest, 0)
        passes = jnp.roll(passes[1:], highest)
        passes = jnp.concatenate([passes[-1:], passes])
    low = jax.lax.stop_gradient(jnp.min(heights))
    weight = jnp.exp(low - heights)
    mass = _sums(weight[:, None], h, around)[0][-1, 0]
    p = weight / mass
    mean = _sums(p[:, None] * forces, h, around)[0][-1]
    left, right = _sums(p[:, None] * (forces - mean[None]), h, around)
    # each from its own side, so that both tails keep their digits
    first = jax.lax.stop_gradient(jnp.cumsum(p)) * h < 0.5
    first = jnp.concatenate([jnp.ones(1, bool), first])[:, None]
    c = jnp.where(first, left, -right)
    # by the root of 1/p, which has a number for barriers twice as high as p itself, and no quotient
    finite = jnp.isfinite(passes)
    rise = jnp.where(finite, passes, low) - low
    if around:
        c = c - jnp.where(jnp.all(finite), matmul(jax.nn.softmax(rise[1:]), c[1:]), 0)[None]
    there = finite[:, None] & (c != 0)
    root = jnp.where(there, c, 0) * jnp.exp(0.5 * jnp.where(there, rise[:, None], 0))
    squares = mass * root[:, :, None] * root[:, None, :]
    square = h * (jnp.sum(squares[1:], 0) + jnp.sum(squares[:-1], 0)) / 2
    # where a wall stands between two parts
    shut = ~finite[1:-1] & (jnp.cumsum(p)[:-1] > 0) & (jnp.cumsum(p[::-1])[-2::-1] > 0)
    square = jnp.where(jnp.any(shut), jnp.inf, square)
    diffusion = jnp.asarray(system.diffusion(x[0], lam), dtype).reshape(())
    ends = jnp.exp(low - jnp.minimum(passes[0], passes[-1])) / jnp.max(weight)
    closes = jnp.asarray(True)
    if around:
        seam, slopes = jax.vmap(jax.value_and_grad(phi, 1), (0, None))(
            edges[jnp.array([0, -1])], vector
        )
        each = [seamless(seam[0], seam[1], heights)]
        each += [
            seamless(slope[0], slope[1], force)
            for slope, force in zip(slopes.T, forces.T, strict=True)
        ]
        closes = jnp.all(jnp.stack(each))
    return square / diffusion, ends, closes


def _sums(f: Array, h: float, around: bool) -> tuple[Array, Array]:
    r"""$\int_a^x f$ and $\int_x^b f$ at the edges of the cells, from the values at their centres `(cells, k)`.

    The rule of midpoints with the first term of Euler's and Maclaurin's, $h^2 [f'(x) - f'(a)]/24$.
    """
    ahead, behind = (f[:1], f[-1:]) if around else (0, 0)
    inner = f[1:] - f[:-1]
    if around:
        start = stop = ahead - behind
    else:  # h f' at the ends, from three centres
        start, stop = -2 * f[:1] + 3 * f[1:2] - f[2:3], 2 * f[-1:] - 3 * f[-2:-1] + f[-3:-2]
    slopes = jnp.concatenate([start, inner, stop])
    nothing = jnp.zeros_like(f[:1])
    left = jnp.concatenate([nothing, jnp.cumsum(f, 0)])
    right = jnp.concatenate([jnp.cumsum(f[::-1], 0)[::-1], nothing])
    return h * (left + (slopes - start) / 24), h * (right + (stop - slopes) / 24)
