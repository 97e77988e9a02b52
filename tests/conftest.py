"""An environment that reaches no network, which tests are slow, and in which order they run."""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

# Before anything imports Hugging Face or W&B, which read these once. Child processes inherit them.
_HOME = tempfile.TemporaryDirectory(prefix="laser_pl_tests_", ignore_cleanup_errors=True)
os.environ |= {
    "HF_HOME": _HOME.name,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_DIR": _HOME.name,
    "TOKENIZERS_PARALLELISM": "false",
}

# Whoever imports it has another kind of device for good; the search for doctests imports everything.
collect_ignore = ["pretend_card.py"]
collect_ignore_glob = ["long/[!t]*.py"]  # scripts, which are started
if Version(version("transformers")) < Version("5.17"):  # the table of families is that of newer ones
    collect_ignore.append("test_causal_families.py")
if Version(version("torch")) < Version("2.7"):  # which shares no weights out, and is refused
    collect_ignore += [
        "runtime/test_sharding.py", "fit/test_sharded.py", "fit/test_sharded_served.py", "experiments/test_scale.py"
    ]  # fmt: skip
if Version(version("torch")) < Version("2.9"):  # which lets nobody register a device in Python
    collect_ignore.append("fit/test_pretend_card.py")


def pytest_configure(config: pytest.Config) -> None:
    """Import the fixtures, but not where tests are only handed to other processes: it takes ten seconds."""
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("tests.fixtures")


WHOLE_RUNS = {"fit", "fit_command", "browser", "benchmarks", "plug"}
"""Fixtures of tests that are slow."""
MODELS = {"llama_config", "causal_model", "policy_folder", "classifier_folders"}
"""Fixtures of tests that hold a model's weights."""
SLOW_FOLDERS = {"fit", "long", "experiments", "docs", "installed"}
"""Of whole runs, real processes and other people's builds; the other folders are the library's rooms."""
LONG_FILES = {"test_gpu_check", "test_types", "test_long_runs", "test_processes", "test_sharded", "test_site"}
"""Of few tests that take long each."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import slow folders where slow tests are left out."""
    own = collection_path.name in SLOW_FOLDERS and collection_path.parent == Path(__file__).parent
    return True if own and config.option.markexpr == "not slow" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``make test-fast`` leaves out: whole runs, models' weights, servers, processes, others' builds.

    Files that make models or servers of their own say so themselves.

    Long files come first, and then those with many of them, so that of several processes none is left with a long file
    at the end.
    """
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if item.path.parent.name in SLOW_FOLDERS or used & (WHOLE_RUNS | MODELS):
            item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path.stem not in LONG_FILES, -slow[item.path]))


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of collections of garbage, each of which takes a second with it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # collections of what is young cost a twentieth of a run
