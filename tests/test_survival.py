"""A search that is killed and started again ends where it would have ended, to the last bit."""

import argparse
import collections
import fractions
import functools as ft
import inspect
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import types

import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest
import scipy.interpolate

import thermojax as tjx
from thermojax._checkpoint import Checkpoint
from thermojax._fingerprint import fingerprint
from thermojax.optimal import search

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
from thermojax import _search
from thermojax.optimal import search
from thermojax.protocols import ramp

_search.SAVE_EVERY = 0.05

def loss(protocol, key):
    noise = jax.random.normal(key, protocol.values.shape)
    return jnp.sum((protocol.values - 1 + 0.1 * noise) ** 2)

optimizer = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(3)), optax.adam(0.01))
found = search(
    loss, ramp(0.0, 1.0, 1.0, knots=8), jax.random.key(0), steps=10000, optimizer=optimizer, checkpoint=sys.argv[1],
    progress=False,
)
np.savez(sys.argv[2], found.protocol.values, *found.history, *found.price)
"""


def begin(folder, checkpoint, out):
    environment = {**os.environ, "XLA_FLAGS": hurry.flags(), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder / checkpoint)]
    return subprocess.Popen([*command, str(folder / out)], env=environment)


def written(file):
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.parametrize("kills", [4, 20])
def test_killed_and_started_again(tmp_path, kills):
    """Killed at random moments of its life, one after the other: protocol, history and price are bit-identical.

    Every fourth is killed soon after its birth, the others after they wrote to the file.
    """
    assert begin(tmp_path, "whole.search", "whole.npz").wait() == 0
    dice, file, killed = random.Random(0), tmp_path / "killed.search", 0
    for i in range(kills):
        before, run = written(file), begin(tmp_path, "killed.search", "killed.npz")
        while i % 4 and written(file) == before and run.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.2 if i % 4 else 2.0))
        run.send_signal(signal.SIGKILL)
        killed += run.wait() == -signal.SIGKILL
    assert killed >= kills // 2, "hardly anything was killed: the test has lost its point"
    assert begin(tmp_path, "killed.search", "killed.npz").wait() == 0
    whole, again = (np.load(tmp_path / name) for name in ("whole.npz", "killed.npz"))
    assert whole.files == again.files
    for name in whole.files:
        assert whole[name].tobytes() == again[name].tobytes()


# ---- the file


def loss(protocol, key):
    return jnp.sum((protocol.values - jax.random.normal(key)) ** 2)


START = tjx.protocols.ramp(0.0, 1.0, 1.0, knots=3)


def go(path, start=START, seed=0, steps=5, **options):
    call = inspect.unwrap(search)  # as users meet it: without type checks
    return call(
        loss, start, jax.random.key(seed), steps=steps, checkpoint=path, progress=False, **options
    )


def test_a_finished_search_is_not_repeated(tmp_path):
    file = tmp_path / "it"
    first, again = go(file), go(file)
    assert os.listdir(tmp_path) == ["it"]
    np.testing.assert_array_equal(first.protocol.values, again.protocol.values)
    np.testing.assert_array_equal(first.history.loss, again.history.loss)
    assert first.price == again.price


def test_another_search_is_refused(tmp_path):
    file = tmp_path / "it"
    go(file)
    for call, words in (
        (lambda: go(file, steps=6), "another search .steps 5, not 6"),
        (lambda: go(file, seed=1), "another search .start"),
        (lambda: go(file, tjx.protocols.ramp(0.0, 2.0, 1.0, knots=3)), "another search .start"),
        (lambda: go(file, noise="common"), "another search .noise 'fresh', not 'common'"),
        (lambda: go(file, optimizer=optax.sgd(0.1, momentum=0.9)), "another search .optimizer"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_bad_files(tmp_path):
    for name, content in (("empty", b""), ("text", b"hello\nworld"), ("json", b'{"a": 1}\n')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is not the checkpoint of a search"):
            go(tmp_path / name)
    whole = tmp_path / "whole"
    go(whole)
    (tmp_path / "half").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match="does not hold what this search would save"):
        go(tmp_path / "half")
    for folder in (tmp_path, ""):
        with pytest.raises(ValueError, match="is a folder"):
            go(folder)
    with pytest.raises(ValueError, match="there is no folder"):
        go(tmp_path / "nowhere" / "it")
    with pytest.raises(TypeError, match="must be the path of a file"):
        go(3.5)


# ---- whose file it is


def pull(goal):
    """A loss that closes over a number."""
    return lambda protocol, key: jnp.sum((protocol.values - goal) ** 2)


class Pull(eqx.Module):
    goal: jax.Array
    power: int = eqx.field(static=True)

    def __call__(self, protocol, key):
        return jnp.sum((protocol.values - self.goal) ** self.power)


WEIGHT = 1.0


def weighed(protocol, key):
    return WEIGHT * jnp.sum(protocol.values**2)


def stiff(k):
    """A ready-made loss, by the stiffness of its trap."""
    system = tjx.Overdamped(lambda x, lam: 0.5 * k * jnp.sum((x - lam) ** 2))
    process = tjx.Process(system, START, tjx.densities.Gaussian(0.0, 1.0))
    return tjx.optimal.mean_work(process, jnp.linspace(0.0, 1.0, 3), 8)


def squares(protocol, key):
    return jnp.sum(protocol.values**2)


def cubes(protocol, key):
    return jnp.sum(protocol.values**3)


def code(text):
    names = {"jnp": jnp}
    exec(text, names)  # as a script that has been edited
    return names["loss"]


EDITED = "def loss(protocol, key):\n    return jnp.sum(protocol.values {})\n"

PAIRS = {
    "a number closed over": lambda: (pull(1.0), pull(2.0)),
    "an array closed over": lambda: (pull(jnp.ones(3)), pull(jnp.array([1.0, 1, 2]))),
    "a leaf": lambda: (Pull(jnp.asarray(1.0), 2), Pull(jnp.asarray(2.0), 2)),
    "a static part": lambda: (Pull(jnp.asarray(1.0), 2), Pull(jnp.asarray(1.0), 4)),
    "the code": lambda: (squares, cubes),
    "an edited script": lambda: (code(EDITED.format("** 2")), code(EDITED.format("** 4"))),
    "a compiled function": lambda: (jax.jit(squares), jax.jit(cubes)),
    "a partial": lambda: (ft.partial(scaled, 1.0), ft.partial(scaled, 2.0)),
    "what it calls": lambda: (lambda p, k: squares(p, k), lambda p, k: cubes(p, k)),
    "the system of a ready-made one": lambda: (stiff(1.0), stiff(8.0)),
}


def scaled(by, protocol, key):
    return by * squares(protocol, key)


def reading(k):
    """What a script may hold a number in, of the standard library's classes and of others'."""
    return {
        "arguments": argparse.Namespace(k=k, names={"x", "y", "zz"}),
        "a namespace": types.SimpleNamespace(k=k),
        "a deque": collections.deque([k]),
        "a UserDict": collections.UserDict(k=k),
        "a fraction": fractions.Fraction(k),
        "a path": pathlib.Path(str(k)),
        "a table": pandas.DataFrame({"k": [k]}),
        "a spline": scipy.interpolate.CubicSpline([0, 1, 2], [k, 0, k]),
    }


def held_in(name):
    both = [reading(k)[name] for k in (1, 8)]
    return [lambda p, key, o=one: (o, squares(p, key))[1] for one in both]


PAIRS |= {name: lambda name=name: held_in(name) for name in reading(1)}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_loss_is_known_again_and_told_from_another(pair):
    (first, other), (again, _) = pair(), pair()
    assert fingerprint(first) == fingerprint(again)
    assert fingerprint(first) != fingerprint(other)


def test_a_global_that_is_read_counts(monkeypatch):
    before = fingerprint(weighed)
    monkeypatch.setitem(globals(), "WEIGHT", 2.0)
    assert fingerprint(weighed) != before


class Slotted:
    __slots__ = ("k",)


class Fixed:
    k = 1.0


SLOTTED, MODULE = Slotted(), types.ModuleType("settings_of_a_user")
MODULE.part = types.ModuleType("settings_of_a_user.part")


@pytest.mark.parametrize(
    ("held", "fn"),
    [
        (SLOTTED, lambda p, key: SLOTTED.k * squares(p, key)),
        (Fixed, lambda p, key: Fixed.k * squares(p, key)),
        (Fixed, lambda p, key: Fixed().k * squares(p, key)),
        (cubes, lambda p, key: cubes.k * squares(p, key)),
        (MODULE, lambda p, key: MODULE.k * squares(p, key)),
        (MODULE.part, lambda p, key: MODULE.part.k * squares(p, key)),
    ],
    ids=["slots", "class", "object of a class", "function", "module", "module of a package"],
)
def test_a_number_that_others_hold_counts(monkeypatch, held, fn):
    for k in (1.0, squares):
        monkeypatch.setattr(held, "k", k, raising=False)
        before = fingerprint(fn)
        assert fingerprint(fn) == before
        monkeypatch.setattr(held, "k", 2.0 if k == 1.0 else cubes, raising=False)
        assert fingerprint(fn) != before


@pytest.mark.parametrize(
    "pair",
    [
        (optax.sgd(0.1), optax.sgd(0.2)),
        (optax.adam(0.1), optax.adam(optax.cosine_decay_schedule(0.1, 10))),
        (START, tjx.protocols.Spline(START.ts, START.values)),
        ({"f": squares}, {"f": cubes}),
    ],
)
def test_optimizers_and_starts_are_told_apart(pair):
    assert fingerprint(pair[0]) != fingerprint(pair[1])


def test_the_file_of_another_loss_or_optimizer_is_refused(tmp_path):
    """A search for 2 that goes on with the file of one for 1 would return the latter's protocol."""
    call = inspect.unwrap(search)
    options = {"steps": 5, "checkpoint": tmp_path / "it", "progress": False}
    call(pull(1.0), START, jax.random.key(0), **options)
    with pytest.raises(
        ValueError, match=r"another search \(loss .*their code.*choose another name"
    ):
        call(pull(2.0), START, jax.random.key(0), **options)
    with pytest.raises(ValueError, match=r"another search \(optimizer "):
        call(pull(1.0), START, jax.random.key(0), optimizer=optax.sgd(0.1), **options)


def test_a_file_of_an_earlier_version_goes_on_with_a_warning(tmp_path):
    file = tmp_path / "it"
    want = go(file)
    first, rest = file.read_bytes().split(b"\n", 1)
    key = jax.random.key(0)
    old = Checkpoint(
        tmp_path / "x",
        (START, key),
        loss=0,
        optimizer=0,
        steps=5,
        noise="fresh",
        gradient="pathwise",
    )
    file.write_bytes(json.dumps({**old.former, "done": 5}).encode() + b"\n" + rest)
    with pytest.warns(UserWarning, match="earlier version, which kept no fingerprint of the loss"):
        found = go(file)
    np.testing.assert_array_equal(found.protocol.values, want.protocol.values)
    with pytest.raises(ValueError, match="another search .start"):
        go(file, seed=1)


# ---- whole or not at all


def held(path):
    return Checkpoint(path, START, loss=loss, optimizer=None, steps=5)


def test_a_flipped_bit_is_seen_wherever_it_is(tmp_path):
    file = tmp_path / "it"
    held(file).save((START.values, np.arange(4.0)), 3)
    whole, like = file.read_bytes(), lambda done: (START.values, np.zeros(4))
    assert held(file).load(like)[1] == 3
    for at in range(0, len(whole), 7):
        for bit in (0, 5):
            hurt = bytearray(whole)
            hurt[at] ^= 1 << bit
            file.write_bytes(hurt)
            with pytest.raises(ValueError, match=r"is damaged|not the checkpoint|another search"):
                held(file).load(like)


def test_two_on_one_file_do_not_mix(tmp_path):
    """The later of two takes the file over, and the earlier one says so and stops; the file is whole at any time."""
    file, like = tmp_path / "it", lambda done: (START.values, np.zeros(4))
    one, two = held(file), held(file)
    one.save((START.values, np.full(4, 1.0)), 1)
    with pytest.raises(RuntimeError, match="is being written by another process"):
        two.save((START.values, np.full(4, 2.0)), 1)
    (_, record), done = held(file).load(like)
    assert (done, record[0]) == (1, 1.0)
    later = held(file)
    later.load(like)
    later.save((START.values, np.full(4, 3.0)), 2)
    with pytest.raises(RuntimeError, match="took it over"):
        one.save((START.values, np.full(4, 1.0)), 3)
    assert held(file).load(like)[1] == 2
    assert os.listdir(tmp_path) == ["it"]
