r"""The work that a generation wastes against a reduced potential of the user's."""

import jax.numpy as jnp

from .. import _checks
from .._jit import jit
from .._ledger import reduced_work
from .._process import Process
from .._simulate import ensemble
from .._types import Array, ArrayLike, Key, Potential
from ..estimators import Estimate, mean
from ._generation import generate
from ._predictor import Network, Predictor, Predicts
from ._schedules import Uniform
from ._span import span


def inefficiency(
    noising: Process,
    predict: Network | Predictor,
    potential: Potential,
    key: Key,
    *,
    predicts: Predicts = "score",
    size: int = 10_000,
    steps: int = 400,
    delta: ArrayLike = 0.0,
    top: ArrayLike | None = None,
) -> Estimate:
    r"""What the generation wastes against a reduced potential $\phi$, in nats:

    $$I_W = \langle W_\mathrm{red} \rangle - \Delta(\beta F), \qquad
      W_\mathrm{red} = \int \partial_t \phi\, dt + \int \beta f_\mathrm{nc} \circ dx, \qquad
      \beta f_\mathrm{nc} = \frac{2 b_\theta}{g^2} + \nabla \phi .$$

    - `potential`: $\phi(x, \text{level})$ of one state and a `Level`, as in `generate`. The prior should be its equilibrium
      at the last level. `delta`: $\Delta(\beta F)$ from the prior to the data, zero for a normalised $\phi = -\ln q$.
    - `steps`: of the simulation, even in $\lambda$, `size` paths. The bias falls as 1/steps and is not in the error: double
      them to see it.

    It measures speed and error together: with $\phi = -\ln p_\lambda$ even the perfect score has $I_W$ = `noising_entropy`,
    above zero, since it runs in finite time. With a potential that generation is not to follow it is as large as one likes.
    Source: Zhang, arXiv 2606.18290, eqs. 7.27–7.30, where the force that does no potential work is left open.
    """
    size = _checks.whole("size", size, "a whole number of paths", 2)
    steps = _checks.whole("steps", steps, "a whole number of steps")
    over = span(noising, top, 1)
    process = noising.replace(protocol=Uniform(over.top, over.bottom))
    generation = generate(process, predict, predicts=predicts, potential=potential)
    work = _works(generation, key, size, steps)
    delta = _checks.floating("delta", delta).astype(work.dtype)
    return mean(work - delta)


@jit
def _works(generation: Process, key: Key, size: int, steps: int) -> Array:
    ts = jnp.linspace(0.0, 1.0, steps + 1)
    return reduced_work(generation, ensemble(generation, ts, key, size))
