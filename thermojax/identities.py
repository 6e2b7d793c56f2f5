r"""The identities of stochastic thermodynamics, each as a number that should be zero.

Every function takes what a run or an evolution gave and returns a `Residual`: what one side of its identity lacks, with what
its error allows. The numbers of the equations are those of Y. Zhang, *Stochastic Thermodynamics and SDE-based Generative
Models*, arXiv:2606.18290. `thermojax.verify` runs all that apply to a process and prints the table.

Paths must be saved in full (`save="all"`): an identity over a thinned path is the thinned path's own. Which rule a
trajectory must have been priced by is said with each; `thermojax.account` prices a path again. Where an identity makes no
statement about what it was given, `DoesNotApply` says why.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ._integrals import (
    around,
    energy_balance,
    ito_sum,
    just_before,
    levels,
    parts,
    potential,
    refined,
    relative_entropy,
    relative_mass,
    rows,
    thinned,
)
from ._ledger import account, dissipated_work, reduced_work
from ._paths import Path, Trajectory
from ._process import Process, a_process, baths, ends, one_protocol, reverse
from ._ratio import path_ratio as _path_ratio
from ._residual import (
    DoesNotApply as DoesNotApply,
    Residual as Residual,
    Undecided as Undecided,
    exponential,
    largest,
    statistical,
)
from ._types import Array, Control, Density, Scalar, Times
from .densities import Boltzmann, Point, normal
from .estimators import Estimate, integral_fluctuation, mean
from .evolve import CellEvolution, Evolution, GaussianEvolution
from .protocols import AbstractProtocol
from .rates import along
from .systems import AbstractKernelStep, AbstractOverdamped, Rule


def first_law(process: Process, trajectory: Trajectory) -> Residual:
    r"""$\Delta U - (W - Q) = 0$ (2.15), the greatest of all paths, an energy. Either rule.

    The heat of a run with one bath is told by it; what `account` makes of the path is told by the path.
    """
    run = _run_of(process, trajectory)
    gaps, sizes = energy_balance(process, run.path, run.work, run.heat)
    return largest("first law", "(2.15)", gaps, sizes, run)


def medium_entropy(process: Process, trajectory: Trajectory) -> Residual:
    r"""$\Delta(\beta V) + S_m = \int \beta\, dW + \int \dot\beta V\, dt$ (3.7, 5.23), the greatest of all paths, in nats.

    Left is `reduced_work`; right, from the path alone, are the turns of $\phi = \beta V$ at fixed x and
    $\beta f \circ dx$ (less $\nabla\cdot u\,dt$ where the medium flows). For `rule="alternating"`: the kernel rule's
    medium differs by the shadow work of the steps. One bath.
    """
    run = _run_of(process, trajectory)
    _one_bath(process, run.path)
    of = parts(process, run.path)
    gaps = jnp.atleast_1d(reduced_work(process, run)) - (of.turns + of.push)
    return largest("medium entropy", "(5.23)", gaps, of.size, run)


def detailed_balance(process: Process, trajectory: Trajectory, finer: Trajectory) -> Residual:
    r"""$\langle \ln k(x_{k+1} | x_k)/\tilde k(x_k | x_{k+1}) \rangle = \langle S_m \rangle$ (4.8), the mean over paths.

    Left is the medium entropy of `rule="kernel"`, of the steps as they are drawn; right that of the alternating rule along
    the same paths, of energy and temperature. What moves the system is thus held against what it is said to exchange: a
    noise or a drift of another temperature, or rates that don't fit the energy, are seen here, and by no identity that is
    true of every kernel. Steps have an error of their own, which goes with them: `trajectory`, and `finer` on the grid with
    each step halved, are both priced by `rule="kernel"`; one Richardson step, and allowed is thrice by how much they differ.
    """
    gaps, sizes = zip(*(_shadow(process, run) for run in (trajectory, finer)), strict=True)
    here, there = map(mean, gaps)
    stderr = jnp.sqrt(here.stderr**2 + 4 * there.stderr**2)
    steps, size = 3 * jnp.abs(there.value - here.value), jnp.maximum(*map(jnp.max, sizes))
    found = here._replace(stderr=stderr)
    value = 2 * there.value - here.value
    return statistical("detailed balance", "(4.8)", value, found, finer, size, steps)


def path_ratio(process: Process, trajectory: Trajectory) -> Residual:
    r"""$\ln P[x]/P_R[x_R] = R$ (4.9, 4.13), the greatest of all paths, in nats.

    Left is `thermojax.path_ratio` with the reversed process, right `entropy.total` of `rule="kernel"`.
    """
    run = _run_of(process, trajectory)
    _ends_known(process)
    if not isinstance(process.protocol, AbstractProtocol):
        raise DoesNotApply("the protocol is a plain callable, without a span to reverse it in")
    if not isinstance(process.system.step("kernel"), AbstractKernelStep):
        raise DoesNotApply("the step of the kernel rule has a log-ratio and no kernel")
    ratio = jnp.atleast_1d(_path_ratio(process, reverse(process), run.path))
    total = jnp.atleast_1d(dissipated_work(process, run))
    xs = run.path.xs
    reach = 1 + jnp.max(jnp.abs(xs)) / jnp.sqrt(jnp.mean(jnp.diff(xs, axis=-2) ** 2))
    sizes = jnp.abs(total) + xs.shape[-1] * reach
    return largest("path ratio", "(4.9)", ratio - total, sizes, run)


def dissipation(process: Process, trajectory: Trajectory, evolution: Evolution) -> Residual:
    r"""$W_\mathrm{diss} = S_\mathrm{tot} + \ln p_\tau/p^\mathrm{eq}_\tau$ (6.25), the greatest of all paths, in nats.

    $W_\mathrm{diss} = W_\mathrm{red} - \Delta(\beta F)$, $p_\tau$ the density at the end of `evolution`,
    $p^\mathrm{eq}_\tau$ the process's `final`. Either rule.
    From equilibrium, and with equilibrium at the last control as `final`.
    """
    run = _run_of(process, trajectory)
    delta, size = _free_energy_difference(process, run.path)
    assert process.final is not None
    actual = process.replace(final=evolution.final)
    x = rows(run.path.xs)[:, -1]
    there, rest = jax.vmap(evolution.final.log_prob)(x), jax.vmap(process.final.log_prob)(x)
    w, total = (
        jnp.atleast_1d(v) for v in (reduced_work(process, run), dissipated_work(actual, run))
    )
    sizes = jnp.abs(w) + jnp.abs(total) + jnp.abs(there) + jnp.abs(rest) + size
    return largest("dissipated work", "(6.25)", w - delta - total - (there - rest), sizes, run)


def fluctuation(
    process: Process, trajectory: Trajectory, evolution: Evolution | None = None
) -> Residual:
    r"""$\langle e^{-R} \rangle - 1 = 0$: for any normalised `final` (4.21); with an `evolution`, whose last
    density takes its place, of the total entropy production (4.22).

    For `rule="kernel"`, with which it is exact at every step; the alternating rule comes to it as the step goes to zero.
    """
    run = _run_of(process, trajectory)
    _ends_known(process, final=evolution is None)
    _reached(process, run.path)
    if evolution is None:
        found = integral_fluctuation(dissipated_work(process, run))
        return exponential("integral fluctuation theorem", "(4.21)", found, run)
    found = integral_fluctuation(dissipated_work(process.replace(final=evolution.final), run))
    return exponential("total entropy production", "(4.22)", found, run)


def jarzynski(process: Process, trajectory: Trajectory) -> Residual:
    r"""$\langle e^{-W_\mathrm{red}} \rangle\, e^{\Delta(\beta F)} - 1 = 0$ (5.24), with $T(t)$ and $f \neq 0$.

    The equation named is the special case that applies: (5.33) at constant T, (5.37) where T alone is driven and f = 0. For
    `rule="kernel"`, as in `fluctuation`. From equilibrium, and with equilibrium at the last control as `final`: from these
    two $\Delta(\beta F)$ is known.
    """
    run = _run_of(process, trajectory)
    delta, _ = _free_energy_difference(process, run.path)
    of = parts(process, run.path)
    small = 1e3 * jnp.finfo(of.size.dtype).eps
    equation = "(5.24)"
    if jnp.all(of.warmed <= small):
        equation = "(5.33)"
    elif jnp.all(of.moved + of.pushed <= small * of.size):
        equation = "(5.37)"
    found = integral_fluctuation(jnp.atleast_1d(reduced_work(process, run)) - delta)
    return exponential("Jarzynski equality", equation, found, run)


def ito(
    process: Process,
    trajectory: Trajectory,
    *,
    of: Literal["heat", "force"] = "heat",
    rule: Rule = "kernel",
) -> Residual:
    r"""$Q = \int F \cdot dx + \int D\, \nabla\!\cdot\!F\, dt$ (8.2), the mean over paths; or, `of="force"`,
    $\int \beta f \circ dx = \int \beta f \cdot dx + \int \mu\, \nabla\!\cdot\!f\, dt$ (8.3).

    Left is the ledger of the alternating rule: its heat, or its reduced work less the turns of $\phi$. At finite steps the
    two differ by order dt, and what removes that depends on how the path was made. `rule="kernel"`: the steps are Euler and
    Maruyama's, whose noise n is normal, so that
    $\langle g(x + s\,dx)\, n \rangle = 2 D\,dt\,s\, \langle g'(x + s\,dx) \rangle$ gives the mean of the difference at any
    step. `rule="alternating"`: steps of second weak order (the default, Heun's), or a measured path; one Richardson step
    against the path with every other state left out, and allowed is by how much that of twice the spacing differs. (For
    Euler's steps it would not do: the covariance of one is off by order dt², and that of two by another.)
    """
    run = _run_of(process, trajectory)
    system = process.system
    if not isinstance(system, AbstractOverdamped) or system.velocity is not None:
        raise DoesNotApply("it is of overdamped systems in a medium at rest")
    if of == "force":
        _one_bath(process, run.path)
        if not jnp.any(parts(process, run.path).pushed > 0):
            raise DoesNotApply("the force f is zero")

    def gap(run: Trajectory) -> Array:
        if of == "heat":
            left = jnp.sum(run.heat, -1) if baths(process, _times(run.path)) else run.heat
        else:
            left = reduced_work(process, run) - parts(process, run.path).turns.reshape(
                jnp.shape(run.work)
            )
        return jnp.atleast_1d(left - ito_sum(process, run.path, of == "force", rule))

    gaps, left_over = gap(run), jnp.zeros(())
    if rule == "alternating":
        coarse = thinned(run.path)
        own, twice, fourfold = (
            gap(account(process, p)) for p in (run.path, coarse, thinned(coarse))
        )
        gaps = 2 * gaps - twice
        left_over = jnp.abs(jnp.mean((2 * own - twice) - (2 * twice - fourfold)))
    found, size = mean(gaps), jnp.max(jnp.abs(gaps))
    name = f"Ito form of the {'heat' if of == 'heat' else 'work of f'}"
    equation = "(8.2)" if of == "heat" else "(8.3)"
    return statistical(name, equation, found.value, found, run, size, left_over)


def mean_dissipation(
    process: Process, evolution: Evolution, trajectory: Trajectory | None = None
) -> Residual:
    r"""$\langle W_\mathrm{diss} \rangle = \langle S_\mathrm{tot} \rangle + KL(p_\tau \| p^\mathrm{eq}_\tau)$ (6.26), nats.

    All of the `evolution`, exact to rounding (on a grid with its discrete equilibria); or, with a `trajectory`, the left
    side from its paths: then what the steps do is allowed for by the mean difference of the two rules' medium entropies
    along these paths, twice, and a grid's width by its `slope`.
    From equilibrium, and with equilibrium at the last control as `final`.
    """
    a_process("process", process)
    evolution.alone("mean_dissipation")
    if evolution.reduced_work is None:
        raise DoesNotApply("there is a bath per coordinate, and no reduced work")
    if isinstance(evolution, CellEvolution):
        delta, kl, size = _of_cells(process, evolution)
    else:
        delta, kl, size = _of_moments(process, GaussianEvolution.needed(evolution))
    total, dissipated = evolution.entropy.total, evolution.reduced_work[-1] - delta
    assert total is not None
    name, right = "mean dissipated work", total[-1] + kl
    if trajectory is None:
        size = size + jnp.abs(total[-1]) + kl
        eps = jnp.finfo(size.dtype).eps
        value = dissipated - right
        return Residual(name, "(6.26)", value, jnp.zeros_like(value), 1e3 * eps * size)
    run = _run_of(process, trajectory)
    delta, _ = _free_energy_difference(process, run.path)
    found = mean(jnp.atleast_1d(reduced_work(process, run)) - delta)
    media = (account(process, run.path, rule=rule).entropy.medium for rule in _RULES)
    steps = 2 * jnp.abs(jnp.mean(next(media) - next(media)))
    cells = evolution.slope * right if isinstance(evolution, CellEvolution) else 0 * right
    return statistical(
        f"{name} of paths", "(6.26)", found.value - right, found, run, jnp.abs(right), steps + cells
    )


def entropy_production_rate(process: Process, evolution: Evolution) -> Residual:
    r"""$\langle S_\mathrm{tot} \rangle = \int \langle |v|^2/D \rangle\, dt$ (3.24), in nats, $v = j/p$.

    The integral is by Simpson's rule over the times of the evolution, by the trapezoidal rule where the control jumps in
    between; allowed is by how much the latter changes if every other time is left out, three times that on a grid, whose own
    steps have an error of the same order. Give times that resolve what happens: a start far from rest needs short steps
    first.
    """
    a_process("process", process)
    total = evolution.alone("entropy_production_rate").entropy.total
    assert total is not None
    if not bool(jnp.isfinite(total[-1])):
        raise DoesNotApply("the entropy production is not finite: the start has no width")
    if evolution.ts.shape[0] < 3:
        raise DoesNotApply(
            f"the integral of a rate takes three times or more, got {evolution.ts.shape[0]}"
        )
    # on either side of a time: where the control jumps there, they differ
    earlier = eqx.tree_at(lambda e: e.ts, evolution, just_before(process.protocol, evolution.ts))
    begins, ends = (along(process, e, split=None).total for e in (evolution, earlier))
    assert not isinstance(begins, Estimate)
    assert not isinstance(ends, Estimate)
    integral, change = refined(evolution.ts, begins, ends)
    value = integral - total[-1]
    rounding = 1e3 * jnp.finfo(value.dtype).eps * (1 + jnp.abs(total[-1]))
    allowed = (3 if isinstance(evolution, CellEvolution) else 1) * change + rounding
    return Residual("entropy production rate", "(3.24)", value, jnp.zeros_like(value), allowed)


_RULES: tuple[Rule, Rule] = ("kernel", "alternating")


def _shadow(process: Process, trajectory: Trajectory) -> tuple[Array, Array]:
    """What the log-ratio of the steps has more than the ledger's medium entropy, of each path, and the size of the terms."""
    run = _run_of(process, trajectory)
    plain = account(process, run.path)
    _, sizes = energy_balance(process, run.path, plain.work, plain.heat)
    lams = jax.vmap(process.protocol)(ts := _times(run.path))
    coldest = jnp.min(jax.vmap(process.system.temperature, axis_size=len(ts))(lams))
    gaps = run.entropy.medium - plain.entropy.medium
    return jnp.atleast_1d(gaps), sizes / coldest + jnp.abs(run.entropy.medium)


def _run_of(process: Process, trajectory: Trajectory) -> Trajectory:
    a_process("process", process)
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"trajectory must be a thermojax.Trajectory, got {type(trajectory).__name__}. thermojax.account makes one of a "
            "path."
        )
    one_protocol("An identity", process)
    return trajectory


def _times(path: Path) -> Times:
    """Those of the first path."""
    return path.ts[0] if jnp.ndim(path.ts) == 2 else path.ts


def _one_bath(process: Process, path: Path) -> None:
    if baths(process, _times(path)):
        raise DoesNotApply("there is a bath per coordinate, and no reduced potential U/T")


def _ends_known(process: Process, *, final: bool = True) -> None:
    if final and process.final is None:
        raise DoesNotApply("final is None, and R compares the run with one that starts there")
    if isinstance(process.initial, Point):
        raise DoesNotApply("the start is a Point, which has no density")


def _reached(process: Process, path: Path) -> None:
    """A reversed run that ends where no run starts has no forward one: the average is less than 1 by the share of these."""
    if not isinstance(process.initial, Boltzmann):  # whose bounds are walls
        height = jax.vmap(process.initial.log_prob)(rows(path.xs)[:, -1])
        if outside := int(jnp.sum(jnp.isneginf(height))):
            raise DoesNotApply(
                f"the start has no density where {outside} of the paths end, as reversed runs would, without forward ones"
            )


def _free_energy(
    process: Process, name: str, density: Density, lam: Control, xs: Array
) -> tuple[Scalar, Scalar]:
    r"""$\beta F = \ln p + \phi$ of an equilibrium at a control: as a `Boltzmann` has it, or told from points `(n, d)`; and
    the size of the terms."""
    try:
        values, sizes = levels(process, density, lam, xs)
    except ValueError as error:
        raise DoesNotApply(f"ln Z of {name} is not known") from error
    if isinstance(density, Boltzmann):  # which has nothing outside of its bounds
        within = jnp.isfinite(values)
        values, sizes = values[within], sizes[within]
    size, eps = jnp.max(sizes, initial=0), jnp.finfo(values.dtype).eps
    if not values.size or not bool(jnp.ptp(values) <= 1e3 * eps * (1 + size)):
        raise DoesNotApply(f"{name} is not the equilibrium of U at the control there")
    value = -density.log_partition() if isinstance(density, Boltzmann) else jnp.mean(values)
    return value, size + jnp.abs(value)


def _free_energy_difference(process: Process, path: Path) -> tuple[Scalar, Scalar]:
    r"""$\Delta(\beta F)$ between the ends of a process that starts in equilibrium, with equilibrium as `final`."""
    _one_bath(process, path)
    xs = rows(path.xs)
    return _difference(process, _times(path), xs[:, 0], xs[:, -1])


def _difference(process: Process, ts: Times, starts: Array, stops: Array) -> tuple[Scalar, Scalar]:
    _ends_known(process)
    assert process.final is not None
    before, after = ends(process.protocol, ts)
    start, size = _free_energy(process, "initial", process.initial, before, starts)
    stop, other = _free_energy(process, "final", process.final, after, stops)
    return stop - start, size + other


def _of_moments(process: Process, evolution: GaussianEvolution) -> tuple[Scalar, Scalar, Scalar]:
    r"""$\Delta(\beta F)$, $KL(p_\tau \| p^\mathrm{eq}_\tau)$, and the size of the terms."""
    _ends_known(process)
    start, rest = normal(process.initial), normal(process.final)  # pyright: ignore[reportArgumentType]
    if start is None or rest is None:
        raise DoesNotApply("initial and final must be Gaussian for its closed form")
    delta, levels = _difference(process, evolution.ts, around(start), around(rest))
    kl, size = relative_entropy(evolution.mean[-1], evolution.cov[-1], rest)
    return delta, kl, size + levels


def _of_cells(process: Process, evolution: CellEvolution) -> tuple[Scalar, Scalar, Scalar]:
    """The same on the cells, whose sums take the place of the integrals."""
    _ends_known(process)
    grid, first = evolution.grid, evolution.p[0].reshape(-1)
    points = grid.centres(first.dtype).reshape(-1, grid.dim)
    assert process.final is not None
    height = jax.vmap(process.final.log_prob)(points)
    starts, stops = (points[h > h.max() - 20] for h in (jnp.log(jnp.abs(first)), height))
    _difference(process, evolution.ts, starts, stops)
    log_z = [
        logsumexp(-potential(process, lam, points)) for lam in ends(process.protocol, evolution.ts)
    ]
    kl, size = relative_mass(evolution.p[-1].reshape(-1) * grid.volume, height)
    return log_z[0] - log_z[1], kl, size + jnp.abs(log_z[0]) + jnp.abs(log_z[1])
