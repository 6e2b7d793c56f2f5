r"""The likelihood of what N steps generate as a loss of the schedule: what is searched is then what is sampled."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, ArrayLike, Key, Scalar
from ..diffusion import Network, Predictor
from ..optimal import AbstractExactLoss
from ._chain import denoiser
from ._cost import Tau, variances
from ._curve import AbstractCurve
from ._likelihood import AT_ONCE, PATHS, points_of
from ._logsnr import LogSNR
from ._ode import Order, density_of

POINTS = 1024  # at once


class LikelihoodCost(eqx.Module):
    r"""$-\langle\ln p_N\rangle$ of the chain of a schedule, as a loss; made by `likelihood_cost_of`."""

    net: Predictor
    data: Array
    curve: AbstractCurve
    tau: Tau | Array
    paths: int = eqx.field(static=True)

    def __call__(self, schedule: LogSNR, key: Key) -> Scalar:
        """Of `schedule()`, in nats, with the noise of one key."""
        lam = schedule()
        tau = variances(lam, self.curve, tau=self.tau) if isinstance(self.tau, str) else self.tau
        lam, tau = _checks.plan(lam, tau)
        batch = max(AT_ONCE // self.paths, 1)
        points = points_of(lam, self.net, self.data, key, tau, self.paths, "ddpm", batch)
        return -jnp.mean(points.value)


def likelihood_cost_of(
    denoise: Network | Predictor,
    data: Array,
    curve: AbstractCurve,
    *,
    tau: Tau | Array = "optimal",
    paths: int = 64,
) -> LikelihoodCost:
    r"""The negative log-likelihood of `data` `(n, d)` by `log_prob` as a loss for `optimal.search`, where `cost_of` is the
    path-level one. The variances are those of the curve at each schedule, or `tau` `(N,)`.

    It costs n N `paths` calls of the network a step, and has the noise of its paths. One path: the path-level cost.
    """
    net, data = denoiser(denoise), _rows(data)
    if not isinstance(curve, AbstractCurve):
        raise TypeError(
            f"curve must be a curve such as thermojax.schedules.denoising_curve(...), got {type(curve).__name__}."
        )
    if curve.dim != data.shape[1]:
        raise ValueError(
            f"curve must be that of data with as many coordinates as these, {data.shape[1]}, and it is of {curve.dim}."
        )
    return LikelihoodCost(net, data, curve, tau, _checks.whole("paths", paths, PATHS))


class OdeCost(AbstractExactLoss):
    r"""$-\langle\ln p_N\rangle$ of the deterministic sampler of a schedule, as a loss; made by `ode_cost_of`."""

    net: Predictor
    data: Array
    first: Array
    order: Order = eqx.field(static=True)

    def __call__(self, schedule: LogSNR, key: Key | None = None) -> Scalar:
        """Of the levels `first` and `schedule()`, in nats. There is nothing random about it: the key is not used."""
        return -jnp.mean(self._log_probs(schedule))

    def _log_probs(self, schedule: LogSNR) -> Array:
        lam = _checks.falling("(first, *schedule())", jnp.append(self.first, schedule()))

        @jax.checkpoint
        def one(x0: Array) -> Scalar:
            return density_of(lam, self.net, x0, self.order, None).value

        return jax.lax.map(one, self.data, batch_size=POINTS)

    def check(self) -> None:
        """There is nothing finer: hold data out, and price the schedule on them."""
        return None

    def failures(self, protocol: LogSNR, key: Key) -> str:
        marked = jnp.sum(~jnp.isfinite(self._log_probs(protocol)))
        return f"{int(marked)} of {len(self.data)} points have no density: a step was not inverted (ode_log_prob)."

    def likelihood_ratio(self, protocol: LogSNR, key: Key) -> Scalar:
        raise ValueError(
            'gradient="score" is for averages over paths, and this loss has none: its gradient is exact.'
        )


def ode_cost_of(
    denoise: Network | Predictor, data: Array, first: ArrayLike, *, order: Order = 1
) -> OdeCost:
    r"""The negative log-likelihood by `ode_log_prob` as a loss for `optimal.search`: of the N levels of a `LogSNR` below the
    level `first`, where all schedules stop, and the `data` `(n, d)` are, in the scale of VP. Without noise.

    `first` is not searched: a density at another level is another number. Give the schedule `high=first`, or less. A
    schedule fits the points it is searched on: price it on others.
    """
    data = _rows(data)
    first = _checks.floating("first", first).astype(data.dtype)
    _checks.rank("first", first, {0}, "(), one level")
    return OdeCost(denoiser(denoise), data, first, order)


def _rows(data: Array) -> Array:
    data = _checks.floating("data", data)
    _checks.rank("data", data, {2}, "(n, d), one row per data point")
    return data
