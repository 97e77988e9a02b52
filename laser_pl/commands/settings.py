"""The settings of a run that are ours, and what they are unless somebody says otherwise."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from laser_pl.callbacks.reward_selection import RewardSelection

DEFAULTS = {
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 5e-6, "weight_decay": 0.0}},
    "model.matcher": {"class_path": "laser_pl.metrics.matchers.Exact"},
    "data.template": {"class_path": "laser_pl.data.templates.Plain"},
    # The preset `default`; `config ls` names it and the others, which are overlays.
    "selection.bandit": {"class_path": "laser_pl.bandits.LinUCB", "init_args": {"alpha": 1.0}},
    "selection.context": {"class_path": "laser_pl.bandits.context.ContextPreparation"},
    "selection.signal": {"class_path": "laser_pl.feedback.signals.Loss"},
    "selection.normalizer": {"class_path": "laser_pl.feedback.normalizers.ContextBaseline"},
    "selection.pairs": {"class_path": "laser_pl.data.pairs.RandomPairs"},
}


def add_seed(parser: LightningArgumentParser) -> None:
    """Add the seed; a plain integer, since it is the root of every random number of a run."""
    parser.add_argument("--seed_everything", type=int, default=0, help="Root of all randomness of the run.")


def add_settings(parser: LightningArgumentParser) -> None:
    """Add them to the parser of a command."""
    parser.add_lightning_class_args(RewardSelection, "selection")
    parser.add_optimizer_args(nested_key="optimizer", link_to="model.optimizer")
    parser.add_lr_scheduler_args(nested_key="lr_scheduler", link_to="model.lr_scheduler")
    parser.add_argument("--name", type=str, default="laser", help="Name of the run and of its folder.")
    parser.add_argument("--runs_dir", type=str, default="runs", help="Folder of the runs' folders.")
    parser.add_argument(
        "--resume",
        type=bool | str,
        default=False,
        nargs="?",
        const=True,
        help="Continue the unfinished run of that name, or in that folder.",
    )
    parser.add_argument("--checkpoint_every", type=int, default=50,
                        help="Batches between checkpoints within an iteration.")  # fmt: skip
    parser.add_argument("--keep_iterations", type=int | None, default=None,
                        help="Ended iterations whose rollouts stay on disk; null: all.")  # fmt: skip
    parser.add_argument("--quiet", type=bool, default=False, nargs="?", const=True,
                        help="Say nothing but warnings, errors and where the run lies.")  # fmt: skip
    for section in ("model", "data", "selection"):
        parser.link_arguments("seed_everything", f"{section}.seed")
    for action in parser._actions:
        # A data file's path is no path of a config: without this jsonargparse reads a CSV file and takes its text.
        if action.dest in {"data.train", "data.validation", "data.test"}:
            action._enable_path = False  # type: ignore[attr-defined]
    parser.set_defaults(DEFAULTS)
