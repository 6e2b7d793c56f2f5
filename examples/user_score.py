"""A network trained elsewhere in ten lines; its noise schedule optimised in ten more, in two ways that agree.

Two moons in the plane, with a noise floor of 0.05, and a noise predictor trained by a plain optax loop. The levels of
20 steps are then optimised by one denoising curve; and again, without the curve, by paths through the network, together with
the variances of the generation. Paths of held-out data price them all, under the same noise: the differences are paired.

Writes out/user_score.json and out/user_score.png.
"""

import json
import time
from pathlib import Path

began = time.perf_counter()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from thermojax import diffusion, estimators, schedules  # noqa: E402
from thermojax.optimal import search  # noqa: E402
from thermojax.plots import spell  # noqa: E402
from thermojax.schedules import LogSNR  # noqa: E402

plt.switch_backend("Agg")
N, LOW, HIGH = 20, -13.0, 10.0  # steps; log signal-to-noise ratios trained: cosine's last is -12
key = jax.random.key(0)


def moons(seed, size=10_000, floor=0.05):
    rng = np.random.default_rng(seed)
    angle, side = np.pi * rng.random(size), rng.choice([-1, 1], size=size)
    x = side * np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25])
    return jnp.asarray((x.T + floor * rng.normal(size=(size, 2))) / 0.7, jnp.float32)


train, validation, test = moons(0), moons(1), jnp.tile(moons(2), (4, 1))

# The network, trained elsewhere.
predict = lambda network, x, lam: network(jnp.append(x, lam / 5))


@eqx.filter_jit
def update(network, state, key):
    keys, shape = jax.random.split(key, 3), (1024, 2)
    lam = jax.random.uniform(keys[0], shape[:1], minval=LOW, maxval=HIGH)
    a, s = (jnp.sqrt(jax.nn.sigmoid(v))[:, None] for v in (lam, -lam))
    z = jax.random.normal(keys[1], shape)
    x = a * jax.random.choice(keys[2], train, shape[:1]) + s * z
    loss = lambda net: jnp.mean((jax.vmap(predict, (None, 0, 0))(net, x, lam) - z) ** 2)
    step, state = optimizer.update(eqx.filter_grad(loss)(network), state)
    return eqx.apply_updates(network, step), state


network = eqx.nn.MLP(3, 2, width_size=64, depth=3, activation=jax.nn.silu, key=key)
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 4000))
state = optimizer.init(eqx.filter(network, eqx.is_array))
for i in range(4000):
    network, state = update(network, state, jax.random.fold_in(key, i))
trained = time.perf_counter() - began

# The first way: its denoising curve on held-out data, and the levels that cost least by the curve.
denoise = diffusion.predictor(eqx.Partial(predict, network), "noise")
curve = schedules.denoising_curve(denoise, validation, jnp.linspace(LOW, HIGH, 231), key)
cost = schedules.cost_of(curve)
even = LogSNR.uniform(N, 6.0, -4.0, low=LOW, high=HIGH)
of_ends = lambda ends, key: cost(even.stretched(*ends), key)
tuned = even.stretched(*search(of_ends, jnp.array([6.0, -4.0]), key, steps=200).protocol)
optimised = search(cost, tuned, key, steps=500).protocol


# The second way: levels and variances at once, by paths through the network; the variances as a ratio to the curve's.
def levels_and_variances(plan):
    schedule, log_ratio = plan
    return schedule(), jnp.exp(log_ratio) * schedules.variances(schedule(), curve)


def works(plan, data, key):
    lam, tau = levels_and_variances(plan)
    one = lambda x0, key: schedules.path_work(lam, denoise, x0, key, tau=tau).w
    return jax.vmap(one)(data, jax.random.split(key, len(data)))


def mean_by_paths(plan, key):
    data, noise = jax.random.split(key)
    return jnp.mean(works(plan, jax.random.choice(data, validation, (256,)), noise))


cosine = LogSNR.cosine(N, low=LOW, high=HIGH)
plans = {"cosine": cosine, "tuned_logsnr": tuned, "optimised": optimised}
plans = {name: (schedule, jnp.zeros(N)) for name, schedule in plans.items()}
plans["optimised_by_paths"] = search(mean_by_paths, plans["tuned_logsnr"], key, steps=2000).protocol

# Every plan on the same held-out paths, four noises per point.
price = jax.jit(lambda plan: works(plan, test, jax.random.key(1)).reshape(4, -1).mean(0))
w = {name: price(plan) for name, plan in plans.items()}
report = {"seconds_training": trained}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
print(f"{N} steps, nats    -ELBO: by the curve   by held-out paths   minus optimised      -<ln p>")
for name, plan in plans.items():
    by_paths, excess = (estimators.mean(v)[:2] for v in (w[name], w[name] - w["optimised"]))
    lam, tau = levels_and_variances(plan)
    shown = schedules.likelihood(lam, denoise, test[:200], key, tau=tau, paths=256).nll[:2]
    fields = ("", "_stderr", "_excess", "_excess_stderr", "_nll", "_nll_stderr")
    report |= {
        name + end: float(v) for end, v in zip(fields, by_paths + excess + shown, strict=True)
    }
    by_curve = float(schedules.mean_work(lam, curve, tau=tau).total)
    shown = spell(*shown)
    print(f"{name:20s}{by_curve:18.4f}{spell(*by_paths):>20s}{spell(*excess):>20s}{shown:>16s}")
    line, label = "k.--" if "by" in name else ".-", f"{name.replace('_', ' ')}: {spell(*by_paths)}"
    left.plot(range(1, N + 1), lam, line, lw=1, label=label)
left.set(xlabel="step $k$", ylabel=r"log signal-to-noise ratio $\lambda_k$", xticks=[1, 10, 20])
left.legend(title=r"schedule, and its $-$ELBO in nats", fontsize=8, title_fontsize=8)

tau = schedules.variances(optimised(), curve)
sample = jax.vmap(lambda x, key: schedules.sample(optimised(), denoise, x, key, tau=tau))
drawn = sample(jax.random.normal(key, (2000, 2)), jax.random.split(jax.random.key(2), 2000))
right.plot(*test[:2000].T, ".", color="0.7", ms=3)
right.plot(*drawn.T, ".", color="C2", ms=1.5)
right.set(aspect="equal", title=f"held-out data grey, drawn in {N} steps green")

report["seconds"] = time.perf_counter() - began
Path("out").mkdir(exist_ok=True)
figure.savefig("out/user_score.png", dpi=120)
Path("out/user_score.json").write_text(json.dumps(report, indent=2) + "\n")
print(f"{report['seconds']:.1f} s, {trained:.1f} s of them training")
