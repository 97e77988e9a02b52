"""One run's responses against another's, through the command."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.batches import Prompt
from laser_pl.models.language_model import Weights
from laser_pl.policy.policy import Policy
from laser_pl.rewards import PairwiseJudge
from laser_pl.winrate.command import ALL, main
from laser_pl.winrate.tables import WinRates
from tests.loopback import Handler, Server, serving
from tests.runs import Fit

EVALUATED = 12
POLICY = Path(__file__).resolve().parents[2] / "experiments" / "quickstart" / "policy"
JUDGES = """
from pathlib import Path
import os, signal

asked = []

def longer(prompts, completions, **columns):
    asked.extend(completions)
    return [float(len(text)) for text in completions]

def picky(prompts, completions, **columns):
    return [None if len(text) % 2 else float(len(text)) for text in completions]

def mended(prompts, completions, **columns):
    if not Path("mended").exists():
        raise RuntimeError("out of order")
    return longer(prompts, completions)

def interrupted(prompts, completions, **columns):
    if not Path("mended").exists():
        os.kill(os.getpid(), signal.SIGINT)
    return longer(prompts, completions)
"""


@pytest.fixture(scope="module")
def size() -> list[str]:
    """A learning rate that changes the greedy response as well."""
    return ["--optimizer.init_args.lr=0.003", "--model.evaluation.n=2", "--data.evaluation_batch_size=8"]


@pytest.fixture(scope="module")
def runs(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("winrate")
    return [fit(folder, f"--seed_everything={s}", f"--name=run-{s}", evaluated=EVALUATED).folder.path for s in (1, 2)]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make a judge's file of a function in ``JUDGES``."""
    (tmp_path / "judges_of_winrate.py").write_text(JUDGES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "judges_of_winrate", raising=False)
    monkeypatch.chdir(tmp_path)

    def write(name: str) -> str:
        settings = {"class_path": "laser_pl.rewards.FunctionReward",
                    "init_args": {"function": f"judges_of_winrate.{name}"}}  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(json.dumps(settings))
        return str(tmp_path / f"{name}.yaml")

    return write


def asked() -> list[str]:
    """Responses that the judge ``longer`` was asked about."""
    found: list[str] = importlib.import_module("judges_of_winrate").asked
    return found


def kept(run: Path, kind: str) -> dict[str, list[str]]:
    (path,) = (run / "responses").glob(f"{kind}-????????????.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["prompt_id"]: line["responses"] for line in lines}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.parents[1] / "few.jsonl").read_text().splitlines()]


def by_length(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> list[float]:
    return [
        0.5 if len(a) == len(b) else float(len(a) > len(b))
        for id_ in ours
        for a, b in zip(ours[id_], theirs[id_], strict=True)
    ]


@pytest.mark.parametrize("kind", ["greedy", "sampled"])
def test_two_runs_are_compared_on_every_test_prompt(
    kind: str, runs: list[Path], judge: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = ["--sampled"] if kind == "sampled" else []
    found = main([*map(str, runs), "--judge", judge("longer"), *sampled, "--seed", "5"])
    ours, theirs = (kept(run, kind) for run in runs)
    assert {len(texts) for texts in ours.values()} == {2 if kind == "sampled" else 1}
    won = by_length(ours, theirs)
    rate = found.rates[ALL]
    assert (rate.prompts, rate.missing) == (EVALUATED, 0)
    assert (rate.wins, rate.ties, rate.losses) == (won.count(1.0), won.count(0.5), won.count(0.0))
    assert 0 < rate.ties < len(won)
    assert rate.rate == pytest.approx(sum(won) / len(won))
    assert rate.lengths[0] == pytest.approx(sum(len(t) for own in ours.values() for t in own) / len(won))
    assert sum(one.wins for category, one in found.rates.items() if category != ALL) == rate.wins
    assert set(found.rates) == {row["category"] for row in rows_of(runs[0])} | {ALL}
    shown = capsys.readouterr().out
    assert f"{100 * rate.rate:.1f} [{100 * rate.interval[0]:.1f}, {100 * rate.interval[1]:.1f}]" in shown
    assert f"{kind} responses" in shown
    assert "Written: winrate/winrate.md, .json" in shown
    check_files(found)
    if kind == "sampled":
        for run in runs:
            check_accuracy(run)


def check_files(found: WinRates) -> None:
    """They hold what was found."""
    written = json.loads(Path("winrate/winrate.json").read_text())
    assert (written["ours"], written["theirs"], written["seed"]) == (found.ours, found.theirs, 5)
    assert written["judge"].startswith("FunctionReward (")
    assert list(written["rates"]) == list(found.rates)
    for category, rate in found.rates.items():
        assert (written["rates"][category]["win_rate"], written["rates"][category]["high"]) == (
            rate.rate,
            rate.interval[1],
        )
    rate = found.rates[ALL]
    assert f"| {rate.wins}, {rate.ties}, {rate.losses} | 0 |" in Path("winrate/winrate.md").read_text()


def check_accuracy(run: Path) -> None:
    """The sampled responses are those whose accuracy the run told at its end."""
    right: dict[str, list[bool]] = {}
    for texts, row in zip(kept(run, "sampled").values(), rows_of(run), strict=True):  # both in the file's order
        right.setdefault(row["category"], []).extend(text.strip() == row["answer"] for text in texts)
    after = json.loads((run / "summary.json").read_text())["accuracy"]["after"]
    assert after.pop("average") > 0
    assert {category: sum(own) / len(own) for category, own in right.items()} == pytest.approx(after)


def test_nothing_is_sampled_or_asked_twice(
    runs: list[Path], judge: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [str(runs[0]), "--judge", judge("longer")]
    first, questions = main(command), len(asked())
    assert questions > 0
    monkeypatch.setattr(Policy, "configure_model", lambda self: pytest.fail("weights were loaded"))
    assert main(command) == first
    assert len(asked()) == questions


def test_what_a_crash_left_is_completed(
    runs: list[Path], judge: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight prompts are answered together; a file that ends in the second eight has the first to keep."""
    copy = tmp_path / "run-1"
    shutil.copytree(runs[0], copy)
    shutil.rmtree(copy / "responses", ignore_errors=True)
    command = [str(copy), str(runs[1]), "--judge", judge("longer")]
    first, whole = main(command), kept(copy, "greedy")
    (path,) = (copy / "responses").iterdir()
    lines = path.read_text().splitlines(keepends=True)
    marked = json.loads(lines[0]) | {"responses": ["0" * 50]}  # distinguished from what would be sampled
    path.write_text(json.dumps(marked) + "\n" + "".join(lines[1:9]) + lines[9][:20])
    again = main(command)
    assert kept(copy, "greedy") == {**whole, marked["prompt_id"]: ["0" * 50]}
    assert first.rates[ALL].wins <= again.rates[ALL].wins
    assert again.rates[ALL].prompts == EVALUATED


def test_a_run_against_itself_is_even(runs: list[Path], judge: Callable[[str], str]) -> None:
    rate = main([str(runs[0]), str(runs[0]), "--judge", judge("longer"), "--sampled"]).rates[ALL]
    assert (rate.rate, rate.interval, rate.controlled, rate.ties) == (0.5, (0.5, 0.5), 0.5, 2 * EVALUATED)
    assert asked() == []


def test_without_another_run_it_is_the_policy_before_training_that_is_compared_with(
    runs: list[Path], judge: Callable[[str], str]
) -> None:
    found = main([str(runs[0]), "--judge", judge("longer")])
    assert found.theirs == f"{runs[0]} before training"
    base = kept(runs[0], "greedy-before")
    policy, tokenizer = (kind.from_pretrained(POLICY) for kind in (AutoModelForCausalLM, AutoTokenizer))
    for (text,), row in zip(base.values(), rows_of(runs[0]), strict=True):
        ids = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        written = policy.generate(ids, do_sample=False, max_new_tokens=8, suppress_tokens=[tokenizer.pad_token_id])
        assert tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True) == text
    assert base != kept(runs[0], "greedy")
    won = by_length(kept(runs[0], "greedy"), base)
    assert found.rates[ALL].rate == pytest.approx(sum(won) / len(won))


def test_before_training_a_run_had_the_adapter_that_it_started_from(
    fit: Fit, runs: list[Path], judge: Callable[[str], str], tmp_path: Path
) -> None:
    on = fit(tmp_path, f"--model.lora.start={runs[0] / 'adapter'}", evaluated=EVALUATED).folder.path
    for run in (on, runs[0]):
        main([str(run), "--judge", judge("longer")])
    assert kept(on, "greedy-before") == kept(runs[0], "greedy") != kept(on, "greedy")


def test_a_file_of_responses_is_compared_with(runs: list[Path], judge: Callable[[str], str], tmp_path: Path) -> None:
    """By the prompts' ids, as ``responses/`` has them, or by the prompts themselves."""
    main([str(runs[0]), "--judge", judge("longer")])
    (own,) = (runs[0] / "responses").glob("greedy-????????????.jsonl")
    by_id = [json.loads(line) | {"responses": ["0" * 30]} for line in own.read_text().splitlines()[:5]]
    rows = [{"prompt": row["prompt"], "response": "0" * 30} for row in rows_of(runs[0])[5:]]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*by_id, *rows, rows[0]]))
    found = main([str(runs[0]), str(tmp_path / "long.jsonl"), "--judge", judge("longer")]).rates[ALL]
    assert (found.rate, found.losses) == (0.0, EVALUATED)


def test_a_judge_that_compares_does_so_in_both_orders(
    runs: list[Path], policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which side is which makes no difference, though this judge, with random weights, favours a place."""
    monkeypatch.chdir(tmp_path)
    init = {"weights": {"name": str(policy_folder)}, "template": "{{ prompt }}{{ response_a }}|{{ response_b }}"}
    settings = {"class_path": "laser_pl.rewards.PairwiseJudge", "init_args": init}
    Path("pairwise.yaml").write_text(json.dumps(settings))
    there = main([str(runs[0]), str(runs[1]), "--judge", "pairwise.yaml"]).rates
    back = main([str(runs[1]), str(runs[0]), "--judge", "pairwise.yaml"]).rates
    judge = PairwiseJudge(Weights(str(policy_folder)), init["template"])  # type: ignore[arg-type]
    judge.load(torch.device("cpu"))
    ours, theirs = (kept(run, "greedy") for run in runs)
    rows = dict(zip(ours, rows_of(runs[0]), strict=True))
    won = []
    for id_, row in rows.items():
        (a,), (b,) = ours[id_], theirs[id_]
        first, second = judge.score([Prompt(id_, row["prompt"], "", row["answer"])], [[a, b]])[0].tolist()
        won.append(0.5 if a == b else float(first > second))
    assert there[ALL].rate == pytest.approx(sum(won) / len(won))
    assert back[ALL].rate == pytest.approx(1 - there[ALL].rate)


def test_a_chat_endpoint_judges_and_its_cost_is_printed(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longer response wins, though this judge answers A and is only surer of it where A is longer."""

    def prefers_longer(handler: Handler, number: int) -> None:
        first, _, second = handler.server.requests[number - 1][2]["messages"][0]["content"].partition("|")
        sure = 0.9 if len(first) > len(second) else 0.7 if len(first) == len(second) else 0.6
        top = [{"token": token, "logprob": math.log(p)} for token, p in (("A", sure), ("B", 1 - sure))]
        choice = {"message": {"content": "A"}, "logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
        handler.reply({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 1}})

    monkeypatch.chdir(tmp_path)
    with serving(Server(prefers_longer)) as server:
        init = {"url": f"{server.address}/v1/chat/completions", "model": "m", "opponents": 1,
                "template": "{{ response_a }}|{{ response_b }}", "prompt_price": 3.0}  # fmt: skip
        Path("chat.yaml").write_text(json.dumps({"class_path": "laser_pl.rewards.ChatJudge", "init_args": init}))
        rates = main([str(runs[0]), str(runs[1]), "--judge", "chat.yaml"]).rates
    ours, theirs = (kept(run, "greedy") for run in runs)
    won = by_length(ours, theirs)
    assert rates[ALL].rate == pytest.approx(sum(won) / len(won))
    asked = len(server.requests)
    assert f"requests {asked}, prompt tokens {10 * asked}, completion tokens {asked}, cost " in capsys.readouterr().out


def test_what_a_judge_has_no_opinion_on_is_left_out_and_told(
    runs: list[Path], judge: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    rate = main([*map(str, runs), "--judge", judge("picky")]).rates[ALL]
    ours, theirs = (kept(run, "greedy") for run in runs)
    silent = sum(
        a != b and (len(a[0]) % 2 or len(b[0]) % 2) for a, b in zip(ours.values(), theirs.values(), strict=True)
    )
    assert rate.missing == silent > 0
    assert rate.prompts == EVALUATED - silent
    assert f"no opinion on {silent} comparisons, which are left out" in " ".join(capsys.readouterr().out.split())


def refused(args: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_judge_that_fails_is_named_and_asked_again(
    runs: list[Path], judge: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = [str(runs[0]), "--judge", judge("mended")]
    line = refused(command, capsys)
    assert line.endswith("comparisons; it failed: RuntimeError: out of order.")
    (tmp_path / "mended").touch()
    assert main(command).rates[ALL].missing == 0


def test_a_signal_ends_it_and_the_same_command_goes_on(
    runs: list[Path], judge: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = [str(runs[0]), "--judge", judge("interrupted")]
    line = refused(command, capsys, code=128 + signal.SIGINT)
    assert line.startswith("laser_pl: Interrupted by SIGINT. What was answered and judged is kept")
    (tmp_path / "mended").touch()
    assert main(command).rates[ALL].prompts == EVALUATED


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class_path: torch.nn.Linear\ninit_args: {in_features: 1, out_features: 1}", "is no reward model"),
        ("class_path: laser_pl.rewards.Nonesuch", "is no reward model"),
        ("class_path: laser_pl.rewards.FunctionReward\ninit_args: {fun: 3}", "is no reward model"),
        ("class_path: laser_pl.rewards.PairwiseJudge\ninit_args: {weights: {name: x}, opponents: 0}", "opponents must"),
        ("judge: {class_path: laser_pl.rewards.PairwiseJudge}", "must hold a reward model's class_path"),
        ("just words", "holds no settings"),
        ("a: [", "this is no YAML"),
    ],
)
def test_what_is_no_judge_is_refused(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "judge.yaml").write_text(text)
    assert told in refused(["runs/none", "--judge", str(tmp_path / "judge.yaml")], capsys)


def test_files_and_runs_that_are_not_there_are_named(
    runs: list[Path], judge: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = map(str, runs)
    good = ["--judge", judge("longer")]
    assert "There is no file 'no.yaml'. Set --judge." in refused([a, b, "--judge", "no.yaml"], capsys)
    assert "'nowhere' is no run's folder" in refused([a, "nowhere", *good], capsys)
    assert "There is no file 'no.jsonl'" in refused([a, "no.jsonl", *good], capsys)
    assert "--judge" in refused([a, b], capsys)
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    (copy / "adapter" / "adapter_model.safetensors").write_bytes(b"no tensors")
    assert "cannot be read" in refused([str(copy), b, *good], capsys)
    shutil.rmtree(copy / "adapter")
    assert "has no" in refused([str(copy), b, *good], capsys)
    (copy / "summary.json").unlink()
    assert "is not finished" in refused([str(copy), b, *good], capsys)
    (tmp_path / "file").write_text("")
    assert "cannot be read or written" in refused([a, b, *good, "--out", str(tmp_path / "file")], capsys)


def test_responses_that_do_not_fit_are_refused(
    runs: list[Path], judge: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ["--judge", judge("longer")]
    path = tmp_path / "responses.jsonl"
    rows = [{"prompt": row["prompt"], "response": "1"} for row in rows_of(runs[0])]
    for changed, told in (
        (rows[1:], "has no response to 1 of the 12 test prompts"),
        ([*rows, {"prompt": "x", "response": 3}], "row 13: give a response as a string"),
        ([*rows, {"response": "3"}], "row 13: it does not say to which prompt"),
        ([{**row, "responses": ["1", "2"]} for row in rows], "one side has 1 responses and the other 2"),
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        assert told in refused([str(runs[0]), str(path), *good], capsys)


def test_runs_with_other_test_prompts_are_refused(
    runs: list[Path], judge: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    rows = rows_of(runs[0])[:3]
    (tmp_path / "three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few, three = str(runs[0].parents[1] / "few.jsonl"), str(tmp_path / "three.jsonl")
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace(few, three))
    line = refused([str(runs[0]), str(other), "--judge", judge("longer")], capsys)
    assert "have other test prompts: 12 and 3, of which 9 are not in both" in line
