"""Files in a folder that may be a stranger's: no link in it is followed, none of them is ever half written.

A folder that the user names may itself be a link. What lies below it, up to ``within``, may not: each name is opened in
the folder that was opened before it, so that nobody can put a link there between a look and a use.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from laser_pl.errors import ConfigurationError

MOST_BYTES = 2**30
"""Of a record that is read; a larger one would not fit the memory as Python's objects."""
MOST_BYTES_OF_LINE = 2**26
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o666  # less what umask takes away


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """See that neither some files and folders of a folder nor what lies in these is a link.

    Raises:
        ConfigurationError: If one is.
    """
    for name in names:
        _refuse_link(folder / name)
        for inner, folders, files in os.walk(folder / name):
            for one in [*folders, *files]:
                _refuse_link(Path(inner, one))


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ConfigurationError(
            f"'{path}' is a link to elsewhere, which a run's folder must not hold: nothing outside the folder is read,"
            " written, deleted or sent. Put what it points to in its place, or take it out."
        )


@contextmanager
def entered(folder: Path, within: Path | None = None, make: bool = False) -> Iterator[int]:
    """Open a folder.

    Args:
        folder: It.
        within: From here on down no name may be a link; ``folder`` itself if not given.
        make: Whether to make it if it is not there.

    Yields:
        Its descriptor, for the ``dir_fd`` of other calls.

    Raises:
        ConfigurationError: If a link lies on the way.
    """
    within = folder if within is None else within
    if make:
        within.mkdir(parents=True, exist_ok=True)
    descriptor, path = os.open(within, _FOLDER), within
    try:
        for name in folder.relative_to(within).parts:
            path /= name
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            try:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                _refuse_link(path)
                error.filename = str(path)
                raise
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path, folder: int, flags: int) -> int:
    """A plain file of an open folder, which is neither a link nor something that keeps one waiting."""
    try:
        descriptor = os.open(path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            _refuse_link(path)
        error.filename = str(path)
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise ConfigurationError(f"'{path}' is no file. Take it out.")
    return descriptor


@contextmanager
def locked(path: Path, within: Path | None = None) -> Iterator[bool]:
    """Hold a file for this process alone, until the block or the process ends; NFS locks it for all machines.

    Args:
        path: A file that stays what it is: one that is replaced is another.
        within: See ``entered``.

    Yields:
        Whether nobody else holds it. Where a file system has no locks, nobody does.

    Raises:
        ConfigurationError: If it is a link, or no file.
    """
    with entered(path.parent, within) as folder:
        try:
            descriptor = _open(path, folder, os.O_RDWR)  # NFS locks only what may be written
        except PermissionError:
            descriptor = _open(path, folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
    finally:
        os.close(descriptor)


# -- reading -----------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, within: Path | None = None, most: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """Open a file to read.

    Raises:
        ConfigurationError: If it is a link, no plain file, or has more bytes than ``most``.
    """
    with entered(path.parent, within) as folder, os.fdopen(_open(path, folder, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ConfigurationError(f"'{path}' has {size:,} bytes; no more than {most:,} are read. Take it out.")
        yield file


def read_text(path: Path, within: Path | None = None, most: int = MOST_BYTES, errors: str = "strict") -> str:
    """A whole text in UTF-8, see ``reading``."""
    with reading(path, within, most) as file:
        return file.read(most).decode("utf-8", errors)


def whole_lines(path: Path, within: Path | None = None) -> Iterator[str]:
    """Lines of a text with their ends; what is longer than ``MOST_BYTES_OF_LINE`` comes in pieces that have none."""
    with reading(path, path.parent if within is None else within) as file:
        while line := file.readline(MOST_BYTES_OF_LINE):
            yield line.decode("utf-8", "replace")


def ended_lines(path: Path) -> Iterator[str]:
    """The same but for what was torn when its writer ended, or is too long to be a line of ours."""
    return (line for line in whole_lines(path) if line.endswith("\n"))


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path, within: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write to that gets its name once it is complete and on the disk: it appears whole or not at all.

    Args:
        path: Its name, in a folder that is made if it is not there.
        within: See ``entered``; where it is given, a link of that name is refused, and replaced where it is not.

    Raises:
        ConfigurationError: If a link lies there.
    """
    with _naming(path), entered(path.parent, within, make=True) as folder:
        if within is not None:
            _refuse_link(path)
        temporary = f".{secrets.token_hex(8)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise


@contextmanager
def written_aside(path: Path, within: Path) -> Iterator[Path]:
    """For libraries that write by name: a folder that nobody else may enter, whose files take their places at its end.

    Args:
        path: The file that matters; others that are written beside it come along.
        within: See ``entered``.

    Raises:
        ConfigurationError: If a link lies on the way, or where a file is to lie.
    """
    with _naming(path), entered(path.parent, within, make=True) as folder:
        aside = f".{secrets.token_hex(8)}.tmp"
        os.mkdir(aside, 0o700, dir_fd=folder)
        try:
            yield path.parent / aside
            with _opened_folder(aside, folder) as inner:
                mode = _mode_of_new_files(inner)
                for name in os.listdir(inner):
                    _refuse_link(path.with_name(name))
                    with os.fdopen(_open(path.parent / aside / name, inner, os.O_RDONLY), "rb") as file:
                        os.fchmod(file.fileno(), mode)
                        os.fsync(file.fileno())
                    os.replace(name, name, src_dir_fd=inner, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            delete_folder(aside, folder)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # a full disk names none
        raise


@contextmanager
def _opened_folder(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mode_of_new_files(folder: int) -> int:
    """What umask leaves; to ask for umask itself is to change it, for all threads."""
    name = f".{secrets.token_hex(8)}.tmp"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=folder)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=folder)


def write_whole(path: Path, text: str, within: Path | None = None) -> None:
    """Write a text file so that it appears complete or not at all."""
    with writing(path, within) as file:
        file.write(text.encode())


def write_json(path: Path, value: Mapping[str, Any], within: Path | None = None) -> None:
    """Write a JSON file so that it appears complete or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n", within)


def append_text(path: Path, text: str, within: Path | None = None) -> None:
    """Write at the end of a file, which is made if it is not there."""
    with entered(path.parent, within) as folder:
        descriptor = _open(path, folder, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with io.FileIO(descriptor, "ab") as file:
        written = memoryview(text.encode())
        while written:
            written = written[file.write(written) or 0 :]


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]], within: Path | None = None) -> None:
    """Write lines at the end of a JSONL file, which is made if it is not there."""
    append_text(path, "".join(json.dumps(line) + "\n" for line in lines), within)


# -- deleting ----------------------------------------------------------------------------------------------------------


def delete_folder(name: str, folder: int) -> None:
    """Delete a folder of an open one, with all that is in it; of a link in it the link, never what it points to."""
    for _, folders, files, inner in os.fwalk(name, topdown=False, follow_symlinks=False, dir_fd=folder):
        for file in files:
            os.unlink(file, dir_fd=inner)
        for one in folders:
            try:
                os.rmdir(one, dir_fd=inner)
            except NotADirectoryError:  # a link to one
                os.unlink(one, dir_fd=inner)
    os.rmdir(name, dir_fd=folder)


def delete_leftovers(folder: Path, within: Path) -> None:
    """Delete what a process that was killed has left half written in a folder, where nobody else writes now."""
    if not folder.is_dir():
        return
    with entered(folder, within) as descriptor:
        for name in os.listdir(descriptor):
            if name.startswith(".") and name.endswith(".tmp"):
                try:
                    os.unlink(name, dir_fd=descriptor)
                except IsADirectoryError:
                    delete_folder(name, descriptor)
