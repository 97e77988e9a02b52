"""Make the prompts: easy questions of three kinds, each with two options that are named, so that the answer is a word.

Run:  python experiments/smollm2/prompts.py basic_skills.jsonl.gz

The file has a JSON object a line: ``category``, ``question`` (with its options as lines `` A. night`` and so on below
it) and ``answer`` (a letter), as the basic-skills set has them (Apache-2.0). They are written to ``prompts/`` beside
this file: 100 of each kind to test on, 20 to validate on, the others to train on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

FOLDER = Path(__file__).resolve().parent / "prompts"
KINDS = {"common_knowledge": "knowledge", "string_operations": "strings", "arithmetic": "arithmetic"}
"""Categories of the source, and what they are called here."""
HELD_OUT = {"test": 100, "validation": 20}
LONGEST_OPTION = 18
"""In characters; longer ones would need more tokens than a short answer has."""

Row = dict[str, Any]


def short_question(row: Mapping[str, Any]) -> Row | None:
    r"""A question with its answer and another option, as chance has it; None if there is none or they are too long.

    >>> row = {"category": "arithmetic", "question": "1 + 1 =\n A. 3\n B. 2\n C. 11", "answer": "B"}
    >>> short_question(row)
    {'question': '1 + 1 =', 'options': ['3', '2'], 'answer': '2', 'category': 'arithmetic'}
    """
    question, *parts = re.split(r"\n ([A-J])\. ", row["question"])
    options = {letter: text.strip() for letter, text in zip(parts[::2], parts[1::2], strict=True)}
    answer = options.pop(row["answer"])
    random = Random(row["question"])
    others = sorted(set(options.values()) - {answer})
    chosen = [answer, *random.sample(others, min(1, len(others)))]
    if len(chosen) < 2 or max(map(len, chosen)) > LONGEST_OPTION:
        return None
    random.shuffle(chosen)
    return {"question": question.strip(), "options": chosen, "answer": answer, "category": KINDS[row["category"]]}


def splits(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Row]]:
    """All of them, held out by chance; a question is in one split only."""
    found: dict[str, list[Row]] = {name: [] for name in (*HELD_OUT, "train")}
    short = [short_question(row) for row in rows if row["category"] in KINDS]
    for kind in KINDS.values():
        of_kind = list({row["question"]: row for row in short if row and row["category"] == kind}.values())
        Random(kind).shuffle(of_kind)
        for name, count in HELD_OUT.items():
            found[name] += of_kind[:count]
            of_kind = of_kind[count:]
        found["train"] += of_kind
    return found


def main(args: Sequence[str] | None = None) -> None:
    """Read the file and write the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(args)
    with gzip.open(options.source, "rt", encoding="utf-8") as file:
        found = splits(json.loads(line) for line in file)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, rows in found.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{options.folder / name}.jsonl: {len(rows)} questions")


if __name__ == "__main__":
    main()
