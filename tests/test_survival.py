"""A search that is killed and started again ends where it would have ended, to the last bit."""

import inspect
import os
import random
import signal
import subprocess
import sys
import time

import hurry
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thermojax as tjx
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
KILLS = 20


def begin(folder, checkpoint, out):
    environment = {**os.environ, "XLA_FLAGS": hurry.flags(), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder / checkpoint)]
    return subprocess.Popen([*command, str(folder / out)], env=environment)


def written(file):
    return file.stat().st_mtime_ns if file.exists() else 0


def test_killed_and_started_again(tmp_path):
    """Killed at 20 random moments of its life, one after the other: protocol, history and price are bit-identical.

    Every fourth is killed soon after its birth, the others after they wrote to the file.
    """
    assert begin(tmp_path, "whole.search", "whole.npz").wait() == 0
    dice, file, killed = random.Random(0), tmp_path / "killed.search", 0
    for i in range(KILLS):
        before, run = written(file), begin(tmp_path, "killed.search", "killed.npz")
        while i % 4 and written(file) == before and run.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.2 if i % 4 else 2.0))
        run.send_signal(signal.SIGKILL)
        killed += run.wait() == -signal.SIGKILL
    assert killed >= KILLS // 2, "hardly anything was killed: the test has lost its point"
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
        (lambda: go(file, optimizer=optax.sgd(0.1, momentum=0.9)), "another optimizer, perhaps"),
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
