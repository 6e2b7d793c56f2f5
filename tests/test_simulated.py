"""Averages and gradients over simulated paths, against closed forms."""

import functools as ft

import chains
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import sigmas
from oracles import (
    DRAG,
    EVERYTHING,
    GYRATOR,
    HEAT,
    ROTATE,
    STIFFEN,
    central,
    drag_optimum_row,
    drag_ramp_row,
    drag_ramp_work,
    driven,
    everything_row,
    floats,
    grid,
    heated_jump_row,
    heated_row,
    heating,
    stiffening,
    stiffness_optimum_row,
    stiffness_ramp_row,
    two_baths,
    whirling,
)

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.evolve import moments
from thermojax.potentials import MovingTrap
from thermojax.protocols import Piecewise

pytestmark = pytest.mark.usefixtures("optimised")

# ---------------------------------------------------------------------------- simulated paths

STEPS = 32
SIZE = 640_000


@ft.cache
def run(make, *theta):
    """Simulated totals of a row, and the process: one compilation for all rows."""
    process = driven(make(**dict(theta)))
    ts = grid(dict(theta).get("t", 1.0), STEPS)
    trajectory = tjx.ensemble(process, ts, jax.random.key(3), SIZE)
    return process, trajectory, tjx.reduced_work(process, trajectory)


def paths_of(make, theta):
    return run(make, *theta.items())


@pytest.mark.parametrize(
    ("make", "theta", "want"),
    [
        pytest.param(drag_optimum_row, DRAG, 1.333333333, id="1"),
        pytest.param(drag_ramp_row, DRAG, 1.471517765, id="2"),
        pytest.param(stiffness_optimum_row, STIFFEN, 0.890571785, id="5"),
        pytest.param(stiffness_ramp_row, STIFFEN, 0.936041707, id="6"),
        pytest.param(everything_row, EVERYTHING, 1.722403576, id="9"),
    ],
)
def test_simulated_work(make, theta, want):
    _, trajectory, _ = paths_of(make, theta)
    sigmas.assert_within(trajectory.work, want)


def test_simulated_work_control():
    """A bias of two per cent is seen; so is the work of a solver of first order at these steps."""
    _, trajectory, _ = paths_of(stiffness_ramp_row, STIFFEN)
    sigmas.assert_sees(trajectory.work, 0.936041707)
    ramped = paths_of(drag_ramp_row, DRAG)[1].work
    sigmas.assert_biased(ramped, 1.333333333)


@pytest.mark.parametrize("make", [drag_optimum_row, drag_ramp_row])
def test_simulated_work_is_gaussian(make):
    """Rows 3 and 4: Var W = 2 T <W_diss>, and <e^{-W}> = 1 though <W> is far from 0."""
    _, trajectory, _ = paths_of(make, DRAG)
    want = {drag_optimum_row: 2.666666667, drag_ramp_row: 2.943035529}[make]
    deviation = (trajectory.work - jnp.mean(trajectory.work)) ** 2
    sigmas.assert_within(deviation, want)
    sigmas.assert_within(tjx.estimators.integral_fluctuation(trajectory.work), 1.0, absolute=0.045)
    estimate = tjx.estimators.jarzynski(trajectory.work)
    assert estimate.reliable
    sigmas.assert_within(estimate, 0.0, absolute=0.045)
    sigmas.assert_sees(deviation, want)


@pytest.mark.parametrize(
    ("make", "theta", "delta", "bias"),
    [
        pytest.param(stiffness_ramp_row, STIFFEN, 0.693147181, 0.02, id="7"),
        pytest.param(stiffness_optimum_row, STIFFEN, 0.693147181, 0.02, id="7-optimal"),
        pytest.param(heated_row, HEAT, -0.346573590, 0.02, id="8"),
        pytest.param(everything_row, EVERYTHING, 0.772449696, 0.02, id="9"),
        pytest.param(heated_jump_row, HEAT, -0.346573590, 0.03, id="27"),
    ],
)
def test_simulated_free_energy(make, theta, delta, bias):
    """Jarzynski with reduced work, temperature driven or not; and <e^{-W_diss}> = 1."""
    process, trajectory, reduced = paths_of(make, theta)
    estimate = tjx.estimators.jarzynski(reduced)
    assert estimate.reliable
    sigmas.assert_within(estimate, delta, bias=bias)
    sigmas.assert_within(tjx.estimators.integral_fluctuation(trajectory.entropy.total), 1.0)
    same = tjx.dissipated_work(process, trajectory) - (reduced - delta)
    assert np.abs(same).max() < 1e-8


def test_simulated_free_energy_control():
    """Two per cent are seen, and so is work that is not reduced by the temperature of its time."""
    _, trajectory, reduced = paths_of(everything_row, EVERYTHING)
    sigmas.assert_sees(tjx.estimators.jarzynski(reduced), 0.772449696)
    sigmas.assert_sees(tjx.estimators.integral_fluctuation(trajectory.entropy.total), 1.0)
    sigmas.assert_biased(tjx.estimators.jarzynski(trajectory.work / 1.5), 0.772449696)


@pytest.mark.parametrize(
    ("make", "theta", "part", "want", "bias"),
    [
        pytest.param(heated_row, HEAT, "reduced", -0.287955295, 0.02, id="8-reduced"),
        pytest.param(heated_row, HEAT, "heat", -0.283833821, 0.05, id="8-heat"),
        pytest.param(everything_row, EVERYTHING, "reduced", 2.033417826, 0.02, id="9-reduced"),
        pytest.param(everything_row, EVERYTHING, "heat", 1.807246601, 0.02, id="9-heat"),
        pytest.param(heated_jump_row, HEAT, "reduced", -0.25, 0.02, id="27-reduced"),
    ],
)
def test_simulated_heat_and_reduced_work(make, theta, part, want, bias):
    _, trajectory, reduced = paths_of(make, theta)
    sample = {"reduced": reduced, "heat": trajectory.heat}[part]
    sigmas.assert_within(sample, want, bias=bias)


@pytest.mark.parametrize(
    ("make", "theta", "want", "bias"),
    [
        pytest.param(heated_row, HEAT, 0.044922263, 0.1, id="8"),  # small beside its own spread
        pytest.param(everything_row, EVERYTHING, 1.134398934, 0.02, id="9"),
    ],
)
def test_simulated_entropy(make, theta, want, bias):
    """With the true density at the end as `final`, R is the total entropy production: its mean and <e^{-S}> = 1."""
    process, trajectory, _ = paths_of(make, theta)
    truth = moments(process, grid(1.0)).final
    process = tjx.Process(process.system, process.protocol, process.initial, truth)
    total = tjx.dissipated_work(process, trajectory)
    sigmas.assert_within(total, want, bias=bias)
    sigmas.assert_within(tjx.estimators.integral_fluctuation(total), 1.0)
    sigmas.assert_sees(total, want, bias=bias)


ROUGH = 25  # steps of the two-dimensional runs


def limit(process, t, part):
    """The scheme's exact means extrapolated to dt = 0: of first order where a force does work that is no gradient's."""
    coarse, fine, finest = (
        getattr(chains.means(process, grid(t, n)), part) for n in (100, 200, 400)
    )
    return (8 * finest - 6 * fine + coarse) / 3


def test_simulated_rotational_force():
    """Row 10. The work of a rotational force is of first order in dt, so paths are held against the scheme's own mean,
    and that, extrapolated, against the closed form."""
    process = whirling(ROTATE)
    assert limit(process, 1.0, "reduced") == pytest.approx(3.354159527, abs=2e-5)
    trajectory = tjx.ensemble(process, grid(1.0, ROUGH), jax.random.key(5), SIZE)
    reduced = tjx.reduced_work(process, trajectory)
    scheme = chains.means(process, grid(1.0, ROUGH))
    sigmas.assert_within(reduced, scheme.reduced)
    sigmas.assert_within(trajectory.work, scheme.work)
    sigmas.assert_sees(reduced, scheme.reduced)


def steady_whirl():
    process = whirling({"k0": 2.0, "k1": 0.0, "kappa": 1.5, "T0": 1.3, "T1": 0.0})
    spread = Gaussian(jnp.zeros(2), 1.3 / 2)
    return tjx.Process(process.system, process.protocol, spread, spread)


def test_simulated_rotational_gyrator():
    """Row 14, in the steady state, the same way."""
    process = steady_whirl()
    assert limit(process, 1.0, "medium") == pytest.approx(2.25, abs=2e-5)
    ts = grid(1.0, ROUGH)
    total = tjx.ensemble(process, ts, jax.random.key(6), SIZE).entropy.total
    sigmas.assert_within(total, produced(process, ts))
    sigmas.assert_biased(total, 2.25)  # 25 steps are too few for the closed form, and that is seen


def produced(process, ts):
    """<R> of Heun's chain: the stationary covariance of the chain is not quite that of the continuum."""
    scheme = chains.means(process, ts)
    moved = scheme.cov @ np.linalg.inv(process.initial.cov)
    return scheme.medium + 0.5 * (np.trace(moved) - len(moved))


def test_simulated_two_temperature_gyrator():
    """Row 13, in the steady state: what is produced, and what each bath receives; of first order, too."""
    process = two_baths(**floats(GYRATOR), t=1.0)
    assert limit(process, 1.0, "medium") == pytest.approx(0.213333333, abs=2e-5)
    hot_to_cold = 0.213333333 / (1 - 1 / 3)
    assert limit(process, 1.0, "heat") == pytest.approx([hot_to_cold, -hot_to_cold], abs=2e-5)

    ts = grid(1.0, ROUGH)
    scheme = chains.means(process, ts)
    trajectory = tjx.ensemble(process, ts, jax.random.key(7), SIZE)
    total = trajectory.entropy.total
    sigmas.assert_within(total, produced(process, ts), bias=0.04)
    sigmas.assert_sees(total, produced(process, ts), bias=0.04)
    sigmas.assert_biased(total, 0.213333333)
    for bath, heat in enumerate(scheme.heat):
        sigmas.assert_within(trajectory.heat[:, bath], heat, bias=0.12)


# ---------------------------------------------------------------------------- gradients through simulated paths

KEYS, BATCH = 32, 20_000


def averages(p, key, frozen=False):
    """<W> and <W_red> over a batch. `frozen` is the control: as if the start did not depend on the parameters."""
    process = driven(p)
    if frozen:
        arrays, rest = eqx.partition(process.initial, eqx.is_array)
        start = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        process = tjx.Process(process.system, process.protocol, start, process.final)
    trajectory = tjx.ensemble(process, grid(p["t"], STEPS), key, BATCH)
    reduced = tjx.reduced_work(process, trajectory)
    return jnp.stack([jnp.mean(trajectory.work), jnp.mean(reduced)])


@eqx.filter_jit
def slopes_of(p, key, frozen):
    return jax.jacrev(averages)(p, key, frozen)


def pathwise(make, theta, frozen=False):
    """Gradients of <W> and <W_red> by the row's own parameters, one per key: {name: {part: (KEYS,)}}."""
    theta = floats(theta)
    p, tangent = jax.linearize(lambda theta: make(**theta), theta)
    keys = jax.random.split(jax.random.key(11), KEYS)
    found = [slopes_of(p, key, frozen) for key in keys]
    found = jtu.tree_map(lambda *leaves: jnp.stack(leaves), *found)
    still = {name: jnp.zeros(()) for name in theta}
    out = {}
    for name in theta:
        moved = tangent(still | {name: jnp.ones(())})
        parts = jtu.tree_map(lambda j, m: jnp.tensordot(j, m, m.ndim), found, moved)
        total = sum(jtu.tree_leaves(parts))
        out[name] = {"work": total[:, 0], "reduced": total[:, 1]}
    return out


def test_gradient_of_the_dragged_trap():
    """By stiffness (the start's width changes with it), mobility, distance and duration; by temperature it is zero."""
    found = pathwise(drag_ramp_row, DRAG)
    want = jax.grad(lambda theta: drag_ramp_work(**theta))(DRAG)
    for name, bias in {"k": 0.02, "mu": 0.03, "l": 0.02, "t": 0.03}.items():
        sigmas.assert_within(found[name]["work"], want[name], bias=bias)
    sigmas.assert_within(found["T"]["work"], 0.0, absolute=0.03)


def test_gradient_of_the_stiffening_trap():
    """By the initial stiffness (through the Boltzmann start, the protocol and its end value), the final one, and T.

    The control drops the dependence of the initial density; what is left is far off.
    """
    want = {name: central(stiffening, STIFFEN, name)["work"] for name in STIFFEN}
    found = pathwise(stiffness_ramp_row, STIFFEN)
    for name, bias in {"k0": 0.02, "k1": 0.03, "T": 0.02, "mu": 0.05}.items():
        sigmas.assert_within(found[name]["work"], want[name], bias=bias)
    sigmas.assert_sees(found["k0"]["work"], want["k0"])
    wrong = pathwise(stiffness_ramp_row, STIFFEN, frozen=True)
    sigmas.assert_biased(wrong["k0"]["work"], want["k0"])
    sigmas.assert_biased(wrong["T"]["work"], want["T"])


def test_gradient_of_the_heated_trap():
    """Of the reduced work, by both temperatures: the noise and the start both depend on them."""
    want = {name: central(heating, HEAT, name)["reduced"] for name in HEAT}
    found = pathwise(heated_row, HEAT)
    for name, bias in {"T0": 0.02, "T1": 0.02}.items():
        sigmas.assert_within(found[name]["reduced"], want[name], bias=bias)
    wrong = pathwise(heated_row, HEAT, frozen=True)
    sigmas.assert_biased(wrong["T0"]["reduced"], want["T0"])


def dragged_through(values, ts, start, stop, k=1.0, mu=1.0):
    """<W> of a trap dragged along straight lines between knots, with end jumps: closed form, segment by segment."""
    w, work, at, mean = mu * k, 0.0, start, start
    for i in range(len(ts) - 1):
        work = work + 0.5 * k * (
            (mean - values[i]) ** 2 - (mean - at) ** 2
        )  # zero but at the first knot
        dt = ts[i + 1] - ts[i]
        speed = (values[i + 1] - values[i]) / dt
        lag, steady = mean - values[i], -speed / w
        decay = jnp.exp(-w * dt)
        work = work - k * speed * ((lag - steady) * (1 - decay) / w + steady * dt)
        at, mean = values[i + 1], values[i + 1] + (lag - steady) * decay + steady
    return work + 0.5 * k * ((mean - stop) ** 2 - (mean - at) ** 2)


def test_gradient_by_the_knots():
    """Of the ready-made loss, by every knot of a protocol with end jumps."""
    ts, values = jnp.array([0.0, 0.25, 0.6, 1.0]), jnp.array([0.8, 0.2, 1.5, 1.1])
    drive = Piecewise(ts, values, 0.0, 2.0)
    want = jax.grad(dragged_through)(values, ts, 0.0, 2.0)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), drive, Gaussian(0.0, 1.0))
    assert float(moments(process, ts).work[-1]) == pytest.approx(
        float(dragged_through(values, ts, 0.0, 2.0)), abs=1e-8
    )
    loss = tjx.optimal.mean_work(process, jnp.linspace(0.0, 1.0, 41), BATCH)
    slope = eqx.filter_jit(eqx.filter_grad(lambda drive, key: loss(drive, key)))
    found = [slope(drive, key).values for key in jax.random.split(jax.random.key(13), KEYS)]
    for i, exact in enumerate(want):
        sigmas.assert_within(jnp.stack(found)[:, i], exact, absolute=0.008)
