"""``python -m laser_pl init``: a first configuration for a model, data and reward models of the user's own."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.prompt import Prompt

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.command_line.commands import OTHERS, PROGRAM
from laser_pl.data.prompts import prompts_from
from laser_pl.data.tables import Table
from laser_pl.data.templates import Template
from laser_pl.errors import ConfigurationError, writable
from laser_pl.first_config.columns import guess_columns
from laser_pl.first_config.kinds import guess_arms
from laser_pl.first_config.policies import guess_policy, prompt_tokens
from laser_pl.first_config.written import FirstConfig, written
from laser_pl.forecast.command import plan
from laser_pl.messages.keys import masked
from laser_pl.messages.terminal import shown
from laser_pl.rewards.memory import show_bytes
from laser_pl.runtime.noise import quieten

_ASKED = {
    "model": "The policy: a model's folder, an adapter's, or a hub name",
    "data": "Prompts: a file, a saved data set, or a hub name",
}
_JUDGES = "Reward models, with blanks between them: folders, hub names, functions (module.function), addresses"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: The file.
        config: What was guessed.
        refused: Why a run would not begin as it stands; empty where it would.
    """

    path: Path
    config: FirstConfig
    refused: tuple[str, ...]


def arguments() -> Arguments:
    """The command line."""
    parser = Arguments("init", OTHERS["init"][1])
    parser.add_argument("--model", help="The policy: a model's folder, an adapter's, or a hub name.")
    parser.add_argument("--data", help="Prompts: a .jsonl, .json, .csv or .parquet file, a saved data set, a hub name.")
    parser.add_argument("--subset", help="The hub data set's configuration, where it has several.")
    parser.add_argument("--split", help="Which split of a hub data set or a folder.")
    parser.add_argument("--reward_models", nargs="*", metavar="NAME_OR_FOLDER",
                        help="Folders, hub names, functions (module.function) or addresses.")  # fmt: skip
    parser.add_argument("--out", type=Path, help="Where to write the configuration, such as my.yaml.")
    parser.add_argument("--force", action="store_true", help="Write over a file that is there.")
    return parser


def init(args: Sequence[str]) -> Written:
    """Look at what the user has, and write a configuration that runs.

    Args:
        args: What stands behind ``init`` on the command line.

    Returns:
        What was written.

    Raises:
        ConfigurationError: If something is missing, is not what it has to be, or a file is in the way.
    """
    options = arguments().parse_args(args)
    _ask(options)
    out: Path = options.out
    if out.exists() and not options.force:
        raise ConfigurationError(f"init: '{out}' is there already. Give --out another name, or say --force.")
    quieten()
    config = guess(options.model, Table(options.data, options.subset, options.split), options.reward_models, out.stem)
    command = shlex.join(["python", "-m", "laser_pl", "init", *args])
    with writable(out, "Set --out."):
        out.write_text(written(config, command, str(out)), encoding="utf-8")
        memory, refused = _planned(out)
        out.write_text(written(config, command, str(out), memory), encoding="utf-8")
    return Written(out, config, tuple(refused))


def guess(model: str, table: Table, reward_models: Sequence[str], name: str) -> FirstConfig:
    """Look at a model, prompts and reward models; no weights are loaded, and no server is asked.

    Args:
        model: The policy.
        table: The prompts.
        reward_models: What is to judge.
        name: Of the run.

    Raises:
        ConfigurationError: If one of them is not what it has to be.
    """
    rows = table.rows()
    columns = guess_columns(rows, table.path)
    policy = guess_policy(model)
    module, _, cls = policy.template.value.rpartition(".")
    template: Template = getattr(import_module(module), cls)()
    prompts = prompts_from(table, columns.columns(), template, policy.tokenizer)
    tokens = prompt_tokens(policy, [prompt.text for prompt in prompts], template)
    arms = guess_arms(reward_models, answers=columns.answer.value is not None)
    return FirstConfig(name, table, len(rows), policy, columns, tokens, arms)


def _ask(options: Namespace) -> None:
    """Ask for what was not given, where somebody sits at a terminal.

    Raises:
        ConfigurationError: If nobody does, and something is missing that has no default.
    """
    there = sys.stdin.isatty()
    missing = [f"--{name}" for name in ("model", "data") if getattr(options, name) is None]
    if missing and not there:
        raise ConfigurationError(f"init: give {' and '.join(missing)}. See {PROGRAM} init --help.")
    for name, question in _ASKED.items():
        while getattr(options, name) is None:
            setattr(options, name, Prompt.ask(question).strip() or None)
    if options.reward_models is None:
        options.reward_models = shlex.split(Prompt.ask(_JUDGES, default="")) if there else []
    if options.out is None:
        options.out = Path(Prompt.ask("Where to write the configuration", default="my.yaml") if there else "my.yaml")


def _planned(path: Path) -> tuple[list[str], list[str]]:
    """What a run needs on each device, and why one would be refused, as ``plan`` says both."""
    try:
        found = plan(["--config", str(path)], Console(file=StringIO()))
    except ConfigurationError as error:
        return [], [str(error)]
    memory = [f"{show_bytes(device.at_peak)} at its peak on {device.name}" for device in found.devices]
    return memory, [finding.text for finding in found.findings if finding.stops]


def main(args: Sequence[str]) -> Written:
    """The command.

    Raises:
        SystemExit: With one sentence and code 2 if the user has something to mend, before or after it is written.
    """
    done = run_command(init, args)
    config, out = done.config, done.path
    print(shown(f"{out} is written, from {config.rows:,} rows; reward models: {', '.join(config.arms)}."))
    for question in config.open_questions:
        print(shown(f"  Please look: {question}."))
    if done.refused:
        print(*(f"laser_pl: {shown(masked(sentence))}" for sentence in done.refused), sep="\n", file=sys.stderr)
        raise SystemExit(2)
    print(f"Next: {PROGRAM} plan --config {shlex.quote(str(out))}")
    return done
