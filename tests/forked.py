"""Real processes of the command, forked from one that has imported it, which takes ten seconds: they begin at once."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["laser_pl.commands.cli", "laser_pl.__main__", "peft", "torch.distributed"])
SECONDS = 300
"""After which a process is killed."""


def _work(words: list[str], environment: dict[str, str], out: str, err: str) -> None:
    """What ``python -m laser_pl`` does with these words, in a child."""
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    from laser_pl import __main__ as program

    sys.argv = [str(program.__file__), *words]
    signal.alarm(SECONDS)
    try:
        program.run()
    finally:
        atexit._run_exitfuncs()


def forked(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin a function of a test's module in a process that has imported the command, and runs no threads."""
    process = _SERVER.Process(target=function, args=arguments)
    process.start()
    return process


def start(words: list[str], out: Path | str, err: Path | str, environment: Mapping[str, str]) -> BaseProcess:
    """Begin a command, whose streams go to files."""
    return forked(_work, words, dict(environment), str(out), str(err))


def run_process(words: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Do a command in a process of its own, whose output is no terminal."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(words, out, err, environment)
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, out.read_bytes(), err.read_bytes())


def run_processes(words: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """Do a command in several processes that find each other as torchrun's do; the code is the first one's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {
        "TORCHELASTIC_RUN_ID": "forked", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0",
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out, err = ([Path(folder, f"{stream}{rank}") for rank in range(processes)] for stream in ("out", "err"))
        started = [
            start(words, out[rank], err[rank], {**os.environ, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(processes)
        ]
        for process in started:
            process.join()
        code = started[0].exitcode
        assert code is not None
        printed, told = ("".join(path.read_text() for path in paths) for paths in (out, err))
    return subprocess.CompletedProcess(words, code, printed, told)
