"""Everything that should be looked at when a GPU is there, by one command that needs no decision once it runs.

    python experiments/gpu/check.py --minutes 9

Run it at the repository's root. It needs one CUDA card with 80 GB (the rows of 8B shape; --skip fast profile without
them 8 GB) and no network. All of it takes about a quarter of an hour on an H200; what --minutes leaves no time for is
measured by the next call. Models are random Llamas made on the card from a seed; what is
written (0.6 GB) goes to a temporary folder. It ends with a table, and writes check.json and RESULTS.md to --out.
What the parts mean to you with another card:
    starts    the packages you have work together, and the quickstart ends where it ends elsewhere
    right     log-probabilities, samples, memory budgets, quantised weights and resuming do what is promised
    fast      how much faster than plain `generate` and TRL it is there, and how far from what your card can do
    profile   where the card's time goes: kernels, and waiting for Python (a faster CPU or larger batches help)
Each row runs in a process that is killed after the row's limit, so a crash or a hang costs one row. Rows that were
measured on the same card with the same packages are kept (--again measures them anew); failed ones run once more.
Without a card, `--small` runs every row on tiny models in a minute or two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import Device, Measured, Record
from rich.console import Console
from rich.table import Table
from rows import PARTS, ROWS, Row, chosen

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START = 120.0
"""Seconds a process may take to import and to find the card."""


class Worker:
    """A process that works rows off.

    Args:
        device: Such as ``cuda``.
        size: Of the form.
        environment: Variables beside this process's.
        log: Where it writes what is no answer.

    Attributes:
        environment: The same.
    """

    def __init__(self, device: str, size: str, environment: Mapping[str, str], log: Any) -> None:
        self.environment = environment
        found = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
        own = {**os.environ, "PYTHONPATH": found}
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}
        begin = "import sys, worker; worker.main(*sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", begin, device, size], cwd=ROOT, env={**own, **offline, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
        )  # fmt: skip
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.put(line)
        self.lines.put(None)

    def answer(self, limit: float) -> dict[str, Any] | None:
        """Its next answer; None if it ended instead.

        Raises:
            queue.Empty: If none came in time.
        """
        line = self.lines.get(timeout=limit)
        return None if line is None else json.loads(line)

    def ask(self, row: Row) -> None:
        """Have it work a row off."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{row.call}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()


class Check:
    """One run of the check.

    Args:
        options: The command line.
        log: Where processes write what is no answer.
    """

    def __init__(self, options: argparse.Namespace, log: Any) -> None:
        self.options, self.log = options, log
        self.ends = time.monotonic() + 60 * options.minutes
        self.left = dict.fromkeys(PARTS, math.inf) if options.limit else dict(PARTS)
        self.record = Record(options.known or options.out / "check.json")
        self.device: Device | None = None
        self.worker: Worker | None = None
        self.commit = _commit()
        self.kept: set[str] = set()

    def run(self, rows: list[Row]) -> None:
        """Work the rows off that are not known."""
        console = Console(stderr=True)
        try:
            for row in rows:
                found = self._look(row)
                if self.device is None:
                    raise SystemExit(f"No process could start on '{self.options.device}': {found.text}")
                self.device.rows[row.name] = found
                self.record.write(self.options.out, ROWS)
                console.print(f"{row.part}: {row.name}: {found.holds or 'measured'}, {found.text}", markup=False)
        finally:
            self._end()

    def _look(self, row: Row) -> Measured:
        """One row: kept, worked off, or not reached."""
        if self.device is None and (failure := self._start(row)) is not None:
            return failure
        assert self.device is not None
        known = self.device.rows.get(row.name)
        if known is not None and known.stays and not self.options.again:
            self.kept.add(row.name)
            return known
        cost = row.cost if self.options.size == "full" else 1
        left = min(self.ends - time.monotonic(), self.left[row.part])
        if left < cost:
            reason = f"{max(left, 0):.0f} s were left, and it takes {cost}"
            return known or Measured("not reached", reason, commit=self.commit)
        if (failure := self._start(row)) is not None:
            return failure
        assert self.worker is not None
        limit, began = min(self.options.limit or row.limit, left), time.monotonic()
        self.worker.ask(row)
        try:
            answer = self.worker.answer(limit)
        except queue.Empty:
            self._end()
            return Measured("error", f"killed after {limit:.0f} s", seconds=limit, commit=self.commit)
        finally:
            self.left[row.part] -= time.monotonic() - began
        if answer is None:
            code = self.worker.process.wait()
            self._end()
            return Measured("error", f"its process ended with code {code}; the log says more", commit=self.commit)
        if answer.pop("sick"):
            self._end()
        return Measured(**answer, commit=self.commit)

    def _start(self, row: Row) -> Measured | None:
        """Have a process that suits the row; the failure if there is none."""
        environment = {} if self.options.device == "cpu" else row.environment  # which is for libraries of cards
        if self.worker is not None and self.worker.environment == environment:
            return None
        self._end()
        self.worker = Worker(self.options.device, self.options.size, environment, self.log)
        try:
            hello = self.worker.answer(START)
        except queue.Empty:
            hello = None
        if hello is None:
            self._end()
            return Measured("error", "no process started; the log says why", commit=self.commit)
        hello["name"] = hello.pop("device")
        self.device = self.record.of(Device(**hello))
        return None

    def _end(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None

    def table(self, rows: list[Row]) -> Table:
        """What was found, kept rows marked."""
        assert self.device is not None
        title = f"{self.device.name}, {self.options.size} form"
        table = Table("row", "found", "holds", "s", title=title, title_justify="left")
        part = ""
        for row in rows:
            if (found := self.device.rows.get(row.name)) is None:
                continue
            if row.part != part:
                table.add_section()
                part = row.part
            name = f"{row.part}: {row.name}" + (" (kept)" if row.name in self.kept else "")
            table.add_row(name, found.text, found.holds, f"{found.seconds:.1f}")
        return table


def _commit() -> str:
    """Of the code, where git knows it."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True,
                              check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()


def _default_device() -> str:
    """The card, where there is one; found out without the seconds that torch takes to import."""
    return "cuda" if Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia").exists() else "cpu"


def main(args: list[str] | None = None) -> int:
    """Check, print and write; 1 if something failed or does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts or rows")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="parts or rows")
    parser.add_argument("--small", dest="size", action="store_const", const="small", default="full", help="tiny models")
    parser.add_argument("--again", action="store_true", help="measure what is known as well")
    parser.add_argument("--device", default=_default_device(), help="such as cuda:0 or cpu")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of check.json, RESULTS.md and log.txt")
    parser.add_argument("--known", type=Path, help="JSON of an earlier check, if not that in --out")
    parser.add_argument("--limit", type=float, help="seconds of each row, instead of the limits of rows and parts")
    options = parser.parse_args(args)
    try:
        rows = chosen(options.only, options.skip)
    except ValueError as error:
        parser.error(str(error))
    if options.device == "cpu" and options.size == "full":
        parser.error("There is no card here, and on a CPU the full form would take days: add --small.")
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{len(rows)} rows, about {sum(row.cost for row in rows) / 60:.1f} minutes on an H200", file=sys.stderr)
    with (options.out / "log.txt").open("w", encoding="utf-8") as log:
        check = Check(options, log)
        check.run(rows)
    Console(width=None if sys.stdout.isatty() else 150).print(check.table(rows))
    assert check.device is not None
    return int(any(check.device.rows[row.name].holds in {"no", "error"} for row in rows))


if __name__ == "__main__":
    sys.exit(main())
