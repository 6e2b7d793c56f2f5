r"""Equilibrium of a system at a fixed control."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks, _factor
from .._types import Array, Control, Key, Scalar, State
from ..systems import AbstractSystem
from ._affine import affine
from ._base import AbstractDensity, untracked
from ._gaussian import Gaussian
from ._table import Table, tabulate


class Boltzmann(AbstractDensity):
    r"""Equilibrium of a system at a fixed control, $p(x) = e^{-U(x, \lambda)/T(\lambda)} / Z$.

    - A quadratic potential, in any dimension, is recognised and handled in closed form.
    - Any other potential in one dimension is normalised and sampled by quadrature on `nodes` points of the interval
      `bounds`; without `bounds` the interval is searched for (it must hold all but $10^{-17}$ of the weight).
    - Any other potential in d dimensions needs a `sampler` (a callable of a key; `densities.mcmc` makes one), and for
      `log_prob` its `log_z` ($\ln Z$); sampling, the reduced work and Jarzynski do without.

    Samples differentiate with respect to the system and `lam`, except a `sampler`'s: to differentiate those raises
    `ValueError`. A `log_z` is differentiated as it is given: make it a function of the same parameters.

    `dim` is the number of coordinates, 1 unless given. A force that does no potential work is left out: with f ≠ 0 this
    is the reference state of $\Delta(\beta F)$, not the stationary one. One bath only.
    """

    system: AbstractSystem
    lam: Control
    dim: int = eqx.field(static=True)
    bounds: tuple[float, float] | None = eqx.field(static=True)
    nodes: int = eqx.field(static=True)
    log_z: Array | None
    sampler: Any

    def __init__(
        self,
        system: AbstractSystem,
        lam: Control = None,
        *,
        dim: int | None = None,
        bounds: tuple[float, float] | None = None,
        nodes: int = 4001,
        log_z: Any = None,
        sampler: Any = None,
    ):
        if not isinstance(system, AbstractSystem):
            raise TypeError(
                f"Boltzmann.system must be a system such as thermojax.Overdamped(potential), got {system!r}."
            )
        self.system = system
        self.lam = jtu.tree_map(lambda v: _checks.floating("Boltzmann.lam", v), lam)
        self.dim = (
            _dimension(system, self.lam)
            if dim is None
            else _checks.whole("Boltzmann.dim", dim, "a whole number of coordinates")
        )
        self.bounds = None if bounds is None else _interval(bounds)
        self.nodes = _checks.whole("Boltzmann.nodes", nodes, "a whole number of points", 3)
        self.log_z = None if log_z is None else _checks.floating("Boltzmann.log_z", log_z)
        if sampler is not None and not callable(sampler):
            raise TypeError(f"Boltzmann.sampler must be a callable of a key, got {sampler!r}.")
        self.sampler = sampler
        if _checks.shapes("temperature", system.temperature, self.lam).shape != ():
            raise ValueError(
                "Boltzmann needs one temperature: with a bath per coordinate there is no equilibrium. Give another density, "
                "e.g. thermojax.densities.Gaussian."
            )
        x = self._origin()
        _checks.scalar("potential(x, lam)", system.energy, x, self.lam)
        if sampler is None and not self.quadratic and self.dim > 1:
            raise ValueError(
                f"Boltzmann of a potential that is not quadratic in {self.dim} dimensions needs sampler= (and log_z= for "
                "log_prob): thermojax.densities.mcmc samples it."
            )
        if self.quadratic:
            _definite(eqx.filter_jit(lambda y: jax.hessian(self._reduced)(y))(x))
        elif self.dim == 1 and (log_z is None or sampler is None):
            self._table()  # raises here and now if it can be told now

    @property
    def quadratic(self) -> bool:
        """Whether the potential is quadratic in x, told from its derivatives' structure, not from values."""
        return self.log_z is None and affine(jax.grad(self._reduced), self._origin())

    def sample(self, key: Key) -> State:
        if self.sampler is not None:
            x = self.sampler(key)
            # differentiated if and only if phi is, at a given x: whatever the system is made of
            return untracked(x, self._reduced(jax.lax.stop_gradient(x)), message=_NOT_FOLLOWED)
        if self.quadratic:
            return self.gaussian().sample(key)
        return self._table().sample(key, self._reduced)

    def log_prob(self, x: State) -> Scalar:
        _checks.point("Boltzmann.log_prob", x, self.dim)
        return -self._reduced(x) - self.log_partition()

    def log_partition(self) -> Scalar:
        r"""$\ln Z = \ln \int e^{-U/T} dx$; the reduced free energy $\beta F$ is its negative."""
        if self.log_z is not None:
            return self.log_z
        if self.quadratic:
            g = self.gaussian()
            return -self._reduced(g.mean) - g.log_prob(g.mean)
        if self.dim > 1:
            raise ValueError(
                f"Boltzmann.log_z is missing: ln Z of a potential that is not quadratic in {self.dim} dimensions must be "
                "given for log_prob. Give log_z=, or final=None: sampling, reduced work and Jarzynski do without."
            )
        return self._table().log_mass

    def gaussian(self) -> Gaussian:
        if not self.quadratic:
            raise ValueError(
                "This Boltzmann density is no Gaussian: its potential is not quadratic in x. Start from "
                "thermojax.densities.Gaussian, or simulate."
            )
        zero = self._origin()
        slope, curvature = jax.grad(self._reduced)(zero), jax.hessian(self._reduced)(zero)
        half = _factor.inverse(_factor.root(curvature))
        cov = half.T @ half
        return Gaussian(-cov @ slope, cov)

    def _reduced(self, x: State) -> Scalar:
        return self.system.energy(x, self.lam) / self.system.temperature(self.lam)

    def _origin(self) -> State:
        return jnp.zeros(self.dim, _float_of((self.system, self.lam)))

    def _table(self) -> Table:
        return tabulate(self._reduced, self.bounds, self.nodes, self._origin().dtype)


_NOT_FOLLOWED = (
    "Boltzmann.system or Boltzmann.lam is being differentiated through Boltzmann.sample, and the draws of a sampler= do not "
    "follow them: the gradient would silently lack the change of the starting density. Hold them fixed "
    "(jax.lax.stop_gradient), or give a density of your own with a reparametrised sample(key)."
)


def _interval(bounds: Any) -> tuple[float, float]:
    try:
        lower, upper = map(float, bounds)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Boltzmann.bounds must be two numbers, got {bounds!r}.") from error
    if not -np.inf < lower < upper < np.inf:
        raise ValueError(
            f"Boltzmann.bounds must be finite, (lower, upper) with lower < upper, got {bounds!r}."
        )
    return lower, upper


def _float_of(tree: Any) -> Any:
    return _checks.one_float(system=tree)


def _dimension(system: AbstractSystem, lam: Control) -> int:
    """One coordinate, unless an array among the parameters says otherwise: then the user must."""
    shapes = {
        leaf.shape
        for leaf in jtu.tree_leaves((system, lam))
        if eqx.is_array(leaf) and leaf.size > 1
    }
    if shapes:
        raise ValueError(
            f"Boltzmann cannot tell the number of coordinates from parameters of shape {sorted(shapes)}: give dim=."
        )
    return 1


def _definite(curvature: Array) -> None:
    value = _checks.known(curvature)
    if value is not None:
        lowest = float(np.linalg.eigvalsh(value).min())
        if not lowest > 0:
            raise ValueError(
                f"Boltzmann: the potential has curvature {lowest:.3g} in some direction, so it does not confine and has no "
                "equilibrium. Give a positive stiffness (and the right dim=)."
            )
