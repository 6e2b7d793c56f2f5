r"""From the works of a process and of its reverse."""

import jax
import jax.numpy as jnp
import optimistix as optx

from .. import _checks
from .._types import Array, Float, Scalar
from ._base import SIGHT, Estimate, clipped_root, gaussian_within, sample_moments, weigh, works

SHARED = 25.0  # works of one direction that must lie where those of the other do


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
    `reverse_grid`), each done ON the system and each from equilibrium; the two numbers may differ. With $f$ and $r$ the
    terms of the two sums, the standard error is that of Bennett for independent paths,
    $\sigma^2 = \sum f^2/(\sum f)^2 - 1/n_F + \sum r^2/(\sum r)^2 - 1/n_R$. `ess` is the smaller of $(\sum f)^2/\sum f^2$
    and $(\sum r)^2/\sum r^2$.

    `reliable` is False without enough overlap: if `ess` is under 100, if one path carries more than a tenth of either
    sum, or if fewer than 25 works of one direction lie where those of the other do ($\sum f$): the error bar is then too
    small. It is also False if the mean works add up to less than zero, against the second law.

    The derivative is that of the root, by the implicit function theorem.

    Source: Bennett, J. Comput. Phys. 22, 245 (1976), eqs. 12 and 13; Shirts, Bair, Hooker & Pande, PRL 91, 140601 (2003).
    """
    forward, reverse = works("w_forward", w_forward, failed), works("w_reverse", w_reverse, failed)
    _checks.one_float(w_forward=forward[0], w_reverse=reverse[0])
    return _bar(*forward, *reverse)


@jax.jit
def _bar(w_f: Array, n_f: Array, w_r: Array, n_r: Array) -> Estimate:
    shift = jax.lax.stop_gradient(
        sample_moments(w_f, n_f).mean
    )  # so that rounding is that of the spread
    w_f, w_r = w_f - shift, w_r + shift
    fine = ~(jnp.any(jnp.isnan(w_f)) | jnp.any(jnp.isnan(w_r)))
    w_f, w_r = (jnp.where(fine, w, 0) for w in (w_f, w_r))
    ends = jnp.concatenate([w_f, -w_r])
    lower = jnp.min(jnp.where(jnp.isfinite(ends), ends, jnp.inf))
    upper = jnp.max(jnp.where(jnp.isfinite(ends), ends, -jnp.inf))
    exact = 16 * float(jnp.finfo(w_f.dtype).eps)

    def balance(delta: Scalar, args: tuple[Array, ...]) -> Scalar:
        forward, reverse = _shares(delta, *args)
        return jax.nn.logsumexp(forward) - jax.nn.logsumexp(reverse)

    delta = optx.root_find(
        balance,
        optx.Bisection(rtol=exact, atol=exact, flip=False),
        0.5 * (lower + upper),
        (w_f, n_f, w_r, n_r),
        options={"lower": lower - 1, "upper": upper + 1},
        max_steps=200,
        throw=False,  # at rounding's limit the interval cannot be halved further
    ).value
    stderr, ess, reliable = _overlap(delta, w_f, n_f, w_r, n_r)
    return Estimate(
        jnp.where(fine, delta + shift, jnp.nan),
        jnp.where(fine, stderr, jnp.nan),
        ess,
        reliable & fine,
    )


def _shares(delta: Scalar, w_f: Array, n_f: Array, w_r: Array, n_r: Array) -> tuple[Array, Array]:
    """The logarithms of the terms of the two sums: how likely each work is to come from the other direction."""
    m = jnp.log(n_f / n_r)
    return -jax.nn.softplus(m + w_f - delta), -jax.nn.softplus(-m + w_r + delta)


def _overlap(
    delta: Scalar, w_f: Array, n_f: Array, w_r: Array, n_r: Array
) -> tuple[Scalar, Scalar, Array]:
    forward, reverse = _shares(delta, w_f, n_f, w_r, n_r)
    f, r = weigh(forward, n_f), weigh(reverse, n_r)
    stderr = clipped_root(1 / f.ess - 1 / n_f + 1 / r.ess - 1 / n_r)
    shared = jnp.minimum(n_f * jnp.exp(f.log_mean), n_r * jnp.exp(r.log_mean))
    there, back = sample_moments(w_f, n_f), sample_moments(w_r, n_r)
    lawful = there.mean + back.mean >= -SIGHT * clipped_root(
        there.variance / n_f + back.variance / n_r
    )
    reliable = f.reliable & r.reliable & (shared >= SHARED) & lawful
    return stderr, jnp.minimum(f.ess, r.ess), reliable


def crooks(
    w_forward: Float[Array, " forward"],
    w_reverse: Float[Array, " reverse"],
    *,
    failed: str = "raise",
) -> Estimate:
    r"""Where the two work distributions cross, $p_F(\Delta) = p_R(-\Delta)$, as the crossing of two Gaussians, in nats.

    Exact for Gaussian works, also where they hardly overlap; elsewhere biased whatever the number of paths, so prefer
    `bar`. The arguments are those of `bar`. The standard error is that of the means and variances of the samples,
    Gaussian or not. `reliable` is False where a sample is visibly not Gaussian (as in `second_cumulant`), where a direction
    has fewer than 100 paths, or where fewer than 25 works of one direction lie where those of the other do.

    Source: Crooks, PRE 60, 2721 (1999), eq. 10; Goette & Grubmüller, J. Comput. Chem. 30, 447 (2009), eq. 9.
    """
    forward, reverse = works("w_forward", w_forward, failed), works("w_reverse", w_reverse, failed)
    _checks.one_float(w_forward=forward[0], w_reverse=reverse[0])
    return _crooks(*forward, *reverse)


@jax.jit
def _crooks(w_f: Array, n_f: Array, w_r: Array, n_r: Array) -> Estimate:
    f, r = sample_moments(w_f, n_f), sample_moments(w_r, n_r)
    of = (f.mean, f.variance, -r.mean, r.variance)
    delta, slopes = jax.value_and_grad(lambda of: _crossing(*of))(of)
    square = jnp.zeros_like(delta)
    for m, kept, (by_mean, by_variance) in (
        (f, jnp.isfinite(w_f), slopes[:2]),
        (r, jnp.isfinite(w_r), (-slopes[2], slopes[3])),
    ):
        influence = by_mean * m.deviations + by_variance * (
            m.deviations**2 - jnp.where(kept, m.variance, 0)
        )
        square = square + jnp.sum(influence**2) / m.size**2
    stderr = clipped_root(square)
    _, _, overlap = _overlap(delta, w_f, n_f, w_r, n_r)
    gaussian = gaussian_within(f, stderr) & gaussian_within(r, stderr)
    return Estimate(delta, stderr, jnp.minimum(n_f, n_r), gaussian & overlap & jnp.isfinite(delta))


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
