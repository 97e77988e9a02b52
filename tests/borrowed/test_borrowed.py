"""Names from the inside of other packages: which one has moved is said by its name, and who needs it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelSummary

ROOT = Path(__file__).parents[2] / "laser_pl"
PACKAGES = {"jsonargparse", "lightning", "transformers", "torch", "peft", "huggingface_hub"}


def borrowed_in(source: str) -> Iterator[tuple[str, str]]:
    """Modules and names that begin with an underscore, or lie in a module that does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            module = node.module or ""
            for alias in node.names:
                if "._" in module or alias.name.startswith("_"):
                    yield module, alias.name


def every_name() -> dict[tuple[str, str], list[str]]:
    """Each with the files that need it."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for name in borrowed_in(path.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


NAMES = every_name()


def why_moved(module: str, name: str) -> str | None:
    """What is gone; None if it is where it was."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"the module {error.name}"
    return None if hasattr(found, name) else f"{module}.{name}"


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_a_borrowed_name_is_where_it_was(module: str, name: str) -> None:
    gone = why_moved(module, name)
    assert gone is None, f"{gone} has moved; {', '.join(NAMES[module, name])} needs it"


def test_a_name_that_has_moved_is_named() -> None:
    assert why_moved("jsonargparse._actions", "_NoSuch") == "jsonargparse._actions._NoSuch"
    assert why_moved("jsonargparse._no_such", "find_action") == "the module jsonargparse._no_such"
    (found,) = borrowed_in("from torch._x import y\nfrom torch.nn import Linear\nfrom os import _exit")
    assert found == ("torch._x", "y")


def test_jsonargparse_lends_its_names_in_one_place() -> None:
    files = {file for (module, _), files in NAMES.items() if module.startswith("jsonargparse") for file in files}
    assert files == {"borrowed/jsonargparse.py"}


def test_attributes_of_a_parser_a_trainer_and_callbacks_are_there() -> None:
    parser, command = ArgumentParser(exit_on_error=False), ArgumentParser(exit_on_error=False)
    command.add_argument("--size", type=int | None)
    parser.add_subcommands().add_subcommand("fit", command)
    assert parser._subcommands_action is not None
    assert parser._subcommands_action._name_parser_map == {"fit": command}
    assert command._actions[-1]._typehint == int | None  # type: ignore[attr-defined]
    assert isinstance(parser._action_groups, list)  # type: ignore[attr-defined]
    assert callable(Trainer(accelerator="cpu", logger=False)._signal_connector.register_signal_handlers)
    assert ModelSummary(max_depth=2)._max_depth == 2
    assert EarlyStopping("x", check_on_train_epoch_end=True)._check_on_train_epoch_end
