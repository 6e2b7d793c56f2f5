r"""What no protocol can beat: entropy that must be produced, heat that must be given off, work that must be spent.

Bounds of a finite time by optimal transport, `wasserstein` and `transport`, `landauer`, `least_work`; of a current by its
fluctuations, `tur`; and the geometry of slow drives, `friction`, `length`, `geodesic`. Entropies are in nats, heat is given
to the bath, work is done on the system.
"""

from ._current import tur as tur, tur_of as tur_of
from ._distance import wasserstein as wasserstein
from ._friction import friction as friction
from ._length import geodesic as geodesic, length as length, slow as slow
from ._transport import (
    diffusion_time as diffusion_time,
    landauer as landauer,
    least_work as least_work,
    transport as transport,
)
