r"""Whether two formulas are equal, by the package ``math-verify``."""

from __future__ import annotations

import importlib
import logging
import re

from laser_pl.errors import ConfigurationError

_LONGEST = 300
"""Characters of a formula that is compared."""
_LARGEST = 20
"""Of its powers, taken together, and of what a factorial or the like is taken of."""
_DIGITS = 15
# Working these out may take for ever, whatever stands in them.
_UNBOUNDED = re.compile(
    r"\\(?:i+nt|sum|prod|lim|binom|[dt]binom|underset|overset|substack|bmod|pmod|gcd|lcm)(?![a-z])|!"
)
_POWER = re.compile(r"(?:\^|\*\*)\s*(?:\{([^{}]*)\}|(\\?\w|[-+(]))")
_DECIMALS = 12
"""Digits behind the point in which numbers that are not rational must agree."""


def load_math_verify() -> None:
    """See that the package is there; it takes a second.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        importlib.import_module("math_verify")
    except ImportError as error:
        raise ConfigurationError(
            "laser_pl.metrics.matchers.Mathematical needs the package math-verify. Install it by: pip install"
            " 'laser_pl[math]'."
        ) from error
    # It warns that it has no time limit. Its limit is an alarm signal, which works in no thread but the first.
    logging.getLogger("math_verify").setLevel(logging.ERROR)


def equal(formula: str, reference: str) -> bool:
    r"""Whether two formulas in LaTeX are equal; one that could take long to compare is equal to nothing.

    >>> load_math_verify()
    >>> equal("(x+1)^2", "x^2+2x+1"), equal(r"\sqrt{8}", r"2\sqrt{2}"), equal("x+1", "x+2"), equal("9^{9^{9}}", "1")
    (True, True, False, False)
    """
    import math_verify

    if not (is_tame(formula) and is_tame(reference)):
        return False
    as_latex = [math_verify.LatexExtractionConfig()]  # the other kind is read by sympy's parser, which runs code
    ours, theirs = (
        math_verify.parse(f"${text}$", as_latex, fallback_mode="no_fallback", parsing_timeout=None)
        for text in (formula, reference)
    )
    return bool(ours and theirs and math_verify.verify(theirs, ours, float_rounding=_DECIMALS, timeout_seconds=None))


def is_tame(formula: str) -> bool:
    """Whether a formula can be worked out in no time: short, with small powers and no sums, limits or factorials."""
    if len(formula) > _LONGEST or _UNBOUNDED.search(formula) or re.search(rf"\d{{{_DIGITS + 1}}}", formula):
        return False
    total = 0.0
    for power in _POWER.finditer(formula):
        exponent = power[1] if power[1] is not None else power[2]
        if "^" in exponent or exponent in {"-", "+", "("}:
            return False
        digits = re.fullmatch(r"\s*[-+]?\s*(\d+)\s*", exponent)
        total += int(digits[1]) if digits else 1
    return total <= _LARGEST and formula.count("^") == len(_POWER.findall(formula))
