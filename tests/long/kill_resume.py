"""Kill a run at random times, resume it, kill it again, until it has ended: does it end as if nothing had happened?

A small fit of the quickstart is done once without interruption. Then others are killed (SIGKILL) at times drawn
uniformly over its length, counted from the end of the imports, and continued with --resume, until the asked number of
kills is reached and all have ended. What each leaves behind (adapter, optimizer, bandit, decisions,
metrics, summary) is compared with the first, bit by bit. Just before the kill the process writes down where it is.

Run:  python tests/long/kill_resume.py --kills 50
Cost: 2 CPU cores, a few seconds a kill. It ends with code 1 if anything differs or a run could not be resumed.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from results import command_of, parser_of, write_section

from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVER = multiprocessing.get_context("forkserver")  # it has imported what a run needs when the run begins
SERVER.set_forkserver_preload(["laser_pl.commands.cli", "peft"])
MOMENTS = [  # the first that is found in the stack: file, function
    ("writing a checkpoint", "run_checkpoint.py", "save"),
    ("writing rollouts", "rollout_store.py", "write"),
    ("sampling rollouts", "rollouts.py", "make"),
    ("validation and test", "answering.py", "_count"),
    ("scoring", "pool.py", "ask"),
    ("training step", "policy.py", "training_step"),
    ("choosing and learning", "selector.py", ""),
    ("writing records", "run_record.py", ""),
    ("writing metrics", "metrics_file.py", ""),
    ("backward and optimizer", "automatic.py", "run"),
    ("set-up, resuming and in between", "", ""),
]


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        moments: Where it was when it was killed.
        digests: Of what it left behind, by part; empty if it could not be resumed.
        trouble: What it said if it could not.
        length: Seconds from the end of the imports that it took; None if it was killed.
    """

    moments: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    length: float | None = None


def command(runs_dir: Path) -> list[str]:
    """A fit of two iterations of ten batches, with much of what Lightning lets people set.

    Dropout, several chunks of rollouts, two batches to a step, validation every five batches, a schedule and an end by
    what is measured there, and two loggers beside the run's own.
    """
    measured = {"monitor": "validation/accuracy/sampled/average", "mode": "max"}
    stop = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {**measured, "patience": 3}}
    loggers = [{"class_path": f"lightning.pytorch.loggers.{name}", "init_args": {"save_dir": str(runs_dir / "logs")}}
               for name in ("TensorBoardLogger", "CSVLogger")]  # fmt: skip
    return [
        "fit", "--config", "experiments/quickstart.yaml", "--config", "experiments/quickstart/per_prompt.yaml",
        "--config", "experiments/presets/cooling.yaml", "--name", "killed", f"--runs_dir={runs_dir}",
        "--trainer.max_epochs=2", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1",
        "--data.prompts_per_iteration=80", "--data.batch_size=8", "--data.rollout_batch_size=20",
        "--model.lora.dropout=0.1", "--checkpoint_every=3", "--keep_iterations=1",
        "--lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--lr_scheduler.patience=0",
        *(f"--lr_scheduler.{name}={value}" for name, value in measured.items()),
        "--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=5",
        f"--trainer.callbacks+={json.dumps(stop)}", f"--trainer.logger={json.dumps(loggers)}",
    ]  # fmt: skip


def start(runs_dir: Path, resume: bool) -> BaseProcess:
    """Begin the fit, or go on with it."""
    (runs_dir / "trace").unlink(missing_ok=True)
    process = SERVER.Process(target=fit, args=(runs_dir, [*command(runs_dir), *(["--resume"] if resume else [])]))
    process.start()
    return process


def fit(runs_dir: Path, words: list[str]) -> None:
    """The run in its process: the trace is there when it begins, and what it says is in ``said``."""
    for path, stream in ((Path(os.devnull), 1), (runs_dir / "said", 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    os.chdir(ROOT)
    from laser_pl.commands.cli import main

    trace = (runs_dir / "trace").open("w", encoding="utf-8")
    faulthandler.register(signal.SIGUSR2, trace, all_threads=False)
    main(words)


def wait_for(path: Path, process: BaseProcess) -> None:
    """Until the path is there or the process is not."""
    while not path.exists() and process.is_alive():
        time.sleep(0.01)


def moment(trace: str) -> str:
    """Where a process was.

    Args:
        trace: What ``faulthandler`` wrote: one line for each frame.

    >>> moment('File "/x/laser_pl/rewards/pool.py", line 85 in ask')
    'scoring'
    """
    frames = re.findall(r'([^/"]+\.py)", line \d+ in (\S+)', trace)
    for name, file, function in MOMENTS:
        if any(file in ("", f) and function in ("", g) for f, g in frames):
            return name
    return MOMENTS[-1][0]


def result_of(process: BaseProcess, folder: RunFolder, outcome: Outcome) -> Outcome:
    """What it left behind when it ended, be it that it was killed after that."""
    process.join()
    if folder.summary.exists():
        outcome.digests = {part: digest(state) for part, state in run_state(folder).items()}
    else:
        said = (folder.path.parent / "said").read_text(encoding="utf-8").strip()
        outcome.trouble = said.splitlines()[-1] if said else f"exit code {process.exitcode}"
    return outcome


def killed(out: Path, kills: int, length: float, seed: int) -> Outcome:
    """A run that is killed so often; fewer times if it ends before.

    Args:
        out: A folder for it.
        kills: How often at most.
        length: Seconds within which it is killed, counted from the end of its imports.
        seed: Of the times.
    """
    out.mkdir()
    times, outcome, folder = random.Random(seed), Outcome(), RunFolder(out / "killed")
    while True:
        begun = folder.config.exists()
        if not begun:  # killed between the folder and its first file
            shutil.rmtree(folder.path, ignore_errors=True)
        process = start(out, resume=begun)
        wait_for(out / "trace", process)
        since = time.monotonic()
        process.join(times.uniform(0, length) if len(outcome.moments) < kills else None)
        if not process.is_alive():
            outcome.length = None if outcome.moments else time.monotonic() - since
            return result_of(process, folder, outcome)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGUSR2)
        time.sleep(0.02)
        process.kill()
        outcome.moments.append(moment((out / "trace").read_text(encoding="utf-8")))
        if folder.summary.exists():
            return result_of(process, folder, outcome)
        process.join()


def table(outcomes: list[Outcome], whole: Outcome) -> list[str]:
    """Kills by moment, and how many were in runs that ended differently."""
    hit: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for outcome in outcomes:
        hit.update(outcome.moments)
        if outcome.digests != whole.digests:
            bad.update(outcome.moments)
    lines = ["| killed while | kills | in runs that ended differently |", "|---|---|---|"]
    lines += [f"| {name} | {hit[name]} | {bad[name]} |" for name, *_ in MOMENTS if hit[name]]
    return [*lines, f"| all | {hit.total()} | {bad.total()} |"]


def main(arguments: list[str] | None = None) -> None:
    """Do it and write it down."""
    parser = parser_of(__doc__, HERE / "RESULTS.md")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=4, help="kills of one run at most")
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = killed(Path(scratch, "whole"), kills=0, length=0.0, seed=options.seed)
        if whole.trouble or whole.length is None:
            raise SystemExit(f"The undisturbed run failed: {whole.trouble}")
        length = whole.length
        while (left := options.kills - sum(len(outcome.moments) for outcome in outcomes)) > 0:
            shares = [min(options.each, left - begun) for begun in range(0, left, options.each)][: options.workers]
            first = len(outcomes)
            jobs = [(Path(scratch, str(first + n)), share, length, options.seed + first + n)
                    for n, share in enumerate(shares)]  # fmt: skip
            with ThreadPoolExecutor(len(jobs)) as pool:
                outcomes += pool.map(lambda job: killed(*job), jobs)
            for outcome in outcomes[first:]:
                print(f"{', '.join(outcome.moments)}: {outcome.trouble or 'ended'}", flush=True)
                length = outcome.length or length  # the machine may have less to do than when it was measured
    lines = table(outcomes, whole)
    trouble = [outcome.trouble for outcome in outcomes if outcome.trouble]
    different = sorted({p for o in outcomes if o.digests for p in whole.digests if o.digests[p] != whole.digests[p]})
    text = [
        "## Killed and resumed", "",
        f"{len(outcomes)} runs, killed at random times and resumed until they ended; {len(trouble)} could not be"
        f" resumed; parts that differ from the undisturbed run: {', '.join(different) or 'none'}.", "",
        *lines, "",
        f"`{command_of('kill_resume', arguments, 'tests/long')}`, Python"
        f" {platform.python_version()}, torch {version('torch')}, lightning {version('lightning')}.",
    ]  # fmt: skip
    write_section(options.results, "kill_resume", "\n".join(text))
    print("\n".join([*lines, *trouble]))
    if trouble or different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
