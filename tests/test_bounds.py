"""Bounds and the geometry of slow drives, against closed forms: values, gradients, and what is refused."""

import inspect
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize

import thermojax as tjx
from thermojax import bounds as B
from thermojax.densities import Boltzmann, Empirical, Gaussian, Mixture, Point
from thermojax.systems import Grid

EXACT = 1e-10
RING = 2 * np.pi


def close(a, b, tolerance=EXACT):
    np.testing.assert_allclose(
        np.asarray(a, float), np.asarray(b, float), rtol=tolerance, atol=1e-12
    )


def slope(fn, x, h=1e-5):
    """By central differences of the fourth order."""
    far, near = (fn(x + 2 * h) - fn(x - 2 * h)), (fn(x + h) - fn(x - h))
    return (8 * near - far) / (12 * h)


def covariances(d, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(2):
        a = rng.normal(size=(d, d))
        yield rng.normal(size=d), a @ a.T + 0.1 * np.eye(d)


def bures(m, s, n, r):
    half = scipy.linalg.sqrtm(s).real
    cross = scipy.linalg.sqrtm(half @ r @ half).real
    return np.sqrt(np.sum((m - n) ** 2) + np.trace(s + r - 2 * cross))


# ---- the distance of Gaussians


@pytest.mark.parametrize("d", [1, 2, 5])
def test_gaussians(d):
    (m, s), (n, r) = covariances(d)
    p, q = Gaussian(m, jnp.asarray(s)), Gaussian(n, jnp.asarray(r))
    close(B.wasserstein(p, q), bures(m, s, n, r))
    close(B.wasserstein(q, p), bures(m, s, n, r))
    assert float(B.wasserstein(p, p)) < 1e-12  # no difference of large numbers
    unit = np.linspace(0.5, 2.0, d)
    scaled = bures(m / unit, s / np.outer(unit, unit), n / unit, r / np.outer(unit, unit))
    close(B.wasserstein(p, q, unit=jnp.asarray(unit)), scaled)


def test_gaussians_of_very_different_widths():
    s, r = np.diag([1.0, 1e-8, 1e4]), np.diag([4.0, 1.0, 1e-6])
    p, q = Gaussian(0.0 * np.ones(3), jnp.asarray(s)), Gaussian(0.0 * np.ones(3), jnp.asarray(r))
    close(B.wasserstein(p, q) ** 2, np.sum((np.sqrt(np.diag(s)) - np.sqrt(np.diag(r))) ** 2))


def test_points():
    (m, s), (n, _) = covariances(3)
    p = Gaussian(m, jnp.asarray(s))
    close(B.wasserstein(p, Point(n)) ** 2, np.sum((m - n) ** 2) + np.trace(s))
    close(B.wasserstein(Point(m), Point(n)), np.linalg.norm(m - n))


def test_gradient_of_gaussians():
    (m, s), (n, r) = covariances(3)
    direction = np.random.default_rng(5).normal(size=(3, 3))
    direction = jnp.asarray(direction + direction.T)

    def distance(h):
        p = Gaussian(jnp.asarray(m) + h, jnp.asarray(s) + h * direction)
        return B.wasserstein(p, Gaussian(n, jnp.asarray(r)))

    exact = slope(lambda h: bures(m + h, s + h * np.asarray(direction), n, r), 0.0, 1e-4)
    close(jax.grad(distance)(0.0), exact, 1e-8)
    close(jax.jit(jax.grad(distance))(0.0), exact, 1e-8)
    close(jax.hessian(distance)(0.0), slope(jax.grad(distance), 0.0, 1e-4), 1e-7)
    many = jnp.linspace(0.0, 0.01, 3)
    close(jax.vmap(distance)(many), [float(distance(h)) for h in many])
    # d W2 / d mean of one coordinate is a sign, and at the kink p = q it is zero, not NaN
    one = lambda m: B.wasserstein(Gaussian(m, 1.0), Gaussian(0.0, 1.0))
    close(jax.grad(one)(2.0), 1.0)
    close(jax.grad(one)(0.0), 0.0)


def test_a_gaussian_that_is_flat_in_one_direction():
    """It has no root: said, and NaN while tracing."""
    flat = Gaussian.from_root(jnp.zeros(2), jnp.array([[1.0, 0.0], [1.0, 0.0]]))
    for pair in ((flat, Gaussian(jnp.zeros(2), 1.0)), (Gaussian(jnp.zeros(2), 1.0), flat)):
        with pytest.raises(ValueError, match="covariance of p and of q must be positive definite"):
            B.wasserstein(*pair)
        assert jnp.isnan(eqx.filter_jit(B.wasserstein)(*pair))


# ---- one dimension


@pytest.mark.parametrize(("n", "m"), [(50, 50), (40, 60), (7, 30)])
def test_samples(n, m):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=n), 2 + rng.gumbel(size=m)
    level = (np.arange(n * m) + 0.5) / (n * m)
    steps = np.sort(x)[(level * n).astype(int)] - np.sort(y)[(level * m).astype(int)]
    found = B.wasserstein(x[:, None], y[:, None])
    close(found, np.sqrt(np.mean(steps**2)))
    close(B.wasserstein(Empirical(x[:, None]), Empirical(y[:, None]), unit=2.0), found / 2)
    moved = lambda a: B.wasserstein(a * jnp.asarray(x)[:, None], jnp.asarray(y)[:, None])
    close(jax.grad(moved)(1.0), slope(moved, 1.0), 1e-8)
    close(jax.grad(lambda a: B.wasserstein(jnp.asarray(x)[:, None] + a, x[:, None]))(0.3), 1.0)


def test_cells_are_exact():
    """Uniform densities, on other grids: W2^2 of [0, a] and [b, b + c] is (b + (c - a)/2)^2 + (c - a)^2/12."""
    left, right = Grid(0.0, 1.0, 7), Grid(-1.0, 4.0, 10)
    p, q = jnp.ones(7), jnp.where(jnp.arange(10) >= 6, 3.0, 0.0)  # on [2, 4]
    close(B.wasserstein((left, p), (right, q)) ** 2, (2 + 0.5) ** 2 + 1 / 12)
    close(B.wasserstein((left, p), (right, q), unit=jnp.array([0.5])) ** 2, 4 * (6.25 + 1 / 12))
    two = jnp.zeros(10).at[0].set(1.0).at[9].set(1.0)  # with nothing in between
    edges = [(a, b) for a, b in ((-1.0, -0.5), (3.5, 4.0))]
    ends = [np.polyval([1, 0], e) for e in edges]
    gap = [(e[0] - o[0], e[1] - o[1]) for e, o in zip(ends, ((0, 0.5), (0.5, 1)), strict=True)]
    exact = sum(0.5 * (a * a + a * b + b * b) / 3 for a, b in gap)
    close(B.wasserstein((left, p), (right, two)) ** 2, exact)
    assert float(B.wasserstein((left, p), (left, 3 * p))) == 0


def test_gradient_of_cells():
    grid, other = Grid(-6.0, 6.0, 200), Grid(-5.0, 7.0, 170)
    x, y = grid.axis(0), other.axis(0)
    q = jnp.exp(-((y - 1) ** 2))
    distance = lambda a: B.wasserstein((grid, jnp.exp(-0.5 * a * x**2 + jnp.sin(x))), (other, q))
    for fn in (jax.grad(distance), jax.jit(jax.grad(distance)), jax.jacfwd(distance)):
        close(fn(1.3), slope(distance, 1.3, 1e-4), 1e-6)
    close(jax.vmap(distance)(jnp.array([1.0, 1.3]))[1], distance(1.3))


@pytest.mark.parametrize(
    ("barrier", "square"),
    [(1, 0.979764), (2, 1.168066), (4, 1.475924), (8, 1.701744), (50, 1.906814)],
)
def test_erasure(barrier, square):
    """A bit in a quartic double well, against the integral of its quantiles."""
    grid = Grid(-3.0, 3.0, 12000)
    x = grid.axis(0)
    p = jnp.exp(-barrier * (x**2 - 1) ** 2)
    found = B.wasserstein((grid, p), (grid, jnp.where(x > 0, p, 0.0)))
    assert float(found**2) == pytest.approx(square, abs=1.5e-6)


def test_smooth_erasure():
    """Half of two bumps carried into one: T (S0 - S1) + T W2^2 / (D tau) = .675943 + 1.495962."""
    both = Mixture(jnp.array([0.5, 0.5]), [Gaussian(-1.0, 0.16), Gaussian(1.0, 0.16)])
    one, grid = Gaussian(1.0, 0.16), Grid(-5.0, 5.0, 8000)
    distance = B.wasserstein(both, one, grid=grid)
    assert float(distance**2) == pytest.approx(1.495962, abs=1e-6)
    p = jnp.exp(grid.each(both.log_prob))
    drop = -jnp.sum(p * jnp.log(p)) * grid.volume - one.entropy()
    assert float(drop) == pytest.approx(0.675943, abs=1e-6)
    assert float(B.landauer(drop, distance, 1.0)) == pytest.approx(2.171904, abs=1e-6)
    assert float(B.landauer(drop, distance, 2.0, temperature=3.0)) == pytest.approx(
        3 * (0.675943 + 1.495962 / 2), abs=3e-6
    )


# ---- several dimensions by samples


def clouds(n=60):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)), 0.5 * rng.normal(size=(n, 2)) + [1.0, 2.0]


def test_sinkhorn_against_an_exact_assignment():
    x, y = clouds()
    cost = np.sum((x[:, None] - y[None]) ** 2, -1)
    exact = cost[scipy.optimize.linear_sum_assignment(cost)].mean()
    loose, tight = (float(B.wasserstein(x, y, epsilon=e)) ** 2 for e in (0.3, 0.02))
    assert abs(tight / exact - 1) < 2e-3
    assert abs(loose / exact - 1) < 2e-2
    distance = lambda h: B.wasserstein(jnp.asarray(x) * (1 + h), jnp.asarray(y), epsilon=0.3)
    close(jax.grad(distance)(0.0), slope(distance, 0.0, 1e-2), 1e-3)
    assert float(B.wasserstein(x, x, epsilon=0.3)) < 1e-2


def test_samples_far_from_zero():
    """A common shift changes no distance; of two samples in doubles single precision takes the difference alone."""
    x, y = clouds()
    exact = B.wasserstein(x, y, epsilon=0.3)
    close(B.wasserstein(x + 1e6, y + 1e6, epsilon=0.3), exact, 1e-8)
    with jax.enable_x64(False):
        far = [jnp.asarray(v + 2e4) for v in (x, y)], [v + 1e9 for v in (x, y)]
        for pair in far:
            assert float(B.wasserstein(*pair, epsilon=0.3)) == pytest.approx(float(exact), rel=1e-3)
        with pytest.raises(ValueError, match=r"p: widths of .* lost in float32"):
            B.wasserstein(x + 1e9, jnp.asarray(y))


def test_without_ott(monkeypatch):
    monkeypatch.setitem(sys.modules, "ott", None)
    monkeypatch.delitem(sys.modules, "ott.tools.sinkhorn_divergence", raising=False)
    with pytest.raises(ImportError, match=r"pip install thermojax\[transport\]"):
        B.wasserstein(*clouds(5))


# ---- the bounds of a finite time


def test_transport():
    distance = B.wasserstein(Gaussian(0.0, 1.0), Gaussian(1.5, 0.16))
    assert float(B.transport(distance, 0.8 * 0.7)) == pytest.approx(4.660714286, abs=1e-9)
    close(jax.grad(B.transport)(2.0, 4.0), 2 * 2 / 4)
    close(B.landauer(np.log(2), 0.0, 1.0, temperature=2.0), 2 * np.log(2))
    close(B.least_work(0.3, 2.0, 4.0, divergence=0.5, temperature=2.0), 0.3 + 2 * (1 + 0.5))


def trap(mobility=1.0, temperature=0.8):
    return tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2), None, mobility, temperature
    )


def test_the_bound_is_reached_and_not_passed():
    """Mean and width that go straight and evenly reach it; a ramp of the controls to the same end does not."""
    tau, mu, T = 0.7, 1.0, 0.8
    system, start, stop = trap(mu, T), Gaussian(0.0, 1.0), Gaussian(1.5, 0.16)

    def optimal(t):
        s, rate = 1 - 0.6 * t / tau, -0.6 / tau
        k = (mu * T / s**2 - rate / s) / mu
        return {"k": k, "c": 1.5 * t / tau + 1.5 / tau / (mu * k)}

    def run(drive):
        process = tjx.Process(system, tjx.protocols.Function(drive, tau), start)
        ts = jnp.linspace(0.0, tau, 21)
        e = tjx.evolve.moments(process, ts)
        time = B.diffusion_time(process, ts)
        bound = B.transport(B.wasserstein(start, Gaussian(e.mean[-1], e.cov[-1])), time)
        return e, float(e.entropy.total[-1]), float(bound)

    e, total, bound = run(optimal)
    close(e.mean[-1], [1.5], 1e-8)
    assert total == pytest.approx(bound, rel=1e-8)
    assert bound == pytest.approx(4.660714286, abs=1e-7)
    close(B.wasserstein(start, stop) ** 2, 2.61)
    _, total, bound = run(lambda t: {"k": 0.8 + 3.0 * t, "c": 2.0 * t})
    assert total > 1.05 * bound


def test_least_work_of_a_run():
    """What a run from equilibrium spends lies above, by first law and transport alone."""
    system = trap(1.0, 0.8)
    drive = tjx.protocols.Function(lambda t: {"k": 1 + 3 * t, "c": 2 * t}, 1.0)
    start, end = (Boltzmann(system, lam) for lam in (drive.before, drive.after))
    e = tjx.evolve.moments(tjx.Process(system, drive, start), jnp.linspace(0.0, 1.0, 21))
    (m,), ((v,),), (c,), ((w,),) = e.mean[-1], e.cov[-1], *end.normal()
    divergence = 0.5 * (v / w - 1 - jnp.log(v / w) + (m - c) ** 2 / w)
    distance = B.wasserstein(start, Gaussian(m, v))
    delta = -0.8 * (end.log_partition() - start.log_partition())
    bound = B.least_work(delta, distance, 0.8, divergence=divergence, temperature=0.8)
    assert 0.3 * float(e.work[-1]) < float(bound) < float(e.work[-1])


def test_diffusion_time():
    warm = lambda slope: tjx.Overdamped(
        lambda x, lam: 0.5 * jnp.sum(x**2), mobility=0.5, temperature=lambda lam: 1 + slope * lam
    )
    ts, drive = jnp.linspace(0.0, 2.0, 3), tjx.protocols.ramp(0.0, 1.0, 2.0)
    time = lambda a: B.diffusion_time(tjx.Process(warm(a), drive, Gaussian(0.0, 1.0)), ts)
    close(time(0.6), 0.5 * 2 * 1.3)
    close(jax.grad(time)(0.6), 0.5)
    close(jax.jit(time)(0.6), 1.3)
    close(jax.vmap(time)(jnp.array([0.0, 0.6])), [1.0, 1.3])


def per_coordinate(change):
    return tjx.Overdamped(
        lambda x, lam: 0.5 * jnp.sum(x**2),
        mobility=lambda lam: jnp.stack([1 + lam, 4 * (1 + lam) * (1 + change * lam)]),
    )


def test_a_diffusion_constant_per_coordinate():
    drive, start = tjx.protocols.ramp(0.0, 1.0, 2.0), Gaussian(jnp.zeros(2), 1.0)
    ts = jnp.linspace(0.0, 2.0, 5)
    time = B.diffusion_time(tjx.Process(per_coordinate(0.0), drive, start), ts)
    close(time, [3.0, 12.0])
    end = Gaussian(jnp.array([1.0, 2.0]), 1.0)
    close(B.transport(B.wasserstein(start, end, unit=jnp.sqrt(time)), 1.0), 1 / 3 + 4 / 12)
    with pytest.raises(ValueError, match="ratio of the diffusion constants"):
        B.diffusion_time(tjx.Process(per_coordinate(0.1), drive, start), ts)
    traced = lambda a: B.diffusion_time(tjx.Process(per_coordinate(a), drive, start), ts)
    assert np.isnan(jax.jit(traced)(0.1)).all()


# ---- currents


def test_tur_of_a_flat_ring_is_tight():
    """Free drift: mean mu f t, variance 2 mu T t, entropy mu f^2 t / T = 8 for f = 2, T = .5."""
    mu, f, T, t = 1.0, 2.0, 0.5, 1.0
    close(B.tur(mu * f * t, 2 * mu * T * t), mu * f**2 * t / T)
    close(jax.grad(B.tur)(2.0, 1.0), 4 * 2.0)
    close(jax.grad(B.tur, 1)(2.0, 1.0), -8.0)


def test_tur_of_a_tilted_ring():
    """V = cos x, f = 1, T = .5: drift and D_eff in closed form (Reimann et al., PRL 87, 010602), and from the generator."""
    T, f = 0.5, 1.0
    nodes, weights = np.polynomial.legendre.leggauss(200)
    y, weights = RING * (1 + nodes) / 2, weights / 2
    energy = lambda x: np.cos(x) - f * x
    x = RING * np.arange(256)[:, None] / 256  # periodic in x: the plain mean is exact
    plus = np.exp((energy(x) - energy(x - y)) / T) @ weights
    minus = np.exp((energy(x + y) - energy(x)) / T) @ weights
    v = T * (1 - np.exp(-f * RING / T)) / (RING * np.mean(plus))
    d = T * np.mean(plus**2 * minus) / np.mean(plus) ** 3

    def growth(q, modes=40):
        """ln <e^{q x}> / t = v q + D q^2 + ...: the highest eigenvalue of the tilted Fokker-Planck operator."""
        one = np.eye(2 * modes + 1)
        k = np.diag(1j * np.arange(-modes, modes + 1)) - q * one
        force = f * one + (np.eye(len(one), k=-1) - np.eye(len(one), k=1)) / 2j
        return np.linalg.eigvals(T * k @ k - k @ force).real.max()

    h = 0.01
    assert v == pytest.approx((growth(h) - growth(-h)) / (2 * h), rel=1e-3)
    assert d == pytest.approx((growth(h) + growth(-h)) / (2 * h**2), rel=1e-3)
    assert v == pytest.approx(0.626523187, abs=1e-9)
    rate = f * v / T
    assert 2 * d * rate / v**2 == pytest.approx(5.077169, abs=1e-6)
    assert float(B.tur(v, 2 * d)) == pytest.approx(2 * rate / 5.077169, rel=1e-6)


def test_tur_of_samples():
    """The estimate, and its error against the scatter of many samples; skewed, so that all terms count."""
    draw = lambda key: 0.5 + jax.random.gamma(key, 2.0, (400,))
    found = jax.vmap(lambda key: B.tur_of(draw(key)))(jax.random.split(jax.random.key(0), 2000))
    exact = 2 * 2.5**2 / 2
    spread = float(jnp.std(found.value))
    assert abs(np.mean(found.value) - exact) < 0.05 * exact
    assert float(jnp.mean(found.stderr)) == pytest.approx(spread, rel=0.08)
    assert 0.85 < np.mean(found.reliable) < 0.95  # one in ten hangs on one realisation, and says so
    idle = jax.vmap(lambda key: B.tur_of(jax.random.normal(key, (400,))))(
        jax.random.split(jax.random.key(1), 2000)
    )
    assert float(jnp.mean(idle.value)) == pytest.approx(2 / 400, rel=0.15)
    assert np.mean(idle.reliable) > 0.99
    assert np.mean(idle.stderr) > 0.9 * np.std(idle.value)


def test_tur_of_one_sample():
    x = jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, 300))
    found = B.tur_of(x)
    close(found.value, B.tur(x.mean(), x.var(ddof=1)))
    scaled = lambda a: B.tur_of(x + a).value
    close(jax.grad(scaled)(0.0), 4 * x.mean() / x.var(ddof=1), 1e-8)
    x = x.at[3].set(jnp.nan)
    with pytest.raises(ValueError, match="not finite"):
        B.tur_of(x)
    assert np.isfinite(B.tur_of(x, failed="drop").value)
    assert not bool(jax.jit(B.tur_of)(x).reliable)
    with pytest.raises(ValueError, match="current must be a sample whose members differ"):
        B.tur_of(jnp.ones(20))


# ---- the friction tensor

MU, TEMPERATURE = 0.7, 1.3


def test_friction_of_a_moving_trap():
    system = tjx.Overdamped(tjx.potentials.MovingTrap(2.0), mobility=MU, temperature=TEMPERATURE)
    close(TEMPERATURE * B.friction(system, 0.4), [[1 / MU]])
    close(TEMPERATURE * B.friction(system, 0.4, grid=Grid(-9.0, 10.0, 400)), [[1 / MU]], 1e-8)


def test_friction_of_a_stiffness():
    system = tjx.Overdamped(tjx.potentials.Breathing(), mobility=MU, temperature=TEMPERATURE)
    exact = lambda k: 1 / (4 * MU * k**3)  # of nats; T / (4 mu k^3) of energy
    close(B.friction(system, 2.3), [[exact(2.3)]])
    grid = Grid(-9.0, 9.0, 400)
    close(B.friction(system, 2.3, grid=grid), [[exact(2.3)]], 1e-8)
    for on in (None, grid):
        at = lambda k, on=on: B.friction(system, k, grid=on)[0, 0]
        close(jax.grad(at)(2.3), -3 * exact(2.3) / 2.3, 1e-7)
        close(jax.jit(at)(2.3), exact(2.3), 1e-8)
        many = jnp.array([1.0, 2.3])
        close(jax.vmap(at)(many), exact(many), 1e-7)


def test_friction_of_a_driven_bath():
    """The control a = k/T of the reduced potential: 1 / (4 D a^3), D that of the moment."""
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2), mobility=MU, temperature=lambda lam: lam["T"]
    )
    lam = {"k": 2.0, "T": 1.6}
    a, D = 2.0 / 1.6, MU * 1.6
    by_a = np.array([-a / 1.6, 1 / 1.6])  # da/dT, da/dk: in the order of the names
    exact = np.outer(by_a, by_a) / (4 * D * a**3)
    close(B.friction(system, lam), exact)
    close(B.friction(system, lam, grid=Grid(-12.0, 12.0, 600)), exact, 1e-8)


def test_friction_of_several_coordinates():
    """Against the integral of the correlation functions, with a mobility per coordinate."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 3, 3))
    mobility, T = np.array([0.5, 1.0, 2.0]), 0.8
    base, more = a @ a.T + np.eye(3), b + b.T
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * (x @ (base + lam["k"] * more) @ x) - x @ lam["f"] + lam["k"] * x[0],
        mobility=jnp.asarray(mobility),
        temperature=T,
    )
    lam = {"f": jnp.array([0.3, -0.2, 0.5]), "k": 0.05}
    K = (base + 0.05 * more) / T
    mean = np.linalg.solve(K * T, np.asarray(lam["f"]) - [0.05, 0, 0])
    slopes = np.concatenate([-np.eye(3), [more @ mean + [1, 0, 0]]]) / T  # of X at the mean
    bends = np.concatenate([np.zeros((3, 3, 3)), [more]]) / T
    D, S = np.diag(mobility * T), np.linalg.inv(K)

    def correlation(t):
        c = scipy.linalg.expm(-D @ K * t) @ S
        quadratic = 0.5 * np.einsum("iab,bc,jcd,ad->ij", bends, c, bends, c)
        return slopes @ c @ slopes.T + quadratic

    nodes, weights = np.polynomial.legendre.leggauss(200)
    slowest = np.linalg.eigvals(D @ K).real.min()
    u = 0.5 * (1 + nodes)
    exact = sum(
        0.5 * w * correlation(-2 * np.log(s) / slowest) * 2 / (slowest * s)
        for s, w in zip(u, weights, strict=True)
    )
    found = B.friction(system, lam, dim=3)
    close(found, exact, 1e-7)
    assert np.linalg.eigvalsh(found).min() > 0
    close(jax.jit(lambda lam: B.friction(system, lam, dim=3))(lam), found)


def test_friction_of_a_double_well():
    """Against the eigenvalues of the generator on a lattice, whose error is of the second order."""
    system = tjx.Overdamped(
        lambda x, lam: jnp.sum(2 * (x**2 - 1) ** 2 - lam["a"] * x + lam["b"] * x**2)
    )
    lam, grid = {"a": 0.3, "b": 0.2}, Grid(-2.8, 2.8, 600)
    x = np.asarray(grid.axis(0))
    U, h = 2 * (x**2 - 1) ** 2 - 0.3 * x + 0.2 * x**2, grid.widths[0]
    up, down = np.exp(-np.diff(U) / 2) / h**2, np.exp(np.diff(U) / 2) / h**2
    L = np.diag(up, -1) + np.diag(down, 1)
    L -= np.diag(L.sum(0))
    p = np.exp(-U) / np.exp(-U).sum()
    X = np.stack([-x, x**2], 1)
    X -= p @ X
    times = np.linalg.lstsq(L, p[:, None] * X, rcond=None)[0]  # -int_0^oo e^{Lt} p X dt, and some p
    exact = -X.T @ times
    found = B.friction(system, lam, grid=grid)
    close(found, exact, 3e-4)
    close(B.friction(system, lam, grid=Grid(-2.8, 2.8, 300)), found, 1e-6)  # of the fourth order
    by = lambda a: B.friction(system, {"a": a, "b": 0.2}, grid=grid)[0, 1]
    close(jax.grad(by)(0.3), slope(by, 0.3, 1e-3), 1e-7)


def test_friction_on_a_ring_and_in_a_box():
    """cos x on the ring decays at D, and its variance is 1/2; in a box of width pi so does cos x."""
    system = tjx.Overdamped(lambda x, lam: lam * jnp.sum(jnp.cos(x)), mobility=MU)
    ring, box = Grid(0.0, RING, 100, periodic=True), Grid(0.0, np.pi, 100, walls=True)
    close(B.friction(system, 0.0, grid=ring), [[1 / (2 * MU)]], 1e-5)
    close(B.friction(system, 0.0, grid=box), [[1 / (2 * MU)]], 1e-5)
    tilted = tjx.Overdamped(lambda x, lam: jnp.sum(jnp.cos(x) - lam * x), mobility=MU)
    for tilt in (0.0, 0.3):  # no potential on a ring, nor the slope of one
        with pytest.raises(ValueError, match="force="):
            B.friction(tilted, tilt, grid=ring)
        assert np.isnan(jax.jit(lambda lam: B.friction(tilted, lam, grid=ring))(tilt)).all()
    # the barrier 2 lam of a ring holds up less than that of a wall: below the box by a finite amount
    assert float(B.friction(system, 1.0, grid=ring)[0, 0]) > 0


# ---- lengths


breathe = tjx.Overdamped(tjx.potentials.Breathing(), mobility=MU, temperature=TEMPERATURE)


def test_length_of_a_stiffness():
    line = jnp.linspace(1.0, 4.0, 65)
    exact = lambda k: (1 - k**-0.5) / np.sqrt(MU)
    close(B.length(breathe, line), exact(4.0), 1e-9)
    by = lambda k: B.length(breathe, 1 + (k - 1) * jnp.linspace(0, 1, 65))
    close(jax.grad(by)(4.0), 0.5 * 4.0**-1.5 / np.sqrt(MU), 1e-8)
    close(jax.jit(by)(4.0), exact(4.0), 1e-9)


def test_length_of_a_trap():
    drag = tjx.Overdamped(tjx.potentials.MovingTrap(2.0), mobility=MU, temperature=TEMPERATURE)
    L = B.length(drag, jnp.array([0.0, 1.0, 3.0]))
    close(TEMPERATURE * B.slow(L, 10.0), 3.0**2 / (MU * 10.0))  # l^2 / (mu tau)
    late = tjx.optimal.moving_trap(0.0, 3.0, 1e4, stiffness=2.0, mobility=MU).work
    assert float(late) == pytest.approx(float(TEMPERATURE * B.slow(L, 1e4)), rel=2e-4)


@pytest.mark.parametrize(
    ("tau", "straight", "excess"), [(100.0, 0.003488, 0.002502), (10.0, 0.032879, 0.025140)]
)
def test_geodesic_of_a_stiffness(tau, straight, excess):
    """k^-1/2 is linear in time, and dissipates less than the ramp: the excess of the true run is near L^2/tau."""
    unit = tjx.Overdamped(tjx.potentials.Breathing())
    found = B.geodesic(unit, 1.0, 4.0, tau, knots=129)
    close(found.values, (1 - 0.5 * found.ts / tau) ** -2)
    assert (float(found.before), float(found.after)) == (1.0, 4.0)
    close(B.slow(B.length(unit, found.values), tau), 0.25 / tau, 1e-9)
    ts = jnp.linspace(0.0, tau, 129)
    for drive, exact in ((found, excess), (tjx.protocols.ramp(1.0, 4.0, tau), straight)):
        work = tjx.evolve.moments(tjx.Process(unit, drive, Boltzmann(unit, 1.0)), ts).work[-1]
        assert float(work) - np.log(2) == pytest.approx(exact, abs=2e-3 * exact)
    by = lambda k: B.geodesic(unit, 1.0, k, 1.0, knots=5).values[2]
    close(jax.grad(by)(4.0), slope(by, 4.0, 1e-3), 1e-7)
    close(jax.jit(by)(4.0), by(4.0))


def test_geodesic_of_two_controls():
    """In centre and width the metric of a trap is flat: the shortest line is straight there, as in transport."""
    system = trap(1.0, 1.0)
    start, stop = {"c": 0.0, "k": 1.0}, {"c": 1.0, "k": 4.0}
    found = B.geodesic(system, start, stop, 2.0)
    s = np.asarray(found.ts) / 2
    np.testing.assert_allclose(found.values["k"], (1 - 0.5 * s) ** -2, atol=1e-3)
    np.testing.assert_allclose(found.values["c"], s, atol=1e-6)
    L = float(B.length(system, found.values))
    W2 = float(B.wasserstein(Boltzmann(system, start), Boltzmann(system, stop)))
    assert W2 - 1e-10 < L < W2 * (1 + 1e-4)
    ramp = tjx.protocols.ramp(start, stop, 1.0)
    assert float(B.length(system, jax.vmap(ramp)(jnp.linspace(0, 1, 33)))) > 1.02 * L
    with pytest.raises(RuntimeError, match="not found in 2 steps"):
        B.geodesic(system, start, stop, 2.0, steps=2)


@pytest.mark.parametrize("f", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("k", "x"), [(1.0, 1.0), (1e3, 1.0), (1e-6, 6.4e-8)])
def test_geodesic_of_two_controls_in_any_unit(f, k, x):
    """The stiffness in the unit k, the place in x, energies in k x^2, times in one."""
    system = tjx.Overdamped(trapped, temperature=f(k * x * x), mobility=f(1 / k))
    start, stop = ({"c": f(c * x), "k": f(v * k)} for c, v in ((0.0, 1.0), (1.56, 4.0)))
    found = B.geodesic(system, start, stop, f(1.0), knots=7).values
    flat = [1.0, 1.187396, 1.433669, 1.766823, 2.234186, 2.921541, 4.0]  # of the trap at rest
    np.testing.assert_allclose(found["k"] / k, flat, rtol=1e-4)
    np.testing.assert_allclose(found["c"] / x, 0.26 * np.arange(7), atol=1e-4)


@pytest.mark.parametrize("half", [1.8, 4.0])
def test_the_slope_of_friction_on_a_wide_grid(half):
    """In single precision, where the density falls below its least number as well."""
    f = jnp.float32

    def of(height):
        well = lambda x, lam: height * (x[0] ** 2 - 1) ** 2 - lam * x[0]
        return B.friction(tjx.Overdamped(well, mobility=f(1)), f(0.1), grid=Grid(-half, half, 200))

    np.testing.assert_allclose(of(f(4)), 7.331665, rtol=1e-5)
    np.testing.assert_allclose(jax.jacfwd(of)(f(4)), 5.637347, rtol=1e-5)
    np.testing.assert_allclose(jax.jacrev(of)(f(4)), 5.637347, rtol=1e-5)


def trapped(x, lam):
    return 0.5 * lam["k"] * jnp.sum((x - lam["c"]) ** 2)


def test_geodesic_between_equals():
    """Nothing to go, and the derivative is that of the straight line."""
    by = lambda k: B.geodesic(
        trap(1.0, 1.0), {"c": 0.0, "k": 1.0}, {"c": 0.0, "k": k}, 1.0, knots=7
    ).values["k"][3]
    close(jax.value_and_grad(by)(1.0), (1.0, 0.5))


def test_geodesic_that_leaps():
    """The action of too few pieces is least where they leap over the friction at the start: said, not returned."""
    with pytest.raises(RuntimeError, match="5 knots are too few"):
        B.geodesic(trap(1.0, 1.0), {"c": 0.0, "k": 1.0}, {"c": 1.0, "k": 400.0}, 1.0, knots=5)


def test_geodesic_of_a_double_well():
    """Steps of equal length, on cells."""
    system = tjx.Overdamped(tjx.potentials.DoubleWell(2.0))
    grid = Grid(-2.8, 2.8, 150)
    found = B.geodesic(system, -1.0, 1.0, 1.0, knots=9, grid=grid).values
    parts = [
        B.length(system, jnp.linspace(a, b, 33), grid=grid)
        for a, b in zip(found, found[1:], strict=False)
    ]
    close(parts, np.mean(parts), 1e-7)
    close(found, -found[::-1], 1e-7)
    assert float(found[1] + 1) > 1.3 * float(
        found[4] - found[3]
    )  # slow where the wells change places


# ---- precision, and what is refused


def test_single_precision():
    f = jnp.float32
    p, q = Gaussian(f(0.0), f(1.0)), Gaussian(f(1.5), f(0.16))
    distance = B.wasserstein(p, q)
    assert distance.dtype == f
    assert float(distance**2) == pytest.approx(2.61, rel=1e-5)
    grid = Grid(-6.0, 6.0, 500)
    p = jnp.exp(-0.5 * grid.axis(0, f) ** 2)
    q = jnp.exp(-0.5 * (grid.axis(0, f) - 1) ** 2)
    on_cells = B.wasserstein((grid, p), (grid, q))
    assert on_cells.dtype == f
    assert float(on_cells) == pytest.approx(1.0, rel=1e-4)
    system = tjx.Overdamped(tjx.potentials.Breathing())
    for on in (None, Grid(-9.0, 9.0, 400)):
        zeta = B.friction(system, f(2.0), grid=on)
        assert zeta.dtype == f
        assert float(zeta[0, 0]) == pytest.approx(1 / 32, rel=1e-4)
    assert B.geodesic(system, f(1.0), f(4.0), f(1.0), knots=5).values.dtype == f


line, other = Grid(-3.0, 3.0, 6), Grid(-3.0, 3.0, 8, periodic=True)
drag = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
well = tjx.Overdamped(tjx.potentials.DoubleWell(2.0))
pushed = tjx.Overdamped(tjx.potentials.MovingTrap(1.0), lambda x, lam: 0.1 + 0 * x)
flowing = tjx.Overdamped(tjx.potentials.MovingTrap(1.0), velocity=lambda x, lam: 0.1 + 0 * x)
baths = tjx.Overdamped(lambda x, lam: jnp.sum(x**4), temperature=jnp.array([1.0, 2.0]))
REFUSED = {
    "rank": (
        lambda: B.wasserstein(np.zeros(3), np.zeros(3)),
        ValueError,
        r"p must have shape \(n, d\)",
    ),
    "coordinates": (
        lambda: B.wasserstein(np.ones((3, 1)), np.ones((3, 2))),
        ValueError,
        "as many coordinates, got 1, 2",
    ),
    "unit": (
        lambda: B.wasserstein(Gaussian(0.0, 1.0), Gaussian(0.0, 1.0), unit=-1.0),
        ValueError,
        "unit must be finite",
    ),
    "kinds": (
        lambda: B.wasserstein(Gaussian(0.0, 1.0), np.ones((3, 1))),
        ValueError,
        "p is a Gaussian, q a sample",
    ),
    "unknown": (
        lambda: B.wasserstein(Boltzmann(well, 0.0), Gaussian(0.0, 1.0)),
        ValueError,
        "give grid=",
    ),
    "text": (
        lambda: B.wasserstein("p", Gaussian(0.0, 1.0)),
        TypeError,
        "p must be a number or an array",
    ),
    "negative": (
        lambda: B.wasserstein((line, -np.ones(6)), (line, np.ones(6))),
        ValueError,
        "p must be a density",
    ),
    "cells": (
        lambda: B.wasserstein((line, np.ones(5)), (line, np.ones(6))),
        ValueError,
        r"centres of its grid, \(6,\)",
    ),
    "ring": (
        lambda: B.wasserstein((other, np.ones(8)), (line, np.ones(6))),
        ValueError,
        "periodic",
    ),
    "plane": (
        lambda: B.wasserstein((Grid((0, 0), 1, 4), np.ones((4, 4))), (line, np.ones(6))),
        ValueError,
        "one dimension",
    ),
    "grid": (
        lambda: inspect.unwrap(B.wasserstein)(Gaussian(0.0, 1.0), Gaussian(0.0, 1.0), grid=3),
        TypeError,
        "systems.Grid",
    ),
    "precision": (
        lambda: B.wasserstein(np.ones((3, 1), np.float32), np.ones((3, 1))),
        TypeError,
        "One floating-point precision",
    ),
    "distance": (
        lambda: B.transport(-1.0, 1.0),
        ValueError,
        "distance must be zero or above, got -1",
    ),
    "time": (
        lambda: B.transport(1.0, 0.0),
        ValueError,
        "diffusion_time must be finite and greater",
    ),
    "vector": (lambda: B.transport(1.0, np.ones(2)), ValueError, "a D per coordinate"),
    "drop": (lambda: B.landauer(np.nan, 1.0, 1.0), ValueError, "entropy_drop must be finite"),
    "divergence": (
        lambda: B.least_work(0.0, 1.0, 1.0, divergence=-1.0),
        ValueError,
        "divergence must be zero",
    ),
    "cold": (lambda: B.landauer(0.0, 1.0, 1.0, temperature=0.0), ValueError, "temperature must be"),
    "variance": (lambda: B.tur(1.0, 0.0), ValueError, "variance must be finite and greater"),
    "sample": (lambda: B.tur(np.ones(3), 1.0), ValueError, "tur_of takes a sample"),
    "push": (lambda: B.friction(pushed, 0.0), ValueError, "that of its potential alone"),
    "push on cells": (
        lambda: B.friction(pushed, 0.0, grid=Grid(-9, 9, 50)),
        ValueError,
        "that of its potential alone",
    ),
    "flow": (lambda: B.friction(flowing, 0.0), ValueError, "medium that moves"),
    "process": (
        lambda: B.diffusion_time(
            tjx.Process(flowing, tjx.protocols.ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0)),
            jnp.linspace(0.0, 1.0, 3),
        ),
        ValueError,
        "medium of this system moves",
    ),
    "nonlinear": (lambda: B.friction(well, 0.0), ValueError, "give grid="),
    "free": (lambda: B.friction(breathe, -1.0), ValueError, "does not confine"),
    "narrow": (
        lambda: B.friction(well, 0.0, grid=Grid(-1.2, 1.2, 50)),
        ValueError,
        "grid must be wide enough",
    ),
    "two axes": (
        lambda: B.friction(well, 0.0, grid=Grid((-3, -3), 3, 9)),
        ValueError,
        "for one dimension",
    ),
    "baths": (lambda: B.friction(baths, 0.0, dim=2), ValueError, "one temperature"),
    "one control": (lambda: B.length(drag, jnp.array([1.0])), ValueError, "at least two controls"),
    "length": (lambda: B.slow(-1.0, 1.0), ValueError, "length must be zero or above"),
    "ends": (lambda: B.geodesic(drag, 0.0, np.ones(2), 1.0), ValueError, "controls of one shape"),
    "knots": (lambda: B.geodesic(drag, 0.0, 1.0, 1.0, knots=1), ValueError, "knots must be"),
    "t1": (lambda: B.geodesic(drag, 0.0, 1.0, -1.0), ValueError, "t1 must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()


def test_not_a_system():
    with pytest.raises(TypeError, match="overdamped system"):
        inspect.unwrap(B.friction)(3.0, 0.0)


def test_traced_values_that_are_not_allowed_are_nan():
    assert np.isnan(jax.jit(B.transport)(1.0, -1.0))
    assert np.isnan(jax.jit(lambda d: B.transport(d, 1.0))(-1.0))
    assert np.isnan(jax.jit(B.tur)(1.0, -1.0))
    assert np.isnan(jax.jit(lambda k: B.friction(breathe, k))(-1.0)).all()
    assert np.isnan(jax.jit(lambda p: B.wasserstein((line, p), (line, jnp.ones(6))))(-jnp.ones(6)))
    force = lambda f: B.friction(
        tjx.Overdamped(tjx.potentials.MovingTrap(1.0), lambda x, lam: f + 0 * x), 0.0
    )
    assert np.isnan(jax.jit(force)(0.1)).all()
    close(jax.jit(force)(0.0), [[1.0]])


# ---- any unit, in single precision


@pytest.mark.parametrize("scale", [1e-20, 1e18])
def test_tur_of_a_current_in_any_unit(scale):
    x = np.random.default_rng(0).normal(3.0, 1.0, 500).astype(np.float32)
    current, known = jnp.asarray(x * np.float32(scale)), B.tur_of(jnp.asarray(x))
    for verb in (B.tur_of, jax.jit(B.tur_of)):
        found = verb(current)
        np.testing.assert_allclose(found.value, known.value, rtol=1e-5)
        np.testing.assert_allclose(found.stderr, known.stderr, rtol=1e-4)
    with pytest.raises(ValueError, match="whose members differ"):
        B.tur_of(jnp.full(20, np.float32(scale)))


def test_narrow_gaussians():
    """Of a width of 1e-10 the fourth power is no number in single precision."""
    (m, s), (n, r) = covariances(2)
    width = 1e-10
    p, q = (
        Gaussian(jnp.asarray(width * c, jnp.float32), jnp.asarray(width**2 * v, jnp.float32))
        for c, v in ((m, s), (n, r))
    )
    np.testing.assert_allclose(
        B.wasserstein(p, q) / np.float32(width), bures(m, s, n, r), rtol=1e-4
    )
    slope = jax.grad(lambda c: B.wasserstein(Gaussian(jnp.zeros(2), c), Gaussian(jnp.zeros(2), c)))
    assert np.isfinite(slope(jnp.eye(2))).all()


@pytest.mark.parametrize("stop", [100.0, 1e3, 1e4])
def test_a_geodesic_over_decades(stop):
    r"""$\zeta \sim k^{-3}$: the knots are even in $k^{-1/2}$."""
    trap = tjx.Overdamped(lambda x, lam: 0.5 * lam * jnp.sum(x**2))
    found = B.geodesic(trap, 1.0, stop, 1.0, knots=9).values
    even = (1 + np.linspace(0, 1, 9) * (stop**-0.5 - 1)) ** -2
    np.testing.assert_allclose(found, even, rtol=1e-9 if stop < 1e4 else 1e-6)
    with pytest.raises(RuntimeError, match="friction changes by too much"):
        B.geodesic(trap, 1.0, 1e7, 1.0, knots=9)


@pytest.mark.parametrize("far", [0.0, 1e5, 1e9])
def test_the_distance_on_cells_does_not_depend_on_where_they_are(far):
    grid, x = Grid(far, far + 1000.0, 2000), (np.arange(2000) + 0.5) * 0.5
    p, q = (np.exp(-0.5 * ((x - m) / 50) ** 2) for m in (500.0, 500.05))
    distance = B.wasserstein(
        (grid, jnp.asarray(p, jnp.float32)), (grid, jnp.asarray(q, jnp.float32))
    )
    np.testing.assert_allclose(distance, 0.05, rtol=1e-3)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_distance_of_nothing_has_no_slope(dim):
    root = np.random.default_rng(dim).standard_normal((dim, dim))
    cov = jnp.asarray(root @ root.T + np.eye(dim))
    apart = lambda s: B.wasserstein(
        Gaussian(jnp.zeros(dim), s * cov), Gaussian(jnp.zeros(dim), cov)
    )
    for form in (jax.jit(apart), apart):
        assert jax.grad(form)(1.0) == 0
        assert form(1.0) == 0
    # of the roots, (sqrt(s) - 1) |L|: half a part in a thousand of it
    np.testing.assert_allclose(
        apart(1.001), (np.sqrt(1.001) - 1) * np.sqrt(np.trace(cov)), rtol=1e-9
    )


def test_tur_of_keeps_the_digits_of_numpy():
    with jax.enable_x64(False):
        current = 1e7 + np.random.default_rng(0).standard_normal(2000)
        found = B.tur_of(current).value
    np.testing.assert_allclose(found, 2 * current.mean() ** 2 / current.var(ddof=1), rtol=1e-4)
