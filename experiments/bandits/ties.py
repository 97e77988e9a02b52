"""What every way to choose does with a reward model that distinguishes nothing, on the quickstart's world.

Run:  python experiments/bandits/ties.py
Cost: about 10 s per fit and core, 17 fits.

Each fit is 40 steps with two reward models of the quickstart, ``numbers`` and ``sorter``, and one of those in
``tied_scores.py``. It writes ``TIES.md`` beside itself, or into --out, and the figures as ``ties.json``; --before names
such a file of another version, such as ``ties_before.json``, whose figures are then shown beside these.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import shlex
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PRESETS = ("default", "paper", "trusted", "cooling", "gap")
BANDITS = (
    "UCB1", "Exp3", "Thompson", "EpsilonGreedy", "Classifier", "DiscountedLinUCB", "SlidingWindowLinUCB", "Uniform",
    "RoundRobin",
)  # fmt: skip
WORLDS: dict[str, list[str]] = {
    "constant": [],
    "length_but_for_sorting": [],
    "faint": ["--selection.pairs.min_margin", "0.05"],
    "mute": [],
}
Figures = dict[str, Any]


def jobs() -> dict[str, tuple[str, list[str]]]:
    """A row's name to the arm that ties and what else is set."""
    found = {
        f"constant, {preset}": ("constant", ["--config", f"experiments/presets/{preset}.yaml"]) for preset in PRESETS
    }
    found |= {
        f"constant, {bandit}": ("constant", ["--selection.bandit", f"laser_pl.bandits.{bandit}"]) for bandit in BANDITS
    }
    found |= {f"{world}, default": (world, extra) for world, extra in WORLDS.items() if world != "constant"}
    return found


def fit(arm: str, extra: list[str], folder: Path, seed: int) -> Figures:
    """One fit's figures."""
    from laser_pl.commands.cli import main

    right = {
        name: {
            "class_path": "laser_pl.rewards.SequenceClassifier",
            "init_args": {"weights": {"name": f"experiments/quickstart/reward_models/{name}"}},
        }
        for name in ("numbers", "sorter")
    }
    ties = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"tied_scores.{arm}"}}
    overlay = folder / "overlay.json"
    overlay.write_text(json.dumps({"selection": {"reward_models": {arm: ties, **right}}}), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        run = main(
            [
                "fit", "--config", "experiments/quickstart.yaml", "--config", str(overlay), "--trainer.max_epochs", "1",
                "--data.validation", "null", "--data.test", "null", "--seed_everything", str(seed), "--runs_dir",
                str(folder), "--name", "ties", "--quiet", *extra,
            ]
        )  # fmt: skip
    lines = [json.loads(line) for line in run.folder.selection.read_text(encoding="utf-8").splitlines()]
    pairs: Counter[int] = Counter()
    for line in lines:
        pairs[line["step"]] += line["pairs"]
    prompts = sum(len(line["prompt_ids"]) for line in lines)
    return {
        "steps": len(pairs),
        "without": sum(count == 0 for count in pairs.values()),
        "judged": sum(len(line["prompt_ids"]) for line in lines if line["arm"] == arm) / prompts,
        "asked": run.summary["reward_model_forwards"][arm] / run.trainer.datamodule.rollouts.n / prompts,
        "forwards": sum(run.summary["reward_model_forwards"].values()) / run.trainer.datamodule.rollouts.n / prompts,
    }


def table(found: dict[str, Figures], before: dict[str, Figures]) -> list[str]:
    """A row for each fit, with the other version's figures in brackets."""
    lines = [
        "| reward model that ties, way to choose | steps without a pair | prompts it judged | it was asked about |"
        " reward models asked per prompt |",
        "|---|---|---|---|---|",
    ]
    for name, one in found.items():
        old = before.get(name)
        cells = [
            (f"{f['without']} of {f['steps']}", f"{f['judged']:.0%}", f"{f['asked']:.0%}", f"{f['forwards']:.2f}")
            for f in (one, old)
            if f is not None
        ]
        shown = [cell[0] + (f" ({cell[1]})" if old else "") for cell in zip(*cells, strict=True)]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def main(args: list[str] | None = None) -> None:
    """Run all fits, or some, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="rows to run; all if not given")
    parser.add_argument("--before", type=Path, default=None, help="ties.json of another version")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args(args)
    sys.path.insert(0, str(HERE))  # for the functions
    began, found = time.perf_counter(), {}
    for name, (arm, extra) in jobs().items():
        if options.only is None or name in options.only:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = fit(arm, extra, Path(folder), options.seed)
            print(name, found[name], flush=True)
    before = {} if options.before is None else json.loads(options.before.read_text(encoding="utf-8"))
    from laser_pl.report.summary import checked_out

    command = shlex.join(["python", "experiments/bandits/ties.py", *(sys.argv[1:] if args is None else args)])
    brackets = [
        "In brackets the same at commit 3a82160, before such an arm was passed over and observed.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ties.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    page = [
        "# A reward model that distinguishes nothing",
        "",
        f"Written by `{command}` on {date.today()}, at commit {checked_out(HERE)}, Python {platform.python_version()},"
        f" torch {torch.__version__}, in {time.perf_counter() - began:.0f} s.",
        "",
        "40 steps of 16 prompts on the quickstart's world, with its reward models `numbers` and `sorter` and one whose"
        " scores tie: always (`constant`), on one category (`length_but_for_sorting`), within `min_margin` (`faint`);"
        " `mute` has no opinion. The last column counts all of them: 1.00 is one forward"
        " for each response.",
        "",
        *(brackets if before else []),
        *table(found, before),
        "",
    ]
    (options.out / "TIES.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
