"""What a density in time and its exchanges are."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .. import _checks
from .._paths import Entropy
from .._types import Array, Float, Scalar, State, Time, Times
from ..densities import AbstractKnownDensity, Cells, Gaussian, States
from ..systems import Grid


class Evolution(eqx.Module):
    r"""The density of a process in time, and its mean exchanges as running totals from `ts[0]`.

    `work`, `heat` (one per bath), `reduced_work` (None with a bath per coordinate) and the parts of `entropy` have the
    length of `ts` as leading axis; the first entries are zero, the last include the turn to `after`. `entropy.total` is
    the mean total entropy production, with the true density at each time in the place of `final`.

    Abstract: `moments` returns a `GaussianEvolution`, `fokker_planck` a `CellEvolution`.
    """

    ts: Times
    work: Array
    heat: Array
    reduced_work: Array | None
    entropy: Entropy

    @abc.abstractmethod
    def at(self, t: Time) -> AbstractKnownDensity:
        """The density at time `t`: that of the run at `ts`, between them by linear interpolation.

        Beyond `ts` there is none: a `ValueError`, or NaN while tracing.
        """

    @property
    @abc.abstractmethod
    def final(self) -> AbstractKnownDensity:
        """The density at the last time."""

    def log_prob(self, x: State, t: Time) -> Scalar:
        r"""$\ln p(x, t)$ at one point."""
        return self.at(t).log_prob(x)

    def score(self, x: State, t: Time) -> State:
        r"""$\nabla \ln p(x, t)$ at one point."""
        density = self.at(t)
        if isinstance(density, States):
            raise TypeError(
                "Probabilities of states that jump have no score: there is no gradient."
            )
        return jax.grad(density.log_prob)(x)

    def alone(self, verb: str) -> "Evolution":
        """This evolution, if it is of one process: of several, as `vmap` stacks them, it raises `ValueError` for `verb`."""
        if self.ts.ndim != 1:
            raise ValueError(
                f"{verb} is of the evolution of one process, and this one has {self.ts.shape[:-1]} of them: ts is "
                f"{self.ts.shape}. Take one, jax.tree.map(lambda v: v[i], evolution), or vmap over them."
            )
        return self

    def every(self, k: int) -> "Evolution":
        """The same at every k-th time, the first among them."""
        self.alone("every")
        times = self.ts.shape[0]

        def one(where: tuple[Any, ...], value: Array) -> Array:
            if where[0].name == "states" or value.ndim == 0 or value.shape[0] != times:
                return value
            return value[::k]

        return jtu.tree_map_with_path(one, self)

    def _between(self, t: Time, *of: Array) -> tuple[Array, ...]:
        """What is known at `ts`, at time t."""
        self.alone("at(t), and what asks for it,")
        t = jnp.asarray(t, self.ts.dtype)
        value = _checks.known(t)
        grid = _checks.known(self.ts)
        if value is not None and grid is not None and not grid[0] <= value <= grid[-1]:
            raise ValueError(
                f"t must lie in [{grid[0]}, {grid[-1]}], the times of this evolution; got {value}."
            )
        i = jnp.clip(jnp.sum(self.ts <= t) - 1, 0, self.ts.shape[0] - 2)
        s = (t - self.ts[i]) / (self.ts[i + 1] - self.ts[i])
        s = jnp.where((s < 0) | (s > 1), jnp.nan, s)  # beyond the times there is no density
        return tuple((1 - s) * v[i] + s * v[i + 1] for v in of)


class GaussianEvolution(Evolution):
    """The evolution of a linear system: `mean` `(m, d)` and `cov` `(m, d, d)` are those at `ts`."""

    mean: Array
    cov: Array

    @staticmethod
    def needed(evolution: Evolution) -> "GaussianEvolution":
        """The evolution, if it is one; what is not on a grid either has states that jump, and is refused."""
        if not isinstance(evolution, GaussianEvolution):
            raise TypeError(
                "evolution must be that of a diffusion, by evolve.moments or evolve.fokker_planck, got a "
                f"{type(evolution).__name__}. Of jumps and spins evolve.master has the totals: reduced_work, entropy."
            )
        return evolution

    @property
    def final(self) -> Gaussian:
        self.alone("final")
        return Gaussian(self.mean[-1], self.cov[-1])

    def at(self, t: Time) -> Gaussian:
        mean, cov = self._between(t, self.mean, self.cov)
        value = _checks.known(cov)
        if value is not None and not value.any():
            raise ValueError(
                f"The density is a point at t = {t}, where the run starts: it has no density. Take a later time, or "
                "densities.Point(evolution.mean[0])."
            )
        return Gaussian(mean, cov)


class Totals(NamedTuple):
    """The totals of an `Evolution`, or their errors."""

    work: Array
    heat: Array
    reduced_work: Array | None
    entropy: Entropy


class CellEvolution(Evolution):
    r"""An evolution on a grid: `p` `(m, *cells)` is the density at the centres of the cells at `ts`.

    `ok` is False where a number is not to be trusted, and then an eager call has said why. What tells is kept: `least`, the
    smallest p of all, relative to the greatest of its time (the second-order scheme may fall below zero); `edge`, the
    greatest p in a cell at an end that is no wall, relative to the greatest; `slope`, the greatest mean of $z^2/12$ over the
    density, z the reduced work against an edge, which is about the relative error that the width of the cells makes in the
    heat; `turn`, the greatest variance over the density of the reduced energy's change within one step.

    `error` is what `extrapolated` knows of the totals' errors; None otherwise.
    """

    grid: Grid
    p: Float[Array, "times ..."]
    ok: Array
    least: Array
    edge: Array
    slope: Array
    turn: Array
    error: Totals | None = None

    @property
    def final(self) -> Cells:
        self.alone("final")
        return Cells(self.grid, self.p[-1])

    def at(self, t: Time) -> Cells:
        return Cells(self.grid, *self._between(t, self.p))
