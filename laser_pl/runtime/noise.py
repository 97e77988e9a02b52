"""Keeping other libraries' chatter off the screen, one named message at a time."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging

from laser_pl.messages.keys import masked
from laser_pl.messages.terminal import PlainFormatter, shown

_format = warnings.formatwarning


def quieten() -> None:
    """Show this package's own messages and real warnings only."""
    screen = logging.StreamHandler()
    screen.setFormatter(PlainFormatter("%(message)s"))  # it may quote models, data sets and servers
    logging.basicConfig(level=logging.INFO, handlers=[screen])
    warnings.formatwarning = _as_text
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning at every fork
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # which accelerator, tips, "max_epochs reached"
    logging.getLogger("lightning.pytorch.callbacks").setLevel(logging.INFO)  # what the user put there to be told
    logging.getLogger("httpx").setLevel(logging.WARNING)  # every request
    transformers_logging.disable_progress_bar()  # one per load of a model
    logging.getLogger("transformers.modeling_utils").addFilter(_is_no_load_report)
    # Accuracy is added up over processes before it is logged.
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")
    # `validate` and `test` need no record of a run.
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    # A policy's base is in evaluation mode while its adapter is trained.
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    # Lightning and PEFT touch attributes that torch and transformers are about to rename.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    # `main([...])` in a test or notebook is what our entry is for.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")


def _as_text(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
    """A warning of another library, which may quote anything: where it was raised, and what it says."""
    text = _format(message, category, *where, **more)
    return "".join(f"{shown(masked(line))}\n" for line in text.splitlines())


@contextmanager
def only_warnings() -> Iterator[None]:
    """Log nothing of less weight than a warning while the block runs."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)


def _is_no_load_report(record: logging.LogRecord) -> bool:
    """Not the table of weights that do not fit the model; `Weights.load` refuses them in one sentence."""
    return "LOAD REPORT" not in record.getMessage()
