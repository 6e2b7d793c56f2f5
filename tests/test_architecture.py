"""The house keeps its floors: a file imports only files of floors below its own."""

import ast
import importlib
import inspect
import statistics
from pathlib import Path

import equinox as eqx
import jaxtyping
import pytest
from annotations import OFTEN, checked

PACKAGE = Path(__file__).parent.parent / "thermojax"

# From the ground up. Files on one floor never import each other; the last floors are the wings, one of two storeys.
FLOORS = [
    {"_types"},
    {"_arrays", "_indices", "_kept", "_products"},
    {"_spread"},
    {
        "_checks",
        "_backend",
        "_citation",
        "_closures",
        "_factor",
        "_guard",
        "_affine",
        "_chance",
        "_nodes",
        "_noise",
        "_normal",
        "_renamed",
        "_spell",
        "_tridiagonal",
    },
    {"_jit", "_widths"},
    # estimators: numbers in, numbers out, knows no noun of the library
    {"_fingerprint", "_loss", "_paths", "estimators", "potentials", "protocols", "systems"},
    {"_checkpoint", "_quasi_newton", "_start"},
    {"_diffrax", "_process", "_search", "densities"},
    {"_grids"},
    {"_ledger", "_stiff", "evolve"},
    {"_action", "_ratio", "_solvers", "measured"},
    {"_simulate"},
    {"_integrals", "_residual", "rates"},
    {"identities"},
    {"_verify"},
    {"bounds", "diffusion", "export", "inference", "optimal", "plots"},
    {"schedules"},
]
RANK = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}

# Who may open which library.
DOORS = {
    "diffrax": {"_diffrax", "_solvers", "_simulate", "evolve", "diffusion"},
    "optax": {"_quasi_newton", "_search", "inference"},
    "tqdm": {"_search"},
    "interpax": {"densities", "potentials", "protocols", "schedules", "diffusion"},
    "blackjax": {"densities"},
    "optimistix": {"bounds", "estimators", "evolve", "inference"},
    "ott": {"bounds"},
    "matplotlib": {"plots"},
    "xarray": {"export"},
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
        if top == "thermojax" and len(rest) > 1 and rest[0] != here and rest[1].startswith("_"):
            wrong.append(f"{here} must not import {name}: it is private to {rest[0]}")
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
    if path.stem != "_jit":
        assert "eqx.filter_jit" not in source, "_jit.jit, which sees what a user's function reads"
    if path.stem != "_products":
        assert not rounded(source), "on an accelerator of three digits: take it from _products"


def rounded(source: str) -> list[int]:
    """The lines with a product of matrices whose precision is left to the device."""
    products = {"matmul", "dot", "vdot", "einsum", "tensordot", "inner", "vecdot", "matvec"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
        or (
            isinstance(node, ast.Attribute)
            and node.attr in products
            and isinstance(node.value, ast.Name)
            and node.value.id == "jnp"
        )
    ]


@pytest.mark.parametrize("line", ["a @ b", "jnp.matmul(a, b)", "f(jnp.einsum)"])
def test_a_rounded_product_is_seen(line):
    assert rounded(line) == [1]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("systems/_base.py", "from .._process import Process"),
        ("diffusion/_noising.py", "from ..schedules import LogSNR"),
        ("optimal/_losses.py", "from ..densities._base import untracked"),
        ("_process.py", "from . import _simulate"),
        ("potentials.py", "from . import protocols"),
        ("optimal.py", "import thermojax.diffusion"),
        ("estimators.py", "from .potentials import Harmonic"),
        ("estimators.py", "def f():\n    from thermojax._ledger import Path"),
        ("densities/_mixture.py", "from thermojax import Process"),
        ("evolve/grid.py", "from ..optimal import search"),
        ("_ledger.py", "import diffrax as dfx"),
        ("bounds.py", "from optax import adam"),
        ("optimal/_losses.py", "import optax"),
        ("_search.py", "from ._process import Process"),
        ("_search.py", "from .densities import Gaussian"),
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
        ("_search.py", "import optax\nfrom .estimators import Estimate"),
        ("schedules/_logsnr.py", "from ..diffusion import Cosine"),
        ("evolve/grid.py", "from . import moments\nfrom .._types import Array"),
    ],
)
def test_an_import_from_below_is_not(file, source):
    assert not misplaced(source, PACKAGE / file)


# ---- the habits of the whole house


def classes():
    """Every class that is made in the package."""
    found = {}
    for path in FILES:
        name = ".".join(["thermojax", *path.relative_to(PACKAGE).with_suffix("").parts])
        module = importlib.import_module(name)
        mine = inspect.getmembers(module, inspect.isclass)
        found |= {cls: name for _, cls in mine if cls.__module__ == name}
    return list(found)


def overrides(cls):
    """Concrete methods and properties of a base that `cls` has replaced."""
    found = []
    for base in cls.__mro__[1:]:
        if not issubclass(base, eqx.Module) or base is eqx.Module:
            continue
        for name, old in vars(base).items():
            concrete = (inspect.isroutine(old) or isinstance(old, property)) and not getattr(
                old, "__isabstractmethod__", False
            )
            if name in vars(cls) and concrete and not name.startswith("__"):
                found.append(f"{cls.__name__}.{name} replaces that of {base.__name__}")
    return found


def test_abstract_or_final():
    """A class that can be made has no sub-class, and no method that works is replaced."""
    nouns = [cls for cls in classes() if issubclass(cls, eqx.Module)]
    assert len(nouns) > 40
    for cls in nouns:
        above = [base for base in cls.__mro__[1:] if base in nouns]
        assert all(inspect.isabstract(base) or _abstract(base) for base in above), cls
        assert not overrides(cls)


def _abstract(cls):
    return cls.__name__.startswith("Abstract")


def test_a_replaced_method_is_seen():
    class AbstractBase(eqx.Module):
        def works(self):
            return 1

    class Final(AbstractBase):
        def works(self):
            return 2

    assert overrides(Final) == ["Final.works replaces that of AbstractBase"]


def annotations(source):
    """The annotations of a file, as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield ast.unparse(node.returns)


def test_types_say_something():
    """Bare Any is at most one annotation in twenty."""
    all_of_them = [a for path in FILES for a in annotations(path.read_text())]
    assert len(all_of_them) > 1000
    assert all_of_them.count("Any") <= 0.05 * len(all_of_them)


def test_files_are_short():
    lengths = [path.read_text().count("\n") for path in FILES]
    assert statistics.median(lengths) < 150


def test_one_room_knows_overdamped_dynamics():
    """Outside of systems and diffusion nothing asks for a mobility, or the force; closed forms take one as an argument."""
    for path in FILES:
        if room(path) in ("systems", "diffusion") or path.name == "_closed.py":
            continue
        code = ast.dump(ast.parse(path.read_text()))
        assert "attr='mobility'" not in code, path
        assert "total_force" not in code, path


# ---- the checker of annotations


def test_annotations_are_checked():
    """Those of the package, of a function within a function too: the first times that a file calls it."""

    def make():
        @jaxtyping.jaxtyped(typechecker=checked)
        def inner(x: int) -> int:
            return x

        return inner

    running = importlib.import_module("thermojax._paths").running
    one = make()
    for _ in range(OFTEN):
        with pytest.raises(jaxtyping.TypeCheckError):
            one("no number")
        with pytest.raises(jaxtyping.TypeCheckError):
            running("no array")
    assert one("no number") == make()("no number") == "no number"
    with pytest.raises(TypeError):
        running("no array")
