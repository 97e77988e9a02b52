"""GRPO or RLOO by TRL on the quickstart's world: for each category of a batch one of its five reward models is chosen.

Answers to a quarter of the training prompts are what the choice is learned from; ``--choice uniform`` chooses at random
instead. How right responses are, to the test prompts as well, is a second reward function of no weight.

    python experiments/integrations/trl_grpo.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from laser_pl.bandits import LinUCB, Uniform
from laser_pl.feedback.signals import Trusted
from laser_pl.integrations.trl import SelectedReward, SelectionCallback
from laser_pl.models.language_model import Weights
from laser_pl.rewards import SequenceClassifier

WORLD = Path(__file__).resolve().parents[1] / "quickstart"
ARMS = ("numbers", "sorter", "mirror", "general", "longer")
N = 8


def right(prompts: list[str], completions: list[str], answer: list[str], **columns: object) -> list[float]:
    """Whether each response is the answer."""
    return [float(text.strip() == known) for text, known in zip(completions, answer, strict=True)]


def main(args: list[str] | None = None) -> dict[str, float]:
    """Train, and return the share of right responses to the test prompts before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", choices=["grpo", "rloo"], default="grpo")
    parser.add_argument("--choice", choices=["trusted", "uniform"], default="trusted")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--test_prompts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/trl", help="TRL's output_dir; the selection's record lies in it")
    options = parser.parse_args(args)
    reward = SelectedReward(
        reward_models={name: SequenceClassifier(Weights(str(WORLD / "reward_models" / name))) for name in ARMS},
        bandit=LinUCB() if options.choice == "trusted" else Uniform(),
        signal=Trusted(share=0.25),
        granularity="category",
        seed=options.seed,
    )
    trainer_class, config = (GRPOTrainer, GRPOConfig) if options.trainer == "grpo" else (RLOOTrainer, RLOOConfig)
    data = load_dataset(
        "json", data_files={split: str(WORLD / "prompts" / f"{split}.jsonl") for split in ("train", "test")}
    )
    trainer = trainer_class(
        model=str(WORLD / "policy"),
        reward_funcs=[reward, right],
        args=config(
            output_dir=options.out,
            reward_weights=[1.0, 0.0],
            per_device_train_batch_size=16 * N,
            per_device_eval_batch_size=64 * N,
            num_generations=N,
            max_completion_length=8,
            temperature=0.8,
            learning_rate=2e-4,
            lr_scheduler_type="constant",
            beta=0.1,
            disable_tqdm=True,
            max_steps=options.steps,
            eval_strategy="steps",
            eval_steps=options.steps,
            eval_on_start=True,
            save_strategy="no",
            logging_steps=10,
            report_to=[],
            use_cpu=True,
            bf16=False,
            seed=options.seed,
            **({"normalize_advantages": True} if options.trainer == "rloo" else {}),
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"].select(range(options.test_prompts)),
        callbacks=[SelectionCallback(reward)],
    )
    trainer.train()
    accuracy = [log["eval_rewards/right/mean"] for log in trainer.state.log_history if "eval_reward" in log]
    print(f"Share of right responses to {options.test_prompts} test prompts: {accuracy[0]:.3f} -> {accuracy[-1]:.3f}")
    return {"before": accuracy[0], "after": accuracy[-1]}


if __name__ == "__main__":
    main()
