"""What the library computes, case by case, and the table of what it computed at commit 399891a.

`CASES[name].compute()` is a dict of arrays, found through the public API alone. The table, `frozen_float64.npz` and
`frozen_float32.npz`, holds the same arrays as they were at that commit, compiled as usual, on CPU:

    THERMOJAX_TEST_X64=1 PYTHONPATH=. python tests/frozen.py --write
    THERMOJAX_TEST_X64=0 PYTHONPATH=. python tests/frozen.py --write

The table must NOT be written again to make a test pass: it is there to show that a change of the code changed no number.
Where a number has to change (a bug, another stream of random numbers) say which and why, and write again only then.
Without `--write` the script names what differs from the table, and by how much.

Names of the library that may change are written in one place each: here, in the case that freezes them.
"""

if __name__ == "__main__":
    import conftest  # noqa: F401 - the precision and the strictness of the tests, before anything is made

import functools as ft
import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from systems import CASES as SYSTEMS, GRID, THETA, even, uneven, well

import thermojax as tjx
from thermojax import (
    densities,
    diffusion,
    estimators,
    evolve,
    measured,
    optimal,
    potentials,
    protocols,
    schedules,
)

KEY = jax.random.key(399891)
SIZE = 6
jit, vmap, split = eqx.filter_jit, jax.vmap, jax.random.split

# Relative to the largest number of an array. Between the two ways of compiling (`hurry`) nearly all agree to 2e-15 in
# double precision, those that cancel most (the error bar of two prices) to 6e-14. That holds for the equations solved by
# adaptive steps, too: rounding moves a step by its share of the error estimate, and the solution by far less. In single
# precision: a few roundings (6e-8) for each of a dozen steps; a case that needs more says why.
RTOL, RTOL32 = 1e-12, 2e-5


class Case(NamedTuple):
    compute: Callable[[], dict[str, Any]]
    rtol32: float


CASES: dict[str, Case] = {}


def case(rtol32=RTOL32, **variants):
    """Register a function by its name, or once for each of `variants` (name -> arguments)."""

    def register(fn):
        for name, args in (variants or {"": ()}).items():
            label = f"{fn.__name__}_{name}".strip("_")
            CASES[label] = Case(lambda args=args: fn(*args), rtol32)
        return fn

    return register


def named(prefix, tree):
    """The leaves of a tree by name; None is none."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


# ---- runs: every system, both rules, what is saved, the ledger of a stored path


def ledger(prefix, run):
    """A Trajectory: the one place that knows its fields."""
    path, nats = run.path, run.entropy
    parts = {
        "ts": path.ts,
        "xs": path.xs,
        "ok": path.ok,
        "work": run.work,
        "heat": run.heat,
        "total": nats.total,
        "medium": nats.medium,
        "system": nats.system,
    }
    return {f"{prefix}.{name}": value for name, value in parts.items() if value is not None}


# Each way to run a system, each by another one; two_baths and several_controls are below. A program costs seconds.
EULER, KERNEL = {"solver": dfx.Euler()}, {"rule": "kernel"}
RUNS = {
    "dragged": (tjx.simulate, {"save": "all"}),
    "quartic": (tjx.ensemble, EULER | {"save": "all"}),
    "end_jumps": (tjx.ensemble, KERNEL),
    "rotational": (tjx.ensemble, {"save": 3}),
    "temperature_ramp": (tjx.ensemble, KERNEL | {"save": "all"}),
    "temperature_jump": (tjx.ensemble, {"solver": dfx.SRA1(), "save": "all"}),
    "network": (tjx.ensemble, {"solver": dfx.ShARK(), "save": 3}),
    "spline": (tjx.ensemble, {"solver": dfx.Heun()}),
    "plain_callable": (tjx.ensemble, KERNEL | {"save": "all"}),
}


@case(**{name: (name, *how) for name, how in RUNS.items()})
def system(name, verb, options):
    process, ts = SYSTEMS[name]()
    size = (SIZE,) if verb is tjx.ensemble else ()
    return ledger("run", verb(process, ts, KEY, *size, **options))


@case(
    rotational=("rotational", True),
    two_baths=("two_baths", False),
    several_controls=("several_controls", True),
    plain_callable=("plain_callable", True),
)
def stored_paths(name, cumulative):
    """The ledger of paths that no run has made, by both rules, and what is computed of it."""
    process, ts = build = SYSTEMS[name]()
    walked = np.random.default_rng(len(name)).normal(size=(2, len(ts), build.d))
    path = tjx.Path(ts, jnp.asarray(0.3 * walked.cumsum(1), ts.dtype))

    @jit
    def priced(path):
        run = tjx.account(process, path)
        kernel = tjx.account(process, path, rule="kernel", cumulative=cumulative)
        found = {**ledger("alternating", run), **ledger("kernel", kernel)}
        if name != "two_baths":
            found["reduced_work"] = tjx.reduced_work(process, run)
        if process.final is not None:
            found["dissipated_work"] = tjx.dissipated_work(process, run)
            found["path_ratio"] = tjx.path_ratio(process, tjx.reverse(process), path)
        return found

    return priced(path)


@case()
def two_blocks():
    """Paths share a key by blocks of 500."""
    process, ts = SYSTEMS["two_baths"]()
    run = ledger("run", tjx.ensemble(process, ts[::4], KEY, 620))
    few = np.array([0, 499, 500, 619])
    numbers = {name: np.asarray(v) for name, v in run.items() if name not in ("run.ok", "run.ts")}
    rows = {f"{name}.rows": v[few] for name, v in numbers.items()}
    means = {f"{name}.mean": v.mean(0) for name, v in numbers.items()}
    squares = {f"{name}.squares": (v**2).sum(0) for name, v in numbers.items()}
    return {**rows, **means, **squares}


@case(rtol32=1e-4)  # a logarithm beside its wall
def failed_paths():
    """Behind the wall at zero there is no energy: such a path stops where it was."""
    wall = tjx.Overdamped(lambda x, lam: jnp.sum(lam * x - jnp.log(x)))
    process = tjx.Process(wall, protocols.ramp(1.0, 2.0, 1.0), densities.Gaussian(0.7, 0.05))
    return ledger("run", tjx.ensemble(process, even(8), KEY, 16, save="all"))


@case()
def reverse():
    process, ts = SYSTEMS["several_controls"]()
    back, grid = tjx.reverse(process), tjx.reverse_grid(process, ts)

    run = tjx.ensemble(back, grid, KEY, SIZE, save="all")
    return {"grid": grid, "reduced": tjx.reduced_work(back, run), **ledger("run", run)}


@case()
def free_energy():
    """Between equilibria, with an end jump of the temperature: the works of the run, and R with another end."""
    process, ts = SYSTEMS["temperature_jump"]()
    other = tjx.Process(
        process.system, process.protocol, process.initial, densities.Gaussian(0.2, 0.9)
    )

    @jit
    def both(path):
        run = tjx.account(process, path)
        return {
            "reduced_work": tjx.reduced_work(process, run),
            "dissipated_work": tjx.dissipated_work(process, run),
            "another end": tjx.dissipated_work(other, run),
        }

    walked = np.random.default_rng(0).normal(size=(3, len(ts), 1)).cumsum(1)
    return both(tjx.Path(ts, jnp.asarray(0.3 * walked, ts.dtype)))


@case(alternating=("alternating",), kernel=("kernel",))
def gradient(rule):
    """By the knots, the temperature and the stiffness."""

    def loss(theta):
        run = tjx.ensemble(well(theta), GRID, KEY, 5, rule=rule)
        return jnp.mean(run.work + run.entropy.total)

    return named("", jit(jax.value_and_grad(loss))(THETA))


@case()
def protocol():
    """Every protocol along its span, and constrained ones."""
    knots = protocols.Piecewise(jnp.array([0.0, 0.4, 1.0]), jnp.array([0.5, 1.0, 1.5]), 0.2, 3.0)
    drives = {name: SYSTEMS[name]().process.protocol for name in SYSTEMS}
    drives |= {
        "bounded": protocols.bounded(knots, 0.0, 2.0),
        "positive": protocols.positive(knots),
        "monotone": protocols.monotone(knots),
        "fixed": protocols.fixed(knots),
        "reversed": protocols.Reversed(knots),
    }
    found = jit(lambda ts: {name: vmap(drive)(ts) for name, drive in drives.items()})(uneven())
    return named("", found)


# ---- without sampling


def gyrator():
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * jnp.sum(x**2) + lam * x[0] * x[1],
        lambda x, lam: 0.4 * jnp.stack([-x[1], x[0]]),
        jnp.array([1.0, 0.7]),
        jnp.array([1.0, 2.5]),
    )
    start = densities.Gaussian(jnp.array([0.3, -0.2]), jnp.array([[0.7, 0.2], [0.2, 1.1]]))
    return tjx.Process(system, protocols.ramp(0.2, 0.6, 1.0), start), even(4)


@case(breathing=("breathing",), spline=("spline",), gyrator=("gyrator",))
def moments(name):
    """In double precision solved to rounding, as `flow`: a tolerance depends on how errors are counted."""
    rtol = 1e-13 if jax.config.jax_enable_x64 else None
    process, ts = gyrator() if name == "gyrator" else SYSTEMS[name]()
    found = evolve.moments(process, ts, rtol=rtol)
    parts = {
        "work": found.work,
        "heat": found.heat,
        "reduced_work": found.reduced_work,
        "total": found.entropy.total,
        "medium": found.entropy.medium,
        "system": found.entropy.system,
        "mean": found.mean,
        "cov": found.cov,
    }
    return {name: value for name, value in parts.items() if value is not None}


# ---- diffusion models

LEVELS = np.array([4.0, 1.5, 0.2, -1.0, -3.0])


def mixture():
    parts = [
        densities.Gaussian(jnp.array([1.0, 0.0]), 0.04),
        densities.Gaussian(jnp.array([-1.0, 0.5]), 0.09),
    ]
    return densities.Mixture(jnp.array([1.0, 3.0]), parts)


def clouds():
    return densities.Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.25, 0.5]))


NOISINGS = {
    "VP_linear": lambda: diffusion.noising(mixture(), diffusion.Linear()),
    "VP_cosine": lambda: diffusion.noising(clouds(), diffusion.Cosine()),
    "VE_EDM": lambda: diffusion.noising(clouds(), diffusion.EDM(0.05, 5.0), kind=diffusion.VE()),
    "VE_uniform": lambda: diffusion.noising(
        clouds(), diffusion.Uniform(6.0, -4.0), kind=diffusion.VE()
    ),
    "sub_VP": lambda: diffusion.noising(
        clouds(), diffusion.Linear(t0=1e-2, sub=True), kind=diffusion.SubVP()
    ),
}


@case(**{name: (name,) for name in NOISINGS})
def noising(name):
    process = NOISINGS[name]()
    t0, t1 = process.protocol.t0, process.protocol.t1
    ts = jnp.linspace(t0, t1, 5)
    middle = 0.5 * (t0 + t1)
    exact = diffusion.score(process)
    xs = jax.random.normal(KEY, (3, 2))

    @jit
    def points(xs):
        lam = process.protocol(middle).lam
        there = diffusion.marginal(process, middle)
        walk = lambda key: diffusion.walk(process, ts, key, diffusion.jump)
        made = diffusion.generate(process, exact)
        back = lambda key: diffusion.walk(made, tjx.reverse_grid(process, ts), key, tjx.euler)
        return {
            "levels": vmap(process.protocol)(ts[1:-1])._asdict(),
            "score": vmap(lambda x: exact(x, lam))(xs),
            "log_prob": vmap(there.log_prob)(xs),
            "walk": vmap(walk)(split(KEY, 3)).xs,
            "back": vmap(back)(split(KEY, 3)).xs,
            "prior": vmap(process.final.log_prob)(xs),
        }

    return named("", points(xs))


@case(VE_EDM=("VE_EDM", "alternating"), sub_VP=("sub_VP", "kernel"))
def noising_run(name, rule):
    process = NOISINGS[name]()
    ts = jnp.linspace(process.protocol.t0, process.protocol.t1, 7)
    run = ledger("run", tjx.ensemble(process, ts, KEY, SIZE, rule=rule, save="all"))
    if name == "VE_EDM":  # without a force nothing is exchanged, and zero has no scale
        run = {part: run[f"run.{part}"] for part in ("ts", "xs", "total", "system")}
    return run


@case()
def generation_with_a_potential():
    process = NOISINGS["VP_cosine"]()
    shape = lambda x, level: 0.5 * jnp.sum(x**2) * (1 + 0.1 * level.lam**2)
    net = lambda x, lam: -jnp.tanh(x) + 0.1 * lam * x
    made = diffusion.generate(process, net, predicts="noise", potential=shape)
    run = tjx.ensemble(made, jnp.linspace(0.001, 0.999, 8), KEY, SIZE)
    return {**ledger("run", run), "reduced": tjx.reduced_work(made, run)}


@case(rtol32=1e-4)  # solved to 1e-5 by steps that adapt to an error near rounding
def flow():
    """In double precision solved to rounding, by that commit too: its steps kept to a tolerance in the unit of x, of which
    the numbers at rtol=1e-5 must not depend."""
    rtol = 1e-13 if jax.config.jax_enable_x64 else 1e-5
    process = NOISINGS["VE_EDM"]()
    exact = diffusion.score(process)

    @jit
    def carried(xs):
        return {
            "flow": vmap(lambda x: diffusion.flow(process, exact, x, rtol=rtol))(xs),
            "log_prob": vmap(lambda x: diffusion.flow_log_prob(process, exact, x, rtol=rtol))(xs),
        }

    return carried(jax.random.normal(KEY, (3, 2)))


@case()
def reverse_kernel():
    """Predictors of all three kinds, both means, and the price of a generation by the chain's kernels."""
    process = diffusion.noising(mixture(), diffusion.Levels(jnp.asarray(LEVELS)))
    ts, lam = jnp.arange(6.0), jnp.asarray(LEVELS)
    net = lambda x, lam: jnp.tanh(x + 0.1 * lam)
    tau = schedules.chain(lam).noise

    @jit
    def priced(keys):
        path = vmap(lambda key: diffusion.walk(process, ts, key, diffusion.jump))(keys)
        found = {}
        for predicts, mean in (("score", "ddpm"), ("noise", "euler"), ("clean", "ddpm")):
            back = diffusion.generate(process, net, predicts=predicts)
            kernel = diffusion.reverse_kernel(process, net, lam, tau, predicts=predicts, mean=mean)
            found[f"kernel {predicts} {mean}"] = kernel(back, path.xs[0, 2], ts[2], ts[3])
            if predicts == "clean":
                walk = lambda key: diffusion.walk(back, ts, key, kernel)  # noqa: B023, E731
                found["walk"] = vmap(walk)(keys).xs
                pair = (diffusion.jump, kernel)
                found["ratio"] = tjx.path_ratio(process, back, path, kernels=pair)
        return found

    return named("", priced(split(KEY, 4)))


# ---- chains of a noise schedule


@case()
def chain():
    lam = jnp.asarray(LEVELS)
    denoise = lambda x, lam: jnp.tanh(x) * jax.nn.sigmoid(lam)
    data, tau = clouds(), schedules.chain(lam).noise
    net = {
        "clean": denoise,
        "score": schedules.from_score(denoise),
        "noise": schedules.from_noise(denoise),
    }
    means, priors = ("ddpm", "euler"), {"log_p0": data.log_prob, "none": None}

    @jit
    def along(keys):
        x0 = vmap(data.sample)(keys)
        found = {"coefficients": [tuple(schedules.chain(lam, mean)) for mean in means]}
        for mean, (prior, log_p0) in itertools.product(means, priors.items()):
            price = ft.partial(schedules.path_work, lam, denoise, tau=tau, mean=mean, log_p0=log_p0)
            found[f"work {mean} {prior}"] = tuple(vmap(price)(x0, keys))
        for name, predict in net.items():
            draw = ft.partial(schedules.sample, lam, predict, tau=tau)
            found[f"sample {name}"] = vmap(draw)(x0, keys)
        return found

    return named("", along(split(KEY, 4)))


class Exact(schedules.AbstractCurve):
    """The curve of Gaussian data of two variances: with one alone, the best variance dissipates exactly nothing."""

    second_moment: Any
    dim: int = eqx.field(static=True)

    def __call__(self, lam):
        wide, narrow = 1.6 * self.second_moment, 0.4 * self.second_moment
        return 0.5 * (wide / (1 + jnp.exp(lam) * wide) + narrow / (1 + jnp.exp(lam) * narrow))


@case(rtol32=1e-4)  # what dissipates is a small difference of costs
def price():
    curve = Exact(jnp.asarray(0.6), 2)

    @jit
    def along(lam):
        found = {}
        for tau in ("optimal", "posterior", "forward"):
            cost = lambda lam: schedules.mean_work(lam, curve, tau=tau).total  # noqa: B023, E731
            found[tau] = {
                "cost": tuple(schedules.mean_work(lam, curve, tau=tau)),
                "slope": jax.grad(cost)(lam),
                "variances": schedules.variances(lam, curve, tau),
                "friction": schedules.friction(lam, curve, tau=tau),
                "dissipation": schedules.dissipation(lam, curve, tau=tau),
                "length": schedules.length(curve, 4.0, -3.0, tau=tau),
            }
        equal = schedules.equal_length(curve, 5, 4.0, -3.0)
        given = schedules.mean_work(lam, curve, tau=schedules.chain(lam).noise)
        return found | {"equal": equal, "given": tuple(given)}

    return named("", along(jnp.asarray(LEVELS)))


@case()
def curve_of_a_denoiser():
    denoise = lambda x, lam: x * jax.nn.sigmoid(lam + 0.5)
    data = vmap(clouds().sample)(split(KEY, 40))
    curve = schedules.denoising_curve(denoise, data, jnp.linspace(-8.0, 8.0, 17), KEY, draws=3)
    price = jit(lambda lam: tuple(schedules.mean_work(lam, curve)))
    found = {"mse": curve.mse, "moment": curve.second_moment, "between": curve(jnp.asarray(LEVELS))}
    return {**found, **named("cost", price(jnp.asarray(LEVELS)))}


@case()
def log_snr():
    make = schedules.LogSNR
    named = {
        "uniform": make.uniform(6),
        "linear": make.linear(6),
        "cosine": make.cosine(6),
        "edm": make.edm(6),
        "between": make.uniform(6).between(4.0, -2.0),
    }
    return {name: schedule() for name, schedule in named.items()}


# ---- densities


@case(rtol32=1e-4)  # a table of 1001 cells, summed up in single precision
def density():
    quadratic = tjx.Overdamped(potentials.MovingTrap(1.5), temperature=0.8)
    quartic = tjx.Overdamped(potentials.Quartic(0.5), temperature=1.2)
    cov = jnp.array([[0.7, 0.2], [0.2, 1.1]])
    rows = jax.random.normal(KEY, (5, 2))
    bounded = lambda lam: densities.Boltzmann(quartic, lam, bounds=(-6.0, 6.0), nodes=1001)
    trap = lambda lam: densities.Boltzmann(quadratic, lam, dim=2)
    known = {
        "scalar": densities.Gaussian(0.3, 0.7),
        "coordinates": clouds(),
        "full": densities.Gaussian(jnp.array([0.3, -0.2]), cov),
        "mixture": mixture(),
        "quadratic": trap(0.4),
        "bounds": bounded(-0.5),
    }
    cloud, point = densities.Empirical(rows), densities.Point(rows[0])
    smoothed = {
        "noised full": densities.noised(known["full"], 0.8, 0.3),
        "noised mixture": densities.noised(known["mixture"], 0.8, 0.3),
        "noised sample": densities.noised(cloud, 0.8, 0.3),
        "noised point": densities.noised(point, 0.8, 0.3),
    }
    drawn = {"sample": cloud, "point": point, "noised": densities.noised(known["bounds"], 0.8, 0.3)}

    @jit
    def all_of_them(keys):
        samples = {name: vmap(d.sample)(keys) for name, d in (known | smoothed | drawn).items()}
        heights = {
            name: vmap(density.log_prob)(samples[name])
            for name, density in (known | smoothed).items()
        }
        by = jax.jvp(lambda lam: vmap(bounded(lam).sample)(keys), (-0.5 * one,), (one,))[1]
        return {"sample": samples, "log_prob": heights, "quartic by lam": by}

    one = jnp.ones_like(jnp.asarray(0.0))
    search = densities.Boltzmann(quartic, -0.5)
    return {**named("", all_of_them(split(KEY, 8))), "log_z": jit(search.log_partition)()}


# ---- estimators, of works drawn by numpy: default_rng(399891)


@case()
def estimator():
    rng = np.random.default_rng(399891)
    w, back = (jnp.asarray(rng.normal(m, s, n)) for m, s, n in ((1.0, 1.1, 200), (-0.2, 1.0, 150)))
    lost = w.at[jnp.array([3, 70])].set(jnp.nan)
    found = {
        "jarzynski": estimators.jarzynski(w),
        "jarzynski of those left": estimators.jarzynski(lost, failed="drop"),
        "integral_fluctuation": estimators.integral_fluctuation(w),
        "cumulant": estimators.cumulant(w),
        "second_law_excess": estimators.second_law_excess(w),
        "second_law_excess of a given one": estimators.second_law_excess(w, 0.3),
        "mean": estimators.mean(w),
        "bar": estimators.bar(w, back),
        "bar of those left": estimators.bar(lost, back, failed="drop"),
        "crooks": estimators.crooks(w, back),
        "bootstrap": estimators.bootstrap(estimators.jarzynski, w, key=KEY, draws=20),
        "bootstrap of bar": estimators.bootstrap(estimators.bar, w, back, key=KEY, draws=5),
    }
    return named("", {name: value._asdict() for name, value in found.items()})


# ---- measured paths


@case()
def measured_paths():
    rng = np.random.default_rng(7)
    ts = jnp.asarray(np.stack([[0.0, 0.1, 0.25, 0.3, 0.6], [0.0, 0.2, 0.3, 0.5, 0.9]]))
    xs = jnp.asarray(rng.normal(size=(2, 5, 2)).cumsum(1))
    controls = {
        "at": jnp.asarray(rng.normal(size=(2, 5, 2))),
        "k": jnp.asarray(1 + rng.random((2, 5))),
    }
    energy = lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["at"]) ** 2)
    trap = tjx.Overdamped(energy, lambda x, lam: 0.3 * jnp.sin(x), 0.8, 1.3)
    start, end = densities.Gaussian(jnp.zeros(2), 0.7), densities.Gaussian(jnp.ones(2), 1.2)
    data = measured.Measured(tjx.Path(ts, xs), controls)
    total = measured.account(trap, data, start, end)
    running = measured.account(trap, data, start, rule="kernel", cumulative=True)
    return {**ledger("total", total), **ledger("running", running)}


# ---- searches of five updates


def searched(loss, start, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few paths may price it badly
        found = optimal.search(loss, start, KEY, steps=5, prices=2, progress=False, **options)
    return {
        **named("protocol", eqx.filter(found.protocol, protocols.trainable(found.protocol))),
        **named("history", found.history._asdict()),
        **named("price", found.price._asdict()),
        **named("check", found.check_price and found.check_price._asdict()),
        "slope": np.array(found.gradient),
    }


def losses():
    start, end = densities.Gaussian(0.0, 1.0), densities.Gaussian(3.0, 1.2)
    drive = protocols.Piecewise(jnp.array([0.0, 0.5, 1.0]), jnp.array([0.5, 1.2, 2.0]), 0.0, 3.0)
    process = tjx.Process(tjx.Overdamped(potentials.MovingTrap(1.3)), drive, start, end)
    args = process, even(5), 16
    plain = {
        "check": lambda protocol, key: jnp.sum(protocol.values**2)
    }  # the usual one costs a program
    score = {"gradient": "score"} | plain
    return drive, {
        "mean_work": (optimal.mean_work(*args), plain),
        # not by `optimal.mean_dissipation`, whose score function has had the cost to come since: less noise, other numbers
        "mean_dissipation": (
            optimal.average(lambda run: run.entropy.total, *args, **KERNEL),
            score,
        ),
        "estimator_variance": (optimal.estimator_variance(*args), {"noise": "common"}),
        "state_to_state": (optimal.state_to_state(*args, end, 2.0, **EULER), plain),
    }


# Adam divides by the size of the gradient, and five updates feed on each other.
@case(
    mean_work=("mean_work",),
    mean_dissipation=("mean_dissipation",),
    estimator_variance=("estimator_variance",),
    state_to_state=("state_to_state",),
)
def search(name):
    drive, table = losses()
    loss, options = table[name]
    return searched(loss, drive, **options)


@case()
def search_of_a_schedule():
    def loss(schedule, key):
        lam = schedule()
        denoise = lambda x, lam: 0.8 * x * jax.nn.sigmoid(lam)
        tau = schedules.chain(lam).noise
        one = lambda key: (
            schedules.path_work(lam, denoise, jax.random.normal(key, (2,)), key, tau=tau).w
        )
        return jnp.mean(vmap(one)(split(key, 8)))

    return searched(loss, schedules.LogSNR.uniform(5, 4.0, -3.0))


@case()
def optimum():
    trap = optimal.moving_trap(0.5, 3.0, 2.0, stiffness=1.5, mobility=0.7)
    width = optimal.stiffness(1.0, 4.0, 0.5, mobility=0.8, temperature=1.2)
    ts = jnp.linspace(0.01, 0.49, 7)
    found = {
        name: (vmap(one.protocol)(ts), one.work) for name, one in (("trap", trap), ("width", width))
    }
    return named("", found)


# ---- the table


def file():
    return Path(__file__).parent / f"frozen_{jnp.asarray(0.0).dtype}.npz"


def stored():
    """The table of this session's precision: name of the case -> name of the array -> array."""
    table: dict[str, dict[str, np.ndarray]] = {}
    with np.load(file()) as arrays:
        for label in arrays:
            name, part = label.split("/", 1)
            table.setdefault(name, {})[part] = arrays[label]
    return table


def computed(name):
    return {part: np.asarray(value) for part, value in CASES[name].compute().items()}


def tolerance(name):
    return RTOL if jax.config.jax_enable_x64 else CASES[name].rtol32


def distance(got, want):
    """The largest difference relative to the largest number; infinite for another shape, type, or where one is NaN."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.inf
    if not np.issubdtype(want.dtype, np.floating):
        return 0.0 if np.array_equal(got, want) else np.inf
    fine = np.isfinite(want)
    if not np.array_equal(got[~fine], want[~fine], equal_nan=True):
        return np.inf
    apart, scale = np.abs(got - want)[fine], np.abs(want)[fine]
    return float(apart.max() / (scale.max() or 1)) if apart.size else 0.0


if __name__ == "__main__":
    if "--write" in sys.argv:
        table = {f"{name}/{part}": v for name in CASES for part, v in computed(name).items()}
        np.savez_compressed(file(), **table)
        print(f"{file()}: {len(CASES)} cases, {len(table)} arrays, {file().stat().st_size} bytes")
    else:
        for name, old in stored().items():
            new = computed(name)
            worst = {
                part: distance(new[part], old[part]) if part in new else np.inf for part in old
            }
            part = max(worst, key=worst.__getitem__)
            print(f"{worst[part] / tolerance(name):8.1e} of {tolerance(name):.0e}  {name}: {part}")
