"""What every reward model promises, wherever its scores come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.scores import as_tensor
from laser_pl.run.state import digest
from laser_pl.testing.promises import hold, through_checkpoint

PROMPTS = (
    Prompt("sum", "1+1=", "1+1=", answer="2", category="sums"),
    Prompt("word", "A rather long question?", "A rather long question?", answer="no", category="words"),
    Prompt("chat", [{"role": "user", "content": "2+2?"}], "2+2?", answer="4", category="sums"),
)
"""A string, a longer one of another category, and a chat, each with an answer."""

RESPONSES = (("2", "", "two, I think"), ("no", "a much longer answer than any of the others", "z"), ("4", "5", "66"))
"""Three responses to each, one of them empty."""


def check_reward_model(
    reward_model: RewardModel,
    prompts: Sequence[Prompt] = PROMPTS,
    responses: Sequence[Sequence[str]] = RESPONSES,
    *,
    relative: bool = False,
    tolerance: float = 1e-5,
    device: str = "cpu",
) -> None:
    """Hold a reward model to what the pool relies on. It is loaded, and unloaded in the end.

    Args:
        reward_model: As a configuration makes it.
        prompts: ``B`` prompts to ask about, at least two; yours, where it needs columns of a data set.
        responses: ``n`` responses to each, at least two.
        relative: Whether it compares a prompt's responses, so that they are only scored together.
        tolerance: How far a score may move with what it is scored beside; rounding of larger batches.
        device: Where to load it.

    Raises:
        AssertionError: If a promise is broken; it says which.
        ConfigurationError: If it refuses what it is asked.
    """
    name, shape = type(reward_model).__name__, (len(prompts), len(responses[0]))

    def scores(rows: Sequence[int], columns: Sequence[int]) -> Tensor:
        found = reward_model.score([prompts[r] for r in rows], [[responses[r][i] for i in columns] for r in rows])
        try:
            return as_tensor(found, (len(rows), len(columns)), f"{name}.score()")
        except ConfigurationError as error:
            raise AssertionError(str(error)) from error

    rows, columns = range(shape[0]), range(shape[1])
    reward_model.check()
    reward_model.check_categories(sorted({prompt.category for prompt in prompts}))
    reward_model.check_texts(
        prompts, lambda: "".join(sorted({c for texts in responses for text in texts for c in text}))
    )
    size = reward_model.size()
    hold(
        isinstance(size, int) and size >= 0,
        f"size() must say how many bytes the weights need before they are loaded, got {size!r}.",
    )
    reward_model.load(torch.device(device))
    try:
        together = scores(rows, columns)
        hold(not together.isinf().any(), "score() must give finite numbers, or None where it has no opinion.")
        hold(_alike(scores(rows, columns), together, tolerance), "The same responses must get the same scores again.")
        turned = rows[::-1]
        hold(
            _alike(scores(turned, columns), together[list(turned)], tolerance),
            "A prompt's scores must not depend on the order of the prompts.",
        )
        for row in rows:
            parts = [scores([row], columns)[0]] if relative else [scores([row], [i])[0] for i in columns]
            hold(
                _alike(torch.cat(parts), together[row], tolerance),
                "A score must not depend on what it is scored beside"
                + ("." if relative else "; of a reward model that compares responses say relative=True."),
            )
        state = reward_model.state_dict()
        reward_model.load_state_dict(through_checkpoint(state, name))
        hold(
            digest(through_checkpoint(reward_model.state_dict(), name)) == digest(through_checkpoint(state, name)),
            "A state that was loaded must be saved as it came; load_state_dict() lost some of it.",
        )
        for give_up in (reward_model.offload, reward_model.unload):
            give_up()
            reward_model.load(torch.device(device))
            hold(
                _alike(scores(rows, columns), together, tolerance),
                f"After {give_up.__name__}() and load() the same responses must get the same scores.",
            )
    finally:
        reward_model.unload()


def _alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=0, atol=tolerance, equal_nan=True)
