"""Small things around Lightning's loggers."""

from __future__ import annotations

import json
import logging
import netrc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from laser_pl.errors import ConfigurationError
from laser_pl.messages.places import absolute, briefly
from laser_pl.run.files import read_text, write_json
from laser_pl.run.folder import RunFolder
from laser_pl.run.metrics_file import MetricsFile

log = logging.getLogger(__name__)

SAMPLE_COLUMNS = (
    "iteration", "step", "category", "prompt", "answer", "arm", "response", "score", "chosen", "rejected", "right"
)  # fmt: skip

_MOST_BYTES = 2**20
_GO_ON = (TensorBoardLogger, WandbLogger, MLFlowLogger)


def loggers_of(configured: Any, folder: RunFolder) -> list[Logger]:
    """What the user asked for, and always metrics.csv, unless logging is off."""
    if configured is False:
        return []
    own = [logger for logger in (configured if isinstance(configured, list) else [configured])
           if isinstance(logger, Logger)]  # fmt: skip
    return [*own, MetricsFile(folder.metrics)]


def go_offline_without_key() -> None:
    """Let W&B write to disk where nobody is logged in, instead of asking; ``WANDB_MODE`` overrules."""
    if "WANDB_API_KEY" not in os.environ and not _netrc_has_key():
        os.environ.setdefault("WANDB_MODE", "offline")


def _netrc_has_key() -> bool:
    """Whether a netrc file has a password for W&B's host; others' are there for Git and the like."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for path in [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]:
        try:
            if netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            pass
    return False


def begins(logger: Logger) -> bool:
    """Whether a logger can begin, which may need a service; a warning says why not."""
    try:
        for name in ("experiment", "name", "version", "save_dir", "log_dir"):
            getattr(logger, name, None)
    except Exception as error:
        _warn(logger, error)
        return False
    return True


def refuse_own_folder(loggers: Iterable[Logger], folder: RunFolder) -> None:
    """See that no logger of the user's writes where the run does: ``CSVLogger`` deletes the metrics that are there.

    Raises:
        ConfigurationError: If one would.
    """
    for logger in loggers:
        # Without a version it counts, once it begins.
        if (
            isinstance(logger, CSVLogger)
            and logger._version is not None
            and absolute(logger.log_dir) == folder.path.absolute()
        ):
            raise ConfigurationError(
                f"CSVLogger would write to the run's own folder, '{briefly(folder.path)}', where metrics.csv is"
                " already. Set its save_dir to another one, or take it out of trainer.logger."
            )


_OF_LOGGERS = (
    "log_metrics", "log_hyperparams", "log_table", "log_graph", "save", "finalize", "after_save_checkpoint"
)  # fmt: skip
_told: WeakSet[Any] = WeakSet()
"""Whose failure was reported."""

OF_PROFILERS = ("describe",)


def outlive(logger: Any, calls: Sequence[str] = _OF_LOGGERS) -> None:
    """Let the failure of a logger's service cost its log, not the run: it is reported once, and nothing more logged.

    Args:
        logger: It, or a profiler, whose report may fail where too little was measured.
        calls: What may fail.
    """
    failed = False

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed
            if failed:
                return None
            try:
                return call(*args, **kwargs)
            except Exception as error:
                failed = True
                _warn(logger, error)
                return None

        return attempt

    for name in calls:
        if hasattr(logger, name):
            setattr(logger, name, guarded(getattr(logger, name)))


def _warn(logger: Any, error: Exception) -> None:
    if logger in _told:
        return
    _told.add(logger)
    log.warning("%s cannot log any more, and the run goes on without: %s: %s",
                type(logger).__name__, type(error).__name__, " ".join(str(error).split()))  # fmt: skip


def note_versions(loggers: Sequence[Logger | None], path: Path) -> None:
    """Write down which run of theirs each logger has begun, so that a resumed run goes on with it.

    Args:
        loggers: As they are configured; None in the place of one that could not begin.
        path: ``loggers.json`` in the run's folder.
    """
    versions = [logger.version if isinstance(logger, _GO_ON) else "" for logger in loggers]
    write_json(path, {"versions": versions}, path.parent)


def go_on_with_versions(loggers: Sequence[Logger], path: Path) -> None:
    """Let loggers that can go on with their run do so, before they begin another one.

    ``CSVLogger`` cannot: it deletes what is there.

    Args:
        loggers: As they are configured now.
        path: What ``note_versions`` wrote, if the run came so far.
    """
    for logger, version in zip(loggers, _noted(path), strict=False):
        if isinstance(logger, TensorBoardLogger) and version is not None:
            logger._version = version
        elif isinstance(logger, WandbLogger) and version is not None:
            logger._id = logger._wandb_init["id"] = version
        elif isinstance(logger, MLFlowLogger) and version is not None:
            logger._run_id = version
            # MLflow lets no parameter change, and where one does (``resume``, for one) nothing more would be logged.
            logger.log_hyperparams = lambda *args, **kwargs: None  # type: ignore[method-assign]


def _noted(path: Path) -> list[Any]:
    """What is noted; nothing for what is no name of a version, since the run's folder may be a stranger's."""
    try:
        found = json.loads(read_text(path, path.parent, _MOST_BYTES))["versions"]
        return [one if isinstance(one, int) or re.fullmatch(r"\w[\w.-]*", one) else None for one in found]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def log_end(loggers: Sequence[Logger], summary: Mapping[str, Any], judged: Path) -> None:
    """Give W&B what other loggers have no place for: ``summary.json``, and the sample of judged responses as a table.

    Args:
        loggers: The trainer's.
        summary: What stands in ``summary.json``.
        judged: ``judged.jsonl``.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            try:
                logger.experiment.summary.update({"summary": dict(summary)})
            except Exception as error:
                _warn(logger, error)
                with suppress(Exception):  # else it fails once more when Python ends, with a traceback
                    import wandb  # here, since nobody else needs it

                    wandb.teardown()
                continue
            try:
                lines = read_text(judged, judged.parent).splitlines() if judged.exists() else []
                rows = list(sample_rows(json.loads(line) for line in lines))
            except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:  # damaged meanwhile
                _warn(logger, error)
                continue
            logger.log_table("judged", columns=list(SAMPLE_COLUMNS), data=rows)


def sample_rows(judged: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """One row of ``SAMPLE_COLUMNS`` for each response in lines of ``judged.jsonl``.

    ``score`` is that of the arm that judged; ``chosen`` and ``rejected`` count the pairs in which the response is.
    Chats and answers become text, since a column of a table has one type.
    """
    for line in judged:
        prompt = line["prompt"] if isinstance(line["prompt"], str) else json.dumps(line["prompt"], ensure_ascii=False)
        right = line["right"] or [None] * len(line["responses"])
        for number, response in enumerate(line["responses"]):
            yield [
                line["iteration"],
                line["step"],
                line["category"],
                prompt,
                line["answer"],
                line["arm"],
                response,
                line["scores"][line["arm"]][number],
                sum(chosen == number for chosen, _ in line["pairs"]),
                sum(rejected == number for _, rejected in line["pairs"]),
                right[number],
            ]
