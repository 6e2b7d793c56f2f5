r"""Where noisy states come from: a density of clean data, rows of data, or the points of a Gaussian.

Each gives states `(n, d)` at any level, and what belongs to one data point stays together: averages over the repeats of a
row are independent of each other, those over the noises of one row are not.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, Density, Given, Key, Scalar
from ..densities import Empirical, Gaussian, noised, normal
from ._kinds import AbstractNoising
from ._predictor import Predictor, predictor


class States(NamedTuple):
    """States `(n, d)` and the noise in them in units of s, where it was drawn."""

    x: Array
    noise: Array | None


class AbstractSource(eqx.Module):
    """Clean data, and noise on top of them."""

    @abc.abstractmethod
    def states(self, kind: AbstractNoising, lam: Scalar, key: Key) -> States:
        """At the level `lam`; fresh noise for a fresh key."""

    @abc.abstractmethod
    def one_each(self, values: Array) -> Array:
        """Of one number per state, one per independent draw."""

    @abc.abstractmethod
    def clean(self, key: Key) -> Array:
        """Clean data, one per independent draw."""

    @abc.abstractmethod
    def resized(self, size: int) -> "AbstractSource":
        """With fewer draws."""

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether there is chance in it."""


class Drawn(AbstractSource):
    """Fresh draws of a density at each level."""

    density: Density
    size: int = eqx.field(static=True)

    def states(self, kind: AbstractNoising, lam: Scalar, key: Key) -> States:
        one, two = jax.random.split(key)
        return _noisy(kind, lam, self.clean(one), two)

    def one_each(self, values: Array) -> Array:
        return values

    def clean(self, key: Key) -> Array:
        return jax.vmap(self.density.sample)(jax.random.split(key, self.size))

    def resized(self, size: int) -> "Drawn":
        return Drawn(self.density, size)

    @property
    def random(self) -> bool:
        return True


class Rows(AbstractSource):
    """The same rows of data `(n, d)` at all levels, each `repeats` times, with fresh noise."""

    xs: Array
    repeats: int = eqx.field(static=True)

    def states(self, kind: AbstractNoising, lam: Scalar, key: Key) -> States:
        return _noisy(kind, lam, jnp.tile(self.xs, (self.repeats, 1)), key)

    def one_each(self, values: Array) -> Array:
        return jnp.mean(values.reshape(self.repeats, -1), 0)

    def clean(self, key: Key) -> Array:
        del key
        return self.xs

    def resized(self, size: int) -> "Rows":
        rows = self.xs[:size]
        return Rows(rows, max(1, size // len(rows)))

    @property
    def random(self) -> bool:
        return True


class Cubature(AbstractSource):
    r"""Points of a Gaussian with its mean and covariance, $m \pm \sqrt d\, L e_i$: quadratic averages without chance.

    With a `share` p < 1 of the weight on these the rest of it is on the mean, and they lie further out: of what is
    quadratic, and of no more, the averages are the same.
    """

    density: Gaussian
    share: float = eqx.field(static=True)

    def states(self, kind: AbstractNoising, lam: Scalar, key: Key) -> States:
        del key
        at = noised(self.density, kind.signal(lam), kind.noise(lam) ** 2)
        assert isinstance(at, Gaussian)
        d = at.mean.size
        root = jnp.diag(at.root) if at.root.ndim == 1 else at.root
        out = jnp.asarray(np.sqrt(d / self.share), at.mean.dtype) * root.T
        points = [at.mean[None] + out, at.mean[None] - out]
        if self.share < 1:
            points.append(jnp.broadcast_to(at.mean, (2 * d, d)))  # so that all have equal weight
        return States(jnp.concatenate(points), None)

    def one_each(self, values: Array) -> Array:
        return values

    def clean(self, key: Key) -> Array:
        raise TypeError("These points stand for noisy states at each level; none of them is clean.")

    def resized(self, size: int) -> "Cubature":
        del size
        return self

    @property
    def random(self) -> bool:
        return False


def _noisy(kind: AbstractNoising, lam: Scalar, clean: Array, key: Key) -> States:
    noise = jax.random.normal(key, clean.shape, clean.dtype)
    return States(kind.signal(lam) * clean + kind.noise(lam) * noise, noise)


def is_density(data: Given) -> bool:
    """Whether the data are a density, to be drawn from afresh: not a sample."""
    return not isinstance(data, Empirical) and callable(getattr(data, "sample", None))


def source(data: Given, size: int | None, key: Key) -> AbstractSource:
    """The draws that a user asks for by data and size."""
    if is_density(data):
        return _of_density(data, size)
    xs = _checks.floating("data", data.xs if isinstance(data, Empirical) else data)
    _checks.rank("data", xs, {2}, "(n, d), one row per data point, or be a density")
    if size is None:
        raise ValueError(
            "size=None is for Gaussian data; data (n, d) are a sample. Give size=10_000."
        )
    size = _checks.whole("size", size, "a whole number of draws", 2)
    if len(xs) < 2:
        raise ValueError(f"data must hold at least two rows to have an error bar, got {len(xs)}.")
    rows = jax.random.permutation(key, xs)[:size]
    return Rows(rows, max(1, size // len(xs)))


def _of_density(data: Density, size: int | None) -> AbstractSource:
    _checks.density("data", data)
    _checks.draw("data", data)
    if size is None:
        return _cubature(data)
    return Drawn(data, _checks.whole("size", size, "a whole number of draws", 2))


def _cubature(data: Density) -> Cubature:
    if not isinstance(data, Gaussian):
        raise ValueError(
            f"size=None takes averages in closed form, which needs Gaussian data (densities.Gaussian) and a score linear in "
            f"x; got {type(data).__name__}. Give size=10_000."
        )
    return Cubature(data, 1.0)


def clean_score(data: Given, kind: AbstractNoising) -> Predictor | None:
    r"""The exact score of clean data at any level, if what noise makes of them has a closed form; of a sample None."""
    if not is_density(data):
        return None
    if known_at(data, kind, jnp.zeros((), _checks.draw("data", data).dtype)) is None:
        return None
    return predictor(eqx.Partial(_score, data, kind), "score", kind=kind, name="the exact score")


def _score(data: Density, kind: AbstractNoising, x: Array, lam: Scalar) -> Array:
    at = noised(data, kind.signal(lam), kind.noise(lam) ** 2)
    return jax.grad(at.log_prob)(x)


def known_at(data: Given, kind: AbstractNoising, lam: Scalar) -> Density | None:
    """The density of noisy data at a level, if it is known."""
    if not is_density(data):
        return None
    at = noised(data, kind.signal(lam), kind.noise(lam) ** 2)
    try:
        jax.eval_shape(at.log_prob, _checks.draw("data", data))
    except ValueError:
        return None
    return at


def is_normal(density: Density | None) -> bool:
    return density is not None and normal(density) is not None
