"""Every way to choose that the study compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from worlds import Arms, World, of_class

ENSEMBLES = {
    "mean": "laser_pl.rewards.MeanEnsemble",
    "agreement": "laser_pl.rewards.AgreementEnsemble",
    "uwo": "laser_pl.rewards.CautiousEnsemble",
    "online": "laser_pl.rewards.OnlineEnsemble",
}
USES = {
    "cooling": "score-likelihood covariance, all arms on 1/8 of the prompts",
    "cooling_ranks": "as cooling, with the likelihoods' ranks",
    "default": "negative loss, baseline by context",
    "gap": "the judge's own score gap",
    "paper": "negative loss, published constants",
    "few": "likelihoods by ranks, and answers to 8 prompts a category",
    "few_16": "the same, 16 answers a category",
    "few_4": "the same, 4 answers a category",
    "few_2": "the same, 2 answers a category",
    "few_0": "the same, no answers",
    "trusted": "answers to 1/8 of the prompts",
    "random": "nothing",
    "sequential": "nothing",
    "sequential_iterations": "nothing",
    "oracle": "the world card",
    "truth": "all answers",
    "mean": "all scores",
    "agreement": "all scores",
    "uwo": "all scores",
    "online": "all scores, negative loss",
    "classifier": "answers to 1/8 of the prompts",
    "thompson": "as default",
    "thompson_prior": "as default, labels before training",
    "thompson_zscore": "as default, labels before training",
    "exp3": "as default, without context",
    "ucb1": "as default, without context",
    "epsilon_greedy": "as default",
    "discounted": "as default",
    "sliding_window": "as default",
    "majority": "the others' majority on 1/8 of the prompts",
    "advantage": "likelihood under the start policy",
    "nll": "NLL part of the loss",
    "dpo": "DPO part of the loss",
    "probe": "32 answers",
}
PRESETS = {"cooling", "default", "few", "gap", "paper", "trusted"}
LABELS = {
    *("few", "few_2", "few_4", "few_16", "trusted", "classifier", "thompson_prior", "thompson_zscore", "probe"),
    *("oracle", "truth"),
}
"""Those that use answers or the world card; the others are label-free."""


@dataclass(frozen=True)
class Layers:
    """What a strategy lays over a world's configuration.

    Attributes:
        files: Configs.
        selection: A further layer's ``selection`` section.
    """

    files: list[str] = field(default_factory=list)
    selection: dict[str, Any] = field(default_factory=dict)


def layers(strategy: str, world: World, arms: Arms) -> Layers:
    """The layers of a strategy by its name, ``single_<arm>`` included.

    Args:
        strategy: Its name.
        world: Where.
        arms: The pool.
    """
    fixed = of_class("laser_pl.bandits.Fixed")
    if strategy.startswith("single_"):
        arm = strategy.removeprefix("single_")
        return Layers(selection={"reward_models": {arm: arms[arm]}, "bandit": fixed})
    if strategy in ENSEMBLES:
        ensemble = of_class(ENSEMBLES[strategy], reward_models=arms)
        return Layers(selection={"reward_models": {strategy: ensemble}, "bandit": fixed})
    if strategy == "truth":
        return Layers(selection={"reward_models": {"truth": of_class("laser_pl.rewards.Verifier")}, "bandit": fixed})
    pool = {"reward_models": arms}
    if strategy == "random":
        return Layers(selection={**pool, "bandit": of_class("laser_pl.bandits.Uniform")})
    if strategy == "oracle":
        return Layers(selection={**pool, "bandit": of_class("laser_pl.bandits.Oracle", right=world.right)})
    if strategy in PRESETS:
        return Layers([f"experiments/presets/{strategy}.yaml"], pool)
    if strategy.startswith("few_"):
        signal = of_class("laser_pl.feedback.signals.FewAnswers", answers=int(strategy.removeprefix("few_")))
        return Layers(["experiments/presets/few.yaml"], {**pool, "signal": signal})
    if strategy.startswith(("paper_alpha_", "default_alpha_")):
        preset, _, alpha = strategy.split("_")
        bandit = of_class("laser_pl.bandits.LinUCB", alpha=float(alpha))
        return Layers([f"experiments/presets/{preset}.yaml"], {**pool, "bandit": bandit})
    return Layers([f"experiments/study/strategies/{strategy}.yaml"], pool)
