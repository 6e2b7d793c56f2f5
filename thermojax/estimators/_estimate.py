"""What an estimator returns: a value, its error, and whether and why it is not to be trusted."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._types import Array, Bool, Scalar

# What can be wrong, one bit each, and the cure.
FAILED, FEW, DOMINATED, TAIL, OVERLAP, UNLAWFUL, SHAPE, CORRELATED, ROUNDED, OTHERWISE, BEYOND = (
    1 << i for i in range(11)
)
REASONS = {
    FAILED: "some entries are NaN or infinite where they must not be, or fewer than two are left: nothing was averaged. "
    'Find out why those realisations failed (trajectory.path.ok marks them), or pass failed="drop"',
    FEW: "too few realisations count, as ess says. Draw more",
    DOMINATED: "one realisation alone carries a large part of the average. Draw more, or drive more slowly",
    TAIL: "the works spread so far that the rare low ones, which rule the average, need not have been drawn: the error bar "
    "is too small. Drive more slowly, draw far more, or use runs of both directions (bar)",
    OVERLAP: "too few works of one direction lie where those of the other do. Draw more, or drive more slowly",
    UNLAWFUL: "the mean works of the two directions add up to less than zero, against the second law: the works, or the "
    "sign of one direction, are wrong",
    SHAPE: "the works are not, or cannot be shown to be, Gaussian enough: the terms left out may exceed the error bar. Use "
    "jarzynski, or bar; for works known to be Gaussian (linear systems) value and error hold",
    CORRELATED: "neighbours in the order given correlate: stderr and ess allow for it, roughly. Keep every k-th one, "
    "or use bootstrap(..., block=); if the order means nothing, shuffle",
    ROUNDED: "the numbers are too large for their precision: their digits end above the statistical error. Subtract "
    "what they have in common, in float64, or set jax_enable_x64",
    OTHERWISE: "the works are not distributed as Crooks' theorem has it, p_F(w)/p_R(-w) = e^(w - Delta): they are not in "
    "units of kT (pass reduced works), do not start in equilibrium, or one drive is not the other one backwards",
    BEYOND: "the noise of the first level is not fine beside the data, and what it hides, an extrapolation, may be off by "
    "more than the error bar. Start from a higher level",
}


def doubt(bit: int, there: Array) -> Array:
    """The bit where something is wrong."""
    return jnp.where(there, bit, 0).astype(jnp.int32)


class _Value(NamedTuple):
    value: Scalar
    stderr: Scalar
    ess: Scalar
    reliable: Bool[Array, ""]


class _Drawn(NamedTuple):
    value: Scalar
    stderr: Scalar
    ess: Scalar
    reliable: Bool[Array, ""]
    draws: Array


class _Doubted:
    """Named fields, with the doubts beside them that `why` spells out."""

    doubts: Array | np.int32  # bits of REASONS, a leaf of the pytree beside the fields

    def __new__(cls, *fields: Any, doubts: Any = None, **named: Any) -> Any:
        self = super().__new__(cls, *fields, **named)
        self.doubts = np.int32(0) if doubts is None else doubts
        return self

    why: Any = property(
        lambda self: _why(self.reliable, self.doubts), doc="The reasons in words, or ''."
    )

    def _replace(self: Any, **changed: Any) -> Any:
        return type(self)(**(self._asdict() | changed), doubts=self.doubts)

    def __repr__(self: Any) -> str:
        return _spell(self)


class Estimate(_Doubted, _Value):
    """A value, its standard error, the effective sample size behind it, and whether the error bar can be trusted.

    A named tuple of these four, and a pytree that passes through `jit`, `vmap` and `grad`. `why` says in words what is
    wrong where `reliable` is False; so does `print`.
    """

    def _extrapolated(self, off: Scalar) -> "Estimate":
        """Marked where what was extrapolated may be `off` by more than the error bar says."""
        far = doubt(BEYOND, off > 2 * self.stderr + 1e-3)
        return Estimate(*self[:3], self.reliable & (far == 0), doubts=self.doubts | far)


class Bootstrap(_Doubted, _Drawn):
    """An `Estimate` whose `stderr` is the spread of its value over resampled works, which are in `draws`."""


def _why(reliable: Any, doubts: Any) -> str | np.ndarray:
    """In words, one text for each estimate of a batch."""
    if _checks.known(reliable) is None or _checks.known(doubts) is None:
        return "known when the compiled function has returned"
    doubts, reliable = np.broadcast_arrays(np.asarray(doubts), np.asarray(reliable))
    texts = [
        "; ".join(text for bit, text in REASONS.items() if bits & bit)
        or ("" if fine else "no reason is known")
        for bits, fine in zip(doubts.ravel(), reliable.ravel(), strict=True)
    ]
    return texts[0] if doubts.ndim == 0 else np.array(texts, object).reshape(doubts.shape)


def _spell(self: Estimate | Bootstrap) -> str:
    fields = [f"{name}={value!r}" for name, value in self._asdict().items()]
    why = self.why
    if isinstance(why, str) and why:
        fields.append(f"why={why!r}")
    return f"{type(self).__name__}({', '.join(fields)})"


def _register(kind: type[Estimate] | type[Bootstrap]) -> None:
    names = (*kind._fields, "doubts")

    def flatten(self: Any) -> tuple[list[tuple[Any, Any]], None]:
        return [(jtu.GetAttrKey(name), getattr(self, name)) for name in names], None

    def unflatten(_: None, leaves: Iterable[Any]) -> Any:
        *fields, doubts = leaves
        self = tuple.__new__(kind, fields)
        self.doubts = doubts
        return self

    jtu.register_pytree_with_keys(kind, flatten, unflatten)


_register(Estimate)
_register(Bootstrap)


def estimate(value: Array, stderr: Array, ess: Array, doubts: Array) -> Estimate:
    """With its verdict; what is not known has an error that is not known either."""
    failed = ~jnp.isfinite(value)
    doubts = doubts | doubt(FAILED, failed)
    value, stderr = (jnp.where(failed, jnp.nan, v) for v in (value, stderr))
    return Estimate(value, stderr, ess, doubts == 0, doubts=doubts)
