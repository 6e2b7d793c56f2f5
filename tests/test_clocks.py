"""Grids, clocks and steps: a run does not depend on when it starts, and one that is cut short or too coarse says so."""

import warnings

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import thermojax as tjx
from thermojax import optimal
from thermojax._stiff import rate
from thermojax.densities import Boltzmann, Gaussian
from thermojax.protocols import Function, Piecewise, Steps, ramp

KEY = jax.random.key(5)
TRAP = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
START = Gaussian(0.0, 1.0)
BEST = tjx.Process(TRAP, optimal.moving_trap(0.0, 5.0, 1.0).protocol, START)
STILL = tjx.Path(jnp.linspace(0.0, 1.0, 5), jnp.zeros((5, 1)))


def work(ts, process=BEST):
    return float(tjx.evolve.moments(process, jnp.asarray(ts)).work[-1])


def single(tree):
    return jax.tree_util.tree_map(
        lambda v: jnp.asarray(v, jnp.float32) if eqx.is_array(v) else v, tree
    )


@pytest.mark.parametrize("end", [1 - 1e-9, 1 + 1e-9, 1 - 1e-5])
def test_an_end_within_a_thousandth_of_a_step_is_the_end(end):
    """Sums of steps end some rounding early; the turn to `after` is part of the run all the same."""
    assert_allclose(work(np.linspace(0.0, end, 51)), 25 / 3, rtol=1e-4)


def test_a_grid_that_ends_elsewhere_is_warned_of():
    for ts, name in ((np.arange(0, 1, 0.02), "after"), (np.cumsum(np.full(50, 1 / 50)), "before")):
        with pytest.warns(UserWarning, match=f"part of the protocol is run.*`{name}`.*linspace"):
            assert work(ts) < 8
    with pytest.warns(UserWarning, match="ends at"):
        tjx.account(BEST, STILL._replace(ts=0.9 * STILL.ts))
    hold = tjx.Process(TRAP, Piecewise(jnp.array([0.0, 1.0]), jnp.ones(2)), START)
    assert_allclose(work(np.linspace(0, 0.5, 3), hold), 0, atol=1e-12)  # no turn remains: no word


def test_outside_the_span_is_marked_while_tracing():
    of = lambda t1: tjx.evolve.moments(tjx.Process(TRAP, ramp(0.0, 5.0, t1), START), GRID).work[-1]
    run = lambda t1: tjx.ensemble(tjx.Process(TRAP, ramp(0.0, 5.0, t1), START), GRID, KEY, 2)
    GRID = jnp.linspace(0.0, 1.2, 7)
    assert np.isnan(jax.jit(of)(1.0))
    assert np.isfinite(jax.jit(of)(1.2))
    got = jax.jit(run)(1.0)
    assert not got.path.ok.any()
    assert np.isnan(got.work).all()


def test_a_run_does_not_depend_on_the_clock():
    def run(t0, adjoint=None):
        process = tjx.Process(TRAP, ramp(0.0, 5.0, t0 + 1.0, t0=t0), START)
        ts = jnp.asarray(t0 + np.linspace(0, 1, 101), jnp.float32)
        process, ts = single((process, ts))
        got = tjx.ensemble(process, ts, KEY, 3, save="all", adjoint=adjoint)
        return process, got

    _, here = run(0.0)
    for adjoint in (None, dfx.DirectAdjoint()):
        process, later = run(3600.0, adjoint)
        assert later.path.ok.all()
        assert (jnp.diff(later.path.ts) > 0).all()
        assert_allclose(later.work, here.work, rtol=2e-2)  # steps of 0.01 are held to 2.4 %
        assert_allclose(tjx.account(process, later.path).work, later.work, rtol=1e-4)


LATE, SHORT = 3600.0, 3e-3  # in single precision: steps of twelve roundings


def late(n):
    return jnp.asarray(LATE + SHORT * np.arange(n + 1), jnp.float32)


def test_a_step_that_starts_late_comes_in_time():
    """Each step is asked for its middle: what rounding may move an edge by is well below half a step."""
    ts = late(20)
    drive = Steps(ts[::10], single(jnp.array([0.0, 1.0])))
    seen = jax.vmap(drive)(0.5 * (ts[1:] + ts[:-1]))
    assert int(jnp.argmax(seen > 0)) == 10


def test_a_grid_that_ends_a_step_early_is_told_of_late_clocks_too():
    ts = late(40)
    process = single(BEST.replace(protocol=ramp(0.0, 5.0, 1.0)))
    drive = Piecewise(ts[jnp.array([0, -1])], single(jnp.array([1.0, 4.0])))
    drive = eqx.tree_at(lambda d: d.after, drive, jnp.float32(5.0))
    with pytest.warns(UserWarning, match="ends at"):
        tjx.account(
            process.replace(protocol=drive), tjx.Path(ts[:-1], jnp.zeros((40, 1), jnp.float32))
        )


def test_moments_do_not_depend_on_the_clock():
    """Each interval is solved on a clock of its own: a late one has no digits for the solver's steps."""
    for t0 in (0.0, LATE):
        ts = jnp.asarray(t0 + np.linspace(0, 1, 11), jnp.float32)
        process = tjx.Process(TRAP, ramp(0.0, 5.0, t0 + 1.0, t0=t0), START)
        assert_allclose(work(ts, single(process)), 25 / np.e, rtol=1e-4)


def test_moments_see_steps_change_at_their_edges():
    """The solver asks for the ends of an interval, too: what lies there belongs to the next one."""
    ts = jnp.array([0.0, 0.5, 1.0])
    process = tjx.Process(TRAP, Steps(ts, jnp.array([0.0, 1.0])), START)
    assert_allclose(work(ts, process), 0.5, rtol=1e-9)


@pytest.mark.parametrize("t0", [0.0, 1e6])
def test_two_chains_share_a_span_on_any_clock(t0):
    there = tjx.Process(TRAP, ramp(0.0, 5.0, t0 + 1.0, t0=t0), START)
    back = there.replace(protocol=ramp(5.0, 0.0, t0 + 2.0, t0=t0))
    with pytest.raises(ValueError, match="share one span"):
        tjx.path_ratio(there, back, STILL._replace(ts=t0 + STILL.ts))


def test_the_work_on_a_grid_follows_the_duration():
    grid = tjx.evolve.Grid(-5.0, 6.0, 60)

    def paid(t1):
        process = tjx.Process(TRAP, ramp(0.0, 1.0, t1), START)
        return tjx.evolve.fokker_planck(process, t1 * jnp.linspace(0.0, 1.0, 11), grid).work[-1]

    assert_allclose(jax.grad(paid)(1.0), -0.10321, rtol=1e-4)


def test_a_long_grid_keeps_its_last_steps():
    """All steps of 170 000 are distinct in single precision, the last ones too."""
    n = 170_000
    ts = single(jnp.linspace(0.0, 1.0, n + 1))
    run = tjx.simulate(single(BEST), ts, KEY, rule="kernel", save=n // 2)
    assert run.path.ok
    assert_allclose(run.path.ts, [0.0, 0.5, 1.0], atol=1e-6)
    assert jnp.isfinite(run.work)


def test_every_k_th_state_has_its_time():
    ts = jnp.linspace(0.0, 1.0, 8)
    whole = tjx.simulate(BEST, ts, KEY).path
    for k, steps in ((3, [0, 3, 6, 7]), (7, [0, 7]), (9, [0, 7])):
        thin = tjx.simulate(BEST, ts, KEY, save=k).path
        assert_allclose(thin.ts, ts[jnp.array(steps)], atol=0)
        assert_allclose(thin.xs, whole.xs[jnp.array(steps)], atol=0)


@pytest.mark.parametrize("offset", [1.7e17, 2e16])
def test_a_clock_without_digits_is_refused(offset):
    """In float32 these are a Unix time stamp and steps of a tenth; the same is asked of float64 here."""
    ts = jnp.asarray(offset + np.linspace(0, 1, 11))
    lam = jnp.linspace(0.0, 5.0, 11)
    process = tjx.Process(TRAP, ramp(0.0, 5.0, 1.0), START)
    for make in (
        lambda: Piecewise(ts, lam),
        lambda: Steps(ts, lam[1:]),
        lambda: ramp(0.0, 5.0, ts[-1], t0=ts[0]),
        lambda: tjx.ensemble(process, ts, KEY, 2),
        lambda: tjx.account(process, tjx.Path(ts, jnp.zeros((11, 1)))),
    ):
        with pytest.raises(ValueError, match=r"t0 < t1|zero|increasing"):
            make()


def test_where_an_end_does_not_count_its_slope_does_not_either():
    """The square root's slope is infinite at its start, where `before` stands."""

    def drive(tau):
        return Function(lambda t: 5 * jnp.sqrt(t / tau), 1.0, before=jnp.array(0.0))

    ts = jnp.linspace(0.0, 1.0, 6)

    def run(tau):
        return tjx.ensemble(tjx.Process(TRAP, drive(tau), START), ts, KEY, 4).work.mean()

    def stored(tau):
        return tjx.account(
            tjx.Process(TRAP, drive(tau), START), tjx.Path(ts, jnp.ones((6, 1)))
        ).work

    for of in (run, stored):
        slope = (of(1.0 + 1e-5) - of(1.0 - 1e-5)) / 2e-5
        assert_allclose(jax.grad(of)(1.0), slope, rtol=1e-6)


def test_steps_too_long_for_the_trap_are_said():
    def run(stiffness, rule="alternating"):
        trap = tjx.Overdamped(lambda x, lam: 0.5 * stiffness * jnp.sum((x - lam) ** 2))
        process = tjx.Process(trap, ramp(0.0, 5.0, 1.0), Boltzmann(trap, 0.0))
        return tjx.ensemble(process, jnp.linspace(0.0, 1.0, 11), KEY, 8, rule=rule)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(4.0).path.ok.all()  # h r = 0.4
        assert run(19.0, "kernel").path.ok.all()
    with pytest.warns(RuntimeWarning, match=r"0\.8 relaxation times.*8 times as many steps"):
        assert run(8.0).path.ok.all()
    with pytest.warns(RuntimeWarning, match="unstable.*none of them is marked ok"):
        assert not run(21.0).path.ok.any()
    with pytest.warns(RuntimeWarning, match="work and heat are those of paths that run away"):
        assert run(21.0, "kernel").path.ok.all()  # its log-ratio is that of the steps taken


class Exact(tjx.AbstractStep):
    """The Ornstein-Uhlenbeck process of a trap of stiffness 30, exact at any length of the step."""

    def draw(self, key, shape, dtype):
        return (jax.random.normal(key, shape, dtype),)

    def __call__(self, system, x, lam, dt, draw):
        kept = jnp.exp(-30.0 * dt)
        return lam + kept * (x - lam) + jnp.sqrt((1 - kept**2) / 30.0) * draw[0]

    def log_ratio(self, system, x0, x1, lam, dt):
        raise ValueError("not asked for")


def test_a_step_of_ones_own_is_not_judged():
    trap = tjx.Overdamped(lambda x, lam: 15.0 * jnp.sum((x - lam) ** 2))
    process = tjx.Process(trap, ramp(0.0, 5.0, 1.0), Boltzmann(trap, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = tjx.ensemble(process, jnp.linspace(0.0, 1.0, 11), KEY, 8, solver=Exact())
    assert run.path.ok.all()  # h r = 3


def test_the_fastest_rate_of_a_matrix():
    stiff = jnp.array([[3.0, 1.0], [1.0, 20.0]])
    system = tjx.Overdamped(lambda x, lam: 0.5 * x @ stiff @ x)
    process = tjx.Process(system, ramp(0.0, 0.0, 1.0), Gaussian(jnp.zeros(2), 0.1))
    exact = np.linalg.eigvalsh(stiff)[-1]
    with pytest.warns(RuntimeWarning, match=f"is {0.04 * exact:.2g} relaxation times"):
        tjx.simulate(process, jnp.linspace(0.0, 1.0, 26), KEY)
    assert_allclose(rate(system, jnp.ones(2), 0.0), exact, rtol=1e-6)
    turning = tjx.Overdamped(None, lambda x, lam: 3.0 * jnp.stack([x[1], -x[0]]))
    assert_allclose(rate(turning, jnp.ones(2), 0.0), 3.0, rtol=1e-6)


def test_half_precision_is_refused():
    process = tjx.Process(
        tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2)),
        ramp(*jnp.asarray([0.0, 5.0, 1.0], jnp.bfloat16)),
        Gaussian(jnp.zeros(1, jnp.bfloat16), jnp.ones((), jnp.bfloat16)),
    )
    with pytest.raises(TypeError, match=r"bfloat16.*float32 or float64"):
        tjx.ensemble(process, jnp.linspace(0, 1, 5).astype(jnp.bfloat16), KEY, 2)


def test_beyond_an_evolution_there_is_no_density():
    evolution = tjx.evolve.moments(BEST, jnp.linspace(0.0, 1.0, 3))
    with pytest.raises(ValueError, match="must lie in"):
        evolution.at(3.0)
    assert np.isnan(jax.jit(lambda t: evolution.at(t).log_prob(jnp.zeros(1)))(3.0))
    assert np.isfinite(jax.jit(lambda t: evolution.at(t).log_prob(jnp.zeros(1)))(1.0))


def test_second_derivatives_of_moments():
    """A trap held at c for the whole time: <W> = c²(1 - e^-1) if it goes there and back at once."""

    def paid(c):
        drive = Piecewise(jnp.array([0.0, 1.0]), jnp.stack([c, c]), 0.0, 0.0)
        process = tjx.Process(TRAP, drive, START)
        ts, adjoint = jnp.array([0.0, 1.0]), dfx.DirectAdjoint()
        return tjx.evolve.moments(process, ts, adjoint=adjoint).work[-1]

    assert_allclose(jax.hessian(paid)(jnp.array(2.0)), 2 * (1 - np.exp(-1)), rtol=1e-6)


def test_a_slow_drive_is_beyond_single_precision():
    process = tjx.Process(TRAP, ramp(0.0, 5.0, 1e4), START)
    ts = jnp.linspace(0.0, 1e4, 5)
    assert_allclose(tjx.evolve.moments(process, ts).work[-1], 25e-4 * (1 - 1e-4), rtol=1e-4)
    with pytest.warns(RuntimeWarning, match="small differences of large terms"):
        tjx.evolve.moments(process, ts, rtol=1e-6)


# ---- the density of a path


def test_log_prob_of_a_path_is_that_of_a_gaussian():
    """Two Euler steps of a free particle are a Gaussian in two dimensions with the start's."""
    free = tjx.Overdamped(lambda x, lam: 0.0 * jnp.sum(x))
    process = tjx.Process(free, ramp(0.0, 0.0, 1.0), Gaussian(0.5, 2.0))
    xs = jnp.array([[0.3], [1.0], [-0.4]])
    covariance = 2.0 + 2 * jnp.minimum(*jnp.meshgrid(*2 * [jnp.array([0.0, 0.5, 1.0])]))
    exact = jax.scipy.stats.multivariate_normal.logpdf(xs[:, 0], 0.5 * jnp.ones(3), covariance)
    path = tjx.Path(jnp.array([0.0, 0.5, 1.0]), xs)
    assert_allclose(tjx.log_prob(process, path), exact, rtol=1e-12)
    both = tjx.Path(jnp.stack([path.ts] * 2), jnp.stack([xs, jnp.full_like(xs, jnp.nan)]))
    assert_allclose(tjx.log_prob(process, both), [exact, jnp.nan], rtol=1e-12)


def test_log_prob_has_its_maximum_at_the_stiffness_of_the_path():
    path = tjx.sample_path(
        BEST.replace(protocol=ramp(0.0, 0.0, 50.0)), tjx.euler, jnp.linspace(0.0, 50.0, 1001), KEY
    )
    x, dx, dt = path.xs[:-1, 0], jnp.diff(path.xs[:, 0]), 0.05
    exact = -jnp.sum(x * dx) / jnp.sum(x**2) / dt

    def likelihood(k):
        system = tjx.Overdamped(lambda x, lam: 0.5 * k * jnp.sum((x - lam) ** 2))
        return tjx.log_prob(tjx.Process(system, ramp(0.0, 0.0, 50.0), START), path)

    slope, bend = jax.value_and_grad(jax.grad(likelihood))(0.7)
    assert_allclose(0.7 - slope / bend, exact, rtol=1e-8)  # it is quadratic in k


def test_failed_paths_have_no_gradient_in_any_work():
    """A wall at lam that some paths have behind them; the others' slope in c is what finite differences give."""
    ts = jnp.linspace(0.0, 1.0, 5)
    xs = jnp.stack([jnp.full((5, 1), 2.0), jnp.full((5, 1), -1.0)])

    def priced(c, of):
        system = tjx.Overdamped(lambda x, lam: jnp.sum(-c * jnp.log(x - lam) + 0.5 * (x - 1) ** 2))
        process = tjx.Process(system, ramp(0.0, 0.5, 1.0), START, START)
        run = tjx.account(process, tjx.Path(jnp.stack([ts, ts]), xs))
        return jnp.nanmean(of(process, run))

    for of in (tjx.reduced_work, tjx.dissipated_work, lambda p, run: run.work):
        exact = (priced(1.0 + 1e-6, of) - priced(1.0 - 1e-6, of)) / 2e-6
        assert_allclose(jax.grad(priced)(1.0, of), exact, rtol=1e-6, atol=1e-8)


def test_the_kernel_ratio_keeps_its_digits_far_from_zero():
    """In float32 at x near 1000: as exact as the short form of the ratio, ½(F0 + F1)/T (dx - ½ dt (F0 - F1))."""
    rng = np.random.default_rng(0)
    xs = 1000 + np.cumsum(0.01 * rng.standard_normal(1001)).astype(np.float32)
    ts = jnp.linspace(0.0, 1.0, 1001, dtype=jnp.float32)
    trap = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    process = single(tjx.Process(trap, ramp(1000.0, 1000.0, 1.0), Gaussian(1000.0, 1.0)))
    path = tjx.Path(ts, jnp.asarray(xs[:, None], jnp.float32))
    x, dt = xs.astype(float), np.diff(np.asarray(ts, float))
    force, dx = 1000 - x, np.diff(x)
    exact = np.sum(0.5 * (force[1:] + force[:-1]) * (dx - 0.5 * dt * (force[:-1] - force[1:])))
    run = tjx.account(process, path, rule="kernel")
    assert_allclose(run.entropy.medium, exact, atol=2e-5)
    process = process.replace(final=process.initial)
    total = exact + 0.5 * (force[-1] ** 2 - force[0] ** 2)
    assert_allclose(tjx.path_ratio(process, tjx.reverse(process), path), total, atol=2e-4)


def test_a_search_reaches_the_ends():
    """It would put all of the work into the turn that the grid leaves out."""
    ts = jnp.arange(0, 1, 0.25)

    def plain(protocol, key):
        return tjx.evolve.moments(tjx.Process(TRAP, protocol, START), ts).work[-1]

    ready = optimal.mean_work(tjx.Process(TRAP, ramp(0.0, 5.0, 1.0), START), ts, 4)
    for loss in (plain, ready):
        with pytest.raises(ValueError, match=r"In a search.*ends at t = 0\.75.*linspace"):
            optimal.search(loss, ramp(0.0, 5.0, 1.0), KEY, steps=1, progress=False)
