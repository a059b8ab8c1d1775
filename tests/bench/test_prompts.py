"""More prompts: every pair is seen, memory stays, and what is measured is what is said."""

from __future__ import annotations

import pytest

from harness.bench import prompts
from harness.bench.prompts import PromptBench, Workload
from harness.circuits.edges.patchable import EdgeModel
from harness.errors import HarnessError, NotFound
from harness.runs.cost import in_fresh_process, measured

FEW, MANY = 500, 4000
SMALL = PromptBench((FEW, MANY), threads=1, repeats=1)


def kept_mib(prompts: int) -> float:
    """MiB of the counterfactuals of so many prompts: every writer's output, and the streams."""
    work = Workload(SMALL)
    config = work.model.config
    heads = config.n_layers * config.n_heads * config.d_head
    numbers = heads + (1 + config.n_layers + 2 * config.n_layers + 1) * config.d_model
    return prompts * work.data.longest * numbers * 4 / 2**20


BOUND_MIB = kept_mib(MANY - FEW) / 5
"""What more prompts may add to the peak: a fifth of what their counterfactuals alone would."""


def peak_of_keeping(count: int) -> float:
    """The peak of a method that holds on to every batch's counterfactual."""
    work = Workload(SMALL)
    problem = work.problem(work.pairs(count))
    with measured() as cost:
        kept = [problem.counterfactuals.of(batch) for batch in problem.batches]
    assert len(kept) == len(problem.batches)
    return cost.peak_mib


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_prompts() -> None:
    assert BOUND_MIB > 20  # far above what an allocator may add
    rows = prompts.bench_prompts(SMALL, ("eap", "edge_pruning epoch"))["rows"]
    peaks = {(row["method"], row["prompts"]): row["peak_mib"] for row in rows}
    for method in ("eap", "edge_pruning epoch"):
        assert peaks[method, MANY] - peaks[method, FEW] < BOUND_MIB, peaks


@pytest.mark.slow
def test_the_bound_on_memory_is_one_that_activations_would_break() -> None:
    few, many = (in_fresh_process(peak_of_keeping, count) for count in (FEW, MANY))
    assert many - few > 4 * BOUND_MIB


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "in_fresh_process", lambda function, *given: function(*given))


@pytest.mark.usefixtures("in_this_process")
def test_rows_come_for_every_method_and_number_of_prompts() -> None:
    told: list[str] = []
    bench = PromptBench((16, 40), threads=1, repeats=2)
    found = prompts.bench_prompts(bench, log=told.append)
    rows = found.pop("rows")
    assert found == {
        "task": "ioi_t1",
        "model": "2 layers of 4 heads, d_model 64",
        "edges": 110,
        "threads": 1,
        "distinct": 40,
    }
    names = ["pairs", "eap", "edge_pruning epoch"]
    assert [(row["method"], row["prompts"]) for row in rows] == [
        (name, count) for name in names for count in (16, 40)
    ]
    assert len(told) == len(rows)
    for row in rows:
        assert row["prompts_mib"] < row["prompts"] * 80 / 2**20
        assert row["ratio"] == 1 if row["prompts"] == 16 else row["ratio"] > 0
        if row["prompts"] == 40:  # run once: processor time is at most that of one thread
            assert row["cost_ms"] * 40 / 1000 <= row["seconds"] * 1.5 + 0.05


def test_an_epoch_of_pruning_sees_every_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = EdgeModel.masked_logits

    def spy(edges, batch, *rest, **options):
        seen.extend(batch.rows.tolist())
        return real(edges, batch, *rest, **options)

    monkeypatch.setattr(EdgeModel, "masked_logits", spy)
    work = Workload(PromptBench((300,), task="greater_than", threads=1))  # prompts of four lengths
    work.pruning_epoch(work.pairs(300))
    assert sorted(seen) == list(range(300))


def test_prompts_come_again_where_a_task_has_fewer() -> None:
    work = Workload(PromptBench((6000,), task="gendered_pronoun", threads=1))
    assert len(work.pairs(6000)) == 6000


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(NotFound, match="no row 'acdc' for prompts; rows are pairs, eap, edge_pr"):
        prompts.bench_prompts(SMALL, ("acdc",))
    for counts in ((), (0,), (20, 10), (10, 10)):
        with pytest.raises(HarnessError, match="must ascend from at least 1"):
            prompts.bench_prompts(PromptBench(counts))
    with pytest.raises(HarnessError, match="does not state its model's architecture"):
        prompts.bench_prompts(PromptBench((4,), task="known/reverse", threads=1))
