r"""Drawings of protocols, works, weights and searches, on axes that the caller made. Needs the extra `thermojax[examples]`.

Not imported with `thermojax`: `import thermojax.plots`. Each function draws, names the axes that have no name yet, and
returns the axes. Keywords left over go to the lines that matplotlib draws; no global state is touched.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _checks
from ._jit import jit
from ._spell import spell as spell
from ._types import Array, ArrayLike, Control, Numbers, PyTree
from .protocols import AbstractKnots, AbstractProtocol

Axes: TypeAlias = Any  # matplotlib.axes.Axes
Pick: TypeAlias = str | int | Callable[[Control], Array] | None
Style: TypeAlias = Any  # what matplotlib's keywords take


def protocol(
    axes: Axes,
    protocol: PyTree,
    *,
    control: Pick = None,
    margin: float = 0.1,
    points: int = 201,
    **style: Style,
) -> Axes:
    r"""$\lambda(t)$ from `before` to `after`, with its end jumps.

    One line per number of the control; with several, each is labelled by its place. `control` selects: a name or an
    index of the control, or a callable of it. `margin` is how much of `before` and `after` is shown, as a share of the
    span; `points` is the number of times inside, to which the knots are added.
    """
    _axes(axes)
    if not isinstance(protocol, AbstractProtocol):
        raise TypeError(
            f"plots.protocol takes a protocol of thermojax.protocols, got {type(protocol).__name__}. "
            "Wrap a callable lam(t) as protocols.Function(fn, t1)."
        )
    if np.ndim(protocol.t0) or np.ndim(protocol.t1):
        raise ValueError(
            "plots.protocol draws one protocol, and this one has its paths as leading axis. Draw one of them: "
            "jax.tree.map(lambda v: v[0], protocol)."
        )
    points = _checks.whole("points", points, "a whole number of times", 2)
    t = _instants(protocol, points)
    lams = (protocol.before, _curve(protocol, t), protocol.after)
    before, inside, after = (_leaves(lam, control, protocol.before) for lam in lams)
    outside = margin * (t[-1] - t[0])
    t = np.r_[t[0] - outside, t[0], t, t[-1], t[-1] + outside]
    label = style.pop("label", None)
    for name in before:
        values = np.r_[[before[name]] * 2, inside[name], [after[name]] * 2]
        own = label if len(before) == 1 else f"{label or ''} {name}".strip()
        axes.plot(t, values, label=own, **style)
    return _named(axes, "time $t$", r"control $\lambda$")


def works(
    axes: Axes,
    forward: Numbers,
    reverse: Numbers | None = None,
    estimate: PyTree = None,
    *,
    bins: int = 60,
    **style: Style,
) -> Axes:
    r"""Histograms of the forward reduced works and of minus the reverse ones, which cross at $\Delta(\beta F)$.

    $p_F(w) = e^{w - \Delta(\beta F)}\,p_R(-w)$ (Crooks). `estimate` is marked as a line with a band of one standard error.
    """
    _axes(axes)
    bins = _checks.whole("bins", bins, "a whole number of bins")
    runs = [("forward, $w$", _works("forward", forward))]
    if reverse is not None:
        runs.append(("reverse, $-w$", -_works("reverse", reverse)))
    mark = None if estimate is None else _estimate("estimate", estimate)
    edges = np.histogram_bin_edges(np.concatenate([w for _, w in runs]), bins)
    for label, w in runs:
        axes.hist(
            w,
            edges,
            **({"density": True, "histtype": "stepfilled", "alpha": 0.5} | style),
            label=label,
        )
    if mark is not None:
        value, error = mark
        axes.axvspan(value - error, value + error, color="k", alpha=0.2, lw=0)
        label = rf"$\Delta(\beta F)$ = {spell(value, error)}"
        axes.axvline(value, color="k", lw=1, label=label)
    return _named(axes, "reduced work $w$", "probability density")


def weights(axes: Axes, w: Numbers, **style: Style) -> Axes:
    r"""The share of $\sum e^{-w}$ that its largest terms carry, one after the other, and the effective sample size.

    A sound average needs many paths for most of its weight. A curve that starts high is dominated by its first path, and
    may miss others that weigh more and were not drawn: don't trust it.
    """
    _axes(axes)
    w = np.sort(_works("w", w))
    weight = np.exp(w[0] - w)
    share = np.cumsum(weight) / weight.sum()
    ess = weight.sum() ** 2 / (weight**2).sum()
    (line,) = axes.plot(np.arange(1, len(w) + 1), share, drawstyle="steps-post", **style)
    label = f"effective sample size {ess:.0f} of {len(w)}"
    axes.axvline(ess, color=line.get_color(), ls=":", lw=1.5, label=label)
    axes.set(xscale="log", ylim=(0, 1.02))
    return _named(axes, "number of paths, heaviest first", r"share of $\sum e^{-w}$")


def history(axes: Axes, search: PyTree, **style: Style) -> Axes:
    """The loss at each update of `optimal.search`, and after the last one the price on fresh noise with its error."""
    _axes(axes)
    try:
        loss, price = np.asarray(search.history.loss), search.price
    except AttributeError as error:
        raise TypeError(
            f"plots.history takes what thermojax.optimal.search returns, got {type(search).__name__}."
        ) from error
    value, stderr = _estimate("search.price", price)
    label = style.pop("label", None)
    (line,) = axes.plot(np.arange(len(loss)), loss, **({"lw": 0.8} | style), label=label)
    axes.errorbar(
        1.04 * len(loss),
        value,
        stderr,
        fmt="o",
        ms=3.5,
        capsize=3,
        color=line.get_color(),
        zorder=3,
    )
    return _named(axes, "update", "loss")


def pricing(axes: Axes, pricing: PyTree, **style: Style) -> Axes:
    r"""The entropies per nat of $\lambda$ of `diffusion.price` against $\lambda$, noise on the right, with their errors.

    Those of the model, `score_error`, and of the physical processes, `noising` and `generation`; those that are not known
    are left out.
    """
    _axes(axes)
    try:
        lam, rates = np.asarray(pricing.levels), pricing.rates._asdict()
    except AttributeError as error:
        raise TypeError(
            f"plots.pricing takes what thermojax.diffusion.price returns, got {type(pricing).__name__}."
        ) from error
    label = style.pop("label", None)
    for name in ("score_error", "noising", "generation"):
        if rates[name] is None:
            continue
        value, error = (np.asarray(part) for part in rates[name])
        own = name.replace("_", " ") if label is None else f"{label}, {name.replace('_', ' ')}"
        (line,) = axes.plot(lam, value, label=own, **style)
        axes.fill_between(
            lam, value - error, value + error, color=line.get_color(), alpha=0.25, lw=0
        )
    if not axes.xaxis_inverted():
        axes.invert_xaxis()
    return _named(axes, r"log signal-to-noise ratio $\lambda$", r"nats per nat of $\lambda$")


@jit
def _curve(protocol: AbstractProtocol, t: ArrayLike) -> Control:
    return jax.vmap(protocol)(t)


def _instants(protocol: AbstractProtocol, points: int) -> np.ndarray:
    """Times inside the span: even ones, and both sides of every knot, run forwards or backwards."""
    t0, t1 = np.asarray(protocol.t0), np.asarray(protocol.t1)
    dtype = jnp.result_type(protocol.t0)
    parts = jtu.tree_leaves(protocol, is_leaf=lambda node: isinstance(node, AbstractKnots))
    knots = [np.asarray(part.ts) for part in parts if isinstance(part, AbstractKnots)]
    at = np.concatenate([*knots, *(t0 + t1 - ts for ts in knots), np.empty(0)]).astype(dtype)
    tiny = 16 * np.finfo(dtype).eps * np.maximum(abs(t0), abs(t1))
    sides = [at - tiny, at, at + tiny]
    return np.sort(
        np.clip(np.concatenate([np.linspace(t0, t1, points, dtype=dtype), *sides]), t0, t1)
    )


def _leaves(lam: Control, control: Pick, like: Control) -> dict[str, np.ndarray]:
    """The numbers of a control, or of a row of controls, by their place in it."""
    if control is not None:
        fields = getattr(like, "_fields", ())  # of a named tuple, as a schedule's level
        batched = any(
            np.ndim(a) > np.ndim(b) for a, b in zip(*map(jtu.tree_leaves, (lam, like)), strict=True)
        )
        pick = (
            control
            if callable(control)
            else lambda one: getattr(one, str(control)) if control in fields else one[control]
        )
        try:
            # an array of JAX gives its last number for an index too large
            like = pick(jtu.tree_map(np.asarray, like))
            lam = jax.vmap(pick)(lam) if batched else pick(lam)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"control must be a name or an index of the control, or a callable of it; got {control!r} for {like!r}."
            ) from error
    found = {}
    shapes = [np.shape(leaf) for leaf in jtu.tree_leaves(like)]
    for (path, leaf), shape in zip(jtu.tree_leaves_with_path(lam), shapes, strict=True):
        name = jtu.keystr(path, simple=True, separator=".")
        for place in np.ndindex(shape):
            where = ",".join(map(str, place))
            found[f"{name}[{where}]" if place else name] = np.asarray(leaf)[(..., *place)]
    return found


def _works(name: str, w: Numbers) -> np.ndarray:
    _checks.floating(name, w)
    w = np.asarray(w, float)
    if w.ndim != 1 or len(w) < 2:
        raise ValueError(
            f"{name} must have shape (paths,), one number per realisation and at least two; got {w.shape}."
        )
    return w


def _estimate(name: str, estimate: PyTree) -> tuple[float, float]:
    try:
        return float(estimate.value), float(estimate.stderr)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"{name} must be an Estimate of thermojax.estimators, with one value and its stderr; got {estimate!r}."
        ) from error


def _axes(axes: object) -> None:
    try:
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            "thermojax.plots needs matplotlib: pip install 'thermojax[examples]'."
        ) from error
    if not isinstance(axes, Axes):
        raise TypeError(
            f"axes must be one matplotlib Axes, got {type(axes).__name__}. "
            "Example: figure, axes = plt.subplots()."
        )


def _named(axes: Axes, x: str, y: str) -> Axes:
    axes.set(xlabel=axes.get_xlabel() or x, ylabel=axes.get_ylabel() or y)
    return axes
