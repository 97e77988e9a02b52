"""Rows are grouped so that no forward is larger than allowed, and smaller ones after memory ran out."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.rewards.token_batches import TokenBatches, is_out_of_memory, padded_tokens

LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=30)


@given(lengths=LENGTHS, limit=st.integers(1, 60), memory=st.integers(18, 200))
def test_every_row_gets_its_own_number_whatever_the_groups(
    lengths: list[tuple[int, ...]], limit: int, memory: int
) -> None:
    batches, sizes, refused = TokenBatches(limit), [], []

    def forward(group: list[int]) -> Tensor:
        size = padded_tokens([lengths[row] for row in group])
        if size > memory:
            refused.append(size)
            raise torch.OutOfMemoryError
        sizes.append(size)
        return torch.tensor(group, dtype=torch.float64) * 10

    assert batches.run(lengths, forward).tolist() == [10.0 * row for row in range(len(lengths))]
    assert all(size <= max(limit, *map(sum, lengths)) for size in sizes)
    assert len(set(refused)) == len(refused)


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MemoryError()]
)
def test_the_hosts_memory_runs_out_too(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def forward(group: list[int]) -> Tensor:
        if len(group) > 2:
            raise error
        return torch.ones(len(group))

    with caplog.at_level(logging.WARNING):
        TokenBatches(100).run([(10,)] * 8, forward)
    assert [message.split(";")[0] for message in caplog.messages] == [
        "Out of memory with 80 tokens in a forward",
        "Out of memory with 40 tokens in a forward",
    ]


def test_other_errors_are_raised_at_once() -> None:
    calls = []

    def forward(group: list[int]) -> Tensor:
        calls.append(group)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        TokenBatches(100).run([(3,)] * 4, forward)
    assert len(calls) == 1
    assert not is_out_of_memory(ValueError("CUDA"))


@pytest.mark.parametrize(
    ("given_", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_numbers_come_in_float32_or_wider(given_: torch.dtype, kept: torch.dtype) -> None:
    assert TokenBatches(9).run([(1,), (2,)], lambda group: torch.ones(len(group), dtype=given_)).dtype == kept


def test_without_rows_there_is_no_forward() -> None:
    assert TokenBatches(9).run([], lambda group: torch.ones(1)).shape == (0,)


def test_the_bound_is_positive() -> None:
    with pytest.raises(ConfigurationError, match="max_tokens_per_batch must be >= 1, got 0"):
        TokenBatches(0)


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=5))
def test_padding_on_either_side_keeps_the_tokens(rows: list[list[int]]) -> None:
    for pad in (pad_left, pad_right):
        tokens, mask = pad(rows, 0, torch.device("cpu"))
        assert [t[m.bool()].tolist() for t, m in zip(tokens, mask, strict=True)] == rows
        assert (tokens[mask == 0] == 0).all()
        edge = mask.flip(-1) if pad is pad_left else mask
        assert (edge.diff(dim=-1) <= 0).all()
