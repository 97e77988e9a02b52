"""Make the prompts of LongBench's English tasks from its data and its own instructions.

    python experiments/paper/longbench.py data dataset2prompt.json

``data`` is the folder in the data.zip of the hub's THUDM/LongBench; ``dataset2prompt.json`` lies in the folder
``config`` of LongBench's code. A file of JSON lines for each kind of task is written to ``data/longbench``, or where a
third argument says: instruction, context and question as ``prompt``, all reference answers as ``answers``, the first as
``answer``, and the task as ``dataset``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = {
    "single_doc_qa": ("narrativeqa", "qasper", "multifieldqa_en"),
    "multi_doc_qa": ("hotpotqa", "2wikimqa", "musique"),
    "summarization": ("gov_report", "qmsum", "multi_news"),
    "few_shot": ("trec", "triviaqa", "samsum"),
}
"""LongBench's kinds of tasks that the paper names, with their English data sets."""


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="the folder with narrativeqa.jsonl and the others")
    parser.add_argument("instructions", type=Path, help="LongBench's dataset2prompt.json")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/longbench"), help="where it goes")
    options = parser.parse_args(args)
    needed = [options.instructions, *(options.data / f"{name}.jsonl" for names in KINDS.values() for name in names)]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        sys.exit(f"There is no file {missing[0]}. Unzip LongBench's data.zip; name its folder and its instructions.")
    instructions = json.loads(options.instructions.read_text(encoding="utf-8"))
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind, names in KINDS.items():
        path = options.folder / f"{kind}.jsonl"
        lines = [json.dumps(row) for name in names for row in rows(options.data / f"{name}.jsonl", name, instructions)]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{path}: {len(lines)} prompts")


def rows(path: Path, name: str, instructions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A data set's rows as prompts.

    Args:
        path: Its file.
        name: What LongBench calls it.
        instructions: By data set; ``{context}`` and ``{input}`` are filled in.
    """
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield {
                "prompt": instructions[name].format(context=row["context"], input=row["input"]),
                "answer": row["answers"][0],
                "answers": row["answers"],
                "all_classes": row["all_classes"],
                "dataset": name,
            }


if __name__ == "__main__":
    main()
