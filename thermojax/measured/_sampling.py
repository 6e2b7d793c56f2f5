r"""Whether measured paths were sampled finely enough for their works."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._ledger import account, reduced_work
from .._nodes import evenly
from .._paths import Path
from .._process import Process, a_process, baths, each_path
from .._stiff import rate
from .._types import Array, Scalar, State
from ..estimators import jarzynski
from ..systems import AbstractDiffusion, AbstractUnderdamped

LOOKS = 32  # times along a path at which it is looked at
LONGEST = 4  # and so many of its longest intervals
MANY = 8  # paths from which a mean over them is subtracted
RELAXED = 1.0  # longest interval, in relaxation times, for one per cent of the work of a long drive
RELAXED_ALONE = 0.25  # the same for any drive
NIL = 1e-3  # nats, a shift that is none
ALIKE = 1.5  # within this factor, and four standard errors, a mean square step is the one expected


class Sampling(NamedTuple):
    r"""How finely paths were sampled, and what that does.

    `interval` is the time h between two samples and `relaxation` the time $\tau$ of the fastest relaxation, where their
    `ratio` $h/\tau$ is largest; `variance` is the factor $(h/2\tau)\coth(h/2\tau)$ by which the variance of the work is
    too large; `shift` is by how much a Jarzynski estimate is off for it, in nats, to be compared with the standard error
    `stderr` of that estimate (NaN for a single path, or baths of different temperatures). `diffusion` is the mean square
    step over that expected of the system's mobility and temperature. `enough` is the verdict.
    """

    interval: Scalar
    relaxation: Scalar
    ratio: Scalar
    variance: Scalar
    shift: Scalar
    stderr: Scalar
    diffusion: Scalar
    enough: Array


def sampling(process: Process, path: Path) -> Sampling:
    r"""Whether the samples of `path` are close enough for the ledger, told from the system and from the path itself.

    Between two samples the system relaxes unseen. For a trap of relaxation time $\tau$, slowly dragged, the mean work
    survives that longer than its variance does, which becomes

    $$\mathrm{var}\,W \to \frac{h}{2\tau} \coth \frac{h}{2\tau}\; \mathrm{var}\,W \approx
      \left(1 + \frac{h^2}{12 \tau^2}\right) \mathrm{var}\,W ,$$

    and estimates of free energies with it: by half of the excess, downwards, for Gaussian work. $1/\tau$ is the norm of
    $\partial_x (\mu F)$, averaged over the paths, at the time at which $h/\tau$ is largest.

    `enough`: h is within $\tau$ and the shift within half a standard error of `jarzynski` (for a single path: h is within
    $\tau/4$), and the mean square step is within a factor 1.5 (or four
    standard errors) of what mobility and temperature say; the default mobility of 1
    is seldom that of a laboratory. A `UserWarning` says what is not enough, and the cure. Drives that are over within a
    relaxation time need $h \le \tau/4$ for one per cent of the mean work.

    Raises `TypeError` for a system without a drift, and for one with momenta.
    """
    a_process("process", process)
    if isinstance(process.system, AbstractUnderdamped):
        raise TypeError(
            "sampling holds the time between two samples against the relaxation of an overdamped system, and "
            f"{type(process.system).__name__} is none. Leave out every other sample, and see whether the work changes."
        )
    AbstractDiffusion.needed_by("sampling", process.system)
    run = account(process, path)
    found, alike = _looked(process, run.path)
    shift = stderr = jnp.full_like(found.ratio, jnp.nan)
    if run.work.ndim and run.work.shape[0] > 1 and not baths(process, run.path.ts.reshape(-1)):
        w = reduced_work(process, run)
        kept = jnp.isfinite(w)
        middle = jnp.mean(w, where=kept)
        excess = jnp.mean((w - middle) ** 2, where=kept) * (1 - 1 / found.variance)
        shift, stderr = -0.5 * excess, jarzynski(w, failed="drop").stderr
    close = jnp.where(
        jnp.isnan(shift),
        found.ratio <= RELAXED_ALONE,
        (found.ratio <= RELAXED) & (abs(shift) <= jnp.maximum(0.5 * stderr, NIL)),
    )
    found = found._replace(shift=shift, stderr=stderr, enough=close & alike)
    _warn(found, _checks.known(close), _checks.known(alike))
    return found


def _warn(found: Sampling, close: np.ndarray | None, alike: np.ndarray | None) -> None:
    if alike is not None and not alike:
        warnings.warn(
            f"The mean square step of the paths is {found.diffusion:.3g} times that expected of the system's mobility and "
            "temperature. Check mobility= (its default of 1 is no laboratory's) and the units of length, time and energy; "
            "noise of the detector makes steps longer.",
            stacklevel=3,
        )
    if close is not None and not close:
        wanted = RELAXED_ALONE * found.relaxation
        off = ""
        if not np.isnan(found.shift):
            off = f", and a Jarzynski estimate is off by {found.shift:.2g}, its error {found.stderr:.2g}"
            wanted = np.fmin(
                RELAXED * found.relaxation,
                found.interval * np.sqrt(max(0.5 * found.stderr, NIL) / abs(found.shift)),
            )
        warnings.warn(
            f"The samples are {found.ratio:.3g} relaxation times apart: the variance of the work is "
            f"{100 * (found.variance - 1):.2g} % too large{off}. Sample every {wanted:.2g}, not every {found.interval:.2g}.",
            stacklevel=3,
        )


@jit
def _looked(process: Process, path: Path) -> tuple[Sampling, Array]:
    """What the system says of the relaxation, and the paths of their steps, at some of the times; and whether both agree."""
    steps = path.xs.shape[-2] - 1
    at = evenly(steps, LOOKS)
    looks = each_path(lambda process, path: _at(process, path, at), (process,), path)
    h, rate, noise, kept = (v.reshape(-1, v.shape[-1]) for v in looks[1:])
    errors = looks[0].reshape(*h.shape, path.xs.shape[-1])

    def over_paths(v: Array) -> Array:
        return jnp.mean(v, axis=0, where=kept)

    ratios = over_paths(h * rate)
    i = jnp.nanargmax(ratios)
    interval, ratio = over_paths(h)[i], ratios[i]
    # of the longest intervals the length alone counts
    errors, noise, kept = (v[:, : len(at)] for v in (errors, noise, kept))
    z = 0.5 * ratio
    small = z < 0.01
    variance = jnp.where(small, 1 + z**2 / 3, z / jnp.tanh(jnp.where(small, 1, z)))
    errors = jnp.where(kept[..., None], errors, 0)
    count = jnp.maximum(jnp.sum(kept, 0), 1)[None, :, None].astype(errors.dtype)
    if errors.shape[0] >= MANY:  # about their mean, which is what a step so long does not tell
        errors = jnp.where(kept[..., None], errors - jnp.sum(errors, 0, keepdims=True) / count, 0)
        errors = errors * jnp.sqrt(count / jnp.maximum(count - 1, 1))
    diffusion = jnp.sum(errors**2) / jnp.sum(jnp.where(kept, noise, 0))
    within = ALIKE + 4 * jnp.sqrt(2 / (path.xs.shape[-1] * jnp.sum(count)))
    unknown = jnp.full_like(ratio, jnp.nan)
    found = Sampling(
        interval, interval / ratio, ratio, variance, unknown, unknown, diffusion, ratio < 0
    )
    return found, (diffusion < within) & (diffusion > 1 / within)


def _at(process: Process, path: Path, at: np.ndarray) -> tuple[Array, ...]:
    r"""For the steps `at` and the longest: what is unexpected of them, their length, the rate of relaxation, the mean square
    of the noise expected, and whether they count. With the curvature of each coordinate held over the step, $z = h/\tau_i$,

    $$\Delta x_i = b_i h\, \frac{1 - e^{-z}}{z} \pm \sqrt{2 D_i h\, \frac{1 - e^{-2z}}{2z}} .$$
    """
    system = AbstractDiffusion.needed_by("sampling", process.system)
    moves = jnp.any(path.xs[:-1] != path.xs[-1:], axis=-1)  # not yet held at the last sample
    moving = jnp.cumsum(moves[::-1])[::-1] > 0
    longest = jax.lax.top_k(jnp.where(moving, jnp.diff(path.ts), 0), min(LONGEST, len(moves)))[1]
    steps = jnp.concatenate([jnp.asarray(at, longest.dtype), longest])
    kept = path.ok & moving[steps]

    def one(x0: State, x1: State, t0: Scalar, t1: Scalar) -> tuple[State, Scalar, Scalar, Scalar]:
        h, lam = t1 - t0, process.protocol(0.5 * (t0 + t1))
        slopes = jax.jacfwd(lambda x: system.drift(x, lam))(x0)
        z = -jnp.diagonal(slopes) * h
        expected = system.drift(x0, lam) * h * _decay(z)
        noise = 2 * system.diffusion(x0, lam) * h * _decay(2 * z)
        return x1 - x0 - expected, h, rate(system, x0, lam), jnp.sum(noise + 0 * z)

    ts, xs = path.ts, jnp.where(jnp.isfinite(path.xs), path.xs, 0)
    return *jax.vmap(one)(xs[steps], xs[steps + 1], ts[steps], ts[steps + 1]), kept


def _decay(z: Array) -> Array:
    r"""$(1 - e^{-z})/z$."""
    small = abs(z) < 1e-4
    return jnp.where(small, 1 - 0.5 * z, -jnp.expm1(-z) / jnp.where(small, 1, z))
