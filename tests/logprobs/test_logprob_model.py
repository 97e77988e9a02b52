"""Groups under a token budget: the same loss and gradients, whatever the budget."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import LabelledBatch, PairIndices, Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.micro_batches import micro_batches
from laser_pl.models.language_model import Lora
from laser_pl.objectives import Dpo
from laser_pl.training.pair_step import batch_loss
from laser_pl.training.summed_gradients import sum_with_gradients

VOCABULARY, B, N, WIDTH, LENGTH = 60, 4, 6, 9, 7
OBJECTIVE = Dpo(beta=0.3, nll_weight=0.5)


def make_batch(seed: int = 0) -> LabelledBatch:
    """Four prompts of different lengths with six responses each; the third has no pairs."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    prompt_mask = (torch.arange(WIDTH) >= numbers(0, WIDTH, B)[:, None]).long()
    mask = (torch.arange(LENGTH) < numbers(1, LENGTH + 1, B, N)[..., None]).long()
    prompts = PromptBatch(
        tuple(Prompt(str(i), "", "") for i in range(B)), numbers(2, VOCABULARY, B, WIDTH), prompt_mask
    )
    responses = Responses(
        numbers(2, VOCABULARY, B, N, LENGTH), mask, torch.ones(B, N, dtype=torch.bool), [[""] * N] * B
    )
    reference = -20 * torch.rand(B, N, generator=generator, dtype=torch.float64)
    batch = RolloutBatch(prompts, responses, torch.zeros(B, 3), reference, iteration=0)
    pairs = PairIndices(
        torch.tensor([0, 0, 1, 1, 1, 3]), torch.tensor([0, 0, 5, 2, 4, 1]), torch.tensor([3, 1, 2, 3, 0, 4])
    )
    return batch.labelled(torch.zeros(B, dtype=torch.long), torch.zeros(B, N), pairs)


@pytest.fixture
def model(causal_model: Callable[..., Any]) -> Any:
    """In float64, with an adapter that does something."""
    model = Lora(rank=4, dropout=0.0).wrap(causal_model("llama", VOCABULARY, torch.float64))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def step(model: Any, budget: int, share: bool = True, at_once: bool = True, **options: Any) -> tuple[Any, ...]:
    """Loss, losses of the prompts, means of the pairs and gradients; and the tokens of each forward."""
    tokens: list[int] = []
    logprob_model = LogprobModel(model, budget, share)
    hook = (
        model.get_base_model()
        .get_input_embeddings()
        .register_forward_pre_hook(lambda _, args: tokens.append(args[0].numel()))
    )
    parameters = list(model.parameters()) if at_once else None
    loss, losses, means = batch_loss(make_batch(), logprob_model, OBJECTIVE, parameters, **options)
    gradients = torch.autograd.grad(2.5 * loss, [p for p in model.parameters() if p.requires_grad])
    hook.remove()
    return loss.detach(), losses, means, torch.cat([gradient.flatten() for gradient in gradients]), tokens


@pytest.mark.parametrize("share", [True, False], ids=["shared", "repeated"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "recomputed"])
@pytest.mark.parametrize("budget", [1, 20, 45, 80, 150])
def test_the_budget_changes_neither_loss_nor_gradient(model: Any, budget: int, at_once: bool, share: bool) -> None:
    loss, losses, means, gradients, tokens = step(model, 10_000, share=False)
    assert len(tokens) == 1
    found = step(model, budget, share, at_once)
    torch.testing.assert_close(found[0], loss, rtol=0, atol=1e-10)
    for name, part in losses.by_name().items():
        torch.testing.assert_close(found[1].by_name()[name], part, rtol=0, atol=1e-10, equal_nan=True)
    for name in ("margin", "chosen_logprob"):
        torch.testing.assert_close(found[2][name], means[name], rtol=0, atol=1e-10)
    # transformers normalises in float32 backward, see test_packed.py
    torch.testing.assert_close(found[3], gradients, rtol=0, atol=1e-6 * float(gradients.abs().max()))
    assert losses.per_prompt.isnan().tolist() == [False, False, True, False]


def test_no_forward_is_larger_than_the_budget(model: Any) -> None:
    batch = make_batch()
    longest = int(batch.prompts.mask.sum(-1).max() + batch.responses.mask.sum(-1).max())
    *_, few = step(model, longest)
    *_, more = step(model, 2 * longest)
    assert max(few) <= longest
    assert len(few) > len(more) > 1


def test_a_loss_scale_changes_nothing(model: Any) -> None:
    *_, gradients, _ = step(model, 30)
    *_, scaled, _ = step(model, 30, loss_scale=1024.0)
    torch.testing.assert_close(scaled, gradients, rtol=1e-12, atol=0)


def test_dropout_is_repeated_where_activations_are_recomputed(causal_model: Callable[..., Any]) -> None:
    """Otherwise the gradient would be another network's. Differentiated at once, nothing is recomputed."""
    with_dropout = Lora(rank=4, dropout=0.3).wrap(causal_model("llama", VOCABULARY, torch.float64))
    results = []
    for at_once in (True, False):
        torch.manual_seed(0)
        results.append(step(with_dropout, 60, at_once=at_once))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    torch.testing.assert_close(results[0][3], results[1][3], rtol=0, atol=1e-6)


def test_unused_parameters_stay_without_gradient() -> None:
    used, unused = (torch.nn.Parameter(torch.tensor(3.0)) for _ in range(2))
    total = sum_with_gradients([lambda: used**2, lambda: 4 * used], [used, unused])
    total.backward()
    assert float(total.detach()) == 21
    assert float(used.grad) == 10  # type: ignore[arg-type]
    assert unused.grad is None


@pytest.mark.parametrize(("gradient_checkpointing", "share"), [(False, True), (True, True), (False, False)])
def test_what_cannot_be_shared_is_said_once(
    causal_model: Callable[..., Any], caplog: pytest.LogCaptureFixture, gradient_checkpointing: bool, share: bool
) -> None:
    model = Lora(dropout=0.0).wrap(causal_model("llama", VOCABULARY, torch.float64), gradient_checkpointing)
    with caplog.at_level(logging.WARNING):
        logprob_model = LogprobModel(model, 100, share)
        batch = make_batch()
        rows = torch.arange(B).repeat_interleave(N)
        responses = ResponseBatch(
            batch.prompts, rows, batch.responses.tokens.flatten(0, 1), batch.responses.mask.flatten(0, 1)
        )
        for _ in range(2):
            logprob_model.all_logprobs(responses)
    assert logprob_model.shares == (share and not gradient_checkpointing)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == int(gradient_checkpointing)
    assert all("gradient checkpointing" in message for message in said)


@given(st.data(), st.integers(1, 60), st.booleans())
def test_every_response_is_in_one_group_with_its_prompts_others(data: st.DataObject, budget: int, shared: bool) -> None:
    heads = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=6))
    owners = data.draw(st.lists(st.integers(0, len(heads) - 1), min_size=1, max_size=20))
    tails = data.draw(st.lists(st.integers(1, 20), min_size=len(owners), max_size=len(owners)))
    groups = micro_batches(torch.tensor(heads), torch.tensor(owners), torch.tensor(tails), budget, shared)
    assert sorted(row for group in groups for part in group for row in part) == list(range(len(owners)))
    for group in groups:
        here = {owners[row] for part in group for row in part}
        assert {row for row, owner in enumerate(owners) if owner in here} == {row for part in group for row in part}
        assert len(group) == 1 or len(here) == 1
        for part in group:
            prompts = {owners[row] for row in part} if shared else [owners[row] for row in part]
            tokens = sum(tails[row] for row in part) + sum(heads[owner] for owner in prompts)
            assert tokens <= budget or len(part) == 1


@pytest.mark.parametrize("share", [True, False], ids=["shared", "repeated"])
def test_what_is_recomputed_is_read_twice_and_no_more(model: Any, share: bool) -> None:
    """Once forward and once backward, though the head's own gradient is taken between the two."""
    batch = make_batch()
    owner = torch.arange(B).repeat_interleave(N)
    responses = ResponseBatch(
        batch.prompts, owner, batch.responses.tokens.flatten(0, 1), batch.responses.mask.flatten(0, 1)
    )
    logprob_model = LogprobModel(model, 45, share)
    read: list[int] = []
    model.get_base_model().get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: read.append(inputs[0].numel())
    )
    logprob_model.all_logprobs(responses)
    once = sum(read)
    read.clear()
    for group in logprob_model.groups(responses):
        logprob_model.group_logprobs(responses, group, recompute=True).sum().backward()
    assert sum(read) == 2 * once
