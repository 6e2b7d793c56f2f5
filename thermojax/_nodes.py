"""Places: those of Gauss and Legendre on [0, 1], n of them exact for polynomials of degree 2n - 1, and some of many."""

import numpy as np


def nodes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights."""
    x, weight = np.polynomial.legendre.leggauss(n)
    return 0.5 * (1 + x), 0.5 * weight


def evenly(n: int, k: int) -> np.ndarray:
    """At most k of n places, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, min(n, k)).astype(int))
