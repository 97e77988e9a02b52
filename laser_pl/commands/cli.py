"""The command line: puts policy, data, reward selection and trainer together, and runs them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from laser_pl.callbacks.judged_sample import JudgedSample
from laser_pl.callbacks.live_view import showing, view_of
from laser_pl.callbacks.run_checkpoint import RunCheckpoint
from laser_pl.callbacks.run_record import RunRecord
from laser_pl.command_line.commands import LIGHTNING, refuse_other_command
from laser_pl.command_line.config_files import refuse_broken_yaml
from laser_pl.command_line.looked_at import LookedAt
from laser_pl.command_line.parser import Parser
from laser_pl.commands.before_start import checks, connect
from laser_pl.commands.fit_summary import summary_of_fit
from laser_pl.commands.folder import FolderCommand
from laser_pl.commands.going_on import how_to_go_on
from laser_pl.commands.settings import add_seed, add_settings
from laser_pl.commands.trainer_settings import callbacks_of, refuse_settings
from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked, refuse_keys
from laser_pl.messages.places import absolute, briefly
from laser_pl.messages.suggestions import closest_path, perhaps
from laser_pl.messages.terminal import shown
from laser_pl.metrics import graded  # noqa: F401 - so that short names of its classes are known
from laser_pl.policy.policy import Policy
from laser_pl.report.command import report_after_fit
from laser_pl.report.summary import print_end
from laser_pl.rewards.characters import characters_of
from laser_pl.run.checkpoints import check_checkpoint
from laser_pl.run.files import write_json
from laser_pl.run.folder import RunFolder
from laser_pl.run.loggers import (
    OF_PROFILERS,
    begins,
    go_offline_without_key,
    go_on_with_versions,
    log_end,
    loggers_of,
    note_versions,
    outlive,
    refuse_own_folder,
)
from laser_pl.run.metrics_file import MetricsFile, metrics_files
from laser_pl.run.named_code import each_setting, nothing_of_its_own
from laser_pl.run.users_files import give_checkpoints_folders, give_profile_file
from laser_pl.runtime import progress
from laser_pl.runtime.attention_kernels import kernels_for_any_shape
from laser_pl.runtime.interruption import Interrupted, Interruption
from laser_pl.runtime.noise import only_warnings, quieten
from laser_pl.runtime.processes import (
    ending_those_started,
    is_loss_of_a_process,
    process_number,
    refuse_other_processes,
    settle_processes,
    sharing_weights_out,
)
from laser_pl.selection.selector import Selector
from laser_pl.training.fit_loop import FitLoop

log = logging.getLogger(__name__)


class LaserCLI(FolderCommand):
    """LightningCLI with a ``selection`` section, a run's folder, and test accuracy before and after ``fit``.

    Args:
        args: The command line; None takes the process's own.
        interruption: Who is informed when a signal asks the run to end.
        looked_at: Whose configuration it is, where that does not follow from the command line.
    """

    policy_class: type[Policy] = Policy
    trainer: Trainer
    model: Policy
    datamodule: PreferenceData
    folder: RunFolder
    summary: dict[str, Any]

    def __init__(self, args: list[str] | None, interruption: Interruption, looked_at: LookedAt | None = None) -> None:
        self.interruption = interruption
        # Each command's parser takes a quarter of a second to make.
        every, given = self.subcommands(), sys.argv[1:] if args is None else args
        self.looked_at = looked_at or LookedAt.by(given)
        if self.looked_at is not None:
            args = self.looked_at.without_what_writes(given)
        named = {name: skipped for name, skipped in every.items() if name in given}
        self.subcommands = lambda: named or every  # type: ignore[method-assign]
        with ExitStack() as self.until_end:
            super().__init__(
                self.policy_class,
                PreferenceData,
                save_config_callback=None,
                seed_everything_default=0,
                parser_class=Parser,
                parser_kwargs={
                    "prog": "laser_pl",
                    **{name: {"description": LIGHTNING[name]} for name in self.subcommands()},
                },
                auto_configure_optimizers=False,
                trainer_defaults={
                    "reload_dataloaders_every_n_epochs": 1,
                    "max_epochs": 10,
                    "num_sanity_val_steps": 0,
                    "log_every_n_steps": 1,
                    "use_distributed_sampler": False,
                    "enable_model_summary": False,
                },
                args=args,
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> LaserCLI:
        """Itself, which a policy knows by its optimizer.

        Who copies a policy, as averages of weights do, wants no second trainer, data and reward models.
        """
        return self

    # -- configuration -----------------------------------------------------------------------------------------------

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed."""
        add_seed(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The sections that are ours."""
        add_settings(parser)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands that make sense here."""
        every = LightningCLI.subcommands()
        # How checkpoints are read is no setting: see `_prepare_subcommand_kwargs`.
        return {name: skipped | {"weights_only", "return_predictions"} for name, skipped in every.items()}

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Lightning's, and that nothing in a checkpoint may run code.

        Before 2.6 Lightning cannot be told; `check_checkpoint`, which refuses such a file before, is the only guard.
        """
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        can_be_told = "weights_only" in signature(getattr(Trainer, subcommand)).parameters
        return {**kwargs, "weights_only": True} if can_be_told else kwargs

    def _parse_ckpt_path(self) -> None:
        """Nothing, where Lightning's lets the checkpoint's hyperparameters overrule the configuration.

        Ours hold none; somebody else's could name other weights, or let code that comes with them run.
        """

    def _dump_config(self) -> None:
        """Nothing, where Lightning's writes the whole configuration as YAML for hyperparameters; see above."""
        self.config_dump: dict[str, Any] = {}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's, which imports what the configurations name; of a run that is looked at, nothing of its own."""
        with self._guarded():
            super().parse_arguments(parser, args)

    def _guarded(self) -> AbstractContextManager[None]:
        return nullcontext() if self.looked_at is None else nothing_of_its_own(self.looked_at.named)

    # -- set-up ------------------------------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Lightning's, where a package that a class needs may be missing."""
        try:
            with self._guarded():
                super().instantiate_classes()
        except ModuleNotFoundError as error:
            why = " ".join(str(error).split())
            raise ConfigurationError(f"A class of the configuration needs a package: {why}. Install it.") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the run's folder, record and checkpoints when it is to fit."""
        configured = self._get(self.config_init, "trainer")
        kwargs["plugins"] = self._settle_processes(kwargs)
        self.selection, self.quiet = self._get(self.config_init, "selection"), self._get(self.config, "quiet")
        wanted = not self.quiet and configured.get("enable_progress_bar") is not False
        bar, views = view_of(callbacks_of(configured), wanted, self.selector, fits=self.subcommand == "fit")
        kwargs["enable_progress_bar"] = bar
        if self.subcommand != "fit":
            predicts = [self.predictor(self._resolved())] if self.subcommand == "predict" else []
            self.trainer_defaults["callbacks"] = [*predicts, *views]
            return self._trainer(logger=False, enable_checkpointing=False, **kwargs)
        refuse_settings(configured)
        self._open_folder()
        self.record = RunRecord(self.folder, self.selector)
        loggers = loggers_of(configured.get("logger"), self.folder)
        versions = self.folder.path / "loggers.json"
        go_on_with_versions(loggers, versions)
        with self._no_folder_without_run():
            every, keep = self._get(self.config, "checkpoint_every"), self._get(self.config, "keep_iterations")
            written = [self.record, JudgedSample(self.folder, self.selector, self.record)]
            checkpoint = RunCheckpoint(self.folder, every, keep, self.selector, self.interruption)
            self.trainer_defaults["callbacks"] = [*written, checkpoint, *views]
            trainer = self._trainer(default_root_dir=str(self.folder.path), logger=loggers, **kwargs)
            own = [self.selection, *written, checkpoint]
            trainer.fit_loop = FitLoop(trainer, checkpoint, own, stays_stopped=self.resumed)
            give_checkpoints_folders(trainer, self.folder)
            give_profile_file(trainer, self.folder)
            refuse_own_folder(loggers, self.folder)
        trainer.loggers = [each for each in trainer.loggers if isinstance(each, MetricsFile) or begins(each)]
        for logger in trainer.loggers:
            if not isinstance(logger, MetricsFile):  # it has config.yaml beside it
                outlive(logger)
                if configured.get("enable_autolog_hparams", True):  # which Lightning 2.5 does not know
                    logger.log_hyperparams(self.config[self.subcommand].as_dict())
        outlive(trainer.profiler, OF_PROFILERS)  # type: ignore[attr-defined]
        if process_number() == 0 and len(loggers) > 1:
            note_versions([each if each in trainer.loggers else None for each in loggers], versions)
        return trainer

    @property
    def selector(self) -> Selector:
        """What chooses reward models."""
        selector: Selector = self.selection.selector
        return selector

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Lightning's, without a selection where nobody judges."""
        judges = callbacks if self.subcommand != "fit" or self.model.objective.judged else []
        return super()._instantiate_trainer(config, judges)

    def _settle_processes(self, changed: Mapping[str, Any]) -> list[Any]:
        with _trainer_in_one_sentence():
            return settle_processes({**self._get(self.config_init, "trainer"), **changed})

    def _trainer(self, **kwargs: Any) -> Trainer:
        if "plugins" not in kwargs:
            kwargs["plugins"] = self._settle_processes(kwargs)
        kwargs["strategy"] = sharing_weights_out(self._get(self.config_init, "trainer").get("strategy", "auto"))
        with _trainer_in_one_sentence():
            trainer = super().instantiate_trainer(**kwargs)
        refuse_other_processes(trainer)
        # Lightning's own would end a step without saving it, and broadcasts within the handler.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def before_instantiate_classes(self) -> None:
        """Find out what is missing before anything is loaded.

        Raises:
            ConfigurationError: If the checkpoint is not there, or is none, or predictions have no place.
        """
        checkpoint = self._get(self.config, "ckpt_path")
        refuse_keys(each_setting(self.config[self.subcommand].as_dict()))
        if self.looked_at is not None:
            self.looked_at.refuse_code(self.config[self.subcommand].as_dict())
        self.find_place_for_predictions()
        if checkpoint is None:
            return
        given = absolute(checkpoint)
        if not os.path.isfile(given):  # pathlib raises where a name is too long for a file
            inside = [given / "last.ckpt", RunFolder(given).checkpoint]
            meant = next((path for path in inside if os.path.isfile(path)), closest_path(Path(checkpoint)))
            advice = perhaps(None if meant == Path(checkpoint) else meant, "Check --ckpt_path.")
            raise ConfigurationError(f"There is no checkpoint '{checkpoint}'.{advice}")
        check_checkpoint(given, self.subcommand in {"fit", "predict"}, "Check --ckpt_path.")
        self.config[self.subcommand].ckpt_path = str(given)

    def _set_seed(self) -> None:
        """Lightning's, which takes what NumPy takes."""
        seed = self._get(self.config, "seed_everything")
        if not 0 <= seed < 2**32:
            raise ConfigurationError(f"seed_everything must be from 0 to {2**32 - 1}, got {seed}. Set another.")
        super()._set_seed()

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, **kwargs: Any) -> None:
        """Measure, train, measure again, sum up."""
        with self._no_folder_without_run(), ending_those_started(self.trainer), self.model.staying():
            self.datamodule.continued = self.resumed
            self._check()
            if self.resumed and self.folder.checkpoint.exists():
                kwargs["ckpt_path"] = str(self.folder.checkpoint)
                self.model.configure_model()  # as it is after the test of a new run, for callbacks that copy the policy
            else:
                if self.resumed:  # from the beginning
                    for metrics in metrics_files(self.trainer):
                        metrics.keep_first(0)
                self.record.before = self._test_accuracy()
                self.record.before_on = self.datamodule.test_digest
            self.trainer.fit(**kwargs)
            if self.record.before_on != self.datamodule.test_digest:
                log.warning("The test prompts are others than those that were tested before training, so accuracy has"
                            " no before.")  # fmt: skip
                self.record.before = None
            known = None if self.model.objective.trains else self.record.before
            after = self._test_accuracy() if known is None else known
            self.summary = summary_of_fit(self.trainer, self.datamodule, self.record, after)
            if self.trainer.is_global_zero:
                write_json(self.folder.summary, self.summary, self.folder.path)
                with progress.task("writing the report"):
                    report_after_fit(self.folder)

    def _check(self) -> None:
        """Find mistakes before anything is loaded or measured.

        Raises:
            ConfigurationError: If the run would end with one later.
        """
        connect(self.trainer, self.model, self.datamodule)
        self.datamodule.setup("fit")
        pool = self.selector.pool
        pool.grade_by(self.model.matcher)
        for check in checks(self.trainer, self.model, self.datamodule, self.selector):
            check()
        if not self.datamodule.graded("test"):
            log.info(
                "No test prompt has an answer, so nothing is tested before and after training. To compare the run with"
                " others: python -m laser_pl winrate."
            )
        if self.model.objective.judged:
            characters = partial(characters_of, self.model.tokenizer)
            pool.check(self.datamodule.prompts["train"], characters)

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning's, while it is shown; then a run's last words."""
        with only_warnings() if self.quiet else nullcontext():
            with showing(self.trainer):
                super()._run_subcommand(subcommand)
            if subcommand == "fit" and self.trainer.is_global_zero:
                print_end(self.summary, briefly(self.folder.path), self.quiet)
                # Last, since a server may fail it, and all is saved by now.
                log_end(self.trainer.loggers, self.summary, self.folder.judged)

    def _test_accuracy(self) -> dict[str, float]:
        """Accuracy of sampled responses on the test set, by category."""
        prefix = "test/accuracy/sampled/"
        measured = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        metrics = measured[0] if measured else {}
        return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


@contextmanager
def _trainer_in_one_sentence() -> Iterator[None]:
    """Print what Lightning says of the trainer's settings."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise ConfigurationError(f"trainer: {' '.join(str(error).split())}") from error


def main(args: list[str] | None = None) -> LaserCLI:
    """Run a command.

    Args:
        args: The command line; None takes the process's own.

    Returns:
        The finished command, for tests and notebooks: ``.trainer``, ``.model``, ``.datamodule``, ``.summary``.

    Raises:
        SystemExit: With one sentence on standard error, and code 2 if the user has something to mend; after a signal,
            with 128 and its number.
    """
    quieten()
    go_offline_without_key()
    given = sys.argv[1:] if args is None else args
    interruption = Interruption()
    try:
        with interruption.listening(), kernels_for_any_shape():
            refuse_other_command(given)
            refuse_broken_yaml(given)
            return LaserCLI(args, interruption)
    except (ConfigurationError, MisconfigurationException) as error:
        _say(str(error))
        raise SystemExit(2) from error
    except Interrupted as end:
        if process_number() > 0:
            raise SystemExit(0) from end  # the first one speaks for all
        _say(f"{end}.{how_to_go_on(given, interruption.run)}")
        raise SystemExit(128 + end.signum) from end
    except RuntimeError as error:
        if not is_loss_of_a_process(error):
            raise
        _say(f"Another process of the run ended, or did not answer in time.{how_to_go_on(given, interruption.run)}")
        raise SystemExit(1) from error


def _say(what: str) -> None:
    rank = "" if process_number() == 0 else f"[process {process_number()}] "
    print(f"laser_pl: {rank}{shown(masked(what))}", file=sys.stderr)
