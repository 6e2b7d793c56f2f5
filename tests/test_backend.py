"""The backend sentinel. jaxlib 0.10.2 gets |M r|^2 wrong for whole rows of a batch (jax#39103).

The sizes are those at which it was seen to fail, and one below them at which it was not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx

pytestmark = pytest.mark.smoke


def wrong_rows(compile, n, dtype):
    """How many rows of |M r|^2 differ from NumPy's by more than rounding."""
    rng = np.random.default_rng(n)
    matrix = rng.normal(size=(3, 3)).astype(dtype)
    rows = rng.normal(size=(n, 3)).astype(dtype)
    exact = np.sum((rows.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2, axis=1)
    times = lambda r: jnp.matmul(jnp.asarray(matrix), r, precision="highest")
    batched = compile(jax.vmap(lambda r: jnp.sum(times(r) ** 2)))
    found = np.asarray(batched(jnp.asarray(rows)), np.float64)
    return int(np.sum(np.abs(found - exact) > 1e3 * np.finfo(dtype).eps * (1 + exact)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1024, 16385, 32768, 32769])
def test_batched_squared_norm(n, dtype):
    if dtype is np.float64 and not jax.config.jax_enable_x64:
        pytest.skip("single precision")
    assert wrong_rows(jax.jit, n, dtype) == 0


def test_one_wrong_row_is_counted():
    """Negative control: the comparison sees a single row that is off by a percent."""
    spoilt = lambda f: lambda r: f(r).at[-1].mul(1.01)
    assert wrong_rows(spoilt, 16385, np.float32) == 1


def test_check_backend():
    tjx.check_backend()
