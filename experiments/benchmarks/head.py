"""Log-probabilities of tokens over 128k ids, forward and backward: ours, other libraries', and the bare products.

Each way gives a log-probability for every token and takes a gradient for every one of them, as preference losses need;
the head is frozen. What cannot be avoided is two products: hidden states with the head, and back. Times are seconds of
the processor, in turn, so that what else the machine does falls on all ways. Those of other libraries are measured
where they are installed and run on this device.

Run:  OMP_NUM_THREADS=1 python experiments/benchmarks/head.py
Cost: 1 CPU core, about 4 minutes, 4 GB of memory.

It writes its section of ``RESULTS.md`` beside itself, or where --results says.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from laser_pl.logprobs import token_logprobs as ours
from laser_pl.logprobs.text_decoder import Head

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import add_dtypes
from results import command_of, parser_of, tell
from timing import alternate, conditions

Way = Callable[[], tuple[Tensor, Tensor]]
"""Log-probabilities ``(Y,)`` and the gradient of the hidden states ``(Y, h)``."""


@dataclass(frozen=True)
class Case:
    """What all ways are given.

    Attributes:
        hidden: Shape ``(Y, h)``.
        weight: Of the head. Shape ``(V, h)``.
        target: Token ids. Shape ``(Y,)``.
        upstream: The gradient of each log-probability. Shape ``(Y,)``.
    """

    hidden: Tensor
    weight: Tensor
    target: Tensor
    upstream: Tensor

    @staticmethod
    def of(tokens: int, width: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> Case:
        """Random numbers from a seed."""
        torch.manual_seed(0)
        with torch.device(device):
            hidden, weight = torch.randn(tokens, width), torch.randn(vocabulary, width) / width**0.5
            return Case(hidden.to(dtype), weight.to(dtype), torch.randint(vocabulary, (tokens,)), torch.randn(tokens))

    @cached_property
    def rows(self) -> int:
        """Of a chunk, as ours takes them."""
        return ours._rows(ours.NUMBERS_PER_CHUNK, len(self.weight))

    def products(self) -> None:
        """What cannot be avoided, in the same chunks."""
        for states in self.hidden.split(self.rows):
            (states @ self.weight.T) @ self.weight

    def differentiated(self, way: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """A way from hidden states to log-probabilities, with its gradient."""
        hidden = self.hidden.detach().requires_grad_()
        logprobs = way(hidden)
        logprobs.backward(self.upstream.to(logprobs.dtype))
        assert hidden.grad is not None
        return logprobs.detach(), hidden.grad

    def chunks(self) -> tuple[Tensor, Tensor]:
        """Ours."""
        head = Head(lambda states: F.linear(states, self.weight), len(self.weight), frozen=True)
        return self.differentiated(lambda hidden: ours.token_logprobs(head, hidden, self.target))

    def cross_entropy(self) -> tuple[Tensor, Tensor]:
        """By torch's cross entropy of float32 logits in chunks half as large, as ours was before."""
        return self._chunked(self.rows // 2 or 1, self._by_cross_entropy)

    def liger_kernel(self) -> tuple[Tensor, Tensor]:
        """In our chunks, each normalised and differentiated in place by Liger's kernel."""
        from liger_kernel.ops.cross_entropy import cross_entropy_forward

        def part(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
            logits = (states @ self.weight.T).requires_grad_()
            found = cross_entropy_forward(logits, ids, None, -100, 0.0, 0.0, "none", None, False)
            return -found[0], -(found[-1].detach() @ self.weight)

        return self._chunked(self.rows, part)

    def liger_fused(self) -> tuple[Tensor, Tensor]:
        """Liger's fused linear cross entropy, which computes logits once more in its backward pass."""
        from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as Fused

        words = (None, None, -100, 0.0, 0.0, "none")
        return self.differentiated(lambda hidden: -Fused.apply(hidden, self.weight, self.target, *words)[0])

    def torch_fused(self) -> tuple[Tensor, Tensor]:
        """That of torch 2.13 and newer, which computes logits once more, too."""
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=self.rows)
        fused = partial(F.linear_cross_entropy, reduction="none", options=options)
        return self.differentiated(lambda hidden: -fused(hidden, self.weight, self.target))

    def cut(self) -> tuple[Tensor, Tensor]:
        """Apple's cut cross entropy, without leaving small gradients out; no logits exist in memory."""
        from cut_cross_entropy import linear_cross_entropy

        fused = partial(linear_cross_entropy, reduction="none", filter_eps=None)
        return self.differentiated(lambda hidden: -fused(hidden, self.weight, self.target))

    def _by_cross_entropy(self, states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        states = states.detach().requires_grad_()
        found = -F.cross_entropy(F.linear(states, self.weight).float(), ids, reduction="none")
        return found.detach(), torch.autograd.grad(found.sum(), states)[0]

    def _chunked(self, rows: int, part: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        parts = zip(self.hidden.split(rows), self.target.split(rows), strict=True)
        logprobs, gradients = zip(*(part(*each) for each in parts), strict=True)
        gradient = torch.cat(gradients)
        return torch.cat(logprobs), (self.upstream[:, None] * gradient).to(gradient.dtype)

    @property
    def others(self) -> dict[str, Way]:
        """By name."""
        return {
            "cross_entropy in chunks": self.cross_entropy,
            "Liger's kernel in ours": self.liger_kernel,
            "Liger, fused": self.liger_fused,
            "torch, fused": self.torch_fused,
            "cut-cross-entropy": self.cut,
        }


def compared(case: Case) -> tuple[dict[str, Callable[[], object]], list[str], float]:
    """Every way that works here by name, why others do not, and by how much their numbers are apart from ours."""
    expected = case.chunks()
    ways: dict[str, Callable[[], object]] = {"ours": case.chunks}
    refused, off = [], 0.0
    for name, way in case.others.items():
        try:
            found = way()
        except (ImportError, AttributeError):  # the latter of an older torch
            refused.append(f"{name} is not installed")
        except Exception as error:  # whatever a library has against this device or release
            refused.append(f"{name} refuses: {type(error).__name__}")
        else:
            ways[name], off = way, max(off, *(apart(*pair) for pair in zip(found, expected, strict=True)))
    return ways, refused, off


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as part of the largest number expected."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def main(args: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--widths", nargs="+", type=int, default=[576, 2048], help="of hidden states")
    parser.add_argument("--tokens", type=int, default=512)
    add_dtypes(parser)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(args)
    lines = [
        "## Log-probabilities over a large vocabulary",
        "",
        f"Written by `{command_of('head', args)}`, {conditions()}. {arguments.tokens} tokens,"
        f" {arguments.vocabulary} ids; forward and backward; medians of {arguments.repeats} rounds in turn, in seconds"
        " of the processor.",
        "",
        "| | hidden | products | way | it takes | times the products | ways are apart by |",
        "|---|---|---|---|---|---|---|",
    ]
    for dtype in arguments.dtypes:
        for width in arguments.widths:
            case = Case.of(arguments.tokens, width, arguments.vocabulary, getattr(torch, dtype), torch.device("cpu"))
            ways, refused, off = compared(case)
            calls = {"products": case.products, **ways}
            timed = alternate(calls, arguments.repeats, time.process_time)
            took = {name: each.median for name, each in timed.items()}
            bare = took.pop("products")
            lines += [
                f"| {dtype} | {width} | {bare:.2f} s | {name} | {own:.2f} s | {own / max(bare, 1e-9):.2f}x |"
                f" {off:.0e} |"
                for name, own in took.items()
            ]
    tell(arguments.results, "head", "\n".join([*lines, "", f"{'; '.join(refused) or 'All ways are installed'}."]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
