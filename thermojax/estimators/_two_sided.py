r"""From the works of a process and of its reverse."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx

from .. import _checks
from .._guard import clipped_root, size_of
from .._types import Array, Float, Scalar
from ._base import (
    ENOUGH,
    LARGEST,
    SIGHT,
    Moments,
    Works,
    base,
    checked,
    coarse,
    gaussian_within,
    norm,
    sample_moments,
    taken,
    weigh,
)
from ._correlation import correlated
from ._estimate import (
    CORRELATED,
    DOMINATED,
    FEW,
    OTHERWISE,
    OVERLAP,
    SHAPE,
    UNLAWFUL,
    Estimate,
    doubt,
    estimate,
)

SHARED = 15.0  # works of one direction that must lie where those of the other do
FEWEST = 25.0  # effective samples of either direction
FALSE_ALARM = 6.0  # standard errors at which works do not obey Crooks' theorem
NEAR = 0.01  # nats, from where Newton's method finds the root


def bar(
    w_forward: Float[Array, " forward"],
    w_reverse: Float[Array, " reverse"],
    *,
    failed: str = "raise",
) -> Estimate:
    r"""Bennett's acceptance ratio: the free-energy difference $\Delta = \Delta(\beta F)$, in nats, as the root of

    $$\sum_{i=1}^{n_F} \frac{1}{1 + e^{\,m + w^F_i - \Delta}} = \sum_{j=1}^{n_R} \frac{1}{1 + e^{-m + w^R_j + \Delta}},
      \qquad m = \ln (n_F / n_R) .$$

    `w_forward` are the reduced works of the process, `w_reverse` those of runs of `thermojax.reverse(process)` (on
    `reverse_grid`), each done ON the system, each from equilibrium, and all independent; the two numbers may differ.
    Both are dimensionless, as `thermojax.reduced_work` gives them. With $f$ and $r$ the terms of the two sums, the
    standard error is that of Bennett for independent paths,
    $\sigma^2 = \sum f^2/(\sum f)^2 - 1/n_F + \sum r^2/(\sum r)^2 - 1/n_R$. `ess` is the smaller of $(\sum f)^2/\sum f^2$
    and $(\sum r)^2/\sum r^2$.

    `reliable` is False, and `why` says so, without enough overlap: if `ess` is under 25, if one path carries more than a
    tenth of either sum, or if fewer than 15 works of one direction lie where those of the other do ($\sum f$), or none
    at all: the error bar is then too small. It is also False if the mean works add up to less than zero, against the
    second law, if works of energy w are not $e^{w - \Delta}$ times as frequent in one direction as in the other (works in
    another unit than kT, starts out of equilibrium), and for correlated works (as in `jarzynski`). `failed` is that of
    `jarzynski`, and so is what +inf means.

    The derivative is that of the root, by the implicit function theorem. Raises `ValueError` for fewer than two works of a
    direction.

    Source: Bennett, J. Comput. Phys. 22, 245 (1976), eqs. 12 and 13; Shirts, Bair, Hooker & Pande, PRL 91, 140601 (2003).
    """
    return _bar(*_both(w_forward, w_reverse, failed, infinite=True))


def _both(
    w_forward: Array, w_reverse: Array, failed: str, *, infinite: bool
) -> tuple[Works, Works]:
    """The works of both directions, less one shift of the free energy, so that rounding is that of the spread."""
    forward, reverse = (
        checked(name, w, failed, infinite=infinite)
        for name, w in (("w_forward", w_forward), ("w_reverse", w_reverse))
    )
    _checks.one_float(w_forward=jnp.asarray(forward.w), w_reverse=jnp.asarray(reverse.w))
    shift = base(forward.w)
    there = taken(forward, shift, failed, infinite=infinite)
    back = taken(reverse, -shift, failed, infinite=infinite)
    return there, back


@jax.jit
def _bar(there: Works, back: Works) -> Estimate:
    w_f, n_f, w_r, n_r = there.w, there.left, back.w, back.left
    fine = ~(jnp.any(jnp.isnan(w_f)) | jnp.any(jnp.isnan(w_r)))
    w_f, w_r = (jnp.where(fine, w, 0) for w in (w_f, w_r))
    ends = jnp.concatenate([w_f, -w_r])
    lower = jnp.min(jnp.where(jnp.isfinite(ends), ends, jnp.inf))
    upper = jnp.max(jnp.where(jnp.isfinite(ends), ends, -jnp.inf))
    exact = 16 * float(jnp.finfo(w_f.dtype).eps)

    def balance(delta: Scalar, args: tuple[Array, ...]) -> Scalar:
        w_f, n_f, w_r, n_r = args
        forward, reverse = _shares(delta, *args)
        sums = weigh(forward, n_f).log_mean - weigh(reverse, n_r).log_mean
        return sums + jnp.log(n_f / n_r)

    args = (w_f, n_f, w_r, n_r)
    close = optx.root_find(
        balance,
        optx.Bisection(rtol=exact, atol=NEAR, flip=False),
        0.5 * (lower + upper),
        args,
        options={"lower": lower - 1, "upper": upper + 1},
        throw=False,
    ).value
    close = jax.lax.stop_gradient(close)
    near = 2 * (NEAR + exact * jnp.abs(close))
    delta = optx.root_find(
        balance,
        optx.Newton(rtol=exact, atol=exact),
        close,
        args,
        options={"lower": close - near, "upper": close + near},
        max_steps=16,
        throw=False,  # below rounding's limit nothing converges
    ).value
    delta = jnp.where(jnp.isfinite(delta), delta, close)  # where all of one direction weigh nothing
    shares = _shares(delta, w_f, n_f, w_r, n_r)
    f, r = _overlap(shares[0], there), _overlap(shares[1], back)
    errors = [of.spread * jnp.sqrt(of.inefficiency / n) for of, n in ((f, n_f), (r, n_r))]
    stderr = norm(jnp.stack(errors))
    lawful = _unlawful(sample_moments(w_f, n_f), sample_moments(w_r, n_r))
    value = jnp.where(fine, delta + there.shift, jnp.nan)
    spread = jnp.maximum(stderr, upper - lower)
    stderr, rounded = coarse(value, stderr, spread, there, least=1)  # the sums' logarithms
    ess = jnp.minimum(f.ess / f.inefficiency, r.ess / r.inefficiency)
    doubts = f.doubts | r.doubts | lawful | rounded | _gap(w_f, w_r, stderr)
    doubts |= _otherwise(shares, (w_f - delta, -w_r - delta), (f, r))
    return estimate(value, stderr, ess, doubts)


def _shares(delta: Scalar, w_f: Array, n_f: Array, w_r: Array, n_r: Array) -> tuple[Array, Array]:
    """The logarithms of the terms of the two sums: how likely each work is to come from the other direction."""
    m = jnp.log(n_f / n_r)
    return -jax.nn.softplus(m + w_f - delta), -jax.nn.softplus(-m + w_r + delta)


class Overlap(NamedTuple):
    """Of one direction: how its share in the other's sum is spread, and what speaks against it."""

    spread: Scalar
    ess: Scalar
    shared: Scalar
    inefficiency: Scalar
    doubts: Array


def _overlap(share: Array, given: Works, influence: Array | None = None) -> Overlap:
    """Of the share, by its logarithms; the inefficiency is that of `influence`, the share's own by default."""
    w, n = given.w, given.left
    weights = weigh(share, n)
    if influence is None:
        kept = jnp.isfinite(w) | (n == w.shape[0])
        influence = jnp.where(kept, jnp.expm1(share - weights.log_mean), 0)
    seen, g = correlated(w, influence)
    shared = n * jnp.exp(weights.log_mean)
    doubts = doubt(CORRELATED, seen) | doubt(OVERLAP, ~(shared >= SHARED))
    doubts |= doubt(FEW, ~(weights.ess >= FEWEST)) | doubt(DOMINATED, ~(weights.largest <= LARGEST))
    return Overlap(weights.spread, weights.ess, shared, g, doubts)


def _unlawful(f: Moments, r: Moments) -> Array:
    """Whether the mean works add up to less than zero. (An infinite mean is lawful.)"""
    error = jnp.hypot(f.spread / jnp.sqrt(f.size), r.spread / jnp.sqrt(r.size))
    return doubt(UNLAWFUL, f.mean + r.mean < -SIGHT * error)


def _gap(w_f: Array, w_r: Array, stderr: Scalar) -> Array:
    """Whether no work of one direction lies where those of the other do: Crooks' theorem has them in the same places."""
    lowest = jnp.min(jnp.where(jnp.isfinite(w_f), w_f, jnp.inf))
    highest = jnp.max(jnp.where(jnp.isfinite(w_r), -w_r, -jnp.inf))
    return doubt(OVERLAP, lowest - highest > SIGHT * stderr)


def _otherwise(
    shares: tuple[Array, Array], apart: tuple[Array, Array], overlaps: Sequence[Overlap]
) -> Array:
    r"""Whether the works contradict Crooks' theorem, $\ln p_F(w)/p_R(-w) = b\,(w - \Delta)$ with b = 1, by the score of b.

    In a sample of both directions the share of the forward ones is logistic in $u = w - \Delta$. With f and r as in `bar`,

    $$S = \sum_F f\,(u - c) - \sum_R r\,(u - c), \qquad \mathrm{Var}\,S = \sum_{F, R} p\,(1 - p)\,(u - c)^2,$$

    p = f, r, and c the mean of u with the weights p (1 - p), so that an error of $\Delta$ does not count.
    Source: Shirts, Bair, Hooker & Pande, PRL 91, 140601 (2003), for the likelihood.
    """
    logs, u = jnp.concatenate(shares), jnp.concatenate(apart)
    sign = jnp.concatenate([jnp.ones_like(apart[0]), -jnp.ones_like(apart[1])])
    p = jnp.exp(logs)
    there = jnp.isfinite(u) & (p > 0)
    u = jnp.where(there, u, 0)
    weights = jnp.where(there, p * -jnp.expm1(logs), 0)
    total = jnp.sum(weights)
    u = u - jnp.sum(weights * u) / jnp.where(total > 0, total, 1)
    score = jnp.sum(jnp.where(there, sign * p * u, 0))
    error = norm(jnp.sqrt(weights) * u)
    error *= jnp.sqrt(jnp.maximum(*(of.inefficiency for of in overlaps)))
    return doubt(OTHERWISE, jnp.abs(score) > FALSE_ALARM * error)


def crooks(
    w_forward: Float[Array, " forward"],
    w_reverse: Float[Array, " reverse"],
    *,
    failed: str = "raise",
) -> Estimate:
    r"""Where the two work distributions cross, $p_F(\Delta) = p_R(-\Delta)$, as the crossing of two Gaussians, in nats.

    Exact for Gaussian works, also where they hardly overlap; elsewhere biased whatever the number of paths, so prefer
    `bar`. The arguments are those of `bar`. The standard error is that of the means and variances of the samples,
    Gaussian or not. `reliable` is False where a sample is visibly not Gaussian (its third or fourth cumulant, as a term of
    $-\ln\langle e^{-w}\rangle$, lies four standard errors of a Gaussian sample from zero and exceeds the error bar),
    where a direction has fewer than 100 paths, or where `bar` would say so.

    Source: Crooks, PRE 60, 2721 (1999), eq. 10; Goette & Grubmüller, J. Comput. Chem. 30, 447 (2009), eq. 9.
    """
    return _crooks(*_both(w_forward, w_reverse, failed, infinite=False))


@jax.jit
def _crooks(there: Works, back: Works) -> Estimate:
    (w_f, n_f), (w_r, n_r) = there[:2], back[:2]
    f, r = sample_moments(w_f, n_f), sample_moments(w_r, n_r)
    scale = size_of(jnp.concatenate([f.deviations, r.deviations]))  # so that no square is lost
    mean_f, mean_r, var_f, var_r = (
        f.mean / scale,
        r.mean / scale,
        (f.spread / scale) ** 2,
        (r.spread / scale) ** 2,
    )
    delta, slopes = jax.value_and_grad(lambda of: _crossing(*of))((mean_f, var_f, -mean_r, var_r))
    shares = _shares(scale * delta, w_f, n_f, w_r, n_r)
    errors, overlaps, doubts = [], [], _unlawful(f, r)
    for given, share, m, variance, (by_mean, by_variance) in (
        (there, shares[0], f, var_f, slopes[:2]),
        (back, shares[1], r, var_r, (-slopes[2], slopes[3])),
    ):
        apart = m.deviations / scale
        influence = by_mean * apart + by_variance * (
            apart**2 - jnp.where(jnp.isfinite(given.w), variance, 0)
        )
        overlap = _overlap(share, given, influence)
        overlaps.append(overlap)
        errors.append(norm(influence) / m.size * jnp.sqrt(overlap.inefficiency))
        doubts |= overlap.doubts
    stderr = scale * norm(jnp.stack(errors))
    gaussian = gaussian_within(f, stderr) & gaussian_within(r, stderr)
    few = jnp.minimum(n_f, n_r) < ENOUGH
    doubts |= doubt(SHAPE, ~gaussian & ~few) | doubt(FEW, few)
    value = scale * delta + there.shift
    stderr, rounded = coarse(value, stderr, f.spread + r.spread, there)
    doubts |= rounded | _gap(w_f, w_r, stderr)
    apart = (w_f - scale * delta, -w_r - scale * delta)
    doubts |= _otherwise(shares, apart, overlaps)
    return estimate(value, stderr, jnp.minimum(n_f, n_r), doubts)


def _crossing(mean_f: Scalar, var_f: Scalar, mean_r: Scalar, var_r: Scalar) -> Scalar:
    r"""Where the Gaussians are equal, between their means: $y$ from their middle, with $2h$ the distance of the means,

    $$a y^2 - 2 h s\, y + h^2 a + \ell = 0, \qquad a = v_R - v_F, \quad s = v_R + v_F, \quad
      \ell = v_F v_R \ln(v_F/v_R).$$
    """
    half = 0.5 * (mean_f - mean_r)
    spread = (var_f > 0) & (var_r > 0)
    ratio = jnp.where(spread, var_f, 1) / jnp.where(spread, var_r, 1)
    a, s, log = var_r - var_f, var_r + var_f, var_f * var_r * jnp.log(ratio)
    across = half * s + jnp.where(half < 0, -1, 1) * clipped_root(
        4 * half**2 * var_f * var_r - a * log
    )
    apart = across != 0
    y = jnp.where(apart, (half**2 * a + log) / jnp.where(apart, across, 1), 0)
    return 0.5 * (mean_f + mean_r) + y
