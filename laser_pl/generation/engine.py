"""What answers prompts with the policy: a slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from laser_pl.batches import PromptBatch, Responses
from laser_pl.generation.sampling import Sampling
from laser_pl.runtime.process_group import ProcessGroup

if TYPE_CHECKING:
    from peft import PeftModel


class RolloutEngine(ABC):
    """Samples responses from the policy, in this process or elsewhere.

    Training, validation, test, ``predict`` and ``winrate`` get their responses from it, and from it nothing but them:
    contexts and log-probabilities are the trainer's own.
    """

    def check(self, rank: int, longest: Callable[[], int]) -> None:
        """Find mistakes before any weights are loaded.

        Args:
            rank: The adapter's.
            longest: Counts the tokens of the longest prompt and its longest response.

        Raises:
            ConfigurationError: If the engine could not answer.
        """

    @abstractmethod
    def publish(self, model: PeftModel, tokenizer: Any, processes: ProcessGroup) -> None:
        """Take up the policy as it is now: ``respond`` answers with it until the next time.

        Every process calls it at once: at the start of an iteration's rollouts, of a validation, a test, a prediction.

        Args:
            model: The language model with its adapter.
            tokenizer: Its tokenizer, with PAD.
            processes: The processes.
        """

    @abstractmethod
    def respond(self, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
        """Sample ``n`` responses to each prompt. PAD is never among their tokens.

        Args:
            prompts: ``B`` prompts, on the policy's device.
            sampling: How.
            seed: Where the random numbers start; the caller's random state is left alone.

        Returns:
            On the prompts' device.
        """

    @property
    def beside(self) -> bool:
        """Whether it can sample while this process trains: what does so needs nothing that training uses."""
        return False

    def ahead(self, work: Callable[[], None]) -> None:
        """Do work that calls ``respond`` for what is needed only later, with the policy that was published last.

        Here it is done at once. An engine that samples ``beside`` training returns, and does it meanwhile; its
        ``publish`` then waits until it is done, and raises what it raised.

        Args:
            work: It. It has all that it needs, and exchanges nothing with other processes.
        """
        work()

    def wait(self) -> None:
        """Wait until work given to ``ahead`` has ended, well or badly."""

    def rest(self, processes: ProcessGroup) -> None:
        """Nobody asks until the policy is published again; every process calls it.

        Args:
            processes: The processes.
        """
