"""A classifier's score of a text is that of the text alone, whatever is read beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from laser_pl.batches import Prompt
from laser_pl.models.language_model import Weights
from laser_pl.rewards import Likelihood, PointwiseJudge, SequenceClassifier

COMMON = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "max_position_embeddings": 512, "initializer_range": 0.2}  # fmt: skip
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LONGROPE = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 16, **FACTORS}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2}  # fmt: skip
# What a classifier is made of, and whether padding changes none of its scores.
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "reads padding": ("fnet", COMMON, False),
    "folds over padding": ("convbert", {**COMMON, "embedding_size": 32}, False),
    "is read at the last place": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, False),
    "hides padding": ("bert", COMMON, True),
    "is read at every EOS": ("bart", BART, True),
    "turns at a length": ("phi3", {**COMMON, "num_key_value_heads": 4, "rope_parameters": LONGROPE}, True),
    "turns with every token": ("llama", {**COMMON, "max_position_embeddings": 16, "rope_parameters": DYNAMIC}, True),
}


@pytest.mark.parametrize("kind", ["classifier", "likelihood", "judge"])
def test_a_longer_text_leaves_nothing_behind(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    """Dynamic NTK stretches its frequencies for a long text, and every shorter one would be read with them."""
    of = AutoModelForSequenceClassification if kind == "classifier" else AutoModelForCausalLM
    shape = {**COMMON, "max_position_embeddings": 16, "rope_parameters": DYNAMIC, "num_labels": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", **shape, pad_token_id=0, eos_token_id=1, bos_token_id=None,
                                      vocab_size=len(tokenizer))  # fmt: skip
        of.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = Weights(str(tmp_path))
    judge = PointwiseJudge(weights, "{{ prompt }}{{ response }}", {"a": 1.0, "b": 2.0})
    reward = {"classifier": SequenceClassifier(weights), "likelihood": Likelihood(weights), "judge": judge}[kind]
    reward.load(torch.device("cpu"))
    prompt, long_ = Prompt("0", "1+1=", ""), "a response of many more words, and more"
    first = reward.score([prompt], [["2"]])
    together = reward.score([prompt], [["2", long_]])
    again = reward.score([prompt], [["2"]])
    assert float(first) == pytest.approx(float(again), abs=1e-6) == pytest.approx(float(together[0, 0]), abs=1e-5)
    assert float(together[0, 1]) == pytest.approx(float(reward.score([prompt], [[long_]])), abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_text_scores_as_alone(tokenizer: Any, tmp_path: Path, name: str) -> None:
    """Among longer ones, and ones that write EOS out."""
    kind, shape, hides = MODELS[name]
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "decoder_start_token_id": 0, "num_labels": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **shape, **special, vocab_size=len(tokenizer))
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = SequenceClassifier(Weights(str(tmp_path)))
    reward.load(torch.device("cpu"))
    assert reward._hides_padding is hides
    prompt, responses = Prompt("0", "1+1=", ""), ["2", "a response of many more words", "tw<eos>o", "two"]
    found = reward.score([prompt], [responses])[0].tolist()
    for (ids,), score in zip((reward.inputs(prompt, [response]) for response in responses), found, strict=True):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path)  # as nothing was read before
        with torch.no_grad():
            assert score == pytest.approx(float(model(input_ids=torch.tensor([ids])).logits), abs=2e-5)
