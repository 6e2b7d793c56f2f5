r"""The steps of diffusions, $dx = b(x, \lambda)\,dt + \sqrt{2D}\,dW$ with additive noise."""

import jax
import jax.numpy as jnp
import numpy as np

from .._normal import Normal
from .._types import Array, Control, Key, Scalar, State
from ._base import AbstractKernelStep, AbstractStep, AbstractSystem
from ._diffusion import AbstractDiffusion


def diffusive(name: str, system: AbstractSystem) -> AbstractDiffusion:
    if not isinstance(system, AbstractDiffusion):
        raise TypeError(
            f"{name} steps a system with a drift and additive noise (AbstractDiffusion), and {type(system).__name__} is "
            "none. Use solver=None, the step of the system itself."
        )
    return system


class Heun(AbstractStep):
    r"""$x + \tfrac12 [b(x) + b(\tilde x)] dt + \sigma dW$ with $\tilde x = x + b(x) dt + \sigma dW$, unrolled.

    Second order in the mean of work and heat; its kernel is not Gaussian.
    """

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (jax.random.normal(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = diffusive("Heun", system)
        kick = spread(system, x, lam) * (jnp.sqrt(dt) * draw[0])
        first = system.drift(x, lam)
        return x + 0.5 * (first + system.drift(x + first * dt + kick, lam)) * dt + kick

    def log_ratio(
        self, system: AbstractSystem, x0: State, x1: State, lam: Control, dt: Scalar
    ) -> Scalar:
        raise ValueError(no_ratio("Heun"))


class Euler(AbstractKernelStep):
    r"""Euler and Maruyama's $x + b(x) dt + \sigma dW$, whose kernel is $N(x + b\,dt,\ 2D\,dt)$."""

    def draw(self, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, ...]:
        return (jax.random.normal(key, shape, dtype),)

    def __call__(
        self, system: AbstractSystem, x: State, lam: Control, dt: Scalar, draw: tuple[Array, ...]
    ) -> State:
        system = diffusive("Euler", system)
        kick = spread(system, x, lam) * (jnp.sqrt(dt) * draw[0])
        return x + system.drift(x, lam) * dt + kick

    def kernel(self, system: AbstractSystem, x: State, lam: Control, dt: Scalar) -> Normal:
        system = diffusive("Euler", system)
        variance = jnp.broadcast_to(2 * system.diffusion(x, lam) * dt, x.shape)
        return Normal(x + system.drift(x, lam) * dt, variance)


def spread(system: AbstractDiffusion, x: State, lam: Control) -> State:
    r"""$\sigma = \sqrt{2D}$ per coordinate."""
    return jnp.broadcast_to(jnp.sqrt(2 * system.diffusion(x, lam)), x.shape)


def no_ratio(name: str) -> str:
    return (
        f'rule="kernel" is the log-ratio of the kernels of a step, such as Euler–Maruyama\'s; got solver={name}, which has '
        "none in closed form. Use solver=None or diffrax.Euler() with it."
    )
