"""A finished run, opened again: its test prompts and its policy."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.command_line.looked_at import LookedAt
from laser_pl.commands.cli import LaserCLI
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.plan import split_every
from laser_pl.errors import ConfigurationError
from laser_pl.policy.policy import Policy
from laser_pl.report.runs import Run, read_run
from laser_pl.run.folder import RunFolder
from laser_pl.run.named_code import BESIDE, without_what_writes
from laser_pl.runtime.interruption import Interruption
from laser_pl.training.adapter import as_started, load_adapter

# Whatever the run used, one device is enough, nothing is logged, and nobody judges.
_ALONE = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto",
          "--trainer.enable_progress_bar=false", *without_what_writes("test"))  # fmt: skip
_NOBODY = {"reward_models": {"nobody": {"class_path": "laser_pl.rewards.Verifier"}}}
_ADVICE = "Get the run again, or name another."


class _Opened(LaserCLI):
    """What answers of a run, as its configuration says: policy and prompts, and nobody who judges or grades.

    Args:
        run: The run.
        trusted: Whether code may run that its configuration names.
    """

    def __init__(self, run: Run, trusted: bool) -> None:
        parts = {name: run.config.get(name) for name in ("seed_everything", "trainer", "model", "data")}
        parts = {name: value for name, value in parts.items() if value is not None} | {"selection": _NOBODY}
        if isinstance(parts.get("model"), dict):
            parts["model"] = {name: value for name, value in parts["model"].items() if name != "matcher"}
        if isinstance(parts.get("trainer"), dict):
            parts["trainer"] = {name: value for name, value in parts["trainer"].items() if name not in BESIDE}
        looked_at = None if trusted else LookedAt("test", [RunFolder(run.folder).config], [])
        if looked_at is not None:
            looked_at.refuse_code(parts)
        super().__init__(["test", f"--config={yaml.safe_dump(parts)}", *_ALONE], Interruption(), looked_at)

    def test(self, **kwargs: Any) -> None:
        """Nothing: the parts are all that is wanted."""


class FinishedRun:
    """What a finished run's folder holds, put together again as it is asked for.

    Args:
        path: ``runs/<name>``.
        trusted: Whether code may run that the run's configuration names.

    Raises:
        ConfigurationError: If there is no finished run.
    """

    def __init__(self, path: Path, trusted: bool = False) -> None:
        self.trusted = trusted
        self.folder = RunFolder(path)
        self._run = read_run(path)
        self.config = self._run.config
        if not _weights_in(self.folder.adapter).is_file():
            raise ConfigurationError(f"The run '{path}' has no adapter in '{self.folder.adapter}'. {_ADVICE}")

    @cached_property
    def _parts(self) -> tuple[Trainer, Policy, PreferenceData]:
        try:
            cli = _Opened(self._run, self.trusted)
            cli.trainer.strategy.connect(cli.model)
            cli.datamodule.trainer = cli.trainer
            cli.datamodule.setup("test")
        except (ConfigurationError, MisconfigurationException) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"The run '{self.folder.path}' cannot be opened again: {reason}") from error
        if not cli.datamodule.prompts["test"]:
            raise ConfigurationError(
                f"The run '{self.folder.path}' has no test prompts. Name one that has, by data.test."
            )
        return cli.trainer, cli.model, cli.datamodule

    @property
    def trainer(self) -> Trainer:
        """Says on which device and in which precision."""
        return self._parts[0]

    @property
    def policy(self) -> Policy:
        """The run's policy, without weights until it is to answer."""
        return self._parts[1]

    @property
    def prompts(self) -> list[Prompt]:
        """The test prompts.

        Raises:
            ConfigurationError: If there are none, or the run's configuration can no longer be used.
        """
        return self._parts[2].prompts["test"]

    @property
    def batches(self) -> list[list[Prompt]]:
        """The test prompts, as they were answered in the run's own test."""
        return split_every(self.prompts, self._parts[2].evaluation_batch_size)

    def adapter_digest(self, trained: bool) -> str | None:
        """SHA-256 of the trained weights, or of those that training started from; None where it was the base."""
        folder = self.folder.adapter if trained else self.policy.lora.start
        return None if folder is None else hashlib.sha256(_weights_in(folder).read_bytes()).hexdigest()

    @cached_property
    def encoded(self) -> list[PromptBatch]:
        """The same batches as the policy reads them."""
        return list(self._parts[2].test_dataloader())

    @contextmanager
    def answering(self, trained: bool) -> Iterator[None]:
        """Have the policy ready to sample, on the device and with the precision that the configuration says.

        Args:
            trained: As training left it, or as it started.

        Raises:
            ConfigurationError: If the adapter is not this run's.
        """
        if self.policy.language_model is None:
            self.policy.configure_model()
            load_adapter(self.policy.model, self.folder.adapter, _ADVICE)
            self.policy.to(self.trainer.strategy.root_device)
        which = nullcontext() if trained else as_started(self.policy.model, self.policy.lora.start)
        with which, self.trainer.precision_plugin.forward_context():
            self.policy.publish()
            yield

    def give_back_weights(self) -> None:
        """Free the memory of the policy's weights, which are not asked for again."""
        if self.policy.language_model is not None:
            self.policy.language_model = self.policy._logprob_model = None
            gc.collect()  # bitsandbytes' 4-bit layers hold themselves in cycles
            if self.policy.device.type == "cuda":
                torch.cuda.empty_cache()


def _weights_in(adapter: str | Path) -> Path:
    return Path(adapter) / "adapter_model.safetensors"
