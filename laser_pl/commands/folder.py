"""Where a command's run lies: a new folder, or that of an unfinished run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from laser_pl.command_line.changed_settings import changes_since, tell_of_changes
from laser_pl.commands.predict import PredictCommand
from laser_pl.errors import ConfigurationError
from laser_pl.messages.places import absolute
from laser_pl.run.checkpoints import check_checkpoint
from laser_pl.run.files import write_whole
from laser_pl.run.folder import RunFolder
from laser_pl.runtime.interruption import Interruption
from laser_pl.runtime.processes import process_number


class FolderCommand(PredictCommand):
    """A command line that opens a run's folder before it fits.

    Attributes:
        folder: Of the run.
        interruption: Who is informed of it.
        until_end: Holds the folder until the command has ended.
    """

    folder: RunFolder
    interruption: Interruption
    until_end: ExitStack

    def _open_folder(self) -> None:
        name, runs_dir = self._get(self.config, "name"), str(absolute(self._get(self.config, "runs_dir")))
        if self.resumed:
            self.folder = self._resumed_folder(runs_dir, name)
            if process_number() == 0:
                self.until_end.enter_context(self.folder.held())  # before anything is written to it
                tell_of_changes(self.folder.config, self._resolved())
            refuse_unsound_checkpoint(self.folder)
        elif process_number() > 0:
            self.folder = RunFolder(Path(runs_dir, name))  # the first one's may have another number; only it writes
        else:
            resolved = self._resolved()  # takes a while, in which a run that is killed would leave an empty folder
            self.folder = RunFolder.claim(runs_dir, name)
            with self._no_folder_without_run():
                write_whole(self.folder.config, resolved, self.folder.path)
            self.until_end.enter_context(self.folder.held())
        self.interruption.run = self.folder.path

    @property
    def resumed(self) -> bool:
        """Whether a run is to go on."""
        return bool(self._get(self.config, "resume"))

    def _resumed_folder(self, runs_dir: str, name: str) -> RunFolder:
        where = self._get(self.config, "resume")
        if isinstance(where, str):
            return RunFolder.unfinished_at(absolute(where))
        now = self._resolved()
        return RunFolder.unfinished(runs_dir, name, lambda folder: changes_since(folder.config, now) == [])

    def _resolved(self) -> str:
        """The whole configuration, as YAML."""
        resolved: str = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_unset=False)
        return resolved

    @contextmanager
    def _no_folder_without_run(self) -> Iterator[None]:
        """Take the new folder away again if the user has something to mend before anything was made."""
        try:
            yield
        except (ConfigurationError, MisconfigurationException):
            self._discard_new_folder()
            raise
        except OSError as error:
            if not self.folder.is_what_cannot_be_written(error):
                raise
            self._discard_new_folder()
            begun = self.folder.path.exists()
            advice = (
                "What was saved is intact: make room and go on with --resume."
                if begun
                else "Make room or set --runs_dir."
            )
            raise ConfigurationError(
                f"Cannot write '{error.filename or self.folder.path}': {error.strerror}. {advice}"
            ) from error

    def _discard_new_folder(self) -> None:
        if not self.resumed and process_number() == 0:
            self.folder.discard_unused()


def refuse_unsound_checkpoint(folder: RunFolder) -> None:
    """See that a run can go on from its checkpoint, if it has one.

    Raises:
        ConfigurationError: If it cannot.
    """
    if folder.checkpoint.exists():
        check_checkpoint(
            folder.checkpoint,
            True,
            "Put a sound copy in its place, or delete it: --resume then begins again, with the rollouts that are"
            " there.",
        )
