"""A name that is not there: the sentence names the one that was perhaps meant, and nothing is begun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from laser_pl.__main__ import run
from laser_pl.commands import compare, explain, export
from laser_pl.commands.cli import main
from laser_pl.messages.suggestions import closest, closest_path, closest_setting
from laser_pl.report import command as report

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RIGHT = {"addition": "nubmers", "comparing": "numbers", "reversing": "mirror", "sorting": "sorter"}
ARMS = "the reward models are numbers, sorter, mirror, general, longer."


def told(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence, with short names for folders."""
    with pytest.raises(SystemExit) as end:
        main(args)
    return sentence(end.value.code, capsys)


def sentence(code: object, capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    *before, said = shown.err.splitlines()
    assert (code, shown.out) == (2, "")
    assert all(line.startswith("[0:00:") for line in before)  # how far it had come
    assert said.startswith("laser_pl: ")
    return said.removeprefix("laser_pl: ").strip().replace(f"{EXPERIMENTS}/", "")


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.chdir(EXPERIMENTS.parent)
    return ["fit", f"--config={EXPERIMENTS / 'quickstart.yaml'}", f"--runs_dir={tmp_path / 'runs'}"]


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        # -- options
        (["--selektion.bandit.alpha=1"], "There is no option '--selektion.bandit.alpha'. Did you mean"
         " '--selection.bandit.alpha'?"),
        (["--selection.bandti", "LinUCB"], "There is no option '--selection.bandti'. Did you mean"
         " '--selection.bandit'?"),
        (["--nmae=x"], "There is no option '--nmae'. Did you mean '--name'?"),
        (["--beta=1"], "There is no option '--beta'. Did you mean '--model.beta'?"),
        (["--zzz=1"], "There is no option '--zzz'. See python -m laser_pl fit --help."),
        (["experiments/quickstart.yaml"], "'experiments/quickstart.yaml' is neither an option nor the value of one. Did"
         " you mean '--config experiments/quickstart.yaml'?"),
        (["--print_config=coments"], "--print_config= takes comments, skip_default, skip_unset, got 'coments'. Did you"
         " mean 'comments'?"),
        # -- settings of a class
        (["--selection.bandit.alhpa", "0.7"], "selection.bandit has no setting 'alhpa'. Did you mean 'alpha'?"),
        (["--selection.bandit=Fixed", "--selection.bandit.alpha=1"], "selection.bandit has no setting 'alpha'. It has"
         " arm."),
        (["--optimizer.lrr=1"], "optimizer has no setting 'lrr'. Did you mean 'lr'?"),
        # -- classes
        (["--selection.bandit=LinUBC"], "selection.bandit: there is no class 'LinUBC'. Did you mean 'LinUCB'?"),
        (["--selection.signal=laser_pl.feedback.signal.Loss"], "selection.signal: there is no class"
         " 'laser_pl.feedback.signal.Loss'. Did you mean 'laser_pl.feedback.signals.Loss'?"),
        (["--optimizer=torch.optim.AdmaW"], "optimizer: there is no class 'torch.optim.AdmaW'. Did you mean"
         " 'torch.optim.AdamW'?"),
        (["--selection.pairs=laser_pl.bandits.LinUCB"], "selection.pairs: 'laser_pl.bandits.LinUCB' is no Pairing. Name"
         " one of BestWorst, RandomPairs, TopBottom, or a class of your own by its import path."),
        (["--selection.pairs=Zzz"], "selection.pairs: there is no class 'Zzz'. Name one of BestWorst, RandomPairs,"
         " TopBottom, or a class of your own by its import path."),
        (["--selection.pairs=zzz.Mine"], "selection.pairs: 'zzz.Mine' cannot be imported: No module named 'zzz'."),
        (["--selection.bandit.help", "LinUBC"], "selection.bandit: there is no class 'LinUBC'. Did you mean 'LinUCB'?"),
        (["--selection.bandit=zzz.LinUBC"], "selection.bandit: 'zzz.LinUBC' cannot be imported: No module named 'zzz'."
         " Did you mean 'laser_pl.bandits.LinUCB'?"),
        # -- values
        (["--selection.granularity=promt"], "selection.granularity must be one of batch, category, prompt, rank, got"
         " 'promt'. Did you mean 'prompt'?"),
        (["--model.weights.quantization=nf5"], "model.weights.quantization must be one of nf4, int8, null, got 'nf5'."
         " Did you mean 'nf4'?"),
        (["--selection.bandit.alpha=x"], "selection.bandit.alpha must be a number, got x."),
        (["--optimizer.lr=x"], "optimizer.lr must be a number, got x."),
        (["--selection.bandit=Oracle"], "selection.bandit.right must be a mapping, got null."),
        (["--selection.reward_models=3"], "selection.reward_models must be a mapping, got 3."),
        (["--selection.reward_models=null"], "selection.reward_models is missing. Set it in a --config."),
        (["--selection.constraints={a: {threshold: 1}}"], "selection.constraints.reward_model must be the class_path of"
         " a RewardModel, got null."),
        # -- reward models' names
        (["--selection.bandit=Fixed", "--selection.bandit.arm=nubmers"], f"selection.bandit.arm is 'nubmers'; {ARMS}"
         " Did you mean 'numbers'?"),
        (["--selection.bandit=Oracle", f"--selection.bandit.right={json.dumps(RIGHT)}"], "selection.bandit.right names"
         f" 'nubmers' for 'addition'; {ARMS} Did you mean 'numbers'?"),
        # -- files
        (["--config=experiments/presets/trsted.yaml"], "There is no file 'experiments/presets/trsted.yaml'. Did you"
         " mean 'experiments/presets/trusted.yaml'?"),
        (["--config", "experiments/preset/gap.yaml"], "There is no file 'experiments/preset/gap.yaml'. Did you mean"
         " 'experiments/presets/gap.yaml'?"),
        (["-c", "zzz.yaml"], "There is no file 'zzz.yaml'. Check --config."),
        (["--data.train=experiments/quickstart/prompts/trian.jsonl"], "There is no file"
         " 'experiments/quickstart/prompts/trian.jsonl'. Did you mean 'experiments/quickstart/prompts/train.jsonl'?"),
        (["--ckpt_path=experiments/quickstart/WROLD.md"], "There is no checkpoint 'experiments/quickstart/WROLD.md'."
         " Did you mean 'experiments/quickstart/WORLD.md'?"),
        (["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=train/loss", "--lr_scheduler.mode=up"],
         "lr_scheduler.mode must be one of min, max, got 'up'."),
        (["--data.columns.answer=anwser"], "'quickstart/prompts/train.jsonl' has no column 'anwser', only prompt,"
         " answer, category. Set data.columns.answer to one of them, or to null. Did you mean 'answer'?"),
    ],
    ids=lambda value: value[0][2:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_near_miss_on_the_command_line(
    fit: list[str], args: list[str], answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told([*fit, *args], capsys)
    assert found.replace("experiments/", "") == answer.replace("experiments/", "")
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("name: x\nselction: {bandit: {class_path: LinUCB}}",
         "line 2: there is no setting 'selction'. Did you mean 'selection'?"),
        ("data:\n  rollouts:\n    temprature: 1",
         "line 3: there is no setting 'data.rollouts.temprature'. Did you mean 'data.rollouts.temperature'?"),
        ("data: {rolouts: {n: 1}}", "line 1: there is no setting 'data.rolouts'. Did you mean 'data.rollouts'?"),
        ("selection:\n  bandit:\n    class_path: laser_pl.bandits.LinUCB\n    init_args:\n      alhpa: 1",
         "line 5: selection.bandit has no setting 'alhpa'. Did you mean 'alpha'?"),
        ("selection: {bandit: {clas_path: laser_pl.bandits.LinUCB}}",
         "line 1: selection.bandit has no setting 'clas_path'. Did you mean 'class_path'?"),
        ("selection: {bandit: {class_path: laser_pl.bandits.Exp3, init_arg: {low: 0}}}",
         "line 1: selection.bandit has no setting 'init_arg'. Did you mean 'init_args'?"),
        ("selection:\n  reward_models:\n    a:\n      class_path: laser_pl.rewards.Likelihood\n"
         "      init_args: {weights: {nmae: x}}",
         "line 5: selection.reward_models has no setting 'weights.nmae'. Did you mean 'weights.name'?"),
    ],
)  # fmt: skip
def test_near_miss_in_a_file_is_told_with_its_line(
    fit: list[str], text: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    last = tmp_path / "last.yaml"
    last.write_text("name: y")
    found = told([*fit, f"--config={tmp_path / 'own.yaml'}", f"--config={last}"], capsys)
    assert found == f"{tmp_path / 'own.yaml'}, {answer}"


def test_near_miss_of_a_class_in_a_file(fit: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = {"class_path": "RemoteReward", "init_args": {"url": "http://localhost", "protocol": "OpenRHLF"}}
    for given, answer in (
        ({"class_path": "laser_pl.rewards.SequenceClasifier"}, "laser_pl.rewards.SequenceClassifier"),
        (remote, "OpenRLHF"),
    ):
        (tmp_path / "own.yaml").write_text(json.dumps({"selection": {"reward_models": {"a": given}}}))
        found = told([*fit, f"--config={tmp_path / 'own.yaml'}"], capsys)
        assert found.startswith("selection.reward_models: there is no class '")
        assert found.endswith(f" Did you mean '{answer}'?")


def test_near_miss_of_a_reward_function(
    fit: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the arm's name, also of a member of an ensemble, and the line in the file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brevity_rewards.py").write_text("def short(completions): return [1.0 for _ in completions]\nten = 10")
    (tmp_path / "fragile_rewards.py").write_text("import zzz_nowhere")
    name = "selection.reward_models.brief.function"
    for given, answer in (
        ("brevity_rewards.shrt", "the module 'brevity_rewards' has no function 'shrt'. Did you mean"
         " 'brevity_rewards.short'?"),
        ("brevity_rewards.zzz", "the module 'brevity_rewards' has no function 'zzz'. It has short."),
        ("brevty_rewards.short", "there is no module 'brevty_rewards'. Did you mean 'brevity_rewards.short'?"),
        ("zzz.short", "there is no module 'zzz'. Start where zzz.py lies, or install what it belongs to."),
        ("fragile_rewards.f", "'fragile_rewards.f' cannot be imported: No module named 'zzz_nowhere'."),
        ("brevity_rewards.ten", "'brevity_rewards.ten' is no function, but 10."),
        ("short", "'short' is no import path of a function. Write it as module.function."),
        ("brevity_rewards.py:short", "'brevity_rewards.py:short' is no import path of a function. Write it as"
         " module.function."),
    ):  # fmt: skip
        arm = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": given}}
        models = json.dumps({"brief": arm})
        assert told([*fit, f"--selection.reward_models={models}"], capsys) == f"{name}: {answer}"
    both = {"class_path": "laser_pl.rewards.MeanEnsemble", "init_args": {"reward_models": {"brief": arm}}}
    own = tmp_path / "own.yaml"
    own.write_text(f"name: x\nselection:\n  reward_models: {json.dumps({'both': both})}")
    found = told([*fit, f"--config={own}"], capsys)
    assert found == f"{own}, line 3: selection.reward_models.both.reward_models.brief.function: {answer}"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["fitt"], "There is no command 'fitt'. Did you mean 'fit'?"),
        (["raport", "runs/a"], "There is no command 'raport'. Did you mean 'report'?"),
        (["push", "runs/a"], "There is no command 'push' any more. The hub's own command uploads"),
        (["zzz"], "There is no command 'zzz'. See python -m laser_pl --help."),
        ([], "Name a command: fit, validate, test, "),
        (["report", "runs/a", "--hlep"], "report: unrecognized arguments: --hlep. Did you mean '--help'?"),
    ],
)
def test_near_miss_of_a_command(
    words: list[str], answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["laser_pl", *words])
    with pytest.raises(SystemExit) as end:
        run()
    found = sentence(end.value.code, capsys)
    assert found.startswith(answer)
    if words[:1] != ["report"]:
        assert told(words, capsys) == found


def test_near_miss_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("quickstart", "gap-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("name: x")
    monkeypatch.chdir(tmp_path)
    for given, meant in (
        ("runs/quickstrat", "runs/quickstart"),
        ("quickstart", "runs/quickstart"),
        ("run/gap-1", "runs/gap-1"),
        ("runs/gap1", "runs/gap-1"),
        ("runs/zzz", None),
    ):
        question = f" Did you mean '{meant}'?" if meant else ""
        answer = f"'{given}' is no run's folder: there is no config.yaml in it.{question}"
        for command, more in ((report, []), (explain, ["--step=0"]), (compare, []), (export, ["--out=x.jsonl"])):
            with pytest.raises(SystemExit) as end:
                command.main([given, *more])
            assert sentence(end.value.code, capsys) == answer


def test_near_miss_of_a_run_to_go_on_with(fit: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").write_text("name: mine")
    found = told([*fit, "--resume", "--name=mien"], capsys)
    assert found.endswith("there is none of that name. Did you mean 'mine'?")


def test_what_is_far_off_is_not_suggested(tmp_path: Path) -> None:
    assert closest("alpha", ["gamma", "window"]) is None
    assert closest_setting("model.zzz", ["model.beta"]) is None
    assert closest_setting("alpha", ["a.alpha", "b.alpha"]) is None  # either may be meant
    (tmp_path / "file").write_text("")
    assert closest_path(tmp_path / "zzz") is None
    assert closest_path(tmp_path / "fiel" / "x") is None
    assert closest_path(tmp_path / "fiel") == tmp_path / "file"
