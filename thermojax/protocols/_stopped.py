r"""A drive along paths that were made equally long by holding their last sample."""

import equinox as eqx
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


def stopped(protocol: Drive, ts: Array, lengths: Array, ends: PyTree, own: bool) -> Stopped:
    """One protocol for each path, of times `(paths, m)` of which the first `lengths` were measured; `ends(protocol, ts)` are
    the controls outside of a grid. `own`: the protocol has the paths as leading axis."""

    def one(protocol: Drive, ts: Times, length: Array) -> Stopped:
        stop = ts[length - 1]
        before, after = ends(protocol, jnp.stack([ts[0], ts[1], ts[length - 2], stop]))
        return Stopped(
            protocol=protocol, stop=stop, t0=ts[0], t1=ts[-1], before=before, after=after
        )

    return eqx.filter_vmap(one, in_axes=(eqx.if_array(0) if own else None, 0, 0))(
        protocol, ts, lengths
    )
