r"""Noise that depends on the place: at rest, along paths, on a grid, and what is refused."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from compare import close

import thermojax as tjx
from thermojax import bounds, evolve, measured, rates
from thermojax.densities import Boltzmann, Gaussian
from thermojax.protocols import Joint, Piecewise, ramp
from thermojax.systems import Inhomogeneous, Metropolis, StratonovichHeun


class Wavy(eqx.Module):
    """A mobility that is neither even nor odd about the middle of the trap."""

    height: jax.Array

    def __call__(self, x, lam):
        return jnp.exp(self.height * jnp.sin(2 * x[0]))


def trap(x, lam):
    return 0.5 * lam * jnp.sum(x**2)


def squeezed(start=1.0, stop=2.0, height=0.8):
    """The stiffness from 1 to 2 in a time of 1."""
    system = Inhomogeneous(trap, Wavy(jnp.asarray(height)))
    ends = Boltzmann(system, start), Boltzmann(system, stop)
    return tjx.Process(system, ramp(start, stop, 1.0), *ends)


GRID = evolve.Grid(-6, 6, 300)

# ---- at rest


class Reading(tjx.AbstractStep):
    """Control: Euler's step of the Itô drift mu F + share * T mu'. Only the share 1 keeps Boltzmann's density."""

    share: jax.Array

    def draw(self, key, shape, dtype):
        return (jax.random.normal(key, shape, dtype),)

    def __call__(self, system, x, lam, dt, draw):
        middle, ito = system.stratonovich(x, lam), system.drift(x, lam)
        drift = ito - 2 * (1 - self.share) * (ito - middle)
        return x + drift * dt + system.spread(x, lam) * jnp.sqrt(dt) * draw[0]

    def log_ratio(self, system, x0, x1, lam, dt):
        raise ValueError("none")


@pytest.fixture(scope="module")
def rest():
    """Where paths are after a time of 6 at rest, by four steps."""
    process = squeezed(1.0, 1.0)
    process = process.replace(protocol=ramp(1.0, 1.0, 6.0), final=None)
    ts = jnp.linspace(0.0, 6.0, 76)

    def end(step):
        run = tjx.ensemble(process, ts, jax.random.key(0), 20_000, solver=step)
        assert run.path.ok.all()
        return run.path.xs[:, -1, 0]

    steps = {"heun": StratonovichHeun(), "metropolis": Metropolis()}
    steps |= {"middle": Reading(jnp.asarray(0.5)), "ito": Reading(jnp.asarray(0.0))}
    return {name: np.asarray(end(step)) for name, step in steps.items()}


@pytest.mark.parametrize("name", ["heun", "metropolis"])
def test_boltzmann_at_rest(rest, name):
    """<x> = 0, though the mobility is not even; <x^2> = 1."""
    sigmas.assert_within(rest[name], 0.0, absolute=0.08)
    sigmas.assert_within(rest[name] ** 2, 1.0, bias=0.1)


@pytest.mark.parametrize(("name", "there"), [("middle", -0.106), ("ito", -0.201)])
def test_other_readings_are_told_apart(rest, name, there):
    """Stratonovich's and Itô's reading of mu F dt + sqrt(2 mu T) dW rest elsewhere, by the values of quadrature."""
    sigmas.assert_within(rest[name], there, absolute=0.08)
    sigmas.assert_biased(rest[name], 0.0)


def test_boltzmann_is_stationary_on_a_grid():
    process = squeezed()
    found = evolve.steady(process.system, 2.0, GRID)
    want = jax.vmap(process.final.log_prob)(GRID.centres().reshape(-1, 1))
    np.testing.assert_allclose(found.p, np.exp(want), atol=1e-9)


# ---- along paths


def driven():
    """Two coordinates, each with its mobility and its bath, stirred and heated."""
    mobility = lambda x, lam: 1 + 0.5 * jnp.tanh(jnp.stack([x[1] + x[0], x[0] * lam["k"]]))
    stir = lambda x, lam: 0.7 * jnp.stack([-x[1], x[0]])
    well = lambda x, lam: 0.5 * lam["k"] * jnp.sum(x**2) + 0.1 * jnp.sum(x**4)
    system = Inhomogeneous(
        well, mobility, stir, temperature=lambda lam: jnp.stack([lam["T"], 2 * lam["T"]])
    )
    drive = Joint({"k": ramp(1.0, 2.0, 1.0), "T": ramp(1.0, 0.6, 1.0)})
    ends = Gaussian(jnp.zeros(2), jnp.ones(2)), Gaussian(jnp.array([0.1, 0.0]), 0.5 * jnp.ones(2))
    return tjx.Process(system, drive, *ends)


TS = jnp.array([0.0, 0.2, 0.5, 0.7, 1.0])


@pytest.fixture(scope="module", params=["alternating", "kernel"])
def seen(request):
    process = driven()
    run = tjx.ensemble(process, TS, jax.random.key(1), 40, rule=request.param, save="all")
    return request.param, process, run


def test_first_law_and_account(seen):
    rule, process, run = seen
    before, after = process.protocol.before, process.protocol.after
    energy = process.system.energy
    gain = jax.vmap(lambda x: energy(x[-1], after) - energy(x[0], before))(run.path.xs)
    np.testing.assert_allclose(gain, run.work - run.heat.sum(1), atol=1e-12)
    close(tuple(tjx.account(process, run.path, rule=rule)), tuple(run))


def test_the_rules_agree(seen):
    """The log-ratio of a step of Metropolis is the heat over T, of both baths, to the last digits."""
    _, process, run = seen
    one, two = (tjx.account(process, run.path, rule=rule) for rule in ("alternating", "kernel"))
    close(one, two)


def test_reversed_path(seen):
    rule, process, run = seen
    back = tjx.reverse(process)
    mirrored = tjx.Path(1.0 - run.path.ts[:, ::-1], run.path.xs[:, ::-1])
    there = tjx.account(back, mirrored, rule=rule)
    np.testing.assert_allclose(there.entropy.total, -run.entropy.total, atol=1e-12)
    np.testing.assert_allclose(there.work, -run.work, atol=1e-12)


def test_one_path_is_a_path_of_many():
    process = squeezed()
    run = tjx.simulate(process, TS, jax.random.key(2))
    close(tuple(tjx.account(process, run.path)), tuple(run))
    assert tjx.dissipated_work(process, run) == pytest.approx(run.entropy.total)
    assert tjx.reduced_work(process, run) == pytest.approx(run.work)


@pytest.fixture(scope="module")
def coarse():
    """Four steps by the kernel rule."""
    process = squeezed()
    ts = jnp.linspace(0.0, 1.0, 5)
    return process, tjx.ensemble(process, ts, jax.random.key(3), 60_000, rule="kernel")


def test_metropolis_obeys_the_fluctuation_theorem(coarse):
    """<exp(-R)> = 1 at four steps, forward and backward."""
    process, run = coarse
    sigmas.assert_within(np.exp(-run.entropy.total), 1.0, absolute=0.03)
    back, grid = tjx.reverse(process), tjx.reverse_grid(process, jnp.linspace(0.0, 1.0, 5))
    r = tjx.ensemble(back, grid, jax.random.key(4), 60_000, rule="kernel").entropy.total
    sigmas.assert_within(np.exp(-r), 1.0, absolute=0.03)
    found = tjx.estimators.bar(run.entropy.total, r)
    assert found.reliable
    assert abs(found.value) < 5 * found.stderr < 0.05


def test_euler_has_the_wrong_ratio():
    """Why it is refused: <R> of Euler's own kernels stays above the truth, by 2.5 T <mu'^2/mu> and more, at any step."""
    process = squeezed()
    truth = 0.06836

    class Euler(tjx.AbstractKernelStep):
        def draw(self, key, shape, dtype):
            return (jax.random.normal(key, shape, dtype),)

        def __call__(self, system, x, lam, dt, draw):
            return self.kernel(system, x, lam, dt).at(draw[0])

        def kernel(self, system, x, lam, dt):
            return tjx.Normal(x, 2 * system.diffusion(x, lam) * dt, system.drift(x, lam) * dt)

    for n in (16, 64):
        ts = jnp.linspace(0.0, 1.0, n + 1)
        run = tjx.ensemble(process, ts, jax.random.key(5), 2000, solver=Euler(), rule="kernel")
        assert run.entropy.total.mean() > truth + 1.5


# ---- the order, without sampling: expectations of the library's own steps and ledger by quadrature


def between(xs, v, y):
    """The cubic through four points."""
    s = (y - xs[0]) / (xs[1] - xs[0])
    i = jnp.clip(jnp.floor(s), 1, len(xs) - 3).astype(int)
    t = jnp.clip(s - i.astype(y.dtype), -1, 2)
    return (
        v[i - 1] * t * (t - 1) * (2 - t) / 6
        + v[i] * (t**2 - 1) * (t - 2) / 2
        + v[i + 1] * t * (t + 1) * (2 - t) / 2
        + v[i + 2] * t * (t**2 - 1) / 6
    )


def expectations(process, step, n, reach=6.0, points=601, nodes=24):
    r"""<W> and <exp(-R)> of n steps of a chain in one dimension, to some 1e-6.

    From the end to the start, the work and the weight exp(-medium) q that are still to come, as functions of x on a line.
    """
    system, protocol = process.system, process.protocol
    xs = jnp.linspace(-reach, reach, points)
    z, share = map(jnp.asarray, np.polynomial.hermite_e.hermegauss(nodes))
    lams = jax.vmap(protocol)((jnp.arange(n, dtype=xs.dtype) + 0.5) / n)
    lasts = jnp.concatenate([jnp.asarray(protocol.before)[None], lams[:-1]])

    def density(of):
        return jnp.exp(jax.vmap(lambda x: of.log_prob(x[None]))(xs))

    def turn(x, last, lam):
        return system.energy(x, lam) - system.energy(x, last)

    def earlier(rest, lam_last):
        lam, last = lam_last

        def at(x):
            def one(z):
                y = step(system, x, lam, jnp.asarray(1 / n), (z[None],))
                lost = system.energy(x, lam) - system.energy(y, lam)
                medium = system.exchange(x, y, lam, lost).medium
                return y[0], medium

            return (turn(x, last, lam), *jax.vmap(one)(z))

        turns, ys, mediums = jax.vmap(at)(xs[:, None])
        work, weight = (between(xs, v, ys) for v in rest)
        mean = lambda v: v @ share / jnp.sum(share)
        return (turns + mean(work), mean(jnp.exp(-mediums) * weight)), None

    @jax.jit
    def value():
        jump = jax.vmap(lambda x: turn(x, lams[-1], jnp.asarray(protocol.after)))(xs[:, None])
        rest = jump, density(process.final)
        (work, weight), _ = jax.lax.scan(earlier, rest, (lams, lasts), reverse=True)
        width = xs[1] - xs[0]
        return jnp.sum(density(process.initial) * work) * width, jnp.sum(weight) * width

    return tuple(map(float, value()))


@pytest.fixture(scope="module")
def chains():
    """<W> and <exp(-W_diss)> of chains of 8, 64 and 128 steps."""
    process = squeezed()
    return {n: np.array(expectations(process, StratonovichHeun(), n)) for n in (8, 64, 128)}


def test_the_expectations_are_the_library(chains):
    """Control: the chain that is integrated is the one that is run."""
    run = tjx.ensemble(squeezed(), jnp.linspace(0.0, 1.0, 9), jax.random.key(6), 40_000)
    sigmas.assert_within(run.work, chains[8][0], bias=0.06)
    sigmas.assert_within(np.exp(-run.entropy.total), chains[8][1], bias=0.02)


def test_order_of_the_alternating_rule(chains):
    """First, in <W> and in <exp(-W_diss)>, and the limits are the truth, that of the grid and 1."""
    exact = float(evolve.extrapolated(squeezed(), jnp.linspace(0.0, 1.0, 41), GRID).work[-1])
    assert exact == pytest.approx(0.41493, abs=1e-5)
    _, fine, finer = np.array(list(chains.values())) - np.array([exact, 1.0])
    assert (np.abs(np.log2(fine / finer) - 1) < 0.06).all()
    assert (np.abs(finer) < 5e-4).all()
    assert (np.abs(2 * finer - fine) < 4e-5).all()


# ---- closed forms: D = x T in U = lam x - a ln x is Cox, Ingersoll and Ross's process, whose mean is linear

A = 7.0  # far enough from x = 0, which no path of the equation reaches


class Log(eqx.Module):
    a: jax.Array

    def __call__(self, x, lam):
        safe = jnp.where(x[0] > 0, x[0], 1.0)
        return lam * x[0] - self.a * jnp.log(safe)


def quenched(a, held):
    """From equilibrium at 1: held at another stiffness for a time of 1, then at 2."""
    system = Inhomogeneous(Log(a), lambda x, lam: x[0])
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.stack([held, held]), 1.0, 2.0)
    ends = (Boltzmann(system, lam, bounds=(1e-3, 60.0)) for lam in (1.0, 2.0))
    return tjx.Process(system, drive, *ends)


def exact_work(a, held):
    mean = (a + 1) * (1 / held + (1 - 1 / held) * jnp.exp(-held))
    return (held - 1) * (a + 1) + (2 - held) * mean


POINT = jnp.asarray(A), jnp.asarray(1.6)


def test_work_on_a_grid_and_its_gradient():
    """Of the grid's second-order scheme, by the exponent of the potential and by the control."""
    walls = evolve.Grid(0.0, 40.0, 400, walls=True)
    ts = jnp.linspace(0.0, 1.0, 41)

    @jax.jit
    @jax.value_and_grad
    def found(point):
        return evolve.fokker_planck(quenched(*point), ts, walls).work[-1]

    value, slope = found(POINT)
    want, gradient = jax.value_and_grad(lambda point: exact_work(*point))(POINT)
    assert float(value) == pytest.approx(float(want), rel=1e-3)
    np.testing.assert_allclose(slope, gradient, rtol=5e-3)


@pytest.fixture(scope="module")
def paths():
    """The works of paths, and their derivatives along two directions."""
    ts = jnp.linspace(0.0, 1.0, 41)

    @jax.jit
    def works(point):
        return tjx.ensemble(quenched(*point), ts, jax.random.key(7), 20_000).work

    along = [(jnp.ones(()), jnp.zeros(())), (jnp.zeros(()), jnp.ones(()))]
    return works, [jax.jvp(works, (POINT,), (way,)) for way in along]


def test_work_of_paths_and_its_gradient(paths):
    _, ((work, by_a), (_, by_held)) = paths
    gradient = jax.grad(lambda point: exact_work(*point))(POINT)
    sigmas.assert_within(work, exact_work(*POINT), absolute=0.3)
    sigmas.assert_within(by_a, gradient[0], absolute=0.04)
    sigmas.assert_within(by_held, gradient[1], absolute=0.4)


def test_gradient_is_that_of_what_is_run(paths):
    works, ((_, by_a), _) = paths
    a, held = POINT
    eps = 1e-5
    want = (works((a + eps, held)) - works((a - eps, held))) / (2 * eps)
    np.testing.assert_allclose(by_a[:500], want[:500], atol=1e-5)


# ---- what else takes it


def test_the_identities_hold():
    """`verify` by the steps of Metropolis: what is exact is exact, the rest within its error, and the path ratio of the
    kernels does not apply."""
    process = squeezed(1.0, 2.0, 0.3)
    verdict = tjx.verify(
        process, jnp.linspace(0.0, 1.0, 33), jax.random.key(8), grid=GRID, size=4000
    )
    print(verdict)
    assert not verdict.failed
    told = {row[0]: str(row[2]) for row in verdict.rows}
    assert "log-ratio and no kernel" in told["path ratio"]


def test_rates_along_an_evolution():
    """Currents between cells: what is produced adds up to the total."""
    process = squeezed()
    ts = jnp.linspace(0.0, 1.0, 65)
    found = evolve.fokker_planck(process, ts, GRID)
    rate = rates.along(process, found, split=None)
    assert (rate.total >= 0).all()
    total = np.trapezoid(rate.total, ts)
    assert total == pytest.approx(float(found.entropy.total[-1]), rel=2e-3)


def test_two_coordinates_on_a_grid():
    """Boltzmann's density at rest, each axis with its mobility."""
    mobility = lambda x, lam: jnp.stack([2 + jnp.sin(x[1] + x[0]), 1 + 0.5 * jnp.cos(x[0])])
    system = Inhomogeneous(trap, mobility)
    grid = evolve.Grid((-5, -5), (5, 5), (24, 20))
    p = evolve.steady(system, 1.0, grid).p
    weights = np.exp(-0.5 * np.sum(np.asarray(grid.centres()) ** 2, -1))
    np.testing.assert_allclose(p, weights / weights.sum() / grid.volume, atol=1e-12)


def test_a_twin_jumps_alike():
    process = squeezed()
    grid = evolve.Grid(-5, 5, 40)
    twin = evolve.twin(process, grid)
    path = tjx.Path(jnp.array([0.0, 0.5, 1.0]), grid.centres()[jnp.array([18, 20, 19])])
    close(*(tjx.account(twin, path, rule=rule).entropy for rule in ("kernel", "alternating")))


def test_single_precision_and_compiled():
    """A run is of the precision of what it is given."""

    @jax.jit
    def run(height, key):
        one = jnp.float32
        system = Inhomogeneous(trap, Wavy(height), temperature=one(1.0))
        start = Gaussian(jnp.zeros(1, one), one(1.0))
        process = tjx.Process(system, ramp(one(1), one(2), one(1)), start, start)
        return tjx.ensemble(process, jnp.linspace(0, 1, 5, dtype=one), key, 3, rule="kernel")

    found = run(jnp.float32(0.8), jax.random.key(9))
    assert found.work.dtype == found.entropy.total.dtype == jnp.float32
    assert found.path.ok.all()


# ---- what is refused, or marked


def process_of(mobility, **rest):
    system = Inhomogeneous(trap, mobility, **rest)
    return tjx.Process(system, ramp(1.0, 2.0, 1.0), Gaussian(jnp.zeros(2), jnp.ones(2)))


def run(process, **how):
    return tjx.ensemble(process, TS, jax.random.key(10), 50, **how)


@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_a_mobility_that_is_not_positive_is_marked(rule):
    """Paths that start where it is negative, and no others."""
    process = process_of(lambda x, lam: jnp.where(x[0] > 0, 1.0, -1.0) * jnp.ones(2))
    stays = process.replace(initial=Gaussian(jnp.array([-2.0, 0.0]), 1e-4 * jnp.ones(2)))
    assert not run(stays, rule=rule).path.ok.any()
    far = process.replace(initial=Gaussian(jnp.array([9.0, 0.0]), 1e-4 * jnp.ones(2)))
    assert run(far, rule=rule).path.ok.all()
    with pytest.raises(ValueError, match="did not stay finite|not finite"):
        tjx.estimators.mean(run(stays).work)


def test_metropolis_turns_back_where_there_is_no_mobility():
    """A step to where D <= 0 is refused, and the path stays: the place is walled."""
    process = process_of(lambda x, lam: x[0])
    start = Gaussian(jnp.array([0.3, 0.0]), 1e-6 * jnp.ones(2))
    found = run(process.replace(initial=start), rule="kernel")
    assert found.path.ok.all()
    assert (found.path.xs[:, -1, 0] > 0).all()
    assert not run(process.replace(initial=start)).path.ok.all()


def test_a_grid_with_no_mobility_is_refused():
    system = Inhomogeneous(trap, lambda x, lam: x[0])
    process = tjx.Process(system, ramp(1.0, 2.0, 1.0), Gaussian(0.0, 1.0))
    with pytest.raises(ValueError, match="mobility"):
        evolve.fokker_planck(process, TS, GRID)
    with pytest.raises(ValueError, match="not finite"):
        evolve.steady(system, 1.0, GRID)


WAVY = Wavy(jnp.asarray(0.8))
PATH = tjx.Path(TS, jnp.zeros((5, 2)))
score = lambda x: -x
NONE = "Inhomogeneous is none"
LINE = tjx.Path(TS, jnp.zeros((5, 1)))


def plain():
    return process_of(WAVY)


def ratio():
    return tjx.path_ratio(squeezed(), tjx.reverse(squeezed()), LINE)


def slope():
    return jax.grad(lambda v: run(process_of(Wavy(v)), rule="kernel").work.sum())(0.8)


def another():
    return run(plain().replace(system=tjx.Overdamped(trap)), solver=Metropolis())


# fmt: off
BAD = {
    "a number": (lambda: Inhomogeneous(trap, 2.0), TypeError, r"callable \(x, lam\).*Overdamped"),
    "of the control alone": (lambda: Inhomogeneous(trap, lambda lam: lam), TypeError, "Overdamped"),
    "a matrix": (lambda: run(process_of(lambda x, lam: jnp.eye(2))), ValueError, "diagonal"),
    "a shape": (lambda: run(process_of(lambda x, lam: jnp.ones(3))), ValueError, r"shape of the state.*\(3,\)"),
    "a precision": (lambda: run(process_of(lambda x, lam: jnp.ones(2, jnp.float32))), TypeError, "mobility is float32"),
    "T(x)": (lambda: process_of(WAVY, temperature=lambda x, lam: x), TypeError, "depends on x is not supported"),
    "T < 0": (lambda: process_of(WAVY, temperature=-1.0), ValueError, "temperature must be finite and greater"),
    "no force": (lambda: Inhomogeneous(None, WAVY), ValueError, "needs a potential, a force, or both"),
    "mobility(x) of Overdamped": (lambda: tjx.Overdamped(trap, mobility=WAVY), TypeError, "thermojax.Inhomogeneous"),
    "Heun": (lambda: run(plain(), solver=tjx.Heun()), TypeError, "Heun steps .* additive noise"),
    "Euler": (lambda: run(plain(), solver=tjx.Euler(), rule="kernel"), TypeError, "Euler steps .* additive"),
    "diffrax": (lambda: run(plain(), solver=dfx.ShARK()), TypeError, "ShARK steps .* additive noise"),
    "Heun's ratio": (lambda: run(plain(), solver=StratonovichHeun(), rule="kernel"), ValueError, "Metropolis"),
    "moments": (lambda: evolve.moments(plain(), TS), TypeError, NONE),
    "steady, linear": (lambda: evolve.steady(plain().system, 1.0), TypeError, NONE),
    "log_prob": (lambda: tjx.log_prob(plain(), PATH), ValueError, "Metropolis has a log-ratio and no kernel"),
    "path_ratio": (ratio, ValueError, "Metropolis has a log-ratio and no kernel"),
    "action": (lambda: tjx.onsager_machlup(plain(), PATH), TypeError, NONE),
    "rates": (lambda: rates.sampled(plain().system, 1.0, score, jnp.ones((3, 2))), TypeError, NONE),
    "friction": (lambda: bounds.friction(plain().system, 1.0), Exception, "Inhomogeneous"),
    "transport": (lambda: bounds.diffusion_time(plain(), TS), TypeError, NONE),
    "sampling": (lambda: measured.sampling(plain(), PATH), TypeError, NONE),
    "a gradient of Metropolis": (slope, ValueError, "no derivative"),
    "Metropolis of another": (another, TypeError, "Overdamped is none"),
}
# fmt: on


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    call, kind, words = BAD[case]
    with pytest.raises(kind, match=words):
        call()


def test_the_score_is_refused():
    loss = tjx.optimal.mean_work(process_of(WAVY), TS, 10, rule="kernel")
    drive = ramp(1.0, 2.0, 1.0, knots=3)
    with pytest.raises(ValueError, match="score"):
        tjx.optimal.search(
            loss, drive, jax.random.key(0), steps=1, gradient="score", progress=False
        )


def test_long_steps_are_seen():
    """As those of any other diffusion."""
    process = squeezed(30.0, 30.0)
    with pytest.warns(RuntimeWarning, match="step is too long"):
        tjx.ensemble(process, jnp.linspace(0.0, 1.0, 9), jax.random.key(11), 5)
