"""Estimators against closed forms on small arrays, far into the log domain, and against their own error bars.

Each statistical assertion has a false-alarm rate of at most `RATE`, and its negative control fails at that rate.
"""

import functools as ft
import pickle

import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from thermojax.estimators import (
    Estimate,
    _correlation,
    bar,
    crooks,
    energy_distance,
    integral_fluctuation,
    jarzynski,
    mean,
    second_cumulant,
    second_law_excess,
)

RATE = 1e-6
EXPONENTIAL = (jarzynski, integral_fluctuation)


def as_expected(estimate, **fields):
    for name, value in fields.items():
        np.testing.assert_allclose(getattr(estimate, name), value, rtol=1e-12, err_msg=name)


@pytest.mark.smoke
def test_by_hand():
    """u = e^-w = (1, 2, 3): mean 2, mean square 14/3, ess 36/14."""
    w = -jnp.log(jnp.array([1.0, 2.0, 3.0]))
    relative = np.sqrt((14 / 3 / 4 - 1) / 2)
    as_expected(jarzynski(w), value=-np.log(2), stderr=relative, ess=36 / 14, reliable=False)
    as_expected(integral_fluctuation(w), value=2.0, stderr=2 * relative, ess=36 / 14)
    as_expected(mean(jnp.array([1.0, 2.0, 6.0])), value=3.0, stderr=np.sqrt(7 / 3), ess=3.0)


def test_stderr_is_that_of_the_sample():
    """The standard error of <u> is s/sqrt(M) with the usual M - 1, and that of its logarithm is relative to it."""
    w = jnp.asarray(np.random.default_rng(0).normal(size=57))
    u = np.exp(-np.asarray(w))
    stderr = u.std(ddof=1) / np.sqrt(57)
    as_expected(
        integral_fluctuation(w), value=u.mean(), stderr=stderr, ess=u.sum() ** 2 / (u**2).sum()
    )
    as_expected(jarzynski(w), value=-np.log(u.mean()), stderr=stderr / u.mean())
    plain = mean(w)
    as_expected(plain, value=np.mean(w), stderr=np.std(w, ddof=1) / np.sqrt(57), ess=57)


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_log_domain(shift):
    """A constant in the work is a constant in the free energy, and nothing else."""
    w = jnp.asarray(np.random.default_rng(1).normal(size=300))
    here, there = jarzynski(w), jarzynski(w + shift)
    np.testing.assert_allclose(there.value - shift, here.value, rtol=1e-10)
    np.testing.assert_allclose(there.stderr, here.stderr, rtol=1e-10)
    np.testing.assert_allclose(there.ess, here.ess, rtol=1e-10)
    assert bool(there.reliable) == bool(here.reliable)


def test_equal_works():
    """Nothing to average: an exact value, no error, every path counted, and finite gradients."""
    w = jnp.full(200, 3.0)
    as_expected(jarzynski(w), value=3.0, stderr=0.0, ess=200.0, reliable=True)
    as_expected(mean(w), value=3.0, stderr=0.0)
    for estimator in (*EXPONENTIAL, mean):
        for field in ("value", "stderr"):
            slope = jax.grad(lambda w, e=estimator, f=field: getattr(e(w), f))(w)
            assert np.isfinite(slope).all()


# ---- whether the average can be trusted


def gaussian_works(size, spread, seed=0):
    """Gaussian work with Delta F = 0: mean spread²/2."""
    z = jax.random.normal(jax.random.key(seed), (size,))
    return spread**2 / 2 + spread * z


@pytest.mark.smoke
@pytest.mark.parametrize("estimator", EXPONENTIAL)
def test_reliable(estimator):
    assert estimator(gaussian_works(2000, 0.5)).reliable
    few = estimator(gaussian_works(150, 1.0))
    assert few.ess < 100
    assert not few.reliable
    assert not estimator(
        gaussian_works(2000, 5.0)
    ).reliable  # the average is ruled by what was not drawn
    one = jnp.zeros(2000).at[7].set(-8.0)  # one path carries e^8 of 2000 + e^8
    assert not estimator(one).reliable


def test_threshold():
    """ESS = 100 is enough, 99 is not; a share of a tenth of the weight cannot go with it."""
    assert jarzynski(jnp.zeros(100)).reliable
    assert not jarzynski(jnp.zeros(99)).reliable
    w = jnp.zeros(1000).at[0].set(-np.log(1.02 * 999 / 9))  # a share of 0.1017, the rest even
    assert not jarzynski(w).reliable


def test_mean_is_reliable_from_ten_on():
    assert mean(jnp.arange(10.0)).reliable
    assert not mean(jnp.arange(9.0)).reliable


# ---- error bars


def scores(size, spread, repeats, seed):
    """(value - exact) / stderr of repeated estimates of Delta F = 0."""
    z = jax.random.normal(jax.random.key(seed), (repeats, size))
    estimates = jax.jit(jax.vmap(jarzynski))(spread**2 / 2 + spread * z)
    return np.asarray(estimates.value), np.asarray(estimates.stderr)


def test_error_bars_are_calibrated():
    """500 repeats: z-scores have mean 0, variance 1, and their normal probabilities are uniform.

    At 2000 paths of spread 0.7 the estimator's own bias is 0.009 standard errors.
    """
    value, stderr = scores(2000, 0.7, 500, 5)
    z = value / stderr
    limit = stats.norm.isf(RATE / 2)
    assert abs(z.mean()) < limit / np.sqrt(500)
    low, high = stats.chi2(499).ppf([RATE / 2, 1 - RATE / 2]) / 499
    assert low < z.var(ddof=1) < high
    assert stats.kstest(stats.norm.cdf(z), "uniform").pvalue > RATE
    # negative controls: an error bar too small by 1.5, a value off by half an error bar
    assert not low < (1.5 * z).var(ddof=1) < high
    assert stats.kstest(stats.norm.cdf(2 * z), "uniform").pvalue < RATE
    assert abs((z + 0.5).mean()) > limit / np.sqrt(500)


def test_bias_is_half_the_squared_error():
    """50 paths of spread 1: <value> = stderr²/2 = (e - 1)/100 above the exact one, to leading order (next: -6 %)."""
    value, _ = scores(50, 1.0, 20000, 6)
    error = value.std() / np.sqrt(len(value))
    assert value.mean() > stats.norm.isf(RATE) * error  # it is there
    leading = (np.e - 1) / 100
    assert abs(value.mean() - leading) < 0.1 * leading + stats.norm.isf(RATE / 2) * error


# ---- transformations


@pytest.mark.parametrize("estimator", [*EXPONENTIAL, mean])
def test_jit_and_vmap(estimator):
    w = jnp.asarray(np.random.default_rng(2).normal(size=(3, 40)))
    rows = jax.jit(jax.vmap(estimator))(w)
    assert isinstance(rows, Estimate)
    for i in range(3):
        as_expected(estimator(w[i]), **{f: getattr(rows, f)[i] for f in Estimate._fields})


def test_gradients():
    """d(Delta F)/dw_i is the path's share of the weight, exactly; and the error bar's agrees with differences."""
    w = jnp.asarray(np.random.default_rng(3).normal(size=40)) + 700.0
    slope = jax.grad(lambda w: jarzynski(w).value)(w)
    np.testing.assert_allclose(slope, jax.nn.softmax(-w), rtol=1e-12)
    r = w - 700.0
    slope = jax.grad(lambda r: integral_fluctuation(r).value)(r)
    np.testing.assert_allclose(slope, -jnp.exp(-r) / 40, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda r: mean(r).value)(r), np.full(40, 1 / 40))
    way, h = jnp.cos(jnp.arange(40.0)), 1e-5
    for estimator in (*EXPONENTIAL, mean):
        bar = lambda r, e=estimator: e(r).stderr
        there = jax.jvp(bar, (r,), (way,))[1]
        differences = (bar(r + h * way) - bar(r - h * way)) / (2 * h)
        np.testing.assert_allclose(there, differences, rtol=1e-7)


@pytest.mark.parametrize("estimator", [*EXPONENTIAL, mean])
def test_single_precision(estimator):
    w = np.random.default_rng(4).normal(size=500)
    narrow = estimator(jnp.asarray(w, jnp.float32))
    wide = estimator(jnp.asarray(w))
    for field in ("value", "stderr", "ess"):
        assert getattr(narrow, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(narrow, field), getattr(wide, field), rtol=1e-5)


def test_single_precision_does_not_overflow():
    """e^200 is infinite in single precision; the free energy is -200."""
    as_expected(jarzynski(jnp.full(200, -200.0, jnp.float32)), value=-200.0, reliable=True)
    as_expected(jarzynski(jnp.full(200, 200.0, jnp.float32)), value=200.0, reliable=True)


# ---- realisations that failed, and those that did not


@pytest.mark.parametrize("estimator", [*EXPONENTIAL, mean])
def test_failed(estimator):
    """An error that counts them; under jit NaN, with an error that is NaN too; or the others alone."""
    fine = np.random.default_rng(5).normal(size=150) * 0.1
    w = jnp.asarray(np.insert(fine, [3, 70], np.nan))
    with pytest.raises(ValueError, match=r"2 of 152 entries .*first at index 3.*\"drop\""):
        estimator(w)
    unknown(jax.jit(estimator)(w))
    for compiled in (lambda f: f, jax.jit):
        dropped = compiled(lambda w: estimator(w, failed="drop"))(w)
        as_expected(dropped, **estimator(jnp.asarray(fine))._asdict())
    slope = jax.grad(lambda w: estimator(w, failed="drop").value)(w)
    assert np.isfinite(slope).all()
    assert not slope[jnp.array([3, 71])].any()


def unknown(estimate):
    """What is not known has no error bar."""
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.stderr)
    assert not estimate.reliable
    assert "nothing was averaged" in estimate.why


@pytest.mark.parametrize(
    ("estimator", "bad"), [(e, -np.inf) for e in (*EXPONENTIAL, mean)] + [(mean, np.inf)]
)
def test_infinite(estimator, bad):
    """It did not fail, so it is not dropped; and it cannot be averaged."""
    w = jnp.linspace(-0.1, 0.1, 150).at[7].set(bad)
    with pytest.raises(ValueError, match="1 of 150 entries of . are infinite.*at index 7"):
        estimator(w, failed="drop")
    for failed in ("raise", "drop"):
        unknown(jax.jit(lambda w, f=failed: estimator(w, failed=f))(w))


def test_the_error_of_weights_that_are_one_or_nothing():
    r"""Of 90 equal works and 10 infinite ones: $1/.9 - 1$ is the relative variance of a weight."""
    w = jnp.r_[jnp.zeros(90), jnp.full(10, jnp.inf)]
    np.testing.assert_allclose(jarzynski(w).stderr, np.sqrt((1 / 0.9 - 1) / 99), rtol=1e-12)


def test_paths_without_a_way_back_count():
    """Half of the paths end where no reversed run starts: R = +inf, of weight zero. <e^-R> = 1/2, not 1."""
    r = jnp.where(jnp.arange(400) % 2 == 0, jnp.inf, jnp.linspace(-0.2, 0.2, 400))
    half = 0.5 * jnp.mean(jnp.exp(-jnp.linspace(-0.2, 0.2, 400)[1::2]))
    for given in (r, jnp.concatenate([r, jnp.full(3, jnp.nan)])):
        shuffled = jax.random.permutation(jax.random.key(1), given)
        for compiled in (lambda f: f, jax.jit):
            found = compiled(lambda r: integral_fluctuation(r, failed="drop"))(shuffled)
            as_expected(found, value=half, reliable=True)
            np.testing.assert_allclose(found.stderr, 0.5 / np.sqrt(400), rtol=0.05)
    np.testing.assert_allclose(jarzynski(shuffled, failed="drop").value, -np.log(half), rtol=1e-12)
    assert jnp.all(jnp.isfinite(jax.grad(lambda r: integral_fluctuation(r).value)(r)))


@pytest.mark.parametrize("estimator", [*EXPONENTIAL, mean])
@pytest.mark.parametrize("left", [0, 1])
def test_hardly_any_left_under_jit(estimator, left):
    w = jnp.full(200, jnp.nan).at[:left].set(0.3)
    unknown(jax.jit(lambda w: estimator(w, failed="drop"))(w))


# ---- what an estimate says of itself


def test_why():
    """In words; a pytree that passes through transformations with its reasons, four fields to unpack."""
    few = jarzynski(jnp.zeros(20))
    assert "too few" in few.why
    assert "why=" in repr(few)
    assert jarzynski(jnp.zeros(200)).why == ""
    value, stderr, ess, reliable = few
    assert Estimate(value, stderr, ess, reliable)._fields == ("value", "stderr", "ess", "reliable")
    assert few._replace(value=1.0).why == few.why
    rows = jax.jit(jax.vmap(jarzynski))(jnp.zeros((2, 3, 20))[0])
    assert rows.why.shape == (3,)
    assert rows.why[2] == few.why
    again = jax.tree.map(lambda leaf: leaf, few)
    assert (type(again), again.why) == (Estimate, few.why)
    assert pickle.loads(pickle.dumps(few)).why == few.why


def correlated(rho, sets, size, key=0):
    """Gaussian chains of variance one and mean one half: Delta F = 0."""
    z = jax.random.normal(jax.random.key(key), (size, sets))
    step = lambda x, z: (rho * x + np.sqrt(1 - rho**2) * z,) * 2
    return 0.5 + jax.lax.scan(step, z[0], z)[1].T


@ft.partial(jax.jit, static_argnums=0)
def every(estimator, sets):
    return jax.vmap(estimator)(sets)


def each(estimator, sets):
    """The estimate of each of many sets, in one program for all sets of a shape."""
    with hurry.at_leisure():
        return every(estimator, sets)


@pytest.mark.parametrize("estimator", [jarzynski, mean])
def test_correlated(estimator):
    """Of 100 chains of 1000 with rho = 0.9 the mean error bar is the scatter within 30 %, which is known within 7 %."""
    found = each(estimator, correlated(0.9, 100, 1000))
    scatter, claimed = found.value.std(), np.sqrt(np.mean(found.stderr**2))
    assert 0.7 < claimed / scatter < 1.3
    assert not found.reliable.any()
    assert "neighbours" in found.why[0]
    assert found.ess.mean() < 100
    # control: in random order they are what they were
    mixed = jax.random.permutation(jax.random.key(3), correlated(0.9, 1, 1000)[0])
    assert "neighbours" not in estimator(mixed).why
    assert estimator(mixed).stderr < 0.5 * scatter


@pytest.mark.parametrize("n", [24, 25, 40, 101])
def test_autocorrelation(n):
    """The sums themselves, not wrapped around the end, at all lags that are looked at."""
    x = np.random.default_rng(n).normal(size=n)
    x -= x.mean()
    sums = [x[: n - lag] @ x[lag:] / (x @ x) for lag in range(n // 4 + 1)]
    np.testing.assert_allclose(_correlation._autocorrelation(jnp.asarray(x)), sums, atol=1e-14)


@pytest.mark.parametrize("estimator", [jarzynski, integral_fluctuation, mean])
def test_a_value_alone_is_not_judged(estimator):
    """What is resampled, or descended, pays for the average and not for the verdict. Control: the error bar does."""
    w = jnp.zeros(64)
    value, stderr = (
        jax.jit(lambda w, part=part: getattr(estimator(w), part)).lower(w).compile().as_text()
        for part in ("value", "stderr")
    )
    assert "fft" in stderr
    assert "fft" not in value


def test_false_alarms():
    """None in 1000 sets, where one in a million is allowed; ties and outliers are no correlation."""
    z = jax.random.normal(jax.random.key(0), (1000, 200))
    for x in (z, jnp.sign(z), jnp.where(z > 2, 1.0, 0.0), z / jnp.roll(z, 1, 0)):
        found = each(mean, x)
        assert not (found.doubts & 128).any()


def test_single_precision_far_from_zero():
    """Works around 1e7 in single precision: their digits are lost, and the estimate says so."""
    w = np.random.default_rng(8).normal(3.0, 1.0, 4000)
    for estimator in (jarzynski, mean):
        near = estimator(jnp.asarray(w, jnp.float32))
        far = estimator(jnp.asarray(w + 1e7, jnp.float32))
        assert not far.reliable
        assert "precision" in far.why
        assert abs(far.value - 1e7 - near.value) < 2 * far.stderr
        assert near.reliable or estimator is jarzynski
        wide = estimator(jnp.asarray(w + 1e7))  # in double precision nothing is lost
        np.testing.assert_allclose(wide.value - 1e7, near.value, rtol=1e-5)
        assert "precision" not in wide.why


# ---- reliable samples are right: a table


TABLE = [  # paths, spread, sets, least share that is called reliable
    (400, 0.5, 300, 0.99),
    (1000, 1.0, 300, 0.95),
    (2000, 2.0, 200, 0.0),
    (20_000, 3.0, 20, 0.0),
]


@pytest.mark.parametrize(("size", "spread", "sets", "least"), TABLE)
def test_reliable_samples_cover(size, spread, sets, least):
    """Gaussian works: intervals of two standard errors cover in 90 % where reliable, or hardly any is reliable.

    The standard error of a share of 0.94 is 0.014 of 300 sets.
    """
    z = jax.random.normal(jax.random.key(size), (sets, size), jnp.float32)
    found = each(jarzynski, spread**2 / 2 + spread * z)
    covers = np.abs(found.value) < 1.96 * found.stderr
    sure = np.asarray(found.reliable)
    assert sure.mean() >= least
    assert covers[sure].mean() > 0.9 if least else sure.mean() < 0.05
    if not least:  # control: many of them had an ess of 100, and did not cover
        fooled = np.asarray(found.ess > 100)
        assert fooled.any()
        assert covers[fooled].mean() < 0.9


@pytest.mark.parametrize(("shape", "scale"), [(4.0, 0.5), (4.0, 2.0), (1.0, 5.0)])
def test_reliable_gamma_works(shape, scale):
    """A long tail to high works is harmless, however wide: Delta F = shape ln(1 + scale)."""
    w = scale * jax.random.gamma(jax.random.key(5), shape, (100, 4000), jnp.float32)
    found = each(jarzynski, w)
    covers = np.abs(found.value - float(shape * np.log1p(scale))) < 1.96 * found.stderr
    assert found.reliable.mean() > 0.95
    assert covers.mean() > 0.85  # standard error 0.022
    if (
        shape > 1
    ):  # of one exponential, towards low works, half of the samples pass: that tail is hardly seen
        towards_low = each(jarzynski, -w[:20] / scale * 0.5)
        assert towards_low.reliable.mean() < 0.3  # <e^-2w> does not exist


def test_works_given_in_half_precision():
    """They are averaged in single precision, and their own rounding is in the error: half a unit of the last digit."""
    w = jnp.asarray(1000 + np.random.default_rng(0).normal(size=4000), jnp.float16)
    coarse, fine = jarzynski(w), jarzynski(w.astype(jnp.float32))
    assert "too large for their precision" in coarse.why
    assert "too large for their precision" not in fine.why
    assert coarse.stderr > 0.4 > 4 * fine.stderr  # 0.98 is the unit of half precision there


@pytest.mark.parametrize("scale", [1e-21, 1e-18, 1e20])
def test_any_unit(scale):
    """Joules, in single precision: the squares of their deviations are no numbers there, their errors are."""
    x = np.random.default_rng(0).normal(3.0, 1.0, (2, 2000)).astype(np.float32)
    one = np.float32(scale)
    small = jnp.asarray(x * one)
    for verb in (mean, lambda w: second_law_excess(w, np.float32(0.0))):
        found, known = verb(small[0]), verb(jnp.asarray(x[0]))
        assert found.reliable
        np.testing.assert_allclose(found.value / one, known.value, rtol=1e-5)
        np.testing.assert_allclose(found.stderr / one, known.stderr, rtol=1e-5)
        slope = jax.grad(lambda w, verb=verb: verb(w).stderr)
        np.testing.assert_allclose(slope(small[0]), slope(jnp.asarray(x[0])), rtol=1e-4, atol=1e-9)
    assert mean(jnp.full(20, one)).stderr == 0


@pytest.mark.parametrize("scale", [1e-21, 1e-18])
def test_small_works(scale):
    """Works that are nil to e^-w are Gaussian ones yet: mean and crossing are those of their numbers."""
    x = np.random.default_rng(0).normal(3.0, 1.0, (2, 2000)).astype(np.float32)
    one, (there, back) = np.float32(scale), x - np.float32(2.5)
    found = second_cumulant(jnp.asarray(there * one))
    np.testing.assert_allclose(found.stderr / one, there.std() / 2000**0.5, rtol=1e-3)
    found = crooks(jnp.asarray(there * one), jnp.asarray(back * one))
    known = crooks(jnp.asarray(there), jnp.asarray(back))
    np.testing.assert_allclose(found.value / one, known.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.stderr / one, known.stderr, rtol=1e-4)
    assert np.isfinite(jax.grad(lambda w: crooks(w, w).stderr)(jnp.zeros(200))).all()


def test_one_direction_weighs_nothing():
    """Infinite works alone say nothing of the free energy: an infinite error bar, for that reason."""
    found = bar(jnp.full(20, jnp.inf), jnp.r_[jnp.full(18, jnp.inf), jnp.ones(2)])
    assert np.isposinf(found.stderr)
    assert not found.reliable
    assert "too few" in found.why
    assert "NaN" not in found.why


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-7, 1e-12])
def test_works_that_hardly_differ(scale, dtype):
    """Value and error are those of the works, however near to 1 their weights are; or it is said that they can't be."""
    x = np.random.default_rng(0).normal(3.0, 1.0, (2, 1000)) * scale
    w, back = (v.astype(dtype) for v in (x[0], x[1] - 6 * scale))
    u, error = np.expm1(-w.astype(float)), w.astype(float).std() / 1000**0.5
    found = jarzynski(jnp.asarray(w))
    np.testing.assert_allclose(found.value, -np.log1p(u.mean()), rtol=1e-5)
    np.testing.assert_allclose(found.stderr, error, rtol=3e-3)
    assert found.reliable
    value, stderr, _, reliable = map(float, second_law_excess(jnp.asarray(w)))
    assert abs(value - w.astype(float).mean() - np.log1p(u.mean())) <= 2 * stderr
    assert reliable == (scale > 1100 * np.finfo(dtype).eps)
    value, stderr, _, reliable = map(float, integral_fluctuation(jnp.asarray(w)))
    assert stderr >= 0.99 * error
    assert abs(value - 1 - u.mean()) <= stderr
    assert reliable == (error > np.finfo(dtype).eps)
    value, stderr, _, reliable = map(float, bar(jnp.asarray(w), jnp.asarray(back)))
    assert abs(value - 0.5 * (w.astype(float).mean() - back.astype(float).mean())) <= stderr
    assert reliable == (stderr < 1.1 * error)


@pytest.mark.parametrize("scale", [1e-21, 1e20])
def test_energy_distance_in_any_unit(scale):
    x, y = np.random.default_rng(0).normal(size=(2, 400, 2)).astype(np.float32)
    one = np.float32(scale)
    known = energy_distance(jnp.asarray(x), jnp.asarray(y + 1))
    found = energy_distance(jnp.asarray(x * one), jnp.asarray((y + 1) * one))
    np.testing.assert_allclose(found / one, known, rtol=1e-4)


def test_rounded_works_are_doubted_whether_one_is_lost_or_not():
    """1e7 and .1 about it, in float32: its digits are ones."""
    w = np.float32(1e7 + 3.3 + 0.1 * np.random.default_rng(0).standard_normal(10_000))
    lost = np.append(w, np.float32(np.nan))
    for works, failed in ((w, "raise"), (lost, "drop")):
        found = second_law_excess(jnp.asarray(works), np.float32(1e7), failed=failed)
        assert not found.reliable
        assert found.stderr > 0.1
