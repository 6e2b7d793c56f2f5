"""How finely paths must be sampled: the exact bias of a dragged trap, and what is said of it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.measured import sampling

TRAP = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))


def factor(z):
    return 0.5 * z / np.tanh(0.5 * z)


def thinned(duration, z):
    """Mean and variance of the work that the ledger sees of a trap dragged at speed 1, sampled every z relaxation times,
    over the exact ones. The work is linear in the positions, whose covariance is that of equilibrium."""
    ts = np.arange(round(duration / z) + 1) * z
    lam = np.r_[0.0, 0.5 * (ts[1:] + ts[:-1]), ts[-1]]
    turns, middles = np.diff(lam), 0.5 * (lam[1:] + lam[:-1])
    mean = turns @ (middles - (ts - (1 - np.exp(-ts))))
    variance = turns @ np.exp(-abs(ts[:, None] - ts)) @ turns
    exact = duration - (1 - np.exp(-duration))
    return mean / exact, variance / (2 * exact)


@pytest.mark.parametrize(
    ("duration", "z", "work", "variance", "free"),
    [  # in percent, as docs/measured.md has them; the free energy in percent of the dissipated work
        (10, 0.1, -0.01, 0.07, -0.08),
        (10, 0.2, -0.04, 0.30, -0.33),
        (10, 0.5, -0.23, 1.84, -2.07),
        (10, 1.0, -0.91, 7.21, -8.12),
        (1, 0.1, -0.14, -0.06, -0.08),
        (1, 0.2, -0.57, -0.24, -0.33),
        (1, 0.5, -3.56, -1.56, -2.00),
        (1, 1.0, -14.09, -7.04, -7.04),
    ],
)
def test_thinned_works(duration, z, work, variance, free):
    w, v = thinned(duration, z)
    np.testing.assert_allclose(100 * (w - 1), work, atol=0.006)
    np.testing.assert_allclose(100 * (v - 1), variance, atol=0.006)
    np.testing.assert_allclose(100 * (w - v), free, atol=0.006)
    # what the docs say of it: the free energy falls by as much whatever the duration
    np.testing.assert_allclose(w - v, 1 - factor(z), rtol=0.15)


def test_the_ledger_has_these_works():
    """Of one mean path, and of paths that differ from it in one sample each."""
    ts = jnp.linspace(0.0, 10.0, 11)
    process = tjx.Process(TRAP, tjx.protocols.ramp(0.0, 10.0, 10.0), Gaussian(0.0, 1.0))
    mean = ts - (1 - jnp.exp(-ts))
    work = lambda x: tjx.account(process, tjx.Path(ts, x[:, None])).work
    slope = jax.grad(work)(mean)
    exact = 10 - (1 - np.exp(-10))
    covariance = jnp.asarray(np.exp(-abs(np.subtract.outer(ts, ts))))
    w, v = thinned(10, 1.0)
    np.testing.assert_allclose(work(mean) / exact, w, rtol=1e-5)
    np.testing.assert_allclose(slope @ covariance @ slope / (2 * exact), v, rtol=1e-5)


def drags(z, speed=1.0, paths=400, duration=12):
    """Exact samples of a dragged trap, every z relaxation times."""
    rng, ts = np.random.default_rng(3), np.arange(round(duration / z) + 1) * z
    x = np.empty((paths, len(ts)))
    x[:, 0] = rng.normal(size=paths)
    for i in range(1, len(ts)):
        x[:, i] = np.exp(-z) * x[:, i - 1] + np.sqrt(-np.expm1(-2 * z)) * rng.normal(size=paths)
    mean = speed * (ts - (1 - np.exp(-ts)))
    drive = tjx.protocols.ramp(0.0, speed * ts[-1], ts[-1])
    path = tjx.Path(jnp.asarray(ts), jnp.asarray(x + mean)[..., None])
    return tjx.Process(TRAP, drive, Gaussian(0.0, 1.0)), path


def test_said_of_coarse_samples():
    """At 1.2 relaxation times a sample the variance is 11.6 % too large; Jarzynski is off by half of that excess."""
    process, path = drags(1.2, 0.3)
    with pytest.warns(
        UserWarning, match=r"1.2 relaxation times apart.*12 % too large.*Jarzynski.*Sample every"
    ):
        found = sampling(process, path)
    np.testing.assert_allclose([found.interval, found.relaxation], [1.2, 1.0], rtol=1e-5)
    np.testing.assert_allclose([found.ratio, found.variance], [1.2, factor(1.2)], rtol=1e-5)
    w = tjx.account(process, path).work
    np.testing.assert_allclose(found.shift, -0.5 * w.var() * (1 - 1 / factor(1.2)), rtol=1e-5)
    assert not found.enough
    assert 0.85 < found.diffusion < 1.15  # sampled exactly: 1 within 0.013
    one = tjx.Path(path.ts, path.xs[0])
    with pytest.warns(UserWarning, match="too large. Sample every 0.25"):
        alone = sampling(process, one)
    assert jnp.isnan(alone.shift)
    assert not alone.enough


def test_said_of_fine_samples():
    process, path = drags(0.1, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sampling(process, path)
        assert found.enough
        assert sampling(process, tjx.Path(path.ts, path.xs[0])).enough
        traced = jax.jit(lambda path: sampling(process, path))(path)
    np.testing.assert_allclose(traced.shift, found.shift, rtol=1e-4)
    assert traced.enough


def test_a_mean_work_that_is_right_hides_a_wrong_free_energy():
    """A fast drag at half a relaxation time a sample: the shift exceeds the error of an estimate it would pass for."""
    process, path = drags(0.5, 2.0)
    with pytest.warns(UserWarning, match="Jarzynski estimate is off"):
        assert not sampling(process, path).enough


def test_a_mobility_that_is_not_the_paths():
    """The default mobility of 1 where it is 0.4, or time in ms: the steps do not fit."""
    process, path = drags(0.1, 0.3)
    with pytest.warns(
        UserWarning, match=r"mean square step .* 0\.\d+ times that expected.*mobility="
    ):
        found = sampling(process.replace(system=tjx.Overdamped(TRAP.potential, mobility=2.5)), path)
    assert not found.enough
    quick = path._replace(ts=path.ts / 1000)
    drive = tjx.protocols.ramp(0.0, 3.6, 0.012)
    with pytest.warns(UserWarning, match="times that expected"):
        sampling(process.replace(protocol=drive), quick)


def test_held_samples_do_not_count():
    process, path = drags(0.1, 0.3, paths=20)
    short = path._replace(xs=path.xs.at[::2, 60:].set(path.xs[::2, 60:61]))
    assert abs(sampling(process.replace(protocol=lambda t: 0.3 * t), short).diffusion - 1) < 0.25


def test_several_coordinates_and_shapes():
    """The fastest relaxation counts: 1/(mu k) of the stiffer axis."""
    stiff = jnp.array([1.0, 4.0])
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(stiff * x**2) + 0 * lam, mobility=0.5)
    process = tjx.Process(system, lambda t: 0 * t, Gaussian(jnp.zeros(2), 1.0))
    rng, h = np.random.default_rng(0), 0.05
    keep = np.exp(-0.5 * h * np.asarray(stiff))
    x = [rng.normal(size=(40, 2)) / np.sqrt(stiff)]
    for _ in range(60):
        x.append(keep * x[-1] + np.sqrt((1 - keep**2) / stiff) * rng.normal(size=(40, 2)))
    path = tjx.Path(jnp.arange(61.0) * h, jnp.asarray(np.stack(x, 1)))
    found = sampling(process, path)
    np.testing.assert_allclose([found.relaxation, found.interval], [0.5, h], rtol=1e-4)
    assert found.enough


def test_jumps_have_no_relaxation():
    process, path = drags(0.5, paths=2)
    with pytest.raises(TypeError):
        sampling(path, process)


def test_a_gap_is_seen_wherever_it_lies():
    """A relaxation time of 1 and frames every 0.05, but for twenty lost ones: no even spacing of looks meets that gap."""
    process, path = drags(0.05, 0.3, paths=20)
    kept = np.r_[0:103, 123 : path.ts.shape[0]]
    gap = tjx.Path(path.ts[kept], path.xs[:, kept])
    with pytest.warns(UserWarning, match="relaxation times apart"):
        found = sampling(process, gap)
    np.testing.assert_allclose([found.ratio, found.interval], 1.05, rtol=1e-4)
    assert not found.enough
    assert 0.8 < found.diffusion < 1.25
