"""Angles that are cut at a full turn: the work of a torque, with and without the cut."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax._paths import cut_at
from thermojax.densities import Gaussian
from thermojax.measured import from_columns

TURN = 2 * np.pi
TORQUE = tjx.Overdamped(None, lambda x, lam: 3.0 + 0 * x)
PROCESS = tjx.Process(TORQUE, lambda t: 0 * t, Gaussian(0.0, 1.0))
TS = np.linspace(0.0, 20.0, 501)
CUT = (3 * TS + np.pi) % TURN - np.pi  # 60 rad, on (-pi, pi]


def path(every=1):
    return tjx.Path(jnp.asarray(TS[::every]), jnp.asarray(CUT[::every, None]))


@pytest.mark.parametrize("every", [1, 10])
def test_a_torque(every):
    """3 * 60, and not the -8.5 of an angle that jumps back."""
    run = tjx.account(PROCESS, path(every), period=TURN)
    np.testing.assert_allclose(run.work, 180.0, rtol=1e-5)
    np.testing.assert_allclose(run.path.xs[-1], 60.0, rtol=1e-5)
    with pytest.warns(UserWarning, match=r"cut at 6.28319.*period=6.28319"):
        cut = tjx.account(PROCESS, path(every))
    np.testing.assert_allclose(cut.work, -8.4956, atol=1e-3)


def test_one_period_for_each_coordinate():
    """A coordinate without a period is left alone, whatever its steps."""
    xs = jnp.stack([path().xs[:, 0], 9 * path().xs[:, 0]], -1)
    system = tjx.Overdamped(None, lambda x, lam: jnp.stack([3.0 + 0 * x[0], 0 * x[1]]))
    process = tjx.Process(system, lambda t: 0 * t, Gaussian(jnp.zeros(2), 1.0))
    run = tjx.account(process, tjx.Path(path().ts, xs), period=jnp.array([TURN, jnp.inf]))
    np.testing.assert_allclose(run.work, 180.0, rtol=1e-5)
    np.testing.assert_array_equal(run.path.xs[:, 1], xs[:, 1])
    batch = tjx.Path(path().ts, jnp.stack([xs, xs]))
    both = tjx.account(process, batch, period=jnp.array([TURN, jnp.inf]))
    np.testing.assert_allclose(both.work, [180.0, 180.0], rtol=1e-5)


def test_transformed():
    work = lambda xs: tjx.account(PROCESS, tjx.Path(path().ts, xs), period=TURN).work
    np.testing.assert_allclose(jax.jit(work)(path().xs), 180.0, rtol=1e-5)
    slope = jax.grad(work)(path().xs)[:, 0]
    np.testing.assert_allclose(slope, np.r_[-3.0, np.zeros(499), 3.0], atol=1e-5)


@pytest.mark.parametrize("period", [0.0, -1.0, jnp.nan, jnp.ones(2)])
def test_no_period(period):
    with pytest.raises(ValueError, match="period must be a number greater than zero"):
        tjx.account(PROCESS, path(), period=period)


def test_columns():
    columns = {"t": TS, "x": CUT, "lam": (CUT * 180 / np.pi) % 360}
    names = {"time": "t", "positions": "x"}
    data = from_columns(columns, **names, period=TURN)
    process = data.process(TORQUE, Gaussian(0.0, 1.0), protocol=lambda t: 0 * t)
    np.testing.assert_allclose(tjx.account(process, data.path).work, 180.0, rtol=1e-5)
    data = from_columns(columns, **names, controls="lam", period={"x": TURN, "lam": 360.0})
    np.testing.assert_allclose(np.diff(data.controls), 3 * 0.04 * 180 / np.pi, rtol=1e-3)
    with pytest.warns(UserWarning, match=r"row \d+, column 'x': a step of .*period=6.28319"):
        from_columns(columns, **names)
    with pytest.warns(UserWarning, match="period=numpy.pi"):  # a cut at no usual period
        from_columns({**columns, "x": CUT / 7}, **names)
    with pytest.warns(UserWarning, match="near half of the period"):
        from_columns({"t": np.arange(9), "x": np.arange(9) * 0.45 % 1}, **names, period=1.0)


def test_honest_paths_are_no_angles():
    """Noise, a drag, a jump of the trap, a hop between wells: no warning; nor for noise as wide as a turn."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(300, 400))
    assert (np.ptp(wide, axis=1) > 0.9 * TURN).mean() > 0.4
    assert not any(map(cut_at, wide))
    ts = np.arange(400.0)
    hop = np.where(ts < 200, -1.0, 1.0) + 0.2 * rng.normal(size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (
            rng.normal(size=400),
            rng.normal(size=400).cumsum(),
            0.01 * ts,
            hop,
            np.sign(ts - 200),
        ):
            from_columns({"t": ts, "x": x}, time="t", positions="x")
            tjx.account(PROCESS, tjx.Path(jnp.asarray(ts), jnp.asarray(x)[:, None]))
