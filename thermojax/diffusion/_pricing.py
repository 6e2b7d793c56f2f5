r"""What pricing a model returns, as fields, and as a table."""

from typing import NamedTuple, SupportsFloat

import equinox as eqx
import numpy as np

from .. import _checks
from .._spell import spell
from .._types import Array, Scalar
from ..estimators import Estimate
from ._levelwise import Rate


class Rates(NamedTuple):
    r"""Entropies per nat of $\lambda$, each at the levels `(nodes,)` with its standard error; None where it is not known."""

    score_error: Rate | None
    noising: Rate | None
    generation: Rate
    norm: Rate
    divergence: Rate
    denoising: Rate


class Cutoff(NamedTuple):
    r"""What the entropy falls by from the first level to clean data, in nats, and the slope $\alpha$ of its rate there.

    `Hidden` says how it is extrapolated.
    """

    correction: Scalar
    alpha: Estimate


class Draws(NamedTuple):
    """Integrals of one draw each, `(n,)`: the same key gives two models the same draws, so that they can be subtracted."""

    score_error: Array | None
    endpoint: Array
    generation: Array
    norm: Array
    divergence: Array
    denoising: Array


class Pricing(eqx.Module):
    r"""Where a model's irreversibility comes from, in nats. Returned by `price`, which says what each field is.

    What could not be known is None, and `reasons` says why, by the name of the field; so does `print`.
    """

    levels: Array
    weight: Array
    rates: Rates
    score_error: Estimate | None
    endpoint: Estimate
    total: Estimate | None
    noising_entropy: Estimate | None
    generation_entropy: Estimate
    elbo: Estimate
    nll: Estimate | None
    first_entropy: Estimate | None
    last_entropy: Estimate
    limit: Estimate | None
    limit_divergence: Estimate | None
    gap: Estimate | None
    gap_divergence: Estimate | None
    data_entropy: Estimate
    cutoff: Cutoff
    balance: Estimate
    missing: Estimate | None
    inefficiency: Estimate | None
    draws: Draws
    notes: tuple[tuple[str, str], ...] = eqx.field(static=True)

    @property
    def reasons(self) -> dict[str, str]:
        """Why a field is None or NaN, and how others were come by, by the name of the field."""
        return dict(self.notes)

    def __str__(self) -> str:
        return _table(self)


_WORDS = {
    "score_error": "score error, path-level (7.18)",
    "endpoint": "KL(p_T || prior) (7.24)",
    "total": "irreversibility of the model (7.25)",
    "noising_entropy": "entropy production of the noising",
    "generation_entropy": "entropy production of the generation",
    "elbo": "evidence lower bound of ln p",
    "nll": "-<ln p> of the probability flow",
    "first_entropy": "entropy at the first level",
    "last_entropy": "entropy at the last level",
    "limit": "entropy-rate limit, by the norm",
    "limit_divergence": "entropy-rate limit, by the divergence",
    "gap": "nll less limit, by the norm",
    "gap_divergence": "nll less limit, by the divergence",
    "data_entropy": "entropy of clean data, estimated",
    "balance": "residual of the balance",
    "missing": "share above the first level",
    "inefficiency": "<W_red> - change of free energy (7.29)",
}


def _table(pricing: Pricing) -> str:
    if _checks.tracing(pricing):
        return "Pricing(known when the compiled function has returned)"
    rates = {name: rate for name, rate in pricing.rates._asdict().items() if rate is not None}
    lines = ["nats per nat of lam" + "".join(f"{name:>23}" for name in rates)]
    lam = np.asarray(pricing.levels)
    for i in np.unique(np.linspace(0, lam.size - 1, 9).round().astype(int)):
        cells = (_spell(rate.value[i], rate.stderr[i]) for rate in rates.values())
        lines.append(f"lam = {lam[i]:13.3f}" + "".join(f"{cell:>23}" for cell in cells))
    lines.append("")
    for name, words in _WORDS.items():
        found: Estimate | None = getattr(pricing, name)
        note = pricing.reasons.get(name, "")
        if found is None:
            lines.append(f"{words:<42}{'not known':>24}   {note}")
            continue
        if name in ("missing", "data_entropy") and np.isnan(found.value):
            lines.append(
                f"{words:<42}{'not known':>24}   the rate does not fall at the first level"
            )
            continue
        doubt = "" if found.reliable else f"   unreliable: {found.why}"
        note = f"   ({note})" if note else ""
        lines.append(f"{words:<42}{_spell(found.value, found.stderr):>24}{note}{doubt}")
    return "\n".join(lines)


def _spell(value: SupportsFloat, stderr: SupportsFloat) -> str:
    return spell(value, stderr) if float(stderr) > 0 else f"{float(value):.6g}"
