r"""The entropies of a model one by one, each to be used alone, as a loss say. `price` has them all."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, ArrayLike, Density, Given, Key, Scalar
from ..estimators import Estimate
from ._draws import AbstractSource, clean_score, is_density, source
from ._ends import End, mismatch
from ._kinds import AbstractNoising
from ._levelwise import Rate
from ._measure import all_averaged, bent, integrate
from ._noising import ends, kind_of, prior_of
from ._predictor import Network, Predictor, Predicts, predictor
from ._span import Span, span


class Asked(NamedTuple):
    """What a user gave, looked at."""

    span: Span
    net: Predictor
    exact: Predictor | None
    data: Given  # the density, or None of a sample
    source: AbstractSource
    key: Key


def asked(
    noising: Process,
    predict: Network | Predictor,
    data: Given,
    key: Key,
    predicts: Predicts,
    exact: Network | Predictor | None,
    size: int | None,
    nodes: int | None,
    top: ArrayLike | None,
) -> Asked:
    kind = kind_of("noising", noising)
    over = span(noising, top, nodes)
    net = predictor(predict, predicts, kind=kind, name="predict")
    rows, rest = jax.random.split(_checks.key("key", key))
    drawn = source(data, size, rows)
    best = clean_score(data, kind)
    if exact is not None:
        best = predictor(exact, "score", kind=kind, name="exact")
    if size is None and best is None:
        raise ValueError("size=None takes averages in closed form, which needs the exact score.")
    states = eqx.filter_eval_shape(lambda k: drawn.states(kind, over.top, k), rest).x
    prior = _checks.draw("the prior", over.prior)
    if prior.shape != states.shape[1:]:
        raise ValueError(
            f"data must have as many coordinates as the noising, {prior.shape[0]}; got {states.shape[1]}."
        )
    named = {"the data": states, "the noising": (over.top, over.bottom), "the prior": prior}
    _checks.one_float(**named)
    return Asked(over, net, best, data if is_density(data) else None, drawn, rest)


def seen(name: str, lam: Array, rates: Array) -> None:
    """Refuse a rate that is not finite at some level, if its values are known."""
    value = _checks.known(rates)
    if value is None or np.isfinite(value).all():
        return
    i = int(np.flatnonzero(~np.isfinite(value))[0])
    raise ValueError(
        f"predict: {name} is {value[i]} at lam = {float(lam[i]):.4g}: a score is not finite somewhere on the data "
        "(that of the network, or the exact one), or too large for the precision. Look at predict(x, lam) there, or keep to "
        "levels on which the network was trained (top=)."
    )


def straight(off: Array) -> None:
    """Refuse averages in closed form of what is not quadratic, if that is known."""
    if bool(_checks.known(off)):
        raise ValueError(
            "size=None takes averages in closed form, which needs a score linear in x at each level; this one is not. Give "
            "size=10_000."
        )


@jit
def measured(
    given: Asked, names: Sequence[str]
) -> tuple[dict[str, Rate], dict[str, Estimate], Array]:
    over, key = given.span, given.key
    curves, values = integrate(given.source, given.net, given.exact, over, key, names)

    def total(other: AbstractSource) -> dict[str, Array]:
        return integrate(other, given.net, given.exact, over, key, names)[1]

    off = bent(given.source, total)
    found = all_averaged(given.source, {n: jnp.where(off, jnp.nan, v) for n, v in values.items()})
    return curves, found, off


def _one(given: Asked, name: str) -> Estimate:
    curves, found, off = measured(given, (name,))
    straight(off)
    seen(name.replace("_", " "), given.span.lam, curves[name].value)
    return found[name]


def score_error(
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
) -> Estimate:
    r"""The entropy that a wrong score produces, the divergence of the path measures of noising and generation, in nats:

    $$\mathrm{KL}(P \| P_\theta) = \int \tfrac12 s^2 \langle |s_\theta - \nabla\ln p_\lambda|^2 \rangle\, d\lambda
      = \tfrac12 \int g^2 \langle |s_\theta - \nabla\ln p_t|^2 \rangle\, dt .$$

    It needs the exact score: that of `data` as a density of this library, or `exact=`. As a loss it is differentiable by the
    weights of the network and by the ends of the schedule, at a fixed key. Arguments as in `price`.
    Source: Zhang, arXiv 2606.18290, eq. 7.18; Song et al., NeurIPS 2021 (arXiv 2101.09258), thm. 1.
    """
    given = asked(noising, predict, data, key, predicts, exact, size, nodes, top)
    if given.exact is None:
        raise ValueError(f"score_error needs the exact score. {NO_SCORE}")
    return _one(given, "score_error")


NO_SCORE = (
    "That of samples, or of a density without a closed form under noise, is not known: give exact=, or compare two models "
    "(diffusion.compare), whose difference is known"
)


def noising_entropy(
    noising: Process,
    data: Given,
    key: Key,
    *,
    exact: Network | Predictor | None = None,
    size: int | None = 10_000,
    nodes: int | None = None,
    top: ArrayLike | None = None,
) -> Estimate:
    r"""The entropy that the noising produces, in nats: physical, and positive for a perfect model.

    $$\int \frac{\langle |v|^2 \rangle}{D}\, dt
      = \int \tfrac12 s^2 \langle |\kappa x + \nabla\ln p_\lambda|^2 \rangle\, d\lambda$$

    It does not depend on the schedule between the levels. Arguments and source as in `score_error`.
    """
    best = clean_score(data, kind_of("noising", noising)) if exact is None else exact
    if best is None:
        raise ValueError(f"noising_entropy needs the exact score. {NO_SCORE}.")
    return _one(asked(noising, best, data, key, "score", best, size, nodes, top), "noising")


def generation_entropy(
    noising: Process,
    predict: Network | Predictor,
    data: Given,
    key: Key,
    *,
    predicts: Predicts = "score",
    size: int | None = 10_000,
    nodes: int | None = None,
    top: ArrayLike | None = None,
) -> Estimate:
    r"""The entropy that the generation produces, as its network sees it, in nats: physical, and positive anyhow.

    $$\int \tfrac12 s^2 \langle |\kappa x + s_\theta|^2 \rangle\, d\lambda$$

    over noisy data. With the exact score it is that of the noising. Arguments as in `price`.
    Source: Kodama & Hinczewski, arXiv 2510.06174.
    """
    return _one(asked(noising, predict, data, key, predicts, None, size, nodes, top), "generation")


def endpoint(noising: Process, data: Given, key: Key, *, size: int | None = 10_000) -> Estimate:
    r"""$\mathrm{KL}(p_T \| \pi)$, what is left of the data at the last level against the prior, in nats.

    In closed form for Gaussians. By draws where $p_T$ is known: the mean of $\ln r + 1/r - 1 \ge 0$, $r = p_T/\pi$. Of
    samples an upper bound, $\langle \mathrm{KL}(q(x_T|x_0) \| \pi) \rangle$. `ValueError` if the prior does not cover it.
    Source: Zhang, arXiv 2606.18290, eq. 7.24.
    """
    kind, prior, bottom = kind_of("noising", noising), prior_of(noising), ends(noising)[1]
    rows, rest = jax.random.split(_checks.key("key", key))
    found = _mismatch(
        source(data, size, rows), data if is_density(data) else None, kind, prior, bottom, rest
    )
    covered(found)
    return found


def covered(found: Estimate) -> None:
    """Refuse a prior that does not cover the last level, if that is known."""
    value = _checks.known(found.value)
    if value is not None and not np.isfinite(value):
        raise ValueError(
            f"The prior does not cover the density at the last level: KL(p_T || prior) is {value}, for the prior is zero "
            "(or not finite) where data end. Give noising(..., prior=) a density that is positive everywhere: a Gaussian."
        )


@jit
def _mismatch(
    drawn: AbstractSource,
    data: Given,
    kind: AbstractNoising,
    prior: Density,
    lam: Scalar,
    key: Key,
) -> Estimate:
    return infinite(mismatch(drawn, data, kind, prior, lam, key), drawn)


def infinite(end: End, source: AbstractSource) -> Estimate:
    """The estimate, infinite if a draw is."""
    found = end.estimate(source)
    return found._replace(value=jnp.where(jnp.any(end.draws == jnp.inf), jnp.inf, found.value))
