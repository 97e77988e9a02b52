"""What ``--help`` says of commands, settings and classes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import pytest
from jsonargparse import ArgumentParser, capture_parser
from jsonargparse._common import parser_context
from jsonargparse._typehints import ActionTypeHint

from laser_pl import bandits, rewards
from laser_pl.__main__ import run
from laser_pl.command_line.commands import LIGHTNING, OTHERS, SUMMARIES, run_other
from laser_pl.command_line.help import SECTIONS
from laser_pl.command_line.known_classes import known_classes
from laser_pl.command_line.setting_text import default_of, first_sentence, plain, summary
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.data import pairs, tables, templates
from laser_pl.feedback import normalizers, signals
from laser_pl.metrics import matchers
from laser_pl.rewards import protocols

BASES = [bandits.Bandit, rewards.RewardModel, signals.Signal, normalizers.RewardNormalizer, pairs.Pairing,
         matchers.Matcher, templates.Template, protocols.Protocol]  # fmt: skip


def printed(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    shown = capsys.readouterr()
    assert (end.value.code, shown.err) == (0, "")
    return shown.out


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    found = capture_parser(lambda: main(["fit"]))
    command: ArgumentParser = found._subcommands_action._name_parser_map["fit"]
    return command


def settings(parser: ArgumentParser, top: ArgumentParser, met: dict[type, str]) -> Iterator[argparse.Action]:
    """Of a parser, and of all our classes that it may name, which are noted in ``met``."""
    for action in parser._actions:
        if not isinstance(action, ActionTypeHint) or action.dest.partition(".")[0] in {"trainer", "optimizer"}:
            continue
        yield action
        with parser_context(parent_parser=top):
            found = {cls: path for path, cls in known_classes(action).items()}
            found |= {
                cls: cls.__name__ for cls in (tables.Table, rewards.Constraint) if cls.__name__ in str(action._typehint)
            }
            for cls, path in found.items():
                if cls.__module__.startswith("laser_pl.") and cls not in met:
                    met[cls] = path
                    yield from settings(ActionTypeHint.get_class_parser(cls), top, met)


def concrete(base: type) -> set[type]:
    below = {one for cls in base.__subclasses__() for one in {cls, *concrete(cls)}}
    return {
        cls for cls in below if not getattr(cls, "__abstractmethods__", None) and cls.__module__.startswith("laser_pl")
    }


def test_every_setting_and_every_class_is_described_in_one_sentence(parser: ArgumentParser) -> None:
    met: dict[type, str] = {}
    found = list(settings(parser, parser, met))
    assert {cls for base in BASES for cls in concrete(base)} <= set(met)
    assert {tables.Table, rewards.Constraint} <= set(met)
    texts = {action.dest: summary(action) for action in found}
    texts |= {path: plain(first_sentence((cls.__doc__ or "").strip())) for cls, path in met.items()}
    wrong = {name: text for name, text in texts.items()
             if not text.endswith((".", ")")) or not 10 < len(text) <= 90 or set("\\\n`") & set(text)}  # fmt: skip
    assert wrong == {}
    assert all(len(default_of(action)) < 75 and "\n" not in default_of(action) for action in found)


@pytest.mark.parametrize("command", LIGHTNING)
def test_help_takes_a_line_for_each_setting_and_names_ours_first(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    page = printed([command, "--help"], capsys)
    assert max(map(len, page.splitlines())) <= 120
    ours, trainers = page.split(f"\n{SECTIONS['trainer']}:\n")
    usage, *parts = ours.split("\n\n")
    assert usage == f"usage: python -m laser_pl {command} --config FILE [--config FILE ...] [--SETTING VALUE ...]"
    assert parts[0].startswith(LIGHTNING[command])
    assert [part.splitlines()[0] for part in parts[1:]] == [
        f"{SECTIONS[name]}:" for name in SECTIONS if name != "trainer"
    ]
    lines = [line for part in parts[1:] for line in part.splitlines()[1:]]
    assert [line for line in lines if not line.startswith("  -")] == []
    assert "  --model.beta FLOAT                      DPO's inverse temperature, 1/nats, > 0. (default: 0.1)" in lines
    (train,) = (line for line in lines if line.startswith("  --data.train "))
    assert train.endswith(" or a hub name. (required)")
    assert "selection.bandit CLASS" in ours
    assert len(trainers.splitlines()) < 10
    assert " max_epochs, " in trainers


def test_all_commands_are_listed_by_one_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(LIGHTNING) == set(LaserCLI.subcommands())
    monkeypatch.setattr(sys, "argv", ["laser_pl", "--help"])
    run()
    page = capsys.readouterr().out
    assert printed(["--help"], capsys) == page
    lines = page.splitlines()
    for name, text in SUMMARIES.items():
        assert sum(line.split() == [name, *text.split()] for line in lines) == 1
        assert len(text) < 105


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_say_the_same_of_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_other(command, ["--help"])
    assert end.value.code == 0
    assert " ".join(OTHERS[command][1].split()) in " ".join(capsys.readouterr().out.split())


def test_help_on_a_setting_tells_all_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    page = printed(["fit", "--help", "selection.bandit"], capsys)
    lines = page.splitlines()
    assert lines[0] == "  --selection.bandit CLASS  (default: LinUCB(alpha=1.0))"
    assert {cls.__name__ for cls in concrete(bandits.Bandit)} <= {line.split()[0] for line in lines if line.strip()}
    assert "      One of batch, category, prompt, rank." in printed(["fit", "--help", "selection.granularity"], capsys)
    parts = printed(["fit", "--help", "model.lora"], capsys)
    assert [line.split()[0] for line in parts.splitlines() if line.startswith("  --")] == [
        f"--model.lora.{name}" for name in ("rank", "alpha", "dropout", "targets", "start")
    ]


def test_help_on_a_section_begins_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(["fit", "--help", "trainer"], capsys).startswith(
        f"{SECTIONS['trainer']}:\n\n  --trainer.accelerator "
    )


def test_help_on_a_class_names_its_settings_as_a_config_does(capsys: pytest.CaptureFixture[str]) -> None:
    page = printed(["fit", "--selection.bandit.help", "laser_pl.bandits.LinUCB"], capsys)
    assert page.startswith("laser_pl.bandits.LinUCB: The arm of the largest expected reward plus alpha times")
    assert "\n  alpha FLOAT  (default: 1.0)\n      How much uncertainty is worth" in page
    assert "It has no settings." in printed(["fit", "--selection.bandit.help", "Uniform"], capsys)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("selektion", "Did you mean 'selection'?"),
        ("bandit", "Did you mean 'selection.bandit'?"),
        ("zzz", "There is help on run, model, data, selection, optimizer, lr_scheduler, trainer."),
    ],
)
def test_help_on_nothing_says_so(word: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help", word])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"laser_pl: --help knows nothing of '{word}'. {answer}\n"
