r"""Equilibrium of a nonlinear system in d dimensions, by Markov chains (blackjax)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._jit import jit
from .._types import Array, Control, Float, Given, Key, PyTree, Scalar, State
from ..systems import AbstractSystem
from ._boltzmann import Boltzmann

R_HAT = 1.01  # Vehtari et al. (2021)
SIZE_PER_CHAIN = 100  # effective, of the worst coordinate
DIVERGENT = 0.01  # of the steps
FINER = 2.0**-13  # of the radii along a line, where most of them lie outside
FINEST = 1e-24


class Draws(eqx.Module):
    r"""Stored draws `xs` `(n, d)`; called with a key it picks a row.

    Averages over the draws have a standard error of $\sigma/\sqrt{\texttt{ess}}$, with `ess` the effective sample size of
    the coordinate (or the energy) that has the least, however many runs start from them. `r_hat` is the largest
    rank-normalised split-$\hat R$.
    """

    xs: Float[Array, "n d"]
    ess: Scalar
    r_hat: Scalar

    def __call__(self, key: Key) -> State:
        return self.xs[jax.random.randint(key, (), 0, self.xs.shape[0])]


def mcmc(
    system: AbstractSystem,
    lam: Control,
    key: Key,
    *,
    dim: int,
    size: int = 20_000,
    chains: int = 8,
    start: Given = None,
    warmup: int = 1000,
    log_z: Given = None,
) -> Boltzmann:
    r"""The `Boltzmann` density of any potential in d dimensions, $p(x) \propto e^{-\phi(x)}$, $\phi = U/T$, sampled by NUTS.

    All chains run at once, each with its own step size and mass matrix, and their draws are kept: `sample` picks one, and
    `.sampler` is the `Draws`, with their effective sample size `ess`. It takes some seconds, most of them to compile.

    **Arguments:**

    - `system`, `lam`, `dim`: what is in equilibrium, at which control, and its number of coordinates.
    - `key`: one `jax.random.key`.
    - `size`: draws that are kept, from all chains (rounded up to a multiple of `chains`).
    - `chains`: at least 2. They must agree, which says something only if they start far apart.
    - `start`: `(chains, dim)`, or None: on random lines through the origin, up to where $\phi$ is 10 above its minimum on
      the line; every line is used in both directions.
    - `warmup`: steps of each chain that adapt it and are dropped.
    - `log_z`: $\ln Z$, if known; only `log_prob` needs it.

    Raises `RuntimeError` if the chains disagree ($\hat R$ > 1.01), are too short (effective sample size below 100 per
    chain) or diverge: a wrong equilibrium biases every Jarzynski average. Chains that all miss the same well agree, and
    nothing can tell. Raises `ImportError` without blackjax (`pip install thermojax[mcmc]`), `ValueError` while tracing.

    Source: Hoffman & Gelman, JMLR 15, 1593 (2014); $\hat R$ and effective size: Vehtari et al., Bayesian Anal. 16, 667
    (2021).
    """
    try:
        import blackjax  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "thermojax.densities.mcmc needs blackjax: pip install 'thermojax[mcmc]'."
        ) from error

    key = _checks.key("mcmc.key", key)
    chains = _checks.whole("mcmc.chains", chains, "a whole number of chains", 2)
    size = _checks.whole("mcmc.size", size, "a whole number of draws", 4 * chains)
    warmup = _checks.whole("mcmc.warmup", warmup, "a whole number of steps", 20)
    target = Boltzmann(system, lam, dim=dim, log_z=log_z, sampler=_unsampled)
    traced = (jax.random.key_data(key), target.reduced_energy(target.origin))
    if any(_checks.known(value) is None for value in traced):
        raise ValueError(
            "mcmc looks at its chains before it returns, so it cannot be traced by jit, vmap or grad: call it outside, "
            "and pass the density in."
        )
    dtype = target.origin.dtype
    key_start, key_run = jax.random.split(key)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for blackjax
        starts = _starts(target, key_start, chains) if start is None else _given(start, chains, dim)
        starts = _checks.must(
            "mcmc.start",
            starts,
            _finite(target, starts),
            "where the potential is finite",
            got=starts,
        )
        xs, *rest = _run(target, starts, key_run, warmup, -(-size // chains))
    divergent, r_hat, ess = map(np.asarray, rest)
    _converged(r_hat, ess, float(divergent), chains)
    ess, r_hat = (jnp.asarray(value, dtype) for value in (ess.min(), r_hat.max()))
    draws = Draws(xs.astype(dtype), ess, r_hat)
    return Boltzmann(system, lam, dim=dim, log_z=log_z, sampler=draws)


def _unsampled(key: Key) -> State:
    """In the place of a sampler while there is none: the chains ask their target for its energy alone."""
    raise AssertionError("the target of mcmc is not sampled")


@jit
def _run(
    target: Boltzmann, starts: Array, key: Key, warmup: int, draws: int
) -> tuple[Array, Array, Array, Array]:
    """Positions `(chains * draws, d)`, the share of divergent steps, and R-hat and effective size of each coordinate and
    of the reduced energy."""
    import blackjax
    from blackjax.diagnostics import ess_bulk, rhat

    dtype = target.origin.dtype
    log_density = lambda x: -target.reduced_energy(x.astype(dtype)).astype(x.dtype)

    def chain(start: State, key: Key) -> tuple[Array, Array, Array]:
        key_warmup, key_draws = jax.random.split(key)
        adapt: Any = blackjax.window_adaptation(
            blackjax.nuts, log_density, is_mass_matrix_diagonal=False
        )
        (state, parameters), _ = adapt.run(key_warmup, start, num_steps=warmup)
        kernel: Any = blackjax.nuts(log_density, **parameters)

        def step(state: PyTree, key: Key) -> tuple[PyTree, tuple[State, Scalar, Array]]:
            state, info = kernel.step(key, state)
            return state, (state.position, -state.logdensity, info.is_divergent)

        return jax.lax.scan(step, state, jax.random.split(key_draws, draws))[1]

    keys = jax.random.split(key, starts.shape[0])
    xs, phi, divergent = jax.vmap(chain)(starts, keys)
    watched = jnp.concatenate([xs, phi[..., None]], axis=-1)
    return xs.reshape(-1, xs.shape[-1]), jnp.mean(divergent), rhat(watched), ess_bulk(watched)


@jit
def _finite(target: Boltzmann, starts: Array) -> Array:
    return jnp.isfinite(jax.vmap(target.reduced_energy)(starts.astype(target.origin.dtype)))


def _starts(target: Boltzmann, key: Key, chains: int) -> Array:
    """One start per chain on random lines through the origin, in both directions of each."""
    starts, confined, far = _on_lines(target, key, chains)
    return _checks.must(
        "potential",
        starts,
        confined,
        "confining (on some line through the origin it is not within 4000): give mcmc(..., start=), or a potential with "
        "an equilibrium",
        got=far,
    )


@jit
def _on_lines(target: Boltzmann, key: Key, chains: int) -> tuple[Array, Array, Array]:
    """The starts, whether each line has an end within 4000, and how far from the origin it is, in any unit."""
    key_line, key_place = jax.random.split(key)
    lines = jax.random.normal(key_line, (-(-chains // 2), target.dim))
    lines = lines / jnp.linalg.norm(lines, axis=1, keepdims=True)
    lines = jnp.concatenate([lines, -lines])[:chains]
    radii = jnp.sinh(jnp.linspace(0, 9, 2001))  # from 5e-3 apart at 0 to 4000

    def look(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        scale, confined, far = state
        again = coarse(state)
        scale = jnp.where(again, scale * FINER, scale)
        places = scale[:, None] * radii[None]
        points = (lines[:, None, :] * places[..., None]).astype(target.origin.dtype)
        phi = jax.vmap(jax.vmap(target.reduced_energy))(points)
        inside = phi < jnp.nanmin(phi, axis=1, keepdims=True) + 10
        confined = jnp.where(scale == 1, ~inside[:, -1], confined)
        return scale, confined, jnp.where(again, jnp.max(jnp.where(inside, places, 0), 1), far)

    def coarse(state: tuple[Array, Array, Array]) -> Array:
        scale, _, far = state
        return (far < 0.1 * scale) & (scale > FINEST)

    none = jnp.zeros(chains)
    state = (none + 1 / FINER, none > 0, none)
    _, confined, far = jax.lax.while_loop(lambda s: jnp.any(coarse(s)), look, state)
    places = far * jax.random.uniform(key_place, (chains,))
    return lines * places[:, None], confined, far


def _given(start: Given, chains: int, dim: int) -> Array:
    start = _checks.floating("mcmc.start", start)
    if start.shape != (chains, dim):
        raise ValueError(
            f"mcmc.start must be one start per chain, shape ({chains}, {dim}); got {start.shape}. Spread the starts over "
            "everything that matters."
        )
    return start.astype(float)


def _converged(r_hat: np.ndarray, ess: np.ndarray, divergent: float, chains: int) -> None:
    least = SIZE_PER_CHAIN * chains
    if r_hat.max() <= R_HAT and ess.min() >= least and divergent <= DIVERGENT:
        return
    names = [*(f"x[{i}]" for i in range(len(r_hat) - 1)), "the energy"]
    raise RuntimeError(
        f"mcmc: the {chains} chains have not converged to one equilibrium. R-hat is {r_hat.max():.3g} for "
        f"{names[int(r_hat.argmax())]} (at most {R_HAT} is allowed), the effective sample size {ess.min():.0f} for "
        f"{names[int(ess.argmin())]} (at least {least}), and {divergent:.1%} of the steps diverged (at most "
        f"{DIVERGENT:.0%}). Give a larger size= or warmup=. Wells that no chain leaves need another sampler "
        "(tempering, say): Boltzmann(..., sampler=)."
    )
