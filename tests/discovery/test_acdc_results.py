"""ACDC on models with known answers, what it reports, how it ranks and reaches sizes.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from support.acdc_cases import SEVERAL, full_objective, rows_of
from support.problems import problem_of
from support.slow_reference import small_model

from harness.circuits.ground_truth import verify
from harness.circuits.patchable import plain_logits
from harness.circuits.select import sizes_to_counts
from harness.datasets.batch import Batch, Batches
from harness.datasets.open import open_data
from harness.datasets.program.task import checked_program
from harness.discovery.acdc.acdc import RUNS, Acdc, next_threshold
from harness.discovery.acdc.cost import sampled_cost
from harness.discovery.acdc.order import writers_in_order
from harness.discovery.acdc.results import ranked
from harness.discovery.acdc.search import Speculation
from harness.discovery.registry import make_method
from harness.errors import HarnessError
from harness.metrics import LOSSES
from harness.models.compile.assemble import compile_program
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from harness.spec.load import Library

pytestmark = pytest.mark.matrix


# ---------------------------------------------------------------- known answers
@pytest.mark.parametrize("speculate", SEVERAL)
@pytest.mark.parametrize("name", ["gpt2-like", "grouped"])
def test_plus_and_minus_infinity(name, speculate, random_batch):
    """[9] Every edge goes, which leaves the corrupted run; or every edge stays."""
    batch = random_batch()
    problem = problem_of(small_model(name), batch)
    found = Acdc(thresholds=(math.inf, -math.inf), speculate=speculate).discover(problem)
    everything, nothing = found.circuits
    assert torch.equal(everything, torch.ones(len(problem.space), dtype=torch.bool))
    assert not nothing.any()
    corrupted = plain_logits(problem.model, batch, corrupted=True)
    distance = LOSSES["kl"](corrupted, plain_logits(problem.model, batch), batch).mean()
    assert found.notes["inf/objective"] == pytest.approx(float(distance), rel=0, abs=1e-12)
    assert distance > 0.01
    empty = torch.zeros_like(problem.edges.graph.allowed)
    assert found.notes["inf/objective"] == pytest.approx(full_objective(problem)(empty), abs=1e-14)
    assert found.notes["-inf/objective"] == pytest.approx(0, abs=1e-14)
    assert (
        found.notes["inf/untested"] == problem.edges.graph.n_edges - problem.edges.graph.n_writers
    )


def path_model() -> Transformer:
    """Token → m0 → value of a1.h1 → logits, and all other weights zero."""
    config = TransformerConfig(
        n_layers=2,
        n_heads=2,
        d_model=6,
        d_head=2,
        d_mlp=4,
        d_vocab=2,
        n_ctx=4,
        norm="none",
        activation="relu",
        bias=False,
    )
    model = Transformer(config).double().requires_grad_(False)
    for weight in model.parameters():
        weight.zero_()
    model.embedding[1, 0] = 1  # token 1 is feature 0
    first, second = model.layers()
    first.mlp_in.weight[0, 0] = first.mlp_out.weight[1, 0] = 1  # m0: feature 0 to 1
    value_of_head_1 = (2 * 2 + 1) * 2
    second.qkv_map.weight[value_of_head_1, 1] = 1
    second.out_map.weight[2, 2] = 4  # a1.h1: mean over positions of feature 1 to feature 2
    model.unembedding[1, 2] = 1
    return model


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
@pytest.mark.parametrize("speculate", SEVERAL)
def test_a_toy_model_with_one_path(ablation, speculate):
    """[9] Its three edges are the only ones that matter."""
    clean = torch.ones(2, 3, dtype=torch.long)
    answer = torch.ones(2, 1, 1, dtype=torch.long)
    batch = Batch(
        clean, 1 - clean, torch.full((2, 1), 2), answer, 1 - answer, torch.arange(2), None
    )
    problem = problem_of(path_model(), batch, ablation=ablation)
    found = Acdc(thresholds=(0.01,), speculate=speculate).discover(problem)
    names = {problem.space.name(edge) for edge in found.circuits[0].nonzero().flatten().tolist()}
    assert names == {"input->m0", "m0->a1.h1<v>", "a1.h1->logits"}
    assert set(problem.space.owners[found.scores > 0].tolist()) == {
        problem.space.nodes.index(name) for name in ("input", "m0", "a1.h1")
    }


# ---------------------------------------------------------------- determinism
def test_two_runs_are_equal_to_the_last_bit(random_batch):
    problem = problem_of(small_model("gpt2-like", dtype=torch.float32), random_batch())
    first, again = (Acdc(thresholds=(1e-3, 0.01)).discover(problem) for _ in range(2))
    assert torch.equal(first.scores, again.scores)
    assert all(map(torch.equal, first.circuits, again.circuits))
    assert first.notes == again.notes


@pytest.mark.parametrize("name", ["gpt2-like", "grouped"])
def test_batches_of_prompts_do_not_change_the_circuit(name, random_batch):
    model, batch = small_model(name), random_batch(n=6)
    parts = [rows_of(batch, slice(0, 1)), rows_of(batch, slice(1, 4)), rows_of(batch, slice(4, 6))]
    whole, split = (
        Acdc(thresholds=(0.01,)).discover(problem_of(model, *batches))
        for batches in ([batch], parts)
    )
    assert all(map(torch.equal, whole.circuits, split.circuits))
    torch.testing.assert_close(whole.scores, split.scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 2000])
def test_chunks_of_candidates_do_not_change_the_circuit(limit, random_batch, monkeypatch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    whole = Acdc().search(problem, 0.01)
    for module in ("state", "search"):
        monkeypatch.setattr(f"harness.discovery.acdc.{module}.BUFFER", limit)
    assert torch.equal(whole.kept, Acdc().search(problem, 0.01).kept)


@pytest.mark.parametrize("seed", range(2))
def test_single_precision_with_any_speculation(seed, random_batch):
    """[9] In double precision: `test_acdc`."""
    problem = problem_of(
        small_model("gpt2-like", seed=seed, dtype=torch.float32), random_batch(seed=seed)
    )
    circuits = [Acdc(speculate=most).search(problem, 0.005).kept for most in SEVERAL]
    assert torch.equal(circuits[0], circuits[1])
    assert torch.equal(circuits[0], circuits[2])


def test_an_edge_at_the_threshold_stays_and_is_counted(random_batch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    column = problem.edges.graph.logits_column
    first = writers_in_order(problem.edges.graph, column)[0]
    exact = float(Acdc(speculate=1).search(problem, -math.inf).growth[first, column])
    for most in SEVERAL:
        found = Acdc(speculate=most).search(problem, exact)
        assert found.kept[first, column]
        assert found.tally.near_ties >= 1
    above = Acdc().search(problem, exact + 1e-9)
    assert not above.kept[first, column]


# ---------------------------------------------------------------- speculation, cost
def test_few_edges_that_stay_make_large_batches():
    sizes = [Speculation(64, share).size() for share in (0.9, 0.3, 0.03, 0.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] <= 3
    assert sizes[-1] == 64
    assert Speculation(4, 0.0).size() == 4
    speculation = Speculation(16)
    for _ in range(200):
        speculation.decided(False)
    assert speculation.size() == 16


def test_only_what_can_change_is_run(random_batch):
    """One candidate per tested edge and reader at most, and a small part of a forward for each."""
    problem = problem_of(small_model("gpt2-like"), random_batch())
    tally = Acdc(speculate=1).search(problem, 0.02).tally
    assert tally.candidates <= tally.tested + problem.edges.graph.n_readers + 1
    assert 0 < tally.forwards < 0.3 * tally.tested


def test_sampled_cost_with_every_reader_is_the_search(random_batch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    everything = sampled_cost(problem, Acdc(), 0.01, every=1)
    assert everything.tested == everything.edges == Acdc().search(problem, 0.01).tally.tested
    some = sampled_cost(problem, Acdc(), 0.01, every=3)
    assert 0 < some.tested < everything.tested
    assert some.seconds_per_edge > 0


# ---------------------------------------------------------------- ranking, sizes
def test_scores_rank_by_the_largest_threshold_survived(random_batch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    thresholds = (0.1, 1e-3, 0.01)  # in any order
    found = Acdc(thresholds=thresholds).discover(problem)
    assert len(found.circuits) == 3
    for level, kept in enumerate(found.circuits, start=1):
        survivors = kept & ~torch.stack([*found.circuits[level:], torch.zeros_like(kept)]).any(0)
        assert ((found.scores[survivors] > level - 1) & (found.scores[survivors] < level)).all()
    dropped = ~torch.stack(found.circuits).any(0)
    assert (found.scores[dropped] == 0).all()
    assert found.scores.max() > 1


def test_within_a_level_larger_growth_ranks_higher(random_batch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    result = Acdc().search(problem, 0.005)
    scores = ranked({0.005: result})
    order = scores[result.kept].argsort()
    growths = result.growth[result.kept][order].tolist()
    assert all(a <= b for a, b in pairwise(growths))


def test_sizes_are_reached_from_below(random_batch, monkeypatch):
    problem = problem_of(small_model("gpt2-like"), random_batch())
    shares = (0.4, 0.2)
    searched = []
    search = Acdc.search
    monkeypatch.setattr(
        Acdc, "search", lambda self, *args: searched.append(args[1]) or search(self, *args)
    )
    found = Acdc(sizes=shares).discover(problem)
    wanted = sorted(int(share * len(problem.space)) for share in shares)
    sizes = [int(problem.space.prune(kept, "interchange").sum()) for kept in found.circuits]
    assert all(0.6 * n <= size <= n for size, n in zip(sizes, wanted, strict=True))
    assert len(searched) == len(set(searched)) <= RUNS * len(shares)


@pytest.mark.slow
def test_the_shipped_sizes_are_reached_from_below(random_batch):
    """`acdc_sizes`: circuits to compare at equal sizes, none larger and none much smaller."""
    spec = Library().method("acdc_sizes").spec
    shares = spec.params["sizes"]
    model = small_model("gpt2-like", n_layers=3, n_heads=8, d_head=3)
    problem = problem_of(model, random_batch(16))
    found = make_method(spec.kind, spec.params).discover(problem)
    wanted = sizes_to_counts(shares, len(problem.space))
    assert min(wanted) >= 4
    sizes = [int(problem.space.prune(kept, "interchange").sum()) for kept in found.circuits]
    assert all(0.7 * n <= size <= n for size, n in zip(sizes, wanted, strict=True))


def test_bisection():
    assert next_threshold({}, 10) == pytest.approx(0.01)
    assert next_threshold({0.01: 50}, 10) == pytest.approx(0.1)
    assert next_threshold({0.01: 3}, 10) == pytest.approx(0.001)
    assert next_threshold({0.01: 50, 0.1: 3}, 10) == pytest.approx(math.sqrt(0.001))
    assert next_threshold({0.01: 10}, 10) is None
    assert next_threshold({0.01: 50, 0.010001: 3}, 10) is None


# ---------------------------------------------------------------- refusals
def test_refusals(random_batch):
    model = small_model("gpt2-like")
    problem = problem_of(model, random_batch())
    with pytest.raises(HarnessError, match="a threshold is not a number"):
        Acdc(thresholds=(0.1, math.nan)).discover(problem)
    model.unembedding[0] = math.inf
    with pytest.raises(HarnessError, match="acdc: the objective is not a finite number"):
        Acdc().discover(problem)


# ---------------------------------------------------------------- compiled programs
@pytest.mark.parametrize("name", ["reverse", "xproportion", "histogram", "dyck_1"])
@pytest.mark.parametrize("ablation", ["zero", "interchange"])
def test_the_true_circuits_of_compiled_programs(name, ablation):
    """[14] Of more programs, by squared error."""
    task = Library().task(name)
    model = compile_program(checked_program(task.spec.data)).model
    given = list(Batches(open_data(task).pairs("train", 48, 0), 64))
    problem = problem_of(model, *given, ablation=ablation, inputs="split")
    truth = verify(problem.patchable, given, problem.counterfactuals)
    found = Acdc(thresholds=(1e-3,), objective="squared_error").discover(problem)
    assert torch.equal(found.circuits[0], truth.kept)
