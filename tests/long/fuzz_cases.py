"""What ``fuzz.py`` draws: files of data sets, answers, replies of reward servers, configurations."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

from laser_pl.data.prompts import Columns
from laser_pl.data.templates import Jinja, Plain
from laser_pl.metrics import matchers
from laser_pl.rewards.protocols import OpenRLHF, VllmClassify, VllmScore

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


@contextmanager
def _long_numbers() -> Iterator[None]:
    """What Python does not write by itself, others do."""
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)


@st.composite
def _json_lines(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\u2028"]))
    ascii_only = draw(st.booleans())
    with _long_numbers():
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in draw(st.lists(GOOD_ROW | ROW | JSON, max_size=4))]
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
    with _long_numbers():
        body = json.dumps(draw(_REPLY)).encode()
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
SECTIONS = {
    "model": ["beta", "nll_weight", "weights", "weights.dtype", "lora", "lora.targets", "lora.rank", "matcher"],
    "model.evaluation": ["n", "top_p"],
    "data": ["train", "test", "columns", "columns.answer", "template", "batch_size", "overlong", "test_fraction"],
    "data.rollouts": ["n", "temperature", "top_p", "max_new_tokens"],
    "selection": ["bandit", "signal", "normalizer", "granularity", "constraints", "memory_budget", "cooldown"],
    "selection.bandit": ["alpha", "class_path", "init_args"],
    "selection.pairs": ["per_prompt", "min_margin"],
    "selection.reward_models": ["numbers", "another"],
    "trainer": ["max_epochs", "precision", "callbacks", "logger", "limit_train_batches", "nonsense"],
    "optimizer": ["class_path", "lr"],
}
KEYS = [
    *("name", "runs_dir", "resume", "seed_everything", "checkpoint_every", "ckpt_path", "lr_scheduler", "nonsense"),
    *SECTIONS,
    *(f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys),
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
    with _long_numbers():
        text = yaml.safe_dump(whole, allow_unicode=draw(st.booleans()))
    content = text.encode("utf-8", "surrogatepass")
    return draw(_damaged(st.just(content))) if draw(st.integers(0, 3)) == 0 else content
