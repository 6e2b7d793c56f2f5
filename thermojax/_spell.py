"""A number with its standard error, in words."""

from typing import SupportsFloat

import numpy as np


def spell(value: SupportsFloat, stderr: SupportsFloat) -> str:
    """`0.8912 ± 0.0013`: a value to the second figure of its standard error."""
    value, stderr = float(value), float(stderr)
    if not (np.isfinite(stderr) and stderr > 0):
        return f"{value:.4g} ± {stderr:.2g}"
    digits = max(0, 1 - int(np.floor(np.log10(stderr))))
    if digits > 6:
        return f"{value:.3g} ± {stderr:.1g}"
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"
