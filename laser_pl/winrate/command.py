"""``python -m laser_pl winrate``: one run's responses against another's, by a judge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.errors import ConfigurationError, writable
from laser_pl.messages.amounts import in_words
from laser_pl.messages.places import absolute, briefly
from laser_pl.messages.terminal import shown
from laser_pl.run.files import write_json, write_whole
from laser_pl.runtime.attention_kernels import kernels_for_any_shape
from laser_pl.runtime.interruption import Interrupted, Interruption
from laser_pl.runtime.noise import quieten
from laser_pl.winrate.finished_run import FinishedRun
from laser_pl.winrate.judgement import by_category, compare, read_judge
from laser_pl.winrate.rates import rate_of
from laser_pl.winrate.responses import Responses, responses_in, responses_of
from laser_pl.winrate.tables import WinRates, as_json, markdown, print_win_rates

ALL = "in all"
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "run": {"metavar": "RUN_A", "type": Path, "help": "A finished run's folder."},
    "other": {
        "metavar": "RUN_B",
        "type": Path,
        "nargs": "?",
        "help": "Another one's, or a .jsonl file of responses; if not given, RUN_A's policy before training.",
    },
    "--judge": {"type": Path, "required": True, "help": "A YAML file with a reward model's class_path and init_args."},
    "--sampled": {"action": "store_true", "help": "Sample as model.evaluation says, instead of the greedy response."},
    "--seed": {"type": int, "default": 0, "help": "Root of the bootstrap."},
    "--out": {"type": Path, "default": Path("winrate"), "help": "Folder for the files."},
}


def win_rate(args: Sequence[str]) -> WinRates:
    """Let a judge compare responses to the same test prompts; write ``winrate.md`` and ``winrate.json``.

    Args:
        args: What stands behind ``winrate`` on the command line.

    Raises:
        ConfigurationError: If something is no finished run, test prompts differ, or the judge is none.
    """
    parser = Arguments("winrate", "Compare the responses of finished runs to the same test prompts, by a judge.")
    for name, how in _ARGUMENTS.items():
        parser.add_argument(name, **how)
    parser.add_consent()
    options = parser.parse_args(args)
    judge, judge_digest = read_judge(options.judge)
    out = absolute(options.out)
    run, other = FinishedRun(options.run, options.trust_run), _opened(options.other, options.trust_run)
    prompts, device = run.prompts, run.trainer.strategy.root_device
    theirs, their_name = _of_other(other, run, options.sampled)
    ours = responses_of(run, options.sampled)
    run.give_back_weights()  # the judge may need the room
    comparisons = compare(judge, judge_digest, prompts, ours, theirs, out, device)
    groups = by_category(comparisons)
    rates = {category: rate_of(own, options.seed) for category, own in groups.items()} if len(groups) > 1 else {}
    found = WinRates(
        ours=str(options.run),
        theirs=their_name,
        judge=f"{type(judge).__name__} ({options.judge})",
        responses="sampled responses" if options.sampled else "greedy responses",
        seed=options.seed,
        rates={**rates, ALL: rate_of(comparisons, options.seed)},
    )
    print_win_rates(found)
    if spent := judge.spent():
        print(f"Spent on the judge: {in_words(spent)}")
    with writable(out, "Set --out."):
        write_whole(out / "winrate.md", markdown(found))
        write_json(out / "winrate.json", as_json(found))
    print(f"Written: {shown(briefly(out))}/winrate.md, .json")
    return found


def main(args: Sequence[str]) -> WinRates:
    """The command.

    Raises:
        SystemExit: With one sentence on standard error, and code 2 if the user has something to mend; after a signal,
            with 128 and its number.
    """
    quieten()
    try:
        with Interruption().listening(), kernels_for_any_shape():
            return run_command(win_rate, args)
    except Interrupted as end:
        print(f"laser_pl: {end}. What was answered and judged is kept: the same command goes on.", file=sys.stderr)
        raise SystemExit(128 + end.signum) from end


def _opened(other: Path | None, trusted: bool) -> FinishedRun | Path | None:
    """The second side, which is a run unless it is a file or nothing."""
    return other if other is None or other.suffix == ".jsonl" else FinishedRun(other, trusted)


def _of_other(other: FinishedRun | Path | None, run: FinishedRun, sampled: bool) -> tuple[Responses, str]:
    """The second side's responses, and what it is called."""
    if other is None:
        return responses_of(run, sampled, trained=False), f"{run.folder.path} before training"
    if isinstance(other, Path):
        return responses_in(other, run.prompts), str(other)
    _refuse_other_prompts(run, other)
    found = responses_of(other, sampled)
    other.give_back_weights()
    return found, str(other.folder.path)


def _refuse_other_prompts(run: FinishedRun, other: FinishedRun) -> None:
    odd = {prompt.id for prompt in run.prompts} ^ {prompt.id for prompt in other.prompts}
    if odd:
        raise ConfigurationError(
            f"The runs '{run.folder.path}' and '{other.folder.path}' have other test prompts: {len(run.prompts)} and"
            f" {len(other.prompts)}, of which {len(odd)} are not in both. Compare runs with the same data.test."
        )
