r"""Equilibrium of a system at a fixed control."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .. import _checks, _factor
from .._affine import affine
from .._closures import closed
from .._jit import jit
from .._types import Array, Control, Density, Draw, Given, Key, Potential, Scalar, State
from ..potentials import Tabulated
from ..systems import AbstractDiscrete, AbstractSystem, AbstractUnderdamped
from ._base import GaussianParts
from ._forms import (
    AbstractEquilibrium,
    AbstractForm,
    Quadratic,
    Quadrature,
    Sampled,
    Unnormalised,
    mean_and_root,
)
from ._gaussian import Gaussian
from ._noised import Noised
from ._quadrature import Bounds


class Boltzmann(AbstractEquilibrium):
    r"""Equilibrium of a system at a fixed control, $p(x) = e^{-U(x, \lambda)/T(\lambda)} / Z$.

    - A quadratic potential, in any dimension, is recognised and handled in closed form.
    - Any other potential in one dimension is normalised and sampled by quadrature on `nodes` points of an interval that
      is searched for (it must hold all but $10^{-17}$ of the weight), by looks a thousandth of the distance from zero
      apart: give `bounds` where a well is narrower than that.
    - `bounds` are walls: between them, in one dimension, any potential has an equilibrium (a box, sedimentation), by
      quadrature; beyond them `log_prob` is minus infinity. The walls are the density's alone, a run does not know them.
    - Any other potential in d dimensions needs a `sampler` (a callable of a key; `densities.mcmc` makes one), and for
      `log_prob` its `log_z` ($\ln Z$); sampling, the reduced work and Jarzynski do without.

    Samples differentiate with respect to the system, `lam` and `bounds`, except a `sampler`'s: to differentiate those
    raises `ValueError`. A `log_z` is differentiated as it is given: make it a function of the same parameters.
    A step of the potential is not followed where its place depends on a parameter (`jnp.where(x > c, h, 0)`, by c; by h it
    is): the derivative lacks what it does. Smooth it, `h * jax.nn.sigmoid((x - c) / width)`; a wall at c is `bounds`, which
    are followed.

    Of an `Underdamped` system all of this is of the positions, U the potential energy; with them come Maxwell's momenta,
    $p(q, p) = e^{-U/T}/Z_q \cdot N(p; -J(\lambda), m T)$. A draw is a state `(q, p)`, and `log_partition` is that of both.

    `dim` is the number of coordinates (of positions), 1 unless given. A force that does no potential work is left out: with
    f ≠ 0 this is the reference state of $\Delta(\beta F)$, not the stationary one. One bath only.
    """

    system: AbstractSystem
    lam: Control
    dim: int = eqx.field(static=True)
    bounds: Bounds | None
    nodes: int = eqx.field(static=True)
    log_z: Scalar | None
    sampler: Draw | None
    form: AbstractForm

    def __init__(
        self,
        system: AbstractSystem,
        lam: Control = None,
        *,
        dim: int | None = None,
        bounds: Given = None,
        nodes: int = 4001,
        log_z: Given = None,
        sampler: Given = None,
    ):
        if not isinstance(system, AbstractSystem):
            raise TypeError(
                f"Boltzmann.system must be a system such as thermojax.Overdamped(potential), got {system!r}."
            )
        if isinstance(system, AbstractDiscrete):
            raise TypeError(
                f"Boltzmann is a density, and the states of {type(system).__name__} are points. Use "
                "densities.States.boltzmann(system, lam, states), of all states; or densities.Point, to start from one."
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
        self.sampler = closed(sampler)
        if sampler is not None and not callable(sampler):
            raise TypeError(f"Boltzmann.sampler must be a callable of a key, got {sampler!r}.")
        if _checks.shapes("temperature", system.temperature, self.lam).shape != ():
            raise ValueError(
                "Boltzmann needs one temperature: with a bath per coordinate there is no equilibrium. Give another density, "
                "e.g. thermojax.densities.Gaussian."
            )
        potential = _potential(system)
        _checks.scalar("potential(x, lam)", potential, self.origin, self.lam)
        _checks.not_spread("potential(x, lam)", potential, self.origin, self.lam)
        self.form = self._form()

    def _form(self) -> AbstractForm:
        alone = self.sampler is None
        if self.bounds is not None and self.dim > 1:
            raise ValueError(
                f"Boltzmann.bounds are the walls of one coordinate, and dim={self.dim}. Leave bounds= out; where the "
                "potential is infinite nothing is drawn either."
            )
        if self.bounds is None and affine(jax.grad(self.reduced_energy), self.origin):
            form = Quadratic()
        elif self.dim == 1 and (self.log_z is None or alone):
            form = Quadrature()
        elif alone:
            raise ValueError(
                f"Boltzmann of a potential that is not quadratic in {self.dim} dimensions needs sampler= (and log_z= for "
                "log_prob): thermojax.densities.mcmc samples it."
            )
        else:
            form = Unnormalised()
        return form if alone else Sampled(form)

    def __check_init__(self) -> None:
        self.form.check(self)  # raises here and now if it can be told now

    @property
    def quadratic(self) -> bool:
        """Whether the potential is quadratic in x, told from its derivatives' structure, not from values."""
        return self.form.quadratic

    @property
    def origin(self) -> State:
        """x = 0, of the shape and the precision of a state (of its positions)."""
        return jnp.zeros(self.dim, _checks.one_float(system=(self.system, self.lam)))

    def reduced_energy(self, x: State) -> Scalar:
        r"""$\phi(x) = U(x, \lambda) / T(\lambda)$, x the positions."""
        return _potential(self.system)(x, self.lam) / self.system.temperature(self.lam)

    @jit
    def sample(self, key: Key) -> State:
        if not isinstance(self.system, AbstractUnderdamped):
            return self.form.sample(self, key)
        key_q, key_p = jax.random.split(key)
        q = self.form.sample(self, key_q)
        return jnp.concatenate([q, self.system.thermal(self.origin, self.lam).sample(key_p)])

    @jit
    def log_prob(self, x: State) -> Scalar:
        if not isinstance(self.system, AbstractUnderdamped):
            return self._log_prob(x)
        _checks.point("Boltzmann.log_prob", x, 2 * self.dim)
        q, p = jnp.split(x, 2)
        return self._log_prob(q) + self.system.thermal(self.origin, self.lam).log_prob(p)

    def _log_prob(self, x: State) -> Scalar:
        """Of the positions."""
        _checks.point("Boltzmann.log_prob", x, self.dim)
        if self.bounds is None:
            return -self.reduced_energy(x) - self._log_z()
        lower, upper = self.bounds.astype(x.dtype)
        outside = jnp.any((x < lower) | (x > upper))
        within = jnp.where(outside, 0.5 * (lower + upper), x)  # the potential may fail out there
        return jnp.where(outside, -jnp.inf, -self.reduced_energy(within) - self._log_z())

    @jit
    def log_partition(self) -> Scalar:
        r"""$\ln Z = \ln \int e^{-U/T} dx$; the reduced free energy $\beta F$ is its negative. Of `(q, p)`, where there are
        momenta: $\tfrac12 \sum_i \ln 2\pi m_i T$ more."""
        if not isinstance(self.system, AbstractUnderdamped):
            return self._log_z()
        variance = self.system.thermal(self.origin, self.lam).variance
        return self._log_z() + 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variance))

    def _log_z(self) -> Scalar:
        return self.form.log_partition(self) if self.log_z is None else self.log_z

    @jit
    def normal(self) -> GaussianParts | None:
        if not self.quadratic:
            return None
        mean, root = self._mean_and_root()
        return GaussianParts(mean, _factor.square(root))

    def _mean_and_root(self) -> tuple[State, Array]:
        mean, root = mean_and_root(self)
        if not isinstance(self.system, AbstractUnderdamped):
            return mean, root
        thermal = self.system.thermal(self.origin, self.lam)
        widths = jnp.diag(jnp.sqrt(thermal.variance))
        return jnp.concatenate([mean, thermal.mean]), jax.scipy.linalg.block_diag(root, widths)

    def noised(self, scale: Scalar, variance: Scalar) -> Density:
        if self.quadratic:
            return Gaussian.from_root(*self._mean_and_root()).noised(scale, variance)
        return Noised(self, scale, variance)


def _potential(system: AbstractSystem) -> Potential:
    """The energy, of the positions alone where there are momenta."""
    return system.potential_energy if isinstance(system, AbstractUnderdamped) else system.energy


def _interval(bounds: Given) -> Bounds:
    try:
        ends = _checks.array("Boltzmann.bounds", bounds)
    except TypeError:
        ends = None
    if ends is None or ends.shape != (2,) or not jnp.isrealobj(ends):
        raise TypeError(f"Boltzmann.bounds must be two numbers, got {bounds!r}.")
    value = _checks.known(ends)
    if value is not None and not -np.inf < value[0] < value[1] < np.inf:
        raise ValueError(
            f"Boltzmann.bounds must be finite, (lower, upper) with lower < upper, got {bounds!r}."
        )
    return _checks.floating("Boltzmann.bounds", ends)


def _dimension(system: AbstractSystem, lam: Control) -> int:
    """One coordinate, unless an array among the parameters, which is no table, says otherwise: then the user must."""
    tables = lambda node: isinstance(node, Tabulated)
    shapes = {
        leaf.shape
        for leaf in jtu.tree_leaves((system, lam), is_leaf=tables)
        if eqx.is_array(leaf) and leaf.size > 1
    }
    if shapes:
        raise ValueError(
            f"Boltzmann cannot tell the number of coordinates from parameters of shape {sorted(shapes)}: give dim=."
        )
    return 1
