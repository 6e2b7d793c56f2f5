r"""The protocol that dissipates least: the descent in one call, ready-made losses, and the optima known in closed form."""

from ._closed import Optimum as Optimum, moving_trap as moving_trap, stiffness as stiffness
from ._losses import (
    AbstractLoss as AbstractLoss,
    Average as Average,
    EstimatorVariance as EstimatorVariance,
    StateToState as StateToState,
    average as average,
    estimator_variance as estimator_variance,
    mean_dissipation as mean_dissipation,
    mean_work as mean_work,
    state_to_state as state_to_state,
)
from ._search import History as History, Search as Search, Slope as Slope, search as search
