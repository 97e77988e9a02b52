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
