"""`init` writes a configuration that `plan` and `fit` take, says what it guessed, and overwrites nothing silently."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import yaml

from laser_pl.commands.cli import main as laser_pl
from laser_pl.data.tables import Table
from laser_pl.first_config.command import arguments, guess, main
from laser_pl.first_config.written import written

ROOT = Path(__file__).resolve().parents[2]

SMALL = ["--trainer.max_epochs=1", "--data.rollouts.n=2", "--data.rollouts.max_new_tokens=4", "--quiet",
         "--model.evaluation.max_new_tokens=4", "--model.evaluation.n=1", "--trainer.accelerator=cpu"]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n), "kind": ("odd", "even\x1b[31m")[n % 2]} for n in range(20)]
    Path("sums.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_what_is_written_runs(
    policy_folder: Path, classifier_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    judges = [str(classifier_folders[name]) for name in "ab"]
    done = main(["--model", str(policy_folder), "--data", "sums.jsonl", "--reward_models", *judges, "--out", "my.yaml"])
    text, said = Path("my.yaml").read_text(), capsys.readouterr().out
    assert said.startswith("my.yaml is written, from 20 rows; reward models: ")
    assert said.endswith("Next: python -m laser_pl plan --config my.yaml\n")
    for question in done.config.open_questions:
        assert question in " ".join(said.split())
        assert question in " ".join(text.replace("\n#", "").split())
    assert "\x1b" not in text + said
    assert "# Memory: " in text
    found = yaml.safe_load(text)
    assert found["data"]["columns"] == {"prompt": "question", "answer": "answer", "category": "kind"}
    assert all(" # " in line for line in text.splitlines() if line.startswith("  ") and line[4:5] != " "
               and not line.rstrip().endswith((":", "}")))  # fmt: skip
    run = laser_pl(["fit", "--config", "my.yaml", "--config", "preset:trusted", *SMALL])
    assert run.summary["steps"] >= 1
    assert {line["arm"] for line in map(json.loads, run.folder.selection.read_text().splitlines())} <= {
        path.name for path in classifier_folders.values()
    }


def test_a_file_that_is_there_stays(policy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text("mine")
    with pytest.raises(SystemExit) as end:
        main(["--model", str(policy_folder), "--data", "sums.jsonl"])
    assert end.value.code == 2
    assert "'my.yaml' is there already. Give --out another name, or say --force." in capsys.readouterr().err
    assert Path("my.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "init: give --model and --data."),
        (["--model", "no/such/model/folder", "--data", "sums.jsonl"], "no/such/model/folder"),
        (["--model", "x", "--data", "sums.jsnl"], "sums.jsnl"),
        (["--model", "x", "--data", "none.csv"], "There is no file 'none.csv'."),
        (["--model", "x", "--data", "notes.txt"], "from 'notes.txt': it is a file of another kind."),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("a\nb\n")
    with pytest.raises(SystemExit) as end:
        main([*args])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not Path("my.yaml").exists()


def test_what_plan_would_refuse_is_said_with_what_was_written(
    policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--model", str(policy_folder), "--data", "sums.jsonl", "--reward_models", "no_such_module.brevity"])
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out.startswith("my.yaml is written")
    assert "no_such_module" in said.err
    assert "no_such_module.brevity" in Path("my.yaml").read_text()


def test_the_manual_shows_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is that of the machine it was written on."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "laser_pl/docs/pages/first-config.md").read_text()
    (command,) = re.findall(
        r"^python -m laser_pl init (.*?) --out my.yaml$", page.replace(" \\\n   ", ""), re.MULTILINE
    )
    (shown,) = re.findall(r'^```yaml title="my.yaml"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    options = arguments().parse_args(command.split())
    found = guess(options.model, Table(options.data), options.reward_models, "my")
    memory = re.findall(r"^# Memory: (.*)$", shown, re.MULTILINE)
    assert written(found, f"python -m laser_pl init {command} --out my.yaml", "my.yaml", memory) == shown


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def test_it_asks_where_somebody_sits_there(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"\n{policy_folder}\nsums.jsonl\n\nown name.yaml\n"))
    done = main([])
    assert (done.path, list(done.config.arms)) == (Path("own name.yaml"), ["verifier"])
    assert "plan --config 'own name.yaml'" in Path("own name.yaml").read_text()
