"""The policy: a causal language model with a LoRA adapter, trained on the labels its batch carries."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from torch import Tensor

from laser_pl.batches import LabelledBatch, PromptBatch, PromptLosses, Responses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.engine import RolloutEngine
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.transformers_engine import TransformersEngine
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.modes import evaluating
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact
from laser_pl.models.language_model import Lora, Weights
from laser_pl.objectives.base import LossOutputs, Objective
from laser_pl.policy.answering import AnsweringModule
from laser_pl.policy.mismatch import Mismatch
from laser_pl.policy.objective import objective_of
from laser_pl.run.checkpoints import FORMAT, refuse_other_adapter, refuse_other_optimizer
from laser_pl.run.metrics_file import forget_last
from laser_pl.run.origin import origin_of, refuse_other_origin
from laser_pl.runtime import progress
from laser_pl.runtime.lockstep import Lockstep, one_token
from laser_pl.runtime.seeds import derive_seed
from laser_pl.runtime.sharded_strategy import ShardedStrategy
from laser_pl.runtime.sharding import own_piece, shard
from laser_pl.training.adapter import as_started, train_adapter
from laser_pl.training.optimizers import make_optimizers
from laser_pl.training.pair_step import batch_loss, frozen_loss, nothing_seen
from laser_pl.training.step_guard import StepGuard
from laser_pl.training.trained_state import keep_trained, miss_only_trained
from laser_pl.training.trainer_traits import differentiates_at_once, loss_scale, scaler_of

log = logging.getLogger(__name__)


class Policy(AnsweringModule):
    """A language model that learns which of its own responses a reward model prefers.

    The reference of the loss is the policy at the iteration's start. Its log-probabilities arrive with the batch, so no
    second model is held and no reference forward runs in the step.

    Args:
        weights: The frozen base model.
        lora: The adapter that is trained.
        beta: DPO's inverse temperature, 1/nats, > 0. The paper does not publish its value.
        nll_weight: Weight of the chosen response's NLL per token; 0: plain DPO.
        objective: What is minimised; null: DPO. One of ``laser_pl.objectives``, with a beta and an nll_weight of its
            own, in place of those above.
        gradient_checkpointing: Recompute activations going backward: slower, in less memory. Prompts are not shared by
            their responses then.
        tokens_per_forward: Tokens that a forward takes when responses are read. Memory grows with it, and with neither
            n nor the number of pairs. Dropout draws other numbers when it changes.
        share_prompts: Read a prompt once for all its responses, where the model can. A departure: the prompt then has
            one dropout mask for all of them, as has what all prompts begin with. False gives each response a prompt and
            a mask of its own.
        pad_token: Which token pads, for a tokenizer that names none.
        engine: What samples responses; null: this process itself. One of ``laser_pl.generation``.
        matcher: Says in validation, test and predict how right a response is.
        evaluation: How responses are sampled in validation and test, beside the greedy one.
        optimizer: Makes the optimizer from the adapter's parameters; the config's ``optimizer`` section.
        lr_scheduler: Makes a schedule from the optimizer, stepped every training step; its ``lr_scheduler`` section.
        frozen: Objective ``Frozen`` by its former name.
        supervised: Objective ``Supervised`` by its former name.
        max_bad_steps: Steps in a row without finite loss or gradient that end a run.
        seed: Root of this module's randomness (dropout, evaluation).

    Attributes:
        step: What became of the last training step.
        mismatch: How far the engine's model is from the policy.
        origin: What distinguishes the base and its tokenizer from others, once it is loaded.
    """

    def __init__(
        self,
        weights: Weights,
        lora: Lora = Lora(),  # noqa: B008 - a plain dataclass that nobody changes
        beta: float = 0.1,
        nll_weight: float = 1.0,
        objective: Objective | None = None,
        gradient_checkpointing: bool = False,
        tokens_per_forward: int = 4096,
        share_prompts: bool = True,
        pad_token: str | None = None,
        engine: RolloutEngine | None = None,
        matcher: Grader = Exact(),  # noqa: B008 - stateless
        evaluation: Sampling = Sampling(n=4),  # noqa: B008 - a plain dataclass that nobody changes
        optimizer: OptimizerCallable = partial(torch.optim.AdamW, lr=5e-6),  # noqa: B008 - makes, and is, nothing yet
        lr_scheduler: LRSchedulerCallable | None = None,
        frozen: bool = False,
        supervised: bool = False,
        max_bad_steps: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if tokens_per_forward < 1:
            raise ConfigurationError(
                f"tokens_per_forward must be >= 1, got {tokens_per_forward}. Set model.tokens_per_forward in the"
                " config."
            )
        self.weights = weights
        self.lora = lora
        self.objective = objective_of(objective, beta, nll_weight, frozen, supervised)
        self.gradient_checkpointing = gradient_checkpointing
        self.tokens_per_forward = tokens_per_forward
        self.share_prompts = share_prompts
        self.engine = engine or TransformersEngine()
        self.matcher = matcher
        self.evaluation = evaluation
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.seed = seed
        self.step = StepGuard(max_bad_steps)
        self.strict_loading = False  # checkpoints hold the adapter, not the frozen base
        self.register_state_dict_post_hook(keep_trained)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(miss_only_trained)  # type: ignore[no-untyped-call]
        self.tokenizer = self.load_tokenizer(pad_token)
        self.language_model: Any = None  # a PeftModel, once it is loaded
        self.origin: dict[str, str] = {}
        self._logprob_model: LogprobModel | None = None
        self._lockstep: Lockstep | None = None  # where processes share the weights out
        self.mismatch = Mismatch()

    # -- set-up ------------------------------------------------------------------------------------------------------

    def load_tokenizer(self, pad_token: str | None) -> Any:
        """The tokenizer, which must know what to pad with."""
        return self.weights.load_policy_tokenizer(pad_token)

    def setup(self, stage: str) -> None:
        """Refuse a precision that would cast the batches, reference log-probabilities included.

        Raises:
            ConfigurationError: If ``trainer.precision`` is one of those that end in ``-true``, but for ``32-true``; or
                if quantised weights are to be shared out.
        """
        if isinstance(self.trainer.strategy, ShardedStrategy) and self.weights.quantized_as is not None:
            raise ConfigurationError(
                f"The weights of '{self.weights.name}' are quantised ({self.weights.quantized_as}), and processes share"
                " out only such as are not. Set trainer.strategy to ddp, or leave model.weights.quantization out."
            )
        if isinstance(self.trainer.precision_plugin, (DoublePrecision, HalfPrecision)):
            raise ConfigurationError(
                f"trainer.precision {self.trainer.precision} would round the reference log-probabilities as well. Set"
                " model.weights.dtype instead, and leave trainer.precision out or set it to bf16-mixed."
            )

    def configure_model(self) -> None:
        """Load the base and put the adapter on it, once, by ``seed`` alone; and share them out, where that is asked."""
        if self.language_model is None:
            self._load()
        if self._device_mesh is not None and self._lockstep is None:
            base = self.model.get_base_model()
            shard(base, self._device_mesh["data_parallel"])
            self._lockstep = Lockstep(base)

    def _load(self) -> None:
        with progress.task("loading the policy"):
            self.weights.check_language_model()
            self.lora.untrained(self.weights.skeleton())  # refuses targets before the weights are loaded
            torch.manual_seed(derive_seed(self.seed, "adapter"))
            base = self.weights.load()
            self.origin = origin_of(base, self.tokenizer)
            self.language_model = self.lora.wrap(base, self.gradient_checkpointing)

    def train(self, mode: bool = True) -> Policy:
        """Training mode for the adapter alone: of the base every dropout and every other draw stays off."""
        super().train(mode)
        if self.language_model is not None:
            train_adapter(self.language_model, mode)
        return self

    @property
    def model(self) -> Any:  # a PeftModel
        """The language model with its adapter.

        Raises:
            RuntimeError: Before ``configure_model``.
        """
        if self.language_model is None:
            raise RuntimeError("The policy has no weights yet; call configure_model() first.")
        return self.language_model

    @property
    def of_labels(self) -> list[str]:
        """What is logged of a step that has something to learn from."""
        objective = self.objective
        return [f"train/{name}" for name in ("loss", *objective.parts, *objective.means, objective.needs)]

    @property
    def context_limit(self) -> int | None:
        """How many tokens the model can read, prompt and response together; None where it sets no limit."""
        return getattr(self.weights.load_config().get_text_config(), "max_position_embeddings", None)

    @property
    def logprob_model(self) -> LogprobModel:
        """Reads responses with the model."""
        if self._logprob_model is None:
            self._logprob_model = LogprobModel(self.model, self.tokens_per_forward, self.share_prompts)
        return self._logprob_model

    def configure_optimizers(self) -> Any:
        """The optimizer over the adapter, and the schedule where there is one."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return make_optimizers(self.optimizer, self.lr_scheduler, trained, self.trainer.check_val_every_n_epoch or 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the adapter is for, and how many bad steps there were in a row."""
        checkpoint["origin"] = self.origin
        checkpoint["format"] = FORMAT
        checkpoint["bad_steps"] = self.step.bad_in_a_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another adapter, or one that was trained on another base.

        Raises:
            ConfigurationError: If its tensors are not this adapter's, or base or tokenizer are others.
        """
        refuse_other_origin(checkpoint.get("origin", {}), self.origin, "The checkpoint", self.weights.name)
        trained = {name: p.shape for name, p in self.named_parameters() if p.requires_grad}
        saved = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        refuse_other_adapter(trained, saved, "The checkpoint")
        self.step.bad_in_a_row = int(checkpoint.get("bad_steps", 0))

    # -- training ----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Refuse to go on with another optimizer, whose state the checkpoint's is not.

        Raises:
            ConfigurationError: If it lacks what this one needs.
        """
        for optimizer in self.trainer.optimizers:
            refuse_other_optimizer(optimizer)

    def on_train_epoch_start(self) -> None:
        """Log how far the engine that sampled the iteration's responses is from the policy, if it is another model."""
        apart = self.mismatch.told(self._processes)
        if apart is not None:
            self.log("rollouts/mismatch", apart)

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        """Make dropout follow from the position in the run, so that a resumed run repeats it."""
        torch.manual_seed(derive_seed(self.seed, "dropout", self.current_epoch, batch_idx) + self._processes.rank)

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> dict[str, Any]:
        """The objective on the batch's labels, or on written responses; each process trains its own rows.

        A batch without labels to learn from, or with a loss that is no finite number, trains nothing, nor does an
        objective that trains none: its gradient is zero.

        Returns:
            ``loss``, this process's share of the mean over prompts that have a loss, and ``prompt_losses`` of all rows.
        """
        if not self.objective.judged:
            batch = batch.unjudged()
        if not isinstance(batch, LabelledBatch):
            raise RuntimeError("The batch carries no preferences. Is the RewardSelection callback in the trainer?")
        lengths = batch.responses.mask.sum(-1)  # (B, n)
        self.log_dict(
            {
                "train/response_length": lengths.float().mean(),
                "train/truncated": (~batch.responses.finished).float().mean(),
                "tokens/prompts": batch.prompts.mask.sum().float(),
                "tokens/responses": lengths.sum().float(),
            },
            batch_size=len(batch),
        )
        processes, labels = self._processes, self.objective.labels(batch)
        own = batch if processes.size == 1 else batch.part(processes.rows(len(batch)))
        loss, losses, sums = self._own_loss(own, trained=int(self.objective.uses(batch).any(-1).sum()))
        found = processes.gather((loss.item(), sums))
        finite = all(math.isfinite(value) for value, _ in found)
        self.step.saw_loss(labels, finite, trains=self.objective.trains)
        by_name = losses.by_name()
        values = processes.together(torch.stack(list(by_name.values()), dim=-1), len(batch)).unbind(-1)  # (B,) each
        every = PromptLosses(dict(zip(by_name, values, strict=True)), self.objective.by_chance(batch))
        if labels > 0:
            means = [sum(parts) / labels for parts in zip(*(own for _, own in found), strict=True)]
            logged = {
                "train/loss": sum(value for value, _ in found) / processes.size,
                **{f"train/{part}": every.values[part].nanmean() for part in self.objective.parts},
                **{f"train/{name}": mean for name, mean in zip(self.objective.means, means, strict=True)},
                f"train/{self.objective.needs}": float(labels),
            }
            self.log_dict(logged, batch_size=len(batch))
        elif self._trainer is not None:
            forget_last(self._trainer, self.of_labels)
        return {"loss": loss if self.step.learned else self._nothing(), "prompt_losses": every}

    def _own_loss(self, own: LabelledBatch, trained: int) -> tuple[Tensor, LossOutputs, list[float]]:
        """The loss ``()``, so that its mean over processes is the batch's; and the loss of each prompt.

        Args:
            own: This process's rows.
            trained: Prompts of the whole batch that have a loss.

        Returns:
            Also the sums over pairs, or scores, of that of which the objective's means are logged.
        """
        objective, uses = self.objective, self.objective.uses(own)
        takes_part = self._lockstep is not None and trained > 0 and objective.trains  # in what others compute
        if not uses.any() and not takes_part:
            unknown, _ = nothing_seen(len(own), objective, self.device)
            return self._nothing(), unknown, [0.0] * len(objective.means)
        if not objective.trains:
            loss, losses, means = frozen_loss(own, objective)
            loss = loss + self._nothing()
        else:
            parameters = self.parameters() if differentiates_at_once(self._trainer) else None
            scale = loss_scale(self._trainer)
            loss, losses, means = batch_loss(own, self.logprob_model, objective, parameters, scale)
        share = int(uses.any(-1).sum()) * self._processes.size / trained
        labels = objective.labels(own)
        return loss * share, losses, [float(means[name]) * labels for name in objective.means]

    def _nothing(self) -> Tensor:
        """A loss of 0 with a gradient of 0 in every parameter, for which other processes wait. Shape ``()``."""
        return torch.stack([own_piece(p).sum() for p in self.parameters() if p.requires_grad]).sum() * 0.0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave weights and optimizer as they are if there is nothing to learn, or nothing finite."""
        self.step.before_step(optimizer, self.parameters(), look=scaler_of(self._trainer) is None)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's, where there is a gradient: clipping none by value is an error of torch."""
        if any(parameter.grad is not None for parameter in self.parameters()):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: RolloutBatch, batch_idx: int) -> None:
        """Give up when steps are bad again and again."""
        self.step.end()

    # -- rollouts ----------------------------------------------------------------------------------------------------

    def in_step(self) -> AbstractContextManager[None]:
        """A block, of every process at once, with as many forwards as each needs: see ``Lockstep.together``."""
        if self._lockstep is None:
            return nullcontext()
        assert self.logprob_model.sharded  # it is made here, where all make it
        return self._lockstep.together()

    def predicts(self) -> bool:
        """Whether the policy's logits are finite, by a text of one token; every process at once."""
        with evaluating(self.model):
            return bool(one_token(self.model).amax().isfinite())

    def publish(self) -> None:
        """Let the engine answer with the policy as it is now; every process at once."""
        self.engine.publish(self.model, self.tokenizer, self._processes)

    def roll_out(self, prompts: PromptBatch, sampling: Sampling, seed: int) -> tuple[Responses, Tensor, Tensor]:
        """Sample responses and note what the policy thinks of them now, which makes it the reference later.

        Returns:
            The responses, the contexts ``(B, d)``, and the log-probability of each response ``(B, n)`` in nats.
        """
        responses = self.engine.respond(prompts, sampling, seed)
        return (responses, *self.take_as_reference(prompts, responses))

    def take_as_reference(self, prompts: PromptBatch, responses: Responses) -> tuple[Tensor, Tensor]:
        """What the policy thinks now of prompts and of responses, whoever wrote them.

        Returns:
            The contexts ``(B, d)``, and the log-probability of each response ``(B, n)`` in nats.
        """
        logprobs = self.logprobs(ResponseBatch.of(prompts, responses)).view(responses.finished.shape)
        self.mismatch.see(responses, logprobs)
        return self.contexts(prompts), logprobs

    def contexts(self, prompts: PromptBatch) -> Tensor:
        """What the policy as it is makes of prompts, by which a reward model is chosen. Shape ``(B, d)``, float32."""
        with evaluating(self.model):
            return self.logprob_model.contexts(prompts)

    def logprobs(self, responses: ResponseBatch) -> Tensor:
        """Log-probabilities of responses under the policy as it is, in nats, without gradient. Shape ``(R,)``."""
        with evaluating(self.model):
            return self.logprob_model.all_logprobs(responses)

    def start_logprobs(self, responses: ResponseBatch) -> Tensor:
        """The same under the policy that training started from: without the adapter, or with the one it began with."""
        with as_started(self.model, self.lora.start):
            return self.logprobs(responses)
