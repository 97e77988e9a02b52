"""What looks wrong with a run that has not begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from laser_pl.errors import ConfigurationError
from laser_pl.feedback.signals import ProbeGain, Trusted
from laser_pl.forecast.memory import Device
from laser_pl.forecast.setup import Setup
from laser_pl.forecast.work import Work
from laser_pl.generation import TransformersEngine
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.memory import show_bytes
from laser_pl.selection.teaching import what_is_wrong


@dataclass(frozen=True)
class Finding:
    """Something to mend, or to know.

    Attributes:
        text: It, in a sentence.
        stops: Whether ``fit`` would refuse to run.
    """

    text: str
    stops: bool = False


class Findings:
    """All that was found so far, each thing once.

    Args:
        known: What was found already.
    """

    def __init__(self, known: Iterable[Finding] = ()) -> None:
        self.all = list(known)

    def add(self, text: str, stops: bool = False) -> None:
        """Take one in."""
        if text not in {finding.text for finding in self.all}:
            self.all.append(Finding(text, stops))

    def add_all(self, findings: Iterable[Finding]) -> None:
        """Take several in."""
        for finding in findings:
            self.add(finding.text, finding.stops)

    @contextmanager
    def looking(self, stops: bool = True) -> Iterator[None]:
        """A block whose error is a finding.

        Args:
            stops: Whether ``fit`` would end with that error.
        """
        try:
            yield
        except ConfigurationError as error:
            self.add(str(error), stops)


def about_data(setup: Setup, work: Work) -> Iterator[Finding]:
    """Of prompts, batches and categories."""
    data, train = setup.data, setup.data.prompts["train"]
    judged, signal = setup.policy.objective.judged, setup.selector.signal
    if not judged:
        yield Finding(
            "A supervised run samples nothing to train on and asks no reward model, so what is said about rollouts and"
            " judging is too much."
        )
    elif not isinstance(setup.policy.engine, TransformersEngine):
        yield Finding(
            f"{type(setup.policy.engine).__name__} samples, so the memory shown here has no sampling in it: where it"
            " runs there are the base model once more, and a KV cache."
        )
    if not setup.policy.objective.trains:
        yield Finding("A frozen policy is not trained, so what is said about training's memory is too much.")
    categories = sorted({prompt.category for prompt in train})
    if judged and setup.selector.granularity == "category" and len(categories) == 1:
        why = "data.columns.category is null" if data.columns.category is None else f"all prompts are '{categories[0]}'"
        yield Finding(
            f"selection.granularity is category, but {why}: there is one decision for each batch, as with granularity"
            " batch. Name a column with categories, or set granularity to batch or prompt."
        )
    if data.one_category_per_batch and len(categories) == 1:
        yield Finding(f"data.one_category_per_batch is true, but all prompts are of one category, '{categories[0]}'.")
    used = work.used
    if data.batch_size > used:
        yield Finding(
            f"data.batch_size is {data.batch_size}, but an iteration has {used} prompts: it is one step. Lower the"
            " batch size, or give more prompts."
        )
    if data.prompts_per_iteration is not None and data.prompts_per_iteration > len(train):
        yield Finding(
            f"data.prompts_per_iteration is {data.prompts_per_iteration}, but there are {len(train)} prompts to train"
            " on: every iteration uses all of them."
        )
    if judged and isinstance(signal, (Trusted, ProbeGain)) and all(prompt.answer is None for prompt in train):
        yield Finding(
            f"selection.signal is {type(signal).__name__}, which needs answers, and no prompt has one: the bandit"
            " would learn nothing. Set data.columns.answer, or another signal."
        )
    with suppress(ConfigurationError):  # which is among what fit refuses before it begins
        if (wrong := what_is_wrong(signal, setup.policy.objective)) is not None:
            yield Finding(wrong)
    if data.prompts["test"] and not data.graded("test"):
        yield Finding("No test prompt has an answer, so no accuracy will be shown.")
    if work.trained == 0:
        yield Finding("Nothing would be trained. See trainer.max_epochs, max_steps and limit_train_batches.")


def about_reward_models(setup: Setup) -> Iterator[Finding]:
    """Of reward models, as far as their configuration says; a supervised run asks none."""
    if not setup.policy.objective.judged:
        return
    longest = setup.heads("train", 1)[0] + setup.data.rollouts.max_new_tokens
    for name, model in setup.selector.pool.reward_models.items():
        if isinstance(model, LocalModel) and model.max_length < longest:
            yield Finding(
                f"The reward model '{name}' reads {model.max_length} tokens at most, and prompt and response can have"
                f" {longest}: some will be cut. Raise its max_length."
            )


def about_quantization(setup: Setup) -> Iterator[Finding]:
    """Of quantised weights where there is no GPU."""
    if setup.device.type != "cpu":
        return
    reward_models = setup.selector.pool.reward_models
    models = {name: model.weights for name, model in reward_models.items() if isinstance(model, LocalModel)}
    for name, weights in {"the policy": setup.policy.weights, **models}.items():
        try:
            how = weights.quantized_as
        except ConfigurationError:  # not to be reached, which is reported with the models
            continue
        if how is not None:
            yield Finding(
                f"The weights of {name} are quantised ({how}), which saves memory and is slow without a GPU: every"
                " forward unpacks them."
            )


def about_memory(devices: tuple[Device, ...], processes: int) -> Iterator[Finding]:
    """Of devices that are too small."""
    for device in devices:
        needed = device.at_peak * (processes if device.shared else 1)
        if device.free is not None and needed > device.free:
            yield Finding(
                f"{device.name}: the peak of {show_bytes(needed)} is more than the {show_bytes(device.free)} that are"
                " free now. Lower model.tokens_per_forward, data.rollouts.tokens_at_once or the batch sizes, set"
                " selection.memory_budget, or quantise."
            )


def about_disk(needed: int, free: int) -> Iterator[Finding]:
    """Of a disk that is too small."""
    if needed > free:
        yield Finding(
            f"The run would write {show_bytes(needed)}, and {show_bytes(free)} are free where runs_dir lies. Make room,"
            " set --runs_dir, or --keep_iterations."
        )
