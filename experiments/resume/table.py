"""Does a run that was killed and resumed end as if nothing had happened, whatever of Lightning's is set?

Each setting has one run of three tiny iterations without interruption. What lies on the disk at four moments is copied
meanwhile, as a kill leaves it, and each copy is resumed; what they end with is compared bit by bit.

Run:  python experiments/resume/table.py --jobs 2
Cost: about 10 s of a CPU core for each of the settings in settings.py. Outcomes that are in --kept are not found anew.

It writes TABLE.md beside itself, and ends with code 1 if anything is neither equal, refused, nor explained there.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

from runs import MOMENTS, outcome
from settings import SETTINGS, Setting

HERE = Path(__file__).resolve().parent
HEAD = """# Killed and resumed, under what people set of Lightning's

Written by `python experiments/resume/table.py`. Each setting was run once without interruption, killed at four moments
of its second iteration or after its last, and resumed each time. *equal*: adapter, optimizer, schedule, bandit,
decisions, metrics, pairs and summary are those of the run that nobody interrupted, bit for bit, and TensorBoard, W&B
and MLflow show one run. *-*: the moment does not come under this setting.
"""


def found_out(setting: Setting) -> dict[str, str]:
    """The setting's outcome, in a folder of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        return outcome(setting.arguments, Path(scratch, "runs"), setting.without)


def row(setting: Setting, found: dict[str, str]) -> str:
    """A line of the table."""
    cells = [found.get(moment, "none") for moment in MOMENTS]
    cells = ["-" if cell == "none" else cell for cell in cells]
    runs = found["runs"] if found["runs"].startswith("yes") else f"refused: {_short(found['runs'])}"
    if setting.why and any(cell not in {"equal", "-"} for cell in cells):
        cells = [cell if cell in {"equal", "-"} else f"not equal: {setting.why}" for cell in cells]
    return f"| {setting.kind} | {setting.name} | {runs} | {' | '.join(_short(cell) for cell in cells)} |"


def is_fault(setting: Setting, found: dict[str, str]) -> bool:
    """Whether a sentence or an explanation is missing."""
    errors = [text for text in found.values() if "Error: " in text or "Exception: " in text]
    other = [moment for moment in MOMENTS if found.get(moment, "none") not in {"equal", "none"}]
    return bool(errors) or (bool(other) and not setting.why)


def _short(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "/")
    return plain if len(plain) <= 160 else f"{plain[:157]}..."


def main(arguments: list[str] | None = None) -> None:
    """Do it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kept", type=Path, help="JSON lines of outcomes, read and added to")
    parser.add_argument("--only-kept", action="store_true", help="write the table of those alone")
    parser.add_argument("--table", type=Path, default=HERE / "TABLE.md")
    options = parser.parse_args(arguments)
    kept = options.kept.read_text(encoding="utf-8").splitlines() if options.kept and options.kept.exists() else []
    found = {(kind, name): outcome for kind, name, outcome in map(json.loads, kept)}
    left = [one for one in SETTINGS if (one.kind, one.name) not in found and not options.only_kept]
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(found_out, setting): setting for setting in left}
        for job in as_completed(jobs):
            setting = jobs[job]
            found[setting.kind, setting.name] = job.result()
            line = json.dumps([setting.kind, setting.name, job.result()])
            print(line, flush=True)
            if options.kept:
                with options.kept.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
    every = [(one, found[one.kind, one.name]) for one in SETTINGS if (one.kind, one.name) in found]
    faults = [setting.name for setting, its in every if is_fault(setting, its)]
    resumed = sum(its.get(moment) == "equal" for _, its in every for moment in MOMENTS)
    text = [
        HEAD,
        f"{len(every)} settings; {resumed} resumed runs are equal. Python {platform.python_version()}, lightning"
        f" {version('lightning')}, torch {version('torch')}.\n",
        f"| kind | setting | runs | killed {' | '.join(MOMENTS)} |",
        f"|{'---|' * (3 + len(MOMENTS))}",
        *(row(setting, its) for setting, its in every),
    ]
    options.table.write_text("\n".join(text) + "\n", encoding="utf-8")
    if faults:
        raise SystemExit(f"Neither equal, refused nor explained: {', '.join(faults)}")


if __name__ == "__main__":
    main()
