"""The wheel, built from the sources and installed where nothing of the checkout is in sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "callbacks", "experiments", "laser_pl")


def of_no_wheel(folder: str, names: list[str]) -> list[str]:
    """Models, data and what Python and other tools leave behind."""
    suffixes = (".safetensors", ".json", ".jsonl", ".png", ".svg", ".gguf")
    return [name for name in names if name == "__pycache__" or name.endswith(suffixes)]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``pip wheel`` makes of a clone."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=of_no_wheel)
        else:
            shutil.copy(ROOT / name, clone / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=clone, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and shares all other packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [place for place in sys.path if Path(place).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared))
    return python


@pytest.fixture
def command(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the installed wheel in an empty folder: ``command("plan", ...)``."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [str(installed), "-m", "laser_pl", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run
