"""Entropy production of angles: what a full turn changes is no field on the ring, and is refused by name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax.inference import entropy_production

RING = 2 * np.pi


def ring(drift=0.0, d=1):
    """Free diffusion on a ring, cut; coordinates after the first are at rest in a trap, nearly white."""
    rng = np.random.default_rng(1)
    angle = np.cumsum(0.05 * drift + np.sqrt(0.1) * rng.standard_normal((4, 1000, 1)), 1)
    cut = np.mod(angle + np.pi, RING) - np.pi
    return np.concatenate([cut, rng.standard_normal((4, 1000, d - 1))], -1)


class Turning(eqx.Module):
    def __call__(self, x0, x1):
        return jnp.sum((x1 - x0) * (x0 + x1))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "score"}, "score= and drift=, fields on the ring"),
        ({"method": "score", "drift": lambda x: 0 * x}, "needs score=, fields"),
        (
            {"method": "score", "drift": lambda x: 0 * x, "score": lambda x: -x},
            "score must be the same a full turn on",
        ),
        (
            {"method": "score", "drift": lambda x: -x, "score": lambda x: -jnp.sin(x)},
            "drift must be the same a full turn on",
        ),
        ({"features": lambda a, b: (b - a) * (a + b) / 2}, "features must be the same"),
        ({"features": lambda a, b: b**2 - a**2, "method": "tur"}, "features must be the same"),
        (
            {"method": "neep", "network": Turning(), "key": jax.random.key(0)},
            "network must be the same",
        ),
    ],
)
def test_what_a_turn_changes_is_refused(given, words):
    """Equilibrium was called driven, significantly and reliably, where such a field jumps at the cut."""
    with pytest.raises(ValueError, match=words):
        entropy_production(ring(), 0.05, period=RING, **given)


def test_only_the_angle_must_be_periodic():
    """Beside an angle a straight coordinate may have any field."""
    mixed = lambda a, b: (b - a)[:1] * (a + b)[1:]
    found = entropy_production(ring(d=2), 0.05, period=[RING, None], features=mixed)
    assert not found.significant
    with pytest.raises(ValueError, match=r"as xs\[\.\.\., 0\] is an angle"):
        entropy_production(
            ring(d=2), 0.05, period=[RING, None], features=lambda a, b: (b - a)[1:] * (a + b)[:1]
        )


def test_a_score_on_the_ring():
    """Flat: the score is zero and the drift 1.2; in single precision, and far from the first turn, too."""
    still, driven = ring(), ring(1.2)
    on_it = {"period": RING, "method": "score", "score": lambda x: 0 * jnp.sin(x)}
    for xs in (driven, np.asarray(driven + 100 * RING, np.float32)):
        found = entropy_production(xs, 0.05, drift=lambda x: 1.2 + 0 * jnp.cos(x), **on_it)
        assert abs(found.corrected - 1.44) < 4 * found.stderr
    found = entropy_production(still, 0.05, drift=lambda x: 1.2 + 0 * jnp.cos(x), **on_it)
    assert not found.significant


def test_a_long_clock_is_even_in_single_precision():
    """20 000 steps of a thousandth: float32 rounds the last ones by a thousandth of themselves."""
    xs = np.float32(np.random.default_rng(0).standard_normal((20_001, 2)))
    ts = np.linspace(0, 20, 20_001, dtype=np.float32)
    assert abs(np.diff(ts) / 1e-3 - 1).max() > 1e-3
    found = entropy_production(tjx.Path(jnp.asarray(ts), jnp.asarray(xs)))
    same = entropy_production(jnp.asarray(xs), jnp.float32(1e-3))
    np.testing.assert_allclose(found.rate, same.rate, rtol=1e-3, atol=1e-6)
    uneven = np.float32(ts + 2e-5 * (np.arange(20_001) % 2))
    with pytest.raises(ValueError, match="all pairs must lie one time apart"):
        entropy_production(tjx.Path(jnp.asarray(uneven), jnp.asarray(xs)))


def test_short_parts_are_parts():
    parts = list(np.random.default_rng(0).standard_normal((400, 3, 4)))
    assert entropy_production(parts, 0.1) is not None
    with pytest.raises(ValueError, match="Transpose it"):
        entropy_production(parts[0], 0.1)
