"""Entropy production from recordings: exact numbers of linear systems, honest errors, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scripts
import sigmas
from scipy import stats

import thermojax as tjx
from thermojax.inference import entropy_production

BEADS = np.array([[-2.0, 1.0], [1.0, -2.0]])
HOT = np.diag([10.0, 1.0])
TEN = -np.eye(10) + 0.2 * np.random.default_rng(4222).standard_normal((10, 10))


def stationary(a, d):
    return scipy.linalg.solve_continuous_lyapunov(a, -2 * d)


def rate(a, d):
    """Of dx = A x dt + sqrt(2 D) dW."""
    return np.trace(a.T @ np.linalg.inv(d) @ a @ stationary(a, d)) + np.trace(a)


def pair(a, d, lag):
    """The entropy production of two states a lag apart: of two Gaussians, with blocks exchanged."""
    s = stationary(a, d)
    c = scipy.linalg.expm(a * lag) @ s
    there, back = np.block([[s, c.T], [c, s]]), np.block([[s, c], [c.T, s]])
    return 0.5 * (np.trace(np.linalg.solve(back, there)) - 2 * len(a))


def linear(a, d, dt, frames):
    """Recordings of a linear system, by its exact kernel."""
    s, e = stationary(a, d), scipy.linalg.expm(a * dt)
    roots = [np.linalg.cholesky(m) for m in (s, s - e @ s @ e.T)]
    e, first, root = (jnp.asarray(m) for m in (e, *roots))

    @jax.jit
    def record(key):
        z = jax.random.normal(key, (frames, len(a)), first.dtype)

        def step(x, z):
            x = jnp.sum(e * x[None], 1) + jnp.sum(root * z[None], 1)
            return x, x

        start = jnp.sum(first * z[:1], 1)
        _, xs = jax.lax.scan(step, start, z[1:])
        return jnp.concatenate([start[None], xs])

    return record


def many(record, count, seed=0):
    return [record(key) for key in jax.random.split(jax.random.key(seed), count)]


@pytest.fixture(scope="module")
def beads():
    return linear(BEADS, HOT, 0.1, 5001)


def test_the_exact_numbers():
    assert abs(rate(TEN, np.eye(10)) - 2.001447732) < 1e-9
    for lag, exact in ((0.01, 0.019826866), (0.1, 0.181784963), (0.5, 0.593518620)):
        assert abs(pair(TEN, np.eye(10), lag) - exact) < 1e-9
    assert abs(rate(BEADS, HOT) - 2.025) < 1e-12


# ---- the two functionals, on two pairs of states where everything is known


@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_functionals(p):
    from thermojax.inference._functionals import max_entropy, tur

    exact = (2 * p - 1) * np.log(p / (1 - p))
    weights, sign = jnp.array([p, 1 - p]), jnp.array([1.0, -1.0])
    affinity = np.log(p / (1 - p))
    assert abs(max_entropy(affinity * sign, weights) - exact) < 1e-12
    for size in np.linspace(-3, 3, 25):
        assert max_entropy(size * affinity * sign, weights) <= exact + 1e-12
        assert tur(size * affinity * sign, weights) <= exact
    best = 2 * (2 * p - 1)
    assert abs(tur(best * sign, weights) - 2 * (2 * p - 1) ** 2) < 1e-12
    # the control: with the variance in the place of the mean square it is no bound of a pair that is not short
    broken = 2 * (2 * p - 1) ** 2 / (1 - (2 * p - 1) ** 2)
    assert broken > exact


def test_influences():
    """They are the derivatives by the weights: numbers by differences."""
    from thermojax.inference._functionals import influence, max_entropy, tur

    h = jnp.asarray(np.random.default_rng(0).normal(size=7))
    w = jnp.array([1.0, 1, 0, 1, 1, 0, 1])
    for functional in (max_entropy, tur):
        moved = influence(functional, h, w)
        assert abs(float(moved.sum())) < 1e-12
        assert float(jnp.abs(moved[jnp.array([2, 5])]).max()) == 0
        step = 1e-6 * jnp.eye(7)[3]
        slope = (functional(h, w + step) - functional(h, w - step)) / 2e-6
        assert abs(float(slope) * 5 - float(moved[3])) < 1e-6


# ---- linear systems


def test_ten_coordinates():
    """100 features, half of 10^5 pairs: the bound is lower than the truth by what they cost, and `corrected` is not."""
    xs = jnp.stack(many(linear(TEN, np.eye(10), 0.1, 5001), 10))
    found = entropy_production(xs, 0.1)
    print(found)
    assert found.reliable
    assert found.significant
    assert found.rate < found.corrected < found.fitted / 0.1
    exact = pair(TEN, np.eye(10), 0.1)
    sigmas.assert_within((found.corrected * 0.1, found.per_lag_stderr), exact, bias=0.35)
    # 45 of them are currents; the others are changes of a function of the state, which hardly have a mean to be learnt
    gap, per_number = float(found.fitted - found.per_lag), 4 / 0.4e5
    assert 45 * per_number < gap < 100 * per_number


def test_two_beads(beads):
    """At the lag, and carried to short lags."""
    found = entropy_production(jnp.stack(many(beads, 20, seed=3)), 0.1, extrapolate=1)
    assert str(found).startswith("about")  # an estimate
    assert str(entropy_production(many(beads, 1, seed=3)[0], 0.1)).startswith("at least")
    exact = [pair(BEADS, HOT, 0.1 * k) for k in (1, 2)]
    middle = 0.5 * (found.per_lag + found.fitted)
    sigmas.assert_within((middle, found.per_lag_stderr), exact[0], bias=0.25)
    curve = 20 * exact[0] - 5 * exact[1]  # a straight line
    assert -0.025 < curve / 2.025 - 1 < -0.02
    assert abs((30 * exact[0] - 15 * exact[1] + pair(BEADS, HOT, 0.3) / 0.3) / 2.025 - 1) < 0.006
    sigmas.assert_within((found.corrected, found.stderr), curve, bias=0.3)
    sigmas.assert_biased((10 * middle, 10 * found.per_lag_stderr), curve)


def test_extrapolation(beads):
    """A straight line and a parabola through the rates at one, two and three lags, where they meet lag zero."""
    x = many(beads, 1, seed=3)[0]
    one, two, three = (entropy_production(x, 0.1, lag=k).rate for k in (1, 2, 3))
    line, parabola = (entropy_production(x, 0.1, extrapolate=k).rate for k in (1, 2))
    np.testing.assert_allclose(line, 2 * one - two, rtol=1e-8)
    np.testing.assert_allclose(parabola, 3 * one - 3 * two + three, rtol=1e-8)


@pytest.mark.parametrize("method", ["max_entropy", "tur"])
def test_equilibrium_is_not_called_driven(method):
    """In fewer than the 2.5 % that are declared; and what was learnt by heart would be, every time."""
    record = linear(BEADS, np.eye(2), 0.1, 5001)
    found = [entropy_production(x, 0.1, method=method) for x in many(record, 80)]
    called = sum(bool(f.significant) for f in found)
    sigmas.assert_plausible(stats.binomtest(called, 80, 0.025, alternative="greater").pvalue)
    assert np.mean([f.rate for f in found]) < 0
    sigmas.assert_biased(np.array([float(f.fitted) for f in found]), 0.0)
    sigmas.assert_within(np.array([float(f.corrected) for f in found]), 0.0, absolute=0.015)


def test_errors_are_calibrated(beads):
    """The standard error is the scatter of the bound."""
    found = [entropy_production(x, 0.1) for x in many(beads, 100, seed=1)]
    rates = np.array([float(f.rate) for f in found])
    errors = np.array([float(f.stderr) for f in found])
    inside = (np.abs(rates - rates.mean()) < 1.96 * errors).sum()
    print(inside, rates.std(ddof=1), errors.mean())
    sigmas.assert_plausible(stats.binomtest(int(inside), 100, 0.95).pvalue)
    # errors of half the size would be noticed
    inside = (np.abs(rates - rates.mean()) < 0.98 * errors).sum()
    sigmas.assert_implausible(stats.binomtest(int(inside), 100, 0.95).pvalue)
    # and the mean lies below the truth by the cost of learning
    below = pair(BEADS, HOT, 0.1) - 2 * 4 / 4000
    sigmas.assert_within(rates * 0.1, below, bias=0.2)


# ---- angles


def test_flat_ring():
    """Drift 2, diffusion 1/2: the entropy of every pair is 8 per time, and the angle may be cut."""
    rng = np.random.default_rng(0)
    steps = 0.1 * 2 + np.sqrt(0.1) * rng.standard_normal((4, 5000))
    turns = np.cumsum(steps, 1)[..., None]
    whole = entropy_production(turns, 0.1, period=2 * np.pi)
    cut = entropy_production(np.mod(turns, 2 * np.pi), 0.1, period=2 * np.pi)
    np.testing.assert_allclose(float(whole.rate), float(cut.rate), rtol=1e-6)
    sigmas.assert_within((whole.corrected, whole.stderr), 8.0, bias=0.3)
    assert whole.reliable
    with pytest.raises(ValueError, match="one coordinate"):
        entropy_production(turns, 0.1)
    # two frames that follow from each other almost surely, one way round
    sure = np.cumsum(0.5 + 0.1 * rng.standard_normal((4, 5000)), 1)[..., None]
    assert "rule the average" in entropy_production(sure, 0.1, period=2 * np.pi).why


# ---- networks and scores


def test_network(beads):
    """A network finds most of what the products find."""
    x = beads(jax.random.key(5))
    found = entropy_production(
        x, 0.1, method="neep", key=jax.random.key(1), steps=200, batch=256, folds=4
    )
    print(found)
    best = entropy_production(x, 0.1)
    assert found.significant
    assert float(abs(found.per_lag - best.per_lag)) < 2 * float(best.per_lag_stderr)


def test_score():
    """Of a linear system, at a short lag: a Gaussian's score with the exact drift."""
    xs = jnp.stack(many(linear(BEADS, HOT, 0.02, 20001), 4, seed=6))
    exact, drift = pair(BEADS, HOT, 0.02), jnp.asarray(BEADS)
    found = entropy_production(
        xs, 0.02, method="score", drift=lambda x: jnp.sum(drift * x[None], 1)
    )
    print(found)
    sigmas.assert_within((found.corrected * 0.02, found.per_lag_stderr), exact, bias=0.55)


# ---- what comes in


def test_what_is_taken(beads):
    """The same numbers from an array, a path, measured paths, a list, pairs; and of unequal lengths."""
    x = beads(jax.random.key(0))
    ts = jnp.linspace(0.0, 500.0, 5001)
    want = entropy_production(x, 0.1)
    path = tjx.Path(ts, x)
    measured = tjx.measured.Measured(tjx.Path(ts, x[None]), lengths=jnp.array([5001]))
    for given, dt in ((path, None), (measured, None), ([x], 0.1), ([path], None), (x[None], 0.1)):
        got = entropy_production(given, dt)
        np.testing.assert_allclose(float(got.rate), float(want.rate), rtol=1e-5)
        np.testing.assert_allclose(float(got.stderr), float(want.stderr), rtol=1e-5)
    cut = entropy_production([x, x[:3001]], 0.1)
    held = jnp.stack([x, x.at[3001:].set(x[3000])])
    short = tjx.measured.Measured(tjx.Path(ts, held), lengths=jnp.array([5001, 3001]))
    np.testing.assert_allclose(float(entropy_production(short).rate), float(cut.rate), rtol=1e-5)
    pairs = entropy_production(jnp.stack([x[:-1], x[1:]], 1), 0.1)
    np.testing.assert_allclose(float(pairs.rate), float(want.rate), rtol=1e-5)


def test_invariances(beads):
    """Other units and axes change nothing, nor does playing the recording backwards."""
    x = beads(jax.random.key(7))
    want = entropy_production(x, 0.1)
    other = entropy_production(x @ jnp.array([[1.0, 300.0], [0.2, -0.5]]) + 100.0, 0.1)
    back = entropy_production(x[::-1], 0.1)
    for got in (other, back):
        np.testing.assert_allclose(float(got.rate), float(want.rate), rtol=1e-4)
        np.testing.assert_allclose(float(got.stderr), float(want.stderr), rtol=1e-4)
    slow = entropy_production(x, 0.2)
    np.testing.assert_allclose(2 * float(slow.rate), float(want.rate), rtol=1e-9)


def test_transformed(beads):
    """Under jit, vmap and grad; a frame that is lost there spoils its own recording."""
    xs = jnp.stack(many(beads, 2))
    want = entropy_production(xs[0], 0.1)
    spoilt = xs.at[1, 7, 1].set(jnp.nan)
    batch = eqx.filter_jit(jax.vmap(lambda x: entropy_production(x, 0.1)))(spoilt)
    np.testing.assert_allclose(float(batch.rate[0]), float(want.rate), rtol=1e-5)
    assert np.isnan(batch.rate[1])
    assert batch.reliable.tolist() == [True, False]
    assert not batch.significant[1]

    def value(scale):
        return entropy_production(xs[0] + scale * xs[0] ** 2, 0.1).rate

    slope, h = jax.grad(value)(0.01), 1e-4
    np.testing.assert_allclose(
        float(slope), float(value(0.01 + h) - value(0.01 - h)) / (2 * h), rtol=1e-3
    )


# ---- what is not to be trusted


def test_slow():
    slow = linear(0.002 * BEADS, 0.002 * HOT, 0.1, 5001)(jax.random.key(0))
    found = entropy_production(slow, 0.1)
    assert not found.reliable
    assert "memory" in found.why or "steady" in found.why


def test_few():
    def features(a, b):
        return (b - a)[:1] * jnp.sin(jnp.arange(1.0, 31.0) * (a[1] + b[1]))

    x = np.random.default_rng(4).standard_normal((251, 2))
    found = entropy_production(x, 0.1, features=features)
    assert "too few independent frames" in found.why
    assert "too few" in str(found)
    assert not found.significant


def test_drift(beads):
    """Relaxation is not driving."""
    rng = np.random.default_rng(2)
    start = 5 + rng.standard_normal((500, 2))
    xs = [start]
    for _ in range(5):
        xs.append(0.9 * xs[-1] + 0.3 * rng.standard_normal((500, 2)))
    found = entropy_production(np.stack(xs, 1), 0.1)
    assert "steady state" in found.why
    assert not entropy_production(beads(jax.random.key(0)), 0.1).why


def test_a_correlation_that_relaxes_is_no_steady_state():
    """Each coordinate is at rest, and the two together are not; in any axes."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2000, 2))
    for mixed, steady in (([[1.0, 0.9], [0.9, 1.0]], False), (np.eye(2), True)):
        xs = [start @ np.linalg.cholesky(np.array(mixed)).T]
        for _ in range(19):
            xs.append(
                np.exp(-0.05) * xs[-1] + np.sqrt(1 - np.exp(-0.1)) * rng.normal(size=(2000, 2))
            )
        x = np.stack(xs, 1)
        for turned in (x, x @ np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)):
            why = entropy_production(turned, 0.05).why
            assert ("steady state" in why) != steady, why


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"xs": np.ones((100, 2))}, ValueError, "needed|takes at least"),
        ({"xs": np.zeros((2, 500))}, ValueError, "Transpose"),
        ({"xs": np.zeros(500)}, ValueError, r"x\[..., None\]"),
        ({"xs": []}, ValueError, "empty"),
        ({"xs": "nan"}, ValueError, "Cut the recording there.*list"),
        ({"xs": "still"}, ValueError, r"\[\.\.\., \[1\]\] never change"),
        ({"xs": "one"}, ValueError, "one coordinate.*backwards"),
        ({"xs": "uneven"}, ValueError, "one time apart"),
        ({"xs": "complex"}, TypeError, "real"),
        ({"dt": None}, TypeError, "dt must be the time"),
        ({"dt": 0.0}, ValueError, "greater than zero"),
        ({"dt": -1.0}, ValueError, "greater than zero"),
        ({"lag": 0}, ValueError, "lag must be"),
        ({"lag": 600}, ValueError, "shorter than a recording"),
        ({"lag": 200, "extrapolate": 2}, ValueError, "extrapolate=2"),
        ({"folds": 3}, ValueError, "folds.*4"),
        ({"method": "maxent"}, ValueError, "max_entropy, tur, neep, score"),
        ({"extrapolate": 3}, ValueError, "0, 1 or 2"),
        ({"features": lambda a, b: a * b}, ValueError, "no part of them is odd"),
        ({"features": lambda a, b: (b - a) / 0.0}, ValueError, "not finite"),
        ({"features": lambda a: a}, TypeError, "features must be a callable"),
        ({"features": lambda a, b: b - a, "method": "neep"}, ValueError, "features is not for"),
        ({"method": "neep"}, TypeError, "key must be a typed random key"),
        ({"method": "score", "score": lambda x: x[:1]}, ValueError, "score must return"),
        ({"period": [1.0]}, ValueError, "one for each of 2"),
        ({"period": -1.0}, ValueError, "greater than zero"),
    ],
    ids=lambda given: str(given) if isinstance(given, str) else None,  # the words: no addresses
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_refused(change, error, words):
    rng = np.random.default_rng(0)
    given = {"xs": rng.standard_normal((500, 2)), "dt": 0.1} | change
    x = rng.standard_normal((500, 2))
    lost, still = x.copy(), x.copy()
    lost[7], still[:, 1] = np.nan, 2.0
    ts = np.cumsum(np.where(np.arange(500) == 99, 3.0, 1.0))
    uneven = tjx.Path(jnp.asarray(ts), jnp.asarray(x))
    named = {"nan": lost, "still": still, "one": x[:, :1], "complex": 1j * x, "uneven": uneven}
    if isinstance(given["xs"], str):
        given["xs"] = named[given["xs"]]
        if given["xs"] is uneven:
            given["dt"] = None
    with pytest.raises(error, match=words):
        entropy_production(given.pop("xs"), given.pop("dt"), **given)


def test_whole_numbers(beads):
    """Pixels are numbers."""
    x = np.round(50 * np.asarray(beads(jax.random.key(0)))).astype(np.int32)
    a, b = entropy_production(x, 0.1), entropy_production(x.astype(float), 0.1)
    np.testing.assert_allclose(float(a.rate), float(b.rate))


# ---- the example


def test_the_example_knows_the_exact_numbers():
    example = scripts.example("inferred")
    assert abs(example.rate(*example.TEN) - 2.001447732) < 1e-9
    assert abs(example.rate(*example.BEADS) - 2.025) < 1e-12
    assert abs(example.rate(*example.SAME)) < 1e-12
    for lag in (0.001, 0.1, 0.5):
        whole, seen = example.pair(*example.BEADS, lag), example.current(*example.BEADS, lag)
        assert abs(whole - pair(BEADS, HOT, lag)) < 1e-12
        assert 0 < seen < whole  # what the uncertainty relation sees is less
    assert abs(example.current(*example.BEADS, 1e-4) / 2.025e-4 - 1) < 2e-3
