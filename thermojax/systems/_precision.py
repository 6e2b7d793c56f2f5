r"""A run has one floating-point precision: nothing that a system is made of changes that of the state."""

from .._types import Given


def one_precision(x: Given, made: dict[str, Given]) -> None:
    """Refuse a part, by name, that makes another float of the state."""
    for what, out in made.items():
        if out.dtype != x.dtype:
            raise TypeError(
                f"The state is {x.dtype}, but the {what} makes it {out.dtype}: one floating-point precision per run. Make "
                "the parameters, the protocol and the initial density the same dtype (or plain Python numbers)."
            )
