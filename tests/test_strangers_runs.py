"""A stranger's run: each attack against each command that looks at runs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laser_pl.cli import LaserCLI
from laser_pl.cli import main as laser
from laser_pl.compare import main as compare
from laser_pl.errors import ConfigurationError
from laser_pl.explain import main as explain
from laser_pl.export import main as export
from laser_pl.push import main as push
from laser_pl.report.command import main as report
from laser_pl.run.files import append_text, entered, writing, written_aside
from laser_pl.run.folder import RunFolder
from laser_pl.winrate.command import main as winrate

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20.0
"""For any command on a run of one step, on a busy machine; an attack that is not held takes minutes, or for ever."""
PAYLOAD = """
from pathlib import Path
from laser_pl.bandits.context import ContextPreparation

Path({mark!r}).write_text("code of the run's folder ran")


class X(ContextPreparation):
    pass
"""


@pytest.fixture(scope="module")
def finished(fit: Callable[..., LaserCLI], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step, tested on two prompts."""
    return fit(tmp_path_factory.mktemp("finished"), "--data.prompts_per_iteration=4").folder.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that an attack may change."""
    return shutil.copytree(finished, tmp_path / "stranger")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, beside the run."""
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_token_of_a_test")


def judge_file(folder: Path) -> Path:
    path = folder / "judge.yaml"
    path.write_text("class_path: laser_pl.rewards.Verifier\n")
    return path


def predict(run: Path, out: Path) -> None:
    laser(["predict", f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}",
           f"--out={out / 'predictions.jsonl'}"])  # fmt: skip


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "report": lambda run, out: report([str(run)]),
    "report --png": lambda run, out: report([str(run), "--png"]),
    "explain": lambda run, out: explain([str(run), "--step", "0"]),
    "compare": lambda run, out: compare([str(run), "--out", str(out / "comparison")]),
    "export": lambda run, out: export([str(run), "--out", str(out / "pairs.jsonl")]),
    "push": lambda run, out: push([str(run), "--repo", "a/b"]),  # HF_HUB_OFFLINE refuses last
    "winrate": lambda run, out: winrate([str(run), "--judge", str(judge_file(out)), "--out", str(out / "rates")]),
    "predict": predict,
}
RECORDS = ("report", "explain", "compare", "export", "push")
"""Those that read what a run recorded; each takes a moment, the others load a model."""


def ends_well(command: str, run: Path, out: Path) -> int:
    """The exit code, which is 0 or 2 and comes within seconds."""
    before = time.monotonic()
    try:
        COMMANDS[command](run, out)
        code: Any = 0
    except SystemExit as end:
        code = end.code
    assert code in (0, 2)
    assert time.monotonic() - before < SECONDS
    return int(code)


def change_config(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


# -- code --------------------------------------------------------------------------------------------------------------

NAMES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a context": lambda c: c["selection"].update(context={"class_path": "payload_of_run.X"}),
    "a context by its name alone": lambda c: c["selection"].update(context="payload_of_run.X"),
    "a bandit": lambda c: c["selection"].update(bandit={"class_path": "payload_of_run.X"}),
    "a matcher": lambda c: c["model"].update(matcher={"class_path": "payload_of_run.X"}),
    "a callback": lambda c: c["trainer"].update(callbacks=[{"class_path": "payload_of_run.X"}]),
    "a reward function": lambda c: c["selection"]["reward_models"].update(
        x={"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "payload_of_run.X"}}
    ),
    "remote code": lambda c: c["model"]["weights"].update(trust_remote_code=True),
    "a system's function": lambda c: c["selection"]["reward_models"].update(
        x={"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "os.system"}}
    ),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("command", ["report", "explain", "compare", "export", "push", "winrate", "predict"])
def test_a_run_that_is_looked_at_runs_nothing_of_its_own(
    run: Path, tmp_path: Path, command: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (run / "payload_of_run.py").write_text(PAYLOAD.format(mark=str(mark)))
    monkeypatch.syspath_prepend(run)
    monkeypatch.delitem(sys.modules, "payload_of_run", raising=False)
    change_config(run, NAMES[what])
    code = ends_well(command, run, tmp_path)
    assert not mark.exists()
    if command in ("winrate", "predict") or (command == "explain" and what.startswith("a context")):
        assert code == 2
    else:
        assert code == (2 if command == "push" else 0)


@pytest.mark.parametrize("name", ["logging", "rich"])
def test_a_run_that_one_stands_in_is_not_imported_from(run: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    (run / f"{name}.py").write_text(PAYLOAD.format(mark=str(mark)))
    change_config(run, lambda c: c["selection"].update(context={"class_path": f"{name}.X"}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for command in (["report", "."], ["export", ".", "--out", str(tmp_path / "pairs.jsonl")]):
        done = subprocess.run([sys.executable, "-m", "laser_pl", *command], cwd=run, env=environment, check=False)
        assert done.returncode == 0
    assert not mark.exists()


def test_who_consents_is_taken_at_their_word(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    (run / "payload_of_run.py").write_text(PAYLOAD.format(mark=str(mark)))
    monkeypatch.syspath_prepend(run)
    monkeypatch.delitem(sys.modules, "payload_of_run", raising=False)
    change_config(run, NAMES["a context"])
    explain([str(run), "--step", "0", "--trust_run"])
    assert mark.exists()


def test_a_run_sends_no_prompt_to_a_server_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = {"class_path": "laser_pl.rewards.RemoteReward",
              "init_args": {"url": "http://127.0.0.1:9/", "api_key_variable": "HF_TOKEN",
                            "protocol": {"class_path": "laser_pl.rewards.protocols.OpenRLHF"}}}  # fmt: skip
    change_config(run, lambda c: c["selection"]["reward_models"].update(x=server))
    assert ends_well("predict", run, tmp_path) == 2
    assert "would be sent to a server" in capsys.readouterr().err


# -- links -------------------------------------------------------------------------------------------------------------

LINKS = ("report.html", "summary.json", "config.yaml", "pairs.jsonl", "selection.jsonl", "metrics.csv",
         "adapter/README.md", "adapter/adapter_config.json", "adapter", "rollouts", "rollouts/iteration-000", "figures",
         "responses")  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("command", ["report --png", "explain", "compare", "export", "push"])
def test_links_in_a_run_are_refused(
    run: Path, victim: Path, tmp_path: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, outside = run / name, tmp_path / "outside"
    if place.is_dir() or name in ("figures", "responses"):
        shutil.copytree(place, outside) if place.exists() else outside.mkdir()
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(outside)
    else:
        shutil.copy(place, victim)
        place.unlink()
        place.symlink_to(victim)
    before = {path: path.read_bytes() for path in [victim, *outside.rglob("*")] if path.is_file()}
    assert ends_well(command, run, tmp_path) == 2
    assert "is a link" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in [victim, *outside.rglob("*")] if path.is_file()} == before


def test_the_run_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(run)
    assert ends_well("report", tmp_path / "best", tmp_path) == 0


def test_names_that_could_be_guessed_are_not_written_to(run: Path, victim: Path, tmp_path: Path) -> None:
    (run / "report.html.tmp").symlink_to(victim)
    report([str(run)])
    assert victim.read_text() == "precious"


def test_a_link_that_comes_between_look_and_use_is_not_followed(run: Path, tmp_path: Path) -> None:
    """The folder is swapped for a link while the file is being written; it lands where the folder was opened."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with writing(run / "adapter" / "README.md", run) as file:
        file.write(b"card")
        (run / "adapter").rename(run / "moved")
        (run / "adapter").symlink_to(outside)
    assert list(outside.iterdir()) == []
    assert (run / "moved" / "README.md").read_bytes() == b"card"
    with pytest.raises(ConfigurationError, match="is a link"), entered(run / "adapter", run):
        pass


def test_nothing_is_appended_through_a_link(victim: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="is a link"):
        append_text(tmp_path / "lines.jsonl", "more")
    assert victim.read_text() == "precious"


def test_rollouts_behind_a_link_are_not_deleted(run: Path, tmp_path: Path) -> None:
    shutil.move(run / "rollouts", tmp_path / "outside")
    (run / "rollouts").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="is a link"):
        RunFolder(run).discard_rollouts(0)
    assert list((tmp_path / "outside" / "iteration-000").iterdir())


def test_a_link_among_rollouts_is_not_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    (run / "rollouts" / "iteration-000" / "more").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="is a link"):
        RunFolder(run).discard_rollouts(0)
    assert (tmp_path / "outside" / "kept").exists()


def test_files_of_a_run_have_the_modes_that_umask_gives(finished: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    modes = {path: path.stat().st_mode & 0o777 for path in finished.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o666 & ~mask}, modes


def test_what_is_written_aside_is_whole_or_not_there(tmp_path: Path) -> None:
    def fill() -> None:
        with written_aside(tmp_path / "part" / "file", tmp_path) as aside:
            (aside / "file").write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full") as told:
        fill()
    assert told.value.filename == str(tmp_path / "part" / "file")
    assert list((tmp_path / "part").iterdir()) == []


# -- broken records ----------------------------------------------------------------------------------------------------

FILES = ("config.yaml", "summary.json", "selection.jsonl", "judged.jsonl", "pairs.jsonl", "metrics.csv")
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "nested deeply": lambda content: content + b"[" * 100_000 + b"\n",
    "no text": lambda _: b"\xff\xfe\x00" * 100,
    "one number": lambda _: b"5\n",
    "billions": lambda content: content + LAUGHS.encode(),
    "a long number": lambda content: content.replace(b"0", b"9" * 5_000, 1),
    "a line of nulls": lambda content: content + b"\0" * 10**6 + b"\n",
    "numbers as text": lambda content: content.replace(b": 0", b': "\x1b[2J"'),
    "large steps": lambda content: content.replace(b'"step": 0', b'"step": 1000000000000'),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", FILES)
def test_broken_records_end_in_a_sentence(run: Path, tmp_path: Path, name: str, how: str) -> None:
    path = run / name
    path.write_bytes(BROKEN[how](path.read_bytes()))
    for command in ("explain", "compare", "export", "push"):
        ends_well(command, run, tmp_path)
    if how in ("nested deeply", "numbers as text", "large steps"):
        ends_well("report", run, tmp_path)


def test_a_crowd_of_reward_models_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crowd = {f"arm {number}": {"class_path": "x.Y"} for number in range(3_000)}
    change_config(run, lambda c: c["selection"].update(reward_models=crowd))
    assert ends_well("report", run, tmp_path) == 2
    assert "no more than 100 are shown" in capsys.readouterr().err


HOSTILE = st.sampled_from(
    [None, True, -1, 10**12, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b[2J[bold]|\n", "x" * 10_000, [], {},
     [[]], [[[1]]], {"": {"": None}}, ["x"], {"x": "q"}, 0.5]
)  # fmt: skip


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in something that JSON can hold."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*above, key)
        yield from places(inner, (*above, key))


def with_value(whole: Any, place: tuple[Any, ...], value: Any) -> Any:
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return whole


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_place_of_a_record_ends_well(finished: Path, tmp_path: Path, data: st.DataObject) -> None:
    run = shutil.copytree(finished, tmp_path / "mutated", dirs_exist_ok=True)
    name = data.draw(st.sampled_from([name for name in FILES if name != "metrics.csv"]))
    text = (run / name).read_text()
    whole = yaml.safe_load(text) if name == "config.yaml" else [json.loads(line) for line in text.splitlines()] if (
        name.endswith("jsonl")
    ) else json.loads(text)  # fmt: skip
    for _ in range(data.draw(st.integers(1, 3))):
        whole = with_value(whole, data.draw(st.sampled_from(list(places(whole)))), data.draw(HOSTILE))
    lines = "".join(json.dumps(line) + "\n" for line in whole) if name.endswith("jsonl") else json.dumps(whole)
    (run / name).write_text(yaml.safe_dump(whole) if name == "config.yaml" else lines)
    ends_well(data.draw(st.sampled_from(RECORDS)), run, tmp_path)
