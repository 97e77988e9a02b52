"""Make the third world from a seed: prompts, the policy's supervised start, three classifiers.

Run:  python experiments/third_world/build.py
Cost: one CPU core, 30 minutes, 3 GB. Needs SmolLM2 and gemma as experiments/smollm2/prepare.py makes them.

All is written beside this file; what is there already is not made again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments.third_world.lessons import OPINIONS, write_lessons, write_prompts
from experiments.third_world.reward_training import train
from laser_pl.commands.cli import main as laser_pl

HERE = Path(__file__).resolve().parent
BACKBONE = HERE.parent / "smollm2" / "SmolLM2-135M-Instruct"
SUPERVISED = HERE / "supervised.yaml"


def teach(folder: Path, backbone: Path, runs: Path, more: Sequence[str]) -> None:
    """The policy: right answers first, then the mixture, by two supervised fits; the adapter is merged.

    Args:
        folder: Of the world.
        backbone: What it starts from.
        runs: Where the fits' folders lie.
        more: Further settings of ``fit``.
    """
    start: list[str] = []
    for lesson in ("right", "mixed"):
        name = f"third-world-{lesson}"
        shutil.rmtree(runs / name, ignore_errors=True)  # of a build that was broken off
        data = ["--data.train", str(folder / "lessons" / f"{lesson}.jsonl")]
        data += [word for split in ("validation", "test") for word in (f"--data.{split}", _validation(folder))]
        where = ["--model.weights.name", str(backbone), "--name", name, "--runs_dir", str(runs)]
        laser_pl(["fit", "--config", str(SUPERVISED), *where, *data, *start, *more])
        start = ["--model.lora.start", str(runs / name / "adapter")]
    base = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(base, start[-1]).merge_and_unload()
    merged.save_pretrained(folder / "policy")
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder / "policy")


def _validation(folder: Path) -> str:
    return str(folder / "prompts" / "validation.jsonl")


def build(folder: Path, backbone: Path, runs: Path, parts: Sequence[str], more: Sequence[str] = ()) -> None:
    """Make what is not there. Every part sees prompts of its own, the same whichever are made."""
    taken: set[str] = set()
    write_prompts(folder / "prompts", taken)
    write_lessons(folder / "lessons", taken)
    if "policy" in parts and not (folder / "policy").exists():
        teach(folder, backbone, runs, more)
    for name in OPINIONS:
        classifier = folder / "reward_models" / name
        if name in parts and not classifier.exists():
            train(name, backbone, classifier, set(taken))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["policy", *OPINIONS], default=["policy", *OPINIONS])
    parser.add_argument("--runs_dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    build(HERE, BACKBONE, options.runs_dir, options.parts)
