"""Whatever of Lightning's is set, a run that is killed and resumed ends as if nothing had happened.

Several settings in one run each, at two moments; ``make resume-table`` has each alone, at four.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch.callbacks
import pytest

ADD = "--trainer.callbacks+="
EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments" / "resume"


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """What lies beside the experiment's scripts can be imported, by the runs too."""
    before = list(sys.path)
    sys.path.insert(0, str(EXPERIMENT))
    yield
    sys.path[:] = before
    for script in EXPERIMENT.glob("*.py"):
        sys.modules.pop(script.stem, None)


AVERAGING = ["EMAWeightAveraging"] if hasattr(lightning.pytorch.callbacks, "EMAWeightAveraging") else []
"""Lightning has it since 2.6."""


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's, about what callbacks log and how they copy
@pytest.mark.parametrize(
    ("names", "moments"),
    [
        (
            ["plateau, early stopping, accumulation, val_check_interval and two loggers"],
            ["within an iteration", "in the last test"],
        ),
        (
            [
                "one that clips and accumulates from an iteration on",
                "one that acts by its own count of iterations",
                "one that logs means, sums and extremes of iterations",
                *AVERAGING,
                "limit_train_batches 3",
            ],
            ["within an iteration", "at its end"],
        ),
        (["CyclicLR"], ["within an iteration"]),
    ],
)
def test_killed_and_resumed_is_as_if_nothing_had_happened(tmp_path: Path, names: list[str], moments: list[str]) -> None:
    from runs import outcome
    from settings import SETTINGS

    chosen = [setting for setting in SETTINGS if setting.name in names]
    assert len(chosen) == len(names)
    every = [argument for setting in chosen for argument in setting.arguments]
    callbacks = [json.loads(argument[len(ADD) :]) for argument in every if argument.startswith(ADD)]
    arguments = [argument for argument in every if not argument.startswith(ADD)]
    arguments += [f"--trainer.callbacks={json.dumps(callbacks)}"]
    found = outcome(arguments, tmp_path / "runs", moments=moments)
    assert found == {"runs": "yes", **dict.fromkeys(moments, "equal")}


def test_the_table_has_many_settings_and_no_fault() -> None:
    from settings import SETTINGS

    rows = [line for line in (EXPERIMENT / "TABLE.md").read_text(encoding="utf-8").splitlines() if "equal |" in line]
    assert len(rows) >= 35
    named = {f"| {setting.kind} | {setting.name} |" for setting in SETTINGS}
    for line in rows:
        assert any(line.startswith(name) for name in named), line
        assert "Error:" not in line
        assert "| other " not in line
