"""The command line: puts policy, data, reward selection and trainer together, and runs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger

from callbacks.reward_selection import RewardSelection
from callbacks.run_checkpoint import RunCheckpoint
from callbacks.run_record import RunRecord
from laser_pl.data.datamodule import PreferenceData
from laser_pl.errors import ConfigurationError
from laser_pl.loggers import go_offline_without_key, read_metrics
from laser_pl.noise import quieten
from laser_pl.policy import Policy
from laser_pl.report.summary import arm_shares, print_summary, versions
from laser_pl.run_folder import RunFolder, write_json, write_whole

DEFAULTS = {
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 5e-6, "weight_decay": 0.0}},
    "model.matcher": {"class_path": "laser_pl.metrics.matchers.Exact"},
    "data.template": {"class_path": "laser_pl.data.templates.Plain"},
    # The preset `default`; experiments/presets/ holds it and the others as overlays.
    "selection.bandit": {"class_path": "laser_pl.bandits.LinUCB", "init_args": {"alpha": 1.0}},
    "selection.context": {"class_path": "laser_pl.bandits.context.ContextPreparation"},
    "selection.signal": {"class_path": "laser_pl.feedback.signals.Loss"},
    "selection.scale": {"class_path": "laser_pl.feedback.scales.ContextBaseline"},
    "selection.pairs": {"class_path": "laser_pl.data.pairs.RandomPairs"},
}


class Parser(LightningArgumentParser):
    """Raises what is wrong with the configuration, where Lightning's prints usage and exits."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Tell the user.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(" ".join(message.split()))


class LaserCLI(LightningCLI):
    """LightningCLI with a ``selection`` section, a run's folder, and test accuracy before and after ``fit``.

    Args:
        args: The command line; None takes the process's own.
    """

    trainer: Trainer
    model: Policy
    datamodule: PreferenceData
    folder: RunFolder
    resumed: bool
    summary: dict[str, Any]

    def __init__(self, args: list[str] | None = None) -> None:
        super().__init__(
            Policy,
            PreferenceData,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                "description": "Train a language model from several reward models. Finished runs are put side by side"
                " by `python -m laser_pl compare`."
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

    # -- configuration -----------------------------------------------------------------------------------------------

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed; a plain integer, since it is the root of every random number of a run."""
        parser.add_argument("--seed_everything", type=int, default=0, help="Root of all randomness of the run.")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The sections that are ours."""
        parser.add_lightning_class_args(RewardSelection, "selection")
        parser.add_optimizer_args(nested_key="optimizer", link_to="model.optimizer")
        parser.add_lr_scheduler_args(nested_key="lr_scheduler", link_to="model.lr_scheduler")
        parser.add_argument("--name", type=str, default="laser", help="Name of the run and of its folder.")
        parser.add_argument("--runs_dir", type=str, default="runs", help="Where runs' folders lie.")
        parser.add_argument("--resume", type=bool, default=False, nargs="?", const=True,
                            help="Continue the newest unfinished run of that name.")  # fmt: skip
        parser.add_argument("--checkpoint_every", type=int, default=50,
                            help="Batches between checkpoints within an iteration.")  # fmt: skip
        for section in ("model", "data", "selection"):
            parser.link_arguments("seed_everything", f"{section}.seed")
        for action in parser._actions:
            # A data file's path is no path of a config: without this jsonargparse reads a CSV file and takes its text.
            if action.dest in {"data.train", "data.validation", "data.test"}:
                action._enable_path = False  # type: ignore[attr-defined]
        parser.set_defaults(DEFAULTS)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands that make sense here."""
        every = LightningCLI.subcommands()
        return {name: every[name] for name in ("fit", "validate", "test")}

    # -- set-up ------------------------------------------------------------------------------------------------------

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the run's folder, record and checkpoints when it is to fit."""
        configured = self._get(self.config_init, "trainer")
        kwargs["enable_progress_bar"], bars = _progress_bars(configured)
        if self.subcommand != "fit":
            self.trainer_defaults["callbacks"] = bars
            return super().instantiate_trainer(logger=False, enable_checkpointing=False, **kwargs)
        _refuse_second_selection(configured)
        self.selection = self._get(self.config_init, "selection")
        self._open_folder()
        self.record = RunRecord(self.folder, self.selection)
        loggers = _loggers(configured.get("logger"), self.folder)
        with self._no_folder_without_run():
            checkpoint = RunCheckpoint(self.folder, self._get(self.config, "checkpoint_every"), self.selection)
            self.trainer_defaults["callbacks"] = [self.record, checkpoint, *bars]
            try:
                trainer = super().instantiate_trainer(default_root_dir=str(self.folder.path), logger=loggers, **kwargs)
            except (ValueError, MisconfigurationException) as error:
                raise ConfigurationError(f"trainer: {' '.join(str(error).split())}") from error
            _refuse_several_processes(trainer)
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # its folder has config.yaml
                logger.log_hyperparams(self.config[self.subcommand].as_dict())
        return trainer

    def _open_folder(self) -> None:
        name, runs_dir = self._get(self.config, "name"), self._get(self.config, "runs_dir")
        self.resumed = self._get(self.config, "resume")
        if self.resumed:
            self.folder = RunFolder.newest_unfinished(runs_dir, name)
        else:
            self.folder = RunFolder.claim(runs_dir, name)
            config = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_unset=False)
            write_whole(self.folder.config, config)

    @contextmanager
    def _no_folder_without_run(self) -> Iterator[None]:
        """Take the new folder away again if the user has something to mend before anything was made."""
        try:
            yield
        except (ConfigurationError, MisconfigurationException):
            if not self.resumed:
                self.folder.discard_unused()
            raise

    def before_instantiate_classes(self) -> None:
        """Find out what is missing before anything is loaded.

        Raises:
            ConfigurationError: If the checkpoint is not there.
        """
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint is not None and not Path(checkpoint).is_file():
            raise ConfigurationError(f"There is no checkpoint '{checkpoint}'. Check --ckpt_path.")

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, **kwargs: Any) -> None:
        """Measure, train, measure again, sum up."""
        with self._no_folder_without_run():
            self.datamodule.continued = self.resumed
            if self.resumed and self.folder.checkpoint.exists():
                kwargs |= {"ckpt_path": str(self.folder.checkpoint), "weights_only": True}
                self.record.earlier_metrics = read_metrics(self.folder.metrics)
            else:
                self.record.before = self._test_accuracy()
            self.trainer.fit(**kwargs)
            self.summary = self._sum_up(self._test_accuracy())
        write_json(self.folder.summary, self.summary)
        print_summary(self.summary, str(self.folder.path))

    def _test_accuracy(self) -> dict[str, float]:
        """Accuracy of sampled responses on the test set, by category."""
        prefix = "test/accuracy/sampled/"
        measured = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        metrics = measured[0] if measured else {}
        return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}

    def _sum_up(self, after: dict[str, float]) -> dict[str, Any]:
        record, arms, pool = self.record, self.selection.arms, self.selection.pool
        seconds = {
            "rollouts": self.datamodule.rollout_seconds,
            "scoring": pool.seconds,
            "steps": record.seconds["steps"],
            "validation": record.seconds["validation"],
        }
        total = record.elapsed
        done = sum(pool.forwards[arm] for arm in arms)
        n = self.datamodule.rollouts.n
        all_arms = sum(pool.reward_models[arm].forwards_per_response(n) for arm in arms)
        return {
            "accuracy": {"before": record.before, "after": after},
            "arm_share": arm_shares(record.shares, arms),
            "seconds": {**seconds, "other": total - sum(seconds.values()), "total": total},
            "reward_model_forwards": dict(pool.forwards),
            "reward_model_forwards_avoided": round(record.judged * all_arms) - done,
            "labels_missing": {name: dict(kinds) for name, kinds in pool.missing.items() if kinds},
            "constraints": self.selection.verdicts.as_dict(),
            "arm_changes": self.selection.arm_changes,
            "iterations": self.trainer.current_epoch,
            "steps": record.steps,
            "steps_without_pairs": record.skipped,
            "config": str(self.folder.config),
            "versions": versions(),
        }


def _given_callbacks(configured: Any) -> list[Any]:
    callbacks = configured.get("callbacks")
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _progress_bars(configured: Any) -> tuple[bool, list[Callback]]:
    """Whether there is a bar, and ours, unless the user brought another.

    Lightning's plain one, since its rich one takes the terminal over and swallows the bar of the rollouts.
    """
    if any(isinstance(callback, ProgressBar) for callback in _given_callbacks(configured)):
        return True, []
    wanted = configured.get("enable_progress_bar")
    enabled = sys.stderr.isatty() if wanted is None else wanted
    return enabled, [TQDMProgressBar()] if enabled else []


def _refuse_several_processes(trainer: Trainer) -> None:
    processes = trainer.num_devices * trainer.num_nodes
    if processes > 1:
        raise ConfigurationError(
            f"The trainer would start {processes} processes, which cannot share one bandit yet. Set trainer.devices and"
            " trainer.num_nodes to 1."
        )


def _refuse_second_selection(configured: Any) -> None:
    if any(isinstance(callback, RewardSelection) for callback in _given_callbacks(configured)):
        raise ConfigurationError(
            "trainer.callbacks holds a RewardSelection, but the run has one already. Configure that one, in the section"
            " selection, and leave trainer.callbacks for callbacks of your own."
        )


def _loggers(configured: Any, folder: RunFolder) -> list[Logger] | bool:
    """What the user asked for, and always metrics.csv, unless logging is off."""
    if configured is False:
        return False
    own = [logger for logger in (configured if isinstance(configured, list) else [configured])
           if isinstance(logger, Logger)]  # fmt: skip
    return [*own, CSVLogger(folder.path.parent, name=folder.path.name, version="")]


def _refuse_broken_yaml(args: Sequence[str]) -> None:
    """Name the config that is no YAML; the parser's message does not."""
    for before, value in zip(["", *args], args, strict=False):
        path = Path(value.removeprefix("--config="))
        if (before in {"--config", "-c"} or value.startswith("--config=")) and path.is_file():
            try:
                yaml.safe_load(path.read_text(encoding="utf-8"))
            except yaml.MarkedYAMLError as error:
                line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
                raise ConfigurationError(f"{path}{line}: this is no YAML ({error.problem}).") from None


def main(args: list[str] | None = None) -> LaserCLI:
    """Run a command.

    Args:
        args: The command line; None takes the process's own.

    Returns:
        The finished command, for tests and notebooks: ``.trainer``, ``.model``, ``.datamodule``, ``.summary``.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    quieten()
    go_offline_without_key()
    try:
        _refuse_broken_yaml(sys.argv[1:] if args is None else args)
        return LaserCLI(args)
    except (ConfigurationError, MisconfigurationException) as error:
        print(f"laser_pl: {error}", file=sys.stderr)
        raise SystemExit(2) from error
