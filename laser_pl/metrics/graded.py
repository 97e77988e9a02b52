"""Grades between wrong and right: LongBench's metrics, and one for each category."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.overlap import bare_words, rouge_l, token_f1


class Graded(Grader):
    """Compares a response with one or several reference answers; the best comparison counts.

    Args:
        answers: The column with a list of reference answers; null: the prompt has one.
        first_line: Compare the response's first line alone, as LongBench does where the prompt has examples, which the
            policy goes on with.
        right_from: The grade from which a response counts as right where only right and wrong are distinguished.
    """

    def __init__(self, answers: str | None = None, first_line: bool = False, right_from: float = 0.5) -> None:
        if not 0 < right_from <= 1:
            raise ConfigurationError(f"right_from must be in (0, 1], got {right_from}. Set it in model.matcher.")
        self.answers = answers
        self.first_line = first_line
        self.right_from = right_from

    @abstractmethod
    def compare(self, response: str, answer: str, prompt: Prompt) -> float:
        """The grade of ``response`` if ``answer`` is the reference, in [0, 1]."""

    def grade(self, response: str, prompt: Prompt) -> float:
        """The best comparison.

        Raises:
            ConfigurationError: If the column of answers holds no list.
        """
        text = self.graded_part(response)
        return max((self.compare(text, answer, prompt) for answer in self._answers(prompt)), default=0.0)

    def graded_part(self, response: str) -> str:
        """What of the response is compared."""
        return response.lstrip("\n").split("\n")[0] if self.first_line else response

    def _answers(self, prompt: Prompt) -> Sequence[str]:
        if self.answers is None:
            return [] if prompt.answer is None else [prompt.answer]
        return _list_in(prompt, self.answers, "answers")


class TokenF1(Graded):
    """LongBench's F1 for question answering. It is SQuAD's, but that empty texts are never right.

    >>> TokenF1().grade("It was the Danube.", Prompt("p", "Which river?", "Which river?", answer="the Danube"))
    0.5
    """

    def compare(self, response: str, answer: str, prompt: Prompt) -> float:
        """F1 of words, without case, punctuation and articles."""
        return token_f1(bare_words(response), bare_words(answer))

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """The words that are compared."""
        return tuple(bare_words(self.graded_part(response))) or None


class RougeL(Graded):
    """LongBench's ROUGE-L for summaries, see ``laser_pl.metrics.overlap.rouge_l``.

    >>> round(RougeL().grade("the cat sat", Prompt("p", "Sum up.", "Sum up.", answer="a cat sat")), 3)
    0.667
    """

    def compare(self, response: str, answer: str, prompt: Prompt) -> float:
        """F of the longest common subsequences."""
        return rouge_l(response, answer)


class Classification(Graded):
    """LongBench's accuracy of classification. The answer's class is named, and no other beside it.

    A class counts as named where its text stands in the response. One that is part of the answer's name does not count;
    of k that are left the right one gives 1 / k.

    Args:
        classes: The column with the list of all classes.
        answers: See ``Graded``.
        first_line: See ``Graded``.
        right_from: See ``Graded``.
    """

    def __init__(
        self,
        classes: str = "all_classes",
        answers: str | None = None,
        first_line: bool = False,
        right_from: float = 1.0,
    ) -> None:
        super().__init__(answers, first_line, right_from)
        self.classes = classes

    def compare(self, response: str, answer: str, prompt: Prompt) -> float:
        """1 over the number of classes that are named, if the answer's is among them."""
        named = [name for name in _list_in(prompt, self.classes, "classes") if name in response]
        place = 0
        while place < len(named):
            if named[place] in answer and named[place] != answer:
                # LongBench takes it out of the list that it is walking through, and so passes over the next.
                del named[place]
            place += 1
        return 1 / len(named) if answer in named else 0.0


class ByCategory(Grader):
    """A grader for each category.

    Args:
        graders: Category to grader.
    """

    def __init__(self, graders: dict[str, Grader]) -> None:
        self.graders = graders

    def check(self, categories: Sequence[str]) -> None:
        """See that every category has one.

        Raises:
            ConfigurationError: If one has none.
        """
        for category in categories:
            self._of(category)

    def grade(self, response: str, prompt: Prompt) -> float:
        """The grade by the category's grader."""
        return self._of(prompt.category).grade(response, prompt)

    def is_right(self, response: str, prompt: Prompt) -> bool:
        """Whether the category's grader calls it right."""
        return self._of(prompt.category).is_right(response, prompt)

    def parsed_answer(self, response: str, prompt: Prompt) -> Hashable:
        """What the category's grader reads in it."""
        return self._of(prompt.category).parsed_answer(response, prompt)

    def reads_answer(self, prompt: Prompt) -> bool:
        """Whether the category's grader can read it."""
        return prompt.category not in self.graders or self.graders[prompt.category].reads_answer(prompt)

    def name_of(self, category: str) -> str:
        """The class of the category's grader."""
        return type(self._of(category)).__name__

    def _of(self, category: str) -> Grader:
        if category not in self.graders:
            raise ConfigurationError(
                f"model.matcher has no grader for the category '{category}', only for {', '.join(self.graders)}. Add"
                " one under graders, or take its prompts out."
            )
        return self.graders[category]


def _list_in(prompt: Prompt, column: str, setting: str) -> list[str]:
    found = prompt.columns.get(column)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ConfigurationError(
            f"The column '{column}' of the prompt {prompt.id} holds no list of texts, which {setting} of model.matcher"
            f" asks for, but {'nothing' if found is None else type(found).__name__}. Set it to another column, or to"
            " null."
        )
    return found
