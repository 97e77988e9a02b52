"""What distinguishes a model's weights from others."""

from __future__ import annotations

import pytest
import torch

from laser_pl.run import origin
from laser_pl.run.origin import weights_digest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_single_weight_makes_another_digest_and_parts_that_are_summed_do_not(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = torch.nn.Linear(7, 5, dtype=dtype)
    whole = weights_digest(layer)
    monkeypatch.setattr(origin, "_SUMMED_AT_A_TIME", 4)
    assert weights_digest(layer) == whole
    with torch.no_grad():
        layer.weight[4, 6] += 1
    assert weights_digest(layer) != whole
