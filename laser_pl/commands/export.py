"""``python -m laser_pl export``: the pairs of a run as a preference data set, for other trainers."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any

from laser_pl.batches import Message
from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.data.rollout_store import RolloutStore, Row, asked
from laser_pl.data.templates import messages_of
from laser_pl.errors import ConfigurationError, writable
from laser_pl.messages.terminal import shown
from laser_pl.report.kinds import OF_PAIRS, holds, lies_within
from laser_pl.report.records import table, told_of
from laser_pl.run.files import whole_lines, writing
from laser_pl.run.folder import RunFolder

Line = dict[str, Any]


def export_pairs(args: Sequence[str]) -> int:
    """Write a run's pairs as JSON lines, or as a folder that ``datasets.load_from_disk`` reads.

    Args:
        args: What stands behind ``export`` on the command line.

    Returns:
        How many pairs were written.

    Raises:
        ConfigurationError: If there is no run with pairs, its rollouts are gone, or nothing can be written.
    """
    parser = Arguments("export", "Write the pairs of a run as a preference data set, as TRL's DPOTrainer takes it.")
    parser.add_argument("run", metavar="RUN", type=Path, help="A run's folder, such as runs/quickstart.")
    parser.add_argument("--out", type=Path, required=True, help="A .jsonl file, or a new folder for a saved data set.")
    parser.add_argument("--messages", action="store_true",
                        help="Write prompt, chosen and rejected as chats, without the run's template.")  # fmt: skip
    parser.add_argument("--without_truncated", action="store_true",
                        help="Leave out pairs of which a response was cut at the limit.")  # fmt: skip
    options = parser.parse_args(args)
    with told_of(options.run):
        return _export(options)


def _export(options: Namespace) -> int:
    folder, out = RunFolder(options.run), options.out
    if folder.holds_as_its_own(out):
        raise ConfigurationError(f"export: '{out}' is what the run itself writes. Give --out another name.")
    lines = _lines(folder)
    gone = sorted({line["iteration"] for line in lines if not _rollouts(folder, line["iteration"]).path(0).is_file()})
    lines = [line for line in lines if line["iteration"] not in gone]
    if not any(line["pairs"] for line in lines):
        raise ConfigurationError(
            f"export: no pair of '{folder.path}' can be written: "
            + (f"the rollouts of its {len(gone)} iterations are gone." if gone else "none has been made yet.")
        )
    pairs = preference_pairs(folder, lines, options.messages, options.without_truncated)
    written = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal written
        for written, pair in enumerate(pairs, 1):  # noqa: B007 - how many is printed at the end
            yield pair
        if not written:  # before anything that lay there is replaced
            raise ConfigurationError(
                f"export: of every pair of '{folder.path}' a response was cut. Leave --without_truncated out."
            )

    with writable(out, "Set --out."):
        if out.suffix == ".jsonl":
            with writing(out) as file:
                for pair in counted():
                    file.write((json.dumps(pair, ensure_ascii=False) + "\n").encode())
        elif out.exists():
            raise ConfigurationError(f"export: '{out}' is there already. Give --out another name.")
        else:
            from datasets import Dataset  # here, since JSON lines need none of it

            Dataset.from_list(list(counted())).save_to_disk(str(out))
    if gone:
        print(f"Without the pairs of {len(gone)} iterations, whose rollouts are gone.", file=sys.stderr)
    print(f"Written: {written} pairs to {shown(str(out))}")
    return written


def preference_pairs(
    folder: RunFolder, lines: Sequence[Line], messages: bool = False, without_truncated: bool = False
) -> Iterator[dict[str, Any]]:
    """Every pair with its texts.

    ``prompt`` is what the policy read, template and all, and ``chosen`` and ``rejected`` are what it wrote behind it,
    without EOS, which TRL adds. Where a chat template has written BOS already, see that the tokenizer adds no other.

    Args:
        folder: The run's folder.
        lines: Lines of its ``pairs.jsonl``, of whole iterations up to some step.
        messages: Whether ``prompt``, ``chosen`` and ``rejected`` are chats, as TRL's conversational format has them:
            the row's own prompt without the template, but for a system message of ``Chat``.
        without_truncated: Whether pairs of which a response was cut are left out.

    Raises:
        ConfigurationError: If the rollouts are not those that were judged, or do not hold the messages.
    """
    system = _system(folder) if messages else None
    for iteration, of_iteration in groupby(lines, key=lambda line: line["iteration"]):
        judged = list(of_iteration)
        rows = list(islice(_rows(_rollouts(folder, iteration)), len(judged)))
        if [row["prompt_id"] for row in rows] != [line["prompt_id"] for line in judged]:
            raise ConfigurationError(
                f"export: the rollouts in '{folder.rollouts(iteration)}' are not those that pairs.jsonl is about. Put"
                " them back, or export another run."
            )
        for row, line in zip(rows, judged, strict=True):
            prompt = _chat(row, folder, system) if messages and line["pairs"] else row["text"]
            for chosen, rejected in line["pairs"]:
                truncated = not (row["finished"][chosen] and row["finished"][rejected])
                if truncated and without_truncated:
                    continue
                first, second = (row["responses"][place] for place in (chosen, rejected))
                yield {
                    "prompt": prompt,
                    "chosen": [{"role": "assistant", "content": first}] if messages else first,
                    "rejected": [{"role": "assistant", "content": second}] if messages else second,
                    "arm": line["arm"],
                    "iteration": iteration,
                    "step": line["step"],
                    "category": row["category"],
                    "chosen_score": line["scores"][chosen],
                    "rejected_score": line["scores"][rejected],
                    "truncated": truncated,
                }


def _system(folder: RunFolder) -> str | None:
    """The system message that the run's template puts first, where a prompt brings none."""
    system = table(folder.read_config(), "data", "template", "init_args").get("system")
    return system if isinstance(system, str) else None


def _chat(row: Row, folder: RunFolder, system: str | None) -> list[Message]:
    if row["prompt"] is None:
        raise ConfigurationError(
            f"export: the rollouts of '{folder.path}' are an older version's, which kept no messages. Leave --messages"
            " out."
        )
    chat = messages_of(asked(row["prompt"], row["text"]))
    return chat if system is None or chat[0]["role"] == "system" else [{"role": "system", "content": system}, *chat]


def _rollouts(folder: RunFolder, iteration: int) -> RolloutStore:
    return RolloutStore(folder.rollouts(iteration))


def _rows(store: RolloutStore) -> Iterator[Row]:
    """All rows of an iteration, in the order of its batches."""
    for chunk in count():
        if not store.path(chunk).is_file():
            return
        yield from store.read(chunk)


def _lines(folder: RunFolder) -> list[Line]:
    """Lines of ``pairs.jsonl``, but for one that is being written just now."""
    folder.refuse_other()
    if not folder.pairs.is_file():
        raise ConfigurationError(
            f"export: '{folder.path}' has no pairs.jsonl: it has not trained yet, or an older version wrote it, which"
            " kept no more pairs than the sample in judged.jsonl."
        )
    lines = whole_lines(folder.pairs, folder.path)
    return [_line(text, folder.pairs, number) for number, text in enumerate(lines, 1) if text.endswith("\n")]


def _line(text: str, path: Path, number: int) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not holds(line, OF_PAIRS, {}) or not lies_within(line, len(line["scores"])):
        raise ConfigurationError(f"{path}, line {number}: this is no line that a run wrote.")
    return dict(line)


def main(args: Sequence[str]) -> int:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(export_pairs, args)
