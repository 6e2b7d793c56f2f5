"""Values and gradients against closed forms, without sampling: `evolve.moments`, optima, free energies, equilibrium."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.integrate
import sigmas
from oracles import (
    DRAG,
    EVERYTHING,
    GYRATOR,
    HEAT,
    ROTATE,
    STIFFEN,
    central,
    drag_optimum_row,
    drag_optimum_work,
    drag_ramp_row,
    drag_ramp_work,
    driven,
    everything,
    everything_row,
    floats,
    grid,
    gyrator_rate,
    heated_jump_row,
    heated_jump_work,
    heated_row,
    heating,
    rotating,
    stationary,
    stiffening,
    stiffness_optimum_row,
    stiffness_optimum_work,
    stiffness_ramp_row,
    two_baths,
    whirling,
)

import thermojax as tjx
from thermojax.densities import Boltzmann
from thermojax.evolve import moments
from thermojax.potentials import Breathing, DoubleWell, MovingTrap, Quartic

DIGITS = 6e-10  # the closed forms below are written with nine decimals

PARTS = ("work", "heat", "reduced", "total", "system")


def price(process, ts):
    """The mean exchanges of the whole run: one vector, in the order of PARTS, then mean and variance at the end."""
    e = moments(process, ts)
    ends = [
        e.work[-1],
        jnp.sum(e.heat[-1]),
        e.reduced_work[-1],
        e.entropy.total[-1],
        e.entropy.system[-1],
    ]
    return jnp.concatenate([jnp.stack(ends), e.mean[-1], jnp.diagonal(e.cov[-1])])


def _jacobian(fn, p):
    """(values, their derivatives), tracing `fn` once."""
    jacobian, values = jax.jacrev(lambda p: (fn(p),) * 2, has_aux=True)(p)
    return values, jacobian


@eqx.filter_jit
def exact(p):
    """(values, their derivatives with respect to every parameter of `driven`): compiled once for all rows."""
    return _jacobian(lambda p: price(driven(p), grid(p["t"])), p)


def exactly(make, theta):
    """Values by name, and their gradients by the row's own parameters."""
    theta = {name: jnp.asarray(v, float) for name, v in theta.items()}
    p, tangent = jax.linearize(lambda theta: make(**theta), theta)
    values, jacobian = exact(p)
    one = {name: jnp.zeros(()) for name in theta}
    gradients = {}
    for name in theta:
        moved = tangent(one | {name: jnp.ones(())})
        parts = jtu.tree_map(lambda j, m: jnp.tensordot(j, m, m.ndim), jacobian, moved)
        gradients[name] = sum(jtu.tree_leaves(parts))
    names = [*PARTS, "mean", "variance"]
    return (
        {name: float(v) for name, v in zip(names, values, strict=True)},
        {n: {m: float(g) for m, g in zip(names, gradients[n], strict=True)} for n in theta},
    )


# ---------------------------------------------------------------------------- exact values


def test_a_turn_does_not_depend_on_the_unit_of_length():
    """Five turns in a medium that rotates, in metres: the mean is where it was."""
    length, turn = 1e-8, jnp.array([[0.0, -1.0], [1.0, 0.0]])
    system = tjx.Overdamped(
        lambda x, lam: 0.0 * jnp.sum(x),
        mobility=1e-12,
        temperature=4e-21,
        velocity=lambda x, lam: lam * turn @ x,
    )
    start = tjx.densities.Gaussian(length * jnp.array([1.0, 0.0]), length**2)
    omega = 2 * jnp.pi
    process = tjx.Process(system, tjx.protocols.ramp(omega, omega, 5.0), start)
    found = moments(process, jnp.array([0.0, 5.0]))
    np.testing.assert_allclose(found.mean[-1] / length, [1.0, 0.0], atol=1e-8)
    np.testing.assert_allclose(found.cov[-1] / length**2, jnp.eye(2), atol=1e-8)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("make", "theta", "want"),
    [
        pytest.param(drag_optimum_row, DRAG, {"work": 1.333333333}, id="1"),
        pytest.param(drag_ramp_row, DRAG, {"work": 1.471517765}, id="2"),
        pytest.param(stiffness_optimum_row, STIFFEN, {"work": 0.890571785}, id="5"),
        pytest.param(
            stiffness_optimum_row, STIFFEN | {"k1": 2.0}, {"work": 0.402918361}, id="5-1to2"
        ),
        pytest.param(
            stiffness_optimum_row, STIFFEN | {"t": 0.2}, {"work": 1.203063208}, id="5-fast"
        ),
        pytest.param(
            stiffness_optimum_row,
            STIFFEN | {"k0": 4.0, "k1": 1.0},
            {"work": -0.562446026},
            id="5-4to1",
        ),
        pytest.param(
            stiffness_optimum_row,
            STIFFEN | {"k1": 2.0, "t": 10.0},
            {"work": 0.354741171},
            id="5-slow",
        ),
        pytest.param(stiffness_ramp_row, STIFFEN, {"work": 0.936041707}, id="6"),
        pytest.param(stiffness_ramp_row, STIFFEN | {"k1": 2.0}, {"work": 0.412465799}, id="6-1to2"),
        pytest.param(
            stiffness_ramp_row,
            STIFFEN | {"k0": 4.0, "k1": 1.0},
            {"work": -0.546481496},
            id="6-4to1",
        ),
        pytest.param(
            stiffness_ramp_row, STIFFEN | {"k1": 2.0, "t": 10.0}, {"work": 0.355601483}, id="6-slow"
        ),
        pytest.param(
            heated_row,
            HEAT,
            {"reduced": -0.287955295, "total": 0.044922263, "heat": -0.283833821},
            id="8",
        ),
        pytest.param(
            everything_row,
            EVERYTHING,
            {
                "work": 1.722403576,
                "heat": 1.807246601,
                "reduced": 2.033417826,
                "total": 1.134398934,
                "mean": 0.867410473,
                "variance": 0.482063111,
            },
            id="9",
        ),
        pytest.param(heated_jump_row, HEAT, {"reduced": -0.25}, id="27"),
    ],
)
def test_values(make, theta, want):
    values, _ = exactly(make, theta)
    for name, value in want.items():
        assert values[name] == pytest.approx(value, abs=DIGITS), name


@pytest.mark.parametrize(
    ("make", "theta", "delta", "kl"),
    [
        pytest.param(stiffness_ramp_row, STIFFEN, 0.693147181, None, id="7"),
        pytest.param(heated_row, HEAT, -0.346573590, 0.013696033, id="8"),
        pytest.param(everything_row, EVERYTHING, 0.772449696, 0.126569196, id="9"),
        pytest.param(heated_jump_row, HEAT, -0.346573590, None, id="27"),
    ],
)
def test_free_energy(make, theta, delta, kl):
    """Delta(beta F) = ln Z_0 - ln Z_1, and <W_red> - Delta(beta F) = <S_tot> + KL(p_tau || equilibrium)."""
    process = driven(make(**theta))
    found = float(process.initial.log_partition() - process.final.log_partition())
    assert found == pytest.approx(delta, abs=DIGITS)
    values, _ = exactly(make, theta)
    if kl is not None:
        assert values["reduced"] - found - values["total"] == pytest.approx(kl, abs=2 * DIGITS)
    if make is heated_jump_row:  # dissipated: KL of the first equilibrium from the second
        assert values["reduced"] - found == pytest.approx(0.096573590, abs=DIGITS)


@pytest.mark.smoke
def test_optimum_of_the_moving_trap():
    """The work it states is that of its protocol; so are the jumps; any stiffness, mobility and distance."""
    found = tjx.optimal.moving_trap(0.0, 2.0, 1.0)
    assert float(found.work) == pytest.approx(1.333333333, abs=DIGITS)
    first, last = found.protocol(jnp.asarray(0.0)), found.protocol(jnp.asarray(1.0))
    assert float(first - found.protocol.before) == pytest.approx(0.666666667, abs=DIGITS)
    assert float(found.protocol.after - last) == pytest.approx(0.666666667, abs=DIGITS)
    for way, t, k, mu in ((2.0, 1.0, 1.0, 1.0), (-3.0, 0.4, 2.5, 0.6)):
        start, stop = 0.5, 0.5 + way
        found = tjx.optimal.moving_trap(start, stop, t, stiffness=k, mobility=mu)
        system = tjx.Overdamped(MovingTrap(k), mobility=mu, temperature=1.7)
        process = tjx.Process(system, found.protocol, Boltzmann(system, start))
        assert float(moments(process, grid(t)).work[-1]) == pytest.approx(
            float(found.work), abs=1e-8
        )


def test_optimum_of_the_stiffness():
    found = tjx.optimal.breathing_trap(1.0, 4.0, 1.0)
    assert float(found.work) == pytest.approx(0.890571785, abs=DIGITS)
    first, last = found.protocol(jnp.asarray(0.0)), found.protocol(jnp.asarray(1.0))
    assert float(first) == pytest.approx(1.392375, abs=6e-7)
    assert float(last) == pytest.approx(3.354249, abs=6e-7)
    # what the two jumps cost: half of the change of k, times <x^2>
    variance = float(jnp.square(1 + found.protocol.fn.c))
    assert 0.5 * float(first - 1) == pytest.approx(0.196187, abs=6e-7)
    assert 0.5 * float(4 - last) * variance == pytest.approx(0.119208, abs=6e-7)
    for k0, k1, t, mu, T in ((1.0, 4.0, 1.0, 1.0, 1.0), (3.0, 0.8, 0.7, 0.5, 1.6)):
        found = tjx.optimal.breathing_trap(k0, k1, t, mobility=mu, temperature=T)
        system = tjx.Overdamped(Breathing(), mobility=mu, temperature=T)
        process = tjx.Process(system, found.protocol, Boltzmann(system, k0))
        assert float(moments(process, grid(t)).work[-1]) == pytest.approx(
            float(found.work), abs=1e-8
        )


# ---------------------------------------------------------------------------- exact gradients


@pytest.mark.parametrize(
    ("make", "theta", "part", "closed"),
    [
        pytest.param(
            drag_optimum_row, DRAG | {"k": 1.3, "t": 0.8}, "work", drag_optimum_work, id="1"
        ),
        pytest.param(drag_ramp_row, DRAG | {"k": 1.3, "t": 0.8}, "work", drag_ramp_work, id="2"),
        pytest.param(
            stiffness_optimum_row,
            STIFFEN | {"T": 1.4, "t": 0.7},
            "work",
            stiffness_optimum_work,
            id="5",
        ),
        pytest.param(heated_jump_row, HEAT | {"k": 1.3}, "reduced", heated_jump_work, id="27"),
    ],
)
def test_gradients(make, theta, part, closed):
    """With respect to every parameter: stiffness (the initial one too), mobility, temperature, distance, duration."""
    values, found = exactly(make, theta)
    want, slopes = jax.value_and_grad(lambda theta: closed(**theta))(theta)
    assert values[part] == pytest.approx(float(want), abs=1e-8)
    for name, slope in slopes.items():
        assert found[name][part] == pytest.approx(float(slope), abs=1e-7), name


@pytest.mark.parametrize(
    ("make", "theta", "ode"),
    [
        pytest.param(stiffness_ramp_row, STIFFEN, stiffening, id="6"),
        pytest.param(heated_row, HEAT, heating, id="8"),
        pytest.param(everything_row, EVERYTHING, everything, id="9"),
    ],
)
def test_gradients_where_no_closed_form_is_known(make, theta, ode):
    """Against central differences of an independent integration of the equations of motion of the moments."""
    values, found = exactly(make, theta)
    for part, value in ode(**theta).items():
        assert values[part] == pytest.approx(value, abs=2e-9), part
    for name in theta:
        for part, slope in central(ode, theta, name).items():
            assert found[name][part] == pytest.approx(slope, abs=1e-7), (name, part)


# ---------------------------------------------------------------------------- two dimensions, and two baths


@eqx.filter_jit
def exact_whirl(theta):
    return _jacobian(lambda theta: price(whirling(theta), grid(1.0)), theta)


def test_rotational_force():
    """Row 10: values, and gradients against the moment equations; the reference free energy is that of the trap."""
    values, slopes = exact_whirl(floats(ROTATE))
    values = dict(zip(PARTS, map(float, values), strict=False))
    process = whirling(ROTATE)
    delta = float(process.initial.log_partition() - process.final.log_partition())
    assert values["reduced"] == pytest.approx(3.354159527, abs=DIGITS)
    assert values["total"] == pytest.approx(1.712566959, abs=DIGITS)
    assert delta == pytest.approx(1.544899391, abs=DIGITS)
    assert values["reduced"] - delta - values["total"] == pytest.approx(0.096693177, abs=2 * DIGITS)
    for name in ROTATE:
        for part, slope in central(rotating, ROTATE, name).items():
            if part in PARTS:
                found = float(slopes[name][PARTS.index(part)])
                assert found == pytest.approx(slope, abs=1e-7), (name, part)


def test_rotational_gyrator():
    """Row 14: in the steady state entropy is produced at 2 mu kappa^2 / k, whatever T; so says its gradient."""
    theta = floats({"k0": 2.0, "k1": 0.0, "kappa": 1.5, "T0": 1.3, "T1": 0.0})
    values, slopes = exact_whirl(theta)
    total = PARTS.index("total")
    assert float(values[total]) == pytest.approx(2.25, abs=1e-9)
    assert float(slopes["kappa"][total]) == pytest.approx(4 * 1.5 / 2, abs=1e-7)
    assert float(slopes["T0"][total]) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("theta", [GYRATOR, GYRATOR | {"k1": 1.2, "u": -0.5, "mu": 0.7}])
def test_two_temperature_gyrator(theta):
    """Row 13: entropy production, the heat it carries from the hot bath to the cold one, and all gradients."""
    theta = floats(theta)
    values, slopes = _gyrator(theta)
    want, rates = jax.value_and_grad(lambda theta: gyrator_rate(**theta))(theta)
    assert float(values[0]) == pytest.approx(float(want), abs=1e-9)
    for name, slope in rates.items():
        assert float(slopes[name][0]) == pytest.approx(float(slope), abs=1e-7), name
    hot_to_cold = float(want / (1 / theta["T1"] - 1 / theta["T2"]))
    assert np.allclose(values[1:], [hot_to_cold, -hot_to_cold], atol=1e-9)


@eqx.filter_jit
def _gyrator(theta):
    def rates(theta):
        e = moments(two_baths(**theta), grid(0.5, 1))
        return jnp.concatenate([e.entropy.total[-1:], e.heat[-1]]) / 0.5

    return _jacobian(rates, theta)


def test_gyrator_table():
    cov = stationary(**floats(GYRATOR))
    assert np.allclose(cov, [[0.690476, -0.476190], [-0.476190, 1.690476]], atol=6e-7)
    assert float(gyrator_rate(**GYRATOR)) == pytest.approx(0.213333333, abs=DIGITS)


# ---------------------------------------------------------------------------- free energies, equilibrium


def quartic_z(lam, g, T=1.0):
    fn = lambda x: np.exp(-(0.5 * lam * x**2 + 0.25 * g * x**4) / T)
    return np.log(scipy.integrate.quad(fn, -20, 20, epsabs=0, epsrel=1e-13, limit=400)[0])


def double_well_z(tilt, barrier, T=1.0):
    fn = lambda x: np.exp(-(barrier * (x**2 - 1) ** 2 - tilt * x) / T)
    return np.log(scipy.integrate.quad(fn, -8, 8, epsabs=0, epsrel=1e-13, limit=400)[0])


@pytest.mark.parametrize(
    ("potential", "reference", "lam", "parameter"),
    [
        (Quartic, quartic_z, -0.7, 0.5),
        (Quartic, quartic_z, 2.0, 0.3),
        (DoubleWell, double_well_z, 0.6, 1.7),
    ],
)
def test_partition_function_by_quadrature(potential, reference, lam, parameter):
    """ln Z in one dimension against scipy, and its gradient by control, potential parameter and temperature."""
    theta = (lam, parameter, 1.3)

    def log_z(lam, parameter, T):
        return Boltzmann(tjx.Overdamped(potential(parameter), temperature=T), lam).log_partition()

    value, slopes = jax.value_and_grad(log_z, (0, 1, 2))(*theta)
    assert float(value) == pytest.approx(reference(*theta), abs=1e-10)
    h = 1e-3
    for i, slope in enumerate(slopes):
        at = lambda s, i=i: reference(*(v + s * h * (j == i) for j, v in enumerate(theta)))
        want = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
        assert float(slope) == pytest.approx(want, abs=1e-7)


@pytest.mark.smoke
def test_free_energy_of_the_tilted_double_well():
    """(x^2 - 1)^2 - a x, a from 0 to 1.5."""
    system = tjx.Overdamped(DoubleWell(1.0))
    found = Boltzmann(system, 0.0).log_partition() - Boltzmann(system, 1.5).log_partition()
    assert float(found) == pytest.approx(-0.785857, abs=6e-7)


def averages(barrier, tilt, T):
    """<x>, <x^2>, <x^4> of the double well by quadrature."""
    z = lambda n: scipy.integrate.quad(
        lambda x: x**n * np.exp(-(barrier * (x**2 - 1) ** 2 - tilt * x) / T),
        -8,
        8,
        epsrel=1e-12,
        limit=400,
    )[0]
    return [z(n) / z(0) for n in (1, 2, 4)]


def well(barrier):
    return Boltzmann(tjx.Overdamped(DoubleWell(barrier), temperature=1.2), 0.8)


def draws(barrier, size, seed):
    keys = jax.random.split(jax.random.key(seed), size)
    return jax.vmap(well(barrier).sample)(keys)[:, 0]


def test_samples_of_the_quadrature():
    x = draws(1.1, 500_000, 1)
    for n, want in zip((1, 2, 4), averages(1.1, 0.8, 1.2), strict=True):
        sigmas.assert_within(x**n, want)
        sigmas.assert_sees(x**n, want)


def test_samples_of_the_quadrature_are_reparametrised():
    """d<x^2>/dE from the samples' own derivatives; the control leaves the inverse of the distribution function fixed."""
    h = 1e-3
    at = lambda s: averages(1.1 + s * h, 0.8, 1.2)[1]
    want = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)

    def square(barrier):
        return draws(barrier, 400_000, 2) ** 2

    _, slope = jax.jvp(square, (jnp.asarray(1.1),), (jnp.ones(()),))
    sigmas.assert_within(slope, want, bias=0.05)
    sigmas.assert_sees(slope, want, bias=0.05)


def test_a_potential_that_is_computed_twice():
    """`jax.checkpoint` changes how a gradient is computed, and not what is linear."""
    drive, start = tjx.protocols.ramp(0.0, 1.0, 1.0), tjx.densities.Gaussian(0.0, 1.0)
    process = lambda U: tjx.Process(tjx.Overdamped(U), drive, start)
    work = lambda U: moments(process(U), jnp.linspace(0.0, 1.0, 3)).work
    trap = lambda x, lam: 0.5 * jnp.sum((x - lam) ** 2)
    np.testing.assert_allclose(work(jax.checkpoint(trap)), work(trap), rtol=1e-12)
