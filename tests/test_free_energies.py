"""Free energies from one and from two directions: against pymbar, by their own error bars, and on works that cannot tell."""

import contextlib
import functools as ft
import subprocess
import sys

import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from scipy import stats

import thermojax as tjx
from thermojax import protocols
from thermojax.estimators import (
    Estimate,
    bar,
    bootstrap,
    crooks,
    integral_fluctuation,
    jarzynski,
    mean,
    second_cumulant,
    second_law_excess,
)

ONE, TWO = (jarzynski, second_cumulant, second_law_excess), (bar, crooks)


def works(key, n_forward, n_reverse, dissipation, delta=0.0):
    """Gaussian works of both directions as Crooks' theorem asks for: variance = twice the mean dissipation."""
    spread = jnp.sqrt(2 * dissipation)
    z = jax.random.normal(key, (n_forward + n_reverse,))
    return (
        delta + dissipation + spread * z[:n_forward],
        -delta + dissipation + spread * z[n_forward:],
    )


def sample(estimator, seed=0, n=(300, 200), dissipation=1.0):
    forward, reverse = works(jax.random.key(seed), *n, dissipation, 1.3)
    return (forward, reverse) if estimator in TWO else (forward,)


# ---- against pymbar, in a process of its own: it changes the precision of jax

CASES = {  # forward, reverse, dissipation, free energy
    "good": (2000, 2000, 0.5, 0.0),
    "unequal": (3000, 400, 1.2, 3.0),
    "unequal, the other way": (200, 5000, 1.2, -3.0),
    "poor overlap": (500, 800, 12.0, -10.0),
    "hardly any": (300, 100, 40.0, 1000.0),
}
PYMBAR = """
import sys
import numpy as np
from pymbar.other_estimators import bar, exp
works, out = dict(np.load(sys.argv[1])), {}
for name in sorted({name.split("|")[0] for name in works}):
    forward, reverse = works[name + "|f"], works[name + "|r"]
    both = bar(forward, reverse, relative_tolerance=1e-14, maximum_iterations=5000)
    out[name] = [both["Delta_f"], both["dDelta_f"], exp(forward)["Delta_f"]]
np.savez(sys.argv[2], **out)
"""


@pytest.fixture(scope="module")
def pymbar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pymbar")
    drawn = {}
    for i, (name, case) in enumerate(CASES.items()):
        drawn[f"{name}|f"], drawn[f"{name}|r"] = map(np.asarray, works(jax.random.key(i), *case))
    drawn["no overlap|f"], drawn["no overlap|r"] = (
        10 + np.random.default_rng(i).normal(size=400) for i in (1, 2)
    )
    np.savez(folder / "works.npz", **drawn)
    command = [sys.executable, "-W", "ignore", "-c", PYMBAR]
    command += [str(folder / "works.npz"), str(folder / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return drawn, dict(np.load(folder / "out.npz"))


@pytest.mark.parametrize("name", [*CASES, "no overlap"])
def test_pymbar(pymbar, name):
    drawn, theirs = pymbar
    forward, reverse = drawn[f"{name}|f"], drawn[f"{name}|r"]
    forward, reverse = jnp.asarray(forward), jnp.asarray(reverse)
    ours = bar(forward, reverse)
    np.testing.assert_allclose(ours.value, theirs[name][0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours.stderr, theirs[name][1], rtol=1e-8)
    np.testing.assert_allclose(jarzynski(forward).value, theirs[name][2], rtol=1e-8, atol=1e-8)


# ---- by hand


@pytest.mark.smoke
def test_bar_is_the_root():
    """Bennett's equation holds at the value, far from the origin too, and exchanging the directions changes the sign."""
    for shift in (0.0, -800.0, 1e5):
        forward, reverse = works(jax.random.key(1), 300, 500, 2.0, shift)
        found, m = bar(forward, reverse).value, np.log(300 / 500)
        left = jnp.sum(1 / (1 + jnp.exp(m + forward - found)))
        right = jnp.sum(1 / (1 + jnp.exp(-m + reverse + found)))
        np.testing.assert_allclose(left, right, rtol=1e-9)
        np.testing.assert_allclose(bar(reverse, forward).value, -found, rtol=1e-12, atol=1e-12)


def test_equal_works():
    """A reversible process: exact, without error."""
    for estimator in (bar, crooks):
        estimate = estimator(jnp.full(200, 3.0), jnp.full(300, -3.0))
        np.testing.assert_allclose(estimate.value, 3.0, atol=1e-12)
        np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-7)
    assert bar(jnp.full(200, 3.0), jnp.full(300, -3.0)).reliable


def test_crossing_by_hand():
    """Of N(2, 1) and N(-1, 4): p_F = p_R at the root between the means, to rounding."""
    rng = np.random.default_rng(0)
    forward, reverse = (
        jnp.asarray((z - z.mean()) / z.std(ddof=1) * spread + mean)
        for z, mean, spread in ((rng.normal(size=400), 2.0, 1.0), (rng.normal(size=900), 1.0, 2.0))
    )
    found = float(crooks(forward, reverse).value)
    assert -1 < found < 2
    there, back = stats.norm(2, 1).logpdf(found), stats.norm(-1, 2).logpdf(found)
    np.testing.assert_allclose(there, back, rtol=1e-10)
    even = float(crooks(forward, (reverse - 1.0) / 2 + 1.0).value)  # equal variances: the middle
    np.testing.assert_allclose(even, 0.5, atol=1e-7)


def test_second_cumulant_by_hand():
    w = jnp.asarray(np.random.default_rng(3).normal(size=150))
    found = second_cumulant(w)
    np.testing.assert_allclose(found.value, w.mean() - w.var(ddof=1) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.ess, 150)


def test_excess_by_hand():
    (w,) = sample(jarzynski)
    known, unknown = second_law_excess(w, 1.3), second_law_excess(w)
    np.testing.assert_allclose(known.value, w.mean() - 1.3, rtol=1e-12)
    np.testing.assert_allclose(unknown.value, w.mean() - jarzynski(w).value, rtol=1e-12)
    assert unknown.value >= 0
    assert not second_law_excess(jnp.zeros(99)).reliable


# ---- error bars


@ft.cache
def repeats(estimator, n_forward, n_reverse, dissipation, seed, count=500):
    """(value, stderr) of `count` repetitions, each with new works."""

    def one(key):
        drawn = works(key, n_forward, n_reverse, dissipation)
        return estimator(*(drawn if estimator in TWO else drawn[:1]))[:2]

    keys = jax.random.split(jax.random.key(seed), count)
    with hurry.at_leisure():
        return tuple(map(np.asarray, jax.jit(lambda keys: jax.lax.map(one, keys))(keys)))


@pytest.mark.parametrize(
    ("estimator", "exact", "case"),
    [
        (jarzynski, 0.0, (4000, 1, 0.25, 1)),
        (second_cumulant, 0.0, (3000, 1, 2.0, 2)),
        (second_law_excess, 0.25, (4000, 1, 0.25, 3)),
        (bar, 0.0, (1500, 1500, 2.0, 4)),
        (bar, 0.0, (3000, 500, 1.0, 5)),
        (crooks, 0.0, (1500, 500, 2.0, 6)),
    ],
)
def test_error_bars_are_calibrated(estimator, exact, case):
    """500 repeats: the normal probabilities of the z-scores are uniform (Kolmogorov–Smirnov), and their mean is zero.

    Controls: error bars too small by a factor of 2, and values off by half an error bar, are both seen.
    """
    value, stderr = repeats(estimator, *case)
    z = (value - exact) / stderr
    sigmas.assert_plausible(stats.kstest(stats.norm.cdf(z), "uniform").pvalue)
    sigmas.assert_within(z, 0.0, absolute=0.4)
    sigmas.assert_implausible(stats.kstest(stats.norm.cdf(2 * z), "uniform").pvalue)
    sigmas.assert_biased(z + 0.5, 0.0)


@pytest.mark.parametrize(("estimator", "sets"), [(bar, 25), (second_cumulant, 60)])
def test_bootstrap(estimator, sets):
    """The spread over resamplings is the error bar, on average over data sets, for one and two kinds of works.

    One of 50 resamplings has a relative standard error of 0.10, 25 of them 0.02.
    """

    def ratio(key):
        drawn = works(key, 200, 150, 1.0)
        drawn = drawn if estimator in TWO else drawn[:1]
        drawn_again = bootstrap(estimator, *drawn, key=key, draws=50)
        return drawn_again.stderr / estimator(*drawn).stderr

    keys = jax.random.split(jax.random.key(7), sets)
    ratios = jax.jit(lambda keys: jax.lax.map(ratio, keys))(keys)
    sigmas.assert_within(ratios, 1.0, absolute=0.25)
    sigmas.assert_biased(1.25 * ratios, 1.0)


def chain(key, size=2000, rho=0.8):
    """A Gaussian chain of variance one and mean zero."""
    z = jax.random.normal(key, (size,))
    step = lambda x, z: (rho * x + np.sqrt(1 - rho**2) * z,) * 2
    return jax.lax.scan(step, z[0], z)[1]


def test_bootstrap_of_blocks():
    """rho = 0.8: the error of the mean is 3 / sqrt(n). Single draws cannot know; blocks of 40 miss a twentieth of it."""
    x = chain(jax.random.key(2))
    exact = 3 / np.sqrt(x.shape[0])
    blocks = bootstrap(mean, x, key=jax.random.key(0), block=40)
    assert blocks.stderr == pytest.approx(
        exact, rel=0.35
    )  # 50 blocks, 200 draws: known within 11 %
    assert blocks.reliable
    single = bootstrap(mean, x, key=jax.random.key(0))
    assert np.std(single.draws) < 0.5 * exact
    assert single.stderr == pytest.approx(exact, rel=0.35)  # the estimator's own
    assert not single.reliable
    assert "block=" in single.why
    with pytest.raises(ValueError, match="block must be at most half of a sample"):
        bootstrap(mean, x, key=jax.random.key(0), block=1500)


def test_correlated_works_of_both_directions():
    """Of one direction is enough to be seen, and to count."""
    forward, reverse = works(jax.random.key(3), 2000, 2000, 1.0)
    slow = 1.0 + np.sqrt(2.0) * chain(jax.random.key(4), rho=0.9)
    for estimator in TWO:
        plain, found = estimator(forward, reverse), estimator(slow, reverse)
        assert plain.reliable
        assert not found.reliable
        assert "neighbours" in found.why
        assert found.stderr > 1.5 * plain.stderr


def test_works_that_cannot_be_reversed():
    """A forward work of +inf has no reverse: it counts in n_F, with no share."""
    forward, reverse = sample(bar)
    missing = jnp.concatenate([forward, jnp.full(300, jnp.inf)])
    missing = jax.random.permutation(jax.random.key(0), missing)
    found, m = bar(missing, reverse).value, np.log(600 / 200)
    left = jnp.sum(1 / (1 + jnp.exp(m + forward - found)))
    right = jnp.sum(1 / (1 + jnp.exp(-m + reverse + found)))
    np.testing.assert_allclose(left, right, rtol=1e-9)
    with pytest.raises(ValueError, match="300 of 600 entries of w_forward are not finite"):
        crooks(missing, reverse)


def test_bootstrap_returns_its_draws():
    drawn = sample(bar)
    found, plain = bootstrap(bar, *drawn, key=jax.random.key(0), draws=50), bar(*drawn)
    assert found.draws.shape == (50,)
    np.testing.assert_allclose(found.stderr, np.std(found.draws, ddof=1), rtol=1e-12)
    assert (found.value, found.ess, found.reliable) == (plain.value, plain.ess, plain.reliable)
    again = bootstrap(bar, *drawn, key=jax.random.key(0), draws=50)
    np.testing.assert_array_equal(found.draws, again.draws)
    low, high = np.percentile(found.draws, [0.1, 99.9])
    assert low < plain.value < high


# ---- whether it can be trusted: at least 95 % of repetitions on either side

BAD = {
    "too few paths for a dissipation of 8": (jarzynski, 10_000, 1, 8.0),
    "a hundred thousand are too few, too": (jarzynski, 100_000, 1, 8.0),
    "few paths": (jarzynski, 100, 1, 1.0),
    "poor overlap": (bar, 1000, 1000, 12.0),
    "little overlap, few paths": (bar, 200, 200, 8.0),
    "no overlap": (bar, 1000, 1000, 100.0),
    "one direction too small": (bar, 5000, 20, 2.0),
    "so far that no sample can show them Gaussian": (second_cumulant, 500, 1, 20.0),
    "no overlap, Gaussian": (crooks, 1000, 1000, 100.0),
}
GOOD = {
    "thousand paths": (jarzynski, 1000, 1, 0.5),
    "many paths": (jarzynski, 100_000, 1, 2.0),
    "both directions": (bar, 300, 300, 1.0),
    "both directions, far from equilibrium": (bar, 2000, 2000, 4.0),
    "unequal": (bar, 5000, 500, 1.0),
    "Gaussian, both directions": (crooks, 500, 500, 1.0),
    "sixty of each": (bar, 60, 60, 0.5),
    "Gaussian": (second_cumulant, 500, 1, 0.3),
}


@ft.partial(jax.jit, static_argnums=(0, 1, 2))
def verdicts(estimator, n_forward, n_reverse, dissipation, keys):
    def one(key):
        drawn = works(key, n_forward, n_reverse, dissipation)
        return estimator(*(drawn if estimator in TWO else drawn[:1])).reliable

    return jax.lax.map(one, keys)


def trusted(estimator, n_forward, n_reverse, dissipation):
    """The share of 200 repetitions, of 25 where each is large."""
    count = 200 if n_forward <= 10_000 else 25
    keys, long = jax.random.split(jax.random.key(11), count), n_forward + n_reverse > 3000
    with hurry.at_leisure() if long else contextlib.nullcontext():
        return float(np.mean(verdicts(estimator, n_forward, n_reverse, dissipation, keys)))


@pytest.mark.parametrize("name", BAD)
def test_unreliable(name):
    assert trusted(*BAD[name]) <= 0.05


@pytest.mark.parametrize("name", GOOD)
def test_reliable(name):
    assert trusted(*GOOD[name]) >= 0.95


def moved(beta):
    """A trap stiffened from 1 to 3 and moved from 0 to 5 in ten units of time, in a bath of its own on the way."""
    ends = jnp.array([0.0, 10.0])
    k = protocols.ramp(1.0, 3.0, 10.0)
    c = protocols.Piecewise(ends, jnp.array([5 / 12, 55 / 12]), 0.0, 5.0)
    bath = protocols.Steps(ends, 1 / beta[None], 1.0, 1.0)
    return protocols.Joint({"k": k, "c": c, "T": bath})


def test_infinite_second_moment():
    """Where the bath on the way is hot enough, <exp(-2w)> is infinite (from beta' = 1/2 down), and no sample's error bar is
    right: the tail of its largest weights tells, though the bulk of the works is narrower than at beta' = 1.
    """
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2),
        temperature=lambda lam: lam["T"],
    )
    start = tjx.densities.Gaussian(jnp.zeros(1), 1.0)
    ts = jnp.linspace(0.0, 10.0, 101)
    found = {}
    for beta in (0.1, 0.4, 0.7, 1.0):
        process = tjx.Process(system, moved(jnp.asarray(beta)), start)
        run = tjx.ensemble(process, ts, jax.random.key(0), 100_000)
        found[beta] = jarzynski(tjx.reduced_work(process, run))
    assert [bool(one.reliable) for one in found.values()] == [False, False, True, True]
    for beta in (0.1, 0.4):
        assert found[beta].ess > 100
        assert "rare low ones" in found[beta].why


def test_other_bad_works():
    """One dominant weight; works that violate the second law; works that are visibly not Gaussian."""
    fine, reverse = works(jax.random.key(0), 2000, 2000, 0.5)
    assert jarzynski(fine).reliable
    assert not jarzynski(fine.at[7].set(-9.0)).reliable
    assert bar(fine, reverse).reliable
    assert not bar(fine - 1.2, reverse).reliable
    skew = jax.random.gamma(jax.random.key(1), 2.0, (2000,))
    assert not second_cumulant(skew).reliable
    assert not crooks(skew, reverse).reliable
    heavy = fine * jnp.where(jnp.arange(2000) % 10 == 0, 6.0, 1.0)
    assert not second_cumulant(heavy - heavy.mean()).reliable


# ---- transformations


@pytest.mark.parametrize("estimator", [*ONE, *TWO])
def test_gradients(estimator):
    """Of value and error bar, in both modes, against central differences; BAR's is the implicit one."""
    drawn = sample(estimator)

    def moved(s, field):
        return getattr(estimator(*(w + s * jnp.sin(w + i) for i, w in enumerate(drawn))), field)

    for field in ("value", "stderr"):
        at = ft.partial(moved, field=field)
        forward, back = jax.jvp(at, (0.0,), (1.0,))[1], jax.grad(at)(0.0)
        np.testing.assert_allclose(forward, back, rtol=1e-10)
        np.testing.assert_allclose(back, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-6)


def test_bar_gradient_in_closed_form():
    r"""$\partial\Delta/\partial w^F_i = f_i(1-f_i)/\sum$ with the sum of $f(1-f)$ over both directions."""
    forward, reverse = sample(bar)
    delta, m = bar(forward, reverse).value, np.log(300 / 200)
    f, r = jax.nn.sigmoid(delta - m - forward), jax.nn.sigmoid(m - delta - reverse)
    total = jnp.sum(f * (1 - f)) + jnp.sum(r * (1 - r))
    by_forward, by_reverse = jax.grad(lambda *w: bar(*w).value, (0, 1))(forward, reverse)
    np.testing.assert_allclose(by_forward, f * (1 - f) / total, rtol=1e-8)
    np.testing.assert_allclose(by_reverse, -r * (1 - r) / total, rtol=1e-8)


@pytest.mark.parametrize("estimator", [*ONE, *TWO])
def test_jit_and_vmap(estimator):
    rows = [sample(estimator, seed) for seed in range(3)]
    stacked = [jnp.stack(column) for column in zip(*rows, strict=True)]
    together = jax.jit(jax.vmap(estimator))(*stacked)
    assert isinstance(together, Estimate)
    for i, row in enumerate(rows):
        for mine, alone in zip(together, estimator(*row), strict=True):
            np.testing.assert_allclose(mine[i], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", [*ONE, *TWO])
def test_single_precision(estimator):
    drawn = sample(estimator)
    narrow, wide = estimator(*(w.astype(jnp.float32) for w in drawn)), estimator(*drawn)
    for field in ("value", "stderr", "ess"):
        assert getattr(narrow, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(narrow, field), getattr(wide, field), rtol=1e-4)


@pytest.mark.parametrize("estimator", [second_cumulant, second_law_excess, *TWO])
def test_failed(estimator):
    """Counted and refused; NaN and not reliable under jit; or dropped, with no trace in value, error or gradient."""
    drawn = sample(estimator)
    with_failed = tuple(jnp.insert(w, jnp.array([3, 70]), jnp.nan) for w in drawn)
    with pytest.raises(ValueError, match=r"2 of 302 entries .*first at index 3"):
        estimator(*with_failed)
    silent = jax.jit(estimator)(*with_failed)
    assert np.isnan(silent.value)
    assert np.isnan(silent.stderr)
    assert not silent.reliable
    dropping = ft.partial(estimator, failed="drop")
    for compiled in (lambda f: f, jax.jit):
        for mine, alone in zip(compiled(dropping)(*with_failed), estimator(*drawn), strict=True):
            np.testing.assert_allclose(mine, alone, rtol=1e-9, atol=1e-11)
    slopes = jax.grad(lambda w: dropping(*w).value)(with_failed)
    for slope in slopes:
        assert np.isfinite(slope).all()
        assert not slope[jnp.array([3, 71])].any()


def test_a_bootstrap_of_the_fluctuation_theorem():
    """Any estimator will do."""
    r = jnp.linspace(-0.5, 1.0, 200)
    assert bootstrap(integral_fluctuation, r, key=jax.random.key(0)).stderr > 0
