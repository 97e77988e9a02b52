"""A run's page: from records of every kind, with whatever a model may have written in them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.report.command import main
from laser_pl.report.records import RunRecords
from laser_pl.report.sample import sample_of
from laser_pl.report.text import line as line_of
from laser_pl.report.text import visible
from laser_pl.run.folder import RunFolder

HOSTILE = (
    "</div><script>document.title = 'owned'</script>\x1b[31m\x00 \u202eevil\u2066 \ud800<img src=x onerror=alert(1)>"
)
LONG = "x" * 100_000
ODD = "[b]<i>&{{ 7 * 7 }}\u202e"
VOID = {"meta", "link", "img", "input", "br"}


@dataclass
class Element:
    """A node of the page."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def __iter__(self) -> Any:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child

    def all(self, tag: str, class_: str = "") -> list[Element]:
        return [e for e in self if e.tag == tag and (not class_ or class_ in e.attributes.get("class", "").split())]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Page(HTMLParser):
    """Reads a page as a tree, and refuses tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("page", {})]
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert [element.tag for element in self.open] == ["page"]
        self.root = self.open[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def decision(step: int, arm: str, category: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "iteration": step // 4, "step": step, "prompt_ids": [f"p{step}", f"q{step}"], "category": category, "arm": arm,
        "passed_over": [], "mean": {"a": 0.1, ODD: 0.2}, "bonus": {"a": 0.3, ODD: 0.1}, "pairs": 2,
        "reward_model_seconds": 0.5, "reward_model_forwards": {arm: 6}, "loss": 0.7, "reward": {arm: 0.1}, **changes,
    }  # fmt: skip


def judged(step: int, arm: str, category: str, responses: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "iteration": step // 4, "step": step, "prompt_id": f"p{step}", "category": category, "prompt": HOSTILE,
        "answer": "7", "arm": arm, "responses": responses, "right": [False] * len(responses),
        "finished": [True, False, True], "lengths": [3, 4, 5],
        "scores": {arm: [0.5, 1.5, None], "other": [1.0, 2.0, 3.0]}, "pairs": [[1, 0]], **changes,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a run that was killed in its second iteration: ``run(name="run", summary=None)``."""

    def write(name: str = "run", summary: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {
            "trainer": {"max_epochs": 3},
            "selection": {"bandit": {"class_path": "laser_pl.bandits.LinUCB"}, "reward_models": {"a": 1, ODD: 2}},
            "note": "<script>alert('config')</script>",
        }
        written = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
        (folder / "config.yaml").write_text(written, encoding="utf-8")
        lines = [decision(step, ODD if step % 3 else "a", "sums" if step % 2 else ODD) for step in range(6)]
        (folder / "selection.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in lines) + '{"iteration": 1, "s'
        )
        examples = [
            judged(0, "a", "sums", [HOSTILE, LONG, "\n" * 500]),
            judged(5, ODD, ODD, ["1", "2", "3"], answer=None, right=None),
        ]
        (folder / "judged.jsonl").write_text("".join(json.dumps(one) + "\n" for one in examples))
        (folder / "metrics.csv").write_text(
            "epoch,step,train/loss,train/margin,test/accuracy/sampled/sums,test/accuracy/sampled/average\r\n"
            "0,0,,,0.25,0.5\r\n0,0,1.5,0.0,,\r\n0,1,1.25,0.5,,\r\n0,2,1.0"
        )
        if summary is not None:
            (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return write


def page_of(folder: Path, *args: str) -> Element:
    return Page(main([str(folder), *args])).root


def test_what_a_model_wrote_stays_text(run: Callable[..., Path]) -> None:
    page = page_of(run())
    (script,) = page.all("script")
    assert script.text.startswith('"use strict";')
    assert page.all("img") == []
    texts = [element.text for element in page.all("div", "text")]
    assert visible(HOSTILE) in texts
    assert visible(HOSTILE) == (
        "</div><script>document.title = 'owned'</script>␛[31m␀ ⟨U+202E⟩evil⟨U+2066⟩ \ufffd<img src=x onerror=alert(1)>"
    )
    assert "<script>alert('config')</script>" in page.all("pre")[0].text
    assert not any(name.startswith("on") for element in page for name in element.attributes)


def test_text_that_could_turn_its_surroundings_is_kept_apart(run: Callable[..., Path]) -> None:
    page = page_of(run())
    assert {element.attributes.get("dir") for element in page.all("div", "text")} == {"auto"}
    held = [
        element for tag in ("bdi", "div", "title", "option", "figcaption", "text", "pre") for element in page.all(tag)
    ]
    assert any(visible(ODD) in element.text for element in held)
    whole = "".join(element.text for element in page)
    assert not any(
        unicodedata.bidirectional(character) in {"RLO", "LRO", "RLE", "LRE", "RLI", "LRI", "FSI"} for character in whole
    )


def test_a_long_line_is_cut_and_says_so(run: Callable[..., Path]) -> None:
    folder = run()
    page = page_of(folder)
    (shown,) = [element.text for element in page.all("div", "text") if element.text.startswith("xxx")]
    assert len(shown) == 800
    assert "99,200 more characters, in judged.jsonl" in page.text
    assert (folder / "report.html").stat().st_size < 100_000


def test_names_are_no_markup_and_no_template(run: Callable[..., Path]) -> None:
    page = page_of(run())
    assert page.all("i", "swatch") == page.all("i")
    assert "49" not in [option.text for option in page.all("option")]
    assert [option.text for option in page.all("select")[1].all("option")] == ["all", "a", visible(ODD)]


def test_filters_know_every_example(run: Callable[..., Path]) -> None:
    page = page_of(run())
    examples = page.all("details", "example")
    assert len(examples) == 2
    for select in page.all("select"):
        values = {option.attributes["value"] for option in select.all("option")}
        name = select.attributes["name"]
        assert values == {"", *(example.attributes[f"data-{name}"] for example in examples)}
        for option in select.all("option")[1:]:
            own = [e for e in examples if e.attributes[f"data-{name}"] == option.attributes["value"]]
            if name in ("category", "arm"):
                chips = [[chip.text.strip() for chip in example.all("span", "chip")] for example in own]
                assert all(option.text in names for names in chips)
    assert page.all("output")[0].text == "2 of 2"


def test_responses_stand_by_score_with_what_was_said_of_them(run: Callable[..., Path]) -> None:
    first = page_of(run()).all("details", "example")[0]
    items = first.all("li")
    assert [item.attributes["class"] for item in items] == ["chosen", "rejected", ""]
    said = [" ".join(item.all("p", "said")[0].text.split()) for item in items]
    assert said == [
        "1.5 chosen ✗ wrong cut at the limit 4 tokens other 2",
        "0.5 rejected ✗ wrong 3 tokens other 1",
        "no score ✗ wrong 5 tokens other 3",
    ]


def test_the_page_needs_nothing_else(run: Callable[..., Path]) -> None:
    """No address in it leads anywhere else, and its policy lets nothing but its own script run."""
    folder = run()
    page = page_of(folder)
    assert not [e for e in page if "src" in e.attributes or e.tag in {"link", "iframe", "object", "base"}]
    targets = [e.attributes["href"] for e in page.all("a")]
    named = {e.attributes["id"] for e in page if "id" in e.attributes}
    assert targets
    assert {target.removeprefix("#") for target in targets} <= named
    style = page.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "Security" in e.attributes.get("http-equiv", "")]
    digest = base64.b64encode(hashlib.sha256(page.all("script")[0].text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_a_run_that_was_killed_is_shown_as_far_as_it_got(run: Callable[..., Path]) -> None:
    text = " ".join(page_of(run()).text.split())
    assert "not finished" in text
    assert "iteration 2 of 3, 6 steps" in text
    assert "1 of the 7 lines of selection.jsonl cannot be read. The rest is shown." in text
    assert "0.500 average test accuracy before training" in text
    assert "of its time only scoring is known so far" in text
    assert "3.0 s" in text  # six steps of half a second


def test_a_finished_run_shows_its_totals(run: Callable[..., Path]) -> None:
    summary = {"seconds": {"rollouts": 60.0, "total": 3600.0}, "reward_model_forwards": {"a": 1200, ODD: 34},
               "reward_model_forwards_avoided": 5, "labels_missing": {ODD: {"nan": 2}}, "steps_without_pairs": 1,
               "versions": {"torch": "<9>"}, "arm_share": {"sums": {"a": 1.0}}}  # fmt: skip
    text = " ".join(page_of(run(summary=summary)).text.split())
    for shown in (
        "3,600 s",
        "1,234 reward-model forwards, 5 avoided",
        "6 training steps, 1 without pairs",
        "torch <9>",
    ):
        assert shown in text
    assert f"{visible(ODD)} 2 nan" in text


def test_forwards_beyond_all_and_steps_that_were_not_finite_are_told(run: Callable[..., Path]) -> None:
    summary = {
        "reward_model_forwards": {"a": 50},
        "reward_model_forwards_avoided": -8,
        "steps": 7,
        "steps_not_finite": 2,
    }
    text = " ".join(page_of(run(summary=summary)).text.split())
    assert "50 reward-model forwards, 8 more than by asking every reward model once" in text
    assert "7 training steps, 2 not finite" in text


def test_a_supervised_run_has_steps_and_no_judges(run: Callable[..., Path]) -> None:
    folder = run()
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {**config, "model": {"objective": {"class_path": "laser_pl.objectives.Supervised"}}}, allow_unicode=True
        )
    )
    (folder / "selection.jsonl").unlink()
    (folder / "metrics.csv").write_text("epoch,step,train/loss\n0,0,1.5\n0,1,1.25\n1,2,1.0\n")
    text = " ".join(page_of(folder).text.split())
    assert "iteration 2 of 3, 3 steps; last record" in text
    assert "3 training steps" in text
    assert "LinUCB" not in text.partition("Worth a look")[0].partition("Numbers")[0]


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        ("0,0,0.25\n1,8,0.5\n", ["0.250", "0.500", "+0.250"]),
        ("0,0,0.25\n", ["0.250", "", ""]),
        ("1,8,0.5\n", ["", "0.500", ""]),  # the first was lost: what came last is not what was before
        ("0,0,0.25\n2,0,0.5\n", ["0.250", "0.500", "+0.250"]),  # no step trained anything
        ("0,0,0.25\n1,8,0.5\n1,8,0.75\n", ["0.250", "0.750", "+0.500"]),
    ],
)
def test_before_and_after_are_told_apart_by_when_they_were_measured(
    run: Callable[..., Path], rows: str, cells: list[str]
) -> None:
    folder = run()
    (folder / "metrics.csv").write_text(f"epoch,step,test/accuracy/sampled/average\n{rows}")
    (row,) = page_of(folder).all("tbody")[0].all("tr")
    assert [" ".join(cell.text.split()) for cell in row.all("td")] == cells


@pytest.mark.parametrize("summary", [{}, {"seconds": None, "versions": [1]}])
def test_another_versions_summary_is_no_obstacle(run: Callable[..., Path], summary: dict[str, Any]) -> None:
    assert "finished" in page_of(run(summary=summary)).text


@pytest.mark.parametrize("files", [(), ("metrics.csv",), ("selection.jsonl",), ("judged.jsonl",)])
def test_any_file_may_be_missing_empty_or_broken(run: Callable[..., Path], files: tuple[str, ...]) -> None:
    every = ("metrics.csv", "selection.jsonl", "judged.jsonl")
    folder = run("missing")
    for name in set(every) - set(files):
        (folder / name).unlink()
    page = page_of(folder)
    assert len(page.all("section")) >= 8
    assert bool(page.all("details", "example")) == ("judged.jsonl" in files)
    folder = run("broken")
    for name in set(every) - set(files):
        (folder / name).write_bytes(b"\x00\xff\n[]\n{}\nstep\n")
    (folder / "summary.json").write_text("{")
    assert "summary.json cannot be read" in page_of(folder).text


def test_agreement_is_shown_where_several_scored_and_otherwise_said_to_be_unknown(run: Callable[..., Path]) -> None:
    folder = run()
    lines = [judged(0, "a", "sums", ["x", "y", "z"], scores={"a": [1, 2, 3], ODD: [1, 3, 2]}, pairs=[])]
    (folder / "judged.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (section,) = [e for e in page_of(folder).all("section") if e.attributes["id"] == "agreement"]
    assert [value.text for value in section.all("text", "value")] == ["67", "67"]
    (folder / "judged.jsonl").unlink()
    (section,) = [e for e in page_of(folder).all("section") if e.attributes["id"] == "agreement"]
    assert "Not recorded" in section.text
    assert not section.all("svg")


def test_figures_are_named_for_those_who_cannot_see_them(run: Callable[..., Path]) -> None:
    pictures = page_of(run()).all("svg")
    assert len(pictures) >= 8
    assert all(e.attributes["role"] == "img" and e.attributes["aria-label"] for e in pictures)
    numbers = re.compile(r"nan|inf", re.IGNORECASE)
    assert not [e for e in (inner for p in pictures for inner in p) if numbers.search(e.attributes.get("d", ""))]


def test_what_is_no_run_or_cannot_be_written_is_told(tmp_path: Path, run: Callable[..., Path],
                                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    def told(folder: Path) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(folder)])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert told(tmp_path / "no") == f"laser_pl: '{tmp_path / 'no'}' is no run's folder: there is no config.yaml in it."
    folder = run()
    (folder / "report.html").mkdir()
    assert told(folder).startswith(f"laser_pl: Nothing can be written to '{folder}': ")
    (folder / "config.yaml").write_text("a: [")
    assert told(folder).startswith(f"laser_pl: {folder / 'config.yaml'} cannot be read (")


@given(st.text())
def test_visible_text_acts_on_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown
    assert {unicodedata.category(c) for c in shown if c not in "\n\t"}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})


def test_a_prompt_is_called_by_what_it_asks_and_not_by_the_template() -> None:
    lines = [judged(0, "a", "sums", ["x", "y", "z"], question="1+\x1b1?"), judged(1, "a", "sums", ["x", "y", "z"])]
    records = RunRecords(RunFolder(Path("none")), {"selection": {"reward_models": {"a": 1}}}, judged=lines)
    asked, older = sample_of(records).examples
    assert asked.name == "1+␛1?"
    assert asked.prompt == older.prompt  # as the policy read it
    assert older.name == line_of(HOSTILE, 80)
