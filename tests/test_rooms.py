"""The rooms of the library: imports between them go down only."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from laser_pl.moved import MOVED

ROOT = Path(__file__).parents[1]


def room_of(module: str) -> str:
    """The folder a module lies in, or its own name if it lies loose."""
    return f"{module}.".split(".")[1]


def imports_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which rooms each room imports, wherever in a file it does so."""
    rooms: dict[str, set[str]] = {}
    for module, source in sources.items():
        own = rooms.setdefault(room_of(module), set())
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" if node.module == "laser_pl" else str(node.module) for name in names]
            own |= {room_of(name) for name in names if name.partition(".")[0] == "laser_pl"}
        own.discard(room_of(module))
    return rooms


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    files = [*(ROOT / "laser_pl").rglob("*.py"), *(ROOT / "laser_pl/callbacks").glob("*.py")]  # which is a link
    named = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in files}
    return {
        module.removesuffix(".__init__"): path.read_text(encoding="utf-8")
        for module, path in named.items()
        if module != "laser_pl.__init__"  # it hands the rooms' names out
    }


def test_imports_go_down_only(sources: dict[str, str]) -> None:
    order = list(TopologicalSorter(imports_of(sources)).static_order())
    assert order.index("batches") < order.index("selection") < order.index("callbacks") < order.index("commands")
    assert not [room for room, below in imports_of(sources).items() if "integrations" in below]


@pytest.mark.parametrize(
    "upward", ["from laser_pl.commands.cli import main", "def f():\n    import laser_pl.callbacks.run_record"]
)
def test_one_import_upward_makes_a_knot(sources: dict[str, str], upward: str) -> None:
    module = "laser_pl.selection.panel"
    with pytest.raises(CycleError):
        TopologicalSorter(imports_of({**sources, module: f"{sources[module]}\n{upward}\n"})).prepare()


def test_at_most_four_modules_lie_loose() -> None:
    loose = {path.stem for path in (ROOT / "laser_pl").glob("*.py")} - {"__init__"}
    assert loose == {"__main__", "batches", "errors", "moved"}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_is_found_with_a_warning_that_says_the_new_one(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = importlib.import_module(new)
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(FutureWarning, match=f"^{re.escape(old)} is {re.escape(new)} now"):
        found = importlib.import_module(old)
    monkeypatch.delitem(sys.modules, old)
    names = [name for name in vars(here) if not name.startswith("__")]
    assert names
    assert all(getattr(found, name) is getattr(here, name) for name in names)


def test_a_name_that_there_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"laser_pl\.nonsense"):
        importlib.import_module("laser_pl.nonsense")
