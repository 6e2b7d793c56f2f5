r"""Protocols made of other protocols: run backwards, side by side, or kept from a search."""

import numpy as np

from .._checks import known
from .._types import Array, Control, PyTree, Time
from ._base import AbstractProtocol, AbstractWrapper, a_protocol, held


class Reversed(AbstractWrapper):
    r"""The same drive run backwards: $\lambda_R(t) = \lambda(t_0 + t_1 - t)$, `before` and `after` exchanged."""

    protocol: AbstractProtocol

    def __init__(self, protocol: AbstractProtocol):
        self.protocol = a_protocol("Reversed", protocol)

    @property
    def before(self) -> Control:
        return self.protocol.after

    @property
    def after(self) -> Control:
        return self.protocol.before

    def __call__(self, t: Time) -> Control:
        it = held(self)
        return it.protocol(it.t0 + it.t1 - t)

    def given(self) -> PyTree:
        return ()


def _alike(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether two spans are one, but for the rounding of the coarser numbers."""
    ends = [v if np.issubdtype(v.dtype, np.floating) else v.astype(float) for v in (*a, *b)]
    if len({v.shape for v in ends}) > 1:
        return False
    eps = max(np.finfo(v.dtype).eps for v in ends)
    near = 4 * eps * max(np.max(np.abs(v)) for v in ends)
    return all(np.all(np.abs(p - q) <= near) for p, q in zip(ends[:2], ends[2:], strict=True))


class Joint(AbstractProtocol):
    """Several controls, each with its own protocol over one span: `lam` is the dict of their values. Raises `ValueError` for
    protocols with several spans.
    """

    protocols: dict[str, AbstractProtocol]

    def __init__(self, protocols: dict[str, AbstractProtocol]):
        if not isinstance(protocols, dict) or not protocols:
            raise ValueError(
                f"Joint needs a dict of at least one protocol, {{name: protocol}}; got {protocols!r}."
            )
        for name, p in protocols.items():
            a_protocol(f"Joint[{name!r}]", p)
        spans = {name: (known(p.t0), known(p.t1)) for name, p in protocols.items()}
        told = [(t0, t1) for t0, t1 in spans.values() if t0 is not None and t1 is not None]
        if not all(_alike(told[0], span) for span in told[1:]):
            got = {
                name: tuple(np.asarray(v).tolist() for v in span) for name, span in spans.items()
            }
            raise ValueError(f"Joint protocols must share one span (t0, t1), got {got}.")
        self.protocols = dict(protocols)

    @property
    def t0(self) -> Array:
        return next(iter(self.protocols.values())).t0

    @property
    def t1(self) -> Array:
        return next(iter(self.protocols.values())).t1

    @property
    def before(self) -> Control:
        return {name: p.before for name, p in self.protocols.items()}

    @property
    def after(self) -> Control:
        return {name: p.after for name, p in self.protocols.items()}

    def __call__(self, t: Time) -> Control:
        return {name: p(t) for name, p in self.protocols.items()}

    def given(self) -> PyTree:
        return ()


class Fixed(AbstractWrapper):
    """A protocol that drives but is not for a search to change. See `fixed`."""

    protocol: AbstractProtocol

    def __init__(self, protocol: AbstractProtocol):
        self.protocol = a_protocol("fixed", protocol)

    @property
    def before(self) -> Control:
        return self.protocol.before

    @property
    def after(self) -> Control:
        return self.protocol.after

    def __call__(self, t: Time) -> Control:
        return held(self).protocol(t)

    def given(self) -> PyTree:
        return self.protocol


def fixed(protocol: AbstractProtocol) -> Fixed:
    """The same drive, none of it trainable: a given temperature ramp beside a stiffness that is searched, say."""
    return Fixed(protocol)
