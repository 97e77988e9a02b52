"""A character-level tokenizer in Hugging Face format: one token per character, and nothing is added or cleaned up."""

from __future__ import annotations

import torch
from tasks import ALPHABET
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, EOS = "<pad>", "<eos>"


def make_tokenizer(alphabet: str = ALPHABET) -> PreTrainedTokenizerFast:
    """Make the tokenizer: ``<pad>`` is 0, ``<eos>`` is 1, and the alphabet follows.

    There is no unknown token on purpose: a character outside the alphabet raises instead of being dropped.

    Args:
        alphabet: Characters that it can write, each once.

    Returns:
        The tokenizer; ``decode(encode(x)) == x`` for every string over the alphabet.
    """
    vocabulary = {token: index for index, token in enumerate((PAD, EOS, *alphabet))}
    backend = Tokenizer(models.WordLevel(vocabulary))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=64,
    )


def pad_right(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Encode texts of different lengths into one right-padded block.

    Args:
        tokenizer: The world's tokenizer.
        texts: What to encode; ``<eos>`` in a text is the end token.

    Returns:
        Token ids. Shape ``(len(texts), T)``, int64.
    """
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    block = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    for row, ids in zip(block, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return block
