r"""Diffusion models as Processes: noising, and the generation that runs it backwards.

All kinds are one family, $x = a(\lambda) x_0 + s(\lambda) \epsilon$, driven by the log signal-to-noise ratio $\lambda = \ln
a^2/s^2$, which falls from data to noise. What a network predicts, score, noise or clean state, is a `Predictor`, a callable
of `(x, lam)`. What N steps cost stands one storey above, in `thermojax.schedules`.

Source: Song et al., ICLR 2021 (arXiv 2011.13456); Kingma et al., NeurIPS 2021; Zhang, arXiv 2606.18290, sec. 7.
"""

from .._ratio import sample_path as sample_path
from .._renamed import renamed as _renamed
from ._bits import Bits as Bits, bits_per_dim as bits_per_dim
from ._bound import Bound as Bound
from ._compare import Comparison as Comparison, compare as compare
from ._cutoff import Hidden as Hidden
from ._elbo import elbo as elbo
from ._entropy_rates import EntropyRates as EntropyRates, entropy_rates as entropy_rates
from ._flow import flow as flow, flow_log_prob as flow_log_prob
from ._generation import generate as generate, reverse_kernel as reverse_kernel
from ._inefficiency import inefficiency as inefficiency
from ._kinds import (
    VE as VE,
    VP as VP,
    AbstractNoising as AbstractNoising,
    Level as Level,
    SubVP as SubVP,
)
from ._kinetic import Kinetic as Kinetic, kinetic as kinetic
from ._learned import Levels as Levels
from ._levels import Chain as Chain, Mean as Mean, chain as chain
from ._measure import Rate as Rate
from ._nll import NLL as NLL, nll as nll
from ._noising import (
    marginal as marginal,
    noising as noising,
    score as score,
    transition as transition,
)
from ._parts import (
    endpoint as endpoint,
    generation_entropy as generation_entropy,
    noising_entropy as noising_entropy,
    score_error as score_error,
)
from ._pointwise import denoising_log_prob as denoising_log_prob
from ._predictor import Network as Network, Predictor as Predictor, predictor as predictor
from ._price import price as price
from ._pricing import Cutoff as Cutoff, Draws as Draws, Pricing as Pricing, Rates as Rates
from ._schedules import (
    EDM as EDM,
    AbstractSchedule as AbstractSchedule,
    Cosine as Cosine,
    Linear as Linear,
    SigmaT as SigmaT,
    Uniform as Uniform,
)

__getattr__ = _renamed(__name__)
