"""Works rows off, one after the other, in a process that may be killed: calls come in, findings go out, a line each."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from card import Card, Finding, LeftOut
from sizes import FULL, SMALL, Sizes

from laser_pl.runtime.noise import quieten


def main(device: str, size: str) -> None:
    """Say what the device is, then answer calls of rows with what they find, until none comes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    quieten()
    card, sizes = Card(device), {each.name: each for each in (FULL, SMALL)}[size]

    def say(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    say(device=card.name, card=card.is_cuda, versions=card.versions, sizes=sizes.as_dict())
    for line in sys.stdin:
        print(f"-- {line.strip()}", file=sys.stderr, flush=True)
        say(**answer(line.strip(), card, sizes))


def answer(call: str, card: Card, sizes: Sizes) -> dict[str, Any]:
    """What a row finds, or how it fails; memory is given back in either case."""
    began = time.perf_counter()
    try:
        module, name = call.split(":")
        found = getattr(importlib.import_module(module), name)(card, sizes)
        holds = {True: "yes", False: "no", None: ""}[found.holds]
    except LeftOut as reason:
        found, holds = Finding(str(reason)), "left out"
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        found, holds = Finding(one_line(error)), "error"
    seconds = time.perf_counter() - began
    sick = False
    try:
        card.free()
        card.wait()
    except torch.AcceleratorError:  # an earlier kernel's fault, which stays until the process ends
        sick = True
    return {"holds": holds, "text": found.text, "numbers": found.numbers, "seconds": seconds, "sick": sick}


def one_line(error: BaseException) -> str:
    """An error and where it came from, for a row of a table."""
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{where}"
