r"""A log-density as an integral of denoising errors over the levels of noise, and where in the noise it comes from."""

from typing import NamedTuple

import numpy as np

from .. import _checks
from .._types import Array
from ..estimators import Estimate
from ._cutoff import Hidden


class Bound(NamedTuple):
    r"""What `elbo` and `denoising_log_prob` return: a log-density in nats, and where in the noise it comes from.

    - `first`: of the data, or the point, noised to the first level, averaged over that noise, in the scale of the noising.
    - `clean`: of clean data: `first` $+\, d \ln a_0$ and what is `hidden`, extrapolated; NaN where it cannot be.
    - `lam`, `rate`, `stderr`: $\tfrac12(\langle |\hat\epsilon - \epsilon|^2 \rangle - d)$ per nat at each level, `(nodes,)`.
    - `end`: the mean log-density of the last level in it.
    - `draws`: `first` of each independent draw, or row of data, whose mean it is, to be paired.
    """

    first: Estimate
    clean: Estimate
    hidden: Hidden
    lam: Array
    rate: Array
    stderr: Array
    end: Estimate
    draws: Array


def seen(found: Bound) -> Bound:
    """A rate that is not finite somewhere is refused, where it is known."""
    rate = _checks.known(found.rate) if not _checks.tracing(found) else None
    if rate is not None and not np.isfinite(rate).all():
        i = int(np.flatnonzero(~np.isfinite(rate))[0])
        raise ValueError(
            f"predict: its error is {rate[i]} at lam = {float(found.lam[i]):.4g}: the network is not finite somewhere on "
            "the data there. Look at predict(x, lam), or keep to levels on which it was trained."
        )
    return found
