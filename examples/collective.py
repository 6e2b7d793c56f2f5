"""Rotors that pull each other: how a law for the order parameter follows from irreversible work, and where its numbers
are biased.

N planar rotors, dθ_i = K R sin(ψ - θ_i) dt + sqrt(2T) dW with R e^{iψ} their mean of e^{iθ}. A drive of independent rotors
in a field h = K R dissipates ζ(h) (dh/dt)^2; with ζ measured as irreversible work, the law K^2 ζ dR/dt = -f'(R) follows
(Sasa, arXiv:1501.00055), and is set beside the transient that the rotors really make. Their order at rest is compared with
the exact one, at a finite number of rotors and at a finite step. With frequencies of their own (Kuramoto) they produce
entropy. Writes out/collective.json and .png.
"""

import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import thermojax as tjx
from thermojax import evolve, protocols

SOURCE = "Sasa, arXiv:1501.00055"
T = 1.0
RING = evolve.Grid(-np.pi, np.pi, 256, periodic=True)
FIELD = tjx.Overdamped(lambda x, h: -h * jnp.cos(x[0]), temperature=T)  # one rotor in a field


def coupled(angles, coupling):
    """U of N rotors, whose force on each is K R sin(psi - theta)."""
    whole = jnp.sum(jnp.cos(angles)) ** 2 + jnp.sum(jnp.sin(angles)) ** 2
    return -0.5 * coupling * whole / angles.size


def rotors(frequencies=None):
    """All of them as one system of N coordinates; its control is the coupling K."""
    own = None if frequencies is None else lambda x, lam: frequencies
    return tjx.Overdamped(coupled, own, temperature=T)


def held(value, span):
    return protocols.ramp(value, value, span)


def order(angles):
    """Mean of e^{i theta}, over the last axis."""
    return jax.lax.complex(jnp.mean(jnp.cos(angles), -1), jnp.mean(jnp.sin(angles), -1))


# ---- what is known exactly


def first(field, own=0.0, modes=40):
    """<e^{i theta}> of a rotor at rest in a field; `own` is -i times its frequency, or a Lorentzian's half width."""
    ratio = 0.0
    for k in range(modes, 0, -1):  # a continued fraction, z_k / z_{k-1} from the last mode on
        ratio = 0.5 * field / (k * T + own + 0.5 * field * ratio)
    return ratio


def bisected(fn, low, high, halvings=50):
    """Where fn changes its sign, fn(low) > 0; or `low`."""
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fn(middle) > 0 else (low, middle)
    return low


def stationary(coupling, width=0.0):
    """The order of infinitely many rotors, with Lorentzian frequencies of that half width."""
    return bisected(lambda r: first(coupling * r, width) - r, 1e-9, 1.0)


def finite_square(coupling, n, points=20_001):
    """<R^2> of n rotors in equilibrium, without sampling: the weight of a field that is shared by independent rotors."""
    h = np.linspace(0, 2.5 * coupling, points)[1:]
    height = np.log(h) - n * h**2 / (2 * coupling * T) + n * np.log(np.i0(h / T))
    weight = np.exp(height - height.max())
    return (weight @ h**2) / weight.sum() / coupling**2 - 2 * T / (n * coupling)


def chained(coupling, dt, scheme, modes=16):
    """The order at rest of infinitely many rotors that are moved in steps of dt: a linear map of the Fourier modes."""
    x = np.linspace(-np.pi, np.pi, 4 * modes, endpoint=False)[:, None]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    kick, weights = np.sqrt(2 * T * dt) * nodes[None], weights / weights.sum()
    k = np.arange(-modes, modes + 1)

    def surplus(r):
        pull = lambda x: -coupling * r * np.sin(x) * dt
        moved = x + pull(x) + kick
        if scheme == "Heun":
            moved = x + 0.5 * (pull(x) + pull(moved)) + kick
        after = np.exp(1j * k[:, None, None] * moved[None]) @ weights
        turn = after @ np.exp(-1j * x * k[None]) / x.size
        keep = k != 0
        z = np.linalg.solve(np.eye(2 * modes) - turn[keep][:, keep], turn[keep][:, ~keep])
        return z[modes, 0].real - r

    return bisected(surplus, 1e-3, 1.0, 30)


@eqx.filter_jit
def transient(coupling, start, ts, modes=12):
    """R(t) of infinitely many rotors from Boltzmann's density in a field: Fourier modes, by Runge and Kutta."""
    k = jnp.arange(1.0, modes + 1)

    def rate(z):
        behind = jnp.concatenate([jnp.ones(1), z[:-1]])
        ahead = jnp.concatenate([z[1:], jnp.zeros(1)])
        return -(k**2) * T * z + 0.5 * k * coupling * z[0] * (behind - ahead)

    def step(z, dt):
        a = rate(z)
        b = rate(z + 0.5 * dt * a)
        c = rate(z + 0.5 * dt * b)
        z = z + dt / 6 * (a + 2 * b + 2 * c + rate(z + dt * c))
        return z, z[0]

    modes_at_start = jnp.asarray(start)
    _, r = jax.lax.scan(step, modes_at_start, jnp.diff(ts))
    return jnp.concatenate([modes_at_start[:1], r])


def boltzmann_modes(field, modes=12):
    """I_k(h/T)/I_0(h/T)."""
    x = np.linspace(-np.pi, np.pi, 512, endpoint=False)
    p = np.exp(field / T * np.cos(x))
    return np.cos(np.arange(1, modes + 1)[:, None] * x) @ p / p.sum()


def placed(field, n):
    """n angles that fill Boltzmann's density in a field evenly."""
    x = np.linspace(-np.pi, np.pi, 20_001)
    p = np.exp(field / T * np.cos(x))
    share = np.concatenate([[0.0], np.cumsum(0.5 * (p[1:] + p[:-1]))])
    return jnp.asarray(np.interp((np.arange(n) + 0.5) / n, share / share[-1], x))


# ---- the field as an operation on independent rotors


def irreversible_work(low, high, span, steps):
    """Work less free energy of a rotor whose field is ramped, without sampling."""
    drive = protocols.ramp(low, high, span)
    process = tjx.Process(FIELD, drive, evolve.steady(FIELD, drive.before, RING))
    found = evolve.fokker_planck(process, jnp.linspace(0.0, span, steps + 1), RING)
    return float(found.work[-1]) + T * float(np.log(np.i0(high / T) / np.i0(low / T)))


def friction_at_rest(width=0.05, span=8.0):
    """zeta(0) from the work of two slow ramps, extrapolated to the infinitely slow one."""
    slow, slower = (
        irreversible_work(-width / 2, width / 2, t, round(20 * t)) * t / width**2
        for t in (span, 2 * span)
    )
    return 2 * slower - slow


def friction(field):
    """zeta(h), in energy: thermojax's is in nats."""
    return T * tjx.bounds.friction(FIELD, jnp.asarray(field), grid=RING)[0, 0]


def law(coupling, zeta):
    """dR/dt = -f'(R) / (K^2 zeta), f = K R^2/2 - T ln I0(K R/T)."""
    return lambda r: (first(coupling * r) - r) / (coupling * zeta)


def amplitude(coupling):
    """dR/dt of the exact centre manifold at K = 2T, to the third order."""
    return lambda r: (coupling / 2 - T) * r - coupling**2 * r**3 / (8 * T)


def followed(rate, start, span, steps=400):
    """r(t) of dr/dt = rate(r)."""
    dt, r = span / steps, start
    for _ in range(steps):
        middle = r + 0.5 * dt * rate(r)
        r = r + dt * rate(middle)
    return r


def measured_work(key, paths, span=20.0, steps=200):
    """Irreversible work of the ramp from -1 to 1 by simulation: mean and error."""
    drive = protocols.ramp(-1.0, 1.0, span)
    process = tjx.Process(FIELD, drive, evolve.steady(FIELD, drive.before, RING))
    run = tjx.ensemble(process, jnp.linspace(0.0, span, steps + 1), key, paths)
    estimate = tjx.estimators.mean(run.work)
    return float(estimate.value), float(estimate.stderr)  # the free energies at the ends are equal


# ---- the rotors themselves


def at_rest(system, coupling, field, n, key, paths, dt=0.04, span=40.0, solver=None, warm=False):
    """Order squared at rest, path by path, and entropy given to the bath per time and rotor; that of a relaxing start
    is left out by a run before (`warm`)."""
    ts = jnp.linspace(0.0, span, round(span / dt) + 1)
    start = jnp.broadcast_to(placed(field, n)[None], (paths, n))
    for draw in jax.random.split(key, 2 if warm else 1):
        process = tjx.Process(system, held(coupling, span), tjx.densities.Empirical(start))
        run = tjx.ensemble(process, ts, draw, paths, solver=solver, save=round(0.5 / dt))
        start = run.path.xs[:, -1]
    late = run.path.xs[
        :, run.path.xs.shape[1] // 4 :
    ]  # the first quarter is left to forget the start
    squares = jnp.mean(jnp.abs(order(late)) ** 2, axis=1)
    return squares, run.entropy.medium / (span * n)


def moving(coupling, field, n, key, paths, span, dt=0.02):
    """Mean of cos theta from a start in a field, at all times, path by path."""
    start = tjx.densities.Point(placed(field, n))
    process = tjx.Process(rotors(), held(coupling, span), start)
    ts = jnp.linspace(0.0, span, round(span / dt) + 1)
    run = tjx.ensemble(process, ts, key, paths, save=round(0.1 / dt))
    return run.path.ts[0], order(run.path.xs).real


def lorentzian(n, width):
    return jnp.asarray(width * np.tan(np.pi * ((np.arange(n) + 0.5) / n - 0.5)))


def normal(n, width):
    share = jnp.asarray((np.arange(n) + 0.5) / n)
    return width * jax.scipy.special.ndtri(share)


def dissipated(coupling, frequencies):
    """Order, and entropy per time and rotor, of a large number of rotors with these frequencies."""
    w = np.asarray(frequencies)
    mean = lambda r: np.mean(first(coupling * r, -1j * w).real) - r
    r = bisected(mean, 1e-9, 1.0)
    slowed = w - coupling * r * first(coupling * r, -1j * w).imag
    return r, float(np.mean(w * slowed)) / T


# ---- the figure and the numbers


def row(what, exact, ours, error=None, within=None, theirs=None, source=SOURCE):
    """One line of what is reproduced."""
    allowed = 4 * error if within is None else within
    given = {"what": what, "source": source, "exact": exact, "theirs": theirs, "ours": ours}
    return {
        k: None if v is None else v if isinstance(v, str) else float(v) for k, v in given.items()
    } | {
        "error": None if error is None else float(error),
        "within": float(allowed),
    }


def mean(values):
    values = np.asarray(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


COUPLINGS = (1.2, 1.7, 2.1, 2.4, 3.0, 4.0)
STEPS = (0.04, 0.08, 0.16)


def main(n=100, paths=32, span=60.0, many=8192, crowds=24, kicks=30_000):
    began = time.process_time()  # of the processor: the wall depends on what else runs
    key = iter(jax.random.split(jax.random.key(0), 40))
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}

    # from irreversible work to the law
    zeta = friction_at_rest()
    work = measured_work(next(key), kicks)
    exact_work = irreversible_work(-1.0, 1.0, 20.0, 200)
    rows += [
        row("friction at rest, from the work of slow ramps", 0.5, zeta, within=5e-4),
        row("the same, by its integral", 0.5, float(friction(0.0)), within=1e-6),
        row("irreversible work of a ramp, simulated", exact_work, *work),
    ]
    growth = {k: law(k, zeta)(1e-4) / 1e-4 for k in (2.02, 2.04, 2.1, 2.6)}
    near, far = (growth[k] / (k / 2 - T) for k in (2.02, 2.04))
    what = "growth rate of a small order by that law over K/2 - T, K to 2T"
    rows.append(row(what, 1.0, 2 * near - far, within=2e-3))

    # order at rest
    for k, known in ((2.1, 0.303689344), (2.4, 0.544888987), (3.0, 0.724158718)):
        rows.append(row(f"order at rest, K = {k}", known, stationary(k), within=1e-8))
    found["order"] = []
    for k in COUPLINGS:
        squares, _ = at_rest(rotors(), k, k * stationary(k), n, next(key), paths, span=span)
        found["order"].append((k, *mean(squares), float(finite_square(k, n))))
        if k in (2.1, 2.4, 3.0):
            what = f"<R^2> of {n} rotors, K = {k}, Heun's step 0.04"
            rows.append(row(what, finite_square(k, n), *mean(squares)))

    # the step
    chain = {s: {dt: chained(2.4, dt, s) for dt in (0.01, 0.02, *STEPS)} for s in ("Euler", "Heun")}
    euler = chain["Euler"]
    limit = (8 * euler[0.01] - 6 * euler[0.02] + euler[0.04]) / 3
    what = "order at rest, K = 2.4, Euler's steps 0.04, 0.02, 0.01 extrapolated"
    rows.append(row(what, 0.544888987, limit, within=1e-4))
    found["steps"] = []
    excess = float(finite_square(2.4, n)) - stationary(2.4) ** 2
    for dt in STEPS:
        squares, _ = at_rest(
            rotors(), 2.4, 1.3, n, next(key), paths, dt=dt, span=span, solver=tjx.Euler()
        )
        value, error = mean(squares)
        r = (value - excess) ** 0.5
        found["steps"].append((dt, r, error / (2 * r)))
    dt, r, error = found["steps"][0]
    # the excess of a finite number is that of an exact step: of the order of the bias over n
    what = f"order at rest, K = 2.4, Euler's step {dt}, simulated"
    rows.append(row(what, euler[dt], r, error, within=4 * error + 0.005))

    # the transient
    ts = jnp.linspace(0.0, 2.99, 300)
    modes = transient(2.6, boltzmann_modes(0.1), ts)
    start = float(modes[0])
    cubic = followed(amplitude(2.6), start, 2.99)
    times, paths_of = moving(2.6, 0.1, many, next(key), crowds, 2.99)
    rows += [
        row("transient, K = 2.6, t = 2.99, Fourier modes", 0.120631, float(modes[-1]), within=1e-6),
        row("the same, amplitude equation", 0.120358, cubic, within=1e-5),
        row("the same, simulated", 0.120631, *mean(paths_of[:, -1])),
    ]

    # frequencies of their own
    wide = stationary(4.0, 0.5)
    system = rotors(lorentzian(4 * n, 0.5))
    squares, _ = at_rest(system, 4.0, 4 * wide, 4 * n, next(key), paths // 4, span=span)
    value, error = mean(squares)
    found["wide"] = (4.0, value**0.5, error / (2 * value**0.5))
    below = bisected(lambda k: stationary(4.0 - k, 0.5) - 1e-6, 0.0, 4.0)
    rows += [
        row("coupling of the transition, Lorentzian of width 0.5", 3.0, 4.0 - below, within=1e-4),
        row("order, K = 4, that width", wide, value**0.5, error / (2 * value**0.5), within=0.02),
    ]
    own = normal(4 * n, 0.5)
    found["produced"] = []
    for k in (0.5, 1.8, 2.6, 3.4):
        r, rate = dissipated(k, own)
        _, medium = at_rest(
            rotors(own), k, k * r, 4 * n, next(key), paths // 4, span=span / 2, warm=True
        )
        found["produced"].append((k, *mean(medium), rate))
    k, ours, error, _ = found["produced"][0]
    spread = float(jnp.mean(own**2)) / T
    what = f"entropy production per rotor, incoherent, K = {k}"
    rows.append(row(what, spread, ours, error, within=4 * error + 0.01 * spread))

    found |= {"reproduced": rows, "growth": growth, "chain": chain}
    found["seconds"] = time.process_time() - began
    for r in rows:
        error = "" if r["error"] is None else f" +- {r['error']:.2g}"
        print(f"{r['what']}: {r['ours']:.6g}{error} ({r['exact']:.6g})")
    draw(found, (ts, modes), (times, paths_of), own, n)
    Path("out/collective.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def draw(found, modes, paths_of, own, n):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    (one, two), (three, four) = axes
    dots: dict[str, Any] = {"fmt": "o", "ms": 4.5, "capsize": 3}

    ks = np.linspace(1.0, 4.0, 121)
    one.plot(ks, [stationary(k) for k in ks], "k", lw=1, label=r"$N = \infty$")
    one.plot(
        ks, [finite_square(k, n) ** 0.5 for k in ks], "C0--", lw=1.5, label=f"$N = {n}$, exact"
    )
    k, square, error, _ = np.array(found["order"]).T
    one.errorbar(k, square**0.5, error / (2 * square**0.5), color="C0", label="simulated", **dots)
    one.plot(ks, [stationary(k, 0.5) for k in ks], "C1", label=r"Lorentzian, $\gamma = 0.5$")
    one.errorbar(*found["wide"], color="C1", **dots)
    one.set(
        xlabel="coupling $K$", ylabel=r"order $\sqrt{\langle R^2\rangle}$", title="The transition"
    )

    dts = np.linspace(0.005, 0.17, 8)
    for scheme, colour in (("Euler", "C3"), ("Heun", "C0")):
        line = [chained(2.4, dt, scheme) for dt in dts]
        two.plot(dts, line, colour, label=f"{scheme}, exact for its steps")
    dt, r, error = np.array(found["steps"]).T
    two.errorbar(dt, r, error, color="C3", label="Euler, simulated", **dots)
    two.axhline(stationary(2.4), color="k", lw=1, ls=":", label="no step")
    two.set(xlabel=r"step $\Delta t$", ylabel="order $R$", title="The step, $K = 2.4$")

    ts, exact = modes
    three.plot(ts, exact, "k", lw=1, label="Fourier modes")
    span = np.linspace(0.05, 2.99, 25)
    start = float(exact[0])
    for rate, style, name in (
        (amplitude(2.6), "C2--", "amplitude equation"),
        (law(2.6, 0.5), "C1", r"from the work, $\zeta(0)$"),
    ):
        three.plot(span, [followed(rate, start, t) for t in span], style, label=name)
    times, values = paths_of
    error = values.std(0) / len(values) ** 0.5
    some = slice(None, None, 5)
    three.errorbar(
        times[some], values.mean(0)[some], error[some], color="C0", label="simulated", **dots
    )
    three.set(xlabel="time", ylabel="order $R$", title="A transient, $K = 2.6$")

    ks = np.linspace(0.2, 4.2, 60)
    four.plot(ks, [dissipated(k, own)[1] for k in ks], "k", lw=1, label=r"$N = \infty$")
    k, rate, error, _ = np.array(found["produced"]).T
    four.errorbar(k, rate, error, color="C0", label=f"$N = {4 * n}$, simulated", **dots)
    four.set(xlabel="coupling $K$", ylabel="nats per time and rotor", title="Entropy production")
    for axis in axes.flat:
        axis.legend(fontsize=8)
    figure.savefig("out/collective.png", dpi=90)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    Path("out").mkdir(exist_ok=True)
    main()
