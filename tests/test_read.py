"""What a user's function or object reads is seen by every verb that takes one: two calls, a global between them."""

import functools
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thermojax as tjx
from thermojax import diffusion, optimal, schedules
from thermojax._jit import jit
from thermojax.densities import Gaussian
from thermojax.estimators import bootstrap, jarzynski
from thermojax.protocols import ramp

K = 1.0
KEY = jax.random.key(0)
TS = jnp.linspace(0.0, 1.0, 4)
RAMP = ramp(0.0, 2.0, 1.0, knots=3)
WORKS = jax.random.normal(KEY, (40,))
START = Gaussian(jnp.zeros(1), 1.0)
TRAP = tjx.Process(tjx.Overdamped(tjx.potentials.MovingTrap(1.0)), RAMP, START, START)
PATH = tjx.Path(TS, jnp.linspace(0.0, 0.5, 4)[:, None])
NOISING = diffusion.noising(START, diffusion.Linear())
LEVELS = schedules.LogSNR.uniform(3)()


class Own:
    """A density as a user writes it, no pytree."""

    def sample(self, key):
        return K * jax.random.normal(key, (1,))

    def log_prob(self, x):
        return -0.5 * jnp.sum(x**2) / K**2 - jnp.log(K)


class Net:
    """A network as a user writes it, that calls itself something else, too."""

    def __init__(self):
        self.k = 1.0

    def __call__(self, x, lam):
        return -self.k * K * x / 2


class Push(eqx.Module):
    """A force as a user writes it, with a function among its leaves."""

    fn: Callable

    def __call__(self, x, lam):
        return self.fn(x, lam)


OWN, NET = Own(), Net()
PUSHED = tjx.Process(tjx.Overdamped(None, force=Push(NET)), RAMP, Gaussian(jnp.ones(1), 0.1))


class Slowed:
    """A decorator as a user writes it, of a function that reads nothing."""

    def __init__(self, fn):
        functools.update_wrapper(self, fn)
        self.k = 1.0

    def __call__(self, *args):
        return -self.k * self.__wrapped__(*args)


SLOWED = Slowed(jnp.add)


@jax.custom_jvp
def ruled(x, lam):
    return -K * x / 2


ruled.defjvp(lambda given, moved: (ruled(*given), -K * moved[0] / 2))


def clean(x, lam):
    return 0.1 * K * x


def kernel(process, x, t0, t1):
    return x - K * x * (t1 - t0), 2 * (t1 - t0) * jnp.ones(1)


def loss(protocol, key):
    return K * jnp.sum((protocol.values - 2.0) ** 2)


def flat(protocol, key):
    return jnp.sum(protocol.values**2)


RATED = optax.chain(optax.adam(lambda step: 0.1 * K))


def searched(loss, **options):
    return optimal.search(loss, RAMP, KEY, steps=2, progress=False, **options)


def generated(net):
    return tjx.simulate(diffusion.generate(NOISING, net), jnp.linspace(0.001, 1.0, 4), KEY).path.xs


def priced(process):
    return tjx.simulate(process, TS, KEY).entropy.total


VERBS = {
    "bootstrap": lambda: bootstrap(lambda w: jarzynski(w / K), WORKS, key=KEY, draws=10).stderr,
    "log_prob": lambda: tjx.log_prob(TRAP, PATH, kernel=kernel),
    "path_ratio": lambda: tjx.path_ratio(TRAP, tjx.reverse(TRAP), PATH, kernels=kernel),
    "sample_path": lambda: tjx.sample_path(TRAP, kernel, TS, KEY).xs,
    "search": lambda: searched(loss).history.loss[0],
    "check": lambda: searched(loss, check=loss).check_price.value,
    "optimizer": lambda: searched(flat, optimizer=RATED).history.loss[1],
    "own density": lambda: priced(TRAP.replace(initial=OWN, final=OWN)),
    "account": lambda: tjx.account(TRAP.replace(initial=OWN, final=OWN), PATH).entropy.total,
    "flow": lambda: diffusion.flow_log_prob(NOISING, NET, jnp.ones(1), steps=3),
    "rule": lambda: diffusion.flow_log_prob(NOISING, ruled, jnp.ones(1), steps=3),
    "a function in a module": lambda: tjx.simulate(PUSHED, TS, KEY).path.xs,
    "in another library": lambda: tjx.simulate(PUSHED, TS, KEY, solver=dfx.Euler()).path.xs,
    "generate": lambda: generated(NET),
    "predictor": lambda: generated(diffusion.predictor(NET, "score")),
    "schedules": lambda: schedules.ode_log_prob(LEVELS, clean, jnp.ones(1)).value,
    "curve": lambda: schedules.denoising_curve(clean, jnp.ones((2, 1)), LEVELS, KEY, draws=2).mse,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_number_that_changes_is_seen(monkeypatch, verb):
    first = np.asarray(verb())
    monkeypatch.setitem(globals(), "K", 3.0)
    assert np.max(np.abs(np.asarray(verb()) - first)) > 1e-3


@pytest.mark.parametrize("net", [NET, SLOWED], ids=["own class", "own decorator"])
def test_an_attribute_is_seen(monkeypatch, net):
    verb = lambda: diffusion.flow_log_prob(NOISING, net, jnp.ones(1), steps=3)
    first = verb()
    monkeypatch.setattr(net, "k", 2.0)
    assert abs(verb() - first) > 1e-3


def test_it_is_seen_in_what_the_user_compiles(monkeypatch):
    """A generation is made of arrays alone, and `jax.jit` takes it."""
    made = diffusion.generate(NOISING, NET)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))
    drift = jax.jit(lambda process, x: process.system.drift(x, process.protocol(0.5)))
    first = drift(made, jnp.ones(1))
    monkeypatch.setitem(globals(), "K", 3.0)
    assert abs(drift(made, jnp.ones(1)) - first) > 1e-3


def test_what_did_not_change_is_not_compiled_again():
    """Of a function that is written again at every call, too: one that counts how often it is traced."""
    calls = []

    def network():
        def net(x, lam):
            calls.append(1)
            return -K * x / 2

        return net

    first = diffusion.flow_log_prob(NOISING, network(), jnp.ones(1), steps=3)
    count = len(calls)
    assert count > 0
    assert diffusion.flow_log_prob(NOISING, network(), jnp.ones(1), steps=3) == first
    assert len(calls) == count
    run = jit(lambda net, x, lam: net(x, lam))  # by place or by name
    run(network(), jnp.ones(1), 0.0)
    run(network(), jnp.ones(1), lam=0.0)
    assert len(calls) == count + 1
