r"""The three noisings in use, as systems at a level of noise: they differ in scale, not in what is seen of the data."""

import abc
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._types import Array, Control, NoForce, Scalar, State
from ..systems import AbstractOverdamped
from . import _levels


class Level(NamedTuple):
    r"""The control of a noising: the log signal-to-noise ratio $\lambda$ and its rate of fall, $-\dot\lambda > 0$."""

    lam: Scalar
    rate: Scalar


class AbstractNoising(AbstractOverdamped):
    r"""$x = a(\lambda)\, x_0 + s(\lambda)\, \epsilon$ with $\lambda = \ln a^2/s^2$, reached by

    $$dx = -D \kappa\, x\, dt + \sqrt{2D}\, dW, \qquad D = -\tfrac12 s^2 \dot\lambda, \qquad
      \kappa = \frac{2}{s^2} \frac{d \ln a}{d\lambda} .$$

    The equation fixes $D = \mu T$ and the force over temperature $-\kappa x$, and no more. The gauge here is T = 1, so
    $\mu = D$ and $U = \kappa |x|^2/2$: energies are in units of T. Entropies, reduced work and log-ratios do not depend on
    it. Source: Song et al., ICLR 2021, app. B; Zhang, arXiv 2606.18290, eq. 7.4.

    A noising of one's own says what a, s and $\kappa$ are, and from which noise its generation starts. Here one halfway
    between `VP` and `VE`, $a = (1 + e^{-\lambda})^{-1/4}$:

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx
    from thermojax import diffusion

    class Halfway(diffusion.AbstractNoising):
        def signal(self, lam):
            return jax.nn.sigmoid(lam) ** 0.25

        def noise(self, lam):
            return self.signal(lam) * jnp.exp(-lam / 2)

        def stiffness(self, lam):  # d ln a / d lam = (1 - sigmoid(lam)) / 4
            return jax.nn.sigmoid(-lam) / (2 * self.noise(lam) ** 2)

        def prior(self, lam):
            return self.noise(lam) ** 2

    data = tjx.densities.Gaussian(0.3, 0.25)
    process = diffusion.noising(data, diffusion.Uniform(6.0, -6.0), kind=Halfway())
    generation = diffusion.generate(process, diffusion.score(process))
    ```
    """

    @abc.abstractmethod
    def signal(self, lam: Array) -> Array:
        r"""$a(\lambda)$."""

    @abc.abstractmethod
    def noise(self, lam: Array) -> Array:
        r"""$s(\lambda)$."""

    @abc.abstractmethod
    def stiffness(self, lam: Array) -> Array:
        r"""$\kappa(\lambda)$."""

    @abc.abstractmethod
    def prior(self, lam: Array) -> Array:
        """The variance of the noise that generation starts from, if the last level is `lam`."""

    def energy(self, x: State, lam: Control) -> Scalar:
        return 0.5 * self.stiffness(lam.lam) * jnp.sum(x**2)

    def push(self, x: State, lam: Control) -> NoForce:
        return np.zeros(x.shape, x.dtype)

    def mobility(self, lam: Control) -> Array:
        return 0.5 * self.noise(lam.lam) ** 2 * lam.rate

    def temperature(self, lam: Control) -> Array:
        return jnp.ones_like(lam.lam)

    def positive(self, lam: Control) -> dict[str, Array]:
        return {"mobility": self.mobility(lam)}


class VP(AbstractNoising):
    r"""Variance preserving: $a^2 + s^2 = 1$, $\kappa = 1$. With $b = 2D$: $dx = -\tfrac12 b x\,dt + \sqrt b\,dW$."""

    def signal(self, lam: Array) -> Array:
        return _levels.signal(lam)

    def noise(self, lam: Array) -> Array:
        return _levels.noise(lam)

    def stiffness(self, lam: Array) -> Array:
        return jnp.ones_like(lam)

    def prior(self, lam: Array) -> Array:
        return jnp.ones_like(lam)


class VE(AbstractNoising):
    r"""Variance exploding: a = 1, $s^2 = e^{-\lambda}$, no force."""

    def signal(self, lam: Array) -> Array:
        return jnp.ones_like(lam)

    def noise(self, lam: Array) -> Array:
        return jnp.exp(-0.5 * lam)

    def stiffness(self, lam: Array) -> Array:
        return jnp.zeros_like(lam)

    def prior(self, lam: Array) -> Array:
        return self.noise(lam) ** 2


def excess(lam: Array) -> Array:
    r"""$2/a^2 - 2 = v + \sqrt{v (4 + v)}$ of sub-VP, with $v = e^{-\lambda}$; smooth at clean data."""
    return jnp.exp(-lam) + jnp.exp(-0.5 * lam) * jnp.sqrt(4 + jnp.exp(-lam))


class SubVP(AbstractNoising):
    r"""Sub-VP: $s = 1 - a^2$, $\kappa = 1/(1 - a^4)$, the force of VP with less noise.

    At clean data it is infinitely stiff: run it from a finite level (t0 > 0). Chains (`transition`) may start clean.
    """

    def signal(self, lam: Array) -> Array:
        return jnp.sqrt(2 / (2 + excess(lam)))

    def noise(self, lam: Array) -> Array:
        return excess(lam) / (2 + excess(lam))

    def stiffness(self, lam: Array) -> Array:
        return 1 / (self.noise(lam) * (1 + self.signal(lam) ** 2))

    def prior(self, lam: Array) -> Array:
        return jnp.ones_like(lam)
