r"""What a change of the density costs in a finite time, by optimal transport."""

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._grids import within
from .._jit import jit
from .._nodes import nodes
from .._process import Process, a_process, check_run, one_protocol
from .._products import tensordot
from .._types import Array, ArrayLike, Control, Drive, Given, Scalar, State, Times
from ..systems import AbstractOverdamped


def transport(distance: ArrayLike, diffusion_time: ArrayLike) -> Scalar:
    r"""The entropy that a change of the density produces at least, in nats, by whatever protocol and potential:

    $$\Delta S_\text{tot} \ge \frac{W_2^2(p_0, p_\tau)}{\int_0^\tau D\,dt} .$$

    `distance` is $W_2$ (`wasserstein`), `diffusion_time` the integral, in the unit of $x^2$ ($D\tau$ at constant D;
    `diffusion_time` of a process). With a D per coordinate measure lengths in its roots: `transport(wasserstein(p, q,
    unit=jnp.sqrt(diffusion_time(process, ts))), 1.0)`.

    Overdamped, in a medium at rest, D independent of x. Reached if the density goes along the straight lines of optimal
    transport at a speed proportional to D, which takes a control of the whole potential; at constant temperature $T
    \Delta S_\text{tot}$ is the energy dissipated. Raises `ValueError` for a distance below zero or a time that is not
    above.
    Source: Aurell et al., J. Stat. Phys. 147, 487 (2012); Nakazato & Ito, Phys. Rev. Research 3, 043093 (2021).
    """
    distance = _not_negative("distance", distance)
    return (distance / jnp.sqrt(_number("diffusion_time", diffusion_time, positive=True))) ** 2


def landauer(
    entropy_drop: ArrayLike,
    distance: ArrayLike,
    diffusion_time: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
) -> Scalar:
    r"""The least mean heat given to a bath at constant T, in units of energy, when the entropy of the system falls:

    $$\langle Q \rangle \ge T (S_0 - S_\tau) + T\,\frac{W_2^2(p_0, p_\tau)}{D \tau} .$$

    `entropy_drop` is $S_0 - S_\tau$ in nats, ln 2 for a bit erased (Landauer's limit, which is left for $\tau \to
    \infty$). Else as in `transport`. Source: Aurell et al., J. Stat. Phys. 147, 487 (2012); Proesmans, Ehrich & Bechhoefer,
    PRL 125, 100602 (2020).
    """
    drop = _number("entropy_drop", entropy_drop)
    temperature = _number("temperature", temperature, positive=True)
    return temperature * (drop + transport(distance, diffusion_time))


def least_work(
    delta_f: ArrayLike,
    distance: ArrayLike,
    diffusion_time: ArrayLike,
    *,
    divergence: ArrayLike = 0.0,
    temperature: ArrayLike = 1.0,
) -> Scalar:
    r"""The least mean work done on a system that starts in equilibrium at constant T, in units of energy:

    $$\langle W \rangle \ge \Delta F + T\,\frac{W_2^2(p_0, p_\tau)}{D \tau}
      + T\,\mathrm{KL}(p_\tau \,\|\, p_\tau^\text{eq}) .$$

    `delta_f` is $F(\lambda_\tau) - F(\lambda_0)$ (energy), `divergence` the Kullback–Leibler divergence of the last density
    from equilibrium at the last control (nats, not negative; 0 where the run ends in it). It is the first law with
    `landauer`: the density reached is given, so for a protocol of one's own it bounds that protocol. Else as in
    `transport`. Source: Aurell et al., J. Stat. Phys. 147, 487 (2012); for the last term, Esposito & Van den Broeck, EPL 95,
    40004 (2011).
    """
    delta = _number("delta_f", delta_f)
    divergence = _not_negative("divergence", divergence)
    temperature = _number("temperature", temperature, positive=True)
    return delta + temperature * (transport(distance, diffusion_time) + divergence)


def _number(name: str, value: ArrayLike, *, positive: bool = False) -> Scalar:
    value = _checks.floating(name, value, positive=positive)
    cure = "one number (jax.vmap for many; a D per coordinate: see transport)"
    _checks.rank(name, value, {0}, f"(), {cure}")
    return value


def _not_negative(name: str, value: ArrayLike) -> Scalar:
    value = _number(name, value)
    return _checks.must(name, value, value >= 0, "zero or above", got=value)


def diffusion_time(process: Process, ts: Times) -> Array:
    r"""$\int D(\lambda(t))\,dt$ over the grid `ts`, in the unit of $x^2$: a scalar, or `(d,)` with a D per coordinate.

    Between two times of the grid D is taken as smooth (four points of Gauss and Legendre): the protocol's kinks and jumps
    belong onto it. If D is per coordinate, these must keep their ratio, $D_i(t) = d_i g(t)$: `transport` then holds in the
    coordinates $x_i/\sqrt{d_i}$.

    Raises `TypeError` unless the system is overdamped, and `ValueError` for a medium that moves, `velocity=`, which carries
    the density for nothing, or for diffusion constants that change their ratio (NaN while tracing).
    Source: as `transport`.
    """
    a_process("process", process)
    system = process.system
    if not isinstance(system, AbstractOverdamped):
        raise TypeError(
            f"diffusion_time is of an overdamped system (AbstractOverdamped), and {type(system).__name__} is none: the "
            "bound of transport is not known to hold for it."
        )
    if system.velocity is not None:
        raise ValueError(
            "diffusion_time: the medium of this system moves (velocity=) and carries the density at no entropy, so "
            "transport is no bound. Take coordinates that move with the medium, in which it is at rest."
        )
    ts = _checks.times("ts", ts)
    one_protocol("diffusion_time", process)
    within(process, ts)
    ts = check_run(process, ts)
    values, total = _integrated(process, ts)
    if values.ndim == 1:
        return total
    share = values / jnp.mean(values, 1, keepdims=True)
    same = jnp.abs(share - share[:1]) <= float(np.sqrt(jnp.finfo(values.dtype).eps))
    return _checks.must(
        "The ratio of the diffusion constants of the coordinates",
        total,
        jnp.all(same),
        "the same at all times: with D_i(t) = d_i g(t) alone does transport hold, in the coordinates x_i / sqrt(d_i)",
    )


@jit
def _integrated(process: Process, ts: Array) -> tuple[Array, Array]:
    x = jnp.zeros_like(process.initial.sample(jax.random.key(0)))
    start, steps = ts[:-1, None], jnp.diff(ts)[:, None]
    places, weights = (jnp.asarray(v, ts.dtype)[None] for v in nodes(4))
    times, weights = (start + steps * places).reshape(-1), (steps * weights).reshape(-1)
    values = jax.vmap(lambda t: _diffusion(process.system, process.protocol, x, t))(times)
    return values, tensordot(weights, values, 1)


def _diffusion(system: Given, protocol: Drive, x: State, t: Scalar) -> Array:
    lam: Control = protocol(t)
    return jnp.asarray(system.diffusion(x, lam), x.dtype)
