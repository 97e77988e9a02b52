"""How much of a reference answer's words a response has: the formulas that LongBench scores with."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bare_words(text: str) -> list[str]:
    """Words in lower case, without ASCII punctuation and English articles, as SQuAD compares them.

    >>> bare_words("The U.S.A., an  answer!")
    ['usa', 'answer']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def token_f1(response: Sequence[str], answer: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of words, each counted as often as it occurs; 0 if none is shared.

    >>> token_f1(["in", "new", "york"], ["new", "york", "city", "usa"])  # 2 P R / (P + R), P = 2/3, R = 2/4
    0.5714285714285715
    """
    shared = sum((Counter(response) & Counter(answer)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(response), shared / len(answer)
    return 2 * precision * recall / (precision + recall)


def rouge_l(response: str, answer: str) -> float:
    """ROUGE-L of summaries, as the package ``rouge`` computes it, which LongBench uses.

    Sentences end at full stops; words are what stands between spaces, as they are written. Each of the answer's
    sentences is compared with each of the response's by their longest common subsequence; the distinct words of all
    these, over the distinct words of the response and of the answer, are precision and recall. Google's ``rouge-score``
    and torchmetrics compare whole texts, in lower case and with repeated words, and give other numbers. The package
    itself is not used, since it recurses once per word and fails on long sentences, which LongBench then counts as 0.

    Returns:
        Their harmonic mean; 0 if one of the texts has no sentence.

    >>> round(rouge_l("the cat sat.", "a cat sat. it slept."), 6)  # 2 shared of 3 and 5 words: P = 2/3, R = 2/5
    0.5
    """
    ours, theirs = _sentences(response), _sentences(answer)
    if not ours or not theirs:
        return 0.0
    shared = {word for their in theirs for our in ours for word in _common_subsequence(their, our)}
    precision = len(shared) / len({word for sentence in ours for word in sentence})
    recall = len(shared) / len({word for sentence in theirs for word in sentence})
    return 2 * precision * recall / (precision + recall + 1e-8)  # the package's guard against a division by 0


def _sentences(text: str) -> list[list[str]]:
    """Words of each sentence; one of white space alone has a single empty word, as in the package."""
    return [" ".join(sentence.split()).split(" ") for sentence in text.split(".") if sentence]


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """A longest common subsequence; of several, the one that the package finds."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, word in enumerate(first, start=1):
        row, above = lengths[i], lengths[i - 1]
        for j, other in enumerate(second, start=1):
            row[j] = above[j - 1] + 1 if word == other else max(above[j], row[j - 1])
    i, j, found = len(first), len(second), []
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(first[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
