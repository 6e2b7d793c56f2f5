r"""What a likelihood is asked of: rows of data and a network that fit a noising, between finite levels."""

import numpy as np

from .. import _checks
from .._process import Process
from .._types import Array, Key
from ._noising import ends, kind_of, prior_of
from ._predictor import Network, Predictor, Predicts, predictor


def on_rows(
    process: Process, predict: Network | Predictor, predicts: Predicts, data: Array, key: Key
) -> tuple[Predictor, Array, Key]:
    """A network and rows of data that fit a noising with a prior, between finite levels."""
    _finite(process)
    net = predictor(predict, predicts, kind=kind_of("process", process), name="predict")
    dim = _checks.draw("the prior", prior_of(process)).shape[0]
    x0 = _checks.floating("data", data)
    _checks.rank("data", x0, {2}, "(n, d), one row per data point")
    if x0.shape[1] != dim:
        raise ValueError(
            f"data must have the {dim} coordinates of the noising, got shape {x0.shape}."
        )
    if x0.shape[0] < 2:
        raise ValueError("data must hold at least two rows to have an error bar, got one.")
    _checks.one_float(**{"data": x0, "the process": process})
    return net, x0, _checks.key("key", key)


def _finite(process: Process) -> None:
    for name, lam in zip(("first", "last"), ends(process), strict=True):
        value = _checks.known(lam)
        if value is not None and not np.isfinite(value):
            raise ValueError(
                f"Likelihoods need finite levels, and the {name} level of this schedule is {value}. Start later than clean "
                "data (Linear(t0=1e-3), Levels(lam, clean=False))."
            )
