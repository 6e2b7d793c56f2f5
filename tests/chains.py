"""What a scheme does exactly: averages over the discrete chain of a linear system, without sampling.

A step of Euler's or Heun's scheme at fixed control maps Gaussians to Gaussians, and energies are quadratic, so the mean
work and heat of the alternating ledger are those of a recursion for mean and covariance (`means`), written here in numpy
and independent of the library's own steps. What is left against the exact result is the discretisation, to rounding.

Work, heat and R are quadratic in the normals that make a path: `expand` finds the form from the library's own step and
ledger, and any average of it is then a Gaussian integral.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import thermojax as tjx


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
    before, after = process.protocol.before, process.protocol.after  # the grid spans it
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
            (wide(system.mobility(lam)), wide(system.temperature(lam))),
        )

    return jax.vmap(one)(lams)


def means(process, ts, scheme="heun"):
    """The mean exchanges of `scheme` on the grid `ts`, by the alternating rule. `reduced` is for one bath."""
    start = process.initial.normal()
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

        work += np.sum(_given(K[i], h[i], m, m1, both))
        each = _given(
            G[i], g[i], m, m1, both
        )  # for a quadratic potential the trapezoid is the energy difference
        heat, medium = heat + each, medium + np.sum(each / T[i])
        m, C = m1, C1
    work += energy(-1) - energy(-2)
    reduced = energy(-1) / T[-1, 0] - phi + medium
    return Means(work, heat, medium, reduced, m, C)


def _given(A, b, m, m1, both):
    """<A x + b> o dx by coordinate, the trapezoid of it."""
    return (0.5 * A @ (m + m1) + b) * (m1 - m) + 0.5 * np.diagonal(A @ both)


def order(errors, ns):
    """The slope of log |error| against log dt."""
    return -np.polyfit(np.log(ns), np.log(np.abs(errors)), 1)[0]


STEPPERS = {"euler": tjx.Euler(), "heun": tjx.Heun()}


def chain(process, ts, stepper):
    """The path as a function of its normals, `(n + 1, d)`, by a step of the library."""
    system, start = process.system, process.initial.normal()
    lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))

    def path(normals):
        x0 = start.mean + jnp.linalg.cholesky(start.cov) @ normals[0]

        def step(x, now):
            lam, dt, z = now
            x = stepper(system, x, lam, dt, (z,))
            return x, x

        _, xs = jax.lax.scan(step, x0, (lams, jnp.diff(ts), normals[1:]))
        return tjx.Path(ts, jnp.concatenate([x0[None], xs]))

    return path, start.mean.shape[0]


@eqx.filter_jit
def _paths(process, ts, scheme, normals):
    return jax.vmap(chain(process, ts, STEPPERS[scheme])[0])(normals).xs


def expand(process, ts, scheme, of):
    """Constant, gradient and Hessian of a quadratic functional of the path, in the normals: by polarisation."""
    d = len(process.initial.normal().mean)
    size = d * len(ts)
    eye = np.eye(size)
    i, j = np.triu_indices(size, 1)
    probe = np.random.default_rng(1).normal(size=(1, size))
    points = np.concatenate([np.zeros((1, size)), eye, -eye, eye[i] + eye[j], probe])
    xs = _paths(process, ts, scheme, jnp.asarray(points.reshape(len(points), -1, d)))
    values = np.asarray(of(process, tjx.Path(ts, xs)))
    c, plus, minus = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    b, H = 0.5 * (plus - minus), np.diag(plus + minus - 2 * c)
    H[i, j] = H[j, i] = values[2 * size + 1 : -1] - plus[i] - plus[j] + c
    there = c + b @ probe[0] + 0.5 * probe[0] @ H @ probe[0]
    assert np.isclose(there, values[-1], rtol=1e-10, atol=1e-10), "not quadratic"
    return c, b, H
