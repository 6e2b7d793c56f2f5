"""The drives of paths that were made equally long by holding their last sample."""

import equinox as eqx
import jax.numpy as jnp

from .._process import ends
from .._types import Array, Drive, Times
from ..protocols import Stopped


def held(protocol: Drive, ts: Array, lengths: Array, *, own: bool) -> Stopped:
    """One protocol for each path, of times `(paths, m)` of which the first `lengths` were measured; `own`: it has the paths
    as leading axis."""

    def one(protocol: Drive, ts: Times, length: Array) -> Stopped:
        stop = ts[length - 1]
        before, after = ends(protocol, jnp.stack([ts[0], ts[1], ts[length - 2], stop]))
        return Stopped(
            protocol=protocol, stop=stop, t0=ts[0], t1=ts[-1], before=before, after=after
        )

    axes = (eqx.if_array(0) if own else None, 0, 0)
    return eqx.filter_vmap(one, in_axes=axes)(protocol, ts, lengths)
