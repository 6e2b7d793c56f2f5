"""Double precision unless THERMOJAX_TEST_X64=0, and no implicit promotion of types or ranks.

Nothing here may import thermojax: the annotations of what is imported now would go unchecked.
"""

import os

import hurry
import jax
import pytest

X64 = os.environ.get("THERMOJAX_TEST_X64", "1") != "0"

os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

collect_ignore = ["test_float32.py"] if X64 else []


@pytest.fixture(scope="module")
def unoptimised():
    with hurry.hurried():
        yield
