"""A Python function as reward model, with the signature TRL gives its reward functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel


class FunctionReward(RewardModel):
    """Calls ``function(prompts=..., completions=..., **columns) -> list[float | None]``.

    The lists hold one entry per response; the columns are the data set's others, repeated likewise. Where the prompt is
    a chat, prompt and completion are lists of messages, as TRL has them. None is no opinion.

    Args:
        function: The function, or in a config its import path, such as ``my_rewards.length``.
    """

    def __init__(self, function: Callable[..., Sequence[float | None]]) -> None:
        self.function = function

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """What the function returns. Shape ``(B, n)``, float32.

        Raises:
            ConfigurationError: If it does not return a number, or None, for each response.
        """
        repeated = [prompt for prompt, row in zip(prompts, responses, strict=True) for _ in row]
        completions = [
            response if isinstance(prompt.prompt, str) else [{"role": "assistant", "content": response}]
            for prompt, row in zip(prompts, responses, strict=True)
            for response in row
        ]
        names = {name for prompt in prompts for name in prompt.columns}
        columns = {name: [prompt.columns.get(name) for prompt in repeated] for name in sorted(names)}
        values = self.function(prompts=[p.prompt for p in repeated], completions=completions, **columns)
        name = getattr(self.function, "__qualname__", repr(self.function))
        try:
            scores = [float("nan") if v is None else float(v) for v in values]
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"The reward function {name} must return a list of numbers: {error}.") from error
        if len(scores) != len(completions):
            raise ConfigurationError(
                f"The reward function {name} returned {len(scores)} values for {len(completions)} responses."
            )
        return torch.tensor(scores, dtype=torch.float32).view(len(prompts), -1)
