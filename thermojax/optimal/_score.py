r"""The score-function (likelihood-ratio) derivative of an average over paths: cost still to come, less what others say.

The randomness of step k can change only what comes after it. So the score of that step is multiplied by the cost to come,
and a baseline that knows the state before the step may be taken off; neither changes the mean of the derivative.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .._paths import Path
from .._process import Process, each_path
from .._ratio import Kernel, a_density
from .._types import Array, Control, Float, State

Features: TypeAlias = Callable[[State, Control], Array]  # (x, lam) -> numbers (p,)
PerStep: TypeAlias = Float[Array, "paths steps"]

MOST = 0.5  # of the weight that a path has in its own regression; beyond it, the mean of the others is taken


def advantage(to_come: PerStep, features: Array | None = None) -> PerStep:
    r"""The cost to come after the start of each step, `(paths, steps)`, less what the other paths say of it.

    That is their mean, or, with `features` `(paths, steps, p)` of the state before each step, a least-squares fit over them:
    of each path's residual r the fit without that path leaves $r_i/(1 - H_{ii})$, H the projection of the fit. Times the
    score of the step it is an unbiased derivative either way. Where a path has more than half of the weight in its own fit,
    the mean is taken.

    Raises `ValueError` for fewer than two paths, and for features that are not of these paths and steps.

    Source: Williams, Machine Learning 8, 229 (1992); Greensmith, Bartlett & Baxter, JMLR 5, 1471 (2004).
    """
    n = to_come.shape[0]
    if n < 2:
        raise ValueError(
            f"advantage needs what other paths say: two paths or more, got to_come of shape {to_come.shape}."
        )
    if features is not None and (features.ndim != 3 or features.shape[:2] != to_come.shape):
        raise ValueError(
            f"features must have shape (*{to_come.shape}, p), a row for each path and step; got {features.shape}."
        )
    rest = to_come - jnp.mean(to_come, axis=0, keepdims=True)
    alone = rest * (n / (n - 1))
    if features is None:
        return alone
    seen = features - jnp.mean(features, axis=0, keepdims=True)
    weight = jnp.full_like(rest, 1 / n)
    done: list[Array] = []
    for i in range(seen.shape[-1]):  # Gram and Schmidt: no matrix is factorised
        column = seen[..., i]
        scale = jnp.sum(column**2, axis=0, keepdims=True)
        for _ in range(2):
            for q in done:
                column = column - q * jnp.sum(q * column, axis=0, keepdims=True)
        left = jnp.sum(column**2, axis=0, keepdims=True)
        new = left > 1e3 * jnp.finfo(column.dtype).eps * scale  # else it says what others have said
        q = jnp.where(new, column / jnp.sqrt(jnp.where(new, left, 1)), 0)
        done.append(q)
        rest = rest - q * jnp.sum(q * rest, axis=0, keepdims=True)
        weight = weight + q**2
    trusted = weight < MOST
    return jnp.where(trusted, rest / (1 - jnp.where(trusted, weight, 0)), alone)


def seen(process: Process, path: Path, features: Features) -> Array:
    """The features before each step of one path, `(steps, p)`."""
    lams = jax.vmap(process.protocol)(0.5 * (path.ts[1:] + path.ts[:-1]))
    found = jax.vmap(features)(path.xs[:-1], lams)
    if found.ndim != 2:
        raise ValueError(
            f"features(x, lam) must return an array of shape (p,); got {found.shape[1:]}. Use jnp.stack([...])."
        )
    return found


def weighted(process: Process, kernel: Kernel, path: Path, weights: PerStep) -> Array:
    r"""$\sum_k w_k \ln k(x_{k+1} | x_k)$ of each path, step by step: what a derivative needs of a step is made again."""

    def one(process: Process, path: Path, weights: Array) -> Array:
        @jax.checkpoint
        def step(total: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
            weight, t0, t1, x, y = given
            return total + weight * a_density(kernel(process, x, t0, t1)).log_prob(y), None

        steps = weights, path.ts[:-1], path.ts[1:], path.xs[:-1], path.xs[1:]
        return jax.lax.scan(step, jnp.zeros((), weights.dtype), steps)[0]

    return each_path(one, (process,), path, weights)


def zero_with_slope(value: Array) -> Array:
    """Zero, with the derivative of `value`."""
    return value - jax.lax.stop_gradient(value)
