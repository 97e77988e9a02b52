"""What the selection in TRL is made of: groups of responses, the policy that is read, the saved state."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from torch import nn
from trl import GRPOConfig, GRPOTrainer

from laser_pl import bandits
from laser_pl.batches import Prompt, PromptBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback import signals
from laser_pl.integrations.trl import SelectedReward, SelectionCallback
from laser_pl.integrations.trl.groups import Groups, Rows
from laser_pl.integrations.trl.saved import read_state, write_state
from laser_pl.integrations.trl.trained_policy import TrainedPolicy
from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.run.state import digest
from laser_pl.runtime.process_group import ProcessGroup


class Pretended(ProcessGroup):
    """A process among two; ``other`` is what the other one has."""

    def __init__(self, rank: int, other: Any) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "other", other)

    def gather(self, value: Any) -> list[Any]:
        other = self.other  # type: ignore[attr-defined]
        return [value, other] if self.rank == 0 else [other, value]


@pytest.fixture
def rows(tokenizer: Any) -> Rows:
    return Rows(tokenizer, {}, "answer", "category")


def test_groups_may_lie_in_two_processes(rows: Rows) -> None:
    """Three responses to each of two prompts, four of them in the first process."""
    prompts, texts = ["p"] * 3 + ["q"] * 3, list("abcdef")
    columns = {"answer": [1, 1, 1, None, None, None], "kind": list("xxxyyy"), "turn": list("123456")}
    parts = [slice(0, 4), slice(4, 6)]
    gathered = [
        (prompts[own], texts[own], [[3 + i] for i in range(6)][own], {k: v[own] for k, v in columns.items()})
        for own in parts
    ]
    seen = []
    for rank, own in enumerate(parts):
        groups = Groups.of_call(
            prompts[own], texts[own], [[3 + i] for i in range(6)][own],
            {name: values[own] for name, values in columns.items()}, 3, rows, Pretended(rank, gathered[1 - rank]),
        )  # fmt: skip
        assert [text for row in groups.texts for text in row][groups.own] == texts[own]
        seen.append((groups.prompts, groups.texts, groups.ids))
    assert seen[0] == seen[1]
    assert seen[0][1] == [["a", "b", "c"], ["d", "e", "f"]]
    assert seen[0][2] == [[[3], [4], [5]], [[6], [7], [8]]]
    first, second = seen[0][0]
    assert (first.prompt, first.answer, second.answer, first.category) == ("p", "1", None, "all")
    assert dict(first.columns) == {"answer": 1, "kind": "x"}  # `turn` is no prompt's


@pytest.mark.parametrize(
    ("prompts", "completions", "told"),
    [
        (["p", "p", "q", "p"], ["a"] * 4, "4 responses that are no groups of 2"),
        (["p", "p", "q"], ["a"] * 3, "3 responses that are no groups of 2"),
        (["p"] * 2, [[{"content": "a"}, {"content": "b"}]] * 2, "got 2 messages as one completion"),
        (["p"] * 2, [[{"content": [{"type": "image"}]}]] * 2, "got 1 messages as one completion"),
        ([[{"role": "user", "content": "p"}, {"role": "assistant", "content": "q"}]] * 2, ["a"] * 2,
         "Prompt 1: column 'prompt' ends with the assistant's turn"),
        ([[{"role": "user", "content": [{"type": "image"}]}]] * 2, ["a"] * 2, "content must be a text, got list"),
    ],
    ids=["mixed", "odd", "turns", "parts", "ended", "images"],
)  # fmt: skip
def test_what_is_no_group_of_texts_is_refused(prompts: Any, completions: Any, told: str, rows: Rows) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Groups.of_call(prompts, completions, [[3]] * len(prompts), {}, 2, rows, ProcessGroup())


def test_columns_of_any_kind_are_compared(rows: Rows) -> None:
    columns = {"array": [np.ones(2), np.ones(2)], "same": [np.ones(2)] * 2, "list": [[1], [1]], "trainer": "no list",
               "environments": [object()] * 2}  # fmt: skip
    groups = Groups.of_call(["p"] * 2, ["a", "bc"], None, columns, 2, rows, ProcessGroup())
    assert set(groups.prompts[0].columns) == {"list", "same"}
    assert groups.ids == [rows.tokenizer(["a", "bc"])["input_ids"]]


@pytest.fixture
def policy(causal_model: Callable[..., Any], tokenizer: Any, family: str) -> TrainedPolicy:
    model = causal_model(family, len(tokenizer), torch.float64)
    model.train()
    return TrainedPolicy(model)


def test_contexts_and_likelihoods_are_the_models(policy: TrainedPolicy, tokenizer: Any) -> None:
    """Of each text alone, without padding; the model trains on afterwards."""
    heads, tails = tokenizer(["1+1=", "a longer one:"])["input_ids"], tokenizer(["2", "four", "", "5"])["input_ids"]
    tails = [[*tail, 1] for tail in tails]
    tokens, mask = pad_right(tails, 0, torch.device("cpu"))
    prompts = PromptBatch((Prompt("p", "", ""), Prompt("q", "", "")), *pad_left(heads, 0, torch.device("cpu")))
    contexts = policy.contexts(prompts)
    found = policy.logprobs(ResponseBatch(prompts, torch.tensor([0, 0, 1, 1]), tokens, mask))
    assert policy.trains
    policy.model.eval()
    with torch.no_grad():
        for row, head in enumerate(heads):
            told = policy.model(torch.tensor([head]), output_hidden_states=True)
            torch.testing.assert_close(contexts[row], told.hidden_states[-1][0, -1].float(), rtol=1e-5, atol=1e-5)
        for row, tail in enumerate(tails):
            head = heads[row // 2]
            logits = policy.model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].double()
            expected = logits.log_softmax(-1)[torch.arange(len(tail)), tail].sum()
            torch.testing.assert_close(found[row].double(), expected, rtol=1e-5, atol=1e-5)
    assert policy.contexts(prompts.part([])).shape == (0, 32)


def test_a_model_in_parts_is_refused() -> None:
    model = nn.Linear(1, 1)
    TrainedPolicy(model).refuse_sharded()
    model.weight.ds_id = 0  # type: ignore[assignment]  # as DeepSpeed marks what lies elsewhere
    with pytest.raises(ConfigurationError, match=r"The model is sharded.*Give SelectedReward features"):
        TrainedPolicy(model).refuse_sharded()


@pytest.mark.parametrize("bandit", [bandits.LinUCB(), bandits.Exp3(), bandits.SlidingWindowLinUCB(), bandits.UCB1()])
def test_a_state_comes_back_from_its_file(bandit: bandits.Bandit, tmp_path: Path) -> None:
    bandit.start(["a", "b"], 3, seed=1)
    context = torch.tensor([[1.0, 0.5, 0.3]], dtype=torch.float64)
    bandit.learn(context, bandit.select(context), torch.tensor([0.5], dtype=torch.float64), torch.ones(1, 2).bool())
    state = {"bandit": bandit.state_dict(), "none": None, "numbers": [1, 0.1, float("inf")], "name": "ä", "yes": True}
    write_state(tmp_path / "state", state)
    found = read_state(tmp_path / "state")
    assert digest(found) == digest(state)
    bandit.load_state_dict(found["bandit"])


@pytest.mark.parametrize(
    ("state", "told"), [({"a": object()}, "got object"), ({"a": {1: 2}}, r"keys must be strings, got \[1\]")]
)
def test_a_state_of_anything_else_is_not_written(state: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=told):
        write_state(tmp_path / "state", state)
    assert not (tmp_path / "state").exists()


def train(rank: int, folder: Path, policy: Path, port: int) -> None:
    """One of two processes, as ``torchrun`` starts them, forked from one that trained nothing."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)

    def scored(place: int) -> Callable[..., list[float]]:
        def function(prompts: Any, completions: Any, **columns: Any) -> list[float]:
            with (folder / f"calls-{rank}").open("a") as file:
                file.write(f"{place} {len(completions)}\n")
            return [float(sum(map(ord, text)) * (-1) ** place + place * len(set(text))) for text in completions]

        return function

    reward = SelectedReward(
        {f"arm {place}": scored(place) for place in range(3)}, signal=signals.Gap(), bandit=bandits.Thompson()
    )
    reward.selector.check_ranks = True
    GRPOTrainer(
        model=str(policy), reward_funcs=reward, callbacks=[SelectionCallback(reward)],
        train_dataset=Dataset.from_list([{"prompt": f"{i}+1="} for i in range(12)]),
        args=GRPOConfig(
            output_dir=str(folder / "out"), per_device_train_batch_size=6, num_generations=4, max_completion_length=4,
            max_steps=3, save_steps=3, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, ddp_backend="gloo",
        ),
    ).train()  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_processes_choose_the_same_and_share_the_scoring(policy_folder: Path, tmp_path: Path) -> None:
    """Three prompts with four responses each; the second's are dealt out to both. States are compared at each step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=train, args=(rank, tmp_path, policy_folder, port)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "out/selection/selection.jsonl").read_text().splitlines()]
    assert [len(line["prompt_ids"]) for line in lines] == [3, 3, 3]
    for rank, share in ((0, 8), (1, 4)):
        calls = (tmp_path / f"calls-{rank}").read_text().splitlines()
        assert calls == [f"{line['arm'].removeprefix('arm ')} {share}" for line in lines]
    assert read_state(tmp_path / "out/checkpoint-3/selection.safetensors")["batches"] == 3
