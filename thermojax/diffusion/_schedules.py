r"""Noise schedules in continuous time: the log signal-to-noise ratio as a falling function of t, which is a protocol."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._types import Array, ArrayLike, PyTree, Scalar, Time
from ..protocols import AbstractProtocol
from ._kinds import Level, excess


class AbstractSchedule(AbstractProtocol):
    r"""$\lambda(t)$, falling from `t0` to `t1`; as a protocol, its value is `Level(lam, rate)`.

    A schedule of one's own says what $\lambda$ is at a time, when it starts and stops, whether it starts from clean data
    ($\lambda = \infty$), and which of its leaves are given, not for a search to change. Here $\lambda = L(1 - 2t^p)$:

    ```python
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from thermojax import diffusion

    class Power(diffusion.AbstractSchedule):
        top: jax.Array
        power: jax.Array
        t0: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)
        t1: jax.Array = eqx.field(default=1.0, converter=jnp.asarray)
        clean = False

        def log_snr(self, t):
            return self.top * (1 - 2 * t**self.power)

        def given(self):
            return self.t0, self.t1

    print(Power(jnp.asarray(6.0), jnp.asarray(1.5))(0.5))
    ```
    """

    clean: eqx.AbstractVar[bool]
    """Whether it starts from clean data, as far as that is known while tracing."""

    @abc.abstractmethod
    def log_snr(self, t: Scalar) -> Scalar:
        r"""$\lambda(t) = \ln a^2/s^2$."""

    @abc.abstractmethod
    def given(self) -> tuple[PyTree, ...]:
        """The leaves that a search must not change: its times."""

    def __call__(self, t: Time) -> Level:
        t = jnp.asarray(t)
        if t.ndim:
            raise ValueError(f"A schedule is called with one time t, got shape {t.shape}. Vmap it.")
        # held at the ends, with the slope of the inside there, which jnp.clip halves
        t = jnp.where(t < self.t0, self.t0, jnp.where(t > self.t1, self.t1, t))
        lam, slope = jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))
        return Level(lam, -slope)

    @property
    def before(self) -> Level:
        return self(self.t0)

    @property
    def after(self) -> Level:
        return self(self.t1)


def _span(t0: Time, t1: Time, low: float = 0.0, high: float = np.inf) -> tuple[Array, Array]:
    start, stop = _checks.known(t0), _checks.known(t1)
    t0, t1 = _checks.floating("t0", t0), _checks.floating("t1", t1)
    if start is not None and stop is not None and not low <= start < stop <= high:
        raise ValueError(
            f"A noise schedule needs {low} <= t0 < t1 <= {high}, got t0 = {start} and t1 = {stop}."
        )
    if start is None or stop is None:
        inside = (low <= t0) & (t0 < t1) & (t1 <= high)
        t1 = _checks.marked(t1, inside, f"A noise schedule needs {low} <= t0 < t1 <= {high}.")
    return t0, t1


class Linear(AbstractSchedule):
    r"""$b(t) = b_0 + (b_1 - b_0)\,t$, $B = \int_0^t b$: $a^2 = e^{-B}$.

    $\lambda = -B - \ln(1 - e^{-B})$ for VP, and $-B - 2\ln(1 - e^{-B})$ with `sub=True`, for sub-VP. At t = 0 the data are
    clean, $\lambda = \infty$. Source: Song et al., ICLR 2021, app. C.
    """

    b0: Array
    b1: Array
    t0: Array
    t1: Array
    sub: bool = eqx.field(static=True)

    def __init__(
        self,
        b0: ArrayLike = 0.1,
        b1: ArrayLike = 20.0,
        *,
        t0: Time = 1e-3,
        t1: Time = 1.0,
        sub: bool = False,
    ):
        self.b0 = _checks.floating("Linear.b0", b0, positive=True)
        self.b1 = _checks.floating("Linear.b1", b1, positive=True)
        self.t0, self.t1 = _span(t0, t1)
        last = _checks.known(self.b0 + (self.b1 - self.b0) * self.t1)
        if last is None:
            rising = self.b0 + (self.b1 - self.b0) * self.t1 > 0
            self.b1 = _checks.marked(self.b1, rising, "Linear's rate at t1 must be above zero.")
        elif not last > 0:
            raise ValueError(f"Linear's rate at t1 must be greater than zero, got {last:.6g}.")
        self.sub = sub

    @property
    def clean(self) -> bool:
        return bool(_checks.known(self.t0) == 0)

    def given(self) -> tuple[PyTree, ...]:
        return self.t0, self.t1

    def log_snr(self, t: Scalar) -> Scalar:
        total = self.b0 * t + 0.5 * (self.b1 - self.b0) * t**2
        noisy = ~(total <= 0)  # clean data at t = 0: infinite, whatever the parameters
        total = jnp.where(noisy, total, 1)
        lam = -total - (1 + self.sub) * jnp.log(-jnp.expm1(-total))
        return jnp.where(noisy, lam, jnp.inf)

    def time(self, lam: ArrayLike) -> Array:
        r"""The t at which $\lambda(t)$ = `lam`, one or many: for networks that take a time."""
        lam = jnp.asarray(lam)
        total = jnp.log1p(0.5 * excess(lam)) if self.sub else jax.nn.softplus(-lam)
        return 2 * total / (self.b0 + jnp.sqrt(self.b0**2 + 2 * (self.b1 - self.b0) * total))


class Cosine(AbstractSchedule):
    r"""$a^2 = \cos^2\theta / \cos^2\theta_0$, $\theta = \tfrac\pi2 \tfrac{t + r}{1 + r}$, with `offset` r, $\theta_0$ at 0.

    `t1` stays below 1, where nothing of the data is left. Source: Nichol & Dhariwal, ICML 2021, eq. 17.
    """

    offset: Array
    t0: Array
    t1: Array

    def __init__(self, *, offset: ArrayLike = 0.008, t0: Time = 1e-3, t1: Time = 0.999):
        self.offset = _checks.floating("Cosine.offset", offset, positive=True)
        self.t0, self.t1 = _span(t0, t1, high=1 - 1e-6)

    @property
    def _first(self) -> Array:
        return 0.5 * jnp.pi * self.offset / (1 + self.offset)

    @property
    def clean(self) -> bool:
        return bool(_checks.known(self.t0) == 0)

    def given(self) -> tuple[PyTree, ...]:
        return self.t0, self.t1

    def log_snr(self, t: Scalar) -> Scalar:
        turned = 0.5 * jnp.pi * t / (1 + self.offset)  # theta - theta_0
        first = self._first
        # cos^2 theta_0 - cos^2 theta = sin(theta - theta_0) sin(theta + theta_0)
        noisy = ~(turned <= 0)
        rest = jnp.sin(jnp.where(noisy, turned, 1)) * jnp.sin(turned + 2 * first)
        return jnp.where(noisy, 2 * jnp.log(jnp.cos(turned + first)) - jnp.log(rest), jnp.inf)

    def time(self, lam: ArrayLike) -> Array:
        r"""The t at which $\lambda(t)$ = `lam`, one or many: for networks that take a time."""
        level = jnp.asarray(lam)
        sin, cos = jnp.sin(self._first), jnp.cos(self._first)  # of theta_0
        noise = jax.nn.sigmoid(-level)
        upper = jnp.sqrt(sin**2 + cos**2 * noise)  # sin theta
        lower = cos * jnp.exp(0.5 * jax.nn.log_sigmoid(level))  # cos theta
        # the angle theta - theta_0 by its sine and cosine, of which none is a difference
        turned = jnp.arctan2(
            cos**2 * noise / (upper * cos + lower * sin), lower * cos + upper * sin
        )
        return turned * 2 * (1 + self.offset) / jnp.pi


class EDM(AbstractSchedule):
    r"""$\sigma = e^{-\lambda/2}$, linear in $\sigma^{1/\rho}$ from $\sigma_{min}$ to $\sigma_{max}$ over t from 0 to 1.

    Source: Karras, Aittala, Aila & Laine, NeurIPS 2022, eq. 5.
    """

    sigma_min: Array
    sigma_max: Array
    rho: Array
    t0: Array
    t1: Array
    clean = False

    def __init__(
        self,
        sigma_min: ArrayLike = 0.002,
        sigma_max: ArrayLike = 80.0,
        *,
        rho: ArrayLike = 7.0,
        t0: Time = 0.0,
        t1: Time = 1.0,
    ):
        low, high = _checks.known(sigma_min), _checks.known(sigma_max)
        self.sigma_min = _checks.floating("EDM.sigma_min", sigma_min, positive=True)
        self.sigma_max = _checks.floating("EDM.sigma_max", sigma_max, positive=True)
        if low is None or high is None:
            rising = self.sigma_min < self.sigma_max
            message = "EDM needs sigma_min < sigma_max."
            self.sigma_max = _checks.marked(self.sigma_max, rising, message)
        elif not low < high:
            raise ValueError(f"EDM needs sigma_min < sigma_max, got {low} and {high}.")
        self.rho = _checks.floating("EDM.rho", rho, positive=True)
        self.t0, self.t1 = _span(t0, t1, high=1.0)

    def given(self) -> tuple[PyTree, ...]:
        return self.t0, self.t1

    def log_snr(self, t: Scalar) -> Scalar:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return -2 * self.rho * jnp.log(low + t * (high - low))

    def time(self, lam: ArrayLike) -> Array:
        r"""The t at which $\lambda(t)$ = `lam`, one or many: for networks that take a time."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (jnp.exp(-0.5 * jnp.asarray(lam) / self.rho) - low) / (high - low)


class Uniform(AbstractSchedule):
    r"""$\lambda$ linear from `top` to `bottom` over t from 0 to 1: geometric in $\sigma$, the schedule of VE.

    Source: Song et al., ICLR 2021, app. C; Kingma et al., NeurIPS 2021.
    """

    top: Array
    bottom: Array
    t0: Array
    t1: Array
    clean = False

    def __init__(
        self, top: ArrayLike = 10.0, bottom: ArrayLike = -10.0, *, t0: Time = 0.0, t1: Time = 1.0
    ):
        high, low = _checks.known(top), _checks.known(bottom)
        self.top = _checks.floating("Uniform.top", top)
        self.bottom = _checks.floating("Uniform.bottom", bottom)
        if high is None or low is None:
            falling = self.bottom < self.top
            self.top = _checks.marked(self.top, falling, "Uniform needs bottom < top.")
        elif not low < high:
            raise ValueError(
                f"A noise schedule falls: Uniform needs bottom < top, got {low} and {high}."
            )
        self.t0, self.t1 = _span(t0, t1, high=1.0)

    def given(self) -> tuple[PyTree, ...]:
        return self.t0, self.t1

    def log_snr(self, t: Scalar) -> Scalar:
        return self.top + t * (self.bottom - self.top)

    def time(self, lam: ArrayLike) -> Array:
        r"""The t at which $\lambda(t)$ = `lam`, one or many: for networks that take a time."""
        return (self.top - jnp.asarray(lam)) / (self.top - self.bottom)


class SigmaT(AbstractSchedule):
    r"""The toy of VE: $g = \sigma^t$, so $s^2 = (\sigma^{2t} - 1) / (2 \ln\sigma)$ and $\lambda = -\ln s^2$.

    `sigma` > 1. At t = 0 the data are clean. Source: Song et al., ICLR 2021, in its tutorial ($\sigma = 25$).
    """

    sigma: Array
    t0: Array
    t1: Array

    def __init__(self, sigma: ArrayLike = 25.0, *, t0: Time = 1e-3, t1: Time = 1.0):
        sigma = _checks.floating("SigmaT.sigma", sigma, positive=True)
        self.sigma = _checks.must("SigmaT.sigma", sigma, sigma > 1, "above 1", got=sigma)
        self.t0, self.t1 = _span(t0, t1)

    @property
    def clean(self) -> bool:
        return bool(_checks.known(self.t0) == 0)

    def given(self) -> tuple[PyTree, ...]:
        return self.t0, self.t1

    def log_snr(self, t: Scalar) -> Scalar:
        rate = 2 * jnp.log(self.sigma)
        noisy = ~(t <= 0)
        lam = jnp.log(rate) - jnp.log(jnp.expm1(rate * jnp.where(noisy, t, 1)))
        return jnp.where(noisy, lam, jnp.inf)

    def time(self, lam: ArrayLike) -> Array:
        r"""The t at which $\lambda(t)$ = `lam`, one or many: for networks that take a time."""
        rate = 2 * jnp.log(self.sigma)
        return jnp.log1p(rate * jnp.exp(-jnp.asarray(lam))) / rate
