"""What arms make of compared responses, and who learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.bandits import LinUCB, Thompson
from laser_pl.batches import Prompt
from laser_pl.data.labels import Compared
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals import FewAnswers, Loss
from laser_pl.metrics.matchers import Exact
from laser_pl.rewards import Pool, RewardModel
from laser_pl.selection.labelled import Labels, examined
from laser_pl.selection.panel import Panel


class ByLength(RewardModel):
    def __init__(self, sign: int) -> None:
        self.sign = sign

    def score(self, prompts: Any, responses: Any) -> Any:
        return [[self.sign * len(text) for text in texts] for texts in responses]


class Broken(RewardModel):
    def score(self, prompts: Any, responses: Any) -> Any:
        raise RuntimeError("no")


def compared(id_: str, better: dict[str, bool], *categories: str) -> Compared:
    return Compared(Prompt(id_, id_, id_), categories or ("all",), tuple(better), tuple(better.values()))


def test_shares_by_hand_once_for_each_category_and_each_prompt_counts_once() -> None:
    """Prompt p is compared twice, with 2 pairs of which the short arm has 1 right, and with 1 that it has wrong."""
    given = [
        compared("p", {"a": False, "bb": True, "ccc": False}, "x", "y"),
        compared("p", {"a": False, "bb": True}, "x", "y"),
        compared("q", {"a": True, "dddd": False}, "x"),
    ]
    panel = Panel(Pool({"short": ByLength(-1), "long": ByLength(1), "broken": Broken()}))
    found = examined(given, ["short", "long", "broken"], panel)
    assert [(prompt.id, prompt.category) for prompt in found.prompts] == [("p", "x"), ("p", "y"), ("q", "x")]
    assert found.pairs.tolist() == [3, 3, 1]
    assert found.accuracy[:, :2].tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3)]] * 2 + [[1.0, 0.0]]
    assert found.accuracy[:, 2].isnan().all()
    assert found.of_arms[:2].tolist() == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_a_prior_from_labels_is_twice_what_an_arm_is_above_the_mean() -> None:
    bandit = Thompson(spread=0.0, prior="labels")
    bandit.start(["a", "b", "c"], 2)
    bandit.learn_labels(torch.tensor([0.9, 0.5, torch.nan], dtype=torch.float64))
    expected = bandit.explain(torch.zeros(1, 2)).mean
    assert expected[0].tolist() == pytest.approx([0.4, -0.4, 0.0])
    written = Thompson(spread=0.0, prior={"a": 0.4, "b": -0.4})
    written.start(["a", "b", "c"], 2)
    assert torch.allclose(written.explain(torch.ones(1, 2)).mean, bandit.explain(torch.ones(1, 2)).mean)
    other = Thompson(spread=0.0, prior="labels")
    other.start(["a", "b", "c"], 2)
    other.load_state_dict(bandit.state_dict())
    assert torch.equal(other.explain(torch.zeros(1, 2)).mean, expected)


def test_what_was_learned_is_not_learned_again_where_the_file_is_read_again(tmp_path: Path) -> None:
    """As a second fit with the same selection does: the bandit would begin anew."""
    path = tmp_path / "labels.jsonl"
    path.write_text('{"prompt": "p", "chosen": "aa", "rejected": "b"}\n')
    panel, bandit = Panel(Pool({"short": ByLength(-1), "long": ByLength(1)})), Thompson(spread=0.0, prior="labels")
    bandit.start(["short", "long"], 2)
    labels = Labels(str(path), Loss(), bandit)
    labels.read([Prompt("p", "p", "p")], Exact())
    labels.teach(["short", "long"], panel)
    bandit.update(torch.ones(1, 2), torch.tensor([0]), torch.ones(1, dtype=torch.float64))
    learned, asked = bandit.explain(torch.ones(1, 2)).mean, dict(panel.pool.forwards)
    labels.read([Prompt("p", "p", "p")], Exact())
    labels.teach(["short", "long"], panel)
    assert torch.equal(bandit.explain(torch.ones(1, 2)).mean, learned)
    assert dict(panel.pool.forwards) == asked


def test_labels_and_who_learns_from_them_are_there_together() -> None:
    with pytest.raises(ConfigurationError, match=r"selection\.labels is set, and neither signal nor bandit learns"):
        Labels("labels.jsonl", Loss(), LinUCB())
    with pytest.raises(ConfigurationError, match=r"takes its prior from labels, and there are none\. Set selection"):
        Labels(None, FewAnswers(), Thompson(prior="labels"))
    for signal, bandit in ((FewAnswers(), LinUCB()), (Loss(), Thompson(prior="labels"))):
        Labels("labels.jsonl", signal, bandit)
    Labels(None, Loss(), Thompson(prior={"a": 0.1}))


def test_labels_that_come_late_or_are_others_are_refused(tmp_path: Path) -> None:
    def labels_of(*better: str) -> Labels:
        path = tmp_path / "labels.jsonl"
        path.write_text("".join(f'{{"prompt": "p", "chosen": "{text}", "rejected": "b"}}\n' for text in better))
        found = Labels(str(path) if better else None, FewAnswers(), LinUCB())
        found.read([Prompt("p", "p", "p")], Exact())
        return found

    panel = Panel(Pool({"short": ByLength(-1), "long": ByLength(1)}))
    first = labels_of("aa")
    first.signal.start(["short", "long"])
    first.teach(["short", "long"], panel)
    asked = dict(panel.pool.forwards)
    for same in (labels_of("aa"), labels_of()):  # without the file it goes on with what was learned
        same.go_on(first.taught)
        same.teach(["short", "long"], panel)
        assert same.taught == first.taught
    assert panel.pool.forwards == asked
    with pytest.raises(ConfigurationError, match=r"selection\.labels holds other labels than when the run began"):
        labels_of("aa", "ccc").go_on(first.taught)
    with pytest.raises(ConfigurationError, match=r"selection\.labels holds labels, which there were none of when"):
        labels_of("aa").go_on(None)


def test_one_prompt_in_two_categories_speaks_for_each_by_its_own_line() -> None:
    given = [compared("p", {"a": True, "bb": False}, "x"), compared("p", {"a": False, "bb": True}, "y")]
    panel = Panel(Pool({"short": ByLength(-1), "long": ByLength(1)}))
    found = examined(given, ["short", "long"], panel)
    assert [(prompt.category, row.tolist()) for prompt, row in zip(found.prompts, found.accuracy, strict=True)] == [
        ("x", [1.0, 0.0]), ("y", [0.0, 1.0]),
    ]  # fmt: skip
