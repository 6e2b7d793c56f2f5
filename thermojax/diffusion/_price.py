r"""The price of a diffusion model: its irreversibility, what it is made of, and what it says of its likelihood."""

import dataclasses

from .. import _checks
from .._process import Process
from .._types import ArrayLike, Given, Key, Potential
from ._inefficiency import inefficiency
from ._levelwise import LEAST
from ._parts import asked, covered, seen, straight
from ._predictor import Network, Predictor, Predicts
from ._priced import priced
from ._pricing import Pricing


def price(
    noising: Process,
    predict: Network | Predictor,
    data: Given,
    key: Key,
    *,
    predicts: Predicts = "score",
    exact: Network | Predictor | None = None,
    size: int | None = 10_000,
    nodes: int | None = None,
    top: ArrayLike | None = None,
    flows: int = 0,
    probes: int | None = None,
    potential: Potential | None = None,
) -> Pricing:
    r"""Where the irreversibility of a model comes from, noise level by noise level, and what it says of the likelihood.

    All in nats, of states of all d coordinates. The integrals run over $\lambda$ from the last level to the first, and no
    schedule is left in them.

    **Arguments:**

    - `noising`: made by `noising`. Its kind, its prior and its levels count, from the first finite one, or `top`, to the
      last. What it starts from is not used: clean data are `data`.
    - `predict`, `predicts`: the model, as in `generate`.
    - `data`: clean data. A sample `(n, d)`; or a density. If what noise makes of it has a closed form (`Gaussian`,
      `Uniform`, a `Mixture` of them) its score is the exact one.
    - `exact`: the exact score, or None to take that of `data`.
    - `size`: draws, at each level, with fresh noise. A sample: the same rows at all levels, each `size // n` times,
      so that the errors are those of another sample. None: averages in closed form, for Gaussian `data`
      and a score linear in x.
    - `nodes`: of Gauss and Legendre, 32, and 48 where the levels span more than 25.
    - `flows`: states of which the probability flow's likelihood is taken; 0 for none. `probes`: as in `flow_log_prob`.
    - `potential`: a reduced potential $\phi(x, \text{level})$, normalised at both ends, for `inefficiency`.

    **What is returned** (a `Pricing`), s the exact score and $s_\theta$ the model's:

    - `rates` at `levels`, and `weight`, with which they are summed.
    - `score_error` $= \int \tfrac12 s^2 \langle|s_\theta - s|^2\rangle d\lambda$ (7.18), `endpoint` $= \mathrm{KL}(p_T \|
      \pi)$ (7.24), and `total`, their sum (7.25): KL of noising and generation as path measures, which is also the
      irreversibility of the cycle data, noise, data (7.33). It bounds the divergence of what the stochastic sampler makes
      from the data, and says nothing of the probability flow's.
    - `noising_entropy`, `generation_entropy`: the physical entropy production of the two processes, $\int \tfrac12 s^2
      \langle|\kappa x + s|^2\rangle d\lambda$. Positive for a perfect model.
    - `elbo`: the evidence lower bound of $\langle\ln p_\theta(x)\rangle$ at the first level, in continuous time.
    - `nll` $= -\langle \ln p_\theta \rangle$ of the probability flow at the first level.
    - `first_entropy` $S_0$, `last_entropy` $S_1$, and `limit` $= \tfrac12(S_0 + S_1) - \tfrac12 \int \dot S_\theta dt$ of
      Kodama and Hinczewski, by the norm, $\int\dot S_\theta dt =
      \int \tfrac12 s^2 \langle |s_\theta|^2 \rangle d\lambda - d \ln(a_0/a_T)$, and by the divergence of
      $s_\theta$. `gap` is `nll` less the limit, with its sign. For an exact score and $\pi = p_T$ it is zero. For any other
      it may have either sign: an indicator, no bound.
    - `data_entropy`: the entropy of clean data that the limit gives, $S_1 - \int\dot S_\theta dt - d \ln a_0$ less `cutoff`:
      what the rate at the first level leaves, if it goes on to fall as $e^{-\alpha\lambda}$ (`Hidden` says more). NaN if it
      does not fall ($\alpha < 1/4$): points, or a manifold, which have entropy $-\infty$.
    - `balance` $= \int s^2 \langle s_\theta \cdot (s - s_\theta) \rangle d\lambda$: by this the entropies of the exact score
      and of the model differ by more than the score error. Zero if $s_\theta$ is the best of a linear class.
    - `missing`: the share of the score error that lies above the first level, extrapolated in the same way; or NaN.
    - `inefficiency`: $\langle W_\mathrm{red}\rangle - \Delta(\beta F)$ of the generation (7.29): speed and error.
    - `draws`: one number per independent draw, for paired differences (`compare`).

    What cannot be known from samples is None, and `reasons` says why. `print` it.

    Raises `ValueError` for a score that is not finite on the data, a prior that does not cover the last level, clean data as
    first level, or data that do not fit; while tracing the results are NaN.
    Source: Zhang, arXiv 2606.18290, sec. 7; Kodama & Hinczewski, arXiv 2510.06174; Song et al., arXiv 2101.09258.
    """
    flows = _checks.whole("flows", flows, "a whole number of states, or 0", 0)
    given = asked(noising, predict, data, key, predicts, exact, size, nodes, top)
    found, off = priced(given, noising, flows, probes)
    straight(off)
    for name in ("generation", "score_error", "noising"):
        if (rate := getattr(found.rates, name)) is not None:
            seen(name.replace("_", " "), given.span.lam, rate.value)
    covered(found.endpoint)
    notes = dict(found.notes)
    alpha = _checks.known(found.cutoff.alpha.value)
    if alpha is not None and not alpha >= LEAST:
        notes["data_entropy"] = (
            f"the entropy rate does not die out above the first level, alpha = {alpha:.2g}: points or a manifold, of "
            "entropy minus infinity, or the first level is too low"
        )
    if potential is None:
        notes["inefficiency"] = "it needs a reduced potential: potential="
    else:
        work = inefficiency(noising, predict, potential, key, predicts=predicts, top=top)
        found = dataclasses.replace(found, inefficiency=work)
    return dataclasses.replace(found, notes=tuple(notes.items()))
