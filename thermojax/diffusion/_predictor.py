r"""What a network says of a noisy state, in the three ways in which it can be said."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._closures import closed
from .._types import Scalar, State, Time
from ._kinds import VP, AbstractNoising

Predicts = Literal["score", "noise", "clean"]
Network: TypeAlias = Callable[[Any, Any], Any]
"""Any callable `(x, lam)` of one noisy state `(d,)` and the log signal-to-noise ratio, `()`, that gives one like x."""


class Predictor(eqx.Module):
    r"""What is seen in a noisy state $x = a x_0 + s \epsilon$: its score, its noise or the clean state, one giving all,

    $$\nabla \ln p = -\hat\epsilon/s = (a \hat x_0 - x)/s^2, \qquad x = a \hat x_0 + s\,\hat\epsilon .$$

    Made by `predictor`, and taken by all that generates or prices. Calling it gives the score. What the network returns must
    have the shape (`ValueError`) and the precision (`TypeError`) of the state.
    """

    kind: AbstractNoising
    net: Network = eqx.field(converter=closed)
    predicts: Predicts = eqx.field(static=True)
    name: str = eqx.field(static=True, default="net")  # of the network, in errors

    def __call__(self, x: State, lam: Time) -> State:
        return self.score(x, lam)

    def score(self, x: State, lam: Time) -> State:
        r"""$\nabla \ln p_\lambda(x)$."""
        lam = jnp.asarray(lam)
        said = self._said(x, lam)
        if self.predicts == "score":
            return said
        s = self.kind.noise(lam)
        return -said / s if self.predicts == "noise" else (self.kind.signal(lam) * said - x) / s**2

    def noise(self, x: State, lam: Time) -> State:
        r"""$\hat\epsilon$, the noise in x in units of s."""
        lam = jnp.asarray(lam)
        said = self._said(x, lam)
        if self.predicts == "noise":
            return said
        s = self.kind.noise(lam)
        return -s * said if self.predicts == "score" else (x - self.kind.signal(lam) * said) / s

    def clean(self, x: State, lam: Time) -> State:
        r"""$\hat x_0$, the mean of the clean states that x can come from."""
        lam = jnp.asarray(lam)
        said = self._said(x, lam)
        if self.predicts == "clean":
            return said
        a, s = self.kind.signal(lam), self.kind.noise(lam)
        return (x - s * said) / a if self.predicts == "noise" else (x + s**2 * said) / a

    def rescaled(self, kind: AbstractNoising) -> "Predictor":
        """The same network for states in the scale of another kind of noising: it is shown them in its own."""
        if eqx.tree_equal(self.kind, kind) is True:
            return self
        return Predictor(kind, eqx.Partial(_elsewhere, self, kind), self.predicts, self.name)

    def _said(self, x: State, lam: Scalar) -> State:
        out = self.net(x, lam)
        got = out.shape if isinstance(out, jax.Array | np.ndarray) else type(out).__name__
        if got != x.shape:
            raise ValueError(
                f"{self.name}(x, lam) must return a state of shape {x.shape}, got {got}."
            )
        _checks.one_float(**{"x": x, f"what {self.name}(x, lam) returns": out})
        return jnp.asarray(out)


def _elsewhere(own: Predictor, kind: AbstractNoising, x: State, lam: Scalar) -> State:
    # a state is signal and noise in one ratio at all scales: noise and clean state are the same, the score is per length
    scale = own.kind.signal(lam) / kind.signal(lam)
    if own.predicts == "score":
        return scale * own.score(scale * x, lam)
    return own.noise(scale * x, lam) if own.predicts == "noise" else own.clean(scale * x, lam)


def predictor(
    net: Network | Predictor,
    predicts: Predicts,
    *,
    kind: AbstractNoising = VP(),  # noqa: B008
    name: str = "net",
) -> Predictor:
    r"""A network as a `Predictor`, which is made once and passed everywhere.

    - `net`: any callable `(x, lam)` of one state `(d,)` and the log signal-to-noise ratio, e.g. an `equinox.Module`. A
      network that takes a time: `lambda x, lam: net(x, schedule.time(lam))`.
    - `predicts`: what it returns, `"score"`, `"noise"` or `"clean"`.
    - `kind`: the scale of the states that it was trained on; EDM's is `VE()`.
    - `name`: what errors call it.

    Whoever takes it shows it states in its own scale. A `Predictor` is returned as it is, for states of the given kind.
    """
    if predicts not in ("score", "noise", "clean"):
        raise ValueError(f'predicts must be "score", "noise" or "clean", got {predicts!r}.')
    if isinstance(net, Predictor):
        return net.rescaled(kind)
    if not callable(net):
        raise TypeError(f"{name} must be a callable (x, lam), got {net!r}.")
    _checks.takes(name, net, "x", "lam", cure="Wrap it: lambda x, lam: net(x).")
    return Predictor(kind, net, predicts, name)
