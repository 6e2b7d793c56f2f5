r"""Diffusion models as Processes: noising, and the generation that runs it backwards.

All kinds are one family, $x = a(\lambda) x_0 + s(\lambda) \epsilon$, driven by the log signal-to-noise ratio $\lambda = \ln
a^2/s^2$, which falls from data to noise. Scores and other predictors are callables of `(x, lam)`.

Source: Song et al., ICLR 2021 (arXiv 2011.13456); Kingma et al., NeurIPS 2021; Zhang, arXiv 2606.18290, sec. 7.
"""

from ._generation import (
    Score as Score,
    flow as flow,
    flow_log_prob as flow_log_prob,
    generate as generate,
    reverse_kernel as reverse_kernel,
    walk as walk,
)
from ._kinds import (
    VE as VE,
    VP as VP,
    AbstractNoising as AbstractNoising,
    Level as Level,
    SubVP as SubVP,
)
from ._noising import jump as jump, marginal as marginal, noising as noising, score as score
from ._schedules import (
    EDM as EDM,
    AbstractSchedule as AbstractSchedule,
    Cosine as Cosine,
    Levels as Levels,
    Linear as Linear,
    Uniform as Uniform,
)
