"""Stochastic gradient descent as a driven system: at a minimum, where nothing seems to happen, it goes round in circles.

Its noise has a covariance C that does not commute with the Hessian H, so it acts like baths of several temperatures, and
the weights produce entropy for ever. First two weights, where all is known: the entropy by the ledger of simulated paths,
the step's own bias, and the radius at which scale-invariant weights come to rest under weight decay. Then a real network:
the currents of its training near a minimum, measured, against those that H and C predict. Writes out/sgd.json and .png.
"""

import functools as ft
import json
import time
from pathlib import Path

began = time.perf_counter()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
from jax.flatten_util import ravel_pytree  # noqa: E402
from jax.scipy.optimize import minimize  # noqa: E402

jax.config.update("jax_enable_x64", True)  # for the exact numbers

import thermojax as tjx  # noqa: E402
from thermojax import evolve, rates  # noqa: E402

SADRTDINOV = "Sadrtdinov et al., arXiv:2511.07308"
CHAUDHARI = "Chaudhari & Soatto, arXiv:1710.11029"


# ---- the linear theory


def langevin(hessian, noise, eta):
    """d theta = -H theta dt + sqrt(eta C) dW in the coordinates y = V' theta in which C = V diag(c) V' is diagonal.

    There it is a system of the library: a potential y'(V'HV)y / 2, mobility 1, a bath of temperature eta c_i / 2 for each.
    """
    c, v = np.linalg.eigh(noise)
    k = jnp.asarray(v.T @ hessian @ v)
    system = tjx.Overdamped(
        lambda y, lam: 0.5 * jnp.sum(y * (lam @ y)), temperature=jnp.asarray(0.5 * eta * c)
    )
    return system, k, v


def stationary(system, k, t1):
    """The process that stays in its steady state."""
    rest = evolve.steady(system, k, dim=len(k))
    return tjx.Process(system, tjx.protocols.Function(lambda t: k, t1), rest, rest)


def chain(hessian, noise, eta):
    """theta' = (1 - eta H) theta - eta g exactly: stationary covariance, covariance with the next, entropy per step."""
    step, kick = np.eye(len(hessian)) - eta * hessian, eta**2 * noise
    cov = scipy.linalg.solve_discrete_lyapunov(step, kick)
    after = step @ cov  # <theta' theta>
    back = (
        cov - after.T @ step.T - step @ after + step @ cov @ step.T
    )  # of theta - (1 - eta H) theta'
    return cov, after, 0.5 * (np.trace(np.linalg.solve(kick, back)) - len(hessian))


def seen(cov, after, eta):
    """What two-time moments show: area per time (x dy - y dx) / 2, and the least entropy production that goes with them.

    tr D^-1 Omega Sigma^-1 Omega', the thermodynamic uncertainty relation of the best current that is linear in the state.
    """
    area = 0.5 * (after.T - after) / eta  # of coordinates i and j: how fast i turns towards j
    spread = (cov - 0.5 * (after + after.T)) / eta
    return area, float(np.trace(np.linalg.solve(spread, area) @ np.linalg.solve(cov, area.T)))


def plane(paths, steps, eta=0.1, hessian=(1.0, 4.0), rho=0.6, seed=0):
    """Two weights: entropy production exactly, by the ledger of paths, and of the steps of SGD themselves."""
    h, c = np.diag(hessian), np.array([[1.0, rho], [rho, 1.0]])
    system, k, v = langevin(h, c, eta)
    process = stationary(system, k, max(2.0, steps * eta))
    found = evolve.moments(process, jnp.linspace(0.0, 0.1, 3))
    exact = float(rates.along(process, found, split=None).total[-1])
    cov = v @ np.asarray(process.initial.cov) @ v.T
    # of several baths the ledger is of first order in the step: a fine one
    fine = jnp.linspace(0.0, 2.0, 4 * steps + 1)
    keys = jax.random.split(jax.random.key(seed))
    run = tjx.ensemble(process, fine, keys[0], paths)
    produced = np.asarray(run.entropy.total) / 2.0
    # a step of SGD is one of Euler and Maruyama, of length eta, and the kernel rule is its exact ledger
    exact_cov, _, per_step = chain(h, c, eta)
    begin = tjx.densities.Gaussian(jnp.zeros(2), jnp.asarray(v.T @ exact_cov @ v))
    sgd = process.replace(initial=begin, final=begin)
    run = tjx.ensemble(sgd, eta * jnp.arange(steps + 1), keys[1], paths, rule="kernel")
    own = np.asarray(run.entropy.total) / (eta * steps)
    first = (np.asarray(run.path.xs[:, -1]) @ v.T)[:, 0]
    error = lambda x: float(np.std(x, ddof=1) / len(x) ** 0.5)
    return {
        "eta": eta,
        "residual": float(np.abs(h @ cov + cov @ h - eta * c).max()),
        "exact": exact,
        "ledger": float(produced.mean()),
        "ledger_error": error(produced),
        "steps_exact": per_step / eta,
        "steps": float(own.mean()),
        "steps_error": error(own),
        "variance": float(np.mean(first**2)),
        "variance_error": error(first**2),
        "variance_exact": eta / (hessian[0] * (2 - eta * hessian[0])),
        "variance_limit": float(cov[0, 0]),
    }


def radius(walkers, steps, d=50, eta=0.05, decay=0.1, sigma=1.0, begin=0.5, seed=0):
    """|w| of scale-invariant weights under SGD with weight decay: the gradient has no radial part and goes as 1/|w|.

    eta^2 <|g|^2> = eta^2 (d - 1) sigma^2 / r^2 drives out what 2 eta decay r^2 draws
    in: r^4 = eta (d - 1) sigma^2 / (2 decay).
    """

    def step(w, key):
        r = jnp.linalg.norm(w, axis=1, keepdims=True)
        n, kick = w / r, jax.random.normal(key, w.shape)
        gradient = sigma / r * (kick - jnp.sum(kick * n, 1, keepdims=True) * n)
        return w - eta * (gradient + decay * w), r[:, 0]

    w = begin * jnp.eye(d)[0] * jnp.ones((walkers, 1))
    _, r = jax.lax.scan(step, w, jax.random.split(jax.random.key(seed), steps))
    late = np.asarray(r[steps // 2 :]).mean(0)
    limit = (eta * (d - 1) * sigma**2 / (2 * decay)) ** 0.25
    return {
        "limit": limit,
        "finite": limit / (1 - 0.5 * eta * decay) ** 0.25,
        "ours": float(late.mean()),
        "error": float(late.std(ddof=1) / walkers**0.5),
        "path": np.asarray(r[:, 0]).tolist(),
    }


# ---- a real network


def moons(n, seed=0):
    """Two half circles that interlock, and which of them a point is of."""
    rng = np.random.default_rng(seed)
    angle, which = np.pi * rng.random(n), np.arange(n) % 2
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(which, -1, 1)[:, None]
    x = x + np.where(which, 1, 0)[:, None] * np.array([1.0, 0.5]) + 0.15 * rng.normal(size=(n, 2))
    return jnp.asarray(x - x.mean(0)), jnp.asarray(which * 1.0)


def network(points=100, width=2, decay=0.003, seed=1):
    """2 - width - 1 with tanh on two moons: the loss of one point, the minimum, and there H and C, exactly."""
    xs, ys = moons(points)
    keys = jax.random.split(jax.random.key(seed), 2)
    begin = {
        "in": jax.random.normal(keys[0], (width, 2)),
        "at": jnp.zeros(width),
        "out": jax.random.normal(keys[1], (width,)) / width**0.5,
        "bias": jnp.zeros(()),
    }
    theta, unravel = ravel_pytree(begin)

    def each(theta, x, y):
        w = unravel(theta)
        z = jnp.sum(w["out"] * jnp.tanh(w["in"] @ x + w["at"])) + w["bias"]
        return jnp.logaddexp(0.0, z) - y * z + 0.5 * decay * jnp.sum(theta**2)

    loss = lambda theta: jnp.mean(jax.vmap(each, (None, 0, 0))(theta, xs, ys))
    slope, bend = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    theta = minimize(loss, theta, method="BFGS", options={"maxiter": 800, "gtol": 1e-9}).x
    for _ in range(10):
        theta = theta - jnp.linalg.solve(bend(theta), slope(theta))
    rows = np.asarray(jax.vmap(jax.grad(each), (None, 0, 0))(theta, xs, ys))
    return each, (xs, ys), theta, np.asarray(bend(theta)), rows.T @ rows / points


def averaged(problem, eta, batch, draws=1000, rounds=4, seed=0):
    """H and C as the walk finds them: averaged over the Gaussian that they themselves make, found by repetition."""
    each, data, theta, h, c = problem
    normal = jax.random.normal(jax.random.key(seed), (draws, theta.size))
    for _ in range(rounds):
        root = np.linalg.cholesky(chain(h, c / batch, eta)[0])
        h, c = (np.asarray(v) for v in over_cloud(each, data, theta, jnp.asarray(root), normal))
    return h, c


@ft.partial(jax.jit, static_argnums=0)
def over_cloud(each, data, theta, root, normal):
    """Means of Hessian and covariance of the gradients over theta + root n."""
    slopes = jax.vmap(jax.grad(each), (None, 0, 0))
    bend = jax.hessian(lambda w: jnp.mean(jax.vmap(each, (None, 0, 0))(w, *data)))
    at = lambda w: (bend(w), jnp.cov(slopes(w, *data).T, bias=True))
    return [v.mean(0) for v in jax.vmap(lambda n: at(theta + root @ n))(normal)]


@ft.partial(jax.jit, static_argnames=("each", "batch", "epochs", "shuffled", "burn"))
def descend(each, data, theta, begin, eta, batch, epochs, shuffled, burn, seed=0):
    """SGD from `begin` on: of each walker <x x'> and <x_next x'>, x = theta - minimum, after `burn` epochs.

    A batch is drawn with replacement, or the points are shuffled anew in each epoch.
    """
    xs, ys = data
    gradient = jax.grad(lambda w, x, y: jnp.mean(jax.vmap(each, (None, 0, 0))(w, x, y)))

    def one(x, key):
        def epoch(carry, given):
            i, key = given
            n = len(xs) // batch
            order = jax.random.choice(key, len(xs), (n, batch), replace=not shuffled)

            def step(carry, rows):
                x, cov, after = carry
                new = x - eta * gradient(theta + x, xs[rows], ys[rows])
                keep = jnp.where(i < burn, 0.0, 1.0)
                return (new, cov + keep * jnp.outer(x, x), after + keep * jnp.outer(new, x)), None

            return jax.lax.scan(step, carry, order)[0], carry[0]

        zero = jnp.zeros((theta.size, theta.size))
        given = jnp.arange(epochs), jax.random.split(key, epochs)
        (_, cov, after), path = jax.lax.scan(epoch, (x, zero, zero), given)
        steps = (epochs - burn) * (len(xs) // batch)
        return cov / steps, after / steps, path

    return jax.vmap(one)(begin, jax.random.split(jax.random.key(seed), len(begin)))


def jackknife(of, *samples):
    """A function of averages over walkers: its value less its bias, and the standard error."""
    n, sums = len(samples[0]), [s.sum(0) for s in samples]
    whole = np.asarray(of(*[s / n for s in sums]))
    parts = np.array(
        [
            of(*[(s - one[i]) / (n - 1) for s, one in zip(sums, samples, strict=True)])
            for i in range(n)
        ]
    )
    value = n * whole - (n - 1) * parts.mean(0)
    return value, np.sqrt((n - 1) * parts.var(0))


def currents(problem, eta, batch, epochs, walkers, shuffled=False, leading=3, seed=0):
    """Areas per time in the leading directions of the noise, and entropy production, predicted and measured."""
    each, data, theta, h, c = problem
    axes = np.linalg.eigh(c)[1][:, ::-1][:, :leading]
    cov, after, per_step = chain(h, c / batch, eta)
    project = lambda m: axes.T @ m @ axes
    pairs = np.triu_indices(leading, 1)

    def numbers(cov, after):
        area, least = seen(project(cov), project(after), eta)
        return np.array([*area[pairs], least, seen(cov, after, eta)[1], *np.diag(project(cov))])

    mean_h, mean_c = averaged(problem, eta, batch)
    own_cov, own_after, _ = chain(mean_h, mean_c / batch, eta)
    rng, burn = np.random.default_rng(seed), epochs // 5
    begin = rng.multivariate_normal(np.zeros(len(h)), own_cov, walkers)  # to save time
    run = descend(each, data, theta, begin, eta, batch, epochs, shuffled, burn, seed)
    covs, afters, paths = (np.asarray(v) for v in run)
    value, error = jackknife(numbers, covs, afters)
    names = [f"area {i + 1}{j + 1}" for i, j in zip(*pairs, strict=True)]
    names += ["entropy production seen", "seen in all directions"]
    names += [f"variance {i + 1}" for i in range(leading)]
    table = numbers(cov, after), numbers(own_cov, own_after), value, error
    keys = ("predicted", "averaged", "measured", "error")
    return {
        "eta": eta,
        "shuffled": shuffled,
        "production": per_step / eta,
        "rows": {
            n: dict(zip(keys, map(float, r), strict=True))
            for n, *r in zip(names, *table, strict=True)
        },
        "path": (paths[0, -500:] @ axes).tolist(),
        "cov": project(covs.mean(0)).tolist(),
    }


def extrapolated(networks, name):
    """Measured over predicted at eta -> 0, by a parabola through those at finite eta, with its standard error."""
    rows = [n["rows"][name] for n in networks]
    ratio, error = (np.array([r[k] / r["predicted"] for r in rows]) for k in ("measured", "error"))
    powers = np.vander([n["eta"] for n in networks], 3, increasing=True) / np.abs(error)[:, None]
    fit = np.linalg.lstsq(powers, ratio / np.abs(error), rcond=None)[0]
    return float(fit[0]), float(np.linalg.inv(powers.T @ powers)[0, 0] ** 0.5)


def main(paths=20_000, steps=100, walkers=100, epochs=2000, etas=(0.05, 0.1, 0.2, 0.4)):
    report = {"plane": [plane(paths, steps, eta, seed=i) for i, eta in enumerate((0.1, 0.01))]}
    report["radius"] = [
        radius(walkers, 20 * steps, begin=r, seed=i) for i, r in enumerate((0.5, 4.0))
    ]
    problem = network()
    report["network"] = []
    for i, eta in enumerate(etas):
        report["network"].append(currents(problem, eta, 10, epochs, walkers, seed=i))
    report["shuffled"] = currents(problem, etas[1], 10, epochs, walkers, shuffled=True)
    report["reproduced"] = reproduced(report)
    return report


def reproduced(report):
    row = lambda what, source, exact, ours, error: {
        "what": what,
        "source": source,
        "exact": exact,
        "theirs": None,
        "ours": ours,
        "error": error,
        "within": 4 * error if error else 1e-9,
    }
    rows = []
    for p in report["plane"]:
        at = f"eta = {p['eta']}"
        rows += [
            row(f"SGD, two weights: entropy production, {at}", CHAUDHARI, 1.0125, p["exact"], None),
            row(f"the same by paths, {at}", CHAUDHARI, 1.0125, p["ledger"], p["ledger_error"]),
            row(
                f"the same of the steps of SGD, {at}",
                CHAUDHARI,
                p["steps_exact"],
                p["steps"],
                p["steps_error"],
            ),
            row(
                f"variance of a weight under SGD, {at}",
                CHAUDHARI,
                p["variance_exact"],
                p["variance"],
                p["variance_error"],
            ),
        ]
    for r in report["radius"]:
        rows.append(
            row("radius of scale-invariant weights", SADRTDINOV, r["finite"], r["ours"], r["error"])
        )
    for name in ("area 23", "entropy production seen"):
        ours, error = extrapolated(report["network"], name)
        what = f"SGD of a network, {name}: measured over predicted, eta -> 0"
        rows.append(row(what, CHAUDHARI, 1.0, ours, error))
    return rows


def draw(report, file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.8, 3.4), layout="constrained")
    shown = report["network"][1]
    path, cov = np.array(shown["path"]), np.array(shown["cov"])[1:, 1:]
    left.plot(path[:, 1], path[:, 2], ".", color="0.45", ms=3)
    angle = np.linspace(0, 2 * np.pi, 200)
    ring = np.linalg.cholesky(cov) @ np.array([np.cos(angle), np.sin(angle)])
    left.plot(*ring, color="C3", lw=2)
    turn = shown["rows"]["area 23"]["measured"] * np.array([[0, -1], [1, 0]])
    at = ring[:, ::25]
    left.quiver(*at, *(turn @ np.linalg.solve(cov, at)), color="C3", width=0.012)
    left.set(xlabel="second direction of noise", ylabel="third", title="a network at its minimum")
    for r, colour in zip(report["radius"], ("C0", "C3"), strict=True):
        middle.plot(np.arange(400), r["path"][:400], color=colour, lw=1.5)
    middle.axhline(report["radius"][0]["limit"], color="k", ls="--", lw=1.2)
    middle.set(xlabel="step", ylabel="$|w|$", title="scale-invariant weights", ylim=(0, None))
    for name, colour, mark in (("area 23", "C0", "o"), ("entropy production seen", "C3", "s")):
        etas = [n["eta"] for n in report["network"]]
        rows = [n["rows"][name] for n in report["network"]]
        value, error, own = (
            [r[k] / r["predicted"] for r in rows] for k in ("measured", "error", "averaged")
        )
        right.errorbar(etas, value, error, fmt=mark, color=colour, label=name)
        label = "H and C averaged" if mark == "s" else None
        right.plot(etas, own, color=colour, lw=1.5, label=label)
        r = report["shuffled"]["rows"][name]
        right.plot(0.1, r["measured"] / r["predicted"], mark, mfc="none", color=colour, ms=8)
    right.annotate("epochs shuffled", (0.1, 0.25), (0.16, 0.1), arrowprops={"arrowstyle": "-"})
    right.axhline(1, color="k", ls="--", lw=1.2)
    right.set(xlabel=r"learning rate $\eta$", title="measured / predicted", ylim=(0, 1.5))
    right.legend(fontsize=8, loc="upper right")
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    report = main()
    for one in report["reproduced"]:
        error = f" ± {one['error']:.2g}" if one["error"] else ""
        print(f"{one['what']}: {one['ours']:.6g}{error} (exact {one['exact']:.6g})")
    for found in report["network"] + [report["shuffled"]]:
        print(
            f"eta = {found['eta']}, shuffled: {found['shuffled']}, production {found['production']:.4f}"
        )
        for name, r in found["rows"].items():
            print(f"   {name}:", *(f"{key} {value:.4g}" for key, value in r.items()))
    out = Path("out")
    out.mkdir(exist_ok=True)
    draw(report, out / "sgd.png")
    report["seconds"] = time.perf_counter() - began
    (out / "sgd.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['seconds']:.1f} s, compilation included")
