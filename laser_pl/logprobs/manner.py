"""How texts can be read by a model, found out by reading a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.company import forget_longer_texts
from laser_pl.logprobs.modes import evaluating
from laser_pl.logprobs.text_decoder import Head, decode, read, text_decoder
from laser_pl.logprobs.trial_texts import TrialTexts, difference, unblurred
from laser_pl.runtime.sharding import is_sharded


@dataclass(frozen=True)
class Manner:
    """How texts are read by a model, so that each is read as it would be alone.

    Attributes:
        decoder: The module whose last hidden states logits are made of; None where only whole logits are right.
    """

    decoder: Any

    def read(self, base: Any, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Head]:
        """Hidden states ``(R, T, h)`` of texts padded on the right, and what makes logits of them."""
        return read(base, tokens, mask, self.decoder)

    def states(self, base: Any, tokens: Tensor, mask: Tensor) -> Tensor:
        """The same hidden states alone."""
        if self.decoder is None or not is_sharded(base):
            return self.read(base, tokens, mask)[0]
        forget_longer_texts(base)
        output, _ = decode(base, self.decoder, 1, input_ids=tokens, attention_mask=mask, use_cache=False)
        hidden: Tensor = output.last_hidden_state
        return hidden


_known: WeakKeyDictionary[torch.nn.Module, Manner | str] = WeakKeyDictionary()


def manner_of(base: Any) -> Manner:
    """How a model reads, found out once.

    Args:
        base: A Hugging Face causal language model, without PEFT's wrapper.

    Raises:
        ConfigurationError: If it is no causal language model, or none that can be read.
    """
    if base not in _known:
        _known[base] = _find_out(base)
    found = _known[base]
    if isinstance(found, str):
        raise ConfigurationError(f"{type(base).__name__} cannot be used as a causal language model: {found}.")
    return found


def predicted(base: Any, texts: TrialTexts) -> Tensor:
    """Logits of every token of the trial's responses, each read with its prompt. Shape ``(R, T, V)``."""
    hidden, head = manner_of(base).read(base, *texts.whole)
    states = hidden.gather(1, texts.predicting[:, :, None].expand(-1, -1, hidden.shape[-1]))
    return head.logits(states.flatten(0, 1)).view(*states.shape[:2], -1)


def _find_out(base: Any) -> Manner | str:
    texts = TrialTexts.of(base)
    try:
        with evaluating(base):  # in its own type, which not every model can compute in
            _alone(base, texts, 0)
    except RuntimeError as error:
        if "memory" in str(error):
            raise
        return _cannot(base, error)
    except Exception as error:  # whatever a model of unknown make raises
        return _cannot(base, error)
    with unblurred(base):
        return _compare(base, texts)


def _cannot(base: Any, error: Exception) -> str:
    why = str(error).splitlines()[0] if str(error) else "no reason given"
    return f"it cannot read a short text in {str(base.dtype).removeprefix('torch.')} ({type(error).__name__}: {why})"


def _alone(base: Any, texts: TrialTexts, row: int, without: int = 0) -> Tensor:
    """Logits of a text but for its last tokens, of which nothing is said but the tokens. Shape ``(T, V)``."""
    tokens, mask = texts.whole
    length = int(mask[row].sum()) - without
    logits: Tensor = base(input_ids=tokens[row : row + 1, :length], use_cache=False).logits
    return logits[0]


def _compare(base: Any, texts: TrialTexts) -> Manner | str:
    """Read the shortest and the longest of the texts alone, the longest without its end, and both beside a third."""
    expected = {row: _alone(base, texts, row) for row in (0, 2)}
    if any(bool(logits.isnan().any()) for logits in expected.values()):
        return "its logits are not finite"
    cut = _alone(base, texts, 2, without=3)
    if not texts.agree(cut, expected[2][: len(cut)]):
        return (
            "what it predicts for a token changes with the tokens behind it, by"
            f" {difference(cut, expected[2][: len(cut)]):.0%} of the largest logit (BERT and its kin have to be saved"
            " with is_decoder: true in their config.json)"
        )
    tokens, mask = texts.whole
    for decoder in (text_decoder(base), None):
        try:
            hidden, head = read(base, tokens[:3], mask[:3], decoder)
            if all(texts.agree(head.logits(hidden[row, : len(logits)]), logits) for row, logits in expected.items()):
                return Manner(decoder)
        except Exception:  # the other may be right
            continue
    return "a text has other logits beside a longer one than alone"
