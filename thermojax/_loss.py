"""What a search minimises: a callable `loss(protocol, key) -> scalar`, and what else one may know of it."""

import abc
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import equinox as eqx

from . import _checks
from ._types import Key, PyTree, Scalar

Loss: TypeAlias = Callable[[PyTree, Key], Scalar]  # loss(protocol, key)


class _Searching(threading.local):
    on = False


_searching = _Searching()


@contextlib.contextmanager
def searching() -> Iterator[None]:
    """Inside, a grid must reach the ends of its protocol: a search would hide work in a jump that is not counted."""
    before, _searching.on = _searching.on, True
    try:
        yield
    finally:
        _searching.on = before


def in_search() -> bool:
    """Whether a search is asking or tracing its loss: what is a warning elsewhere is an error then."""
    return _searching.on


class AbstractLoss(eqx.Module):
    r"""A loss that knows how to check itself. A plain callable `loss(protocol, key) -> scalar` is a loss, too.

    Write your own where a search should price its result more finely, and say what went wrong:

    ```python
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Miss(tjx.optimal.AbstractLoss):
        target: jax.Array
        draws: int = eqx.field(static=True)

        def __call__(self, lam, key):
            noise = 0.1 * jax.random.normal(key, (self.draws,))
            return jnp.mean(jax.vmap(lambda e: jnp.sum((lam + e - self.target) ** 2))(noise))

        def check(self):
            return Miss(self.target, 4 * self.draws)

        def failures(self, lam, key):
            return f"The control is {lam}."

        def likelihood_ratio(self, lam, key):
            raise ValueError("Miss has no paths.")


    loss = Miss(jnp.array([1.0, 2.0]), 100)
    found = tjx.optimal.search(loss, jnp.zeros(2), jax.random.key(0), steps=100, progress=False)
    print(found.found, found.agrees)
    ```
    """

    @abc.abstractmethod
    def __call__(self, protocol: PyTree, key: Key) -> Scalar:
        """The loss of a protocol, estimated with the noise of one key."""

    @abc.abstractmethod
    def check(self) -> Loss | None:
        """The same quantity, computed more finely; None where there is no finer one."""

    @abc.abstractmethod
    def failures(self, protocol: PyTree, key: Key) -> str:
        """Which realisations failed and when, in words, after a loss that is not finite."""

    @abc.abstractmethod
    def likelihood_ratio(self, protocol: PyTree, key: Key) -> Scalar:
        """The same value, whose derivative is the score-function estimate; or an error that says why there is none."""


class AbstractExactLoss(AbstractLoss):
    """A loss without noise: its key makes no difference, and may be left out. A search descends it by L-BFGS by default.

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Valley(tjx.optimal.AbstractExactLoss):
        target: jax.Array

        def __call__(self, lam, key=None):
            return jnp.sum((lam**2 - self.target) ** 2)

        def check(self):
            return None

        def failures(self, lam, key):
            return f"The control is {lam}."

        def likelihood_ratio(self, lam, key):
            raise ValueError("Valley has no paths.")


    found = tjx.optimal.search(Valley(jnp.array([2.0])), jnp.ones(1), steps=20, progress=False)
    print(found.found)  # the root of 2
    ```
    """


class _Plain(AbstractLoss):
    """A callable, of which nothing else is known."""

    fn: PyTree

    def __check_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"loss must be a callable loss(protocol, key), got {self.fn!r}.")
        cure = "A loss without noise takes a key and ignores it: lambda protocol, key: ..."
        _checks.takes("loss", self.fn, "protocol", "key", cure=cure)

    def __call__(self, protocol: PyTree, key: Key) -> Scalar:
        return self.fn(protocol, key)

    def check(self) -> None:
        return None

    def failures(self, protocol: PyTree, key: Key) -> str:
        return ""

    def likelihood_ratio(self, protocol: PyTree, key: Key) -> Scalar:
        raise TypeError(
            'gradient="score" needs a loss that knows its paths, and a plain callable does not tell. Use '
            "optimal.average(of, process, ts, size)."
        )


class Reweighted(AbstractLoss):
    """A loss with the score-function derivative in place of the pathwise one."""

    loss: AbstractLoss

    def __call__(self, protocol: PyTree, key: Key) -> Scalar:
        return self.loss.likelihood_ratio(protocol, key)

    def check(self) -> Loss | None:
        return self.loss.check()

    def failures(self, protocol: PyTree, key: Key) -> str:
        return self.loss.failures(protocol, key)

    def likelihood_ratio(self, protocol: PyTree, key: Key) -> Scalar:
        return self.loss.likelihood_ratio(protocol, key)


def as_loss(loss: PyTree) -> AbstractLoss:
    """Any loss as one that can be asked."""
    return loss if isinstance(loss, AbstractLoss) else _Plain(loss)
