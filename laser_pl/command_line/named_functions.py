"""What is wrong with the import path of a function, in words that name what was perhaps meant."""

from __future__ import annotations

import pkgutil
import re
import reprlib
import sys
from collections.abc import Iterator
from types import ModuleType

from laser_pl.messages.suggestions import closest, perhaps

_FEW = 10


def why_no_function(path: str, why: str) -> str:
    """Why a configuration's import path gives no function. Nothing is imported that the parser has not.

    Args:
        path: As it was given.
        why: What the parser says.

    >>> why_no_function("json.lodas", "module 'json' has no attribute 'lodas'")
    "the module 'json' has no function 'lodas'. Did you mean 'json.loads'?"
    >>> why_no_function("jsn.loads", "No module named 'jsn'")
    "there is no module 'jsn'. Did you mean 'json.loads'?"
    >>> why_no_function("length", "Expected a dot import path string: length")
    "'length' is no import path of a function. Write it as module.function."
    """
    module, _, name = path.rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        return f"'{path}' is no import path of a function. Write it as module.function."
    loaded = sys.modules.get(module)
    if loaded is not None and not hasattr(loaded, name):
        known = list(_functions(loaded))
        meant = closest(name, known)
        there_is = f"It has {', '.join(known)}." if 0 < len(known) <= _FEW else ""
        return f"the module '{module}' has no function '{name}'.{perhaps(meant and f'{module}.{meant}', there_is)}"
    if loaded is not None:
        return f"'{path}' is no function, but {reprlib.repr(getattr(loaded, name))}."
    missing = re.search(r"No module named '([^']+)'", why)
    if missing is None or not f"{module}.".startswith(f"{missing[1]}."):
        return f"'{path}' cannot be imported: {why.rstrip('.')}."
    above, _, last = missing[1].rpartition(".")
    meant = closest(last, _modules_in(above))
    instead = meant and f"{above}.{meant}".lstrip(".") + path[len(missing[1]) :]
    advice = f"Start where {last}.py lies, or install what it belongs to." if not above else ""
    return f"there is no module '{missing[1]}'.{perhaps(instead, advice)}"


def _functions(module: ModuleType) -> Iterator[str]:
    return (name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))


def _modules_in(package: str) -> Iterator[str]:
    """Modules that could be imported: from a package, or from anywhere; empty name for that."""
    folders = list(getattr(sys.modules.get(package), "__path__", [])) if package else None
    return (found.name for found in pkgutil.iter_modules(folders))
