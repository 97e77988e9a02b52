"""``python -m laser_pl predict``: what the command line needs for it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from laser_pl.callbacks.best_of_n import BestOfN
from laser_pl.data.datamodule import PreferenceData
from laser_pl.messages.places import briefly
from laser_pl.report.predictions import Predictions, predictions_file, print_predictions, summarise
from laser_pl.run.named_code import CONSENT


class PredictCommand(LightningCLI):
    """LightningCLI whose ``predict`` writes best-of-n by a run's selection.

    Attributes:
        predictions: The file that is written.
        best_of_n: Who writes it.
    """

    trainer: Trainer
    datamodule: PreferenceData
    summary: dict[str, Any]
    predictions: Path
    best_of_n: BestOfN

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Lightning's, where predictions are written, and whether a run's own code may run."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand != "fit":
            parser.add_argument(CONSENT, type=bool, default=False, nargs="?", const=True,
                                help="Let what a run's own config.yaml names run, as in training.")  # fmt: skip
        if subcommand == "predict":
            parser.add_argument("--out", type=str | None, default=None,
                                help="File of the predictions; null writes to the checkpoint's run.")  # fmt: skip
        return parser

    def find_place_for_predictions(self) -> None:
        """Before anything is loaded.

        Raises:
            ConfigurationError: If there is none, or no checkpoint.
        """
        if self.subcommand == "predict":
            self.predictions = predictions_file(self._get(self.config, "ckpt_path"), self._get(self.config, "out"))

    def predictor(self, resolved: str) -> BestOfN:
        """The callback that predicts.

        Args:
            resolved: The whole configuration.
        """
        checkpoint, settings = Path(self._get(self.config, "ckpt_path")), yaml.safe_load(resolved)
        depends_on = {
            "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "precision": settings["trainer"]["precision"],
            **{section: settings[section] for section in ("seed_everything", "model", "data", "selection")},
        }
        selector = self._get(self.config_init, "selection").selector
        self.best_of_n = BestOfN(selector, checkpoint, Predictions(self.predictions, depends_on))
        return self.best_of_n

    def predict(self, **kwargs: Any) -> None:
        """Answer the test prompts, and sum up."""
        self.trainer.predict(**kwargs, return_predictions=False)
        if self.trainer.is_global_zero:
            self.summary = summarise(self.best_of_n.lines)
            print_predictions(self.summary, self.datamodule.rollouts.n, Path(briefly(self.predictions)))
