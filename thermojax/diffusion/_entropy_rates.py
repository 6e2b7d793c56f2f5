r"""The entropy rates of a generation at a level of noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._process import Process
from .._types import Array, Given, Key
from ..estimators import Estimate
from ._draws import AbstractSource
from ._measure import all_averaged, bent, rates_at
from ._noising import ends, kind_of
from ._parts import Asked, asked, seen, straight
from ._predictor import Network, Predictor, Predicts

NAMES = ("generation", "exchange")


class EntropyRates(NamedTuple):
    r"""Per nat of $\lambda$, in the direction of generation; each an `Estimate` of the shape of the levels asked for.

    `intrinsic` $\dot S^i \ge 0$ is produced, `exchange` $\dot S^e$ comes in from outside, and `system` is their sum.
    """

    system: Estimate
    intrinsic: Estimate
    exchange: Estimate


def entropy_rates(
    noising: Process,
    predict: Network | Predictor,
    data: Given,
    key: Key,
    lam: Array,
    *,
    predicts: Predicts = "score",
    size: int | None = 10_000,
) -> EntropyRates:
    r"""The entropy rates of the generation where the log signal-to-noise ratio is `lam`, over noisy data, in nats per nat:

    $$\dot S^i = \tfrac12 s^2 \langle |\kappa x + s_\theta|^2 \rangle, \qquad
      \dot S^e = -\tfrac12 s^2 \langle (\kappa x + 2 s_\theta) \cdot (\kappa x + s_\theta) \rangle, \qquad
      \dot S = \dot S^i + \dot S^e .$$

    - `lam`: one level, `()`, or many, `(n,)`, with the same draws, also beyond the ends of the schedule. Per unit of
      time: times `Level.rate`.
    - `predict`, `data`, `size`: as in `price`; `size=None` in closed form, for Gaussian data and linear scores.

    For VE $\dot S^e = -2 \dot S^i$, draw by draw, whatever the score; for VP it is not, unless one leaves $-\kappa x$ out.
    Source: Kodama & Hinczewski, arXiv 2510.06174, whose definitions are not public; this is the split of the entropy
    balance, Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 2, for the generation.
    """
    lam = _checks.floating("lam", lam)
    _checks.rank("lam", lam, {0, 1}, "() or (n,), log signal-to-noise ratios")
    kind_of("noising", noising)
    _, last = ends(noising)
    # where the schedule ends does not matter
    top = jnp.maximum(jnp.max(lam).astype(last.dtype), last) + 1
    given = asked(noising, predict, data, key, predicts, None, size, 1, top)
    one, lam = lam.ndim == 0, lam.reshape(-1).astype(given.span.top.dtype)
    found, off = _rates(given, lam)
    straight(off)
    seen("the entropy rate", lam, found.system.value)
    return EntropyRates(*(jax.tree.map(lambda v: v[0] if one else v, rate) for rate in found))


@jit
def _rates(given: Asked, lam: Array) -> tuple[EntropyRates, Array]:
    def level(one: Array) -> tuple[EntropyRates, Array]:
        def at(source: AbstractSource) -> dict[str, Array]:
            return rates_at(source, given.net, given.exact, one, given.key, NAMES)

        draws = at(given.source)
        draws["system"] = draws["generation"] + draws["exchange"]
        found = all_averaged(given.source, draws)
        off = bent(given.source, at)
        return EntropyRates(found["system"], found["generation"], found["exchange"]), off

    found, off = jax.lax.map(level, lam)
    return found, jnp.any(off)
