r"""Systems with closed forms, shared by the tests of values and gradients.

One driven system covers most of them, so that each verb is compiled once: a harmonic trap in one dimension whose
stiffness, position and temperature are functions of time with parameters of their own,

    k(t) = (k_0 + k_1 t) / (1 + k_2 t)^2,    l(t) = l_0 + l_1 t + l_2 sin 2t,    T(t) = T_0 + T_1 t .

Each `*_row` is one case of it, a function of the few parameters its closed form has.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import scipy.integrate

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian
from thermojax.protocols import Function, ramp


class Curve(eqx.Module):
    """The drive, as a function of time; `shape` holds its coefficients."""

    shape: dict

    def __call__(self, t):
        k, l, T = (self.shape[name] for name in ("k", "at", "T"))
        return {
            "k": (k[0] + k[1] * t) / (1 + k[2] * t) ** 2,
            "at": l[0] + l[1] * t + l[2] * jnp.sin(2 * t),
            "T": T[0] + T[1] * t,
        }


def trap(x, lam):
    return 0.5 * lam["k"] * jnp.sum((x - lam["at"]) ** 2)


def bath(lam):
    return lam["T"]


def driven(p):
    """The process with the parameters `p` of one row, between equilibria of its end controls."""
    system = tjx.Overdamped(trap, mobility=p["mu"], temperature=bath)
    drive = Function(Curve(p["shape"]), p["t"], 0 * p["t"], p["before"], p["after"])
    start, stop = (Boltzmann(system, p[end], dim=1) for end in ("before", "after"))
    return tjx.Process(system, drive, start, stop)


def row(
    k=(1.0, 0.0, 0.0), at=(0.0, 0.0, 0.0), T=(1.0, 0.0), mu=1.0, t=1.0, before=None, after=None
):
    """Parameters of `driven`. The ends are those of the curve, or as given: a dict of what differs."""
    shape = {"k": _stack(k), "at": _stack(at), "T": _stack(T)}
    curve = Curve(shape)
    first, last = curve(jnp.zeros(())), curve(jnp.asarray(t, float))
    p = {
        "shape": shape,
        "mu": mu,
        "t": t,
        "before": first | (before or {}),
        "after": last | (after or {}),
    }
    return jtu.tree_map(lambda v: jax.lax.convert_element_type(v, float), p)


def _stack(values):
    return jnp.stack([jnp.asarray(v, float) for v in values])


# ---------------------------------------------------------------------------- closed forms, PHYSICS-style


def drag_optimum_row(k, mu, T, l, t):
    w = mu * k
    jump = l / (2 + w * t)
    return row((k, 0, 0), (jump, w * jump, 0), (T, 0), mu, t, {"at": 0 * l}, {"at": l})


def drag_optimum_work(k, mu, T, l, t):
    return k * l**2 / (2 + mu * k * t)


def drag_ramp_row(k, mu, T, l, t):
    return row((k, 0, 0), (0, l / t, 0), (T, 0), mu, t)


def drag_ramp_work(k, mu, T, l, t):
    w = mu * k * t
    return k * l**2 / w**2 * (w - 1 + jnp.exp(-w))


def stiffness_optimum(k0, k1, mu, T, t):
    a, b = mu * k0 * t, mu * k1 * t
    u = (1 + jnp.sqrt(1 + 2 * a + a * b)) / (2 + b)
    return (u - 1) / t, T * ((u - 1) ** 2 / a - jnp.log(u) + 0.5 * (k1 * u**2 / k0 - 1))


def stiffness_optimum_row(k0, k1, mu, T, t):
    c, _ = stiffness_optimum(k0, k1, mu, T, t)
    return row((k0 - c / mu, -(c**2) / mu, c), (0, 0, 0), (T, 0), mu, t, {"k": k0}, {"k": k1})


def stiffness_optimum_work(k0, k1, mu, T, t):
    return stiffness_optimum(k0, k1, mu, T, t)[1]


def stiffness_ramp_row(k0, k1, mu, T, t):
    return row((k0, (k1 - k0) / t, 0), (0, 0, 0), (T, 0), mu, t)


def stiffness_free_energy(k0, k1, mu, T, t):
    return 0.5 * jnp.log(k1 / k0)


def heated_row(k, mu, T0, T1, t):
    return row((k, 0, 0), (0, 0, 0), (T0, (T1 - T0) / t), mu, t)


def heated_jump_row(k, mu, T0, T1, t):
    return row((k, 0, 0), (0, 0, 0), (T1, 0), mu, t, {"T": T0})


def heated_jump_work(k, mu, T0, T1, t):
    return 0.5 * (T0 / T1 - 1)


def everything_row(k0, k1, l, T0, T1):
    return row((k0, k1, 0), (0, 0, l), (T0, T1))


DRAG = {"k": 1.0, "mu": 1.0, "T": 1.0, "l": 2.0, "t": 1.0}
STIFFEN = {"k0": 1.0, "k1": 4.0, "mu": 1.0, "T": 1.0, "t": 1.0}
HEAT = {"k": 1.0, "mu": 1.0, "T0": 1.0, "T1": 2.0, "t": 1.0}
EVERYTHING = {"k0": 1.0, "k1": 1.5, "l": 1.2, "T0": 1.5, "T1": -0.7}
ROTATE = {"k0": 1.0, "k1": 1.5, "kappa": 0.8, "T0": 1.5, "T1": -0.7}


def floats(theta):
    return {name: jnp.asarray(v, float) for name, v in theta.items()}


def grid(t, n=4):
    return t * jnp.linspace(0.0, 1.0, n + 1)


# ---------------------------------------------------------------------------- two dimensions, and two baths


def whirl(x, lam):
    return lam["kappa"] * jnp.stack([-x[1], x[0]])


class Whirl(eqx.Module):
    k0: jax.Array
    k1: jax.Array
    kappa: jax.Array
    T0: jax.Array
    T1: jax.Array

    def __call__(self, t):
        zero = jnp.zeros(())
        return {
            "k": self.k0 + self.k1 * t,
            "at": zero,
            "kappa": self.kappa + zero,
            "T": self.T0 + self.T1 * t,
        }


def whirling(theta):
    """Two dimensions, a rotational force, stiffness and temperature driven; from equilibrium of the trap alone."""
    theta = {name: jax.lax.convert_element_type(v, float) for name, v in theta.items()}
    system = tjx.Overdamped(trap, whirl, temperature=bath)
    drive = Function(Whirl(**theta), jnp.ones(()), jnp.zeros(()))
    ends = (Boltzmann(system, lam, dim=2) for lam in (drive.before, drive.after))
    return tjx.Process(system, drive, *ends)


def coupled(x, lam):
    return 0.5 * (lam[0] * x[0] ** 2 + lam[1] * x[1] ** 2) + lam[2] * x[0] * x[1]


def stationary(k1, k2, u, T1, T2, mu):
    """The stationary covariance, by its Lyapunov equation."""
    matrix = jnp.stack([jnp.stack([k1, u]), jnp.stack([u, k2])])
    eye = jnp.eye(2)
    both = jnp.kron(matrix, eye) + jnp.kron(eye, matrix)
    return jnp.linalg.solve(both, 2 * jnp.diag(jnp.stack([T1, T2])).reshape(4)).reshape(2, 2)


def two_baths(k1, k2, u, T1, T2, mu, t=0.5):
    """The Brownian gyrator in its steady state; the steady state is `final` too, so R is what is produced."""
    system = tjx.Overdamped(coupled, mobility=mu, temperature=jnp.stack([T1, T2]))
    lam = jnp.stack([k1, k2, u])
    still = ramp(lam, lam, jnp.asarray(t))
    steady = Gaussian(jnp.zeros(2), stationary(k1, k2, u, T1, T2, mu))
    return tjx.Process(system, still, steady, steady)


GYRATOR = {"k1": 2.0, "k2": 2.0, "u": 0.8, "T1": 1.0, "T2": 3.0, "mu": 1.0}


def gyrator_rate(k1, k2, u, T1, T2, mu):
    return mu * u**2 * (T1 - T2) ** 2 / ((k1 + k2) * T1 * T2)


# ---------------------------------------------------------------------------- the same by scipy


def moment_equations(k, l, T, mu, t, kappa=0.0):
    """The same mean exchanges by scipy, from the equations for mean and variance of x - l(t); d = 2 if kappa."""
    d = 2 if kappa else 1
    s = 1e-3  # for the rates of the drive

    def rate(fn, time):
        near, far = fn(time + s) - fn(time - s), fn(time + 2 * s) - fn(time - 2 * s)
        return (8 * near - far) / (12 * s)

    def flow(time, y):
        w, m = y[0], y[1]
        D, at = mu * T(time), m - l(time)
        square = d * w + at**2
        drift = mu * k(time)
        turning = d * mu * kappa**2 * w
        dot = rate(k, time), rate(l, time), rate(lambda t: k(t) / T(t), time)
        return [
            2 * D - 2 * drift * w,
            -drift * at,
            0.5 * dot[0] * square - k(time) * dot[1] * at + turning,
            mu * k(time) ** 2 * square - d * mu * k(time) * T(time) + turning,
            0.5 * dot[2] * square - k(time) / T(time) * dot[1] * at + turning / T(time),
            ((drift * at) ** 2 + d * w * (D / w - drift) ** 2 + mu * turning) / D,
        ]

    start = [T(0.0) / k(0.0), l(0.0), 0.0, 0.0, 0.0, 0.0]
    end = scipy.integrate.solve_ivp(flow, (0.0, t), start, method="DOP853", rtol=1e-12, atol=1e-12)
    return dict(
        zip(("variance", "mean", "work", "heat", "reduced", "total"), end.y[:, -1], strict=True)
    )


def everything(k0, k1, l, T0, T1):
    return moment_equations(
        lambda t: k0 + k1 * t, lambda t: l * np.sin(2 * t), lambda t: T0 + T1 * t, 1.0, 1.0
    )


def stiffening(k0, k1, mu, T, t):
    return moment_equations(lambda s: k0 + (k1 - k0) * s / t, lambda s: 0.0, lambda s: T, mu, t)


def heating(k, mu, T0, T1, t):
    return moment_equations(lambda s: k, lambda s: 0.0, lambda s: T0 + (T1 - T0) * s / t, mu, t)


def rotating(k0, k1, kappa, T0, T1):
    return moment_equations(
        lambda t: k0 + k1 * t, lambda t: 0.0, lambda t: T0 + T1 * t, 1.0, 1.0, kappa=kappa
    )


def central(fn, theta, name, h=1e-4):
    """Central differences of a dict of numbers, of fourth order."""
    at = lambda s: fn(**(theta | {name: theta[name] + s * h}))
    near, far = (at(1), at(-1)), (at(2), at(-2))
    return {
        m: (8 * (near[0][m] - near[1][m]) - (far[0][m] - far[1][m])) / (12 * h) for m in near[0]
    }
