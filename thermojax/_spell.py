"""A number with its standard error, in words."""

from typing import SupportsFloat

import numpy as np


def spell(value: SupportsFloat, stderr: SupportsFloat) -> str:
    """`0.8912 ± 0.0013`: a value to the second figure of its standard error."""
    value, stderr = float(value), float(stderr)
    if not (np.isfinite(stderr) and stderr > 0):
        return f"{value:.4g} ± {stderr:.2g}"
    place = int(np.floor(np.log10(stderr)))
    digits = max(0, 1 - place)
    if digits > 6:
        size = place if value == 0 else max(place, int(np.floor(np.log10(abs(value)))))
        return f"{value:.{min(size - place + 1, 16)}e} ± {stderr:.1e}"
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"
