"""A reward model behind HTTP, asked over real sockets by a server that does as it is told, also badly."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_pl.batches import Prompt
from laser_pl.commands.cli import LaserCLI
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import ChatJudge, Pool, RemoteReward, SequenceClassifier
from laser_pl.rewards.protocols import OpenRLHF, Protocol, ProtocolError, VllmClassify, VllmScore, checked
from tests import loopback
from tests.loopback import Handler, Stopwatch, saying, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CHAT = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Sure?"},
]
PROMPTS = [Prompt("p", "1+1=", "unused", answer="2", columns={"unit": "km"}), Prompt("c", CHAT, "unused")]
CHAT_TEXT = "2+2?\n\n4\n\nSure?"
RESPONSES = [["2", "three", ""], ["yes", "no, that is five", "44"]]
TEXTS = [*("1+1=" + text for text in RESPONSES[0]), *(CHAT_TEXT + text for text in RESPONSES[1])]
LENGTHS = [[float(len(text)) for text in TEXTS[:3]], [float(len(text)) for text in TEXTS[3:]]]
PATHS = {OpenRLHF: "/get_reward", VllmClassify: "/classify", VllmScore: "/score"}
PROTOCOLS = [OpenRLHF(), VllmClassify("m"), VllmScore("m")]


# -- the server --------------------------------------------------------------------------------------------------------


class Server(loopback.Server):
    """Scores texts by their length, unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__(answer_well)

    def url(self, protocol: Protocol | None = None) -> str:
        return self.address + PATHS[type(protocol or OpenRLHF())]


def answer_well(handler: Handler, number: int = 0) -> None:
    path, _, body = handler.server.requests[number - 1]
    if path == "/get_reward":
        handler.reply({"rewards": [len(text) for text in body["query"]], "extra_logs": {}})
        return
    if path == "/classify":
        entries = [{"index": i, "label": "LABEL_0", "probs": [len(text)], "num_classes": 1}
                   for i, text in enumerate(body["input"])]  # fmt: skip
    else:
        pairs = zip(body["text_1"], body["text_2"], strict=True)
        entries = [{"index": i, "object": "score", "score": len(a + b)} for i, (a, b) in enumerate(pairs)]
    handler.reply({"object": "list", "data": entries[::-1]})  # the order is the index's


def first(count: int, behave: Callable[[Handler, int], None]) -> Callable[[Handler, int], None]:
    """So for the first requests, then well."""
    return lambda handler, number: (behave if number <= count else answer_well)(handler, number)


def listening() -> Iterator[loopback.Server]:
    with serving(Server()) as server:
        yield server


server = pytest.fixture(listening)
other_server = pytest.fixture(listening)


@pytest.fixture(scope="module", autouse=True)
def shipped_server() -> Iterator[subprocess.Popen[str]]:
    """A process of ``serve.py``, which starts while other tests run."""
    command = [sys.executable, "experiments/rewards/serve.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


Make = Callable[..., RemoteReward]


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    """Make a reward model that asks the server, or ``url``; loaded, and unloaded in the end. It does not ask again."""
    made: list[RemoteReward] = []

    def one(protocol: Protocol | None = None, url: str | None = None, **changes: Any) -> RemoteReward:
        protocol = protocol or OpenRLHF()
        settings = {"timeout": 5.0, "retries": 0, "pause": 0.01} | changes
        made.append(RemoteReward(url or server.url(protocol), protocol, **settings))
        made[-1].check()
        made[-1].load(CPU)
        return made[-1]

    yield one
    for reward_model in made:
        reward_model.unload()


def ask(reward_model: RemoteReward) -> list[list[float | None]]:
    return reward_model.score(PROMPTS, RESPONSES)


def ask_about_two(reward_model: RemoteReward) -> list[list[float | None]]:
    return reward_model.score(PROMPTS[:1], [["a", "b"]])


# -- what is asked and answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: type(p).__name__)
def test_scores_come_row_by_row_whatever_the_order_of_the_answer(make: Make, protocol: Protocol) -> None:
    assert ask(make(protocol)) == ask(make(protocol, batch_size=2)) == LENGTHS


def test_a_request_is_openrlhfs(make: Make, server: Server) -> None:
    ask(make())
    ((path, headers, body),) = server.requests
    assert (path, headers["Content-Type"]) == ("/get_reward", "application/json")
    prompts = ["1+1="] * 3 + [CHAT_TEXT] * 3
    assert body == {"query": TEXTS, "prompts": prompts, "labels": ["2", "2", "2", None, None, None]}


def test_a_request_is_vllms(make: Make, server: Server) -> None:
    ask(make(VllmClassify("judge")))
    ask(make(VllmScore("judge")))
    (path, _, classify), (other_path, _, score) = server.requests
    assert (path, classify) == ("/classify", {"model": "judge", "input": TEXTS})
    assert (other_path, score) == ("/score", {"model": "judge", "text_1": ["1+1="] * 3 + [CHAT_TEXT] * 3,
                                              "text_2": RESPONSES[0] + RESPONSES[1]})  # fmt: skip


def test_classes_are_weighted(make: Make, server: Server) -> None:
    server.behave = saying({"data": [{"index": 1, "probs": [0.25, 0.75]}, {"index": 0, "probs": [0.5, 0.5]}]})
    assert ask_about_two(make(VllmClassify("m", head_weights=[-1.0, 1.0]))) == [[0.0, 0.5]]


def test_a_score_may_come_as_a_list_of_one(make: Make, server: Server) -> None:
    server.behave = saying({"data": [{"index": 0, "score": [1.5]}, {"index": 1, "score": 2}]})
    assert ask_about_two(make(VllmScore("m"))) == [[1.5, 2.0]]


def test_entries_without_numbers_are_in_order(make: Make, server: Server) -> None:
    server.behave = saying({"data": [{"score": 3}, {"score": 1}]})
    assert ask_about_two(make(VllmScore("m"))) == [[3.0, 1.0]]


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [(OpenRLHF(), {"rewards": [None, 1]}), (VllmScore("m"), {"data": [{"score": [None]}, {"score": 1}]})],
)
def test_null_is_no_opinion(make: Make, server: Server, protocol: Protocol, answer: Any) -> None:
    server.behave = saying(answer)
    pool = Pool({"it": make(protocol)})
    assert ask_about_two(pool.reward_models["it"]) == [[None, 1.0]]
    pool.score("it", PROMPTS[:1], [["a", "b"]], CPU)
    assert pool.missing["it"] == {"none": 1}


def test_text_is_written_from_messages_and_columns(make: Make, server: Server) -> None:
    text = "{{ messages|map(attribute='role')|join(',') }}|{{ prompt }}|{{ unit|default('none') }}|{{ response }}"
    ask(make(text=text))
    query = server.requests[0][2]["query"]
    assert query[1] == "user|1+1=|km|three"
    assert query[4] == f"user,assistant,user|{CHAT_TEXT}|none|no, that is five"


def test_text_that_asks_for_a_column_that_is_missing_ends_the_run(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="text cannot be filled from a row: 'unit' is undefined"):
        ask(make(text="{{ unit }}"))


def test_a_character_that_utf8_lacks_costs_no_labels(make: Make, server: Server) -> None:
    assert make().score(PROMPTS[:1], [["\ud800ä\0", "b"]]) == [[7.0, 5.0]]
    assert server.requests[0][2]["query"] == ["1+1=?ä\0", "1+1=b"]


# -- how it is asked ---------------------------------------------------------------------------------------------------


def test_requests_hold_no_more_than_a_batch(make: Make, server: Server) -> None:
    assert ask(make(batch_size=4, concurrency=1)) == LENGTHS
    assert [body["query"] for _, _, body in server.requests] == [TEXTS[:4], TEXTS[4:]]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_run_at_a_time_than_allowed(make: Make, server: Server, concurrency: int) -> None:
    """And the wait for a turn does not count as the server's."""

    def slowly(handler: Handler, number: int) -> None:
        time.sleep(0.1)
        answer_well(handler, number)

    server.behave = slowly
    assert ask(make(batch_size=1, concurrency=concurrency, timeout=0.5)) == LENGTHS
    assert min(concurrency, 2) <= server.most_running <= concurrency


def test_connections_stay_open_between_requests_and_calls(make: Make, server: Server) -> None:
    reward_model = make(batch_size=1, concurrency=2)
    for _ in range(3):
        assert ask(reward_model) == LENGTHS
    assert len(server.requests) == 18
    assert server.connections <= 2


def test_unloading_closes_and_loading_opens_again(make: Make, server: Server) -> None:
    reward_model = make()
    threads = threading.active_count()
    for _ in range(2):
        assert ask(reward_model) == LENGTHS
        reward_model.unload()
        reward_model.unload()
        reward_model.load(CPU)
        reward_model.load(CPU)
    assert ask(reward_model) == LENGTHS
    assert server.connections == 3
    reward_model.unload()
    deadline = time.monotonic() + 5
    while threading.active_count() >= threads and time.monotonic() < deadline:
        time.sleep(0.01)  # the server's threads end when they notice
    assert threading.active_count() < threads


def test_it_can_be_asked_where_an_event_loop_runs(make: Make) -> None:
    """As in a notebook."""

    async def cell() -> list[list[float | None]]:
        return ask(make())

    assert asyncio.run(cell()) == LENGTHS


def test_the_key_is_sent(make: Make, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "s3cret")
    ask(make(api_key_variable="JUDGE_KEY"))
    ask(make())
    assert server.requests[0][1]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in server.requests[1][1]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("JUDGE_KEY", value)
    reward_model = RemoteReward("https://judge.example/", OpenRLHF(), api_key_variable="JUDGE_KEY")
    with pytest.raises(
        ConfigurationError, match=r"JUDGE_KEY is not set, which holds the key for https://judge\.example"
    ):
        reward_model.check()
    with pytest.raises(ConfigurationError):
        reward_model.load(CPU)


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret\r\nX-Other: 1", " s3cret", "s3crét"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(ConfigurationError, match="JUDGE_KEY holds a space, a line break") as error:
        RemoteReward("https://judge.example/", OpenRLHF(), api_key_variable="JUDGE_KEY").check()
    assert "s3cr" not in str(error.value)


def test_nothing_of_the_environment_changes_who_is_asked(
    make: Make, server: Server, other_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither its proxies nor its passwords."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{other_server.server_port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{other_server.server_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert ask(make()) == LENGTHS
    assert other_server.connections == 0
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    "url",
    [
        "", "judge", "localhost:5000", "/get_reward", "ftp://judge.example/", "file:///etc/passwd", "http://",
        "http:///get_reward", "http://[", "http://a b/", "http://a..b/", "http://judge\n.example/", "http://\ud800/",
        "http://judge:0/", "http://judge:99999/", "http://judge:port/", f"http://{'a' * 70}.example/", "http://xn--/",
        f"http://judge/{'a' * 70_000}", 5,
    ],
    ids=lambda url: repr(url)[:20],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="Set the remote reward model's url"):
        RemoteReward(url, OpenRLHF())


@pytest.mark.parametrize(
    "url", ["http://judge", "https://judge.example:8000/score?x=1", "http://[::1]:1/", "http://jüdge.example/"]
)
def test_an_address_is_accepted(url: str) -> None:
    assert RemoteReward(url, OpenRLHF()).url == url


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="api_key_variable") as error:
        RemoteReward("http://me:s3cret@judge.example/", OpenRLHF())
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"timeout": 0}, {"timeout": math.nan}, {"pause": -1}, {"pause": math.nan}, {"retries": -1}, {"batch_size": 0},
     {"concurrency": 0}, {"max_answer_bytes": 0}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        RemoteReward("http://judge/", OpenRLHF(), **settings)


# -- servers that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_failure_that_passes_costs_nothing(make: Make, server: Server, status: int) -> None:
    server.behave = first(2, saying({"error": "busy"}, status))
    assert ask(make(retries=3)) == LENGTHS
    assert len(server.requests) == 3
    assert server.requests[0][2] == server.requests[2][2]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_says_when_is_asked_no_sooner_by_anybody(
    make: Make, server: Server, status: int, form: str
) -> None:
    """The first request is told to wait; the others, which were not, wait as well."""
    asked: list[float] = []

    def behave(handler: Handler, number: int) -> None:
        asked.append(time.time())
        if number == 1:  # a date has whole seconds, so that the next one but one is 1 to 2 seconds off
            date = formatdate(math.floor(time.time()) + 2, usegmt=True)
            handler.reply(b"", status, Retry_After="0.7" if form == "seconds" else date)
        else:
            answer_well(handler, number)

    server.behave = behave
    assert ask(make(batch_size=1, concurrency=1, retries=1, pause=0)) == LENGTHS
    assert len(asked) == 7
    least = 0.7 if form == "seconds" else math.floor(asked[0]) + 2 - asked[0]
    assert least - 0.05 < asked[1] - asked[0] < least + 1


def test_other_requests_wait_with_the_one_that_was_told_to(make: Make, server: Server) -> None:
    asked: list[float] = []

    def behave(handler: Handler, number: int) -> None:
        asked.append(time.monotonic())
        if number == 1:
            handler.reply(b"", 429, Retry_After="0.6")
        else:
            time.sleep(0.1)  # so that the first is told before this one's successor is sent
            answer_well(handler, number)

    server.behave = behave
    assert ask(make(batch_size=1, concurrency=2, retries=1, pause=0)) == LENGTHS
    assert sum(when < asked[0] + 0.55 for when in asked) <= 2  # the first, and who was on the way with it


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_wants_hours_is_not_asked_again(make: Make, server: Server, status: int) -> None:
    server.behave = saying(b"", status, Retry_After="7200")
    message = rf"answered with status {status}, and wants to be left alone for 7200 seconds$"
    with Stopwatch(2), pytest.raises(RuntimeError, match=message):
        ask(make(retries=3))
    assert len(server.requests) == 1
    server.behave = answer_well
    assert ask(make()) == LENGTHS


@pytest.mark.parametrize("value", ["-5", "soon", "", "1e9", "Mon, 99 Foo 2026", "Thu, 01 Jan 1970 00:00:00 GMT", "nan"])
def test_what_says_no_time_to_come_is_no_reason_to_wait(make: Make, server: Server, value: str) -> None:
    server.behave = first(1, saying(b"", 429, Retry_After=value))
    with Stopwatch(2):
        assert ask(make(retries=1)) == LENGTHS


def test_only_a_busy_server_says_when(make: Make, server: Server) -> None:
    server.behave = first(1, saying(b"", 500, Retry_After="7200"))
    with Stopwatch(2):
        assert ask(make(retries=1)) == LENGTHS


def test_a_failure_that_stays_is_told_after_the_last_attempt(make: Make, server: Server) -> None:
    server.behave = saying({}, 500)
    with pytest.raises(RuntimeError, match=rf"^{server.url()} answered with status 500$"):
        ask(make(retries=2))
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [204, 400, 401, 404, 422])
def test_a_refusal_is_not_repeated(make: Make, server: Server, status: int) -> None:
    server.behave = saying(b"", status)
    with pytest.raises(RuntimeError, match=rf"answered with status {status}$"):
        ask(make(retries=3))
    assert len(server.requests) == 1


def test_a_connection_that_breaks_is_made_again(make: Make, server: Server) -> None:
    def hang_up(handler: Handler, number: int) -> None:
        handler.close_connection = True

    server.behave = first(1, hang_up)
    assert ask(make(retries=1)) == LENGTHS
    assert (len(server.requests), server.connections) == (2, 2)


def test_an_answer_that_breaks_off_is_asked_for_again(make: Make, server: Server) -> None:
    def break_off(handler: Handler, number: int) -> None:
        handler.reply(b'{"rewards": [1', Content_Length="1000")
        handler.close_connection = True

    server.behave = first(1, break_off)
    assert ask(make(retries=1)) == LENGTHS


def test_a_server_that_is_not_there_is_named(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(RuntimeError, match=rf"^http://127.0.0.1:{port}/ cannot be reached \(ConnectError: "):
        ask(make(url=f"http://127.0.0.1:{port}/", retries=1))


def test_a_slow_answer_is_asked_for_again_and_then_given_up(make: Make, server: Server) -> None:
    def slowly(handler: Handler, number: int) -> None:
        handler.server.ended.wait(3)

    server.behave = first(1, slowly)
    assert ask(make(timeout=0.5, retries=1)) == LENGTHS
    server.behave = slowly
    with Stopwatch(2), pytest.raises(TimeoutError, match=rf"^{server.url()} did not answer within 0.2 seconds$"):
        ask(make(timeout=0.2, retries=1))
    assert len(server.requests) == 4


def test_a_server_that_accepts_and_never_answers_is_given_up(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        with Stopwatch(2), pytest.raises(TimeoutError):
            ask(make(url=url, timeout=0.2))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["body", "chunks", "chunk size", "headers", "hints"],
)
def test_a_server_that_drips_for_ever_is_given_up(make: Make, server: Server, start: bytes, piece: bytes) -> None:
    server.behave = first(1, lambda handler, number: handler.drip(start, piece))
    reward_model = make(timeout=0.3, concurrency=1)
    with Stopwatch(2), pytest.raises(TimeoutError, match=r"did not answer within 0\.3 seconds"):
        ask(reward_model)
    reward_model.timeout = 5.0
    assert ask(reward_model) == LENGTHS


def test_an_interrupt_ends_the_waiting(make: Make, server: Server) -> None:
    """Ctrl-C while the server answers, which does not wait for the timeout."""
    asked = threading.Event()

    def drips(handler: Handler, number: int) -> None:
        asked.set()
        handler.drip(b"HTTP/1.1 200 OK\r\nX-Long: ")

    def interrupt() -> None:
        asked.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    server.behave = first(1, drips)
    reward_model = make(timeout=20, retries=3)
    ctrl_c = threading.Thread(target=interrupt)
    ctrl_c.start()
    with Stopwatch(10), pytest.raises(KeyboardInterrupt):
        ask(reward_model)
    ctrl_c.join()
    assert ask(reward_model) == LENGTHS


def test_one_failure_does_not_wait_for_the_others(make: Make, server: Server) -> None:
    def behave(handler: Handler, number: int) -> None:
        if handler.server.requests[number - 1][2]["query"] == TEXTS[:1]:
            handler.reply({}, 400)
        else:
            handler.server.ended.wait(20)

    server.behave = behave
    reward_model = make(batch_size=1, concurrency=3, timeout=20)
    with Stopwatch(2), pytest.raises(RuntimeError, match="status 400"):
        ask(reward_model)
    server.behave = answer_well
    assert ask(reward_model) == LENGTHS


# -- servers that answer something else --------------------------------------------------------------------------------

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        (OpenRLHF(), b""),
        (OpenRLHF(), b"<html>"),
        (OpenRLHF(), b"\xff\xfe\xfd"),
        (OpenRLHF(), b'{"rewards": [1, 2'),
        (OpenRLHF(), DEEP),
        (OpenRLHF(), b'{"rewards": [1, ' + DEEP + b"]" * len(DEEP) + b"]}"),
        (OpenRLHF(), b'{"rewards": [1, ' + b"[" * 500 + b"]" * 500 + b"]}"),
        (OpenRLHF(), b'{"rewards": [1, 1' + b"0" * 400 + b"]}"),
        (OpenRLHF(), b'{"rewards": [1, 1' + b"0" * 5000 + b"]}"),
        (OpenRLHF(), [1, 2]),
        (OpenRLHF(), None),
        (OpenRLHF(), {"reward": [1, 2]}),
        (OpenRLHF(), {"rewards": None}),
        (OpenRLHF(), {"rewards": {"0": 1, "1": 2}}),
        (OpenRLHF(), {"rewards": "12"}),
        (OpenRLHF(), {"rewards": []}),
        (OpenRLHF(), {"rewards": [1]}),
        (OpenRLHF(), {"rewards": [1, 2, 3]}),
        (OpenRLHF(), {"rewards": [1, "2"]}),
        (OpenRLHF(), {"rewards": [1, True]}),
        (OpenRLHF(), {"rewards": [1, [2]]}),
        (OpenRLHF(), {"rewards": [1, "\ud800"]}),
        (VllmScore("m"), {"data": {"0": 1}}),
        (VllmScore("m"), {"data": [1, 2]}),
        (VllmScore("m"), {"data": [{"index": 0}, {"index": 1}]}),
        (VllmScore("m"), {"data": [{"index": 0, "score": 1}, {"index": 0, "score": 2}]}),
        (VllmScore("m"), {"data": [{"index": 1, "score": 1}, {"index": 2, "score": 2}]}),
        (VllmScore("m"), {"data": [{"index": 0, "score": 1}, {"score": 2}]}),
        (VllmScore("m"), {"data": [{"index": False, "score": 1}, {"index": True, "score": 2}]}),
        (VllmScore("m"), {"data": [{"index": 0.0, "score": 1}, {"index": 1.0, "score": 2}]}),
        (VllmScore("m"), {"data": [{"index": "0", "score": 1}, {"index": "1", "score": 2}]}),
        (VllmScore("m"), {"data": [{"index": 0, "score": 1}]}),
        (VllmScore("m"), {"data": [{"index": 0, "score": 1}, {"index": 1, "score": [1, 2]}]}),
        (VllmClassify("m"), {"data": [{"index": 0, "probs": [1]}, {"index": 1}]}),
        (VllmClassify("m"), {"data": [{"index": 0, "probs": [1]}, {"index": 1, "probs": 1}]}),
        (VllmClassify("m"), {"data": [{"index": 0, "probs": [1]}, {"index": 1, "probs": [0.5, 0.5]}]}),
        (VllmClassify("m"), {"data": [{"index": 0, "probs": [1]}, {"index": 1, "probs": [None]}]}),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else None,
)
def test_an_answer_that_is_not_the_protocols_is_refused(
    make: Make, server: Server, protocol: Protocol, answer: Any
) -> None:
    server.behave = saying(answer)
    with pytest.raises(ProtocolError, match=rf"^{server.url(protocol)}\b") as error:
        ask_about_two(make(protocol, retries=3))
    assert len(str(error.value)) < 300
    assert str(error.value).isprintable()
    assert len(server.requests) == 1


def test_no_number_and_infinite_numbers_are_the_pools_to_count(make: Make, server: Server) -> None:
    server.behave = saying(b'{"rewards": [NaN, Infinity, -1e999, 1.5]}')
    pool = Pool({"it": make()})
    labels = pool.score("it", PROMPTS[:1], [["a", "b", "c", "d"]], CPU)
    torch.testing.assert_close(labels, torch.tensor([[math.nan] * 3 + [1.5]]).double(), equal_nan=True)
    assert pool.missing["it"] == {"nan": 1, "infinite": 2}


@pytest.mark.parametrize("headers", [{}, {"Transfer_Encoding": "chunked"}], ids=["plain", "chunked"])
def test_an_answer_without_end_is_not_read(make: Make, server: Server, headers: dict[str, str]) -> None:
    sent, done = [], threading.Event()
    piece = b" " * 2**16

    def without_end(handler: Handler, number: int) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.close_connection = True
        try:
            while len(sent) < 2**14:  # a gigabyte
                handler.wfile.write(b"10000\r\n" + piece + b"\r\n" if headers else piece)
                sent.append(len(piece))
        finally:
            done.set()

    server.behave = without_end
    with pytest.raises(ProtocolError, match=rf"^{server.url()} answered with more than 1000 bytes"):
        ask(make(max_answer_bytes=1000))
    assert done.wait(5)
    assert sum(sent) < 32 * 2**20  # what the sockets' buffers took


def test_the_longest_answer_is_read(make: Make, server: Server) -> None:
    answer = json.dumps({"rewards": [1.0, 2.0]}).encode()
    server.behave = saying(answer)
    assert ask_about_two(make(max_answer_bytes=len(answer))) == [[1.0, 2.0]]
    with pytest.raises(ProtocolError, match="more than"):
        ask_about_two(make(max_answer_bytes=len(answer) - 1))


def test_what_was_packed_is_not_unpacked(make: Make, server: Server) -> None:
    """Nobody asked for it, and 50 MB may go into 50 kB."""
    packed = gzip.compress(b'{"rewards": [1, 2' + b" " * 50 * 2**20 + b"]}", compresslevel=1)
    server.behave = saying(packed, Content_Encoding="gzip")
    with pytest.raises(ProtocolError, match="did not answer in JSON"):  # not: more than max_answer_bytes
        ask_about_two(make())
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(make: Make, server: Server, other_server: Server, status: int) -> None:
    server.behave = saying(b"", status, Location=other_server.url())
    with pytest.raises(RuntimeError, match=rf"{server.url()} answered with status {status} to '{other_server.url()}'"):
        ask(make(retries=3))
    assert (len(server.requests), other_server.connections) == (1, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rewards", "data", "index", "score", "probs", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {}, optional={"index": st.integers(-1, 3) | JSON, "score": JSON, "probs": st.lists(JSON, max_size=2) | JSON}
)
ANSWERS = JSON | st.fixed_dictionaries(
    {}, optional={"rewards": st.lists(JSON, max_size=3), "data": st.lists(ENTRY | JSON, max_size=3)}
)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, VllmClassify("m", [-1.0, 1.0])], ids=lambda p: type(p).__name__)
@given(answer=ANSWERS, count=st.integers(0, 3))
def test_any_json_makes_scores_or_is_refused(protocol: Protocol, answer: Any, count: int) -> None:
    try:
        scores = checked(protocol.scores(answer), count)
    except ProtocolError as error:
        assert len(str(error)) < 1000  # noqa: PT017
    else:
        assert len(scores) == count
        assert all(score is None or type(score) is float for score in scores)


# -- in the pool and in a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "behave"),
    [
        ("timeout", lambda handler, number: handler.server.ended.wait(3)),
        ("timeout", lambda handler, number: handler.drip(b"HTTP/1.1 200 OK\r\nX-Long: ")),
        ("exception", saying({}, 500)),
        ("exception", saying({}, 404)),
        ("exception", saying(DEEP)),
        ("exception", saying({"rewards": [10**400] * 6})),
        ("exception", saying({"rewards": ["good"] * 6})),
    ],
)
def test_the_pool_counts_what_went_wrong(make: Make, server: Server, kind: str, behave: Any) -> None:
    server.behave = behave
    reward_model = make(timeout=0.2)
    pool = Pool({"it": reward_model})
    labels = pool.score("it", PROMPTS, RESPONSES, CPU)
    assert labels.shape == (2, 3)
    assert labels.isnan().all()
    assert pool.missing["it"] == {kind: 6}
    assert server.url() in pool.health.last_reason
    server.behave, reward_model.timeout = answer_well, 5.0
    assert pool.score("it", PROMPTS, RESPONSES, CPU).tolist() == LENGTHS


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two steps."""
    return ["--data.prompts_per_iteration=8"]


@pytest.fixture(scope="module")
def served(shipped_server: subprocess.Popen[str]) -> str:
    """Where it answers."""
    assert shipped_server.stdout is not None
    said = shipped_server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+$", said.strip())
    assert found, said
    return found[0]


def test_a_run_with_the_shipped_server_scores_as_one_without(
    served: str,
    fit: Callable[..., LaserCLI],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[tuple[str, list[Prompt], list[list[str]], list[list[float]]]] = []
    score = RemoteReward.score

    def watched(self: RemoteReward, prompts: list[Prompt], responses: list[list[str]]) -> Any:
        scores = score(self, prompts, responses)
        seen.append((type(self.protocol).__name__, prompts, responses, scores))
        return scores

    monkeypatch.setattr(RemoteReward, "score", watched)
    overlay = [f"--config={ROOT / 'experiments' / 'rewards' / 'remote.yaml'}", "--selection.bandit=RoundRobin"]
    urls = [f"--selection.reward_models.{arm}.init_args.url={served}/{path}"
            for arm, path in (("remote", "get_reward"), ("vllm", "classify"))]  # fmt: skip
    run = fit(tmp_path, *overlay, *urls)
    assert "HTTP Request" not in caplog.text
    pool = run.selector.pool
    assert pool.names == ["remote", "vllm"]
    assert pool.forwards == {"remote": 24, "vllm": 24}
    assert not any(kinds.total() for kinds in pool.missing.values())
    local = SequenceClassifier(Weights(str(ROOT / "experiments/quickstart/reward_models/general")))
    local.load(CPU)
    assert [who for who, *_ in seen] == ["OpenRLHF", "VllmClassify"]
    for _, prompts, responses, scores in seen:
        expected = local.score(prompts, responses)
        assert expected.std() > 0.1
        torch.testing.assert_close(torch.tensor(scores), expected, rtol=1e-5, atol=1e-5)
    for reward_model in pool.reward_models.values():
        reward_model.unload()


def test_the_shipped_server_answers_in_all_protocols_alike_and_refuses_the_rest(served: str, make: Make) -> None:
    prompts, responses = [Prompt("p", "1+1=", "unused")], [["2", "3"]]
    answers = [make(protocol, url=served + PATHS[type(protocol)]).score(prompts, responses) for protocol in PROTOCOLS]
    assert answers[0] == answers[1] == answers[2]
    judge = ChatJudge(f"{served}/v1/chat/completions", "general", "{{ prompt }}{{ response }}")
    judge.load(CPU)
    ratings = judge.score(prompts, [["2", "3", "4", "5", "no"]])[0]
    scores = make(VllmClassify("m"), url=f"{served}/classify").score(prompts, [["2", "3", "4", "5", "no"]])[0]
    assert torch.tensor(ratings).argsort().equal(torch.tensor(scores).argsort())
    assert (len(set(ratings)), judge.spent()["parsed"]) == (5, 0)
    judge.unload()
    with pytest.raises(RuntimeError, match="status 404"):
        ask(make(url=f"{served}/rewards"))
    with pytest.raises(RuntimeError, match="status 400"):
        ask(make(VllmScore("m"), url=f"{served}/classify"))
