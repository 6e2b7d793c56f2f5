r"""Results as labelled arrays: `to_xarray` makes an `xarray.Dataset`, which becomes a netCDF file or a table of pandas.

It needs the extra `io` (`pip install thermojax[io]`).
"""

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._paths import Trajectory
from ._search import Search
from ._types import Array, Given, PyTree
from .evolve import CellEvolution, Evolution, GaussianEvolution, StatesEvolution

if TYPE_CHECKING:
    import xarray

Result = Trajectory | Evolution | Search


class Units(NamedTuple):
    """The units that the attributes name; entropies are in nats whatever these are."""

    energy: str = "1"
    length: str = "1"
    time: str = "1"


class _Variable(NamedTuple):
    name: str
    dims: tuple[str, ...]
    value: Given
    meaning: str
    units: str


def to_xarray(
    result: Result, *, energy: str = "1", length: str = "1", time: str = "1"
) -> "xarray.Dataset":
    r"""A trajectory (of one path or of many), an evolution or a search as an `xarray.Dataset`.

    - Of a `Trajectory`: `x` over `path`, `time`, `coordinate`; `work`, `heat` (over `bath`, if there are several),
      `entropy_total`, `entropy_medium`, `entropy_system` (where there is a `final`) and `ok` over `path`. Running totals
      have `time`, too. Times that all paths share are the coordinate `time`, others a variable `t`.
    - Of an `Evolution`: the same running totals, `reduced_work` over `time`, and `mean` and `cov`, or `p` on the cells, or
      `p` of the `states`.
    - Of a `Search`: `loss` and `gradient_norm` over `step`, the arrays of what was found as `found_...`, and the prices.
      Of two that would have the same name, the second gets a `_` behind it; `long_name` says which is which.

    `energy`, `length`, `time` name the units that the system was given in, for the attributes `units`; nothing is
    converted, and every coordinate of a state bears the unit of a length: the momenta of an `Underdamped` system, too.
    Every variable says in `long_name` what it is, signs included. `.to_netcdf(file)` writes it, `.to_dataframe()` makes a
    table. Raises `TypeError` for any other result or while tracing, `ImportError` without xarray.

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx

    trap = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
    drag = tjx.Process(trap, tjx.protocols.ramp(0.0, 5.0, 1.0), tjx.densities.Gaussian(0.0, 1.0))
    run = tjx.ensemble(drag, jnp.linspace(0.0, 1.0, 11), jax.random.key(0), 100)
    try:
        data = tjx.export.to_xarray(run, energy="kT", length="um", time="s")
        print(data.work.mean(), data[["work", "heat"]].to_dataframe().head())
    except ImportError:
        print("pip install 'thermojax[io]'")
    ```
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            "thermojax.export.to_xarray needs xarray: pip install 'thermojax[io]'."
        ) from error
    variables, attributes = _labelled(result, Units(energy, length, time))
    traced = [v.name for v in variables if v.value is not None and _checks.known(v.value) is None]
    if traced:
        raise TypeError(
            f"to_xarray takes numbers, and {traced[0]} is being traced by jit, vmap or grad: return the result, and export "
            "it outside."
        )
    held = [v for v in variables if v.value is not None]
    return xarray.Dataset(
        {
            v.name: (v.dims, np.asarray(v.value), {"long_name": v.meaning, "units": v.units})
            for v in held
        },
        attrs=attributes,
    )


@functools.singledispatch
def _labelled(result: Given, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    del units
    raise TypeError(
        f"to_xarray takes a Trajectory, an Evolution or a Search, got {type(result).__name__}."
    )


@_labelled.register(Trajectory)
def _(result: Trajectory, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    path, batch = result.path, np.ndim(result.path.xs) == 3
    if np.ndim(path.xs) > 3:
        raise ValueError(
            "to_xarray takes one path or one axis of paths, path.xs (paths, times, d); got "
            f"{np.shape(path.xs)}. Reshape the leading axes of all its arrays to one."
        )
    each = ("path",) if batch else ()
    running = np.ndim(result.entropy.medium) == np.ndim(path.xs) - 1
    totals = (*each, "time") if running else each
    ts = path.ts
    if (
        np.ndim(ts) == 2
        and _checks.known(ts) is not None
        and np.ptp(np.asarray(ts), axis=0).max() == 0
    ):
        ts = ts[0]
    own = np.ndim(ts) == 2
    return [
        _Variable(
            "t" if own else "time", ("path", "time") if own else ("time",), ts, "time", units.time
        ),
        _Variable("x", (*each, "time", "coordinate"), path.xs, "state", units.length),
        _Variable("ok", each[: np.ndim(path.ok)], path.ok, "whether the path stayed finite", "1"),
        *_exchanged(totals, result.work, result.heat, units),
        *_nats(totals, (result.entropy.total, result.entropy.medium, result.entropy.system)),
    ], {"title": "trajectories" if batch else "a trajectory"}


@_labelled.register(GaussianEvolution)
def _(result: GaussianEvolution, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    square = f"({units.length})^2"
    return _evolved(
        result,
        units,
        _Variable("mean", ("time", "coordinate"), result.mean, "mean of the state", units.length),
        _Variable(
            "cov", ("time", "coordinate", "other"), result.cov, "covariance of the state", square
        ),
    )


@_labelled.register(CellEvolution)
def _(result: CellEvolution, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    axes = ("x", "y")[: result.grid.dim]
    unit = f"({units.length})^-{result.grid.dim}"
    return _evolved(
        result,
        units,
        *(
            _Variable(axis, (axis,), result.grid.axis(i), "centre of a cell", units.length)
            for i, axis in enumerate(axes)
        ),
        _Variable("p", ("time", *axes), result.p, "density", unit),
        _Variable("ok", (), result.ok, "whether the numbers are to be trusted", "1"),
    )


@_labelled.register(StatesEvolution)
def _(result: StatesEvolution, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    return _evolved(
        result,
        units,
        _Variable("states", ("state", "coordinate"), result.states, "states", units.length),
        _Variable("p", ("time", "state"), result.p, "probability of each state", "1"),
    )


def _evolved(
    result: Evolution, units: Units, *density: _Variable
) -> tuple[list[_Variable], dict[str, str | float]]:
    time = ("time",)
    result.alone("to_xarray")
    return [
        _Variable("time", time, result.ts, "time", units.time),
        *density,
        *_exchanged(time, result.work, result.heat, units),
        _Variable("reduced_work", time, result.reduced_work, "mean reduced work", "nat"),
        *_nats(time, (result.entropy.total, result.entropy.medium, result.entropy.system)),
    ], {"title": "an evolution: means over the density, from the first time on"}


@_labelled.register(Search)
def _(result: Search, units: Units) -> tuple[list[_Variable], dict[str, str | float]]:
    del units
    prices = {
        "price": result.price,
        "check_price": result.check_price,
        "start_price": result.start_price,
    }
    attributes: dict[str, str | float] = {"title": "a search"}
    for name, price in prices.items():
        if price is not None:
            attributes |= {name: float(price.value), f"{name}_stderr": float(price.stderr)}
    if result.agrees is not None:
        attributes["agrees"] = str(bool(result.agrees))
    history = [
        _Variable("loss", ("step",), result.history.loss, "loss of a step, as estimated then", "1"),
        _Variable(
            "gradient_norm", ("step",), result.history.gradient_norm, "norm of its gradient", "1"
        ),
    ]
    return [*history, *_found(result.found)], attributes


def _found(tree: PyTree) -> Iterable[_Variable]:
    """The arrays of a pytree by names that a file can have, each its own."""
    taken: set[str] = set()
    for path, leaf in jtu.tree_leaves_with_path(tree):
        if np.asarray(leaf).dtype == object:
            continue
        where = "found" + jtu.keystr(path)
        name = re.sub(r"\W+", "_", where).rstrip("_")
        while taken & {name, *(dims := tuple(f"{name}_{i}" for i in range(np.ndim(leaf))))}:
            name += "_"
        taken |= {name, *dims}
        yield _Variable(name, dims, leaf, f"what was found: {where}", "1")


def _exchanged(dims: tuple[str, ...], work: Array, heat: Array, units: Units) -> list[_Variable]:
    baths = ("bath",) if np.ndim(heat) > np.ndim(work) else ()
    return [
        _Variable("work", dims, work, "work done on the system", units.energy),
        _Variable("heat", (*dims, *baths), heat, "heat given to the bath", units.energy),
    ]


def _nats(dims: tuple[str, ...], parts: tuple[Array | None, ...]) -> list[_Variable]:
    meanings = (
        "log-ratio of the path and its reverse: system + medium",
        "entropy given to the medium",
        "entropy of the system: -ln q at the end less -ln p0 at the start",
    )
    names = ("entropy_total", "entropy_medium", "entropy_system")
    return [
        _Variable(name, dims, part, meaning, "nat")
        for name, part, meaning in zip(names, parts, meanings, strict=True)
    ]
