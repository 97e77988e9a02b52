"""The commands, each in one line, and where those are that are not Lightning's."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps

PROGRAM = "python -m laser_pl"
LIGHTNING = {
    "fit": "Train, with the test accuracy before and after, and write all that happens to a run's folder.",
    "validate": "Measure the accuracy on the validation prompts.",
    "test": "Measure the accuracy on the test prompts, of the start policy or of a checkpoint.",
    "predict": "Answer the test prompts by best-of-n, with the reward models that a run has learned to select.",
}
"""Commands that take a configuration."""
OTHERS = {
    "init": (
        "laser_pl.first_config.command",
        "Look at a model, prompts and reward models of yours, and write a configuration that runs.",
    ),
    "plan": ("laser_pl.forecast.command", "Say what `fit` would do and need, without loading any weights."),
    "label": (
        "laser_pl.labelling.command",
        "Ask you which of the policy's responses are better, for the signal that learns from a few answers.",
    ),
    "report": (
        "laser_pl.report.command",
        "Show a run as a page, whether it is finished, going on, or was interrupted.",
    ),
    "explain": (
        "laser_pl.commands.explain",
        "Say why a reward model judged a step's prompts, and how it did on earlier ones.",
    ),
    "compare": ("laser_pl.commands.compare", "Compare finished runs over seeds."),
    "winrate": (
        "laser_pl.winrate.command",
        "Compare the responses of finished runs to the same test prompts, by a judge.",
    ),
    "export": (
        "laser_pl.commands.export",
        "Write the pairs of a run as a preference data set, as TRL's DPOTrainer takes it.",
    ),
    "config": (
        "laser_pl.commands.config",
        "List, show or copy the configurations that come with the package: presets and examples.",
    ),
}
"""Commands that need no Lightning: the module whose ``main`` takes what stands behind them."""
GONE = {
    "push": "The hub's own command uploads a run's adapter and its card: hf upload OWNER/NAME RUN/adapter.",
    "completion": "What completes with Tab was hardly used; --help lists settings, and a misspelt one is answered.",
}
"""Commands of the release before, and what there is now; for one release more."""
SUMMARIES = LIGHTNING | {name: summary for name, (_, summary) in OTHERS.items()}


def overview() -> str:
    """What ``--help`` says before a command."""
    width = max(map(len, SUMMARIES)) + 2
    lines = [f"  {name:{width}}{summary}" for name, summary in SUMMARIES.items()]
    return "\n".join([
        f"usage: {PROGRAM} COMMAND ...",
        "",
        "Train a language model from several reward models: a bandit learns which one to trust where.",
        "",
        *lines,
        "",
        f"More of a command: {PROGRAM} COMMAND --help",
        "",
    ])  # fmt: skip


def refuse_other_command(words: Sequence[str]) -> None:
    """Look at the first word of a command line.

    Raises:
        ConfigurationError: If there is none, or it is neither an option nor a command.
    """
    if not words:
        raise ConfigurationError(f"Name a command: {', '.join(SUMMARIES)}. See {PROGRAM} --help.")
    if words[0] in GONE:
        raise ConfigurationError(f"There is no command '{words[0]}' any more. {GONE[words[0]]}")
    if not words[0].startswith("-") and words[0] not in SUMMARIES:
        advice = perhaps(closest(words[0], SUMMARIES), f"See {PROGRAM} --help.")
        raise ConfigurationError(f"There is no command '{words[0]}'.{advice}")


def run_other(name: str, args: Sequence[str]) -> None:
    """Run a command that needs no Lightning."""
    importlib.import_module(OTHERS[name][0]).main(args)
