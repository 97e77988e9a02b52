"""The selection in TRL's own trainers, on a tiny model."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from laser_pl import bandits, rewards
from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.feedback import signals
from laser_pl.integrations.trl import SelectedReward, SelectionCallback
from laser_pl.integrations.trl.saved import NAME, read_state, write_state
from laser_pl.metrics.matchers import Matcher
from laser_pl.report.command import main as report
from laser_pl.run.state import digest

ROOT = Path(__file__).parents[2]
TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}
N = 4
ROWS = [{"prompt": f"{i}+{i}=", "answer": "x" if i % 2 else "1", "category": "odd" if i % 2 else "even"}
        for i in range(8)]  # fmt: skip


class Arms:
    """Three reward functions that count their calls and keep what they were asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any], list[Any]]] = []

    def of(self, name: str, score: Callable[[str], float | None]) -> Callable[..., list[float | None]]:
        def function(prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
            self.calls.append((name, list(prompts), list(completions)))
            return [score(text if isinstance(text, str) else text[0]["content"]) for text in completions]

        return function

    @property
    def three(self) -> dict[str, Any]:
        # No two of a prompt's responses score alike, so that nobody is passed over for a tie.
        return {
            name: self.of(name, score)
            for name, score in (
                ("first", lambda text: float(sum(map(ord, text)))),
                ("second", lambda text: -float(sum(ord(c) * i for i, c in enumerate(text)))),
                ("third", lambda text: float(hash_of(text))),
            )
        }


def hash_of(text: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 1009


class Holds(Matcher):
    """Right is what holds the answer."""

    def extract(self, text: str) -> str:
        return text

    def is_right(self, response: str, prompt: Prompt) -> bool:
        assert prompt.answer is not None
        return prompt.answer in response


@pytest.fixture
def trainer(policy_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Make a trainer of the tiny policy: ``trainer(reward, kind, rows, callbacks=..., **settings)``."""

    def make(reward: Any, kind: str = "grpo", rows: Any = None, callbacks: Any = None, **settings: Any) -> Any:
        usual = {
            "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": N, "num_generations": N,
            "max_completion_length": 5, "max_steps": 4, "save_strategy": "no", "logging_steps": 1, "report_to": [],
            "use_cpu": True, "bf16": False, "learning_rate": 1e-2, "disable_tqdm": True,
            "gradient_checkpointing": False, "seed": 3,
        }  # fmt: skip
        trainer_class, config = TRAINERS[kind]
        return trainer_class(
            model=str(policy_folder), reward_funcs=reward, args=config(**usual | settings),
            train_dataset=rows if isinstance(rows, IterableDataset) else Dataset.from_list(rows or ROWS),
            eval_dataset=Dataset.from_list(ROWS[:2]),
            callbacks=[SelectionCallback(reward)] if callbacks is None else callbacks,
        )  # fmt: skip

    return make


def lines_of(folder: Path, name: str = "selection.jsonl") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "reward_model_seconds"} for line in lines]


@pytest.mark.parametrize("kind", TRAINERS)
def test_the_chosen_arm_scores_each_generation_batch_alone(
    kind: str, trainer: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = Arms()
    reward = SelectedReward(arms.three, signal=signals.Gap(), bandit=bandits.RoundRobin())
    level = {"normalize_advantages": True} if kind == "rloo" else {}
    training = trainer(reward, kind, per_device_train_batch_size=2 * N, **level)
    training.train()
    lines = lines_of(tmp_path / "out" / "selection")
    assert [line["arm"] for line in lines] == ["first", "second", "third", "first"]
    assert [name for name, *_ in arms.calls] == [line["arm"] for line in lines]
    for (_, prompts, completions), line in zip(arms.calls, lines, strict=True):
        assert len(completions) == 2 * N
        assert all(len(set(prompts[start : start + N])) == 1 for start in (0, N))
        assert len(line["prompt_ids"]) == 2
    assert lines[-1]["reward_model_forwards"]["first"] == 2 * N
    (logged,) = [log for log in training.state.log_history if log.get("step") == 2 and "reward" in log]
    assert (logged["selection/first"], logged["selection/second"]) == (0, 1)
    assert logged["rewards/selected/mean"] == pytest.approx(
        sum(arms.three["second"](["p"] * 2 * N, arms.calls[1][2])) / (2 * N), rel=1e-5
    )
    # The record is a run's.
    judged = [json.loads(line) for line in (tmp_path / "out" / "selection" / "judged.jsonl").read_text().splitlines()]
    assert [line["prompt_id"] for line in judged] == [id_ for line in lines for id_ in line["prompt_ids"]]
    assert [text for line in judged for text in line["responses"]] == [
        text for *_, texts in arms.calls[:4] for text in texts
    ]
    assert judged[-1]["scores"].keys() == {"first"}
    page = report([str(tmp_path / "out" / "selection")])
    assert "cannot be read" not in page.read_text()
    assert {"first", "second", "third"} <= set(page.read_text().replace("<", " ").replace(">", " ").split())
    assert "Written:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("signal", "granularity"),
    [(signals.Trusted(share=1.0), "category"), (signals.Cooling(share=1.0), "prompt"),
     (signals.ProbeGain(size=2), "batch"), (signals.FewAnswers(answers=2), "prompt")],
    ids=["Trusted", "Cooling", "ProbeGain", "FewAnswers"],
)  # fmt: skip
def test_resumed_chooses_and_learns_as_undisturbed(
    signal: Any, granularity: str, trainer: Callable[..., Any], tmp_path: Path
) -> None:
    def reward() -> SelectedReward:
        return SelectedReward(
            Arms().three, signal=signal, granularity=granularity, matcher=Holds(), bandit=bandits.Thompson()
        )

    size = {"per_device_train_batch_size": 2 * N, "save_strategy": "steps", "save_steps": 2}
    trainer(reward(), **size).train()
    undisturbed, out = lines_of(tmp_path / "out" / "selection"), tmp_path / "out"
    state, rows = read_state(out / "checkpoint-4" / NAME), (out / "selection" / "metrics.csv").read_text().splitlines()
    judged = (out / "selection" / "judged.jsonl").read_text()
    assert {line["step"] for line in undisturbed} == {json.loads(line)["step"] for line in judged.splitlines()}
    assert {line["step"] for line in undisturbed} == {0, 1, 2, 3}
    assert any(line["reward"] for line in undisturbed)
    trainer(reward(), **size).train(resume_from_checkpoint=str(out / "checkpoint-2"))
    assert [path.name for path in out.glob("selection*")] == ["selection"]
    assert lines_of(out / "selection") == undisturbed
    assert (out / "selection" / "judged.jsonl").read_text() == judged
    again = read_state(out / "checkpoint-4" / NAME)
    for one in (state, again):
        del one["selector"]["pool"]["seconds"], one["log"]  # what the clock says
    assert digest(again) == digest(state)
    assert len((out / "selection" / "metrics.csv").read_text().splitlines()) == len(rows)


def test_a_batch_of_many_steps_is_learned_from_once_at_its_end(trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Two micro-batches make a step, four a generation batch, which is trained twice: eight of them, four steps."""
    reward = SelectedReward(Arms().three, signal=signals.Gap(), bandit=bandits.Thompson())
    learned: list[int] = []
    learn = reward.selector.learn
    training = trainer(
        reward, max_steps=6, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=2,
        save_strategy="steps", save_steps=1,
    )  # fmt: skip
    reward.selector.learn = lambda *args: (learned.append(training.state.global_step), learn(*args))[1]  # type: ignore
    training.train()
    out = tmp_path / "out"
    assert learned == [4, 6]  # and what was trained of the last one
    assert [line["step"] for line in lines_of(out / "selection")] == [0, 1]
    assert all(len(line["prompt_ids"]) == 4 for line in lines_of(out / "selection"))
    states = [read_state(out / f"checkpoint-{step}" / NAME) for step in range(1, 7)]
    assert [state["batches"] for state in states] == [0, 0, 0, 1, 1, 1]
    # Within a batch a checkpoint holds what was known before it: TRL samples that batch again.
    kept = [digest(state["selector"]) for state in states]
    assert kept[0] == kept[1] == kept[2] != kept[3] == kept[4] == kept[5]
    again = SelectedReward(Arms().three, signal=signals.Gap(), bandit=bandits.Thompson())
    arms = [line["arm"] for line in lines_of(out / "selection")]
    trainer(
        again, max_steps=7, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=2,
    ).train(resume_from_checkpoint=str(out / "checkpoint-5"))  # fmt: skip
    assert [line["arm"] for line in lines_of(out / "selection")][:2] == arms[:2]


def test_a_checkpoint_between_unlike_cycles_holds_what_was_known_before_the_batch(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    """Three micro-batches are a generation batch, four a step: the first step ends within the second batch."""
    reward = SelectedReward(Arms().three, signal=signals.Gap(), bandit=bandits.Thompson())
    trainer(
        reward, max_steps=3, gradient_accumulation_steps=4, steps_per_generation=3, save_strategy="steps", save_steps=1
    ).train()
    for step, batches in ((1, 1), (2, 2), (3, 3)):  # the second is the epoch's last, of two micro-batches
        state = read_state(tmp_path / "out" / f"checkpoint-{step}" / NAME)
        assert state["batches"] == batches
        assert int(state["selector"]["context"]["count"]) == 3 * batches  # prompts


def test_what_is_sampled_to_evaluate_teaches_nothing(trainer: Callable[..., Any], tmp_path: Path) -> None:
    """It is scored by the arm that is expected to be best, also before anything is known of them."""

    def run(**settings: Any) -> tuple[Arms, Any, list[dict[str, Any]]]:
        arms = Arms()
        reward = SelectedReward(arms.three, signal=signals.Gap(), bandit=bandits.LinUCB())
        training = trainer(reward, output_dir=str(tmp_path / f"{len(settings)}"), max_steps=3, **settings)
        training.train()
        return arms, training, lines_of(tmp_path / f"{len(settings)}" / "selection")

    _, _, alone = run()
    arms, training, beside = run(
        eval_strategy="steps", eval_steps=1, eval_on_start=True, per_device_eval_batch_size=4, num_generations_eval=2
    )
    assert [line["prompt_ids"] for line in beside] == [line["prompt_ids"] for line in alone]
    assert len(beside) == 3
    evaluated = [log for log in training.state.log_history if "eval_reward" in log]
    assert next(name for name, prompts, _ in arms.calls if prompts[1:3] == ["0+0=", "1+1="]) == "first"
    assert len(evaluated) == 4
    assert all(sum(log[f"eval_selection/{name}"] for name in arms.three) == 1 for log in evaluated)


def test_chats_reach_reward_functions_as_chats(
    trainer: Callable[..., Any], policy_folder: Path, tmp_path: Path
) -> None:
    arms = Arms()
    reward = SelectedReward(arms.three, signal=signals.Gap(), features=lambda prompts: torch.ones(len(prompts), 3))
    rows = [{"prompt": [{"role": "user", "content": f"{i}?"}]} for i in range(4)]
    training = trainer(reward, rows=rows, max_steps=1)
    training.processing_class.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}:"
    training.train()
    _, prompts, completions = arms.calls[0]
    assert prompts[0][0]["content"].endswith("?")
    assert [len(completion) for completion in completions] == [1] * N
    assert {completion[0]["role"] for completion in completions} == {"assistant"}


def test_one_that_raises_gives_way_and_no_opinion_is_none(trainer: Callable[..., Any], tmp_path: Path) -> None:
    arms, got = Arms(), []

    def broken(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
        raise OSError("no connection")

    some = arms.of("some", lambda text: None if text == max(seen(arms)) else float(hash_of(text)))
    reward = SelectedReward({"broken": broken, "some": some}, signal=signals.Gap(), bandit=bandits.RoundRobin())
    call = reward.__call__

    class Spy(SelectedReward):
        def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
            got.append(call(*args, **kwargs))
            return got[-1]

    reward.__class__ = Spy
    trainer(reward, max_steps=2).train()
    assert [line["arm"] for line in lines_of(tmp_path / "out" / "selection")] == ["some", "some"]
    assert lines_of(tmp_path / "out" / "selection")[0]["passed_over"] == ["broken"]
    assert all(scores.count(None) >= 1 and len(scores) == N for scores in got)


def seen(arms: Arms) -> list[str]:
    """The responses that are asked about."""
    return list(arms.calls[-1][2])


def broken(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
    raise OSError("no connection")


def test_training_ends_once_nobody_is_left_who_could_judge(trainer: Callable[..., Any]) -> None:
    reward = SelectedReward({"broken": broken}, signal=signals.Gap(), max_failures=1)
    with pytest.raises(ConfigurationError, match=r"No reward model is left.*broken: OSError: no connection"):
        trainer(reward).train()


def needs_more(prompts: Any, completions: Any, solution: Any, **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


one = {"one": lambda prompts, completions, **kwargs: [float(len(text)) for text in completions]}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"reward_models": {}}, "reward_models must name at least one"),
        ({"reward_models": [1]}, r"reward_models must name at least one.*got \[1\]"),
        ({"reward_models": {"a": "some/model"}}, "reward model 'a' must be a reward function.*'some/model'"),
        ({"reward_models": {"a": rewards.Verifier}}, "reward model 'a' must be a reward function"),
        ({"reward_models": {"a": torch.nn.Linear(1, 1)}}, "reward model 'a' must be a reward function"),
        ({"signal": signals.Loss()}, "signal Loss is made of the training loss.*Trusted"),
        ({"signal": signals.Nll()}, "signal Nll is made of the training loss.*Majority"),
        ({"signal": signals.Gap}, "signal must be a Signal, made with its arguments, got <class"),
        ({"bandit": "LinUCB"}, "bandit must be a Bandit, made with its arguments, got 'LinUCB'"),
        ({"granularity": "rank"}, "granularity must be one of batch, category, prompt, got 'rank'"),
        ({"bandit": bandits.Fixed("nobody")}, "'nobody'; the reward models are one"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        SelectedReward(**{"reward_models": one, "signal": signals.Gap()} | settings)


@pytest.mark.parametrize(
    ("settings", "rows", "told"),
    [
        ({"signal": signals.Trusted(share=1.0)}, [{"prompt": "a"}], "Trusted would observe nothing.*'answer'"),
        ({"signal": signals.Trusted(1.0), "answer": "solution"}, ROWS, "Trusted would observe nothing.*'solution'"),
        ({"signal": signals.Advantage()}, ROWS, "Advantage asks the model that training started from"),
        ({"reward_models": {"a": needs_more}}, ROWS, r"needs_more cannot be called: nobody gives it solution"),
        ({}, [{"prompt": " "}], "The data set, row 1: column 'prompt' is empty"),
        ({}, [{"prompt": "a", "answer": ["b"]}], "row 1: column 'answer' must be a text or a number, got list"),
        ({"features": lambda prompts: torch.ones(3)}, ROWS, "features must return a row of finite numbers for each"),
        ({"features": lambda prompts: torch.full((1, 2), torch.nan)}, ROWS, r"got \(1, 2\) with NaN"),
    ],
    ids=["no answers", "no such column", "no adapter", "no such argument", "empty", "lists", "features", "no numbers"],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(
    settings: dict[str, Any], rows: Any, told: str, trainer: Callable[..., Any]
) -> None:
    reward = SelectedReward(**{"reward_models": one, "signal": signals.Gap()} | settings)
    with pytest.raises(ConfigurationError, match=told):
        trainer(reward, rows=rows).train()


def test_a_reward_or_a_callback_alone_is_refused(trainer: Callable[..., Any], policy_folder: Path) -> None:
    reward = SelectedReward(one, signal=signals.Gap())
    with pytest.raises(ConfigurationError, match=r"give the trainer SelectionCallback\(reward\) in callbacks"):
        trainer(reward, callbacks=[]).train()
    other = SelectedReward(one, signal=signals.Gap())
    with pytest.raises(ConfigurationError, match="put that into reward_funcs"):
        trainer(one["one"], callbacks=[SelectionCallback(other)]).train()
    with pytest.raises(ConfigurationError, match="SelectionCallback takes the SelectedReward"):
        SelectionCallback(one["one"])
    with pytest.raises(ConfigurationError, match="works in GRPOTrainer and RLOOTrainer, got SFTConfig"):
        SFTTrainer(
            model=str(policy_folder), args=SFTConfig(report_to=[], use_cpu=True, bf16=False),
            train_dataset=Dataset.from_list([{"text": "a"}]), callbacks=[SelectionCallback(reward)],
        )  # fmt: skip


def test_another_trainings_state_is_refused(trainer: Callable[..., Any], tmp_path: Path) -> None:
    def resumed(name: str, signal: Any = None, where: Path | None = None) -> None:
        reward = SelectedReward(one, signal=signal or signals.Gap())
        callback = SelectionCallback(reward, resume_from_checkpoint=None if where is None else str(where))
        training = trainer(reward, callbacks=[callback], max_steps=2, output_dir=str(tmp_path / name))
        training.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-1"))

    for name, seed in (("one", 1), ("two", 2)):
        reward = SelectedReward(one, signal=signals.Gap())
        trainer(
            reward, max_steps=1, save_strategy="steps", save_steps=1, seed=seed, output_dir=str(tmp_path / name)
        ).train()
    with pytest.raises(ConfigurationError, match=r"two/checkpoint-1/selection.safetensors' is not of the checkpoint"):
        resumed("two")
    with pytest.raises(ConfigurationError, match=r"There is no '.*three/checkpoint-1/selection.safetensors'"):
        resumed("three")
    with pytest.raises(ConfigurationError, match=r"The checkpoint's signal is Gap, and selection\.signal is Majority"):
        resumed("one", signals.Majority(share=1.0))
    resumed("three", where=tmp_path / "one" / "checkpoint-1")
    assert [line["step"] for line in lines_of(tmp_path / "three" / "selection")] == [1]
    (tmp_path / "one" / "checkpoint-1" / NAME).write_bytes(b"torn")
    with pytest.raises(ConfigurationError, match="cannot be read as the selection's state"):
        resumed("one")


def test_no_training_takes_another_ones_record(trainer: Callable[..., Any], tmp_path: Path) -> None:
    for _ in range(2):
        trainer(SelectedReward(one, signal=signals.Gap()), max_steps=1).train()
    assert sorted(path.name for path in (tmp_path / "out").glob("selection*")) == ["selection", "selection-2"]


@pytest.mark.parametrize("named", ["selection", "{out}/selection", "../out/selection", ".."])
def test_a_checkpoint_from_elsewhere_begins_a_record_of_its_own(
    trainer: Callable[..., Any], tmp_path: Path, named: str
) -> None:
    """Wherever its file says that its record lies: that is another training's."""
    kept = {"save_strategy": "steps", "save_steps": 1}
    trainer(SelectedReward(one, signal=signals.Gap()), max_steps=3).train()
    record = tmp_path / "out" / "selection"
    before = {path.name: path.read_bytes() for path in record.iterdir() if path.is_file()}
    elsewhere = tmp_path / "elsewhere"
    trainer(SelectedReward(one, signal=signals.Gap()), max_steps=1, output_dir=str(elsewhere), **kept).train()
    checkpoint = elsewhere / "checkpoint-1"
    state = read_state(checkpoint / NAME)
    write_state(checkpoint / NAME, {**state, "folder": named.format(out=tmp_path / "out")})
    reward = SelectedReward(one, signal=signals.Gap())
    callback = SelectionCallback(reward, resume_from_checkpoint=str(checkpoint))
    trainer(reward, callbacks=[callback], max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    assert before == {path.name: path.read_bytes() for path in record.iterdir() if path.is_file()}
    assert [line["step"] for line in lines_of(tmp_path / "out" / "selection-2")] == [1]


def test_a_stream_of_prompts_is_checked_as_it_comes(trainer: Callable[..., Any], tmp_path: Path) -> None:
    rows = IterableDataset.from_generator(lambda: iter(ROWS))
    trainer(SelectedReward(one, signal=signals.Gap()), rows=rows, max_steps=2).train()
    assert len(lines_of(tmp_path / "out" / "selection")) == 2


@pytest.mark.parametrize(
    ("kind", "settings", "granularity", "told"),
    [
        ("rloo", {"normalize_advantages": False}, "batch", 'Set normalize_advantages=True, with granularity="batch"'),
        ("rloo", {"normalize_advantages": True}, "prompt", 'Set normalize_advantages=True, with granularity="batch"'),
        ("rloo", {"normalize_advantages": True}, "batch", None),
        ("grpo", {"scale_rewards": "none"}, "batch", 'Set scale_rewards="group"'),
        ("grpo", {"scale_rewards": "batch"}, "prompt", 'Set scale_rewards="group"'),
        ("grpo", {"scale_rewards": "batch"}, "batch", None),
        ("grpo", {}, "prompt", None),
    ],
)
def test_units_are_warned_about_where_nothing_levels_them(
    kind: str, settings: dict[str, Any], granularity: Any, told: str | None, trainer: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    reward = SelectedReward({"one": one["one"], "two": broken}, signal=signals.Gap(), granularity=granularity)
    training = trainer(reward, kind, max_steps=1, **settings)
    training.callback_handler.on_train_begin(training.args, training.state, training.control)
    assert told in caplog.text if told else "own unit" not in caplog.text


def test_contexts_and_likelihoods_are_those_of_the_weights_where_training_is_in_bf16(
    trainer: Callable[..., Any],
) -> None:
    reward = SelectedReward(Arms().three, signal=signals.Cooling(share=1.0))
    training = trainer(reward, max_steps=1, bf16=True, learning_rate=0.0)
    seen = []
    label = reward.selector.label
    reward.selector.label = lambda batch, step: (seen.append(batch), label(batch, step))[1]  # type: ignore[method-assign]
    training.train()
    (batch,) = seen
    model = AutoModelForCausalLM.from_pretrained(training.model.config._name_or_path).eval()
    (head,) = batch.prompts.ids()
    with torch.no_grad():
        hidden = model(torch.tensor([head]), output_hidden_states=True).hidden_states[-1][:, -1]
        torch.testing.assert_close(batch.contexts, hidden, rtol=1e-5, atol=1e-5)
        for n, mask in enumerate(batch.responses.mask[0]):
            tail = batch.responses.tokens[0, n][mask.bool()].tolist()
            logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].double()
            expected = logits.log_softmax(-1)[torch.arange(len(tail)), tail].sum()
            torch.testing.assert_close(batch.reference_logprobs[0, n], expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # the trainer goes on in bf16
        assert not torch.equal(training.model(torch.tensor([head])).logits, model(torch.tensor([head])).logits)


def test_the_arm_that_is_right_is_found(trainer: Callable[..., Any], tmp_path: Path) -> None:
    def knows(prompts: Sequence[Any], completions: Sequence[str], answer: Sequence[str], **columns: Any) -> list[float]:
        return [float(known in text) for known, text in zip(answer, completions, strict=True)]

    def errs(**given: Any) -> list[float]:
        return [-score for score in knows(**given)]

    reward = SelectedReward(
        {"errs": errs, "knows": knows}, signal=signals.Trusted(share=1.0), matcher=Holds(), bandit=bandits.UCB1()
    )
    rows = [{"prompt": f"{i}=", "answer": "aeiou0123"[i]} for i in range(9)]
    trainer(reward, rows=rows, max_steps=3, per_device_train_batch_size=32, num_generations=16).train()
    last = lines_of(tmp_path / "out" / "selection")[-1]
    assert last["observed"] == {"errs": 0.0, "knows": 1.0}
    assert last["mean"]["knows"] > last["mean"]["errs"]


def test_labels_are_learned_before_anything_is_sampled_and_recorded(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.jsonl"
    rows = [{"prompt": f"{i}+{i}=", "chosen": "a long one", "rejected": "short"} for i in range(6)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms = {"short": lambda completions, **columns: [-float(len(text)) for text in completions],
            "long": lambda completions, **columns: [float(len(text)) for text in completions]}  # fmt: skip
    reward = SelectedReward(arms, signal=signals.FewAnswers(share=1.0), matcher=Holds(), labels=str(labels))
    trainer(reward, max_steps=2).train()
    found = {line["category"]: line for line in lines_of(tmp_path / "out" / "selection", "answers.jsonl")}
    assert {name: line["answers"] for name, line in found.items()} == {"even": 3, "odd": 3}
    assert all(line["by_answers"] == {"short": 0.0, "long": 1.0} for line in found.values())
    labels.write_text('{"prompt": "0+0=", "chosen": "x"}\n')
    with pytest.raises(ConfigurationError, match="row 1: column 'rejected' must hold a text"):
        trainer(reward, max_steps=2).train()


def test_what_the_page_shows_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "laser_pl/docs/pages/in_trl.md").read_text()
    (code,) = re.findall(r'^```python title="grpo.py"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    (tmp_path / "grpo.py").write_text(code.replace("experiments/", f"{ROOT}/experiments/"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("grpo.py", run_name="__main__")
    lines = lines_of(tmp_path / "runs/grpo/selection")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert {line["arm"] for line in lines} <= {"brief", "of_the_question", "varied"}
    assert (tmp_path / "runs/grpo/checkpoint-3" / NAME).exists()


def test_the_example_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "experiments/integrations/trl_grpo.py"))
    found = example["main"](["--trainer=rloo", "--steps=2", "--test_prompts=8", f"--out={tmp_path}"])
    assert 0 <= found["before"] <= 1
    assert f"{found['before']:.3f} -> {found['after']:.3f}" in capsys.readouterr().out
    categories = {line["category"] for line in lines_of(tmp_path / "selection")}
    assert categories <= {"addition", "comparing", "reversing", "sorting"}
