"""Answers that contradict the policy's likelihoods: what to say, and what to do."""


def what(category: str, answers: int, p: float) -> str:
    """That it is so, with the figures.

    Args:
        category: Of the prompts.
        answers: How many answered prompts tell.
        p: The probability of such answers if likelihoods did not mislead.

    >>> what("rounding", 8, 0.0039)
    "The policy's likelihoods mislead in 'rounding': by 8 answers, p = .004, the reward models they favour are worse."
    """
    told = f"{p:.3f}".removeprefix("0") if p >= 0.0005 else "< .001"
    sign = "" if told.startswith("<") else "= "
    return (
        f"The policy's likelihoods mislead in '{category}': by {answers} answers, p {sign}{told}, the reward models"
        " they favour are worse."
    )


ADVICE = (
    "The policy is wrong by conviction there, and no signal without answers can tell. Give more answers to prompts of"
    " that category."
)
