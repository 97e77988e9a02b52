"""What reward models need beside their weights when they are asked."""

from __future__ import annotations

from laser_pl.batches import Prompt
from laser_pl.data.prompts import prompt_ids
from laser_pl.errors import ConfigurationError
from laser_pl.forecast.models import leaves
from laser_pl.forecast.paper import Paper
from laser_pl.forecast.peaks import classifying, judging, reading_one
from laser_pl.forecast.phase import Phase, largest, tried
from laser_pl.forecast.setup import Setup
from laser_pl.logprobs.packed import why_not_by_configuration
from laser_pl.rewards.classifier import SequenceClassifier
from laser_pl.rewards.judge import Judge
from laser_pl.rewards.likelihood import Likelihood
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.pairwise_judge import PairwiseJudge
from laser_pl.rewards.text import tokenize


def scoring(setup: Setup) -> Phase:
    """The largest forward of any reward model: they are asked one after the other, members of an ensemble as well.

    Not known where a reward model is out of reach, or cannot be used.
    """
    known: dict[str, Phase] = {}
    for model in setup.selector.pool.reward_models.values():
        for member in leaves(model):
            if isinstance(member, LocalModel):
                try:
                    _ask(setup, member, known)
                except ConfigurationError as error:
                    return Phase("scoring", None, str(error))
    return largest("scoring", *known.values())


def _ask(setup: Setup, model: LocalModel, known: dict[str, Phase]) -> None:
    """One reward model's largest forward, unless another of the same make and size is known.

    The longest prompt with longest responses, as many as the bound on a forward's tokens lets through. A response is
    taken to have as many tokens for the reward model as it has for the policy.
    """
    n, tail = setup.data.rollouts.n, setup.data.rollouts.max_new_tokens
    rows = n * -(-setup.data.batch_size // setup.processes)
    head = _head(model, setup.longest("train", 1)[0])
    length = min(head + tail * (2 if isinstance(model, PairwiseJudge) else 1), model.max_length)
    rows = max(1, min(round(rows * model.forwards_per_response(n)) if isinstance(model, Judge) else rows,
                      model.batches.max_tokens // length))  # fmt: skip
    skeleton = model.weights.skeleton(model.model_class)
    shape = {key: value for key, value in skeleton.config.to_dict().items() if key != "_name_or_path"}
    key = repr((type(model).__name__, skeleton.dtype, rows, length, sorted(shape.items(), key=str)))
    if key in known:
        return
    paper = Paper(skeleton, setup.autocast)
    if isinstance(model, SequenceClassifier):
        known[key] = tried("scoring", False, lambda _: classifying(paper, rows, length))
    elif isinstance(model, Likelihood):
        tail = min(tail, length - 1)
        heads, of = [length - tail] * -(-rows // n), [row // n for row in range(rows)]
        shares = why_not_by_configuration(skeleton) is None
        known[key] = tried("scoring", shares, lambda own: reading_one(paper, heads, of, tail, own, training=False))
    else:
        known[key] = tried("scoring", False, lambda _: judging(paper, rows, length))


def _head(model: LocalModel, prompt: Prompt) -> int:
    """Tokens of a prompt as the reward model reads it, its template included."""
    tokenizer = model.load_tokenizer()
    if isinstance(model, Judge):
        return len(prompt_ids(model.fill(prompt, response="", response_a="", response_b=""), tokenizer))
    chats = bool(tokenizer.chat_template) if model.chat_template is None else model.chat_template
    return len(tokenize(tokenizer, prompt, [""], chats)[0])
