r"""The steps of diffusions, $dx = b(x, \lambda)\,dt + \sqrt{2D}\,dW$ with additive noise."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._normal import Normal
from .._types import Array, Control, Key, Scalar, State
from ._base import AbstractKernelStep, AbstractStep, AbstractSystem
from ._diffusion import AbstractDiffusion


class Heun(AbstractStep):
    r"""$x + \tfrac12 [b(x) + b(\tilde x)] dt + \sigma dW$ with $\tilde x = x + b(x) dt + \sigma dW$, unrolled.

    Second order in the mean of work and heat for forces of a potential and one bath, first for others; its kernel is not
    Gaussian.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (jax.random.normal(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = AbstractDiffusion.needed_by("Heun", system)
        kick = system.spread(x, lam) * (jnp.sqrt(dt) * draw[0])
        first = system.drift(x, lam)
        return x + 0.5 * (first + system.drift(x + first * dt + kick, lam)) * dt + kick

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        raise ValueError(_checks.without_kernel("Heun"))


class Euler(AbstractKernelStep):
    r"""Euler and Maruyama's $x + b(x) dt + \sigma dW$, whose kernel is $N(x + b\,dt,\ 2D\,dt)$."""

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (jax.random.normal(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = AbstractDiffusion.needed_by("Euler", system)
        kick = system.spread(x, lam) * (jnp.sqrt(dt) * draw[0])
        return x + system.drift(x, lam) * dt + kick

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> Normal:
        system = AbstractDiffusion.needed_by("Euler", system)
        variance = jnp.broadcast_to(2 * system.diffusion(x, lam) * dt, x.shape)
        return Normal(x, variance, system.drift(x, lam) * dt)
