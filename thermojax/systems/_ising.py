r"""The Ising model on a periodic lattice, and the orders in which its sites are visited."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._closures import closed
from .._types import Array, Control, Given, Scalar, State
from ._spins import Spins


def rows(*shape: int) -> np.ndarray:
    """One site after the other, in the order of the state: `(d,)`."""
    return np.arange(int(np.prod(shape)))


def checkerboard(*shape: int) -> np.ndarray:
    """The even sites of a lattice, then the odd ones: `(d,)`, 0 or 1. On a periodic one every side must be even:
    not checked here, but by the system that visits them in this order.
    """
    return np.indices(shape).sum(0).reshape(-1) % 2


class Bonds(eqx.Module):
    r"""$U(s) = -J \sum_{\langle ij \rangle} s_i s_j - h \sum_i s_i$ on a periodic lattice, and its local fields."""

    shape: tuple[int, ...] = eqx.field(static=True)
    coupling: Array
    h: Callable[[Control], Scalar]

    def __call__(self, x: State, lam: Control) -> Scalar:
        s = x.reshape(self.shape)
        bonds = sum(jnp.roll(s, 1, axis) for axis in range(s.ndim))
        return -jnp.sum(s * (self.coupling * bonds + self.h(lam)))

    def local(self, x: State, lam: Control, sites: Given) -> Array:
        if not isinstance(sites, slice):
            return self.coupling * jnp.sum(x[jnp.asarray(self._neighbours)[sites]]) + self.h(lam)
        s = x.reshape(self.shape)
        beside = sum(jnp.roll(s, step, axis) for axis in range(s.ndim) for step in (1, -1))
        return (self.coupling * beside + self.h(lam)).reshape(-1)[sites]

    @property
    def _neighbours(self) -> np.ndarray:
        """`(d, 2 dimensions)`."""
        index = np.arange(np.prod(self.shape)).reshape(self.shape)
        steps = [(step, axis) for axis in range(index.ndim) for step in (1, -1)]
        return np.stack([np.roll(index, *how).reshape(-1) for how in steps], 1)


def ising(
    *shape: int,
    coupling: Given = 1.0,
    field: Given = 0.0,
    temperature: Given = 1.0,
    order: Given = None,
    rate: Given = None,
) -> Spins:
    r"""The Ising model $U = -J \sum_{\langle ij \rangle} s_i s_j - h \sum_i s_i$ on a periodic lattice of the given shape.

    Each site has two neighbours along each axis: along a side of 2 they are the same one, and the pair counts twice.

    `coupling` is J; `field` h and `temperature` are numbers or callables of the control. `order` as in `Spins`; by default a
    checkerboard where all sides are even, and site by site elsewhere. States are `(d,)`, the lattice row by row.
    """
    shape = tuple(_checks.whole("shape", n, "the number of sites on a side", 2) for n in shape)
    if not shape:
        raise ValueError("ising needs the sides of the lattice: ising(32, 32), a ring: ising(6).")
    even = all(n % 2 == 0 for n in shape)
    if order is None:
        order = checkerboard(*shape) if even else rows(*shape)
    if callable(field):
        h = closed(field)
    else:
        h = _Held(_number("field", field))
    model = Bonds(shape, _number("coupling", coupling), h)
    return Spins(model, temperature, model.local, order, rate)


def _number(name: str, value: Given) -> Array:
    value = _checks.floating(name, value)
    _checks.rank(
        name,
        value,
        {0},
        "one number; fields or bonds that differ are an energy of your own, Spins(energy, ...)",
    )
    return value


class _Held(eqx.Module):
    value: Array

    def __call__(self, lam: Control) -> Scalar:
        return self.value


def spin_states(d: int) -> np.ndarray:
    """All 2^d states of d spins, `(2^d, d)`; the first spin turns slowest, and all down comes first."""
    d = _checks.whole("d", d, "a number of spins")
    if d > 24:
        raise ValueError(f"{d} spins have 2^{d} states: too many to list. Simulate them.")
    return 2.0 * ((np.arange(2**d)[:, None] >> np.arange(d - 1, -1, -1)) & 1) - 1.0
