r"""Mixtures of densities."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._guard import untracked
from .._jit import jit
from .._types import Array, Density, Float, Given, Key, PyTree, Scalar, State
from ._base import AbstractKnownDensity, GaussianParts, normal
from ._noised import noised

FEW = 4  # components that are mostly faster one after the other than as one batch


class AbstractParts(eqx.Module):
    """The components of a mixture, one after the other or all at once."""

    @abc.abstractmethod
    def listed(self) -> tuple[Density, ...]:
        """Each of them."""

    @abc.abstractmethod
    def kinds(self) -> tuple[Density, ...]:
        """One of each structure."""

    @abc.abstractmethod
    def sample(self, chosen: Array, key: Key) -> State:
        """A draw of the component with the number `chosen`."""

    @abc.abstractmethod
    def log_probs(self, x: State) -> Float[Array, " components"]:
        """The heights of all at x."""

    @abc.abstractmethod
    def noised(self, scale: Scalar, variance: Scalar) -> "AbstractParts":
        """Those of the noised mixture."""


class Stacked(AbstractParts):
    """Components of one structure: one of them, whose arrays have a leading axis. Beyond a few, programs do not grow
    with their number."""

    stack: PyTree
    number: int = eqx.field(static=True)

    def listed(self) -> tuple[Density, ...]:
        return tuple(self._one(i) for i in range(self.number))

    def kinds(self) -> tuple[Density, ...]:
        return (self._one(0),)

    def sample(self, chosen: Array, key: Key) -> State:
        return self._one(chosen).sample(key)

    def log_probs(self, x: State) -> Float[Array, " components"]:
        if self.number <= FEW:
            return jnp.stack([one.log_prob(x) for one in self.listed()])
        arrays, rest = eqx.partition(self.stack, _is_array)
        return jax.vmap(lambda one: eqx.combine(one, rest).log_prob(x))(arrays)

    def noised(self, scale: Scalar, variance: Scalar) -> "Stacked":
        arrays, rest = eqx.partition(self.stack, _is_array)
        each = eqx.filter_vmap(lambda one: noised(eqx.combine(one, rest), scale, variance))
        return Stacked(each(arrays), self.number)

    def _one(self, i: int | Array) -> Density:
        return jtu.tree_map(lambda leaf: leaf[i] if _is_array(leaf) else leaf, self.stack)


class Listed(AbstractParts):
    """Components of different kinds."""

    components: tuple[Density, ...]

    def listed(self) -> tuple[Density, ...]:
        return self.components

    def kinds(self) -> tuple[Density, ...]:
        return self.components

    def sample(self, chosen: Array, key: Key) -> State:
        return jnp.stack([component.sample(key) for component in self.components])[chosen]

    def log_probs(self, x: State) -> Float[Array, " components"]:
        return jnp.stack([component.log_prob(x) for component in self.components])

    def noised(self, scale: Scalar, variance: Scalar) -> AbstractParts:
        return _parts(tuple(noised(component, scale, variance) for component in self.components))


class Mixture(AbstractKnownDensity):
    r"""$p(x) = \sum_i w_i\, p_i(x) \,/ \sum_i w_i$.

    **Arguments:**

    - `weights`: $w_i > 0$, `(components,)`. Only their ratios count: they are normalised here.
    - `components`: the $p_i$, a sequence of densities (anything with `sample(key)` and `log_prob(x)`) of the same d.

    Components of one class and of equal shapes are kept as one, with a leading axis, so that a mixture of many compiles as
    fast as one of four. A draw chooses a component by its weight and is drawn from it, so it follows the parameters of the
    components. It jumps where the choice changes, so it does not follow the weights: to differentiate `sample` with respect
    to them raises `ValueError`. `log_prob` differentiates with respect to everything.

    Raises `ValueError` or `TypeError` for weights that are not positive, or components of unequal d.
    """

    weights: Float[Array, " components"]
    parts: AbstractParts

    def __init__(self, weights: Given, components: Given):
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
        together, most = jnp.sum(weights), float(jnp.finfo(weights.dtype).max) / 4
        allowed = (
            f"at most {most:.2g} together (only their ratios count: divide them by the largest)"
        )
        weights = _checks.must("Mixture.weights", weights, together <= most, allowed, got=together)
        self.weights, self.parts = weights, _parts(tuple(components))
        draws = {
            f"Mixture.components[{i}].sample(key)": _checks.shapes(
                f"Mixture.components[{i}].sample(key)", component.sample, jax.random.key(0)
            )
            for i, component in enumerate(self.parts.kinds())
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

    @property
    def components(self) -> tuple[Density, ...]:
        return self.parts.listed()

    @jit
    def sample(self, key: Key) -> State:
        choose, draw = jax.random.split(key)
        chosen = jax.random.categorical(choose, jnp.log(self.weights))
        chosen = untracked(chosen, self.weights, message=_JUMPS)
        return self.parts.sample(chosen, draw)

    @jit
    def log_prob(self, x: State) -> Scalar:
        log_weights = jnp.log(self.weights / jnp.sum(self.weights))
        return jax.scipy.special.logsumexp(log_weights + self.parts.log_probs(x))

    def normal(self) -> GaussianParts | None:
        return normal(self.components[0]) if len(self.weights) == 1 else None

    def noised(self, scale: Scalar, variance: Scalar) -> "Mixture":
        parts = self.parts.noised(scale, variance)
        return eqx.tree_at(lambda m: m.parts, self, parts)


def _parts(components: tuple[Density, ...]) -> AbstractParts:
    """Stacked, if the components are alike but for the numbers in their arrays."""
    arrays, rests = zip(*(eqx.partition(part, _is_array) for part in components), strict=True)
    looks = [[jax.typeof(a) for a in jtu.tree_leaves(part)] for part in arrays]
    first = looks[0]
    if first and looks.count(first) == len(looks) and eqx.tree_equal(*rests, typematch=True):
        stack = eqx.combine(jtu.tree_map(lambda *leaves: jnp.stack(leaves), *arrays), rests[0])
        return Stacked(stack, len(components))
    return Listed(components)


def _is_array(leaf: PyTree) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)


_JUMPS = (
    "Mixture.weights are being differentiated through Mixture.sample, and a draw does not follow them: the gradient would "
    "silently lack the change of which component is chosen. Hold them fixed (jax.lax.stop_gradient(weights)), or weight "
    "the averages of the components by them. log_prob does differentiate with respect to the weights."
)
