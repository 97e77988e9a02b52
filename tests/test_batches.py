"""What flows between the stages refuses nonsense and moves whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from laser_pl.batches import PairIndices, Prompt, PromptBatch, PromptLosses, Responses, RolloutBatch

PROMPT = Prompt("id", "text", "text")


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.long)


@pytest.mark.parametrize(
    ("prompts", "tokens", "mask"),
    [(1, (2, 3), (2, 3)), (2, (2, 3), (2, 4)), (2, (2, 3), (1, 3))],
)
def test_prompt_batch_refuses_what_does_not_agree(prompts: int, tokens: tuple[int, int], mask: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{prompts} prompts .*\({tokens[0]}, {tokens[1]}\)"):
        PromptBatch((PROMPT,) * prompts, zeros(*tokens), zeros(*mask))


@pytest.mark.parametrize(
    ("mask", "finished", "texts"),
    [((2, 3, 4), (2, 3), 2), ((2, 3, 5), (2, 4), 2), ((2, 3, 5), (2, 3), 1)],
)
def test_responses_refuse_what_does_not_agree(mask: tuple[int, ...], finished: tuple[int, ...], texts: int) -> None:
    with pytest.raises(ValueError, match=rf"\(2, 3, 5\).*and {texts} lists"):
        Responses(zeros(2, 3, 5), zeros(*mask), zeros(*finished).bool(), [["a"] * 3] * texts)


@pytest.mark.parametrize("shapes", [((2,), (2,), (3,)), ((2, 1), (2, 1), (2, 1))])
def test_pairs_refuse_what_is_not_three_vectors(shapes: tuple[tuple[int, ...], ...]) -> None:
    prompt, chosen, rejected = shapes
    with pytest.raises(ValueError, match="three vectors of one length"):
        PairIndices(zeros(*prompt), zeros(*chosen), zeros(*rejected) + 1)


def test_a_response_is_never_preferred_to_itself() -> None:
    with pytest.raises(ValueError, match="prefers a response to itself"):
        PairIndices(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0, 2]))


def test_moving_a_batch_moves_every_tensor_and_keeps_the_rest(rollouts: Callable[..., RolloutBatch]) -> None:
    batch = rollouts([[[3, 1], [4, 5, 1]]], iteration=7)
    moved = batch.to("meta")
    tensors = {
        "prompts": (moved.prompts.tokens, moved.prompts.mask),
        "responses": (moved.responses.tokens, moved.responses.mask, moved.responses.finished),
        "batch": (moved.contexts, moved.reference_logprobs),
    }
    assert {t.device.type for group in tensors.values() for t in group} == {"meta"}
    assert moved.responses.tokens.shape == batch.responses.tokens.shape
    assert moved.responses.texts == batch.responses.texts
    assert (moved.iteration, len(moved)) == (7, 1)
    assert batch.contexts.device.type == "cpu"


def test_losses_of_a_skipped_step_are_unknown_and_what_chance_gives_stays() -> None:
    losses = PromptLosses({"loss": torch.tensor([0.5, 2.0]), "nll": torch.ones(2)}, {"loss": torch.ones(2)})
    assert losses.unknown().loss.isnan().all()
    assert losses.unknown().values["nll"].isnan().all()
    assert losses.unknown().by_chance is losses.by_chance
    assert losses.loss.tolist() == [0.5, 2.0]
