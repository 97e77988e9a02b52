"""RESULTS.md has a section for every benchmark, and each script rewrites its own."""

from __future__ import annotations

import re
from pathlib import Path


def write_section(path: Path, name: str, text: str, introduction: str = "# Benchmarks\n") -> None:
    """Put a text between ``<!-- name -->`` and ``<!-- /name -->``, or at the end of the file if they are not in it.

    Args:
        path: The page.
        name: Of the section.
        text: Its Markdown.
        introduction: What a new page begins with.
    """
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->\n"
    page = path.read_text(encoding="utf-8") if path.exists() else introduction
    page, found = re.subn(f"<!-- {name} -->\n.*<!-- /{name} -->\n", lambda _: section, page, flags=re.DOTALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page if found else f"{page}\n{section}", encoding="utf-8")
