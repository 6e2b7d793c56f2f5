r"""The noise schedule that dissipates least in N steps, for a mixture whose score is exact, against the standard schedules.

Eight narrow modes on a circle. The mean work <w> = -ELBO - S_0 of N steps follows from the mean squared error of the
denoiser at each level, which is exact here, by quadrature over the plane; so is the entropy S_0. The standard schedules are
priced as they are, with both ends tuned (their own curve, run from another level to another), and stretched (their shape
drawn out linearly between two levels, which makes another schedule of it); then all N levels are optimised. Fresh paths
check the price: they must have the same mean, and <e^-w> = 1 at any N. All this is with the optimal variances of the
kernels; one number is with beta.

Writes out/schedule_mixture.json and out/schedule_mixture.png.
"""

import json
import time
from functools import partial
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import optax  # noqa: E402

import thermojax as tjx  # noqa: E402
from thermojax import diffusion, plots, schedules  # noqa: E402
from thermojax.schedules import LogSNR, mean_work  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ANGLES, STD = jnp.arange(8) * jnp.pi / 4, 0.1
MODES = jnp.sqrt(2.0) * jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=1)
WEIGHTS = jnp.ones(8) / 8
STEPS, SHOWN = (10, 25, 50), 25
STANDARD = {  # the time of each, as a function of the level
    "linear": diffusion.Linear().time,
    "cosine": diffusion.Cosine().time,
    "edm": diffusion.EDM().time,
    "uniform": diffusion.Uniform().time,  # it has no ends of its own: 6 and -3 are the library's
}
STRETCHED = ("linear", "cosine")
BOX = {"low": -16.0, "high": 14.0}  # holds EDM's first level, 12.4, and the last of cosine, -13.8
FINE = jnp.linspace(-15.0, 13.0, 4001)
UPDATES, RATE = 1000, 0.1
PATHS, SAMPLES, POINTS = 400_000, 100_000, 20_000
OFF = 4 * STD  # further from every mode than this is off-mode; of the data itself 0.03 % are


def components(x, lam):
    """Log densities of the components at the level lam, and the share of their variance that is noise."""
    a2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
    v = a2 * STD**2 + s2
    far = jnp.sum((x - jnp.sqrt(a2) * MODES) ** 2, axis=1)
    return jnp.log(WEIGHTS) - far / (2 * v) - jnp.log(2 * jnp.pi * v), s2 / v


def log_p(x, lam=jnp.inf):
    return jax.nn.logsumexp(components(x, lam)[0])


denoise = diffusion.predictor(jax.grad(log_p), "score")


def draw(key, count):
    choose, spread = jax.random.split(key)
    chosen = jax.random.choice(choose, len(MODES), (count,), p=WEIGHTS)
    return MODES[chosen] + STD * jax.random.normal(spread, (count, 2))


def variance(x, lam):
    """Of the clean state given the noisy one, per coordinate: within the components and between them."""
    logs, share = components(x, lam)
    p = jax.nn.softmax(logs)
    between = jnp.sum(p[:, None] * (MODES - p @ MODES) ** 2) / 2
    return share * STD**2 + share**2 * between


@jax.jit
def exact_curve(levels):
    """The denoising curve and the entropy by the trapezoidal rule: steps of std/2 leave errors below 1e-6."""
    side = jnp.arange(-6.0, 6.0, STD / 2)
    plane = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)

    def average(f, lam):
        p = jnp.exp(jax.vmap(log_p, (0, None))(plane, lam))
        return jnp.sum(p * jax.vmap(f, (0, None))(plane, lam)) / jnp.sum(p)

    mse = jax.lax.map(partial(average, variance), levels)
    second = WEIGHTS @ jnp.sum(MODES**2, axis=1) / 2 + STD**2
    return schedules.Curve(levels, mse, second, 2), -average(log_p, jnp.inf)


def descend(price, start):
    rule = optax.adam(optax.cosine_decay_schedule(RATE, UPDATES))

    def update(carry, _):
        now, state = carry
        move, state = rule.update(jax.grad(price)(now), state)
        return (optax.apply_updates(now, move), state), None

    return jax.lax.scan(update, (start, rule.init(start)), length=UPDATES)[0][0]


def place(coordinate, shares, ends):
    """Levels with these shares of a coordinate, known on FINE, from the first end to the last."""
    first, last = jnp.interp(jnp.clip(ends, FINE[0], FINE[-1]), FINE, coordinate)
    return jnp.interp(first + (last - first) * shares, coordinate, FINE)


@jax.jit
def tune(coordinate, shares, curve):
    """The levels with the best ends: of a coarse grid first, which no plateau can mislead, then by descent."""
    price = lambda ends: mean_work(place(coordinate, shares, ends), curve).total
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(1.5, 12, 22), jnp.linspace(-9, 1, 21)), -1)
    grid = grid.reshape(-1, 2)
    ends = descend(price, grid[jnp.nanargmin(jax.vmap(price)(grid))])
    return place(coordinate, shares, ends)


@partial(jax.jit, static_argnames="tau")
def optimise(start, curve, tau="optimal"):
    """All N levels."""
    price = lambda schedule: mean_work(schedule(), curve, tau=tau).total
    return descend(price, LogSNR.from_array(start, **BOX))()


@partial(jax.jit, static_argnames="tau")
def work(lam, curve, tau="optimal"):
    """<w>, and what each step k = 2 ... N dissipates of it."""
    steps = schedules.dissipation(lam, curve, tau=tau)
    return mean_work(lam, curve, tau=tau).total - entropy, steps


@jax.jit
def paths(lam, tau, key):
    first, second = jax.random.split(key)
    one = lambda a: schedules.path_work(lam, denoise, *a, tau=tau, log_p0=log_p).w
    inputs = draw(first, PATHS), jax.random.split(second, PATHS)
    return jax.lax.map(one, inputs, batch_size=20_000)


@jax.jit
def generate(lam, tau, key):
    """Samples, and which of them are off-mode."""
    first, second = jax.random.split(key)
    one = lambda start, key: schedules.sample(lam, denoise, start, key, tau=tau)
    x = jax.vmap(one)(jax.random.normal(first, (SAMPLES, 2)), jax.random.split(second, SAMPLES))
    far = jnp.min(jnp.linalg.norm(x[:, None] - MODES, axis=2), axis=1) > OFF
    return x, far


grid = jnp.linspace(BOX["low"], BOX["high"], 241)
curve, entropy = exact_curve(grid)
keys = jax.random.split(jax.random.key(0), 4)
# The same from data. Its schedule is nearly as good, its own price is not: the noise of the curve adds up over the levels.
points = schedules.denoising_curve(denoise, draw(keys[0], POINTS), grid, keys[1], draws=2)
lengths = {}  # of the two curves: lam -> share of the thermodynamic length from -15
for name, known in (("exact", curve), ("points", points)):
    even = schedules.equal_length(known, FINE.size, float(FINE[-1]), float(FINE[0]))
    lengths[name] = jnp.interp(FINE, even[::-1], jnp.linspace(0, 1, FINE.size))

report, found, pictures = {}, {}, {}
data = draw(keys[2], 1000)
for n in STEPS:
    own = {name: getattr(LogSNR, name)(n, **BOX)() for name in STANDARD}
    native = {name: float(work(lam, curve)[0]) for name, lam in own.items()}
    even = jnp.linspace(0, 1, n)
    tuned = {name: tune(-time(FINE), even, curve) for name, time in STANDARD.items()}
    at_best = {name: float(work(lam, curve)[0]) for name, lam in tuned.items()}
    shapes = {name: (own[name] - own[name][0]) / jnp.ptp(-own[name]) for name in STRETCHED}
    drawn = {name: tune(FINE, -shape, curve) for name, shape in shapes.items()}
    stretched = {name: float(work(lam, curve)[0]) for name, lam in drawn.items()}
    equal = tune(lengths["exact"], even, curve)
    started = time.perf_counter()
    best = jax.block_until_ready(optimise(equal, curve))
    seconds = time.perf_counter() - started
    by_points = optimise(tune(lengths["points"], even, points), points)
    ends = (
        float(best[0]) + 2,
        float(best[-1]),
    )  # beta lacks the decoder's spread: it needs a higher top
    beta = optimise(schedules.equal_length(curve, n, *ends, tau="forward"), curve, "forward")

    shaped = tuned[min(at_best, key=at_best.get)]
    lams = {"cosine": own["cosine"], "tuned": shaped, "optimised": best}
    taus = {name: schedules.variances(lam, curve) for name, lam in lams.items()}
    w = paths(best, taus["optimised"], keys[2])
    shown = schedules.likelihood(
        best, denoise, data, keys[2], tau=taus["optimised"], paths=256, log_p0=log_p
    )
    mean, fluctuation = tjx.estimators.mean(w), tjx.estimators.integral_fluctuation(w)
    pictures[n] = {name: generate(lam, taus[name], keys[3]) for name, lam in lams.items()}
    off = {name: float(jnp.mean(far)) for name, (_, far) in pictures[n].items()}
    found[n] = {name: (lam, *work(lam, curve)) for name, lam in lams.items()}
    report[str(n)] = {
        "optimised": float(work(best, curve)[0]),
        "best_native": min(native[name] for name in ("linear", "cosine", "edm")),
        "best_tuned": min(at_best.values()),
        "pathwise": float(mean.value),
        "pathwise_stderr": float(mean.stderr),
        "kl": float(shown.kl.value),
        "kl_stderr": float(shown.kl.stderr),
        "kl_bias": float(shown.bias),
        "ift": float(fluctuation.value),
        "ift_stderr": float(fluctuation.stderr),
        "ess_fraction": float(fluctuation.ess) / PATHS,
        "off_mode": off["optimised"],
        "off_mode_cosine": off["cosine"],
        "off_mode_tuned": off["tuned"],
        "beta_optimised": float(work(beta, curve, "forward")[0]),
        "equal_length": float(work(equal, curve)[0]),
        "from_points": float(work(by_points, curve)[0]),
        "from_points_own_price": float(work(by_points, points)[0]),
        "native": native,
        "tuned": at_best,
        "stretched": stretched,
        "levels": best.tolist(),
        "optimisation_seconds": seconds,
    }

COLOURS = {"cosine": "0.55", "tuned": "C1", "optimised": "C0"}
best_family = {n: min(r["tuned"], key=r["tuned"].get) for n, r in report.items()}
names = {name: name for name in COLOURS} | {"tuned": f"{best_family[str(SHOWN)]}, ends tuned"}
figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), layout="constrained")
levels, dissipation, excess = axes[0]
places = {"cosine": (0.62, -4.6), "tuned": (0.3, 4.0), "optimised": (0.03, 0.3)}
heights = {"cosine": (7, 0.03), "tuned": (13.5, 0.0093), "optimised": (2, 0.0047)}
for name, (lam, _, steps) in found[SHOWN].items():
    style = {"color": COLOURS[name], "marker": "o", "ms": 3.5}
    k = jnp.arange(1, SHOWN + 1)
    levels.plot(k / SHOWN, lam, **style)
    levels.text(*places[name], names[name], color=COLOURS[name])
    dissipation.semilogy(k[1:], steps, **style)
    dissipation.text(*heights[name], names[name], color=COLOURS[name])
levels.set(title=f"levels, N = {SHOWN}", xlabel="$k/N$", ylabel=r"$\lambda_k$", ylim=(-7, 7))
dissipation.set(title=f"dissipated at each step, N = {SHOWN}", xlabel="step $k$", ylabel="nats")
dissipation.set(ylim=(3e-4, 0.1), xlim=(0, SHOWN + 1))

rows = {f"{name}, as it is": ("native", name) for name in ("cosine", "uniform")}
rows |= {f"{name}, ends tuned": ("tuned", name) for name in ("cosine", "uniform")}
rows["linear, stretched"] = ("stretched", "linear")
for label, (kind, name) in (rows | {"equal length": ("equal_length", None)}).items():
    prices = [r[kind][name] if name else r[kind] for r in report.values()]
    over = [100 * (p / r["optimised"] - 1) for p, r in zip(prices, report.values(), strict=True)]
    color = {"native": "0.55", "tuned": "C1", "stretched": "C4", "equal_length": "C2"}[kind]
    excess.loglog(STEPS, over, "o-", color=color)
    excess.text(STEPS[-1] * 1.07, over[-1], label, color=color, va="center")
marks = [f"{n}\n{r['optimised']:.3f}" for n, r in report.items()]
excess.set_xticks(STEPS, marks)
excess.set_xticks([], minor=True)
excess.set_yticks([1, 10, 100], ["1 %", "10 %", "100 %"])
excess.set(title=r"$\langle w \rangle$ above the optimum", xlim=(9, 200))
excess.set_xlabel(r"steps $N$, and $\langle w \rangle$ of the optimum", x=0.3)

n = STEPS[0]
names["tuned"] = f"{best_family[str(n)]}, ends tuned"
for panel, (name, (x, far)) in zip(axes[1], pictures[n].items(), strict=True):
    x, far = x[:4000], far[:4000]
    panel.scatter(*x[~far].T, s=1.5, color="0.6", lw=0)
    panel.scatter(*x[far].T, s=9, color="C3", lw=0)
    share = 100 * jnp.mean(pictures[n][name][1])
    panel.set_title(f"{names[name]}, N = {n}: {share:.1f} % off-mode", color=COLOURS[name])
    panel.set(aspect="equal", xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), xticks=[], yticks=[])
out = Path("out")
out.mkdir(exist_ok=True)
figure.savefig(out / "schedule_mixture.png", dpi=130)
seconds = time.perf_counter() - began
written = {"N": report, "entropy": float(entropy), "seconds": seconds}
(out / "schedule_mixture.json").write_text(json.dumps(written, indent=2) + "\n")

print(
    f"mean work <w>, path-level, in nats; S_0 = {float(entropy):.4f} by quadrature; {PATHS} paths"
)
for n, r in report.items():
    price = r["optimised"]
    below = lambda other, price=price: f"{1 - price / other:.1%}"
    by_paths = plots.spell(r["pathwise"], r["pathwise_stderr"])
    kl = plots.spell(r["kl"] - r["kl_bias"], r["kl_stderr"])
    print(f"N = {n}: optimised {price:.4f}, by paths {by_paths}; KL(data || generated) {kl}")
    for kind in ("native", "tuned", "stretched"):
        prices = ", ".join(f"{name} {value:.4f}" for name, value in r[kind].items())
        print(f"  {kind:12s} {prices}")
    print(
        f"  below the best native {below(r['best_native'])} (uniform from 6 to -3: {below(r['native']['uniform'])}), "
        f"below the best with tuned ends {below(r['best_tuned'])}, stretched {below(min(r['stretched'].values()))}\n"
        f"  equal length {r['equal_length']:.4f}, {r['equal_length'] / price - 1:.1%} above the optimum;  "
        f"optimised for the variance beta {r['beta_optimised']:.4f}\n"
        f"  <e^-w> = {plots.spell(r['ift'], r['ift_stderr'])}, ESS/M {r['ess_fraction']:.2f};  "
        f"off-mode: cosine {r['off_mode_cosine']:.2%}, tuned {r['off_mode_tuned']:.2%}, optimised {r['off_mode']:.2%}\n"
        f"  found on a curve from {POINTS} points {r['from_points']:.4f}; that curve says {r['from_points_own_price']:.4f}\n"
        f"  search of {r['optimisation_seconds']:.1f} s, compilation included"
    )
print(f"{seconds:.1f} s, compilation included")
