r"""Losses without noise: of the density in time, instead of paths."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from .. import _checks
from .._process import Process, a_process
from .._search import AbstractExactLoss
from .._types import Array, Key, PyTree, Scalar, Times
from ..evolve import Evolution, Grid, fokker_planck, moments


def _times(ts: Times) -> Array:
    return _checks.times("ts", ts)


class EvolutionLoss(AbstractExactLoss):
    r"""The loss `of(process, evolution)`: a scalar of the density in time. It has no noise and needs no key.

    The evolution is `evolve.fokker_planck` on `grid`, or `evolve.moments` (linear systems) without one; `process` is the one
    given, with its protocol replaced by the one that is searched. It checks itself with twice the cells and half the steps,
    of which `of` sees the same times: it is shown every `every`-th.

    ```python
    import jax.numpy as jnp
    import thermojax as tjx

    system = tjx.Overdamped(tjx.potentials.Harmonic(stiffness=1.0))
    ramp = tjx.protocols.Piecewise(jnp.linspace(0.0, 1.0, 9), jnp.linspace(0.0, 2.0, 9), 0.0, 2.0)
    process = tjx.Process(system, ramp, tjx.densities.Boltzmann(system, 0.0))
    heat = lambda process, evolution: evolution.heat[-1]
    loss = tjx.optimal.EvolutionLoss(process, jnp.linspace(0.0, 1.0, 9), heat)
    print(loss(ramp))
    ```
    """

    process: Process
    ts: Array = eqx.field(converter=_times)
    of: Callable[[Process, Evolution], Scalar]
    grid: Grid | None = None
    every: int = eqx.field(static=True, default=1, kw_only=True)

    def __check_init__(self) -> None:
        a_process("process", self.process)
        _checks.takes("of", self.of, "process", "evolution")
        if self.grid is not None and not isinstance(self.grid, Grid):
            raise TypeError(f"grid must be a thermojax.evolve.Grid, or None, got {self.grid!r}.")

    def __call__(self, protocol: PyTree, key: Key | None = None) -> Scalar:
        process = self.process.replace(protocol=protocol)
        if self.grid is None:
            evolution = moments(process, self.ts)
        else:
            evolution = fokker_planck(process, self.ts, self.grid)
        value = self.of(process, evolution.every(self.every))
        if jnp.shape(value) != ():
            raise ValueError(
                f"of(process, evolution) must return one number, of shape (); got {jnp.shape(value)}. The totals are "
                "running: evolution.work[-1]."
            )
        return value

    def check(self) -> "EvolutionLoss":
        middles = 0.5 * (self.ts[1:] + self.ts[:-1])
        finer = jnp.sort(jnp.concatenate([self.ts, middles]))
        grid = None if self.grid is None else self.grid.finer()
        return dataclasses.replace(self, ts=finer, grid=grid, every=2 * self.every)

    def failures(self, protocol: PyTree, key: Key) -> str:
        return "The evolution of the density failed, or what was made of it: NaN marks that."

    def likelihood_ratio(self, protocol: PyTree, key: Key) -> Scalar:
        raise ValueError(
            'gradient="score" is for averages over paths, and this loss has none: its gradient is exact.'
        )


def exact_work(process: Process, ts: Times, grid: Grid | None = None) -> EvolutionLoss:
    r"""The loss $\langle W \rangle$ without noise, in energy: see `mean_work`, and `EvolutionLoss` for `grid`.

    Jumps are charged, and the grid of times has to hold the knots. The price of the protocol found is as good as the grid:
    `evolve.extrapolated` prices it.
    """
    return EvolutionLoss(process, ts, _work, grid)


def exact_reduced_work(process: Process, ts: Times, grid: Grid | None = None) -> EvolutionLoss:
    r"""The loss $\langle W_\mathrm{red} \rangle$ without noise, in nats: for driven temperatures, where work is the wrong
    price. Less $\Delta(\beta F)$, which the ends of the control fix, it is the dissipation (see `mean_dissipation`).
    """
    return EvolutionLoss(process, ts, _reduced, grid)


def _work(process: Process, evolution: Evolution) -> Scalar:
    return evolution.work[-1]


def _reduced(process: Process, evolution: Evolution) -> Scalar:
    if evolution.reduced_work is None:
        raise ValueError("The reduced work needs one bath; with several take entropy.total[-1].")
    return evolution.reduced_work[-1]
