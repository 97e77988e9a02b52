"""Keys: taken out of a text before it is shortened, quoted, shown or written."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from laser_pl.errors import ConfigurationError

_OF_ENVIRONMENT = re.compile(r"(?i)(^|_)(key|token|secret|password|passwd)$")
_OF_SETTING = re.compile(
    r"(?i)^(.*_)?(api_?key|api_?token|access_?token|auth_?token|hf_?token|bearer|authorization|password|passwd|secret"
    r"|secret_?key|access_?key|private_?key)$"
)
_IN_ADDRESS = re.compile(r"(?i)^(.*[_-])?(key|token|secret|password|passwd|sig|signature|auth)$|apikey$")
_SHORTEST = 8
"""Characters of a key in a row that no text shows; shorter pieces stand in ordinary words as well."""


def known_keys() -> set[str]:
    """Values of the environment that are named like keys, and long enough to be one."""
    return {
        value
        for name, value in os.environ.items()
        if _OF_ENVIRONMENT.search(name) and len(value) >= _SHORTEST and not value.startswith(("/", "."))
    }


def masked(text: str, *keys: str | None) -> str:
    """A text with stars for each piece of a key, as it is, percent-encoded or in base 64.

    Args:
        text: Such as what a server answered to whoever sent it a key.
        keys: Further keys beside those of the environment.

    >>> masked("you sent 'Bearer abcdefgh12345678', or abcdefgh12...", "abcdefgh12345678")
    "you sent 'Bearer ***', or ***..."
    """
    hidden = bytearray(len(text))
    for width, pieces in _pieces(frozenset({*known_keys(), *filter(None, keys)})).items():
        for start in range(len(text) - width + 1):
            if text[start : start + width] in pieces:
                hidden[start : start + width] = b"\1" * width
    if not any(hidden):
        return text
    shown = "".join("\0" if hide else character for hide, character in zip(hidden, text, strict=True))
    return re.sub("\0+", "***", shown)


@lru_cache(maxsize=16)
def _pieces(keys: frozenset[str]) -> dict[int, set[str]]:
    """What no text shows, by its length: a server's reply may have a hundred thousand texts."""
    found: dict[int, set[str]] = {}
    for key in keys:
        for form in {key, quote(key, safe=""), base64.b64encode(key.encode()).decode().rstrip("=")}:
            width = min(_SHORTEST, len(form))
            found.setdefault(width, set()).update(form[start : start + width] for start in range(len(form) - width + 1))
    return found


def masked_in(value: Any, *keys: str | None) -> Any:
    """The same for all texts in what JSON can hold."""
    if isinstance(value, str):
        return masked(value, *keys)
    if isinstance(value, list):
        return [masked_in(one, *keys) for one in value]
    if isinstance(value, dict):
        return {masked_in(name, *keys): masked_in(one, *keys) for name, one in value.items()}
    return value


def key_in_address(url: str) -> str | None:
    """What of an address is a key, in words; None if nothing is."""
    try:
        parts = urlsplit(url)
        if parts.username or parts.password:
            return "a name or password"
        names = [name for name, value in parse_qsl(parts.query) if value and _IN_ADDRESS.search(name)]
    except ValueError:
        return None
    return f"'{names[0]}'" if names else None


def refuse_keys(settings: Iterable[tuple[str, Any]]) -> None:
    """See that a configuration holds no key: it is written to the run's folder, and loggers send it on.

    Args:
        settings: Names and values.

    Raises:
        ConfigurationError: If it does. The message does not say it.
    """
    for name, value in settings:
        if isinstance(value, str) and value and (found := _key_in(name, value)):
            raise ConfigurationError(
                f"{name} holds {found}, which would stand in the run's config.yaml and go to its loggers. Take it out,"
                " and put it into an environment variable that whoever needs it reads."
            )


def _key_in(name: str, value: str) -> str | None:
    if _OF_SETTING.match(name.rpartition(".")[2]):
        return "a key"
    for address in _addresses(value):
        if found := key_in_address(address):
            return f"an address with {found}"
    return "the value of an environment variable that is a key" if any(key in value for key in known_keys()) else None


def _addresses(text: str) -> Iterator[str]:
    yield from re.findall(r"[a-z][a-z0-9+.-]*://\S+", text)
