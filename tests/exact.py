"""A loss without noise, of which only the value is of interest."""

import thermojax as tjx


class Exact(tjx.optimal.AbstractExactLoss):
    """Without a finer check, failures, or a probability to differentiate."""

    def check(self):
        return None

    def failures(self, protocol, key):
        return ""

    def likelihood_ratio(self, protocol, key):
        raise ValueError
