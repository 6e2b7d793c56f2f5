r"""The optima that are known in closed form."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from .. import _checks
from .._types import Array, ArrayLike, Control, Scalar, Time
from ..protocols import AbstractProtocol, Function, Piecewise


class Optimum(NamedTuple):
    """An optimal protocol, with its end jumps, and its mean work."""

    protocol: AbstractProtocol
    work: Scalar


def moving_trap(
    start: Control,
    stop: Control,
    t1: ArrayLike,
    *,
    stiffness: ArrayLike = 1.0,
    mobility: ArrayLike = 1.0,
) -> Optimum:
    r"""The least mean work of dragging a harmonic trap from `start` to `stop` in the time `t1`, from equilibrium.

    With $\omega = \mu k$ and $l = \lambda_1 - \lambda_0$ from `start` to `stop`,

    $$\lambda(t) = \lambda_0 + l\,\frac{1 + \omega t}{2 + \omega t_1}, \qquad
      \langle W \rangle = \frac{k\,l^2}{2 + \omega t_1},$$

    a straight line between two equal end jumps. `start`, `stop` are both scalars or both `(d,)`, `stiffness` and `mobility`
    scalars or one number per coordinate; the work is that of all coordinates together. Any temperature. Raises `ValueError`
    for other shapes.
    Source: Schmiedl & Seifert, PRL 98, 108301 (2007), eqs. 8 and 9.
    """
    start, stop = _checks.floating("start", start), _checks.floating("stop", stop)
    t1 = _number("t1", t1)
    _checks.rank("start", start, {0, 1}, "() or (d,)")
    if start.shape != stop.shape:
        raise ValueError(
            f"start and stop must have one shape, () or (d,), got {start.shape} and {stop.shape}. Give both all coordinates."
        )
    stiffness = _per_coordinate("stiffness", stiffness, start)
    rate = stiffness * _per_coordinate("mobility", mobility, start)
    way = stop - start
    jump = way / (2 + rate * t1)
    line = Piecewise(jnp.stack([0 * t1, t1]), jnp.stack([start + jump, stop - jump]), start, stop)
    return Optimum(line, jnp.sum(stiffness * way**2 / (2 + rate * t1)))


def _number(name: str, value: ArrayLike) -> Scalar:
    value = _checks.floating(name, value, positive=True)
    _checks.rank(name, value, {0}, "(), one number (jax.vmap for many)")
    return value


def _per_coordinate(name: str, value: ArrayLike, of: Array) -> Array:
    value = _checks.floating(name, value, positive=True)
    if value.shape not in ((), of.shape):
        raise ValueError(
            f"{name} must be one number or one per coordinate of start, shape {of.shape}; got {value.shape}."
        )
    return value


class _Stiffness(eqx.Module):
    """$k(t) = [k_0 - c (1 + c t)/\\mu] / (1 + c t)^2$."""

    start: Array
    c: Array
    mobility: Array

    def __call__(self, t: Time) -> Scalar:
        grow = 1 + self.c * t
        return (self.start - self.c * grow / self.mobility) / grow**2


def breathing_trap(
    start: ArrayLike,
    stop: ArrayLike,
    t1: ArrayLike,
    *,
    mobility: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
) -> Optimum:
    r"""The least mean work of changing the stiffness of a harmonic trap from `start` to `stop` in the time `t1`.

    From equilibrium, with $a = \mu k_0 t_1$, $b = \mu k_1 t_1$ and $u = (1 + \sqrt{1 + 2a + ab})/(2 + b)$,

    $$\langle W \rangle = T \left[ \frac{(u-1)^2}{a} - \ln u + \frac12\left(\frac{k_1}{k_0} u^2 - 1\right) \right],
    \qquad k(t) = \frac{k_0 - c\,(1 + ct)/\mu}{(1 + ct)^2}, \quad c = \frac{u - 1}{t_1},$$

    with jumps at both ends; the width of the cloud grows linearly to $u$ times its first one. One coordinate, all arguments
    scalars.
    Source: Schmiedl & Seifert, PRL 98, 108301 (2007), eqs. 13 to 16.
    """
    start, stop, t1 = _number("start", start), _number("stop", stop), _number("t1", t1)
    mobility, temperature = _number("mobility", mobility), _number("temperature", temperature)
    a = _number("mobility * start * t1", mobility * start * t1)
    b = _number("mobility * stop * t1", mobility * stop * t1)
    root = jnp.hypot(1.0, jnp.sqrt(a) * jnp.sqrt(2 + b))  # a b may be beyond the largest number
    u = (1 + root) / (2 + b)
    wider = a / (1 + root) - b / (2 + b)  # u - 1, to its own digits
    work = temperature * (wider**2 / a - jnp.log(u) + 0.5 * (stop * u**2 / start - 1))
    curve = _Stiffness(start, wider / t1, mobility)
    return Optimum(Function(curve, t1, before=start, after=stop), work)
