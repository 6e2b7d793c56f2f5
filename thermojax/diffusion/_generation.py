r"""Generation as a `Process`: the noising's equation run backwards with a learned score, as SDE or as chain."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _checks
from .._process import Process
from .._ratio import Kernel
from .._types import Array, Control, Potential, Scalar, State
from ..protocols import Reversed
from ..systems import Overdamped
from ._levels import Mean, between, signal
from ._noising import kind_of, prior_of, schedule_of
from ._predictor import Network, Predictor, Predicts, predictor


class Drift(eqx.Module):
    r"""The force of generation over its temperature that the potential leaves: $\kappa x + 2 \nabla\ln p + \nabla\phi$."""

    predictor: Predictor
    potential: Potential | None

    def __call__(self, x: State, lam: Control) -> State:
        kind, level = self.predictor.kind, lam.lam
        force = kind.stiffness(level) * x + 2 * self.predictor.score(x, level)
        return force if self.potential is None else force + jax.grad(self.potential)(x, lam)


def generate(
    process: Process,
    predict: Network | Predictor,
    *,
    predicts: Predicts = "score",
    potential: Potential | None = None,
) -> Process:
    r"""The generation that belongs to a noising: a Process from its prior to its data,

    $$dy = \big[D \kappa\, y + 2D\, s_\theta(y, \lambda)\big]\, d\bar t + \sqrt{2D}\, dW, \qquad \lambda = \lambda(t_0 + t_1
      - \bar t).$$

    - `process`: the `noising`.
    - `predict`: a `Predictor`; or any callable `(x, lam)` of one state and the log signal-to-noise ratio, in the scale of
      the noising, which is then its score, or a predictor of the noise or of the clean state, as `predicts` says.
    - `potential`: a reduced potential $\phi(x, \text{level})$ for the energy's part of the force; the rest,
      $F/T + \nabla\phi$, then counts as the force that does no potential work. None: all of it does.

    It is simulated like any Process. As the backward process of `path_ratio(process, generation, path)`, R is the
    irreversibility of the model, whose mean is the score error and the mismatch of the end,

    $$\langle R \rangle = \mathrm{KL}(p_T \| \pi) + \int D\, \langle |s_\theta - \nabla\ln p_t|^2 \rangle\, dt .$$

    Source: Anderson, Stoch. Proc. Appl. 12, 313 (1982); Song et al., ICLR 2021, eq. 6; Zhang, arXiv 2606.18290, eqs. 7.11,
    7.24.
    """
    kind = kind_of("process", process)
    drift = Drift(predictor(predict, predicts, kind=kind, name="predict"), potential)
    system = Overdamped(potential, force=drift, mobility=kind.mobility, temperature=1.0)
    return Process(system, Reversed(schedule_of(process)), prior_of(process), process.initial)


def reverse_kernel(
    process: Process,
    predict: Network | Predictor,
    lam: Array,
    tau: Array,
    *,
    predicts: Predicts = "score",
    mean: Mean = "ddpm",
) -> Kernel:
    r"""The generating kernel of an N-step chain, for `path_ratio` and `sample_path` on the grid of `Levels(lam)`:

    $$p(x_{k-1} | x_k) = N\big(A_k x_k + B_k \hat x_0(x_k), \tau_k\big).$$

    - `lam`: the levels, `(N,)`, of the chain that `process` walks; `tau` `(N,)` its variances in the scale of VP
      (`schedules.variances`, `chain(lam).noise`, or learned ones). A step between other levels is NaN.
    - `predict`, `predicts`: as in `generate`.
    - `mean`: `"ddpm"`, which is the exponential integrator's, or `"euler"`, of VP's reverse equation.

    The kernel of a step in time, at the middle of the step, is `thermojax.euler` of the generation.
    """
    kind = kind_of("process", process)
    lam, tau = _checks.plan(lam, tau)
    between(lam[:1], lam[:1], mean)  # knows the mean
    net = predictor(predict, predicts, kind=kind, name="predict")
    return eqx.Partial(_reverse_kernel, net, lam, tau, mean)


def _reverse_kernel(
    net: Predictor,
    lam: Array,
    tau: Array,
    mean: Mean,
    process: Process,
    x: State,
    t0: Scalar,
    t1: Scalar,
) -> tuple[State, State]:
    # The generation's clock runs backwards: its step starts at the noisier level.
    after, before = process.protocol(t0).lam, process.protocol(t1).lam
    # A kernel is given times, and the variances belong to steps: the step is the one whose levels these are. Looked up, not
    # computed from the time, so that a grid that is not the chain's is seen, and marked by NaN.
    k = jnp.argmin(jnp.abs(lam - after))
    earlier = jnp.where(k > 0, lam[jnp.maximum(k - 1, 0)], jnp.inf)
    tau = jnp.where(_near(lam[k], after) & _near(earlier, before), tau, jnp.nan)
    # The chain's numbers are VP's; the states are in the scale of the kind.
    there, here = (net.kind.signal(l) / signal(l) for l in (before, after))
    back = between(before, after, mean).generated(x / here, net.clean(x, after))
    return there * back, jnp.broadcast_to(there**2 * tau[k], x.shape)


def _near(a: Scalar, b: Scalar) -> Array:
    """Equal up to what single precision leaves of a level on its way through a spline; infinity is near itself."""
    return (a == b) | (jnp.abs(a - b) < 1e-4 * (1 + jnp.abs(a)))
