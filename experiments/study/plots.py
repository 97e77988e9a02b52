"""The study's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tables import Results, select

from laser_pl.report.statistics import mean_and_interval


def plot_alphas(results: Results, presets: Sequence[str], values: Sequence[float], path: Path) -> None:
    """Accuracy, and the share of decisions for a wrong arm, over alpha, with 95 % intervals over seeds.

    Args:
        results: Of the part.
        presets: A line for each.
        values: The alphas; equal steps, since they span orders of magnitude and hold 0.
        path: The PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for preset in presets:
        runs = [list(select(results, f"{preset}_alpha_{value:g}", "base", "prompt").values()) for value in values]
        if not all(runs):
            continue
        for axis, measure in ((axes[0], lambda o: o.after), (axes[1], lambda o: 1 - o.right)):
            means, halves = zip(*(mean_and_interval([measure(o) for o in some]) for some in runs), strict=True)
            axis.errorbar(range(len(values)), means, halves, marker="o", capsize=3, label=preset)
    for axis, title in zip(axes, ("test accuracy", "share of decisions for a wrong arm"), strict=True):
        axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axis.set_xlabel("alpha")
        axis.set_title(title)
        axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


ANSWERS = {0: "few_0", 2: "few_2", 4: "few_4", 8: "few", 16: "few_16"}
"""The strategy by answers in each category."""
LEVELS = {
    "oracle": "always the right specialist",
    "trusted": "trusted, an eighth of all answers",
    "random": "at random",
}


def plot_answers(results: Results, granularity: str, path: Path) -> None:
    """Accuracy over answers a category, a panel for each world: every seed, and their mean.

    Args:
        results: Of all worlds.
        granularity: What gets one arm.
        path: The PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    worlds = sorted({job.world for job in results})
    figure, axes = plt.subplots(1, len(worlds), figsize=(4.5 * len(worlds), 3.6), layout="constrained", squeeze=False)
    for axis, world in zip(axes[0], worlds, strict=True):
        own = {job: outcome for job, outcome in results.items() if job.world == world}
        by_count = {n: list(select(own, name, "base", granularity).values()) for n, name in ANSWERS.items()}
        known = {n: [outcome.after for outcome in runs] for n, runs in by_count.items() if runs}
        axis.plot(list(known), [sum(values) / len(values) for values in known.values()], color="C0", label="few")
        for n, values in known.items():
            axis.scatter([n] * len(values), values, color="C0", s=14)
        for color, (name, label) in zip(("C2", "C1", "C7"), LEVELS.items(), strict=True):
            level = [outcome.after for outcome in select(own, name, "base", granularity).values()]
            if level:
                axis.axhline(sum(level) / len(level), color=color, linestyle="--", label=label)
        axis.set_xticks(list(known))
        axis.set_xlabel("answers in each category")
        axis.set_title(f"test accuracy, {world} world")
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
