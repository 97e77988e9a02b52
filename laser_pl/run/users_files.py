"""Where the user's own ModelCheckpoints and profilers write: beside what the run writes, never in its place."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

from laser_pl.errors import ConfigurationError
from laser_pl.run.folder import RunFolder


def give_checkpoints_folders(trainer: Trainer, folder: RunFolder) -> None:
    """Give each that has no folder one of its own, ``checkpoints/kept``, ``kept-2``, and see that all can be written.

    Lightning's own choice is a folder of the first logger's, which may have none.

    Args:
        trainer: Whose callbacks they are.
        folder: The run's.

    Raises:
        ConfigurationError: If one cannot be made, or is that of the run's own checkpoint.
    """
    own, given = folder.checkpoint.parent.absolute(), 0
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, ModelCheckpoint):
            continue
        if callback.dirpath is None:
            given += 1
            callback.dirpath = str(own / ("kept" if given == 1 else f"kept-{given}"))
            continue
        path = Path(str(callback.dirpath))
        if path == own:
            raise ConfigurationError(
                f"{type(callback).__name__} would write where the run's own checkpoint lies, '{own}'. Set its dirpath"
                " to another folder, or leave it out."
            )
        if "://" not in str(callback.dirpath) and trainer.is_global_zero:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"{type(callback).__name__} cannot write to '{path}': {error.strerror}. Set its dirpath to a folder"
                    " you may write."
                ) from error


def give_profile_file(trainer: Trainer, folder: RunFolder) -> None:
    """Let a profiler that has no file write ``fit-profile.txt`` and ``test-profile.txt``; on the screen it is lost.

    Args:
        trainer: Whose profiler it is.
        folder: The run's.
    """
    profiler: Profiler = trainer.profiler  # type: ignore[attr-defined]
    if not trainer.is_global_zero or isinstance(profiler, PassThroughProfiler):
        return  # the first process alone knows the run's folder, and nobody measures where none is configured
    if profiler.filename is None and profiler.dirpath is None:
        profiler.filename, profiler.dirpath = "profile", str(folder.path)
