"""From a row to what the policy reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.data.templates import Chat, Jinja, Plain, chat_left_out, content_of, messages_of
from laser_pl.errors import ConfigurationError

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
CHATML = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


@given(st.text(), st.text(), st.text())
def test_plain_adds_its_two_strings_and_nothing_else(before: str, prompt: str, after: str) -> None:
    assert Plain(before, after).render(prompt, {}, None) == before + prompt + after


def test_plain_reads_a_chat_as_its_turns() -> None:
    assert Plain().render(CHAT, {}, None) == "Be brief.\n\n1+1?"
    assert content_of(CHAT) == "Be brief.\n\n1+1?"


def test_a_string_is_the_users_first_turn() -> None:
    assert messages_of("1+1?") == [{"role": "user", "content": "1+1?"}]
    assert messages_of(CHAT) == CHAT


@given(st.text().filter(lambda text: "\r" not in text))
def test_jinja_fills_in_text_as_it_is(prompt: str) -> None:
    """No HTML escaping, no line break lost at the end."""
    assert Jinja("{{ prompt }}\n{{ unit }}\n").render(prompt, {"unit": "<km>"}, None) == f"{prompt}\n<km>\n"


def test_jinja_can_go_through_a_chat() -> None:
    template = Jinja("{% for m in prompt %}{{ m.role }}: {{ m.content }};{% endfor %}")
    assert template.render(CHAT, {}, None) == "system: Be brief.;user: 1+1?;"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ prompt", "is no Jinja template"),
        ("{% if %}", "is no Jinja template"),
    ],
)
def test_a_broken_template_is_told_when_it_is_made(template: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Jinja(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ unti }}",
        "{{ prompt.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ prompt + 1 }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_does_not_fit_the_row_is_told_in_one_sentence(template: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be filled from a row") as caught:
        Jinja(template).render("p", {"unit": "km"}, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("system", "prompt", "expected"),
    [
        (None, "1+1?", "[user]1+1?|[assistant]"),
        ("Be kind.", "1+1?", "[system]Be kind.|[user]1+1?|[assistant]"),
        ("Be kind.", CHAT, "[system]Be brief.|[user]1+1?|[assistant]"),
    ],
)
def test_chat_renders_up_to_the_assistants_turn(tokenizer: Any, system: str | None, prompt: Any, expected: str) -> None:
    tokenizer.chat_template = CHATML
    assert Chat(system).render(prompt, {}, tokenizer) == expected


def test_chat_needs_a_chat_template(tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"has no chat template.*Plain or Jinja"):
        Chat().render("1+1?", {}, tokenizer)


def test_chat_tells_what_the_models_template_refuses(tokenizer: Any) -> None:
    """Gemma's, among others, refuses a system message."""
    tokenizer.chat_template = NO_SYSTEM + CHATML
    assert Chat().render("1+1?", {}, tokenizer) == "[user]1+1?|[assistant]"
    with pytest.raises(ConfigurationError, match="System role not supported"):
        Chat("Be kind.").render("1+1?", {}, tokenizer)


def test_bare_prompts_for_a_policy_with_a_chat_template_are_told(tokenizer: Any) -> None:
    assert chat_left_out(Plain(), tokenizer, "1+1?") is None
    tokenizer.chat_template = CHATML
    told = chat_left_out(Plain(), tokenizer, "1+1?")
    assert told is not None
    assert told.endswith("set data.template to laser_pl.data.templates.Chat.")
    assert chat_left_out(Plain(), tokenizer, "[user]1+1?<eos>") is None  # written into the data already
    assert chat_left_out(Plain(before="Q: "), tokenizer, "Q: 1+1?") is None
    assert chat_left_out(Chat(), tokenizer, "1+1?") is None
