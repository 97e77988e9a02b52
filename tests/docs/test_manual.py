"""What README.md, experiments/README.md and the pages of the manual show works as it stands there."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.__main__ import run as laser_pl
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.labelling.command import arguments
from laser_pl.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "laser_pl/docs/pages").glob("*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md", "experiments/README.md")),
    *PAGES,
]
FENCE = re.compile(r'^```(\w*)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LIGHTNING = ("fit", "validate", "test", "predict", "plan")
WORDS = re.compile(r"`((?:make|python|wandb|sbatch|OMP_NUM_THREADS=\d python) [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A piece of code in a document."""

    document: Path
    kind: str
    title: str
    code: str


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def prose(document: Path) -> str:
    """All but the blocks."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def blocks(*kinds: str) -> list[Any]:
    found = [Block(path, *match) for path in DOCUMENTS for match in FENCE.findall(path.read_text(encoding="utf-8"))]
    wanted = [block for block in found if block.kind in kinds]
    return [pytest.param(b, id=f"{name_of(b.document)}: {b.title or b.code.split(chr(10))[0]}") for b in wanted]


def but_the_tutorial(*kinds: str) -> list[Any]:
    """Its own are run, one after the other: ``test_tutorial.py``."""
    return [one for one in blocks(*kinds) if one.values[0].document.stem != "tutorial"]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Write the files that a document shows, so that they can be named and imported: ``written(document)``."""

    def write(document: Path) -> Path:
        for _, title, code in FENCE.findall(document.read_text(encoding="utf-8")):
            if title:
                (tmp_path / title).write_text(code.replace("experiments/", f"{ROOT}/experiments/"))
                monkeypatch.setitem(sys.modules, Path(title).stem, sys)  # so that what it was before comes back
                del sys.modules[Path(title).stem]
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return write


def test_every_block_says_what_it_is() -> None:
    """One of another kind gets a test here; ``text`` is what a program says, or a picture."""
    kinds = {kind for path in DOCUMENTS for kind, *_ in FENCE.findall(path.read_text(encoding="utf-8"))}
    assert kinds == {"sh", "python", "yaml", "json", "text"}
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert 2 * len(FENCE.findall(text)) == len(re.findall(r"^ *```", text, re.MULTILINE)), path


# -- commands ----------------------------------------------------------------------------------------------------------


class Accepted(BaseException):
    """Raised in place of what a command would do with its arguments."""


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands end where their own parsers have accepted their arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise Accepted(parse(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:  # those beside a script are found by bare names
        if str(ROOT / "experiments") in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


RECORDED = ("python", "make", "torchrun", "sbatch", "wandb", "pip", "hf")


def commands_of(code: str) -> list[list[str]]:
    """What a shell would run, were everything recorded that it is asked to run; what is unknown fails."""
    recorders = "\n".join(f'{name}() {{ printf "%q " {name} "$@"; echo; }}' for name in RECORDED)
    script = f"set -euo pipefail\nPATH=\n{recorders}\n{code}"
    told = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, cwd="/")
    assert told.returncode == 0, told.stderr
    return [shlex.split(line) for line in told.stdout.splitlines()]


def assert_accepted(command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that its own parser takes, or whose files and targets are there."""
    program, *words = command
    if program == "torchrun":
        program, words = "python", words[words.index("-m") :]
    if program == "python" and words[:3] == ["-m", "laser_pl", "label"]:  # takes what fit takes, beside its own
        _, of_fit = arguments().parse_known_args(words[3:])
        words = [*words[:2], "fit", *of_fit]
    if program == "python" and words[:2] == ["-m", "laser_pl"] and words[2] in LIGHTNING:
        for option, value in itertools.pairwise(words):
            if option == "--ckpt_path":
                assert Path(value) == RunFolder(Path("runs/quickstart")).checkpoint
        command = ["fit" if words[2] == "plan" else words[2], *words[3:]]
        asks = any(word in {"--help", "--print_config"} or word.endswith(".help") for word in command)
        with pytest.raises(SystemExit) as end:
            main(command if asks else [*command, "--print_config"])
        assert end.value.code == 0, capsys.readouterr().err
    elif program == "python" and words[:2] == ["-m", "laser_pl"]:
        monkeypatch.setattr(sys, "argv", words[1:])
        with pytest.raises(Accepted):
            laser_pl()
    elif program == "python":
        script = Path(words[0])
        if "argparse" in script.read_text(encoding="utf-8"):
            monkeypatch.setattr(sys, "argv", words)
            sys.path.insert(0, str(script.resolve().parent))
            with pytest.raises(Accepted):
                runpy.run_path(words[0], run_name="__main__")
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == "hf":  # of huggingface_hub: a repository, and a folder of ours
        assert [words[0], *map(Path, words[2:])] == ["upload", RunFolder(Path("runs/quickstart")).adapter]
    elif program == "pip":
        extras = re.findall(r"^(\w+) = \[", Path("pyproject.toml").read_text(), re.MULTILINE)
        (extra,) = re.findall(r"^install laser_pl\[(\w+)\]$", " ".join(words))
        assert extra in extras
    else:
        paths = [word for word in words if word.startswith("experiments/")]
        assert paths
        assert all(Path(path).is_file() for path in paths)


@pytest.mark.parametrize("block", but_the_tutorial("sh"))
@pytest.mark.usefixtures("only_parsed")
def test_commands_are_accepted(
    block: Block,
    written: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the repository's root, with the page's own files at hand."""
    monkeypatch.chdir(ROOT)
    folder = written(block.document)
    commands = commands_of(block.code)
    assert commands
    accepted: list[list[str]] = []
    for command in commands:
        shape = [re.sub(r"\d+(\.\d+)?", "0", word) for word in command]
        if shape not in accepted:  # in a loop, one of those that differ in numbers only
            assert_accepted(
                [str(folder / word) if (folder / word).is_file() else word for word in command], capsys, monkeypatch
            )
            accepted.append(shape)


@pytest.mark.usefixtures("only_parsed")
def test_commands_in_tables_and_sentences_are_accepted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a configuration's own header are tested with it (``test_experiments.py``)."""
    monkeypatch.chdir(ROOT)
    headers = {line for path in (ROOT / "experiments").rglob("*.yaml") for line in path.read_text().splitlines()}
    headers = {" ".join(line.split()[2:]) for line in headers if line.startswith("# Run:")}
    named = {command for path in DOCUMENTS for command in WORDS.findall(prose(path))}
    assert len(named & headers) > 40
    for command in sorted(named - headers - {"wandb agent SWEEP", "wandb sync"}):
        ((program, *words),) = commands_of(command)
        assert_accepted([program, *words], capsys, monkeypatch)


# -- Python, configurations, data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", but_the_tutorial("python"))
def test_python_runs_as_it_stands(block: Block, written: Callable[[Path], Path]) -> None:
    """Tests among it pass."""
    written(block.document)
    namespace: dict[str, Any] = {"__name__": "shown"}
    exec(compile(block.code, block.title or name_of(block.document), "exec"), namespace)
    shown = {name: value for name, value in namespace.items() if getattr(value, "__module__", None) == "shown"}
    assert shown
    for name, value in shown.items():
        if name.startswith("test_"):
            value()


@pytest.mark.parametrize("block", blocks("json"))
def test_rows_are_json(block: Block) -> None:
    rows = [json.loads(line) for line in block.code.splitlines()]
    assert all({"prompt", "answer"} <= row.keys() for row in rows)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_configuration_is_accepted(
    block: Block, written: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Over the quickstart, with every class looked up; what the parser understood is what is written there."""
    monkeypatch.chdir(ROOT)
    written(block.document)
    code = block.code
    if block.title == "judge.yaml":  # of `winrate`, which reads it as a configuration reads a reward model
        code = f"selection:\n  reward_models:\n    judge:\n{textwrap.indent(code, '      ')}"
    (tmp_path / "shown.yaml").write_text(code)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config=experiments/quickstart.yaml", f"--config={tmp_path / 'shown.yaml'}", "--print_config"])
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    given, parsed = yaml.safe_load(code), yaml.safe_load(told.out)
    assert dict(leaves(given)).items() <= dict(leaves(parsed)).items()


def leaves(node: Any, path: str = "") -> list[tuple[str, str]]:
    """Every value of a configuration with the way to it."""
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}")]
    return [(path, repr(node))]


@pytest.mark.parametrize("page", ["reward-models", "bandits", "tasks"])
def test_what_a_page_adds_trains(
    page: str, fit: Callable[..., LaserCLI], written: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run of the quickstart with the page's own files."""
    folder = written(ROOT / f"laser_pl/docs/pages/{page}.md")
    monkeypatch.chdir(folder)
    own = yaml.safe_load((folder / "my.yaml").read_text())
    run = fit(folder, "--config=my.yaml")
    assert run.folder.path.name == own["name"]
    assert run.summary["steps"] == len(run.folder.selection.read_text().splitlines()) > 0
    arms = {json.loads(line)["arm"] for line in run.folder.selection.read_text().splitlines()}
    if "reward_models" in own.get("selection", {}):
        assert arms <= set(own["selection"]["reward_models"]) == set(run.selector.arms)


# -- what is named -----------------------------------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """Anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(FENCE, "", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    """Also to headings. A page of the manual leads to nothing outside of it; its links are tested as it is built."""
    text = prose(document)
    links = re.findall(r"\]\(([^)]+)\)", text)
    if document in PAGES:
        assert not [link for link in links if link.startswith(("http", "/", ".."))]
        assert "://" not in text
    else:
        assert links
        for link in links:
            if not link.startswith("https://"):
                target, _, anchor = link.partition("#")
                assert (document.parent / target).exists(), link
                assert not anchor or anchor in slugs((document.parent / target).read_text(encoding="utf-8")), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_are_named_are_there(document: Path) -> None:
    text = prose(document)
    named = re.findall(r"`((?:laser_pl|callbacks|experiments|tests|\.ci)/[\w./-]+)`", text)
    made = {
        f"experiments/smollm2/{name}" for name in ("SmolLM2-135M-Instruct", "prompts", "reward_models")
    }  # by scripts
    assert [name for name in named if not (ROOT / name).exists() and name not in made] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_row_of_a_table_stands_twice(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [line for line, following in itertools.pairwise(lines) if line.startswith("|") and line == following] == []


def test_every_experiment_is_in_their_table() -> None:
    """Every configuration, and every script that can be run."""
    table = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {5}
    assert all(cell.strip(" |") for row in rows for cell in row)
    linked = {(ROOT / "experiments" / link).resolve() for row in rows for link in re.findall(r"\]\((.+?)\)", row[1])}
    experiments = ROOT / "experiments"
    scripts = {path for path in experiments.rglob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert linked >= scripts | {*experiments.rglob("*.yaml"), *experiments.rglob("*.sh")}


def tree_of(block: str) -> set[str]:
    """Paths of an indented tree, folders with a slash at the end."""
    paths, above = set(), {0: ""}
    for line in block.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        path = above[indent] + name
        paths.add(path)
        if name.endswith("/"):
            above[indent + 2] = path
    return paths


def test_the_manuals_tree_names_every_file_that_is_there() -> None:
    page = (ROOT / "laser_pl/docs/pages/files.md").read_text(encoding="utf-8")
    tree = tree_of(re.findall(r"```text\n(laser_pl/ .*?)```", page, re.DOTALL)[0])
    assert {path for path in tree if not (ROOT / path).exists()} == set()
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("laser_pl", "callbacks")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert {path for path in tree if path.endswith(".py")} == modules
