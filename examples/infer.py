"""What a bead's path says about its trap: stiffness and mobility, with their errors, from the likelihood of the path.

`thermojax.log_prob` is the log-density of a path and differentiates by every leaf of the process, so any sampler of
parameters takes it as it stands; here NUTS of blackjax. Writes out/infer.json; half a minute.

    python examples/infer.py
"""

import json
from pathlib import Path

import blackjax
import jax
import jax.numpy as jnp

import thermojax as tjx

STIFFNESS, MOBILITY = 2.0, 0.5
HOLD = tjx.protocols.ramp(0.0, 0.0, 160.0)


def process(log_stiffness, log_mobility):
    trap = tjx.potentials.MovingTrap(jnp.exp(log_stiffness))
    system = tjx.Overdamped(trap, mobility=jnp.exp(log_mobility))
    return tjx.Process(system, HOLD, tjx.densities.Gaussian(0.0, jnp.exp(-log_stiffness)))


def main(samples=500, warmup=300):
    truth = {"log_stiffness": jnp.log(STIFFNESS), "log_mobility": jnp.log(MOBILITY)}
    ts = jnp.linspace(0.0, 160.0, 8001)
    key_path, key_warm, key_draw = jax.random.split(jax.random.key(0), 3)
    path = tjx.simulate(process(**truth), ts, key_path).path

    def posterior(theta):  # a flat prior in the logarithms
        return tjx.log_prob(process(**theta), path)

    start = {"log_stiffness": jnp.zeros(()), "log_mobility": jnp.zeros(())}
    adapt = blackjax.window_adaptation(blackjax.nuts, posterior)
    (state, numbers), _ = adapt.run(key_warm, start, warmup)
    kernel = blackjax.nuts(posterior, **numbers)

    def draw(state, key):
        state, _ = kernel.step(key, state)
        return state, state.position

    _, draws = jax.lax.scan(draw, state, jax.random.split(key_draw, samples))
    found = {}
    for name, exact in (("stiffness", STIFFNESS), ("mobility", MOBILITY)):
        values = jnp.exp(draws[f"log_{name}"])
        found[name] = {
            "exact": exact,
            "mean": float(values.mean()),
            "standard deviation": float(values.std()),
        }
        print(f"{name:10s} {values.mean():.3f} ± {values.std():.3f}   (exact {exact})")
    Path("out").mkdir(exist_ok=True)
    Path("out/infer.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
