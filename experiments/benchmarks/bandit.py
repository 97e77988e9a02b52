"""LinUCB's time per step and size in a checkpoint, against other ways to compute the same, and how it grows.

A step is one choice and one update. Every peer learns the same random unit contexts in turn over its arms first, then
--timed further steps are timed and their median is taken; this is repeated, the peers taking turns in one process, and
ours begins each time from the state after --steps. Before that, all must agree on every arm's bound to 1e-8. Steps
follow each other at once, so caches are as warm as each peer's memory allows.

    explicit    A and b per arm; every choice inverts every A (torch.linalg.inv, float64)
    rank-one    A^-1 and b per arm; one term of Sherman and Morrison per update, in place (torch, float64)
    mabwiser    MABWiser's LinUCB by its public methods, partial_fit and predict (NumPy, float64)

The table of growth starts from states of the right size with made-up numbers, for time does not depend on them.

Run:  python experiments/benchmarks/bandit.py
Cost: 2 CPU cores, 4 minutes, 4 GB of memory. Needs mabwiser: pip install -e .[bench], or leave it out of --peers.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import command_of, parser_of, tell

from laser_pl.bandits import LinUCB

ALPHA = 0.5
TARGETS = {"explicit": 5000, "rank-one": 20, "mabwiser": 100, "checkpoint": 10}


class Learner(Protocol):
    """What is timed."""

    def select(self, context: Tensor) -> int:
        """The arm for a context ``(d,)``."""

    def update(self, context: Tensor, arm: int, reward: float) -> None:
        """Learn one reward."""

    def bounds(self, context: Tensor) -> Tensor:
        """Every arm's upper confidence bound. Shape ``(K,)``."""


# -- learners ----------------------------------------------------------------------------------------------------------


class Ours:
    """This package's LinUCB."""

    def __init__(self, size: int, arms: int) -> None:
        self.bandit = LinUCB(ALPHA)
        self.bandit.start([f"arm {k}" for k in range(arms)], size)

    def select(self, context: Tensor) -> int:
        """The arm for a context."""
        return int(self.bandit.select(context[None]))

    def update(self, context: Tensor, arm: int, reward: float) -> None:
        """Learn one reward."""
        self.bandit.update(context[None], torch.tensor([arm]), torch.tensor([reward], dtype=torch.float64))

    def bounds(self, context: Tensor) -> Tensor:
        """Every arm's bound."""
        why = self.bandit.explain(context[None])
        return (why.mean + why.bonus)[0]


class Explicit:
    """Algorithm 1 as it stands there, and as the authors of LASeR compute it."""

    def __init__(self, size: int, arms: int) -> None:
        self.a = [torch.eye(size, dtype=torch.float64) for _ in range(arms)]
        self.b = [torch.zeros(size, dtype=torch.float64) for _ in range(arms)]

    def bounds(self, context: Tensor) -> Tensor:
        """Every arm's bound."""
        found = []
        for a, b in zip(self.a, self.b, strict=True):
            inverse = torch.linalg.inv(a)
            found.append(context @ (inverse @ b) + ALPHA * (context @ (inverse @ context)).sqrt())
        return torch.stack(found)

    def select(self, context: Tensor) -> int:
        """The arm for a context."""
        return int(self.bounds(context).argmax())

    def update(self, context: Tensor, arm: int, reward: float) -> None:
        """Learn one reward."""
        self.a[arm].addr_(context, context)
        self.b[arm].add_(context, alpha=reward)


class RankOne:
    """Dense inverses that are updated; each choice reads each of them once."""

    def __init__(self, size: int, arms: int) -> None:
        self.inverse = [torch.eye(size, dtype=torch.float64) for _ in range(arms)]
        self.b = [torch.zeros(size, dtype=torch.float64) for _ in range(arms)]

    def bounds(self, context: Tensor) -> Tensor:
        """Every arm's bound."""
        found = []
        for inverse, b in zip(self.inverse, self.b, strict=True):
            gain = inverse @ context
            found.append(gain @ b + ALPHA * (gain @ context).sqrt())
        return torch.stack(found)

    def select(self, context: Tensor) -> int:
        """The arm for a context."""
        return int(self.bounds(context).argmax())

    def update(self, context: Tensor, arm: int, reward: float) -> None:
        """Learn one reward."""
        gain = self.inverse[arm] @ context
        self.inverse[arm].addr_(gain, gain, alpha=-1 / (1 + float(gain @ context)))
        self.b[arm].add_(context, alpha=reward)


class MabWiser:
    """The library, which wants its first rewards at once."""

    def __init__(self, size: int, arms: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self.arms = list(range(arms))
        self.mab = MAB(self.arms, LearningPolicy.LinUCB(alpha=ALPHA, l2_lambda=1.0))

    def fit(self, contexts: Tensor, arms: list[int], rewards: list[float]) -> None:
        """Learn the first rewards."""
        self.mab.fit(arms, rewards, contexts.numpy())

    def bounds(self, context: Tensor) -> Tensor:
        """Every arm's bound."""
        found = self.mab.predict_expectations(context[None].numpy())
        return torch.tensor([found[arm] for arm in self.arms], dtype=torch.float64)

    def select(self, context: Tensor) -> int:
        """The arm for a context."""
        return int(self.mab.predict(context[None].numpy()))

    def update(self, context: Tensor, arm: int, reward: float) -> None:
        """Learn one reward."""
        self.mab.partial_fit([arm], [reward], context[None].numpy())


PEERS: dict[str, Callable[[int, int], Learner]] = {"explicit": Explicit, "rank-one": RankOne, "mabwiser": MabWiser}


# -- measuring ---------------------------------------------------------------------------------------------------------


def stream(count: int, size: int) -> tuple[Tensor, list[float]]:
    """Unit contexts and rewards."""
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(count, size, generator=generator, dtype=torch.float64)
    rewards = torch.randn(count, generator=generator, dtype=torch.float64)
    return contexts / contexts.norm(dim=-1, keepdim=True), rewards.tolist()


def learn(learner: Learner, contexts: Tensor, rewards: list[float], arms: int) -> None:
    """Let each arm have its turn."""
    turns = [i % arms for i in range(len(rewards))]
    if isinstance(learner, MabWiser):
        learner.fit(contexts, turns, rewards)
        return
    for context, arm, reward in zip(contexts, turns, rewards, strict=True):
        learner.update(context, arm, reward)


def seconds(learner: Learner, contexts: Tensor, rewards: list[float]) -> float:
    """Median of the steps over these contexts."""
    took = []
    for context, reward in zip(contexts, rewards, strict=True):
        started = time.perf_counter()
        learner.update(context, learner.select(context), reward)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def compare(names: list[str], size: int, arguments: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Seconds per step of a peer and of ours, for each repeat."""
    steps, arms = arguments.steps, arguments.arms
    contexts, rewards = stream(steps + arguments.timed, size)
    learners = {name: PEERS[name](size, arms) for name in names}
    ours = Ours(size, arms)
    for learner in (ours, *learners.values()):
        learn(learner, contexts[:steps], rewards[:steps], arms)
    for name, learner in learners.items():
        apart = float((learner.bounds(contexts[-1]) - ours.bounds(contexts[-1])).abs().max())
        assert apart < 1e-8, f"{name} computes something else: bounds differ by {apart}"
    state = ours.bandit.state_dict()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(arguments.repeats):
        for name, learner in learners.items():
            ours.bandit.load_state_dict(state)
            own = seconds(ours, contexts[steps:], rewards[steps:])
            few = slice(steps, steps + (1 if name == "explicit" else min(5, arguments.timed)))
            found[name].append((seconds(learner, contexts[few], rewards[few]), own))
    return found


def checkpoint_bytes(size: int, arms: int, steps: int) -> tuple[int, int]:
    """Of dense matrices A and vectors b, and of our state, both as files."""

    def saved(state: Any) -> int:
        file = io.BytesIO()
        torch.save(state, file)
        return file.tell()

    ours = Ours(size, arms)
    learn(ours, *stream(steps, size), arms)
    one = saved({"a": torch.eye(size, dtype=torch.float64), "b": torch.zeros(size, dtype=torch.float64)})
    return arms * one, saved(ours.bandit.state_dict())


def made_up(size: int, arms: int, steps: int) -> Ours:
    """Ours after so many steps in turn, with numbers that mean nothing."""
    ours = Ours(size, arms)
    state = ours.bandit.state_dict()
    for k, arm in enumerate(state["models"]):
        own = len(range(k, steps, arms))
        count = 0 if own >= size else own
        state["models"][arm] = {
            "weights": torch.zeros(size, dtype=torch.float64),
            "terms": torch.full((count, size), 0.5 / (size * max(count, 1)) ** 0.5, dtype=torch.float64),
            "factor": torch.full((count * (count + 1) // 2,), 0.5, dtype=torch.float64),
            "inverse": torch.eye(size, dtype=torch.float64) / 2 if own >= size else None,
        }
    ours.bandit.load_state_dict(state)
    return ours


def exponent(xs: list[int], ys: list[float]) -> float:
    """Slope of a straight line through the logarithms; nan for a single point."""
    if len(xs) < 2:
        return float("nan")
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (xs, ys))
    x = x - x.mean()
    return float((x @ y) / (x @ x))


# -- results -----------------------------------------------------------------------------------------------------------


def ratio_rows(arguments: argparse.Namespace) -> list[str]:
    """The table against the peers."""
    rows = [
        "| what | against | peer, median | ours, median | ratio, median (min..max) | target | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    large, small = arguments.sizes
    jobs = [
        (large, [n for n in arguments.peers if n != "mabwiser"]),
        (small, [n for n in arguments.peers if n == "mabwiser"]),
    ]
    for size, names in jobs:
        for name, pairs in compare(names, size, arguments).items() if names else ():
            ratios = [peer / own for peer, own in pairs]
            peer, own = (statistics.median(column) for column in zip(*pairs, strict=True))
            middle = statistics.median(ratios)
            rows.append(
                f"| select + update, d {size}, K {arguments.arms}, after {arguments.steps} steps | {name}"
                f" | {1e3 * peer:.3f} ms | {1e3 * own:.3f} ms | {middle:.0f} ({min(ratios):.0f}..{max(ratios):.0f})"
                f" | >= {TARGETS[name]} | {'yes' if middle >= TARGETS[name] else 'no'} |"
            )
    dense, own_bytes = checkpoint_bytes(large, arguments.arms, arguments.saved_after)
    rows.append(
        f"| checkpoint, d {large}, K {arguments.arms}, after {arguments.saved_after} steps | dense A and b"
        f" | {dense / 2**20:.1f} MiB | {own_bytes / 2**20:.1f} MiB | {dense / own_bytes:.1f}"
        f" | >= {TARGETS['checkpoint']}"
        f" | {'yes' if dense >= TARGETS['checkpoint'] * own_bytes else 'no'} |"
    )
    return rows


def growth_rows(arguments: argparse.Namespace) -> list[str]:
    """The table of growth: one thing grows in each row."""
    large, arms, steps = arguments.sizes[0], arguments.arms, arguments.steps
    least = min(arguments.scale_sizes)
    sweeps = [
        (f"d, at K {arms}, t {steps}", arguments.scale_sizes, lambda d: (d, arms, steps)),
        (f"K, at d {large}, t {steps}", arguments.scale_arms, lambda k: (large, k, steps)),
        (f"t, at d {large}, K {arms}", arguments.scale_steps, lambda t: (large, arms, t)),
        (f"t, at d {least}, K 1", arguments.scale_steps, lambda t: (least, 1, t)),
    ]
    rows = ["| what grows | ms per step | fitted exponent |", "|---|---|---|"]
    for name, values, at in sweeps:
        took = []
        for value in values:
            size, count, t = at(value)
            contexts, rewards = stream(arguments.timed, size)
            took.append(seconds(made_up(size, count, t), contexts, rewards))
        cells = ", ".join(f"{value}: {1e3 * own:.3f}" for value, own in zip(values, took, strict=True))
        rows.append(f"| {name} | {cells} | {exponent(values, took):.2f} |")
    return rows


def page(arguments: argparse.Namespace, command: str) -> str:
    """The section."""
    libraries = ["torch", "numpy", *(["mabwiser"] if "mabwiser" in arguments.peers else [])]
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return "\n".join(
        [
            "## The bandit",
            "",
            f"Written by `{command}`, {platform.system()}, Python {platform.python_version()}, {versions},"
            f" {torch.get_num_threads()} thread(s). LinUCB in float64; medians over {arguments.repeats} repeats taken"
            f" alternately in one process, each the median of {arguments.timed} steps of ours and 5 of the peer's"
            " (1 of explicit).",
            "",
            *ratio_rows(arguments),
            "",
            "How our step grows, t being all arms' steps together (exponents by least squares in the logarithms):",
            "",
            *growth_rows(arguments),
        ]
    )


def main(args: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--sizes", nargs=2, type=int, default=[4096, 1024], help="d, the second against mabwiser")
    parser.add_argument("--arms", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200, help="learned before the timed ones")
    parser.add_argument("--timed", type=int, default=20, help="steps of ours in a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--saved-after", type=int, default=500, help="steps before the checkpoint")
    parser.add_argument("--scale-sizes", nargs="+", type=int, default=[256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--scale-arms", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--scale-steps", nargs="+", type=int, default=[10, 100, 1000, 10_000])
    arguments = parser.parse_args(args)
    if "mabwiser" in arguments.peers and find_spec("mabwiser") is None:
        print("mabwiser is not installed: pip install -e .[bench], or leave it out of --peers.", file=sys.stderr)
        return 2
    text = page(arguments, command_of("bandit", args))
    tell(arguments.results, "bandit", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
