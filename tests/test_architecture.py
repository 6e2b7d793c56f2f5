"""The house keeps its floors: a file imports only files of floors below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "thermojax"

# From the ground up. Files on one floor never import each other; the last floors are the wings.
FLOORS = [
    {"_types"},
    {"_checks", "_backend", "_factor", "_guard"},
    {"estimators"},  # numbers in, numbers out: knows no noun of the library
    {"potentials", "protocols"},
    {"_system"},
    {"densities"},
    {"_process"},
    {"_ledger"},
    {"_noise"},
    {"_solvers"},
    {"_simulate"},
    {"evolve"},
    {"rates"},
    {"verify"},
    {"bounds", "diffusion", "measured", "optimal", "plots"},
    {"schedules"},  # the upper storey of diffusion's wing
]
RANK = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}

# Who may open which library.
DOORS = {
    "diffrax": {"_solvers", "_noise", "_simulate", "evolve", "diffusion"},
    "optax": {"optimal"},
    "interpax": {"protocols", "schedules", "diffusion"},
    "blackjax": {"densities"},
    "optimistix": {"estimators"},
    "matplotlib": {"plots"},
}
MOST_LINES = 400

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
in_every_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def room(path: Path) -> str:
    """The file's own name, or that of the package within thermojax which it belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(source: str, path: Path) -> set[str]:
    """Dotted names imported by a file, relative ones written out."""
    package = ["thermojax", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def misplaced(source: str, path: Path) -> list[str]:
    """The imports of a file that its floor does not allow."""
    here = room(path)
    wrong = []
    for name in sorted(imports(source, path)):
        top, *rest = name.split(".")
        if top in DOORS and here not in DOORS[top]:
            wrong.append(f"{here} must not import {top}: only {sorted(DOORS[top])} may")
        # Names that are no room, such as thermojax.Process, come from the roof: nobody inside may.
        if top == "thermojax" and rest[:1] != [here] and not RANK.get(rest[0], 99) < RANK[here]:
            wrong.append(f"{here} must not import {name}: it is not on a floor below")
    return wrong


@in_every_file
def test_floors(path):
    assert room(path) in RANK, f"say on which floor {path.name} stands: FLOORS in {__file__}"
    assert not misplaced(path.read_text(), path)


@in_every_file
def test_habits(path):
    source = path.read_text()
    assert path.stem not in {"utils", "_utils"}, "a file is named after its idea"
    assert source.count("\n") <= MOST_LINES, f"{path.name} is long: split it by idea"
    called = {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "hasattr" not in called, "an abstract method instead"


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("_system.py", "from ._process import Process"),
        ("_process.py", "from . import _simulate"),
        ("potentials.py", "from . import protocols"),
        ("optimal.py", "import thermojax.diffusion"),
        ("estimators.py", "from .potentials import Harmonic"),
        ("estimators.py", "def f():\n    from thermojax._ledger import Path"),
        ("densities/_mixture.py", "from thermojax import Process"),
        ("evolve/grid.py", "from ..optimal import search"),
        ("_ledger.py", "import diffrax as dfx"),
        ("bounds.py", "from optax import adam"),
    ],
)
def test_a_misplaced_import_is_seen(file, source):
    assert misplaced(source, PACKAGE / file)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "_simulate.py",
            "import diffrax as dfx\nfrom ._process import Process\nfrom . import _noise",
        ),
        ("optimal.py", "import optax\nfrom .estimators import Estimate"),
        ("evolve/grid.py", "from . import moments\nfrom .._types import Array"),
    ],
)
def test_an_import_from_below_is_not(file, source):
    assert not misplaced(source, PACKAGE / file)
