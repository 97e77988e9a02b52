"""Others' code that is measured beside ours."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any


def trl_missing() -> bool:
    """Whether TRL is not installed; says what to do."""
    try:
        import trl  # noqa: F401
    except ImportError:
        print("This compares with TRL, which is not installed. Run: pip install -e '.[bench]'", file=sys.stderr)
        return True
    return False


def lora_config(rank: int = 16) -> Any:
    """The adapter that `laser_pl.models.language_model.Lora` makes by default, without dropout."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )


def trl_tokenizer() -> Any:
    """Any tokenizer; the batches that are measured bring their ids."""
    from models import TOKENIZER
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TOKENIZER)


def trl_dpo_step(model: Any, batch: Any, beta: float) -> Callable[[int], float]:
    """One step of TRL's ``DPOTrainer`` on a batch's pairs: its loss and backward, no optimizer.

    Its settings are the fastest that do the same: reference log-probabilities given, no gradient checkpointing, no
    dropout, nothing padded. (``padding_free`` is switched off in this version of TRL, and nothing here is padded.)

    Args:
        model: The base, without an adapter, where it is to be trained.
        batch: A ``LabelledBatch``.
        beta: DPO's.

    Returns:
        From the pairs of a micro-batch to the step's loss.
    """
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    folder = tempfile.mkdtemp()
    arguments = DPOConfig(
        output_dir=folder,
        beta=beta,
        use_cpu=model.device.type == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        max_length=None,
        precompute_ref_log_probs=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=1,
    )
    one = Dataset.from_list([{"prompt": "1", "chosen": "2", "rejected": "3"}])
    trainer = DPOTrainer(
        model, args=arguments, train_dataset=one, processing_class=trl_tokenizer(), peft_config=lora_config()
    )
    pairs = batch.pairs
    prompts = batch.prompts.tokens[pairs.prompt]

    def side(index: Any) -> tuple[Any, Any]:
        answers = batch.responses.tokens[pairs.prompt, index]
        return torch.cat([prompts, answers], dim=-1), batch.reference_logprobs[pairs.prompt, index].float()

    (chosen, chosen_reference), (rejected, rejected_reference) = side(pairs.chosen), side(pairs.rejected)
    completion = torch.zeros_like(chosen)
    completion[:, prompts.shape[1] :] = 1

    def step(pairs_at_once: int) -> float:
        total = 0.0
        for part in torch.arange(len(pairs)).split(pairs_at_once):
            ids = torch.cat([chosen[part], rejected[part]])
            loss = trainer.compute_loss(
                trainer.model,
                {
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    "completion_mask": completion[:1].expand(len(ids), -1),
                    "ref_chosen_logps": chosen_reference[part],
                    "ref_rejected_logps": rejected_reference[part],
                },
            )
            share = len(part) / len(pairs)
            (loss * share).backward()
            total += float(loss.detach()) * share
        trainer.model.zero_grad()
        return total

    return step
