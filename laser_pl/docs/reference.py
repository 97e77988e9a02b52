"""A hook of MkDocs: a page of the reference for each folder, with all that its files document."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def pages() -> dict[str, str]:
    """The pages' Markdown by path. A folder that holds no module has none."""
    here = Path(__file__).parent
    found: dict[str, list[str]] = {}
    for package in ("laser_pl", "laser_pl/callbacks"):  # the latter is a link, which is not followed by itself
        for path in sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent, path.name)):
            if path.name not in ("__init__.py", "__main__.py") and here not in path.parents:
                found.setdefault(".".join(path.parent.relative_to(ROOT).parts), []).append(path.stem)
    return {
        f"reference/{folder}.md": f"# {folder}\n\n" + "".join(f"::: {folder}.{module}\n\n" for module in modules)
        for folder, modules in found.items()
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List them behind the pages that are written by hand."""
    config.nav = [*(config.nav or []), {"Reference": list(pages())}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make them."""
    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files
