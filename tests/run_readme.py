"""Run the ```python blocks of Markdown files, in order, one namespace per file, and hold them to what they say they print.

    python tests/run_readme.py README.md docs/index.md

Needs nothing beyond a plain install of thermojax. Errors point at the line of the Markdown file.
"""

import re
import sys
import textwrap
from pathlib import Path

import said

FENCE = re.compile(r"^([ \t]*)```python\b[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[int, str]]:
    """The Python blocks of a Markdown text, each with the number of its first line."""
    found = FENCE.finditer(text)
    return [(text.count("\n", 0, m.start(2)) + 1, textwrap.dedent(m.group(2))) for m in found]


def run(path: Path) -> int:
    """Execute the blocks of one file; the number of blocks that ran."""
    text = path.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__", "print": said.Printed(text)}
    found = blocks(text)
    for line, source in found:
        exec(compile("\n" * (line - 1) + source, str(path), "exec"), namespace)
    return len(found)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {run(Path(name))} blocks ran", flush=True)
