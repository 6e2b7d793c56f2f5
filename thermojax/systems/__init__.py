r"""What obeys an equation of motion, and the steps that move it.

A **system** is its physics at fixed control: energy, temperature, what a step exchanges with the baths, time reversal. A
**step** is how the baths act for a time dt. A dynamics of one's own is one of each.
"""

from .._normal import AbstractTransition as AbstractTransition, Normal as Normal
from ._base import (
    AbstractKernelStep as AbstractKernelStep,
    AbstractStep as AbstractStep,
    AbstractSystem as AbstractSystem,
    Exchange as Exchange,
    Rule as Rule,
)
from ._diffusion import AbstractDiffusion as AbstractDiffusion
from ._discrete import AbstractDiscrete as AbstractDiscrete, same as same
from ._flow import absent as absent
from ._grid import Grid as Grid
from ._inertial import AbstractUnderdamped as AbstractUnderdamped
from ._inhomogeneous import (
    Inhomogeneous as Inhomogeneous,
    Metropolis as Metropolis,
    StratonovichHeun as StratonovichHeun,
)
from ._ising import (
    checkerboard as checkerboard,
    ising as ising,
    rows as rows,
    spin_states as spin_states,
)
from ._jumps import Jumps as Jumps
from ._lattice import (
    TILTED as TILTED,
    Carried as Carried,
    Edges as Edges,
    Lattice as Lattice,
    current as current,
    divergence as divergence,
    implicit as implicit,
    seamless as seamless,
)
from ._markov import AbstractJumps as AbstractJumps
from ._once import Once as Once
from ._overdamped import (
    AbstractOverdamped as AbstractOverdamped,
    Constant as Constant,
    Driven as Driven,
    Overdamped as Overdamped,
)
from ._spins import Spins as Spins, Sweep as Sweep
from ._splittings import (
    ABOBA as ABOBA,
    BAOAB as BAOAB,
    Landing as Landing,
    led as led,
    rescaled as rescaled,
)
from ._steps import Euler as Euler, Heun as Heun
from ._underdamped import Underdamped as Underdamped
