"""The drawings hold the numbers they show: lines with their jumps, histograms of the right sign, weights, prices."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import thermojax as tjx
from thermojax import plots

P = tjx.protocols


@pytest.fixture
def axes():
    figure = plt.Figure()
    return figure.subplots()


def lines(axes):
    return {line.get_label(): np.asarray(line.get_data(), float) for line in axes.lines}


def test_protocol_holds_its_end_jumps(axes):
    drive = P.Piecewise(jnp.array([1.0, 3.0]), jnp.array([2.0, 4.0]), before=0.0, after=5.0)
    assert plots.protocol(axes, drive, margin=0.25, points=3, label="drive", color="C3") is axes
    t, lam = lines(axes)["drive"]
    np.testing.assert_allclose((t[0], t[-1]), (0.5, 3.5))
    np.testing.assert_array_equal(lam[:2], 0.0)
    np.testing.assert_array_equal(lam[-2:], 5.0)
    assert (t[1], t[2], lam[2]) == (1.0, 1.0, 2.0)  # up at t0, in no time
    assert (t[-2], t[-3], lam[-3]) == (3.0, 3.0, 4.0)
    np.testing.assert_allclose(lam[2:-2], 1 + t[2:-2], rtol=1e-6)
    assert axes.lines[0].get_color() == "C3"
    assert axes.get_xlabel() == "time $t$"


@pytest.mark.parametrize("backwards", [False, True])
def test_steps_are_upright(axes, backwards):
    drive = P.Steps(jnp.array([0.0, 0.3, 1.0]), jnp.array([1.0, 2.0]))
    plots.protocol(axes, P.Reversed(drive) if backwards else drive, points=4)
    t, lam = np.asarray(axes.lines[0].get_data(), float)
    (jump,) = np.flatnonzero(np.diff(lam))
    np.testing.assert_allclose(t[jump : jump + 2], 0.7 if backwards else 0.3, atol=1e-6)


def test_one_line_per_number_of_the_control(axes):
    drive = P.Joint({"k": P.ramp(1.0, 2.0, 1.0), "x": P.ramp(jnp.zeros(2), jnp.ones(2), 1.0)})
    plots.protocol(axes, drive, label="both")
    assert list(lines(axes)) == ["both k", "both x[0]", "both x[1]"]
    assert lines(axes)["both x[1]"][1][-1] == 1.0


@pytest.mark.parametrize(
    ("control", "last"), [("k", [2.0]), (lambda lam: lam["x"][1], [1.0]), ("x", [3.0, 1.0])]
)
def test_a_control_is_selected(axes, control, last):
    way = P.ramp(jnp.zeros(2), jnp.array([3.0, 1.0]), 1.0)
    plots.protocol(axes, P.Joint({"k": P.ramp(1.0, 2.0, 1.0), "x": way}), control=control)
    assert [line.get_ydata()[-1] for line in axes.lines] == last


def test_an_index_selects_a_component(axes):
    plots.protocol(axes, P.ramp(jnp.zeros(2), jnp.array([3.0, 1.0]), 1.0), control=1)
    assert [line.get_ydata()[-1] for line in axes.lines] == [1.0]


def test_works_and_estimate(axes):
    rng = np.random.default_rng(0)
    forward, reverse = rng.normal(1.5, 1.0, 5000), rng.normal(-0.5, 1.0, 5000)  # they cross at 1
    estimate = tjx.estimators.mean(jnp.asarray(forward - 0.5))
    plots.works(axes, forward, reverse, estimate, bins=40)
    fore, back = (
        patch.get_xy() for patch in axes.patches if isinstance(patch, matplotlib.patches.Polygon)
    )
    centre = [np.average(xy[:, 0], weights=xy[:, 1]) for xy in (fore, back)]
    np.testing.assert_allclose(centre, [1.5, 0.5], atol=0.1)  # minus the reverse works
    (mark,) = axes.lines
    assert mark.get_xdata()[0] == pytest.approx(float(estimate.value))
    assert plots.spell(estimate.value, estimate.stderr) in mark.get_label()


def test_forward_works_alone(axes):
    plots.works(axes, np.arange(10.0), color="C2")
    assert len(axes.patches) == 1
    assert not axes.lines


def test_weights_show_a_dominated_average(axes):
    w = jnp.array([0.0, -np.log(9.0), 0.0])  # 9 of 11
    plots.weights(axes, w)
    curve, ess = axes.lines
    np.testing.assert_allclose(curve.get_ydata(), [9 / 11, 10 / 11, 1], rtol=1e-6)
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 3])
    assert ess.get_xdata()[0] == pytest.approx(121 / 83, rel=1e-6)
    assert ess.get_xdata()[0] == pytest.approx(float(tjx.estimators.jarzynski(w).ess), rel=1e-6)


def test_history_ends_with_the_price(axes):
    def loss(protocol, key):
        return jnp.sum(protocol.values**2) + 0.1 * jax.random.normal(key)

    ramp = P.ramp(0.0, 1.0, 1.0, knots=3)
    found = tjx.optimal.search(loss, ramp, jax.random.key(0), steps=5, progress=False)
    plots.history(axes, found, label="descent")
    np.testing.assert_array_equal(lines(axes)["descent"][1], found.history.loss)
    x, y = axes.containers[0].lines[0].get_data()
    assert x[0] > 4
    assert y[0] == pytest.approx(float(found.price.value))
    ((low, high),) = axes.containers[0].lines[2][0].get_segments()
    assert high[1] - low[1] == pytest.approx(2 * float(found.price.stderr), rel=1e-5)


def test_names_given_before_are_kept(axes):
    axes.set(xlabel="mine")
    plots.weights(axes, np.arange(5.0))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mine", r"share of $\sum e^{-w}$")


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.89123, 0.00134, "0.8912 ± 0.0013"),
        (1234.5, 23.0, "1234 ± 23"),
        (8.33, 0.0, "8.33 ± 0"),
        (8.33333, 5e-7, "8.33333000e+00 ± 5.0e-07"),
        (4.11432e-21, 8e-25, "4.11432e-21 ± 8.0e-25"),
        (0.0, 3e-9, "0.0e+00 ± 3.0e-09"),
        (1.0, np.nan, "1 ± nan"),
    ],
)
def test_spell(value, stderr, text):
    assert plots.spell(value, stderr) == text


class NotAnEstimate(NamedTuple):
    value: float


RAMP = P.ramp({"k": 0.0}, {"k": 1.0}, 1.0)


@pytest.mark.parametrize(
    ("draw", "error", "words"),
    [
        (lambda _: plots.protocol([1], RAMP), TypeError, "plt.subplots"),
        (lambda a: plots.protocol(a, lambda t: t), TypeError, "protocols.Function"),
        (lambda a: plots.protocol(a, RAMP, control="m"), ValueError, "'m'"),
        (
            lambda a: plots.protocol(a, P.ramp(jnp.zeros(2), jnp.ones(2), 1.0), control=2),
            ValueError,
            "got 2 for",
        ),
        (
            lambda a: plots.protocol(a, jax.vmap(lambda b: P.ramp(0.0, b, 1.0))(jnp.ones(3))),
            ValueError,
            "draws one protocol",
        ),
        (lambda a: plots.protocol(a, RAMP, points=1), ValueError, "points"),
        (lambda a: plots.works(a, np.ones((3, 1))), ValueError, "forward must have shape"),
        (lambda a: plots.works(a, np.ones(3), [1.0, np.nan]), ValueError, "reverse must be finite"),
        (lambda a: plots.works(a, np.ones(3), None, NotAnEstimate(1.0)), TypeError, "Estimate"),
        (lambda a: plots.works(a, np.ones(3), bins=0), ValueError, "bins"),
        (lambda a: plots.weights(a, 1.0), ValueError, "w must have shape"),
        (lambda a: plots.history(a, RAMP), TypeError, "optimal.search"),
    ],
)
def test_bad_input(axes, draw, error, words):
    with pytest.raises(error, match=words):
        draw(axes)
    assert not axes.lines
    assert not axes.patches


def test_nothing_global_is_touched(axes):
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    plots.protocol(axes, RAMP)
    plots.works(axes, np.arange(5.0), np.arange(5.0))
    plots.weights(axes, np.arange(5.0))
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == figures


def test_matplotlib_is_an_extra():
    code = "import sys, thermojax, thermojax.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
