"""A trap of one or more coordinates whose stiffness, place, temperature and whirl are straight lines in time, or curves."""

import jax
import jax.numpy as jnp

import thermojax as tjx


def potential(x, lam):
    return 0.5 * lam["k"] * jnp.sum((x - lam["at"]) ** 2)


def whirl(x, lam):
    """A force without a potential, in the plane."""
    return lam["whirl"] * jnp.stack([-x[1], x[0]])


class Lines:
    """The drive (k_0 + k_1 t)/(1 + k_2 t)^2, l_0 + l_1 t + l_2 sin 2t, T_0 + T_1 t, and a whirl that stays."""

    def __init__(self, k=(1.0, 0.0, 0.0), at=(0.0, 0.0, 0.0), T=(1.0, 0.0), whirl=0.0):
        self.values = {"k": k, "at": at, "T": T, "whirl": whirl}

    def at(self, values, t):
        k, l, T = (values[name] for name in ("k", "at", "T"))
        stiffness = (k[0] + k[1] * t) / (1 + k[2] * t) ** 2
        place = l[0] + l[1] * t + l[2] * jnp.sin(2 * t)
        return {"k": stiffness, "at": place, "T": T[0] + T[1] * t, "whirl": values["whirl"] + 0 * t}

    def process(self, span=1.0, before=None, after=None, dim=1):
        """From equilibrium to equilibrium of the trap; `before` and `after` are what differs there: the end jumps."""
        values = jax.tree.map(lambda v: jnp.asarray(v, float), self.values)
        ends = [self.at(values, jnp.asarray(t, float)) for t in (0.0, span)]
        given = jax.tree.map(lambda v: jnp.asarray(v, float), (before or {}, after or {}))
        ends = [end | new for end, new in zip(ends, given, strict=True)]
        curve = jax.tree_util.Partial(_curve, values)
        drive = tjx.protocols.Function(curve, jnp.asarray(span, float), jnp.zeros(()), *ends)
        force = whirl if dim == 2 else None
        system = tjx.Overdamped(potential, force, temperature=lambda lam: lam["T"])
        densities = (tjx.densities.Boltzmann(system, end, dim=dim) for end in ends)
        return tjx.Process(system, drive, *densities)


def _curve(values, t):
    return Lines().at(values, t)


def moments(process, pieces=4) -> tjx.evolve.Evolution:
    """Mean exchanges without sampling."""
    return tjx.evolve.moments(process, process.protocol.t1 * jnp.linspace(0.0, 1.0, pieces + 1))


def free_energy(process) -> float:
    """The difference of beta F."""
    return float(process.initial.log_partition() - process.final.log_partition())
