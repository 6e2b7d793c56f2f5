r"""The two ends of a noising: entropies there, and how far the last density is from the prior."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _factor
from .._products import matmul
from .._types import Array, Density, Given, Key, Scalar
from ..densities import Gaussian, normal
from ..estimators import Estimate
from ._draws import AbstractSource, is_normal, known_at
from ._kinds import AbstractNoising
from ._measure import averaged, exactly, quieted


class End(NamedTuple):
    """What is known of one end, one number per independent draw, or one for all where it is exact."""

    draws: Array
    exact: bool
    how: str

    def estimate(self, source: AbstractSource) -> Estimate:
        return exactly(self.draws) if self.exact else averaged(source, self.draws)


def surprise(
    source: AbstractSource, density: Density, kind: AbstractNoising, lam: Scalar, key: Key
) -> Array:
    r"""$-\ln q(x_\lambda)$ of a density q, one number per independent draw."""
    states = source.states(kind, lam, key)
    values = -jax.vmap(density.log_prob)(states.x)
    return quieted(source, values, _control(states.noise))


def _control(noise: Array | None) -> list[Array]:
    return [] if noise is None else [0.5 * (jnp.sum(noise**2, 1) - noise.shape[1])]


def entropy(
    source: AbstractSource, data: Given, kind: AbstractNoising, lam: Scalar, key: Key
) -> End | None:
    """Of the density at a level, where that is known."""
    density = known_at(data, kind, lam)
    if density is None:
        return None
    if isinstance(density, Gaussian):
        return End(density.entropy(), True, "in closed form")
    return End(surprise(source, density, kind, lam, key), False, "of the density's own draws")


def last_entropy(
    source: AbstractSource, data: Given, kind: AbstractNoising, lam: Scalar, key: Key
) -> End:
    """At the last level: where the density is not known that of the Gaussian with its moments, which is not less."""
    found = entropy(source, data, kind, lam, key)
    if found is not None:
        return found
    xs = source.clean(key)
    a, s = kind.signal(lam), kind.noise(lam)
    away = a * (xs - jnp.mean(xs, 0)[None])
    cov = matmul(away.T, away) / len(xs)
    root = _factor.root(cov + s**2 * jnp.eye(cov.shape[0], dtype=cov.dtype))
    gaussian = Gaussian.from_root(jnp.zeros_like(xs[0]), root)
    # each row moves the covariance a little
    moves = 0.5 * jnp.sum(_factor.solve(root, away.T) ** 2, 0)
    how = "of the Gaussian with the moments of the data, an upper bound"
    return End(gaussian.entropy() + moves - jnp.mean(moves), False, how)


def mismatch(
    source: AbstractSource,
    data: Given,
    kind: AbstractNoising,
    prior: Density,
    lam: Scalar,
    key: Key,
) -> End:
    r"""$\mathrm{KL}(p_T \| \pi)$: in closed form, by draws, each of them not negative, or an upper bound of it."""
    last = known_at(data, kind, lam)
    if is_normal(last) and is_normal(prior):
        assert last is not None
        return End(_divergence(last, prior), True, "in closed form")
    if last is not None:
        x = source.states(kind, lam, key).x
        apart = jax.vmap(prior.log_prob)(x) - jax.vmap(last.log_prob)(x)
        # <pi/p - 1> = 0 over p; less noise than the logarithm alone, and no sign
        values = jnp.where(apart == -jnp.inf, jnp.inf, jnp.expm1(apart) - apart)
        return End(source.one_each(values), False, "by draws")
    # KL is convex: averaged over the data of KL(q(x_T | x_0) || pi)
    s = kind.noise(lam)
    if is_normal(prior):
        clean = kind.signal(lam) * source.clean(key)
        one = Gaussian.from_root(jnp.zeros_like(clean[0]), s * jnp.ones_like(clean[0]))
        values = jax.vmap(lambda x: _divergence(eqx.tree_at(lambda g: g.mean, one, x), prior))(
            clean
        )
    else:
        crossed = surprise(source, prior, kind, lam, key)
        d = source.states(kind, lam, key).x.shape[1]
        values = crossed - 0.5 * d * (1 + jnp.log(2 * jnp.pi * s**2))
    return End(values, False, "an upper bound: p_T is not known from samples")


def _divergence(p: Density, q: Density) -> Scalar:
    """KL of two Gaussians, without a difference of large numbers."""
    (m, root), (n, other) = _mean_and_root(p), _mean_and_root(q)
    if root.ndim == 1 and other.ndim == 1:
        ratio, rest = root / other, jnp.zeros_like(root)
    else:
        root, other = (jnp.diag(r) if r.ndim == 1 else r for r in (root, other))
        whole = _factor.solve(other, root)
        ratio = jnp.diagonal(whole)
        rest = jnp.sum(jnp.tril(whole, -1) ** 2, 1)
    over = (ratio - 1) * (ratio + 1)
    shift = _factor.solve(other, m - n)
    return 0.5 * jnp.sum(over - jnp.log1p(over) + rest + shift**2)


def _mean_and_root(density: Density) -> tuple[Array, Array]:
    if isinstance(density, Gaussian):
        return density.mean, density.root
    parts = normal(density)
    assert parts is not None
    return parts.mean, _factor.root(parts.cov)
