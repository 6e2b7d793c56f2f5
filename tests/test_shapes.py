"""As many coordinates as the functions read, as many controls as there are: nothing is clamped, nothing spreads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax import potentials
from thermojax.densities import Boltzmann, Gaussian
from thermojax.protocols import ramp

pytestmark = pytest.mark.filterwarnings("ignore:The step is too long")

TS = jnp.linspace(0.0, 1.0, 3)
KEY = jax.random.key(0)
two = jnp.array([0, 1])
READS = {
    "x[1]": lambda x, lam: 0.5 * (x[0] - lam) ** 2 + 2 * x[1] ** 2,
    "x[-2]": lambda x, lam: jnp.sum((x - lam) ** 2) + x[-2] ** 2,
    "x[[0, 1]]": lambda x, lam: jnp.sum((x[two] - lam) ** 2),
    "within a scan": lambda x, lam: jax.lax.scan(
        lambda c, i: (c + x[1] ** 2, None), lam * x[0], two
    )[0],
    "within a jit": lambda x, lam: jax.jit(lambda y: y[1] ** 2 - lam)(x),
}
VERBS = {
    "simulate": lambda p: tjx.simulate(p, TS, KEY),
    "ensemble": lambda p: tjx.ensemble(p, TS, KEY, 2),
    "moments": lambda p: tjx.evolve.moments(p, TS),
    "account": lambda p: tjx.account(p, tjx.Path(TS, jnp.zeros((3, p.initial.mean.size)))),
    "equilibrium": lambda p: Boltzmann(p.system, p.protocol.before, dim=p.initial.mean.size),
}


def process(potential, dim=1, control=0.0, **parts):
    drive = ramp(control, control + jnp.ones_like(control), 1.0)
    return tjx.Process(tjx.Overdamped(potential, **parts), drive, Gaussian(jnp.zeros(dim), 1.0))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", READS)
def test_an_index_out_of_bounds(what, verb):
    with pytest.raises(
        IndexError, match="reads an index outside of an axis of length 1.*coordinates"
    ):
        VERBS[verb](process(READS[what], control=jnp.asarray(0.0)))


def test_other_functions_and_the_control():
    quiet = lambda x, lam: 0.5 * jnp.sum(x**2)
    one = jnp.zeros(1)
    for parts in (
        {"force": lambda x, lam: x.at[1].set(lam[0])},
        {"velocity": lambda x, lam: x[1] + 0 * x},
        {"temperature": lambda lam: 1 + lam[1] ** 2},
    ):
        with pytest.raises(IndexError, match=f"{next(iter(parts))}"):
            tjx.simulate(process(quiet, control=one, **parts), TS, KEY)
    with pytest.raises(IndexError):
        tjx.simulate(process(lambda x, lam: jnp.sum(x**2) * lam[1], control=one), TS, KEY)


def test_indices_that_are_fine():
    """Those within, of either sign; slices; and a mode that was asked for."""
    fine = lambda x, lam: (
        x[1] ** 2 + x[-2] ** 2 + jnp.sum(x[:5] ** 2) + x.at[7].get(mode="clip") * lam
    )
    assert tjx.simulate(process(fine, 2, jnp.asarray(0.0)), TS, KEY).path.ok


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("dim", "controls"), [(1, 2), (2, 1)])
def test_one_number_for_several(verb, dim, controls):
    bare = lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2)
    for potential, words in (
        (bare, "spreads one number"),
        (potentials.MovingTrap(1.0), "lam must be"),
    ):
        with pytest.raises(ValueError, match=words):
            VERBS[verb](process(potential, dim, jnp.zeros(controls)))


def test_meant_to_spread():
    """One bead between two traps: x[0] says so."""
    between = lambda x, lam: 0.5 * jnp.sum((x[0] - lam) ** 2)
    found = tjx.evolve.moments(process(between, 1, jnp.array([0.0, 0.0])), TS)
    np.testing.assert_allclose(found.cov[0], [[1.0]])
    basis = lambda x, lam: jnp.sum(lam * jnp.cos(jnp.arange(2.0) * x)) + jnp.sum(x**2)
    assert tjx.simulate(process(basis, 1, jnp.zeros(2)), TS, KEY).path.ok


@pytest.mark.parametrize(
    "potential",
    [
        potentials.Harmonic(jnp.ones(2)),
        potentials.Harmonic(1.0, jnp.zeros(2)),
        potentials.MovingTrap(jnp.ones(2)),
        potentials.Breathing(jnp.zeros(2)),
        potentials.DoubleWell(jnp.ones(2)),
        potentials.Quartic(jnp.ones(2)),
        potentials.Ring(1.0, jnp.ones(2)),
    ],
    ids=lambda p: type(p).__name__,
)
def test_parameters_of_the_catalogue(potential):
    with pytest.raises(ValueError, match="must be a scalar or one number per coordinate"):
        potential(jnp.zeros(1), 1.0)
    assert np.isfinite(potential(jnp.zeros(2), 1.0))


def test_a_mobility_matrix_names_the_cure():
    """In coordinates of its root the work is that of the matrix: of a start and a path mapped along."""
    with pytest.raises(ValueError, match="got a matrix.*x = L y"):
        tjx.simulate(
            process(READS["x[1]"], 2, jnp.asarray(0.0), mobility=lambda lam: jnp.eye(2) + 0 * lam),
            TS,
            KEY,
        )
