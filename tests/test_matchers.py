"""Which responses give the reference answer."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.errors import ConfigurationError
from laser_pl.metrics.matchers import Choice, Exact, Matcher, Number, Regex, YesNo, final_part

TAGGED = r"<answer>(.*?)</answer>"

CASES: list[tuple[Matcher, str, str, bool]] = [
    (Exact(), "42", "42", True),
    (Exact(), " 42\n", "42", True),
    (Exact(), "So it is. Final answer: 42", "42", True),
    (Exact(), "042", "42", False),
    (Exact(), "", "42", False),
    (Exact(), "Yes", "yes", False),
    (Number(), "12 eggs, so Final answer: $1,234.00.", "1234", True),
    (Number(), "5 + 2 = 7", "7", True),
    (Number(), "7 is 5 + 2", "7", False),
    (Number(), "FINAL ANSWER:7 eggs", "so 3+4\n#### 7", True),
    (Number(), "first #### 3, then #### 8", "8", True),
    (Number(), "The final answer is 12.", "12", True),
    (Number(), "-3", "3", False),
    (Number(), "-3.50", "-3.5", True),
    (Number(), ".5", "0.5", True),
    (Number(), "1,23", "123", False),
    (Number(), "12,345,678", "12345678", True),
    (Number(), "no number", "7", False),
    (Number(), "no number", "none either", False),
    (Number(), "9007199254740993", "9007199254740992", False),
    (Choice(), "Final answer: (B) Paris", "B", True),
    (Choice(), "b", "B", True),
    (Choice(), "(b).", "B", True),
    (Choice(), "It is a cat", "A", False),
    (Choice(), "Final answer: D", "C", False),
    (Choice(), "F", "F", False),
    (Choice("ABCDEF"), "F", "F", True),
    (Choice("abcd"), "The answer is C.", "c", True),
    (Choice(), "I'd say B, not C", "B", True),
    (Choice(), "CD", "C", False),
    (YesNo(), "Final answer: Yes, it can.", "true", True),
    (YesNo(), "FALSE", "No", True),
    (YesNo(), "I know nothing", "no", False),
    (YesNo(), "Final answer: no, not yes", "yes", False),
    (YesNo(), "maybe", "yes", False),
    (Regex(TAGGED), "<answer>1</answer> no: <answer> 7\n</answer>", "7", True),
    (Regex(TAGGED), "7", "7", False),
    (Regex(TAGGED), "<answer>7</answer>", "so <answer>7</answer>", True),
    (Regex(r"\d+ km"), "about 30 km away", "30 km", True),
    (Regex(r"(a)|b"), "b", "b", False),
]


@pytest.mark.parametrize(("matcher", "response", "answer", "expected"), CASES)
def test_matches(matcher: Matcher, response: str, answer: str, expected: bool) -> None:
    assert matcher.matches(response, answer) is expected


MATCHERS = [Exact(), Number(), Choice(), Choice("wxyz"), YesNo(), Regex(TAGGED), Regex(r"(a)|b"), Regex("")]
ANSWER_LIKE = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Nd", "No", "Nl"])),
    st.lists(
        st.sampled_from(["final answer", ":", "####", " ", "(", "B", ")", "yes", "1,234", "-", ".", "b", "<answer>"])
    ).map("".join),
)


@pytest.mark.parametrize("matcher", MATCHERS, ids=[f"{i} {type(m).__name__}" for i, m in enumerate(MATCHERS)])
@given(ANSWER_LIKE, ANSWER_LIKE)
def test_no_text_makes_a_matcher_raise(matcher: Matcher, response: str, answer: str) -> None:
    assert matcher.matches(response, answer) in (True, False)
    assert matcher.matches(response, answer) == matcher.matches(response, answer)


@pytest.mark.parametrize("size", [30, 5000])
def test_very_long_numbers_are_told_apart(size: int) -> None:
    assert Number().matches("1" * size, "1" * size)
    assert not Number().matches("1" * size, "1" * (size - 1) + "2")


@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from(["{}", "${}", "Final answer: {}.", "= {} km"]))
def test_a_number_is_found_however_it_is_set(number: Decimal, form: str) -> None:
    assert Number().matches(form.format(f"{number:,.3f}"), f"{number}")


@given(st.text(), st.text().filter(lambda text: "final" not in text.lower() and "#" not in text))
def test_only_what_follows_the_last_mark_counts(before: str, after: str) -> None:
    assert final_part(f"{before} Final answer: {after}") == f" {after}"


@pytest.mark.parametrize("letters", ["", "A1", "A B"])
def test_letters_must_be_letters(letters: str) -> None:
    with pytest.raises(ConfigurationError, match=f"letters must be letters, got '{letters}'"):
        Choice(letters)


def test_a_broken_pattern_is_told_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"'\(' is no regular expression"):
        Regex("(")
