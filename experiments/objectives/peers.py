"""What TRL makes of the same log-probabilities: the numbers that the tests hold our objectives to.

A tiny random Llama in float64 reads four pairs of unlike lengths in TRL's ``DPOTrainer`` with each of its loss types
that is an objective here; the reference is the policy and some noise. SimPO is ``CPOTrainer``'s. What they saw and what
they made of it is written to ``trl.json`` beside this file.

Run:  python experiments/objectives/peers.py
Cost: 1 CPU core, half a minute. Needs `pip install -e .[bench]`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from peers import trl_missing, trl_tokenizer

HERE = Path(__file__).resolve().parent
BETA, EPSILON, GAMMA = 0.3, 0.2, 0.4
LENGTHS = [(3, 7), (5, 2), (1, 4), (6, 6)]
"""Tokens of the chosen and of the rejected response of each pair."""
PROMPT = 5


def main() -> int:
    """Ask TRL and write down what it says; 2 if it is not installed."""
    if trl_missing():
        return 2
    import torch
    from trl import __version__

    model, ids, completion = _texts()
    logprobs = _logprobs(model, ids, completion)
    noise = torch.randn(len(logprobs), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    reference = logprobs + noise
    losses = {
        name: _dpo_trainer(model, ids, completion, reference, **settings)
        for name, settings in {
            "Dpo": {"loss_type": ["sigmoid"]},
            "Hinge": {"loss_type": ["hinge"]},
            "Ipo": {"loss_type": ["ipo"]},
            "RobustDpo": {"loss_type": ["robust"], "label_smoothing": EPSILON},
            "LengthNormalisedDpo": {"loss_type": ["sigmoid_norm"]},
        }.items()
    }
    lengths = completion.sum(-1)
    losses["SimPo"] = _cpo_trainer(logprobs / lengths)
    found = {
        "trl": __version__, "beta": BETA, "epsilon": EPSILON, "gamma": GAMMA, "lengths": lengths.tolist(),
        "logprobs": logprobs.tolist(), "reference": reference.tolist(), "losses": losses,
    }  # fmt: skip
    (HERE / "trl.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(losses, indent=1))
    return 0


def _texts() -> tuple[Any, Any, Any]:
    """A model, ids of all chosen and then all rejected texts ``(8, T)``, and which of them are the response's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, initializer_range=0.3, pad_token_id=0, **shape)).double()
    lengths = torch.tensor([pair[0] for pair in LENGTHS] + [pair[1] for pair in LENGTHS])
    ids = torch.randint(3, 64, (len(lengths), PROMPT + int(lengths.max())))
    steps = torch.arange(ids.shape[1])
    completion = ((steps >= PROMPT) & (steps < PROMPT + lengths[:, None])).long()
    there = steps < PROMPT + lengths[:, None]
    half = len(lengths) // 2
    ids[half:, :PROMPT] = ids[:half, :PROMPT]
    return model.eval(), ids.masked_fill(~there, 0), completion


def _logprobs(model: Any, ids: Any, completion: Any) -> Any:
    """Of each response, by a forward of this script's own. Shape ``(8,)``."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    each = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (each * completion[:, 1:]).sum(-1)


def _dpo_trainer(model: Any, ids: Any, completion: Any, reference: Any, **settings: Any) -> float:
    """Its loss, the mean over the pairs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    half = len(ids) // 2
    arguments = DPOConfig(
        output_dir=tempfile.mkdtemp(), beta=BETA, use_cpu=True, bf16=False, gradient_checkpointing=False,
        disable_dropout=True, max_length=None, precompute_ref_log_probs=True, report_to=[], disable_tqdm=True,
        **settings,
    )  # fmt: skip
    one = Dataset.from_list([{"prompt": "1", "chosen": "2", "rejected": "3"}])
    trainer = DPOTrainer(model, args=arguments, train_dataset=one, processing_class=trl_tokenizer())
    seen = {
        "input_ids": ids, "attention_mask": (ids != 0).long(), "completion_mask": completion,
        "ref_chosen_logps": reference[:half], "ref_rejected_logps": reference[half:],
    }  # fmt: skip
    return float(trainer.compute_loss(trainer.model, seen))


def _cpo_trainer(per_token: Any) -> float:
    """SimPO's loss, from log-probabilities per token, the mean over the pairs."""
    import torch
    from trl.experimental.cpo import CPOTrainer

    half = len(per_token) // 2
    settings = SimpleNamespace(
        beta=BETA, simpo_gamma=GAMMA, label_smoothing=0.0, loss_type="simpo", alpha=0.0,
        accelerator=SimpleNamespace(device=torch.device("cpu")),
    )  # fmt: skip
    losses, *_ = CPOTrainer.cpo_loss(settings, per_token[:half], per_token[half:])
    return float(losses.mean())


if __name__ == "__main__":
    sys.exit(main())
