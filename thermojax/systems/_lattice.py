r"""A diffusion as jumps between the cells of a grid, with detailed balance at every edge."""

from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _tridiagonal
from .._types import Array, Control, Float, Scalar
from ._grid import Grid
from ._inhomogeneous import Inhomogeneous
from ._overdamped import AbstractOverdamped

Carried: TypeAlias = AbstractOverdamped | Inhomogeneous  # whose density a lattice carries

SEAM = 1e-4  # of the range of a potential, by which its ends may differ on a ring
TILTED = (
    "periodic on a periodic axis, U(lower) = U(upper), and it is not: it does not close on the ring. A tilt is a force: "
    "give it as force=. Or take the whole period as the grid"
)

Cells = Float[Array, "..."]  # one number for each cell, `(*cells,)`


class Edges(NamedTuple):
    r"""The edges of one axis, each after the cell that it is counted with: rates `up` and `down` across it, and the
    affinity $-z = (\mathrm{work\ of\ } f - \Delta U)/T$ of a jump up. An axis that is not periodic has no last edge: there
    all three are zero.
    """

    up: Cells
    down: Cells
    affinity: Cells


class Lattice(eqx.Module):
    r"""The master equation of an overdamped system on a grid.

    Across the edge from $x_i$ to $x_{i+1}$, with $z = [U_{i+1} - U_i - f(x_{i+1/2})\, h]/T$ and $B(z) = z/(e^z - 1)$,

    $$w_+ = \frac{D}{h^2} B(z), \qquad w_- = \frac{D}{h^2} B(-z), \qquad \ln\frac{w_+}{w_-} = -z,$$

    D that of the edge where it depends on x, so that at $f = 0$ the Boltzmann weights of the cells are exactly at rest.

    Source: Scharfetter & Gummel, IEEE Trans. Electron Devices 16, 64 (1969).
    """

    system: Carried
    grid: Grid

    def __check_init__(self) -> None:
        if not isinstance(self.system, Carried):
            raise TypeError(
                f"A Lattice is of an overdamped system (AbstractOverdamped), got {type(self.system).__name__}. Without a "
                "lattice: thermojax.evolve.moments, if it is linear, or thermojax.ensemble."
            )

    def energies(self, lam: Control, dtype: np.dtype) -> Cells:
        """$U$ at the centres."""
        return self.grid.each(lambda x: self.system.energy(x, lam), dtype)

    def bath(self, axis: int, lam: Control) -> Scalar:
        """$T$ along an axis."""
        temperature = self.system.temperature(lam)
        return temperature[axis] if jnp.ndim(temperature) else temperature

    def edges(self, lam: Control, dtype: np.dtype) -> tuple[Edges, ...]:
        """The rates at fixed control, axis by axis."""
        energies = self.energies(lam, dtype)
        return tuple(self._edges(axis, energies, lam) for axis in range(self.grid.dim))

    def closes(self, lam: Control, dtype: np.dtype) -> Array:
        """Whether U is the same at both ends of every periodic axis, where it is finite: a tilt has none on a ring."""
        energies = self.energies(lam, dtype)
        return jnp.all(
            jnp.stack([self._closes(axis, energies, lam) for axis in range(self.grid.dim)])
        )

    def _closes(self, axis: int, energies: Cells, lam: Control) -> Array:
        if not self.grid.periodic[axis]:
            return jnp.asarray(True)
        beside = jnp.take(self.grid.centres(energies.dtype), 0, axis).reshape(-1, self.grid.dim)
        energy = jax.vmap(lambda x: self.system.energy(x, lam))
        ends = [
            energy(beside.at[:, axis].set(end[axis])) for end in (self.grid.lower, self.grid.upper)
        ]
        return seamless(ends[0], ends[1], energies)

    def _edges(self, axis: int, energies: Cells, lam: Control) -> Edges:
        grid, dtype = self.grid, energies.dtype
        width = grid.widths[axis]
        shift = 0.5 * width * jnp.eye(grid.dim, dtype=dtype)[axis]
        last = jnp.asarray(grid.upper, dtype)  # no force is asked for beyond an end

        def edge(x: Array) -> Array:
            return x + shift if grid.periodic[axis] else jnp.minimum(x + shift, last)

        def force(x: Array) -> Scalar:
            return jnp.asarray(self.system.push(edge(x), lam))[axis]

        def along(x: Array) -> Scalar:
            diffusion = self.system.diffusion(x, lam)
            return diffusion[axis] if jnp.ndim(diffusion) else diffusion

        gain = jnp.roll(energies, -1, axis) - energies - width * grid.each(force, dtype)
        z = jnp.where(self._closes(axis, energies, lam), gain / self.bath(axis, lam), jnp.nan)
        varies = isinstance(self.system, Inhomogeneous)
        diffusion = grid.each(lambda x: along(edge(x)), dtype) if varies else along(last)
        rate = diffusion / width**2
        there = jnp.ones(grid.cells[axis], bool)
        if not grid.periodic[axis]:
            there = there.at[-1].set(False)
        there = there.reshape([-1 if i == axis else 1 for i in range(grid.dim)])
        z = jnp.where(there, z, 0)
        up, down = _bernoulli(z)
        return Edges(*(jnp.where(there, v, 0) for v in (rate * up, rate * down, -z)))


def seamless(first: Array, last: Array, values: Array) -> Array:
    """Whether what is at both ends of a ring is the same, by a small part of the range of all `values` and rounding."""
    gap = jnp.abs(last - first)
    top, bottom, size = (f(values) for f in (jnp.max, jnp.min, lambda v: jnp.max(jnp.abs(v))))
    return ~jnp.any(gap > SEAM * (top - bottom) + 100 * jnp.finfo(values.dtype).eps * size)


def current(p: Cells, edges: Edges, axis: int) -> Cells:
    """Across each edge, upwards: $J = w_+ p_i - w_- p_{i+1}$."""
    return edges.up * p - edges.down * jnp.roll(p, -1, axis)


def divergence(flow: Cells, axis: int) -> Cells:
    """What leaves each cell."""
    return flow - jnp.roll(flow, 1, axis)


def implicit(edges: Edges, axis: int, periodic: bool, dt: Scalar, b: Cells) -> Cells:
    r"""$(1 - dt\,A)^{-1} b$, A the generator of jumps along one axis."""

    def lines(v: Cells) -> Array:
        return jnp.moveaxis(v, axis, 0).reshape(v.shape[axis], -1)

    up, down = lines(edges.up), lines(edges.down)
    leaves = up + jnp.roll(down, 1, 0)
    x = _tridiagonal.solve(
        -dt * jnp.roll(up, 1, 0), 1 + dt * leaves, -dt * down, lines(b), periodic
    )
    shape = jnp.moveaxis(b, axis, 0).shape
    return jnp.moveaxis(x.reshape(shape), 0, axis)


def _bernoulli(z: Array) -> tuple[Array, Array]:
    r"""$B(z)$ and $B(-z)$, $B(z) = z/(e^z - 1)$: their ratio is $e^{-z}$ to rounding, and no exponential overflows."""
    size = jnp.abs(z)
    small = size < 0.05
    square = jnp.where(small, size, 0) ** 2
    series = 1 + square / 12 - square**2 / 720 + square**3 / 30240  # of B(-a) - a/2
    safe = jnp.where(small, 1.0, size)
    with_it = jnp.where(small, series + 0.5 * size, safe / -jnp.expm1(-safe))
    against = with_it * jnp.exp(-size)
    return jnp.where(z > 0, against, with_it), jnp.where(z > 0, with_it, against)
