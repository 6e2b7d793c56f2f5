"""The front door: the gallery, the downloads, where names are used, and the numbers of the page Reproduced."""

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scripts import load, reproduce

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

hooks = load("door_hooks", DOCS / "hooks.py")
long, models, page, quick, row, sampling, slow = map(
    reproduce, ("examples", "models", "page", "quick", "row", "sampling", "slow")
)

EXAMPLES = {e.name: e for e in hooks.examples()}
PAGES = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*.md")}

# ---- pictures and links


def images(text):
    """(alternative, source) of each image of a page, in Markdown or HTML."""
    found = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)", text)
    for tag in re.findall(r"<img\b[^>]*>", text):
        part = lambda name, tag=tag: (re.search(rf'\b{name}="([^"]*)"', tag) or ["", ""])[1]
        found.append((part("alt"), part("src")))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_image_is_there_and_has_a_text(name):
    for alt, source in images(PAGES[name].read_text(encoding="utf-8")):
        assert len(alt) > 10, f"{name}: say in words what {source} shows"
        assert (PAGES[name].parent / source).exists(), f"{name}: {source} is not there"


@pytest.mark.parametrize(
    "text", ["![](a.png)", '<img src="a.png">', '<img alt="" src="a.png" width="3">']
)
def test_an_image_without_a_text_is_seen(text):
    assert images(text) == [("", "a.png")]


def test_the_moving_picture_is_light_and_has_a_still():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert (DOCS / "assets/moving_picture.gif").stat().st_size < 600_000
    assert '(prefers-reduced-motion: reduce)" srcset="assets/moving_picture.png"' in text


def targets(text):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def missing(name, text):
    """The links of a page to files that neither are there nor are made when the documentation is built."""
    made = {DOCS / f"examples/{e}{ending}" for e in EXAMPLES for ending in (".py", ".ipynb")}
    there = lambda path: path.exists() or path in made
    places = ((DOCS / name).parent / link.split("#")[0] for link in targets(text))
    return [str(place) for place in places if not there(place)]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    assert not missing(name, PAGES[name].read_text(encoding="utf-8"))


def test_a_broken_link_is_seen():
    assert missing("index.md", "[a](nowhere.md#x) and [b](demo.md) and `[c](no.md)`")
    assert not missing("index.md", "[b](demo.md#a)")


# ---- the gallery


def test_the_gallery_has_every_example():
    order = hooks.order_of([{"Home": "index.md"}, {"Examples": [{"Demo": "demo.md"}]}])
    assert order == ["index.md", "demo.md"]
    text = hooks.gallery(order)
    assert EXAMPLES.keys() == {path.stem for path in (ROOT / "examples").glob("*.py")}
    for name, example in EXAMPLES.items():
        assert f"examples/{name}.ipynb" in text
        assert f"examples/{name}.py" in text
        assert 0 < len(example.line) < 200, f"{name}: its first sentence says what it shows"
        assert example.page, f"{name}: no page names `examples/{name}.py`"
    assert text.index("moving_trap.png") < text.index("engine.png")  # as in the navigation
    assert not missing("gallery.md", text)
    assert all(len(alt) > 10 for alt, _ in images(text))
    assert "<!-- gallery -->" in PAGES["gallery.md"].read_text(encoding="utf-8")


def test_thumbnails_of_the_first_page():
    (names,) = re.findall(r"<!-- thumbnails: (.*?) -->", PAGES["index.md"].read_text("utf-8"))
    text = hooks.thumbnails(names)
    assert len(images(text)) == len(names.split())
    with pytest.raises(KeyError):
        hooks.thumbnails("nothing")


def test_downloads_stand_on_the_page_of_each_example():
    line = hooks.downloads("examples/engine.md", hooks.examples())
    assert "](./engine.py)" in line
    assert "](./engine.ipynb)" in line
    assert not missing("examples/engine.md", line)
    assert not missing("schedules.md", hooks.downloads("schedules.md", hooks.examples()))
    assert hooks.downloads("conventions.md", hooks.examples()) == ""


# ---- notebooks


def code_of(book):
    joined = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    return "\n".join("\n".join(v for v in c.split("\n") if v[:1] != "%") for c in joined)


@pytest.mark.parametrize("name", EXAMPLES)
def test_notebooks_are_valid_and_hold_all_of_the_script(name):
    book = json.loads(json.dumps(hooks.notebook(name, EXAMPLES[name].source)))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w-]{1,64}", i) for i in ids)
    for cell in book["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == keys | code
        if code:
            ast.parse(
                "".join(v for v in cell["source"] if v[:1] != "%")
            )  # no statement is cut in two
    assert book["cells"][0]["cell_type"] == "markdown"
    assert "".join(book["cells"][1]["source"]).startswith("%pip install")
    got, want = (ast.parse(text) for text in (code_of(book), EXAMPLES[name].source))
    kept = [ast.dump(n) for n in want.body[1:] if ast.unparse(n) != "matplotlib.use('Agg')"]
    changed = [a for a, b in zip(kept, map(ast.dump, got.body), strict=True) if a != b]
    assert len(changed) <= 2  # the command line, the place of the file, where figures are shown


def test_a_notebook_is_cut_into_sections():
    source = '"""What it is."""\n\nimport a\n\nx = 1\n\n# ---- the next part\ny = """\n# ---- not here\n"""\n'
    kinds = hooks.cells(source)
    assert [kind for kind, _ in kinds] == ["markdown", "code", "code", "markdown", "code"]
    assert kinds[3][1] == "## The next part"
    assert hooks.in_notebook('matplotlib.use("Agg")\np.parse_args()') == "p.parse_args([])"


def test_a_notebook_runs(tmp_path, monkeypatch):
    """That of the moving picture, small; and what it finds is exact, the path's ledger balanced."""
    monkeypatch.chdir(tmp_path)
    code = code_of(hooks.notebook("moving_picture", EXAMPLES["moving_picture"].source))
    space = {"__name__": "notebook"}
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "moving_picture.ipynb", "exec"), space)
        report, frames = space["main"](every=80, size=3, out=tmp_path)
    assert frames == 6
    assert report["means"]["constant speed"] == pytest.approx(25 / np.e, abs=1e-8)
    assert report["means"]["least work"] == pytest.approx(25 / 3, abs=1e-8)
    assert report["off_balance"] < 1e-10
    assert all(row.from_json(r).passes for r in report["reproduced"])
    assert (tmp_path / "moving_picture.gif").exists()


# ---- where a name is used


def test_names_are_resolved():
    source = """
import thermojax as tjx
import thermojax
from thermojax import plots as pl
from thermojax.protocols import Piecewise
import numpy as np
tjx.optimal.search(pl.protocol, thermojax.ensemble, Piecewise, np.sum, other.tjx)
"""
    found = hooks.used(source)
    wanted = "optimal.search", "plots.protocol", "ensemble", "protocols.Piecewise"
    assert found >= {f"thermojax.{name}" for name in wanted}
    assert not [name for name in found if "sum" in name or "other" in name]


def test_entries_say_where_they_are_used():
    head = '<h2 id="thermojax.{}" class="doc doc-heading">x</h2><pre>signature</pre>'
    body = '<div class="doc doc-contents "><div>words</div>'
    entry = (
        f'<div class="doc">{head}{body}<div class="doc doc-children"><p>inner</p></div></div></div>'
    )
    text = entry.format("a.b") + entry.format("c")
    engine = EXAMPLES["engine"]
    got = hooks.with_users(text, {"thermojax.a.b": [engine]}, lambda page: f"../{page}")
    line = f'<p class="used-in">Used in: <a href="../{engine.page}">{engine.title}</a></p>'
    assert got.count("Used in") == 1
    assert got.index("words") < got.index(line) < got.index("inner") < got.index("thermojax.c")


def test_most_rooms_are_used_somewhere():
    rooms = {name.split(".")[1] for name in hooks.users()}
    assert rooms >= {"bounds", "densities", "diffusion", "estimators", "evolve", "optimal", "plots"}
    assert "engine" in [e.name for e in hooks.users()["thermojax.evolve.periodic"]]


# ---- reproduced


class Rates(NamedTuple):
    """Up and down across each edge."""

    up: np.ndarray
    down: np.ndarray


# The whole quick half is a step of .ci/run; its numbers have tests of their own elsewhere.
@pytest.mark.parametrize("section", [slow.steps, models.chains], ids=lambda fn: fn.__name__)
def test_sections_of_the_quick_half(section):
    with jax.numpy_dtype_promotion("standard"):
        rows = list(section())
    assert rows
    assert not [r for r in rows if not r.passes]
    assert all(r.source and r.what for r in rows)


def test_sections_say_what_they_are():
    """Each has a name of its own, which is the heading of its table, and says what it computes."""
    rooms = (quick, slow, models, sampling)
    sections = [fn for m in rooms for kind in ("SECTIONS", "LONG") for fn in getattr(m, kind, ())]
    assert len({fn.__name__ for fn in sections}) == len(sections) > 12
    assert all(fn.__doc__ for fn in sections)


def test_the_spread_of_a_ring_of_states():
    """Uniform ring, n = 5, A = 15: A/n coth(A/2n), what Barato and Seifert found to be the least."""
    n, affinity = 5, 15.0
    rates = Rates(*(np.full(n, np.exp(sign * affinity / (2 * n))) for sign in (1, -1)))
    v = rates.up[0] - rates.down[0]
    product = 2 * quick.dispersion(np.full(n, 1 / n), rates) * v * (affinity / n) / v**2
    assert product == pytest.approx(affinity / n / np.tanh(affinity / (2 * n)), rel=1e-12)
    assert product == pytest.approx(3.314374179, abs=1e-9)
    uneven = rates._replace(up=rates.up * np.array([1.0, 2.0, 1.0, 1.0, 1.0]))
    assert quick.dispersion(np.full(n, 1 / n), uneven) != pytest.approx(
        quick.dispersion(np.full(n, 1 / n), rates), rel=1e-3
    )


def test_a_row_that_is_off_fails():
    """Negative control: by value, by chance, by being no number, by having nothing beside it; and the page says so."""
    good = row.Row("what", "who", 1.0, 1.0 + 1e-9, 1e-8)
    assert good.passes
    bad = [
        good._replace(ours=1.0 + 2e-8),
        good._replace(ours=float("nan")),
        good._replace(exact=None),
        good._replace(within=None, error=1e-10),
        good._replace(at_most=0.5),
    ]
    assert not [r for r in bad if r.passes]
    assert good._replace(within=None, error=1e-9).passes
    assert good._replace(exact=None, theirs=1.0).passes
    text = page.page(
        [("Part", "Words.", [page.Table("T", "", "run", [good, bad[0]], (3.0, "s"))])], []
    )
    assert text.count("| PASS |") == 1
    assert text.count("| **FAIL** |") == 1
    assert "**2 numbers, 1 off.**" in text


def test_numbers_have_as_many_digits_as_the_error():
    assert page.number(1.23456, 0.012) == "1.235 ± 0.012"
    assert page.number(8.333333333) == "8.333333333"
    assert page.number(None) == ""


def test_the_committed_page_has_no_number_that_is_off():
    text = PAGES["reproduced.md"].read_text(encoding="utf-8")
    assert "**FAIL**" not in text
    assert text.count("| PASS |") > 80
    for table in ("### Traps", "### Turning", "### Steps", "## Corrections", "## Examples"):
        assert table in text


def test_examples_bring_their_rows(tmp_path, monkeypatch):
    """Those that list them, and the older ones by their keys; a script changed since makes them stale."""
    assert set(long.PICKED) <= set(EXAMPLES)
    assert "moving_picture" in long.names()
    monkeypatch.setattr(long, "OUT", tmp_path)
    assert long.stale("moving_trap")
    assert long.rows("moving_trap") == []
    (tmp_path / "moving_trap.json").write_text('{"work_found_exact": 8.35}')
    (found,) = long.rows("moving_trap")
    assert not found.passes
    listed = {"what": "w", "source": "s", "exact": None, "theirs": 2.0, "ours": 2.1, "within": 0.2}
    (tmp_path / "other.json").write_text(json.dumps({"reproduced": [listed | {"seconds": 1}]}))
    (found,) = long.rows("other")
    assert found.passes
    assert found.theirs == 2.0
    # rows that are picked stand beside those that are listed, and the seconds are of the best clock there is
    impact = {
        "triangle_odds": 2.160232e-08,
        "implied_sigma_squared": {"triangle": 0.0382, "ramp": 1},
    }
    impact |= {"reproduced": [listed], "seconds": 3.0}
    (tmp_path / "price_impact.json").write_text(json.dumps(impact))
    assert [r.passes for r in long.rows("price_impact")] == [True, True, True, False]
    assert long.seconds("price_impact") == (3.0, "s")
    (tmp_path / "reproduce.json").write_text('{"price_impact": 5.0}')
    assert long.seconds("price_impact") == (5.0, "CPU seconds")
    assert long.seconds("engine") is None
