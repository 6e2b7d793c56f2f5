"""The step is too long at one step of many, on one path of many, and said so; and what the look at it costs is bounded."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax import _stiff
from thermojax.densities import Gaussian
from thermojax.protocols import Piecewise

TRAP = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))
KEY = jax.random.key(0)


def pulse(height, start=3.0, stop=3.5):
    knots = jnp.array([0.0, start, start + 0.01, stop, stop + 0.01, 10.0])
    return Piecewise(knots, jnp.array([1.0, 1.0, height, height, 1.0, 1.0]))


def said(process, ts, size=4, **how):
    """What is said of the step; the paths that are ok."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run = tjx.ensemble(process, ts, KEY, size, **how)
    words = [str(w.message) for w in seen if "step is too long" in str(w.message)]
    return words, np.asarray(run.path.ok)


@pytest.mark.parametrize(
    ("height", "rule", "words"),
    [
        (60.0, "alternating", "at t = 3, is 1.2 relaxation times.*several per cent"),
        (120.0, "alternating", "at t = 3, is 2.4 relaxation times.*run away"),
        (120.0, "kernel", "run away"),
        (20.0, "alternating", None),
    ],
)
def test_a_short_pulse(height, rule, words):
    """Of 500 steps 25 are stiff: none of five at even distances."""
    process = tjx.Process(TRAP, pulse(height), Gaussian(0.0, 1.0))
    found, ok = said(process, jnp.linspace(0.0, 10.0, 501), rule=rule)
    assert ok.all()  # unstable, but not along half of the way
    if words is None:
        assert not found
    else:
        np.testing.assert_equal(len(found), 1)
        assert re.search(words, found[0])


def test_one_long_step():
    ts = jnp.concatenate([jnp.linspace(0.0, 3.0, 301), jnp.linspace(4.6, 10.0, 541)])
    process = tjx.Process(TRAP, tjx.protocols.ramp(1.0, 2.0, 10.0), Gaussian(0.0, 1.0))
    assert "h = 1.6, at t = 3, is 2.2" in said(process, ts)[0][0]


def test_each_path_its_own_drive():
    """All of them unstable: none is ok. One of a hundred, which no even spacing of 64 sees: said."""
    ts = jnp.linspace(0.0, 1.0, 16)
    stiff = lambda top: jax.vmap(lambda k: Piecewise(ts[:: len(ts) - 1], jnp.stack([k, 2 * k])))(
        top
    )
    process = lambda top: tjx.Process(TRAP, stiff(top), Gaussian(0.0, 1.0))
    words, ok = said(process(jnp.full(100, 30.0)), ts, 100)
    assert "none of them is marked ok" in words[0]
    assert not ok.any()
    soft = jnp.ones(100)
    one = int(np.setdiff1d(np.arange(100), _stiff.evenly(100, _stiff.PATHS))[7])
    words, ok = said(process(soft.at[one].set(30.0)), ts, 100)
    assert "is 3.9 relaxation times" in words[0]
    assert ok.all()
    assert not said(process(soft), ts, 100)[0]


def test_a_long_grid_is_looked_at_in_part(monkeypatch):
    """The longest step and the extreme controls are in that part."""
    monkeypatch.setattr(_stiff, "MANY", 1000)
    process = tjx.Process(TRAP, pulse(120.0, 3.0, 3.02), Gaussian(0.0, 1.0))
    assert "is 2.4" in said(process, jnp.linspace(0.0, 10.0, 501), 3)[0][0]


def test_nothing_is_called_back():
    process = tjx.Process(TRAP, pulse(120.0), Gaussian(0.0, 1.0))
    run = lambda key: tjx.ensemble(process, jnp.linspace(0.0, 10.0, 501), key, 4).work
    assert "callback" not in str(jax.jit(run).lower(KEY).as_text())
