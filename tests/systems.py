"""A small catalogue of processes, shared by the tests: `CASES[name]()` is a `Case(process, ts)`.

Each has few steps, and a coarse grid: the identities they are for hold at every step size.
"""

import functools as ft
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from compare import strong

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian
from thermojax.potentials import Breathing, DoubleWell, Harmonic, MovingTrap, Quartic
from thermojax.protocols import Function, Joint, Network, Piecewise, Spline, Steps, ramp

SOLVERS = {
    "default": None,
    "Euler": dfx.Euler(),
    "Heun": dfx.Heun(),
    "ShARK": dfx.ShARK(),
    "SRA1": dfx.SRA1(),
}
ADJOINTS = {
    "default": None,
    "recursive": dfx.RecursiveCheckpointAdjoint(),
    "direct": dfx.DirectAdjoint(),
    "forward": dfx.ForwardMode(),
}


class Case(NamedTuple):
    process: tjx.Process
    ts: jax.Array

    @property
    def d(self):
        return jax.eval_shape(self.process.initial.sample, jax.random.key(0)).shape[0]


CASES = {}


def case(build):
    CASES[build.__name__] = build = ft.cache(build)
    return build


def even(n=12, t1=1.0):
    return jnp.linspace(0.0, t1, n + 1)


def uneven(t1=1.0):
    return t1 * jnp.array([0.0, 0.02, 0.1, 0.13, 0.3, 0.35, 0.5, 0.56, 0.72, 0.9, 0.95, 1.0])


def boltzmann(system, protocol, dim=1):
    """A process between the equilibria of its end controls."""
    start, stop = (Boltzmann(system, lam, dim=dim) for lam in (protocol.before, protocol.after))
    return tjx.Process(system, protocol, start, stop)


def gaussian(system, protocol, dim=1):
    """A process between two densities that have nothing to do with its equilibria."""
    start, stop = Gaussian(jnp.zeros(dim), 0.7), Gaussian(jnp.full(dim, 0.5), 1.2)
    return tjx.Process(system, protocol, start, stop)


@case
def dragged():
    return Case(boltzmann(tjx.Overdamped(MovingTrap(1.5)), ramp(0.0, 2.0, 1.0)), even())


@case
def breathing():
    system = tjx.Overdamped(Breathing(0.3), mobility=0.8, temperature=1.3)
    return Case(gaussian(system, ramp(1.0, 4.0, 1.0), dim=2), uneven())


@case
def double_well():
    return Case(gaussian(tjx.Overdamped(DoubleWell(0.8)), ramp(-0.5, 1.0, 1.0)), uneven())


@case
def quartic():
    drive = Piecewise(jnp.array([0.0, 0.3, 1.0]), jnp.array([1.0, -1.0, 2.0]), 0.5, 3.0)
    return Case(gaussian(tjx.Overdamped(Quartic(0.5)), drive), even())


@case
def end_jumps():
    """The optimum of Schmiedl & Seifert: a straight line between two jumps."""
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([5 / 3, 10 / 3]), 0.0, 5.0)
    return Case(boltzmann(tjx.Overdamped(MovingTrap(1.0)), drive), even())


@case
def rotational():
    """A force that is no gradient, and not linear."""
    turn = lambda x, lam: lam * jnp.stack([-x[1], x[0]]) * (1 + 0.2 * jnp.sum(x**2))
    system = tjx.Overdamped(Harmonic(jnp.array([2.0, 3.0])), force=turn)
    return Case(gaussian(system, ramp(0.5, 1.5, 1.0), dim=2), uneven())


@case
def temperature_ramp():
    """The control is the temperature; the mobility follows it."""
    system = tjx.Overdamped(DoubleWell(0.7), mobility=lambda T: 0.5 + 0.2 * T, temperature=_same)
    return Case(gaussian(system, ramp(0.8, 2.0, 1.0)), uneven())


@case
def temperature_jump():
    drive = Steps(jnp.array([0.0, 0.5, 1.0]), jnp.array([1.0, 2.0]), after=1.5)
    system = tjx.Overdamped(Harmonic(1.2), temperature=_same)
    return Case(boltzmann(system, drive), even())


@case
def two_baths():
    """A Brownian gyrator: a bath per coordinate, with a coupling that is not linear, and a torque."""
    energy = lambda x, lam: 0.5 * jnp.sum(x**2) + lam * x[0] * x[1] + 0.1 * jnp.sum(x**4)
    torque = lambda x, lam: lam * jnp.stack([-x[1], x[0]])
    system = tjx.Overdamped(energy, torque, jnp.array([1.0, 0.7]), jnp.array([1.0, 2.5]))
    return Case(gaussian(system, ramp(0.2, 0.6, 1.0), dim=2), uneven())


@case
def several_controls():
    """Position, stiffness and temperature, each driven in its own way; the force depends on all."""
    energy = lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["at"]) ** 2)
    push = lambda x, lam: 0.3 * lam["k"] * jnp.sin(x)
    drive = Joint(
        {
            "at": Piecewise(jnp.array([0.0, 1.0]), jnp.array([[0.0, 0.3], [1.0, 0.5]])),
            "k": Steps(jnp.array([0.0, 0.25, 1.0]), jnp.array([1.0, 2.0]), after=2.5),
            "T": ramp(1.2, 0.8, 1.0),
        }
    )
    system = tjx.Overdamped(energy, push, temperature=lambda lam: lam["T"])
    return Case(gaussian(system, drive, dim=2), even())


@case
def network():
    drive = Network(0.5, 2.0, 1.0, key=jax.random.key(7), width=4, depth=1, lower=0.1, upper=5.0)
    return Case(gaussian(tjx.Overdamped(Breathing()), drive), even())


@case
def spline():
    drive = Spline(jnp.array([0.0, 0.4, 1.0]), jnp.array([0.2, 1.0, -0.3]), 0.0, 0.0)
    return Case(gaussian(tjx.Overdamped(MovingTrap(2.0)), drive), uneven())


@case
def function():
    drive = Function(lambda t: jnp.sin(3 * t), 1.0)
    system = tjx.Overdamped(MovingTrap(2.0), lambda x, lam: lam * x**2, temperature=0.7)
    return Case(boltzmann(system, drive), even())


@case
def plain_callable():
    """No protocol class, no final density: nothing to compare the end with."""
    system = tjx.Overdamped(Quartic(0.3))
    return Case(tjx.Process(system, lambda t: 1.0 + t**2, Gaussian(0.2, 0.5)), uneven())


def _same(lam):
    return lam


ALL = list(CASES)
ENDED = [name for name in ALL if name != "plain_callable"]  # those with a final density
ONE_BATH = [name for name in ALL if name != "two_baths"]


class Well(eqx.Module):
    """A trap at lam which hardens."""

    stiffness: jax.Array

    def __call__(self, x, lam):
        return jnp.sum(0.5 * self.stiffness * (x - lam) ** 2 + 0.1 * x**4)


# One process to differentiate, on an uneven grid, by its knots, its temperature and its stiffness.
KNOTS, LAMS = (0.0, 0.4, 1.0), (0.1, 0.8, 0.3)
GRID = jnp.array([0.0, 0.1, 0.15, 0.4, 0.6, 0.75, 1.0])
WELL = tjx.Process(
    tjx.Overdamped(Well(jnp.asarray(1.5)), mobility=0.7, temperature=0.9),
    Piecewise(jnp.array(KNOTS), jnp.array(LAMS), before=0.0, after=1.0),
    Gaussian(0.2, 0.5),
    Gaussian(0.0, 1.0),
)
LEAVES = lambda p: (p.protocol.values, p.system.temperature.value, p.system.potential.stiffness)
THETA = strong(LEAVES(WELL))


def well(theta):
    return eqx.tree_at(LEAVES, WELL, theta)
