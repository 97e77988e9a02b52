"""Rollouts come back from disk bit by bit, and never by halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import PromptBatch, RolloutBatch
from laser_pl.data.rollout_store import RolloutStore, rollout_batch, sampled
from laser_pl.errors import ConfigurationError

Make = Callable[..., RolloutBatch]
IDS = st.lists(st.integers(2, 2**31 - 1), min_size=1, max_size=6)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def write(store: RolloutStore, chunk: int, batch: RolloutBatch) -> None:
    store.write(chunk, batch.prompts, batch.responses, batch.contexts, batch.reference_logprobs)


def read(store: RolloutStore, chunk: int, prompts: PromptBatch, iteration: int = 0) -> RolloutBatch:
    return rollout_batch(prompts.prompts, store.read(chunk), pad_id=0, iteration=iteration)


def assert_same(one: RolloutBatch, two: RolloutBatch) -> None:
    for pick in (
        lambda batch: batch.responses.tokens,
        lambda batch: batch.responses.mask,
        lambda batch: batch.responses.finished,
        lambda batch: batch.contexts,
        lambda batch: batch.reference_logprobs,
    ):
        assert pick(one).dtype == pick(two).dtype
        assert torch.equal(pick(one), pick(two))
    assert one.responses.texts == two.responses.texts
    assert one.iteration == two.iteration


@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_a_chunk_comes_back_bit_by_bit(
    rollouts: Make, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int, n: int
) -> None:
    def table(of: st.SearchStrategy) -> list:
        return data.draw(st.lists(st.lists(of, min_size=n, max_size=n), min_size=size, max_size=size))

    batch = rollouts(table(IDS), table(st.booleans()), texts=table(TEXT), iteration=4)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    batch = replace(batch, contexts=torch.randn(size, 5, generator=generator))
    batch = replace(batch, reference_logprobs=-torch.rand(size, n, generator=generator, dtype=torch.float64) / 3)
    store = RolloutStore(tmp_path_factory.mktemp("store") / "rollouts" / "iteration-004")
    write(store, 12, batch)
    assert_same(read(store, 12, batch.prompts, iteration=4), batch)


def test_float32_log_probabilities_survive_the_wider_column(rollouts: Make, tmp_path: Path) -> None:
    batch = rollouts([[[3, 1], [4, 1]]])
    batch = replace(batch, reference_logprobs=torch.tensor([[-0.1, -1 / 3]]))
    store = RolloutStore(tmp_path)
    write(store, 0, batch)
    assert torch.equal(read(store, 0, batch.prompts).reference_logprobs.float(), batch.reference_logprobs)


def test_a_chunk_may_be_read_back_in_other_batches(rollouts: Make, tmp_path: Path) -> None:
    """Each batch is as wide as its own longest response."""
    batch = rollouts([[[3, 1]], [[4, 4, 4, 1]], [[5, 1]]])
    store = RolloutStore(tmp_path)
    write(store, 0, batch)
    rows = store.read(0)
    first = rollout_batch(rollouts([[[1]]]).prompts.prompts, rows[:1], pad_id=9, iteration=0)
    rest = rollout_batch(rollouts([[[1]], [[1]]]).prompts.prompts, rows[1:], pad_id=9, iteration=0)
    assert first.responses.tokens.tolist() == [[[3, 1]]]
    assert rest.responses.tokens.tolist() == [[[4, 4, 4, 1]], [[5, 1, 9, 9]]]
    assert rest.responses.mask.tolist() == [[[1, 1, 1, 1]], [[1, 1, 0, 0]]]


def test_a_chunk_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/chunk-00000\.parquet cannot be read"):
        RolloutStore(tmp_path / "nowhere").read(0)


def test_an_interrupted_write_leaves_no_chunk(rollouts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, batch = RolloutStore(tmp_path), rollouts([[[3, 1]]])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            write(store, 0, batch)
    assert list(tmp_path.iterdir()) == []
    write(store, 0, batch)
    assert_same(read(store, 0, batch.prompts), batch)
    assert [path.name for path in tmp_path.iterdir()] == ["chunk-00000.parquet"]


def test_chunks_are_plain_parquet_with_the_texts(rollouts: Make, tmp_path: Path) -> None:
    write(RolloutStore(tmp_path), 3, rollouts([[[3, 1], [4, 1]]], texts=[["yes", "no"]], ids=["q"]))
    (row,) = pq.read_table(tmp_path / "chunk-00003.parquet").to_pylist()
    assert (row["prompt_id"], row["responses"], row["tokens"]) == ("q", ["yes", "no"], [[3, 1], [4, 1]])


def test_what_is_sampled_ahead_lies_apart_and_is_no_chunk(rollouts: Make, tmp_path: Path) -> None:
    store, batch = RolloutStore(tmp_path), rollouts([[[3, 1], [4, 4, 1]]])
    store.write_ahead(2, batch.prompts, batch.responses)
    assert [path.name for path in tmp_path.iterdir()] == ["ahead-00002.parquet"]
    prompts, responses = sampled(batch.prompts.prompts, store.read_ahead(2), pad_id=0)
    assert prompts.ids() == batch.prompts.ids()
    assert responses.tokens.tolist() == batch.responses.tokens.tolist()
    assert responses.mask.tolist() == batch.responses.mask.tolist()
    store.ahead(2).rename(store.path(2))
    with pytest.raises(ConfigurationError, match=r"chunk-00002\.parquet holds rows that no run wrote"):
        store.read(2)
    store.discard_ahead(2)  # none is there
    store.write_ahead(2, batch.prompts, batch.responses)
    store.discard_ahead(2)
    assert [path.name for path in tmp_path.iterdir()] == ["chunk-00002.parquet"]
