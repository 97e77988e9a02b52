"""What the README and the manual show does what they say of it. That all of it is accepted: ``test_manual.py``."""

from __future__ import annotations

import glob
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.bandits import Bandit
from laser_pl.batches import Prompt
from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.compare import main as compare
from laser_pl.commands.explain import main as explain
from laser_pl.commands.export import main as export
from laser_pl.metrics.matchers import Matcher
from laser_pl.report.command import main as report
from laser_pl.rewards import RewardModel
from tests.runs import decisions_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORTS, COMPARING = (
    (ROOT / "laser_pl/docs/pages" / f"{page}.md").read_text(encoding="utf-8") for page in ("reports", "comparing")
)
PYTHON = {
    re.findall(r"^class (\w+)", code, re.MULTILINE)[0]: code
    for code in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
}
LOOKS = re.findall(r"^python -m laser_pl (report|explain|export) (.+)$", REPORTS + COMPARING, re.MULTILINE)
(COMPARISON,) = re.findall(r"^python -m laser_pl compare (runs/gap.+)$", README, re.MULTILINE)


def defined(name: str) -> Any:
    """The class of a Python block, which is run as it stands."""
    namespace: dict[str, Any] = {"__name__": f"readme_{name.lower()}"}
    exec(PYTHON[name], namespace)
    return namespace[name]


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a module that a configuration can name, until the test ends: ``importable(name, code)``."""

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(sys.modules, name, sys)  # so that what it was before comes back
        del sys.modules[name]

    return write


# -- reward model, bandit, matcher -------------------------------------------------------------------------------------


def test_brevity_prefers_short_responses() -> None:
    brevity = defined("Brevity")()
    assert isinstance(brevity, RewardModel)
    prompts = [Prompt("p", "1+1=", "a"), Prompt("q", "2+2=", "a")]
    assert brevity.score(prompts, [["two", "2", ""], ["4", "four", "44"]]) == [[-3.0, -1.0, None], [-1.0, -4.0, -2.0]]


def test_brevity_is_an_arm(
    fit: Callable[..., LaserCLI], importable: Callable[[str, str], None], tmp_path: Path
) -> None:
    importable("readme_brevity", PYTHON["Brevity"])
    arms = json.dumps({"brevity": {"class_path": "readme_brevity.Brevity"}})
    run = fit(tmp_path, f"--selection.reward_models={arms}")
    decisions = decisions_of(run)
    assert [d["arm"] for d in decisions] == ["brevity"] * 4
    assert any(d["pairs"] for d in decisions)
    assert run.summary["reward_model_forwards"] == {"brevity": 16 * 6}


def test_alternate_chooses_and_learns(
    fit: Callable[..., LaserCLI], importable: Callable[[str, str], None], tmp_path: Path
) -> None:
    """It stays where the reward was not negative and moves on where it was; its checkpoint holds where it stands."""
    importable("readme_alternate", PYTHON["Alternate"])
    run = fit(tmp_path, "--selection.bandit=readme_alternate.Alternate", "--data.prompts_per_iteration=64")
    decisions, names = decisions_of(run), run.selector.arms
    assert len(decisions) == 16
    expected, moves = 0, 0
    for decision in decisions:
        assert decision["arm"] == names[expected]
        moved = any(reward < 0 for reward in (decision["reward"] or {}).values())
        expected = (expected + moved) % len(names)
        moves += moved
    assert 0 < moves < 16
    state = torch.load(run.folder.checkpoint, weights_only=True)["callbacks"]["RewardSelection"]["bandit"]
    assert state["arm"] == expected


def test_alternates_state_goes_on(through_disk: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    one, two = defined("Alternate")(), defined("Alternate")()
    assert isinstance(one, Bandit)
    contexts, nothing = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    for bandit in (one, two):
        bandit.start(["a", "b", "c"], 4)
    assert one.select(contexts).tolist() == [0, 0]
    one.update(contexts, nothing, torch.tensor([0.5, -0.5]))
    one.update(contexts, nothing, torch.tensor([0.5, 0.0]))
    two.load_state_dict(through_disk(one.state_dict()))
    for bandit in (one, two):
        assert bandit.select(contexts).tolist() == [1, 1]
        for _ in range(2):
            bandit.update(contexts, nothing, torch.tensor([-1.0, -1.0]))
        assert bandit.select(contexts).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [("Listen", "silent", True), ("Final answer: a gentleman", "elegant man", True), ("lists", "silent", False)],
)
def test_same_letters_match_in_any_order(response: str, answer: str, right: bool) -> None:
    matcher = defined("SameLetters")()
    assert isinstance(matcher, Matcher)
    assert matcher.matches(response, answer) == right


# -- commands --------------------------------------------------------------------------------------------------------


def test_runs_are_compared_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for preset in ("gap", "paper"):
        fit(tmp_path, f"--config={ROOT}/experiments/presets/{preset}.yaml", f"--name={preset}-0")
    monkeypatch.chdir(tmp_path)
    words = [path for word in shlex.split(COMPARISON) for path in (sorted(glob.glob(word)) or [word])]
    assert [row.name for row in compare(words)] == ["gap", "paper"]
    for ending in ("md", "csv", "png"):
        assert (tmp_path / "comparison" / f"comparison.{ending}").is_file()


def test_the_loop_over_alpha_works_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell says what it would run; two of those runs, cut down, are compared by the command below it."""
    (loop,) = re.findall(r"^for alpha.*?^done$", COMPARING, re.MULTILINE | re.DOTALL)
    (comparison,) = re.findall(r"^python -m laser_pl compare (runs/alpha.+)$", COMPARING, re.MULTILINE)
    told = subprocess.run(
        ["bash", "-c", f'python() {{ echo "$*"; }}\n{loop}'], capture_output=True, text=True, check=True
    )
    commands = [shlex.split(line) for line in told.stdout.splitlines()]
    assert len({tuple(command) for command in commands}) == len(commands) == 5 * 3
    assert all(
        command[:5] == shlex.split("-m laser_pl fit --config experiments/quickstart.yaml") for command in commands
    )
    for command in (commands[0], commands[-6]):  # alpha 0.1 and 1.0, with the first seed
        fit(tmp_path, *command[5:])
    monkeypatch.chdir(tmp_path)
    words = [path for word in shlex.split(comparison) for path in (sorted(glob.glob(word)) or [word])]
    assert {row.name for row in compare(words)} == {"alpha-0.1", "alpha-1.0"}


def test_a_run_is_looked_at_as_shown(
    fit: Callable[..., LaserCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, "--name=quickstart")
    monkeypatch.chdir(tmp_path)
    for command, words in LOOKS:
        # The run here has four steps.
        args = [re.sub(r"^120$", "3", word) for word in shlex.split(words, comments=True)]
        {"report": report, "explain": explain, "export": export}[command](args)
    assert (tmp_path / "runs/quickstart/report.html").is_file()
    assert (tmp_path / "runs/quickstart/figures/arms.png").is_file()
    assert (tmp_path / "pairs.jsonl").is_file()


def test_paper_to_code_names_what_is_there() -> None:
    """Files of the library, presets and tests; and the class that is named with a file."""
    section = README.split("## From the paper to the code")[1].split("\n## ")[0]
    named = re.findall(r"`([\w/]+\.(?:py|yaml))(?:: (\w+))?`", section)
    assert len(named) > 15
    folders = [ROOT, *(ROOT / name for name in ("laser_pl", "experiments", "tests"))]
    for name, member in named:
        found = [folder / name for folder in folders if (folder / name).is_file()]
        assert len(found) == 1, name
        assert not member or f"class {member}" in found[0].read_text(encoding="utf-8"), f"{name}: {member}"
