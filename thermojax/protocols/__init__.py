r"""Protocols $\lambda(t)$: how the control is driven between `t0` and `t1`.

A protocol is a pytree: `before` and `after` are the control outside its span, so an end jump is the turn from `before`
to $\lambda(t_0^+)$ or from $\lambda(t_1^-)$ to `after`. The control is any pytree (a scalar, an array, a dict of both).
`trainable(protocol)` says which leaves belong to the shape of the drive: not the times, and not `before` and `after`,
which are the question one asks and whose training would make $\langle W \rangle$ unbounded below.

A loop in the way of Equinox, `eqx.filter_grad` of a whole protocol (or of a model that holds it) and
`eqx.filter(protocol, eqx.is_inexact_array)`, leaves them where they are as well: where all floating leaves of a protocol
that was made outside of the trace are differentiated at once, their gradient is zero. (Weight decay moves what has no
gradient: partition by `trainable` then.) The derivative by `before`, say, is there for the asking: by `eqx.tree_at`, or of a
protocol that is made of the number one differentiates by.

A plain callable `lam(t)` works as a protocol too; what needs its span asks to have it wrapped in `Function`.
"""

from ._base import (
    AbstractProtocol as AbstractProtocol,
    AbstractSearchable as AbstractSearchable,
    held as held,
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
from ._stopped import Stopped as Stopped, moving as moving
