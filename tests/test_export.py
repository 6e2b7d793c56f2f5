"""Labelled arrays: names, shapes, units, and a netCDF file there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.potentials import MovingTrap
from thermojax.protocols import ramp

xarray = pytest.importorskip("xarray")

TS = jnp.linspace(0.0, 1.0, 5)


def process(dim=1, final=None, **parts):
    start = Gaussian(jnp.zeros(dim), 1.0)
    return tjx.Process(tjx.Overdamped(MovingTrap(1.0), **parts), ramp(0.0, 1.0, 1.0), start, final)


@pytest.fixture(scope="module")
def run():
    given = process(2, Gaussian(jnp.ones(2), 1.0), temperature=jnp.array([1.0, 2.0]))
    return given, tjx.ensemble(given, TS, jax.random.key(0), 3, save="all")


def test_there_and_back(run, tmp_path):
    data = tjx.export.to_xarray(run[1], energy="pN nm", length="nm", time="s")
    assert dict(data.sizes) == {"path": 3, "time": 5, "coordinate": 2, "bath": 2}
    assert data.work.dims == ("path",)
    assert data.heat.dims == ("path", "bath")
    assert "time" in data.coords
    units = {name: data[name].attrs["units"] for name in ("work", "x", "time", "entropy_total")}
    assert units == {"work": "pN nm", "x": "nm", "time": "s", "entropy_total": "nat"}
    data.to_netcdf(tmp_path / "run.nc", engine="scipy")
    again = xarray.load_dataset(tmp_path / "run.nc", engine="scipy")
    xarray.testing.assert_identical(again, data)
    np.testing.assert_array_equal(again.x, run[1].path.xs)
    np.testing.assert_array_equal(again.entropy_total, run[1].entropy.total)
    assert list(data[["work", "ok"]].to_dataframe().columns) == ["work", "ok"]


def drag():
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
    start = tjx.densities.Gaussian(jnp.zeros(1), 0.5)
    return tjx.Process(system, tjx.protocols.ramp(0.0, 0.1, 1.0), start)


def test_kinds_of_results(run):
    given, many = run
    one = tjx.Path(*(v[0] for v in many.path))
    totals = tjx.export.to_xarray(tjx.account(given, one))
    assert totals.work.dims == ()
    running = tjx.export.to_xarray(tjx.account(given, many.path, cumulative=True))
    assert running.heat.dims == ("path", "time", "bath")
    later = many.path._replace(ts=many.path.ts * jnp.array([[1.0], [0.5], [0.2]]))
    assert tjx.export.to_xarray(tjx.account(given, later)).t.dims == ("path", "time")
    evolved = tjx.export.to_xarray(tjx.evolve.moments(process(), TS))
    assert evolved["cov"].shape == (5, 1, 1)
    assert "entropy_total" in evolved
    assert "reduced_work" in evolved
    cells = tjx.evolve.Grid(-5.0, 6.0, 40)
    spread = tjx.export.to_xarray(tjx.evolve.fokker_planck(drag(), TS, cells))
    assert spread.p.dims == ("time", "x")
    assert float((spread.p.isel(time=-1) * cells.volume).sum()) == pytest.approx(1)
    no_final = tjx.export.to_xarray(tjx.simulate(process(), TS, jax.random.key(1)))
    assert "entropy_total" not in no_final


def test_states(tmp_path):
    """The probabilities of all states; as netCDF by whatever engine xarray picks, as the docstring has it."""
    levels = tjx.Spins(lambda x, lam: -lam * jnp.sum(x))
    states = tjx.systems.spin_states(2)
    start = tjx.densities.States.boltzmann(levels, jnp.asarray(0.0), states)
    found = tjx.evolve.master(tjx.Process(levels, ramp(0.0, 1.0, 1.0), start), TS, states)
    data = tjx.export.to_xarray(found, energy="kT", time="s")
    assert data.p.dims == ("time", "state")
    assert data.states.dims == ("state", "coordinate")
    np.testing.assert_array_equal(data.p, found.p)
    assert (data.p.attrs["units"], data.work.attrs["units"]) == ("1", "kT")
    data.to_netcdf(tmp_path / "states.nc")
    xarray.testing.assert_identical(xarray.load_dataset(tmp_path / "states.nc"), data)


def test_every_other_time():
    """The states are not thinned, though they be as many as the times."""
    levels = tjx.Spins(lambda x, lam: -lam * jnp.sum(x))
    states = tjx.systems.spin_states(2)
    start = tjx.densities.States.boltzmann(levels, jnp.asarray(0.0), states)
    ts = jnp.linspace(0.0, 1.0, 4)
    found = tjx.evolve.master(tjx.Process(levels, ramp(0.0, 1.0, 1.0), start), ts, states)
    less = found.every(2)
    np.testing.assert_array_equal(less.states, states)
    np.testing.assert_array_equal(less.p, found.p[::2])
    np.testing.assert_array_equal(less.entropy.total, found.entropy.total[::2])


def test_an_evolution_of_several_processes_is_refused():
    """As vmap stacks them: `every` took every other process for every other time."""
    system, ts = tjx.Overdamped(tjx.potentials.MovingTrap(1.0)), jnp.linspace(0.0, 1.0, 5)

    def dragged(v):
        process = tjx.Process(system, tjx.protocols.ramp(0.0, v, 1.0), Gaussian(0.0, 1.0))
        return tjx.evolve.moments(process, ts)

    speeds = jnp.array([1.0, 2.0, 3.0])
    many, one = jax.vmap(dragged)(speeds), dragged(2.0)
    process = tjx.Process(system, tjx.protocols.ramp(0.0, 2.0, 1.0), Gaussian(0.0, 1.0))
    for ask in (
        lambda e: e.every(2),
        lambda e: e.at(0.5),
        lambda e: e.score(jnp.zeros(1), 0.5),
        lambda e: e.final,
        tjx.export.to_xarray,
        lambda e: tjx.rates.along(process, e),
        lambda e: tjx.identities.mean_dissipation(process, e),
        lambda e: tjx.identities.entropy_production_rate(process, e),
    ):
        with pytest.raises(ValueError, match=r"of the evolution of one process, .* \(3,\) of them"):
            ask(many)
    fewer = jax.vmap(lambda v: dragged(v).every(2))(speeds)
    assert fewer.mean.shape == (3, 3, 1)
    np.testing.assert_allclose(fewer.work[1], one.work[::2])
    np.testing.assert_allclose(jax.tree.map(lambda v: v[1], many).every(2).work, one.work[::2])


def test_names_that_collide():
    loss = lambda p, key: jnp.sum(p["a b"] ** 2) + jax.random.normal(key)
    start = {"a b": jnp.zeros(3), "a_b": jnp.ones(3), "a_b_0": jnp.ones(())}
    found = tjx.optimal.search(loss, start, jax.random.key(0), steps=2, progress=False)
    data = tjx.export.to_xarray(found)
    names = {v.attrs["long_name"]: k for k, v in data.items() if k.startswith("found")}
    assert len({*names.values()}) == 3
    for key, value in found.found.items():
        np.testing.assert_array_equal(data[names[f"what was found: found[{key!r}]"]], value)


def test_a_search(tmp_path):
    loss = lambda p, key: jnp.sum((p["k"] - 1.0) ** 2) + 0.1 * jax.random.normal(key)
    found = tjx.optimal.search(
        loss, {"k": jnp.zeros(3)}, jax.random.key(0), steps=4, progress=False
    )
    data = tjx.export.to_xarray(found)
    assert data.sizes["step"] == 4
    np.testing.assert_array_equal(data.found_k, found.found["k"])
    assert data.attrs["price"] == pytest.approx(float(found.price.value))
    data.to_netcdf(tmp_path / "search.nc", engine="scipy")


def test_refused(run):
    with pytest.raises(TypeError, match="being traced"):
        jax.jit(lambda r: tjx.export.to_xarray(r).x.data)(run[1])
