r"""What a Markov jump system is, and what one of its jumps exchanges: local detailed balance."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._nodes import evenly
from .._types import Array, Bool, Control, Drive, Float, Scalar, State, Times
from ._base import AbstractSystem, Exchange
from ._discrete import AbstractDiscrete, same, slack, temperature_fits
from ._precision import one_precision

Events = Float[Array, " events"]

REACHED = 32  # states that are looked at for what is wrong
HASTY = 0.25  # jumps due in a step; there work is off by 3 %, what is dissipated by a third
SEEN, STEPS = 64, 256  # states of a run, and steps, whose rates are looked at


class AbstractJumps(AbstractDiscrete):
    r"""A Markov jump system: event e leads from x to $y_e$ (`after`) at the rate $k_e(x, \lambda)$ (`rates`).

    Local detailed balance gives the jump its heat. With $w_e$ the work of what is no potential energy and $k'_e$ the rate
    of the way back, through the same bath,

    $$\ln\frac{k_e}{k'_e} = \frac{Q_e}{T}, \qquad Q_e = U(x, \lambda) - U(y_e, \lambda) + w_e .$$

    One of one's own gives energy, temperature, rates, after, work, implied, bath, step (`Once`) and positive; the rest
    follows. A run in which a jump breaks local detailed balance is not `ok`, and an eager call says which pair of states
    does.
    """

    @abc.abstractmethod
    def rates(self, x: State, lam: Control) -> Events:
        r"""$k_e(x, \lambda) \ge 0$, `(events,)`; zero where there is no such event."""

    @abc.abstractmethod
    def after(self, x: State) -> Float[Array, "events d"]:
        """Where each event leads, `(events, d)`."""

    @abc.abstractmethod
    def work(self, x: State, lam: Control) -> Events | None:
        r"""$w_e(x, \lambda)$, `(events,)`; None: there is none, all of the heat is potential energy."""

    implied: eqx.AbstractVar[bool]  # the work is what the rates imply, whatever `work` says
    bath: eqx.AbstractVar[tuple[int, ...] | None]  # that of each event; None: there is one

    def exchange(self, x0: State, x1: State, lam: Control, lost: Scalar) -> Exchange:
        r"""$w$, $Q = -\Delta U + w$ and $\Delta S_m = Q/T$ of the event that leads from x0 to x1.

        If several do and their works or baths differ, the ends of a step do not tell: the path is marked. Let the state
        count what does, then. Of a conservative system with one bath, any step will do, of several jumps, too.
        """
        there = self.leads(x0, x1) & (self.rates(x0, lam) > 0)
        found, known = self._of(x0, x1, lam, lost, there)
        still, zero = jnp.all(x0 == x1), jnp.zeros_like(lost)
        if self.bath is None and not self.implied and self.work(x0, lam) is None:
            known = known | ~jnp.any(there)
            found = Exchange(zero, lost, lost / self.temperature(lam))
        nan = jnp.full_like(lost, jnp.nan)
        work, heat, medium = (jnp.where(known, v, nan) for v in found)
        return Exchange(*(jnp.where(still, zero, v) for v in (work, heat, medium)))

    def leads(self, x: State, y: State) -> Bool[Array, " events"]:
        """Which events lead from x to y."""
        return same(jnp.concatenate([x[None], self.after(x)]), y[None])[1:]

    def events(self, x: State, lam: Control) -> Exchange:
        """What each event out of x exchanges: work and medium `(events,)`, heat `(events,)` or `(events, baths)`. It is NaN
        for one that breaks local detailed balance, and zero for one that has no rate."""
        ys, happens = self.after(x), self.rates(x, lam) > 0
        start = self.energy(x, lam)

        def one(y: State, there: Bool[Array, " events"], happens: Bool[Array, ""]) -> Exchange:
            of, known = self._of(x, y, lam, start - self.energy(y, lam), there)
            marked = (jnp.where(known, v, jnp.full_like(v, jnp.nan)) for v in of)
            return Exchange(*(jnp.where(happens, v, jnp.zeros_like(v)) for v in marked))

        return jax.vmap(one)(ys, jnp.eye(len(ys), dtype=bool), happens)

    def _of(
        self, x0: State, x1: State, lam: Control, lost: Scalar, there: Bool[Array, " events"]
    ) -> tuple[Exchange, Array]:
        """What the one of the events `there` exchanges, and whether that can be told."""
        there = jax.lax.stop_gradient(there)
        forth, back = self.rates(x0, lam), self.rates(x1, lam)
        returns = self.leads(x1, x0) & (back > 0)
        bath = np.zeros(len(forth), int) if self.bath is None else np.asarray(self.bath)
        pairs = returns[None] & jnp.asarray(bath[:, None] == bath[None])
        reverse = jnp.sum(jnp.where(pairs, back[None], 0), axis=1)
        temperature = self.temperature(lam)
        each = (
            temperature[bath]
            if jnp.ndim(temperature)
            else jnp.broadcast_to(temperature, forth.shape)
        )
        both = (forth > 0) & (reverse > 0)
        ratio = jnp.log(jnp.where(both, forth, 1)) - jnp.log(jnp.where(both, reverse, 1))
        if self.implied:
            work = each * ratio - lost
            balanced = jnp.sum(pairs, axis=1) == 1
        else:
            work = self._work(x0, lam)
            gap = jnp.abs(ratio - (lost + work) / each)
            size = sum(jnp.abs(self.energy(x, lam)) for x in (x0, x1)) / each
            rounding = 100 * float(jnp.finfo(gap.dtype).eps) * size
            allowed = slack(gap.dtype) * (1 + jnp.abs(ratio)) + rounding
            balanced = jnp.isfinite(gap) & (gap <= allowed)
        first = jnp.argmax(there)
        alike = jnp.abs(work - work[first]) <= slack(work.dtype) * (each + jnp.abs(work))
        alike = alike & (jnp.asarray(bath) == jnp.asarray(bath)[first])
        known = jnp.any(there) & jnp.all(~there | (both & balanced & alike))
        heat = lost + work[first]
        medium = heat / each[first]
        if jnp.ndim(temperature):
            heat = jnp.where(jnp.arange(temperature.size) == jnp.asarray(bath)[first], heat, 0)
        return Exchange(work[first], heat, medium), known

    def _work(self, x: State, lam: Control) -> Events:
        work = self.work(x, lam)
        return jnp.zeros_like(self.rates(x, lam)) if work is None else work

    def flip(self, x: State) -> State:
        return x

    def reversed(self) -> "AbstractJumps":
        return self

    def check(self, x: State | jax.ShapeDtypeStruct, lam: Control) -> None:
        _checks.scalar("energy(x, lam)", self.energy, x, lam)
        one_precision(x, {"energy": _checks.shapes("energy(x, lam)", self.energy, x, lam)})
        rates = _checks.shapes("rates(x, lam)", self.rates, x, lam)
        after = _checks.shapes("after(x)", self.after, x)
        if len(rates.shape) != 1 or after.shape != (*rates.shape, *x.shape):
            raise ValueError(
                f"rates(x, lam) must return (events,) and after(x) (events, d), d = {x.shape[0]}; got {rates.shape} and "
                f"{after.shape}."
            )
        if rates.dtype != x.dtype or after.dtype != x.dtype:
            raise TypeError(
                f"The state is {x.dtype}, but rates(x, lam) are {rates.dtype} and after(x) is {after.dtype}: one "
                "floating-point precision per run."
            )
        work = _checks.shapes("work(x, lam)", self._work, x, lam)
        if work.shape != rates.shape:
            raise ValueError(
                f"work(x, lam) must return one number for each event, {rates.shape}; got {work.shape}."
            )
        temperature_fits("temperature", self.temperature, lam, (0,) if self.bath is None else (1,))
        if self.bath is not None:
            baths = _checks.shapes("temperature", self.temperature, lam).shape[0]
            if len(self.bath) != rates.shape[0] or not all(0 <= b < baths for b in self.bath):
                raise ValueError(
                    f"bath must hold for each of {rates.shape[0]} events one of the {baths} baths, 0 to {baths - 1}; got "
                    f"{self.bath}."
                )

    def complaint(self, x: State, lam: Control) -> str:
        seen, known = (
            [x],
            {np.asarray(x).tobytes()},
        )  # and what can be reached from there, near to far
        for x in seen:
            if why := self._complaint_at(x, lam):
                return why
            for y, rate in zip(self.after(x), np.asarray(self.rates(x, lam)), strict=True):
                if rate > 0 and len(seen) < REACHED and np.asarray(y).tobytes() not in known:
                    known.add(np.asarray(y).tobytes())
                    seen.append(y)
        return next(filter(None, (self._untold(x, lam) for x in seen)), "")

    def _complaint_at(self, x: State, lam: Control) -> str:
        rates, ys = np.asarray(self.rates(x, lam)), np.asarray(self.after(x))
        if not (np.isfinite(rates).all() and (rates >= 0).all()):
            return f"rates(x, lam) must be finite and not negative; at x = {x}, lam = {lam} they are {rates}."
        of = np.asarray(self.events(x, lam).medium)
        for e, (k, y) in enumerate(zip(rates, ys, strict=True)):
            if k == 0 or np.isfinite(of[e]):
                continue
            y = jnp.asarray(y)
            returns = np.asarray(self.leads(y, x))
            if self.bath is not None:
                returns = returns & (np.asarray(self.bath) == self.bath[e])
            back = np.asarray(self.rates(y, lam))[returns]
            way = f"from x = {x} to {y} (event {e}) at lam = {lam}"
            if not back.sum():
                return (
                    f"The rate {way} is {k:.6g}, and none leads back: such a jump is absolutely irreversible, and produces "
                    "no finite entropy. Give the way back a rate, however small."
                )
            if self.implied and np.sum(back > 0) > 1:
                return f"Several events lead back {way}: which one is the reverse is not told. Say bath=."
            temperature = np.asarray(self.temperature(lam))
            T = temperature[self.bath[e]] if self.bath is not None else temperature
            lost = self.energy(x, lam) - self.energy(y, lam)
            w = 0.0 if self.implied else float(self._work(x, lam)[e])
            if np.sum(back > 0) > 1:
                return (
                    f"{np.sum(back > 0)} events lead back {way}: which one is the reverse is not told. Of all of them, "
                    f"ln k/k' = {np.log(k / back.sum()):.6g}, and heat / T = {float(lost + w) / T:.6g}. Give each way and "
                    "its reverse a bath of their own (bath=, with temperature= one for each, which may be equal), or let "
                    "the state count what each way does."
                )
            return (
                f"Local detailed balance is broken {way}: ln k/k' = {np.log(k / back.sum()):.6g}, and heat / T = "
                f'{float(lost + w) / T:.6g}. Correct the rates or the energies, give work= (or work="rates", what the rates '
                "imply)."
            )
        return ""

    def _untold(self, x: State, lam: Control) -> str:
        """Which events lead to one state and exchange different things, so that a path doesn't tell what happened."""
        if self.bath is None and not self.implied and self.work(x, lam) is None:
            return ""
        rates, ys = np.asarray(self.rates(x, lam)), self.after(x)
        for e in np.flatnonzero(rates):
            there = self.leads(x, ys[e]) & (rates > 0)
            lost = self.energy(x, lam) - self.energy(ys[e], lam)
            if bool(jnp.all(ys[e] == x)) or bool(self._of(x, ys[e], lam, lost, there)[1]):
                continue
            return (
                f"The events {np.flatnonzero(there).tolist()} all lead from x = {x} to {ys[e]} at lam = {lam}, and their "
                "baths or works differ: a path holds states, and does not tell which it was. Let the state count what they "
                "do (one more coordinate that they raise and lower), or take evolve.master, which adds up event by event."
            )
        return ""

    def haste(self, protocol: Drive, ts: Times, xs: State | Array) -> str:
        """What is wrong with steps of at most one jump on the grid `ts`, in words, by the rates out of the states `xs`
        `(n, d)` of a run; empty if nothing is."""
        longest = int(np.argmax(np.diff(np.asarray(ts))))
        steps = np.append(evenly(len(ts) - 1, STEPS), longest)
        xs = xs[evenly(len(xs), SEEN)]
        due = np.nan_to_num(np.asarray(_due(self, protocol, ts, xs, jnp.asarray(steps))))
        i, k = np.unravel_index(np.argmax(due), due.shape)
        if due[i, k] <= HASTY:
            return ""
        t = ts[steps[k]]
        return (
            f"The step is too long for what it follows: it makes one jump at most, and h = {ts[steps[k] + 1] - t:.3g}, at "
            f"t = {t:.4g}, is {due[i, k]:.2g} times the mean time to the next one out of x = {xs[i]} (h times the sum of "
            "its rates). Jumps come late, and work and heat are off by several per cent or more. Take about "
            f"{np.ceil(due[i, k] / 0.05):.0f} times as many steps, there at least."
        )

    @staticmethod
    def needed_by(name: str, system: AbstractSystem) -> "AbstractJumps":
        """The system, if it is one of jumps; if not, a `TypeError` that says who needs one."""
        if not isinstance(system, AbstractJumps):
            raise TypeError(
                f"{name} is for systems of jumps (AbstractJumps), and {type(system).__name__} is none. As a solver: use "
                "None, the step of the system itself."
            )
        return system


@jit
def _due(system: AbstractJumps, protocol: Drive, ts: Times, xs: Array, steps: Array) -> Array:
    """How many jumps are due in a step, `(states, steps)`."""
    middles, h = (0.5 * (ts[steps] + ts[steps + 1])).astype(xs.dtype), ts[steps + 1] - ts[steps]
    lams = jax.vmap(protocol)(middles)
    of = lambda x, lam: jnp.sum(system.rates(x, lam))
    return h[None] * jax.vmap(jax.vmap(of, (None, 0)), (0, None))(xs, lams)
