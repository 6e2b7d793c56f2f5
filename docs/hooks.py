"""What the documentation adds when it is built: the gallery, the downloads, and where each name of the API is used.

All of it follows from the files that are there, so that a new example needs no entry anywhere but in the navigation:
`examples/NAME.py`, its page (`docs/examples/NAME.md`, or else the first page that names the script), and its figure
(`docs/assets/NAME.png`). See `hooks:` in mkdocs.yml.
"""

import ast
import functools
import html
import json
import posixpath
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DOCS, SCRIPTS = ROOT / "docs", ROOT / "examples"
NO_PAGES_OF_EXAMPLES = {"bibliography.md", "index.md", "gallery.md", "reproduced.md"}


class Example(NamedTuple):
    """One script: its page and figure, as paths within docs (None: there is none), and what is said of it."""

    name: str
    title: str
    line: str
    page: str | None
    figure: str | None
    text: str
    source: str


def mentions(text: str) -> set[str]:
    """The scripts that a page names outside of its code."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`examples/(\w+)\.py`", prose))


def pages() -> dict[str, str]:
    """The text of each page, by its path within docs."""
    found = {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md"))}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def sentence(text: str) -> str:
    """The first sentence of a text that may be broken into lines."""
    first = re.split(r"\n\s*\n", text.strip())[0]
    return re.split(r"(?<=[.?!])\s+(?=[A-Z])", " ".join(first.split()))[0].rstrip(":")


def of_an_example(page: str) -> bool:
    return page.startswith("examples/")


@functools.cache
def examples() -> list[Example]:
    """All scripts of examples/, each with its page, in alphabetical order."""
    texts = {name: text for name, text in pages().items() if name not in NO_PAGES_OF_EXAMPLES}
    found = []
    for script in sorted(SCRIPTS.glob("*.py")):
        name, source = script.stem, script.read_text(encoding="utf-8")
        own = f"examples/{name}.md"
        others = sorted((p for p in texts if name in mentions(texts[p])), key=of_an_example)
        page = own if own in texts else next(iter(others), None)
        text = texts.get(page or "", "")
        figure = f"assets/{name}.png" if (DOCS / f"assets/{name}.png").exists() else None
        heading = re.search(r"^# (.*)$", text, re.MULTILINE)
        title = heading.group(1) if heading and page == own else name.replace("_", " ").capitalize()
        shown = re.search(rf"!\[([^\]]+)\]\([^)]*{name}\.png\)", text)
        alt = shown.group(1) if shown else f"The figure of {title}"
        line = sentence(ast.get_docstring(ast.parse(source)) or "")
        found.append(Example(name, title, line, page, figure, alt, source))
    return found


# ---------------------------------------------------------------------------- the gallery


def cards(those: list[Example], start: str = "") -> str:
    """Cards of Markdown: a figure that leads to its page, the title, a line, the downloads."""
    rows = []
    for e in those:
        figure = f"![{e.text}]({start}{e.figure}){{ loading=lazy }}"
        both = f"{start}examples/{e.name}"
        links = f"[Script]({both}.py){{ .downloads }} · [Notebook]({both}.ipynb){{ .downloads }}"
        rows += [f"-   [{figure}]({start}{e.page})\n\n    **[{e.title}]({start}{e.page})**\n"]
        rows += [f"    {html.escape(e.line, quote=False)}\n\n    {links}\n"]
    return '<div class="grid cards gallery" markdown>\n\n' + "\n".join(rows) + "\n</div>\n"


def gallery(order: list[str]) -> str:
    """All examples that have a figure as cards, in the order of the navigation, and the others as a list below."""
    place = {page: i for i, page in enumerate(order)}
    known = sorted(examples(), key=lambda e: (place.get(e.page or "", len(place)), e.name))
    drawn = [e for e in known if e.figure and e.page]
    plain = [e for e in known if e not in drawn]
    lines = [
        f"- {f'**[{e.title}]({e.page})**' if e.page else f'**{e.title}**'}: "
        f"{html.escape(e.line, quote=False)} [Script](examples/{e.name}.py) · [Notebook](examples/{e.name}.ipynb)"
        for e in plain
    ]
    return cards(drawn) + "\n" + "\n".join(lines) + "\n"


def thumbnails(names: str) -> str:
    """The cards of a few examples, named with blanks between."""
    known = {e.name: e for e in examples()}
    return cards([known[name] for name in names.split()])


def downloads(page: str, known: list[Example]) -> str:
    """The line below a page's title: where its scripts are."""
    start = posixpath.relpath("examples", posixpath.dirname(page) or ".")
    links = [
        f"`{e.name}`: [script]({start}/{e.name}.py){{ download }}, [notebook]({start}/{e.name}.ipynb){{ download }}"
        for e in known
        if e.page == page
    ]
    return "Download " + "; ".join(links) + ".\n{ .downloads }\n" if links else ""


# ---------------------------------------------------------------------------- notebooks


def cells(source: str) -> list[tuple[str, str]]:
    """A script as cells, (kind, text) each: its docstring, its imports, and a section from each line `# ---- title` on."""
    tree, lines = ast.parse(source), source.splitlines()
    found = [("markdown", ast.get_docstring(tree) or "")]
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    begins = body[0].lineno - 1 if body else len(lines)
    imports = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    cuts = {begins: None}
    if imports:
        cuts[imports[-1].end_lineno or begins] = None
    inside = {i for n in body for i in range(n.lineno, n.end_lineno or n.lineno)}
    for i, line in enumerate(lines):
        title = re.match(r"# -{4,}\s*(.*)$", line)
        if title and i >= begins and i not in inside:
            cuts[i] = title.group(1)
    ends = [*sorted(cuts)[1:], len(lines)]
    for first, last in zip(sorted(cuts), ends, strict=True):
        title = cuts[first]
        if title is not None:
            found += [("markdown", f"## {title[:1].upper()}{title[1:]}")] if title else []
            first += 1
        text = "\n".join(lines[first:last]).strip("\n")
        found += [("code", text)] if text.strip() else []
    return found


def in_notebook(code: str) -> str:
    """What a script needs otherwise where figures are shown in place and there is no command line."""
    code = re.sub(r'^ *matplotlib\.use\("Agg"\)\n?', "", code, flags=re.MULTILINE)
    code = code.replace(".parse_args()", ".parse_args([])")
    return code.replace("Path(__file__).parent", "Path.cwd()").replace("  # noqa: E402", "")


def notebook(name: str, source: str) -> dict[str, Any]:
    """A script of examples/ as a notebook, nbformat 4."""
    parts = [(kind, in_notebook(text) if kind == "code" else text) for kind, text in cells(source)]
    parts[0] = ("markdown", f"# {name.replace('_', ' ').capitalize()}\n\n{parts[0][1]}")
    parts.insert(1, ("code", '%pip install -q "thermojax[examples]"'))
    made = []
    for i, (kind, text) in enumerate(parts):
        cell = {"cell_type": kind, "id": f"{name}-{i}"[-64:], "metadata": {}}
        cell["source"] = text.splitlines(keepends=True)
        made.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


# ---------------------------------------------------------------------------- where a name is used


def used(source: str) -> set[str]:
    """The names of thermojax, in full, that a script uses: what it imports, and what it takes from what it imports."""
    tree = ast.parse(source)
    alias, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "thermojax":
                    alias[name.asname or "thermojax"] = name.name if name.asname else "thermojax"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "thermojax":
            for name in node.names:
                alias[name.asname or name.name] = f"{node.module}.{name.name}"
                found.add(f"{node.module}.{name.name}")
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name) and inner.id in alias:
            found.add(".".join([alias[inner.id], *reversed(parts)]))
    return found


@functools.cache
def users() -> dict[str, list[Example]]:
    """For each name of thermojax the examples that use it, and have a page."""
    found: dict[str, list[Example]] = {}
    for example in examples():
        if example.page:
            for name in sorted(used(example.source)):
                found.setdefault(name, []).append(example)
    return found


def with_users(content: str, known: dict[str, list[Example]], link: Any) -> str:
    """The HTML of a page of the API, with "Used in" below what is said of each entry; `link(page)` is an address."""
    heading = re.compile(r'<h\d id="(thermojax\.[\w.]+)" class="doc doc-heading">')
    for match in reversed(list(heading.finditer(content))):
        found = known.get(match.group(1))
        begins = content.find('<div class="doc doc-contents', match.end())
        if not found or begins < 0:
            continue
        depth, place = 0, begins
        for turn in re.compile(r'<div class="doc doc-children"|<div\b|</div>').finditer(
            content, begins
        ):
            place = turn.start()
            if depth == 1 and turn.group() != "<div":
                break  # its members, or its end
            depth += -1 if turn.group() == "</div>" else 1
        links = [f'<a href="{link(e.page)}">{html.escape(e.title)}</a>' for e in found]
        content = content[:place] + used_in(links) + content[place:]
    return content


def used_in(links: list[str]) -> str:
    return f'<p class="used-in">Used in: {", ".join(dict.fromkeys(links))}</p>\n'


# ---------------------------------------------------------------------------- what MkDocs calls


def order_of(nav: Any) -> list[str]:
    """The pages of the navigation, from its first to its last."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav or []
    return [page for part in inner for page in order_of(part)]


def on_files(files: Any, config: Any) -> Any:
    """Beside each page of an example its script and its notebook."""
    from mkdocs.structure.files import File  # only there where the documentation is built

    examples.cache_clear(), users.cache_clear()  # a server builds again and again

    for e in examples():
        book = json.dumps(notebook(e.name, e.source), indent=1, ensure_ascii=False) + "\n"
        for ending, content in ((".py", e.source), (".ipynb", book)):
            files.append(File.generated(config, f"examples/{e.name}{ending}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The gallery where a page asks for it, and the downloads below the title of an example."""
    markdown = markdown.replace("<!-- gallery -->", gallery(order_of(config["nav"])))
    markdown = re.sub(r"<!-- thumbnails: (.*?) -->", lambda m: thumbnails(m.group(1)), markdown)
    line = downloads(page.file.src_uri, examples())
    return (
        re.sub(r"\A(\s*# .*\n)", lambda m: f"{m.group(1)}\n{line}", markdown) if line else markdown
    )


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Where each entry of the API is used."""
    if not page.file.src_uri.startswith("api/"):
        return content

    def link(other: str | None) -> str:
        return files.get_file_from_path(other).url_relative_to(page.file)

    return with_users(content, users(), link)
