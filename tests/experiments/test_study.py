"""The study counts rightly and runs what it says: tables on outcomes made by hand, layers, pools, small real fits."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from laser_pl.batches import Prompt
from laser_pl.rewards import FunctionReward
from laser_pl.rewards.scores import as_tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "study"
NAMES = ("worlds", "strategies", "jobs", "fits", "tables", "plots", "run")


@pytest.fixture(scope="module")
def study() -> dict[str, ModuleType]:
    """The study's modules; nothing runs when they are imported."""
    sys.path[:0] = [str(FOLDER), str(ROOT)]
    return {name: importlib.import_module(name) for name in NAMES}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def outcome(study: dict[str, ModuleType], after: float, right: float = 0.5, forwards: float = 1.0) -> Any:
    return study["jobs"].Outcome(0.4, after, {"sums": after}, right, right + 0.1, forwards, "abc1234")


def results_of(study: dict[str, ModuleType], **accuracies: list[float]) -> dict[Any, Any]:
    """Outcomes by job, one strategy for each keyword, one seed for each number."""
    return {
        study["jobs"].Job("quickstart", "base", name, "prompt", seed): outcome(study, after)
        for name, values in accuracies.items()
        for seed, after in enumerate(values)
    }


def row_of(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.strip("| ").split(" |")[0].strip("*") == name]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_comparison_by_hand(study: dict[str, ModuleType]) -> None:
    results = results_of(
        study, cooling=[0.6, 0.7, 0.8], paper=[0.5, 0.5, 0.5], oracle=[0.7, 0.8, 0.9],
        single_a=[0.4, 0.4, 0.4], single_b=[0.5, 0.6, 0.7],
    )  # fmt: skip
    strategies = ["cooling", "paper", "oracle", "single_a", "single_b"]
    lines = study["tables"].comparison(results, strategies, "prompt", "cooling")
    columns = len(lines[0].split("|"))
    assert all(len(line.split("|")) == columns for line in lines)
    name, _, seeds, accuracy, gain, minus, right, last, forwards = row_of(lines, "cooling")
    assert (name, seeds, gain, minus, forwards) == ("**cooling**", "3", f"{0.9 / 1.2:.0%}", "", "1.00x")
    assert accuracy == "0.600, 0.700, 0.800"  # three seeds are no interval
    assert (right, last) == ("50%", "60%")
    assert row_of(lines, "paper")[5] == "+0.200"
    assert row_of(lines, "average of single reward models")[3] == "0.450, 0.500, 0.550"
    order = [line.split("|")[1].strip(" *") for line in lines[3:]]
    assert order[:2] == ["oracle", "cooling"]


def test_five_seeds_have_an_interval_and_a_p(study: dict[str, ModuleType]) -> None:
    half = 2.776 * math.sqrt(0.025 / 5)  # Student's t at 0.975 with 4 degrees of freedom
    values = [0.5, 0.6, 0.7, 0.8, 0.9]
    results = results_of(study, cooling=values, paper=[0.4] * 5)
    lines = study["tables"].comparison(results, ["cooling", "paper"], "prompt", "cooling")
    assert row_of(lines, "paper")[5] == "+0.300 (p 0.062)"  # 2 / 2^5
    assert study["tables"].spread(values) == f"0.700 ± {half:.3f}"
    assert study["tables"].spread(values[:4]) == "0.500, 0.600, 0.700, 0.800"


def test_a_table_of_objectives_by_hand(study: dict[str, ModuleType]) -> None:
    job = study["jobs"].Job
    results = {
        job("quickstart", "base", "trusted", "batch", 0, "grpo"): outcome(study, 0.7),
        job("quickstart", "base", "trusted", "batch", 1, "grpo"): outcome(study, 0.8),
        job("quickstart", "base", "random", "batch", 0): outcome(study, 0.5),
    }
    lines = study["tables"].objectives(results, ["trusted", "random"], ["dpo", "grpo", "ipo"], "batch")
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["dpo", "grpo"]
    assert row_of(lines, "grpo")[1] == "0.700, 0.800 (2)"
    assert row_of(lines, "dpo")[1:] == ["", "0.500 (1)"]


def test_an_objective_lies_under_the_strategy_and_has_a_run_of_its_own(
    study: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr("laser_pl.commands.cli.main", lambda args: given.append(args))
    job = study["jobs"].Job("second", "base", "trusted", "batch", 3, "grpo")
    study["jobs"]._fit(job, tmp_path)
    (args,) = given
    configs = [Path(value).name for name, value in itertools.pairwise(args) if name == "--config"]
    assert configs[:3] == ["second_world.yaml", "grpo.yaml", "trusted.yaml"]
    assert job.name == "second-base-trusted-batch-3-grpo"
    part = study["run"].parts()["second_policy_gradients"]
    assert job in part.jobs(3)
    for name in [*study["run"].OF_PAIRS[1:], *study["run"].OF_SCORES]:
        assert (ROOT / "experiments" / "objectives" / f"{name}.yaml").is_file()


def test_only_common_seeds_are_paired(study: dict[str, ModuleType]) -> None:
    results = results_of(study, cooling=[0.6, 0.7], paper=[0.5])
    lines = study["tables"].comparison(results, ["cooling", "paper"], "prompt", "cooling")
    assert row_of(lines, "paper")[5] == "+0.100"
    assert study["tables"].comparison(results, ["cooling"], "batch", "cooling") == []


def test_alphas_by_hand(study: dict[str, ModuleType], tmp_path: Path) -> None:
    job = study["jobs"].Job
    results = {
        job("quickstart", "base", f"paper_alpha_{alpha:g}", "prompt", seed): outcome(study, after, right)
        for alpha, after, right in ((0.0, 0.5, 0.2), (0.1, 0.7, 0.9))
        for seed in (0, 1)
    }
    lines = study["tables"].alphas(results, ["paper", "default"], [0.0, 0.1], "prompt")
    assert lines[2] == "| 0 | 0.500, 0.500 | 0.800, 0.800 |  |  |"
    assert lines[3] == "| 0.1 | 0.700, 0.700 | 0.100, 0.100 |  |  |"
    study["plots"].plot_alphas(results, ["paper", "default"], [0.0, 0.1], tmp_path / "alpha.png")
    assert (tmp_path / "alpha.png").read_bytes().startswith(b"\x89PNG")


def test_answers_are_a_picture_of_all_worlds_and_part_of_their_section(
    study: dict[str, ModuleType], tmp_path: Path
) -> None:
    job, run = study["jobs"].Job, study["run"]
    results = {
        job(world, "base", name, "batch", seed): outcome(study, after)
        for world in ("quickstart", "second")
        for name, after in (("few_0", 0.5), ("few", 0.7), ("oracle", 0.8))
        for seed in (0, 1)
    }
    fits = study["fits"].Fits(tmp_path / "fits.jsonl")
    for one, found in results.items():
        fits.add(one, found)
    run.main(["--seeds", "0", "--parts", "few", "second_few", "--results", str(tmp_path / "RESULTS.md")])
    assert (tmp_path / "answers.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.count("![Over answers](answers.png)") == 2
    rows = [line for line in page.splitlines() if line.startswith("| few |")]
    assert [row.split(" | ")[3:5] for row in rows] == [["0.700, 0.700", "75%"]] * 2
    assert "| **few_0** |" in page  # which uses no answer


def test_pools_by_hand(study: dict[str, ModuleType]) -> None:
    job = study["jobs"].Job
    results = {
        job("quickstart", "inverted", name, "prompt", seed): outcome(study, after)
        for name, after in (("cooling", 0.7), ("random", 0.5))
        for seed in (0, 1)
    }
    lines = study["tables"].pools(results, ["cooling", "random"], ["inverted", "k2"], "prompt")
    assert lines[2:] == ["| inverted | 0.700, 0.700, 60% (2) | 0.500, 0.500, 60% (2) |"]
    assert study["tables"].pools(results, ["cooling"], ["inverted"], "batch") == []


def decision(category: str, arm: str, iteration: int = 0, prompts: int = 1) -> dict[str, Any]:
    return {"category": category, "arm": arm, "iteration": iteration, "mean": {"numbers": 0, "sorter": 0, "mirror": 0},
            "prompt_ids": ["p"] * prompts}  # fmt: skip


def test_an_outcome_is_read_from_a_runs_folder(study: dict[str, ModuleType], tmp_path: Path) -> None:
    """Addition: 1 of 2 right, sorting: 1 of 1; in the last iteration sorting alone, wrong... and 8 x 3 responses."""
    lines = [
        decision("addition", "numbers", prompts=3),
        decision("addition", "mirror", prompts=3),
        decision("sorting", "sorter", iteration=1, prompts=2),
    ]
    (tmp_path / "selection.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "accuracy": {"before": {"average": 0.4}, "after": {"addition": 0.5, "average": 0.5}},
        "reward_model_forwards": {"numbers": 20, "sorter": 28},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"rollouts": {"n": 3}}}))
    job = study["jobs"].Job("quickstart", "base", "cooling", "batch", 0)
    found = study["jobs"].read(job, tmp_path, "abc1234")
    assert (found.before, found.after, found.by_category) == (0.4, 0.5, {"addition": 0.5})
    assert (found.right, found.right_at_last, found.forwards) == (0.75, 1.0, 2.0)
    assert found.commit == "abc1234"


def test_what_came_of_a_fit_is_known_to_the_next_command(
    study: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is fitted: both fits that are asked for are there, one from a machine before."""
    page, job = tmp_path / "RESULTS.md", study["jobs"].Job
    done = {job("second", "base", name, "batch", 0, "ipo"): value for name, value in (("oracle", 0.9), ("random", 0.5))}
    for one, value in done.items():  # as of two commands
        study["fits"].Fits(page.with_name("fits.jsonl")).add(one, outcome(study, value, right=math.nan))
    again = study["fits"].Fits(page.with_name("fits.jsonl")).known
    assert [(one, found.after) for one, found in again.items()] == [*done.items()]
    assert all(math.isnan(found.right) for found in again.values())
    words = ["--parts", "second_objectives", "--objective", "ipo", "--strategies", "oracle", "random", "--workers", "1"]
    study["run"].main([*words, "--seeds", "1", "--out", str(tmp_path / "runs"), "--results", str(page)])
    assert "| ipo |  |  | 0.500 (1) | 0.900 (1) |" in page.read_text()
    assert "abc1234" in page.read_text()
    assert not (tmp_path / "runs").exists()


def test_every_strategy_of_every_part_has_its_layers(study: dict[str, ModuleType]) -> None:
    """Files that are there, a known name for the table, and arms of the pool or made of it."""
    for part in study["run"].parts().values():
        world = study["worlds"].WORLDS[part.world]
        for pool in part.pools:
            arms = study["worlds"].POOLS[pool](world)
            for strategy in part.strategies:
                layers = study["strategies"].layers(strategy, world, arms)
                assert all((ROOT / file).is_file() for file in layers.files)
                known = strategy in study["strategies"].USES or strategy.startswith(("single_", "paper_", "default_"))
                assert known, strategy
                assert layers.selection["reward_models"]


def test_the_right_specialists_are_the_cards(study: dict[str, ModuleType]) -> None:
    """Of every world: who orders right and wrong samples best in each category."""
    for world in study["worlds"].WORLDS.values():
        shares = shares_on_the_card((ROOT / world.per_prompt).parent)
        assert list(shares) == list(world.arms)
        categories = next(iter(shares.values()))
        assert world.right == {c: max(shares, key=lambda name: shares[name][c]) for c in categories}
        assert world.late in world.right.values()


def shares_on_the_card(folder: Path) -> dict[str, dict[str, float]]:
    """By reward model and category: how often a right response is above a wrong one."""
    if (folder / "world_card.json").is_file():
        pairwise = json.loads((folder / "world_card.json").read_text())["pairwise"]
        return {name: {c: at["share"] for c, at in of_each.items()} for name, of_each in pairwise.items()}
    rows = [line.strip("| ").split(" | ") for line in (folder / "WORLD.md").read_text().splitlines() if "|" in line]
    named = {row[0].split("`")[1]: row[1:-1] for row in rows if row[0].endswith("`, right above wrong")}
    return {name: dict(zip(rows[0][1:-1], map(float, row), strict=True)) for name, row in named.items()}


def test_no_strategy_is_left_out(study: dict[str, ModuleType]) -> None:
    files = {path.stem for path in (FOLDER / "strategies").glob("*.yaml")}
    assert files <= set(study["run"].parts()["quickstart"].strategies)


def test_adverse_reward_models_are_what_they_say(study: dict[str, ModuleType]) -> None:
    adverse = importlib.import_module("experiments.study.adverse")
    plain = FunctionReward(importlib.import_module("experiments.rewards.functions").brevity)
    prompts = [Prompt("p0", "a", "a"), Prompt("p1", "b", "b")]
    texts = [["x", "xx", "xxx", "xxxx"], ["xxx", "xxxxx", "xx", "x"]]
    scores = as_tensor(plain.score(prompts, texts), (2, 4), "it")
    assert torch.equal(adverse.Inverted(plain).score(prompts, texts), -scores)
    noisy = adverse.Noisy(plain, 0.5, seed=3)
    once = noisy.score(prompts, texts)
    assert torch.equal(once, noisy.score(prompts, texts))
    assert not torch.equal(once, adverse.Noisy(plain, 0.5, seed=4).score(prompts, texts))
    noise = (once - scores) / (0.5 * scores.std(-1, keepdim=True, correction=0))
    torch.testing.assert_close(noise, adverse.Random(3).score(prompts, texts), rtol=0, atol=1e-9)
    many = adverse.Random(0).score([Prompt("p", "p", "p")], [[str(i) for i in range(2000)]])
    assert abs(float(many.mean())) < 5 / 2000**0.5
    assert abs(float(many.std()) - 1) < 5 / (2 * 2000) ** 0.5


SMALL = """
trainer: {max_epochs: 2, enable_progress_bar: false}
data: {prompts_per_iteration: 8, batch_size: 4, rollouts: {n: 3}}
model: {evaluation: {n: 1}}
"""


def test_small_real_fits_end_in_a_table(
    study: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bandit, an ensemble and an arm that comes half-way; the second time nothing is fitted."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    world = study["worlds"].WORLDS["quickstart"]
    config = yaml.safe_load((ROOT / world.config).read_text())
    for section, values in yaml.safe_load(SMALL).items():
        for key, value in values.items():
            old = config[section].get(key)
            config[section][key] = {**old, **value} if isinstance(old, dict) else value
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join((ROOT / config["data"]["test"]).read_text().splitlines()[:8]))
    config["data"] |= {"test": str(few), "validation": str(few)}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    small = study["worlds"].World(str(tmp_path / "small.yaml"), world.per_prompt, world.right, world.late)
    monkeypatch.setitem(study["worlds"].WORLDS, "quickstart", small)
    job = study["jobs"].Job
    jobs = [
        job("quickstart", "base", "cooling", "prompt", 0),
        job("quickstart", "base", "online", "prompt", 0),
        job("quickstart", "late", "cooling", "prompt", 0),
    ]
    results = dict(study["jobs"].run(one, tmp_path) for one in jobs)
    assert math.isnan(results[jobs[1]].right)
    assert results[jobs[1]].forwards == 5.0
    changes = json.loads((tmp_path / jobs[2].name / "summary.json").read_text())["arm_changes"]
    assert [change["added"] for change in changes] == [["sorter"]]
    part = study["run"].parts()["quickstart"]
    lines = study["run"].section("quickstart", part, results)
    page = tmp_path / "RESULTS.md"
    study["run"].write_part(page, "quickstart", ["old"])
    study["run"].write_part(page, "other", ["stays"])
    study["run"].write_part(page, "quickstart", lines)
    text = page.read_text()
    assert "**cooling**" in text
    assert "**online**" in text
    assert "\nold\n" not in text
    assert "stays" in text


def test_what_was_observed_is_kept_by_category(
    study: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: in odd thesaurus is known from the second decision on, in order scanner after gemma was refuted."""
    kept = importlib.import_module("kept")
    seen = [
        ("odd", "gemma", {"gemma": -1.0, "thesaurus": 0.5}),
        ("order", "gemma", {"gemma": 0.4}),
        ("odd", "gemma", None),
        ("order", "gemma", {"gemma": -0.8, "scanner": 0.2}),
        ("odd", "thesaurus", {"gemma": 3.0}),
        ("order", "scanner", {}),
        ("odd", "gemma", {}),
    ]
    lines = [
        {"step": step, "iteration": step // 4, "category": category, "arm": arm, "reward": reward,
         "mean": {"gemma": 0.0, "thesaurus": 0.0, "scanner": 0.0}}
        for step, (category, arm, reward) in enumerate(seen)
    ]  # fmt: skip
    named = [decision["arm"] for decision in kept.kept_by_category(lines)]
    # Of gemma in odd (-1 + 3) / 3 is above 0.5 / 2; in order (0.4 - 0.8) / 3 is below 0.2 / 2.
    assert named == [None, None, "thesaurus", "gemma", "thesaurus", "scanner", "gemma"]
    folder = tmp_path / "third-base-few-batch-0"
    folder.mkdir()
    (folder / "selection.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept.main([str(folder)])
    # Over the run odd 1 of 4 and 2 of 4, order 1 of 3 each; in the last iteration odd 1 of 2 each, order 1 of 1 each.
    assert capsys.readouterr().out.splitlines()[-1] == "| few | 1 | 29% | 75% | 42% | 75% |"
