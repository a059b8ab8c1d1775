from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.processes import ROOT, launch
from support.threads_as_processes import in_processes

from harness import ranks
from harness.errors import HarnessError
from harness.launcher import ENVIRONMENT, launched


class Numbers:
    """The least that a batch is to `own`."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: torch.Tensor) -> Numbers:
        return Numbers(self.values[rows])


def in_each(world: int, function):
    """What each of so many processes gets that exchange nothing."""
    values = []
    try:
        for rank in range(world):
            ranks._group.rank, ranks._group.world = rank, world
            values.append(function())
    finally:
        ranks._group.rank, ranks._group.world = 0, 1
    return values


@given(st.integers(0, 60), st.integers(1, 9))
def test_shares_are_all_rows_in_order_and_as_even_as_can_be(count, world):
    shares = in_each(world, lambda: ranks.share(count))
    assert [row for one in shares for row in one] == list(range(count))
    sizes = [len(one) for one in shares]
    assert max(sizes) - min(sizes) <= 1
    assert in_each(world, lambda: ranks.largest_share(count)) == [max(sizes)] * world


@given(st.integers(1, 60), st.integers(1, 9))
def test_the_own_rows_of_a_batch_are_its_share(count, world):
    batch = Numbers(torch.arange(count))
    taken = in_each(world, lambda: (ranks.own(batch), ranks.has_rows(count)))
    counting = [one.values for one, counts in taken if counts]
    assert torch.cat(counting).tolist() == list(range(count))
    assert all(len(one) for one, _ in taken)
    assert world > 1 or taken[0][0] is batch


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 12))
def test_parts_are_equally_many_in_all_processes(count, world, at_once):
    parts = in_each(world, lambda: (ranks.parts(count, at_once), len(ranks.share(count))))
    assert len({len(one) for one, _ in parts}) == 1
    for one, own in parts:
        rows = [row for part in one if part.counts for row in part.rows.tolist()]
        assert rows == list(range(own))
        assert all(1 <= len(part.rows) <= at_once for part in one)


@given(st.integers(1, 60), st.integers(1, 12))
def test_one_process_splits_rows_as_torch_does(count, at_once):
    both = zip(ranks.parts(count, at_once), torch.arange(count).split(at_once), strict=True)
    assert all(part.counts and torch.equal(part.rows, rows) for part, rows in both)


def test_one_process_talks_to_nobody(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    values = torch.ones(2)
    with ranks.joined(), ranks.turns("keeping"):
        assert (launched(), ranks.world(), ranks.is_first()) == (1, 1, True)
        assert ranks.summed(values) is values
        assert ranks.gathered(3) == [3]
        assert ranks.agreed("nothing", lambda: 4) == 4
        ranks.require_equal("masks", [values])


def test_tensors_of_any_type_are_compared_bit_by_bit():
    same = [torch.ones(2, 3, dtype=dtype) for dtype in (torch.bfloat16, torch.float64)]
    in_processes(2, lambda: ranks.require_equal("masks", [*same, torch.tensor(3)]))

    def zeros_of_either_sign() -> None:
        ranks.require_equal("masks", [torch.tensor(0.0 if ranks.is_first() else -0.0)])

    with pytest.raises(HarnessError, match="those of process 1 differ from those of process 0"):
        in_processes(2, zeros_of_either_sign)


def test_a_launcher_is_one_that_says_all(monkeypatch):
    for name, value in zip(ENVIRONMENT, ("1", "3", "localhost", "1234"), strict=True):
        monkeypatch.setenv(name, value)
    assert launched() == 3
    monkeypatch.setenv("WORLD_SIZE", "three")
    with pytest.raises(HarnessError, match="WORLD_SIZE is 'three'"):
        launched()
    monkeypatch.delenv("MASTER_PORT")  # WORLD_SIZE alone is some other program's
    assert launched() == 1


def test_processes_that_were_restarted_are_refused_before_they_wait(monkeypatch):
    for name, value in zip(ENVIRONMENT, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(HarnessError, match="leave out --max-restarts"), ranks.joined():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("world", [3])
def test_processes_exchange_sums_decisions_and_errors(world, tmp_path):
    process = launch([str(ROOT / "tests/support/exchanges.py"), str(tmp_path)], world)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]
    last, others = world - 1, seen[:-1]
    for rank, one in enumerate(seen):
        assert one["rank"] == rank
        assert one["world"] == world
        assert one["sum"] == [world, sum(range(world))]
        assert one["own"] == sum(range(5))
        assert one["broadcast"] == {"from": 0}
        assert one["gathered"] == [f"process {place}" for place in range(world)]
        assert one["in turn"] == ("made" if rank == 0 else "by process 0")
        assert "do different things" in one["diverging"]
        assert "masks are not the same in all processes" in one["unlike"]
        assert "where the other processes wait" in one["talking in turn"] or rank > 0
        assert one["after errors"] == f"no error: {[float(world)] * 2}"
    for one in others:
        assert one["error in the last"] == (
            f"HarnessError: process {last} of {world}: ZeroDivisionError: by zero"
        )
        assert f"process {last} of {world}: ZeroDivisionError" in one["error at the end"]
    assert seen[-1]["error in the last"] == "ZeroDivisionError: by zero"
    assert seen[0]["error in the first"] == "HarnessError: no such file"
    assert seen[1]["error in the first"] == f"HarnessError: process 0 of {world}: no such file"
