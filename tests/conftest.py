"""Double precision unless THERMOJAX_TEST_X64=0, and no implicit promotion of types or ranks.

Nothing here may import thermojax: the annotations of what is imported now would go unchecked.
"""

import gc
import math
import os

import annotations
import hurry
import jax
import pytest
import thorough

X64 = os.environ.get("THERMOJAX_TEST_X64", "1") != "0"

os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Most of the time of a test is the tracing of a program: no line numbers of the program's parts, and less often a search
# for cycles among its hundred thousand objects.
jax.config.update("jax_traceback_in_locations_limit", 0)
gc.set_threshold(50_000, 50, 100)
hurry.hasten()

LARGE = 3 * 2**30  # bytes
collect_ignore = ["test_float32.py"] if X64 else []


def pytest_collection_modifyitems(config, items):
    """Marks what `make test` leaves out; a name in that list that no test has any more is an error."""
    found, files = set(), {item.path.name for item in items}
    moving = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if moving:
        raise pytest.UsageError(f"Names that differ from process to process, give ids=: {moving}")
    lists = thorough.LEFT if X64 else thorough.LEFT32
    for item in items:
        if (pattern := thorough.left(item.path.name, item.name, lists)) is not None:
            item.add_marker(pytest.mark.thorough)
            found.add((item.path.name, pattern))
    wanted = {(file, name) for file, names in lists.items() for name in names}
    gone = sorted(pair for pair in wanted - found if pair[0] in files)
    if gone and not any("::" in arg for arg in config.args):
        raise pytest.UsageError(f"tests/thorough.py names what is not there: {gone}")


def pytest_collection_finish(session):
    """What has been imported stays, and need not be searched again."""
    gc.collect()
    gc.freeze()


def held():
    """Bytes that this process holds."""
    try:
        with open("/proc/self/statm") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux
        return math.inf


@pytest.fixture(scope="module", autouse=True)
def forgetful():
    """The programs of the files before go when they fill the memory; what is small and common need not be compiled again."""
    annotations.calls.clear()
    yield
    if held() > LARGE:
        jax.clear_caches()


@pytest.fixture(scope="module")
def optimised():
    """For a file whose programs run for longer than they compile."""
    with hurry.at_leisure():
        yield
