"""A stranger's run: each attack against each command that looks at runs."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.cli import main as laser
from laser_pl.commands.compare import main as compare
from laser_pl.commands.explain import main as explain
from laser_pl.commands.export import main as export
from laser_pl.errors import ConfigurationError
from laser_pl.report.command import main as report
from laser_pl.report.records import told_of
from laser_pl.run.files import append_text, entered, writing, written_aside
from laser_pl.run.folder import RunFolder
from laser_pl.winrate.command import main as winrate

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "laser_pl" / "docs" / "pages" / "interruptions.md"
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
    "explain": lambda run, out: explain([str(run), "--step", "0"]),
    "compare": lambda run, out: compare([str(run), "--out", str(out / "comparison")]),
    "export": lambda run, out: export([str(run), "--out", str(out / "pairs.jsonl")]),
    "winrate": lambda run, out: winrate([str(run), "--judge", str(judge_file(out)), "--out", str(out / "rates")]),
    "predict": predict,
}
RECORDS = ("report", "explain", "compare", "export")
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


def function(name: str) -> dict[str, Any]:
    return {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": name}}


def arm(settings: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda c: c["selection"]["reward_models"].update(x=settings)


SERVER = {
    "class_path": "laser_pl.rewards.RemoteReward",
    "init_args": {
        "url": "http://127.0.0.1:9/",
        "api_key_variable": "HF_TOKEN",
        "protocol": {"class_path": "laser_pl.rewards.protocols.OpenRLHF"},
    },
}
ENSEMBLE = {
    "class_path": "laser_pl.rewards.Ensemble",
    "init_args": {"members": [{"class_path": "laser_pl.rewards.Verifier"}, function("laser_pl.commands.export.main")]},
}
WRITER = {"class_path": "lightning.pytorch.profilers.SimpleProfiler", "init_args": {"filename": "stolen"}}
CODE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a context of its own": lambda c: c["selection"].update(context={"class_path": "payload_of_run.X"}),
    "a context, by its name alone": lambda c: c["selection"].update(context="payload_of_run.X"),
    "a bandit of its own": lambda c: c["selection"].update(bandit={"class_path": "payload_of_run.X"}),
    "a matcher of its own": lambda c: c["model"].update(matcher={"class_path": "payload_of_run.X"}),
    "a template of its own": lambda c: c["data"].update(template={"class_path": "payload_of_run.X"}),
    "a callback of its own": lambda c: c["trainer"].update(callbacks=[{"class_path": "payload_of_run.X"}]),
    "a function of its own": arm(function("payload_of_run.X")),
    "a function of the system's": arm(function("os.system")),
    "a function of laser_pl's": arm(function("laser_pl.commands.export.main")),
    "a function in a list": arm(ENSEMBLE),
    "a function in dict_kwargs": arm(
        {"class_path": "laser_pl.rewards.FunctionReward", "dict_kwargs": {"function": "os.system"}}
    ),
    "weights with code": lambda c: c["model"]["weights"].update(trust_remote_code=True),
    "a reward model with code": arm({
        "class_path": "laser_pl.rewards.SequenceClassifier",
        "init_args": {"weights": {"name": "x", "trust_remote_code": "yes"}},
    }),
    "a server": arm(SERVER),
}  # fmt: skip


def with_code(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    (run / "payload_of_run.py").write_text(PAYLOAD.format(mark=str(run.parent / "outside" / "mark")))
    change_config(run, change)


def behind_a_merge_key(run: Path) -> None:
    """YAML's own way to say in one place what counts in another."""
    with_code(run, lambda c: c["selection"].pop("context"))
    text = (run / "config.yaml").read_text().replace("selection:\n", "selection:\n  <<: *elsewhere\n")
    (run / "config.yaml").write_text("own: &elsewhere {context: {class_path: payload_of_run.X}}\n" + text)


def behind_a_path(run: Path) -> None:
    """The parser reads a section from a file where its path stands in the section's place."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    arm(function("laser_pl.commands.export.main"))(config)
    (run / "more.yaml").write_text(yaml.safe_dump(config["selection"]))
    change_config(run, lambda c: c.update(selection=str(run / "more.yaml")))


def writing_elsewhere(run: Path) -> None:
    outside = run.parent / "outside"
    profiler = {**WRITER, "init_args": {**WRITER["init_args"], "dirpath": str(outside)}}
    change_config(run, lambda c: c["trainer"].update(profiler=profiler))
    change_config(run, lambda c: c.update(out=str(outside / "predictions.jsonl"), trust_run=True))


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


@pytest.mark.parametrize("option", ["--ckpt_path={}", "--ckpt={}", "--ck {}", "its own"])
def test_a_configuration_is_a_runs_however_its_checkpoint_is_named(
    option: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else lies beside it that a run writes: a folder as somebody would hand it on."""
    mark, given = tmp_path / "mark", tmp_path / "given"
    given.mkdir()
    checkpoint = shutil.copy(run / "checkpoints" / "last.ckpt", given)
    change_config(run, CODE["a context of its own"])
    if option == "its own":
        change_config(run, lambda c: c.update(ckpt_path=str(checkpoint)))
    shutil.copy(run / "config.yaml", given)
    (given / "payload_of_run.py").write_text(PAYLOAD.format(mark=str(mark)))
    monkeypatch.syspath_prepend(given)
    monkeypatch.delitem(sys.modules, "payload_of_run", raising=False)
    words = [] if option == "its own" else option.format(checkpoint).split()
    with pytest.raises(SystemExit) as end:
        laser(["test", f"--config={given / 'config.yaml'}", *words])
    assert (end.value.code, mark.exists()) == (2, False)
    assert "A run that is looked at runs nothing of its own" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["~nobody-of-that-name/last.ckpt", "a\0b", "x" * 5000])
def test_a_checkpoint_that_can_be_no_path_is_a_sentence(
    named: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(run, lambda c: c.update(ckpt_path=named))
    with pytest.raises(SystemExit) as end:
        laser(["test", f"--config={run / 'config.yaml'}"])
    assert end.value.code == 2
    assert "There is no checkpoint '" in " ".join(capsys.readouterr().err.split())


def test_who_consents_is_taken_at_their_word(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    (run / "payload_of_run.py").write_text(PAYLOAD.format(mark=str(mark)))
    monkeypatch.syspath_prepend(run)
    monkeypatch.delitem(sys.modules, "payload_of_run", raising=False)
    change_config(run, CODE["a context of its own"])
    laser(["test", f"--config={run / 'config.yaml'}", "--trust_run"])
    assert mark.exists()


def test_a_run_sends_no_prompt_to_a_server_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_code(run, CODE["a server"])
    assert ends_well("predict", run, tmp_path) == 2
    assert "would be sent to a server" in capsys.readouterr().err


def engine(**settings: Any) -> Callable[[dict[str, Any]], object]:
    given = {"class_path": "laser_pl.generation.VLLMEngine", "init_args": {"url": "http://127.0.0.1:9", **settings}}
    return lambda c: c["model"].update(engine=given)


@pytest.mark.parametrize("command", ["predict", "winrate", "test"])
def test_a_run_lets_no_server_of_its_own_answer(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(run, engine())
    if command == "test":
        with pytest.raises(SystemExit):
            laser(["test", f"--config={run / 'config.yaml'}"])
    else:
        assert ends_well(command, run, tmp_path) == 2
    said = capsys.readouterr().err
    assert "model.engine.init_args.url is 'http://127.0.0.1:9'" in said
    assert "would be sent to a server" in said


def test_whoever_names_the_server_does_not_let_a_run_choose_where_to_write(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(run, engine(adapters=str(tmp_path / "elsewhere")))
    with pytest.raises(SystemExit):
        laser(["test", f"--config={run / 'config.yaml'}", "--model.engine.init_args.url=http://127.0.0.1:9"])
    assert "which would be written to" in capsys.readouterr().err


# -- links -------------------------------------------------------------------------------------------------------------

LINKS = ("report.html", "summary.json", "config.yaml", "pairs.jsonl", "selection.jsonl", "metrics.csv", "loggers.json",
         "predictions.jsonl", "adapter/README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
         "checkpoints/last.ckpt", "adapter", "checkpoints", "rollouts", "rollouts/iteration-000", "figures",
         "responses")  # fmt: skip


def linked(run: Path, name: str) -> None:
    """A file or folder of the run has gone to ``outside``, and a link stands in its place."""
    place, there = run / name, run.parent / "outside" / "there"
    if place.exists():
        shutil.move(place, there)
    elif "." in name:
        there.write_text("{}")
    else:
        there.mkdir()
    place.symlink_to(there)


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


RECORDED = ("selection.jsonl", "judged.jsonl", "pairs.jsonl", "metrics.csv")


def broken(run: Path, how: str, *names: str) -> None:
    for path in [run / name for name in names]:
        path.write_bytes(BROKEN[how](path.read_bytes()))


def chunk_of(run: Path) -> Path:
    return run / "rollouts" / "iteration-000" / "chunk-00000.parquet"


def packed(run: Path) -> None:
    """Parquet of some kilobytes with ten gigabytes of text: one text, and a million times its number."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int32()), ["x" * 10_000])
    table = pa.table({name: texts for name in ("prompt_id", "text", "context")})
    pq.write_table(table, chunk_of(run), store_schema=False)
    assert chunk_of(run).stat().st_size < 10**5


def nested(run: Path) -> None:
    """Parquet whose column is a list of lists of lists."""
    type_ = pa.string()
    for _ in range(30):
        type_ = pa.list_(type_)
    column = pa.array([None], type_)
    pq.write_table(pa.table({name: column for name in ("prompt_id", "text", "context")}), chunk_of(run))


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


HEADER = (2**40).to_bytes(8, "little") + b"{}"
"""Of a safetensors file: how long its description is."""
DAMAGED: dict[str, Callable[[Path], object]] = {
    "rollouts cut off": lambda run: replaced(chunk_of(run), chunk_of(run).read_bytes()[:-100]),
    "rollouts of other kinds": lambda run: pq.write_table(pa.table({"prompt_id": [1.5]}), chunk_of(run)),
    "rollouts nested deeply": nested,
    "rollouts that unpack to gigabytes": packed,
    "an adapter with a header of a terabyte": lambda run: replaced(
        run / "adapter" / "adapter_model.safetensors", HEADER
    ),
    "an adapter that is a pickle": lambda run: torch.save({}, run / "adapter" / "adapter_model.safetensors"),
    "a checkpoint with a pickle": lambda run: torch.save({"x": Marks()}, run / "checkpoints" / "last.ckpt"),
    "a checkpoint cut off": lambda run: replaced(
        run / "checkpoints" / "last.ckpt", (run / "checkpoints" / "last.ckpt").read_bytes()[:-100]
    ),
}


class Marks:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("mark",)


# -- the table of the page "Whom to trust" -----------------------------------------------------------------------------

ATTACKS: dict[str, Callable[[Path], object]] = {
    **{what: partial(with_code, change=change) for what, change in CODE.items()},
    "a class behind a merge key": behind_a_merge_key,
    "a function behind a path": behind_a_path,
    "a profiler and predictions elsewhere": writing_elsewhere,
    **{f"`{name}` is a link": partial(linked, name=name) for name in LINKS},
    **{f"`config.yaml`: {how}": lambda run, how=how: broken(run, how, "config.yaml") for how in BROKEN},
    **{f"`summary.json`: {how}": lambda run, how=how: broken(run, how, "summary.json") for how in BROKEN},
    **{f"other records: {how}": lambda run, how=how: broken(run, how, *RECORDED) for how in BROKEN},
    **DAMAGED,
}
"""What a stranger has done to a run. Each leaves something in ``outside`` if it succeeds, or ends badly."""


def as_printed(table: dict[tuple[str, str], str]) -> str:
    """The table as it stands on the page."""
    head = f"| of a stranger's run | {' | '.join(f'`{command}`' for command in COMMANDS)} |\n"
    head += f"|---|{'---|' * len(COMMANDS)}\n"
    rows = [f"| {what} | {' | '.join(table.get((what, command), '') for command in COMMANDS)} |\n" for what in ATTACKS]
    return head + "".join(rows)


def of_the_page() -> dict[tuple[str, str], str]:
    """What the page says of each attack on each command."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    start = next(number for number, line in enumerate(lines) if line.startswith("| of a stranger's run |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    commands = [cell.strip("`") for cell in cells[0][1:]]
    return {
        (row[0], command): said
        for row in cells[2:] if row[0] in ATTACKS
        for command, said in zip(commands, row[1:], strict=True) if said
    }  # fmt: skip


TABLE = of_the_page()


def test_the_page_has_each_attack_and_each_command() -> None:
    assert as_printed(TABLE) in PAGE.read_text(encoding="utf-8")
    assert len(TABLE) > 150
    assert set(TABLE.values()) == {"held", "refused"}


def outcome(command: str, run: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Whether the command did what it does with any run, or ended in a sentence."""
    capsys.readouterr()
    code = ends_well(command, run, out)
    told = capsys.readouterr().err
    assert code == 0 or len(told.splitlines()) >= 1
    assert "Traceback" not in told
    return "held" if code == 0 else "refused"


@pytest.mark.parametrize(("what", "command"), TABLE)
def test_what_the_page_says_of_an_attack(
    run: Path, tmp_path: Path, what: str, command: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("precious")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(run)
    monkeypatch.delitem(sys.modules, "payload_of_run", raising=False)
    ATTACKS[what](run)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    assert outcome(command, run, tmp_path, capsys) == TABLE[what, command]
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before
    assert not (ROOT / "mark").exists()


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
    inner[place[-1]] = copy.deepcopy(value)  # or it might be put into itself
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


# -- between look and use ----------------------------------------------------------------------------------------------


def swapping(monkeypatch: pytest.MonkeyPatch, run: Path, name: str) -> None:
    """As soon as a run's links have been looked for, one is there."""
    look = RunFolder.refuse_links

    def look_and_lose(folder: RunFolder) -> None:
        look(folder)
        if not (run / name).is_symlink():
            linked(run, name)

    monkeypatch.setattr(RunFolder, "refuse_links", look_and_lose)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("report", "report.html"),
        ("report", "metrics.csv"),
        ("report", "selection.jsonl"),
        ("explain", "judged.jsonl"),
        ("compare", "summary.json"),
        ("export", "pairs.jsonl"),
        ("export", "rollouts/iteration-000/chunk-00000.parquet"),
    ],
)
def test_what_is_looked_at_is_what_is_used(
    run: Path, tmp_path: Path, command: str, name: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "outside").mkdir()
    swapping(monkeypatch, run, name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ends_well(command, run, tmp_path)
    assert "is a link" in capsys.readouterr().err
    outside = [path for path in (tmp_path / "outside").rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in outside} <= set(before.values())


def test_a_folder_that_becomes_a_link_is_not_emptied(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``keep_iterations`` deletes, between its look and the deletion."""
    (tmp_path / "outside").mkdir()

    def look_and_lose(folder: Path, names: Any) -> None:
        linked(run, "rollouts")

    monkeypatch.setattr("laser_pl.run.folder.refuse_links", look_and_lose)
    with pytest.raises(ConfigurationError, match="is a link"):
        RunFolder(run).discard_rollouts(0)
    assert list((tmp_path / "outside" / "there" / "iteration-000").iterdir())


def test_a_figure_is_not_written_through_a_link(run: Path, tmp_path: Path, victim: Path) -> None:
    (run / "figures").mkdir()
    (run / "figures" / "loss.svg").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="is a link"), writing(run / "figures" / "loss.svg", run):
        pass
    assert victim.read_text() == "precious"


# -- whose fault it is -------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_is_told_with_its_place(tmp_path: Path) -> None:
    sentence = r"KeyError: 'x'; report/records\.py, line \d+\).* the fault is ours"
    with pytest.raises(ConfigurationError, match=sentence), told_of(tmp_path):
        raise KeyError("x")


# -- two at once -------------------------------------------------------------------------------------------------------

HOLDER = "import sys, time; from pathlib import Path; from laser_pl.run.files import locked\n" + (
    "with locked(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)\n"
)


def test_a_run_that_another_process_holds_is_free_once_that_one_dies(run: Path) -> None:
    (run / "summary.json").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(run / "config.yaml")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with pytest.raises(ConfigurationError, match="still going on in another process"), RunFolder(run).held():
            pass
        other.kill()
        other.wait()
    with RunFolder(run).held():
        pass


def test_a_run_that_has_ended_meanwhile_does_not_go_on(run: Path) -> None:
    with pytest.raises(ConfigurationError, match="has just ended"), RunFolder(run).held():
        pass
