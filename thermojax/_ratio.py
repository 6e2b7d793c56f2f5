r"""Chains of kernels: their paths, and the log-ratio of two, one walked forwards and one backwards."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _checks
from ._grids import within
from ._guard import guarded
from ._jit import jit
from ._ledger import check_path, made, uncut
from ._normal import Normal
from ._paths import OF_THE_MEASURED, Path, moves_on
from ._process import Process, a_process, each_path, paths, span, spans
from ._types import Array, Density, Key, Scalar, State, Times
from .protocols import AbstractProtocol, Stopped, moving
from .systems import AbstractDiffusion, AbstractKernelStep

# (process, x, t0, t1) -> the density of the state at t1, or the pair (mean, variance) of a Normal
Kernel: TypeAlias = Callable[[Process, State, Scalar, Scalar], Density | Sequence[Array] | Array]


def kernel_of(step: AbstractKernelStep) -> Kernel:
    """The kernel of a step with the control of the middle of the step."""
    return eqx.Partial(_taken, step)


def _taken(step: AbstractKernelStep, process: Process, x: State, t0: Scalar, t1: Scalar) -> Density:
    return step.kernel(process.system, x, process.protocol(0.5 * (t0 + t1)), t1 - t0)


def euler(process: Process, x: State, t0: Scalar, t1: Scalar) -> Density:
    r"""The kernel of one step that the kernel rule takes, with the control of the middle of the step.

    For overdamped dynamics it is Euler and Maruyama's, a `Normal`; any other system has its own.
    """
    step = process.system.step("kernel")
    if not isinstance(step, AbstractKernelStep):
        raise ValueError(
            f"{type(step).__name__} has a log-ratio and no kernel. Give kernel= (of path_ratio kernels=), or compare a run "
            'with its own reverse: entropy.total of rule="kernel".'
        )
    return _taken(step, process, x, t0, t1)


def path_ratio(
    forward: Process,
    backward: Process,
    path: Path,
    *,
    kernels: Kernel | tuple[Kernel, Kernel] = euler,
) -> Array:
    r"""$\ln P_F[x] / P_B[x_R]$ over two chains of kernels, in nats, per path:

    $$\ln\frac{p_F(x_0)}{p_B(\varepsilon x_n)} + \sum_k \ln \frac{k_F(x_{k+1} | x_k)}{k_B(\varepsilon x_k | \varepsilon
      x_{k+1})} .$$

    The backward chain walks the mirrored grid ($\varepsilon$ flips what is odd under time reversal). `kernels` maps
    `(process, x, t0, t1)` to the density of the next state, or to the `(mean, variance)` of a normal one; one for both
    chains or a pair `(forward, backward)`. Normalisers are kept, so variances may differ. By default each chain takes its
    system's own, Euler–Maruyama's for overdamped dynamics: with `backward = reverse(forward)` the result is R of
    `rule="kernel"`. $\langle e^{-R} \rangle = 1$ at every step size if the path was drawn from the forward chain. Source:
    Crooks, PRE 60, 2721 (1999), eq. 8; Sivak, Chodera & Crooks, PRX 3, 011007 (2013).
    """
    a_process("forward", forward)
    a_process("backward", backward)
    path = check_path(forward, path)
    uncut(path)
    pair = kernels if isinstance(kernels, tuple) else (kernels, kernels)
    if len(pair) != 2 or not all(map(callable, pair)):
        raise TypeError(
            f"kernels must be a callable (process, x, t0, t1) -> (mean, variance), or a pair of them; got {kernels!r}."
        )
    _one_span(forward, backward)
    return _ratio(forward, backward, pair, path)


@jit
def _ratio(
    forward: Process, backward: Process, kernels: tuple[Kernel, Kernel], path: Path
) -> Array:
    def one(forward: Process, backward: Process, path: Path) -> Array:
        xs, flip = path.xs, jax.vmap(forward.system.flip)
        t0, t1 = span(backward.protocol, "path_ratio")

        def total() -> Scalar:
            there = log_path(forward, kernels[0], path)
            mirrored = Path((t0 + t1 - path.ts)[::-1], flip(xs)[::-1])
            back = log_path(backward, kernels[1], mirrored)
            start = forward.initial.log_prob(xs[0])
            steps = there - back[::-1]
            if (own := made(forward.protocol, path)) is not None:
                steps = jnp.where(own, steps, 0)
            return start - backward.initial.log_prob(mirrored.xs[0]) + jnp.sum(steps)

        ok = path.ok & jnp.all(jnp.isfinite(xs))
        return jnp.where(ok, guarded(ok, total), jnp.nan)

    return each_path(one, (forward, backward), path)


def log_prob(process: Process, path: Path, *, kernel: Kernel = euler) -> Array:
    r"""The log-density of a path, $\ln p_0(x_0) + \sum_k \ln k(x_{k+1} | x_k)$, in nats, per path: its likelihood.

    `kernel` maps `(process, x, t0, t1)` to the density of the next state, or to the `(mean, variance)` of a normal one; by
    default it is that of the step which the kernel rule takes, Euler–Maruyama's for overdamped dynamics: right to first
    order in the spacing of `path.ts`, and exact for a path that was drawn so. It is the density of all the states on the
    grid, in the state's units: differences between processes mean something, its value alone does not. Differentiable by
    every leaf of the process and by the path, for maximum likelihood and for samplers of parameters. The samples that
    measured paths only hold are left out, in a process of `Measured.process`; of another one a batch that seems to hold some
    warns.

    A path that is not ok has NaN. Source: Onsager & Machlup, Phys. Rev. 91, 1505 (1953).
    """
    a_process("process", process)
    if not callable(kernel):
        raise TypeError(f"kernel must be a callable (process, x, t0, t1), got {kernel!r}.")
    path = check_path(process, path)
    uncut(path)
    if isinstance(process.system, AbstractDiffusion) and not isinstance(process.protocol, Stopped):
        moves_on("path", path, OF_THE_MEASURED)
    return _log_prob(process, kernel, path)


@jit
def _log_prob(process: Process, kernel: Kernel, path: Path) -> Array:
    def one(process: Process, path: Path) -> Array:
        ok = path.ok & jnp.all(jnp.isfinite(path.xs))

        def total() -> Scalar:
            steps = jnp.where(moving(process.protocol, path.ts), log_path(process, kernel, path), 0)
            return process.initial.log_prob(path.xs[0]) + jnp.sum(steps)

        return jnp.where(ok, guarded(ok, total), jnp.nan)

    return each_path(one, (process,), path)


def log_path(process: Process, kernel: Kernel, path: Path) -> Array:
    """The log-density of each step of one path, given the state before, `(steps,)`."""

    def step(x: State, t0: Scalar, t1: Scalar, y: State) -> Scalar:
        return a_density(kernel(process, x, t0, t1)).log_prob(y)

    ts, xs = path.ts, path.xs
    return jax.vmap(step)(xs[:-1], ts[:-1], ts[1:], xs[1:])


def sample_path(process: Process, kernel: Kernel, ts: Times, key: Key) -> Path:
    """One path of a chain of kernels `(process, x, t0, t1)`, from `process.initial`. Vmap it over keys.

    With `thermojax.euler` it is the Euler–Maruyama chain, with `diffusion.transition` exact noising, with
    `diffusion.reverse_kernel` the generation of an N-step chain. A path that stops being finite has `ok=False`.
    """
    a_process("process", process)
    if not callable(kernel):
        raise TypeError(f"kernel must be a callable (process, x, t0, t1), got {kernel!r}.")
    ts, key = _checks.times("ts", ts), _checks.key("key", key)
    if paths(process) is not None:
        raise ValueError(
            "sample_path takes one protocol, and this process has one for each path. Vmap it over them and over keys."
        )
    within(process, ts)
    return _sample_path(process, kernel, ts, key)


@jit
def _sample_path(process: Process, kernel: Kernel, ts: Times, key: Key) -> Path:
    x = _checks.draw("initial", process.initial)
    _checks.one_float(**{"the initial state": jnp.zeros((), x.dtype), "ts": ts, "process": process})
    start, noise = jax.random.split(key)
    x0 = process.initial.sample(start)
    normals = jax.random.normal(noise, (ts.shape[0] - 1, *x0.shape), x0.dtype)

    def step(x: State, k: tuple[Scalar, Scalar, Array, Array]) -> tuple[State, State]:
        t0, t1, z, i = k
        density = a_density(kernel(process, x, t0, t1))
        if isinstance(density, Normal):
            x = density.at(z)
        else:
            x = density.sample(jax.random.fold_in(noise, i))
        return x, x

    _, xs = jax.lax.scan(step, x0, (ts[:-1], ts[1:], normals, jnp.arange(ts.shape[0] - 1)))
    xs = jnp.concatenate([x0[None], xs])
    return Path(ts, xs, jnp.all(jnp.isfinite(xs)))


def a_density(given: Density | Sequence[Array] | Array) -> Density:
    """What a kernel returned, as a density."""
    return given if isinstance(given, Density) else Normal(*given)


def _one_span(forward: Process, backward: Process) -> None:
    """A path is mirrored about the middle of the backward protocol's span: that of the forward one, where both are known."""
    span(backward.protocol, "path_ratio")
    if isinstance(forward.protocol, AbstractProtocol):
        if _checks.tracing((spans(forward), spans(backward))):
            return
        mine, other = ([np.asarray(end) for end in spans(of)] for of in (forward, backward))
        near = 1e-5 * (mine[1] - mine[0])
        apart = [
            np.abs(a - b) > near + 2 * np.spacing(np.maximum(np.abs(a), np.abs(b)))
            for a, b in zip(mine, other, strict=True)
        ]
        if any(map(np.any, apart)):
            raise ValueError(
                f"path_ratio: forward and backward must share one span (t0, t1), got {mine} and {other}: the "
                "backward chain walks the mirrored grid. thermojax.reverse(process) has the right one."
            )
