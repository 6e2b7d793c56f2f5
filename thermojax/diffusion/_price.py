r"""The price of a diffusion model: its irreversibility, what it is made of, and what it says of its likelihood."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._process import Process
from .._types import Array, ArrayLike, Given, Key, Potential, Scalar
from ..estimators import Estimate
from ._draws import AbstractSource, known_at
from ._ends import End, entropy, last_entropy, mismatch, surprise
from ._flow import flow_log_prob
from ._inefficiency import inefficiency
from ._measure import Rate, averaged, bent, edge, exactly, integrate, together
from ._parts import NO_SCORE, Asked, asked, covered, infinite, seen, straight
from ._predictor import Network, Predictor, Predicts
from ._pricing import Cutoff, Draws, Pricing, Rates
from ._schedules import Uniform

DECAY = 0.25  # of the entropy rate per nat; of data with an edge it is 1/2, of smooth data 1, of points 0


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
    - `size`: draws, at each level, with fresh noise. A sample: the same rows at all levels, each `size // n` times, so that the
      errors are those of another sample. None: averages in closed form, for Gaussian `data` and a score linear in x.
    - `nodes`: of Gauss and Legendre, 32, and 48 where the levels span more than 25.
    - `flows`: states of which the probability flow's likelihood is taken; 0 for none.
    - `potential`: a reduced potential $\phi(x, \text{level})$, normalised at both ends, for `inefficiency`.

    **What is returned** (a `Pricing`), s the exact score and $s_\theta$ the model's:

    - `rates` at `levels`, and `weight`, with which they are summed.
    - `score_error` $= \int \tfrac12 s^2 \langle|s_\theta - s|^2\rangle d\lambda$ (7.18), `endpoint` $= \mathrm{KL}(p_T \|
      \pi)$ (7.24), and `total`, their sum (7.25): KL of noising and generation as path measures, which is also the
      irreversibility of the cycle data, noise, data (7.33). It bounds the divergence of what the stochastic sampler makes from
      the data, and says nothing of the probability flow's.
    - `noising_entropy`, `generation_entropy`: the physical entropy production of the two processes, $\int \tfrac12 s^2
      \langle|\kappa x + s|^2\rangle d\lambda$. Positive for a perfect model.
    - `elbo`: the evidence lower bound of $\langle\ln p_\theta(x)\rangle$ at the first level, in continuous time.
    - `nll` $= -\langle \ln p_\theta \rangle$ of the probability flow at the first level.
    - `first_entropy` $S_0$, `last_entropy` $S_1$, and `limit` $= \tfrac12(S_0 + S_1) - \tfrac12 \int \dot S_\theta dt$ of Kodama
      and Hinczewski, by the norm, $\int\dot S_\theta dt = \int \tfrac12 s^2 \langle |s_\theta|^2 \rangle d\lambda - d
      \ln(a_0/a_T)$, and by the divergence of $s_\theta$. `gap` is `nll` less the limit, with its sign. For an exact score and
      $\pi = p_T$ it is zero. For any other it may have either sign: an indicator, no bound.
    - `data_entropy`: the entropy of clean data that the limit gives, $S_1 - \int\dot S_\theta dt - d \ln a_0$ less `cutoff`, what
      the rate at the first level leaves, if it goes on to fall as $e^{-\alpha\lambda}$. NaN if it does not fall
      ($\alpha < 1/4$): points, or a manifold, which have entropy $-\infty$.
    - `balance` $= \int s^2 \langle s_\theta \cdot (s - s_\theta) \rangle d\lambda$: by this the entropies of the exact score and of
      the model differ by more than the score error. Zero if $s_\theta$ is the best of a linear class.
    - `missing`: the share of the score error that lies above the first level, extrapolated in the same way.
    - `inefficiency`: $\langle W_\mathrm{red}\rangle - \Delta(\beta F)$ of the generation (7.29). It measures speed and error.
    - `draws`: one number per independent draw, for paired differences (`compare`).

    What cannot be known from samples is None, and `reasons` says why. `print` it.

    Raises `ValueError` for a score that is not finite on the data, a prior that does not cover the last level, clean data as
    first level, or data that do not fit; while tracing the results are NaN.
    Source: Zhang, arXiv 2606.18290, sec. 7; Kodama & Hinczewski, arXiv 2510.06174; Song et al., arXiv 2101.09258.
    """
    flows = _checks.whole("flows", flows, "a whole number of states, or 0", 0)
    given = asked(noising, predict, data, key, predicts, exact, size, nodes, top)
    found, off = _priced(given, noising, flows)
    straight(off)
    for name in ("generation", "score_error", "noising"):
        if (rate := getattr(found.rates, name)) is not None:
            seen(name.replace("_", " "), given.span, rate)
    covered(found.endpoint)
    notes = dict(found.notes)
    alpha = _checks.known(found.cutoff.alpha.value)
    if alpha is not None and not alpha >= DECAY:
        notes["data_entropy"] = (
            f"the entropy rate does not die out above the first level, alpha = {alpha:.2g}: points or a manifold, of entropy "
            "minus infinity, or the first level is too low"
        )
    if potential is None:
        notes["inefficiency"] = "it needs a reduced potential: potential="
    else:
        work = inefficiency(noising, predict, potential, key, predicts=predicts, top=top)
        found = eqx.tree_at(lambda p: p.inefficiency, found, work, is_leaf=lambda x: x is None)
    return eqx.tree_at(lambda p: p.notes, found, tuple(notes.items()))


class _Extrapolated(NamedTuple):
    beyond: Scalar  # what is left above the first level
    moves: Array  # what each draw adds to it
    alpha: Estimate


@eqx.filter_jit
def _priced(given: Asked, noising: Process, flows: int) -> tuple[Pricing, Array]:
    over, net, best, data, source = (given.span, given.net, given.exact, given.data, given.source)
    kind, top, bottom = over.kind, over.top, over.bottom
    keys = iter(jax.random.split(given.key, 8))
    known = () if best is None else ("score_error", "noising")
    names = (*known, "generation", "norm", "divergence", "denoising", "balance")
    key = next(keys)
    curves, values = integrate(source, net, best, over, key, names)
    off = bent(source, lambda other: integrate(other, net, best, over, key, names)[1])
    total = {name: averaged(source, jnp.where(off, jnp.nan, v)) for name, v in values.items()}

    notes: dict[str, str] = {}
    end = mismatch(source, data, kind, over.prior, bottom, next(keys))
    last = last_entropy(source, data, kind, bottom, next(keys))
    first = entropy(source, data, kind, top, next(keys))
    notes |= {"endpoint": end.how, "last_entropy": last.how}
    crossed = surprise(source, over.prior, kind, bottom, next(keys))
    d = eqx.filter_eval_shape(source.states, kind, top, given.key).x.shape[1]
    shrunk = d * over.stretch

    grown = {form: values[form] - shrunk for form in ("norm", "divergence")}
    beyond = _beyond(given, next(keys), "norm")
    kept = jnp.where(beyond.alpha.value >= DECAY, 1.0, jnp.nan).astype(shrunk.dtype)
    entropy_of_data = last.draws - grown["norm"] - d * jnp.log(kind.signal(top)) - beyond.moves
    S0 = None if first is None else first.estimate(source)
    S1 = last.estimate(source)
    nll = _nll(given, noising, flows, S0, next(keys)) if flows else None
    if not flows:
        notes["nll"] = "flows=0: give flows=1000, say"
    limits = {form: None if S0 is None else _limit(source, S0, S1, g) for form, g in grown.items()}
    gaps = {form: _gap(nll, one) for form, one in limits.items()}
    for form, name in (("norm", ""), ("divergence", "_divergence")):
        if S0 is None:
            notes[f"limit{name}"] = "the entropy of the data is not known; data_entropy estimates it"
        if gaps[form] is None:
            notes[f"gap{name}"] = "it needs nll (flows=) and the limit"
    if first is None:
        notes["first_entropy"] = "the density of the data is not known"
    else:
        notes["first_entropy"] = first.how

    missing, whole = None, None
    if best is not None:
        above = _beyond(given, next(keys), "score_error")
        part, rest = above.beyond, total["score_error"].value
        share = part / jnp.where(part + rest > 0, part + rest, 1)
        spread = averaged(source, above.moves).stderr / jnp.where(rest > 0, rest, 1)
        missing = exactly(share)._replace(stderr=spread)
        plus = end.draws if not end.exact else jnp.broadcast_to(end.draws, values["norm"].shape)
        whole = averaged(source, values["score_error"] + plus)
    else:
        for name in ("score_error", "total", "noising_entropy", "missing"):
            notes[name] = NO_SCORE if name == "score_error" else "it needs the exact score"
    pricing = Pricing(
        levels=over.lam,
        weight=over.weight,
        rates=Rates(**{name: curves.get(name) for name in Rates._fields}),
        score_error=total.get("score_error"),
        endpoint=infinite(end, source),
        total=whole,
        noising_entropy=total.get("noising"),
        generation_entropy=total["generation"],
        elbo=averaged(source, -(crossed + values["denoising"] + shrunk)),
        nll=nll,
        first_entropy=S0,
        last_entropy=S1,
        limit=limits["norm"],
        limit_divergence=limits["divergence"],
        gap=gaps["norm"],
        gap_divergence=gaps["divergence"],
        data_entropy=averaged(source, kept * entropy_of_data),
        cutoff=Cutoff(beyond.beyond, beyond.alpha),
        balance=total["balance"],
        missing=missing,
        inefficiency=None,
        draws=Draws(
            values.get("score_error"), end.draws, *(values[n] for n in Draws._fields[2:])
        ),
        notes=tuple(notes.items()),
    )
    return pricing, off
