import argparse
import sys
import time

import jax

jax.config.update("jax_enable_x64", True)

from . import examples, models, quick, sampling, slow  # noqa: E402
from .page import Table, page  # noqa: E402

QUICK, ALL = "make reproduce QUICK=1", "make reproduce"
CORRECTIONS = """What is printed or follows from a text, and what is: each a number that anyone can check, in the conditions
of its row, and no more is claimed. How the entropy rate of a network is defined is not in the text of arXiv:2510.06174 that
is public; both natural ways are priced, and both make its limit lie above a likelihood (0.045352 above the entropy S_0)."""

LEFT_OUT = """What the examples write, by their names. One number that we know is not reproduced and has no row: the
dissipation of the six steps of least work on the eight modes, which an independent program gives as .3053 nats and we as
.2916. The ends of its schedule are not known, and where a schedule may end changes that number."""


def computed(section, command: str = QUICK) -> Table:
    """A section that is computed here, timed."""
    clock = time.process_time()
    rows = list(section())
    text = " ".join((section.__doc__ or "").split())
    spent = time.process_time() - clock
    for row in rows:
        print(f"{'PASS' if row.passes else 'FAIL'}  {row.what}: {row.ours:.10g}", flush=True)
    title = section.__name__.capitalize()
    print(f"      {title}: {spent:.1f} CPU seconds", flush=True)
    return Table(title, f"{text}\n\n", command, rows, (spent, "CPU seconds"))


def written(name: str, pages: dict[str, str | None]) -> Table:
    """The numbers that an example has written."""
    title = name.replace("_", " ").capitalize()
    command = f"python examples/{name}.py"
    return Table(title, "", command, examples.rows(name), examples.seconds(name), pages.get(name))


def sections(kind: str) -> list:
    """Of all modules that compute rows."""
    return [
        section for room in (quick, slow, models, sampling) for section in getattr(room, kind, ())
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reproduce")
    parser.add_argument("--quick", action="store_true", help="closed forms only; writes no page")
    parser.add_argument(
        "--kept", action="store_true", help="runs no example, takes what is in out/"
    )
    asked = parser.parse_args()
    forms = [computed(section) for section in sections("SECTIONS")]
    against = [computed(models.corrections)]
    tables = forms + against
    if not asked.quick:
        more = [computed(section, ALL) for section in sections("LONG")]
        names = examples.names()
        for name in names:
            if not asked.kept and examples.stale(name):
                examples.run(name)
        found = [written(name, examples.pages()) for name in names]
        runs = [table for table in found if table.rows]
        missing = [name for name, table in zip(names, found, strict=True) if not table.rows]
        parts = [
            ("Closed forms", "Each by the library, in double precision.", forms),
            ("More of them", "As above, and not part of the quick half.", more),
            ("Corrections", CORRECTIONS, against),
            ("Examples", LEFT_OUT, runs),
        ]
        examples.DOCS.joinpath("reproduced.md").write_text(page(parts, missing), encoding="utf-8")
        tables = tables + more + runs
    bad = [row for table in tables for row in table.rows if not row.passes]
    print(f"{sum(len(table.rows) for table in tables)} numbers, {len(bad)} off")
    for row in bad:
        print(
            f"FAIL  {row.what}: {row.ours}, not {row.exact if row.exact is not None else row.theirs}"
        )
    return bool(bad)


sys.exit(main())
