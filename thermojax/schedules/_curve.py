r"""The cost of a schedule from one denoising curve: how well the data can be told from the noise, at each level."""

import abc
import warnings
from typing import Any, Literal, NamedTuple

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._levels import falling, noise, plan, several, signal
from .._types import Array, Key, Scalar
from ._chain import Denoiser, a_predictor, ask, chain

Tau = Literal["optimal", "posterior", "forward"]


class AbstractCurve(eqx.Module):
    r"""The mean squared error per coordinate of a denoiser against $\lambda$, and what else a schedule's cost needs."""

    second_moment: eqx.AbstractVar[Any]
    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, lam: Array) -> Array:
        r"""The errors at the levels `lam` `(n,)`."""

    def slope(self, lam: Array) -> Array:
        r"""$d\,\mathrm{mse}/d\lambda$."""
        value, slope = jax.vmap(jax.value_and_grad(lambda one: self(one[None])[0]))(lam)
        return jnp.where(jnp.isfinite(value), slope, jnp.nan)


class Curve(AbstractCurve):
    r"""The mean squared error per coordinate of a denoiser against the log signal-to-noise ratio $\lambda$.

    Calling it interpolates $\ln \mathrm{mse}$ by a cubic spline: an optimiser finds the kinks of a straight one. Outside
    `lam` it raises `ValueError`; while tracing, where nothing can be raised, it is NaN.
    `second_moment` is $\langle |x_0|^2 \rangle/d$, `dim` is d.
    """

    lam: Array  # rising
    mse: Array
    second_moment: Scalar
    dim: int = eqx.field(static=True)

    def __check_init__(self):
        lam = _checks.known(self.lam)
        if lam is not None:
            _rising(lam)

    def __call__(self, lam: Array) -> Array:
        level, range_ = _checks.known(lam), _checks.known(self.lam)
        if level is not None and range_ is not None:
            if level.min() < range_[0] or level.max() > range_[-1]:
                raise ValueError(
                    f"The curve is known for lam from {range_[0]:.6g} to {range_[-1]:.6g}, and was asked at "
                    f"{level.min():.6g} to {level.max():.6g}. Bound the schedule (LogSNR(..., low=, high=)), or take the "
                    "curve further."
                )
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            log = interpax.interp1d(lam, self.lam, jnp.log(self.mse), method="cubic2", extrap=False)
        return jnp.exp(log)


def _rising(lam: np.ndarray) -> None:
    """Where two knots meet, a spline bends anyhow."""
    if lam.ndim != 1 or lam.size < 2:
        raise ValueError(f"lam must hold at least two levels, (n,), got shape {lam.shape}.")
    late = np.flatnonzero(~(np.diff(lam) > 0))
    if late.size:
        i = int(late[0])
        raise ValueError(
            f"lam must rise strictly, without repetitions, but {lam[i + 1]:.6g} follows {lam[i]:.6g}: "
            "jnp.unique(lam)."
        )


def denoising_curve(
    denoise: Denoiser, data: Array, lam: Array, key: Key, *, draws: int = 8
) -> Curve:
    """The curve of a denoiser on `data` `(n, d)` at the levels `lam`, with `draws` noises per point, the same at each level.

    `lam`: two levels or more in any order, all different (`ValueError`; while tracing, the curve is NaN).
    Fit schedules on one part of the data and price them on another. The noise of the curve adds up over the levels: it moves
    the price of all schedules together, much more than their differences. Raises `ValueError` if the error is not finite and
    positive at some level. Warns if at some level the denoiser is worse than none, by a fifth: than x / a and than zero.
    Warns where the noise left on the data has become invisible (at the highest level, error below 0.01 of what it is for
    Gaussian data of the same variances): then the data are discrete, their entropy is minus infinity, and the first level
    of an optimised schedule runs away.
    """
    a_predictor("denoise", denoise)
    data, lam = _checks.floating("data", data), several("lam", lam)
    _checks.rank("data", data, {2}, "(n, d), one row per data point")
    _checks.one_float(data=data, lam=lam)
    if (levels := _checks.known(lam)) is not None:
        _rising(np.sort(levels))
    lam = -falling("lam", -jnp.sort(lam))
    key = _checks.key("key", key)
    draws = _checks.whole("draws", draws, "a whole number of noises per point")
    mse = _errors(denoise, data, lam, key, draws)
    value = _checks.known(mse)
    if value is not None and not (np.isfinite(value) & (value > 0)).all():
        i = int(np.flatnonzero(~(np.isfinite(value) & (value > 0)))[0])
        raise ValueError(
            f"denoise: its mean squared error is {value[i]} at lam = {float(lam[i]):.4g}. It must be finite and positive at "
            "every level: check the denoiser there, or give data a noise floor."
        )
    second = jnp.mean(data**2)
    u, each = jnp.exp(lam), jnp.var(data, axis=0)
    worse = _checks.known(jnp.minimum(u * mse, mse / second))
    if worse is not None and worse.max() > 1.2:
        i = int(worse.argmax())
        warnings.warn(
            f"At lam = {float(lam[i]):.4g} the denoiser is worse than none, by a factor {worse[i]:.3g}: does the network "
            "take a time (pass it schedule.time(lam)), or predict the noise (from_noise)?",
            stacklevel=2,
        )
    left = _checks.known(mse[-1] / jnp.mean(each / (1 + u[-1] * each)))
    if left is not None and left < 0.01:
        warnings.warn(
            f"At lam = {float(lam[-1]):.4g} the denoiser errs by {float(left):.1e} of what it would for Gaussian data: the "
            "data look discrete, without a noise floor, and their entropy is minus infinity. Add the noise that they were "
            "measured or rounded with (dequantise), or keep the first level below.",
            stacklevel=2,
        )
    return Curve(lam=lam, mse=mse, second_moment=second, dim=data.shape[1])


@eqx.filter_jit
def _errors(denoise: Any, data: Array, levels: Array, key: Key, draws: int) -> Array:
    normals = jax.random.normal(key, (draws, *data.shape), data.dtype)

    def at(lam: Scalar) -> Scalar:
        a, s = signal(lam), noise(lam)

        def one(x0: Array, z: Array) -> Scalar:
            return jnp.mean((ask("denoise", denoise, a * x0 + s * z, lam) - x0) ** 2)

        each = jax.vmap(jax.vmap(one), in_axes=(None, 0))
        return jnp.mean(each(data, normals))

    return jax.lax.map(at, levels)


def _one_float(curve: AbstractCurve, **named: Any) -> jnp.dtype:
    """The precision of the curve, and of what is asked of it."""
    arrays = jtu.tree_map(jnp.asarray, eqx.filter(curve, eqx.is_inexact_array))
    return _checks.one_float(curve=arrays, **named)


class Cost(NamedTuple):
    r"""$-$ELBO in nats, and its N + 1 parts: the decoder (k = 1), the steps k = 2 … N, and the end, KL of $x_N$ to noise."""

    total: Scalar
    parts: Array


def variances(lam: Array, curve: AbstractCurve, tau: Tau = "optimal") -> Array:
    r"""The variances $\tau_k$ of the generating kernels, `(N,)`.

    `"posterior"`: $\tilde\beta_k$; `"forward"`: $\beta_k$; `"optimal"`: $\tilde\beta_k + B_k^2\,\mathrm{mse}_k$, which
    costs least (Bao et al., ICLR 2022). For the decoder (k = 1) "posterior" means optimal: its $\tilde\beta$ is zero.
    """
    lam = falling("lam", lam)
    _one_float(curve, lam=lam)
    kernels, mse = chain(lam), curve(lam)
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
    lam, tau = (falling("lam", lam), tau) if isinstance(tau, str) else plan(lam, tau)
    _one_float(curve, lam=lam, tau=tau)
    half, mse, kernels = 0.5 * curve.dim, curve(lam), chain(lam)
    fixed = tau if not isinstance(tau, str) else variances(lam, curve, tau)
    gain = -jnp.exp(lam[:-1]) * jnp.expm1(jnp.diff(lam)) * mse[1:]
    if isinstance(tau, str) and tau == "optimal":
        steps = jnp.log1p(gain)
    else:
        ratio = fixed[1:] / kernels.posterior[1:]
        steps = jnp.log(ratio) + (1 + gain) / ratio - 1
    decoder = jnp.log(2 * jnp.pi * fixed[:1]) + mse[:1] / fixed[:1]
    log_s2 = jax.nn.log_sigmoid(-lam[-1:])
    end = jax.nn.sigmoid(lam[-1:]) * (curve.second_moment - 1) - log_s2
    parts = half * jnp.concatenate([decoder, steps, end])
    return Cost(jnp.sum(parts), parts)


def friction(lam: Array, curve: AbstractCurve, *, tau: Tau = "optimal") -> Array:
    r"""The thermodynamic metric g at each of `lam`: a small step dissipates $\tfrac12 g\,\delta\lambda^2$, in nats.

    With $u = e^\lambda$ and $T = -d\,\mathrm{mse}/du$, the mean square posterior covariance, $g = \tfrac d2 u^2 (T -
    \mathrm{mse}^2)$ for the optimal variance, $\tfrac d2 u^2 T$ for the posterior one, and $\tfrac d2 [u^2 (T -
    \mathrm{mse}^2) + (a^2 - u\,\mathrm{mse})^2]$ for the forward one.

    Source: Salamon & Berry, PRL 51, 1127 (1983); Crooks, PRL 99, 100602 (2007); for each kernel by expansion of
    `mean_work`.
    """
    lam = several("lam", lam)
    _one_float(curve, lam=lam)
    u, mse = jnp.exp(lam), curve(lam)
    spread = -u * curve.slope(lam)  # u^2 T
    excess = spread - (u * mse) ** 2
    if tau == "posterior":
        return 0.5 * curve.dim * spread
    if tau == "optimal":
        return 0.5 * curve.dim * excess
    if tau == "forward":
        return 0.5 * curve.dim * (excess + (jax.nn.sigmoid(lam) - u * mse) ** 2)
    raise ValueError(f'tau must be "optimal", "posterior" or "forward", got {tau!r}.')


def length(curve: AbstractCurve, top: Any, bottom: Any, *, tau: Tau = "optimal") -> Scalar:
    r"""The thermodynamic length $L = \int \sqrt g\,d\lambda$ from `bottom` to `top`: N steps dissipate at least about
    $L^2/2N$. Source: Crooks, PRL 99, 100602 (2007).
    """
    return _lengths(curve, top, bottom, tau)[1][-1]


def _lengths(curve: AbstractCurve, top: Any, bottom: Any, tau: Tau) -> tuple[Array, Array]:
    """A fine grid of levels, rising, and the length up to each."""
    given = {"top": _checks.floating("top", top), "bottom": _checks.floating("bottom", bottom)}
    dtype = _one_float(curve, **given)
    for name, end in given.items():
        _checks.rank(name, end, {0}, "(), one level")
    ends = falling("(top, bottom)", jnp.stack([end.astype(dtype) for end in given.values()]))
    curve(ends)  # says so here if it ends sooner
    return _integrated(curve, ends, tau)


@eqx.filter_jit
def _integrated(curve: AbstractCurve, ends: Array, tau: Tau) -> tuple[Array, Array]:
    lam = jnp.linspace(ends[1], ends[0], 4001)
    speed = jnp.sqrt(jnp.maximum(friction(lam, curve, tau=tau), 1e-12))
    gaps = 0.5 * (speed[1:] + speed[:-1]) * (ends[0] - ends[1]) / 4000
    return lam, jnp.concatenate([jnp.zeros(1, gaps.dtype), jnp.cumsum(gaps)])


def equal_length(
    curve: AbstractCurve,
    steps: int,
    top: Any,
    bottom: Any,
    *,
    tau: Tau = "optimal",
) -> Array:
    r"""N levels from `top` to `bottom` at equal thermodynamic length $\int \sqrt g\,d\lambda$, `(N,)`.

    The recipe without a search: near the optimum for many steps. Where noise in the curve makes g negative it counts as
    zero. Source: Salamon & Berry, PRL 51, 1127 (1983).
    """
    steps = _checks.whole("steps", steps, "a whole number of levels", 2)
    lam, lengths = _lengths(curve, top, bottom, tau)
    return jnp.interp(jnp.linspace(lengths[-1], 0, steps), lengths, lam)


def dissipation(lam: Array, curve: AbstractCurve, *, tau: Tau | Array = "optimal") -> Array:
    r"""What each step k = 2 … N dissipates, `(N - 1,)` in nats: its cost minus the area under the curve,

    $$d_k = \mathrm{cost}_k - \tfrac d2 \int_{u_k}^{u_{k-1}} \mathrm{mse}\,du \ge 0$$

    for the exact denoiser (I-MMSE: Guo, Shamai & Verdú, IEEE Trans. Inf. Theory 51, 1261 (2005)); all equal at the
    optimum of many steps. The first area, from $u_1$ to infinity, belongs to the decoder and is not known.
    """
    lam = falling("lam", lam)
    costs = mean_work(lam, curve, tau=tau).parts[1:-1]
    return costs - 0.5 * curve.dim * _areas(lam, curve)


@eqx.filter_jit
def _areas(lam: Array, curve: AbstractCurve) -> Array:
    r"""$\int \mathrm{mse}\,du$ between the levels, by Gauss and Legendre."""
    nodes, weights = (jnp.asarray(v, lam.dtype)[None] for v in np.polynomial.legendre.leggauss(24))
    half, middle = (0.5 * v[:, None] for v in (lam[:-1] - lam[1:], lam[:-1] + lam[1:]))
    inside = middle + half * nodes
    mse = curve(inside.reshape(-1)).reshape(inside.shape)
    return jnp.sum(half * weights * jnp.exp(inside) * mse, axis=1)
