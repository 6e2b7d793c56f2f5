r"""Two models on the same draws: their differences, without the noise that they share."""

from typing import NamedTuple

from .._process import Process
from .._types import ArrayLike, Given, Key
from ..estimators import Estimate, mean
from ._predictor import Network, Predictor, Predicts
from ._price import price
from ._pricing import Pricing


class Comparison(NamedTuple):
    r"""Differences of two models, the first less the second, in nats, with the errors of pairs; and the price of each.

    - `score_error`: known from samples as well, where neither of the two is: both differ from their denoising errors by the
      same number, $\tfrac12\langle|\hat\epsilon - \epsilon|^2\rangle$ of the exact score.
    - `elbo`: its negative.
    - `generation`, `norm`, `divergence`: of the rates' integrals.
    """

    score_error: Estimate
    elbo: Estimate
    generation: Estimate
    norm: Estimate
    divergence: Estimate
    prices: tuple[Pricing, Pricing]


def compare(
    noising: Process,
    models: tuple[Network | Predictor, Network | Predictor],
    data: Given,
    key: Key,
    *,
    predicts: Predicts = "score",
    exact: Network | Predictor | None = None,
    size: int = 10_000,
    nodes: int | None = None,
    top: ArrayLike | None = None,
) -> Comparison:
    r"""Price two models with the same draws, and subtract draw by draw.

    What they have in common cancels: the error of the difference is often many times smaller than that of either price. A
    difference that is zero draw by draw has no error bar, and `reliable` is False. Arguments as in `price`; `predicts` is of
    both, unless they are `Predictor`s.
    """
    one, two = models
    a, b = (
        price(
            noising, net, data, key, predicts=predicts, exact=exact, size=size, nodes=nodes, top=top
        )
        for net in (one, two)
    )
    denoising = a.draws.denoising - b.draws.denoising
    if a.draws.score_error is not None and b.draws.score_error is not None:
        error = a.draws.score_error - b.draws.score_error
    else:
        error = denoising
    generation, norm, divergence = (
        mean(getattr(a.draws, name) - getattr(b.draws, name))
        for name in ("generation", "norm", "divergence")
    )
    return Comparison(mean(error), mean(-denoising), generation, norm, divergence, (a, b))
