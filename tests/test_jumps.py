"""Jumps and spins through the library's own verbs; the master equation against tables and closed forms."""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from compare import close

import thermojax as tjx
from thermojax.densities import Point, States
from thermojax.protocols import Piecewise, ramp
from thermojax.systems import checkerboard, ising, rows, spin_states

X64 = jax.config.jax_enable_x64
EXACT = 1e-12 if X64 else 1e-4
TWO, RING = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [1.0], [2.0]])
TS = jnp.array([0.0, 0.3, 0.5, 1.1, 2.0])


def glauber(x, lam):
    """Rates of two levels, lam apart: up at 1/(1 + e^lam), down at the rest."""
    return jax.nn.sigmoid(lam * (2 * x - 1))


LEVELS = tjx.Jumps(glauber, lambda x: (1 - x)[None], lambda x, lam: lam * x[0])


def around(x, lam):
    """Rates of a ring of three, driven by the affinity 3 lam, the third state higher by one; its edges are not alike."""
    i = x[0].astype(int)
    climb = jnp.array([[0.0, 1.0, -1.0], [1.0, 0.0, -1.0]], x.dtype)[:, i]
    edge = jnp.array([[1.0, 0.2, 3.0], [3.0, 1.0, 0.2]], x.dtype)[:, i]
    return edge * jnp.exp(0.5 * (jnp.stack([lam, -lam]) - climb))


def beside(x):
    return jnp.stack([(x + 1) % 3, (x - 1) % 3])


def third(x, lam):
    return jnp.where(x[0] == 2, 1.0, 0.0).astype(x.dtype)


MOTOR = tjx.Jumps(around, beside, third, lambda x, lam: jnp.stack([lam, -lam]))
IMPLIED = tjx.Jumps(around, beside, third, "rates")


def magnet(h, T):
    return {"h": jnp.asarray(h), "T": jnp.asarray(T)}


HEAT = {"field": lambda lam: lam["h"], "temperature": lambda lam: lam["T"]}
SPINS = spin_states(4)
START, STOP = magnet(-0.3, 2.5), magnet(0.4, 1.5)


def spins(system):
    ends = (States.boltzmann(system, lam, SPINS) for lam in (START, STOP))
    return tjx.Process(system, ramp(START, STOP, 2.0), *ends)


def levels():
    return tjx.Process(
        LEVELS,
        ramp(0.0, 2.0, 2.0),
        *(States.boltzmann(LEVELS, lam, TWO) for lam in (0.0, 2.0)),
    )


def motor():
    uniform, tilted = (States(RING, p) for p in (jnp.full(3, 1 / 3), jnp.array([0.3, 0.5, 0.2])))
    return tjx.Process(MOTOR, ramp(0.5, 1.5, 2.0), uniform, tilted)


CASES = {
    "motor": motor,
    "checkerboard at a rate": lambda: spins(ising(2, 2, **HEAT, rate=1.5)),
    "sweeps": lambda: spins(ising(4, **HEAT, order=rows(4))),
}
SIZE = 100_000


@pytest.fixture(scope="module", params=CASES)
def seen(request):
    process = CASES[request.param]()
    run = ft.partial(tjx.ensemble, process, TS, rule="kernel", save="all")
    return request.param, process, run(jax.random.key(0), SIZE)


def test_first_law_and_account(seen):
    _, process, run = seen
    path, work, heat, _ = run
    assert path.ok.all()
    before, after = process.protocol.before, process.protocol.after
    energy = process.system.energy
    gained = jax.vmap(lambda x: energy(x[-1], after) - energy(x[0], before))(path.xs)
    np.testing.assert_allclose(gained, work - heat, atol=EXACT)
    close(tuple(tjx.account(process, path, rule="kernel")), tuple(run), EXACT)


def test_fluctuation_theorem(seen):
    """<exp(-R)> = 1 by the kernels at four coarse steps; of the alternating rule it is off for jumps, and for sweeps not."""
    name, process, run = seen
    sigmas.assert_within(np.exp(-np.asarray(run.entropy.total)), 1.0, absolute=0.09)
    plain = tjx.account(process, run.path).entropy.total
    if name == "motor":
        sigmas.assert_biased(np.exp(-np.asarray(plain)), 1.0)
    else:
        np.testing.assert_allclose(plain, run.entropy.total, atol=10 * EXACT)


def test_reversed_path_and_path_ratio(seen):
    _, process, run = seen
    path = tjx.Path(*(v[:100] for v in run.path))
    back = tjx.reverse(process)
    mirrored = tjx.Path(2.0 - path.ts[:, ::-1], path.xs[:, ::-1], path.ok)
    priced = tjx.account(back, mirrored, rule="kernel")
    np.testing.assert_allclose(priced.entropy.total, -run.entropy.total[:100], atol=10 * EXACT)
    np.testing.assert_allclose(priced.work, -run.work[:100], atol=EXACT)
    ratio = tjx.path_ratio(process, back, path)
    np.testing.assert_allclose(ratio, run.entropy.total[:100], atol=10 * EXACT)


def test_means_are_those_of_the_chain(seen):
    """`evolve.master` of the same steps: work, heat and medium of the mean, within chance."""
    name, process, run = seen
    states = RING if name == "motor" else SPINS
    exact = tjx.evolve.master(process, TS, states, solver=process.system.step("kernel"))
    sigmas.assert_within(run.work, exact.work[-1], absolute=0.1)
    sigmas.assert_within(run.heat, exact.heat[-1], absolute=0.1)
    np.testing.assert_allclose(exact.p.sum(1), 1.0, atol=EXACT)
    final = exact.final
    drawn = jax.vmap(final.sample)(jax.random.split(jax.random.key(1), SIZE))
    sigmas.assert_within(drawn[:, -1], final.mean()[-1], absolute=0.06)


def test_free_energy_by_bar():
    """Of a magnet from forward and reversed runs, against the sum over states."""
    process = CASES["sweeps"]()
    w = tjx.reduced_work(process, tjx.ensemble(process, TS, jax.random.key(2), SIZE))
    back, grid = tjx.reverse(process), tjx.reverse_grid(process, TS)
    v = tjx.reduced_work(back, tjx.ensemble(back, grid, jax.random.key(3), SIZE))
    found = tjx.estimators.bar(w, v)
    exact = -tjx.evolve.generating(process, TS, SPINS)
    logs = [
        jax.nn.logsumexp(
            -jax.vmap(lambda x, lam=lam: process.system.energy(x, lam))(SPINS) / lam["T"]
        )
        for lam in (START, STOP)
    ]
    np.testing.assert_allclose(exact, logs[0] - logs[1], atol=EXACT)
    assert found.reliable
    sigmas.assert_within(found, exact, absolute=0.1)


# ---- the master equation


@pytest.mark.parametrize(
    ("end", "sweeps", "want"),
    [
        ((0.1, 2.5), 4, (0.0, 0.464873461, 0.051309774, -0.246763809, 0.298073584, 0.413563687)),
        (
            (0.2, 3.0),
            4,
            (1.166948257, 1.954618293, 0.251518997, -1.647729794, 1.899248792, 0.536151039),
        ),
        (
            (0.2, 3.0),
            32,
            (1.166948257, 1.541088473, 0.341724249, -1.697943861, 2.039668111, 0.032415967),
        ),
    ],
)
def test_the_ising_table(end, sweeps, want):
    """4 x 4 spins from h = -0.1 at T = 2.5, swept site by site: -d(beta F), <W_red>, the three entropies, KL at the end."""
    system, states = ising(4, 4, **HEAT, order=rows(4, 4)), spin_states(16)
    a, b = magnet(-0.1, 2.5), magnet(*end)
    ends = [States.boltzmann(system, lam, states) for lam in (a, b)]
    process = tjx.Process(system, ramp(a, b, 1.0), *ends)
    ts = jnp.linspace(0.0, 1.0, sweeps + 1)
    found = tjx.evolve.master(process, ts, states)
    delta = -tjx.evolve.generating(process, ts, states)
    last = found.p[-1]
    apart = jnp.sum(last * (jnp.log(last) - ends[1].logs))
    got = (delta, found.reduced_work[-1], *(v[-1] for v in found.entropy), apart)
    np.testing.assert_allclose(np.array(got), want, atol=1e-9 if X64 else 1e-3)
    u = [jax.vmap(lambda x, lam=lam: system.energy(x, lam))(states) / lam["T"] for lam in (a, b)]
    exact = jax.nn.logsumexp(-u[0]) - jax.nn.logsumexp(-u[1])
    assert abs(delta - exact) < (1e-13 if X64 else 1e-4)  # <e^-W> = e^-dF
    off = found.reduced_work[-1] - exact - found.entropy.total[-1] - apart
    assert abs(off) < (1e-10 if X64 else 1e-3)


def test_two_levels_in_closed_form():
    """A level that jumps to a height and stays: p relaxes at rate 1, and the ledger follows."""
    height = 1.3
    jump = Piecewise(jnp.array([0.0, 1.0]), jnp.full(2, height), 0.0, height)
    process = tjx.Process(LEVELS, jump, States.boltzmann(LEVELS, 0.0, TWO))
    ts = jnp.array([0.0, 0.4, 1.0])
    f = 1 / (1 + np.exp(height))

    def heat(height, process):
        found = tjx.evolve.master(process, ts, TWO)
        return found.heat[-1], found

    (value, found) = heat(height, process)
    p = f + (0.5 - f) * np.exp(-np.array([0.0, 0.4, 1.0]))
    np.testing.assert_allclose(found.p[:, 1], p, rtol=1e-12 if X64 else 1e-5)
    np.testing.assert_allclose(value, height * (0.5 - p[-1]), rtol=1e-11 if X64 else 1e-4)
    np.testing.assert_allclose(found.work, [0.0, height / 2, height / 2], atol=EXACT)
    entropy = -p * np.log(p) - (1 - p) * np.log1p(-p)
    np.testing.assert_allclose(found.entropy.system, entropy - entropy[0], atol=EXACT)
    np.testing.assert_allclose(found.at(0.2).p.sum(), 1.0, atol=EXACT)
    with pytest.raises(TypeError, match="have no score"):
        found.score(jnp.zeros(1), 0.2)

    def cost(h):
        same = Piecewise(jump.ts, jnp.full(2, 1.0) * h, 0.0, h)
        return tjx.evolve.master(process.replace(protocol=same), ts, TWO).heat[-1]

    slope = f * (1 - f) * (1 - np.exp(-1.0))  # of 1/2 - p
    want = (0.5 - p[-1]) + height * slope
    np.testing.assert_allclose(jax.grad(cost)(height), want, rtol=1e-10 if X64 else 1e-3)


def test_cumulants_of_the_work():
    """The generating function's slope at zero is the mean; with the end at the start, s = 1 and 2 are closed forms."""
    process = levels()
    mean = -jax.grad(lambda s: tjx.evolve.generating(process, TS, TWO, s))(0.0)
    exact = tjx.evolve.master(process, TS, TWO).reduced_work[-1]
    np.testing.assert_allclose(mean, exact, rtol=1e-10 if X64 else 1e-4)
    sudden = process.replace(protocol=Piecewise(jnp.array([0.0, 1.0]), jnp.full(2, 2.0), 0.0, 2.0))
    ts = jnp.array([0.0, 1.0])
    second = tjx.evolve.generating(sudden, ts, TWO, 2.0)
    np.testing.assert_allclose(
        second, np.log(0.5 + 0.5 * np.exp(-4.0)), rtol=1e-10 if X64 else 1e-5
    )


def test_steady_states():
    """Of the ring: uniform where it is even, its entropy production that of the cycle; detailed balance at rest."""
    even = tjx.Jumps(lambda x, lam: jnp.exp(0.5 * jnp.stack([lam, -lam])), beside, work="rates")
    assert np.allclose(tjx.evolve.steady(even, 1.0, states=RING).p, 1 / 3)
    process = tjx.Process(even, lambda t: 1.0 + 0 * t, Point(0.0))
    found = tjx.evolve.master(process, jnp.array([0.0, 2.0]), RING)
    rate = np.exp(0.5) - np.exp(-0.5)
    np.testing.assert_allclose(found.entropy.medium[-1], 2 * rate, rtol=1e-11 if X64 else 1e-4)
    rest = States.boltzmann(MOTOR, 0.0, RING)
    np.testing.assert_allclose(tjx.evolve.steady(MOTOR, 0.0, states=RING).p, rest.p, atol=EXACT)
    held = tjx.Process(MOTOR, lambda t: 0.0 * t, rest)
    stays = tjx.evolve.master(held, jnp.array([0.0, 0.5, 50.0]), RING)
    np.testing.assert_allclose(stays.p, jnp.stack([rest.p] * 3), atol=EXACT)
    np.testing.assert_allclose(stays.entropy.total, 0.0, atol=EXACT)


def test_implied_work_is_the_given_one():
    path = tjx.ensemble(motor(), TS, jax.random.key(4), 50, save="all").path
    one, two = (tjx.account(motor().replace(system=s), path) for s in (MOTOR, IMPLIED))
    close(tuple(one), tuple(two), 1e-9 if X64 else 1e-3)


def test_two_baths():
    """A level between two baths: each jump's heat goes to its own, and steadily from hot to cold."""

    def rates(x, lam):
        turn = lam * (2 * x - 1)
        return jnp.concatenate([jax.nn.sigmoid(turn), jax.nn.sigmoid(turn / 2)])

    dot = tjx.Jumps(
        rates,
        lambda x: jnp.stack([1 - x, 1 - x]),
        lambda x, lam: lam * x[0],
        temperature=jnp.array([1.0, 2.0]),
        bath=(0, 1),
    )
    steady = tjx.evolve.steady(dot, 1.0, states=TWO)
    cold, hot = 1 / (1 + np.exp(1.0)), 1 / (1 + np.exp(0.5))
    np.testing.assert_allclose(steady.p[1], (cold + hot) / 2, rtol=1e-6)
    process = tjx.Process(dot, lambda t: 1.0 + 0 * t, steady)
    found = tjx.evolve.master(process, jnp.array([0.0, 1.0]), TWO)
    flow = (hot - cold) / 2
    np.testing.assert_allclose(found.heat[-1], [flow, -flow], rtol=1e-5)
    np.testing.assert_allclose(found.entropy.medium[-1], flow / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="one temperature"):
        States.boltzmann(dot, 1.0, TWO)
    with pytest.raises(ValueError, match=r"events \[0, 1\] all lead from .* the state count"):
        tjx.ensemble(process, jnp.array([0.0, 1.0]), jax.random.key(0), 20)  # which bath?


def test_a_step_of_any_length_jumps_as_often_as_it_should():
    """1 - exp(-r dt), in the events' shares k/r, from steps that hardly ever jump to those that always do."""
    x, lam = RING[0], jnp.asarray(0.7)
    rates = MOTOR.rates(x, lam)
    total = rates.sum()
    for dt in np.logspace(-9, 1.5, 22):
        kernel = tjx.Once().kernel(MOTOR, x, lam, jnp.asarray(dt))
        want = -jnp.expm1(-total * dt) * rates / total
        np.testing.assert_allclose(jnp.exp(kernel.logs), want, rtol=1e-13)
        np.testing.assert_allclose(kernel.stay, -total * dt, rtol=1e-15)


# ---- derivatives


def test_score_of_a_search():
    """Unbiased against the derivative of the chain's exact mean; with features, and the cost to come, less noisy."""
    drive, ts = ramp(0.0, 2.0, 12.0, knots=4), jnp.linspace(0.0, 12.0, 41)
    process, step = levels().replace(protocol=drive, final=None), tjx.Once()

    def exact(drive):
        return tjx.evolve.master(process.replace(protocol=drive), ts, TWO, solver=step).work[-1]

    want = eqx.filter_grad(exact)(drive).values
    plain = tjx.optimal.average(lambda run: run.work, process, ts, 200, rule="kernel")
    known = tjx.optimal.mean_work(process, ts, 200, rule="kernel", features=lambda x, lam: x)
    keys = jax.random.split(jax.random.key(5), 100)
    noise = []
    for loss in (plain, known):
        of = eqx.filter_jit(
            jax.vmap(lambda k, loss=loss: eqx.filter_grad(loss.likelihood_ratio)(drive, k).values)
        )
        found = np.asarray(of(keys))
        for i in range(4):
            sigmas.assert_within(found[:, i], want[i], absolute=0.15)
        noise.append(found.var(0).sum())
    print("variance:", noise)
    assert noise[1] < 0.95 * noise[0]


def test_a_search_of_spins_has_no_finer_steps():
    """Sweeps are the dynamics; at a rate, half the step is the same system."""
    process, ts = spins(ising(4, **HEAT)), jnp.linspace(0.0, 2.0, 5)
    loss = tjx.optimal.mean_reduced_work(process, ts, 100)
    assert loss.check() is None
    found = tjx.optimal.search(
        loss,
        process.protocol,
        jax.random.key(6),
        steps=2,
        gradient="score",
        progress=False,
        prices=2,
    )
    assert found.agrees is None
    at_a_rate = process.replace(system=ising(4, **HEAT, rate=1.0))
    assert tjx.optimal.mean_reduced_work(at_a_rate, ts, 100).check() is not None


def test_a_path_of_jumps_has_no_derivative():
    loss = tjx.optimal.mean_work(levels(), TS, 10)
    with pytest.raises(ValueError, match=r"path of jumps.*gradient=\"score\""):
        eqx.filter_grad(loss)(ramp(0.0, 2.0, 2.0, knots=3), jax.random.key(0))


def test_advantage():
    """Of each path the fit of the others: against fits that leave it out, one by one."""
    rng = np.random.default_rng(0)
    cost, seen = rng.normal(size=(12, 3)), rng.normal(size=(12, 3, 2))
    seen[:, 1, 1] = 2 * seen[:, 1, 0]  # says nothing new
    with pytest.raises(ValueError, match="two paths or more"):
        tjx.optimal.advantage(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"features must have shape .* got \(4, 2, 5\)"):
        tjx.optimal.advantage(jnp.ones((4, 3)), jnp.ones((4, 2, 5)))
    found = tjx.optimal.advantage(jnp.asarray(cost), jnp.asarray(seen))
    for i in range(12):
        others = np.arange(12) != i
        for k in range(3):
            a = np.concatenate([np.ones((12, 1)), seen[:, k]], 1)
            fit = np.linalg.lstsq(a[others], cost[others, k], rcond=None)[0]
            h = a[i] @ np.linalg.pinv(a.T @ a) @ a[i]
            want = cost[i, k] - a[i] @ fit if h < 0.5 else cost[i, k] - cost[others, k].mean()
            np.testing.assert_allclose(
                found[i, k], want, rtol=1e-9 if X64 else 1e-3, atol=1e-4 * (not X64)
            )


# ---- recorded jumps


def test_recorded_jumps():
    """Work between jumps, heat at their times, exactly; many records of different lengths, in one batch."""
    process = levels().replace(final=None)
    times, states = [0.0, 0.3, 0.35, 0.9, 1.7], [0.0, 1.0, 0.0, 0.0, 1.0]
    path = tjx.measured.from_jumps(np.array(times), np.array(states), stop=2.0)
    found = tjx.account(process, path)
    np.testing.assert_allclose(found.work, (0.35 - 0.3) + (2.0 - 1.7), rtol=1e-5)
    np.testing.assert_allclose(found.heat, -0.3 + 0.35 - 1.7, rtol=1e-5)
    both = tjx.measured.from_jumps([times, [0.0, 2.0]], [states, [1.0, 1.0]], stop=2.0)
    found = tjx.account(process, both)
    np.testing.assert_allclose(found.work, [0.35, 2.0], rtol=1e-5)
    np.testing.assert_allclose(found.heat, [-1.65, 0.0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("times", "states", "stop", "words"),
    [
        ([0.0, 0.5, 0.5], [0.0, 1.0, 0.0], None, "must rise strictly"),
        ([0.0, 0.5], [0.0, 1.0], None, "stop must be the end of the record"),
        ([0.0, 0.5], [0.0, 1.0, 0.0], 1.0, r"must be \(m,\) and states \(m, d\)"),
        ([0.0, np.nan], [0.0, 1.0], 1.0, "must be finite"),
        ([1e9, 1e9 + 2.4e-7], [0.0, 1.0], 1e9 + 1, "lost in"),
    ],
)
def test_records_that_are_refused(times, states, stop, words):
    with pytest.raises(ValueError, match=words):
        tjx.measured.from_jumps(np.array(times), np.array(states), stop=stop)


# ---- what is refused


def broken(**given):
    """A ring whose rates do not fit its energies, or with a jump of no return."""
    one_way = lambda x, lam: jnp.where(x[0] == 0, jnp.stack([1.0, 0.0]), jnp.stack([1.0, 1.0]))
    return {
        "balance": tjx.Jumps(around, beside, third),
        "one way": tjx.Jumps(lambda x, lam: one_way(x, lam).astype(x.dtype), beside),
        "negative": tjx.Jumps(lambda x, lam: -around(x, lam), beside, third),
        "sites": tjx.Spins(ising(4).potential, order=np.zeros(4, int)),
        "odd": ising(3, order=checkerboard(3)),
        "cubic": tjx.Spins(lambda x, lam: jnp.sum(x) ** 3, order=rows(4)),
    }


WORDS = {
    "balance": r"balance is broken from x = \[.*\] to \[.*\].*heat / T = ",
    "one way": "absolutely irreversible",
    "negative": "finite and not negative",
    "sites": "local field of site",
    "odd": "visited at once .* and interact",
    "cubic": "local field of site",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_system_that_breaks_detailed_balance(name):
    system = broken()[name]
    d = {"odd": 3}.get(name, 4) if isinstance(system, tjx.Spins) else 1
    start = Point(jnp.where(jnp.arange(d) == 1, -1.0, 1.0) if d > 1 else jnp.zeros(1))
    process = tjx.Process(system, lambda t: 0.8 + 0 * t, start)
    with pytest.raises(ValueError, match=WORDS[name]):
        tjx.ensemble(process, jnp.linspace(0.0, 4.0, 9), jax.random.key(0), 200)


def test_a_system_that_does_not_has_nothing_said_of_it():
    x = jnp.where(jax.random.bernoulli(jax.random.key(2), shape=(16,)), 1.0, -1.0)
    for order in (None, rows(4, 4)):
        assert ising(4, 4, **HEAT, order=order).complaint(x, magnet(0.7, 1.3)) == ""
    assert MOTOR.complaint(RING[0], jnp.asarray(0.7)) == ""


def test_spins_that_are_none():
    process = spins(ising(4, **HEAT)).replace(
        initial=Point(jnp.array([1.0, 0.5, 1.0, -1.0])), final=None
    )
    with pytest.raises(ValueError, match=r"Spins must be .* that of site 1 is 0.5"):
        tjx.ensemble(process, TS, jax.random.key(0), 3)


def test_what_is_refused():
    with pytest.raises(TypeError, match="states of Spins are points"):
        tjx.densities.Boltzmann(ising(4), None, dim=4)
    with pytest.raises(ValueError, match="holds one twice"):
        States(jnp.zeros((2, 1)), jnp.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="of the sum 1"):
        States(TWO, jnp.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="leads to .* not in the list"):
        tjx.evolve.master(motor().replace(initial=Point(0.0), final=None), TS, RING[:2])
    still = tjx.Overdamped(tjx.potentials.Harmonic(1.0))
    with pytest.raises(TypeError, match="for systems of few states"):
        tjx.evolve.master(levels().replace(system=still), TS, TWO)
    with pytest.raises(ValueError, match="work of their own"):
        tjx.evolve.generating(motor(), TS, RING)
    with pytest.raises(TypeError, match="Once is for systems of jumps"):
        tjx.ensemble(spins(ising(4, **HEAT)), TS, jax.random.key(0), 2, solver=tjx.Once())
    process = spins(ising(4, **HEAT)).replace(system=ising(4, **HEAT, order=rows(3)))
    with pytest.raises(ValueError, match="one number for each of 4 sites, got 3"):
        tjx.ensemble(process, TS, jax.random.key(0), 2)
    flat = tjx.Jumps(glauber, lambda x: 1 - x)
    with pytest.raises(ValueError, match=r"after\(x\) \(events, d\)"):
        tjx.ensemble(levels().replace(system=flat), TS, jax.random.key(0), 2)
    with pytest.raises(ValueError, match="too many to list"):
        spin_states(30)


@pytest.mark.parametrize("link", [1e-3, 1e-12, 1e-25])
def test_steady_state_of_weakly_linked_groups(link):
    """p is (3, 3, 1, 1)/8 however weak the link; with the rate back ln p rises by 1/4, and falls by 3/4."""
    ups, downs = jnp.array([1.0, link, 2.0, 0.0]), jnp.array([0.0, 1.0, 3 * link, 2.0])

    def of(more):
        rates = lambda x, lam: jnp.stack([ups[x[0].astype(int)], (downs * lam)[x[0].astype(int)]])
        chain = tjx.Jumps(rates, lambda x: jnp.stack([x + 1, x - 1]), work="rates")
        back = jnp.ones(4).at[2].set(more)
        return tjx.evolve.steady(chain, back, states=jnp.arange(4.0)[:, None]).p

    p = jnp.array([3.0, 3.0, 1.0, 1.0]) / 8
    np.testing.assert_allclose(of(1.0), p, rtol=EXACT)
    slope = p * jnp.array([0.25, 0.25, -0.75, -0.75])
    np.testing.assert_allclose(jax.jacrev(of)(1.0), slope, rtol=10 * EXACT)


def test_steady_state_with_states_that_are_left_for_good():
    """All ends in the one state that nothing leads away from; where there are two such states it is refused."""
    fall = lambda stops: tjx.Jumps(
        lambda x, lam: jnp.where(x[0] > stops, 1.0, 0.0).astype(x.dtype)[None],
        lambda x: (x - 1)[None],
        work="rates",
    )
    states = jnp.arange(40.0)[:, None]
    assert tjx.evolve.steady(fall(0), 0.0, states=states).p[0] == 1
    ups = jnp.zeros(40).at[0].set(5.0)
    downs = jnp.ones(40).at[0].set(0.0).at[1].set(10.0).at[39].set(0.5)
    pair = tjx.Jumps(
        lambda x, lam: jnp.stack([ups[x[0].astype(int)], downs[x[0].astype(int)]]),
        lambda x: jnp.stack([x + 1, x - 1]),
        work="rates",
    )
    p = tjx.evolve.steady(pair, 0.0, states=states).p  # two states share it, far from the slowest
    np.testing.assert_allclose(p[:2], [2 / 3, 1 / 3], rtol=EXACT)
    assert p[2:].max() < 1e-25
    two = tjx.Jumps(
        lambda x, lam: jnp.where((x[0] > 0) & (x[0] < 39), 1.0, 0.0).astype(x.dtype) * jnp.ones(2),
        lambda x: jnp.stack([x - 1, x + 1]),
        work="rates",
    )
    with pytest.raises(ValueError, match="one steady state"):
        tjx.evolve.steady(two, 0.0, states=states)


def test_generating_needs_one_bath():
    """The energy of state i over the temperature of bath i depends on the order in which the states are listed."""
    temperature = jnp.array([1.0, 3.0])
    level = tjx.Jumps(
        rates=lambda x, lam: jax.nn.sigmoid(jnp.where(x[0] < 0.5, -lam, lam) / temperature),
        after=lambda x: jnp.stack([1 - x, 1 - x]),
        energy=lambda x, lam: lam * x[0],
        temperature=temperature,
        bath=[0, 1],
    )
    states = jnp.array([[0.0], [1.0]])
    start = tjx.densities.States(states, jnp.array([0.6, 0.4]))
    process = tjx.Process(level, tjx.protocols.ramp(0.5, 2.0, 1.0), start)
    with pytest.raises(ValueError, match="generating needs one bath"):
        tjx.evolve.generating(process, jnp.linspace(0.0, 1.0, 11), states)
