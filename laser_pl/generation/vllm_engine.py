"""An engine behind a running vLLM server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from laser_pl.batches import PromptBatch, Responses
from laser_pl.errors import ConfigurationError
from laser_pl.generation.cut import responses_of
from laser_pl.generation.ends import end_ids
from laser_pl.generation.engine import RolloutEngine
from laser_pl.generation.probe import Probe
from laser_pl.generation.published import name_of, refuse_rank, refuse_unservable, write_adapter
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.text import unknown_ids
from laser_pl.generation.vllm_protocol import MOST_PROMPTS, Asked, Written
from laser_pl.generation.vllm_server import VLLMServer
from laser_pl.messages.places import absolute
from laser_pl.runtime.meanwhile import Meanwhile
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.runtime.seeds import derive_seed
from laser_pl.runtime.sharding import gathered

if TYPE_CHECKING:
    from peft import PeftModel

ANOTHER_MODEL = 0.25
"""Mean difference of the probe's log-probabilities, in nats per token, from which the server has another base. Rounding
and 4-bit weights stay below a tenth."""


class VLLMEngine(RolloutEngine):
    """Has a vLLM server sample. It holds the base model and is given each iteration's adapter.

    The server is started beside the run with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``
    (``experiments/engines/vllm.sh``). It reads and writes token ids, so what is trained is what was sampled. Before the
    first response it is seen to hold the same base. What it samples depends on its kernels and on what it samples
    beside it, so two runs of one seed need not be alike; a run that is resumed goes on with the responses that lie on
    disk.

    Args:
        url: Where it listens, such as ``http://localhost:8000``.
        adapters: Folder for adapters, which the server sees by the same path; null: a temporary one. That does for a
            server on the same machine.
        seeded: Send a seed with every request. Some builds for CPUs die of it.
        sleep: Put the server to sleep while nobody asks it, so that one card does for both. It has to be started with
            ``--enable-sleep-mode`` and ``VLLM_SERVER_DEV_MODE=1``.
        prompts_per_request: Prompts in one request.
        concurrency: Requests at a time.
        timeout: Seconds for one attempt of a request.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them, which doubles.
        api_key_variable: The environment variable with the server's key; null sends none. It is sent as a bearer token.
    """

    def __init__(
        self,
        url: str,
        adapters: str | None = None,
        seeded: bool = True,
        sleep: bool = False,
        prompts_per_request: int = 16,
        concurrency: int = 4,
        timeout: float = 600.0,
        retries: int = 3,
        pause: float = 1.0,
        api_key_variable: str | None = None,
    ) -> None:
        if not 1 <= prompts_per_request <= MOST_PROMPTS:
            raise ConfigurationError(
                f"The vLLM engine's prompts_per_request must be from 1 to {MOST_PROMPTS}, got {prompts_per_request}."
                " Set it in model.engine."
            )
        self.server = VLLMServer(url, concurrency, timeout, retries, pause, api_key_variable)
        self.adapters = None if adapters is None else absolute(adapters)
        self.seeded = seeded
        self.sleep = sleep
        self.prompts_per_request = prompts_per_request
        self._tokenizer: Any = None
        self._vocabulary = 0
        self._eos: list[int] = []
        self._served: str | None = None  # the policy's name at the server
        self._loaded: list[str] = []  # by us
        self._known = False  # that the server's base is ours
        self._ahead: Meanwhile | None = None  # what is done beside training

    def check(self, rank: int, longest: Callable[[], int]) -> None:
        """See whether the server is there, takes adapters of that rank, and can read texts that long.

        Raises:
            ConfigurationError: If not.
        """
        served = self.server.models()
        if served.longest is not None and served.longest < (needed := longest()):
            raise ConfigurationError(
                f"The vLLM server at {self.server.url} reads {served.longest} tokens, and prompts with their responses"
                f" may have {needed}. Start it with a larger --max-model-len, or lower data.max_prompt_tokens or"
                " max_new_tokens in data.rollouts and model.evaluation."
            )
        refuse_rank(rank, self.server.highest_rank())

    def publish(self, model: PeftModel, tokenizer: Any, processes: ProcessGroup) -> None:
        """Wake the server, see that its base is ours, and have it load the adapter under a name of its own.

        The adapter before this one stays loaded until the next comes. What samples ahead is waited for.

        Raises:
            ConfigurationError: If the server cannot be asked, has another base, or refuses the adapter.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.end()
        base = model.get_base_model()
        self._tokenizer, self._vocabulary = tokenizer, base.config.get_text_config().vocab_size
        self._eos = end_ids(base.generation_config, tokenizer)
        refuse_unservable(model.peft_config["default"])
        trained = gathered(model)
        name, ours = name_of(model, trained), None if self._known else Probe.of(model, tokenizer)
        failed: str | None = None
        if processes.rank == 0:
            try:
                self._served = self._take_up(model, trained, name, ours)
            except ConfigurationError as error:
                failed = str(error)
        failed, self._served = processes.gather((failed, self._served))[0]
        if failed is not None:
            raise ConfigurationError(failed)
        self._known = True

    def _take_up(
        self, model: PeftModel, trained: dict[str, Tensor] | None, name: str | None, ours: Probe | None
    ) -> str:
        """Under which name the server now has the policy."""
        if self.sleep:
            self.server.wake()
        served = self.server.models()
        if ours is not None:
            self._refuse_another_base(served.base, ours)
        if name is None:
            return served.base
        if name not in served.adapters:
            refuse_rank(model.peft_config["default"].r, self.server.highest_rank())
            self._load(model, trained, name, served.adapters)
        return name

    def _load(self, model: PeftModel, trained: dict[str, Tensor] | None, name: str, there: Sequence[str]) -> None:
        if self.adapters is None:
            self.adapters = Path(tempfile.mkdtemp(prefix="laser-adapters-"))
        for old in self._loaded[:-1]:
            if old in there:
                self.server.unload(old)
            shutil.rmtree(self.adapters / old, ignore_errors=True)
        write_adapter(model, trained, self.adapters / name)
        self.server.load(name, self.adapters / name)
        self._loaded = [*self._loaded[-1:], name]

    def _refuse_another_base(self, base: str, ours: Probe) -> None:
        what = f"The vLLM server at {self.server.url} serves '{base}'"
        advice = "Start it with the folder or name that model.weights.name has."
        if self.server.probe(base, ours.text)[0] != ours.ids:
            raise ConfigurationError(f"{what}, which cuts texts up into other tokens than the policy does. {advice}")
        found = torch.tensor(self.server.probe(base, ours.ids)[1])
        apart = float((found - ours.logprobs).abs().mean())
        if not apart <= ANOTHER_MODEL:
            raise ConfigurationError(
                f"{what}, whose log-probabilities of a text differ from those of the policy's base by {apart:.2f} nats"
                f" per token: it has other weights. {advice}"
            )

    @property
    def beside(self) -> bool:
        """Unless the server sleeps while the policy is trained."""
        return not self.sleep

    def ahead(self, work: Callable[[], None]) -> None:
        """Do it in a thread, see ``RolloutEngine.ahead``."""
        if self.beside:
            self._ahead = Meanwhile(work)
        else:
            work()

    def wait(self) -> None:
        """Wait for that thread."""
        if self._ahead is not None:
            self._ahead.wait()

    def rest(self, processes: ProcessGroup) -> None:
        """Put the server to sleep, if that is asked for, once no process has a request under way."""
        if self.sleep:
            processes.gather(None)
            if processes.rank == 0:
                self.server.put_to_sleep()

    def respond(self, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
        """Have the server sample; with the log-probability of each response as it computed it.

        Raises:
            ConfigurationError: If it does not answer, or with something else.
            RuntimeError: Before ``publish``.
        """
        if self._served is None:
            raise RuntimeError("There is no policy to answer with yet; call publish() first.")
        never = sorted({self._tokenizer.pad_token_id, *unknown_ids(self._tokenizer, self._vocabulary)} - {*self._eos})
        ids, size = prompts.ids(), self.prompts_per_request
        every = [
            Asked(
                model=self._served,
                prompts=ids[start : start + size],
                sampling=sampling,
                never=never,
                eos=self._eos,
                seed=derive_seed(seed, start) % 2**31 if self.seeded else None,
            )
            for start in range(0, len(ids), size)
        ]
        written = self.server.complete(every, self._vocabulary)
        return self._responses(written, sampling, prompts.tokens.device)

    def _responses(self, written: list[list[Written]], sampling: Sampling, device: torch.device) -> Responses:
        lengths = torch.tensor([[len(one.tokens) for one in row] for row in written], device=device)  # (B, n)
        width = int(lengths.max())

        def padded(values: Callable[[Written], list[Any]], fill: float) -> Tensor:
            rows = [[[*values(one), *[fill] * (width - len(one.tokens))] for one in row] for row in written]
            return torch.tensor(rows, device=device)  # (B, n, T)

        tokens = padded(lambda one: one.tokens, self._tokenizer.pad_token_id)
        responses = responses_of(tokens, self._eos, sampling.stop, self._tokenizer, lengths)
        logprobs = (padded(lambda one: one.logprobs, 0.0) * responses.mask).sum(-1)
        return replace(responses, logprobs=logprobs)
