r"""The likelihood of data under the probability flow: with the noise of the first level on them, and without."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, ArrayLike, Key, Scalar
from ..estimators import Estimate, mean
from ._cutoff import Hidden, given_slope, hidden, rates
from ._flow import along_flow, whole_steps
from ._given import on_rows
from ._noising import ends
from ._predictor import Network, Predictor, Predicts

TOGETHER = 256  # states whose flows are solved side by side


class NLL(NamedTuple):
    r"""Minus the mean log-likelihood of data, in nats, of three things that papers call so. See `nll`."""

    first: Estimate
    clean: Estimate
    stopped: Estimate
    hidden: Hidden
    draws: Array


def nll(
    process: Process,
    predict: Network | Predictor,
    data: Array,
    key: Key,
    *,
    predicts: Predicts = "score",
    rtol: float = 1e-5,
    steps: int | None = None,
    probes: int | None = None,
    slope: ArrayLike | None = None,
) -> NLL:
    r"""The negative log-likelihood, in nats, of clean `data` `(n, d)` under the probability flow of a model.

    A flow that starts from the prior has a density q at the first level $\lambda_0$ of the schedule, where
    $x = a_0 x_0 + s_0\epsilon$. What it says of clean data is one of

    - `first`: $\langle -\ln q(x) \rangle = S(p_{\lambda_0}) + \mathrm{KL}(p_{\lambda_0} \| q)$, of the data noised to that
      level: like against like, in the scale of the noising, without an approximation.
    - `clean`: $S_0 + \mathrm{KL}(p_{\lambda_0} \| q)$, what the model would reach if it went on from there without error: a
      flow is a map, which leaves the divergence as it is. This is `first` $- d \ln a_0$ less `hidden`: less the scale, which
      is exact, and less the entropy that the noise of the first level adds, extrapolated. Unreliable
      and NaN where it is infinite (atoms, a manifold, any training set with a network that knows it by heart).
    - `stopped`: $\langle -\ln [a_0^d\, q(a_0 x_0)] \rangle = S_0 + \mathrm{KL}(p_0 \| q_y)$, $y = x/a_0$: clean data put in
      as if they had the noise of the first level. It is the likelihood, exactly, of a sampler that stops there and divides
      by $a_0$, it is never below $S_0$, and it is what tables of the literature hold.

    For a smooth density `stopped` and `clean` differ in second order of $s_0^2$ if the score is exact.

    `first` and `stopped` are the means of what the flow says, so their errors are those of means over n rows, and that of
    the solver (`rtol`, `steps`, as in `flow_log_prob`). `clean` has the error of `hidden` in it. `probes`: with that
    many Hutchinson probes for each row, whose noise is then in the errors too; None takes the exact divergence.
    `slope`: $\alpha$ if it is known; None measures it. `draws` `(n,)`: $-\ln q(x)$ row by row, to be paired.

    Rows must be independent: of a test set, in the scale in which the model was trained. Dequantise what was rounded
    (`bits_per_dim`). This is the flow's likelihood and not that of the SDE, which `elbo` bounds; the two
    differ for a learned score, and neither bounds the other.

    Source: Song et al., ICLR 2021, sec. 4.3; Kodama & Hinczewski, arXiv 2510.06174 (rates of entropy).
    """
    net, x0, key = on_rows(process, predict, predicts, data, key)
    steps = whole_steps(steps)
    if probes is not None:
        probes = _checks.whole("probes", probes, "a whole number of probe vectors")
    found = _nll(process, net, x0, key, jnp.asarray(rtol), steps, probes, given_slope(slope))
    draws = _checks.known(found.draws)
    if draws is not None and not np.isfinite(draws).all():
        bad = ~np.isfinite(draws)
        raise ValueError(
            f"predict: the flow from row {int(np.flatnonzero(bad)[0])} of data, and from {int(bad.sum())} of {bad.size} in "
            "all, has no finite likelihood: the score is not finite on its way, or too steep for rtol. Look at "
            "predict(x, lam) there; give steps=."
        )
    return found


@jit
def _nll(
    process: Process,
    net: Predictor,
    x0: Array,
    key: Key,
    rtol: Scalar,
    steps: int | None,
    probes: int | None,
    slope: Array | None,
) -> NLL:
    lam = ends(process)[0].astype(x0.dtype)
    a, s = net.kind.signal(lam), net.kind.noise(lam)
    one, two, three = jax.random.split(key, 3)
    noise = jax.random.normal(one, x0.shape, x0.dtype)
    keys = jax.random.split(two, 2 * x0.shape[0])

    def said(given: tuple[Array, Key]) -> Scalar:
        x, key = given
        return -along_flow(process, net, x, rtol, steps, probes, key)

    states = jnp.concatenate([a * x0 + s * noise, a * x0])
    both = jax.lax.map(said, (states, keys), batch_size=min(TOGETHER, states.shape[0]))
    first, bare = jnp.split(both, 2)
    left, above = hidden(rates(net, x0, three, lam), slope)
    scale = x0.shape[1] * jnp.log(a)
    clean = mean(first - scale - above.integral)._extrapolated(above.off)
    return NLL(mean(first), clean, mean(bare - scale), left, first)
