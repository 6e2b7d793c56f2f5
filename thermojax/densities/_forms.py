r"""The three ways to an equilibrium: in closed form, by quadrature, by a sampler."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._guard import held, untracked
from .._jit import jit
from .._products import matmul
from .._types import Array, Draw, Key, Scalar, State
from ._base import AbstractKnownDensity
from ._gaussian import Gaussian
from ._quadrature import Bounds, Quantiles, tabulate


class AbstractEquilibrium(AbstractKnownDensity):
    r"""$p(x) \propto e^{-\phi(x)}$: what a form may ask of it."""

    dim: eqx.AbstractVar[int]
    bounds: eqx.AbstractVar[Bounds | None]
    nodes: eqx.AbstractVar[int]
    sampler: eqx.AbstractVar[Draw | None]

    @property
    @abc.abstractmethod
    def origin(self) -> State:
        """x = 0, of the shape and the precision of a state."""

    @abc.abstractmethod
    def reduced_energy(self, x: State) -> Scalar:
        r"""$\phi(x) = U(x, \lambda) / T(\lambda)$."""


class AbstractForm(eqx.Module):
    """How a `Boltzmann` density is drawn from and normalised: decided once, when it is made.

    It holds the decision and no number: those follow, within the compiled call, from the density's system and control as
    they are then, which may have been replaced, batched or differentiated in the meantime.
    """

    @property
    @abc.abstractmethod
    def quadratic(self) -> bool:
        """Whether the potential is quadratic in x."""

    @abc.abstractmethod
    def check(self, density: AbstractEquilibrium) -> None:
        """Raise if it can be told now that there is no such equilibrium."""

    @abc.abstractmethod
    def sample(self, density: AbstractEquilibrium, key: Key) -> State: ...

    @abc.abstractmethod
    def log_partition(self, density: AbstractEquilibrium) -> Scalar: ...


class Quadratic(AbstractForm):
    r"""In closed form: $N(m, K^{-1})$ with the curvature $K = \nabla\nabla\phi$ and $K m = -\nabla\phi(0)$."""

    @property
    def quadratic(self) -> bool:
        return True

    def check(self, density: AbstractEquilibrium) -> None:
        value = _checks.known(_curvature(density))
        if value is not None:
            lowest = float(np.linalg.eigvalsh(np.asarray(value, float)).min())
            if not np.isfinite(mean_and_root(density)[1]).all():
                raise ValueError(
                    f"Boltzmann: the potential has curvature {lowest:.3g} in some direction, so it does not confine and has "
                    "no equilibrium. Give a positive stiffness (and the right dim=), or walls: bounds=(lower, upper), in "
                    "one dimension."
                )

    def sample(self, density: AbstractEquilibrium, key: Key) -> State:
        return Gaussian.from_root(*mean_and_root(density)).sample(key)

    def log_partition(self, density: AbstractEquilibrium) -> Scalar:
        mean, root = mean_and_root(density)
        volume = _factor.log_det(root) + density.dim * jnp.log(2 * jnp.pi)
        return 0.5 * volume - density.reduced_energy(mean)


class Quadrature(AbstractForm):
    """Any other potential in one dimension: by its table of quantiles."""

    @property
    def quadratic(self) -> bool:
        return False

    def check(self, density: AbstractEquilibrium) -> None:
        _quantiles(density)

    def sample(self, density: AbstractEquilibrium, key: Key) -> State:
        x = _quantiles(density).sample(key, density.reduced_energy)
        if density.bounds is None:
            return x
        return held(x, *density.bounds.astype(x.dtype))  # the last step of a draw may cross a wall

    def log_partition(self, density: AbstractEquilibrium) -> Scalar:
        return _quantiles(density).log_mass


class Unnormalised(AbstractForm):
    """Any other potential in d dimensions: no more is known than its energy."""

    @property
    def quadratic(self) -> bool:
        return False

    def check(self, density: AbstractEquilibrium) -> None:
        del density

    def sample(self, density: AbstractEquilibrium, key: Key) -> State:
        raise ValueError("Boltzmann.sampler is missing: give sampler=.")

    def log_partition(self, density: AbstractEquilibrium) -> Scalar:
        raise ValueError(
            f"Boltzmann.log_z is missing: ln Z of a potential that is not quadratic in {density.dim} dimensions must be "
            "given for log_prob. Give log_z=, or final=None: sampling, reduced work and Jarzynski do without."
        )


class Sampled(AbstractForm):
    """Drawn by the user's `sampler`; all else as it would be without."""

    otherwise: AbstractForm

    @property
    def quadratic(self) -> bool:
        return self.otherwise.quadratic

    def check(self, density: AbstractEquilibrium) -> None:
        self.otherwise.check(density)

    def sample(self, density: AbstractEquilibrium, key: Key) -> State:
        assert density.sampler is not None
        x = density.sampler(key)
        # differentiated if and only if phi is, at a given x: whatever the system is made of
        phi = density.reduced_energy(jax.lax.stop_gradient(x))
        return untracked(x, phi, message=_NOT_FOLLOWED)

    def log_partition(self, density: AbstractEquilibrium) -> Scalar:
        return self.otherwise.log_partition(density)


_NOT_FOLLOWED = (
    "Boltzmann.system or Boltzmann.lam is being differentiated through Boltzmann.sample, and the draws of a sampler= do not "
    "follow them: the gradient would silently lack the change of the starting density. Hold them fixed "
    "(jax.lax.stop_gradient), or give a density of your own with a reparametrised sample(key)."
)


@jit
def _curvature(density: AbstractEquilibrium) -> Array:
    return jax.hessian(density.reduced_energy)(density.origin)


@jit
def mean_and_root(density: AbstractEquilibrium) -> tuple[State, Array]:
    r"""m and L of $N(m, K^{-1})$, $L L^T = K^{-1}$, NaN where K is positive by no more than rounding."""
    slope = jax.grad(density.reduced_energy)(density.origin)
    # Factored from the last coordinate up, K = U U^T with U upper triangular, so that L = U^-T is lower triangular.
    backward = _factor.root(_curvature(density)[::-1, ::-1])
    root = _factor.inverse(backward)[::-1, ::-1].T
    root = jnp.where(_held(backward[::-1, ::-1], root), root, jnp.nan)
    return -_factor.times(root, matmul(root.T, slope)), root


def _held(upper: Array, root: Array) -> Array:
    r"""Whether the rounding of U, $\delta K = 4\epsilon |U||U|^T$, moves $\Sigma = K^{-1}$ by less than itself, for which
    its rows are taken to the diagonal, as $R_{ii} = \sum_j \delta K_{ij}\, s_j/s_i$ with the widths s."""
    upper, root = jax.lax.stop_gradient((jnp.abs(upper), root))
    cov = _factor.square(root)
    width = jnp.sqrt(jnp.diagonal(cov))
    rounding = 4 * jnp.finfo(root.dtype).eps
    more = rounding * matmul(upper, matmul(upper.T, width)) / width
    return jnp.all(matmul(cov**2, more) < jnp.diagonal(cov))


def _quantiles(density: AbstractEquilibrium) -> Quantiles:
    dtype = density.origin.dtype
    return tabulate(density.reduced_energy, density.bounds, density.nodes, dtype).checked()
