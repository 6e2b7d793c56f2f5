r"""Protocols $\lambda(t)$: how the control is driven between `t0` and `t1`.

A protocol is a pytree: `before` and `after` are the control outside its span, so an end jump is the turn from `before`
to $\lambda(t_0^+)$ or from $\lambda(t_1^-)$ to `after`. The control is any pytree (a scalar, an array, a dict of both).
`trainable(protocol)` says which leaves belong to the shape of the drive: not the times, and not `before` and `after`,
which are the question one asks and whose training would make $\langle W \rangle$ unbounded below.

A plain callable `lam(t)` works as a protocol too; what needs its span asks to have it wrapped in `Function`.
"""

from ._base import (
    AbstractProtocol as AbstractProtocol,
    AbstractSearchable as AbstractSearchable,
    trainable as trainable,
)
from ._composed import Fixed as Fixed, Joint as Joint, Reversed as Reversed, fixed as fixed
from ._constrained import (
    Constrained as Constrained,
    bounded as bounded,
    monotone as monotone,
    positive as positive,
)
from ._functions import Function as Function, Network as Network
from ._knots import (
    AbstractKnots as AbstractKnots,
    Piecewise as Piecewise,
    Spline as Spline,
    Steps as Steps,
    ramp as ramp,
)
