r"""Densities: where a run starts and where the reversed run would start.

A density is anything with `sample(key)` (one draw of shape `(d,)`) and `log_prob(x)` (of one point, in nats); a
distribution of another library works. Samples are reparametrised: they differentiate with respect to every parameter.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import Literal

from . import _checks
from ._system import AbstractSystem
from ._types import Array, Control, Key, Scalar, State


class AbstractDensity(eqx.Module):
    """A probability density on d coordinates."""

    @abc.abstractmethod
    def sample(self, key: Key) -> State:
        """One draw, of shape `(d,)`."""

    @abc.abstractmethod
    def log_prob(self, x: State) -> Scalar:
        """The logarithm of the density at one point of shape `(d,)`, in nats."""

    @abc.abstractmethod
    def gaussian(self) -> "Gaussian":
        """The same density as a `Gaussian`, or a `ValueError` if it is none."""


class Gaussian(AbstractDensity):
    r"""$N(m, \Sigma)$ on d coordinates.

    `mean` is a scalar or `(d,)`; `cov` is a scalar or `(d,)` (independent coordinates with these **variances**) or
    `(d, d)`. The covariance must be positive definite.
    """

    mean: Array
    cov: Array

    def __init__(self, mean: Any, cov: Any):
        given = _checks.known(cov)
        mean = _checks.floating("Gaussian.mean", mean)
        cov = _checks.floating("Gaussian.cov", cov, positive=jnp.ndim(cov) < 2)
        _checks.rank("Gaussian.mean", mean, {0, 1}, "() or (d,)")
        _checks.rank("Gaussian.cov", cov, {0, 1, 2}, "(), (d,) or (d, d)")
        _checks.one_float(**{"Gaussian.mean": mean, "Gaussian.cov": cov})
        dim = mean.shape[0] if mean.shape not in ((), (1,)) else cov.shape[0] if cov.ndim else 1
        if cov.shape not in ((), (1,), (dim,), (dim, dim)):
            raise ValueError(
                f"Gaussian.cov must be (), ({dim},) or ({dim}, {dim}) for a mean of {dim}, got {cov.shape}."
            )
        self.mean = jnp.broadcast_to(mean, (dim,))
        if cov.ndim < 2:
            cov = jnp.where(jnp.eye(dim, dtype=bool), jnp.broadcast_to(cov, (dim,))[:, None], 0)
        if given is not None and given.ndim == 2:
            if not np.allclose(given, given.T) or np.linalg.eigvalsh(given).min() <= 0:
                raise ValueError(
                    f"Gaussian.cov must be symmetric and positive definite, got {given}."
                )
        self.cov = cov

    def sample(self, key: Key) -> State:
        dtype = jnp.result_type(self.mean, self.cov)
        return self.mean + self._root() @ jax.random.normal(key, self.mean.shape, dtype)

    def log_prob(self, x: State) -> Scalar:
        _checks.point("Gaussian.log_prob", x, self.mean.size)
        root = self._root()
        z = jax.scipy.linalg.solve_triangular(root, x - self.mean, lower=True)
        return (
            -0.5 * jnp.sum(z**2)
            - jnp.sum(jnp.log(jnp.diagonal(root)))
            - 0.5 * x.size * jnp.log(2 * jnp.pi)
        )

    def gaussian(self) -> "Gaussian":
        return self

    def entropy(self) -> Scalar:
        r"""$-\int p \ln p = \tfrac12 \ln\det(2\pi e\,\Sigma)$, in nats."""
        return jnp.sum(jnp.log(jnp.diagonal(self._root()))) + 0.5 * self.mean.size * (
            1 + jnp.log(2 * jnp.pi)
        )

    def _root(self) -> Array:
        return jnp.sqrt(self.cov) if self.mean.size == 1 else jnp.linalg.cholesky(self.cov)


class Point(AbstractDensity):
    """Every run starts at `x0`, a scalar or `(d,)`. It has no density, so no entropy: leave `final=None` with it."""

    x0: Array

    def __init__(self, x0: Any):
        x0 = _checks.floating("Point.x0", x0)
        _checks.rank("Point.x0", x0, {0, 1}, "() or (d,)")
        self.x0 = jnp.atleast_1d(x0)

    def sample(self, key: Key) -> State:
        del key
        return self.x0

    def log_prob(self, x: State) -> Scalar:
        raise ValueError(
            "Point has no density, so a run that starts (or whose reverse starts) at a point has no finite entropy "
            "production. Use a narrow Gaussian, or final=None for work, heat and the medium's entropy alone."
        )

    def gaussian(self) -> Gaussian:
        narrow = Gaussian(self.x0, 1.0)
        return eqx.tree_at(lambda g: g.cov, narrow, jnp.zeros_like(narrow.cov))


class Boltzmann(AbstractDensity):
    r"""Equilibrium of a system at a fixed control, $p(x) = e^{-U(x, \lambda)/T(\lambda)} / Z$.

    - A quadratic potential, in any dimension, is recognised and handled in closed form.
    - Any other potential in one dimension is normalised and sampled by quadrature on `nodes` points of the interval
      `bounds`; without `bounds` the interval is searched for (it must hold all but $10^{-17}$ of the weight).
    - Any other potential in d dimensions needs the user's `log_z` ($\ln Z$) and `sampler` (a callable of a key).

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
        if _checks.shapes("temperature", system.temperature_at, self.lam).shape != ():
            raise ValueError(
                "Boltzmann needs one temperature: with a bath per coordinate there is no equilibrium. Give another density, "
                "e.g. thermojax.densities.Gaussian."
            )
        x = self._origin()
        _checks.scalar("potential(x, lam)", system.energy, x, self.lam)
        if (log_z is None or sampler is None) and not self.quadratic and self.dim > 1:
            raise ValueError(
                f"Boltzmann of a potential that is not quadratic in {self.dim} dimensions needs log_z= and sampler=."
            )
        if self.quadratic:
            _definite(eqx.filter_jit(lambda y: jax.hessian(self._reduced)(y))(x))
        elif log_z is None or sampler is None:
            self._table()  # raises here and now if it can be told now

    @property
    def quadratic(self) -> bool:
        """Whether the potential is quadratic in x, told from its derivatives' structure, not from values."""
        return self.log_z is None and affine(jax.grad(self._reduced), self._origin())

    def sample(self, key: Key) -> State:
        if self.sampler is not None:
            return self.sampler(key)
        if self.quadratic:
            return self.gaussian().sample(key)
        return self._table().sample(key)

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
        return self._table().log_mass

    def gaussian(self) -> Gaussian:
        if not self.quadratic:
            raise ValueError(
                "This Boltzmann density is no Gaussian: its potential is not quadratic in x. Start from "
                "thermojax.densities.Gaussian, or simulate."
            )
        zero = self._origin()
        slope, curvature = jax.grad(self._reduced)(zero), jax.hessian(self._reduced)(zero)
        cov = jnp.linalg.inv(curvature)
        return Gaussian(-cov @ slope, cov)

    def _reduced(self, x: State) -> Scalar:
        return self.system.energy(x, self.lam) / self.system.temperature_at(self.lam)

    def _origin(self) -> State:
        return jnp.zeros(self.dim, _float_of((self.system, self.lam)))

    def _table(self) -> "Table":
        return tabulate(self._reduced, self.bounds, self.nodes, self._origin().dtype)


class Table(eqx.Module):
    """A one-dimensional density on a uniform grid, by the trapezoid rule (spectrally accurate where p ends smoothly)."""

    grid: Array
    cdf: Array
    log_mass: Scalar

    def sample(self, key: Key) -> State:
        u = jax.random.uniform(key, (1,), self.grid.dtype)
        return jnp.interp(u, self.cdf, self.grid)


def tabulate(reduced: Any, bounds: tuple[float, float] | None, nodes: int, dtype: Any) -> Table:
    r"""Normalise $e^{-\phi}$ on `bounds`, or on the interval outside which $\phi$ is 40 above its minimum."""
    phi_of = jax.vmap(lambda x: reduced(x[None]))
    if bounds is None:
        wide = jnp.sinh(jnp.linspace(-9, 9, 20001, dtype=dtype))  # from 1e-3 apart at 0 to ±4000
        phi = jax.lax.stop_gradient(phi_of(wide))
        inside = phi < jnp.min(jnp.where(jnp.isnan(phi), jnp.inf, phi)) + 40
        lower = jnp.min(jnp.where(inside, jnp.roll(wide, 1), jnp.inf))
        upper = jnp.max(jnp.where(inside, jnp.roll(wide, -1), -jnp.inf))
        confined = (~inside[0]) & (~inside[-1])
        lower = _checks.must(
            "potential",
            lower,
            confined,
            "confining (it is not within ±4000): give Boltzmann(..., bounds=) or a potential with an equilibrium",
        )
    else:
        lower, upper = (jnp.asarray(b, dtype) for b in bounds)
    grid = lower + (upper - lower) * jnp.linspace(0, 1, nodes, dtype=dtype)
    phi = phi_of(grid)
    low = jnp.min(phi)
    weight = jnp.exp(low - phi) * (upper - lower) / (nodes - 1)
    cells = 0.5 * (weight[1:] + weight[:-1])
    mass = jnp.sum(cells)
    coarse = jnp.sum(weight[2::2] + weight[:-2:2])
    good = jnp.abs(coarse - mass) < 1e-3 * mass
    mass = _checks.must(
        "potential",
        mass,
        good,
        f"finite, and resolved by Boltzmann's quadrature ({nodes} nodes are too few): give Boltzmann(..., bounds=, nodes=)",
    )
    cdf = jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(cells)]) / mass
    return Table(grid, cdf, jnp.log(mass) - low)


def affine(fn: Any, x: Array) -> bool:
    """Whether `fn` is affine in x: told from its program, whatever the values, hence also while tracing.

    Its derivative along any direction must not use x, and there must be no kink or step on the way, which derivatives
    do not see. A program may hide that it is affine (a norm that is squared): then the answer is no, never a wrong yes.
    """
    slope = jax.make_jaxpr(lambda y, v: jax.jvp(fn, (y,), (v,))[1])(x, x)
    kinks: list[str] = []
    _uses(jax.make_jaxpr(fn)(x).jaxpr, [True], kinks)
    return not kinks and not any(_uses(slope.jaxpr, [True, False], []))


def _uses(program: Any, uses: list[bool], kinks: list[str]) -> list[bool]:
    """Which outputs of a jaxpr use the marked inputs; `kinks` collects the steps in which those are not smooth."""
    marked = {var for var, used in zip(program.invars, uses, strict=True) if used}
    for step in program.eqns:
        used = [not isinstance(v, Literal) and v in marked for v in step.invars]
        inner = step.params.get("jaxpr", step.params.get("call_jaxpr"))
        inner = getattr(inner, "jaxpr", inner)
        if step.primitive.name == "integer_pow" and step.params["y"] == 0:
            out = [False]  # x to the power of 0, left behind by the derivatives of x**2
        elif inner is not None and len(inner.invars) == len(used) and step.primitive.name in _CALLS:
            out = _uses(inner, used, kinks)
        else:
            out = [any(used)] * len(step.outvars)
            smooth = all(jnp.issubdtype(var.aval.dtype, jnp.floating) for var in step.outvars)
            if any(used) and (step.primitive.name in _KINKED or not smooth):
                kinks.append(step.primitive.name)
        marked |= {var for var, o in zip(step.outvars, out, strict=True) if o}
    return [not isinstance(v, Literal) and v in marked for v in program.outvars]


_KINKED = (
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "max",
    "min",
    "clamp",
    "rem",
    "reduce_max",
    "reduce_min",
)
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat")


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
