"""Ready-made losses against closed forms; the score-function gradient against the pathwise one and where only it holds."""

import inspect

import diffrax as dfx
import equinox as eqx
import hurry
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas

import thermojax as tjx
from thermojax import optimal
from thermojax.densities import Gaussian
from thermojax.estimators import energy_distance

TRAP = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
RAMP = tjx.protocols.ramp(0.0, 2.0, 1.0, knots=4)
TS = jnp.linspace(0.0, 1.0, 13)
DT = 1 / 12
DRAGGED = tjx.Process(TRAP, RAMP, Gaussian(0.0, 1.0))
SIZE, KEYS = 4000, 200
BEYOND = 1.0  # success: x_tau > BEYOND


def success(trajectory):
    return (trajectory.path.xs[:, -1, 0] > BEYOND).astype(trajectory.work.dtype)


def slopes(loss, *, score, protocol=RAMP, keys=KEYS):
    """Gradients by the knots, one per key, and the values."""
    fn = loss.likelihood_ratio if score else loss
    at = lambda values, key: fn(eqx.tree_at(lambda p: p.values, protocol, values), key)
    both = jax.jit(lambda key: jax.value_and_grad(at)(protocol.values, key))
    with hurry.at_leisure():
        values, grads = zip(*map(both, jax.random.split(jax.random.key(0), keys)), strict=True)
    return np.stack(values), np.stack(grads)


def chain(values):
    """Mean and variance of the Euler chain at each step, and its controls, by the recursion of the moments."""
    protocol = eqx.tree_at(lambda p: p.values, RAMP, values)
    lams = jax.vmap(protocol)(0.5 * (TS[1:] + TS[:-1]))
    means, variances = [jnp.asarray(0.0)], [jnp.asarray(1.0)]
    for lam in lams:
        means.append(means[-1] + (lam - means[-1]) * DT)
        variances.append((1 - DT) ** 2 * variances[-1] + 2 * DT)
    return jnp.stack(means), jnp.stack(variances), lams


def exact_work(values):
    means, _, lams = chain(values)
    turns = jnp.concatenate([jnp.zeros(1), lams, jnp.full(1, 2.0)])
    return 0.5 * jnp.sum((means - turns[1:]) ** 2 - (means - turns[:-1]) ** 2)


def exact_success(values):
    means, variances, _ = chain(values)
    return jax.scipy.stats.norm.cdf((means[-1] - BEYOND) / jnp.sqrt(variances[-1]))


# ---- where both gradients hold


@pytest.fixture(scope="module")
def both():
    loss = optimal.mean_work(DRAGGED, TS, SIZE, solver=dfx.Euler())
    return {score: slopes(loss, score=score) for score in (False, True)}


@pytest.mark.parametrize("score", [False, True])
def test_both_are_unbiased(both, score):
    """Value and each derivative of the Euler chain's mean work, to 2 % of the largest; the control is seen."""
    values, grads = both[score]
    exact = jax.grad(exact_work)(RAMP.values)
    sigmas.assert_within(values, exact_work(RAMP.values))
    largest = float(jnp.abs(exact).max())
    for i in range(4):
        sigmas.assert_within(grads[:, i], exact[i], absolute=0.06 * largest)
    sigmas.assert_biased(1.06 * grads[:, 0], exact[0])


def test_the_score_is_noisier(both):
    """Where both hold, the pathwise gradient has the smaller variance."""
    pathwise, score = (grads.var(0, ddof=1).sum() for _, grads in (both[False], both[True]))
    print(
        f"variance of the gradient: score {score:.3g}, pathwise {pathwise:.3g}, ratio {score / pathwise:.2f}"
    )
    assert 1.2 < score / pathwise < 20


def test_the_value_is_that_of_the_loss(both):
    np.testing.assert_allclose(both[True][0], both[False][0], rtol=1e-9)


# ---- where only the score does


@pytest.fixture(scope="module")
def step_function():
    loss = optimal.average(success, DRAGGED, TS, SIZE, solver=dfx.Euler())
    return loss, slopes(loss, score=True)


def test_a_step_function(step_function):
    """A success probability: the pathwise derivative is zero, that of the score is that of the normal distribution."""
    loss, (values, grads) = step_function
    _, pathwise = slopes(loss, score=False, keys=3)
    assert not pathwise.any()
    exact = jax.grad(exact_success)(RAMP.values)
    sigmas.assert_within(values, exact_success(RAMP.values))
    for i in range(4):
        sigmas.assert_within(grads[:, i], exact[i], absolute=0.1 * float(exact.max()))
    sigmas.assert_biased(0.9 * grads[:, 2], exact[2])


def test_a_force_that_jumps():
    """f = lam sign(x - 1/2): the pathwise derivative of <x_tau^2> misses that lam moves paths across the jump.

    Exact: the densities of the chain, by quadrature with its Gaussian kernels, differentiated.
    """
    system = tjx.Overdamped(None, force=lambda x, lam: lam * jnp.sign(x - 0.5), temperature=0.2)
    drive = tjx.protocols.Piecewise(jnp.array([0.0, 1.0]), jnp.array([-1.0, -1.5]))
    process, ts = tjx.Process(system, drive, Gaussian(0.0, 0.3)), jnp.linspace(0.0, 1.0, 5)
    square = lambda trajectory: trajectory.path.xs[:, -1, 0] ** 2
    grid = jnp.linspace(-5.995, 5.995, 1200)  # no node on the jump
    at = lambda values: eqx.tree_at(lambda p: p.values, drive, values)

    def quadrature(values):
        p = jax.scipy.stats.norm.pdf(grid, 0.0, jnp.sqrt(0.3)) / 100
        for lam in jax.vmap(at(values))(0.5 * (ts[1:] + ts[:-1])):
            mean = grid + lam * jnp.sign(grid - 0.5) * 0.25
            p = jax.scipy.stats.norm.pdf(grid[:, None], mean[None], jnp.sqrt(0.1)) @ p / 100
        return jnp.sum(p * grid**2)

    exact = jax.grad(quadrature)(drive.values)
    loss = optimal.average(square, process, ts, SIZE, solver=dfx.Euler())
    values, grads = slopes(loss, score=True, protocol=drive)
    sigmas.assert_within(values, quadrature(drive.values))
    _, pathwise = slopes(loss, score=False, protocol=drive)
    for i in range(2):
        sigmas.assert_within(grads[:, i], exact[i], absolute=0.2 * float(jnp.abs(exact).max()))
        sigmas.assert_biased(pathwise[:, i], exact[i])


def test_a_search_by_the_score():
    """The same call: the probability of success rises, and the price says by how much."""
    failure = optimal.average(lambda t: 1 - success(t), DRAGGED, TS, 1000, solver=dfx.Euler())
    with hurry.at_leisure():
        found = optimal.search(
            failure, RAMP, jax.random.key(1), steps=60, gradient="score", progress=False
        )
    before = 1 - exact_success(RAMP.values)
    after = 1 - exact_success(found.protocol.values)
    assert after < 0.5 * before
    assert found.agrees
    sigmas.assert_within(found.price, after, absolute=0.1)


def test_who_has_no_score():
    def refused(loss, error, words, **options):
        with pytest.raises(error, match=words):
            optimal.search(
                loss, RAMP, jax.random.key(0), steps=1, gradient="score", progress=False, **options
            )

    def plain(protocol, key):
        return jnp.sum(protocol.values)

    refused(plain, TypeError, "optimal.average")
    refused(optimal.mean_work(DRAGGED, TS, 10), ValueError, "our Heun are not Gaussian.*kernel")
    refused(optimal.mean_work(DRAGGED, TS, 1, rule="kernel"), ValueError, "at least 2")
    refused(optimal.estimator_variance(DRAGGED, TS, 10), ValueError, "averages over paths")


def test_of_must_price_each_path():
    loss = optimal.average(lambda t: t.work.mean(), DRAGGED, TS, 10)
    with pytest.raises(ValueError, match=r"one number per path, shape \(10,\); got \(\)"):
        loss(RAMP, jax.random.key(0))


# ---- a loss of one's own


def far(process, run, key):
    """The longest way of a path, in units of a random number of its own."""
    return jnp.max(jnp.abs(run.path.xs[:, -1] - run.path.xs[:, 0])) * jax.random.uniform(key)


def test_a_loss_of_ones_own():
    loss, key = optimal.PathLoss(DRAGGED, TS, 10, far), jax.random.key(4)
    key_run, key_of = jax.random.split(key)
    run = tjx.ensemble(DRAGGED, TS, key_run, 10)
    np.testing.assert_allclose(loss(RAMP, key), far(DRAGGED, run, key_of), rtol=1e-12)
    assert loss.check().ts.size == 2 * TS.size - 1
    found = optimal.search(loss, RAMP, jax.random.key(0), steps=2, progress=False)
    assert found.check_price is not None


def test_of_gets_the_driven_process():
    work = lambda process, run, key: tjx.reduced_work(process, run).mean()
    loss = optimal.PathLoss(DRAGGED, TS, 10, work, draws=False)
    other = tjx.protocols.ramp(0.0, 3.0, 1.0)
    expected = optimal.mean_work(DRAGGED, TS, 10)(other, jax.random.key(0))
    np.testing.assert_allclose(loss(other, jax.random.key(0)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("of", "error", "words"),
    [
        (lambda process, run, key: run.work, ValueError, r"one number, of shape \(\); got \(10,\)"),
        (lambda run: run.work.mean(), TypeError, r"of must be a callable \(process, run, key\)"),
    ],
)
def test_of_must_be_one_number(of, error, words):
    with pytest.raises(error, match=words):
        optimal.PathLoss(DRAGGED, TS, 10, of)(RAMP, jax.random.key(0))


# ---- what compiles


def test_a_second_call_does_not_trace():
    traces = []

    def of(trajectory):
        traces.append(1)
        return trajectory.work

    loss = optimal.average(of, DRAGGED, TS, 10)
    first = loss(RAMP, jax.random.key(0))
    again = loss(tjx.protocols.ramp(0.0, 2.5, 1.0, knots=4), jax.random.key(1))
    assert len(traces) == 1
    assert first != again


@pytest.mark.filterwarnings("ignore:The protocol found costs")  # two prices tell little
@pytest.mark.parametrize(
    "build",
    [
        optimal.mean_work,
        optimal.estimator_variance,
        lambda process, *rest: optimal.mean_dissipation(
            tjx.Process(process.system, RAMP, process.initial, Gaussian(2.0, 1.0)), *rest
        ),
        lambda *loss: optimal.state_to_state(*loss, Gaussian(2.0, 1.0), 3.0),
    ],
)
def test_losses_built_alike_share_what_is_compiled(build):
    """A search of a loss built again, even on other times, calls the potential no more."""
    calls = []

    def potential(x, lam):
        calls.append(1)
        return 0.5 * jnp.sum((x - lam) ** 2)

    system = tjx.Overdamped(potential)

    def go(ts):
        loss = build(tjx.Process(system, RAMP, Gaussian(0.0, 1.0)), ts, 10)
        count = len(calls)
        optimal.search(loss, RAMP, jax.random.key(0), steps=2, prices=2, progress=False)
        return len(calls) - count

    assert go(jnp.linspace(0.0, 1.0, 4)) > 0
    assert go(jnp.array([0.0, 0.2, 0.9, 1.0])) == 0


# ---- the variance of e^-W


@pytest.mark.parametrize("reverse", [False, True])
def test_estimator_variance(reverse):
    r"""Gaussian work of variance 2 <W>, <W> = 1/e: the loss is 2/e, and so are its derivatives by the distance.

    At 64 Heun steps the work's own bias is far below 1 %; the sample's is below $10^{-3}$.
    """
    ts = jnp.linspace(0.0, 1.0, 65)
    line = tjx.protocols.Piecewise(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]))

    def loss(distance, key):
        protocol = tjx.protocols.Piecewise(line.ts, line.values * distance)
        end = Gaussian(distance, 1.0) if reverse else None
        process = tjx.Process(TRAP, protocol, Gaussian(0.0, 1.0), end)
        return optimal.estimator_variance(process, ts, 20000, reverse=reverse)(protocol, key)

    both = jax.jit(jax.value_and_grad(loss))
    keys = jax.random.split(jax.random.key(5), 48)
    with hurry.at_leisure():
        values, grads = map(np.stack, zip(*(both(1.0, key) for key in keys), strict=True))
    sigmas.assert_within(values, 2 / np.e, bias=0.05)
    sigmas.assert_within(grads, 4 / np.e, bias=0.1)
    sigmas.assert_biased(1.05 * values, 2 / np.e)


@pytest.mark.parametrize("reverse", [False, True])
def test_estimator_variance_of_a_sudden_turn(reverse):
    r"""Stiffness 1, then 2 at once: $\langle e^{-w}\rangle^2 = 1/2$ and $\langle e^{-2w}\rangle = 3^{-1/2}$, and the free
    energy, which differs, does not count."""
    exact, ts = np.log(2 / np.sqrt(3)), jnp.linspace(0.0, 0.01, 3)
    system = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))
    turn = tjx.protocols.Piecewise(ts[::2], jnp.ones(2), 1.0, 2.0)
    process = tjx.Process(system, turn, *(Gaussian(0.0, 1 / k) for k in (1.0, 2.0)))
    loss = optimal.estimator_variance(process, ts, 40000, reverse=reverse)
    price = jax.jit(lambda key: loss(turn, key))
    with hurry.at_leisure():
        values = np.stack([price(key) for key in jax.random.split(jax.random.key(6), 48)])
    sigmas.assert_within(values, exact, bias=0.05)


def test_a_loss_of_reversed_runs():
    """They take the grid of the reversed process, which is another one if its steps are uneven."""
    ts = jnp.array([0.0, 0.1, 0.3, 1.0])
    process = DRAGGED.replace(final=Gaussian(2.0, 1.0))
    of = lambda process, run, key: jnp.mean(run.work)
    loss = optimal.PathLoss(process, ts, 50, of, draws=False, reverse=True)
    key, back = jax.random.key(0), tjx.reverse(process)
    by_hand = tjx.ensemble(back, tjx.reverse_grid(process, ts), key, 50).work.mean()
    np.testing.assert_allclose(loss(process.protocol, key), by_hand, rtol=1e-12)
    assert abs(by_hand / tjx.ensemble(back, ts, key, 50).work.mean() - 1) > 1e-3
    with pytest.raises(ValueError, match="final=None"):
        optimal.PathLoss(DRAGGED.replace(final=None), ts, 50, of, reverse=True)


# ---- state to state


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (1.5, 1.0), (0.5, 2.0)])
def test_energy_distance(mean, spread):
    """Of two normal distributions, by the mean of |N(m, s)|; zero for two samples of one."""

    def away(m, s):
        return s * np.sqrt(2 / np.pi) * np.exp(-(m**2) / (2 * s**2)) + m * (
            1 - 2 * jax.scipy.stats.norm.cdf(-m / s)
        )

    exact = 2 * away(mean, np.hypot(1, spread)) - (2 + 2 * spread) / np.sqrt(np.pi)

    def one(key):
        x, y = jax.random.normal(key, (2, 2000, 1))
        return energy_distance(x, mean + spread * y)

    with hurry.at_leisure():
        sample = jax.lax.map(one, jax.random.split(jax.random.key(3), 500))
    sigmas.assert_within(sample, exact, absolute=0.02)
    sigmas.assert_biased(sample + 0.02, exact)


def test_energy_distance_to_a_point():
    """Derivatives stay finite where two draws coincide."""
    y = jnp.zeros((50, 2))
    slope = jax.grad(lambda x: energy_distance(x, y))(jnp.zeros((50, 2)).at[3, 0].set(1.0))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (
            np.zeros((5, 2)),
            np.zeros((4, 2)),
            ValueError,
            r"one shape \(n, d\).*\(5, 2\) and \(4, 2\)",
        ),
        (np.zeros(5), np.zeros(5), ValueError, r"x must have shape \(n, d\)"),
        (np.zeros((1, 2)), np.zeros((1, 2)), ValueError, "x must hold at least two draws"),
        (np.zeros((3, 1)), np.full((3, 1), np.nan), ValueError, "3 of 3 draws of y are not finite"),
        (np.zeros((3, 1), int), np.zeros((3, 1)), TypeError, "x must be floating point, got int"),
    ],
)
def test_energy_distance_of_what_is_no_sample(x, y, error, words):
    distance = inspect.unwrap(energy_distance)  # as users meet it: without type checks
    with pytest.raises(error, match=words):
        distance(x, y)


def test_state_to_state():
    """From N(0, 1) to N(2, 1) in a trap that is driven freely: the cloud arrives, and more weight brings it nearer."""

    def end(weight):
        loss = optimal.state_to_state(DRAGGED, TS, 400, Gaussian(2.0, 1.0), weight)
        with hurry.at_leisure():
            found = optimal.search(loss, RAMP, jax.random.key(2), steps=80, progress=False)
        assert found.agrees
        process = tjx.Process(TRAP, found.protocol, Gaussian(0.0, 1.0))
        return float(tjx.evolve.moments(process, TS).mean[-1, 0])

    assert abs(2 - end(40.0)) < min(0.15, 0.5 * abs(2 - end(4.0)))


class Duck:
    """A density of the user's own, which is no pytree."""

    def __init__(self, mean):
        self.sample = lambda key: mean + jax.random.normal(key, (1,))
        self.log_prob = lambda x: -0.5 * jnp.sum((x - mean) ** 2)


@pytest.mark.parametrize("start", [lambda mean: Gaussian(mean, 1.0), Duck])
def test_the_score_holds_the_start_fixed(start):
    """And says so to who differentiates it: the derivative would silently be zero."""

    def price(mean, kind):
        trap = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2))
        process = tjx.Process(trap, RAMP, start(mean))
        loss = optimal.mean_work(process, jnp.linspace(0.0, 1.0, 5), 10, rule="kernel")
        return (loss.likelihood_ratio if kind == "score" else loss)(RAMP, jax.random.key(0))

    with pytest.raises(ValueError, match=r"Process\.initial is being differentiated"):
        jax.grad(price)(1.3, "score")
    assert abs(jax.jit(lambda mean: jax.grad(price)(mean, "paths"))(1.3)) > 0.1


# ---- what a loss sees of its paths


@pytest.mark.parametrize(
    ("save", "times"), [("all", {2: 0.25, 4: 0.5}), (3, {1: 0.4, 2: 0.9}), ("ends", {1: 1.0})]
)
def test_an_index_means_the_same_time_on_every_grid_and_for_either_gradient(save, times):
    """On 7 uneven steps: the loss is the times of the saved states themselves, each in decimals of its own, so that nothing
    but their index counts."""
    ts = jnp.array([0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 0.9, 1.0])
    when = sum(1000.0**i * t for i, t in enumerate(times.values()))
    of = lambda run: sum(1000.0**i * run.path.ts[:, at] for i, at in enumerate(times))
    loss = optimal.average(of, DRAGGED, ts, 8, solver=dfx.Euler(), save=save)
    key = jax.random.key(0)
    for one in (loss, loss.check(), loss.check().check()):
        assert float(one(RAMP, key)) == pytest.approx(when, rel=1e-9)
    for one in (loss, loss.check().check()):
        assert float(one.likelihood_ratio(RAMP, key)) == pytest.approx(when, rel=1e-9)
    assert loss.check().check().ts.shape == (29,)


# ---- a kink whose place the protocol moves

KINK = tjx.Overdamped(
    lambda x, lam: jnp.sum(
        0.5 * x**2 + lam["a"] * jnp.sqrt((x - lam["c"]) ** 2 + lam["width"] ** 2)
    )
)
HALF = 0.5  # the step


def kinked(a, c, width):
    """<x> after two Euler steps from N(0, 1), by quadrature: the chain's kernels on a grid that is fine beside the kink."""
    x = np.linspace(-8.0, 8.0, 1602)
    force = lambda x: -x - a * (x - c) / np.sqrt((x - c) ** 2 + width**2)
    after = x + HALF * force(x)
    start = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    grid = np.linspace(-9.0, 9.0, 1802)
    kernel = np.exp(-((grid[:, None] - after) ** 2) / (4 * HALF))
    middle = kernel @ start * (x[1] - x[0]) / np.sqrt(4 * np.pi * HALF)
    return np.sum(middle * (grid + HALF * force(grid))) * (grid[1] - grid[0])


@pytest.mark.parametrize(
    ("width", "score", "seen"),
    [
        pytest.param(0.1, True, ("a", "c"), id="smooth-score"),
        pytest.param(0.1, False, ("a", "c"), id="smooth-pathwise"),
        pytest.param(0.0, True, ("a",), id="sharp-score"),
        pytest.param(0.0, False, (), id="sharp-pathwise"),
    ],
)
def test_a_kink_has_to_be_smooth_where_the_protocol_moves_it(width, score, seen):
    """Smooth, both derivatives are right. Sharp, the score sees the kink's height and not its place, and the pathwise
    derivative neither: the derivative by the place, 0.46, lies more than 20 standard errors off."""
    h = 0.01 if width else 0.1  # a sharp kink has to pass many nodes
    at = {"a": 1.0, "c": 0.5}
    want = {
        name: (
            kinked(**(at | {name: at[name] + h}), width=width)
            - kinked(**(at | {name: at[name] - h}), width=width)
        )
        / (2 * h)
        for name in at
    }
    values = {name: jnp.array([v]) for name, v in (at | {"width": width}).items()}
    drive = tjx.protocols.Steps(jnp.array([0.0, 2 * HALF]), values)
    process = tjx.Process(KINK, drive, Gaussian(0.0, 1.0))
    end = lambda run: run.path.xs[:, -1, 0]
    loss = optimal.average(end, process, HALF * jnp.arange(3.0), 8000, solver=dfx.Euler())
    fn = loss.likelihood_ratio if score else loss
    slope = jax.jit(jax.grad(lambda v, key: fn(eqx.tree_at(lambda p: p.values, drive, v), key)))
    with hurry.at_leisure():
        grads = [slope(values, key) for key in jax.random.split(jax.random.key(5), 8)]
    for name in at:
        got = np.array([g[name][0] for g in grads])
        error = got.std(ddof=1) / np.sqrt(8)
        apart = abs(got.mean() - want[name])
        if name in seen:
            assert error < 0.03
            assert apart < 4.5 * error
        elif name == "c":
            assert apart > max(0.3, 20 * error)
