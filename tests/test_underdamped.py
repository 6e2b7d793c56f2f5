"""Masses in a bath: the ledger, exact means of the chains, equilibria, moments, kicks, and what is refused.

A linear system has a ledger that is a quadratic form of what is drawn: its means are read off from a few paths, exactly.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from compare import central, close

import thermojax as tjx
from thermojax import optimal
from thermojax.densities import Boltzmann, Gaussian, Point
from thermojax.evolve import Grid, moments, steady
from thermojax.protocols import Function, Joint, Piecewise, ramp

pytestmark = pytest.mark.usefixtures("unoptimised")

STEPS = {"BAOAB": tjx.BAOAB(), "ABOBA": tjx.ABOBA()}
each_step = pytest.mark.parametrize("step", STEPS)


def bowl(q, lam):
    return 0.5 * lam["k"] * jnp.sum((q - lam["x"]) ** 2)


def driven(system, drive):
    """From equilibrium to equilibrium."""
    return tjx.Process(
        system, drive, *(Boltzmann(system, lam) for lam in (drive.before, drive.after))
    )


def everything(mass=1.0):
    """Dragged, squeezed and cooled."""
    system = tjx.Underdamped(bowl, mass=mass, temperature=lambda lam: lam["T"])
    parts = {"k": (1.0, 2.0), "x": (0.0, 1.5), "T": (1.2, 0.8)}
    return driven(system, Joint({name: ramp(*of, 2.0) for name, of in parts.items()}))


def squeezed(mass):
    return driven(tjx.Underdamped(lambda q, k: 0.5 * k * q @ q, mass=mass), ramp(1.0, 4.0, 1.0))


def kicked(knots, first, last, mass=1.0):
    """A trap dragged from 0 to 2 in the time 1, with impulses at both ends; the control is (x, J)."""
    system = tjx.Underdamped(
        lambda q, lam: 0.5 * jnp.sum((q - lam["x"]) ** 2), mass=mass, impulse=lambda lam: lam["J"]
    )
    xs, js = (jnp.asarray(v, float) for v in (knots, (first, last)))
    ts = jnp.linspace(0.0, 1.0, len(xs))
    drive = Joint(
        {"x": Piecewise(ts, xs, 0.0, 2.0), "J": Piecewise(ts[jnp.array([0, -1])], js, 0.0, 0.0)}
    )
    return driven(system, drive)


OPTIMUM = ((2 / 3, 4 / 3), 2 / 3, 2 / 3)  # Gomez-Marin, Schmiedl & Seifert 2008, m = k = gamma = 1


# ---- exact means of the chains


def quadratic(process, ts, step, rule):
    """c, g, H of $R(z) = c + g z + z H z/2$ of work, heat and R, in the standard normals z of the start and of the steps."""
    normal = process.initial.normal()
    root, n, d = np.linalg.cholesky(normal.cov), len(ts) - 1, normal.mean.size
    size = d + n * d // 2

    def path(z):
        def move(x, k):
            t0, t1, xi = k
            x = step(process.system, x, process.protocol(0.5 * (t0 + t1)), t1 - t0, (xi,))
            return x, x

        x0 = normal.mean + root @ z[:d]
        _, xs = jax.lax.scan(move, x0, (ts[:-1], ts[1:], z[d:].reshape(n, -1)))
        return jnp.concatenate([x0[None], xs])

    i, j = np.triu_indices(size, 1)
    eye = np.eye(size)
    xs = jax.jit(jax.vmap(path))(
        jnp.asarray(np.concatenate([0 * eye[:1], eye, -eye, eye[i] + eye[j]]))
    )
    run = tjx.account(process, tjx.Path(ts, xs), rule=rule, solver=step)
    found = {}
    for name, v in (("work", run.work), ("heat", run.heat), ("R", run.entropy.total)):
        c, up, down, both = np.split(np.asarray(v), [1, 1 + size, 1 + 2 * size])
        H = np.diag(up + down - 2 * c)
        H[i, j] = H[j, i] = both - up[i] - up[j] + c
        found[name] = c[0], 0.5 * (up - down), H
    return found


def mean(form):
    return form[0] + 0.5 * np.trace(form[2])


def exponential(form):
    """$<e^{-R}>$."""
    c, g, H = form
    M = np.eye(len(g)) + H
    return np.exp(-c + 0.5 * g @ np.linalg.solve(M, g)) / np.sqrt(np.linalg.det(M))


@each_step
def test_fluctuation_theorem_at_four_steps(step):
    """By the kernels it is exact; by the alternating rule plainly off there (the control), as is every mean of R."""
    process, ts = everything(), jnp.linspace(0.0, 2.0, 5)
    assert abs(exponential(quadratic(process, ts, STEPS[step], "kernel")["R"]) - 1) < 1e-12
    off = exponential(quadratic(process, ts, STEPS[step], "alternating")["R"]) - 1
    assert abs(off) > 0.02


@each_step
def test_second_order(step):
    """Work, heat and R of both rules: the error falls four times as the steps are halved, to the exact limit."""
    exact = {"work": 1.976724565, "heat": 0.938814216, "R": 2.095355873}
    process = everything()
    for rule in ("alternating", "kernel"):
        off = []
        for n in (8, 16):
            form = quadratic(process, jnp.linspace(0.0, 2.0, n + 1), STEPS[step], rule)
            off.append({name: mean(form[name]) - exact[name] for name in exact})
        for name, last in off[1].items():
            assert abs(last) < 0.02
            if abs(last) > 1e-3:  # where the terms of second and fourth order do not cancel
                assert 3.2 < off[0][name] / last < 5.0, (rule, name, off)


@pytest.mark.parametrize(("n", "bound"), [(10, 0.04), (40, 0.01)])
def test_small_mass(n, bound):
    """m/gamma far below the step: the work is that of overdamped dynamics, to first order in the step."""
    form = quadratic(squeezed(1e-6), jnp.linspace(0.0, 1.0, n + 1), tjx.BAOAB(), "alternating")
    assert abs(mean(form["work"]) - 0.936041707) < bound


def test_the_optimum_is_exact_on_few_steps():
    process = kicked(*OPTIMUM)
    form = quadratic(process, jnp.linspace(0.0, 1.0, 9), tjx.BAOAB(), "alternating")
    np.testing.assert_allclose(mean(form["work"]), 4 / 3, atol=1e-4)


# ---- each path


def landscape():
    """A quartic well, driven in all there is: place, temperature, impulse; from a moving start to another."""
    system = tjx.Underdamped(
        lambda q, lam: 0.5 * (1 + 0.5 * lam) * jnp.sum((q - lam) ** 2) + 0.05 * jnp.sum(q**4),
        friction=0.7,
        mass=1.3,
        temperature=lambda lam: 1.2 - 0.2 * lam,
        impulse=lambda lam: 0.6 * lam,
    )
    start = Gaussian(jnp.array([0.0, 0.5]), jnp.array([[0.6, 0.25], [0.25, 0.8]]))
    stop = Gaussian(jnp.array([0.8, 0.3]), jnp.array([[0.3, 0.1], [0.1, 0.5]]))
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([0.3, 1.1]), 0.0, 1.0)
    return tjx.Process(system, drive, start, stop)


def baths():
    """Two coordinates, each with its bath, mass and friction, under a force that turns them."""
    system = tjx.Underdamped(
        lambda q, lam: 0.5 * q @ q + 0.2 * lam * q[0] * q[1] + 0.1 * jnp.sum(q**4),
        force=lambda q, lam: lam * jnp.stack([-q[1], q[0]]),
        friction=jnp.array([0.7, 1.2]),
        mass=jnp.array([1.0, 0.4]),
        temperature=jnp.array([1.0, 1.5]),
    )
    ends = Gaussian(jnp.zeros(4), 0.8), Gaussian(jnp.array([0.2, 0.0, 0.1, 0.0]), 0.6)
    return tjx.Process(system, ramp(0.2, 0.8, 1.0), *ends)


CASES = {"landscape": landscape, "baths": baths}
RULES = [("alternating", "BAOAB"), ("kernel", "BAOAB"), ("kernel", "ABOBA")]
TS = jnp.array([0.0, 0.3, 0.5, 0.6, 1.0])
FLIP = lambda system: jax.vmap(jax.vmap(system.flip))


@pytest.fixture(scope="module", params=[(case, *how) for case in CASES for how in RULES])
def seen(request):
    case, rule, step = request.param
    process, how = CASES[case](), {"rule": rule, "solver": STEPS[step]}
    run = tjx.ensemble(process, TS, jax.random.key(0), 20_000, save="all", **how)
    return process, how, run


def test_first_law(seen):
    process, _, run = seen
    before, after = process.protocol.before, process.protocol.after
    energy = jax.vmap(process.system.energy, (0, None))
    gain = energy(run.path.xs[:, -1], after) - energy(run.path.xs[:, 0], before)
    heat = run.heat.sum(-1) if run.heat.ndim == 2 else run.heat
    np.testing.assert_allclose(gain, run.work - heat, atol=1e-12)


def test_account(seen):
    process, how, run = seen
    close(tuple(tjx.account(process, run.path, **how))[1:], tuple(run)[1:], rtol=1e-12)


def test_reversed_path(seen):
    """Mirrored and flipped, R changes sign; twice reversed a process is itself."""
    process, how, run = seen
    path, back = tjx.Path(*(v[:50] for v in run.path)), tjx.reverse(process)
    mirrored = tjx.Path(1.0 - path.ts[:, ::-1], FLIP(process.system)(path.xs)[:, ::-1])
    priced = tjx.account(back, mirrored, **how)
    np.testing.assert_allclose(priced.entropy.total, -run.entropy.total[:50], atol=1e-12)
    np.testing.assert_allclose(priced.heat, -run.heat[:50], atol=1e-12)
    again = tjx.reverse(back)
    assert jax.tree.structure(again) == jax.tree.structure(process)
    close(jax.tree.leaves(again), jax.tree.leaves(process))


def test_path_ratio(seen):
    """Of ABOBA, with its own reverse, it is R; BAOAB has none."""
    process, how, run = seen
    if how["solver"] == tjx.ABOBA():
        path = tjx.Path(*(v[:50] for v in run.path))
        ratio = tjx.path_ratio(process, tjx.reverse(process), path)
        np.testing.assert_allclose(ratio, run.entropy.total[:50], atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_crooks(case):
    """BAR of both directions, from moving and correlated ends, at four steps: no free energy is missing."""
    process, size = CASES[case](), 100_000
    back, grid = tjx.reverse(process), tjx.reverse_grid(process, TS)
    r, s = (
        tjx.ensemble(p, ts, jax.random.key(i), size, rule="kernel").entropy.total
        for i, (p, ts) in enumerate(((process, TS), (back, grid)))
    )
    sigmas.assert_within(tjx.estimators.bar(r, s), 0.0, absolute=0.05)
    if case == "landscape":  # control: densities whose momenta are not turned around
        wrong = back.replace(initial=process.final, final=process.initial)
        s = tjx.ensemble(wrong, grid, jax.random.key(2), size, rule="kernel").entropy.total
        sigmas.assert_biased(tjx.estimators.bar(r, s), 0.0)


def test_path_ratio_between_forces():
    """The kernel lives where no force moves it: paths of one force, weighted, have the means of another."""
    system = tjx.Underdamped(lambda q, lam: 0.5 * q @ q)
    other = tjx.Underdamped(lambda q, lam: 0.5 * q @ q - 0.5 * q[0])
    drive = Function(lambda t: 0.0 * t, 1.0)
    p, q = (tjx.Process(s, drive, Gaussian(jnp.zeros(2), 1.0)) for s in (system, other))
    run = tjx.ensemble(p, TS, jax.random.key(3), 20_000, rule="kernel", save="all")
    weight = np.exp(np.asarray(tjx.log_prob(q, run.path) - tjx.log_prob(p, run.path)))
    sigmas.assert_within(weight, 1.0, absolute=0.05)
    sigmas.assert_biased(weight * np.asarray(run.path.xs[:, -1, 0]), 0.0)
    # a path of another step, or of another mass, has no density
    assert tjx.log_prob(p, run.path._replace(xs=run.path.xs + 0.1))[0] == -jnp.inf
    heavy = p.replace(system=tjx.Underdamped(system.potential, mass=1.1))
    assert tjx.log_prob(heavy, run.path)[0] == -jnp.inf


def test_the_reduced_work_and_thermal_ends():
    """Jarzynski with impulses that stay: the free energy of momenta around -J is that around zero."""
    process = kicked((0.5, 1.0, 1.5), 0.4, 0.4)
    drive = Joint({"x": ramp(0.0, 1.0, 1.0), "J": ramp(0.0, 0.5, 1.0)})
    process = driven(process.system, drive)
    run = tjx.ensemble(process, TS, jax.random.key(4), 50_000, rule="kernel")
    sigmas.assert_within(np.exp(-np.asarray(tjx.reduced_work(process, run))), 1.0, absolute=0.08)
    np.testing.assert_allclose(
        tjx.reduced_work(process, run), tjx.dissipated_work(process, run), atol=1e-12
    )


# ---- equilibria


def test_boltzmann():
    """Positions with Maxwell's momenta around -J: draws, density, normaliser, moments."""
    system = tjx.Underdamped(
        lambda q, lam: 0.5 * lam * q @ q,
        mass=jnp.array([2.0, 0.5]),
        temperature=1.5,
        impulse=lambda lam: lam,
    )
    density = Boltzmann(system, 3.0, dim=2)
    parts = density.normal()
    np.testing.assert_allclose(parts.mean, [0, 0, -3, -3], atol=1e-12)
    np.testing.assert_allclose(np.diag(parts.cov), [0.5, 0.5, 3.0, 0.75])
    x = density.sample(jax.random.key(0))
    np.testing.assert_allclose(density.log_prob(x), Gaussian(*parts).log_prob(x), rtol=1e-12)
    energy = system.energy(x, jnp.asarray(3.0)) / 1.5
    np.testing.assert_allclose(density.log_prob(x), -energy - density.log_partition(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"takes one point of shape \(4,\)"):
        density.log_prob(jnp.zeros(2))


def quartic():
    return tjx.Underdamped(
        lambda q, lam: 0.25 * jnp.sum(q**4), mass=0.7, friction=1.4, temperature=0.9
    )


def test_a_quartic_well():
    """Normalised, drawn and at rest: <q²> by quadrature, <v²> by equipartition, after fifty steps and at their start."""
    system = quartic()
    density = Boltzmann(system, None)
    q = np.linspace(-6, 6, 4001)
    weight = np.exp(-(q**4) / 4 / 0.9)
    q2 = np.trapezoid(q**2 * weight, q) / np.trapezoid(weight, q)
    log_z = np.log(np.trapezoid(weight, q)) + 0.5 * np.log(2 * np.pi * 0.7 * 0.9)
    np.testing.assert_allclose(density.log_partition(), log_z, rtol=1e-9)
    process = tjx.Process(system, lambda t: None, density)
    ts = jnp.linspace(0.0, 5.0, 51)
    xs = np.asarray(tjx.ensemble(process, ts, jax.random.key(5), 40_000).path.xs)
    for at in (0, -1):
        sigmas.assert_within(xs[:, at, 0] ** 2, q2, bias=0.07)
        sigmas.assert_within(xs[:, at, 1] ** 2 / 0.7, 0.9, bias=0.07)  # m v² = T


# ---- moments


def last(process, count=9):
    end = process.protocol.t1
    evolution = moments(process, jnp.linspace(0.0, 1.0, count) * end)
    return evolution, evolution.work[-1], evolution.heat[-1], evolution.entropy.total[-1]


def test_moments_of_everything():
    process = everything()
    evolution, work, heat, total = last(process)
    delta = process.initial.log_partition() - process.final.log_partition()
    found = work, heat, evolution.reduced_work[-1] - delta, total, delta
    want = 1.976724565, 0.938814216, 2.095355873, 0.729020348, 0.752038698
    np.testing.assert_allclose(found, want, atol=2e-9)


@pytest.mark.parametrize(
    ("mass", "row"), [(1.0, 1.865971220), (0.1, 1.568788330), (0.01, 1.482012841)]
)
def test_moments_of_a_ramp(mass, row):
    system = tjx.Underdamped(lambda q, lam: 0.5 * jnp.sum((q - lam) ** 2), mass=mass)
    _, work, *_ = last(driven(system, ramp(0.0, 2.0, 1.0)), 3)
    np.testing.assert_allclose(work, row, atol=2e-9)


def test_moments_of_kicks():
    """The closed-form optimum, to its digits: kicks are turns of the knob."""
    process = kicked(*OPTIMUM)
    evolution, work, _, total = last(process, 3)
    np.testing.assert_allclose((work, total), (4 / 3, 4 / 9), atol=1e-9)
    parts, rest = evolution.final.normal(), process.final.normal()
    np.testing.assert_allclose(parts.cov, rest.cov, atol=1e-9)
    kl = 0.5 * np.sum((parts.mean - rest.mean) ** 2)
    np.testing.assert_allclose(kl, 8 / 9, atol=1e-9)


@pytest.mark.parametrize(
    ("mass", "row"),
    [(1.0, 1.262313242), (0.1, 0.998062451), (0.01, 0.942670082), (0.001, 0.936708933)],
)
def test_moments_of_stiffening(mass, row):
    _, work, *_ = last(squeezed(mass), 2)
    np.testing.assert_allclose(work, row, atol=2e-9)


@pytest.mark.parametrize(
    ("mass", "row"),
    [
        (1.0, (2.375151959, 0.653343628, 0.680735478, -0.210574829, 0.470160648, 3.707995892)),
        (0.1, (1.902191725, 2.153418945, 2.093435738, -0.761905588, 1.331530150, 2.654401712)),
    ],
)
def test_moments_of_row_nine(mass, row):
    """Everything driven at once, from equilibrium at k = 1, T = 1.5, and (6.26)."""
    system = tjx.Underdamped(bowl, mass=mass, temperature=lambda lam: lam["T"])
    at = lambda t: {"k": 1 + 1.5 * t, "x": 1.2 * jnp.sin(2 * t), "T": 1.5 - 0.7 * t}
    process = driven(system, Function(at, 1.0))
    evolution, work, heat, total = last(process)
    entropy = evolution.entropy
    found = work, heat, entropy.medium[-1], entropy.system[-1], total, evolution.reduced_work[-1]
    np.testing.assert_allclose(found, row, atol=3e-9)
    assert abs(tjx.identities.mean_dissipation(process, evolution).value) < 1e-12
    if mass == 1:
        parts = evolution.final.normal()
        np.testing.assert_allclose(parts.mean, [0.403099977, 0.993738836], atol=2e-9)
        cov = parts.cov[jnp.array([0, 0, 1]), jnp.array([0, 1, 1])]
        np.testing.assert_allclose(cov, [1.007832132, -0.538550203, 1.752963596], atol=2e-9)


@pytest.mark.parametrize(
    ("mass", "heat", "rate"), [(1.0, 0.242424242, 0.161616162), (0.1, 0.310077519, 0.206718346)]
)
def test_a_gyrator_of_two_baths(mass, heat, rate):
    """Stationary: the heat of each bath and the production, u² (T2-T1)² gamma / 2(m u² + gamma² k)."""
    system = tjx.Underdamped(
        lambda q, lam: q @ q + 0.8 * q[0] * q[1], mass=mass, temperature=jnp.array([1.0, 3.0])
    )
    state = steady(system, None, dim=2)
    process = tjx.Process(system, lambda t: None, state)
    evolution = moments(process, jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(evolution.heat[-1], [heat, -heat], atol=2e-9)
    rates = tjx.rates.along(process, evolution, split=None)
    for found in (evolution.entropy.total[-1], rates.total[0], rates.medium[0]):
        np.testing.assert_allclose(found, rate, atol=2e-9)
    drawn = jax.vmap(state.sample)(jax.random.split(jax.random.key(6), 5000))
    sampled = tjx.rates.sampled(system, None, jax.grad(state.log_prob), drawn)
    sigmas.assert_within(sampled.total, rate, bias=0.25)


def whirl(mass):
    turn = lambda q, lam: 1.5 * jnp.stack([-q[1], q[0]])
    return tjx.Underdamped(lambda q, lam: q @ q, force=turn, mass=mass)


@pytest.mark.parametrize(("mass", "rate"), [(0.5, 5.142857143), (0.01, 2.275600506)])
def test_a_whirl(mass, rate):
    process = tjx.Process(whirl(mass), lambda t: 0.0 * t, steady(whirl(mass), None, dim=2))
    evolution = moments(process, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(evolution.entropy.medium[-1], rate, atol=2e-9)


def test_a_whirl_that_runs_away():
    """$m \\kappa^2 \\ge \\gamma^2 k$: Lyapunov's equation has a solution there, and it is no covariance."""
    with pytest.raises(ValueError, match="nothing is stationary"):
        steady(whirl(0.9), None, dim=2)


def test_verify():
    said = tjx.verify(everything(), jnp.linspace(0.0, 2.0, 41), jax.random.key(0), size=2000)
    assert said.holds, str(said)
    rows = {name: row for name, _, row in said.rows}
    assert not isinstance(rows["path ratio"], str)
    assert not isinstance(rows["entropy production rate"], str)


# ---- derivatives, and what a search finds


def test_gradients():
    """Of the mean work, by every number there is: with the noise held, against finite differences."""

    def work(theta):
        system = tjx.Underdamped(
            lambda q, lam: 0.5 * theta["k"] * jnp.sum((q - lam) ** 2) + 0.05 * jnp.sum(q**4),
            friction=theta["friction"],
            mass=theta["mass"],
            temperature=theta["T"],
            impulse=lambda lam: theta["J"] * lam,
        )
        process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Gaussian(jnp.zeros(2), 1.0))
        return jnp.mean(tjx.ensemble(process, TS, jax.random.key(7), 20).work)

    theta = {
        n: jnp.asarray(v)
        for n, v in {"k": 1.3, "friction": 0.8, "mass": 1.2, "T": 0.9, "J": 0.4}.items()
    }
    work = eqx.filter_jit(work)
    got = jax.grad(work)(theta)
    np.testing.assert_allclose(jax.tree.leaves(got), central(work, theta), rtol=1e-7, atol=1e-9)


def test_the_gradient_of_small_friction():
    """b = sqrt(tanh(y)/y) where y is small: value and slope are those of its series."""

    def half(friction):
        system = tjx.Underdamped(lambda q, lam: 0.0 * q.sum(), friction=friction)
        x = jnp.array([0.0, 1.0])
        return tjx.BAOAB()(system, x, None, jnp.asarray(1.0), (jnp.zeros(1),))[0]

    for friction in (1e-8, 0.039, 0.041, 2.0):
        slope = (half(friction * 1.001) - half(friction * 0.999)) / (0.002 * friction)
        np.testing.assert_allclose(jax.grad(half)(friction), slope, rtol=1e-5)


def test_the_score_gradient():
    """Of paths on the kernel's manifold; exact: the work of a drag is quadratic in its length."""
    process = driven(
        tjx.Underdamped(lambda q, lam: 0.5 * jnp.sum((q - lam) ** 2)), ramp(0.0, 2.0, 1.0)
    )
    ts = jnp.linspace(0.0, 1.0, 5)
    loss = optimal.mean_work(process, ts, 1000, rule="kernel")

    def slope(key):
        stretched = lambda s: eqx.tree_at(
            lambda p: p.values, process.protocol, s * process.protocol.values
        )
        return jax.grad(lambda s: loss.likelihood_ratio(stretched(s), key))(1.0)

    found = jax.jit(jax.vmap(slope))(jax.random.split(jax.random.key(8), 100))

    # W = l² w of the part that is stretched, knots alone: by differences of the exact chain, which is quadratic in s
    def exact(s):
        drive = eqx.tree_at(lambda p: p.values, process.protocol, s * process.protocol.values)
        return mean(quadratic(process.replace(protocol=drive), ts, tjx.ABOBA(), "kernel")["work"])

    sigmas.assert_within(np.asarray(found), 0.5 * (exact(2.0) - exact(0.0)), bias=0.2)


@pytest.mark.parametrize("what", ["impulse", "mass"])
def test_the_score_gradient_is_refused(what):
    """By what moves the manifold."""
    process = kicked((0.0, 2.0), 0.1, 0.1)
    if what == "impulse":
        loss = optimal.mean_work(process, TS, 10, rule="kernel")
        with pytest.raises(ValueError, match=r'the impulse and the path.*gradient="pathwise"'):
            jax.grad(lambda d: loss.likelihood_ratio(d, jax.random.key(0)), allow_int=True)(
                process.protocol
            )
    else:
        path = tjx.simulate(process, TS, jax.random.key(0), rule="kernel").path
        at = lambda m: eqx.tree_at(lambda p: p.system.mass, process, m)
        with pytest.raises(ValueError, match="moves with the mass"):
            jax.grad(lambda m: tjx.log_prob(at(m), path))(jnp.asarray(1.0))


def test_a_search_finds_the_kicks():
    """From the plain ramp, by the search as it is; the exact work of what it finds against the closed form, 4/3."""
    process = kicked((0.0, 2.0), 0.0, 0.0)
    ts = jnp.linspace(0.0, 1.0, 9)
    loss = optimal.mean_work(process, ts, 500)
    found = optimal.search(
        loss, process.protocol, jax.random.key(9), steps=80, check=loss, progress=False
    )
    work = last(process.replace(protocol=found.protocol), 3)[1]
    assert 4 / 3 - 1e-9 < work < 1.345
    assert np.all(np.asarray(found.protocol.protocols["J"].values) > 0.3)


# ---- measured paths


def test_recorded_velocities():
    """Positions and velocities become states, and have the ledger of the run; positions alone have its work."""
    process = kicked((0.5, 1.5), 0.3, 0.4)
    run = tjx.ensemble(process, TS, jax.random.key(10), 5, save="all")
    lams = jax.vmap(process.protocol)(TS)
    outside = {name: [p.before, p.after] for name, p in process.protocol.protocols.items()}
    for name, pair in outside.items():
        lams[name] = lams[name].at[jnp.array([0, -1])].set(jnp.stack(pair))
    v = jax.vmap(jax.vmap(lambda x, lam: process.system.motion(x, lam)[1]), (0, None))(
        run.path.xs, lams
    )
    recorded = run.path._replace(xs=jnp.concatenate([run.path.xs[..., :1], v], -1))
    path = tjx.measured.with_momenta(process, recorded)
    np.testing.assert_allclose(path.xs, run.path.xs, atol=1e-14)
    close(tuple(tjx.account(process, path))[1:], tuple(run)[1:])


def test_positions_alone():
    system = tjx.Underdamped(lambda q, lam: 0.5 * jnp.sum((q - lam) ** 2))
    process = driven(system, ramp(0.0, 2.0, 1.0))
    run = tjx.ensemble(process, TS, jax.random.key(11), 5, save="all")
    positions = run.path._replace(xs=run.path.xs[..., :1])
    with pytest.raises(ValueError, match=r"which is odd.*system\.overdamped\(\).*with_momenta"):
        tjx.account(process, positions)
    still = tjx.Process(system.overdamped(), process.protocol, Gaussian(0.0, 1.0))
    np.testing.assert_allclose(tjx.account(still, positions).work, run.work, atol=1e-12)


# ---- what is refused


WELL = lambda q, lam: 0.5 * q @ q
REFUSED = {
    "mass=0": (
        lambda: tjx.Underdamped(WELL, mass=0.0),
        ValueError,
        "mass must be finite and greater",
    ),
    "friction<0": (
        lambda: tjx.Underdamped(WELL, friction=-1.0),
        ValueError,
        "friction must be finite",
    ),
    "temperature=0": (
        lambda: tjx.Underdamped(WELL, temperature=0.0),
        ValueError,
        "temperature must be",
    ),
    "driven mass": (
        lambda: tjx.Underdamped(WELL, mass=lambda lam: lam),
        TypeError,
        "at fixed momentum",
    ),
    "driven friction": (
        lambda: tjx.Underdamped(WELL, friction=lambda lam: lam),
        TypeError,
        "can't be driven",
    ),
    "a matrix": (lambda: tjx.Underdamped(WELL, mass=jnp.eye(2)), ValueError, "got a matrix"),
    "a constant impulse": (
        lambda: tjx.Underdamped(WELL, impulse=1.0),
        TypeError,
        r"a callable \(lam\)",
    ),
    "nothing": (lambda: tjx.Underdamped(None), ValueError, "a potential, a force, or both"),
    "a limit with kicks": (
        lambda: kicked(*OPTIMUM).system.overdamped(),
        ValueError,
        "without impulse",
    ),
    "an odd state": (lambda: run(Gaussian(jnp.zeros(3), 1.0)), ValueError, "which is odd"),
    "masses": (
        lambda: run(Gaussian(jnp.zeros(2), 1.0), mass=jnp.ones(2)),
        ValueError,
        "mass must be a scalar or one number for each of the 1 positions",
    ),
    "a potential of shape (1,)": (
        lambda: run(Gaussian(jnp.zeros(2), 1.0), potential=lambda q, lam: q**2),
        ValueError,
        "must return one real scalar",
    ),
    "an impulse that spreads": (
        lambda: run(Gaussian(jnp.zeros(2), 1.0), impulse=lambda lam: jnp.ones(3)),
        ValueError,
        r"impulse\(lam\) must have shape",
    ),
    "Heun": (lambda: run(solver=tjx.Heun()), TypeError, r"Heun needs noise.*BAOAB"),
    "Euler": (lambda: run(solver=tjx.Euler()), TypeError, r"Euler needs noise.*BAOAB"),
    "BAOAB without momenta": (
        lambda: tjx.ensemble(
            tjx.Process(tjx.Overdamped(WELL), lambda t: t, Gaussian(jnp.zeros(2), 1.0)),
            TS,
            jax.random.key(0),
            2,
            solver=tjx.BAOAB(),
        ),
        TypeError,
        "BAOAB is for positions and momenta",
    ),
    "fokker_planck": (
        lambda: tjx.evolve.fokker_planck(everything(), jnp.linspace(0.0, 2.0, 3), Grid(-3, 3, 50)),
        TypeError,
        "Underdamped is none. Use evolve.moments",
    ),
    "a lattice": (
        lambda: tjx.systems.Lattice(tjx.Underdamped(WELL), Grid(-3, 3, 50)),
        TypeError,
        "Lattice",
    ),
    "a path of no step": (
        lambda: tjx.account(
            everything(), tjx.Path(jnp.array([0.0, 1.0, 2.0]), jnp.eye(3)[:, :2]), rule="kernel"
        ),
        ValueError,
        "which do not lead along any of these paths",
    ),
    "splits": (
        lambda: tjx.rates.along(everything(), moments(everything(), jnp.array([0.0, 2.0]))),
        ValueError,
        "odd under time reversal",
    ),
}


def run(initial=None, potential=WELL, solver=None, **parts):
    process = tjx.Process(
        tjx.Underdamped(potential, **parts), lambda t: t, initial or Gaussian(jnp.zeros(2), 1.0)
    )
    return tjx.ensemble(process, TS, jax.random.key(0), 2, solver=solver)


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        call()


def test_a_point_is_no_density_of_both():
    """Maxwell's momenta at one place: R is infinite, and says so by being infinite."""
    process = driven(tjx.Underdamped(WELL), ramp(0.0, 1.0, 1.0)).replace(
        initial=Point(jnp.zeros(2))
    )
    assert np.isposinf(tjx.ensemble(process, TS, jax.random.key(0), 2).entropy.total).all()
