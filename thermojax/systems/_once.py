r"""The step of jump systems: at most one jump."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._chance import chance
from .._types import Array, Control, Float, Key, Scalar, State
from ._base import AbstractKernelStep, AbstractSystem
from ._discrete import landed, same
from ._markov import AbstractJumps


class Once(AbstractKernelStep):
    r"""At most one jump in a step: with $r = \sum_e k_e$, event e has the probability $(1 - e^{-r\,dt})\, k_e/r$.

    First order in dt, and exact as a chain: its kernel is known, so $\langle e^{-R} \rangle = 1$ for `rule="kernel"` at any
    dt. In single precision probabilities are rounded to multiples of $2^{-32}$.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (chance(key, shape[:-1], dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        return landed(self.kernel(system, x, lam, dt).at(draw[0]), system, x, lam, dt)

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> "Jumped":
        jumps = AbstractJumps.needed_by("Once", system)
        rates = jumps.rates(x, lam)
        possible = jnp.isfinite(rates) & (rates >= 0)
        rates = jnp.where(jnp.all(possible), rates, jnp.nan)
        total = jnp.sum(rates)
        z = total * dt
        small = z < 1e-3
        safe = jnp.where(small, 1, z)
        share = jnp.where(small, -z / 2 + z**2 / 24, jnp.log(-jnp.expm1(-safe) / safe))
        logs = jnp.log(jnp.where(rates > 0, rates, 1)) + jnp.log(dt) + share
        logs = jnp.where(rates > 0, logs, jnp.where(rates == 0, -jnp.inf, jnp.nan))
        return Jumped(x, jumps.after(x), logs, -z)


class Jumped(eqx.Module):
    r"""Probabilities of the states after a step: logarithms of those of the events, and of staying."""

    x: State
    after: Float[Array, "events d"]
    logs: Float[Array, " events"]
    stay: Scalar

    def at(self, u: Scalar) -> State:
        """The state for a uniform number u."""
        edges = jnp.cumsum(jnp.exp(self.logs))
        i = jnp.sum(u >= edges)
        there = self.after[jnp.minimum(i, len(edges) - 1)]
        x = jnp.where(i < len(edges), there, self.x)
        return jnp.where(jnp.isfinite(edges[-1]), x, jnp.nan)

    def sample(self, key: Key) -> State:
        return self.at(chance(key, (), self.x.dtype))

    def log_prob(self, x: State) -> Scalar:
        """Of all events that lead to x."""
        there = same(jnp.concatenate([self.after, self.x[None]]), x[None])
        leads = there[:-1] & (self.logs > -jnp.inf)
        ways = jnp.append(leads, there[-1])
        logs = jnp.append(jnp.where(leads, self.logs, 0), self.stay)
        some = jnp.any(ways)
        total = jax.scipy.special.logsumexp(logs, b=jnp.where(some, ways, True).astype(logs.dtype))
        return jnp.where(some, total, -jnp.inf)
