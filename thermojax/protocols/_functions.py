r"""Protocols given by a function: a callable of time, or a small neural network."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.tree_util as jtu

from .._checks import key as check_key, takes, tracing, whole
from .._closures import closed
from .._guard import held as within
from .._types import Array, ArrayLike, Control, Key, PyTree, Scalar, Time
from ._base import (
    AbstractMade,
    AbstractProtocol,
    control,
    ends,
    held,
    instant,
    same,
    span,
)
from ._constrained import as_leaves, limits, squeeze, strictly


class Function(AbstractProtocol, AbstractMade):
    r"""A callable `fn(t)` with a span. `before` and `after` default to $\lambda(t_0)$ and $\lambda(t_1)$.

    `fn` may be an `equinox.Module`; its floating leaves are then the trainable parameters. Where $\lambda$ is infinitely
    steep at an end ($\sqrt{t}$), give `before` (or `after`): a derivative by a parameter of `fn` is NaN at that end. Raises
    `ValueError` for a span that does not rise, and ends of another shape than `fn` has.
    """

    fn: Callable[[Scalar], Control]
    t0: Array
    t1: Array
    before: Control
    after: Control
    followed: bool = eqx.field(static=True, init=False)

    def __init__(
        self,
        fn: Callable[[Scalar], Control],
        t1: ArrayLike,
        t0: ArrayLike = 0.0,
        before: Control = None,
        after: Control = None,
    ):
        if not callable(fn):
            raise TypeError(f"Function.fn must be a callable lam(t), got {fn!r}.")
        takes("Function.fn", fn, "t")
        self.fn = closed(fn)
        self.followed = tracing((fn, t0, t1, before, after))
        self.t0, self.t1 = span(t0, t1)
        first, last = (control("Function.fn(t)", fn(t)) for t in (self.t0, self.t1))
        # an end that is given is not asked of fn: its slope may be infinite there
        both = jax.lax.stop_gradient((first, last))
        self.before, self.after = ends(
            "Function", jtu.tree_map(lambda a, b: jnp.stack([a, b]), *both), before, after
        )
        self.before = first if before is None else self.before
        self.after = last if after is None else self.after

    def __call__(self, t: Time) -> Control:
        it = held(self)
        return control("Function.fn(t)", it.fn(within(instant(t), it.t0, it.t1)))

    def given(self) -> PyTree:
        return self.t0, self.t1, self.before, self.after


class Network(AbstractProtocol, AbstractMade):
    r"""A small neural network in $s \in [0, 1]$, the time: $\lambda = \mathrm{start} +
    s\,(\mathrm{stop} - \mathrm{start}) + u\,\mathrm{MLP}(s)$.

    `start` and `stop` are one control each (any pytree) and stand as `before` and `after`. The unit $u$ of each leaf is its
    way, $\max|\mathrm{stop} - \mathrm{start}|$, or its size where it comes back: metres and micrometres are the same curve.
    With `lower` and `upper` (one of them or both; numbers) the curve is squeezed smoothly between them. Raises `ValueError`
    for ends that do not lie strictly inside.
    """

    mlp: eqx.nn.MLP
    before: Control
    after: Control
    t0: Array
    t1: Array
    lower: Array | None
    upper: Array | None
    followed: bool = eqx.field(static=True, init=False)

    def __init__(
        self,
        start: Control,
        stop: Control,
        t1: ArrayLike,
        *,
        key: Key,
        t0: ArrayLike = 0.0,
        width: int = 16,
        depth: int = 2,
        lower: float | None = None,
        upper: float | None = None,
    ):
        self.followed = tracing((start, stop, t0, t1, lower, upper))
        self.before, self.after = control("Network.start", start), control("Network.stop", stop)
        same("Network.stop", self.after, self.before)
        self.t0, self.t1 = span(t0, t1)
        lower, upper = limits("Network", lower, upper)
        for name, end in (("start", self.before), ("stop", self.after)):
            strictly(f"Network.{name}", end, lower, upper)
        self.lower, self.upper = as_leaves(lower, upper)
        width = whole("Network.width", width, "a whole number")
        depth = whole("Network.depth", depth, "a whole number", 0)
        flat, _ = jax.flatten_util.ravel_pytree(self.before)
        key = check_key("Network.key", key)
        self.mlp = eqx.nn.MLP(
            1, flat.size, width, depth, activation=jnp.tanh, dtype=flat.dtype, key=key
        )

    def __call__(self, t: Time) -> Control:
        it = held(self)
        s = within((instant(t) - it.t0) / (it.t1 - it.t0), 0, 1)
        _, unravel = jax.flatten_util.ravel_pytree(it.before)

        def curve(start: Array, stop: Array, bend: Array) -> Array:
            origin, unit = _frame(start, stop, it.lower, it.upper)
            onto, back = squeeze(*_in_units(it.lower, it.upper))
            first, last = (back((end - origin) / unit) for end in (start, stop))
            return origin + unit * onto(first + s * (last - first) + bend)

        return jtu.tree_map(curve, it.before, it.after, unravel(it.mlp(s[None])))

    def given(self) -> PyTree:
        return self.before, self.after, self.t0, self.t1, self.lower, self.upper


def _frame(
    start: Array, stop: Array, lower: Array | None, upper: Array | None
) -> tuple[Array, Array]:
    """Origin and unit of one leaf: two bounds; a bound and how far from it; or how far it goes, or how large it is."""
    lower, upper = jax.lax.stop_gradient((lower, upper))
    if lower is not None and upper is not None:
        return lower, upper - lower
    bound = upper if lower is None else lower
    origin = jnp.zeros_like(start, shape=()) if bound is None else bound
    ways = stop - start if bound is None else jnp.stack([start, stop]) - origin
    way, size = (jnp.max(jnp.abs(v)) for v in (ways, jnp.stack([start, stop])))
    goes = way > 1e3 * jnp.finfo(start.dtype).eps * size  # and does not come back, but for rounding
    return origin, jnp.where(goes, way, jnp.where(size > 0, size, 1))


def _in_units(lower: Array | None, upper: Array | None) -> tuple[float | None, float | None]:
    """The bounds as seen in that frame."""
    if lower is not None and upper is not None:
        return 0.0, 1.0
    return (None if lower is None else 0.0), (None if upper is None else 0.0)
