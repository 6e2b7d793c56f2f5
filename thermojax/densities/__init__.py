r"""Densities: where a run starts and where the reversed run would start.

A density is anything with `sample(key)` (one draw of shape `(d,)`) and `log_prob(x)` (of one point, in nats); a
distribution of another library works. A sample is reparametrised, $x = x(\theta, \text{key})$, so it differentiates with
respect to every parameter $\theta$; where it cannot be, differentiating it raises an error: no gradient is silently
incomplete.
"""

from .._renamed import renamed as _renamed
from ._base import (
    AbstractDensity as AbstractDensity,
    AbstractKnownDensity as AbstractKnownDensity,
    GaussianParts as GaussianParts,
    normal as normal,
)
from ._boltzmann import Boltzmann as Boltzmann
from ._cells import Cells as Cells
from ._gaussian import Gaussian as Gaussian
from ._mcmc import Draws as Draws, mcmc as mcmc
from ._mixture import Mixture as Mixture
from ._noised import Noised as Noised, noised as noised
from ._points import Empirical as Empirical, Point as Point, Smoothed as Smoothed
from ._states import States as States, listed as listed
from ._uniform import SmoothedUniform as SmoothedUniform, Uniform as Uniform

__getattr__ = _renamed(__name__)
