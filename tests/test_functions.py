"""Plain functions that users give: static under JAX, and read anew where the numbers change that they use."""

import types
from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thermojax as tjx
from thermojax._closures import closed
from thermojax.densities import Boltzmann, Gaussian
from thermojax.protocols import Function, ramp

TS = jnp.linspace(0.0, 1.0, 5)
K = 1.0
TABLE = {"k": 1.0}
LAB = types.ModuleType("lab")
LAB.k = 1.0


def of_helper():
    return K


def of_global(x, lam):
    return 0.5 * K * jnp.sum((x - lam) ** 2)


def of_function(x, lam):
    return 0.5 * of_helper() * jnp.sum((x - lam) ** 2)


def of_table(x, lam):
    return 0.5 * TABLE["k"] * jnp.sum((x - lam) ** 2)


def of_module(x, lam):
    return 0.5 * LAB.k * jnp.sum((x - lam) ** 2)


class Spring:
    k = 1.0

    def __init__(self):
        self.k = 1.0

    def __call__(self, x, lam):
        return 0.5 * self.k * jnp.sum((x - lam) ** 2)


SPRING = Spring()


def all_set(monkeypatch, k):
    monkeypatch.setitem(globals(), "K", k)
    monkeypatch.setitem(TABLE, "k", k)
    monkeypatch.setattr(LAB, "k", k)
    monkeypatch.setattr(SPRING, "k", k)


def work(process):
    return float(tjx.simulate(process, TS, jax.random.key(0)).work)


def process(potential, **parts):
    return tjx.Process(tjx.Overdamped(potential, **parts), ramp(0.0, 1.0, 1.0), Gaussian(0.3, 0.5))


@pytest.fixture(scope="module")
def fresh():
    def of(k):
        return work(process(lambda x, lam: 0.5 * k * jnp.sum((x - lam) ** 2)))

    return {k: of(k) for k in (1.0, 4.0)}


@pytest.mark.parametrize("potential", [of_global, of_function, of_table, of_module, SPRING])
def test_a_number_that_changes_is_seen(monkeypatch, fresh, potential):
    given = process(potential)
    for k in (1.0, 4.0, 1.0):
        all_set(monkeypatch, k)
        np.testing.assert_allclose(work(given), fresh[k], rtol=1e-12)


def test_it_is_seen_in_what_the_user_compiles(monkeypatch, fresh):
    outer = jax.jit(lambda p: tjx.simulate(p, TS, jax.random.key(0)).work)
    for k in (1.0, 4.0):
        all_set(monkeypatch, k)
        np.testing.assert_allclose(outer(process(of_global)), fresh[k], rtol=1e-12)


def test_closures_and_arrays():
    """A cell that is bound again, an array that is written into, a default."""
    ks = np.ones(1)
    k = 1.0

    def potential(x, lam, scale=(1.0,)):
        return 0.5 * scale[0] * k * jnp.sum(ks * (x - lam) ** 2)

    given = process(potential)
    one = work(given)
    k = 4.0
    four = work(given)
    assert abs(four - one) > 0.1
    k, ks[0] = 1.0, 4.0
    assert work(given) == pytest.approx(four, rel=1e-12)
    ks[0] = 1.0
    potential.__defaults__ = ((4.0,),)
    assert work(given) == pytest.approx(four, rel=1e-12)


def test_a_function_written_again_compiles_nothing():
    """The same code that reads the same numbers is the same function; one that counts its calls goes on counting."""
    calls = []

    def made(k):
        def potential(x, lam):
            calls.append(1)
            return 0.5 * k * jnp.sum((x - lam) ** 2)

        return potential

    first = work(process(made(2.0)))
    count = len(calls)
    assert work(process(made(2.0))) == first
    assert len(calls) == count
    assert work(process(made(3.0))) != first


ONE = TWO = THREE = FOUR = FIVE = 1.0  # each is read in one place


class Held:
    """What a class may read: a global, its own number, a slot, by a method of any kind or none."""

    __slots__ = ("k",)
    scale = 1.0
    rate = 1.0

    def __init__(self):
        self.k = 1.0

    def by_global(self, x, lam):
        return ONE * x

    def by_slot(self, x, lam):
        return self.k * x

    def by_class(self, x, lam):
        return self.scale * x

    def by_method(self, x, lam):
        return self.helper() * x

    def helper(self):
        return TWO

    def by_property(self, x, lam):
        return self.of_global * x

    @property
    def of_global(self):
        return THREE

    @staticmethod
    def by_static(x, lam):
        return FOUR * x

    @classmethod
    def by_class_method(cls, x, lam):
        return cls.rate * x


class Kept(Held):
    """What its calls write is not what they read."""

    __slots__ = ("last",)
    count = 0

    def __call__(self, x, lam):
        self.last, Kept.count = x, Kept.count + 1
        return FIVE * x


WAYS = {
    "by_global": "ONE",
    "by_method": "TWO",
    "by_property": "THREE",
    "by_static": "FOUR",
    "by_slot": "k",
    "by_class": (Held, "scale"),
    "by_class_method": (Held, "rate"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_class_reads_is_seen(monkeypatch, way):
    held = Held()
    method = lambda: jax.tree.structure(closed(getattr(held, way)))
    around = lambda: jax.tree.structure(closed(lambda x, lam: getattr(held, way)(x, lam)))
    for read in (method, around):
        first = read()
        assert read() == first
        with monkeypatch.context() as patch:
            if isinstance(WAYS[way], tuple):
                patch.setattr(*WAYS[way], 4.0)
            elif WAYS[way] in globals():
                patch.setitem(globals(), WAYS[way], 4.0)
            else:
                patch.setattr(held, WAYS[way], 4.0)
            assert read() != first


class Heir(Held):
    scale = 2.0


def test_what_an_heir_has_of_its_own_is_seen(monkeypatch):
    """The number that it uses: not the one that it hides."""
    heir = Heir()
    read = lambda: jax.tree.structure(closed(heir.by_class))
    first = read()
    monkeypatch.setattr(Held, "scale", 4.0)
    assert read() == first
    monkeypatch.setattr(Heir, "scale", 4.0)
    assert read() != first


def test_classes_of_other_packages_are_not_looked_into(monkeypatch):
    read = lambda: jax.tree.structure(closed(lambda x, lam: pytest.Item))
    first = read()
    monkeypatch.setattr(pytest.Item, "number", 4.0, raising=False)
    assert read() == first


def test_what_its_calls_write_is_not_read(monkeypatch):
    kept = Kept()
    read = lambda: jax.tree.structure(closed(kept))
    first = read()
    kept(1.0, 0.0)
    assert read() == first
    monkeypatch.setitem(globals(), "FIVE", 4.0)
    assert read() != first


NOTES, KS, LATEST, ONES, BYTES = [], [1.0], deque([1.0]), {1.0}, bytearray([1])
COUNTS = {"calls": 0}
PACKAGE = types.ModuleType("package")
PACKAGE.part = types.ModuleType("package.part")
PACKAGE.part.k = 1.0


def of_package(x):
    return PACKAGE.part.k * x


def of_queue(x):
    return LATEST[0] * x


def of_set(x):
    return sum(ONES) * x


def of_its_own(x):
    of_its_own.calls += 1
    return of_its_own.k * x


of_its_own.k, of_its_own.calls = 1.0, 0


def of_bytes(x):
    return BYTES[0] * x


def with_terms(x):
    """Writes into lists and dicts of its own, beside the outer ones that it reads."""
    terms, made = [], {}
    for k in KS:
        terms.append(k * x)
    made["sum"] = sum(terms)
    return made["sum"]


def with_notes(x):
    NOTES.append(x)
    return KS[0] * x


def with_counts(x):
    COUNTS["calls"] += 1
    return KS[0] * x


@pytest.mark.parametrize(
    "fn", [of_package, of_queue, of_set, of_its_own, of_bytes, with_terms, with_notes, with_counts]
)
def test_numbers_in_containers(monkeypatch, fn):
    """Of a queue, a set and a module within a module; and of a list beside one that the function writes into."""
    read = lambda: jax.tree.structure(closed(fn))
    first = read()
    fn(1.0)
    assert read() == first
    monkeypatch.setattr(PACKAGE.part, "k", 4.0)
    monkeypatch.setattr(of_its_own, "k", 4.0)
    BYTES[0] = 4
    KS[0] = LATEST[0] = 4.0
    ONES.add(4.0)
    assert read() != first
    KS[0] = LATEST[0] = 1.0
    ONES.discard(4.0)
    BYTES[0] = 1


@pytest.mark.parametrize("many", [list, tuple, lambda springs: dict(enumerate(springs))])
def test_several_objects_are_read_each(many):
    """What stands for one of them is gone when the next is read, and is not taken for it: the same stays the same."""
    springs = [Spring() for _ in range(400)]
    held = many(springs)
    now = lambda: jax.tree.structure(
        closed(lambda x, lam: sum(held[n](x, lam) for n in range(400)))
    )
    first = now()
    assert now() == first
    for spring in springs[::57]:
        spring.k = 4.0
        assert now() != first
        spring.k = 1.0
        assert now() == first


def test_all_of_a_process_goes_through_jit():
    """No leaf of it is a function."""
    given = process(
        of_global,
        force=lambda x, lam: 0 * x,
        mobility=lambda lam: 1.0 + 0 * lam,
        velocity=lambda x, lam: 0 * x,
    ).replace(protocol=lambda t: t)
    final = Boltzmann(given.system, 1.0, dim=1, sampler=lambda key: jax.random.normal(key, (1,)))
    given = given.replace(final=final)
    assert all(map(eqx.is_array, jax.tree.leaves(given)))
    run = jax.jit(lambda p: tjx.simulate(p, TS, jax.random.key(0)).work)
    np.testing.assert_allclose(run(given), work(given), rtol=1e-12)
    spanned = process(of_global).replace(protocol=Function(lambda t: t, 1.0))
    assert all(map(eqx.is_array, jax.tree.leaves(spanned)))
    slope = jax.grad(lambda v: run(given.replace(initial=Gaussian(v, 0.5))))(0.3)
    assert np.isfinite(slope)


def test_a_traced_number_in_a_closure():
    """Its derivative, and a batch of it."""
    of = lambda k: (
        tjx.simulate(
            process(lambda x, lam: 0.5 * k * jnp.sum((x - lam) ** 2)), TS, jax.random.key(0)
        ).work
    )
    slope = (of(2.001) - of(1.999)) / 0.002
    np.testing.assert_allclose(jax.grad(of)(2.0), slope, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(of)(jnp.array([1.0, 2.0]))[1], of(2.0), rtol=1e-12)
