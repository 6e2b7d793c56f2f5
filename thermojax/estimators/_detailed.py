"""The detailed fluctuation theorem, without histograms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import _checks
from .._guard import clipped_root, size_of
from .._types import Array, Float, Numbers
from ._base import checked


class DetailedFluctuation(NamedTuple):
    r"""Both sides of $\langle e^{-R};\, R \le r \rangle_F = P_R(R_R \ge -r)$ at the thresholds `at`, `(points,)` each, and
    the standard error of their difference, point by point."""

    at: Array
    left: Array
    right: Array
    stderr: Array

    @property
    def difference(self) -> Array:
        """`left - right`, which should be zero within a few `stderr`."""
        return self.left - self.right


def detailed_fluctuation(
    r_forward: Float[Array, " forward"],
    r_reverse: Float[Array, " reverse"],
    *,
    points: Numbers | None = None,
) -> DetailedFluctuation:
    r"""The detailed fluctuation theorem $p_F(r)/p_R(-r) = e^r$, integrated up to a threshold: for every r

    $$\frac1{n_F} \sum_{i:\, R_i \le r} e^{-R_i} \;\approx\; \frac1{n_R}\,\#\{j : R^R_j \ge -r\} .$$

    Nothing is binned: the two sides are step functions, given where one of them steps (the pooled $R_i$ and $-R^R_j$ in
    rising order), or at `points`. `r_forward` are the log-ratios R of runs of a process, in nats, `r_reverse` those of runs
    of `thermojax.reverse(process)` on `reverse_grid`: dissipated works or total entropy productions, e.g.
    `run.entropy.total` of `rule="kernel"` (then exact at every step size). All are independent, forward of reverse ones too;
    the two numbers may differ. For large r the left side is $\langle e^{-R} \rangle$ and the right side is 1.

    The error is pointwise, $\sigma^2 = s_F^2/n_F + s_R^2/n_R$ with the variances of $e^{-R} 1_{R \le r}$ and of
    $1_{R^R \ge -r}$; neighbouring points share their samples, so that of many points all on one side say no more than one.
    In the tails, where few samples lie, it is too small.

    Raises `ValueError` for fewer than two entries or any that are not finite; NaN while tracing. Source: Crooks, PRE 60,
    2721 (1999), eq. 2; Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 4.
    """
    forward, reverse = (
        jnp.asarray(checked(name, r, "raise").w)
        for name, r in (("r_forward", r_forward), ("r_reverse", r_reverse))
    )
    if points is not None:
        points = _checks.floating("points", points).astype(forward.dtype)
        _checks.rank("points", points, {1}, "(points,)")
    return _detailed(forward, reverse, points)


@jax.jit
def _detailed(forward: Array, reverse: Array, points: Array | None) -> DetailedFluctuation:
    reverse = reverse.astype(forward.dtype)
    at = jnp.sort(jnp.concatenate([forward, -reverse])) if points is None else points
    fine = jnp.all(jnp.isfinite(forward)) & jnp.all(jnp.isfinite(reverse))
    forward, back = jnp.sort(forward), jnp.sort(-reverse)
    i, j = (jnp.searchsorted(r, at, side="right") for r in (forward, back))
    left = _up_to(i, jnp.exp(-forward)) / forward.size
    share, right = (n.astype(at.dtype) / r.size for n, r in ((i, forward), (j, back)))
    # the variance of e^(-r)(1 + d) up to the threshold, r the least R, without a difference of what is nearly equal
    beside = jnp.expm1(forward[0] - forward)
    first, second = (_up_to(i, v) / forward.size for v in (beside, beside**2))
    spread = share * (1 - share) + 2 * first * (1 - share) + second - first**2
    root = jax.vmap(clipped_root)
    errors = jnp.stack(
        [
            jnp.exp(-forward[0]) * root(spread / (forward.size - 1)),
            root(right * (1 - right) / (back.size - 1)),
        ]
    )
    stderr = jax.vmap(_length, 1)(errors)
    sides = (jnp.where(fine, v, jnp.nan) for v in (left, right, stderr))
    return DetailedFluctuation(at, *sides)


def _length(v: Array) -> Array:
    """Of a vector, also if its squares underflow."""
    unit = size_of(v)
    return unit * clipped_root(jnp.sum((v / unit) ** 2))


def _up_to(count: Array, values: Array) -> Array:
    """The sums of the first `count` values."""
    return jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(values)])[count]
