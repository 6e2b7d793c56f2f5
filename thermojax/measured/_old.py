"""What the room was called by before; see `thermojax._renamed`."""

from .._ledger import account as _account
from .._paths import Trajectory
from .._types import Density
from ..systems import AbstractSystem, Rule
from ._paths import Measured


def account(
    system: AbstractSystem,
    data: Measured,
    initial: Density,
    final: Density | None = None,
    *,
    rule: Rule = "alternating",
    cumulative: bool = False,
) -> Trajectory:
    """`thermojax.account(data.process(system, initial, final), data.path)`."""
    if not isinstance(data, Measured):
        raise TypeError(
            f"data must be thermojax.measured.Measured(path, controls), got {type(data).__name__}. read_csv makes one."
        )
    process = data.process(system, initial, final)
    return _account(process, data.path, rule=rule, cumulative=cumulative)
