"""Every way to choose, at equal budget, in the worlds of this repository.

Run:  python experiments/study/run.py --seeds 10
Cost: about 40 s per fit and core; --parts says which parts. What came of a fit is a line of ``fits.jsonl``, and is not
run again, so the command can be stopped and started, on another machine too, and asked for more seeds later.

It writes ``fits.jsonl``, ``RESULTS.md`` and its pictures beside itself, or where --results says; each part rewrites
its own section from all fits that are known.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fits import Fits
from jobs import Job, run
from plots import plot_alphas, plot_answers
from tables import Results, alphas, comparison, objectives, pools
from worlds import ROOT, WORLDS

from experiments.benchmarks.results import write_section

HERE = Path(__file__).resolve().parent
ALPHAS = [0.0, 0.01, 0.1, 0.3, 0.5, 1.0, 3.0]
LEADING = ["cooling", "default", "gap", "paper", "trusted", "random", "oracle"]
BY_ANSWERS = ["few", "few_4", "few_0", "trusted", "oracle", "random", "default", "paper", "cooling_ranks"]
IN_TURN_AND_TOGETHER = ["sequential", "mean", "agreement", "uwo", "online"]
IN_THE_THIRD = [*BY_ANSWERS, "sequential", "mean", "uwo"]
OTHERS_IN_THE_THIRD = ["agreement", "online", "gap", "truth", "few_2", "few_16"]
OTHERS = [
    *IN_TURN_AND_TOGETHER,
    *("classifier", "exp3", "thompson", "thompson_prior", "truth"),
    *("thompson_zscore", "majority", "advantage", "nll", "dpo", "probe"),
    *("sequential_iterations", "ucb1", "epsilon_greedy", "discounted", "sliding_window", "cooling_ranks"),
]
ADVERSE = ["inverted", "yes_man", "random_arm", "noise_0.1", "noise_0.3", "noise_1.0", "k2", "k4", "k8", "late"]
IN_POOLS = ["cooling", "cooling_ranks", "default", "paper", "random", "mean"]
ALPHA_PRESETS = ["paper", "default"]
BOTH = ["batch", "prompt"]
OF_PAIRS = ["dpo", "ipo", "hinge", "robust", "simpo", "length_normalised"]
OF_SCORES = ["grpo", "rloo"]
UNDER_EACH = ["default", "trusted", "random", "oracle"]
PARTS = ["quickstart", "second", "pools", "alpha"]
"""What is run where no part is named."""


@dataclass(frozen=True)
class Part:
    """A section of the results.

    Attributes:
        title: Its heading.
        world: Where.
        strategies: Which.
        pools: In which pools.
        granularities: At which.
        objectives: What is trained.
    """

    title: str
    world: str
    strategies: list[str]
    pools: list[str] = field(default_factory=lambda: ["base"])
    granularities: list[str] = field(default_factory=lambda: BOTH)
    objectives: list[str] = field(default_factory=lambda: ["dpo"])

    def jobs(self, seed: int) -> list[Job]:
        """Its fits with one seed."""
        every = itertools.product(self.objectives, self.strategies, self.granularities, self.pools)
        return [Job(self.world, pool, strategy, granularity, seed, of) for of, strategy, granularity, pool in every]


def under_each(objectives: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Strategies, pools, granularities and objectives of a part that compares what is trained."""
    return UNDER_EACH, ["base"], ["batch"], objectives


def parts() -> dict[str, Part]:
    """All parts of the study, by name."""
    singles = {name: [f"single_{arm}" for arm in world.arms] for name, world in WORLDS.items()}
    by_alpha = [f"{preset}_alpha_{alpha:g}" for preset in ALPHA_PRESETS for alpha in ALPHAS]
    return {
        "quickstart": Part("The quickstart's world", "quickstart", [*LEADING, *singles["quickstart"], *OTHERS]),
        "second": Part(
            "The second world", "second", [*LEADING, "cooling_ranks", *singles["second"], *IN_TURN_AND_TOGETHER]
        ),
        "few": Part("A few answers, the quickstart's world", "quickstart", [*BY_ANSWERS, *IN_TURN_AND_TOGETHER]),
        "second_few": Part("A few answers, the second world", "second", [*BY_ANSWERS, *IN_TURN_AND_TOGETHER]),
        "third": Part("The third world", "third", IN_THE_THIRD, granularities=["batch"]),
        "third_others": Part(
            "The third world, for a look",
            "third",
            [*singles["third"], *OTHERS_IN_THE_THIRD],
            granularities=["batch"],
        ),
        "pools": Part("Adverse pools", "quickstart", IN_POOLS, ADVERSE),
        "alpha": Part("Alpha", "quickstart", by_alpha, granularities=["prompt"]),
        "objectives": Part("Losses of pairs, the quickstart's world", "quickstart", *under_each(OF_PAIRS)),
        "second_objectives": Part("Losses of pairs, the second world", "second", *under_each(OF_PAIRS)),
        "policy_gradients": Part("Policy gradients, the quickstart's world", "quickstart", *under_each(OF_SCORES)),
        "second_policy_gradients": Part("Policy gradients, the second world", "second", *under_each(OF_SCORES)),
    }


def section(name: str, part: Part, results: Results) -> list[str]:
    """The Markdown of one part."""
    lines = [f"## {part.title}", ""]
    for granularity in part.granularities:
        if name == "alpha":
            found = [*alphas(results, ALPHA_PRESETS, ALPHAS, granularity), "", "![Over alpha](alpha.png)"]
        elif part.objectives != ["dpo"]:
            note = (
                "Accuracy, and seeds in brackets. `default` learns from the loss, which under a policy gradient says"
                " nothing."
            )
            found = objectives(results, part.strategies, part.objectives, granularity)
            found = [note, "", *found] if found else []
        elif name == "pools":
            note = "Accuracy, share of decisions for the right specialist in the last iteration, and seeds."
            found = pools(results, part.strategies, part.pools, granularity)
            found = [note, "", *found] if found else []
        else:
            by_answers = "few" in part.strategies
            found = comparison(results, part.strategies, granularity, "few" if by_answers else "cooling")
            found += ["", "![Over answers](answers.png)"] if found and by_answers else []
        if found:
            lines += [f"### One reward model per {granularity}", "", *found, ""]
    return lines


def stamp(command: str, commits: Iterable[str]) -> str:
    """What is needed to repeat it.

    Args:
        command: That wrote it.
        commits: Of the code that ran.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "transformers", "peft"))
    return (
        f"Written by `{command}` on {date.today()}; ran at commit {', '.join(sorted(set(commits)))}, Python"
        f" {platform.python_version()}, {versions}, {os.cpu_count()} CPU cores, one thread a fit."
    )


def write_part(path: Path, name: str, lines: Sequence[str]) -> None:
    """Put a part on the page, in its place if it was there."""
    write_section(path, name, "\n".join(lines), INTRODUCTION)


INTRODUCTION = """# The study: every way to choose, at equal budget

Test accuracy of sampled responses (temperature 0.8), mean over categories, then over training seeds (adapter, prompt
order, rollouts, ties) with the 95 % interval by Student's t. Same prompts, rollouts, steps and pairs for all; what
differs is who judges. Differences are paired by seed, with a two-sided sign-flip permutation test. Bold: uses no label.
"Right specialist": the reward model that the world card says is best in the category, mean over categories.
Reward-model forwards are per sampled response.
"""


def fit_all(wanted: Sequence[Job], fits: Fits, out: Path, workers: int) -> None:
    """Run the fits that are not known, each on a core, and note each as soon as it has ended."""
    missing = [job for job in wanted if job not in fits.known]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for job, outcome in pool.imap_unordered(partial(run, out=out), missing):
            fits.add(job, outcome)


def main(args: list[str] | None = None) -> None:
    """Run what is missing, and write what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="0: only write what is there")
    parser.add_argument("--parts", nargs="+", choices=[*parts()], default=PARTS)
    parser.add_argument("--strategies", nargs="+", default=[], help="only these")
    parser.add_argument(
        "--objective", nargs="+", default=[], choices=[*OF_PAIRS, *OF_SCORES], help="of the last four parts, only these"
    )
    parser.add_argument("--pools", nargs="+", default=[], help="only these")
    parser.add_argument("--granularities", nargs="+", choices=BOTH, default=BOTH)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "study", help="where the runs' folders lie")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="fits.jsonl is beside it")
    options = parser.parse_args(args)
    chosen = {name: parts()[name] for name in options.parts}
    wanted = [
        job
        for seed in range(options.seeds)
        for part in chosen.values()
        for job in part.jobs(seed)
        if job.granularity in options.granularities
        and (not options.strategies or job.strategy in options.strategies)
        and (not options.pools or job.pool in options.pools)
        and (not options.objective or job.objective in options.objective)
    ]
    fits = Fits(options.results.with_name("fits.jsonl"))
    fit_all(wanted, fits, options.out, options.workers)
    command = shlex.join(["python", "experiments/study/run.py", *(sys.argv[1:] if args is None else args)])
    for name, part in chosen.items():
        results = {job: outcome for job, outcome in fits.known.items() if job in part.jobs(job.seed)}
        lines = section(name, part, results)
        commits = [outcome.commit for outcome in results.values()]
        write_part(options.results, name, [*lines, stamp(command, commits)])
        print("\n".join(lines))
        if "few" in part.strategies:  # wherever it was run, beside what is known here
            known = {**Fits(HERE / "fits.jsonl").known, **fits.known}
            plot_answers(known, "batch", options.results.with_name("answers.png"))
        if name == "alpha":
            plot_alphas(results, ALPHA_PRESETS, ALPHAS, options.results.with_name("alpha.png"))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers', which import torch after this
    os.chdir(ROOT)  # the configurations name their files from here
    main()
