"""From a data set's prompt to the text the policy reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from laser_pl.batches import Message
from laser_pl.errors import ConfigurationError
from laser_pl.run.bounds import bounded


def content_of(prompt: str | list[Message]) -> str:
    """A prompt as one string: a chat's turns, one below the other."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt)


def messages_of(prompt: str | list[Message]) -> list[Message]:
    """A prompt as a chat: a string is the user's first turn."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


class _Sandbox(ImmutableSandboxedEnvironment):
    """Without powers: one that takes hours is a single step, which no clock interrupts."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Small ones only.

        Raises:
            SecurityError: Of a larger one.
        """
        if abs(left) > 2**32 or abs(right) > 64:
            raise SecurityError(f"{left} ** {right} is too large")
        return left**right


class SandboxedText:
    """A Jinja template that cannot reach anything but the values it is given.

    A missing one is an error, and one that is null writes nothing.

    Args:
        template: The template.
        setting: Where it is configured, for messages.

    Attributes:
        names: The values it asks for.
    """

    def __init__(self, template: str, setting: str) -> None:
        self.setting = setting
        environment = _Sandbox(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_nothing_for_null)
        try:
            self._template = environment.from_string(template)
            self.names = meta.find_undeclared_variables(environment.parse(template))
        except TemplateError as error:
            raise ConfigurationError(f"{setting} is no Jinja template: {_reason(error)}.") from error

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text.

        Raises:
            ConfigurationError: If the template asks for a value that is not there, or does with one what it cannot.
        """
        try:
            with bounded():
                return self._template.render(values)
        except Exception as error:  # a template is a program, and may raise anything
            raise ConfigurationError(f"{self.setting} cannot be filled from a row: {_reason(error)}.") from error


def _nothing_for_null(value: Any) -> Any:
    return "" if value is None else value


def chat_text(tokenizer: Any, messages: Sequence[Message], **options: Any) -> str:
    """Messages as the tokenizer's own chat template writes them; transformers runs it in Jinja's sandbox.

    Args:
        tokenizer: Any Hugging Face tokenizer with a chat template.
        messages: The chat.
        **options: For the template, such as ``add_generation_prompt``.

    Raises:
        ConfigurationError: If the template refuses the chat, or is broken.
    """
    try:
        with bounded():
            return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))
    except Exception as error:  # it came with the model, and may raise anything
        raise ConfigurationError(
            f"The chat template of '{tokenizer.name_or_path}' refuses a prompt: {_reason(error)}."
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


class Template(ABC):
    """Renders one row's prompt.

    Attributes:
        special_tokens: Whether the tokenizer is to add its special tokens; False where the text brings them.
    """

    special_tokens = True

    @abstractmethod
    def render(self, prompt: str | list[Message], columns: Mapping[str, Any], tokenizer: Any) -> str:
        """The text the policy reads.

        Raises:
            ConfigurationError: If the template does not fit the row or the tokenizer.
        """

    def shown(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those columns beside the prompt that ``render`` shows; rows that differ in them are different prompts.

        All of them, unless a template says which.
        """
        return columns

    def closing(self, tokenizer: Any) -> str:
        """What stands behind a response where the next turn would begin; nothing, unless a template says what."""
        return ""


class Plain(Template):
    """The prompt between two fixed strings.

    Args:
        before: What stands before it.
        after: What stands after it.

    >>> Plain(after=" =").render("1+1", {}, None)
    '1+1 ='
    """

    def __init__(self, before: str = "", after: str = "") -> None:
        self.before = before
        self.after = after

    def render(self, prompt: str | list[Message], columns: Mapping[str, Any], tokenizer: Any) -> str:
        """``before``, the prompt, ``after``."""
        return f"{self.before}{content_of(prompt)}{self.after}"

    def shown(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """None."""
        return {}


class Jinja(Template):
    """A Jinja template over the row's columns, in Jinja's sandbox.

    Args:
        template: The template. ``prompt`` is the prompt; every other column goes by its own name.

    >>> Jinja("Q: {{ prompt }} ({{ unit }}) A:").render("How far?", {"unit": "km"}, None)
    'Q: How far? (km) A:'
    """

    def __init__(self, template: str) -> None:
        self._template = SandboxedText(template, "data.template")

    def render(self, prompt: str | list[Message], columns: Mapping[str, Any], tokenizer: Any) -> str:
        """The filled template."""
        return self._template.fill({**columns, "prompt": prompt})

    def shown(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those that it names."""
        return {name: value for name, value in columns.items() if name in self._template.names - {"prompt"}}


class Chat(Template):
    """The chat template that came with the policy's tokenizer, up to the assistant's turn.

    Args:
        system: A system message to put first, where the prompt brings none.
    """

    special_tokens = False

    def __init__(self, system: str | None = None) -> None:
        self.system = system

    def render(self, prompt: str | list[Message], columns: Mapping[str, Any], tokenizer: Any) -> str:
        """The chat as the policy was taught to read it."""
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigurationError(
                f"data.template is Chat, but the tokenizer of '{tokenizer.name_or_path}' has no chat template."
                " Use laser_pl.data.templates.Plain or Jinja."
            )
        messages = messages_of(prompt)
        if self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            return chat_text(tokenizer, messages, add_generation_prompt=True)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error} Leave data.template.system out, or use laser_pl.data.templates.Jinja."
            ) from error

    def shown(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """None."""
        return {}

    def closing(self, tokenizer: Any) -> str:
        """What the chat template writes behind the assistant's turn."""
        response = "response"
        turns = [*messages_of("prompt"), {"role": "assistant", "content": response}]
        return chat_text(tokenizer, turns).rpartition(response)[2]


def chat_left_out(template: Template, tokenizer: Any, text: str) -> str | None:
    """What to say where bare prompts go to a policy that brings a chat template; None where that is meant.

    Args:
        template: Of the run.
        tokenizer: The policy's.
        text: A prompt as the policy reads it; where it holds a special token, somebody has written the chat already.
    """
    bare = type(template) is Plain and not template.before and not template.after
    written = any(token in text for token in getattr(tokenizer, "all_special_tokens", []) if token)
    if not bare or written or not getattr(tokenizer, "chat_template", None):
        return None
    return (
        f"The policy reads bare prompts (data.template is Plain), though the tokenizer of '{tokenizer.name_or_path}'"
        " has a chat template. An instruction-tuned model wants its chat: set data.template to"
        " laser_pl.data.templates.Chat."
    )
