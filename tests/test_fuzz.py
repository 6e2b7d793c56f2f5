"""Whatever comes to a front door: a right answer, a clear error, or a result that is marked. Nothing in silence.

A few hundred examples, always the same ones; THERMOJAX_FUZZ=10000 asks for as many new ones of each.
"""

import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import thermojax as tjx
from thermojax import estimators
from thermojax.densities import Gaussian
from thermojax.potentials import MovingTrap
from thermojax.protocols import Piecewise, Steps, ramp

pytestmark = [
    pytest.mark.usefixtures("unoptimised"),
    pytest.mark.filterwarnings("ignore:A part of the protocol is run"),
    pytest.mark.filterwarnings("ignore:The step is too long"),
]

MANY = int(os.environ.get("THERMOJAX_FUZZ", "0"))
fuzzed = settings(
    max_examples=MANY or 60,
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
    scale = size**2 if cumulant else max(abs(exact), 1e-30 if name != "jarzynski" else 1.0)
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
