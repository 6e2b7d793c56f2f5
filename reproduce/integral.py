"""The averages of R and e^-R over all paths of a linear system at finite steps: R is a quadratic form of the normals."""

import jax.numpy as jnp
import numpy as np

import thermojax as tjx


def average(process, n, rule) -> tuple[float, float]:
    """<e^-R> and <R> over the paths of `n` Euler steps with the controls of their middles, exactly: by polarisation of R."""
    ts = np.linspace(0.0, float(process.protocol.t1), n + 1)
    size = n + 1
    eye = np.eye(size)
    i, j = np.triu_indices(size, 1)
    z = np.concatenate([np.zeros((1, size)), eye, -eye, eye[i] + eye[j]])
    start = process.initial.normal()
    xs = [float(start.mean[0]) + np.sqrt(float(start.cov[0, 0])) * z[:, 0]]
    for a, b, noise in zip(ts[:-1], ts[1:], z[:, 1:].T, strict=True):
        lam = process.protocol(0.5 * (a + b))
        k, at, T = (float(lam[name]) for name in ("k", "at", "T"))
        xs.append(xs[-1] - k * (xs[-1] - at) * (b - a) + np.sqrt(2 * T * (b - a)) * noise)
    path = tjx.Path(jnp.asarray(ts), jnp.asarray(np.stack(xs, 1))[..., None])
    values = np.asarray(tjx.account(process, path, rule=rule).entropy.total)
    c, plus, minus = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    b, H = 0.5 * (plus - minus), np.diag(plus + minus - 2 * c)
    H[i, j] = H[j, i] = values[2 * size + 1 :] - plus[i] - plus[j] + c
    root = np.linalg.cholesky(eye + H)  # positive definite, or the average does not exist
    half = np.linalg.solve(root, b)
    exponential = float(np.exp(0.5 * half @ half - c) / np.prod(np.diag(root)))
    return exponential, float(c + 0.5 * np.trace(H))
