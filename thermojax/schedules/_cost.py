r"""The mean work of a schedule from one denoising curve, what each of its steps dissipates, and the best variances."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._renamed import by_keyword
from .._types import Array, Key, Scalar
from ..diffusion import chain
from ._curve import AbstractCurve, precision
from ._logsnr import LogSNR

Tau = Literal["optimal", "posterior", "forward"]


class Cost(NamedTuple):
    r"""$-$ELBO in nats, and its N + 1 `parts`: `steps`, the cost of each step `(N,)`, step k at index k − 1 (the first is
    the decoder's), and `end`, KL of $x_N$ to noise.
    """

    total: Scalar
    parts: Array

    @property
    def steps(self) -> Array:
        """The cost of each step, `(N,)`."""
        return self.parts[:-1]

    @property
    def end(self) -> Scalar:
        """The cost of the end."""
        return self.parts[-1]


@by_keyword("tau")
def variances(lam: Array, curve: AbstractCurve, *, tau: Tau = "optimal") -> Array:
    r"""The variances $\tau_k$ `(N,)` of the generating kernels, step k at index k − 1, for the chain with the levels `lam`.

    `"forward"`: $\beta_k$. `"posterior"`: $\tilde\beta_k$. `"optimal"`: $\tilde\beta_k + B_k^2\,\mathrm{mse}_k$, which
    costs least (Bao et al., ICLR 2022). For the decoder (k = 1) "posterior" means optimal: its $\tilde\beta$ is zero.
    """
    lam = _checks.falling("lam", lam)
    precision(curve, lam=lam)
    return _variances(lam, curve(lam), tau)


@jit
def _variances(lam: Array, mse: Array, tau: Tau) -> Array:
    kernels = chain(lam)
    best = kernels.posterior + kernels.add**2 * mse
    if tau == "optimal":
        return best
    if tau == "forward":
        return kernels.noise
    if tau == "posterior":
        return kernels.posterior.at[0].set(best[0])
    raise ValueError(f'tau must be "optimal", "posterior" or "forward", got {tau!r}.')


def mean_work(lam: Array, curve: AbstractCurve, *, tau: Tau | Array = "optimal") -> Cost:
    r"""The mean work of a schedule plus the entropy of the data, $\langle w \rangle + S_0 = -$ELBO, in nats:

    $$-\mathrm{ELBO} = \tfrac d2 \Big[\ln 2\pi\tau_1 + \tfrac{\mathrm{mse}_1}{\tau_1}\Big] + \sum_{k \ge 2} \tfrac d2
      \Big[\ln r_k + \tfrac{1 + (u_{k-1} - u_k)\,\mathrm{mse}_k}{r_k} - 1\Big]
      + \tfrac d2 \big[a_N^2 m_2 + s_N^2 - 1 - \ln s_N^2\big],$$

    $r_k = \tau_k/\tilde\beta_k$, $u = e^\lambda$, $m_2 = \langle|x_0|^2\rangle/d$. Differentiable in the schedule.
    Levels that do not fall strictly raise `ValueError`; while tracing, the cost is NaN.
    With the optimal variance a step costs $\tfrac d2 \ln[1 + (u_{k-1} - u_k)\,\mathrm{mse}_k]$.

    Source: Kingma et al., NeurIPS 2021, eqs. 11 to 15 (posterior variance); Bao et al., ICLR 2022 (optimal).
    """
    if isinstance(tau, str):
        lam = _checks.falling("lam", lam)
    else:
        lam, tau = _checks.plan(lam, tau)
    precision(curve, lam=lam, tau=tau)
    return _cost(lam, curve(lam), tau, jnp.asarray(curve.second_moment), curve.dim)


@jit
def _cost(lam: Array, mse: Array, tau: Tau | Array, second_moment: Array, dim: int) -> Cost:
    fixed = _variances(lam, mse, tau) if isinstance(tau, str) else tau
    gain = -jnp.exp(lam[:-1]) * jnp.expm1(jnp.diff(lam)) * mse[1:]
    if isinstance(tau, str) and tau == "optimal":
        steps = jnp.log1p(gain)
    else:
        ratio = fixed[1:] / chain(lam).posterior[1:]
        steps = jnp.log(ratio) + (1 + gain) / ratio - 1
    decoder = jnp.log(2 * jnp.pi * fixed[:1]) + mse[:1] / fixed[:1]
    log_s2 = jax.nn.log_sigmoid(-lam[-1:])
    end = jax.nn.sigmoid(lam[-1:]) * (second_moment - 1) - log_s2
    parts = 0.5 * dim * jnp.concatenate([decoder, steps, end])
    return Cost(jnp.sum(parts), parts)


def dissipation(lam: Array, curve: AbstractCurve, *, tau: Tau | Array = "optimal") -> Array:
    r"""What each step k = 2 … N dissipates, `(N - 1,)` in nats, step k at index k − 2: its cost minus the area under the
    curve,

    $$d_k = \mathrm{cost}_k - \tfrac d2 \int_{u_k}^{u_{k-1}} \mathrm{mse}\,du \ge 0$$

    for the exact denoiser (I-MMSE: Guo, Shamai & Verdú, IEEE Trans. Inf. Theory 51, 1261 (2005)); all equal at the
    optimum of many steps. The first area, from $u_1$ to infinity, belongs to the decoder and is not known.
    """
    lam = _checks.falling("lam", lam)
    return mean_work(lam, curve, tau=tau).steps[1:] - areas(lam, curve)


@jit
def areas(lam: Array, curve: AbstractCurve) -> Array:
    r"""$\tfrac d2 \int \mathrm{mse}\,du$ between the levels, `(N - 1,)`, by Gauss and Legendre."""
    nodes, weights = (jnp.asarray(v, lam.dtype)[None] for v in np.polynomial.legendre.leggauss(24))
    half, middle = (0.5 * v[:, None] for v in (lam[:-1] - lam[1:], lam[:-1] + lam[1:]))
    inside = middle + half * nodes
    mse = curve(inside.reshape(-1)).reshape(inside.shape)
    return 0.5 * curve.dim * jnp.sum(half * weights * jnp.exp(inside) * mse, axis=1)


class CostOf(eqx.Module):
    """The `mean_work` of a schedule by a curve, as a loss; made by `cost_of`."""

    curve: AbstractCurve
    tau: Tau | Array

    def __call__(self, schedule: LogSNR, key: Key | None = None) -> Scalar:
        """Of `schedule()`, in nats. There is nothing random about it: the key is not used."""
        return mean_work(schedule(), self.curve, tau=self.tau).total


def cost_of(curve: AbstractCurve, *, tau: Tau | Array = "optimal") -> CostOf:
    """The cost of a schedule as a loss for `optimal.search`, or for a loop of one's own: `cost_of(curve)(schedule)`.

    `search(cost_of(curve), LogSNR.cosine(25), key, steps=500)` finds the levels that dissipate least.
    """
    if not isinstance(curve, AbstractCurve):
        raise TypeError(
            f"curve must be a curve such as thermojax.schedules.denoising_curve(...), got {type(curve).__name__}."
        )
    return CostOf(curve, tau)
