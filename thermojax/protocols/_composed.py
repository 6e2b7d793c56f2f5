r"""Protocols made of other protocols: run backwards, side by side, or kept from a search."""

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


class Joint(AbstractProtocol):
    """Several controls, each with its own protocol over one span: `lam` is the dict of their values."""

    protocols: dict[str, AbstractProtocol]

    def __init__(self, protocols: dict[str, AbstractProtocol]):
        if not isinstance(protocols, dict) or not protocols:
            raise ValueError(
                f"Joint needs a dict of at least one protocol, {{name: protocol}}; got {protocols!r}."
            )
        for name, p in protocols.items():
            a_protocol(f"Joint[{name!r}]", p)
        spans = {name: (known(p.t0), known(p.t1)) for name, p in protocols.items()}
        if len({str(span) for span in spans.values() if None not in span}) > 1:
            raise ValueError(f"Joint protocols must share one span (t0, t1), got {spans}.")
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
