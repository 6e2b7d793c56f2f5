"""The long half: the numbers of the examples, from the files that they write into out/.

An example lists its numbers under "reproduced" in out/NAME.json; others are picked by their keys, in picked.py.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from .picked import PICKED
from .row import Row, from_json

ROOT = Path(__file__).parent.parent
OUT, DOCS = ROOT / "out", ROOT / "docs"


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


def seconds(name: str) -> tuple[float, str] | None:
    """What an example took: CPU seconds, as `run` saw them or as it says itself, or else its own clock."""
    if name in spent():
        return spent()[name], "CPU seconds"
    report = json.loads(results(name).read_text(encoding="utf-8")) if results(name).exists() else {}
    for key, unit in (("cpu_seconds", "CPU seconds"), ("seconds", "s"), ("total_seconds", "s")):
        if key in report:
            return float(report[key]), unit
    return None


def spent() -> dict[str, float]:
    file = OUT / "reproduce.json"
    return json.loads(file.read_text()) if file.exists() else {}


def rows(name: str) -> list[Row]:
    """The numbers that an example has written; none if it was not run."""
    if not results(name).exists():
        return []
    report = json.loads(results(name).read_text(encoding="utf-8"))
    listed = [from_json(row) for row in report.get("reproduced", [])]
    return listed + (list(PICKED[name](report)) if name in PICKED else [])
