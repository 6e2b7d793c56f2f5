r"""The density of a deterministic sampler of N steps: DDIM's, or EDM's by Heun, inverted step by step.

With $y = x/a$, $\sigma = s/a = e^{-\lambda/2}$ the probability flow is $dy/d\sigma = (y - D(y, \sigma))/\sigma$, D the clean
state that is seen. A step of Euler's scheme, from $\sigma$ to $\sigma' < \sigma$, is DDIM's,

$$y' = r y + (1 - r)\, D(y, \sigma), \qquad r = \sigma'/\sigma .$$

With the exact D it is the gradient of a strongly convex function, $D = y + \sigma^2 \nabla \ln p$ being that of a convex
one, and has one inverse. A network's need not have any: its residual and the sign of its determinant are watched.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._normal import Normal
from .._products import matmul
from .._types import Array, Bool, Density, Scalar, State
from ..diffusion import VP, Network, Predictor
from ._chain import denoiser
from ._elimination import inverse

Order = Literal[1, 2]
Step = Callable[[State], State]
ITERATIONS = 60  # of Newton's at most
SHARES = (1.0, 0.5, 0.25, 2.0**-4, 2.0**-8)  # of a Newton step, that are tried
GUESS = 8  # short steps of the flow, for a guess


class OdeLogProb(NamedTuple):
    r"""The density that N deterministic steps give one point.

    - `value`: $\ln p_N(x_0)$ in nats; NaN unless `ok`.
    - `residual`: the largest $|F_k(y_k) - y_{k-1}|_\infty$ of the steps $F_k$, in the unit of clean data.
    - `ok`: each step was inverted to the root of the rounding times $\sigma_{k-1}$, and no determinant has changed its sign.
    - `start`: the noise $x_N$ from which the sampler arrives at the point, `(d,)`.
    - `log_dets`: $\ln|\det \partial y_{k-1}/\partial y_k|$ of each step, `(N,)`.
    """

    value: Scalar
    residual: Scalar
    ok: Bool[Array, ""]
    start: State
    log_dets: Array


def ode_log_prob(
    lam: Array,
    denoise: Network | Predictor,
    x0: State,
    *,
    order: Order = 1,
    prior: Density | None = None,
) -> OdeLogProb:
    r"""The log-density in nats that N deterministic steps from noise give one point at the first level, exactly:

    $$\ln p_N(x_0) = \ln \pi(x_N) + d \ln \frac{a_N}{a_0}
      - \sum_k \ln \Big|\det \frac{\partial y_{k-1}}{\partial y_k}\Big|.$$

    - `lam`: the N + 1 levels $\lambda_0 > \dots > \lambda_N$, `(N + 1,)`, falling from the one that the sampler stops at to
      the one it starts from; N calls of the network (2N with `order=2`). All are finite: for a last step to clean data give
      $\lambda_0$ of a noise too small to matter, such as EDM's $\sigma = 0.002$, 12.4.
    - `denoise`: as in `path_work`.
    - `x0`: one point `(d,)` at the level $\lambda_0$, in the scale of VP, $x = a y$, and the density is one in that scale.
    - `order`: 1 for DDIM, which is Euler's scheme in $\sigma$; 2 for Heun's (EDM, without its last step of Euler).
    - `prior`: the density of $x_N$, in the scale of VP; by default $N(0, 1)$.

    Each step is inverted by Newton's method, from a guess by the flow; the Jacobians are taken in full, d products each, and
    reduced by elimination, so that it vmaps over points and suits up to some hundred coordinates. A point at which a step
    does not invert is marked: `ok` is False, its value NaN. That the one inverse found is the only one is certain for DDIM
    with the exact denoiser, and for no other. Differentiable in the levels, the network and the point, by the theorem of
    the implicit function.

    Source: Song, Meng & Ermon, ICLR 2021, eq. 12 (DDIM); Karras et al., NeurIPS 2022, alg. 1 (Heun).
    """
    if prior is not None:
        _checks.density("prior", prior)
    net, lam, x0 = _ready(lam, denoise, "x0", x0, order)
    return density_of(lam, net, x0, order, prior)


@jit
def density_of(
    lam: Array, net: Predictor, x0: State, order: Order, prior: Density | None
) -> OdeLogProb:
    a = VP().signal(lam)
    eps = jnp.finfo(x0.dtype).eps

    def back(y: State, levels: tuple[Scalar, Scalar]) -> tuple[State, tuple[Array, Array, Array]]:
        to, here = levels
        step = lambda point: _step(net, point, here, to, order)
        found = _inverted(step, y, _guess(net, y, to, here))
        _, log_det, sign = inverse(jax.jacfwd(step)(found))
        miss = jnp.max(jnp.abs(step(found) - y))
        allowed = jnp.sqrt(eps) * jnp.exp(-0.5 * to) + 16 * eps * jnp.max(jnp.abs(y))
        return found, (log_det, miss, (miss <= allowed) & (sign > 0))

    end, (log_dets, misses, fine) = jax.lax.scan(back, x0 / a[0], (lam[:-1], lam[1:]))
    start = a[-1] * end
    if prior is None:
        log_pi = Normal(jnp.zeros_like(start), jnp.ones_like(start)).log_prob(start)
    else:
        log_pi = prior.log_prob(start)
    scale = x0.shape[0] * jnp.log(a[-1] / a[0])
    value = log_pi + scale - jnp.sum(log_dets)
    ok = jnp.all(fine) & jnp.isfinite(value)
    return OdeLogProb(jnp.where(ok, value, jnp.nan), jnp.max(misses), ok, start, log_dets)


def ode_sample(
    lam: Array, denoise: Network | Predictor, start: State, *, order: Order = 1
) -> State:
    """Carry one state by the N steps of `ode_log_prob`, from `start` `(d,)` at the last level to the first, in VP's scale.

    Vmap it over draws of the noise N(0, 1). The other arguments are those of `ode_log_prob`.
    """
    net, lam, start = _ready(lam, denoise, "start", start, order)
    return _ode_sample(lam, net, start, order)


@jit
def _ode_sample(lam: Array, net: Predictor, start: State, order: Order) -> State:
    a = VP().signal(lam)

    def forth(y: State, levels: tuple[Scalar, Scalar]) -> tuple[State, None]:
        to, here = levels
        return _step(net, y, here, to, order), None

    return a[0] * jax.lax.scan(forth, start / a[-1], (lam[:-1], lam[1:]), reverse=True)[0]


def _clean(net: Predictor, y: State, lam: Scalar) -> State:
    return net.clean(VP().signal(lam) * y, lam)


def _step(net: Predictor, y: State, here: Scalar, to: Scalar, order: Order) -> State:
    r"""From the level `here` to the cleaner one `to`."""
    r, apart = jnp.exp(0.5 * (here - to)), -jnp.expm1(0.5 * (here - to))
    clean = _clean(net, y, here)
    there = r * y + apart * clean
    if order == 1:
        return there
    again = (there - _clean(net, there, to)) / r  # sigma times the slope at the end of Euler's step
    return y - 0.5 * apart * (y - clean + again)


def _guess(net: Predictor, y: State, to: Scalar, here: Scalar) -> State:
    """Up the flow in short steps, explicitly."""

    def up(y: State, levels: tuple[Scalar, Scalar]) -> tuple[State, None]:
        low, high = levels
        return y + jnp.expm1(0.5 * (low - high)) * (y - _clean(net, y, low)), None

    lams = to + (here - to) * jnp.linspace(0, 1, GUESS + 1, dtype=y.dtype)
    found = jax.lax.scan(up, y, (lams[:-1], lams[1:]))[0]
    return jnp.where(jnp.all(jnp.isfinite(found)), found, y)


def _inverted(step: Step, y: State, guess: State) -> State:
    """The point that `step` takes to y, by Newton's method, shortened where the miss would grow."""

    def miss(point: State) -> State:
        return step(point) - y

    def newton(miss: Step, guess: State) -> State:
        def shorter(now: tuple[State, Scalar, Array, Array]) -> tuple[State, Scalar, Array, Array]:
            point, far, _, count = now
            move = matmul(inverse(jax.jacfwd(miss)(point)).matrix, miss(point))
            tried = point[None] - jnp.asarray(SHARES, y.dtype)[:, None] * move[None]
            sizes = jax.vmap(lambda point: jnp.sum(miss(point) ** 2))(tried)
            best = jnp.nanargmin(jnp.where(jnp.isnan(sizes), jnp.inf, sizes))
            better = sizes[best] < far
            point, far = jnp.where(better, tried[best], point), jnp.where(better, sizes[best], far)
            return point, far, better, count + 1

        begin = guess, jnp.sum(miss(guess) ** 2), jnp.asarray(True), jnp.asarray(0)
        on = lambda now: now[2] & (now[3] < ITERATIONS)
        return jax.lax.while_loop(on, shorter, begin)[0]

    def tangent(linear: Step, b: State) -> State:
        return matmul(inverse(jax.jacfwd(linear)(jnp.zeros_like(b))).matrix, b)

    return jax.lax.custom_root(miss, jax.lax.stop_gradient(guess), newton, tangent)


def _ready(
    lam: Array, denoise: Network | Predictor, name: str, x: State, order: Order
) -> tuple[Predictor, Array, State]:
    net = denoiser(denoise)
    if order not in (1, 2):
        raise ValueError(f"order must be 1 (DDIM) or 2 (Heun's steps), got {order!r}.")
    lam, x = _checks.falling("lam", lam), _checks.floating(name, x)
    if lam.shape[0] < 2:
        raise ValueError(
            f"lam must hold the N + 1 levels of N steps, two at least, got {lam.shape[0]}: the first is where the sampler "
            "stops, the last where it starts."
        )
    _checks.rank(name, x, {1}, "(d,), one state; vmap over many")
    _checks.one_float(**{"lam": lam, name: x})
    return net, lam, x
