"""Regret of every bandit where the arms' worth is known: no language model, hundreds of seeds.

Run:  python experiments/bandits/simulate.py --seeds 200 --steps 3000
Cost: about a minute on one CPU core.

With --library the library's own classes run, one seed after the other, instead of those of ``crowd.py``, which are
tested to think the same, at about 0.2 ms a decision: --seeds 20 --steps 1000 takes 80 s.

It writes ``RESULTS.md`` and ``regret.png`` beside itself, or into --out.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from crowd import UCB1, Crowd, EpsilonGreedy, Exp3, Forgetful, LinUCB, Thompson, Uniform
from library import Library
from torch import Tensor

from laser_pl import bandits
from laser_pl.report.statistics import mean_and_interval
from laser_pl.report.summary import checked_out

HERE = Path(__file__).resolve().parent
GROUPS, ARMS, SIZE, NOISE, PERIODS = 4, 4, 8, 0.2, 4
PRIOR = torch.tensor([0.6, 0.5, 0.5, 0.4], dtype=torch.float64)
BANDITS: dict[str, Callable[[], Crowd]] = {
    "LinUCB, alpha 0.1": lambda: LinUCB(0.1),
    "LinUCB, alpha 0.3": lambda: LinUCB(0.3),
    "LinUCB, alpha 1": lambda: LinUCB(1.0),
    "Thompson, spread 0.3": lambda: Thompson(0.3),
    "Thompson, spread 0.3, prior": lambda: Thompson(0.3, PRIOR),
    "Thompson, spread 0.3, wrong prior": lambda: Thompson(0.3, PRIOR.flip(0)),
    "epsilon-greedy, 0.1": lambda: EpsilonGreedy(0.1),
    "UCB1": lambda: UCB1(0.3),
    "Exp3, gamma 0.1": lambda: Exp3(0.1),
    "discounted LinUCB, alpha 1, 0.99": lambda: Forgetful(1.0, gamma=0.99),
    "sliding window LinUCB, alpha 1, 200": lambda: Forgetful(1.0, window=200),
    "uniform": Uniform,
}
LIBRARY: dict[str, Callable[[], Crowd]] = {
    "LinUCB, alpha 0.1": lambda: Library(lambda: bandits.LinUCB(0.1)),
    "LinUCB, alpha 0.3": lambda: Library(lambda: bandits.LinUCB(0.3)),
    "LinUCB, alpha 1": lambda: Library(lambda: bandits.LinUCB(1.0)),
    "Thompson, spread 0.3": lambda: Library(lambda: bandits.Thompson(0.3)),
    "Thompson, spread 0.3, prior": lambda: Library(
        lambda: bandits.Thompson(0.3, {f"arm {k}": worth for k, worth in enumerate(PRIOR.tolist())})
    ),
    "Thompson, spread 0.3, wrong prior": lambda: Library(
        lambda: bandits.Thompson(0.3, {f"arm {k}": worth for k, worth in enumerate(PRIOR.flip(0).tolist())})
    ),
    "epsilon-greedy, 0.1": lambda: Library(lambda: bandits.EpsilonGreedy(0.1)),
    "UCB1": lambda: Library(lambda: bandits.UCB1(0.3)),
    "Exp3, gamma 0.1": lambda: Library(lambda: bandits.Exp3(0.1, low=0.0)),
    "discounted LinUCB, alpha 1, 0.99": lambda: Library(lambda: bandits.DiscountedLinUCB(1.0, 0.99)),
    "sliding window LinUCB, alpha 1, 200": lambda: Library(lambda: bandits.SlidingWindowLinUCB(1.0, 200)),
    "uniform": lambda: Library(bandits.Uniform),
}


class World:
    """Prompts of some groups, and arms that are worth something else in each.

    A context is its group's direction, blurred, with unit norm. In every group one arm is worth 0.8, the others between
    0.2 and 0.6. On average arm 0 is somewhat better than the others, which the prior says. In a drifting world the
    groups exchange their arms' worth three times.

    Args:
        seeds: Worlds side by side.
        steps: How long they last.
        drifts: Whether they change.
        generator: Makes them.
    """

    def __init__(self, seeds: int, steps: int, drifts: bool, generator: torch.Generator) -> None:
        self.steps, self.generator, self.rows = steps, generator, torch.arange(seeds)
        directions = torch.randn(seeds, GROUPS, SIZE, generator=generator, dtype=torch.float64)
        self.directions = torch.nn.functional.normalize(directions, dim=-1)
        worth = 0.2 + 0.4 * torch.rand(seeds, GROUPS, ARMS, generator=generator, dtype=torch.float64)
        best = torch.randint(ARMS, (seeds, GROUPS), generator=generator)
        best[:, 0] = 0
        self.worth = worth.scatter(2, best[..., None], 0.8)  # (S, G, K)
        self.period = steps // PERIODS if drifts else steps

    def step(self, number: int) -> tuple[Tensor, Tensor]:
        """Contexts ``(S, d)`` and what each arm is worth there ``(S, K)``."""
        group = torch.randint(GROUPS, self.rows.shape, generator=self.generator)
        blur = 0.1 * torch.randn(len(self.rows), SIZE, generator=self.generator, dtype=torch.float64)
        contexts = torch.nn.functional.normalize(self.directions[self.rows, group] + blur, dim=-1)
        turn = min(number // self.period, PERIODS - 1)
        return contexts, self.worth[self.rows, (group + turn) % GROUPS]


def regret(bandit: Crowd, seeds: int, steps: int, drifts: bool, seed: int = 0) -> Tensor:
    """What was lost against the best arm, added up. Shape ``(S, steps)``.

    All bandits meet the same worlds, contexts and noise.
    """
    world = World(seeds, steps, drifts, torch.Generator().manual_seed(seed))
    noise_generator = torch.Generator().manual_seed(seed + 1)
    bandit.start(seeds, ARMS, SIZE, torch.Generator().manual_seed(seed + 2))
    lost = torch.zeros(seeds, steps, dtype=torch.float64)
    for number in range(steps):
        contexts, worth = world.step(number)
        chosen = bandit.select(contexts)
        noise = NOISE * torch.randn(seeds, ARMS, generator=noise_generator, dtype=torch.float64)
        rewards = (worth + noise)[world.rows, chosen].clamp(0, 1)
        bandit.update(contexts, chosen, rewards)
        lost[:, number] = worth.amax(-1) - worth[world.rows, chosen]
    return lost.cumsum(-1)


def growth(curves: Tensor) -> tuple[float, float]:
    """The exponent of regret over time from the middle to the end, mean and half width over seeds.

    Regret that doubles with the time has the exponent 1; sub-linear regret has less.
    """
    middle, end = curves[:, curves.shape[1] // 2 - 1].clamp(min=1e-9), curves[:, -1].clamp(min=1e-9)
    return mean_and_interval(((end / middle).log() / torch.tensor(2.0, dtype=torch.float64).log()).tolist())


def table(curves: dict[str, Tensor]) -> list[str]:
    """A row for each bandit, least regret first."""
    lines = ["| bandit | regret at the end | a step | exponent, second half |", "|---|---|---|---|"]
    for name, curve in sorted(curves.items(), key=lambda item: float(item[1][:, -1].mean())):
        mean, half = mean_and_interval(curve[:, -1].tolist())
        exponent, width = growth(curve)
        lines.append(
            f"| {name} | {mean:.1f} ± {half:.1f} | {mean / curve.shape[1]:.3f} | {exponent:.2f} ± {width:.2f} |"
        )
    return lines


def plot(curves: dict[str, dict[str, Tensor]], path: Path) -> None:
    """Mean regret over time with its 95 % band."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(12, 4.5), layout="constrained", sharey=True)
    for axis, (title, found) in zip(axes, curves.items(), strict=True):
        for number, (name, curve) in enumerate(found.items()):
            mean, half = curve.mean(0), 1.96 * curve.std(0) / len(curve) ** 0.5
            color = plt.get_cmap("tab20")(number)
            axis.plot(mean, label=name, color=color)
            axis.fill_between(range(len(mean)), mean - half, mean + half, alpha=0.2, color=color)
        axis.set_title(title)
        axis.set_xlabel("decisions")
        axis.set_ylabel("regret")
    axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(curves: dict[str, dict[str, Tensor]], seeds: int, steps: int, command: str, seconds: float) -> str:
    """The results with what is needed to repeat them."""
    lines = [
        "# Regret where the arms' worth is known",
        "",
        f"Written by `{command}` on {date.today()}, at commit {checked_out(HERE)}, Python"
        f" {platform.python_version()}, torch {torch.__version__}, in {seconds:.0f} s.",
        "",
        f"{seeds} worlds of {GROUPS} groups of prompts and {ARMS} arms, contexts of size {SIZE}, {steps} decisions,"
        f" rewards with noise {NOISE}, clipped to [0, 1]. Mean over worlds with the 95 % interval by Student's t. The"
        " exponent is that of the growth of regret from the middle to the end: 1 is linear. Theory promises bandits"
        " with contexts about 0.5 or less where nothing drifts, if they explore enough; without contexts it is linear.",
        "",
    ]
    for title, found in curves.items():
        lines += [f"## {title.capitalize()}", "", *table(found), ""]
    return "\n".join([*lines, "![Regret over time](regret.png)", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--library", action="store_true", help="run the library's own classes")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    began = time.perf_counter()
    makers = LIBRARY if options.library else BANDITS
    everything = {
        title: {name: regret(make(), options.seeds, options.steps, drifts) for name, make in makers.items()}
        for title, drifts in (("stationary", False), ("drifting", True))
    }
    command = shlex.join(["python", "experiments/bandits/simulate.py", *sys.argv[1:]])
    options.out.mkdir(parents=True, exist_ok=True)
    text = page(everything, options.seeds, options.steps, command, time.perf_counter() - began)
    (options.out / "RESULTS.md").write_text(text, encoding="utf-8")
    plot(everything, options.out / "regret.png")
    print(text)
