"""``python -m laser_pl label``: which responses are better, asked of a person."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from laser_pl.batches import Prompt
from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.command_line.commands import OTHERS, PROGRAM
from laser_pl.command_line.config_files import refuse_broken_yaml
from laser_pl.commands.before_start import connect
from laser_pl.data.messages import refuse_unusable
from laser_pl.data.plan import split_every
from laser_pl.data.tables import Table
from laser_pl.errors import ConfigurationError, writable
from laser_pl.forecast.command import PlanCLI
from laser_pl.labelling.dialogue import ask, is_open
from laser_pl.labelling.questions import Line, questions
from laser_pl.messages.terminal import shown
from laser_pl.run.files import write_whole
from laser_pl.runtime import progress
from laser_pl.runtime.noise import quieten
from laser_pl.runtime.seeds import derive_seed

_ALONE = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto")
"""Whatever the run will use: a few responses need one device."""


class _Asking(PlanCLI):
    """``fit`` up to where it would begin, and then the policy's responses to a few prompts.

    Args:
        args: What ``fit`` would be given.
        stack: What is undone when the command ends.
        per_category: How many prompts of each category.
    """

    def __init__(self, args: Sequence[str], stack: ExitStack, per_category: int) -> None:
        self.per_category = per_category
        self.lines: list[Line] = []
        super().__init__([*args, *_ALONE], stack)

    def _run_subcommand(self, subcommand: str) -> None:
        policy, data = self.model, self.datamodule
        connect(self.trainer, policy, data)
        policy.setup("fit")
        data.setup("fit")
        data.check_engine()
        policy.configure_model()
        policy.to(self.trainer.strategy.root_device)
        policy.eval()
        with self.trainer.precision_plugin.forward_context():
            policy.publish()
            self.lines = questions(data.prompts["train"], self.per_category, policy.seed, self._sample)

    def _sample(self, prompts: list[Prompt]) -> list[list[str]]:
        texts: list[list[str]] = []
        for batch in split_every(prompts, self.datamodule.evaluation_batch_size):
            seed = derive_seed(self.model.seed, "label", batch[0].id)
            count = len(batch) * self.datamodule.rollouts.n
            with progress.task("responses to ask about", "responses", count):
                asked = self.datamodule.encode(batch).to(self.model.device)
                texts += map(list, self.model.engine.respond(asked, self.datamodule.rollouts, seed).texts)
        return texts


def arguments() -> Arguments:
    """What it takes itself."""
    parser = Arguments("label", f"{OTHERS['label'][1]} What else is given is what `fit` would be given.")
    parser.add_argument("--out", type=Path, default=Path("labels.jsonl"),
                        help="The labels' file. If it is there already, its open questions are asked.")  # fmt: skip
    parser.add_argument("--per_category", "--per-category", type=int, default=8,
                        help="Prompts of each category to ask about.")  # fmt: skip
    return parser


def label(args: Sequence[str], console: Console | None = None, read: Callable[[str], str] | None = None) -> int:
    """Write prompts worth asking about with their responses, and ask about them where somebody can answer.

    Args:
        args: What stands behind ``label`` on the command line; what it does not know is ``fit``'s.
        console: Where to print; standard output if not given.
        read: Reads a line from a person; None asks on the terminal, if it is one.

    Returns:
        How many questions are answered.

    Raises:
        ConfigurationError: If the configuration cannot be used, nothing can be asked, or the file cannot be written.
    """
    options, rest = arguments().parse_known_args(args)
    if options.per_category < 1:
        raise ConfigurationError(f"label: --per_category must be >= 1, got {options.per_category}.")
    if options.out.suffix != ".jsonl":
        raise ConfigurationError(f"label: --out is '{options.out}'. Give it a name that ends with .jsonl.")
    lines = _known(options.out) if options.out.exists() else _asked(rest, options.per_category, options.out)
    if read is None and sys.stdin is not None and sys.stdin.isatty():
        read = input
    console = console or Console(highlight=False)
    if read is not None:
        for _ in ask(lines, console, read):
            _write(options.out, lines)
    answered = sum(not is_open(line) for line in lines)
    print(f"{answered} of {len(lines)} questions in {shown(str(options.out))} are answered.", end=" ")
    if answered < len(lines):
        again = shlex.join([*PROGRAM.split(), "label", "--out", str(options.out)])
        print(f"Fill in `better` or `answer` of the others, or go on with: {shown(again)}")
    else:
        print(f"Use them: fit --config preset:few --selection.labels {shown(shlex.quote(str(options.out)))}")
    return answered


def main(args: Sequence[str]) -> int:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(label, args)


def _known(path: Path) -> list[Line]:
    """The questions of a file."""
    lines = Table(str(path)).rows()
    for number, line in enumerate(lines, 1):
        if not is_open(line):
            continue
        responses = line.get("responses")
        sound = isinstance(responses, list) and len(responses) > 1 and all(isinstance(one, str) for one in responses)
        if not (sound and "prompt" in line):
            raise ConfigurationError(
                f"{path}, row {number}: there is no prompt with responses to ask about. Give --out another name."
            )
        refuse_unusable(line["prompt"], f"{path}, row {number}: 'prompt'")
    return lines


def _asked(args: Sequence[str], per_category: int, out: Path) -> list[Line]:
    """Questions that are made, and written."""
    quieten()
    refuse_broken_yaml(args)
    with ExitStack() as stack:
        try:
            lines = _Asking(args, stack, per_category).lines
        except MisconfigurationException as error:
            raise ConfigurationError(" ".join(str(error).split())) from error
    if not lines:
        raise ConfigurationError(
            "label: to every prompt that was tried the policy gives one response only, so there is nothing to compare."
            " Raise data.rollouts.temperature or data.rollouts.n."
        )
    _write(out, lines)
    return lines


def _write(out: Path, lines: Sequence[Line]) -> None:
    with writable(out, "Set --out."):
        write_whole(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
