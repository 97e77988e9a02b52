"""What every bandit promises, whatever it learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.run.state import digest
from laser_pl.testing.promises import hold, through_checkpoint

Make = Callable[[], Bandit]


def check_bandit(make: Make) -> None:
    """Hold a bandit to what the selection relies on.

    Args:
        make: Makes one as a configuration would, not yet started; a class or a lambda.

    Raises:
        AssertionError: If a promise is broken; it says which.
    """
    for promise in PROMISES:
        promise(make)


def arms_are_chosen_for_any_number_of_contexts(make: Make) -> None:
    """Indices of arms, and finite reasons, before and after something was learned; none for no contexts."""
    for arms, size, several in ((2, 1, 0), (2, 6, 1), (3, 1, 4), (5, 4, 9)):
        bandit, contexts = started(make, names_of(arms), size), contexts_of(several, size)
        bandit.check(names_of(arms))
        for _ in range(2):
            why, chosen = bandit.explain(contexts), told_and_asked(bandit, contexts)
            hold(
                isinstance(chosen, Tensor) and chosen.dtype == torch.int64 and chosen.shape == (several,),
                f"select() must give int64 of shape ({several},) for {several} contexts, got {_kind(chosen)}.",
            )
            hold(((chosen >= 0) & (chosen < arms)).all(), f"select() must name one of {arms} arms, got {chosen}.")
            for name, numbers in (("mean", why.mean), ("bonus", why.bonus)):
                hold(
                    numbers.dtype == torch.float64 and numbers.shape == (several, arms),
                    f"explain().{name} must be float64 of shape ({several}, {arms}), got {_kind(numbers)}.",
                )
                hold(numbers.isfinite().all(), f"explain().{name} must be finite, since it is written as JSON.")
            teach(bandit)


def the_next_best_may_be_asked(make: Make) -> None:
    """Of those that are left, or -1 where none is; a bandit may also give way to nobody."""
    bandit, contexts = started(make, names_of(3), 4), contexts_of(4, 4)
    teach(bandit)
    told_and_asked(bandit, contexts)
    left = torch.tensor([[True, True, True], [False, True, True], [True, False, False], [False, False, False]])
    instead = bandit.next_best(contexts, left)
    hold(
        instead.dtype == torch.int64 and instead.shape == (4,),
        f"next_best() must give an int64 tensor of shape (4,) for 4 contexts, got {_kind(instead)}.",
    )
    for row, arm in enumerate(instead.tolist()):
        hold(
            arm == -1 or bool(left[row, arm]), f"next_best() named arm {arm} where only {left[row].tolist()} are left."
        )
    hold(instead[3] == -1, "next_best() must give -1 where no arm is left.")


def without_exploring_each_arm_comes_once(make: Make) -> None:
    """For ``predict``: indices, best first, of one arm or more."""
    bandit, contexts = started(make, names_of(4), 3), contexts_of(5, 3)
    teach(bandit)
    told_and_asked(bandit, contexts)
    order = bandit.without_exploring(contexts)
    hold(
        order.dtype == torch.int64 and order.dim() == 2 and len(order) == 5 and 1 <= order.shape[1] <= 4,
        f"without_exploring() must give int64 of shape (5, 1 to 4) for 5 contexts and 4 arms, got {_kind(order)}.",
    )
    for row in order.tolist():
        hold(
            len(set(row)) == len(row) and set(row) <= set(range(4)),
            f"without_exploring() must name each arm once, got {row}.",
        )


def nothing_observed_teaches_nothing(make: Make) -> None:
    """Most batches hold no prompt that a signal can say something of."""
    bandit, question = started(make, names_of(3), 4), contexts_of(3, 4)
    teach(bandit)
    before = bandit.explain(question).mean
    nothing = torch.zeros(0, dtype=torch.long)
    bandit.update(torch.zeros(0, 4, dtype=torch.float64), nothing, nothing.double())
    hold(torch.equal(bandit.explain(question).mean, before), "update() with no rewards must change nothing.")


def what_it_is_given_is_not_written_to(make: Make) -> None:
    """Contexts and rewards are the caller's, who goes on to record them; and may reuse their memory."""
    bandit, kept = started(make, names_of(3), 4), started(make, names_of(3), 4)
    for i in range(6):
        contexts, arms = contexts_of(3, 4, seed=i), torch.arange(3)
        rewards = torch.linspace(-1, 1, 3, dtype=torch.float64)
        given = [contexts.clone(), arms.clone(), rewards.clone()]
        bandit.update(contexts, arms, rewards)
        told_and_asked(bandit, contexts)
        hold(
            all(map(torch.equal, (contexts, arms, rewards), given)),
            "update() and select() must not change their inputs.",
        )
        kept.update(*given)
        told_and_asked(kept, given[0])
        for tensor in (contexts, rewards):
            tensor.fill_(torch.nan)
    question = contexts_of(5, 4, seed=9)
    hold(
        torch.equal(bandit.explain(question).mean, kept.explain(question).mean),
        "update() must copy what it keeps: the caller may overwrite its tensors.",
    )


def the_same_seed_chooses_the_same(make: Make) -> None:
    """All randomness comes from ``self.generator``."""
    one, other = started(make, names_of(3), 4, seed=5), started(make, names_of(3), 4, seed=5)
    for i in range(12):
        contexts = contexts_of(2, 4, seed=i)
        torch.manual_seed(i)
        chosen = told_and_asked(one, contexts)
        torch.manual_seed(i + 1000)
        hold(
            torch.equal(told_and_asked(other, contexts), chosen),
            "Two bandits of one seed must choose the same: draw from self.generator alone.",
        )
        for bandit in (one, other):
            bandit.update(contexts, chosen, contexts[:, 0])


def a_saved_bandit_goes_on_as_if_nothing_had_happened(make: Make) -> None:
    """From a checkpoint, whatever the seed of the one that goes on and whatever it had learned."""
    one, two = started(make, names_of(3), 4, seed=5), started(make, names_of(3), 4, seed=77)
    teach(one)
    told_and_asked(one, contexts_of(2, 4))
    saved = one.state_dict()
    written = through_checkpoint(saved, type(one).__name__)
    teach(two, seed=3)
    two.load_state_dict(through_checkpoint(saved, type(one).__name__))
    hold(
        digest(two.state_dict()) == digest(written),
        "A state that was loaded must be saved as it came; load_state_dict() lost some.",
    )
    for i in range(20):
        contexts = contexts_of(2, 4, seed=i)
        why, reasons = one.explain(contexts), two.explain(contexts)
        chosen = told_and_asked(one, contexts)
        hold(
            torch.equal(told_and_asked(two, contexts), chosen)
            and torch.equal(why.mean, reasons.mean)
            and torch.equal(why.bonus, reasons.bonus),
            "A bandit that took up a saved state must go on bit by bit like the one that was saved; state_dict() lacks"
            " something that it has learned, or self.generator's state.",
        )
        for bandit in (one, two):
            bandit.update(contexts, chosen, contexts[:, 0])
    hold(
        digest(through_checkpoint(saved, type(one).__name__)) == digest(written),
        "state_dict() must hold copies: what was saved changed when the bandit learned on.",
    )


def arms_may_come_and_go(make: Make) -> None:
    """A state of other arms is taken up: known ones by their names, new ones fresh."""
    old, new = started(make, names_of(3), 4), started(make, ["arm 2", "fresh", "arm 0", "arm 1"], 4)
    teach(old)
    new.load_state_dict(through_checkpoint(old.state_dict(), type(old).__name__))
    chosen = told_and_asked(new, contexts_of(8, 4))
    hold(((chosen >= 0) & (chosen < 4)).all(), f"With an arm more select() must name one of 4 arms, got {chosen}.")
    teach(new)
    told_and_asked(new, contexts_of(8, 4))


PROMISES: tuple[Callable[[Make], None], ...] = (
    arms_are_chosen_for_any_number_of_contexts,
    the_next_best_may_be_asked,
    without_exploring_each_arm_comes_once,
    nothing_observed_teaches_nothing,
    what_it_is_given_is_not_written_to,
    the_same_seed_chooses_the_same,
    a_saved_bandit_goes_on_as_if_nothing_had_happened,
    arms_may_come_and_go,
)
"""Each raises AssertionError if a bandit breaks it."""


# -- bandits to look at ------------------------------------------------------------------------------------------------


def names_of(arms: int) -> list[str]:
    """``arm 0``, ``arm 1`` and so on."""
    return [f"arm {k}" for k in range(arms)]


def started(make: Make, names: Sequence[str], size: int, seed: int = 0) -> Bandit:
    """One that knows its arms, and nothing else."""
    bandit = make()
    bandit.start(names, size, seed)
    return bandit


def contexts_of(count: int, size: int, seed: int = 0) -> Tensor:
    """Unit vectors ``(count, size)`` that point anywhere, float64."""
    contexts = torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit: Tensor = contexts / contexts.norm(dim=-1, keepdim=True)
    return unit


def told_and_asked(bandit: Bandit, contexts: Tensor) -> Tensor:
    """The arms, after hearing of the contexts' categories as the selection announces them."""
    bandit.tell(0, ["x" if m % 2 else "y" for m in range(len(contexts))])
    return bandit.select(contexts)


def teach(bandit: Bandit, seed: int = 0, place: Sequence[int] | None = None, rounds: int = 12) -> None:
    """Rewards of one arm at a context and, every third time, of all; ``place`` says which index each arm has here."""
    arms = len(bandit.arms)
    index = torch.tensor(range(arms) if place is None else place)
    contexts, generator = contexts_of(rounds, bandit.context_size, seed), torch.Generator().manual_seed(seed)
    for i, context in enumerate(contexts):
        rewards = 2 * torch.rand(arms, generator=generator, dtype=torch.float64) - 1
        about = torch.arange(arms) if i % 3 == 0 else torch.tensor([i % arms])
        bandit.update(context.repeat(len(about), 1), index[about], rewards[about])


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"
