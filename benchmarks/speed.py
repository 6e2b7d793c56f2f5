"""What the thermodynamics costs: times as ratios to the floor, which is drawing the random numbers and nothing else.

One run, float32, a trap dragged by a user's lambda potential with 16 knots, a bead without and with a mass in it, 10 000
paths × 1000 steps; the candidates take turns. Ratios are given of the medians and, where neighbours disturb the machine,
of the fastest turns. Memory is the compiler's own account of its temporary buffers.

    python benchmarks/speed.py [--paths 10000] [--steps 1000] [--rounds 11]
"""

import argparse
import statistics
import time
from importlib.metadata import version

import diffrax as dfx
import jax
import jax.numpy as jnp

import thermojax as tjx


def trap(x, lam):
    return 0.5 * jnp.sum((x - lam) ** 2)


system = tjx.Overdamped(trap)
initial = tjx.densities.Gaussian(0.0, 1.0)
masses = tjx.Underdamped(trap, friction=1.0, mass=1.0)
at_rest = tjx.densities.Boltzmann(masses, 0.0)
ramp = tjx.protocols.ramp(0.0, 5.0, 1.0, knots=16)
key = jax.random.key(0)

SOLVERS = {
    "default (unrolled Heun)": None,
    "diffrax.Euler": dfx.Euler(),
    "diffrax.Heun": dfx.Heun(),
    "diffrax.SRA1": dfx.SRA1(),
    "diffrax.ShARK": dfx.ShARK(),
}
ADJOINTS = {
    "default (chunks)": None,
    "RecursiveCheckpoint": dfx.RecursiveCheckpointAdjoint(),
    "Direct": dfx.DirectAdjoint(),
}


def floor(paths, steps):
    def body(total, i):
        return total + jax.random.normal(jax.random.fold_in(key, i), (paths, 1)), None

    return lambda key: jax.lax.scan(body, jnp.zeros((paths, 1)), jnp.arange(steps))[0]


def forward(paths, steps, system=system, initial=initial, **options):
    ts = jnp.linspace(0.0, 1.0, steps + 1)

    def run(values, key):
        protocol = tjx.protocols.Piecewise(ramp.ts, values, 0.0, 5.0)
        return tjx.ensemble(tjx.Process(system, protocol, initial), ts, key, paths, **options)

    return run


def mean_work(run):
    return lambda values, key: run(values, key).work.mean()


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile()


def memory(program):
    return program.memory_analysis().temp_size_in_bytes / 2**20


def timed(programs, rounds):
    """Seconds of every turn: the programs take turns, so that a slow moment of the machine hits all of them."""
    times = {name: [] for name in programs}
    for program, args in programs.values():
        jax.block_until_ready(program(*args))
    for _ in range(rounds):
        for name, (program, args) in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*args))
            times[name].append(time.perf_counter() - began)
    return times


def ratios(turns, base):
    """The ratio of the medians and that of the fastest turns."""
    return "".join(f"{how(turns) / how(base):7.2f}" for how in (statistics.median, min))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    paths, steps = options.paths, options.steps
    arguments = (ramp.values, key)

    programs = {"floor": (compiled(floor(paths, steps), key), (key,))}
    for name, solver in SOLVERS.items():
        run = forward(paths, steps, solver=solver)
        programs[f"forward, {name}"] = (compiled(run, *arguments), arguments)
    kernel = forward(paths, steps, rule="kernel")
    programs['forward, rule="kernel"'] = (compiled(kernel, *arguments), arguments)
    for rule in ("alternating", "kernel"):
        run = forward(paths, steps, masses, at_rest, rule=rule)
        name = f"masses ({rule} rule)"
        programs[f"forward, {name}"] = (compiled(run, *arguments), arguments)
        gradient = jax.grad(mean_work(run))
        programs[f"gradient, {name}"] = (compiled(gradient, *arguments), arguments)
    for name, solver in SOLVERS.items():
        for how, adjoint in ADJOINTS.items():
            gradient = jax.grad(mean_work(forward(paths, steps, solver=solver, adjoint=adjoint)))
            programs[f"gradient, {name}, {how}"] = (compiled(gradient, *arguments), arguments)
        tangent = mean_work(forward(paths, steps, solver=solver, adjoint=dfx.ForwardMode()))
        one = jax.tree_util.Partial(lambda f, v, k: jax.jvp(lambda v: f(v, k), (v,), (v,)), tangent)
        programs[f"one tangent, {name}, ForwardMode"] = (compiled(one, *arguments), arguments)

    times = timed(programs, options.rounds)
    print(
        f"jax {jax.__version__}, jaxlib {version('jaxlib')}, {jax.devices()[0].device_kind}, "
        f"{paths} paths × {steps} steps, float32, {options.rounds} turns each"
    )
    print(f"{'':58s}{'median':>8s}{'÷ floor':>14s}{'÷ forward':>14s}{'':8s}")
    print(f"{'':58s}{'ms':>8s}{'med.':>7s}{'best':>7s}{'med.':>7s}{'best':>7s}{'MiB':>8s}")
    for name, turns in times.items():
        forward_run = times.get(f"forward, {name.split(', ')[1]}" if ", " in name else name, turns)
        print(
            f"{name:58s}{1e3 * statistics.median(turns):8.1f}{ratios(turns, times['floor'])}"
            f"{ratios(turns, forward_run)}{memory(programs[name][0]):8.2f}"
        )

    print("\ntemporary memory of the default gradient")
    last = None
    for n in (steps // 4, steps, 4 * steps):
        now = memory(compiled(jax.grad(mean_work(forward(paths, n))), *arguments))
        print(f"{n:6d} steps {now:8.2f} MiB" + (f"   × {now / last:.2f}" if last else ""))
        last = now


if __name__ == "__main__":
    main()
