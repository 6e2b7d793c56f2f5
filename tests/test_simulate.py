"""simulate and ensemble: the same numbers whatever is saved, however many, however differentiated, wherever run."""

import functools as ft
import os
import subprocess
import sys
import textwrap

import chex
import diffrax as dfx
import equinox as eqx
import hurry
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from compare import close
from numpy.testing import assert_allclose, assert_array_equal
from systems import ADJOINTS, CASES, GRID, KNOTS, LAMS, THETA, WELL, uneven

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.potentials import MovingTrap
from thermojax.protocols import Piecewise, ramp

KEY = jax.random.key(11)


# The same path


@pytest.fixture(scope="module")
def whole():
    return jax.jit(lambda key: tjx.simulate(WELL, GRID, key))(KEY)


@pytest.mark.parametrize(
    ("save", "rows"),
    [("ends", [0, 6]), (2, [0, 2, 4, 6]), (4, [0, 4, 6]), (9, [0, 6])],
)
def test_what_is_saved_does_not_change_it(whole, save, rows):
    got = jax.jit(lambda key: tjx.simulate(WELL, GRID, key, save=save))(KEY)
    rows = np.array(rows)
    assert_allclose(got.path.ts, GRID[rows], rtol=0)
    assert_allclose(got.path.xs, whole.path.xs[rows], rtol=1e-14)
    close(got[1:], whole[1:])


@pytest.mark.parametrize("adjoint", ["recursive", "direct", "forward"])
def test_how_it_is_differentiated_does_not_change_it(whole, adjoint):
    go = lambda key: tjx.simulate(WELL, GRID, key, save=4, adjoint=ADJOINTS[adjoint])
    got = jax.jit(go)(KEY)
    assert_allclose(got.path.xs, whole.path.xs[np.array([0, 4, 6])], rtol=1e-14)
    close(got[1:], whole[1:])


@pytest.fixture(scope="module")
def free():
    """Three steps of free diffusion in two dimensions, for ensembles of several sizes."""
    system = tjx.Overdamped(lambda x, lam: 0 * jnp.sum(x), mobility=0.7, temperature=0.5)
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Gaussian(jnp.zeros(2), 1.0))
    ts = jnp.linspace(0.0, 1.0, 4)
    go = lambda key, n: tjx.ensemble(process, ts, key, n, save="all").path.xs
    return {n: jax.jit(go, static_argnums=1)(KEY, n) for n in (3, 600, 1203)}


def test_a_path_does_not_depend_on_how_many_there_are(free):
    """Across the 500 paths that share a key, too."""
    assert_allclose(free[3], free[1203][:3], rtol=1e-14)
    assert_allclose(free[600], free[1203][:600], rtol=1e-14)


def test_increments(free):
    """None comes twice, and their size is sqrt(2 mu T dt): 7218 of them fix it to 0.8 %."""
    steps = np.asarray(jnp.diff(free[1203], axis=1))
    for drawn in (np.asarray(free[1203][:, 0]), steps):
        assert np.unique(drawn).size == drawn.size
    assert_allclose(np.sqrt(np.mean(steps**2)), np.sqrt(2 * 0.7 * 0.5 / 3), rtol=0.05)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "save"),  # what is saved knows nothing of the system
    [("quartic", "ends"), ("two_baths", "all"), ("several_controls", 5), ("plain_callable", "all")],
)
def test_ensemble_has_the_shape_of_vmap_simulate(name, save):
    process, ts = CASES[name]()
    many = lambda key: tjx.ensemble(process, ts, key, 4, save=save)
    one = lambda key: tjx.simulate(process, ts, key, save=save)
    got = jax.eval_shape(many, KEY)
    want = jax.eval_shape(lambda key: jax.vmap(one)(jax.random.split(key, 4)), KEY)
    kept = {"ends": 2, "all": len(ts), 5: 1 + -(-(len(ts) - 1) // 5)}[save]
    assert jax.tree.structure(got) == jax.tree.structure(want)
    shapes = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
    assert shapes(got) == shapes(want)
    assert got.path.xs.shape == (4, kept, CASES[name]().d)
    assert got.path.ts.shape == (4, kept)
    assert got.path.ok.shape == got.work.shape == (4,)


def test_ensemble_and_simulate_obey_one_ledger():
    """Each path of an ensemble, priced as a stored path."""
    process, ts = CASES["several_controls"]()
    got = jax.jit(lambda key: tjx.ensemble(process, ts, key, 3, save="all"))(KEY)
    stored = tjx.account(process, got.path)
    close(stored[1:], got[1:])


# Against a loop in numpy


def heun_by_hand(x, kicks, ts, force, mobility):
    xs = [x]
    for k, (a, b) in enumerate(zip(ts, ts[1:], strict=False)):
        lam = np.interp((a + b) / 2, KNOTS, LAMS)
        first = mobility * force(x, lam)
        second = mobility * force(x + first * (b - a) + kicks[k], lam)
        x = x + 0.5 * (first + second) * (b - a) + kicks[k]
        xs.append(x)
    return np.array(xs)


@pytest.mark.parametrize("size", [None, 3])
def test_uneven_grid_against_a_loop(size):
    """The noise is read off a free run with the same key: dx = sqrt(2 mu T) dW."""
    ts = uneven()
    still = lambda x, lam: 0 * jnp.sum(x)
    free = eqx.tree_at(lambda p: p.system.potential, WELL, still)
    go = tjx.simulate if size is None else ft.partial(tjx.ensemble, size=size, save="all")
    xs = np.asarray(jax.jit(lambda key: go(free, ts, key).path.xs)(KEY))
    path, work, heat, entropy = jax.jit(lambda key: go(WELL, ts, key))(KEY)
    stiffness, mobility, T = 1.5, 0.7, 0.9
    energy = lambda x, lam: 0.5 * stiffness * (x - lam) ** 2 + 0.1 * x**4
    force = lambda x, lam: -stiffness * (x - lam) - 0.4 * x**3
    t = np.asarray(ts)
    lams = [0.0, *np.interp((t[1:] + t[:-1]) / 2, KNOTS, LAMS), 1.0]
    for i in range(size or 1):
        row = np.s_[:, 0] if size is None else np.s_[i, :, 0]
        kicks = np.diff(xs[row])
        want = heun_by_hand(xs[row][0], kicks, t, force, mobility)
        assert_allclose(np.asarray(path.xs)[row], want, rtol=0, atol=1e-12)
        turns = sum(
            energy(x, b) - energy(x, a) for x, a, b in zip(want, lams, lams[1:], strict=False)
        )
        given = -sum(
            energy(y, lam) - energy(x, lam)
            for x, y, lam in zip(want, want[1:], lams[1:], strict=False)
        )
        total = [np.ravel(v)[i] for v in (work, heat, entropy.medium)]
        assert_allclose(total, [turns, given, given / T], rtol=0, atol=1e-12)


# Compilation


def process_of(stiffness, temperature, stop):
    system = tjx.Overdamped(tjx.potentials.MovingTrap(stiffness), temperature=temperature)
    return tjx.Process(system, ramp(0.0, stop, 1.0), Gaussian(0.0, 1.0))


VALUES = [(1.0, 1.0, 2.0), (2.0, 0.5, 3.0), (3, 2, 1), (4.0, 1.5, 0.3)]  # whole numbers too


@pytest.mark.filterwarnings("ignore:The step is too long")
@pytest.mark.smoke
def test_new_values_do_not_compile_again(caplog):
    def compiled(i):
        caplog.clear()
        with jax.log_compiles():
            tjx.ensemble(process_of(*VALUES[i]), GRID, jax.random.key(i), 3)
        return [r.getMessage() for r in caplog.records if "XLA compilation" in r.getMessage()]

    assert any("_run" in message for message in compiled(0))
    assert not compiled(1)
    assert not any("_run" in message for message in compiled(2))  # but their conversion to floats
    assert not compiled(3)


@pytest.mark.smoke
def test_one_trace_per_shape():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def work(process, key):
        return tjx.ensemble(process, GRID, key, 3).work.mean()

    chex.clear_trace_counter()
    got = [work(process_of(*v), jax.random.key(i)) for i, v in enumerate(VALUES)]
    assert len({float(g) for g in got}) == len(VALUES)


def inner(eqn):
    """The jaxprs within an equation."""
    kinds = (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr)
    leaves = jax.tree.leaves(eqn.params, is_leaf=lambda p: isinstance(p, kinds))
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if isinstance(leaf, kinds)]


def callbacks(jaxpr, in_loop=False):
    """Whether each callback of a jaxpr, at any depth, sits inside the body of a loop."""
    found = []
    for eqn in jaxpr.eqns:
        if "callback" in eqn.primitive.name:
            found.append(in_loop)
        for deeper in inner(eqn):
            found += callbacks(deeper, in_loop or eqn.primitive.name in ("while", "scan"))
    return found


def primitives(jaxpr):
    names = {eqn.primitive.name for eqn in jaxpr.eqns}
    return names.union(*(primitives(deeper) for eqn in jaxpr.eqns for deeper in inner(eqn)))


def by_knots(verb, values):
    process = eqx.tree_at(lambda p: p.protocol.values, WELL, values)
    got = verb(process)
    return jnp.mean(got.work + got.entropy.total)


VERBS = {
    "simulate": lambda process: tjx.simulate(process, GRID, KEY),
    "ensemble": lambda process: tjx.ensemble(process, GRID, KEY, 3),
    "kernel": lambda process: tjx.ensemble(process, GRID, KEY, 3, rule="kernel"),
    "ShARK": lambda process: tjx.ensemble(process, GRID, KEY, 3, solver=dfx.ShARK()),
}


@pytest.mark.smoke
@pytest.mark.parametrize("verb", VERBS)
def test_the_hot_path_has_no_callback(verb):
    fn = ft.partial(by_knots, VERBS[verb])
    for go in (fn, jax.value_and_grad(fn)):
        jaxpr = jax.make_jaxpr(go)(THETA[0]).jaxpr
        assert primitives(jaxpr) & {"scan", "while"}
        assert not callbacks(jaxpr)


@pytest.mark.smoke
@pytest.mark.parametrize("verb", ["simulate", "ensemble"])
def test_traced_values_call_nothing_back(verb):
    """A temperature that is traced, as a number and as a function of the control: it is marked, not called back for."""

    def fn(T):
        system = tjx.Overdamped(WELL.system.potential, temperature=lambda lam: T + lam**2)
        process = eqx.tree_at(lambda p: p.system, WELL, system)
        hot = eqx.tree_at(
            lambda p: p.system, WELL, tjx.Overdamped(WELL.system.potential, temperature=T)
        )
        return by_knots(VERBS[verb], THETA[0]) + sum(
            jnp.mean(VERBS[verb](p).work) for p in (process, hot)
        )

    for go in (fn, jax.value_and_grad(fn)):
        found = callbacks(jax.make_jaxpr(go)(jnp.asarray(1.0)).jaxpr)
        assert found == []


def test_a_callback_in_a_loop_is_seen():
    """Negative control."""

    def body(x, _):
        return eqx.error_if(x, x < 0, "negative"), None

    fn = lambda x: jax.lax.scan(body, x, None, 3)[0]
    assert any(callbacks(jax.make_jaxpr(fn)(1.0).jaxpr))


# Precision and devices


def test_single_precision_is_kept():
    """A state in float32 while JAX's default is float64."""
    one = ft.partial(jnp.asarray, dtype=jnp.float32)
    drive = Piecewise(one([0.0, 1.0]), one([0.0, 2.0]), 0.0, 3.0)
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2), lambda x, lam: 0.1 * x)
    start = Gaussian(one([0.0]), one([1.0]))
    process = tjx.Process(system, drive, start, start)
    knots = lambda values: eqx.tree_at(lambda p: p.protocol.values, process, values)

    def run(values, rule="alternating"):
        got = tjx.ensemble(knots(values), one(GRID), KEY, 3, rule=rule)
        return jnp.mean(got.work), (got.path.ts, got.path.xs, *got[1:])

    for go in (run, ft.partial(run, rule="kernel"), jax.grad(run, has_aux=True)):
        leaves = jax.tree.leaves(jax.eval_shape(go, drive.values))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert tjx.simulate(process, one(GRID), KEY).work.dtype == jnp.float32


def test_sharding():
    """Four devices and one give the same paths, totals and gradient."""
    program = """
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp, numpy as np, thermojax as tjx
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

        assert len(jax.devices()) == 4
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("paths",)), P("paths"))
        system = tjx.Overdamped(tjx.potentials.DoubleWell(1.0), temperature=0.1)
        start = tjx.densities.Gaussian(jnp.zeros(2), 0.2)
        ts, key = jnp.linspace(0.0, 0.5, 6), jax.random.key(0)

        def loss(values, sharding):
            drive = tjx.protocols.Piecewise(jnp.array([0.0, 0.5]), values, 0.0, 1.0)
            process = tjx.Process(system, drive, start, start)
            got = tjx.ensemble(process, ts, key, 1000, save="all", sharding=sharding)
            return got.work.mean(), got

        slope = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
        values = jnp.array([0.2, 0.9])
        (_, one), one_slope = slope(values, None)
        (_, four), four_slope = slope(values, sharding)
        assert one.path.ok.all() and abs(one_slope).min() > 0.05, one_slope  # none leaves the wells
        for a, b in zip(jax.tree.leaves((one, one_slope)), jax.tree.leaves((four, four_slope))):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        made = NamedSharding(jax.make_mesh((4,), ("paths",)), P("paths"))  # explicit axes
        process = tjx.Process(system, tjx.protocols.ramp(0.0, 1.0, 0.5), start)
        run = lambda size, sharding: tjx.ensemble(process, ts, key, size, sharding=sharding)
        assert len(run(8, made).work.sharding.device_set) == 4
        np.testing.assert_allclose(run(8, made).work, run(8, None).work, rtol=1e-12)
        try:
            run(1001, made)
            raise SystemExit("1001 paths were spread over 4 devices")
        except ValueError as error:
            assert "1000 or 1004" in str(error), error
        assert len(four.work.sharding.device_set) == 4, four.work.sharding
        assert len(four.path.xs.sharding.device_set) == 4, four.path.xs.sharding
    """
    flags = f"{hurry.flags()} --xla_force_host_platform_device_count=4"
    environment = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


# ---- a protocol for each path


def each_its_own(values):
    """One trap, a drive for each path, with end jumps."""
    ts = jnp.array([0.0, 0.4, 1.0])
    drives = jax.vmap(lambda v: Piecewise(ts, v, before=0.0, after=v[-1] + 1.0))(values)
    system = tjx.Overdamped(MovingTrap(1.5), temperature=lambda lam: 1.0 + lam**2)
    return tjx.Process(system, drives, Gaussian(0.0, 0.5), Gaussian(1.0, 0.7))


KNOTS_OF_EACH = jnp.array([[0.0, 1.0, 2.0], [0.5, 0.2, -1.0], [1.0, 1.0, 0.3]])


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_each_path_may_have_its_own_protocol(rule):
    """Path i of the run is path i of a run in which all have the protocol of path i; so is all that is made of it."""
    process, ts = each_its_own(KNOTS_OF_EACH), jnp.linspace(0.0, 1.0, 6)
    run = tjx.ensemble(process, ts, jax.random.key(8), 3, save="all", rule=rule)
    back = tjx.reverse(process)
    mine = (
        run,
        tjx.account(process, run.path, rule=rule),
        tjx.reduced_work(process, run),
        tjx.dissipated_work(process, run),
        tjx.path_ratio(process, back, run.path),
    )
    for i in range(3):
        alone = process.replace(protocol=jax.tree.map(lambda v, i=i: v[i], process.protocol))
        all_alike = tjx.ensemble(alone, ts, jax.random.key(8), 3, save="all", rule=rule)
        theirs = (
            all_alike,
            tjx.account(alone, all_alike.path, rule=rule),
            tjx.reduced_work(alone, all_alike),
            tjx.dissipated_work(alone, all_alike),
            tjx.path_ratio(alone, tjx.reverse(alone), all_alike.path),
        )
        close(*(jax.tree.map(lambda v, i=i: v[i], tree) for tree in (mine, theirs)))


def test_a_protocol_for_each_path_differentiates():
    """The work of a path depends on its own knots alone."""
    ts = jnp.linspace(0.0, 1.0, 6)

    def works(values):
        return tjx.ensemble(each_its_own(values), ts, jax.random.key(8), 3).work

    slope = jax.jit(jax.jacrev(works))(KNOTS_OF_EACH)
    assert slope.shape == (3, 3, 3)
    own = slope[jnp.arange(3), jnp.arange(3)]
    assert (jnp.abs(own).sum(1) > 0.1).all()
    assert_array_equal(slope.at[jnp.arange(3), jnp.arange(3)].set(0), 0)


def test_a_protocol_for_each_path_is_checked():
    process, ts = each_its_own(KNOTS_OF_EACH), jnp.linspace(0.0, 1.0, 6)
    with pytest.raises(ValueError, match=r"protocol for each of 3 paths.*size=4"):
        tjx.ensemble(process, ts, jax.random.key(8), 4)
    with pytest.raises(ValueError, match=r"protocol for each of 3 paths.*size=None"):
        tjx.simulate(process, ts, jax.random.key(8))
    with pytest.raises(ValueError, match=r"span \[0\.0, 1\.0\], got a grid from 0\.0 to 1\.5"):
        tjx.ensemble(process, 1.5 * ts, jax.random.key(8), 3)
    with pytest.raises(ValueError, match="takes one protocol"):
        tjx.evolve.moments(process, ts)
    some = process.replace(protocol=eqx.tree_at(lambda p: p.before, process.protocol, 0.0 * ts[0]))
    with pytest.raises(ValueError, match="paths as leading axis of all of its arrays"):
        tjx.ensemble(some, ts, jax.random.key(8), 3)


@pytest.mark.filterwarnings("ignore:A part of the protocol is run")
def test_grids_and_spans_of_a_protocol_for_each_path():
    """As many knots as the grid has times: what is the paths' is not taken for the grid's."""
    knots = jnp.linspace(0.0, 2.0, 6)
    drives = jax.vmap(lambda v: Piecewise(knots, v * knots))(jnp.array([1.0, 2.0, 3.0]))
    system = tjx.Overdamped(MovingTrap(1.5))
    process = tjx.Process(system, drives, Gaussian(0.0, 0.5), Gaussian(1.0, 0.7))
    grid = tjx.reverse_grid(process, knots / 2)
    assert_array_equal(grid, (2.0 - knots / 2)[::-1])
    shared = process.replace(protocol=ramp(0.0, 1.0, 2.0))
    run = tjx.ensemble(process, knots, jax.random.key(3), 3, save="all")
    assert tjx.path_ratio(process, tjx.reverse(shared), run.path).shape == (3,)
    other = tjx.reverse(process.replace(protocol=ramp(0.0, 1.0, 3.0)))
    with pytest.raises(ValueError, match="must share one span"):
        tjx.path_ratio(process, other, run.path)
    with pytest.raises(ValueError, match="sample_path takes one protocol"):
        tjx.sample_path(process, tjx.euler, knots, jax.random.key(3))


@pytest.mark.parametrize(
    "of", [tjx.account, lambda p, path: tjx.path_ratio(p, tjx.reverse(p), path)]
)
def test_a_run_that_is_priced_in_the_same_trace_calls_nothing_back(of):
    ts = jnp.linspace(0.0, 1.0, 6)
    both = jax.jit(lambda key: of(WELL, tjx.simulate(WELL, ts, key).path))
    assert "callback" not in both.lower(KEY).as_text()
