r"""Statistical assertions, with one false-alarm rate for the whole suite.

`ALPHA` is the probability that a suite of a correct library fails somewhere by chance. It is shared out evenly
(Bonferroni) over the `TESTS` statistical assertions that the files of `BUDGET` declare; each file's count is kept while
it runs, and one assertion too many is an error. `assert_within` is a two-sided test of an average against an exact value,
with Student's threshold, and it also asks for power: the bias that it is there to catch must lie `POWER` standard errors
beyond the threshold, so that it would be missed once in 740. A sample too small to see anything does not pass.

The keys are fixed, so a test that passes goes on passing; the rate is that of a new key, or a new stream of numbers.
"""

import collections
import os
import re
from typing import NamedTuple

import numpy as np
from scipy import stats

ALPHA = 1e-4
BUDGET = {  # statistical assertions per test file
    "test_sigmas": 30,
    "test_fokker_planck": 10,
    "test_oracles": 14,
    "test_rates": 10,
    "test_simulated": 80,
    "test_fluctuation": 40,
    "test_order": 20,
    "test_noise": 60,
    "test_mixtures": 40,
    "test_mcmc": 20,
    "test_free_energies": 30,
    "test_losses": 46,
    "test_schedules": 9,
    "test_diffusion": 16,
    "test_own": 14,
    "test_price": 26,
    "test_flow": 8,
    "test_flow_likelihood": 30,
    "test_likelihood": 8,
    "test_underdamped": 30,
    "test_jumps": 30,
    "test_inhomogeneous": 16,
    "test_gallery_markets": 16,
    "test_gallery_algebra": 20,
    "test_gallery_inference": 20,
    "test_gallery_active": 4,
}
TESTS = sum(BUDGET.values())
LEVEL = ALPHA / TESTS
POWER = 3.0

used = collections.Counter()


class Biased(AssertionError):
    """The estimate is further from the exact value than chance allows."""


class Underpowered(AssertionError):
    """The standard error is too large for the stated bias to be seen."""


class Verdict(NamedTuple):
    value: float
    stderr: float
    exact: float
    limit: float  # standard errors that are allowed
    bias: float  # the absolute bias that would be caught

    @property
    def off(self):
        return abs(self.value - self.exact) / self.stderr

    def __str__(self):
        test = (
            f"{self.value:.6g}, standard error {self.stderr:.2g}, against {self.exact:.6g}: {self.off:.2f} standard errors "
            f"off, {self.limit:.2f} are allowed."
        )
        if np.isnan(self.bias):
            return test
        return (
            f"{test} The bias to be caught, {self.bias:.2g}, is {self.bias / self.stderr:.1f}; "
            f"the least that would be is {(self.limit + POWER) * self.stderr:.2g}."
        )


def assert_within(sample, exact, *, bias=0.02, absolute=None):
    """The average of `sample` is `exact` within chance, and a bias of `bias * |exact|` (or `absolute`) would be seen.

    `sample` is an array of independent values, or a pair (value, standard error), or an Estimate.
    """
    _count()
    verdict = judge(sample, exact, bias=bias, absolute=absolute)
    print(verdict)
    if not verdict.off <= verdict.limit:
        raise Biased(str(verdict))
    if not verdict.bias >= (verdict.limit + POWER) * verdict.stderr:
        raise Underpowered(str(verdict))


def assert_biased(sample, exact):
    """Negative control: the same test does reject `exact`, in favour of the bias that is known to be there."""
    _count()
    verdict = judge(sample, exact, absolute=np.nan)
    print(verdict)
    assert verdict.off > verdict.limit, f"The control was not noticed: {verdict}"


def assert_sees(sample, exact, *, bias=0.02, absolute=None):
    """Negative control: `assert_within` rejects the same data shifted by the stated bias, either way."""
    shift = abs(exact) * bias if absolute is None else absolute
    for sign in (-1, 1):
        assert_biased(sample, exact + sign * shift)


def assert_plausible(p):
    """A p-value (of a Kolmogorov–Smirnov test, say) that is not too small. Its power is shown by controls."""
    _count()
    print(f"p = {float(p):.3g}, allowed from {LEVEL:.2g}")
    if not p >= LEVEL:
        raise Biased(f"p = {float(p):.3g}; down to {LEVEL:.2g} could be chance")


def assert_implausible(p):
    """Negative control of `assert_plausible`."""
    _count()
    assert p < LEVEL, (
        f"The control was not noticed: p = {float(p):.3g}, chance goes down to {LEVEL:.2g}"
    )


def judge(sample, exact, *, bias=0.02, absolute=None):
    value, stderr, dof = measured(sample)
    if not (np.isfinite(value) and stderr > 0):
        raise Biased(f"no estimate: {value} with standard error {stderr}")
    exact = float(exact)
    shift = abs(exact) * bias if absolute is None else absolute
    return Verdict(value, stderr, exact, sigmas(dof), shift)


def measured(sample):
    """Value, standard error and degrees of freedom of an array of independent values, or of an estimate."""
    if hasattr(sample, "stderr"):
        sample = (sample.value, sample.stderr)
    if isinstance(sample, tuple):
        value, stderr = sample
        return float(value), float(stderr), np.inf
    x = np.asarray(sample, np.float64)
    assert x.ndim == 1, f"one number per independent sample, got {x.shape}"
    return x.mean(), x.std(ddof=1) / np.sqrt(x.size), x.size - 1


def sigmas(dof=np.inf, level=LEVEL):
    """How many standard errors chance allows, two-sided."""
    return float(stats.norm.isf(level / 2) if np.isinf(dof) else stats.t.isf(level / 2, dof))


def difference(a, b):
    """The difference of two independent averages, with its standard error."""
    (x, dx, _), (y, dy, _) = measured(a), measured(b)
    return x - y, float(np.hypot(dx, dy))


def _count():
    name = re.search(r"([^/\\]+)\.py::", os.environ.get("PYTEST_CURRENT_TEST", ""))
    file = name.group(1) if name else "elsewhere"
    used[file] += 1
    assert used[file] <= BUDGET.get(file, 0), (
        f"{file} makes more statistical assertions than the {BUDGET.get(file, 0)} declared in sigmas.BUDGET: "
        "raise it there, and the false-alarm rate of the suite stays what it is"
    )
