r"""A catalogue of potentials $U(x, \lambda)$. Any callable `U(x, lam) -> scalar` works in their place.

`x` has shape `(d,)`, also for d = 1. Energies are in units of $k_B T$ at $T = 1$. Parameters are arrays, so that
`jax.grad` reaches them; what a `protocol` drives is the control `lam`, which each class names.
"""

import abc
from typing import Any, Literal

import equinox as eqx
import interpax
import jax.numpy as jnp
import numpy as np

from ._checks import floating, known, lenient, marked, one_float, shortened
from ._guard import held
from ._types import Array, Control, Float, Given, Scalar, State
from ._widths import wide_enough


class AbstractPotential(eqx.Module):
    r"""A potential $U(x, \lambda)$. To write your own, subclass and give `__call__`, or pass a plain function.

    A class has parameters that `jax.grad` reaches:

    ```python
    import jax
    import jax.numpy as jnp
    import thermojax as tjx


    class Morse(tjx.potentials.AbstractPotential):
        depth: jax.Array
        width: jax.Array

        def __call__(self, x, lam):
            return jnp.sum(self.depth * (1 - jnp.exp(-(x - lam) / self.width)) ** 2)


    bond = Morse(depth=jnp.asarray(5.0), width=jnp.asarray(0.5))
    print(bond(jnp.array([0.2]), 0.0), jax.grad(lambda b: b(jnp.array([0.2]), 0.0))(bond).depth)
    system = tjx.Overdamped(bond)
    ```
    """

    @abc.abstractmethod
    def __call__(self, x: State, lam: Control) -> Scalar:
        r"""The energy $U(x, \lambda)$ of one state `x` of shape `(d,)`."""


def _number(name: str) -> Any:
    return eqx.field(converter=lambda value: floating(name, value))


def _fits(x: State, name: str, **numbers: Control) -> None:
    """Refuse what is neither one number nor one per coordinate: it would spread, or x would."""
    for what, number in numbers.items():
        if jnp.shape(number) not in ((), jnp.shape(x)):
            raise ValueError(
                f"{name}: {what} must be a scalar or one number per coordinate, {jnp.shape(x)}; got shape "
                f"{jnp.shape(number)}. Start from as many coordinates (dim= of Boltzmann, a mean of a Gaussian)."
            )


class Harmonic(AbstractPotential):
    r"""$U = \tfrac12 \sum_i k_i (x_i - c_i)^2$, not driven: `lam` is ignored.

    `stiffness` and `center` are scalars or of shape `(d,)`.
    """

    stiffness: Array = _number("Harmonic.stiffness")
    center: Array = eqx.field(
        default=0.0, converter=lambda value: floating("Harmonic.center", value)
    )

    def __call__(self, x: State, lam: Control = None) -> Scalar:
        _fits(x, "Harmonic", stiffness=self.stiffness, center=self.center)
        return 0.5 * jnp.sum(self.stiffness * (x - self.center) ** 2)


class MovingTrap(AbstractPotential):
    r"""$U = \tfrac12 \sum_i k_i (x_i - \lambda_i)^2$: an optical tweezer whose position `lam` is driven.

    `stiffness` and `lam` are scalars or of shape `(d,)`. Schmiedl & Seifert, PRL 98, 108301 (2007), eq. 3.
    """

    stiffness: Array = _number("MovingTrap.stiffness")

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "MovingTrap", stiffness=self.stiffness, lam=lam)
        return 0.5 * jnp.sum(self.stiffness * (x - lam) ** 2)


class Breathing(AbstractPotential):
    r"""$U = \tfrac12 \sum_i \lambda_i (x_i - c_i)^2$: a trap whose stiffness `lam` is driven.

    Schmiedl & Seifert, PRL 98, 108301 (2007), eq. 10.
    """

    center: Array = eqx.field(
        default=0.0, converter=lambda value: floating("Breathing.center", value)
    )

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "Breathing", center=self.center, lam=lam)
        return 0.5 * jnp.sum(lam * (x - self.center) ** 2)


class DoubleWell(AbstractPotential):
    r"""$U = E \sum_i ((x_i/a)^2 - 1)^2 - \lambda \sum_i x_i$: wells at $\pm a$, a barrier $E$ between, tilted by `lam`."""

    barrier: Array = _number("DoubleWell.barrier")
    width: Array = eqx.field(
        default=1.0, converter=lambda value: floating("DoubleWell.width", value)
    )

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "DoubleWell", barrier=self.barrier, width=self.width, lam=lam)
        return jnp.sum(self.barrier * ((x / self.width) ** 2 - 1) ** 2 - lam * x)


class Quartic(AbstractPotential):
    r"""$U = \sum_i (\tfrac12 \lambda x_i^2 + \tfrac14 g x_i^4)$: stiffness `lam` driven, hardening `g` fixed."""

    hardening: Array = _number("Quartic.hardening")

    def __call__(self, x: State, lam: Control) -> Scalar:
        _fits(x, "Quartic", hardening=self.hardening, lam=lam)
        return jnp.sum(0.5 * lam * x**2 + 0.25 * self.hardening * x**4)


class Ring(AbstractPotential):
    r"""$U = V_0 \sum_i \cos(2\pi x_i / L)$ on a ring of circumference $L$, not driven. Tilt it by a constant `force`.

    Positions count the turns: the state is not wrapped, so that the work of the tilt is $f \Delta x$.
    """

    corrugation: Array = _number("Ring.corrugation")
    length: Array = eqx.field(
        default=2 * jnp.pi, converter=lambda value: floating("Ring.length", value)
    )

    def __call__(self, x: State, lam: Control = None) -> Scalar:
        _fits(x, "Ring", corrugation=self.corrugation, length=self.length)
        return self.corrugation * jnp.sum(jnp.cos(2 * jnp.pi * x / self.length))


_LOST = 1e-3  # of the greatest step of a table: what single precision may take from a step


class Tabulated(AbstractPotential):
    r"""$U = \sum_i U(x_i)$ through a table of energies, by a cubic spline (the force is smooth, too); `lam` is ignored.

    `x` `(n,)` rises, and `U` `(n,)` are the energies there, n at least 4: those of a histogram, say, $U = -T \ln p$ at the
    middles of its bins. Beyond the table nothing is known. `outside="infinite"`: the energy is infinite there, so a path
    that leaves the table is marked (`ok=False`), and of an equilibrium, `Boltzmann(system, bounds=(x[0], x[-1]))`, nothing
    lies out there. `outside="linear"`: walls, straight on with the slopes at the ends, which have to point inwards.

    Raises `ValueError` for a table that does not rise, is not finite (an empty bin) or too short, whose ends would not
    confine, or of energies so far from zero that single precision loses their differences. A table with a
    tilt is `lambda x, lam: table(x) - lam * x[0]`.

    ```python
    import jax.numpy as jnp
    import numpy as np
    import thermojax as tjx

    rng = np.random.default_rng(0)
    seen = np.concatenate([rng.normal(-1, 0.4, 5000), rng.normal(1, 0.4, 5000)])
    counts, edges = np.histogram(seen, bins=24, range=(-2, 2), density=True)
    table = tjx.potentials.Tabulated((edges[1:] + edges[:-1]) / 2, -np.log(counts), outside="linear")
    print(tjx.densities.Boltzmann(tjx.Overdamped(table)).log_prob(jnp.array([1.0])))
    ```
    """

    x: Float[Array, " n"]
    U: Float[Array, " n"]
    outside: Literal["infinite", "linear"] = eqx.field(static=True)

    def __init__(self, x: Given, U: Given, outside: Literal["infinite", "linear"] = "infinite"):
        given = np.asarray(x, float) if shortened(x) else None
        self.x, self.U = floating("Tabulated.x", x), floating("Tabulated.U", U)
        if self.x.ndim != 1 or self.x.shape != self.U.shape or self.x.size < 4:
            raise ValueError(
                f"Tabulated needs x and U of one shape (n,), n at least 4; got {self.x.shape} and {self.U.shape}."
            )
        kind = one_float(**{"Tabulated.x": self.x, "Tabulated.U": self.U})
        if kind.itemsize < 4:
            raise TypeError(f"Tabulated needs float32 or float64, got {kind}. Use .astype(float).")
        if outside not in ("infinite", "linear"):
            raise ValueError(f'Tabulated.outside must be "infinite" or "linear", got {outside!r}.')
        self.outside = outside
        if given is not None:
            wide_enough("Tabulated.x", given[1:], np.diff(given), kind)
        if shortened(U):
            steps, kept = (np.diff(np.asarray(v, float)) for v in (U, self.U))
            if np.abs(kept - steps).max() > _LOST * np.abs(steps).max():
                raise ValueError(
                    f"Tabulated.U: energies near {np.abs(np.asarray(U, float)).max():.2g} lose their differences, "
                    f"{np.abs(steps).max():.2g} at most, in {kind}. Take a constant off, U - U.min()."
                )
        at, slopes = known(self.x), known(self._slopes())
        if at is None or slopes is None:
            self.U = marked(
                self.U, self._fit(), "Tabulated.x must rise, and a linear outside confine."
            )
        if at is not None and not (np.diff(at) > 0).all():
            i = int(np.flatnonzero(~(np.diff(at) > 0))[0])
            raise ValueError(
                f"Tabulated.x must rise strictly: x[{i + 1}] = {at[i + 1]} follows x[{i}] = {at[i]}. Sort the table by x."
            )
        if outside == "linear" and slopes is not None and not slopes[0] < 0 < slopes[1]:
            raise ValueError(
                f"Tabulated: straight on with the slopes {slopes[0]:.3g} and {slopes[1]:.3g} at its ends the table does not "
                'confine. Cut it where it rises outwards, or outside="infinite".'
            )

    def _fit(self) -> Array:
        """Whether x rises, and so does the potential outside."""
        left, right = self._slopes()
        return jnp.all(jnp.diff(self.x) > 0) & (
            (self.outside != "linear") | ((left < 0) & (right > 0))
        )

    def _slopes(self) -> Float[Array, "2"]:
        """U' at the ends."""
        ends = self.x[jnp.array([0, -1])]
        return self._spline(ends, 1)

    def _spline(self, x: State, derivative: int = 0) -> State:
        with lenient():
            return interpax.interp1d(x, self.x, self.U, method="cubic2", derivative=derivative)

    def __call__(self, x: State, lam: Control = None) -> Scalar:
        lower, upper = self.x[0], self.x[-1]
        inside = self._spline(held(x, lower, upper))
        if self.outside == "infinite":
            return jnp.sum(jnp.where((x < lower) | (x > upper), jnp.inf, inside))
        left, right = self._slopes()
        beyond = jnp.where(
            x < lower, left * (x - lower), jnp.where(x > upper, right * (x - upper), 0)
        )
        return jnp.sum(inside + beyond)
