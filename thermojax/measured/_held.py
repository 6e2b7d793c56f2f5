r"""A known drive, along paths that were made equally long by holding their last sample."""

import equinox as eqx
import jax.numpy as jnp

from .._process import ends
from .._types import Array, Control, Drive, PyTree, Time, Times
from ..protocols import AbstractProtocol


class Held(AbstractProtocol):
    r"""$\lambda(\min(t, t_\mathrm{stop}))$ up to `t1`, the end of the grid: after the stop neither state nor control moves,
    so that what is added is neither work nor heat."""

    protocol: Drive
    stop: Array
    t0: Array
    t1: Array
    before: Control
    after: Control

    def __call__(self, t: Time) -> Control:
        return self.protocol(jnp.minimum(t, self.stop))

    def given(self) -> PyTree:
        return self.protocol, self.stop, self.t0, self.t1, self.before, self.after


def held(protocol: Drive, ts: Array, lengths: Array) -> Held:
    """One protocol for each path, of times `(paths, m)` of which the first `lengths` were measured."""

    def one(ts: Times, length: Array) -> Held:
        stop = ts[length - 1]
        before, after = ends(protocol, jnp.stack([ts[0], ts[1], ts[length - 2], stop]))
        return Held(protocol=protocol, stop=stop, t0=ts[0], t1=ts[-1], before=before, after=after)

    return eqx.filter_vmap(one)(ts, lengths)
