r"""Probabilities of the states of a system that jumps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._guard import untracked
from .._jit import jit
from .._products import matmul
from .._types import Array, Control, Float, Given, Key, Scalar, State
from ..systems import AbstractDiscrete, same, spin_states
from ._base import AbstractKnownDensity


class States(AbstractKnownDensity):
    r"""Probabilities `p` `(n,)` of the `states` `(n, d)` of a system that jumps, $\sum_i p_i = 1$.

    `log_prob(x)` is the logarithm of the probability of x, minus infinity for a state that is not in the list. To look one
    up takes n comparisons, of the list of all spins (`systems.spin_states(d)`) none. `States.boltzmann(system, lam, states)`
    is equilibrium. Draws do not follow p: to differentiate them raises `ValueError`.

    Raises `ValueError` for arrays that do not fit, a negative p, or one that does not add up to 1 (NaN while tracing).
    """

    states: Float[Array, "n d"]
    logs: Float[Array, " n"]
    spins: bool = eqx.field(static=True)

    def __init__(self, states: Given, p: Given):
        states, p = listed("States.states", states), _checks.floating("States.p", p)
        if p.shape != states.shape[:1]:
            raise ValueError(
                f"States.p must hold one probability for each of {len(states)} states, got shape {p.shape}."
            )
        good = jnp.all(p >= 0) & (jnp.abs(jnp.sum(p) - 1) < 1e-3)
        p = _checks.must("States.p", p, good, "probabilities: none negative, of the sum 1")
        self.states, self.logs, self.spins = states, _log(p / jnp.sum(p)), _all_spins(states)

    @staticmethod
    def boltzmann(system: AbstractDiscrete, lam: Control, states: Given) -> "States":
        r"""Equilibrium at a fixed control, $p_i = e^{-U(x_i, \lambda)/T(\lambda)}/Z$. One bath."""
        states = listed("states", states)
        lam = jax.tree_util.tree_map(lambda v: _checks.floating("lam", v), lam)
        if jnp.ndim(system.temperature(lam)):
            raise ValueError(
                "States.boltzmann needs one temperature: with several baths there is no equilibrium. What the rates lead to "
                "is evolve.steady(system, lam, states=states)."
            )
        phi = jax.vmap(lambda x: system.energy(x, lam))(states) / system.temperature(lam)
        return States.of_logs(states, -phi)

    @staticmethod
    def of_logs(states: Given, logs: Array) -> "States":
        """Of logarithms of weights, which are normalised."""
        states = listed("states", states)
        made = States(states, jnp.full(len(states), 1 / len(states), logs.dtype))
        return eqx.tree_at(lambda d: d.logs, made, jax.nn.log_softmax(logs))

    @property
    def p(self) -> Float[Array, " n"]:
        """The probabilities."""
        return jnp.exp(self.logs)

    @jit
    def sample(self, key: Key) -> State:
        i = jax.random.categorical(key, jax.lax.stop_gradient(self.logs))
        message = (
            "A draw from States does not follow its probabilities. Hold them fixed by jax.lax.stop_gradient, or take the "
            'score function, gradient="score".'
        )
        return untracked(self.states[i], self.logs, message=message)

    @jit
    def log_prob(self, x: State) -> Scalar:
        _checks.point("States.log_prob", x, self.states.shape[1])
        if self.spins:
            bits = 2.0 ** np.arange(x.size - 1, -1, -1)
            i = jnp.round(jnp.sum(jnp.where(x > 0, jnp.asarray(bits, x.dtype), 0))).astype(int)
            known = jnp.all(jnp.abs(x) == 1)
        else:
            there = same(self.states, x[None])
            i, known = jnp.argmax(there), jnp.any(there)
        return jnp.where(known, self.logs[i], -jnp.inf)

    def mean(self) -> State:
        r"""$\langle x \rangle$."""
        return matmul(self.p, self.states)

    def entropy(self) -> Scalar:
        r"""$-\sum_i p_i \ln p_i$, in nats."""
        filled = self.logs > -jnp.inf
        logs = jnp.where(filled, self.logs, 0)
        return -jnp.sum(jnp.where(filled, jnp.exp(logs) * logs, 0))

    def normal(self) -> None:
        return None

    def noised(self, scale: Scalar, variance: Scalar) -> "States":
        raise ValueError("States are points; they have no density with noise on top.")


def listed(name: str, states: Given) -> Array:
    """A list of states, `(n, d)`, all different."""
    states = _checks.floating(name, states)
    _checks.rank(name, states, {2}, "(n, d), one row for each state")
    value = _checks.known(states)
    if value is not None and len(np.unique(value, axis=0)) < len(value):
        raise ValueError(
            f"{name} must be different from each other: the list of {len(value)} holds one twice."
        )
    return states


def _all_spins(states: Array) -> bool:
    value, d = _checks.known(states), states.shape[1]
    if value is None or d > 24 or len(states) != 2**d:
        return False
    return bool((value == spin_states(d)).all())


def _log(p: Array) -> Array:
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)
