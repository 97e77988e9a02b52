"""The manual as a site: it builds without a warning, has every public name, and asks for nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest
from griffe import Class, Function, Object
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built manual."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder),
               "--config-file", str(ROOT / "laser_pl/docs/mkdocs.yml")]  # fmt: skip
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not built.stdout + built.stderr
    return folder


def public(parent: Object) -> Iterator[Class | Function]:
    """Classes, functions and methods that are made in a package, but for the manual's own."""
    for member in parent.members.values():
        if member.is_alias or member.name.startswith("_") or member.path == "laser_pl.docs":
            continue
        if isinstance(member, Class | Function):
            yield member
        if isinstance(member, Object):
            yield from public(member)


@pytest.fixture(scope="module")
def documented() -> list[Class | Function]:
    """All that is public, read without importing it."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    return list(public(loader.load("laser_pl")))  # type: ignore[arg-type]


def test_every_public_name_has_a_docstring_and_a_place(site: Path, documented: list[Class | Function]) -> None:
    assert len(documented) > 500
    assert [member.path for member in documented if not member.has_docstring] == []
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    places = set(re.findall(r'id="([\w.]+)"', pages))
    assert [member.path for member in documented if member.path not in places] == []


def test_docstrings_name_every_argument_or_none(documented: list[Class | Function]) -> None:
    """A class that is made with arguments names all; a function may say in one sentence what it does with them."""
    lacking = []
    for member in documented:
        sections = member.docstring.parse("google", warnings=False) if member.docstring else []
        named = {
            item.name.lstrip("*")
            for section in sections
            if section.kind.value in ("parameters", "attributes")
            for item in section.value
        }
        own = "__init__" in member.members or "dataclass" in member.labels
        taken = [] if isinstance(member, Class) and not own else member.parameters
        arguments = {argument.name.lstrip("*") for argument in taken} - {"self", "cls"}
        hidden = {name for name in arguments if name.startswith("_")}
        if (named or isinstance(member, Class)) and arguments - named - hidden:
            lacking.append((member.path, arguments - named))
        if isinstance(member, Function) and named - arguments:
            lacking.append((member.path, named - arguments))
    assert lacking == []


def test_formulas_and_examples_are_set(site: Path) -> None:
    """Of docstrings and of pages."""
    bandits = (site / "reference/laser_pl.bandits.html").read_text(encoding="utf-8")
    learning = (site / "learning.html").read_text(encoding="utf-8")
    assert "<math " in bandits
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in learning
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    assert not [page for page in pages if ":math:" in page or "arithmatex" in page or "<blockquote>" in page]
    assert any('<span class="gp">&gt;&gt;&gt; </span>' in page for page in pages)


def test_no_page_leads_or_asks_elsewhere(site: Path) -> None:
    """The theme's own styles and scripts lie in the folder. A namespace is no address."""
    found = [
        (path.name, address)
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for address in re.findall(r'(?:src|href)="((?:https?:)?//[^"]+)|url\(["\']?(https?:[^)]+)', path.read_text())
    ]
    assert found == []
    assert len([*site.rglob("*.html")]) > 20


def test_a_browser_reads_it_from_disk(site: Path, browser: Browser) -> None:
    said: list[str] = []
    requested: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    for name in ("index", "results", "learning", "reference/laser_pl.bandits"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("h1").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()
    assert said == []
    assert requested
    assert not [url for url in requested if not url.startswith(site.as_uri())]
