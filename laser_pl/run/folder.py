"""A run's folder: where everything a run writes lies. No run overwrites another's."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from laser_pl.errors import ConfigurationError
from laser_pl.messages.places import briefly
from laser_pl.messages.suggestions import closest, closest_path, perhaps
from laser_pl.run.files import (
    delete_folder,
    delete_leftovers,
    ended_lines,
    entered,
    locked,
    read_text,
    refuse_links,
    write_whole,
)
from laser_pl.run.plain_yaml import load_yaml

_OWN = ("config.yaml", "metrics.csv", "selection.jsonl", "judged.jsonl", "pairs.jsonl", "agreement.jsonl",
        "answers.jsonl", "summary.json", "report.html", "predictions.jsonl", "loggers.json", "checkpoints", "adapter",
        "rollouts", "figures", "responses")  # fmt: skip
"""What a run and the commands that look at it write; a user's logger may have links of its own beside it."""
_MOST_BYTES_OF_CONFIG = 2**22


class RunFolder:
    """The files of one run.

    Args:
        path: ``runs/<name>``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.selection = path / "selection.jsonl"
        self.judged = path / "judged.jsonl"
        self.pairs = path / "pairs.jsonl"
        self.agreement = path / "agreement.jsonl"
        self.answers = path / "answers.jsonl"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.adapter = path / "adapter"
        self.summary = path / "summary.json"
        self.report = path / "report.html"

    @classmethod
    def claim(cls, runs_dir: str, name: str) -> RunFolder:
        """Make a new folder: ``name``, or ``name-2``, ``name-3``, ... where that is taken.

        Raises:
            ConfigurationError: If the folder cannot be written, or would not lie in ``runs_dir``.
        """
        refuse_name(runs_dir, name)
        for path in _candidates(runs_dir, name):
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except (OSError, ValueError) as error:  # the latter: no name that a folder could have
                reason = error.strerror if isinstance(error, OSError) else error
                raise ConfigurationError(
                    f"Cannot make the run's folder '{path}': {reason}. Set --runs_dir to a folder you may write, and"
                    " --name to a name it can have."
                ) from error
            return cls(path)
        raise AssertionError("_candidates never ends")

    def rollouts(self, iteration: int) -> Path:
        """Where an iteration's rollouts lie."""
        return self.path / "rollouts" / f"iteration-{iteration:03d}"

    def discard_rollouts(self, iteration: int) -> None:
        """Remove those of an iteration and of all before it."""
        while iteration >= 0 and self.rollouts(iteration).exists():
            refuse_links(self.path, [str(self.rollouts(iteration).relative_to(self.path))])
            with entered(self.rollouts(iteration).parent, self.path) as rollouts:
                delete_folder(self.rollouts(iteration).name, rollouts)
            iteration -= 1

    def read_config(self) -> dict[str, Any]:
        """What stands in ``config.yaml``; empty if that is no mapping.

        Raises:
            ConfigurationError: If it cannot be read.
        """
        try:
            found = load_yaml(read_text(self.config, self.path, _MOST_BYTES_OF_CONFIG))
        except ConfigurationError:
            raise
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise ConfigurationError(
                f"{self.config} cannot be read ({' '.join(str(error).split())}). Without it nothing can be said about a"
                " run."
            ) from error
        return found if isinstance(found, dict) else {}

    def refuse_links(self) -> None:
        """Make sure that none of the run's own files and folders is a link, and nothing in them.

        Raises:
            ConfigurationError: If one is.
        """
        refuse_links(self.path, _OWN)

    def holds_as_its_own(self, path: Path) -> bool:
        """Whether a path is one of those that a run and its commands write, or lies within."""
        return any(path.resolve().is_relative_to(self.path.resolve() / name) for name in _OWN)

    def refuse_other(self) -> None:
        """Make sure that it is one.

        Raises:
            ConfigurationError: If it is no run's folder.
        """
        if not self.config.is_file():
            raise ConfigurationError(
                f"'{self.path}' is no run's folder: there is no config.yaml in it.{perhaps(_near_run(self.path))}"
            )
        self.refuse_links()

    def discard_unused(self) -> None:
        """Remove the folder of a run that ended before it sampled anything to train on; a supervised one, or saved."""
        if not (self.path / "rollouts").exists() and not self.checkpoint.exists():
            shutil.rmtree(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process go on with the run while the block runs; the system lets go of it when this one dies.

        Raises:
            ConfigurationError: If another one holds it, or it has ended.
        """
        with locked(self.config, self.path) as mine:
            if not mine:
                raise ConfigurationError(
                    f"The run in '{self.path}' is still going on in another process. Wait for its end, or stop it."
                )
            if self.summary.exists():  # since it was found
                raise ConfigurationError(
                    f"The run in '{self.path}' has just ended in another process. Start another under a name of its"
                    " own."
                )
            self.refuse_links()
            for folder in (self.checkpoint.parent, self.path / "rollouts", *(self.path / "rollouts").glob("*")):
                delete_leftovers(folder, self.path)
            yield

    def is_what_cannot_be_written(self, error: OSError) -> bool:
        """Whether an error says that a file of the run could not be made; where a disk is full, it names none."""
        full = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
        names = [Path(name).resolve() for name in (error.filename, error.filename2) if isinstance(name, str)]
        return error.errno in full or any(name.is_relative_to(self.path.resolve()) for name in names)

    @classmethod
    def unfinished(cls, runs_dir: str, name: str, fits: Callable[[RunFolder], bool]) -> RunFolder:
        """The run of that name that was begun and did not end; of several, the one that is meant.

        Args:
            runs_dir: Where runs' folders lie.
            name: As ``claim`` was given it, or that of the folder.
            fits: Whether a run began with the settings with which one is to go on.

        Raises:
            ConfigurationError: If there is none, or it is not clear which.
        """
        begun = [cls(path) for path in _begun(Path(runs_dir, name), name)]
        unfinished = [folder for folder in begun if not folder.summary.exists()]
        if not unfinished:
            found = f"all {len(begun)} of that name are finished" if begun else "there is none of that name"
            near = None if begun else closest(name, _runs_in(Path(runs_dir)))
            raise ConfigurationError(
                f"--resume: no unfinished run '{name}' in '{runs_dir}'; {found}."
                + perhaps(near, "Leave --resume out to start one.")
                + (begun[-1]._how_to_train_on() if begun else "")
            )
        if len(begun) == 1:
            unfinished[0].refuse_links()
            return unfinished[0]
        fitting = [folder for folder in unfinished if fits(folder)]
        if len(fitting) != 1:
            listed = ", ".join(f"--resume {briefly(folder.path)}" for folder in fitting or unfinished)
            raise ConfigurationError(
                f"--resume: {len(begun)} runs are named '{name}', of which {len(unfinished)} did not end and"
                f" {len(fitting) or 'none'} of these began with these settings. Say which is to go on: {listed}."
            )
        fitting[0].refuse_links()
        return fitting[0]

    @classmethod
    def unfinished_at(cls, path: Path) -> RunFolder:
        """The run in a folder.

        Raises:
            ConfigurationError: If there is none, or it has ended.
        """
        folder = cls(path)
        folder.refuse_other()
        if folder.summary.exists():
            raise ConfigurationError(
                f"--resume: the run in '{path}' is finished. Leave --resume out to start another."
                + folder._how_to_train_on()
            )
        return folder

    def _how_to_train_on(self) -> str:
        """What a finished run needs for more iterations, with a blank before it; nothing without a checkpoint."""
        if not self.checkpoint.is_file():
            return ""
        trainer = self.read_config().get("trainer")
        done = trainer.get("max_epochs") if isinstance(trainer, dict) else None
        more = f" above {done}" if isinstance(done, int) and done > 0 else ""
        return (
            f" To train it for longer, in a folder of its own: --ckpt_path {briefly(self.checkpoint)}"
            f" --trainer.max_epochs N, with N{more or ' larger than before'}."
        )


def _begun(own: Path, name: str) -> Iterator[Path]:
    """Folders of the runs of a name by their numbers, of which some may be gone; ``name-2`` may be another's name."""
    if (own / "config.yaml").is_file():
        yield own
    numbered = re.compile(re.escape(own.name) + r"-([2-9]|[1-9]\d+)")
    others = [
        path for path in own.parent.glob("*") if numbered.fullmatch(path.name) and (path / "config.yaml").is_file()
    ]
    for path in sorted(others, key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            named = RunFolder(path).read_config().get("name", name)
        except ConfigurationError:
            named = name  # nobody can say, so it is asked for
        if isinstance(named, str) and Path(named) == Path(name):
            yield path


def _runs_in(folder: Path) -> set[str]:
    return {config.parent.name for config in folder.glob("*/config.yaml")}


def _near_run(path: Path) -> Path | None:
    """The run that was perhaps meant, in the same folder, one of a like name, or the usual one."""
    for folder in (path.parent, closest_path(path.parent), Path("runs")):
        if folder is not None and (name := closest(path.name, _runs_in(folder))):
            return folder / name
    return None


def refuse_name(runs_dir: str, name: str) -> None:
    """Make sure that a name is one of a folder in ``runs_dir``.

    Raises:
        ConfigurationError: If it is not.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not name.strip() or not parts or "\0" in name:
        raise ConfigurationError(f"--name '{name}' is no name of a folder in '{runs_dir}'. Choose another.")
    for above in [Path(runs_dir, *parts[:count]) for count in range(1, len(parts))]:
        if (above / "config.yaml").exists():
            raise ConfigurationError(f"--name '{name}' lies in the folder of the run '{above}'. Choose another.")


def _candidates(runs_dir: str, name: str) -> Iterator[Path]:
    yield Path(runs_dir, name)
    number = 2
    while True:
        yield Path(runs_dir, f"{name}-{number}")
        number += 1


def keep_steps_before(step: int, path: Path) -> None:
    """Drop the lines of a JSONL file from a step on, and what was torn; nothing is done if it is not there.

    Raises:
        ConfigurationError: If a line is none that a run wrote.
    """
    if path.exists():
        kept = [text for number, text in enumerate(ended_lines(path), 1) if _step_of(text, path, number) < step]
        write_whole(path, "".join(kept), path.parent)


def _step_of(text: str, path: Path, number: int) -> int:
    try:
        return int(json.loads(text)["step"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ConfigurationError(
            f"{path}, line {number}: this is no line that a run wrote. Put the file back, or start a new run."
        ) from None
