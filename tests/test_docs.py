"""Every Python block of the README and of the documentation runs."""

from pathlib import Path

import jax
import pytest
import run_readme

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES_WITH_CODE = [page for page in PAGES if run_readme.blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page", PAGES_WITH_CODE, ids=[str(page.relative_to(ROOT)) for page in PAGES_WITH_CODE]
)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a page writes stays out of the checkout
    with jax.numpy_dtype_promotion("standard"):  # optax is not strict, and users need not be
        assert run_readme.run(page) > 0


def test_blocks_are_found_where_they_stand():
    text = "a\n```python\nx = 1\n```\n\n!!! note\n\n    ```python\n    y = 2\n    ```\n```text\nno\n```\n"
    assert run_readme.blocks(text) == [(3, "x = 1\n"), (9, "y = 2\n")]


@pytest.mark.parametrize(
    ("said_there", "code", "wrong"),
    [
        ("1.20 and 3, then", "1.205, 3.05", "1.22, 3.0"),
        ("9.2 within 0.1, done ON", "9.29", "9.31"),
        ("10/3, within 0.1: a jump", "3.4", "3.5"),
        ("-0.94; exactly -0.9437", "-0.944", "0.94"),
        ("0.5, True", "0.5, True", "0.5, False"),
        ("0.5, True", "0.5, True", "0.5"),
        ("0 to rounding", "[1e-7]", "1e-3"),
        ("rounding", "-1e-7", "float('nan')"),
        ("1 within its error, reliable", "Of(1.03, 0.01, True)", "Of(1.05, 0.01, True)"),
        ("1, reliable", "Of(1.03, 0.01, True)", "Of(1.03, 0.01, False)"),
        ("not reliable, and why", "Of(1.03, 0.01, False)", "Of(1.03, 0.01, True)"),
        ("2d, and 3 more words", "'a', object()", None),
        ("(101, 1) and two numbers", "(101, 1)", None),
    ],
)
def test_what_a_page_says_is_held_against_what_it_prints(said_there, code, wrong, tmp_path):
    page = tmp_path / "page.md"
    of = "import collections\nOf = collections.namedtuple('Of', 'value stderr reliable')"

    def run(shown):
        text = f"```python\n{of}\nprint({shown})  # {said_there}\n```\n"
        page.write_text(text, encoding="utf-8")
        return run_readme.run(page)

    assert run(code) == 1
    if wrong is not None:
        with pytest.raises(AssertionError, match="Line 4 says"):
            run(wrong)


def test_what_a_loop_prints_is_held_round_by_round(tmp_path):
    page = tmp_path / "page.md"
    text = "```python\nfor x in (0.67, 0.9, 5.0):\n    print(x)  # 0.67; then 0.9, then more\n```\n"
    page.write_text(text, encoding="utf-8")
    assert run_readme.run(page) == 1
    page.write_text(text.replace("0.9, 5.0", "0.7, 5.0"), encoding="utf-8")
    with pytest.raises(AssertionError, match="0.9 within"):
        run_readme.run(page)
