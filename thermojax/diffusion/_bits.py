r"""Nats of a density as bits per dimension of what was rounded, with what was added said."""

from typing import NamedTuple

import jax.numpy as jnp

from .. import _checks
from .._types import Array, ArrayLike
from ..estimators import Estimate


class Bits(NamedTuple):
    r"""`value` = `density` + `offset`, bits per dimension; and the standard error of `value`.

    - `density`: $-\ln p/(d \ln 2)$, of the continuous data in their own scale.
    - `offset`: $-\log_2 h$, the bits that it takes to say in which bin of width h a unit of that scale lies.
    """

    value: Array
    stderr: Array
    density: Array
    offset: Array


def bits_per_dim(nats: Estimate | ArrayLike, dim: int, *, width: ArrayLike) -> Bits:
    r"""Bits per dimension from $-\ln p$ in nats, for data that were rounded to bins and dequantised:

    $$\frac{-\ln p}{d \ln 2} - \log_2 h .$$

    - `nats`: minus the log-density of all d coordinates in the scale of the data, a number or an `Estimate`, such as
      `nll(...).stopped` or `.clean`. That of the first level (`.first`) has noise on it and may be in another scale.
    - `width`: h, the width of a bin in that scale. There is no default, since two conventions differ by .0057 bits: 256
      grey values g = 0 … 255 with uniform noise u in [0, 1) as $(g + u)/128 - 1$ have h = 2/256 (7 bits are added); as
      $g/127.5 - 1$, h = 2/255 (6.994 bits).

    With uniform noise of one bin's width on the rounded data this is an upper bound of $-\log_2 P$ of the rounded ones, by
    Jensen, whatever the density. Without it a density has nothing to do with probabilities of bins, and can be made as high
    as one likes. Source: Theis, van den Oord & Bethge, ICLR 2016 (arXiv 1511.01844), sec. 3.1.
    """
    dim = _checks.whole("dim", dim, "the number of coordinates")
    width = _checks.floating("width", width, positive=True)
    value, stderr = (nats.value, nats.stderr) if isinstance(nats, Estimate) else (nats, None)
    value = jnp.asarray(_checks.array("nats", value) * 1.0)
    width = width.astype(value.dtype)
    stderr = jnp.zeros_like(value) if stderr is None else stderr
    unit = dim * jnp.log(jnp.asarray(2.0, value.dtype))
    offset = -jnp.log2(width)
    return Bits(value / unit + offset, stderr / unit, value / unit, offset)
