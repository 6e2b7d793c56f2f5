"""Densities in time, without sampling: of linear systems exactly, of any overdamped one on a grid."""

from ..systems import Grid as Grid
from ._evolution import (
    CellEvolution as CellEvolution,
    Evolution as Evolution,
    GaussianEvolution as GaussianEvolution,
    Totals as Totals,
)
from ._fokker_planck import extrapolated as extrapolated, fokker_planck as fokker_planck
from ._master import (
    StatesEvolution as StatesEvolution,
    generating as generating,
    master as master,
)
from ._moments import moments as moments
from ._periodic import periodic as periodic
from ._steady import stationary as stationary, steady as steady
from ._twin import twin as twin
