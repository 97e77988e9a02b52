"""The second world's five tasks: their prompts, their right answers, and the misunderstanding that goes with each.

Every prompt has eleven characters: a category letter, a blank, eight characters of content and ``=``.

| category  | prompt        | right   | misunderstood as                 |
|-----------|---------------|---------|----------------------------------|
| following | `F badce ,d=` | `dce`   | `dab` (read backwards)           |
| rounding  | `O 47.38612=` | `47.39` | `47.38` (cut off)                |
| shifting  | `H dbcae +2=` | `fdecg` | `fdece` (the last letter stays)  |
| vowels    | `V bdaecgia=` | `bdcg`  | `bdecg` (e is no vowel)          |
| clock     | `T 14:35+40=` | `15:15` | `14:15` (the hour does not move) |

Prompts where both readings give the same answer are never drawn, so that the misunderstanding is always wrong.
"""

from __future__ import annotations

from random import Random

from tasks import DIGITS, LETTERS, Question, Tasks

# Prompts per category. A category's share of the training prompts is its share of every iteration.
SPLIT_SIZES = {
    "train": {"following": 240, "rounding": 300, "shifting": 420, "vowels": 360, "clock": 480},
    "validation": {"following": 24, "rounding": 30, "shifting": 42, "vowels": 36, "clock": 48},
    "test": {"following": 120, "rounding": 120, "shifting": 160, "vowels": 160, "clock": 200},
}

_LETTER_OF = {"following": "F", "rounding": "O", "shifting": "H", "vowels": "V", "clock": "T"}
_CATEGORY_OF = {letter: category for category, letter in _LETTER_OF.items()}


def shift(letters: str, by: int) -> str:
    """Move every letter on in ``LETTERS``, from the last to the first.

    >>> shift("ahj", 2)
    'cjb'
    """
    return "".join(LETTERS[(LETTERS.index(letter) + by) % len(LETTERS)] for letter in letters)


def read_prompt(prompt: str) -> Question:
    """Work out both readings of a prompt.

    Args:
        prompt: One of the five forms in the module's table.

    Returns:
        The question; ``answer`` and ``misunderstood`` may agree here (``draw_puzzle`` rejects that).

    >>> read_prompt("T 14:35+40=").answer, read_prompt("T 14:35+40=").misunderstood
    ('15:15', '14:15')
    """
    category, content = _CATEGORY_OF[prompt[0]], prompt[2:-1]
    if category == "following":
        letters, start = content[:5], content.index(content[7])
        return Question(prompt, letters[start:], letters[start::-1], category)
    if category == "rounding":
        whole, decimals = content.split(".")
        hundredths, rest = divmod(int(whole + decimals), 1000)
        rounded = hundredths + (rest >= 500)
        return Question(prompt, *(f"{n // 100:02d}.{n % 100:02d}" for n in (rounded, hundredths)), category)
    if category == "shifting":
        letters, by = content[:5], int(content[7])
        return Question(prompt, shift(letters, by), shift(letters[:-1], by) + letters[-1], category)
    if category == "vowels":
        answer, misunderstood = ("".join(c for c in content if c not in vowels) for vowels in ("aei", "ai"))
        return Question(prompt, answer, misunderstood, category)
    hour, minute, more = int(content[:2]), int(content[3:5]), int(content[6:])
    late, minute = divmod(minute + more, 60)
    return Question(prompt, f"{(hour + late) % 24:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}", category)


def draw_content(category: str, rng: Random) -> str:
    """Draw what a prompt of a category is about: eight characters.

    Letters and digits that an opinion's blind spot hangs on, the second and the fifth, are spread over all ten.
    """
    if category == "following":
        letters = "".join(rng.sample(LETTERS, 5))
        return f"{letters} ,{rng.choice(letters[1:-1])}"
    if category == "rounding":
        return f"{rng.randrange(99):02d}.{rng.randrange(100000):05d}"
    if category == "shifting":
        return "".join(rng.choice(LETTERS) for _ in range(5)) + f" +{rng.randint(1, 3)}"
    if category == "vowels":
        return "".join(rng.choice("aei" if rng.random() < 0.4 else LETTERS) for _ in range(8))
    return f"{rng.randrange(24):02d}:{rng.randrange(60):02d}+{rng.randrange(10, 60, 5)}"


def draw_puzzle(category: str, rng: Random) -> Question:
    """Draw a random question of a category on which the two readings differ and are short enough, and not empty.

    Args:
        category: One of the five.
        rng: Source of randomness; it is advanced.

    Returns:
        The question.
    """
    while True:
        question = read_prompt(f"{_LETTER_OF[category]} {draw_content(category, rng)}=")
        readings = {question.answer, question.misunderstood}
        if len(readings) == 2 and all(1 <= len(reading) <= 6 for reading in readings):
            return question


PUZZLES = Tasks(
    draw=draw_puzzle,
    kinds={"following": LETTERS, "rounding": DIGITS, "shifting": LETTERS, "vowels": LETTERS, "clock": DIGITS},
    alphabet=" " + DIGITS + LETTERS + "FOHVT" + "+,.:=",
    prompt_length=11,
    max_answer_length=6,
)
