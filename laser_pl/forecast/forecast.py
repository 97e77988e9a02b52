"""All that is known of a run before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from laser_pl.commands.before_start import checks
from laser_pl.errors import ConfigurationError
from laser_pl.forecast import findings as wrong
from laser_pl.forecast.files import Files, files_of
from laser_pl.forecast.findings import Finding, Findings
from laser_pl.forecast.hub import is_out_of_reach, may_be_on_hub, out_of_reach
from laser_pl.forecast.learned import bandit_state, optimizer_state
from laser_pl.forecast.memory import TOKEN, Device, devices, held, resident
from laser_pl.forecast.models import Adapted, Loaded, adapted, leaves, reward_models
from laser_pl.forecast.phases import phases
from laser_pl.forecast.setup import Setup
from laser_pl.forecast.work import Forwards, Work, forwards_of, work_of
from laser_pl.models.language_model import Weights
from laser_pl.rewards.characters import characters_of
from laser_pl.rewards.implicit import ImplicitReward
from laser_pl.rewards.local import LocalModel
from laser_pl.runtime.sharded_strategy import ShardedStrategy
from laser_pl.runtime.sharding import bytes_gathered

FILES = {".jsonl", ".json", ".csv", ".parquet", ".gz"}
"""Endings of tables that are files; what else is not here is looked for on a hub."""


@dataclass(frozen=True)
class Forecast:
    """What a run would take. What is not known is None or empty.

    Attributes:
        models: Which models it loads.
        work: What it does.
        forwards: Reward-model forwards.
        devices: Memory.
        files: What it leaves on disk, at most; its page, ``report.html``, is not counted.
        findings: What looks wrong.
    """

    models: tuple[Loaded, ...]
    work: Work | None
    forwards: Forwards | None
    devices: tuple[Device, ...]
    files: tuple[Files, ...]
    findings: tuple[Finding, ...]

    @property
    def stops(self) -> bool:
        """Whether ``fit`` would refuse to run."""
        return any(finding.stops for finding in self.findings)

    @property
    def written(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)


def forecast(setup: Setup, runs_dir: str, known: Sequence[Finding] = ()) -> Forecast:
    """Forecast what a run would take.

    Args:
        setup: The run.
        runs_dir: Where its folder would lie.
        known: What was found already.
    """
    libraries, found = resident(), Findings(known)  # before anything is tried on paper
    unknown = _unreachable(setup, found)
    policy = setup.policy
    base: Adapted | None = None
    with found.looking():
        if policy.weights.name not in unknown:
            policy.weights.check_language_model()
            base = adapted(policy.weights, policy.lora, policy.gradient_checkpointing)
    own = [base.base, base.adapter] if base else [Loaded("policy", "the base, frozen", policy.weights.name)]
    judges = tuple(_judges(setup, found, unknown))
    models = (*own, *judges)
    known_prompts = _set_up_data(setup, found)
    setup.selector.pool.grade_by(policy.matcher)
    for check in checks(setup.trainer, policy, setup.data, setup.selector):
        with found.looking():
            check()
    if not known_prompts:
        return Forecast(models, None, None, (), (), tuple(found.all))
    _check_texts(setup, found, unknown)
    work = work_of(setup.data, setup.selector.signal, setup.trainer)
    forwards = forwards_of(
        work, setup.selector.pool.reward_models, setup.selector.arms, list(setup.selector.constraints)
    )
    for about in (wrong.about_data(setup, work), wrong.about_reward_models(setup), wrong.about_quantization(setup)):
        found.add_all(about)
    if base is None:
        return Forecast(models, work, forwards, (), (), tuple(found.all))
    learned = _bandit(setup, work, base)
    optimizer = 0
    with suppress(ValueError, TypeError):  # one that cannot be made was found above
        optimizer = optimizer_state(policy.optimizer, base.adapter.size or 0)
    memory = _memory(setup, base, judges, libraries, learned, optimizer, work, found)
    files = tuple(files_of(setup, work, base, learned, optimizer))
    free = shutil.disk_usage(_existing(Path(runs_dir))).free
    for about in (
        wrong.about_memory(memory, setup.processes),
        wrong.about_disk(sum(one.size for one in files), free),
    ):
        found.add_all(about)
    return Forecast(models, work, forwards, memory, files, tuple(found.all))


# -- models ------------------------------------------------------------------------------------------------------------


def _unreachable(setup: Setup, found: Findings) -> set[str]:
    """Names of weights of which nothing can be known."""
    every = [setup.policy.weights]
    for model in setup.selector.pool.reward_models.values():
        for leaf in leaves(model):
            every += _weights(leaf)
    names = {weights.name: weights for weights in every if may_be_on_hub(weights.name)}
    unknown: set[str] = set()
    for name, weights in names.items():
        try:
            weights.load_config()
        except ConfigurationError as error:
            unknown.add(name)
            if not is_out_of_reach():
                found.add(f"Nothing is known of '{name}', which is no folder here. {error}")
    if unknown and is_out_of_reach():
        found.add(
            f"The hub cannot be asked, so nothing is known of {', '.join(sorted(unknown))}: no folders of these names"
            " are here, and nothing of them was fetched before."
        )
    return unknown


def _weights(model: Any) -> list[Weights]:
    own = [model.weights] if isinstance(model, LocalModel) else []
    reference = [model.reference] if isinstance(model, ImplicitReward) and model.reference is not None else []
    return own + reference


def _judges(setup: Setup, found: Findings, unknown: set[str]) -> Iterator[Loaded]:
    """The reward models, each checked as ``fit`` checks them."""
    for name, model in setup.selector.pool.reward_models.items():
        if not any(weights.name in unknown for leaf in leaves(model) for weights in _weights(leaf)):
            with found.looking():
                model.check()
                setup.selector.pool.memory.check_fits(name)
        with found.looking():
            yield from reward_models({name: model})


def _check_texts(setup: Setup, found: Findings, unknown: set[str]) -> None:
    """See whether the reward models can read what they would be asked about, as ``fit`` does."""
    for name, model in setup.selector.pool.reward_models.items():
        if not any(weights.name in unknown for leaf in leaves(model) for weights in _weights(leaf)):
            with found.looking():
                characters = partial(characters_of, setup.policy.tokenizer)
                setup.selector.pool.check_texts(name, setup.data.prompts["train"], characters)


# -- data --------------------------------------------------------------------------------------------------------------


def _set_up_data(setup: Setup, found: Findings) -> bool:
    """Read the prompts, if they lie here; whether that went well."""
    data = setup.data
    tables = [table for table in (data.train, data.validation, data.test) if table is not None]
    paths = [Path(table.path) for table in tables]
    remote = [path for path in paths if not path.exists() and path.suffix not in FILES]
    if setup.policy.tokenizer is None:
        found.add("Without the policy's tokenizer no prompt can be measured, so steps, memory and files are not known.")
        return False
    with found.looking(stops=not remote), out_of_reach():
        data.setup("fit")
    if not data.prompts and remote:
        found.add(
            f"The data set '{remote[0]}' is fetched by fit, not by plan, so steps, memory and files are not known."
        )
    return bool(data.prompts)


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(
    setup: Setup, base: Adapted, judges: Sequence[Loaded], libraries: int | None, learned: int, optimizer: int,
    work: Work, found: Findings,
) -> tuple[Device, ...]:  # fmt: skip
    budget, spill = setup.selector.pool.memory.budget, setup.selector.pool.memory.spill
    sizes = [judge.size for judge in judges]
    on_device = held(sizes, budget)
    trained = {"policy": base.base.size, "adapter": base.adapter.size, "optimizer's state": optimizer}
    if isinstance(setup.trainer.strategy, ShardedStrategy):
        trained = {f"piece of {name}": _share(size, setup.processes) for name, size in trained.items()}
        trained["weights gathered while they compute"] = bytes_gathered(base.skeleton.get_base_model())
    models = {**trained, "reward models": on_device}
    total = held(sizes, None)
    spilled = {}
    if spill == "cpu" and setup.device.type != "cpu" and total is not None and on_device is not None:
        spilled = {"reward models that gave way": total - on_device}
    prompts = work.used
    host = {
        "Python and libraries": libraries,
        "bandit": learned,
        "an iteration's rollouts": round(prompts * work.n * setup.data.rollouts.max_new_tokens * TOKEN),
        **spilled,
    }
    needs = tuple(phases(setup, base))
    for phase in needs:
        if phase.size is None:
            found.add(f"What {phase.name} needs beside weights is not known. {phase.reason}")
    return devices(setup.device, setup.processes, models, host, needs)


def _share(size: int | None, processes: int) -> int | None:
    return None if size is None else -(-size // processes)


def _bandit(setup: Setup, work: Work, base: Adapted) -> int:
    """Bytes that the bandit has at the end; a step's decisions are shared out among the arms, but for a poll's."""
    decisions = work.steps * setup.decisions
    each = min(work.polled, decisions) if work.polled else decisions / len(setup.selector.arms)
    hidden = base.skeleton.config.get_text_config().hidden_size
    return bandit_state(setup.selector.bandit, list(setup.selector.arms), setup.selector.context.size(hidden), each)


# -- disk --------------------------------------------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
