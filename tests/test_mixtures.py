"""Mixtures and samples: closed forms, and that no gradient is silently incomplete."""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sigmas
from jax.test_util import check_grads
from scipy import stats
from test_densities import steps

import thermojax as tjx
from thermojax.densities import Boltzmann, Empirical, Gaussian, Mixture, Point, noised
from thermojax.potentials import DoubleWell, MovingTrap, Quartic
from thermojax.protocols import ramp

WEIGHTS = jnp.array([1.0, 2.0, 5.0])
MEANS = jnp.array([-2.0, 0.5, 3.0])
COVS = jnp.array([0.3, 1.5, 0.8])
SHARES = np.asarray(WEIGHTS) / 8
KEY = jax.random.key(4)
TS = jnp.linspace(0.0, 1.0, 6)


def three(weights=WEIGHTS, means=MEANS, covs=COVS):
    return Mixture(weights, [Gaussian(m, v) for m, v in zip(means, covs, strict=True)])


@eqx.filter_jit
def draw(density, size, key=KEY):
    return jax.vmap(density.sample)(jax.random.split(key, size))


def cdf(x):
    return sum(
        w * stats.norm(m, np.sqrt(v)).cdf(x) for w, m, v in zip(SHARES, MEANS, COVS, strict=True)
    )


# ---- Mixture


@pytest.mark.smoke
def test_log_prob():
    xs = np.linspace(-5, 6, 23)
    exact = sum(
        w * stats.norm(m, np.sqrt(v)).pdf(xs) for w, m, v in zip(SHARES, MEANS, COVS, strict=True)
    )
    got = jax.jit(jax.vmap(three().log_prob))(jnp.asarray(xs)[:, None])
    np.testing.assert_allclose(got, np.log(exact), rtol=1e-12)


def test_log_prob_in_two_dimensions():
    cov = jnp.array([[1.0, 0.4], [0.4, 0.7]])
    two = Mixture([3.0, 1.0], [Gaussian(jnp.zeros(2), cov), Gaussian(jnp.ones(2), 0.5)])
    x = jnp.array([0.3, -0.8])
    parts = stats.multivariate_normal(np.zeros(2), cov), stats.multivariate_normal(np.ones(2), 0.5)
    exact = np.log(0.75 * parts[0].pdf(x) + 0.25 * parts[1].pdf(x))
    assert float(two.log_prob(x)) == pytest.approx(exact, rel=1e-13)
    assert two.sample(KEY).shape == (2,)


def test_log_prob_far_away():
    """No underflow where every component vanishes."""
    far = jnp.array([1e3])
    assert float(three().log_prob(far)) == pytest.approx(
        float(Gaussian(0.5, 1.5).log_prob(far)) + np.log(2 / 8), rel=1e-12
    )
    assert np.isfinite(jax.jit(jax.grad(three().log_prob))(far)).all()


def test_log_prob_differentiates_in_everything():
    x = jnp.array([0.7])
    height = lambda *given: three(*map(jnp.asarray, given[:3])).log_prob(jnp.asarray(given[3]))
    check_grads(jax.jit(height), (WEIGHTS, MEANS, COVS, x), 1)
    heights = np.array(
        [stats.norm(m, np.sqrt(v)).pdf(0.7) for m, v in zip(MEANS, COVS, strict=True)]
    )
    slope = jax.jit(jax.grad(lambda w: three(w).log_prob(x)))(WEIGHTS)
    np.testing.assert_allclose(slope, heights / (heights @ WEIGHTS) - 1 / 8, rtol=1e-12)


def test_only_ratios_count():
    x = jnp.array([0.7])
    np.testing.assert_allclose(three(3 * WEIGHTS).log_prob(x), three().log_prob(x), rtol=1e-14)
    np.testing.assert_array_equal(three(4 * WEIGHTS).sample(KEY), three().sample(KEY))


def test_weights_near_the_largest_float():
    """Right as long as their sum has a reciprocal in single precision, then refused, or NaN while tracing."""
    f = jnp.float32
    parts = [Gaussian(f(-1.0), f(1.0)), Gaussian(f(1.0), f(1.0))]
    log_prob = lambda top: Mixture(jnp.stack([top, top / 2]), parts).log_prob(jnp.zeros(1, f))
    for top in (5e37, 1e-37):
        np.testing.assert_allclose(log_prob(f(top)), stats.norm.logpdf(1.0), rtol=1e-6)
    for top in (1e38, 3e38):  # the sum of the latter is infinite
        with pytest.raises(
            ValueError, match=r"Mixture\.weights must be at most 8\.5e\+37 together"
        ):
            log_prob(f(top))
    assert np.isnan(jax.jit(log_prob)(f(3e38)))


def test_samples():
    """Chosen and drawn as they should be; the negative control has equal weights."""
    xs = np.asarray(draw(three(), 20_000))[:, 0]
    sigmas.assert_plausible(stats.kstest(xs, cdf).pvalue)
    even = np.asarray(draw(three(jnp.ones(3)), 20_000))[:, 0]
    sigmas.assert_implausible(stats.kstest(even, cdf).pvalue)


def test_frequencies():
    """Three points, told apart: a standard error of 0.0007 in a share of 1/8, and a bias of 0.0075 would be seen."""
    apart = Mixture(WEIGHTS, [Point(0.0), Point(1.0), Point(2.0)])
    xs = np.asarray(draw(apart, 200_000))[:, 0]
    for i, share in enumerate(SHARES):
        sigmas.assert_within((xs == i).astype(float), share, bias=0.06)
        sigmas.assert_sees((xs == i).astype(float), share, bias=0.06)


def test_samples_follow_their_component():
    """Exactly: a draw moves with the mean of the component it came from, and with no other."""
    slopes = jax.jit(jax.vmap(jax.jacobian(lambda m, k: three(means=m).sample(k)[0]), (None, 0)))(
        MEANS, jax.random.split(KEY, 500)
    )
    assert set(np.unique(slopes)) == {0.0, 1.0}
    np.testing.assert_array_equal(np.sum(slopes, axis=1), 1.0)


def test_mean_gradients():
    r"""$\partial\langle(x - m_3)^2\rangle$: by $m_2$ it is $2 w_2 (m_2 - m_3)$, by $v_3$ it is $w_3$."""
    square = lambda m, v, k: (three(means=m, covs=v).sample(k)[0] - MEANS[2]) ** 2
    by_mean, by_variance = jax.jit(jax.vmap(jax.grad(square, (0, 1)), (None, None, 0)))(
        MEANS, COVS, jax.random.split(KEY, 1_000_000)
    )
    for slopes, exact in (
        (by_mean[:, 1], 2 * SHARES[1] * (MEANS[1] - MEANS[2])),
        (by_variance[:, 2], SHARES[2]),
    ):
        sigmas.assert_within(np.asarray(slopes), exact)
        sigmas.assert_sees(np.asarray(slopes), exact)


def test_normal():
    """A mixture of one is what that one is; one of several is none."""
    mean, cov = Mixture([2.0], [Gaussian(1.0, 3.0)]).normal()
    np.testing.assert_allclose([mean[0], cov[0, 0]], [1.0, 3.0], rtol=1e-15)
    assert Mixture([2.0], [Boltzmann(tjx.Overdamped(Quartic(1.0)), 1.0)]).normal() is None
    assert three().normal() is None


def length(number, score):
    """The number of steps in the program of a mixture of so many modes."""
    means = jnp.arange(2.0 * number).reshape(-1, 2)
    mixed = Mixture(jnp.ones(number), [Gaussian(m, jnp.eye(2)) for m in means])
    fn = jax.grad(mixed.log_prob) if score else lambda x: x + mixed.sample(KEY)
    return len(steps(fn, jnp.ones(2)))


@pytest.mark.parametrize("score", [True, False], ids=["score", "draw"])
def test_the_program_does_not_grow_with_the_modes(score):
    assert 10 < length(5, score) == length(20, score) < 500
    assert length(4, score) < 500


def test_few_one_by_one_are_many_at_once():
    """Three components, and each of them twice: the same density and score to rounding."""
    twice = Mixture(jnp.tile(WEIGHTS, 2), [*three().components, *three().components])
    xs = jnp.linspace(-5.0, 6.0, 23)[:, None]
    for fn in (lambda m, x: m.log_prob(x), jax.grad(lambda m, x: m.log_prob(x), 1)):
        few, many = (jax.vmap(fn, (None, 0))(m, xs) for m in (three(), twice))
        np.testing.assert_allclose(few, many, rtol=1e-13)


def rough(k):
    return Boltzmann(tjx.Overdamped(DoubleWell(jnp.asarray(k))), 0.2)


STACKED = {
    "variances": [Gaussian(jnp.full(2, i), 0.5 + i) for i in range(3)],
    "matrices": [Gaussian(jnp.full(2, i), (0.5 + i) * jnp.eye(2)) for i in range(3)],
    "quadrature": [rough(1.0), rough(3.0)],
    "mixtures": [three(), three(means=MEANS + 1)],
}
LISTED = {
    "roots": [Gaussian(jnp.zeros(2), 1.0), Gaussian(jnp.ones(2), jnp.eye(2))],
    "classes": [Gaussian(0.0, 1.0), rough(1.0)],
    "statics": [Boltzmann(tjx.Overdamped(Quartic(0.5)), 1.0, nodes=n) for n in (4001, 8001)],
    "weak": [Gaussian(0.0, 1.0), Gaussian(jnp.zeros(1), 1.0)],
    "functions": [
        Boltzmann(tjx.Overdamped(lambda x, lam, k=k: jnp.sum(k * x**4))) for k in (1.0, 2.0)
    ],
}


@pytest.mark.parametrize("name", [*STACKED, *LISTED])
def test_alike_components_are_one(name):
    """Stacked or not, the same key gives the draw of the chosen component, with noise on top, too."""
    parts = (STACKED | LISTED)[name]
    weights = WEIGHTS[: len(parts)]
    mixed = Mixture(weights, parts)
    assert (type(mixed.parts).__name__ == "Stacked") == (name in STACKED)
    assert all(eqx.tree_equal(*both) for both in zip(mixed.components, parts, strict=True))
    choose, key = jax.random.split(KEY)
    chosen = int(jax.random.categorical(choose, jnp.log(weights)))
    np.testing.assert_allclose(mixed.sample(KEY), parts[chosen].sample(key), rtol=1e-13)
    x = 0.3 + 0 * parts[0].sample(KEY)
    heights = jnp.stack([part.log_prob(x) for part in parts])
    exact = jax.scipy.special.logsumexp(jnp.log(weights / weights.sum()) + heights)
    np.testing.assert_allclose(mixed.log_prob(x), exact, rtol=1e-13)
    soft, each = noised(mixed, 0.5, 0.1), [noised(part, 0.5, 0.1) for part in parts]
    np.testing.assert_allclose(soft.sample(KEY), each[chosen].sample(key), rtol=1e-13)


class Own:
    """A user's own density, no pytree."""

    def sample(self, key):
        return jax.random.laplace(key, (1,))

    def log_prob(self, x):
        return -jnp.sum(jnp.abs(x)) - jnp.log(2.0)


def test_components_of_all_kinds():
    """Two wells, a user's own, and another mixture."""
    wells = Boltzmann(tjx.Overdamped(DoubleWell(3.0)), 0.2)
    parts = [wells, Own(), three()]
    mixed, x = Mixture([1.0, 1.0, 2.0], parts), jnp.array([0.4])
    heights = [float(jnp.exp(part.log_prob(x))) for part in parts]
    assert float(mixed.log_prob(x)) == pytest.approx(np.log(np.dot([1, 1, 2], heights) / 4))
    assert draw(mixed, 5).shape == (5, 1)
    assert mixed.components == tuple(parts)
    assert Mixture([1.0], [Own()]).normal() is None


def test_single_precision():
    f32 = lambda v: jnp.asarray(v, jnp.float32)
    density = three(f32(WEIGHTS), f32(MEANS), f32(COVS))
    x = density.sample(KEY)
    assert x.dtype == density.log_prob(x).dtype == jnp.float32
    assert Empirical(np.ones((3, 2), np.float32)).sample(KEY).dtype == jnp.float32
    if jax.config.jax_enable_x64:
        with pytest.raises(TypeError, match=r"Mixture\.weights is float32"):
            three(f32(WEIGHTS))


# ---- no gradient is silently incomplete

WAYS = {
    "grad": jax.grad,
    "jacfwd": jax.jacfwd,
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "jacfwd of jit": lambda f: jax.jacfwd(jax.jit(f)),
    "grad of checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "vmap of grad": lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, x])),
    "filter_grad": eqx.filter_grad,
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
}
in_all_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def pot(density, key):
    """One draw, and draws under vmap and scan."""
    keys = jax.random.split(key, 3)
    total = density.sample(key).sum() + jax.vmap(density.sample)(keys).sum()
    return jax.lax.scan(lambda c, k: (c + density.sample(k).sum(), None), total, keys)[0]


@in_all_ways
def test_weights_are_not_followed(way):
    with pytest.raises(ValueError, match=r"weights are being differentiated.*stop_gradient"):
        way(lambda w: pot(three(w), KEY))(WEIGHTS)


@in_all_ways
def test_the_components_are(way):
    assert np.isfinite(way(lambda m: pot(three(means=m), KEY))(MEANS)).all()


@in_all_ways
def test_held_weights_are_fine(way):
    held = lambda w: pot(three(jax.lax.stop_gradient(w), MEANS * w.sum()), KEY)
    assert np.isfinite(way(held)(WEIGHTS)).all()


def cross(key):
    return jax.random.normal(key, (2,))


def sampled(stiffness=1.0, lam=1.0, mobility=1.0, sampler=cross):
    """The stiffness hides in a closure, so that it is no leaf of the system."""
    potential = lambda x, lam: jnp.sum(stiffness * x**4 + lam * x**2)
    system = tjx.Overdamped(potential, mobility=mobility)
    return Boltzmann(system, lam, dim=2, sampler=sampler)


@in_all_ways
@pytest.mark.parametrize("what", ["stiffness", "lam"])
def test_a_sampler_does_not_follow_the_system(way, what):
    with pytest.raises(
        ValueError, match=r"differentiated through Boltzmann\.sample.*reparametrised"
    ):
        way(lambda v: pot(sampled(**{what: v}), KEY))(jnp.array(1.5))


@in_all_ways
def test_a_sampler_follows_its_own_parameters(way):
    """The mobility doesn't change the equilibrium, so nothing is missing."""
    slope = way(lambda v: pot(sampled(mobility=v, sampler=lambda k: v * cross(k)), KEY))
    assert np.isfinite(slope(jnp.array(1.5))).all()


def test_closed_forms_and_tables_are_followed():
    """The same in one dimension, where the draws do follow, raises nothing."""
    total = lambda g: pot(Boltzmann(tjx.Overdamped(Quartic(g)), 1.0), KEY)
    assert abs(jax.jit(jax.grad(total))(0.5)) > 1e-3


# ---- in a run


def run(initial, stop=2.0, system=None, size=4, **options):
    process = tjx.Process(system or tjx.Overdamped(MovingTrap(1.0)), ramp(0.0, stop, 1.0), initial)
    return tjx.ensemble(process, TS, KEY, size, **options).work.mean()


DRIVEN = {
    "drive": (lambda stop: run(three(), stop), jnp.array(2.0)),
    "components": (lambda m: run(three(means=MEANS + m)), jnp.array(0.3)),
}


@ft.cache
def differences(what):
    """What every way to differentiate has to agree with."""
    fn, x = DRIVEN[what]
    value = jax.jit(fn)
    return (value(x + 1e-5) - value(x - 1e-5)) / 2e-5


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("grad", [jax.grad, jax.jacfwd])
def test_in_an_ensemble(grad, jit):
    """The drive and the components are followed, to the accuracy of differences; the weights raise."""
    for what, (fn, x) in DRIVEN.items():
        np.testing.assert_allclose(jit(grad(fn))(x), differences(what), rtol=1e-7)
    with pytest.raises(ValueError, match=r"Mixture\.weights are being differentiated"):
        jit(grad(lambda w: run(three(w))))(WEIGHTS)


def test_simulate_under_vmap():
    def work(w, stop, key):
        process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), ramp(0.0, stop, 1.0), three(w))
        return tjx.simulate(process, TS, key).work

    keys = jax.random.split(KEY, 3)
    mean = lambda w, stop: jnp.mean(jax.vmap(work, (None, None, 0))(w, stop, keys))
    assert np.isfinite(jax.grad(mean, 1)(WEIGHTS, 2.0))
    with pytest.raises(ValueError, match=r"Mixture\.weights are being differentiated"):
        jax.grad(mean)(WEIGHTS, 2.0)


def test_fluctuation_theorem_of_a_mixture():
    """<exp(-R)> = 1 at every step size, from a mixture to a mixture."""
    short = ramp(0.0, 0.5, 0.05)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), short, three(), three(WEIGHTS + 1.0))
    many = eqx.filter_jit(tjx.ensemble)(process, 0.05 * TS, KEY, 200_000, rule="kernel")
    one = np.exp(-np.asarray(many.entropy.total))
    sigmas.assert_within(one, 1.0)
    sigmas.assert_sees(one, 1.0)


@pytest.mark.filterwarnings(
    "ignore:The step is too long"
)  # the work of the jump at its start is all there is
def test_the_work_from_a_mixture():
    r"""A trap of stiffness 1 that jumps by 1: $\langle W\rangle = 1/2 - \langle x\rangle$."""
    jump = tjx.protocols.Steps([0.0, 1.0], jnp.ones(1), before=0.0, after=1.0)
    process = tjx.Process(tjx.Overdamped(MovingTrap(1.0)), jump, three())
    work = np.asarray(tjx.ensemble(process, jnp.array([0.0, 1.0]), KEY, 500_000).work)
    exact = 0.5 - SHARES @ np.asarray(MEANS)
    sigmas.assert_within(work, exact)
    sigmas.assert_sees(work, exact)


# ---- Empirical

POINTS = jnp.array([[0.0, 1.0], [2.0, -1.0], [4.0, 0.5]])


def test_empirical():
    """A draw is a row, moves with it, and every row is as likely: a bias of 2 % of 1/3 would be seen."""
    keys = jax.random.split(KEY, 50)
    rows = np.asarray(draw(Empirical(POINTS), 500_000))
    assert {tuple(row) for row in rows} == {tuple(row) for row in np.asarray(POINTS)}
    for i in range(3):
        sigmas.assert_within((rows[:, 0] == 2 * i).astype(float), 1 / 3)
    sigmas.assert_sees((rows[:, 0] == 0).astype(float), 1 / 3)
    slopes = jax.jit(jax.vmap(jax.jacobian(lambda xs, k: Empirical(xs).sample(k)), (None, 0)))(
        POINTS, keys
    )
    for key, slope in zip(keys, slopes, strict=True):
        chosen = np.asarray(POINTS[:, 0] == Empirical(POINTS).sample(key)[0])
        np.testing.assert_array_equal(slope, chosen[None, :, None] * np.eye(2)[:, None, :])


def test_empirical_in_an_ensemble():
    """<W> of a jump of the trap and its gradient by the points: of the rows drawn, exactly."""
    system = tjx.Overdamped(MovingTrap(2.0))
    jump = tjx.protocols.Steps([0.0, 1.0], jnp.ones((1, 2)), before=jnp.zeros(2), after=jnp.ones(2))

    @jax.jit
    def work(xs):
        return tjx.ensemble(tjx.Process(system, jump, Empirical(xs)), TS, KEY, 64, save="ends")

    starts = np.asarray(work(POINTS).path.xs[:, 0])
    np.testing.assert_allclose(
        work(POINTS).work, ((starts - 1) ** 2 - starts**2).sum(1), rtol=1e-12
    )
    drawn = (starts[:, None, 0] == np.asarray(POINTS)[None, :, 0]).sum(0)
    slope = jax.grad(lambda xs: work(xs).work.sum())(POINTS)
    np.testing.assert_allclose(slope, np.stack([-2.0 * drawn] * 2, 1), rtol=1e-12)
