"""Whatever comes to a front door: a right answer, a clear error, or a result that is marked. Nothing in silence.

A few hundred examples, always the same ones; THERMOJAX_FUZZ=10000 asks for as many new ones of each.
"""

import os
import re
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import thermojax as tjx
from thermojax import estimators, measured, optimal
from thermojax.densities import Boltzmann, Gaussian, Mixture
from thermojax.potentials import Harmonic, MovingTrap, Tabulated
from thermojax.protocols import Piecewise, Steps, ramp
from thermojax.schedules import LogSNR

pytestmark = [
    pytest.mark.filterwarnings("ignore:A part of the protocol is run"),
    pytest.mark.filterwarnings("ignore:The step is too long"),
]

MANY = int(os.environ.get("THERMOJAX_FUZZ", "0"))
fuzzed = settings(
    max_examples=MANY or 60,
    phases=[p for p in Phase if p is not Phase.explain],
    derandomize=not MANY,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SAID = (ValueError, TypeError)
TYPES = [np.float64, np.float32, np.int32, np.float16]


@st.composite
def numbers(draw, sizes=(0, 1, 2, 7, 400)):
    """Numbers of any size, scale, offset and type; some of them none."""
    shape = (draw(st.sampled_from(sizes)),)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal(shape) * 10.0 ** draw(st.integers(-12, 12))
    x = x + draw(st.sampled_from([0.0, 0.0, 1.0, -1e4, 1e8]))
    dtype = draw(st.sampled_from(TYPES))
    bad = draw(st.sampled_from([None, None, None, np.nan, np.inf, -np.inf]))
    if bad is not None and x.size and np.issubdtype(dtype, np.floating):
        x[rng.integers(x.size)] = bad
    with np.errstate(over="ignore", invalid="ignore"):
        limit = 2**30 if dtype is np.int32 else np.inf
        return np.clip(x, -limit, limit).astype(dtype)


def outcome(call, names):
    """The result, or None after an error that names what was given."""
    try:
        return call()
    except SAID as error:
        said = str(error)
    assert re.search(names, said), f"an error that names nothing: {said}"
    return None


def log_mean_exp(w):
    top = np.max(-w)
    return -(top + np.log(np.mean(np.exp(-w - top)))) if np.isfinite(top) else np.nan


EXACT = {
    "jarzynski": log_mean_exp,
    "integral_fluctuation": lambda w: np.mean(np.exp(-w)),
    "mean": np.mean,
    "second_cumulant": lambda w: np.mean(w) - 0.5 * np.var(w, ddof=1),
}


@pytest.mark.parametrize("name", EXACT)
@fuzzed
@given(numbers())
def test_estimators(name, w):
    found = outcome(lambda: getattr(estimators, name)(w), r"\bw\b|\br\b|\bx\b|values|sample")
    if found is None:
        return
    with np.errstate(all="ignore"):
        exact = EXACT[name](w.astype(np.float64))
    value, stderr = float(found.value), float(found.stderr)
    if not np.isfinite(value):
        assert not found.reliable
        return
    size = max(1.0, float(np.max(np.abs(w.astype(np.float64))))) if np.isfinite(w).all() else 1.0
    eps = 1e-5 if w.dtype != np.float64 else 1e-12
    cumulant = name == "second_cumulant"  # a difference of two large numbers
    least = 1.0 if name == "jarzynski" else 1e-2 * stderr  # a mean may be zero by chance
    scale = size**2 if cumulant else max(abs(exact), least)
    rounded = "precision" in found.why  # said, and in the error bar
    allowed = 2 * stderr if rounded else eps * scale
    assert abs(value - exact) <= allowed, (value, exact, stderr, found.why)
    assert stderr >= 0


@fuzzed
@given(numbers(sizes=(0, 1, 2, 5)), st.sampled_from(["Piecewise", "Steps"]))
def test_clocks_of_protocols(ts, kind):
    """A protocol on any times is at its knots what was given, or there is none."""
    ts = np.sort(ts)
    count = max(ts.size - (kind == "Steps"), 0)
    same = ts.dtype if np.issubdtype(ts.dtype, np.floating) else np.float64
    values = jnp.arange(1.0, count + 1.0, dtype=same)
    make = {"Piecewise": Piecewise, "Steps": Steps}[kind]
    drive = outcome(lambda: make(ts, values), rf"{kind}\.(ts|values)|two times")
    if drive is None:
        return
    for t, value in zip(ts, np.asarray(values), strict=False):
        assert drive(jnp.asarray(t, drive.ts.dtype)) == pytest.approx(value, rel=1e-6)


@fuzzed
@given(numbers(sizes=(1, 2, 5)), st.sampled_from([1.0, 1e-6, 1e6]))
def test_account_of_any_path(xs, tau):
    """Of a dragged trap, by hand in double precision; NaN and not ok where the path is not finite."""
    ts = np.linspace(0.0, tau, xs.size)
    process = tjx.Process(tjx.Overdamped(MovingTrap(2.0)), ramp(0.0, 3.0, tau), Gaussian(0.0, 1.0))
    if xs.dtype == np.float32:
        single = lambda v: jnp.asarray(v, jnp.float32) if hasattr(v, "dtype") else v
        process, ts = jax.tree_util.tree_map(single, process), ts.astype(np.float32)
    run = outcome(
        lambda: tjx.account(process, tjx.Path(jnp.asarray(ts), jnp.asarray(xs)[:, None])),
        r"path\.(ts|xs)|float16|the state",
    )
    if run is None:
        return
    if not np.isfinite(xs).all():
        assert not run.path.ok
        assert np.isnan(run.work)
        return
    x = xs.astype(np.float64)
    lam = 3 * (np.arange(x.size - 1) + 0.5) / (x.size - 1)
    lams = np.concatenate([[0.0], lam, [3.0]])
    with np.errstate(over="ignore"):
        turns = (x - lams[1:]) ** 2 - (x - lams[:-1]) ** 2
        size = np.max((np.abs(x) + 3) ** 2) * x.size
    if run.path.ok:
        eps = 1e-6 if xs.dtype == np.float32 else 1e-13
        assert abs(float(run.work) - np.sum(turns)) <= eps * size
        first_law = (x[-1] - 3) ** 2 - x[0] ** 2 - (float(run.work) - float(run.heat))
        assert abs(first_law) <= 4 * eps * size


def finite(*xs):
    return all(np.isfinite(np.asarray(x, float)).all() for x in xs)


def rounding(x):
    """Of its type, and of the numbers that whole ones become."""
    return float(np.finfo(x.dtype if np.issubdtype(x.dtype, np.floating) else np.float64).eps)


@st.composite
def scales(draw, *sizes):
    """Positive numbers of any size between 1e-12 and 1e12, sometimes one that is not allowed."""
    size = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = 10.0 ** (draw(st.integers(-12, 12)) + rng.uniform(-0.5, 0.5, size))
    bad = draw(st.sampled_from([None] * 9 + [0.0, -1.0, np.nan, np.inf]))
    if bad is not None and x.size:
        x[rng.integers(x.size)] = bad
    return x


def normal_height(x, mean, cov):
    """ln N(x; mean, cov) in double precision, and the size of what is added up."""
    root = np.linalg.cholesky(cov)
    z = np.linalg.solve(root, x - mean)
    spread = np.linalg.solve(
        np.abs(root), np.abs(x) + np.abs(mean)
    )  # what rounding moves z by, over eps
    parts = np.sum(z**2), np.sum(np.abs(z * spread)), np.abs(2 * np.log(np.diag(root))).sum()
    height = -0.5 * (parts[0] + 2 * np.log(np.diag(root)).sum() + x.size * np.log(2 * np.pi))
    return height, sum(parts) + x.size


@fuzzed
@given(
    numbers(sizes=(0, 1, 2, 3)),
    scales(1, 2, 3),
    st.sampled_from(["scalar", "independent", "matrix", "lopsided"]),
    st.sampled_from([np.float64, np.float32]),
    st.floats(-4, 4),
)
def test_gaussian(mean, sigma, kind, dtype, z):
    sigma = np.broadcast_to(sigma, max(mean.size, 1)) if sigma.size == 1 else sigma
    cov = {"scalar": sigma[0] ** 2, "independent": sigma**2}.get(kind)
    if cov is None:
        shape = 0.5 ** np.abs(np.subtract.outer(*[np.arange(sigma.size)] * 2))
        shape[0, -1] *= -0.9 if kind == "lopsided" and sigma.size > 1 else 1
        cov = np.outer(sigma, sigma) * shape
    mean, cov = mean.astype(dtype), np.asarray(cov).astype(dtype)
    density = outcome(lambda: Gaussian(mean, cov), r"Gaussian\.(mean|cov)")
    if density is None:
        return
    assert kind != "lopsided" or sigma.size < 2
    assert finite(mean, cov)
    exact = cov.astype(float)
    d = density.mean.size
    exact = exact if cov.ndim == 2 else np.diag(np.broadcast_to(exact, d))
    assert (np.diag(exact) > 0).all()
    centre = np.broadcast_to(mean.astype(float), d)
    x = (centre + z * np.sqrt(np.diag(exact))).astype(dtype)
    want, size = normal_height(x.astype(float), centre, exact)
    got = float(density.log_prob(jnp.asarray(x)))
    assert abs(got - want) <= 100 * rounding(x) * size, (got, want)
    draw = np.asarray(density.sample(KEY), float)
    noise = np.asarray(jax.random.normal(KEY, (d,), dtype), float)
    want = centre + np.linalg.cholesky(exact) @ noise
    np.testing.assert_allclose(
        draw,
        want,
        rtol=0,
        atol=1e2 * rounding(x) * np.abs([*want, *centre, *(want - centre)]).max(),
    )


KEY = jax.random.key(3)


@fuzzed
@given(scales(1, 3), numbers(sizes=(3,)), scales(3), st.sampled_from([np.float64, np.float32]))
def test_mixture(weights, means, sigma, dtype):
    weights, means, variances = weights.astype(dtype), means.astype(dtype), (sigma**2).astype(dtype)
    parts = outcome(
        lambda: [Gaussian(m, v) for m, v in zip(means, variances, strict=False)],
        r"Gaussian\.(mean|cov)",
    )
    if parts is None:
        return
    mixture = outcome(lambda: Mixture(weights, parts), r"Mixture\.weights")
    if mixture is None:
        assert weights.size != 3 or not (np.isfinite(weights) & (weights > 0)).all()
        return
    with np.errstate(all="ignore"):
        draw = mixture.sample(KEY)
        x, w, m, v = (np.asarray(a, float) for a in (draw[0], weights, means, variances))
        nearest = np.min(np.abs(x - m) / np.sqrt(v))
        assert nearest < 6 + rounding(draw) * np.max(np.abs(m) / np.sqrt(v))
        heights = np.log(w / w.sum()) - 0.5 * ((x - m) ** 2 / v + np.log(2 * np.pi * v))
        want = np.logaddexp.reduce(heights)
    near = heights > want - 40
    size = (np.abs(heights) + np.abs(x - m) * (np.abs(x) + np.abs(m)) / v + np.abs(np.log(v)))[
        near
    ].max()
    got = float(mixture.log_prob(draw))
    assert abs(got - want) <= 100 * rounding(draw) * (1 + size), (got, want)


@fuzzed
@given(
    scales(1, 2),
    numbers(sizes=(1, 2)),
    scales(1),
    st.sampled_from([np.float64, np.float32]),
    st.floats(-4, 4),
)
def test_boltzmann(stiffness, center, kT, dtype, z):
    """Of a quadratic potential, in any units: the Gaussian of variance T/k."""
    k, c, kT = (v.astype(dtype) for v in (stiffness, center, kT))
    make = lambda: Boltzmann(
        tjx.Overdamped(Harmonic(k, c), temperature=kT[0]), dim=max(k.size, c.size)
    )
    with np.errstate(all="ignore"):
        said = r"Harmonic[.:]|Boltzmann|potential|temperature|Overdamped"
        density = outcome(make, said)
        if density is None:
            return
        d = density.dim
        v = np.broadcast_to(kT.astype(float) / k.astype(float), d)
        m = np.broadcast_to(c.astype(float), d)
        x = (m + z * np.sqrt(np.abs(v))).astype(dtype)
        if not (v > 0).all():
            assert not np.isfinite(density.log_prob(jnp.asarray(x)))
            return
        assert finite(k, c, kT)
        want, size = normal_height(x.astype(float), m, np.diag(v))
    got = float(density.log_prob(jnp.asarray(x)))
    # the energy is quadratic about c, and its minimum is found from x = 0
    size += np.max(m**2 / v)
    assert abs(got - want) <= 100 * rounding(x) * size or not np.isfinite(got), (got, want)
    draw = np.asarray(density.sample(KEY), float)
    want = m + np.sqrt(v) * np.asarray(jax.random.normal(KEY, (d,), dtype), float)
    np.testing.assert_allclose(
        draw, want, rtol=0, atol=100 * rounding(x) * np.max(np.abs(m) + np.sqrt(v))
    )


@fuzzed
@given(
    numbers(sizes=(0, 3, 4, 7)),
    numbers(sizes=(4, 7)),
    st.booleans(),
    st.sampled_from(["infinite", "linear"]),
)
def test_tabulated(x, U, sort, outside):
    """At its points it is what was given; between them it does not stray; beyond them it is as it was asked."""
    x = np.sort(x) if sort else x
    table = outcome(lambda: Tabulated(x, U, outside), "Tabulated")
    if table is None:
        return
    assert finite(x, U)
    assert (np.diff(np.asarray(table.x)) > 0).all()
    at = jax.vmap(lambda v: table(v[None]))
    eps = max(rounding(x), rounding(U))
    U, x = U.astype(float), x.astype(float)
    size = (
        np.ptp(x) * np.abs(np.diff(U) / np.diff(x)).max() + np.abs(U).max()
    )  # as far as it swings
    np.testing.assert_allclose(at(table.x), U, rtol=0, atol=100 * eps * size)
    beyond = jnp.stack([2 * table.x[0] - table.x[1], 2 * table.x[-1] - table.x[-2]])
    if outside == "infinite":
        assert (at(beyond) == np.inf).all()
    else:
        assert (np.asarray(at(beyond)) >= np.asarray(table.U)[[0, -1]]).all()


@pytest.mark.filterwarnings("ignore:.* steps of time are longer:UserWarning")
@pytest.mark.filterwarnings("ignore:.*is far outside the others:UserWarning")
@pytest.mark.filterwarnings("ignore:.*they come out uneven:UserWarning")
@fuzzed
@given(numbers(sizes=(0, 1, 2, 5)), numbers(sizes=(2, 5)), numbers(sizes=(5,)), st.booleans())
def test_columns(ts, xs, trap, sort):
    """What is read is what was given, the first time taken off; its work is that of the ledger by hand."""
    ts = np.sort(ts) if sort else ts
    given = {"t": ts, "x": xs, "trap": trap[: xs.size]}
    read = lambda: measured.from_columns(given, time="t", positions="x", controls="trap")
    data = outcome(read, "columns|time")
    if data is None:
        return
    assert finite(*given.values())
    t, x, c = (v.astype(float) for v in given.values())
    np.testing.assert_array_equal(data.path.ts[0], t - t[0])
    np.testing.assert_array_equal(data.path.xs[0, :, 0], x)
    np.testing.assert_array_equal(data.controls[0], c)
    run = outcome(
        lambda: tjx.account(data.process(TRAP, Gaussian(0.0, 1.0)), data.path),
        r"path\.|protocol|Piecewise",
    )
    if run is None or not run.path.ok[0]:
        return
    lams = np.concatenate([c[:1], 0.5 * (c[1:] + c[:-1]), c[-1:]])
    work = np.sum((x - lams[1:]) ** 2 - (x - lams[:-1]) ** 2)
    size = x.size * (np.abs(x).max() + np.abs(c).max()) ** 2
    # the control at the middle of a step is known to the rounding of the clock
    late = np.spacing(t[-1] - t[0]) * np.max(np.abs(np.diff(c)) / np.diff(t))
    assert abs(float(run.work[0]) - work) <= 1e-13 * size + 10 * late * np.sqrt(size) * x.size


TRAP = tjx.Overdamped(MovingTrap(2.0))


@fuzzed
@given(
    numbers(sizes=(0, 1, 2, 7)), st.booleans(), st.booleans(), st.sampled_from([20.0, 1e9, 1e14])
)
def test_levels(lam, sort, clip, limit):
    """A schedule of any levels gives them back."""
    lam = -np.sort(-lam) if sort else lam
    schedule = outcome(
        lambda: LogSNR.from_array(lam, low=-limit, high=limit, clip=clip), r"\blam\b|\blow\b"
    )
    if schedule is None:
        return
    assert finite(lam)
    assert (np.diff(lam.astype(float)) < 0).all()
    got = np.asarray(schedule(), float)
    inside = np.abs(lam.astype(float)) < limit
    assert clip or inside.all()
    assert (np.abs(got) <= limit).all()
    assert (np.diff(got) <= 0).all()
    want, allowed = lam.astype(float)[inside], 20 * rounding(lam) * limit
    np.testing.assert_allclose(got[inside], want, rtol=0, atol=allowed)


@fuzzed
@given(
    numbers(sizes=(1, 2)),
    numbers(sizes=(1, 2)),
    scales(1),
    scales(1),
    scales(1),
    st.sampled_from([np.float64, np.float32]),
)
def test_optimum_of_a_moving_trap(start, stop, t1, k, mu, dtype):
    start, stop, t1, k, mu = (v.astype(dtype) for v in (start, stop, t1, k, mu))
    found = outcome(
        lambda: optimal.moving_trap(start, stop, t1[0], stiffness=k[0], mobility=mu[0]),
        r"\bstart\b|\bstop\b|\bt1\b|stiffness|mobility|Piecewise",
    )
    if found is None:
        return
    a, b, t1, k, mu = (v.astype(float) for v in (start, stop, t1, k, mu))
    want = np.sum(k * (b - a) ** 2 / (2 + mu * k * t1))
    eps = rounding(start)
    cut = eps * np.sum(k * np.abs(b - a) * (np.abs(a) + np.abs(b)) / (2 + mu * k * t1))
    if np.isfinite(found.work):
        assert abs(float(found.work) - want) <= 20 * (cut + eps * want) + np.finfo(dtype).tiny
    else:
        assert k[0] * np.max((b - a) ** 2) > 1e-3 * np.finfo(dtype).max


def breathing(a, b):
    """Mean work over T in two hundred digits, and the widening."""
    with localcontext() as digits:
        digits.prec = 200
        a, b = Decimal(a), Decimal(b)
        u = (1 + (1 + 2 * a + a * b).sqrt()) / (2 + b)
        return float((u - 1) ** 2 / a - u.ln() + (b / a * u**2 - 1) / 2), float(u)


@fuzzed
@given(scales(1), scales(1), scales(1), scales(1), st.sampled_from([np.float64, np.float32]))
def test_optimum_of_a_breathing_trap(k0, ratio, t1, mu, dtype):
    with np.errstate(all="ignore"):
        k0, k1, t1, mu = (float(v.astype(dtype)[0]) for v in (k0, k0 * ratio, t1, mu))
    given = [np.asarray(v, dtype) for v in (k0, k1, t1, mu)]
    found = outcome(
        lambda: optimal.breathing_trap(*given[:3], mobility=given[3]),
        r"\bstart\b|\bstop\b|\bt1\b|mobility",
    )
    if found is None:
        return
    want, u = breathing(mu * k0 * t1, mu * k1 * t1)
    eps = float(jnp.finfo(dtype).eps)
    got = float(found.work)
    # the sum of a logarithm and the stretched energy, each to rounding
    size = 1 + abs(np.log(u)) + k1 / k0 * u**2 + (u - 1) ** 2 / (mu * k0 * t1)
    assert abs(got - want) <= 20 * eps * size or not np.isfinite(got), (got, want)


def dragged(length, time, energy, dtype):
    """A dragged trap in these units: positions, works, heats and entropies of three runs, and their exact means."""
    L, t, E = (10.0**n for n in (length, time, energy))
    number = lambda v: jnp.asarray(np.asarray(v).astype(dtype))
    trap = MovingTrap(number(2.0 * E / L**2))
    mobility = number(0.7 * L**2 / (t * E))
    drive = Piecewise(
        number([0.0, 1.5 * t]), number([0.5 * L, 2.0 * L]), number(0.0), number(3 * L)
    )
    first, last = (Gaussian(number(m * L), number(0.5 * L**2)) for m in (0.0, 3.0))
    system = tjx.Overdamped(trap, mobility=mobility, temperature=number(E))
    process, grid = tjx.Process(system, drive, first, last), number(np.linspace(0.0, 1.5, 7) * t)
    run = tjx.ensemble(process, grid, KEY, 3, save="all")
    assert run.path.ok.all()
    try:
        # in single precision powers per area, the curvature of the heat, must be numbers that there are
        there = dtype is np.float64 or abs(energy - 2 * length - time) < 36
        mean = tjx.evolve.moments(process, grid) if there else None
    except (RuntimeError, RuntimeWarning):
        if dtype is np.float64 or abs(energy - length) < 14:
            raise
        mean = None  # forces that single precision can not square
    there = [
        run.path.xs / L,
        tjx.reduced_work(process, run),
        run.work / E,
        run.heat / E,
        *run.entropy,
    ]
    exact = (
        [] if mean is None else [mean.mean / L, mean.cov / L**2, mean.reduced_work, *mean.entropy]
    )
    exact += [] if mean is None else [mean.work / E, mean.heat / E]
    return [[np.asarray(v, float) for v in values] for values in (there, exact)]


@fuzzed
@given(*[st.integers(-12, 12)] * 3, st.sampled_from([np.float64, np.float32]))
def test_in_any_units(length, time, energy, dtype):
    """It is the same trap whatever the units, to rounding; the exact means to the tolerance of their integration."""
    eps = float(jnp.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        found = outcome(lambda: dragged(length, time, energy, dtype), "mobility|stiffness|cov")
    if found is None:
        assert dtype is np.float32
        return
    paths, exact = found
    usual, meant = dragged(0, 0, 0, dtype)
    for a, b in zip(paths, usual, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=100 * eps * (1 + np.abs(b).max()))
    for a, b in zip(exact, meant if exact else [], strict=True):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=(1e-8 if eps < 1e-10 else 1e-4) * (1 + np.abs(b).max())
        )
