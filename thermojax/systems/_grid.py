"""Cells of equal width, in one dimension or two."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, Given
from .._widths import wide_enough


class Grid(eqx.Module):
    r"""`cells` cells of equal width between `lower` and `upper`, numbers in one dimension and pairs in two.

    Their centres are $x_i = a + (i + \tfrac12) h$, $h = (b - a)/n$. `periodic`: the ends of the axis are one point, an
    angle's say. `walls`: the ends are reflecting walls of the problem; otherwise they stand for infinity, and what gets
    there is reported. All of it is static: a number, and no parameter to differentiate by.

    Raises `ValueError` for fewer than four cells, ends that do not rise, more than two dimensions, or an axis that is
    periodic and walled.
    """

    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    cells: tuple[int, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    walls: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self,
        lower: Given,
        upper: Given,
        cells: Given,
        periodic: Given = False,
        walls: Given = False,
    ):
        given = {"lower": lower, "upper": upper, "cells": cells}
        given |= {"periodic": periodic, "walls": walls}
        for name, value in given.items():
            if _checks.known(value) is None:
                raise TypeError(
                    f"Grid.{name} must be a number that is known, not one that is traced: a grid is no parameter."
                )
        dim = max(np.size(value) for value in given.values())
        if dim not in (1, 2):
            raise ValueError(f"A Grid has one dimension or two, got {dim}. Simulate more of them.")
        parts = {}
        for name, value in given.items():
            if np.size(value) not in (1, dim):
                raise ValueError(
                    f"Grid.{name} must be one number, or {dim} like the others; got {value!r}."
                )
            parts[name] = np.broadcast_to(np.asarray(value).reshape(-1), (dim,)).tolist()
        self.lower, self.upper = (tuple(map(float, parts[name])) for name in ("lower", "upper"))
        self.cells = tuple(
            _checks.whole("Grid.cells", n, "a whole number of cells", 4) for n in parts["cells"]
        )
        self.periodic, self.walls = (
            tuple(map(bool, parts[name])) for name in ("periodic", "walls")
        )
        for a, b, around, wall in zip(
            self.lower, self.upper, self.periodic, self.walls, strict=True
        ):
            if not -math.inf < a < b < math.inf:
                raise ValueError(f"Grid.lower must be below Grid.upper, both finite; got {a}, {b}.")
            if around and wall:
                raise ValueError("Grid.periodic and Grid.walls exclude each other on one axis.")
        farthest = np.maximum(np.abs(self.lower), np.abs(self.upper))
        wide_enough("Grid", farthest, self.widths, jnp.result_type(float), 4)

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.cells)

    @property
    def widths(self) -> tuple[float, ...]:
        r"""$h$ of each axis."""
        ends = zip(self.lower, self.upper, self.cells, strict=True)
        return tuple((b - a) / n for a, b, n in ends)

    @property
    def volume(self) -> float:
        """Of one cell."""
        return math.prod(self.widths)

    def axis(self, i: int, dtype: Given = None) -> Array:
        """The centres along one axis, `(cells,)`."""
        offsets = np.arange(self.cells[i]) + 0.5
        return jnp.asarray(self.lower[i] + offsets * self.widths[i], dtype)

    def centres(self, dtype: Given = None) -> Array:
        """The centres of all cells, `(*cells, d)`."""
        each = [self.axis(i, dtype) for i in range(self.dim)]
        return jnp.stack(jnp.meshgrid(*each, indexing="ij"), axis=-1)

    def finer(self) -> "Grid":
        """Twice the cells on each axis."""
        twice = tuple(2 * n for n in self.cells)
        return Grid(self.lower, self.upper, twice, self.periodic, self.walls)

    def each(self, fn: Given, dtype: Given = None) -> Array:
        """`fn(x)` at all centres, the cells leading."""
        points = self.centres(dtype)
        values = jax.vmap(fn)(points.reshape(-1, self.dim))
        return values.reshape(*self.cells, *values.shape[1:])
