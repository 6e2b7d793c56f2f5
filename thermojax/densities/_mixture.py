r"""Mixtures of densities."""

from typing import Any

import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, Key, Scalar, State
from ._base import AbstractDensity, untracked
from ._gaussian import Gaussian


class Mixture(AbstractDensity):
    r"""$p(x) = \sum_i w_i\, p_i(x) \,/ \sum_i w_i$.

    **Arguments:**

    - `weights`: $w_i > 0$, `(components,)`. Only their ratios count: they are normalised here.
    - `components`: the $p_i$, a sequence of densities (anything with `sample(key)` and `log_prob(x)`) of the same d.

    A draw chooses a component by its weight and is drawn from it (all are drawn from, and one is kept), so it follows the
    parameters of the components. It jumps where the choice changes, so it does not follow the weights: to differentiate
    `sample` with respect to them raises `ValueError`. `log_prob` differentiates with respect to everything.

    Raises `ValueError` or `TypeError` for weights that are not positive, or components of unequal d.
    """

    weights: Array
    components: tuple[Any, ...]

    def __init__(self, weights: Any, components: Any):
        if not isinstance(components, list | tuple):
            raise TypeError(
                f"Mixture.components must be a list or tuple of densities, got {type(components).__name__}. "
                "Example: Mixture([0.5, 0.5], [Gaussian(-1.0, 1.0), Gaussian(1.0, 1.0)])."
            )
        if not components:
            raise ValueError("Mixture.components must hold at least one density, got none.")
        for i, component in enumerate(components):
            _checks.density(f"Mixture.components[{i}]", component)
        weights = _checks.floating("Mixture.weights", weights, positive=True)
        if weights.shape != (len(components),):
            raise ValueError(
                f"Mixture.weights must be one number per component, shape ({len(components)},); got {weights.shape}."
            )
        draws = {
            f"Mixture.components[{i}].sample(key)": _checks.shapes(
                f"Mixture.components[{i}].sample(key)", component.sample, jax.random.key(0)
            )
            for i, component in enumerate(components)
        }
        shapes = [draw.shape for draw in draws.values()]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise ValueError(
                f"Mixture.components must all draw one state of the same shape (d,), got {shapes}."
            )
        for name, draw in draws.items():
            if not jnp.issubdtype(draw.dtype, jnp.floating):
                raise TypeError(
                    f"{name} must draw floating-point numbers, got {draw.dtype}. Use .astype(float)."
                )
        _checks.one_float(**{"Mixture.weights": weights}, **draws)
        self.weights, self.components = weights, tuple(components)

    def sample(self, key: Key) -> State:
        choose, draw = jax.random.split(key)
        chosen = jax.random.categorical(choose, jnp.log(self.weights))
        chosen = untracked(chosen, self.weights, message=_JUMPS)
        return jnp.stack([component.sample(draw) for component in self.components])[chosen]

    def log_prob(self, x: State) -> Scalar:
        heights = jnp.stack([component.log_prob(x) for component in self.components])
        log_weights = jnp.log(self.weights / jnp.sum(self.weights))
        return jax.scipy.special.logsumexp(log_weights + heights)

    def gaussian(self) -> Gaussian:
        only = getattr(self.components[0], "gaussian", None)
        if len(self.components) > 1 or only is None:
            raise ValueError(
                "A Mixture is no Gaussian. Start from thermojax.densities.Gaussian, or simulate."
            )
        return only()


_JUMPS = (
    "Mixture.weights are being differentiated through Mixture.sample, and a draw does not follow them: the gradient would "
    "silently lack the change of which component is chosen. Hold them fixed (jax.lax.stop_gradient(weights)), or weight "
    "the averages of the components by them. log_prob does differentiate with respect to the weights."
)
