r"""The Wasserstein distance of two densities, known in closed form, on cells, or by samples."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, _factor
from .._guard import clipped_root, size_of
from .._jit import jit
from .._products import matmul
from .._types import Array, Given, Scalar
from .._widths import wide_enough
from ..densities import Cells, Empirical, GaussianParts, Point, normal
from ..systems import Grid

Cut = tuple[Grid, Array]  # a density on cells, by its values at their centres


def wasserstein(
    p: Given, q: Given, *, unit: Given = 1.0, grid: Grid | None = None, epsilon: Given = None
) -> Scalar:
    r"""The Wasserstein distance $W_2(p, q)$: the root of the least mean square displacement that carries p into q.

    $$W_2^2 = \min_{x \sim p,\; y \sim q} \langle |x - y|^2 \rangle$$

    p and q are, each of them, one of these:

    - a density that is Gaussian (`densities.normal`), also a `Point`. Two of them, in any dimension:
      $W_2^2 = |m_p - m_q|^2 + \mathrm{tr}\,[\Sigma_p + \Sigma_q - 2 (\Sigma_p^{1/2} \Sigma_q \Sigma_p^{1/2})^{1/2}]$.
    - a sample of it, `(n, d)`, or `Empirical`. One coordinate: the samples are sorted, whatever their sizes, exactly. More
      coordinates: by a Sinkhorn divergence.
    - `densities.Cells`, or `(grid, p)`: a one-dimensional `systems.Grid` and the density at its centres, `(cells,)`, which
      is normalised. The density is taken as constant in each cell, and of two such densities, on any two grids, the
      distance is exact. Cells of a smooth density are off by the order of their width squared.
    - any other density in one dimension, if `grid=` is given: it is put on these cells by its `log_prob`. They must hold
      it, but for a hundredth.

    In one dimension $W_2^2 = \int_0^1 (Q_p(u) - Q_q(u))^2 du$ with the quantile functions Q.

    `unit` measures lengths: of $x_i$ / unit, where it is `(d,)`; the distance then has no unit. See `diffusion_time`.

    Differentiable with respect to all numbers; where p = q the distance has a kink, and the derivative given is zero.
    Of n draws the distance of two samples exceeds that of their densities, in several dimensions by the order of
    $n^{-1/d}$.

    The Sinkhorn divergence needs the extra `thermojax[transport]`. It is debiased, so that it is zero for p = q, and still
    differs from $W_2^2$ by an error of the order of `epsilon` squared, of either sign; `epsilon` is in the unit of $x^2$,
    ott's own choice, a twentieth of the spread of the squared distances, if None. A lower one takes longer. What
    does not converge is NaN.

    Raises `TypeError` for what is none of these, `ValueError` for two that do not fit, a density of cells that is negative
    somewhere or on a ring, a grid that does not hold the density, and `ImportError` without ott.
    Source: Villani, *Optimal Transport* (2009), ch. 6; Givens & Shortt, Mich. Math. J. 31, 231 (1984), for Gaussians;
    Feydy et al., AISTATS 2019 (arXiv:1810.08278), for the divergence.
    """
    if grid is not None and not isinstance(grid, Grid):
        raise TypeError(f"grid must be a thermojax.systems.Grid, got {type(grid).__name__}.")
    forms = _form("p", p, grid), _form("q", q, grid)
    kinds, dims = zip(*map(_kind, forms), strict=True)
    unit = _checks.floating("unit", unit, positive=True)
    _checks.rank("unit", unit, {0, 1}, "() or (d,)")
    if dims[0] != dims[1] or unit.shape not in ((), (dims[0],)):
        raise ValueError(
            f"p, q and unit must have as many coordinates, got {dims[0]}, {dims[1]} and a unit of shape {unit.shape}."
        )
    _checks.one_float(p=forms[0], q=forms[1])
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"p is {kinds[0]}, q {kinds[1]}: give both in one form. In one dimension grid= puts densities on cells; in "
            "more, draw samples of both, jax.vmap(density.sample)(jax.random.split(key, n))."
        )
    if kinds[0] == "a Gaussian":
        square, good = _gaussian(*forms, unit)
        allowed = "positive definite, or zero"
        return clipped_root(_checks.must("The covariance of p and of q", square, good, allowed))
    if kinds[0] == "on cells":
        return _on_cells(*forms) / unit.reshape(())
    x, y = (form / unit for form in _near((p, q), forms))
    return _sorted(x[:, 0], y[:, 0]) if dims[0] == 1 else clipped_root(_sinkhorn(x, y, epsilon))


def _near(given: tuple[Given, Given], samples: tuple[Array, Array]) -> list[Array]:
    """Two samples less the first point, which changes no distance: numpy's double precision is kept until then."""
    longer = [np.asarray(x, float) if _checks.shortened(x) else None for x in given]
    fine = [x for x in longer if x is not None]
    if len(fine) == 2:
        return [jnp.asarray(x - fine[0][0], s.dtype) for x, s in zip(fine, samples, strict=True)]
    for name, x, s in zip("pq", longer, samples, strict=True):
        if x is not None:
            wide_enough(name, np.abs(x).max(0), x.std(0), s.dtype)
    origin = jax.lax.stop_gradient(samples[0][0])
    return [x - origin[None] for x in samples]


def _kind(form: Given) -> tuple[str, int]:
    """What it is, and of how many coordinates."""
    if isinstance(form, GaussianParts):
        return "a Gaussian", form.mean.size
    if isinstance(form, tuple):
        return "on cells", 1
    return "a sample", form.shape[1]


def _form(name: str, given: Given, grid: Grid | None) -> Given:
    """What was given, as moments, as values on cells, or as a sample."""
    if isinstance(given, Empirical):
        return given.xs
    if isinstance(given, Cells):
        return _cut(name, given.grid, given.p)
    if _is_cut(given):
        return _cut(name, *given)
    verbs = (getattr(given, verb, None) for verb in ("sample", "log_prob"))
    if not all(map(callable, verbs)):
        x = _checks.floating(name, given)
        _checks.rank(name, x, {2}, "(n, d), one row per draw, also for d = 1")
        return x
    parts = normal(given)
    if parts is not None and (grid is None or isinstance(given, Point)):
        return parts
    if grid is None:
        raise ValueError(
            f"{name} is a {type(given).__name__}, of which no closed form is known: give grid=, in one dimension, or a "
            "sample of it, (n, d): jax.vmap(density.sample)(jax.random.split(key, n))."
        )
    if grid.dim == 2:
        raise ValueError(_ONE.format(name="grid"))
    dtype = _checks.draw(name, given).dtype
    cut = _cut(name, grid, jnp.exp(grid.each(given.log_prob, dtype)))
    held = jnp.sum(cut[1]) * grid.volume
    allowed = "held and resolved by the grid: its sum over the centres, times the width of a cell, is then 1 (to 1e-2)"
    return grid, _checks.must(name, cut[1], jnp.abs(held - 1) < HELD, allowed, got=held)


def _is_cut(given: Given) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Grid)


HELD = 1e-2
_ONE = "{name} must have one dimension: in two the distance on cells has no closed form. Give samples of both, (n, 2)."


def _cut(name: str, grid: Grid, p: Given) -> Cut:
    """A density on cells, checked."""
    if grid.dim != 1:
        raise ValueError(_ONE.format(name=f"The grid of {name}"))
    if grid.periodic[0]:
        raise ValueError(
            f"The grid of {name} is periodic, and on a ring the distance is another one. Cut it open where nobody is: "
            "Grid(..., periodic=False)."
        )
    p = _checks.floating(name, p)
    if p.shape != grid.cells:
        raise ValueError(
            f"{name} must have the density at the centres of its grid, {grid.cells}, got {p.shape}."
        )
    good = jnp.all(p >= 0) & (jnp.sum(p) > 0)
    return grid, _checks.must(name, p, good, "a density: not negative, and not zero everywhere")


# ---- Gaussians


@jit
def _gaussian(p: GaussianParts, q: GaussianParts, unit: Array) -> tuple[Scalar, Array]:
    r"""$|m_p - m_q|^2 + \|L_p - L_q U\|^2$, U the orthogonal factor of $L_q^T L_p$: no difference of large numbers.

    And whether both covariances have a root.
    """
    shift = jnp.sum(((p.mean - q.mean) / unit) ** 2)
    lengths = jnp.broadcast_to(unit, p.mean.shape)
    (a, none_a), (b, none_b) = (_width(f.cov / jnp.outer(lengths, lengths)) for f in (p, q))
    good = jnp.all(jnp.isfinite(a)) & jnp.all(jnp.isfinite(b))
    turn = _orthogonal(matmul(b.T, a))
    apart, both = jnp.sum((a - matmul(b, turn)) ** 2), jnp.sum(a**2) + jnp.sum(b**2)
    square = shift + jnp.where(none_a | none_b, both, apart)
    # what rounding leaves of two that are the same has a root with a slope
    return jnp.where(square <= (8 * jnp.finfo(a.dtype).eps) ** 2 * both, 0, square), good


def _width(cov: Array) -> tuple[Array, Array]:
    """The root of a covariance, and whether there is none, as of a point."""
    none = jnp.all(cov == 0)
    root = _factor.root(jnp.where(none, jnp.eye(len(cov), dtype=cov.dtype), cov))
    return jnp.where(none, 0, root), none


STEPS = (
    100  # a singular value grows by 3/2 a step until it is near one: none that counts is left out
)


def _orthogonal(a: Array) -> Array:
    r"""The U of $A = U H$, H symmetric and positive: $X \leftarrow \tfrac12 X (3 - X^T X)$, by products only.

    Not LAPACK's eigenvalues, which must not be batched: see `_factor`.
    Source: Higham, *Functions of Matrices* (2008), eq. 8.20.
    """
    a = a / size_of(a)  # of which U does not depend
    size = clipped_root(jnp.sum(a**2))
    none = ~(size > 0)
    x0 = jnp.where(none, 1, a) / jnp.where(none, 1, size)
    x0 = jnp.where(none, jnp.eye(len(a), dtype=a.dtype), x0)

    def step(x: Array, _: None) -> tuple[Array, None]:
        return 1.5 * x - 0.5 * matmul(x, matmul(x.T, x)), None

    return jax.lax.scan(step, x0, None, length=STEPS)[0]


# ---- one dimension


@jit
def _sorted(x: Array, y: Array) -> Scalar:
    r"""$(\int (Q_x - Q_y)^2 du)^{1/2}$ of two samples: both are steps, between levels that the sizes alone decide."""
    x, y = jnp.sort(x), jnp.sort(y)
    n, m = len(x), len(y)
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # in units of 1 / (n m)
    low = levels[:-1]
    weights = jnp.asarray(np.diff(levels) / (n * m), x.dtype)
    apart = x[low // m] - y[low // n]
    scale = size_of(apart)  # so that no square is lost
    return scale * clipped_root(jnp.sum(weights * (apart / scale) ** 2))


@jit
def _on_cells(p: Cut, q: Cut) -> Scalar:
    r"""$(\int (Q_p - Q_q)^2 du)^{1/2}$ of densities that are constant in each cell: both are straight between the levels of
    the two distribution functions, and $\int_0^1 (a + (b - a) s)^2 ds = (a^2 + ab + b^2)/3$."""
    tables = [_levels(*p), _levels(*q)]
    levels = jnp.sort(jnp.concatenate(tables))
    low, high = levels[:-1], levels[1:]
    # taken off before there are arrays, which would lose the distance beside it
    origin = p[0].lower[0]
    ends = [
        _quantiles(f[0], origin, table, low, high) for f, table in zip((p, q), tables, strict=True)
    ]
    (a0, a1), (b0, b1) = ends
    a, b = a0 - b0, a1 - b1
    return clipped_root(jnp.sum((high - low) * (a**2 + a * b + b**2)) / 3)


def _levels(grid: Grid, p: Array) -> Array:
    """The distribution function at the edges of the cells, `(cells + 1,)`."""
    total = jnp.cumsum(p)
    return jnp.concatenate([jnp.zeros(1, p.dtype), total / total[-1]])


def _quantiles(
    grid: Grid, origin: float, table: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Q, from the origin, at both ends of each interval of levels, from inside: the intervals lie within one cell each."""
    middle = jax.lax.stop_gradient(0.5 * (low + high))
    cell = jnp.clip(jnp.searchsorted(table, middle, side="right") - 1, 0, grid.cells[0] - 1)
    mass = table[cell + 1] - table[cell]
    there = mass > 0
    left = (grid.lower[0] - origin) + grid.widths[0] * cell.astype(table.dtype)

    def at(u: Array) -> Array:
        inside = jnp.where(there, u - table[cell], 0) / jnp.where(there, mass, 1)
        return left + grid.widths[0] * inside

    return at(low), at(high)


# ---- samples in several dimensions


def _sinkhorn(x: Array, y: Array, epsilon: Given) -> Scalar:
    if epsilon is not None:
        epsilon = _checks.floating("epsilon", epsilon, positive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what ott itself imports
        try:
            importlib.import_module("ott.tools.sinkhorn_divergence")
        except ImportError as error:
            raise ImportError(
                "wasserstein of samples with more than one coordinate needs ott-jax: pip install thermojax[transport]. "
                "Gaussians and one coordinate do without."
            ) from error
    with _checks.lenient():  # of a derivative, which is traced here, too
        return _divergence(x, y, epsilon)


@jit
def _divergence(x: Array, y: Array, epsilon: Array | None) -> Scalar:
    sinkdiv = importlib.import_module("ott.tools.sinkhorn_divergence").sinkdiv
    square, found = sinkdiv(x, y, epsilon=epsilon)
    return jnp.where(jnp.all(jnp.stack(found.converged)), square, jnp.nan)
