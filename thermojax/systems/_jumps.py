r"""Markov jump systems with local detailed balance."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._types import Array, Control, Given, Potential, Scalar, State
from ._base import AbstractKernelStep, Rule
from ._discrete import callable_of, number_of
from ._markov import AbstractJumps, Events
from ._once import Once
from ._overdamped import Constant, Driven

Rates: TypeAlias = Callable[[State, Control], Events]


class Jumps(AbstractJumps):
    r"""A Markov jump system, with rates that depend on the control, and one bath or several.

    **Arguments:**

    - `rates`: $k_e(x, \lambda)$, a callable `(x, lam) -> (events,)`; zero where an event is not possible.
    - `after`: where each event leads, a callable `(x) -> (events, d)`.
    - `energy`: $U(x, \lambda)$, a callable `(x, lam) -> scalar`, or None for zero.
    - `work`: the work $w_e(x, \lambda)$ of a force that is no gradient, `(x, lam) -> (events,)`; None: there is none, and
      the rates must obey detailed balance with `energy`; `"rates"`: what the rates imply, $T \ln k_e/k'_e + \Delta U$.
    - `temperature`: $T > 0$: a scalar, `(baths,)`, or a callable of `lam`.
    - `bath`: with several baths, which one each event is of: whole numbers, one for each event.

    The step is `Once`, at most one jump a step, so steps should be short: $dt \sum_e k_e$ at most 0.05. Above 0.25 a run
    under the alternating rule warns. Two levels, E apart:

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx

    level = tjx.Jumps(
        rates=lambda x, lam: jax.nn.sigmoid(jnp.stack([lam * (2 * x[0] - 1)])),  # ln k/k' = -dU/T
        after=lambda x: (1 - x)[None],
        energy=lambda x, lam: lam * x[0],
    )
    ```

    Source: Seifert, Rep. Prog. Phys. 75, 126001 (2012), sec. 6; Van den Broeck & Esposito, Physica A 418, 6 (2015).
    """

    transitions: Rates
    moves: Callable[[State], Array]
    potential: Potential | None
    driven: Rates | None
    implied: bool = eqx.field(static=True)
    temperature: Constant | Driven  # pyright: ignore[reportIncompatibleMethodOverride]
    bath: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        rates: Rates,
        after: Callable[[State], Array],
        energy: Potential | None = None,
        work: Rates | Literal["rates"] | None = None,
        temperature: Given = 1.0,
        bath: Given = None,
    ):
        self.transitions = callable_of("Jumps.rates", rates, "x", "lam")
        self.moves = callable_of("Jumps.after", after, "x")
        self.potential = None if energy is None else callable_of("Jumps.energy", energy, "x", "lam")
        self.implied = isinstance(work, str)
        if self.implied and work != "rates":
            raise ValueError(
                f'Jumps.work must be a callable (x, lam), "rates" or None; got {work!r}.'
            )
        given = work is not None and not self.implied
        self.driven = callable_of("Jumps.work", work, "x", "lam") if given else None
        self.temperature = number_of("Jumps.temperature", temperature)  # pyright: ignore
        self.bath = None if bath is None else tuple(map(int, np.asarray(bath).reshape(-1)))

    def energy(self, x: State, lam: Control) -> Scalar:
        return jnp.zeros((), x.dtype) if self.potential is None else self.potential(x, lam)

    def rates(self, x: State, lam: Control) -> Events:
        return self.transitions(x, lam)

    def after(self, x: State) -> Array:
        return self.moves(x)

    def work(self, x: State, lam: Control) -> Events | None:
        return None if self.driven is None else self.driven(x, lam)

    def step(self, rule: Rule) -> AbstractKernelStep:
        return Once()

    def positive(self, lam: Control) -> dict[str, Array]:
        driven = isinstance(self.temperature, Driven)
        return {"temperature": self.temperature(lam)} if driven else {}
