"""Eight narrow modes on a circle: density, exact denoiser and its error, by hand and by quadrature. Double precision."""

import jax
import jax.numpy as jnp
import numpy as np

from thermojax import schedules

ANGLES, STD = np.arange(8) * np.pi / 4, 0.1
MODES = np.sqrt(2) * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def weighed(x, lam):
    """Log densities of the components, and the share of their variance that is noise."""
    a2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
    v = a2 * STD**2 + s2
    far = jnp.sum((x[None] - jnp.sqrt(a2) * MODES) ** 2, axis=1)
    return -far / (2 * v) - jnp.log(2 * jnp.pi * v) - jnp.log(8.0), s2 / v


def denoise(x, lam):
    logs, share = weighed(x, lam)
    p = jax.nn.softmax(logs)
    middle = jnp.sum(p[:, None] * MODES, axis=0)
    return share * middle + (1 - share) * x / jnp.sqrt(jax.nn.sigmoid(lam))


def log_p(x):
    return jax.nn.logsumexp(weighed(x, jnp.asarray(jnp.inf))[0])


def plane(nodes):
    """Nodes and weights of a standard normal in two dimensions."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    at = np.stack(np.meshgrid(z, z), -1).reshape(-1, 2)
    weight = np.outer(w, w).ravel() / w.sum() ** 2
    return jnp.asarray(at[weight > 1e-12]), jnp.asarray(weight[weight > 1e-12])


def curve(levels):
    """The error of the denoiser at each level."""
    return schedules.Curve(levels, _errors(levels), jnp.asarray(1 + STD**2), 2)


@jax.jit
def _errors(levels):
    """Mean squared error of the denoiser; all modes are alike, so the mean over one is that over all."""
    z, weights = plane(40)

    def mse(lam):
        v = jax.nn.sigmoid(lam) * STD**2 + jax.nn.sigmoid(-lam)

        def variance(z):
            logs, share = weighed(jnp.sqrt(jax.nn.sigmoid(lam)) * MODES[0] + jnp.sqrt(v) * z, lam)
            p = jax.nn.softmax(logs)
            apart = MODES - jnp.sum(p[:, None] * MODES, axis=0)[None]
            return share * STD**2 + share**2 * jnp.sum(p[:, None] * apart**2) / 2

        return jnp.sum(weights * jax.vmap(variance)(z))

    return jax.lax.map(mse, levels)
