"""A language model behind a chat endpoint as a judge, asked over real sockets by a server that also does badly."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import ChatJudge, MeanEnsemble, Pool, Verifier
from laser_pl.rewards.chat_reply import received, said
from laser_pl.rewards.protocols import ProtocolError
from laser_pl.run.named_code import refuse_code
from laser_pl.testing import check_reward_model
from laser_pl.winrate.judgement import compare, read_judge
from tests.loopback import Handler, Server, Stopwatch, saying, serving
from tests.runs import Fit, decisions_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PATH = "/v1/chat/completions"
PROMPTS = [Prompt("p", "1+1=", "unused", answer="2", columns={"unit": "km"}),
           Prompt("c", [{"role": "user", "content": "2+2?"}], "unused", answer="4")]  # fmt: skip
RESPONSES = [["2", "three", ""], ["yes", "no, that is five", "44"]]
RATE = "{{ prompt }}|{{ response }}"
COMPARE = "{{ response_a }}|{{ response_b }}"


# -- the server --------------------------------------------------------------------------------------------------------


def top(probabilities: dict[str, float]) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in probabilities.items()]


def completion(content: str | None, tokens: list[tuple[str, dict[str, float]]] | None = None) -> dict[str, Any]:
    """OpenAI's answer: what was said, and of each token its probability and the likeliest others'."""
    logprobs = tokens and {"content": [{"token": token, "logprob": math.log(others.get(token, 1.0)),
                                        "top_logprobs": top(others)} for token, others in tokens]}  # fmt: skip
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "logprobs": logprobs}
    return {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 40, "completion_tokens": 2}}


def preference(one: str, other: str) -> float:
    """How likely a judge prefers what it is shown first: the longer one, and the first one besides."""
    return 1 / (1 + math.exp(-(len(one) - len(other)) / 4 - 0.7))


def rating(text: str) -> dict[str, float]:
    """Probabilities of ratings, by the length of the text."""
    each = {str(k): math.exp(-abs(k - 1 - len(text) / 4)) for k in range(1, 6)}
    return {name: 0.9 * value / sum(each.values()) for name, value in each.items()} | {"Well": 0.1}


def judge_well(handler: Handler, number: int) -> None:
    body = handler.server.requests[number - 1][2]
    a, _, b = body["messages"][0]["content"].partition("|")
    rates = a[:2] in ("1+", "2+")  # a prompt
    each = rating(b) if rates else {"A": preference(a, b), "B": 1 - preference(a, b)}
    best = max(each, key=lambda name: each[name])
    handler.reply(completion(best, [(best, each)]))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(judge_well)) as server:
        yield server


Make = Callable[..., ChatJudge]


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    """Make a judge that asks the server; loaded, and unloaded in the end. It does not ask again."""
    made: list[ChatJudge] = []

    def one(**changes: Any) -> ChatJudge:
        how: dict[str, Any] = {"template": RATE, "timeout": 5.0, "retries": 0, "pause": 0.01} | changes
        made.append(ChatJudge(server.address + PATH, "judge", **how))
        made[-1].check()
        made[-1].load(CPU)
        return made[-1]

    yield one
    for judge in made:
        judge.unload()


def ask(judge: ChatJudge) -> list[list[float | None]]:
    return judge.score(PROMPTS, RESPONSES)


def ask_about_one(judge: ChatJudge) -> float | None:
    ((score,),) = judge.score(PROMPTS[:1], [["a"]])
    return score


def expected_rating(text: str) -> float:
    each = {name: p for name, p in rating(text).items() if name != "Well"}
    return sum(int(name) * p for name, p in each.items()) / sum(each.values())


# -- what is asked and answered ----------------------------------------------------------------------------------------


def test_a_rating_is_the_expected_one(make: Make, server: Server) -> None:
    scores = ask(make())
    assert scores == [pytest.approx([expected_rating(text) for text in row]) for row in RESPONSES]
    assert server.requests[0][0] == PATH
    bodies = sorted((body for _, _, body in server.requests), key=lambda body: str(body["messages"]))
    assert bodies[0] == {"model": "judge", "messages": [{"role": "user", "content": "1+1=|"}], "temperature": 0,
                         "max_tokens": 16, "logprobs": True, "top_logprobs": 20}  # fmt: skip


def test_what_a_request_holds_besides_is_set_by_name_and_left_out_by_null(make: Make, server: Server) -> None:
    extra = {"max_tokens": None, "logprobs": None, "max_completion_tokens": 7, "seed": 1}
    ask_about_one(make(extra_body=extra))
    body = server.requests[0][2]
    assert (body["max_completion_tokens"], body["seed"]) == (7, 1)
    assert not {"max_tokens", "logprobs"} & set(body)


@pytest.mark.parametrize("opponents", [1, 2, 9])
def test_comparisons_are_made_in_both_orders(make: Make, server: Server, opponents: int) -> None:
    judge = make(template=COMPARE, opponents=opponents)
    scores = ask(judge)
    for row, found in zip(RESPONSES, scores, strict=True):  # three responses meet each other in every case
        for i, own in enumerate(row):
            won = [(preference(own, other) + 1 - preference(other, own)) / 2 for j, other in enumerate(row) if j != i]
            assert found[i] == pytest.approx(sum(won) / 2)
    assert len(server.requests) == 12 == 6 * judge.forwards_per_response(3)
    turned = judge.score(PROMPTS, [row[::-1] for row in RESPONSES])
    assert [row[::-1] for row in turned] == [pytest.approx(row) for row in scores]


def test_few_opponents_bound_what_is_asked(make: Make, server: Server) -> None:
    judge = make(template=COMPARE, opponents=1)
    scores = judge.score(PROMPTS[:1], [[str(10**k) for k in range(6)]])
    assert len(server.requests) == 12 == 6 * judge.forwards_per_response(6)
    assert all(score is not None for score in scores[0])


def test_a_preference_for_a_place_cancels(make: Make, server: Server) -> None:
    server.behave = saying(completion("A", [("A", {"A": 0.9, "B": 0.1})]))
    assert ask(make(template=COMPARE, opponents=2)) == [pytest.approx([0.5] * 3)] * 2


def test_a_comparison_that_was_answered_in_one_order_alone_does_not_count(make: Make, server: Server) -> None:
    def shy(handler: Handler, number: int) -> None:
        if handler.server.requests[number - 1][2]["messages"][0]["content"] == "b|a":
            handler.reply(completion("I cannot say."))
        else:
            judge_well(handler, number)

    server.behave = shy
    judge = make(template=COMPARE, opponents=1)
    assert judge.score(PROMPTS[:1], [["a", "b"]]) == [[None, None]]
    assert judge.spent()["unread"] == 1
    scores = judge.score(PROMPTS[:1], [["a", "b", "long one"]])[0]
    assert scores[0] is not None
    assert scores[0] == pytest.approx((preference("a", "long one") + 1 - preference("long one", "a")) / 2)


def test_a_tie_may_be_an_answer(make: Make, server: Server) -> None:
    server.behave = saying(completion("tie"))
    answers = {"A": 1.0, "B": 0.0, "tie": 0.5}
    assert ask(make(template=COMPARE, opponents=2, answers=answers)) == [[0.5] * 3] * 2


def test_an_only_response_has_nobody_to_be_compared_with(make: Make, server: Server) -> None:
    assert make(template=COMPARE, opponents=2).score(PROMPTS, [["a"], ["b"]]) == [[None], [None]]
    assert not server.requests


def test_a_text_that_comes_twice_is_sent_once(make: Make, server: Server) -> None:
    (scores,) = make().score(PROMPTS[:1], [["2", "3", "2", "2"]])
    assert scores[0] == scores[2] == scores[3]
    assert len(server.requests) == 2


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("opponents", [None, 2])
def test_it_keeps_what_every_reward_model_promises(
    server: Server, tmp_path: Path, opponents: int | None, kept: bool
) -> None:
    template = RATE if opponents is None else "{{ response_a }}|{{ response_b }}"
    judge = ChatJudge(server.address + PATH, "judge", template, opponents=opponents,
                      cache=str(tmp_path / "kept") if kept else None)  # fmt: skip
    check_reward_model(judge, relative=opponents is not None)


# -- how replies are read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4", "4"), (" 4\n", "4"), ("4.", "4"), ("**4**", "4"), ("`4`", "4"), ('"4"', "4"), ("[[4]]", "4"),
        ("Rating: 4", "4"), ("**Rating:** 4", "4"), ("My final rating is: **4**.", "4"), ("Score = 4/5", "4"),
        ("4 out of 5", "4"), ("$\\boxed{4}$", None), ("The answer serves it.\n\nRating: 4", "4"),
        ("4\n\nBecause it is right.", "4"), ("<think>2? No.\n5</think>\n\n4", "4"), ("4\nRating: 4", "4"),
        ("", None), (" \n ", None), ("As an AI I cannot rate these 2 things.", None), ("Between 3 and 4", None),
        ("-4", None), ("4.5", None), ("42", None), ("4/10", None), ("1. It is polite.", None), ("four", None),
        ("2\nOn second thought:\n4", None), ("٤", None), ("4" * 10**6, None), (" " * 10**6 + "4", None),
        ("<html><body>4</body></html>", None), ("I'm sorry, but I can't help with that.", None),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_an_answer_stands_alone_on_its_line(text: str, answer: str | None) -> None:
    with Stopwatch(1):
        found = said(text, "12345")
    assert (found and found[0]) == answer
    assert found is None or text[found[1]] == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [("A", "A"), ("Response B", "B"), ("[[B]]", "B"), ("Answer: A.", "A"), ("The winner is: B", "B"), ("As", None),
     ("A or B", None), ("A > B", None), ("A good response is B", None), ("a", None), ("AB", None), ("B+", None)],
)  # fmt: skip
def test_a_letter_is_no_article(text: str, answer: str | None) -> None:
    found = said(text, "AB")
    assert (found and found[0]) == answer


def test_answers_may_be_signed_and_begin_alike() -> None:
    answers = ["-1", "1", "10", "very good", "good"]
    for answer in answers:
        assert said(f"Rating: {answer}", answers) == (answer, 8)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    found = said(text, ["1", "2", "(", "a|b"])
    assert found is None or text.startswith(found[0], found[1])


def worth_of(body: Any, answers: dict[str, float]) -> float | None:
    return received(body, answers).reply.worth(answers)


RATINGS = {str(k): float(k) for k in range(1, 6)}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([("4", {"4": 0.6, "5": 0.2, "no": 0.2})], (4 * 0.6 + 5 * 0.2) / 0.8),
        ([(" 4", {" 4": 0.5, "4": 0.1, " 2": 0.4})], (4 * 0.6 + 2 * 0.4) / 1),
        ([("Rating", {"Rating": 0.9, "1": 0.1}), (":", {":": 1.0}), (" 4", {" 4": 0.5, " 3": 0.5})], 3.5),
        ([("**", {"**": 1.0}), ("4", {"4": 0.5, "3": 0.5}), ("**", {"**": 1.0})], 3.5),
        ([("4", {"3": 0.3}), ("<|eot|>", {"<|eot|>": 1.0})], (4 * 1.0 + 3 * 0.3) / 1.3),  # the one said is not shown
        ([("4", {"no": 0.5, "yes": 0.5})], 4.0),
    ],
)
def test_the_answers_token_gives_the_probabilities(tokens: list[tuple[str, dict[str, float]]], expected: float) -> None:
    content = "".join(token for token, _ in tokens).removesuffix("<|eot|>")
    assert worth_of(completion(content, tokens), RATINGS) == pytest.approx(expected)
    assert worth_of(completion(content.strip(), tokens), RATINGS) == pytest.approx(expected)


def test_thoughts_that_the_server_takes_out_have_tokens_as_well() -> None:
    tokens = [("<think>", {"<think>": 1.0}), ("4", {"4": 0.9, "1": 0.1}), ("</think>", {"</think>": 1.0}),
              ("4", {"4": 0.5, "5": 0.5})]  # fmt: skip
    assert worth_of(completion("4", tokens), RATINGS) == pytest.approx(4.5)


def test_half_an_answer_has_no_probability() -> None:
    """Where a tokenizer splits numbers, "1" may be one or the first half of ten."""
    ten = {str(k): float(k) for k in range(1, 11)}
    halves = [("1", {"1": 0.9, "2": 0.1}), ("0", {"0": 1.0})]
    assert worth_of(completion("10", halves), ten) == 10
    assert worth_of(completion("2", [("2", {"1": 0.4, "2": 0.6})]), ten) == 2
    whole = [("2", {"1": 0.25, "2": 0.5, "10": 0.25})]
    assert worth_of(completion("2", whole), ten) == pytest.approx(3.75)


@pytest.mark.parametrize(
    "logprobs",
    [None, [], {}, "no", {"content": None}, {"content": []}, {"content": "4"}, {"content": [4]}, {"content": [{}]},
     {"tokens": ["4"], "token_logprobs": [-0.1]}, {"content": [{"token": "5", "logprob": -0.1, "top_logprobs": []}]},
     {"content": [{"token": "4", "logprob": None, "top_logprobs": []}]},
     {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": [{"token": "3"}]}]},
     {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": ["3"]}]},
     {"content": [{"token": "4", "logprob": math.nan, "top_logprobs": []}]},
     {"content": [{"token": "4", "logprob": True, "top_logprobs": []}]}],
    ids=str,
)  # fmt: skip
def test_without_probabilities_it_is_the_rating_that_was_said(logprobs: Any) -> None:
    body = completion("4") | {"choices": [{"message": {"content": "4"}, "logprobs": logprobs}]}
    assert worth_of(body, RATINGS) == 4.0


@pytest.mark.parametrize(
    "usage", [None, [], {}, *({"prompt_tokens": count} for count in (-1, "9", True, 9.0, 10**99))], ids=str
)
def test_tokens_that_are_no_count_are_none(usage: Any) -> None:
    assert received(completion("4") | {"usage": usage}, RATINGS).tokens == (0, 0)


def test_a_reply_without_an_answer_is_no_opinion_and_counted(make: Make, server: Server) -> None:
    refusal = completion(None)
    refusal["choices"][0]["message"]["refusal"] = "I'm sorry, but I can't help with that."
    for answer in (refusal, completion("I'm sorry, but I can't help with that."), completion("")):
        server.behave = saying(answer)
        pool = Pool({"it": make()})
        assert pool.score("it", PROMPTS, RESPONSES, CPU).isnan().all()
        assert pool.missing["it"] == {"none": 6}
        assert pool.spent["it"]["unread"] == 6
        assert pool.health.may_be_asked("it")


# -- servers that fail -------------------------------------------------------------------------------------------------


def first(count: int, behave: Callable[[Handler, int], None]) -> Callable[[Handler, int], None]:
    return lambda handler, number: (behave if number <= count else judge_well)(handler, number)


def hang(handler: Handler, number: int) -> None:
    handler.server.ended.wait(5)


@pytest.mark.parametrize(
    "behave",
    [saying(b"", 429, Retry_After="0.3"), saying(b"", 429), saying(b"", 500), saying(b"<html>", 502),
     saying(b"", 503, Retry_After="0"), hang],
    ids=["429 in a while", "429", "500", "502", "503 now", "hang"],
)  # fmt: skip
def test_what_passes_costs_nothing(make: Make, server: Server, behave: Callable[[Handler, int], None]) -> None:
    server.behave = first(2, behave)
    assert None not in ask(make(retries=4, timeout=0.5))[0]
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("behave", "kind", "message"),
    [
        (hang, TimeoutError, "did not answer within 0.3 seconds"),
        (saying({"error": {"message": "try later"}}, 500), RuntimeError, "status 500, saying '.*try later"),
        (saying(b"", 429, Retry_After="9999"), RuntimeError, "status 429, and wants to be left alone for 9999 seconds"),
        (saying({"error": "no such model"}, 404), RuntimeError, "status 404, saying '.*no such model"),
        (saying({"error": "bad key"}, 401), RuntimeError, "status 401, saying '.*bad key"),
        (saying(b"", 307, Location="http://elsewhere/"), RuntimeError, "status 307 to 'http://elsewhere/'"),
        (saying({"error": "too long"}, 400), RuntimeError, "status 400, saying '.*too long"),
        (saying(b"<!DOCTYPE html><html>"), ProtocolError, "did not answer in JSON"),
        (saying(b"x" * 300_000), ProtocolError, "more than 200000 bytes"),
        (saying(b"[" * 100_000), ProtocolError, "did not answer in JSON"),
        (saying(b"\xff\xfe"), ProtocolError, "did not answer in JSON"),
        (saying([]), ProtocolError, "no 'choices' in"),
        (saying({"error": {"message": "overloaded", "code": 529}}), ProtocolError, "no 'choices' in .*overloaded"),
        (saying({"choices": None}), ProtocolError, "'choices' is no list but None"),
        (saying({"choices": []}), ProtocolError, "there is no choice"),
        (saying({"choices": ["4"]}), ProtocolError, "no 'message' in '4'"),
        (saying({"choices": [{"text": "4"}]}), ProtocolError, "no 'message' in"),
        (saying({"choices": [{"message": "4"}]}), ProtocolError, "no 'content' in '4'"),
        (saying({"choices": [{"message": {"content": ["4"]}}]}), ProtocolError, "'content' is no text but"),
    ],
)  # fmt: skip
def test_what_stays_is_told(make: Make, server: Server, behave: Any, kind: type[Exception], message: str) -> None:
    server.behave = behave
    judge = make(timeout=0.3, max_answer_bytes=200_000, concurrency=1)
    with Stopwatch(3), pytest.raises(kind, match=message) as error:
        ask(judge)
    assert len(str(error.value)) < 700
    server.behave = judge_well
    judge.timeout = 5.0
    assert None not in ask(judge)[0]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_text_that_is_refused_costs_its_own_label(make: Make, server: Server, status: int) -> None:
    """A filter, or a length limit; where all are refused it is the set-up that is wrong."""

    def filtered(handler: Handler, number: int) -> None:
        if "three" in handler.server.requests[number - 1][2]["messages"][0]["content"]:
            handler.reply({"error": {"code": "content_filter"}}, status)
        else:
            judge_well(handler, number)

    server.behave = filtered
    judge = make()
    assert [[score is None for score in row] for row in ask(judge)] == [[False, True, False], [False] * 3]
    assert judge.spent()["unread"] == 1


def test_no_more_requests_run_at_a_time_than_allowed(make: Make, server: Server) -> None:
    def slowly(handler: Handler, number: int) -> None:
        time.sleep(0.05)
        judge_well(handler, number)

    server.behave = slowly
    ask(make(concurrency=2))
    assert server.most_running == 2


@pytest.mark.usefixtures("key")
def test_the_key_is_sent_and_shown_by_no_message(make: Make, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    judge = make(api_key_variable="JUDGE_KEY")
    ask(judge)
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}
    telltales = [saying({"error": f"your key {KEY[:12]}... is bad"}, 401), saying({"error": KEY}, 500),
                 saying({"choices": [{"message": {"content": [KEY]}}]}), saying(KEY.encode()),
                 saying(b"", 302, Location=f"http://elsewhere/{KEY}")]  # fmt: skip
    pool = Pool({"it": judge})
    with caplog.at_level(logging.INFO):
        for telltale in telltales:
            server.behave = telltale
            answer = pool.ask("it", PROMPTS[:1], [["x", "y"]], CPU)
            assert answer.failure is not None
            assert KEY[:8] not in answer.failure
    assert KEY[:8] not in caplog.text


KEY = "abcdefgh-ijklmnop-12345"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def test_a_missing_key_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judge = ChatJudge("https://judge.example/v1/chat/completions", "m", api_key_variable="JUDGE_KEY")
    with pytest.raises(ConfigurationError, match="JUDGE_KEY is not set"):
        judge.check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://judge/v1"}, "not of its chat endpoint"),
        ({"url": "https://judge.example"}, "not of its chat endpoint"),
        ({"url": "judge"}, "no http or https address"),
        ({"url": "http://me:s3cret@judge/v1/chat/completions"}, "api_key_variable"),
        ({"template": "{{ prompt "}, "The chat judge's template is no Jinja template"),
        ({"answers": {"1": 1.0}}, r"two answers or more, without white space around them, got \['1'\]"),
        ({"answers": {"1": 1.0, " 2": 2.0}}, "white space"),
        ({"answers": {"1": 1.0, "": 2.0}}, "two answers or more"),
        ({"answers": {"1": 1.0, "2": math.nan}}, "must be a finite number"),
        ({"answers": {"1": 1.0, "2": 2.0}, "opponents": 2}, "must be from 0 to 1 in comparisons"),
        ({"opponents": 0}, "opponents must be >= 1, got 0"), ({"max_tokens": 0}, "max_tokens"),
        ({"concurrency": 0}, "concurrency"), ({"max_answer_bytes": 0}, "max_answer_bytes"),
        ({"timeout": 0.0}, "timeout"), ({"retries": -1}, "retries"), ({"pause": math.nan}, "pause"),
        ({"prompt_price": -1.0}, "prompt_price"), ({"completion_price": math.inf}, "completion_price"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        ChatJudge(**{"url": "http://judge/v1/chat/completions", "model": "m", **settings})
    assert "s3cret" not in str(error.value)


def test_a_template_that_a_row_cannot_fill_is_found_before_the_run() -> None:
    judge = ChatJudge("http://judge/v1/chat/completions", "m", "{{ unit }}{{ response }}")
    judge.check_texts(PROMPTS[:1], str)
    with pytest.raises(ConfigurationError, match="chat judge's template cannot be filled from a row: 'unit'"):
        judge.check_texts(PROMPTS, str)


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_tokens_and_cost_are_counted_by_arm(make: Make) -> None:
    judge = make(prompt_price=2.0, completion_price=10.0)
    both = MeanEnsemble({"judge": judge, "other": Verifier()})
    assert both.spent() == {}
    pool = Pool({"it": judge, "free": make()})
    pool.score("it", PROMPTS, RESPONSES, CPU)
    pool.score("free", PROMPTS[:1], RESPONSES[:1], CPU)
    cost = (6 * 40 * 2.0 + 6 * 2 * 10.0) / 1e6
    counted = {"requests": 6, "prompt_tokens": 240, "completion_tokens": 12, "unread": 0, "parsed": 0}
    assert pool.spent["it"] == pytest.approx({**counted, "cost": cost})
    assert pool.spent["free"] == {"requests": 3, "prompt_tokens": 120, "completion_tokens": 6, "unread": 0, "parsed": 0}
    assert both.spent() == judge.spent() == pool.spent["it"]
    again = Pool({"it": judge})
    again.load_state_dict(json.loads(json.dumps(pool.state_dict())))
    again.score("it", PROMPTS, RESPONSES, CPU)
    assert again.spent["it"]["requests"] == 12
    assert again.spent["it"]["cost"] == pytest.approx(2 * cost)


def test_what_was_paid_before_a_failure_is_counted(make: Make, server: Server) -> None:
    server.behave = lambda handler, number: (judge_well if number <= 4 else saying(b"nonsense"))(handler, number)
    pool = Pool({"it": make(concurrency=1)})
    assert pool.score("it", PROMPTS, RESPONSES, CPU).isnan().all()
    assert pool.missing["it"] == {"exception": 6}
    assert pool.spent["it"]["requests"] == 4


def test_a_reply_is_paid_for_once(make: Make, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    scores = ask(make(cache=str(folder)))
    assert len(server.requests) == 6
    again = make(cache=str(folder))
    assert ask(again) == scores
    assert len(server.requests) == 6
    assert again.spent() == {"cached": 6, "unread": 0, "parsed": 0}


def test_what_came_before_a_failure_is_not_paid_for_again(make: Make, server: Server, tmp_path: Path) -> None:
    server.behave = lambda handler, number: (judge_well if number <= 4 else saying(b"nonsense"))(handler, number)
    with pytest.raises(ProtocolError):
        ask(make(cache=str(tmp_path), concurrency=1))
    server.behave = judge_well
    before = len(server.requests)
    assert None not in ask(make(cache=str(tmp_path)))[0]
    assert len(server.requests) == before + 2


@pytest.mark.parametrize(
    "changes",
    [{"template": "{{ prompt }}|{{ response }} "}, {"extra_body": {"seed": 5}}, {"max_tokens": 3},
     {"answers": {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0, "Well": 9.0}}],
    ids=str,
)  # fmt: skip
def test_another_question_is_asked(make: Make, server: Server, tmp_path: Path, changes: dict[str, Any]) -> None:
    ask(make(cache=str(tmp_path)))
    ask(make(cache=str(tmp_path), **changes))
    assert len(server.requests) == 12


def test_other_worths_are_no_other_question(make: Make, server: Server, tmp_path: Path) -> None:
    scores = ask(make(cache=str(tmp_path)))
    doubled = ask(make(cache=str(tmp_path), answers={str(k): 2.0 * k for k in range(1, 6)}, api_key_variable=None))
    assert [[2 * (score or 0) for score in row] for row in scores] == [pytest.approx(row) for row in doubled]
    assert len(server.requests) == 6


@pytest.mark.usefixtures("key")
def test_the_key_is_in_no_kept_reply(make: Make, server: Server, tmp_path: Path) -> None:
    server.behave = saying(completion(f"4\nYour key is {KEY}."))
    assert ask_about_one(make(cache=str(tmp_path), api_key_variable="JUDGE_KEY")) == 4
    (path,) = tmp_path.iterdir()
    assert KEY[:8] not in path.read_text()
    assert "Your key is ***." in path.read_text()
    assert ask_about_one(make(cache=str(tmp_path))) == 4  # whoever pays, it is the same question
    assert len(server.requests) == 1


DAMAGED = [
    "", "{", "null", "[]", "nonsense", "[" * 100_000, "{}", '{"key": "a"}',
    '{"key": 5, "answer": "4", "probabilities": {}}', '{"key": "a", "answer": "9", "probabilities": {}}',
    '{"key": "a", "answer": ["4"], "probabilities": {}}', '{"key": "a", "answer": "4", "probabilities": {"9": 0.5}}',
    '{"key": "a", "answer": "4", "probabilities": {"4": NaN}}',
    '{"key": "a", "answer": "4", "probabilities": {"4": "1"}}',
    '{"key": "a", "answer": "4", "probabilities": [0.5]}',
]  # fmt: skip


def test_damaged_lines_are_passed_over_with_a_warning(
    make: Make, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = ask(make(cache=str(tmp_path)))
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    lines = whole.splitlines()
    (tmp_path / "replies-other.jsonl").write_text("\n".join(DAMAGED) + "\n")
    path.write_text("\n".join(["broken", *lines[1:-1], lines[-1][:-3]]))  # the last one is torn
    assert ask(make(cache=str(tmp_path))) == scores
    assert len(server.requests) == 8  # the first and the last line's once more
    warnings = [record.getMessage() for record in caplog.records if "no replies" in record.getMessage()]
    assert [warning.split(" holds ")[1].split(" ")[0] for warning in sorted(warnings)] in (["1", "15"], ["15", "1"])


def _pays(address: str, folder: str, number: int) -> None:
    judge = ChatJudge(address + PATH, "judge", RATE, cache=folder)
    judge.load(CPU)
    judge.score(PROMPTS[:1], [[str(10 * number + k) for k in range(8)]])
    judge.unload()


def test_several_processes_share_a_folder(make: Make, server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_pays, args=(server.address, str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(server.requests) == 24
    judge = make(cache=str(tmp_path))
    judge.score(PROMPTS[:1], [[str(10 * number + k) for number in range(3) for k in range(8)]])
    assert judge.spent()["cached"] == len(server.requests) == 24


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        judge = ChatJudge("http://judge/v1/chat/completions", "m", cache=str(place))
        with pytest.raises(ConfigurationError, match=r"file' is no folder\. Set the chat judge's cache"):
            judge.check()


# -- in a run ----------------------------------------------------------------------------------------------------------


def spec(server: Server, **settings: Any) -> dict[str, Any]:
    init_args = {"url": server.address + PATH, "model": "judge", "template": RATE, **settings}
    return {"class_path": "laser_pl.rewards.ChatJudge", "init_args": init_args}


def lengths(handler: Handler, number: int) -> None:
    """A judge of whatever is asked: the longer, the better."""
    each = rating(handler.server.requests[number - 1][2]["messages"][0]["content"].partition("|")[2])
    handler.reply(completion("4", [("4", {"4": 0.01} | each)]))


def test_an_arm_and_a_constraint_pay_once_for_two_runs(
    fit: Fit, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = lengths
    kept = str(tmp_path / "kept")
    arm = spec(server, cache=kept, prompt_price=5.0)
    safety = {"reward_model": spec(server, cache=kept, template="safe?|{{ response }}"), "threshold": 0.5}
    args = [f"--selection.reward_models={json.dumps({'chat': arm})}", "--data.prompts_per_iteration=4",
            f"--selection.constraints={json.dumps({'safe': safety})}"]  # fmt: skip
    run = fit(tmp_path / "one", *args)
    assert {d["arm"] for d in decisions_of(run)} == {"chat"}
    spending = run.summary["reward_model_spending"]
    assert spending["chat"]["requests"] + spending["safe"]["requests"] == len(server.requests) > 0
    assert spending["chat"]["cost"] == pytest.approx(spending["chat"]["prompt_tokens"] * 5e-6)
    assert "Spent on chat: " in capsys.readouterr().out
    before = len(server.requests)
    again = fit(tmp_path / "two", *args)
    assert len(server.requests) == before
    assert again.summary["reward_model_spending"]["chat"]["cached"] == spending["chat"]["requests"]
    assert [d["loss"] for d in decisions_of(again)] == [d["loss"] for d in decisions_of(run)]
    for finished in (run, again):
        for reward_model in finished.selector.pool.reward_models.values():
            reward_model.unload()


def test_it_judges_win_rates(server: Server, tmp_path: Path) -> None:
    settings = {"opponents": 1, "template": COMPARE}
    path = tmp_path / "judge.yaml"
    path.write_text(json.dumps(spec(server, **settings)))
    judge, digest = read_judge(path)
    assert isinstance(judge, ChatJudge)
    ours, theirs = {"p": ["a long one"], "c": ["4"]}, {"p": ["short"], "c": ["four"]}
    found = compare(judge, digest, PROMPTS, ours, theirs, tmp_path, CPU)
    assert [comparison.won for comparison in found] == [1.0, 0.0]
    assert judge.spent()["requests"] == 4


def test_a_strangers_run_names_neither_a_server_nor_a_folder_to_write_to() -> None:
    url, cache = "http://127.0.0.1:9/v1/chat/completions", "/etc/replies"
    config = {"selection": {"reward_models": {"x": {"init_args": {"url": url, "cache": cache}}}}}
    with pytest.raises(ConfigurationError, match=r"x\.init_args\.url is"):
        refuse_code(config, "it", asks=True)
    with pytest.raises(ConfigurationError, match=r"x\.init_args\.cache is '/etc/replies', which would be written to"):
        refuse_code(config, "it", [f"--url={url}"], asks=True)
    refuse_code(config, "it", [f"--url={url}", f"--cache={cache}"], asks=True)
    refuse_code(config, "it")


def test_replies_are_kept_where_the_path_lies_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    url = "http://127.0.0.1:9/v1/chat/completions"
    assert ChatJudge(url, "m", cache="~/replies").cache == str(tmp_path / "replies")
    assert ChatJudge(url, "m", cache="replies").cache == str(tmp_path / "replies")
