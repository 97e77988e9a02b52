"""Responses to a run's test prompts: its policy's after training or before, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.data.tables import Table
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampling import Sampling
from laser_pl.run.line_cache import Line, cached_lines, digest_of
from laser_pl.runtime.seeds import derive_seed
from laser_pl.winrate.finished_run import FinishedRun

Responses = dict[str, list[str]]
"""By prompt id; each prompt has as many."""


def responses_of(run: FinishedRun, sampled: bool, trained: bool = True) -> Responses:
    """What a run's policy answers to its test prompts, kept in the run's folder under ``responses/``.

    They are those whose accuracy the run's last test reports, from the same random numbers.

    Args:
        run: The run.
        sampled: As ``model.evaluation`` says, otherwise the greedy response alone.
        trained: By the policy as training left it; otherwise as it started.
    """
    policy = run.policy
    asked = policy.evaluation
    sampling = Sampling(n=1, temperature=0, max_new_tokens=asked.max_new_tokens, stop=asked.stop)
    if sampled:
        sampling = asked
    on_what = {
        "weights": run.config["model"]["weights"],
        "adapter": run.adapter_digest(trained),
        "precision": str(run.trainer.precision),
        "sampling": asdict(sampling),
        "seed": policy.seed,
        "batches": [[(prompt.id, prompt.text) for prompt in prompts] for prompts in run.batches],
    }
    kind = ("sampled" if sampled else "greedy") + ("" if trained else "-before")

    def answer(number: int, prompts: Sequence[Prompt]) -> tuple[list[Line], bool]:
        with run.answering(trained):
            batch = run.encoded[number].to(policy.device)
            seed = derive_seed(policy.seed, "evaluation", number)
            found = policy.engine.respond(batch, sampling, seed)
        finished = found.finished.tolist()
        return [
            {"prompt_id": prompt.id, "prompt": prompt.prompt, "responses": list(texts), "finished": ends}
            for prompt, texts, ends in zip(prompts, found.texts, finished, strict=True)
        ], True

    path = run.folder.path / "responses" / f"{kind}-{digest_of(on_what)}.jsonl"
    n = sampling.n
    lines = cached_lines(path, run.batches, answer, f"Responses of {run.folder.path.name}, {kind}", run.folder.path)
    for line in lines:
        texts = line.get("responses")
        if not isinstance(texts, list) or len(texts) != n or not all(isinstance(text, str) for text in texts):
            raise ConfigurationError(
                f"'{path}': the line of prompt '{line['prompt_id']}' holds no {n} responses. Delete the file, and they"
                " are made again."
            )
    return {line["prompt_id"]: line["responses"] for line in lines}


def responses_in(path: Path, prompts: Sequence[Prompt]) -> Responses:
    """Responses that somebody else made, from a JSONL file.

    Each line holds ``prompt_id``, or ``prompt`` as the data set has it; and ``responses``, or one ``response``. Lines
    about other prompts are left aside.

    Raises:
        ConfigurationError: If a prompt has no response in it, or a line cannot be understood.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no file '{path}'. Name a run's folder, or a .jsonl file of responses.")
    by_id: Responses = {}
    by_prompt: Responses = {}
    for number, row in enumerate(Table(str(path)).rows(), start=1):
        texts = row.get("responses", [row.get("response")])
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ConfigurationError(f"{path}, row {number}: give a response as a string, or responses as a list.")
        if "prompt_id" not in row and "prompt" not in row:
            raise ConfigurationError(
                f"{path}, row {number}: it does not say to which prompt. Give prompt_id or prompt."
            )
        if "prompt_id" in row:
            by_id[str(row["prompt_id"])] = texts
        else:
            by_prompt[_text(row["prompt"])] = texts
    found = {prompt.id: by_id.get(prompt.id) or by_prompt.get(_text(prompt.prompt)) for prompt in prompts}
    missing = [prompt for prompt in prompts if found[prompt.id] is None]
    if missing:
        raise ConfigurationError(
            f"'{path}' has no response to {len(missing)} of the {len(prompts)} test prompts, the first is"
            f" '{missing[0].id}': {_text(missing[0].prompt)[:80]}. Add them."
        )
    return {name: texts for name, texts in found.items() if texts is not None}


def _text(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False)
