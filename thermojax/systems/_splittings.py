r"""The steps of masses in a bath: pushes (B), shifts (A) and the bath's own action (O), one after the other.

    B: v += b h/2 F(q)/m        A: q += b h/2 v        O: v <- a v + sqrt((1 - a^2) T/m) xi

with $a = e^{-2y}$, $b = \sqrt{\tanh(y)/y}$, $y = \gamma h/2m$, for each coordinate. A and B keep volumes and are undone by
turning v around, O obeys detailed balance with $e^{-K/T}$: the log-ratio of the whole step and its reverse is the kinetic
energy that O gave to the bath, over T, at any h, whatever F is.

Source: Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34; b: Sivak, Chodera & Crooks, J. Phys. Chem. B 118, 6466
(2014).
"""

import jax
import jax.numpy as jnp
import numpy as np

from .._guard import untracked
from .._normal import AbstractTransition, Normal
from .._types import Array, Control, Half, Key, Scalar, State
from ._base import AbstractKernelStep, AbstractStep, AbstractSystem
from ._inertial import AbstractUnderdamped


class BAOAB(AbstractStep):
    r"""Half a push, half a shift, the bath, half a shift, half a push. Second order in work and heat.

    Of a harmonic trap at rest $\langle q^2 \rangle$ is exact at any step that is stable, $b h < 2\sqrt{m/k}$. It has a
    log-ratio in closed form, and no density that could be compared with one of another force.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return _normals(key, shape, dtype)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = AbstractUnderdamped.moved_by("BAOAB", system)
        half, (q, v) = _half(system, dt), system.motion(x, lam)
        v = v + half * system.total_force(q, lam) / system.mass
        q = q + half * v
        v = _bathed(system, v, lam, dt, draw[0])
        q = q + half * v
        v = v + half * system.total_force(q, lam) / system.mass
        return system.state(q, v, lam)

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        r"""$\sum_i [K_i(v^-) - K_i(v^+)]/T_i$, $v^- = v_0 + \tfrac12 b h F(q_0)/m$, $v^+ = v_1 - \tfrac12 b h F(q_1)/m$."""
        system = AbstractUnderdamped.moved_by("BAOAB", system)
        half = _half(system, dt)
        return _given(system, *_inside(system, x0, x1, lam, half), lam)


class ABOBA(AbstractKernelStep):
    r"""Half a shift, half a push, the bath, half a push, half a shift. Second order in work and heat, one force a step.

    Its kernel lives where $q_1 - q_0 = \tfrac12 b h (v_0 + v_1)$, whatever the force: paths have a density, and ratios
    between processes of different potentials, forces and temperatures exist.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return _normals(key, shape, dtype)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = AbstractUnderdamped.moved_by("ABOBA", system)
        half, (q, v) = _half(system, dt), system.motion(x, lam)
        q = q + half * v
        push = half * system.total_force(q, lam) / system.mass
        v = _bathed(system, v + push, lam, dt, draw[0]) + push
        return system.state(q + half * v, v, lam)

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> "Landing":
        return Landing(AbstractUnderdamped.moved_by("ABOBA", system), x, lam, dt)


class Landing(AbstractTransition):
    r"""Where a step of `ABOBA` from x leads: $v_1 \sim N(a v_0 + (1 + a)\tfrac12 b h F(q_{1/2})/m,\ (1 - a^2) T/m)$ and
    $q_1 = q_0 + \tfrac12 b h (v_0 + v_1)$ with $q_{1/2} = q_0 + \tfrac12 b h v_0$.

    `log_prob` is the density of the momenta, per $dp_1$; minus infinity where the positions are not those they lead to.
    """

    system: AbstractUnderdamped
    x: State
    lam: Control
    dt: Scalar

    def sample(self, key: Key) -> State:
        drawn = _normals(key, self.x.shape, self.x.dtype)
        return ABOBA()(self.system, self.x, self.lam, self.dt, drawn)

    def _normal(self) -> Normal:
        """Of the velocities."""
        system, half = self.system, _half(self.system, self.dt)
        q, v = system.motion(self.x, self.lam)
        push = half * system.total_force(q + half * v, self.lam) / system.mass
        lost = jnp.expm1(-system.friction * self.dt / system.mass)  # a - 1
        shift = lost * v + (2 + lost) * push
        variance = -lost * (2 + lost) * system.temperature(self.lam) / system.mass
        return Normal(v, jnp.broadcast_to(variance, v.shape), shift)

    def log_prob(self, x: State) -> Scalar:
        system, half = self.system, _half(self.system, self.dt)
        (q0, v0), (q1, v1) = (system.motion(z, self.lam) for z in (self.x, x))
        of_momenta = self._normal().log_prob(v1) - jnp.sum(jnp.log(system.mass) + 0 * v1)
        on_it = _led(system, self.x, x, self.lam, self.dt, (v0, v1))
        there = jnp.where(on_it, of_momenta, -jnp.inf)
        return untracked(there, (v0, v1, q0, q1, half), message=_MOVES)

    def log_ratio(self, x: State, back: "Landing", flipped: State) -> Scalar:
        r"""$\sum_i [K_i(v^-) - K_i(v^+)]/T_i$, $v^\mp = v_{0,1} \pm \tfrac12 b h F(q_{1/2})/m$, symmetric in the ends."""
        del back, flipped
        system, half = self.system, _half(self.system, self.dt)
        (q0, v0), (q1, v1) = (system.motion(z, self.lam) for z in (self.x, x))
        middle = 0.5 * (q0 + q1) + 0.5 * half * (v0 - v1)
        push = half * system.total_force(middle, self.lam) / system.mass
        return _given(system, v0 + push, v1 - push, self.lam)


_MOVES = (
    "The kernel of ABOBA lives where q1 - q0 = b h (v0 + v1)/2, and this moves with the mass, the friction, the impulse and "
    "the path: the density of a path has no derivative with respect to them. Hold them fixed (jax.lax.stop_gradient, "
    'protocols.fixed); to search for an impulse take gradient="pathwise".'
)


def _normals(key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
    """One for each momentum."""
    return (jax.random.normal(key, (*shape[:-1], shape[-1] // 2), dtype),)


def rescaled(system: AbstractUnderdamped, dt: Scalar) -> Array:
    r"""$b h$, $b = \sqrt{\tanh(y)/y}$ with $y = \gamma h/2m$: the time for which BAOAB and ABOBA push and shift."""
    return 2 * _half(system, dt)


def _half(system: AbstractUnderdamped, dt: Scalar) -> Array:
    r"""$\tfrac12 b h$."""
    y = 0.5 * system.friction * dt / system.mass
    small = y < 0.02
    safe, square = jnp.where(small, 1.0, y), jnp.where(small, y, 0) ** 2
    series = 1 - square / 3 + 2 * square**2 / 15 - 17 * square**3 / 315
    return 0.5 * dt * jnp.sqrt(jnp.where(small, series, jnp.tanh(safe) / safe))


def _bathed(system: AbstractUnderdamped, v: Half, lam: Control, dt: Scalar, normals: Array) -> Half:
    """O, for a time dt."""
    rate = system.friction * dt / system.mass
    width = jnp.sqrt(-jnp.expm1(-2 * rate) * system.temperature(lam) / system.mass)
    return jnp.exp(-rate) * v + width * normals


def _given(system: AbstractUnderdamped, before: Half, after: Half, lam: Control) -> Scalar:
    """The kinetic energy given to the baths between two velocities, over their temperatures."""
    each = 0.5 * system.mass * (before - after) * (before + after)
    return jnp.sum(each / system.temperature(lam))


def _inside(
    system: AbstractUnderdamped, x0: State, x1: State, lam: Control, half: Array
) -> tuple[Half, Half]:
    """The velocities of BAOAB after its first push, and before its last."""
    (q0, v0), (q1, v1) = system.motion(x0, lam), system.motion(x1, lam)
    before = v0 + half * system.total_force(q0, lam) / system.mass
    return before, v1 - half * system.total_force(q1, lam) / system.mass


def led(
    step: AbstractStep, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
) -> Array:
    """Whether the step may lead from x0 to x1, to rounding: asked of paths that it did not make. BAOAB and ABOBA lead to few
    of all states; every other step is taken to reach all.
    """
    if not isinstance(step, BAOAB | ABOBA) or not isinstance(system, AbstractUnderdamped):
        return jnp.asarray(True)
    if isinstance(step, BAOAB):
        return _led(system, x0, x1, lam, dt, _inside(system, x0, x1, lam, _half(system, dt)))
    (_, v0), (_, v1) = system.motion(x0, lam), system.motion(x1, lam)
    return _led(system, x0, x1, lam, dt, (v0, v1))


def _led(
    system: AbstractUnderdamped,
    x0: State,
    x1: State,
    lam: Control,
    dt: Scalar,
    v: tuple[Half, Half],
) -> Array:
    """Whether the velocities v lead from one position to the other, to the rounding of all that they are made of, and of
    dt, which as a difference of times has fewer digits."""
    half, ((q0, p0), (q1, p1)) = _half(system, dt), (jnp.split(x, 2) for x in (x0, x1))
    off = q1 - q0 - half * (v[0] + v[1])
    parts = jnp.stack([m / system.mass for m in (p0, p1, system.kick(q0, lam))])
    speed = jnp.sum(jnp.abs(jnp.concatenate([parts, jnp.stack(v)])), axis=0)
    eps = float(jnp.finfo(q0.dtype).eps)
    allowed = 64 * eps * (jnp.abs(q0) + jnp.abs(q1)) + 10 * eps**0.5 * half * speed
    return jnp.all(jnp.abs(off) <= allowed)
