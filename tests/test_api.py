"""The contract: public names, their parameters, and what importing the library does not do."""

import inspect
import json
import subprocess
import sys
from importlib import resources
from importlib.metadata import version

import pytest

import thermojax as tjx

# name: parameters before *, and after it with their defaults
SIGNATURES = {
    "Overdamped": ("potential force=None mobility=1.0 temperature=1.0 velocity=None", ""),
    "Underdamped": (
        "potential force=None friction=1.0 mass=1.0 temperature=1.0 impulse=None",
        "",
    ),
    "measured.with_momenta": ("process path", ""),
    "Inhomogeneous": ("potential mobility force=None temperature=1.0", ""),
    "Process": ("system protocol initial final=None", ""),
    "Path": ("ts xs ok=True", ""),
    "simulate": ("process ts key", "solver=None rule='alternating' save='all' adjoint=None"),
    "ensemble": (
        "process ts key size",
        "solver=None rule='alternating' save='ends' adjoint=None sharding=None",
    ),
    "account": (
        "process path",
        "rule='alternating' cumulative=False solver=None period=None density=None",
    ),
    "reduced_work": ("process trajectory", ""),
    "dissipated_work": ("process trajectory", ""),
    "reverse": ("process", ""),
    "reverse_grid": ("process ts", ""),
    "path_ratio": ("forward backward path", "kernels=euler"),
    "euler": ("process x t0 t1", ""),
    "check_backend": ("rows=32769", ""),
    "citation": ("", ""),
    "protocols.ramp": ("start stop t1", "t0=0.0 knots=2"),
    "protocols.Piecewise": ("ts values before=None after=None", ""),
    "protocols.Steps": ("ts values before=None after=None", ""),
    "protocols.Spline": ("ts values before=None after=None", "method='cubic2'"),
    "protocols.Function": ("fn t1 t0=0.0 before=None after=None", ""),
    "protocols.Network": (
        "start stop t1",
        "key t0=0.0 width=16 depth=2 lower=None upper=None",
    ),
    "protocols.Reversed": ("protocol", ""),
    "protocols.Joint": ("protocols", ""),
    "protocols.fixed": ("protocol", ""),
    "protocols.trainable": ("protocol", ""),
    "protocols.bounded": ("protocol lower=None upper=None", ""),
    "protocols.positive": ("protocol", ""),
    "protocols.monotone": ("protocol", ""),
    "densities.Gaussian": ("mean cov", ""),
    "densities.Boltzmann": (
        "system lam=None",
        "dim=None bounds=None nodes=4001 log_z=None sampler=None",
    ),
    "densities.Point": ("x0", ""),
    "densities.Mixture": ("weights components", ""),
    "densities.Empirical": ("xs", ""),
    "densities.mcmc": (
        "system lam key",
        "dim size=20000 chains=8 start=None warmup=1000 log_z=None",
    ),
    "estimators.jarzynski": ("w", "failed='raise'"),
    "estimators.integral_fluctuation": ("r", "failed='raise'"),
    "estimators.mean": ("x", "failed='raise'"),
    "estimators.second_cumulant": ("w", "failed='raise'"),
    "estimators.second_law_excess": ("w delta=None", "failed='raise'"),
    "estimators.energy_distance": ("x y", ""),
    "estimators.bar": ("w_forward w_reverse", "failed='raise'"),
    "estimators.crooks": ("w_forward w_reverse", "failed='raise'"),
    "measured.read_csv": (
        "file",
        "time positions controls=None path=None delimiter=None decimal=None period=None pad=False",
    ),
    "measured.read_each": (
        "file",
        "time positions controls=None path=None delimiter=None decimal=None period=None",
    ),
    "measured.from_columns": (
        "columns",
        "time positions controls=None path=None period=None pad=False",
    ),
    "measured.sampling": ("process path", ""),
    "measured.bar": ("forward reverse system", "protocol=None failed='raise'"),
    "evolve.moments": ("process ts", "rtol=None adjoint=None"),
    "evolve.fokker_planck": ("process ts grid", "scheme='second'"),
    "evolve.extrapolated": ("process ts grid", ""),
    "evolve.periodic": ("process ts grid=None", ""),
    "evolve.steady": ("system lam=None grid=None", "dim=1 states=None"),
    "evolve.master": ("process ts states", "solver=None"),
    "evolve.generating": ("process ts states s=1.0", "solver=None"),
    "Jumps": ("rates after energy=None work=None temperature=1.0 bath=None", ""),
    "Spins": (
        "energy temperature=1.0 local=None order=None rate=None",
        "backwards=False",
    ),
    "systems.spin_states": ("d", ""),
    "densities.States": ("states p", ""),
    "measured.from_jumps": ("times states", "stop=None"),
    "optimal.advantage": ("to_come features=None", ""),
    "evolve.twin": ("process grid", ""),
    "evolve.Grid": ("lower upper cells periodic=False walls=False", ""),
    "rates.along": ("process evolution", "split='hatano-sasa'"),
    "rates.sampled": ("system lam score xs", ""),
    "rates.sampled_along": ("process path score", ""),
    "rates.velocity": ("system lam score", ""),
    "rates.current": ("system lam density", ""),
    "verify": ("process ts key", "size=10000 grid=None"),
    "onsager_machlup": ("process path", ""),
    "bounds.wasserstein": ("p q", "unit=1.0 grid=None epsilon=None"),
    "bounds.transport": ("distance diffusion_time", ""),
    "bounds.diffusion_time": ("process ts", ""),
    "bounds.landauer": ("entropy_drop distance diffusion_time", "temperature=1.0"),
    "bounds.least_work": (
        "delta_f distance diffusion_time",
        "divergence=0.0 temperature=1.0",
    ),
    "bounds.tur": ("mean variance", ""),
    "bounds.tur_of": ("current", "failed='raise'"),
    "bounds.friction": ("system lam", "grid=None dim=1"),
    "bounds.length": ("system lams", "grid=None dim=1"),
    "bounds.slow": ("length time", ""),
    "bounds.geodesic": ("system start stop t1", "knots=33 grid=None dim=1 steps=500"),
    "inference.entropy_production": (
        "xs dt=None",
        "lag=1 method='max_entropy' features=None network=None score=None drift=None period=None extrapolate=0 folds=5 "
        "key=None steps=2000 batch=512 optimizer=None",
    ),
    "optimal.exact_work": ("process ts grid=None", ""),
    "optimal.exact_reduced_work": ("process ts grid=None", ""),
    "optimal.EvolutionLoss": ("process ts of grid=None", "every=1"),
    "estimators.detailed_fluctuation": ("r_forward r_reverse", "points=None"),
    "export.to_xarray": ("result", "energy='1' length='1' time='1'"),
    "potentials.Tabulated": ("x U outside='infinite'", ""),
    "densities.noised": ("density scale variance", ""),
    "schedules.chain": ("lam mean='ddpm'", ""),
    "schedules.path_work": ("lam denoise x0 key", "tau mean='ddpm' log_p0=None"),
    "schedules.sample": ("lam denoise start key", "tau mean='ddpm'"),
    "schedules.denoising_curve": ("denoise data lam key", "draws=8"),
    "schedules.mean_work": ("lam curve", "tau='optimal'"),
    "schedules.variances": ("lam curve", "tau='optimal'"),
    "schedules.dissipation": ("lam curve", "tau='optimal'"),
    "schedules.friction": ("lam curve", "tau='optimal'"),
    "schedules.thermodynamic_length": ("curve top bottom", "tau='optimal'"),
    "schedules.cost_of": ("curve", "tau='optimal'"),
    "schedules.equal_length": ("curve steps top bottom", "tau='optimal'"),
    "schedules.log_prob": ("lam denoise x0 key", "tau paths=256 mean='ddpm'"),
    "schedules.likelihood": (
        "lam denoise data key",
        "tau paths=256 mean='ddpm' log_p0=None batch=None",
    ),
    "schedules.likelihood_cost_of": ("denoise data curve", "tau='optimal' paths=64"),
    "schedules.ode_log_prob": ("lam denoise x0", "order=1 prior=None"),
    "schedules.ode_sample": ("lam denoise start", "order=1"),
    "schedules.ode_cost_of": ("denoise data first", "order=1"),
    "schedules.arctan": ("steps top bottom", "scale=0.5"),
    "schedules.entropic": ("curve steps top bottom", ""),
    "schedules.align": ("curve steps top bottom", ""),
    "schedules.dynamic": ("curve steps top bottom", "points=256 tau='optimal'"),
    "schedules.gits_like": ("denoise start steps lam", ""),
    "schedules.to_sigmas": ("lam", ""),
    "schedules.from_sigmas": ("sigmas", ""),
    "schedules.to_timesteps": ("lam schedule", ""),
    "schedules.from_timesteps": ("timesteps schedule", ""),
    "diffusion.noising": ("data schedule", "kind=VP() prior=None"),
    "diffusion.predictor": ("net predicts", "kind=VP() name='net'"),
    "diffusion.transition": ("process x t0 t1", ""),
    "diffusion.marginal": ("process t", ""),
    "diffusion.score": ("process", ""),
    "diffusion.generate": ("process predict", "predicts='score' potential=None"),
    "diffusion.reverse_kernel": (
        "process predict lam tau",
        "predicts='score' mean='ddpm'",
    ),
    "diffusion.sample_path": ("process kernel ts key", ""),
    "diffusion.flow": (
        "process predict x",
        "predicts='score' towards='data' rtol=1e-05 steps=None",
    ),
    "diffusion.flow_log_prob": (
        "process predict x",
        "predicts='score' rtol=1e-05 steps=None probes=None key=None",
    ),
    "diffusion.nll": (
        "process predict data key",
        "predicts='score' rtol=1e-05 steps=None probes=None slope=None",
    ),
    "diffusion.elbo": (
        "process predict data key",
        "predicts='score' size=10000 nodes=32 slope=None",
    ),
    "diffusion.denoising_log_prob": (
        "process predict x key",
        "predicts='score' size=10000 nodes=32 slope=1.0 reference=None",
    ),
    "diffusion.bits_per_dim": ("nats dim", "width"),
    "schedules.uncertainty": ("lam dim", "curve=None"),
    "diffusion.price": (
        "noising predict data key",
        "predicts='score' exact=None size=10000 nodes=None top=None flows=0 probes=None potential=None",
    ),
    "diffusion.compare": (
        "noising models data key",
        "predicts='score' exact=None size=10000 nodes=None top=None",
    ),
    "diffusion.score_error": (
        "noising predict data key",
        "predicts='score' exact=None size=10000 nodes=None top=None",
    ),
    "diffusion.endpoint": ("noising data key", "size=10000"),
    "diffusion.noising_entropy": ("noising data key", "exact=None size=10000 nodes=None top=None"),
    "diffusion.generation_entropy": (
        "noising predict data key",
        "predicts='score' size=10000 nodes=None top=None",
    ),
    "diffusion.inefficiency": (
        "noising predict potential key",
        "predicts='score' size=10000 steps=400 delta=0.0 top=None",
    ),
    "diffusion.entropy_rates": ("noising predict data key lam", "predicts='score' size=10000"),
    "diffusion.kinetic": (
        "noising data key",
        "predict=None predicts='score' size=10000 nodes=None top=None",
    ),
    "densities.Uniform": ("lower upper", ""),
    "diffusion.SigmaT": ("sigma=25.0", "t0=0.001 t1=1.0"),
    "diffusion.Linear": ("b0=0.1 b1=20.0", "t0=0.001 t1=1.0 sub=False"),
    "diffusion.Cosine": ("", "offset=0.008 t0=0.001 t1=0.999"),
    "diffusion.EDM": ("sigma_min=0.002 sigma_max=80.0", "rho=7.0 t0=0.0 t1=1.0"),
    "diffusion.Uniform": ("top=10.0 bottom=-10.0", "t0=0.0 t1=1.0"),
    "diffusion.Levels": ("levels", "clean=True"),
}
# A search may grow options; these are promised.
PROMISED = {
    "optimal.search": (
        "loss protocol key",
        "steps optimizer noise gradient check checkpoint progress",
    ),
    "optimal.average": ("of process ts size", "rule solver save"),
    "optimal.estimator_variance": ("process ts size", "reverse rule solver"),
    "optimal.state_to_state": ("process ts size target weight", "rule solver"),
    "optimal.mean_work": ("process ts size", "rule solver"),
    "optimal.mean_dissipation": ("process ts size", "rule solver features"),
    "optimal.mean_reduced_work": ("process ts size", "rule solver features"),
    "optimal.moving_trap": ("start stop t1", "stiffness mobility"),
    "optimal.breathing_trap": ("start stop t1", "mobility temperature"),
}
FIELDS = {
    "Trajectory": "path work heat entropy",
    "Path": "ts xs ok",
    "Entropy": "total medium system",
    "estimators.Estimate": "value stderr ess reliable",
    "estimators.Bootstrap": "value stderr ess reliable draws",
    "measured.Measured": "path controls lengths period",
    "measured.Sampling": "interval relaxation ratio variance shift stderr diffusion enough",
    "optimal.Optimum": "protocol work",
    "rates.Rates": "total medium system housekeeping excess",
    "identities.Residual": "name equation value stderr allowed",
    "schedules.PathWork": "w steps",
    "schedules.Cost": "total parts",
    "schedules.LogProb": "value stderr ess bias reliable work",
    "schedules.Likelihood": "nll kl work gap bias ess marked reliable points",
    "schedules.OdeLogProb": "value residual ok start log_dets",
    "schedules.Chain": "shrink noise keep add posterior",
    "diffusion.Level": "lam rate",
    "diffusion.Rate": "value stderr",
    "diffusion.Rates": "score_error noising generation norm divergence denoising",
    "diffusion.Cutoff": "correction alpha",
    "diffusion.Draws": "score_error endpoint generation norm divergence denoising",
    "diffusion.EntropyRates": "system intrinsic exchange",
    "diffusion.Comparison": "score_error elbo generation norm divergence prices",
}
POTENTIALS = ("Harmonic", "MovingTrap", "Breathing", "DoubleWell", "Quartic", "Ring")


def find(name):
    thing = tjx
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def spell(parameter):
    """A parameter as `name` or `name=default`."""
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={getattr(parameter.default, '__name__', repr(parameter.default))}"


def halves(name):
    kinds = inspect.Parameter
    parameters = inspect.signature(find(name)).parameters.values()
    problem = [p for p in parameters if p.kind is kinds.POSITIONAL_OR_KEYWORD]
    solve = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
    assert len(problem) + len(solve) == len(parameters), "no *args, no **kwargs, all by name"
    return problem, solve


@pytest.mark.smoke
@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    problem, solve = (" ".join(map(spell, half)) for half in halves(name))
    assert (problem, solve) == SIGNATURES[name]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_parameters(name):
    problem, solve = ([p.name for p in half] for half in halves(name))
    assert problem == PROMISED[name][0].split()
    assert set(PROMISED[name][1].split()) <= set(solve)


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    assert find(name)._fields == tuple(FIELDS[name].split())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("evolve.Evolution", "ts work heat reduced_work entropy final at log_prob score"),
        ("evolve.CellEvolution", "grid p ok least edge slope turn error"),
        ("Verdict", "rows holds failed"),
        (
            "diffusion.Pricing",
            "levels weight rates score_error endpoint total noising_entropy generation_entropy elbo nll first_entropy "
            "last_entropy limit gap data_entropy cutoff balance missing inefficiency draws reasons",
        ),
        ("diffusion.Kinetic", "levels speed entropy diffusion_time cost length ends even"),
        (
            "inference.Inferred",
            "rate stderr corrected per_lag per_lag_stderr fitted folds lag ess significant reliable why method extrapolate",
        ),
        ("optimal.Search", "found protocol history price check_price agrees"),
        ("protocols.AbstractProtocol", "t0 t1 before after __call__ given"),
        ("densities.AbstractDensity", "sample log_prob"),
    ],
)
def test_members(name, fields):
    kind = find(name)
    there = {*dir(kind), *getattr(kind, "__annotations__", {}), *getattr(kind, "_fields", ())}
    assert set(fields.split()) <= there


def test_potentials():
    for name in POTENTIALS:
        assert list(inspect.signature(find(f"potentials.{name}").__call__).parameters)[1:] == [
            "x",
            "lam",
        ]


@pytest.mark.parametrize("name", [*SIGNATURES, *PROMISED, *FIELDS])
def test_has_a_docstring(name):
    assert (find(name).__doc__ or "").strip()
    assert not (find(name).__doc__ or "").startswith(f"{name.split('.')[-1]}(")  # a made-up one


@pytest.mark.smoke
def test_version_and_types():
    assert tjx.__version__ == version("thermojax")
    assert resources.files("thermojax").joinpath("py.typed").is_file()


IMPORT = """
import json, sys, warnings
import diffrax, equinox, interpax, jax, optax, tqdm  # what they do to JAX is theirs
warnings.simplefilter("error")
before = {name: repr(value) for name, value in jax.config.values.items()}
import thermojax
after = {name: repr(value) for name, value in jax.config.values.items()}
changed = [name for name in after if after[name] != before.get(name)]
opened = [name for name in ("matplotlib", "scipy.stats", "pymbar", "beartype") if name in sys.modules]
live = jax._src.xla_bridge.backends_are_initialized()
print(json.dumps({"changed": changed, "opened": opened, "live": live}))
"""


@pytest.mark.smoke
def test_importing_changes_nothing():
    """No setting of JAX, no drawing library, and no device is taken: distributed JAX is set up after imports."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"changed": [], "opened": [], "live": False}


def test_a_changed_setting_is_seen():
    """Negative control of the test above."""
    spoilt = IMPORT.replace(
        "import thermojax\n", "import thermojax\njax.config.update('jax_enable_x64', True)\n"
    )
    done = subprocess.run([sys.executable, "-c", spoilt], capture_output=True, text=True)
    assert json.loads(done.stdout)["changed"] == ["jax_enable_x64"]
