"""What is cited is in the bibliography, and what others cite of us is the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import thermojax as tjx
from thermojax import _citation
from thermojax._renamed import RENAMED

ROOT = Path(__file__).parent.parent
TEXTS = {
    path.relative_to(ROOT).as_posix(): re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    for pattern in ("docs/**/*.md", "thermojax/**/*.py", "examples/*.py", "README.md")
    for path in ROOT.glob(pattern)
}
BIBLIOGRAPHY = TEXTS["docs/bibliography.md"]
JOURNALS = r"PRL|PRE|PRX|EPL|JMLR|Bernoulli|Technometrics|Physica A|[A-Z]\w*\. [\w. ]*?"
PLACES = {
    "arXiv": re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})"),
    "journal": re.compile(rf"\b(?:{JOURNALS}) (\d{{1,3}}, \d+)(?= \(| ?,|;|\))"),
}


def cited(text):
    """Where the works stand that a text cites: numbers of arXiv, or volume and page."""
    return {place for pattern in PLACES.values() for place in pattern.findall(text)}


def field(name):
    """A line of CITATION.cff."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(rf'^(?:  - )?{name}: "?(.*?)"?$', text, re.MULTILINE)
    return found and found[1]


@pytest.mark.smoke
def test_one_citation():
    """CITATION.cff, pyproject.toml and `citation` say the same; no year before the first release."""
    text = tjx.citation()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert field("title") == _citation.TITLE
    assert (field("name"),) == _citation.AUTHORS
    assert [a["name"] for a in project["authors"]] == list(_citation.AUTHORS)
    assert field("license") == _citation.LICENSE == project["license"]
    assert field("date-released") == _citation.RELEASED
    assert field("version") == project["version"] == tjx.__version__
    assert f"version = {{{project['version']}}}" in text
    assert f"[{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_it_is_an_entry():
    text = tjx.citation()
    assert text.startswith("@software{thermojax,\n")
    assert text.endswith("}\n")
    assert text.count("{") == text.count("}")
    assert re.findall(r"^  (\w+) = \{", text, re.MULTILINE)[:2] == ["author", "title"]


def test_all_works_are_in_the_bibliography():
    others = {name: text for name, text in TEXTS.items() if text is not BIBLIOGRAPHY}
    found = {place: name for name, text in others.items() for place in cited(text)}
    assert len(found) > 70
    missing = {place: name for place, name in found.items() if place not in BIBLIOGRAPHY}
    assert not missing, "add each to docs/bibliography.md"


def test_a_work_that_is_missing_is_seen():
    text = "Source: Nobody, PRL 12, 345 (2001); Noone, J. Stat. Phys. 678, 90 (2002), arXiv 9999.12345, sec. 2, 3."
    assert cited(text) == {"12, 345", "678, 90", "9999.12345"}
    assert not any(place in BIBLIOGRAPHY for place in cited(text))


def test_old_names_are_listed():
    page = TEXTS["docs/upgrading.md"]
    assert all(f"| `{name}` |" in page for names in RENAMED.values() for name in names)
