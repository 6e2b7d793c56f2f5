"""Limits: slow drives and the thermodynamic length, inertia, and coarse steps. Double precision."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import thermojax as tjx
from thermojax.densities import Boltzmann
from thermojax.protocols import Joint, Piecewise, ramp

from .driven import Lines, free_energy, moments
from .integral import average
from .quick import DIGITS, ODES, SS07, ZHANG
from .row import Row

GSS08 = "Gomez-Marin, Schmiedl & Seifert, JCP 129, 024114 (2008)"
SIVAK = "Sivak & Crooks, PRL 108, 190602 (2012)"
SHADOW = "Sivak, Chodera & Crooks, PRX 3, 011007 (2013) (the setting)"
NEST = "Whitelam et al., arXiv:2506.15122 (NESTbench25)"
FT = ZHANG + ", Eq. (4.20)"
PATHS = "paths of an independent program"


def slowly() -> Iterator[Row]:
    """Drives so slow that their dissipation is the square of a length over the time; and the true one beside it."""
    drag = tjx.Overdamped(tjx.potentials.MovingTrap(2.0), mobility=0.7, temperature=0.8)
    length = tjx.bounds.length(drag, jnp.array([0.0, 1.0, 3.0]))
    cost = 0.8 * float(tjx.bounds.slow(length, 10.0))
    yield Row("trap moved by 3 in 10, slowly: dissipated", "l^2/(mu t)", 9 / 7, cost, DIGITS)
    late = float(tjx.optimal.moving_trap(0.0, 3.0, 1e4, stiffness=2.0, mobility=0.7).work)
    what = "the same in 10 000, least work, over the slow limit"
    yield Row(what, SS07 + "; Sivak & Crooks", 1.0, late * 0.7e4 / 9, 2e-4)
    breathing = tjx.Overdamped(tjx.potentials.Breathing())
    zeta = float(tjx.bounds.friction(breathing, 2.0)[0, 0])
    yield Row("stiffness 2: friction of the control", "1/(4 k^3)", 1 / 32, zeta, DIGITS)
    line = jnp.geomspace(1.0, 4.0, 65)
    length = tjx.bounds.length(breathing, line)
    for span, ramped, kept, least in (
        (100.0, 0.003488, 0.002502, 0.002494),
        (10.0, 0.032879, 0.025140, 0.024385),
    ):
        what = f"stiffness 1 to 4 in {span:g}"
        cost = float(tjx.bounds.slow(length, span))
        yield Row(f"{what}, slow limit: dissipated at the least", SIVAK, 0.25 / span, cost, 1e-8)
        for name, k, want in (
            ("the line of least length", (1.0, 0.0, -0.5 / span), kept),
            ("a ramp", (1.0, 3 / span, 0.0), ramped),
        ):
            found = float(moments(Lines(k=k).process(span)).work[-1]) - np.log(2)
            yield Row(f"{what}: dissipated by {name}", ODES, want, found, 6e-7)
        found = float(tjx.optimal.breathing_trap(1.0, 4.0, span).work) - np.log(2)
        yield Row(f"{what}: dissipated at the least", SS07, least, found, 6e-7)


def frictions() -> Iterator[Row]:
    """The friction along a ramp, and that of the control of a driven bath."""
    breathing = tjx.Overdamped(tjx.potentials.Breathing())
    nodes, weights = (jnp.asarray(v) for v in np.polynomial.legendre.leggauss(16))
    rates = jax.vmap(lambda k: tjx.bounds.friction(breathing, k)[0, 0])(2.5 + 1.5 * nodes)
    for span in (10.0, 100.0):
        cost = 4.5 * float(weights @ rates) / span
        want = 9 * 5 / (8 * span * 16)
        yield Row(
            f"stiffness 1 to 4 in {span:g}, slow limit: dissipated by a ramp",
            SIVAK,
            want,
            cost,
            DIGITS,
        )
    bath = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), temperature=lambda lam: lam["T"]
    )
    zeta = tjx.bounds.friction(bath, {"k": 2.0, "T": 1.6})
    want = 1 / (4 * 1.6 * 1.25**3)  # of the control a = k/T, of which da/dk = 1/T
    ours = float(zeta[1, 1]) * 1.6**2
    yield Row("k/T = 2/1.6: friction of the reduced control", "1/(4 D a^3)", want, ours, DIGITS)


def inertia() -> Iterator[Row]:
    """A mass in the trap; lengths and times of NESTbench in units of its trap, Q = 7."""
    bowl = lambda x, lam: 0.5 * jnp.sum((x - lam["x"]) ** 2)

    def work(mass, values, outside, kicks=(0.0, 0.0), friction=1.0, span=1.0):
        system = tjx.Underdamped(bowl, mass=mass, friction=friction, impulse=lambda lam: lam["J"])
        times = span * jnp.array([0.0, 1.0])
        line = lambda v, a, b: Piecewise(times, jnp.asarray(v), jnp.asarray(a), jnp.asarray(b))
        drive = Joint({"x": line(values, *outside), "J": line(kicks, 0.0, 0.0)})
        ends = (Boltzmann(system, lam) for lam in (drive.before, drive.after))
        return float(moments(tjx.Process(system, drive, *ends), 2).work[-1])

    found = work(1.0, (2 / 3, 4 / 3), (0.0, 2.0), (2 / 3, 2 / 3))
    yield Row(
        "drag a mass by 2 in unit time, with kicks: least mean work", GSS08, 4 / 3, found, 1e-9
    )
    for mass, want in ((1.0, 1.865971220), (0.1, 1.568788330), (0.01, 1.482012841)):
        what = f"drag a mass {mass:g} by 2 at constant speed: mean work"
        yield Row(what, "mean equation", want, work(mass, (0.0, 2.0), (0.0, 2.0)), 2e-9)
    for cycles, far, want in ((0.15, 5.0, 2.907875), (0.3, 5.0, 1.6453), (0.15, 10.0, 11.6315)):
        span = 2 * np.pi * cycles
        c = far / (2 / 7 + span)
        kicked = work(1.0, (c / 7, c * (span + 1 / 7)), (0.0, far), (c, c), 1 / 7, span)
        what = f"NESTbench, a mass by {far:g} in {cycles:g} cycles, with kicks: least mean work"
        yield Row(what, NEST, far**2 / (2 + 7 * span), kicked, 1e-9, theirs=want)
        if (cycles, far) == (0.15, 5.0):
            idle = work(1.0, (c / 7, c * (span + 1 / 7)), (0.0, far), friction=1 / 7, span=span)
            straight = work(1.0, (0.0, far), (0.0, far), friction=1 / 7, span=span)
            for words, want, ours, theirs in (
                ("without the kicks", 11.239754064, idle, 11.24109),
                ("at constant speed", 11.625048798, straight, 11.62684),
            ):
                said = f"the same {words} (theirs in their steps)"
                yield Row(said, NEST, want, ours, DIGITS, theirs=theirs)


def steps() -> Iterator[Row]:
    """The fluctuation theorem at coarse steps, over all paths of Euler's: a Gaussian integral, without sampling."""
    for n, naive, work, shadow in (
        (4, 0.9800125784, 1.58660, -0.40808),
        (8, 1.0057546383, None, -0.25313),
    ):
        yield from coarse(n, naive, work, shadow)


def finer() -> Iterator[Row]:
    """The same at other steps: what the turns alone miss rises above zero before it falls."""
    for n, naive in ((2, 0.9000667939), (16, 1.0059928001), (32, 1.0036405004), (64, 1.0019648801)):
        yield from coarse(n, naive)
    quartic = tjx.Overdamped(lambda x, lam: jnp.sum((x**2 - 1) ** 2 - lam * x))
    ends = [Boltzmann(quartic, lam) for lam in (0.0, 1.5)]
    process = tjx.Process(quartic, ramp(0.0, 1.5, 1.0), *ends)
    free = float(ends[0].log_partition() - ends[1].log_partition())
    yield Row("double well tilted by 1.5: free energy", "quadrature", -0.785857, free, 6e-7)
    size, ts = 200_000, jnp.linspace(0.0, 1.0, 51)
    run = tjx.ensemble(process, ts, jax.random.key(0), size, rule="kernel", save="all")
    for rule, want, theirs in (("alternating", 0.98704, 0.98704), ("kernel", 1.0, 1.00030)):
        of = tjx.account(process, run.path, rule=rule).entropy.total
        found = tjx.estimators.integral_fluctuation(of)
        one, error = float(found.value), float(found.stderr)
        what = f"the same in 50 steps: mean of exp(-R), rule {rule}"
        source = FT if rule == "kernel" else "2 million " + PATHS
        within = 4 * (error**2 + (0.0 if rule == "kernel" else 6e-4**2)) ** 0.5
        yield Row(what, source, want if rule == "kernel" else None, one, within, error, theirs)


def coarse(n, naive, work=None, shadow=None) -> Iterator[Row]:
    process = Lines(k=(1.0, 0.5, 0.0), at=(0.0, 0.75, 0.0), T=(1.2, -0.2)).process(2.0)
    what = f"moved, squeezed and cooled in {n} steps"
    (turns, mean), (kernels, whole) = (
        average(process, n, rule) for rule in ("alternating", "kernel")
    )
    yield Row(f"{what}: mean of exp(-R), turns alone", SHADOW, naive, turns, 1e-10)
    yield Row(f"{what}: mean of exp(-R), with the kernels", FT, 1.0, kernels, 1e-12)
    if work is not None:
        ours = mean + free_energy(process)
        yield Row(f"{what}: reduced work of the drive", PATHS, None, ours, 3e-3, theirs=work)
    if shadow is not None:
        ours = whole - mean
        yield Row(f"{what}: shadow work of the steps", PATHS, None, ours, 3e-3, theirs=shadow)


SECTIONS = (slowly, inertia, steps)
LONG = (frictions, finer)
