"""A finished fit in numbers."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from laser_pl.callbacks.run_record import RunRecord
from laser_pl.data.datamodule import PreferenceData
from laser_pl.report.summary import arm_shares, versions


def summary_of_fit(
    trainer: Trainer, data: PreferenceData, record: RunRecord, after: dict[str, float]
) -> dict[str, Any]:
    """What ``summary.json`` holds.

    Args:
        trainer: Which has fitted.
        data: Its prompts and rollouts.
        record: What was counted, with the run's folder and its selector.
        after: Test accuracy by category after training.
    """
    selector = record.selector
    arms, pool = selector.arms, selector.pool
    seconds = {
        "rollouts": data.rollout_seconds,
        "scoring": pool.seconds,
        "steps": record.seconds["steps"],
        "validation": record.seconds["validation"],
    }
    total = record.elapsed
    done = sum(count for name, count in pool.forwards.items() if name not in selector.constraints)
    return {
        "accuracy": {"before": record.before, "after": after},
        "arm_share": arm_shares(record.shares, arms),
        "seconds": {**seconds, "other": total - sum(seconds.values()), "total": total},
        "reward_model_forwards": dict(pool.forwards),
        "reward_model_forwards_avoided": round(record.possible) - done,
        "reward_model_spending": {name: dict(counts) for name, counts in pool.spent.items()},
        "labels_missing": {name: dict(kinds) for name, kinds in pool.missing.items() if kinds},
        "constraints": selector.verdicts.as_dict(),
        "arm_changes": selector.arm_changes,
        "prompts_too_long": data.too_long,
        "iterations": trainer.current_epoch,
        "steps": record.steps,
        "steps_without_pairs": record.skipped,
        "steps_not_finite": record.bad,
        "config": str(record.folder.config),
        "versions": versions(),
    }
