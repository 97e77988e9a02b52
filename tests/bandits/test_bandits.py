"""What holds of every bandit, whatever it learns from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_pl.bandits import (
    UCB1,
    Bandit,
    Classifier,
    DiscountedLinUCB,
    EpsilonGreedy,
    Exp3,
    Fixed,
    LinUCB,
    Oracle,
    RoundRobin,
    SlidingWindowLinUCB,
    Thompson,
    Uniform,
)
from laser_pl.testing.bandits import PROMISES, contexts_of, names_of, started, teach, told_and_asked
from tests.runs import ThroughDisk

Make = Callable[[], Bandit]

LEARNERS: dict[str, Make] = {
    "LinUCB": LinUCB,
    "Thompson": Thompson,
    "Thompson with a prior": lambda: Thompson(prior={"arm 0": 0.5, "arm 1": -0.25}, prior_weight=2.0),
    "DiscountedLinUCB": lambda: DiscountedLinUCB(gamma=0.9),
    "SlidingWindowLinUCB": lambda: SlidingWindowLinUCB(window=25),
    "EpsilonGreedy": lambda: EpsilonGreedy(0.2),
    "UCB1": UCB1,
    "Exp3": lambda: Exp3(0.2),
    "Classifier": Classifier,
}
BASELINES: dict[str, Make] = {
    "Fixed": Fixed,
    "Uniform": Uniform,
    "RoundRobin": RoundRobin,
    "RoundRobin per iteration": lambda: RoundRobin("iteration"),
    "Oracle": lambda: Oracle({"x": "arm 0", "y": "arm 1"}),
}
BANDITS = LEARNERS | BASELINES
of_each = pytest.mark.parametrize("make", BANDITS.values(), ids=BANDITS)
of_each_learner = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)


def only(*names: str) -> pytest.MarkDecorator:
    """The test for some of them."""
    return pytest.mark.parametrize("make", [LEARNERS[name] for name in names], ids=names)


@of_each
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_what_users_bandits_are_held_to(make: Make, promise: Callable[[Make], None]) -> None:
    promise(make)


# -- choices -----------------------------------------------------------------------------------------------------------


@of_each
@settings(max_examples=10)
@given(arms=st.integers(2, 5), size=st.integers(1, 6), several=st.integers(0, 9), seed=st.integers(0, 99))
def test_choices_are_indices_and_reasons_are_numbers(make: Make, arms: int, size: int, several: int, seed: int) -> None:
    """Before and after something was learned; finite, since reasons are written as JSON."""
    bandit, contexts = started(make, names_of(arms), size, seed), contexts_of(several, size, seed)
    bandit.check(names_of(arms))
    for _ in range(2):
        why, chosen = bandit.explain(contexts), told_and_asked(bandit, contexts)
        assert (chosen.shape, chosen.dtype) == ((several,), torch.int64)
        assert ((chosen >= 0) & (chosen < arms)).all()
        for numbers in (why.mean, why.bonus):
            assert (numbers.shape, numbers.dtype) == ((several, arms), torch.float64)
            assert numbers.isfinite().all()
        teach(bandit, seed)


@of_each_learner
def test_without_exploring_the_largest_expectation_comes_first_whatever_its_bonus(make: Make) -> None:
    bandit, contexts = started(make, names_of(4), 3), contexts_of(20, 3, seed=7)
    teach(bandit, seed=1)
    order, mean = bandit.without_exploring(contexts), bandit.explain(contexts).mean
    assert torch.equal(order.sort(-1).values, torch.arange(4).repeat(20, 1))
    assert (mean.gather(-1, order).diff(dim=-1) <= 0).all()


def test_an_arm_that_was_never_tried_is_explored_but_not_used() -> None:
    """It has the larger bonus and the smaller mean, 0."""
    bandit, context = started(LinUCB, names_of(2), 1), torch.ones(1, 1)
    for _ in range(20):
        bandit.update(context, torch.tensor([0]), torch.tensor([0.3]))
    assert bandit.select(context).tolist() == [1]
    assert bandit.without_exploring(context).tolist() == [[0, 1]]


@of_each
@settings(max_examples=20)
@given(arms=st.integers(2, 4), seed=st.integers(0, 99), data=st.data())
def test_the_next_best_is_one_that_may_be_told_and_asked(make: Make, arms: int, seed: int, data: st.DataObject) -> None:
    """As the callback does it: for some of the contexts, while fewer and fewer arms are left; -1 when none is."""
    bandit, contexts = started(make, names_of(arms), 3, seed), contexts_of(5, 3, seed)
    teach(bandit, seed)
    told_and_asked(bandit, contexts)
    rows = data.draw(st.lists(st.integers(0, 4), unique=True))
    left = torch.tensor(
        data.draw(st.lists(st.lists(st.booleans(), min_size=arms, max_size=arms), min_size=5, max_size=5))
    )
    for _ in range(arms + 1):
        instead = bandit.next_best(contexts[rows], left[rows])
        assert (instead.shape, instead.dtype) == ((len(rows),), torch.int64)
        for row, arm in zip(rows, instead.tolist(), strict=True):
            gives_way = left[row].any() and make is not BASELINES["Fixed"]
            assert left[row, arm] if gives_way else arm == -1
            left[row, arm if gives_way else 0] = False


@of_each_learner
@settings(max_examples=10)
@given(size=st.integers(1, 6), several=st.integers(1, 6), seed=st.integers(0, 99))
def test_contexts_asked_about_together_get_what_each_gets_alone(make: Make, size: int, several: int, seed: int) -> None:
    """What is expected of the arms; a batch of one is a special case of it. What is drawn is another for each."""
    together, alone = (started(make, names_of(3), size, seed) for _ in range(2))
    for bandit in (together, alone):
        teach(bandit, seed)
    contexts = contexts_of(several, size, seed + 1)
    one_by_one = torch.cat([alone.explain(context[None]).mean for context in contexts])
    torch.testing.assert_close(together.explain(contexts).mean, one_by_one, rtol=0, atol=1e-12)
    if several == 1:
        assert torch.equal(together.select(contexts), alone.select(contexts))


@only("LinUCB", "DiscountedLinUCB", "SlidingWindowLinUCB", "Classifier")
def test_without_chance_contexts_asked_about_together_are_chosen_for_as_alone(make: Make) -> None:
    bandit, contexts = started(make, names_of(4), 5), contexts_of(30, 5, seed=1)
    teach(bandit, 0, rounds=40)
    one_by_one = torch.cat([bandit.select(context[None]) for context in contexts])
    assert torch.equal(bandit.select(contexts), one_by_one)
    assert len(set(one_by_one.tolist())) > 1


@of_each_learner
def test_a_learner_does_not_listen(make: Make) -> None:
    """Categories and iterations are for baselines."""
    told, silent = started(make, names_of(3), 4, seed=2), started(make, names_of(3), 4, seed=2)
    for i, context in enumerate(contexts_of(30, 4)):
        told.tell(i, ["x" if i % 2 else "y"])
        chosen = silent.select(context[None])
        assert torch.equal(told.select(context[None]), chosen)
        for bandit in (told, silent):
            bandit.update(context.repeat(3, 1), torch.arange(3), context[:3])
            bandit.update(context[None], chosen, context[3:])


# -- arms --------------------------------------------------------------------------------------------------------------


@of_each_learner
@settings(max_examples=10)
@given(arms=st.integers(2, 5), size=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_permuting_arms_permutes_what_is_expected(
    make: Make, arms: int, size: int, seed: int, data: st.DataObject
) -> None:
    """The classifier stops optimising at a gradient of 1e-9, the others are exact."""
    order = data.draw(st.permutations(range(arms)))  # new arm k is old arm order[k]
    place = [order.index(k) for k in range(arms)]
    one, two = started(make, names_of(arms), size), started(make, [f"arm {k}" for k in order], size, seed=1)
    teach(one, seed)
    teach(two, seed, place)
    questions = contexts_of(8, size, seed + 1)
    expected, found = one.explain(questions), two.explain(questions)
    tolerance = 1e-6 if isinstance(one, Classifier) else 1e-15
    torch.testing.assert_close(found.mean[:, place], expected.mean, rtol=0, atol=tolerance)
    if not isinstance(one, Thompson):
        torch.testing.assert_close(found.bonus[:, place], expected.bonus, rtol=0, atol=1e-15)


@of_each_learner
def test_permuting_arms_permutes_choices(make: Make) -> None:
    """How often each is chosen at one context, within 4.5 standard errors of the difference of two such counts."""
    order, count = [2, 0, 3, 1], 600
    place = [order.index(k) for k in range(4)]
    one, two = started(make, names_of(4), 3), started(make, [f"arm {k}" for k in order], 3, seed=1)
    teach(one, 0)
    teach(two, 0, place)
    question = contexts_of(1, 3, seed=9).repeat(count, 1)
    often, permuted = (torch.bincount(bandit.select(question), minlength=4).double() for bandit in (one, two))
    share = (often + permuted[place]) / (2 * count)
    assert ((often - permuted[place]).abs() <= 4.5 * (2 * count * share * (1 - share)).sqrt()).all()


@pytest.mark.parametrize("make", [make for name, make in BANDITS.items() if name != "Oracle"])
def test_the_only_arm_is_always_chosen(make: Make) -> None:
    bandit = started(make, ["arm 0"], 3)
    for context in contexts_of(20, 3):
        assert bandit.select(context[None]).tolist() == [0]
        bandit.update(context[None], torch.tensor([0]), torch.tensor([-1.0]))


@of_each_learner
@pytest.mark.parametrize("best", [0, 2])
def test_an_arm_that_is_always_best_is_found(make: Make, best: int) -> None:
    """Rewards 1 for it and -1 for three others. Chance would choose it 25 of the last 100 times.

    Contexts point all to one side, so that linear models can tell.

    A classifier is shown all arms, the others the one they chose.
    """
    bandit, chosen = started(make, names_of(4), 3), []
    for context in contexts_of(200, 3) / 2 + torch.eye(3, dtype=torch.float64)[0]:
        arm = bandit.select(context[None])
        about = torch.arange(4) if isinstance(bandit, Classifier) else arm
        bandit.update(context.repeat(len(about), 1), about, 2 * (about == best).double() - 1)
        chosen.append(int(arm))
    assert chosen[100:].count(best) > 60


@only("LinUCB", "Thompson", "Thompson with a prior", "DiscountedLinUCB", "SlidingWindowLinUCB", "EpsilonGreedy", "UCB1")
def test_an_arm_that_is_new_starts_fresh_and_the_others_keep_what_they_know(
    through_disk: ThroughDisk, make: Make
) -> None:
    """One was retired, and the order is another. Exp3 and Classifier compare arms, and are tested on their own."""
    old, untaught = started(make, names_of(3), 4), started(make, ["arm 2", "fresh", "arm 0"], 4)
    teach(old, 0)
    new = started(make, ["arm 2", "fresh", "arm 0"], 4)
    new.load_state_dict(through_disk(old.state_dict()))
    questions = contexts_of(6, 4, seed=1)
    expected, found = old.explain(questions).mean, new.explain(questions).mean
    assert torch.equal(found[:, [0, 2]], expected[:, [2, 0]])
    assert torch.equal(found[:, 1], untaught.explain(questions).mean[:, 1])
    teach(new, 1)
    assert not torch.isclose(new.explain(questions).mean, found).all(0).any()


# -- learning and state ------------------------------------------------------------------------------------------------


@only("LinUCB", "Thompson", "Thompson with a prior", "DiscountedLinUCB", "SlidingWindowLinUCB", "EpsilonGreedy", "UCB1")
@settings(max_examples=10)
@given(several=st.integers(1, 12), size=st.integers(1, 6), seed=st.integers(0, 99))
def test_rewards_at_once_are_learned_one_after_the_other(make: Make, several: int, size: int, seed: int) -> None:
    together, in_turn = started(make, names_of(3), size), started(make, names_of(3), size)
    contexts, arms, rewards = (
        contexts_of(several, size, seed),
        torch.arange(several) % 3,
        torch.linspace(-1, 1, several),
    )
    together.update(contexts, arms, rewards)
    for i in range(several):
        in_turn.update(contexts[i : i + 1], arms[i : i + 1], rewards[i : i + 1])
    question = contexts_of(5, size, seed + 1)
    assert torch.equal(together.explain(question).mean, in_turn.explain(question).mean)
    assert torch.equal(together.explain(question).bonus, in_turn.explain(question).bonus)


@of_each
@pytest.mark.parametrize("size", [2, 40], ids=["many observations", "few observations"])
@pytest.mark.parametrize("rounds", [0, 30], ids=["fresh", "taught"])
def test_a_saved_bandit_goes_on_bit_by_bit(through_disk: ThroughDisk, make: Make, size: int, rounds: int) -> None:
    """Whatever the seed of the one that goes on; what was saved is not changed by what the first one learns later."""
    one, two = started(make, names_of(3), size, seed=5), started(make, names_of(3), size, seed=77)
    teach(one, 0, rounds=rounds)
    told_and_asked(one, contexts_of(2, size))
    saved = one.state_dict()
    teach(two, 1)
    two.load_state_dict(through_disk(saved))
    later = started(make, names_of(3), size)
    for i, context in enumerate(contexts_of(30, size, seed=2)):
        contexts = torch.stack([context, context.roll(1)])
        reasons = [bandit.explain(contexts) for bandit in (one, two)]
        assert torch.equal(reasons[0].mean, reasons[1].mean)
        assert torch.equal(reasons[0].bonus, reasons[1].bonus)
        chosen = told_and_asked(one, contexts)
        assert torch.equal(told_and_asked(two, contexts), chosen)
        for bandit in (one, two):
            bandit.update(contexts, chosen, contexts[:, 0])
            if i % 4 == 0:
                bandit.update(context.repeat(3, 1), torch.arange(3), torch.tensor([0.5, -0.5, float(context[1])]))
    later.load_state_dict(saved)
    again = started(make, names_of(3), size)
    again.load_state_dict(through_disk(saved))
    assert torch.equal(later.explain(contexts).mean, again.explain(contexts).mean)
