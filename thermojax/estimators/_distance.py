r"""How far two samples lie apart."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._guard import size_of
from .._types import Array, Float, Numbers, Scalar

PAIRS = 32  # other draws that each draw is compared with


def energy_distance(x: Float[Array, " n d"], y: Float[Array, " n d"]) -> Scalar:
    r"""The energy distance of the distributions behind two samples, zero only if they are equal:

    $$\mathcal{E} = 2\langle|X-Y|\rangle - \langle|X-X'|\rangle - \langle|Y-Y'|\rangle \ge 0 .$$

    `x` and `y` have one shape `(n, d)`, n draws of d coordinates each, independent of each other; the result has the unit
    of x. Each draw is compared with 32 others, so that the cost grows like n; the estimate is unbiased, and may fall below
    zero. Differentiable, also where two draws coincide.

    Raises `ValueError` for samples of different shapes, with entries that are not finite, or so far from zero that their
    precision ends above a tenth of their spread; under `jit` the last two give NaN. Numpy's double precision keeps its
    digits until what the draws have in common is taken off, also where JAX runs in single precision.

    Source: Székely & Rizzo, J. Stat. Plan. Inference 143, 1249 (2013).
    """
    given = (x, y)
    x, y = _sample("x", x), _sample("y", y)
    if x.shape != y.shape:
        raise ValueError(
            f"x and y must have one shape (n, d), as many draws of each; got {x.shape} and {y.shape}."
        )
    _checks.one_float(x=x, y=y)
    values = [v for v in map(_checks.known, given) if v is not None and v.dtype == np.float64]
    if len(values) == 2 and x.dtype == jnp.float32:
        middle = np.mean(values[0], 0)
        x, y = (jnp.asarray(v - middle, jnp.float32) for v in values)
    found = _energy_distance(x, y)
    value = _checks.known(found)
    if value is not None and np.isnan(value):
        raise ValueError(
            f"x and y lie so far from zero that {x.dtype} ends above a tenth of their spread. Subtract what they have in "
            "common, in float64, or set jax_enable_x64."
        )
    return found


def _sample(name: str, x: Numbers) -> Array:
    x, value = _checks.array(name, x), _checks.known(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {x.dtype}. Use .astype(float).")
    _checks.rank(name, x, {2}, "(n, d), one row per draw, also for d = 1")
    if x.shape[0] < 2:
        raise ValueError(
            f"{name} must hold at least two draws, to be compared with each other; got {x.shape[0]}."
        )
    if value is not None and not np.isfinite(value).all():
        bad = np.flatnonzero(~np.isfinite(value).all(1))
        raise ValueError(
            f"{len(bad)} of {len(value)} draws of {name} are not finite (the first at index {bad[0]}). Leave them out "
            "of both samples, or find out why they failed."
        )
    return x


@jax.jit
def _energy_distance(x: Array, y: Array) -> Scalar:
    def apart(a: Array, b: Array) -> Scalar:
        shifts = jnp.arange(1, min(PAIRS, x.shape[0] - 1) + 1)
        squares = jax.vmap(lambda s: jnp.sum((a - jnp.roll(b, s, 0)) ** 2, 1))(shifts)
        met = squares == 0  # the root has no slope there
        return jnp.mean(jnp.where(met, 0, jnp.sqrt(jnp.where(met, 1, squares))))

    both = jax.lax.stop_gradient(jnp.concatenate([x, y]))
    spread = jnp.max(both, 0) - jnp.min(both, 0)
    scale = size_of(spread)
    x, y = x / scale, y / scale  # so that no square is lost
    grain = jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(both), 0)
    coarse = jnp.any((grain > 0.1 * spread) & (spread > 0))
    return jnp.where(coarse, jnp.nan, scale * (2 * apart(x, y) - apart(x, x) - apart(y, y)))
