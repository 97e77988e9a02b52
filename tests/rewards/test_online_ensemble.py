"""The ensemble that learns: its weights by hand, and at work in a run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import PairIndices, Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import ByCategory, MeanEnsemble, OnlineEnsemble, RewardModel
from tests.runs import Fit, ThroughDisk

PROMPTS = [Prompt("p0", "a", "a"), Prompt("p1", "b", "b")]
TEXTS = [["x", "xx", "xxx"], ["xxxx", "x", ""]]


class Length(RewardModel):
    """Scores a response by its length, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        return [[self.factor * len(text) for text in row] for row in responses]


class Silent(RewardModel):
    """Has no opinion."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        return [[None for _ in row] for row in responses]


def members() -> dict[str, RewardModel]:
    return {"long": Length(3.0), "short": Length(-1.0), "silent": Silent()}


def pairs(*rows: tuple[int, int, int]) -> PairIndices:
    return PairIndices(*torch.tensor(rows, dtype=torch.long).reshape(-1, 3).unbind(-1))


def learn(ensemble: OnlineEnsemble, trained: PairIndices, rewards: torch.Tensor) -> None:
    ensemble.learn(ensemble.lessons(PROMPTS, trained, rewards))


def test_it_begins_as_the_mean() -> None:
    mean, online = MeanEnsemble(members()), OnlineEnsemble(members())
    for ours, theirs in zip(online.score(PROMPTS, TEXTS), mean.score(PROMPTS, TEXTS), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_weights_by_hand() -> None:
    """On p0 the longer won twice with reward 0.5; on p1 long and short won once each with reward -1: nothing gained."""
    ensemble = OnlineEnsemble(members(), rate=0.2)
    ensemble.score(PROMPTS, TEXTS)
    trained = pairs((0, 2, 0), (0, 1, 0), (1, 0, 1), (1, 2, 1))
    learn(ensemble, trained, torch.tensor([0.5, -1.0], dtype=torch.float64))
    gain = 0.2 * (0.5 * 1.0 + -1.0 * 0.0) / 2
    assert ensemble.log_weights.tolist() == pytest.approx([gain, -gain, 0.0], abs=1e-12)
    weights = [math.exp(gain), math.exp(-gain)]
    high = math.sqrt(1.5)  # 1, 2, 3 standardised are -high, 0, high, and the short one sees them the other way round
    expected = (weights[0] - weights[1]) / sum(weights) * high
    scores = ensemble.score(PROMPTS[:1], TEXTS[:1])
    assert scores[0] == pytest.approx([-expected, 0.0, expected], abs=1e-9)


def test_what_did_not_judge_or_pair_teaches_nothing() -> None:
    ensemble = OnlineEnsemble(members())
    ensemble.score(PROMPTS, TEXTS)
    learn(ensemble, pairs((0, 2, 0)), torch.tensor([math.nan, 1.0], dtype=torch.float64))
    assert ensemble.log_weights.tolist() == [0.0, 0.0, 0.0]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_members_that_always_contradict_each_other_mirror_each_other(rewards: list[float]) -> None:
    ensemble = OnlineEnsemble({"long": Length(1.0), "short": Length(-1.0)})
    for reward in rewards:
        ensemble.score(PROMPTS, TEXTS)
        learn(ensemble, pairs((0, 2, 0), (1, 0, 1)), torch.full((2,), reward, dtype=torch.float64))
    long, short = ensemble.log_weights.tolist()
    assert long == pytest.approx(0.1 * math.fsum(rewards), abs=1e-9)
    assert short == pytest.approx(-long, abs=1e-12)


def test_weights_are_kept_by_name(through_disk: ThroughDisk) -> None:
    ensemble = OnlineEnsemble(members())
    ensemble.score(PROMPTS, TEXTS)
    learn(ensemble, pairs((0, 2, 0)), torch.ones(2, dtype=torch.float64))
    other = OnlineEnsemble({"new": Length(1.0), "long": Length(3.0)})
    other.load_state_dict(through_disk(ensemble.state_dict()))
    assert other.log_weights.tolist() == [0.0, float(ensemble.log_weights[0])]


def test_what_it_is_asked_after_it_judged_takes_no_lesson_away() -> None:
    """A signal asks it again about one prompt; a probe had asked it about another batch before."""
    polled, plain = OnlineEnsemble(members()), OnlineEnsemble(members())
    polled.score([Prompt("other", "c", "c")], [["x", "xx", "xxx"]])
    trained, rewards = pairs((0, 2, 0), (1, 0, 1)), torch.tensor([0.5, -1.0], dtype=torch.float64)
    for ensemble in (polled, plain):
        ensemble.score(PROMPTS, TEXTS)
    polled.score(PROMPTS[1:], TEXTS[1:])
    one, other = (e.lessons(PROMPTS, trained, rewards, TEXTS) for e in (polled, plain))
    assert {row: gains.tolist() for row, gains in one.items()} == {row: gains.tolist() for row, gains in other.items()}
    assert sorted(polled.lessons(PROMPTS, trained, rewards)) == [0, 1]  # in the order in which they were asked about


@pytest.mark.parametrize("told", [True, False], ids=["with responses", "in order"])
def test_two_rows_of_one_prompt_are_told_apart(told: bool) -> None:
    ensemble = OnlineEnsemble({"long": Length(1.0), "short": Length(-1.0)})
    twice, texts = [PROMPTS[0]] * 3, [["a", "bbb"], ["bbb", "a"], ["a", "bbb"]]
    ensemble.score(twice, texts)
    ensemble.score(twice[1:2], texts[1:2])  # a poll
    trained = pairs((0, 1, 0), (1, 0, 1), (2, 0, 1))  # the longer one, twice; then the shorter
    found = ensemble.lessons(twice, trained, torch.ones(3, dtype=torch.float64), texts if told else None)
    wanted = {0: [1.0, -1.0], 1: [1.0, -1.0], 2: [-1.0, 1.0]}
    if not told:
        del found[2], wanted[2]  # two equal rows are one question: of what comes in order the third is the last known
    assert {row: gains.tolist() for row, gains in found.items()} == wanted


def test_it_learns_inside_of_others_and_its_state_is_theirs(through_disk: ThroughDisk) -> None:
    """In an ensemble in an ensemble, and as one category's reward model."""
    inner, routed = OnlineEnsemble(members(), rate=0.2), OnlineEnsemble(members(), rate=0.2)
    outer = OnlineEnsemble({"mean": MeanEnsemble({"inner": inner}), "by": ByCategory({"all": routed})})
    outer.score(PROMPTS, TEXTS)
    trained, rewards = pairs((0, 2, 0), (1, 0, 1)), torch.tensor([0.5, 0.5], dtype=torch.float64)
    learners = outer.learners()
    assert [learner for learner in learners if isinstance(learner, OnlineEnsemble)] == [outer, inner, routed]
    for learner in learners:
        learner.learn(learner.lessons(PROMPTS, trained, rewards, TEXTS))
    assert inner.log_weights.tolist() == routed.log_weights.tolist() == pytest.approx([0.1, -0.1, 0.0], abs=1e-12)
    by = ByCategory({"all": OnlineEnsemble(members())})
    fresh = OnlineEnsemble({"mean": MeanEnsemble({"inner": OnlineEnsemble(members())}), "by": by})
    fresh.load_state_dict(through_disk(outer.state_dict()))
    for one, other in zip(fresh.learners(), learners, strict=True):
        assert one.state_dict() == other.state_dict()
    assert MeanEnsemble(members()).state_dict() == {}


def test_what_it_remembers_is_bounded_where_nobody_tells_it_to_forget() -> None:
    """As in ``predict``."""
    ensemble = OnlineEnsemble(members())
    for number in range(50):
        ensemble.score([Prompt(f"{number} {row}", "", "") for row in range(100)], [["x", "xx"]] * 100)
    assert len(ensemble._scores) == 4096
    ensemble.learn({})
    assert not ensemble._scores


def test_a_rate_of_nothing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="rate must be > 0, got 0"):
        OnlineEnsemble(members(), rate=0.0)


def test_in_a_run_it_learns_from_the_bandits_reward(fit: Fit, tmp_path: Path) -> None:
    """A member gains at most the rate times the reward in a step, and the two do not gain alike."""
    spec = {
        "online": {
            "class_path": "laser_pl.rewards.OnlineEnsemble",
            "init_args": {
                "reward_models": {
                    name: {
                        "class_path": "laser_pl.rewards.FunctionReward",
                        "init_args": {"function": f"tests_functions.{name}"},
                    }
                    for name in ("long", "late")
                }
            },
        }
    }
    module = tmp_path / "tests_functions.py"
    module.write_text(
        "def long(prompts, completions, **columns):\n    return [len(c) for c in completions]\n\n\n"
        "def late(prompts, completions, **columns):\n    return [max(map(ord, c), default=0) for c in completions]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        overlay = tmp_path / "online.yaml"
        bandit = {"class_path": "laser_pl.bandits.Fixed"}
        overlay.write_text(json.dumps({"selection": {"reward_models": spec, "bandit": bandit}}))
        run = fit(tmp_path, f"--config={overlay}")
    lines = run.folder.selection.read_text().splitlines()
    rewards = [abs(d["reward"]["online"]) for d in map(json.loads, lines) if d["reward"]]
    assert rewards
    learned = run.selector.pool.state_dict()["learned"]["online"]["log_weights"]
    assert 0 < max(map(abs, learned.values())) <= 0.1 * math.fsum(rewards) + 1e-12
    assert learned["long"] != learned["late"]
