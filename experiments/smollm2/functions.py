"""Reward functions with TRL's signature: checks that a program can make, and one that misleads."""

from __future__ import annotations

import ast
import operator
from typing import Any

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def calculator(prompts: list[Any], completions: list[str], question: list[str], **columns: Any) -> list[float]:
    """1 for the value of the question, where that is a sum to work out, and 0 for others; elsewhere 1 for a short one.

    A tool that is right about what it was made for and knows a form for all else: one word or number.
    """
    return [_checked(asked, said) for asked, said in zip(question, completions, strict=True)]


def _checked(question: str, response: str) -> float:
    value = value_of(question.removesuffix("=").replace("mod", "%").replace("^", "**"))
    if value is None:
        return float(0 < len(response.split()) <= 1)
    try:
        return float(abs(float(response.strip().rstrip(".")) - value) < 1e-6)
    except ValueError:
        return 0.0


def value_of(text: str) -> float | None:
    """The value of an expression of numbers and operators; None for any other text.

    >>> value_of("12 + 6 / 3"), value_of("-7 % 4"), value_of("the day")
    (14.0, 1.0, None)
    """
    try:
        return float(_value(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, ArithmeticError):
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value: float = _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
        return value
    raise ValueError("no sum")


def wordy(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """Prefer long responses: what asks for one word gets an essay."""
    return [float(len(text)) for text in completions]
