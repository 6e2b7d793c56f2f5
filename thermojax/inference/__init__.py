r"""Entropy production from recordings alone: no force, no temperature, no model.

One verb, `entropy_production`: frames and the time between two of them in; out comes a bound on the rate at which entropy is
produced, in nats per time, with its standard error, whether it is significant, and whether it can be trusted. It sees how
differently the recordings would look if they were played backwards:

$$\Sigma = \Big\langle \ln \frac{p(x_0, x_1)}{p(x_1, x_0)} \Big\rangle \ge \langle h \rangle - \ln \langle e^{-h} \rangle,
  \qquad h(x_1, x_0) = -h(x_0, x_1),$$

for two frames one lag apart, in a steady state, and any such h. h is learnt from a part of the recordings and priced on the
rest, part by part (cross-fitting), so that what was only learnt by heart does not count.
"""

from ._production import entropy_production as entropy_production
from ._result import Inferred as Inferred
