r"""A density that is known cell by cell of a grid."""

import interpax
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._chance import chance
from .._guard import held, untracked
from .._jit import jit
from .._nodes import nodes
from .._products import einsum, tensordot
from .._types import Array, Float, Given, Key, Scalar, State
from ..systems import Grid
from ._base import AbstractKnownDensity

MOVED = 0.025  # of the weight, by the spline: from there on the cells do not resolve it


class Cells(AbstractKnownDensity):
    r"""A density given at the centres of a `systems.Grid`: `p` `(*cells,)`, $\sum_i p_i\, h^d = 1$.

    Between the centres $\ln p$ is a cubic spline (twice differentiable, around the ring on a periodic axis), divided by
    its own integral, so that $\langle e^{-R} \rangle = 1$ holds with it as `final`; an error of order $h^4$ is left in
    $\langle R \rangle$. Where the cells do not resolve p, as beside empty ones, a spline rings: if it would move more than
    a hundredth of the weight from cell to cell, as of a histogram or a sharp edge, p is an exponential within each cell
    instead, of the smaller slope to its neighbours, and each cell holds just what was given. Beyond the grid, except on a
    periodic axis, `log_prob` is minus infinity. Cells that hold nothing count as the smallest number there is. A draw is
    uniform within its cell.

    A p that is below zero by a little, as a scheme may leave it, counts as empty. Raises `ValueError` for a p of another
    shape, one that is not normalised, or one that is below zero by more than a thousandth of the whole (NaN while
    tracing).

    Draws differentiate with respect to p in one dimension; in two, to differentiate them raises `ValueError`.
    """

    grid: Grid
    p: Float[Array, "..."]

    def __init__(self, grid: Grid, p: Given):
        if not isinstance(grid, Grid):
            raise TypeError(f"Cells.grid must be a thermojax.systems.Grid, got {grid!r}.")
        p = _checks.floating("Cells.p", p)
        if p.shape != grid.cells:
            raise ValueError(
                f"Cells.p must have the shape of the cells, {grid.cells}; got {p.shape}."
            )
        mass, below = (jnp.sum(v) * grid.volume for v in (p, jnp.maximum(-p, 0)))
        allowed = (
            f"densities whose sum times the volume of a cell, {grid.volume:.6g}, is 1 (to 1e-3)"
        )
        p = _checks.must("Cells.p", p, jnp.abs(mass - 1) < 1e-3, allowed, got=mass)
        allowed = "nowhere negative (as by rounding it may be, by 1e-3 of the whole)"
        self.grid, self.p = grid, _checks.must("Cells.p", p, below < 1e-3, allowed, got=-below)

    @property
    def floored(self) -> Array:
        """p, at least the smallest normal number."""
        tiny = jnp.finfo(self.p.dtype).tiny
        return jnp.where(self.p > tiny, self.p, tiny)

    @jit
    def log_prob(self, x: State) -> Scalar:
        _checks.point("Cells.log_prob", x, self.grid.dim)
        integral, resolved = self._integral()
        lower, upper = (jnp.asarray(end, x.dtype) for end in (self.grid.lower, self.grid.upper))
        free = jnp.asarray(self.grid.periodic)
        outside = jnp.any(((x < lower) | (x > upper)) & ~free)
        x = jnp.where(free, lower + jnp.mod(x - lower, upper - lower), held(x, lower, upper))
        value = jnp.where(resolved, self._spline(x[None])[0] - integral, self._cellwise(x))
        return jnp.where(outside, -jnp.inf, value)

    def _cellwise(self, x: State) -> Scalar:
        r"""$\ln p_i + s\,(x - c_i) - \ln\frac{\sinh(sh/2)}{sh/2}$ for each axis, with the slope s in cell i."""
        grid, height = self.grid, jnp.log(self.floored)
        empty = self.p <= jnp.finfo(self.p.dtype).tiny
        h, lower = (jnp.asarray(v, height.dtype) for v in (grid.widths, grid.lower))
        place = (jax.lax.stop_gradient(x) - lower) / h
        i = tuple(jnp.clip(v.astype(int), 0, n - 1) for v, n in zip(place, grid.cells, strict=True))
        value = height[i]
        for axis, around in enumerate(grid.periodic):
            rise = []
            for side in (1, -1):
                j = i[axis] + side
                there = around | ((j >= 0) & (j < grid.cells[axis]))
                j = (*i[:axis], j % grid.cells[axis], *i[axis + 1 :])
                rise.append(
                    jnp.where(there & ~empty[i] & ~empty[j], side * (height[j] - height[i]), 0)
                )
            least = jnp.minimum(jnp.abs(rise[0]), jnp.abs(rise[1]))
            u = 0.5 * jnp.where(rise[0] * rise[1] > 0, jnp.sign(rise[0]) * least, 0)
            away = 2 * (x[axis] - lower[axis]) / h[axis] - (2 * i[axis] + 1).astype(x.dtype)
            value = value + u * away - _log_sinhc(u)
        return value

    def _spline(self, x: Float[Array, "points d"]) -> Float[Array, " points"]:
        grid, dtype = self.grid, self.p.dtype
        axes = [grid.axis(i, dtype) for i in range(grid.dim)]
        periods = [
            b - a if around else None
            for a, b, around in zip(grid.lower, grid.upper, grid.periodic, strict=True)
        ]
        height = jnp.log(self.floored)
        with _checks.lenient():
            if grid.dim == 1:
                value = interpax.interp1d(
                    x[:, 0], axes[0], height, method="cubic2", extrap=True, period=periods[0]
                )
            else:
                value = interpax.interp2d(
                    x[:, 0],
                    x[:, 1],
                    axes[0],
                    axes[1],
                    height,
                    method="cubic2",
                    extrap=True,
                    period=(periods[0], periods[1]),
                )
        return value

    def _integral(self) -> tuple[Scalar, Array]:
        """The logarithm of that of the spline's density, by four points a cell and axis; whether it leaves the weight in
        the cells."""
        grid = self.grid
        places, weights = nodes(4)
        axes = [
            (grid.lower[i] + grid.widths[i] * (np.arange(n)[:, None] + places)).reshape(-1)
            for i, n in enumerate(grid.cells)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, grid.dim)
        values = self._spline(jnp.asarray(points, self.p.dtype))
        top = jax.lax.stop_gradient(jnp.max(values))
        weights, by = jnp.asarray(weights, values.dtype), ("ia,a->i", "iajb,a,b->ij")[grid.dim - 1]
        inside = jnp.exp(values - top).reshape([size for n in grid.cells for size in (n, 4)])
        shares = einsum(by, inside, *[weights] * grid.dim) * grid.volume
        moved = jnp.sum(jnp.abs(shares * jnp.exp(top) - self._held()))
        return jnp.log(jnp.sum(shares)) + top, jax.lax.stop_gradient(moved) < MOVED

    def _held(self) -> Array:
        r"""The weight of each cell, $h\,(p_i + \tfrac1{24}\delta^2 p_i)$, with the second difference of every axis."""
        held = self.p
        for axis, around in enumerate(self.grid.periodic):
            beyond = [(1, 1) if i == axis else (0, 0) for i in range(self.grid.dim)]
            p = jnp.pad(self.p, beyond, mode="wrap" if around else "edge")
            held = held + jnp.diff(p, 2, axis) / 24
        return held * self.grid.volume

    @jit
    def sample(self, key: Key) -> State:
        grid, dtype = self.grid, self.p.dtype
        p = jnp.where(self.p > 0, self.p, 0)
        u = chance(key, (grid.dim,), dtype)
        if grid.dim == 1:
            return _inverse(grid.lower[0], grid.widths[0], p, u[0])[None]
        x = _inverse(grid.lower[0], grid.widths[0], p.sum(1), u[0])
        row = jnp.clip((x - grid.lower[0]) / grid.widths[0], 0, grid.cells[0] - 1).astype(int)
        y = _inverse(grid.lower[1], grid.widths[1], p[row], u[1])
        message = (
            "A draw from two-dimensional Cells does not follow its density. Hold it fixed by jax.lax.stop_gradient, or use "
            "a density that is reparametrised, such as Gaussian."
        )
        return untracked(jax.lax.stop_gradient(jnp.stack([x, y])), self.p, message=message)

    def mean(self) -> State:
        r"""$\langle x \rangle$ over the centres."""
        return tensordot(self._mass(), self.grid.centres(self.p.dtype), self.grid.dim)

    def cov(self) -> Float[Array, "d d"]:
        r"""$\langle (x - m)(x - m)^T \rangle$ over the centres."""
        away = self.grid.centres(self.p.dtype).reshape(-1, self.grid.dim) - self.mean()[None]
        return einsum("i,ij,ik->jk", self._mass().reshape(-1), away, away)

    def entropy(self) -> Scalar:
        r"""$-\sum_i p_i h^d \ln p_i$, in nats. A cell that is not positive counts as empty."""
        filled = self.p > 0
        height = jnp.log(jnp.where(filled, self.p, 1))
        return -jnp.sum(jnp.where(filled, self.p * height, 0)) * self.grid.volume

    def _mass(self) -> Array:
        return self.p * self.grid.volume

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "Cells":
        raise ValueError(
            "Cells does not know its density with noise on top. Use a Gaussian or a Mixture, or Empirical of its draws."
        )


def _log_sinhc(u: Array) -> Array:
    r"""$\ln(\sinh u / u)$."""
    small = jnp.abs(u) < 0.1
    far = jnp.where(small, 1, jnp.abs(u))
    near = u**2 / 6 - u**4 / 180 + u**6 / 2835
    return jnp.where(small, near, far + jnp.log1p(-jnp.exp(-2 * far)) - jnp.log(2 * far))


def _inverse(lower: float, width: float, p: Float[Array, " n"], u: Scalar) -> Scalar:
    """Where the cumulated weight of cells reaches the share `u`."""
    total = jnp.cumsum(p)
    aim = u * total[-1]
    i = jnp.clip(jnp.searchsorted(total, aim, side="right"), 0, p.size - 1)
    within = (aim - (total[i] - p[i])) / jnp.where(p[i] > 0, p[i], 1)
    return lower + width * (i.astype(p.dtype) + within)
