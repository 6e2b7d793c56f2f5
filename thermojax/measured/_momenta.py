r"""Recorded velocities as states of underdamped systems."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._jit import jit
from .._ledger import check_path
from .._paths import Path
from .._process import Process, a_process, each_path, ends
from .._types import Array, Control, State
from ..systems import AbstractUnderdamped


def with_momenta(process: Process, path: Path) -> Path:
    r"""The path of states $(q, p)$, $p = m v - J(\lambda(t))$, of a path that was recorded as positions, then velocities.

    `path.xs` is `(m, 2d)`, or `(paths, m, 2d)`: with `read_csv(..., positions=["x", "y", "vx", "vy"])` and
    `process = data.process(system, ...)` it is `data.path`. The first and the last velocities are taken to be those before
    the first and after the last jump of the control.

    Velocities have to be recorded. Of positions alone heat can't be had: differences over a time 2h have a kinetic energy
    that is too small by about $2\gamma h/3m$ of it, which would count as heat. Their work can: by `account` of the process
    with `system.overdamped()`.

    Raises `TypeError` for a system that is not underdamped, `ValueError` for an odd number of columns.
    """
    a_process("process", process)
    AbstractUnderdamped.moved_by("with_momenta", process.system)
    return _with_momenta(process, check_path(process, path))


@jit
def _with_momenta(process: Process, path: Path) -> Path:
    def one(process: Process, path: Path) -> Array:
        system = AbstractUnderdamped.moved_by("with_momenta", process.system)
        before, after = ends(process.protocol, path.ts)
        lams = jtu.tree_map(
            lambda v, b, a: v.at[0].set(b).at[-1].set(a),
            jax.vmap(process.protocol)(path.ts),
            before,
            after,
        )

        def state(x: State, lam: Control) -> State:
            q, v = jnp.split(x, 2)
            return system.state(q, v, lam)

        return jax.vmap(state)(path.xs, lams)

    return path._replace(xs=each_path(one, (process,), path))
