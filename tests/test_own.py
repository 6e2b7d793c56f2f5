"""Dynamics that the library does not have: a system and a step each, through the same verbs as its own.

Free spins that jump (the example of the docstrings), and a particle with a velocity, which is odd under time reversal.
"""

import re
import textwrap
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from compare import close

import thermojax as tjx
from thermojax.densities import Gaussian
from thermojax.protocols import Piecewise, ramp


def example(cls):
    """The code of a docstring."""
    blocks = re.findall(r"```python\n(.*?)```", textwrap.dedent("    " + cls.__doc__), re.S)
    assert blocks, f"{cls.__name__} has no example"
    return textwrap.dedent("\n".join(blocks))


OWN = {}
for seam in (tjx.AbstractKernelStep, tjx.AbstractSystem, tjx.AbstractStep, tjx.AbstractOverdamped):
    exec(example(seam), OWN)


class Field(eqx.Module):
    """Free spins in equilibrium with a field."""

    lam: jax.Array
    size: int = eqx.field(static=True)

    def sample(self, key):
        up = jax.random.bernoulli(key, jax.nn.sigmoid(2 * self.lam), (self.size,))
        return jnp.where(up, 1.0, -1.0)

    def log_prob(self, x):
        return jnp.sum(jax.nn.log_sigmoid(2 * self.lam * x))


def spins():
    start, stop = (Field(jnp.asarray(lam), 3) for lam in (-0.5, 1.0))
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([-0.2, 0.8]), -0.5, 1.0)
    process = tjx.Process(OWN["Spins"](), drive, start, stop)
    return process, 3 * np.log(np.cosh(0.5) / np.cosh(1.0))


class Baoab(tjx.AbstractStep):
    """Half a push, half a shift, the bath, half a shift, half a push. Its ratio is that of the bath's part alone."""

    def draw(self, key, shape, dtype):
        return (jax.random.normal(key, (*shape[:-1], shape[-1] // 2), dtype),)

    def __call__(self, system, x, lam, dt, draw):
        q, p = jnp.split(x, 2)
        a, T = jnp.exp(-system.friction * dt), system.temperature(lam)
        q, p = q, p + 0.5 * dt * system.force(q, lam)
        q = q + 0.5 * dt * p
        p = a * p + jnp.sqrt((1 - a**2) * T) * draw[0]
        q = q + 0.5 * dt * p
        return jnp.concatenate([q, p + 0.5 * dt * system.force(q, lam)])

    def log_ratio(self, system, x0, x1, lam, dt):
        (q0, p0), (q1, p1) = jnp.split(x0, 2), jnp.split(x1, 2)
        before, after = (
            p0 + 0.5 * dt * system.force(q0, lam),
            p1 - 0.5 * dt * system.force(q1, lam),
        )
        return 0.5 * jnp.sum(before**2 - after**2) / system.temperature(lam)


class Obabo(tjx.AbstractKernelStep):
    """The bath twice, half a time each: both ends are known, so the kernel is."""

    def draw(self, key, shape, dtype):
        half = (*shape[:-1], shape[-1] // 2)
        return tuple(jax.random.normal(k, half, dtype) for k in jax.random.split(key))

    def __call__(self, system, x, lam, dt, draw):
        kernel = self.kernel(system, x, lam, dt)
        return kernel.landed(kernel.first.at(draw[0]), draw[1])

    def kernel(self, system, x, lam, dt):
        q, p = jnp.split(x, 2)
        a = jnp.exp(-0.5 * system.friction * dt)
        variance = (1 - a**2) * system.temperature(lam)
        return Landing(q, tjx.Normal(a * p, variance), a, dt, lambda q: system.force(q, lam))


class Landing(eqx.Module):
    q: jax.Array
    first: tjx.Normal
    a: jax.Array
    dt: jax.Array
    force: object

    def second(self, q, p):
        """Where the second half of the bath starts from, after a shift that needs the momentum p."""
        return tjx.Normal(self.a * (p + 0.5 * self.dt * self.force(q)), self.first.variance)

    def landed(self, p, z):
        p = p + 0.5 * self.dt * self.force(self.q)
        q = self.q + self.dt * p
        return jnp.concatenate([q, self.second(q, p).at(z)])

    def sample(self, key):
        one, two = jax.random.split(key)
        return self.landed(self.first.sample(one), jax.random.normal(two, self.q.shape))

    def log_prob(self, x):
        q, p = jnp.split(x, 2)
        moved = (q - self.q) / self.dt
        there = self.first.log_prob(moved - 0.5 * self.dt * self.force(self.q))
        return there + self.second(q, moved).log_prob(p) - q.size * jnp.log(self.dt)


class Inertial(tjx.AbstractSystem):
    r"""x = (q, p): $\dot q = p$, $\dot p = -\partial_q U + b\,p^\perp - \gamma p + $ noise; a magnetic b is odd."""

    friction: jax.Array
    exact: tjx.AbstractStep

    def temperature(self, lam):
        return 0.8 * jnp.ones_like(lam)

    def well(self, q, lam):
        return 0.5 * jnp.sum((q - lam) ** 2) + 0.05 * jnp.sum(q**4)

    def force(self, q, lam):
        return -jax.grad(self.well)(q, lam)

    def energy(self, x, lam):
        q, p = jnp.split(x, 2)
        return self.well(q, lam) + 0.5 * jnp.sum(p**2)

    def exchange(self, x0, x1, lam, lost):
        return tjx.Exchange(jnp.zeros_like(lost), lost, lost / self.temperature(lam))

    def flip(self, x):
        q, p = jnp.split(x, 2)
        return jnp.concatenate([q, -p])

    def reversed(self):
        return self

    def step(self, rule):
        return self.exact if rule == "kernel" else Baoab()

    def check(self, x, lam):
        assert x.shape[0] % 2 == 0

    def positive(self, lam):
        return {}


def inertial(exact):
    """From a moving start (odd: its momentum has a mean) to another one."""
    system = Inertial(jnp.asarray(0.7), exact)
    start = Gaussian(jnp.array([0.0, 0.4]), jnp.array([0.6, 0.8]))
    stop = Gaussian(jnp.array([0.8, 0.2]), jnp.array([0.5, 0.9]))
    drive = Piecewise(jnp.array([0.0, 1.0]), jnp.array([0.3, 1.1]), 0.0, 1.0)
    return tjx.Process(system, drive, start, stop)


CASES = {
    "spins": lambda: spins()[0],
    "inertial, a ratio": lambda: inertial(Baoab()),
    "inertial, a kernel": lambda: inertial(Obabo()),
}
TS = jnp.array([0.0, 0.3, 0.5, 0.6, 1.0])


SIZE = {"spins": 200_000}  # of heavier tails


def run(name, size=None, rule="kernel", seed=0):
    process = CASES[name]()
    return process, tjx.ensemble(
        process, TS, jax.random.key(seed), size or SIZE.get(name, 60_000), rule=rule, save="all"
    )


@pytest.fixture(scope="module", params=CASES)
def seen(request):
    return run(request.param)


def test_first_law_and_account(seen):
    """To rounding, and a stored path has the totals of the run."""
    process, trajectory = seen
    path, work, heat, _ = trajectory
    energy = process.system.energy
    gained = jax.vmap(lambda x: energy(x[-1], 1.0) - energy(x[0], process.protocol.before))(path.xs)
    np.testing.assert_allclose(gained, work - heat, atol=1e-12)
    close(tuple(tjx.account(process, path, rule="kernel")), tuple(trajectory))


def test_fluctuation_theorem(seen):
    """<exp(-R)> = 1 at four coarse steps by the kernels; a bias of 0.08 would be seen."""
    _, trajectory = seen
    sigmas.assert_within(np.exp(-np.asarray(trajectory.entropy.total)), 1.0, absolute=0.08)
    sigmas.assert_biased(np.exp(-np.asarray(trajectory.entropy.total) + 0.1), 1.0)


def test_reversed_path(seen):
    """Walked backwards, its odd coordinates flipped, by the reversed process: R changes sign."""
    process, trajectory = seen
    path = tjx.Path(*(v[:50] for v in trajectory.path))
    flip = jax.vmap(jax.vmap(process.system.flip))
    mirrored = tjx.Path(1.0 - path.ts[:, ::-1], flip(path.xs)[:, ::-1])
    back = tjx.account(tjx.reverse(process), mirrored, rule="kernel")
    np.testing.assert_allclose(back.entropy.total, -trajectory.entropy.total[:50], atol=1e-12)
    np.testing.assert_allclose(back.work, -trajectory.work[:50], atol=1e-12)
    again = tjx.reverse(tjx.reverse(process))
    assert jax.tree.structure(again) == jax.tree.structure(process)


def test_reversed_run_obeys_it_too(seen):
    process, forward = seen
    back, size = tjx.reverse(process), len(forward.work)
    grid = tjx.reverse_grid(process, TS)
    r = tjx.ensemble(back, grid, jax.random.key(5), size, rule="kernel").entropy.total
    sigmas.assert_within(np.exp(-np.asarray(r)), 1.0, absolute=0.12)


def test_path_ratio(seen):
    """Of the kernels, where the step has them; the reason, where it has a ratio alone."""
    process, trajectory = seen
    path = tjx.Path(*(v[:50] for v in trajectory.path))
    if isinstance(process.system.step("kernel"), tjx.AbstractKernelStep):
        ratio = tjx.path_ratio(process, tjx.reverse(process), path)
        np.testing.assert_allclose(ratio, trajectory.entropy.total[:50], atol=1e-10)
    else:
        with pytest.raises(ValueError, match="Baoab has a log-ratio and no kernel"):
            tjx.path_ratio(process, tjx.reverse(process), path)


def test_odd_coordinates_matter():
    """Control: without the flip the reversed path's R is another."""
    process, trajectory = run("inertial, a ratio", 50)
    path = trajectory.path
    mirrored = tjx.Path(1.0 - path.ts[:, ::-1], path.xs[:, ::-1])
    back = tjx.account(tjx.reverse(process), mirrored, rule="kernel")
    assert np.abs(back.entropy.total + trajectory.entropy.total).min() > 1e-4


def test_free_energy_of_spins():
    """Jarzynski and BAR from four coarse steps; exact: -3 ln cosh(1)/cosh(1/2)."""
    process, exact = spins()
    forward = tjx.ensemble(process, TS, jax.random.key(1), 60_000)
    back, grid = tjx.reverse(process), tjx.reverse_grid(process, TS)
    reverse = tjx.ensemble(back, grid, jax.random.key(2), 60_000)
    w, v = tjx.reduced_work(process, forward), tjx.reduced_work(back, reverse)
    for found in (tjx.estimators.jarzynski(w), tjx.estimators.bar(w, v)):
        assert found.reliable
        assert abs(found.value - exact) < 5 * found.stderr
        assert found.stderr < 0.02


def test_search_of_spins():
    """The score-function gradient, the only one that jumps have, finds a field that dissipates less than a ramp."""
    process, _ = spins()
    process = process.replace(protocol=ramp(-0.5, 1.0, 1.0, knots=5))
    ts = jnp.linspace(0.0, 1.0, 9)
    loss = tjx.optimal.mean_dissipation(process, ts, 500, rule="kernel")
    found = tjx.optimal.search(
        loss, process.protocol, jax.random.key(3), steps=40, gradient="score", progress=False
    )
    before = eqx.filter_jit(loss)(process.protocol, jax.random.key(4))
    assert found.price.value + 4 * found.price.stderr < before


def test_a_step_of_ones_own():
    """The midpoint rule of the docstring: second order as Heun's, through `solver=`; it has no ratio, and says so."""
    process = tjx.Process(
        tjx.Overdamped(lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2)),
        ramp(0.0, 2.0, 1.0),
        Gaussian(0.0, 1.0),
    )
    midpoint = OWN["Midpoint"]()
    ts = jnp.linspace(0.0, 1.0, 9)
    work = tjx.ensemble(process, ts, jax.random.key(6), 20_000, solver=midpoint).work
    sigmas.assert_within(work, 4 * np.exp(-1), absolute=0.1)
    with pytest.raises(ValueError, match="no kernel in closed form"):
        tjx.ensemble(process, TS, jax.random.key(6), 2, solver=midpoint, rule="kernel")


def test_an_overdamped_system_of_ones_own():
    """A bead in a shear flow: the docstring's, against the library's own with the same force."""
    drive, start = ramp(0.5, 1.5, 1.0), Gaussian(jnp.zeros(2), 1.0)
    own = tjx.Process(OWN["Sheared"](2.0), drive, start)
    flow = lambda x, lam: lam * jnp.stack([x[1], 0 * x[0]])
    same = tjx.Overdamped(tjx.potentials.Harmonic(2.0), force=flow)
    runs = [
        tjx.ensemble(process, TS, jax.random.key(7), 5, rule="kernel")
        for process in (own, own.replace(system=same))
    ]
    close(*map(tuple, runs))


def test_a_diffrax_solver_steps_diffusions_only():
    process, _ = spins()
    import diffrax as dfx

    with pytest.raises(TypeError, match=r"ShARK steps a system with a drift.*Spins is none"):
        tjx.ensemble(process, TS, jax.random.key(0), 2, solver=dfx.ShARK())


# ---- what a step, a system or a kernel of one's own may get wrong is refused, not spread or sliced


class Shifted(tjx.AbstractStep):
    """A step of the shapes it is told to have."""

    drawn: object = eqx.field(static=True)
    moved: object = eqx.field(static=True)

    def draw(self, key, shape, dtype):
        return self.drawn(key, shape)

    def __call__(self, system, x, lam, dt, draw):
        return self.moved(x, draw)

    def log_ratio(self, system, x0, x1, lam, dt):
        raise ValueError("none")


NORMALS = lambda key, shape: (jax.random.normal(key, shape),)
MOVED = lambda x, draw: x + draw[0]


@pytest.mark.parametrize(
    ("drawn", "moved", "words"),
    [
        (lambda key, shape: (jax.random.normal(key, shape[-1:]),), MOVED, "paths in front"),
        (lambda key, shape: jax.random.normal(key, shape), MOVED, "must return a tuple"),
        (NORMALS, lambda x, draw: jnp.sum(x + draw[0]), r"a state like the one it was given"),
        (NORMALS, lambda x, draw: (x + draw[0]).astype(jnp.float32), "float32"),
    ],
)
def test_shapes_of_a_step(drawn, moved, words):
    system = tjx.Overdamped(tjx.potentials.Harmonic(1.0))
    process = tjx.Process(system, lambda t: t, Gaussian(jnp.zeros(3), 1.0))
    with pytest.raises(ValueError, match=words):
        tjx.ensemble(process, TS, jax.random.key(0), 2, solver=Shifted(drawn, moved))


def test_shapes_of_a_system():
    """A heat for one bath where there are two."""

    class One(tjx.AbstractSystem):
        def temperature(self, lam):
            return jnp.ones(2)

        energy = OWN["Spins"].energy
        flip, reversed, step = OWN["Spins"].flip, OWN["Spins"].reversed, OWN["Spins"].step
        check, positive = OWN["Spins"].check, OWN["Spins"].positive

        def exchange(self, x0, x1, lam, lost):
            return tjx.Exchange(0 * lost, lost, lost)

    process = tjx.Process(One(), ramp(-0.5, 1.0, 1.0), Field(jnp.asarray(-0.5), 2))
    with pytest.raises(ValueError, match=r"One\.exchange must return .*\(\(\), \(2,\), \(\)\)"):
        tjx.ensemble(process, TS, jax.random.key(0), 2)


class Laplace(NamedTuple):
    """A density that is a tuple, too."""

    loc: jax.Array
    scale: jax.Array

    def sample(self, key):
        return self.loc + self.scale * jax.random.laplace(key, self.loc.shape)

    def log_prob(self, x):
        return -jnp.sum(jnp.abs(x - self.loc) / self.scale + jnp.log(2 * self.scale))


def test_kernels_of_any_kind():
    """A density that is a tuple is that density; a pair, a list and an array are mean and variance."""
    system = tjx.Overdamped(tjx.potentials.Harmonic(1.0))
    ends = Gaussian(0.0, 1.0), Gaussian(0.3, 0.8)
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), *ends)
    path = tjx.Path(jnp.array([0.0, 1.0]), jnp.array([[0.2], [1.0]]))
    start = ends[0].log_prob(path.xs[0]) - ends[1].log_prob(path.xs[1])

    def ratio(kernel):
        back = tjx.reverse(process)
        return (
            tjx.path_ratio(process, back, path, kernels=lambda p, x, a, b: kernel(0.9 * x)) - start
        )

    want = -(abs(1.0 - 0.18) - abs(0.2 - 0.9)) / 2.0
    np.testing.assert_allclose(ratio(lambda m: Laplace(m, 2 + 0 * m)), want, rtol=1e-12)
    want = -((1.0 - 0.18) ** 2 - (0.2 - 0.9) ** 2) / 4.0
    for pair in (
        tjx.Normal,
        lambda m, v: (m, v),
        lambda m, v: [m, v],
        lambda m, v: jnp.stack([m, v]),
    ):
        np.testing.assert_allclose(ratio(lambda m, p=pair: p(m, 2 + 0 * m)), want, rtol=1e-12)


def test_reverse_needs_no_draws():
    class Uniform(eqx.Module):
        def sample(self, key):
            raise NotImplementedError

        def log_prob(self, x):
            return 0.0 * jnp.sum(x)

    system = tjx.Overdamped(tjx.potentials.Harmonic(1.0))
    process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Uniform(), Gaussian(0.0, 1.0))
    assert isinstance(tjx.reverse(process).final, Uniform)


def test_the_ratio_of_two_normals():
    """With its normalisers where the variances differ; without the digits they would cost where they do not."""
    there, back = (
        tjx.Normal(jnp.array([0.1, 0.4]), jnp.array([0.5, 2.0])),
        tjx.Normal(jnp.zeros(2), 3.0),
    )
    x, y = jnp.array([0.3, -0.2]), jnp.array([1.0, 0.7])
    want = there.log_prob(y) - back.log_prob(x)
    np.testing.assert_allclose(there.log_ratio(y, back, x), want, rtol=1e-12)
    assert abs(back.log_ratio(x, there, y) + want) < 1e-12


def pushed(f):
    """A bead in a trap, pushed by `f(x, lam)`."""

    class Pushed(tjx.AbstractOverdamped):
        energy, mobility = OWN["Sheared"].energy, OWN["Sheared"].mobility
        temperature, positive = OWN["Sheared"].temperature, OWN["Sheared"].positive
        stiffness: float

        def push(self, x, lam):
            return f(x, lam)

    return tjx.Process(Pushed(1.0), ramp(0.5, 1.5, 1.0), Gaussian(jnp.zeros(2), 1.0))


def test_a_push_that_would_spread():
    with pytest.raises(ValueError, match=r"force\(x, lam\) must return an array of the shape"):
        tjx.ensemble(pushed(lambda x, lam: lam), TS, jax.random.key(0), 2)


def test_zeros_that_are_known_are_not_computed_with():
    """A push of numpy's zeros is none, a push of other numbers of numpy's is one; the ledgers are those of jax's."""

    def run(push):
        process = pushed(lambda x, lam: push)
        ran = tjx.ensemble(process, TS, jax.random.key(0), 4)
        counted = jax.make_jaxpr(lambda x: process.system.exchange(x, 2 * x, 0.5, x[0]))(
            jnp.ones(2)
        )
        return ran, str(counted).count(" mul ") - 1  # 2 * x

    for numbers in (np.zeros(2), np.array([0.0, 0.7])):
        (ours, products), (theirs, others) = run(numbers), run(jnp.asarray(numbers))
        assert products < others
        assert (products > 0) == numbers.any()
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("masses", [False, True])
def test_a_step_is_taken_once(masses, monkeypatch):
    """Not again for each of work, heat and entropy, as XLA on CPU would."""

    def floors(paths):
        trap = tjx.potentials.Harmonic(1.0)
        push = lambda x, lam: jnp.floor(x)
        system = tjx.Underdamped(trap, push) if masses else tjx.Overdamped(trap, push)
        process = tjx.Process(system, ramp(0.0, 1.0, 1.0), Gaussian(jnp.zeros(1 + masses), 1.0))
        run = jax.jit(lambda key: tjx.ensemble(process, TS, key, paths).work)
        return run.lower(jax.random.key(0)).compile().as_text().count(" floor(")

    once = floors(500)
    monkeypatch.setattr("thermojax._solvers.kept_value", lambda count, value: value)
    assert once < 0.8 * floors(501)


def test_a_bare_number_in_the_place_of_a_temperature():
    process = tjx.Process(
        tjx.Overdamped(tjx.potentials.Harmonic(1.0)), ramp(0.0, 1.0, 1.0), Gaussian(0.0, 1.0)
    )
    bare = eqx.tree_at(lambda p: p.system.temperature, process, jnp.asarray(2.0))
    with pytest.raises(TypeError, match=r"temperature of a system must be a callable.*\.value"):
        tjx.ensemble(bare, TS, jax.random.key(0), 2)
