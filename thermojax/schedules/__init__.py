r"""Noise schedules, and what N steps of generation dissipate: the work of an N-step chain and its mean from one curve.

At a fixed number of steps the noising chain and the generating chain are Markov chains with Gaussian kernels. The
log-ratio of their probabilities along a path is the reduced dissipated work w of the schedule: $\langle e^{-w}\rangle = 1$
at any N, and $\langle w \rangle = -\mathrm{ELBO} - S_0$, which depends on the schedule, unlike the entropy production of the
continuous process. Levels are log signal-to-noise ratios $\lambda_1 > \dots > \lambda_N$.

Related: Williams, Campbell, Doucet & Syed, NeurIPS 2024 (arXiv 2412.07877); Sabour, Fidler & Kreis, arXiv 2404.14507;
Watson et al., arXiv 2106.03802; Bao et al., ICLR 2022; Kingma et al., NeurIPS 2021.
"""

from ._chain import (
    Chain as Chain,
    PathWork as PathWork,
    chain as chain,
    from_noise as from_noise,
    from_score as from_score,
    path_work as path_work,
    sample as sample,
)
from ._curve import (
    AbstractCurve as AbstractCurve,
    Cost as Cost,
    Curve as Curve,
    denoising_curve as denoising_curve,
    dissipation as dissipation,
    equal_length as equal_length,
    friction as friction,
    length as length,
    mean_work as mean_work,
    variances as variances,
)
from ._logsnr import LogSNR as LogSNR
