"""Protocols: values, ends, what a search may change, and constraints that cannot be left."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import thermojax as tjx
from thermojax.protocols import (
    AbstractProtocol,
    AbstractSearchable,
    Constrained,
    Function,
    Joint,
    Network,
    Piecewise,
    Reversed,
    Spline,
    Steps,
    bounded,
    fixed,
    monotone,
    positive,
    ramp,
    trainable,
)

KNOTS = jnp.array([0.0, 0.5, 2.0])
VALUES = jnp.array([1.0, 3.0, 2.0])


def network(**bounds):
    return Network(0.5, 2.0, 2.0, key=jax.random.key(3), width=4, depth=1, **bounds)


KINDS = {
    "ramp": lambda: ramp(1.0, 3.0, 2.0),
    "piecewise": lambda: Piecewise(KNOTS, VALUES, before=0.0, after=5.0),
    "steps": lambda: Steps(KNOTS, VALUES[:2], after=5.0),
    "spline": lambda: Spline(KNOTS, VALUES, after=5.0),
    "monotonic spline": lambda: Spline(KNOTS, VALUES, method="monotonic"),
    "function": lambda: Function(jnp.sin, 2.0),
    "network": network,
    "bounded network": lambda: network(lower=0.0, upper=4.0),
    "reversed": lambda: Reversed(Piecewise(KNOTS, VALUES, before=0.0, after=5.0)),
    "fixed": lambda: fixed(Piecewise(KNOTS, VALUES)),
    "bounded": lambda: bounded(Piecewise(KNOTS, VALUES), 0.0, 4.0),
    "positive": lambda: positive(Spline(KNOTS, VALUES)),
    "monotone": lambda: monotone(Piecewise(KNOTS, jnp.array([1.0, 1.5, 4.0]))),
    "joint": lambda: Joint({"a": Piecewise(KNOTS, VALUES), "b": Steps(KNOTS, VALUES[:2])}),
}
every_kind = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)


def close(a, b, rtol=1e-12):
    jtu.tree_map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=rtol), a, b)


# ---- values and ends


@pytest.mark.smoke
def test_values():
    drive = Piecewise(KNOTS, VALUES, before=0.0, after=5.0)
    assert [float(drive(t)) for t in (0.0, 0.25, 0.5, 1.25, 2.0)] == [1.0, 2.0, 3.0, 2.5, 2.0]
    assert (drive.t0, drive.t1, drive.before, drive.after) == (0.0, 2.0, 0.0, 5.0)
    line = ramp(1.0, 3.0, 2.0, t0=1.0)
    assert [float(line(t)) for t in (1.0, 1.25, 2.0)] == [1.0, 1.5, 3.0]
    assert (line.t0, line.before, line.after) == (1.0, 1.0, 3.0)
    many = ramp(1.0, 3.0, 2.0, knots=9)
    assert many.values.shape == (9,)
    close(many(0.7), ramp(1.0, 3.0, 2.0)(0.7))


def test_steps_are_closed_on_the_left():
    drive = Steps(KNOTS, VALUES[:2])
    assert [float(drive(t)) for t in (0.0, 0.25, 0.49999, 0.5, 1.9, 2.0)] == [1, 1, 1, 3, 3, 3]
    assert (drive.before, drive.after) == (1.0, 3.0)
    assert float(Reversed(drive)(1.4)) == 3.0
    assert float(Reversed(drive)(1.6)) == 1.0


@pytest.mark.parametrize("method", ["cubic2", "cubic", "akima", "monotonic"])
def test_spline_goes_through_its_knots(method):
    ts = jnp.array([0.0, 0.3, 0.5, 1.2, 2.0])
    values = jnp.array([1.0, -1.0, 2.0, 2.5, 0.0])
    close(jax.vmap(Spline(ts, values, method=method))(ts), values)


def test_spline_of_a_cubic_is_smooth():
    """C² through every knot: the second derivative agrees from both sides."""
    drive = Spline(KNOTS, VALUES)
    bend = jax.grad(jax.grad(drive))
    np.testing.assert_allclose(bend(0.5 - 1e-9), bend(0.5 + 1e-9), atol=1e-6)


def test_network_and_function():
    drive = network()
    assert (drive.before, drive.after) == (0.5, 2.0)
    s = jnp.array([0.35])
    close(drive(0.7), 0.5 + 1.5 * (0.35 + drive.mlp(s)[0]))
    wave = Function(jnp.sin, 2.0, t0=0.5)
    close((wave(1.0), wave.before, wave.after), (np.sin(1.0), np.sin(0.5), np.sin(2.0)))
    assert Function(jnp.sin, 2.0, before=7.0).before == 7.0


@pytest.mark.parametrize("unit", [5e-6, 1e6])
@pytest.mark.parametrize(
    "bounds", [{}, {"lower": 0.0}, {"upper": 4.0}, {"lower": 0.0, "upper": 4.0}]
)
@pytest.mark.parametrize("ends", [(0.5, 2.0), (2.0, 2.0)])
def test_network_is_the_same_curve_in_any_unit(ends, bounds, unit):
    key, ts = jax.random.key(3), jnp.linspace(0.0, 2.0, 9)

    def curve(unit):
        limits = {name: unit * bound for name, bound in bounds.items()}
        return jax.vmap(Network(*(unit * end for end in ends), 2.0, key=key, **limits))(ts)

    close(curve(unit) / unit, curve(1.0))

    def at(end):
        return Network(ends[0], end, 2.0, key=key, **bounds)(0.7)

    eps = 1e-5
    close(jax.grad(at)(3.0), (at(3.0 + eps) - at(3.0 - eps)) / (2 * eps), rtol=1e-8)


@every_kind
def test_outside_the_span_stands_the_nearer_end(build):
    drive = build()
    close(drive(drive.t0 - 1.0), drive(drive.t0))
    close(drive(drive.t1 + 1.0), drive(drive.t1))
    assert float(drive.t0) == 0.0
    assert float(drive.t1) == 2.0


@every_kind
def test_jit_vmap_grad(build):
    drive = build()
    ts = jnp.array([0.0, 0.4, 0.5, 1.7, 2.0])
    one_by_one = [drive(t) for t in ts]
    stacked = jtu.tree_map(lambda *v: jnp.stack(v), *one_by_one)
    close(eqx.filter_jit(lambda d: jax.vmap(d)(ts))(drive), stacked)
    total = lambda d: sum(map(jnp.sum, jtu.tree_leaves(jax.vmap(d)(ts))))
    for leaf in jtu.tree_leaves(eqx.filter_grad(total)(drive)):
        assert np.isfinite(leaf).all()


@every_kind
def test_reversed(build):
    drive = build()
    back = Reversed(drive)
    close((back.before, back.after), (drive.after, drive.before))
    for t in (0.1, 0.77, 1.9):
        close(back(t), drive(2.0 - t))
        close(Reversed(back)(t), drive(t))
    close((Reversed(back).before, Reversed(back).after), (drive.before, drive.after))


@pytest.mark.parametrize("kind", [Piecewise, Spline, Steps])
def test_any_pytree(kind):
    ts = jnp.array([0.0, 1.0, 2.0])
    m = 2 if kind is Steps else 3
    values = {"at": jnp.arange(2.0 * m).reshape(m, 2), "k": (jnp.ones(m), jnp.zeros((m, 2, 2)))}
    drive = kind(ts, values)
    lam = drive(0.6)
    assert jtu.tree_map(jnp.shape, lam) == {"at": (2,), "k": ((), (2, 2))}
    assert jtu.tree_structure(drive.before) == jtu.tree_structure(lam)
    alone = kind(ts, values["at"][:, 1])
    close(lam["at"][1], alone(0.6))


@pytest.mark.parametrize("start", [{"k": 1.0, "at": jnp.zeros(2)}, (1.0, 2.0), jnp.ones((2, 2))])
def test_ramp_and_network_of_any_pytree(start):
    stop = jtu.tree_map(lambda v: v + 1.0, start)
    half = jtu.tree_map(lambda v: v + 0.5, start)
    close(ramp(start, stop, 2.0)(1.0), half)
    shapes = jtu.tree_map(jnp.shape, start)
    assert jtu.tree_map(jnp.shape, Network(start, stop, 2.0, key=jax.random.key(0))(1.0)) == shapes


def test_joint():
    drive = Joint({"a": ramp(0.0, 2.0, 1.0), "b": Steps(jnp.array([0.0, 0.5, 1.0]), VALUES[:2])})
    assert {name: float(v) for name, v in drive(0.75).items()} == {"a": 1.5, "b": 3.0}
    assert drive.before == {"a": 0.0, "b": 1.0}
    assert drive.after == {"a": 2.0, "b": 3.0}
    nested = Joint({"outer": drive, "c": ramp(1.0, 1.0, 1.0)})
    assert float(nested(0.75)["outer"]["b"]) == 3.0


def test_joint_on_a_late_clock():
    """Seconds since 1970: spans are told apart there as they are at zero."""
    for t0 in (0.0, 1.7e9):
        x, k = ramp(0.0, 2.0, t0 + 1, t0=t0), ramp(1.0, 4.0, t0 + 2, t0=t0)
        with pytest.raises(ValueError, match="must share one span"):
            Joint({"x": x, "k": k})
        assert float(Joint({"x": x, "k": ramp(1.0, 4.0, t0 + 1, t0=t0)}).t1) == t0 + 1
    coarse = ramp(jnp.float32(0), jnp.float32(1), jnp.float32(0.1))
    Joint({"x": ramp(0.0, 1.0, 0.1), "k": coarse})


# ---- gradients


def test_gradient_by_the_values_is_the_hat_function():
    slope = jax.grad(lambda v: Piecewise(KNOTS, v)(0.875))(VALUES)
    np.testing.assert_allclose(slope, [0.0, 0.75, 0.25], rtol=1e-12)
    slope = jax.grad(lambda v: Steps(KNOTS, v)(0.875))(VALUES[:2])
    np.testing.assert_array_equal(slope, [0.0, 1.0])


def test_gradient_by_time_and_by_the_ends():
    assert float(jax.grad(Piecewise(KNOTS, VALUES))(0.3)) == pytest.approx(4.0, rel=1e-12)
    drive = Piecewise(KNOTS, VALUES, before=0.0, after=5.0)
    slope = eqx.filter_grad(lambda d: d.before**2 + 3 * d.after + d(1.0))(
        eqx.tree_at(lambda d: d.before, drive, jnp.asarray(0.7))
    )
    assert float(slope.before) == pytest.approx(1.4, rel=1e-12)
    assert float(slope.after) == 3.0


# ---- what a search may change


def free(protocol):
    """Names of the leaves that `trainable` marks."""
    marked = jtu.tree_leaves_with_path(trainable(protocol))
    return {jtu.keystr(path) for path, leaf in marked if leaf}


WEIGHTS = {f".mlp.layers[{i}].{leaf}" for i in (0, 1) for leaf in ("weight", "bias")}


@pytest.mark.parametrize(
    ("build", "leaves"),
    [
        ("ramp", {".values"}),
        ("piecewise", {".values"}),
        ("steps", {".values"}),
        ("spline", {".values"}),
        ("function", set()),
        ("network", WEIGHTS),
        ("reversed", {".protocol.values"}),
        ("fixed", set()),
        ("bounded", {".protocol.values"}),
        ("monotone", {".protocol.values"}),
        ("joint", {".protocols['a'].values", ".protocols['b'].values"}),
    ],
)
def test_trainable(build, leaves):
    assert free(KINDS[build]()) == leaves


def test_trainable_goes_through_what_is_composed():
    given = fixed(Steps(KNOTS, VALUES[:2]))
    inner = Joint({"T": given, "k": Reversed(positive(Piecewise(KNOTS, VALUES)))})
    assert free(inner) == {".protocols['k'].protocol.protocol.values"}
    assert free(Reversed(inner)) == {".protocol.protocols['k'].protocol.protocol.values"}
    assert free(fixed(inner)) == set()
    assert free(Reversed(fixed(inner))) == set()


def test_trainable_of_a_module_inside_a_function():
    class Wave(eqx.Module):
        height: jax.Array
        count: int

        def __call__(self, t):
            return self.height * jnp.sin(self.count * t)

    assert free(Function(Wave(jnp.asarray(2.0), 3), 1.0)) == {".fn.height"}


def test_trainable_of_what_is_no_protocol():
    tree = {"a": jnp.ones(2), "n": jnp.arange(3), "name": "x", "f": 1.0, "in": ramp(0.0, 1.0, 1.0)}
    assert free(tree) == {"['a']", "['in'].values"}


class Swing(AbstractProtocol):
    """A protocol of a user's own, whose given times have a name of their own."""

    height: jax.Array
    turns: jax.Array
    limit: jax.Array | None

    t0 = property(lambda self: self.turns[0])
    t1 = property(lambda self: self.turns[-1])
    before = after = property(lambda self: jnp.zeros(()))

    def __call__(self, t):
        return self.height * jnp.sin(t - self.turns[0])

    def given(self):
        return self.turns, self.limit


def test_trainable_of_a_protocol_of_ones_own():
    swing = Swing(jnp.asarray(1.0), KNOTS, None)
    assert free(swing) == {".height"}
    assert free(Joint({"a": Reversed(swing), "b": fixed(swing)})) == {
        ".protocols['a'].protocol.height"
    }
    assert free(Swing(jnp.asarray(1.0), KNOTS, jnp.asarray(2.0))) == {".height"}


def test_one_array_may_be_both_given_and_searched():
    """lambda(t) = t: the values are the very array of the times."""
    drive = Piecewise(KNOTS, KNOTS)
    assert drive.ts is drive.values
    assert free(drive) == {".values"}


class Span(AbstractSearchable):
    """No protocol, and still with something that a search must leave alone."""

    shape: jax.Array
    ends: tuple

    def given(self):
        return self.ends


def test_trainable_asks_what_is_no_protocol_too():
    span = Span(jnp.ones(3), (jnp.asarray(0.0), jnp.asarray(1.0)))
    assert free(span) == {".shape"}
    assert free({"a": span, "b": jnp.ones(2)}) == {"['a'].shape", "['b']"}
    assert free(Function(lambda t: t, 1.0)) == set()


@pytest.mark.parametrize(
    "computed",
    [
        lambda self: self.turns[0],
        lambda self: (self.turns, jnp.zeros(())),
        lambda self: self.turns + self.turns,
        lambda self: self.height.mean(),
    ],
)
def test_given_is_not_computed(computed):
    kind = type("Computed", (Swing,), {"given": computed})
    with pytest.raises(
        TypeError, match=r"Computed\.given\(\) must return parts of it as they stand"
    ):
        trainable(kind(jnp.asarray(1.0), KNOTS, None))


@every_kind
def test_moving_what_is_trainable_moves_neither_ends_nor_times(build):
    drive = build()
    mine, rest = eqx.partition(drive, trainable(drive))
    moved = eqx.combine(jtu.tree_map(lambda v: v + 0.3, mine), rest)
    close((moved.before, moved.after, moved.t0, moved.t1), (drive.before, drive.after, 0.0, 2.0))
    if jtu.tree_leaves(mine):
        with pytest.raises(AssertionError):
            close(moved(0.7), drive(0.7), rtol=1e-6)


# ---- constraints


def wild(drive, seed, scale):
    """The drive after a large random move of its raw parameters."""
    mine, rest = eqx.partition(drive, trainable(drive))
    flat, unravel = jax.flatten_util.ravel_pytree(mine)
    moved = unravel(flat + scale * jax.random.normal(jax.random.key(seed), flat.shape))
    return eqx.combine(moved, rest)


CONSTRAINTS = {
    "both": (lambda p: bounded(p, 0.5, 4.0), 0.5, 4.0),
    "lower": (lambda p: bounded(p, lower=0.5), 0.5, np.inf),
    "upper": (lambda p: bounded(p, upper=4.0), -np.inf, 4.0),
    "positive": (positive, 0.0, np.inf),
}
# Values over twelve decades: the inverse of softplus must not round them away.
FAR = jnp.array([1.0 + 1e-9, 2.0, 3.0 + 1e-3])


@pytest.mark.parametrize(("constrain", "low", "high"), CONSTRAINTS.values(), ids=CONSTRAINTS)
@pytest.mark.parametrize("kind", [Piecewise, Steps, Spline])
def test_bounds_hold(kind, constrain, low, high):
    ts = jnp.array([0.0, 0.5, 1.5, 2.0]) if kind is Steps else KNOTS
    drive = kind(ts, FAR, before=0.0, after=9.0)
    tame = constrain(drive)
    close(tame.physical.values, FAR)
    close(jax.vmap(tame)(KNOTS), jax.vmap(drive)(KNOTS))
    assert (tame.before, tame.after) == (0.0, 9.0)  # the question itself is not bounded
    for seed in range(5):
        moved = wild(tame, seed, scale=30.0)
        values = moved.physical.values
        assert (values >= low).all()
        assert (values <= high).all()
        assert np.isfinite(values).all()
        slope = eqx.filter_grad(lambda d: jnp.sum(jax.vmap(d)(KNOTS)))(moved)
        assert np.isfinite(slope.protocol.values).all()


def test_positive_over_many_decades():
    values = jnp.array([1e-8, 1e-3, 1.0, 50.0, 1e6])
    np.testing.assert_allclose(
        positive(Piecewise(jnp.arange(5.0), values)).physical.values, values, rtol=1e-8
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_holds(sign):
    values = sign * jnp.array([-3.0, -2.999, 0.0, 40.0])
    ts = jnp.array([0.0, 0.5, 1.0, 2.0])
    tame = monotone(Piecewise(ts, {"k": values}))
    assert isinstance(tame, Constrained)
    np.testing.assert_allclose(jax.vmap(tame)(ts)["k"], values, rtol=1e-12, atol=1e-12)
    for seed in range(5):
        moved = wild(tame, seed, scale=10.0)
        assert (sign * np.diff(moved.physical.values["k"]) >= 0).all()
        slope = eqx.filter_grad(lambda d: jnp.sum(jax.vmap(d)(ts)["k"]))(moved)
        assert np.isfinite(slope.protocol.values["k"]).all()


@pytest.mark.parametrize("limits", [(0.0, 3.0), (0.0, None), (None, 3.0)])
def test_network_stays_within_its_bounds(limits):
    lower, upper = limits
    drive = network(lower=lower, upper=upper)
    assert free(drive) == WEIGHTS
    for seed in range(5):
        curve = jax.vmap(wild(drive, seed, scale=20.0))(jnp.linspace(0.0, 2.0, 50))
        assert lower is None or (curve >= lower).all()
        assert upper is None or (curve <= upper).all()
        assert np.isfinite(curve).all()


def test_without_its_bounds_a_network_leaves_them():
    """Negative control: the moves above are large enough to leave."""
    curve = jax.vmap(wild(network(), 0, scale=20.0))(jnp.linspace(0.0, 2.0, 50))
    assert (curve < 0).any() or (curve > 3).any()


@pytest.mark.parametrize(
    "build",
    [
        lambda low, high: bounded(Piecewise(KNOTS, VALUES), low, high),
        lambda low, high: network(lower=low, upper=high),
        lambda low, high: bounded(Piecewise(KNOTS, VALUES), lower=low),
    ],
)
def test_other_limits_compile_nothing_anew(build):
    """Limits are leaves, and no parameters: none is searched, none has a derivative."""
    traces = []

    @eqx.filter_jit
    def at(drive):
        traces.append(1)
        return drive(0.7)

    first, second = build(0.0, 5.0), build(-1.0, 6.0)
    at(first), at(second)
    assert len(traces) == 1
    limits = {leaf for leaf in free(first) if "lower" in leaf or "upper" in leaf}
    assert not limits
    slope = eqx.filter_grad(lambda d: d(0.7))(first)
    leaves = jtu.tree_leaves_with_path(slope)
    found = [leaf for path, leaf in leaves if jtu.keystr(path).endswith(("lower", "upper"))]
    assert found
    assert not any(found)


# ---- precision


@every_kind
def test_single_precision(build):
    def cast(leaf):
        return leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf

    drive = jtu.tree_map(cast, build())
    for leaf in jtu.tree_leaves(drive(jnp.float32(0.7))):
        assert leaf.dtype == jnp.float32
    close(drive(jnp.float32(0.7)), build()(0.7), rtol=2e-6)


# ---- a loop in the way of Equinox


def natural(loss, model, steps=25, rate=0.1):
    """The loop that stands in every Equinox script."""
    adam = optax.adam(rate)
    state = adam.init(eqx.filter(model, eqx.is_inexact_array))
    slope = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    for _ in range(steps):
        _, grads = slope(model)
        with jax.numpy_dtype_promotion("standard"):  # optax counts in whole numbers
            updates, state = adam.update(grads, state, model)
        model = eqx.apply_updates(model, updates)
    return model


TS = jnp.linspace(0.0, 2.0, 5)
TRAP = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
EQ = tjx.densities.Gaussian(0.0, 1.0)


def dragging(drive):
    """The mean work along a drive, without its noise: every part of the drive counts in it."""
    drive = drive if isinstance(drive(0.0), jax.Array) else Picked(drive)
    path = tjx.Path(TS, jnp.array([0.0, 0.2, 0.6, 1.0, 1.4])[:, None])
    return tjx.account(tjx.Process(TRAP, drive, EQ), path).work ** 2


def question(drive):
    given = jtu.tree_map(lambda free: not free, trainable(drive))
    return jtu.tree_leaves(eqx.filter(eqx.filter(drive, given), eqx.is_inexact_array))


class Picked(AbstractProtocol):
    """One control of a joint drive."""

    protocol: AbstractProtocol

    t0 = property(lambda self: self.protocol.t0)
    t1 = property(lambda self: self.protocol.t1)
    before = property(lambda self: self.protocol.before["a"] + self.protocol.before["b"])
    after = property(lambda self: self.protocol.after["a"] + self.protocol.after["b"])

    def __call__(self, t):
        lam = self.protocol(t)
        return lam["a"] + lam["b"]

    def given(self):
        return ()


@pytest.mark.parametrize(
    "kind",
    [
        "piecewise",
        "steps",
        "spline",
        "function",
        "network",
        "reversed",
        "fixed",
        "bounded",
        "joint",
    ],
)
def test_a_natural_loop_does_not_train_the_question(kind):
    drive = KINDS[kind]()
    found = natural(dragging, drive, steps=2)
    for new, old in zip(question(found), question(drive), strict=True):
        np.testing.assert_array_equal(new, old)
    close((found.before, found.after, found.t0, found.t1), (drive.before, drive.after, 0.0, 2.0))
    free = eqx.filter(drive, trainable(drive))
    if jtu.tree_leaves(free):
        assert not eqx.tree_equal(eqx.filter(found, trainable(drive)), free)


def test_a_natural_loop_finds_what_the_search_finds():
    """By the exact work of a dragged trap; the loop without protection ends below any possible work."""
    ts, start = jnp.linspace(0.0, 1.0, 9), ramp(0.0, 5.0, 1.0, knots=5)
    work = lambda drive: tjx.evolve.moments(tjx.Process(TRAP, drive, EQ), ts).work[-1]
    found = natural(work, start, 60)
    assert (float(found.before), float(found.after)) == (0.0, 5.0)
    np.testing.assert_array_equal(found.ts, start.ts)
    assert 25 / 3 - 1e-6 < float(work(found)) < 8.5


def test_the_question_can_be_asked():
    """By `before` and `after`, through the constructor and through tree_at, as finite differences have it."""
    values = jnp.array([0.3, 0.8, 1.5])
    made = lambda b, a: dragging(Piecewise(KNOTS, values, b, a))
    drive = Piecewise(KNOTS, values, 0.1, 2.0)
    step = 1e-6 if jax.config.jax_enable_x64 else 1e-2
    want = [
        float(made(0.1 + step, 2.0) - made(0.1 - step, 2.0)) / (2 * step),
        float(made(0.1, 2.0 + step) - made(0.1, 2.0 - step)) / (2 * step),
    ]
    by = jnp.asarray
    asked = jax.grad(made, (0, 1))(by(0.1), by(2.0))
    at = lambda b: dragging(eqx.tree_at(lambda d: d.before, drive, b))
    rtol = 1e-5 if jax.config.jax_enable_x64 else 2e-2
    np.testing.assert_allclose(asked, want, rtol=rtol)
    np.testing.assert_allclose(jax.grad(at)(by(0.1)), want[0], rtol=rtol)
    everything = jax.grad(lambda v, b, a: dragging(Piecewise(KNOTS, v, b, a)), (0, 1, 2))
    np.testing.assert_allclose(everything(values, by(0.1), by(2.0))[1:], want, rtol=rtol)
    assert abs(want[0]) > 0.01


@pytest.mark.filterwarnings("ignore:A part of the protocol is run")
def test_a_drive_made_of_what_one_differentiates_by_follows_it():
    """All leaves of a ramp depend on its three numbers at once, and nothing of that is held."""
    ts = jnp.array([0.0, 0.5, 1.0, 1.5])
    path = tjx.Path(ts, jnp.array([0.0, 0.2, 0.6, 1.0])[:, None])
    drive = lambda theta: tjx.Process(TRAP, ramp(theta[0], theta[1], theta[2]), EQ)
    cost = lambda theta: tjx.account(drive(theta), path).work
    theta = jnp.array([0.3, 1.5, 2.0])
    step = 1e-6 if jax.config.jax_enable_x64 else 1e-2
    for i in range(3):
        e = step * jnp.eye(3)[i]
        want = (cost(theta + e) - cost(theta - e)) / (2 * step)
        rtol = 1e-4 if jax.config.jax_enable_x64 else 5e-2
        np.testing.assert_allclose(jax.grad(cost)(theta)[i], want, rtol=rtol, atol=1e-3)


# ---- what does not follow its times


def test_the_edges_of_steps_are_not_followed_in_silence():
    edge = lambda t, hold=lambda v: v: dragging(
        Steps(hold(jnp.stack([0.0 * t, t, 0.0 * t + 2.0])), VALUES[:2])
    )
    for grad in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        with pytest.raises(ValueError, match=r"Steps\.ts is being differentiated.*Piecewise"):
            grad(edge)(jnp.asarray(0.7))
    with pytest.raises(ValueError, match=r"Steps\.ts is being differentiated"):  # all of it at once
        jax.grad(lambda t: Steps(t * KNOTS, t * VALUES[:2], t, t)(0.3))(jnp.asarray(1.0))
    held = lambda t: edge(t, jax.lax.stop_gradient)
    assert float(jax.grad(held)(jnp.asarray(0.7))) == 0.0
    # in their place: a short ramp, which is followed
    short = lambda t: dragging(
        Piecewise(jnp.stack([0.0 * t, t - 0.2, t + 0.2, 0.0 * t + 2.0]), jnp.array([1.0, 1, 3, 3]))
    )
    want = (short(jnp.asarray(0.701)) - short(jnp.asarray(0.699))) / 0.002
    np.testing.assert_allclose(jax.grad(short)(jnp.asarray(0.7)), want, rtol=2e-2)


def test_an_end_of_infinite_slope():
    """lambda = sqrt(t / tau): with `before` given, the derivative by tau between the ends is right."""
    drive = lambda tau: Function(lambda t: jnp.sqrt(t / tau), 2.0, before=0.0, after=1.0)
    slope = jax.grad(lambda tau: drive(tau)(0.5))(jnp.asarray(2.0))
    np.testing.assert_allclose(slope, -0.125, rtol=1e-6)


def test_a_reversed_edge_is_the_same_edge():
    """t0 + t1 - (t0 + t1 - t) is an ulp off t, on either side: the reversed drive has the forward one's value there."""
    edges = np.concatenate([[0.0], np.linspace(0.1, 0.9, 9), [1.3]])
    drive = Steps(jnp.asarray(edges), jnp.arange(10.0))
    for t in drive.ts:
        assert float(Reversed(drive)(drive.t0 + drive.t1 - t)) == float(drive(t))
