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
