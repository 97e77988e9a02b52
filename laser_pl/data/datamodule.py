"""The data module: prompts at set-up, fresh rollouts at the start of every iteration."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.data.fitting import fitting, warn_of_earlier_end
from laser_pl.data.leaks import leaks
from laser_pl.data.loaders import PromptLoader, RolloutLoader, share_of
from laser_pl.data.plan import batches_of_iteration, prompts_of_iteration, split_every
from laser_pl.data.prompts import (
    Columns,
    Overlong,
    digest_of_prompts,
    encode,
    prompts_from,
    split_by_hash,
    token_lengths,
)
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.data.rollouts import Rollouts, is_another_to_come
from laser_pl.data.tables import Table
from laser_pl.data.templates import Plain, Template, chat_left_out
from laser_pl.data.unreadable import warn_of_unreadable
from laser_pl.data.written import ends_to_learn, written_batch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.ends import ends_of_turn
from laser_pl.generation.sampling import Sampling
from laser_pl.policy.policy import Policy
from laser_pl.run.folder import RunFolder
from laser_pl.run.line_cache import digest_of
from laser_pl.runtime import progress
from laser_pl.runtime.process_group import ProcessGroup

log = logging.getLogger(__name__)


class PreferenceData(LightningDataModule):
    """Prompts for a policy, and what it answers to them.

    ``train_dataloader`` makes an iteration's rollouts, so the trainer needs ``reload_dataloaders_every_n_epochs: 1``.
    Rollouts are written to ``rollouts/`` in the trainer's ``default_root_dir`` as they are made. Chunks that an
    interrupted run left there are read, not made again; another run's are refused, since another policy wrote them.

    Args:
        train: Prompts to train on: a file, a data set's folder, or a hub name.
        validation: Prompts to validate on; null: ``validation_fraction`` of ``train``.
        test: Prompts to test on; null: ``test_fraction`` of ``train``.
        columns: Which column holds what.
        template: From a row to what the policy reads.
        rollouts: How responses are sampled for training.
        batch_size: Prompts per training step.
        prompts_per_iteration: How many prompts one iteration uses, in turn; null uses all.
        one_category_per_batch: Batches of one category, so that one judge can fit it all.
        rollout_batch_size: Prompts per generation, and per file of the rollout store.
        evaluation_batch_size: Prompts per generation in validation and test.
        max_prompt_tokens: Longest prompt in tokens. Never more than the policy can read before a longest response.
        overlong: Longer ones are dropped, or cut on the left or in the middle.
        validation_fraction: Share of ``train`` to validate on where no such set is named.
        test_fraction: Share of ``train`` to test on where no such set is named.
        split_seed: Root of that split; ``seed_everything`` does not change it.
        staleness: How many iterations older the policy is that samples; 0 or 1. With 1 an engine elsewhere samples the
            next iteration's responses while this one is trained. A departure from the paper.
        seed: Root of the order of prompts and of the rollouts.

    Attributes:
        continued: Whether the run goes on where one was interrupted; so it does too if the trainer got a checkpoint.
        predicted: Ids of test prompts for which ``predict`` has its predictions already.
        too_long: How many prompts each split had, and how many of them were longer than the limit.
    """

    def __init__(
        self,
        train: Table | str,
        validation: Table | str | None = None,
        test: Table | str | None = None,
        columns: Columns = Columns(),  # noqa: B008 - a plain dataclass that nobody changes
        template: Template = Plain(),  # noqa: B008 - stateless
        rollouts: Sampling = Sampling(),  # noqa: B008 - a plain dataclass that nobody changes
        batch_size: int = 16,
        prompts_per_iteration: int | None = None,
        one_category_per_batch: bool = False,
        rollout_batch_size: int = 32,
        evaluation_batch_size: int = 64,
        max_prompt_tokens: int = 1024,
        overlong: Overlong = "drop",
        validation_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        staleness: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rollouts.n < 2:
            raise ConfigurationError(
                f"A pair needs two responses, got n = {rollouts.n}. Set data.rollouts.n to 2 or more."
            )
        for name, value in (
            ("batch_size", batch_size),
            ("prompts_per_iteration", prompts_per_iteration),
            ("rollout_batch_size", rollout_batch_size),
            ("evaluation_batch_size", evaluation_batch_size),
            ("max_prompt_tokens", max_prompt_tokens),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be >= 1, got {value}. Set data.{name} in the config.")
        fractions = test_fraction if test is None else 0.0, validation_fraction if validation is None else 0.0
        if not min(fractions) >= 0 or not sum(fractions) < 1:
            raise ConfigurationError(
                f"test_fraction and validation_fraction must be >= 0 and leave something to train on, got"
                f" {test_fraction} and {validation_fraction}. Set them under data."
            )
        if staleness not in (0, 1):
            raise ConfigurationError(f"staleness must be 0 or 1, got {staleness}. Set data.staleness in the config.")
        self.train = Table.of(train)
        self.validation = None if validation is None else Table.of(validation)
        self.test = None if test is None else Table.of(test)
        self.columns = columns
        self.template = template
        self.rollouts = rollouts
        self.batch_size = batch_size
        self.prompts_per_iteration = prompts_per_iteration
        self.one_category_per_batch = one_category_per_batch
        self.rollout_batch_size = rollout_batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.max_prompt_tokens = max_prompt_tokens
        self.overlong = overlong
        self.validation_fraction = validation_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.staleness = staleness
        self.seed = seed
        self.prompts: dict[str, list[Prompt]] = {}
        self.too_long: dict[str, dict[str, int]] = {}
        self.loader: RolloutLoader | None = None
        self.rollout_seconds = 0.0
        self._made: Rollouts | None = None  # of the iteration that began last
        self._digests: dict[str, str] = {}  # what distinguishes each split's prompts from others
        self._cursor: dict[str, int] | None = None  # where the checkpoint is that the run goes on from
        self.continued = False
        self.predicted: Collection[str] = ()

    # -- prompts -----------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""
        policy = None if self.trainer is None else self.trainer.lightning_module
        assert isinstance(policy, Policy)
        return policy

    @property
    def test_digest(self) -> str:
        """A short name of the test prompts and their answers."""
        return digest_of([[prompt.id, prompt.category, prompt.answer] for prompt in self.prompts["test"]])

    @property
    def categories(self) -> list[str]:
        """Every category of every split, sorted."""
        return sorted({prompt.category for prompts in self.prompts.values() for prompt in prompts})

    def graded(self, split: str) -> bool:
        """Whether any prompt of a split has an answer; one of which none has is answered in vain."""
        return any(prompt.answer is not None for prompt in self.prompts[split])

    def setup(self, stage: str) -> None:
        """Read, render, split and measure the prompts, once.

        Raises:
            ConfigurationError: If a table cannot be used, or no prompt is left.
        """
        if not self.prompts:
            with progress.task("reading prompts"):
                self._read_prompts()

    def _read_prompts(self) -> None:
        tokenizer = self.policy.tokenizer

        def load(table: Table, response: str | None = None) -> list[Prompt]:
            return prompts_from(table, replace(self.columns, response=response), self.template, tokenizer)

        limit, reason = self.prompt_limit()
        train = load(self.train, None if self.policy.objective.judged else self._written())
        if unused := chat_left_out(self.template, tokenizer, train[0].text):
            log.warning("%s", unused)
        cut = partial(split_by_hash, seed=self.split_seed, template=self.template)
        train, test = cut(train, self.test_fraction, salt="test") if self.test is None else (train, load(self.test))
        if self.validation is None:
            # The second cut sees only what the first one left.
            left = 1.0 if self.test is not None else 1 - self.test_fraction
            train, validation = cut(train, self.validation_fraction / left, salt="validation")
        else:
            validation = load(self.validation)
        for name, prompts in (("train", train), ("validation", validation), ("test", test)):
            kept = fitting(name, prompts, tokenizer, limit, reason, self.overlong, self.template.special_tokens)
            self.prompts[name], self.too_long[name] = kept.prompts, kept.counts
        self._digests = {split: digest_of_prompts(prompts) for split, prompts in self.prompts.items()}
        for sentence in leaks(self.prompts):
            log.warning("%s Take them out of one of the two: accuracy on them is no test.", sentence)
        warn_of_unreadable(self.prompts, self.policy.matcher)
        if self.staleness and not (engine := self.policy.engine).beside:
            log.warning("data.staleness is 1, and %s cannot sample beside training: the next iteration's responses are"
                        " sampled before this one is trained, which makes them older and saves no time.",
                        type(engine).__name__)  # fmt: skip
        if self.policy.objective.judged and (self.graded("validation") or self.graded("test")):
            warn_of_earlier_end(self.policy.evaluation.max_new_tokens, self.rollouts.max_new_tokens)

    def _written(self) -> str:
        """The column of written responses, to be learned to their end.

        Raises:
            ConfigurationError: If none is named, or nothing ends a response.
        """
        if self.columns.response is None:
            raise ConfigurationError(
                "A supervised policy learns from written responses. Set data.columns.response to their column, or to a"
                " template over several."
            )
        self._ends()
        return self.columns.response

    def prompt_limit(self) -> tuple[int, str]:
        """Tokens of the longest prompt, and what says so."""
        context = self.policy.context_limit
        longest = max(self.rollouts.max_new_tokens, self.policy.evaluation.max_new_tokens)
        if context is None or self.max_prompt_tokens + longest <= context:
            return self.max_prompt_tokens, f"data.max_prompt_tokens = {self.max_prompt_tokens}"
        if longest >= context:
            raise ConfigurationError(
                f"Responses of max_new_tokens = {longest} leave no room for a prompt in the {context} tokens that the"
                " policy can read. Lower it in data.rollouts and model.evaluation."
            )
        left = context - longest
        return left, f"the {left} tokens that the policy can read before max_new_tokens = {longest} more"

    def _ends(self) -> list[int]:
        """Ids that end a response, first the one that ends a written one."""
        weights, tokenizer = self.policy.weights, self.policy.tokenizer
        ends = ends_to_learn(weights.load_generation_config(), tokenizer, weights.name)
        return ends_of_turn(ends, self.template.closing(tokenizer), tokenizer)

    # -- iterations --------------------------------------------------------------------------------------------------

    def plan(self, iteration: int) -> list[list[Prompt]]:
        """The batches of an iteration."""
        chosen = prompts_of_iteration(self.prompts["train"], iteration, self.prompts_per_iteration, self.seed)
        return batches_of_iteration(chosen, self.batch_size, self.one_category_per_batch, iteration, self.seed)

    def check_trainer(self) -> None:
        """See that the trainer asks for new rollouts in every iteration.

        Raises:
            ConfigurationError: If it does not.
        """
        assert self.trainer is not None
        every: int = self.trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if every != 1:
            raise ConfigurationError(
                f"trainer.reload_dataloaders_every_n_epochs is {every}; set it to 1, since every iteration needs new"
                " rollouts."
            )

    def check_engine(self) -> None:
        """See that the engine takes the adapter, and can read prompts and responses of these lengths.

        Raises:
            ConfigurationError: If not.
        """
        policy = self.policy

        def longest() -> int:
            texts = [prompt.text for prompts in self.prompts.values() for prompt in prompts]
            prompt = max(token_lengths(texts, policy.tokenizer, self.template.special_tokens))
            response = max(self.rollouts.max_new_tokens, policy.evaluation.max_new_tokens)
            return min(prompt, self.prompt_limit()[0]) + response

        policy.engine.check(policy.lora.rank, longest)

    def train_dataloader(self) -> RolloutLoader:
        """Let the policy as it is now answer the iteration's prompts; a supervised one gets the written answers."""
        assert self.trainer is not None
        self.check_trainer()
        iteration = self.trainer.current_epoch
        if self._cursor and self.loader is None and self.trainer.fit_loop.done:
            # Lightning asks all the same when a run goes on that was trained to its end.
            return RolloutLoader.ended(self._cursor["batches"], iteration)
        started = time.perf_counter()
        batches = self._batches(iteration)
        if not self.policy.objective.judged:  # nothing is sampled
            tokenizer, longest = self.policy.tokenizer, self.rollouts.max_new_tokens
            ends = self._ends()
            written = [written_batch(self.encode(batch), tokenizer, longest, iteration, ends) for batch in batches]
            self.loader = RolloutLoader(written, iteration)
            return self.loader
        store, chunks = self._store(iteration), self._chunks(batches)
        made = Rollouts(self.trainer, self.policy, self.encode, self.rollouts, self.seed)
        self._made = made
        cursor = self._cursor or {"iteration": -1}
        moved_on = cursor["iteration"] == iteration
        if moved_on and cursor["served"] == cursor["batches"]:
            # Lightning asks for the length of an iteration that has ended; what is left of it still has to fit.
            for number, prompts in enumerate(chunks):
                if store.path(number).is_file():
                    made.read(store, number, prompts, iteration)
            self.loader = RolloutLoader.ended(cursor["batches"], iteration)
        else:
            goes_on = self.continued or bool(self.trainer.ckpt_path)
            made.make(store, chunks, iteration, goes_on, moved_on, ahead=self.staleness > 0 and iteration > 0)
            if self.staleness and not moved_on and is_another_to_come(self.trainer, iteration, len(batches)):
                later = iteration + 1
                made.sample_ahead(self._store(later), self._chunks(self._batches(later)), later)
            self.policy.engine.rest(made.processes)
            read = [made.read(store, number, prompts, iteration) for number, prompts in enumerate(chunks)]
            self.loader = RolloutLoader(made.batches(batches, read, iteration), iteration)
        self.rollout_seconds += time.perf_counter() - started
        return self.loader

    def _store(self, iteration: int) -> RolloutStore:
        assert self.trainer is not None
        root = self.trainer.strategy.broadcast(self.trainer.default_root_dir)
        return RolloutStore(RunFolder(Path(root)).rollouts(iteration), self.policy.origin, self.policy.weights.name)

    def _batches(self, iteration: int) -> list[list[Prompt]]:
        """The plan's, without those that nobody trains on."""
        assert self.trainer is not None
        limit, batches = self.trainer.limit_train_batches, self.plan(iteration)
        return batches[:limit] if isinstance(limit, int) else batches

    def _chunks(self, batches: list[list[Prompt]]) -> list[list[Prompt]]:
        return split_every([prompt for batch in batches for prompt in batch], self.rollout_batch_size)

    def on_exception(self, exception: BaseException) -> None:
        """Keep nothing that is sampled ahead from here on."""
        if self._made is not None:
            self._made.given_up = True

    def val_dataloader(self) -> PromptLoader:
        """The validation prompts."""
        return self._prompt_loader("validation", self.policy.evaluation)

    def test_dataloader(self) -> PromptLoader:
        """The test prompts."""
        return self._prompt_loader("test", self.policy.evaluation)

    def predict_dataloader(self) -> PromptLoader:
        """The test prompts; in the place of batches that have their predictions, empty ones."""
        return self._prompt_loader("test", self.rollouts, self.predicted)

    def _prompt_loader(self, split: str, sampling: Sampling, done: Collection[str] = ()) -> PromptLoader:
        assert self.trainer is not None
        processes, prompts = ProcessGroup.of(self.trainer), self.prompts[split]
        batches = [self.encode(batch) for batch in split_every(prompts, self.evaluation_batch_size)]
        batches = [batch.part([]) if all(one.id in done for one in batch.prompts) else batch for batch in batches]
        own = share_of(batches, processes)
        return PromptLoader(own, sampling, self.categories, self.graded(split))

    def encode(self, prompts: list[Prompt]) -> PromptBatch:
        """Prompts as the policy reads them."""
        limit, _ = self.prompt_limit()
        return encode(prompts, self.policy.tokenizer, limit, self.template.special_tokens, self.overlong)

    def state_dict(self) -> dict[str, Any]:
        """How long rollouts took so far, where in which iteration training is, and of which prompts."""
        if self.staleness and self.loader is not None:
            # What was sampled ahead by a policy that no checkpoint holds is on disk before one of a later policy is.
            self.policy.engine.wait()
            ProcessGroup.of(self.policy.trainer).gather(None)
        cursor = self._cursor if self.loader is None else self._place_in(self.loader)
        return {"rollout_seconds": self.rollout_seconds, "cursor": cursor, "prompts": self._digests}

    def _place_in(self, loader: RolloutLoader) -> dict[str, int]:
        """How many batches of an iteration are done: all, where the trainer ends it before, by a limit or max_steps."""
        assert self.trainer is not None
        limited = loader.served >= self.trainer.num_training_batches
        ended = limited or self.trainer.fit_loop.epoch_progress.current.processed > loader.iteration  # type: ignore[attr-defined]
        served = len(loader) if ended else loader.served
        return {**loader.state_dict(), "served": served, "batches": len(loader)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rollout_seconds = state_dict["rollout_seconds"]
        self._cursor = state_dict["cursor"]
        began_with = state_dict.get("prompts", self._digests)
        other = [split for split, digest in self._digests.items() if digest != began_with[split]]
        if other and self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            log.warning(
                "The data have changed since the run began: rows of %s are others, or in another order. Put the files"
                " back for the results of one run.",
                " and ".join(other),
            )
