r"""A log-density as an integral of denoising errors over the levels of noise, and where in the noise it comes from."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._nodes import nodes as legendre
from .._types import Array, Key, Scalar
from ..estimators import Estimate
from ._cutoff import Hidden


class Bound(NamedTuple):
    r"""What `elbo` and `denoising_log_prob` return: a log-density in nats, and where in the noise it comes from.

    - `first`: of the data, or the point, noised to the first level, averaged over that noise, in the scale of the noising.
    - `clean`: of clean data: `first` $+\, d \ln a_0 + f/\alpha$, with what is `hidden` extrapolated; NaN where it cannot be.
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


def integrated(
    level: Callable[[Scalar, Key], Array],
    ends: tuple[Scalar, Scalar],
    key: Key,
    nodes: int,
    like: Array,
) -> tuple[Array, Array, Array, Array]:
    """The levels, the mean of `level(lam, key)` and its error at each, and the integral of each of its rows."""
    first, last = ends
    places, weights = (jnp.asarray(v, first.dtype) for v in legendre(nodes))
    lam = first + (last - first) * places
    weights = (first - last) * weights

    @eqx.filter_checkpoint
    def add(
        total: Array, lam: Scalar, weight: Scalar, key: Key
    ) -> tuple[Array, tuple[Scalar, Scalar]]:
        found = level(lam, key)
        spread = jnp.std(found, ddof=1) / found.size**0.5
        return total + weight * found, (jnp.mean(found), spread)

    keys = jax.random.split(key, nodes)
    total, (rate, stderr) = jax.lax.scan(
        lambda total, given: add(total, *given), jnp.zeros_like(like), (lam, weights, keys)
    )
    return lam, rate, stderr, total


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
