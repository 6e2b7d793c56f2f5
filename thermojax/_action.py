"""The action of a path: how likely a diffusion is to take it."""

import jax
import jax.numpy as jnp

from ._guard import guarded
from ._jit import jit
from ._ledger import check_path, uncut
from ._paths import OF_THE_MEASURED, Path, moves_on
from ._process import Process, a_process, each_path
from ._types import Array, Control, Scalar, State
from .protocols import Stopped, moving
from .systems import AbstractOverdamped


def onsager_machlup(process: Process, path: Path) -> Array:
    r"""The logarithm of the density of a path, given its start, in the Stratonovich form, in nats, per path:

    $$A[x] = -\sum_k \Big[ \sum_i \frac{(dx_i - \bar b_i\,dt)^2}{4 D_i\,dt} + \tfrac12\,\overline{\nabla\cdot b}\,dt
      \Big], \qquad b = \mu F + u,$$

    with the mean $\bar b = \tfrac12[b(x_k) + b(x_{k+1})]$ and the control of the middle of the step. It is relative to free
    diffusion at rest: the greatest density that steps of pure noise can have, $\prod (4\pi D_i\,dt)^{-1/2}$ (of which the
    logarithm is to be added to compare processes of different D). For the logarithm of the ratio to free diffusion's
    density of the same path add $\sum dx_i^2 / 4 D_i dt$: only that has a limit as the steps go to zero.

    `path` is `Path(ts, xs)` with `xs` of shape `(m, d)`, or `(paths, m, d)`. Forward and reversed path differ by exactly
    what the trapezoidal rule gives the medium, at any step,

    $$A[x] - A_R[x_R] = \sum_k \beta F \circ dx \qquad (-\,\beta F\cdot u\,dt - \nabla\cdot u\,dt
      \text{, in a medium that flows}),$$

    with $A_R$ of `reverse(process)` along the mirrored grid. `log_prob` is another number: that of Euler and Maruyama's
    chain, with the drift of the start of each step, no divergence, the normalisers and the initial density. Less these two,
    both have the same limit, and differ by order dt in the mean and by order $\sqrt{dt}$ on a path; only `log_prob` is
    normalised at finite steps.

    A path that is not ok has NaN; held samples are as in `log_prob`. Raises `TypeError` for a system that is not overdamped,
    `ValueError` for a path that does not fit. Source: Onsager & Machlup, Phys. Rev. 91, 1505 (1953); Seifert, Rep. Prog.
    Phys. 75, 126001 (2012), sec. 2.
    """
    a_process("process", process)
    if not isinstance(process.system, AbstractOverdamped):
        raise TypeError(
            "onsager_machlup is for overdamped systems (AbstractOverdamped), with noise on every coordinate, and "
            f"{type(process.system).__name__} is none. thermojax.log_prob takes any system whose step has a kernel."
        )
    path = check_path(process, path)
    uncut(path)
    if not isinstance(process.protocol, Stopped):
        moves_on("path", path, OF_THE_MEASURED)
    return _action(process, path)


@jit
def _action(process: Process, path: Path) -> Array:
    def one(process: Process, path: Path) -> Array:
        system, ts, xs = process.system, path.ts, path.xs
        assert isinstance(system, AbstractOverdamped)

        def step(x0: State, x1: State, lam: Control, dt: Scalar) -> Scalar:
            drift = lambda x: system.drift(x, lam)
            swelling = lambda x: jnp.trace(jax.jacfwd(drift)(x))
            off = x1 - x0 - 0.5 * (drift(x0) + drift(x1)) * dt
            squares = jnp.sum(off**2 / (4 * system.diffusion(x0, lam) * dt))
            return -squares - 0.25 * (swelling(x0) + swelling(x1)) * dt

        def total() -> Scalar:
            lams = jax.vmap(process.protocol)(0.5 * (ts[1:] + ts[:-1]))
            steps = jax.vmap(step)(xs[:-1], xs[1:], lams, jnp.diff(ts))
            return jnp.sum(jnp.where(moving(process.protocol, ts), steps, 0))

        ok = path.ok & jnp.all(jnp.isfinite(xs))
        return jnp.where(ok, guarded(ok, total), jnp.nan)

    return each_path(one, (process,), path)
