"""The long half: the numbers of the examples, from the files that they write into out/.

An example lists its numbers under "reproduced" in out/NAME.json; those of the older examples are picked here by their keys.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .row import Row, from_json

ROOT = Path(__file__).parent.parent
OUT, DOCS = ROOT / "out", ROOT / "docs"
SS07 = "Schmiedl & Seifert, PRL 98, 108301 (2007)"
NEST = "Whitelam et al., arXiv:2506.15122 (NESTbench25)"
ZHANG = "Zhang, arXiv:2606.18290"
LIMITS = "Kodama & Hinczewski, arXiv:2510.06174"


def moving_trap(r: dict) -> Iterator[Row]:
    yield Row(
        "drag 0 to 5, drive found from paths: its mean work",
        SS07,
        25 / 3,
        r["work_found_exact"],
        2e-3,
    )


def breathing_trap(r: dict) -> Iterator[Row]:
    for key, exact, tau in ((None, 0.890571785, 1), ("fast", 1.203063208, 0.2)):
        part = r if key is None else r[key]
        what = f"stiffness 1 to 4 in {tau}, drive found from paths: its mean work"
        yield Row(what, SS07, exact, part["work_found_exact"], 1.5e-3)


def heat_and_drive(r: dict) -> Iterator[Row]:
    for name in ("idle", "found"):
        part = r[name]
        error = part["integral_fluctuation_stderr"]
        what = f"heated and driven ({name}): mean of exp(-W_diss)"
        yield Row(what, ZHANG + ", Eq. (6.6)", 1.0, part["integral_fluctuation"], 4 * error, error)
    best = r["dissipation_optimal"]
    yield Row(
        "heated and driven: least dissipation, found",
        "closed form",
        best,
        r["found"]["dissipation"],
        1e-3,
    )


def temperature_steered(r: dict) -> Iterator[Row]:
    source = "Dibak et al., arXiv:2108.01590 (the setting); moment equations"
    yield Row(
        "trap heated 1 to 2: <x^2> as it arrives", source, 1.567667642, r["unweighted_exact"], 1e-8
    )
    for name, what, exact in (
        ("unweighted", "<x^2> of paths", 1.567667642),
        ("weighted", "weighted", 2.0),
    ):
        error = r[f"{name}_stderr"]
        yield Row(f"trap heated 1 to 2: {what}", source, exact, r[name], 4 * error, error)
    for bath, mean, cost in (("1.0", 3.013424, 58.96697), ("0.7", 2.474015, 26.47121)):
        row = r["baths"][bath]
        what = f"moved and stiffened, 1/T = {bath} on the way"
        yield Row(f"{what}: mean reduced work", "moment equations", mean, row["mean_exact"], 3e-6)
        yield Row(
            f"{what}: second moment of the weight",
            "moment equations",
            cost,
            row["cost_exact"],
            2e-4 * cost,
        )


def engine(r: dict) -> Iterator[Row]:
    source = "Schmiedl & Seifert, EPL 81, 20003 (2008)"
    for row in r["strokes"]:
        what = f"engine, stroke {row['stroke']:.3f}: power"
        yield Row(what, source, row["exact"]["power"], row["ours"]["power"], 1e-4)
    for row in r["maximum_power"]:
        what = f"engine at Carnot efficiency {row['carnot']:.1f}: efficiency at greatest power"
        yield Row(what, source, row["exact"], row["ours"], 1e-3)


def nll_limit(r: dict) -> Iterator[Row]:
    for sigma, flow in (
        ("10", 1.419463277),
        ("20", 1.418994347),
        ("25", 1.418964961),
        ("30", 1.418952775),
    ):
        row = r["gaussian_ve"][sigma]
        yield Row(
            f"exact score, VE {sigma}: likelihood of the flow", LIMITS, flow, row["nll"], 2e-6
        )
        yield Row(
            f"exact score, VE {sigma}: their limit is the entropy",
            LIMITS,
            1.418938533,
            row["limit"],
            2e-6,
        )
    error = r["entropy_uniform_stderr"]
    yield Row(
        "entropy of U(-1, 1) from its scores",
        LIMITS,
        0.693147181,
        r["entropy_uniform"],
        4 * error,
        error,
    )
    yield Row(
        "exchange over intrinsic rate, VE, of a network",
        LIMITS,
        -2.0,
        r["ratio_ve"],
        1e-4,
        theirs=-2.0,
    )
    yield Row("the same of VP, N(1, 1/4), t = 0.1", "closed form", -1.9015, r["ratio_vp"], 2e-4)


def double_well(r: dict) -> Iterator[Row]:
    source = "landscape of Sivak & Crooks, PRE 94, 052106 (2016); an independent program"
    yield Row("pulled through a barrier, ramp: work", source, 8.8028, r["ramp"]["work"], 2e-4)
    yield Row(
        "the same, nine free knots: least work", source, 7.51076, r["least work"]["work"], 2e-5
    )


def optimal_landscapes(r: dict) -> Iterator[Row]:
    zhong = "landscape of Zhong & DeWeese; an independent program"
    for tau, ramp, least in (("0.2", 32.372, 29.739), ("1", 21.443, 14.878)):
        row = r["zhong_deweese"][tau]
        yield Row(f"tilted double well, {tau}, ramp: work", zhong, ramp, row["ramp"], 1e-3)
        yield Row(f"tilted double well, {tau}: least work", zhong, least, row["found"], 2e-3)
    row = r["quartic"]["0.1"]
    yield Row(
        "quartic trap 1 to 5 in 0.1, ramp: work",
        "an independent program",
        0.738204,
        row["ramp"],
        2e-6,
    )
    yield Row(
        "quartic trap 1 to 5 in 0.1: least work",
        "an independent program",
        0.69789,
        row["found"],
        4e-5,
    )


def nestbench(r: dict) -> Iterator[Row]:
    exact = {"trap": 25 / 3, "trap_underdamped": 2.9078746}
    for name, row in r.items():
        what = f"NESTbench, {name.replace('_', ' ')}"
        if name in exact:
            yield Row(what, NEST, exact[name], row["value"], 2e-6, theirs=row["theirs"])
        else:
            error = row["stderr"] or None
            yield Row(what, NEST, None, row["value"], None, error, row["theirs"], row["theirs"])


PICKED = {
    fn.__name__: fn
    for fn in (
        moving_trap,
        breathing_trap,
        heat_and_drive,
        temperature_steered,
        engine,
        nll_limit,
        double_well,
        optimal_landscapes,
        nestbench,
    )
}


def names() -> list[str]:
    """The examples that have numbers to show."""
    scripts = sorted((ROOT / "examples").glob("*.py"))
    return [
        s.stem
        for s in scripts
        if s.stem in PICKED or '"reproduced"' in s.read_text(encoding="utf-8")
    ]


def results(name: str) -> Path:
    return OUT / f"{name}.json"


def pages() -> dict[str, str | None]:
    """The page of each example, from the folder of the documentation."""
    return {n: f"examples/{n}.md" for n in names() if (DOCS / f"examples/{n}.md").exists()}


def stale(name: str) -> bool:
    """Whether the script has changed since it was run, or was never run."""
    script = ROOT / f"examples/{name}.py"
    return not results(name).exists() or results(name).stat().st_mtime < script.stat().st_mtime


def run(name: str) -> None:
    """Run an example; its CPU seconds are kept in out/reproduce.json."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    print(f"examples/{name}.py ...", flush=True)
    subprocess.run(
        [sys.executable, f"examples/{name}.py"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - clock
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (OUT / "reproduce.json").write_text(json.dumps(spent() | {name: cpu}, indent=2) + "\n")
    print(f"examples/{name}.py: {cpu:.0f} CPU seconds, {wall:.0f} s", flush=True)


def spent() -> dict[str, float]:
    file = OUT / "reproduce.json"
    return json.loads(file.read_text()) if file.exists() else {}


def rows(name: str) -> list[Row]:
    """The numbers that an example has written; none if it was not run."""
    if not results(name).exists():
        return []
    report = json.loads(results(name).read_text(encoding="utf-8"))
    if "reproduced" in report:
        return [from_json(row) for row in report["reproduced"]]
    return list(PICKED[name](report)) if name in PICKED else []
