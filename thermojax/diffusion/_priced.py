r"""The arithmetic of a price: all averages over one set of draws, and what is made of them."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._jit import jit
from .._process import Process
from .._types import Array, Key, Scalar
from ..estimators import Estimate
from ._draws import known_at
from ._ends import entropy, last_entropy, mismatch, surprise
from ._flow import flow_log_prob
from ._levelwise import tail
from ._measure import all_averaged, averaged, bent, edge, integrate, together
from ._parts import NO_SCORE, Asked
from ._pricing import Cutoff, Draws, Pricing, Rates
from ._schedules import Uniform

LIMIT = "the entropy of the data is not known; data_entropy estimates it"


@jit
def priced(given: Asked, noising: Process, flows: int, probes: int | None) -> tuple[Pricing, Array]:
    """The price, and whether it is none: of averages in closed form that do not hold."""
    over, net, best, data, source = (given.span, given.net, given.exact, given.data, given.source)
    kind, top, bottom = over.kind, over.top, over.bottom
    keys = iter(jax.random.split(given.key, 7))
    known = () if best is None else ("score_error", "noising")
    names = (*known, "generation", "norm", "divergence", "denoising", "balance")
    key = next(keys)
    curves, draws = integrate(source, net, best, over, key, names)
    off = bent(source, lambda other: integrate(other, net, best, over, key, names)[1])
    draws = {name: jnp.where(off, jnp.nan, v) for name, v in draws.items()}

    there = next(keys)  # one set of states at the last level serves all three
    end = mismatch(source, data, kind, over.prior, bottom, there)
    last = last_entropy(source, data, kind, bottom, there)
    crossed = surprise(source, over.prior, kind, bottom, there)
    first = entropy(source, data, kind, top, next(keys))
    d = eqx.filter_eval_shape(source.states, kind, top, given.key).x.shape[1]
    shrunk = d * over.stretch
    first_rates = edge(source, net, best, over, next(keys), ("norm", *known[:1]))
    above = {name: tail(f, bent=name == "norm") for name, f in first_rates.items()}
    alphas, cut, unknown = above["norm"]

    estimates = draws | {
        "elbo": -(crossed + draws["denoising"] + shrunk),
        "data_entropy": last.draws - draws["norm"] + shrunk - d * jnp.log(kind.signal(top)) - cut,
        "alpha": alphas,
        "endpoint": end.draws,
        "last_entropy": last.draws,
    }
    if first is not None:
        estimates["first_entropy"] = first.draws
    if best is not None:
        estimates |= {
            "total": draws["score_error"] + end.draws,
            "missing": above["score_error"].integral,
        }
    found = all_averaged(source, estimates)
    found["data_entropy"] = found["data_entropy"]._extrapolated(unknown)

    endless = jnp.any(end.draws == jnp.inf)
    found["endpoint"] = found["endpoint"]._replace(
        value=jnp.where(endless, jnp.inf, found["endpoint"].value)
    )
    if best is not None:
        whole = found["score_error"].value + found["missing"].value
        found["missing"] = _scaled(found["missing"], 1 / jnp.where(whole > 0, whole, 1))
    S0, S1 = found.get("first_entropy"), found["last_entropy"]
    if flows:
        found["nll"] = _nll(given, noising, flows, probes, S0, next(keys))
    for form, name in (("norm", ""), ("divergence", "_divergence")):
        if S0 is not None:
            grown = found[form]._replace(value=found[form].value - shrunk)
            found["limit" + name] = limit = together((0.5, S0), (0.5, S1), (-0.5, grown))
            if flows:
                found["gap" + name] = together((1.0, found["nll"]), (-1.0, limit))
    pricing = Pricing(
        levels=over.lam,
        weight=over.weight,
        rates=Rates(
            score_error=curves.get("score_error"),
            noising=curves.get("noising"),
            generation=curves["generation"],
            norm=curves["norm"],
            divergence=curves["divergence"],
            denoising=curves["denoising"],
        ),
        score_error=found.get("score_error"),
        endpoint=found["endpoint"],
        total=found.get("total"),
        noising_entropy=found.get("noising"),
        generation_entropy=found["generation"],
        elbo=found["elbo"],
        nll=found.get("nll"),
        first_entropy=S0,
        last_entropy=S1,
        limit=found.get("limit"),
        limit_divergence=found.get("limit_divergence"),
        gap=found.get("gap"),
        gap_divergence=found.get("gap_divergence"),
        data_entropy=found["data_entropy"],
        cutoff=Cutoff(jnp.mean(cut), found["alpha"]),
        balance=found["balance"],
        missing=found.get("missing"),
        inefficiency=None,
        draws=Draws(
            draws.get("score_error"),
            end.draws,
            draws["generation"],
            draws["norm"],
            draws["divergence"],
            draws["denoising"],
        ),
        notes=_notes(found, end.how, last.how, None if first is None else first.how),
    )
    return pricing, off


def _notes(
    found: dict[str, Estimate], end: str, last: str, first: str | None
) -> tuple[tuple[str, str], ...]:
    """Why something is not there, and how other things were come by."""
    notes = {"endpoint": end, "last_entropy": last}
    notes["first_entropy"] = "the density of the data is not known" if first is None else first
    reasons = {
        "score_error": NO_SCORE,
        "total": "it needs the exact score",
        "noising_entropy": "it needs the exact score",
        "missing": "it needs the exact score",
        "nll": "flows=0: give flows=1000, say",
        "limit": LIMIT,
        "limit_divergence": LIMIT,
        "gap": "it needs nll (flows=) and the limit",
        "gap_divergence": "it needs nll (flows=) and the limit",
    }
    there = {*found, *(["noising_entropy"] if "noising" in found else [])}
    return tuple(
        (notes | {name: why for name, why in reasons.items() if name not in there}).items()
    )


def _scaled(estimate: Estimate, by: Array) -> Estimate:
    by = by.astype(estimate.value.dtype)
    value, stderr = by * estimate.value, by * estimate.stderr
    return estimate._replace(
        value=value, stderr=stderr, reliable=estimate.reliable & ~jnp.isnan(by)
    )


def _nll(
    given: Asked, noising: Process, flows: int, probes: int | None, S0: Estimate | None, key: Key
) -> Estimate:
    """Of as many states at the first level; where their density is known its own entropy is taken out, draw by draw."""
    over, net, source = given.span, given.net, given.source
    draw, hutchinson = jax.random.split(key)
    few = source.resized(flows)
    x = few.states(over.kind, over.top, draw).x
    process = noising.replace(protocol=Uniform(over.top, over.bottom))
    steps = 4 * over.lam.size

    def one(x: Array, key: Key) -> Scalar:
        probe = None if probes is None else key
        return -flow_log_prob(process, net, x, steps=steps, probes=probes, key=probe)

    values = jax.vmap(one)(x, jax.random.split(hutchinson, len(x)))
    density = known_at(given.data, over.kind, over.top)
    if density is None or S0 is None:
        return averaged(few, few.one_each(values))
    apart = values + jax.vmap(density.log_prob)(x)
    return together((1.0, S0), (1.0, averaged(few, few.one_each(apart))))
