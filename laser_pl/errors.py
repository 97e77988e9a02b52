"""The one error that is the user's to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ConfigurationError(ValueError):
    """A mistake in the configuration, the data or the environment, reported in one sentence.

    The sentence names the file, row or setting, the value found, and what to do. ``laser_pl.main`` prints it without a
    traceback and ends with exit code 2.
    """


@contextmanager
def writable(where: Path, advice: str = "") -> Iterator[None]:
    """Run a block that writes, and tell what the system refuses as a mistake of that kind.

    Args:
        where: What the user named.
        advice: A sentence on what to do.

    Raises:
        ConfigurationError: If something cannot be written.
    """
    try:
        yield
    except OSError as error:
        sentence = f"Nothing can be written to '{where}': {error.strerror}."
        raise ConfigurationError(f"{sentence} {advice}".rstrip()) from error
