r"""Overdamped Langevin dynamics whose mobility, and with it the noise, depends on the place; and its two steps."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._closures import closed
from .._guard import untracked
from .._normal import Normal
from .._types import (
    Array,
    Control,
    Force,
    Given,
    Key,
    NoForce,
    PerCoordinate,
    Potential,
    Scalar,
    State,
)
from ._base import AbstractStep, AbstractSystem, Exchange, Rule
from ._overdamped import Constant, Driven, Overdamped


class Inhomogeneous(AbstractSystem):
    r"""Overdamped Langevin dynamics with a mobility that depends on the place, near a wall say, $k_B = 1$, in Itô's form:

    $$dx_i = (\mu_i F_i + T_i\,\partial_i \mu_i)\,dt + \sqrt{2 \mu_i(x, \lambda)\, T_i(\lambda)}\, dW_i, \qquad
      F = -\nabla U + f .$$

    **The reading is the isothermal one**: at rest, with one bath and $f = 0$, the density is Boltzmann's, whatever $\mu$ is.
    It is the limit of light particles whose friction $1/\mu$ depends on the place (Itô's and Stratonovich's reading of
    $\mu F\,dt + \sqrt{2\mu T}\,dW$ are not). $\partial_i\mu_i$ comes by differentiation.

    **Arguments:** those of `Overdamped`, but for

    - `mobility`: $\mu(x, \lambda) > 0$, a callable `(x, lam) -> scalar`, or `(d,)`, one per coordinate. A path that comes to
      where it is not positive is marked, `ok=False`.

    T may depend on $\lambda$; it must not depend on x: then the limit of light particles is another equation, and a part of
    the entropy production is not seen in x.

    Heat is $f \circ dx - \Delta U$ over each step, as ever: it does not ask for the noise, and $\Delta U = W - Q$ to
    rounding. `rule="alternating"` steps by `StratonovichHeun`, of first order in the means, and $\langle e^{-R} \rangle \to
    1$ with the step. `rule="kernel"` steps by `Metropolis`, with $\langle e^{-R} \rangle = 1$ at every step and no gradient.
    `Euler` is refused: here the R of its kernels has too large a mean, by an amount that does not vanish with the step. What
    needs a noise that is the same everywhere (`evolve.moments`, diffrax's solvers, `bounds`, the score-function gradient)
    is refused, too; `evolve.fokker_planck` and `evolve.steady` take it.

    Source: Lau & Lubensky, PRE 76, 011123 (2007); Sekimoto, *Stochastic Energetics* (2010).
    """

    energetics: Overdamped  # energy, force and baths: what does not ask for the mobility
    fn: Force

    def __init__(
        self,
        potential: Potential | None,
        mobility: Given,
        force: Force | None = None,
        temperature: PerCoordinate = 1.0,
    ):
        if isinstance(mobility, Constant | Driven) or not callable(mobility):
            raise TypeError(
                f"Inhomogeneous.mobility must be a callable (x, lam), got {mobility!r}. One that is the same everywhere "
                "belongs into thermojax.Overdamped."
            )
        _checks.takes(
            "Inhomogeneous.mobility",
            mobility,
            "x",
            "lam",
            cure="One that is the same everywhere belongs into thermojax.Overdamped.",
        )
        self.energetics = Overdamped(potential, force, temperature=temperature)
        self.fn = closed(mobility)

    def energy(self, x: State, lam: Control) -> Scalar:
        return self.energetics.energy(x, lam)

    def push(self, x: State, lam: Control) -> State | NoForce:
        r"""$f(x, \lambda)$, the force that does no potential work."""
        return self.energetics.push(x, lam)

    def temperature(self, lam: Control) -> Array:
        return self.energetics.temperature(lam)

    def mobility(self, x: State, lam: Control) -> State:
        r"""$\mu_i(x, \lambda)$, `(d,)`; NaN where it is not positive."""
        given = jnp.broadcast_to(self.fn(x, lam), x.shape)
        return jnp.where(given > 0, given, jnp.nan)

    def diffusion(self, x: State, lam: Control) -> State:
        r"""$D_i = \mu_i T_i$."""
        return self.mobility(x, lam) * self.temperature(lam)

    def spread(self, x: State, lam: Control) -> State:
        r"""$\sigma_i = \sqrt{2 D_i}$."""
        return jnp.sqrt(2 * self.diffusion(x, lam))

    def drift(self, x: State, lam: Control) -> State:
        r"""$\mu_i F_i + \partial_i D_i$, the Itô drift."""
        return self._flux(x, lam) + self._slope(x, lam)

    def stratonovich(self, x: State, lam: Control) -> State:
        r"""$\mu_i F_i + \tfrac12 \partial_i D_i$, the drift in Stratonovich's form."""
        return self._flux(x, lam) + 0.5 * self._slope(x, lam)

    def _flux(self, x: State, lam: Control) -> State:
        return self.mobility(x, lam) * self.energetics.total_force(x, lam)

    def _slope(self, x: State, lam: Control) -> State:
        if x.size == 1:
            return jax.grad(lambda y: self.diffusion(y, lam)[0])(x)
        return jnp.diagonal(jax.jacfwd(self.diffusion)(x, lam))

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        return self.energetics.exchange(x0, x1, lam, lost)

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "Inhomogeneous":
        return self

    def step(self, rule: Rule) -> AbstractStep:
        return Metropolis() if rule == "kernel" else StratonovichHeun()

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        self.energetics.check(x, lam)
        given = _checks.shapes("mobility(x, lam)", self.fn, x, lam)
        shape = jnp.shape(given)
        if shape not in ((), x.shape):
            cure = " Take coordinates in which it is diagonal." if len(shape) == 2 else ""
            raise ValueError(
                f"mobility(x, lam) must return a scalar or have the shape of the state, {x.shape}; got {shape}.{cure}"
            )
        if not jnp.issubdtype(given.dtype, jnp.floating) or (
            given.dtype != x.dtype and not given.weak_type
        ):
            raise TypeError(
                f"The state is {x.dtype}, and the mobility is {given.dtype}: one floating-point precision per run."
            )

    def positive(self, lam: Control) -> dict[str, Array]:
        return self.energetics.positive(lam)


class StratonovichHeun(AbstractStep):
    r"""$x + \tfrac12 [\bar b(x) + \bar b(\tilde x)]\,dt + \tfrac12 [\sigma(x) + \sigma(\tilde x)]\,dW$ with
    $\tilde x = x + \bar b(x)\,dt + \sigma(x)\,dW$ and $\bar b_i = \mu_i F_i + \tfrac12 \partial_i D_i$.

    First order in the mean of work and heat (with small errors: of fourth order in the noise alone). No kernel in closed
    form.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (jax.random.normal(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = _needed_by("StratonovichHeun", system)
        noise = jnp.sqrt(dt) * draw[0]

        def moved(y: State) -> State:
            return system.stratonovich(y, lam) * dt + system.spread(y, lam) * noise

        first = moved(x)
        return x + 0.5 * (first + moved(x + first))

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        raise ValueError(
            'rule="kernel" is the log-ratio of the kernels of a step, and StratonovichHeun has none in closed form. Use '
            "solver=None with it: Metropolis."
        )


class Metropolis(AbstractStep):
    r"""Euler and Maruyama's step y, taken with probability $\min(1,\, e^{\Delta S_m(x, y)}\, k(x|y)/k(y|x))$; else the
    path stays where it is.

    Its forward and backward probabilities have the ratio $e^{\Delta S_m}$, so that both rules give one number: it is in
    balance with the baths at every step size, which Euler's is not. What is refused costs time: the means of work and heat
    converge like $\sqrt{dt}$. No derivative (`ValueError`): whether a step is taken has none.

    Source: Roberts & Tweedie, Bernoulli 2, 341 (1996); Sivak, Chodera & Crooks, PRX 3, 011007 (2013).
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        normals, uniforms = jax.random.split(key)
        one = jax.random.uniform(uniforms, (*shape[:-1], 1), dtype)
        return jax.random.normal(normals, shape, dtype), one

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = _needed_by("Metropolis", system)

        def kernel(x: State) -> Normal:
            return Normal(x, 2 * system.diffusion(x, lam) * dt, system.drift(x, lam) * dt)

        there = kernel(x)
        y = there.at(draw[0])
        surplus = self.log_ratio(system, x, y, lam, dt) - there.log_ratio(y, kernel(y), x)
        taken = jnp.log1p(-draw[1][0]) < surplus
        taken = untracked(taken, surplus, message=_TAKEN)
        alive = jnp.isfinite(jnp.sum(y))  # a state without a mobility is marked, and does not stay
        return jnp.where(taken | ~alive, y, x)

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        lost = system.energy(x0, lam) - system.energy(x1, lam)
        return system.exchange(x0, x1, lam, lost).medium


_TAKEN = (
    'A run of Metropolis, the step of rule="kernel" where noise depends on x, has no derivative: whether a step is taken '
    'jumps. Differentiate a run of rule="alternating".'
)


def _needed_by(name: str, system: AbstractSystem) -> Inhomogeneous:
    if not isinstance(system, Inhomogeneous):
        raise TypeError(
            f"{name} steps a system whose noise depends on x (Inhomogeneous), and {type(system).__name__} is none. Use "
            "solver=None, the step of the system itself."
        )
    return system
