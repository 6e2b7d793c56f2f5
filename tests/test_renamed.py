"""Names that were public once still work, and say what they are called now."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax import diffusion, schedules
from thermojax._renamed import RENAMED
from thermojax.densities import Gaussian

NAMES = [(room, name) for room, names in RENAMED.items() for name in names]


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_an_old_name_works_and_warns(room, name):
    with pytest.warns(DeprecationWarning, match=f"{room}.{name} is now"):
        assert callable(getattr(importlib.import_module(room), name))


def test_other_names_are_missed_as_ever():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = tjx.densities.nothing


def test_old_signatures():
    """Those that changed, not only the name."""
    process = diffusion.noising(Gaussian(jnp.zeros(1), 0.5), diffusion.Linear())
    ts, key = jnp.linspace(process.protocol.t0, 1.0, 4), jax.random.key(0)
    with pytest.warns(DeprecationWarning, match="sample_path"):
        old = diffusion.walk(process, ts, key, diffusion.transition)
    np.testing.assert_array_equal(
        old.xs, tjx.sample_path(process, diffusion.transition, ts, key).xs
    )
    x, lam, score = jnp.ones(1), jnp.asarray(0.3), diffusion.score(process)
    with pytest.warns(DeprecationWarning, match="predictor"):
        old = schedules.from_score(score)(x, lam)
    np.testing.assert_array_equal(old, score.clean(x, lam))
    with pytest.warns(DeprecationWarning, match="normal"):
        np.testing.assert_allclose(Gaussian(jnp.zeros(1), 0.5).gaussian().cov, [[0.5]])
    curve = schedules.Curve(
        lam=jnp.linspace(-4.0, 4.0, 5),
        mse=jnp.linspace(0.9, 0.1, 5),
        second_moment=jnp.asarray(1.0),
        dim=1,
    )
    levels = jnp.array([2.0, 0.0])
    with pytest.warns(DeprecationWarning, match="variances takes tau by keyword now"):
        old = schedules.variances(levels, curve, "forward")
    np.testing.assert_array_equal(old, schedules.variances(levels, curve, tau="forward"))
