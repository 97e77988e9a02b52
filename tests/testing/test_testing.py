"""What users may hold their own bandits and reward models to: ours pass, each broken one is told why it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laser_pl.bandits import Bandit, LinUCB
from laser_pl.bandits.base import Explanation
from laser_pl.batches import Prompt
from laser_pl.metrics.matchers import Number
from laser_pl.rewards import FunctionReward, MeanEnsemble, RewardModel, Verifier
from laser_pl.testing import check_bandit, check_reward_model


class Means(Bandit):
    """Chooses the arm of the largest mean, sometimes another; whole, to be broken in one place each."""

    def start(self, arms: Any, context_size: int, seed: int = 0) -> None:
        super().start(arms, context_size, seed)
        self.sums = torch.zeros(2, len(arms), dtype=torch.float64)  # rewards, counts

    def explain(self, contexts: Tensor) -> Explanation:
        mean = (self.sums[0] / self.sums[1].clamp(min=1)).expand(len(contexts), -1)
        return Explanation(mean, torch.zeros_like(mean))

    def select(self, contexts: Tensor) -> Tensor:
        noise = torch.rand(len(contexts), len(self.arms), generator=self.generator, dtype=torch.float64)
        return (self.explain(contexts).mean + noise).argmax(-1)

    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        self.sums[0].index_add_(0, arms, rewards.double())
        self.sums[1].index_add_(0, arms, torch.ones_like(rewards, dtype=torch.float64))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sums": dict(zip(self.arms, self.sums.T.clone(), strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sums = torch.stack([state["sums"].get(arm, torch.zeros(2, dtype=torch.float64)) for arm in self.arms]).T


class SelectsFloats(Means):
    def select(self, contexts: Tensor) -> Tensor:
        return super().select(contexts).float()


class SelectsOne(Means):
    def select(self, contexts: Tensor) -> Tensor:
        return super().select(contexts)[:1]


class NamesNobody(Means):
    def select(self, contexts: Tensor) -> Tensor:
        return super().select(contexts) + 1


class ExplainsByInfinity(Means):
    def explain(self, contexts: Tensor) -> Explanation:
        why = super().explain(contexts)
        return Explanation(why.mean, torch.full_like(why.mean, torch.inf))


class ExplainsInSingle(Means):
    def explain(self, contexts: Tensor) -> Explanation:
        why = super().explain(contexts)
        return Explanation(why.mean.float(), why.bonus)


class InsistsOnTheFirst(Means):
    def next_best(self, contexts: Tensor, available: Tensor) -> Tensor:
        return torch.zeros(len(contexts), dtype=torch.long)


class RepeatsItself(Means):
    def without_exploring(self, contexts: Tensor) -> Tensor:
        return torch.zeros(len(contexts), 2, dtype=torch.long)


class LearnsFromNothing(Means):
    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        super().update(contexts, arms, rewards)
        self.sums[0] += 1


class WritesIntoRewards(Means):
    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        super().update(contexts, arms, rewards.mul_(0.5))


class KeepsWhatIsOthers(Means):
    def update(self, contexts: Tensor, arms: Tensor, rewards: Tensor) -> None:
        self.history = [*getattr(self, "history", []), (arms, rewards)]
        self.sums = torch.zeros_like(self.sums)
        for known, reward in self.history:
            super().update(contexts, known, reward)


class DrawsFromTorch(Means):
    def select(self, contexts: Tensor) -> Tensor:
        return torch.randint(len(self.arms), (len(contexts),))


class SavesNumPy(Means):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "more": np.arange(3)}


class ForgetsItsGenerator(Means):
    def state_dict(self) -> dict[str, Any]:
        return {"sums": super().state_dict()["sums"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({"generator": self.generator.get_state(), **state})


class ForgetsWhatItLearned(Means):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        Bandit.load_state_dict(self, state)


class SavesWhatGoesOn(Means):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sums": dict(zip(self.arms, self.sums.T, strict=True))}


class KnowsItsArmsAlone(Means):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        Bandit.load_state_dict(self, state)
        self.sums = torch.stack([state["sums"][arm] for arm in self.arms]).T


@pytest.mark.parametrize("whole", [Means, LinUCB, lambda: LinUCB(alpha=0.3)])
def test_a_whole_bandit_passes(whole: Callable[[], Bandit]) -> None:
    check_bandit(whole)


@pytest.mark.parametrize(
    ("broken", "error", "sentence"),
    [
        (SelectsFloats, AssertionError, r"select\(\) must give int64 of shape \(0,\).*got torch.float32"),
        (SelectsOne, AssertionError, r"select\(\) must give int64 of shape \(4,\) for 4 contexts, got .*\(1,\)"),
        (NamesNobody, AssertionError, "must name one of 2 arms, got"),
        (ExplainsByInfinity, AssertionError, r"explain\(\).bonus must be finite"),
        (ExplainsInSingle, AssertionError, r"explain\(\).mean must be float64 of shape \(0, 2\), got torch.float32"),
        (InsistsOnTheFirst, AssertionError, r"next_best\(\) named arm 0 where only \[False, True, True\] are left"),
        (RepeatsItself, AssertionError, r"without_exploring\(\) must name each arm once, got \[0, 0\]"),
        (LearnsFromNothing, AssertionError, "with no rewards must change nothing"),
        (WritesIntoRewards, AssertionError, "must not change their inputs"),
        (KeepsWhatIsOthers, AssertionError, "must copy what it keeps"),
        (DrawsFromTorch, AssertionError, "draw from self.generator alone"),
        (SavesNumPy, AssertionError, "neither a tensor nor a plain builtin"),
        (ForgetsItsGenerator, AssertionError, "self.generator's state"),
        (ForgetsWhatItLearned, AssertionError, "must be saved as it came"),
        (SavesWhatGoesOn, AssertionError, "must hold copies"),
        (KnowsItsArmsAlone, KeyError, "fresh"),
    ],
)
def test_a_broken_bandit_is_told_which_promise_it_breaks(
    broken: type[Bandit], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        check_bandit(broken)


# -- reward models -----------------------------------------------------------------------------------------------------


class Length(RewardModel):
    """Scores by length, from weights that have to be loaded; whole, to be broken in one place each."""

    scale: float | None = None

    def load(self, device: torch.device) -> None:
        self.scale = 0.5

    def unload(self) -> None:
        self.scale = None

    def score(self, prompts: Any, responses: Any) -> Any:
        assert self.scale is not None, "it is not loaded"
        return [[len(text) * self.scale for text in row] for row in responses]


class OneNumberEach(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        return super().score(prompts, responses)[0]


class TooFew(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        return super().score(prompts, responses)[:1]


class Words(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        return [["good" for _ in row] for row in responses]


class Endless(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        return [[float("inf") for _ in row] for row in responses]


class ByPlace(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        return [[value + row for value in values] for row, values in enumerate(super().score(prompts, responses))]


class Centred(Length):
    def score(self, prompts: Any, responses: Any) -> Any:
        scores = torch.tensor(super().score(prompts, responses))
        return scores - scores.mean(-1, keepdim=True)


class Counts(Length):
    asked = 0

    def score(self, prompts: Any, responses: Any) -> Any:
        self.asked += 1
        return [[value + self.asked for value in row] for row in super().score(prompts, responses)]


class ComesBackAnother(Length):
    def offload(self) -> None:
        self.moved = True

    def load(self, device: torch.device) -> None:
        self.scale = 1.5 if getattr(self, "moved", False) else 0.5


class StaysAway(Length):
    def load(self, device: torch.device) -> None:
        if not hasattr(self, "was"):
            self.was, self.scale = True, 0.5


class SavesItself(Length):
    def state_dict(self) -> dict[str, Any]:
        return {"me": self.load}


class Sizeless(Length):
    def size(self) -> Any:
        return None


def lengths(completions: Any, **columns: Any) -> list[float | None]:
    return [float(len(text)) if isinstance(text, str) else None for text in completions]


def test_a_whole_reward_model_passes_and_is_unloaded() -> None:
    model = Length()
    check_reward_model(model)
    assert model.scale is None
    check_reward_model(Centred(), relative=True)


@pytest.mark.parametrize(
    "kind", [FunctionReward(lengths), Verifier(Number()), MeanEnsemble({"a": Length(), "b": Length()})]
)
def test_ours_pass(kind: RewardModel) -> None:
    check_reward_model(kind, relative=isinstance(kind, MeanEnsemble))


def test_one_that_needs_columns_is_asked_about_prompts_that_have_them() -> None:
    prompts = [Prompt(str(i), "?", "?", columns={"level": i}) for i in range(2)]

    def by_level(completions: Any, level: Any, **columns: Any) -> list[float]:
        return [len(text) * level for text, level in zip(completions, level, strict=True)]

    check_reward_model(FunctionReward(by_level), prompts, [["a", "bb"], ["ccc", "d"]])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (OneNumberEach, r"OneNumberEach.score\(\) must return a tensor or lists of numbers"),
        (TooFew, r"TooFew.score\(\) returned scores of shape \(1, 3\), expected \(3, 3\)"),
        (Words, "must return a tensor or lists of numbers, one for each response: .*good"),
        (Endless, "must give finite numbers"),
        (ByPlace, "must not depend on the order of the prompts"),
        (Centred, "of a reward model that compares responses say relative=True"),
        (Counts, "must get the same scores again"),
        (ComesBackAnother, r"After offload\(\) and load\(\) the same responses"),
        (StaysAway, "it is not loaded"),
        (SavesItself, "neither a tensor nor a plain builtin"),
        (Sizeless, r"size\(\) must say how many bytes"),
    ],
)
def test_a_broken_reward_model_is_told_which_promise_it_breaks(broken: type[RewardModel], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_reward_model(broken())
