r"""A drive along paths that were made equally long by holding their last sample."""

import jax.numpy as jnp

from .._types import Array, Control, Drive, PyTree, Time, Times
from ._base import AbstractProtocol
from ._composed import Reversed


class Stopped(AbstractProtocol):
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


def moving(protocol: Drive, ts: Times) -> Array:
    """Which steps of a grid, `(steps,)`, were made, and are not the holding of a state."""
    if isinstance(protocol, Reversed):
        return moving(protocol.protocol, (protocol.t0 + protocol.t1 - ts)[::-1])[::-1]
    middles = 0.5 * (ts[1:] + ts[:-1])
    return middles < (protocol.stop if isinstance(protocol, Stopped) else jnp.inf)
