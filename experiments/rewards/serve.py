"""A reward server to try remote reward models with, without other software: a sequence classifier behind HTTP.

Run:  python experiments/rewards/serve.py
Cost: 1 CPU core, about 10 s to start, 0.5 GB.

It answers as four servers do: ``/get_reward`` as OpenRLHF's, ``/classify`` and ``/score`` as vLLM's,
``/v1/chat/completions`` as a language model's that rates the user's turn from 1 to 5. Where the request tells the
prompt, the response is what stands behind it; of ``/classify``'s texts nothing tells the two apart, and they are read
as they are. It listens on this machine alone, and is no server for many users. ``--port 0`` takes any free port; the
address is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from laser_pl.batches import Prompt
from laser_pl.models.language_model import Weights
from laser_pl.rewards import SequenceClassifier

GENERAL = Path(__file__).resolve().parents[1] / "quickstart" / "reward_models" / "general"
MAX_REQUEST_BYTES = 16 * 2**20

Score = Callable[[Sequence[tuple[str, str]]], list[float]]


class Server(ThreadingHTTPServer):
    """Scores with one classifier, one request after the other.

    Args:
        port: On 127.0.0.1; 0 takes any.
        folder: The classifier's.
    """

    daemon_threads = True

    def __init__(self, port: int, folder: str) -> None:
        self.classifier = SequenceClassifier(Weights(folder), chat_template=False)  # the client's ``text`` makes chats
        self.classifier.load(torch.device("cpu"))
        self._one_at_a_time = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def score(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of prompts and responses."""
        with self._one_at_a_time:
            rows = [[response] for _, response in texts]
            scores: list[float] = self.classifier.score([Prompt("", p, p) for p, _ in texts], rows).flatten().tolist()
        return scores


class Handler(BaseHTTPRequestHandler):
    """Reads a request and writes its answer."""

    server: Server
    protocol_version = "HTTP/1.1"  # keeps connections open
    wbufsize = -1  # one packet for headers and body
    timeout = 60

    def do_POST(self) -> None:
        """Answer with scores, or say what is wrong with the request."""
        length = int(self.headers.get("Content-Length", -1))
        known = self.path in ANSWERS
        if not known or not 0 <= length <= MAX_REQUEST_BYTES:
            self.close_connection = True  # what is not read would be taken for the next request
            wrong = f"Content-Length must be at most {MAX_REQUEST_BYTES}" if known else f"There is {', '.join(ANSWERS)}"
            self._answer(413 if known else 404, {"error": wrong})
            return
        try:
            status, answer = 200, ANSWERS[self.path](json.loads(self.rfile.read(length)), self.server.score)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        self._answer(status, answer)

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing about every request."""


def get_reward(body: dict[str, Any], score: Score) -> dict[str, Any]:
    """OpenRLHF: ``{"query", "prompts", "labels"}`` to ``{"rewards"}``."""
    pairs = [
        (prompt, query[len(prompt) :]) if query.startswith(prompt) else (query, "")
        for query, prompt in zip(body["query"], body["prompts"], strict=True)
    ]
    return {"rewards": score(pairs)}


def classify(body: dict[str, Any], score: Score) -> dict[str, Any]:
    """vLLM: ``{"model", "input"}`` to ``{"data": [{"index", "label", "probs", "num_classes"}]}``."""
    scores = score([(text, "") for text in body["input"]])
    entries = [{"index": i, "label": "LABEL_0", "probs": [value], "num_classes": 1} for i, value in enumerate(scores)]
    return {"object": "list", "model": body["model"], "data": entries}


def score_pairs(body: dict[str, Any], score: Score) -> dict[str, Any]:
    """vLLM: ``{"model", "text_1", "text_2"}`` to ``{"data": [{"index", "object", "score"}]}``."""
    scores = score(list(zip(body["text_1"], body["text_2"], strict=True)))
    entries = [{"index": i, "object": "score", "score": value} for i, value in enumerate(scores)]
    return {"object": "list", "model": body["model"], "data": entries}


def chat(body: dict[str, Any], score: Score) -> dict[str, Any]:
    """OpenAI: ``{"model", "messages"}`` to ``{"choices": [{"message", "logprobs"}], "usage"}``."""
    text = body["messages"][-1]["content"]
    (value,) = score([(text, "")])
    weights = {str(k): math.exp(-((k - 3 - value) ** 2) / 2) for k in range(1, 6)}  # the expected rating rises with it
    top = [{"token": token, "logprob": math.log(w / sum(weights.values()))} for token, w in weights.items()]
    said = max(top, key=lambda one: one["logprob"])
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said["token"]},
        "logprobs": {"content": [{**said, "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": len(text), "completion_tokens": 1}  # the shipped tokenizers' tokens are characters
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


ANSWERS = {"/get_reward": get_reward, "/classify": classify, "/score": score_pairs, "/v1/chat/completions": chat}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(GENERAL), help="a sequence classifier's folder")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args()
    with Server(arguments.port, arguments.model) as server:
        print(f"'{arguments.model}' answers at http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")
