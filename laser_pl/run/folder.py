"""A run's folder: where everything a run writes lies. No run overwrites another's."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.suggestions import closest, closest_path, perhaps


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
            shutil.rmtree(self.rollouts(iteration))
            iteration -= 1

    def refuse_other(self) -> None:
        """Make sure that it is one.

        Raises:
            ConfigurationError: If it is no run's folder.
        """
        if not self.config.is_file():
            raise ConfigurationError(
                f"'{self.path}' is no run's folder: there is no config.yaml in it.{perhaps(_near_run(self.path))}"
            )

    def discard_unused(self) -> None:
        """Remove the folder of a run that ended before it sampled anything to train on; a supervised one, or saved."""
        if not (self.path / "rollouts").exists() and not self.checkpoint.exists():
            shutil.rmtree(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process go on with the run while the block runs; the system lets go of it when this one dies.

        Raises:
            ConfigurationError: If another one holds it.
        """
        with self.config.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"The run in '{self.path}' is still going on in another process. Wait for its end, or stop it."
                ) from None
            except OSError:  # a file system without locks
                pass
            yield

    def is_what_cannot_be_written(self, error: OSError) -> bool:
        """Whether an error says that a file of the run could not be made; where a disk is full, it names none."""
        full = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
        names = [Path(name).resolve() for name in (error.filename, error.filename2) if isinstance(name, str)]
        return error.errno in full or any(name.is_relative_to(self.path.resolve()) for name in names)

    @classmethod
    def newest_unfinished(cls, runs_dir: str, name: str) -> RunFolder:
        """The last run of that name that was begun and did not end.

        Raises:
            ConfigurationError: If there is none.
        """
        begun = []
        for path in _candidates(runs_dir, name):
            if not path.is_dir():
                break
            begun.append(cls(path))
        unfinished = [folder for folder in begun if not folder.summary.exists()]
        if not unfinished:
            found = f"all {len(begun)} of that name are finished" if begun else "there is none of that name"
            near = None if begun else closest(name, _runs_in(Path(runs_dir)))
            raise ConfigurationError(
                f"--resume: no unfinished run '{name}' in '{runs_dir}'; {found}."
                + perhaps(near, "Leave --resume out to start one.")
            )
        return unfinished[-1]


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
    if Path(name).is_absolute() or ".." in Path(name).parts or not name.strip() or "\0" in name:
        raise ConfigurationError(f"--name '{name}' is no name of a folder in '{runs_dir}'. Choose another.")


def _candidates(runs_dir: str, name: str) -> Iterator[Path]:
    yield Path(runs_dir, name)
    number = 2
    while True:
        yield Path(runs_dir, f"{name}-{number}")
        number += 1


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name once it is complete and on the disk: it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names none
        raise


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it appears complete or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that it appears complete or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines at the end of a JSONL file, which is made if it is not there."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def keep_steps_before(step: int, path: Path) -> None:
    """Drop the lines of a JSONL file from a step on, and what was torn; nothing is done if it is not there."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_whole(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step))
