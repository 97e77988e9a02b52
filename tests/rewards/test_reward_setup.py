"""A mistake in a reward model's set-up ends the run before the first rollout, in one sentence; none costs labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from laser_pl.batches import Prompt
from laser_pl.commands.cli import main
from laser_pl.errors import ConfigurationError
from laser_pl.forecast.command import main as plan_main
from laser_pl.models.language_model import Weights
from laser_pl.rewards import (
    ByCategory,
    FunctionReward,
    Likelihood,
    MeanEnsemble,
    PairwiseJudge,
    PointwiseJudge,
    Pool,
    RemoteReward,
    RewardModel,
    SequenceClassifier,
)
from laser_pl.rewards.characters import characters_of
from laser_pl.rewards.protocols import OpenRLHF

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
NO_TURNS = "{% if messages | length > 2 %}{{ raise_exception('One question only') }}{% endif %}" + PLAIN
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1="}]
TURNS = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "+1="}]
Classifier = Callable[..., str]


@pytest.fixture
def classifier(tmp_path: Path, tokenizer: Any, llama_config: Callable[..., Any]) -> Classifier:
    """The folder of a classifier with a tokenizer and a template."""

    def make(template: str | None = None, tokenizer: Any = tokenizer, tokens: int | None = None) -> str:
        folder = tmp_path / f"classifier{len([*tmp_path.iterdir()])}"
        tokenizer.chat_template = template
        LlamaForSequenceClassification(llama_config(tokens or len(tokenizer), num_labels=1)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


def without_unknown(characters: str) -> Any:
    """A tokenizer that raises at what it does not know."""
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(["<eos>", *characters])}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def check(reward_model: RewardModel, *prompts: Prompt, written: str = "12") -> None:
    Pool({"mine": reward_model}).check(prompts, lambda: written)


def asked(prompt: Any, category: str = "all", **columns: Any) -> Prompt:
    return Prompt("p", prompt, "", category=category, columns=columns)


def fit_main(args: list[str]) -> None:
    main(["fit", *args])


@pytest.mark.parametrize("command", [fit_main, plan_main], ids=["fit", "plan"])
def test_a_template_that_refuses_the_prompts(
    classifier: Classifier, policy_folder: Path, tokenizer: Any, tmp_path: Path,
    command: Callable[[list[str]], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Nested in an ensemble, found where only the last prompt has a system's turn."""
    policy = tmp_path / "policy"
    AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(policy)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(policy)
    rows = [{"messages": [{"role": "user", "content": f"{i}+1="}]} for i in range(20)] + [{"messages": SYSTEM}] * 9
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row | {"n": n}) for n, row in enumerate(rows)))

    def member(template: str) -> dict[str, Any]:
        init = {"weights": {"name": classifier(template)}}
        return {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": init}

    members = {"reward_models": {"gemma": member(NO_SYSTEM), "other": member(PLAIN)}}
    selection = {"both": {"class_path": "laser_pl.rewards.MeanEnsemble", "init_args": members}}
    config = {
        "name": "refused", "runs_dir": str(tmp_path / "runs"), "trainer": {"accelerator": "cpu", "max_epochs": 1},
        "model": {"weights": {"name": str(policy)}},
        "data": {"train": str(tmp_path / "rows.jsonl"), "template": "laser_pl.data.templates.Chat",
                 "columns": {"prompt": "messages", "answer": None, "category": None},
                 "rollouts": {"n": 2, "max_new_tokens": 4}, "batch_size": 4},
        "selection": {"reward_models": selection},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as ended:
        command([f"--config={tmp_path / 'config.yaml'}"])
    assert ended.value.code == 2
    printed = " ".join("".join(capsys.readouterr()).split())
    assert (
        "The reward model 'both' cannot be used. The reward model 'gemma' cannot be used. The chat template of"
        in printed
    )
    assert "refuses a prompt: System role not supported. Set chat_template: false in the reward model's" in printed
    assert not [*tmp_path.glob("runs/*/rollouts/*")]


@pytest.mark.parametrize(
    ("template", "prompts", "reason"),
    [
        (NO_SYSTEM, [asked("1"), asked(SYSTEM)], "System role not supported"),
        (NO_TURNS, [asked("1"), asked(TURNS)], "One question only"),
        ("{{ messages[0]['name'] | lower }}" + PLAIN + "{{ messages[0].name.x }}", [asked("1")], "has no attribute"),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", [asked("1")], "not show the"),
    ],
    ids=["system", "turns", "broken", "no response"],
)
@pytest.mark.parametrize("kind", [SequenceClassifier, Likelihood])
def test_every_sequence_of_roles_is_tried(
    classifier: Classifier, policy_folder: Path, tokenizer: Any, tmp_path: Path, kind: Any, template: str,
    prompts: list[Prompt], reason: str,
) -> None:  # fmt: skip
    if kind is SequenceClassifier and "not show" in reason:
        return  # it reads the whole chat, whatever that shows
    folder = classifier(template)
    if kind is Likelihood:
        AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(folder)
    with pytest.raises(ConfigurationError, match=reason):
        check(kind(Weights(folder)), *prompts)
    check(kind(Weights(folder), chat_template=False), *prompts)


def test_a_character_of_a_prompt(classifier: Classifier) -> None:
    tokenizer = without_unknown("1+=")
    with pytest.raises(
        ConfigurationError, match=r"The reward model 'mine' cannot .* cannot read \('1\+2=', '1', '1'\)"
    ):
        check(SequenceClassifier(Weights(classifier(None, tokenizer))), asked("1+1="), asked("1+2="), written="1")


def test_a_character_that_the_policy_can_write(classifier: Classifier, tokenizer: Any) -> None:
    reward = SequenceClassifier(Weights(classifier(None, without_unknown("1+="))))
    check(reward, asked("1+1="), written="1=+")
    with pytest.raises(
        ConfigurationError, match=r"cannot read '\\n', which the policy can write. Give it an unk_token"
    ):
        check(reward, asked("1+1="), written=characters_of(tokenizer))
    check(SequenceClassifier(Weights(classifier(None, tokenizer))), asked("é"), written="é")  # it has <unk>


def test_while_training_it_ends_the_run_too(classifier: Classifier) -> None:
    """Not counted as a missing label: the next response would fail like this one."""
    pool = Pool({"mine": SequenceClassifier(Weights(classifier(None, without_unknown("1+="))))})
    with pytest.raises(ConfigurationError, match="cannot read"):
        pool.score("mine", [asked("1+1=")], [["2"]], torch.device("cpu"))


def test_a_tokenizer_of_another_model(classifier: Classifier, tokenizer: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"has {len(tokenizer)} tokens and the model 50\. It is another model's"
    ):
        check(SequenceClassifier(Weights(classifier(tokens=50))))


def test_a_template_with_tokens_that_the_model_does_not_know(classifier: Classifier, tokenizer: Any) -> None:
    """Added to the tokenizer, and the model not resized."""
    known = len(tokenizer)
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    folder = classifier(PLAIN.replace("|", "<|im_end|>"), tokenizer, tokens=known)
    with pytest.raises(
        ConfigurationError, match=rf"token '<\|im_end\|>' .* has number {known}, and the model knows {known}"
    ):
        check(SequenceClassifier(Weights(folder)), asked("1"))
    check(SequenceClassifier(Weights(folder), chat_template=False), asked("1"))


def test_weights_of_another_shape(classifier: Classifier) -> None:
    folder = Path(classifier())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(ConfigurationError, match=r"do not fit its config.json: 21 tensors are missing or of another"):
        check(SequenceClassifier(Weights(str(folder))))


def test_a_classifier_without_its_head(classifier: Classifier, policy_folder: Path) -> None:
    folder = Path(classifier())
    (folder / "model.safetensors").write_bytes((policy_folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigurationError, match=r"1 tensors are missing .* the first is score\.weight"):
        check(SequenceClassifier(Weights(str(folder))))


@pytest.mark.parametrize("kind", [SequenceClassifier, Likelihood])
def test_an_adapter_alone_is_no_model(classifier: Classifier, kind: Any) -> None:
    """transformers would put it on a base whose score head may be random."""
    folder = Path(classifier())
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ConfigurationError, match=r"is a PEFT adapter without the model .* Merge .* modules_to_save"):
        check(kind(Weights(str(folder))))


def needs_unit(prompts: Any, completions: Any, unit: Sequence[str]) -> list[float]:
    return [float(len(one)) for one in unit]


def needs_nothing(**columns: Any) -> list[float]:
    return [0.0 for _ in columns["completions"]]


def test_a_function_that_asks_for_a_column_that_is_not_there() -> None:
    check(FunctionReward(needs_unit), asked("1", unit="km"))
    check(FunctionReward(needs_nothing), asked("1"))
    with pytest.raises(ConfigurationError, match=r"needs_unit cannot be called: nobody gives it unit\. .*size"):
        check(FunctionReward(needs_unit), asked("1", size=1))


def test_a_category_without_a_reward_model() -> None:
    one = ByCategory({"sums": FunctionReward(needs_nothing)})
    check(one, asked("1", "sums"))
    with pytest.raises(ConfigurationError, match="no reward model for the category 'words', only for sums"):
        check(MeanEnsemble({"one": one}), asked("1", "sums"), asked("a", "words"))


@pytest.mark.parametrize("kind", [PointwiseJudge, PairwiseJudge])
def test_a_judge_whose_template_needs_a_column(policy_folder: Path, kind: Any) -> None:
    judge = kind(Weights(str(policy_folder)), template="{{ prompt }} {{ unit }}")
    check(judge, asked("1", unit="km"))
    with pytest.raises(
        ConfigurationError, match=f"The template of {kind.__name__} cannot be filled from a row: 'unit'"
    ):
        check(judge, asked("1", unit="km"), asked("2"))


def test_a_server_whose_text_needs_a_column() -> None:
    with pytest.raises(ConfigurationError, match="text cannot be filled from a row: 'unit' is undefined"):
        check(RemoteReward("http://localhost:1", OpenRLHF(), text="{{ unit }}"), asked("1"))
