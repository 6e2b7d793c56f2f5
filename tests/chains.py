"""What a scheme does exactly: means over the discrete chain of a linear system, without sampling.

A step of Euler's or Heun's scheme at fixed control maps Gaussians to Gaussians, and energies are quadratic, so the mean
work and heat of the alternating ledger are those of a recursion for mean and covariance, written here in numpy and
independent of the library's own steps. What is left against the exact result is the discretisation, to rounding.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from thermojax._process import ends


class Means(NamedTuple):
    work: float
    heat: np.ndarray  # by coordinate
    medium: float
    reduced: float
    mean: np.ndarray
    cov: np.ndarray


@eqx.filter_jit
def _coefficients(process, ts, x):
    """Along the drive (before, the middles of the steps, after): F = G x + g, f = K x + h, U, mobility, temperature."""
    system = process.system
    before, after = ends(process.protocol, ts)
    middles = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))
    lams = jax.tree.map(
        lambda b, v, a: jnp.concatenate([b[None], v, a[None]]), before, middles, after
    )

    def one(lam):
        total = lambda x: system.total_force(x, lam)
        push = (lambda x: 0 * x) if system.force is None else (lambda x: system.force(x, lam))
        energy = lambda x: system.energy(x, lam)
        wide = lambda v: jnp.broadcast_to(v, x.shape)
        return (
            (jax.jacfwd(total)(x), total(x)),
            (jax.jacfwd(push)(x), push(x)),
            (jax.hessian(energy)(x), jax.grad(energy)(x), energy(x)),
            (wide(system.mobility_at(lam)), wide(system.temperature_at(lam))),
        )

    return jax.vmap(one)(lams)


def means(process, ts, scheme="heun"):
    """The mean exchanges of `scheme` on the grid `ts`, by the alternating rule. `reduced` is for one bath."""
    start = process.initial.gaussian()
    m, C = np.asarray(start.mean), np.asarray(start.cov)
    (G, g), (K, h), (H, s, c), (mobility, T) = jax.tree.map(
        np.asarray, _coefficients(process, ts, jnp.zeros(m.shape))
    )
    eye = np.eye(len(m))

    def energy(i):
        return c[i] + s[i] @ m + 0.5 * (m @ H[i] @ m + np.trace(H[i] @ C))

    work, heat, medium = 0.0, np.zeros(len(m)), 0.0
    phi = energy(0) / T[0, 0]
    for i, dt in enumerate(np.diff(np.asarray(ts)), start=1):
        work += energy(i) - energy(i - 1)
        drift, push = mobility[i][:, None] * G[i], mobility[i] * g[i]
        spread = np.diag(np.sqrt(2 * mobility[i] * T[i] * dt))
        if scheme == "heun":
            step = eye + dt * drift + 0.5 * dt**2 * drift @ drift
            shift, kick = (dt * eye + 0.5 * dt**2 * drift) @ push, (eye + 0.5 * dt * drift) @ spread
        else:
            step, shift, kick = eye + dt * drift, dt * push, spread
        m1, C1 = step @ m + shift, step @ C @ step.T + kick @ kick.T
        both = (
            C @ step.T - C + C1 - step @ C
        )  # <(d0 + d1)(d1 - d0)^T> of the deviations from the mean

        def given(A, b):
            """<A x + b> o dx by coordinate, the trapezoid of it."""
            return (0.5 * A @ (m + m1) + b) * (m1 - m) + 0.5 * np.diagonal(A @ both)

        work += np.sum(given(K[i], h[i]))
        each = given(G[i], g[i])  # for a quadratic potential the trapezoid is the energy difference
        heat, medium = heat + each, medium + np.sum(each / T[i])
        m, C = m1, C1
    work += energy(-1) - energy(-2)
    reduced = energy(-1) / T[-1, 0] - phi + medium
    return Means(work, heat, medium, reduced, m, C)


def order(errors, ns):
    """The slope of log |error| against log dt."""
    return -np.polyfit(np.log(ns), np.log(np.abs(errors)), 1)[0]
