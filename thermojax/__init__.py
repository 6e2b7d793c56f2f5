"""Differentiable stochastic thermodynamics in JAX: work, heat and entropy production of every path, as pure pytrees."""

from importlib.metadata import version as _version

from . import (
    bounds as bounds,
    densities as densities,
    diffusion as diffusion,
    estimators as estimators,
    evolve as evolve,
    export as export,
    identities as identities,
    inference as inference,
    measured as measured,
    optimal as optimal,
    potentials as potentials,
    protocols as protocols,
    rates as rates,
    schedules as schedules,
    systems as systems,
)
from ._action import onsager_machlup as onsager_machlup
from ._backend import check_backend as check_backend
from ._citation import citation as citation
from ._diffrax import Diffrax as Diffrax
from ._grids import reverse_grid as reverse_grid
from ._ledger import (
    account as account,
    dissipated_work as dissipated_work,
    reduced_work as reduced_work,
)
from ._paths import Entropy as Entropy, Path as Path, Trajectory as Trajectory
from ._process import Process as Process, reverse as reverse
from ._ratio import (
    euler as euler,
    log_prob as log_prob,
    path_ratio as path_ratio,
    sample_path as sample_path,
)
from ._simulate import ensemble as ensemble, simulate as simulate
from ._verify import Verdict as Verdict, verify as verify
from .systems import (
    ABOBA as ABOBA,
    BAOAB as BAOAB,
    AbstractDiffusion as AbstractDiffusion,
    AbstractDiscrete as AbstractDiscrete,
    AbstractJumps as AbstractJumps,
    AbstractKernelStep as AbstractKernelStep,
    AbstractOverdamped as AbstractOverdamped,
    AbstractStep as AbstractStep,
    AbstractSystem as AbstractSystem,
    Euler as Euler,
    Exchange as Exchange,
    Heun as Heun,
    Inhomogeneous as Inhomogeneous,
    Jumps as Jumps,
    Normal as Normal,
    Once as Once,
    Overdamped as Overdamped,
    Spins as Spins,
    Sweep as Sweep,
    Underdamped as Underdamped,
)

__version__ = _version("thermojax")
