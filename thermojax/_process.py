r"""A `Process`: a system, a protocol, and the two densities between which irreversibility is measured."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from . import _checks, _system
from ._system import AbstractSystem
from ._types import Array, Control, Density, Times
from .protocols import AbstractProtocol, Reversed


class Process(eqx.Module):
    r"""A driven system, where its runs start (`initial`, $p_0$) and where the reversed runs would start (`final`, $q$).

    $$R[x] = \ln\frac{p_0(x_0)}{q(x_\tau)} + \Delta S_\mathrm{medium} = \ln\frac{P[x]}{P_R[x_R]},
    \qquad \langle e^{-R} \rangle = 1 .$$

    What R means is decided by `final`: with the true density at the end it is the total entropy production
    $\Delta S_\mathrm{tot}$; with equilibrium at the last control value it is the dissipated reduced work
    $W_\mathrm{diss}$; with any other density it is a log-ratio and no more. `final=None`: R is not asked for.

    **Arguments:**

    - `system`: what obeys the Langevin equation, e.g. `Overdamped`.
    - `protocol`: $\lambda(t)$, a protocol of `thermojax.protocols` or any callable of time.
    - `initial`, `final`: anything with `.sample(key)` (one draw of shape `(d,)`) and `.log_prob(x)` (of one point).

    Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 4.
    """

    system: AbstractSystem
    protocol: Any
    initial: Density
    final: Density | None = None

    def __check_init__(self) -> None:
        if not isinstance(self.system, AbstractSystem):
            raise TypeError(
                f"Process.system must be a system such as thermojax.Overdamped(...), got {self.system!r}."
            )
        if not callable(self.protocol):
            raise TypeError(
                f"Process.protocol must be a protocol or a callable of time, got {self.protocol!r}."
            )
        _checks.takes("Process.protocol", self.protocol, "t")
        for name in ("initial", "final"):
            density = getattr(self, name)
            if density is None and name == "final":
                continue
            _checks.density(f"Process.{name}", density)


def a_process(name: str, process: Any) -> None:
    if not isinstance(process, Process):
        raise TypeError(
            f"{name} must be a thermojax.Process(system, protocol, initial), got {type(process).__name__}."
        )


def check_run(process: Process, x: Any, ts: Times) -> Times:
    """Shapes and dtypes of all that a run evaluates at a state `x`, by tracing alone; the values that a drive gives to
    temperature and mobility."""
    lam = _checks.shapes("protocol(t)", process.protocol, ts[0])
    _checks.one_float(**{"the state": x, "protocol(t)": lam})
    _system.check(process.system, x, lam)
    if process.final is not None:
        for name, density in (("initial", process.initial), ("final", process.final)):
            _checks.scalar(
                f"{name}.log_prob(x)",
                density.log_prob,
                x,
                cure="With numpyro's: .to_event(1). It must be a density of as many coordinates as the state.",
            )
    return _system.check_along(process.system, process.protocol, ts)


def span(protocol: Any, why: str) -> tuple[Array, Array]:
    """The protocol's own (t0, t1); a plain callable has none."""
    if not isinstance(protocol, AbstractProtocol):
        raise TypeError(
            f"{why} needs the span of the protocol, and a plain callable has none: "
            "wrap it as thermojax.protocols.Function(fn, t1)."
        )
    return protocol.t0, protocol.t1


def ends(protocol: Any, ts: Times) -> tuple[Control, Control]:
    r"""The controls before the first and after the last step.

    `before` and `after` count only where the grid reaches the protocol's own ends; elsewhere, and for a plain callable,
    it is $\lambda$ at the grid's end, so that the half-step turns are counted.
    """
    first, last = protocol(ts[0]), protocol(ts[-1])
    if not isinstance(protocol, AbstractProtocol):
        return first, last
    eps = 8 * jnp.finfo(ts.dtype).eps
    t0, t1 = jnp.asarray(protocol.t0, ts.dtype), jnp.asarray(protocol.t1, ts.dtype)
    slack = eps * jnp.maximum(jnp.abs(t0), jnp.abs(t1))
    starts, stops = jnp.abs(ts[0] - t0) <= slack, jnp.abs(ts[-1] - t1) <= slack

    def choose(at_end: Array, outside: Any, inside: Any) -> Any:
        return jnp.where(at_end, outside, inside)

    return (
        jtu.tree_map(lambda o, i: choose(starts, o, i), protocol.before, first),
        jtu.tree_map(lambda o, i: choose(stops, o, i), protocol.after, last),
    )


def within(protocol: Any, ts: Times) -> None:
    """Refuse a grid that leaves the protocol's span, where both are known."""
    if not isinstance(protocol, AbstractProtocol):
        return
    grid, t0, t1 = (_checks.known(v) for v in (ts, protocol.t0, protocol.t1))
    if grid is None or t0 is None or t1 is None:
        return
    slack = 8 * jnp.finfo(ts.dtype).eps * max(abs(t0), abs(t1))
    if grid[0] < t0 - slack or grid[-1] > t1 + slack:
        raise ValueError(
            f"ts must lie within the protocol's span [{t0}, {t1}], got a grid from {grid[0]} to {grid[-1]}. "
            "Extend the protocol, or shorten the grid."
        )


def reverse(process: Process) -> Process:
    r"""The reversed process: $\lambda_R(t) = \lambda(t_0 + t_1 - t)$, started from `final`, ended at `initial`.

    Everything that depends on time depends on it through $\lambda$, so temperature, mobility and force are reversed
    with it. Simulate it on `reverse_grid(process, ts)`. Source: Crooks, PRE 60, 2721 (1999).
    """
    a_process("process", process)
    if process.final is None:
        raise ValueError(
            "reverse needs to know where the reversed run starts, and this process has final=None. Give final=, e.g. "
            "thermojax.densities.Boltzmann(system, lam) at the last control value."
        )
    span(process.protocol, "reverse")
    back = process.protocol
    back = back.protocol if isinstance(back, Reversed) else Reversed(back)
    return Process(process.system, back, process.final, process.initial)


def reverse_grid(process: Process, ts: Times) -> Times:
    r"""The mirrored step grid $t_0 + t_1 - t$, last first: Crooks at finite steps compares a path with one on it."""
    a_process("process", process)
    ts = _checks.times("ts", ts)
    within(process.protocol, ts)
    t0, t1 = span(process.protocol, "reverse_grid")
    return (t0 + t1 - ts)[::-1]
