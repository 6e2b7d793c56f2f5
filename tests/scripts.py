"""The scripts of examples/ and the package reproduce/ as modules: their functions are tested, their `main` is not run."""

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def example(name):
    return load(name, ROOT / "examples" / f"{name}.py")


def reproduce(name):
    """A module of reproduce/, which is not installed."""
    if "reproduce" not in sys.modules:
        load("reproduce", ROOT / "reproduce" / "__init__.py")
    return importlib.import_module(f"reproduce.{name}")


def load(name, path):
    """A file as a module, or a package by its `__init__.py`, whose modules are then found."""
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    module = importlib.util.module_from_spec(spec)
    if package:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
