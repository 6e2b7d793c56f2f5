"""The noise: normal, independent, never drawn twice; and the Lévy areas that some solvers ask for."""

import ast
from pathlib import Path

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from scipy import stats

import thermojax as tjx
from thermojax._diffrax import Kick
from thermojax._noise import BLOCK, Noise
from thermojax.densities import Gaussian

pytestmark = pytest.mark.usefixtures("optimised")

EULER = dfx.Euler()


def normals(dtype, paths=4 * BLOCK, steps=500, solver=EULER, dim=1, seed=51):
    noise = Noise(jax.random.key(seed), dim, paths, np.dtype(dtype))
    draw = tjx.Diffrax(solver).draw
    found = jax.jit(jax.vmap(lambda i: noise(i, draw)))(jnp.arange(steps))
    return [np.asarray(z, np.float64) for z in found]  # each (steps, paths, dim)


class Areas(dfx.ShARK):
    """A solver that asks for all the areas there are."""

    minimal_levy_area = dfx.AbstractSpaceTimeTimeLevyArea


PRECISIONS = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_increments_are_normal(dtype):
    """Kolmogorov–Smirnov over a million of them; two per cent of the width would be seen, and so would a shift."""
    z = normals(dtype)[0].ravel()
    assert z.size == 1_000_000
    sigmas.assert_plausible(stats.kstest(z, "norm").pvalue)
    for wrong in (1.02 * z, z + 0.01):
        sigmas.assert_implausible(stats.kstest(wrong, "norm").pvalue)


def test_increments_of_a_run_are_normal():
    """Free diffusion, as a run saves it: x_{k+1} - x_k has variance 2 mu T dt, on an uneven grid."""
    system = tjx.Overdamped(lambda x, lam: 0 * jnp.sum(x), mobility=0.5, temperature=1.6)
    ts = jnp.array([0.0, 0.1, 0.15, 0.4, 1.0])
    process = tjx.Process(system, lambda t: t, Gaussian(0.0, 1.0))
    path = tjx.ensemble(process, ts, jax.random.key(52), 250_000, save="all").path
    z = np.diff(path.xs[..., 0], axis=1) / np.sqrt(2 * 0.5 * 1.6 * np.diff(ts))
    sigmas.assert_plausible(stats.kstest(z.ravel(), "norm").pvalue)
    sigmas.assert_implausible(stats.kstest(1.02 * z.ravel(), "norm").pvalue)
    sigmas.assert_within(z[:, 0] * z[:, 1], 0.0, absolute=0.02)
    sigmas.assert_within(
        z[:, 0] * np.asarray(path.xs)[:, 0, 0], 0.0, absolute=0.02
    )  # and of the start


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_increments_are_independent(dtype):
    """Between neighbouring steps, paths, blocks and coordinates: products and products of squares average as they should."""
    z = normals(dtype, dim=2, steps=250, seed=53)[0]
    blocks = z.reshape(250, 4, BLOCK, 2)
    pairs = {
        "steps": (z[:-1], z[1:]),
        "paths": (z[:, :-1], z[:, 1:]),
        "blocks": (blocks[:, :-1], blocks[:, 1:]),
        "coordinates": (z[..., 0], z[..., 1]),
    }
    for a, b in pairs.values():
        sigmas.assert_within((a * b).ravel(), 0.0, absolute=0.02)
        sigmas.assert_within(((a**2 - 1) * (b**2 - 1)).ravel(), 0.0, absolute=0.04)
    a, b = pairs["steps"]
    sigmas.assert_biased((a * (b + 0.02 * a)).ravel(), 0.0)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_no_increment_is_drawn_twice(dtype):
    """No four neighbouring paths share their increments with any others, in any block, at any step."""
    z = normals(dtype, steps=200, seed=54)[0].reshape(-1, 4)
    assert len(np.unique(z, axis=0)) == len(z)
    if dtype is np.float64:
        assert len(np.unique(z)) == z.size
    again = np.concatenate([z, z[17:18]])  # control
    assert len(np.unique(again, axis=0)) < len(again)


def test_keys_give_other_increments():
    a, b = (normals(np.float64, steps=250, seed=s)[0] for s in (55, 56))
    sigmas.assert_within((a * b).ravel(), 0.0, absolute=0.02)
    sigmas.assert_biased((a * (b + 0.02 * a)).ravel(), 0.0)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_levy_areas(dtype):
    """H and K are normal, independent of W and of each other, of variances dt/12 and dt/720; W is the same without."""
    drawn = normals(dtype, steps=250, solver=Areas(), seed=57)
    assert np.array_equal(drawn[0], normals(dtype, steps=250, seed=57)[0])
    dt = 0.3
    kick = Kick(jnp.ones(1), tuple(map(jnp.asarray, drawn)))
    area = kick.contr(jnp.asarray(0.1), jnp.asarray(0.1 + dt), use_levy=True)
    parts = [np.asarray(v).ravel() for v in (area.W, area.H, area.K)]
    for part, c in zip(parts, (1, 12, 720), strict=True):
        sigmas.assert_within(part**2 * c / dt, 1.0)
        sigmas.assert_plausible(stats.kstest(part * np.sqrt(c / dt), "norm").pvalue)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        sigmas.assert_within(drawn[i].ravel() * drawn[j].ravel(), 0.0, absolute=0.02)
    sigmas.assert_sees(parts[1] ** 2 * 12 / dt, 1.0)
    assert np.array_equal(
        np.asarray(kick.contr(jnp.asarray(0.1), jnp.asarray(0.1 + dt))).ravel(), parts[0]
    )


def both_split_and_folded(source):
    """Names of keys that one function both splits and folds numbers into: split(key)[1] is fold_in(key, 1)."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.Lambda):
            continue
        uses = {"split": set(), "fold_in": set(), "fold": set()}
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and call.args:
                name = ast.unparse(call.func).removeprefix("jax.random.")
                uses.get(name, set()).add(ast.unparse(call.args[0]))
        found += sorted(uses["split"] & (uses["fold_in"] | uses["fold"]))
    return found


def test_no_key_is_both_split_and_folded():
    files = list(Path(tjx.__file__).parent.rglob("*.py"))
    assert len(files) > 50
    assert {
        path.name: names for path in files if (names := both_split_and_folded(path.read_text()))
    } == {}
    bad = "def f(key):\n    a, b = jax.random.split(key)\n    return jax.random.fold_in(key, 1)"
    assert both_split_and_folded(bad) == ["key"]
