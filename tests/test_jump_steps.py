"""Jumps and spins in any units and of any size, steps that are too long, and ways that a path does not tell apart."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax.densities import Point, States
from thermojax.protocols import ramp
from thermojax.systems import same

X64 = jax.config.jax_enable_x64
KT = 4.11e-21
FORCE, STEP = 1.5, 8e-9


def said(run):
    """What is warned of in a run, without its cure."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in seen]


@pytest.mark.parametrize(
    ("start", "step", "rule"),
    [
        (9000.0, 1.0, "alternating"),
        (2.0**24 - 40, 1.0, "kernel"),
        (3000 * STEP, STEP, "alternating"),
    ],
)
def test_a_motor_far_out_or_small_works(start, step, rule):
    """W is the force times the way, per path, in copy numbers as in metres."""
    rates = lambda x, lam: jnp.exp(0.5 * lam * jnp.array([1.0, -1.0], x.dtype))
    motor = tjx.Jumps(
        rates,
        lambda x: jnp.stack([x + step, x - step]),
        work=lambda x, lam: lam * jnp.array([1.0, -1.0], x.dtype),
    )
    process = tjx.Process(motor, ramp(FORCE, FORCE, 2.0), Point(jnp.array([start])))
    run = tjx.ensemble(process, jnp.linspace(0.0, 2.0, 81), jax.random.key(0), 50, rule=rule)
    way = (run.path.xs[:, -1, 0] - run.path.xs[:, 0, 0]) / step
    assert run.path.ok.all()
    assert way.mean() > 1
    np.testing.assert_allclose(run.work, FORCE * np.round(way), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.heat, run.work, rtol=1e-5, atol=1e-5)


def test_the_way_on_and_the_stay_of_a_small_state():
    """One event, far below one in the units given: its probability and that of none add up to one."""
    system = tjx.Jumps(lambda x, lam: jnp.array([1.0]), lambda x: x[None] + 1e-14)
    kernel = tjx.systems.Once().kernel(system, jnp.array([0.0]), 0.0, jnp.asarray(0.5))
    chances = [np.exp(kernel.log_prob(jnp.array([at]))) for at in (0.0, 1e-14, 2 * 1e-14)]
    np.testing.assert_allclose(chances, [np.exp(-0.5), 1 - np.exp(-0.5), 0], rtol=1e-5)


def test_which_states_are_the_same():
    """In whole numbers exactly; in other units to rounding, of many coordinates, and of what is left at zero."""
    assert np.array_equal(
        same(jnp.arange(2.0**24 - 4, 2.0**24)[:, None], jnp.full((1, 1), 2.0**24 - 2)), [0, 0, 1, 0]
    )
    close = 0.1 * (1 + 100 * float(jnp.finfo(float).eps) * jnp.array([[0.0], [1.0], [0.4]]))
    assert not same(close[:2], close[2:]).any()  # it lies between the two
    for unit in (1.0, 0.1, STEP, 1e-20):
        states = unit * (jnp.arange(-20.0, 21.0)[:, None] + jnp.array([[0.0, 300.0]]))
        rest = states[20] + jnp.array([1.0, 2.0]) * unit * 3 * float(jnp.finfo(states.dtype).eps)
        assert np.array_equal(same(states, rest[None]), np.arange(41) == 20)
        assert not same(states, states[20][None] + 0.3 * unit).any()
        assert not same(states, states[:1] - unit).any()
        assert not same(states[0], states[1])
        left = states.at[20, 0].set(1e-17 * unit)  # of 0.1 - 0.1
        assert np.array_equal(same(left, states[20][None]), np.arange(41) == 20)
    broken = jnp.array([[0.5], [jnp.nan], [1.5], [0.5]])
    assert np.array_equal(same(broken, jnp.array([[0.5]])), [1, 0, 0, 1])


@pytest.mark.parametrize("unit", [1.0, 8e-9])
def test_levels_at_any_distance(unit):
    """The ledger does not know the unit of the states; the second law holds."""
    rates = lambda x, lam: jax.nn.sigmoid(lam * (2 * x / unit - 1))
    level = tjx.Jumps(rates, lambda x: (unit - x)[None], lambda x, lam: lam * x[0] / unit)
    states = jnp.array([[0.0], [unit]])
    ends = [States.boltzmann(level, lam, states) for lam in (0.0, 2.0)]
    process, ts = tjx.Process(level, ramp(0.0, 2.0, 2.0), *ends), jnp.linspace(0.0, 2.0, 21)
    found = tjx.evolve.master(process, ts, states)
    np.testing.assert_allclose(found.heat[-1], 0.28106, atol=3e-3)
    np.testing.assert_allclose(found.work[-1], 0.8045, atol=3e-3)


# ---- spins


@pytest.mark.parametrize("unit", [1.0, KT])
def test_spins_that_interact_are_refused_in_any_unit(unit):
    bonds = lambda x, lam: -lam * unit * jnp.sum(x[1:] * x[:-1]) - 0.2 * unit * jnp.sum(x)
    at_once = tjx.Spins(bonds, temperature=unit, order=np.zeros(4, int))
    process = tjx.Process(at_once, ramp(0.5, 2.0, 1.0), Point(jnp.ones(4)))
    ts = jnp.linspace(0.0, 1.0, 6)
    with pytest.raises(ValueError, match="local field of site .*visited at once"):
        tjx.ensemble(process, ts, jax.random.key(0), 20)
    one_by_one = tjx.Spins(bonds, temperature=unit)
    run = tjx.ensemble(process.replace(system=one_by_one), ts, jax.random.key(0), 20)
    assert run.path.ok.all()
    assert one_by_one.complaint(jnp.ones(4), jnp.asarray(0.7)) == ""


# ---- the step


LEVELS = tjx.Jumps(
    lambda x, lam: 20 * jax.nn.sigmoid(lam * (2 * x - 1)),
    lambda x: (1 - x)[None],
    lambda x, lam: lam * x[0],
)


@pytest.mark.parametrize(("n", "long"), [(5, True), (40, True), (200, False)])
def test_steps_in_which_several_jumps_are_due(n, long):
    """k dt = 4, 0.5 and 0.1; the kernel rule is exact as a chain, and nothing is said while tracing."""
    process = tjx.Process(LEVELS, ramp(0.0, 3.0, 1.0), Point(jnp.zeros(1)))
    ts = jnp.linspace(0.0, 1.0, n + 1)
    run = lambda key, rule="alternating": tjx.ensemble(process, ts, key, 20, rule=rule)
    words = said(lambda: run(jax.random.key(0)))
    assert len(words) == long
    if long:
        assert words[0].startswith(
            f"The step is too long for what it follows: it makes one jump at most, and h = {1 / n:.3g}"
        )
        assert "sum of its rates" in words[0]
        assert not said(lambda: run(jax.random.key(0), "kernel"))
        assert not said(lambda: jax.jit(run)(jax.random.key(0)))


def test_steps_too_long_for_one_of_many_drives():
    drives = jax.vmap(lambda a: ramp(0.0, a, 1.0))(jnp.array([1.0, 3.0]))
    process = tjx.Process(LEVELS, drives, Point(jnp.zeros(1)))
    words = said(lambda: tjx.ensemble(process, jnp.linspace(0.0, 1.0, 6), jax.random.key(0), 2))
    assert len(words) == 1
    assert words[0].startswith("The step is too long")


# ---- ways that a path does not tell apart


def two_ways(bath=None, unit=1.0):
    """Up and down by a driven way, and by one that is not; each is balanced."""
    sign = lambda x: jnp.where(x[0] < 0.5, 1.0, -1.0).astype(x.dtype)
    return tjx.Jumps(
        lambda x, lam: jnp.exp(sign(x) * jnp.array([0.75, 0.0], x.dtype)),
        lambda x: jnp.stack([1 - x, 1 - x]),
        work=lambda x, lam: sign(x) * unit * jnp.array([1.5, 0.0], x.dtype),
        temperature=unit if bath is None else jnp.array([unit, unit]),
        bath=bath,
    )


@pytest.mark.parametrize("unit", [1.0, KT])
def test_ways_that_are_not_told_apart(unit):
    """An eager call says which, and how to tell them; the master equation adds up event by event."""
    ts = jnp.linspace(0.0, 2.0, 21)
    states = jnp.array([[0.0], [1.0]])

    def process(system):
        return tjx.Process(system, ramp(0.0, 1.0, 2.0), States(states, jnp.array([0.5, 0.5])))

    with pytest.raises(ValueError, match=r"2 events lead back .* bath of their own \(bath="):
        tjx.ensemble(process(two_ways(unit=unit)), ts, jax.random.key(0), 20)
    told = process(two_ways((0, 1), unit))
    with pytest.raises(ValueError, match=r"events \[0, 1\] all lead from .* the state count"):
        tjx.ensemble(told, ts, jax.random.key(0), 20)
    heat = tjx.evolve.master(told, ts, states).heat[-1] / unit
    assert heat[0] > 0.1
