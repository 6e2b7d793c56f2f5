"""What was compiled once is compiled: a second call traces nothing, compiles nothing and asks nothing of the user again."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import pytest

import thermojax as tjx
from thermojax import bounds, diffusion, optimal, rates, schedules
from thermojax.densities import Boltzmann, Empirical, Gaussian, Mixture
from thermojax.protocols import Network, Piecewise, bounded, ramp

events = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **rest: events.append(name)
)
WORK = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/backend_compile_duration")


@contextlib.contextmanager
def nothing_compiles():
    events.clear()
    yield
    assert not [name for name in events if name in WORK]


asked = []


def potential(x, lam):
    asked.append(1)
    return 0.5 * jnp.sum((x - lam) ** 2) + 0.1 * jnp.sum(x**4)


def harmonic(x, lam):
    asked.append(1)
    return 0.5 * jnp.sum((x - lam) ** 2)


def network(x, lam):
    asked.append(1)
    return -x * jax.nn.sigmoid(-lam)


def flips(x, lam):
    asked.append(1)
    return jax.nn.sigmoid(lam * (2 * x - 1))


KEY = jax.random.key(0)
TS = jnp.linspace(0.0, 1.0, 5)
SYSTEM, TRAP = tjx.Overdamped(potential), tjx.Overdamped(harmonic)
DRIVE = ramp(0.0, 1.0, 1.0)
BETWEEN = tjx.Process(SYSTEM, DRIVE, Boltzmann(SYSTEM, 0.0), Boltzmann(SYSTEM, 1.0))
LINEAR = tjx.Process(TRAP, DRIVE, Boltzmann(TRAP, 0.0), Boltzmann(TRAP, 1.0))
XS = jnp.linspace(-1.0, 1.0, 8)[:, None]
PLANE = jnp.concatenate([XS, XS**2], axis=1)
NOISED = diffusion.noising(Gaussian(jnp.zeros(1), 0.5), diffusion.Linear())
LAM = jnp.array([4.0, 1.0, -3.0])
CURVE = schedules.Curve(
    lam=jnp.linspace(-8.0, 8.0, 9),
    mse=jnp.linspace(0.9, 0.1, 9),
    second_moment=jnp.asarray(1.0),
    dim=1,
)


def run():
    return tjx.ensemble(BETWEEN, TS, KEY, 4, save="all")


def path():
    return tjx.Path(TS, XS[:5])


VERBS = {
    "ensemble": run,
    "ensemble, kernel": lambda: tjx.ensemble(BETWEEN, TS, KEY, 4, rule="kernel"),
    "simulate": lambda: tjx.simulate(BETWEEN, TS, KEY),
    "account": lambda: tjx.account(BETWEEN, path()),
    "reduced_work": lambda: tjx.reduced_work(BETWEEN, tjx.account(BETWEEN, path())),
    "dissipated_work": lambda: tjx.dissipated_work(BETWEEN, tjx.account(BETWEEN, path())),
    "path_ratio": lambda: tjx.path_ratio(BETWEEN, BACK, path()),
    "moments": lambda: tjx.evolve.moments(LINEAR, TS),
    "Boltzmann.sample": lambda: BETWEEN.initial.sample(KEY),
    "Boltzmann.log_prob": lambda: BETWEEN.initial.log_prob(XS[0]),
    "quadratic Boltzmann.sample": lambda: LINEAR.initial.sample(KEY),
    "Gaussian": lambda: (GAUSSIAN.sample(KEY), GAUSSIAN.log_prob(XS[:2, 0])),
    "Mixture": lambda: (MIXTURE.sample(KEY), MIXTURE.log_prob(XS[:2, 0])),
    "Empirical": lambda: Empirical(XS).sample(KEY),
    "score": lambda: diffusion.score(NOISED)(XS[0], 1.0),
    "marginal": lambda: diffusion.marginal(NOISED, 0.5).log_prob(XS[0]),
    "flow": lambda: diffusion.flow(NOISED, network, XS[0]),
    "flow_log_prob": lambda: diffusion.flow_log_prob(NOISED, network, XS[0]),
    "path_work": lambda: schedules.path_work(LAM, network, XS[0], KEY, tau=0.1 + 0 * LAM),
    "sample": lambda: schedules.sample(LAM, network, XS[0], KEY, tau=0.1 + 0 * LAM),
    "mean_work": lambda: schedules.mean_work(LAM, CURVE),
    "a loss": lambda: LOSS(DRIVE, KEY),
    "wasserstein": lambda: bounds.wasserstein(GAUSSIAN, Gaussian(jnp.ones(2), 0.3)),
    "wasserstein of samples": lambda: bounds.wasserstein(PLANE, PLANE[:5] + 1.0, epsilon=0.5),
    "steady, of jumps": lambda: tjx.evolve.steady(JUMPS, 0.5, states=jnp.array([[0.0], [1.0]])),
    "rates of samples": lambda: rates.sampled(TRAP, 0.5, lambda x: -x, XS),
    "rates along paths": lambda: rates.sampled_along(
        LINEAR, tjx.Path(TS, jnp.ones((3, 5, 1))), lambda x, t: -x
    ),
    "bar": lambda: tjx.estimators.bar(XS[:, 0], -XS[:, 0]),
}
BACK = tjx.reverse(BETWEEN)
JUMPS = tjx.Jumps(flips, lambda x: (1 - x)[None], lambda x, lam: lam * x[0])
GAUSSIAN = Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.2], [0.2, 1.0]]))
MIXTURE = Mixture(jnp.ones(3), [Gaussian(jnp.full(2, float(i)), 0.1) for i in range(3)])
LOSS = optimal.mean_dissipation(BETWEEN, TS, 4)


@pytest.mark.parametrize("verb", VERBS)
def test_a_second_call_only_runs(verb):
    call = VERBS[verb]
    call()
    jax.block_until_ready(jax.tree.leaves(call()))
    before = len(asked)
    with nothing_compiles():
        call()
    assert len(asked) == before


def test_a_fresh_closure_compiles():
    """Control."""
    call = lambda: jax.jit(lambda x: potential(x, 0.0))(XS[0])
    call()
    with pytest.raises(AssertionError), nothing_compiles():
        call()


@eqx.filter_jit
def value(fn, *args):
    return fn(*args)


NUMBERS = {
    "LogSNR": lambda shift: schedules.LogSNR.cosine(4, low=-15.0 - shift, high=14.0 + shift),
    "Cosine": lambda shift: diffusion.Cosine(offset=0.01 + shift),
    "EDM": lambda shift: diffusion.EDM(rho=6.0 + shift),
    "bounded": lambda shift: bounded(Piecewise(TS, 0.5 * TS), -1.0 - shift, 2.0 + shift),
    "Network": lambda shift: Network(0.0, 1.0, 1.0, key=KEY, lower=-1.0 - shift, upper=2.0 + shift),
}
CALLED = {"LogSNR": ()}


@pytest.mark.parametrize("noun", NUMBERS)
def test_a_new_number_does_not_compile_again(noun):
    make, args = NUMBERS[noun], CALLED.get(noun, (0.3,))
    first = jax.tree.leaves(value(make(0.0), *args))
    again = make(0.5)
    with nothing_compiles():
        other = jax.tree.leaves(value(again, *args))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_a_new_control_does_not_compile_again():
    rate = lambda lam: rates.sampled(TRAP, lam, lambda x: -x, XS).total.value
    first = rate(0.5)
    with nothing_compiles():
        other = rate(0.75)
    assert (first, other) == pytest.approx((0.25, 0.5625), rel=1e-12)  # v = -(x - lam) + x


def test_new_bounds_do_not_compile_again():
    draw = eqx.filter_jit(lambda density, key: density.sample(key))
    one, two = (Boltzmann(SYSTEM, 0.0, bounds=(-3.0 - s, 3.0 + s)) for s in (0.0, 0.5))
    first = draw(one, KEY)
    with nothing_compiles():
        other = draw(two, KEY)
    assert (first != other).all()


CACHED = """
import jax
import jax.numpy as jnp
import thermojax as tjx

asked = {"hits": 0, "misses": 0}

def count(name, **rest):
    for what in asked:
        asked[what] += name == f"/jax/compilation_cache/cache_{what}"

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
trap = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
start = tjx.densities.Gaussian(0.0, 1.0)
process = tjx.Process(trap, tjx.protocols.ramp(0.0, 1.0, 1.0), start)
ts, key = jnp.linspace(0.0, 1.0, 5), jax.random.key(0)
jax.monitoring.register_event_listener(count)
runs = tjx.ensemble(process, ts, key, 3)
exact = tjx.evolve.moments(process, ts)
print(asked["hits"], asked["misses"], runs.work.sum(), exact.work[-1])
"""


def test_a_new_process_finds_what_another_compiled(tmp_path):
    """By the cache of JAX on disk: neither a run nor its moments are compiled again, and the numbers are the same."""
    here = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(tjx.__file__).parent.parent), *sys.path]),
        "XLA_FLAGS": hurry.flags(),
    }

    def run():
        out = subprocess.run(
            [sys.executable, "-c", CACHED], env=here, capture_output=True, text=True
        )
        assert not out.returncode, out.stderr
        hits, misses, *numbers = out.stdout.split()
        return int(hits), int(misses), numbers

    first = run()
    files = sorted(file.name for file in tmp_path.glob("*-cache"))
    again = run()
    assert first[1] >= 2  # control: the run and the moments, at least
    assert again[:2] == (sum(first[:2]), 0)
    assert files == sorted(file.name for file in tmp_path.glob("*-cache"))
    assert again[2] == first[2]
