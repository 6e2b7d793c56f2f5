"""Error bars by drawing the sample again from itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._types import Array, Key, Numbers, Scalar
from ._correlation import correlated
from ._estimate import CORRELATED, ROUNDED, Bootstrap, Estimate

PARTS = 20  # blocks that a sample must hold
LONG = 3  # inefficiencies that a block must be long


def bootstrap(
    estimator: Callable[..., Estimate],
    *samples: Numbers,
    key: Key,
    draws: int = 200,
    block: int = 1,
) -> Bootstrap:
    r"""Any estimator with its error bar from `draws` resamplings: `bootstrap(bar, w_forward, w_reverse, key=key)`.

    Each sample is drawn again with replacement, independently of the others and in its own size; `stderr` is the standard
    deviation of the values found, which are returned, for percentile intervals. Value, `ess` and `reliable` are those
    of the estimator itself: resampling cannot show what was never drawn.

    `samples` are arrays whose leading axis counts realisations. `block=1` draws them one by one, as independent ones;
    `block=b` draws runs of b neighbours (the sample's end is followed by its start), for samples in which neighbours
    correlate: b several times the correlation time, and the sample many times b. Where the estimator sees a correlation, a
    `block` of at least three statistical inefficiencies and at most a twentieth of the sample takes that doubt away; with
    `block=1` the error is not less than the estimator's own, which allows for it. Raises what the estimator raises.

    Source: Efron, Ann. Stat. 7, 1 (1979); Politis & Romano, in Exploring the Limits of Bootstrap (1992).
    """
    key = _checks.key("key", key)
    draws = _checks.whole("draws", draws, "a whole number of resamplings", 2)
    block = _checks.whole("block", block, "a whole number of neighbours")
    if not callable(estimator) or not samples:
        raise TypeError(
            "bootstrap takes an estimator and its samples: bootstrap(bar, w_forward, w_reverse, key=key)."
        )
    estimate = estimator(*samples)
    arrays = tuple(_checks.array("A sample", x) for x in samples)
    for array, given in zip(arrays, samples, strict=True):
        single = jnp.issubdtype(array.dtype, jnp.floating) and _checks.shortened(given)
        fine = np.asarray(given) if single else np.zeros(1)
        spread, most = np.std(fine), np.max(np.abs(fine), initial=0)
        if spread > 0 and jnp.finfo(array.dtype).eps * most > 0.01 * spread:
            raise ValueError(
                f"bootstrap: the digits of a sample end in {array.dtype} above a hundredth of its spread, {spread:.3g}. "
                "Subtract what the numbers have in common, or set jax_enable_x64."
            )
        if block > 1 and 2 * block > array.shape[0]:
            raise ValueError(
                f"block must be at most half of a sample, better a twentieth; got {block} for {array.shape[0]}."
            )
    values = _resampled(estimator, arrays, jax.random.split(key, draws), block)
    doubts = jnp.asarray(estimate.doubts)
    if block > 1:
        cured = _long_enough(arrays, block)
        doubts = jnp.where(cured, doubts & ~CORRELATED, doubts)
    own = (doubts & (ROUNDED | (CORRELATED if block == 1 else 0))) > 0
    stderr = jnp.std(values, ddof=1)
    return Bootstrap(
        estimate.value,
        jnp.where(own, jnp.maximum(stderr, estimate.stderr), stderr),
        estimate.ess,
        jnp.where(doubts == estimate.doubts, estimate.reliable, doubts == 0),
        values,
        doubts=doubts,
    )


@jit
def _long_enough(samples: tuple[Array, ...], block: int) -> Array:
    """Whether a block spans the correlations of every sample, and every sample many blocks."""
    fine = [jnp.asarray(x.ndim == 1 and PARTS * block <= x.shape[0]) for x in samples]
    for x in samples:
        if x.ndim == 1:
            x = jnp.where(jnp.isfinite(x), x, jnp.mean(x, where=jnp.isfinite(x)))
            fine.append(LONG * correlated(x, x - jnp.mean(x))[1] <= block)
    return jnp.all(jnp.stack(fine))


@jit
def _resampled(
    estimator: Callable[..., Estimate], samples: tuple[Array, ...], keys: Array, block: int
) -> Array:
    def again(key: Key, sample: Array) -> Array:
        size = sample.shape[0]
        first = jax.random.randint(key, (-(-size // block),), 0, size)
        if block == 1:
            return sample[first]
        return sample[((first[:, None] + jnp.arange(block)[None]) % size).ravel()[:size]]

    def one(key: Key) -> Scalar:
        subkeys = jax.random.split(key, len(samples))
        return estimator(*map(again, subkeys, samples)).value

    return jax.lax.map(one, keys)
