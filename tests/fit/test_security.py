"""Attacks, tried: nobody's code runs that the user did not name, no secret is written, no terminal is commanded."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import wandb
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.commands.compare import main as compare
from laser_pl.data.tables import Table
from laser_pl.data.templates import SandboxedText
from laser_pl.errors import ConfigurationError
from laser_pl.messages.terminal import shown
from laser_pl.models.language_model import Weights
from laser_pl.run.bounds import bounded
from tests.forked import run_process

ROOT = Path(__file__).resolve().parents[2]
WORLD = ROOT / "experiments" / "quickstart"
POLICY, LONGER = WORLD / "policy", WORLD / "reward_models" / "longer"


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What an attack that succeeds leaves."""
    return tmp_path / "mark"


@pytest.fixture
def command(fit_command: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """The quickstart, cut down to one step."""
    return fit_command(tmp_path, "--data.prompts_per_iteration=4")


@pytest.fixture
def refused(mark: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """A command that ends with one sentence, and without the mark."""

    def run(args: list[str]) -> str:
        with pytest.raises(SystemExit) as end:
            main(args)
        assert end.value.code == 2
        assert not mark.exists()
        *progress, error = capsys.readouterr().err.splitlines(keepends=True)
        assert all(re.match(r"\[\d:\d\d:\d\d\] ", line) for line in progress)
        return error

    return run


def arm(name: str, weights: object, **settings: Any) -> str:
    only = {"class_path": f"laser_pl.rewards.{name}", "init_args": {"weights": {"name": str(weights)}, **settings}}
    return f"--selection.reward_models={json.dumps({'only': only})}"


ARMS: dict[str, Callable[[Path], str]] = {
    "policy": lambda model: f"--model.weights.name={model}",
    "classifier": lambda model: arm("SequenceClassifier", model),
    "likelihood": lambda model: arm("Likelihood", model),
    "judge": lambda model: arm("PointwiseJudge", model),
    "reference": lambda model: arm("ImplicitReward", POLICY, reference={"name": str(model)}),
}


def copied(who: str, folder: Path) -> Path:
    return shutil.copytree(LONGER if who == "classifier" else POLICY, folder / "model")


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_pickle_is_an_attack(mark: Path) -> None:
    """Else the tests below would show nothing."""
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


@pytest.mark.parametrize("who", ARMS)
def test_a_folder_with_nothing_but_a_pickle_is_refused(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, who: str, tmp_path: Path
) -> None:
    model = copied(who, tmp_path)
    torch.save({**load_file(model / "model.safetensors"), "evil": Evil(mark)}, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    assert "has no .safetensors file, only pytorch_model.bin: a pickle" in refused([*command, ARMS[who](model)])


@pytest.mark.parametrize("who", ["policy", "classifier"])
def test_a_pickle_by_another_name_is_refused(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, who: str, tmp_path: Path
) -> None:
    model = copied(who, tmp_path)
    torch.save({"evil": Evil(mark)}, model / "model.safetensors")
    assert "is cut off, or no safetensors file" in refused([*command, ARMS[who](model)])


@pytest.mark.parametrize("who", ["policy", "adapter"])
def test_a_pickled_adapter_is_refused(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, who: str, tmp_path: Path
) -> None:
    """transformers loads one that lies beside a model, PEFT the one it is given."""
    model = copied("policy", tmp_path)
    config = LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path=str(POLICY), task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(POLICY), config).save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save({"evil": Evil(mark)}, tmp_path / "adapter" / "adapter_model.bin")
    shutil.copytree(tmp_path / "adapter", model, dirs_exist_ok=True)
    use = ARMS["policy"](model) if who == "policy" else arm("ImplicitReward", POLICY, adapter=str(tmp_path / "adapter"))
    assert "adapter_model.safetensors" in refused([*command, use])


CODE = "import os\nos.mkdir({mark!r})\n\n\nclass Evil:\n    pass\n"


def with_code(model: Path, mark: Path, file: str, **entries: Any) -> Path:
    (model / "evil.py").write_text(CODE.format(mark=str(mark)))
    settings = {**json.loads((model / file).read_text()), **entries}
    (model / file).write_text(json.dumps(settings))
    return model


@pytest.mark.parametrize("who", ["policy", "classifier"])
@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_code_that_comes_with_weights_does_not_run(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, who: str, part: str, tmp_path: Path
) -> None:
    model = copied(who, tmp_path)
    if part == "model":
        automatic = dict.fromkeys(
            ["AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification"], "evil.Evil"
        )
        with_code(model, mark, "config.json", auto_map=automatic, model_type="evil")
    else:
        automatic = {"AutoTokenizer": ["evil.Evil", None]}
        with_code(model, mark, "tokenizer_config.json", auto_map=automatic, tokenizer_class="Evil")
    assert "contains custom code" in refused([*command, ARMS[who](model)])


def test_trusting_code_is_off_unless_somebody_says_so() -> None:
    assert {field.name: field.default for field in fields(Weights)}["trust_remote_code"] is False
    for path in (ROOT / "experiments").rglob("*.yaml"):
        assert "trust_remote_code" not in path.read_text(), path


def test_a_data_set_that_is_a_script_does_not_run(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, tmp_path: Path
) -> None:
    (tmp_path / "evil.py").write_text(CODE.format(mark=str(mark)))
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(CODE.format(mark=str(mark)))
    for name in ("evil.py", "evil"):
        assert "Cannot read a data set from" in refused([*command, f"--data.train={tmp_path / name}"])


def test_yaml_makes_no_objects(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, tmp_path: Path
) -> None:
    evil = f"!!python/object/apply:os.mkdir [{str(mark)!r}]"
    (tmp_path / "evil.yaml").write_text(f"name: {evil}\n")
    assert "evil.yaml, line 1: this is no YAML" in refused([*command, f"--config={tmp_path / 'evil.yaml'}"])
    refused([*command, f"--selection.bandit={evil}"])


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(fit: Callable[..., LaserCLI], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step."""
    return fit(tmp_path_factory.mktemp("finished"), "--data.prompts_per_iteration=4").folder.path


def checkpoint_with(finished: Path, path: Path, **entries: Any) -> Path:
    """The run's, with something more in it."""
    torch.save({**torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True), **entries}, path)
    return path


def test_a_checkpoint_with_code_is_not_resumed(
    command: list[str], refused: Callable[[list[str]], str], finished: Path, mark: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "runs" / "small")
    (run / "summary.json").unlink()
    checkpoint_with(finished, run / "checkpoints" / "last.ckpt", evil=Evil(mark))
    assert "It is not loaded, since that could run code." in refused([*command, "--resume"])


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test"])
def test_a_checkpoint_with_code_is_not_loaded(
    command: list[str],
    refused: Callable[[list[str]], str],
    finished: Path,
    mark: Path,
    subcommand: str,
    tmp_path: Path,
) -> None:
    path = checkpoint_with(finished, tmp_path / "evil.ckpt", evil=Evil(mark))
    args = [subcommand, *command[1:], f"--ckpt_path={path}"]
    assert "It is not loaded, since that could run code. Check --ckpt_path." in refused(args)
    assert "weights_only" in refused([*args, "--weights_only=false"])  # no option of ours
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_changes_nothing_in_the_configuration(
    command: list[str], finished: Path, mark: Path, tmp_path: Path
) -> None:
    """Lightning takes a checkpoint's hyperparameters for the model's, were they another's weights with their code."""
    model = with_code(copied("policy", tmp_path), mark, "config.json", auto_map={"AutoConfig": "evil.Evil"})
    other = {"beta": 7.0, "weights": {"name": str(model), "trust_remote_code": True}}
    path = checkpoint_with(finished, tmp_path / "evil.ckpt", hyper_parameters=other)
    run = main(["test", *command[1:], f"--ckpt_path={path}"])
    assert (run.model.objective.beta, run.model.weights) == (1.0, Weights(str(POLICY)))
    assert not mark.exists()


# -- templates ---------------------------------------------------------------------------------------------------------

ATTACKS = [
    "{{{{ cycler.__init__.__globals__.os.mkdir({mark!r}) }}}}",
    "{{{{ self.__init__.__globals__.__builtins__.__import__('os').mkdir({mark!r}) }}}}",
    "{{{{ lipsum.__globals__['os'].mkdir({mark!r}) }}}}",
    "{{{{ ().__class__.__base__.__subclasses__() }}}}",
    "{{{{ '{{0.__class__.__init__.__globals__}}'.format(cycler) }}}}",
    "{{{{ ''|attr('__class__')|attr('__mro__') }}}}",
    "{{% for x in ().__class__.__base__.__subclasses__() %}}{{{{ x.__name__ }}}}{{% endfor %}}",
    "{{% include '/etc/passwd' %}}",
    "{{% import 'os' as os %}}{{{{ os.mkdir({mark!r}) }}}}",
    "{{% macro m() %}}{{{{ m() }}}}{{% endmacro %}}{{{{ m() }}}}",
    "{{{{ range(10 ** 9)|list }}}}",
    "{{{{ 1 / 0 }}}}",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_templates_stay_in_their_sandbox(mark: Path, attack: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        SandboxedText(attack.format(mark=str(mark)), "data.template").fill({"prompt": "1+1="})
    assert "\n" not in str(told.value)
    assert not mark.exists()


def test_a_template_changes_none_of_the_values_it_sees() -> None:
    seen = {"prompt": [{"role": "user", "content": "1+1="}]}
    with pytest.raises(ConfigurationError, match="unsafe"):
        SandboxedText("{{ prompt.append(1) }}", "data.template").fill(seen)
    assert len(seen["prompt"]) == 1


@pytest.mark.parametrize("where", ["data", "policy", "reward model", "judge", "remote"])
def test_hostile_templates_end_with_a_sentence(
    command: list[str], refused: Callable[[list[str]], str], mark: Path, where: str, tmp_path: Path
) -> None:
    """The user's own, and those that come with a model's tokenizer."""
    template = ATTACKS[0].format(mark=str(mark))
    if where in ("policy", "reward model"):
        model = copied("classifier" if where == "reward model" else "policy", tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(model)
    arguments = {
        "data": ["--data.template=laser_pl.data.templates.Jinja", f"--data.template.template={template}"],
        "policy": [ARMS["policy"](tmp_path / "model"), "--data.template=laser_pl.data.templates.Chat"],
        "reward model": [arm("SequenceClassifier", tmp_path / "model")],
        "judge": [arm("PointwiseJudge", POLICY, template=template, scale={"1": 1.0, "2": 2.0})],
        "remote": [remote("http://127.0.0.1:9/", text=template)],
    }
    refused([*command, *arguments[where]])


@pytest.mark.parametrize("attack", ["{{ 'a' * 10**11 }}", "{{ 'a'.ljust(10**11) }}", "{{ 10**10**10 }}"])
def test_templates_take_no_more_memory_than_they_may(attack: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be filled"):
        SandboxedText(attack, "data.template").fill({})


def test_templates_take_no_longer_than_they_may() -> None:
    def spin() -> None:
        with bounded(seconds=0.05):
            while True:
                pass

    with pytest.raises(TimeoutError, match=r"longer than 0\.05 seconds"):
        spin()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


FIELDS = ["_attn_implementation"]
if Version(transformers.__version__) >= Version("5.4"):  # older ones do not look at it
    FIELDS.append("attn_implementation")


@pytest.mark.parametrize("where", [*FIELDS, "weights.attention"])
def test_no_kernel_of_a_hub_is_loaded(tmp_path: Path, where: str) -> None:
    model = copied("policy", tmp_path)
    kernel = "publisher/kernel"
    if where != "weights.attention":
        with_code(model, tmp_path / "mark", "config.json", **{where: kernel})
    weights = Weights(str(model), attention=kernel if where == "weights.attention" else None)
    for use in (weights.load, weights.skeleton):
        with pytest.raises(ConfigurationError, match="asks for the kernel 'publisher/kernel' of a hub"):
            use()


def test_a_table_that_unzips_to_gigabytes_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb") as file:
        for _ in range(32):
            file.write((b" " * 1023 + b"\n") * 2**10)
    with pytest.raises(ConfigurationError, match="no text is that repetitive"):
        Table(str(tmp_path / "bomb.jsonl.gz")).rows()


# -- secrets -----------------------------------------------------------------------------------------------------------

SECRETS = {
    "WANDB_API_KEY": "a" * 20 + "wandb" + "b" * 15,
    "HF_TOKEN": "hf_secretsecret",
    "JUDGE_KEY": "s3cret-judge-key",
}


def remote(url: str, **settings: Any) -> str:
    protocol = {"class_path": "laser_pl.rewards.protocols.OpenRLHF"}
    init_args = {"url": url, "protocol": protocol, "retries": 0, "timeout": 2.0, **settings}
    only = {"class_path": "laser_pl.rewards.RemoteReward", "init_args": init_args}
    return f"--selection.reward_models={json.dumps({'only': only})}"


def telltale(listener: socket.socket) -> None:
    """A server that sends a client's key back to it, as a redirection."""
    connection, _ = listener.accept()
    with connection:
        head = connection.recv(2**16).decode()
        key = re.search(r"(?i)authorization: bearer (\S+)", head)
        assert key
        body = f"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/?key={key[1]}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(body.encode())


def test_secrets_are_in_no_file_and_on_no_screen(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a server that fails and tells, and with W&B, which is told everything."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=telltale, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        main([
            *command, remote(url, api_key_variable="JUDGE_KEY"),
            "--trainer.logger=lightning.pytorch.loggers.WandbLogger", "--trainer.logger.offline=true",
            f"--trainer.logger.save_dir={tmp_path}",
        ])  # fmt: skip
    wandb.finish()
    wandb.teardown()
    said = "".join(capfd.readouterr()) + caplog.text
    assert f"{url} answered with status 302 to" in said  # it was asked with the key
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.yaml", "selection.jsonl", "summary.json", "last.ckpt"} <= {path.name for path in written}
    assert any(path.suffix == ".wandb" for path in written)
    for name, value in SECRETS.items():
        assert value not in said, name
        assert not [path for path, content in written.items() if value.encode() in content], name
    config = yaml.safe_load((tmp_path / "runs" / "small" / "config.yaml").read_text())
    assert config["selection"]["reward_models"]["only"]["init_args"]["api_key_variable"] == "JUDGE_KEY"


# -- the terminal ------------------------------------------------------------------------------------------------------

SEQUENCES = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202etxt.exe\x08\r\u200b"
COMMANDS = re.compile(r"[^\n\x20-\x7e\u00a0-\u200a\u2010-\u2027\u2030-\u205e\u2070-\uffff]|[\ue000-\uf8ff]")
FAILING = """
import json

TEXT = json.loads({text})


def fails(prompts, completions, **_):
    raise RuntimeError(TEXT)
"""


def test_text_from_elsewhere_gives_no_commands_to_the_terminal(command: list[str], tmp_path: Path) -> None:
    """As a process: in the closing table, in the log, and in the sentence at the end."""
    row = {"prompt": "A 12+ 7=", "answer": "19", "category": f"sums{SEQUENCES}"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "failing_terminal.py").write_text(FAILING.format(text=repr(json.dumps(f"failed{SEQUENCES}"))))
    function = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "failing_terminal.fails"}}
    sets = [f"--data.{split}={tmp_path / 'rows.jsonl'}" for split in ("train", "validation", "test")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "300"}
    told = [*command, *sets, f"--selection.reward_models={json.dumps({f'arm{SEQUENCES}': function})}"]
    refused = [*command, *sets, f"--data.columns.answer=solution{SEQUENCES}"]
    runs = [run_process(words, environment) for words in (told, refused)]
    said = "".join((run.stdout + run.stderr).decode() for run in runs)
    assert [run.returncode for run in runs] == [0, 2], said
    assert all(f"{part}\\x1b[2J" in said for part in ("sums", "arm", "failed", "solution")), said
    assert not COMMANDS.findall(said), said


def test_a_comparison_gives_no_commands_to_the_terminal(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs may be anybody's."""
    run = shutil.copytree(finished, tmp_path / f"run{SEQUENCES}")
    summary = json.loads((run / "summary.json").read_text())
    for accuracy in summary["accuracy"].values():
        accuracy[f"sums{SEQUENCES}"] = 0.5
    summary["arm_share"][f"sums{SEQUENCES}"] = {f"arm{SEQUENCES}": 1.0}
    (run / "summary.json").write_text(json.dumps(summary))
    compare([str(run), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "pwned" in said
    assert not COMMANDS.findall(said)
    assert not COMMANDS.findall((tmp_path / "out" / "comparison.md").read_text())


def test_what_can_be_read_is_shown_as_it_is() -> None:
    assert shown("Größe 数 🙂 'x'") == "Größe 数 🙂 'x'"
    assert shown("a\ud800") == "a\\ud800"


# -- what is installed -------------------------------------------------------------------------------------------------


def test_releases_that_let_somebody_in_are_excluded() -> None:
    """The compromised releases of Lightning (GHSA-w37p-236h-pfx3), and `datasets` that runs a data set's own script."""
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^  "(.+?)",', project.partition("\ndependencies = [")[2].partition("\n]\n")[0], re.MULTILINE)
    allowed = {requirement.name: requirement.specifier for requirement in map(Requirement, listed)}
    assert "2.6.1" in allowed["lightning"]
    assert not {"2.6.2", "2.6.3"} & set(allowed["lightning"].filter(["2.6.2", "2.6.3"]))
    assert not list(allowed["datasets"].filter(["2.19.0", "3.6.0"]))
    assert not list(allowed["torch"].filter(["2.5.1"]))  # weights_only could be got round (CVE-2025-32434)
