r"""Noise schedules, and what N steps of generation dissipate: the work of an N-step chain and its mean from one curve.

At a fixed number of steps the noising chain and the generating chain are Markov chains with Gaussian kernels. The
log-ratio of their probabilities along a path is the reduced dissipated work w of the schedule: $\langle e^{-w}\rangle = 1$
at any N, and $\langle w \rangle = -\mathrm{ELBO} - S_0$, which depends on the schedule, unlike the entropy production of the
continuous process. Levels are log signal-to-noise ratios $\lambda_1 > \dots > \lambda_N$.

What there is one of for each step is an array `(N,)` with step k at index k − 1: step 1 is the decoder, between clean data
and $\lambda_1$. The end, $x_N$ against pure noise, is a field of its own. One array is shorter: the `dissipation` of the
decoder is not known.

Related: Williams, Campbell, Doucet & Syed, NeurIPS 2024 (arXiv 2412.07877); Sabour, Fidler & Kreis, arXiv 2404.14507;
Watson et al., arXiv 2106.03802; Bao et al., ICLR 2022; Kingma et al., NeurIPS 2021.
"""

from .._renamed import renamed as _renamed
from ..diffusion import Chain as Chain, chain as chain
from ._baselines import (
    align as align,
    arctan as arctan,
    dynamic as dynamic,
    entropic as entropic,
    gits_like as gits_like,
)
from ._chain import PathWork as PathWork, path_work as path_work, sample as sample
from ._cost import (
    Cost as Cost,
    CostOf as CostOf,
    cost_of as cost_of,
    dissipation as dissipation,
    mean_work as mean_work,
    variances as variances,
)
from ._curve import (
    AbstractCurve as AbstractCurve,
    Curve as Curve,
    denoising_curve as denoising_curve,
)
from ._levels_of_samplers import (
    from_sigmas as from_sigmas,
    from_timesteps as from_timesteps,
    to_sigmas as to_sigmas,
    to_timesteps as to_timesteps,
)
from ._likelihood import (
    Likelihood as Likelihood,
    LogProb as LogProb,
    likelihood as likelihood,
    log_prob as log_prob,
)
from ._likelihood_cost import (
    LikelihoodCost as LikelihoodCost,
    OdeCost as OdeCost,
    likelihood_cost_of as likelihood_cost_of,
    ode_cost_of as ode_cost_of,
)
from ._logsnr import LogSNR as LogSNR
from ._metric import (
    equal_length as equal_length,
    friction as friction,
    thermodynamic_length as thermodynamic_length,
)
from ._ode import OdeLogProb as OdeLogProb, ode_log_prob as ode_log_prob, ode_sample as ode_sample
from ._uncertainty import Uncertainty as Uncertainty, uncertainty as uncertainty

__getattr__ = _renamed(__name__)
