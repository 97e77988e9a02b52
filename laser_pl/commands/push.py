"""``python -m laser_pl push``: a finished run's adapter on the hub, with its card."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, RepoCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.errors import ConfigurationError, writable
from laser_pl.messages.keys import masked
from laser_pl.messages.terminal import shown
from laser_pl.report.model_card import is_ours, model_card
from laser_pl.report.records import read_records
from laser_pl.report.runs import read_run
from laser_pl.run.files import read_text, reading, write_whole
from laser_pl.run.folder import RunFolder

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
"""What is uploaded, and nothing else that may lie there."""
_MOST = 2**40


def push_adapter(args: Sequence[str]) -> str:
    """Upload a run's adapter and its card. This is the one command that sends anything to the network.

    Args:
        args: What stands behind ``push`` on the command line.

    Returns:
        The commit's address.

    Raises:
        ConfigurationError: If there is no finished run, no token, or the hub refuses.
    """
    parser = Arguments("push", "Upload a finished run's adapter to the hub, with its card.")
    parser.add_argument("run", metavar="RUN", type=Path, help="A finished run's folder.")
    parser.add_argument(
        "--repo",
        required=True,
        help="OWNER/NAME on the hub. Made if it is not there, for all to see; make a private one beforehand.",
    )
    parser.add_argument("--license", help="What the card says of the licence, such as apache-2.0; nothing by default.")
    options = parser.parse_args(args)
    _refuse_repo(options.repo)
    read_run(options.run)
    folder = RunFolder(options.run)
    missing = [name for name in FILES[:2] if not (folder.adapter / name).is_file()]
    if missing:
        raise ConfigurationError(f"push: '{folder.adapter}' has no {missing[0]}. Put it back, or push another run.")
    token = get_token()  # of the environment, or of an earlier login
    if token is None:
        raise ConfigurationError(
            "push: there is no token. Set HF_TOKEN to one that may write, from https://huggingface.co/settings/tokens."
        )
    with writable(folder.adapter):
        write_card(folder, options.license)
    if not sys.stderr.isatty():
        disable_progress_bars()
    address = _upload(HfApi(token=token), folder, options.repo)
    print(f"Pushed: {shown(address)}")
    return address


def write_card(folder: RunFolder, license_: str | None = None) -> None:
    """Write the adapter's card if there is none of ours yet, and the licence into its head.

    Args:
        folder: A finished run's.
        license_: As the hub names it.

    Raises:
        ConfigurationError: If that is no such name.
    """
    card = folder.adapter / "README.md"
    text = read_text(card, folder.path, errors="replace") if card.is_file() else ""
    if not is_ours(text):
        text = model_card(read_records(folder.path))
        write_whole(card, text, folder.path)
    if license_ is not None:
        if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license_) is None:
            raise ConfigurationError(f"--license is '{license_}'; give it as the hub names it, such as apache-2.0.")
        headed = RepoCard(text)
        headed.data["license"] = license_
        write_whole(card, str(headed), folder.path)


def _refuse_repo(repo: str) -> None:
    try:
        validate_repo_id(repo)
    except HFValidationError:
        repo = ""
    if repo.count("/") != 1:
        raise ConfigurationError("push: --repo must be OWNER/NAME, of letters, digits, '-', '_' and '.'.")


def _upload(api: HfApi, folder: RunFolder, repo: str) -> str:
    hub = constants.ENDPOINT

    def told(error: Exception) -> str:
        """In a line; a server may send back what it was sent."""
        return masked(" ".join(str(error).split()), str(api.token)) or type(error).__name__

    try:
        api.create_repo(repo, exist_ok=True)
        with ExitStack() as stack:  # as they are opened here: what is put in their place meanwhile is not sent
            files = [(name, stack.enter_context(reading(folder.adapter / name, folder.path, _MOST))) for name in FILES]
            done = api.create_commit(
                repo_id=repo,
                operations=[CommitOperationAdd(name, file) for name, file in files],
                commit_message=f"Adapter of the run {folder.path.resolve().name}",
            )
    except OfflineModeIsEnabled:
        raise ConfigurationError("push: HF_HUB_OFFLINE is set, so nothing can be sent. Unset it.") from None
    except HfHubHTTPError as error:
        raise ConfigurationError(f"push: {hub} refuses '{repo}': {_reason(error, str(api.token))}") from None
    except ValueError as error:  # the hub's words about the card's head, or an answer that is none
        raise ConfigurationError(f"push: {hub} does not take it: {told(error)}") from None
    except Exception as error:  # of whichever library carries the requests; that changes with the client's version
        raise ConfigurationError(f"push: {hub} cannot be reached ({told(error)}). Try again once it can.") from None
    return str(done.commit_url)


def _reason(error: HfHubHTTPError, token: str) -> str:
    """What the status means here; of the server's words no more than a line, and never the token."""
    status = error.response.status_code
    words = " ".join(masked(error.server_message or "", token).split())[:200]
    told = f"{status} {words}".strip()
    if status == 401:
        return f"{told}. The token in HF_TOKEN is not known there, or has expired; make a new one."
    if status == 403:
        return f"{told}. The token in HF_TOKEN may not write there; give it that right, or another --repo."
    return f"{told}. Try again later, or with another --repo."


def main(args: Sequence[str]) -> str:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(push_adapter, args)
