"""Measured paths: trajectories from a lab's columns, and the process that each belongs to by its control.

`read_csv` and `from_columns` read them, `sampling` says whether they were sampled finely enough, `bar` makes a free energy
of forward and reverse ones; `with_momenta` takes recorded velocities to an underdamped system.
"""

from .._renamed import renamed
from ._free_energy import bar as bar
from ._momenta import with_momenta as with_momenta
from ._paths import Measured as Measured
from ._reading import from_columns as from_columns, read_csv as read_csv, read_each as read_each
from ._sampling import Sampling as Sampling, sampling as sampling

__getattr__ = renamed(__name__)
