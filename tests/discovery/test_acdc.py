"""ACDC finds what a plain one-by-one search finds, for any batch of speculated deletions.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.acdc_cases import SEVERAL, agrees, full_objective, one_by_one
from support.problems import problem_of
from support.slow_reference import ARCHITECTURES, POST_NORMS, SlowModel, small_model

from harness.discovery.acdc.acdc import Acdc
from harness.discovery.acdc.order import readers_in_order
from harness.discovery.acdc.search import Search
from harness.errors import HarnessError
from harness.metrics import LOSSES

pytestmark = pytest.mark.matrix


# ---------------------------------------------------------------- the same circuit
@pytest.mark.parametrize("threshold", [3e-3, 0.03])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in POST_NORMS])
def test_circuit_and_growths_are_those_of_the_slow_search(name, threshold, random_batch):
    """[9] Whether 1, 8 or 32 deletions are run at once."""
    seed = int(1000 * threshold)
    problem = problem_of(small_model(name, seed=seed), random_batch(n=2, length=4, seed=seed))
    agrees(problem, threshold, SEVERAL)


@pytest.mark.parametrize("name", POST_NORMS)
def test_heads_that_are_normalised_together_are_refused(name, random_batch):
    with pytest.raises(HarnessError, match="cannot be subtracted one by one"):
        Acdc().discover(problem_of(small_model(name), random_batch()))


@pytest.mark.parametrize(
    ("name", "ablation", "inputs", "head_bias"),
    [
        ("gpt2-like", "interchange", "none", "unattached"),
        ("grouped", "interchange", "split", "unattached"),
        ("gpt2-like", "interchange", "summed", "shared"),
        ("rmsnorm", "resample", "token", "unattached"),
        ("parallel", "mean", "split", "unattached"),
        ("gpt2-like", "mean_positional", "summed", "unattached"),
        ("gpt2-like", "zero", "token", "shared"),
        ("grouped", "zero", "none", "shared"),
        ("gpt2-like", "zero", "split", "unattached"),
    ],
)
def test_every_ablation_and_kind_of_input(name, ablation, inputs, head_bias, random_batch):
    problem = problem_of(
        small_model(name),
        random_batch(length=4),
        ablation=ablation,
        inputs=inputs,
        head_bias=head_bias,
    )
    kept = agrees(problem, 0.02, [8])
    assert 0 < int(kept.sum()) < problem.edges.graph.n_edges


@pytest.mark.parametrize("objective", ["metric", "cross_entropy", "squared_error"])
def test_other_objectives(objective, random_batch):
    agrees(problem_of(small_model("gpt2-like"), random_batch()), 0.01, [8], objective)


@pytest.mark.parametrize("name", ["gpt2-like", "no-norm-bidirectional"])
def test_several_positions_some_unused_and_prompts_of_several_lengths(name, random_batch):
    short, long = random_batch(n=1, length=3, seed=3), random_batch(n=2, length=6)
    positions = torch.tensor([[5, 0, -1], [2, 5, 3]])
    answers = {"good": long.good.expand(2, 3, 1), "bad": long.bad.expand(2, 3, 1)}
    long = replace(long, positions=positions, **answers)
    agrees(problem_of(small_model(name), short, long), 0.01, [1, 8])


def test_every_position_read(random_batch):
    batch = random_batch(n=2, length=4)
    everywhere = torch.arange(4).expand(2, 4)
    answers = {"good": batch.good.expand(2, 4, 1), "bad": batch.bad.expand(2, 4, 1)}
    agrees(
        problem_of(small_model("gpt2-like"), replace(batch, positions=everywhere, **answers)),
        0.01,
        [8],
    )


def test_against_a_model_with_one_stream_per_reader(random_batch):
    """Nothing of the harness's patched pass in the reference."""
    model, batch = small_model("gpt2-like"), random_batch(n=2, length=4)
    problem, slow = problem_of(model, batch), SlowModel(model)
    whole = slow.logits(batch.clean, batch.corrupted, problem.edges.graph.allowed.double())[:, -1:]

    def objective(kept):
        logits = slow.logits(batch.clean, batch.corrupted, kept.double())[:, -1:]
        return float(LOSSES["kl"](logits, whole, batch).mean())

    kept, growth, _ = one_by_one(problem.edges.graph, 0.01, objective)
    found = Acdc().search(problem, 0.01)
    assert torch.equal(found.kept, kept)
    for (row, column), value in growth.items():
        assert float(found.growth[row, column]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", ["gpt2-like", "grouped"])
def test_what_is_kept_between_readers_is_the_full_recompute(name, random_batch):
    """[9] Only what comes after a reader is run again; to 1e-12 it is a run of the whole model."""
    problem = problem_of(small_model(name), random_batch())
    search, full = Search(problem, "kl", 0.01, 8), full_objective(problem)
    for column in readers_in_order(problem.edges.graph):
        search.visit(column)
        assert search.current == pytest.approx(full(search.kept), abs=1e-12)
