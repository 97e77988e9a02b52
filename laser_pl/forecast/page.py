"""A forecast for people, in 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from laser_pl.forecast.forecast import Forecast
from laser_pl.forecast.memory import Device
from laser_pl.messages.terminal import as_markup
from laser_pl.rewards.memory import show_bytes


def print_forecast(forecast: Forecast, command: str, console: Console | None = None) -> None:
    """Print it.

    Args:
        forecast: What to show.
        command: What it is about.
        console: Where to print; standard output if not given.
    """
    console = console or Console(highlight=False)
    console.print(_models(forecast))
    for device in forecast.devices:
        console.print(_memory(device))
    if forecast.work is not None:
        console.print(_work(forecast))
    if forecast.files:
        console.print(_files(forecast))
    if not forecast.findings:
        console.print("Nothing looks wrong.")
    for finding in forecast.findings:
        kind = "[bold red]fit would stop:[/]" if finding.stops else "[yellow]looks wrong:[/]"
        console.print(f"{kind} {as_markup(finding.text)}")
    console.print(
        "Sizes are estimates; memory is that of tensors and libraries, and allocators keep some of what is freed. No"
        " weights were loaded, and nothing was written. To run it:"
    )
    console.print(as_markup(command), soft_wrap=True)


def _models(forecast: Forecast) -> Table:
    table = _table("Models", "model", "what it is", "parameters", "bytes", "type")
    for model in forecast.models:
        table.add_row(
            as_markup(model.name), as_markup(model.kind), _count(model.parameters), _size(model.size), model.dtype
        )
    return table


def _memory(device: Device) -> Table:
    table = _table(f"Memory: {device.name}", "what", "bytes")
    for name, size in device.rest.items():
        table.add_row(name, _size(size))
    table.add_section()
    table.add_row("at rest", _size(device.at_rest))
    for phase in device.phases:
        table.add_row(f"at most in {phase.name}", _size(device.at(phase)))
    if device.free is not None:
        table.add_section()
        table.add_row("free now", _size(device.free))
    return table


def _work(forecast: Forecast) -> Table:
    work, forwards = forecast.work, forecast.forwards
    assert work is not None
    assert forwards is not None
    whole = work.iterations or 1
    table = _table("Work", "what", "an iteration", "in all")

    def row(name: str, count: int, note: str = "") -> None:
        table.add_row(name, f"{note}{round(count / whole):,}", f"{note}{count:,}" if work.iterations else "no end")

    splits = [f"{name} {count:,}" for name, count in work.prompts.items()]
    table.add_row("prompts there are", "", "\n".join(splits))
    table.add_row("iterations", "", _count(work.iterations) if work.iterations else "no end")
    row("steps", work.steps)
    if work.optimizer_steps != work.steps:
        row("of the optimizer", work.optimizer_steps)
    row("prompts answered", work.sampled)
    row("responses", work.responses)
    row("tokens to generate", work.tokens, "≤ ")
    least, most = forwards.judging
    row("reward-model forwards: judging", most, "" if least == most else "≤ ")
    if forwards.polling:
        row("  polling all arms", forwards.polling, "≤ ")
    for name, count in forwards.constraints.items():
        row(f"  constraint {as_markup(name)}", count)
    table.add_row("tokens of validation and test", "", f"≤ {work.evaluation_tokens:,}")
    return table


def _files(forecast: Forecast) -> Table:
    table = _table("Files, at most", "file", "count", "bytes")
    for files in forecast.files:
        table.add_row(files.name, f"{files.count:,}", _size(files.size))
    table.add_section()
    table.add_row("all", f"{sum(one.count for one in forecast.files):,}", _size(forecast.written))
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="left" if heading in {"what it is", "type"} else "right")
    return table


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _size(size: int | None) -> str:
    return "unknown" if size is None else show_bytes(size)
