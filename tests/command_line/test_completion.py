"""What the shell completes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from laser_pl.commands.completion import main

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

# What bash does when Tab is pressed behind the last word.
TAB = """
source "$1"; shift
COMP_WORDS=(laser_pl "$@"); COMP_CWORD=$#; COMP_TYPE=9
function=$(complete -p laser_pl); function=${function##*-F }; function=${function%% *}
"$function" laser_pl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by a process of its own, as users make it: it names the classes that are imported there, and no test's."""
    made = subprocess.run([sys.executable, "-m", "laser_pl", "completion", "bash"], cwd=EXPERIMENTS.parent,
                          capture_output=True, text=True, check=True)  # fmt: skip
    path = tmp_path_factory.mktemp("completion") / "bash"
    path.write_text(made.stdout)
    return path


@pytest.mark.parametrize(
    ("words", "among"),
    [
        ([""], ["fit", "validate", "test", "report", "explain", "compare", "export", "completion"]),
        (["fit", "--selection.band"], ["--selection.bandit", "--selection.bandit.alpha", "--selection.bandit.help"]),
        (["fit", "--selection.bandit", ""], ["laser_pl.bandits.LinUCB", "laser_pl.bandits.Thompson"]),
        (["fit", "--selection.granularity", "p"], ["prompt"]),
        (["fit", "--model.matcher.help", ""], ["laser_pl.metrics.matchers.Number"]),
        (["fit", "--optimizer", "torch.optim.AdamW"], ["torch.optim.AdamW"]),
        (["test", "--config", "quickst"], ["quickstart.yaml"]),
        (["fit", "--data.train", "quickstart/prompts/tr"], ["quickstart/prompts/train.jsonl"]),
        (["report", "quick"], ["quickstart"]),
        (["report", "--p"], ["--png"]),
        (["completion", ""], ["bash", "zsh"]),
    ],
)
def test_bash_completes(script: Path, words: list[str], among: list[str]) -> None:
    ended = subprocess.run(["bash", "-c", TAB, "bash", str(script), *words], cwd=EXPERIMENTS, capture_output=True,
                           text=True)  # fmt: skip
    assert ended.returncode == 0
    assert set(among) <= set(ended.stdout.split())
    assert all(word.startswith(words[-1]) for word in ended.stdout.split())


def test_the_script_is_small_enough_to_be_read_at_every_start_of_a_shell(script: Path) -> None:
    assert script.stat().st_size < 400_000  # bash reads 320 kB in some 40 ms


def test_zsh_gets_a_script_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    main(["zsh"])
    text = capsys.readouterr().out
    assert text.startswith("#compdef laser_pl\n")
    assert "--selection.bandit.alpha" in text
    assert "report:" in text
