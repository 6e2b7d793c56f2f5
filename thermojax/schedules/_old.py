"""Former ways to a denoiser, for the table of renamed names."""

from ..diffusion import Network, predictor


def from_score(score: Network) -> Network:
    """`diffusion.predictor(score, "score").clean`."""
    return predictor(score, "score", name="score").clean


def from_noise(predict: Network) -> Network:
    """`diffusion.predictor(predict, "noise").clean`."""
    return predictor(predict, "noise", name="predict").clean
