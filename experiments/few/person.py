"""A stand-in for a person: says which responses to the quickstart's questions are better, since it knows the answers.

Run:  python experiments/few/person.py labels.jsonl
Cost: none; it fills in the file that ``label`` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROMPTS = Path(__file__).resolve().parents[1] / "quickstart" / "prompts" / "train.jsonl"


def answer(path: Path) -> int:
    """Fill in which responses are right, or that none or all of them are.

    Args:
        path: A labels file.

    Returns:
        How many lines say that one response is better than another.
    """
    rows = map(json.loads, PROMPTS.read_text(encoding="utf-8").splitlines())
    answers = {row["prompt"]: row["answer"] for row in rows}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        right = [n for n, text in enumerate(line["responses"], 1) if text == answers[line["prompt"]]]
        line["better"] = "neither" if not right else "both" if len(right) == len(line["responses"]) else right
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return sum(isinstance(line["better"], list) for line in lines)


if __name__ == "__main__":
    print(f"{answer(Path(sys.argv[1]))} questions tell which response is better.")
