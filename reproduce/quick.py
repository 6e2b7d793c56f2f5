"""The quick half: closed forms and exact tables, each computed by the library. Double precision."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import thermojax as tjx
from thermojax.densities import Gaussian, Mixture
from thermojax.evolve import Grid
from thermojax.protocols import ramp

from .driven import Lines, free_energy, moments
from .row import Row

DIGITS = 6e-10  # where nine decimals are known
SS07 = "Schmiedl & Seifert, PRL 98, 108301 (2007)"
ZHANG = "Zhang, arXiv:2606.18290"
BARATO = "Barato & Seifert, PRL 114, 158101 (2015)"
REIMANN = "Reimann et al., PRL 87, 010602 (2001)"
STRATONOVICH = "Stratonovich's formula, by quadrature"
ODES = "moment equations, integrated independently"


def traps() -> Iterator[Row]:
    """One bead in a trap that is moved, squeezed, heated."""
    jump = 2 / 3
    drag = Lines(at=(jump, jump, 0.0)).process(before={"at": 0.0}, after={"at": 2.0})
    yield Row(
        "drag by 2 in unit time: least mean work",
        SS07,
        4 / 3,
        float(moments(drag).work[-1]),
        DIGITS,
    )
    optimum = tjx.optimal.moving_trap(0.0, 2.0, 1.0).protocol
    yield Row("its jump at the start", SS07, 2 / 3, float(optimum(0.0) - optimum.before), DIGITS)
    ramped = Lines(at=(0.0, 2.0, 0.0)).process()
    yield Row(
        "drag by 2 at constant speed: mean work",
        SS07,
        1.471517765,
        float(moments(ramped).work[-1]),
        DIGITS,
    )
    for k0, k1, t, work in (
        (1.0, 4.0, 1.0, 0.890571785),
        (1.0, 2.0, 1.0, 0.402918361),
        (1.0, 4.0, 0.2, 1.203063208),
        (4.0, 1.0, 1.0, -0.562446026),
        (1.0, 2.0, 10.0, 0.354741171),
    ):
        found = tjx.optimal.breathing_trap(k0, k1, t)
        c = float(found.protocol.fn.c)
        line = Lines(k=(k0 - c, -(c**2), c)).process(t, before={"k": k0}, after={"k": k1})
        what = f"stiffness {k0:g} to {k1:g} in {t:g}: least mean work"
        yield Row(what, SS07, work, float(moments(line).work[-1]), DIGITS)
    found = tjx.optimal.breathing_trap(1.0, 4.0, 1.0)
    wide = float((1 + found.protocol.fn.c) ** 2)
    first, last = float(found.protocol(0.0)), float(found.protocol(1.0))
    for what, want, ours in (
        ("after the first jump", 1.392375, first),
        ("before the last jump", 3.354249, last),
        ("work of the first jump", 0.196187, 0.5 * (first - 1)),
        ("work of the last jump", 0.119208, 0.5 * (4 - last) * wide),
        ("<x^2> at the end", 0.369208, wide),
    ):
        yield Row(f"stiffness 1 to 4 in 1, least work: {what}", SS07, want, ours, 6e-7)
    for k0, k1, t, work in (
        (1.0, 2.0, 1.0, 0.412465799),
        (1.0, 4.0, 1.0, 0.936041707),
        (4.0, 1.0, 1.0, -0.546481496),
        (1.0, 2.0, 10.0, 0.355601483),
    ):
        line = Lines(k=(k0, (k1 - k0) / t, 0.0)).process(t)
        what = f"stiffness {k0:g} to {k1:g} in {t:g}, linearly: mean work"
        yield Row(what, ODES, work, float(moments(line).work[-1]), DIGITS)
    line = Lines(k=(1.0, 3.0, 0.0)).process()
    yield Row("stiffness 1 to 4: free energy", "(T/2) ln 4", 0.693147181, free_energy(line), DIGITS)
    heated = Lines(T=(1.0, 1.0)).process()
    yield from ledger(
        "heated from T = 1 to 2", heated, -0.287955295, -0.346573590, 0.044922263, 0.013696033
    )
    heat = float(jnp.sum(moments(heated).heat[-1]))
    yield Row("heated from T = 1 to 2: heat to the bath", ODES, -0.283833821, heat, DIGITS)
    everything = Lines(k=(1.0, 1.5, 0.0), at=(0.0, 0.0, 1.2), T=(1.5, -0.7)).process()
    yield from ledger(
        "moved, squeezed and cooled", everything, 2.033417826, 0.772449696, 1.134398934, 0.126569196
    )
    of = moments(everything)
    yield Row(
        "moved, squeezed and cooled: mean work", ODES, 1.722403576, float(of.work[-1]), DIGITS
    )
    yield Row(
        "moved, squeezed and cooled: heat", ODES, 1.807246601, float(jnp.sum(of.heat[-1])), DIGITS
    )
    k, at = (float(everything.protocol.after[name]) for name in ("k", "at"))
    energy = 0.5 * k * (of.cov[-1, 0, 0] + (of.mean[-1, 0] - at) ** 2) - 0.75
    for what, want, ours in (
        ("change of energy", -0.084843025, energy),
        ("mean place at the end", 0.867410473, of.mean[-1, 0]),
        ("its variance", 0.482063111, of.cov[-1, 0, 0]),
    ):
        yield Row(f"moved, squeezed and cooled: {what}", ODES, want, float(ours), DIGITS)
    for inner, mean in ((1.0, 3.013424), (0.7, 2.474015)):
        start, end = {"at": 0.0, "T": 1.0}, {"at": 5.0, "T": 1.0}
        line = Lines(k=(1.0, 0.2, 0.0), at=(5 / 12, 5 / 12, 0.0), T=(1 / inner, 0.0))
        line = line.process(10.0, start, end)
        what = f"moved by 5 and stiffened in 10, 1/T = {inner:g} on the way"
        work, free = float(moments(line).reduced_work[-1]), free_energy(line)
        yield Row(f"{what}: mean reduced work", ODES, mean, work, 1e-6)
        yield Row(f"{what}: change of F/T", "(ln 3)/2", 0.549306144, free, DIGITS)
    sudden = Lines(T=(2.0, 0.0)).process(before={"T": 1.0})
    reduced = float(moments(sudden).reduced_work[-1])
    yield Row(
        "bath switched from T = 1 to 2: reduced work", "(T_0/T_1 - 1)/2", -0.25, reduced, DIGITS
    )
    free = free_energy(sudden)
    yield Row(
        "bath switched from T = 1 to 2: change of F/T", "-(ln 2)/2", -0.346573590, free, DIGITS
    )
    dissipated = reduced - free
    yield Row(
        "bath switched from T = 1 to 2: dissipated",
        "KL of two Gaussians",
        0.096573590,
        dissipated,
        DIGITS,
    )


def ledger(what, process, reduced, delta, total, kl) -> Iterator[Row]:
    """Reduced work, free energy, entropy production, and what is left: the divergence from equilibrium at the end."""
    e, free = moments(process), free_energy(process)
    work, produced = float(e.reduced_work[-1]), float(e.entropy.total[-1])
    yield Row(f"{what}: mean reduced work", ODES, reduced, work, DIGITS)
    yield Row(f"{what}: change of F/T", "closed form", delta, free, DIGITS)
    yield Row(f"{what}: entropy production", ODES, total, produced, DIGITS)
    yield Row(
        f"{what}: W_diss - S_tot = KL",
        ZHANG + ", Eq. (6.26)",
        kl,
        work - free - produced,
        2 * DIGITS,
    )


def drawn() -> Iterator[Row]:
    """The drag by 2 along 100 000 paths: the work is Gaussian, so its variance and its exponential average are known."""
    size = 100_000
    for name, place, want in (
        ("optimal", (2 / 3, 2 / 3, 0.0), 8 / 3),
        ("linear", (0.0, 2.0, 0.0), 2.943035530),
    ):
        process = Lines(at=place).process(before={"at": 0.0}, after={"at": 2.0})
        run = tjx.ensemble(process, jnp.linspace(0.0, 1.0, 33), jax.random.key(0), size)
        spread = float(jnp.var(run.work, ddof=1))
        error = spread * (2 / size) ** 0.5
        yield Row(
            f"drag by 2, {name}: variance of the work, paths",
            "2 T <W_diss>",
            want,
            spread,
            4 * error,
            error,
        )
        found = tjx.estimators.integral_fluctuation(run.work)
        one, its = float(found.value), float(found.stderr)
        yield Row(
            f"drag by 2, {name}: mean of exp(-W), paths",
            "Jarzynski, PRL 78, 2690 (1997)",
            1.0,
            one,
            4 * its,
            its,
        )


def turning() -> Iterator[Row]:
    """What keeps a system from rest: a force that turns, two baths, a ring that is tilted."""
    whirled = Lines(k=(1.0, 1.5, 0.0), T=(1.5, -0.7), whirl=0.8).process(dim=2)
    yield from ledger(
        "plane, stirred, squeezed and cooled",
        whirled,
        3.354159527,
        1.544899391,
        1.712566959,
        0.096693177,
    )
    steady = Lines(k=(2.0, 0.0, 0.0), T=(1.3, 0.0), whirl=1.5).process(dim=2)
    rate = float(moments(steady).entropy.total[-1])
    yield Row(
        "trap that is stirred: entropy production rate", "2 kappa^2/k, any T", 2.25, rate, 2e-9
    )

    coupled = lambda x, lam: x[0] ** 2 + x[1] ** 2 + lam * x[0] * x[1]
    system = tjx.Overdamped(coupled, temperature=jnp.array([1.0, 3.0]))
    both = Gaussian(jnp.zeros(2), jnp.array([[29 / 42, -10 / 21], [-10 / 21, 71 / 42]]))
    still = tjx.Process(system, ramp(0.8, 0.8, 1.0), both, both)
    e = moments(still)
    source = "Filliger & Reimann, PRL 99, 230602 (2007); u^2 (T_1 - T_2)^2/((k_1 + k_2) T_1 T_2)"
    yield Row(
        "gyrator between T = 1 and 3: entropy production rate",
        source,
        0.213333333,
        float(e.entropy.total[-1]),
        DIGITS,
    )
    for what, want, i, j in (
        ("<xy>", -0.476190476, 0, 1),
        ("<x^2>", 0.690476190, 0, 0),
        ("<y^2>", 1.690476190, 1, 1),
    ):
        yield Row(f"gyrator: {what} stays", source, want, float(e.cov[-1, i, j]), DIGITS)


def rings() -> Iterator[Row]:
    """A particle driven around a ring of 1024 cells: what it produces, and what its precision costs."""
    flat = tjx.Overdamped(lambda x, lam: 0 * x[0], lambda x, lam: lam + 0 * x, temperature=0.5)
    free = tjx.Process(flat, ramp(2.0, 2.0, 1.0), Gaussian(0.0, 1.0))
    e = moments(free)
    rate = float(e.entropy.medium[-1])
    yield Row("flat ring, tilt 2, T = 0.5: medium entropy per time", "mu f^2/T", 8.0, rate, DIGITS)
    bound = float(tjx.bounds.tur(e.mean[-1, 0], e.cov[-1, 0, 0] - 1))
    yield Row("flat ring: 2 D sigma/v^2, at least 2", BARATO, 2.0, 2 * rate / bound, DIGITS)
    for height, tilt, T, want in (
        (1.0, 1.0, 0.5, 1.253046375),
        (1.0, 0.5, 0.5, 0.175593406),
        (2.0, 1.0, 1.0, 0.351186812),
    ):
        system = tjx.Overdamped(
            tjx.potentials.Ring(height), lambda x, lam: lam + 0 * x, temperature=T
        )
        grid = Grid(0.0, 2 * np.pi, 1024, periodic=True)
        p = tjx.evolve.steady(system, tilt, grid).p * grid.volume
        edges = tjx.systems.Lattice(system, grid).edges(jnp.asarray(tilt), p.dtype)[0]
        v = float(tjx.systems.current(p, edges, 0)[0]) * 2 * np.pi
        what = f"ring, barrier {2 * height:g}, tilt {tilt:g}, T = {T:g}"
        yield Row(f"{what}: entropy production rate", STRATONOVICH, want, v * tilt / T, 1e-5)
        if (height, tilt) == (1.0, 1.0):
            yield Row(f"{what}: mean speed", STRATONOVICH, 0.626523187, v, 1e-5)
            spread = dispersion(p, edges) * (2 * np.pi / 1024) ** 2
            product = 2 * (v * tilt / T) / float(tjx.bounds.tur(v, 2 * spread))
            yield Row(f"{what}: 2 D sigma/v^2, at least 2", REIMANN, 5.077169057, product, 1e-5)


def dispersion(p, edges) -> float:
    """Half the growth of the variance of the number of steps, from the generator tilted by exp(q steps)."""
    p, up, down = (np.asarray(a) for a in (p, edges.up, edges.down))
    eye = np.eye(len(p))
    ahead, back = np.roll(eye * up, 1, 0), np.roll(eye * np.roll(down, 1), -1, 0)
    first = (ahead - back) @ p
    generator = ahead + back - eye * (up + np.roll(down, 1))
    generator[-1] = 1  # of second order in q: what the first order leaves, its sum held at zero
    bent = np.linalg.solve(generator, np.append((first.sum() * p - first)[:-1], 0.0))
    return 0.5 * p @ (up + np.roll(down, 1)) + ((ahead - back) @ bent).sum()


def transport() -> Iterator[Row]:
    """What a finite time costs, by the Wasserstein distance, and a slow drive, by the thermodynamic length."""
    source = "Aurell, Mejia-Monasterio & Muratore-Ginanneschi, PRL 106, 250601 (2011)"
    distance = tjx.bounds.wasserstein(Gaussian(0.0, 1.0), Gaussian(1.5, 0.16))
    bound = float(tjx.bounds.transport(distance, 0.8 * 0.7))
    yield Row("N(0, 1) to N(1.5, 0.16) in 0.7, T = 0.8: bound", source, 4.660714286, bound, DIGITS)

    def best(t):
        s, rate = 1 - 0.6 * t / 0.7, -0.6 / 0.7
        k = 0.8 / s**2 - rate / s
        return {"k": k, "at": 1.5 * t / 0.7 + 1.5 / 0.7 / k}

    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["at"]) ** 2), None, 1.0, 0.8
    )
    process = tjx.Process(system, tjx.protocols.Function(best, 0.7), Gaussian(0.0, 1.0))
    total = float(moments(process, 20).entropy.total[-1])
    yield Row(
        "the same: entropy production of the drive that reaches it",
        source,
        4.660714286,
        total,
        1e-7,
    )
    grid = Grid(-3.0, 3.0, 12000)
    x = grid.axis(0)
    for barrier, square in (
        (1, 0.979764),
        (2, 1.168066),
        (4, 1.475924),
        (8, 1.701744),
        (50, 1.906814),
    ):
        p = jnp.exp(-barrier * (x**2 - 1) ** 2)
        found = float(tjx.bounds.wasserstein((grid, p), (grid, jnp.where(x > 0, p, 0.0))) ** 2)
        yield Row(
            f"erasure, barrier {barrier} T: squared distance",
            "integral of quantiles",
            square,
            found,
            1.5e-6,
        )
    both = Mixture(jnp.array([0.5, 0.5]), [Gaussian(-1.0, 0.16), Gaussian(1.0, 0.16)])
    one, wide = Gaussian(1.0, 0.16), Grid(-5.0, 5.0, 8000)
    distance = tjx.bounds.wasserstein(both, one, grid=wide)
    p = jnp.exp(wide.each(both.log_prob))
    drop = -jnp.sum(p * jnp.log(p)) * wide.volume - one.entropy()
    heat = float(tjx.bounds.landauer(drop, distance, 1.0))
    yield Row("two bumps into one: drop of entropy", "quadrature", 0.675943, float(drop), 6e-7)
    square = float(distance**2)
    yield Row("two bumps into one: squared distance", "quadrature", 1.495962, square, 6e-7)
    yield Row("two bumps into one in unit time: least heat", source, 2.171904, heat, 1e-6)
    line = Lines(k=(0.8, 4.2 / 0.7, 0.0), at=(0.0, 1.5 / 0.7, 0.0), T=(0.8, 0.0)).process(0.7)
    e = moments(line)
    total, end = float(e.entropy.total[-1]), Gaussian(e.mean[-1], e.cov[-1])
    yield Row(
        "N(0, 1) in a trap moved and squeezed linearly: S_tot", ODES, 2.964143271, total, DIGITS
    )
    distance = tjx.bounds.wasserstein(Gaussian(0.0, 1.0), end)
    bound = float(tjx.bounds.transport(distance, 0.8 * 0.7))
    yield Row("the same: bound of its own two densities", source, 2.272048, bound, 1e-6)


SECTIONS = (traps, drawn, turning, rings, transport)
