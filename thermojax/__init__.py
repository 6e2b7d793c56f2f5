"""Differentiable stochastic thermodynamics in JAX: work, heat and entropy production of every path, as pure pytrees."""

from importlib.metadata import version as _version

from . import (
    densities as densities,
    diffusion as diffusion,
    estimators as estimators,
    evolve as evolve,
    measured as measured,
    optimal as optimal,
    potentials as potentials,
    protocols as protocols,
    schedules as schedules,
)
from ._backend import check_backend as check_backend
from ._ledger import (
    Entropy as Entropy,
    Path as Path,
    Trajectory as Trajectory,
    account as account,
    dissipated_work as dissipated_work,
    euler as euler,
    path_ratio as path_ratio,
    reduced_work as reduced_work,
)
from ._process import Process as Process, reverse as reverse, reverse_grid as reverse_grid
from ._simulate import ensemble as ensemble, simulate as simulate
from ._system import AbstractSystem as AbstractSystem, Overdamped as Overdamped

__version__ = _version("thermojax")
