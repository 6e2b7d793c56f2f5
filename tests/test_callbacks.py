"""Nothing is called back to the host: what is built and run inside a trace can be exported, and marks what is wrong."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian, Mixture
from thermojax.potentials import MovingTrap, Quartic
from thermojax.protocols import Piecewise, Steps, ramp

TS = jnp.linspace(0.0, 1.0, 5)
KEY = jax.random.key(0)


def built(v):
    """Everything made inside the trace, of a traced number."""
    system = tjx.Overdamped(MovingTrap(v), mobility=v, temperature=lambda lam: v + 0 * lam)
    start, end = Boltzmann(system, v), Gaussian(v, v)
    knots = Piecewise(jnp.array([0.0, 0.4, 1.0]) * (v / v), jnp.array([0.0, 0.6, 1.0]) * v, v, v)
    return tjx.Process(system, knots, start, end)


def evolved(v):
    process = built(v)
    constant = process.replace(system=tjx.Overdamped(MovingTrap(v), mobility=v, temperature=v))
    return tjx.evolve.moments(constant, TS * (v / v)).work[-1]


def priced(v):
    path = tjx.Path(TS * (v / v), jnp.ones((5, 1)) * v)
    run = tjx.account(built(v), path)
    return (
        run.work
        + tjx.reduced_work(built(v), run)
        + tjx.path_ratio(built(v), tjx.reverse(built(v)), path)
    )


VERBS = {
    "simulate": lambda v: tjx.simulate(built(v), TS * (v / v), KEY).work,
    "ensemble": lambda v: tjx.ensemble(built(v), TS, KEY, 3, rule="kernel").entropy.total,
    "account": priced,
    "moments": evolved,
    "quadrature": lambda v: Boltzmann(tjx.Overdamped(Quartic(v)), v, nodes=101).log_partition(),
    "walls": lambda v: Boltzmann(tjx.Overdamped(MovingTrap(v)), v, bounds=(-v, v)).sample(KEY),
    "mixture": lambda v: Mixture(jnp.stack([v, v]), [Gaussian(0.0, v), Gaussian(v, v)]).log_prob(
        v[None]
    ),
    "steps": lambda v: Steps(jnp.stack([0 * v, v]), v[None])(0.5 * v),
    "jarzynski": lambda v: tjx.estimators.jarzynski(jnp.arange(4.0) * v).value,
    "bar": lambda v: tjx.estimators.bar(jnp.arange(4.0) * v, jnp.arange(4.0) - v).value,
}


@pytest.mark.parametrize("name", VERBS)
def test_no_callback(name):
    program = str(jax.make_jaxpr(VERBS[name])(jnp.asarray(1.0)))
    assert "callback" not in program
    assert "callback" not in str(jax.make_jaxpr(jax.vmap(VERBS[name]))(jnp.ones(2)))


def test_export():
    """A jitted run is exported, which refuses callbacks, and gives the same numbers."""
    run = jax.jit(lambda v: tjx.simulate(built(v), TS, KEY).work)
    exported = jax.export.export(run)(jax.ShapeDtypeStruct((), TS.dtype))
    again = exported.call(jnp.asarray(1.3))
    np.testing.assert_allclose(again, run(jnp.asarray(1.3)), rtol=1e-12)


def test_a_value_that_is_not_allowed_is_marked():
    """Where it is traced; where it is known it raises, as ever."""
    start = Gaussian(0.0, 1.0)

    @jax.jit
    def run(temperature, ts):
        system = tjx.Overdamped(MovingTrap(1.0), temperature=temperature)
        return tjx.simulate(tjx.Process(system, ramp(0.0, 1.0, 1.0), start), ts, KEY)

    assert bool(run(1.0, TS).path.ok)
    for bad in (run(-1.0, TS), run(1.0, TS.at[2].set(0.1)), run(jnp.nan, TS)):
        assert not bool(bad.path.ok)
        assert np.isnan(bad.work)
        with pytest.raises(ValueError, match="failed|finite"):
            tjx.estimators.jarzynski(jnp.stack([bad.work, bad.work]))

    @jax.jit
    def later(ts):
        steps = Steps(jnp.array([0.0, 1.0]), jnp.array([0.3]))  # knows no NaN
        process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), steps, start)
        path = tjx.Path(ts, jnp.ones((5, 1)))
        return tjx.account(process, path).work, tjx.evolve.moments(process, ts).work[-1]

    assert np.isfinite(later(TS)).all()
    assert np.isnan(later(TS.at[2].set(0.1))).all()

    bounded = jax.jit(
        lambda b: Boltzmann(tjx.Overdamped(Quartic(1.0)), 1.0, bounds=(-b, b), nodes=11).sample(KEY)
    )
    assert np.isfinite(bounded(2.0)).all()
    assert np.isnan(bounded(1e6)).all()  # not resolved


def test_the_switch_that_raises(monkeypatch):
    monkeypatch.setenv("THERMOJAX_CHECKS", "raise")
    density = jax.jit(lambda c: Gaussian(0.0, c).log_prob(jnp.zeros(1)))
    with pytest.raises(Exception, match="Gaussian.cov must be finite and greater than zero"):
        jax.block_until_ready(density(-1.0))
