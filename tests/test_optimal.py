"""The search: it finds the optima known in closed form, prices them honestly, and cannot beat the second law."""

import inspect
import warnings

import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thermojax as tjx

P, D, O = tjx.protocols, tjx.densities, tjx.optimal

drag = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
breathe = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))


def dragged(knots=17, distance=5.0):
    ramp = P.ramp(0.0, distance, 1.0, knots=knots)
    ends = (D.Boltzmann(drag, lam) for lam in (0.0, distance))
    return tjx.Process(drag, ramp, *ends)


def breathing(protocol):
    return tjx.Process(breathe, protocol, D.Boltzmann(breathe, 1.0), D.Boltzmann(breathe, 4.0))


def search(*args, **options):
    """A search that runs for longer than it compiles."""
    with hurry.at_leisure():
        return O.search(*args, **options)


def exact_work(process, protocol, steps=64):
    driven = tjx.Process(process.system, protocol, process.initial)
    return float(tjx.evolve.moments(driven, jnp.linspace(0.0, 1.0, steps + 1)).work[-1])


@pytest.fixture(scope="module")
def dragging():
    """One search from the plain ramp, by the ready-made loss and default optimiser."""
    process = dragged()
    loss = O.mean_work(process, jnp.linspace(0.0, 1.0, 33), 2000)
    found = search(loss, process.protocol, jax.random.key(0), steps=150, progress=False)
    return process, loss, found


def test_finds_the_moving_trap_with_its_jumps(dragging):
    process, _, found = dragging
    optimum = O.moving_trap(0.0, 5.0, 1.0)
    assert exact_work(process, process.protocol) == pytest.approx(25 / np.e, rel=1e-8)
    assert 0 <= exact_work(process, found.protocol) / float(optimum.work) - 1 < 1e-3
    assert float(found.protocol.values[0]) == pytest.approx(5 / 3, abs=0.1)
    assert float(found.protocol.values[-1]) == pytest.approx(10 / 3, abs=0.1)
    assert (float(found.protocol.before), float(found.protocol.after)) == (0.0, 5.0)
    np.testing.assert_array_equal(found.protocol.ts, process.protocol.ts)


def test_reports_what_it_saw(dragging):
    _, _, found = dragging
    assert found.history.loss.shape == found.history.gradient_norm.shape == (150,)
    assert np.all(np.isfinite(found.history.loss))
    # at an optimum a step sees noise; at the ramp, slope
    assert found.gradient.norm < found.gradient.noise < found.history.gradient_norm[0]
    assert found.agrees is True
    assert 0 < float(found.price.stderr) < 0.05


def test_price_is_on_fresh_noise(dragging):
    """None of the keys that price a result was used to find it: common noise would look better than it is."""
    process, loss, _ = dragging
    few = O.mean_work(process, loss.ts, 8)
    found = search(
        few,
        process.protocol,
        jax.random.key(3),
        steps=150,
        noise="common",
        prices=64,
        progress=False,
    )
    true = exact_work(process, found.protocol)
    assert found.history.loss[-1] < true - 0.5  # 8 paths are fitted below what is possible
    assert abs(float(found.price.value) - true) < 5 * float(found.price.stderr)
    assert float(found.price.value) - 5 * float(found.price.stderr) > found.history.loss[-1]


def test_same_key_same_result_and_one_compilation(dragging):
    process, loss, found = dragging
    traces = []

    def counted(protocol, key):
        traces.append(1)
        return loss(protocol, key)

    first, second = (
        O.search(counted, process.protocol, jax.random.key(0), steps=10, progress=False)
        for _ in "ab"
    )
    assert len(traces) == 1
    np.testing.assert_array_equal(first.protocol.values, second.protocol.values)
    assert first.check_price is None
    assert first.agrees is None  # a plain callable has no check unless one is given
    del found


def test_any_optimizer_and_a_check_of_ones_own(dragging):
    process, loss, _ = dragging
    lbfgs = search(
        loss,
        process.protocol,
        jax.random.key(1),
        steps=10,
        optimizer=optax.lbfgs(),
        noise="common",
        progress=False,
    )
    assert exact_work(process, lbfgs.protocol) < 8.6
    biased = lambda protocol, key: loss(protocol, key) * 1.02
    with pytest.warns(UserWarning, match="standard errors apart"):
        found = search(
            loss,
            process.protocol,
            jax.random.key(1),
            steps=2,
            check=biased,
            prices=64,
            progress=False,
        )
    assert found.agrees is False


def test_any_pytree_is_searched_over_its_floats():
    target = {"a": 2.0, "b": np.array([1.0, -1.0]), "name": "not a number", "n": 3}
    start = {"a": jnp.asarray(0.0), "b": jnp.zeros(2), "name": "not a number", "n": 3}
    loss = lambda s, key: (s["a"] - target["a"]) ** 2 + jnp.sum((s["b"] - target["b"]) ** 2)
    found = O.search(loss, start, jax.random.key(0), steps=300, progress=False)
    assert float(found.price.value) < 1e-6
    assert found.found["n"] == 3
    assert found.protocol is found.found
    assert float(found.price.stderr) < 1e-12


def test_fixed_protocols_and_ends_do_not_move():
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), temperature=lambda lam: lam["T"]
    )
    start = P.Joint(
        {"k": P.positive(P.ramp(1.0, 2.0, 1.0, knots=5)), "T": P.fixed(P.ramp(2.0, 1.0, 1.0))}
    )
    process = tjx.Process(
        system, start, D.Boltzmann(system, start.before), D.Boltzmann(system, start.after)
    )
    loss = O.mean_dissipation(process, jnp.linspace(0, 1, 11), 200)
    found = O.search(loss, start, jax.random.key(0), steps=5, progress=False).protocol
    assert eqx.tree_equal(found.protocols["T"], start.protocols["T"])
    assert eqx.tree_equal((found.before, found.after), (start.before, start.after))
    moved = found.protocols["k"].protocol.values - start.protocols["k"].protocol.values
    assert np.all(np.asarray(moved) != 0)


def test_breathing_trap():
    ramp = P.positive(P.ramp(1.0, 4.0, 1.0, knots=17))
    process = breathing(ramp)
    loss = O.mean_work(process, jnp.linspace(0.0, 1.0, 49), 2000)
    found = search(loss, ramp, jax.random.key(0), steps=200, progress=False)
    optimum = O.breathing_trap(1.0, 4.0, 1.0)
    assert float(optimum.work) == pytest.approx(0.890571785, abs=1e-9)
    assert 0 <= exact_work(process, found.protocol) / float(optimum.work) - 1 < 2e-3
    assert float(found.protocol(0.0)) == pytest.approx(1.392375, abs=0.15)
    assert float(found.protocol(1.0)) == pytest.approx(3.354249, abs=0.3)


# ---- the second law -------------------------------------------------------------------------------------------------

STEPS, WILD = 24, 4


@pytest.fixture(scope="module")
def wild():
    """4 searches with the kernel rule from wild protocols: 16 knots over two decades, jumps at both ends."""
    ts = jnp.linspace(0.0, 1.0, STEPS + 1)
    results = []
    for seed in range(WILD):
        values = 10.0 ** jax.random.uniform(jax.random.key(100 + seed), (16,), minval=-1, maxval=1)
        start = P.bounded(P.Piecewise(jnp.linspace(0.0, 1.0, 16), values, 1.0, 4.0), 0.01, 40.0)
        loss = O.mean_dissipation(breathing(start), ts, 4000, rule="kernel")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a coarse step is what is tested
            found = search(loss, start, jax.random.key(seed), steps=120, prices=16, progress=False)
        results.append((loss, start, found))
    return results


def test_second_law_guard(wild):
    """No descent brings <R> below zero: at most a declared 4.5 standard errors of at most 0.005."""
    for _, _, found in wild:
        assert float(found.price.stderr) <= 0.005
        assert float(found.price.value) > -4.5 * float(found.price.stderr)
    assert min(found.history.loss[0] for _, _, found in wild) > 0.1  # they did start wild


def test_second_law_is_approached_by_the_search(wild):
    """The guard means something: the searches come down to the least <R> that 1 -> 4 in unit time allows."""
    least = 0.890571785 - np.log(4) / 2
    ends = [float(found.price.value) for _, _, found in wild]
    assert np.median(ends) < 1.2 * least
    assert np.median([found.history.loss[0] for _, _, found in wild]) > 3 * least


def naive_work(process, ts, size):
    """The work as the integral of the partial derivative of U by time, with an autodiff rate of the control."""

    def loss(protocol, key):
        driven = tjx.Process(process.system, protocol, process.initial)
        path, *_ = tjx.ensemble(driven, ts, key, size, save="all")

        def power(x, t):
            lam, rate = jax.jvp(protocol, (t,), (jnp.ones_like(t),))
            return jax.grad(process.system.energy, argnums=1)(x, lam) * rate

        first, last = (system_turn(process, path.xs[:, i], a, b) for i, a, b in jumps(protocol, ts))
        inside = jax.vmap(jax.vmap(power))(path.xs[:, :-1], path.ts[:, :-1])
        return jnp.mean(jnp.sum(inside, axis=1) * (ts[1] - ts[0]) + first + last)

    return loss


def jumps(protocol, ts):
    return (0, protocol.before, protocol(ts[0])), (-1, protocol(ts[-1]), protocol.after)


def system_turn(process, xs, a, b):
    return jax.vmap(lambda x: process.system.energy(x, b) - process.system.energy(x, a))(xs)


def test_control_a_rate_of_change_fails_the_guard():
    """What the ledger avoids: an optimiser finds the kinks that a sampled rate of change does not see."""
    process = dragged(knots=16, distance=1.0)
    ts = jnp.linspace(0.0, 1.0, STEPS + 1)
    naive = naive_work(process, ts, 500)
    found = search(naive, process.protocol, jax.random.key(0), steps=200, progress=False)
    assert float(found.price.value) < -5 * float(found.price.stderr) - 0.1  # Delta F = 0: forbidden
    honest = O.mean_work(process, ts, 500)(found.protocol, jax.random.key(9))
    assert (
        float(honest) > 1 / 3
    )  # what the ledger says of the same protocol: more than the least possible


def test_a_step_too_coarse_is_found_out():
    """T 2 -> 1, k 1 -> 1 in 20 time units by 50 Heun steps: the descent digs below zero, and its check says so."""
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), temperature=lambda lam: lam["T"]
    )
    k = P.positive(P.ramp(1.0, 1.0, 20.0, knots=17))
    start = P.Joint({"k": k, "T": P.fixed(P.ramp(2.0, 1.0, 20.0))})
    process = tjx.Process(
        system, start, D.Boltzmann(system, start.before), D.Boltzmann(system, start.after)
    )
    loss = O.mean_dissipation(process, jnp.linspace(0.0, 20.0, 51), 2000)
    with pytest.warns(UserWarning, match="too coarse"):
        found = search(loss, start, jax.random.key(0), steps=200, progress=False)
    assert float(found.price.value) < -4 * float(found.price.stderr)
    assert found.agrees is False


# ---- what cannot be searched ----------------------------------------------------------------------------------------


def test_stops_at_a_loss_that_is_not_finite():
    explosive = tjx.Overdamped(lambda x, lam: jnp.sum(0.25 * x**4 - lam * x))
    process = tjx.Process(explosive, P.ramp(0.0, 1.0, 1.0), D.Gaussian(0.0, 9.0))
    loss = O.mean_work(process, jnp.linspace(0.0, 1.0, 6), 200)
    with pytest.raises(
        RuntimeError, match=r"step 0 of 3: loss nan.* of 200 paths .* after t = 0\."
    ):
        O.search(loss, process.protocol, jax.random.key(0), steps=3, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be a whole number"),
        ({"prices": 1}, ValueError, "prices must be"),
        ({"noise": "none"}, ValueError, "noise must be"),
        ({"key": 0}, TypeError, r"key must be a typed random key.*jax.random.key\(0\)"),
        ({"loss": 3.0}, TypeError, "loss must be a callable"),
        ({"protocol": P.fixed(P.ramp(0.0, 1.0, 1.0))}, ValueError, "no trainable leaves"),
    ],
)
def test_bad_input(change, error, message):
    options = {
        "loss": lambda p, key: p(0.5) ** 2,
        "protocol": P.ramp(0.0, 1.0, 1.0),
        "key": jax.random.key(0),
        "steps": 2,
        "progress": False,
    } | change
    loss, protocol, key = (options.pop(name) for name in ("loss", "protocol", "key"))
    with pytest.raises(error, match=message):
        inspect.unwrap(O.search)(
            loss, protocol, key, **options
        )  # as users meet it: without type checks


def test_mean_dissipation_needs_final():
    process = tjx.Process(drag, P.ramp(0.0, 1.0, 1.0), D.Boltzmann(drag, 0.0))
    with pytest.raises(ValueError, match=r"process\.final"):
        O.mean_dissipation(process, jnp.linspace(0, 1, 3), 10)


# ---- closed forms


def test_a_moving_trap_with_a_stiffness_per_coordinate():
    """Coordinates don't know of each other: the work is the sum of theirs, one number, and simulated exactly so."""
    k, start, stop = jnp.array([1.0, 4.0]), jnp.zeros(2), jnp.array([3.0, 2.0])
    found = O.moving_trap(start, stop, 1.0, stiffness=k)
    alone = [O.moving_trap(0.0, float(stop[i]), 1.0, stiffness=float(k[i])).work for i in (0, 1)]
    assert found.work.shape == ()
    assert float(found.work) == pytest.approx(float(sum(alone)), rel=1e-6)
    assert float(found.work) == pytest.approx(9 / 3 + 4 * 4 / 6, rel=1e-6)
    trap = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(k * (x - lam) ** 2))
    process = tjx.Process(trap, found.protocol, D.Gaussian(start, jnp.diag(1 / k)))
    work = tjx.evolve.moments(process, jnp.linspace(0.0, 1.0, 3)).work[-1]
    assert float(work) == pytest.approx(float(found.work), rel=1e-5)
    mobile = O.moving_trap(start, stop, 1.0, mobility=k)
    assert float(mobile.work) == pytest.approx(9 / 3 + 4 / 6, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda v: O.moving_trap(0.0, 1.0, 1.0, stiffness=v),
            r"stiffness must be one number or one",
        ),
        (lambda v: O.moving_trap(0.0, 1.0, 1.0, mobility=v), r"mobility must be one number or one"),
        (lambda v: O.moving_trap(0.0, v, 1.0), r"start and stop must have one shape"),
        (lambda v: O.moving_trap(0.0, 1.0, v), r"t1 must have shape \(\), one number"),
        (lambda v: O.moving_trap(v, jnp.ones(3), 1.0), r"start and stop must have one shape"),
        (lambda v: O.moving_trap(v[None], v[None], 1.0), r"start must have shape \(\) or \(d,\)"),
        (lambda v: O.breathing_trap(v, 4.0, 1.0), r"start must have shape \(\), one number"),
        (lambda v: O.breathing_trap(1.0, v, 1.0), r"stop must have shape \(\)"),
        (lambda v: O.breathing_trap(1.0, 4.0, 1.0, temperature=v), r"temperature must have shape"),
        (lambda v: O.breathing_trap(1.0, 4.0, 1.0, mobility=v), r"mobility must have shape"),
    ],
)
def test_arrays_where_one_number_is_meant_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.array([1.0, 2.0]))


def test_closed_forms_batch_by_vmap():
    works = jax.vmap(lambda k: O.breathing_trap(1.0, k, 1.0).work)(jnp.array([2.0, 4.0]))
    assert float(works[1]) == pytest.approx(0.890571785, rel=1e-5)
    works = jax.vmap(lambda k: O.moving_trap(0.0, 1.0, 1.0, stiffness=k).work)(
        jnp.array([1.0, 4.0])
    )
    np.testing.assert_allclose(works, [1 / 3, 4 / 6], rtol=1e-6)


def test_breathing_trap_of_almost_no_time():
    """The widening keeps its digits where it is far below one: the work is that of a jump, (k1/k0 - 1)/2."""
    tiny = tjx.optimal.breathing_trap(1.0, 2.0, 1e-30)
    np.testing.assert_allclose(tiny.work, 0.5, rtol=1e-14)
    with pytest.raises(ValueError, match=r"mobility \* stop \* t1 must be finite"):
        tjx.optimal.breathing_trap(jnp.float32(1e3), jnp.float32(1e30), jnp.float32(1e12))
