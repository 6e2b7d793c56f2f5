r"""Protocols given by their values at knots."""

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._checks import lenient, one_float, times, tracing, whole
from .._guard import held as within
from .._types import Array, ArrayLike, Control, Numbers, PyTree, Time
from ._base import (
    AbstractMade,
    AbstractProtocol,
    control,
    ends,
    entry,
    held,
    instant,
    same,
    span,
    together,
)


class AbstractKnots(AbstractProtocol):
    """A protocol with free `values` at, or between, the times `ts`, which are given: `Piecewise`, `Steps`, `Spline`."""

    ts: eqx.AbstractVar[Array]
    values: eqx.AbstractVar[Control]

    @property
    def t0(self) -> Array:
        return entry(0, self.ts)

    @property
    def t1(self) -> Array:
        return entry(-1, self.ts)

    def given(self) -> PyTree:
        return self.ts, self.before, self.after


class Piecewise(AbstractKnots, AbstractMade):
    r"""Straight lines between knots: $\lambda(t_i)$ is `values[i]`.

    `ts` is `(m,)`; each leaf of `values` is `(m, ...)`. `before` and `after` default to the first and the last value
    (no end jumps); every value is free, the two at the ends too, so that a search finds its end jumps. Raises `ValueError`
    for times that do not rise, and values that are not one for each.
    """

    ts: Array
    values: Control
    before: Control
    after: Control
    followed: bool = eqx.field(static=True, init=False)

    def __init__(self, ts: Numbers, values: Control, before: Control = None, after: Control = None):
        self.followed = tracing((ts, values, before, after))
        self.ts, self.values = _knots("Piecewise", ts, values, 0)
        self.before, self.after = ends("Piecewise", self.values, before, after)

    def __call__(self, t: Time) -> Control:
        t, (ts, values) = instant(t), _shape(self)
        i = _interval(ts, t)
        s = within((t - ts[i]) / (ts[i + 1] - ts[i]), 0, 1)
        return jtu.tree_map(lambda v: (1 - s) * v[i] + s * v[i + 1], values)


class Steps(AbstractKnots, AbstractMade):
    r"""Constant between edges: $\lambda$ is `values[i]` on $[t_i, t_{i+1})$. `len(ts) == len(values) + 1`.

    Put the edges on the step grid: a step that straddles an edge sees the value at its own middle. So nothing that is
    computed on a grid follows an edge that moves, and to differentiate by `ts` raises `ValueError`, as do times that do
    not rise and values that are not one between each two.
    """

    ts: Array
    values: Control
    before: Control
    after: Control
    followed: bool = eqx.field(static=True, init=False)

    def __init__(self, ts: Numbers, values: Control, before: Control = None, after: Control = None):
        self.followed = tracing((ts, values, before, after))
        self.ts, self.values = _knots("Steps", ts, values, 1)
        self.before, self.after = ends("Steps", self.values, before, after)

    def __call__(self, t: Time) -> Control:
        t = instant(t)
        # a time that rounding has put just before its edge, as that of a reversed grid, is at the edge
        last = jnp.maximum(jnp.abs(self.ts[0]), jnp.abs(self.ts[-1]))
        rounding = 2 * jnp.spacing(jax.lax.stop_gradient(last))
        i = _interval(self.ts, t + rounding.astype(t.dtype))
        value = jtu.tree_map(lambda v: v[i], self.values)
        return _switched(value, eqx.filter(self, eqx.is_inexact_array)) if tracing(self) else value


class Spline(AbstractKnots, AbstractMade):
    r"""A smooth curve through knots, by `interpax`.

    `method` is any of `interpax.interp1d`: `"cubic2"` (C², the default), `"cubic"`, `"akima"`, `"monotonic"`, … `ts`,
    `values`, `before`, `after` and what raises `ValueError` are as in `Piecewise`; so does another method.
    """

    ts: Array
    values: Control
    before: Control
    after: Control
    method: str = eqx.field(static=True)
    followed: bool = eqx.field(static=True, init=False)

    def __init__(
        self,
        ts: Numbers,
        values: Control,
        before: Control = None,
        after: Control = None,
        *,
        method: str = "cubic2",
    ):
        self.followed = tracing((ts, values, before, after))
        self.ts, self.values = _knots("Spline", ts, values, 0)
        self.before, self.after = ends("Spline", self.values, before, after)
        self.method = method
        try:
            jax.eval_shape(self, 0.0)
        except Exception as error:
            raise ValueError(
                f"Spline.method {method!r} does not work with {self.ts.shape[0]} knots. Use one of interpax.interp1d, "
                'e.g. "cubic2", "cubic", "akima", "monotonic".'
            ) from error

    def __call__(self, t: Time) -> Control:
        ts, values = _shape(self)
        t = within(instant(t), ts[0], ts[-1])
        with lenient():
            return jtu.tree_map(lambda v: interpax.interp1d(t, ts, v, method=self.method), values)


def _shape(drive: AbstractKnots) -> tuple[Array, Control]:
    drive = held(drive)
    return drive.ts, drive.values


@eqx.filter_custom_jvp
def _switched(value: Control, steps: AbstractKnots) -> Control:
    """The value of `steps` at one time, which does not say how it changes with the edges."""
    del steps
    return value


@_switched.def_jvp
def _switched_jvp(primals: PyTree, tangents: PyTree) -> tuple[Control, Control]:
    value, steps = tangents
    searched = together(primals[1], steps) and not primals[1].followed
    if steps is not None and steps.ts is not None and not searched:
        raise ValueError(
            "Steps.ts is being differentiated, and the value between two edges does not follow them: the derivative would "
            "silently be zero. Use Piecewise with a short ramp in the place of each step; or, where the edges lie on the "
            "step grid and move with it, hold them by Steps(jax.lax.stop_gradient(ts), ...), which is then right."
        )
    return _switched(*primals), value


def ramp(
    start: Control, stop: Control, t1: ArrayLike, *, t0: ArrayLike = 0.0, knots: int = 2
) -> Piecewise:
    r"""$\lambda$ from `start` to `stop` (any pytree of one shape) at constant speed, from `t0` to `t1`, without end jumps:
    `Piecewise` with `knots` evenly spaced knots. Raises `ValueError` for controls of two shapes and a span that does not
    rise.
    """
    start, stop = control("ramp.start", start), control("ramp.stop", stop)
    same("ramp.stop", stop, start)
    t0, t1 = span(t0, t1)
    knots = whole("ramp.knots", knots, "a whole number", 2)
    dtype = one_float(start=start, stop=stop, t0=t0, t1=t1)
    values = jtu.tree_map(lambda a, b: jnp.linspace(a, b, knots, dtype=dtype), start, stop)
    return Piecewise(jnp.linspace(t0, t1, knots, dtype=dtype), values)


def _interval(ts: Array, t: Array) -> Array:
    """The interval of `ts` in which `t` lies; by bisection among many, as of a measured path."""
    if ts.shape[0] > 64:
        up_to = jnp.searchsorted(ts, t, side="right", method="scan")
    else:
        up_to = jnp.sum(ts <= t)
    return jnp.clip(up_to - 1, 0, ts.shape[0] - 2)


def _knots(kind: str, ts: Numbers, values: Control, extra: int) -> tuple[Array, Control]:
    ts, values = times(f"{kind}.ts", ts), control(f"{kind}.values", values)
    for path, leaf in jtu.tree_leaves_with_path(values):
        if leaf.ndim < 1 or leaf.shape[0] + extra != ts.shape[0]:
            need = (
                "len(ts) - 1, one value between each pair of edges"
                if extra
                else "len(ts), one value per knot"
            )
            raise ValueError(
                f"{kind}.values{jtu.keystr(path)} must have a leading axis of {need}: "
                f"got shape {leaf.shape} for {ts.shape[0]} times. (A list is a pytree: use jnp.array([...]).)"
            )
    return ts, values
