"""A run's page in a real browser: it works, holds its own against what models write, and can be read."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from laser_pl.commands.cli import LaserCLI
from laser_pl.report.command import main

DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
HOSTILE = (
    "</div></summary><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    "<style>body{display:none}</style>\x1b[31m\x00\x07 \u202eevil\u2066\u200f\u2028\n{{ 7 * 7 }}"
)
LONG = "x" * 100_000


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of three steps, in which every reward model is asked on half of the prompts."""
    return [
        "--trainer.max_epochs=2", "--data.prompts_per_iteration=12", "--data.rollouts.n=4",
        "--selection.granularity=prompt", "--selection.bandit=laser_pl.bandits.Thompson",
        "--selection.signal=laser_pl.feedback.signals.Cooling", "--selection.signal.share=0.5",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(fit: Callable[..., LaserCLI], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run of the quickstart, with the page that ``fit`` has written."""
    return fit(tmp_path_factory.mktemp("finished")).folder.path


@pytest.fixture(scope="module")
def hostile(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, had everything that a model, a data set or its author may write been written to do harm."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("hostile") / "<script>&'\"\u202e")
    for name in ("judged.jsonl", "selection.jsonl"):
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for line in lines:
            line["category"] = {"sorting": HOSTILE, "addition": LONG}.get(line["category"], line["category"])
            if "responses" in line:
                texts = (HOSTILE, LONG, "\n" * 5_000, "\u05d0\u0628" * 300)
                line |= {"prompt": HOSTILE + LONG, "answer": HOSTILE, "responses": list(texts)}
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = folder / "config.yaml"
    config.write_text(f"{config.read_text()}\nnote: \"{LONG}</pre><script>document.title = 'owned'</script>\"\n")
    main([str(folder)])
    return folder


@dataclass
class Opened:
    """A page, and what the browser had to say of it."""

    page: Page
    said: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Open a run's page: ``opened(folder, viewport, color_scheme="light")``, all that folds opened."""
    contexts = []

    def open_page(folder: Path, viewport: ViewportSize = DESKTOP, **settings: Any) -> Opened:
        contexts.append(browser.new_context(viewport=viewport, **settings))
        page = contexts[-1].new_page()
        result = Opened(page)
        page.on("console", lambda message: result.said.append(message.text))
        page.on("pageerror", lambda error: result.said.append(str(error)))
        page.on("dialog", lambda dialog: (result.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: result.requested.append(request.url))
        page.on("requestfailed", lambda request: result.said.append(f"{request.url} failed"))
        page.goto((folder / "report.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((element) => element.open = true)")
        return result

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(params=["finished", "hostile"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Each of the two runs."""
    path: Path = request.getfixturevalue(request.param)
    return path


# -- it works ----------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_and_nothing_goes_wrong(opened: Callable[..., Opened], folder: Path) -> None:
    view = opened(folder)
    assert view.said == []
    assert view.requested == [(folder / "report.html").as_uri()]
    assert view.page.locator("svg").count() > 10


def test_filters_show_what_was_asked_for(opened: Callable[..., Opened], folder: Path) -> None:
    """By category, by judge and by both, counted by what the eye can see."""
    page = opened(folder).page
    shown = page.locator(".example:visible")
    whole = shown.count()
    assert whole == 24
    category, arm = page.get_by_label("Category"), page.get_by_label("Judged by")

    def chips(place: int) -> list[str]:
        return shown.locator(f"summary .chip:nth-child({place}) bdi").all_inner_texts()

    def choose(select: Any, label: str) -> int:
        select.select_option(label=label)
        count = shown.count()
        assert page.locator(".filters output").inner_text() == f"{count} of {whole}"
        return count

    arms, categories = sorted(set(chips(1))), sorted(set(chips(2)))
    assert len(arms) > 1
    assert len(categories) == 4
    assert sum(choose(arm, name) for name in arms) == whole
    assert set(chips(1)) == {arms[-1]}
    assert choose(arm, "all") == whole
    assert sum(choose(category, name) for name in categories) == whole
    assert set(chips(2)) == {categories[-1]}
    found = 0
    for one, other in itertools.product(categories, arms):
        category.select_option(label=one)
        found += choose(arm, other)
        assert (set(chips(1)), set(chips(2))) in (({other}, {one}), (set(), set()))
    assert found == whole


def test_what_a_model_wrote_runs_nothing_and_adds_nothing(opened: Callable[..., Opened], hostile: Path) -> None:
    view = opened(hostile)
    page = view.page
    assert view.said == []
    assert page.title() == "<script>&'\"⟨U+202E⟩"
    assert page.locator("script").count() == page.locator("style").count() == 1
    assert page.locator("img").count() == 0
    texts = page.locator(".text")
    assert texts.evaluate_all("elements => elements.filter(e => e.children.length).length") == 0
    written = texts.all_inner_texts()
    assert sum("<script>document.title = 'owned'</script><img src=x onerror" in text for text in written) == 2 * 24
    acting = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
    assert not [text for text in page.locator("body").all_inner_texts() if acting.search(text)]


def test_were_it_markup_it_still_could_not_run(opened: Callable[..., Opened], finished: Path, tmp_path: Path) -> None:
    """The page's policy is a second wall; and what these tests listen to does speak."""
    written = (finished / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(written.replace("<ol>", f"<ol>{HOSTILE}", 1), encoding="utf-8")
    view = opened(tmp_path)
    assert view.page.locator("script").count() == 2
    assert view.page.title() == "small"
    assert any("Content Security Policy" in said for said in view.said)
    assert any("x failed" in said for said in view.said)


def test_a_machine_without_a_browser_is_told_what_to_install(
    browser_on_path: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="Install the package 'chromium'"):
        browser_on_path()


# -- it can be read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_as_wide_as_the_screen(opened: Callable[..., Opened], folder: Path, viewport: ViewportSize) -> None:
    """Nothing in it sticks out, except inside a box that scrolls by itself."""
    page = opened(folder, viewport).page
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    outside = page.evaluate("""() => [...document.body.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5)
          && !element.parentElement.closest(".wide, .text, pre");
    }).map((element) => element.outerHTML.slice(0, 200))""")
    assert outside == []
    height = page.locator(".text").evaluate_all("elements => Math.max(...elements.map(e => e.clientHeight))")
    assert height < viewport["height"] / 2  # 5,000 empty lines scroll in a box of their own


def test_a_phone_shows_tables_whole_and_letters_large_enough(opened: Callable[..., Opened], finished: Path) -> None:
    """11 CSS pixels is what iOS gives its smallest text."""
    page = opened(finished, PHONE).page
    tables = page.locator(".wide")
    assert tables.count() == 2
    assert tables.evaluate_all("boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).length") == 0
    small = page.evaluate("""() => [...document.body.querySelectorAll("*")].filter((element) => {
        if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) return false;
        const svg = element.ownerSVGElement;
        if (["SCRIPT", "title"].includes(element.tagName)) return false;
        const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
        return parseFloat(getComputedStyle(element).fontSize) * scale < 11;
    }).map((element) => element.outerHTML)""")
    assert small == []


# What stands behind a text is the nearest background above it and all translucent ones on the way; in a picture, also
# the cell that the text stands on. https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio
CONTRASTS = """() => {
  const parsed = (color, opacity = 1) => {
    const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return [red, green, blue, alpha * opacity];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
  const light = (color) => color.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    if (element === null) return [255, 255, 255];
    const below = over(parsed(getComputedStyle(element).backgroundColor), behind(element.parentElement));
    const cell = element.matches(".value") ? getComputedStyle(element.previousElementSibling) : null;
    return cell ? over(parsed(cell.fill, Number(cell.fillOpacity)), below) : below;
  };
  const ratio = (color, below) => {
    const [low, high] = [light(over(color, below)), light(below)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = [...document.body.querySelectorAll("*")].filter((element) =>
    !["SCRIPT", "title"].includes(element.tagName)
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  const drawn = [...document.querySelectorAll(".line, .dot, .ring, .area, .swatch")];
  const found = (element, color, below) => [ratio(parsed(color), behind(below)), element.outerHTML.slice(0, 150)];
  return {
    texts: texts.map((e) => found(e, getComputedStyle(e)[e.ownerSVGElement ? "fill" : "color"], e)),
    drawn: drawn.map((e) => found(e, getComputedStyle(e).color, e.parentElement)),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_what_is_behind_them(
    opened: Callable[..., Opened], folder: Path, scheme: str
) -> None:
    """WCAG 2.1, level AA: 4.5 for text (1.4.3), 3 for what a picture is read by (1.4.11)."""
    page = opened(folder, color_scheme=scheme).page
    grounds = {"light": "rgb(246, 247, 249)", "dark": "rgb(20, 23, 27)"}
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[scheme]
    found = page.evaluate(CONTRASTS)
    assert len(found["texts"]) > 500
    assert len(found["drawn"]) > 50
    assert [(ratio, what) for ratio, what in found["texts"] if ratio < 4.5] == []
    assert [(ratio, what) for ratio, what in found["drawn"] if ratio < 3] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_colours_of_the_palette_stand_out(opened: Callable[..., Opened], finished: Path, scheme: str) -> None:
    """Also those that this run has too few reward models to need."""
    page = opened(finished, color_scheme=scheme).page
    page.evaluate("""document.querySelector(".legend").innerHTML =
        [0, 1, 2, 3, 4, 5, 6, 7].map((key) => `<li><i class="swatch c${key}"></i></li>`).join("")""")
    drawn = [(ratio, what) for ratio, what in page.evaluate(CONTRASTS)["drawn"] if "swatch" in what]
    assert {f"c{key}" for key in range(8)} <= {re.findall(r"swatch (c\d)", what)[0] for _, what in drawn}
    assert [(ratio, what) for ratio, what in drawn if ratio < 3] == []
