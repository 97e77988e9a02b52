"""The benchmarks of speed, in short forms on tiny models. Nothing here looks at a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.servable import make_servable
from tests.vllm_stub import VLLMStub

pytestmark = pytest.mark.usefixtures("untouched_results")
TINY = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Where a short form writes."""
    return tmp_path / "RESULTS.md"


def cells(text: str) -> list[list[str]]:
    """The table's rows without its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_dpo_step(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    """Ours and the concatenated forward find one loss; in bfloat16 nearly."""
    sizes = ["--n", "5", "--pairs", "3", "--prompt", "8", "--response", "4", "--repeats", "1"]
    words = ["--peers", "concatenated", *sizes, "--results", str(results)]
    assert benchmarks("dpo_step").main(words, TINY) == 0
    rows = cells(results.read_text())
    assert [row[4] for row in rows] == ["concatenated"] * 3
    differences = [float(row[9]) for row in rows]
    assert max(differences[0], differences[2]) < 1e-5
    assert differences[1] < 0.1


def test_step_profile(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    """Products are put down to the parts that they belong to, and a step has all parts."""
    script = benchmarks("step_profile")
    sizes = ["--n", "5", "--pairs", "3", "--prompt", "9", "--response", "4", "--repeats", "1"]
    assert script.main([*sizes, "--results", str(results)], TINY) == 0
    rows = cells(results.read_text())
    assert [row[:2] for row in rows] == [[dtype, part] for dtype in ("float32", "bfloat16") for part in script.PARTS]
    with_floors = {row[1] for row in rows if row[4] and row[5]}
    assert with_floors == {"frozen products", "LoRA's products", "log-probabilities: products"}
    assert {row[1] for row in rows if float(row[2].split()[0]) >= 0} == set(script.PARTS)


def test_an_operation_belongs_to_a_part(benchmarks: Callable[[str], ModuleType]) -> None:
    script = benchmarks("step_profile")
    states, weight, adapter, head = (torch.ones(*size) for size in ((7, 32), (32, 64), (32, 16), (32, 160)))
    queries, values = torch.ones(1, 4, 7, 8), torch.ones(1, 7, 4, 8)
    traced = script.Traced(vocabulary=160, head_width=8)
    with traced:
        for other in (weight, weight, adapter, head):
            states @ other
        torch.nn.functional.silu(states)
        torch.nn.functional.scaled_dot_product_attention(queries, queries, queries)
        queries * 2
        values.clone()
        torch.log_softmax(torch.ones(7, 160), -1)
    counts = {part: sum(products.values()) for part, products in traced.products.items() if products}
    assert counts == {"frozen products": 2, "LoRA's products": 1, "log-probabilities: products": 1}
    assert script.work(traced.products["frozen products"]) == 2 * 2 * 7 * 32 * 64
    assert set(traced.spent) == {*script.PARTS} - {"optimizer", "Python and the rest"}


def test_rollouts(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    sizes = ["--n", "3", "--prompt", "6", "--new", "5", "--repeats", "1"]
    assert benchmarks("rollouts").main([*sizes, "--results", str(results)], TINY) == 0
    rows = cells(results.read_text())
    assert [row[:1] + row[4:5] + row[10:] for row in rows] == [
        [dtype, other, "yes"] for dtype in ("float32", "bfloat16") for other in ("`generate`", "one sample per call")
    ]


def test_head(benchmarks: Callable[[str], ModuleType], results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways find the same; one that refuses is named, and costs itself alone."""
    script = benchmarks("head")
    others = script.Case.others.fget
    more = {"a library's": lambda: 1 / 0, "another's": lambda: __import__("there_is_no_such_library")}
    monkeypatch.setattr(script.Case, "others", property(lambda case: {**others(case), **more}))
    sizes = ["--vocabulary", "61", "--widths", "8", "16", "--tokens", "9", "--repeats", "1"]
    assert script.main([*sizes, "--results", str(results)]) == 0
    page = results.read_text()
    ours = [row for row in cells(page) if row[3] == "ours"]
    assert [row[:2] for row in ours] == [[dtype, width] for dtype in ("float32", "bfloat16") for width in ("8", "16")]
    apart = [float(row[6]) for row in ours]
    assert max(apart[:2]) < 1e-6
    assert max(apart[2:]) < 2e-2
    assert "a library's refuses: ZeroDivisionError; another's is not installed." in page


def test_engines(benchmarks: Callable[[str], ModuleType], results: Path, tmp_path: Path) -> None:
    """The server is the stub; each round gives it another adapter."""
    folder = make_servable(tmp_path / "model")
    stub = VLLMStub(folder)
    sizes = ["--prompts", "2", "--prompt", "5", "--n", "3", "--new", "4", "--repeats", "2", "--rank", "8"]
    words = ["--model", str(folder), "--dtype", "float32", "--device", "cpu", *sizes, "--results", str(results)]
    try:
        assert benchmarks("engines").main([*words, "--url", stub.url]) == 0
        both = cells(results.read_text())
        assert benchmarks("engines").main(words) == 0
    finally:
        stub.close()
    assert [row[0] for row in both] == ["this process", "vLLM's server"]
    assert all(0 < float(row[2]) <= 2 * 3 * 4 for row in both)
    assert float(both[1][5]) < 1e-4
    assert stub.paths().count("/v1/load_lora_adapter") == 3  # one that warms up, and two rounds
    assert [row[0] for row in cells(results.read_text())] == ["this process"]


def test_engines_names_a_folder_that_is_not_there(
    benchmarks: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks("engines").main(["--model", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("There is no folder nowhere.")


def test_shared_prefix(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    """Read once or by every prompt, log-probabilities are the same."""
    sizes = ["--prompts", "2", "--prompt", "24", "--common", "20", "--n", "3", "--new", "5", "--repeats", "1"]
    words = ["--dtypes", "float32", *sizes, "--results", str(results)]
    assert benchmarks("shared_prefix").main(words, TINY) == 0
    page = results.read_text()
    assert [row[1] for row in cells(page)] == ["sampling", "log-probabilities", "DPO step"]
    assert float(page.split("(nats): ")[1].split()[0]) < 1e-5


def test_iteration(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    sizes = ["--prompts", "2", "--prompt", "4", "--n", "4", "--pairs", "2", "--new", "4", "--repeats", "1"]
    words = ["--peers", "authors", "--dtype", "float32", *sizes, "--results", str(results)]
    assert benchmarks("iteration").main(words, TINY) == 0
    page = results.read_text()
    assert [row[1] for row in cells(page)] == ["2 prompts, n 4, P 2"]
    assert "of our training loop" in page


@pytest.mark.parametrize("script", ["dpo_step", "iteration"])
def test_a_missing_peer_is_one_sentence(
    benchmarks: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    assert benchmarks(script).main(["--peers", "trl"]) == 2
    told = capsys.readouterr().err
    assert told == "This compares with TRL, which is not installed. Run: pip install -e '.[bench]'\n"


def test_scale(benchmarks: Callable[[str], ModuleType], results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; what a point costs follows from its size."""
    script = benchmarks("scale")
    monkeypatch.setattr(script, "plot", lambda rows, found, path: None)

    def run(rows: dict[str, tuple[str, list[int]]], base: Any) -> dict[str, list[Any]]:
        return {name: [script.Cost(size**1.5, 2**20 * size) for size in sizes] for name, (_, sizes) in rows.items()}

    monkeypatch.setattr(script, "run", run)
    script.main(["--points", "3", "--results", str(results)])
    rows = cells(results.read_text())
    assert [row[2:] for row in rows] == [
        ["1.50", "64: 64, 128: 128, 256: 256", "1.00"],
        ["1.50", "4: 4, 8: 8, 16: 16", "1.00"],
        ["1.50", "1: 1, 2: 2, 4: 4", "1.00"],
    ]


def test_a_point_is_measured(benchmarks: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    script = benchmarks("scale")
    monkeypatch.setattr(script, "SHAPE", TINY)
    cost = script.measure(script.Point(prompt=8, n=4, pairs=3, response=4, budget=64))
    assert cost.seconds > 0


def test_equal_accuracy(benchmarks: Callable[[str], ModuleType], results: Path) -> None:
    small = ["data.prompts_per_iteration=32", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
             "data.evaluation_batch_size=16"]  # fmt: skip
    words = ["--repeats", "1", "--iterations", "2", "--also", *small, "--results", str(results)]
    benchmarks("equal_accuracy").main(words)
    rows = cells(results.read_text())
    assert [row[:2] for row in rows] == [
        ["mean of scores", "0"],
        ["mean of scores", "mean of seeds"],
        ["in turn", "0"],
        ["in turn", "mean of seeds"],
    ]
    assert rows[0][2:] == rows[1][2:]


def test_time_to_a_target(benchmarks: Callable[[str], ModuleType]) -> None:
    script = benchmarks("equal_accuracy")
    slow, fast, worse = [(4.0, 0.5), (8.0, 0.7), (12.0, 0.6)], [(2.0, 0.7), (4.0, 0.8)], [(1.0, 0.6)]
    assert script.row("o", "0", slow, fast) == "| o | 0 | 0.700 | 8.0 s | 2.0 s | 4.0x | 0.800 |"
    assert script.row("o", "0", slow, worse) == "| o | 0 | 0.700 | 8.0 s | never | never | 0.600 |"
    assert script.mean_curve([[(1.0, 0.5)], [(3.0, 0.7)]]) == [(2.0, pytest.approx(0.6))]
