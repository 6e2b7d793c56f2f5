r"""A one-dimensional density by quadrature: its normalisation, and draws that follow its parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._chance import chance
from .._jit import jit
from .._types import Array, Bool, Float, Key, Reduced, Scalar, State

Bounds = Float[Array, "2"]


class Quantiles(NamedTuple):
    r"""$e^{-\phi}$ on a uniform grid, by the trapezoid rule (spectrally accurate where p ends smoothly)."""

    grid: Float[Array, " nodes"]
    cdf: Float[Array, " nodes"]
    log_mass: Scalar
    confined: Bool[Array, ""]  # an interval that holds the density was found
    resolved: Bool[Array, ""]  # every second node gives the same mass

    def checked(self) -> "Quantiles":
        """Itself, or a `ValueError` (where the values are traced, NaN)."""
        grid = _checks.must(
            "potential",
            self.grid,
            self.confined,
            "confining (it is not within ±4000): give Boltzmann(..., bounds=) or a potential with an equilibrium",
        )
        grid, log_mass = _checks.must(
            "potential",
            (grid, self.log_mass),
            self.resolved,
            f"finite, and resolved by Boltzmann's quadrature ({grid.size} nodes are too few): give "
            "Boltzmann(..., bounds=, nodes=)",
        )
        return self._replace(grid=grid, log_mass=log_mass)

    def sample(self, key: Key, reduced: Reduced) -> State:
        r"""$F(x) = u$, from the table by linear interpolation and one Newton step, $x - (F(x) - u)/p(x)$.

        The step makes the derivative $\partial_\theta x = -\partial_\theta F / p$ as accurate as the quadrature: without
        it, it would be that of the table's straight pieces.
        """
        u = chance(key, (), self.grid.dtype)
        x = jnp.interp(u, self.cdf, self.grid)
        # F(x) by the trapezoid rule from the node on the left: the same rule as the table's, or the step would go astray
        i = jnp.clip(jnp.searchsorted(self.grid, x, side="right") - 1, 0, self.grid.size - 2)
        density = lambda at: jnp.exp(-_walled(reduced, at, x) - self.log_mass)
        left, p = self.grid[i], density(x)
        excess = self.cdf[i] + 0.5 * (x - left) * (density(left) + p) - u
        # In the far tails F - u is lost in rounding and p is tiny, so their ratio is no step: there the table's x stays.
        most = 0.01 * (self.grid[-1] - self.grid[0])
        near = jnp.abs(excess) < p * most
        # The inner `where` keeps the branch that is not taken from dividing by zero: its derivative would be NaN.
        return (x - jnp.where(near, excess / jnp.where(near, p, 1), 0))[None]


def _walled(reduced: Reduced, x: Scalar, best: Scalar) -> Scalar:
    """The potential at x, infinite at a wall, and without a derivative there: zero times it would be NaN."""
    wall = jax.lax.stop_gradient(reduced(x[None])) == jnp.inf
    return jnp.where(wall, jnp.inf, reduced(jnp.where(wall, best, x)[None]))


@jit
def tabulate(reduced: Reduced, bounds: Bounds | None, nodes: int, dtype: jnp.dtype) -> Quantiles:
    r"""Normalise $e^{-\phi}$ on `bounds`, or on the interval outside which $\phi$ is 40 above its minimum."""
    phi_of = jax.vmap(lambda x: reduced(x[None]))
    confined = jnp.asarray(True)
    if bounds is None:
        wide = jnp.sinh(jnp.linspace(-9, 9, 20001, dtype=dtype))  # from 1e-3 apart at 0 to ±4000
        phi = jax.lax.stop_gradient(phi_of(wide))
        inside = phi < jnp.min(jnp.where(jnp.isnan(phi), jnp.inf, phi)) + 40
        lower = jnp.min(jnp.where(inside, jnp.roll(wide, 1), jnp.inf))
        upper = jnp.max(jnp.where(inside, jnp.roll(wide, -1), -jnp.inf))
        confined = (~inside[0]) & (~inside[-1])
    else:
        lower, upper = bounds.astype(dtype)
    grid = lower + (upper - lower) * jnp.linspace(0, 1, nodes, dtype=dtype)
    known = jax.lax.stop_gradient(phi_of(grid))
    best = grid[jnp.argmin(jnp.where(jnp.isnan(known), jnp.inf, known))]
    phi = jax.vmap(lambda x: _walled(reduced, x, best))(grid)
    # It cancels, and the derivative of a minimum may look for it in vain: phi may be computed again, rounded otherwise.
    low = jax.lax.stop_gradient(jnp.min(phi))
    weight = jnp.exp(low - phi) * (upper - lower) / (nodes - 1)
    cells = 0.5 * (weight[1:] + weight[:-1])
    total = jnp.cumsum(cells)
    mass = total[-1]
    coarse = jnp.sum(weight[2::2] + weight[:-2:2])
    cdf = jnp.concatenate([jnp.zeros(1, dtype), total]) / mass
    resolved = jnp.abs(coarse - mass) < 1e-3 * mass
    return Quantiles(grid, cdf, jnp.log(mass) - low, confined, resolved)
