"""Weights that processes share out: here among one, whose pieces are whole but are handled as pieces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.models.language_model import Lora
from laser_pl.runtime import lockstep
from laser_pl.runtime.lockstep import Lockstep, as_many_everywhere
from laser_pl.runtime.processes import refuse_other_processes, settle_processes, sharing_weights_out
from laser_pl.runtime.sharding import gathered, is_sharded, shard, shared_out_like, whole
from laser_pl.training.adapter import load_adapter
from laser_pl.training.step_guard import StepGuard
from laser_pl.training.summed_gradients import sum_with_gradients


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.fixture
def models(
    mesh: Any, causal_model: Callable[..., Any], tokenizer: Any, request: pytest.FixtureRequest
) -> tuple[Any, Any]:
    """One and the same, with an adapter that does something: whole, and shared out."""
    dtype = getattr(request, "param", torch.float32)
    model = Lora(rank=2, dropout=0.0).wrap(causal_model("llama", len(tokenizer), dtype))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(generator=generator)
    other = copy.deepcopy(model)
    shard(other.get_base_model(), mesh)
    return model, other


@pytest.fixture
def prompts() -> PromptBatch:
    tokens, mask = pad_left([[5, 6, 7], [8, 9, 10, 11]], 0, torch.device("cpu"))
    return PromptBatch((Prompt("p", "", ""), Prompt("q", "", "")), tokens, mask)


@pytest.fixture
def responses(prompts: PromptBatch) -> ResponseBatch:
    tokens, mask = pad_right([[12, 13, 1], [14, 1], [15, 16, 17, 1], [18, 1]], 0, torch.device("cpu"))
    return ResponseBatch(prompts, torch.tensor([0, 0, 1, 1]), tokens, mask)


@pytest.mark.parametrize("share", [True, False])
def test_texts_are_read_as_by_whole_weights(models: tuple[Any, Any], responses: ResponseBatch, share: bool) -> None:
    whole_one, in_pieces = (LogprobModel(model, 12, share) for model in models)
    assert in_pieces.shares == whole_one.shares == share
    assert in_pieces.sharded
    assert not whole_one.sharded
    torch.testing.assert_close(in_pieces.all_logprobs(responses), whole_one.all_logprobs(responses), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        in_pieces.contexts(responses.prompts), whole_one.contexts(responses.prompts), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("models", [torch.bfloat16], indirect=True)
def test_so_are_they_by_weights_of_16_bits(models: tuple[Any, Any], responses: ResponseBatch) -> None:
    whole_one, in_pieces = (LogprobModel(model, 40) for model in models)
    assert in_pieces.shares
    torch.testing.assert_close(
        in_pieces.all_logprobs(responses), whole_one.all_logprobs(responses), atol=0.1, rtol=0.02
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_responses_are_sampled(
    models: tuple[Any, Any], tokenizer: Any, prompts: PromptBatch, temperature: float
) -> None:
    sampling = Sampling(n=3, temperature=temperature, max_new_tokens=6)
    whole_one, in_pieces = (sample_responses(model, tokenizer, prompts, sampling, 3) for model in models)
    assert in_pieces.tokens.equal(whole_one.tokens)


def test_gradients_are_those_of_whole_weights_taken_at_once_or_going_backward(
    models: tuple[Any, Any], responses: ResponseBatch
) -> None:
    def of_group(logprob_model: LogprobModel, group: list[list[int]]) -> torch.Tensor:
        return logprob_model.group_logprobs(responses, group, recompute=False).sum()

    found = []
    for model in models:
        logprob_model = LogprobModel(model, 8)
        groups = logprob_model.groups_to_train(responses)
        assert len(groups) > 1
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for at_once in (True, False):
            losses = [partial(of_group, logprob_model, group) for group in groups]
            loss = sum_with_gradients(losses, trained, 4.0) if at_once else sum(compute() for compute in losses)
            loss.backward()
            found.append([whole(parameter.grad) for parameter in trained if parameter.grad is not None])
            for parameter in trained:
                parameter.grad = None
    assert len(found[0]) == 8  # A and B of two layers' queries and values
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=1e-4)


def test_an_adapter_is_written_whole_and_taken_up_in_pieces(models: tuple[Any, Any], tmp_path: Any) -> None:
    whole_one, in_pieces = models
    assert gathered(whole_one) is None
    tensors = gathered(in_pieces)
    assert tensors is not None
    in_pieces.save_pretrained(str(tmp_path), state_dict=tensors)
    before = {name: p.detach().clone() for name, p in whole_one.named_parameters() if p.requires_grad}
    torch.testing.assert_close(tensors, before, atol=0, rtol=0)
    for parameter in in_pieces.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    load_adapter(in_pieces, tmp_path, "")
    torch.testing.assert_close(gathered(in_pieces), before, atol=0, rtol=0)


def test_a_gradient_in_pieces_that_is_not_finite_is_seen(models: tuple[Any, Any]) -> None:
    trained = [parameter for parameter in models[1].parameters() if parameter.requires_grad]
    optimizer, guard = torch.optim.SGD(trained, lr=1.0), StepGuard(2)
    for value, bad in ((1.0, None), (float("nan"), "gradient")):
        trained[0].grad = shared_out_like(torch.full(trained[0].shape, value), trained[0])
        assert isinstance(trained[0].grad, DTensor)
        guard.saw_loss(1, finite=True)
        guard.before_step(optimizer, trained, look=True)
        assert guard.bad == bad
    assert trained[0].grad is None


def test_who_has_done_its_own_takes_part_until_all_have(
    models: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = models[1].get_base_model()
    assert is_sharded(base)
    step, asked = Lockstep(base), []
    others = iter([0, 1, 1, 0])  # at work at each question

    def all_reduce(tensor: torch.Tensor, op: Any) -> None:
        asked.append(int(tensor))
        tensor.fill_(max(int(tensor), next(others)))

    monkeypatch.setattr(lockstep.torch.distributed, "all_reduce", all_reduce)
    read: list[int] = []
    base.register_forward_hook(lambda *args: read.append(1))
    with step.together(), step.together():
        base(input_ids=torch.tensor([[5, 6]]))
    assert asked == [1, 0, 0, 0]
    assert len(read) == 1 + 2


def test_a_block_that_fails_waits_for_nobody(models: tuple[Any, Any]) -> None:
    step = Lockstep(models[1].get_base_model())
    with pytest.raises(ValueError, match="mine"), step.together():
        raise ValueError("mine")


def test_groups_are_as_many_as_the_process_with_most_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather_object(into: list[Any], own: Any) -> None:
        into[:] = [own, [1], [1, 1, 1]]

    monkeypatch.setattr(lockstep.torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(lockstep.torch.distributed, "all_gather_object", all_gather_object)
    assert as_many_everywhere([[[0], [1]], [[2, 3]]]) == [[[0], [1]], [[2, 3]], [[]]]
    assert as_many_everywhere([]) == [[[]], [[]], [[]]]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed_stage_3", FSDPStrategy()])
def test_other_ways_to_share_weights_out_are_refused_with_the_lines_to_write(strategy: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"init_args: \{tensor_parallel_size: 1\}\}, as experiments/scale/fsdp"
    ):
        settle_processes({"accelerator": "cpu", "devices": 2, "strategy": strategy})


@pytest.mark.parametrize(
    ("options", "precision", "callbacks", "told"),
    [
        ({"tensor_parallel_size": 2}, "32-true", [], "has the tensor_parallel_size 2, "),
        ({}, "32-true", [], "has the tensor_parallel_size auto, "),
        ({"tensor_parallel_size": 1, "data_parallel_size": 4}, "32-true", [], "4, and there are 2 processes"),
        ({"tensor_parallel_size": 1}, "16-mixed", [], "trainer.precision is 16-mixed"),
        ({"tensor_parallel_size": 1}, "32-true", [StochasticWeightAveraging(1e-3)], "Averaging copies the policy"),
    ],
)
def test_what_cannot_be_shared_out_so_is_refused(
    options: dict[str, Any], precision: Any, callbacks: list[Callback], told: str
) -> None:
    strategy = sharing_weights_out(ModelParallelStrategy(**options))
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, callbacks=callbacks, **off)
    trainer.strategy.precision_plugin.precision = precision
    with pytest.raises(ConfigurationError, match=told):
        refuse_other_processes(trainer)


def test_an_older_torch_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it fails in the first forward."""
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    strategy = sharing_weights_out(ModelParallelStrategy(tensor_parallel_size=1))
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, **off)
    with pytest.raises(ConfigurationError, match=r"needs torch 2\.7; this is 2\.6\.0\+cu124\. Install"):
        refuse_other_processes(trainer)
