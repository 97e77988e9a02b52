"""Who has which rows, and how they are put together; real processes are in ``test_processes``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning_utilities.core.rank_zero import rank_zero_only

from laser_pl.run.state import digest
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.runtime.processes import process_number, settle_processes


@given(st.integers(0, 20), st.integers(1, 6))
def test_every_row_is_in_one_process_and_their_numbers_differ_by_one_at_most(count: int, size: int) -> None:
    parts = [ProcessGroup(rank, size).rows(count) for rank in range(size)]
    assert sorted(row for part in parts for row in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert ProcessGroup(0, size).rows(count, rank=size - 1) == parts[-1]


def test_one_process_has_all() -> None:
    processes = ProcessGroup()
    own = torch.arange(6).view(3, 2)
    assert processes.rows(3) == [0, 1, 2]
    assert processes.gather("it") == ["it"]
    assert processes.together(own, 3) is own
    processes.check_equal({"any": own}, "It")


def test_parts_are_put_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = torch.arange(10.0).view(5, 2)

    def all_gather_object(values: list[object], own: object) -> None:
        values[:] = [everything[0::2], own]

    monkeypatch.setattr("torch.distributed.all_gather_object", all_gather_object)
    assert torch.equal(ProcessGroup(1, 2).together(everything[1::2], 5), everything)


def test_unequal_states_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather_object(values: list[object], own: object) -> None:
        values[:] = [own, own, digest([0.0])]

    monkeypatch.setattr("torch.distributed.all_gather_object", all_gather_object)
    with pytest.raises(RuntimeError, match="The selection of process 2 is not that of process 0"):
        ProcessGroup(0, 3).check_equal([1.0], "The selection")


LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)


def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)


STATES = st.recursive(LEAVES, nested, max_leaves=6)


@given(STATES, STATES)
def test_digests_are_equal_when_states_are(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([1.0, 2.0 + 2**-22]),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([1.0, 2.0], dtype=torch.float64),
        torch.tensor([1.0]),
    ],
    ids=["last bit", "shape", "type", "length"],
)
def test_digests_see_every_bit_of_a_tensor(other: torch.Tensor) -> None:
    state = {"a": torch.tensor([1.0, 2.0])}
    assert digest(state) == digest({"a": torch.tensor([0.0, 1.0, 2.0])[1:]})
    assert digest(state) != digest({"a": other})


@pytest.fixture
def _rank_of_the_tests() -> Iterator[None]:
    before = rank_zero_only.rank
    yield
    rank_zero_only.rank = before


OF_A_JOB = [
    {"RANK": "1"},
    {"LOCAL_RANK": "3"},
    {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1"},
    {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "packed", "SLURM_JOB_ID": "11", "SLURM_LOCALID": "2"},
    {"JSM_NAMESPACE_RANK": "1"},
]


@pytest.mark.usefixtures("_rank_of_the_tests")
@pytest.mark.parametrize("variables", OF_A_JOB, ids=lambda variables: " ".join(variables))
@pytest.mark.parametrize("strategy", ["auto", "ddp", "instance"])
def test_a_single_process_is_the_first_whatever_its_environment_says(
    variables: dict[str, str], strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if strategy == "ddp" and ("LOCAL_RANK" in variables or "SLURM_NTASKS" in variables):
        return  # it asks for processes that others start, and these say that they have
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rank_zero_only.rank = 1  # as lightning_utilities reads it when it is imported
    chosen = SingleDeviceStrategy(torch.device("cpu")) if strategy == "instance" else strategy
    settings = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": chosen}
    plugins = settle_processes(settings)
    assert process_number() == 0
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(**settings, **quiet, plugins=plugins)
    assert (trainer.global_rank, trainer.world_size) == (0, 1)


@pytest.mark.usefixtures("_rank_of_the_tests")
def test_one_of_several_processes_is_who_its_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    rank_zero_only.rank = 0
    assert settle_processes({"accelerator": "cpu", "devices": 2, "strategy": "ddp"}) == []
    assert process_number() == 1


@pytest.mark.usefixtures("_rank_of_the_tests")
def test_tasks_that_srun_started_are_compared_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OF_A_JOB[3].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(RuntimeError, match="ntasks-per-node=4"):
        settle_processes({"accelerator": "cpu", "devices": 1})
