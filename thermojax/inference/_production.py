r"""From recordings to a bound: the verb of the room, and what it refuses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import _checks
from .._guard import size_of
from .._jit import jit
from .._nodes import evenly
from .._types import Array, Given, Key
from ._currents import Features, Frame, odd
from ._infer import WEIGHTS, How, inferred
from ._network import Network, Training
from ._recordings import Recordings, recordings
from ._result import LEAST, Inferred
from ._score import Field

TAKES = {
    "max_entropy": {"features"},
    "tur": {"features"},
    "neep": {"network"},
    "score": {"score", "drift"},
}
LOOK = 1000  # pairs of frames that a user's function is tried on


def entropy_production(
    xs: Given,
    dt: Given = None,
    *,
    lag: int = 1,
    method: str = "max_entropy",
    features: Features | None = None,
    network: Network | None = None,
    score: Field | None = None,
    drift: Field | None = None,
    period: Given = None,
    extrapolate: int = 0,
    folds: int = 5,
    key: Key | None = None,
    steps: int = 2000,
    batch: int = 512,
    optimizer: optax.GradientTransformation | None = None,
) -> Inferred:
    r"""A bound on the rate of entropy production, in nats per time, from recordings `xs` of a steady state, in one line.

    `xs` is an array `(frames, d)` or `(recordings, frames, d)`, a `Path`, what `measured.read_csv` gives, or a list of
    any of these, of any lengths; `dt` is the time between two frames, which a path knows itself. Pairs $(x_0, x_1)$ that
    were drawn one by one are recordings of two frames: `jnp.stack([x0, x1], 1)`. The coordinates are even under time
    reversal: positions, no velocities. Bounded is the entropy production of two frames that are `lag` frames, the time
    $\tau$, apart,

    $$\Sigma_\tau = \Big\langle \ln \frac{p(x_0, x_1)}{p(x_1, x_0)} \Big\rangle \ge F[h], \quad h(x_1, x_0) = -h(x_0, x_1),
      \qquad \frac{\Sigma_\tau}{\tau} \le \dot S_\mathrm{tot} .$$

    The last is an equality for short lags, if everything that is out of equilibrium was recorded. `method` says how h is
    learnt, and how it is priced:

    - `"max_entropy"`: $h = \theta \cdot g$ and $F = \langle h \rangle - \ln\langle e^{-h} \rangle$, a convex problem. With
      the default `features` it is tight for linear systems at every lag.
    - `"tur"`: the same h, and $F = 2\langle h \rangle - \frac12\langle h^2 \rangle$, whose best is the uncertainty relation
      $2 \langle J \rangle^2/\langle J^2 \rangle$ of the best current J. It has no exponential, and is tight for short
      lags. It is the mean square, not the variance, that makes it a bound at any lag.
    - `"neep"`: h is that of a network, trained with the `key` on the F of `"max_entropy"`, in `steps` of `batch` pairs by
      `optimizer` (Adam's). `network(x0, x1)` is your own; the default has two layers of 32.
    - `"score"`: $h = D^{-1} v \circ dx$ with the local mean velocity $v = b - D \nabla \ln p$, of a `score(x)` and a
      `drift(x)`, and the F of `"max_entropy"`. By default they are a Gaussian's score and a linear drift, of the frames.

    `features(x0, x1)`, `(m,)`, are yours; of any, the part that changes sign under exchange is taken. By default they
    are displacements times midpoints, $(x_1 - x_0)_i\,(x_0 + x_1)_j/2$, $d^2$ of them. They see how two coordinates
    turn about each other, so one alone has none, unless it is an angle: `period` is its full turn, one number for all
    coordinates or one for each, None where it is no angle. An angle's displacement counts by itself, too. Your own
    functions must not change when all they take is a full turn on; they see pairs the short way round.

    The recordings are cut into `folds`, at least 4, and each is priced by an h learnt from the others. So the expected
    value lies below $\Sigma_\tau$ by what learning costs, up to $2m/n$ nats for m features and n pairs; `corrected` is
    without. The standard error is from 20 blocks of time in each fold, which must be longer than the memory of the system.
    $\pm 1.96$ of it cover the expected value of the bound. `significant` is one-sided: equilibrium is called driven in
    less than 2.5 % of all recordings.

    `extrapolate=1`, or 2, makes a rate at short lag of those at 1, 2 (and 3) times the lag, by a straight line (a
    parabola): an estimate then, with an error of its own, and no bound.

    `reliable` is False, and `why` says so, for too few independent frames, a heavy tail of $e^{-h}$, recordings that drift,
    or that are not much longer than their memory.

    Source: Aguilera, Ito & Kolchinsky, PRL 136, 077101 (2026), arXiv:2505.10444 (maximum entropy); Otsubo et al., PRE 101,
    062106 (2020) (tur); Timpanaro et al., PRL 123, 090604 (2019) (its form at any lag); Kim et al., PRL 125, 140604 (2020)
    (neep); Boffi & Vanden-Eijnden, arXiv:2309.12991 (score).
    """
    if method not in TAKES:
        raise ValueError(f"method must be one of {', '.join(TAKES)}, got {method!r}.")
    lag = _checks.whole("lag", lag, "a number of frames")
    folds = _checks.whole("folds", folds, "a number of parts of the recordings", 4)
    if isinstance(extrapolate, bool) or extrapolate not in (0, 1, 2):
        raise ValueError(f"extrapolate must be 0, 1 or 2, got {extrapolate!r}.")
    own = {"features": features, "network": network, "score": score, "drift": drift}
    for name in own.keys() - TAKES[method]:
        if own[name] is not None:
            other = next(other for other, names in TAKES.items() if name in names)
            raise ValueError(f'{name} is not for method="{method}", but for "{other}".')
    given = recordings(xs, dt)
    _enough(given, lag, len(WEIGHTS[extrapolate]))
    frame = _frame(given, period)
    if method == "score" and any(frame.angles) and (score is None or drift is None):
        missing = " and ".join(f"{name}=" for name in ("score", "drift") if own[name] is None)
        raise ValueError(
            f'method="score" with period= needs {missing}, fields on the ring: by default they are a Gaussian\'s score and '
            "a linear drift, which a full turn changes. Or take the default method."
        )
    _seen(given.xs, lag, frame, **own)
    for name, fn in own.items():
        if fn is not None and any(frame.angles):
            given = given._replace(xs=_on_the_ring(name, fn, given.xs, lag, frame))
    if method in ("max_entropy", "tur") and features is None and frame.size == 1:
        raise ValueError(
            "xs has one coordinate, which carries no current that the default features could see: a pair of frames of it "
            "looks the same backwards. Record a second one, give period= if it is an angle, or features=."
        )
    training = None
    if method == "neep":
        key = _checks.key("key", key)
        training = Training(
            _checks.whole("steps", steps, "a number of steps"),
            _checks.whole("batch", batch, "a number of pairs", 2),
            optax.adam(1e-3) if optimizer is None else optimizer,
        )
    how = How(method, features, network, score, drift, training)
    return inferred(given, frame, how, key, lag, folds, WEIGHTS[extrapolate])


def _enough(given: Recordings, lag: int, lags: int) -> None:
    """There are pairs at all lags, and enough of them."""
    frames, lengths = given.xs.shape[1], _checks.known(given.lengths)
    lengths = np.full(given.xs.shape[0], frames) if lengths is None else lengths
    longest = lag * lags
    if longest >= lengths.max():
        raise ValueError(
            f"lag must be shorter than a recording, got {longest} frames of {lengths.max()}"
            f"{', with extrapolate=' + str(lags - 1) if lags > 1 else ''}."
        )
    left = int(np.maximum(lengths - longest, 0).sum())
    if left < LEAST:
        raise ValueError(
            f"xs has {left} pairs of frames {longest} apart: an error bar takes at least {LEAST}. Record for longer."
        )


def _frame(given: Recordings, period: Given) -> Frame:
    """The units of the coordinates; one that never moves is refused."""
    d, dtype = given.xs.shape[-1], given.xs.dtype
    if period is None or np.ndim(period) == 0:
        spans = [period] * d
    else:
        spans = list(period)
    if len(spans) != d:
        raise ValueError(
            f"period must be one number or one for each of {d} coordinates, got {len(spans)}."
        )
    angles = tuple(span is not None for span in spans)
    sizes = [
        jnp.ones((), dtype)
        if span is None
        else _checks.floating("period", span, positive=True).astype(dtype)
        for span in spans
    ]
    frame = _units(given, jnp.stack(sizes), angles)
    spread = _checks.known(frame.scale)
    if spread is not None and not (spread > 0).all():
        still = np.flatnonzero(~(spread > 0)).tolist()
        raise ValueError(f"xs[..., {still}] never change: leave these coordinates out.")
    return frame


@jit
def _units(given: Recordings, span: Array, angles: tuple[bool, ...]) -> Frame:
    there = jnp.arange(given.xs.shape[1])[None] < given.lengths[:, None]
    weights = there.astype(given.xs.dtype)[..., None]
    n = jnp.sum(weights)
    centre = jnp.sum(given.xs * weights, (0, 1)) / n
    apart = (given.xs - centre[None, None]) * weights
    size = jax.vmap(size_of, 2)(apart)  # squares of small numbers underflow
    spread = size * jnp.sqrt(jnp.sum((apart / size[None, None]) ** 2, (0, 1)) / n)
    return Frame(centre, spread, span, angles)


def _seen(
    xs: Array,
    lag: int,
    frame: Frame,
    features: Features | None,
    network: Network | None,
    score: Field | None,
    drift: Field | None,
) -> None:
    """What a user's functions return is as it should be."""
    x = xs[0, 0]
    for name, field in (("score", score), ("drift", drift)):
        if field is not None:
            _checks.takes(name, field, "x")
            _checks.like(name, x, field, x)
    if network is not None:
        _checks.takes("network", network, "x0", "x1")
        _checks.shapes("network", network, x, x)
    if features is None:
        return
    _checks.takes("features", features, "x0", "x1")
    shape = _checks.shapes("features", features, x, x)
    if not isinstance(shape, jax.ShapeDtypeStruct) or len(shape.shape) > 1:
        raise ValueError(f"features must return one array (m,), got {shape}.")
    if _checks.tracing(xs):
        return
    whole, part = _sizes(features, *_some_pairs(xs, lag, frame))
    wrong = np.flatnonzero(~np.isfinite(whole))
    if wrong.size:
        raise ValueError(f"features {wrong.tolist()} are not finite at these frames.")
    wrong = np.flatnonzero(part <= 1e3 * np.finfo(part.dtype).eps * whole)
    if wrong.size:
        raise ValueError(
            f"features {wrong.tolist()} do not change when the two frames are exchanged: no part of them is odd, and they "
            "see no irreversibility. Leave them out; (x1 - x0) times a function of the midpoint is odd."
        )


def _on_the_ring(name: str, fn: Callable[..., Array], xs: Array, lag: int, frame: Frame) -> Array:
    """The frames, if a full turn does not change what a user's function sees of them: by a thousandth, or its rounding."""
    x0, x1 = _some_pairs(xs, lag, frame)
    if name in ("score", "drift"):
        seen = lambda turn: (jax.vmap(fn)(x0 + turn),) * 2
    else:
        pair = lambda a, b: jnp.ravel(jnp.asarray(fn(a, b)))
        seen = lambda turn: (
            jax.vmap(pair)(x0 + turn, x1 + turn),
            odd(pair, x0 + turn, x1 + turn),
        )
    whole, part = seen(jnp.zeros_like(x0))
    size, limit = (jnp.max(jnp.abs(v), 0) for v in (whole, part))
    for i in np.flatnonzero(np.array(frame.angles)):
        turn = jnp.where(np.arange(xs.shape[-1]) == i, frame.span, 0)[None]
        grain = 64 * jnp.finfo(x0.dtype).eps * (1 + jnp.max(jnp.abs(x0[:, i])) / frame.span[i])
        changed = jnp.max(jnp.abs(seen(turn)[1] - part), 0)
        good = jnp.all(changed <= 1e-3 * limit + grain * size)
        allowed = (
            f"the same a full turn on, as xs[..., {i}] is an angle: what the period= of {frame.span[i]} changes is no "
            f"{'field' if name in ('score', 'drift') else 'current'} on the ring, and calls equilibrium driven. Write it in "
            f"cos(2 pi x[{i}] / period) and sin"
        )
        xs = _checks.must(name, xs, good, allowed)
    return xs


def _some_pairs(xs: Array, lag: int, frame: Frame) -> tuple[Array, Array]:
    """Some pairs of frames, the short way round."""
    x0, x1 = (x.reshape(-1, x.shape[-1]) for x in (xs[:, :-lag], xs[:, lag:]))
    few = evenly(len(x0), LOOK)
    x0, x1 = x0[few], x1[few]
    return x0, x0 + jax.vmap(frame.short)(x1 - x0)


def _sizes(features: Features, x0: Array, x1: Array) -> tuple[np.ndarray, np.ndarray]:
    """How large each feature is, and its odd part, on pairs of frames."""
    whole = jax.vmap(lambda a, b: jnp.ravel(features(a, b)))(x0, x1)
    return (
        np.abs(np.asarray(whole)).max(0),
        np.abs(np.asarray(odd(features, x0, x1))).max(0),
    )
