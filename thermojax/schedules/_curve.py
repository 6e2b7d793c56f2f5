r"""The denoising curve: how well the data can be told from the noise, at each level."""

import abc
import functools as ft
import warnings

import equinox as eqx
import interpax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks
from .._jit import jit
from .._types import Array, ArrayLike, Key, PyTree, Scalar
from ..diffusion import VP, Network, Predictor
from ._chain import denoiser


class AbstractCurve(eqx.Module):
    r"""The mean squared error per coordinate of a denoiser against $\lambda$, and what else a schedule's cost needs."""

    second_moment: eqx.AbstractVar[ArrayLike]
    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, lam: Array) -> Array:
        r"""The errors at the levels `lam` `(n,)`. What they must not be is refused here where their values are known."""

    def slope(self, lam: Array) -> Array:
        r"""$d\,\mathrm{mse}/d\lambda$."""
        value, slope = jax.vmap(jax.value_and_grad(lambda one: self(one[None])[0]))(lam)
        return jnp.where(jnp.isfinite(value), slope, jnp.nan)


class Curve(AbstractCurve):
    r"""The mean squared error per coordinate of a denoiser against the log signal-to-noise ratio $\lambda$.

    Calling it interpolates $\ln \mathrm{mse}$ by a cubic spline: an optimiser finds the kinks of a straight one. Outside
    `lam` it raises `ValueError`; while tracing, where nothing can be raised, it is NaN.
    `lam` `(n,)` rises, and `mse` is one positive error for each; `second_moment` is $\langle |x_0|^2 \rangle/d$, `dim` d.
    """

    lam: Array = eqx.field(converter=ft.partial(_checks.floating, "Curve.lam"))
    mse: Array = eqx.field(converter=ft.partial(_checks.floating, "Curve.mse", positive=True))
    second_moment: Scalar = eqx.field(converter=ft.partial(_checks.floating, "Curve.second_moment"))
    dim: int = eqx.field(static=True)

    def __check_init__(self):
        lam = _checks.known(self.lam)
        if lam is not None:
            _rising(lam)
        if self.mse.shape != self.lam.shape:
            raise ValueError(
                f"Curve.mse must be one error for each of the levels lam, {self.lam.shape}, got {self.mse.shape}."
            )

    def __call__(self, lam: Array) -> Array:
        level, range_ = _checks.known(lam), _checks.known(self.lam)
        if level is not None and range_ is not None:
            if level.min() < range_[0] or level.max() > range_[-1]:
                raise ValueError(
                    f"The curve is known for lam from {range_[0]:.6g} to {range_[-1]:.6g}, and was asked at "
                    f"{level.min():.6g} to {level.max():.6g}. Bound the schedule (LogSNR(..., low=, high=)), or take the "
                    "curve further."
                )
        return _interpolated(lam, self.lam, self.mse)


@jax.jit
def _interpolated(at: Array, lam: Array, mse: Array) -> Array:
    wide = jnp.result_type(float)  # the only precision of these splines
    knots, log = lam.astype(wide), jnp.log(mse).astype(wide)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        # half of what interpax.interp1d takes to compile, with the same result
        found = interpax.CubicSpline(knots, log, check=False)(at.astype(wide), extrapolate=False)
    return jnp.exp(found.astype(at.dtype))


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
    denoise: Network | Predictor, data: Array, lam: Array, key: Key, *, draws: int = 8
) -> Curve:
    """The curve of a denoiser on `data` `(n, d)` at the levels `lam`, with `draws` noises per point, the same at each level.

    `denoise`: a `diffusion.Predictor`, or the clean state as a plain callable `(x, lam)` in the scale of VP.
    `lam`: two levels or more in any order, all different (`ValueError`; while tracing, the curve is NaN).
    Fit schedules on one part of the data and price them on another. The noise of the curve adds up over the levels: it moves
    the price of all schedules together, much more than their differences. Raises `ValueError` if the error is not finite and
    positive at some level. Warns if at some level the denoiser is worse than none, by a fifth: than x / a and than zero.
    Warns where the noise left on the data has become invisible (at the highest level, error below 0.01 of what it is for
    Gaussian data of the same variances): then the data are discrete, their entropy is minus infinity, and the first level
    of an optimised schedule runs away.
    """
    net = denoiser(denoise)
    data, lam = _checks.floating("data", data), _checks.levels("lam", lam)
    _checks.rank("data", data, {2}, "(n, d), one row per data point")
    _checks.one_float(data=data, lam=lam)
    if (levels := _checks.known(lam)) is not None:
        _rising(np.sort(levels))
    lam = -_checks.falling("lam", -jnp.sort(lam))
    key = _checks.key("key", key)
    draws = _checks.whole("draws", draws, "a whole number of noises per point")
    mse, second, worse, left = _measured(net, data, lam, key, draws)
    value, factor, share = (_checks.known(v) for v in (mse, worse, left))
    if value is not None and not (np.isfinite(value) & (value > 0)).all():
        i = int(np.flatnonzero(~(np.isfinite(value) & (value > 0)))[0])
        raise ValueError(
            f"denoise: its mean squared error is {value[i]} at lam = {float(lam[i]):.4g}. It must be finite and positive at "
            "every level: check the denoiser there, or give data a noise floor."
        )
    if factor is not None and factor.max() > 1.2:
        i = int(factor.argmax())
        warnings.warn(
            f"At lam = {float(lam[i]):.4g} the denoiser is worse than none, by a factor {factor[i]:.3g}: does the network "
            'take a time (pass it schedule.time(lam)), or predict the noise (diffusion.predictor(net, "noise"))?',
            stacklevel=2,
        )
    if share is not None and share < 0.01:
        warnings.warn(
            f"At lam = {float(lam[-1]):.4g} the denoiser errs by {float(share):.1e} of what it would for Gaussian data: the "
            "data look discrete, without a noise floor, and their entropy is minus infinity. Add the noise that they were "
            "measured or rounded with (dequantise), or keep the first level below.",
            stacklevel=2,
        )
    return Curve(lam=lam, mse=mse, second_moment=second, dim=data.shape[1])


@jit
def _measured(
    net: Predictor, data: Array, levels: Array, key: Key, draws: int
) -> tuple[Array, Scalar, Array, Scalar]:
    """The errors; the second moment of the data; the errors over those of no denoiser, and the last over a Gaussian's."""
    normals = jax.random.normal(key, (draws, *data.shape), data.dtype)

    def at(lam: Scalar) -> Scalar:
        a, s = VP().signal(lam), VP().noise(lam)

        def one(x0: Array, z: Array) -> Scalar:
            return jnp.mean((net.clean(a * x0 + s * z, lam) - x0) ** 2)

        each = jax.vmap(jax.vmap(one), in_axes=(None, 0))
        return jnp.mean(each(data, normals))

    mse = jax.lax.map(at, levels)
    u, second, variances = jnp.exp(levels), jnp.mean(data**2), jnp.var(data, axis=0)
    worse = jnp.minimum(u * mse, mse / second)
    return mse, second, worse, mse[-1] / jnp.mean(variances / (1 + u[-1] * variances))


def precision(curve: AbstractCurve, **named: PyTree) -> jnp.dtype:
    """That of the curve, and of what is asked of it."""
    arrays = jtu.tree_map(jnp.asarray, eqx.filter(curve, eqx.is_inexact_array))
    return _checks.one_float(curve=arrays, **named)
