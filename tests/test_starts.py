"""Where a search begins: no unit changes what it finds, numbers of every kind are seen, and the start has its price."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thermojax as tjx

P, D, O = tjx.protocols, tjx.densities, tjx.optimal

KEY = jax.random.key(0)


def go(loss, start, **options):
    call = inspect.unwrap(O.search)  # as users meet it: without type checks
    return call(loss, start, KEY, **({"steps": 150, "progress": False, "prices": 2} | options))


def drag_cost(length, energy, distance=5.0):
    """The mean work of dragging a trap, exactly, on a grid of 16 steps, with lengths and energies in these units."""
    decay, reach = np.exp(-1 / 16), distance * length

    def loss(drive, key):
        lam = jax.vmap(drive)((jnp.arange(16.0) + 0.5) / 16)
        jumps = jnp.diff(jnp.concatenate([drive.before[None], lam, drive.after[None]]))

        def step(mean, now):
            turn, there = now
            # work of the turn, at the mean before it: k (lam' - lam) ((lam + lam')/2 - mean)
            return decay * mean + (1 - decay) * there[1], turn * (
                0.5 * (there[0] + there[1]) - mean
            )

        lams = jnp.concatenate([drive.before[None], lam, drive.after[None]])
        pairs = jnp.stack([lams[:-1], lams[1:]], axis=1)
        _, works = jax.lax.scan(step, 0.0 * lam[0], (jumps, pairs))
        return energy * jnp.sum(works) / length**2

    return loss, P.ramp(0.0, reach, 1.0, knots=9)


@pytest.fixture(scope="module")
def plain():
    return go(*drag_cost(1.0, 1.0))


@pytest.mark.parametrize(
    ("length", "energy"), [(1e-9, 1.0), (1e-7, 1e-21), (0.393700787, 4.114), (1e6, 1e9)]
)
def test_no_unit_changes_what_is_found(plain, length, energy):
    """Lengths in metres, energies in joules, inches: the same protocol, in its unit."""
    found = go(*drag_cost(length, energy))
    rtol = (
        1e-3 if jax.config.jax_enable_x64 else 2e-2
    )  # Adam makes steps of rounding where the slope is zero
    np.testing.assert_allclose(found.found.values / length, plain.found.values, rtol=rtol)
    assert float(found.price.value) / energy == pytest.approx(float(plain.price.value), rel=rtol)
    assert float(found.price.value) < float(found.start_price.value)


def test_the_start_has_its_price(plain):
    """The plain ramp costs about 25/e, what is found about 25/3."""
    assert float(plain.start_price.value) == pytest.approx(25 / np.e, rel=1e-2)
    assert float(plain.price.value) == pytest.approx(25 / 3, rel=1e-2)


def test_a_start_that_does_not_move_has_a_stride_of_its_size():
    """A constant stiffness of 2e-6: the target at 3e-6 is found; by steps of 0.1 it would be missed by far."""
    start = P.ramp(2e-6, 2e-6, 1.0, knots=3)
    loss = lambda drive, key: jnp.sum((1e6 * drive.values - 3.0) ** 2)
    found = go(loss, start)
    np.testing.assert_allclose(found.found.values, 3e-6, rtol=1e-2)
    tame = go(
        lambda drive, key: jnp.sum((1e6 * drive.physical.values - 3.0) ** 2), P.positive(start)
    )
    np.testing.assert_allclose(tame.found.physical.values, 3e-6, rtol=1e-2)


def test_each_component_has_its_own_stride():
    """A stiffness of 1e-6 beside a place of 1e3, in one array and in a dict; and a zero among them."""
    values = jnp.stack([jnp.linspace(1e-6, 2e-6, 3), jnp.linspace(0.0, 1e3, 3), jnp.zeros(3)], 1)
    goal, scale = jnp.array([1.5e-6, 700.0, 3.0]), jnp.array([1e6, 1e-3, 1.0])
    cost = lambda v: jnp.sum((scale[None] * (v - goal[None])) ** 2)
    ts = jnp.linspace(0.0, 1.0, 3)
    found = go(
        lambda drive, key: cost(drive.values), P.Piecewise(ts, values), steps=300
    ).found.values
    np.testing.assert_allclose(found[:, :2], jnp.broadcast_to(goal[:2], (3, 2)), rtol=2e-2)
    parts = {"k": values[:, 0], "x": values[:, 1]}
    two = lambda drive, key: cost(
        jnp.stack([drive.values["k"], drive.values["x"], 3 + 0 * drive.values["x"]], 1)
    )
    found = go(two, P.Piecewise(ts, parts)).found.values
    np.testing.assert_allclose(found["k"], goal[0], rtol=2e-2)
    np.testing.assert_allclose(found["x"], goal[1], rtol=2e-2)


@pytest.mark.filterwarnings("ignore:.*too coarse:UserWarning")
def test_a_search_that_makes_it_worse_says_so():
    """An optimizer in the wrong unit throws the protocol far away: the start is named as the cheaper one."""
    loss, start = drag_cost(1e-7, 1.0, 1.0)
    with pytest.warns(UserWarning, match=r"made it worse: .* its start 0\.36.*Keep the start"):
        found = go(loss, start, optimizer=optax.adam(0.1), steps=3)
    assert float(found.price.value) > 1e6
    with pytest.warns(UserWarning, match=r"too coarse.*by its check, what was found is dearer"):
        go(loss, start, optimizer=optax.adam(0.1), steps=3, check=lambda p, k: 2 * loss(p, k))


# ---- a search without noise


@pytest.mark.parametrize(("by", "agrees"), [(1.0009, True), (1.003, True), (1.05, False)])
def test_prices_without_noise_agree_within_a_share(by, agrees):
    loss = lambda p, key: jnp.sum((p.values - 1.0) ** 2) + 2.0
    check = lambda p, key: by * loss(p, key)
    if agrees:
        found = go(loss, P.ramp(0.0, 1.0, 1.0), steps=5, check=check)
    else:
        with pytest.warns(UserWarning, match=r"4\.8% apart, 1% is allowed where there is no noise"):
            found = go(loss, P.ramp(0.0, 1.0, 1.0), steps=5, check=check)
    assert found.agrees is agrees


def test_rounding_beside_zero_is_no_disagreement():
    loss = lambda p, key: jnp.sum((p.values - 1.0) ** 2)
    found = go(loss, P.ramp(0.0, 0.5, 1.0), steps=300, check=lambda p, key: 3 * loss(p, key))
    assert float(found.price.value) < 1e-6
    assert found.agrees is True


def test_prices_with_noise_agree_by_their_errors_alone():
    """Half a per cent apart, at an error a hundred times smaller: they do not."""
    noisy = lambda p, key: 2.0 + 1e-4 * jax.random.normal(key) + 0 * jnp.sum(p.values)
    with pytest.warns(UserWarning, match="standard errors apart, 4 are allowed"):
        found = go(
            noisy, P.ramp(0.0, 1.0, 1.0), steps=2, prices=8, check=lambda p, k: 1.005 * noisy(p, k)
        )
    assert found.agrees is False


# ---- numbers of every kind


@pytest.mark.parametrize(
    "zero", [0.0, np.float64(0.0), np.float32(0.0), np.zeros(2), np.zeros(1, np.float32)]
)
def test_python_and_numpy_numbers_are_searched(zero):
    loss = lambda s, key: jnp.sum((jnp.asarray(s["a"], float) - 1.0) ** 2) + jnp.sum(s["b"] ** 2)
    found = go(loss, {"a": zero, "b": jnp.ones(1), "n": 3, "yes": True})
    np.testing.assert_allclose(found.found["a"], 1.0, atol=1e-2)
    assert isinstance(found.found["a"], jax.Array)
    assert found.found["n"] == 3
    assert found.found["yes"] is True


class Tilt(P.AbstractProtocol):
    """A protocol of one's own, made of Python numbers."""

    height: float
    t0: float = 0.0
    t1: float = 1.0
    before: float = 0.0
    after: float = 1.0

    def __call__(self, t):
        return self.height * t

    def given(self):
        return self.t0, self.t1, self.before, self.after


def test_a_protocol_of_python_numbers_is_searched_and_its_ends_are_not():
    found = go(lambda p, key: (p(1.0) - 3.0) ** 2, Tilt(2.0)).found
    assert float(found.height) == pytest.approx(3.0, rel=1e-2)
    assert [float(v) for v in found.given()] == [0.0, 1.0, 0.0, 1.0]


class Line(eqx.Module):
    slope: jax.Array
    rate: float

    def __call__(self, t):
        return self.slope * t + self.rate


def test_the_settings_of_a_module_are_left_and_named():
    start = P.Function(Line(jnp.asarray(0.5), 0.25), 1.0)
    with pytest.warns(UserWarning, match=r"protocol\.fn\.rate: a Python number inside a module"):
        found = go(lambda p, key: (p(1.0) - 3.0) ** 2, start, steps=400)
    assert found.found.fn.rate == 0.25
    assert float(found.found(1.0)) == pytest.approx(3.0, rel=1e-2)


def test_what_cannot_be_searched_is_named():
    with pytest.raises(TypeError, match=r"protocol\['z'\] is complex"):
        go(lambda s, key: jnp.abs(s["z"]), {"z": 1j})
    with pytest.raises(ValueError, match=r"floating-point leaves are searched \(0\.0, not 0\)"):
        go(lambda s, key: 1.0 * s["n"], {"n": 0})
