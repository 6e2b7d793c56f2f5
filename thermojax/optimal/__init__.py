r"""The protocol that dissipates least: the descent in one call, ready-made losses, and the optima known in closed form."""

from .._renamed import renamed as _renamed
from .._search import (
    AbstractExactLoss as AbstractExactLoss,
    AbstractLoss as AbstractLoss,
    History as History,
    Search as Search,
    Slope as Slope,
    search as search,
)
from ._closed import (
    Optimum as Optimum,
    breathing_trap as breathing_trap,
    moving_trap as moving_trap,
)
from ._exact import (
    EvolutionLoss as EvolutionLoss,
    exact_reduced_work as exact_reduced_work,
    exact_work as exact_work,
)
from ._losses import (
    average as average,
    estimator_variance as estimator_variance,
    mean_dissipation as mean_dissipation,
    mean_reduced_work as mean_reduced_work,
    mean_work as mean_work,
    state_to_state as state_to_state,
)
from ._path_loss import PathLoss as PathLoss
from ._score import advantage as advantage

__getattr__ = _renamed(__name__)
