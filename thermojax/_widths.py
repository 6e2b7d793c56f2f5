"""Places far from zero beside the widths that matter there: single precision has no numbers between them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _checks
from ._types import Given


def wide_enough(
    name: str, at: Given, width: Given, dtype: Any, finest: int = _checks.FINEST
) -> None:
    """Refuse places `at` that are known, of which single precision would lose the `width`, coordinate by coordinate."""
    at, width = _checks.known(at), _checks.known(width)
    if at is None or width is None or jnp.finfo(dtype).bits > 32:
        return
    at, width = np.broadcast_arrays(np.abs(np.asarray(at, float)), np.asarray(width, float))
    at, width = at.reshape(-1), width.reshape(-1)
    counts = np.isfinite(at) & (width > 0)
    if counts.any():
        i = np.argmax(np.where(counts, at / np.where(counts, width, 1), 0))
        cure = "Measure from a nearer origin."
        _checks.resolved(
            name, at[i], float(width[i]), cure, what="widths", finest=finest, dtype=dtype
        )
