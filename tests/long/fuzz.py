"""Random input, for whatever reads what others wrote: data sets, answers, configurations, replies of reward servers.

Whatever comes in, nothing but the package's own error may come out: ``ConfigurationError`` (for a reply,
``ProtocolError``, which the pool counts), or exit code 2 with one sentence. What is read must be usable: prompts have
tokens and can be stored, scores are numbers or none.

Run:  OMP_NUM_THREADS=1 python tests/long/fuzz.py --cases 10000
Cost: 1 CPU core, about 5 minutes, 1 GB; reaches no network. It ends with code 1 if anything else came out, and shows
      the first case of each kind.

It writes its section of ``RESULTS.md`` beside itself, or where --results says. ``test_fuzz.py`` runs the same parts
on a few cases each.
"""

from __future__ import annotations

import io
import os
import platform
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

# Before anything imports Hugging Face or W&B: a random name is no reason to ask a hub for it.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}

import pyarrow as pa
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"))
from fuzz_cases import answers, data_sets, overlays, replies
from results import command_of, parser_of, tell

from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.cli import main as laser_pl
from laser_pl.data.prompts import Columns, encode, fit_to_length, prompts_from, split_by_hash
from laser_pl.data.tables import Table
from laser_pl.errors import ConfigurationError
from laser_pl.metrics import matchers
from laser_pl.models.language_model import Weights
from laser_pl.rewards.protocols import ProtocolError
from laser_pl.rewards.remote import RemoteReward
from laser_pl.rewards.scores import as_tensor, labels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# -- what must hold ----------------------------------------------------------------------------------------------------


@cache
def tokenizer() -> Any:
    """The quickstart's."""
    return Weights(str(ROOT / "experiments" / "quickstart" / "policy")).load_tokenizer("left")


def check_data_set(case: tuple[str, bytes, Columns, Any, int], folder: Path) -> None:
    """Prompts that have tokens and can be stored, or a ``ConfigurationError``."""
    name, content, columns, template, limit = case
    (folder / name).write_bytes(content)
    try:
        prompts = prompts_from(Table(str(folder / name)), columns, template, tokenizer())
        kept, _ = fit_to_length(prompts, tokenizer(), limit, "cut" if limit % 2 else "drop")
    except ConfigurationError as error:
        _check_sentence(str(error))
        return
    rest, taken = split_by_hash(kept, 0.5, 0, "test")
    assert len(rest) + len(taken) == len(kept)
    pa.array([text for prompt in kept for text in (prompt.id, prompt.category, prompt.text)], pa.string())
    if kept:
        batch = encode(kept, tokenizer(), limit)
        assert bool(batch.mask.any(-1).all()), "a prompt without tokens"
        assert batch.tokens.shape[1] <= limit


def check_answer(case: tuple[Callable[[], matchers.Matcher], list[str], str], folder: Path) -> None:
    """Right or wrong, the same every time; a matcher that cannot be made is a ``ConfigurationError``."""
    make, responses, answer = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, of patterns that may mean something else one day
        try:
            matcher = make()
        except ConfigurationError as error:
            _check_sentence(str(error))
            return
    right = [matcher.matches(response, answer) for response in responses]
    assert all(type(one) is bool for one in right)
    found = matchers.divided(matcher, responses, answer)
    assert found == (right if any(right) and not all(right) else None)


def check_reply(case: tuple[Any, bytes, int], folder: Path) -> None:
    """As many scores as were asked for, each a number or none, or a ``ProtocolError``."""
    protocol, body, count = case
    try:
        scores = RemoteReward("http://judge.example/", protocol).read(body, count)
    except ProtocolError as error:
        _check_sentence(str(error))
        return
    found, missing = labels([scores], as_tensor([scores], (1, count), "it"))
    assert int(found.isfinite().sum()) + missing.total() == count


class ParsedError(Exception):
    """The configuration was read, and all but the trainer made of it."""


def check_overlay(content: bytes, folder: Path) -> None:
    """Everything but the trainer is made of it, or exit code 2 and one sentence."""
    (folder / "overlay.yaml").write_bytes(content)
    said = io.StringIO()
    arguments = ["fit", f"--config={ROOT / 'experiments' / 'quickstart.yaml'}", f"--config={folder / 'overlay.yaml'}"]
    before = Path.cwd()
    os.chdir(ROOT)  # the configuration names its files from here
    try:
        stop = mock.patch.object(LaserCLI, "instantiate_trainer", side_effect=ParsedError)
        with stop, redirect_stderr(said), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            laser_pl(arguments)
    except ParsedError:
        return
    except SystemExit as end:
        _check_exit_code(end)
        (line,) = [line for line in said.getvalue().splitlines() if line.startswith("laser_pl: ")]
        _check_sentence(line)
    finally:
        os.chdir(before)


def _check_exit_code(end: SystemExit) -> None:
    assert end.code == 2, f"exit code {end.code}"


def _check_sentence(message: str) -> None:
    assert message
    assert "Traceback" not in message


# -- the parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Something that reads what others wrote.

    Attributes:
        name: For the table.
        cases: What it may be given.
        check: Raises if something is wrong; it may write to the folder it gets.
        share: Of all cases.
    """

    name: str
    cases: st.SearchStrategy[Any]
    check: Callable[[Any, Path], None]
    share: float


PARTS = [
    Part("rows of data sets", data_sets(), check_data_set, 0.3),
    Part("answers", answers, check_answer, 0.4),
    Part("replies of reward servers", replies(), check_reply, 0.2),
    Part("configuration overlays", overlays(), check_overlay, 0.1),
]


@dataclass
class Outcome:
    """What became of a part's cases."""

    part: Part
    cases: int = 0
    uncaught: int = 0
    seconds: float = 0.0
    kinds: dict[str, str] = field(default_factory=dict)
    """Where something came out, and the first case that made it."""


def run(part: Part, count: int, start: int) -> Outcome:
    """Give a part ``count`` cases or a few more, and count what comes out."""
    outcome = Outcome(part)
    began = time.perf_counter()

    def one(case: Any) -> None:
        outcome.cases += 1
        try:
            part.check(case, folder)
        except Exception as error:
            outcome.uncaught += 1
            frames = traceback.extract_tb(error.__traceback__)
            place = next((f for f in reversed(frames) if "laser_pl" in f.filename), frames[-1])
            kind = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            outcome.kinds.setdefault(kind, f"{error!r:.300} from {case!r:.500}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while outcome.cases < count:  # hypothesis ends early where it thinks it has seen everything
            options = settings(
                max_examples=count - outcome.cases,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            options(seed(start + outcome.cases)(given(part.cases)(one)))()
    outcome.seconds = time.perf_counter() - began
    return outcome


def page(outcomes: list[Outcome], words: str) -> str:
    """The section."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("hypothesis", "jsonargparse", "pyarrow", "transformers")
    )
    lines = [
        "## Random input",
        "",
        f"Written by `{words}`, {platform.system()}, Python {platform.python_version()}, {versions}. Uncaught: anything"
        " but the package's own error, or a result that cannot be used.",
        "",
        "| part | cases | uncaught exceptions | seconds |",
        "|---|---|---|---|",
    ]
    lines += [f"| {o.part.name} | {o.cases} | {o.uncaught} | {o.seconds:.1f} |" for o in outcomes]
    sums = sum(o.cases for o in outcomes), sum(o.uncaught for o in outcomes), sum(o.seconds for o in outcomes)
    return "\n".join([*lines, f"| all | {sums[0]} | {sums[1]} | {sums[2]:.1f} |", ""])


def main(args: list[str] | None = None) -> int:
    """Run, print and write; 0 if nothing came out that should not."""
    parser = parser_of(__doc__, HERE / "RESULTS.md")
    parser.add_argument("--cases", type=int, default=10_000, help="of all parts together, or a few more")
    parser.add_argument("--parts", nargs="+", type=int, choices=range(len(PARTS)), default=[*range(len(PARTS))])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(args)
    parts = [PARTS[number] for number in arguments.parts]
    whole = sum(part.share for part in parts)
    outcomes = [run(part, round(arguments.cases * part.share / whole), arguments.seed) for part in parts]
    for outcome in outcomes:
        for kind, case in outcome.kinds.items():
            print(f"{outcome.part.name}: {kind}: {case}")
    text = page(outcomes, command_of("fuzz", args, "tests/long"))
    tell(arguments.results, "fuzz", text)
    return 1 if any(outcome.uncaught for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
