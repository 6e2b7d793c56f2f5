"""Every public name stands on a page of the API, and the examples of the docstrings run."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest
import run_readme

import thermojax as tjx

PAGES = Path(__file__).parent.parent / "docs" / "api"
ROOMS = ["thermojax"] + [
    f"thermojax.{module.name}"
    for module in pkgutil.iter_modules(tjx.__path__)
    if not module.name.startswith("_")
]
DIRECTIVE = re.compile(r"^::: (\S+)\n((?:[ ]{4}.*\n?)*)", re.MULTILINE)


def is_package(room):
    return importlib.import_module(room).__spec__.submodule_search_locations is not None


def public(room):
    """The names that a room offers: what it defines, or takes from its own files or the cellar; no module, no alias."""
    module = importlib.import_module(room)
    package = is_package(room)

    def ours(thing):
        origin = getattr(thing, "__module__", None) or ""
        return origin.startswith("thermojax") if package else origin == room

    return {
        f"{room}.{name}"
        for name, thing in vars(module).items()
        if not name.startswith("_") and (inspect.isclass(thing) or callable(thing)) and ours(thing)
    }


def thing(name):
    room, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(room), attribute)


def on_pages(texts):
    """The names that the pages document: of a room that is one file, all, where its members are not switched off. Of a
    room of many files mkdocstrings shows none: what it imports is not its own.
    """
    found = set()
    for text in texts:
        for name, options in DIRECTIVE.findall(text):
            one_file = name in ROOMS and not is_package(name)
            whole = one_file and "members: false" not in options
            found |= public(name) if whole else {name}
    return found


@pytest.mark.smoke
@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_on_a_page(room):
    names = public(room)
    assert names
    there = on_pages(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    things = [thing(name) for name in there - set(ROOMS)]  # whatever the name that a page has it by
    missing = [name for name in names if not any(thing(name) is other for other in things)]
    assert not missing, "give each a line `::: name` in docs/api"


def test_pages_name_only_what_there_is():
    names = on_pages(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    assert not [name for name in names - set(ROOMS) if thing(name) is None]  # or an AttributeError
    with pytest.raises(AttributeError):
        thing("thermojax.nothing")


def test_a_missing_name_is_seen():
    """Negative control: a page that switches its members off, and names one."""
    text = "::: thermojax.potentials\n    options: { members: false }\n\n::: thermojax.potentials.Ring\n"
    assert on_pages([text]) == {"thermojax.potentials", "thermojax.potentials.Ring"}
    assert "thermojax.potentials.Harmonic" in public("thermojax.potentials")
    assert on_pages(["::: thermojax.potentials\n"]) == public("thermojax.potentials")
    assert on_pages(["::: thermojax.estimators\n"]) == {"thermojax.estimators"}


def broken_formulas(text):
    """Formulas within a line that Markdown does not take for such: a blank inside a dollar, a list where a line begins
    with a sign, a display that is not a paragraph of its own."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    shown = re.findall(r"\$\$.*?\$\$", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    bad = [whole for whole in shown if re.search(r"\n\s*\n", whole)]
    for paragraph in re.split(r"\n\s*\n", text):
        parts = re.split(r"(?<!\\)\$", paragraph)
        bad += [paragraph] if len(parts) % 2 == 0 else []
        for formula in parts[1::2]:
            if formula != formula.strip() or re.search(r"\n\s*[-+*] ", formula):
                bad.append(formula)
    return bad


@pytest.mark.parametrize("room", ROOMS)
def test_formulas_of_docstrings(room):
    texts = [importlib.import_module(room).__doc__ or ""]
    for name in public(room):
        it = thing(name)
        texts.append(inspect.getdoc(it) or "")
        if inspect.isclass(it):
            texts += [inspect.getdoc(v) or "" for k, v in vars(it).items() if not k.startswith("_")]
    assert not [bad for text in texts for bad in broken_formulas(text)]


def test_formulas_of_pages():
    pages = PAGES.parent.rglob("*.md")
    found = {page.name: broken_formulas(page.read_text(encoding="utf-8")) for page in pages}
    assert not {name: bad for name, bad in found.items() if bad}


@pytest.mark.parametrize("text", ["$a = $ b", "$a\n  - b$", "a $b", "$ a$", "$$a\n\nb$$"])
def test_a_broken_formula_is_seen(text):
    assert broken_formulas(text)
    assert not broken_formulas("$a - b$, `$x`, $$a\n- b$$ and $c$")


def examples():
    """The code in the docstrings of public names, each once, whatever its names."""
    found = {}
    for room in ROOMS:
        for name in sorted(public(room)):
            blocks = run_readme.blocks(inspect.getdoc(thing(name)) or "")
            source = "".join(block for _, block in blocks)
            if source and source not in found.values():
                found[name] = source
    return found


EXAMPLES = examples()


def test_who_has_an_example():
    assert EXAMPLES.keys() >= {
        "thermojax.AbstractSystem",
        "thermojax.AbstractStep",
        "thermojax.AbstractKernelStep",
        "thermojax.AbstractOverdamped",
        "thermojax.densities.AbstractDensity",
        "thermojax.diffusion.AbstractNoising",
        "thermojax.diffusion.AbstractSchedule",
        "thermojax.protocols.AbstractProtocol",
        "thermojax.optimal.AbstractLoss",
        "thermojax.potentials.AbstractPotential",
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name):
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "__main__"})
