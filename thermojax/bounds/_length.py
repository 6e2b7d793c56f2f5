r"""The geometry of slow drives: thermodynamic length, and protocols along its shortest lines."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree

from .. import _checks
from .._guard import clipped_root
from .._jit import jit
from .._nodes import nodes
from .._products import matmul
from .._types import Array, ArrayLike, Control, PyTree, Scalar
from ..protocols import Piecewise
from ..systems import AbstractDiffusion, Grid
from ._friction import friction

Metric = Callable[[Array], Array]  # zeta (k, k) at a vector of controls (k,)
LEAP = 10.0  # even pieces that the first or the last may be as long as
PIECES = 256  # of the line along which one control is measured,
GRADINGS = 3  # times that they are made about as long as each other,
ALIKE = 1e-4  # and by how much of the length the last two may differ


def length(
    system: AbstractDiffusion, lams: Control, *, grid: Grid | None = None, dim: int = 1
) -> Scalar:
    r"""The thermodynamic length of a path of controls, in nats^½ · time^½:

    $$L = \int \sqrt{d\lambda^T\,\zeta(\lambda)\,d\lambda},$$

    $\zeta$ the `friction`. `lams` are the controls along the path, each leaf with them leading, `(m, ...)`, as
    `jax.vmap(protocol)(ts)` gives them; in between the path is straight, and the length is integrated by four points a
    piece. `grid`, `dim` and the errors are those of `friction`; what `slow` makes of it is the least dissipation.
    Source: Crooks, PRL 99, 100602 (2007), eq. 11; Sivak & Crooks, PRL 108, 190602 (2012).
    """
    lams = jax.tree.map(lambda v: _checks.floating("lams", v), lams)
    leading = {np.shape(v)[:1] for v in jax.tree.leaves(lams)}
    if len(leading) != 1 or leading == {()} or min(leading)[0] < 2:
        raise ValueError(
            f"lams must hold at least two controls, leading in every leaf, (m, ...); got leading axes {sorted(leading)}."
        )
    first = jax.tree.map(lambda v: v[0], lams)
    friction(system, first, grid=grid, dim=dim)  # what can be told is told
    points = jax.vmap(lambda lam: ravel_pytree(lam)[0])(lams)
    return jnp.sum(_lengths(_metric(system, first, grid, dim), points[:-1], points[1:]))


def slow(length: ArrayLike, time: ArrayLike) -> Scalar:
    r"""What a slow drive over a path of thermodynamic `length` in a `time` dissipates at least, in nats:

    $$\langle W_\text{diss} \rangle / T \;\gtrsim\; L^2/\tau,$$

    reached at constant speed $\sqrt{\dot\lambda^T \zeta \dot\lambda}$. It is the leading order in the relaxation time over
    $\tau$ and no bound at finite speed: drives that may jump at their ends go below by the next order.
    Source: Salamon & Berry, PRL 51, 1127 (1983); Sivak & Crooks, PRL 108, 190602 (2012), eq. 13.
    """
    length, time = _checks.floating("length", length), _checks.floating("time", time, positive=True)
    for name, value in (("length", length), ("time", time)):
        _checks.rank(name, value, {0}, "(), one number")
    length = _checks.must("length", length, length >= 0, "zero or above", got=length)
    return jnp.square(length / jnp.sqrt(time))


def geodesic(
    system: AbstractDiffusion,
    start: Control,
    stop: Control,
    t1: ArrayLike,
    *,
    knots: int = 33,
    grid: Grid | None = None,
    dim: int = 1,
    steps: int = 500,
) -> Piecewise:
    r"""The protocol from `start` to `stop` in the time `t1` that dissipates least when slow, without end jumps.

    It follows the shortest line in the metric `friction` at constant speed, on evenly spaced `knots`. One control: the
    knots lie at equal thermodynamic length, to about ten digits (six, where the friction changes by a factor of 1e12), and
    are refused where it changes by more than can be followed. Several: the action of the straight pieces,
    $\sum \Delta\lambda^T \zeta\,\Delta\lambda$ with $\zeta$ at their middles, is minimised from the straight line on by at
    most `steps` of BFGS; it finds the geodesic next to that line. The error of the knots is of the order of their
    distance squared.

    Raises `ValueError` for controls that differ in shape, and as `friction`; `RuntimeError` if the minimum is not found, the
    knots are too few for it, or the friction of one control can't be followed (NaN while tracing). The straight line from
    `start` to `stop` must hold equilibria only.
    Source: Sivak & Crooks, PRL 108, 190602 (2012), eq. 14; Rotskoff, Crooks & Vanden-Eijnden, PRE 95, 012148 (2017).
    """
    start, stop = (
        jax.tree.map(lambda v, name=name: _checks.floating(name, v), lam)
        for name, lam in (("start", start), ("stop", stop))
    )
    shapes = [jax.tree.map(jnp.shape, lam) for lam in (start, stop)]
    if jax.tree.structure(start) != jax.tree.structure(stop) or shapes[0] != shapes[1]:
        raise ValueError(
            f"start and stop must be controls of one shape, got {shapes[0]} and {shapes[1]}."
        )
    knots = _checks.whole("knots", knots, "a whole number of knots", 2)
    steps = _checks.whole("steps", steps, "a whole number of steps")
    t1 = _checks.floating("t1", t1, positive=True)
    _checks.rank("t1", t1, {0}, "(), one time")
    # what can be told is told
    ends = jnp.stack([friction(system, end, grid=grid, dim=dim) for end in (start, stop)])
    a, back = ravel_pytree(start)
    b, metric = ravel_pytree(stop)[0], _metric(system, start, grid, dim)
    if a.size == 1:
        points, fine = _even(metric, a, b, knots)
        if _checks.known(fine) is not None and not fine:
            raise RuntimeError(
                "geodesic: the friction changes by too much from start to stop to be followed. Go by way of a control in "
                "between, or give the logarithm of the control to the potential."
            )
        points = jnp.where(fine, points, jnp.nan)
    else:
        points, found, fine = _shortest(metric, a, b, ends, knots, steps)
        if _checks.known(found) is not None and not found:
            raise RuntimeError(
                f"geodesic: the shortest line was not found in {steps} steps. Give more steps=, fewer knots=, or go by way "
                "of a control in between."
            )
        if _checks.known(fine) is not None and not fine:
            raise RuntimeError(
                f"geodesic: {knots} knots are too few: the line leaps over the friction at an end. Give more knots=, or go "
                "by way of a control in between."
            )
        points = jnp.where(found & fine, points, jnp.nan)
    shares = np.linspace(0, 1, knots)
    return Piecewise(t1 * jnp.asarray(shares, a.dtype), jax.vmap(back)(points), start, stop)


class _Friction(eqx.Module):
    """The metric as a function of the vector of controls; a module, so that its programs are compiled once."""

    system: AbstractDiffusion
    like: Control
    grid: Grid | None
    dim: int = eqx.field(static=True)

    def __call__(self, vector: Array) -> Array:
        return friction(
            self.system, ravel_pytree(self.like)[1](vector), grid=self.grid, dim=self.dim
        )


def _metric(system: AbstractDiffusion, like: Control, grid: Grid | None, dim: int) -> _Friction:
    return _Friction(system, like, grid, dim)


@jit
def _lengths(metric: Metric, starts: Array, stops: Array) -> Array:
    r"""$\int \sqrt{d\lambda^T \zeta\,d\lambda}$ along each of the straight pieces, `(m, k)` to `(m, k)`."""

    def one(a: Array, b: Array) -> Scalar:
        places, weights = (jnp.asarray(v, a.dtype) for v in nodes(4))
        speeds = jax.vmap(lambda s: clipped_root(_square(metric(a + s * (b - a)), b - a)))(places)
        return jnp.sum(weights * speeds)

    return jax.vmap(one)(starts, stops)


def _square(zeta: Array, v: Array) -> Scalar:
    return jnp.sum(v * matmul(zeta, v))


def _line(a: Array, b: Array, shares: Array) -> Array:
    """The points of the straight line, `(m, k)`."""
    return a[None] + shares[:, None] * (b - a)[None]


@jit
def _even(metric: Metric, a: Array, b: Array, knots: int) -> tuple[Array, Array]:
    """Knots at equal length along the one control: from a table, and by two steps of Newton's; and whether two tables, of
    other pieces, agree about the length."""
    table = lambda line: jnp.concatenate(
        [jnp.zeros(1, a.dtype), jnp.cumsum(_lengths(metric, line[:-1], line[1:]))]
    )
    even = jnp.linspace(0, 1, PIECES + 1, dtype=a.dtype)

    def graded(_: Array, given: tuple[Array, Scalar]) -> tuple[Array, Scalar]:
        """Pieces about as long as each other, by those of another grading; and how long all of these were."""
        shares, _ = given
        rough = table(_line(a, b, shares))
        return jnp.interp(rough[-1] * even, rough, shares), rough[-1]

    start = even, jnp.zeros((), a.dtype)
    shares, long = jax.lax.stop_gradient(jax.lax.fori_loop(0, GRADINGS, graded, start))
    line = _line(a, b, shares)
    upto = table(line)
    goals = upto[-1] * jnp.linspace(0, 1, knots, dtype=a.dtype)[1:-1]
    share = jnp.interp(goals, upto, shares)
    for _ in range(2):
        fixed = jax.lax.stop_gradient(share)
        piece = jnp.clip(jnp.searchsorted(shares, fixed, side="right") - 1, 0, PIECES - 1)
        at = _line(a, b, share)
        lengths = upto[piece] + _lengths(metric, line[piece], at)
        speed = jax.vmap(lambda v: clipped_root(_square(metric(v), b - a)))(at)
        share = share - (lengths - goals) / jnp.where(speed > 0, speed, 1)
    points = jnp.concatenate([a[None], _line(a, b, share), b[None]])
    return points, jnp.abs(upto[-1] - long) <= ALIKE * upto[-1]


@jit
def _shortest(
    metric: Metric, a: Array, b: Array, ends: Array, knots: int, steps: int
) -> tuple[Array, Array, Array]:
    r"""The knots of least action between a and b; whether they were found; and whether, in the friction of the `ends`, the
    first and last piece come near to the even ones of the straight line.

    The unknowns are the amplitudes of waves about the straight line, $u_m = \sum_j S_{mj} v_j$, each control measured in
    its part $\sqrt{A/\zeta_{ii}}$ of the action A of that line: where the metric is even, the action is $A(1 + |v|^2/2)$.
    """
    straight = _line(a, b, jnp.linspace(0, 1, knots, dtype=a.dtype))
    if knots == 2:
        return straight, jnp.asarray(True), jnp.asarray(True)

    def action(path: Array, metric: Metric) -> tuple[Scalar, Array]:
        pieces = path[1:] - path[:-1]
        zetas = jax.vmap(metric)(0.5 * (path[1:] + path[:-1]))
        return (knots - 1) * jnp.sum(jax.vmap(_square)(zetas, pieces)), zetas

    def points(waves: Array, a: Array, b: Array, widths: Array) -> Array:
        line = _line(a, b, jnp.linspace(0, 1, knots, dtype=a.dtype))
        bent = widths[None] * matmul(jnp.asarray(_waves(knots), a.dtype), waves)
        return line.at[1:-1].add(bent)

    def share(waves: Array, args: PyTree) -> Scalar:
        metric, whole, *rest = args
        return action(points(waves, *rest), metric)[0] / whole

    whole, zetas = jax.lax.stop_gradient(action(straight, metric))
    whole = jnp.where(whole == 0, 1, whole)  # no way to go
    stiff = jnp.sqrt(jnp.mean(jnp.diagonal(zetas, axis1=1, axis2=2), 0))
    free = jax.lax.stop_gradient(jnp.abs(b - a))  # of a control without friction
    widths = jnp.where(stiff == 0, free, jnp.sqrt(whole) / jnp.where(stiff == 0, 1, stiff))
    tolerance = 1e-9 if a.dtype == jnp.float64 else 1e-4
    with _checks.lenient():
        found = optx.minimise(
            share,
            optx.BFGS(rtol=tolerance, atol=tolerance),
            jnp.zeros_like(straight[1:-1]),
            args=(metric, whole, a, b, widths),
            max_steps=steps,
            throw=False,
        )
    path = points(found.value, a, b, widths)
    outer = jax.vmap(_square)(ends, path[jnp.array([1, -1])] - path[jnp.array([0, -2])])
    fine = jnp.max(outer) * (knots - 1) ** 2 <= LEAP**2 * whole
    return path, found.result == optx.RESULTS.successful, fine


def _waves(knots: int) -> np.ndarray:
    """Sines between the fixed ends of an even string, each as high as makes its energy the square of its amplitude."""
    n = knots - 1
    j = np.arange(1, n)
    return np.sin(np.pi * np.outer(j, j) / n) / (2 * n * np.sin(0.5 * np.pi * j / n))
