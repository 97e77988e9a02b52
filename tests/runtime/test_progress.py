"""What takes long says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.batches import Prompt
from laser_pl.data.prompts import encode
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.way import way_of
from laser_pl.models.language_model import Weights
from laser_pl.rewards import ImplicitReward, PairwiseJudge, RewardModel, SequenceClassifier
from laser_pl.rewards.pool import Pool
from laser_pl.runtime import progress
from laser_pl.runtime.progress import Task


class Heard:
    """Notes everything."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.counts: list[float] = []
        self.depth = 0

    def begin(self, task: Task) -> None:
        self.depth += 1
        self.tasks.append(task)

    def advance(self, count: float) -> None:
        self.counts.append(count)

    def end(self) -> None:
        self.depth -= 1


def test_a_block_is_not_heard() -> None:
    heard = Heard()
    with progress.listening(heard), progress.task("heard"):
        with progress.unheard(), progress.task("unheard"):
            progress.advance(1)
        progress.advance(2)
    assert [task.what for task in heard.tasks] == ["heard"]
    assert heard.counts == [2]


@pytest.mark.parametrize("family_name", ["llama", "gemma3 with sliding window"], ids=["shared prompts", "repeated"])
@pytest.mark.parametrize("tokens_at_once", [262144, 900])
def test_sampling_counts_every_response_once_whenever_it_ends(
    causal_model: Callable[..., Any], tokenizer: Any, family_name: str, tokens_at_once: int
) -> None:
    model = causal_model(family_name, len(tokenizer))
    prompts = encode([Prompt(str(n), "x" * (n + 1), "c") for n in range(3)], tokenizer, 50, False)
    way_of(model)  # whose trial says how far it is, too
    heard = Heard()
    with progress.listening(heard):
        responses = sample_responses(model, tokenizer, prompts, Sampling(20, 1.0, 1.0, 40, tokens_at_once), seed=0)
    lengths = responses.mask.sum(-1)
    assert lengths.min() < 16 < lengths.max()  # some leave early
    assert min(heard.counts) > 0
    assert sum(heard.counts) == pytest.approx(60)


def reward_models(policy: Path, classifier: Path) -> dict[str, RewardModel]:
    weights = Weights(str(policy))
    return {
        "one model": SequenceClassifier(Weights(str(classifier)), max_tokens_per_batch=60),
        "a model and its reference": ImplicitReward(weights, weights, max_tokens_per_batch=60),
        "each against each": PairwiseJudge(weights, "{{ response_a }};{{ response_b }}=", ("a", "b"), None,
                                           max_tokens_per_batch=60),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["one model", "a model and its reference", "each against each"])
def test_scoring_counts_the_forwards_that_it_costs_after_loading(
    kind: str,
    classifier_folders: dict[str, Path],
    policy_folder: Path,
    questions: list[Prompt],
    responses: list[list[str]],
) -> None:
    model = reward_models(policy_folder, classifier_folders["a"])[kind]
    pool, heard = Pool({"a": model}), Heard()
    with progress.listening(heard):
        pool.score("a", questions, responses, torch.device("cpu"))
    assert [task.what for task in heard.tasks] == ["loading a", "scoring by a"]
    assert heard.tasks[1].total == pool.forwards["a"] == sum(heard.counts)
    assert len(heard.counts) > 1
    assert heard.depth == 0


def test_a_task_ends_when_it_fails_and_the_listener_before_is_told_again() -> None:
    outer, inner = Heard(), Heard()
    with progress.listening(outer):
        with pytest.raises(ValueError, match="no"), progress.listening(inner), progress.task("a"):
            raise ValueError("no")
        progress.advance(1)
    progress.advance(1)  # nobody listens
    assert (len(inner.tasks), inner.depth, outer.counts) == (1, 0, [1])
