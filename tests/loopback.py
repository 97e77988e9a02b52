"""A server on this machine that answers as it is told, also badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
            number = len(self.server.requests)
            self.server.running += 1
            self.server.most_running = max(self.server.most_running, self.server.running)
        try:
            self.server.behave(self, number)
        finally:
            with self.server.lock:
                self.server.running -= 1

    def reply(self, answer: Any, status: int = 200, **headers: str) -> None:
        """Send bytes as they are, and anything else as JSON."""
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def drip(self, start: bytes, piece: bytes = b"x") -> None:
        """One piece every 50 ms, until nobody listens."""
        self.close_connection = True
        self.connection.sendall(start)
        while not self.server.ended.wait(0.05):
            self.connection.sendall(piece)

    def log_message(self, *args: Any) -> None:
        """Not on the screen."""


class Server(ThreadingHTTPServer):
    """Does with a request what ``behave`` does, which is called with the handler and the request's number, from 1 on.

    Attributes:
        behave: That.
        requests: Path, headers and body of each.
        connections: How many were opened.
        most_running: Most requests that were answered at the same time.
    """

    daemon_threads = True

    def __init__(self, behave: Callable[[Handler, int], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.connections = self.running = self.most_running = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: Any) -> None:
        """A client that hangs up is what many tests are about."""


def saying(answer: Any, status: int = 200, **headers: str) -> Callable[[Handler, int], None]:
    return lambda handler, number: handler.reply(answer, status, **headers)


class Stopwatch:
    """Refuses more than ``limit`` seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __enter__(self) -> None:
        self.started = time.monotonic()

    def __exit__(self, *args: object) -> None:
        assert time.monotonic() - self.started < self.limit


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let it answer for as long as the block runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()
