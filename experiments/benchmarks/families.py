"""Every family of causal language models that transformers has: how it is read and written, and how right that is.

A tiny model of each, with random weights, reads responses as training does and samples greedily as rollouts do; both
are compared with the model's own forward of each whole text alone. Then an adapter is trained a step, with all dropout
and router noise of the base turned on, and policy and reference are compared at the step's start. It says nothing of
speed.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/families.py
Cost: 1 CPU core, a few minutes, 1 GB. ``--families llama mamba`` tries only some.

It writes ``FAMILIES.md`` beside itself, or where --results says, and ends with exit code 1 if one of them ended in
anything but an answer or a sentence.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from results import command_of, parser_of

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.way import WAYS, way_of
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.logprobs.modes import evaluating
from laser_pl.models.language_model import Lora
from tests import causal_families

HERE = Path(__file__).resolve().parent
LENGTHS = (5, 11, 8, 5)
"""Tokens of the prompts; two are of one length, since some ways take only such together."""
RESPONSES, TOKENS = 2, 20
WORDS = (
    "shared, replayed",
    "shared",
    "cache repeated",
    "cache repeated",
    "read per response",
    "cache repeated, by length",
    "cache repeated, by length",
    "read per response, by length",
    "read per token",
)
"""What the page calls each of ``WAYS``."""


@dataclass(frozen=True)
class Found:
    """What came of one family in one element type.

    Attributes:
        read: How responses are read; the sentence where the family is refused.
        written: How they are sampled.
        nats: Largest difference of a response's log-probability from that of the text alone.
        gap: How far the likeliest logit lay above that of a token that was sampled greedily, at most.
        margin: Largest difference of a response's log-probability under the policy, in training mode, from that under
            the reference, in nats.
        failed: Whether it ended in neither an answer nor a sentence.
    """

    read: str
    written: str = ""
    nats: float = 0.0
    gap: float = 0.0
    margin: float = 0.0
    failed: bool = False


TOKENIZER = SimpleNamespace(
    pad_token_id=0,
    eos_token_id=1,
    get_vocab=lambda: {str(id_): id_ for id_ in range(causal_families.VOCABULARY)},
    decode=lambda ids, **kwargs: "",
)
"""What sampling needs of one."""


def prompts() -> PromptBatch:
    """Four prompts of random ids, padded on the left."""
    width = max(LENGTHS)
    mask = (torch.arange(width) >= width - torch.tensor(LENGTHS)[:, None]).long()
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, causal_families.VOCABULARY - 1, mask.shape, generator=generator) * mask
    return PromptBatch(tuple(Prompt(str(row), "", "") for row in range(len(LENGTHS))), tokens, mask)


@torch.no_grad()
def alone(model: Any, prompt: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Logits of a response's tokens by a plain forward of its text, in float32. Shape ``(T, V)``."""
    whole = torch.cat([prompt, response])[None]
    return model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 : -1].float()


def tried(family: str, dtype: torch.dtype) -> Found:
    """Read and write with one model, and compare."""
    batch = prompts()
    try:
        model = causal_families.make(family, dtype, **causal_families.drawing(family))
        logprob_model, way = LogprobModel(model, 1000), way_of(model)
        greedy = Sampling(n=RESPONSES, temperature=0, max_new_tokens=TOKENS)
        responses = sample_responses(model, TOKENIZER, batch, greedy, seed=0)
        of = torch.arange(len(LENGTHS)).repeat_interleave(RESPONSES)
        tokens, mask = responses.tokens.flatten(0, 1), responses.mask.flatten(0, 1)
        responses = ResponseBatch(batch, of, tokens, mask)
        logprobs = logprob_model.all_logprobs(responses)
        nats = gap = 0.0
        for row, prompt in enumerate(of.tolist()):
            own = tokens[row][mask[row].bool()]
            logits = alone(model, batch.tokens[prompt][batch.mask[prompt].bool()], own)
            said = logits.gather(1, own[:, None])[:, 0]
            nats = max(nats, float((said - logits.logsumexp(-1)).sum().sub(logprobs[row]).abs()))
            logits[:, 0] = -torch.inf  # padding is never sampled
            gap = max(gap, float((logits.amax(-1) - said).max()))
        margin = stepped(model, responses)
    except ConfigurationError as error:
        return Found(f"refused: {error}")
    except Exception as error:  # is what this page is to find
        return Found(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", failed=True)
    return Found(
        "shared" if logprob_model.shares else "each with its prompt", WORDS[WAYS.index(way)], nats, gap, margin
    )


def stepped(model: Any, responses: ResponseBatch) -> float:
    """Differentiate the responses' log-probabilities as a step does, the policy in training mode.

    Returns:
        How far they were from the reference's, which the same model gave in evaluation mode.

    Raises:
        ArithmeticError: If no gradient reaches the adapter, or one that is not finite.
    """
    policy = Lora(dropout=0.0, targets="all-linear").wrap(model)
    logprob_model = LogprobModel(policy, 1000)
    with evaluating(policy):
        reference = logprob_model.all_logprobs(responses)
    margin = 0.0
    for group in logprob_model.groups(responses):
        found = logprob_model.group_logprobs(responses, group, recompute=False)
        found.sum().backward()
        rows = [row for part in group for row in part]
        margin = max(margin, float((found.detach() - reference[rows]).abs().max()))
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    if not gradients or not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise ArithmeticError("no gradient, or one that is not finite, reached the adapter")
    return margin


def page(found: dict[str, dict[str, Found]], command: str) -> str:
    """The table, and how many families there are of each kind."""
    lines = [
        "# Families",
        "",
        f"Tiny models of {len(found)} families with random weights, transformers {transformers.__version__}, torch"
        f" {torch.__version__}. `nats`: the largest difference of a response's log-probability ({TOKENS} tokens) from"
        " that of its text read alone by the model itself. `gap`: how far the likeliest logit lay above that of a token"
        " that was sampled greedily. In bfloat16 both hold the rounding of two ways to compute one number. `margin`:"
        " how far policy and reference are apart when a step begins, whatever the base draws in training; 0 but for"
        " Inkling, whose learned attention bias makes torch take another kernel where a gradient is wanted.",
        "",
        "| | " + " | ".join(next(iter(found.values()))) + " |",
        "|---|---|---|",
    ]
    kinds = [Counter(f"{f.read.split(':')[0]}; {f.written}".strip("; ") for f in column) for column in
             zip(*(by_type.values() for by_type in found.values()), strict=True)]  # fmt: skip
    for kind in sorted(set().union(*kinds)):
        lines.append(f"| {kind} | " + " | ".join(str(count[kind]) for count in kinds) + " |")
    lines += ["", "| family | type | read | written | nats | gap | margin |", "|---|---|---|---|---|---|---|"]
    for family, by_type in found.items():
        for dtype, one in by_type.items():
            lines.append(f"| {family} | {dtype} | {one.read} | {one.written} | {one.nats:.1e} | {one.gap:.1e} |"
                         f" {one.margin:.1e} |")  # fmt: skip
    left_out = "; ".join(f"{name} ({why})" for name, why in causal_families.NOT_BUILT.items())
    return "\n".join([*lines, "", f"Not built: {left_out}.", "", f"Written by `{command}`.", ""])


def main(args: Sequence[str] | None = None) -> int:
    """Try the families and write the page."""
    parser = parser_of(__doc__)
    parser.set_defaults(results=HERE / "FAMILIES.md")
    parser.add_argument("--families", nargs="+", default=causal_families.families(), help="only these")
    options = parser.parse_args(args)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    found: dict[str, dict[str, Found]] = {}
    for family in options.families:
        found[family] = {name: tried(family, getattr(torch, name)) for name in ("float32", "bfloat16")}
        print(family, *(f"{name}: {one}" for name, one in found[family].items()), sep="\n  ", flush=True)
    text = page(found, command_of("families", args))
    options.results.write_text(text, encoding="utf-8")
    print(text.split("| family |")[0])
    return int(any(one.failed for by_type in found.values() for one in by_type.values()))


if __name__ == "__main__":
    sys.exit(main())
