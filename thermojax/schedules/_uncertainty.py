r"""How uncertain a step of noising leaves the state before it: bounds from the schedule alone, the value by a curve."""

from typing import NamedTuple

import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._types import Array
from ..diffusion import chain
from ._cost import areas
from ._curve import AbstractCurve, precision


class Uncertainty(NamedTuple):
    r"""Entropies $H(x_{k-1} | x_k)$ in nats, `(N,)`, step k at index k − 1: `lower` and `upper` bounds, and the `value` by a
    curve, None without one. See `uncertainty`."""

    lower: Array
    upper: Array
    value: Array | None


def uncertainty(lam: Array, dim: int, *, curve: AbstractCurve | None = None) -> Uncertainty:
    r"""Bounds of the entropy that each step of generation has to produce, from the schedule alone, in nats:

    $$H(x_k | x_{k-1}) + H(x_{k-1} | x_0) - H(x_k | x_0) \le H(x_{k-1} | x_k) \le H(x_k | x_{k-1}),$$

    that is $\tfrac d2 \ln 2\pi e \tilde\beta_k$ and $\tfrac d2 \ln 2\pi e \beta_k$, for d = `dim` coordinates in the scale
    of VP. The lower one holds for all data, and is reached where $x_0$ is known from $x_k$; the upper one where noising
    raises the entropy, $H(x_k) \ge H(x_{k-1})$, as it does for data of variance 1 or less. For the first step, to
    clean data, the lower bound is $-\infty$. The two differ by $\tfrac d2 \ln s_k^2/s_{k-1}^2$, little for fine steps.

    With the `curve` of a denoiser, what lies between is its area: with $u = e^\lambda$

    $$H(x_{k-1} | x_k) = \tfrac d2 \ln 2\pi e \tilde\beta_k + \tfrac d2 \int_{u_k}^{u_{k-1}} \mathrm{mmse}\,du ,$$

    exactly for the exact denoiser, and from above for a learned one; NaN for the first step, where it needs the entropy of
    the data. Source: Sohl-Dickstein et al., ICML 2015, app. A; Guo, Shamai & Verdú, IEEE Trans. Inf. Theory 51, 1261 (2005).
    """
    lam = _checks.falling("lam", lam)
    dim = _checks.whole("dim", dim, "the number of coordinates")
    if curve is None:
        return _bounds(lam, dim)
    if curve.dim != dim:
        raise ValueError(f"dim must be that of the curve, {curve.dim}, got {dim}.")
    precision(curve, lam=lam)
    bounds = _bounds(lam, dim)
    between = jnp.concatenate([jnp.full_like(lam[:1], jnp.nan), areas(lam, curve)])
    return bounds._replace(value=bounds.lower + between)


@jit
def _bounds(lam: Array, dim: int) -> Uncertainty:
    kernels = chain(lam)
    lower, upper = (
        0.5 * dim * (1 + jnp.log(2 * jnp.pi * v)) for v in (kernels.posterior, kernels.noise)
    )
    return Uncertainty(lower, upper, None)
