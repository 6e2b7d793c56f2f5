"""Error bars by drawing the sample again from itself."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, Bool, Key, Numbers, Scalar
from ._base import Estimate


class Bootstrap(NamedTuple):
    """An `Estimate` whose `stderr` is the spread of its value over resampled works, which are in `draws`."""

    value: Scalar
    stderr: Scalar
    ess: Scalar
    reliable: Bool[Array, ""]
    draws: Array


def bootstrap(
    estimator: Callable[..., Estimate], *samples: Numbers, key: Key, draws: int = 200
) -> Bootstrap:
    r"""Any estimator with its error bar from `draws` resamplings: `bootstrap(bar, w_forward, w_reverse, key=key)`.

    Each sample is drawn again with replacement, independently of the others and in its own size; `stderr` is the standard
    deviation of the values found, which are returned, for percentile intervals. Value, `ess` and `reliable` are those
    of the estimator itself: resampling cannot show what was never drawn.

    `samples` are arrays whose leading axis counts independent realisations. Raises what the estimator raises.
    Source: Efron, Ann. Stat. 7, 1 (1979).
    """
    key = _checks.key("key", key)
    draws = _checks.whole("draws", draws, "a whole number of resamplings", 2)
    if not callable(estimator) or not samples:
        raise TypeError(
            "bootstrap takes an estimator and its samples: bootstrap(bar, w_forward, w_reverse, key=key)."
        )
    estimate = estimator(*samples)
    values = _resampled(estimator, tuple(map(jnp.asarray, samples)), jax.random.split(key, draws))
    return Bootstrap(
        estimate.value, jnp.std(values, ddof=1), estimate.ess, estimate.reliable, values
    )


@eqx.filter_jit
def _resampled(
    estimator: Callable[..., Estimate], samples: tuple[Array, ...], keys: Array
) -> Array:
    def one(key: Key) -> Scalar:
        subkeys = jax.random.split(key, len(samples))
        again = (
            sample[jax.random.randint(k, sample.shape[:1], 0, sample.shape[0])]
            for k, sample in zip(subkeys, samples, strict=True)
        )
        return estimator(*again).value

    return jax.lax.map(one, keys)
