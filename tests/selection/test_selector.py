"""The selector without a trainer: what it takes, gives, learns and keeps."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch

import laser_pl
from laser_pl.bandits import UCB1, Fixed, LinUCB
from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import LabelledBatch, PairIndices, PromptLosses, RolloutBatch
from laser_pl.data.loaders import RolloutLoader
from laser_pl.data.pairs import BestWorst
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.normalizers import PooledQuantiles
from laser_pl.feedback.signals import Advantage, Loss
from laser_pl.rewards import Constraint, RewardModel
from laser_pl.selection.selector import Selector
from tests.runs import ThroughDisk

Make = Callable[..., RolloutBatch]
TEXTS = [["four", "4", "2+2", "IV"], ["six", "six!!", "6", "VI is it"]]


class By(RewardModel):
    """Scores a text by a function, and notes what it was asked about."""

    def __init__(self, score: Callable[[str], float | None]) -> None:
        self.function = score
        self.asked: list[str] = []

    def score(self, prompts: Any, responses: Any) -> Any:
        self.asked += [prompt.id for prompt in prompts]
        return [[self.function(text) for text in texts] for texts in responses]


def long() -> By:
    return By(lambda text: float(len(text)))


def short() -> By:
    return By(lambda text: -float(len(text)))


def mute() -> By:
    return By(lambda text: None)


def make_selector(arms: dict[str, RewardModel], bandit: Any = None, **kwargs: Any) -> Selector:
    context, signal = ContextPreparation(), kwargs.pop("signal", Loss())
    return Selector(arms, bandit or LinUCB(), context, signal, PooledQuantiles(), BestWorst(1), **kwargs)


def two_prompts(make: Make, iteration: int = 0) -> RolloutBatch:
    tokens = [[[5 + row, 2 + column] for column in range(4)] for row in range(2)]
    return make(tokens, texts=TEXTS, iteration=iteration)


def losses(*dpo: float) -> PromptLosses:
    return PromptLosses({"loss": torch.tensor(dpo)}, {"loss": torch.full((len(dpo),), math.log(2))})


def run(selector: Selector, make: Make, steps: range) -> list[list[int]]:
    """Arms of so many steps, in which one arm's batches are learned better."""
    chosen = []
    for step in steps:
        labelled = selector.label(two_prompts(make, step), step)
        chosen.append(labelled.arms.tolist())
        selector.learn(labelled, losses(*(0.9 - 0.5 * arm for arm in chosen[-1])))
    return chosen


def test_it_needs_no_lightning_and_the_library_nothing_before_it_is_named() -> None:
    code = (
        "import sys, laser_pl; assert 'torch' not in sys.modules; laser_pl.Selector;"
        "assert not {'lightning', 'pytorch_lightning', 'laser_pl.callbacks'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert laser_pl.Selector is Selector
    with pytest.raises(AttributeError, match="no attribute 'Selectors'"):
        laser_pl.Selectors  # noqa: B018


def test_a_batch_goes_in_and_a_labelled_one_comes_out(rollouts: Make) -> None:
    batch = two_prompts(rollouts)
    labelled = make_selector({"long": long()}).label(batch, step=3)
    assert type(batch) is RolloutBatch
    assert not hasattr(batch, "pairs")
    assert type(labelled) is LabelledBatch
    assert labelled.responses is batch.responses
    assert labelled.arms.tolist() == [0, 0]
    assert labelled.scores.tolist() == [[float(len(text)) for text in texts] for texts in TEXTS]
    assert [labelled.pairs.of(row) for row in range(2)] == [[(0, 1)], [(3, 2)]]
    for one in (batch, labelled):
        with pytest.raises(FrozenInstanceError):
            one.iteration = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arms": torch.zeros(3, dtype=torch.long)},
            r"responses \(2, 4\) got arms \(3,\), scores \(2, 4\) and accuracies",
        ),
        ({"scores": torch.zeros(2, 3)}, r"arms \(2,\), scores \(2, 3\) and accuracies"),
        ({"accuracy": torch.zeros(3)}, r"scores \(2, 4\) and accuracies \(3,\)"),
        ({"pairs": PairIndices(*torch.tensor([[2], [0], [1]]))}, r"2 prompts with 4 responses each got prompt \[2\]"),
        ({"pairs": PairIndices(*torch.tensor([[0], [4], [1]]))}, r"got chosen \[4\]"),
        ({"pairs": PairIndices(*torch.tensor([[0], [0], [-1]]))}, r"got rejected \[-1\]"),
    ],
)
def test_labels_that_do_not_fit_the_batch_are_refused(rollouts: Make, change: dict[str, Any], message: str) -> None:
    labels = {
        "arms": torch.zeros(2, dtype=torch.long), "scores": torch.zeros(2, 4),
        "pairs": PairIndices(*torch.tensor([[1], [0], [3]])),
    }  # fmt: skip
    two_prompts(rollouts).labelled(**labels)
    with pytest.raises(ValueError, match=message):
        two_prompts(rollouts).labelled(**labels | change)


def test_some_prompts_of_a_labelled_batch_take_their_labels_along(rollouts: Make) -> None:
    labelled = make_selector({"long": long()}).label(two_prompts(rollouts), 0)
    part = labelled.part([1])
    assert part.prompts.prompts == labelled.prompts.prompts[1:]
    assert part.scores.tolist() == labelled.scores[1:].tolist()
    assert part.pairs.of(0) == labelled.pairs.of(1)
    assert type(labelled.to("cpu")) is LabelledBatch


def test_where_labels_stood_before_is_said(rollouts: Make) -> None:
    labelled = make_selector({"long": long()}).label(two_prompts(rollouts), 0)
    with pytest.warns(FutureWarning, match=r"batch\.preferences\.arms, .* are batch\.arms"):
        assert labelled.preferences.pairs is labelled.pairs


def test_what_was_learned_last_is_chosen_by_next(rollouts: Make) -> None:
    """Both are tried, and the one whose batches are learned better is chosen from then on."""
    selector = make_selector({"worse": long(), "better": short()}, UCB1(scale=0.1))
    arms = run(selector, rollouts, range(6))
    assert sorted(arms[:2]) == [[0, 0], [1, 1]]  # which is first is drawn
    assert arms[2:] == [[1, 1]] * 4
    (decision,) = selector.decisions
    assert decision.arm == "better"
    assert list(decision.reward or {}) == ["better"]


def test_a_loader_labels_a_batch_when_it_is_asked_for_and_not_before(rollouts: Make) -> None:
    selector, order = make_selector({"long": long()}), []
    loader = RolloutLoader([two_prompts(rollouts, step) for step in range(3)], iteration=0)

    def label(batch: RolloutBatch) -> LabelledBatch:
        order.append("label")
        return selector.label(batch, loader.served - 1)

    loader.label = label
    for batch in loader:
        order.append("learn")
        selector.learn(batch, losses(0.5, 0.6))  # type: ignore[arg-type]
    assert order == ["label", "learn"] * 3
    assert all(type(batch) is RolloutBatch for batch in loader.batches)


def test_a_saved_selector_goes_on_bit_by_bit(rollouts: Make, through_disk: ThroughDisk) -> None:
    def fresh() -> Selector:
        return make_selector({"a": long(), "b": short()}, LinUCB(alpha=2.0), granularity="prompt")

    whole, first, second = fresh(), fresh(), fresh()
    chosen = run(whole, rollouts, range(6))
    assert run(first, rollouts, range(3)) == chosen[:3]
    second.load_state_dict(through_disk(first.state_dict()))
    assert run(second, rollouts, range(3, 6)) == chosen[3:]
    assert second.decisions[0].mean == whole.decisions[0].mean


def test_learning_from_nothing_is_refused(rollouts: Make) -> None:
    batch = make_selector({"a": long()}).label(two_prompts(rollouts), 0)
    with pytest.raises(RuntimeError, match=r"label\(\) a batch first"):
        make_selector({"a": long()}).learn(batch, losses(0.5, 0.5))


def test_a_signal_that_asks_the_policy_is_told_that_there_is_none(rollouts: Make) -> None:
    selector = make_selector({"a": long()}, signal=Advantage())
    labelled = selector.label(two_prompts(rollouts), 0)
    with pytest.raises(RuntimeError, match="asks what nobody answers here"):
        selector.learn(labelled, losses(0.5, 0.5))


def test_best_of_n_takes_the_best_arm_then_the_next_and_what_no_constraint_forbids(rollouts: Make) -> None:
    shy = By(lambda text: None if text[0] in "s6V" else -float(len(text)))  # no opinion on the second prompt
    few = {"few": Constraint(By(lambda text: float(text != "4")), threshold=1.0)}
    selector = make_selector({"long": long(), "shy": shy}, granularity="prompt", constraints=few)
    run(selector, rollouts, range(8))
    selector.bandit.without_exploring = lambda contexts: torch.tensor([[1, 0]] * len(contexts))  # type: ignore[method-assign]
    batch = two_prompts(rollouts)
    best = selector.best(batch.prompts.prompts, TEXTS, batch.contexts)
    assert best.arms == [1, 0]
    nan = float("nan")
    expected = torch.tensor([[-4.0, nan, -3.0, -2.0], [3.0, 5.0, 1.0, 8.0]], dtype=torch.float64)
    torch.testing.assert_close(best.scores, expected, equal_nan=True)
    assert best.means.shape == (2, 2)


def test_best_of_n_by_a_bandit_that_knows_one_arm_asks_nobody_else(rollouts: Make) -> None:
    arms = {"mute": mute(), "long": long()}
    selector = make_selector(arms, Fixed("mute"), granularity="prompt")  # type: ignore[arg-type]
    batch = two_prompts(rollouts)
    selector.label(batch, 0)
    best = selector.best(batch.prompts.prompts, TEXTS, batch.contexts)
    assert best.arms == [None, None]
    assert best.scores.isnan().all()
    assert arms["long"].asked == []


class Down(RewardModel):
    """One whose server is down for some calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def score(self, prompts: Any, responses: Any) -> Any:
        self.calls -= 1
        if self.calls >= 0:
            raise RuntimeError("down")
        return [[float(len(text)) for text in texts] for texts in responses]


@pytest.mark.parametrize("whose", ["arm", "constraint"])
def test_best_of_n_tells_a_fault_from_no_opinion_and_who_is_aside_comes_back(rollouts: Make, whose: str) -> None:
    forbids = {"few": Constraint(Down(3), threshold=1.0)} if whose == "constraint" else {}
    arms = {"down": Down(3)} if whose == "arm" else {"long": long()}
    selector = make_selector(arms, granularity="prompt", constraints=forbids, cooldown=2)  # type: ignore[arg-type]
    batch, found = two_prompts(rollouts), []
    for step in range(6):
        selector.pool.health.step = step
        found.append(selector.best(batch.prompts.prompts, TEXTS, batch.contexts))
    # Three faults, the third of which puts it aside for two steps more.
    assert [best.lost.tolist() for best in found] == [[True, True]] * 5 + [[False, False]]
    assert [best.response(0) is None for best in found] == [True] * 5 + [False]
    assert [best.stuck is None for best in found] == [True, True, False, False, False, True]
    assert selector.stuck is None  # a training that asks in between is not ended by it


def test_an_arm_that_is_put_aside_within_a_batch_is_no_arm_without_an_opinion(rollouts: Make) -> None:
    selector = make_selector({"mute": Down(1), "long": long()}, granularity="prompt", max_failures=1)  # type: ignore
    labels = selector.panel.ask("mute", two_prompts(rollouts).prompts.prompts, TEXTS, [0])
    assert labels.failed
    again = selector.panel.ask("mute", two_prompts(rollouts).prompts.prompts, TEXTS, [1])
    assert again.failed
    assert again.scores.isnan().all()


def test_best_of_n_refuses_contexts_of_another_size(rollouts: Make) -> None:
    selector = make_selector({"a": long()})
    batch = two_prompts(rollouts)
    selector.label(batch, 0)
    with pytest.raises(ConfigurationError, match=r"contexts of size 5, this policy's have 8\. Predict with the policy"):
        selector.best(batch.prompts.prompts, TEXTS, torch.zeros(2, 7))
