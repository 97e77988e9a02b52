"""What came of every fit so far: a file that is handed on, so that no fit is run twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jobs import Job, Outcome


class Fits:
    """The results of fits, each a line of a file as soon as it is known.

    Args:
        path: The JSON lines; it need not be there.

    Attributes:
        known: Results by fit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        read = [json.loads(line) for line in lines]
        self.known = {Job(**line["fit"]): Outcome(**line["outcome"]) for line in read}

    def add(self, job: Job, outcome: Outcome) -> None:
        """One more."""
        self.known[job] = outcome
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'fit': asdict(job), 'outcome': asdict(outcome)})}\n")
