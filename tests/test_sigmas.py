"""The statistical assertions themselves: their size, their power, their book-keeping."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from scipy import stats

import thermojax as tjx

HERE = Path(__file__).parent
REPEATS = 2000


def null(kind, rng):
    """Many draws under the null hypothesis: values, standard errors, degrees of freedom, and the exact value."""
    if kind in ("mean", "student"):  # a standard error from many paths, or from few keys
        size = 200 if kind == "mean" else 8
        x = rng.normal(1.5, 2.0, (REPEATS, size))
        return x.mean(1), x.std(1, ddof=1) / np.sqrt(size), size - 1, 1.5
    # Gaussian work with <W> - Delta F = 0.1, whose exponential average is known
    work = jnp.asarray(rng.normal(0.6, np.sqrt(0.2), (REPEATS, 2000)))
    if kind == "jarzynski":
        estimate, exact = jax.vmap(tjx.estimators.jarzynski)(work), 0.5
    else:
        estimate, exact = jax.vmap(tjx.estimators.integral_fluctuation)(work - 0.5), 1.0
    return np.asarray(estimate.value), np.asarray(estimate.stderr), np.inf, exact


@pytest.mark.parametrize("level", [0.1, 0.02])
@pytest.mark.parametrize("kind", ["mean", "student", "jarzynski", "integral_fluctuation"])
def test_size(kind, level):
    """Of many null draws, the test at a level rejects that share: the number is within its own binomial band."""
    value, stderr, dof, exact = null(kind, np.random.default_rng(20))
    rejected = int(np.sum(np.abs(value - exact) > sigmas.sigmas(dof, level) * stderr))
    print(f"{rejected} of {REPEATS} rejected at level {level}")
    sigmas.assert_plausible(stats.binomtest(rejected, REPEATS, level).pvalue)


def test_size_is_seen_to_be_wrong():
    """Control: standard errors that are a fifth too small, or the normal threshold for eight keys."""
    rng = np.random.default_rng(21)
    z = np.abs(rng.normal(size=REPEATS)) / 0.8
    sigmas.assert_implausible(
        stats.binomtest(int(np.sum(z > stats.norm.isf(0.05))), REPEATS, 0.1).pvalue
    )
    t = np.abs(stats.t.rvs(7, size=REPEATS, random_state=rng))
    sigmas.assert_implausible(
        stats.binomtest(int(np.sum(t > stats.norm.isf(0.01))), REPEATS, 0.02).pvalue
    )


@pytest.mark.smoke
def test_verdicts():
    rng = np.random.default_rng(22)
    sample = rng.normal(1.0, 1.0, 400_000)
    sigmas.assert_within(sample, 1.0)
    sigmas.assert_sees(sample, 1.0)
    with pytest.raises(sigmas.Biased, match="standard errors off"):
        sigmas.assert_within(sample, 1.02)
    with pytest.raises(sigmas.Underpowered, match="the least that would be"):
        sigmas.assert_within(sample[:4000], 1.0)
    with pytest.raises(sigmas.Underpowered):
        sigmas.assert_within(sample, 1.0, absolute=0.001)
    with pytest.raises(AssertionError, match="not noticed"):
        sigmas.assert_biased(sample, 1.0)
    for broken in (np.full(10, np.nan), np.ones(10), (1.0, np.nan)):
        with pytest.raises(sigmas.Biased, match="no estimate"):
            sigmas.assert_within(broken, 1.0)


@pytest.mark.smoke
def test_rate():
    """The thresholds add up to the declared rate, and a bias at the limit of power is missed once in 740."""
    assert sigmas.ALPHA == 1e-4
    assert np.isclose(2 * stats.norm.sf(sigmas.sigmas()) * sigmas.TESTS, sigmas.ALPHA, rtol=1e-6)
    assert np.isclose(stats.norm.sf(sigmas.POWER), 1 / 740, rtol=0.01)
    assert sigmas.sigmas(dof=7) > 2 * sigmas.sigmas()


def test_budget(monkeypatch):
    """A file that makes more statistical assertions than it declared is stopped; so is one that declared none."""
    sigmas.assert_plausible(0.5)
    monkeypatch.setitem(sigmas.BUDGET, "test_sigmas", sigmas.used["test_sigmas"])
    with pytest.raises(AssertionError, match="more statistical assertions than"):
        sigmas.assert_plausible(0.5)
    monkeypatch.delitem(sigmas.BUDGET, "test_sigmas")
    with pytest.raises(AssertionError, match="more statistical assertions than the 0"):
        sigmas.assert_within((1.0, 1e-3), 1.0)


def test_budget_names_the_files():
    """Exactly the files that make statistical assertions have a share."""
    users = {
        path.stem
        for path in HERE.glob("test_*.py")
        if any(
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "sigmas"
            and node.attr.startswith("assert_")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert users == set(sigmas.BUDGET)
