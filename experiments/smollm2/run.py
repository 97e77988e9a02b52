"""Every way to choose with a real model: SmolLM2-135M-Instruct and six reward models, at equal budget.

Run:  python experiments/smollm2/run.py --seeds 3
Cost: about 5 minutes of one CPU core per fit, 13 fits a seed, 7 GB. A fit that is in --out already is not run
      again and one that was interrupted goes on, so the command can be stopped and started, and asked for more seeds
      later. All ways to choose are run with one seed before the next.

Where a fix moves some of them after the other runs are gone, --again REASON leaves the table and writes what was run
again below it, beside the table's rows.

It needs what prepare.py, prompts.py and reward_training.py make, and writes ``RESULTS.md`` beside itself, or where
--results says; --seeds 0 writes only what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "study"))
from strategies import LABELS, USES, layers
from worlds import ROOT, World

from laser_pl.report.statistics import advantage, interval, mean_and_interval
from laser_pl.report.summary import checked_out

HERE = Path(__file__).resolve().parent
CONFIG = "experiments/smollm2.yaml"
WORLD = World(CONFIG, CONFIG, right={}, late="")
CHOOSING = ["default", "paper", "cooling", "cooling_ranks", "trusted", "random", "mean"]
REFERENCE = "default"
MOST_SEEDS = 100
AGAIN = "## Run again"

INTRODUCTION = """# Choosing with a real model

SmolLM2-135M-Instruct, three kinds of easy questions, six reward models ([how good they are](WORLD.md)). Test accuracy
of sampled responses (temperature 0.8), mean over kinds, then over training seeds (adapter, prompt order, rollouts,
ties) with the 95 % interval by Student's t. Same prompts, rollouts, steps and pairs for all; what differs is who
judges. Differences are paired by seed, with a two-sided sign-flip permutation test, whose p cannot fall below
2/2^seeds. Bold: uses no label. Minutes are wall clock on a machine that had other work, unless it says otherwise;
forwards are per sampled response, those of functions included.
"""

Summary = dict[str, Any]


@dataclass(frozen=True, order=True)
class Fit:
    """Which fit.

    Attributes:
        seed: Of training; first, so that fits in order have all of one seed before the next.
        strategy: See the study's ``strategies.layers``.
    """

    seed: int
    strategy: str

    @property
    def name(self) -> str:
        """The name of its run."""
        return f"smollm2-{self.strategy}-{self.seed}"


def strategies() -> list[str]:
    """All ways to choose."""
    return [*CHOOSING, *(f"single_{arm}" for arm in WORLD.arms)]


def summary_of(fit: Fit, out: Path) -> Summary | None:
    """What came of it; None where it has not ended."""
    path = out / fit.name / "summary.json"
    if not path.exists():
        return None
    summary: Summary = json.loads(path.read_text(encoding="utf-8"))
    lines = (out / fit.name / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    config = yaml.safe_load((out / fit.name / "config.yaml").read_text(encoding="utf-8"))
    responses = config["data"]["rollouts"]["n"] * sum(len(json.loads(line)["prompt_ids"]) for line in lines)
    commit = out / fit.name / "commit"
    known = commit.read_text(encoding="utf-8") if commit.exists() else "unknown"
    return {**summary, "responses": responses, "commit": known}


def run(fit: Fit, out: Path, more: Sequence[str]) -> None:
    """Fit, or go on, unless it was done before.

    Args:
        fit: Which.
        out: Where the runs' folders lie.
        more: Further arguments of the command line.
    """
    if summary_of(fit, out) is None:
        from laser_pl.commands.cli import main  # which imports torch, after its number of threads was set

        strategy = layers(fit.strategy, WORLD, WORLD.arms)
        overlay = out / "layers" / f"{fit.name}.yaml"
        overlay.parent.mkdir(parents=True, exist_ok=True)
        overlay.write_text(yaml.safe_dump({"selection": strategy.selection}, sort_keys=False), encoding="utf-8")
        files = [word for file in (CONFIG, *strategy.files, str(overlay)) for word in ("--config", file)]
        begun = ["--resume"] if (out / fit.name).exists() else []
        where = ["--name", fit.name, "--runs_dir", str(out), "--seed_everything", str(fit.seed)]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            main(["fit", *files, *where, "--trainer.limit_val_batches", "0", *begun, *more])
        (out / fit.name / "commit").write_text(checked_out(ROOT), encoding="utf-8")
    done = summary_of(fit, out)
    assert done is not None
    before, after = (done["accuracy"][when]["average"] for when in ("before", "after"))
    print(f"{fit.name}: {before:.3f} -> {after:.3f} in {done['seconds']['total'] / 60:.1f} min", flush=True)


def table(found: dict[str, dict[int, Summary]]) -> list[str]:
    """A row for each way to choose, best first, after the start.

    Args:
        found: Summaries by strategy and seed.
    """
    every = [summary for runs in found.values() for summary in runs.values()]
    kinds = [kind for kind in every[0]["accuracy"]["after"] if kind != "average"]
    start = {seed: summary["accuracy"]["before"] for runs in found.values() for seed, summary in runs.items()}
    head = ["strategy", "what it uses", "seeds", "accuracy", *kinds, f"minus `{REFERENCE}`", "minutes", "RM forwards"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    by_kind = [_mean([before[kind] for before in start.values()]) for kind in kinds]
    average = interval(*mean_and_interval([before["average"] for before in start.values()]))
    lines.append(f"| start | | {len(start)} | {average} | {' | '.join(by_kind)} | | | |")

    def after(name: str) -> list[float]:
        return [float(summary["accuracy"]["after"]["average"]) for _, summary in sorted(found[name].items())]

    for name in sorted(found, key=lambda name: sum(after(name)) / len(after(name)), reverse=True):
        runs, single = found[name], name.startswith("single_")
        seeds = sorted(runs.keys() & found.get(REFERENCE, {}).keys())
        against = ""
        if seeds and name != REFERENCE:
            pair = [[found[which][s]["accuracy"]["after"]["average"] for s in seeds] for which in (name, REFERENCE)]
            against = advantage(*pair)
        cells = [
            name if single or name in LABELS else f"**{name}**",
            "one reward model" if single else USES[name],
            str(len(runs)),
            interval(*mean_and_interval(after(name))),
            *(_mean([summary["accuracy"]["after"][kind] for summary in runs.values()]) for kind in kinds),
            against,
            f"{sum(summary['seconds']['total'] for summary in runs.values()) / 60 / len(runs):.1f}",
            f"{sum(_forwards(summary) for summary in runs.values()) / len(runs):.2f}x",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shares(found: dict[str, dict[int, Summary]]) -> list[str]:
    """Who scored what: a row for each way to choose and kind of question, where there was a choice."""
    choosing = {name: runs for name, runs in found.items() if name in CHOOSING and name != "mean"}
    if not choosing:
        return []
    arms = list(WORLD.arms)
    lines = [f"| strategy | kind | {' | '.join(arms)} |", "|---" * (len(arms) + 2) + "|"]
    for name, runs in choosing.items():
        for kind in next(iter(runs.values()))["arm_share"]:
            each = [[summary["arm_share"][kind].get(arm, 0.0) for summary in runs.values()] for arm in arms]
            lines.append(f"| {name} | {kind} | {' | '.join(f'{sum(x) / len(x):.0%}' for x in each)} |")
    return lines


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f}"


def _forwards(summary: Summary) -> float:
    return float(sum(summary["reward_model_forwards"].values()) / summary["responses"])


def ended(out: Path) -> dict[str, dict[int, Summary]]:
    """Summaries of all fits that have ended, by strategy and seed."""
    found: dict[str, dict[int, Summary]] = {}
    for fit in (Fit(seed, name) for seed in range(MOST_SEEDS) for name in strategies()):
        if (summary := summary_of(fit, out)) is not None:
            found.setdefault(fit.strategy, {})[fit.seed] = summary
    return found


def page(out: Path, command: str) -> str:
    """``RESULTS.md``, of all fits that have ended."""
    found = ended(out)
    if not found:
        return f"{INTRODUCTION}\nNo fit has ended yet.\n"
    lines = [
        INTRODUCTION,
        *table(found),
        "",
        "## Who scored what",
        "",
        *shares(found),
        "",
        _written(found, command),
        "",
    ]
    return "\n".join(lines)


def again(before: str, out: Path, command: str, reason: str) -> str:
    """The page with a section on what was run again; one that it has already is replaced.

    Args:
        before: The page as it is.
        out: Where the new runs' folders lie.
        command: What writes it.
        reason: What has changed since the table was made.
    """
    before = before.split(AGAIN)[0].rstrip("\n")
    found = ended(out)
    if not found:
        return f"{before}\n"
    old, (head, line, *new) = before.splitlines(), table(found)
    rows = []
    for name in ("start", *found):
        for when, lines in (("then", old), ("now", new)):
            rows.append(f"| {_row(lines, name)[2:].replace(' | ', f', {when} | ', 1)}")
    what = f"{reason} Rows of the table above, and the same fits run again; the others were not."
    text = [before, "", AGAIN, "", what, "", head, line, *rows, "", *shares(found), "", _written(found, command), ""]
    return "\n".join(text)


def _row(lines: Sequence[str], name: str) -> str:
    return next(line for line in lines if line.startswith("| ") and line.split("|")[1].strip(" *") == name)


def _written(found: dict[str, dict[int, Summary]], command: str) -> str:
    commits = sorted({summary["commit"] for runs in found.values() for summary in runs.values()})
    return f"Written by `{command}`; ran at commit {', '.join(commits)}, {os.cpu_count()} CPU cores."


if __name__ == "__main__":
    os.chdir(ROOT)  # the configurations name their files from here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="0: only write what is there")
    parser.add_argument("--strategies", nargs="+", choices=strategies(), default=strategies(), help="only these")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "smollm2", help="where the runs' folders lie")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--again", metavar="REASON", help="what has changed since --results was written")
    parser.add_argument("settings", nargs="*", help="further ones of fit, behind --")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    command = shlex.join(["python", "experiments/smollm2/run.py", *sys.argv[1:]])
    before = options.results.read_text(encoding="utf-8") if options.again else ""
    for fit in [None, *(Fit(seed, strategy) for seed in range(options.seeds) for strategy in options.strategies)]:
        if fit is not None:
            run(fit, options.out, options.settings)
        text = again(before, options.out, command, options.again) if options.again else page(options.out, command)
        options.results.write_text(text, encoding="utf-8")
