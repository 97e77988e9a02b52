"""Prompts that are trained on and evaluated with."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence

from laser_pl.batches import Prompt


def leaks(splits: Mapping[str, Sequence[Prompt]]) -> Iterator[str]:
    """A sentence on each split with prompts that the policy reads in training too, whatever their answers.

    >>> same = Prompt("a", "1+1=", "1+1=")
    >>> list(leaks({"train": [same, Prompt("b", "1+2=", "1+2=")], "test": [same]}))
    ["1 of the 1 test prompts stands in train too, such as '1+1='."]
    """
    trained = {prompt.text for prompt in splits["train"]}
    for name, prompts in splits.items():
        shared = [] if name == "train" else [prompt for prompt in prompts if prompt.text in trained]
        if shared:
            yield (
                f"{len(shared)} of the {len(prompts)} {name} prompts {'stands' if len(shared) == 1 else 'stand'} in"
                f" train too, such as {reprlib.repr(shared[0].prompt)}."
            )
