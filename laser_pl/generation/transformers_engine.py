"""The engine in the trainer's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laser_pl.batches import PromptBatch, Responses
from laser_pl.generation.engine import RolloutEngine
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.runtime.process_group import ProcessGroup

if TYPE_CHECKING:
    from peft import PeftModel


class TransformersEngine(RolloutEngine):
    """Samples in this process, by transformers. Nothing is copied, and nothing runs beside."""

    def __init__(self) -> None:
        self._writes: tuple[Any, Any] | None = None

    def publish(self, model: PeftModel, tokenizer: Any, processes: ProcessGroup) -> None:
        """Note whose weights they are; what they become later counts at once."""
        self._writes = model.get_base_model(), tokenizer  # PEFT's wrapper adds nothing but time to every token

    def respond(self, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
        """Sample, see ``laser_pl.generation.sampler.sample_responses``.

        Raises:
            RuntimeError: Before ``publish``.
        """
        if self._writes is None:
            raise RuntimeError("There is no policy to answer with yet; call publish() first.")
        return sample_responses(*self._writes, prompts, sampling, seed)
