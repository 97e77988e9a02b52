"""Arms that were asked and distinguished nothing, and how likely each observation was to be made."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from laser_pl.feedback.observations import Observations
from laser_pl.selection.fallback import Judgement


def observed(seen: Observations, judgement: Judgement, chance: Tensor, arms: int) -> tuple[Observations, Tensor]:
    """All that a batch's decisions teach: what the signal measured, and who distinguished nothing.

    An arm that was asked and distinguished nothing did as a judge by chance does. Were it not observed, a bandit would
    know nothing of it for ever, and go on asking it for that. Chance is neither praise nor blame: on a prompt to which
    all responses are right, the best of judges distinguishes none.

    Beside a poll this is all that a decision can teach: nobody else's judgement is measured there. To a bandit that
    weighs observations by their chance it must not count as a round, or the arm that ties wins every round that is not
    polled.

    Args:
        seen: What the signal measured; its ``prompt`` counts decisions.
        judgement: Who was asked in each of the ``M`` decisions.
        chance: What the signal expects of a judge that scores at random; not finite where it cannot say. ``(M,)``.
        arms: ``K``.

    Returns:
        The observations, and of each the arms that could have been observed instead, itself included ``(O, K)``: those
        that could have had its turn. One that was seen because all were asked has no rival but itself; one that was
        made beside a poll has none at all.
    """
    turns = {(m, turn.arm): turn for m, own in enumerate(judgement.turns) for turn in own}
    known = list(zip(seen.prompt.tolist(), seen.arm.tolist(), strict=True))
    more = [
        place
        for place, turn in turns.items()
        if turn.outcome.told_nothing_apart and place not in known and bool(chance[place[0]].isfinite())
    ]
    alone = torch.eye(arms, dtype=torch.bool)
    rivals = [alone[place[1]] if seen.polled or place not in turns else turns[place].rivals for place in known]
    rivals += [turns[place].rivals & (not seen.polled) for place in more]
    decision, arm = torch.tensor(more, dtype=torch.long).reshape(-1, 2).unbind(-1)
    by_chance = chance[decision]
    every = replace(
        seen,
        prompt=torch.cat([seen.prompt, decision]),
        arm=torch.cat([seen.arm, arm]),
        value=torch.cat([seen.value, by_chance]),
        chance=torch.cat([seen.chance, by_chance]),
    )
    return every, torch.stack(rivals) if rivals else torch.zeros(0, arms, dtype=torch.bool)
