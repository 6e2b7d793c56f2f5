r"""How to cite the library: one source, which CITATION.cff repeats and the tests compare."""

from importlib.metadata import version

TITLE = "thermojax: differentiable stochastic thermodynamics in JAX"
AUTHORS = ("The thermojax developers",)
LICENSE = "Apache-2.0"
# `date-released` of CITATION.cff, "2026-12-31" say, from the first release on
RELEASED: str | None = None


def citation() -> str:
    """A BibTeX entry for the version of thermojax that runs.

    ```python
    import thermojax as tjx

    print(tjx.citation())
    ```

    An entry of type `software`, as biblatex knows it; classical BibTeX takes it as `misc`. Title, authors and licence are
    those of CITATION.cff, the year is there from the first dated release on. What to cite for a method is said under
    "Source" in its docstring, and in the bibliography of the documentation.
    """
    fields = {
        # double braces: neither capitals nor the names of a group are BibTeX's to change
        "author": " and ".join(f"{{{name}}}" for name in AUTHORS),
        "title": f"{{{TITLE}}}",
        "version": version("thermojax"),
        "license": LICENSE,
    }
    if RELEASED is not None:
        fields["year"] = RELEASED[:4]
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@software{{thermojax,\n{lines}}}\n"
