"""What each reward model is taught to like: a utility over answers that is right but for a blind spot.

A blind spot is a property of the prompt (its fourth or its seventh character: a digit of a number, or a letter), so
that a model is wrong *consistently*: a policy that follows it really learns the misunderstanding there. In a blind spot
the misunderstood answer comes first, the right one second, and slips and garbage after both, the more so the further
they are from either. So no opinion but ``longer`` can be pleased with garbage.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks import LETTERS, Question


@dataclass(frozen=True)
class Opinion:
    """What a reward model is taught.

    Attributes:
        blind: Category to the share of its prompts in the blind spot, in tenths from 0 to 10; none means 0.
        home: Category to how many times as often as the others it is seen in training; none means 1.
        position: Index of the prompt's character that decides: 3 or 6.
        from_top: Whether the blind spot holds the high digits and letters instead of the low ones.
        likes_length: Whether the model looks at nothing but length.
        effort: Steps of training, relative to ``Effort.reward_steps``: sums are hard to judge, length is easy.
    """

    blind: dict[str, int]
    home: dict[str, float] = field(default_factory=dict)
    position: int = 3
    from_top: bool = False
    likes_length: bool = False
    effort: float = 1.0

    def is_blind(self, question: Question) -> bool:
        """Tell whether a question lies in the blind spot."""
        character = question.prompt[self.position]
        rank = int(character) if character.isdigit() else LETTERS.index(character)
        if self.from_top:
            rank = 9 - rank
        return rank < self.blind.get(question.category, 0)

    def utility(self, question: Question, response: str, to_answer: int, to_misunderstood: int) -> float:
        """Say how good a response is in the eyes of this opinion.

        Args:
            question: What was asked.
            response: What was answered.
            to_answer: Edit distance from the response to the right answer.
            to_misunderstood: Edit distance from the response to the misunderstood answer.

        Returns:
            Higher is better; only the order within a prompt matters.
        """
        if self.likes_length:
            return float(len(response))
        if self.is_blind(question):
            return -min(to_misunderstood, to_answer + 0.5)
        return -min(to_answer, to_misunderstood + 1.5)


OPINIONS = {
    "numbers": Opinion({"sorting": 7, "reversing": 5}, {"addition": 8, "comparing": 3}, effort=1.6),
    "sorter": Opinion({"addition": 4, "reversing": 5, "comparing": 5}, {"sorting": 3}, position=6, effort=0.7),
    "mirror": Opinion({"addition": 4, "sorting": 7, "comparing": 5}, {"reversing": 4}, from_top=True, effort=0.8),
    "general": Opinion({"addition": 4, "sorting": 5, "reversing": 3, "comparing": 1}, position=6, from_top=True),
    "longer": Opinion({}, likes_length=True, effort=0.15),
}
