"""Noise schedules against the closed forms of Gaussian data, and paths against the formula."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import sigmas

import thermojax as tjx
from thermojax import diffusion, schedules
from thermojax.densities import Gaussian
from thermojax.diffusion import predictor
from thermojax.schedules import LogSNR

# exact optima of the chain with tau = beta, for data N(0, s^2): (s, N): <w>
OPTIMA = {
    (0.5, 10): 0.0418990830,
    (0.5, 25): 0.0181548670,
    (0.1, 50): 0.1008990953,
    (2.0, 20): 0.0233905726,
}


class Exact(schedules.AbstractCurve):
    """The curve of Gaussian data in d dimensions, mmse = s^2/(1 + u s^2)."""

    s: Any
    dim: int = eqx.field(static=True, default=1)

    @property
    def second_moment(self):
        return self.s**2

    def __call__(self, lam):
        return self.s**2 / (1 + jnp.exp(lam) * self.s**2)

    def slope(self, lam):
        return -jnp.exp(lam) * self(lam) ** 2


def entropy(s, dim=1):
    return 0.5 * dim * np.log(2 * np.pi * np.e * s**2)


def oracle(s, n):
    """ln v_k linear in k: a_k^2 = (v_k - 1)/(s^2 - 1)."""
    v = s ** (2 * (n + 1 - np.arange(1, n + 1)) / (n + 1))
    square = (v - 1) / (s**2 - 1)
    return jnp.asarray(np.log(square / (1 - square)))


def denoiser(s):
    def denoise(x, lam):
        a2 = jax.nn.sigmoid(lam)
        return jnp.sqrt(a2) * s**2 / (a2 * s**2 + jax.nn.sigmoid(-lam)) * x

    return denoise


@pytest.mark.parametrize(("s", "n"), OPTIMA)
def test_the_formula_at_the_optimum(s, n):
    """The mean work of the exact optimum to 1e-10 of the closed form, and each of its parts dissipates the same."""
    lam = oracle(s, n)

    @jax.jit
    def at(lam):
        cost = lambda lam: schedules.mean_work(lam, Exact(s), tau="forward").total
        each = schedules.dissipation(lam, Exact(s), tau="forward")
        return *jax.value_and_grad(cost)(lam), each

    cost, slope, each = at(lam)
    ratio = s ** (2 / (n + 1))
    exact = 0.5 * ((n + 1) * (ratio - 1) - np.log(s**2))
    np.testing.assert_allclose(exact, OPTIMA[s, n], atol=1e-10)
    np.testing.assert_allclose(cost - entropy(s), exact, atol=1e-12, rtol=1e-10)
    np.testing.assert_allclose(each, exact / (n + 1), rtol=1e-7)
    np.testing.assert_allclose(slope, 0, atol=1e-9)


def test_optax_finds_it():
    """From the uniform schedule, by Adam on the formula: within 1e-4 of the optimum."""
    s, n = 0.5, 10
    loss = lambda schedule: schedules.mean_work(schedule(), Exact(s), tau="forward").total
    start = LogSNR.uniform(n, 6.0, -3.0, low=-12.0, high=12.0)
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 600))

        def update(carry, _):
            schedule, state = carry
            step, state = optimizer.update(jax.grad(loss)(schedule), state)
            return (optax.apply_updates(schedule, step), state), None

        (found, _), _ = jax.lax.scan(update, (start, optimizer.init(start)), None, 600)
    np.testing.assert_allclose(loss(found) - entropy(s), OPTIMA[s, n], rtol=1e-4)


def test_paths_find_it():
    """By Adam on the mean of simulated works alone, 25 levels: from 18 % above the optimum to within 1.5 % of it."""
    s, n, steps = 0.5, 25, 300
    start = LogSNR.uniform(n, 4.0, -2.0, low=-12.0, high=12.0)

    def loss(schedule, key):
        lam = schedule()

        def one(key):
            x0 = s * jax.random.normal(jax.random.fold_in(key, 1), (1,))
            return schedules.path_work(lam, denoiser(s), x0, key, tau=schedules.chain(lam).noise).w

        return jnp.mean(jax.vmap(one)(jax.random.split(key, 1000)))

    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps))

        def update(carry, key):
            schedule, state = carry
            step, state = optimizer.update(jax.grad(loss)(schedule, key), state)
            return (optax.apply_updates(schedule, step), state), None

        keys = jax.random.split(jax.random.key(0), steps)
        (found, _), _ = jax.lax.scan(update, (start, optimizer.init(start)), keys)
    cost = lambda schedule: (
        schedules.mean_work(schedule(), Exact(s), tau="forward").total - entropy(s)
    )
    assert cost(start) > 1.15 * OPTIMA[s, n]
    np.testing.assert_allclose(cost(found), OPTIMA[s, n], rtol=0.015)


@pytest.mark.parametrize("tau", ["optimal", "posterior", "forward"])
def test_paths_have_the_mean_of_the_formula(tau):
    """<w> of simulated paths is the formula's within 2 % of the ELBO's spread, and <e^-w> = 1; in two dimensions."""
    s, dim, n = 0.5, 2, 12
    curve, lam = Exact(s, dim), LogSNR.uniform(n, 5.0, -4.0)()
    variances = schedules.variances(lam, curve, tau=tau)
    data = Gaussian(jnp.zeros(dim), s**2)

    def one(key):
        key_data, key_path = jax.random.split(key)
        x0 = data.sample(key_data)
        work = schedules.path_work(
            lam, denoiser(s), x0, key_path, tau=variances, log_p0=data.log_prob
        )
        return work.w

    w = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 400_000))
    exact = schedules.mean_work(lam, curve, tau=tau).total - entropy(s, dim)
    bias = 0.03 if tau == "posterior" else 0.01
    sigmas.assert_within(w, exact, absolute=bias)
    sigmas.assert_biased(w + bias, exact)
    sigmas.assert_within(jnp.exp(-w), 1.0, bias=0.03)


def test_it_is_the_path_ratio_of_the_core():
    """The same path, the chains as Processes with kernels of their own: to rounding."""
    s, n = 0.7, 6
    lam = LogSNR.uniform(n, 4.0, -3.0)()
    curve, data = Exact(s), Gaussian(0.0, s**2)
    tau, kernels = schedules.variances(lam, curve), schedules.chain(lam)
    key = jax.random.key(2)
    x0, z = jnp.array([0.3]), jax.random.normal(key, (n, 1))
    xs = [x0]
    for k in range(n):
        xs.append(kernels.shrink[k] * xs[-1] + jnp.sqrt(kernels.noise[k]) * z[k])

    still = tjx.protocols.Function(lambda t: t, float(n))
    system = tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum(x**2))
    forward = tjx.Process(system, still, data)
    backward = tjx.Process(system, still, Gaussian(0.0, 1.0))
    at = lambda t: jnp.round(t).astype(int)

    def noising(process, x, t0, t1):
        return kernels.shrink[at(t0)] * x, jnp.full(1, kernels.noise[at(t0)])

    def generating(process, x, t0, t1):
        k = n - 1 - at(t0)
        clean = denoiser(s)(x, lam[k])
        return kernels.keep[k] * x + kernels.add[k] * clean, jnp.full(1, tau[k])

    path = tjx.Path(jnp.linspace(0.0, n, n + 1), jnp.stack(xs))
    ratio = tjx.path_ratio(forward, backward, path, kernels=(noising, generating))
    work = schedules.path_work(lam, denoiser(s), x0, key, tau=tau, log_p0=data.log_prob)
    np.testing.assert_allclose(work.w, ratio, rtol=1e-11)


def test_the_metric():
    """A small step costs half g times its square, for each kernel; for Gaussian data the optimal one costs nothing."""
    curve, delta = Exact(0.5), 0.004
    lam = jnp.linspace(3.0, -3.0, 7)
    for tau in ("posterior", "forward"):
        pairs = jnp.stack([lam + delta / 2, lam - delta / 2], 1)
        each = jnp.concatenate([schedules.dissipation(pair, curve, tau=tau) for pair in pairs])
        metric = schedules.friction(lam, curve, tau=tau)
        np.testing.assert_allclose(each, 0.5 * metric * delta**2, rtol=2e-2)
    np.testing.assert_allclose(schedules.friction(lam, curve), 0, atol=1e-12)


def test_equal_length_is_near_the_optimum():
    s, n = 0.5, 25
    exact = oracle(s, n)
    lam = schedules.equal_length(Exact(s), n, exact[0], exact[-1], tau="forward")
    cost = schedules.mean_work(lam, Exact(s), tau="forward").total - entropy(s)
    np.testing.assert_allclose(cost, OPTIMA[s, n], rtol=0.03)


def test_the_curve_of_a_denoiser():
    """By simulation: within chance of the exact one; interpolated smoothly; scores and noise predictors are denoisers."""
    s = 0.5
    data = s * jax.random.normal(jax.random.key(3), (4000, 2))
    levels = jnp.linspace(-4.0, 5.0, 10)
    variance = lambda lam: jax.nn.sigmoid(lam) * s**2 + jax.nn.sigmoid(-lam)
    score = lambda x, lam: -x / variance(lam)
    noise = lambda x, lam: jnp.sqrt(jax.nn.sigmoid(-lam)) * x / variance(lam)
    curves = [
        schedules.denoising_curve(denoise, data, levels, jax.random.key(4))
        for denoise in (denoiser(s), predictor(score, "score"), predictor(noise, "noise"))
    ]
    for curve in curves:
        np.testing.assert_allclose(curve.mse, Exact(s)(levels), rtol=0.06)
        np.testing.assert_allclose(curve.mse, curves[0].mse, rtol=1e-9)
    smooth = schedules.Curve(
        lam=levels, mse=Exact(s)(levels), second_moment=jnp.asarray(s**2), dim=1
    )
    between = jnp.linspace(-3.5, 4.5, 33)
    np.testing.assert_allclose(smooth(between), Exact(s)(between), rtol=5e-3)
    np.testing.assert_allclose(smooth.slope(between), Exact(s).slope(between), atol=5e-3)


@pytest.mark.parametrize(
    "make", [LogSNR.linear, LogSNR.cosine, LogSNR.edm, LogSNR.uniform], ids=lambda m: m.__name__
)
def test_schedules_fall_within_their_range(make):
    for n in (2, 10, 100):
        schedule = make(n)
        lam = schedule()
        assert lam.shape == (n,)
        assert (jnp.diff(lam) < 0).all()
        again = LogSNR.from_array(lam)()
        np.testing.assert_allclose(again, lam, atol=1e-9)
    moved = eqx.tree_at(
        lambda s: s.logits, schedule, schedule.logits + 30 * jnp.sin(schedule.logits)
    )
    assert (jnp.diff(moved()) <= 0).all()
    assert moved().max() <= 20
    assert moved().min() >= -20


def test_known_schedules():
    """EDM ends at its sigmas; DDPM's at the integral of its rate."""
    lam = LogSNR.edm(10)()
    np.testing.assert_allclose(lam[jnp.array([0, -1])], -2 * np.log([0.002, 80.0]), rtol=1e-9)
    np.testing.assert_allclose(jax.nn.log_sigmoid(LogSNR.linear(10)()[-1]), -10.05, rtol=1e-9)


def recipes(n):
    """As they were first written down, step by step."""
    t = np.arange(1, n + 1) / n
    f = np.cos(0.5 * np.pi * (np.arange(n + 1) / n + 0.008) / 1.008) ** 2
    square = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    root = np.linspace(0.002 ** (1 / 7), 80.0 ** (1 / 7), n)
    return {
        "linear": -np.log(np.expm1(0.1 * t + 9.95 * t**2)),
        "cosine": np.log(square / (1 - square)),
        "edm": -14 * np.log(root),
        "uniform": np.linspace(6.0, -3.0, n),
    }


@pytest.mark.parametrize("n", [1, 2, 25])
def test_levels_of_a_schedule_in_time(n):
    """The four standard ones by their own recipes; in general t = k/N from clean data, and both ends elsewhere."""
    for name, lam in recipes(n).items():
        np.testing.assert_allclose(getattr(LogSNR, name)(n)(), lam, rtol=1e-12, atol=1e-12)
    clean, late = diffusion.Linear(t0=0.0, t1=0.8), diffusion.Linear(t0=0.2, t1=0.8)
    for schedule, ts in (
        (clean, 0.8 * np.arange(1, n + 1) / n),
        (late, np.linspace(0.2, 0.8, n)),
        (diffusion.Cosine(offset=0.02, t0=0.0), 0.999 * np.arange(1, n + 1) / n),
        (diffusion.Levels(jnp.linspace(3.0, -3.0, n + 1)), np.arange(1, n + 1) * (n + 1) / n),
    ):
        lam = jax.vmap(schedule.log_snr)(jnp.asarray(ts))
        np.testing.assert_allclose(LogSNR.of(schedule, n)(), lam, rtol=1e-12, atol=1e-12)


def test_limits_are_numbers_that_stay():
    """An optax loop over all floating leaves does not move them, and other limits do not trace again."""
    traced = []

    @jax.jit
    @jax.value_and_grad
    def loss(schedule):
        traced.append(1)
        return schedules.mean_work(schedule(), Exact(0.5), tau="forward").total

    adam, found = optax.adam(0.05), {}
    for low in (-12.0, -9.0):
        schedule = start = LogSNR.uniform(6, 5.0, -3.0, low=low, high=11.0)
        state = adam.init(start)
        with jax.numpy_dtype_promotion("standard"):
            first = loss(start)[0]
            for _ in range(30):
                value, slope = loss(schedule)
                moves, state = adam.update(slope, state)
                schedule = optax.apply_updates(schedule, moves)
        assert [float(v) for v in schedule.given()] == [low, 11.0]
        assert (schedule.logits != start.logits).all()
        found[low] = value, first
    assert len(traced) == 1
    assert all(now < first for now, first in found.values())


def test_the_cost_as_a_loss():
    """The same number as the formula's, for a search and for a loop; its parts add up, one for each step."""
    schedule, curve = LogSNR.uniform(6, 5.0, -3.0, low=-12.0, high=12.0), Exact(0.5)
    for tau in ("optimal", "forward", jnp.full(6, 0.3)):
        cost = schedules.mean_work(schedule(), curve, tau=tau)
        price = schedules.cost_of(curve, tau=tau)
        assert price(schedule) == price(schedule, KEY) == cost.total
        np.testing.assert_allclose(jnp.sum(cost.steps) + cost.end, cost.total, rtol=1e-12)
        assert cost.steps.shape == (6,)
        np.testing.assert_array_equal(cost.parts, jnp.append(cost.steps, cost.end))
    price = schedules.cost_of(curve, tau="forward")
    found = tjx.optimal.search(price, schedule, KEY, steps=40, progress=False)
    assert found.price.value < price(schedule)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_schedule_and_no_curve():
    with pytest.raises(TypeError, match="schedule must be a schedule.*from_array"):
        LogSNR.of(jnp.array([2.0, 1.0]), 2)
    with pytest.raises(TypeError, match="curve must be a curve.*denoising_curve"):
        schedules.cost_of(lambda lam: lam)


def test_a_former_name_of_a_method():
    with pytest.warns(DeprecationWarning, match="stretched"):
        old = LogSNR.cosine(6).between(5.0, -2.0)
    np.testing.assert_array_equal(old(), LogSNR.cosine(6).stretched(5.0, -2.0)())


@pytest.mark.parametrize("tau", ["optimal", "posterior", "forward"])
def test_gradients_and_single_precision(tau):
    schedule = LogSNR.uniform(10, 5.0, -4.0)

    @jax.jit
    @jax.value_and_grad
    def both(logits, s):
        lam = eqx.tree_at(lambda l: l.logits, schedule, logits)()
        return schedules.mean_work(lam, Exact(s), tau=tau).total

    loss, slopes = (lambda *a: both(*a)[0]), (lambda *a: both(*a)[1])
    way = jnp.cos(jnp.arange(11.0))
    slope = slopes(schedule.logits, 0.5) @ way
    h = 1e-5
    differences = (loss(schedule.logits + h * way, 0.5) - loss(schedule.logits - h * way, 0.5)) / (
        2 * h
    )
    np.testing.assert_allclose(slope, differences, rtol=1e-6)
    single = schedule.logits.astype(jnp.float32)
    np.testing.assert_allclose(
        loss(single, jnp.float32(0.5)), loss(schedule.logits, 0.5), rtol=1e-5
    )
    narrow = slopes(single, jnp.float32(0.5))
    np.testing.assert_allclose(narrow, slopes(schedule.logits, 0.5), rtol=1e-3, atol=1e-4)


def test_no_callback():
    """The work of a path and its gradient are one program without calls to the host."""

    def loss(lam, log_tau):
        work = jax.vmap(
            lambda key: schedules.path_work(
                lam, denoiser(0.5), jnp.ones(1), key, tau=jnp.exp(log_tau)
            )
        )
        return jnp.mean(work(jax.random.split(jax.random.key(0), 3)).w)

    program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(jnp.array([2.0, 0.0]), jnp.zeros(2))
    assert "scan" in str(program)
    assert "callback" not in str(program)


def test_beyond_the_curve():
    """Nothing is extrapolated: an error that names the range, NaN while tracing."""
    levels = jnp.linspace(-4.0, 5.0, 10)
    curve = schedules.Curve(
        lam=levels, mse=Exact(0.5)(levels), second_moment=jnp.asarray(0.25), dim=1
    )
    assert np.isfinite(curve(levels)).all()
    with pytest.raises(ValueError, match="known for lam from -4 to 5, and was asked at -6 to 0"):
        schedules.mean_work(jnp.array([0.0, -6.0]), curve)
    assert np.isnan(jax.jit(lambda lam: curve(lam))(jnp.array([0.0, -6.0]))[1])
    metric = jax.jit(lambda lam: schedules.friction(lam, curve, tau="posterior"))
    assert np.isnan(metric(jnp.array([0.0, -6.0]))).tolist() == [False, True]


def test_the_euler_chain():
    """For Gaussian data the mean is (1 + B/2 - B/v) x; the steps of both means agree when they are short."""
    s, lam = 0.5, jnp.array([2.0, 0.5, -1.0])
    steps = schedules.chain(lam, "euler")
    square = jax.nn.sigmoid(lam)
    v = square * s**2 + 1 - square
    clean = jnp.sqrt(square) * s**2 / v
    drift = -jnp.diff(jnp.log(square), prepend=0.0)
    np.testing.assert_allclose(steps.keep + steps.add * clean, 1 + drift / 2 - drift / v)
    near = jnp.array([1.0, 0.999, 0.998])
    both = [schedules.chain(near, mean) for mean in ("ddpm", "euler")]
    moved = [(c.keep + c.add * clean[1] - 1)[1:] for c in both]
    np.testing.assert_allclose(moved[0], moved[1], rtol=2e-3)


def test_length_and_ends():
    """The length is the integral of sqrt g; N steps of equal length cost about L^2/2N; ends are moved, shapes kept."""
    curve = Exact(0.5)
    grid = jnp.linspace(-3.0, 4.0, 20001)
    speed = jnp.sqrt(schedules.friction(grid, curve, tau="forward"))
    expected = jnp.sum(0.5 * (speed[1:] + speed[:-1])) * (grid[1] - grid[0])
    found = schedules.thermodynamic_length(curve, 4.0, -3.0, tau="forward")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    lam = schedules.equal_length(curve, 200, 4.0, -3.0, tau="forward")
    spent = jnp.sum(schedules.dissipation(lam, curve, tau="forward"))
    np.testing.assert_allclose(spent, found**2 / (2 * 199), rtol=0.02)
    moved = LogSNR.cosine(6).stretched(5.0, -2.0)()
    np.testing.assert_allclose(moved[jnp.array([0, -1])], [5.0, -2.0], atol=1e-9)
    shape = lambda lam: (lam - lam[-1]) / (lam[0] - lam[-1])
    np.testing.assert_allclose(shape(moved), shape(LogSNR.cosine(6)()), rtol=1e-9)


def test_too_few_effective_paths_are_marked():
    """A schedule that dissipates 8 nats: <e^-w> is not to be trusted, and says so. A failed denoiser is not averaged."""
    s, lam = 0.02, LogSNR.uniform(5, 8.0, -3.0)()
    tau = schedules.variances(lam, Exact(s), tau="forward")

    def works(denoise):
        def one(key):
            x0 = s * jax.random.normal(jax.random.fold_in(key, 1), (1,))
            return schedules.path_work(
                lam, denoise, x0, key, tau=tau, log_p0=Gaussian(0.0, s**2).log_prob
            ).w

        return jax.vmap(one)(jax.random.split(jax.random.key(6), 2000))

    check = tjx.estimators.integral_fluctuation(works(denoiser(s)))
    assert not check.reliable
    assert check.ess < 0.1 * 2000
    broken = lambda x, lam: jnp.where(x > 0.5, jnp.nan, x)
    with pytest.raises(ValueError, match="not finite"):
        tjx.estimators.integral_fluctuation(works(broken))


def test_data_without_a_noise_floor():
    """Rounded data: the error of the exact denoiser falls below the noise that is left. The same data with noise: no."""
    data = jnp.round(2 * jax.random.normal(jax.random.key(7), (500, 1)))
    rows = jnp.arange(-9.0, 10.0)

    def denoise(x, lam):
        a2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
        weights = jax.nn.softmax(-((x - jnp.sqrt(a2) * rows) ** 2) / (2 * s2) - rows**2 / 8)
        return jnp.sum(weights * rows, keepdims=True)

    with pytest.warns(UserWarning, match="without a noise floor"):
        schedules.denoising_curve(denoise, data, jnp.linspace(-3.0, 5.0, 5), jax.random.key(8))
    smooth = 0.5 * jax.random.normal(jax.random.key(9), (500, 1))
    schedules.denoising_curve(denoiser(0.5), smooth, jnp.linspace(-3.0, 9.0, 5), jax.random.key(8))


def test_bad_schedules():
    for call, error, words in (
        (
            lambda: LogSNR.from_array(jnp.array([1.0, 2.0])),
            ValueError,
            "must fall strictly.*after index 0, where 2 follows 1",
        ),
        (lambda: LogSNR.from_array(jnp.array([30.0, 2.0])), ValueError, "must lie inside"),
        (lambda: LogSNR.from_array(jnp.zeros((2, 2))), ValueError, r"lam must have shape \(N,\)"),
        (lambda: LogSNR.uniform(0), ValueError, "steps must be a whole number"),
        (
            lambda: LogSNR.edm(5, sigma_min=-1.0),
            ValueError,
            "sigma_min must be .*greater than zero",
        ),
        (
            lambda: schedules.path_work(
                jnp.array([1.0, 0.0]),
                lambda x, lam: x[0],
                jnp.zeros(2),
                jax.random.key(0),
                tau=jnp.ones(2),
            ),
            ValueError,
            r"denoise\(x, lam\) must return a state of shape \(2,\)",
        ),
        (
            lambda: schedules.denoising_curve(
                lambda x, lam: x * jnp.nan, jnp.ones((5, 1)), jnp.arange(2.0), jax.random.key(0)
            ),
            ValueError,
            "finite and positive.*noise floor",
        ),
    ):
        with pytest.raises(error, match=words):
            call()


@pytest.fixture
def unchecked(monkeypatch):
    """As in a user's session: the annotations refuse nothing first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


KEY, FALLING, ONES = jax.random.key(0), jnp.array([1.0, 0.0]), jnp.ones(2)


def exact_curve(dtype=float):
    """On the levels from -4 to 5, as measured."""
    levels = jnp.linspace(-4.0, 5.0, 10, dtype=dtype)
    mse = jnp.asarray(Exact(0.5)(levels), dtype)
    return schedules.Curve(lam=levels, mse=mse, second_moment=jnp.asarray(0.25, dtype), dim=1)


USES = {
    "path_work": lambda d: schedules.path_work(FALLING, d, ONES, KEY, tau=ONES),
    "sample": lambda d: schedules.sample(FALLING, d, ONES, KEY, tau=ONES),
    "curve": lambda d: schedules.denoising_curve(d, jnp.ones((5, 2)), FALLING, KEY),
}
MAKERS = {
    "denoise": lambda fn: fn,
    "net": lambda fn: predictor(fn, "score"),
    "predict": lambda fn: predictor(fn, "noise", name="predict"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.usefixtures("unchecked")
def test_what_a_predictor_returns(name, use):
    """The shape and precision of the state, else an error that names it; nothing is broadcast."""
    says = rf"{name}\(x, lam\) must return a state of shape \(2,\), got "
    call = lambda fn: USES[use](MAKERS[name](fn))
    for out, got in (
        (lambda x: x[:1], r"\(1,\)"),
        (jnp.sum, r"\(\)"),
        (lambda x: (x, x), "tuple"),
        (lambda x: None, "NoneType"),
    ):
        with pytest.raises(ValueError, match=says + got):
            call(lambda x, lam, out=out: out(x))
    with pytest.raises(TypeError, match=f"what {name}.* returns is float32.*astype"):
        call(lambda x, lam: x.astype(jnp.float32))
    with pytest.raises(
        TypeError, match=rf"{name} must be a callable \(x, lam\), got one .*Wrap it"
    ):
        call(lambda x: x)
    with pytest.raises(TypeError, match=rf"{name} must be a callable \(x, lam\), got 0.5"):
        call(0.5)


ON_LEVELS = {
    "work": lambda lam: schedules.mean_work(lam, Exact(0.5)),
    "work, posterior": lambda lam: schedules.mean_work(lam, Exact(0.5), tau="posterior"),
    "work, tau": lambda lam: schedules.mean_work(lam, Exact(0.5), tau=jnp.ones_like(lam)),
    "dissipation": lambda lam: schedules.dissipation(lam, Exact(0.5)),
    "variances": lambda lam: schedules.variances(lam, Exact(0.5)),
    "forward": lambda lam: schedules.variances(lam, Exact(0.5), tau="forward"),
    "chain": schedules.chain,
    "euler": lambda lam: schedules.chain(lam, "euler"),
    "path": lambda lam: schedules.path_work(
        lam, denoiser(0.5), jnp.ones(1, lam.dtype), KEY, tau=jnp.ones_like(lam)
    ),
    "sample": lambda lam: schedules.sample(
        lam, denoiser(0.5), jnp.ones(1, lam.dtype), KEY, tau=jnp.ones_like(lam)
    ),
    "length": lambda lam: schedules.thermodynamic_length(Exact(0.5), lam[0], lam[1], tau="forward"),
    "equal_length": lambda lam: schedules.equal_length(
        Exact(0.5), 3, lam[0], lam[1], tau="forward"
    ),
}


@pytest.mark.parametrize("at", ON_LEVELS)
def test_levels_that_do_not_fall(at):
    """Refused, and NaN while tracing, the gradient too; those that fall pass unchanged, in both precisions."""
    run, ends = ON_LEVELS[at], at in ("length", "equal_length")
    cases = [[1.0, 3.0, -1.0], [1.0, 1.0, -1.0]]
    cases += [] if ends else [[3.0, 1.0, 1.5], [3.0, 1.0, jnp.nan]]
    total = lambda lam: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(run(lam)))
    program = jax.jit(lambda lam: (run(lam), jax.grad(total)(lam)))
    for case in cases:
        lam = jnp.array(case)
        with pytest.raises(ValueError, match="must fall strictly|must be finite"):
            run(lam)
        values, slope = program(lam)
        for leaf in jax.tree.leaves(values):
            assert np.isnan(leaf).all()
        assert np.isnan(slope[:2]).all()
    for dtype in (jnp.float32, jnp.float64):
        lam = jnp.array([3.0, 1.0, -1.0], dtype)
        values, slope = program(lam)
        for ours, eager in zip(jax.tree.leaves(values), jax.tree.leaves(run(lam)), strict=True):
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, eager, rtol=1e-3, atol=1e-5)
        assert np.isfinite(slope).all()
    if not ends:
        many = jax.vmap(run)(jnp.array([[3.0, 1.0, -1.0], [1.0, 3.0, -1.0]]))
        for leaf in jax.tree.leaves(many):
            assert np.isfinite(leaf[0]).all()
            assert np.isnan(leaf[1]).all()


@pytest.mark.usefixtures("unchecked")
def test_levels_as_given_by_users():
    """Whole numbers are levels; a schedule is to be called; one level is no list of levels."""
    lam, whole = jnp.array([3.0, 1.0, -1.0]), jnp.array([3, 1, -1])
    for run in (
        schedules.chain,
        lambda lam: schedules.dissipation(lam, Exact(0.5)),
        lambda lam: schedules.friction(lam, Exact(0.5), tau="forward"),
    ):
        for given in (whole, [3.0, 1.0, -1.0]):
            pairs = zip(jax.tree.leaves(run(given)), jax.tree.leaves(run(lam)), strict=True)
            for ours, theirs in pairs:
                np.testing.assert_array_equal(ours, theirs)
        with pytest.raises(TypeError, match=r"lam must be .*levels .*Call it: schedule\(\)"):
            run(LogSNR.uniform(3))
        with pytest.raises(ValueError, match=r"lam must have shape \([Nn],\), .* got \(\)"):
            run(1.0)
    rising = schedules.friction(lam[::-1], Exact(0.5), tau="forward")
    np.testing.assert_array_equal(rising[::-1], schedules.friction(lam, Exact(0.5), tau="forward"))


def test_the_ends_of_a_schedule():
    with pytest.raises(ValueError, match="low must lie below high.*low=3.0 and high=-3.0"):
        LogSNR(jnp.zeros(4), 3.0, -3.0)
    with pytest.raises(ValueError, match="low must lie below high, both finite"):
        LogSNR(jnp.zeros(4), -jnp.inf, 3.0)
    with pytest.raises(ValueError, match="stretched moves two ends, and this schedule has 1 level"):
        LogSNR.uniform(1).stretched(2.0, -2.0)


def test_the_grid_of_a_curve():
    """Two different levels at least, in any order."""
    data = 0.5 * jax.random.normal(jax.random.key(3), (50, 1))
    measure = lambda lam: schedules.denoising_curve(denoiser(0.5), data, lam, KEY)
    levels = jnp.array([2.0, -1.0, 0.5])
    np.testing.assert_array_equal(measure(levels).lam, [-1.0, 0.5, 2.0])
    np.testing.assert_array_equal(measure(levels).mse, measure(jnp.sort(levels)).mse)
    twice = jnp.array([1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="without repetitions, but 1 follows 1.*unique"):
        measure(twice)
    with pytest.raises(ValueError, match=r"at least two levels, \(n,\), got shape \(1,\)"):
        measure(levels[:1])
    with pytest.raises(ValueError, match=r"lam must have shape \(n,\)"):
        measure(jnp.ones((2, 2)))
    assert np.isnan(jax.jit(lambda lam: measure(lam).mse)(twice)).all()
    assert np.isfinite(jax.jit(lambda lam: measure(lam).mse)(levels)).all()
    with pytest.raises(ValueError, match="lam must rise strictly.*0 follows 1"):
        schedules.Curve(lam=FALLING, mse=ONES, second_moment=jnp.asarray(1.0), dim=1)


def test_noisy_levels_look_discrete_to_nobody():
    """Far in the noise any denoiser errs by little of the noise, whatever the mean of the data."""
    for mean, levels in ((0.0, jnp.linspace(-8.0, -5.0, 6)), (50.0, jnp.linspace(-8.0, -6.0, 3))):
        data = mean + jax.random.normal(jax.random.key(3), (500, 1))

        def denoise(x, lam, mean=mean):
            a = jnp.sqrt(jax.nn.sigmoid(lam))
            return mean + denoiser(1.0)(x - a * mean, lam)

        schedules.denoising_curve(denoise, data, levels, KEY)


def test_worse_than_no_denoiser():
    """A noise predictor taken for a denoiser, and a network that reads the level as a time; poor ones pass."""
    data = 0.1 * jax.random.normal(jax.random.key(3), (500, 2))
    levels = jnp.linspace(-10.0, 8.0, 19)
    price = lambda d: schedules.denoising_curve(d, data, levels, KEY)
    variance = lambda lam: jax.nn.sigmoid(lam) * 0.01 + jax.nn.sigmoid(-lam)
    noise = lambda x, lam: jnp.sqrt(jax.nn.sigmoid(-lam)) * x / variance(lam)
    clock = diffusion.Uniform(8.0, -10.0)
    reads_time = lambda x, t: noise(x, clock.log_snr(jnp.sin(t) ** 2))  # by sines, as they do
    for wrong in (noise, predictor(reads_time, "noise")):
        with pytest.warns(UserWarning, match="worse than none.*time.*predictor"):
            price(wrong)
    # nothing predicted, nothing done, and a small error of the noise that is large in the state
    sloppy = lambda x, lam: noise(x, lam) + 0.1
    for poor in (lambda x, lam: 0 * x, lambda x, lam: x, predictor(sloppy, "noise")):
        price(poor)


def test_the_precision_of_the_curve():
    """Ends that are Python's numbers take the curve's; two precisions are an error."""
    single, double = exact_curve(jnp.float32), exact_curve()
    for curve, dtype in ((single, jnp.float32), (double, jnp.float64)):
        lam = schedules.equal_length(curve, 5, 4, -3.0, tau="forward")
        assert lam.dtype == dtype
        assert schedules.thermodynamic_length(curve, 4.0, -3, tau="forward").dtype == dtype
    lam = jnp.array([3.0, 1.0, -1.0])
    for run in (
        lambda: schedules.mean_work(lam, single),
        lambda: schedules.mean_work(lam.astype(jnp.float32), single, tau=jnp.ones(3)),
        lambda: schedules.variances(lam, single),
        lambda: schedules.friction(lam, single),
        lambda: schedules.thermodynamic_length(single, lam[0], -1.0),
        lambda: schedules.denoising_curve(denoiser(0.5), jnp.ones((5, 1), jnp.float32), lam, KEY),
    ):
        with pytest.raises(TypeError, match="One floating-point precision per run.*astype"):
            run()


@pytest.mark.usefixtures("unchecked")
def test_one_typed_key_and_a_scalar_density():
    for key, error, words in (
        (jax.random.PRNGKey(0), TypeError, "key must be a typed random key"),
        (0, TypeError, "key must be a typed random key"),
        (jax.random.split(KEY), ValueError, "key must be one key"),
    ):
        for run in (schedules.path_work, schedules.sample):
            with pytest.raises(error, match=words):
                run(FALLING, denoiser(0.5), ONES, key, tau=ONES)
    with pytest.raises(ValueError, match="log_p0 must return one real scalar.*log_prob"):
        schedules.path_work(FALLING, denoiser(0.5), ONES, KEY, tau=ONES, log_p0=lambda x: -(x**2))


# ---- standard schedules in the range of a network


@pytest.mark.parametrize(
    ("levels", "high", "want"),
    [
        ([4.0, 2.0, -1.0, -3.0, -9.0], 7.0, [4.0, 2.0, -1.0, -3.0, -4.0]),  # halfway to low
        ([12.0, 8.0, 2.0, 0.0], 6.5, [5.0, 3.5, 2.0, 0.0]),  # evenly up to high
        ([9.0, 7.0], 4.0, [1.0, -2.0]),  # none inside: evenly between the limits
        ([3.0, 1.0], 7.0, [3.0, 1.0]),
    ],
)
def test_a_schedule_is_clipped_to_a_range_on_request(levels, high, want):
    lam, limits = jnp.array(levels), {"low": -5.0, "high": high}
    if levels != want:
        with pytest.raises(ValueError, match=r"inside \(low, high\).*clip=True"):
            LogSNR.from_array(lam, **limits)
    made = jax.jit(lambda lam: LogSNR.from_array(lam, **limits, clip=True)())
    for clipped in (LogSNR.from_array(lam, **limits, clip=True)(), made(lam)):
        np.testing.assert_allclose(clipped, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine", "edm", "uniform"])
def test_every_standard_schedule_can_be_clipped(kind):
    make = getattr(LogSNR, kind)
    lam = make(12, low=-2.0, high=3.0, clip=True)()
    assert (lam < 3.0).all()
    assert (lam > -2.0).all()
    assert (np.diff(lam) < 0).all()
    with pytest.raises(ValueError, match="clip=True"):
        make(12, low=-2.0, high=3.0)


def test_ends_of_arctan_in_single_precision():
    for top, bottom in ((20.0, -30.0), (60.0, -20.0)):
        levels = schedules.arctan(5, jnp.float32(top), jnp.float32(bottom), scale=jnp.float32(0.5))
        assert (levels[0], levels[-1]) == (top, bottom)


def test_one_schedule_has_one_row_of_logits():
    with pytest.raises(ValueError, match=r"logits must have shape \(N \+ 1,\)"):
        LogSNR(jnp.zeros((2, 4)), -20.0, 20.0)


def test_times_of_cosine_in_single_precision():
    """Of low and of high noise, where t is a difference of two angles nearly the same: against double precision."""
    levels = np.array([30.0, 20.0, 18.0, 17.0, 12.0, 4.0, 0.0, -4.0, -8.0, -12.0])
    times = [
        np.asarray(diffusion.Cosine(offset=dtype(0.008), t0=0.0).time(jnp.asarray(levels, dtype)))
        for dtype in (jnp.float32, jnp.float64)
    ]
    np.testing.assert_allclose(*times, rtol=1e-6)
    cosine = diffusion.Cosine(t0=0.0)
    back = [cosine.log_snr(cosine.time(level)) for level in levels[:-1]]
    np.testing.assert_allclose(back, levels[:-1], rtol=1e-9, atol=1e-9)
