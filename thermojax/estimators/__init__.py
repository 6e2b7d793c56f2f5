r"""Estimators: arrays of dimensionless work or entropy in, a value with an honest error bar out.

Everything is done in the log domain. Each function takes one-dimensional arrays, one number per realisation, of
independent realisations; `value` and `stderr` are differentiable. Reduced work is $w = W/T$ at constant temperature,
`thermojax.reduced_work(process, run)` always; a `Trajectory` itself is refused. An `Estimate` that is not `reliable` says
`why`.

Every estimator has `failed="raise"` (default): works that are not finite, as failed paths have them, stop it with their
number. `failed="drop"` goes on without the failed ones, which are NaN; that biases the average if failing depends on the
work. An infinite work did not fail: +inf has weight zero in an exponential average, and anything else infinite is
refused. Under `jit` nothing can be raised: value and error are then NaN, and not reliable.

Numbers of numpy in double precision keep their digits until what they have in common is taken off, where JAX itself runs in
single precision; where the result cannot hold its digits, `why` says so.
"""

from .._renamed import renamed as _renamed
from ._bootstrap import bootstrap as bootstrap
from ._detailed import (
    DetailedFluctuation as DetailedFluctuation,
    detailed_fluctuation as detailed_fluctuation,
)
from ._distance import energy_distance as energy_distance
from ._estimate import Bootstrap as Bootstrap, Estimate as Estimate
from ._one_sided import (
    integral_fluctuation as integral_fluctuation,
    jarzynski as jarzynski,
    mean as mean,
    second_cumulant as second_cumulant,
    second_law_excess as second_law_excess,
)
from ._two_sided import bar as bar, crooks as crooks

__getattr__ = _renamed(__name__)
