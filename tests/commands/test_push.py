"""An adapter on its way to a hub that listens on this machine, and may refuse."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.commands.push import main, write_card
from laser_pl.run.folder import RunFolder

TOKEN = "hf_a_token_that_nobody_may_see"
TENSORS = b"no tensors, but bytes that go over the wire"


class Handler(BaseHTTPRequestHandler):
    """The hub's part in an upload: repository, card, which files are large, these, and the commit."""

    server: Hub

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization"), body))
        refusal = next((status for start, status in self.server.refuse.items() if self.path.startswith(start)), None)
        status, told = (refusal, {"error": self.server.words}) if refusal else (200, self.server.told(self.path, body))
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - their names are http.server's

    def log_message(self, *args: Any) -> None:
        """Not on the screen."""


class Hub(ThreadingHTTPServer):
    """Takes everything, but for paths that begin with one in ``refuse``, which get its status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[tuple[str, str, str | None, bytes]] = []
        self.refuse: dict[str, int] = {}
        self.words = "No, you may not"

    def told(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/api/repos/create":
            return {"url": f"{self.address}/me/it"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.startswith("/api/models/me/it/preupload/"):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in names]
            files = zip(names, modes, strict=True)
            return {"files": [{"path": name, "shouldIgnore": False, "uploadMode": mode} for name, mode in files]}
        if path == "/me/it.git/info/lfs/objects/batch":
            return {"objects": [{**one, "actions": {"upload": {"href": f"{self.address}/large/{one['oid']}"}}}
                                for one in json.loads(body)["objects"]]}  # fmt: skip
        if path.startswith("/api/models/me/it/commit/"):
            return {"commitUrl": f"{self.address}/me/it/commit/0123", "commitOid": "0123"}
        return {}

    def sent(self, start: str) -> list[bytes]:
        return [body for _, path, _, body in self.requests if path.startswith(start)]

    def files(self) -> dict[str, bytes]:
        """What the commit holds: small files as they are, of large ones what was uploaded under their digest."""
        (commit,) = self.sent("/api/models/me/it/commit/")
        found = {}
        for line in map(json.loads, commit.splitlines()):
            if line["key"] == "file":
                found[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"] == "lfsFile":
                (found[line["value"]["path"]],) = self.sent(f"/large/{line['value']['oid']}")
        return found


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's folder, as far as it is looked at."""
    folder = tmp_path / "my run"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(TENSORS)
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "adapter" / "README.md").write_text("---\nlibrary_name: peft\n---\n\n# Model Card for Model ID\n")
    (folder / "adapter" / "notes.txt").write_text("not for everybody")
    judge = {"class_path": "m.Classifier", "init_args": {"weights": {"name": "o/rm"}}}
    config: dict[str, Any] = {
        "seed_everything": 3,
        "trainer": {"logger": {"init_args": {"entity": "our-secret-project"}}},
        "model": {"weights": {"name": "owner/base"}, "lora": {"rank": 4, "targets": ["q_proj", "v_proj"]}},
        "data": {"train": {"path": "t.jsonl", "split": None}, "test": None, "batch_size": 4, "rollouts": {"n": 3}},
        "selection": {
            "reward_models": {"a|[x](http://evil)": judge},
            "bandit": {"class_path": "laser_pl.bandits.LinUCB", "init_args": {"alpha": 0.7}},
            "pairs": {"class_path": "laser_pl.data.pairs.BestWorst"},
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    after = {"<b>sums</b>": 0.75, "average": 0.75}
    summary = {
        "accuracy": {"before": {"<b>sums</b>": 0.5, "average": 0.5}, "after": after}, "iterations": 2, "steps": 8,
        "arm_share": {"<b>sums</b>": {"a|[x](http://evil)": 1.0}}, "seconds": {"total": 9.0},
        "reward_model_forwards": {"a": 3}, "versions": {"laser_pl": "0.1", "peft": "0.18"},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def push(run: Path, endpoint: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which has nothing to do with torch."""
    code = "import sys; from laser_pl.__main__ import run; run(); assert 'torch' not in sys.modules"
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    # Without Xet: its uploads are Rust's, and another server's.
    hugging = {"HF_HOME": str(run.parent / "hf"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    return subprocess.run(
        [sys.executable, "-c", code, "push", str(run), *args], capture_output=True, text=True, cwd=run.parent,
        env={**known, **hugging, **env}, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert TOKEN not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_the_adapter_and_its_card_arrive_and_nothing_else(hub: Hub, run: Path) -> None:
    done = push(run, hub.address, "--repo", "me/it", "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Pushed: {hub.address}/me/it/commit/0123\n"
    files = hub.files()
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert files["adapter_model.safetensors"] == TENSORS
    assert files["README.md"] == (run / "adapter" / "README.md").read_bytes()
    (batch,) = hub.sent("/me/it.git")
    assert json.loads(batch)["objects"][0]["oid"] == hashlib.sha256(TENSORS).hexdigest()
    assert json.loads(hub.sent("/api/repos/create")[0]) == {"name": "it", "organization": "me"}
    api = [authorization for _, path, authorization, _ in hub.requests if path.startswith("/api/repos")]
    assert api == [f"Bearer {TOKEN}"]
    written = [done.stdout, done.stderr, *(p.read_text(errors="replace") for p in run.rglob("*") if p.is_file())]
    assert not any(TOKEN in text for text in written)
    assert "license: apache-2.0\n" in files["README.md"].decode()


def test_a_card_holds_no_markup_but_its_own_and_not_where_it_was_logged(run: Path) -> None:
    write_card(RunFolder(run))
    card = (run / "adapter" / "README.md").read_text()
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head) == {
        "base_model": "owner/base", "library_name": "peft", "pipeline_tag": "text-generation",
        "tags": ["dpo", "laser_pl", "lora", "reward-model-selection"],
        "model-index": [{"name": "my run", "results": [{
            "task": {"type": "text-generation"},
            "dataset": {"name": "a part of the training data", "type": "file", **config},
            "metrics": [{"type": "accuracy", "name": "accuracy of sampled responses", "value": value}],
        } for config, value in (({"config": "&lt;b&gt;sums&lt;/b&gt;"}, 0.75), ({}, 0.75))]}],
    }  # fmt: skip
    shown, _, configured = text.partition("## Configuration")
    for expected in (
        "# my run", "| &lt;b&gt;sums&lt;/b&gt; | 0.500 | 0.750 |", "a\\|\\[x\\](http&#58;//evil) (Classifier, o/rm)",
        "| &lt;b&gt;sums&lt;/b&gt; | 100% |", "LinUCB with alpha 0.7", "rank 4", "q\\_proj, v\\_proj",
        "| peft | 0.18 |", "Seed 3.", 'base = "owner/base"', "t.jsonl; tested on a part of the training data",
        "2 iterations of all prompts",
    ):  # fmt: skip
        assert expected in shown
    assert "<b>" not in shown
    assert "[x](" not in shown
    assert "```yaml\nseed_everything: 3\nmodel:" in configured
    assert "our-secret-project" not in card
    assert "arXiv:2410.01735" in configured


def test_no_text_of_a_configuration_ends_its_block(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["template"] = {"class_path": "x.Plain", "init_args": {"after": "```\n# No heading\n\x1b[31m"}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    write_card(RunFolder(run))
    block = (run / "adapter" / "README.md").read_text().partition("## Configuration\n\n")[2].partition("## Citation")[0]
    lines = block.strip().splitlines()
    assert (lines[0], lines[-1]) == ("````yaml", "````")
    assert yaml.safe_load("\n".join(lines[1:-1]))["seed_everything"] == 3
    assert "\x1b" not in block


def test_a_card_that_somebody_has_finished_is_left_as_it_is(run: Path) -> None:
    card = run / "adapter" / "README.md"
    write_card(RunFolder(run))
    mine = card.read_text().replace("# my run", "# What I call it")
    card.write_text(mine)
    write_card(RunFolder(run), "mit")
    head, _, text = card.read_text().partition("\n---\n")
    assert yaml.safe_load(head.removeprefix("---\n"))["license"] == "mit"
    assert text == mine.partition("\n---\n")[2]
    write_card(RunFolder(run))
    assert "license: mit" in card.read_text()


def test_a_base_that_lies_on_a_disk_is_no_name_of_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "base").mkdir(parents=True)
    write_card(RunFolder(run))
    card = (run / "adapter" / "README.md").read_text()
    assert "base_model" not in card.partition("\n---\n")[0]
    assert "A LoRA adapter for owner/base (a folder of whoever trained it)" in card


@pytest.mark.parametrize(
    ("refuse", "told"),
    [
        (
            {"/api": 401},
            "401 No, you may not. The token in HF_TOKEN is not known there, or has expired; make a new one.",
        ),
        ({"/api": 403}, "403 No, you may not. The token in HF_TOKEN may not write there"),
        ({"/api/models/me/it/commit": 500}, "500 No, you may not. Try again later"),
    ],
)
def test_a_hub_that_refuses_is_quoted_in_a_sentence(hub: Hub, run: Path, refuse: dict[str, int], told: str) -> None:
    hub.refuse = refuse
    line = refused(push(run, hub.address, "--repo", "me/it"))
    assert f"laser_pl: push: {hub.address} refuses 'me/it': {told}" in line


def test_a_hub_that_sends_the_token_back_does_not_get_it_shown(hub: Hub, run: Path) -> None:
    hub.refuse, hub.words = {"/api": 400}, f"Bearer {TOKEN} is odd"
    assert "400 Bearer *** is odd" in refused(push(run, hub.address, "--repo", "me/it"))


def test_a_hub_that_is_not_there_is_told(hub: Hub, run: Path) -> None:
    hub.shutdown()
    hub.server_close()
    line = refused(push(run, hub.address, "--repo", "me/it"))
    assert line.startswith(f"laser_pl: push: {hub.address} cannot be reached (")


def damaged(run: Path) -> None:
    (run / "adapter" / "adapter_model.safetensors").unlink()


def unfinished(run: Path) -> None:
    (run / "summary.json").unlink()


@pytest.mark.parametrize(
    ("args", "token", "before", "told"),
    [
        (["--repo", "me/it"], "", None, "push: there is no token. Set HF_TOKEN to one that may write"),
        (["--repo", "me/it"], TOKEN, None, "push: HF_HUB_OFFLINE is set, so nothing can be sent"),  # as in all tests
        (["--repo", "it"], TOKEN, None, "push: --repo must be OWNER/NAME"),
        (["--repo", "me/it/too"], TOKEN, None, "push: --repo must be OWNER/NAME"),
        ([], TOKEN, None, "the following arguments are required: --repo"),
        (["--repo", "me/it", "--license", "My own!"], TOKEN, None, "--license is 'My own!'"),
        (["--repo", "me/it"], TOKEN, damaged, "has no adapter_model.safetensors"),
        (["--repo", "me/it"], TOKEN, unfinished, "is not finished"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_sent(
    hub: Hub, run: Path, args: list[str], token: str, before: Callable[[Path], None] | None, told: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    if before is not None:
        before(run)
    with pytest.raises(SystemExit) as end:
        main([str(run), *args])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert hub.requests == []
