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


def wrap(x):
    return (x + np.pi) % TURN - np.pi


LATE = np.linspace(0.0, 5.0, 501)
TRAP = tjx.Overdamped(tjx.potentials.MovingTrap(2.0))
AT = 3.4 + 0.5 * LATE  # a trap that starts just beyond the cut, and a bead just short of it
BEAD = AT - 0.55 + 0.1 * np.sin(LATE)


def work(x, at, **how):
    columns = {"t": LATE, "x": x, "l": at}
    data = from_columns(columns, time="t", positions="x", controls="l", **how)
    return tjx.account(data.process(TRAP, Gaussian(0.0, 1.0)), data.path).work[0]


@pytest.mark.parametrize("unit", [1.0, 180 / np.pi])
def test_the_turn_of_a_control(unit):
    """Bead and trap are cut at different times; the trap's turn is that of the bead, whichever of them is cut."""
    x, at, both = unit * BEAD, unit * AT, {"x": unit * TURN, "l": unit * TURN}
    right = work(x, at)
    for name, bead, trap in (
        ("both", unit * wrap(BEAD), unit * wrap(AT)),
        ("the bead", unit * wrap(BEAD + 1) - unit, at),
        ("the trap", x, unit * wrap(AT)),
    ):
        np.testing.assert_allclose(work(bead, trap, period=both), right, rtol=1e-4, err_msg=name)


def test_the_turns_of_several_controls():
    """In their order, where there are as many as positions; otherwise one that may belong to either is left, and said."""
    columns = {"t": LATE, "x": wrap(BEAD), "y": wrap(BEAD + 3), "l": wrap(AT), "m": wrap(AT + 3)}
    period = dict.fromkeys("xylm", TURN)
    names = {"time": "t", "positions": ("x", "y"), "period": period}
    data = from_columns(columns, **names, controls=("l", "m"))
    np.testing.assert_allclose(
        data.path.xs[0] - data.controls[0], (BEAD - AT)[:, None] + [0, 0], atol=1e-5
    )
    with pytest.warns(UserWarning, match=r"column 'l': .*positions \['x', 'y'\].*in their order"):
        from_columns(columns, **names, controls={"a": "m", "b": "l"})
    other = from_columns(columns, **{**names, "period": {"x": 360.0, "l": TURN}}, controls="l")
    assert other.controls[0, 0] == pytest.approx(wrap(AT)[0])  # no position has its period


def test_a_control_that_is_cut_is_reported():
    with pytest.warns(UserWarning, match=r"column 'l': .*period=\{'x': 6.28319, 'l': 6.28319\}"):
        work(wrap(BEAD - 2), wrap(AT - 2), period=TURN)
    with pytest.warns(UserWarning, match=r"column 'l': .*period=\{'l': 6.28319\}"):
        work(BEAD - 2, wrap(AT - 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for jumps in (6 * (LATE > 2), 6 * (LATE % 1), 3 * np.sign(np.sin(LATE)), 50 * LATE % 7):
            columns = {"t": LATE, "x": wrap(BEAD), "l": jumps}
            names = {"time": "t", "positions": "x", "controls": "l"}
            from_columns(columns, **names, period=TURN)
            from_columns({**columns, "x": 0 * LATE + 1e-3 * np.cos(LATE)}, **names)


def test_a_turn_that_the_potential_tells():
    """A cut bead starts a turn away from a trap that is not: said at once; not where it is near, or nothing tells."""
    start, drive = Gaussian(0.0, 1.0), tjx.protocols.Piecewise(jnp.asarray(LATE), jnp.asarray(AT))
    read = lambda x: from_columns({"t": LATE, "x": wrap(x)}, time="t", positions="x", period=TURN)
    with pytest.warns(UserWarning, match=r"data.path.xs\[..., 0\] is an angle whose turn counts"):
        read(BEAD + 0.5).process(TRAP, start, protocol=drive)
    with pytest.warns(UserWarning, match="1 of 1 paths may start on the wrong one"):
        work(wrap(BEAD + 0.5), AT, period=TURN)
    wells = lambda x, lam: -5 * jnp.cos(x[0] - lam)
    tilted = lambda x, lam: wells(x, lam) - 3 * x[0]
    for system in (TRAP, *map(tjx.Overdamped, (wells, tilted))):
        x = BEAD if system is TRAP else BEAD + 0.5
        read(x).process(system, start, protocol=drive)
    with pytest.raises(ValueError, match=r"data.period must be numbers .* \(1, 1\)"):
        read(BEAD)._replace(period=jnp.ones(1)).process(TRAP, start, protocol=drive)


def test_a_turn_that_the_potential_tells_the_ledger():
    drive = tjx.protocols.Piecewise(jnp.asarray(LATE), jnp.asarray(AT))
    process = tjx.Process(TRAP, drive, Gaussian(0.0, 1.0))
    path = lambda x: tjx.Path(jnp.asarray(LATE), jnp.asarray(x)[..., None])
    far = path(wrap(np.stack([BEAD, BEAD + 0.5])))
    with pytest.warns(UserWarning, match="path.xs.* 1 of 2 paths may start on the wrong one"):
        tjx.account(process, far, period=TURN)
    right = tjx.account(process, path(BEAD)).work
    np.testing.assert_allclose(
        tjx.account(process, path(wrap(BEAD)), period=TURN).work, right, rtol=1e-4
    )
    jax.jit(lambda path: tjx.account(process, path, period=TURN).work)(far)  # not known: not said


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
