"""Formulas are compared by what they mean, in no time, and nothing of them is run."""

from __future__ import annotations

import importlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.matchers import Mathematical
from laser_pl.metrics.mathematics import is_tame

ROWS: list[tuple[str, str, bool]] = [
    (r"Final answer: $\frac{\sqrt{8}}{2}$", r"\sqrt{2}", True),
    (r"The answer is $\frac{1}{\sqrt{2}}$.", r"\frac{\sqrt{2}}{2}", True),
    (r"\boxed{x^2+2x+1}", "(x+1)^2", True),
    (r"\boxed{x^2+2x+1}", "(x+1)^3", False),
    (r"\boxed{a+b}", "b+a", True),
    (r"\boxed{ab}", "a+b", False),
    (r"So $x = \boxed{5}$", "5", True),
    ("Final answer: $x=5$", "5", True),
    (r"\boxed{2x+3}", "y=2x+3", True),
    (r"\boxed{y = 2x + 3}", "y=2x+3", True),
    (r"\boxed{y = 2x + 4}", "y=2x+3", False),
    (r"\boxed{(1,2)}", "(1,2)", True),
    (r"\boxed{(2,1)}", "(1,2)", False),
    (r"\boxed{[1,2)}", "[1,2)", True),
    (r"\boxed{[1,2)}", "(1,2)", False),
    (r"\boxed{\{1,2\}}", r"\{2,1\}", True),
    (r"\boxed{\{1,3\}}", r"\{2,1\}", False),
    (r"\boxed{x \in (-\infty, 3]}", r"(-\infty,3]", True),
    (r"\boxed{x \leq 3}", r"x \le 3", True),
    (r"\boxed{x < 3}", r"x \le 3", False),
    (r"\boxed{2\pi}", r"2\pi", True),
    (r"\boxed{2\pi}", r"\pi", False),
    (r"\boxed{2\pi}", "2", False),
    (r"\boxed{\frac{\pi}{2}}", r"\pi/2", True),
    (r"\boxed{\infty}", r"\infty", True),
    (r"\boxed{-\infty}", r"\infty", False),
    (r"\boxed{3 + 2i}", "3+2i", True),
    (r"\boxed{3 - 2i}", "3+2i", False),
    (r"\boxed{\log_2 8}", "3", True),
    (r"\boxed{\log_2 8}", "8", False),
    (r"\boxed{1.414214}", r"\sqrt{2}", False),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", False),
    (r"\boxed{\text{even}}", r"\text{even}", True),
    (r"\boxed{\text{odd}}", r"\text{even}", False),
    (r"\boxed{3:2}", "3:2", True),
    (r"\boxed{(x+1)^2}. I hope it is correct.", "x^2+2x+1", True),
    ("Final answer: $(x+1)^2$\n\nQuestion: And $x^3$?\nFinal answer: $x^3$", "x^2+2x+1", True),
    # several are one answer together, and what is denied is none
    ("Final answer: $2$ or $3$", "$2$", False),
    (r"Final answer: $\sqrt{2}$ or $\sqrt{3}$ or $\pi$", r"$\sqrt{2}$", False),
    (r"Final answer: not $\sqrt{2}$ but $\sqrt{3}$", r"\sqrt{2}", False),
    (r"Final answer: not $\sqrt{2}$ but $\sqrt{3}$", r"\sqrt{3}", True),
    (r"Final answer: $\sqrt{2}$", r"$\sqrt{2}$ and $-\sqrt{2}$", False),
    (r"Final answer: $-\sqrt{2}$ and $\sqrt{2}$", r"$\sqrt{2}$ and $-\sqrt{2}$", True),
    ("Final answer: $(1,2)$ and $(3,4)$", "$(1,2)$", False),
    ("Final answer: $(1,2)$ and $(3,4)$", "$(1,2)$, $(3,4)$", True),
    (r"Final answer: $9\pi$ where $r=3$", r"9\pi", True),
    (r"Final answer: $$\sqrt{2}$$", r"$\sqrt{2}$", True),
    ("I don't know", "x", False),
    ("", "x", False),
    # plain numbers are read as Number reads them
    ("Final answer: 0.5", r"\frac{1}{2}", True),
    (r"\boxed{11.5}", r"\frac{23}{2}", True),
    (r"\boxed{0.333333}", r"\frac{1}{3}", False),
    (r"\boxed{5\text{ cm}}", "5", True),
    (r"\boxed{50\%}", "0.5", True),
    (r"\boxed{2^{10}}", "1024", True),
]


@pytest.mark.parametrize(("response", "answer", "truth"), ROWS)
def test_matches(response: str, answer: str, truth: bool) -> None:
    assert Mathematical().matches(response, answer) is truth


HOSTILE = ["10^{10^{10}}", "10^10^10", "9999999999!", "(x+y+z+w)^{99999}", r"\sum_{n=1}^{10^9} n", r"\int_0^1 x^x dx",
           "(x+1)^{19}(y+1)^{19}", "2^{(9^9)}", "x^{99999999y}", "((((((((((" * 40, "{" * 200, r"\frac" * 50,
           r"\binom{10^9}{5}", "1" * 300, "+".join("abcdefghijklmnopqrstuvwxyz" * 5)]  # fmt: skip


@pytest.mark.parametrize("formula", HOSTILE, ids=[formula[:12] for formula in HOSTILE])
def test_no_formula_takes_long(formula: str) -> None:
    matcher = Mathematical()
    assert matcher.matches(rf"\boxed{{{formula}}}", formula) or "{{" in formula  # which nothing closes
    started = time.process_time()
    assert not matcher.matches(rf"\boxed{{{formula}}}", r"7\sqrt{5}")
    assert not matcher.matches(r"\boxed{7\sqrt{5}}", formula)
    assert time.process_time() - started < 5


def test_what_is_tame() -> None:
    assert all(is_tame(formula) for formula in ("x^2+1", "x^{20}", r"\frac{x^{-3}}{2}", "x^n", ""))
    assert not any(is_tame(formula) for formula in ("x^{21}", "x^{2^2}", "x^{10}y^{11}", "5!", "x" * 301))


def test_nothing_of_a_response_is_run(tmp_path: Path) -> None:
    for text in (f"__import__('pathlib').Path('{tmp_path}/run').touch()", f"open('{tmp_path}/run', 'w')"):
        for form in (r"\boxed{%s}", "Final answer: %s", "Final answer: $%s$"):
            Mathematical().matches(form % text, "x+1")
    assert list(tmp_path.iterdir()) == []


def test_it_works_in_a_thread() -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(Mathematical().matches(r"\boxed{x+x}", "2x")))
    thread.start()
    thread.join()
    assert found == [True]


def test_what_is_said_is_counted_alike() -> None:
    said = {
        Mathematical().parsed_answer(text, Prompt("p", "?", "?")) for text in (r"\boxed{x+1}", "Final answer: $x+1$.")
    }
    assert said == {"x+1"}
    assert Mathematical().parsed_answer("Final answer: 0", Prompt("p", "?", "?")) == 0


def test_a_missing_package_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ConfigurationError, match=r"needs the package math-verify\. Install it by: pip install 'laser"):
        Mathematical()
