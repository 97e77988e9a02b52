"""From rows to prompts, splits and token ids."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from laser_pl.batches import Prompt
from laser_pl.data.prompts import Columns, content_hash, encode, fit_to_length, prompts_from, split_by_hash
from laser_pl.data.tables import Table
from laser_pl.data.templates import Jinja, Plain, Template
from laser_pl.errors import ConfigurationError

CHAT = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "2+2?"}]


def table(path: Path, rows: list[dict[str, Any]]) -> Table:
    path = path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Table(str(path))


def make_prompt(text: str, answer: str | None = None) -> Prompt:
    return Prompt(content_hash(text, answer), text, text, answer)


def test_a_row_becomes_a_prompt(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"question": "How far?", "solution": 12, "task": None, "unit": "km"}]
    columns = Columns(prompt="question", answer="solution", category="task")
    (prompt,) = prompts_from(table(tmp_path, rows), columns, Jinja("{{ prompt }} in {{ unit }}"), tokenizer)
    assert (prompt.prompt, prompt.text, prompt.answer, prompt.category) == ("How far?", "How far? in km", "12", "all")
    assert prompt.columns == {"solution": 12, "task": None, "unit": "km"}
    assert prompt.id == content_hash("How far?", 12, {"unit": "km"})


def test_what_no_column_holds_is_made_of_several(tmp_path: Path, tokenizer: Any) -> None:
    """Reward models and ids get the whole prompt too; every column stays for templates and functions."""
    row = {"question": "Which?", "choices": ["this", "that"], "key": 1, "subject": "Logic"}
    columns = Columns(
        prompt="{{ question }}{% for choice in choices %} {{ 'AB'[loop.index0] }}. {{ choice }}{% endfor %}",
        answer="{{ 'AB'[key] }}",
        category="{{ subject | lower }}",
    )
    (prompt,) = prompts_from(table(tmp_path, [row]), columns, Jinja("{{ prompt }} ({{ subject }})"), tokenizer)
    assert prompt.prompt == "Which? A. this B. that"
    assert (prompt.text, prompt.answer, prompt.category) == ("Which? A. this B. that (Logic)", "B", "logic")
    assert prompt.columns == row
    assert prompt.id == content_hash("Which? A. this B. that", "B", {"subject": "Logic"})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ typo }}", r"data\.columns\.prompt cannot be filled from a row: 'typo' is undefined\."),
        ("{{ question", r"data\.columns\.prompt is no Jinja template: unexpected end"),
        ("{{ question.__class__ }}", r"data\.columns\.prompt cannot be filled from a row: access to attribute"),
    ],
)
def test_a_column_template_is_refused_by_name(tmp_path: Path, tokenizer: Any, template: str, message: str) -> None:
    rows = table(tmp_path, [{"question": "Which?"}])
    with pytest.raises(ConfigurationError, match=message):
        prompts_from(rows, Columns(prompt=template, answer=None, category=None), Plain(), tokenizer)


def test_a_chat_becomes_a_prompt(tmp_path: Path, tokenizer: Any) -> None:
    (prompt,) = prompts_from(
        table(tmp_path, [{"prompt": CHAT}]), Columns(answer=None, category=None), Plain(), tokenizer
    )
    assert prompt.prompt == CHAT
    assert prompt.text == "1+1?\n\n2\n\n2+2?"
    assert prompt.answer is None


@pytest.mark.parametrize("said", [None, float("nan"), "", " ", "\n"])
def test_what_says_nothing_is_no_answer_and_no_category(tmp_path: Path, tokenizer: Any, said: Any) -> None:
    """A CSV has no null, pandas writes NaN."""
    rows = table(tmp_path, [{"prompt": "1+1=", "answer": said, "category": said}])
    (prompt,) = prompts_from(rows, Columns(), Plain(), tokenizer)
    assert (prompt.answer, prompt.category) == (None, "all")


def test_a_null_that_a_template_is_given_writes_nothing(tmp_path: Path, tokenizer: Any) -> None:
    rows = table(tmp_path, [{"prompt": "1+1=", "meta": {"answer": None}, "hint": None}])
    columns = Columns(answer="{{ meta['answer'] }}", category=None)
    (prompt,) = prompts_from(rows, columns, Jinja("{{ prompt }}{{ hint }}"), tokenizer)
    assert (prompt.text, prompt.answer) == ("1+1=", None)


def test_a_chat_keeps_what_can_be_written_down(tmp_path: Path, tokenizer: Any) -> None:
    """Data sets of chats bring time stamps."""
    turn = {"role": "user", "content": "1+1?", "timestamp": datetime(2026, 1, 1), "tools": [{"name": "f"}]}
    pq.write_table(pa.Table.from_pylist([{"prompt": [turn]}]), tmp_path / "chats.parquet")
    (prompt,) = prompts_from(
        Table(str(tmp_path / "chats.parquet")), Columns(answer=None, category=None), Plain(), tokenizer
    )
    assert prompt.prompt == [{"role": "user", "content": "1+1?", "tools": [{"name": "f"}]}]
    assert json.loads(json.dumps(prompt.prompt)) == prompt.prompt


@pytest.mark.parametrize("column", ["answer", "category", "response"])
def test_half_a_character_is_refused_wherever_it_stands(tmp_path: Path, tokenizer: Any, column: str) -> None:
    rows = table(tmp_path, [{"prompt": "x", "answer": "1", "category": "c", "response": "r", column: "\ud83d y"}])
    with pytest.raises(ConfigurationError, match=rf"row 1: column '{column}' holds half a character"):
        prompts_from(rows, Columns(response="response"), Plain(), tokenizer)


def test_the_same_question_and_answer_is_kept_once(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": p, "answer": a} for p, a in [("x", "1"), ("y", "1"), ("x", "1"), ("x", "2")]]
    found = prompts_from(table(tmp_path, rows), Columns(category=None), Plain(), tokenizer)
    assert [(p.prompt, p.answer) for p in found] == [("x", "1"), ("y", "1"), ("x", "2")]
    assert len({p.id for p in found}) == 3


def test_one_question_about_ten_documents_is_ten_prompts(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "Is it so?", "document": f"document {i % 10}", "answer": "yes", "note": i} for i in range(20)]
    found = prompts_from(
        table(tmp_path, rows), Columns(category=None), Jinja("{{ document }}: {{ prompt }}"), tokenizer
    )
    assert [prompt.text for prompt in found] == [f"document {i}: Is it so?" for i in range(10)]
    assert len({prompt.id for prompt in found}) == 10


@pytest.mark.parametrize("template", [Plain(), Jinja("{{ prompt }}")])
def test_columns_that_the_template_does_not_show_make_no_other_prompt(
    tmp_path: Path, tokenizer: Any, template: Template
) -> None:
    rows = [{"prompt": "x", "answer": "1", "note": note} for note in "ab"]
    (prompt,) = prompts_from(table(tmp_path, rows), Columns(category=None), template, tokenizer)
    assert prompt.id == content_hash("x", "1")


def test_what_the_policy_reads_alike_is_one_prompt(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": prompt, "answer": "1"} for prompt in ("x", [{"role": "user", "content": "x"}], "x ")]
    found = prompts_from(table(tmp_path, rows), Columns(category=None), Jinja("{{ prompt | trim }}"), tokenizer)
    assert [prompt.prompt for prompt in found] == ["x", rows[1]["prompt"]]  # a template without a chat writes it out
    found = prompts_from(table(tmp_path, rows), Columns(category=None), Plain(), tokenizer)
    assert [prompt.text for prompt in found] == ["x", "x "]


class Custom(Template):
    def render(self, prompt: Any, columns: Any, tokenizer: Any) -> str:
        return f"{prompt} of {columns['document']}"


def test_a_template_of_ones_own_may_show_any_column(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "x", "document": document} for document in "aab"]
    found = prompts_from(table(tmp_path, rows), Columns(answer=None, category=None), Custom(), tokenizer)
    assert [prompt.text for prompt in found] == ["x of a", "x of b"]
    assert len({prompt.id for prompt in found}) == 2


def test_two_written_responses_to_one_prompt_are_two_lessons(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "x", "answer": "1", "response": r} for r in ("1", "one", "1")]
    found = prompts_from(table(tmp_path, rows), Columns(category=None, response="response"), Plain(), tokenizer)
    assert [prompt.response for prompt in found] == ["1", "one"]
    assert len({prompt.id for prompt in found}) == 2


def test_documents_with_one_question_lie_on_both_sides_of_a_split(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "Is it so?", "document": str(i), "answer": a} for i in range(200) for a in ("yes", "no")]
    template = Jinja("{{ document }}: {{ prompt }}")
    prompts = prompts_from(table(tmp_path, rows), Columns(category=None), template, tokenizer)
    rest, taken = split_by_hash(prompts, 0.5, 0, "test", template)
    assert len(rest) > 100
    assert len(taken) > 100
    assert not {prompt.text for prompt in rest} & {prompt.text for prompt in taken}


@pytest.mark.parametrize("setting", ["prompt", "answer", "category"])
def test_a_missing_column_names_the_setting_and_what_there_is(tmp_path: Path, tokenizer: Any, setting: str) -> None:
    columns = Columns(**{**{"prompt": "a", "answer": "b", "category": "c"}, setting: "typo"})
    with pytest.raises(ConfigurationError, match=rf"no column 'typo', only a, b, c\. Set data\.columns\.{setting}"):
        prompts_from(table(tmp_path, [{"a": "1", "b": "2", "c": "3"}]), columns, Plain(), tokenizer)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ([], "is empty"),
        ([{"role": "user", "content": " "}], "is empty"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}], "is empty"),
        (None, "must be a string or a list of messages, got NoneType"),
        (7, "got int"),
        (["text"], "message 1: must have a role and a content, got str"),
        ([{"role": "user"}], "message 1: has no content, only role"),
        ([{"from": "human", "value": "hi"}], "message 1: has no content and no role, only from, value"),
        ([CHAT[0], {"role": "user", "content": None}], "message 2: content must be a text, got NoneType"),
        ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "content must be a text, got list.*images"),
        ([{"role": "human", "content": "hi"}], "its role 'human' is none of system, developer, user, assistant, tool"),
        (CHAT[:2], "ends with the assistant's turn, which the policy is to write"),
    ],
)
def test_a_prompt_that_cannot_be_used_names_the_row(tmp_path: Path, tokenizer: Any, value: Any, message: str) -> None:
    rows = [{"prompt": "fine"}, {"prompt": value}]
    with pytest.raises(ConfigurationError, match=rf"rows.jsonl, row 2: column 'prompt'.* {message}"):
        prompts_from(table(tmp_path, rows), Columns(answer=None, category=None), Plain(), tokenizer)


@given(st.lists(st.text(), unique=True, max_size=30), st.floats(0, 1), st.integers(0, 9), st.data())
def test_a_split_follows_from_the_question_alone(
    questions: list[str], fraction: float, seed: int, data: st.DataObject
) -> None:
    prompts = [make_prompt(q, answer) for q in questions for answer in ("1", "2")]
    rest, taken = split_by_hash(prompts, fraction, seed, "test")
    assert sorted(p.id for p in rest + taken) == sorted(p.id for p in prompts)
    assert not {p.prompt for p in rest} & {p.prompt for p in taken}
    shuffled = data.draw(st.permutations(prompts))
    assert {p.id for p in split_by_hash(shuffled, fraction, seed, "test")[1]} == {p.id for p in taken}
    part = data.draw(st.lists(st.sampled_from(prompts), unique_by=lambda p: p.id) if prompts else st.just([]))
    assert split_by_hash(part, fraction, seed, "test")[1] == [p for p in part if p in taken]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_a_split_takes_its_fraction(fraction: float) -> None:
    """Within 4.5 standard errors of a coin thrown 4,000 times."""
    prompts = [make_prompt(str(i)) for i in range(4000)]
    taken = split_by_hash(prompts, fraction, 0, "test")[1]
    assert abs(len(taken) - 4000 * fraction) <= 4.5 * math.sqrt(4000 * fraction * (1 - fraction))


def test_two_salts_and_two_seeds_split_independently() -> None:
    prompts = [make_prompt(str(i)) for i in range(200)]
    parts = {
        tuple(p.id for p in split_by_hash(prompts, 0.5, seed, salt)[1])
        for seed in (0, 1)
        for salt in ("test", "validation")
    }
    assert len(parts) == 4


@pytest.mark.parametrize(
    ("overlong", "kept"),
    [
        ("drop", ["ab", "abcde"]),
        ("cut", ["ab", "abcdefgh", "abcde"]),
        ("middle", ["ab", "abcdefgh", "abcde"]),
    ],
)
def test_long_prompts(tokenizer: Any, overlong: Any, kept: list[str]) -> None:
    prompts = [make_prompt(text) for text in ("ab", "abcdefgh", "abcde")]
    found, count = fit_to_length(prompts, tokenizer, 5, overlong)
    assert [p.text for p in found] == kept
    assert count == 1


def test_encoding_pads_on_the_left_and_cuts_the_oldest(tokenizer: Any) -> None:
    batch = encode([make_prompt("abc"), make_prompt("x"), make_prompt("abcdefgh")], tokenizer, limit=5)
    a, b, c, x, d, e, f, g, h = tokenizer.convert_tokens_to_ids([*"abcxdefgh"])
    assert batch.tokens.tolist() == [[0, 0, a, b, c], [0, 0, 0, 0, x], [d, e, f, g, h]]
    assert batch.mask.tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    assert batch.tokens.dtype == batch.mask.dtype == torch.int64
    assert [p.text for p in batch.prompts] == ["abc", "x", "abcdefgh"]


@pytest.mark.parametrize(("limit", "left"), [(1, "a"), (2, "ah"), (5, "abcgh"), (8, "abcdefgh")])
def test_the_middle_is_cut_out(tokenizer: Any, limit: int, left: str) -> None:
    batch = encode([make_prompt("abcdefgh"), make_prompt("x")], tokenizer, limit, overlong="middle")
    assert batch.tokens[0].tolist() == tokenizer.convert_tokens_to_ids([*left])
    assert batch.tokens[1, -1] == tokenizer.convert_tokens_to_ids("x")


@pytest.mark.parametrize("text", ["ab", "<bos>ab"])
def test_encoding_starts_with_one_bos(tokenizer_with: Callable[..., Any], text: str) -> None:
    tokenizer = tokenizer_with(bos_token="<bos>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    ids = encode([make_prompt(text)], tokenizer, limit=9).tokens[0].tolist()
    assert ids == [tokenizer.bos_token_id, *tokenizer.convert_tokens_to_ids(["a", "b"])]


def with_start(tokenizer_with: Callable[..., Any], start: str, **special: str) -> Any:
    """A tokenizer that sets these special tokens before every text."""
    tokenizer = tokenizer_with(**special)
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in start.split()]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=ids)
    return tokenizer


@pytest.mark.parametrize(
    ("overlong", "limit", "left"),
    [("cut", 4, "fgh"), ("cut", 2, "h"), ("cut", 1, None), ("middle", 4, "agh"), ("middle", 5, "abgh")],
)
@pytest.mark.parametrize("written", [True, False])
def test_a_prompt_that_is_cut_keeps_its_bos(
    tokenizer_with: Callable[..., Any], overlong: Any, limit: int, left: str | None, written: bool
) -> None:
    """Whether the tokenizer sets it or a chat template has written it."""
    tokenizer = tokenizer_with(bos_token="<bos>") if written else with_start(tokenizer_with, "<bos>", bos_token="<bos>")
    prompt = make_prompt("<bos>abcdefgh" if written else "abcdefgh")
    ids = encode([prompt], tokenizer, limit, special_tokens=not written, overlong=overlong).tokens[0].tolist()
    assert tokenizer.decode(ids) == ("h" if left is None else f"<bos>{left}")  # of one token, the last is the text's


def test_several_tokens_may_stand_before_every_text(tokenizer_with: Callable[..., Any]) -> None:
    """As GLM's two do."""
    tokenizer = with_start(tokenizer_with, "<mask> <sop>", mask_token="<mask>", bos_token="<sop>")
    batch = encode([make_prompt("abcdefgh")], tokenizer, limit=4)
    assert tokenizer.decode(batch.tokens[0]) == "<mask><sop>gh"


def test_without_bos_the_oldest_tokens_go(tokenizer_with: Callable[..., Any]) -> None:
    tokenizer = tokenizer_with(bos_token="<bos>")
    assert tokenizer.decode(encode([make_prompt("abcdefgh")], tokenizer, limit=3).tokens[0]) == "fgh"
