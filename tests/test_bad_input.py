"""What cannot be run is refused, and the error names the argument, what is allowed and the cure.

The cases run in one plain Python, as in a user's session: without the annotations checked, which would refuse some of
them first and less clearly, and with JAX's own promotion rules. `CASES` is read in both processes.
"""
# ruff: noqa: E501, a case a line

import json
import os
import re
import subprocess
import sys
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax import densities, diffusion, optimal, schedules
from thermojax.densities import Boltzmann, Empirical, Gaussian, Mixture, Point
from thermojax.estimators import (
    bar,
    bootstrap,
    crooks,
    integral_fluctuation,
    jarzynski,
    mean,
    second_cumulant,
    second_law_excess,
)
from thermojax.potentials import Breathing, Harmonic, MovingTrap, Quartic, Ring
from thermojax.protocols import (
    Function,
    Joint,
    Network,
    Piecewise,
    Reversed,
    Spline,
    Steps,
    bounded,
    fixed,
    monotone,
    positive,
    ramp,
)

N = jnp.array


class Case(NamedTuple):
    error: str  # the name of a class among those of the error
    words: tuple[str, ...]  # regular expressions, all of which its message matches
    run: object


CASES: dict[str, Case] = {}


def bad(name, run, error, *words):
    assert name not in CASES
    CASES[name] = Case(error, words, run)


def key():
    return jax.random.key(0)


def ts():
    return jnp.linspace(0.0, 1.0, 5)


def single(x):
    return np.asarray(x, np.float32)


def sampled(lam=1.0):
    """A quartic in two dimensions, with a sampler and no ln Z."""
    return Boltzmann(quartic(), lam, dim=2, sampler=lambda key: N([0.0, 0.0]))


def mixed(weights):
    return Mixture(weights, [Gaussian(0.0, 1.0), Gaussian(1.0, 1.0)])


class Lump:
    """A density of a user's own: always at `x`."""

    def __init__(self, x, log_prob=0.0):
        self.x, self.value = x, log_prob

    def sample(self, key):
        return self.x

    def log_prob(self, x):
        return self.value


def trap(**options):
    return tjx.Overdamped(MovingTrap(1.0), **options)


def process(system=None, protocol=None, initial=None, final=None):
    if protocol is None:
        protocol = ramp(0.0, 1.0, 1.0)
    return tjx.Process(system or trap(), protocol, initial or Gaussian(0.0, 1.0), final)


def ended():
    return process(final=Gaussian(1.0, 1.0))


def baths():
    return process(trap(temperature=N([1.0, 2.0])), initial=Gaussian(N([0.0, 0.0]), 1.0))


def run(system=None, protocol=None, initial=None, final=None, grid=None, **solve):
    p = process(system, protocol, initial, final)
    return tjx.simulate(p, ts() if grid is None else grid, solve.pop("key", key()), **solve)


def overdamped(potential, *args, **options):
    return tjx.Overdamped(potential, *args, **options)


def still(m=5, d=1):
    return tjx.Path(ts()[:m], jnp.zeros((m, d)))


# ---- systems: the bath, the mobility, the potential, the force
positive_only = "finite and greater than zero"
for name in ("temperature", "mobility"):
    for value in (0.0, -1, float("nan"), float("inf")):
        refused = lambda name=name, value=value: trap(**{name: value})
        bad(f"{name} {value}", refused, "ValueError", name, positive_only, str(value))
    give = lambda value, name=name: lambda: trap(**{name: value})
    depends = {
        "temperature": "depends on x is not supported",
        "mobility": r"x take.*Inhomogeneous",
    }[name]
    bad(f"{name} vector", give([1.0, 0.0]), "ValueError", name, positive_only, r"0\.0.*index \[1\]")
    bad(f"{name} matrix", give(np.ones((2, 2))), "ValueError", name, r"\(\) or \(d,\).*\(2, 2\)")
    bad(f"{name} text", give("hot"), "TypeError", name, "must be a number", "'hot'")
    bad(f"{name} None", give(None), "TypeError", name, "must be a number", "None")
    bad(f"{name} complex", give(1j), "TypeError", name, "must be real", "complex")
    bad(f"{name} shape", lambda g=give: run(g(np.ones(3))()), "ValueError", name, r"\(1,\).*\(3,\)")
    bad(
        f"{name} of x",
        give(lambda x, lam: 1 + x**2),
        "TypeError",
        rf"Overdamped\.{name}",
        r"callable \(lam\).*\(x, lam\)",
        depends,
    )
    bad(
        f"{name} below zero on the way",
        lambda g=give: run(g(lambda lam: 0.5 - lam)()),
        "ValueError",
        rf"{name}\(lam\(t\)\)",
        f"{positive_only} at every step, got -0.125",
    )
bad("no potential", lambda: overdamped(None), "ValueError", "Overdamped", "a potential, a force")
bad("potential 3", lambda: overdamped(3.0), "TypeError", "potential", r"callable \(x, lam\).*3\.0")
bad("force 3", lambda: trap(force=3.0), "TypeError", "force", r"callable \(x, lam\).*3\.0")
for name, potential in {
    "vector": lambda x, lam: x**2,
    "nothing": lambda x, lam: None,
    "integer": lambda x, lam: 3,
}.items():
    words = (r"potential\(x, lam\)", "one real scalar", "got", "Sum over coordinates")
    bad(f"potential {name}", lambda u=potential: run(overdamped(u)), "ValueError", *words)
    bad(
        f"potential {name}, equilibrium",
        lambda u=potential: Boltzmann(overdamped(u), 0.0),
        "ValueError",
        *words,
    )
    bad(
        f"potential {name}, account",
        lambda u=potential: tjx.account(process(overdamped(u)), still()),
        "ValueError",
        *words,
    )
    bad(
        f"potential {name}, moments",
        lambda u=potential: tjx.evolve.moments(process(overdamped(u)), ts()),
        "ValueError",
        *words,
    )
bad(
    "potential of x",
    lambda: overdamped(lambda x: x.sum()),
    "TypeError",
    r"Overdamped\.potential",
    r"\(x, lam\).*\(x\)",
    "Take lam",
)
bad(
    "force of x",
    lambda: trap(force=lambda x: x),
    "TypeError",
    r"Overdamped\.force",
    r"\(x, lam\).*\(x\)",
    "Take lam",
)
for name, force in {
    "scalar": lambda x, lam: 1.0,
    "nothing": lambda x, lam: None,
    "(3,)": lambda x, lam: jnp.ones(3),
    "(1, 1)": lambda x, lam: jnp.ones((1, 1)),
}.items():
    words = (r"force\(x, lam\)", r"shape of the state, \(1,\); got")
    bad(f"force {name}", lambda f=force: run(trap(force=f)), "ValueError", *words)
    bad(f"force {name} alone", lambda f=force: run(overdamped(None, f)), "ValueError", *words)
bad(
    "catalogue nan",
    lambda: Harmonic(float("nan")),
    "ValueError",
    r"Harmonic\.stiffness must be finite, got nan",
)
bad(
    "catalogue text",
    lambda: Harmonic("stiff"),
    "TypeError",
    r"Harmonic\.stiffness must be a number",
    "'stiff'",
)

# ---- processes
bad(
    "process of a potential",
    lambda: tjx.Process(MovingTrap(1.0), ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0)),
    "TypeError",
    r"Process\.system",
    r"Overdamped\(",
)
bad(
    "protocol 1",
    lambda: process(protocol=1.0),
    "TypeError",
    r"Process\.protocol",
    "protocol or a callable of time",
    r"1\.0",
)
bad(
    "protocol without t",
    lambda: process(protocol=lambda: 1.0),
    "TypeError",
    r"Process\.protocol",
    r"callable \(t\)",
)
bad(
    "protocol class",
    lambda: process(protocol=Piecewise),
    "TypeError",
    r"Process\.protocol",
    "class Piecewise",
    "instance",
)
for name in ("initial", "final"):
    words = (rf"Process\.{name}", r"\.sample\(key\) and \.log_prob\(x\)", "thermojax.densities")
    bad(f"{name} number", lambda name=name: process(**{name: 1.0}), "TypeError", *words)
    bad(f"{name} class", lambda name=name: process(**{name: Gaussian}), "TypeError", *words)
for name, call in {
    "simulate": lambda: tjx.simulate(trap(), ts(), key()),
    "ensemble": lambda: tjx.ensemble(trap(), ts(), key(), 2),
    "account": lambda: tjx.account(trap(), still()),
    "reverse": lambda: tjx.reverse(trap()),
    "reverse_grid": lambda: tjx.reverse_grid(trap(), ts()),
    "reduced_work": lambda: tjx.reduced_work(trap(), run()),
    "dissipated_work": lambda: tjx.dissipated_work(trap(), run()),
    "moments": lambda: tjx.evolve.moments(trap(), ts()),
    "path_ratio": lambda: tjx.path_ratio(ended(), trap(), still()),
}.items():
    bad(
        f"{name} of a system",
        call,
        "TypeError",
        "process|backward",
        r"thermojax\.Process\(system, protocol, initial\), got Overdamped",
    )

# ---- step grids
increasing = r"ts must be strictly increasing, but ts\[{0}\] = {1} follows ts\[{2}\] = {3}"
for name, grid, error, *words in (
    ("falls", [0.0, 0.5, 0.4, 0.3], "ValueError", increasing.format(2, "0.4", 1, "0.5")),
    ("repeats", [0.0, 0.5, 0.5, 1.0], "ValueError", increasing.format(2, "0.5", 1, "0.5")),
    ("backward", [1.0, 0.0], "ValueError", increasing.format(1, "0.0", 0, "1.0")),
    ("nan", [0.0, float("nan"), 1.0], "ValueError", r"ts must be finite, got nan at index \[1\]"),
    ("inf", [0.0, 1.0, float("inf")], "ValueError", r"ts must be finite, got inf at index \[2\]"),
    ("nan step", 0.0 + float("nan") * np.arange(3), "ValueError", r"ts must be finite, got nan"),
    ("matrix", np.zeros((2, 2)), "ValueError", r"ts.*one-dimensional.*\(2, 2\)", "jnp.linspace"),
    ("one", [0.0], "ValueError", r"ts.*at least two.*\(1,\)", "jnp.linspace"),
    ("empty", np.zeros(0), "ValueError", r"ts must hold at least one number.*\(0,\)"),
    ("step size", 0.01, "ValueError", r"ts.*one-dimensional.*\(\)", "jnp.linspace"),
    ("text", "fine", "TypeError", "ts must be .*array of numbers, got 'fine'"),
    ("ragged", [[0.0], [1.0, 2.0]], "TypeError", "ts must be .*array of numbers"),
    ("complex", [0j, 1.0], "TypeError", "ts must be real, got dtype complex"),
    ("boolean", [False, True], "TypeError", "ts must be real, got dtype bool"),
    ("too late", [0.0, 0.5, 2.0], "ValueError", r"ts.*span \[0\.0, 1\.0\].* 0\.0 to 2\.0", "Extend|shorten"),
    ("too early", [-0.1, 1.0], "ValueError", r"ts.*span \[0\.0, 1\.0\].* -0\.1 to 1\.0", "Extend|shorten"),
    ("adaptive", dfx.PIDController(1e-3, 1e-3), "TypeError", "ts must be a step grid, got PIDController", "not adapted, because", "Pass times"),
    ("controller", dfx.StepTo(np.linspace(0, 1, 5)), "TypeError", "ts must be a step grid, got StepTo", "Pass times"),
):  # fmt: skip
    bad(f"ts {name}", lambda grid=grid: run(grid=grid), error, *words)
bad(
    "ts of reverse_grid",
    lambda: tjx.reverse_grid(ended(), 2 * ts()),
    "ValueError",
    "ts.*span",
    "Extend|shorten",
)
bad(
    "ts of moments",
    lambda: tjx.evolve.moments(ended(), 2 * ts()),
    "ValueError",
    "ts.*span",
    "Extend|shorten",
)

# ---- precision (these need float64 to exist)
if jax.config.jax_enable_x64:
    mix = ("One floating-point precision per run", "float32", "float64", "astype")
    bad(
        "float32 ts",
        lambda: run(grid=single(ts())),
        "TypeError",
        "initial state is float64 and ts is float32",
        *mix,
    )
    bad(
        "float32 start",
        lambda: run(initial=Lump(single([0.0]))),
        "TypeError",
        "initial state is float32 and ts",
        *mix,
    )
    bad(
        "float32 temperature",
        lambda: run(trap(temperature=single(1.0))),
        "TypeError",
        r"process\.system\.temperature\.value is float32",
        *mix,
    )
    bad(
        "float32 potential",
        lambda: run(tjx.Overdamped(MovingTrap(single(1.0)))),
        "TypeError",
        r"potential\.stiffness is float32",
        *mix,
    )
    bad(
        "float32 protocol",
        lambda: run(protocol=ramp(single(0.0), single(1.0), 1.0)),
        "TypeError",
        r"process\.protocol\.ts is float32",
        *mix,
    )
    bad(
        "float32 callable",
        lambda: run(protocol=lambda t: jnp.float32(1.0)),
        "TypeError",
        r"protocol\(t\) is float32",
        *mix,
    )
    bad(
        "float32 path",
        lambda: tjx.account(ended(), tjx.Path(ts(), jnp.zeros((5, 1), jnp.float32))),
        "TypeError",
        r"path\.ts is float64 and path\.xs is float32",
        *mix,
    )
    double = lambda x, lam: jnp.sum(x * jnp.float64(2.0))
    for system, what, states in (
        (lambda: tjx.Underdamped(double), "potential", 2),
        (lambda: tjx.Spins(double, order=np.arange(2)), "energy", 2),
        (
            lambda: tjx.Jumps(lambda x, lam: jnp.ones_like(x), lambda x: x[None], double),
            "energy",
            1,
        ),
    ):
        bad(
            f"float64 hidden in the {what} of {states}",
            lambda system=system, states=states: run(
                system(),
                protocol=lambda t: single(0.0) * t,
                initial=Lump(jnp.ones(states, jnp.float32)),
                grid=single(ts()),
            ),
            "TypeError",
            "state is float32",
            f"{what} makes it float64",
            "same dtype",
        )
    bad(
        "float64 hidden in a potential",
        lambda: run(
            overdamped(
                lambda x, lam: jnp.sum(x * jnp.float64(2.0)),
            ),
            protocol=lambda t: single(0.0) * t,
            initial=Lump(single([0.0])),
            grid=single(ts()),
        ),
        "TypeError",
        "state is float32",
        "potential makes it float64",
        "same dtype",
    )
    bad(
        "float32 mean",
        lambda: Gaussian(single([0.0]), N([1.0])),
        "TypeError",
        r"Gaussian\.mean is float32 and Gaussian\.cov is float64",
        *mix,
    )

# ---- keys
for name, value in {"seed": 0, "None": None, "old": np.zeros(2, np.uint32), "text": "a"}.items():
    cure = r"typed random key, got .*jax\.random\.key\(0\)"
    bad(f"key {name}", lambda value=value: run(key=value), "TypeError", "key must", cure)
    bad(
        f"key {name}, ensemble",
        lambda value=value: tjx.ensemble(ended(), ts(), value, 2),
        "TypeError",
        "key must",
        cure,
    )
bad(
    "key batch",
    lambda: run(key=jax.random.split(key(), 3)),
    "ValueError",
    "key must be one key",
    r"shape \(3,\)",
    "jax.vmap",
)
bad(
    "key of a network",
    lambda: Network(0.0, 1.0, 1.0, key=0),
    "TypeError",
    r"Network\.key",
    r"jax\.random\.key\(0\)",
)

# ---- solvers, rules, what is saved, how many, how to differentiate
works, inertial = r"Use solver=None.*diffrax\.Euler", r"Use solver=None.*BAOAB.*ABOBA.*Underdamped"
for solver, why in (
    (dfx.HalfSolver(dfx.Heun()), "HalfSolver is adaptive"),
    (dfx.ImplicitEuler(), "ImplicitEuler is adaptive or implicit"),
    (dfx.Kvaerno3(), "Kvaerno3 is adaptive or implicit"),
    (dfx.Tsit5(), "Tsit5 is not marked by diffrax as a solver of SDEs"),
    (dfx.SemiImplicitEuler(), "SemiImplicitEuler is not marked"),
):
    bad(f"solver {type(solver).__name__}", lambda s=solver: run(solver=s), "ValueError", why, works)
for solver in (dfx.ALIGN(0.1), dfx.QUICSORT(0.1)):
    name = type(solver).__name__
    why = f"{name} is a solver for underdamped dynamics without a log-ratio"
    bad(f"solver {name}", lambda s=solver: run(solver=s), "ValueError", why, inertial)
bad("solver class", lambda: run(solver=dfx.Heun), "TypeError", "solver must be", "Heun", works)
bad("solver text", lambda: run(solver="heun"), "TypeError", "solver must be", "'heun'", works)
for solver in (dfx.Heun(), dfx.ShARK(), dfx.EulerHeun()):
    name = type(solver).__name__
    bad(
        f"kernel {name}",
        lambda s=solver: run(rule="kernel", solver=s),
        "ValueError",
        f'rule="kernel".*got solver={name}',
        r"solver=None or diffrax\.Euler",
    )
for rule in ("fast", None, ["kernel"]):
    bad(
        f"rule {rule}",
        lambda rule=rule: run(rule=rule),
        "ValueError",
        'rule must be "alternating" or "kernel", got',
    )
bad(
    "rule of account",
    lambda: tjx.account(ended(), still(), rule="fast"),
    "ValueError",
    'rule must be "alternating" or "kernel", got',
)
for save in ("some", None, 0, -1, 2.5, True):
    bad(
        f"save {save}",
        lambda save=save: run(save=save),
        "ValueError",
        'save must be "ends", "all", or a whole number k',
        f"got '?{save}",
    )
for size in (0, -1, 2.5, "10", True, None):
    bad(
        f"size {size}",
        lambda size=size: tjx.ensemble(ended(), ts(), key(), size),
        "ValueError",
        "size must be a whole number of paths, at least 1",
        f"got '?{size}",
    )
bad(
    "adjoint text",
    lambda: run(adjoint="direct"),
    "TypeError",
    "adjoint must be a diffrax adjoint, or None",
)
bad(
    "adjoint class",
    lambda: run(adjoint=dfx.DirectAdjoint),
    "TypeError",
    "adjoint must be a diffrax adjoint, or None",
)
bad(
    "adjoint Backsolve",
    lambda: run(adjoint=dfx.BacksolveAdjoint()),
    "ValueError",
    "BacksolveAdjoint",
    r"Use .*DirectAdjoint\(\)",
)

# ---- protocols
knots = N([0.0, 1.0, 2.0])
for name, call, error, *words in (
    ("Piecewise lengths", lambda: Piecewise(knots, N([1.0, 2.0])), "ValueError", r"Piecewise\.values", r"len\(ts\)", r"\(2,\) for 3 times"),
    ("Spline lengths", lambda: Spline(knots, N([1.0, 2.0])), "ValueError", r"Spline\.values", r"len\(ts\)"),
    ("Steps lengths", lambda: Steps(knots, N([1.0, 2.0, 3.0])), "ValueError", r"Steps\.values", r"len\(ts\) - 1", r"\(3,\) for 3 times"),
    ("leaf length", lambda: Piecewise(knots, {"k": jnp.ones(3), "at": jnp.ones(2)}), "ValueError", r"Piecewise\.values\['at'\]"),
    ("list of values", lambda: Piecewise([0.0, 1.0], [1.0, 2.0]), "ValueError", r"Piecewise\.values\[0\]", r"use jnp\.array"),
    ("one value", lambda: Piecewise(knots, 1.0), "ValueError", r"Piecewise\.values", "leading axis"),
    ("no value", lambda: Piecewise(knots, None), "ValueError", r"Piecewise\.values must hold", "None"),
    ("text values", lambda: Piecewise(knots, "abc"), "TypeError", r"Piecewise\.values must be a number"),
    ("nan value", lambda: Piecewise(knots, N([1.0, jnp.nan, 2.0])), "ValueError", r"Piecewise\.values must be finite, got nan at index \[1\]"),
    ("inf value", lambda: Steps(knots, N([1.0, jnp.inf])), "ValueError", r"Steps\.values must be finite, got inf"),
    ("knots fall", lambda: Piecewise(knots[::-1], knots), "ValueError", r"Piecewise\.ts must be strictly increasing.*ts\[1\] = 1.0 follows"),
    ("nan knot", lambda: Piecewise(N([0.0, jnp.nan, 1.0]), knots), "ValueError", r"Piecewise\.ts must be finite"),
    ("before shape", lambda: Piecewise(knots, knots, before=jnp.ones(2)), "ValueError", r"Piecewise\.before", "structure and shapes of one control"),
    ("after structure", lambda: Steps(knots, {"k": jnp.ones(2)}, after=1.0), "ValueError", r"Steps\.after", r"\{'k': \(\)\}"),
    ("before nan", lambda: Piecewise(knots, knots, before=jnp.nan), "ValueError", r"Piecewise\.before must be finite"),
    ("no time", lambda: ramp(0.0, 1.0, 0.0), "ValueError", "t0 < t1", "t1 = 0.0"),
    ("time backward", lambda: Function(jnp.sin, -1.0), "ValueError", "t0 < t1", "t1 = -1.0"),
    ("time nan", lambda: ramp(0.0, 1.0, float("nan")), "ValueError", "t1 must be finite, got nan"),
    ("time inf", lambda: ramp(0.0, 1.0, float("inf")), "ValueError", "t1 must be finite, got inf"),
    ("times", lambda: ramp(0.0, 1.0, N([1.0, 2.0])), "ValueError", r"t1 must have shape \(\)", r"\(2,\)"),
    ("time text", lambda: ramp(0.0, 1.0, "late"), "TypeError", "t1 must be a number", "'late'"),
    ("time None", lambda: ramp(0.0, 1.0, None), "TypeError", "t1 must be a number", "None"),
    ("ramp shapes", lambda: ramp(0.0, jnp.ones(2), 1.0), "ValueError", r"ramp\.stop", r"one control, \(\); got \(2,\)"),
    ("ramp structures", lambda: ramp({"k": 0.0}, 1.0, 1.0), "ValueError", r"ramp\.stop", r"\{'k': \(\)\}"),
    ("ramp knots", lambda: ramp(0.0, 1.0, 1.0, knots=1), "ValueError", r"ramp\.knots.*at least 2; got 1"),
    ("ramp half a knot", lambda: ramp(0.0, 1.0, 1.0, knots=2.5), "ValueError", r"ramp\.knots must be a whole number"),
    ("spline method", lambda: Spline(knots, knots, method="smooth"), "ValueError", r"Spline\.method 'smooth'", '"cubic2"'),
    ("Function of a number", lambda: Function(3.0, 1.0), "TypeError", r"Function\.fn must be a callable lam\(t\), got 3\.0"),
    ("Function of nothing", lambda: Function(lambda: 1.0, 1.0), "TypeError", r"Function\.fn must be a callable \(t\)"),
    ("Function to text", lambda: Function(lambda t: "up", 1.0), "TypeError", r"Function\.fn\(t\) must be a number", "'up'"),
    ("Function to nan", lambda: Function(lambda t: t * jnp.nan, 1.0), "ValueError", r"Function\.fn\(t\) must be finite"),
    ("Network bounds", lambda: Network(1.0, 1.0, 1.0, key=key(), lower=2.0, upper=0.0), "ValueError", "Network needs finite lower < upper"),
    ("Network outside", lambda: Network(0.0, 1.0, 1.0, key=key(), lower=0.0), "ValueError", r"Network\.start must lie strictly between 0\.0 and inf, got 0\.0", "widen the bounds"),
    ("Network width", lambda: Network(0.0, 1.0, 1.0, key=key(), width=0), "ValueError", r"Network\.width.*at least 1; got 0"),
    ("many times at once", lambda: ramp(0.0, 1.0, 1.0)(ts()), "ValueError", "one time t", r"jax\.vmap\(protocol\)\(ts\)"),
    ("Joint spans", lambda: Joint({"a": ramp(0.0, 1.0, 1.0), "b": ramp(0.0, 1.0, 2.0)}), "ValueError", "Joint", r"share one span \(t0, t1\)", "'b'"),
    ("Joint nothing", lambda: Joint({}), "ValueError", "Joint", "at least one protocol"),
    ("Joint list", lambda: Joint([ramp(0.0, 1.0, 1.0)]), "ValueError", "Joint needs a dict", "{name: protocol}"),
    ("Joint callable", lambda: Joint({"a": jnp.sin}), "TypeError", r"Joint\['a'\]", r"protocols\.Function\(fn, t1\)"),
    ("Reversed callable", lambda: Reversed(jnp.sin), "TypeError", "Reversed", r"protocols\.Function\(fn, t1\)"),
    ("fixed number", lambda: fixed(3.0), "TypeError", "fixed", r"protocols\.Function\(fn, t1\)"),
    ("bounded outside", lambda: bounded(ramp(0.0, 1.0, 1.0), 0.0, 2.0), "ValueError", "bounded: values must lie strictly between 0.0 and 2.0", "widen the bounds"),
    ("bounded order", lambda: bounded(ramp(0.0, 1.0, 1.0), 2.0, 0.0), "ValueError", "bounded needs finite lower < upper", "2.0 and 0.0"),
    ("bounded by nothing", lambda: bounded(ramp(0.0, 1.0, 1.0)), "ValueError", "bounded needs lower=, upper="),
    ("bounded by nan", lambda: bounded(ramp(0.0, 1.0, 1.0), float("nan")), "ValueError", "bounded needs finite lower"),
    ("bounded by text", lambda: bounded(ramp(0.0, 1.0, 1.0), "zero"), "TypeError", "bounded: lower and upper must be numbers"),
    ("bounded by an array", lambda: bounded(ramp(jnp.ones(2), jnp.ones(2), 1.0), jnp.zeros(2)), "TypeError", "bounded: lower and upper must be numbers"),
    ("bounded Function", lambda: bounded(Function(jnp.sin, 1.0), -2.0), "TypeError", "bounded", "Piecewise, Steps or Spline", "Network takes lower="),
    ("positive", lambda: positive(ramp(-1.0, 1.0, 1.0)), "ValueError", "strictly between 0.0 and inf", "widen the bounds"),
    ("monotone", lambda: monotone(Piecewise(knots, N([0.0, 1.0, 1.0]))), "ValueError", "monotone: the given values must already rise, or fall"),
):  # fmt: skip
    bad(f"protocol: {name}", call, error, *words)

# ---- densities
square, indefinite = N([[1.0, 0.5], [0.0, 1.0]]), N([[1.0, 2.0], [2.0, 1.0]])
origin = N([0.0, 0.0])
quartic = lambda: tjx.Overdamped(Quartic(1.0))
for name, call, error, *words in (
    ("negative variance", lambda: Gaussian(0.0, -1.0), "ValueError", r"Gaussian\.cov must be finite and greater than zero, got -1"),
    ("no variance", lambda: Gaussian(0.0, 0.0), "ValueError", r"Gaussian\.cov must be finite and greater than zero"),
    ("asymmetric", lambda: Gaussian(origin, square), "ValueError", r"Gaussian\.cov must be symmetric and positive definite"),
    ("indefinite", lambda: Gaussian(origin, indefinite), "ValueError", r"Gaussian\.cov must be symmetric and positive definite"),
    ("nan covariance", lambda: Gaussian(origin, np.full((2, 2), np.nan)), "ValueError", r"Gaussian\.cov must be finite"),
    ("variances", lambda: Gaussian(origin, jnp.ones(3)), "ValueError", r"Gaussian\.cov", r"\(2,\) or \(2, 2\) for a mean of 2, got \(3,\)"),
    ("covariance", lambda: Gaussian(jnp.zeros(3), jnp.eye(2)), "ValueError", r"Gaussian\.cov", r"\(3, 3\) for a mean of 3, got \(2, 2\)"),
    ("oblong", lambda: Gaussian(origin, jnp.ones((2, 3))), "ValueError", r"Gaussian\.cov", r"got \(2, 3\)"),
    ("mean matrix", lambda: Gaussian(jnp.zeros((2, 2)), 1.0), "ValueError", r"Gaussian\.mean must have shape \(\) or \(d,\)"),
    ("mean nan", lambda: Gaussian(float("nan"), 1.0), "ValueError", r"Gaussian\.mean must be finite"),
    ("mean None", lambda: Gaussian(None, 1.0), "TypeError", r"Gaussian\.mean must be a number"),
    ("many points", lambda: Gaussian(origin, 1.0).log_prob(jnp.zeros((5, 2))), "ValueError", "log_prob takes one point", r"jax\.vmap"),
    ("wrong point", lambda: Gaussian(origin, 1.0).log_prob(jnp.zeros(3)), "ValueError", r"one point of shape \(2,\), got shape \(3,\)"),
    ("Point matrix", lambda: Point(jnp.zeros((2, 2))), "ValueError", r"Point\.x0 must have shape \(\) or \(d,\)"),
    ("Point nan", lambda: Point(float("nan")), "ValueError", r"Point\.x0 must be finite"),
    ("Point and final", lambda: run(initial=Point(0.0), final=Gaussian(0.0, 1.0)), "ValueError", "Point has no density", "narrow Gaussian, or final=None"),
    ("Point as final", lambda: run(final=Point(0.0)), "ValueError", "Point has no density", "narrow Gaussian, or final=None"),
    ("draws a scalar", lambda: run(initial=Lump(jnp.zeros(()))), "ValueError", r"initial\.sample\(key\)", r"shape \(d,\), also for d = 1"),
    ("draws a batch", lambda: run(initial=Lump(jnp.zeros((3, 1)))), "ValueError", r"initial\.sample\(key\)", r"shape \(d,\)"),
    ("draws nothing", lambda: run(initial=Lump(jnp.zeros(0))), "ValueError", r"initial\.sample\(key\)", r"shape \(d,\)"),
    ("draws integers", lambda: run(initial=Lump(jnp.zeros(1, int))), "TypeError", r"initial\.sample\(key\)", "floating-point numbers, got int", r"astype\(float\)"),
    ("log_prob per coordinate", lambda: run(initial=Lump(N([0.0]), N([0.0])), final=Gaussian(0.0, 1.0)), "ValueError", r"initial\.log_prob\(x\) must return one real scalar", "to_event"),
    ("final of other size", lambda: run(initial=Gaussian(origin, 1.0), final=Gaussian(0.0, 1.0)), "ValueError", r"one point of shape \(1,\), got shape \(2,\)"),
    ("Boltzmann of a potential", lambda: Boltzmann(MovingTrap(1.0), 0.0), "TypeError", r"Boltzmann\.system", r"Overdamped\(potential\)"),
    ("Boltzmann size", lambda: Boltzmann(trap(), origin), "ValueError", r"number of coordinates from parameters of shape \[\(2,\)\]: give dim="),
    ("Boltzmann dim 0", lambda: Boltzmann(trap(), 0.0, dim=0), "ValueError", r"Boltzmann\.dim", "at least 1; got 0"),
    ("Boltzmann dim 1.5", lambda: Boltzmann(trap(), 0.0, dim=1.5), "ValueError", r"Boltzmann\.dim", "whole number"),
    ("Boltzmann text", lambda: Boltzmann(trap(), "left"), "TypeError", r"Boltzmann\.lam must be a number", "'left'"),
    ("negative stiffness", lambda: Boltzmann(tjx.Overdamped(Breathing()), -1.0), "ValueError", "curvature -1", "does not confine", "positive stiffness"),
    ("no stiffness", lambda: Boltzmann(tjx.Overdamped(Breathing()), 0.0), "ValueError", "curvature 0", "positive stiffness"),
    ("saddle", lambda: Boltzmann(overdamped(lambda x, lam: 0.5 * x @ (indefinite @ x)), dim=2), "ValueError", "curvature -1", "does not confine"),
    ("ring", lambda: Boltzmann(tjx.Overdamped(Ring(1.0))), "ValueError", "potential must be confining", "bounds="),
    ("upside down", lambda: Boltzmann(tjx.Overdamped(Quartic(-1.0)), 1.0), "ValueError", "potential must be confining", "bounds="),
    ("logarithm", lambda: Boltzmann(overdamped(lambda x, lam: jnp.sum(jnp.log1p(x**2)))), "ValueError", "potential must be confining", "bounds="),
    ("undefined", lambda: Boltzmann(overdamped(lambda x, lam: jnp.sum(jnp.log(x) + x**4))), "ValueError", "potential must be finite", "bounds="),
    ("unresolved", lambda: Boltzmann(quartic(), 1.0, bounds=(-1e6, 1e6)), "ValueError", "resolved by Boltzmann's quadrature", "4001 nodes are too few", "bounds=, nodes="),
    ("few nodes", lambda: Boltzmann(quartic(), 1.0, nodes=5), "ValueError", "5 nodes are too few", "nodes="),
    ("no nodes", lambda: Boltzmann(quartic(), 1.0, nodes=0), "ValueError", r"Boltzmann\.nodes", "at least 3; got 0"),
    ("bounds backward", lambda: Boltzmann(quartic(), 1.0, bounds=(1.0, -1.0)), "ValueError", r"Boltzmann\.bounds", "lower < upper"),
    ("one bound", lambda: Boltzmann(quartic(), 1.0, bounds=3.0), "TypeError", r"Boltzmann\.bounds must be two numbers, got 3\.0"),
    ("quartic in 2-D", lambda: Boltzmann(quartic(), 1.0, dim=2), "ValueError", "not quadratic in 2 dimensions needs sampler=", r"log_z= for log_prob", r"densities\.mcmc samples it"),
    ("quartic in 2-D, half", lambda: Boltzmann(quartic(), 1.0, dim=2, log_z=0.0), "ValueError", "needs sampler=", r"densities\.mcmc"),
    ("quartic in 2-D, log_prob", lambda: sampled().log_prob(origin), "ValueError", r"Boltzmann\.log_z is missing", "not quadratic in 2 dimensions", r"Give log_z=, or final=None"),
    ("quartic in 2-D as final", lambda: run(tjx.Overdamped(Quartic(1.0)), ramp(1.0, 2.0, 1.0), sampled(), sampled()), "ValueError", r"Boltzmann\.log_z is missing", "final=None"),
    ("sampler differentiated", lambda: jax.grad(lambda lam: sampled(lam).sample(key())[0])(1.0), "ValueError", r"Boltzmann\.lam is being differentiated through Boltzmann\.sample", "Hold them fixed", r"own with a reparametrised sample\(key\)\.$"),
    ("mixture of nothing", lambda: Mixture([], []), "ValueError", r"Mixture\.components must hold at least one density, got none"),
    ("mixture of one density", lambda: Mixture([1.0], Gaussian(0.0, 1.0)), "TypeError", r"Mixture\.components must be a list or tuple of densities, got Gaussian", r"Example: Mixture"),
    ("mixture of a number", lambda: Mixture([0.5, 0.5], [Gaussian(0.0, 1.0), 3.0]), "TypeError", r"Mixture\.components\[1\] must be a density with \.sample\(key\) and \.log_prob\(x\), got 3\.0", "thermojax.densities"),
    ("mixture of a class", lambda: Mixture([1.0], [Gaussian]), "TypeError", r"Mixture\.components\[0\] must be a density"),
    ("mixture, negative weight", lambda: mixed([0.5, -0.5]), "ValueError", rf"Mixture\.weights must be {positive_only}, got -0\.5 at index \[1\]"),
    ("mixture, zero weight", lambda: mixed([0.0, 1.0]), "ValueError", rf"Mixture\.weights must be {positive_only}, got 0\.0 at index \[0\]"),
    ("mixture, nan weight", lambda: mixed([1.0, float("nan")]), "ValueError", rf"Mixture\.weights must be {positive_only}, got nan at index \[1\]"),
    ("mixture, text", lambda: mixed("half"), "TypeError", r"Mixture\.weights must be a number", "'half'"),
    ("mixture, three weights", lambda: mixed([0.5, 0.25, 0.25]), "ValueError", r"Mixture\.weights must be one number per component, shape \(2,\); got \(3,\)"),
    ("mixture, one weight", lambda: mixed(1.0), "ValueError", r"Mixture\.weights must be one number per component, shape \(2,\); got \(\)"),
    ("mixture, sizes", lambda: Mixture([0.5, 0.5], [Gaussian(0.0, 1.0), Gaussian(origin, 1.0)]), "ValueError", r"Mixture\.components must all draw one state of the same shape \(d,\), got \[\(1,\), \(2,\)\]"),
    ("mixture of scalars", lambda: Mixture([1.0], [Lump(N(0.0))]), "ValueError", r"Mixture\.components.*\(d,\), got \[\(\)\]"),
    ("mixture of integers", lambda: Mixture([1.0], [Lump(N([0]))]), "TypeError", r"Mixture\.components\[0\]\.sample\(key\) must draw floating-point numbers, got int", r"astype\(float\)"),
    ("mixture, no Gaussian", lambda: tjx.evolve.moments(process(initial=mixed([1.0, 1.0])), ts()), "ValueError", "got Mixture, which is no Gaussian", "densities.Gaussian"),
    ("mixture of a point", lambda: Mixture([1.0], [Point(0.0)]).log_prob(N([0.0])), "ValueError", "Point has no density", "narrow Gaussian, or final=None"),
    ("mixture, weights differentiated", lambda: jax.grad(lambda w: mixed(w).sample(key())[0])(N([1.0, 1.0])), "ValueError", r"Mixture\.weights are being differentiated through Mixture\.sample", r"jax\.lax\.stop_gradient\(weights\)", "weight the averages of the components by them"),
    ("Empirical vector", lambda: Empirical(jnp.zeros(5)), "ValueError", r"Empirical\.xs must have shape \(n, d\).*got \(5,\)", r"xs\[:, None\]"),
    ("Empirical cube", lambda: Empirical(jnp.zeros((5, 2, 1))), "ValueError", r"Empirical\.xs must have shape \(n, d\).*got \(5, 2, 1\)"),
    ("Empirical of nothing", lambda: Empirical(jnp.zeros((0, 2))), "ValueError", r"Empirical\.xs must hold at least one number, got shape \(0, 2\)"),
    ("Empirical nan", lambda: Empirical(np.array([[0.0, 1.0], [1.0, np.nan], [np.inf, 0.0]])), "ValueError", r"Empirical\.xs must be finite: 2 of 3 rows", r"row 1, \[ *1\.? +nan\]", r"Leave them out: xs\[jnp\.isfinite\(xs\)\.all\(axis=1\)\]"),
    ("Empirical integers", lambda: Empirical([[0], [1]]), "TypeError", r"Empirical\.xs must be floating point, got int", r"astype\(float\)"),
    ("Empirical text", lambda: Empirical("runs.csv"), "TypeError", r"Empirical\.xs must be a number or an array"),
    ("Empirical complex", lambda: Empirical(np.zeros((3, 1), complex)), "TypeError", r"Empirical\.xs must be real"),
    ("Empirical and final", lambda: run(initial=Empirical(jnp.zeros((3, 1))), final=Gaussian(0.0, 1.0)), "ValueError", "Empirical has no density", "Gaussian or a Mixture, or final=None"),
    ("Empirical, no Gaussian", lambda: tjx.evolve.moments(process(initial=Empirical(jnp.zeros((3, 1)))), ts()), "ValueError", "got Empirical, which is no Gaussian", r"Gaussian\(xs\.mean\(0\)"),
    ("sampler 3", lambda: Boltzmann(quartic(), 1.0, dim=2, log_z=0.0, sampler=3), "TypeError", r"Boltzmann\.sampler must be a callable of a key, got 3"),
    ("Boltzmann of baths", lambda: Boltzmann(trap(temperature=N([1.0, 2.0])), 0.0, dim=2), "ValueError", "Boltzmann needs one temperature", "Gaussian"),
    ("Boltzmann point", lambda: Boltzmann(trap(), 0.0).log_prob(origin), "ValueError", "log_prob takes one point", r"jax\.vmap"),
    ("noise of negative variance", lambda: densities.noised(Gaussian(0.0, 1.0), 0.5, -1.0), "ValueError", r"noised\.variance must not be negative, got -1\.0"),
    ("noise per coordinate", lambda: densities.noised(Gaussian(origin, 1.0), 1.0, N([1.0, 2.0])), "ValueError", r"noised\.variance must have shape \(\), one number"),
    ("noise on a number", lambda: densities.noised(3.0, 1.0, 1.0), "TypeError", r"noised\.density must be a density", "got 3.0"),
    ("three bounds", lambda: Boltzmann(quartic(), 1.0, bounds=(0.0, 1.0, 2.0)), "TypeError", r"Boltzmann\.bounds must be two numbers, got \(0\.0, 1\.0, 2\.0\)"),
    ("bounds of text", lambda: Boltzmann(quartic(), 1.0, bounds="wide"), "TypeError", r"Boltzmann\.bounds must be two numbers, got 'wide'"),
    ("endless bounds", lambda: Boltzmann(quartic(), 1.0, bounds=(0.0, float("inf"))), "ValueError", r"Boltzmann\.bounds must be finite, \(lower, upper\)", "inf"),
):  # fmt: skip
    bad(f"density: {name}", call, error, *words)

# ---- paths, and what is computed of them
for name, call, error, *words in (
    ("trajectory as path", lambda: tjx.account(ended(), run()), "TypeError", r"path must be thermojax\.Path", r"has it as \.path"),
    ("tuple", lambda: tjx.account(ended(), (ts(), jnp.zeros((5, 1)))), "TypeError", r"path must be thermojax\.Path\(ts, xs\), got tuple"),
    ("one axis", lambda: tjx.account(ended(), tjx.Path(ts(), jnp.zeros(5))), "ValueError", r"path\.xs must have shape \(times, d\)", r"xs\[\.\.\., None\]"),
    ("lengths", lambda: tjx.account(ended(), tjx.Path(ts(), jnp.zeros((4, 1)))), "ValueError", r"path\.ts and path\.xs disagree: \(5,\) times"),
    ("integers", lambda: tjx.account(ended(), tjx.Path(ts(), jnp.zeros((5, 1), int))), "TypeError", r"path\.xs must be floating point", r"astype\(float\)"),
    ("None", lambda: tjx.account(ended(), tjx.Path(None, None)), "TypeError", r"path\.ts must be"),
    ("size", lambda: tjx.account(ended(), still(d=2)), "ValueError", r"one point of shape \(1,\), got shape \(2,\)"),
    ("size and baths", lambda: tjx.account(baths(), still(d=3)), "ValueError", r"temperature.*shape of the state, \(3,\); got shape \(2,\)"),
    ("falls", lambda: tjx.account(ended(), tjx.Path(ts()[::-1], jnp.zeros((5, 1)))), "ValueError", r"path\.ts must be strictly increasing.*path\.ts\[1\] = 0\.75"),
    ("outside", lambda: tjx.account(ended(), tjx.Path(2 * ts(), jnp.zeros((5, 1)))), "ValueError", "span", "Extend|shorten"),
    ("reduced work of baths", lambda: tjx.reduced_work(baths(), tjx.simulate(baths(), ts(), key())), "ValueError", "reduced_work needs one bath", r"entropy\.total or dissipated_work"),
    ("reduced work of running totals", lambda: tjx.reduced_work(ended(), tjx.account(ended(), still(), cumulative=True)), "ValueError", "takes totals", "cumulative=False"),
    ("a loss without a key", lambda: tjx.optimal.search(lambda protocol: 1.0, ramp(0.0, 1.0, 1.0), key(), steps=2), "TypeError", r"loss must be a callable \(protocol, key\)", "takes a key and ignores it"),
    ("reduced work of a run of the reversed process", lambda: tjx.reduced_work(ended(), tjx.ensemble(tjx.reverse(ended()), ts(), key(), 50)), "ValueError", "the process that the trajectory is a run of", r"reduced_work\(reverse\(process\), run\)"),
    ("reduced work of a path", lambda: tjx.reduced_work(ended(), still()), "TypeError", "takes a Trajectory, got Path", "account"),
    ("dissipated work without final", lambda: tjx.dissipated_work(process(), run()), "ValueError", r"dissipated_work needs process\.final", "Give final=, e.g. .*Boltzmann"),
    ("dissipated work of a path", lambda: tjx.dissipated_work(ended(), still()), "TypeError", "takes a Trajectory, got Path"),
    ("reverse without final", lambda: tjx.reverse(process()), "ValueError", "reverse .*final=None", "Give final=, e.g. .*Boltzmann"),
    ("reverse of a callable", lambda: tjx.reverse(process(protocol=jnp.sin, final=Gaussian(0.0, 1.0))), "TypeError", "reverse needs the span", r"protocols\.Function\(fn, t1\)"),
    ("grid of a callable", lambda: tjx.reverse_grid(process(protocol=jnp.sin), ts()), "TypeError", "reverse_grid needs the span", r"protocols\.Function\(fn, t1\)"),
    ("ratio to a callable", lambda: tjx.path_ratio(ended(), process(protocol=jnp.sin), still()), "TypeError", "path_ratio needs the span", r"protocols\.Function\(fn, t1\)"),
    ("ratio, no mirror image", lambda: tjx.path_ratio(ended(), process(protocol=ramp(1.0, 0.0, 2.0)), still()), "ValueError", "path_ratio: forward and backward must share one span", r"thermojax\.reverse\(process\)"),
    ("ratio of a trajectory", lambda: tjx.path_ratio(ended(), tjx.reverse(ended()), run()), "TypeError", r"path must be thermojax\.Path"),
    ("ratio with kernels=3", lambda: tjx.path_ratio(ended(), tjx.reverse(ended()), still(), kernels=3), "TypeError", "kernels must be a callable", r"\(mean, variance\), or a pair"),
    ("ratio of three kernels", lambda: tjx.path_ratio(ended(), tjx.reverse(ended()), still(), kernels=(tjx.euler,) * 3), "TypeError", "kernels must be", "a pair"),
    ("moments, not linear", lambda: tjx.evolve.moments(process(quartic()), ts()), "ValueError", "moments is for linear systems", r"thermojax\.ensemble"),
    ("moments, not Gaussian", lambda: tjx.evolve.moments(process(initial=Boltzmann(quartic(), 1.0)), ts()), "ValueError", "not quadratic", r"densities\.Gaussian"),
    ("moments, own density", lambda: tjx.evolve.moments(process(initial=Lump(N([0.0]))), ts()), "ValueError", "moments needs a Gaussian start, got Lump", r"densities\.Gaussian"),
    ("moments, cold", lambda: tjx.evolve.moments(process(trap(temperature=lambda lam: 0.5 - lam)), ts()), "ValueError", r"temperature\(lam\(t\)\)", positive_only),
):  # fmt: skip
    bad(f"path: {name}", call, error, *words)

# ---- estimators
for estimator, w in (
    (jarzynski, "w"),
    (integral_fluctuation, "r"),
    (mean, "x"),
    (second_cumulant, "w"),
    (second_law_excess, "w"),
):
    name = estimator.__name__
    two = (f"{w} must hold at least two", "got")
    failed = [0.0, np.nan, 1.0, np.nan, -np.inf]
    for what, value, error, *words in (
        ("nothing", np.zeros(0), "ValueError", *two),
        ("one", np.zeros(1), "ValueError", *two),
        ("matrix", np.zeros((3, 2)), "ValueError", rf"{w} must have shape \(paths,\)", r"\(3, 2\)"),
        ("scalar", 1.0, "ValueError", rf"{w} must have shape \(paths,\)"),
        ("integers", np.arange(3), "TypeError", f"{w} must be floating point", r"astype\(float\)"),
        ("complex", np.zeros(3, complex), "TypeError", f"{w} must be floating point"),
        ("text", "abc", "TypeError", f"{w} must be a number or an array"),
        ("None", None, "TypeError", f"{w} must be a number or an array"),
        ("a run", tjx.Trajectory(None, *np.zeros((2, 3)), None), "TypeError", "got a Trajectory", r"reduced_work\(process, run\)"),
        ("failed", np.array(failed), "ValueError", f"3 of 5 entries of {w}", "first at index 1", "smaller steps", 'failed="drop"'),
    ):  # fmt: skip
        bad(f"{name}: {what}", lambda e=estimator, v=value: e(v), error, *words)
    bad(
        f"{name}: word",
        lambda e=estimator: e(np.zeros(3), failed="skip"),
        "ValueError",
        'failed must be "raise" or "drop"',
    )
    bad(
        f"{name}: all failed",
        lambda e=estimator: e(np.full(3, np.nan), failed="drop"),
        "ValueError",
        f"Fewer than two entries of {w} are finite",
    )


fine, infinite = np.zeros(5), np.array([1.0, -np.inf])
for estimator in (bar, crooks):
    for what, there, back, error, *words in (
        ("one", fine, np.zeros(1), "ValueError", "w_reverse must hold at least two"),
        ("matrix", np.zeros((2, 2)), fine, "ValueError", r"w_forward must have shape \(paths,\)"),
        ("integers", fine, np.arange(4), "TypeError", "w_reverse must be floating point"),
        ("failed", fine, infinite, "ValueError", "1 of 2 entries of w_reverse are not finite"),
        ("mixed", fine, fine.astype("f4"), "TypeError", "w_forward is float64", "w_reverse is float32"),
    ):  # fmt: skip
        bad(
            f"{estimator.__name__}: {what}",
            lambda e=estimator, f=there, r=back: e(f, r),
            error,
            *words,
        )
for what, call, error, *words in (
    ("no estimator", lambda: bootstrap(fine, jarzynski, key=key()), "TypeError", "takes an estimator and its samples"),
    ("seed", lambda: bootstrap(jarzynski, fine, key=0), "TypeError", "key"),
    ("block", lambda: bootstrap(jarzynski, fine, key=key(), block=3), "ValueError", "block must be at most half"),
    ("endless", lambda: mean(np.array([1.0, np.inf, 2.0]), failed="drop"), "ValueError", "1 of 3 entries of x are infinite, inf at index 1", "with weight zero"),
    ("draws", lambda: bootstrap(jarzynski, fine, key=key(), draws=1), "ValueError", "draws must be", "at least 2"),
    ("failed", lambda: bootstrap(jarzynski, infinite, key=key()), "ValueError", "not finite"),
    ("excess", lambda: second_law_excess(fine, "zero"), "TypeError", "delta must be"),
    ("masked", lambda: mean(np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])), "TypeError", "x must be a number", "1 entries are masked", "compressed"),
    ("objects", lambda: mean(np.array([1.0, 2.0], object)), "TypeError", "x must be a number", "Python objects", r"astype\(float\)"),
    ("masked path", lambda: tjx.account(ended(), tjx.Path(ts(), np.ma.array(np.zeros((5, 1)), mask=np.eye(5, 1)))), "TypeError", r"path\.xs must be", "1 entries are masked"),
    ("masked batch", lambda: tjx.measured.Measured(tjx.Path(ts(), np.ma.array(np.zeros((1, 5, 1)), mask=np.eye(5, 1)[None])), np.zeros((1, 5))).process(trap(), Gaussian(0.0, 1.0)), "TypeError", r"data\.path\.xs must be", "1 entries are masked"),
    ("whole currents", lambda: tjx.bounds.tur_of(np.arange(9)), "TypeError", "current must be floating point", r"astype\(float\)"),
    ("a batch of currents", lambda: tjx.bounds.tur_of(np.ones((2, 9))), "ValueError", r"current must have shape \(paths,\)"),
):  # fmt: skip
    bad(f"estimators, {what}", call, error, *words)


# ---- losses and the ways to differentiate them
def descend(loss, **options):
    protocol = ramp(0.0, 1.0, 1.0, knots=3)
    return optimal.search(loss, protocol, key(), steps=1, progress=False, **options)


for what, call, error, *words in (
    ("of", lambda: optimal.average(3.0, process(), ts(), 10), "TypeError", "of must be a callable"),
    ("no paths", lambda: optimal.mean_work(process(), ts(), 0), "ValueError", "size must be a whole number of paths"),
    ("target", lambda: optimal.state_to_state(process(), ts(), 9, 2.0, 1.0), "TypeError", "target must be a density"),
    ("weight", lambda: optimal.state_to_state(process(), ts(), 9, Point(1.0), -1.0), "ValueError", "weight must be"),
    ("no final", lambda: optimal.mean_dissipation(process(), ts(), 9), "ValueError", "needs process.final"),
    ("gradient", lambda: descend(optimal.mean_work(process(), ts(), 9), gradient="both"), "ValueError", '"pathwise" or "score"'),
    ("plain", lambda: descend(lambda p, k: jnp.sum(p.values), gradient="score"), "TypeError", "optimal.average"),
    ("Heun", lambda: descend(optimal.mean_work(process(), ts(), 9), gradient="score"), "ValueError", "our Heun", "kernel"),
    ("checkpoint", lambda: descend(optimal.mean_work(process(), ts(), 9), checkpoint=3.5), "TypeError", "path of a file"),
    ("variance", lambda: descend(optimal.estimator_variance(process(), ts(), 9), gradient="score"), "ValueError", "averages over paths"),
    ("several costs", lambda: optimal.average(lambda t: t.work.mean(), process(), ts(), 9)(ramp(0.0, 1.0, 1.0), key()),
     "ValueError", r"one number per path, shape \(9,\)", r"got \(\)"),
):  # fmt: skip
    bad(f"loss: {what}", call, error, *words)


# ---- schedules
def any_curve():
    levels = jnp.linspace(-2.0, 2.0, 5)
    return schedules.Curve(lam=levels, mse=jnp.exp(-levels), second_moment=jnp.asarray(1.0), dim=1)


for name in ("mean_work", "friction", "variances"):
    bad(
        f"schedules.{name}: tau",
        lambda name=name: getattr(schedules, name)(jnp.array([1.0, 0.0]), any_curve(), tau="best"),
        "ValueError",
        'tau must be "optimal", "posterior" or "forward"',
    )


for what, given, *words in (
    ("shape", {"mse": jnp.ones(4)}, r"Curve.mse must be one error for each", r"\(5,\), got \(4,\)"),
    ("sign", {"mse": -jnp.ones(5)}, "Curve.mse must be finite and greater than zero", "got -1"),
    ("words", {"lam": ["a", "b"]}, "Curve.lam"),
):
    bad(
        f"Curve: {what}",
        lambda given=given: schedules.Curve(
            **({"lam": jnp.linspace(-2.0, 2.0, 5), "mse": jnp.ones(5)} | given),
            second_moment=1.0,
            dim=1,
        ),
        ("ValueError", "TypeError")[what == "words"],
        *words,
    )
bad(
    "schedules.likelihood_cost_of: another dim",
    lambda: schedules.likelihood_cost_of(lambda x, lam: 0.5 * x, jnp.ones((3, 2)), any_curve()),
    "ValueError",
    "curve must be that of data with as many coordinates as these, 2, and it is of 1",
)
bad(
    "schedules.likelihood: one point",
    lambda: schedules.likelihood(
        jnp.linspace(2.0, -2.0, 3), lambda x, lam: 0.5 * x, jnp.ones((1, 2)), key(), tau=jnp.ones(3)
    ),
    "ValueError",
    "data must hold two points or more",
)
bad(
    "moments: a clock without digits",
    lambda: tjx.evolve.moments(
        process(
            tjx.Overdamped(MovingTrap(1.0), mobility=100.0),
            tjx.protocols.ramp(0.0, 1.0, 1.7e9 + 0.1, t0=1.7e9),
        ),
        1.7e9 + jnp.linspace(0.0, 0.1, 5),
    ),
    "RuntimeError",
    "count the time, and the protocol's, from near there",
)


# ---- what looks odd, but has a documented meaning: each is True
def _failed_marked():
    nowhere = tjx.Overdamped(lambda x, lam: jnp.sum(jnp.log(x)))  # no energy left of zero
    left = tjx.simulate(process(nowhere, initial=Point(-1.0)), ts(), key())
    return not left.path.ok and np.isnan(left.work)


def _traced_negative_stiffness_marked():
    """A traced curvature is not checked: the paths are marked, and the estimators stop."""
    soft = tjx.Overdamped(Breathing())
    work = jax.jit(
        lambda k: tjx.ensemble(process(soft, initial=Boltzmann(soft, k)), ts(), key(), 3)
    )
    return not np.any(work(-1.0).path.ok)


def traced(value, fn):
    """Whether `fn`, compiled, marks a value that is not allowed, in place of an error called back from the host."""
    return bool(np.isnan(jax.jit(fn)(value)) & np.isnan(eqx.filter_jit(fn)(N(value))))


FINE = {
    "traced temperature": lambda: traced(-1.0, lambda v: run(trap(temperature=v)).work),
    "traced mobility": lambda: traced(0.0, lambda v: run(trap(mobility=v)).work),
    "traced temperature, driven": lambda: traced(0.5, lambda v: run(trap(temperature=lambda lam: v - lam)).work),
    "traced mobility, driven": lambda: traced(0.5, lambda v: run(trap(mobility=lambda lam: v - lam)).work),
    "traced ts": lambda: traced([0.0, 0.5, 0.4], lambda t: run(grid=jnp.asarray(t)).work),
    "traced variance": lambda: traced(-1.0, lambda c: Gaussian(0.0, c).log_prob(jnp.zeros(1))),
    "traced weight": lambda: traced([1.0, -1.0], lambda w: mixed(jnp.asarray(w)).log_prob(N([0.0]))),
    "integer times": lambda: float(run(grid=[0, 1]).path.ts[-1]) == 1.0,
    "integer start becomes a float": lambda: jnp.issubdtype(run(initial=Point(0)).path.xs.dtype, jnp.floating),
    "whole numbers stay weak": lambda: trap(temperature=1).temperature.value.weak_type,
    "whole numbers in single precision": lambda: run(trap(temperature=1, mobility=2), ramp(single(0), single(1), 1), Gaussian(single(0.0), 1), grid=single(ts())).work.dtype == jnp.float32,
    "integer parameters": lambda: bool(run(trap(temperature=1, mobility=2), ramp(0, 1, 1)).path.ok),
    "numpy integers": lambda: tjx.ensemble(ended(), ts(), key(), np.int64(2), save=np.int32(2)).path.xs.shape == (2, 3, 1),
    "constant temperature by a callable": lambda: bool(run(trap(temperature=lambda lam: 2)).path.ok),
    "save beyond the last step": lambda: run(save=100).path.xs.shape == (2, 1),
    "a potential that is not defined": _failed_marked,
    "a traced negative stiffness": _traced_negative_stiffness_marked,
    "a NaN on a path": lambda: np.isnan(tjx.account(ended(), tjx.Path(ts(), jnp.full((5, 1), jnp.nan))).work),
    "single-precision overflow": lambda: float(jarzynski(jnp.full(200, -200.0, jnp.float32)).value) == -200.0,
    "numpy's other floats": lambda: all(np.allclose(jarzynski(np.arange(9.0).astype(kind)).value, jarzynski(np.arange(9.0)).value) for kind in (">f8", ">f4", np.longdouble)),
    "a mask that hides nothing": lambda: float(mean(np.ma.array([1.0, 3.0])).value) == 2.0,
    "a path in another byte order": lambda: bool(tjx.account(ended(), tjx.Path(np.asarray(ts()).astype(">f8"), np.zeros((5, 1), ">f8"))).path.ok),
    "a bootstrap in another byte order": lambda: float(bootstrap(mean, np.array([1.0, 3.0], ">f8"), key=key()).value) == 2.0,
    "a key kept for the start": lambda: not np.isclose(float(run().path.xs[0, 0]), float(jax.random.normal(key()))),
}  # fmt: skip


bad(
    "schedules.chain: mean",
    lambda: schedules.chain(jnp.array([1.0, 0.0]), "heun"),
    "ValueError",
    'mean must be "ddpm" or "euler"',
)


# ---- diffusion models
def noisy(**options):
    return diffusion.noising(Gaussian(0.0, 1.0), diffusion.Linear(), **options)


identity = lambda x, lam: x
POINTS = N([[0.0], [1.0]])
FALLING = N([1.0, 0.0])
ONES, ONE = N([1.0, 1.0]), N([0.1])
work = lambda lam=FALLING, denoise=identity, x0=ONE, tau=ONES: schedules.path_work(
    lam, denoise, x0, key(), tau=tau
)
bad(
    "path_work: rising levels",
    lambda: work(lam=N([0.0, 1.0])),
    "ValueError",
    "lam must fall strictly",
    "index 0, where 1 follows 0",
)
bad(
    "path_work: two ranks",
    lambda: work(lam=jnp.ones((2, 2))),
    "ValueError",
    r"lam must have shape \(N,\)",
)
bad(
    "path_work: tau",
    lambda: work(tau=N([1.0, 0.0])),
    "ValueError",
    r"tau must be finite and greater than zero, got 0.0 at index \[1\]",
)
bad(
    "path_work: tau's shape",
    lambda: work(tau=N([1.0])),
    "ValueError",
    r"both have shape \(N,\), got \(2,\) and \(1,\)",
)
bad(
    "path_work: scalar denoiser",
    lambda: work(denoise=lambda x, lam: x[0]),
    "ValueError",
    r"must return a state of shape \(1,\), got \(\)",
)
bad(
    "sample: scalar denoiser",
    lambda: schedules.sample(FALLING, lambda x, lam: x[0], N([0.1]), key(), tau=N([1.0, 1.0])),
    "ValueError",
    r"must return a state of shape \(1,\)",
)
bad(
    "mean_work: rising levels",
    lambda: schedules.mean_work(N([0.0, 1.0]), any_curve()),
    "ValueError",
    "lam must fall strictly",
)
bad(
    "mean_work: beyond the curve",
    lambda: schedules.mean_work(N([90.0, 1.0]), any_curve()),
    "ValueError",
    "The curve is known for lam from",
    "LogSNR",
)
bad(
    "variances: rising levels",
    lambda: schedules.variances(N([0.0, 1.0]), any_curve()),
    "ValueError",
    "lam must fall strictly",
)
bad(
    "equal_length: ends",
    lambda: schedules.equal_length(any_curve(), 5, -1.0, 1.0),
    "ValueError",
    r"\(top, bottom\) must fall strictly",
    "1 follows -1",
)
bad(
    "length: ends",
    lambda: schedules.thermodynamic_length(any_curve(), 90.0, 1.0),
    "ValueError",
    "The curve is known for lam from",
)
bad(
    "between: ends",
    lambda: schedules.LogSNR.uniform(3).stretched(1.0, 2.0),
    "ValueError",
    "lam must fall strictly",
)
bad(
    "between: range",
    lambda: schedules.LogSNR.uniform(3).stretched(40.0, 2.0),
    "ValueError",
    "lam must lie inside",
)
bad(
    "noising: no density",
    lambda: diffusion.noising(lambda key: 0.0, diffusion.Linear()),
    "TypeError",
    "data must be a density",
)
bad(
    "noising: levels as they are",
    lambda: diffusion.noising(Gaussian(0.0, 1.0), FALLING),
    "TypeError",
    "schedule must be a schedule of thermojax.diffusion",
    r"Levels\(lam\)",
)
bad(
    "noising: kind's name",
    lambda: noisy(kind="vp"),
    "TypeError",
    r"kind must be VP\(\), VE\(\) or SubVP\(\), got 'vp'",
)
bad(
    "noising: points that start clean",
    lambda: diffusion.noising(Empirical(POINTS), diffusion.Linear(t0=0.0)),
    "ValueError",
    "minus infinity",
    "noise floor",
    "t0",
)
bad(
    "noising: a point that starts clean",
    lambda: diffusion.noising(Point(0.0), diffusion.Levels(FALLING)),
    "ValueError",
    "noise floor",
    "clean=False",
)
bad(
    "Levels: rising",
    lambda: diffusion.Levels(N([0.0, 1.0])),
    "ValueError",
    "levels must fall strictly",
)
bad("Levels: one", lambda: diffusion.Levels(N([0.0])), "ValueError", "at least two levels")
bad(
    "Linear: rate",
    lambda: diffusion.Linear(-0.1),
    "ValueError",
    "Linear.b0 must be finite and greater than zero",
)
bad("Linear: span", lambda: diffusion.Linear(t0=0.5, t1=0.2), "ValueError", "t0 = 0.5 and t1 = 0.2")
bad(
    "Cosine: to the end",
    lambda: diffusion.Cosine(t1=1.0),
    "ValueError",
    "t1 <= 0.999999, got t0 = 0.001 and t1 = 1.0",
)
bad(
    "EDM: sigmas",
    lambda: diffusion.EDM(2.0, 1.0),
    "ValueError",
    "sigma_min < sigma_max, got 2.0 and 1.0",
)
bad(
    "Uniform: rising",
    lambda: diffusion.Uniform(-1.0, 1.0),
    "ValueError",
    "a noise schedule falls".replace("a", "A", 1),
    "bottom < top",
)
bad("schedule: many times", lambda: diffusion.Linear()(ts()), "ValueError", "one time t, got shape")
bad(
    "generate: a trap",
    lambda: diffusion.generate(
        tjx.Process(trap(), ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0)), identity
    ),
    "TypeError",
    "process must be a noising",
)
bad(
    "generate: predicts",
    lambda: diffusion.generate(noisy(), identity, predicts="velocity"),
    "ValueError",
    'predicts must be "score", "noise" or "clean"',
)
bad(
    "generate: of time alone",
    lambda: diffusion.generate(noisy(), lambda x: x),
    "TypeError",
    r"predict must be a callable \(x, lam\)",
)
bad(
    "generate: no callable",
    lambda: diffusion.generate(noisy(), 3.0),
    "TypeError",
    r"predict must be a callable \(x, lam\), got 3.0",
)
bad(
    "ensemble: score's shape",
    lambda: tjx.ensemble(
        diffusion.generate(noisy(), lambda x, lam: x[0]), jnp.linspace(0.1, 0.9, 5), key(), 3
    ),
    "ValueError",
    r"predict\(x, lam\) must return a state of shape \(1,\), got \(\)",
)
bad(
    "ensemble: score not finite",
    lambda: integral_fluctuation(
        tjx.ensemble(
            diffusion.generate(noisy(), lambda x, lam: x / 0), jnp.linspace(0.1, 0.9, 5), key(), 3
        ).entropy.total
    ),
    "ValueError",
    "not finite",
)
bad(
    "flow: clean",
    lambda: diffusion.flow(
        diffusion.noising(Gaussian(0.0, 1.0), diffusion.Levels(FALLING)), identity, N([0.1])
    ),
    "ValueError",
    "finite first level",
    "clean=False",
)
bad(
    "flow: towards",
    lambda: diffusion.flow(noisy(), identity, N([0.1]), towards="end"),
    "ValueError",
    'towards must be "data" or "noise"',
)
bad(
    "reverse_kernel: shapes",
    lambda: diffusion.reverse_kernel(noisy(), identity, FALLING, N([1.0])),
    "ValueError",
    r"both have shape \(N,\)",
)
bad(
    "marginal: of a density without one",
    lambda: diffusion.marginal(
        diffusion.noising(
            Boltzmann(tjx.Overdamped(lambda x, lam: jnp.sum(x**4))), diffusion.Linear()
        ),
        0.5,
    ).log_prob(N([0.1])),
    "ValueError",
    "Boltzmann with noise on top has no density in closed form",
)
chained = lambda: diffusion.noising(Gaussian(0.0, 1.0), diffusion.Levels(FALLING))
walk = lambda grid, kernel=diffusion.transition: diffusion.sample_path(
    chained(), kernel, grid, key()
)
bad(
    "walk: beyond the chain",
    lambda: walk(jnp.arange(5.0)),
    "ValueError",
    "within the protocol's span",
)
bad(
    "walk: kernel's name",
    lambda: walk(jnp.arange(3.0), "transition"),
    "TypeError",
    "kernel must be a callable",
)
bad(
    "path_work: a batch",
    lambda: work(x0=jnp.ones((5, 2))),
    "ValueError",
    r"x0 must have shape \(d,\), one state; vmap",
    r"\(5, 2\)",
)
bad(
    "path_work: whole numbers", lambda: work(x0="x"), "TypeError", "x0 must be a number or an array"
)
bad(
    "path_work: tau's name",
    lambda: work(tau="optimal"),
    "TypeError",
    "tau must be the variances",
    r"variances\(lam, curve, tau='optimal'\)",
)
bad(
    "path_work: the schedule itself",
    lambda: work(lam=schedules.LogSNR.uniform(2)),
    "TypeError",
    r"lam must be the levels \(N,\)",
    r"Call it: schedule\(\)",
)
bad(
    "mean_work: negative tau",
    lambda: schedules.mean_work(FALLING, any_curve(), tau=-ONES),
    "ValueError",
    "tau must be finite and greater than zero",
)
bad(
    "mean_work: tau a number",
    lambda: schedules.mean_work(FALLING, any_curve(), tau=0.5),
    "ValueError",
    r"both have shape \(N,\), got \(2,\) and \(\)",
)
bad(
    "denoising_curve: scalar denoiser",
    lambda: schedules.denoising_curve(lambda x, lam: x[0], POINTS, FALLING, key()),
    "ValueError",
    r"must return a state of shape \(1,\), got \(\)",
)
bad(
    "flow: many states",
    lambda: diffusion.flow(noisy(), identity, jnp.ones((3, 1))),
    "ValueError",
    r"one point of shape \(1,\), got shape \(3, 1\)",
    "vmap",
)
bad(
    "noising: prior's shape",
    lambda: noisy(prior=Gaussian(jnp.zeros(2), 1.0)),
    "ValueError",
    r"prior must have the shape of the data, \(1,\), got \(2,\)",
)
bad(
    "noising: two precisions",
    lambda: diffusion.noising(
        Gaussian(N([0.0], dtype=jnp.float16), 1.0),
        diffusion.Uniform(N(3.0, dtype=jnp.float32), -3.0),
    ),
    "TypeError",
    "One floating-point precision",
)
bad(
    "marginal: after the end",
    lambda: diffusion.marginal(noisy(), 5.0),
    "ValueError",
    "t must lie in",
    "got 5.0",
)
bad(
    "score: above the first level",
    lambda: diffusion.score(noisy())(ONE, N(12.0)),
    "ValueError",
    "lies above the first level",
    "t0=0.0",
)
bad(
    "Linear: a rate that turns",
    lambda: diffusion.Linear(20.0, 0.1, t1=3.0),
    "ValueError",
    "rate at t1 must be greater than zero, got -39.[67]",
)
bad(
    "reverse_kernel: mean",
    lambda: diffusion.reverse_kernel(noisy(), identity, FALLING, ONES, mean="heun"),
    "ValueError",
    'mean must be "ddpm" or "euler"',
)
bad(
    "moments: of points",
    lambda: tjx.evolve.moments(
        diffusion.noising(Empirical(POINTS), diffusion.Linear()), N([0.1, 0.2])
    ),
    "ValueError",
    "no Gaussian",
    "jnp.cov",
)
bad(
    "walk: key",
    lambda: diffusion.sample_path(noisy(), diffusion.transition, N([0.1, 0.2]), 3),
    "TypeError",
    "key must be a typed random key",
)


def main():
    said = {}
    for name, case in CASES.items():
        try:
            case.run()
            said[name] = None
        except Exception as error:
            said[name] = [[cls.__name__ for cls in type(error).__mro__], str(error)]
    json.dump(
        {"said": said, "fine": {name: bool(call()) for name, call in FINE.items()}}, sys.stdout
    )


# ---- evolutions of jumps, where those of diffusions are needed

LEVELS = N([[0.0], [1.0]])


def levels():
    system = tjx.Jumps(
        lambda x, lam: jnp.ones(1), lambda x: (1 - x)[None], lambda x, lam: lam * x[0]
    )
    start = densities.States.boltzmann(system, 0.0, LEVELS)
    return tjx.Process(system, ramp(0.0, 0.0, 1.0), start, start)


def of_levels(verb):
    return verb(levels(), tjx.evolve.master(levels(), ts(), LEVELS))


JUMPY = tjx.rates.along, tjx.identities.mean_dissipation, tjx.identities.entropy_production_rate
for verb in JUMPY:
    bad(
        f"states: {verb.__name__}",
        lambda verb=verb: of_levels(verb),
        "TypeError",
        "StatesEvolution",
        r"evolve\.master",
    )
bad(
    "states: steady",
    lambda: tjx.evolve.steady(levels().system, 0.0),
    "TypeError",
    "Jumps",
    "states=",
)
bad(
    "states: moments",
    lambda: tjx.evolve.moments(levels(), ts()),
    "ValueError",
    "States",
    r"evolve\.master",
)
bad(
    "states: periodic",
    lambda: tjx.evolve.periodic(levels(), ts()),
    "TypeError",
    "Jumps",
    r"evolve\.master",
)
bad(
    "states: fokker_planck",
    lambda: tjx.evolve.fokker_planck(levels(), ts(), tjx.evolve.Grid(0.0, 1.0, 4)),
    "TypeError",
    "Jumps",
    r"evolve\.master",
)


@pytest.fixture(scope="module")
def answers():
    flag = "1" if jax.config.jax_enable_x64 else "0"
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_ENABLE_X64": flag, "XLA_FLAGS": hurry.flags()},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_refused(name, answers):
    case, said = CASES[name], answers["said"][name]
    assert said is not None, "it was accepted"
    classes, message = said
    assert case.error in classes, f"{classes[0]}: {message}"
    for words in case.words:
        assert re.search(words, message, re.DOTALL), f"no {words!r} in: {message}"
    # a line or three; only the error of a traced value brings a stack with it
    assert case.error == "RuntimeError" or len(message) < 700


@pytest.mark.parametrize("name", FINE)
def test_accepted(name, answers):
    assert answers["fine"][name]


@pytest.mark.smoke
def test_first_mistakes():
    """The commonest, in this process."""
    with pytest.raises(ValueError, match="temperature must be finite and greater than zero"):
        trap(temperature=0.0)
    with pytest.raises(ValueError, match=r"ts\[2\] = 0\.4 follows"):
        run(grid=N([0.0, 0.5, 0.4]))
    with pytest.raises(ValueError, match="at least two"):
        jarzynski(jnp.zeros(1))


def test_a_users_error_says_where():
    """An exception inside a user's own function passes unchanged, with a note."""
    broken = tjx.Overdamped(lambda x, lam: jnp.sum(x * lam["k"]))
    with pytest.raises(Exception) as caught:
        run(broken)
    assert "tracing potential(x, lam) with float" in " ".join(caught.value.__notes__)


if __name__ == "__main__":
    main()
