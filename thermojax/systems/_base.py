r"""What a system is, and what a step is: the two seams of every dynamics.

A system owns its physics at fixed control: energy, baths, what a step exchanges with them, and time reversal. A step says
how the baths act for a time dt at fixed control, which random numbers that takes, and how likely it was against its reverse.
Neither knows the protocol, the ledger's sums or the engine: a new dynamics is one system and one step.
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._normal import AbstractTransition
from .._types import Array, Control, Density, Key, Scalar, State

Rule = Literal["alternating", "kernel"]


class Exchange(NamedTuple):
    """What one step at fixed control exchanges: the work of f, the heat given to each bath, and the medium's entropy."""

    work: Scalar
    heat: Array
    medium: Scalar


class AbstractSystem(eqx.Module):
    r"""A system in contact with one bath or several, at fixed control. The state is a vector of floats, `(d,)`, whatever
    they stand for: positions, momenta behind them, spins as ±1.

    A system of one's own: free spins in a field `lam` at T = 1, moved by the `Glauber` step of `AbstractKernelStep`.

    ```python
    import jax.numpy as jnp
    import thermojax as tjx


    class Spins(tjx.AbstractSystem):
        def temperature(self, lam):
            return jnp.ones_like(lam)

        def energy(self, x, lam):
            return -lam * jnp.sum(x)

        def exchange(self, x0, x1, lam, lost):
            return tjx.Exchange(work=0 * lost, heat=lost, medium=lost / self.temperature(lam))

        def flip(self, x):
            return x  # even under time reversal

        def reversed(self):
            return self

        def step(self, rule):
            return Glauber()  # good for both rules

        def check(self, x, lam):
            assert jnp.ndim(lam) == 0

        def positive(self, lam):
            return {}
    ```

    `parts` is in how many arrays of the same length a run keeps the state: 2 for positions and momenta, which as columns of
    one matrix would be read with a stride: a run of them takes nearly half as long again.
    """

    parts: ClassVar[int] = 1

    if TYPE_CHECKING:

        @abc.abstractmethod
        def temperature(self, lam: Control) -> Array:
            r"""$T(\lambda)$: a scalar (one bath) or `(baths,)`."""
    else:
        temperature: eqx.AbstractVar[
            Callable[[Control], Array]
        ]  # a method, or a field that is called

    @abc.abstractmethod
    def energy(self, x: State, lam: Control) -> Scalar:
        r"""$U(x, \lambda)$, a scalar."""

    @abc.abstractmethod
    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""What the step $x_0 \to x_1$ exchanges, `lost` = $U(x_0, \lambda) - U(x_1, \lambda)$.

        The heats of all baths add up to `lost` plus the work of the forces that do no potential work, so that $\Delta U =
        W - Q$ holds by construction.
        """

    @abc.abstractmethod
    def flip(self, x: State) -> State:
        r"""The state under time reversal, $\varepsilon x$: x itself, or (q, -p)."""

    @abc.abstractmethod
    def reversed(self) -> "AbstractSystem":
        """The system whose fields are reversed, a magnetic one say; itself, if it has none."""

    @abc.abstractmethod
    def step(self, rule: Rule) -> "AbstractStep":
        """The step taken by default: an accurate one for `"alternating"`, one with a `log_ratio` for `"kernel"`."""

    @abc.abstractmethod
    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        """Refuse a state and a control that do not fit, by shapes and dtypes alone."""

    @abc.abstractmethod
    def positive(self, lam: Control) -> dict[str, Array]:
        """What a drive must keep finite and above zero, by name. A run checks it along the protocol."""


class AbstractStep(eqx.Module):
    """How the baths act on the state for a time `dt` at fixed control.

    A step of one's own: the midpoint rule for diffusions, which has no log-ratio in closed form and says so.

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Midpoint(tjx.AbstractStep):
        def draw(self, key, shape, dtype):
            return (jax.random.normal(key, shape, dtype),)

        def __call__(self, system, x, lam, dt, draw):
            kick = jnp.sqrt(2 * system.diffusion(x, lam) * dt) * draw[0]
            middle = x + 0.5 * (system.drift(x, lam) * dt + kick)
            return x + system.drift(middle, lam) * dt + kick

        def log_ratio(self, system, x0, x1, lam, dt):
            raise ValueError("The midpoint rule has no kernel in closed form. Use tjx.Euler().")
    ```
    """

    @abc.abstractmethod
    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        """The random numbers of one step of states of the given shape, `(d,)` or `(paths, d)`: the paths stay in front."""

    @abc.abstractmethod
    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        """The state after the step."""

    @abc.abstractmethod
    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        r"""$\ln k(x_1 | x_0) / k_R(\varepsilon x_0 | \varepsilon x_1)$ in nats, or an error that says why there is none."""


class AbstractKernelStep(AbstractStep):
    """A step whose transition density is known.

    A step of one's own: free spins flip with a probability that obeys detailed balance at any `dt`.

    ```python
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Glauber(tjx.AbstractKernelStep):
        def draw(self, key, shape, dtype):
            return (jax.random.uniform(key, shape, dtype),)

        def __call__(self, system, x, lam, dt, draw):
            return jnp.where(draw[0] < self.kernel(system, x, lam, dt).chance, -x, x)

        def kernel(self, system, x, lam, dt):
            gain = 2 * lam * x / system.temperature(lam)  # of energy over T, if a spin flips
            return Flipping(x, -jnp.expm1(-dt) * jax.nn.sigmoid(-gain))


    class Flipping(eqx.Module):  # a density: sample and log_prob
        x: jax.Array
        chance: jax.Array

        def sample(self, key):
            return jnp.where(jax.random.bernoulli(key, self.chance), -self.x, self.x)

        def log_prob(self, y):
            return jnp.sum(jnp.log(jnp.where(y == self.x, 1 - self.chance, self.chance)))
    ```
    """

    @abc.abstractmethod
    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> Density:
        """The density of the state after the step."""

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        there = self.kernel(system, x0, lam, dt)
        back = self.kernel(system.reversed(), system.flip(x1), lam, dt)
        if isinstance(there, AbstractTransition) and isinstance(back, type(there)):
            return there.log_ratio(x1, back, system.flip(x0))
        return there.log_prob(x1) - back.log_prob(system.flip(x0))
