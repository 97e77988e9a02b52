"""Keys that somebody sends back, or writes where they would be kept."""

from __future__ import annotations

import base64
import json
import reprlib
from urllib.parse import quote

import pytest

from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked, masked_in, refuse_keys
from laser_pl.report.markdown import cell
from laser_pl.rewards.protocols import OpenRLHF, ProtocolError
from laser_pl.rewards.remote import RemoteReward

KEY = "sk-ant-0123'456789\"abcdefghijklmnopqrstuvwxyz%/ABCDEFGHIJ"
"""With quotes, which `repr` escapes, and longer than what `reprlib` shows."""


def pieces(text: str, key: str = KEY) -> set[str]:
    """What of the key a text shows, in eight characters or more."""
    return {key[start : start + 8] for start in range(len(key) - 7) if key[start : start + 8] in text}


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        f"Bearer {KEY}."[:40],
        repr(f"{KEY} is odd"),
        reprlib.repr(f"{KEY} is odd"),
        json.dumps({"error": KEY}),
        KEY[:12],
        f"{KEY[:20]} ... {KEY[30:]}",
    ],
)
def test_no_piece_of_a_key_is_shown(said: str) -> None:
    assert pieces(said)
    assert not pieces(masked(said, KEY))
    assert "***" in masked(said, KEY)


@pytest.mark.parametrize("form", [quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()])
def test_a_key_in_another_form_is_not_shown(form: str) -> None:
    assert form[:20] not in masked(f"you sent {form}", KEY)


def test_other_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", KEY)
    assert masked("the server answered with status 500") == "the server answered with status 500"
    assert masked_in({"a": [1.5, None, KEY]}) == {"a": [1.5, None, "***"]}


@pytest.mark.parametrize("rewards", [KEY, [KEY], {"x": KEY}, [[KEY]], [{KEY: 1}]])
def test_a_reply_that_holds_the_key_is_told_without_it(monkeypatch: pytest.MonkeyPatch, rewards: object) -> None:
    monkeypatch.setenv("JUDGE", KEY)
    server = RemoteReward("http://localhost/", OpenRLHF(), api_key_variable="JUDGE")
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    for answer in (json.dumps({"rewards": rewards}), f'{{"error": "{escaped}"}}'):
        with pytest.raises(ProtocolError) as told:
            server.read(answer.encode(), 1)
        assert not pieces(str(told.value))


@pytest.mark.parametrize("query", ["api_key=s3cret", "key=s3cret", "access_token=s3cret&x=1", "X-Amz-Signature=s3cret"])
def test_an_address_with_a_key_is_refused(query: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key_variable") as told:
        RemoteReward(f"http://localhost/score?{query}", OpenRLHF())
    assert "s3cret" not in str(told.value)
    RemoteReward("http://localhost/score?model=s3cret", OpenRLHF())


@pytest.mark.parametrize(
    "name", ["trainer.logger.init_args.api_key", "a.access_token", "a.password", "data.train.path"]
)
def test_a_configuration_with_a_key_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret_of_the_environment")
    value = "https://me:s3cret@host/rows.jsonl" if name.endswith("path") else "s3cret"
    with pytest.raises(ConfigurationError, match="environment variable") as told:
        refuse_keys([(name, value)])
    assert "s3cret" not in str(told.value)
    with pytest.raises(ConfigurationError, match="environment variable"):
        refuse_keys([("name", "run-hf_s3cret_of_the_environment")])
    refuse_keys([("model.pad_token", "<pad>"), ("api_key_variable", "JUDGE_KEY"), (name, None)])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    assert cell(text)[0] in "'\\"
