"""Former signatures, for the table of renamed names."""

from .._paths import Path
from .._process import Process
from .._ratio import Kernel, sample_path
from .._types import Key, Times
from ._kinds import AbstractNoising
from ._predictor import Network, Predictor, Predicts, predictor


def walk(process: Process, ts: Times, key: Key, kernel: Kernel) -> Path:
    """`sample_path(process, kernel, ts, key)`."""
    return sample_path(process, kernel, ts, key)


def Score(kind: AbstractNoising, predict: Network, predicts: Predicts) -> Predictor:  # noqa: N802
    """`predictor(predict, predicts, kind=kind)`."""
    return predictor(predict, predicts, kind=kind, name="predict")
