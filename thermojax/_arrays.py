"""What becomes a JAX array, and what is said of the rest."""

from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np

from ._types import Array


def array(name: str, x: Any) -> Array:
    """`x` as a JAX array, or an error that names it."""
    try:
        return jnp.asarray(native(x))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number or an array of numbers, got {brief(x)}.{_cure(x)}"
        ) from error


def native(x: Any) -> Any:
    """Numpy's numbers as JAX takes them: without a mask that hides nothing, in its byte order, no long doubles."""
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.is_masked(x):
            return x
        x = np.ma.getdata(x)
    if not isinstance(x, (np.ndarray, np.generic)) or x.dtype.kind not in "iufc":
        return x
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        return x.astype(float)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def brief(x: Any) -> str:
    text = repr(x) if not isinstance(x, jax.core.Tracer) else f"a traced value of shape {x.shape}"
    return text if len(text) <= 200 else text[:197] + "..."


def _cure(x: Any) -> str:
    if np.ma.is_masked(x):
        return (
            f" {np.ma.count_masked(x)} entries are masked: leave them out (x.compressed(), or cut a path there), or make "
            "them NaN where these may be dropped (x.filled(numpy.nan))."
        )
    if isinstance(x, np.ndarray) and x.dtype.kind == "O":
        return " Its entries are Python objects: convert it, x.astype(float)."
    return ""
