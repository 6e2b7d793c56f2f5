r"""Spins, ±1, and the sweeps that move them: detailed balance holds exactly, at any schedule of the control."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._chance import below, sided
from .._types import Array, Bool, Control, Given, Key, Potential, Scalar, State
from ._base import AbstractKernelStep, AbstractSystem, Exchange, Rule
from ._discrete import (
    AbstractDiscrete,
    callable_of,
    landed,
    number_of,
    temperature_fits,
)
from ._overdamped import Constant, Driven
from ._precision import one_precision

Local: TypeAlias = Callable[[State, Control, Given], Array]  # (x, lam, sites) -> fields there


class Spins(AbstractDiscrete):
    r"""Spins $s_i = \pm 1$ (floats) with the energy $U(s, \lambda)$ and one bath: even under time reversal.

    **Arguments:**

    - `energy`: $U(s, \lambda)$, a callable `(x, lam) -> scalar`.
    - `temperature`: $T > 0$: a scalar, or a callable of `lam`.
    - `local`: the local field $h_i = \tfrac12 [U(s_i = -1) - U(s_i = +1)]$, a callable `(x, lam, sites)` that returns it at
      `sites`, an index: one site, or `slice(None)` for all. None derives it from the energy, which costs one gradient a
      group of sites, and is exact for energies that are at most quadratic in each spin.
    - `order`: who is visited when, a whole number for each site: sites that share one are visited at once, and must not
      interact (`checkerboard`). None: one after the other, in the order of the state (`rows`).
    - `rate`: how often a site is visited, per time; None: each step is one sweep, whatever its length.
    - `backwards`: the order is walked from its end, as in the reversed run.

    The step is `Sweep`. A run whose local fields do not add up to the energy's change, because sites that interact are
    visited at once, say, is not `ok`, and an eager call says where.

    Source: Glauber, J. Math. Phys. 4, 294 (1963).
    """

    potential: Potential
    temperature: Constant | Driven  # pyright: ignore[reportIncompatibleMethodOverride]
    local: Local | None
    order: tuple[int, ...] | None = eqx.field(static=True)
    rate: Array | None
    backwards: bool = eqx.field(static=True)

    def __init__(
        self,
        energy: Potential,
        temperature: Given = 1.0,
        local: Local | None = None,
        order: Given = None,
        rate: Given = None,
        *,
        backwards: bool = False,
    ):
        self.potential = callable_of("Spins.energy", energy, "x", "lam")
        self.temperature = number_of("Spins.temperature", temperature)  # pyright: ignore
        given = local is not None
        self.local = callable_of("Spins.local", local, "x", "lam", "sites") if given else None
        self.order = None if order is None else _ranks(order)
        self.rate = None if rate is None else _checks.floating("Spins.rate", rate, positive=True)
        self.backwards = backwards

    def energy(self, x: State, lam: Control) -> Scalar:
        return self.potential(x, lam)

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""$Q = -\Delta U$, $\Delta S_m = Q/T$; no work at fixed control."""
        return Exchange(jnp.zeros_like(lost), lost, lost / self.temperature(lam))

    def groups(self, d: int) -> np.ndarray | None:
        """The sites visited at once, `(groups, d)`, in their order; None: one by one."""
        times = np.unique(self._times(d))
        return None if len(times) == d else self._times(d)[None] == times[:, None]

    def sites(self, d: int) -> np.ndarray:
        """The sites in their order."""
        return np.argsort(self._times(d), kind="stable")

    def _times(self, d: int) -> np.ndarray:
        times = np.arange(d) if self.order is None else np.asarray(self.order)
        return -times if self.backwards else times

    def field(self, x: State, lam: Control, group: Bool[Array, " d"]) -> State:
        """The local fields at all sites, right at those of the group."""
        if self.local is not None:
            return self.local(x, lam, slice(None))
        return -jax.grad(self.potential)(jnp.where(group, 0, x), lam)

    def field_at(self, x: State, lam: Control, i: Array) -> Scalar:
        """The local field at one site."""
        if self.local is not None:
            return self.local(x, lam, i)
        away = x.at[i].set(0)
        return -jax.jvp(
            lambda y: self.potential(y, lam), (away,), (jnp.zeros_like(x).at[i].set(1),)
        )[1]

    def rounding(self, x: State, lam: Control, *energies: Array) -> Array:
        """How far fields and energies may be apart: by their rounding, or by what is nothing beside T."""
        size = sum(map(jnp.abs, energies)) + x.size * self.temperature(lam)
        return 1e3 * jnp.finfo(x.dtype).eps * size

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "Spins":
        """Visits in the reverse order."""
        return Spins(
            self.potential,
            self.temperature,
            self.local,
            self.order,
            self.rate,
            backwards=not self.backwards,
        )

    def step(self, rule: Rule) -> AbstractKernelStep:
        return Sweep()

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        _checks.scalar("energy(x, lam)", self.energy, x, lam)
        one_precision(x, {"energy": _checks.shapes("energy(x, lam)", self.energy, x, lam)})
        temperature_fits("temperature", self.temperature, lam, (0,))
        if self.order is not None and len(self.order) != x.shape[0]:
            raise ValueError(
                f"Spins.order must hold one number for each of {x.shape[0]} sites, got {len(self.order)}."
            )

    def positive(self, lam: Control) -> dict[str, Array]:
        driven = isinstance(self.temperature, Driven)
        return {"temperature": self.temperature(lam)} if driven else {}

    def complaint(self, x: State, lam: Control) -> str:
        spins = np.asarray(x)
        if not (np.abs(spins) == 1).all():
            i = int(np.argmax(np.abs(spins) != 1))
            return f"Spins must be -1.0 or +1.0; that of site {i} is {spins[i]}."
        eye = jnp.eye(x.size, dtype=bool)
        ups, downs = jnp.where(eye, 1, x[None]), jnp.where(eye, -1, x[None])
        energy = jax.vmap(lambda y: self.energy(y, lam))
        low, high = energy(downs), energy(ups)
        true = 0.5 * np.asarray(low - high)
        groups = self.groups(x.size)
        masks = np.asarray(eye) if groups is None else groups
        found = np.zeros_like(true)
        for mask in masks:
            field = self.field(x, lam, jnp.asarray(mask)) if groups is not None else None
            i = int(np.argmax(mask))
            at = (
                np.full_like(true, self.field_at(x, lam, jnp.asarray(i)))
                if field is None
                else field
            )
            found = np.where(mask, at, found)
        worst = int(np.argmax(np.abs(found - true)))
        off = abs(found[worst] - true[worst])
        if off <= self.rounding(x, lam, low[worst], high[worst]):
            return "" if groups is None else self._together(x, lam, groups, true)
        return (
            f"The local field of site {worst} is {found[worst]:.6g}, and half of the energy that turning it up releases is "
            f"{true[worst]:.6g}, in x = {spins} at lam = {lam}. Correct local=; without it, the energy must be at most "
            "quadratic in each spin, and sites that are visited at once (order=) must not interact, not even across the "
            "edges of a periodic lattice."
        )

    def _together(self, x: State, lam: Control, groups: np.ndarray, fields: np.ndarray) -> str:
        """What is wrong with sites that are visited at once: turned over together they cost what they cost one by one."""
        start = self.energy(x, lam)
        for group in groups:
            sites, alone = np.flatnonzero(group), 2 * np.sum((np.asarray(x) * fields)[group])
            end = self.energy(jnp.where(group, -x, x), lam)
            gain = float(end - start)
            if abs(gain - alone) > self.rounding(x, lam, start, end):
                return (
                    f"The sites {sites[:8]} are visited at once (order=) and interact: to turn them over together costs "
                    f"{gain:.6g}, one by one {alone:.6g}, in x = {np.asarray(x)} at lam = {lam}. Sites of a group must not "
                    "be neighbours, not even across the edges of a periodic lattice."
                )
        return ""


class Sweep(AbstractKernelStep):
    r"""Every site is visited once, in the order of the system, with the others as they then are: with the probability
    $v = 1 - e^{-\gamma\,dt}$ ($\gamma$ the rate of the system; 1 if it has none) its spin is drawn anew,

    $$P(s_i = +1) = \frac{1}{1 + e^{-2 h_i/T}} .$$

    Each visit obeys detailed balance, and the reverse of a sweep is one in the reverse order. So the log-ratio of the two is
    $-\Delta U/T$ exactly, at any dt and any schedule, and both rules give the same numbers.

    Source: Glauber, J. Math. Phys. 4, 294 (1963); Crooks, J. Stat. Phys. 90, 1481 (1998).
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (sided(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        return landed(self.kernel(system, x, lam, dt).at(draw[0]), system, x, lam, dt)

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> "Swept":
        if not isinstance(system, Spins):
            raise TypeError(
                f"Sweep steps Spins, and {type(system).__name__} is none. Use solver=None, the step of the system itself."
            )
        return Swept(system, x, lam, dt)


Visit: TypeAlias = Callable[[Array, Array, Array], Array]  # of spins, their fields, what is given


class Swept(eqx.Module):
    """The density of the spins after a sweep: a product over the sites, each given those visited before it."""

    system: Spins
    x: State
    lam: Control
    dt: Scalar

    def at(self, u: State) -> State:
        """The spins for uniform numbers u, one for each site, `sided`: low ones draw it up, high ones down."""
        temperature, visited = self.system.temperature(self.lam), self._visited()

        def turned(s: Array, h: Array, u: Array) -> Array:
            up, down = (jax.nn.sigmoid(2 * h / temperature) for h in (h, -h))
            if visited is None:
                return _spin(below(u, up, down), s)
            up, down = visited * up, visited * down
            drawn = jnp.where(below(u, up, 1 - up), 1, s).astype(s.dtype)
            return jnp.where(below(-u, down, 1 - down), -1, drawn).astype(s.dtype)

        def gain(s: Array, new: Array, h: Array, u: Array) -> Array:
            return -h * (new - s)

        x, gained = self._walk(turned, gain, u)
        before, after = (self.system.energy(x, self.lam) for x in (self.x, x))
        told = jnp.abs(after - before - gained) <= self.system.rounding(x, self.lam, before, after)
        return jnp.where(told & jnp.all(jnp.abs(self.x) == 1), x, jnp.nan)

    def sample(self, key: Key) -> State:
        return self.at(sided(key, self.x.shape, self.x.dtype))

    def log_prob(self, x: State) -> Scalar:
        temperature, visited = self.system.temperature(self.lam), self._visited()

        def log(s: Array, new: Array, h: Array, y: Array) -> Array:
            drawn = jax.nn.log_sigmoid(2 * new * h / temperature)
            if visited is None:
                return drawn
            rest = jnp.where(new == s, 1 - visited, 0)
            return jnp.log(visited * jnp.exp(drawn) + rest)

        _, total = self._walk(lambda s, h, y: y, log, x)
        return jnp.where(jnp.all(jnp.abs(x) == 1), total, jnp.nan)

    def _visited(self) -> Scalar | None:
        rate = self.system.rate
        return None if rate is None else -jnp.expm1(-rate * self.dt)

    def _walk(
        self, turned: Visit, count: Callable[..., Array], given: State
    ) -> tuple[State, Scalar]:
        """The spins after all visits, and the sum over these of `count(spin, new, field, given)`."""
        system, lam, x = self.system, self.lam, self.x
        start = x, jnp.zeros((), x.dtype)
        groups = system.groups(x.size)

        def site(now: tuple[State, Scalar], i: Array) -> tuple[tuple[State, Scalar], None]:
            x, total = now
            h = system.field_at(x, lam, i)
            new = turned(x[i], h, given[i])
            return (x.at[i].set(new), total + count(x[i], new, h, given[i])), None

        def group(now: tuple[State, Scalar], mask: Array) -> tuple[tuple[State, Scalar], None]:
            x, total = now
            h = system.field(x, lam, mask)
            new = jnp.where(mask, turned(x, h, given), x)
            return (new, total + jnp.sum(jnp.where(mask, count(x, new, h, given), 0))), None

        if groups is None:
            return jax.lax.scan(site, start, jnp.asarray(system.sites(x.size)))[0]
        few = len(groups) if len(groups) <= 4 else 1
        return jax.lax.scan(group, start, jnp.asarray(groups), unroll=few)[0]


def _spin(up: Array, like: Array) -> Array:
    return jnp.where(up, 1, -1).astype(like.dtype)


def _ranks(order: Given) -> tuple[int, ...]:
    value = np.asarray(order)
    if value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
        raise ValueError(
            f"Spins.order must be a whole number for each site, (d,); got {value.dtype} of shape {value.shape}."
        )
    return tuple(map(int, value))
