r"""A `Process`: a system, a protocol, and the two densities between which irreversibility is measured."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._closures import closed
from ._jit import jit
from ._loss import in_search
from ._paths import Path, per_path
from ._types import Array, Control, Density, Drive, Key, PyTree, Scalar, State, Times
from .protocols import AbstractProtocol, Reversed, held
from .systems import AbstractSystem


class Process(eqx.Module):
    r"""A driven system, where its runs start (`initial`, $p_0$) and where the reversed runs would start (`final`, $q$).

    $$R[x] = \ln\frac{p_0(x_0)}{q(x_\tau)} + \Delta S_\mathrm{medium} = \ln\frac{P[x]}{P_R[x_R]},
    \qquad \langle e^{-R} \rangle = 1 .$$

    What R means is decided by `final`: with the true density at the end it is the total entropy production
    $\Delta S_\mathrm{tot}$; with equilibrium at the last control value it is the dissipated reduced work
    $W_\mathrm{diss}$; with any other density it is a log-ratio and no more. `final=None`: R is not asked for.

    **Arguments:**

    - `system`: what obeys an equation of motion, e.g. `Overdamped`.
    - `protocol`: $\lambda(t)$, a protocol of `thermojax.protocols` or any callable of time. All arrays of a protocol may
      have a leading axis of paths, as `jax.vmap` makes it: then each path has its own.
    - `initial`, `final`: anything with `.sample(key)` (one draw of shape `(d,)`) and `.log_prob(x)` (of one point).

    Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 4.
    """

    system: AbstractSystem
    protocol: Drive = eqx.field(converter=closed)
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
        _checks.density("Process.initial", self.initial)
        if self.final is not None:
            _checks.density("Process.final", self.final)

    def replace(self, **parts: PyTree) -> "Process":
        """The same process with other parts: `process.replace(protocol=best, final=None)`."""
        return dataclasses.replace(self, **parts)


class Flipped(eqx.Module):
    r"""A density of states whose odd coordinates have changed sign, $p(\varepsilon x)$."""

    density: Density
    system: AbstractSystem

    def sample(self, key: Key) -> State:
        return self.system.flip(self.density.sample(key))

    def log_prob(self, x: State) -> Scalar:
        return self.density.log_prob(self.system.flip(x))


def a_process(name: str, process: Process) -> None:
    if not isinstance(process, Process):
        raise TypeError(
            f"{name} must be a thermojax.Process(system, protocol, initial), got {type(process).__name__}."
        )


def paths(process: Process) -> int | None:
    """How many paths have a protocol of their own; None if all share one."""
    protocol = process.protocol
    if not isinstance(protocol, AbstractProtocol) or not jnp.ndim(protocol.t0):
        return None
    leaves = jtu.tree_leaves(eqx.filter(protocol, eqx.is_array))
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(sizes) != 1:
        raise ValueError(
            "A protocol for each path has the paths as leading axis of all of its arrays, got leading axes "
            f"{sorted(sizes)}. Make it by jax.vmap: jax.vmap(lambda v: Piecewise(ts, v))(values); what holds "
            "functions (a Network) by equinox.filter_vmap."
        )
    return sizes.pop()


def one_protocol(name: str, process: Process) -> None:
    """Refuse a protocol for each path, where there are none."""
    if paths(process) is not None:
        raise ValueError(
            f"{name} takes one protocol, and this process has one for each path. Vmap it over them."
        )


def each_protocol(process: Process, fn: Callable[[Drive], PyTree]) -> PyTree:
    """`fn(protocol)` of the one protocol, or of each with the paths as leading axis."""
    return fn(process.protocol) if paths(process) is None else eqx.filter_vmap(fn)(process.protocol)


def each_path(
    fn: Callable[..., PyTree], processes: tuple[Process, ...], path: Path, *rest: PyTree
) -> PyTree:
    """`fn(*processes, path, *rest)` of one realisation or of each, along its own protocol where there is one."""
    for process in processes:
        count, shape = paths(process), jnp.shape(path.xs)
        if count is not None and (len(shape) < 3 or shape[0] != count):
            raise ValueError(
                f"The process has a protocol for each of {count} paths, so path.xs must have shape ({count}, times, d); "
                f"got {shape}."
            )
    own = [None if paths(process) is None else process.protocol for process in processes]

    def one(path: Path, own: list[Drive | None], *rest: PyTree) -> PyTree:
        theirs = (
            process if mine is None else process.replace(protocol=mine)
            for process, mine in zip(processes, own, strict=True)
        )
        return fn(*theirs, path, *rest)

    return per_path(one, path, own, *rest)


def check_run(process: Process, ts: Array, x: jax.ShapeDtypeStruct | None = None) -> Array:
    """Refuse what a run, from a state `x` or from the initial density, can not be made of.

    Shapes and dtypes are looked at once, while tracing; what the drive must keep above zero, at every step, each time.
    Returns the times.
    """
    for name, (values, good) in looked(process, ts, x).items():
        allowed = "finite and greater than zero at every step"
        ts = _checks.must(f"{name}(lam(t))", ts, good, allowed, got=values)
    return marked(process, ts)


@jit
def looked(
    process: Process, ts: Array, x: jax.ShapeDtypeStruct | None
) -> dict[str, tuple[Array, Array]]:
    """What a drive must keep above zero, along it, and where it is; on the way, shapes and dtypes of all that a run asks."""
    if x is None:
        x = _checks.draw("initial", process.initial)
        _checks.one_float(**{"the initial state": x, "ts": ts, "process": process})
    else:
        _checks.one_float(**{"path.ts": ts, "path.xs": x, "process": process})
    if x.dtype.itemsize < 4:
        raise TypeError(
            f"The state is {x.dtype}: with half precision's digits a ledger is off by per cents. Give the initial density, "
            "the system and the protocol as float32 or float64."
        )
    ts = ts.astype(x.dtype)
    lam = _checks.shapes("protocol(t)", _first(process), ts[..., 0].reshape(-1)[0])
    _checks.one_float(**{"the state": x, "protocol(t)": lam})
    process.system.check(x, lam)
    if process.final is not None:
        for name, density in (("initial", process.initial), ("final", process.final)):
            _checks.scalar(
                f"{name}.log_prob(x)",
                density.log_prob,
                x,
                cure="With numpyro's: .to_event(1). It must be a density of as many coordinates as the state.",
            )

    def along(protocol: Drive, ts: Array) -> dict[str, tuple[Array, Array]]:
        middles = 0.5 * (ts[1:] + ts[:-1])
        of = jax.vmap(lambda t: process.system.positive(protocol(t)))(middles)
        return {name: (v, jnp.isfinite(v) & (v > 0)) for name, v in of.items()}

    own, each = paths(process) is not None, ts.ndim == 2
    if not (own or each):
        return along(process.protocol, ts)
    axes = (eqx.if_array(0) if own else None, 0 if each else None)
    return eqx.filter_vmap(along, in_axes=axes)(process.protocol, ts)


def _first(process: Process) -> Drive:
    """The protocol, or that of the first path."""
    if paths(process) is None:
        return process.protocol
    return jtu.tree_map(lambda v: v[0] if eqx.is_array(v) else v, process.protocol)


def baths(process: Process, ts: Array) -> tuple[int, ...]:
    """The shape of the heat: one bath, or several."""
    lam = eqx.filter_eval_shape(_first(process), ts[0])
    return jax.eval_shape(process.system.temperature, lam).shape


def span(protocol: Drive, why: str) -> tuple[Array, Array]:
    """The protocol's own (t0, t1); a plain callable has none."""
    if not isinstance(protocol, AbstractProtocol):
        raise _spanless(why)
    return protocol.t0, protocol.t1


def _spanless(why: str) -> TypeError:
    return TypeError(
        f"{why} needs the span of the protocol, and a plain callable has none: "
        "wrap it as thermojax.protocols.Function(fn, t1)."
    )


def ends(protocol: Drive, ts: Times) -> tuple[Control, Control]:
    r"""The controls before the first and after the last step.

    `before` and `after` count only where the grid reaches the protocol's own ends; elsewhere, and for a plain callable,
    it is $\lambda$ at the grid's end, so that the half-step turns are counted.
    """
    protocol = held(protocol)
    if not isinstance(protocol, AbstractProtocol):
        return protocol(ts[0]), protocol(ts[-1])
    early, late = gaps(ts, protocol.t0, protocol.t1)
    starts, stops = early == 0, late == 0
    # where the end does not count it is not asked for, either: its derivative may be infinite
    first = protocol(jnp.where(starts, 0.5 * (ts[0] + ts[1]), ts[0]))
    last = protocol(jnp.where(stops, 0.5 * (ts[-2] + ts[-1]), ts[-1]))

    def choose(at_end: PyTree, outside: Control, inside: Control) -> Control:
        return jtu.tree_map(lambda o, i: jnp.where(at_end, o, i), outside, inside)

    return choose(starts, protocol.before, first), choose(stops, protocol.after, last)


def gaps(ts: PyTree, t0: PyTree, t1: PyTree) -> tuple[PyTree, PyTree]:
    """By how much a grid `(..., n)` starts after t0 and stops before t1 (negative: outside). It is zero, the end is meant,
    where that is a thousandth of the step or the rounding of the times."""
    # of numbers that are known no program is compiled
    at = jnp if _checks.tracing((ts, t0, t1)) else np
    ts = at.asarray(ts)
    t0, t1 = at.asarray(t0, ts.dtype), at.asarray(t1, ts.dtype)
    far = at.maximum(at.abs(t0), at.abs(t1))
    rounding = 2 * at.spacing(far if at is np else jax.lax.stop_gradient(far))
    early, late = ts[..., 0] - t0, t1 - ts[..., -1]
    first, last = ts[..., 1] - ts[..., 0], ts[..., -1] - ts[..., -2]

    def gap(apart: PyTree, step: PyTree) -> PyTree:
        return at.where(at.abs(apart) <= at.maximum(rounding, 1e-3 * step), 0, apart)

    return gap(early, first), gap(late, last)


def spans(process: Process) -> tuple[Array, Array]:
    """The span of the protocol, or those of each path's."""
    return each_protocol(process, lambda protocol: span(protocol, "a run"))


def marked(process: Process, ts: Array) -> Array:
    """The times; NaN if they leave the protocol's span, or, in a search, do not reach its ends.

    So that what could not be refused while tracing is marked in the result: a run on them has `ok=False`.
    """
    protocol = process.protocol
    if not isinstance(protocol, AbstractProtocol) or not _checks.tracing((ts, spans(process))):
        return ts
    early, late = gaps(ts, *spans(process))
    wrong = (early < 0) | (late < 0)
    if in_search():
        wrong = wrong | (early > 0) | (late > 0)
    if ts.ndim == 1:
        wrong = jnp.any(wrong)
    return jnp.where(wrong[..., None], jnp.nan, ts)


def reverse(process: Process) -> Process:
    r"""The reversed process: $\lambda_R(t) = \lambda(t_0 + t_1 - t)$, started from `final`, ended at `initial`.

    Everything that depends on time depends on it through $\lambda$, so temperatures and forces are reversed with it. What
    is odd under time reversal changes sign: momenta in the densities, magnetic fields in the system.
    Simulate it on `reverse_grid(process, ts)`. Raises `ValueError` without a `final`. Source: Crooks, PRE 60, 2721 (1999).
    """
    a_process("process", process)
    if process.final is None:
        raise ValueError(
            "reverse needs to know where the reversed run starts, and this process has final=None. Give final=, e.g. "
            "thermojax.densities.Boltzmann(system, lam) at the last control value."
        )
    drive = process.protocol
    if not isinstance(drive, AbstractProtocol):
        raise _spanless("reverse")
    back = drive.protocol if isinstance(drive, Reversed) else Reversed(drive)
    initial, final = process.final, process.initial
    if _odd(process):
        initial, final = (_flipped(density, process.system) for density in (initial, final))
    return Process(process.system.reversed(), back, initial, final)


def _odd(process: Process) -> bool:
    """Whether a coordinate is odd, told from the program of `flip`: it returns what it was given, or something else."""
    state: Any = np.zeros(2)
    with contextlib.suppress(Exception):  # it may want another state
        if process.system.flip(state) is state:
            return False
    for density in (process.initial, process.final or process.initial):
        try:
            x = _checks.draw("density", density)
        except Exception:  # noqa: S112 - it may have no draws; nothing is drawn here
            continue
        flip = jax.make_jaxpr(process.system.flip)(x).jaxpr
        return flip.outvars != flip.invars
    return True  # then Flipped is right in any case


def _flipped(density: Density, system: AbstractSystem) -> Density:
    """The density of the flipped states."""
    return density.density if isinstance(density, Flipped) else Flipped(density, system)
