"""Models in bfloat16 and float16 beside the same rounded weights in float32 or float64."""

from __future__ import annotations

import pytest
import torch
from support.problems import problem_of, scores_of
from support.slow_reference import ARCHITECTURES, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.mixing import add_writer_gradients
from harness.circuits.patchable import (
    COARSEST,
    ROUNDINGS,
    check_tolerance,
    plain_logits,
    self_check,
)
from harness.datasets.batch import Batch
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete, PricedHardConcrete
from harness.errors import HarnessError
from harness.metrics import LOSSES, TASK_METRICS
from harness.metrics import logits as of_logits
from harness.metrics.registry import from_logits
from harness.models.norm import Norm
from harness.models.transformer import Transformer

pytestmark = pytest.mark.matrix
HALVES = (torch.bfloat16, torch.float16)
both_halves = pytest.mark.parametrize("dtype", HALVES, ids=["bfloat16", "float16"])
MEASURES = {**LOSSES, **{name: from_logits(name) for name in TASK_METRICS}}
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def in_both(name: str, dtype: torch.dtype) -> tuple[Transformer, Transformer]:
    """A model in half precision, and one in float64 with the very same weights."""
    model = small_model(name, dtype=dtype)
    return model, small_model(name, dtype=dtype).double()


def self_checked(model: Transformer, batch: Batch) -> float:
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    return self_check(EdgeModel(model, graph), batch, counterfactual)


# ---------------------------------------------------------------- the self-check
def test_the_tolerance_follows_from_the_resolution():
    assert check_tolerance(torch.float64) == ROUNDINGS * 2**-52
    assert check_tolerance(torch.float32) == ROUNDINGS * 2**-23 == pytest.approx(1.2e-4, rel=0.02)
    assert check_tolerance(torch.float16) == check_tolerance(torch.bfloat16) == COARSEST


@every_architecture
@both_halves
def test_both_passes_agree_to_a_few_roundings(name, dtype, random_batch):
    """Within 50 ε of the logits' spread: 0.05 in float16, 0.4 in bfloat16."""
    model = small_model(name, dtype=dtype)
    assert 0 < self_checked(model, random_batch(n=8)) < 50 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(torch.float64, 1 + 1e-10), (torch.float32, 1.01), (torch.bfloat16, 4), (torch.float16, 4)],
)
def test_another_model_is_refused_in_any_precision(dtype, factor, random_batch):
    model = small_model("gpt2-like", dtype=dtype)
    for block in model.layers():
        block.project = lambda z, own=block: factor * type(own).project(own, z)
    with pytest.raises(HarnessError, match="self-check failed"):
        self_checked(model, random_batch())


def test_numbers_beyond_float16_are_named(random_batch):
    model = small_model("rmsnorm", dtype=torch.float16)
    model.embedding.mul_(6e4)
    with pytest.raises(HarnessError, match="leave float16's range: use bfloat16"):
        self_checked(model, random_batch())


@both_halves
def test_a_long_stream_is_read_as_the_model_reads_it(dtype, random_batch):
    """Its squares and its products with the weights alone are beyond float16."""
    model = small_model("rmsnorm", dtype=dtype)
    model.embedding.mul_(200)
    for block in model.layers():
        block.qkv_map.weight.mul_(30)
        block.attention_norm.weight.div_(30)
    assert self_checked(model, random_batch()) < 50 * torch.finfo(dtype).eps


# ---------------------------------------------------------------- what is not rounded
@both_halves
@pytest.mark.parametrize("name", MEASURES)
def test_measures_are_those_of_the_logits_in_single_precision(name, dtype, random_batch):
    batch, draw = random_batch(n=7), torch.Generator().manual_seed(1)
    logits, whole = (5 * torch.randn(7, 1, 11, generator=draw).to(dtype) for _ in range(2))
    measure = MEASURES[name]
    found = measure(logits, whole, batch)
    assert found.dtype in (torch.float32, torch.float64)
    assert torch.equal(found, measure(logits.float(), whole.float(), batch))
    assert not torch.equal(found, found.to(dtype).to(found.dtype))  # half would have rounded it


@both_halves
def test_shares_of_positions_are_not_rounded(dtype, random_batch):
    """One of three positions right: ⅓ in single precision, which half has not got."""
    batch = random_batch(n=2)
    three = torch.tensor([[1, 3, 5]]).expand(2, 3)
    wide = Batch(
        batch.clean,
        batch.corrupted,
        three,
        torch.zeros(2, 3, 1, dtype=torch.int64),
        torch.ones(2, 3, 1, dtype=torch.int64),
        batch.rows,
    )
    logits = torch.zeros(2, 3, 4, dtype=dtype)
    logits[:, 0, 0] = logits[:, 1:, 2] = 1
    third = torch.full((2,), 1 / 3)
    assert torch.equal(of_logits.accuracy(logits, wide), third)
    whole = logits.roll(1, 1)  # the largest logits are 2, 0, 2 instead of 0, 2, 2
    assert torch.equal(of_logits.agreement(logits, whole, wide), third)


@both_halves
def test_masks_are_learned_in_single_precision(dtype, random_batch):
    """Parameters and draws are those of a float32 model, bit by bit."""
    distributions = []
    for precision in (torch.float32, dtype):
        problem = problem_of(small_model("gpt2-like", dtype=precision), random_batch())
        constrained = ConstrainedHardConcrete.new(EdgePruning(nodes=True), problem, [0.5, 0.9])
        distributions.append((constrained, PricedHardConcrete.new(problem, [0.3, 3.0], 0.1)))
    for single, half in zip(*distributions, strict=True):
        for group in half.groups():
            assert {p.dtype for p in group["params"]} == {torch.float32}
        one, two = (x.draw(torch.Generator().manual_seed(3)) for x in (single, half))
        assert torch.equal(one, two)


# ---------------------------------------------------------------- near the exact pass
@every_architecture
@both_halves
def test_gradients_of_masks_are_near_the_exact_ones(name, dtype, random_batch):
    """The gradient's error is below 8 ε of its length, in the dtype of the masks."""
    batch, gradients = random_batch(n=8), []
    for model in in_both(name, dtype):
        problem = problem_of(model, batch)
        draw = torch.Generator().manual_seed(0)
        mask = (
            torch.rand(1, *problem.edges.graph.allowed.shape, generator=draw)
            * problem.edges.graph.allowed
        )
        mask.requires_grad_()
        logits = masked_logits(
            problem.edges.patched, batch, mask, problem.counterfactuals.of(batch)
        )
        problem.loss("metric", batch)(logits).sum().backward()
        assert mask.grad.dtype == torch.float32
        gradients.append(mask.grad.double())
    half, exact = gradients
    assert 0 < (half - exact).norm() < 8 * torch.finfo(dtype).eps * exact.norm()


@both_halves
@pytest.mark.parametrize("readers", [1, 3])
def test_writers_collect_gradients_rounded_once(dtype, readers):
    draw = torch.Generator().manual_seed(5)
    shapes = (2, 4, 3, 5, 6), (2, 4, readers), (2, readers, 3, 5, 6)
    into, masks, at = (torch.randn(shape, generator=draw).to(dtype) for shape in shapes)
    wanted = into.double() + torch.einsum("swr,srbtd->swbtd", masks.double(), at.double())
    add_writer_gradients(into, masks, at)
    assert ((into - wanted).abs() <= torch.finfo(dtype).eps * wanted.abs()).all()


@every_architecture
@both_halves
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("eap", {}),
        ("eap_ig", {"steps": 3}),
        ("eap_ig", {"steps": 2, "variant": "activations"}),
        ("mask_gradient_ig", {"steps": 3}),
        ("information_flow_routes", {}),
    ],
    ids=["eap", "inputs", "activations", "masks", "flow"],
)
def test_scores_rank_edges_as_the_exact_ones_do(name, dtype, kind, params, random_batch):
    """Spearman's rank correlation over all edges."""
    batch = random_batch(n=8)
    half, exact = (
        scores_of(kind, problem_of(model, batch), **params) for model in in_both(name, dtype)
    )
    allowed = Graph.of(small_model(name).config).allowed
    ranks = torch.stack([x[allowed].argsort().argsort().double() for x in (half, exact)])
    assert not torch.equal(half, exact)
    assert torch.corrcoef(ranks)[0, 1] > 0.98


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
def test_the_pass_stays_in_the_models_precision(kind, random_batch):
    """No product falls back to float32: only sizes of streams and sums do."""
    name = {"rmsnorm": "gemma-like", "layernorm": "post-layernorm-parallel"}[kind]
    model, batch = small_model(name, dtype=torch.bfloat16), random_batch()
    seen = set()

    def look(_, args, out):
        seen.update({args[0].dtype, out.dtype})

    for module in model.modules():
        if not isinstance(module, Norm):
            module.register_forward_hook(look)
    problem = problem_of(model, batch)
    logits = problem.edges.patched.logits(
        batch, problem.edges.graph.allowed[None], problem.counterfactuals.of(batch)
    )
    assert seen == {torch.bfloat16} == {logits.dtype, plain_logits(model, batch).dtype}
