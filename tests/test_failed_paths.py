"""Paths that leave the finite numbers are frozen and marked, and the others, their gradients too, never notice."""

import functools as ft
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import central, close, flat, strong
from numpy.testing import assert_allclose
from systems import SOLVERS

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.protocols import Piecewise

KEY = jax.random.key(11)
SIZE = 16


class Hill(eqx.Module):
    """Unstable beyond |x| = 1."""

    scale: jax.Array

    def __call__(self, x, lam):
        return jnp.sum(self.scale * (0.5 * x**2 - 0.25 * x**4) - 0.1 * lam * x)


class Wall(eqx.Module):
    """No energy at all on the far side of a wall at lam."""

    scale: jax.Array

    def __call__(self, x, lam):
        return jnp.sum(0.5 * (x - 3) ** 2 - self.scale * jnp.log(x - lam))


class Failing(NamedTuple):
    """What some paths of it come to grief on, and how."""

    potential: eqx.Module
    values: tuple  # of a drive from `before` over two knots to `after`
    before: float
    after: float
    start: tuple  # mean and variance
    ts: jax.Array
    temperature: float


def even(t1, n):
    return jnp.linspace(0.0, t1, n + 1)


KINDS = {
    "explodes": Failing(
        Hill(jnp.asarray(1.0)), (0.2, 0.6), 0.1, 0.5, (0.0, 1.5), even(6.0, 40), 0.02
    ),
    "starts behind the wall": Failing(
        Wall(jnp.asarray(2.0)), (0.0, 0.1), 0.0, 0.0, (0.5, 1.0), even(0.4, 8), 0.2
    ),
    "is met by the wall": Failing(
        Wall(jnp.asarray(0.05)), (0.0, 1.7), 0.0, 1.7, (1.2, 0.02), even(1.0, 20), 0.5
    ),
    "ends behind the wall": Failing(
        Wall(jnp.asarray(0.3)), (0.0, 0.1), 0.0, 1.5, (1.5, 0.3), even(0.1, 4), 0.2
    ),
}
RUNS = [("explodes", solver) for solver in ("default", "Euler", "ShARK")]
RUNS += [(kind, "default") for kind in list(KINDS)[1:]]


def trained(process):
    return process.protocol.values, process.system.temperature.value, process.system.potential.scale


@ft.cache
def failing(kind, solver, verb):
    """The compiled loss over the healthy paths with its gradient, and what it is differentiated by."""
    potential, values, before, after, start, ts, temperature = KINDS[kind]
    drive = Piecewise(ts[jnp.array([0, -1])], jnp.array(values), before, after)
    system, start = tjx.Overdamped(potential, temperature=temperature), Gaussian(*start)
    process = tjx.Process(system, drive, start, start)

    def loss(theta):
        p = eqx.tree_at(trained, process, theta)
        if verb == "ensemble":
            got = tjx.ensemble(p, ts, KEY, SIZE, solver=SOLVERS[solver], save="all")
        else:
            one = lambda key: tjx.simulate(p, ts, key, solver=SOLVERS[solver])
            got = jax.vmap(one)(jax.random.split(KEY, SIZE))
        each = got.work + 0.3 * got.heat + got.entropy.total + 0.1 * got.path.xs[:, -1, 0] ** 2
        return jnp.mean(jnp.where(got.path.ok, each, 0)), got

    return process, jax.jit(jax.value_and_grad(loss, has_aux=True)), strong(trained(process))


every_failure = pytest.mark.parametrize(("kind", "solver"), RUNS)
both_verbs = pytest.mark.parametrize("verb", ["ensemble", "simulate"])


@both_verbs
@every_failure
def test_a_failed_path_is_frozen_and_marked(kind, solver, verb):
    process, fn, theta = failing(kind, solver, verb)
    (_, got), _ = fn(theta)
    ok = np.asarray(got.path.ok)
    assert 2 <= ok.sum() <= SIZE - 2
    assert np.isfinite(got.path.xs).all()
    for leaf in jax.tree.leaves(got[1:]):
        assert (np.isfinite(leaf) == ok).all()
    # the failed ones stop, and stay
    moving = np.asarray(jnp.diff(got.path.xs[..., 0], axis=1) != 0)
    assert moving[ok].all()
    assert (np.diff(moving[~ok].astype(int), axis=1) <= 0).all()
    # the others have the ledger of their own path
    stored = tjx.account(process, tjx.Path(got.path.ts[ok], got.path.xs[ok]))
    close(stored[1:], jax.tree.map(lambda v: v[ok], got[1:]), 1e-11)


@both_verbs
@every_failure
def test_a_failed_path_does_not_poison_the_gradient(kind, solver, verb):
    _, fn, theta = failing(kind, solver, verb)
    (_, got), gradient = fn(theta)

    def value(theta):
        (value, again), _ = fn(theta)
        assert (again.path.ok == got.path.ok).all()
        return value

    assert np.isfinite(flat(gradient)).all()
    assert np.abs(got.path.xs[got.path.ok]).max() < 10
    assert_allclose(flat(gradient), central(value, theta, 1e-6), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
def test_a_failed_path_has_the_derivative_of_where_it_stopped(mode):
    process, fn, theta = failing("is met by the wall", "default", "ensemble")
    (_, got), _ = fn(theta)
    ts, ok = KINDS["is met by the wall"].ts, got.path.ok

    def loss(theta):
        got = tjx.ensemble(eqx.tree_at(trained, process, theta), ts, KEY, SIZE, save="all")
        stopped = jnp.where(ok, 0, got.path.xs[:, -1, 0])
        return jnp.mean(stopped + jnp.where(ok, got.work + 0.3 * got.heat, 0))

    assert 2 <= ok.sum() <= SIZE - 2
    want = central(jax.jit(loss), theta, 1e-6)
    assert (np.abs(want) > 1e-3).all()
    assert_allclose(flat(jax.jit(mode(loss))(theta)), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("verb", ["account", "running totals", "path_ratio"])
@pytest.mark.parametrize("gap", ["a missing state", "a state behind a wall"])
def test_a_failed_recording_does_not_poison_the_gradient(gap, verb):
    """The energy is infinite at x = 0, by which a missing state is replaced, too."""
    ts = even(1.0, 5)
    xs = 2.0 + jax.random.uniform(KEY, (3, 6, 1))
    path = tjx.Path(ts, xs.at[1, 3].set(np.nan if gap == "a missing state" else -1.0))

    def loss(scale, path):
        wall = tjx.Overdamped(Wall(scale))
        drive = tjx.protocols.ramp(0.0, 0.5, 1.0)
        process = tjx.Process(wall, drive, Gaussian(2.0, 1.0), Gaussian(2.5, 1.0))
        if verb == "path_ratio":
            price = tjx.path_ratio(process, tjx.reverse(process), path)
            return jnp.sum(jnp.where(jnp.isfinite(price), price, 0.0))
        got = tjx.account(process, path, cumulative=verb == "running totals")
        return jnp.sum(jnp.where(jnp.isfinite(got.work + got.heat), got.work - 0.3 * got.heat, 0.0))

    scale = jnp.asarray(1.3)
    fine = path._replace(xs=path.xs[jnp.array([0, 2])])
    for derivative in (jax.grad, jax.jacfwd):
        got, want = (jax.jit(derivative(loss))(scale, p) for p in (path, fine))
        assert abs(want) > 1e-2
        if (gap, verb) != ("a state behind a wall", "path_ratio"):  # a force has no wall
            assert_allclose(got, want, rtol=1e-12)
        assert np.isfinite(got)
