"""``python -m laser_pl plan``: what ``fit`` would do, shown before it loads, writes or asks anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from rich.console import Console

from laser_pl.callbacks.run_checkpoint import RunCheckpoint
from laser_pl.command_line.arguments import run_command
from laser_pl.command_line.config_files import refuse_broken_yaml
from laser_pl.commands.before_start import connect
from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.folder import refuse_unsound_checkpoint
from laser_pl.commands.trainer_settings import refuse_settings
from laser_pl.errors import ConfigurationError
from laser_pl.forecast.findings import Finding
from laser_pl.forecast.forecast import Forecast, forecast
from laser_pl.forecast.hub import is_reachable, may_be_on_hub, out_of_reach
from laser_pl.forecast.page import print_forecast
from laser_pl.forecast.setup import Setup
from laser_pl.messages.places import absolute
from laser_pl.policy.policy import Policy
from laser_pl.run.folder import RunFolder, refuse_name
from laser_pl.runtime.interruption import Interruption
from laser_pl.runtime.noise import quieten

HELP = """\
usage: python -m laser_pl plan --config FILE [--config FILE ...] [--SETTING VALUE ...]

Say what `fit` would do and need, without loading any weights. Nothing is written. It shows models and their sizes,
memory at rest and at its peak, steps, tokens, reward-model forwards, files, and what looks wrong. Ends with code 2 if
`fit` would refuse to run. With --resume the whole run is shown, with what is done of it.
All settings: python -m laser_pl fit --help\
"""


class PolicyWithoutHub(Policy):
    """A policy that is made even if its tokenizer lies on a hub that cannot be reached."""

    def load_tokenizer(self, pad_token: str | None) -> Any:
        """The tokenizer, or None."""
        try:
            return super().load_tokenizer(pad_token)
        except ConfigurationError:
            if not may_be_on_hub(self.weights.name):
                raise
            return None


class PlanCLI(LaserCLI):
    """``fit`` up to where it would begin: the same parser and the same parts, and no folder.

    Args:
        args: What stands behind ``plan`` on the command line.
        stack: What is undone when the command ends.
    """

    policy_class = PolicyWithoutHub

    def __init__(self, args: Sequence[str], stack: ExitStack) -> None:
        self.stack = stack
        self.found: list[Finding] = []
        super().__init__(["fit", *args], Interruption())

    def before_instantiate_classes(self) -> None:
        """The same as ``fit``, and ask no hub that does not answer."""
        super().before_instantiate_classes()
        config = self.config[self.subcommand]
        config.trainer.logger = None  # some make their folder at once
        if any(may_be_on_hub(name) for name in _names_of_weights(config.as_dict())) and not is_reachable():
            self.stack.enter_context(out_of_reach())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer; for an accelerator that is not here, one without it."""
        self.selection = self._get(self.config_init, "selection")
        runs_dir, name = str(absolute(self._get(self.config, "runs_dir"))), self._get(self.config, "name")
        if self.resumed:
            folder = self._resumed_folder(runs_dir, name)
            refuse_unsound_checkpoint(folder)
        else:
            refuse_name(runs_dir, name)
            folder = RunFolder(Path(runs_dir, name))
        refuse_settings(self._get(self.config_init, "trainer"))
        every, keep = self._get(self.config, "checkpoint_every"), self._get(self.config, "keep_iterations")
        RunCheckpoint(folder, every, keep, self.selector, self.interruption)  # it looks at what it is given
        self.trainer_defaults["callbacks"] = []
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, **kwargs}
        try:
            return self._trainer(**options)
        except ConfigurationError as error:
            if "accelerator" in options or self._get(self.config_init, "trainer").get("accelerator") in {"auto", "cpu"}:
                raise
            trainer = self._trainer(**{**options, "accelerator": "cpu"})
            self.found.append(Finding(f"{error} What follows is computed as if for a CPU.", stops=True))
            return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Forecast, where ``fit`` would begin."""
        connect(self.trainer, self.model, self.datamodule)
        runs_dir = str(absolute(self._get(self.config, "runs_dir")))
        setup = Setup(
            policy=self.model,
            data=self.datamodule,
            trainer=self.trainer,
            selector=self.selector,
            keep_iterations=self._get(self.config, "keep_iterations"),
        )
        self.forecast = forecast(setup, runs_dir, self.found)


def plan(args: Sequence[str], console: Console | None = None) -> Forecast:
    """Say what a run would take.

    Args:
        args: What stands behind ``plan`` on the command line: what ``fit`` would be given.
        console: Where to print; standard output if not given.

    Returns:
        What is printed.

    Raises:
        ConfigurationError: If the configuration cannot be read, as ``fit`` says it.
    """
    quieten()
    refuse_broken_yaml(args)
    with ExitStack() as stack:
        try:
            found = PlanCLI(args, stack).forecast
        except MisconfigurationException as error:
            raise ConfigurationError(" ".join(str(error).split())) from error
    print_forecast(found, shlex.join(["python", "-m", "laser_pl", "fit", *args]), console)
    return found


def main(args: Sequence[str]) -> Forecast:
    """The command.

    Raises:
        SystemExit: With code 2 if the user has something to mend: one sentence on standard error if nothing can be
            told, else after what can be.
    """
    if not args or {"-h", "--help"} & set(args):
        print(HELP)
        raise SystemExit(0)
    found = run_command(plan, args)
    if found.stops:
        raise SystemExit(2)
    return found


def _names_of_weights(config: Any) -> Iterator[str]:
    """Every ``name`` that stands under ``weights`` or ``reference``."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in {"weights", "reference"} and isinstance(value, dict) and isinstance(value.get("name"), str):
                yield value["name"]
            yield from _names_of_weights(value)
    elif isinstance(config, list):
        for value in config:
            yield from _names_of_weights(value)
