r"""The exponential of a generator of jumps, without a cancellation: all that is added is positive."""

import jax
import jax.numpy as jnp

from .._products import matmul
from .._types import Array, Scalar

_TERMS, _SQUARINGS = 20, 40


def propagator(generator: Array, dt: Scalar) -> tuple[Array, Array]:
    r"""$e^{A\,dt}$ and $\int_0^{dt} e^{A s}\,ds$ of a generator `(n, n)` with columns of sum zero.

    With $\Lambda = \max_i |A_{ii}|$ and $P = 1 + A/\Lambda \ge 0$, $e^{A h} = e^{-\Lambda h} \sum_k (\Lambda h P)^k/k!$ for
    a part h of the step, squared until it is the whole; columns are normalised each time, which holds rounding down.
    """
    n = generator.shape[0]
    eye = jnp.eye(n, dtype=generator.dtype)
    fastest = jax.lax.stop_gradient(jnp.max(-jnp.diagonal(generator)))
    fastest = jnp.where(fastest > 0, fastest, 1)
    halvings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(fastest * dt, 1))), 0, _SQUARINGS)
    halvings = jax.lax.stop_gradient(halvings)
    h = dt * 2.0**-halvings
    moves = (eye + generator / fastest) * (fastest * h)
    weight = jnp.exp(-fastest * h)

    def term(now: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        power, total = now
        power = matmul(moves, power) / k
        return (power, total + power), None

    ks = jnp.arange(1, _TERMS + 1).astype(generator.dtype)
    (_, total), _ = jax.lax.scan(term, (eye, eye), ks)
    one = _columns(weight * total)
    time = _time(generator, fastest, h, eye)

    def square(now: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        one, time = now
        on = k < halvings
        twice = _columns(matmul(one, one)), time + matmul(one, time)
        return (jnp.where(on, twice[0], one), jnp.where(on, twice[1], time)), None

    (one, time), _ = jax.lax.scan(square, (one, time), jnp.arange(_SQUARINGS).astype(h.dtype))
    return one, time


def _time(generator: Array, fastest: Scalar, h: Scalar, eye: Array) -> Array:
    r"""$\int_0^h e^{As}\,ds = \Lambda^{-1} \sum_k P^k\, \mathrm{Prob}[N > k]$, N Poisson with mean $\Lambda h$."""
    mean = fastest * h
    ks = jnp.arange(_TERMS + 1).astype(generator.dtype)
    beyond = jax.scipy.special.gammainc(ks + 1, jnp.broadcast_to(mean, ks.shape))
    jump = eye + generator / fastest

    def term(now: tuple[Array, Array], tail: Array) -> tuple[tuple[Array, Array], None]:
        power, total = now
        return (matmul(jump, power), total + tail * power), None

    (_, total), _ = jax.lax.scan(term, (eye, jnp.zeros_like(eye)), beyond)
    return h * _columns(total)


def _columns(matrix: Array) -> Array:
    return matrix / jnp.sum(matrix, axis=0, keepdims=True)
