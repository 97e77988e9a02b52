"""A run computed twice: by the command line, and by a twin that shares no line with it.

The twin imports nothing from ``laser_pl`` or ``callbacks``, nor PEFT, nor ``generate``. It reads the same files and
does everything its own way:

- seeds from SHA-256, the order of prompts, batches and chunks from NumPy's generator;
- sampling one prompt at a time, unpadded, with a forward over the whole text for each token and no KV cache; a token is
  found by adding up float64 probabilities one after the other until they exceed a uniform number;
- contexts, centring and scaling in float64 from a list of everything seen, not from running moments;
- LinUCB and the baseline with explicit matrices ``A`` that are inverted when they are needed;
- reward models one response at a time: last hidden state times the head's weights;
- pairs by enumeration; DPO and NLL pair by pair on single unpadded responses, with the reference computed in the step
  from a copy of the adapter made at the iteration's start;
- LoRA as a low-rank term added to each layer's output, and AdamW as its four equations.

Only ``torch.rand`` in float64, ``torch.multinomial`` for the bandit's ties and the order in which PEFT draws initial
weights are the same by agreement: they turn equal seeds into equal draws.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
import yaml
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from laser_pl.commands.cli import LaserCLI, main

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
ARMS = ("numbers", "sorter", "general")
SEED, ITERATIONS, PROMPTS, BATCH, CHUNK = 11, 2, 60, 4, 7
N, TEMPERATURE, MAX_NEW, PER_PROMPT = 5, 0.9, 5, 2
RANK, LORA_ALPHA, BETA, NLL_WEIGHT = 3, 6, 0.7, 0.5
LR, WEIGHT_DECAY, BETAS, EPS = 1e-3, 0.02, (0.8, 0.95), 1e-4
UCB_ALPHA, INTERCEPT, PENALTY = 0.4, 0.25, 1.5
EOS, PAD = 1, 0


# -- the real thing ----------------------------------------------------------------------------------------------------


def write_prompts(folder: Path) -> list[dict[str, str]]:
    """80 questions of different lengths: some have lost characters at the front."""
    lines = (WORLD / "prompts" / "train.jsonl").read_text().splitlines()[:80]
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        row["prompt"] = row["prompt"][number % 4 :]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    return rows


def run_for_real(folder: Path, granularity: str) -> LaserCLI:
    def double(name: str) -> dict[str, Any]:
        return {"weights": {"name": str(WORLD / name), "dtype": "float64"}}

    config = {
        "name": "real",
        "runs_dir": str(folder),
        "seed_everything": SEED,
        "trainer": {"accelerator": "cpu", "max_epochs": ITERATIONS, "limit_val_batches": 0},
        "model": {
            **double("policy"),
            "lora": {"rank": RANK, "alpha": LORA_ALPHA, "dropout": 0.0, "targets": "all-linear"},
            "beta": BETA,
            "nll_weight": NLL_WEIGHT,
            "evaluation": {"n": 1, "max_new_tokens": 1},
        },
        "data": {
            "train": str(folder / "train.jsonl"),
            **{split: str(folder / "few.jsonl") for split in ("validation", "test")},
            "rollouts": {"n": N, "temperature": TEMPERATURE, "max_new_tokens": MAX_NEW},
            "batch_size": BATCH,
            "prompts_per_iteration": PROMPTS,
            "one_category_per_batch": True,
            "rollout_batch_size": CHUNK,
        },
        "optimizer": {
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": LR, "weight_decay": WEIGHT_DECAY, "betas": list(BETAS), "eps": EPS},
        },
        "selection": {
            "reward_models": {
                arm: {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": double(f"reward_models/{arm}")}
                for arm in ARMS
            },
            "bandit": {"class_path": "laser_pl.bandits.LinUCB", "init_args": {"alpha": UCB_ALPHA}},
            "context": {
                "class_path": "laser_pl.bandits.context.ContextPreparation",
                "init_args": {"intercept": INTERCEPT},
            },
            "normalizer": {
                "class_path": "laser_pl.feedback.normalizers.ContextBaseline",
                "init_args": {"penalty": PENALTY},
            },
            "pairs": {"class_path": "laser_pl.data.pairs.RandomPairs", "init_args": {"per_prompt": PER_PROMPT}},
            "granularity": granularity,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return main(["fit", "--config", str(folder / "config.yaml")])


# -- the twin ----------------------------------------------------------------------------------------------------------


def seed_for(*position: int | str) -> int:
    return int.from_bytes(hashlib.sha256(repr((SEED, *position)).encode()).digest()[:8], "big") >> 1


class LowRank(nn.Module):
    """A frozen layer plus ``(alpha / r) B A x``."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        down = nn.Linear(layer.in_features, RANK, bias=False)  # PEFT draws these two before it sets them
        up = nn.Linear(RANK, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        self.layer = layer
        self.a = down.weight.detach().double().requires_grad_()
        self.b = torch.zeros_like(up.weight, dtype=torch.float64).requires_grad_()
        self.keep_as_reference()

    def keep_as_reference(self) -> None:
        self.reference, self.use_reference = (self.a.detach().clone(), self.b.detach().clone()), False

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.reference if self.use_reference else (self.a, self.b)
        return self.layer(x) + LORA_ALPHA / RANK * (x @ a.T @ b.T)


class TwinPolicy:
    """A causal language model with hand-made LoRA."""

    def __init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(WORLD / "policy", dtype=torch.float64).requires_grad_(False)
        torch.manual_seed(seed_for("adapter"))
        layers = [(n, m) for n, m in self.model.model.named_modules() if isinstance(m, nn.Linear)]
        self.adapters = {}
        for name, layer in layers:
            parent, _, own = name.rpartition(".")
            self.adapters[name] = LowRank(layer)
            setattr(self.model.model.get_submodule(parent), own, self.adapters[name])

    @property
    def parameters(self) -> list[Tensor]:
        return [tensor for adapter in self.adapters.values() for tensor in (adapter.a, adapter.b)]

    def logprob(self, prompt: list[int], response: list[int]) -> Tensor:
        logits = self.model(torch.tensor([prompt + response])).logits[0]
        steps = range(len(response))
        return sum(F.log_softmax(logits[len(prompt) + t - 1], -1)[response[t]] for t in steps)

    @torch.no_grad()
    def reference_logprob(self, prompt: list[int], response: list[int]) -> Tensor:
        for adapter in self.adapters.values():
            adapter.use_reference = True
        result = self.logprob(prompt, response)
        for adapter in self.adapters.values():
            adapter.use_reference = False
        return result

    @torch.no_grad()
    def sample(self, prompts: list[list[int]], seed: int) -> list[list[list[int]]]:
        """``N`` responses to each prompt; the draws of all prompts are made together, token by token."""
        responses: list[list[list[int]]] = [[[] for _ in range(N)] for _ in prompts]
        torch.manual_seed(seed)
        for _ in range(MAX_NEW):
            if all(EOS in response for row in responses for response in row):
                break
            logits = []
            for prompt, row in zip(prompts, responses, strict=True):
                width = max(map(len, row))
                texts = torch.tensor([prompt + response + [PAD] * (width - len(response)) for response in row])
                ends = torch.tensor([len(prompt) + len(response) - 1 for response in row])
                logits.append(self.model(texts).logits[torch.arange(N), ends])
            scores = torch.cat(logits)
            scores[:, PAD] = -math.inf
            uniform = torch.rand(len(scores), dtype=torch.float64).tolist()
            for number, (row, u) in enumerate(zip(scores.tolist(), uniform, strict=True)):
                response = responses[number // N][number % N]
                if EOS not in response:
                    response.append(self.draw(row, u))
        return responses

    @staticmethod
    def draw(scores: list[float], u: float) -> int:
        """The first token up to which, it included, there is more than ``u`` of the probability."""
        weights = [math.exp(score / TEMPERATURE) for score in scores]
        total, passed = math.fsum(weights), 0.0
        for token, weight in enumerate(weights):
            passed += weight / total
            if passed > u:
                return token
        raise AssertionError("u is below 1")

    @torch.no_grad()
    def context(self, prompt: list[int]) -> Tensor:
        return self.model.model(torch.tensor([prompt])).last_hidden_state[0, -1]


class AdamW:
    """Decoupled weight decay, first and second moments, bias corrections, step."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.t = 0

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        self.t += 1
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            m.copy_(BETAS[0] * m + (1 - BETAS[0]) * g)
            v.copy_(BETAS[1] * v + (1 - BETAS[1]) * g**2)
            step = (m / (1 - BETAS[0] ** self.t)) / ((v / (1 - BETAS[1] ** self.t)).sqrt() + EPS)
            p.copy_(p - LR * WEIGHT_DECAY * p - LR * step)


class Judge:
    """A reward model."""

    def __init__(self, name: str) -> None:
        folder = WORLD / "reward_models" / name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64)

    @torch.no_grad()
    def score(self, prompt: str, response: str) -> float:
        ids = self.tokenizer(prompt + response)["input_ids"] + [EOS]
        hidden = self.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        return float(hidden @ self.model.score.weight[0])


@dataclass
class Regression:
    """Ridge regression as its normal equations."""

    size: int
    penalty: float = 1.0
    a: Tensor = field(init=False)
    b: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.a = self.penalty * torch.eye(self.size, dtype=torch.float64)
        self.b = torch.zeros(self.size, dtype=torch.float64)

    def learn(self, context: Tensor, value: float) -> None:
        self.a = self.a + torch.outer(context, context)
        self.b = self.b + value * context

    def mean(self, context: Tensor) -> float:
        return float(context @ torch.linalg.inv(self.a) @ self.b)

    def width(self, context: Tensor) -> float:
        return math.sqrt(float(context @ torch.linalg.inv(self.a) @ context))


class Twin:
    """The whole run."""

    def __init__(self, rows: list[dict[str, str]], by_prompt: bool) -> None:
        self.rows, self.by_prompt = rows, by_prompt
        self.policy, self.judges = TwinPolicy(), [Judge(name) for name in ARMS]
        self.tokenizer = AutoTokenizer.from_pretrained(WORLD / "policy")
        size = self.policy.model.config.hidden_size + 1
        self.arms = [Regression(size) for _ in ARMS]
        self.ties = torch.Generator().manual_seed(seed_for("bandit"))
        self.baseline, self.first = Regression(size, PENALTY), 0.0
        self.errors: list[float] = []
        self.hidden: list[Tensor] = []
        self.optimizer = AdamW(self.policy.parameters)
        self.chosen: list[str] = []
        self.losses: list[float] = []

    def run(self) -> None:
        for iteration in range(ITERATIONS):
            batches = self.plan(iteration)
            flat = [row for batch in batches for row in batch]
            rollouts: list[Any] = []
            for chunk, start in enumerate(range(0, len(flat), CHUNK)):
                members = flat[start : start + CHUNK]
                prompts = [self.tokenizer(row["prompt"])["input_ids"] for row in members]
                responses = self.policy.sample(prompts, seed_for("rollouts", iteration, chunk))
                contexts = [self.policy.context(prompt) for prompt in prompts]
                rollouts += zip(prompts, responses, contexts, strict=True)
            for adapter in self.policy.adapters.values():
                adapter.keep_as_reference()
            self.hidden += [context for _, _, context in rollouts]
            for batch in batches:
                self.step(iteration, batch, rollouts[: len(batch)])
                del rollouts[: len(batch)]

    def plan(self, iteration: int) -> list[list[dict[str, str]]]:
        deck: list[dict[str, str]] = []
        for lap in range(math.ceil((iteration + 1) * PROMPTS / len(self.rows))):
            deck += [self.rows[i] for i in np.random.default_rng(seed_for("order", lap)).permutation(len(self.rows))]
        groups = defaultdict(list)
        for row in deck[iteration * PROMPTS : (iteration + 1) * PROMPTS]:
            groups[row["category"]].append(row)
        batches = [groups[name][i : i + BATCH] for name in sorted(groups) for i in range(0, len(groups[name]), BATCH)]
        return [batches[i] for i in np.random.default_rng(seed_for("batches", iteration)).permutation(len(batches))]

    def step(self, iteration: int, batch: list[dict[str, str]], rollouts: list[Any]) -> None:
        hidden = [context for _, _, context in rollouts]
        contexts = [self.prepare(h) for h in (hidden if self.by_prompt else [torch.stack(hidden).mean(0)])]
        arms = self.choose(contexts)
        self.chosen += [ARMS[arm] for arm in arms]
        values, trained = [], []
        for number, (row, (prompt, responses, _)) in enumerate(zip(batch, rollouts, strict=True)):
            decision = number if self.by_prompt else 0
            judge = self.judges[arms[decision]]
            scores = [judge.score(row["prompt"], self.text(response)) for response in responses]
            loss = self.prompt_loss(prompt, self.pairs(iteration, row, responses, scores))
            if loss is not None:
                trained.append(loss)
                values.append((decision, -float(loss.detach()), self.chance(prompt, responses)))
        if not trained:
            return
        total = torch.stack(trained).mean()
        self.losses.append(float(total.detach()))
        self.optimizer.step(torch.autograd.grad(total, self.policy.parameters))
        if not self.by_prompt:
            values = [(0, *np.mean([rest for _, *rest in values], axis=0).tolist())]
        self.learn([(contexts[decision], arms[decision], *rest) for decision, *rest in values])

    def text(self, response: list[int]) -> str:
        return self.tokenizer.decode([token for token in response if token != EOS])

    def prepare(self, hidden: Tensor) -> Tensor:
        """Centred on all sampled so far, of norm 1, and the constant."""
        centred = hidden - torch.stack(self.hidden).mean(0)
        return torch.cat([centred / centred.norm(), torch.tensor([INTERCEPT], dtype=torch.float64)])

    def choose(self, contexts: list[Tensor]) -> list[int]:
        bounds = [[arm.mean(c) + UCB_ALPHA * arm.width(c) for arm in self.arms] for c in contexts]
        best = torch.tensor([[float(bound == max(row)) for bound in row] for row in bounds], dtype=torch.float64)
        return [int(i) for i in torch.multinomial(best, 1, generator=self.ties)[:, 0]]

    def pairs(self, iteration: int, row: dict[str, str], responses: Any, scores: list[float]) -> list[Any]:
        name = hashlib.sha256(repr((row["prompt"], row["answer"])).encode()).hexdigest()[:16]
        first = [i for i in range(N) if responses[i] not in responses[:i]]
        ranked = sorted(first, key=lambda i: -scores[i])
        every = [(ranked[i], ranked[j]) for i in range(len(ranked)) for j in range(i + 1, len(ranked))]
        order = np.random.default_rng(seed_for("pairs", iteration, name)).permutation(len(every))
        kept = [every[i] for i in order if scores[every[i][0]] > scores[every[i][1]]]
        return [(responses[chosen], responses[rejected]) for chosen, rejected in kept[:PER_PROMPT]]

    def prompt_loss(self, prompt: list[int], pairs: list[Any]) -> Tensor | None:
        losses = []
        for chosen, rejected in pairs:
            won, lost = self.policy.logprob(prompt, chosen), self.policy.logprob(prompt, rejected)
            before = [self.policy.reference_logprob(prompt, response) for response in (chosen, rejected)]
            dpo = torch.log1p(torch.exp(-BETA * (won - lost - before[0] + before[1])))
            losses.append(dpo - NLL_WEIGHT * won / len(chosen))
        return torch.stack(losses).mean() if losses else None

    def chance(self, prompt: list[int], responses: list[list[int]]) -> float:
        """What a judge that knows nothing would give, at the reference."""
        each = [float(self.policy.reference_logprob(prompt, response)) / len(response) for response in responses]
        return -math.log(2) + NLL_WEIGHT * sum(each) / len(each)

    def learn(self, seen: list[tuple[Tensor, int, float, float]]) -> None:
        better = [value - chance for _, _, value, chance in seen]
        self.first = self.first if self.errors else float(np.mean(better))
        contexts = [context for context, *_ in seen]
        usual = [self.first + self.baseline.mean(context) for context in contexts]
        widths = [math.hypot(1, self.baseline.width(context)) for context in contexts]
        errors = [(v - u) / w for v, u, w in zip(better, usual, widths, strict=True)]
        self.errors += errors
        spread = math.sqrt(float(np.mean(np.square(self.errors)))) or 1.0
        for (context, arm, *_), value, error in zip(seen, better, errors, strict=True):
            self.baseline.learn(context, value - self.first)
            self.arms[arm].learn(context, min(max(error / spread, -2.0), 2.0) / 2)


@pytest.mark.parametrize("granularity", ["batch", "prompt"])
def test_run_and_twin_agree(tmp_path: Path, granularity: str) -> None:
    rows = write_prompts(tmp_path)
    real = run_for_real(tmp_path, granularity)
    twin = Twin(rows, by_prompt=granularity == "prompt")
    twin.run()
    decisions = [json.loads(line) for line in real.folder.selection.read_text().splitlines()]
    assert [decision["arm"] for decision in decisions] == twin.chosen
    assert set(twin.chosen) == set(ARMS)

    by_step = defaultdict(list)
    for decision in decisions:
        if decision["loss"] is not None:
            by_step[decision["step"]].append(decision["loss"])
    assert len(by_step) >= 30
    assert [float(np.mean(losses)) for losses in by_step.values()] == pytest.approx(twin.losses, abs=1e-6)

    for model, arm in zip(real.selector.bandit.models, twin.arms, strict=True):
        torch.testing.assert_close(model.precision, arm.a, atol=1e-6, rtol=0)
        torch.testing.assert_close(model.moment, arm.b, atol=1e-6, rtol=0)

    trained = dict(real.model.model.get_base_model().model.named_modules())
    for name, adapter in twin.policy.adapters.items():
        assert adapter.b.detach().abs().max() > 1e-4
        for mine, its in ((adapter.a, trained[name].lora_A), (adapter.b, trained[name].lora_B)):
            torch.testing.assert_close(mine.detach(), its["default"].weight.detach(), atol=1e-6, rtol=0)
