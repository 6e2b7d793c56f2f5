"""All identities that apply to a process, in one table."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _checks, identities
from ._ledger import account
from ._paths import Trajectory
from ._process import Process, a_process, one_protocol
from ._simulate import ensemble
from ._stiff import watched
from ._types import Key, Times
from .evolve import Evolution, Grid, fokker_planck, moments
from .identities import DoesNotApply, Residual, Undecided


class Verdict(NamedTuple):
    """What `verify` found: `rows` of name, equation and `Residual`, or in words why there is none: "does not apply: ..." or,
    of an average that is not reliable, "undecided: ...". `print` it for the table."""

    rows: tuple[tuple[str, str, Residual | str], ...]
    size: int
    steps: int

    @property
    def holds(self) -> bool:
        """Whether every identity that applies holds, and one does; what is undecided does not count."""
        found = [row for _, _, row in self.rows if isinstance(row, Residual)]
        return bool(found) and all(row.holds for row in found)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the identities that fail."""
        return tuple(n for n, _, row in self.rows if isinstance(row, Residual) and not row.holds)

    def __str__(self) -> str:
        wide = max(len(name) for name, _, _ in self.rows)
        head = f"{'identity':{wide}}  equation    residual     allowed  verdict"
        lines = [f"{self.size} paths of {self.steps} steps", head, "-" * len(head)]
        said = {}
        for name, equation, row in self.rows:
            line = f"{name:{wide}}  {equation:8}  "
            if isinstance(row, Residual):
                verdict = "holds" if row.holds else "FAILS"
                line += f"{float(row.value):10.2e}  {float(row.allowed):10.1e}  {verdict}"
            else:
                again = said.get(row)
                said.setdefault(row, equation)
                line += f"{'':24}{row if again is None else row.split(': ')[0] + ': as ' + again}"
            lines.append(line)
        return "\n".join(lines)


def verify(
    process: Process, ts: Times, key: Key, *, size: int = 10_000, grid: Grid | None = None
) -> Verdict:
    r"""Run the identities of `thermojax.identities` that apply to a process, and say which hold.

    One ensemble of `size` paths on the steps `ts`, of the step that `rule="kernel"` takes, is saved in full and priced by
    both rules, and another on steps half as long; the density in time is `evolve.moments` of a linear system that
    starts Gaussian, or `evolve.fokker_planck` on `grid`, with `ts` as times. Exact identities must hold to rounding,
    averages within 4 standard errors, integrals over time within their own error: what was allowed stands beside each
    residual. One run in a few thousand shows an average that fails by chance: take another key.

    What is verified is that the numbers for this process are consistent: the energies with the forces and the noise that
    move it, the two densities with what they are meant to be, the steps with the averages asked for. Any system with a
    kernel step will do, also one of your own; rows that need more say so, as do those that need a `final` where it is None.

    Warns of steps that are too long for what they follow, as `ensemble` does. Raises `ValueError` where paths fail, or for
    one protocol per path; everything that `ensemble` or `fokker_planck` refuse.
    """
    a_process("process", process)
    one_protocol("verify", process)
    ts = _checks.times("ts", ts)
    if grid is not None and not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.evolve.Grid(lower, upper, cells), got {grid!r}.")
    size = _checks.whole("size", size, "a whole number of paths", 10)
    run = _run(process, ts, key, size)
    plain = _priced(process, ts, run)
    evolution = _evolution(process, ts, grid)
    rows = []
    for name, equation, residual in _asked(
        process, run, plain, lambda: _finer(process, ts, key, size)
    ):
        try:
            found = residual(evolution) if isinstance(residual, _OfEvolution) else residual()
            rows.append((name, found.equation, found))
        except Undecided as reason:
            rows.append((name, equation, f"undecided: {reason}"))
        except DoesNotApply as reason:
            rows.append((name, equation, f"does not apply: {reason}"))
    return Verdict(tuple(rows), size, ts.shape[0] - 1)


def _run(process: Process, ts: Times, key: Key, size: int) -> Trajectory:
    run = ensemble(process, ts, key, size, rule="kernel", save="all")
    if lost := int(jnp.sum(~run.path.ok)):
        raise ValueError(
            f"{lost} of {size} paths did not stay finite, and nothing can be averaged. Take shorter steps: ts has "
            f"{ts.shape[0] - 1}."
        )
    return run


def _priced(process: Process, ts: Times, run: Trajectory) -> Trajectory:
    """By the alternating rule, with a warning if the steps are too long for it."""
    plain = account(process, run.path)
    return watched(process, ts, plain, process.system.step("kernel"), "alternating")


def _finer(process: Process, ts: Times, key: Key, size: int) -> Trajectory:
    """As many paths on the grid with each step halved."""
    halved = jnp.sort(jnp.concatenate([ts, ts[:-1] + 0.5 * jnp.diff(ts)]))
    if not bool(jnp.all(jnp.diff(halved) > 0)):
        raise DoesNotApply(
            "the times are next to each other in their precision, and steps can't be halved"
        )
    return _run(process, halved, jax.random.fold_in(key, 1), size)


class _OfEvolution(NamedTuple):
    """A residual that needs the density in time."""

    of: Callable[[Evolution], Residual]

    def __call__(self, evolution: Evolution | str) -> Residual:
        if isinstance(evolution, str):
            raise DoesNotApply(evolution)
        return self.of(evolution)


def _asked(
    process: Process, run: Trajectory, plain: Trajectory, finer: Callable[[], Trajectory]
) -> list[tuple[str, str, Callable[..., Residual]]]:
    """Name, equation and residual of each row; `run` is of the kernel rule, `plain` of the alternating one."""
    i = identities
    return [
        ("first law", "(2.15)", lambda: i.first_law(process, plain)),
        ("medium entropy", "(5.23)", lambda: i.medium_entropy(process, plain)),
        ("Ito form of the heat", "(8.2)", lambda: i.ito(process, plain)),
        ("Ito form of the work of f", "(8.3)", lambda: i.ito(process, plain, of="force")),
        ("detailed balance", "(4.8)", lambda: i.detailed_balance(process, run, finer())),
        ("path ratio", "(4.9)", lambda: i.path_ratio(process, run)),
        ("integral fluctuation theorem", "(4.21)", lambda: i.fluctuation(process, run)),
        (
            "total entropy production",
            "(4.22)",
            _OfEvolution(lambda e: i.fluctuation(process, run, e)),
        ),
        ("Jarzynski equality", "(5.24)", lambda: i.jarzynski(process, run)),
        (
            "dissipated work of a path",
            "(6.25)",
            _OfEvolution(lambda e: i.dissipation(process, run, e)),
        ),
        (
            "mean dissipated work",
            "(6.26)",
            _OfEvolution(lambda e: i.mean_dissipation(process, e)),
        ),
        (
            "mean dissipated work of paths",
            "(6.26)",
            _OfEvolution(lambda e: i.mean_dissipation(process, e, run)),
        ),
        (
            "entropy production rate",
            "(3.24)",
            _OfEvolution(lambda e: i.entropy_production_rate(process, e)),
        ),
    ]


def _evolution(process: Process, ts: Times, grid: Grid | None) -> Evolution | str:
    """The density in time, or why it is not known."""
    try:
        return moments(process, ts)
    except (ValueError, TypeError) as error:
        reason = _first(error, "moments")
    if grid is None:
        return f"the density in time is not known: {reason}; no grid was given"
    try:
        return fokker_planck(process, ts, grid)
    except TypeError as error:
        return f"the density in time is not known: {_first(error, 'fokker_planck')}"


def _first(error: Exception, name: str) -> str:
    """The first sentence of a refusal, by the full name of what refuses."""
    return f"evolve.{name} " + str(error).split(". ")[0].removeprefix(f"{name} ")
