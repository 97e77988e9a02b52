"""Random input, for whatever reads what others wrote: data sets, answers, configurations, replies of reward servers.

Whatever comes in, nothing but the package's own error may come out: ``ConfigurationError`` (for a reply,
``ProtocolError``, which the pool counts), or exit code 2 with one sentence. What is read must be usable: prompts have
tokens and can be stored, scores are numbers or none.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/fuzz.py --cases 10000
Cost: 1 CPU core, about 10 minutes, 1 GB; reaches no network. It ends with code 1 if anything else came out, and shows
      the first case of each kind.

It writes its section of ``RESULTS.md`` beside itself, or where --results says. ``tests/test_fuzz.py`` runs the same
parts on a few cases each.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import platform
import shlex
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

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import write_section

from laser_pl.cli import LaserCLI
from laser_pl.cli import main as laser_pl
from laser_pl.data.prompts import Columns, encode, fit_to_length, prompts_from, split_by_hash
from laser_pl.data.tables import Table
from laser_pl.data.templates import Jinja, Plain
from laser_pl.errors import ConfigurationError
from laser_pl.language_model import Weights
from laser_pl.metrics import matchers
from laser_pl.rewards.protocols import OpenRLHF, ProtocolError, VllmClassify, VllmScore
from laser_pl.rewards.remote import RemoteReward
from laser_pl.rewards.scores import as_tensor, labels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# -- what is drawn -----------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=12) | st.text(st.characters(), max_size=4)  # the latter with halves of characters
NUMBER = st.integers() | st.floats() | st.sampled_from([10**400, 10**5000, -(10**18)])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
# What the quickstart's tokenizer knows, so that some prompts are read to the end.
KNOWN = st.text("abcdefghij0123456789 +=AC", min_size=1, max_size=12)
CHAT = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": KNOWN | JSON}),
    max_size=3,
)
ROW = st.fixed_dictionaries({}, optional={"prompt": KNOWN | TEXT | CHAT | JSON, "answer": JSON, "category": JSON})
GOOD_ROW = st.fixed_dictionaries(
    {"prompt": KNOWN, "answer": KNOWN | st.integers(-99, 99) | st.floats(), "category": TEXT | KNOWN}
)


@st.composite
def _json_lines(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\u2028"]))
    ascii_only = draw(st.booleans())
    sys.set_int_max_str_digits(0)  # what Python does not write, others do
    try:
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in draw(st.lists(GOOD_ROW | ROW | JSON, max_size=4))]
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    return end.join(lines).encode("utf-8", "surrogatepass")


@st.composite
def _csv_lines(draw: st.DrawFn) -> bytes:
    cells = st.lists(KNOWN | TEXT | st.sampled_from(['"', ",", "\0", "\r", "a\nb"]), max_size=4)
    head = draw(st.permutations(["prompt", "answer", "category"]) | cells)
    file = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    writer = csv.writer(file, quoting=quoting)
    same_width = st.lists(KNOWN | TEXT, min_size=len(head), max_size=len(head))
    writer.writerows([head, *draw(st.lists(same_width | cells, max_size=4))])
    return file.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def _damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes as they are, or with something put in, taken out or cut off."""
    content = draw(whole)
    if draw(st.booleans()):
        return content
    place = draw(st.integers(0, len(content)))
    instead = draw(st.binary(max_size=4) | st.sampled_from([b"\xef\xbb\xbf", b"\0", b"[" * 5000, b'"', b"\n"]))
    return content[:place] + instead + (content[place + len(instead) :] if draw(st.booleans()) else b"")


@st.composite
def _parquet(draw: st.DrawFn) -> bytes:
    names = draw(
        st.lists(st.sampled_from(["prompt", "answer", "category"]) | KNOWN, min_size=1, unique=True, max_size=4)
    )
    values = st.lists(KNOWN, min_size=2, max_size=2) | st.lists(st.integers(-5, 5), min_size=2, max_size=2)
    values |= st.lists(st.none() | st.binary(max_size=3), min_size=2, max_size=2)
    sink = io.BytesIO()
    pq.write_table(pa.table({name: draw(values) for name in names}), sink)
    return sink.getvalue()


@st.composite
def _sound(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file that can be read, with rows that often can be used."""
    rows = draw(st.lists(GOOD_ROW, min_size=1, max_size=4))
    kind = draw(st.sampled_from(["jsonl", "csv"]))
    file = io.StringIO()
    if kind == "jsonl":
        file.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(file, ["prompt", "answer", "category"])
        writer.writeheader()
        writer.writerows(rows)
    return f"rows.{kind}", file.getvalue().encode("utf-8", "replace")


@st.composite
def _odd(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of anything."""
    kind = draw(st.sampled_from(["jsonl", "json", "csv", "parquet"]))
    whole = {"csv": _csv_lines(), "parquet": _parquet()}.get(kind, _json_lines())
    name, content = f"rows.{kind}", draw(_damaged(whole) if kind != "parquet" or draw(st.booleans()) else whole)
    if kind != "parquet" and draw(st.integers(0, 5)) == 0:
        packed = gzip.compress(content)
        name, content = f"{name}.gz", draw(st.sampled_from([content, packed, packed, packed[:-9]]))
    return name, content


TEMPLATES = ["{{ prompt }}", "{{ prompt }}{{ answer }}", "{{ prompt[0] }}", "{{ prompt.role }}", "", "{{ 1 / 0 }}"]


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[str, bytes, Columns, Any, int]:
    """A file's name and content, columns, a template, and the longest prompt."""
    name, content = draw(_sound() | _odd())
    columns = Columns(
        draw(st.sampled_from(["prompt", "prompt", "prompt", "answer", "nothing"])),
        draw(st.sampled_from(["answer", "answer", None])),
        draw(st.sampled_from(["category", "category", None, "prompt"])),
    )
    template = draw(st.just(Plain()) | st.builds(Plain, KNOWN, KNOWN | TEXT) | st.sampled_from(TEMPLATES).map(Jinja))
    return name, content, columns, template, draw(st.integers(1, 20))


ANSWER_LIKE = st.lists(
    st.sampled_from(["final answer", ":", "####", " ", "(", "B", ")", "yes", "1,234", "-", ".", "b", "<answer>", "\n"])
    | TEXT
    | st.text(st.characters(categories=["Nd", "No", "Nl"]), max_size=3)
    | NUMBER.map(lambda number: f"{number:.0f}" if isinstance(number, float) else str(number % 10**30)),
    max_size=8,
).map("".join)
MATCHERS: st.SearchStrategy[Callable[[], matchers.Matcher]] = st.one_of(
    st.sampled_from([matchers.Exact, matchers.Number, matchers.YesNo, matchers.Choice]),
    TEXT.map(lambda letters: lambda: matchers.Choice(letters)),
    st.lists(
        st.sampled_from(["(", ")", "[", "]", "a", "|", "?", "{1", "}", "\\", "d", "<answer>", ".", "1,2"]), max_size=5
    )
    .map("".join)
    .map(lambda pattern: lambda: matchers.Regex(pattern)),
    TEXT.map(lambda pattern: lambda: matchers.Regex(pattern)),
)
answers = st.tuples(MATCHERS, st.lists(ANSWER_LIKE, min_size=1, max_size=3), ANSWER_LIKE)

PROTOCOLS = [OpenRLHF(), VllmClassify("m"), VllmClassify("m", [-1.0, 1.0]), VllmScore("m")]
_ENTRY = st.fixed_dictionaries(
    {}, optional={"index": st.integers(-1, 3) | JSON, "score": JSON, "probs": st.lists(JSON, max_size=2) | JSON}
)
_REPLY = JSON | st.fixed_dictionaries(
    {}, optional={"rewards": st.lists(NUMBER | JSON, max_size=3), "data": st.lists(_ENTRY | JSON, max_size=3)}
)


@st.composite
def replies(draw: st.DrawFn) -> tuple[Any, bytes, int]:
    """A protocol, the body of an answer, and how many responses were asked about."""
    sys.set_int_max_str_digits(0)
    try:
        body = json.dumps(draw(_REPLY)).encode()
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    return (
        draw(st.sampled_from(PROTOCOLS)),
        draw(_damaged(st.just(body)) | st.binary(max_size=30)),
        draw(st.integers(1, 3)),
    )


VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10)
    | st.integers()
    | st.floats()
    | st.sampled_from(["null", "LinUCB", "laser_pl.bandits.Exp3", "laser_pl.feedback.signals.Gap", "batch", "x.jsonl"])
    | TEXT
    | st.lists(st.integers(0, 3) | TEXT, max_size=2)
    | st.dictionaries(
        st.sampled_from(["class_path", "init_args", "weights", "name", "n", "a"]) | TEXT, TEXT, max_size=3
    )
)
KEYS = [
    *("name", "runs_dir", "resume", "seed_everything", "checkpoint_every", "ckpt_path", "nonsense", "optimizer.lr"),
    *(
        "optimizer.class_path",
        "lr_scheduler",
        "trainer.max_epochs",
        "trainer.precision",
        "trainer.callbacks",
        "trainer",
    ),
    *("trainer.logger", "trainer.limit_train_batches", "model", "model.beta", "model.nll_weight", "model.weights"),
    *("model.weights.dtype", "model.lora", "model.lora.targets", "model.lora.rank", "model.matcher", "model.pad_token"),
    *("model.evaluation.n", "model.tokens_per_forward", "data", "data.train", "data.columns", "data.columns.answer"),
    *("data.template", "data.rollouts.n", "data.rollouts.temperature", "data.rollouts.top_p", "data.batch_size"),
    *(
        "data.overlong",
        "data.test",
        "data.test_fraction",
        "data.prompts_per_iteration",
        "selection",
        "selection.bandit",
    ),
    *("selection.bandit.alpha", "selection.reward_models", "selection.reward_models.numbers", "selection.signal"),
    *("selection.scale", "selection.pairs.per_prompt", "selection.pairs.min_margin", "selection.granularity"),
    *("selection.constraints", "selection.memory_budget", "selection.cooldown", "selection.max_failures"),
]


@st.composite
def overlays(draw: st.DrawFn) -> bytes:
    """A configuration, to be laid over the quickstart's."""
    whole: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)):
        section, parts = whole, key.split(".")
        for part in parts[:-1]:
            inner = section.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = section[part] = {}
            section = inner
        section[parts[-1]] = draw(VALUE)
    sys.set_int_max_str_digits(0)
    try:
        text = yaml.safe_dump(whole, allow_unicode=draw(st.booleans()))
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    content = text.encode("utf-8", "surrogatepass")
    return draw(_damaged(st.just(content))) if draw(st.integers(0, 3)) == 0 else content


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of all parts together, or a few more")
    parser.add_argument("--parts", nargs="+", type=int, choices=range(len(PARTS)), default=[*range(len(PARTS))])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    arguments = parser.parse_args(args)
    words = ["python", "experiments/benchmarks/fuzz.py", *(sys.argv[1:] if args is None else args)]
    parts = [PARTS[number] for number in arguments.parts]
    whole = sum(part.share for part in parts)
    outcomes = [run(part, round(arguments.cases * part.share / whole), arguments.seed) for part in parts]
    for outcome in outcomes:
        for kind, case in outcome.kinds.items():
            print(f"{outcome.part.name}: {kind}: {case}")
    text = page(outcomes, shlex.join(words))
    write_section(arguments.results, "fuzz", text)
    print(text)
    return 1 if any(outcome.uncaught for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
