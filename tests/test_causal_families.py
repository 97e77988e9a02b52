"""The tiny models of all causal families that other tests are made with."""

from __future__ import annotations

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.causal_families import NOT_BUILT, VOCABULARY, families, lora_targets, make


def test_hardly_a_family_is_left_out() -> None:
    assert {*families(), *NOT_BUILT} == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert len(NOT_BUILT) <= 5
    assert len(families()) >= 184


@pytest.mark.parametrize("family", families())
def test_it_reads_a_text_and_has_layers_to_adapt(family: str) -> None:
    model = make(family)
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 13)[None], use_cache=False).logits
    assert logits.shape == (1, 10, VOCABULARY)
    assert 0.3 < float(logits.std()) < 30
    assert lora_targets(model)
